//! The raft thread: takes what waits, offers it to the log, writes and syncs once for all of it, hands on what is
//! committed.
//!
//! ```text
//! inbox ─▶ propose ─▶ Work ─▶ WAL append + one sync ─▶ committed ─▶ apply thread
//! ```
//! While one round is being synced the next gathers in the inbox: that wait is the group commit.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use eyrie_disk::wal::{Wal, WalError};
use eyrie_raft::{Entry, Group, LogStart};

use super::inbox::{Item, Waiter};
use super::{Fatal, Shared};
use crate::errors::ServeError;
use crate::limits::{GIVE_BACK_INTERVAL, PROPOSAL_BYTES_PER_ROUND_MAX, PROPOSALS_PER_ROUND_MAX};
use crate::{log_info, log_warn};

/// How often the log on disk is looked at for segments that nobody needs.
const RELEASE_INTERVAL: Duration = Duration::from_secs(10);
/// How often a full disk is looked at again.
const FULL_DISK_RETRY: Duration = Duration::from_millis(200);

/// What the raft thread owns.
pub(crate) struct RaftThread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: Group,
    pub(crate) wal: Wal,
    pub(crate) apply: SyncSender<Vec<Entry>>,
    pub(crate) tick: Duration,
    pub(crate) snapshot_count: u64,
    pub(crate) fsync: bool,
    pub(crate) give_back_memory: fn(),
}

impl RaftThread {
    /// Runs until stopped.
    ///
    /// # Errors
    /// [`Fatal`] when the log can't be written or agreement is impossible: the member must stop.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        let shared = self.shared.clone();
        shared.inbox.read_here();
        if self.group.membership().voters == [shared.identity.member.0] {
            self.group.campaign().map_err(Fatal::raft)?;
        }
        let mut next_tick = Instant::now() + self.tick;
        let mut next_release = Instant::now() + RELEASE_INTERVAL;
        let mut next_give_back = Instant::now();
        let mut carried = Vec::new();
        loop {
            self.settle()?;
            let patience =
                if carried.is_empty() { next_tick.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let mut items = std::mem::take(&mut carried);
            items.extend(shared.inbox.take(patience));
            let now = Instant::now();
            if now >= next_tick {
                self.group.tick();
                next_tick = now + self.tick;
            }
            if now >= next_release {
                self.release()?;
                next_release = now + RELEASE_INTERVAL;
            }
            if items.is_empty() && shared.inbox.is_closed() {
                // The apply thread has failed. Nobody can ask for an end any more, and nothing will be committed that
                // would find out.
                return Err(Fatal::apply_ended());
            }
            if items.is_empty() {
                self.wal.settle().map_err(Fatal::wal)?;
                if now >= next_give_back {
                    (self.give_back_memory)();
                    next_give_back = now + GIVE_BACK_INTERVAL;
                }
            }
            let (stop, rest) = self.offer(items);
            carried = rest;
            if stop {
                self.settle()?;
                return self.wal.sync().map_err(Fatal::wal);
            }
        }
    }

    /// Offers what waited to the group. Returns whether to stop, and what did not fit into one round.
    fn offer(&mut self, items: Vec<Item>) -> (bool, Vec<Item>) {
        let (mut batch, mut waiters, mut bytes) = (Vec::new(), Vec::<(Waiter, Instant)>::new(), 0);
        let mut stop = false;
        let mut rest = Vec::new();
        let mut items = items.into_iter();
        for item in items.by_ref() {
            match item {
                Item::Propose { data, waiter, since } => {
                    bytes += data.len();
                    batch.push(data);
                    waiters.push((waiter, since));
                    if batch.len() >= PROPOSALS_PER_ROUND_MAX || bytes >= PROPOSAL_BYTES_PER_ROUND_MAX {
                        break;
                    }
                }
                Item::ReadIndex(waiter) => self.read_index(waiter),
                Item::Stop => stop = true,
            }
        }
        rest.extend(items);
        if !batch.is_empty() {
            self.propose(batch, waiters, bytes);
        }
        (stop, rest)
    }

