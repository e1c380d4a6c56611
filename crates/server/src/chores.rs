//! Long work that clients' writes must not feel: on a thread of its own, which gives way, and in short breaths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eyrie_disk::step_aside;
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;

use crate::limits::CHORES_AT_ONCE_MAX;
use crate::node::Shared;

/// Who wants to begin waits here.
static TURNS: Semaphore = Semaphore::const_new(CHORES_AT_ONCE_MAX);

/// Does long work on a thread that gives way to all others. It goes on when its caller goes away.
///
/// # Errors
/// No thread can be had, or the work panicked.
pub(crate) async fn chore<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let ended = || Status::internal("etcdserver: the work ended on a bug of this program");
    let turn = TURNS.acquire().await.map_err(|_| ended())?;
    let (tell, told) = oneshot::channel();
    let body = move || {
        step_aside();
        let _ = tell.send(work());
        drop(turn);
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| Status::resource_exhausted(format!("etcdserver: can't start a thread: {error}")))?;
    told.await.map_err(|_| ended())
}

/// Bytes between two looks at the log: some tenths of a millisecond of work, so that whoever is woken meanwhile (also
/// the client that takes the bytes works in such bursts) need not wait longer.
const BYTES_PER_BREATH: usize = 128 * 1024;
/// The log is busy for so long after an entry.
const BUSY_AFTER: Duration = Duration::from_millis(50);
/// The longest rest, however slow the client was that was waited for.
const REST_MAX: Duration = Duration::from_millis(5);

/// Paces work that streams bytes: full speed while the log is idle, every second moment while it is not.
pub(crate) struct Breath {
    shared: Arc<Shared>,
    applied: u64,
    moved: Option<Instant>,
    begun: Instant,
    bytes: usize,
}

impl Breath {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let applied = shared.progress.applied();
        Self { shared, applied, moved: None, begun: Instant::now(), bytes: 0 }
    }

    /// So many bytes are done: rests now and then, for as long as they took, while entries are being applied.
    pub(crate) fn worked(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes < BYTES_PER_BREATH {
            return;
        }
        let (now, applied) = (Instant::now(), self.shared.progress.applied());
        if applied != self.applied {
            (self.applied, self.moved) = (applied, Some(now));
        }
        if self.moved.is_some_and(|moved| now - moved < BUSY_AFTER) {
            std::thread::sleep((now - self.begun).min(REST_MAX));
        }
        (self.begun, self.bytes) = (Instant::now(), 0);
    }
}
