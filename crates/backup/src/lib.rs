//! The shell of the second journey: take, tail, mirror, seal, verify, expire, restore, drill.
//!
//! Knows etcd by its public API alone, buckets by `bucket`, and deletes nothing without a plan from `archive`.

pub mod agent;
pub mod bucket;
pub mod catalog;
mod chance;
pub mod config;
pub mod drill;
pub mod expire;
pub mod history;
pub mod inside;
pub mod limits;
pub mod logical;
pub mod mirror;
pub mod objects;
pub mod pack;
pub mod pin;
pub mod restore;
pub mod seal;
pub mod source;
pub mod tail;
pub mod take;
pub mod tell;
pub mod unpack;
pub mod verify;
