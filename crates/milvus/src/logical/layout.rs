//! Where things lie below a backup's folder, and what a backup may be called.

use std::fmt;

use super::meta::{ALL_PARTITIONS, CollectionBackup, SegmentBackup};
use crate::ids::{FieldId, LogId};
use crate::limits::BACKUP_NAME_LEN_MAX;

/// A checked name: at most 128 bytes, a letter or `_` first, then letters, digits and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName(String);

impl BackupName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says what it may look like.
    pub fn parse(name: &str) -> Result<BackupName, String> {
        let first = name.bytes().next();
        let good = first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            && name.len() <= BACKUP_NAME_LEN_MAX;
        if good {
            return Ok(BackupName(name.to_owned()));
        }
        Err(format!(
            "`{name}` can't be the name of a backup: it has letters, digits and `_`, does not begin with a digit, and is \
             at most {BACKUP_NAME_LEN_MAX} long"
        ))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A meta file.
    pub fn meta(&self, file: &str) -> String {
        format!("{}/meta/{file}", self.0)
    }

    /// The list of what is inside, with checksums.
    pub fn manifest(&self) -> String {
        format!("{}/eyrie/manifest.json", self.0)
    }

    /// What says that a run is, or was, at work.
    pub fn working(&self) -> String {
        format!("{}/eyrie/working.json", self.0)
    }

    /// All of it.
    pub fn folder(&self) -> String {
        format!("{}/", self.0)
    }

    /// Where all copied logs are.
    pub fn binlogs(&self) -> String {
        format!("{}/binlogs/", self.0)
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a collection's logs are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The oldest layout: `<collection>/<partition>/<segment>`.
    Flat,
    /// `<collection>/<partition>/<group>/<segment>`; since 0.4 a segment is its own group.
    Groups,
}

impl Grouping {
    /// How this collection's logs are arranged: by groups when any of its segments with rows has one.
    pub fn of(collection: &CollectionBackup) -> Grouping {
        let grouped = collection.segments().any(|segment| !segment.is_l0 && segment.group_id != 0);
        if grouped { Grouping::Groups } else { Grouping::Flat }
    }
}

/// The folder of a segment's rows, below the backup's folder, with a slash at its end.
pub fn insert_folder(segment: &SegmentBackup, grouping: Grouping) -> String {
    format!("binlogs/insert_log/{}", segment_folder(segment, grouping))
}

/// The folder of a segment's deletes, below the backup's folder, with a slash at its end.
pub fn delta_folder(segment: &SegmentBackup, grouping: Grouping) -> String {
    format!("binlogs/delta_log/{}", segment_folder(segment, grouping))
}

/// A log of rows, below the backup's folder.
pub fn insert_log(segment: &SegmentBackup, grouping: Grouping, field: FieldId, log: LogId) -> String {
    format!("{}{}/{}", insert_folder(segment, grouping), field.0, log.0)
}

/// A log of deletes, below the backup's folder.
pub fn delta_log(segment: &SegmentBackup, grouping: Grouping, log: LogId) -> String {
    format!("{}{}", delta_folder(segment, grouping), log.0)
}

/// Every log that the meta of a segment names: its key below the backup's folder, and its length.
pub fn logs(segment: &SegmentBackup, grouping: Grouping) -> Vec<(String, u64)> {
    let len = |size: i64| u64::try_from(size).unwrap_or_default();
    let inserts = segment.binlogs.iter().flat_map(|field| {
        let id = FieldId(field.field_id);
        field.binlogs.iter().map(move |log| (insert_log(segment, grouping, id, log_id(log)), len(log.log_size)))
    });
    let deltas = segment.deltalogs.iter().flat_map(|field| &field.binlogs);
    let deltas = deltas.map(|log| (delta_log(segment, grouping, log_id(log)), len(log.log_size)));
    inserts.chain(deltas).collect()
}

/// The logs of one field, in the order in which Milvus reads them: every field's nth log has the same rows.
pub fn field_logs(segment: &SegmentBackup, grouping: Grouping, field: FieldId) -> Vec<String> {
    let of_field = segment.binlogs.iter().filter(|one| one.field_id == field.0);
    let mut ids: Vec<LogId> = of_field.flat_map(|one| &one.binlogs).map(log_id).collect();
    ids.sort_unstable();
    ids.into_iter().map(|log| insert_log(segment, grouping, field, log)).collect()
}

/// The logs of a segment's deletes.
pub fn delta_logs(segment: &SegmentBackup, grouping: Grouping) -> Vec<String> {
    let logs = segment.deltalogs.iter().flat_map(|field| &field.binlogs);
    logs.map(|log| delta_log(segment, grouping, log_id(log))).collect()
}

/// Old writers name a log by its path alone.
fn log_id(log: &super::meta::Log) -> LogId {
    let last = log.log_path.rsplit('/').next().and_then(|last| last.parse().ok());
    LogId(if log.log_id == 0 { last.unwrap_or_default() } else { log.log_id })
}

fn segment_folder(segment: &SegmentBackup, grouping: Grouping) -> String {
    let SegmentBackup { collection_id: c, partition_id: p, segment_id: s, group_id: g, .. } = segment;
    match grouping {
        // Deletes of level 0 never have a group.
        Grouping::Groups if !segment.is_l0 && *p != ALL_PARTITIONS => format!("{c}/{p}/{g}/{s}/"),
        _ => format!("{c}/{p}/{s}/"),
    }
}
