//! The tables keep whole changes, show each view what it should see, and never serve a byte that was not written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eyrie_disk::tables::{OnCommit, Options, RedbTables, TablesBuilder, View};
use eyrie_state::{Bucket, Change, LogIndex, Position, Records, TableFault, TableOp, Tables, Term};
use proptest::prelude::*;

fn at(main: i64, sub: u32) -> Position {
    Position { main, sub }
}

fn record(main: i64) -> Bytes {
    let text = format!("record {main} ").into_bytes();
    text.iter().copied().cycle().take(40 + (main % 200) as usize).collect::<Vec<u8>>().into()
}

fn put(main: i64) -> TableOp {
    TableOp::PutRecord { at: at(main, 0), tombstone: false, record: record(main) }
}

fn drop_record(main: i64) -> TableOp {
    TableOp::DropRecord { at: at(main, 0), tombstone: false }
}

fn row(bucket: Bucket, key: &str, value: &str) -> TableOp {
    TableOp::Put { bucket, key: key.to_string().into(), value: value.to_string().into() }
}

fn change(index: u64, ops: Vec<TableOp>) -> Change {
    Change { applied: Some((LogIndex(index), Term(1))), ops }
}

fn quick() -> Options {
    Options { flush_interval: Duration::from_millis(1), reserve_bytes: 0, ..Options::default() }
}

fn lazy() -> Options {
    Options { flush_interval: Duration::from_secs(3600), reserve_bytes: 0, ..Options::default() }
}

fn fresh(dir: &Path, options: Options) -> RedbTables {
    let path = dir.join("tables.redb");
    RedbTables::create(&path).unwrap();
    RedbTables::open(&path, options).unwrap()
}

fn reopen(tables: RedbTables, dir: &Path) -> RedbTables {
    drop(tables);
    RedbTables::open(&dir.join("tables.redb"), quick()).unwrap()
}

/// All that a view shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Picture {
    applied: (LogIndex, Term),
    history: Vec<(Position, bool, Bytes)>,
    small: BTreeMap<(Bucket, Vec<u8>), Vec<u8>>,
}

fn picture(view: &View) -> Result<Picture, TableFault> {
    let mut history = Vec::new();
    view.full_scan(&mut |at, tombstone, record| {
        history.push((at, tombstone, record.clone()));
        true
    })?;
    let mut small = BTreeMap::new();
    for bucket in Bucket::ALL {
        view.bucket(bucket, &mut |k, v| {
            small.insert((bucket, k.to_vec()), v.to_vec());
        })?;
    }
    for (at, tombstone, record) in &history {
        assert_eq!(view.record(*at)?.as_ref(), (!tombstone).then_some(record));
    }
    Ok(Picture { applied: view.applied(), history, small })
}

#[test]
fn the_common_suite_holds_whenever_commits_happen() {
    for options in [quick(), lazy(), Options { flush_bytes: 1, ..lazy() }] {
        let dirs = std::cell::RefCell::new(Vec::new());
        eyrie_state::tables::suite(|| {
            let dir = tempfile::tempdir().unwrap();
            let tables = fresh(dir.path(), options.clone());
            dirs.borrow_mut().push(dir);
            tables
        });
    }
}

#[test]
fn what_was_flushed_comes_back_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = fresh(dir.path(), lazy());
    for i in 1..=50 {
        tables.stage(change(i, vec![put(i as i64 + 1), row(Bucket::Lease, &format!("l{i}"), "x")])).unwrap();
    }
    assert_eq!(tables.durable_applied().0, LogIndex(0));
    tables.flush().unwrap();
    assert_eq!(tables.durable_applied(), (LogIndex(50), Term(1)));
    let before = picture(&tables.view()).unwrap();
    tables.stage(change(51, vec![put(99)])).unwrap();
    let tables = reopen(tables, dir.path());
    assert_eq!(picture(&tables.view()).unwrap(), before, "what was not flushed is not there in part");
}

