//! The raft thread: takes what waits, offers it to the log, tells the other members, has it written and synced once for all
//! of it, hands on what is committed.
//!
//! ```text
//! inbox ─▶ propose, step ─▶ Work ─▶ messages to followers ─▶ WAL append + one sync ─▶ votes, acknowledgements
//!                                                                               └─▶ committed ─▶ apply thread
//! ```
//! While one round is being synced the next gathers: that wait is the group commit. A leader's followers sync at the same
//! time as it does, and heartbeats go on meanwhile (`log.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use eyrie_api::peer as wire;
use eyrie_disk::transfer;
use eyrie_disk::wal::WalError;
use eyrie_raft::{Entry, Group, HardState, LogStart, Message, SnapshotMark, Work};
use tokio::sync::oneshot;

use super::forward::Forward;
use super::inbox::{Item, Proposal};
use super::log::{Log, Write};
use super::reads::Reads;
use super::{Fatal, Shared, ToApply};
use crate::errors::ServeError;
use crate::limits::{
    FULL_DISK_RETRY, GIVE_BACK_INTERVAL, PROPOSAL_BYTES_PER_ROUND_MAX, PROPOSALS_PER_ROUND_MAX, STALLED_ELECTIONS_MAX,
};
use crate::{log_info, log_warn};

/// How often the log on disk is looked at for segments that nobody needs.
const RELEASE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the log's thread is looked at that was asked to end.
const END_LOOK: Duration = Duration::from_millis(10);

/// What the raft thread owns.
pub(crate) struct RaftThread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) group: Group,
    pub(crate) log: Log,
    /// Others vote too: the log has a thread of its own.
    pub(crate) among_others: bool,
    pub(crate) apply: SyncSender<ToApply>,
    pub(crate) tick: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) snapshot_count: u64,
    /// Where the log was begun anew last.
    pub(crate) anew_at: u64,
    pub(crate) fsync: bool,
    pub(crate) give_back_memory: fn(),
}

/// What is under way between two rounds.
#[derive(Default)]
pub(super) struct Affairs {
    pub(super) forward: Forward,
    reads: Reads,
    /// Proposals that wait for the round under way, and those of followers.
    pub(super) held: Vec<Proposal>,
    pub(super) held_for: Vec<(u64, Vec<wire::Proposal>)>,
    /// Whole tables that arrived and that raft has not judged yet, by index.
    arrived: BTreeMap<u64, (PathBuf, oneshot::Sender<bool>)>,
}

/// How a loop of the thread ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Stop,
}

impl RaftThread {
    /// Runs until stopped.
    ///
    /// # Errors
    /// [`Fatal`] when the log can't be written or agreement is impossible: the member must stop.
    pub(crate) fn run(mut self) -> Result<(), Fatal> {
        let mut affairs = Affairs::default();
        let result = self.run_with(&mut affairs);
        affairs.forward.fail_all(&ServeError::Stopped);
        affairs.held.into_iter().for_each(|proposal| proposal.waiter.answer(Err(ServeError::Stopped)));
        result
    }

