//! Listing a folder: all files below it, in order of names within each folder.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use futures::stream::BoxStream;
use rustix::fs::{self, AtFlags, Dir, FileType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::super::body::{Entry, Listed};
use super::super::error::{Fault, Kind};
use super::super::key::OWN_PREFIX;
use super::beneath::{errno_fault, open_folder, open_root};
use super::{blocking, stat_of};
use crate::limits::{FOLDER_DEPTH_MAX, STALE_TEMPORARY_AGE};

/// Entries that wait for the reader of a listing.
const LISTED_AHEAD: usize = 1024;

type Item = Result<Listed, Fault>;

/// Lists what lies in the folder `prefix`. A missing folder is empty; a missing root is an error.
pub(super) async fn list(root: Arc<PathBuf>, prefix: String) -> Result<BoxStream<'static, Item>, Fault> {
    let folder = blocking({
        let prefix = prefix.clone();
        move || {
            let mut folder = open_root(&root)?;
            for part in prefix.split('/').filter(|part| !part.is_empty()) {
                match open_folder(&folder, part) {
                    Ok(below) => folder = below,
                    Err(fault) if fault.kind == Kind::NotFound => return Ok(None),
                    Err(fault) => return Err(fault),
                }
            }
            Ok(Some(folder))
        }
    })
    .await?;
    let Some(folder) = folder else { return Ok(futures::stream::empty().boxed()) };
    let (send, receive) = mpsc::channel(LISTED_AHEAD);
    // Ends when the walk does, or when the reader is gone.
    tokio::task::spawn_blocking(move || {
        if let Err(Stop::Failed(fault)) = walk(&folder, &prefix, 0, &send) {
            let _ = send.blocking_send(Err(fault));
        }
    });
    Ok(ReceiverStream::new(receive).boxed())
}

enum Stop {
    /// Nobody reads any more.
    Unread,
    Failed(Fault),
}

fn walk(folder: &OwnedFd, prefix: &str, depth: usize, send: &mpsc::Sender<Item>) -> Result<(), Stop> {
    let tell = |item: Listed| send.blocking_send(Ok(item)).map_err(|_| Stop::Unread);
    let odd = |name: String, why: &str| tell(Listed::Odd { name, why: why.to_owned() });
    for name in names(folder).map_err(Stop::Failed)? {
        let name = match String::from_utf8(name) {
            Ok(name) => name,
            Err(bytes) => {
                odd(format!("{prefix}{}", bytes.as_bytes().escape_ascii()), "the name is not UTF-8")?;
                continue;
            }
        };
        let Ok(found) = fs::statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else {
            // Gone since the folder was read: as if it had been deleted before the listing.
            continue;
        };
        let key = format!("{prefix}{name}");
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory if name.starts_with(OWN_PREFIX) => {}
            FileType::Directory if depth >= FOLDER_DEPTH_MAX => odd(key, "folders are nested too deep")?,
            FileType::Directory => match open_folder(folder, &name) {
                Ok(below) => walk(&below, &format!("{key}/"), depth + 1, send)?,
                Err(fault) if fault.kind == Kind::NotFound => {}
                // A folder that can't be read must not pass for an empty one.
                Err(fault) => {
                    return Err(Stop::Failed(Fault { cause: format!("folder {key}: {}", fault.cause), ..fault }));
                }
            },
            FileType::RegularFile if name.starts_with(OWN_PREFIX) => remove_if_stale(folder, &name, &found),
            FileType::Symlink => odd(key, "a symbolic link; links are not followed")?,
            _ => match stat_of(&found) {
                Some(stat) => tell(Listed::Object(Entry { key, stat }))?,
                None => odd(key, "a device, pipe or socket")?,
            },
        }
    }
    Ok(())
}

/// The names in a folder, sorted.
fn names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Fault> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(errno_fault)? {
        let name = entry.map_err(errno_fault)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes the temporary file of a writer that died long ago.
fn remove_if_stale(folder: &OwnedFd, name: &str, found: &rustix::fs::Stat) {
    let age =
        stat_of(found).and_then(|stat| stat.modified).and_then(|time| SystemTime::now().duration_since(time).ok());
    if name.starts_with(&format!("{OWN_PREFIX}tmp-")) && age.is_some_and(|age| age > STALE_TEMPORARY_AGE) {
        let _ = fs::unlinkat(folder, name, AtFlags::empty());
    }
}
