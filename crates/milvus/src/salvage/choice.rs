//! From which segment each row is taken.
//!
//! The segment with the most rows that are not taken yet comes first, again and again: what compaction wrote goes before what
//! it read, without anybody knowing which was which. Of equals, the one with fewer rows in its logs: deletes were carried out
//! there. Whatever the order is, a row is taken from the first that has it, and so exactly once.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::Tally;

/// An order of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    ranks: Vec<Option<u32>>,
    shares: Vec<Share>,
}

/// What one segment has to do with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Rows in it that are alive, each once.
    pub alive: u64,
    /// Of these, the ones that are taken from it.
    pub own: u64,
    /// Rows that are deleted.
    pub dead: u64,
    /// Rows that stand in it once more.
    pub doubles: u64,
    /// Of the rows that are taken from it, those that stand nowhere else.
    pub alone: u64,
    /// The segments from which its other rows are taken.
    pub elsewhere: BTreeSet<u32>,
}

impl Choice {
    /// Chooses among the segments of a tally; `rows` is how many each has in its logs.
    pub fn of(tally: &Tally, rows: &[u64]) -> Choice {
        let sets: Vec<(&[u32], u64)> = tally.alike.iter().map(|(holders, rows)| (&**holders, *rows)).collect();
        let mut sets_of: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
        let mut free = vec![0u64; rows.len()];
        for (set, (holders, count)) in sets.iter().enumerate() {
            for segment in *holders {
                sets_of[*segment as usize].push(set as u32);
                free[*segment as usize] += count;
            }
        }
        let mut shares: Vec<Share> = (0..rows.len())
            .map(|n| Share { alive: free[n], dead: tally.dead[n], doubles: tally.doubles[n], ..Share::default() })
            .collect();
        let place = |segment: usize, free: u64| (free, Reverse(rows[segment]), Reverse(segment));
        let mut heap: BinaryHeap<_> = (0..rows.len()).map(|segment| place(segment, free[segment])).collect();
        let (mut ranks, mut taken_by, mut next) = (vec![None; rows.len()], vec![None; sets.len()], 0);
        while let Some((was, _, Reverse(segment))) = heap.pop() {
            if was != free[segment] {
                // Others took some of its rows since: it waits for its new turn.
                heap.push(place(segment, free[segment]));
                continue;
            }
            if was == 0 {
                break;
            }
            ranks[segment] = Some(next);
            next += 1;
            for set in &sets_of[segment] {
                let (holders, count) = sets[*set as usize];
                if taken_by[*set as usize].is_some() {
                    continue;
                }
                taken_by[*set as usize] = Some(segment as u32);
                shares[segment].own += count;
                if holders.len() == 1 {
                    shares[segment].alone += count;
                }
                for holder in holders {
                    free[*holder as usize] -= count;
                }
            }
        }
        for (set, (holders, _)) in sets.iter().enumerate() {
            let Some(by) = taken_by[set] else { continue };
            for holder in holders.iter().filter(|holder| **holder != by) {
                shares[*holder as usize].elsewhere.insert(by);
            }
        }
        Choice { ranks, shares }
    }

    /// The place of a segment in the order; none: nothing is taken from it.
    pub fn rank(&self, segment: u32) -> Option<u32> {
        *self.ranks.get(segment as usize)?
    }

    /// What each segment has to do with the others.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// All rows that are taken.
    pub fn rows(&self) -> u64 {
        self.shares.iter().map(|share| share.own).sum()
    }
}
