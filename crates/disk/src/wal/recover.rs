//! Reading a log back: replay what is whole, tell a torn tail from damage, name all damage.
//!
//! Reads only; what to do with a torn tail is its caller's work. The rules stand in docs/format/wal.md.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use eyrie_raft::{Entry, HardState, LogStart};

use super::{
    Recovered, SEGMENT_BYTES_MAX, TornTail, WalError, WalMeta,
    format::{self, ALIGN, HEADER_LEN, HeaderFault, Record, SegmentHeader},
};

/// Bytes that a search for proof may run through a checksum, so that hostile bytes cannot stall a start.
const PROOF_BYTES_MAX: u64 = 4 << 30;

/// A segment file by its name.
#[derive(Debug, Clone)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) sequence: u64,
    pub(super) first_index: u64,
    pub(super) len: u64,
}

/// Where the log goes on.
#[derive(Debug)]
pub(super) struct End {
    pub(super) offset: u64,
    /// Crc of the last record.
    pub(super) previous: u32,
    /// Crc of the segment's header.
    pub(super) salt: u32,
    /// First byte after the torn tail, if there is one.
    pub(super) torn_end: Option<u64>,
}

/// The segments of a directory, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<SegmentFile>, WalError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(WalError::io("read", dir))? {
        let path = entry.map_err(WalError::io("read", dir))?.path();
        if path.extension().is_none_or(|x| x != "wal") {
            continue;
        }
        let Some((sequence, first_index)) = path.file_stem().and_then(|s| s.to_str()).and_then(parse_name) else {
            return Err(damaged(&path, 0, "its name is not that of a log segment"));
        };
        let len = fs::metadata(&path).map_err(WalError::io("read", &path))?.len();
        found.push(SegmentFile { path, sequence, first_index, len });
    }
    found.sort_by_key(|s| s.sequence);
    for pair in found.windows(2) {
        if pair[1].sequence != pair[0].sequence + 1 {
            return Err(damaged(
                &pair[1].path,
                0,
                format!("the segment before it is missing (number {:016x})", pair[1].sequence.wrapping_sub(1)),
            ));
        }
    }
    Ok(found)
}

/// Replays all segments.
pub(super) fn replay(segments: &[SegmentFile], meta: WalMeta) -> Result<(Recovered, End), WalError> {
    let mut log = Replay::default();
    let mut end = End { offset: 0, previous: 0, salt: 0, torn_end: None };
    for (i, segment) in segments.iter().enumerate() {
        let bytes = read(segment)?;
        let header_crc = check_header(segment, &bytes, meta, (i > 0).then_some(end.previous))?;
        if i == 0 {
            log.base = segment.first_index;
        } else if segment.first_index < log.base {
            // Here the log was begun anew after a snapshot that ends before all that is known of the old log.
            log.entries.clear();
            log.base = segment.first_index;
        }
        end = log.segment(segment, &bytes, header_crc, i + 1 == segments.len())?;
    }
    let last = &segments[segments.len() - 1];
    log.finish(last, end.offset).map(|r| (r, end))
}

/// The log as known so far.
#[derive(Default)]
struct Replay {
    /// Index that the first of `entries` has, or will have.
    base: u64,
    entries: Vec<Entry>,
    start: LogStart,
    hard_state: HardState,
    torn: Option<TornTail>,
}

impl Replay {
    fn segment(&mut self, file: &SegmentFile, bytes: &[u8], header_crc: u32, last: bool) -> Result<End, WalError> {
        let head_end = SegmentHeader::decode(bytes).map_or(HEADER_LEN, |(h, _)| h.head_end as usize);
        let (mut offset, mut previous) = (HEADER_LEN, header_crc);
        let fault = loop {
            match format::frame(bytes, offset, header_crc) {
                Ok(frame) if frame.previous != previous => {
                    let what = "a record does not continue the one before it (replaced or reordered)";
                    return Err(damaged(&file.path, offset, what));
                }
                Ok(frame) => {
                    let record = format::record(frame.body).map_err(|e| damaged(&file.path, offset, e))?;
                    self.record(record).map_err(|e| damaged(&file.path, offset, e))?;
                    (offset, previous) = (frame.end, frame.crc);
                }
                Err(fault) => break fault,
            }
        };
        let rest = bytes.get(offset..).unwrap_or_default();
        let dirty = rest.iter().rposition(|b| *b != 0).map(|p| offset + p + 1);
        let mut torn_end = None;
        if let Some(dirty_end) = dirty {
            if !last {
                return Err(damaged(&file.path, offset, fault));
            }
            if let Some(proof) = find_proof(bytes, offset, header_crc) {
                return Err(damaged(&file.path, offset, format!("{fault}, but {proof}")));
            }
            torn_end = Some(dirty_end as u64);
            self.torn = Some(TornTail {
                file: file.path.clone(),
                offset: offset as u64,
                bytes: (dirty_end - offset) as u64,
                why: fault,
            });
        }
        if offset < head_end {
            return Err(damaged(&file.path, offset, "the segment's first records are missing"));
        }
        Ok(End { offset: offset as u64, previous, salt: header_crc, torn_end })
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Entry(entry) => self.entry(entry)?,
            Record::HardState(state) => self.hard_state = state,
            Record::LogStart(start) => self.move_start(start)?,
            Record::Settled => {}
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let next = self.base + self.entries.len() as u64;
        if entry.index > next {
            return Err(format!("entry {} follows entry {}", entry.index, next - 1));
        }
        if entry.index < self.base {
            if entry.index <= self.start.index {
                return Err(format!(
                    "entry {} is rewritten, but the log starts after {}",
                    entry.index, self.start.index
                ));
            }
            self.base = entry.index;
            self.entries.clear();
        }
        self.entries.truncate((entry.index - self.base) as usize);
        let before = self.entries.last().map_or(0, |e| e.term);
        if entry.term < before {
            return Err(format!("entry {} has term {}, but the one before has {before}", entry.index, entry.term));
        }
        self.entries.push(entry);
        Ok(())
    }

