//! Which objects the metadata names: at one revision, or kept up to date event by event.
//!
//! ```text
//! segment key ──────── state: growing, flushed, …, dropped ──┐
//! log keys ─────────── log ids ─▶ insert, delta, stats, bm25 ├─▶ object, size, how much it is needed
//! segment-index keys ─ files of the build                    │
//! field-index keys ─── is the index still wanted ────────────┘
//! ```
//!
//! Each key names objects on its own; how much an object is *needed* is looked up when it is asked for, because it
//! depends on other keys. So one event costs as much as its own value, and the order of events does not matter: the
//! structure fed by a history equals the one built from where the history ends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use thiserror::Error;

use crate::ids::{BuildId, CollectionId, FieldId, IndexId, LogId, SegmentPath};
use crate::key::{Key, LogKind, UnknownKey};
use crate::object::{IndexBuild, ObjectClass, ObjectName, ObjectRoot, StatsBuild, is_safe_path};
use crate::proto;
use crate::roots::Roots;
use crate::value::{BadValue, INDEX_FINISHED, SegmentState, Value, bad};

/// The objects that the metadata of one Milvus names now.
#[derive(Clone, Debug, PartialEq)]
pub struct References {
    roots: Roots,
    objects_at: ObjectRoot,
    /// What each key names.
    named: BTreeMap<Key, Vec<(ObjectName, Option<u64>)>>,
    /// Each named object, with one entry per key that names it.
    objects: BTreeMap<ObjectName, Vec<Naming>>,
    segments: BTreeMap<SegmentPath, SegmentState>,
    indexes: BTreeMap<(CollectionId, IndexId), Wanted>,
    builds: BTreeMap<(SegmentPath, BuildId), (IndexId, Wanted)>,
    troubles: BTreeMap<Vec<u8>, Trouble>,
}

/// An object that metadata names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectRef {
    /// What it is.
    #[serde(skip)]
    pub name: ObjectName,
    /// Its path, relative to the bucket; of a folder, with a slash at its end.
    pub path: String,
    /// Its class.
    pub class: ObjectClass,
    /// The collection that it belongs to, where the metadata tells.
    pub collection: Option<CollectionId>,
    /// The segment that it belongs to, where the metadata tells.
    pub segment: Option<SegmentPath>,
    /// Its length, where the metadata tells.
    pub size: Option<u64>,
    /// What would be lost without it.
    pub need: Need,
}

/// What would be lost without an object. The smaller, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Rows, or the collection: it does not load without.
    Required,
    /// It belongs to a dropped segment. Milvus may have begun to delete its objects; without them, the segment's keys
    /// have to go as well, since a dropped segment can still be loaded in place of the one that it was compacted into.
    DroppedSegment,
    /// It belongs to an index that is deleted: the garbage collector may have been there.
    DeletedIndex,
    /// Its segment has no key any more: Milvus does not look at it.
    NoSegment,
    /// Milvus makes it again when it is missing.
    Rebuilt,
}

/// What one event changed.
///
/// Objects are named by their own keys, before or after the key of their segment: how much an added one is needed is as of
/// this event. When it is required later on, a later event says so; that it is required no more, no event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Objects that no key named before.
    pub added: Vec<ObjectRef>,
    /// Objects that no key names any more.
    pub removed: Vec<ObjectName>,
    /// Objects that were named before and are required only since this event: their segment or index came after them.
    pub needed: Vec<ObjectRef>,
}

