//! The log keeps what was synced, cuts what was torn, and names what is damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eyrie_disk::wal::{Apart, Recovered, SEGMENT_BYTES_MIN, Wal, WalError, WalMeta, WalOptions};
use eyrie_raft::{Entry, EntryKind, HardState, LogStart, Membership};
use proptest::prelude::*;

const META: WalMeta = WalMeta { cluster: 0xc1, member: 0xa1 };
const SMALL: WalOptions = WalOptions { segment_bytes: SEGMENT_BYTES_MIN };

fn start(index: u64, term: u64) -> LogStart {
    LogStart { index, term, membership: Membership { voters: vec![0xa1], learners: vec![7] } }
}

fn entry(index: u64, term: u64, len: usize) -> Entry {
    let kind = if index.is_multiple_of(5) { EntryKind::Membership } else { EntryKind::Normal };
    let data = (0..len).map(|i| (index as usize + i) as u8).collect::<Vec<_>>();
    Entry { index, term, kind, data: data.into() }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|i| entry(i, term, (i % 40) as usize)).collect()
}

fn hard(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 0xa1, commit }
}

fn create(dir: &Path) -> Wal {
    Wal::create(dir, META, &start(0, 0), SMALL).unwrap()
}

fn open(dir: &Path) -> Result<Recovered, WalError> {
    Wal::open(dir, META, SMALL).map(|(_, r)| r)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|x| x == "wal"))
        .collect();
    found.sort();
    found
}

/// The log as a crash would leave it: nothing of what closing adds.
fn crashed(wal: &Wal, dir: &Path) -> tempfile::TempDir {
    let _alive = wal;
    let copy = tempfile::tempdir().unwrap();
    for path in segments(dir) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn what_was_synced_comes_back_and_can_be_continued() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=20, 1), Some(&hard(1, 0))).unwrap();
    wal.sync().unwrap();
    wal.append(&[], Some(&hard(1, 20))).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (mut wal, r) = Wal::open(dir.path(), META, SMALL).unwrap();
    assert_eq!((r.start.clone(), r.hard_state, r.torn.clone()), (start(0, 0), hard(1, 20), None));
    assert_eq!(r.entries, entries(1..=20, 1));
    wal.append(&entries(21..=25, 2), Some(&hard(2, 25))).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let r = open(dir.path()).unwrap();
    assert_eq!(r.entries, [entries(1..=20, 1), entries(21..=25, 2)].concat());
    assert_eq!(r.hard_state, hard(2, 25));
}

#[test]
fn a_conflicting_suffix_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=10, 1), None).unwrap();
    wal.append(&entries(6..=7, 3), Some(&hard(3, 7))).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(dir.path()).unwrap().entries, [entries(1..=5, 1), entries(6..=7, 3)].concat());
}

#[test]
fn old_segments_are_released_and_the_rest_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    for first in (1..=60).step_by(10) {
        wal.append(&entries(first..=first + 9, 1), Some(&hard(1, first - 1))).unwrap();
        wal.sync().unwrap();
        wal.rotate().unwrap();
    }
    let before = wal.bytes_on_disk();
    assert_eq!(segments(dir.path()).len(), 7);
    wal.release_before(&start(35, 1)).unwrap();
    assert_eq!(segments(dir.path()).len(), 4, "segments with entries above 35 stay");
    assert!(wal.bytes_on_disk() < before);
    drop(wal);
    let r = open(dir.path()).unwrap();
    assert_eq!((r.start, r.hard_state), (start(35, 1), hard(1, 50)));
    assert_eq!(r.entries, entries(36..=60, 1));
    // The segment that holds entry 36 is deleted by hand: entries are missing, and said so.
    fs::remove_file(&segments(dir.path())[0]).unwrap();
    let e = open(dir.path()).unwrap_err().to_string();
    assert!(e.contains("are missing"), "{e}");
}

