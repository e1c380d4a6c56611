//! The entries that raft still looks at, in memory. What is older is in the tables, and travels as a snapshot.

use raft::eraftpb::{Entry, Snapshot};
use raft::storage::MemStorage;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::message::{SnapshotMark, snapshot_at};

/// Raft's view of the log.
pub(crate) struct LogStore {
    pub(crate) kept: MemStorage,
    /// The newest entry that a snapshot can hold now; `None` as long as nothing is applied.
    pub(crate) newest: Option<SnapshotMark>,
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        self.kept.initial_state()
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.kept.entries(low, high, max_size, context)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        // A log that begins at 0 was founded by a member alone. Whoever joins it later lacks what founding put into the
        // tables, so it must begin with a snapshot.
        if index == 0 && self.kept.last_index()? > 0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.kept.term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        self.kept.first_index()
    }

    fn last_index(&self) -> raft::Result<u64> {
        self.kept.last_index()
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.newest {
            Some(mark) if mark.index >= request_index && mark.index > 0 => Ok(snapshot_at(mark)),
            _ => Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}
