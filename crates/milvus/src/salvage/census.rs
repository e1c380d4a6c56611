//! Which rows stand in which segments of one partition.
//!
//! A census has all rows and deletes whose keys fall into one slice: what concerns a key is always in one slice, so slices are
//! counted one after the other, as many as memory demands, and their tallies are added. A partition of any size is counted
//! with the memory of its largest slice.

use std::collections::BTreeMap;

use super::{Choice, Key, KeySum};
use crate::limits::HOLDERS_MAX;

/// One part of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Which, from 0 on.
    pub nth: u64,
    /// Of how many; at least 1.
    pub of: u64,
}

impl Slice {
    /// All keys.
    pub const WHOLE: Slice = Slice { nth: 0, of: 1 };

    /// Whether a key falls into it.
    pub fn has(self, key: &Key) -> bool {
        self.of <= 1 || key.spread() % self.of == self.nth
    }
}

/// The same rows stand in so many sets of segments that no person and no plan could follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rows stand in more than {HOLDERS_MAX} different sets of segments")]
pub struct TooTangled;

/// The rows and deletes of one slice.
#[derive(Clone, Debug)]
pub struct Census {
    slice: Slice,
    rows: Vec<Row>,
    deletes: Vec<(Key, u64)>,
    sorted: bool,
}

/// One row as it stands in one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    key: Key,
    at: u64,
    segment: u32,
    place: u32,
}

/// What is known of all segments together: no single row any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that are alive, by the set of segments in which they stand.
    pub(super) alike: BTreeMap<Box<[u32]>, u64>,
    /// For each segment, rows that are deleted.
    pub(super) dead: Vec<u64>,
    /// For each segment, rows that stand in it more than once.
    pub(super) doubles: Vec<u64>,
}

impl Census {
    /// Nothing yet.
    pub fn new(slice: Slice) -> Census {
        Census { slice, rows: Vec::new(), deletes: Vec::new(), sorted: true }
    }

    /// A row at this place of this segment. What is of another slice is passed over.
    pub fn row(&mut self, segment: u32, place: u32, key: &Key, at: u64) {
        if self.slice.has(key) {
            self.rows.push(Row { key: key.clone(), at, segment, place });
            self.sorted = false;
        }
    }

    /// A delete of all rows of this key that are older.
    pub fn delete(&mut self, key: &Key, at: u64) {
        if self.slice.has(key) {
            self.deletes.push((key.clone(), at));
            self.sorted = false;
        }
    }

    /// Adds this slice to the tally of `segments` segments.
    ///
    /// # Errors
    /// [`TooTangled`].
    pub fn tally(&mut self, segments: usize, tally: &mut Tally) -> Result<(), TooTangled> {
        tally.dead.resize(segments, 0);
        tally.doubles.resize(segments, 0);
        let mut holders = Vec::new();
        for (alive, rows) in self.groups() {
            holders.clear();
            for row in rows {
                let segment = row.segment as usize;
                if !alive {
                    tally.dead[segment] += 1;
                } else if holders.last() == Some(&row.segment) {
                    tally.doubles[segment] += 1;
                } else {
                    holders.push(row.segment);
                }
            }
            if holders.is_empty() {
                continue;
            }
            let sets = tally.alike.len();
            match tally.alike.get_mut(&holders[..]) {
                Some(rows) => *rows += 1,
                None if sets >= HOLDERS_MAX => return Err(TooTangled),
                None => drop(tally.alike.insert(holders.as_slice().into(), 1)),
            }
        }
        Ok(())
    }

    /// Tells which rows are to be taken from where, each once; and the sum of their keys.
    pub fn kept(&mut self, choice: &Choice, mut keep: impl FnMut(u32, u32)) -> KeySum {
        let mut sum = KeySum::default();
        for (alive, rows) in self.groups() {
            if !alive {
                continue;
            }
            // The first in rank of those that have it; of a row that stands there twice, the first place.
            let taken =
                rows.iter().filter_map(|row| Some((choice.rank(row.segment)?, row))).min_by_key(|(rank, _)| *rank);
            if let Some((_, row)) = taken {
                keep(row.segment, row.place);
                sum.add(&row.key);
            }
        }
        sum
    }

    /// All rows, those of one key and time together, in the order of segments and places; and whether they are alive.
    fn groups(&mut self) -> impl Iterator<Item = (bool, &[Row])> {
        if !self.sorted {
            self.rows.sort_unstable();
            self.deletes.sort_unstable();
            // Of each key the newest delete is enough.
            self.deletes.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                if same {
                    kept.1 = kept.1.max(next.1);
                }
                same
            });
            self.sorted = true;
        }
        let mut deletes = self.deletes.iter().peekable();
        self.rows.chunk_by(|a, b| (&a.key, a.at) == (&b.key, b.at)).map(move |rows| {
            let row = &rows[0];
            while deletes.next_if(|(key, _)| *key < row.key).is_some() {}
            // An upsert is a delete and a row of the same time: the row stays.
            let deleted = deletes.peek().is_some_and(|(key, at)| *key == row.key && *at > row.at);
            (!deleted, rows)
        })
    }
}