    fn propose(&mut self, batch: Vec<Vec<u8>>, waiters: Vec<(Waiter, Instant)>, bytes: usize) {
        if let Err(error) = self.wal.ensure_room(bytes as u64, batch.len() as u64) {
            self.shared.disk_full.raise(&error);
            return refuse(waiters, &ServeError::DiskFull);
        }
        self.shared.disk_full.clear();
        let standing = self.group.standing();
        match self.group.propose(batch) {
            Ok(first) => self.shared.pending.add(first, standing.term, waiters),
            Err(_) => {
                self.shared.metrics.server.proposals_failed.inc_by(waiters.len() as u64);
                refuse(waiters, &ServeError::NoLeader);
            }
        }
    }

    fn read_index(&mut self, waiter: tokio::sync::oneshot::Sender<Result<u64, ServeError>>) {
        let context = self.shared.reads.add(waiter);
        self.group.read_index(context);
    }

    /// Does all work that the group has: writes, syncs, hands on.
    fn settle(&mut self) -> Result<(), Fatal> {
        while self.group.has_work() {
            let mut work = self.group.work();
            let committed = std::mem::take(&mut work.committed);
            self.hand_on(committed)?;
            for (context, index) in std::mem::take(&mut work.reads) {
                self.shared.reads.answer(context, index);
            }
            if !work.entries.is_empty() || work.hard_state.is_some() {
                self.append(&work.entries, work.hard_state.as_ref())?;
                if work.must_sync && self.fsync {
                    let begun = Instant::now();
                    self.wal.sync().map_err(Fatal::wal)?;
                    self.shared.metrics.disk.wal_fsync.observe(begun.elapsed().as_secs_f64());
                }
            }
            let (committed, _) = self.group.persisted(work);
            self.hand_on(committed)?;
        }
        self.group.applied(self.shared.progress.applied());
        self.announce();
        Ok(())
    }

    /// Writes to the log. A disk without room is waited for: nothing that is being written has been answered yet.
    fn append(&mut self, entries: &[Entry], hard_state: Option<&eyrie_raft::HardState>) -> Result<(), Fatal> {
        loop {
            match self.wal.append(entries, hard_state) {
                Ok(()) => return Ok(()),
                Err(error @ WalError::NoSpace { .. }) => {
                    self.shared.disk_full.raise(&error);
                    std::thread::sleep(FULL_DISK_RETRY);
                    for item in self.shared.inbox.take(Duration::ZERO) {
                        match item {
                            Item::Propose { waiter, since, .. } => refuse(vec![(waiter, since)], &ServeError::DiskFull),
                            Item::ReadIndex(waiter) => drop(waiter.send(Err(ServeError::Timeout))),
                            Item::Stop => return Err(Fatal::wal(error)),
                        }
                    }
                }
                Err(error) => return Err(Fatal::wal(error)),
            }
        }
    }

    fn hand_on(&self, committed: Vec<Entry>) -> Result<(), Fatal> {
        let Some(last) = committed.last() else { return Ok(()) };
        self.shared.progress.committed_up_to(last.index);
        match self.apply.try_send(committed) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(committed)) => self.apply.send(committed).map_err(|_| Fatal::apply_ended()),
            Err(TrySendError::Disconnected(_)) => Err(Fatal::apply_ended()),
        }
    }

    fn announce(&self) {
        let now = self.group.standing();
        let before = self.shared.progress.stand(now);
        if now.is_leader && !before.is_leader {
            let member = format!("{:x}", self.shared.identity.member.0);
            log_info!("became leader", "member-id" = &member, "term" = &now.term);
            self.shared.metrics.server.leader_changes.inc();
        }
        if before.is_leader && !now.is_leader {
            log_warn!("lost leadership", "term" = &now.term);
            self.shared.reads.fail_all();
        }
    }

    /// Drops log segments that the tables have replaced.
    fn release(&mut self) -> Result<(), Fatal> {
        let (durable, _) = self.shared.tables.durable_applied();
        let keep = self.snapshot_count.min(crate::limits::LOG_ENTRIES_KEPT_MAX);
        if durable.0 <= self.wal.start().index + keep {
            return Ok(());
        }
        let index = durable.0 - keep;
        let Some(term) = self.group.term_of(index) else { return Ok(()) };
        let start = LogStart { index, term, membership: self.group.membership() };
        self.wal.release_before(&start).map_err(Fatal::wal)
    }
}

fn refuse(waiters: Vec<(Waiter, Instant)>, error: &ServeError) {
    for (waiter, _) in waiters {
        waiter.answer(Err(error.clone()));
    }
}
