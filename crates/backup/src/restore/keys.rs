//! The live keys of one revision with all that etcd keeps of them: what a restore brings back, and what it is compared by.
//!
//! ```text
//! full ─▶ LiveKeys ─▶ follow the tail ─▶ digest (as it was) ─▶ changes, one revision later ─▶ digest (as it is restored)
//! ```
//! Only what lives is kept: a restored store is as if compacted at its revision. Of a long tail nothing else would be of
//! use, since nobody may watch the past of another store, and its history could be many times larger than its quota.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eyrie_api::mvccpb::KeyValue;
use eyrie_disk::snapshot::{SnapshotFault, SnapshotFile};
use eyrie_state::record;
use eyrie_state::{LeaseId, Position};
use prost::Message;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::history::{Event, Revised};

/// Live keys, each with its record as etcd stores it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveKeys {
    pub(crate) revision: i64,
    keys: BTreeMap<Bytes, Live>,
}

#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// Where its record stands in history.
    pub(crate) at: Position,
    /// A whole `mvccpb.KeyValue`.
    pub(crate) record: Bytes,
}

/// A count of keys, and a hash over everything that etcd tells about each: equal digests are equal key spaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// Live keys.
    pub keys: u64,
    /// Over key, value, both revisions, version and lease of each, in key order; 64 hex digits.
    pub sha256: String,
}

/// Makes a [`Digest`] of keys that come in order.
#[derive(Debug, Default)]
pub struct Digester {
    hash: Sha256,
    keys: u64,
}

impl LiveKeys {
    /// What lives at the end of a snapshot file.
    pub(crate) fn of(file: &SnapshotFile) -> Result<Self, SnapshotFault> {
        let mut live = Self { revision: file.compact_revision()?.max(1), keys: BTreeMap::new() };
        file.history::<SnapshotFault>(|at, tombstone, bytes| {
            live.revision = live.revision.max(at.main);
            // a record without a byte lifts the revision, and is no pair
            if bytes.is_empty() {
                return Ok(());
            }
            let place = record::view(bytes).unwrap_or_default().key;
            if tombstone {
                live.keys.remove(&bytes[place]);
            } else {
                let record = Bytes::copy_from_slice(bytes);
                live.keys.insert(record.slice(place), Live { at, record });
            }
            Ok(())
        })?;
        Ok(live)
    }

    /// Takes in what one revision changed.
    pub(crate) fn follow(&mut self, revised: &Revised) {
        let main = revised.revision.0;
        for (event, sub) in revised.events.iter().zip(0..) {
            match event {
                Event::Delete { key } => drop(self.keys.remove(key)),
                Event::Put { key, value, create_revision, version, lease } => {
                    let (create_revision, lease) = (create_revision.0, lease.0);
                    let (key, value, mod_revision) = (key.clone(), value.clone(), main);
                    let kv = KeyValue { key, value, create_revision, mod_revision, version: *version, lease };
                    self.put(Position { main, sub }, &kv);
                }
            }
        }
        self.revision = main;
    }

    /// Makes changes, as one transaction does: all in the next revision. Without any, the revision stays.
    pub(crate) fn change(&mut self, changes: Vec<Edit>) {
        if changes.is_empty() {
            return;
        }
        let main = self.revision + 1;
        // all are taken out first: one may go where another was
        let taken: Vec<(KeyValue, Edit)> = changes.into_iter().map(|edit| (self.take(&edit.key), edit)).collect();
        let puts = taken.into_iter().filter_map(|(old, Edit { key, to })| Some((old, key, to?)));
        for ((old, key, (new, value)), sub) in puts.zip(0..) {
            let old = if new == key { old } else { KeyValue { lease: old.lease, ..KeyValue::default() } };
            let create_revision = if old.version > 0 { old.create_revision } else { main };
            let (version, lease) = (old.version + 1, old.lease);
            let kv = KeyValue { key: new, value, create_revision, mod_revision: main, version, lease };
            self.put(Position { main, sub }, &kv);
        }
        self.revision = main;
    }

    /// Keys and values in key order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.keys.iter().map(|(key, live)| {
            let value = record::view(&live.record).unwrap_or_default().value;
            (key.as_ref(), &live.record[value])
        })
    }

    /// Whether the key lives.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// All records, in the order in which they were written.
    pub(crate) fn in_history(&self) -> Vec<&Live> {
        let mut all: Vec<&Live> = self.keys.values().collect();
        all.sort_unstable_by_key(|live| live.at);
        all
    }

    /// Leases that keys hang on.
    pub(crate) fn leases(&self) -> BTreeMap<LeaseId, u64> {
        let mut leases: BTreeMap<LeaseId, u64> = BTreeMap::new();
        for live in self.keys.values() {
            let lease = record::view(&live.record).unwrap_or_default().lease;
            if lease.0 != 0 {
                *leases.entry(lease).or_default() += 1;
            }
        }
        leases
    }

    pub(crate) fn digest(&self) -> Digest {
        let mut digester = Digester::default();
        for (key, live) in &self.keys {
            let view = record::view(&live.record).unwrap_or_default();
            let numbers = [view.create_revision, view.mod_revision, view.version, view.lease.0];
            digester.take(key, &live.record[view.value], numbers);
        }
        digester.finish()
    }

    fn take(&mut self, key: &[u8]) -> KeyValue {
        self.keys.remove(key).and_then(|live| KeyValue::decode(live.record).ok()).unwrap_or_default()
    }

    fn put(&mut self, at: Position, kv: &KeyValue) {
        let record = Bytes::from(kv.encode_to_vec());
        // the key as a slice of its record: one allocation for both
        let key = record.slice(record::view(&record).unwrap_or_default().key);
        self.keys.remove(&key);
        self.keys.insert(key, Live { at, record });
    }
}

