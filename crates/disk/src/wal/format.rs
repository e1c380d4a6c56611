//! The log's bytes: segment header, record header, record bodies (docs/format/wal.md).
//!
//! Values to bytes and back; knows no file. Never panics on any bytes, never allocates by a number it read.

use bytes::Bytes;
use eyrie_raft::{Entry, EntryKind, HardState, LogStart, Membership};

pub(crate) const MAGIC: [u8; 8] = *b"EYRIEWAL";
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER_LEN: usize = 64;
pub(crate) const RECORD_HEADER_LEN: usize = 16;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;

const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_LOG_START: u8 = 3;
const KIND_SETTLED: u8 = 4;

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) sequence: u64,
    pub(crate) first_index: u64,
    pub(crate) cluster: u64,
    pub(crate) member: u64,
    /// Crc of the last record of the segment before.
    pub(crate) previous: u32,
    /// Where the records that were synced together with the header end.
    pub(crate) head_end: u32,
    /// Bytes of the whole file, zeros included.
    pub(crate) file_len: u32,
}

/// Why a header was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    NotAWal,
    Newer(u32),
    Checksum,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut b = [0; HEADER_LEN];
        b[..8].copy_from_slice(&MAGIC);
        b[8..12].copy_from_slice(&VERSION.to_le_bytes());
        b[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        b[24..32].copy_from_slice(&self.first_index.to_le_bytes());
        b[32..40].copy_from_slice(&self.cluster.to_le_bytes());
        b[40..48].copy_from_slice(&self.member.to_le_bytes());
        b[48..52].copy_from_slice(&self.previous.to_le_bytes());
        b[52..56].copy_from_slice(&self.head_end.to_le_bytes());
        b[56..60].copy_from_slice(&self.file_len.to_le_bytes());
        let crc = crc32c::crc32c(&b[..60]);
        b[60..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Also returns the header's crc, with which the first record chains.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderFault> {
        let b: &[u8; HEADER_LEN] =
            bytes.get(..HEADER_LEN).and_then(|b| b.try_into().ok()).ok_or(HeaderFault::NotAWal)?;
        if b[..8] != MAGIC {
            return Err(HeaderFault::NotAWal);
        }
        let version = u32_at(b, 8);
        if version > VERSION {
            return Err(HeaderFault::Newer(version));
        }
        let crc = u32_at(b, 60);
        if version != VERSION || crc32c::crc32c(&b[..60]) != crc {
            return Err(HeaderFault::Checksum);
        }
        let header = Self {
            sequence: u64_at(b, 16),
            first_index: u64_at(b, 24),
            cluster: u64_at(b, 32),
            member: u64_at(b, 40),
            previous: u32_at(b, 48),
            head_end: u32_at(b, 52),
            file_len: u32_at(b, 56),
        };
        Ok((header, crc))
    }
}

/// Turns records into bytes that continue a segment at a given place.
pub(crate) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    salt: u32,
    previous: u32,
    synced: u32,
}

impl<'a> Encoder<'a> {
    /// `salt` is the crc of the segment's header; `previous` that of the record before; `synced` the offset before which
    /// all is known to be on disk.
    pub(crate) fn new(out: &'a mut Vec<u8>, salt: u32, previous: u32, synced: u32) -> Self {
        Self { out, salt, previous, synced }
    }

    /// The crc of the last record written.
    pub(crate) fn previous(&self) -> u32 {
        self.previous
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        let mut head = [0; 18];
        head[0] = KIND_ENTRY;
        head[1] = entry.kind as u8;
        head[2..10].copy_from_slice(&entry.index.to_le_bytes());
        head[10..].copy_from_slice(&entry.term.to_le_bytes());
        self.record(&head, &entry.data);
    }

