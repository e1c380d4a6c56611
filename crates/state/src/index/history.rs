//! One key's history: small for the many keys that were put once.

use std::num::{NonZeroI64, NonZeroU32};

use smallvec::SmallVec;

use crate::ids::Position;

/// Which lease a key hangs on, as a number that only this process knows. `None`: no lease.
pub(crate) type LeaseSlot = Option<NonZeroU32>;

/// One change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) main: i64,
    sub: u32,
    pub(crate) tombstone: bool,
}

impl Mark {
    pub(crate) fn live(at: Position) -> Self {
        Self { main: at.main, sub: at.sub, tombstone: false }
    }

    pub(crate) fn tombstone(at: Position) -> Self {
        Self { main: at.main, sub: at.sub, tombstone: true }
    }

    pub(crate) fn position(self) -> Position {
        Position { main: self.main, sub: self.sub }
    }
}

/// The newest state of a key that is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) at: Position,
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseSlot,
}

/// What compaction left of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compacted {
    /// It stays in the index.
    Kept,
    /// Nothing is left.
    Gone,
    /// The budget was used up in the middle of it.
    More,
}

/// Where a key's changes stand, oldest first. Never empty, except for the moment before `Compacted::Gone` is acted on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// One put, which created the key.
    Once { main: NonZeroI64, sub: u32, lease: LeaseSlot },
    /// Everything else.
    Many(Box<Many>),
}

/// The long form. `create`, `version` and `lease` are those of the newest mark, and mean nothing after a tombstone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Many {
    create: i64,
    version: i64,
    marks: SmallVec<[Mark; 2]>,
    lease: LeaseSlot,
}

impl History {
    pub(crate) fn once(at: Mark, lease: LeaseSlot) -> Self {
        let main = NonZeroI64::new(at.main).expect("the first change is of revision 2");
        History::Once { main, sub: at.sub, lease }
    }

    /// A history as the tables tell it: all marks, and what the newest record says of itself.
    pub(crate) fn rebuilt(marks: &[Mark], create: i64, version: i64, lease: LeaseSlot) -> Self {
        match marks {
            [only] if !only.tombstone && create == only.main && version == 1 => Self::once(*only, lease),
            _ => History::Many(Box::new(Many { create, version, marks: SmallVec::from_slice(marks), lease })),
        }
    }

    /// The newest state, unless deleted.
    #[inline]
    pub(crate) fn live(&self) -> Option<Live> {
        match self {
            History::Once { main, sub, lease } => {
                let at = Position { main: main.get(), sub: *sub };
                Some(Live { at, create: at.main, version: 1, lease: *lease })
            }
            History::Many(many) => many.live(),
        }
    }

    /// Where the key's value as of `revision` stands; `None` when it did not exist then.
    #[inline]
    pub(crate) fn at(&self, revision: i64) -> Option<Position> {
        self.newest_until(revision).filter(|mark| !mark.tombstone).map(Mark::position)
    }

    /// The newest change that is not after `revision`.
    #[inline]
    pub(crate) fn newest_until(&self, revision: i64) -> Option<Mark> {
        match self {
            History::Once { main, sub, .. } => {
                let mark = Mark { main: main.get(), sub: *sub, tombstone: false };
                (mark.main <= revision).then_some(mark)
            }
            History::Many(many) => match many.marks.last() {
                Some(last) if last.main <= revision => Some(*last),
                _ => {
                    let end = many.marks.partition_point(|mark| mark.main <= revision);
                    end.checked_sub(1).map(|at| many.marks[at])
                }
            },
        }
    }

    /// Appends a put; returns the state before.
    pub(crate) fn put(&mut self, at: Mark, lease: LeaseSlot) -> Option<Live> {
        let before = self.live();
        let many = self.many();
        many.marks.push(at);
        many.lease = lease;
        match before {
            Some(_) => many.version += 1,
            None => (many.create, many.version) = (at.main, 1),
        }
        before
    }

    /// Appends a tombstone to a live key; returns the state before.
    pub(crate) fn delete(&mut self, at: Mark) -> Option<Live> {
        let before = self.live()?;
        let many = self.many();
        many.marks.push(at);
        many.lease = None;
        Some(before)
    }

