//! One member's part in the agreement, as values in and values out.
//!
//! ```text
//! propose / step / tick / read_index ──▶ Group ──▶ Work { messages, snapshot, persist, committed, reads }
//!                                          ▲                │ the caller sends `messages`, writes and syncs the rest
//!                                          └─ persisted() ──┘ then sends what may only be said now, and learns what else
//!                                                             is committed
//! ```
//! A leader's messages go out before its own write: its followers sync while it does.
//!
//! Whoever writes on another thread calls [`Group::handed_over`] in the place of the write and goes on with other work;
//! [`Group::persisted_up_to`] follows when the write is done, in the order of the numbers. Until then nobody hears what
//! relies on it, and this member's own copy counts for no quorum.
//!
//! Knows no file, no socket, no clock: a tick is a call, and the election timeout's chance comes from `seed`.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{self, ConfChange, EntryType, MessageType};
use raft::storage::MemStorage;
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

use crate::change::MembershipChange;
use crate::log::{Entry, EntryKind, HardState, LogStart, Membership};
use crate::message::{Message, SnapshotMark, conf_state, mark_of, membership_of, snapshot_at};
use crate::store::LogStore;

/// Applied entries kept in memory for members that lag a little. More come from a snapshot.
const ENTRIES_KEPT: u64 = 5_000;
/// Applied entries kept for a member that is on its way (a snapshot travels to it, or it follows from one): without them it
/// would need the next snapshot when this one has arrived, and so on for ever.
const ENTRIES_KEPT_FOR_LAGGARDS: u64 = 200_000;
/// Cut the kept entries only when this many more have gathered.
const ENTRIES_SLACK: u64 = 1_000;
/// Bytes of entries kept in memory for the same reason: entries may be large.
const ENTRY_BYTES_KEPT: usize = 64 << 20;
/// Bytes of committed entries handed over at once.
const COMMITTED_BYTES_MAX: u64 = 16 << 20;
/// Bytes of entries in one message (etcd's figure).
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Appends under way to one follower (etcd's figure): bounds what a stalled one costs.
const APPENDS_IN_FLIGHT_MAX: usize = 512;

/// How a group behaves in time, counted in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Ticks between two heartbeats.
    pub heartbeat_ticks: usize,
    /// Where this member's chance comes from: a number of its own for each start.
    pub seed: u64,
}

/// Agreement cannot go on: what the log says is not possible.
#[derive(Debug, thiserror::Error)]
#[error("raft: {0}")]
pub struct RaftFault(pub(crate) String);

impl From<raft::Error> for RaftFault {
    fn from(error: raft::Error) -> Self {
        Self(error.to_string())
    }
}

/// Why nothing was taken into the log. It is safe to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead, or hands its leadership over just now.
    #[error("not the leader")]
    NotLeader,
    /// A change of the members is under way: one at a time.
    #[error("another membership change is under way")]
    Busy,
}

/// Where this member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its term.
    pub term: u64,
    /// The leader it knows; 0 for none.
    pub leader: u64,
    /// It is the leader itself.
    pub is_leader: bool,
    /// The last committed index it knows.
    pub commit: u64,
}

/// How far a member has come, as its leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which member.
    pub member: u64,
    /// It holds all entries up to here.
    pub matched: u64,
    /// It votes.
    pub voter: bool,
    /// It was heard of lately.
    pub active: bool,
}

/// What must happen now, in this order: send `messages`; write `snapshot`, `entries` and `hard_state` and sync; call
/// [`Group::persisted`].
#[derive(Debug, Default)]
pub struct Work {
    /// To send at once.
    pub messages: Vec<Message>,
    /// The log begins anew after this mark: what it stands for has replaced the tables.
    pub snapshot: Option<SnapshotMark>,
    /// To write, in order.
    pub entries: Vec<Entry>,
    /// To write with them.
    pub hard_state: Option<HardState>,
    /// The writing must reach the disk before anybody hears of it.
    pub must_sync: bool,
    /// Committed earlier: to apply, in order.
    pub committed: Vec<Entry>,
    /// Reads that were asked for, each with the index that must be applied first.
    pub reads: Vec<(u64, u64)>,
    ready: Option<raft::Ready>,
    after: Vec<Message>,
}

