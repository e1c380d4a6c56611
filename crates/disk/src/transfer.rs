//! The whole tables of one member, on their way to another.
//!
//! ```text
//! View ─▶ pieces (records in order, then small rows, then an end with count and checksum) ─▶ tables.incoming
//!                                      tables.snapshot-INDEX ◀─ read back and compared ◀──────────┘
//! ```
//! The same picture is cut into the same pieces however often it is read, so a broken transfer goes on with the first piece
//! that is missing: [`Outgoing`] remembers where each one begins, [`Incoming`] how many it has.
//!
//! A file named `tables.snapshot-INDEX` is whole. It takes the place of the tables after the log has begun anew at INDEX;
//! [`settle`] finishes that after a crash in between (docs/format/datadir.md). Must never know who sends or why.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use eyrie_state::{Bucket, LogIndex, Position, Records, TableFault, Term};

use crate::atomic;
use crate::tables::{Options, RedbTables, TablesBuilder, Tally, View};

/// Bytes gathered before a piece is handed on. A larger record makes a larger piece.
const PIECE_BYTES: usize = 256 * 1024;
const INCOMING: &str = "tables.incoming";
const WHOLE: &str = "tables.snapshot-";
const KIND_RECORD: u8 = 1;
const KIND_ROW: u8 = 2;
const KIND_END: u8 = 3;

/// Why tables did not arrive. Nothing that was there before is changed.
#[derive(Debug, thiserror::Error)]
pub enum TransferFault {
    /// The tables, here or there.
    #[error(transparent)]
    Tables(#[from] TableFault),
    /// The other side went away.
    #[error("the receiver went away")]
    Gone,
    /// What came is not what was sent.
    #[error("the snapshot that arrived is not what was sent: {0}")]
    Unsound(&'static str),
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// On what.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
}

/// One picture of the tables, on its way in pieces.
pub struct Outgoing {
    view: View,
    /// Where each piece begins that was handed on, and the next one.
    cuts: Vec<Cut>,
}

/// What comes before a piece.
#[derive(Debug, Clone)]
struct Cut {
    crc: u32,
    items: u64,
    after: After,
}

/// The last item before a piece.
#[derive(Debug, Clone)]
enum After {
    Nothing,
    Record(Position),
    Row(u8, Bytes),
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("applied", &self.view.applied()).finish_non_exhaustive()
    }
}

impl Outgoing {
    /// Nothing of it is sent yet.
    pub fn new(view: View) -> Self {
        Self { view, cuts: vec![Cut { crc: 0, items: 0, after: After::Nothing }] }
    }

    /// Hands the pieces from number `first` on to `take`, until it says `false`.
    ///
    /// # Errors
    /// [`TransferFault::Tables`] when the tables are damaged, [`TransferFault::Gone`] when `take` wants no more, and
    /// [`TransferFault::Unsound`] when the pieces before `first` were never handed on.
    pub fn send(&mut self, first: u64, take: impl FnMut(Bytes) -> bool) -> Result<(), TransferFault> {
        let cut = usize::try_from(first).ok().and_then(|first| self.cuts.get(first).cloned());
        let cut = cut.ok_or(TransferFault::Unsound("it was not sent as far as that"))?;
        self.cuts.truncate(first as usize + 1);
        let after = cut.after.clone();
        let mut pieces = Pieces { piece: BytesMut::new(), cut, cuts: &mut self.cuts, take, gone: false };
        let from = match &after {
            After::Nothing => Some(Position::default()),
            After::Record(at) => at.sub.checked_add(1).map(|sub| Position { sub, ..*at }),
            After::Row(..) => None,
        };
        if let Some(from) = from {
            let end = Position { main: i64::MAX, sub: u32::MAX };
            self.view.scan(from, end, &mut |at, tombstone, record| pieces.record(at, tombstone, record))?;
        }
        for (number, bucket) in (0_u8..).zip(Bucket::ALL) {
            self.view.bucket(bucket, &mut |key, value| {
                let sent = matches!(&after, After::Row(last, row) if (number, key) <= (*last, &row[..]));
                if !sent {
                    pieces.row(number, key, value);
                }
            })?;
        }
        if first > 0 {
            // A reading in parts has compared no count with what the tables say they hold.
            self.view.check_history()?;
        }
        if pieces.end() { Ok(()) } else { Err(TransferFault::Gone) }
    }
}

/// Cuts items into pieces and hands them on. Once nobody takes them any more, it does nothing.
struct Pieces<'a, T> {
    piece: BytesMut,
    /// What comes before the next item.
    cut: Cut,
    cuts: &'a mut Vec<Cut>,
    take: T,
    gone: bool,
}

