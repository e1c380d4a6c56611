//! What goes wrong, and the operator who keeps the cluster whole meanwhile.

use std::collections::BTreeSet;

use anyhow::Result;
use eyrie_raft::{MembershipChange, VoteChange};
use eyrie_state::{Command, Member as Row, MemberId, Revision};

use crate::member::{Ask, Input, Running, bytes_of};
use crate::script::{Step, Who};
use crate::world::{World, row};

/// Whoever adds and removes members.
#[derive(Debug)]
pub(crate) struct Operator {
    next_id: u64,
    /// How many members the cluster shall have.
    wanted: usize,
    /// A bit has turned: not again before that member is replaced.
    rotten: Option<u64>,
    /// Who has ever begun: nobody begins twice.
    begun: BTreeSet<u64>,
}

impl Operator {
    pub(crate) fn new(count: u64) -> Self {
        Self { next_id: count + 1, wanted: count as usize, rotten: None, begun: (1..=count).collect() }
    }
}

/// One thing goes wrong.
pub(crate) fn make(world: &mut World) -> Result<()> {
    let ids: Vec<u64> = world.members.keys().copied().collect();
    let any = |world: &mut World| ids[world.dice.below(ids.len() as u64) as usize];
    let (one, other) = (any(world), any(world));
    let back_after = 1_000 + world.dice.below(500_000);
    match world.dice.below(16) {
        0..2 => world.crash(one, false, Some(back_after)),
        2..4 => world.crash(one, true, Some(back_after)),
        4 => {
            let leader = world.leader().unwrap_or(one);
            world.crash(leader, world.now.is_multiple_of(2), Some(back_after));
        }
        5 => {
            let power = world.dice.below(2) == 0;
            ids.iter().for_each(|id| world.crash(*id, power, Some(back_after + id * 1_000)));
        }
        6..8 => cut_off(world, one),
        8 => {
            world.note(&format!("{one} is not heard by {other}"));
            world.net.cut(one, other);
        }
        9 => {
            for from in &ids {
                for to in &ids {
                    if world.dice.below(3) == 0 {
                        world.net.cut(*from, *to);
                    }
                }
            }
            world.note("many are cut off from many");
        }
        10 => {
            world.net.lost_percent = world.dice.below(25);
            world.net.twice_percent = world.dice.below(25);
            world.net.jitter = [200, 5_000, 60_000][world.dice.below(3) as usize];
            world.note("bad weather");
        }
        11..13 => heal(world),
        13 => transfer(world, other)?,
        14 => compact(world)?,
        _ => turn_a_bit_or_resize(world, one),
    }
    Ok(())
}

/// One step of a script.
pub(crate) fn follow(world: &mut World, step: Step) -> Result<()> {
    let those = |world: &World, who: Who| match who {
        Who::Leader => world.leader().into_iter().collect(),
        Who::All => world.members.keys().copied().collect::<Vec<_>>(),
        Who::Member(id) => vec![id],
    };
    match step {
        Step::Down { who, power, back } => {
            those(world, who).into_iter().for_each(|id| world.crash(id, power, Some(back)));
        }
        Step::Cut(who) => those(world, who).into_iter().for_each(|id| cut_off(world, id)),
        Step::Break(one, other) => world.disconnect(one, other),
        Step::Heal => heal(world),
        Step::Transfer(to) => transfer(world, to)?,
        Step::Remove(who) => {
            let Some(leader) = world.leader() else { return Ok(()) };
            those(world, who).into_iter().try_for_each(|id| remove(world, leader, MemberId(id)))?;
        }
        Step::Compact => compact(world)?,
        Step::Rot(who) => those(world, who).into_iter().for_each(|id| turn_a_bit(world, id)),
    }
    Ok(())
}

fn cut_off(world: &mut World, one: u64) {
    world.note(&format!("{one} is cut off"));
    for id in world.members.keys().copied().filter(|id| *id != one).collect::<Vec<_>>() {
        world.net.cut(one, id);
        world.net.cut(id, one);
    }
}

fn heal(world: &mut World) {
    world.net.heal();
    world.note("the network is whole");
}

fn transfer(world: &mut World, to: u64) -> Result<()> {
    let Some(leader) = world.leader() else { return Ok(()) };
    world.note(&format!("leadership is to go from {leader} to {to}"));
    world.input(leader, Input::Transfer(to))
}

fn turn_a_bit(world: &mut World, one: u64) {
    world.operator().rotten = Some(one);
    if let Some(member) = world.members.get_mut(&one) {
        member.disk.rot();
    }
    world.note(&format!("a bit turns in the log of {one}"));
    world.crash(one, false, Some(1_000));
}

