//! One member: its round is the raft thread's, its apply the apply thread's; each step is an event of its own.
//!
//! ```text
//! inbox ─▶ take up ─▶ work ─▶ say ─▶ append ─(time)─▶ sync ─(time)─▶ persisted ─▶ say, hand on ─▶ … ─▶ idle
//!                                                                                  └─▶ apply (another time) ─▶ answers
//! ```

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context as _, Result, ensure};
use eyrie_raft::{
    Entry, EntryKind, Group, HardState, LogStart, Membership, MembershipChange, Message, Pace, SnapshotMark, Work,
};
use eyrie_state::{Applied, Command, LogIndex, MemTables, Proposal, Range, RangeAnswer, State, Tables, Term};
use eyrie_tests::load::Dice;

use crate::disk::{Disk, Recovered, Rotten};
use crate::net::Time;
use crate::oracle::Oracle;

/// Ticks without a leader before an election.
const ELECTION_TICKS: usize = 10;
/// A read index without an answer is asked for anew after this.
const READ_RETRY: Time = 200_000;
/// Entries that are compared by digest: one of so many.
const DIGEST_EVERY: u64 = 5;
/// Keys that one step of a compaction looks at.
const COMPACTION_STEP: usize = 4;

/// Names one request of a client or of the operator.
pub(crate) type RequestId = u64;

/// What is asked of a member.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Propose { command: Vec<u8>, change: Option<MembershipChange> },
    Read { range: Range, serializable: bool },
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Applied(Applied),
    Read(i64, RangeAnswer),
    /// Certainly nothing happened.
    Refused(String),
    /// Nobody knows.
    Unknown,
}

/// What travels between members.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Raft(Vec<u8>),
    Snapshot {
        message: Vec<u8>,
        tables: MemTables,
    },
    SnapshotTaken {
        arrived: bool,
    },
    Forward {
        number: u64,
        command: Vec<u8>,
        change: Option<MembershipChange>,
    },
    /// `None`: not taken.
    Placed {
        number: u64,
        place: Option<(u64, u64)>,
    },
}

/// What waits to be taken up.
#[derive(Debug)]
pub(crate) enum Input {
    Asked(RequestId, Ask),
    Heard(u64, Packet),
    Lost(u64),
    Transfer(u64),
}

/// What a step of a member leads to.
#[derive(Debug)]
pub(crate) enum Effect {
    Send {
        to: u64,
        packet: Packet,
    },
    Answer(RequestId, Reply),
    Proceed(Time),
    Apply(Time),
    /// A life of this member hears changes from this revision on.
    Listens(i64),
    Changed(i64, Vec<eyrie_state::Event>),
    Removed,
    Note(String),
}

/// The world as one step of a member sees it.
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) dice: &'a mut Dice,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) effects: &'a mut Vec<Effect>,
}

/// See the module. What is not `running` survives a crash.
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) disk: Disk,
    /// Counts its starts: events of an earlier life are nobody's.
    pub(crate) life: u64,
    pub(crate) running: Option<Running>,
    /// Its log failed a checksum: it took itself out.
    pub(crate) out: bool,
}

enum ToApply {
    Entries(VecDeque<Entry>),
    Install(SnapshotMark, MemTables),
}

/// A proposal that is not in this member's own log.
#[derive(Clone)]
struct Elsewhere {
    request: RequestId,
    command: Vec<u8>,
    change: Option<MembershipChange>,
}

#[derive(Default)]
struct Reads {
    gathered: Vec<(RequestId, Range)>,
    asked: Option<(u64, Time, Vec<(RequestId, Range)>)>,
    next: u64,
    /// Named indexes that are not applied yet.
    wait_for: Vec<(u64, RequestId, Range)>,
}

enum Stage {
    Idle,
    /// Appended, not synced.
    Written(Box<Work>),
    /// Synced, not told to raft.
    Synced(Box<Work>),
}