impl<T: FnMut(Bytes) -> bool> Pieces<'_, T> {
    /// Returns whether anybody takes more.
    fn record(&mut self, at: Position, tombstone: bool, record: &[u8]) -> bool {
        self.piece.put_u8(KIND_RECORD);
        self.piece.put_i64(at.main);
        self.piece.put_u32(at.sub);
        self.piece.put_u8(u8::from(tombstone));
        self.piece.put_u32(u32::try_from(record.len()).unwrap_or(u32::MAX));
        self.piece.put_slice(record);
        self.cut.items += 1;
        if self.piece.len() >= PIECE_BYTES {
            self.hand_on(After::Record(at));
        }
        !self.gone
    }

    fn row(&mut self, bucket: u8, key: &[u8], value: &[u8]) {
        if self.gone {
            return;
        }
        self.piece.put_u8(KIND_ROW);
        self.piece.put_u8(bucket);
        self.piece.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
        self.piece.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.piece.put_slice(key);
        self.piece.put_slice(value);
        self.cut.items += 1;
        if self.piece.len() >= PIECE_BYTES {
            self.hand_on(After::Row(bucket, Bytes::copy_from_slice(key)));
        }
    }

    fn hand_on(&mut self, after: After) {
        let piece = self.piece.split().freeze();
        self.cut.crc = crc32c::crc32c_append(self.cut.crc, &piece);
        self.cut.after = after;
        // Before it is handed on: the other side may have it although this one never hears so.
        self.cuts.push(self.cut.clone());
        self.gone = !(self.take)(piece);
    }

    fn end(mut self) -> bool {
        let crc = crc32c::crc32c_append(self.cut.crc, &self.piece);
        self.piece.put_u8(KIND_END);
        self.piece.put_u64(self.cut.items);
        self.piece.put_u32(crc);
        !self.gone && (self.take)(self.piece.freeze())
    }
}

/// Tables that are arriving. Dropped unfinished, they leave a file that the next arrival replaces.
pub struct Incoming {
    dir: PathBuf,
    builder: TablesBuilder,
    crc: u32,
    items: u64,
    pieces: u64,
    tally: Tally,
    ended: bool,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("items", &self.items).finish_non_exhaustive()
    }
}

impl Incoming {
    /// Begins beside the tables in the data directory `dir`.
    ///
    /// # Errors
    /// [`TransferFault::Tables`] when the disk refuses.
    pub fn begin(dir: &Path) -> Result<Self, TransferFault> {
        let builder = TablesBuilder::create(&dir.join(INCOMING))?;
        let dir = dir.to_path_buf();
        Ok(Self { dir, builder, crc: 0, items: 0, pieces: 0, tally: Tally::default(), ended: false })
    }

