//! A stopped upstream etcd's data directory adopted: nothing lost, nothing changed in the original.

mod interop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eyrie_disk::datadir::DataDir;
use eyrie_disk::etcd::{EtcdDir, SourceFault};
use eyrie_disk::tables::{Options, RedbTables};
use eyrie_state::{Revision, State};
use interop::Etcd;

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

fn open(data_dir: &Path) -> State<RedbTables> {
    let dir = DataDir::open(data_dir, None).unwrap();
    State::open(RedbTables::open(&dir.tables_path(), Options::default()).unwrap()).unwrap()
}

/// Every kind of request that a client can make, most of it after the database was last written.
fn work(etcd: &Etcd) -> String {
    // a compaction makes upstream write its database: most of the work comes after it
    etcd.ctl(&["put", "early", "1"]);
    etcd.ctl(&["put", "early", "2"]);
    etcd.ctl(&["compaction", "2"]);
    let lease = etcd.ctl(&["lease", "grant", "3600"]);
    let lease = lease.split(' ').nth(1).unwrap().to_owned();
    let gone = etcd.ctl(&["lease", "grant", "3600"]);
    let gone = gone.split(' ').nth(1).unwrap().to_owned();
    for n in 0..30 {
        etcd.ctl(&["put", &format!("k{n}"), "v", "--lease", if n % 2 == 0 { &lease } else { &gone }]);
    }
    etcd.ctl(&["del", "k20", "k25"]);
    etcd.ctl(&["del", "zz", "--from-key"]);
    etcd.ctl(&["lease", "revoke", &gone]);
    etcd.ctl(&["put", "plain", "1"]);
    etcd.ctl(&["put", "plain", "2", "--prev-kv"]);
    etcd.ctl(&["put", "plain", "--ignore-value", "--lease", &lease]);
    lease
}

#[test]
fn a_stopped_etcd_is_adopted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let etcd = Etcd::start_with(&source, &["--backend-batch-interval", "1h"]);
    let lease = work(&etcd);
    etcd.txn("mod(\"plain\") > \"0\"\nvalue(\"plain\") = \"2\"\n\nput t1 a\ndel k0\nget k2\n\nput t1 b\n\n");
    etcd.txn("version(\"plain\") = \"0\"\n\nput t2 a\n\nput t2 b\nput t3 c\n\n");
    let expected = etcd.hash_kv();
    let pairs = etcd.ctl(&["get", "", "--prefix", "-w", "json"]);
    let members: serde_json::Value = serde_json::from_str(&etcd.ctl(&["member", "list", "-w", "json"])).unwrap();
    // while it runs, it is not touched
    let running = EtcdDir::open(&source, None).unwrap_err();
    assert!(matches!(running, SourceFault::Running(_)), "{running}");
    etcd.kill();

    let before = files(&source);
    let opened = EtcdDir::open(&source, None).unwrap();
    assert!(opened.tail_len() >= 40, "the log holds what the database does not: {} entries", opened.tail_len());
    let data = dir.path().join("data");
    let adopted = opened.adopt(&data, None, None).unwrap();
    drop(opened);
    assert!(before == files(&source), "the original is untouched");

    let state = open(&data);
    let digest = state.hash_kv(None).unwrap().run().unwrap();
    assert_eq!((digest.hash, digest.compact_revision), expected);
    let pairs: serde_json::Value = serde_json::from_str(&pairs).unwrap();
    assert_eq!(state.revision(), Revision(pairs["header"]["revision"].as_i64().unwrap()));
    assert_eq!(adopted.keys, pairs["kvs"].as_array().unwrap().len());
    assert_eq!(state.leases().len(), 1);
    assert_eq!(format!("{:x}", state.leases().next().unwrap().id.0), lease);
    let member = state.members().next().unwrap();
    let theirs = &members["members"][0];
    assert_eq!(theirs["ID"].as_u64(), Some(member.id.0));
    assert_eq!(theirs["name"], member.name.as_str());
    assert_eq!(theirs["clientURLs"][0], member.client_urls[0].as_str());
    assert_eq!(state.cluster_version(), Some("3.5.0"));

    // the original still starts and says the same
    let etcd = Etcd::start(&source);
    assert_eq!(etcd.hash_kv(), expected);
}

