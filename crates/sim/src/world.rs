//! The world of one seed: everything that happens, in the order of virtual time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, Result, bail, ensure};
use eyrie_raft::{LogStart, Membership};
use eyrie_state::{
    Bucket, Change, LogIndex, MemTables, Member as Row, MemberId, TableOp, Tables, Term, member_json, member_key,
};
use eyrie_tests::history::names::key_of;
use eyrie_tests::history::{Checked, End, Event as Heard, History, Op, Stream, Value};
use eyrie_tests::load::Dice;

use crate::clients::{Client, all, pair};
use crate::disk::Disk;
use crate::flaw::Flaw;
use crate::member::{Ask, Context, Effect, Input, Member, Packet, Reply, RequestId, membership_of};
use crate::net::{Net, Time};
use crate::oracle::Oracle;
use crate::script::Script;
use crate::trouble::Operator;

/// Between two ticks of a member.
const TICK: Time = 10_000;
/// A client waits no longer.
const PATIENCE: Time = 1_500_000;
/// Trouble lasts so long; then all is made whole, and the cluster must come to rest.
const TROUBLED: Time = 6_000_000;
/// How long it may take until all agree again.
const RECOVERY: Time = 12_000_000;
/// Clients.
const CLIENTS: usize = 9;
/// No run has more events: a world that never comes to rest is broken.
const EVENTS_MAX: usize = 3_000_000;

/// What happens.
enum Event {
    Tick(u64, u64),
    Proceed(u64, u64),
    Wrote(u64, u64),
    Apply(u64, u64),
    Deliver(u64, u64, Packet),
    /// A client asks, or gives up.
    Client(usize),
    GiveUp(usize, RequestId),
    /// An answer is on its way.
    Answer(RequestId, Reply),
    Start(u64),
    /// A member learns that its connection to another is gone.
    Lost(u64, u64),
    Housekeeping,
    Trouble,
    /// The next step of the script.
    Step(usize),
    Operator,
    Heal,
    End(u64, u64),
}

/// What one seed led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was checked in the clients' history.
    pub checked: Checked,
    /// Leaders, committed entries, digests compared.
    pub promised: (usize, usize, usize),
    /// Starts of members.
    pub starts: u64,
    /// Every step, one line each.
    pub trace: String,
}

/// A broken promise.
#[derive(Debug)]
pub struct Failure {
    /// The seed that leads to it.
    pub seed: u64,
    /// Which promise.
    pub error: anyhow::Error,
    /// Every step until then.
    pub trace: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seed, error) = (self.seed, &self.error);
        write!(f, "seed {seed}: {error:#}. EYRIE_SEED={seed} runs it again and prints every step")
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) dice: Dice,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) net: Net,
    /// Trouble is over.
    pub(crate) healing: bool,
    queue: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    oracle: Oracle,
    clients: Vec<Client>,
    next_request: RequestId,
    values: Value,
    ops: Vec<Op>,
    streams: BTreeMap<(u64, u64, i64), Stream>,
    listening: BTreeMap<u64, (u64, u64, i64)>,
    operator: Operator,
    starts: u64,
    trace: String,
    flaw: Option<Flaw>,
    script: Option<Script>,
}

/// What each check says of a history, by its name.
pub type Verdicts = Vec<(&'static str, Result<(), String>)>;

/// Runs the world of a seed with stores that are broken on purpose, and says what was noticed, if anything was.
pub fn notice(seed: u64, flaw: Flaw) -> Option<String> {
    let mut world = World::new(seed, None);
    world.flaw = Some(flaw);
    finish(seed, world).err().map(|failure| format!("{:#}", failure.error))
}

/// As [`notice`], but nobody looks before the end. What each check says of the history; `None` when the world
/// came to no end, as broken ones may.
pub fn run_flawed(seed: u64, flaw: Flaw) -> Option<Verdicts> {
    let mut world = World::new(seed, None);
    world.flaw = Some(flaw);
    world.oracle.blind = true;
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| world.come_to_rest().and_then(|()| world.history())));
    let history = ran.ok()?.ok()?;
    let verdicts = history.verdicts().into_iter();
    Some(verdicts.map(|(check, verdict)| (check, verdict.map_err(|error| format!("{error:#}")))).collect())
}

/// Runs the world of a seed to its end and checks it.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64) -> Result<Report, Failure> {
    finish(seed, World::new(seed, None))
}