/// A key or a value that is not understood. While there is one, the references are not known to be complete.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
pub enum Trouble {
    /// A key of no known class.
    #[error(transparent)]
    Key(#[from] UnknownKey),
    /// A value that is not what its key promises.
    #[error(transparent)]
    Value(#[from] BadValue),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Naming {
    size: Option<u64>,
    segment: Option<SegmentPath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Yes,
    No,
}

impl References {
    /// Without any key yet.
    pub fn new(roots: Roots, objects_at: ObjectRoot) -> References {
        References {
            roots,
            objects_at,
            named: BTreeMap::new(),
            objects: BTreeMap::new(),
            segments: BTreeMap::new(),
            indexes: BTreeMap::new(),
            builds: BTreeMap::new(),
            troubles: BTreeMap::new(),
        }
    }

    /// Of the whole key space at one revision. Keys of others are passed over.
    pub fn of<'a>(
        roots: Roots,
        objects_at: ObjectRoot,
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> References {
        let mut references = References::new(roots, objects_at);
        for (key, value) in pairs {
            references.put(key, value);
        }
        references
    }

    /// Takes in that a key has a new value.
    ///
    /// A value that is not understood names nothing and is kept in [`References::troubles`] until the key changes again.
    pub fn put(&mut self, raw: &[u8], value: &[u8]) -> Change {
        let Some(key) = self.understand(raw) else { return Change::default() };
        let before = self.is_in_use(&key);
        let read = self.read(&key, value);
        let named = match read {
            Ok(named) => {
                self.troubles.remove(raw);
                named
            }
            Err(bad) => {
                self.forget(&key);
                self.troubles.insert(raw.to_vec(), bad.into());
                Vec::new()
            }
        };
        let came_to_use = !before && self.is_in_use(&key);
        let mut change = self.exchange(key.clone(), named);
        if came_to_use {
            let old = self.depend_on(&key).into_iter().filter(|name| !change.added.iter().any(|new| new.name == *name));
            let old = old.filter_map(|name| self.get(&name)).filter(|object| object.need == Need::Required);
            change.needed = old.collect();
        }
        change
    }

    /// Takes in that a key is gone.
    pub fn delete(&mut self, raw: &[u8]) -> Change {
        self.troubles.remove(raw);
        let Ok(key) = Key::parse(&self.roots, raw) else { return Change::default() };
        self.forget(&key);
        self.exchange(key, Vec::new())
    }

    /// All objects that are named, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = ObjectRef> + '_ {
        self.objects.iter().map(|(name, namings)| self.describe(name, namings))
    }

    /// One object; none: no key names it.
    pub fn get(&self, name: &ObjectName) -> Option<ObjectRef> {
        self.objects.get(name).map(|namings| self.describe(name, namings))
    }

    /// What would be lost without an object, as of now; none: no key names it.
    pub fn need(&self, name: &ObjectName) -> Option<Need> {
        self.objects.get(name).map(|namings| self.need_of(name, namings))
    }

    /// How many objects are named.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// What is not understood now. Empty: the references are complete.
    pub fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.troubles.values()
    }

    /// Where the keys are.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Where the objects are.
    pub fn objects_at(&self) -> &ObjectRoot {
        &self.objects_at
    }

    /// Reads a key; none: of another program, or not understood and noted as trouble.
    fn understand(&mut self, raw: &[u8]) -> Option<Key> {
        match Key::parse(&self.roots, raw) {
            Ok(key) => Some(key),
            Err(unknown) => {
                if std::str::from_utf8(raw).is_ok_and(|key| self.roots.split(key).is_some()) {
                    self.troubles.insert(raw.to_vec(), unknown.into());
                }
                None
            }
        }
    }

