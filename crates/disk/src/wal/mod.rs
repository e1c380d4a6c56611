//! The log: what was agreed and is not yet in the tables.
//!
//! ```text
//! append -> one write into a segment of zeros -> sync -> acknowledged
//!           0000000000000000-…1.wal  0000000000000001-…9.wal  next.tmp (zeros, made ahead)
//! ```
//! Every record carries the crc of the one before and how far the segment was synced when it was written; by that a
//! torn tail is told from damage (docs/format/wal.md). Must never know what an entry means, nor decide what to keep.

mod error;
mod format;
mod prepare;
mod recover;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use eyrie_raft::{Entry, HardState, LogStart};

pub use self::error::{Apart, WalError};
use self::{
    format::{ALIGN, Encoder, HEADER_LEN, RECORD_HEADER_LEN, SegmentHeader},
    prepare::{Preparer, is_no_space},
    recover::SegmentFile,
};
use crate::atomic;

/// Segments are not made smaller than this, even where room is short.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// No segment is larger: offsets are 32 bits wide, and recovery reads a segment at once.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// The first segment of a new log: small, so that creation takes no time; the next is made meanwhile.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;
/// A segment being prepared ahead of need starts when this share of the current one is used.
const PREPARE_AT: u64 = 2;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalMeta {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub member: u64,
}

/// How the log is kept.
#[derive(Debug, Clone, Copy)]
pub struct WalOptions {
    /// Size of a segment, in bytes.
    pub segment_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// What a log held when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Where the log begins.
    pub start: LogStart,
    /// The last hard state.
    pub hard_state: HardState,
    /// All entries after the start, without holes.
    pub entries: Vec<Entry>,
    /// What was cut from the end, if anything: an append that was never acknowledged.
    pub torn: Option<TornTail>,
}

impl Recovered {
    /// The last index that the log knows: of its last entry, or of its start.
    pub fn last_index(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }

    /// Checks that log and tables belong together: the tables have applied nothing that the log does not know, and lack
    /// nothing that the log has already let go. Catches a deleted newest segment, and tables older than the log.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub fn must_meet(&self, applied: u64) -> Result<(), Apart> {
        if applied < self.start.index {
            return Err(Apart::TablesBehind { applied, start: self.start.index });
        }
        if applied > self.last_index() {
            return Err(Apart::LogBehind { applied, last: self.last_index() });
        }
        Ok(())
    }
}

/// An append that never finished, cut from the end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the cut was made.
    pub offset: u64,
    /// How much was cut.
    pub bytes: u64,
    /// What was wrong there.
    pub why: &'static str,
}

