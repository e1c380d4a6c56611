//! A stretch of the store's past in lanes: one watch for each thousand revisions, all at once.
//!
//! ```text
//!  last      +1000      +2000      +3000     the store's newest
//!   │ lane ───▶│ lane ───▶│ lane ───▶│ ··········│
//! ```
//! A watch that listens gets an answer for each change; one that begins in the past gets up to a thousand whole revisions in
//! one. A lane ends before the store's newest revision: its watch is behind when the lane is full, is cancelled then, and never
//! comes to listen. Each lane counts its own revisions without a gap, and the next one begins where it ends. Pure.

use eyrie_api::mvccpb;
use eyrie_state::Revision;

use super::assemble::{Assembler, Missing};
use crate::history::{Revised, TimeMs};

/// Lanes that are being filled.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// The watch of the first lane; the others follow.
    first_id: i64,
    weight: usize,
}

#[derive(Debug)]
struct Lane {
    assembler: Assembler,
    /// Its last revision.
    end: Revision,
    revisions: Vec<Revised>,
}

/// What an answer was good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its watch belongs to no lane, or to one that is full: it was on its way when it was cancelled.
    Nothing,
    /// The lane goes on.
    More,
    /// The lane is full. Its watch is of no use any more.
    Full,
}

impl Lanes {
    /// As many lanes of `length` revisions behind `last` as end before `store`, but at most `lanes_max`; `None` where not even
    /// one does. Their watches are called `first_id` and on.
    pub(super) fn plan(last: Revision, store: Revision, length: i64, lanes_max: i64, first_id: i64) -> Option<Self> {
        let room = store.0.saturating_sub(last.0).saturating_sub(1) / length.max(1);
        let lane = |at: i64| {
            let before = last.0 + at * length;
            let (before, end) = (Revision(before), Revision(before + length));
            Lane { assembler: Assembler::new(before), end, revisions: Vec::new() }
        };
        let lanes: Vec<Lane> = (0..room.min(lanes_max)).map(lane).collect();
        (!lanes.is_empty()).then_some(Self { lanes, first_id, weight: 0 })
    }

    /// The watches to open, with the revision at which each begins. Asked before anything is taken.
    pub(super) fn watches(&self) -> impl Iterator<Item = (i64, Revision)> {
        let start = |lane: &Lane| Revision(lane.assembler.last().0 + 1);
        (self.first_id..).zip(self.lanes.iter().map(start))
    }

    /// The first name that is free for further watches.
    pub(super) fn next_id(&self) -> i64 {
        self.first_id + self.lanes.len() as i64
    }

    /// Whether this watch's lane wants more.
    pub(super) fn is_open(&self, id: i64) -> bool {
        self.at(id).is_some_and(|at| !self.lanes[at].is_full())
    }

    /// Takes an answer of the watch `id`.
    ///
    /// # Errors
    /// A revision was left out.
    pub(super) fn take(
        &mut self,
        id: i64,
        events: Vec<mvccpb::Event>,
        fragment: bool,
        at: TimeMs,
    ) -> Result<Taken, Missing> {
        if !self.is_open(id) {
            return Ok(Taken::Nothing);
        }
        let Some(lane) = self.at(id).map(|at| &mut self.lanes[at]) else { return Ok(Taken::Nothing) };
        let whole = lane.assembler.push(events, fragment, at)?;
        // an answer may reach into the next lane, which reads that by itself
        for revised in whole.revisions.into_iter().take_while(|revised| revised.revision <= lane.end) {
            self.weight += revised.weight();
            lane.revisions.push(revised);
        }
        Ok(if lane.is_full() { Taken::Full } else { Taken::More })
    }

    /// All lanes are full.
    pub(super) fn are_full(&self) -> bool {
        self.lanes.iter().all(Lane::is_full)
    }

    /// Bytes of keys and values so far.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// The revisions of all lanes, in order.
    ///
    /// # Panics
    /// A lane is not full, or the lanes do not join.
    pub(super) fn join(self) -> Vec<Revised> {
        assert!(self.are_full(), "lanes are joined when they are full");
        let mut joined: Vec<Revised> = Vec::with_capacity(self.lanes.iter().map(|lane| lane.revisions.len()).sum());
        for lane in self.lanes {
            let (before, first) = (joined.last(), lane.revisions.first());
            if let (Some(before), Some(first)) = (before, first) {
                assert_eq!(before.revision.0 + 1, first.revision.0, "a lane begins where the one before ends");
            }
            joined.extend(lane.revisions);
        }
        joined
    }

