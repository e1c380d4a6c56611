//! The tables' bytes: keys, sealed values, the sheet of counts (docs/format/tables.md).
//!
//! Values to bytes and back; every value carries its own checksum, which covers its key too.

use eyrie_state::{Bucket, LogIndex, Position, Term};
use redb::TableDefinition;

pub(super) const HISTORY: TableDefinition<'static, &[u8; KEY_LEN], &[u8]> = TableDefinition::new("history");
pub(super) const SMALL: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("small");
pub(super) const ABOUT: TableDefinition<'static, u8, &[u8]> = TableDefinition::new("about");

pub(super) const KEY_LEN: usize = 12;
pub(super) const SHEET_KEY: u8 = 0;
const SHEET_LEN: usize = 64;
const VERSION: u32 = 1;
const CRC_LEN: usize = 4;
const TOMBSTONE: u8 = 1;

/// A history key. Revisions are never negative, so byte order is revision order.
pub(super) fn key(at: Position) -> [u8; KEY_LEN] {
    let mut k = [0; KEY_LEN];
    k[..8].copy_from_slice(&at.main.to_be_bytes());
    k[8..].copy_from_slice(&at.sub.to_be_bytes());
    k
}

pub(super) fn position(key: &[u8; KEY_LEN]) -> Position {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *key;
    Position { main: i64::from_be_bytes([a, b, c, d, e, f, g, h]), sub: u32::from_be_bytes([i, j, k, l]) }
}

/// Writes a history value into `out`, replacing its content.
pub(super) fn seal_record(key: &[u8; KEY_LEN], tombstone: bool, record: &[u8], out: &mut Vec<u8>) {
    out.clear();
    seal_record_onto(key, tombstone, record, out);
}

/// Writes a history value behind what `out` holds; returns its checksum.
pub(super) fn seal_record_onto(key: &[u8; KEY_LEN], tombstone: bool, record: &[u8], out: &mut Vec<u8>) -> u32 {
    let begin = out.len();
    out.extend([0; CRC_LEN]);
    out.push(u8::from(tombstone));
    out.extend_from_slice(record);
    seal(key, &mut out[begin..]);
    crc_of(&out[begin..])
}

/// Checks a history value and takes it apart.
pub(super) fn open_record<'a>(key: &[u8], value: &'a [u8]) -> Result<(bool, &'a [u8]), &'static str> {
    match open(key, value)?.split_first() {
        Some((0, record)) => Ok((false, record)),
        Some((&TOMBSTONE, record)) => Ok((true, record)),
        _ => Err("a record has unknown flags"),
    }
}

/// A key of table `small`.
pub(super) fn small_key(bucket: Bucket, key: &[u8]) -> Vec<u8> {
    let mut k = Vec::with_capacity(1 + key.len());
    k.push(bucket_number(bucket));
    k.extend_from_slice(key);
    k
}

pub(super) fn seal_small(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend([0; CRC_LEN]);
    out.extend_from_slice(value);
    seal(key, out);
}

/// Checks any sealed value and returns what follows its checksum.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (crc, rest) = value.split_first_chunk::<CRC_LEN>().ok_or("a value is too short")?;
    if crc32c::crc32c_append(crc32c::crc32c(key), rest) != u32::from_le_bytes(*crc) {
        return Err("a value's checksum does not match");
    }
    Ok(rest)
}

/// The checksum that a sealed value carries: what the sheet sums up.
pub(super) fn crc_of(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc))
}

