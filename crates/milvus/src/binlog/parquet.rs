//! A Parquet file with one column: how many rows it has, and its values.
//!
//! What Milvus writes is read: all of its types, plain or by a dictionary, with or without room for nulls, uncompressed or in
//! a compression that the caller undoes.

use std::ops::Range;

use super::thrift::Thrift;
use super::{BadLog, thrift};
use crate::limits::LOG_VALUES_MAX;

/// The last four bytes, and the first.
const MAGIC: &[u8] = b"PAR1";
const CUT: BadLog = BadLog("the rows end too early");
const NO_PARQUET: BadLog = BadLog("the rows are no Parquet file");
const UNKNOWN: BadLog = BadLog("the column is of a kind that is not read here");

/// Undoes a compression: Parquet's number of it, the bytes, and how many bytes come out.
pub type Inflate<'f> = &'f dyn Fn(i64, &[u8], usize) -> Option<Vec<u8>>;

/// How a column's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Physical {
    /// One bit each.
    Bool,
    /// Four bytes; small integers, too.
    Int32,
    /// Eight bytes.
    Int64,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// A length, and as many bytes.
    Text,
    /// So many bytes each: vectors.
    Fixed(usize),
}

impl Physical {
    fn of(leaf: &Thrift<'_>) -> Option<Physical> {
        Some(match leaf.int(1)? {
            0 => Physical::Bool,
            1 => Physical::Int32,
            2 => Physical::Int64,
            4 => Physical::Float,
            5 => Physical::Double,
            6 => Physical::Text,
            7 => Physical::Fixed(usize::try_from(leaf.int(2)?).ok().filter(|width| *width > 0)?),
            _ => return None,
        })
    }

    /// Parquet's number of it.
    pub(super) fn number(self) -> i64 {
        match self {
            Physical::Bool => 0,
            Physical::Int32 => 1,
            Physical::Int64 => 2,
            Physical::Float => 4,
            Physical::Double => 5,
            Physical::Text => 6,
            Physical::Fixed(_) => 7,
        }
    }

    /// No values yet.
    fn none(self) -> Values {
        match self {
            Physical::Int64 => Values::Numbers(Vec::new()),
            Physical::Text => Values::Texts(Vec::new()),
            Physical::Bool => Values::Fixed(1, Vec::new()),
            Physical::Int32 | Physical::Float => Values::Fixed(4, Vec::new()),
            Physical::Double => Values::Fixed(8, Vec::new()),
            Physical::Fixed(width) => Values::Fixed(width, Vec::new()),
        }
    }
}

