//! Durability: the data directory, the log, the tables, files of foreign formats.
//!
//! Synchronous. Keeps what it is given and finds out when bytes changed; never decides what they mean, knows no network
//! and no async runtime.

mod aside;
pub mod atomic;
pub mod bbolt;
pub mod datadir;
pub mod etcd;
pub mod lock;
pub mod snapshot;
pub mod tables;
pub mod transfer;
pub mod wal;

pub use aside::step_aside;
