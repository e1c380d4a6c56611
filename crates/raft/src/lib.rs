//! Agreement: a small adapter over the `raft` crate.
//!
//! Knows no file, no socket, no clock, and not what an entry means.

pub mod change;
pub mod group;
pub mod log;
pub mod message;
pub mod questions;
mod store;
pub mod under_way;

pub use change::{MembershipChange, VoteChange};
pub use group::{Group, HandedOver, Pace, Persisted, Place, ProposeError, RaftFault, Standing, Work};
pub use log::{Entry, EntryKind, HardState, LogStart, Membership};
pub use message::{Message, SnapshotMark};
pub use questions::{Due, Questions};
pub use under_way::{Finished, UnderWay};
