//! What every body of [`Tables`] must do, as one function that its tests call.

use bytes::Bytes;

use super::{Bucket, Change, Records, TableOp, Tables};
use crate::ids::{LogIndex, Position, Term};

type Seen = Vec<(Position, bool, Bytes)>;

/// Runs the whole suite, each part on fresh tables.
///
/// # Panics
/// When a promise is broken; the message says which.
pub fn suite<T: Tables>(make: impl Fn() -> T) {
    fresh_tables_are_empty(make());
    records_come_back_in_order(make());
    a_tombstone_is_scanned_but_not_read(make());
    a_scan_stops_when_told(make());
    a_view_is_frozen(make());
    drops_are_final(make());
    rows_are_kept_by_bucket(make());
    a_change_is_taken_in_order(make());
    housekeeping_moves_no_log_position(make());
}

fn fresh_tables_are_empty<T: Tables>(tables: T) {
    assert_eq!(tables.applied(), (LogIndex(0), Term(0)), "fresh tables have applied nothing");
    assert_eq!(scan_all(&tables.records()), [], "fresh tables have no records");
    for bucket in Bucket::ALL {
        assert_eq!(rows(&tables, bucket), [], "fresh tables have no rows in bucket {}", bucket.name());
    }
}

fn records_come_back_in_order<T: Tables>(mut tables: T) {
    for main in 2..300 {
        let subs = if main % 7 == 0 { 3 } else { 1 };
        stage(&mut tables, main, (0..subs).map(|sub| put(at(main, sub))).collect());
    }
    let records = tables.records();
    let all = scan_all(&records);
    assert!(all.is_sorted_by_key(|(at, ..)| *at), "a scan goes by position");
    assert_eq!(all.len(), 298 + 2 * 42, "a scan finds everything");
    for (at, tombstone, record) in &all {
        assert!(!tombstone);
        assert_eq!(*record, content(*at));
        assert_eq!(records.record(*at).unwrap().as_ref(), Some(record), "what is scanned can be read");
    }
    assert_eq!(records.record(at(5, 1)).unwrap(), None, "no record where none was put");
    assert_eq!(records.record(at(300, 0)).unwrap(), None, "no record after the end");
    let part: Vec<_> = scan(&records, at(7, 1), at(9, 0)).into_iter().map(|(at, ..)| at).collect();
    assert_eq!(part, [at(7, 1), at(7, 2), at(8, 0)], "a scan begins at `from` and ends before `to`");
    assert_eq!(scan(&records, at(9, 0), at(9, 0)), [], "an empty span has no records");
    assert_eq!(scan(&records, at(9, 0), at(7, 0)), [], "a reversed span has no records");
}

fn a_tombstone_is_scanned_but_not_read<T: Tables>(mut tables: T) {
    stage(&mut tables, 2, vec![put(at(2, 0))]);
    stage(&mut tables, 3, vec![TableOp::PutRecord { at: at(3, 0), tombstone: true, record: content(at(3, 0)) }]);
    let records = tables.records();
    assert_eq!(records.record(at(3, 0)).unwrap(), None, "a tombstone is no pair");
    let seen: Vec<_> = scan_all(&records).into_iter().map(|(at, tombstone, _)| (at, tombstone)).collect();
    assert_eq!(seen, [(at(2, 0), false), (at(3, 0), true)], "a scan tells tombstones apart");
}

fn a_scan_stops_when_told<T: Tables>(mut tables: T) {
    for main in 2..10 {
        stage(&mut tables, main, vec![put(at(main, 0))]);
    }
    let mut seen = 0;
    let visit = &mut |_, _, _: &Bytes| {
        seen += 1;
        seen < 3
    };
    tables.records().scan(at(0, 0), at(100, 0), visit).unwrap();
    assert_eq!(seen, 3, "a scan ends with the visit that says so");
}

fn a_view_is_frozen<T: Tables>(mut tables: T) {
    stage(&mut tables, 2, vec![put(at(2, 0))]);
    stage(&mut tables, 3, vec![put(at(3, 0))]);
    let before = tables.records();
    let copy = before.clone();
    stage(&mut tables, 4, vec![put(at(4, 0)), drop_record(at(2, 0))]);
    for view in [before, copy] {
        assert_eq!(view.record(at(2, 0)).unwrap(), Some(content(at(2, 0))), "a view keeps what is dropped later");
        assert_eq!(view.record(at(4, 0)).unwrap(), None, "a view does not see what comes later");
        assert_eq!(scan_all(&view).len(), 2, "a view scans what it reads");
    }
    let after = tables.records();
    assert_eq!(after.record(at(2, 0)).unwrap(), None, "a new view sees the drop");
    assert_eq!(after.record(at(4, 0)).unwrap(), Some(content(at(4, 0))), "a new view sees the put");
}