fn seal(key: &[u8], out: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &out[CRC_LEN..]);
    out[..CRC_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// The stored number of a bucket.
pub(super) fn bucket_number(bucket: Bucket) -> u8 {
    match bucket {
        Bucket::Meta => 1,
        Bucket::Lease => 2,
        Bucket::Alarm => 3,
        Bucket::Auth => 4,
        Bucket::AuthUsers => 5,
        Bucket::AuthRoles => 6,
        Bucket::Cluster => 7,
        Bucket::Members => 8,
        Bucket::MembersRemoved => 9,
    }
}

/// What the tables hold, by their own count. Written in the same transaction as the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sheet {
    pub(super) applied: (LogIndex, Term),
    /// Records in `history`.
    pub(super) records: u64,
    /// Sum of their checksums, modulo 2^64.
    pub(super) sum: u64,
    /// Records in `small`.
    pub(super) small: u64,
    /// Sum of their checksums, modulo 2^64.
    pub(super) small_sum: u64,
    /// Bytes of keys and values in both.
    pub(super) bytes: u64,
}

impl Sheet {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; CRC_LEN];
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 4]);
        for n in [self.applied.0.0, self.applied.1.0, self.records, self.sum, self.small, self.small_sum, self.bytes] {
            out.extend(n.to_le_bytes());
        }
        seal(&[SHEET_KEY], &mut out);
        out
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, String> {
        let rest = open(&[SHEET_KEY], value)?;
        let version = rest.first_chunk().map_or(0, |v| u32::from_le_bytes(*v));
        if version > VERSION {
            return Err(format!("it was written by a newer eyrie (tables version {version}); use that one"));
        }
        if version != VERSION || rest.len() != SHEET_LEN {
            return Err("the sheet of counts has a wrong form".into());
        }
        let n = |i: usize| {
            let mut b = [0; 8];
            b.copy_from_slice(&rest[8 + i * 8..16 + i * 8]);
            u64::from_le_bytes(b)
        };
        let applied = (LogIndex(n(0)), Term(n(1)));
        Ok(Self { applied, records: n(2), sum: n(3), small: n(4), small_sum: n(5), bytes: n(6) })
    }

    pub(super) fn record_added(&mut self, value: &[u8]) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(u64::from(crc_of(value)));
        self.bytes += (KEY_LEN + value.len()) as u64;
    }

    pub(super) fn record_dropped(&mut self, value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(crc_of(value)));
        self.bytes = self.bytes.saturating_sub((KEY_LEN + value.len()) as u64);
    }

    pub(super) fn small_added(&mut self, key: &[u8], value: &[u8]) {
        self.small += 1;
        self.small_sum = self.small_sum.wrapping_add(u64::from(crc_of(value)));
        self.bytes += (key.len() + value.len()) as u64;
    }

    pub(super) fn small_dropped(&mut self, key: &[u8], value: &[u8]) {
        self.small = self.small.wrapping_sub(1);
        self.small_sum = self.small_sum.wrapping_sub(u64::from(crc_of(value)));
        self.bytes = self.bytes.saturating_sub((key.len() + value.len()) as u64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back_and_any_flip_is_found(main in 0..i64::MAX, sub: u32, tombstone: bool, record: Vec<u8>, bit: prop::sample::Index) {
            let at = Position { main, sub };
            let k = key(at);
            prop_assert_eq!(position(&k), at);
            let mut value = Vec::new();
            seal_record(&k, tombstone, &record, &mut value);
            prop_assert_eq!(open_record(&k, &value).unwrap(), (tombstone, &record[..]));
            let bit = bit.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open_record(&k, &value).is_err());
        }

        #[test]
        fn a_sheet_comes_back(a: u64, t: u64, records: u64, sum: u64, small: u64, small_sum: u64, bytes: u64) {
            let sheet = Sheet { applied: (LogIndex(a), Term(t)), records, sum, small, small_sum, bytes };
            prop_assert_eq!(Sheet::decode(&sheet.encode()).unwrap(), sheet);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = open_record(&key, &value);
            let _ = Sheet::decode(&value);
        }
    }

    #[test]
    fn bucket_numbers_are_frozen() {
        let numbers: Vec<u8> = Bucket::ALL.iter().map(|b| bucket_number(*b)).collect();
        assert_eq!(numbers, [3, 4, 6, 5, 7, 2, 8, 9, 1]);
    }
}
