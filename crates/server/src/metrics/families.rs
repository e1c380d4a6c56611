//! The families with etcd's names, types, help texts and bounds.
//!
//! Some names that end in `_total` are gauges: so they are in etcd, and `rate()` rules depend on it.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};

const CONSTANT: &str = "names and bounds are constants that the tests build";

/// `etcd_server_*`, `etcd_cluster_version`.
pub struct Server {
    /// 1 while a leader is known.
    pub has_leader: IntGauge,
    /// 1 while this member leads.
    pub is_leader: IntGauge,
    /// 1 while this member only learns.
    pub is_learner: IntGauge,
    /// Leader changes seen.
    pub leader_changes: IntCounter,
    /// Index of the last committed entry.
    pub proposals_committed: IntGauge,
    /// Index of the last applied entry.
    pub proposals_applied: IntGauge,
    /// Proposals that wait for their answer.
    pub proposals_pending: IntGauge,
    /// Proposals that were refused or lost.
    pub proposals_failed: IntCounter,
    /// Commands that took longer than `--experimental-warning-apply-duration`.
    pub slow_apply: IntCounter,
    /// Damaged members whose place was given to a newcomer.
    pub members_replaced: IntCounter,
    /// Comparisons of the members' digests in which all held the same.
    pub digests_compared: IntCounter,
    /// Linearizable reads that waited long for their turn.
    pub slow_read_indexes: IntCounter,
    /// Linearizable reads that got no turn.
    pub read_indexes_failed: IntCounter,
    /// Heartbeats sent late.
    pub heartbeat_send_failures: IntCounter,
    /// The quota; 0 when there is none.
    pub quota_backend_bytes: IntGauge,
    /// Good answers of `/health`.
    pub health_success: IntCounter,
    /// Bad answers of `/health`.
    pub health_failures: IntCounter,
    /// 1 while a snapshot from the leader is taken in.
    pub snapshot_apply_in_progress: IntGauge,
    /// Learners promoted.
    pub learner_promote_successes: IntCounter,
    /// Leases that ended because their time was up.
    pub lease_expired: IntCounter,
    apply: Vec<[Histogram; 2]>,
    healthcheck: IntGaugeVec,
    healthchecks: IntCounterVec,
    id: IntGaugeVec,
    cluster_version: IntGaugeVec,
}

/// What `etcd_server_apply_duration_seconds` tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ApplyOp {
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    Auth,
    Other,
}

impl ApplyOp {
    const NAMES: [&str; 10] = [
        "Put",
        "DeleteRange",
        "Txn",
        "Compaction",
        "LeaseGrant",
        "LeaseRevoke",
        "LeaseCheckpoint",
        "Alarm",
        "Auth",
        "Unknown",
    ];
}