fn drops_are_final<T: Tables>(mut tables: T) {
    for main in 2..50 {
        stage(&mut tables, main, vec![put(at(main, 0))]);
    }
    stage(&mut tables, 50, (2..50).filter(|n| n % 2 == 0).map(|n| drop_record(at(n, 0))).collect());
    stage(&mut tables, 51, vec![drop_record(at(2, 0)), drop_record(at(1_000, 0))]);
    let left: Vec<_> = scan_all(&tables.records()).into_iter().map(|(at, ..)| at.main).collect();
    assert_eq!(left, (2..50).filter(|n| n % 2 == 1).collect::<Vec<_>>(), "dropped records are gone, others stay");
}

fn rows_are_kept_by_bucket<T: Tables>(mut tables: T) {
    for (number, bucket) in (1..).zip(Bucket::ALL) {
        let text = Bytes::from_static(bucket.name().as_bytes());
        let ops = [&b"k2"[..], b"k10", b"\xff", b"gone"].map(|key| TableOp::Put {
            bucket,
            key: Bytes::from_static(key),
            value: text.clone(),
        });
        stage(&mut tables, number, ops.into());
        let again = TableOp::Put { bucket, key: Bytes::from_static(b"k2"), value: Bytes::new() };
        let gone = TableOp::Delete { bucket, key: Bytes::from_static(b"gone") };
        let never = TableOp::Delete { bucket, key: Bytes::from_static(b"never") };
        stage(&mut tables, number, vec![again, gone, never]);
    }
    for bucket in Bucket::ALL {
        let text = bucket.name().as_bytes().to_vec();
        let want = [(b"k10".to_vec(), text.clone()), (b"k2".to_vec(), vec![]), (b"\xff".to_vec(), text)];
        assert_eq!(rows(&tables, bucket), want, "bucket {} has its own rows, in key order", bucket.name());
    }
}

fn a_change_is_taken_in_order<T: Tables>(mut tables: T) {
    let row = |value: &'static str| TableOp::Put {
        bucket: Bucket::Meta,
        key: Bytes::from_static(b"row"),
        value: Bytes::from_static(value.as_bytes()),
    };
    let delete = TableOp::Delete { bucket: Bucket::Meta, key: Bytes::from_static(b"row") };
    stage(&mut tables, 1, vec![row("a"), delete, row("b")]);
    assert_eq!(rows(&tables, Bucket::Meta), [(b"row".to_vec(), b"b".to_vec())], "the last step of a change wins");
}

fn housekeeping_moves_no_log_position<T: Tables>(mut tables: T) {
    stage(&mut tables, 7, vec![put(at(2, 0))]);
    assert_eq!(tables.applied(), (LogIndex(7), Term(3)), "a change moves the position");
    tables.stage(Change { applied: None, ops: vec![drop_record(at(2, 0))] }).unwrap();
    assert_eq!(tables.applied(), (LogIndex(7), Term(3)), "housekeeping does not");
    assert_eq!(scan_all(&tables.records()), [], "but it is carried out");
    tables.stage(Change { applied: Some((LogIndex(8), Term(4))), ops: vec![] }).unwrap();
    assert_eq!(tables.applied(), (LogIndex(8), Term(4)), "an empty change moves the position");
}

fn at(main: i64, sub: u32) -> Position {
    Position { main, sub }
}

fn content(at: Position) -> Bytes {
    format!("record {} {} {}", at.main, at.sub, "x".repeat(at.main as usize % 40)).into()
}

fn put(at: Position) -> TableOp {
    TableOp::PutRecord { at, tombstone: false, record: content(at) }
}

fn drop_record(at: Position) -> TableOp {
    TableOp::DropRecord { at, tombstone: false }
}

fn stage<T: Tables>(tables: &mut T, index: i64, ops: Vec<TableOp>) {
    let applied = Some((LogIndex(index.cast_unsigned()), Term(3)));
    tables.stage(Change { applied, ops }).expect("tables take a change");
}

fn scan_all(records: &impl Records) -> Seen {
    scan(records, Position::default(), at(i64::MAX, u32::MAX))
}

fn scan(records: &impl Records, from: Position, to: Position) -> Seen {
    let mut seen = Vec::new();
    records
        .scan(from, to, &mut |at, tombstone, record| {
            seen.push((at, tombstone, record.clone()));
            true
        })
        .expect("tables can be scanned");
    seen
}

fn rows<T: Tables>(tables: &T, bucket: Bucket) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    tables.load(bucket, &mut |key, value| rows.push((key.to_vec(), value.to_vec()))).expect("tables can be loaded");
    rows
}
