//! The message queue's places, as they stand in values.
//!
//! | queue | a place is | the start of an empty queue |
//! |---|---|---|
//! | rocksmq | 8 bytes, little endian: an id of Milvus's own clock | 0 |
//! | kafka | 8 bytes, little endian: an offset | 0 |
//! | pulsar | protobuf: ledger, entry, partition, index in a batch | "earliest": ledger and entry -1 |
//! | woodpecker | protobuf: segment, entry | segment 0, entry 0 |

use prost::Message;
use serde::Serialize;

use crate::proto;

/// The queues that Milvus runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// Inside a standalone Milvus, in its folder.
    RocksMq,
    /// Apache Kafka.
    Kafka,
    /// Apache Pulsar.
    Pulsar,
    /// In object storage (2.6).
    Woodpecker,
}

/// Ids of rocksmq are hybrid timestamps of this century; offsets of kafka do not get that large.
const ROCKSMQ_ID_MIN: u64 = 1 << 56;

impl QueueKind {
    /// The kind of queue that a position is of: told by newer values, and by the form of the id in older ones.
    ///
    /// One position may mislead by chance: an id of rocksmq can look like one of pulsar. So ask several.
    pub(crate) fn of(position: &proto::MsgPosition) -> Option<QueueKind> {
        match position.wal_name {
            1 => return Some(QueueKind::RocksMq),
            2 => return Some(QueueKind::Pulsar),
            3 => return Some(QueueKind::Kafka),
            4 => return Some(QueueKind::Woodpecker),
            _ => {}
        }
        let id = &*position.msg_id;
        match <[u8; 8]>::try_from(id) {
            _ if id.is_empty() => None,
            _ if proto::PulsarId::decode(id).is_ok_and(|read| read.ledger.is_some() && read.entry.is_some()) => {
                Some(QueueKind::Pulsar)
            }
            Ok(id) if u64::from_le_bytes(id) >= ROCKSMQ_ID_MIN => Some(QueueKind::RocksMq),
            Ok(_) => Some(QueueKind::Kafka),
            Err(_) => None,
        }
    }

    /// The position where an empty queue of this kind starts, as it stands in values.
    pub fn start(self) -> &'static [u8] {
        match self {
            QueueKind::RocksMq | QueueKind::Kafka => &[0; 8],
            // Fields 1 and 2, each the largest number: ledger -1, entry -1.
            QueueKind::Pulsar => &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, //
                0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            // Fields 1 and 2, written out: an empty id would mean that there is no position.
            QueueKind::Woodpecker => &[0x08, 0x00, 0x10, 0x00],
        }
    }
}
