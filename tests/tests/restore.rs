//! Stores that move: by a snapshot to upstream and back, by adoption of a killed etcd's directory, and restores that die half-way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Moments at which a restore is killed, in the short form.
const SAMPLE: u64 = 30;
const BUMP: i64 = 1_000_000;

#[test]
fn eyries_snapshot_serves_upstream_equal() -> Verdict {
    Ok(moved(&Program::under_test()?, &Program::upstream()?)?)
}

#[test]
fn upstreams_snapshot_serves_eyrie_equal() -> Verdict {
    Ok(moved(&Program::upstream()?, &Program::under_test()?)?)
}

#[test]
fn a_bumped_restore_is_ahead_and_old_watchers_are_told() -> Verdict {
    Ok(bumped()?)
}

#[test]
fn a_log_directory_of_its_own_is_restored_and_served() -> Verdict {
    Ok(log_apart()?)
}

#[test]
fn a_restore_killed_at_any_moment_is_refused_and_can_be_given_again() -> Verdict {
    Ok(killed_restores()?)
}

#[test]
fn a_killed_etcds_directory_is_adopted_equal() -> Verdict {
    Ok(adopted()?)
}

fn moved(from: &Program, to: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (saved, facts) = saved_store(from, dir.path())?;
    let setup = Setup::new(to, dir.path())?;
    let setup = Setup { data: dir.path().join("moved"), ..setup };
    utl_ok(to, &["snapshot", "restore", text(&saved)?, "--data-dir", text(&setup.data)?])?;
    let store = setup.start()?;
    ensure!(Facts::of(&store)? == facts, "moved: {:#?}\nwas: {facts:#?}", Facts::of(&store)?);
    Ok(())
}

fn bumped() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (saved, facts) = saved_store(&Program::upstream()?, dir.path())?;
    let ours = Program::under_test()?;
    let setup = Setup { data: dir.path().join("bumped"), ..Setup::new(&ours, dir.path())? };
    let bump = BUMP.to_string();
    let flags = ["--bump-revision", &bump, "--mark-compacted", "--data-dir", text(&setup.data)?];
    utl_ok(&ours, &[&["snapshot", "restore", text(&saved)?], &flags[..]].concat())?;
    let store = setup.start()?;
    let now = Facts::of(&store)?;
    ensure!((&now.keys, &now.leases) == (&facts.keys, &facts.leases), "{now:#?}\nwas {facts:#?}");
    ensure!(now.revision == facts.revision + BUMP, "revision {} after {} + {BUMP}", now.revision, facts.revision);

    // Whoever watched before the snapshot, or after it in the history that is lost, reads afresh.
    for revision in [2, facts.revision, facts.revision + 10, facts.revision + BUMP - 1] {
        let watch = store.etcdctl(&["watch", "key1", "--rev", &revision.to_string()])?;
        let said = String::from_utf8_lossy(&watch.stderr).into_owned() + &String::from_utf8_lossy(&watch.stdout);
        ensure!(said.contains("required revision has been compacted"), "watch from {revision}: {said}");
    }
    // What the bumped store gives away has its revision too.
    let again = dir.path().join("again.db");
    store.etcdctl_ok(&["snapshot", "save", text(&again)?])?;
    let upstream = Program::upstream()?;
    let theirs = Setup { data: dir.path().join("theirs"), ..Setup::new(&upstream, dir.path())? };
    utl_ok(&upstream, &["snapshot", "restore", text(&again)?, "--data-dir", text(&theirs.data)?])?;
    let theirs = Facts::of(&theirs.start()?)?;
    ensure!(theirs == now, "upstream from a bumped store: {theirs:#?}\nwas {now:#?}");

    let put: Value = serde_json::from_str(&store.etcdctl_ok(&["put", "next", "one", "-w", "json"])?)?;
    ensure!(put["header"]["revision"] == facts.revision + BUMP + 1, "{put}");
    Ok(())
}

fn log_apart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Program::under_test()?;
    let (saved, facts) = saved_store(&Program::upstream()?, dir.path())?;
    let mut setup = Setup { data: dir.path().join("apart"), ..Setup::new(&ours, dir.path())? };
    let log = dir.path().join("log");
    let restore = ["snapshot", "restore", text(&saved)?, "--data-dir", text(&setup.data)?, "--wal-dir", text(&log)?];
    utl_ok(&ours, &restore)?;
    ensure!(std::fs::read_dir(&log)?.count() > 0, "nothing in {}", log.display());
    ensure!(!setup.data.join("wal").exists(), "a log in the data directory as well");
    setup.flags = vec!["--wal-dir".into(), text(&log)?.into()];
    let mut store = setup.start()?;
    ensure!(Facts::of(&store)? == facts);
    store.etcdctl_ok(&["put", "after", "restore"])?;
    store.restart()?;
    ensure!(store.etcdctl_ok(&["get", "after"])?.contains("restore"));
    store.stop()?;
    let again = utl(&ours, &restore)?;
    ensure!(!again.status.success(), "a restore over a store");
    Ok(())
}

