//! Every key that Milvus 2.2 to 2.6 writes to etcd: what it is about, read from its name and printed back.
//!
//! ```text
//! by-dev / meta / datacoord-meta / binlog / 47061 / 47062 / 47063 / 101
//!  root     part   who wrote it    class   collection, partition, segment, field
//! ```
//!
//! A key that is read and printed is the same key, byte for byte; what cannot be read so is an [`UnknownKey`], never a guess.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::ids::{
    BuildId, CollectionId, DatabaseId, FieldId, HybridTs, IndexId, PartitionId, SegmentId, SegmentPath, TaskId,
    canonical_number,
};
use crate::roots::{Part, Roots};

/// A key of one Milvus, understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `root-coord/database/db-info/…`: a database.
    Database(DatabaseId),
    /// `root-coord/database/collection-info/…`; without a database: the place of Milvus 2.2, `root-coord/collection/…`.
    Collection(Option<DatabaseId>, CollectionId),
    /// `root-coord/partitions/…`
    Partition(CollectionId, PartitionId),
    /// `root-coord/fields/…`: a field of a schema.
    Field(CollectionId, FieldId),
    /// `root-coord/struct-array-fields/…`
    StructField(CollectionId, FieldId),
    /// `root-coord/functions/…`
    Function(CollectionId, i64),
    /// An alias of a collection.
    Alias(AliasPlace, String),
    /// `root-coord/credential/users/…`, value: JSON with the hash of the password.
    User(String),
    /// `root-coord/credential/roles/…`, value: empty.
    Role(String),
    /// `root-coord/credential/user-role-mapping/…`: user and role, value: empty.
    UserRole(String, String),
    /// `root-coord/credential/grantee-privileges/…`: role, kind of object, its name; value: an id.
    Grantee(String, String, String),
    /// `root-coord/credential/grantee-id/…`: that id and a privilege; value: who granted it.
    GranteeId(String, String),
    /// `root-coord/privilege-group/…` (2.5)
    PrivilegeGroup(String),
    /// `root-coord/file_resource…` (2.6): what follows `root-coord/`.
    FileResource(String),
    /// `snapshots/…_ts…`: an earlier value of a key of the root coordinator.
    History(Box<Key>, HybridTs),

    /// `datacoord-meta/s/…`: a segment, without its logs.
    Segment(SegmentPath),
    /// `datacoord-meta/binlog/…` and its kin: the log files of one field of a segment.
    Logs(LogKind, SegmentPath, FieldId),
    /// `datacoord-meta/channel-cp/…`: up to where a channel is in the object storage.
    ChannelCheckpoint(String),
    /// `datacoord-meta/channel-removal/…`: whether a channel is to go.
    ChannelRemoval(String),
    /// `datacoord-meta/import-job/…` (2.4)
    ImportJob(TaskId),
    /// `datacoord-meta/import-task/…` (2.4)
    ImportTask(TaskId),
    /// `datacoord-meta/preimport-task/…` (2.4)
    PreImportTask(TaskId),
    /// `importtask/…` (2.3)
    OldImportTask(TaskId),
    /// `datacoord-meta/compaction-task/…` (2.4): kind, trigger, plan.
    CompactionTask(String, TaskId, TaskId),
    /// `datacoord-meta/analyze-task/…` (2.4)
    AnalyzeTask(TaskId),
    /// `datacoord-meta/stats-task/…` (2.5)
    StatsTask(TaskId),
    /// `datacoord-meta/partition-stats/…` (2.4): collection, partition, channel, version.
    PartitionStats(CollectionId, PartitionId, String, i64),
    /// `datacoord-meta/current-partition-stats-version/…` (2.4)
    CurrentPartitionStats(CollectionId, PartitionId, String),
    /// `datacoord-meta/global-segment-expire`
    SegmentExpire,
    /// `field-index/…`: an index of a collection.
    FieldIndex(CollectionId, IndexId),
    /// `segment-index/…`: its build on one segment.
    SegmentIndex(SegmentPath, BuildId),
    /// `channelwatch/…` (to 2.5): node and channel.
    ChannelWatch(i64, String),

    /// `querycoord-collection-loadinfo/…`: the collection is loaded.
    CollectionLoad(CollectionId),
    /// `querycoord-partition-loadinfo/…`
    PartitionLoad(CollectionId, PartitionId),
    /// `querycoord-replica/…`
    Replica(CollectionId, i64),
    /// `queryCoord-ResourceGroup/…`
    ResourceGroup(String),
    /// `queryCoord-Collection-Target/…`: what is loaded now; Milvus computes it again.
    LoadTarget(CollectionId),
    /// `queryCoord-collectionMeta/…`, of Milvus 2.1 and older.
    OldCollectionLoad(CollectionId),
    /// `queryCoord-ReplicaMeta/…`, of Milvus 2.1 and older.
    OldReplica(i64),

    /// `session/id`: the counter that gives server ids. Not a session.
    SessionCounter,
    /// `session/…`: a running process.
    Session(String),

    /// `streamingcoord-meta/pchannel/…` (2.6)
    Pchannel(String),
    /// `streamingcoord-meta/broadcast-task/…` (2.6): a change of schema under way.
    BroadcastTask(String),
    /// Other keys of `streamingcoord-meta/` (2.6), with what follows the name of the class, its slash included.
    StreamingCoord(StreamingClass, String),
    /// `streamingnode-meta/wal/…` (2.6): the log of a physical channel.
    Wal(String, WalKey),

    /// `kv/…/timestamp`: the clock, or an id allocator's; 8 bytes, big endian, nanoseconds.
    Clock(String),
    /// Any other key of `kv/`: no class of it names objects, a restore keeps it.
    OtherKv(String),
    /// `config/…`: a setting changed while running.
    Config(String),
    /// A key of woodpecker, the message queue in etcd and object storage (2.6).
    Woodpecker(String),
}

