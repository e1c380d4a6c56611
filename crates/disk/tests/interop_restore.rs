//! Upstream's snapshots restored by us: equal content, or refused before anything is written.

mod interop;

use std::os::unix::fs::FileExt;
use std::path::Path;

use eyrie_disk::datadir::{DataDir, Identity, Kind};
use eyrie_disk::snapshot::{Export, LayFault, RestoreTarget, SnapshotFault, SnapshotFile, restore, restore_unproven};
use eyrie_disk::tables::{Options, RedbTables};
use eyrie_disk::wal::{Wal, WalMeta, WalOptions};
use eyrie_state::{ClusterId, LeaseId, Member, MemberId, Revision, State};
use interop::{Etcd, ok};

/// A store with history, deletes, transactions, leases, an alarm and a compaction; its snapshot and its HashKV.
fn upstream_snapshot(dir: &Path) -> (std::path::PathBuf, u32, i64) {
    let etcd = Etcd::start(&dir.join("upstream"));
    let lease = etcd.ctl(&["lease", "grant", "3600"]);
    let lease = lease.split(' ').nth(1).unwrap();
    for n in 0..20 {
        etcd.ctl(&["put", &format!("k{n}"), "first"]);
        etcd.ctl(&["put", &format!("k{n}"), &format!("second-{n}"), "--lease", lease]);
    }
    etcd.ctl(&["del", "k3"]);
    etcd.ctl(&["del", "k10", "k13"]);
    etcd.ctl(&["compaction", "30"]);
    etcd.ctl(&["put", "k3", "again"]);
    etcd.ctl(&["user", "add", "root", "--no-password"]);
    let saved = dir.join("saved.db");
    etcd.ctl(&["snapshot", "save", saved.to_str().unwrap()]);
    let (hash, compacted) = etcd.hash_kv();
    (saved, hash, compacted)
}

fn target<'a>(data_dir: &'a Path, bump_revision: u64) -> RestoreTarget<'a> {
    let member = Member {
        id: MemberId(0x8e9e_05c5_2164_694d),
        name: "default".into(),
        peer_urls: vec!["http://localhost:2380".into()],
        client_urls: Vec::new(),
        learner: false,
    };
    let identity = Identity { cluster: ClusterId(0xcdf8_1819_4e3a_8c32), member: member.id, name: "default".into() };
    RestoreTarget { data_dir, wal_dir: None, identity, members: vec![member], bump_revision }
}

fn open(data_dir: &Path) -> State<RedbTables> {
    let dir = DataDir::open(data_dir, None).unwrap();
    State::open(RedbTables::open(&dir.tables_path(), Options::default()).unwrap()).unwrap()
}

#[test]
fn an_upstream_snapshot_is_served_equal() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, hash, compacted) = upstream_snapshot(dir.path());
    let file = SnapshotFile::open(&saved, false).unwrap();
    assert_eq!(file.hash_kv(0).unwrap().hash, hash);

    let data = dir.path().join("data");
    let restored = restore(&file, target(&data, 0)).unwrap();
    let state = open(&data);
    let answer = state.hash_kv(None).unwrap().run().unwrap();
    assert_eq!((answer.hash, answer.compact_revision), (hash, compacted));
    assert_eq!((state.revision(), restored.revision), (Revision(44), 44));
    assert_eq!((state.key_count(), state.leases().len(), state.members().len()), (17, 1, 1));
    let lease = state.leases().next().unwrap();
    assert_eq!(lease.keys().len(), 16);
    assert_eq!(state.removed_members().len(), 0);
    assert_ne!(lease.id, LeaseId(0));

    let dir2 = DataDir::open(&data, None);
    assert!(dir2.is_ok(), "nobody holds it");
    let identity = target(&data, 0).identity;
    let meta = WalMeta { cluster: identity.cluster.0, member: identity.member.0 };
    let (_, log) = Wal::open(dir2.unwrap().wal_path(), meta, WalOptions::default()).unwrap();
    assert_eq!((log.start.index, log.start.term, log.hard_state.term, log.hard_state.commit), (1, 1, 1, 1));
    assert_eq!((log.start.membership.voters.len(), log.entries.len()), (1, 0));

    // and back: what we restored, exported again, serves upstream with the same digest
    let again = dir.path().join("again.db");
    let export = Export::plan(state.tables().view()).unwrap();
    export.write_to(std::fs::File::create(&again).unwrap()).unwrap();
    let theirs = dir.path().join("theirs");
    ok("etcdutl", &["snapshot", "restore", again.to_str().unwrap(), "--data-dir", theirs.to_str().unwrap()]);
    let etcd = Etcd::start(&theirs);
    assert_eq!(etcd.hash_kv(), (hash, compacted));
    assert!(etcd.ctl(&["user", "list"]).contains("root"));
    let lease = format!("{:x}", lease.id.0);
    assert_eq!(etcd.ctl(&["lease", "timetolive", &lease, "--keys"]).matches("k1").count(), 8);
}