/// As [`run`], with trouble by script; the seed is for all that the script leaves open.
///
/// # Errors
/// As for [`run`]; also a script that can't be read, and one that does not lead where it says.
pub fn play(seed: u64, script: &str) -> Result<Report, Failure> {
    let failed = |error, trace| Failure { seed, error, trace };
    let script = Script::read(script).map_err(|error| failed(error, String::new()))?;
    let must = script.must.clone();
    let report = finish(seed, World::new(seed, Some(script)))?;
    match must.into_iter().find(|words| !report.trace.contains(words)) {
        Some(words) => Err(failed(anyhow::anyhow!("it never came to this: {words}"), report.trace)),
        None => Ok(report),
    }
}

/// The flaw with which a script must go wrong.
///
/// # Errors
/// A script that can't be read.
pub fn flaw_of(script: &str) -> Result<Option<Flaw>> {
    Ok(Script::read(script)?.finds)
}

/// As [`notice`], with trouble by script.
///
/// # Errors
/// A script that can't be read.
pub fn play_flawed(seed: u64, script: &str, flaw: Flaw) -> Result<Option<String>> {
    let mut world = World::new(seed, Some(Script::read(script)?));
    world.flaw = Some(flaw);
    Ok(finish(seed, world).err().map(|failure| format!("{:#}", failure.error)))
}

fn finish(seed: u64, mut world: World) -> Result<Report, Failure> {
    // A panic ends a member; no world may bring one about.
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let ran = ran.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| words.to_string()));
        bail!("a panic: {}", words.unwrap_or_default())
    });
    ran.map_err(|error| Failure { seed, error, trace: std::mem::take(&mut world.trace) })
}

impl World {
    fn new(seed: u64, script: Option<Script>) -> Self {
        let mut dice = Dice::new(seed);
        let by_chance = if dice.below(3) == 0 { 5 } else { 3 };
        let count = script.as_ref().map_or(by_chance, |script| script.members);
        let rows: Vec<Row> = (1..=count).map(row).collect();
        let start = LogStart { index: count, term: 1, membership: membership_of(&rows) };
        let members =
            rows.iter().map(|own| (own.id.0, Member::new(own.id.0, Disk::new(start.clone(), tables(&rows, count)))));
        let mut world = Self {
            now: 0,
            members: members.collect(),
            net: Net::default(),
            healing: false,
            queue: BTreeMap::new(),
            next_event: 0,
            oracle: Oracle::default(),
            clients: (0..CLIENTS).map(|number| Client::new(number, 1 + number as u64 % count)).collect(),
            next_request: 0,
            values: 0,
            ops: Vec::new(),
            streams: BTreeMap::new(),
            listening: BTreeMap::new(),
            operator: Operator::new(count),
            starts: 0,
            trace: String::new(),
            flaw: None,
            script,
            dice,
        };
        world.net.heal();
        for id in 1..=count {
            world.after(id, Event::Start(id));
        }
        for client in 0..CLIENTS {
            world.after(200_000 + client as u64, Event::Client(client));
        }
        match &world.script {
            None => world.after(300_000, Event::Trouble),
            Some(script) => {
                let times: Vec<Time> = script.steps.iter().map(|(at, _)| *at).collect();
                times.into_iter().enumerate().for_each(|(number, at)| world.after(at, Event::Step(number)));
            }
        }
        world.after(300_000, Event::Operator);
        world.after(5_000, Event::Housekeeping);
        world.after(TROUBLED, Event::Heal);
        world
    }

    fn run(&mut self) -> Result<Report> {
        self.come_to_rest()?;
        self.judge()
    }

