//! Agreement: a small adapter over the `raft` crate.
//!
//! Knows no file, no socket, no clock, and not what an entry means.

pub mod group;
pub mod log;

pub use group::{Group, Pace, RaftFault, Standing, Work};
pub use log::{Entry, EntryKind, HardState, LogStart, Membership};
