//! What the member counts, under etcd's names, so that dashboards and alerts made for etcd work unchanged.
//!
//! ```text
//! threads and services ─ update handles ─▶ families ─┐
//! a scrape hook fills in what need not be counted ───┼─▶ render ─▶ /metrics
//! every gRPC call ─▶ grpc (atomics per method) ──────┤
//! /proc/self ─▶ process ─────────────────────────────┘
//! ```
//!
//! Handles are plain atomics; nothing here looks up labels on a request's path. Knows no store.

mod families;
pub mod grpc;
mod network;
pub mod process;

use parking_lot::Mutex;
use prometheus::{IntCounter, Registry, TextEncoder};

pub use self::families::{ApplyOp, Disk, Lease, Mvcc, Server, Snap};
pub use self::grpc::{GrpcCounted, GrpcStats};
pub use self::network::Network;

/// Everything that one member counts.
pub struct Metrics {
    registry: Registry,
    hooks: Mutex<Vec<Hook>>,
    /// `etcd_server_*`, `etcd_cluster_version`.
    pub server: Server,
    /// `etcd_disk_*`.
    pub disk: Disk,
    /// `etcd_mvcc_*`, `etcd_debugging_mvcc_*`.
    pub mvcc: Mvcc,
    /// `etcd_debugging_lease_*`.
    pub lease: Lease,
    /// `etcd_snap_*`.
    pub snap: Snap,
    /// `etcd_network_*` between members.
    pub network: Network,
    /// `grpc_server_*`, `etcd_network_client_grpc_*`.
    pub grpc: std::sync::Arc<GrpcStats>,
}

type Hook = Box<dyn Fn(&Metrics) + Send>;

impl Metrics {
    /// All at zero. `extensive` adds the histograms of request times (`--metrics extensive`).
    ///
    /// # Panics
    /// Never: names and bounds are constants, and a test builds them.
    pub fn new(extensive: bool) -> Self {
        let registry = Registry::new();
        Self {
            server: Server::new(&registry),
            disk: Disk::new(&registry),
            mvcc: Mvcc::new(&registry),
            lease: Lease::new(&registry),
            snap: Snap::new(&registry),
            network: Network::new(&registry),
            grpc: std::sync::Arc::new(GrpcStats::new(&registry, extensive)),
            hooks: Mutex::default(),
            registry,
        }
    }

    /// Runs `hook` before each page: for what is known anyway (sizes, revisions) and need not be counted.
    pub fn on_scrape(&self, hook: impl Fn(&Metrics) + Send + 'static) {
        self.hooks.lock().push(Box::new(hook));
    }

    /// The whole page, in Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// A family could not be encoded; the next scrape may succeed.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        for hook in self.hooks.lock().iter() {
            hook(self);
        }
        let mut text = String::with_capacity(128 * 1024);
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        self.grpc.write(&mut text);
        process::write(&process::read(), &mut text);
        Ok(text)
    }
}

/// Brings a counter up to a total that is counted elsewhere. A total that went back (it never should) is ignored.
pub fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests;
