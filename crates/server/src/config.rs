//! How one member runs: every value already parsed and checked by whoever reads flags and files.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::auth::{AuthSettings, JwtSettings, TokenKind};

/// A URL that the member listens on or advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https` or `unixs`.
    pub tls: bool,
    /// Where: `host:port`, or a path for unix sockets.
    pub address: Address,
}

/// The place a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host (IP or name) and port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => {
                let scheme = if self.tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Address::Unix(path) => write!(f, "{}://{}", if self.tls { "unixs" } else { "unix" }, path.display()),
        }
    }
}

/// What compaction the store does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Only by hand.
    Off,
    /// Keep this long a history.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

/// Certificates of one side, clients' or members', and whom they admit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// What this member shows, with its chain.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// What this member shows where it is the client; `None`: the same.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Whoever connects must show a certificate.
    pub client_cert_auth: bool,
    /// Who vouches for those who connect (and for members that are dialled); naming them is asking for certificates.
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificates that were revoked.
    pub crl_file: Option<PathBuf>,
    /// Common names that are admitted; with none and no host name below, all.
    pub allowed_cns: Vec<String>,
    /// Host names that are admitted when the certificate is good for one of them.
    pub allowed_hostnames: Vec<String>,
    /// A member's certificate need not name the address that it comes from.
    pub skip_client_san_verification: bool,
    /// Make a certificate where none is given.
    pub auto: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// What holds for all encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsBounds {
    /// The oldest version; `None`: 1.2.
    pub min: Option<TlsVersion>,
    /// The newest version; `None`: 1.3.
    pub max: Option<TlsVersion>,
    /// Go's names of the suites of TLS 1.2 that may be used; with none, all that are sound.
    pub cipher_suites: Vec<String>,
    /// How long a certificate is good that the member makes for itself.
    pub self_signed_cert_validity_years: u32,
}

impl Default for TlsBounds {
    fn default() -> Self {
        Self { min: None, max: None, cipher_suites: Vec::new(), self_signed_cert_validity_years: 1 }
    }
}

/// Everything a member needs to know at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Human-readable name of this member.
    pub name: String,
    /// Where its data lives.
    pub data_dir: PathBuf,
    /// A disk of its own for the log.
    pub wal_dir: Option<PathBuf>,
    /// Where clients connect.
    pub listen_client_urls: Vec<Url>,
    /// Where HTTP/JSON is served apart from gRPC; empty: on the client URLs too.
    pub listen_client_http_urls: Vec<Url>,
    /// Where other members connect.
    pub listen_peer_urls: Vec<Url>,
    /// Extra places that serve /metrics and /health.
    pub listen_metrics_urls: Vec<Url>,
    /// What clients are told, as typed.
    pub advertise_client_urls: Vec<String>,
    /// What members are told, as typed.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The members at first start: name and peer URL, as typed, in order.
    pub initial_cluster: Vec<(String, String)>,
    /// Goes into the ids.
    pub initial_cluster_token: String,
    /// `existing`: join instead of founding.
    pub initial_cluster_existing: bool,
    /// Refuse changes of the members that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// Learners at a time.
    pub max_learners: usize,
    /// Go on as a cluster of one, without the other members.
    pub force_new_cluster: bool,
    /// Raft tick.
    pub heartbeat_interval: Duration,
    /// Raft election timeout.
    pub election_timeout: Duration,
    /// Log entries to keep behind the applied index before the log is cut.
    pub snapshot_count: u64,
    /// 0: the default of 2 GiB; negative: no quota.
    pub quota_backend_bytes: i64,
    /// Operations in one transaction.
    pub max_txn_ops: usize,
    /// Bytes of one request.
    pub max_request_bytes: usize,
    /// Streams of one connection.
    pub max_concurrent_streams: u32,
    /// Compaction without being asked.
    pub auto_compaction: AutoCompaction,
    /// How often watchers that asked for it hear that nothing happened.
    pub watch_progress_notify_interval: Duration,
    /// Remember the remaining time of long leases.
    pub lease_checkpoint: bool,
    /// Revisions removed in one compaction step, and the pause after it.
    pub compaction_batch_limit: usize,
    /// See above.
    pub compaction_sleep_interval: Duration,
    /// How long staged changes may wait before they go to the tables.
    pub backend_batch_interval: Duration,
    /// Serve the JSON gateway.
    pub enable_grpc_gateway: bool,
    /// Histograms of request times too.
    pub extensive_metrics: bool,
    /// Allowed CORS origins; `*` for all.
    pub cors: Vec<String>,
    /// Allowed Host headers; `*` for all.
    pub host_whitelist: Vec<String>,
    /// How users prove who they are.
    pub auth: AuthSettings,
    /// A request slower than this is logged.
    pub warning_apply_duration: Duration,
    /// Smallest interval of client pings.
    pub grpc_keepalive_min_time: Duration,
    /// Server pings.
    pub grpc_keepalive_interval: Duration,
    /// How long the server waits for a ping's answer.
    pub grpc_keepalive_timeout: Duration,
    /// Never wait for the disk (tests only; loses data on power failure).
    pub unsafe_no_fsync: bool,
    /// Check the tables wholly at start.
    pub initial_corrupt_check: bool,
    /// Check them wholly so often while running; zero for never.
    pub corrupt_check_time: Duration,
    /// Compare the members' digests so often; zero for never.
    pub digest_time: Duration,
    /// A member of a cluster whose data is damaged is rebuilt from the others.
    pub self_repair: bool,
    /// Certificates for clients.
    pub client_tls: TlsConfig,
    /// Certificates between members.
    pub peer_tls: TlsConfig,
    /// Versions and ciphers of both.
    pub tls: TlsBounds,
    /// Files that the process may have open: bounds the connections.
    pub open_files: usize,
    /// The threads that serve clients; 0 for one per core.
    pub edge_threads: usize,
    /// Gives memory that the calling thread no longer needs back to the system: called by each thread now and then. What
    /// that takes is the allocator's business, and so the binary's.
    pub give_back_memory: fn(),
}

