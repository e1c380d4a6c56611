//! Starting a member: founds a store where there is nothing, takes up the one that is there, refuses everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use eyrie_disk::datadir::{self, DataDir, Kind};
use eyrie_disk::tables::{OnCommit, Options, RedbTables};
use eyrie_disk::transfer;
use eyrie_disk::wal::{Recovered, Wal, WalMeta, WalOptions};
use eyrie_raft::{Entry, Group, LogStart, Membership, Pace};
use eyrie_state::{Lease, LogIndex, Member, State};
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::apply_thread::ApplyThread;
use super::log::Log;
use super::progress::{DiskFull, Ending, Progress};
use super::raft_thread::RaftThread;
use super::{Fatal, Identity, Inbox, Shared, Threads, alone, found, rebuild};
use crate::auth::Guard;
use crate::completions::Trays;
use crate::config::Config;
use crate::lease::Lessor;
use crate::limits::{APPLY_ROUNDS_WAITING_MAX, LEASE_TICK, LOG_ENTRIES_KEPT_MAX, TABLE_CACHE_BYTES};
use crate::metrics::Metrics;
use crate::peer::{Peers, membership};
use crate::tls::PeerTls;
use crate::watch::WatchHub;
use crate::{log_error, log_info, log_warn};

/// A member that has been opened and runs.
pub(crate) struct Started {
    pub(crate) shared: Arc<Shared>,
    pub(crate) threads: Threads,
    /// Holds the directory's lock for as long as the member runs.
    pub(crate) dir: DataDir,
}

/// Opens or founds the store that `config` names and starts its threads. A member of a cluster whose data is damaged is
/// rebuilt from the others, where that is allowed and possible; `damage` is what an earlier run found.
///
/// # Errors
/// [`Fatal`]: nothing was changed that was there before.
pub(crate) fn start(config: &Config, tls: Option<PeerTls>, damage: Option<&str>) -> Result<Started, Fatal> {
    let begun = Instant::now();
    if let Some(why) = damage
        && let Err(why_not) = rebuild::rejoin(config, tls.as_ref(), why)
    {
        log_warn!("this member can't be rebuilt from the others now; it goes on as it is", "error" = &why_not);
    }
    let fatal = match open_and_run(config, tls.clone(), begun) {
        Err(fatal) if fatal.is_damage() && config.may_self_repair() && damage.is_none() => fatal,
        started => return started,
    };
    let why = fatal.to_string();
    log_error!("this member's data is damaged: it takes no part in the cluster with it", "error" = &why);
    match rebuild::rejoin(config, tls.as_ref(), &why) {
        Ok(()) => open_and_run(config, tls, begun),
        Err(why_not) => Err(Fatal::Other(format!(
            "{why}. It was not rebuilt from the other members: {why_not}. To replace it by hand: etcdctl member remove ID, then \
             etcdctl member add NAME --peer-urls=URL, and start it with an empty --data-dir and --initial-cluster-state=existing"
        ))),
    }
}

