//! What clients asked, what they were told, what watchers heard; and whether one store, doing one thing after the other, could
//! have said all of it.
//!
//! ```text
//! clients ──▶ Op (asked when, answered when, what)   ┐
//! watchers ─▶ Stream (every answer, in order)        ├─▶ check ──▶ verdict: the first thing that cannot be
//! members ──▶ final keys, digests                    ┘
//! ```
//! Four checks, each blind to what the next one sees:
//! - `watch`: each stream is ordered, unique, atomic, complete and resumable, and shows the right previous values; all streams tell
//!   one history, the [`Log`];
//! - `replay`: every answer is what the log says at the answer's revision, and revisions follow real time (strict
//!   serializability, by the store's own numbers);
//! - `linear`: for each key an order of operations exists that explains all values (Wing and Gong's search, which trusts no
//!   revision);
//! - `last`: the members end with the same keys and the same digest, which are those that the log leaves.
//!
//! Pure: no clock and no network. Keys and values are numbers here; `record` translates.

mod broken_tests;
mod last;
mod linear;
mod log;
pub mod names;
mod op;
pub mod record;
mod replay;
mod watch;

use anyhow::{Context, Result};

pub use last::End;
pub use log::{Event, Log, Pair};
pub use op::{Answer, Call, Effect, Key, Moment, Op, Outcome, Value};
pub use watch::{Heard, Response, Stream};

/// All that one run left behind.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every request, in any order.
    pub ops: Vec<Op>,
    /// Every watch, in any order.
    pub streams: Vec<Stream>,
    /// What each member holds at the end.
    pub ends: Vec<End>,
}

/// What a history was made of, once it is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Revisions of the log.
    pub revisions: usize,
    /// Requests that were answered.
    pub answered: usize,
    /// Requests whose fate is not known, and how many of them took place.
    pub unknown: (usize, usize),
    /// Events that watchers heard.
    pub heard: usize,
}

impl History {
    /// Each check by itself, as far as one can be made without those before it: how the checks themselves are tried.
    pub fn verdicts(&self) -> Vec<(&'static str, Result<()>)> {
        let mut watched = watch::check_each(&self.streams);
        let log = match Log::of(&self.streams) {
            Ok(log) => log,
            Err(error) => return vec![("watch", watched.and(Err(error)))],
        };
        watched = watched.and_then(|()| watch::check_against(&self.streams, &log));
        let replayed = replay::check(&self.ops, &log);
        let placed = replayed.as_ref().ok().cloned().unwrap_or_else(|| replay::Placed::by_answers(&self.ops, &log));
        let seen = log.first_seen(&self.streams, &self.ops);
        vec![
            ("watch", watched),
            ("replay", replayed.map(drop)),
            ("linearizability", linear::check(&self.ops, &placed, &seen)),
            ("at the end", last::check(&self.ends, &log)),
        ]
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that no store that keeps its promises could have said.
    pub fn check(&self) -> Result<Checked> {
        watch::check_each(&self.streams).context("watch")?;
        let log = Log::of(&self.streams).context("the watchers' histories")?;
        watch::check_against(&self.streams, &log).context("watch")?;
        let placed = replay::check(&self.ops, &log).context("replay")?;
        let seen = log.first_seen(&self.streams, &self.ops);
        linear::check(&self.ops, &placed, &seen).context("linearizability")?;
        last::check(&self.ends, &log).context("at the end")?;
        let fate = |wanted: fn(&Outcome) -> bool| self.ops.iter().filter(|op| wanted(&op.outcome)).count();
        let unknown = fate(|outcome| matches!(outcome, Outcome::Unknown));
        Ok(Checked {
            revisions: log.len(),
            answered: fate(|outcome| matches!(outcome, Outcome::Done(_))),
            unknown: (unknown, placed.unknown_that_happened()),
            heard: self.streams.iter().flat_map(|stream| &stream.responses).map(|response| response.events.len()).sum(),
        })
    }
}
