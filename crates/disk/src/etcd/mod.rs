//! Upstream etcd 3.5's data directory, read: the database and the log after it.
//!
//! ```text
//! member/snap/db  ->  tables (bulk load)      \
//! member/wal/*    ->  commands (translated)  ->  applied on top  ->  a data directory of ours
//! ```
//! The original is opened read-only, locked against its owner, and left as it is. What is not understood for certain
//! is refused before anything is written.

mod adopt;
mod messages;
mod source;
mod translate;
mod wal;

pub use adopt::{AdoptFault, Adopted};
pub use source::{EtcdDir, SourceFault};