/// The kinds of log files that a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// The rows.
    Insert,
    /// What was deleted.
    Delta,
    /// Filters and bounds of the primary key.
    Stats,
    /// Term statistics of text search (2.5).
    Bm25,
}

impl LogKind {
    /// All of them.
    pub const ALL: [LogKind; 4] = [LogKind::Insert, LogKind::Delta, LogKind::Stats, LogKind::Bm25];

    /// Its name in keys.
    pub fn in_keys(self) -> &'static str {
        match self {
            LogKind::Insert => "binlog",
            LogKind::Delta => "deltalog",
            LogKind::Stats => "statslog",
            LogKind::Bm25 => "bm25log",
        }
    }

    /// Its folder in the object storage.
    pub fn in_paths(self) -> &'static str {
        match self {
            LogKind::Insert => "insert_log",
            LogKind::Delta => "delta_log",
            LogKind::Stats => "stats_log",
            LogKind::Bm25 => "bm25_stats",
        }
    }
}

/// The places where an alias was kept over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AliasPlace {
    /// `root-coord/database/aliases/<database>/`
    Database(DatabaseId),
    /// `root-coord/aliases/`
    Aliases,
    /// `root-coord/collection-alias/`
    CollectionAlias,
}

/// The lesser classes below `streamingcoord-meta/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamingClass {
    /// `version/…`
    Version,
    /// `cchannel/…`
    ControlChannel,
    /// `replicate-configuration`
    ReplicateConfiguration,
    /// `replicating-pchannel/…`
    ReplicatingPchannel,
}

impl StreamingClass {
    const ALL: [StreamingClass; 4] = [
        StreamingClass::Version,
        StreamingClass::ControlChannel,
        StreamingClass::ReplicateConfiguration,
        StreamingClass::ReplicatingPchannel,
    ];

    fn in_keys(self) -> &'static str {
        match self {
            StreamingClass::Version => "version",
            StreamingClass::ControlChannel => "cchannel",
            StreamingClass::ReplicateConfiguration => "replicate-configuration",
            StreamingClass::ReplicatingPchannel => "replicating-pchannel",
        }
    }
}

/// What a key below `streamingnode-meta/wal/<physical channel>/` is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalKey {
    /// `consume-checkpoint`: from where the log is read after a restart.
    Checkpoint,
    /// `salvage-checkpoint…`
    SalvageCheckpoint(String),
    /// `segment-assign/…`: a segment that grows.
    SegmentAssign(SegmentId),
    /// `vchannel/…`
    Vchannel(String),
    /// `vchannel/…/schema/…`: the schema from a moment on.
    VchannelSchema(String, String),
}