#[test]
fn a_start_beyond_the_log_begins_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=5, 1), Some(&hard(1, 5))).unwrap();
    wal.sync().unwrap();
    wal.release_before(&start(100, 4)).unwrap();
    wal.append(&entries(101..=103, 4), None).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let r = open(dir.path()).unwrap();
    assert_eq!((r.start.index, r.entries), (100, entries(101..=103, 4)));
    assert_eq!(r.hard_state, HardState { term: 4, vote: 0, commit: 100 }, "the start proves commit and term");
}

/// The tables were replaced by a snapshot: whatever the old log held, before, around or beyond the new beginning, is gone.
#[test]
fn a_log_that_is_begun_anew_forgets_all_that_was() {
    for (old, begin) in [(0, 40), (20, 40), (60, 40), (60, 55)] {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = create(dir.path());
        for at in 1..=old {
            wal.append(&entries(at..=at, 1), Some(&hard(1, 10.min(at)))).unwrap();
            if at % 50 == 0 {
                wal.rotate().unwrap();
            }
        }
        wal.sync().unwrap();
        let before = crashed(&wal, dir.path());
        wal.restart_after(&start(begin, 4), hard(4, begin)).unwrap();
        let after = crashed(&wal, dir.path());
        let read = open(after.path()).unwrap();
        assert_eq!((read.start, read.hard_state, read.entries), (start(begin, 4), hard(4, begin), vec![]));
        // Killed before the old segments were removed: the same.
        for path in segments(before.path()) {
            let place = after.path().join(path.file_name().unwrap());
            if !place.exists() {
                fs::copy(&path, place).unwrap();
            }
        }
        let read = open(after.path()).unwrap();
        assert_eq!((read.start, read.hard_state, read.entries), (start(begin, 4), hard(4, begin), vec![]));
        wal.append(&entries(begin + 1..=begin + 3, 4), Some(&hard(4, begin + 2))).unwrap();
        wal.sync().unwrap();
        let read = open(crashed(&wal, dir.path()).path()).unwrap();
        assert_eq!(read.entries, entries(begin + 1..=begin + 3, 4));
    }
}

#[test]
fn large_batches_get_a_segment_of_their_own_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    let large: Vec<Entry> = (1..=8).map(|i| entry(i, 1, 700_000)).collect();
    wal.append(&large, Some(&hard(1, 8))).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(dir.path()).unwrap().entries, large);
}

#[test]
fn an_unsynced_tail_that_is_cut_anywhere_leaves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=3, 1), Some(&hard(1, 0))).unwrap();
    wal.sync().unwrap();
    let used = |dir: &Path| {
        let bytes = fs::read(&segments(dir)[0]).unwrap();
        bytes.iter().rposition(|b| *b != 0).unwrap() + 1
    };
    let synced = used(dir.path());
    wal.append(&entries(4..=6, 1), Some(&hard(1, 3))).unwrap();
    let copy = crashed(&wal, dir.path());
    let file = segments(copy.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    for cut in synced..used(copy.path()) {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        fs::write(&file, &torn).unwrap();
        let r = open(copy.path()).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert!(r.entries.starts_with(&entries(1..=3, 1)), "cut at {cut}");
        assert!(entries(1..=6, 1).starts_with(&r.entries), "cut at {cut}");
        let again = open(copy.path()).unwrap();
        assert_eq!((again.torn, again.entries), (None, r.entries), "the cut is lasting");
    }
}

/// A power loss keeps the pages of an unsynced write in any order: a later page alone must not look like damage.
#[test]
fn an_unsynced_batch_with_its_first_page_lost_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=3, 1), None).unwrap();
    wal.sync().unwrap();
    let batch: Vec<Entry> = (4..=40).map(|i| entry(i, 1, 300)).collect();
    wal.append(&batch, Some(&hard(1, 3))).unwrap();
    let copy = crashed(&wal, dir.path());
    let file = segments(copy.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[1024..4096].fill(0);
    fs::write(&file, &bytes).unwrap();
    let r = open(copy.path()).unwrap();
    assert!(r.torn.is_some());
    assert!(r.entries.len() >= 3 && r.entries.len() < 10);
}

