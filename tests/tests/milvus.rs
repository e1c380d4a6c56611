//! A real Milvus lives on Eyrie: it works, survives a crash of the store, and comes back from snapshots that travel both ways between
//! Eyrie and upstream etcd.

use std::path::Path;

use anyhow::{Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::milvus::Milvus;
use eyrie_tests::place::Place;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;

/// As Milvus's own compose file configures its store.
const FLAGS: [&str; 4] = [
    "--auto-compaction-mode=revision",
    "--auto-compaction-retention=1000",
    "--quota-backend-bytes=4294967296",
    "--snapshot-count=50000",
];

#[test]
fn works_survives_a_crash_of_the_store_and_comes_back_from_its_snapshot() -> Verdict {
    Ok(life_on(&Program::under_test()?)?)
}

#[test]
fn moves_from_upstream_to_eyrie_and_back() -> Verdict {
    Ok(moves(&Program::upstream()?, &Program::under_test()?)?)
}

fn life_on(program: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let setup = setup(program, dir.path(), "store", &place)?;
    let mut store = setup.start()?;
    let mut milvus = Milvus::start(&dir.path().join("milvus"), &place, &setup.endpoint())?;
    let first = milvus.session("create", "birds")?;
    ensure!(first.contains("\"rows\": 3000"), "{first}");
    println!("created: {first}");

    // The store dies and is back within Milvus's session lease: Milvus does not notice more than a pause.
    store.restart()?;
    let second = milvus.session("more", "birds")?;
    ensure!(second.contains("\"rows\": 3500"), "{second}");
    ensure!(milvus.is_running(), "milvus ended when its store was restarted");
    println!("after the crash of the store: {second}");

    // Everything stops; the store is lost and restored from a snapshot.
    milvus.kill9()?;
    let snapshot = dir.path().join("store.db");
    save(&store, &snapshot)?;
    store.stop()?;
    std::fs::remove_dir_all(&setup.data)?;
    restore(program, &snapshot, &setup)?;
    let _store = setup.start()?;
    let milvus = Milvus::start(&dir.path().join("milvus"), &place, &setup.endpoint())?;
    let third = milvus.session("digest", "birds")?;
    ensure!(third == second, "after the restore:\n{third}\nbefore:\n{second}");
    Ok(())
}

fn moves(home: &Program, abroad: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = Place::apart()?;
    let files = dir.path().join("milvus");
    let mut before = None;
    // Each store but the first is restored from the snapshot of the one before.
    for (i, program) in [home, abroad, home].into_iter().enumerate() {
        let setup = setup(program, dir.path(), &format!("store{i}"), &place)?;
        let snapshot = dir.path().join(format!("store{i}.db"));
        if i > 0 {
            restore(program, &dir.path().join(format!("store{}.db", i - 1)), &setup)?;
        }
        let mut store = setup.start()?;
        let mut milvus = Milvus::start(&files, &place, &setup.endpoint())?;
        let digest = milvus.session(if i == 0 { "create" } else { "digest" }, "birds")?;
        let before = before.get_or_insert_with(|| digest.clone());
        ensure!(digest == *before, "store {i} ({}):\n{digest}\nbefore:\n{before}", program.name);
        milvus.kill9()?;
        save(&store, &snapshot)?;
        store.stop()?;
    }
    Ok(())
}

fn setup(program: &Program, dir: &Path, name: &str, place: &Place) -> Result<Setup> {
    let mut setup = Setup::new(program, dir)?.flags(&FLAGS);
    setup.data = dir.join(name);
    setup.place = place.clone();
    Ok(setup)
}

/// Saved by upstream's etcdctl, whatever the store is.
fn save(store: &Store, snapshot: &Path) -> Result<()> {
    store.etcdctl_ok(&["snapshot", "save", &snapshot.display().to_string()])?;
    Ok(())
}

/// Restored by the tool of the program that will serve it.
fn restore(program: &Program, snapshot: &Path, setup: &Setup) -> Result<()> {
    let mut c = setup.place.command(&program.utl[0]);
    c.args(&program.utl[1..]).args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(&setup.data);
    c.args(["--initial-cluster", "default=http://localhost:2380"]);
    c.args(["--initial-advertise-peer-urls", "http://localhost:2380"]);
    let out = c.output()?;
    ensure!(out.status.success(), "snapshot restore: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(())
}
