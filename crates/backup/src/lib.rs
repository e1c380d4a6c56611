//! The shell of the second journey: take, tail, mirror, seal, verify, expire, restore, drill.
//!
//! Knows etcd by its public API alone, buckets by `bucket`, and deletes nothing without a plan from `archive`.

pub mod bucket;
pub mod limits;
pub mod mirror;
pub mod seal;
