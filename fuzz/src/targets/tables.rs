//! The tables' file: whatever happens to it, no record is served that was not written.

use std::cell::RefCell;
use std::time::Duration;

use eyrie_disk::tables::{Options, RedbTables, TablesBuilder};
use eyrie_state::{Bucket, LogIndex, Position, Records, Tables, Term};
use tempfile::TempDir;

use super::{Target, scratch};

/// Records in a whole file.
const RECORDS: i64 = 300;
/// Rows in its bucket `lease`.
const ROWS: u32 = 50;

thread_local! {
    static DIR: RefCell<TempDir> = RefCell::new(scratch::dir());
}

pub(super) const TARGET: Target = Target {
    name: "tables",
    what: "the file of the tables",
    corpus: || vec![DIR.with_borrow(whole)],
    reseal: None,
    // Small files are checked wholly at start, large ones record by record: both ways, whatever the size.
    run: |input| DIR.with_borrow(|dir| opens(dir, input, u64::MAX) | opens(dir, input, 0)),
};

fn opens(dir: &TempDir, input: &[u8], check_bytes_max: u64) -> bool {
    let path = dir.path().join("tables.redb");
    std::fs::write(&path, input).expect("write the tables");
    let flush_interval = Duration::from_secs(3600);
    let options = Options { flush_interval, reserve_bytes: 0, check_bytes_max, ..Options::default() };
    let Ok(tables) = RedbTables::open(&path, options) else { return false };
    let end = Position { main: i64::MAX, sub: 0 };
    let scanned = tables.records().scan(Position::default(), end, &mut |at, tombstone, bytes| {
        assert!((at, tombstone) == place(at.main), "a record is served at a place where none was written");
        assert!(*bytes == record(at.main), "the record at {at:?} is not what was written");
        true
    });
    let loaded = tables.load(Bucket::Lease, &mut |key, value| {
        assert!(value == row(key), "a row is not what was written");
    });
    scanned.is_ok() && loaded.is_ok()
}

fn whole(dir: &TempDir) -> Vec<u8> {
    let path = dir.path().join("whole.redb");
    let _ = std::fs::remove_file(&path);
    let mut builder = TablesBuilder::create(&path).expect("make tables");
    for main in 2..2 + RECORDS {
        let (at, tombstone) = place(main);
        builder.push_record(at, tombstone, &record(main)).expect("put a record");
    }
    for number in 0..ROWS {
        let key = number.to_be_bytes();
        builder.put(Bucket::Lease, &key, &row(&key)).expect("put a row");
    }
    builder.finish((LogIndex(RECORDS as u64), Term(1))).expect("finish the tables");
    std::fs::read(&path).expect("read the tables")
}

fn place(main: i64) -> (Position, bool) {
    (Position { main, sub: (main % 3) as u32 }, main % 7 == 0)
}

fn record(main: i64) -> Vec<u8> {
    format!("record {main} ").into_bytes().repeat(1 + (main % 20) as usize)
}

fn row(key: &[u8]) -> Vec<u8> {
    [b"row ", key].concat()
}
