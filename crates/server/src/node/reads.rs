//! Linearizable reads on this member: who waits, in the inbox, and the question that is asked for them.

use std::time::{Duration, Instant};

use eyrie_raft::{Due, Group, Questions};

use super::inbox::Inbox;
use crate::completions::{Trays, Waiter};
use crate::errors::ServeError;

/// What a reader waits for: the index that it must see, or why nobody named one.
pub(crate) type Named = Result<u64, ServeError>;
/// Somebody who reads.
pub(crate) type Reader = Waiter<Named>;

/// See the module.
pub(super) struct Reads {
    questions: Questions<Reader>,
    begun: Instant,
}

impl Default for Reads {
    fn default() -> Self {
        Self { questions: Questions::default(), begun: Instant::now() }
    }
}

impl Reads {
    /// How long the thread may sleep for all that readers care. The inbox wakes it when enough of them are there.
    pub(super) fn patience(&self, inbox: &Inbox) -> Duration {
        let due = self.questions.due(self.begun.elapsed());
        match due {
            // What else it sleeps for is sooner than a question is given up.
            Due::NotYet => {
                inbox.await_readers(None);
                Duration::MAX
            }
            Due::Now => Duration::ZERO,
            Due::For(_) | Due::ForOrAfter(..) if inbox.await_readers(due.enough()) => Duration::ZERO,
            Due::For(_) => Duration::MAX,
            Due::ForOrAfter(_, rest) => rest,
        }
    }

    /// Asks for all that wait, if it is time. Returns for how many a question was given up.
    pub(super) fn ask(&mut self, group: &mut Group, inbox: &Inbox) -> usize {
        let now = self.begun.elapsed();
        let given_up = self.questions.give_up(now);
        let due = self.questions.due(now);
        if inbox.await_readers(due.enough()) {
            self.questions.ask(group, inbox.take_readers(), |reader| !reader.is_gone(), now);
        }
        given_up
    }

    /// Raft has named an index.
    pub(super) fn answer(&mut self, trays: &Trays<Named>, context: u64, index: u64) {
        let readers = self.questions.answered(context, self.begun.elapsed());
        if !readers.is_empty() {
            trays.answer(readers.into_iter().map(|reader| (reader, Ok(index))));
        }
    }

    /// The leader changed: who asked the old one asks the new one.
    pub(super) fn ask_anew(&mut self) {
        self.questions.ask_anew();
    }
}
