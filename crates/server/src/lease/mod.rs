//! Leases in time. The state knows which leases exist and what hangs on them; only here does a lease have a deadline.
//!
//! Nothing here decides that a lease ends: an expired one is *proposed* for revocation and ends when that is applied.

mod expiry;
mod lessor;

pub(crate) use expiry::{checkpoint_loop, expiry_loop};
pub(crate) use lessor::Lessor;
