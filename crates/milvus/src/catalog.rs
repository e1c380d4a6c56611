//! The metadata of one Milvus as a whole, decoded: what a person asks about, and what reports and transforms look up.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::ids::{CollectionId, DatabaseId, FieldId, HybridTs, IndexId, PartitionId, SegmentId, SegmentPath, TaskId};
use crate::key::{Key, LogKind};
use crate::proto;
use crate::queue::QueueKind;
use crate::references::Trouble;
use crate::roots::Roots;
use crate::value::{SegmentLevel, SegmentState, Value};

/// Where the default database is, also when it has no key of its own.
pub const DEFAULT_DATABASE: DatabaseId = DatabaseId(1);

/// All that one Milvus knows, at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Databases and their names.
    pub databases: BTreeMap<DatabaseId, String>,
    /// Collections.
    pub collections: BTreeMap<CollectionId, Collection>,
    /// Segments, dropped ones too.
    pub segments: BTreeMap<SegmentPath, Segment>,
    /// Up to where each channel is in the object storage.
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// Imports that are neither done nor failed.
    pub imports: BTreeMap<TaskId, Import>,
    /// Compactions under way, by plan: their state and results.
    pub compactions: BTreeMap<TaskId, proto::CompactionTask>,
    /// Changes of schema under way (2.6).
    pub broadcasts: BTreeSet<String>,
    /// Users.
    pub users: BTreeSet<String>,
    /// Roles.
    pub roles: BTreeSet<String>,
    /// No timestamp above this was given out yet: the clock, saved ahead. Milliseconds since 1970.
    pub clock_ms: Option<u64>,
    /// What is not understood.
    pub troubles: Vec<Trouble>,
}

/// A collection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Collection {
    /// Its database; absent in values of before there were any.
    pub database: Option<DatabaseId>,
    /// Its name.
    pub name: String,
    /// Whether it is neither being made nor dropped.
    pub state: CollectionState,
    /// When it was made.
    pub created: HybridTs,
    /// Its channels, one per shard.
    pub channels: Vec<String>,
    /// Its fields.
    pub fields: BTreeMap<FieldId, String>,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionId, String>,
    /// Its aliases.
    pub aliases: BTreeSet<String>,
    /// Its indexes, but for deleted ones.
    pub indexes: BTreeMap<IndexId, Index>,
    /// Whether it is loaded.
    pub loaded: bool,
    /// How long its rows live, in seconds, where they expire.
    pub ttl_secs: Option<u64>,
}

/// How far a collection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionState {
    /// There.
    #[default]
    Created,
    /// Being made.
    Creating,
    /// Being dropped.
    Dropping,
    /// Dropped.
    Dropped,
}

/// An index of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its field.
    pub field: i64,
    /// Its kind, as the user gave it.
    pub kind: String,
}

/// A segment with its logs.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// How far it is in its life.
    pub state: SegmentState,
    /// Its level.
    pub level: SegmentLevel,
    /// Rows, as its key says.
    pub rows: i64,
    /// The channel that its rows came by.
    pub channel: String,
    /// How its logs are laid: 0 and 1 a file per field, 2 a file per group of fields, 3 a folder.
    pub storage_version: i64,
    /// What it was compacted from.
    pub compacted_from: Vec<SegmentId>,
    /// Whether it came by compaction.
    pub by_compaction: bool,
    /// Whether queries see it: neither fake, importing nor invisible.
    pub visible: bool,
    /// Whether its key is there: logs without one are leftovers.
    pub has_key: bool,
    /// Its logs: kind, field, sums.
    pub logs: BTreeMap<LogKind, BTreeMap<FieldId, LogsSum>>,
}

/// The logs of one field of a segment, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsSum {
    /// Files.
    pub files: u64,
    /// Rows or deletes in them.
    pub entries: i64,
    /// Their bytes, as the metadata says.
    pub bytes: i64,
}

/// Up to where a channel is in the object storage and in the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to this moment is.
    pub at: HybridTs,
    /// Its place in the queue.
    pub position: Vec<u8>,
    /// What kind of queue that is a place of.
    pub queue: Option<QueueKind>,
}

/// An import that is neither done nor failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Into which collection.
    pub collection: String,
    /// The files of the user that it reads.
    pub files: Vec<String>,
    /// The segments that it fills.
    pub segments: BTreeSet<SegmentId>,
}