fn killed_restores() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (saved, facts) = saved_store(&Program::upstream()?, dir.path())?;
    let calls = calls_of_a_restore(dir.path(), &saved)?;
    ensure!(calls > 20, "a restore in {calls} calls");
    let step = if std::env::var_os("EYRIE_LONG").is_some() { 1 } else { calls.div_ceil(SAMPLE) };
    let (mut refused, mut unbegun, mut whole) = (0, 0, 0);
    for nth in (1..=calls).step_by(step as usize) {
        let here = dir.path().join(format!("kill-{nth}"));
        std::fs::create_dir(&here)?;
        match killed_restore(&here, &saved, &facts, nth).with_context(|| format!("killed before call {nth}"))? {
            After::Refused => refused += 1,
            After::NotBegun => unbegun += 1,
            After::Whole => whole += 1,
        }
        std::fs::remove_dir_all(&here)?;
    }
    println!("{calls} calls: {refused} times refused, {unbegun} times nothing was begun, {whole} times whole");
    ensure!(refused > unbegun + whole, "most moments of a restore leave half a directory");
    Ok(())
}

/// What a killed restore left.
enum After {
    NotBegun,
    Refused,
    Whole,
}

fn killed_restore(dir: &Path, saved: &Path, facts: &Facts, nth: u64) -> Result<After> {
    let ours = Program::under_test()?;
    let setup = Setup::new(&ours, dir)?;
    let restore = ["snapshot", "restore", text(saved)?, "--data-dir", text(&setup.data)?];
    let killed = faulty(&ours, "kill", nth, dir, &restore)?;
    if killed.status.success() {
        // Threads of a restore wait for each other now and then, so one run makes a call or two fewer than another.
        served(&setup, facts)?;
        return Ok(After::Whole);
    }
    let nothing = names(&setup.data).iter().all(|name| ["LOCK", "eyrie.tmp"].contains(&name.as_str()));
    if nothing {
        utl_ok(&ours, &restore)?;
        served(&setup, facts)?;
        return Ok(After::NotBegun);
    }
    let mut store = setup.spawn()?;
    if store.wait_ready().is_ok() {
        ensure!(Facts::of(&store)? == *facts, "a half restore is served");
        return Ok(After::Whole);
    }
    ensure!(!store.is_running(), "it waits for something");
    let log = store.log_tail(20);
    drop(store);
    ensure!(log.contains("eyrie utl snapshot restore"), "the refusal does not say what to type:\n{log}");
    utl_ok(&ours, &restore)?;
    if nth.is_multiple_of(3) {
        served(&setup, facts)?;
    }
    Ok(After::Refused)
}

fn served(setup: &Setup, facts: &Facts) -> Result<()> {
    let store = setup.start()?;
    ensure!(Facts::of(&store)? == *facts, "restored again: {:#?}\nwas {facts:#?}", Facts::of(&store)?);
    Ok(())
}

fn adopted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (upstream, ours) = (Program::upstream()?, Program::under_test()?);
    let old = Setup::new(&upstream, dir.path())?;
    let mut store = old.start()?;
    fill(&store)?;
    let (facts, members) = (Facts::of(&store)?, ids(&store)?);
    let running = utl(&ours, &["migrate", "--from", text(&old.data)?, "--data-dir", text(&dir.path().join("early"))?])?;
    ensure!(!running.status.success(), "adopted from a running etcd");
    ensure!(!dir.path().join("early").exists(), "something was written");
    store.kill9()?;
    drop(store);
    let new = Setup { data: dir.path().join("adopted"), ..Setup::new(&ours, dir.path())? };
    utl_ok(&ours, &["migrate", "--from", text(&old.data)?, "--data-dir", text(&new.data)?])?;
    let store = new.start()?;
    ensure!(Facts::of(&store)? == facts, "adopted: {:#?}\nwas {facts:#?}", Facts::of(&store)?);
    ensure!(ids(&store)? == members, "{:?} was {members:?}", ids(&store)?);
    drop(store);
    // The original is as it was.
    let again = old.start()?;
    ensure!(Facts::of(&again)? == facts, "the original changed");
    Ok(())
}

/// All that a move must keep.
#[derive(Debug, PartialEq)]
struct Facts {
    revision: i64,
    keys: Value,
    /// Id, granted time and keys of each lease.
    leases: Vec<(Value, Value, Value)>,
    hash: Value,
    compacted: Value,
}