#[test]
fn a_directory_that_was_shut_down_in_order_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let etcd = Etcd::start(&source);
    work(&etcd);
    let expected = etcd.hash_kv();
    etcd.stop();
    let data = dir.path().join("data");
    let opened = EtcdDir::open(&source, None).unwrap();
    opened.adopt(&data, None, Some("renamed")).unwrap();
    let digest = open(&data).hash_kv(None).unwrap().run().unwrap();
    assert_eq!((digest.hash, digest.compact_revision), expected);
    assert_eq!(DataDir::open(&data, None).unwrap().identity().name, "renamed");
    assert!(opened.adopt(&data, None, None).is_err(), "a store is never written over");
}

#[test]
fn what_cannot_be_translated_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let etcd = Etcd::start_with(&source, &["--backend-batch-interval", "1h"]);
    etcd.ctl(&["put", "a", "b"]);
    etcd.ctl(&["user", "add", "root", "--no-password"]);
    etcd.kill();
    let fault = EtcdDir::open(&source, None).unwrap_err().to_string();
    assert!(fault.contains("users, roles") && fault.contains("etcdctl snapshot save"), "{fault}");
    // started and stopped once more, all of it is in the database, and it is adopted
    Etcd::start(&source).stop();
    EtcdDir::open(&source, None).unwrap();
}

#[test]
fn a_damaged_log_is_named_and_a_missing_part_too() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let etcd = Etcd::start_with(&source, &["--backend-batch-interval", "1h"]);
    work(&etcd);
    etcd.ctl(&["put", "last", &"x".repeat(3000)]);
    etcd.kill();
    let wal = source.join("member/wal/0000000000000000-0000000000000000.wal");
    let good = std::fs::read(&wal).unwrap();
    let used = good.iter().rposition(|b| *b != 0).unwrap();
    let key = good.windows(3).position(|bytes| bytes == b"k11").unwrap();
    let mut bad = good.clone();
    bad[key] ^= 4;
    std::fs::write(&wal, &bad).unwrap();
    let fault = EtcdDir::open(&source, None).unwrap_err();
    assert!(matches!(fault, SourceFault::Wal { offset, .. } if offset.abs_diff(key as u64) < 64), "{fault}");
    // a torn last record is left out, as upstream leaves it out
    std::fs::write(&wal, &good).unwrap();
    let whole = EtcdDir::open(&source, None).unwrap().tail_len();
    bad.clone_from(&good);
    bad[used - 1200..].fill(0);
    std::fs::write(&wal, &bad).unwrap();
    let torn = EtcdDir::open(&source, None).unwrap();
    assert_eq!(torn.tail_len(), whole - 1);
    assert!(torn.torn().is_some());
    drop(torn);
    std::fs::remove_file(&wal).unwrap();
    assert!(EtcdDir::open(&source, None).unwrap_err().to_string().contains("no log segment"));
    std::fs::write(&wal, &good).unwrap();
    EtcdDir::open(&source, None).unwrap();
    assert!(matches!(EtcdDir::open(dir.path(), None), Err(SourceFault::Missing(_))));
}

#[test]
fn a_cluster_of_several_is_sent_to_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let etcd = Etcd::start(&source);
    etcd.ctl(&["put", "a", "b"]);
    etcd.ctl(&["member", "add", "other", "--learner", "--peer-urls", "http://127.0.0.1:1"]);
    etcd.kill();
    let fault = EtcdDir::open(&source, None).unwrap_err();
    assert!(matches!(fault, SourceFault::Several { members: 2, .. }), "{fault}");
    assert!(fault.to_string().contains("snapshot restore"));
}
