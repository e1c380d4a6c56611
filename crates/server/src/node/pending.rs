//! Proposals on their way through the log: who waits for which index.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use super::inbox::{Outcome, Waiter};
use crate::completions::Trays;
use crate::errors::ServeError;

struct Pending {
    index: u64,
    term: u64,
    /// `None` when it was told already that it waited too long.
    waiter: Option<Waiter>,
    since: Instant,
}

/// Waiters in the order of their indexes.
#[derive(Default)]
pub(crate) struct PendingProposals(Mutex<VecDeque<Pending>>);

impl PendingProposals {
    /// Remembers a batch whose first entry stands at `first`; `None` for those nobody waits for any more.
    ///
    /// What stood there before, or after, was written by an older leader and is replaced; whether it was agreed on
    /// nevertheless is not known here.
    pub(crate) fn add(&self, first: u64, term: u64, waiters: Vec<(Option<Waiter>, Instant)>) {
        let mut replaced = Vec::new();
        {
            let mut queue = self.0.lock();
            while queue.back().is_some_and(|last| last.index >= first) {
                replaced.extend(queue.pop_back().and_then(|last| last.waiter));
            }
            let pending = |(index, (waiter, since))| Pending { index, term, waiter, since };
            queue.extend((first..).zip(waiters).map(pending));
        }
        for waiter in replaced {
            waiter.answer(Err(ServeError::TimeoutLeaderFailed));
        }
    }

    /// A snapshot has replaced all entries up to `index`: what became of those among them is not known here.
    pub(crate) fn passed_over(&self, index: u64) {
        let mut passed = Vec::new();
        {
            let mut queue = self.0.lock();
            while queue.front().is_some_and(|front| front.index <= index) {
                passed.extend(queue.pop_front().and_then(|front| front.waiter));
            }
        }
        for waiter in passed {
            waiter.answer(Err(ServeError::TimeoutLeaderFailed));
        }
    }

    /// Answers the waiters of applied entries, given in order of index. A waiter whose entry was replaced by another
    /// leader's learns that its outcome is not known.
    pub(crate) fn answer(&self, trays: &Trays<Outcome>, outcomes: impl IntoIterator<Item = (u64, u64, Outcome)>) {
        let mut due = Vec::new();
        {
            let mut queue = self.0.lock();
            for (index, term, outcome) in outcomes {
                while let Some(front) = queue.front() {
                    if front.index > index {
                        break;
                    }
                    let Some(front) = queue.pop_front() else { break };
                    let ours = front.index == index && front.term == term;
                    match front.waiter {
                        Some(waiter) if ours => due.push((waiter, outcome)),
                        Some(waiter) => {
                            due.push((waiter, Err(leader_changed())));
                            continue;
                        }
                        None if !ours => continue,
                        None => {}
                    }
                    break;
                }
            }
        }
        trays.answer(due);
    }

    /// Takes out the waiters of proposals that are under way since before `cutoff`, with when each began. The proposals
    /// stay.
    pub(crate) fn overdue(&self, cutoff: Instant) -> Vec<(Waiter, Instant)> {
        let mut queue = self.0.lock();
        let late = queue.iter_mut().filter(|pending| pending.since < cutoff);
        late.filter_map(|pending| pending.waiter.take().map(|waiter| (waiter, pending.since))).collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Tells everybody the same.
    pub(crate) fn fail_all(&self, error: &ServeError) {
        for pending in self.0.lock().drain(..) {
            if let Some(waiter) = pending.waiter {
                waiter.answer(Err(error.clone()));
            }
        }
    }
}

fn leader_changed() -> ServeError {
    ServeError::other(tonic::Code::Unavailable, "etcdserver: leader changed")
}