    /// What a key names with this value; notes what other keys' objects depend on.
    fn read(&mut self, key: &Key, value: &[u8]) -> Result<Vec<(ObjectName, Option<u64>)>, BadValue> {
        if !names_objects(key) {
            return Ok(Vec::new());
        }
        let decoded = Value::decode(key, value)?;
        let at = &self.objects_at;
        match (key, decoded) {
            (Key::Segment(path), Value::Segment(segment)) => {
                let named = of_segment(*path, &segment, at).map_err(|why| bad(key, value, why))?;
                self.segments.insert(*path, SegmentState::from_number(segment.state));
                Ok(named)
            }
            (Key::Logs(kind, path, field), Value::Logs(logs)) => {
                if logs.field_id != field.0 && !logs.binlogs.is_empty() {
                    return Err(bad(key, value, format!("it says field {}", logs.field_id)));
                }
                of_logs(*kind, *path, &logs, at).map_err(|why| bad(key, value, why))
            }
            (Key::SegmentIndex(path, build), Value::SegmentIndex(index)) => {
                let named = of_index(*path, *build, &index).map_err(|why| bad(key, value, why))?;
                self.builds.insert((*path, *build), (IndexId(index.index_id), wanted(!index.deleted)));
                Ok(named)
            }
            (Key::FieldIndex(collection, index), Value::FieldIndex(field_index)) => {
                self.indexes.insert((*collection, *index), wanted(!field_index.deleted));
                Ok(Vec::new())
            }
            (Key::PartitionStats(c, p, channel, version), _) => {
                let channel = is_safe_path(channel).then_some(channel.as_str());
                let channel = channel.ok_or_else(|| bad(key, value, "the channel is no part of a path".into()))?;
                Ok(vec![(ObjectName::PartitionStats(*c, *p, channel.into(), *version), None)])
            }
            (Key::AnalyzeTask(id), Value::AnalyzeTask(task)) => {
                Ok(vec![(ObjectName::AnalyzeStats(*id, task.version), None)])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Forgets what other keys' objects depended on.
    fn forget(&mut self, key: &Key) {
        match key {
            Key::Segment(path) => {
                self.segments.remove(path);
            }
            Key::SegmentIndex(path, build) => {
                self.builds.remove(&(*path, *build));
            }
            Key::FieldIndex(collection, index) => {
                self.indexes.remove(&(*collection, *index));
            }
            _ => {}
        }
    }

    /// Whether a segment, an index or a build is one whose objects are required; false for other keys.
    fn is_in_use(&self, key: &Key) -> bool {
        match key {
            Key::Segment(path) => self.segments.get(path).is_some_and(|state| *state != SegmentState::Dropped),
            Key::FieldIndex(collection, index) => self.indexes.get(&(*collection, *index)) == Some(&Wanted::Yes),
            Key::SegmentIndex(path, build) => self.is_wanted(*path, *build),
            _ => false,
        }
    }

    /// The objects whose need depends on the key of a segment or an index.
    fn depend_on(&self, key: &Key) -> Vec<ObjectName> {
        let keys: Vec<Key> = match key {
            Key::Segment(path) => {
                let (first, last) = (FieldId(i64::MIN), FieldId(i64::MAX));
                let logs = LogKind::ALL.map(|kind| Key::Logs(kind, *path, first)..=Key::Logs(kind, *path, last));
                let builds = Key::SegmentIndex(*path, BuildId(i64::MIN))..=Key::SegmentIndex(*path, BuildId(i64::MAX));
                let ranges = logs.into_iter().chain([builds, key.clone()..=key.clone()]);
                ranges.flat_map(|range| self.named.range(range).map(|(key, _)| key.clone())).collect()
            }
            Key::FieldIndex(collection, index) => {
                let first = SegmentPath { collection: *collection, ..SegmentPath::MIN };
                let builds = self.builds.range((first, BuildId(i64::MIN))..);
                let builds = builds.take_while(|((path, _), _)| path.collection == *collection);
                let of_index = builds.filter(|(_, (of, _))| of == index);
                of_index.map(|((path, build), _)| Key::SegmentIndex(*path, *build)).collect()
            }
            Key::SegmentIndex(..) => vec![key.clone()],
            _ => Vec::new(),
        };
        keys.iter().filter_map(|key| self.named.get(key)).flatten().map(|(name, _)| name.clone()).collect()
    }

    /// Lets a key name other objects than before.
    fn exchange(&mut self, key: Key, mut now: Vec<(ObjectName, Option<u64>)>) -> Change {
        now.sort();
        now.dedup_by(|a, b| a.0 == b.0);
        let before = self.named.remove(&key).unwrap_or_default();
        let segment = segment_of(&key);
        let mut gone = Vec::new();
        for (name, size) in &before {
            if self.take_away(name, &Naming { size: *size, segment }) {
                gone.push(name.clone());
            }
        }
        let mut new = Vec::new();
        for (name, size) in &now {
            if self.add(name, Naming { size: *size, segment }) {
                new.push(name.clone());
            }
        }
        // What went and came back within one event has not changed.
        let removed: Vec<ObjectName> = gone.iter().filter(|name| !new.contains(name)).cloned().collect();
        new.retain(|name| !gone.contains(name));
        if !now.is_empty() {
            self.named.insert(key, now);
        }
        let added = new.iter().filter_map(|name| self.get(name)).collect();
        Change { added, removed, needed: Vec::new() }
    }

    /// Whether the object was not named before.
    fn add(&mut self, name: &ObjectName, naming: Naming) -> bool {
        match self.objects.entry(name.clone()) {
            Entry::Vacant(slot) => {
                slot.insert(vec![naming]);
                true
            }
            Entry::Occupied(mut slot) => {
                let namings = slot.get_mut();
                let at = namings.partition_point(|other| *other < naming);
                namings.insert(at, naming);
                false
            }
        }
    }

    /// Whether no key names the object any more.
    fn take_away(&mut self, name: &ObjectName, naming: &Naming) -> bool {
        let Some(namings) = self.objects.get_mut(name) else { return false };
        if let Ok(at) = namings.binary_search(naming) {
            namings.remove(at);
        }
        let last = namings.is_empty();
        if last {
            self.objects.remove(name);
        }
        last
    }

    fn describe(&self, name: &ObjectName, namings: &[Naming]) -> ObjectRef {
        let segment = name.segment().or_else(|| namings.iter().find_map(|naming| naming.segment));
        let collection = match name {
            ObjectName::PartitionStats(collection, ..) => Some(*collection),
            _ => segment.map(|segment| segment.collection),
        };
        let size = namings.first().and_then(|naming| naming.size);
        let size = if namings.iter().all(|naming| naming.size == size) { size } else { None };
        let (path, class) = (name.path(&self.objects_at), name.class());
        ObjectRef { name: name.clone(), path, class, collection, segment, size, need: self.need_of(name, namings) }
    }

    fn need_of(&self, name: &ObjectName, namings: &[Naming]) -> Need {
        if matches!(name, ObjectName::AnalyzeStats(..)) {
            return Need::Rebuilt;
        }
        let owners = namings.iter().filter_map(|naming| naming.segment);
        let of_segment = owners.map(|segment| match self.segments.get(&segment) {
            None => Need::NoSegment,
            Some(SegmentState::Dropped) => Need::DroppedSegment,
            Some(_) => Need::Required,
        });
        let of_segment = of_segment.min().unwrap_or(Need::Required);
        match name {
            ObjectName::IndexFile(build, _)
                if of_segment == Need::Required && !self.is_wanted(build.segment, build.build) =>
            {
                Need::DeletedIndex
            }
            _ => of_segment,
        }
    }

    fn is_wanted(&self, segment: SegmentPath, build: BuildId) -> bool {
        let Some((index, Wanted::Yes)) = self.builds.get(&(segment, build)) else { return false };
        self.indexes.get(&(segment.collection, *index)) == Some(&Wanted::Yes)
    }
}

fn wanted(yes: bool) -> Wanted {
    if yes { Wanted::Yes } else { Wanted::No }
}

fn names_objects(key: &Key) -> bool {
    matches!(
        key,
        Key::Segment(_)
            | Key::Logs(..)
            | Key::SegmentIndex(..)
            | Key::FieldIndex(..)
            | Key::PartitionStats(..)
            | Key::AnalyzeTask(_)
    )
}

fn segment_of(key: &Key) -> Option<SegmentPath> {
    match key {
        Key::Segment(path) | Key::Logs(_, path, _) | Key::SegmentIndex(path, _) => Some(*path),
        _ => None,
    }
}

type Named = Result<Vec<(ObjectName, Option<u64>)>, String>;

/// What the value of a segment names itself: logs in old values, text and JSON indexes, the folder of storage version 3.
fn of_segment(path: SegmentPath, segment: &proto::SegmentInfo, at: &ObjectRoot) -> Named {
    let mut named = Vec::new();
    let families = [
        (LogKind::Insert, &segment.binlogs),
        (LogKind::Stats, &segment.statslogs),
        (LogKind::Delta, &segment.deltalogs),
        (LogKind::Bm25, &segment.bm25statslogs),
    ];
    for (kind, family) in families {
        for logs in family {
            named.extend(of_logs(kind, path, logs, at)?);
        }
    }
    for (field, text) in &segment.text_stats_logs {
        let (build, version) = (BuildId(text.build_id), text.version);
        let build = StatsBuild { segment: path, field: FieldId(*field), build, version };
        for file in &text.files {
            let full = file.contains("text_log/");
            let name = if full { written(file, at)? } else { ObjectName::TextIndex(build, safe(file)?) };
            named.push((name, None));
        }
    }
    let manifest = manifest_folder(&segment.manifest_path)?;
    for (field, json) in &segment.json_key_stats {
        let (build, version) = (BuildId(json.build_id), json.version);
        let build = StatsBuild { segment: path, field: FieldId(*field), build, version };
        let format = (json.data_format != 0).then_some(json.data_format);
        for file in &json.files {
            let full = ["json_stats", "json_key_index_log"].iter().any(|dir| file.split('/').any(|part| part == *dir));
            match (full, &manifest) {
                (true, _) => named.push((written(file, at)?, None)),
                (false, None) => named.push((ObjectName::JsonStats(format, build, safe(file)?), None)),
                // Below the folder of the segment, which is named as a whole.
                (false, Some(_)) => {}
            }
        }
    }
    if let Some(folder) = manifest {
        match written(&folder, at)? {
            ObjectName::AsWritten(path) => named.push((ObjectName::FolderAsWritten(path), None)),
            _ => return Err(format!("`{folder}` is a file, a folder is expected")),
        }
    }
    Ok(named)
}

/// The objects of one field's logs: by log id, or by the path that values before Milvus 2.2 hold.
fn of_logs(kind: LogKind, path: SegmentPath, logs: &proto::FieldBinlog, at: &ObjectRoot) -> Named {
    let field = if kind == LogKind::Delta { FieldId(0) } else { FieldId(logs.field_id) };
    let one = |log: &proto::Binlog| {
        let size = u64::try_from(log.log_size).ok().filter(|size| *size > 0 && is_length(kind, logs, log));
        let name = match (log.log_path.as_str(), log.log_id) {
            ("", 0) => return Err("a log without id and path".to_owned()),
            ("", id) => ObjectName::Log(kind, path, field, LogId(id)),
            (full, _) => written(full, at)?,
        };
        Ok((name, size))
    };
    logs.binlogs.iter().map(one).collect()
}

/// Whether `log_size` is the length of the object, as far as can be told.
///
/// Milvus 2.3 writes the size in memory there for the insert logs that it flushes (and the length for those that it
/// compacts). Newer ones have a field of its own for the size in memory; where both are equal, the length was not known
/// when it was written. For groups of columns (storage version 2) it differs from release to release.
fn is_length(kind: LogKind, logs: &proto::FieldBinlog, log: &proto::Binlog) -> bool {
    match log.memory_size {
        0 => kind != LogKind::Insert,
        in_memory => in_memory != log.log_size && logs.child_fields.is_empty(),
    }
}

fn of_index(path: SegmentPath, build: BuildId, index: &proto::SegmentIndex) -> Named {
    if index.state != INDEX_FINISHED {
        return Ok(Vec::new());
    }
    let collection_first = index.index_store_path_version > 0;
    let build = IndexBuild { segment: path, build, version: index.index_version, collection_first };
    index.index_file_keys.iter().map(|file| Ok((ObjectName::IndexFile(build, safe(file)?), None))).collect()
}

/// The folder of a segment of storage version 3, out of the JSON that names it.
fn manifest_folder(manifest: &str) -> Result<Option<String>, String> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        base_path: String,
    }
    if manifest.is_empty() {
        return Ok(None);
    }
    let read: Manifest = serde_json::from_str(manifest).map_err(|e| format!("manifest path: {e}"))?;
    Ok(Some(read.base_path))
}

/// An object by the path that Milvus wrote down, relative to the bucket or folder.
fn written(path: &str, at: &ObjectRoot) -> Result<ObjectName, String> {
    let below = at.strip(path);
    let relative = if at.is_folder() { below } else { Some(path.trim_start_matches('/')) };
    let relative = relative.ok_or_else(|| format!("`{path}` is not in the folder of the objects"))?;
    let relative = safe(relative)?;
    Ok(below.and_then(ObjectName::parse_log).unwrap_or(ObjectName::AsWritten(relative)))
}

fn safe(name: &str) -> Result<Box<str>, String> {
    if is_safe_path(name) { Ok(name.into()) } else { Err(format!("`{}` is no path", name.escape_debug())) }
}
