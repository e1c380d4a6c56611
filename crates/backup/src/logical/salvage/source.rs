//! Where the logs lie, and what lies there by its names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use eyrie_milvus::ids::{CollectionId, FieldId, LogId, PartitionId, SegmentId, SegmentPath};
use eyrie_milvus::{LogKind, ObjectName};
use futures::TryStreamExt;

use super::{FoundSegment, Logs};
use crate::bucket::{Bucket, BucketConfig, BucketUrl};
use crate::limits::SALVAGE_LOGS_MAX;
use crate::logical::config::{Provider, Settings, StorageSettings};
use crate::logical::failure::{Failure, Kind, Result};

/// Below which path of a bucket Milvus keeps its objects, by default and in its Helm chart; and where a copy may begin.
const USUAL_ROOTS: [&str; 3] = ["", "files", "file"];
/// Folders by which Milvus's root is known.
const MARKS: [&str; 2] = ["insert_log", "delta_log"];

/// A bucket or folder that is looked through. Nothing is ever written to it.
#[derive(Debug, Clone)]
pub struct Source {
    settings: StorageSettings,
    bucket: Bucket,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bucket.fmt(f)
    }
}

impl Source {
    /// Opens Milvus's own storage, or another bucket: `s3://bucket` with the address and keys of `milvus.storage`, or
    /// `file:///folder`. Without a root, it is looked for.
    ///
    /// # Errors
    /// The address is none, or the bucket can't be asked.
    pub async fn open(settings: &Settings, bucket: Option<&str>, root: Option<&str>) -> Result<Source> {
        let mut storage = match bucket {
            None => settings.storage.clone(),
            Some(text) => elsewhere(&settings.storage, text)?,
        };
        let prefix = storage.root.clone();
        let below =
            |root: &str| [prefix.trim_matches('/'), root.trim_matches('/')].join("/").trim_matches('/').to_owned();
        storage.root = match (root, bucket) {
            (Some(root), Some(_)) => below(root),
            (Some(root), None) => root.trim_matches('/').to_owned(),
            (None, None) => storage.root,
            (None, Some(_)) => {
                let mut found = None;
                for usual in USUAL_ROOTS {
                    let folders = Bucket::open(&storage.config)?.below(&below(usual))?.folders().await?;
                    if MARKS.iter().any(|mark| folders.iter().any(|folder| folder == mark)) {
                        found = Some(below(usual));
                        break;
                    }
                }
                found.unwrap_or(prefix)
            }
        };
        if let BucketUrl::File(path) = &storage.config.url {
            // Of a folder, the root is a part of the path; without a slash at its end, or Milvus finds nothing there.
            let path = if storage.root.is_empty() { path.clone() } else { path.join(&storage.root) };
            storage.config.url = BucketUrl::File(path.components().collect());
            storage.root = String::new();
        }
        Source::over(storage)
    }

    /// Over a storage whose root is known.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn over(settings: StorageSettings) -> Result<Source> {
        let bucket = settings.open()?;
        Ok(Source { settings, bucket })
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(super) fn settings(&self) -> &StorageSettings {
        &self.settings
    }

    /// Whether it is the very place where this Milvus keeps its objects.
    pub fn is(&self, storage: &StorageSettings) -> bool {
        let (a, b) = (&self.settings, storage);
        a.config.url == b.config.url && a.config.endpoint == b.config.endpoint && a.root == b.root
    }

    /// The ids of all collections that have logs.
    pub(super) async fn collections(&self) -> Result<Vec<i64>> {
        let mut ids = BTreeSet::new();
        for mark in MARKS {
            let folders = self.bucket.below(mark)?.folders().await?;
            ids.extend(folders.iter().filter_map(|folder| folder.parse::<i64>().ok()));
        }
        Ok(ids.into_iter().collect())
    }

    /// The field of a collection that has statistics, if it is one.
    pub(super) async fn key_field(&self, collection: i64) -> Result<Option<i64>> {
        let mut fields = BTreeSet::new();
        let mut listed = self.bucket.list(&format!("{}/{collection}/", LogKind::Stats.in_paths()));
        while let Some(entry) = listed.try_next().await? {
            if let Some(ObjectName::Log(LogKind::Stats, _, FieldId(field), _)) = ObjectName::parse_log(&entry.key) {
                fields.insert(field);
            }
        }
        Ok(if fields.len() == 1 { fields.first().copied() } else { None })
    }