pub(crate) struct Running {
    own: u64,
    pub(crate) group: Group,
    pub(crate) state: State<MemTables>,
    inbox: Vec<Input>,
    stage: Stage,
    to_apply: VecDeque<ToApply>,
    apply_is_due: bool,
    proceed_is_due: bool,
    /// Changes of the members that the state has seen and raft has not.
    changes: Vec<(u64, Option<MembershipChange>)>,
    applied: u64,
    anew_at: u64,
    pending: BTreeMap<u64, (u64, RequestId)>,
    parked: Vec<Elsewhere>,
    sent: BTreeMap<u64, (u64, Elsewhere)>,
    sent_next: u64,
    reads: Reads,
    /// Tables that came whole, and who sent them.
    arrived: Option<(SnapshotMark, MemTables, u64)>,
    leader: (u64, u64),
}

impl Member {
    pub(crate) fn new(id: u64, disk: Disk) -> Self {
        Self { id, disk, life: 0, running: None, out: false }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Starts on what the disk holds.
    pub(crate) fn start(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.life += 1;
        let (recovered, tables) = match self.disk.open() {
            Ok(opened) => opened,
            Err(Rotten) => {
                self.out = true;
                context.effects.push(Effect::Note(format!("{} takes itself out: its log fails a checksum", self.id)));
                return Ok(());
            }
        };
        let applied = tables.applied().0.0;
        ensure!(
            recovered.start.index <= applied && applied <= recovered.last_index(),
            "member {}: the tables hold {applied}, the log {} to {}",
            self.id,
            recovered.start.index,
            recovered.last_index()
        );
        let state = State::open(tables).context("open the state")?;
        let members: Vec<_> = state.members().cloned().collect();
        let told_nothing = applied == 0 && recovered.start.membership == Membership::default();
        let membership = if told_nothing { Membership::default() } else { membership_of(&members) };
        // Memory holds few entries before the applied one, as the server's does: who lags more needs a snapshot.
        let (start, entries) = still_wanted(recovered.clone(), applied, context.dice.below(40));
        let pace = Pace { election_ticks: ELECTION_TICKS, heartbeat_ticks: 1, seed: context.dice.below(u64::MAX) };
        let group = Group::open(self.id, pace, &start, recovered.hard_state, &entries, applied, &membership)
            .with_context(|| format!("member {} opens its log", self.id))?;
        context.effects.push(Effect::Listens(state.revision().0 + 1));
        context.effects.push(Effect::Note(format!("{} starts at {applied} of {}", self.id, recovered.last_index())));
        self.running = Some(Running {
            own: self.id,
            group,
            state,
            inbox: vec![],
            stage: Stage::Idle,
            to_apply: VecDeque::new(),
            apply_is_due: false,
            proceed_is_due: false,
            changes: vec![],
            applied,
            anew_at: 0,
            pending: BTreeMap::new(),
            parked: vec![],
            sent: BTreeMap::new(),
            sent_next: 0,
            reads: Reads::default(),
            arrived: None,
            leader: (0, 0),
        });
        Ok(())
    }

    /// Ends at once. The system keeps what was written, unless the power is cut too.
    pub(crate) fn crash(&mut self, power_cut: bool, dice: &mut Dice) {
        self.running = None;
        if power_cut {
            self.disk.power_cut(dice);
        } else {
            self.disk.sync();
        }
    }

    /// Something comes in.
    pub(crate) fn take(&mut self, input: Input, context: &mut Context<'_>) {
        let Some(running) = &mut self.running else { return };
        running.inbox.push(input);
        running.wake(context);
    }

    pub(crate) fn tick(&mut self, context: &mut Context<'_>) {
        let Some(running) = &mut self.running else { return };
        // A member that waits for its disk does not tick, as the server's raft thread does not.
        if matches!(running.stage, Stage::Idle) {
            running.group.tick();
            running.wake(context);
        }
    }

    /// The tables become durable, a moment late as ever.
    pub(crate) fn commit_tables(&mut self) {
        if let Some(running) = &self.running {
            self.disk.commit_tables(running.state.tables());
        }
    }

    /// Forgets the log that the durable tables have replaced, but for `keep` entries.
    pub(crate) fn release_log(&mut self, keep: u64) {
        let Some(running) = &self.running else { return };
        let durable = self.disk.durable_applied();
        if durable <= self.disk.log_start() + keep {
            return;
        }
        let index = durable - keep;
        let Some(term) = running.group.term_of(index) else { return };
        self.disk.release_before(LogStart { index, term, membership: running.group.membership() });
    }

    /// One step of compaction.
    pub(crate) fn compact_a_little(&mut self) -> Result<()> {
        if let Some(running) = &mut self.running {
            running.state.compaction_step(COMPACTION_STEP).context("a step of compaction")?;
        }
        Ok(())
    }

    /// The next step of the round.
    pub(crate) fn proceed(&mut self, context: &mut Context<'_>) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.proceed_is_due = false;
        match std::mem::replace(&mut running.stage, Stage::Idle) {
            Stage::Idle => {
                for input in std::mem::take(&mut running.inbox) {
                    running.take_up(input, context)?;
                }
                running.route_parked(context);
            }
            Stage::Written(work) => {
                self.disk.sync();
                running.stage = Stage::Synced(work);
                running.proceed_after(20 + context.dice.below(100), context);
                return Ok(());
            }
            Stage::Synced(work) => running.persisted(*work, context)?,
        }
        running.settle(&mut self.disk, context)
    }

    /// One batch of what is committed.
    pub(crate) fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.apply_is_due = false;
        let batch = 1 + context.dice.below(12) as usize;
        match running.to_apply.pop_front() {
            Some(ToApply::Install(mark, tables)) => running.install(&mark, tables, &mut self.disk, context)?,
            Some(ToApply::Entries(mut entries)) => {
                for entry in entries.drain(..batch.min(entries.len())).collect::<Vec<_>>() {
                    running.apply_one(entry, context)?;
                }
                if !entries.is_empty() {
                    running.to_apply.push_front(ToApply::Entries(entries));
                }
            }
            None => {}
        }
        running.answer_reads(context)?;
        running.apply_when_due(context);
        Ok(())
    }
}