#[test]
fn a_restore_that_proves_the_file_meanwhile_gives_the_same_or_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, hash, compacted) = upstream_snapshot(dir.path());
    let data = dir.path().join("new/data");
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let good = std::fs::read(&saved).unwrap();
    let path = dir.path().join("bad.db");
    std::fs::write(&path, &good).unwrap();
    let before = names();
    let bad = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let (mut opened, mut flips) = (0, 0);
    for (at, byte) in (0u64..).zip(&good).step_by(good.len() / 150) {
        bad.write_all_at(&[byte ^ 1 << (at % 8)], at).unwrap();
        flips += 1;
        match SnapshotFile::open_unproven(&path, false) {
            Err(SnapshotFault::Hash { .. } | SnapshotFault::Structure(_)) => {}
            Err(other) => panic!("byte {at}: {other:?}"),
            Ok(file) => {
                opened += 1;
                let fault = restore_unproven(file, target(&data, 0)).unwrap_err();
                assert!(matches!(fault, LayFault::Snapshot(SnapshotFault::Hash { .. })), "byte {at}: {fault}");
            }
        }
        assert_eq!(names(), before, "byte {at} left something behind");
        bad.write_all_at(&[*byte], at).unwrap();
    }
    assert!(opened > flips / 4, "{opened} of {flips} flips were found by the hash alone");

    let file = SnapshotFile::open_unproven(&saved, false).unwrap();
    assert!(matches!(restore_unproven(file, target(&dir.path().join("upstream"), 0)), Err(LayFault::Dir(_))));
    let file = SnapshotFile::open_unproven(&saved, false).unwrap();
    let restored = restore_unproven(file, target(&data, 0)).unwrap();
    let other = dir.path().join("other");
    assert_eq!(restored, restore(&SnapshotFile::open(&saved, false).unwrap(), target(&other, 0)).unwrap());
    let (state, other) = (open(&data), open(&other));
    let answer = state.hash_kv(None).unwrap().run().unwrap();
    assert_eq!((answer.hash, answer.compact_revision), (hash, compacted));
    let digest = |state: &State<RedbTables>| eyrie_disk::snapshot::hash_all(&state.tables().view()).unwrap();
    assert_eq!(digest(&state), digest(&other));
}

#[test]
fn a_bumped_restore_lifts_the_revision_and_hides_what_was() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, _, _) = upstream_snapshot(dir.path());
    let file = SnapshotFile::open(&saved, false).unwrap();
    let data = dir.path().join("data");
    restore(&file, target(&data, 1_000_000)).unwrap();
    let state = open(&data);
    assert_eq!((state.revision(), state.compacted()), (Revision(1_000_044), Some(Revision(1_000_044))));
    assert_eq!(state.key_count(), 17);
    let too_far = dir.path().join("too-far");
    let fault = restore(&file, target(&too_far, u64::MAX)).unwrap_err();
    assert!(matches!(fault, LayFault::Bump { .. }), "{fault}");
    assert_eq!(DataDir::inspect(&too_far).unwrap(), Kind::UnfinishedRestore);
    let begun = DataDir::create(&too_far, None, target(&too_far, 0).identity).unwrap_err();
    assert!(begun.to_string().contains("never finished"), "no empty store over a half restore: {begun}");
    restore(&file, target(&too_far, 5)).unwrap();
}

#[test]
fn a_filled_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, _, _) = upstream_snapshot(dir.path());
    let file = SnapshotFile::open(&saved, false).unwrap();
    let data = dir.path().join("data");
    restore(&file, target(&data, 0)).unwrap();
    let before = std::fs::read(data.join("eyrie")).unwrap();
    assert!(matches!(restore(&file, target(&data, 0)), Err(LayFault::Dir(_))));
    assert!(matches!(restore(&file, target(&dir.path().join("upstream"), 0)), Err(LayFault::Dir(_))));
    assert_eq!(before, std::fs::read(data.join("eyrie")).unwrap());
}

#[test]
fn every_flipped_byte_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, _, _) = upstream_snapshot(dir.path());
    let good = std::fs::read(&saved).unwrap();
    let content = |path: &Path| {
        let file = SnapshotFile::open(path, true)?;
        file.check_content()?;
        file.status()
    };
    let expected = content(&saved).unwrap();
    let path = dir.path().join("bad.db");
    std::fs::write(&path, &good).unwrap();
    let bad = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let (mut found, mut free) = (0, 0);
    for (at, byte) in (0u64..).zip(&good) {
        bad.write_all_at(&[byte ^ 1 << (at % 8)], at).unwrap();
        match SnapshotFile::open(&path, false) {
            Err(SnapshotFault::Hash { .. } | SnapshotFault::Structure(_)) => {}
            other => panic!("byte {at}: {other:?}"),
        }
        // without the hash: the structure is checked, a flip inside a value cannot be seen, nothing panics
        match content(&path) {
            Err(_) => found += 1,
            Ok(status) if status == expected => free += 1,
            Ok(_) => {}
        }
        bad.write_all_at(&[*byte], at).unwrap();
    }
    assert!(found > 500, "{found} flips of {} found without the hash, {free} in bytes that nothing uses", good.len());
}

#[test]
fn every_truncation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, _, _) = upstream_snapshot(dir.path());
    let good = std::fs::read(&saved).unwrap();
    let path = dir.path().join("bad.db");
    let edges = (0..good.len()).step_by(512).flat_map(|edge| [edge, edge + 1, edge + 32, edge + 511]);
    for len in edges.chain([1, 31, 33, good.len() - 1, good.len() - 32]).filter(|len| *len < good.len()) {
        std::fs::write(&path, &good[..len]).unwrap();
        assert!(SnapshotFile::open(&path, false).is_err(), "cut to {len} bytes");
        let whole = len >= good.len() - 32;
        assert_eq!(SnapshotFile::open(&path, true).is_ok(), whole, "cut to {len} bytes, hash skipped");
    }
}
