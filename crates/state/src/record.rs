//! The bytes of etcd's buckets: history records, leases, alarms, revisions.
//!
//! Records are protobuf messages of upstream's `mvccpb`, `leasepb` and `etcdserverpb`, written by hand in upstream's
//! field order with zero fields left out, so that hashes and snapshots are equal byte for byte. See
//! `docs/format/records.md`. This page must never know what a record is for.

use std::ops::Range;

use bytes::Bytes;

use crate::answer::{Alarm, KeyValue};
use crate::command::AlarmKind;
use crate::ids::{LeaseId, MemberId, Position};

/// Row of bucket `meta`: the compaction that was asked for.
pub const META_COMPACT_SCHEDULED: &[u8] = b"scheduledCompactRev";
/// Row of bucket `meta`: the compaction that was carried out.
pub const META_COMPACT_FINISHED: &[u8] = b"finishedCompactRev";
/// Row of bucket `cluster`.
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
/// Row of bucket `auth`.
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
/// Row of bucket `auth`.
pub const AUTH_REVISION: &[u8] = b"authRevision";
/// What every row of bucket `members_removed` holds.
pub const MEMBER_REMOVED: &[u8] = b"removed";

/// The length of a [`position_key`] without the tombstone mark.
pub const POSITION_KEY_LEN: usize = 17;

/// The key of a record in etcd's bucket `key`: 18 bytes, of which a live record uses the first 17.
pub fn position_key(at: Position, tombstone: bool) -> ([u8; POSITION_KEY_LEN + 1], usize) {
    let mut key = [0; POSITION_KEY_LEN + 1];
    key[..POSITION_KEY_LEN].copy_from_slice(&revision_bytes(at));
    key[POSITION_KEY_LEN] = b't';
    (key, POSITION_KEY_LEN + usize::from(tombstone))
}

/// What [`position_key`] wrote; `None` when it did not.
pub fn parse_position_key(key: &[u8]) -> Option<(Position, bool)> {
    let tombstone = match key.len() {
        POSITION_KEY_LEN => false,
        n if n == POSITION_KEY_LEN + 1 && key[POSITION_KEY_LEN] == b't' => true,
        _ => return None,
    };
    let main = i64::from_be_bytes(key[..8].try_into().ok()?);
    let sub = i64::from_be_bytes(key[9..POSITION_KEY_LEN].try_into().ok()?);
    let sub = u32::try_from(sub).ok()?;
    (key[8] == b'_' && main >= 0).then_some((Position { main, sub }, tombstone))
}

/// A revision as bucket `meta` keeps it.
pub fn revision_bytes(at: Position) -> [u8; POSITION_KEY_LEN] {
    let mut key = [0; POSITION_KEY_LEN];
    key[..8].copy_from_slice(&at.main.to_be_bytes());
    key[8] = b'_';
    key[9..].copy_from_slice(&i64::from(at.sub).to_be_bytes());
    key
}

/// A live record with its parts: they are slices of the record, so a holder pins nothing but this record.
pub(crate) struct NewRecord {
    pub(crate) record: Bytes,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// The marks of a live record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) create: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

/// Writes a live record (`mvccpb.KeyValue`).
pub(crate) fn live(key: &[u8], value: &[u8], marks: Marks) -> NewRecord {
    let mut out = Vec::with_capacity(key.len() + value.len() + 52);
    let key_at = put_bytes(&mut out, 1, key);
    put_number(&mut out, 2, marks.create);
    put_number(&mut out, 3, marks.modified);
    put_number(&mut out, 4, marks.version);
    let value_at = put_bytes(&mut out, 5, value);
    put_number(&mut out, 6, marks.lease.0);
    let record = Bytes::from(out);
    NewRecord { key: record.slice(key_at), value: record.slice(value_at), record }
}

/// Writes a tombstone (`mvccpb.KeyValue` with nothing but the key).
pub(crate) fn tombstone(key: &[u8]) -> NewRecord {
    let mut out = Vec::with_capacity(key.len() + 6);
    let key_at = put_bytes(&mut out, 1, key);
    let record = Bytes::from(out);
    NewRecord { key: record.slice(key_at), value: Bytes::new(), record }
}

/// A record's parts, by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordView {
    /// Where the key stands.
    pub key: Range<usize>,
    /// Where the value stands.
    pub value: Range<usize>,
    /// Revision of the creating put.
    pub create_revision: i64,
    /// Revision of this put.
    pub mod_revision: i64,
    /// Puts since creation.
    pub version: i64,
    /// The lease; 0 for none.
    pub lease: LeaseId,
}

