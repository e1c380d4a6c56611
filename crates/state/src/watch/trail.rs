//! The recent past of one group: what its watchers read without touching history.

use std::collections::VecDeque;

use crate::ids::Revision;

/// Recent matches of one group, in revision order.
///
/// Law: every match of a revision >= `complete_from` is here; older ones are not. So a watcher whose next revision
/// is not before `complete_from` misses nothing here, and any other must read history up to it first.
#[derive(Debug)]
pub struct Trail<T> {
    complete_from: Revision,
    entries: VecDeque<(Revision, T)>,
}

/// What a watcher finds on the trail.
#[derive(Debug)]
pub enum Pull<'a, T> {
    /// The trail begins later: read history from the watcher's next revision, at least up to here (exclusive).
    Unsynced(Revision),
    /// All matches from the watcher's next revision on, in order; possibly none.
    Synced(std::collections::vec_deque::Iter<'a, (Revision, T)>),
}

impl<T> Trail<T> {
    /// An empty trail for a group whose first watcher came when `published` was the newest revision matched.
    pub fn new(published: Revision) -> Self {
        Self { complete_from: Revision(published.0 + 1), entries: VecDeque::new() }
    }

    /// Adds the matches of a revision.
    ///
    /// # Panics
    /// When the revision is not newer than all before.
    pub fn push(&mut self, revision: Revision, matches: T) {
        let last = self.entries.back().map_or(Revision(self.complete_from.0 - 1), |(last, _)| *last);
        assert!(revision > last, "revision {revision} pushed after {last}");
        self.entries.push_back((revision, matches));
    }

    /// What a watcher has not seen whose next revision is `next`.
    pub fn pull(&self, next: Revision) -> Pull<'_, T> {
        if next < self.complete_from {
            return Pull::Unsynced(self.complete_from);
        }
        let seen = self.entries.partition_point(|(revision, _)| *revision < next);
        Pull::Synced(self.entries.range(seen..))
    }

    /// Forgets everything up to and including a revision. Watchers that have not seen it become unsynced.
    /// Returns how many revisions were forgotten.
    pub fn forget(&mut self, through: Revision) -> usize {
        let gone = self.entries.partition_point(|(revision, _)| *revision <= through);
        self.entries.drain(..gone);
        self.complete_from = self.complete_from.max(Revision(through.0 + 1));
        gone
    }

    /// Forgets all: for when every watcher has seen it. Returns how many revisions were forgotten.
    pub fn clear(&mut self) -> usize {
        match self.entries.back() {
            Some((last, _)) => self.forget(*last),
            None => 0,
        }
    }

    /// Revisions held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The oldest revision from which nothing is missing here.
    pub fn complete_from(&self) -> Revision {
        self.complete_from
    }
}
