//! The five meta files: one tree, stored whole and in levels.
//!
//! Readers take `full_meta.json`. Backups of old releases lack it; then the tree is joined from the levels by ids.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::meta::{BackupInfo, CollectionBackup, PartitionBackup, SegmentBackup};

/// Why a meta file is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{file} can't be read: {why}")]
pub struct FormatError {
    /// Which file.
    pub file: &'static str,
    /// What is wrong in it, and where.
    pub why: String,
}

/// The file that holds the whole tree.
pub const FULL: &str = "full_meta.json";
/// The file whose presence makes a backup.
pub const BACKUP: &str = "backup_meta.json";
/// The level of collections.
pub const COLLECTION: &str = "collection_meta.json";
/// The level of partitions.
pub const PARTITION: &str = "partition_meta.json";
/// The level of segments.
pub const SEGMENT: &str = "segment_meta.json";

/// The meta files' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// `full_meta.json`.
    pub full: Vec<u8>,
    /// `collection_meta.json`.
    pub collection: Vec<u8>,
    /// `partition_meta.json`.
    pub partition: Vec<u8>,
    /// `segment_meta.json`.
    pub segment: Vec<u8>,
    /// `backup_meta.json`.
    pub backup: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
struct Infos<T> {
    #[serde(default = "Vec::new")]
    infos: Vec<T>,
}

impl Levels {
    /// The files of a backup.
    pub fn of(info: &BackupInfo) -> Levels {
        let mut backup = info.clone();
        let collections = std::mem::take(&mut backup.collection_backups);
        let (mut partitions, mut segments) = (Vec::new(), Vec::new());
        let collections: Vec<CollectionBackup> = collections
            .into_iter()
            .map(|mut collection| {
                for partition in &mut collection.partition_backups {
                    segments.append(&mut partition.segment_backups);
                    partitions.push(partition.clone());
                }
                // Without their own level, these stand in the full file alone.
                collection.l0_segments.clear();
                collection
            })
            .collect();
        Levels {
            full: json(info),
            collection: json(&Infos { infos: collections }),
            partition: json(&Infos { infos: partitions }),
            segment: json(&Infos { infos: segments }),
            backup: json(&backup),
        }
    }

    /// The files with their names, in the order in which they are written: the one that makes a backup comes last.
    pub fn files(&self) -> [(&'static str, &[u8]); 5] {
        [
            (COLLECTION, &self.collection),
            (PARTITION, &self.partition),
            (SEGMENT, &self.segment),
            (FULL, &self.full),
            (BACKUP, &self.backup),
        ]
    }
}

/// Reads `full_meta.json`.
///
/// # Errors
/// It is no such file.
pub fn read_full(bytes: &[u8]) -> Result<BackupInfo, FormatError> {
    read(FULL, bytes)
}

/// Reads `backup_meta.json`: the backup without its collections.
///
/// # Errors
/// It is no such file.
pub fn read_backup(bytes: &[u8]) -> Result<BackupInfo, FormatError> {
    read(BACKUP, bytes)
}

/// Joins the levels. What no level above knows is an error: a row must not vanish silently.
///
/// # Errors
/// A file is none, or something belongs to nothing.
pub fn assemble(backup: &[u8], collection: &[u8], partition: &[u8], segment: &[u8]) -> Result<BackupInfo, FormatError> {
    let mut info = read_backup(backup)?;
    let collections: Infos<CollectionBackup> = read(COLLECTION, collection)?;
    let partitions: Infos<PartitionBackup> = read(PARTITION, partition)?;
    let segments: Infos<SegmentBackup> = read(SEGMENT, segment)?;

    let mut by_partition: BTreeMap<(i64, i64), Vec<SegmentBackup>> = BTreeMap::new();
    for segment in segments.infos {
        by_partition.entry((segment.collection_id, segment.partition_id)).or_default().push(segment);
    }
    let mut by_collection: BTreeMap<i64, Vec<PartitionBackup>> = BTreeMap::new();
    for mut partition in partitions.infos {
        let key = (partition.collection_id, partition.partition_id);
        partition.segment_backups = by_partition.remove(&key).unwrap_or_default();
        by_collection.entry(partition.collection_id).or_default().push(partition);
    }
    info.collection_backups = collections.infos;
    for collection in &mut info.collection_backups {
        collection.partition_backups = by_collection.remove(&collection.collection_id).unwrap_or_default();
    }
    if let Some((collection, partition)) = by_partition.keys().next() {
        let why = format!("segments of collection {collection}, partition {partition}, which {PARTITION} lacks");
        return Err(FormatError { file: SEGMENT, why });
    }
    if let Some(collection) = by_collection.keys().next() {
        let why = format!("partitions of collection {collection}, which {COLLECTION} lacks");
        return Err(FormatError { file: PARTITION, why });
    }
    Ok(info)
}

fn read<T: DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, FormatError> {
    let wrong = |error: serde_json::Error| FormatError { file, why: error.to_string() };
    let mut value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    // Go writes null for what was never set.
    without_nulls(&mut value);
    serde_json::from_value(value).map_err(wrong)
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Serialization of these types can't fail: their maps have text as keys.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