impl Running {
    fn wake(&mut self, context: &mut Context<'_>) {
        if matches!(self.stage, Stage::Idle) && !self.proceed_is_due {
            self.proceed_after(5 + context.dice.below(40), context);
        }
    }

    fn proceed_after(&mut self, time: Time, context: &mut Context<'_>) {
        self.proceed_is_due = true;
        context.effects.push(Effect::Proceed(time));
    }

    fn apply_when_due(&mut self, context: &mut Context<'_>) {
        if !self.apply_is_due && !self.to_apply.is_empty() {
            self.apply_is_due = true;
            context.effects.push(Effect::Apply(10 + context.dice.below(300)));
        }
    }

    fn take_up(&mut self, input: Input, context: &mut Context<'_>) -> Result<()> {
        let effects = &mut *context.effects;
        match input {
            Input::Asked(request, Ask::Read { range, serializable: false }) => {
                self.reads.gathered.push((request, range));
            }
            Input::Asked(request, Ask::Read { range, .. }) => effects.push(self.read(request, &range)?),
            Input::Asked(request, Ask::Propose { command, change }) => {
                self.parked.push(Elsewhere { request, command, change });
            }
            Input::Heard(_, Packet::Raft(bytes)) => self.group.step(Message::decode(&bytes)?)?,
            Input::Heard(from, Packet::Snapshot { message, tables }) => {
                let message = Message::decode(&message)?;
                let Some(mark) = message.snapshot() else { return Ok(()) };
                self.arrived = Some((mark, tables, from));
                self.group.step(message)?;
            }
            Input::Heard(from, Packet::SnapshotTaken { arrived }) => self.group.snapshot_sent(from, arrived),
            Input::Heard(from, Packet::Forward { number, command, change }) => {
                let term = self.group.standing().term;
                let placed = match change {
                    None => self.group.propose(vec![command]),
                    Some(change) => self.group.propose_change(change, &command),
                };
                let place = placed.ok().map(|index| (index, term));
                effects.push(Effect::Send { to: from, packet: Packet::Placed { number, place } });
            }
            Input::Heard(_, Packet::Placed { number, place }) => match (self.sent.remove(&number), place) {
                (Some((_, elsewhere)), Some((index, term))) => {
                    self.await_entry(index, term, elsewhere.request, effects)
                }
                // No log has it: it is tried again.
                (Some((_, elsewhere)), None) => self.parked.push(elsewhere),
                (None, _) => {}
            },
            Input::Lost(member) => {
                self.group.unreachable(member);
                self.give_up_on(|to| to == member, effects);
            }
            Input::Transfer(member) => self.group.transfer_leader(member),
        }
        Ok(())
    }

