//! The table of faults.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::World;
use crate::net::Rule;

/// One way to hurt a cluster.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Members of the cluster.
    pub members: usize,
    /// What it does; when it returns, what it cut is cut no more and what it stopped runs, or soon will.
    pub hurt: fn(&mut World) -> Result<()>,
    /// It needs a machine that can fail: only Eyrie can be run on one.
    pub needs_machine: bool,
    /// Kills lose what was not synced.
    pub holds_back: bool,
    /// Disks are small, and can be full.
    pub small_disks: bool,
}

/// Members of most clusters.
const THREE: Kind =
    Kind { name: "", members: 3, hurt: |_| Ok(()), needs_machine: false, holds_back: false, small_disks: false };
const FIVE: Kind = Kind { members: 5, ..THREE };
/// Three on machines that can fail.
const FAILING: Kind = Kind { needs_machine: true, ..THREE };
/// Three on machines whose kills are power cuts.
const POWER: Kind = Kind { needs_machine: true, holds_back: true, ..THREE };

/// Every kind.
pub const KINDS: &[Kind] = &[
    // Nothing at all: whatever fails here is the test's own fault, or the store's at its best.
    Kind { name: "nothing", hurt: |w| Ok(w.hold(700)), ..THREE },
    // Processes.
    Kind {
        name: "kill_follower",
        hurt: |w| {
            let at = w.follower()?;
            kill_and_start(w, &[at])
        },
        ..THREE
    },
    Kind {
        name: "kill_leader",
        hurt: |w| {
            let at = w.leader()?;
            kill_and_start(w, &[at])
        },
        ..THREE
    },
    Kind {
        name: "kill_quorum",
        hurt: |w| {
            let at = w.leader()?;
            let next = (at + 1) % 3;
            kill_and_start(w, &[at, next])
        },
        ..THREE
    },
    Kind { name: "kill_all", hurt: |w| kill_and_start(w, &[0, 1, 2]), ..THREE },
    Kind { name: "kill_two_of_five", hurt: kill_two_of_five, ..FIVE },
    Kind { name: "kill_one_after_the_other", hurt: kill_in_turn, ..THREE },
    Kind { name: "stop_leader", hurt: stop_leader, ..THREE },
    Kind {
        name: "pause_leader",
        hurt: |w| {
            let at = w.leader()?;
            w.pause(&[at], 1300)
        },
        ..THREE
    },
    Kind {
        name: "pause_follower",
        hurt: |w| {
            let at = w.follower()?;
            w.pause(&[at], 1300)
        },
        ..THREE
    },
    Kind { name: "pause_all", hurt: |w| w.pause(&[0, 1, 2], 800), ..THREE },
    Kind { name: "pause_in_turn", hurt: pause_in_turn, ..THREE },
    // The network between members.
    Kind {
        name: "cut_leader",
        hurt: |w| {
            let at = w.leader()?;
            cut_off(w, at, 1300)
        },
        ..THREE
    },
    Kind {
        name: "cut_follower",
        hurt: |w| {
            let at = w.follower()?;
            cut_off(w, at, 1300)
        },
        ..THREE
    },
    Kind { name: "cut_what_the_leader_says", hurt: |w| cut_one_way(w, true), ..THREE },
    Kind { name: "cut_what_the_leader_hears", hurt: |w| cut_one_way(w, false), ..THREE },
    Kind { name: "cut_in_halves", hurt: cut_in_halves, ..FIVE },
    Kind { name: "cut_to_a_ring", hurt: cut_to_a_ring, ..FIVE },
    Kind { name: "cut_to_a_bridge", hurt: cut_to_a_bridge, ..FIVE },
    Kind { name: "cut_swizzled", hurt: cut_swizzled, ..THREE },
    Kind { name: "cut_again_and_again", hurt: cut_again_and_again, ..THREE },
    Kind { name: "lose_packets", hurt: |w| weather(w, Rule { lost_percent: 20, ..Rule::default() }, 1300), ..THREE },
    Kind {
        name: "delay_packets",
        hurt: |w| weather(w, Rule { delay: (millis(25), millis(75)), ..Rule::default() }, 1300),
        ..THREE
    },
    Kind { name: "repeat_and_reorder_packets", hurt: repeat_and_reorder, ..THREE },
    // The network to the clients.
    Kind { name: "lose_answers", hurt: lose_answers, ..THREE },
    // Disks.
    Kind {
        name: "slow_disk_of_leader",
        hurt: |w| {
            let at = w.leader()?;
            slow_disk(w, &[at])
        },
        ..FAILING
    },
    Kind {
        name: "slow_disk_of_follower",
        hurt: |w| {
            let at = w.follower()?;
            slow_disk(w, &[at])
        },
        ..FAILING
    },
    Kind { name: "slow_disk_of_all", hurt: |w| slow_disk(w, &[0, 1, 2]), ..FAILING },
    Kind {
        name: "sync_error_of_leader",
        hurt: |w| {
            let at = w.leader()?;
            sync_error(w, at)
        },
        ..FAILING
    },
    Kind {
        name: "sync_error_of_follower",
        hurt: |w| {
            let at = w.follower()?;
            sync_error(w, at)
        },
        ..FAILING
    },
    Kind {
        name: "full_disk_of_leader",
        hurt: |w| {
            let at = w.leader()?;
            full_disk(w, at)
        },
        small_disks: true,
        ..THREE
    },
    Kind {
        name: "full_disk_of_follower",
        hurt: |w| {
            let at = w.follower()?;
            full_disk(w, at)
        },
        small_disks: true,
        ..THREE
    },
    Kind {
        name: "power_cut_of_one",
        hurt: |w| {
            let at = w.leader()?;
            power_cut(w, &[at])
        },
        ..POWER
    },
    Kind { name: "power_cut_of_all", hurt: |w| power_cut(w, &[0, 1, 2]), ..POWER },
    Kind {
        name: "power_cut_of_all_twice",
        hurt: |w| {
            power_cut(w, &[0, 1, 2])?;
            power_cut(w, &[2, 1, 0])
        },
        ..POWER
    },
    // Time.
    Kind {
        name: "clock_of_leader_jumps",
        hurt: |w| {
            let at = w.leader()?;
            clock_jumps(w, &[(at, 3_600)])
        },
        ..FAILING
    },
    Kind { name: "clocks_apart", hurt: |w| clock_jumps(w, &[(0, 34_560_000), (1, -31_536_000), (2, 7)]), ..FAILING },
    // Work on the cluster.
    Kind { name: "move_leader", hurt: move_leader, ..THREE },
    Kind { name: "replace_member", hurt: replace_member, ..THREE },
    Kind { name: "join_while_one_is_down", hurt: join_while_one_is_down, ..THREE },
    Kind { name: "snapshot_to_follower", hurt: |w| snapshot_to_follower(w, false), ..THREE },
    Kind { name: "kill_follower_in_snapshot", hurt: |w| snapshot_to_follower(w, true), ..THREE },
    Kind {
        name: "two_snapshots_to_follower",
        hurt: |w| {
            snapshot_to_follower(w, false)?;
            snapshot_to_follower(w, false)
        },
        ..THREE
    },
    Kind { name: "defragment_and_take_snapshot", hurt: defragment_and_take_snapshot, ..THREE },
    Kind { name: "compact_defragment_snapshot", hurt: compact_defragment_snapshot, ..THREE },
    Kind { name: "kill_in_compaction", hurt: kill_in_compaction, ..THREE },
];

