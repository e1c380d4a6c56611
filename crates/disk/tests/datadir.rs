//! A store begins only where nothing is, goes on only where all is, and says what it found otherwise.

use std::{fs, path::Path};

use eyrie_disk::{
    datadir::{DataDir, DirError, Identity, Kind},
    tables::RedbTables,
    wal::{Wal, WalMeta, WalOptions},
};
use eyrie_raft::LogStart;
use eyrie_state::{ClusterId, MemberId};

fn identity() -> Identity {
    Identity { cluster: ClusterId(0xc1), member: MemberId(0xa1), name: "default".into() }
}

fn fill(dir: &DataDir) {
    RedbTables::create(&dir.tables_path()).unwrap();
    let meta = WalMeta { cluster: 0xc1, member: 0xa1 };
    Wal::create(dir.wal_path(), meta, &LogStart::default(), WalOptions { segment_bytes: 1 << 20 }).unwrap();
}

fn make(path: &Path, wal: Option<&Path>) {
    let dir = DataDir::create(path, wal, identity()).unwrap();
    fill(&dir);
    dir.finish().unwrap();
}

fn refused(path: &Path) -> String {
    let create = DataDir::create(path, None, identity()).unwrap_err();
    let open = DataDir::open(path, None).unwrap_err();
    assert_eq!(create.to_string(), open.to_string());
    create.to_string()
}

#[test]
fn a_store_is_made_once_and_opened_after() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b");
    assert_eq!(DataDir::inspect(&path).unwrap(), Kind::Absent);
    make(&path, None);
    assert_eq!(DataDir::inspect(&path).unwrap(), Kind::Eyrie { version: 1 });
    let dir = DataDir::open(&path, None).unwrap();
    assert_eq!(dir.identity(), &identity());
    match DataDir::open(&path, None) {
        Err(DirError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(dir);
    DataDir::open(&path, None).unwrap();
    let e = DataDir::create(&path, None, identity()).unwrap_err().to_string();
    assert!(e.contains("already holds a store"), "{e}");
}

#[test]
fn an_unfinished_store_is_begun_afresh() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("d");
    for steps in 0..3 {
        let dir = DataDir::create(&path, None, identity()).unwrap();
        if steps > 0 {
            fill(&dir);
        }
        drop(dir);
        assert_eq!(DataDir::inspect(&path).unwrap(), Kind::Unfinished);
        assert!(DataDir::open(&path, None).is_err());
    }
    make(&path, None);
    DataDir::open(&path, None).unwrap();
}

#[test]
fn a_store_that_lost_a_part_is_never_begun_anew() {
    for lost in ["tables.redb", "wal", "eyrie"] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d");
        make(&path, None);
        let part = path.join(lost);
        if part.is_dir() {
            fs::remove_dir_all(&part).unwrap()
        } else {
            fs::remove_file(&part).unwrap()
        }
        assert!(matches!(DataDir::inspect(&path).unwrap(), Kind::HalfDeleted { .. }), "{lost}");
        let e = refused(&path);
        assert!(e.contains("lost a part") && e.contains("snapshot restore"), "{e}");
        assert!(!part.exists());
    }
}

#[test]
fn foreign_newer_and_upstream_directories_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let etcd = root.path().join("etcd");
    fs::create_dir_all(etcd.join("member/wal")).unwrap();
    let e = refused(&etcd);
    assert!(e.contains(&format!("eyrie utl migrate --from {} --data-dir NEW", etcd.display())), "{e}");

    let foreign = root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "x").unwrap();
    assert!(refused(&foreign).contains("thesis.txt"));

    let newer = root.path().join("newer");
    make(&newer, None);
    let text = fs::read_to_string(newer.join("eyrie")).unwrap();
    fs::write(newer.join("eyrie"), text.replacen("eyrie-data-dir 1 ", "eyrie-data-dir 2 ", 1)).unwrap();
    assert_eq!(DataDir::inspect(&newer).unwrap(), Kind::Newer { version: 2 });
    assert!(refused(&newer).contains("newer eyrie"));

    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(refused(&file).contains("not a directory"));
}

#[test]
fn every_flipped_byte_of_the_identity_refuses() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("d");
    make(&path, None);
    let good = fs::read(path.join("eyrie")).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(path.join("eyrie"), &bad).unwrap();
        assert!(DataDir::open(&path, None).is_err(), "bit {bit}");
        assert!(DataDir::create(&path, None, identity()).is_err(), "bit {bit}");
    }
    fs::write(path.join("eyrie"), &good).unwrap();
    DataDir::open(&path, None).unwrap();
}

#[test]
fn a_log_elsewhere_is_found_and_may_be_moved() {
    let root = tempfile::tempdir().unwrap();
    let (path, wal) = (root.path().join("d"), root.path().join("log"));
    make(&path, Some(&wal));
    assert_eq!(DataDir::open(&path, None).unwrap().wal_path(), wal);
    let moved = root.path().join("moved");
    let e = DataDir::open(&path, Some(&moved)).unwrap_err().to_string();
    assert!(e.contains("--wal-dir"), "{e}");
    fs::rename(&wal, &moved).unwrap();
    assert_eq!(DataDir::open(&path, Some(&moved)).unwrap().wal_path(), moved);
    assert!(matches!(DataDir::inspect(&path).unwrap(), Kind::HalfDeleted { .. }));
}

#[test]
fn a_new_store_never_takes_over_a_foreign_log() {
    let root = tempfile::tempdir().unwrap();
    let wal = root.path().join("log");
    fs::create_dir(&wal).unwrap();
    let theirs = wal.join("0000000000000000-0000000000000000.wal");
    fs::write(&theirs, "theirs").unwrap();
    let path = root.path().join("d");
    assert!(DataDir::create(&path, Some(&wal), identity()).is_err());
    // Not even where an unfinished store is cleared first.
    drop(DataDir::create(&path, None, identity()).unwrap());
    assert!(DataDir::create(&path, Some(&wal), identity()).is_err());
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
}
