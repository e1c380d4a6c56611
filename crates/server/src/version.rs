//! The two versions that this program has: the etcd that it behaves like, and its own.

/// The etcd release whose behaviour and outputs this server has; what clients are told.
pub const VERSION: &str = "3.5.21";

/// The cluster version: major and minor of [`VERSION`].
pub const CLUSTER_VERSION: &str = "3.5.0";

/// Eyrie's own version.
pub const EYRIE_VERSION: &str = env!("CARGO_PKG_VERSION");