#[test]
fn a_view_stays_as_it_was_through_commits_drops_and_defragmentation() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = fresh(dir.path(), quick());
    let mut kept = Vec::new();
    for i in 1..=120i64 {
        let mut ops = vec![put(i), row(Bucket::Meta, "index", &i.to_string())];
        if i % 10 == 0 {
            ops.extend((i - 9..i).filter(|n| n % 3 == 0).map(drop_record));
        }
        tables.stage(change(i as u64, ops)).unwrap();
        if i % 17 == 0 {
            let view = tables.view();
            kept.push((picture(&view).unwrap(), view));
        }
        if i % 40 == 0 {
            tables.defragment().unwrap();
        }
    }
    for (before, view) in &kept {
        assert_eq!(&picture(view).unwrap(), before);
    }
}

#[test]
fn a_bucket_reads_staged_over_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = fresh(dir.path(), lazy());
    let ops = ["a", "c", "e"].map(|k| row(Bucket::Auth, k, "old"));
    tables.stage(change(1, ops.into())).unwrap();
    tables.flush().unwrap();
    let gone = TableOp::Delete { bucket: Bucket::Auth, key: "c".into() };
    tables
        .stage(change(
            2,
            vec![row(Bucket::Auth, "b", "new"), gone, row(Bucket::Auth, "e", "new"), row(Bucket::Auth, "f", "new")],
        ))
        .unwrap();
    let rows = |view: &View| {
        let mut out = Vec::new();
        view.bucket(Bucket::Auth, &mut |k, v| out.push(format!("{}={}", k.escape_ascii(), v.escape_ascii()))).unwrap();
        out.join(" ")
    };
    assert_eq!(rows(&tables.view()), "a=old b=new e=new f=new");
    tables.flush().unwrap();
    assert_eq!(rows(&tables.view()), "a=old b=new e=new f=new");
}

#[test]
fn a_record_out_of_order_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = fresh(dir.path(), quick());
    tables.stage(change(1, vec![put(5)])).unwrap();
    assert!(matches!(tables.stage(change(2, vec![put(5)])), Err(TableFault::Damaged { .. })));
    let mut tables = reopen(
        {
            tables.flush().unwrap();
            tables
        },
        dir.path(),
    );
    assert!(tables.stage(change(2, vec![put(4)])).is_err());
    tables.stage(change(2, vec![put(6)])).unwrap();
}

#[test]
fn a_built_file_is_the_same_as_a_grown_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = fresh(dir.path(), quick());
    tables.stage(change(7, (1..2000).map(put).chain([row(Bucket::Lease, "k", "v")]).collect())).unwrap();
    tables.flush().unwrap();
    let path = dir.path().join("built.redb");
    let mut builder = TablesBuilder::create(&path).unwrap();
    builder.put(Bucket::Lease, b"k", b"old").unwrap();
    for i in 1..2000 {
        builder.push_record(at(i, 0), false, &record(i)).unwrap();
    }
    builder.put(Bucket::Lease, b"k", b"v").unwrap();
    assert!(builder.push_record(at(3, 0), false, b"").is_err());
    builder.finish((LogIndex(7), Term(1))).unwrap();
    let built = RedbTables::open(&path, quick()).unwrap();
    assert_eq!(picture(&built.view()).unwrap(), picture(&tables.view()).unwrap());
}

#[test]
fn every_commit_is_told_with_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ear = heard.clone();
    let on_commit = OnCommit::new(move |took| ear.lock().unwrap().push(took));
    let mut tables = fresh(dir.path(), Options { on_commit, ..lazy() });
    for i in 1..=3 {
        tables.stage(change(i, vec![put(i as i64)])).unwrap();
        tables.flush().unwrap();
        let heard = heard.lock().unwrap();
        assert!(heard.len() as u64 == i && heard.iter().all(|took| !took.is_zero()), "{heard:?}");
    }
}

