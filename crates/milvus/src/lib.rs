//! Milvus knowledge: its keys, the objects that they reference, coherence, what a restore changes.
//!
//! ```text
//! etcd's keys ─▶ Layout (which Milvus) ─▶ Key (what about) ─▶ Value (what it says)
//!                                                                │
//!                        References (which objects, now) ◀───────┤
//!                        Coherence  (is all of it there) ◀───────┤
//!                        Description (in words)          ◀───────┤
//!                        Transform  (what a restore changes) ◀───┘
//! ```
//!
//! `logical` is the format of milvus-backup, `binlog` what is in a log.
//!
//! Values in, values out: no network, no clock, and nothing here deletes anything.

pub mod binlog;
pub mod catalog;
pub mod coherence;
pub mod description;
pub mod ids;
pub mod key;
pub mod layout;
mod limits;
pub mod logical;
pub mod object;
pub mod queue;
pub mod references;
pub mod roots;
pub mod salvage;
pub mod time;
pub mod transform;
pub mod value;
mod wire;

pub use catalog::Catalog;
pub use coherence::{Coherence, Verdict};
pub use description::Description;
pub use key::{Key, LogKind, UnknownKey};
pub use layout::{Generation, Layout, Refusal};
pub use object::{ObjectClass, ObjectName, ObjectRoot};
pub use queue::QueueKind;
pub use references::{Change, Need, ObjectRef, References};
pub use roots::Roots;
pub use transform::{Transform, TransformReport};
pub use value::{BadValue, Value};

/// The messages in values, with the fields that a backup reads.
#[allow(missing_docs, reason = "generated; proto/meta.proto says what they are")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/meta.rs"));
}
