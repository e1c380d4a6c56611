//! Segments before they are part of the log: files full of zeros, made ahead by a thread of their own.
//!
//! Zeros are written, not only reserved: a later sync then writes data only, no metadata (0.18 instead of 0.30 ms).
//! Knows nothing of records.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::fs::FallocateFlags;

use super::SEGMENT_BYTES_MIN;
use crate::{atomic, step_aside};

const ZEROS: &[u8] = &[0; 256 * 1024];
/// Zeros between two syncs: a large dirty backlog would delay the log's own syncs.
const ZEROS_PER_SYNC: u64 = 2 << 20;
/// Rest between two syncs of the thread that works ahead.
const PAUSE: Duration = Duration::from_millis(4);

/// The name of the file in preparation.
pub(super) const NEXT: &str = "next.tmp";

/// A file of zeros, synced, that has no place in the log yet.
#[derive(Debug)]
pub(super) struct Blank {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) len: u64,
}

/// Makes blank segments one ahead of need.
#[derive(Debug)]
pub(super) struct Preparer {
    dir: PathBuf,
    want: u64,
    asked: Option<mpsc::Receiver<io::Result<Blank>>>,
    /// What was made, once it was looked at.
    ready: Option<io::Result<Blank>>,
    thread: Option<JoinHandle<()>>,
    mood: Arc<Mood>,
}

/// What the thread is told while it works.
#[derive(Debug, Default)]
pub(super) struct Mood {
    /// The log is being closed.
    give_up: AtomicBool,
    /// An append waits for the segment.
    hurry: AtomicBool,
}

impl Preparer {
    pub(super) fn new(dir: &Path, want: u64) -> Self {
        Self { dir: dir.to_path_buf(), want, asked: None, ready: None, thread: None, mood: Arc::default() }
    }

    /// The size that segments should have.
    pub(super) fn want(&self) -> u64 {
        self.want
    }

    /// Starts making the next segment, unless that is under way.
    pub(super) fn start(&mut self) {
        if self.asked.is_some() || self.ready.is_some() {
            return;
        }
        let (tell, asked) = mpsc::sync_channel(1);
        self.mood.hurry.store(false, Ordering::Relaxed);
        let (path, want, mood) = (self.dir.join(NEXT), self.want, self.mood.clone());
        let spawned = thread::Builder::new().name("wal-prepare".into()).spawn(move || {
            step_aside();
            let _ = tell.send(make(&path, want, SEGMENT_BYTES_MIN, Some(&mood)));
        });
        if let Ok(handle) = spawned {
            self.thread = Some(handle);
            self.asked = Some(asked);
        }
    }

    /// The size of the prepared segment, if it is there already.
    pub(super) fn ready_bytes(&mut self) -> u64 {
        if let Some(Ok(made)) = self.asked.as_ref().map(mpsc::Receiver::try_recv) {
            self.ready = Some(made);
            self.asked = None;
        }
        self.ready.as_ref().and_then(|made| made.as_ref().ok()).map_or(0, |blank| blank.len)
    }

    /// The prepared segment if it holds `need` bytes; else one made now. Waits for one that is under way.
    pub(super) fn take(&mut self, need: u64) -> io::Result<Blank> {
        self.mood.hurry.store(true, Ordering::Relaxed);
        let asked = self.asked.take();
        let ready = self.ready.take().or_else(|| asked.and_then(|asked| asked.recv().ok()));
        self.join();
        match ready {
            Some(Ok(blank)) if blank.len >= need => Ok(blank),
            other => {
                drop(other);
                make(&self.dir.join(NEXT), self.want.max(need), need.max(SEGMENT_BYTES_MIN), None)
            }
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.mood.give_up.store(true, Ordering::Relaxed);
        self.mood.hurry.store(true, Ordering::Relaxed);
        self.join();
        let _ = fs::remove_file(self.dir.join(NEXT));
    }
}

/// Makes a blank file of `want` bytes, or of half and half again while there is no room, but not below `least`.
///
/// With a `mood` it works in the background: with pauses, until told otherwise.
pub(super) fn make(path: &Path, want: u64, least: u64, mood: Option<&Mood>) -> io::Result<Blank> {
    let mut len = want.max(least).next_multiple_of(4096);
    loop {
        match fill(path, len, mood) {
            Ok(file) => return Ok(Blank { file, path: path.to_path_buf(), len }),
            Err(e) => {
                let _ = fs::remove_file(path);
                if !is_no_space(&e) || len / 2 < least {
                    return Err(e);
                }
                len = (len / 2).next_multiple_of(4096);
            }
        }
    }
}

fn fill(path: &Path, len: u64, mood: Option<&Mood>) -> io::Result<File> {
    let file = atomic::create(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
        Ok(()) => {}
        // The zeros below reserve as well, only less at once.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(e) => return Err(e.into()),
    }
    let mut at = 0;
    while at < len {
        let n = (ZEROS.len() as u64).min(len - at);
        file.write_all_at(&ZEROS[..n as usize], at)?;
        at += n;
        let Some(mood) = mood else { continue };
        if mood.give_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if at.is_multiple_of(ZEROS_PER_SYNC) && !mood.hurry.load(Ordering::Relaxed) {
            file.sync_data()?;
            thread::sleep(PAUSE);
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// Whether an error says that there is no room: full disk, quota, or file size limit.
pub(super) fn is_no_space(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
