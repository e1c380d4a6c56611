//! A file appears whole or not at all: write under a temporary name, sync, rename, sync the directory.
//!
//! The only module that does so. Knows nothing of what the bytes mean.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// Mode of every directory made here.
pub const DIR_MODE: u32 = 0o700;
/// Mode of every file made here.
pub const FILE_MODE: u32 = 0o600;
/// What a file is called until it is whole.
pub const TEMPORARY: &str = "tmp";

/// Writes `bytes` as the whole content of `path`, replacing what was there.
///
/// When it returns, the new content survives a power loss; at any crash before, the old content does.
///
/// # Errors
/// The system's error; the old content is then still in place.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_of(path);
    let mut file = create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    rename(&temporary, path)
}

/// Gives a synced file its final name; durable when it returns.
///
/// # Errors
/// The system's error. The file has one of the two names.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(parent_of(to))
}

/// Deletes a file if it is there; durable when it returns.
///
/// # Errors
/// The system's error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent_of(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes a directory and those above it, mode 0700; durable when it returns. One that exists is left as it is.
///
/// # Errors
/// The system's error.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent_of(path);
    if !above.exists() {
        create_dir(above)?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    sync_dir(above)
}

/// Opens a new, empty file for reading and writing, mode 0600, replacing one of that name. Not yet durable.
///
/// # Errors
/// The system's error.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// Opens a new, empty file without a name in this directory: gone with its last handle, unless [`name`] is called.
/// `None` where the file system has no such files.
pub fn create_unnamed(dir: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::from_raw_mode(FILE_MODE)).ok().map(File::from)
}

/// Gives a file that has none its name, durably. The name must be free, and on the file's own file system.
///
/// # Errors
/// The system's error.
pub fn name(file: &File, path: &Path) -> io::Result<()> {
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, &handle, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    sync_dir(parent_of(path))
}

/// Makes the names inside a directory durable.
///
/// # Errors
/// The system's error.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory that a path's last name stands in.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(TEMPORARY);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_content_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn a_file_without_a_name_gets_one_or_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let Some(file) = create_unnamed(dir.path()) else { return };
        std::io::Write::write_all(&mut &file, b"content").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let path = dir.path().join("a");
        name(&file, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        let other = create_unnamed(dir.path()).unwrap();
        assert_eq!(name(&other, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(other);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn makes_every_missing_directory_private() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        create_dir(&deep).unwrap();
        create_dir(&deep).unwrap();
        for made in [dir.path().join("a"), deep] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, DIR_MODE);
        }
    }
}