#[test]
fn a_fault_before_something_synced_is_damage_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=10, 1), None).unwrap();
    wal.sync().unwrap();
    wal.append(&entries(11..=12, 1), None).unwrap();
    wal.sync().unwrap();
    let copy = crashed(&wal, dir.path());
    let file = segments(copy.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[400] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    match open(copy.path()) {
        Err(WalError::Damaged { file: named, offset, what }) => {
            assert_eq!(named, file.display().to_string());
            assert!(offset <= 400 && offset + 100 > 400, "{offset}");
            assert!(what.contains("says that all before"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn an_idle_member_settles_its_last_append() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=3, 1), None).unwrap();
    wal.sync().unwrap();
    wal.settle().unwrap();
    let copy = crashed(&wal, dir.path());
    for _ in 0..5 {
        wal.settle().unwrap();
        wal.sync().unwrap();
    }
    let file = segments(copy.path()).remove(0);
    assert_eq!(fs::read(&segments(dir.path())[0]).unwrap(), fs::read(&file).unwrap(), "settling ends");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[last - 30] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(open(copy.path()), Err(WalError::Damaged { .. })));
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=6, 1), Some(&hard(1, 2))).unwrap();
    wal.sync().unwrap();
    wal.rotate().unwrap();
    wal.append(&entries(5..=9, 2), Some(&hard(2, 9))).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let good = open(dir.path()).unwrap();
    let mut found = 0;
    for file in segments(dir.path()) {
        let bytes = fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        let places = (0..used + 64).chain([bytes.len() / 2, bytes.len() - 1]);
        for at in places {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&file, &bad).unwrap();
            match open(dir.path()) {
                Err(_) => found += 1,
                Ok(r) => assert_eq!(Recovered { torn: None, ..r }, good, "byte {at} of {}", file.display()),
            }
        }
        fs::write(&file, &bytes).unwrap();
    }
    assert!(found > 500, "{found}");
    assert_eq!(open(dir.path()).unwrap(), good);
}

#[test]
fn a_file_of_any_other_length_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=6, 1), Some(&hard(1, 2))).unwrap();
    drop(wal);
    let file = segments(dir.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    for len in (0..used + 10).chain([bytes.len() - 1]) {
        fs::write(&file, &bytes[..len]).unwrap();
        assert!(matches!(open(dir.path()), Err(WalError::Damaged { .. })), "length {len}");
    }
    fs::write(&file, [&bytes[..], &[0]].concat()).unwrap();
    assert!(matches!(open(dir.path()), Err(WalError::Damaged { .. })));
}

#[test]
fn replaced_missing_and_foreign_segments_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    for first in [1, 11, 21] {
        wal.append(&entries(first..=first + 9, 1), None).unwrap();
        wal.rotate().unwrap();
    }
    drop(wal);
    let files = segments(dir.path());
    let other = tempfile::tempdir().unwrap();
    let mut wal = create(other.path());
    wal.append(&entries(1..=10, 2), None).unwrap();
    wal.rotate().unwrap();
    drop(wal);
    // The first segment of another history of the same member.
    let mine = fs::read(&files[0]).unwrap();
    fs::copy(&segments(other.path())[0], &files[0]).unwrap();
    let e = open(dir.path()).unwrap_err().to_string();
    assert!(e.contains("does not continue"), "{e}");
    fs::write(&files[0], mine).unwrap();

    assert!(matches!(Wal::open(dir.path(), WalMeta { cluster: 1, member: 1 }, SMALL), Err(WalError::Foreign { .. })));
    assert!(matches!(Wal::create(dir.path(), META, &start(0, 0), SMALL), Err(WalError::Exists { .. })));

    fs::remove_file(&files[1]).unwrap();
    let e = open(dir.path()).unwrap_err().to_string();
    assert!(e.contains("is missing"), "{e}");
    for file in segments(dir.path()) {
        fs::remove_file(file).unwrap();
    }
    assert!(matches!(open(dir.path()), Err(WalError::Missing { .. })));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(create(dir.path()));
    let file = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 9;
    fs::write(&file, bytes).unwrap();
    assert!(matches!(open(dir.path()), Err(WalError::Newer { version: 9, .. })));
}

