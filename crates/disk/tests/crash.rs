//! `kill -9` at any moment: what was promised is there, the tables hold whole changes, and both meet.
//!
//! The test starts itself as a child that writes and reports each promise; the parent kills it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use eyrie_disk::{
    tables::{Options, RedbTables},
    wal::{SEGMENT_BYTES_MIN, Wal, WalMeta, WalOptions},
};
use eyrie_raft::{Entry, EntryKind, HardState, LogStart};
use eyrie_state::{Bucket, Change, LogIndex, Position, TableOp, Tables, Term};

const CHILD: &str = "EYRIE_DISK_CRASH_DIR";
const META: WalMeta = WalMeta { cluster: 1, member: 1 };
const WAL: WalOptions = WalOptions { segment_bytes: SEGMENT_BYTES_MIN };

fn options() -> Options {
    Options { flush_interval: Duration::from_millis(3), reserve_bytes: 0, ..Options::default() }
}

fn change(index: u64) -> Change {
    let at = Position { main: index as i64 + 1, sub: 0 };
    let record = TableOp::PutRecord { at, tombstone: false, record: vec![index as u8; 300].into() };
    let row = TableOp::Put { bucket: Bucket::Meta, key: "last".into(), value: index.to_string().into() };
    Change { applied: Some((LogIndex(index), Term(1))), ops: vec![record, row] }
}

/// Opens what is there, checks it, and returns it with the last index.
fn recover(dir: &Path) -> (Wal, RedbTables, u64) {
    let (wal, log) = Wal::open(&dir.join("wal"), META, WAL).unwrap();
    let mut tables = RedbTables::open(&dir.join("tables.redb"), options()).unwrap();
    let applied = tables.applied().0.0;
    log.must_meet(applied).unwrap();
    let mut seen = 0;
    tables
        .view()
        .full_scan(&mut |at, _, record| {
            seen += 1;
            assert_eq!((at.main as u64, record[0]), (seen + 1, seen as u8));
            true
        })
        .unwrap();
    assert_eq!(seen, applied, "records and log position are of one commit");
    let mut row = String::new();
    tables.load(Bucket::Meta, &mut |_, v| row = String::from_utf8(v.to_vec()).unwrap()).unwrap();
    assert_eq!(row, if applied == 0 { String::new() } else { applied.to_string() });
    for entry in log.entries.iter().filter(|e| e.index > applied) {
        tables.stage(change(entry.index)).unwrap();
    }
    (wal, tables, log.last_index())
}

fn write_for_ever(dir: &Path) {
    let (mut wal, mut tables, mut last) = recover(dir);
    let handle = tables.handle();
    thread::spawn(move || {
        loop {
            handle.defragment().unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut out = std::io::stdout();
    loop {
        let count = 1 + last % 5;
        let batch: Vec<Entry> = (last + 1..=last + count)
            .map(|index| Entry { index, term: 1, kind: EntryKind::Normal, data: vec![index as u8; 500].into() })
            .collect();
        wal.append(&batch, Some(&HardState { term: 1, vote: 1, commit: last })).unwrap();
        wal.sync().unwrap();
        last += count;
        writeln!(out, "promised {last}").unwrap();
        for entry in &batch {
            tables.stage(change(entry.index)).unwrap();
        }
        let (index, term) = tables.durable_applied();
        if last % 50 < count {
            wal.release_before(&LogStart { index: index.0, term: term.0, ..LogStart::default() }).unwrap();
        }
    }
}

#[test]
fn promises_survive_kill_9() {
    if let Ok(dir) = env::var(CHILD) {
        write_for_ever(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    RedbTables::create(&dir.path().join("tables.redb")).unwrap();
    drop(Wal::create(&dir.path().join("wal"), META, &LogStart::default(), WAL).unwrap());
    let mut promised = 0;
    for round in 0..25u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "promises_survive_kill_9", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| line.rsplit_once("promised ").and_then(|(_, n)| n.parse::<u64>().ok()))
                .last()
        });
        thread::sleep(Duration::from_millis(60 + round * 17 % 150));
        child.kill().unwrap();
        child.wait().unwrap();
        promised = reader.join().unwrap().unwrap_or(promised);
        let (_wal, _tables, last) = recover(dir.path());
        assert!(last >= promised, "round {round}: {promised} was promised, {last} is there");
    }
    assert!(promised > 1000, "{promised}");
}