impl Server {
    pub(super) fn new(registry: &Registry) -> Self {
        let apply_options = HistogramOpts::new(
            "etcd_server_apply_duration_seconds",
            "The latency distributions of v2 apply called by backend.",
        );
        let apply_options = apply_options.buckets(bounds(0.0001, 20));
        let apply = HistogramVec::new(apply_options, &["version", "op", "success"]).expect(CONSTANT);
        let apply = register(registry, apply);
        let version = gauges(
            registry,
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            &["server_version"],
        );
        version.with_label_values(&[crate::VERSION]).set(1);
        let server = Self {
            has_leader: gauge(
                registry,
                "etcd_server_has_leader",
                "Whether or not a leader exists. 1 is existence, 0 is not.",
            ),
            is_leader: gauge(
                registry,
                "etcd_server_is_leader",
                "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            ),
            is_learner: gauge(
                registry,
                "etcd_server_is_learner",
                "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            ),
            leader_changes: counter(
                registry,
                "etcd_server_leader_changes_seen_total",
                "The number of leader changes seen.",
            ),
            proposals_committed: gauge(
                registry,
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed.",
            ),
            proposals_applied: gauge(
                registry,
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied.",
            ),
            proposals_pending: gauge(
                registry,
                "etcd_server_proposals_pending",
                "The current number of pending proposals to commit.",
            ),
            proposals_failed: counter(
                registry,
                "etcd_server_proposals_failed_total",
                "The total number of failed proposals seen.",
            ),
            members_replaced: counter(
                registry,
                "eyrie_members_replaced_total",
                "Damaged members whose place this leader gave to a newcomer.",
            ),
            digests_compared: counter(
                registry,
                "eyrie_digests_compared_total",
                "Comparisons of the members' digests by this leader in which all held the same.",
            ),
            slow_apply: counter(
                registry,
                "etcd_server_slow_apply_total",
                "The total number of slow apply requests (likely overloaded from slow disk).",
            ),
            slow_read_indexes: counter(
                registry,
                "etcd_server_slow_read_indexes_total",
                "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            ),
            read_indexes_failed: counter(
                registry,
                "etcd_server_read_indexes_failed_total",
                "The total number of failed read indexes seen.",
            ),
            heartbeat_send_failures: counter(
                registry,
                "etcd_server_heartbeat_send_failures_total",
                "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
            ),
            quota_backend_bytes: gauge(
                registry,
                "etcd_server_quota_backend_bytes",
                "Current backend storage quota size in bytes.",
            ),
            health_success: counter(
                registry,
                "etcd_server_health_success",
                "The total number of successful health checks",
            ),
            health_failures: counter(
                registry,
                "etcd_server_health_failures",
                "The total number of failed health checks",
            ),
            snapshot_apply_in_progress: gauge(
                registry,
                "etcd_server_snapshot_apply_in_progress_total",
                "1 if the server is applying the incoming snapshot. 0 if none.",
            ),
            learner_promote_successes: counter(
                registry,
                "etcd_server_learner_promote_successes",
                "The total number of successful learner promotions while this member is leader.",
            ),
            lease_expired: counter(
                registry,
                "etcd_debugging_server_lease_expired_total",
                "The total number of expired leases.",
            ),
            apply: ApplyOp::NAMES
                .map(|op| ["false", "true"].map(|success| apply.with_label_values(&["v3", op, success])))
                .into(),
            healthcheck: gauges(
                registry,
                "etcd_server_healthcheck",
                "The result of each kind of healthcheck.",
                &["type", "name"],
            ),
            healthchecks: counters(
                registry,
                "etcd_server_healthchecks_total",
                "The total number of each kind of healthcheck.",
                &["type", "name", "status"],
            ),
            id: gauges(
                registry,
                "etcd_server_id",
                "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
                &["server_id"],
            ),
            cluster_version: gauges(
                registry,
                "etcd_cluster_version",
                "Which version is running. 1 for 'cluster_version' label with current cluster version",
                &["cluster_version"],
            ),
        };
        for (kind, name) in [
            ("livez", "serializable_read"),
            ("readyz", "data_corruption"),
            ("readyz", "serializable_read"),
            ("readyz", "linearizable_read"),
            ("readyz", "non_learner"),
        ] {
            server.healthcheck.with_label_values(&[kind, name]).set(0);
        }
        server
    }

    /// Says who this member is.
    pub fn set_id(&self, member: u64) {
        self.id.reset();
        self.id.with_label_values(&[&format!("{member:x}")]).set(1);
    }

    /// Says the cluster version: major and minor only, like `3.5`.
    pub fn set_cluster_version(&self, version: &str) {
        self.cluster_version.reset();
        self.cluster_version.with_label_values(&[version]).set(1);
    }

    /// The times of one kind of command; keep the handle or ask each time, both are cheap.
    pub fn apply(&self, op: ApplyOp, success: bool) -> &Histogram {
        &self.apply[op as usize][usize::from(success)]
    }

    pub(crate) fn health_checked(&self, kind: &str, name: &str, good: bool) {
        let status = if good { "success" } else { "error" };
        self.healthcheck.with_label_values(&[kind, name]).set(i64::from(good));
        self.healthchecks.with_label_values(&[kind, name, status]).inc();
    }
}

/// `etcd_disk_*`.
pub struct Disk {
    /// Seconds of each sync of the log.
    pub wal_fsync: Histogram,
    /// Bytes written to the log.
    pub wal_write_bytes: IntGauge,
    /// Seconds of each commit of the tables.
    pub backend_commit: Histogram,
    /// Seconds of each defragmentation.
    pub backend_defrag: Histogram,
    /// Seconds of each snapshot sent.
    pub backend_snapshot: Histogram,
    /// 1 while a defragmentation runs.
    pub defrag_inflight: IntGauge,
}

impl Disk {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            wal_fsync: histogram(
                registry,
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
                bounds(0.001, 14),
            ),
            wal_write_bytes: gauge(
                registry,
                "etcd_disk_wal_write_bytes_total",
                "Total number of bytes written in WAL.",
            ),
            backend_commit: histogram(
                registry,
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend.",
                bounds(0.001, 14),
            ),
            backend_defrag: histogram(
                registry,
                "etcd_disk_backend_defrag_duration_seconds",
                "The latency distribution of backend defragmentation.",
                bounds(0.1, 13),
            ),
            backend_snapshot: histogram(
                registry,
                "etcd_disk_backend_snapshot_duration_seconds",
                "The latency distribution of backend snapshots.",
                bounds(0.01, 17),
            ),
            defrag_inflight: gauge(
                registry,
                "etcd_disk_defrag_inflight",
                "Whether or not defrag is active on the member. 1 means active, 0 means not.",
            ),
        }
    }
}

/// `etcd_mvcc_*`, `etcd_debugging_mvcc_*`.
pub struct Mvcc {
    /// Bytes that the tables hold on disk.
    pub db_total_size: IntGauge,
    /// The same, under the name of old dashboards.
    pub debugging_db_total_size: IntGauge,
    /// Bytes of them that are in use.
    pub db_in_use_size: IntGauge,
    /// Long reads open now.
    pub db_open_read_transactions: IntGauge,
    /// Puts.
    pub puts: IntCounter,
    /// Deletes.
    pub deletes: IntCounter,
    /// Ranges.
    pub ranges: IntCounter,
    /// The same, under the name of old dashboards.
    pub debugging_ranges: IntCounter,
    /// Transactions.
    pub txns: IntCounter,
    /// Seconds of each whole hash.
    pub hash: Histogram,
    /// Seconds of each hash at a revision.
    pub hash_rev: Histogram,
    /// Keys now.
    pub keys: IntGauge,
    /// The revision.
    pub current_revision: IntGauge,
    /// The revision of the last compaction.
    pub compact_revision: IntGauge,
    /// Records removed by compaction.
    pub compaction_keys: IntCounter,
    /// Unix time of the last compaction.
    pub compaction_last: IntGauge,
    /// Milliseconds of each step of a compaction.
    pub compaction_pause: Histogram,
    /// Milliseconds of each compaction.
    pub compaction_total: Histogram,
    /// Milliseconds that the key index was held for compaction.
    pub index_compaction_pause: Histogram,
    /// Events sent to watchers.
    pub events: IntCounter,
    /// Events that wait to be sent.
    pub pending_events: IntGauge,
    /// Watchers that lag behind.
    pub slow_watchers: IntGauge,
    /// Bytes of all puts.
    pub put_bytes: IntGauge,
    /// Watch streams open now.
    pub watch_streams: IntGauge,
    /// Watchers now.
    pub watchers: IntGauge,
}

impl Mvcc {
    pub(super) fn new(registry: &Registry) -> Self {
        let physical = "Total size of the underlying database physically allocated in bytes.";
        let ranges = "Total number of ranges seen by this member.";
        Self {
            db_total_size: gauge(registry, "etcd_mvcc_db_total_size_in_bytes", physical),
            debugging_db_total_size: gauge(registry, "etcd_debugging_mvcc_db_total_size_in_bytes", physical),
            db_in_use_size: gauge(
                registry,
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Total size of the underlying database logically in use in bytes.",
            ),
            db_open_read_transactions: gauge(
                registry,
                "etcd_mvcc_db_open_read_transactions",
                "The number of currently open read transactions",
            ),
            puts: counter(registry, "etcd_mvcc_put_total", "Total number of puts seen by this member."),
            deletes: counter(registry, "etcd_mvcc_delete_total", "Total number of deletes seen by this member."),
            ranges: counter(registry, "etcd_mvcc_range_total", ranges),
            debugging_ranges: counter(registry, "etcd_debugging_mvcc_range_total", ranges),
            txns: counter(registry, "etcd_mvcc_txn_total", "Total number of txns seen by this member."),
            hash: histogram(
                registry,
                "etcd_mvcc_hash_duration_seconds",
                "The latency distribution of storage hash operation.",
                bounds(0.01, 15),
            ),
            hash_rev: histogram(
                registry,
                "etcd_mvcc_hash_rev_duration_seconds",
                "The latency distribution of storage hash by revision operation.",
                bounds(0.01, 15),
            ),
            keys: gauge(registry, "etcd_debugging_mvcc_keys_total", "Total number of keys."),
            current_revision: gauge(registry, "etcd_debugging_mvcc_current_revision", "The current revision of store."),
            compact_revision: gauge(
                registry,
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction in store.",
            ),
            compaction_keys: counter(
                registry,
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Total number of db keys compacted.",
            ),
            compaction_last: gauge(
                registry,
                "etcd_debugging_mvcc_db_compaction_last",
                "The unix time of the last db compaction. Resets to 0 on start.",
            ),
            compaction_pause: histogram(
                registry,
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Bucketed histogram of db compaction pause duration.",
                bounds(1.0, 13),
            ),
            compaction_total: histogram(
                registry,
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Bucketed histogram of db compaction total duration.",
                bounds(100.0, 14),
            ),
            index_compaction_pause: histogram(
                registry,
                "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                "Bucketed histogram of index compaction pause duration.",
                bounds(0.5, 14),
            ),
            events: counter(
                registry,
                "etcd_debugging_mvcc_events_total",
                "Total number of events sent by this member.",
            ),
            pending_events: gauge(
                registry,
                "etcd_debugging_mvcc_pending_events_total",
                "Total number of pending events to be sent.",
            ),
            slow_watchers: gauge(
                registry,
                "etcd_debugging_mvcc_slow_watcher_total",
                "Total number of unsynced slow watchers.",
            ),
            put_bytes: gauge(
                registry,
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "The total size of put kv pairs seen by this member.",
            ),
            watch_streams: gauge(registry, "etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams."),
            watchers: gauge(registry, "etcd_debugging_mvcc_watcher_total", "Total number of watchers."),
        }
    }
}

/// `etcd_debugging_lease_*`, `etcd_debugging_auth_revision`.
pub struct Lease {
    /// Leases granted.
    pub granted: IntCounter,
    /// Leases renewed.
    pub renewed: IntCounter,
    /// Leases revoked.
    pub revoked: IntCounter,
    /// Seconds of each lease granted.
    pub ttl: Histogram,
    /// The revision of users and roles.
    pub auth_revision: IntGauge,
}

impl Lease {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            granted: counter(registry, "etcd_debugging_lease_granted_total", "The total number of granted leases."),
            renewed: counter(
                registry,
                "etcd_debugging_lease_renewed_total",
                "The number of renewed leases seen by the leader.",
            ),
            revoked: counter(registry, "etcd_debugging_lease_revoked_total", "The total number of revoked leases."),
            ttl: histogram(
                registry,
                "etcd_debugging_lease_ttl_total",
                "Bucketed histogram of lease TTLs.",
                bounds(1.0, 24),
            ),
            auth_revision: gauge(registry, "etcd_debugging_auth_revision", "The current revision of auth store."),
        }
    }
}

