//! Linearizable reads that wait for raft to name their index: one question for all that gathered.

use std::time::Instant;

use eyrie_raft::Group;

use crate::completions::{Trays, Waiter};
use crate::errors::ServeError;
use crate::limits::READ_INDEX_RETRY;

/// What a reader waits for: the index that it must see, or why nobody named one.
pub(crate) type Named = Result<u64, ServeError>;
/// Somebody who reads.
pub(crate) type Reader = Waiter<Named>;

/// Those who came while a question was under way wait for the next: its answer must not be older than they are.
#[derive(Default)]
pub(super) struct Reads {
    gathered: Vec<Reader>,
    asked: Option<Asked>,
    next: u64,
}

struct Asked {
    context: u64,
    at: Instant,
    readers: Vec<Reader>,
}

impl Reads {
    pub(super) fn add(&mut self, reader: Reader) {
        self.gathered.push(reader);
    }

    /// Asks for all that wait, if no question is under way. A question without an answer is asked anew: raft drops it when
    /// no leader is known, or when the leader is too new to know. Returns how many were.
    pub(super) fn ask(&mut self, group: &mut Group, now: Instant) -> usize {
        let mut again = 0;
        if self.asked.as_ref().is_some_and(|asked| now.duration_since(asked.at) >= READ_INDEX_RETRY)
            && let Some(asked) = self.asked.take()
        {
            again = asked.readers.len();
            self.gathered.extend(asked.readers);
        }
        if self.asked.is_some() || self.gathered.is_empty() {
            return again;
        }
        self.gathered.retain(|reader| !reader.is_gone());
        if self.gathered.is_empty() {
            return again;
        }
        self.next += 1;
        group.read_index(self.next);
        self.asked = Some(Asked { context: self.next, at: now, readers: std::mem::take(&mut self.gathered) });
        again
    }

    /// Raft has named an index. Answers to older questions are nobody's.
    pub(super) fn answer(&mut self, trays: &Trays<Named>, context: u64, index: u64) {
        if self.asked.as_ref().is_some_and(|asked| asked.context == context)
            && let Some(asked) = self.asked.take()
        {
            trays.answer(asked.readers.into_iter().map(|reader| (reader, Ok(index))));
        }
    }

    /// Somebody waits.
    pub(super) fn any(&self) -> bool {
        self.asked.is_some() || !self.gathered.is_empty()
    }

    /// The leader changed: who asks now asks the new one.
    pub(super) fn ask_anew(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.gathered.extend(asked.readers);
        }
    }
}
