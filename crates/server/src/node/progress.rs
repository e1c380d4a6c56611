//! How far this member is: plain numbers that any thread may read at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use eyrie_raft::{Membership, Place, Standing};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{log_error, log_info};

/// Term, leader, and the indexes committed and applied.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    term: AtomicU64,
    leader: AtomicU64,
    is_leader: AtomicBool,
    committed: AtomicU64,
    applied: AtomicU64,
    applied_term: AtomicU64,
    /// This member is the only voter.
    alone: AtomicBool,
    learner: AtomicBool,
    /// When a leader was lost, if ever.
    leader_lost: Mutex<Option<Instant>>,
    /// How far others are, as their leader knows it.
    places: Mutex<Vec<Place>>,
}

impl Progress {
    pub(crate) fn begin(&self, applied: u64, term: u64) {
        self.applied.store(applied, Ordering::Release);
        self.committed.store(applied, Ordering::Release);
        self.applied_term.store(term, Ordering::Release);
    }

    /// Takes note of where raft stands. Returns where it stood before.
    pub(crate) fn stand(&self, now: Standing) -> Standing {
        let before = self.standing();
        if before.term != now.term {
            self.term.store(now.term, Ordering::Release);
        }
        if before.leader != now.leader {
            if before.leader != 0 {
                *self.leader_lost.lock() = Some(Instant::now());
            }
            self.leader.store(now.leader, Ordering::Release);
        }
        if before.is_leader != now.is_leader {
            self.is_leader.store(now.is_leader, Ordering::Release);
        }
        before
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            term: self.term.load(Ordering::Acquire),
            leader: self.leader.load(Ordering::Acquire),
            is_leader: self.is_leader.load(Ordering::Acquire),
            commit: self.committed.load(Ordering::Acquire),
        }
    }

    /// A leader was lost after this moment.
    pub(crate) fn leader_lost_since(&self, since: Instant) -> bool {
        self.leader_lost.lock().is_some_and(|lost| lost >= since)
    }

    /// Takes note of who votes.
    pub(crate) fn votes(&self, own: u64, membership: &Membership) {
        self.alone.store(membership.voters == [own] && membership.learners.is_empty(), Ordering::Release);
        // Also who joins and was not told yet what it is.
        self.learner.store(!membership.voters.contains(&own), Ordering::Release);
    }

    /// This member only listens.
    pub(crate) fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Acquire)
    }

    /// Nobody else can have been agreed with.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    pub(crate) fn now_at(&self, places: Vec<Place>) {
        *self.places.lock() = places;
    }

    /// How far everybody is; means something on the leader only.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.places.lock().clone()
    }

    pub(crate) fn committed_up_to(&self, index: u64) {
        self.committed.fetch_max(index, Ordering::AcqRel);
    }

    pub(crate) fn applied_up_to(&self, index: u64, term: u64) {
        self.applied_term.store(term, Ordering::Release);
        self.applied.store(index, Ordering::Release);
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// An entry of the current term is applied: everything committed before this leadership is too.
    pub(crate) fn leads_and_caught_up(&self) -> bool {
        self.is_leader.load(Ordering::Acquire)
            && self.applied_term.load(Ordering::Acquire) == self.term.load(Ordering::Acquire)
    }
}

/// The disk of the log or the tables is full, or not. Said once each time it changes.
#[derive(Debug, Default)]
pub(crate) struct DiskFull(AtomicBool);

impl DiskFull {
    pub(crate) fn raise(&self, why: &dyn std::fmt::Display) {
        if !self.0.swap(true, Ordering::AcqRel) {
            let why = why.to_string();
            log_error!(
                "the disk is full: writes are refused, reads go on; make room on the disk of the data dir and writes are taken again by themselves",
                "error" = &why
            );
        }
    }

    pub(crate) fn clear(&self) {
        if self.0.load(Ordering::Acquire) && self.0.swap(false, Ordering::AcqRel) {
            log_info!("the disk has room again: writes are taken");
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a member had to stop, for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Ending {
    sender: watch::Sender<Option<String>>,
    /// The reason is damage, which the other members can make good.
    to_rebuild: AtomicBool,
}

impl Default for Ending {
    fn default() -> Self {
        Self { sender: watch::Sender::new(None), to_rebuild: AtomicBool::new(false) }
    }
}

impl Ending {
    /// Ends the member with a reason; the first reason stays.
    pub(crate) fn end(&self, why: String) {
        self.sender.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(why);
            }
            first
        });
    }

    /// Ends the member because its data is damaged.
    pub(crate) fn end_to_rebuild(&self, why: String) {
        if self.sender.borrow().is_none() {
            self.to_rebuild.store(true, Ordering::Release);
        }
        self.end(why);
    }

    /// The damage for which the member ended, if that is why.
    pub(crate) fn damage(&self) -> Option<String> {
        if self.to_rebuild.load(Ordering::Acquire) { self.sender.borrow().clone() } else { None }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.sender.subscribe()
    }
}
