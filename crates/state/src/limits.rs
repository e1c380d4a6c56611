//! The limits of meaning, on one page: numbers that every member must agree on.

/// Seconds; the longest life a lease may ask for.
pub const LEASE_TTL_SECS_MAX: i64 = 9_000_000_000;

/// Learners that one cluster may have at a time, whatever each member is told to allow: the leader feeds them all.
pub const LEARNERS_MAX: usize = 16;

/// How deep transactions may nest. Upstream bounds it only through its budget of operations; here it also bounds the
/// stack of everything that walks a transaction. A protobuf reader gives up at half of this.
pub const TXN_DEPTH_MAX: usize = 128;