    /// Waits for an entry. What stood there before was an older leader's.
    fn await_entry(&mut self, index: u64, term: u64, request: RequestId, effects: &mut Vec<Effect>) {
        // It may be applied already: then its answer is gone.
        if index <= self.applied {
            return effects.push(Effect::Answer(request, Reply::Unknown));
        }
        for (_, (_, replaced)) in self.pending.split_off(&index) {
            effects.push(Effect::Answer(replaced, Reply::Unknown));
        }
        self.pending.insert(index, (term, request));
    }

    fn give_up_on(&mut self, lost: impl Fn(u64) -> bool, effects: &mut Vec<Effect>) {
        for (_, (_, elsewhere)) in self.sent.extract_if(.., |_, (to, _)| lost(*to)) {
            effects.push(Effect::Answer(elsewhere.request, Reply::Unknown));
        }
    }

    /// Proposals go into the own log, to the leader, or wait until there is one.
    fn route_parked(&mut self, context: &mut Context<'_>) {
        let standing = self.group.standing();
        for elsewhere in std::mem::take(&mut self.parked) {
            if self.group.can_propose() {
                let Elsewhere { request, command, change } = elsewhere.clone();
                let placed = match change {
                    None => self.group.propose(vec![command]),
                    Some(change) => self.group.propose_change(change, &command),
                };
                match placed {
                    Ok(index) => self.await_entry(index, standing.term, request, context.effects),
                    Err(_) => self.parked.push(elsewhere),
                }
            } else if standing.leader == 0 || standing.is_leader {
                self.parked.push(elsewhere);
            } else {
                self.sent_next += 1;
                let (number, command, change) = (self.sent_next, elsewhere.command.clone(), elsewhere.change);
                self.sent.insert(number, (standing.leader, elsewhere));
                let packet = Packet::Forward { number, command, change };
                context.effects.push(Effect::Send { to: standing.leader, packet });
            }
        }
    }

    /// Does all work that the group has, as far as it needs no disk; else goes on when that has written.
    fn settle(&mut self, disk: &mut Disk, context: &mut Context<'_>) -> Result<()> {
        loop {
            while self.group.has_work() {
                let mut work = self.group.work();
                self.say(std::mem::take(&mut work.messages), context)?;
                let committed = std::mem::take(&mut work.committed);
                self.hand_on(committed, context)?;
                for (question, index) in std::mem::take(&mut work.reads) {
                    self.name_index(question, index);
                }
                if let Some(mark) = work.snapshot.take() {
                    self.begin_anew(&mark, work.hard_state.take(), disk, context)?;
                }
                if !work.entries.is_empty() || work.hard_state.is_some() {
                    disk.append(&work.entries, work.hard_state);
                    if work.must_sync {
                        self.stage = Stage::Written(Box::new(work));
                        // Some disks are slow now and then.
                        let slow = if context.dice.below(50) == 0 { 60_000 } else { 900 };
                        self.proceed_after(100 + context.dice.below(slow), context);
                        return Ok(());
                    }
                }
                self.persisted(work, context)?;
            }
            self.note_applied(context)?;
            self.announce(context)?;
            self.ask_for_reads(context.now);
            self.answer_reads(context)?;
            if !self.group.has_work() {
                break;
            }
        }
        // What raft wanted is on the disk by now; this was not wanted.
        if let Some((_, _, from)) = self.arrived.take() {
            context.effects.push(Effect::Send { to: from, packet: Packet::SnapshotTaken { arrived: false } });
        }
        if !self.inbox.is_empty() {
            self.wake(context);
        }
        Ok(())
    }

    fn persisted(&mut self, work: Work, context: &mut Context<'_>) -> Result<()> {
        let persisted = self.group.persisted(work);
        self.say(persisted.messages, context)?;
        self.hand_on(persisted.committed, context)
    }

    fn say(&mut self, messages: Vec<Message>, context: &mut Context<'_>) -> Result<()> {
        for message in messages {
            let to = message.to();
            let packet = if message.is_snapshot() {
                let tables = self.state.tables().clone();
                let (index, term) = tables.applied();
                let members: Vec<_> = self.state.members().cloned().collect();
                let mark = SnapshotMark { index: index.0, term: term.0, membership: membership_of(&members) };
                context.effects.push(Effect::Note(format!("a snapshot of {index} for {to}")));
                Packet::Snapshot { message: message.with_snapshot(&mark).encode()?, tables }
            } else {
                Packet::Raft(message.encode()?)
            };
            context.effects.push(Effect::Send { to, packet });
        }
        Ok(())
    }

