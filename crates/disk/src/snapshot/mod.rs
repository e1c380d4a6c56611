//! Snapshot files: how Eyrie's tables travel to upstream etcd and back.
//!
//! ```text
//! a view of the tables -> export -> bbolt image + SHA-256        file -> check hash, structure, content -> restore
//! ```
//! Nothing gets a name before a file is proven whole. Must never know of the network.

mod export;
mod file;
mod hash;
mod hashkv;
mod lay;
mod restore;
mod source;

pub use export::{Export, ExportFault};
pub use file::{SnapshotFault, SnapshotFile, Status, Unproven};
pub use hash::hash_all;
pub use hashkv::{HashFault, HashKv};
pub use lay::LayFault;
pub(crate) use lay::{Edits, finish, load_tables};
pub use restore::{RestoreTarget, Restored, restore, restore_unproven};
pub use source::Source;

/// Length of the SHA-256 at a snapshot's end.
pub const HASH_LEN: usize = 32;
