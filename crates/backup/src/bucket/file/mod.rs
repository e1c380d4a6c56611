//! A folder as a bucket.
//!
//! Every name is opened part by part beneath the root, and no symbolic link is followed on the way: nothing outside the
//! root can be read or written, even while somebody exchanges folders for links. A write goes to a temporary file, which is
//! synced, renamed and made durable by a sync of its folder; a write that must be new is renamed only onto a free name.

mod beneath;
mod pool;
mod walk;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use rustix::fs::FileType;

use self::beneath::{Spot, errno_fault};
use self::pool::Pool;
use super::body::{Body, ByteRange, Conditional, CopySource, Listed, Opened, Parts, Stat};
use super::error::{Fault, Kind};
use super::key::Key;
use crate::limits::FILE_READ_BYTES;

type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// A folder. It need not exist until something is written.
pub(crate) struct Folder {
    root: Arc<PathBuf>,
    pool: Pool,
}

impl Folder {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: Arc::new(root.to_owned()), pool: Pool::default() }
    }

    /// Runs `work` where it may block.
    fn blocking<'a, T: Send + 'static>(
        &'a self,
        key: &Key,
        work: impl FnOnce(&Path, &Key) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'a, T> {
        let (root, key) = (self.root.clone(), key.clone());
        blocking(move || work(&root, &key)).boxed()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Fault::lasting(Kind::Unavailable, format!("the file thread ended: {error}"))),
    }
}

impl Body for Folder {
    fn read<'a>(&'a self, key: &'a Key, range: ByteRange) -> Answer<'a, Opened> {
        let pool = self.pool.clone();
        self.blocking(key, move |root, key| {
            let (file, stat) = Spot::find(root, key)?.open()?;
            let span = range.within(stat.len);
            // The first piece comes with the opening: for most objects it is all there is.
            let first = read_piece(&pool, &file, span.clone())?;
            let next = span.start + first.len() as u64..span.end;
            let rest = futures::stream::try_unfold((pool, file, next), |(pool, file, span)| async move {
                if span.is_empty() {
                    return Ok(None);
                }
                blocking(move || {
                    let piece = read_piece(&pool, &file, span.clone())?;
                    let next = span.start + piece.len() as u64..span.end;
                    Ok((!piece.is_empty()).then_some((piece, (pool, file, next))))
                })
                .await
            });
            let first = futures::stream::iter((!first.is_empty()).then_some(Ok(first)));
            Ok(Opened { stat, bytes: first.chain(rest).boxed() })
        })
    }

    fn stat<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Stat>> {
        self.blocking(key, |root, key| match Spot::find(root, key).and_then(|spot| spot.stat()) {
            Ok(stat) => Ok(Some(stat)),
            Err(fault) if fault.kind == Kind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        })
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, ()> {
        self.blocking(key, move |root, key| {
            let mut temporary = Spot::make(root, key)?.temporary()?;
            temporary.write(&bytes)?;
            temporary.replace()
        })
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, bool> {
        self.blocking(key, move |root, key| {
            let spot = Spot::make(root, key)?;
            if spot.is_taken()? {
                return Ok(false);
            }
            let mut temporary = spot.temporary()?;
            temporary.write(&bytes)?;
            temporary.take_free_name()
        })
    }

    fn write<'a>(&'a self, key: &'a Key, _part: usize) -> Answer<'a, Box<dyn Parts>> {
        self.blocking(key, |root, key| {
            let temporary = Spot::make(root, key)?.temporary()?;
            Ok(Box::new(FileParts { temporary: Some(temporary) }) as Box<dyn Parts>)
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, BoxStream<'static, Result<Listed, Fault>>> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        async move { walk::list(root, prefix).await }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        self.blocking(key, |root, key| match Spot::find(root, key) {
            Ok(spot) => spot.remove(root, key),
            Err(fault) if fault.kind == Kind::NotFound => Ok(()),
            Err(fault) => Err(fault),
        })
    }

    fn copy<'a>(&'a self, _from: CopySource<'a>, _key: &'a Key) -> Answer<'a, bool> {
        async move { Ok(false) }.boxed()
    }

    fn conditional(&self) -> Conditional {
        Conditional::Sure
    }

    fn part_len(&self) -> usize {
        FILE_READ_BYTES
    }
}

/// The next piece of a file, at most [`FILE_READ_BYTES`]; empty at the end of the file.
fn read_piece(pool: &Pool, file: &File, span: std::ops::Range<u64>) -> Result<Bytes, Fault> {
    let len = (span.end - span.start).min(FILE_READ_BYTES as u64) as usize;
    if len == 0 {
        return Ok(Bytes::new());
    }
    let mut room = pool.room();
    while room.len() < len {
        let at = span.start + room.len() as u64;
        match file.read_at(room.rest(len), at) {
            Ok(0) => break,
            Ok(n) => room.fill(n),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_fault(&error)),
        }
    }
    Ok(room.freeze())
}

/// What the system says about a file; `None` for what is no regular file.
fn stat_of(stat: &rustix::fs::Stat) -> Option<Stat> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let modified = u64::try_from(stat.st_mtime)
        .ok()
        .map(|secs| SystemTime::UNIX_EPOCH + Duration::new(secs, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)));
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    let etag = format!("\"{:x}-{:x}.{:x}-{len:x}\"", stat.st_ino, stat.st_mtime, stat.st_mtime_nsec);
    Some(Stat { len, etag: Some(etag), modified })
}

fn io_fault(error: &std::io::Error) -> Fault {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => errno_fault(errno),
        None => Fault::lasting(Kind::Unavailable, error.to_string()),
    }
}

/// An object that comes in parts: its temporary file, gone with this value unless it was renamed.
struct FileParts {
    temporary: Option<beneath::Temporary>,
}

impl FileParts {
    fn over() -> Fault {
        Fault::lasting(Kind::Unavailable, "an earlier part of this write failed")
    }
}

impl Parts for FileParts {
    fn push(&mut self, part: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let mut temporary = self.temporary.take().ok_or_else(Self::over)?;
            self.temporary = Some(blocking(move || temporary.write(&part).map(|()| temporary)).await?);
            Ok(())
        }
        .boxed()
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let temporary = self.temporary.take().ok_or_else(Self::over)?;
            blocking(move || temporary.replace()).await
        }
        .boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let temporary = self.temporary.take();
            blocking(move || {
                drop(temporary);
                Ok(())
            })
            .await
        }
        .boxed()
    }
}

impl beneath::Temporary {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all(bytes).map_err(|error| io_fault(&error))
    }
}

#[cfg(test)]
mod tests;
