//! What is in a log: a column of rows, or deletes, as Milvus writes it to its bucket (storage versions 0 and 1).
//!
//! ```text
//! magic 4 | descriptor event: ids, times, type, extras | event: header 17, times 16, a Parquet file | event | …
//! ```
//!
//! All integers are little endian. Nothing that is read here is believed: every length is checked against the bytes at hand.

mod ends;
pub mod parquet;
mod thrift;
mod write;

use thiserror::Error;

pub use ends::Ends;
pub use parquet::{Inflate, Parquet, Physical, Values};
pub use write::{log, only};

/// The first four bytes.
const MAGIC: u32 = 0x00ff_fabc;
/// How long they are.
const MAGIC_LEN: usize = 4;
/// Time, kind, length, position of the next event.
const HEADER_LEN: usize = 17;
/// Four ids, two times, the type of data.
const DESCRIPTOR_LEN: usize = 52;
/// One byte for each kind of event.
const POST_HEADERS_LEN: usize = 8;
/// First and last time of the rows.
const TIMES_LEN: usize = 16;

/// Why bytes are no log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no whole log: {0}")]
pub struct BadLog(pub &'static str);

/// Where a log belongs, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its collection.
    pub collection: i64,
    /// Its partition.
    pub partition: i64,
    /// Its segment.
    pub segment: i64,
    /// Its field.
    pub field: i64,
    /// Hybrid time of its first row.
    pub from: u64,
    /// Hybrid time of its last row.
    pub to: u64,
    /// Milvus's number of the type.
    pub data_type: i32,
}

/// What an event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Rows of one field.
    Insert,
    /// Deletes: keys and times.
    Delete,
    /// Something else.
    Other(i8),
}

/// One piece of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'b> {
    /// What it holds.
    pub kind: EventKind,
    /// Hybrid time of its first row.
    pub from: u64,
    /// Hybrid time of its last row.
    pub to: u64,
    /// A Parquet file.
    pub payload: &'b [u8],
}

/// A log that was read: where it belongs, and its pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log<'b> {
    /// Where it belongs.
    pub descriptor: Descriptor,
    /// Its pieces.
    pub events: Vec<Event<'b>>,
}

impl Descriptor {
    /// Reads it from the beginning of a log: some hundred bytes are enough.
    ///
    /// # Errors
    /// The bytes are no log, or too few.
    pub fn read(head: &[u8]) -> Result<Descriptor, BadLog> {
        Cursor { bytes: head, at: 0 }.descriptor()
    }
}

impl<'b> Log<'b> {
    /// Reads a log.
    ///
    /// # Errors
    /// It is none, or not whole.
    pub fn read(bytes: &'b [u8]) -> Result<Log<'b>, BadLog> {
        let mut at = Cursor { bytes, at: 0 };
        let descriptor = at.descriptor()?;
        let mut events = Vec::new();
        while at.at < bytes.len() {
            events.push(at.event()?);
        }
        if events.is_empty() {
            return Err(BadLog("there is nothing behind the descriptor"));
        }
        Ok(Log { descriptor, events })
    }

    /// Its values, piece after piece.
    ///
    /// # Errors
    /// A piece is no Parquet file, or of a kind that is not read here.
    pub fn values(&self, inflate: Inflate<'_>) -> Result<Values, BadLog> {
        let mut all: Option<Values> = None;
        for event in &self.events {
            let values = Parquet::read(event.payload)?.values(inflate)?;
            all = Some(match all {
                None => values,
                Some(all) => all.and(values)?,
            });
        }
        all.ok_or(BadLog("there are no rows"))
    }

    /// Its rows.
    ///
    /// # Errors
    /// A piece is no Parquet file.
    pub fn rows(&self) -> Result<u64, BadLog> {
        let rows = self.events.iter().map(|event| Parquet::read(event.payload).map(|parquet| parquet.rows));
        rows.sum()
    }
}

struct Header {
    kind: i8,
    len: usize,
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn take(&mut self, len: usize) -> Result<&'b [u8], BadLog> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(BadLog("it is cut off"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadLog> {
        self.take(N)?.try_into().map_err(|_| BadLog("it is cut off"))
    }

    fn u32(&mut self) -> Result<u32, BadLog> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadLog> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, BadLog> {
        self.array().map(i64::from_le_bytes)
    }

    /// The header of an event, which must lie within the bytes.
    fn header(&mut self) -> Result<Header, BadLog> {
        let start = self.at;
        self.u64()?;
        let kind = self.take(1)?[0] as i8;
        let len = usize::try_from(self.u32()?).map_err(|_| BadLog("an event is too long"))?;
        self.u32()?;
        if len < HEADER_LEN || start.checked_add(len).is_none_or(|end| end > self.bytes.len()) {
            return Err(BadLog("an event is longer than the bytes that are there"));
        }
        Ok(Header { kind, len })
    }

    fn descriptor(&mut self) -> Result<Descriptor, BadLog> {
        if self.u32()? != MAGIC {
            return Err(BadLog("it does not begin as a log does"));
        }
        let head = self.header()?;
        if head.kind != 0 {
            return Err(BadLog("the first event is no descriptor"));
        }
        let descriptor = Descriptor {
            collection: self.i64()?,
            partition: self.i64()?,
            segment: self.i64()?,
            field: self.i64()?,
            from: self.u64()?,
            to: self.u64()?,
            data_type: self.u32()? as i32,
        };
        if head.len < HEADER_LEN + DESCRIPTOR_LEN + POST_HEADERS_LEN {
            return Err(BadLog("the descriptor is too short"));
        }
        self.at = MAGIC_LEN + head.len;
        Ok(descriptor)
    }

    fn event(&mut self) -> Result<Event<'b>, BadLog> {
        let head = self.header()?;
        let rest = head.len.checked_sub(HEADER_LEN + TIMES_LEN).ok_or(BadLog("an event is too short"))?;
        let (from, to) = (self.u64()?, self.u64()?);
        let payload = self.take(rest)?;
        let kind = match head.kind {
            1 => EventKind::Insert,
            2 => EventKind::Delete,
            other => EventKind::Other(other),
        };
        Ok(Event { kind, from, to, payload })
    }
}
