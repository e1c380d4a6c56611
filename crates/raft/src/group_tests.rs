//! A group alone, and several with every message in the hands of the test.

use super::*;

const PACE: Pace = Pace { election_ticks: 10, heartbeat_ticks: 1, seed: 1 };

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
        committed.extend(group.persisted(work).committed);
        if let Some(last) = committed.last() {
            group.applied(last.index);
        }
    }
    (written, committed)
}

#[test]
fn a_member_alone_leads_and_commits_what_it_persisted() {
    let mut group = Group::open(7, PACE, &alone(), HardState::default(), &[], 0, &alone().membership).unwrap();
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
    let mut group = Group::open(7, PACE, &alone(), HardState::default(), &[], 0, &alone().membership).unwrap();
    group.campaign().unwrap();
    let (mut log, _) = settle(&mut group);
    group.propose(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]).unwrap();
    log.extend(settle(&mut group).0);
    let hard = HardState { term: 1, vote: 7, commit: 3 };
    let mut again = Group::open(7, PACE, &alone(), hard, &log, 2, &alone().membership).unwrap();
    again.campaign().unwrap();
    let (_, committed) = settle(&mut again);
    assert_eq!(committed.iter().map(|e| e.index).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn tables_may_be_ahead_of_the_commit_that_the_log_wrote_down() {
    let mut group = Group::open(7, PACE, &alone(), HardState::default(), &[], 0, &alone().membership).unwrap();
    group.campaign().unwrap();
    let (mut log, _) = settle(&mut group);
    group.propose(vec![b"a".to_vec()]).unwrap();
    log.extend(settle(&mut group).0);
    let hard = HardState { term: 1, vote: 7, commit: 1 };
    let mut again = Group::open(7, PACE, &alone(), hard, &log, 2, &alone().membership).unwrap();
    again.campaign().unwrap();
    let (_, committed) = settle(&mut again);
    assert_eq!(committed.iter().map(|e| e.index).collect::<Vec<_>>(), [3]);
}

#[test]
fn logs_that_do_not_fit_are_refused() {
    let entry = |index| Entry { index, term: 1, kind: EntryKind::Normal, data: Bytes::new() };
    let hard = HardState { term: 1, vote: 7, commit: 1 };
    assert!(Group::open(7, PACE, &alone(), hard, &[entry(1), entry(3)], 0, &alone().membership).is_err());
    assert!(
        Group::open(7, PACE, &alone(), HardState { commit: 9, ..hard }, &[entry(1)], 0, &alone().membership).is_err()
    );
    assert!(Group::open(7, PACE, &alone(), hard, &[entry(1)], 4, &alone().membership).is_err());
}

/// Several members whose messages are delivered when the test says so; each has what it wrote, and what it applied.
struct Several {
    groups: Vec<Group>,
    on_the_way: Vec<Message>,
    applied: Vec<Vec<Entry>>,
    /// What is cut off hears and says nothing.
    cut_off: Vec<u64>,
}

impl Several {
    fn new(count: u64) -> Self {
        let voters: Vec<u64> = (1..=count).collect();
        let start = LogStart { index: count, term: 1, membership: Membership { voters, learners: vec![] } };
        let hard = HardState { term: 1, vote: 0, commit: count };
        let open = |id| {
            let pace = Pace { seed: 40 + id, ..PACE };
            Group::open(id, pace, &start, hard, &[], count, &start.membership).unwrap()
        };
        Self {
            groups: (1..=count).map(open).collect(),
            on_the_way: vec![],
            applied: vec![vec![]; count as usize],
            cut_off: vec![],
        }
    }

    fn group(&mut self, id: u64) -> &mut Group {
        &mut self.groups[id as usize - 1]
    }

    fn do_all_work(&mut self) {
        for (group, applied) in self.groups.iter_mut().zip(&mut self.applied) {
            while group.has_work() {
                let mut work = group.work();
                self.on_the_way.append(&mut work.messages);
                let mut committed = std::mem::take(&mut work.committed);
                let mut after = group.persisted(work);
                self.on_the_way.append(&mut after.messages);
                committed.append(&mut after.committed);
                for entry in committed {
                    if entry.kind == EntryKind::Membership {
                        let (change, _) = MembershipChange::decode(&entry.data).unwrap();
                        group.apply_change(Some(change)).unwrap();
                    }
                    group.applied(entry.index);
                    applied.push(entry);
                }
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            self.do_all_work();
            let messages = std::mem::take(&mut self.on_the_way);
            if messages.is_empty() {
                return;
            }
            for message in messages {
                let lost = self.cut_off.contains(&message.from()) || self.cut_off.contains(&message.to());
                if !lost && message.to() <= self.groups.len() as u64 {
                    let sent = Message::decode(&message.encode().unwrap()).unwrap();
                    self.group(message.to()).step(sent).unwrap();
                }
            }
        }
        panic!("they never come to rest");
    }

    fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            for group in &mut self.groups {
                group.tick();
            }
            self.settle();
        }
    }

    fn leader(&self) -> Option<u64> {
        let leads = |id: &u64| !self.cut_off.contains(id) && self.groups[*id as usize - 1].standing().is_leader;
        (1..=self.groups.len() as u64).find(leads)
    }
}