impl Facts {
    fn of(store: &Store) -> Result<Facts> {
        let json = |args: &[&str]| -> Result<Value> {
            Ok(serde_json::from_str(&store.etcdctl_ok(&[args, &["-w", "json"]].concat())?)?)
        };
        let keys = json(&["get", "", "--prefix"])?;
        let mut leases = Vec::new();
        for lease in json(&["lease", "list"])?["leases"].as_array().context("leases")? {
            let id = format!("{:x}", lease["id"].as_i64().context("a lease's id")?);
            let lease = json(&["lease", "timetolive", &id, "--keys"])?;
            leases.push((lease["id"].clone(), lease["granted-ttl"].clone(), sorted(lease["keys"].clone())));
        }
        leases.sort_by_key(|lease| lease.0.as_i64());
        let hash = json(&["endpoint", "hashkv"])?[0]["HashKV"].clone();
        Ok(Facts {
            revision: keys["header"]["revision"].as_i64().context("a revision")?,
            keys: keys["kvs"].clone(),
            leases,
            hash: hash["hash"].clone(),
            compacted: hash["compact_revision"].clone(),
        })
    }
}

fn sorted(mut list: Value) -> Value {
    if let Some(items) = list.as_array_mut() {
        items.sort_by_key(ToString::to_string);
    }
    list
}

/// Ids of the cluster and of its members, with their names and peer URLs.
fn ids(store: &Store) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&store.etcdctl_ok(&["member", "list", "-w", "json"])?)?;
    let mut ids = vec![list["header"]["cluster_id"].clone()];
    for member in list["members"].as_array().context("members")? {
        ids.extend([member["ID"].clone(), member["name"].clone(), member["peerURLs"].clone()]);
    }
    Ok(ids)
}

/// History, deletes, a compaction, leases with keys and without.
fn fill(store: &Store) -> Result<()> {
    let mut leases = Vec::new();
    for ttl in ["3600", "7200", "9000"] {
        let granted = store.etcdctl_ok(&["lease", "grant", ttl])?;
        leases.push(granted.split(' ').nth(1).context("a lease's id")?.to_owned());
    }
    for n in 0..40 {
        let (key, value) = (format!("key{}", n % 25), format!("value {n}"));
        match n % 4 {
            0 => store.etcdctl_ok(&["put", &key, &value, "--lease", &leases[n % 2]])?,
            _ => store.etcdctl_ok(&["put", &key, &value])?,
        };
    }
    store.etcdctl_ok(&["del", "key3"])?;
    store.etcdctl_ok(&["del", "key10", "key14"])?;
    store.etcdctl_ok(&["compaction", "20", "--physical"])?;
    store.etcdctl_ok(&["put", "key3", "again"])?;
    Ok(())
}

/// A filled store's snapshot, saved by upstream's `etcdctl`, and what it held.
fn saved_store(program: &Program, dir: &Path) -> Result<(PathBuf, Facts)> {
    let dir = dir.join("source");
    std::fs::create_dir(&dir)?;
    let store = Setup::new(program, &dir)?.start()?;
    fill(&store)?;
    let saved = dir.join("saved.db");
    store.etcdctl_ok(&["snapshot", "save", text(&saved)?])?;
    Ok((saved, Facts::of(&store)?))
}

fn calls_of_a_restore(dir: &Path, saved: &Path) -> Result<u64> {
    let here = dir.join("count");
    std::fs::create_dir(&here)?;
    let data = here.join("data");
    let out = faulty(
        &Program::under_test()?,
        "count",
        0,
        &here,
        &["snapshot", "restore", text(saved)?, "--data-dir", text(&data)?],
    )?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let report = std::fs::read_to_string(here.join("report"))?;
    report.split_whitespace().find_map(|word| word.parse().ok()).with_context(|| format!("no number in {report:?}"))
}

/// `etcdutl` under the program that hurts it, which watches the folder `data` in `dir`.
fn faulty(program: &Program, kind: &str, nth: u64, dir: &Path, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fault-at"));
    command.args([kind, &nth.to_string()]).arg(dir.join("data")).arg(dir.join("report")).arg("--");
    command.args(&program.utl).args(args);
    run(command)
}

fn utl(program: &Program, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(&program.utl[0]);
    command.args(&program.utl[1..]).args(args);
    run(command)
}

fn utl_ok(program: &Program, args: &[&str]) -> Result<()> {
    let out = utl(program, args)?;
    if !out.status.success() {
        bail!("etcdutl {args:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

fn run(mut command: Command) -> Result<Output> {
    bounded(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), LIMIT)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a plain path")
}
