//! Objects of a Milvus: what an object is, and its path in the bucket.
//!
//! Milvus rebuilds paths from ids and from its own configuration (`minio.rootPath`), so that moving the objects of
//! a Milvus needs no change of metadata; only old and few newer values hold a path as text ([`ObjectName::AsWritten`]).

use std::fmt;

use serde::Serialize;

use crate::ids::{BuildId, CollectionId, FieldId, LogId, PartitionId, SegmentId, SegmentPath, TaskId};
use crate::key::LogKind;
use crate::limits::PATH_BYTES_MAX;

/// Where in its bucket or folder a Milvus keeps its objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectRoot {
    /// `minio.rootPath`, or nothing: without slashes at its ends.
    below: String,
    /// `localStorage.path` of a Milvus without a bucket; paths are relative to it.
    local: Option<String>,
}

impl ObjectRoot {
    /// Objects in a bucket, below `minio.rootPath`.
    pub fn bucket(root_path: &str) -> ObjectRoot {
        ObjectRoot { below: clean(root_path), local: None }
    }

    /// Objects in a folder of the machine (`common.storageType: local`): paths are relative to `localStorage.path`.
    pub fn folder(local_path: &str) -> ObjectRoot {
        ObjectRoot { below: String::new(), local: Some(clean(local_path)) }
    }

    /// What stands before every path: `files/`, or nothing.
    pub fn prefix(&self) -> String {
        if self.below.is_empty() { String::new() } else { format!("{}/", self.below) }
    }

    /// Whether the objects are in a folder of the machine.
    pub fn is_folder(&self) -> bool {
        self.local.is_some()
    }

    /// How Milvus writes the path of an object below this root into a value.
    pub(crate) fn written(&self, below: &str) -> String {
        match &self.local {
            Some(local) => format!("/{local}/{below}"),
            None => format!("{}{below}", self.prefix()),
        }
    }

    /// What stands behind this root in a path as Milvus writes it into a value; none: it is elsewhere.
    pub(crate) fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        let root = self.local.as_ref().unwrap_or(&self.below);
        let path = path.trim_start_matches('/');
        if root.is_empty() { Some(path) } else { path.strip_prefix(&**root)?.strip_prefix('/') }
    }
}

/// An object that metadata names, apart from where the bucket is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// A log of a segment. Delta logs have no field in their path.
    Log(LogKind, SegmentPath, FieldId, LogId),
    /// A file of an index of a segment.
    IndexFile(IndexBuild, Box<str>),
    /// A file of a text index (2.5).
    TextIndex(StatsBuild, Box<str>),
    /// A file of a JSON index: without format the one of 2.5, with it that of 2.6.
    JsonStats(Option<i64>, StatsBuild, Box<str>),
    /// Statistics of a clustered partition (2.4): channel and version.
    PartitionStats(CollectionId, PartitionId, Box<str>, i64),
    /// Everything below the results of a clustering analysis (2.4): task and version.
    AnalyzeStats(TaskId, i64),
    /// A path that stands in a value as text, relative to the bucket.
    AsWritten(Box<str>),
    /// Everything below a path that stands in a value as text (storage version 3), relative to the bucket.
    FolderAsWritten(Box<str>),
}

/// One build of an index on one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexBuild {
    /// Its segment.
    pub segment: SegmentPath,
    /// The build.
    pub build: BuildId,
    /// How often it was tried.
    pub version: i64,
    /// Whether its path begins with the collection instead of the build.
    pub collection_first: bool,
}

/// One build of a text or JSON index on one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatsBuild {
    /// Its segment.
    pub segment: SegmentPath,
    /// Its field.
    pub field: FieldId,
    /// The build.
    pub build: BuildId,
    /// How often it was tried.
    pub version: i64,
}

/// What an object is, for counting and filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectClass {
    /// Rows.
    InsertLog,
    /// Deletes.
    DeltaLog,
    /// Filters of the primary key.
    StatsLog,
    /// Term statistics.
    Bm25Log,
    /// A file of an index.
    IndexFile,
    /// A file of a text index.
    TextIndex,
    /// A file of a JSON index.
    JsonStats,
    /// Statistics of clustering.
    Clustering,
    /// Named by its path alone.
    Other,
}

