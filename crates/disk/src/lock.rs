//! One process per data directory: an advisory lock that dies with its holder.
//!
//! Knows nothing of what the directory holds.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::atomic::FILE_MODE;

/// Holds a directory until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockFailure {
    /// Another process holds it: its pid, when it could be read.
    Held(Option<u32>),
    /// The system refused.
    Io(io::Error),
}

/// Takes the lock in `path` (made if absent), without waiting.
///
/// # Errors
/// See [`LockFailure`].
pub fn acquire(path: &Path) -> Result<DirLock, LockFailure> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
        .map_err(LockFailure::Io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockFailure::Held(holder(&mut file))),
        Err(e) => return Err(LockFailure::Io(e.into())),
    }
    // The pid is only a courtesy to the next who asks: a full disk must not stop a member from starting.
    let _ = note_pid(&mut file);
    Ok(DirLock { _file: file })
}

fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let first = acquire(&path).unwrap();
        match acquire(&path) {
            Err(LockFailure::Held(Some(pid))) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(first);
        acquire(&path).unwrap();
    }
}