    fn come_to_rest(&mut self) -> Result<()> {
        for _ in 0..EVENTS_MAX {
            let Some(((at, _), event)) = self.queue.pop_first() else { bail!("nothing happens any more") };
            self.now = at;
            self.happen(event)?;
            if self.healing && self.now > TROUBLED + PATIENCE && self.at_rest() {
                return Ok(());
            }
            ensure!(self.now < TROUBLED + RECOVERY, "the members do not come to one mind: {}", self.whereabouts());
        }
        bail!("the world does not come to rest")
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Tick(id, life) => {
                if self.alive(id, life) {
                    self.step(id, |member, context| {
                        member.tick(context);
                        Ok(())
                    })?;
                    self.after(TICK, Event::Tick(id, life));
                }
            }
            Event::Proceed(id, life) if self.alive(id, life) => self.step(id, Member::proceed)?,
            Event::Apply(id, life) if self.alive(id, life) => self.step(id, Member::apply)?,
            Event::Wrote(id, life) if self.alive(id, life) => self.step(id, Member::wrote)?,
            Event::Proceed(..) | Event::Wrote(..) | Event::Apply(..) => {}
            Event::Deliver(from, to, packet) => {
                let refused =
                    matches!(packet, Packet::Snapshot { .. }) && !self.members.get(&to).is_some_and(Member::is_up);
                if refused {
                    self.after(1_000, Event::Deliver(to, from, Packet::SnapshotTaken { arrived: false }));
                }
                self.input(to, Input::Heard(from, packet))?;
            }
            Event::Client(number) => self.client_asks(number)?,
            Event::GiveUp(number, request) => {
                if self.clients[number].waits_for(request) {
                    self.answered(request, Reply::Unknown)?;
                }
            }
            Event::Answer(request, reply) => self.answered(request, reply)?,
            Event::Start(id) => self.start(id)?,
            Event::Lost(id, other) => {
                self.input(id, Input::Lost(other))?;
                // A transfer that was under way is broken off with the connection.
                self.input(id, Input::Heard(other, Packet::SnapshotTaken { arrived: false }))?;
            }
            Event::Housekeeping => self.housekeeping()?,
            Event::Trouble => {
                if !self.healing {
                    crate::trouble::make(self)?;
                    let pause = 20_000 + self.dice.below(350_000);
                    self.after(pause, Event::Trouble);
                }
            }
            Event::Step(number) => {
                let step = self.script.as_ref().map(|script| script.steps[number].1);
                step.map_or(Ok(()), |step| crate::trouble::follow(self, step))?;
            }
            Event::Operator => {
                crate::trouble::operate(self)?;
                self.after(150_000, Event::Operator);
            }
            Event::Heal => {
                self.note("all is made whole");
                self.healing = true;
                self.net.heal();
                let down: Vec<u64> = self.members.values().filter(|m| !m.is_up() && !m.out).map(|m| m.id).collect();
                down.into_iter().for_each(|id| self.after(1_000, Event::Start(id)));
            }
            Event::End(id, life) => {
                if self.alive(id, life) {
                    self.note(&format!("{id} has left the cluster and ends"));
                    self.retire(id);
                }
            }
        }
        Ok(())
    }

    /// Something happens after some time.
    fn after(&mut self, time: Time, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + time, self.next_event), event);
    }

    fn alive(&self, id: u64, life: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.life == life && member.is_up())
    }

    /// One step of a member, and what it leads to.
    fn step(&mut self, id: u64, step: impl FnOnce(&mut Member, &mut Context<'_>) -> Result<()>) -> Result<()> {
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        let mut effects = Vec::new();
        let mut context = Context {
            now: self.now,
            dice: &mut self.dice,
            oracle: &mut self.oracle,
            effects: &mut effects,
            flaw: self.flaw,
        };
        step(member, &mut context)?;
        let life = member.life;
        for effect in effects {
            self.follow(id, life, effect)?;
        }
        Ok(())
    }

    fn follow(&mut self, id: u64, life: u64, effect: Effect) -> Result<()> {
        match effect {
            Effect::Send { to, packet } => self.send(id, to, packet),
            Effect::Answer(request, reply) => {
                let way = 50 + self.dice.below(500);
                self.after(way, Event::Answer(request, reply));
            }
            Effect::Proceed(time) => self.after(time, Event::Proceed(id, life)),
            Effect::Wrote(time) => self.after(time, Event::Wrote(id, life)),
            Effect::Apply(time) => self.after(time, Event::Apply(id, life)),
            Effect::Listens(from) => {
                let key = (id, life, from);
                let stream = Stream {
                    name: format!("life {life} of member {id} from revision {from} on"),
                    key: None,
                    from,
                    wants_before: false,
                    compacting: false,
                    compacted: None,
                    responses: vec![],
                };
                self.streams.insert(key, stream);
                self.listening.insert(id, key);
            }
            Effect::Changed(revision, events) => {
                let events = events.iter().map(|event| heard(revision, event)).collect::<Result<Vec<_>>>()?;
                let key = self.listening.get(&id).context("a life that listens")?;
                let response = eyrie_tests::history::Response { at: self.now * 1000, revision, events };
                self.streams.get_mut(key).context("its stream")?.responses.push(response);
            }
            Effect::Removed => self.after(1_000_000, Event::End(id, life)),
            Effect::Note(text) => self.note(&text),
        }
        Ok(())
    }

    fn send(&mut self, from: u64, to: u64, packet: Packet) {
        let mut fates = self.net.fates(from, to, &mut self.dice);
        // A connection repeats nothing; for raft it must not matter, for a proposal it would be two.
        if matches!(packet, Packet::Forward { .. }) {
            fates.truncate(1);
        }
        let large = if matches!(packet, Packet::Snapshot { .. }) { 3_000 + self.dice.below(40_000) } else { 0 };
        let kind = match &packet {
            Packet::Raft(_) => "raft",
            Packet::Snapshot { .. } => "snapshot",
            Packet::SnapshotTaken { .. } => "snapshot taken",
            Packet::Forward { .. } => "forward",
            Packet::Placed { .. } => "placed",
        };
        let _ = writeln!(self.trace, "{} {from}>{to} {kind} {fates:?}", self.now);
        // Whoever sends a snapshot knows when it, or the answer to it, did not come through.
        if fates.is_empty() {
            let broken_off = Packet::SnapshotTaken { arrived: false };
            match packet {
                Packet::Snapshot { .. } => self.after(large, Event::Deliver(to, from, broken_off)),
                Packet::SnapshotTaken { .. } => self.after(50_000, Event::Deliver(from, to, broken_off)),
                Packet::Raft(_) | Packet::Forward { .. } | Packet::Placed { .. } => {}
            }
        }
        for fate in fates {
            self.after(large + fate, Event::Deliver(from, to, packet.clone()));
        }
    }

    fn client_asks(&mut self, number: usize) -> Result<()> {
        if self.healing && self.now > TROUBLED + PATIENCE / 2 {
            return Ok(());
        }
        self.next_request += 1;
        let request = self.next_request;
        let ask = self.clients[number].ask(request, self.now, &mut self.values, &mut self.dice);
        let at = self.clients[number].at;
        self.after(PATIENCE, Event::GiveUp(number, request));
        self.ask(at, request, ask)
    }

    /// Asks a member; one that is down says nothing, one that only learns refuses.
    pub(crate) fn ask(&mut self, at: u64, request: RequestId, ask: Ask) -> Result<()> {
        let votes = |member: &Member| {
            member.running.as_ref().is_some_and(|running| running.group.membership().voters.contains(&member.id))
        };
        if self.members.get(&at).is_some_and(votes) {
            self.step(at, |member, context| {
                member.take(Input::Asked(request, ask), context);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// A request of the operator's own, which nobody waits for.
    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        self.next_request
    }

    fn answered(&mut self, request: RequestId, reply: Reply) -> Result<()> {
        let Some(number) = self.clients.iter().position(|client| client.waits_for(request)) else { return Ok(()) };
        let Some(op) = self.clients[number].hear(request, reply, self.now)? else { return Ok(()) };
        let _ = writeln!(self.trace, "{} {}", self.now, op.told());
        let failed = op.answer().is_none();
        self.ops.push(op);
        if failed {
            // Some stay with their member, whatever becomes of it.
            if number % 3 > 0 {
                let known: Vec<u64> = self.members.keys().copied().collect();
                self.clients[number].at = known[self.dice.below(known.len() as u64) as usize];
            }
        }
        let rest = 500 + self.dice.below(if failed { 60_000 } else { 12_000 });
        self.after(rest, Event::Client(number));
        Ok(())
    }

    fn start(&mut self, id: u64) -> Result<()> {
        if self.members.get(&id).is_none_or(|member| member.is_up() || member.out) {
            return Ok(());
        }
        self.starts += 1;
        self.step(id, Member::start)?;
        let life = self.members[&id].life;
        let phase = self.dice.below(TICK);
        self.after(phase, Event::Tick(id, life));
        Ok(())
    }

    /// Tables become durable, compaction goes on, old log goes: a little of it at a time.
    fn housekeeping(&mut self) -> Result<()> {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            let (commit, release) = (self.dice.below(20) == 0, self.dice.below(200) == 0);
            let keep = 2 + self.dice.below(30);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if commit {
                member.commit_tables();
            }
            if release {
                member.release_log(keep);
            }
            member.compact_a_little()?;
        }
        self.after(5_000, Event::Housekeeping);
        Ok(())
    }

    /// A member ends at once; it starts again after some time, if ever.
    pub(crate) fn crash(&mut self, id: u64, power_cut: bool, back_after: Option<Time>) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.is_up()) else { return };
        member.crash(power_cut, &mut self.dice);
        self.note(&format!("{id} {}", if power_cut { "loses its power" } else { "is killed" }));
        if let Some(time) = back_after {
            self.after(time, Event::Start(id));
        }
        for other in self.members.keys().copied().filter(|other| *other != id).collect::<Vec<_>>() {
            let noticed = 500 + self.dice.below(3_000);
            self.after(noticed, Event::Lost(other, id));
        }
    }

    /// The connections of two members end.
    pub(crate) fn disconnect(&mut self, one: u64, other: u64) {
        self.after(100, Event::Lost(one, other));
        self.after(100, Event::Lost(other, one));
    }

    /// A new member with nothing, as `member add` and a first start make it.
    pub(crate) fn found_newcomer(&mut self, id: u64, rows: &[Row]) {
        let start = LogStart { index: 0, term: 0, membership: Membership::default() };
        self.members.insert(id, Member::new(id, Disk::new(start, tables(rows, 0))));
        self.after(5_000, Event::Start(id));
    }

    /// A member that will not come back.
    pub(crate) fn retire(&mut self, id: u64) {
        self.members.remove(&id);
        for client in &mut self.clients {
            if client.at == id {
                client.at = *self.members.keys().next().unwrap_or(&1);
            }
        }
    }

    /// The member that leads in the highest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = self.members.values().filter_map(|member| {
            let standing = member.running.as_ref()?.group.standing();
            standing.is_leader.then_some((standing.term, member.id))
        });
        leads.max().map(|(_, id)| id)
    }

    pub(crate) fn operator(&mut self) -> &mut Operator {
        &mut self.operator
    }

    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.trace, "{} {text}", self.now);
    }

    pub(crate) fn input(&mut self, id: u64, input: Input) -> Result<()> {
        self.step(id, |member, context| {
            member.take(input, context);
            Ok(())
        })
    }

    /// Every member of the leader's list runs and has applied all that is committed, and nobody waits.
    fn at_rest(&self) -> bool {
        let Some(leader) = self.leader().and_then(|id| self.members[&id].running.as_ref()) else { return false };
        let commit = leader.group.standing().commit;
        let listed: Vec<u64> = leader.state.members().map(|row| row.id.0).collect();
        let all_there = listed.iter().all(|id| {
            let running = self.members.get(id).and_then(|member| member.running.as_ref());
            running.is_some_and(|running| running.applied() == commit && running.group.standing().commit == commit)
        });
        let strangers = self.members.keys().any(|id| !listed.contains(id));
        let waiting = self.clients.iter().any(Client::is_waiting);
        all_there && !strangers && !waiting && leader.applied() == commit
    }

    fn whereabouts(&self) -> String {
        let mut text = format!("leader {:?}", self.leader());
        for member in self.members.values() {
            let _ = match &member.running {
                Some(running) => {
                    write!(text, "; {} applied {} of {:?}", member.id, running.applied(), running.group.standing())
                }
                None => write!(text, "; {} down{}", member.id, if member.out { " for good" } else { "" }),
            };
        }
        text
    }

    fn judge(&mut self) -> Result<Report> {
        let checked = self.history()?.check()?;
        Ok(Report {
            checked,
            promised: self.oracle.counts(),
            starts: self.starts,
            trace: std::mem::take(&mut self.trace),
        })
    }

    /// All that clients and watchers were told, and what the members hold.
    fn history(&mut self) -> Result<History> {
        let mut ends = Vec::new();
        for member in self.members.values() {
            let state = &member.running.as_ref().context("a member that runs")?.state;
            let plan = state.plan_range(&all(None))?;
            let revision = plan.revision().0;
            let pairs = plan.run()?.kvs.iter().map(pair).collect::<Result<_>>()?;
            let hash = state.hash_kv(None)?.run()?;
            let digest = (hash.hash, hash.compact_revision);
            ends.push(End { member: format!("member {}", member.id), revision, pairs, digest });
        }
        let streams = std::mem::take(&mut self.streams).into_values().filter(|stream| !stream.responses.is_empty());
        Ok(History { ops: std::mem::take(&mut self.ops), streams: streams.collect(), ends })
    }
}

fn heard(revision: i64, event: &eyrie_state::Event) -> Result<eyrie_tests::history::Heard> {
    let key = key_of(&event.kv.key)?;
    let now = if event.delete { None } else { Some(pair(&event.kv)?) };
    let is_create = !event.delete && event.kv.create_revision == event.kv.mod_revision;
    Ok(eyrie_tests::history::Heard { revision, event: Heard { key, now }, before: None, is_create })
}

/// A member as the cluster's rows have it.
pub(crate) fn row(id: u64) -> Row {
    Row {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("http://m{id}:2380")],
        client_urls: vec![],
        learner: false,
    }
}

/// Tables that know only who belongs to the cluster.
fn tables(rows: &[Row], applied: u64) -> MemTables {
    let mut tables = MemTables::default();
    let put = |row: &Row| TableOp::Put {
        bucket: Bucket::Members,
        key: member_key(row.id).into_bytes().into(),
        value: member_json(row).into_bytes().into(),
    };
    let applied = (LogIndex(applied), Term(u64::from(applied > 0)));
    let change = Change { applied: Some(applied), ops: rows.iter().map(put).collect() };
    tables.stage(change).expect("tables in memory take everything");
    tables
}
