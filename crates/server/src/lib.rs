//! Journey A's shell: sockets, threads and time around the pure heart.
//!
//! Knows nothing of backup, archives or object stores.

pub mod config;
pub mod log;
pub mod version;

pub use config::Config;
pub use version::{CLUSTER_VERSION, EYRIE_VERSION, VERSION};