/// The values of a column that is not null anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// Numbers of 64 bits.
    Numbers(Vec<i64>),
    /// Texts, or bytes.
    Texts(Vec<Vec<u8>>),
    /// All others: so many bytes each, one behind the other; a truth takes one.
    Fixed(usize, Vec<u8>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::Numbers(values) => values.len(),
            Values::Texts(values) => values.len(),
            Values::Fixed(width, bytes) => bytes.len() / width,
        }
    }

    /// Those whose place is wanted, in their order.
    pub(super) fn only(self, keep: &dyn Fn(usize) -> bool) -> Values {
        fn picked<T>(values: Vec<T>, keep: &dyn Fn(usize) -> bool) -> Vec<T> {
            values.into_iter().enumerate().filter(|(place, _)| keep(*place)).map(|(_, value)| value).collect()
        }
        match self {
            Values::Numbers(values) => Values::Numbers(picked(values, keep)),
            Values::Texts(values) => Values::Texts(picked(values, keep)),
            Values::Fixed(width, bytes) => {
                let kept = bytes.chunks_exact(width).enumerate().filter(|(place, _)| keep(*place));
                Values::Fixed(width, kept.flat_map(|(_, value)| value.iter().copied()).collect())
            }
        }
    }

    /// These and those behind them.
    pub(super) fn and(self, more: Values) -> Result<Values, BadLog> {
        match (self, more) {
            (Values::Numbers(mut all), Values::Numbers(more)) => {
                all.extend(more);
                Ok(Values::Numbers(all))
            }
            (Values::Texts(mut all), Values::Texts(more)) => {
                all.extend(more);
                Ok(Values::Texts(all))
            }
            (Values::Fixed(width, mut all), Values::Fixed(other, more)) if width == other => {
                all.extend(more);
                Ok(Values::Fixed(width, all))
            }
            _ => Err(BadLog("the column changes its kind")),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The description of a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parquet<'b> {
    /// Its rows.
    pub rows: u64,
    /// How its values are stored, if it says so in a way that is read here.
    pub physical: Option<Physical>,
    /// Whether the column may have nulls, which costs bits before the values.
    pub(super) optional: bool,
    /// The description itself.
    pub(super) description: &'b [u8],
    bytes: &'b [u8],
    /// The column's parts, one for each group of rows.
    chunks: Vec<Chunk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    kind: i64,
    codec: i64,
    values: u64,
    pages: Range<usize>,
}

impl<'b> Parquet<'b> {
    /// Reads the description at the end.
    ///
    /// # Errors
    /// The bytes are no Parquet file, or not whole.
    pub fn read(bytes: &'b [u8]) -> Result<Parquet<'b>, BadLog> {
        if !bytes.starts_with(MAGIC) {
            return Err(NO_PARQUET);
        }
        Parquet::of_tail(bytes, bytes.len() as u64)?.ok_or(CUT)
    }

    /// Reads the description out of the last bytes of a file of `len` bytes; none: there are too few of them. The values can
    /// only be had where all bytes are there.
    ///
    /// # Errors
    /// The bytes are no end of a Parquet file.
    pub(super) fn of_tail(tail: &'b [u8], len: u64) -> Result<Option<Parquet<'b>>, BadLog> {
        let (rest, magic) = tail.split_last_chunk::<4>().ok_or(CUT)?;
        if magic != MAGIC {
            return Err(NO_PARQUET);
        }
        let (rest, size) = rest.split_last_chunk::<4>().ok_or(CUT)?;
        let size = u32::from_le_bytes(*size);
        let start = len.checked_sub(u64::from(size) + 12).ok_or(CUT)? + 4;
        let size = usize::try_from(size).map_err(|_| CUT)?;
        let Some(at) = rest.len().checked_sub(size) else { return Ok(None) };
        let raw = &rest[at..];
        let (description, _) = thrift::read(raw)?;
        let rows = description.int(3).and_then(|rows| u64::try_from(rows).ok());
        let rows = rows.ok_or(BadLog("the number of rows is missing"))?;
        // Every group of rows says how many it has; together they must be all.
        let groups = description.list(4);
        let counts = groups.iter().map(|group| group.int(3).and_then(|rows| u64::try_from(rows).ok()));
        let sum = counts.fold(Some(0u64), |sum, rows| sum?.checked_add(rows?));
        if sum != Some(rows) {
            return Err(BadLog("the numbers of rows contradict each other"));
        }
        let chunks = groups.iter().filter_map(|group| chunk(group.list(1).first()?, start)).collect();
        // The first element is the root; a column may be required (0), optional (1) or repeated (2). Of several columns the
        // first would not be all: none is read.
        let leaf = description.list(2).get(1).filter(|_| description.list(2).len() == 2);
        let optional = leaf.and_then(|leaf| leaf.int(3)) == Some(1);
        let physical = leaf.and_then(Physical::of);
        Ok(Some(Parquet { rows, physical, optional, description: raw, bytes: tail, chunks }))
    }

    /// The values of the column.
    ///
    /// # Errors
    /// They are of a kind, an encoding or a compression that is not read here, there are nulls, or they are broken.
    pub fn values(&self, inflate: Inflate<'_>) -> Result<Values, BadLog> {
        if self.rows > LOG_VALUES_MAX {
            return Err(BadLog("there are more rows than a log ever has"));
        }
        let physical = self.physical.ok_or(UNKNOWN)?;
        let mut all = physical.none();
        for chunk in &self.chunks {
            all = all.and(self.chunk(physical, chunk, inflate)?)?;
        }
        if all.len() as u64 != self.rows {
            return Err(BadLog("there are not as many values as rows"));
        }
        Ok(all)
    }

    fn chunk(&self, physical: Physical, chunk: &Chunk, inflate: Inflate<'_>) -> Result<Values, BadLog> {
        let mut rest = self.bytes.get(chunk.pages.clone()).ok_or(CUT)?;
        let mut dictionary = None;
        let mut values = physical.none();
        if chunk.kind != physical.number() {
            return Err(BadLog("the column is of another kind than its description says"));
        }
        while (values.len() as u64) < chunk.values {
            let (head, used) = thrift::read(rest)?;
            let size = |id| head.int(id).and_then(|size| usize::try_from(size).ok()).ok_or(CUT);
            let (plain, packed) = (size(2)?, size(3)?);
            let page = rest.get(used..).and_then(|rest| rest.get(..packed)).ok_or(CUT)?;
            rest = &rest[used + packed..];
            if plain > page.len().saturating_mul(10_000).max(1 << 20) {
                return Err(BadLog("a page claims to be larger than it can be"));
            }
            let inflated = match chunk.codec {
                0 => page.to_vec(),
                codec => inflate(codec, page, plain)
                    .filter(|out| out.len() == plain)
                    .ok_or(BadLog("a page can't be inflated"))?,
            };
            let room = chunk.values - values.len() as u64;
            match head.int(1) {
                Some(2) => {
                    let count = head.field(7).and_then(|head| head.int(1)).and_then(|n| usize::try_from(n).ok());
                    dictionary = Some(plain_values(physical, &inflated, count.ok_or(CUT)?)?);
                }
                Some(0) => {
                    let head = head.field(5).ok_or(CUT)?;
                    let count =
                        head.int(1).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0 && *n <= room).ok_or(CUT)?;
                    let count = usize::try_from(count).map_err(|_| CUT)?;
                    let body = if self.optional { without_nulls(&inflated, count)? } else { &inflated[..] };
                    let page = match head.int(2) {
                        Some(0) => plain_values(physical, body, count)?,
                        Some(2 | 8) => {
                            looked_up(dictionary.as_ref().ok_or(BadLog("the dictionary is missing"))?, body, count)?
                        }
                        _ => return Err(BadLog("the values are in an encoding that is not read here")),
                    };
                    values = values.and(page)?;
                }
                _ => return Err(BadLog("a page is of a kind that is not read here")),
            }
        }
        Ok(values)
    }
}

/// Where a column's pages are, and how they are packed.
fn chunk(column: &Thrift<'_>, end: u64) -> Option<Chunk> {
    let meta = column.field(3)?;
    let place = |id| meta.int(id).and_then(|at| usize::try_from(at).ok());
    let start = match place(11) {
        Some(dictionary) if dictionary > 0 => dictionary.min(place(9)?),
        _ => place(9)?,
    };
    let stop = start.checked_add(place(7)?)?;
    (stop as u64 <= end).then_some(())?;
    let values = u64::try_from(meta.int(5)?).ok()?;
    Some(Chunk { kind: meta.int(1)?, codec: meta.int(4)?, values, pages: start..stop })
}

fn plain_values(physical: Physical, bytes: &[u8], count: usize) -> Result<Values, BadLog> {
    match physical.none() {
        Values::Numbers(_) => {
            let chunks = bytes.as_chunks::<8>().0.iter().take(count);
            let numbers: Vec<i64> = chunks.map(|chunk| i64::from_le_bytes(*chunk)).collect();
            if numbers.len() == count { Ok(Values::Numbers(numbers)) } else { Err(CUT) }
        }
        Values::Texts(mut texts) => {
            let mut rest = bytes;
            for _ in 0..count {
                let (len, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
                let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| CUT)?;
                let (text, after) = after.split_at_checked(len).ok_or(CUT)?;
                texts.push(text.to_vec());
                rest = after;
            }
            Ok(Values::Texts(texts))
        }
        Values::Fixed(_, _) if physical == Physical::Bool => {
            let bits = bytes.get(..count.div_ceil(8)).ok_or(CUT)?;
            Ok(Values::Fixed(1, (0..count).map(|place| bits[place / 8] >> (place % 8) & 1).collect()))
        }
        Values::Fixed(width, _) => {
            let len = width.checked_mul(count).ok_or(CUT)?;
            Ok(Values::Fixed(width, bytes.get(..len).ok_or(CUT)?.to_vec()))
        }
    }
}

/// What stands behind the bits that say which values are null; none may be.
fn without_nulls(bytes: &[u8], count: usize) -> Result<&[u8], BadLog> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(CUT)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| CUT)?;
    let (levels, values) = rest.split_at_checked(len).ok_or(CUT)?;
    if runs(levels, 1, count)?.iter().any(|level| *level != 1) {
        return Err(BadLog("there are nulls where none can be"));
    }
    Ok(values)
}