/// What follows from a finished write.
#[derive(Debug, Default)]
pub struct Persisted {
    /// To send now: votes and acknowledgements that rely on what was written.
    pub messages: Vec<Message>,
    /// To apply, in order.
    pub committed: Vec<Entry>,
    /// The new commit index, where it moved.
    pub commit: Option<u64>,
}

/// Work whose write is somebody else's now.
#[derive(Debug, Default)]
pub struct HandedOver {
    /// Its number: numbers only grow.
    pub number: u64,
    /// To send at once: this relies on nothing that is being written.
    pub now: Vec<Message>,
    /// To send when the write is done, and all before it.
    pub later: Vec<Message>,
}

/// A raft group seen from one member.
pub struct Group {
    node: RawNode<LogStore>,
    id: u64,
    first_kept: u64,
    handed_out: HardState,
    /// The newest term that is on disk, and terms on their way there with the number of their work.
    durable_term: u64,
    terms: VecDeque<(u64, u64)>,
    pace: Pace,
    /// How often this member stood for election: part of its chance.
    elections: u64,
    was: StateRole,
    /// For each written round that is still kept: its last index and its bytes.
    kept: VecDeque<(u64, usize)>,
    kept_bytes: usize,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("id", &self.id).field("standing", &self.standing()).finish_non_exhaustive()
    }
}

impl Group {
    /// Takes up the log where it was left. Entries up to `applied` are not handed out again; `membership` is who belongs
    /// to the group as of that entry.
    ///
    /// # Errors
    /// When `start`, `hard_state` and `entries` do not fit together.
    pub fn open(
        id: u64,
        pace: Pace,
        start: &LogStart,
        hard_state: HardState,
        entries: &[Entry],
        applied: u64,
        membership: &Membership,
    ) -> Result<Self, RaftFault> {
        check_fit(start, hard_state, entries, applied)?;
        let kept = MemStorage::new();
        {
            let mut core = kept.wl();
            if start.index > 0 {
                let mark = SnapshotMark { index: start.index, term: start.term, membership: membership.clone() };
                core.apply_snapshot(snapshot_at(&mark))?;
            } else {
                core.set_conf_state(conf_state(membership));
            }
            let entries: Vec<_> = entries.iter().map(to_raft).collect();
            core.append(&entries)?;
            // What the tables hold was committed, even where the log did not come to write that down.
            core.set_hardstate(eraftpb::HardState {
                term: hard_state.term,
                vote: hard_state.vote,
                commit: hard_state.commit.max(applied),
                ..Default::default()
            });
        }
        let config = raft::Config {
            id,
            election_tick: pace.election_ticks,
            heartbeat_tick: pace.heartbeat_ticks,
            applied: applied.max(start.index),
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            // The library's batching puts entries into a message that waits to be sent, even where that begins later than
            // they do: its receiver then acknowledges entries that it never had.
            batch_append: false,
            ..Default::default()
        };
        let store = LogStore { kept, newest: None };
        let node = RawNode::new(&config, store, &slog::Logger::root(slog::Discard, slog::o!()))?;
        let mut group = Self {
            node,
            id,
            first_kept: start.index + 1,
            handed_out: hard_state,
            durable_term: hard_state.term,
            terms: VecDeque::new(),
            pace,
            elections: 0,
            was: StateRole::Follower,
            kept: VecDeque::new(),
            kept_bytes: 0,
        };
        group.offer_snapshots_at(applied);
        Ok(group)
    }

    /// Time goes on by one tick.
    pub fn tick(&mut self) {
        self.draw_election_timeout();
        self.node.tick();
    }

    /// Stands for election now instead of waiting: right for a member that is alone.
    ///
    /// # Errors
    /// [`RaftFault`] when the log forbids it.
    pub fn campaign(&mut self) -> Result<(), RaftFault> {
        Ok(self.node.campaign()?)
    }

