//! Upstream etcd's binaries, which the benchmark stands beside.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::shell;

/// Where upstream's binaries are.
pub(crate) struct Peers {
    /// The server.
    pub(crate) etcd: PathBuf,
    /// The client.
    pub(crate) etcdctl: PathBuf,
    /// The file tool.
    pub(crate) etcdutl: PathBuf,
}

impl Peers {
    /// Finds them in `ETCD_PEERS_DIR`, or in `peers/etcd/` under the build folder.
    ///
    /// # Errors
    /// When one is missing; with how to fetch it.
    pub(crate) fn find() -> Result<Self> {
        let dir = match std::env::var_os("ETCD_PEERS_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => shell::target_dir().join("peers/etcd"),
        };
        let peers = Self { etcd: dir.join("etcd"), etcdctl: dir.join("etcdctl"), etcdutl: dir.join("etcdutl") };
        for binary in [&peers.etcd, &peers.etcdctl, &peers.etcdutl] {
            if !binary.is_file() {
                bail!(
                    "upstream's binary {} is missing.\n  Next: `cargo xtask peers` fetches etcd 3.5.1 there; or set \
                     ETCD_PEERS_DIR to a folder that has etcd, etcdctl and etcdutl.",
                    binary.display()
                );
            }
        }
        Ok(peers)
    }
}
