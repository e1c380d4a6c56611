//! `eyrie backup` as a person uses it: taken from upstream etcd and from Eyrie, followed, listed, shown, sealed, fought over.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::milvus::Milvus;
use eyrie_tests::place::Place;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn upstream_is_followed_and_listed() -> Verdict {
    Ok(followed(&Program::upstream()?)?)
}

#[test]
fn eyrie_is_followed_and_listed() -> Verdict {
    Ok(followed(&Program::under_test()?)?)
}

fn followed(source: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(source, dir.path())?.start()?;
    store.etcdctl(&["put", "first", "1"])?;
    let key = dir.path().join("backup.key");
    let made = eyrie(&["keygen", text(&key)])?;
    let recipient = made.split_whitespace().next().context("a public key")?.to_owned();
    ensure!(eyrie(&["keygen", text(&key)]).is_err(), "keygen overwrote a key");
    let archive = format!("file://{}", dir.path().join("archive").display());
    let etcd = format!("http://{}", store.endpoint());
    let to = ["--archive", &archive, "--recipient", &recipient, "--output", "json"];
    let from = ["--etcd", &etcd];

    let mut tail = Tail::start(&[&["tail"], &to[..], &from].concat())?;
    tail.wait("full_taken", |_| true)?;
    for n in 0..50 {
        store.etcdctl(&["put", &format!("key-{n}"), "value"])?;
    }
    store.etcdctl(&["del", "key-7"])?;
    let count = live_keys(&store)?;
    let revision = revision(&store)?;
    tail.wait("recoverable", |news| news["revision"].as_i64() >= Some(revision))?;
    // a second writer is sent away while the first lives
    let second = eyrie(&[&["take"], &to[..], &from].concat());
    let why = second.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(why.contains("is being written by"), "the second writer was not sent away: {why}");
    tail.stop()?;

    let list: Value = serde_json::from_str(&eyrie(&["list", "--archive", &archive, "--output", "json"])?)?;
    let stretches = list["timelines"][0]["stretches"].as_array().context("stretches")?;
    ensure!(stretches.len() == 1, "more than one stretch: {list:#}");
    ensure!(stretches[0]["span"]["to"]["revision"].as_i64() >= Some(revision), "{list:#}");
    let words = eyrie(&["list", "--archive", &archive])?;
    ensure!(words.contains("metadata recoverable") && words.contains(&recipient), "{words}");

    let closed = eyrie(&["show", "--archive", &archive]).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(closed.contains("no key was given"), "{closed}");
    let show = ["show", "--archive", &archive, "--identity", text(&key), "--output", "json"];
    let show: Value = serde_json::from_str(&eyrie(&show)?)?;
    ensure!(show["keys"].as_u64() == Some(count), "the archive has {} keys, the store {count}", show["keys"]);
    Ok(())
}

#[test]
fn a_store_that_was_restored_begins_a_new_timeline() -> Verdict {
    Ok(restored(&Program::upstream()?)?)
}

fn restored(source: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(source, dir.path())?;
    let mut store = setup.start()?;
    let archive = format!("file://{}", dir.path().join("archive").display());
    let etcd = format!("http://{}", store.endpoint());
    let take = ["take", "--archive", &archive, "--etcd", &etcd];
    store.etcdctl(&["put", "a", "1"])?;
    let saved = dir.path().join("saved.db");
    store.etcdctl(&["snapshot", "save", text(&saved)])?;
    for n in 0..5 {
        store.etcdctl(&["put", "a", &n.to_string()])?;
    }
    eyrie(&take)?;
    store.stop()?;
    std::fs::remove_dir_all(&setup.data)?;
    let utl = Command::new(&source.utl[0])
        .args(["snapshot", "restore", text(&saved), "--data-dir", text(&setup.data)])
        .args(["--initial-cluster", "default=http://localhost:2380"])
        .args(["--initial-advertise-peer-urls", "http://localhost:2380"])
        .output()?;
    ensure!(utl.status.success(), "{}", String::from_utf8_lossy(&utl.stderr));
    let store = setup.start()?;
    // the same ids, and soon a higher revision than the archive's: only the history itself tells the two apart
    for n in 0..20 {
        store.etcdctl(&["put", "a", &format!("other-{n}")])?;
    }
    eyrie(&take)?;
    let list = eyrie(&["list", "--archive", &archive])?;
    ensure!(list.contains("Timeline 2") && list.contains("went another way"), "{list}");
    Ok(())
}

#[test]
fn a_real_milvus_is_recoverable_with_its_objects() -> Verdict {
    Ok(milvus(&Program::upstream()?)?)
}

fn milvus(source: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let mut setup = Setup::new(source, dir.path())?;
    setup.place = place.clone();
    let _store = setup.start()?;
    let home = dir.path().join("milvus");
    let milvus = Milvus::start(&home, &place, &setup.endpoint())?;
    milvus.session("create", "birds")?;
    let archive = format!("file://{}", dir.path().join("archive").display());
    let (etcd, objects) =
        (format!("http://{}", setup.endpoint()), format!("file://{}", home.join("objects").display()));
    let take = ["backup", "take", "--archive", &archive, "--etcd", &etcd, "--bucket", &objects, "--output", "json"];
    let mut command = place.command(&Program::under_test()?.serve[0]);
    let out = command.args(take).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let done: Value = serde_json::from_str(said.lines().last().context("an answer")?)?;
    ensure!(done["objects"].as_u64() > Some(5) && done["holes"] == 0, "{done}");
    let list = eyrie(&["list", "--archive", &archive])?;
    ensure!(list.contains("  recoverable\n"), "{list}");
    let show = eyrie(&["show", "--archive", &archive])?;
    ensure!(show.contains("collection birds: 3000 rows"), "{show}");
    Ok(())
}

/// A running `backup tail` and what it says.
struct Tail {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Tail {
    fn start(args: &[&str]) -> Result<Tail> {
        let mut command = Command::new(&Program::under_test()?.serve[0]);
        command.arg("backup").args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let said = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Tail { child, said })
    }

    /// Waits for news of this kind.
    fn wait(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let since = Instant::now();
        let mut line = String::new();
        while since.elapsed() < PATIENCE {
            line.clear();
            if self.said.read_line(&mut line)? == 0 {
                bail!("the tail ended before it said {event}");
            }
            let news: Value = serde_json::from_str(&line)?;
            if news["event"] == event && wanted(&news) {
                return Ok(());
            }
        }
        bail!("the tail did not say {event}")
    }

    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_raw(self.child.id() as i32).context("pid")?, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the tail ended with {status}");
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `eyrie backup`, and returns what it says on standard output.
fn eyrie(args: &[&str]) -> Result<String> {
    let out = Command::new(&Program::under_test()?.serve[0]).arg("backup").args(args).stdin(Stdio::null()).output()?;
    ensure!(out.status.success(), "{args:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

fn live_keys(store: &eyrie_tests::store::Store) -> Result<u64> {
    let out = store.etcdctl(&["get", "", "--from-key", "--keys-only", "--write-out", "json"])?;
    serde_json::from_slice::<Value>(&out.stdout)?["count"].as_u64().context("a count")
}

fn revision(store: &eyrie_tests::store::Store) -> Result<i64> {
    let out = store.etcdctl(&["get", "none", "--write-out", "json"])?;
    serde_json::from_slice::<Value>(&out.stdout)?["header"]["revision"].as_i64().context("a revision")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