    fn at(&self, id: i64) -> Option<usize> {
        let at = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        (at < self.lanes.len()).then_some(at)
    }
}

impl Lane {
    fn is_full(&self) -> bool {
        self.assembler.last() >= self.end
    }
}

#[cfg(test)]
mod tests {
    use eyrie_api::mvccpb::event::EventType;
    use proptest::prelude::*;

    use super::*;

    fn event(revision: i64, sub: i64) -> mvccpb::Event {
        let key = format!("{revision}/{sub}").into();
        let kv = mvccpb::KeyValue { key, mod_revision: revision, create_revision: 1, ..Default::default() };
        mvccpb::Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None }
    }

    /// What a store answers to a watch from `start` on: whole revisions, `batch` of them.
    fn answer(start: i64, store: i64, batch: i64, width: impl Fn(i64) -> i64) -> Vec<mvccpb::Event> {
        (start..=store.min(start + batch - 1))
            .flat_map(|revision| (0..width(revision)).map(move |sub| event(revision, sub)))
            .collect()
    }

    #[test]
    fn only_lanes_that_end_before_the_store_does_are_opened() {
        let lanes = |store| Lanes::plan(Revision(10), Revision(store), 100, 3, 1).map(|lanes| lanes.lanes.len());
        assert_eq!([9, 110, 111, 210, 211, 1000].map(lanes), [None, None, Some(1), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_lane_that_leaves_out_a_revision_is_refused() {
        let mut lanes = Lanes::plan(Revision(10), Revision(31), 10, 9, 7).unwrap();
        assert_eq!(lanes.watches().collect::<Vec<_>>(), [(7, Revision(11)), (8, Revision(21))]);
        assert_eq!(lanes.take(8, vec![event(21, 0), event(22, 0)], false, TimeMs(1)), Ok(Taken::More));
        let missing = Missing { expected: Revision(23), got: Revision(24) };
        assert_eq!(lanes.take(8, vec![event(24, 0)], false, TimeMs(1)), Err(missing));
        let missing = Missing { expected: Revision(11), got: Revision(12) };
        assert_eq!(lanes.take(7, vec![event(12, 0)], false, TimeMs(1)), Err(missing));
        assert_eq!(lanes.take(9, vec![event(31, 0)], false, TimeMs(1)), Ok(Taken::Nothing));
        assert!(!lanes.are_full());
    }

    proptest! {
        /// Answers of any length, mixed over the watches in any way, in fragments, and going on behind a full lane.
        #[test]
        fn whatever_comes_in_which_order_every_revision_comes_out_once(
            length in 1i64..30,
            count in 1i64..8,
            batch in 1i64..40,
            cut in 1usize..7,
            order in prop::collection::vec(any::<prop::sample::Index>(), 4000),
        ) {
            let (last, width) = (500, |revision: i64| 1 + revision % 3);
            let store = last + length * count + 1;
            let mut lanes = Lanes::plan(Revision(last), Revision(store), length, 100, 40).unwrap();
            // of each watch, what the store still has to say, in pieces of `cut` events
            let mut watches: Vec<(i64, Vec<(Vec<mvccpb::Event>, bool)>)> = Vec::new();
            for (id, start) in lanes.watches() {
                let mut says = Vec::new();
                for start in (start.0..=store).step_by(batch as usize) {
                    let events = answer(start, store, batch, width);
                    let pieces: Vec<_> = events.chunks(cut).map(<[_]>::to_vec).collect();
                    let ends = pieces.len() - 1;
                    says.extend(pieces.into_iter().enumerate().map(|(at, piece)| (piece, at < ends)));
                }
                says.reverse();
                watches.push((id, says));
            }
            for index in order {
                let Some(at) = (!watches.is_empty()).then(|| index.index(watches.len())) else { break };
                let (id, says) = &mut watches[at];
                let Some((events, fragment)) = says.pop() else { watches.swap_remove(at); continue };
                lanes.take(*id, events, fragment, TimeMs(1)).unwrap();
            }
            // what the dice left over
            for (id, says) in &mut watches {
                while let Some((events, fragment)) = says.pop() {
                    lanes.take(*id, events, fragment, TimeMs(1)).unwrap();
                }
            }
            let heard: Vec<(i64, usize)> =
                lanes.join().iter().map(|revised| (revised.revision.0, revised.events.len())).collect();
            let expected: Vec<(i64, usize)> =
                (last + 1..=last + length * count).map(|revision| (revision, width(revision) as usize)).collect();
            prop_assert_eq!(heard, expected);
        }
    }
}