    pub(crate) fn hard_state(&mut self, state: &HardState) {
        let mut body = [0; 25];
        body[0] = KIND_HARD_STATE;
        body[1..9].copy_from_slice(&state.term.to_le_bytes());
        body[9..17].copy_from_slice(&state.vote.to_le_bytes());
        body[17..].copy_from_slice(&state.commit.to_le_bytes());
        self.record(&body, &[]);
    }

    pub(crate) fn log_start(&mut self, start: &LogStart) {
        let mut body = vec![KIND_LOG_START];
        body.extend(start.index.to_le_bytes());
        body.extend(start.term.to_le_bytes());
        body.extend((start.membership.voters.len() as u32).to_le_bytes());
        body.extend((start.membership.learners.len() as u32).to_le_bytes());
        for id in start.membership.voters.iter().chain(&start.membership.learners) {
            body.extend(id.to_le_bytes());
        }
        self.record(&body, &[]);
    }

    pub(crate) fn settled(&mut self) {
        self.record(&[KIND_SETTLED], &[]);
    }

    fn record(&mut self, head: &[u8], rest: &[u8]) {
        let mut h = [0; RECORD_HEADER_LEN];
        h[..4].copy_from_slice(&((head.len() + rest.len()) as u32).to_le_bytes());
        h[4..8].copy_from_slice(&self.synced.to_le_bytes());
        h[8..12].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c_append(self.salt, &h[..12]), head), rest);
        h[12..].copy_from_slice(&crc.to_le_bytes());
        self.out.extend_from_slice(&h);
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(rest);
        self.out.resize(self.out.len().next_multiple_of(ALIGN), 0);
        self.previous = crc;
    }
}

/// The most that an entry takes in a segment beyond its data.
pub(crate) const ENTRY_OVERHEAD_MAX: u64 = (RECORD_HEADER_LEN + 18 + ALIGN) as u64;

/// Room that an entry takes in a segment.
pub(crate) fn entry_len(entry: &Entry) -> u64 {
    (RECORD_HEADER_LEN + 18 + entry.data.len()).next_multiple_of(ALIGN) as u64
}

/// A record that is well formed by itself; whether it continues the one before is the reader's question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) previous: u32,
    pub(crate) crc: u32,
    pub(crate) body: &'a [u8],
    /// Offset of what follows.
    pub(crate) end: usize,
}

/// Reads the record at `offset` of a whole segment, or says why there is none.
///
/// The salt keeps bytes that a client put into a value from passing for a record.
pub(crate) fn frame(segment: &[u8], offset: usize, salt: u32) -> Result<Frame<'_>, &'static str> {
    let bytes = segment.get(offset..).unwrap_or_default();
    let header = bytes.get(..RECORD_HEADER_LEN).ok_or("a record's header is cut off")?;
    let len = u32_at(header, 0) as usize;
    let (previous, crc) = (u32_at(header, 8), u32_at(header, 12));
    if len == 0 {
        return Err("a record has no body");
    }
    let body = bytes[RECORD_HEADER_LEN..].get(..len).ok_or("a record is longer than its file")?;
    if crc32c::crc32c_append(crc32c::crc32c_append(salt, &header[..12]), body) != crc {
        return Err("a record's checksum does not match");
    }
    let end = (RECORD_HEADER_LEN + len).next_multiple_of(ALIGN);
    if bytes[RECORD_HEADER_LEN + len..].iter().take(end - RECORD_HEADER_LEN - len).any(|b| *b != 0) {
        return Err("a record's padding is not zero");
    }
    Ok(Frame { previous, crc, body, end: offset + end })
}

/// The only field of a header that is worth a look before its checksum, when searching for proof.
pub(crate) fn synced_of(segment: &[u8], offset: usize) -> u32 {
    segment.get(offset..offset + 8).map_or(0, |b| u32_at(b, 4))
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Entry(Entry),
    HardState(HardState),
    LogStart(LogStart),
    Settled,
}