#[test]
fn a_lost_end_is_seen_by_the_tables() {
    let r = Recovered { start: start(10, 1), hard_state: hard(1, 12), entries: entries(11..=12, 1), torn: None };
    assert_eq!(r.must_meet(10), Ok(()));
    assert_eq!(r.must_meet(12), Ok(()));
    assert_eq!(r.must_meet(9), Err(Apart::TablesBehind { applied: 9, start: 10 }));
    assert_eq!(r.must_meet(13), Err(Apart::LogBehind { applied: 13, last: 12 }));
}

/// Bytes of a client that look like a record which proves that something was synced.
#[test]
fn a_value_cannot_pass_for_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = create(dir.path());
    wal.append(&entries(1..=2, 1), None).unwrap();
    wal.sync().unwrap();
    let copy = crashed(&wal, dir.path());
    let bytes = fs::read(&segments(copy.path())[0]).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    // A frame with synced = 2000 and a checksum that is right but for the salt, at every alignment.
    let mut frame = Vec::new();
    frame.extend(1u32.to_le_bytes());
    frame.extend(2000u32.to_le_bytes());
    frame.extend(0u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame), &[4]);
    frame.extend(crc.to_le_bytes());
    frame.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    let mut tail = bytes.clone();
    tail[used + 8] = 1;
    for shift in 0..8 {
        let at = 2048 + shift * 129;
        tail[at..at + frame.len()].copy_from_slice(&frame);
    }
    fs::write(&segments(copy.path())[0], &tail).unwrap();
    assert!(open(copy.path()).unwrap().torn.is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Append { back: u64, count: u64, len: usize },
    Sync,
    Settle,
    Rotate,
    Release { back: u64 },
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..4, 1u64..6, 0usize..2000).prop_map(|(back, count, len)| Step::Append { back, count, len }),
        2 => Just(Step::Sync),
        1 => Just(Step::Settle),
        1 => Just(Step::Rotate),
        1 => (0u64..8).prop_map(|back| Step::Release { back }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Against a vector.
    #[test]
    fn any_use_reads_back_as_a_plain_list(steps in prop::collection::vec(any_step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = create(dir.path());
        let (mut model, mut begin, mut state, mut term): (Vec<Entry>, LogStart, HardState, u64) =
            (Vec::new(), start(0, 0), HardState::default(), 1);
        for step in steps {
            match step {
                Step::Append { back, count, len } => {
                    let end = begin.index + model.len() as u64;
                    let committed = state.commit.max(begin.index);
                    let first = (end + 1).saturating_sub(back).max(committed + 1);
                    term += u64::from(back > 0);
                    let new: Vec<Entry> = (first..first + count).map(|i| entry(i, term, len)).collect();
                    state = hard(term, committed);
                    wal.append(&new, Some(&state)).unwrap();
                    model.truncate((first - begin.index - 1) as usize);
                    model.extend(new);
                }
                Step::Sync => wal.sync().unwrap(),
                Step::Settle => wal.settle().unwrap(),
                Step::Rotate => wal.rotate().unwrap(),
                Step::Release { back } => {
                    let Some(last) = model.len().checked_sub(1 + back as usize) else { continue };
                    let at = &model[last];
                    begin = start(at.index, at.term);
                    wal.release_before(&begin).unwrap();
                    model.drain(..=last);
                    state.commit = state.commit.max(begin.index);
                }
                Step::Reopen => {
                    drop(wal);
                    let (next, r) = Wal::open(dir.path(), META, SMALL).unwrap();
                    wal = next;
                    prop_assert_eq!((&r.start, &r.entries, r.torn), (&begin, &model, None));
                    prop_assert_eq!(r.hard_state.commit, state.commit);
                }
            }
        }
        drop(wal);
        let r = open(dir.path()).unwrap();
        prop_assert_eq!((r.start, r.entries, r.torn), (begin, model, None));
    }
}
