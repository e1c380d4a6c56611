//! A store in memory behind a hub: the real state, without log and disk.

use std::sync::Arc;

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_state::{
    Applied, Command, DeleteRange, KeyRange, KeyValue, LogIndex, MemTables, Op, Put, Revision, State, TableFault,
    Tables, Term, Txn,
};
use parking_lot::{Mutex, RwLock};

use super::hub::{Bounds, WatchHub};
use super::source::{Source, View, before};

#[derive(Debug, Clone)]
pub(super) struct Fake {
    state: Arc<RwLock<State<MemTables>>>,
    pub(super) hub: WatchHub,
    applying: Arc<Mutex<()>>,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self::with_bounds(Bounds { bytes: 1 << 20, revisions: 4096 })
    }

    pub(super) fn with_bounds(bounds: Bounds) -> Self {
        let state = State::open(MemTables::default()).expect("empty tables");
        let hub = WatchHub::with_bounds(state.revision(), bounds);
        Self { state: Arc::new(RwLock::new(state)), hub, applying: Arc::default() }
    }

    /// As the apply thread does: apply under the lock, publish outside, then answer.
    pub(super) fn apply(&self, command: Command) -> Applied {
        let _one_at_a_time = self.applying.lock();
        let applied = {
            let mut state = self.state.write();
            let (index, term) = state.applied();
            let next = LogIndex(index.0 + 1);
            state.apply(next, term.max(Term(1)), command).expect("tables in memory")
        };
        if !applied.events.is_empty() {
            self.hub.publish(applied.revision, applied.events.clone());
        }
        applied
    }

    pub(super) fn put(&self, key: &str, value: &str) -> Revision {
        self.apply(Command::Put(put(key, value))).revision
    }

    pub(super) fn delete(&self, key: &str) -> Revision {
        self.apply(Command::DeleteRange(delete(key))).revision
    }

    pub(super) fn txn(&self, ops: Vec<Op>) -> Revision {
        self.apply(Command::Txn(Txn { success: ops, ..Txn::default() })).revision
    }

    /// Compacts wholly.
    pub(super) fn compact(&self, revision: Revision) {
        self.apply(Command::Compact { revision });
        while self.state.read().compaction_pending() {
            self.state.write().compaction_step(100).expect("tables in memory");
        }
    }

    pub(super) fn revision_now(&self) -> Revision {
        self.state.read().revision()
    }
}

pub(super) fn put(key: &str, value: &str) -> Put {
    Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Put::default()
    }
}

pub(super) fn delete(key: &str) -> DeleteRange {
    DeleteRange { keys: KeyRange::One(Bytes::copy_from_slice(key.as_bytes())), prev_kv: false }
}

impl Source for Fake {
    type Records = <MemTables as Tables>::Records;

    fn view(&self) -> View<Self::Records> {
        let state = self.state.read();
        View { revision: state.revision(), compacted: state.compacted().unwrap_or_default(), records: state.records() }
    }

    fn revision(&self) -> Revision {
        self.revision_now()
    }

    fn before(&self, wanted: &[(Bytes, Revision)]) -> Result<Vec<Option<KeyValue>>, TableFault> {
        before(wanted, |ranges| {
            let state = self.state.read();
            ranges.iter().map(|range| state.plan_range(range).ok()).collect()
        })
    }

    fn permit(&self, _: &KeyRange) -> Result<(), tonic::Status> {
        Ok(())
    }

    fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: 10, member_id: 20, revision: revision.0, raft_term: 2 }
    }
}