    fn move_start(&mut self, start: LogStart) -> Result<(), String> {
        if start.index < self.start.index {
            return Err(format!("the log's start moves back from {} to {}", self.start.index, start.index));
        }
        if let Some(place) = start.index.checked_sub(self.base) {
            let kept = self.entries.get(place as usize).is_some_and(|e| e.term == start.term);
            if kept {
                self.entries.drain(..=place as usize);
            } else {
                // The tables were replaced by a snapshot that does not continue this log.
                self.entries.clear();
            }
            self.base = start.index + 1;
        }
        self.start = start;
        Ok(())
    }

    /// The hard state, with what the rest of the log proves. A commit may be known only by the start that the tables
    /// reached; a term only by an entry whose hard state was torn off, and which was therefore never shown to anyone.
    fn completed(&self) -> HardState {
        let mut state = self.hard_state;
        state.commit = state.commit.max(self.start.index);
        let term = self.entries.last().map_or(self.start.term, |e| e.term);
        if term > state.term {
            (state.term, state.vote) = (term, 0);
        }
        state
    }

    fn finish(self, last: &SegmentFile, offset: u64) -> Result<Recovered, WalError> {
        let expected = self.start.index + 1;
        if self.base > expected {
            let what = format!("entries {expected} to {} are missing: an older segment was deleted", self.base - 1);
            return Err(damaged(&last.path, 0, what));
        }
        if self.entries.first().is_some_and(|e| e.term < self.start.term) {
            return Err(damaged(&last.path, 0, "the first entry's term is below that of the log's start"));
        }
        let end = self.start.index + self.entries.len() as u64;
        if self.hard_state.commit > end {
            let what = format!("entry {} was committed, but the log ends at {end}", self.hard_state.commit);
            return Err(damaged(&last.path, offset as usize, what));
        }
        Ok(Recovered { hard_state: self.completed(), start: self.start, entries: self.entries, torn: self.torn })
    }
}

/// Looks after `broken` for a record that proves that the bytes at `broken` were once on disk.
fn find_proof(bytes: &[u8], broken: usize, salt: u32) -> Option<String> {
    let mut budget = PROOF_BYTES_MAX;
    let mut at = broken + ALIGN;
    while at + format::RECORD_HEADER_LEN <= bytes.len() {
        let synced = format::synced_of(bytes, at) as usize;
        if synced > broken && synced <= at {
            if format::frame(bytes, at, salt).is_ok_and(|frame| format::record(frame.body).is_ok()) {
                return Some(format!("a record at {at} says that all before {synced} was on disk"));
            }
            let Some(left) = budget.checked_sub((bytes.len() - at) as u64) else {
                return Some("the bytes after it cannot all be judged".to_string());
            };
            budget = left;
        }
        at += ALIGN;
    }
    None
}

fn read(segment: &SegmentFile) -> Result<Vec<u8>, WalError> {
    if segment.len > SEGMENT_BYTES_MAX {
        return Err(damaged(&segment.path, 0, format!("the file has {} bytes, more than a segment can", segment.len)));
    }
    let mut bytes = Vec::with_capacity(segment.len as usize + 1);
    File::open(&segment.path)
        .and_then(|f| f.take(SEGMENT_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(WalError::io("read", &segment.path))?;
    Ok(bytes)
}

fn check_header(file: &SegmentFile, bytes: &[u8], meta: WalMeta, previous: Option<u32>) -> Result<u32, WalError> {
    let (header, crc) = SegmentHeader::decode(bytes).map_err(|fault| match fault {
        HeaderFault::NotAWal => damaged(&file.path, 0, "it does not begin as a log segment does"),
        HeaderFault::Newer(version) => WalError::Newer { file: file.path.display().to_string(), version },
        HeaderFault::Checksum => damaged(&file.path, 0, "the header's checksum does not match"),
    })?;
    if (header.sequence, header.first_index) != (file.sequence, file.first_index) {
        return Err(damaged(&file.path, 16, "the file was renamed: its header has other numbers than its name"));
    }
    if (header.cluster, header.member) != (meta.cluster, meta.member) {
        return Err(WalError::Foreign {
            file: file.path.display().to_string(),
            found: format!("cluster {:x} member {:x}", header.cluster, header.member),
            expected: format!("cluster {:x} member {:x}", meta.cluster, meta.member),
        });
    }
    if u64::from(header.file_len) != bytes.len() as u64 {
        let what = format!("the file has {} bytes, but was made with {}", bytes.len(), header.file_len);
        return Err(damaged(&file.path, bytes.len().min(header.file_len as usize), what));
    }
    if previous.is_some_and(|p| p != header.previous) {
        return Err(damaged(&file.path, 48, "it does not continue the segment before it (replaced or reordered)"));
    }
    Ok(crc)
}

fn parse_name(stem: &str) -> Option<(u64, u64)> {
    let (a, b) = stem.split_once('-')?;
    if a.len() != 16 || b.len() != 16 {
        return None;
    }
    Some((u64::from_str_radix(a, 16).ok()?, u64::from_str_radix(b, 16).ok()?))
}

pub(super) fn damaged(path: &Path, offset: usize, what: impl Into<String>) -> WalError {
    WalError::Damaged { file: path.display().to_string(), offset: offset as u64, what: what.into() }
}