    /// The logs of a collection by their names, and how many names are none of Milvus's.
    pub(super) async fn logs(&self, collection: i64) -> Result<(BTreeMap<SegmentPath, Logs>, u64)> {
        let mut segments: BTreeMap<SegmentPath, Logs> = BTreeMap::new();
        let (mut foreign, mut count) = (0, 0u64);
        for kind in [LogKind::Insert, LogKind::Delta] {
            let mut listed = self.bucket.list(&format!("{}/{collection}/", kind.in_paths()));
            while let Some(entry) = listed.try_next().await? {
                count += 1;
                if count > SALVAGE_LOGS_MAX {
                    let what = format!("collection {collection} has more than {SALVAGE_LOGS_MAX} logs in {self}");
                    return Err(Failure::new(
                        Kind::Unsupported,
                        what,
                        "copy some of its partitions to a bucket of their own",
                    ));
                }
                let Some(ObjectName::Log(_, path, FieldId(field), LogId(log))) = ObjectName::parse_log(&entry.key)
                else {
                    foreign += 1;
                    continue;
                };
                let logs = segments.entry(path).or_default();
                match kind {
                    LogKind::Insert => logs.inserts.entry(field).or_default().insert(log, entry.stat.len),
                    _ => logs.deltas.insert(log, entry.stat.len),
                };
            }
        }
        Ok((segments, foreign))
    }

    /// Segments that have files of an index, by partition and id. Their paths begin with the build, so all are listed, once.
    pub(super) async fn indexed(&self) -> Result<BTreeSet<(i64, i64)>> {
        let mut segments = BTreeSet::new();
        let mut listed = self.bucket.list("index_files/");
        while let Some(entry) = listed.try_next().await? {
            // index_files/<build>/<version>/<partition>/<segment>/<file>
            let ids: Vec<i64> = entry.key.split('/').skip(3).take(2).filter_map(|id| id.parse().ok()).collect();
            if let &[partition, segment] = &ids[..] {
                segments.insert((partition, segment));
            }
        }
        Ok(segments)
    }
}

/// Another bucket than the configured one.
fn elsewhere(storage: &StorageSettings, text: &str) -> Result<StorageSettings> {
    let wrong = |why: String| Failure::new(Kind::Request, why, "correct --bucket");
    let mut url = BucketUrl::parse(text).map_err(wrong)?;
    if let BucketUrl::File(path) = &url {
        let path = std::path::absolute(path).map_err(|error| wrong(format!("{text}: {error}")))?;
        let config = BucketConfig::new(BucketUrl::File(path));
        return Ok(StorageSettings {
            provider: Provider::Local,
            config,
            root: String::new(),
            bucket_name: String::new(),
        });
    }
    let same = std::mem::discriminant(&url) == std::mem::discriminant(&storage.config.url);
    let mut other = storage.clone();
    if !same {
        other.config = BucketConfig::new(url.clone());
        other.provider = match url {
            BucketUrl::Gcs { .. } => Provider::Gcs,
            BucketUrl::Azure { .. } => Provider::Azure,
            _ => Provider::S3,
        };
    }
    other.root = url.prefix().to_owned();
    match &mut url {
        BucketUrl::S3 { bucket, prefix }
        | BucketUrl::Gcs { bucket, prefix }
        | BucketUrl::Azure { bucket, prefix }
        | BucketUrl::Memory { bucket, prefix } => {
            prefix.clear();
            other.bucket_name.clone_from(bucket);
        }
        BucketUrl::File(_) => {}
    }
    other.config.url = url;
    Ok(other)
}

/// The name of a log of rows.
pub(super) fn insert_key(path: &SegmentPath, field: i64, log: i64) -> String {
    format!("{}{field}/{log}", insert_folder(path))
}

/// The folder of a segment's logs of rows.
pub(super) fn insert_folder(path: &SegmentPath) -> String {
    format!("{}/{path}/", LogKind::Insert.in_paths())
}

/// The name of a log of deletes.
pub(super) fn delta_key(path: &SegmentPath, log: i64) -> String {
    format!("{}/{path}/{log}", LogKind::Delta.in_paths())
}

/// A path of these ids.
pub(super) fn path_of(collection: i64, partition: i64, segment: i64) -> SegmentPath {
    SegmentPath { collection: CollectionId(collection), partition: PartitionId(partition), segment: SegmentId(segment) }
}

impl FoundSegment {
    /// A segment of which only the names are known.
    pub(super) fn named(path: SegmentPath, logs: Logs) -> FoundSegment {
        let inserts = logs.inserts.values().flat_map(|logs| logs.values());
        let len = inserts.chain(logs.deltas.values()).sum();
        FoundSegment {
            path,
            rows: 0,
            alive: 0,
            own: 0,
            deleted: 0,
            doubles: 0,
            alone: 0,
            keys: None,
            times: None,
            deletes: 0,
            len,
            indexed: false,
            verdict: if logs.inserts.is_empty() { super::Verdict::Deletes } else { super::Verdict::Emptied },
            logs,
        }
    }
}