/// Reads a body whose checksum was right.
pub(crate) fn record(body: &[u8]) -> Result<Record, &'static str> {
    let (kind, rest) = body.split_first().ok_or("a record has no body")?;
    match *kind {
        KIND_ENTRY => {
            let head = rest.get(..17).ok_or("an entry is too short")?;
            let kind = match head[0] {
                0 => EntryKind::Normal,
                1 => EntryKind::Membership,
                _ => return Err("an entry's kind is unknown"),
            };
            let data = Bytes::copy_from_slice(&rest[17..]);
            Ok(Record::Entry(Entry { index: u64_at(head, 1), term: u64_at(head, 9), kind, data }))
        }
        KIND_HARD_STATE => {
            let b: &[u8; 24] = rest.try_into().map_err(|_| "a hard state has a wrong length")?;
            Ok(Record::HardState(HardState { term: u64_at(b, 0), vote: u64_at(b, 8), commit: u64_at(b, 16) }))
        }
        KIND_LOG_START => log_start(rest),
        KIND_SETTLED if rest.is_empty() => Ok(Record::Settled),
        _ => Err("a record's kind is unknown"),
    }
}

fn log_start(rest: &[u8]) -> Result<Record, &'static str> {
    let head = rest.get(..24).ok_or("a log start is too short")?;
    let (voters, learners) = (u32_at(head, 16) as usize, u32_at(head, 20) as usize);
    let ids = &rest[24..];
    if ids.len() as u64 != (voters as u64 + learners as u64) * 8 {
        return Err("a log start has a wrong length");
    }
    let mut ids = ids.chunks_exact(8).map(|c| u64_at(c, 0));
    let membership = Membership { voters: ids.by_ref().take(voters).collect(), learners: ids.collect() };
    Ok(Record::LogStart(LogStart { index: u64_at(head, 0), term: u64_at(head, 8), membership }))
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5], b[at + 6], b[at + 7]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_entry() -> impl Strategy<Value = Entry> {
        (any::<u64>(), any::<u64>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(
            |(index, term, m, data)| Entry {
                index,
                term,
                kind: if m { EntryKind::Membership } else { EntryKind::Normal },
                data: data.into(),
            },
        )
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let ids = || prop::collection::vec(any::<u64>(), 0..5);
        prop_oneof![
            any_entry().prop_map(Record::Entry),
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, vote, commit)| Record::HardState(HardState {
                term,
                vote,
                commit
            })),
            (any::<u64>(), any::<u64>(), ids(), ids()).prop_map(|(index, term, voters, learners)| {
                Record::LogStart(LogStart { index, term, membership: Membership { voters, learners } })
            }),
            Just(Record::Settled),
        ]
    }

    proptest! {
        #[test]
        fn records_come_back_as_written(records in prop::collection::vec(any_record(), 1..10), seed: u32, salt: u32, synced: u32) {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out, salt, seed, synced);
            for r in &records {
                match r {
                    Record::Entry(e) => encoder.entry(e),
                    Record::HardState(h) => encoder.hard_state(h),
                    Record::LogStart(s) => encoder.log_start(s),
                    Record::Settled => encoder.settled(),
                }
            }
            let (mut at, mut previous) = (0, seed);
            for r in &records {
                let f = frame(&out, at, salt).unwrap();
                prop_assert_eq!(&record(f.body).unwrap(), r);
                prop_assert_eq!((f.previous, synced_of(&out, at)), (previous, synced));
                (at, previous) = (f.end, f.crc);
            }
            prop_assert_eq!(at, out.len());
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..220) {
            let _ = frame(&bytes, at, 0);
            let _ = record(&bytes);
            let _ = SegmentHeader::decode(&bytes);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let header = SegmentHeader {
            sequence: 3,
            first_index: 9,
            cluster: 1,
            member: 2,
            previous: 7,
            head_end: 128,
            file_len: 4096,
        };
        let good = header.encode();
        assert_eq!(SegmentHeader::decode(&good).unwrap().0, header);
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
