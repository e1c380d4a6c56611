//! Clusters under faults: whatever is done to them, what clients were told and watchers heard is what one store, doing one thing
//! after the other, could have said; nothing acknowledged is lost, and the members end with the same.
//!
//! One test for each row of the table in `src/faults/kinds.rs`. `EYRIE_LONG=1` makes 20 runs of each; a failure prints the seed.

use anyhow::{Context, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::faults::{self, CALLS_PER_SECOND_MIN, KINDS, Kind};
use eyrie_tests::load::Dice;
use eyrie_tests::verdict::Verdict;

/// Runs of one kind in the short and in the long form.
const RUNS: [u64; 2] = [1, 20];
/// A run in which too few calls were answered is made again so often: the machine may have been busy.
const TRIES: u32 = 3;
/// With fewer calls a second, also at the last try, the test fails: in the short form, and in the long one, which needs a
/// machine of its own.
const CALLS_PER_SECOND_FAIL: [f64; 2] = [150.0, CALLS_PER_SECOND_MIN];

macro_rules! one_test_each {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() -> Verdict {
            runs(stringify!($name))
        })*

        #[test]
        fn every_row_of_the_table_has_its_test() {
            let mut tested = vec![$(stringify!($name)),*];
            let mut listed: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            tested.sort_unstable();
            listed.sort_unstable();
            assert_eq!(tested, listed);
            assert!(listed.len() >= 26, "25 kinds and a run without any");
        }
    };
}

one_test_each! {
    nothing
    kill_follower kill_leader kill_quorum kill_all kill_two_of_five kill_one_after_the_other stop_leader
    pause_leader pause_follower pause_all pause_in_turn
    cut_leader cut_follower cut_what_the_leader_says cut_what_the_leader_hears cut_in_halves cut_to_a_ring cut_to_a_bridge
    cut_swizzled cut_again_and_again lose_packets delay_packets repeat_and_reorder_packets lose_answers
    slow_disk_of_leader slow_disk_of_follower slow_disk_of_all sync_error_of_leader sync_error_of_follower
    full_disk_of_leader full_disk_of_follower power_cut_of_one power_cut_of_all power_cut_of_all_twice
    clock_of_leader_jumps clocks_apart
    move_leader replace_member join_while_one_is_down snapshot_to_follower kill_follower_in_snapshot
    two_snapshots_to_follower defragment_and_take_snapshot compact_defragment_snapshot kill_in_compaction
}

fn runs(name: &str) -> Verdict {
    Ok(all_runs(name)?)
}

fn all_runs(name: &str) -> anyhow::Result<()> {
    let kind = Kind::named(name).context("a row of the table")?;
    let program = Program::under_test()?;
    if program.is_upstream() && (kind.needs_machine || kind.small_disks) {
        println!("{name}: upstream etcd is not run on a machine that fails");
        return Ok(());
    }
    let mut seeds = Dice::from_env();
    let first = std::env::var("EYRIE_SEED").ok().and_then(|seed| seed.parse().ok());
    let form = usize::from(std::env::var_os("EYRIE_LONG").is_some());
    for run in 0..RUNS[form] {
        let seed = first.filter(|_| run == 0).unwrap_or_else(|| seeds.below(u64::MAX));
        let mut tries = 1;
        let ran = loop {
            let ran = faults::run(kind, &program, seed)?;
            println!("{name}: {:.0} calls/s, {:?}", ran.rate, ran.checked);
            if ran.rate >= CALLS_PER_SECOND_MIN || tries == TRIES {
                break ran;
            }
            tries += 1;
        };
        let enough = ran.rate >= CALLS_PER_SECOND_FAIL[form];
        ensure!(enough, "only {:.0} calls were answered in a second: {:?}", ran.rate, ran.checked);
    }
    Ok(())
}