#[test]
fn three_elect_one_and_agree_and_a_follower_refuses_proposals() {
    let mut three = Several::new(3);
    three.ticks(40);
    let leader = three.leader().expect("an election ends");
    three.group(leader).propose(vec![b"x".to_vec()]).unwrap();
    let follower = leader % 3 + 1;
    assert_eq!(three.group(follower).propose(vec![b"y".to_vec()]), Err(ProposeError::NotLeader));
    three.ticks(2);
    for applied in &three.applied {
        assert_eq!(applied.last().unwrap().data.as_ref(), b"x");
    }
    assert_eq!(three.applied[0], three.applied[1]);
}

#[test]
fn a_leader_that_is_cut_off_steps_down_and_its_entries_give_way() {
    let mut three = Several::new(3);
    three.ticks(40);
    let old = three.leader().unwrap();
    three.cut_off = vec![old];
    three.group(old).propose(vec![b"lost".to_vec()]).unwrap();
    three.ticks(60);
    assert!(!three.group(old).standing().is_leader, "nobody answers it");
    let new = three.leader().expect("the others elect");
    assert_ne!(new, old);
    three.group(new).propose(vec![b"kept".to_vec()]).unwrap();
    three.settle();
    three.cut_off.clear();
    three.ticks(10);
    assert_eq!(three.applied[0], three.applied[1]);
    assert_eq!(three.applied[1], three.applied[2]);
    let all: Vec<_> = three.applied[0].iter().filter(|e| !e.data.is_empty()).map(|e| e.data.as_ref()).collect();
    assert_eq!(all, [b"kept"]);
}

#[test]
fn one_change_of_members_at_a_time_and_a_removed_one_has_no_say() {
    let mut three = Several::new(3);
    three.ticks(40);
    let leader = three.leader().unwrap();
    let gone = leader % 3 + 1;
    let change = |member, vote| MembershipChange { member, vote };
    three.group(leader).propose_change(change(gone, crate::VoteChange::Gone), b"").unwrap();
    let second = three.group(leader).propose_change(change(9, crate::VoteChange::Learner), b"");
    assert_eq!(second, Err(ProposeError::Busy));
    three.settle();
    assert_eq!(three.group(leader).membership().voters.len(), 2);
    three.cut_off = vec![gone];
    three.group(leader).propose(vec![b"two agree".to_vec()]).unwrap();
    three.settle();
    assert_eq!(three.applied[leader as usize - 1].last().unwrap().data.as_ref(), b"two agree");
}

#[test]
fn a_read_waits_for_a_quorum_and_nobody_elses_answer_is_taken() {
    let mut three = Several::new(3);
    three.ticks(40);
    let leader = three.leader().unwrap();
    let follower = leader % 3 + 1;
    let commit = three.group(leader).standing().commit;
    three.group(follower).read_index(77);
    let mut reads = vec![];
    for _ in 0..20 {
        for at in 0..3 {
            while three.groups[at].has_work() {
                let mut work = three.groups[at].work();
                three.on_the_way.append(&mut work.messages);
                if at as u64 + 1 == follower {
                    reads.append(&mut work.reads);
                } else {
                    assert!(work.reads.is_empty());
                }
                let after = three.groups[at].persisted(work);
                three.on_the_way.extend(after.messages);
            }
        }
        for message in std::mem::take(&mut three.on_the_way) {
            let to = message.to();
            three.group(to).step(message).unwrap();
        }
    }
    assert_eq!(reads, [(77, commit)]);
}

#[test]
fn the_same_seeds_give_the_same_elections() {
    let run = || {
        let mut five = Several::new(5);
        let mut history = vec![];
        for round in 0..200 {
            five.ticks(1);
            if round % 50 == 49 {
                five.cut_off = five.leader().into_iter().collect();
            }
            history.push(five.groups.iter().map(Group::standing).collect::<Vec<_>>());
        }
        history
    };
    assert_eq!(run(), run());
}

/// Does all that a group has to do; what it says meanwhile.
fn said_by(group: &mut Group) -> Vec<Message> {
    let mut said = vec![];
    while group.has_work() {
        let mut work = group.work();
        said.append(&mut work.messages);
        let mut committed = std::mem::take(&mut work.committed);
        let after = group.persisted(work);
        said.extend(after.messages);
        committed.extend(after.committed);
        for entry in committed {
            if entry.kind == EntryKind::Membership {
                group.apply_change(Some(MembershipChange::decode(&entry.data).unwrap().0)).unwrap();
            }
            group.applied(entry.index);
        }
    }
    said
}

/// Thirty rounds of a leader and a member that joins; offers of snapshots are held back. Ends when the first one is made.
fn until_offered(leader: &mut Group, joiner: &mut Group) -> Option<Message> {
    for _ in 0..30 {
        for message in said_by(leader) {
            if message.snapshot().is_some() {
                return Some(message);
            }
            joiner.step(message).unwrap();
        }
        said_by(joiner).into_iter().for_each(|message| leader.step(message).unwrap());
        leader.tick();
    }
    None
}

