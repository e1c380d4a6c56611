//! Journey A's shell: sockets, threads and time around the pure heart.
//!
//! Knows nothing of backup, archives or object stores.

pub mod config;

pub use config::Config;
