//! The log's segments: alone, and followed by another.

use std::path::Path;

use bytes::Bytes;
use eyrie_disk::wal::{Wal, WalMeta, WalOptions};
use eyrie_raft::{Entry, EntryKind, HardState, LogStart, Membership};

use super::{Target, scratch};

const META: WalMeta = WalMeta { cluster: 0xcdf8_181e_3277_8efd, member: 0x8e9e_05c5_2164_694d };
const OPTIONS: WalOptions = WalOptions { segment_bytes: 1 << 20 };
const HEADER_LEN: usize = 64;
const RECORD_HEADER_LEN: usize = 16;
/// Zeros that stay behind the last record of a whole input.
const ROOM: usize = 4096;

pub(super) const TARGET: Target = Target {
    name: "wal",
    what: "a segment of the log",
    corpus,
    reseal: Some(reseal),
    run: |input| {
        let dir = scratch::dir();
        let path = dir.path().join(name(input));
        let mut segment = input.to_vec();
        // The zeros of a real segment, which inputs do without; very short inputs stay short files.
        if segment.len() >= ROOM {
            segment.resize(segment.len().max(OPTIONS.segment_bytes as usize), 0);
        }
        std::fs::write(&path, &segment).expect("write the segment");
        let Ok((wal, recovered)) = Wal::open(dir.path(), META, OPTIONS) else {
            let after = std::fs::read(&path).expect("read the segment");
            assert!(after == segment, "a refused log was changed");
            return false;
        };
        drop(wal);
        let (_, again) = Wal::open(dir.path(), META, OPTIONS).expect("a log that was opened opens again");
        assert_eq!(again.entries, recovered.entries, "entries change from start to start");
        assert_eq!(again.hard_state, recovered.hard_state, "the hard state changes from start to start");
        assert_eq!(again.torn, None, "a cut tail is cut again");
        true
    },
};

/// Segments have their sequence and first index in their names.
fn name(segment: &[u8]) -> String {
    let number = |at: usize| -> u64 {
        segment.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    format!("{:016x}-{:016x}.wal", number(16), number(24))
}

fn corpus() -> Vec<Vec<u8>> {
    let membership = Membership { voters: vec![META.member], learners: vec![] };
    let start = LogStart { index: 1, term: 1, membership };
    let fill = |settle: bool| -> Vec<u8> {
        let dir = scratch::dir();
        let mut wal = Wal::create(dir.path(), META, &start, OPTIONS).expect("make a log");
        for index in 2..10 {
            let kind = if index == 5 { EntryKind::Membership } else { EntryKind::Normal };
            let entry = Entry { index, term: 1 + index / 4, kind, data: Bytes::from(vec![index as u8; 40]) };
            let hard_state = HardState { term: entry.term, vote: META.member, commit: index - 1 };
            wal.append(&[entry], Some(&hard_state)).expect("append");
            if index % 2 == 0 {
                wal.sync().expect("sync");
            }
        }
        wal.sync().expect("sync");
        if settle {
            wal.settle().expect("settle");
        }
        drop(wal);
        first_segment(dir.path())
    };
    vec![fill(false), fill(true)]
}

fn first_segment(dir: &Path) -> Vec<u8> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("list the log")
        .map(|entry| entry.expect("list the log").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    names.sort();
    let mut bytes = std::fs::read(&names[0]).expect("read the segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate((used + ROOM).next_multiple_of(8));
    bytes
}

/// Header and records get the checksums, and the chain of them, that their bytes ask for.
fn reseal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let salt = crc32c::crc32c(&bytes[..60]);
    bytes[60..HEADER_LEN].copy_from_slice(&salt.to_le_bytes());
    let (mut at, mut previous) = (HEADER_LEN, salt);
    while let Some(record) = bytes.get_mut(at..).filter(|rest| rest.len() > RECORD_HEADER_LEN) {
        let len = u32::from_le_bytes([record[0], record[1], record[2], record[3]]) as usize;
        let Some(end) = RECORD_HEADER_LEN.checked_add(len).filter(|end| len > 0 && *end <= record.len()) else {
            return;
        };
        record[8..12].copy_from_slice(&previous.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &record[..12]);
        previous = crc32c::crc32c_append(crc, &record[RECORD_HEADER_LEN..end]);
        record[12..16].copy_from_slice(&previous.to_le_bytes());
        at += end.next_multiple_of(8);
    }
}
