//! One command's writes: each change goes to the index at once, to the tables together at the end.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::answer::{Event, KeyValue, RangeAnswer};
use crate::command::{DeleteRange, KeyRange, Put, Range};
use crate::ids::{LeaseId, Position, Revision};
use crate::index::Mark;
use crate::range::{self, Shape, answer, choose};
use crate::record::{self, Marks};
use crate::state::State;
use crate::tables::{TableFault, TableOp, Tables};

/// A command being carried out. All its changes belong to one revision, the next one; they are numbered in the order
/// they are made, so change number n is event number n.
pub(crate) struct Write<'s, T: Tables> {
    pub(crate) state: &'s mut State<T>,
    pub(crate) ops: Vec<TableOp>,
    events: Vec<Event>,
    /// The revision the changes get.
    next: Revision,
    records: OnceCell<T::Records>,
}

impl<'s, T: Tables> Write<'s, T> {
    pub(crate) fn begin(state: &'s mut State<T>) -> Self {
        let next = Revision(state.revision.0 + 1);
        Self { state, ops: Vec::new(), events: Vec::new(), next, records: OnceCell::new() }
    }

    pub(crate) fn end(self) -> (Vec<TableOp>, Vec<Event>) {
        (self.ops, self.events)
    }

    /// The revision as this command sees it: the next one as soon as it has changed something.
    pub(crate) fn revision(&self) -> Revision {
        if self.events.is_empty() { self.state.revision } else { self.next }
    }

    /// Stores a pair. What must exist for it has been checked.
    pub(crate) fn put(&mut self, put: &Put) -> Result<Option<KeyValue>, TableFault> {
        let old = match put.prev_kv || put.ignore_value || put.ignore_lease {
            true => self.current(&put.key)?,
            false => None,
        };
        let old_value = || old.as_ref().map_or_else(Bytes::new, |old| old.value.clone());
        let value = if put.ignore_value { old_value() } else { put.value.clone() };
        let old_lease = || old.as_ref().map_or(LeaseId(0), |old| old.lease);
        let lease = if put.ignore_lease { old_lease() } else { put.lease };
        let slot = self.state.leases.slot(lease);

        let at = self.next_position();
        let (before, after) = self.state.index.put(&put.key, Mark::live(at), slot);
        self.state.leases.moved(&put.key, before.and_then(|live| live.lease), slot);
        let marks = Marks { create: after.create, modified: at.main, version: after.version, lease };
        let new = record::live(&put.key, &value, marks);
        let kv = KeyValue {
            key: new.key,
            create_revision: marks.create,
            mod_revision: marks.modified,
            version: marks.version,
            value: new.value,
            lease,
        };
        self.ops.push(TableOp::PutRecord { at, tombstone: false, record: new.record });
        self.events.push(Event { delete: false, kv, prev: before.map(|live| live.at) });
        Ok(old.filter(|_| put.prev_kv))
    }

    /// Deletes the keys of a range; returns how many, and what they were if asked.
    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> Result<(i64, Vec<KeyValue>), TableFault> {
        let mut before = Vec::new();
        if let KeyRange::One(key) = &delete.keys {
            before.extend(self.delete(key));
        } else {
            let found = self.state.index.range(&delete.keys);
            let keys: Vec<Box<[u8]>> = found.filter(|(_, h)| h.live().is_some()).map(|(k, _)| Box::from(k)).collect();
            before.extend(keys.iter().filter_map(|key| self.delete(key)));
        }
        let deleted = before.len() as i64;
        if !delete.prev_kv {
            before.clear();
        }
        let prev = before.into_iter().map(|at| self.read(at, false)).collect::<Result<_, _>>()?;
        Ok((deleted, prev))
    }

    /// Deletes one key; returns where its last value stands, `None` when there is no such key.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Position> {
        let at = self.next_position();
        let before = self.state.index.delete(key, Mark::tombstone(at))?;
        self.state.leases.moved(key, before.lease, None);
        let new = record::tombstone(key);
        let kv = KeyValue { key: new.key, mod_revision: at.main, ..KeyValue::default() };
        self.ops.push(TableOp::PutRecord { at, tombstone: true, record: new.record });
        self.events.push(Event { delete: true, kv, prev: Some(before.at) });
        Some(before.at)
    }

    /// Reads, this command's own writes included. The revision has been checked.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeAnswer, TableFault> {
        let revision = range.revision.filter(|revision| revision.0 > 0).unwrap_or(self.next);
        let chosen = choose(&self.state.index, range, revision);
        answer(chosen, Shape::of(range), |at, keys_only| self.read(at, keys_only))
    }

    fn current(&self, key: &[u8]) -> Result<Option<KeyValue>, TableFault> {
        let live = self.state.index.get(key).and_then(|history| history.live());
        live.map(|live| self.read(live.at, false)).transpose()
    }

    /// Reads one pair: an own one, which the tables do not have yet, or one from history.
    fn read(&self, at: Position, keys_only: bool) -> Result<KeyValue, TableFault> {
        if at.main != self.next.0 {
            return range::fetch(self.records.get_or_init(|| self.state.tables.records()), at, keys_only);
        }
        let mut kv = self.events[at.sub as usize].kv.clone();
        if keys_only {
            kv.value.clear();
        }
        Ok(kv)
    }

    fn next_position(&self) -> Position {
        let sub = u32::try_from(self.events.len()).expect("a request fits into memory");
        Position { main: self.next.0, sub }
    }
}