fn open_and_run(config: &Config, tls: Option<PeerTls>, begun: Instant) -> Result<Started, Fatal> {
    let wal_dir = config.wal_dir.as_deref();
    let dir = match DataDir::inspect(&config.data_dir)? {
        Kind::Absent | Kind::Empty | Kind::Unfinished => found::begin(config, tls.as_ref())?,
        Kind::Eyrie { .. } => DataDir::open(&config.data_dir, wal_dir)?,
        other => return Err(datadir::refusal(&config.data_dir, &other).into()),
    };
    let identity = Identity { cluster: dir.identity().cluster, member: dir.identity().member };
    let (mut wal, mut recovered) =
        Wal::open(dir.wal_path(), wal_meta(identity), WalOptions::default()).map_err(Fatal::wal)?;
    if let Some(torn) = &recovered.torn {
        let (file, offset, bytes, why) = (torn.file.display().to_string(), torn.offset, torn.bytes, torn.why);
        log_warn!(
            "cut a write that a crash left unfinished at the end of the log; nothing acknowledged was in it",
            "file" = &file,
            "offset" = &offset,
            "bytes" = &bytes,
            "why" = why
        );
    }
    let log_start = LogIndex(recovered.start.index);
    if transfer::settle(dir.path(), &dir.tables_path(), log_start).map_err(|fault| Fatal::Other(fault.to_string()))? {
        log_info!("took over the store as the leader sent it before this member ended", "index" = &log_start.0);
    }
    let metrics = Arc::new(Metrics::new(config.extensive_metrics));
    let heard = metrics.clone();
    let on_commit = OnCommit::new(move |took| heard.disk.backend_commit.observe(took.as_secs_f64()));
    let options = Options { on_commit, ..table_options(config) };
    let mut tables = RedbTables::open(&dir.tables_path(), options.clone()).map_err(Fatal::tables)?;
    if config.force_new_cluster {
        alone::go_on_alone(identity, tls.as_ref(), &mut tables, &mut recovered, &mut wal)?;
    }
    let handle = tables.handle();
    if config.initial_corrupt_check {
        handle.view().full_scan(&mut |_, _, _| true).map_err(Fatal::tables)?;
    }
    let state = State::open(tables).map_err(Fatal::halt)?;
    let members: Vec<Member> = state.members().cloned().collect();
    found::refuse_the_wrong_directory(&members, state.removed_members(), &dir, config)?;
    let (applied, applied_term) = state.applied();
    recovered.must_meet(applied.0).map_err(Fatal::Apart)?;
    let seed = chance();
    let election_ticks = ticks(config.election_timeout, config.heartbeat_interval);
    let pace = Pace { election_ticks, heartbeat_ticks: 1, seed };
    let hard_state = recovered.hard_state;
    let membership = votes_at_start(&recovered.start, applied.0, &members);
    let (log_start, entries) = still_wanted(recovered, applied.0);
    let group = Group::open(identity.member.0, pace, &log_start, hard_state, &entries, applied.0, &membership)
        .map_err(Fatal::raft)?;
    let to_apply = log_start.index + entries.len() as u64 - applied.0;
    drop(entries);
    let (keys, revision) = (state.key_count(), state.revision().0);
    let took = format!("{:?}", begun.elapsed());
    log_info!(
        "opened the store",
        "keys" = &keys,
        "revision" = &revision,
        "applied-index" = &applied.0,
        "log-entries-to-apply" = &to_apply,
        "took" = &took
    );

    let guard = Guard::new(&config.auth, state.auth().enabled())?;
    let lessor = Lessor::new(state.leases().map(lease_times), config.election_timeout, LEASE_TICK);
    let shared = Arc::new(Shared {
        identity,
        hub: WatchHub::new(state.revision()),
        state: RwLock::new(state),
        table_bytes: AtomicU64::new(handle.sizes().map_err(Fatal::tables)?.file_bytes),
        tables: RwLock::new(handle),
        replacing_tables: AtomicBool::new(false),
        data_dir: dir.path().to_path_buf(),
        inbox: Inbox::default(),
        pending: Default::default(),
        trays: Arc::new(Trays::new(config.edges())),
        read_trays: Arc::new(Trays::new(config.edges())),
        changes: Default::default(),
        peers: Peers::new(identity, seed, tls),
        progress: Progress::default(),
        disk_full: DiskFull::default(),
        tables_full: DiskFull::default(),
        lessor,
        guard,
        metrics,
        damage_said: AtomicBool::new(false),
        applied_moved: Notify::new(),
        compaction_done: Notify::new(),
        ending: Ending::default(),
    });
    shared.progress.begin(applied.0, applied_term.0);
    shared.progress.votes(identity.member.0, &membership);
    shared.follow_members();
    let threads = spawn(config, &shared, group, wal, options)?;
    Ok(Started { shared, threads, dir })
}

