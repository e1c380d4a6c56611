//! Compaction: the command only moves the line below which nothing is readable; this walks behind it in short steps.
//!
//! ```text
//! Compact{C} ─► scheduled = C ─► step, step, step … over the index in key order ─► finished = C
//! ```
//! One walk serves one target. A newer target that arrives meanwhile gets its own walk afterwards, so that a store
//! that is compacted all the time still finishes.

use bytes::Bytes;

use crate::halt::Halt;
use crate::ids::{Position, Revision};
use crate::record::{META_COMPACT_FINISHED, revision_bytes};
use crate::state::State;
use crate::tables::{Bucket, Change, TableOp, Tables};

/// How far compaction is.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    scheduled: Option<Revision>,
    finished: Option<Revision>,
    walk: Option<Walk>,
}

#[derive(Debug)]
struct Walk {
    target: Revision,
    /// The first key that was not visited.
    cursor: Option<Box<[u8]>>,
}

/// What one step of compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records dropped in this step.
    pub dropped: usize,
    /// Everything below this revision is dropped now: the walk ended with this step.
    pub finished: Option<Revision>,
    /// There is more to do.
    pub more: bool,
}

impl Compaction {
    pub(crate) fn resume(scheduled: Option<Revision>, finished: Option<Revision>) -> Self {
        let mut compaction = Self { scheduled: scheduled.max(finished), finished, walk: None };
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
            self.walk = self.scheduled.map(|target| Walk { target, cursor: None });
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

    /// Drops old records of about `keys_max` keys (and at most that many records). Changes nothing that a reader
    /// may see: what goes is below [`State::compacted`] already.
    ///
    /// # Errors
    /// [`Halt`] when the tables can no longer be written.
    pub fn compaction_step(&mut self, keys_max: usize) -> Result<Progress, Halt> {
        let Some(walk) = &mut self.compaction.walk else { return Ok(Progress::default()) };
        let target = walk.target;
        let mut dropped = Vec::new();
        walk.cursor = self.index.compact(target.0, walk.cursor.as_deref(), keys_max.max(1), &mut dropped);
        let done = walk.cursor.is_none();
        let mut change = Change::default();
        let drops = dropped.iter();
        change.ops.extend(drops.map(|mark| TableOp::DropRecord { at: mark.position(), tombstone: mark.tombstone }));
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
        let finished = done.then_some(target);
        Ok(Progress { dropped: dropped.len(), finished, more: self.compaction_pending() })
    }
}
