//! What Eyrie exports is what upstream's programs accept, with equal figures.

mod interop;

use std::path::Path;

use eyrie_disk::snapshot::{Export, SnapshotFile};
use eyrie_state::{Bucket, LogIndex, Term};
use interop::{Etcd, MemView, ok, record};

/// `records` puts over a third as many keys, some with leases, some deleted at the end.
fn view(records: i64, value_len: usize) -> MemView {
    let mut view = MemView { applied: (LogIndex(records as u64 + 4), Term(2)), ..MemView::default() };
    let keys = (records / 3).max(1);
    for n in 0..records {
        let (key, version) = (format!("key-{:08}", n % keys), n / keys + 1);
        let value = vec![b'a' + (n % 26) as u8; value_len];
        let lease = if n % 5 == 0 { 7587 } else { 0 };
        view.put(n + 2, 0, record(key.as_bytes(), &value, n % keys + 2, n + 2, version, lease));
    }
    let tombstone = record(b"key-00000000", b"", 0, 0, 0, 0);
    view.history.insert((eyrie_state::Position { main: records + 2, sub: 0 }, true), tombstone);
    view.put_small(Bucket::Lease, &7587i64.to_be_bytes(), b"\x08\xa3\x3b\x10\x90\x1c");
    view.put_small(Bucket::Cluster, b"clusterVersion", b"3.5.0");
    view
}

fn save(view: MemView, path: &Path) -> u64 {
    let export = Export::plan(view).unwrap();
    let file = export.write_to(std::fs::File::create(path).unwrap()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), export.len(), "the length was announced");
    export.len()
}

fn same_status(path: &Path) {
    let theirs = ok("etcdutl", &["snapshot", "status", path.to_str().unwrap(), "-w", "json"]);
    let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
    let ours = SnapshotFile::open(path, false).unwrap().status().unwrap();
    assert_eq!(theirs["hash"], ours.hash);
    assert_eq!(theirs["revision"], ours.revision);
    assert_eq!(theirs["totalKey"], ours.total_key);
    assert_eq!(theirs["totalSize"], ours.total_size);
}

#[test]
fn upstream_finds_exports_of_every_shape_sound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    // one leaf, several leaves, several branches by count, values larger than a leaf, nothing at all
    for (records, value_len) in [(10, 20), (5_000, 256), (200_000, 3), (40, 700_000)] {
        save(view(records, value_len), &path);
        same_status(&path);
    }
    save(MemView::default(), &path);
    same_status(&path);
    let mut leases = MemView::default();
    for id in 0..30_000i64 {
        leases.put_small(Bucket::Lease, &id.to_be_bytes(), b"\x08\xa3\x3b\x10\x90\x1c");
    }
    save(leases, &path);
    same_status(&path);
}

#[test]
fn upstream_serves_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    save(view(3_000, 256), &path);
    let ours = SnapshotFile::open(&path, false).unwrap().hash_kv(0).unwrap();

    let data = dir.path().join("restored");
    ok("etcdutl", &["snapshot", "restore", path.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    let etcd = Etcd::start(&data);
    let (hash, _) = etcd.hash_kv();
    assert_eq!((hash, 3_002), (ours.hash, ours.revision));
    assert_eq!(etcd.ctl(&["get", "key-00000005", "-w", "fields"]).matches("\"Version\" : 3").count(), 1);
    assert_eq!(etcd.ctl(&["get", "key-00000000"]), "", "deleted");
    assert_eq!(etcd.ctl(&["get", "key-00000000", "--rev", "3001"]).lines().count(), 2, "history travels");
    assert!(etcd.ctl(&["lease", "timetolive", "1da3"]).contains("granted with TTL(3600s)"));
    assert_eq!(etcd.ctl(&["get", "", "--prefix", "--keys-only"]).lines().filter(|l| !l.is_empty()).count(), 999);
    etcd.ctl(&["put", "key-00000005", "changed"]);
    etcd.ctl(&["compaction", "2500", "--physical"]);
    etcd.ctl(&["defrag"]);
    let saved = dir.path().join("again.db");
    etcd.ctl(&["snapshot", "save", saved.to_str().unwrap()]);
    let (hash, compacted) = etcd.hash_kv();
    let again = SnapshotFile::open(&saved, false).unwrap().hash_kv(0).unwrap();
    assert_eq!((again.hash, again.revision, again.compact_revision), (hash, 3_003, compacted));
    same_status(&saved);
}
