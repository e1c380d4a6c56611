//! Journey A's shell: sockets, threads and time around the pure heart.
//!
//! Knows nothing of backup, archives or object stores.

mod auth;
mod chores;
mod completions;
pub mod config;
mod convert;
mod digests;
mod dispatch;
mod edge;
mod election;
mod errors;
pub mod founding;
mod grpc;
mod grpc_health;
mod housekeeping;
pub mod http;
mod leader_bound;
mod lease;
mod limits;
mod line;
#[cfg(test)]
mod line_tests;
mod lock;
pub mod log;
mod members;
pub mod metrics;
mod node;
mod pages;
mod peer;
mod replace;
mod server;
mod store;
pub mod tls;
pub mod version;
pub mod watch;

pub use config::Config;
pub use dispatch::Services;
pub use errors::ServeError;
pub use node::Fatal;
pub use server::Server;
pub use store::Store;
pub use version::{CLUSTER_VERSION, EYRIE_VERSION, VERSION};