    /// How many pieces were taken: the number of the next one.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The last piece was taken.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`TransferFault`] when it makes no sense or the disk refuses. Nothing more can be taken after that.
    pub fn take(&mut self, piece: &Bytes) -> Result<(), TransferFault> {
        let mut rest = Reader(piece);
        while !rest.0.is_empty() {
            if self.ended {
                return Err(TransferFault::Unsound("something follows its end"));
            }
            let before = rest.0.len();
            match rest.u8()? {
                KIND_RECORD => {
                    let at = Position { main: rest.u64()?.cast_signed(), sub: rest.u32()? };
                    let tombstone = rest.u8()? != 0;
                    let len = rest.u32()? as usize;
                    self.builder.push_record(at, tombstone, rest.bytes(len)?)?;
                    self.tally.records += 1;
                }
                KIND_ROW => {
                    let number = usize::from(rest.u8()?);
                    let bucket = *Bucket::ALL.get(number).ok_or(TransferFault::Unsound("a bucket is unknown"))?;
                    let (key_len, value_len) = (rest.u32()? as usize, rest.u32()? as usize);
                    self.builder.put(bucket, rest.bytes(key_len)?, rest.bytes(value_len)?)?;
                }
                KIND_END => {
                    if rest.u64()? != self.items {
                        return Err(TransferFault::Unsound("something is missing"));
                    }
                    if rest.u32()? != self.crc {
                        return Err(TransferFault::Unsound("its checksum does not match"));
                    }
                    self.ended = true;
                    continue;
                }
                _ => return Err(TransferFault::Unsound("an item's kind is unknown")),
            }
            let item = &piece[piece.len() - before..piece.len() - rest.0.len()];
            self.crc = crc32c::crc32c_append(self.crc, item);
            self.items += 1;
        }
        self.pieces += 1;
        Ok(())
    }

    /// Makes what arrived whole and durable, reads it back, and names it for the place in the log that it stands for.
    ///
    /// # Errors
    /// [`TransferFault`] when the end did not come, or the file does not read back.
    pub fn finish(self, applied: (LogIndex, Term)) -> Result<PathBuf, TransferFault> {
        if !self.ended {
            return Err(TransferFault::Unsound("its end is missing"));
        }
        self.builder.finish(applied)?;
        let path = self.dir.join(INCOMING);
        let found = RedbTables::open(&path, Options::default())?.view().check_history()?;
        if found.records != self.tally.records {
            return Err(TransferFault::Unsound("the disk does not hold what was written"));
        }
        let whole = whole_path(&self.dir, applied.0);
        atomic::rename(&path, &whole).map_err(io("rename", &path))?;
        Ok(whole)
    }
}

/// Puts whole tables that arrived in the place of those in use. Their writer must have been retired.
///
/// # Errors
/// [`TransferFault::Io`].
pub fn install(whole: &Path, tables: &Path) -> Result<(), TransferFault> {
    atomic::rename(whole, tables).map_err(io("rename", whole))
}

/// After a start: tables that arrived take their place if the log begins where they end; else the log never came to rely
/// on them, and they are removed. Returns whether tables were installed.
///
/// # Errors
/// [`TransferFault::Io`].
pub fn settle(dir: &Path, tables: &Path, log_start: LogIndex) -> Result<bool, TransferFault> {
    let mut installed = false;
    let wanted = whole_path(dir, log_start);
    if log_start.0 > 0 && wanted.is_file() {
        install(&wanted, tables)?;
        installed = true;
    }
    for entry in fs::read_dir(dir).map_err(io("read", dir))? {
        let path = entry.map_err(io("read", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == INCOMING || name.starts_with(WHOLE) {
            atomic::remove(&path).map_err(io("remove", &path))?;
        }
    }
    Ok(installed)
}

/// Removes tables that arrived and are not wanted.
///
/// # Errors
/// [`TransferFault::Io`].
pub fn discard(whole: &Path) -> Result<(), TransferFault> {
    atomic::remove(whole).map_err(io("remove", whole))
}

fn whole_path(dir: &Path, index: LogIndex) -> PathBuf {
    dir.join(format!("{WHOLE}{:016x}", index.0))
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> TransferFault + 'a {
    move |source| TransferFault::Io { doing, path: path.display().to_string(), source }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], TransferFault> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TransferFault::Unsound("an item is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, len: usize) -> Result<u64, TransferFault> {
        Ok(self.bytes(len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn u8(&mut self) -> Result<u8, TransferFault> {
        Ok(self.bytes(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, TransferFault> {
        Ok(self.number(4)? as u32)
    }

    fn u64(&mut self) -> Result<u64, TransferFault> {
        self.number(8)
    }
}
