//! Proposals on their way through the log: who waits for which index.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::inbox::{Outcome, Waiter};
use crate::errors::ServeError;

struct Pending {
    index: u64,
    term: u64,
    waiter: Waiter,
}

/// Waiters in the order of their indexes.
#[derive(Default)]
pub(crate) struct PendingProposals(Mutex<VecDeque<Pending>>);

impl PendingProposals {
    /// Remembers a batch whose first entry stands at `first`.
    pub(crate) fn add(&self, first: u64, term: u64, waiters: Vec<Waiter>) {
        let mut queue = self.0.lock();
        debug_assert!(queue.back().is_none_or(|last| last.index < first));
        queue.extend((first..).zip(waiters).map(|(index, waiter)| Pending { index, term, waiter }));
    }

    /// Answers the waiters of applied entries, given in order of index. A waiter whose entry was replaced by another
    /// leader's learns that its outcome is not known.
    pub(crate) fn answer(&self, outcomes: impl IntoIterator<Item = (u64, u64, Outcome)>) {
        let mut due = Vec::new();
        {
            let mut queue = self.0.lock();
            for (index, term, outcome) in outcomes {
                while let Some(front) = queue.front() {
                    if front.index > index {
                        break;
                    }
                    let Some(front) = queue.pop_front() else { break };
                    if front.index == index && front.term == term {
                        due.push((front.waiter, outcome));
                        break;
                    }
                    due.push((front.waiter, Err(leader_changed())));
                }
            }
        }
        for (waiter, outcome) in due {
            // A client that went away does not want its answer.
            let _ = waiter.send(outcome);
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Tells everybody the same.
    pub(crate) fn fail_all(&self, error: &ServeError) {
        for pending in self.0.lock().drain(..) {
            let _ = pending.waiter.send(Err(error.clone()));
        }
    }
}

fn leader_changed() -> ServeError {
    ServeError::other(tonic::Code::Unavailable, "etcdserver: leader changed")
}
