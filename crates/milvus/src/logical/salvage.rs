//! Rows out of a bucket whose metadata is gone: which segments hold them, and which were left behind by compaction.
//!
//! A row is known by its key and its time: the same pair is the same row, wherever it stands. Compaction writes the rows
//! of old segments, less those that were deleted, into a new one, whose id is higher; the old ones stay until garbage
//! collection. So a segment whose every row stands in newer ones, or is deleted by its own deletes, was left behind, and
//! to import it too would bring rows twice. All of this is certain, as far as every log was read.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::SegmentId;

/// A primary key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A number.
    Number(i64),
    /// A text.
    Text(Vec<u8>),
}

/// What the logs of one segment hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentRows {
    /// Keys and hybrid times of its rows.
    pub rows: Vec<(Key, i64)>,
    /// Keys and hybrid times of its deletes.
    pub deletes: Vec<(Key, i64)>,
}

impl SegmentRows {
    /// The rows that its own deletes leave: a delete counts for rows that are older.
    pub fn left(&self) -> impl Iterator<Item = &(Key, i64)> {
        let mut newest: BTreeMap<&Key, i64> = BTreeMap::new();
        for (key, at) in &self.deletes {
            let newest = newest.entry(key).or_insert(*at);
            *newest = (*newest).max(*at);
        }
        self.rows.iter().filter(move |(key, at)| newest.get(key).is_none_or(|deleted| at >= deleted))
    }
}

/// What a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds rows that stand nowhere else: so many.
    Live(u64),
    /// All its rows stand in these newer segments, or are deleted.
    LeftBehind(Vec<SegmentId>),
    /// All its rows are deleted.
    Emptied,
    /// Some of its rows stand in newer segments, and some nowhere else: no compaction leaves this. Not to be imported before
    /// somebody has looked at it.
    Doubtful {
        /// Rows that stand in newer segments too.
        shared: u64,
        /// Rows that stand nowhere else.
        alone: u64,
    },
}

/// Tells for each segment of a collection what it is.
pub fn standing(segments: &BTreeMap<SegmentId, SegmentRows>) -> BTreeMap<SegmentId, Standing> {
    let mut held: BTreeMap<&(Key, i64), SegmentId> = BTreeMap::new();
    let mut told = BTreeMap::new();
    // Newest first: what is newer replaced what is older, never the other way.
    for (id, segment) in segments.iter().rev() {
        let left: Vec<&(Key, i64)> = segment.left().collect();
        let holders: BTreeSet<SegmentId> = left.iter().filter_map(|row| held.get(*row).copied()).collect();
        let shared = left.iter().filter(|row| held.contains_key(**row)).count() as u64;
        let alone = left.len() as u64 - shared;
        let standing = match (shared, alone) {
            (0, 0) => Standing::Emptied,
            (_, 0) => Standing::LeftBehind(holders.into_iter().collect()),
            (0, alone) => Standing::Live(alone),
            (shared, alone) => Standing::Doubtful { shared, alone },
        };
        // Deletes may have come to the newer segment after the older one was replaced: its rows count as held with them.
        held.extend(segment.rows.iter().map(|row| (row, *id)));
        told.insert(*id, standing);
    }
    told
}

/// Reads one delete, in either of the forms that Milvus wrote: `key,time`, or JSON with `pk` and `ts`.
pub fn delete(text: &[u8], keys_are_texts: bool) -> Option<(Key, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let at = value.get("ts")?.as_u64()?.cast_signed();
        return Some(match value.get("pk")? {
            serde_json::Value::Number(key) => (Key::Number(key.as_i64()?), at),
            serde_json::Value::String(key) => (Key::Text(key.as_bytes().to_vec()), at),
            _ => return None,
        });
    }
    let (key, at) = text.rsplit_once(',')?;
    let at = at.parse::<u64>().ok()?.cast_signed();
    Some(match keys_are_texts {
        true => (Key::Text(key.as_bytes().to_vec()), at),
        false => (Key::Number(key.parse().ok()?), at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(rows: &[(i64, i64)], deletes: &[(i64, i64)]) -> SegmentRows {
        let pairs = |pairs: &[(i64, i64)]| pairs.iter().map(|(key, at)| (Key::Number(*key), *at)).collect();
        SegmentRows { rows: pairs(rows), deletes: pairs(deletes) }
    }

    fn judge(segments: &[(i64, SegmentRows)]) -> Vec<Standing> {
        let segments = segments.iter().map(|(id, rows)| (SegmentId(*id), rows.clone())).collect();
        standing(&segments).into_values().collect()
    }

    #[test]
    fn a_hundred_rows_never_become_two_hundred() {
        let old = segment(&[(1, 10), (2, 10), (3, 10)], &[(2, 20)]);
        let other = segment(&[(4, 11)], &[]);
        let merged = segment(&[(1, 10), (3, 10), (4, 11)], &[(3, 30)]);
        let fresh = segment(&[(2, 40)], &[]);
        let told = judge(&[(1, old), (2, other), (3, merged), (4, fresh)]);
        let three = vec![SegmentId(3)];
        let expected =
            [Standing::LeftBehind(three.clone()), Standing::LeftBehind(three), Standing::Live(2), Standing::Live(1)];
        assert_eq!(told, expected);
    }

    #[test]
    fn rows_written_again_are_other_rows() {
        let told = judge(&[(1, segment(&[(1, 10)], &[(1, 20)])), (2, segment(&[(1, 20)], &[]))]);
        assert_eq!(told, [Standing::Emptied, Standing::Live(1)]);
    }

    #[test]
    fn what_no_compaction_leaves_is_doubtful() {
        let told = judge(&[(1, segment(&[(1, 10), (2, 10)], &[])), (2, segment(&[(1, 10)], &[]))]);
        assert_eq!(told, [Standing::Doubtful { shared: 1, alone: 1 }, Standing::Live(1)]);
    }

    #[test]
    fn deletes_are_read_in_both_forms() {
        assert_eq!(delete(b"7,99", false), Some((Key::Number(7), 99)));
        assert_eq!(delete(b"a,b,99", true), Some((Key::Text(b"a,b".to_vec()), 99)));
        assert_eq!(delete(br#"{"pk":7,"ts":99,"pkType":5}"#, false), Some((Key::Number(7), 99)));
        assert_eq!(delete(br#"{"pk":"k","ts":99,"pkType":21}"#, true), Some((Key::Text(b"k".to_vec()), 99)));
        for bad in [&b"7"[..], b"x,9", b"{}", b"\xff,1", b""] {
            assert_eq!(delete(bad, false), None);
        }
    }
}
