//! A crash at every system call of a scripted workload that changes files: each write, sync, rename, unlink. Then a write that is torn
//! in the middle, and a sync that fails.
//!
//! `EYRIE_LONG=1` visits every call instead of a sample; `EYRIE_POINT=17` visits the 17th only.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::load::{self, Dice, Ledger, Wire};
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;

/// Crash points of the short form.
const SAMPLE: u64 = 40;
/// Requests before and after the compaction.
const STEPS: u64 = 20;

#[test]
fn killed_before_a_call() -> Verdict {
    crash_everywhere("kill")
}

#[test]
fn killed_in_the_middle_of_a_write() -> Verdict {
    crash_everywhere("torn")
}

#[test]
fn a_failed_sync_stops_the_member() -> Verdict {
    let mut dice = Dice::from_env();
    let total = count("count-syncs")?;
    for _ in 0..3 {
        let nth = 1 + total / 4 + dice.below(total / 2);
        failed_sync(nth).with_context(|| format!("sync {nth} failed"))?;
    }
    Ok(())
}

fn failed_sync(nth: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let ledger = Ledger::default();
    let setup = faulty(dir.path(), "eio", nth)?;
    let mut store = setup.spawn()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        workload(&wire, &ledger, &mut store).await
    });
    ensure!(report(dir.path()).contains("sync"), "no sync was failed: {ended:?}");
    let status = store.wait_end(Duration::from_secs(15)).context("the member goes on after a failed sync")?;
    ensure!(!status.success(), "the member ended as if all was well after a failed sync");
    let log = store.log_tail(30).to_lowercase();
    ensure!(log.contains("sync") && !log.contains("panicked"), "the log does not say what happened:\n{log}");
    recovered(dir.path(), &setup, &ledger, &runtime)
}

fn crash_everywhere(kind: &str) -> Verdict {
    let total = count("count")?;
    let mut dice = Dice::from_env();
    let one = std::env::var("EYRIE_POINT").ok().and_then(|p| p.parse().ok());
    let points: Vec<u64> = match (one, std::env::var_os("EYRIE_LONG")) {
        (Some(point), _) => vec![point],
        (None, Some(_)) => (1..=total).collect(),
        (None, None) => (0..SAMPLE).map(|i| 1 + (i * total + dice.below(total)) / SAMPLE).collect(),
    };
    println!("{total} calls that change files, {} of them visited", points.len());
    for nth in points {
        crash_at(kind, nth).with_context(|| format!("{kind} at call {nth} of about {total}"))?;
    }
    Ok(())
}

/// How many calls the workload makes.
fn count(kind: &str) -> anyhow::Result<u64> {
    let dir = tempfile::tempdir()?;
    run(dir.path(), kind, 0)?;
    let total = report(dir.path()).parse().context("the number of calls")?;
    ensure!(total > 20, "only {total} calls: the workload does not reach the disk");
    Ok(total)
}

fn crash_at(kind: &str, nth: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    run(dir.path(), kind, nth).with_context(|| report(dir.path()))
}

/// Runs the workload with a fault, starts again without, and checks.
fn run(dir: &Path, kind: &str, nth: u64) -> anyhow::Result<()> {
    let ledger = Ledger::default();
    let setup = faulty(dir, kind, nth)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut store = setup.spawn()?;
    runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        workload(&wire, &ledger, &mut store).await
    })?;
    store.kill9()?;
    recovered(dir, &setup, &ledger, &runtime)
}

/// The scripted workload; it ends early when the server dies, which is what most runs are for. An error is a broken promise.
async fn workload(wire: &Wire, ledger: &Ledger, store: &mut Store) -> anyhow::Result<()> {
    if store.wait_ready().is_err() {
        return Ok(());
    }
    if load::scripted(wire, ledger, 1, STEPS).await? < STEPS || wire.revision().await.is_err() {
        return Ok(());
    }
    if let Err(broken) = load::check(wire, ledger).await {
        // The crash may come while we check; a broken promise is one only while the member lives.
        return if wire.revision().await.is_err() { Ok(()) } else { Err(broken) };
    }
    let half = ledger.lock().newest_heard() / 2;
    if wire.compact(half).await.is_err() {
        return Ok(());
    }
    if load::scripted(wire, ledger, 2, STEPS).await? < STEPS || store.etcdctl(&["defrag"]).is_err() {
        return Ok(());
    }
    load::scripted(wire, ledger, 3, STEPS).await?;
    Ok(())
}

/// Starts without faults: everything that was promised is there, and the member takes new writes.
fn recovered(dir: &Path, faulty: &Setup, ledger: &Ledger, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let setup = Setup { wrapper: Vec::new(), ..faulty.clone() };
    let mut store = setup.start()?;
    let checked = runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        load::check(&wire, ledger).await?;
        let done = load::scripted(&wire, ledger, 4, 5).await?;
        ensure!(done == 5, "the member does not take writes after its recovery");
        load::check(&wire, ledger).await?;
        let from = ledger.lock().newest_heard() / 2 + 1;
        load::check_history(&wire, ledger, from).await
    });
    checked.with_context(|| format!("{}; log:\n{}", report(dir), store.log_tail(15)))?;
    store.kill9()
}

fn faulty(dir: &Path, kind: &str, nth: u64) -> anyhow::Result<Setup> {
    let mut setup = Setup::new(&Program::under_test()?, dir)?.flags(&["--snapshot-count=15"]);
    let words: [OsString; 6] = [
        env!("CARGO_BIN_EXE_fault-at").into(),
        kind.into(),
        nth.to_string().into(),
        setup.data.clone().into(),
        dir.join("report").into(),
        "--".into(),
    ];
    setup.wrapper = words.into();
    Ok(setup)
}

fn report(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("report")).unwrap_or_default()
}
