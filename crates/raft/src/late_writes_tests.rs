//! Writes that end late: members whose disks take their time, crash with writes under way, and still never disagree.

use std::collections::{BTreeMap, VecDeque};

use super::*;

const SEEDS: u64 = 150;
const STEPS: usize = 3_000;

/// What one write is to put on the disk.
struct Write {
    number: u64,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
    later: Vec<Message>,
}

struct Member {
    group: Group,
    /// What is on its disk.
    entries: Vec<Entry>,
    hard_state: HardState,
    under_way: VecDeque<Write>,
    applied: u64,
    lives: u64,
}

struct World {
    members: Vec<Member>,
    on_the_way: Vec<Message>,
    /// What any member ever applied at an index.
    agreed: BTreeMap<u64, Entry>,
    chance: u64,
    proposed: u64,
}

impl World {
    fn new(seed: u64, count: u64) -> Self {
        let hard_state = HardState { term: 1, vote: 0, commit: count };
        let member = |id| Member {
            group: open(id, count, seed, hard_state, &[], count),
            entries: vec![],
            hard_state,
            under_way: VecDeque::new(),
            applied: count,
            lives: 0,
        };
        let members = (1..=count).map(member).collect();
        Self { members, on_the_way: vec![], agreed: BTreeMap::new(), chance: seed, proposed: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance = mix(self.chance);
        (self.chance % bound as u64) as usize
    }

    /// Does all work of a member but its writes, which are only begun.
    fn work(&mut self, at: usize) {
        while self.members[at].group.has_work() {
            let member = &mut self.members[at];
            let mut work = member.group.work();
            self.on_the_way.append(&mut work.messages);
            let committed = std::mem::take(&mut work.committed);
            let (entries, must_sync) = (std::mem::take(&mut work.entries), work.must_sync);
            let handed = member.group.handed_over(&mut work);
            self.on_the_way.extend(handed.now);
            assert!(must_sync || (entries.is_empty() && work.hard_state.is_none()), "nothing is written without need");
            let write = Write { number: handed.number, entries, hard_state: work.hard_state, later: handed.later };
            member.under_way.push_back(write);
            for entry in committed {
                assert_eq!(entry.index, member.applied + 1, "entries come without holes");
                let on_disk = member.entries.iter().any(|one| *one == entry);
                assert!(on_disk, "entry {} is applied before it is on this member's disk", entry.index);
                member.applied = entry.index;
                member.group.applied(entry.index);
                let first = self.agreed.entry(entry.index).or_insert_with(|| entry.clone());
                assert_eq!(*first, entry, "two members applied different entries at {}", entry.index);
            }
        }
    }

    fn finish_a_write(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(write) = member.under_way.pop_front() else { return };
        put(&mut member.entries, &write.entries);
        member.hard_state = write.hard_state.unwrap_or(member.hard_state);
        let mut number = write.number;
        self.on_the_way.extend(write.later);
        // What has nothing to write waits for those before it only.
        let empty = |write: &mut Write| write.entries.is_empty() && write.hard_state.is_none();
        while let Some(write) = member.under_way.pop_front_if(empty) {
            number = write.number;
            self.on_the_way.extend(write.later);
        }
        member.group.persisted_up_to(number);
        self.work(at);
    }

    /// Power fails: of the writes under way some were done, and nobody heard of it.
    fn crash(&mut self, at: usize) {
        let done = self.below(3);
        let back = self.below(4) as u64;
        let count = self.members.len() as u64;
        let member = &mut self.members[at];
        for write in member.under_way.drain(..).take(done) {
            put(&mut member.entries, &write.entries);
            member.hard_state = write.hard_state.unwrap_or(member.hard_state);
        }
        member.lives += 1;
        // The tables may be a little behind.
        let applied = member.applied.saturating_sub(back).max(count);
        let seed = self.chance ^ member.lives;
        member.group = open(at as u64 + 1, count, seed, member.hard_state, &member.entries, applied);
        member.applied = applied;
        self.work(at);
    }

    fn step(&mut self, faults: bool) {
        let at = self.below(self.members.len());
        match self.below(100) {
            0..=14 => self.members[at].group.tick(),
            15..=69 => {
                if !self.on_the_way.is_empty() {
                    let which = self.below(self.on_the_way.len().min(8));
                    let message = self.on_the_way.remove(which);
                    let to = message.to() as usize - 1;
                    if !faults || self.below(20) > 0 {
                        self.members[to].group.step(message).unwrap();
                        self.work(to);
                    }
                }
            }
            70..=92 => self.finish_a_write(at),
            93..=98 => {
                self.proposed += 1;
                let _ = self.members[at].group.propose(vec![self.proposed.to_be_bytes().to_vec()]);
            }
            _ if faults && self.below(3) == 0 => self.crash(at),
            _ => {}
        }
        self.work(at);
    }
}

fn open(id: u64, count: u64, seed: u64, hard: HardState, entries: &[Entry], applied: u64) -> Group {
    let membership = Membership { voters: (1..=count).collect(), learners: vec![] };
    let start = LogStart { index: count, term: 1, membership: membership.clone() };
    let pace = Pace { election_ticks: 10, heartbeat_ticks: 1, seed: seed ^ id };
    Group::open(id, pace, &start, hard, entries, applied, &membership).unwrap()
}

/// As the log on disk does it: what has the same index or a larger one gives way.
fn put(log: &mut Vec<Entry>, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        log.retain(|entry| entry.index < first.index);
        log.extend_from_slice(entries);
    }
}