    fn hand_on(&mut self, committed: Vec<Entry>, context: &mut Context<'_>) -> Result<()> {
        let own = self.own_id();
        committed.iter().try_for_each(|entry| context.oracle.committed(own, entry))?;
        if !committed.is_empty() {
            self.to_apply.push_back(ToApply::Entries(committed.into()));
            self.apply_when_due(context);
        }
        Ok(())
    }

    /// The log begins anew where the tables that arrived end.
    fn begin_anew(
        &mut self,
        mark: &SnapshotMark,
        hard_state: Option<HardState>,
        disk: &mut Disk,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (arrived, tables, from) = self.arrived.take().context("raft took a snapshot that never arrived")?;
        ensure!(arrived.index == mark.index, "raft took the snapshot of {}, {} arrived", mark.index, arrived.index);
        let start = LogStart { index: mark.index, term: mark.term, membership: mark.membership.clone() };
        let hard_state = hard_state.unwrap_or_else(|| self.group.hard_state());
        disk.arrived(arrived, tables.clone());
        disk.restart_after(start, HardState { commit: hard_state.commit.max(mark.index), ..hard_state });
        self.anew_at = mark.index;
        self.to_apply.push_back(ToApply::Install(mark.clone(), tables));
        self.apply_when_due(context);
        context.effects.push(Effect::Send { to: from, packet: Packet::SnapshotTaken { arrived: true } });
        Ok(())
    }

    fn note_applied(&mut self, context: &mut Context<'_>) -> Result<()> {
        for (index, change) in std::mem::take(&mut self.changes) {
            if index > self.anew_at {
                self.group.apply_change(change)?;
            }
        }
        self.group.applied(self.applied);
        let own = self.own_id();
        context.oracle.stands(own, self.group.standing())
    }

    fn announce(&mut self, context: &mut Context<'_>) -> Result<()> {
        let standing = self.group.standing();
        if (standing.leader, standing.term) != self.leader {
            self.leader = (standing.leader, standing.term);
            let leader = standing.leader;
            if let Some((_, _, readers)) = self.reads.asked.take() {
                self.reads.gathered.extend(readers);
            }
            self.give_up_on(|to| to != leader, context.effects);
            let (own, term) = (self.own_id(), standing.term);
            context.effects.push(Effect::Note(format!("{own} follows {leader} in term {term}")));
            self.route_parked(context);
        }
        Ok(())
    }

    fn ask_for_reads(&mut self, now: Time) {
        if self.reads.asked.as_ref().is_some_and(|(_, at, _)| now - at >= READ_RETRY)
            && let Some((_, _, readers)) = self.reads.asked.take()
        {
            self.reads.gathered.extend(readers);
        }
        if self.reads.asked.is_none() && !self.reads.gathered.is_empty() {
            self.reads.next += 1;
            self.group.read_index(self.reads.next);
            self.reads.asked = Some((self.reads.next, now, std::mem::take(&mut self.reads.gathered)));
        }
    }

    fn name_index(&mut self, question: u64, index: u64) {
        if self.reads.asked.as_ref().is_some_and(|(asked, ..)| *asked == question)
            && let Some((_, _, readers)) = self.reads.asked.take()
        {
            self.reads.wait_for.extend(readers.into_iter().map(|(request, range)| (index, request, range)));
        }
    }

    fn answer_reads(&mut self, context: &mut Context<'_>) -> Result<()> {
        let applied = self.applied;
        let due: Vec<_> = self.reads.wait_for.extract_if(.., |(index, ..)| *index <= applied).collect();
        for (_, request, range) in due {
            context.effects.push(self.read(request, &range)?);
        }
        Ok(())
    }

    fn read(&self, request: RequestId, range: &Range) -> Result<Effect> {
        let reply = match self.state.plan_range(range) {
            Ok(plan) => Reply::Read(plan.revision().0, plan.run()?),
            Err(refusal) => Reply::Refused(refusal.to_string()),
        };
        Ok(Effect::Answer(request, reply))
    }