    fn run_with(&mut self, affairs: &mut Affairs) -> Result<(), Fatal> {
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
            self.settle(affairs)?;
            let may_go_on = affairs.holds() && !self.log.is_busy();
            let now = Instant::now();
            let readers_patience = affairs.reads.patience(&shared.inbox);
            let patience = if carried.is_empty() && !may_go_on {
                next_tick.saturating_duration_since(now).min(readers_patience)
            } else {
                Duration::ZERO
            };
            let mut items = std::mem::take(&mut carried);
            items.extend(shared.inbox.take(patience));
            let now = Instant::now();
            if now >= next_tick {
                self.tick(affairs, now);
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
                self.log.settle()?;
                if now >= next_give_back {
                    (self.give_back_memory)();
                    next_give_back = now + GIVE_BACK_INTERVAL;
                }
            }
            let (then, rest) = self.take_up(items, affairs)?;
            carried = rest;
            let again = affairs.reads.ask(&mut self.group, &shared.inbox);
            shared.metrics.server.slow_read_indexes.inc_by(again as u64);
            if then == Then::Stop {
                self.settle(affairs)?;
                self.hand_over(affairs)?;
                self.log.give_up_waiting();
                self.log_comes_here()?;
                return self.log.wal()?.sync().map_err(Fatal::wal);
            }
        }
    }

    fn tick(&mut self, affairs: &mut Affairs, now: Instant) {
        self.group.tick();
        if self.group.standing().is_leader && !self.shared.progress.is_alone() {
            self.shared.progress.now_at(self.group.places());
        }
        if let Some(cutoff) = now.checked_sub(self.request_timeout) {
            let held = affairs.held.extract_if(.., |proposal| proposal.since < cutoff);
            let held: Vec<_> = held.map(|proposal| (proposal.waiter, proposal.since)).collect();
            for (waiter, since) in affairs.forward.overdue(cutoff).into_iter().chain(held) {
                waiter.answer(Err(self.shared.timed_out(since)));
            }
        }
        if self.group.can_propose() && self.log.stalled_for() > self.election_timeout * STALLED_ELECTIONS_MAX {
            self.give_way();
        }
    }

    /// This leader's disk does not answer: another member's may.
    fn give_way(&mut self) {
        let Some(heir) = self.heir() else { return };
        let (to, waited) = (format!("{heir:x}"), format!("{:?}", self.log.stalled_for()));
        log_warn!(
            "the disk of the log takes very long to write: handing leadership over, so that writes go on elsewhere. Look at \
             the disk of this member",
            "waited" = &waited,
            "to" = &to
        );
        self.group.transfer_leader(heir);
    }

    /// Takes up what waited, in order. Returns whether to stop, and what did not fit into one round.
    fn take_up(&mut self, items: Vec<Item>, affairs: &mut Affairs) -> Result<(Then, Vec<Item>), Fatal> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut then = Then::GoOn;
        let standing = self.group.standing();
        if affairs.forward.has_parked() && standing.leader != 0 {
            batch = affairs.forward.unpark();
        }
        if affairs.holds() && !self.log.is_busy() {
            batch.append(&mut affairs.held);
            for (from, proposals) in std::mem::take(&mut affairs.held_for) {
                self.propose_for(from, proposals, affairs);
            }
        }
        let mut items = items.into_iter();
        for item in items.by_ref() {
            match item {
                Item::Propose(proposal) => {
                    bytes += proposal.data.len();
                    batch.push(proposal);
                    if batch.len() >= PROPOSALS_PER_ROUND_MAX || bytes >= PROPOSAL_BYTES_PER_ROUND_MAX {
                        break;
                    }
                }
                // Lost, as on a bad network: its sender says it again when this member has come on.
                Item::Heard(message) if message.has_entries() && self.log.is_flooded() => {}
                Item::Heard(message) => self.group.step(*message).map_err(Fatal::raft)?,
                Item::Forwarded { from, proposals } => self.propose_for(from, proposals, affairs),
                Item::Placed(placement) => affairs.forward.placed(placement, &self.shared.pending),
                Item::PeerLost(member) => self.lost_sight_of(member, affairs),
                Item::SnapshotArrived { message, whole, done } => self.consider(message, whole, done, affairs)?,
                Item::SnapshotSent { to, arrived } => self.group.snapshot_sent(to, arrived),
                Item::TransferLeader(member) => self.group.transfer_leader(member),
                Item::Stop => then = Then::Stop,
            }
        }
        let rest = items.collect();
        if !batch.is_empty() {
            self.route(batch, affairs);
        }
        Ok((then, rest))
    }

    fn lost_sight_of(&mut self, member: u64, affairs: &mut Affairs) {
        self.group.unreachable(member);
        affairs.forward.give_up_on(|to| to == member, &ServeError::TimeoutConnectionLost);
    }

    /// Lets raft judge tables that arrived whole.
    fn consider(
        &mut self,
        message: Message,
        whole: PathBuf,
        done: oneshot::Sender<bool>,
        affairs: &mut Affairs,
    ) -> Result<(), Fatal> {
        let Some(mark) = message.snapshot() else { return Ok(()) };
        affairs.arrived.insert(mark.index, (whole, done));
        self.group.step(message).map_err(Fatal::raft)?;
        self.settle(affairs)?;
        // What raft wanted is installed by now.
        for (_, (whole, done)) in std::mem::take(&mut affairs.arrived) {
            transfer::discard(&whole).map_err(|fault| Fatal::Other(fault.to_string()))?;
            let _ = done.send(false);
        }
        Ok(())
    }

    /// Does all work that the group has: says, writes, syncs, hands on; and what follows from writes that are done.
    fn settle(&mut self, affairs: &mut Affairs) -> Result<(), Fatal> {
        loop {
            self.note_written()?;
            if !self.group.has_work() {
                break;
            }
            let mut work = self.group.work();
            self.say(std::mem::take(&mut work.messages));
            let committed = std::mem::take(&mut work.committed);
            self.hand_on(committed)?;
            for (context, index) in std::mem::take(&mut work.reads) {
                affairs.reads.answer(&self.shared.read_trays, context, index);
            }
            if self.log.is_away() {
                self.order(work, affairs)?;
                continue;
            }
            self.write(&mut work, affairs)?;
            let persisted = self.group.persisted(work);
            self.say(persisted.messages);
            self.hand_on(persisted.committed)?;
        }
        self.note_applied()?;
        self.announce(affairs);
        match (self.among_others, self.log.is_away()) {
            (true, false) => self.log.send_away(&self.shared, self.fsync),
            (false, true) => self.log_comes_here(),
            _ => Ok(()),
        }
    }

    /// Has another thread write.
    fn order(&mut self, mut work: Work, affairs: &mut Affairs) -> Result<(), Fatal> {
        let handed = self.group.handed_over(&mut work);
        self.say(handed.now);
        if work.snapshot.is_some() {
            // The log begins anew: that is done here, after all that is under way.
            self.log_comes_here()?;
            self.write(&mut work, affairs)?;
            self.group.persisted_up_to(handed.number);
            self.say(handed.later);
            return Ok(());
        }
        let (entries, hard_state) = (std::mem::take(&mut work.entries), work.hard_state.take());
        self.log.order(Write { number: handed.number, entries, hard_state, later: handed.later });
        Ok(())
    }

    /// Says and learns what follows from writes that are done.
    fn note_written(&mut self) -> Result<(), Fatal> {
        let finished = self.log.finished()?;
        if let Some(number) = finished.up_to {
            self.say(finished.messages);
            self.group.persisted_up_to(number);
        }
        Ok(())
    }

    /// The raft thread writes by itself from here on.
    fn log_comes_here(&mut self) -> Result<(), Fatal> {
        let (shared, mut stop) = (self.shared.clone(), false);
        let wait = || {
            std::thread::park_timeout(END_LOOK);
            stop |= shared.disk_full.is_raised() && turn_away(&shared);
            stop
        };
        let finished = self.log.take_back(wait)?;
        if stop {
            // There was room after all: the member stops in its own way.
            let _ = self.shared.inbox.put(Item::Stop);
        }
        if let Some(number) = finished.up_to {
            self.say(finished.messages);
            self.group.persisted_up_to(number);
        }
        Ok(())
    }

    fn write(&mut self, work: &mut Work, affairs: &mut Affairs) -> Result<(), Fatal> {
        if let Some(mark) = work.snapshot.take() {
            self.begin_anew(&mark, work.hard_state.take(), affairs)?;
        }
        if !work.entries.is_empty() || work.hard_state.is_some() {
            self.append(&work.entries, work.hard_state.as_ref())?;
            if work.must_sync && self.fsync {
                let begun = Instant::now();
                self.log.wal()?.sync().map_err(Fatal::wal)?;
                self.shared.metrics.disk.wal_fsync.observe(begun.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// The log begins anew where the tables that arrived end. From here on they are the member's tables: a crash before
    /// they have taken their place is made good at the next start.
    fn begin_anew(
        &mut self,
        mark: &SnapshotMark,
        hard_state: Option<HardState>,
        affairs: &mut Affairs,
    ) -> Result<(), Fatal> {
        let Some((whole, done)) = affairs.arrived.remove(&mark.index) else {
            return Err(Fatal::Other(format!("raft took a snapshot of entry {} that never arrived", mark.index)));
        };
        let start = LogStart { index: mark.index, term: mark.term, membership: mark.membership.clone() };
        let hard_state = hard_state.unwrap_or_else(|| self.group.hard_state());
        let hard_state = HardState { commit: hard_state.commit.max(mark.index), ..hard_state };
        while let Err(error) = self.log.wal()?.restart_after(&start, hard_state) {
            self.wait_for_room(error)?;
        }
        log_info!("the log begins anew after a snapshot from the leader", "index" = &mark.index);
        self.anew_at = mark.index;
        self.follow_votes();
        self.shared.progress.committed_up_to(mark.index);
        let install = ToApply::Install { whole, mark: mark.clone() };
        self.apply.send(install).map_err(|_| Fatal::apply_ended())?;
        let _ = done.send(true);
        Ok(())
    }

    /// Writes to the log. A disk without room is waited for: nothing that is being written has been answered yet.
    fn append(&mut self, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), Fatal> {
        while let Err(error) = self.log.wal()?.append(entries, hard_state) {
            self.wait_for_room(error)?;
        }
        Ok(())
    }

    fn wait_for_room(&self, error: WalError) -> Result<(), Fatal> {
        let WalError::NoSpace { .. } = error else { return Err(Fatal::wal(error)) };
        self.shared.disk_full.raise(&error);
        std::thread::sleep(FULL_DISK_RETRY);
        if turn_away(&self.shared) { Err(Fatal::wal(error)) } else { Ok(()) }
    }

    fn say(&mut self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        for member in self.shared.peers.send(messages) {
            self.group.unreachable(member);
        }
    }

    fn hand_on(&self, committed: Vec<Entry>) -> Result<(), Fatal> {
        let Some(last) = committed.last() else { return Ok(()) };
        self.shared.progress.committed_up_to(last.index);
        match self.apply.try_send(ToApply::Entries(committed)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(committed)) => self.apply.send(committed).map_err(|_| Fatal::apply_ended()),
            Err(TrySendError::Disconnected(_)) => Err(Fatal::apply_ended()),
        }
    }

    /// Follows what the apply thread did: changes of the members first, then how far it is.
    fn note_applied(&mut self) -> Result<(), Fatal> {
        let applied = self.shared.progress.applied();
        let changes = std::mem::take(&mut *self.shared.changes.lock());
        if !changes.is_empty() {
            // What lies before a snapshot is part of it already.
            for (_, change) in changes.into_iter().filter(|(index, _)| *index > self.anew_at) {
                self.group.apply_change(change).map_err(Fatal::raft)?;
            }
            self.follow_votes();
        }
        self.group.applied(applied);
        Ok(())
    }

    fn follow_votes(&mut self) {
        let (own, membership) = (self.shared.identity.member.0, self.group.membership());
        self.shared.progress.votes(own, &membership);
        self.among_others = membership.voters != [own];
    }

    fn announce(&mut self, affairs: &mut Affairs) {
        let now = self.group.standing();
        let before = self.shared.progress.stand(now);
        if (now.leader, now.term) == (before.leader, before.term) && now.is_leader == before.is_leader {
            return;
        }
        let (member, term) = (format!("{:x}", self.shared.identity.member.0), now.term);
        if now.is_leader && !before.is_leader {
            self.shared.promote_leases(self.election_timeout);
            log_info!("became leader", "member-id" = &member, "term" = &term);
        }
        if before.is_leader && !now.is_leader {
            log_warn!("lost leadership", "member-id" = &member, "term" = &term);
        }
        if now.leader != before.leader {
            let (old, new) = (format!("{:x}", before.leader), format!("{:x}", now.leader));
            if now.leader == 0 {
                log_warn!("lost the leader", "leader" = &old, "term" = &term);
            } else {
                self.shared.metrics.server.leader_changes.inc();
                if !now.is_leader {
                    log_info!("elected leader", "leader" = &new, "term" = &term);
                }
            }
            affairs.reads.ask_anew();
            affairs.forward.give_up_on(|to| to != now.leader, &ServeError::TimeoutLeaderFailed);
        }
    }

    /// A leader that stops hands over first, so that nobody has to wait for an election.
    fn hand_over(&mut self, affairs: &mut Affairs) -> Result<(), Fatal> {
        let end = Instant::now() + self.election_timeout;
        let Some(heir) = self.heir().filter(|_| self.group.standing().is_leader) else { return Ok(()) };
        let to = format!("{heir:x}");
        log_info!("handing leadership over before stopping", "to" = &to);
        self.group.transfer_leader(heir);
        let mut next_tick = Instant::now() + self.tick;
        while Instant::now() < end && self.group.standing().is_leader {
            self.settle(affairs)?;
            let items = self.shared.inbox.take(next_tick.saturating_duration_since(Instant::now()));
            if Instant::now() >= next_tick {
                self.group.tick();
                next_tick = Instant::now() + self.tick;
            }
            // They are told that this member has stopped.
            drop(self.shared.inbox.take_readers());
            for item in items {
                match item {
                    Item::Heard(message) => self.group.step(*message).map_err(Fatal::raft)?,
                    Item::Propose(proposal) => proposal.waiter.answer(Err(ServeError::Stopped)),
                    _ => {}
                }
            }
        }
        self.settle(affairs)
    }

    /// Who would lead best in this member's place.
    fn heir(&self) -> Option<u64> {
        let own = self.shared.identity.member.0;
        let others = self.group.places().into_iter().filter(|place| place.voter && place.active && place.member != own);
        others.max_by_key(|place| place.matched).map(|place| place.member)
    }

    /// Drops log segments that the tables have replaced.
    fn release(&mut self) -> Result<(), Fatal> {
        let (durable, _) = self.shared.tables().durable_applied();
        let keep = self.snapshot_count.min(crate::limits::LOG_ENTRIES_KEPT_MAX);
        if durable.0 <= self.log.start_index().saturating_add(keep) {
            return Ok(());
        }
        let index = durable.0 - keep;
        let Some(term) = self.group.term_of(index) else { return Ok(()) };
        let start = LogStart { index, term, membership: self.group.membership() };
        self.log.release_before(start)
    }
}

impl Affairs {
    /// Something waits for the round under way.
    fn holds(&self) -> bool {
        !self.held.is_empty() || !self.held_for.is_empty()
    }
}

/// Answers whoever waits while the disk is full. Returns whether the member is to stop.
fn turn_away(shared: &Shared) -> bool {
    shared.inbox.take_readers().into_iter().for_each(|reader| reader.answer(Err(ServeError::Timeout)));
    for item in shared.inbox.take(Duration::ZERO) {
        match item {
            Item::Propose(proposal) => proposal.waiter.answer(Err(ServeError::DiskFull)),
            Item::SnapshotArrived { whole, done, .. } => {
                // It may stay where it is: the next start removes it.
                let _ = transfer::discard(&whole);
                let _ = done.send(false);
            }
            Item::Stop => return true,
            // What members say is lost, as on a bad network: they say it again.
            _ => {}
        }
    }
    false
}