/// A key that no class of this crate fits.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[error("unknown key `{key}`: {why}")]
pub struct UnknownKey {
    /// The key, for reading: bytes that are no text are replaced.
    pub key: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Key {
    /// Reads a key of the Milvus at `roots`.
    ///
    /// # Errors
    /// [`UnknownKey`]: not below these roots, or below them and of no class that this crate knows.
    pub fn parse(roots: &Roots, key: &[u8]) -> Result<Key, UnknownKey> {
        let unknown = |why| UnknownKey { key: String::from_utf8_lossy(key).into_owned(), why };
        let text = std::str::from_utf8(key).map_err(|_| unknown("not text"))?;
        let (part, rest) = roots.split(text).ok_or_else(|| unknown("not below this Milvus's roots"))?;
        let read = match part {
            Part::Meta => meta(rest),
            Part::Kv => Some(kv(rest)),
            Part::Config => Some(Key::Config(rest.to_owned())),
            Part::Woodpecker => Some(Key::Woodpecker(rest.to_owned())),
        };
        read.ok_or_else(|| unknown("of no class that Milvus 2.2 to 2.6 writes"))
    }

    /// The key as it stands in etcd, for the Milvus at `roots`.
    pub fn print(&self, roots: &Roots) -> String {
        let part = match self {
            Key::Clock(_) | Key::OtherKv(_) => Part::Kv,
            Key::Config(_) => Part::Config,
            Key::Woodpecker(_) => Part::Woodpecker,
            _ => Part::Meta,
        };
        let prefix = roots.prefix(part);
        if prefix.is_empty() { self.to_string() } else { format!("{prefix}/{self}") }
    }

    /// What the key is about, in a word or two.
    pub fn class(&self) -> &'static str {
        match self {
            Key::Database(_) => "database",
            Key::Collection(..) => "collection",
            Key::Partition(..) => "partition",
            Key::Field(..) => "field",
            Key::StructField(..) => "struct field",
            Key::Function(..) => "function",
            Key::Alias(..) => "alias",
            Key::User(_) => "user",
            Key::Role(_) => "role",
            Key::UserRole(..) => "role of a user",
            Key::Grantee(..) => "grant",
            Key::GranteeId(..) => "privilege of a grant",
            Key::PrivilegeGroup(_) => "privilege group",
            Key::FileResource(_) => "file resource",
            Key::History(..) => "history",
            Key::Segment(_) => "segment",
            Key::Logs(LogKind::Insert, ..) => "insert logs",
            Key::Logs(LogKind::Delta, ..) => "delta logs",
            Key::Logs(LogKind::Stats, ..) => "statistics logs",
            Key::Logs(LogKind::Bm25, ..) => "bm25 logs",
            Key::ChannelCheckpoint(_) => "channel checkpoint",
            Key::ChannelRemoval(_) => "channel removal",
            Key::ImportJob(_) => "import job",
            Key::ImportTask(_) | Key::OldImportTask(_) => "import task",
            Key::PreImportTask(_) => "pre-import task",
            Key::CompactionTask(..) => "compaction task",
            Key::AnalyzeTask(_) => "analyze task",
            Key::StatsTask(_) => "statistics task",
            Key::PartitionStats(..) | Key::CurrentPartitionStats(..) => "partition statistics",
            Key::SegmentExpire => "segment expiry",
            Key::FieldIndex(..) => "index",
            Key::SegmentIndex(..) => "index of a segment",
            Key::ChannelWatch(..) => "channel watch",
            Key::CollectionLoad(_) | Key::PartitionLoad(..) | Key::OldCollectionLoad(_) => "load state",
            Key::Replica(..) | Key::OldReplica(_) => "replica",
            Key::ResourceGroup(_) => "resource group",
            Key::LoadTarget(_) => "load target",
            Key::SessionCounter => "session counter",
            Key::Session(_) => "session",
            Key::Pchannel(_) => "physical channel",
            Key::BroadcastTask(_) => "broadcast task",
            Key::StreamingCoord(..) => "streaming coordinator",
            Key::Wal(..) => "streaming log",
            Key::Clock(_) => "clock",
            Key::OtherKv(_) => "other of kv",
            Key::Config(_) => "setting",
            Key::Woodpecker(_) => "woodpecker",
        }
    }
}

