//! The key index: for every key, where its changes stand in history.
//!
//! Values are not here; the tables hold them. A key that was put once costs its name and 32 bytes, however it came.
//! ```text
//! key ──► Once  (position, lease slot)
//!     └─► Many  [ position, position, tombstone, position … ]  + create, version, lease slot of the newest
//! ```
//! The index must never know what a value or a lease is.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::command::KeyRange;

mod bulk;
mod history;

pub(crate) use bulk::{Bulk, Extra};
pub(crate) use history::{Compacted, History, LeaseSlot, Live, Mark};

/// All keys with their histories, in key order.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    keys: BTreeMap<Box<[u8]>, History>,
    /// Keys whose newest change is not a tombstone.
    live: usize,
}

impl KeyIndex {
    pub(crate) fn live_count(&self) -> usize {
        self.live
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key)
    }

    /// Records a put. Returns the key's live state before it, and the new one.
    pub(crate) fn put(&mut self, key: &[u8], at: Mark, lease: LeaseSlot) -> (Option<Live>, Live) {
        use std::collections::btree_map::Entry;
        let before = match self.keys.entry(Box::from(key)) {
            Entry::Vacant(entry) => {
                entry.insert(History::once(at, lease));
                None
            }
            Entry::Occupied(mut entry) => entry.get_mut().put(at, lease),
        };
        self.live += usize::from(before.is_none());
        let after = match before {
            Some(live) => Live { at: at.position(), create: live.create, version: live.version + 1, lease },
            None => Live { at: at.position(), create: at.main, version: 1, lease },
        };
        (before, after)
    }

    /// Records a delete of a live key. Returns its state before; `None` (and nothing is recorded) when it is not live.
    pub(crate) fn delete(&mut self, key: &[u8], at: Mark) -> Option<Live> {
        let before = self.keys.get_mut(key)?.delete(at)?;
        self.live -= 1;
        Some(before)
    }

    /// The keys of a range in order, also those that are deleted.
    pub(crate) fn range<'a>(&'a self, keys: &KeyRange) -> impl Iterator<Item = (&'a [u8], &'a History)> + use<'a> {
        let bounds = match keys {
            KeyRange::One(key) => Some((Bound::Included(&key[..]), Bound::Included(&key[..]))),
            KeyRange::Span(from, to) if from < to => Some((Bound::Included(&from[..]), Bound::Excluded(&to[..]))),
            KeyRange::Span(..) => None,
            KeyRange::From(from) => Some((Bound::Included(&from[..]), Bound::Unbounded)),
        };
        let found = bounds.map(|bounds| self.keys.range::<[u8], _>(bounds));
        found.into_iter().flatten().map(|(key, history)| (&key[..], history))
    }

    /// All keys in order, also those that are deleted.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&[u8], &History)> {
        self.keys.iter().map(|(key, history)| (&key[..], history))
    }

    /// Forgets what compaction at `revision` drops, for at most `budget` keys (or drops) after `cursor`. Adds the
    /// dropped marks to `dropped` and returns where to go on, `None` at the end.
    pub(crate) fn compact(
        &mut self,
        revision: i64,
        cursor: Option<&[u8]>,
        budget: usize,
        dropped: &mut Vec<Mark>,
    ) -> Option<Box<[u8]>> {
        let from = cursor.map_or(Bound::Unbounded, Bound::Included);
        let mut gone = Vec::new();
        let mut next = None;
        for (visited, (key, history)) in self.keys.range_mut::<[u8], _>((from, Bound::Unbounded)).enumerate() {
            if visited >= budget || dropped.len() >= budget {
                next = Some(key.clone());
                break;
            }
            match history.compact(revision, budget - dropped.len(), dropped) {
                Compacted::Kept => {}
                Compacted::Gone => gone.push(key.clone()),
                Compacted::More => {
                    next = Some(key.clone());
                    break;
                }
            }
        }
        for key in gone {
            self.keys.remove(&key);
        }
        next
    }
}