/// What of the log memory needs: entries that the tables lack, and a few before them. A log holds many more.
fn still_wanted(recovered: Recovered, applied: u64) -> (LogStart, Vec<Entry>) {
    let Recovered { start, mut entries, .. } = recovered;
    let index = applied.saturating_sub(LOG_ENTRIES_KEPT_MAX);
    let Some(last_unwanted) = index.checked_sub(start.index + 1).and_then(|at| entries.get(usize::try_from(at).ok()?))
    else {
        return (start, entries);
    };
    let begun = LogStart { index, term: last_unwanted.term, membership: start.membership };
    let wanted = entries.split_off(usize::try_from(index - start.index).unwrap_or(usize::MAX));
    (begun, wanted)
}

/// Who votes as of the last applied entry: what the state's rows say. Only a member that joins and was not yet told
/// anything has a log that begins with nobody.
fn votes_at_start(start: &LogStart, applied: u64, members: &[Member]) -> Membership {
    let told_nothing = applied == 0 && start.membership == Membership::default();
    if told_nothing { Membership::default() } else { membership(members) }
}

/// A number that no other start has.
fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

pub(super) fn wal_meta(identity: Identity) -> WalMeta {
    WalMeta { cluster: identity.cluster.0, member: identity.member.0 }
}

pub(super) fn table_options(config: &Config) -> Options {
    Options { flush_interval: config.backend_batch_interval, cache_bytes: TABLE_CACHE_BYTES, ..Options::default() }
}

fn ticks(election_timeout: Duration, heartbeat: Duration) -> usize {
    let ticks = election_timeout.as_millis() / heartbeat.as_millis().max(1);
    usize::try_from(ticks).unwrap_or(10).max(2)
}

pub(super) fn lease_times(lease: &Lease) -> (eyrie_state::LeaseId, Duration, Duration) {
    let seconds = |secs: i64| Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    let ttl = seconds(lease.ttl_secs);
    let left = if lease.remaining_secs > 0 { seconds(lease.remaining_secs) } else { ttl };
    (lease.id, ttl, left)
}

fn spawn(
    config: &Config,
    shared: &Arc<Shared>,
    group: Group,
    wal: Wal,
    table_options: Options,
) -> Result<Threads, Fatal> {
    let (to_apply, committed) = sync_channel(APPLY_ROUNDS_WAITING_MAX);
    let among_others = group.membership().voters != [shared.identity.member.0];
    let raft = RaftThread {
        shared: shared.clone(),
        group,
        log: Log::Here(Box::new(wal)),
        among_others,
        apply: to_apply,
        tick: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        request_timeout: config.request_timeout(),
        snapshot_count: config.snapshot_count,
        anew_at: 0,
        fsync: !config.unsafe_no_fsync,
        give_back_memory: config.give_back_memory,
    };
    let apply = ApplyThread {
        shared: shared.clone(),
        committed,
        table_options,
        election_timeout: config.election_timeout,
        warning_apply_duration: config.warning_apply_duration,
        compaction_keys_per_step: config.compaction_batch_limit,
        compaction_pause: config.compaction_sleep_interval,
        give_back_memory: config.give_back_memory,
    };
    Ok(Threads {
        raft: thread("raft", shared, move || raft.run())?,
        apply: thread("apply", shared, move || apply.run())?,
        shared: shared.clone(),
    })
}

/// Starts a thread whose failure ends the member.
fn thread(
    name: &'static str,
    shared: &Arc<Shared>,
    body: impl FnOnce() -> Result<(), Fatal> + Send + 'static,
) -> Result<std::thread::JoinHandle<Result<(), Fatal>>, Fatal> {
    let shared = shared.clone();
    let run = move || {
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|_| Err(Fatal::panicked(name)));
        if let Err(fatal) = &result {
            shared.inbox.close();
            shared.pending.fail_all(&crate::errors::ServeError::Stopped);
            if fatal.is_damage() {
                shared.ending.end_to_rebuild(fatal.to_string());
            } else {
                shared.ending.end(fatal.to_string());
            }
        }
        result
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| Fatal::Other(format!("can't start the {name} thread: {error}")))
}
