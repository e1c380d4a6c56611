//! Do metadata and objects fit together: what is missing, too short, or left over, and what the metadata says itself
//! that does not add up.
//!
//! Only facts: an object that nothing names may be an upload in flight, or needed by another revision. Nothing here says
//! that anything may be deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::catalog::{Catalog, CollectionState, Segment};
use crate::ids::{BuildId, CollectionId, SegmentPath};
use crate::key::LogKind;
use crate::limits::FINDINGS_NAMED_MAX;
use crate::object::{ObjectClass, ObjectName, ObjectRoot};
use crate::references::{Need, ObjectRef, References};
use crate::value::{SegmentLevel, SegmentState};

/// Folders below the root that Milvus fills with objects which metadata names.
const FOLDERS: [&str; 9] = [
    "insert_log",
    "delta_log",
    "stats_log",
    "bm25_stats",
    "index_files",
    "text_log",
    "json_key_index_log",
    "json_stats",
    "part_stats",
];

/// How metadata and objects fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coherence {
    /// Objects that are named, and found with the right length.
    pub whole: Sum,
    /// Objects that are named and not there.
    pub missing: Findings<Missing>,
    /// Objects that are shorter or longer than the metadata says.
    pub short: Findings<WrongLength>,
    /// Objects in Milvus's folders that nothing names: uploads in flight, or left over. A fact, not an advice.
    pub orphans: Findings<Orphan>,
    /// Where the metadata does not add up by itself.
    pub doubts: Findings<Doubt>,
    /// Per collection.
    pub collections: BTreeMap<CollectionId, CollectionSum>,
    /// What has to leave the metadata so that it fits the objects; see [`Verdict::WholeIfStripped`].
    #[serde(skip)]
    pub strip: Strip,
}

/// What it means for a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that is named is there.
    Whole,
    /// All that is needed is there; what is missing belongs to dropped segments and deleted indexes, whose keys have to
    /// leave the metadata as well.
    WholeIfStripped,
    /// Something that is needed is missing: collections would not load.
    Broken,
}

/// Keys that have to leave the metadata since their objects are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strip {
    /// Dropped segments: their keys, logs and indexes.
    pub segments: BTreeSet<SegmentPath>,
    /// Builds of deleted indexes.
    pub builds: BTreeSet<(SegmentPath, BuildId)>,
}

/// A number of objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Findings of one kind: all are counted, the first are named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings<T> {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub named: Vec<T>,
}

/// An object that is named and not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Its collection, for a person.
    pub collection_name: String,
}

/// An object of another length than the metadata says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrongLength {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Its length.
    pub found: u64,
}

/// An object that nothing names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its path in the bucket.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// Something in the metadata that does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Doubt {
    /// A collection was just being made or dropped.
    Unfinished(String, CollectionState),
    /// A flushed segment has rows and no insert logs: half of a change was seen.
    RowsWithoutLogs(SegmentPath, i64),
    /// The logs of a segment's fields differ in their rows.
    FieldsDisagree(SegmentPath),
    /// The logs hold other rows than the segment says: its rows, the rows of its logs.
    RowsDisagree(SegmentPath, i64, i64),
}

/// Objects and rows of one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CollectionSum {
    /// Its name with its database.
    pub name: String,
    /// Segments that hold rows for queries.
    pub segments: u64,
    /// Their rows, deletes not counted.
    pub rows: i64,
    /// Objects found.
    pub whole: Sum,
    /// Needed objects that are missing or of a wrong length.
    pub broken: u64,
}

impl Coherence {
    /// Compares what the metadata names with the objects that are there: their paths in the bucket and lengths.
    pub fn check(references: &References, catalog: &Catalog, present: &BTreeMap<String, u64>) -> Coherence {
        let mut found = Coherence::default();
        for (path, segment) in &catalog.segments {
            let sum = found.collection(catalog, path.collection);
            sum.rows += segment.visible_rows();
            sum.segments += u64::from(segment.is_live());
        }
        let mut named = Named::default();
        for object in references.iter() {
            found.look_up(object, catalog, present, &mut named);
        }
        found.look_for_orphans(references.objects_at(), present, &named);
        found.look_for_doubts(catalog);
        found
    }

    /// What it means for a restore.
    pub fn verdict(&self) -> Verdict {
        let broken = self.collections.values().any(|collection| collection.broken > 0);
        match (broken, self.missing.count + self.short.count) {
            (true, _) => Verdict::Broken,
            (false, 0) => Verdict::Whole,
            (false, _) => Verdict::WholeIfStripped,
        }
    }

    fn look_up(&mut self, object: ObjectRef, catalog: &Catalog, present: &BTreeMap<String, u64>, named: &mut Named) {
        let collection = object.collection.unwrap_or(CollectionId(0));
        let found = if object.name.is_folder() {
            let below = present.range(object.path.clone()..).take_while(|(path, _)| path.starts_with(&object.path));
            let sum = below.fold(Sum::default(), |sum, (_, bytes)| sum.and(1, *bytes));
            named.folders.push(object.path.clone());
            (sum.objects > 0).then_some(sum)
        } else {
            named.paths.insert(object.path.clone());
            present.get(&object.path).map(|bytes| Sum { objects: 1, bytes: *bytes })
        };
        let Some(sum) = found else { return self.note_missing(object, collection, catalog) };
        let wrong = object.size.is_some_and(|size| !object.name.is_folder() && size != sum.bytes);
        if wrong {
            self.note_unusable(&object, collection, catalog);
            self.short.push(WrongLength { object, found: sum.bytes });
        } else {
            let of_collection = self.collection(catalog, collection);
            of_collection.whole = of_collection.whole.and(sum.objects, sum.bytes);
            self.whole = self.whole.and(sum.objects, sum.bytes);
        }
    }