impl Config {
    /// How long a request may take: 5 s and two elections, as in etcd.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// There are others from which this member could be rebuilt.
    pub(crate) fn may_self_repair(&self) -> bool {
        self.self_repair && !self.force_new_cluster && self.initial_cluster.iter().any(|(name, _)| *name != self.name)
    }

    /// How many threads serve clients.
    pub(crate) fn edges(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.edge_threads == 0 { cores() } else { self.edge_threads }
    }
}

impl Default for Config {
    fn default() -> Self {
        let client = || Url { tls: false, address: Address::Tcp("localhost".into(), 2379) };
        let peer = || Url { tls: false, address: Address::Tcp("localhost".into(), 2380) };
        Self {
            name: "default".into(),
            data_dir: "default.etcd".into(),
            wal_dir: None,
            listen_client_urls: vec![client()],
            listen_client_http_urls: vec![],
            listen_peer_urls: vec![peer()],
            listen_metrics_urls: vec![],
            advertise_client_urls: vec!["http://localhost:2379".into()],
            initial_advertise_peer_urls: vec!["http://localhost:2380".into()],
            initial_cluster: vec![("default".into(), "http://localhost:2380".into())],
            initial_cluster_token: "etcd-cluster".into(),
            initial_cluster_existing: false,
            strict_reconfig_check: true,
            max_learners: 1,
            force_new_cluster: false,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 100_000,
            quota_backend_bytes: 0,
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            auto_compaction: AutoCompaction::Off,
            watch_progress_notify_interval: Duration::from_secs(600),
            lease_checkpoint: true,
            compaction_batch_limit: 1000,
            compaction_sleep_interval: Duration::from_millis(10),
            backend_batch_interval: Duration::from_millis(100),
            enable_grpc_gateway: true,
            extensive_metrics: false,
            cors: vec!["*".into()],
            host_whitelist: vec!["*".into()],
            auth: AuthSettings::default(),
            warning_apply_duration: Duration::from_millis(100),
            grpc_keepalive_min_time: Duration::from_secs(5),
            grpc_keepalive_interval: Duration::from_secs(2 * 60 * 60),
            grpc_keepalive_timeout: Duration::from_secs(20),
            unsafe_no_fsync: false,
            initial_corrupt_check: false,
            corrupt_check_time: Duration::ZERO,
            digest_time: Duration::from_secs(600),
            self_repair: true,
            client_tls: TlsConfig::default(),
            peer_tls: TlsConfig::default(),
            tls: TlsBounds::default(),
            open_files: 1024,
            edge_threads: 0,
            give_back_memory: || {},
        }
    }
}
