//! Whether a backup's meta is what milvus-backup writes and expects: stricter than any reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::levels::{Levels, assemble, read_full};
use super::meta::{ALL_PARTITIONS, BackupInfo, CollectionBackup, STATE_SUCCESS, SegmentBackup};
use crate::limits::BREACHES_NAMED_MAX;

/// Something that milvus-backup would not have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks all five files of a finished backup against each other and against the rules of the format.
pub fn breaches(levels: &Levels) -> Vec<Breach> {
    let mut found = Found::default();
    let full = match read_full(&levels.full) {
        Ok(full) => full,
        Err(error) => {
            found.add("full_meta.json", error.why);
            return found.0;
        }
    };
    found.backup(&full);
    match assemble(&levels.backup, &levels.collection, &levels.partition, &levels.segment) {
        Err(error) => found.add(error.file, error.why),
        Ok(joined) => {
            let mut expected = full;
            expected.collection_backups.iter_mut().for_each(|collection| collection.l0_segments.clear());
            if joined != expected {
                found.add("levels", "joined they are another tree than full_meta.json");
            }
        }
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Breach>);

impl Found {
    fn add(&mut self, place: impl fmt::Display, what: impl Into<String>) {
        if self.0.len() < BREACHES_NAMED_MAX {
            self.0.push(Breach { place: place.to_string(), what: what.into() });
        }
    }

    fn expect(&mut self, holds: bool, place: impl fmt::Display, what: &str) {
        if !holds {
            self.add(place, what);
        }
    }

    fn backup(&mut self, info: &BackupInfo) {
        let place = "backup";
        self.expect(info.state_code == STATE_SUCCESS, place, "the state is not success");
        self.expect(!info.name.is_empty() && !info.id.is_empty(), place, "name or id is missing");
        self.expect(!info.milvus_version.is_empty(), place, "the version of Milvus is missing");
        let sum: i64 = info.collection_backups.iter().map(|collection| collection.size).sum();
        self.expect(info.size == sum, place, "the size is not the sum of its collections");
        let mut ids = BTreeSet::new();
        for collection in &info.collection_backups {
            self.expect(ids.insert(collection.collection_id), collection.collection_id, "the id appears twice");
            self.collection(collection);
        }
    }

    fn collection(&mut self, collection: &CollectionBackup) {
        let place = format!("{}.{}", collection.database(), collection.collection_name);
        match &collection.schema {
            None => self.add(&place, "there is no schema"),
            Some(schema) => {
                let keys = schema.fields.iter().filter(|field| field.is_primary_key).count();
                self.expect(keys == 1, &place, "there is not exactly one primary key");
                self.expect(schema.name == collection.collection_name, &place, "the schema has another name");
                let ids: BTreeSet<i64> = schema.fields.iter().map(|field| field.field_id).collect();
                self.expect(ids.len() == schema.fields.len(), &place, "a field id appears twice");
                self.expect(ids.iter().all(|id| *id >= 100), &place, "a hidden field is in the schema");
            }
        }
        let states = ["NotLoad", "Loading", "Loaded"];
        self.expect(states.contains(&collection.load_state.as_str()), &place, "the load state is none");
        self.expect(collection.has_index == !collection.index_infos.is_empty(), &place, "has_index is not so");
        let sum: i64 = collection.partition_backups.iter().map(|partition| partition.size).sum();
        let l0: i64 = collection.l0_segments.iter().map(|segment| segment.size).sum();
        self.expect(collection.size == sum + l0, &place, "the size is not the sum of its partitions");
        for partition in &collection.partition_backups {
            let place = format!("{place}/{}", partition.partition_name);
            self.expect(partition.collection_id == collection.collection_id, &place, "it is of another collection");
            let sum: i64 = partition.segment_backups.iter().map(|segment| segment.size).sum();
            self.expect(partition.size == sum, &place, "the size is not the sum of its segments");
            for segment in &partition.segment_backups {
                let same = segment.partition_id == partition.partition_id;
                self.expect(
                    same && segment.collection_id == collection.collection_id,
                    segment.segment_id,
                    "it is elsewhere",
                );
                self.segment(segment);
            }
        }
        for segment in &collection.l0_segments {
            let whole = segment.is_l0 && segment.partition_id == ALL_PARTITIONS;
            self.expect(whole, segment.segment_id, "it is not a segment of deletes for all partitions");
            self.segment(segment);
        }
    }

    fn segment(&mut self, segment: &SegmentBackup) {
        let place = format!("segment {}", segment.segment_id);
        self.expect(segment.size == segment.logs_len(), &place, "the size is not the sum of its logs");
        if segment.is_l0 {
            self.expect(segment.binlogs.is_empty(), &place, "a segment of deletes has rows");
        } else {
            self.expect(segment.group_id == segment.segment_id, &place, "the group is not the segment itself");
            self.expect(!segment.binlogs.is_empty(), &place, "there are no rows");
        }
        let counts: BTreeSet<usize> = segment.binlogs.iter().map(|field| field.binlogs.len()).collect();
        self.expect(counts.len() <= 1, &place, "its fields have different numbers of logs");
        let fields: BTreeMap<i64, ()> = segment.binlogs.iter().map(|field| (field.field_id, ())).collect();
        if segment.storage_version < 2 && !segment.is_l0 {
            let hidden = fields.contains_key(&0) && fields.contains_key(&1);
            self.expect(hidden, &place, "the hidden fields 0 and 1 are missing");
        }
        for log in segment.binlogs.iter().chain(&segment.deltalogs).flat_map(|field| &field.binlogs) {
            self.expect(log.log_id > 0, &place, "a log has no id");
            self.expect(log.log_size > 0, &place, "a log has no length");
        }
    }
}
