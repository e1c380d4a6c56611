//! One member: its round is the raft thread's, its log the log thread's, its apply the apply thread's; each step is an event of
//! its own.
//!
//! ```text
//! inbox ─▶ take up ─▶ work ─▶ say, hand on ─▶ hand over ─▶ idle          apply (another time) ─▶ answers
//!                                                  └─▶ append all that gathered ─(time)─▶ sync ─▶ noted in the next round
//! ```

mod apply;
mod asked;
mod round;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use eyrie_raft::{
    Entry, EntryKind, Group, HardState, LogStart, Membership, MembershipChange, Message, Pace, Questions, SnapshotMark,
    UnderWay, Work,
};
use eyrie_state::{Applied, Command, LogIndex, MemTables, Proposal, Range, RangeAnswer, State, Tables, Term};
use eyrie_tests::history::Value;
use eyrie_tests::history::names::text;
use eyrie_tests::load::Dice;

use self::round::Writes;
use crate::disk::{Disk, Recovered, Rotten};
use crate::flaw::Flaw;
use crate::net::Time;
use crate::oracle::Oracle;

/// Ticks without a leader before an election.
const ELECTION_TICKS: usize = 10;
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
    /// What is being written will be on the disk.
    Wrote(Time),
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
    pub(crate) flaw: Option<Flaw>,
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
    questions: Questions<(RequestId, Range)>,
    /// Named indexes that are not applied yet.
    wait_for: Vec<(u64, RequestId, Range)>,
}

pub(crate) struct Running {
    own: u64,
    pub(crate) group: Group,
    pub(crate) state: State<MemTables>,
    inbox: Vec<Input>,
    /// What followers forwarded while a round was under way.
    held: Vec<Input>,
    writes: Writes,
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
            held: vec![],
            writes: Writes::default(),
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
        running.group.tick();
        running.wake(context);
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
        running.settle(&mut self.disk, context)?;
        let held = if running.is_busy() { vec![] } else { std::mem::take(&mut running.held) };
        for input in held.into_iter().chain(std::mem::take(&mut running.inbox)) {
            running.take_up(input, context)?;
        }
        running.route_parked(context);
        running.settle(&mut self.disk, context)
    }

    /// The disk has done what it was writing, and begins what gathered meanwhile.
    pub(crate) fn wrote(&mut self, context: &mut Context<'_>) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.writes.end(&mut self.disk);
        running.write(&mut self.disk, context);
        running.wake(context);
        Ok(())
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
        if !self.proceed_is_due {
            self.proceed_is_due = true;
            context.effects.push(Effect::Proceed(5 + context.dice.below(40)));
        }
    }

    /// A round is under way: the next one gathers, and that is the group commit.
    fn is_busy(&self) -> bool {
        self.writes.under_way.bytes() > 0
    }

    /// The disk begins what was ordered, if it is not busy.
    fn write(&mut self, disk: &mut Disk, context: &mut Context<'_>) {
        if self.writes.begin(disk) {
            // Some disks are slow now and then.
            let slow = if context.dice.below(50) == 0 { 60_000 } else { 1_000 };
            context.effects.push(Effect::Wrote(120 + context.dice.below(slow)));
        }
    }

    fn apply_when_due(&mut self, context: &mut Context<'_>) {
        if !self.apply_is_due && !self.to_apply.is_empty() {
            self.apply_is_due = true;
            context.effects.push(Effect::Apply(10 + context.dice.below(300)));
        }
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
    Membership::of(members.iter().map(|member| (member.id.0, member.learner)))
}

/// Bytes of a command for the log.
pub(crate) fn bytes_of(command: &Command) -> Vec<u8> {
    command.encode()
}
