//! What the metrics page says of watching.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts and gauges, each exact at the moment it is read and none in step with another.
#[derive(Debug, Default)]
pub struct WatchStats {
    /// Watchers (`etcd_debugging_mvcc_watcher_total`).
    pub watchers: AtomicU64,
    /// Streams (`etcd_debugging_mvcc_watch_stream_total`).
    pub streams: AtomicU64,
    /// Watchers that read history now (`etcd_debugging_mvcc_slow_watcher_total`).
    pub slow_watchers: AtomicU64,
    /// Events put into responses since start (`etcd_debugging_mvcc_events_total`).
    pub events: AtomicU64,
    /// Events on trails that some watcher may not have seen yet (`etcd_debugging_mvcc_pending_events_total`).
    pub pending_events: AtomicUsize,
    /// Bytes that trails hold.
    pub pending_bytes: AtomicUsize,
    /// Revisions that trails hold.
    pub pending_revisions: AtomicUsize,
}

impl WatchStats {
    pub(super) fn add(gauge: &AtomicU64, n: u64) {
        gauge.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sub(gauge: &AtomicU64, n: u64) {
        gauge.fetch_sub(n, Ordering::Relaxed);
    }
}
