//! Upstream's write-ahead log: segments of framed records, each with a checksum that runs on from segment to segment.
//!
//! ```text
//! frame:   8 byte LE word (56 bits length, top byte 0x80 | padding) | record | padding to 8 bytes
//! segment: crc of all before | metadata | hard state | entries, hard states, snapshot marks … | zeros
//! ```
//! A record at the very end of the last segment that holds a sector of zeros was being written when the machine died:
//! it was never acknowledged and is left out. Any other damage is named. Reads only; knows no entry's meaning.

use std::path::{Path, PathBuf};

use prost::Message;

use super::messages::{Entry, HardState, Metadata, Record};

const FRAME_WORD_LEN: usize = 8;
const SECTOR_LEN: usize = 512;

const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CRC: i64 = 4;
const SNAPSHOT: i64 = 5;

/// What the segments hold together.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    pub metadata: Option<Metadata>,
    pub hard_state: HardState,
    /// Without holes, ascending; later versions of an index have replaced earlier ones.
    pub entries: Vec<Entry>,
    /// Where an unfinished append was left out.
    pub torn: Option<(PathBuf, u64)>,
}

/// Damage in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub offset: u64,
    pub what: String,
}

/// A segment file's name: its number and the index of its first entry.
pub(super) fn parse_segment_name(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    let (sequence, index) = name.split_once('-')?;
    let number = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    Some((number(sequence)?, number(index)?))
}

/// Adds up segments, in order.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub log: Log,
    crc: u32,
    started: bool,
}