/// Prints what stands behind the prefix of the key's part.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Database(d) => write!(f, "root-coord/database/db-info/{d}"),
            Key::Collection(Some(d), c) => write!(f, "root-coord/database/collection-info/{d}/{c}"),
            Key::Collection(None, c) => write!(f, "root-coord/collection/{c}"),
            Key::Partition(c, p) => write!(f, "root-coord/partitions/{c}/{p}"),
            Key::Field(c, id) => write!(f, "root-coord/fields/{c}/{id}"),
            Key::StructField(c, id) => write!(f, "root-coord/struct-array-fields/{c}/{id}"),
            Key::Function(c, id) => write!(f, "root-coord/functions/{c}/{id}"),
            Key::Alias(AliasPlace::Database(d), name) => write!(f, "root-coord/database/aliases/{d}/{name}"),
            Key::Alias(AliasPlace::Aliases, name) => write!(f, "root-coord/aliases/{name}"),
            Key::Alias(AliasPlace::CollectionAlias, name) => write!(f, "root-coord/collection-alias/{name}"),
            Key::User(user) => write!(f, "root-coord/credential/users/{user}"),
            Key::Role(role) => write!(f, "root-coord/credential/roles/{role}"),
            Key::UserRole(user, role) => write!(f, "root-coord/credential/user-role-mapping/{user}/{role}"),
            Key::Grantee(role, object, name) => {
                write!(f, "root-coord/credential/grantee-privileges/{role}/{object}/{name}")
            }
            Key::GranteeId(id, privilege) => write!(f, "root-coord/credential/grantee-id/{id}/{privilege}"),
            Key::PrivilegeGroup(name) => write!(f, "root-coord/privilege-group/{name}"),
            Key::FileResource(rest) => write!(f, "root-coord/{rest}"),
            Key::History(key, at) => write!(f, "snapshots/{key}_ts{}", at.0),
            Key::Segment(s) => write!(f, "datacoord-meta/s/{s}"),
            Key::Logs(kind, s, field) => write!(f, "datacoord-meta/{}/{s}/{field}", kind.in_keys()),
            Key::ChannelCheckpoint(channel) => write!(f, "datacoord-meta/channel-cp/{channel}"),
            Key::ChannelRemoval(channel) => write!(f, "datacoord-meta/channel-removal/{channel}"),
            Key::ImportJob(id) => write!(f, "datacoord-meta/import-job/{id}"),
            Key::ImportTask(id) => write!(f, "datacoord-meta/import-task/{id}"),
            Key::PreImportTask(id) => write!(f, "datacoord-meta/preimport-task/{id}"),
            Key::OldImportTask(id) => write!(f, "importtask/{id}"),
            Key::CompactionTask(kind, trigger, plan) => {
                write!(f, "datacoord-meta/compaction-task/{kind}/{trigger}/{plan}")
            }
            Key::AnalyzeTask(id) => write!(f, "datacoord-meta/analyze-task/{id}"),
            Key::StatsTask(id) => write!(f, "datacoord-meta/stats-task/{id}"),
            Key::PartitionStats(c, p, channel, version) => {
                write!(f, "datacoord-meta/partition-stats/{c}/{p}/{channel}/{version}")
            }
            Key::CurrentPartitionStats(c, p, channel) => {
                write!(f, "datacoord-meta/current-partition-stats-version/{c}/{p}/{channel}")
            }
            Key::SegmentExpire => f.write_str("datacoord-meta/global-segment-expire"),
            Key::FieldIndex(c, index) => write!(f, "field-index/{c}/{index}"),
            Key::SegmentIndex(s, build) => write!(f, "segment-index/{s}/{build}"),
            Key::ChannelWatch(node, channel) => write!(f, "channelwatch/{node}/{channel}"),
            Key::CollectionLoad(c) => write!(f, "querycoord-collection-loadinfo/{c}"),
            Key::PartitionLoad(c, p) => write!(f, "querycoord-partition-loadinfo/{c}/{p}"),
            Key::Replica(c, replica) => write!(f, "querycoord-replica/{c}/{replica}"),
            Key::ResourceGroup(name) => write!(f, "queryCoord-ResourceGroup/{name}"),
            Key::LoadTarget(c) => write!(f, "queryCoord-Collection-Target/{c}"),
            Key::OldCollectionLoad(c) => write!(f, "queryCoord-collectionMeta/{c}"),
            Key::OldReplica(replica) => write!(f, "queryCoord-ReplicaMeta/{replica}"),
            Key::SessionCounter => f.write_str("session/id"),
            Key::Session(role) => write!(f, "session/{role}"),
            Key::Pchannel(name) => write!(f, "streamingcoord-meta/pchannel/{name}"),
            Key::BroadcastTask(id) => write!(f, "streamingcoord-meta/broadcast-task/{id}"),
            Key::StreamingCoord(class, rest) => write!(f, "streamingcoord-meta/{}{rest}", class.in_keys()),
            Key::Wal(channel, of) => write!(f, "streamingnode-meta/wal/{channel}/{of}"),
            Key::Clock(rest) | Key::OtherKv(rest) | Key::Config(rest) | Key::Woodpecker(rest) => f.write_str(rest),
        }
    }
}