impl ObjectName {
    /// Its path, relative to the bucket. For [`ObjectName::is_folder`] it ends with a slash.
    pub fn path(&self, root: &ObjectRoot) -> String {
        match self {
            ObjectName::AsWritten(path) => path.to_string(),
            ObjectName::FolderAsWritten(path) => format!("{path}/"),
            _ => format!("{}{self}", root.prefix()),
        }
    }

    /// Whether it stands for everything below its path: the single objects have to be listed.
    pub fn is_folder(&self) -> bool {
        matches!(self, ObjectName::AnalyzeStats(..) | ObjectName::FolderAsWritten(_))
    }

    /// What it is.
    pub fn class(&self) -> ObjectClass {
        match self {
            ObjectName::Log(LogKind::Insert, ..) => ObjectClass::InsertLog,
            ObjectName::Log(LogKind::Delta, ..) => ObjectClass::DeltaLog,
            ObjectName::Log(LogKind::Stats, ..) => ObjectClass::StatsLog,
            ObjectName::Log(LogKind::Bm25, ..) => ObjectClass::Bm25Log,
            ObjectName::IndexFile(..) => ObjectClass::IndexFile,
            ObjectName::TextIndex(..) => ObjectClass::TextIndex,
            ObjectName::JsonStats(..) => ObjectClass::JsonStats,
            ObjectName::PartitionStats(..) | ObjectName::AnalyzeStats(..) => ObjectClass::Clustering,
            ObjectName::AsWritten(_) | ObjectName::FolderAsWritten(_) => ObjectClass::Other,
        }
    }

    /// The segment that it belongs to, where its name tells.
    pub fn segment(&self) -> Option<SegmentPath> {
        match self {
            ObjectName::Log(_, segment, ..) => Some(*segment),
            ObjectName::IndexFile(build, _) => Some(build.segment),
            ObjectName::TextIndex(build, _) | ObjectName::JsonStats(_, build, _) => Some(build.segment),
            _ => None,
        }
    }

    /// Reads the path of a log, relative to the root; none: not the path of a log.
    pub fn parse_log(below_root: &str) -> Option<ObjectName> {
        let n = crate::ids::canonical_number;
        let (folder, rest) = below_root.split_once('/')?;
        let kind = LogKind::ALL.into_iter().find(|kind| kind.in_paths() == folder)?;
        let ids: Option<Vec<i64>> = rest.split('/').map(n).collect();
        let (c, p, s, field, log) = match (kind, ids?.as_slice()) {
            (LogKind::Delta, &[c, p, s, log]) => (c, p, s, 0, log),
            (LogKind::Insert | LogKind::Stats | LogKind::Bm25, &[c, p, s, field, log]) => (c, p, s, field, log),
            _ => return None,
        };
        let segment = SegmentPath { collection: CollectionId(c), partition: PartitionId(p), segment: SegmentId(s) };
        Some(ObjectName::Log(kind, segment, FieldId(field), LogId(log)))
    }
}

/// Prints the path below the root.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectName::Log(LogKind::Delta, segment, _, log) => write!(f, "delta_log/{segment}/{log}"),
            ObjectName::Log(kind, segment, field, log) => write!(f, "{}/{segment}/{field}/{log}", kind.in_paths()),
            ObjectName::IndexFile(IndexBuild { segment, build, version, collection_first: true }, file) => {
                write!(f, "index_files/{segment}/{build}/{version}/{file}")
            }
            ObjectName::IndexFile(IndexBuild { segment, build, version, .. }, file) => {
                write!(f, "index_files/{build}/{version}/{}/{}/{file}", segment.partition, segment.segment)
            }
            ObjectName::TextIndex(build, file) => write!(f, "text_log/{build}/{file}"),
            ObjectName::JsonStats(None, build, file) => write!(f, "json_key_index_log/{build}/{file}"),
            ObjectName::JsonStats(Some(format), build, file) => write!(f, "json_stats/{format}/{build}/{file}"),
            ObjectName::PartitionStats(c, p, channel, version) => write!(f, "part_stats/{c}/{p}/{channel}/{version}"),
            ObjectName::AnalyzeStats(task, version) => write!(f, "analyze_stats/{task}/{version}/"),
            ObjectName::AsWritten(path) | ObjectName::FolderAsWritten(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for StatsBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.build, self.version, self.segment, self.field)
    }
}

/// Whether a name out of a value may become part of a path: no way up, nothing empty, not longer than a bucket takes.
pub(crate) fn is_safe_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= PATH_BYTES_MAX
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn clean(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}
