//! What is inside, in words: databases, collections, rows, sizes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::catalog::{Catalog, CollectionState, DEFAULT_DATABASE};
use crate::ids::{CollectionId, DatabaseId, SegmentPath};
use crate::key::LogKind;
use crate::layout::{Generation, Layout};
use crate::queue::QueueKind;
use crate::value::{SegmentLevel, SegmentState};

/// One Milvus, for a person: for `show`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// `etcd.rootPath`.
    pub root: String,
    /// Which releases write such keys.
    pub generation: Generation,
    /// Versions of the processes that were running.
    pub versions: Vec<String>,
    /// What kind of queue it runs on, where positions tell.
    pub queue: Option<QueueKind>,
    /// Databases in the order of their ids.
    pub databases: Vec<DatabaseDescription>,
    /// Users.
    pub users: usize,
    /// Roles.
    pub roles: usize,
    /// Segments that hold rows for queries, and those that are dropped and not yet cleaned up.
    pub segments: SegmentCounts,
    /// Rows, deletes not counted.
    pub rows: i64,
    /// Bytes of the logs, as the metadata says.
    pub log_bytes: u64,
    /// Up to when each channel is in the object storage: milliseconds since 1970. What came later is in the queue alone.
    pub channels: BTreeMap<String, u64>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatabaseDescription {
    /// Its name.
    pub name: String,
    /// Its collections, by id.
    pub collections: Vec<CollectionDescription>,
}

/// A collection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollectionDescription {
    /// Its id.
    pub id: CollectionId,
    /// Its name.
    pub name: String,
    /// Whether it is there, being made or being dropped.
    pub state: CollectionState,
    /// Names of its partitions.
    pub partitions: Vec<String>,
    /// Its aliases.
    pub aliases: Vec<String>,
    /// Number of its fields that a user made.
    pub fields: usize,
    /// Its indexes: name and kind.
    pub indexes: BTreeMap<String, String>,
    /// Whether it is loaded.
    pub loaded: bool,
    /// Its segments.
    pub segments: SegmentCounts,
    /// Rows, deletes not counted.
    pub rows: i64,
    /// Deletes in its logs: at most so many of the rows are gone.
    pub deletes: i64,
    /// Bytes of its logs, as the metadata says.
    pub log_bytes: u64,
}

/// Numbers of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SegmentCounts {
    /// With rows or deletes, in use.
    pub live: u64,
    /// Of these: not flushed, their last rows are in the queue alone.
    pub growing: u64,
    /// Dropped, not yet cleaned up.
    pub dropped: u64,
}

/// Field ids below this are Milvus's own: row id and timestamp.
const FIRST_USER_FIELD: i64 = 100;

impl Description {
    /// Describes the Milvus at `layout`.
    pub fn of(layout: &Layout, catalog: &Catalog) -> Description {
        let mut databases: BTreeMap<DatabaseId, DatabaseDescription> = BTreeMap::new();
        for (id, name) in &catalog.databases {
            databases.insert(*id, DatabaseDescription { name: name.clone(), collections: Vec::new() });
        }
        for (id, collection) in catalog.collections.iter().filter(|(_, c)| !c.name.is_empty()) {
            let database = collection.database.filter(|db| db.0 != 0).unwrap_or(DEFAULT_DATABASE);
            let unnamed = || {
                let name = if database == DEFAULT_DATABASE { "default".into() } else { format!("database {database}") };
                DatabaseDescription { name, collections: Vec::new() }
            };
            let collections = &mut databases.entry(database).or_insert_with(unnamed).collections;
            collections.push(CollectionDescription::of(*id, catalog));
        }
        let all = || databases.values().flat_map(|database| &database.collections);
        Description {
            root: layout.roots.root.clone(),
            generation: layout.generation,
            versions: layout.versions.iter().cloned().collect(),
            queue: catalog.queue(),
            users: catalog.users.len(),
            roles: catalog.roles.len(),
            segments: all().fold(SegmentCounts::default(), |sum, c| sum.and(c.segments)),
            rows: all().map(|c| c.rows).sum(),
            log_bytes: all().map(|c| c.log_bytes).sum(),
            channels: catalog.checkpoints.iter().map(|(name, c)| (name.clone(), c.at.unix_ms())).collect(),
            databases: databases.into_values().collect(),
        }
    }
}

impl CollectionDescription {
    fn of(id: CollectionId, catalog: &Catalog) -> CollectionDescription {
        let collection = &catalog.collections[&id];
        let first = SegmentPath { collection: id, ..SegmentPath::MIN };
        let segments = catalog.segments.range(first..).take_while(|(path, _)| path.collection == id);
        let (mut counts, mut rows, mut deletes, mut log_bytes) = (SegmentCounts::default(), 0, 0, 0);
        for (_, segment) in segments {
            counts.live += u64::from(segment.is_live());
            let growing = matches!(segment.state, SegmentState::Growing | SegmentState::Sealed);
            counts.growing += u64::from(segment.is_live() && growing && segment.level != SegmentLevel::L0);
            counts.dropped += u64::from(segment.state == SegmentState::Dropped);
            if segment.is_live() {
                rows += segment.visible_rows();
                log_bytes += segment.log_bytes();
                let deltas = segment.logs.get(&LogKind::Delta);
                deletes += deltas.map_or(0, |fields| fields.values().map(|sum| sum.entries).sum());
            }
        }
        CollectionDescription {
            id,
            name: collection.name.clone(),
            state: collection.state,
            partitions: collection.partitions.values().cloned().collect(),
            aliases: collection.aliases.iter().cloned().collect(),
            fields: collection.fields.keys().filter(|id| id.0 >= FIRST_USER_FIELD).count(),
            indexes: collection.indexes.values().map(|index| (index.name.clone(), index.kind.clone())).collect(),
            loaded: collection.loaded,
            segments: counts,
            rows,
            deletes,
            log_bytes,
        }
    }
}

impl SegmentCounts {
    fn and(self, other: SegmentCounts) -> SegmentCounts {
        SegmentCounts {
            live: self.live + other.live,
            growing: self.growing + other.growing,
            dropped: self.dropped + other.dropped,
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = if self.versions.is_empty() { self.generation.to_string() } else { self.versions.join(", ") };
        writeln!(f, "Milvus {versions} at `{}`", self.root)?;
        writeln!(
            f,
            "  {} segments ({} growing, {} dropped), {} rows, {} bytes of logs; {} users, {} roles",
            self.segments.live,
            self.segments.growing,
            self.segments.dropped,
            self.rows,
            self.log_bytes,
            self.users,
            self.roles
        )?;
        for database in &self.databases {
            writeln!(f, "  database {}", database.name)?;
            database.collections.iter().try_for_each(|collection| write!(f, "{collection}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for CollectionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            CollectionState::Created if self.loaded => ", loaded",
            CollectionState::Created => "",
            CollectionState::Creating => ", being made",
            CollectionState::Dropping | CollectionState::Dropped => ", being dropped",
        };
        write!(f, "    {}: {} rows", self.name, self.rows)?;
        if self.deletes > 0 {
            write!(f, " (up to {} of them deleted)", self.deletes)?;
        }
        write!(f, ", {} segments, {} bytes, {} fields", self.segments.live, self.log_bytes, self.fields)?;
        write!(f, ", partitions {}", self.partitions.join(" "))?;
        for (name, kind) in &self.indexes {
            write!(f, ", index {name} {kind}")?;
        }
        if !self.aliases.is_empty() {
            write!(f, ", alias {}", self.aliases.join(" "))?;
        }
        writeln!(f, "{state}")
    }
}
