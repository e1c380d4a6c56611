//! Meaning: what a committed command does.
//!
//! Values in, values out: no clock, no chance, no file, no socket, no thread. The same commands in the same order
//! give the same answers and the same tables on every member.

pub mod answer;
pub mod command;
pub mod ids;
pub mod tables;

pub use answer::{Alarm, Answer, Applied, Event, KeyValue, OpAnswer, RangeAnswer, Refusal, TxnAnswer};
pub use command::{
    AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Member, Op, Put, Range,
    SortOrder, SortTarget, Txn,
};
pub use ids::{ClusterId, LeaseId, LogIndex, MemberId, Position, Revision, Term};
pub use tables::{Bucket, Change, Records, TableFault, TableOp, Tables};
