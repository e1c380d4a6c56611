//! Files beneath a root, opened part by part without following a link.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::body::Stat;
use super::super::error::{Fault, Kind};
use super::super::key::{Key, OWN_PREFIX};
use super::stat_of;

/// What a name that is no object can be.
const NOT_AN_OBJECT: &str = "it is a symbolic link, a folder or a device, not a file; such things are left alone";
/// Only the owner reads a backup.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

/// The folder that holds an object, opened, and the object's name in it.
pub(super) struct Spot {
    folder: OwnedFd,
    name: String,
}

/// A file that is being written, without its name yet. Dropped, it is removed.
pub(super) struct Temporary {
    spot: Spot,
    pub(super) file: File,
    name: String,
    /// Whether the file still has its temporary name.
    is_there: bool,
}

impl Spot {
    /// The place of an object that should be there.
    pub(super) fn find(root: &Path, key: &Key) -> Result<Self, Fault> {
        let (folders, name) = split(key);
        let mut folder = open_root(root)?;
        for part in folders {
            folder = open_folder(&folder, part)?;
        }
        Ok(Self { folder, name: name.to_owned() })
    }

    /// The place of an object that will be written; folders are made, durably.
    pub(super) fn make(root: &Path, key: &Key) -> Result<Self, Fault> {
        let (folders, name) = split(key);
        let mut folder = match open_root(root) {
            Ok(root) => root,
            Err(fault) if fault.kind == Kind::NotFound => make_root(root)?,
            Err(fault) => return Err(fault),
        };
        for part in folders {
            folder = match open_folder(&folder, part) {
                Ok(below) => below,
                Err(fault) if fault.kind == Kind::NotFound => {
                    match fs::mkdirat(&folder, part, FOLDER_MODE) {
                        // Another thread was faster.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(write_fault(errno)),
                    }
                    sync(&folder)?;
                    open_folder(&folder, part).map_err(|fault| match fault.kind {
                        Kind::NotFound => Fault::passing("its folder was removed meanwhile"),
                        _ => fault,
                    })?
                }
                Err(fault) => return Err(fault),
            };
        }
        Ok(Self { folder, name: name.to_owned() })
    }

    /// Opens the object for reading.
    pub(super) fn open(&self) -> Result<(File, Stat), Fault> {
        // NONBLOCK: a pipe of this name must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.folder, self.name.as_str(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(Fault::lasting(Kind::Config, NOT_AN_OBJECT)),
            Err(errno) => return Err(errno_fault(errno)),
        };
        let stat = stat_of(&fs::fstat(&file).map_err(errno_fault)?);
        let stat = stat.ok_or_else(|| Fault::lasting(Kind::Config, NOT_AN_OBJECT))?;
        Ok((File::from(file), stat))
    }

    /// Asks for the object.
    pub(super) fn stat(&self) -> Result<Stat, Fault> {
        let stat = fs::statat(&self.folder, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(errno_fault)?;
        match FileType::from_raw_mode(stat.st_mode) {
            // A folder is no object, as in every other store.
            FileType::Directory => Err(Fault::lasting(Kind::NotFound, "there is only a folder of this name")),
            _ => stat_of(&stat).ok_or_else(|| Fault::lasting(Kind::Config, NOT_AN_OBJECT)),
        }
    }

    /// Whether anything has this name. What does is durable after this answer, whoever wrote it.
    pub(super) fn is_taken(&self) -> Result<bool, Fault> {
        match fs::statat(&self.folder, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => sync(&self.folder).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno_fault(errno)),
        }
    }

    /// A new file beside the object.
    pub(super) fn temporary(self) -> Result<Temporary, Fault> {
        let chance = RandomState::new().hash_one(&self.name);
        let name = format!("{OWN_PREFIX}tmp-{}-{chance:016x}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.folder, name.as_str(), flags, FILE_MODE).map_err(write_fault)?;
        Ok(Temporary { spot: self, file: File::from(file), name, is_there: true })
    }

    /// Removes the object, and the folders that are empty then.
    pub(super) fn remove(&self, root: &Path, key: &Key) -> Result<(), Fault> {
        match self.stat() {
            Err(fault) if fault.kind == Kind::NotFound => return Ok(()),
            Err(fault) => return Err(fault),
            Ok(_) => {}
        }
        match fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => sync(&self.folder)?,
            Err(Errno::PERM) => {
                return Err(Fault::lasting(
                    Kind::Locked,
                    "the file, or its folder, may not be changed (immutable or sticky)",
                ));
            }
            Err(errno) => return Err(errno_fault(errno)),
        }
        remove_empty_folders(root, key);
        Ok(())
    }
}