    /// Takes in what another member said. What makes no sense is ignored, as a lost message would be.
    ///
    /// # Errors
    /// [`RaftFault`] when this member can't go on.
    pub fn step(&mut self, message: Message) -> Result<(), RaftFault> {
        if message.to() != self.id || message.is_local() {
            return Ok(());
        }
        match self.node.step(message.0) {
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A message to `member` was lost, or it can't be reached: send less until it answers.
    pub fn unreachable(&mut self, member: u64) {
        self.node.report_unreachable(member);
    }

    /// The snapshot that was offered to `member` is there, or failed.
    pub fn snapshot_sent(&mut self, member: u64, arrived: bool) {
        self.node.report_snapshot(member, if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure });
    }

    /// It leads, and is not handing its leadership over.
    pub fn can_propose(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.lead_transferee.is_none()
    }

    /// Offers entries to the log, in order, all or none. Returns the index of the first.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was taken.
    pub fn propose(&mut self, batch: Vec<Vec<u8>>) -> Result<u64, ProposeError> {
        let count = batch.len() as u64;
        let entry = |data| eraftpb::Entry { data: Bytes::from(data), ..Default::default() };
        self.offer(batch.into_iter().map(entry).collect())?;
        Ok(self.node.raft.raft_log.last_index() + 1 - count)
    }

    /// Offers a change of the members, with the state machine's command for it. Returns its index.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was taken.
    pub fn propose_change(&mut self, change: MembershipChange, command: &[u8]) -> Result<u64, ProposeError> {
        if self.node.raft.pending_conf_index > self.node.raft.raft_log.applied {
            return Err(ProposeError::Busy);
        }
        let data = change.encode(command).map_err(|_| ProposeError::Busy)?;
        let mut entry = eraftpb::Entry { data: data.into(), ..Default::default() };
        entry.set_entry_type(EntryType::EntryConfChange);
        self.offer(vec![entry])?;
        Ok(self.node.raft.raft_log.last_index())
    }

    fn offer(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), ProposeError> {
        if !self.can_propose() {
            return Err(ProposeError::NotLeader);
        }
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id;
        message.entries = entries.into();
        self.node.step(message).map_err(|_| ProposeError::NotLeader)
    }

    /// Asks for the index that a linearizable read must wait for; the answer comes in [`Work::reads`] with `context`.
    /// It may never come: ask again, with another context. No context may ever be used twice, not even by another life of
    /// this member: an old answer would pass for a new one.
    pub fn read_index(&mut self, context: u64) {
        let mut unique = self.id.to_be_bytes().to_vec();
        unique.extend(self.pace.seed.to_be_bytes());
        unique.extend(context.to_be_bytes());
        self.node.read_index(unique);
    }

    /// Hands leadership to `member`, if it can take it.
    pub fn transfer_leader(&mut self, member: u64) {
        self.node.transfer_leader(member);
    }

    /// There is something to do.
    pub fn has_work(&self) -> bool {
        self.node.has_ready()
    }

    /// Takes what must be done next.
    pub fn work(&mut self) -> Work {
        let mut ready = self.node.ready();
        let snapshot = (ready.snapshot().get_metadata().index > 0).then(|| self.begin_anew(ready.snapshot()));
        let entries = ready.take_entries();
        self.keep(&entries);
        if let Some(hs) = ready.hs() {
            self.node.mut_store().kept.wl().set_hardstate(hs.clone());
        }
        // The commit index also moves in `persisted`, which raft does not report again: it rides with the next write.
        let now = self.hard_state();
        let hard_state = (now != self.handed_out).then_some(now);
        self.handed_out = now;
        Work {
            messages: ready.take_messages().into_iter().map(Message).collect(),
            after: ready.take_persisted_messages().into_iter().map(Message).collect(),
            snapshot,
            entries: entries.into_iter().map(from_raft).collect(),
            hard_state,
            must_sync: ready.must_sync(),
            committed: ready.take_committed_entries().into_iter().map(from_raft).collect(),
            reads: ready.take_read_states().into_iter().filter_map(|state| self.read_state(&state)).collect(),
            ready: Some(ready),
        }
    }

    /// What [`Group::work`] asked for is on disk. Returns what may be said and applied now.
    pub fn persisted(&mut self, mut work: Work) -> Persisted {
        let Some(ready) = work.ready.take() else { return Persisted::default() };
        let mut light = self.node.advance_append(ready);
        self.durable_term = self.node.raft.term;
        self.terms.clear();
        let commit = light.commit_index();
        if let Some(commit) = commit {
            self.node.mut_store().kept.wl().mut_hard_state().commit = commit;
        }
        let mut messages = work.after;
        messages.extend(light.take_messages().into_iter().map(Message));
        Persisted { messages, committed: light.take_committed_entries().into_iter().map(from_raft).collect(), commit }
    }

    /// What `work` asks to write is somebody else's to write now, in the order of these calls; a hard state that need not
    /// reach the disk is taken out of it and rides with a later write.
    pub fn handed_over(&mut self, work: &mut Work) -> HandedOver {
        let Some(ready) = work.ready.take() else { return HandedOver::default() };
        let number = ready.number();
        if !work.must_sync && work.hard_state.take().is_some() {
            // Differs from every hard state to come: so that one is handed out.
            self.handed_out.commit = 0;
        }
        if let Some(state) = work.hard_state {
            self.terms.push_back((number, state.term));
        }
        self.node.advance_append_async(ready);
        let relies_on_nothing = |message: &Message| message.relies_on_no_write() && message.0.term <= self.durable_term;
        let (now, later) = std::mem::take(&mut work.after).into_iter().partition(relies_on_nothing);
        HandedOver { number, now, later }
    }

    /// All work up to this number is on disk. There may be new work then.
    pub fn persisted_up_to(&mut self, number: u64) {
        while let Some((_, term)) = self.terms.front().filter(|(of, _)| *of <= number).copied() {
            self.durable_term = term;
            self.terms.pop_front();
        }
        self.node.on_persist_ready(number);
    }

    /// Everything up to `index` is applied: old entries need not be kept. Changes of the members up to there must have
    /// been given to [`Group::apply_change`] before.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.offer_snapshots_at(index);
        let mut keep_from = 0;
        if index > self.first_kept + ENTRIES_KEPT + ENTRIES_SLACK {
            keep_from = self
                .wanted_by_laggards()
                .min(index - ENTRIES_KEPT)
                .max(index.saturating_sub(ENTRIES_KEPT_FOR_LAGGARDS));
        }
        while let Some((last, bytes)) = self.kept.front().copied() {
            if last >= index || (self.kept_bytes <= ENTRY_BYTES_KEPT && last >= keep_from) {
                break;
            }
            self.kept.pop_front();
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
            keep_from = keep_from.max(last);
        }
        if keep_from > self.first_kept && self.node.mut_store().kept.wl().compact(keep_from).is_ok() {
            self.first_kept = keep_from;
        }
    }