/// Values by their places in the dictionary.
fn looked_up(dictionary: &Values, bytes: &[u8], count: usize) -> Result<Values, BadLog> {
    let (width, rest) = bytes.split_first().ok_or(CUT)?;
    let places = runs(rest, u32::from(*width), count)?;
    let lost = BadLog("a value is not in the dictionary");
    let places = places.into_iter().map(|place| usize::try_from(place).unwrap_or(usize::MAX));
    Ok(match dictionary {
        Values::Numbers(all) => {
            Values::Numbers(places.map(|place| all.get(place).copied()).collect::<Option<_>>().ok_or(lost)?)
        }
        Values::Texts(all) => {
            Values::Texts(places.map(|place| all.get(place).cloned()).collect::<Option<_>>().ok_or(lost)?)
        }
        Values::Fixed(width, all) => {
            let (all, mut out) =
                (all.chunks_exact(*width), Vec::with_capacity(count.saturating_mul(*width).min(1 << 24)));
            for place in places {
                out.extend_from_slice(all.clone().nth(place).ok_or(lost.clone())?);
            }
            Values::Fixed(*width, out)
        }
    })
}

/// Numbers of `width` bits, in runs of one value and runs of packed ones.
fn runs(mut bytes: &[u8], width: u32, count: usize) -> Result<Vec<u64>, BadLog> {
    if width > 32 {
        return Err(BadLog("a run is wider than it can be"));
    }
    let mut out = Vec::with_capacity(count.min(1 << 20));
    while out.len() < count {
        let (mut head, mut shift) = (0u64, 0);
        loop {
            let (byte, rest) = bytes.split_first().ok_or(CUT)?;
            bytes = rest;
            head |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if *byte < 0x80 {
                break;
            }
            if shift > 35 {
                return Err(CUT);
            }
        }
        let left = count - out.len();
        if head & 1 == 0 {
            let wide = (width as usize).div_ceil(8);
            let (value, rest) = bytes.split_at_checked(wide).ok_or(CUT)?;
            bytes = rest;
            let value = value.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            let run = usize::try_from(head >> 1).map_err(|_| CUT)?;
            if run == 0 {
                return Err(CUT);
            }
            out.extend(std::iter::repeat_n(value, run.min(left)));
        } else {
            let groups = usize::try_from(head >> 1).map_err(|_| CUT)?;
            let len = groups.checked_mul(width as usize).ok_or(CUT)?;
            if groups == 0 {
                return Err(CUT);
            }
            // The last group may be cut where its values end.
            let (packed, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
            bytes = rest;
            let wanted = left.min(groups * 8);
            for place in 0..wanted {
                let mut value = 0u64;
                for bit in 0..width as usize {
                    let at = place * width as usize + bit;
                    let byte = packed.get(at / 8).ok_or(CUT)?;
                    value |= u64::from(byte >> (at % 8) & 1) << bit;
                }
                out.push(value);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_value_and_packed_ones() {
        // four times 5, then 8 packed values of 3 bits: 0..=7
        let bytes = [0x08, 0x05, 0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(runs(&bytes, 3, 12).unwrap(), [5, 5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(runs(&bytes, 3, 4).unwrap(), [5; 4]);
        assert!(runs(&bytes, 3, 13).is_err());
        assert!(runs(&[0x00, 0x00], 3, 1).is_err(), "a run of nothing never ends");
        assert_eq!(runs(&[0x06], 0, 3).unwrap(), [0, 0, 0], "one value needs no bits");
    }

    #[test]
    fn plain_values_are_as_many_as_they_claim() {
        let numbers = [1i64.to_le_bytes(), (-2i64).to_le_bytes()].concat();
        assert_eq!(plain_values(Physical::Int64, &numbers, 2).unwrap(), Values::Numbers(vec![1, -2]));
        assert!(plain_values(Physical::Int64, &numbers, 3).is_err());
        let texts = [&3u32.to_le_bytes()[..], b"abc", &0u32.to_le_bytes()[..]].concat();
        assert_eq!(plain_values(Physical::Text, &texts, 2).unwrap(), Values::Texts(vec![b"abc".to_vec(), vec![]]));
        assert!(plain_values(Physical::Text, &texts, 3).is_err());
    }
}