    fn apply_one(&mut self, entry: Entry, context: &mut Context<'_>) -> Result<()> {
        let (index, term) = (entry.index, entry.term);
        let (position, at_term) = (LogIndex(index), Term(term));
        let outcome = if entry.data.is_empty() {
            self.state.apply_nothing(position, at_term)?;
            None
        } else if entry.kind == EntryKind::Normal {
            Some(self.state.apply(position, at_term, Proposal::decode(entry.data)?)?)
        } else {
            let (change, command) = MembershipChange::decode(&entry.data)?;
            let proposal = Proposal::decode(command)?;
            let removed = match proposal.command {
                Command::MemberRemove { id } => Some(id.0),
                _ => None,
            };
            let applied = self.state.apply(position, at_term, proposal)?;
            self.changes.push((index, applied.outcome.is_ok().then_some(change)));
            if applied.outcome.is_ok() && removed == Some(self.own_id()) {
                context.effects.push(Effect::Removed);
            }
            Some(applied)
        };
        self.applied = index;
        while let Some(first) = self.pending.first_entry().filter(|first| *first.key() <= index) {
            let (place, (of_term, request)) = (*first.key(), *first.get());
            first.remove();
            let ours = place == index && of_term == term;
            let reply = outcome.clone().filter(|_| ours).map_or(Reply::Unknown, Reply::Applied);
            context.effects.push(Effect::Answer(request, reply));
        }
        if let Some(applied) = outcome
            && !applied.events.is_empty()
        {
            context.effects.push(Effect::Changed(applied.revision.0, applied.events));
        }
        if !self.changes.is_empty() {
            self.wake(context);
        }
        self.compare_digest(index, context)
    }

    fn compare_digest(&self, index: u64, context: &mut Context<'_>) -> Result<()> {
        if index.is_multiple_of(DIGEST_EVERY) {
            let hash = self.state.hash_kv(None)?.run()?;
            context.oracle.holds(self.own_id(), index, hash.revision.0, hash.hash)?;
        }
        Ok(())
    }

    fn install(
        &mut self,
        mark: &SnapshotMark,
        tables: MemTables,
        disk: &mut Disk,
        context: &mut Context<'_>,
    ) -> Result<()> {
        disk.commit_tables(&tables);
        disk.discard_arrived();
        self.state = State::open(tables).context("open the tables of a snapshot")?;
        let applied = self.state.applied().0.0;
        ensure!(applied == mark.index, "a snapshot of {} holds {applied}", mark.index);
        self.applied = applied;
        let rest = self.pending.split_off(&(applied + 1));
        for (_, (_, request)) in std::mem::replace(&mut self.pending, rest) {
            context.effects.push(Effect::Answer(request, Reply::Unknown));
        }
        context.effects.push(Effect::Listens(self.state.revision().0 + 1));
        context.effects.push(Effect::Note(format!("{} took over the tables of {applied}", self.own_id())));
        self.wake(context);
        let hash = self.state.hash_kv(None)?.run()?;
        if applied.is_multiple_of(DIGEST_EVERY) {
            context.oracle.holds(self.own_id(), applied, hash.revision.0, hash.hash)?;
        }
        Ok(())
    }

    fn own_id(&self) -> u64 {
        self.own
    }

    /// How far it has applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }
}

/// What of the log memory takes up: what the tables lack, and a few entries before.
fn still_wanted(recovered: Recovered, applied: u64, keep: u64) -> (LogStart, Vec<Entry>) {
    let Recovered { start, mut entries, .. } = recovered;
    let index = applied.saturating_sub(keep);
    let last_unwanted = index.checked_sub(start.index + 1).and_then(|at| entries.get(at as usize));
    let Some(last_unwanted) = last_unwanted else { return (start, entries) };
    let begun = LogStart { index, term: last_unwanted.term, membership: start.membership };
    let wanted = entries.split_off((index - start.index) as usize);
    (begun, wanted)
}

/// Who votes and who listens among these.
pub(crate) fn membership_of(members: &[eyrie_state::Member]) -> Membership {
    let mut membership = Membership::default();
    for member in members {
        let list = if member.learner { &mut membership.learners } else { &mut membership.voters };
        list.push(member.id.0);
    }
    membership.voters.sort_unstable();
    membership.learners.sort_unstable();
    membership
}

/// Bytes of a command for the log.
pub(crate) fn bytes_of(command: &Command) -> Vec<u8> {
    command.encode()
}