#[test]
fn defragmentation_gives_room_back_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = fresh(dir.path(), Options { flush_interval: Duration::from_millis(5), ..quick() });
    for chunk in 0..100i64 {
        let ops = (0..500).map(|i| TableOp::PutRecord {
            at: at(chunk + 1, i),
            tombstone: false,
            record: vec![i as u8; 300].into(),
        });
        tables.stage(change(chunk as u64 + 1, ops.collect())).unwrap();
    }
    let drops =
        (2..100).flat_map(|main| (0..500).map(move |sub| TableOp::DropRecord { at: at(main, sub), tombstone: false }));
    tables.stage(Change { applied: None, ops: drops.collect() }).unwrap();
    tables.flush().unwrap();
    let before = tables.sizes().unwrap();
    assert!(before.in_use_bytes * 4 < before.file_bytes, "{before:?}");
    let handle = tables.handle();
    let done = Arc::new(AtomicBool::new(false));
    let flag = done.clone();
    let thread = std::thread::spawn(move || {
        handle.defragment().unwrap();
        flag.store(true, Ordering::SeqCst);
    });
    let mut i = 101;
    while !done.load(Ordering::SeqCst) || i < 400 {
        tables
            .stage(change(i, vec![put(i as i64), drop_record(i as i64 - 1), row(Bucket::Meta, "i", &i.to_string())]))
            .unwrap();
        i += 1;
        std::thread::sleep(Duration::from_micros(500));
    }
    thread.join().unwrap();
    let after = tables.sizes().unwrap();
    assert!(after.file_bytes * 2 < before.file_bytes, "{before:?} {after:?}");
    let shown = picture(&tables.view()).unwrap();
    assert_eq!(shown.history.len(), 1000, "two revisions of 500, less the first dropped one, and the last");
    assert_eq!(shown.small[&(Bucket::Meta, b"i".to_vec())], (i - 1).to_string().into_bytes());
    tables.flush().unwrap();
    assert_eq!(picture(&reopen(tables, dir.path()).view()).unwrap(), shown);
    assert!(!dir.path().join("tables.redb.new").exists());
}

#[test]
fn an_unfinished_copy_is_removed_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let tables = fresh(dir.path(), quick());
    fs::write(dir.path().join("tables.redb.new"), b"half").unwrap();
    drop(reopen(tables, dir.path()));
    assert!(!dir.path().join("tables.redb.new").exists());
}

fn small_file(dir: &Path) -> (PathBuf, Picture) {
    let path = dir.join("tables.redb");
    let mut tables = fresh(dir, lazy());
    for i in 1..=60i64 {
        tables.stage(change(i as u64, vec![put(i), row(Bucket::Lease, &format!("l{i}"), "some value")])).unwrap();
        if i % 20 == 0 {
            tables.flush().unwrap();
        }
    }
    let shown = picture(&tables.view()).unwrap();
    drop(tables);
    (path, shown)
}

/// What opening a file shows, or why it does not open.
fn look(path: &Path, options: Options) -> Result<Picture, TableFault> {
    let tables = RedbTables::open(path, options)?;
    picture(&tables.view())
}

fn flips(options: &Options, spots: usize) {
    // In memory where possible: every flip opens the file anew.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (path, good) = small_file(dir.path());
    let bytes = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != 0).collect();
    // The first page byte by byte, then all that is not zero in strides that meet every page, and some zeros.
    let stride = (used.len() / spots).max(1);
    let places = (0..512).chain(used.iter().copied().step_by(stride)).chain((512..bytes.len()).step_by(4099));
    let (mut found, mut harmless) = (0, 0);
    for place in places {
        let mut bad = bytes.clone();
        bad[place] ^= 1 << (place % 8);
        fs::write(&path, &bad).unwrap();
        match look(&path, options.clone()) {
            Err(TableFault::Damaged { what, .. }) => {
                assert!(what.contains("snapshot restore"), "{what}");
                found += 1;
            }
            Err(other) => panic!("byte {place}: {other}"),
            Ok(shown) => {
                assert!(shown == good, "byte {place} of {}", bytes.len());
                harmless += 1;
            }
        }
    }
    assert!(found > spots / 10 && harmless > 0, "{found} found, {harmless} harmless");
}

