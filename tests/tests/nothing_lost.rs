//! `kill -9` at any moment under concurrent load: nothing acknowledged is lost, revisions never go back, a watcher that resumes hears
//! every event once, leases keep.
//!
//! `EYRIE_LONG=1` makes 500 crashes instead of a few.

use std::time::Duration;

use anyhow::{Context, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::load::{self, Dice, Ledger, Wire};
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;

/// Crashes of the short and of the long form.
const CRASHES: [u64; 2] = [8, 500];
/// Crashes on one data dir before a new one is begun, so that first starts are crashed too.
const CRASHES_PER_DIR: u64 = 25;
const WRITERS: u64 = 8;

#[test]
fn kill_9_under_load() -> Verdict {
    let crashes = CRASHES[usize::from(std::env::var_os("EYRIE_LONG").is_some())];
    let mut dice = Dice::from_env();
    let (mut done, mut writer) = (0, 1);
    while done < crashes {
        let lives = CRASHES_PER_DIR.min(crashes - done);
        one_data_dir(&mut dice, lives, &mut writer).with_context(|| format!("after {done} crashes"))?;
        done += lives;
    }
    Ok(())
}

fn one_data_dir(dice: &mut Dice, lives: u64, writer: &mut u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::under_test()?, dir.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ledger = Ledger::default();
    for life in 0..lives {
        // Sometimes it dies before it is up.
        for _ in 0..dice.below(2) {
            let mut store = setup.spawn()?;
            std::thread::sleep(Duration::from_millis(dice.below(300)));
            store.kill9()?;
        }
        let mut store = setup.spawn()?;
        let wire = runtime.block_on(async { Wire::new(&setup.endpoint()) })?;
        let mut tasks = vec![runtime.spawn(load::watch_on(wire.clone(), ledger.clone()))];
        for _ in 0..WRITERS {
            let seed = Dice::new(dice.below(u64::MAX));
            tasks.push(runtime.spawn(load::keep_writing(wire.clone(), ledger.clone(), seed, *writer)));
            *writer += 1;
        }
        store.wait_ready()?;
        std::thread::sleep(Duration::from_millis(dice.below(1000)));
        store.kill9()?;
        for task in tasks {
            runtime.block_on(task)??;
        }
        let mut store = setup.start()?;
        let wire = runtime.block_on(async { Wire::new(&setup.endpoint()) })?;
        let checked = runtime.block_on(load::check(&wire, &ledger));
        checked.with_context(|| format!("life {life}; server log:\n{}", store.log_tail(15)))?;
        if life + 1 == lives {
            runtime.block_on(load::check_history(&wire, &ledger, 1))?;
            let events = ledger.lock().heard().len();
            println!("{lives} crashes, {events} events");
            ensure!(events as u64 > 20 * lives, "hardly anything was written: {events} events");
        }
        store.kill9()?;
    }
    Ok(())
}