    fn note_missing(&mut self, object: ObjectRef, collection: CollectionId, catalog: &Catalog) {
        // What Milvus makes again may be missing: the folder of an analysis is often empty.
        if object.need != Need::Rebuilt {
            self.note_unusable(&object, collection, catalog);
            let collection_name = object.collection.map(|id| catalog.name_of(id)).unwrap_or_default();
            self.missing.push(Missing { object, collection_name });
        }
    }

    /// What follows from an object that is missing or of a wrong length.
    fn note_unusable(&mut self, object: &ObjectRef, collection: CollectionId, catalog: &Catalog) {
        match (object.need, object.segment, &object.name) {
            (Need::DroppedSegment | Need::NoSegment, Some(segment), _) => {
                self.strip.segments.insert(segment);
            }
            (Need::DeletedIndex, _, ObjectName::IndexFile(build, _)) => {
                self.strip.builds.insert((build.segment, build.build));
            }
            _ => self.collection(catalog, collection).broken += 1,
        }
    }

    fn look_for_orphans(&mut self, root: &ObjectRoot, present: &BTreeMap<String, u64>, named: &Named) {
        for (path, bytes) in present {
            let folder = path.strip_prefix(&*root.prefix()).and_then(|below| below.split('/').next());
            let of_milvus = folder.is_some_and(|folder| FOLDERS.contains(&folder));
            if of_milvus && !named.paths.contains(path) && !named.folders.iter().any(|f| path.starts_with(f)) {
                self.orphans.push(Orphan { path: path.clone(), bytes: *bytes });
            }
        }
    }

    fn look_for_doubts(&mut self, catalog: &Catalog) {
        for (id, collection) in &catalog.collections {
            if collection.state != CollectionState::Created {
                self.doubts.push(Doubt::Unfinished(catalog.name_of(*id), collection.state));
            }
        }
        for (path, segment) in &catalog.segments {
            if let Some(doubt) = doubt_about(*path, segment) {
                self.doubts.push(doubt);
            }
        }
    }

    fn collection(&mut self, catalog: &Catalog, id: CollectionId) -> &mut CollectionSum {
        let named = || CollectionSum { name: catalog.name_of(id), ..CollectionSum::default() };
        self.collections.entry(id).or_insert_with(named)
    }
}

#[derive(Default)]
struct Named {
    paths: BTreeSet<String>,
    folders: Vec<String>,
}

fn doubt_about(path: SegmentPath, segment: &Segment) -> Option<Doubt> {
    let has_files = segment.storage_version < 3 && segment.level != SegmentLevel::L0;
    if segment.state != SegmentState::Flushed || !has_files || segment.rows == 0 {
        return None;
    }
    let logs = segment.logs.get(&LogKind::Insert).filter(|fields| fields.values().any(|sum| sum.files > 0));
    let Some(logs) = logs else { return Some(Doubt::RowsWithoutLogs(path, segment.rows)) };
    let logged = segment.logged_rows();
    if logs.values().any(|sum| sum.entries != logged) {
        return Some(Doubt::FieldsDisagree(path));
    }
    (logged != segment.rows).then_some(Doubt::RowsDisagree(path, segment.rows, logged))
}

impl Sum {
    fn and(self, objects: u64, bytes: u64) -> Sum {
        Sum { objects: self.objects + objects, bytes: self.bytes.saturating_add(bytes) }
    }
}

impl<T> Findings<T> {
    pub(crate) fn push(&mut self, finding: T) {
        self.count += 1;
        if self.named.len() < FINDINGS_NAMED_MAX {
            self.named.push(finding);
        }
    }
}

impl<T> Default for Findings<T> {
    fn default() -> Findings<T> {
        Findings { count: 0, named: Vec::new() }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Unfinished(name, CollectionState::Creating) => write!(f, "{name} was just being made"),
            Doubt::Unfinished(name, _) => write!(f, "{name} was just being dropped"),
            Doubt::RowsWithoutLogs(segment, rows) => write!(f, "segment {segment} has {rows} rows and no insert logs"),
            Doubt::FieldsDisagree(segment) => write!(f, "segment {segment}: its fields have logs of different rows"),
            Doubt::RowsDisagree(segment, rows, logged) => {
                write!(f, "segment {segment} has {rows} rows, its logs have {logged}")
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectRef { path, class, need, .. } = &self.object;
        let what = match class {
            ObjectClass::InsertLog => "rows",
            ObjectClass::DeltaLog => "deletes",
            ObjectClass::IndexFile => "a file of an index",
            _ => "statistics",
        };
        write!(f, "{path}: {what} of {}", self.collection_name)?;
        match need {
            Need::Required => f.write_str(", needed: it does not load without"),
            Need::DroppedSegment => f.write_str(", of a dropped segment: its keys are left out"),
            Need::DeletedIndex => f.write_str(", of a deleted index: its keys are left out"),
            Need::NoSegment => f.write_str(", of a segment that is gone"),
            Need::Rebuilt => f.write_str(", made again"),
        }
    }
}