impl fmt::Display for WalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalKey::Checkpoint => f.write_str("consume-checkpoint"),
            WalKey::SalvageCheckpoint(rest) => write!(f, "salvage-checkpoint{rest}"),
            WalKey::SegmentAssign(segment) => write!(f, "segment-assign/{segment}"),
            WalKey::Vchannel(channel) => write!(f, "vchannel/{channel}"),
            WalKey::VchannelSchema(channel, from) => write!(f, "vchannel/{channel}/schema/{from}"),
        }
    }
}

fn meta(key: &str) -> Option<Key> {
    let (first, rest) = key.split_once('/')?;
    let parts: Vec<&str> = rest.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) && first != "streamingcoord-meta" {
        return None;
    }
    match (first, parts.as_slice()) {
        ("root-coord", parts) => root_coord(parts),
        ("snapshots", _) => history(rest),
        ("datacoord-meta", parts) => data_coord(parts),
        ("streamingcoord-meta", parts) => streaming_coord(parts),
        ("streamingnode-meta", ["wal", channel, of @ ..]) => Some(Key::Wal(text(channel), wal(of)?)),
        ("field-index", [c, index]) => Some(Key::FieldIndex(CollectionId(n(c)?), IndexId(n(index)?))),
        ("segment-index", [c, p, s, build]) => Some(Key::SegmentIndex(segment(c, p, s)?, BuildId(n(build)?))),
        ("channelwatch", [node, channel]) => Some(Key::ChannelWatch(n(node)?, text(channel))),
        ("importtask", [id]) => Some(Key::OldImportTask(TaskId(n(id)?))),
        ("querycoord-collection-loadinfo", [c]) => Some(Key::CollectionLoad(CollectionId(n(c)?))),
        ("querycoord-partition-loadinfo", [c, p]) => Some(Key::PartitionLoad(CollectionId(n(c)?), PartitionId(n(p)?))),
        ("querycoord-replica", [c, replica]) => Some(Key::Replica(CollectionId(n(c)?), n(replica)?)),
        ("queryCoord-ResourceGroup", [name]) => Some(Key::ResourceGroup(text(name))),
        ("queryCoord-Collection-Target", [c]) => Some(Key::LoadTarget(CollectionId(n(c)?))),
        ("queryCoord-collectionMeta", [c]) => Some(Key::OldCollectionLoad(CollectionId(n(c)?))),
        ("queryCoord-ReplicaMeta", [replica]) => Some(Key::OldReplica(n(replica)?)),
        ("session", ["id"]) => Some(Key::SessionCounter),
        ("session", [_, ..]) => Some(Key::Session(rest.to_owned())),
        _ => None,
    }
}

fn root_coord(parts: &[&str]) -> Option<Key> {
    let collection = |c: &str| n(c).map(CollectionId);
    Some(match parts {
        ["database", "db-info", d] => Key::Database(DatabaseId(n(d)?)),
        ["database", "collection-info", d, c] => Key::Collection(Some(DatabaseId(n(d)?)), collection(c)?),
        ["collection", c] => Key::Collection(None, collection(c)?),
        ["partitions", c, p] => Key::Partition(collection(c)?, PartitionId(n(p)?)),
        ["fields", c, field] => Key::Field(collection(c)?, FieldId(n(field)?)),
        ["struct-array-fields", c, field] => Key::StructField(collection(c)?, FieldId(n(field)?)),
        ["functions", c, function] => Key::Function(collection(c)?, n(function)?),
        ["database", "aliases", d, name] => Key::Alias(AliasPlace::Database(DatabaseId(n(d)?)), text(name)),
        ["aliases", name] => Key::Alias(AliasPlace::Aliases, text(name)),
        ["collection-alias", name] => Key::Alias(AliasPlace::CollectionAlias, text(name)),
        ["credential", "users", user] => Key::User(text(user)),
        ["credential", "roles", role] => Key::Role(text(role)),
        ["credential", "user-role-mapping", user, role] => Key::UserRole(text(user), text(role)),
        ["credential", "grantee-privileges", role, object, name] => Key::Grantee(text(role), text(object), text(name)),
        ["credential", "grantee-id", id, privilege] => Key::GranteeId(text(id), text(privilege)),
        ["privilege-group", name] => Key::PrivilegeGroup(text(name)),
        [first, ..] if first.starts_with("file_resource") => Key::FileResource(parts.join("/")),
        _ => return None,
    })
}

