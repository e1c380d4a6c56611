//! One request of one client.

use super::log::Pair;

/// Nanoseconds since the run began, on the one clock of the process that asks.
pub type Moment = u64;

/// A key of the test, by number.
pub type Key = u16;

/// A value of the test, by number. No value is ever written twice.
pub type Value = u64;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Several keys in one revision: new values, or `None` to delete.
    Write(Vec<(Key, Option<Value>)>),
    /// A write of one key if its last change is this one (0: if it is not there). The value that the client had seen there
    /// stands beside it.
    Swap {
        /// Which key.
        key: Key,
        /// The revision that the client had seen.
        modified: i64,
        /// The value that it had seen.
        saw: Option<Value>,
        /// What to write.
        to: Option<Value>,
    },
    /// The pair of one key.
    Read(Key),
    /// All pairs.
    ReadAll,
    /// All pairs as of a revision.
    ReadAllAt(i64),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Done(Answer),
    /// No answer, or one that leaves it open.
    Unknown,
    /// The store said for certain that it did nothing.
    Refused(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The revision in its header.
    pub revision: i64,
    /// It wrote: a delete found its key, a swap its revision.
    pub wrote: bool,
    /// What it read.
    pub pairs: Vec<Pair>,
}

/// A request and its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Who asked, for messages.
    pub client: usize,
    /// What.
    pub call: Call,
    /// The member may answer from what it has, however old that is.
    pub serializable: bool,
    /// When it was asked.
    pub asked: Moment,
    /// When the answer was there; when the client gave up, for [`Outcome::Unknown`].
    pub answered: Moment,
    /// Its fate.
    pub outcome: Outcome,
}

/// What a request does to the keys, if it does anything.
pub type Effect = Vec<(Key, Option<Value>)>;

impl Op {
    /// What it would do.
    pub fn effect(&self) -> Effect {
        match &self.call {
            Call::Write(changes) => changes.clone(),
            Call::Swap { key, to, .. } => vec![(*key, *to)],
            Call::Read(_) | Call::ReadAll | Call::ReadAllAt(_) => vec![],
        }
    }

    /// It only reads.
    pub fn only_reads(&self) -> bool {
        self.effect().is_empty()
    }

    /// Its answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        if let Outcome::Done(answer) = &self.outcome { Some(answer) } else { None }
    }

    /// A line for people.
    pub fn told(&self) -> String {
        let (from, to) = (self.asked as f64 / 1e6, self.answered as f64 / 1e6);
        let how = if self.serializable { " (serializable)" } else { "" };
        format!("client {} at {from:.3}..{to:.3} ms: {:?}{how} -> {:?}", self.client, self.call, self.outcome)
    }
}
