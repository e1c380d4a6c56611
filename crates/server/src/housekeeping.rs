//! What a member does by itself: says who it is, ends leases, compacts history.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use eyrie_state::{Command, Refusal, Revision};

use crate::chores::chore;
use crate::config::{AutoCompaction, Config};
use crate::errors::ServeError;
use crate::lease;
use crate::limits::REVISION_COMPACTION_INTERVAL;
use crate::store::Store;
use crate::version::CLUSTER_VERSION;
use crate::{log_info, log_warn};

/// How often a member that has no leader yet tries to publish itself.
const PUBLISH_RETRY: Duration = Duration::from_millis(20);
/// How often the room on the disk, and requests that wait too long, are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// Periodic compaction compacts at least this often (etcd's figure).
const PERIODIC_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Samples of the revision in one interval of periodic compaction (etcd's figure).
const SAMPLES_PER_INTERVAL: u32 = 10;

/// Puts this member's name and client URLs into the store. Returns once they are there.
pub(crate) async fn publish(store: &Store, config: &Config) {
    let id = store.identity().member;
    let urls = config.advertise_client_urls.clone();
    loop {
        let known = store.read(|state| {
            let same = state.member(id).is_some_and(|m| m.name == config.name && m.client_urls == urls);
            same && state.cluster_version() == Some(CLUSTER_VERSION)
        });
        if known && store.linearize().await.is_ok() {
            break;
        }
        let name = config.name.clone();
        let published = store.propose_now(Command::MemberPublish { id, name, client_urls: urls.clone() }).await;
        if published.is_ok() && store.propose_now(Command::ClusterVersion(CLUSTER_VERSION.into())).await.is_ok() {
            break;
        }
        tokio::time::sleep(PUBLISH_RETRY).await;
    }
    let (name, member) = (&config.name, format!("{:x}", id.0));
    let cluster = format!("{:x}", store.identity().cluster.0);
    log_info!(
        "published local member to cluster through raft",
        "local-member-id" = &member,
        "name" = name,
        "cluster-id" = &cluster
    );
}

/// Does everything that happens without being asked, until dropped. Runs inside a `LocalSet`.
pub(crate) async fn keep_house(store: Store, config: Config) {
    let compaction = async {
        match config.auto_compaction {
            AutoCompaction::Off => std::future::pending().await,
            AutoCompaction::Revision(keep) => compact_by_revision(&store, keep).await,
            AutoCompaction::Periodic(period) => compact_by_time(&store, period).await,
        }
    };
    let checkpoints = async {
        if config.lease_checkpoint {
            lease::checkpoint_loop(store.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    let checks = check_now_and_then(&store, config.corrupt_check_time);
    let digests = compare_now_and_then(&store, config.digest_time);
    let repair = store.keep_whole(config.may_self_repair());
    tokio::join!(
        lease::expiry_loop(store.clone()),
        checkpoints,
        compaction,
        watch_over(&store),
        checks,
        digests,
        repair
    );
}

async fn compare_now_and_then(store: &Store, pause: Duration) {
    if pause.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(pause).await;
        store.compare_digests().await;
    }
}

async fn check_now_and_then(store: &Store, pause: Duration) {
    if pause.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(pause).await;
        let store = store.clone();
        // A panic of the check is reported by the hook; the next round tries again.
        let _ = chore("check", move || store.check_everything()).await;
    }
}

async fn watch_over(store: &Store) {
    let mut tick = tokio::time::interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        store.give_up_on_the_overdue();
        if let Err(error) = store.look_at_the_disk() {
            let error = error.to_string();
            log_warn!("can't see how full the disk is; it is tried again", "error" = &error);
        }
    }
}

async fn compact_by_revision(store: &Store, keep: i64) {
    let mut tick = tokio::time::interval(REVISION_COMPACTION_INTERVAL);
    tick.tick().await;
    let mut last = 0;
    loop {
        tick.tick().await;
        let target = store.revision().0 - keep;
        if target > last && compact(store, target).await {
            last = target;
        }
    }
}

async fn compact_by_time(store: &Store, period: Duration) {
    let interval = period.min(PERIODIC_INTERVAL_MAX);
    let pause = (interval / SAMPLES_PER_INTERVAL).max(Duration::from_millis(1));
    let samples_kept = usize::try_from(period.as_nanos() / pause.as_nanos()).unwrap_or(usize::MAX) + 1;
    let mut samples = VecDeque::new();
    let mut last_success = Instant::now();
    let mut wait = period;
    loop {
        samples.push_back(store.revision().0);
        if samples.len() > samples_kept {
            samples.pop_front();
        }
        tokio::time::sleep(pause).await;
        if last_success.elapsed() < wait {
            continue;
        }
        wait = interval;
        let target = samples.front().copied().unwrap_or(0);
        if compact(store, target).await {
            last_success = Instant::now();
        }
    }
}

/// Compacts up to `target`. Returns whether that is done with (also when there was nothing to do).
async fn compact(store: &Store, target: i64) -> bool {
    let compacted = store.read(|state| state.compacted().map_or(0, |revision| revision.0));
    if !store.standing().is_leader || target <= compacted {
        return true;
    }
    match store.propose_now(Command::Compact { revision: Revision(target) }).await {
        Ok(_) => {
            log_info!("completed auto compaction", "revision" = &target);
            true
        }
        Err(ServeError::Refused(Refusal::Compacted)) => true,
        Err(error) => {
            let error = error.to_string();
            log_warn!("failed auto compaction; it is tried again", "revision" = &target, "error" = &error);
            false
        }
    }
}
