//! A Milvus that starts on an empty queue: which keys go, which positions point to its start.
//!
//! A reader begins at a channel's checkpoint, else at the segments' positions, else at the collection's start: all three are
//! set, timestamps stay. So everything up to the checkpoint still counts as stored, and reading begins with what is new.

use crate::catalog::Segment;
use crate::key::{Key, LogKind};
use crate::queue::QueueKind;
use crate::value::{SegmentLevel, SegmentState};
use crate::wire::{BadWire, edit_bytes};

use super::Why;

/// Where values hold ids of messages.
const ID_OF_POSITION: [u32; 1] = [2];
const IDS_OF_SEGMENT: [&[u32]; 2] = [&[9, 2], &[10, 2]];
const IDS_OF_COLLECTION: [u32; 2] = [11, 2];
const ID_OF_WATCH: [u32; 3] = [1, 3, 2];

/// Why a key goes when the queue is empty.
pub(super) fn why_dropped(key: &Key) -> Option<Why> {
    match key {
        Key::Wal(..) => Some(Why::StreamingLog),
        Key::BroadcastTask(_) => Some(Why::Broadcast),
        Key::LoadTarget(_) => Some(Why::LoadTarget),
        Key::Woodpecker(_) => Some(Why::StreamingLog),
        _ => None,
    }
}

/// The value with its positions at the start of an empty queue; none: it holds none.
pub(super) fn reset(key: &Key, value: &[u8], kind: QueueKind) -> Result<Option<Vec<u8>>, BadWire> {
    let mut to_start = |id: &[u8]| (!id.is_empty() && id != kind.start()).then(|| kind.start().to_vec());
    match key {
        Key::ChannelCheckpoint(_) => edit_bytes(value, &ID_OF_POSITION, &mut to_start),
        Key::ChannelWatch(..) => edit_bytes(value, &ID_OF_WATCH, &mut to_start),
        Key::Collection(..) => edit_bytes(value, &IDS_OF_COLLECTION, &mut to_start),
        Key::History(of, _) if matches!(**of, Key::Collection(..)) => {
            edit_bytes(value, &IDS_OF_COLLECTION, &mut to_start)
        }
        Key::Segment(_) => {
            let mut new: Option<Vec<u8>> = None;
            for path in IDS_OF_SEGMENT {
                new = edit_bytes(new.as_deref().unwrap_or(value), path, &mut to_start)?.or(new);
            }
            Ok(new)
        }
        _ => Ok(None),
    }
}

/// Whether all rows of a segment are in the queue alone: it grows, and nothing of it is in the object storage.
pub(super) fn is_in_queue_alone(segment: &Segment) -> bool {
    let open = matches!(segment.state, SegmentState::Growing | SegmentState::Sealed);
    let logs = segment.logs.get(&LogKind::Insert);
    let stored = logs.is_some_and(|fields| fields.values().any(|sum| sum.files > 0));
    open && segment.level != SegmentLevel::L0 && segment.storage_version < 3 && !stored
}

/// Whether a key of woodpecker stands for a process: it must not outlive it.
pub(super) fn is_woodpecker_lease(below: &str) -> bool {
    let lock = below.strip_prefix("logs/").is_some_and(|log| log.ends_with("/lock"));
    lock || below.starts_with("logstores/") || below.starts_with("readers/")
}