impl Kind {
    /// The kind of a name.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn kill_and_start(w: &mut World, members: &[usize]) -> Result<()> {
    members.iter().try_for_each(|at| w.kill(*at))?;
    let away = if members.len() < 2 { 700 } else { 200 };
    w.hold(away);
    members.iter().try_for_each(|at| w.start_again(*at))?;
    w.hold(300);
    Ok(())
}

fn kill_two_of_five(w: &mut World) -> Result<()> {
    let leader = w.leader()?;
    kill_and_start(w, &[leader, (leader + 2) % 5])
}

fn kill_in_turn(w: &mut World) -> Result<()> {
    for at in w.shuffled() {
        w.kill(at)?;
        w.hold(150);
        w.start_again(at)?;
        w.members[at].store.wait_ready()?;
    }
    Ok(())
}

fn stop_leader(w: &mut World) -> Result<()> {
    let leader = w.leader()?;
    w.stop(leader)?;
    w.hold(400);
    w.start_again(leader)
}

fn pause_in_turn(w: &mut World) -> Result<()> {
    for at in w.shuffled() {
        w.pause(&[at], 600)?;
    }
    Ok(())
}

/// One member hears and is heard by no other; its clients still reach it.
fn cut_off(w: &mut World, at: usize, how_long: u64) -> Result<()> {
    w.net.between(&[at], &w.others(at), Rule::CUT);
    w.hold(how_long);
    w.net.heal();
    w.hold(300);
    Ok(())
}

