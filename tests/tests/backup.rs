//! `eyrie backup` as a person uses it: taken from upstream etcd and from Eyrie, followed, listed, shown, sealed, fought over.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use eyrie_tests::backup::Backup;
use eyrie_tests::binaries::Program;
use eyrie_tests::milvus::Milvus;
use eyrie_tests::place::Place;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

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
    let eyrie = Backup::new(dir.path(), &Place::Host);
    let key = dir.path().join("backup.key");
    let made = eyrie.run(&["keygen", text(&key)])?;
    let recipient = made.split_whitespace().next().context("a public key")?.to_owned();
    ensure!(eyrie.run(&["keygen", text(&key)]).is_err(), "keygen overwrote a key");
    let archive = format!("file://{}", dir.path().join("archive").display());
    let etcd = format!("http://{}", store.endpoint());
    let to = ["--archive", &archive, "--recipient", &recipient];
    let from = ["--etcd", &etcd];

    let mut tail = eyrie.tail(&[&["tail"], &to[..], &from].concat())?;
    tail.wait("full_taken", |_| true)?;
    for n in 0..50 {
        store.etcdctl(&["put", &format!("key-{n}"), "value"])?;
    }
    store.etcdctl(&["del", "key-7"])?;
    let count = live_keys(&store)?;
    let revision = revision(&store)?;
    tail.wait("recoverable", |news| news["revision"].as_i64() >= Some(revision))?;
    // a second writer is sent away while the first lives
    let second = eyrie.run(&[&["take"], &to[..], &from].concat());
    let why = second.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(why.contains("is being written by"), "the second writer was not sent away: {why}");
    tail.stop()?;

    let list: Value = serde_json::from_str(&eyrie.run(&["list", "--archive", &archive, "--output", "json"])?)?;
    let stretches = list["timelines"][0]["stretches"].as_array().context("stretches")?;
    ensure!(stretches.len() == 1, "more than one stretch: {list:#}");
    ensure!(stretches[0]["span"]["to"]["revision"].as_i64() >= Some(revision), "{list:#}");
    let words = eyrie.run(&["list", "--archive", &archive])?;
    ensure!(words.contains("metadata recoverable") && words.contains(&recipient), "{words}");

    let closed = eyrie.run(&["show", "--archive", &archive]).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(closed.contains("no key was given"), "{closed}");
    let show = ["show", "--archive", &archive, "--identity", text(&key), "--output", "json"];
    let show: Value = serde_json::from_str(&eyrie.run(&show)?)?;
    ensure!(show["keys"].as_u64() == Some(count), "the archive has {} keys, the store {count}", show["keys"]);
    Ok(())
}

#[test]
fn a_store_that_was_restored_begins_a_new_timeline() -> Verdict {
    Ok(restored(&Program::upstream()?)?)
}

fn restored(source: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let eyrie = Backup::new(dir.path(), &Place::Host);
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
    eyrie.run(&take)?;
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
    eyrie.run(&take)?;
    let list = eyrie.run(&["list", "--archive", &archive])?;
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
    let eyrie = Backup::new(dir.path(), &place);
    let take = ["take", "--archive", &archive, "--etcd", &etcd, "--bucket", &objects, "--output", "json"];
    let said = eyrie.run(&take)?;
    let done: Value = serde_json::from_str(said.lines().last().context("an answer")?)?;
    ensure!(done["objects"].as_u64() > Some(5) && done["holes"] == 0, "{done}");
    let list = eyrie.run(&["list", "--archive", &archive])?;
    ensure!(list.contains("  recoverable\n"), "{list}");
    let show = eyrie.run(&["show", "--archive", &archive])?;
    ensure!(show.contains("collection birds: 3000 rows"), "{show}");
    Ok(())
}

/// What docs/decisions/12 says: the standard tools open what is stored, and nobody else's envelope is taken for ours.
#[test]
fn the_age_tool_opens_what_is_stored_and_its_own_envelopes_are_not_believed() -> Verdict {
    Ok(envelopes(&Program::upstream()?)?)
}

fn envelopes(source: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(source, dir.path())?.start()?;
    for n in 0..200 {
        store.etcdctl(&["put", &format!("key-{n}"), "a value that shrinks, that shrinks, that shrinks"])?;
    }
    let eyrie = Backup::new(dir.path(), &Place::Host);
    // a pair by each of the two tools, and each knows the other's
    let (ours, theirs) = (dir.path().join("ours.key"), dir.path().join("theirs.key"));
    let made = eyrie.run(&["keygen", text(&ours)])?;
    let our_public = made.split_whitespace().next().context("a public key")?.to_owned();
    ensure!(shell(&format!("age-keygen -y {}", text(&ours)))?.trim_ascii() == our_public.as_bytes());
    shell(&format!("age-keygen -o {}", text(&theirs)))?;
    let their_public = String::from_utf8(shell(&format!("age-keygen -y {}", text(&theirs)))?)?.trim().to_owned();
    let (folder, archive) = (dir.path().join("archive"), format!("file://{}", dir.path().join("archive").display()));
    let to = ["--archive", &archive, "--recipient", &our_public, "--recipient", &their_public];
    eyrie.run(&[&["take"], &to[..], &["--etcd", &format!("http://{}", store.endpoint())]].concat())?;
    let show = ["show", "--archive", &archive, "--identity", text(&theirs), "--output", "json"];
    let show: Value = serde_json::from_str(&eyrie.run(&show)?)?;
    ensure!(show["keys"].as_u64() == Some(live_keys(&store)?), "{show}");

    // the full is upstream's own snapshot, inside
    let full = std::fs::read_dir(folder.join("full/0001"))?.next().context("a full")??.path();
    ensure!(text(&full).ends_with(".snap.zst.age"), "{}", full.display());
    let plain = dir.path().join("plain.db");
    for key in [&ours, &theirs] {
        let opened = format!("age -d -i {} {} | zstd -dc > {}", text(key), text(&full), text(&plain));
        shell(&opened)?;
        let status = Command::new(&source.utl[0]).args(["snapshot", "status", "-w", "json", text(&plain)]).output()?;
        let status: Value = serde_json::from_slice(&status.stdout)?;
        ensure!(status["totalKey"].as_u64() >= Some(200), "{status}");
    }

    // the very same content in an envelope of age's own, in the place of ours
    let sealed = format!("zstd -c {} | age -r {our_public} > {}", text(&plain), text(&full));
    std::fs::remove_file(&full)?;
    shell(&sealed)?;
    let new = dir.path().join("new");
    let restore = ["restore", "--archive", &archive, "--identity", text(&ours), "--data-dir", text(&new)];
    let why = eyrie.run(&restore).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(why.contains("not what its record says"), "another envelope was believed: {why}");
    ensure!(!new.exists(), "something was written");
    let verified = eyrie.output(&["verify", "--archive", &archive, "--read-data", "--no-record"])?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    ensure!(verified.status.code() == Some(1) && said.contains("full/0001/"), "{said}");
    Ok(())
}

/// What a person types; it has to end well.
fn shell(line: &str) -> Result<Vec<u8>> {
    let out = Command::new("bash").args(["-o", "pipefail", "-c", line]).output()?;
    ensure!(
        out.status.success(),
        "`{line}`: {}\n{}\nage and zstd are Debian packages: scripts/test installs them",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(out.stdout)
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
