//! What the two ends of a log tell: where it belongs, how many rows it has and how they are stored. A log of vectors may
//! have many megabytes in between, which nobody has to fetch for that.

use super::{BadLog, Cursor, Descriptor, HEADER_LEN, Log, Parquet, Physical, TIMES_LEN};

/// What is known of a log without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it belongs.
    pub descriptor: Descriptor,
    /// Its rows.
    pub rows: u64,
    /// How its values are stored.
    pub physical: Option<Physical>,
}

impl Ends {
    /// Reads them from the first and the last bytes of a log of `len` bytes; none: these bytes are too few, or it has more than
    /// one piece, and it has to be read as a whole.
    ///
    /// # Errors
    /// It is no log, or not whole.
    pub fn read(head: &[u8], tail: &[u8], len: u64) -> Result<Option<Ends>, BadLog> {
        let mut at = Cursor { bytes: head, at: 0 };
        let descriptor = at.descriptor()?;
        let Some(event) = head.get(at.at..at.at + HEADER_LEN) else { return Ok(None) };
        let event_len = u64::from(u32::from_le_bytes([event[9], event[10], event[11], event[12]]));
        let behind = (at.at as u64).checked_add(event_len).ok_or(BadLog("an event is too long"))?;
        if behind > len {
            return Err(BadLog("an event is longer than the bytes that are there"));
        }
        let Some(payload) = event_len.checked_sub((HEADER_LEN + TIMES_LEN) as u64) else {
            return Err(BadLog("an event is too short"));
        };
        if behind < len {
            return Ok(None);
        }
        let tail = &tail[tail.len() - tail.len().min(usize::try_from(payload).unwrap_or(usize::MAX))..];
        let parquet = Parquet::of_tail(tail, payload)?;
        Ok(parquet.map(|parquet| Ends { descriptor, rows: parquet.rows, physical: parquet.physical }))
    }

    /// The same of a log that is there as a whole.
    ///
    /// # Errors
    /// It is no log, or not whole.
    pub fn of(log: &Log<'_>) -> Result<Ends, BadLog> {
        let mut ends = Ends { descriptor: log.descriptor, rows: 0, physical: None };
        for event in &log.events {
            let parquet = Parquet::read(event.payload)?;
            ends.rows = ends.rows.checked_add(parquet.rows).ok_or(BadLog("it claims more rows than there can be"))?;
            ends.physical = parquet.physical;
        }
        Ok(ends)
    }
}