impl Catalog {
    /// Reads the keys of the Milvus at `roots`; those of others are passed over.
    pub fn read<'a>(roots: &Roots, pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Catalog {
        let mut catalog = Catalog::default();
        let mut jobs = Vec::new();
        let mut tasks = Vec::new();
        for (raw, value) in pairs {
            let inside = std::str::from_utf8(raw).is_ok_and(|key| roots.split(key).is_some());
            let key = match Key::parse(roots, raw) {
                Ok(key) => key,
                Err(unknown) if inside => {
                    catalog.troubles.push(unknown.into());
                    continue;
                }
                Err(_) => continue,
            };
            match Value::decode(&key, value) {
                Ok(Value::ImportJob(job)) => jobs.push(job),
                Ok(Value::ImportTask(task)) => tasks.push(task),
                Ok(value) => catalog.take(key, value),
                Err(bad) => catalog.troubles.push(bad.into()),
            }
        }
        catalog.take_imports(jobs, tasks);
        catalog
    }

    /// What kind of queue Milvus runs on, as most of its checkpoints tell; none: it has none yet.
    pub fn queue(&self) -> Option<QueueKind> {
        let mut votes: BTreeMap<QueueKind, usize> = BTreeMap::new();
        for kind in self.checkpoints.values().filter_map(|checkpoint| checkpoint.queue) {
            *votes.entry(kind).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(kind, _)| kind)
    }

    /// A collection's name with its database, for a person.
    pub fn name_of(&self, collection: CollectionId) -> String {
        let Some(found) = self.collections.get(&collection) else { return format!("collection {collection}") };
        let database = found.database.filter(|db| db.0 != 0).unwrap_or(DEFAULT_DATABASE);
        match self.databases.get(&database) {
            Some(name) => format!("{name}.{}", found.name),
            None if database == DEFAULT_DATABASE => format!("default.{}", found.name),
            None => format!("database {database}.{}", found.name),
        }
    }

    /// The collection that a channel belongs to.
    pub fn collection_of_channel(&self, channel: &str) -> Option<CollectionId> {
        let owner = self.collections.iter().find(|(_, c)| c.channels.iter().any(|name| name == channel));
        owner.map(|(id, _)| *id)
    }

    fn take(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::Database(id), Value::Database(db)) => {
                self.databases.insert(id, db.name);
            }
            (Key::Collection(database, id), Value::Collection(info)) => self.take_collection(database, id, info),
            (Key::Partition(collection, id), Value::Partition(partition)) => {
                self.collection(collection).partitions.insert(id, partition.partition_name);
            }
            (Key::Field(collection, id), Value::Field(field)) => {
                self.collection(collection).fields.insert(id, field.name);
            }
            (Key::Alias(_, name), Value::Alias(alias)) => {
                self.collection(CollectionId(alias.collection_id)).aliases.insert(name);
            }
            (Key::User(name), _) => {
                self.users.insert(name);
            }
            (Key::Role(name), _) => {
                self.roles.insert(name);
            }
            (Key::FieldIndex(collection, id), Value::FieldIndex(index)) if !index.deleted => {
                self.collection(collection).indexes.insert(id, index_of(index));
            }
            (Key::CollectionLoad(id), _) => self.collection(id).loaded = true,
            (Key::Segment(path), Value::Segment(segment)) => self.take_segment(path, *segment),
            (Key::Logs(kind, path, field), Value::Logs(logs)) => {
                self.segment(path).add(kind, field, &logs);
            }
            (Key::ChannelCheckpoint(channel), Value::Position(position)) => {
                let queue = QueueKind::of(&position);
                let checkpoint = Checkpoint { at: HybridTs(position.timestamp), position: position.msg_id, queue };
                self.checkpoints.insert(channel, checkpoint);
            }
            (Key::CompactionTask(_, _, plan), Value::CompactionTask(task)) => {
                self.compactions.insert(plan, task);
            }
            (Key::BroadcastTask(id), _) => {
                self.broadcasts.insert(id);
            }
            (Key::Clock(name), Value::Clock(nanoseconds)) if name == "gid/timestamp" => {
                self.clock_ms = Some(nanoseconds / 1_000_000);
            }
            _ => {}
        }
    }

    fn take_collection(&mut self, database: Option<DatabaseId>, id: CollectionId, info: proto::CollectionInfo) {
        let collection = self.collection(id);
        collection.database = database;
        collection.name = info.schema.as_ref().map(|schema| schema.name.clone()).unwrap_or_default();
        collection.state = match info.state {
            1 => CollectionState::Creating,
            2 => CollectionState::Dropping,
            3 => CollectionState::Dropped,
            _ => CollectionState::Created,
        };
        collection.created = HybridTs(info.create_time);
        collection.channels = info.virtual_channel_names;
        let ttl = info.properties.iter().find(|property| property.key == "collection.ttl.seconds");
        collection.ttl_secs = ttl.and_then(|property| property.value.parse().ok()).filter(|secs| *secs > 0);
        for field in info.schema.into_iter().flat_map(|schema| schema.fields) {
            collection.fields.entry(FieldId(field.field_id)).or_insert(field.name);
        }
        for (id, name) in info.partition_ids.into_iter().zip(info.partition_names) {
            collection.partitions.entry(PartitionId(id)).or_insert(name);
        }
    }

    fn take_segment(&mut self, path: SegmentPath, info: proto::SegmentInfo) {
        let segment = self.segment(path);
        segment.has_key = true;
        segment.state = SegmentState::from_number(info.state);
        segment.level = SegmentLevel::from_number(info.level);
        segment.rows = info.num_of_rows;
        segment.channel = info.insert_channel;
        segment.storage_version = info.storage_version;
        segment.compacted_from = info.compaction_from.into_iter().map(SegmentId).collect();
        segment.by_compaction = info.created_by_compaction;
        segment.visible = !info.is_fake && !info.is_importing && !info.is_invisible;
        let families = [
            (LogKind::Insert, info.binlogs),
            (LogKind::Stats, info.statslogs),
            (LogKind::Delta, info.deltalogs),
            (LogKind::Bm25, info.bm25statslogs),
        ];
        for (kind, family) in families {
            family.iter().for_each(|logs| segment.add(kind, FieldId(logs.field_id), logs));
        }
    }

    fn take_imports(&mut self, jobs: Vec<proto::ImportJob>, tasks: Vec<proto::ImportTask>) {
        for job in jobs.into_iter().filter(|job| is_import_open(job.state)) {
            let files = job.files.into_iter().flat_map(|file| file.paths).collect();
            let import = Import { collection: job.collection_name, files, segments: BTreeSet::new() };
            self.imports.insert(TaskId(job.job_id), import);
        }
        for task in tasks {
            if let Some(import) = self.imports.get_mut(&TaskId(task.job_id)) {
                import.segments.extend(task.segment_ids.into_iter().chain(task.sorted_segment_ids).map(SegmentId));
            }
        }
    }

    fn collection(&mut self, id: CollectionId) -> &mut Collection {
        self.collections.entry(id).or_default()
    }

    fn segment(&mut self, path: SegmentPath) -> &mut Segment {
        self.segments.entry(path).or_insert_with(Segment::leftover)
    }
}

