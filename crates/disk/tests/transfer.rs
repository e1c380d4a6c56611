//! Tables that travel from one member to another arrive equal, or not at all.

use std::path::Path;

use bytes::Bytes;
use eyrie_disk::tables::{Options, RedbTables};
use eyrie_disk::transfer::{Incoming, Outgoing, TransferFault, discard, install, settle};
use eyrie_state::{Bucket, Change, LogIndex, Position, TableOp, Tables, Term};

const APPLIED: (LogIndex, Term) = (LogIndex(70), Term(3));

fn tables(path: &Path, count: i64) -> RedbTables {
    RedbTables::create(path).unwrap();
    let mut tables = RedbTables::open(path, Options::default()).unwrap();
    for main in 2..count {
        let ops = vec![
            TableOp::PutRecord {
                at: Position { main, sub: 0 },
                tombstone: main % 7 == 0,
                record: vec![main as u8; (main % 900) as usize + 1].into(),
            },
            TableOp::Put {
                bucket: Bucket::Lease,
                key: Bytes::from(format!("{}", main % 50)),
                value: Bytes::from(format!("{main}")),
            },
        ];
        tables.stage(Change { applied: Some((LogIndex(main as u64), Term(1))), ops }).unwrap();
    }
    tables
}

fn pieces(tables: &RedbTables) -> Vec<Bytes> {
    let mut pieces = vec![];
    let take = |piece| {
        pieces.push(piece);
        true
    };
    Outgoing::new(tables.view()).send(0, take).unwrap();
    pieces
}

fn content(tables: &RedbTables) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = vec![];
    let view = tables.view();
    view.full_scan(&mut |at, tombstone, record| {
        all.push((format!("{at:?} {tombstone}").into_bytes(), record.to_vec()));
        true
    })
    .unwrap();
    for bucket in Bucket::ALL {
        view.bucket(bucket, &mut |key, value| all.push((key.to_vec(), value.to_vec()))).unwrap();
    }
    all
}

#[test]
fn tables_arrive_equal_and_take_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from.redb"), dir.path().join("tables.redb"));
    let source = tables(&from, 4000);
    let mut old = tables(&to, 30);
    let mut incoming = Incoming::begin(dir.path()).unwrap();
    let pieces = pieces(&source);
    assert!(pieces.len() > 3, "it is cut into pieces");
    for piece in &pieces {
        incoming.take(piece).unwrap();
    }
    let whole = incoming.finish(APPLIED).unwrap();
    old.retire();
    install(&whole, &to).unwrap();
    assert!(old.defragment().is_err(), "retired tables never touch the file again");
    let new = RedbTables::open(&to, Options::default()).unwrap();
    assert_eq!(content(&new), content(&source));
    assert_eq!(new.applied(), APPLIED);
    assert_eq!(
        content(&old).len(),
        content(&tables(&dir.path().join("other.redb"), 30)).len(),
        "old pictures stay readable"
    );
}

/// Broken off after every piece, some of them lost on the way or heard of too late: the same pieces, none twice.
#[test]
fn a_transfer_goes_on_where_it_was_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = tables(&dir.path().join("from.redb"), 4000);
    // Rows beyond one piece, so that it is broken off among them too.
    let row = |n: u64| TableOp::Put {
        bucket: if n % 2 == 0 { Bucket::Lease } else { Bucket::AuthUsers },
        key: Bytes::from(format!("row {n:05}")),
        value: vec![n as u8; 3000].into(),
    };
    source.stage(Change { applied: Some((LogIndex(4000), Term(1))), ops: (0..300).map(row).collect() }).unwrap();
    let whole = pieces(&source);
    assert!(whole.len() > 8, "{} pieces", whole.len());
    let view = source.view();
    let mut outgoing = Outgoing::new(view.clone());
    let mut incoming = Incoming::begin(dir.path()).unwrap();
    let mut stretches = 0;
    while !incoming.is_ended() {
        // What goes on meanwhile is not part of the picture.
        source.stage(Change { applied: None, ops: vec![row(1000 + stretches)] }).unwrap();
        let (first, mut handed) = (incoming.pieces(), 0);
        // Two are on their way when the line breaks, and are lost.
        let taken = outgoing.send(first, |piece| {
            handed += 1;
            assert_eq!(piece, whole[(first + handed - 1) as usize], "piece {handed} after {first}");
            if handed == 1 {
                incoming.take(&piece).unwrap();
            }
            handed < 3
        });
        assert_eq!(taken.is_ok(), first + 3 > whole.len() as u64, "{taken:?} after {first}");
        stretches += 1;
    }
    assert_eq!(stretches, whole.len() as u64);
    let never = outgoing.send(whole.len() as u64 + 9, |_| true);
    assert!(matches!(never, Err(TransferFault::Unsound(_))), "{never:?}");
    let whole = incoming.finish(APPLIED).unwrap();
    let to = dir.path().join("tables.redb");
    install(&whole, &to).unwrap();
    let arrived = content(&RedbTables::open(&to, Options::default()).unwrap());
    let picture: Vec<_> = content(&source).into_iter().filter(|(key, _)| !key.starts_with(b"row 01")).collect();
    assert_eq!(arrived, picture);
}

#[test]
fn what_was_damaged_cut_or_lost_on_the_way_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = tables(&dir.path().join("from.redb"), 900);
    let pieces = pieces(&source);
    let receive = |pieces: &[Bytes]| -> Result<(), TransferFault> {
        let mut incoming = Incoming::begin(dir.path())?;
        pieces.iter().try_for_each(|piece| incoming.take(piece))?;
        discard(&incoming.finish(APPLIED)?)
    };
    receive(&pieces).unwrap();
    assert!(receive(&pieces[..pieces.len() - 1]).is_err());
    assert!(receive(&pieces[1..]).is_err());
    assert!(receive(&[pieces.clone(), pieces.clone()].concat()).is_err());
    for at in [0, 3, 20, 5000, pieces[0].len() - 1] {
        let mut bad = pieces.clone();
        let mut bytes = bad[0].to_vec();
        bytes[at] ^= 4;
        bad[0] = bytes.into();
        assert!(receive(&bad).is_err(), "a flipped bit at {at}");
    }
}

#[test]
fn a_crash_before_or_after_the_log_began_anew_leaves_one_whole_store() {
    for log_start in [9, 70] {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("tables.redb");
        let source = tables(&dir.path().join("from.redb"), 200);
        drop(tables(&to, 30));
        let mut incoming = Incoming::begin(dir.path()).unwrap();
        pieces(&source).iter().for_each(|piece| incoming.take(piece).unwrap());
        let whole = incoming.finish(APPLIED).unwrap();
        let installed = settle(dir.path(), &to, LogIndex(log_start)).unwrap();
        assert_eq!(installed, log_start == 70);
        assert!(!whole.exists());
        let applied = RedbTables::open(&to, Options::default()).unwrap().applied();
        assert_eq!(applied == APPLIED, installed);
    }
}
