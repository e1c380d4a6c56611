//! Where requests wait for the raft thread: many hands put in, one takes all at once.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::Thread;
use std::time::{Duration, Instant};

use eyrie_api::peer as wire;
use eyrie_raft::{MembershipChange, Message};
use eyrie_state::{Answer, Refusal, Revision};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::reads::Reader;
use crate::errors::ServeError;
use crate::limits::{PROPOSALS_WAITING_MAX, READERS_WAITING_MAX};

/// What a proposer hears once its command is applied.
pub(crate) type Outcome = Result<(Revision, Result<Answer, Refusal>), ServeError>;

/// Who waits for one proposal.
pub(crate) type Waiter = crate::completions::Waiter<Outcome>;

/// A command on its way into the log.
pub(crate) struct Proposal {
    /// The encoded command.
    pub(crate) data: Vec<u8>,
    /// What it changes about who votes, if anything.
    pub(crate) change: Option<MembershipChange>,
    /// Only for this member's own log: it means nothing once another member leads.
    pub(crate) only_here: bool,
    /// Hears the outcome.
    pub(crate) waiter: Waiter,
    /// When it was put in.
    pub(crate) since: Instant,
}

/// Where the leader put forwarded proposals.
#[derive(Debug)]
pub(crate) struct Placement {
    /// Which ones.
    pub(crate) numbers: Vec<u64>,
    /// The index of the first; 0 when none was taken.
    pub(crate) index: u64,
    /// The term of all.
    pub(crate) term: u64,
    /// Why none was taken.
    pub(crate) refused: u32,
}

/// One thing for the raft thread to do.
pub(crate) enum Item {
    /// Put a command in the log.
    Propose(Proposal),
    /// Hand leadership to this member.
    TransferLeader(u64),
    /// Another member said something.
    Heard(Box<Message>),
    /// A follower was asked for these.
    Forwarded {
        /// Which follower.
        from: u64,
        /// What.
        proposals: Vec<wire::Proposal>,
    },
    /// The leader answers what was forwarded to it.
    Placed(Placement),
    /// The talk to a member has ended; what was on its way may be lost.
    PeerLost(u64),
    /// Whole tables came from the leader.
    SnapshotArrived {
        /// The leader's offer.
        message: Message,
        /// Where they are.
        whole: PathBuf,
        /// Hears whether they were wanted.
        done: oneshot::Sender<bool>,
    },
    /// A snapshot to a member has ended, well or not.
    SnapshotSent {
        /// Which member.
        to: u64,
        /// Well.
        arrived: bool,
    },
    /// Finish what is begun and end.
    Stop,
}

#[derive(Default)]
struct Waiting {
    items: Vec<Item>,
    /// How many of them came from other members.
    from_peers: usize,
    /// Who waits for the next question about the index to read at.
    readers: Vec<Reader>,
    /// So many of them wake the thread; `None`: no number does.
    readers_awaited: Option<usize>,
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
            if waiting.items.len() - waiting.from_peers >= PROPOSALS_WAITING_MAX {
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

    /// Puts in somebody who reads. The thread is woken once as many wait as it asked for ([`Inbox::await_readers`]).
    ///
    /// # Errors
    /// [`ServeError::TooManyRequests`] when full, [`ServeError::Stopped`] after [`Inbox::close`].
    pub(crate) fn put_reader(&self, reader: Reader) -> Result<(), ServeError> {
        let enough = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(ServeError::Stopped);
            }
            if waiting.readers.len() >= READERS_WAITING_MAX {
                return Err(ServeError::TooManyRequests);
            }
            waiting.readers.push(reader);
            waiting.readers_awaited == Some(waiting.readers.len())
        };
        if enough {
            self.wake();
        }
        Ok(())
    }

    /// From now on so many readers wake the thread; `None`: no number does. Returns whether so many wait already.
    pub(crate) fn await_readers(&self, count: Option<usize>) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.readers_awaited = count;
        count.is_some_and(|count| waiting.readers.len() >= count)
    }

    /// Takes all who read.
    pub(crate) fn take_readers(&self) -> Vec<Reader> {
        std::mem::take(&mut self.waiting.lock().readers)
    }

    /// As [`Inbox::put`], for what other members say: whoever hears them asks for the backlog first. Returns whether
    /// anybody still reads.
    pub(crate) fn put_from_peer(&self, items: Vec<Item>) -> bool {
        let was_empty = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return false;
            }
            let was_empty = waiting.items.is_empty() && !items.is_empty();
            waiting.from_peers += items.len();
            waiting.items.extend(items);
            was_empty
        };
        if was_empty {
            self.wake();
        }
        true
    }

    /// How much of what other members said waits here.
    pub(crate) fn peer_backlog(&self) -> usize {
        self.waiting.lock().from_peers
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
        let mut waiting = self.waiting.lock();
        waiting.from_peers = 0;
        std::mem::take(&mut waiting.items)
    }

    /// Takes out the proposals that wait since before `cutoff`.
    pub(crate) fn overdue(&self, cutoff: Instant) -> Vec<Waiter> {
        let mut waiting = self.waiting.lock();
        let due = |item: &mut Item| matches!(item, Item::Propose(proposal) if proposal.since < cutoff);
        let due = waiting.items.extract_if(.., due);
        due.filter_map(|item| if let Item::Propose(proposal) = item { Some(proposal.waiter) } else { None }).collect()
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Takes nothing more. Returns what still waited; who reads is told that the member has stopped.
    pub(crate) fn close(&self) -> Vec<Item> {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.from_peers = 0;
        waiting.readers.clear();
        std::mem::take(&mut waiting.items)
    }
}