/// One change of a key: gone, or at a place (its own or another) with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) key: Bytes,
    pub(crate) to: Option<(Bytes, Bytes)>,
}

/// Keys that two edits would both write, or that are in the way of one.
pub(crate) fn collisions(keys: &LiveKeys, edits: &[Edit]) -> Vec<Bytes> {
    let from: BTreeSet<&Bytes> = edits.iter().map(|edit| &edit.key).collect();
    let mut seen = BTreeSet::new();
    let targets = edits.iter().filter_map(|edit| Some((&edit.key, &edit.to.as_ref()?.0)));
    let in_the_way = targets.filter(|(key, to)| {
        let taken = key != to && keys.has(to) && !from.contains(to);
        taken || !seen.insert(*to)
    });
    in_the_way.map(|(_, to)| to.clone()).collect()
}

impl Digester {
    /// Takes the next key: its create and mod revision, version and lease as `numbers`.
    pub fn take(&mut self, key: &[u8], value: &[u8], numbers: [i64; 4]) {
        self.keys += 1;
        for bytes in [key, value] {
            self.hash.update((bytes.len() as u64).to_le_bytes());
            self.hash.update(bytes);
        }
        numbers.iter().for_each(|number| self.hash.update(number.to_le_bytes()));
    }

    /// The digest of all that was taken.
    pub fn finish(self) -> Digest {
        let sha256 = eyrie_archive::Sha256(self.hash.finalize().into());
        Digest { keys: self.keys, sha256: sha256.to_string() }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys, digest {}", self.keys, self.sha256.get(..16).unwrap_or(&self.sha256))
    }
}

#[cfg(test)]
mod tests {
    use eyrie_state::Revision;

    use super::*;
    use crate::history::TimeMs;

    fn put(key: &str, value: &str, version: i64) -> Event {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        Event::Put { key, value, create_revision: Revision(2), version, lease: LeaseId(7) }
    }

    fn followed(history: Vec<Vec<Event>>) -> LiveKeys {
        let mut live = LiveKeys { revision: 1, ..LiveKeys::default() };
        for (events, revision) in history.into_iter().zip(2..) {
            live.follow(&Revised { revision: Revision(revision), heard_at: TimeMs(0), events });
        }
        live
    }

    #[test]
    fn a_digest_tells_every_field_apart() {
        let base = || followed(vec![vec![put("a", "1", 1), put("b", "2", 1)]]);
        let others = [
            followed(vec![vec![put("a", "1", 2), put("b", "2", 1)]]),
            followed(vec![vec![put("a", "x", 1), put("b", "2", 1)]]),
            followed(vec![vec![put("a", "1", 1), put("c", "2", 1)]]),
            followed(vec![vec![put("a", "1", 1)], vec![put("b", "2", 1)]]),
            followed(vec![vec![put("a", "1", 1)]]),
        ];
        assert_eq!(base().digest(), base().digest());
        for other in others {
            assert_ne!(base().digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn changes_come_one_revision_later_and_keep_what_they_do_not_change() {
        let mut live = followed(vec![vec![put("a", "1", 1), put("b", "2", 1), put("c", "3", 4)]]);
        let edit = |key: &'static str, to: Option<(&'static str, &'static str)>| Edit {
            key: key.into(),
            to: to.map(|(key, value)| (key.into(), value.into())),
        };
        live.change(vec![edit("a", None), edit("b", Some(("z", "2"))), edit("c", Some(("c", "9")))]);
        assert_eq!(live.revision, 3);
        let pairs: Vec<_> = live.pairs().collect();
        assert_eq!(pairs, [(&b"c"[..], &b"9"[..]), (b"z", b"2")]);
        let (moved, changed) = (live.clone().take(b"z"), live.clone().take(b"c"));
        assert_eq!((moved.create_revision, moved.mod_revision, moved.version, moved.lease), (3, 3, 1, 7));
        assert_eq!((changed.create_revision, changed.mod_revision, changed.version), (2, 3, 5));
        let order: Vec<_> = live.in_history().iter().map(|live| (live.at.main, live.at.sub)).collect();
        assert_eq!(order, [(3, 0), (3, 1)]);
        live.change(Vec::new());
        assert_eq!(live.revision, 3);
    }

    #[test]
    fn a_place_that_is_taken_is_seen() {
        let live = followed(vec![vec![put("a", "1", 1), put("b", "2", 1)]]);
        let to = |key: &'static str, to: &'static str| Edit { key: key.into(), to: Some((to.into(), Bytes::new())) };
        assert_eq!(collisions(&live, &[to("a", "b")]), ["b"]);
        assert_eq!(collisions(&live, &[to("a", "x"), to("b", "x")]), ["x"]);
        assert!(collisions(&live, &[to("a", "b"), to("b", "c")]).is_empty());
        assert!(collisions(&live, &[to("a", "a")]).is_empty());
    }
}
