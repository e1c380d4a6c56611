//! One member's part in the agreement, as values in and values out.
//!
//! ```text
//! propose / tick / read_index ──▶ Group ──▶ Work { persist, committed, reads, standing }
//!                                   ▲                 │ the caller writes and syncs `persist`
//!                                   └── persisted() ──┘ then learns what else is committed
//! ```
//!
//! Knows no file, no socket, no clock: a tick is a call, and the election timeout's chance comes from `seed`.

use bytes::Bytes;
use raft::eraftpb::{self, ConfChange, ConfState, EntryType, MessageType};
use raft::storage::MemStorage;
use raft::{RawNode, StateRole};

use crate::log::{Entry, EntryKind, HardState, LogStart, Membership};

/// Applied entries kept in memory for members that lag a little. More come from a snapshot.
const ENTRIES_KEPT: u64 = 5_000;
/// Cut the kept entries only when this many more have gathered.
const ENTRIES_SLACK: u64 = 1_000;
/// Bytes of committed entries handed over at once.
const COMMITTED_BYTES_MAX: u64 = 16 << 20;

/// How a group behaves in time, counted in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
    /// Ticks between two heartbeats.
    pub heartbeat_ticks: usize,
}

/// Agreement cannot go on: what the log says is not possible.
#[derive(Debug, thiserror::Error)]
#[error("raft: {0}")]
pub struct RaftFault(String);

impl From<raft::Error> for RaftFault {
    fn from(error: raft::Error) -> Self {
        Self(error.to_string())
    }
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

/// What must happen now, in this order: write `entries` and `hard_state` and sync, call [`Group::persisted`].
#[derive(Debug, Default)]
pub struct Work {
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
}

/// A raft group seen from one member.
pub struct Group {
    node: RawNode<MemStorage>,
    id: u64,
    first_kept: u64,
    handed_out: HardState,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("id", &self.id).field("standing", &self.standing()).finish_non_exhaustive()
    }
}

impl Group {
    /// Takes up the log where it was left. Entries up to `applied` are not handed out again.
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
    ) -> Result<Self, RaftFault> {
        check_fit(start, hard_state, entries, applied)?;
        let store = MemStorage::new();
        {
            let mut core = store.wl();
            let mut snapshot = eraftpb::Snapshot::default();
            let meta = snapshot.mut_metadata();
            meta.index = start.index;
            meta.term = start.term;
            meta.set_conf_state(conf_state(&start.membership));
            if start.index > 0 {
                core.apply_snapshot(snapshot)?;
            } else {
                core.set_conf_state(conf_state(&start.membership));
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
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 512,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            ..Default::default()
        };
        let node = RawNode::new(&config, store, &slog::Logger::root(slog::Discard, slog::o!()))?;
        Ok(Self { node, id, first_kept: start.index + 1, handed_out: hard_state })
    }

    /// Time goes on by one tick.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// Stands for election now instead of waiting: right for a member that is alone.
    ///
    /// # Errors
    /// [`RaftFault`] when the log forbids it.
    pub fn campaign(&mut self) -> Result<(), RaftFault> {
        Ok(self.node.campaign()?)
    }

    /// Offers entries to the log, in order, all or none. Returns the index of the first.
    ///
    /// # Errors
    /// When this member is not the leader: nothing was taken.
    pub fn propose(&mut self, batch: Vec<Vec<u8>>) -> Result<u64, RaftFault> {
        let count = batch.len() as u64;
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id;
        message.entries =
            batch.into_iter().map(|data| eraftpb::Entry { data: Bytes::from(data), ..Default::default() }).collect();
        self.node.step(message)?;
        Ok(self.node.raft.raft_log.last_index() + 1 - count)
    }

    /// Asks for the index that a linearizable read must wait for; the answer comes in [`Work::reads`] with `context`.
    pub fn read_index(&mut self, context: u64) {
        self.node.read_index(context.to_be_bytes().to_vec());
    }

    /// There is something to do.
    pub fn has_work(&self) -> bool {
        self.node.has_ready()
    }

    /// Takes what must be done next.
    pub fn work(&mut self) -> Work {
        let mut ready = self.node.ready();
        let entries = ready.take_entries();
        self.node.mut_store().wl().append(&entries).expect("raft hands out entries without holes");
        if let Some(hs) = ready.hs() {
            self.node.mut_store().wl().set_hardstate(hs.clone());
        }
        // The commit index also moves in `persisted`, which raft does not report again: it rides with the next write.
        let now = self.hard_state();
        let hard_state = (now != self.handed_out).then_some(now);
        self.handed_out = now;
        Work {
            entries: entries.into_iter().map(from_raft).collect(),
            hard_state,
            must_sync: ready.must_sync(),
            committed: ready.take_committed_entries().into_iter().map(from_raft).collect(),
            reads: ready.take_read_states().into_iter().filter_map(read_state).collect(),
            ready: Some(ready),
        }
    }

    /// What [`Group::work`] asked for is on disk. Returns what became committed through it, and the new commit index
    /// where it moved.
    pub fn persisted(&mut self, mut work: Work) -> (Vec<Entry>, Option<u64>) {
        let Some(ready) = work.ready.take() else { return (Vec::new(), None) };
        let mut light = self.node.advance_append(ready);
        let commit = light.commit_index();
        if let Some(commit) = commit {
            self.node.mut_store().wl().mut_hard_state().commit = commit;
        }
        (light.take_committed_entries().into_iter().map(from_raft).collect(), commit)
    }

    /// Everything up to `index` is applied: old entries need not be kept.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        if index > self.first_kept + ENTRIES_KEPT + ENTRIES_SLACK {
            let keep_from = index - ENTRIES_KEPT;
            if self.node.mut_store().wl().compact(keep_from).is_ok() {
                self.first_kept = keep_from;
            }
        }
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

    fn hard_state(&self) -> HardState {
        let core = self.node.store().rl();
        let hs = core.hard_state();
        HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
    }

    /// The members that agree, as of the last applied change.
    pub fn membership(&self) -> Membership {
        let state = self.node.raft.prs().conf().to_conf_state();
        let mut voters = state.voters;
        let mut learners = state.learners;
        voters.sort_unstable();
        learners.sort_unstable();
        Membership { voters, learners }
    }

    /// Applies a membership entry that changes nothing: every handed-out membership entry must be acknowledged.
    ///
    /// # Errors
    /// [`RaftFault`] when the group can't go on.
    pub fn refuse_membership(&mut self) -> Result<(), RaftFault> {
        self.node.apply_conf_change(&ConfChange::default())?;
        Ok(())
    }
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

