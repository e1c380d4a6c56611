//! The door to durable tables: `state` says what to keep, a body (redb, or a map in tests) keeps it.
//!
//! Bucket `key` holds history: one record per [`Position`], in revision order, never changed, only dropped by
//! compaction. The record's bytes are those of etcd's `key` bucket value. All other buckets are small.

use bytes::Bytes;

mod mem;
mod suite;

pub use mem::{MemRecords, MemTables};
pub use suite::suite;

use crate::ids::{LogIndex, Position, Term};

/// The small buckets. Names and contents are etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Bucket {
    Meta,
    Lease,
    Alarm,
    Auth,
    AuthUsers,
    AuthRoles,
    Cluster,
    Members,
    MembersRemoved,
}

impl Bucket {
    /// All small buckets, in the order of their names on disk.
    pub const ALL: [Bucket; 9] = [
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthRoles,
        Bucket::AuthUsers,
        Bucket::Cluster,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Meta,
    ];

    /// The bucket's name in an etcd database.
    pub const fn name(self) -> &'static str {
        match self {
            Bucket::Meta => "meta",
            Bucket::Lease => "lease",
            Bucket::Alarm => "alarm",
            Bucket::Auth => "auth",
            Bucket::AuthUsers => "authUsers",
            Bucket::AuthRoles => "authRoles",
            Bucket::Cluster => "cluster",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
        }
    }
}

/// One step of a [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TableOp {
    /// Adds a record to history. Positions only grow.
    PutRecord {
        at: Position,
        tombstone: bool,
        record: Bytes,
    },
    /// Drops a record that compaction no longer needs.
    DropRecord {
        at: Position,
        tombstone: bool,
    },
    Put {
        bucket: Bucket,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        bucket: Bucket,
        key: Bytes,
    },
}

/// All that one command changes. It becomes durable as a whole, together with the log position that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The entry that caused it; `None` for housekeeping (a compaction step), which moves no log position.
    pub applied: Option<(LogIndex, Term)>,
    /// What to do, in order.
    pub ops: Vec<TableOp>,
}

/// The tables can no longer be trusted, or no longer be written. The member stops.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TableFault {
    /// Bytes on disk are not what was written.
    #[error("{place}: {what}")]
    Damaged {
        /// File and place in it.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The operating system refused.
    #[error("{place}: {what}")]
    Io {
        /// File.
        place: String,
        /// The system's words.
        what: String,
    },
}

/// Reads history. A clone sees everything written before it was made, and stays readable while writes go on.
pub trait Records: Clone + Send + Sync + 'static {
    /// The record at exactly this position (not a tombstone).
    ///
    /// # Errors
    /// [`TableFault`] when its checksum does not match, or the disk fails.
    fn record(&self, at: Position) -> Result<Option<Bytes>, TableFault>;

    /// Visits records (tombstones too) from `from` (inclusive) to `to` (exclusive) in order, until `visit` says `false`.
    ///
    /// # Errors
    /// As for [`Records::record`].
    fn scan(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(Position, bool, &Bytes) -> bool,
    ) -> Result<(), TableFault>;
}

/// The durable tables of one member.
pub trait Tables: Send + Sync + 'static {
    /// How others read history while this one writes.
    type Records: Records;

    /// A reader that sees all changes staged so far.
    fn records(&self) -> Self::Records;

    /// Takes a change: visible to readers made from now on, durable some time later (the log covers the gap),
    /// never in part.
    ///
    /// # Errors
    /// [`TableFault`] when tables can no longer be written.
    fn stage(&mut self, change: Change) -> Result<(), TableFault>;

    /// Visits a small bucket in key order: for start-up.
    ///
    /// # Errors
    /// [`TableFault`] when damaged.
    fn load(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault>;

    /// Position of the last applied entry that the tables hold (durable ones at start, staged ones later).
    fn applied(&self) -> (LogIndex, Term);
}