fn cut_one_way(w: &mut World, what_it_says: bool) -> Result<()> {
    let leader = w.leader()?;
    for other in w.others(leader) {
        let (from, to) = if what_it_says { (leader, other) } else { (other, leader) };
        w.net.rule(from, to, Rule::CUT);
    }
    w.hold(1500);
    w.net.heal();
    w.hold(300);
    Ok(())
}

/// The leader and one more on one side, three on the other.
fn cut_in_halves(w: &mut World) -> Result<()> {
    let leader = w.leader()?;
    let (few, many): (Vec<usize>, Vec<usize>) = (0..5).partition(|at| *at == leader || *at == (leader + 1) % 5);
    w.net.between(&few, &many, Rule::CUT);
    w.hold(1500);
    w.net.heal();
    w.hold(300);
    Ok(())
}

/// Each member hears two others, a different pair each: every one sees a quorum, no two the same.
fn cut_to_a_ring(w: &mut World) -> Result<()> {
    let ring = w.shuffled();
    for at in 0..5 {
        w.net.between(&[ring[at]], &[ring[(at + 2) % 5]], Rule::CUT);
    }
    w.hold(1500);
    w.net.heal();
    w.hold(300);
    Ok(())
}

/// Two halves that only one member reaches both of.
fn cut_to_a_bridge(w: &mut World) -> Result<()> {
    let all = w.shuffled();
    w.net.between(&all[..2], &all[3..], Rule::CUT);
    w.hold(1500);
    w.net.heal();
    w.hold(300);
    Ok(())
}

/// One after the other is cut off, then they come back in another order.
fn cut_swizzled(w: &mut World) -> Result<()> {
    for at in w.shuffled() {
        w.net.between(&[at], &w.others(at), Rule::CUT);
        w.hold(200);
    }
    for at in w.shuffled() {
        w.net.between(&[at], &w.others(at), Rule::default());
        w.hold(200);
    }
    Ok(())
}

/// Whoever leads is cut off, as soon as it leads.
fn cut_again_and_again(w: &mut World) -> Result<()> {
    for _ in 0..2 {
        let leader = w.leader()?;
        cut_off(w, leader, 600)?;
    }
    Ok(())
}

fn weather(w: &mut World, rule: Rule, how_long: u64) -> Result<()> {
    let all: Vec<usize> = (0..w.members.len()).collect();
    w.net.between(&all, &all, rule);
    w.hold(how_long);
    w.net.heal();
    Ok(())
}

fn repeat_and_reorder(w: &mut World) -> Result<()> {
    weather(w, Rule { lost_percent: 2, twice_percent: 20, delay: (Duration::ZERO, millis(6)) }, 1300)
}

/// What clients ask arrives at the leader; what it answers does not come back.
fn lose_answers(w: &mut World) -> Result<()> {
    let (leader, clients) = (w.leader()?, w.clients());
    w.net.rule(leader, clients, Rule::CUT);
    w.hold(900);
    w.net.heal();
    w.hold(300);
    Ok(())
}

fn slow_disk(w: &mut World, members: &[usize]) -> Result<()> {
    // All at once would leave fewer calls than a run must have.
    let delay = millis(if members.len() > 1 { 15 } else { 120 });
    members.iter().try_for_each(|at| w.members[*at].machine.slow_sync(delay))?;
    w.hold(1200);
    members.iter().try_for_each(|at| w.members[*at].machine.slow_sync(Duration::ZERO))
}

/// A member whose sync failed must end by itself, and may only come back by a new start.
fn sync_error(w: &mut World, at: usize) -> Result<()> {
    w.members[at].machine.syncs_fail(true)?;
    let ended = w.members[at].store.wait_end(Duration::from_secs(10))?;
    ensure!(!ended.success(), "a member whose sync failed ended with success");
    let log = w.members[at].store.log_tail(usize::MAX);
    ensure!(log.contains("Input/output error"), "it does not say why it ended:\n{}", w.members[at].store.log_tail(5));
    w.members[at].machine.syncs_fail(false)?;
    w.hold(500);
    w.start_again(at)
}

