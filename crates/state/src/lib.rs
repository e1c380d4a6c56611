//! Meaning: what a committed command does.
//!
//! Values in, values out: no clock, no chance, no file, no socket, no thread. The same commands in the same order
//! give the same answers and the same tables on every member.

mod apply;
mod cluster;
mod compaction;
mod halt;
mod hash;
mod index;
mod lease;
mod open;
mod range;
mod spans;
mod state;
mod txn;
mod write;

pub mod answer;
pub mod auth;
pub mod check;
pub mod codec;
pub mod command;
pub mod ids;
pub mod limits;
pub mod record;
pub mod tables;
pub mod watch;

pub use answer::{Alarm, Answer, Applied, Event, KeyValue, OpAnswer, RangeAnswer, Refusal, TxnAnswer};
pub use auth::{Access, Auth, AuthChange, Author, Permission};
pub use cluster::{member_json, member_key, parse_member_json, parse_member_key};
pub use codec::DecodeError;
pub use command::{
    AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Member, Op, Proposal, Put, Range,
    SortOrder, SortTarget, Txn,
};
pub use compaction::Progress;
pub use halt::{Halt, ReadError};
pub use hash::{HashAnswer, HashPlan};
pub use ids::{AuthRevision, ClusterId, LeaseId, LogIndex, MemberId, Position, Revision, Term};
pub use lease::Lease;
pub use range::RangePlan;
pub use state::State;
pub use tables::{Bucket, Change, MemTables, Records, TableFault, TableOp, Tables};
pub use txn::TxnPlan;
