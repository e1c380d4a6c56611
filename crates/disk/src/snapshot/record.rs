//! The bytes of bucket `key`: where a record stands, and what it says, read in place.

use eyrie_state::Position;

/// Length of the key of a put; a tombstone's is one longer.
const POSITION_LEN: usize = 17;
const TOMBSTONE_MARK: u8 = b't';

/// The name of a record in bucket `key`: revision, `_`, number inside the revision, and `t` for a tombstone.
pub fn record_name(at: Position, tombstone: bool) -> RecordName {
    let mut bytes = [0; POSITION_LEN + 1];
    bytes[..8].copy_from_slice(&at.main.to_be_bytes());
    bytes[8] = b'_';
    bytes[9..17].copy_from_slice(&u64::from(at.sub).to_be_bytes());
    bytes[17] = TOMBSTONE_MARK;
    RecordName { bytes, len: if tombstone { POSITION_LEN + 1 } else { POSITION_LEN } }
}

/// See [`record_name`].
#[derive(Debug, Clone, Copy)]
pub struct RecordName {
    bytes: [u8; POSITION_LEN + 1],
    len: usize,
}

impl AsRef<[u8]> for RecordName {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads a name back; `None` when no etcd writes such a name.
pub fn parse_record_name(name: &[u8]) -> Option<(Position, bool)> {
    let tombstone = match name.len() {
        POSITION_LEN => false,
        n if n == POSITION_LEN + 1 && name[POSITION_LEN] == TOMBSTONE_MARK => true,
        _ => return None,
    };
    let main = i64::from_be_bytes(name[..8].try_into().ok()?);
    let sub = u64::from_be_bytes(name[9..POSITION_LEN].try_into().ok()?);
    if name[8] != b'_' || main < 0 {
        return None;
    }
    Some((Position { main, sub: u32::try_from(sub).ok()? }, tombstone))
}

/// A revision as bucket `meta` keeps it (`scheduledCompactRev`, `finishedCompactRev`).
pub fn revision_mark(revision: i64) -> [u8; POSITION_LEN] {
    let name = record_name(Position { main: revision, sub: 0 }, false);
    let mut mark = [0; POSITION_LEN];
    mark.copy_from_slice(name.as_ref());
    mark
}

/// A record's fields, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct RecordView<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

/// Reads the protobuf message `mvccpb.KeyValue`; `None` when the bytes are not one. Unknown fields are passed over.
pub fn parse_record(mut bytes: &[u8]) -> Option<RecordView<'_>> {
    let mut record = RecordView::default();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (1, 2) => record.key = chunk(&mut bytes)?,
            (2, 0) => record.create_revision = varint(&mut bytes)?.cast_signed(),
            (3, 0) => record.mod_revision = varint(&mut bytes)?.cast_signed(),
            (4, 0) => record.version = varint(&mut bytes)?.cast_signed(),
            (5, 2) => record.value = chunk(&mut bytes)?,
            (6, 0) => record.lease = varint(&mut bytes)?.cast_signed(),
            (1..=6 | 0, _) => return None,
            (_, 0) => drop(varint(&mut bytes)?),
            (_, 1) => bytes = bytes.get(8..)?,
            (_, 2) => drop(chunk(&mut bytes)?),
            (_, 5) => bytes = bytes.get(4..)?,
            _ => return None,
        }
    }
    Some(record)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (shift * 7);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn chunk<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint(bytes)?).ok()?;
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for (main, sub, tombstone) in [(2, 0, false), (i64::MAX, u32::MAX, true), (77, 3, true)] {
            let at = Position { main, sub };
            assert_eq!(parse_record_name(record_name(at, tombstone).as_ref()), Some((at, tombstone)));
        }
    }

    #[test]
    fn foreign_names_are_refused() {
        let good = record_name(Position { main: 5, sub: 1 }, true);
        let mut bad = good.as_ref().to_vec();
        bad[8] = b'-';
        assert_eq!(parse_record_name(&bad), None);
        assert_eq!(parse_record_name(&good.as_ref()[..16]), None);
        bad = good.as_ref().to_vec();
        bad[17] = b'x';
        assert_eq!(parse_record_name(&bad), None);
        bad = good.as_ref().to_vec();
        bad[0] = 0x80;
        assert_eq!(parse_record_name(&bad), None, "negative revision");
    }

    #[test]
    fn records_are_read_and_every_truncation_is_noticed_or_shorter() {
        let bytes = b"\x0a\x03abc\x10\x05\x18\x07\x20\x02\x2a\x02hi\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let record = parse_record(bytes).unwrap();
        assert_eq!((record.key, record.value, record.lease), (&b"abc"[..], &b"hi"[..], -1));
        assert_eq!((record.create_revision, record.mod_revision, record.version), (5, 7, 2));
        for cut in 0..bytes.len() {
            assert_ne!(parse_record(&bytes[..cut]), Some(record));
        }
        assert_eq!(parse_record(b"\x08\x01"), None, "key of the wrong wire type");
    }
}