fn full_disk(w: &mut World, at: usize) -> Result<()> {
    let disk = w.members[at].disk.as_ref().expect("this kind has small disks");
    disk.fill()?;
    std::thread::sleep(millis(1000));
    disk.free()?;
    std::thread::sleep(millis(600));
    Ok(())
}

fn power_cut(w: &mut World, members: &[usize]) -> Result<()> {
    for at in members {
        w.kill(*at)?;
    }
    for at in members {
        let (_, held) = w.members[*at].machine.counts()?;
        ensure!(held > 0, "the machine of {at} has held nothing back: nothing can have been lost");
    }
    w.hold(200);
    members.iter().try_for_each(|at| w.start_again(*at))?;
    for at in members {
        w.members[*at].store.wait_ready()?;
    }
    w.goes_on(500)?;
    Ok(())
}

fn clock_jumps(w: &mut World, members: &[(usize, i64)]) -> Result<()> {
    members.iter().try_for_each(|(at, seconds)| w.members[*at].machine.clock_is_off(*seconds))?;
    w.hold(900);
    // Back again: time stands still, then runs backwards.
    members.iter().try_for_each(|(at, seconds)| w.members[*at].machine.clock_is_off(-seconds / 2))?;
    w.hold(600);
    members.iter().try_for_each(|(at, _)| w.members[*at].machine.clock_is_off(0))
}

fn move_leader(w: &mut World) -> Result<()> {
    for _ in 0..4 {
        let leader = w.leader()?;
        let others = w.others(leader);
        let to = w.any(&others);
        w.move_leader(leader, to)?;
        w.hold(250);
    }
    Ok(())
}

/// A member is lost with its disk; another takes its place under a new name.
fn replace_member(w: &mut World) -> Result<()> {
    let lost = w.follower()?;
    let (through, id) = ((lost + 1) % 3, w.id(lost)?);
    w.kill(lost)?;
    w.remove(through, id)?;
    w.join(through, lost, "fresh")?;
    w.members[lost].store.wait_ready()
}

/// A fourth member comes while one of the three is away.
fn join_while_one_is_down(w: &mut World) -> Result<()> {
    let down = w.follower()?;
    // A change of the members is refused while one is away; so it goes away as soon as the change was let in.
    let through = (down + 1) % 3;
    w.join(through, 3, "fourth")?;
    w.kill(down)?;
    w.members[3].store.wait_ready()?;
    w.goes_on(300)?;
    w.start_again(down)
}

/// A follower is away until the leader no longer has what it lacks.
fn snapshot_to_follower(w: &mut World, kill: bool) -> Result<()> {
    let away = w.follower()?;
    w.net.between(&[away], &w.others(away), Rule::CUT);
    w.outrun_the_log((away + 1) % 3)?;
    w.net.heal();
    if kill {
        w.hold(100 + (away as u64) * 50);
        w.kill(away)?;
        w.start_again(away)?;
    }
    w.settle()
}

/// A follower rewrites its tables again and again while it takes over those of the leader.
fn defragment_and_take_snapshot(w: &mut World) -> Result<()> {
    let away = w.follower()?;
    w.net.between(&[away], &w.others(away), Rule::CUT);
    w.outrun_the_log((away + 1) % 3)?;
    w.net.heal();
    for _ in 0..8 {
        // Refused while tables are replaced, perhaps; never harmful.
        let _ = w.defragment(away);
    }
    w.settle()
}

fn compact_defragment_snapshot(w: &mut World) -> Result<()> {
    for round in 0..3 {
        let at = (w.leader()? + round) % 3;
        w.compact(at, 300)?;
        w.defragment(at)?;
        let bytes = w.snapshot((at + 1) % 3)?;
        ensure!(bytes > 20_000, "a snapshot of {bytes} bytes");
        w.hold(100);
    }
    Ok(())
}

fn kill_in_compaction(w: &mut World) -> Result<()> {
    for _ in 0..2 {
        let leader = w.leader()?;
        w.compact(leader, 200)?;
        w.kill(leader)?;
        w.hold(300);
        w.start_again(leader)?;
        w.members[leader].store.wait_ready()?;
    }
    Ok(())
}