impl Segment {
    /// Rows that a query would see of it, deletes not counted.
    pub fn visible_rows(&self) -> i64 {
        let rows_state = matches!(self.state, SegmentState::Flushed | SegmentState::Flushing);
        match self.state {
            _ if !self.visible || self.level == SegmentLevel::L0 => 0,
            // What is not flushed is in the object storage as far as its logs go; the rest is in the queue.
            SegmentState::Growing | SegmentState::Sealed => self.logged_rows(),
            _ if rows_state => self.rows,
            _ => 0,
        }
    }

    /// Rows in its insert logs: of the field with the most, since all have the same.
    pub fn logged_rows(&self) -> i64 {
        let logs = self.logs.get(&LogKind::Insert);
        logs.and_then(|fields| fields.values().map(|sum| sum.entries).max()).unwrap_or(0)
    }

    /// Bytes of its logs, as the metadata says.
    pub fn log_bytes(&self) -> u64 {
        let sums = self.logs.values().flat_map(BTreeMap::values);
        sums.map(|sum| u64::try_from(sum.bytes).unwrap_or(0)).fold(0, u64::saturating_add)
    }

    /// Whether it holds rows for queries: it is neither dropped nor unfinished.
    pub fn is_live(&self) -> bool {
        self.has_key && !matches!(self.state, SegmentState::Dropped | SegmentState::Unknown)
    }

    fn leftover() -> Segment {
        Segment {
            state: SegmentState::Unknown,
            level: SegmentLevel::Legacy,
            rows: 0,
            channel: String::new(),
            storage_version: 0,
            compacted_from: Vec::new(),
            by_compaction: false,
            visible: false,
            has_key: false,
            logs: BTreeMap::new(),
        }
    }

    fn add(&mut self, kind: LogKind, field: FieldId, logs: &proto::FieldBinlog) {
        let sum = self.logs.entry(kind).or_default().entry(field).or_default();
        for log in &logs.binlogs {
            sum.files += 1;
            sum.entries = sum.entries.saturating_add(log.entries_num);
            sum.bytes = sum.bytes.saturating_add(log.log_size);
        }
    }
}

/// Whether an import job of this state still has something to do: neither failed nor completed.
pub(crate) fn is_import_open(state: i32) -> bool {
    const FAILED: i32 = 4;
    const COMPLETED: i32 = 5;
    !matches!(state, FAILED | COMPLETED)
}

fn index_of(index: proto::FieldIndex) -> Index {
    let info = index.index_info.unwrap_or_default();
    let kind = info.index_params.iter().find(|pair| pair.key == "index_type");
    Index { name: info.index_name, field: info.field_id, kind: kind.map(|pair| pair.value.clone()).unwrap_or_default() }
}