/// A log opened for writing.
///
/// The caller holds the data directory's lock: two handles on one directory destroy each other's work.
#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    meta: WalMeta,
    segments: Vec<SegmentFile>,
    file: File,
    /// Where the next record goes in the last segment.
    offset: u64,
    /// Before this offset of the last segment everything is on disk.
    synced: u64,
    /// Up to where a record that follows proves that the bytes were on disk.
    proven: u64,
    previous: u32,
    /// Crc of the last segment's header.
    salt: u32,
    next_index: u64,
    start: LogStart,
    hard_state: HardState,
    preparer: Preparer,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl Wal {
    /// Makes a log that begins after `start`; durable when it returns. The directory must hold no log.
    ///
    /// # Errors
    /// [`WalError::Exists`], [`WalError::NoSpace`], [`WalError::Io`].
    pub fn create(dir: &Path, meta: WalMeta, start: &LogStart, options: WalOptions) -> Result<Self, WalError> {
        atomic::create_dir(dir).map_err(WalError::io("create", dir))?;
        if !recover::list(dir)?.is_empty() {
            return Err(WalError::Exists { dir: dir.display().to_string() });
        }
        let want = segment_bytes(options);
        let head = Head {
            meta,
            sequence: 0,
            next_index: start.index + 1,
            previous: 0,
            start: start.clone(),
            hard_state: HardState::default(),
        };
        let first = want.min(FIRST_SEGMENT_BYTES);
        let blank = prepare::make(&dir.join(prepare::NEXT), first, SEGMENT_BYTES_MIN, None)
            .map_err(|e| no_space_or(e, dir, "create a segment in", first))?;
        let offset = head.len();
        let (file, segment, salt, previous) = name_segment(dir, blank, &head)?;
        let mut wal = Self {
            dir: dir.to_path_buf(),
            meta,
            segments: vec![segment],
            file,
            offset,
            synced: offset,
            proven: offset,
            previous,
            salt,
            next_index: start.index + 1,
            start: start.clone(),
            hard_state: HardState::default(),
            preparer: Preparer::new(dir, want),
            poisoned: false,
            buffer: Vec::new(),
        };
        wal.preparer.start();
        Ok(wal)
    }

    /// Reads a log back and makes it ready for more. A torn tail is cut, and the cut is durable when this returns.
    ///
    /// # Errors
    /// [`WalError::Damaged`], [`WalError::Missing`], [`WalError::Newer`], [`WalError::Foreign`]: nothing was changed
    /// then. [`WalError::Io`].
    pub fn open(dir: &Path, meta: WalMeta, options: WalOptions) -> Result<(Self, Recovered), WalError> {
        let segments = recover::list(dir)?;
        let Some(last) = segments.last() else {
            return Err(WalError::Missing { dir: dir.display().to_string() });
        };
        let (recovered, end) = recover::replay(&segments, meta)?;
        let file =
            fs::OpenOptions::new().read(true).write(true).open(&last.path).map_err(WalError::io("open", &last.path))?;
        let next = dir.join(prepare::NEXT);
        atomic::remove(&next).map_err(WalError::io("remove", &next))?;
        if let Some(torn_end) = end.torn_end {
            let zeros = vec![0; (torn_end - end.offset) as usize];
            file.write_all_at(&zeros, end.offset).map_err(WalError::io("cut the torn tail of", &last.path))?;
        }
        // What was read may still be only in the system's memory: it must not be promised to anyone before it is on disk.
        file.sync_all().map_err(WalError::io("sync", &last.path))?;
        let mut wal = Self {
            dir: dir.to_path_buf(),
            meta,
            file,
            offset: end.offset,
            synced: end.offset,
            proven: 0,
            previous: end.previous,
            salt: end.salt,
            next_index: recovered.last_index() + 1,
            start: recovered.start.clone(),
            hard_state: recovered.hard_state,
            preparer: Preparer::new(dir, segment_bytes(options)),
            poisoned: false,
            buffer: Vec::new(),
            segments,
        };
        wal.prepare_ahead();
        Ok((wal, recovered))
    }

    /// Writes entries, then the hard state, in one write; they are durable only after [`Wal::sync`].
    ///
    /// Entries are without holes. The first may have an index that was written before: it and all after it are replaced.
    ///
    /// # Errors
    /// [`WalError::NoSpace`]: nothing was written, try again later. [`WalError::Io`] poisons the handle.
    ///
    /// # Panics
    /// When entries leave a hole: that is a fault of the caller which must not reach the disk.
    pub fn append(&mut self, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), WalError> {
        self.check_usable()?;
        self.assert_no_hole(entries);
        if entries.is_empty() && hard_state.is_none() {
            return Ok(());
        }
        let need = entries.iter().map(format::entry_len).sum::<u64>() + HARD_STATE_LEN;
        self.make_room(need)?;
        self.write(|encoder| {
            for entry in entries {
                encoder.entry(entry);
            }
            if let Some(state) = hard_state {
                encoder.hard_state(state);
            }
        })?;
        if let Some(last) = entries.last() {
            self.next_index = last.index + 1;
        }
        if let Some(state) = hard_state {
            self.hard_state = *state;
        }
        self.prepare_ahead();
        Ok(())
    }

    /// Makes sure that entries with this much data can be appended, whatever happens to the disk's free space: to be
    /// asked before anything is proposed.
    ///
    /// # Errors
    /// [`WalError::NoSpace`]: try again later. [`WalError::Io`].
    pub fn ensure_room(&mut self, data_bytes: u64, entries: u64) -> Result<(), WalError> {
        self.check_usable()?;
        self.make_room(Self::need(data_bytes, entries))
    }

    /// Bytes that so many entries with this much data take at most.
    pub fn need(data_bytes: u64, entries: u64) -> u64 {
        data_bytes + entries * format::ENTRY_OVERHEAD_MAX + HARD_STATE_LEN
    }

    /// Bytes that can be appended for certain, counting a next segment that is prepared: as one append, or as several.
    pub fn room_ahead(&mut self) -> u64 {
        let head = HEADER_LEN as u64 + log_start_len(&self.start) + HARD_STATE_LEN;
        self.room_bytes().max(self.preparer.ready_bytes().saturating_sub(head))
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// [`WalError::Io`]: a failed sync is final, the handle is poisoned for ever.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_usable()?;
        if self.synced == self.offset {
            return Ok(());
        }
        if let Err(source) = self.file.sync_data() {
            self.poisoned = true;
            return Err(WalError::Io { doing: "sync", file: self.current().path.display().to_string(), source });
        }
        self.synced = self.offset;
        Ok(())
    }

    /// Writes down how far the log is synced, without syncing that: so that damage in the last appended bytes can be
    /// told from a torn append. Cheap; to be called when the member is idle. Does nothing when nothing is new.
    ///
    /// # Errors
    /// As for [`Wal::append`].
    pub fn settle(&mut self) -> Result<(), WalError> {
        self.check_usable()?;
        let len = (RECORD_HEADER_LEN + ALIGN) as u64;
        if self.proven >= self.synced || self.synced != self.offset || self.room_bytes() < len {
            return Ok(());
        }
        self.write(|encoder| encoder.settled())?;
        // The marker itself need not be proven, else settling would never end.
        self.proven = self.offset;
        Ok(())
    }

    /// Drops whole old segments that hold only entries up to `start.index`, which the tables now replace.
    ///
    /// The new start is durable first. Segments go oldest first, so a crash leaves a log without holes. Nothing else is
    /// touched; the entries between the oldest segment's and `start.index` merely are not replayed any more.
    ///
    /// # Errors
    /// As for [`Wal::append`] and [`Wal::sync`].
    pub fn release_before(&mut self, start: &LogStart) -> Result<(), WalError> {
        self.check_usable()?;
        if start.index <= self.start.index {
            return Ok(());
        }
        self.make_room(log_start_len(start))?;
        self.write(|encoder| encoder.log_start(start))?;
        self.next_index = self.next_index.max(start.index + 1);
        self.start = start.clone();
        self.sync()?;
        let keep = self.segments.iter().rposition(|s| s.first_index <= start.index + 1).unwrap_or(0);
        self.drop_oldest(keep)
    }

    /// Begins the log anew after `start`: a snapshot that does not continue this log has replaced the tables. All entries
    /// are forgotten. Durable when it returns, and never in part: the new beginning is the head of a new segment.
    ///
    /// # Errors
    /// As for [`Wal::append`]; after [`WalError::NoSpace`] the log is as it was.
    pub fn restart_after(&mut self, start: &LogStart, hard_state: HardState) -> Result<(), WalError> {
        self.check_usable()?;
        let before = (self.start.clone(), self.hard_state, self.next_index);
        (self.start, self.hard_state, self.next_index) = (start.clone(), hard_state, start.index + 1);
        if let Err(error) = self.next_segment(0) {
            (self.start, self.hard_state, self.next_index) = before;
            return Err(error);
        }
        self.drop_oldest(self.segments.len() - 1)
    }

    /// Begins a new segment, so that a later [`Wal::release_before`] can drop the one before.
    ///
    /// # Errors
    /// As for [`Wal::append`].
    pub fn rotate(&mut self) -> Result<(), WalError> {
        self.check_usable()?;
        self.next_segment(0)
    }

    /// Bytes that the log's files take.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// Bytes that can be appended for certain, whatever happens to the disk's free space.
    pub fn room_bytes(&self) -> u64 {
        self.current().len.saturating_sub(self.offset)
    }

    /// Where the log begins.
    pub fn start(&self) -> &LogStart {
        &self.start
    }

    fn drop_oldest(&mut self, count: usize) -> Result<(), WalError> {
        if count == 0 {
            return Ok(());
        }
        for old in self.segments.drain(..count) {
            fs::remove_file(&old.path).map_err(WalError::io("remove", &old.path))?;
        }
        atomic::sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))
    }

    fn current(&self) -> &SegmentFile {
        &self.segments[self.segments.len() - 1]
    }

    fn check_usable(&self) -> Result<(), WalError> {
        if self.poisoned { Err(WalError::Poisoned) } else { Ok(()) }
    }

    fn assert_no_hole(&self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.start.index && first.index <= self.next_index,
            "entry {} cannot follow: the log has {} to {}",
            first.index,
            self.start.index + 1,
            self.next_index - 1
        );
        for pair in entries.windows(2) {
            assert_eq!(pair[1].index, pair[0].index + 1, "entries have a hole");
        }
    }

    /// Writes the records that `fill` encodes at the end of the last segment, which has room for them.
    fn write(&mut self, fill: impl FnOnce(&mut Encoder<'_>)) -> Result<(), WalError> {
        self.buffer.clear();
        let mut encoder = Encoder::new(&mut self.buffer, self.salt, self.previous, self.synced as u32);
        fill(&mut encoder);
        let previous = encoder.previous();
        let len = self.buffer.len() as u64;
        assert!(len <= self.room_bytes(), "room was made for what is written");
        if let Err(source) = self.file.write_all_at(&self.buffer, self.offset) {
            return Err(self.undo_write(source, len));
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        self.proven = self.synced;
        self.offset += len;
        self.previous = previous;
        Ok(())
    }

    /// A write into reserved room failed. Only a file system that reserves nothing says "no space" here; then what was
    /// written is made zeros again, which takes no room. Everything else is final.
    fn undo_write(&mut self, source: io::Error, need: u64) -> WalError {
        let (offset, len) = (self.offset, self.current().len);
        let undo =
            || self.file.set_len(offset).and_then(|()| self.file.set_len(len)).and_then(|()| self.file.sync_all());
        if is_no_space(&source) && undo().is_ok() {
            self.synced = offset;
            return WalError::NoSpace { dir: self.dir.display().to_string(), need };
        }
        self.poisoned = true;
        WalError::Io { doing: "write to", file: self.current().path.display().to_string(), source }
    }

    fn make_room(&mut self, need: u64) -> Result<(), WalError> {
        if need <= self.room_bytes() { Ok(()) } else { self.next_segment(need) }
    }

    /// Ends the last segment and begins one that has room for `need` bytes.
    fn next_segment(&mut self, need: u64) -> Result<(), WalError> {
        let sequence = self.current().sequence + 1;
        let head = Head {
            meta: self.meta,
            sequence,
            next_index: self.next_index,
            previous: self.previous,
            start: self.start.clone(),
            hard_state: self.hard_state,
        };
        let total = need + head.len();
        if total > SEGMENT_BYTES_MAX {
            return Err(WalError::NoSpace { dir: self.dir.display().to_string(), need: total });
        }
        let blank = self.preparer.take(total).map_err(|e| no_space_or(e, &self.dir, "create a segment in", total))?;
        // The old segment is complete on disk before the new one exists: damage in it is then never a torn write.
        self.sync()?;
        let begun = name_segment(&self.dir, blank, &head).inspect_err(|_| self.poisoned = true)?;
        let segment;
        (self.file, segment, self.salt, self.previous) = begun;
        self.segments.push(segment);
        self.offset = head.len();
        self.synced = self.offset;
        self.proven = self.offset;
        Ok(())
    }

    fn prepare_ahead(&mut self) {
        if self.offset > self.current().len / PREPARE_AT || self.current().len < self.preparer.want() {
            self.preparer.start();
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if !self.poisoned && self.sync().is_ok() && self.settle().is_ok() {
            // Best effort: the log is whole without it.
            let _ = self.file.sync_data();
        }
    }
}

/// An encode buffer that grew beyond this for one large batch is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
const HARD_STATE_LEN: u64 = ((RECORD_HEADER_LEN + 25).next_multiple_of(ALIGN)) as u64;

fn log_start_len(start: &LogStart) -> u64 {
    let ids = start.membership.voters.len() + start.membership.learners.len();
    (RECORD_HEADER_LEN + 25 + ids * 8).next_multiple_of(ALIGN) as u64
}

/// What a segment begins with.
struct Head {
    meta: WalMeta,
    sequence: u64,
    next_index: u64,
    previous: u32,
    start: LogStart,
    hard_state: HardState,
}

impl Head {
    fn len(&self) -> u64 {
        HEADER_LEN as u64 + log_start_len(&self.start) + HARD_STATE_LEN
    }

    fn encode(&self, file_len: u64) -> Vec<u8> {
        let header = SegmentHeader {
            sequence: self.sequence,
            first_index: self.next_index,
            cluster: self.meta.cluster,
            member: self.meta.member,
            previous: self.previous,
            head_end: self.len() as u32,
            file_len: file_len as u32,
        }
        .encode();
        let crc = SegmentHeader::decode(&header).map_or(0, |(_, crc)| crc);
        let mut bytes = header.to_vec();
        let mut encoder = Encoder::new(&mut bytes, crc, crc, 0);
        encoder.log_start(&self.start);
        encoder.hard_state(&self.hard_state);
        debug_assert_eq!(bytes.len() as u64, self.len());
        bytes
    }

    /// The crcs of an encoded head's header and last record.
    fn crcs(bytes: &[u8]) -> (u32, u32) {
        let salt = SegmentHeader::decode(bytes).map_or(0, |(_, crc)| crc);
        let (mut at, mut last) = (HEADER_LEN, salt);
        while let Ok(frame) = format::frame(bytes, at, salt) {
            (at, last) = (frame.end, frame.crc);
        }
        (salt, last)
    }
}

/// Gives a blank file its head and its name: from now on it is the log's last segment.
fn name_segment(dir: &Path, blank: prepare::Blank, head: &Head) -> Result<(File, SegmentFile, u32, u32), WalError> {
    let bytes = head.encode(blank.len);
    let path = dir.join(format!("{:016x}-{:016x}.wal", head.sequence, head.next_index));
    blank
        .file
        .write_all_at(&bytes, 0)
        .and_then(|()| blank.file.sync_data())
        .and_then(|()| atomic::rename(&blank.path, &path))
        .map_err(WalError::io("begin", &path))?;
    let segment = SegmentFile { path, sequence: head.sequence, first_index: head.next_index, len: blank.len };
    let (salt, last) = Head::crcs(&bytes);
    Ok((blank.file, segment, salt, last))
}

fn segment_bytes(options: WalOptions) -> u64 {
    options.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

fn no_space_or(source: io::Error, dir: &Path, doing: &'static str, need: u64) -> WalError {
    let file = dir.display().to_string();
    if is_no_space(&source) { WalError::NoSpace { dir: file, need } } else { WalError::Io { doing, file, source } }
}
