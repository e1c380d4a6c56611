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

#[cfg(test)]
mod tests {
    use super::super::{Census, Key, KeySum, Slice};
    use super::*;

    /// Rows by key and time, and deletes, of one segment.
    #[derive(Clone, Default)]
    struct Segment {
        rows: Vec<(i64, u64)>,
        deletes: Vec<(i64, u64)>,
    }

    fn segment(rows: &[(i64, u64)], deletes: &[(i64, u64)]) -> Segment {
        Segment { rows: rows.to_vec(), deletes: deletes.to_vec() }
    }

    fn census(segments: &[Segment], slice: Slice) -> Census {
        let mut census = Census::new(slice);
        for (n, segment) in segments.iter().enumerate() {
            for (place, (key, at)) in segment.rows.iter().enumerate() {
                census.row(n as u32, place as u32, &Key::Number(*key), *at);
            }
            segment.deletes.iter().for_each(|(key, at)| census.delete(&Key::Number(*key), *at));
        }
        census
    }

    /// The choice, and what is taken: segment, key, time.
    fn choose(segments: &[Segment], of: u64) -> (Choice, Vec<(u32, i64, u64)>) {
        let mut tally = Tally::default();
        for nth in 0..of {
            census(segments, Slice { nth, of }).tally(segments.len(), &mut tally).unwrap();
        }
        let rows: Vec<u64> = segments.iter().map(|segment| segment.rows.len() as u64).collect();
        let choice = Choice::of(&tally, &rows);
        let (mut taken, mut sum) = (Vec::new(), KeySum::default());
        for nth in 0..of {
            sum.and(census(segments, Slice { nth, of }).kept(&choice, |segment, place| {
                let (key, at) = segments[segment as usize].rows[place as usize];
                taken.push((segment, key, at));
            }));
        }
        taken.sort_unstable();
        let mut again = KeySum::default();
        taken.iter().for_each(|(_, key, _)| again.add(&Key::Number(*key)));
        assert_eq!(sum, again);
        assert_eq!(choice.rows(), taken.len() as u64);
        (choice, taken)
    }

    fn by(segments: &[u32]) -> BTreeSet<u32> {
        segments.iter().copied().collect()
    }

