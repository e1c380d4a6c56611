//! What a restore is to do, before it does anything: each collection with its new name, and what is to be read.

use std::collections::BTreeSet;

use eyrie_milvus::logical::meta::{BackupInfo, CollectionBackup, FORMAT_SNAPSHOT, SegmentBackup};
use eyrie_milvus::logical::{CollectionName, Filter, Grouping, Renames};

use crate::logical::failure::{Failure, Kind, Result};

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which collections, by the names that they have in the backup.
    pub source_filter: Filter,
    /// Which collections, by the names that they get.
    pub filter: Filter,
    /// What they are to be called.
    pub renames: Renames,
    /// Whether indexes are made again.
    pub rebuild_index: bool,
    /// Whether Milvus chooses their kind.
    pub use_auto_index: bool,
    /// Schemas and settings alone.
    pub meta_only: bool,
    /// Whether a collection that is there is dropped first.
    pub drop_exist_collection: bool,
    /// Whether indexes that are there are dropped first.
    pub drop_exist_index: bool,
    /// Whether rows go into a collection that is there already.
    pub skip_create_collection: bool,
    /// Whether users, roles and grants are wanted.
    pub rbac: bool,
    /// Whether collections stay unloaded, also those that were loaded.
    pub no_load: bool,
    /// Whether what was done stays remembered at the end, for a caller that is not done yet.
    pub keep_journal: bool,
}

impl Options {
    /// What is to be done with each collection, as a journal remembers it: a restore that wants more is not done yet.
    pub(super) fn wanted(&self) -> String {
        let all = [("rows", !self.meta_only), ("index", self.rebuild_index), ("load", !self.no_load)];
        all.iter().filter(|(_, is)| *is).map(|(word, _)| *word).collect::<Vec<_>>().join(" ")
    }
}

/// What happens to a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// The one that is there is dropped, then it is made.
    DropAndCreate,
    /// Rows go into the one that is there.
    Fill,
    /// An earlier run of this restore made it; what that left out is done.
    GoOn,
    /// An earlier run of this restore made it whole.
    Keep,
}

/// One collection.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it was called.
    pub source: CollectionName,
    /// What it will be called.
    pub target: CollectionName,
    /// What happens.
    pub action: Action,
    /// What the backup has of it.
    pub collection: CollectionBackup,
    /// How its logs are arranged.
    pub grouping: Grouping,
}

impl Item {
    /// Its segments with rows, and the partition that each belongs to.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&str, &SegmentBackup)> {
        let partitions = &self.collection.partition_backups;
        partitions.iter().flat_map(|partition| {
            let rows = partition.segment_backups.iter().filter(|segment| !segment.is_l0);
            rows.map(|segment| (partition.partition_name.as_str(), segment))
        })
    }

    /// Deletes of level 0: of one partition, or (an empty name) of all.
    pub(super) fn l0_segments(&self) -> impl Iterator<Item = (&str, &SegmentBackup)> {
        let of_partitions = self.collection.partition_backups.iter().flat_map(|partition| {
            let l0 = partition.segment_backups.iter().filter(|segment| segment.is_l0);
            l0.map(|segment| (partition.partition_name.as_str(), segment))
        });
        of_partitions.chain(self.collection.l0_segments.iter().map(|segment| ("", segment)))
    }
}

/// The collections of a backup that are meant, under their new names; none is looked for in Milvus yet.
///
/// # Errors
/// Two would get one name, one that is named is not inside, or nothing is meant.
pub fn items(info: &BackupInfo, options: &Options) -> Result<Vec<Item>> {
    if info.format == FORMAT_SNAPSHOT {
        let what = format!("the backup {} was exported by Milvus itself (format snapshot)", info.name);
        let next = "restore it with milvus-backup 0.6 into Milvus 3.0; a backup of copied logs is taken with create";
        return Err(Failure::new(Kind::Unsupported, what, next));
    }
    let mut items = Vec::new();
    let mut targets = BTreeSet::new();
    for collection in &info.collection_backups {
        let source = CollectionName::new(collection.database(), &collection.collection_name);
        let target = options.renames.apply(&source);
        if !options.filter.has(&target) || !options.source_filter.has(&source) {
            continue;
        }
        if !targets.insert(target.clone()) {
            let what = format!("two collections of the backup would both be called {target}");
            return Err(Failure::new(Kind::Request, what, "give them different names with --rename"));
        }
        if collection.schema.is_none() {
            let what = format!("the backup has no schema of {source}");
            return Err(Failure::new(Kind::Damaged, what, "leave it out with --filter, or take another backup"));
        }
        let grouping = Grouping::of(collection);
        items.push(Item { source, target, action: Action::Create, collection: collection.clone(), grouping });
    }
    let new = options.filter.named().filter(|name| !targets.contains(name));
    let old = options.source_filter.named().filter(|name| !items.iter().any(|item: &Item| item.source == *name));
    let missing: Vec<String> = new.chain(old).map(|name| name.to_string()).collect();
    if !missing.is_empty() {
        let what = format!("the backup {} has no {}", info.name, missing.join(", "));
        let next = "--filter means names after renaming, -c those in the backup; get shows what is inside";
        return Err(Failure::new(Kind::NotFound, what, next));
    }
    if items.is_empty() && !options.rbac {
        let what = format!("the backup {} has no collection that is meant", info.name);
        return Err(Failure::new(Kind::NotFound, what, "get shows what is inside"));
    }
    Ok(items)
}