fn compact(world: &mut World) -> Result<()> {
    let Some(leader) = world.leader() else { return Ok(()) };
    let newest = world.members[&leader].running.as_ref().map_or(1, |running| running.state.revision().0);
    let revision = Revision((newest - world.dice.below(50) as i64).max(1));
    propose(world, leader, &Command::Compact { revision }, None)
}

fn turn_a_bit_or_resize(world: &mut World, one: u64) {
    let up = world.members.values().filter(|member| member.is_up()).count();
    let rows: Vec<Row> = knows(world).map_or(vec![], |running| running.state.members().cloned().collect());
    // A learner's copy counts for nothing, and a newcomer that has not begun has none.
    let voters = rows.iter().filter(|row| !row.learner).count();
    let whole = up == world.members.len() && up >= rows.len() && voters >= 3;
    if world.dice.below(2) == 0 && whole && world.operator().rotten.is_none() {
        // Only one: whatever leaves a quorum of good copies must be survived.
        turn_a_bit(world, one);
    } else {
        let wanted = 3 + world.dice.below(3) as usize;
        world.operator().wanted = wanted;
    }
}

/// Of the members that run, the one that has applied most.
fn knows(world: &World) -> Option<&Running> {
    world.members.values().filter_map(|member| member.running.as_ref()).max_by_key(|running| running.applied())
}

/// What a careful operator does now: one change at a time, and none that would cost the quorum.
pub(crate) fn operate(world: &mut World) -> Result<()> {
    // Also without a leader: whoever has heard that a newcomer was let in may start it, and its vote may be the one that lacks.
    let Some(running) = knows(world) else { return Ok(()) };
    let rows: Vec<Row> = running.state.members().cloned().collect();
    let commit = running.group.standing().commit;
    let removed: Vec<u64> = running.state.removed_members().map(|id| id.0).collect();
    // Who was let in and has not begun yet; and who was sent away while it was down.
    for row in &rows {
        if world.operator().begun.insert(row.id.0) {
            world.note(&format!("{} begins with nothing", row.id));
            world.found_newcomer(row.id.0, &rows);
        }
    }
    for id in removed.into_iter().filter(|id| world.members.contains_key(id)).collect::<Vec<_>>() {
        // Other members no longer speak with it, and tell it why.
        world.note(&format!("{id} is told that it has left the cluster"));
        world.retire(id);
        if world.operator().rotten == Some(id) {
            world.operator().rotten = None;
        }
    }
    let Some(leader) = world.leader() else { return Ok(()) };
    let is_up = |world: &World, id: MemberId| world.members.get(&id.0).is_some_and(|member| member.is_up());
    let voters = rows.iter().filter(|row| !row.learner).count();
    let voters_up = rows.iter().filter(|row| !row.learner && is_up(world, row.id)).count();
    let out = rows.iter().find(|row| world.members.get(&row.id.0).is_some_and(|member| member.out));
    if let Some(out) = out {
        if voters_up > (voters - usize::from(!out.learner)) / 2 && voters_up > 1 {
            return remove(world, leader, out.id);
        }
        return Ok(());
    }
    if voters_up < voters {
        return Ok(());
    }
    if let Some(learner) = rows.iter().find(|row| row.learner) {
        let applied = world.members.get(&learner.id.0).and_then(|member| member.running.as_ref()).map(|r| r.applied());
        if applied.is_some_and(|applied| applied * 10 >= commit * 9) {
            let change = MembershipChange { member: learner.id.0, vote: VoteChange::Voter };
            return propose(world, leader, &Command::MemberPromote { id: learner.id }, Some(change));
        }
        return Ok(());
    }
    let wanted = world.operator().wanted;
    if rows.len() < wanted {
        let id = world.operator().next_id;
        world.operator().next_id += 1;
        let learner = world.dice.below(2) == 0;
        let vote = if learner { VoteChange::Learner } else { VoteChange::Voter };
        let new = Row { learner, ..row(id) };
        return propose(world, leader, &Command::MemberAdd(new), Some(MembershipChange { member: id, vote }));
    }
    if rows.len() > wanted && voters > 1 {
        let id = rows[world.dice.below(rows.len() as u64) as usize].id;
        return remove(world, leader, id);
    }
    Ok(())
}

fn remove(world: &mut World, leader: u64, id: MemberId) -> Result<()> {
    let change = MembershipChange { member: id.0, vote: VoteChange::Gone };
    propose(world, leader, &Command::MemberRemove { id }, Some(change))
}

fn propose(world: &mut World, leader: u64, command: &Command, change: Option<MembershipChange>) -> Result<()> {
    world.note(&format!("the operator asks {leader}: {command:?}"));
    let request = world.request();
    world.ask(leader, request, Ask::Propose { command: bytes_of(command), change })
}