impl Reader {
    /// Reads one segment. Only the `last` one may end in the middle of an append.
    pub(super) fn segment(&mut self, path: &Path, bytes: &[u8], last: bool) -> Result<(), Damage> {
        let mut at = 0;
        while let Some(frame) = self.frame(bytes, at, last)? {
            match frame {
                Frame::Torn => {
                    self.log.torn = Some((path.to_owned(), at as u64));
                    return Ok(());
                }
                Frame::Record(record, end) => {
                    let offset = at as u64;
                    self.record(record).map_err(|what| Damage { offset, what })?;
                    at = end;
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8], at: usize, last: bool) -> Result<Option<Frame>, Damage> {
        let damage = |what: &str| Damage { offset: at as u64, what: what.to_owned() };
        let rest = &bytes[at..];
        let Some(word) = rest.first_chunk::<FRAME_WORD_LEN>() else {
            // a log is preallocated, so it ends in zeros; a few bytes at the end are an append cut short
            return match rest.iter().any(|b| *b != 0) {
                true if last => Ok(Some(Frame::Torn)),
                true => Err(damage("the segment ends inside a length")),
                false => Ok(None),
            };
        };
        let word = i64::from_le_bytes(*word);
        if word == 0 {
            return Ok(None);
        }
        let len = usize::try_from(word & ((1 << 56) - 1)).unwrap_or(usize::MAX);
        let padding = if word < 0 { (word >> 56 & 0x7) as usize } else { 0 };
        let body = &rest[FRAME_WORD_LEN..];
        let Some(framed) = len.checked_add(padding).and_then(|all| body.get(..all)) else {
            return if last { Ok(Some(Frame::Torn)) } else { Err(damage("a record runs over the segment's end")) };
        };
        let record = Record::decode(&framed[..len]).ok();
        let sound = record.filter(|record| match record.kind {
            CRC => true,
            _ => {
                let crc = crc32c::crc32c_append(self.crc, &record.data);
                let good = crc == record.crc;
                if good {
                    self.crc = crc;
                }
                good
            }
        });
        match sound {
            Some(record) => Ok(Some(Frame::Record(record, at + FRAME_WORD_LEN + len + padding))),
            None if last && has_zero_sector(framed, at + FRAME_WORD_LEN) => Ok(Some(Frame::Torn)),
            None => Err(damage("a record's checksum does not match")),
        }
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        match record.kind {
            CRC => {
                if self.started && record.crc != self.crc {
                    return Err("the segment does not continue the one before it".into());
                }
                self.started = true;
                self.crc = record.crc;
            }
            METADATA => {
                let metadata = Metadata::decode(record.data).map_err(|_| "metadata cannot be read")?;
                if self.log.metadata.is_some_and(|known| known != metadata) {
                    return Err("the segment belongs to another member".into());
                }
                self.log.metadata = Some(metadata);
            }
            STATE => self.log.hard_state = HardState::decode(record.data).map_err(|_| "hard state cannot be read")?,
            ENTRY => {
                let entry = Entry::decode(record.data).map_err(|_| "an entry cannot be read")?;
                self.add(entry)?;
            }
            SNAPSHOT => {}
            other => return Err(format!("a record of unknown kind {other}")),
        }
        Ok(())
    }

    /// An entry replaces those that had its index or a later one.
    fn add(&mut self, entry: Entry) -> Result<(), String> {
        if let Some(first) = self.log.entries.first() {
            let place = entry.index.checked_sub(first.index).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
            if place > self.log.entries.len() {
                return Err(format!("entries before index {} are missing", entry.index));
            }
            self.log.entries.truncate(place);
        }
        self.log.entries.push(entry);
        Ok(())
    }
}

enum Frame {
    /// The record, and where the next frame begins.
    Record(Record, usize),
    Torn,
}

/// A sector inside this record that holds only zeros: the disk wrote around it.
fn has_zero_sector(record: &[u8], file_offset: usize) -> bool {
    let mut at = 0;
    while at < record.len() {
        let end = (at + SECTOR_LEN - (file_offset + at) % SECTOR_LEN).min(record.len());
        if record[at..end].iter().all(|b| *b == 0) {
            return true;
        }
        at = end;
    }
    false
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes segments as upstream does.
    #[derive(Default)]
    pub(crate) struct Writer {
        pub(crate) bytes: Vec<u8>,
        crc: u32,
    }

    impl Writer {
        pub(crate) fn push(&mut self, kind: i64, data: Vec<u8>) {
            let crc = if kind == CRC {
                self.crc
            } else {
                self.crc = crc32c::crc32c_append(self.crc, &data);
                self.crc
            };
            let record = Record { kind, crc, data: data.into() }.encode_to_vec();
            let padding = (8 - record.len() % 8) % 8;
            let word = record.len() as u64 | if padding > 0 { (0x80 | padding as u64) << 56 } else { 0 };
            self.bytes.extend(word.to_le_bytes());
            self.bytes.extend(record);
            self.bytes.extend(std::iter::repeat_n(0, padding));
        }

        pub(crate) fn entry(&mut self, index: u64, data: &[u8]) {
            self.push(ENTRY, Entry { kind: 0, term: 2, index, data: data.to_vec().into() }.encode_to_vec());
        }

        pub(crate) fn begin(&mut self) {
            self.push(CRC, Vec::new());
            self.push(METADATA, Metadata { node_id: 7, cluster_id: 9 }.encode_to_vec());
        }
    }

    fn read(segments: &[&[u8]]) -> Result<Log, Damage> {
        let mut reader = Reader::default();
        for (n, bytes) in segments.iter().enumerate() {
            reader.segment(Path::new("x.wal"), bytes, n + 1 == segments.len())?;
        }
        Ok(reader.log)
    }

    fn two_segments() -> (Vec<u8>, Vec<u8>) {
        let mut writer = Writer::default();
        writer.begin();
        writer.entry(1, b"one");
        writer.entry(2, b"two");
        writer.bytes.extend([0; 64]);
        let first = std::mem::take(&mut writer.bytes);
        writer.begin();
        writer.entry(3, b"three");
        writer.push(STATE, HardState { term: 2, vote: 7, commit: 3 }.encode_to_vec());
        writer.entry(4, &[b'x'; 2000]);
        writer.bytes.extend([0; 1024]);
        (first, writer.bytes)
    }

    #[test]
    fn segments_add_up() {
        let (a, b) = two_segments();
        let log = read(&[&a, &b]).unwrap();
        assert_eq!(log.entries.iter().map(|e| e.index).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((log.hard_state.commit, log.metadata.unwrap().node_id, log.torn), (3, 7, None));
    }

    #[test]
    fn a_later_entry_replaces_the_tail() {
        let mut writer = Writer::default();
        writer.begin();
        for (index, data) in [(5, "a"), (6, "b"), (7, "c"), (6, "d")] {
            writer.entry(index, data.as_bytes());
        }
        let log = read(&[&writer.bytes]).unwrap();
        assert_eq!(log.entries.iter().map(|e| (e.index, e.data[0])).collect::<Vec<_>>(), [(5, b'a'), (6, b'd')]);
    }

    #[test]
    fn every_flip_is_damage_or_harmless_and_never_another_entry() {
        let (a, b) = two_segments();
        let good = read(&[&a, &b]).unwrap();
        for at in 0..a.len() {
            let mut bad = a.clone();
            bad[at] ^= 0x10;
            if let Ok(log) = read(&[&bad, &b]) {
                assert_eq!(log.entries, good.entries, "byte {at} of the first segment");
            }
        }
        for at in 0..b.len() {
            let mut bad = b.clone();
            bad[at] ^= 0x10;
            if let Ok(log) = read(&[&a, &bad]) {
                assert!(good.entries.starts_with(&log.entries), "byte {at} of the last segment");
            }
        }
    }

    #[test]
    fn a_torn_tail_is_left_out_and_a_torn_middle_is_damage() {
        let (a, b) = two_segments();
        let good = read(&[&a, &b]).unwrap();
        for cut in 0..b.len() {
            let log = read(&[&a, &b[..cut]]).unwrap();
            assert!(good.entries.starts_with(&log.entries), "cut at {cut}");
        }
        let end = b.len() - 1024;
        let mut torn = b.clone();
        torn[end - 1100..].fill(0);
        let log = read(&[&a, &torn]).unwrap();
        assert_eq!(log.entries.len(), 3);
        assert!(log.torn.is_some());
        assert!(read(&[&b[..end - 1100], &b]).is_err());
    }
}