    /// The entry that the first one must follow that a member on its way will ask for: its term goes with it.
    fn wanted_by_laggards(&self) -> u64 {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return u64::MAX;
        }
        let has = |progress: &raft::Progress| match progress.state {
            ProgressState::Snapshot => progress.pending_snapshot,
            ProgressState::Probe => progress.next_idx.saturating_sub(1),
            // What was sent may still have to be sent again.
            ProgressState::Replicate => progress.matched,
        };
        let on_their_way = raft.prs().iter().filter(|(id, progress)| **id != self.id && progress.recent_active);
        // Who needs what is gone already is sent a snapshot: keeping more would not help.
        on_their_way.map(|(_, progress)| has(progress)).filter(|has| *has >= self.first_kept).min().unwrap_or(u64::MAX)
    }

    /// The term of an entry that is still kept in memory.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.node.raft.raft_log.term(index).ok().filter(|term| *term > 0)
    }

    /// Where this member stands.
    pub fn standing(&self) -> Standing {
        let raft = &self.node.raft;
        Standing {
            term: raft.term,
            leader: raft.leader_id,
            is_leader: raft.state == StateRole::Leader,
            commit: raft.raft_log.committed,
        }
    }

    /// How far everybody is, as known to a leader; on others it means nothing.
    pub fn places(&self) -> Vec<Place> {
        let voters = self.node.raft.prs().conf().voters();
        let place = |(id, progress): (&u64, &raft::Progress)| Place {
            member: *id,
            matched: progress.matched,
            voter: voters.contains(*id),
            active: *id == self.id || progress.recent_active,
        };
        self.node.raft.prs().iter().map(place).collect()
    }

    /// The members that agree, as of the last applied change.
    pub fn membership(&self) -> Membership {
        membership_of(&self.node.raft.prs().conf().to_conf_state())
    }

    /// Carries out a membership entry: with `None` it changes nothing. Every handed-out membership entry must come here,
    /// in order, before its index is reported as applied.
    ///
    /// # Errors
    /// [`RaftFault`] when the group can't go on.
    pub fn apply_change(&mut self, change: Option<MembershipChange>) -> Result<(), RaftFault> {
        let change = change.map_or_else(ConfChange::default, MembershipChange::to_raft);
        self.node.apply_conf_change(&change)?;
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && !raft.prs().conf().voters().contains(self.id) {
            // Who is no voter any more can't lead: the library leaves that to us, and fails on its next commit.
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        Ok(())
    }

    /// What must never be forgotten, as of now.
    pub fn hard_state(&self) -> HardState {
        let core = self.node.store().kept.rl();
        let hs = core.hard_state();
        HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
    }

    /// A snapshot has replaced all that was kept.
    fn begin_anew(&mut self, snapshot: &eraftpb::Snapshot) -> SnapshotMark {
        let mark = mark_of(snapshot);
        // Cannot fail: raft takes only snapshots beyond its commit index, and memory begins before that.
        let taken = self.node.mut_store().kept.wl().apply_snapshot(snapshot.clone());
        debug_assert!(taken.is_ok(), "{taken:?}");
        self.first_kept = mark.index + 1;
        self.kept.clear();
        self.kept_bytes = 0;
        mark
    }

    fn keep(&mut self, entries: &[eraftpb::Entry]) {
        let Some(last) = entries.last() else { return };
        self.node.mut_store().kept.wl().append(entries).expect("raft hands out entries without holes");
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.kept.push_back((last.index, bytes));
        self.kept_bytes += bytes;
    }

    fn offer_snapshots_at(&mut self, applied: u64) {
        let newest = &self.node.store().newest;
        if newest.as_ref().is_some_and(|mark| mark.index == applied) {
            return;
        }
        let Some(term) = self.term_of(applied) else { return };
        let membership = self.membership();
        self.node.mut_store().newest = Some(SnapshotMark { index: applied, term, membership });
    }

    /// Sets the election timeout by our own chance, which is a function of the seed and of what happened so far.
    fn draw_election_timeout(&mut self) {
        let role = self.node.raft.state;
        if role != self.was {
            self.elections += 1;
            self.was = role;
        }
        let mixed = mix(self.pace.seed ^ mix(self.id) ^ mix(self.elections << 32 | self.node.raft.term));
        let spread = self.pace.election_ticks as u64;
        self.node.raft.set_randomized_election_timeout(self.pace.election_ticks + (mixed % spread) as usize);
    }

    fn read_state(&self, state: &raft::ReadState) -> Option<(u64, u64)> {
        let unique: &[u8; 24] = state.request_ctx.as_slice().try_into().ok()?;
        let number = |at: usize| unique[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        ((number(0), number(8)) == (self.id, self.pace.seed)).then(|| (number(16), state.index))
    }
}

/// Spreads the bits of a number (the finalizer of splitmix64).
fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn check_fit(start: &LogStart, hard: HardState, entries: &[Entry], applied: u64) -> Result<(), RaftFault> {
    let last = entries.last().map_or(start.index, |entry| entry.index);
    for (expected, entry) in (start.index + 1..).zip(entries) {
        if entry.index != expected {
            return Err(RaftFault(format!("the log has entry {} where {expected} belongs", entry.index)));
        }
    }
    if hard.commit > last {
        return Err(RaftFault(format!("the log ends at {last}, but was committed up to {}", hard.commit)));
    }
    if applied > last {
        return Err(RaftFault(format!("the tables hold entry {applied}, but the log ends at {last}")));
    }
    if applied < start.index {
        return Err(RaftFault(format!("the tables end at entry {applied}, but the log begins after {}", start.index)));
    }
    Ok(())
}

fn to_raft(entry: &Entry) -> eraftpb::Entry {
    let mut out =
        eraftpb::Entry { index: entry.index, term: entry.term, data: entry.data.clone(), ..Default::default() };
    out.set_entry_type(match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::Membership => EntryType::EntryConfChange,
    });
    out
}

fn from_raft(entry: eraftpb::Entry) -> Entry {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Membership,
    };
    Entry { index: entry.index, term: entry.term, kind, data: entry.data }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "late_writes_tests.rs"]
mod late_writes_tests;