#[test]
fn members_with_late_writes_never_disagree_and_come_to_rest() {
    let (mut applied, mut elections) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(mix(seed), if seed % 4 == 0 { 5 } else { 3 });
        for _ in 0..STEPS {
            world.step(true);
        }
        // Without faults all come to hold the same.
        for _ in 0..STEPS * 2 {
            world.step(false);
        }
        let leads = world.members.iter().filter(|member| member.group.standing().is_leader).count();
        assert!(leads >= 1, "seed {seed}: nobody leads in peace");
        let before = world.agreed.len();
        for _ in 0..STEPS {
            world.step(false);
        }
        assert!(world.agreed.len() > before, "seed {seed}: nothing is agreed on in peace");
        applied += world.agreed.len();
        elections += world.members.iter().map(|member| member.group.standing().term).max().unwrap_or(0);
    }
    assert!(applied > 1_000 && elections > SEEDS, "{applied} entries, {elections} terms");
}

#[test]
fn a_follower_that_writes_still_answers_heartbeats_but_acknowledges_nothing() {
    let mut world = World::new(9, 3);
    while !world.members.iter().any(|member| member.group.standing().is_leader) {
        world.step(false);
    }
    let leader = world.members.iter().position(|member| member.group.standing().is_leader).unwrap();
    for at in 0..3 {
        while !world.members[at].under_way.is_empty() {
            world.finish_a_write(at);
        }
    }
    let mut heard = Vec::new();
    world.members[leader].group.propose(vec![b"late".to_vec()]).unwrap();
    for _ in 0..60 {
        world.members[leader].group.tick();
        world.work(leader);
        for message in std::mem::take(&mut world.on_the_way) {
            let to = message.to() as usize - 1;
            heard.extend((to == leader).then(|| message.clone()));
            world.members[to].group.step(message).unwrap();
            world.work(to);
        }
    }
    assert!(heard.iter().any(|message| message.relies_on_no_write()), "no heartbeat was answered");
    assert!(world.members[leader].group.standing().is_leader, "it was taken for dead");
    assert!(!world.agreed.values().any(|entry| entry.data.as_ref() == b"late"), "agreed on by nobody's disk");
    // The two others are a quorum, also while the leader's own write is under way; it applies when that is done.
    for at in (0..3).filter(|at| *at != leader) {
        while !world.members[at].under_way.is_empty() {
            world.finish_a_write(at);
        }
    }
    for message in std::mem::take(&mut world.on_the_way) {
        let to = message.to() as usize - 1;
        world.members[to].group.step(message).unwrap();
        world.work(to);
    }
    let late = |world: &World| world.agreed.values().any(|entry| entry.data.as_ref() == b"late");
    assert!(!late(&world), "applied before it was on the leader's disk");
    world.finish_a_write(leader);
    while !world.members[leader].under_way.is_empty() {
        world.finish_a_write(leader);
    }
    assert!(late(&world), "a quorum holds it and so does this member");
}
