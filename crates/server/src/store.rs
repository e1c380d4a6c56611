//! The store as services see it: propose, wait until a read is linearizable, read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eyrie_api::pb;
use eyrie_raft::{MembershipChange, Standing};
use eyrie_state::auth::LeaseUse;
use eyrie_state::{
    Answer, Author, Command, KeyRange, LeaseId, Op, Range, RangeAnswer, Refusal, Revision, Txn, TxnAnswer,
};

use crate::auth::{Credentials, Speaker};
use crate::completions::Waiter;
use crate::config::Config;
use crate::errors::ServeError;
use crate::lease::Lessor;
use crate::limits::QUOTA_BYTES_DEFAULT;
use crate::log_error;
use crate::metrics::Metrics;
use crate::node::{DurableState, Identity, Item, Proposal, Shared};
use crate::watch::WatchHub;

/// A handle to a running member, which speaks for somebody: what it reads, that somebody must be allowed to read, and what it
/// proposes is signed. A new handle speaks for nobody. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    speaker: Speaker,
}

/// What of the configuration decides about requests.
#[derive(Debug)]
struct Rules {
    request_timeout: Duration,
    election_timeout: Duration,
    strict_reconfig_check: bool,
    learners_max: usize,
    request_bytes_max: usize,
    txn_ops_max: usize,
    lease_ttl_secs_min: i64,
    quota_bytes: Option<u64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, config: &Config) -> Self {
        let election = config.election_timeout;
        let ttl_min = (election.as_millis() * 3).div_ceil(2).div_ceil(1000);
        let quota = if config.quota_backend_bytes == 0 { QUOTA_BYTES_DEFAULT } else { config.quota_backend_bytes };
        let rules = Rules {
            request_timeout: config.request_timeout(),
            election_timeout: election,
            strict_reconfig_check: config.strict_reconfig_check,
            learners_max: config.max_learners,
            request_bytes_max: config.max_request_bytes,
            txn_ops_max: config.max_txn_ops,
            lease_ttl_secs_min: i64::try_from(ttl_min).unwrap_or(i64::MAX),
            quota_bytes: u64::try_from(quota).ok(),
        };
        let speaker = Speaker::Client(Arc::new(Credentials::None));
        Self { shared, rules: Arc::new(rules), speaker }
    }

    /// A handle that speaks for the store itself and may do everything. Never for what a client asked for.
    pub(crate) fn itself(&self) -> Self {
        Self { speaker: Speaker::Itself, ..self.clone() }
    }

    /// A handle that speaks for whoever has these credentials.
    pub(crate) fn speaking_for(&self, credentials: Credentials) -> Self {
        Self { speaker: Speaker::Client(Arc::new(credentials)), ..self.clone() }
    }

    /// For whom this handle speaks, by the users of this state.
    ///
    /// # Errors
    /// A token that is not good, or not any more.
    pub(crate) fn author(&self, state: &DurableState) -> Result<Author, ServeError> {
        match &self.speaker {
            Speaker::Itself => Ok(Author::Store),
            Speaker::Client(_) if !state.auth().enabled() => Ok(Author::Nobody),
            Speaker::Client(credentials) => self.shared.guard.author(credentials, state.auth()),
        }
    }

    /// The author of what is proposed now. While users are not enforced no lock is taken: a moment too long of that is
    /// answered in apply, which refuses nobody.
    fn author_now(&self) -> Result<Author, ServeError> {
        match &self.speaker {
            Speaker::Itself => Ok(Author::Store),
            Speaker::Client(_) if !self.shared.guard.is_on() => Ok(Author::Nobody),
            Speaker::Client(_) => self.read(|state| self.author(state)),
        }
    }

    /// Whether these keys may be read.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn permit_read(&self, state: &DurableState, keys: &KeyRange) -> Result<(), ServeError> {
        if !state.auth().enabled() {
            return Ok(());
        }
        Ok(state.permit_read(&self.author(state)?, keys)?)
    }

    /// Whether this may be done with a lease.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn permit_lease(&self, state: &DurableState, id: LeaseId, what: LeaseUse) -> Result<(), ServeError> {
        if !state.auth().enabled() {
            return Ok(());
        }
        Ok(state.permit_lease(&self.author(state)?, id, what)?)
    }

    /// Whether a command would be permitted now. Apply decides; this spares the log, and the quota, what would be refused.
    pub(crate) fn permit(&self, command: &Command) -> Result<(), ServeError> {
        if !self.shared.guard.is_on() {
            return Ok(());
        }
        self.read(|state| Ok(state.permit(&self.author(state)?, command)?))
    }

    /// Puts a command in the log and waits until it is applied. `Ok` means that a quorum holds it on disk.
    ///
    /// # Errors
    /// The kinds [`ServeError::Timeout`], [`ServeError::TimeoutLeaderFailed`], [`ServeError::TimeoutConnectionLost`] and
    /// [`ServeError::Stopped`] leave open whether the command will be applied; after all others it never will.
    pub async fn propose(&self, command: Command) -> Result<(Revision, Answer), ServeError> {
        self.permit(&command)?;
        if !self.has_room_for(&command)? {
            Box::pin(self.raise_no_space()).await?;
            return Err(Refusal::NoSpace.into());
        }
        self.propose_now(command).await
    }

    /// As [`Store::propose`], for commands that no quota holds back.
    ///
    /// # Errors
    /// As [`Store::propose`].
    pub async fn propose_now(&self, command: Command) -> Result<(Revision, Answer), ServeError> {
        if self.shared.tables_full.is_raised() && quota_cost(&command) > 0 {
            return Err(ServeError::DiskFull);
        }
        self.put_in_the_log(&command, None, false).await
    }

    /// As [`Store::propose_now`], if this member leads; a command that loses its meaning when another one does is never
    /// forwarded.
    ///
    /// # Errors
    /// As [`Store::propose`].
    pub(crate) async fn propose_here(&self, command: Command) -> Result<(Revision, Answer), ServeError> {
        self.put_in_the_log(&command, None, true).await
    }

    /// As [`Store::propose_now`], for a command that changes who belongs to the cluster, and raft with it.
    pub(crate) async fn propose_change(
        &self,
        command: Command,
        change: MembershipChange,
    ) -> Result<(Revision, Answer), ServeError> {
        self.put_in_the_log(&command, Some(change), false).await
    }

    async fn put_in_the_log(
        &self,
        command: &Command,
        change: Option<MembershipChange>,
        only_here: bool,
    ) -> Result<(Revision, Answer), ServeError> {
        let data = command.encode_by(&self.author_now()?);
        if data.len() > self.rules.request_bytes_max {
            return Err(ServeError::TooLarge);
        }
        let (waiter, outcome) = Waiter::new();
        let proposal = Proposal { data, change, only_here, waiter, since: Instant::now() };
        self.shared.inbox.put(Item::Propose(proposal))?;
        let (revision, outcome) = outcome.await.map_err(|_| ServeError::Stopped)??;
        Ok((revision, outcome?))
    }

    /// Tells those who wait for longer than a request may take. What they asked for may still be carried out.
    pub(crate) fn give_up_on_the_overdue(&self) {
        let Some(cutoff) = Instant::now().checked_sub(self.rules.request_timeout) else { return };
        for waiter in self.shared.inbox.overdue(cutoff) {
            waiter.answer(Err(ServeError::Timeout));
        }
        for (waiter, since) in self.shared.pending.overdue(cutoff) {
            waiter.answer(Err(self.shared.timed_out(since)));
        }
    }

    /// Returns when a read made from now on sees every write that was acknowledged before the call.
    ///
    /// # Errors
    /// When no leader confirms it in time.
    pub async fn linearize(&self) -> Result<(), ServeError> {
        // A member that is alone cannot have been replaced: what is acknowledged is applied here.
        if self.shared.progress.is_alone() && self.shared.progress.leads_and_caught_up() {
            return Ok(());
        }
        let asking = Box::pin(tokio::time::timeout(self.rules.request_timeout, self.read_index()));
        asking.await.map_err(|_| ServeError::Timeout)?
    }

    /// Runs `read` under the state's read lock. Keep it short: writes wait.
    pub fn read<R>(&self, read: impl FnOnce(&DurableState) -> R) -> R {
        read(&self.shared.state.read())
    }

    /// Reads keys, now.
    ///
    /// # Errors
    /// Refusals, and damaged tables.
    pub fn range(&self, range: &Range) -> Result<(Revision, RangeAnswer), ServeError> {
        self.shared.metrics.mvcc.ranges.inc();
        let plan = self.read(|state| {
            self.permit_read(state, &range.keys)?;
            Ok::<_, ServeError>(state.plan_range(range)?)
        })?;
        let revision = plan.revision();
        let answer = plan.run().inspect_err(|fault| self.damaged(fault))?;
        Ok((revision, answer))
    }

    /// Runs a transaction that only reads, now.
    ///
    /// # Errors
    /// Refusals, and damaged tables.
    pub fn read_txn(&self, txn: &Txn) -> Result<(Revision, TxnAnswer), ServeError> {
        self.shared.metrics.mvcc.txns.inc();
        let plan = self.read(|state| {
            if state.auth().enabled() {
                state.permit_txn(&self.author(state)?, txn)?;
            }
            Ok::<_, ServeError>(state.plan_txn(txn)?)
        })?;
        let revision = plan.revision();
        let answer = plan.run().inspect_err(|fault| self.damaged(fault))?;
        Ok((revision, answer))
    }

    /// The head of an answer at this revision.
    pub fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.shared.identity.cluster.0,
            member_id: self.shared.identity.member.0,
            revision: revision.0,
            raft_term: self.shared.progress.standing().term,
        }
    }

    /// The current revision.
    pub fn revision(&self) -> Revision {
        self.read(|state| state.revision())
    }

    /// The watchers.
    pub(crate) fn hub(&self) -> &WatchHub {
        &self.shared.hub
    }

    /// The leases' clock.
    pub(crate) fn lessor(&self) -> &Lessor {
        &self.shared.lessor
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What this member counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Who this member is.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// Term, leader, commit index.
    pub fn standing(&self) -> Standing {
        self.shared.progress.standing()
    }

    /// The last applied index.
    pub fn applied(&self) -> u64 {
        self.shared.progress.applied()
    }

    /// Operations that one transaction may have.
    pub fn txn_ops_max(&self) -> usize {
        self.rules.txn_ops_max
    }

    /// Bytes that one request may have.
    pub fn request_bytes_max(&self) -> usize {
        self.rules.request_bytes_max
    }

    /// How long a request may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.rules.request_timeout
    }

    /// How long an election takes at least.
    pub(crate) fn election_timeout(&self) -> Duration {
        self.rules.election_timeout
    }

    /// Learners at a time.
    pub(crate) fn learners_max(&self) -> usize {
        self.rules.learners_max
    }

    /// Changes of the members that would cost the quorum are refused.
    pub(crate) fn strict_reconfig_check(&self) -> bool {
        self.rules.strict_reconfig_check
    }

    /// This member only listens.
    pub fn is_learner(&self) -> bool {
        self.shared.progress.is_learner()
    }

    /// # Errors
    /// [`ServeError::Learner`], if this member only listens.
    pub(crate) fn refuse_if_learner(&self) -> Result<(), ServeError> {
        if self.is_learner() { Err(ServeError::Learner) } else { Ok(()) }
    }

    /// The shortest time a lease can have: one election and a half.
    pub(crate) fn lease_ttl_secs_min(&self) -> i64 {
        self.rules.lease_ttl_secs_min
    }

    /// The quota in bytes; `None` when there is none.
    pub fn quota_bytes(&self) -> Option<u64> {
        self.rules.quota_bytes
    }

    /// Bytes that the tables take and use.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn sizes(&self) -> Result<eyrie_disk::tables::Sizes, ServeError> {
        Ok(self.shared.tables().sizes()?)
    }

    /// Takes note of the size of the tables and of the room on their disk. Called now and then by the housekeeping.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn look_at_the_disk(&self) -> Result<(), ServeError> {
        self.shared.table_bytes.store(self.sizes()?.file_bytes, Ordering::Relaxed);
        // Tables that are just being replaced take no more writes, which is no fault: asked again once they are.
        if self.shared.tables().check().is_err()
            && !self.shared.replacing_tables.load(Ordering::Acquire)
            && let Err(fault) = self.shared.tables().check()
        {
            self.shared.ending.end(format!("the tables can't be written any more: {fault}. Nothing acknowledged is lost: it is in the log. Check the disk, then start again"));
        }
        let space = self.shared.tables().space();
        if space.short {
            let (free, reserve) = (space.free_bytes, space.reserve_bytes);
            self.shared
                .tables_full
                .raise(&format!("{free} bytes are free, {reserve} are kept in reserve for the tables"));
        } else {
            self.shared.tables_full.clear();
        }
        Ok(())
    }

    /// Rewrites the tables without their holes, while reads and writes go on.
    ///
    /// # Errors
    /// When the tables are damaged or the disk fails.
    pub fn defragment(&self) -> Result<(), eyrie_state::TableFault> {
        let (begun, disk) = (Instant::now(), &self.shared.metrics.disk);
        disk.defrag_inflight.inc();
        let outcome = self.shared.tables().defragment();
        disk.defrag_inflight.dec();
        disk.backend_defrag.observe(begun.elapsed().as_secs_f64());
        outcome
    }

    /// Returns when no compaction is under way.
    pub async fn compaction_finished(&self) {
        loop {
            let done = self.shared.compaction_done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if !self.read(|state| state.compaction_pending()) {
                return;
            }
            done.await;
        }
    }

    async fn read_index(&self) -> Result<(), ServeError> {
        let (reader, index) = Waiter::new();
        self.shared.inbox.put_reader(reader)?;
        let index = index.await.map_err(|_| ServeError::Stopped)??;
        self.applied_up_to(index).await;
        Ok(())
    }

    /// Returns when this entry is applied here.
    pub(crate) async fn applied_up_to(&self, index: u64) {
        while self.shared.progress.applied() < index {
            let moved = self.shared.applied_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.shared.progress.applied() >= index {
                return;
            }
            moved.await;
        }
    }

    /// Whether a command keeps the store below its quota.
    fn has_room_for(&self, command: &Command) -> Result<bool, ServeError> {
        let Some(quota) = self.rules.quota_bytes else { return Ok(true) };
        let cost = quota_cost(command);
        if cost == 0 || self.shared.table_bytes.fetch_add(cost, Ordering::Relaxed) + cost < quota {
            return Ok(true);
        }
        // The running sum says too much: puts that were refused, or room that compaction gave back. Look again.
        self.look_at_the_disk()?;
        Ok(self.shared.table_bytes.load(Ordering::Relaxed) + cost < quota)
    }

    /// Raises the alarm that makes all members refuse what needs room.
    async fn raise_no_space(&self) -> Result<(), ServeError> {
        let (member, kind) = (self.shared.identity.member, eyrie_state::AlarmKind::NoSpace);
        if !self.read(|state| state.is_raised(kind)) {
            self.itself().propose_now(Command::AlarmActivate { member, kind }).await?;
        }
        Ok(())
    }

    /// A record is not what was written. It is not served; the alarm stops writes and makes the member unhealthy, so that
    /// somebody comes, while everything undamaged can still be read and saved.
    pub(crate) fn damaged(&self, fault: &eyrie_state::TableFault) {
        if self.shared.damage_said.swap(true, Ordering::AcqRel) {
            return;
        }
        let fault = fault.to_string();
        log_error!(
            "the tables are damaged: what is damaged is not served, and writes are refused (alarm CORRUPT). Save what can be read (etcdctl get --prefix), then restore the last good snapshot into a new directory: eyrie utl snapshot restore SNAPSHOT --data-dir NEW",
            "error" = &fault
        );
        let alarm =
            Command::AlarmActivate { member: self.shared.identity.member, kind: eyrie_state::AlarmKind::Corrupt };
        let (waiter, _) = Waiter::new();
        // A member that takes no more commands is stopping, which says more than the alarm.
        let (data, since) = (alarm.encode_by(&Author::Store), Instant::now());
        let _ = self.shared.inbox.put(Item::Propose(Proposal { data, change: None, only_here: false, waiter, since }));
    }

    /// Reads everything once and compares checksums, counts and sums; raises the alarm when anything does not fit.
    /// Blocks for as long as that takes.
    pub(crate) fn check_everything(&self) {
        if let Err(fault) = self.shared.tables().view().full_scan(&mut |_, _, _| true) {
            self.damaged(&fault);
        }
    }
}

/// What a command may add to the tables, by etcd's reckoning.
fn quota_cost(command: &Command) -> u64 {
    const PUT_OVERHEAD: u64 = 256;
    const LEASE_OVERHEAD: u64 = 64;
    fn put(put: &eyrie_state::Put) -> u64 {
        PUT_OVERHEAD + (put.key.len() + put.value.len()) as u64
    }
    fn txn(of: &Txn) -> u64 {
        let branch = |ops: &[Op]| ops.iter().map(op).sum::<u64>();
        branch(&of.success).max(branch(&of.failure))
    }
    fn op(of: &Op) -> u64 {
        match of {
            Op::Put(of) => put(of),
            Op::Txn(of) => txn(of),
            Op::Range(_) | Op::DeleteRange(_) => 0,
        }
    }
    match command {
        Command::Put(of) => put(of),
        Command::Txn(of) => txn(of),
        Command::LeaseGrant { .. } => LEASE_OVERHEAD,
        _ => 0,
    }
}
