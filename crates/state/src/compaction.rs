//! Compaction: the command only moves the line below which nothing is readable; this walks behind it in short steps.
//!
//! ```text
//! Compact{C} ─► scheduled = C ─► step, step, step … ─► finished = C
//!               a step: the index, in key order ─► positions to drop ─► the tables, in their order
//! ```
//! Between index and tables the positions wait until many are there. Keys lie scattered over history: dropped in key
//! order, a few hundred records would touch as many pages of the tables; in the tables' order they are neighbours.
//! Records that wait are as good as gone; after a restart the walk begins again and finds them.
//!
//! One walk serves one target. A newer target that arrives meanwhile gets its own walk afterwards, so that a store
//! that is compacted all the time still finishes.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::halt::Halt;
use crate::ids::{Position, Revision};
use crate::record::{META_COMPACT_FINISHED, revision_bytes};
use crate::state::State;
use crate::tables::{Bucket, Change, TableOp, Tables};

/// How far compaction is.
#[derive(Debug)]
pub(crate) struct Compaction {
    scheduled: Option<Revision>,
    finished: Option<Revision>,
    walk: Option<Walk>,
    gathered_max: usize,
}

#[derive(Debug)]
struct Walk {
    target: Revision,
    /// The first key that was not visited.
    cursor: Option<Box<[u8]>>,
    /// Every key was visited.
    visited: bool,
    /// What the index has forgotten and the tables still hold, with whether it is a tombstone.
    gathered: BTreeMap<Position, bool>,
    /// All that is gathered goes to the tables before the walk goes on.
    emptying: bool,
}

impl Walk {
    fn new(target: Revision) -> Self {
        Self { target, cursor: None, visited: false, gathered: BTreeMap::new(), emptying: false }
    }

    /// Everything is visited and dropped.
    fn is_done(&self) -> bool {
        self.visited && self.gathered.is_empty()
    }
}

/// Records that are gathered before the tables drop them: enough that they lie close together (of ten million records
/// every twentieth), and no more than some 30 MiB of memory.
const DROPS_GATHERED_MAX: usize = 1 << 19;
/// Drops that a step makes for every key that it may visit: they cost less, being neighbours.
const DROPS_PER_KEY: usize = 2;

/// What one step of compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records that the tables drop by this step.
    pub dropped: usize,
    /// Everything below this revision is dropped now: the walk ended with this step.
    pub finished: Option<Revision>,
    /// There is more to do.
    pub more: bool,
}

impl Compaction {
    pub(crate) fn resume(scheduled: Option<Revision>, finished: Option<Revision>) -> Self {
        let mut compaction =
            Self { scheduled: scheduled.max(finished), finished, walk: None, gathered_max: DROPS_GATHERED_MAX };
        compaction.next_walk();
        compaction
    }

    pub(crate) fn compacted(&self) -> Option<Revision> {
        self.scheduled
    }

    pub(crate) fn schedule(&mut self, revision: Revision) {
        self.scheduled = Some(revision);
        self.next_walk();
    }

    fn next_walk(&mut self) {
        if self.walk.is_none() && self.scheduled > self.finished {
            self.walk = self.scheduled.map(Walk::new);
        }
    }
}

impl<T: Tables> State<T> {
    /// A compaction is under way: [`State::compaction_step`] has work.
    pub fn compaction_pending(&self) -> bool {
        self.compaction.walk.is_some()
    }

    /// The last compaction that dropped all it had to; `None` when there was none.
    pub fn compaction_finished(&self) -> Option<Revision> {
        self.compaction.finished
    }

    /// Forgets old records of about `keys_max` keys (and at most that many records), or lets the tables drop a few times
    /// as many that were forgotten. Changes nothing that a reader may see: what goes is below [`State::compacted`] already.
    ///
    /// # Errors
    /// [`Halt`] when the tables can no longer be written.
    pub fn compaction_step(&mut self, keys_max: usize) -> Result<Progress, Halt> {
        let Some(walk) = &mut self.compaction.walk else { return Ok(Progress::default()) };
        let target = walk.target;
        let (keys_max, gathered_max) = (keys_max.max(1), self.compaction.gathered_max);
        if !walk.emptying {
            let mut forgotten = Vec::new();
            walk.cursor = self.index.compact(target.0, walk.cursor.as_deref(), keys_max, &mut forgotten);
            walk.visited = walk.cursor.is_none();
            walk.gathered.extend(forgotten.iter().map(|mark| (mark.position(), mark.tombstone)));
            walk.emptying = walk.visited || walk.gathered.len() >= gathered_max;
        }
        let mut change = Change::default();
        if walk.emptying {
            let next = || walk.gathered.pop_first().map(|(at, tombstone)| TableOp::DropRecord { at, tombstone });
            change.ops.extend(std::iter::from_fn(next).take(keys_max.saturating_mul(DROPS_PER_KEY)));
            walk.emptying = walk.visited || !walk.gathered.is_empty();
        }
        let (dropped, done) = (change.ops.len(), walk.is_done());
        if done {
            let value = revision_bytes(Position::start_of(target));
            change.ops.push(TableOp::Put {
                bucket: Bucket::Meta,
                key: Bytes::from_static(META_COMPACT_FINISHED),
                value: Bytes::copy_from_slice(&value),
            });
            self.compaction.finished = Some(target);
            self.compaction.walk = None;
            self.compaction.next_walk();
        }
        if !change.ops.is_empty() {
            self.tables.stage(change)?;
        }
        Ok(Progress { dropped, finished: done.then_some(target), more: self.compaction_pending() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Put};
    use crate::ids::{LogIndex, Term};
    use crate::tables::{MemTables, Records};

    /// The positions that the tables hold.
    fn held(state: &State<MemTables>) -> Vec<i64> {
        let mut held = Vec::new();
        let mut visit = |at: Position, _, _: &Bytes| {
            held.push(at.main);
            true
        };
        state.tables().records().scan(Position::default(), Position { main: i64::MAX, sub: 0 }, &mut visit).unwrap();
        held
    }

    #[test]
    fn drops_are_gathered_and_made_in_the_order_of_revisions() {
        let mut state = State::open(MemTables::default()).unwrap();
        // Four keys, each with five revisions that lie four apart.
        for n in 1..=20_u64 {
            let put = Put { key: format!("k{}", n % 4).into(), ..Put::default() };
            state.apply(LogIndex(n), Term(1), Command::Put(put)).unwrap();
        }
        state.apply(LogIndex(21), Term(1), Command::Compact { revision: Revision(21) }).unwrap();
        state.compaction.gathered_max = 6;

        // Two steps gather four drops of k0 and three of k1: enough. The lowest go first, and all go before any more are
        // gathered.
        assert_eq!(state.compaction_step(4).unwrap().dropped, 0);
        assert_eq!(held(&state).len(), 20);
        assert_eq!(state.compaction_step(3).unwrap(), Progress { dropped: 6, finished: None, more: true });
        assert_eq!(held(&state), [3, 4, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21]);
        assert_eq!(state.compaction_step(1).unwrap(), Progress { dropped: 1, finished: None, more: true });
        assert_eq!(held(&state), [3, 4, 7, 8, 11, 12, 14, 15, 16, 18, 19, 20, 21]);
        let mut dropped = 7;
        loop {
            let progress = state.compaction_step(4).unwrap();
            dropped += progress.dropped;
            if !progress.more {
                assert_eq!(progress.finished, Some(Revision(21)));
                break;
            }
        }
        assert_eq!((dropped, held(&state)), (16, vec![18, 19, 20, 21]));
    }
}