/// Reads a record without copying it.
///
/// # Errors
/// Words that say what is wrong with the bytes.
pub fn view(record: &[u8]) -> Result<RecordView, &'static str> {
    let mut view = RecordView::default();
    let mut reader = Reader { bytes: record, at: 0 };
    while let Some(field) = reader.field()? {
        match field {
            (1, Field::Bytes(place)) => view.key = place,
            (2, Field::Number(n)) => view.create_revision = n,
            (3, Field::Number(n)) => view.mod_revision = n,
            (4, Field::Number(n)) => view.version = n,
            (5, Field::Bytes(place)) => view.value = place,
            (6, Field::Number(n)) => view.lease = LeaseId(n),
            (1..=6, _) => return Err("a field has the wrong type"),
            _ => {}
        }
    }
    if view.key.is_empty() { Err("the key is missing") } else { Ok(view) }
}

/// The pair in a live record; key and value are slices of it.
///
/// # Errors
/// As for [`view`].
pub fn key_value(record: &Bytes, keys_only: bool) -> Result<KeyValue, &'static str> {
    let view = view(record)?;
    Ok(KeyValue {
        key: record.slice(view.key),
        create_revision: view.create_revision,
        mod_revision: view.mod_revision,
        version: view.version,
        value: if keys_only { Bytes::new() } else { record.slice(view.value) },
        lease: view.lease,
    })
}

/// A row of bucket `lease` (`leasepb.Lease`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseRow {
    /// Its id.
    pub id: LeaseId,
    /// Granted seconds.
    pub ttl_secs: i64,
    /// Seconds left at the last checkpoint; 0 for none.
    pub remaining_secs: i64,
}

impl LeaseRow {
    /// The row's key.
    pub fn key(id: LeaseId) -> [u8; 8] {
        id.0.to_be_bytes()
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(33);
        put_number(&mut out, 1, self.id.0);
        put_number(&mut out, 2, self.ttl_secs);
        put_number(&mut out, 3, self.remaining_secs);
        out
    }

    /// Reads a row's value.
    ///
    /// # Errors
    /// Words that say what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut row = Self::default();
        let mut reader = Reader { bytes, at: 0 };
        while let Some(field) = reader.field()? {
            match field {
                (1, Field::Number(n)) => row.id = LeaseId(n),
                (2, Field::Number(n)) => row.ttl_secs = n,
                (3, Field::Number(n)) => row.remaining_secs = n,
                (1..=3, _) => return Err("a field has the wrong type"),
                _ => {}
            }
        }
        Ok(row)
    }
}

/// The key of a row of bucket `alarm` (`etcdserverpb.AlarmMember`); its value is empty.
pub fn alarm_key(alarm: Alarm) -> Vec<u8> {
    let mut out = Vec::with_capacity(13);
    put_number(&mut out, 1, alarm.member.0.cast_signed());
    put_number(&mut out, 2, alarm.kind as i64);
    out
}

/// Reads the key of a row of bucket `alarm`.
///
/// # Errors
/// Words that say what is wrong.
pub fn parse_alarm_key(bytes: &[u8]) -> Result<Alarm, &'static str> {
    let (mut member, mut kind) = (0, 0);
    let mut reader = Reader { bytes, at: 0 };
    while let Some(field) = reader.field()? {
        match field {
            (1, Field::Number(n)) => member = n,
            (2, Field::Number(n)) => kind = n,
            (1..=2, _) => return Err("a field has the wrong type"),
            _ => {}
        }
    }
    let kind = match kind {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => return Err("no release has such an alarm"),
    };
    Ok(Alarm { member: MemberId(member.cast_unsigned()), kind })
}