    /// Drops what is older than the newest change that is not after `revision`, and that change too when it is a
    /// tombstone from before `revision`. At most `budget` marks, which go to `dropped`.
    pub(crate) fn compact(&mut self, revision: i64, budget: usize, dropped: &mut Vec<Mark>) -> Compacted {
        let History::Many(many) = self else { return Compacted::Kept };
        let covered = many.marks.partition_point(|mark| mark.main <= revision);
        let Some(newest) = covered.checked_sub(1).map(|at| many.marks[at]) else { return Compacted::Kept };
        let drop = if newest.tombstone && newest.main < revision { covered } else { covered - 1 };
        let now = drop.min(budget);
        dropped.extend(many.marks.drain(..now));
        if now < drop {
            return Compacted::More;
        }
        if many.marks.is_empty() {
            return Compacted::Gone;
        }
        if now > 0 {
            many.marks.shrink_to_fit();
            if let ([_], Some(live)) = (&many.marks[..], many.live())
                && live.version == 1
                && live.create == live.at.main
            {
                *self = Self::once(Mark::live(live.at), live.lease);
            }
        }
        Compacted::Kept
    }

    fn many(&mut self) -> &mut Many {
        if let History::Once { main, sub, lease } = *self {
            let mut marks = SmallVec::new();
            marks.push(Mark { main: main.get(), sub, tombstone: false });
            *self = History::Many(Box::new(Many { create: main.get(), version: 1, marks, lease }));
        }
        match self {
            History::Many(many) => many,
            History::Once { .. } => unreachable!("just made long"),
        }
    }
}

impl Many {
    #[inline]
    fn live(&self) -> Option<Live> {
        let newest = self.marks.last().filter(|mark| !mark.tombstone)?;
        Some(Live { at: newest.position(), create: self.create, version: self.version, lease: self.lease })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64) -> Mark {
        Mark::live(Position { main, sub: 0 })
    }
    fn grave(main: i64) -> Mark {
        Mark::tombstone(Position { main, sub: 0 })
    }

    #[test]
    fn most_keys_are_small() {
        assert_eq!(size_of::<History>(), 16);
        assert_eq!(size_of::<Mark>(), 16);
    }

    /// Upstream's own example: put(1) put(2) delete(3) put(4) delete(5).
    fn example() -> History {
        let mut history = History::once(at(1), None);
        history.put(at(2), None);
        history.delete(grave(3));
        history.put(at(4), None);
        history.delete(grave(5));
        history
    }

    fn after(revision: i64) -> (Compacted, Vec<i64>) {
        let mut history = example();
        let mut dropped = Vec::new();
        let left = history.compact(revision, usize::MAX, &mut dropped);
        (left, dropped.iter().map(|mark| mark.main).collect())
    }

    #[test]
    fn compaction_keeps_what_upstream_keeps() {
        assert_eq!(after(0), (Compacted::Kept, vec![]));
        assert_eq!(after(1), (Compacted::Kept, vec![]));
        assert_eq!(after(2), (Compacted::Kept, vec![1]));
        assert_eq!(after(3), (Compacted::Kept, vec![1, 2]));
        assert_eq!(after(4), (Compacted::Kept, vec![1, 2, 3]));
        assert_eq!(after(5), (Compacted::Kept, vec![1, 2, 3, 4]));
        assert_eq!(after(6), (Compacted::Gone, vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn compaction_in_small_steps_ends_the_same() {
        let mut history = example();
        let mut dropped = Vec::new();
        let mut steps = 0;
        while history.compact(5, 1, &mut dropped) == Compacted::More {
            steps += 1;
        }
        assert_eq!((steps, dropped.len()), (3, 4));
    }

    #[test]
    fn a_key_is_there_between_put_and_delete() {
        let history = example();
        let seen: Vec<_> = (0..7).map(|r| history.at(r).map(|p| p.main)).collect();
        assert_eq!(seen, [None, Some(1), Some(2), None, Some(4), None, None]);
        assert_eq!(history.live(), None);
    }

    #[test]
    fn a_key_that_is_put_once_more_after_compaction_is_small_again() {
        let mut history = example();
        history.put(at(7), None);
        history.compact(7, usize::MAX, &mut Vec::new());
        assert_eq!(history, History::once(at(7), None));
    }
}