/// A leader that has a little, and a member that has nothing and joins it.
fn one_and_a_joiner() -> (Group, Group) {
    let mut leader = Group::open(7, PACE, &alone(), HardState::default(), &[], 0, &alone().membership).unwrap();
    leader.campaign().unwrap();
    settle(&mut leader);
    leader.propose(vec![b"a".to_vec()]).unwrap();
    settle(&mut leader);
    leader.propose_change(MembershipChange { member: 8, vote: crate::VoteChange::Learner }, b"").unwrap();
    let nobody = LogStart::default();
    (leader, Group::open(8, PACE, &nobody, HardState::default(), &[], 0, &nobody.membership).unwrap())
}

#[test]
fn whoever_joins_a_log_that_begins_at_nothing_is_given_a_snapshot() {
    let (mut leader, mut joiner) = one_and_a_joiner();
    let message = until_offered(&mut leader, &mut joiner).expect("the log alone would not do");
    let offered = message.snapshot().unwrap();
    assert_eq!(offered.membership, Membership { voters: vec![7], learners: vec![8] });
    joiner.step(message).unwrap();
    assert!(until_offered(&mut leader, &mut joiner).is_none());
    assert_eq!(joiner.standing().commit, leader.standing().commit);
}

#[test]
fn what_a_member_lacks_after_a_snapshot_is_kept_while_that_travels() {
    let (mut leader, mut joiner) = one_and_a_joiner();
    let message = until_offered(&mut leader, &mut joiner).expect("the log alone would not do");
    for _ in 0..200 {
        leader.propose(vec![b"meanwhile".to_vec(); 100]).unwrap();
        said_by(&mut leader);
    }
    joiner.step(message).unwrap();
    assert!(until_offered(&mut leader, &mut joiner).is_none(), "the next one, and so on for ever");
    assert_eq!(joiner.standing().commit, leader.standing().commit);
}

/// Of a follower that missed an append the leader hears two things in one round: that it lives, and that it lacks something. What it
/// is sent then must continue what it is said to continue, or it acknowledges what it never had.
#[test]
fn a_follower_that_missed_an_append_is_sent_what_continues_its_log() {
    let mut several = Several::new(3);
    several.group(1).campaign().unwrap();
    several.settle();
    several.group(1).propose(vec![b"missed".to_vec()]).unwrap();
    several.do_all_work();
    several.on_the_way.retain(|message| message.to() != 2);
    let answers = |several: &mut Several| {
        several.do_all_work();
        let (to_2, rest) = std::mem::take(&mut several.on_the_way).into_iter().partition(|message| message.to() == 2);
        several.on_the_way = rest;
        for message in to_2 {
            several.group(2).step(message).unwrap();
        }
        several.do_all_work();
        let (from_2, rest) =
            std::mem::take(&mut several.on_the_way).into_iter().partition(|message| message.from() == 2);
        several.on_the_way = rest;
        let from_2: Vec<Message> = from_2;
        from_2
    };
    several.group(1).tick();
    let lives = answers(&mut several);
    several.group(1).propose(vec![b"next".to_vec()]).unwrap();
    let lacks = answers(&mut several);
    assert!(lacks.iter().any(|message| message.0.reject), "{lacks:?}");
    for message in lives.into_iter().chain(lacks) {
        several.group(1).step(message).unwrap();
    }
    several.do_all_work();
    let mut sent = 0;
    for message in several.on_the_way.iter().filter(|message| message.to() == 2) {
        if let Some(first) = message.0.entries.first() {
            assert_eq!(first.index, message.0.index + 1, "{message:?}");
            sent += 1;
        }
    }
    assert!(sent > 0, "what it lacks is sent");
    several.settle();
    assert_eq!(several.group(2).standing().commit, several.group(1).standing().commit);
}

#[test]
fn a_leader_that_is_removed_steps_down_and_the_others_go_on() {
    let mut several = Several::new(3);
    several.group(1).campaign().unwrap();
    several.settle();
    several.group(1).propose_change(MembershipChange { member: 1, vote: crate::VoteChange::Gone }, b"").unwrap();
    several.group(1).propose(vec![b"behind it".to_vec()]).unwrap();
    several.settle();
    assert!(!several.group(1).standing().is_leader);
    let mut rounds = 0;
    while !several.group(2).standing().is_leader && !several.group(3).standing().is_leader {
        several.group(2).tick();
        several.group(3).tick();
        several.settle();
        rounds += 1;
        assert!(rounds < 100, "nobody leads");
    }
    let next = if several.group(2).standing().is_leader { 2 } else { 3 };
    several.group(next).propose(vec![b"without it".to_vec()]).unwrap();
    several.settle();
    assert_eq!(several.group(3).membership().voters, [2, 3]);
    assert_eq!(several.applied[1].last().map(|entry| entry.data.clone()), Some("without it".into()));
    assert_eq!(several.applied[1], several.applied[2]);
}