fn data_coord(parts: &[&str]) -> Option<Key> {
    let task = |id: &str| n(id).map(TaskId);
    if let [kind, c, p, s, field] = parts
        && let Some(kind) = LogKind::ALL.into_iter().find(|k| k.in_keys() == *kind)
    {
        return Some(Key::Logs(kind, segment(c, p, s)?, FieldId(n(field)?)));
    }
    Some(match parts {
        ["s", c, p, s] => Key::Segment(segment(c, p, s)?),
        ["channel-cp", channel] => Key::ChannelCheckpoint(text(channel)),
        ["channel-removal", channel] => Key::ChannelRemoval(text(channel)),
        ["import-job", id] => Key::ImportJob(task(id)?),
        ["import-task", id] => Key::ImportTask(task(id)?),
        ["preimport-task", id] => Key::PreImportTask(task(id)?),
        ["compaction-task", kind, trigger, plan] => Key::CompactionTask(text(kind), task(trigger)?, task(plan)?),
        ["analyze-task", id] => Key::AnalyzeTask(task(id)?),
        ["stats-task", id] => Key::StatsTask(task(id)?),
        ["partition-stats", c, p, channel, version] => {
            Key::PartitionStats(CollectionId(n(c)?), PartitionId(n(p)?), text(channel), n(version)?)
        }
        ["current-partition-stats-version", c, p, channel] => {
            Key::CurrentPartitionStats(CollectionId(n(c)?), PartitionId(n(p)?), text(channel))
        }
        ["global-segment-expire"] => Key::SegmentExpire,
        _ => return None,
    })
}

fn streaming_coord(parts: &[&str]) -> Option<Key> {
    match parts {
        ["pchannel", name] if !name.is_empty() => Some(Key::Pchannel(text(name))),
        ["broadcast-task", id] if !id.is_empty() => Some(Key::BroadcastTask(text(id))),
        [class, rest @ ..] => {
            let class = StreamingClass::ALL.into_iter().find(|c| c.in_keys() == *class)?;
            Some(Key::StreamingCoord(class, rest.iter().map(|part| format!("/{part}")).collect()))
        }
        [] => None,
    }
}

fn wal(parts: &[&str]) -> Option<WalKey> {
    match parts {
        ["consume-checkpoint"] => Some(WalKey::Checkpoint),
        ["segment-assign", s] => Some(WalKey::SegmentAssign(SegmentId(n(s)?))),
        ["vchannel", channel] => Some(WalKey::Vchannel(text(channel))),
        ["vchannel", channel, "schema", from] => Some(WalKey::VchannelSchema(text(channel), text(from))),
        [first, ..] => {
            let rest = first.strip_prefix("salvage-checkpoint")?;
            let below = parts[1..].iter().map(|part| format!("/{part}"));
            Some(WalKey::SalvageCheckpoint(std::iter::once(rest.to_owned()).chain(below).collect()))
        }
        [] => None,
    }
}

fn history(rest: &str) -> Option<Key> {
    let (key, at) = rest.rsplit_once("_ts")?;
    let at = canonical_number(at).and_then(|at| u64::try_from(at).ok())?;
    let parts: Vec<&str> = key.strip_prefix("root-coord/")?.split('/').collect();
    Some(Key::History(Box::new(root_coord(&parts)?), HybridTs(at)))
}

fn kv(rest: &str) -> Key {
    match rest.rsplit_once('/') {
        Some((_, "timestamp" | "idTimestamp")) => Key::Clock(rest.to_owned()),
        _ => Key::OtherKv(rest.to_owned()),
    }
}

fn segment(c: &str, p: &str, s: &str) -> Option<SegmentPath> {
    Some(SegmentPath { collection: CollectionId(n(c)?), partition: PartitionId(n(p)?), segment: SegmentId(n(s)?) })
}

fn n(text: &str) -> Option<i64> {
    canonical_number(text)
}

fn text(part: &str) -> String {
    part.to_owned()
}