    /// Whatever the ids are: on a real Milvus an output may have a lower one than its inputs.
    #[test]
    fn a_hundred_rows_never_become_two_hundred() {
        let old = segment(&[(1, 10), (2, 10), (3, 10)], &[(2, 20)]);
        let other = segment(&[(4, 11)], &[]);
        let merged = segment(&[(1, 10), (3, 10), (4, 11)], &[(3, 30)]);
        let fresh = segment(&[(2, 40)], &[]);
        for at in 0..4 {
            let mut all = vec![old.clone(), other.clone(), fresh.clone()];
            all.insert(at, merged.clone());
            let (choice, taken) = choose(&all, 1);
            let rows: Vec<_> = taken.iter().map(|(_, key, at)| (*key, *at)).collect();
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [(1, 10), (2, 40), (4, 11)]);
            let share = &choice.shares()[at];
            assert_eq!((share.alive, share.own, share.dead, share.alone), (2, 2, 1, 0));
            let left: Vec<_> = (0..4).filter(|n| choice.rank(*n as u32).is_none()).collect();
            assert_eq!(left.len(), 2, "the inputs give nothing");
            assert!(left.iter().all(|n| choice.shares()[*n].elsewhere == by(&[at as u32])));
        }
    }

    #[test]
    fn an_upsert_keeps_its_row_and_a_later_insert_lives() {
        // Deleted and written at the same time; deleted, and written again later; deleted before it was written.
        let all =
            [segment(&[(1, 10), (1, 20), (2, 10), (2, 31)], &[(1, 20), (2, 30), (9, 5)]), segment(&[(9, 6)], &[])];
        let (_, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 1, 20), (0, 2, 31), (1, 9, 6)]);
    }

    #[test]
    fn a_delete_anywhere_holds_for_every_segment() {
        let all = [segment(&[(1, 10), (2, 10)], &[]), segment(&[], &[(1, 30)])];
        let (choice, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 2, 10)]);
        assert_eq!((choice.shares()[0].dead, choice.rank(1)), (1, None));
    }

    #[test]
    fn what_overlaps_in_part_is_taken_in_part() {
        let all = [segment(&[(1, 10), (2, 10), (3, 10)], &[]), segment(&[(3, 10), (4, 10)], &[])];
        let (choice, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 1, 10), (0, 2, 10), (0, 3, 10), (1, 4, 10)]);
        let share = &choice.shares()[1];
        assert_eq!((share.alive, share.own, share.alone, share.elsewhere.clone()), (2, 1, 1, by(&[0])));
    }

    #[test]
    fn a_row_that_stands_twice_in_one_segment_is_one() {
        let all = [segment(&[(1, 10), (1, 10), (1, 11)], &[])];
        let (choice, taken) = choose(&all, 1);
        assert_eq!(taken, [(0, 1, 10), (0, 1, 11)]);
        assert_eq!(choice.shares()[0].doubles, 1);
    }

    #[test]
    fn keys_at_the_ends_of_what_there_is() {
        let all = [segment(&[(i64::MIN, u64::MAX), (i64::MAX, 0)], &[(i64::MAX, u64::MAX), (i64::MIN, u64::MAX)])];
        assert_eq!(choose(&all, 3).1, [(0, i64::MIN, u64::MAX)]);
    }

    proptest::proptest! {
        /// Rows are inserted, upserted, deleted, merged, split and cleaned at random, inputs stay: each living row comes once.
        #[test]
        fn any_history_comes_back_once(
            steps in proptest::collection::vec((0u8..6, 0i64..12, 0usize..6), 1..40),
            order in proptest::collection::vec(proptest::prelude::any::<u32>(), 64),
            of in 1u64..5,
        ) {
            let mut all: Vec<Segment> = Vec::new();
            let mut current: Vec<usize> = Vec::new();
            let alive = |segment: &Segment| -> Vec<(i64, u64)> {
                let dead = |row: &&(i64, u64)| !segment.deletes.iter().any(|d| d.0 == row.0 && d.1 > row.1);
                segment.rows.iter().filter(dead).copied().collect()
            };
            for (at, (what, key, pick)) in (1u64..).zip(steps) {
                // A delete goes to the segments that have the key, as Milvus's filters find them, and to some others by mistake.
                let mut strike = |all: &mut Vec<Segment>, current: &[usize]| {
                    for id in current {
                        if all[*id].rows.iter().any(|row| row.0 == key) || (id + pick) % 3 == 0 {
                            all[*id].deletes.push((key, at));
                        }
                    }
                };
                match what {
                    0 => {
                        current.push(all.len());
                        all.push(segment(&[(key, at), (key + 100, at)], &[]));
                    }
                    1 => strike(&mut all, &current),
                    2 => {
                        strike(&mut all, &current);
                        current.push(all.len());
                        all.push(segment(&[(key, at)], &[(key, at)]));
                    }
                    3 if !current.is_empty() => {
                        // Split: a reader of one, a writer of two.
                        let rows = alive(&all[current.swap_remove(pick % current.len())]);
                        for half in rows.chunks(rows.len().div_ceil(2).max(1)) {
                            current.push(all.len());
                            all.push(segment(half, &[]));
                        }
                    }
                    _ if !current.is_empty() => {
                        let inputs = current.split_off(pick % current.len());
                        let rows: Vec<_> = inputs.iter().flat_map(|id| alive(&all[*id])).collect();
                        current.push(all.len());
                        all.push(segment(&rows, &[]));
                    }
                    _ => {}
                }
            }
            let mut truth: Vec<(i64, u64)> = current.iter().flat_map(|id| alive(&all[*id])).collect();
            truth.sort_unstable();
            let mut shuffled: Vec<(u32, Segment)> = all.iter().enumerate().map(|(n, s)| (order[n % 64], s.clone())).collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let shuffled: Vec<Segment> = shuffled.into_iter().map(|(_, segment)| segment).collect();
            let (choice, taken) = choose(&shuffled, of);
            let mut rows: Vec<(i64, u64)> = taken.iter().map(|(_, key, at)| (*key, *at)).collect();
            rows.sort_unstable();
            proptest::prop_assert_eq!(rows, truth);
            let whole = choose(&shuffled, 1);
            proptest::prop_assert_eq!(whole, (choice, taken));
        }
    }
}