/// Appends a number in seven-bit groups, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads what [`put_varint`] wrote from the start of `bytes`: the number and its length. `None` when cut or too long.
#[inline]
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut n = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        if at == 9 && *byte > 1 {
            return None;
        }
        n |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((n, at + 1));
        }
    }
    None
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u8, n: i64) {
    if n != 0 {
        out.push(field << 3);
        put_varint(out, n.cast_unsigned());
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) -> Range<usize> {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
    out.len() - bytes.len()..out.len()
}

pub(crate) enum Field {
    Number(i64),
    Bytes(Range<usize>),
    Other,
}

pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl Reader<'_> {
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Field)>, &'static str> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?.cast_signed()),
            1 => self.skip(8)?,
            2 => {
                let len = usize::try_from(self.number()?).map_err(|_| "a length is too large")?;
                let start = self.at;
                self.skip(len)?;
                Field::Bytes(start..self.at)
            }
            5 => self.skip(4)?,
            _ => return Err("a field has an unknown type"),
        };
        Ok(Some((tag >> 3, field)))
    }

    #[inline]
    fn number(&mut self) -> Result<u64, &'static str> {
        let (n, len) = varint(&self.bytes[self.at..]).ok_or("a number is cut off")?;
        self.at += len;
        Ok(n)
    }

    fn skip(&mut self, len: usize) -> Result<Field, &'static str> {
        if len > self.bytes.len() - self.at {
            return Err("a field is cut off");
        }
        self.at += len;
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_upstreams_bytes() {
        let marks = Marks { create: 2, modified: 300, version: 3, lease: LeaseId(-1) };
        let new = live(b"foo", b"bar", marks);
        let want = [
            &b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x03\x2a\x03bar\x30"[..],
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ]
        .concat();
        assert_eq!(new.record, want);
        assert_eq!((&new.key[..], &new.value[..]), (&b"foo"[..], &b"bar"[..]));
        let kv = key_value(&new.record, false).unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (2, 300, 3, LeaseId(-1)));
        assert_eq!(tombstone(b"foo").record, &b"\x0a\x03foo"[..]);
        let empty = live(b"k", b"", Marks { create: 2, modified: 2, version: 1, lease: LeaseId(0) });
        assert_eq!(empty.record, &b"\x0a\x01k\x10\x02\x18\x02\x20\x01"[..]);
        assert!(empty.value.is_empty());
    }

    #[test]
    fn a_position_key_has_upstreams_bytes() {
        let at = Position { main: 258, sub: 7 };
        let (key, len) = position_key(at, true);
        assert_eq!(&key[..len], b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x07t");
        assert_eq!(parse_position_key(&key[..len]), Some((at, true)));
        let (key, len) = position_key(at, false);
        assert_eq!(parse_position_key(&key[..len]), Some((at, false)));
        assert_eq!(parse_position_key(&key[..16]), None);
    }

    #[test]
    fn a_cut_record_is_an_error_at_every_length() {
        let marks = Marks { create: 2, modified: 300, version: 3, lease: LeaseId(77) };
        let new = live(b"foo", b"bar", marks);
        for len in 0..new.record.len() {
            match view(&new.record[..len]) {
                Err(_) => {}
                // A cut between fields leaves a shorter message: protobuf cannot tell. Tables keep a checksum.
                Ok(short) => assert_ne!(short, view(&new.record).unwrap()),
            }
        }
    }

    #[test]
    fn alarm_and_lease_rows_come_back() {
        let alarm = Alarm { member: MemberId(u64::MAX), kind: AlarmKind::Corrupt };
        assert_eq!(parse_alarm_key(&alarm_key(alarm)), Ok(alarm));
        assert_eq!(alarm_key(Alarm { member: MemberId(0), kind: AlarmKind::NoSpace }), b"\x10\x01");
        let row = LeaseRow { id: LeaseId(-5), ttl_secs: 60, remaining_secs: 0 };
        assert_eq!(LeaseRow::decode(&row.encode()), Ok(row));
    }
}
