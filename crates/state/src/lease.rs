//! Leases: which exist, what was granted, which keys hang on each. Time is not here: the server watches it and proposes.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use crate::ids::LeaseId;
use crate::index::LeaseSlot;
use crate::record::LeaseRow;

/// A lease and what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Granted seconds.
    pub ttl_secs: i64,
    /// Seconds that were left at the last checkpoint; 0 when there was none, or the lease was renewed since.
    pub remaining_secs: i64,
    keys: BTreeSet<Box<[u8]>>,
}

impl Lease {
    /// The attached keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(|key| &key[..])
    }

    pub(crate) fn row(&self) -> LeaseRow {
        LeaseRow { id: self.id, ttl_secs: self.ttl_secs, remaining_secs: self.remaining_secs }
    }
}

/// All leases. A slot is a lease's short name inside the key index; it is free again when the lease is gone.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: BTreeMap<LeaseId, usize>,
    leases: Vec<Option<Lease>>,
    free: Vec<usize>,
}

impl Leases {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.slots.values().map(|&at| self.leases[at].as_ref().expect("a named slot is taken"))
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases[*self.slots.get(&id)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.leases[*self.slots.get(&id)?].as_mut()
    }

    /// The slot of a lease; `None` when there is no such lease.
    #[inline]
    pub(crate) fn slot(&self, id: LeaseId) -> LeaseSlot {
        if id == LeaseId(0) {
            return None;
        }
        let at = u32::try_from(*self.slots.get(&id)?).expect("slots are numbered by grant");
        NonZeroU32::new(at + 1)
    }

    /// Adds a lease that does not exist yet.
    pub(crate) fn grant(&mut self, row: LeaseRow) -> &Lease {
        let LeaseRow { id, ttl_secs, remaining_secs } = row;
        let at = self.free.pop().unwrap_or_else(|| {
            self.leases.push(None);
            self.leases.len() - 1
        });
        self.slots.insert(id, at);
        self.leases[at].insert(Lease { id, ttl_secs, remaining_secs, keys: BTreeSet::new() })
    }

    /// Removes a lease; its keys must be detached already.
    pub(crate) fn revoke(&mut self, id: LeaseId) {
        let Some(at) = self.slots.remove(&id) else { return };
        let lease = self.leases[at].take();
        assert!(lease.is_none_or(|lease| lease.keys.is_empty()), "keys of a revoked lease are deleted first");
        self.free.push(at);
    }

    /// Moves a key from one lease to another (`None`: no lease).
    #[inline]
    pub(crate) fn moved(&mut self, key: &[u8], from: LeaseSlot, to: LeaseSlot) {
        if from == to {
            return;
        }
        if let Some(lease) = self.at(from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.at(to) {
            lease.keys.insert(Box::from(key));
        }
    }

    fn at(&mut self, slot: LeaseSlot) -> Option<&mut Lease> {
        self.leases[slot?.get() as usize - 1].as_mut()
    }
}
