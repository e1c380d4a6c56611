//! The one codec of tail segments: `docs/format/tail.md`.

use bytes::{Buf, Bytes};
use eyrie_state::{LeaseId, Revision};
use sha2::{Digest, Sha256};

use crate::history::{Event, Revised, TimeMs};
use crate::limits::SEGMENT_LEN_MAX;

const MAGIC: [u8; 8] = *b"EYRTAIL\0";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 72;
const HASH_LEN: usize = 32;
const PUT: u8 = 0;
const DELETE: u8 = 1;

/// A stretch of history, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The hash of what comes before: see the format.
    pub previous: [u8; 32],
    /// Whole revisions without a gap; at least one.
    pub revisions: Vec<Revised>,
}

/// Why bytes are no segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// Not a segment at all.
    #[error("this is no tail segment")]
    Foreign,
    /// Written by a newer program.
    #[error(
        "the tail segment has version {version} and flags {flags:#x}; this program reads version 1: use a newer one"
    )]
    Newer {
        /// Its version.
        version: u32,
        /// Its flags.
        flags: u32,
    },
    /// The bytes are not those that were written.
    #[error("the tail segment is damaged: {0}")]
    Damaged(&'static str),
}

impl Segment {
    /// The bytes. The next segment names this one by their SHA-256.
    ///
    /// # Panics
    /// There is no revision, a gap between two, a revision without an event, or an event without a key.
    pub fn encode(&self) -> Vec<u8> {
        let (first, last) = self.bounds();
        let events: usize = self.revisions.iter().map(|revised| revised.events.len()).sum();
        let weight: usize = self.revisions.iter().map(Revised::weight).sum();
        let mut out = Vec::with_capacity(HEADER_LEN + weight + events * 33 + self.revisions.len() * 20 + HASH_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&first.0.to_le_bytes());
        out.extend_from_slice(&last.0.to_le_bytes());
        out.extend_from_slice(&(events as u64).to_le_bytes());
        out.extend_from_slice(&self.previous);
        for (revised, expected) in self.revisions.iter().zip(first.0..) {
            assert_eq!(revised.revision.0, expected, "revisions without a gap");
            assert!(!revised.events.is_empty(), "a revision has events");
            out.extend_from_slice(&revised.revision.0.to_le_bytes());
            out.extend_from_slice(&revised.heard_at.0.to_le_bytes());
            out.extend_from_slice(&len_u32(revised.events.len()));
            revised.events.iter().for_each(|event| put_event(&mut out, event));
        }
        let hash: [u8; 32] = Sha256::digest(&out).into();
        out.extend_from_slice(&hash);
        out
    }

    /// Reads a segment after checking all of it; keys and values are slices of `bytes`.
    ///
    /// # Errors
    /// [`SegmentFault`].
    pub fn decode(bytes: &Bytes) -> Result<Self, SegmentFault> {
        if bytes.len() < HEADER_LEN + HASH_LEN || bytes[..8] != MAGIC {
            return Err(SegmentFault::Foreign);
        }
        let damaged = SegmentFault::Damaged;
        if bytes.len() > SEGMENT_LEN_MAX {
            return Err(damaged("it is longer than any segment"));
        }
        let mut rest = bytes.slice(8..bytes.len() - HASH_LEN);
        let (version, flags) = (rest.get_u32_le(), rest.get_u32_le());
        if version != VERSION || flags != 0 {
            return Err(SegmentFault::Newer { version, flags });
        }
        let (body, hash) = bytes.split_at(bytes.len() - HASH_LEN);
        if Sha256::digest(body).as_slice() != hash {
            return Err(damaged("its hash does not match"));
        }
        let (first, last, events) = (rest.get_i64_le(), rest.get_i64_le(), rest.get_u64_le());
        let mut previous = [0; 32];
        rest.copy_to_slice(&mut previous);
        let mut revisions: Vec<Revised> = Vec::new();
        let mut counted = 0u64;
        while rest.has_remaining() {
            let revised = take_revision(&mut rest).ok_or(damaged("a revision is cut short"))?;
            let expected = revisions.last().map_or(first, |before| before.revision.0.wrapping_add(1));
            if revised.revision.0 != expected {
                return Err(damaged("its revisions have a gap"));
            }
            counted += revised.events.len() as u64;
            revisions.push(revised);
        }
        if revisions.last().map(|revised| revised.revision.0) != Some(last) || counted != events {
            return Err(damaged("it holds something else than its header says"));
        }
        Ok(Self { previous, revisions })
    }

    /// First and last revision.
    ///
    /// # Panics
    /// There is no revision.
    pub fn bounds(&self) -> (Revision, Revision) {
        let first = self.revisions.first().expect("a segment has revisions");
        let last = self.revisions.last().expect("a segment has revisions");
        (first.revision, last.revision)
    }
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    let key = event.key();
    assert!(!key.is_empty(), "an event has a key");
    out.push(if matches!(event, Event::Put { .. }) { PUT } else { DELETE });
    out.extend_from_slice(&len_u32(key.len()));
    out.extend_from_slice(key);
    if let Event::Put { value, create_revision, version, lease, .. } = event {
        out.extend_from_slice(&create_revision.0.to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&lease.0.to_le_bytes());
        out.extend_from_slice(&len_u32(value.len()));
        out.extend_from_slice(value);
    }
}

/// No request of etcd comes near 4 GiB.
fn len_u32(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("shorter than 4 GiB").to_le_bytes()
}

fn take_revision(rest: &mut Bytes) -> Option<Revised> {
    let (revision, heard_at) = (Revision(rest.try_get_i64_le().ok()?), TimeMs(rest.try_get_u64_le().ok()?));
    let count = rest.try_get_u32_le().ok()?;
    if count == 0 {
        return None;
    }
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(take_event(rest)?);
    }
    Some(Revised { revision, heard_at, events })
}

fn take_event(rest: &mut Bytes) -> Option<Event> {
    let kind = rest.try_get_u8().ok()?;
    let key = take_bytes(rest).filter(|key| !key.is_empty())?;
    match kind {
        DELETE => Some(Event::Delete { key }),
        PUT => {
            let create_revision = Revision(rest.try_get_i64_le().ok()?);
            let version = rest.try_get_i64_le().ok()?;
            let lease = LeaseId(rest.try_get_i64_le().ok()?);
            Some(Event::Put { key, value: take_bytes(rest)?, create_revision, version, lease })
        }
        _ => None,
    }
}

fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let len = rest.try_get_u32_le().ok()? as usize;
    (len <= rest.len()).then(|| rest.split_to(len))
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