/// `etcd_snap_*`: snapshots that members send each other.
pub struct Snap {
    /// Seconds of each sync of a received snapshot.
    pub db_fsync: Histogram,
    /// Seconds of each whole receipt.
    pub db_save_total: Histogram,
    /// Seconds of each sync of a raft snapshot.
    pub fsync: Histogram,
}

impl Snap {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            db_fsync: histogram(
                registry,
                "etcd_snap_db_fsync_duration_seconds",
                "The latency distributions of fsyncing .snap.db file",
                bounds(0.001, 14),
            ),
            db_save_total: histogram(
                registry,
                "etcd_snap_db_save_total_duration_seconds",
                "The total latency distributions of v3 snapshot save",
                bounds(0.1, 10),
            ),
            fsync: histogram(
                registry,
                "etcd_snap_fsync_duration_seconds",
                "The latency distributions of fsync called by snap.",
                bounds(0.001, 14),
            ),
        }
    }
}

fn bounds(start: f64, count: usize) -> Vec<f64> {
    exponential_buckets(start, 2.0, count).expect(CONSTANT)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> C {
    registry.register(Box::new(family.clone())).expect(CONSTANT);
    family
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help).expect(CONSTANT))
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help).expect(CONSTANT))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels).expect(CONSTANT))
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels).expect(CONSTANT))
}

fn histogram(registry: &Registry, name: &str, help: &str, bounds: Vec<f64>) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds)).expect(CONSTANT))
}

pub(super) fn call_times(registry: &Registry) -> HistogramVec {
    let help = "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.";
    let options = HistogramOpts::new("grpc_server_handling_seconds", help);
    let options = options.buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
    let labels = ["grpc_type", "grpc_service", "grpc_method"];
    register(registry, HistogramVec::new(options, &labels).expect(CONSTANT))
}
