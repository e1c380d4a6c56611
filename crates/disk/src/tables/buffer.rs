//! Changes that are staged and not yet committed: appended in order, readable at once up to a mark.
//!
//! A [`Mark`] is a length: who holds one sees exactly what was staged before it was taken, while more is appended.
//! Knows no file.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use eyrie_state::{Bucket, LogIndex, Position, TableOp, Term};
use parking_lot::{RwLock, RwLockReadGuard};

/// What one staged step costs beside its bytes: a rough bound on the nodes and handles that hold it.
const STEP_BYTES: usize = 96;

/// A record of history.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) at: Position,
    pub(super) tombstone: bool,
    pub(super) record: Bytes,
}

/// How much of a buffer one sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    records: usize,
    drops: u32,
    small: u32,
}

/// What a buffer knows of a position.
pub(super) enum Found {
    Record(Staged),
    Dropped,
    Unknown,
}

/// One buffer. Only its end changes.
#[derive(Debug, Default)]
pub(super) struct Buffer(RwLock<Steps>);

/// What a small key was set to (`None`: deleted), with the number of the step.
pub(super) type Value = (u32, Option<Bytes>);

/// The steps of a buffer.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Ascending.
    pub(super) records: Vec<Staged>,
    /// Dropped positions with the number of their drop.
    pub(super) drops: BTreeMap<Position, u32>,
    /// Values of small keys, each with the number of its step; the last one counts.
    pub(super) small: BTreeMap<(Bucket, Bytes), Vec<Value>>,
    /// Position after the last change that had one.
    pub(super) applied: Option<(LogIndex, Term)>,
    mark: Mark,
    bytes: usize,
}

impl Buffer {
    /// Appends all steps of a change; returns the new mark and the bytes held.
    pub(super) fn push(&self, ops: Vec<TableOp>, applied: Option<(LogIndex, Term)>) -> (Mark, usize) {
        let mut steps = self.0.write();
        for op in ops {
            steps.push(op);
        }
        steps.applied = applied.or(steps.applied);
        (steps.mark, steps.bytes)
    }

    /// All steps: for a buffer that takes no more.
    pub(super) fn steps(&self) -> RwLockReadGuard<'_, Steps> {
        self.0.read()
    }

    /// The mark that sees all.
    pub(super) fn mark(&self) -> Mark {
        self.0.read().mark
    }

    pub(super) fn find(&self, at: Position, mark: Mark) -> Found {
        if mark == Mark::default() {
            return Found::Unknown;
        }
        let steps = self.0.read();
        if !steps.drops.is_empty() && steps.drops.get(&at).is_some_and(|n| *n < mark.drops) {
            return Found::Dropped;
        }
        let seen = &steps.records[..mark.records];
        if seen.first().is_none_or(|first| at < first.at) {
            return Found::Unknown;
        }
        match seen.binary_search_by_key(&at, |r| r.at) {
            Ok(i) => Found::Record(seen[i].clone()),
            Err(_) => Found::Unknown,
        }
    }

    /// Adds the positions in `from..to` that are dropped as of `mark`.
    pub(super) fn drops_into(&self, from: Position, to: Position, mark: Mark, out: &mut BTreeSet<Position>) {
        if mark.drops > 0 && from < to {
            let steps = self.0.read();
            out.extend(steps.drops.range(from..to).filter(|(_, n)| **n < mark.drops).map(|(at, _)| *at));
        }
    }

    /// Up to `limit` records in order, from `from` (inclusive or not) to before `to`.
    pub(super) fn records(&self, from: Bound<Position>, to: Position, mark: Mark, limit: usize) -> Vec<Staged> {
        if mark.records == 0 {
            return Vec::new();
        }
        let steps = self.0.read();
        let seen = &steps.records[..mark.records];
        let first = match from {
            Bound::Included(from) => seen.partition_point(|r| r.at < from),
            Bound::Excluded(from) => seen.partition_point(|r| r.at <= from),
            Bound::Unbounded => 0,
        };
        seen[first..].iter().take_while(|r| r.at < to).take(limit).cloned().collect()
    }

    /// Lays the small keys of a bucket, as of `mark`, over `out`.
    pub(super) fn small_into(&self, bucket: Bucket, mark: Mark, out: &mut BTreeMap<Bytes, Option<Bytes>>) {
        if mark.small == 0 {
            return;
        }
        let steps = self.0.read();
        for ((_, key), values) in steps.small.range((bucket, Bytes::new())..).take_while(|((b, _), _)| *b == bucket) {
            if let Some((_, value)) = values.iter().rev().find(|(n, _)| *n < mark.small) {
                out.insert(key.clone(), value.clone());
            }
        }
    }
}

impl Steps {
    fn push(&mut self, op: TableOp) {
        self.bytes += STEP_BYTES;
        match op {
            TableOp::PutRecord { at, tombstone, record } => {
                self.bytes += record.len();
                self.records.push(Staged { at, tombstone, record });
                self.mark.records += 1;
            }
            TableOp::DropRecord { at, .. } => {
                self.drops.entry(at).or_insert(self.mark.drops);
                self.mark.drops += 1;
            }
            TableOp::Put { bucket, key, value } => {
                self.bytes += key.len() + value.len();
                self.put_small(bucket, key, Some(value));
            }
            TableOp::Delete { bucket, key } => {
                self.bytes += key.len();
                self.put_small(bucket, key, None);
            }
        }
    }

    fn put_small(&mut self, bucket: Bucket, key: Bytes, value: Option<Bytes>) {
        let step = self.mark.small;
        self.small.entry((bucket, key)).or_default().push((step, value));
        self.mark.small += 1;
    }
}
