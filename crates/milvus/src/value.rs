//! What the values of keys hold: protobuf, JSON, text or nothing, by the class of the key.

use prost::Message;
use serde::Serialize;
use thiserror::Error;

use crate::key::{Key, WalKey};
use crate::proto;

/// What the root coordinator writes where something is gone: it also stands in the history.
pub const TOMBSTONE: [u8; 3] = [0xE2, 0x9B, 0xBC];

/// A value, understood as far as a backup needs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The thing is gone; the key is cleaned up later.
    Tombstone,
    /// A database.
    Database(proto::DatabaseInfo),
    /// A collection; its fields are keys of their own.
    Collection(proto::CollectionInfo),
    /// A partition.
    Partition(proto::PartitionInfo),
    /// A field.
    Field(proto::FieldSchema),
    /// An alias.
    Alias(proto::AliasInfo),
    /// A segment.
    Segment(Box<proto::SegmentInfo>),
    /// The logs of one field.
    Logs(proto::FieldBinlog),
    /// A place in the queue.
    Position(proto::MsgPosition),
    /// An index of a collection.
    FieldIndex(proto::FieldIndex),
    /// Its build on one segment.
    SegmentIndex(proto::SegmentIndex),
    /// A channel that a node watches.
    ChannelWatch(proto::ChannelWatchInfo),
    /// An import.
    ImportJob(proto::ImportJob),
    /// A part of an import.
    ImportTask(proto::ImportTask),
    /// The reading ahead of a part of an import.
    PreImportTask(proto::PreImportTask),
    /// A compaction.
    CompactionTask(proto::CompactionTask),
    /// An analysis before a clustering compaction.
    AnalyzeTask(proto::AnalyzeTask),
    /// A build of statistics.
    StatsTask(proto::StatsTask),
    /// Statistics of a clustered partition.
    PartitionStats(proto::PartitionStatsInfo),
    /// A collection that is loaded.
    CollectionLoad(proto::CollectionLoadInfo),
    /// From where a log is read after a restart (2.6).
    WalCheckpoint(proto::WalCheckpoint),
    /// A channel in the streaming log (2.6).
    Vchannel(proto::VchannelMeta),
    /// A clock: nanoseconds since 1970.
    Clock(u64),
    /// Nothing that a backup reads: it is kept as it is.
    Opaque,
}

/// A value that is not what its key promises.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[error("the value of `{key}` ({bytes} bytes) is no {class}: {why}")]
pub struct BadValue {
    /// The key below its part's prefix.
    pub key: String,
    /// What the value should be.
    pub class: &'static str,
    /// Its length.
    pub bytes: usize,
    /// What is wrong.
    pub why: String,
}

impl Value {
    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`BadValue`] when it is not what the key promises: damage, or a Milvus that is not known here.
    pub fn decode(key: &Key, value: &[u8]) -> Result<Value, BadValue> {
        if value == TOMBSTONE && is_root_coord(key) {
            return Ok(Value::Tombstone);
        }
        let value = match key {
            Key::History(key, _) => return Value::decode(key, value),
            Key::Database(_) => Value::Database(message(key, value)?),
            Key::Collection(..) => Value::Collection(message(key, value)?),
            Key::Partition(..) => Value::Partition(message(key, value)?),
            Key::Field(..) => Value::Field(message(key, value)?),
            Key::Alias(..) => Value::Alias(message(key, value)?),
            Key::Segment(_) => Value::Segment(Box::new(message(key, value)?)),
            Key::Logs(..) => Value::Logs(message(key, value)?),
            Key::ChannelCheckpoint(_) => Value::Position(message(key, value)?),
            Key::FieldIndex(..) => Value::FieldIndex(message(key, value)?),
            Key::SegmentIndex(..) => Value::SegmentIndex(message(key, value)?),
            Key::ChannelWatch(..) => Value::ChannelWatch(message(key, value)?),
            Key::ImportJob(_) => Value::ImportJob(message(key, value)?),
            Key::ImportTask(_) => Value::ImportTask(message(key, value)?),
            Key::PreImportTask(_) => Value::PreImportTask(message(key, value)?),
            Key::CompactionTask(..) => Value::CompactionTask(message(key, value)?),
            Key::AnalyzeTask(_) => Value::AnalyzeTask(message(key, value)?),
            Key::StatsTask(_) => Value::StatsTask(message(key, value)?),
            Key::PartitionStats(..) => Value::PartitionStats(message(key, value)?),
            Key::CollectionLoad(_) => Value::CollectionLoad(message(key, value)?),
            Key::Wal(_, WalKey::Checkpoint) => Value::WalCheckpoint(message(key, value)?),
            Key::Wal(_, WalKey::Vchannel(_)) => Value::Vchannel(message(key, value)?),
            Key::Clock(_) => Value::Clock(clock(key, value)?),
            _ => Value::Opaque,
        };
        Ok(value)
    }
}

/// Reads a value as one message.
pub(crate) fn message<M: Message + Default>(key: &Key, value: &[u8]) -> Result<M, BadValue> {
    M::decode(value).map_err(|e| bad(key, value, e.to_string()))
}

fn clock(key: &Key, value: &[u8]) -> Result<u64, BadValue> {
    let bytes: [u8; 8] = value.try_into().map_err(|_| bad(key, value, "8 bytes are expected".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// A complaint about the value of a key.
pub(crate) fn bad(key: &Key, value: &[u8], why: String) -> BadValue {
    BadValue { key: key.to_string(), class: key.class(), bytes: value.len(), why }
}

fn is_root_coord(key: &Key) -> bool {
    matches!(
        key,
        Key::History(..)
            | Key::Database(_)
            | Key::Collection(..)
            | Key::Partition(..)
            | Key::Field(..)
            | Key::StructField(..)
            | Key::Function(..)
            | Key::Alias(..)
    )
}

/// States of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// Rows are still coming in.
    Growing,
    /// No more rows come in.
    Sealed,
    /// All of it is in the object storage.
    Flushed,
    /// It is being written out.
    Flushing,
    /// Compacted away or dropped; its objects go when the garbage collection comes by.
    Dropped,
    /// It is being imported.
    Importing,
    /// Not set, or of a number that is not known here.
    Unknown,
}

impl SegmentState {
    /// The number of [`SegmentState::Dropped`] in values.
    pub const DROPPED: i32 = 6;

    /// Reads the number that stands in a value.
    pub fn from_number(number: i32) -> SegmentState {
        match number {
            2 => SegmentState::Growing,
            3 => SegmentState::Sealed,
            4 => SegmentState::Flushed,
            5 => SegmentState::Flushing,
            SegmentState::DROPPED => SegmentState::Dropped,
            7 => SegmentState::Importing,
            _ => SegmentState::Unknown,
        }
    }
}

/// Levels of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentLevel {
    /// Of before there were levels.
    Legacy,
    /// Only deletes.
    L0,
    /// Rows.
    L1,
    /// Rows, clustered.
    L2,
}

impl SegmentLevel {
    /// Reads the number that stands in a value; one that is not known counts as rows.
    pub fn from_number(number: i32) -> SegmentLevel {
        match number {
            0 => SegmentLevel::Legacy,
            1 => SegmentLevel::L0,
            3 => SegmentLevel::L2,
            _ => SegmentLevel::L1,
        }
    }
}

/// The number of a finished index build in values.
pub(crate) const INDEX_FINISHED: i32 = 3;
