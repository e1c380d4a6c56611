//! What the HTTP pages ask of the store, and what is filled into the metrics only when somebody looks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eyrie_state::{AlarmKind, Range};

use crate::config::Config;
use crate::dispatch::Services;
use crate::http::{BoxFuture, Context, HealthSource, grpc_service};
use crate::metrics::{GrpcCounted, Metrics};
use crate::store::Store;

/// Everything that the pages of one member need.
pub(crate) fn context(store: &Store, services: GrpcCounted<Services>, config: &Config) -> Context {
    let metrics = store.metrics().clone();
    metrics.server.set_id(store.identity().member.0);
    let source = store.clone();
    metrics.on_scrape(move |metrics| fill_in(&source, metrics));
    Context {
        gateway: config.enable_grpc_gateway.then(|| grpc_service(services)),
        // Reads one key and shows nothing of it.
        health: Arc::new(Health(store.itself())),
        metrics,
        cors: config.cors.clone().into(),
        host_whitelist: config.host_whitelist.clone().into(),
    }
}

struct Health(Store);

impl HealthSource for Health {
    fn alarms(&self) -> Vec<&'static str> {
        let name = |kind| match kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        self.0.read(|state| state.alarms().map(|alarm| name(alarm.kind)).collect())
    }

    fn has_leader(&self) -> bool {
        self.0.standing().leader != 0
    }

    fn is_learner(&self) -> bool {
        self.0.is_learner()
    }

    fn read(&self, linearizable: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if linearizable {
                self.0.linearize().await.map_err(|error| tonic::Status::from(error).message().to_owned())?;
            }
            let one = Range { limit: 1, keys_only: true, ..Range::one("health") };
            match self.0.range(&one) {
                Ok(_) => Ok(()),
                Err(error) => Err(tonic::Status::from(error).message().to_owned()),
            }
        })
    }

    fn cluster_version(&self) -> Option<String> {
        self.0.read(|state| state.cluster_version().map(str::to_owned))
    }

    fn raft_status(&self) -> serde_json::Value {
        let standing = self.0.standing();
        serde_json::json!({
            "id": format!("{:x}", self.0.identity().member.0),
            "term": standing.term,
            "commit": standing.commit,
            "applied": self.0.applied(),
            "lead": format!("{:x}", standing.leader),
            "raftState": if standing.is_leader { "StateLeader" } else { "StateFollower" },
        })
    }
}

/// Fills in what is known anyway and need not be counted.
fn fill_in(store: &Store, metrics: &Metrics) {
    let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let standing = store.standing();
    metrics.server.has_leader.set(i64::from(standing.leader != 0));
    metrics.server.is_leader.set(i64::from(standing.is_leader));
    metrics.server.is_learner.set(i64::from(store.is_learner()));
    let links = store.shared().peers.links();
    metrics.network.see(
        store.identity().member.0,
        links.iter().map(|link| {
            let (round_trip, clock_ahead_nanos) = link.last_pulse();
            (link.member, link.connected_for().map(|_| round_trip), clock_ahead_nanos)
        }),
    );
    metrics.server.proposals_committed.set(gauge(standing.commit));
    metrics.server.proposals_applied.set(gauge(store.applied()));
    metrics.server.proposals_pending.set(gauge(store.shared().pending.len() as u64));
    metrics.server.quota_backend_bytes.set(gauge(store.quota_bytes().unwrap_or(0)));
    if let Ok(sizes) = store.sizes() {
        metrics.mvcc.db_total_size.set(gauge(sizes.file_bytes));
        metrics.mvcc.debugging_db_total_size.set(gauge(sizes.file_bytes));
        metrics.mvcc.db_in_use_size.set(gauge(sizes.in_use_bytes));
    }
    let (keys, revision, compacted, version) = store.read(|state| {
        let version = state.cluster_version().map(str::to_owned);
        (state.key_count(), state.revision().0, state.compacted().map_or(-1, |at| at.0), version)
    });
    metrics.mvcc.keys.set(gauge(keys as u64));
    metrics.mvcc.current_revision.set(revision);
    metrics.mvcc.compact_revision.set(compacted);
    if let Some(version) = version {
        metrics.server.set_cluster_version(&version);
    }
    let watch = store.hub().stats();
    metrics.mvcc.watchers.set(gauge(watch.watchers.load(Ordering::Relaxed)));
    metrics.mvcc.watch_streams.set(gauge(watch.streams.load(Ordering::Relaxed)));
    metrics.mvcc.slow_watchers.set(gauge(watch.slow_watchers.load(Ordering::Relaxed)));
    metrics.mvcc.pending_events.set(gauge(watch.pending_events.load(Ordering::Relaxed) as u64));
    crate::metrics::catch_up(&metrics.mvcc.events, watch.events.load(Ordering::Relaxed));
}
