//! Where requests wait for the raft thread: many hands put in, one takes all at once.

use std::sync::OnceLock;
use std::thread::Thread;
use std::time::{Duration, Instant};

use eyrie_state::{Answer, Refusal, Revision};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::errors::ServeError;
use crate::limits::PROPOSALS_WAITING_MAX;

/// What a proposer hears once its command is applied.
pub(crate) type Outcome = Result<(Revision, Result<Answer, Refusal>), ServeError>;

/// Who waits for one proposal.
pub(crate) type Waiter = crate::completions::Waiter<Outcome>;

/// One thing for the raft thread to do.
pub(crate) enum Item {
    /// Put a command in the log.
    Propose {
        /// The encoded command.
        data: Vec<u8>,
        /// Hears the outcome.
        waiter: Waiter,
        /// When it was put in.
        since: Instant,
    },
    /// Find the index that a linearizable read must wait for.
    ReadIndex(oneshot::Sender<Result<u64, ServeError>>),
    /// Finish what is begun and end.
    Stop,
}

#[derive(Default)]
struct Waiting {
    items: Vec<Item>,
    closed: bool,
}

/// The queue itself.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    reader: OnceLock<Thread>,
}

impl Inbox {
    /// Names the thread that takes; called once by that thread.
    pub(crate) fn read_here(&self) {
        let _ = self.reader.set(std::thread::current());
    }

    /// Puts an item in and wakes the reader if it may sleep.
    ///
    /// # Errors
    /// [`ServeError::TooManyRequests`] when full, [`ServeError::Stopped`] after [`Inbox::close`].
    pub(crate) fn put(&self, item: Item) -> Result<(), ServeError> {
        let was_empty = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(ServeError::Stopped);
            }
            if waiting.items.len() >= PROPOSALS_WAITING_MAX {
                return Err(ServeError::TooManyRequests);
            }
            waiting.items.push(item);
            waiting.items.len() == 1
        };
        if was_empty {
            self.wake();
        }
        Ok(())
    }

    /// Wakes the reader.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.reader.get() {
            thread.unpark();
        }
    }

    /// Takes all that waits; sleeps up to `patience` when there is nothing. The returned list may be empty.
    pub(crate) fn take(&self, patience: Duration) -> Vec<Item> {
        let items = self.take_now();
        if !items.is_empty() || patience.is_zero() {
            return items;
        }
        std::thread::park_timeout(patience);
        self.take_now()
    }

    fn take_now(&self) -> Vec<Item> {
        std::mem::take(&mut self.waiting.lock().items)
    }

    /// Takes out the proposals that wait since before `cutoff`.
    pub(crate) fn overdue(&self, cutoff: Instant) -> Vec<Waiter> {
        let mut waiting = self.waiting.lock();
        let due = |item: &mut Item| matches!(item, Item::Propose { since, .. } if *since < cutoff);
        let due = waiting.items.extract_if(.., due);
        due.filter_map(|item| if let Item::Propose { waiter, .. } = item { Some(waiter) } else { None }).collect()
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Takes nothing more. Returns what still waited.
    pub(crate) fn close(&self) -> Vec<Item> {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.items)
    }
}