impl Temporary {
    /// Gives the file its name, over what was there, durably.
    pub(super) fn replace(mut self) -> Result<(), Fault> {
        sync(&self.file)?;
        fs::renameat(&self.spot.folder, self.name.as_str(), &self.spot.folder, self.spot.name.as_str())
            .map_err(write_fault)?;
        self.is_there = false;
        sync(&self.spot.folder)
    }

    /// Gives the file its name if that is free, durably; `false` when it is taken.
    pub(super) fn take_free_name(mut self) -> Result<bool, Fault> {
        sync(&self.file)?;
        let Spot { folder, name } = &self.spot;
        let named = match fs::renameat_with(folder, self.name.as_str(), folder, name.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.is_there = false;
                Ok(())
            }
            // Some network file systems don't know this flag; a second name works on those.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::linkat(folder, self.name.as_str(), folder, name.as_str(), AtFlags::empty())
            }
            Err(errno) => Err(errno),
        };
        match named {
            Ok(()) => sync(folder).map(|()| true),
            Err(Errno::EXIST) => sync(folder).map(|()| false),
            Err(errno) => Err(write_fault(errno)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_there {
            // What can't be removed is never listed, and removed by a listing a day later.
            let _ = fs::unlinkat(&self.spot.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Opens the root; a link there is the operator's wish and followed.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(root, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Fault::lasting(Kind::NotFound, "there is no such folder"),
        Errno::NOTDIR => Fault::lasting(Kind::Config, "this is not a folder"),
        errno => errno_fault(errno),
    })
}

/// Opens a folder in a folder, unless it is a link.
pub(super) fn open_folder(folder: &impl AsFd, part: &str) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(folder, part, flags, Mode::empty()) {
        Ok(below) => Ok(below),
        Err(Errno::NOTDIR | Errno::LOOP) => match fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                let cause = format!("`{part}` on the way is a symbolic link, and links are not followed");
                Err(Fault::lasting(Kind::Config, cause))
            }
            Ok(_) => Err(Fault::lasting(Kind::NotFound, format!("`{part}` on the way is a file, not a folder"))),
            Err(errno) => Err(errno_fault(errno)),
        },
        Err(errno) => Err(errno_fault(errno)),
    }
}

fn split(key: &Key) -> (impl Iterator<Item = &str>, &str) {
    let (folders, name) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
    (folders.split('/').filter(|part| !part.is_empty()), name)
}

/// Makes the root and what is missing above it, durably.
fn make_root(root: &Path) -> Result<OwnedFd, Fault> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|error| super::io_fault(&error))?;
    for above in root.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()) {
        // Folders far above may not be ours to open; those were there before.
        let Ok(above) = open_root(above) else { break };
        sync(&above)?;
    }
    open_root(root)
}

/// Folders are no objects: they go with their last one. One that another writer has just made may go too; it makes it anew.
fn remove_empty_folders(root: &Path, key: &Key) {
    let mut path = key.as_str();
    while let Some((folder, _)) = path.rsplit_once('/') {
        let Ok(folder_key) = Key::parse(folder) else { return };
        let Ok(spot) = Spot::find(root, &folder_key) else { return };
        if fs::unlinkat(&spot.folder, spot.name.as_str(), AtFlags::REMOVEDIR).is_err() {
            return;
        }
        path = folder;
    }
}

/// Makes a file or a folder's names durable. A failure is final for this write: the next attempt writes a new file.
fn sync(of: &impl AsFd) -> Result<(), Fault> {
    match fs::fsync(of) {
        Ok(()) => Ok(()),
        Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(errno_fault(errno)),
        Err(errno) => Err(Fault::lasting(Kind::Unavailable, format!("the system could not make it durable: {errno}"))),
    }
}

fn write_fault(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::passing("its folder was removed meanwhile"),
        Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => Fault::lasting(Kind::Config, "a folder has this name"),
        Errno::PERM => {
            Fault::lasting(Kind::Locked, "the file, or its folder, may not be changed (immutable or sticky)")
        }
        errno => errno_fault(errno),
    }
}

/// What the system's error means for the caller.
pub(super) fn errno_fault(errno: Errno) -> Fault {
    let kind = match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::ACCESS | Errno::PERM => Kind::Denied,
        Errno::NOSPC | Errno::DQUOT => Kind::Full,
        Errno::NAMETOOLONG | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::ROFS => Kind::Config,
        Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::STALE | Errno::TIMEDOUT => {
            return Fault::passing(errno.to_string());
        }
        _ => Kind::Unavailable,
    };
    Fault::lasting(kind, errno.to_string())
}
