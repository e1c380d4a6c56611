//! A member's damaged data set aside, so that it can begin again as a newcomer that its cluster has made room for.
//!
//! ```text
//! rejoin ─▶ identity of the newcomer, unfinished ─▶ damaged-TIME/ holds what was there ─▶ a store is begun ─▶ it votes
//! ```
//! The file `rejoin` is there from the first step to the last: a process that ends in between goes on where it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{DataDir, DirError, IDENTITY, Identity, TABLES, at, read_identity};
use crate::atomic;

const REJOIN: &str = "rejoin";
/// What was set aside is called so, with the time behind it.
pub(super) const ASIDE: &str = "damaged-";

impl DataDir {
    /// Whether the member in this directory is being rebuilt from others, and does not vote yet.
    pub fn is_rejoining(path: &Path) -> bool {
        path.join(REJOIN).is_file()
    }

    /// Whose store was being begun here.
    ///
    /// # Errors
    /// As for [`DataDir::inspect`].
    pub fn begun_for(path: &Path) -> Result<Option<Identity>, DirError> {
        Ok(read_identity(path)?.filter(|page| !page.created).map(|page| page.identity))
    }

    /// The folder with data that was set aside before, if there is one.
    pub fn set_aside_before(path: &Path) -> Option<PathBuf> {
        let entries = fs::read_dir(path).ok()?;
        let names = entries.filter_map(Result::ok).map(|entry| entry.path());
        names.filter(|path| path.is_dir() && is_aside(path)).max()
    }

    /// Sets tables and log aside, in a folder `damaged-TIME` beside each, and makes this the unfinished store of
    /// `successor`. Nothing is deleted.
    ///
    /// # Errors
    /// [`DirError::Io`].
    pub fn set_aside(mut self, successor: Identity, unix_seconds: u64) -> Result<PathBuf, DirError> {
        let name = format!("{ASIDE}{unix_seconds}");
        let aside = self.path.join(&name);
        let marker = self.path.join(REJOIN);
        atomic::write(&marker, b"this member is being rebuilt from the others of its cluster\n")
            .map_err(at("write", &marker))?;
        atomic::create_dir(&aside).map_err(at("create", &aside))?;
        let (from, to) = (self.path.join(IDENTITY), aside.join(IDENTITY));
        let identity = fs::read(&from).map_err(at("read", &from))?;
        atomic::write(&to, &identity).map_err(at("write", &to))?;
        self.identity = successor;
        self.write_identity(false)?;
        let tables = self.path.join(TABLES);
        move_into(&tables, &aside)?;
        // An external log stays on its own disk.
        let logs = self.wal_path.join(&name);
        atomic::create_dir(&logs).map_err(at("create", &logs))?;
        for entry in fs::read_dir(&self.wal_path).map_err(at("read", &self.wal_path))? {
            let file = entry.map_err(at("read", &self.wal_path))?.path();
            if file.extension().is_some_and(|x| x == "wal") {
                move_into(&file, &logs)?;
            }
        }
        Ok(aside)
    }

    /// The member votes again: it is rebuilt.
    ///
    /// # Errors
    /// [`DirError::Io`].
    pub fn rejoined(path: &Path) -> Result<(), DirError> {
        let marker = path.join(REJOIN);
        atomic::remove(&marker).map_err(at("remove", &marker))
    }
}

/// Whether this is the name of a folder made here.
pub(super) fn is_aside(path: &Path) -> bool {
    let time = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(ASIDE));
    time.is_some_and(|time| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()))
}

fn move_into(file: &Path, folder: &Path) -> Result<(), DirError> {
    let to = folder.join(file.file_name().unwrap_or_default());
    match atomic::rename(file, &to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(at("move", file)),
    }
}

#[cfg(test)]
mod tests {
    use eyrie_state::{ClusterId, MemberId};

    use super::super::Kind;
    use super::*;

    fn identity(member: u64) -> Identity {
        Identity { cluster: ClusterId(1), member: MemberId(member), name: "m".into() }
    }

    #[test]
    fn what_is_set_aside_is_kept_and_the_place_is_free_for_the_successor() {
        for external in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (path, wal) = (dir.path().join("data"), dir.path().join("log"));
            let wal_dir = external.then_some(wal.as_path());
            let old = DataDir::create(&path, wal_dir, identity(7)).unwrap();
            fs::write(old.tables_path(), "tables").unwrap();
            fs::write(old.wal_path().join("0-1.wal"), "log").unwrap();
            old.finish().unwrap();
            let aside = old.set_aside(identity(8), 123).unwrap();
            assert_eq!(fs::read(aside.join(TABLES)).unwrap(), b"tables");
            assert!(fs::read_to_string(aside.join(IDENTITY)).unwrap().contains("0000000000000007"));
            assert_eq!(DataDir::inspect(&path).unwrap(), Kind::Unfinished);
            assert_eq!(DataDir::begun_for(&path).unwrap(), Some(identity(8)));
            assert_eq!(DataDir::set_aside_before(&path), Some(aside));
            let new = DataDir::create(&path, wal_dir, identity(8)).unwrap();
            assert!(!new.tables_path().exists());
            let logs = new.wal_path().join("damaged-123/0-1.wal");
            assert_eq!(fs::read(logs).unwrap(), b"log");
            fs::write(new.tables_path(), "new").unwrap();
            fs::write(new.wal_path().join("0-1.wal"), "new").unwrap();
            new.finish().unwrap();
            drop(new);
            assert!(DataDir::is_rejoining(&path) && matches!(DataDir::inspect(&path).unwrap(), Kind::Eyrie { .. }));
            DataDir::rejoined(&path).unwrap();
            assert!(!DataDir::is_rejoining(&path));
        }
    }
}