#[test]
fn a_flipped_byte_is_found_or_harmless() {
    flips(&lazy(), 5000);
}

/// The second guard alone, which large files rely on: checksums of records, their count and sum.
#[test]
fn a_flipped_byte_is_not_served_even_where_pages_are_not_checked() {
    flips(&Options { check_bytes_max: 0, ..lazy() }, 5000);
}

#[test]
fn a_file_cut_anywhere_is_found() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (path, good) = small_file(dir.path());
    let bytes = fs::read(&path).unwrap();
    for len in (0..300).chain((300..bytes.len()).step_by(1777)) {
        fs::write(&path, &bytes[..len]).unwrap();
        if let Ok(shown) = look(&path, lazy()) {
            assert!(shown == good, "cut to {len}");
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(look(&path, lazy()), Err(TableFault::Damaged { .. })));
    assert!(!path.exists(), "a missing file is not made anew");
    fs::write(&path, b"").unwrap();
    assert!(look(&path, lazy()).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Put { count: u32, tombstone: bool },
    Drop { back: i64, count: i64 },
    Row { bucket: usize, key: u8, value: Option<u8> },
    Flush,
    Defragment,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u32..4, any::<bool>()).prop_map(|(count, tombstone)| Step::Put { count, tombstone }),
        3 => (0i64..30, 1i64..100).prop_map(|(back, count)| Step::Drop { back, count }),
        4 => (0usize..9, 0u8..5, any::<Option<u8>>()).prop_map(|(bucket, key, value)| Step::Row { bucket, key, value }),
        1 => Just(Step::Flush),
        1 => Just(Step::Defragment),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// Against plain maps, commits coming at any moment.
    #[test]
    fn any_use_shows_what_plain_maps_show(steps in prop::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut tables = fresh(dir.path(), quick());
        let mut history: BTreeMap<Position, (bool, Bytes)> = BTreeMap::new();
        let mut small = BTreeMap::new();
        let mut main = 0;
        let mut index = 0;
        for step in steps {
            let mut ops = Vec::new();
            match step {
                Step::Put { count, tombstone } => {
                    main += 1;
                    for sub in 0..count {
                        history.insert(at(main, sub), (tombstone, record(main)));
                        ops.push(TableOp::PutRecord { at: at(main, sub), tombstone, record: record(main) });
                    }
                }
                Step::Drop { back, count } => {
                    let (from, to) = (at(main - back - count, 0), at(main - back, 0));
                    let gone: Vec<Position> = history.range(from..to).map(|(k, _)| *k).collect();
                    for at in gone {
                        let (tombstone, _) = history.remove(&at).unwrap();
                        ops.push(TableOp::DropRecord { at, tombstone });
                    }
                }
                Step::Row { bucket, key, value } => {
                    let bucket = Bucket::ALL[bucket];
                    let key = vec![key];
                    match value {
                        Some(v) => {
                            small.insert((bucket, key.clone()), vec![v]);
                            ops.push(TableOp::Put { bucket, key: key.into(), value: vec![v].into() });
                        }
                        None => {
                            small.remove(&(bucket, key.clone()));
                            ops.push(TableOp::Delete { bucket, key: key.into() });
                        }
                    }
                }
                Step::Flush => tables.flush().unwrap(),
                Step::Defragment => tables.defragment().unwrap(),
                Step::Reopen => {
                    tables.flush().unwrap();
                    tables = reopen(tables, dir.path());
                }
            }
            if !ops.is_empty() {
                index += 1;
                tables.stage(change(index, ops)).unwrap();
            }
        }
        let shown = picture(&tables.view()).unwrap();
        prop_assert_eq!(shown.applied.0, LogIndex(index));
        prop_assert_eq!(shown.small, small);
        let history: Vec<_> = history.into_iter().map(|(at, (t, r))| (at, t, r)).collect();
        prop_assert_eq!(shown.history, history);
    }
}