fn conf_state(membership: &Membership) -> ConfState {
    ConfState { voters: membership.voters.clone(), learners: membership.learners.clone(), ..Default::default() }
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

fn read_state(state: raft::ReadState) -> Option<(u64, u64)> {
    let context = u64::from_be_bytes(state.request_ctx.as_slice().try_into().ok()?);
    Some((context, state.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { election_ticks: 10, heartbeat_ticks: 1 };

    fn alone() -> LogStart {
        LogStart { index: 0, term: 0, membership: Membership { voters: vec![7], learners: vec![] } }
    }

    /// Does all work at once; returns what was written and what was committed.
    fn settle(group: &mut Group) -> (Vec<Entry>, Vec<Entry>) {
        let (mut written, mut committed) = (Vec::new(), Vec::new());
        while group.has_work() {
            let mut work = group.work();
            written.append(&mut work.entries);
            committed.append(&mut work.committed);
            let (more, _) = group.persisted(work);
            committed.extend(more);
            if let Some(last) = committed.last() {
                group.applied(last.index);
            }
        }
        (written, committed)
    }

    #[test]
    fn a_member_alone_leads_and_commits_what_it_persisted() {
        let mut group = Group::open(7, PACE, &alone(), HardState::default(), &[], 0).unwrap();
        group.campaign().unwrap();
        settle(&mut group);
        assert!(group.standing().is_leader);
        group.propose(vec![b"a".to_vec(), b"b".to_vec()]).unwrap();
        let (written, committed) = settle(&mut group);
        assert_eq!(written, committed);
        assert_eq!(committed.iter().map(|e| e.data.as_ref()).collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn a_restart_hands_out_only_what_the_tables_lack() {
        let mut group = Group::open(7, PACE, &alone(), HardState::default(), &[], 0).unwrap();
        group.campaign().unwrap();
        let (mut log, _) = settle(&mut group);
        group.propose(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]).unwrap();
        log.extend(settle(&mut group).0);
        let hard = HardState { term: 1, vote: 7, commit: 3 };
        let mut again = Group::open(7, PACE, &alone(), hard, &log, 2).unwrap();
        again.campaign().unwrap();
        let (_, committed) = settle(&mut again);
        assert_eq!(committed.iter().map(|e| e.index).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn tables_may_be_ahead_of_the_commit_that_the_log_wrote_down() {
        let mut group = Group::open(7, PACE, &alone(), HardState::default(), &[], 0).unwrap();
        group.campaign().unwrap();
        let (mut log, _) = settle(&mut group);
        group.propose(vec![b"a".to_vec()]).unwrap();
        log.extend(settle(&mut group).0);
        let hard = HardState { term: 1, vote: 7, commit: 1 };
        let mut again = Group::open(7, PACE, &alone(), hard, &log, 2).unwrap();
        again.campaign().unwrap();
        let (_, committed) = settle(&mut again);
        assert_eq!(committed.iter().map(|e| e.index).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn logs_that_do_not_fit_are_refused() {
        let entry = |index| Entry { index, term: 1, kind: EntryKind::Normal, data: Bytes::new() };
        let hard = HardState { term: 1, vote: 7, commit: 1 };
        assert!(Group::open(7, PACE, &alone(), hard, &[entry(1), entry(3)], 0).is_err());
        assert!(Group::open(7, PACE, &alone(), HardState { commit: 9, ..hard }, &[entry(1)], 0).is_err());
        assert!(Group::open(7, PACE, &alone(), hard, &[entry(1)], 4).is_err());
    }
}
