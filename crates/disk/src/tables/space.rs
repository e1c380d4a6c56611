//! Room on the disk: asked before it is needed, so that the tables never run into its end.
//!
//! Knows nothing of what the room is for.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// How long a writer waits before it asks again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// How the tables stand with the room on their disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes free for this program on the file system of the tables.
    pub free_bytes: u64,
    /// Bytes that the tables want to see free; below that they write no more.
    pub reserve_bytes: u64,
    /// Whether writes should be refused now: too little is free, or a write was already refused by the system.
    pub short: bool,
}

/// Watches one file system.
#[derive(Debug)]
pub(super) struct SpaceGate {
    dir: PathBuf,
    reserve: u64,
    refused: AtomicBool,
    stop: AtomicBool,
}

impl SpaceGate {
    pub(super) fn new(dir: &Path, reserve: u64) -> Self {
        Self { dir: dir.to_path_buf(), reserve, refused: AtomicBool::new(false), stop: AtomicBool::new(false) }
    }

    /// The state if `need` more bytes were to be written.
    pub(super) fn look(&self, need: u64) -> Space {
        // Where the system does not say, nothing is refused ahead; the refusal of a write is still met.
        let free_bytes = rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize));
        let short = free_bytes < self.reserve.saturating_add(need) || self.refused.load(Ordering::Relaxed);
        Space { free_bytes, reserve_bytes: self.reserve, short }
    }

    /// After the system refused a write: waits a moment; `false` when the wait should end because the tables close.
    pub(super) fn wait_after_refusal(&self) -> bool {
        self.refused.store(true, Ordering::Relaxed);
        thread::sleep(RETRY);
        !self.stop.load(Ordering::Relaxed)
    }

    /// A write went through.
    pub(super) fn passed(&self) {
        self.refused.store(false, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
