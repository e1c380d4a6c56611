//! The logs of segments: listed, counted, copied.

use std::collections::{BTreeMap, BTreeSet};

use eyrie_api::milvus::PersistentSegmentInfo;
use eyrie_milvus::binlog;
use eyrie_milvus::ids::{FieldId, LogId};
use eyrie_milvus::logical::manifest::Object;
use eyrie_milvus::logical::meta::{CollectionBackup, FieldLogs, Log, SegmentBackup};
use eyrie_milvus::logical::{CollectionName, Grouping, layout};
use eyrie_milvus::{LogKind, ObjectName};
use futures::{StreamExt, TryStreamExt};

use super::collection::is_l0;
use super::{Run, hex};
use crate::bucket::CopyCheck;
use crate::limits::LOG_LEN_MAX;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::sealing;

/// The hidden field of times: small, and there in every segment.
const TIME_FIELD: i64 = 1;
/// From here on, a log holds several columns and counts itself differently.
const COLUMN_GROUPS: i64 = 2;

/// What was copied.
#[derive(Default)]
pub(super) struct Copied {
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) copied: (u64, u64),
    pub(super) kept: u64,
    pub(super) held: u64,
}

impl Copied {
    fn add(&mut self, other: Copied) {
        self.objects.extend(other.objects);
        self.copied = (self.copied.0 + other.copied.0, self.copied.1 + other.copied.1);
        self.kept += other.kept;
        self.held += other.held;
    }
}

/// One copy: from where in Milvus's storage, to where in the backup.
struct Job {
    from: String,
    to: String,
    len: u64,
    /// Whether it holds rows, and not deletes.
    rows: bool,
}

impl Run<'_> {
    /// All segments of a collection: their place in the tree, and their logs copied.
    pub(super) async fn segments(
        &self,
        name: &CollectionName,
        backup: &CollectionBackup,
        infos: &[PersistentSegmentInfo],
    ) -> Result<(Vec<SegmentBackup>, Copied)> {
        let partitions: BTreeSet<i64> =
            backup.partition_backups.iter().map(|partition| partition.partition_id).collect();
        let infos = infos.iter().filter(|info| info.partition_id < 0 || partitions.contains(&info.partition_id));
        let infos: Vec<PersistentSegmentInfo> = infos.copied().collect();
        let listed = futures::stream::iter(infos).map(|info| async move { self.segment(name, &info).await });
        let listed: Vec<Option<(SegmentBackup, Vec<Job>)>> =
            listed.buffered(self.settings.concurrency.copies.min(64)).try_collect().await?;
        let listed: Vec<_> = listed.into_iter().flatten().collect();
        for (segment, jobs) in &listed {
            self.tell.more(jobs.len() as u64, u64::try_from(segment.size).unwrap_or_default());
        }
        let (segments, jobs): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
        let mut known = Copied::default();
        let jobs: Vec<Job> = jobs.into_iter().flat_map(|jobs| self.not_held(jobs, &mut known)).collect();
        let copies = futures::stream::iter(jobs).map(|job| self.copy(job));
        let copied = copies
            .buffer_unordered(self.settings.concurrency.copies)
            .try_fold(known, |mut sum, one| async move {
                sum.add(one);
                Ok(sum)
            })
            .await?;
        Ok((segments, copied))
    }

    /// One segment as it lies in Milvus's storage; nothing for one without any rows or deletes.
    async fn segment(
        &self,
        name: &CollectionName,
        info: &PersistentSegmentInfo,
    ) -> Result<Option<(SegmentBackup, Vec<Job>)>> {
        let path = format!("{}/{}/{}/", info.collection_id, info.partition_id, info.segment_id);
        let (inserts, deltas) = (self.logs(LogKind::Insert, &path).await?, self.logs(LogKind::Delta, &path).await?);
        let place = format!("segment {} of {name}", info.segment_id);
        if inserts.is_empty() && !is_l0(info) {
            if info.num_rows == 0 && deltas.is_empty() {
                return Ok(None);
            }
            // Not an error of its own: whoever called lists anew, and then it is gone or whole.
            return Err(Failure::new(
                Kind::NotFound,
                format!("{place} has {} rows in Milvus, and no log of them in {}", info.num_rows, self.source),
                "check milvus.storage (v1: minio): bucket and rootPath must be those of Milvus itself",
            ));
        }
        if is_l0(info) && deltas.is_empty() {
            return Ok(None);
        }
        let mut segment = SegmentBackup {
            segment_id: info.segment_id,
            collection_id: info.collection_id,
            partition_id: info.partition_id,
            num_of_rows: if is_l0(info) { 0 } else { info.num_rows },
            binlogs: self.fields(&inserts),
            deltalogs: self.fields(&deltas),
            group_id: if is_l0(info) { 0 } else { info.segment_id },
            is_l0: is_l0(info),
            storage_version: info.storage_version,
            ..SegmentBackup::default()
        };
        segment.size = segment.logs_len();
        let counts: BTreeSet<usize> = segment.binlogs.iter().map(|field| field.binlogs.len()).collect();
        if counts.len() > 1 && info.storage_version < COLUMN_GROUPS {
            let what = format!("the fields of {place} have different numbers of logs, {counts:?}");
            return Err(Failure::new(Kind::NotFound, what, "run again; if it stays so, compact the collection first"));
        }
        self.count_rows(&place, &mut segment).await?;
        let jobs = jobs(&segment, &inserts, &deltas);
        Ok(Some((segment, jobs)))
    }

    /// The logs of one kind in a segment's folder, by field and id, with their names and lengths.
    async fn logs(&self, kind: LogKind, path: &str) -> Result<BTreeMap<(i64, i64), (String, u64)>> {
        let mut logs = BTreeMap::new();
        let mut listed = self.source.list(&format!("{}/{path}", kind.in_paths()));
        while let Some(entry) = listed.try_next().await? {
            match ObjectName::parse_log(&entry.key) {
                Some(ObjectName::Log(found, _, FieldId(field), LogId(log))) if found == kind => {
                    logs.insert((field, log), (entry.key, entry.stat.len));
                }
                _ => {
                    let what = format!("{} in {} is not named as Milvus names its logs", entry.key, self.source);
                    return Err(Failure::new(Kind::Damaged, what, "find out who put it there; Milvus itself does not"));
                }
            }
        }
        Ok(logs)
    }

    fn fields(&self, logs: &BTreeMap<(i64, i64), (String, u64)>) -> Vec<FieldLogs> {
        let mut fields: Vec<FieldLogs> = Vec::new();
        for ((field_id, log_id), (key, len)) in logs {
            let log = Log {
                log_path: self.settings.storage.for_milvus(key),
                log_size: i64::try_from(*len).unwrap_or(i64::MAX),
                log_id: *log_id,
                ..Log::default()
            };
            match fields.last_mut() {
                Some(field) if field.field_id == *field_id => field.binlogs.push(log),
                _ => fields.push(FieldLogs { field_id: *field_id, binlogs: vec![log] }),
            }
        }
        fields
    }

    /// Reads how many rows the logs hold, which must be what Milvus says. A folder may hold logs that were uploaded and
    /// never counted (a data node died in between): with them a restore would bring rows twice.
    async fn count_rows(&self, place: &str, segment: &mut SegmentBackup) -> Result<()> {
        if segment.storage_version >= COLUMN_GROUPS || segment.is_l0 {
            return Ok(());
        }
        let Some(times) = segment.binlogs.iter_mut().find(|field| field.field_id == TIME_FIELD) else {
            let what = format!("{place} lacks the logs of the hidden field {TIME_FIELD}");
            return Err(Failure::new(Kind::NotFound, what, "run again; if it stays so, the bucket is damaged"));
        };
        let (mut rows, mut counts) = (0u64, Vec::new());
        for log in &mut times.binlogs {
            let key = format!(
                "insert_log/{}/{}/{}/{TIME_FIELD}/{}",
                segment.collection_id, segment.partition_id, segment.segment_id, log.log_id
            );
            let bytes = self.source.read_max(&key, LOG_LEN_MAX).await?;
            let damaged = |bad: binlog::BadLog| {
                let next = "Milvus can't read it either; restore it from another copy of the bucket";
                Failure::new(Kind::Damaged, format!("{key} in {}: {bad}", self.source), next)
            };
            let read = binlog::Log::read(&bytes).map_err(damaged)?;
            let count = read.rows().map_err(damaged)?;
            (log.timestamp_from, log.timestamp_to) = (read.descriptor.from, read.descriptor.to);
            rows += count;
            counts.push(i64::try_from(count).unwrap_or(i64::MAX));
        }
        // Every field's nth log has the same rows.
        for field in &mut segment.binlogs {
            field.binlogs.iter_mut().zip(&counts).for_each(|(log, count)| log.entries_num = *count);
        }
        if u64::try_from(segment.num_of_rows) != Ok(rows) {
            let what = format!("the logs of {place} hold {rows} rows, and Milvus counts {}", segment.num_of_rows);
            return Err(Failure::new(Kind::NotFound, what, "compact the collection, wait for it, and run again"));
        }
        Ok(())
    }

    /// Of one segment's copies those that have to be made. Rows never change: if the base has all logs of them, they stay
    /// there, as a whole, since Milvus imports a folder. Deletes come by and by, and are small: they are copied.
    fn not_held(&self, jobs: Vec<Job>, known: &mut Copied) -> Vec<Job> {
        let Some(base) = &self.base else { return jobs };
        let (rows, deletes): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.rows);
        let held = |job: &Job| {
            let object = base.manifest.objects.get(&job.to)?;
            let there = base.there.get(&job.to) == Some(&job.len) && object.content_len() == job.len;
            there.then(|| Object {
                held_by: Some(object.held_by.clone().unwrap_or_else(|| base.name.to_string())),
                ..object.clone()
            })
        };
        let objects: Option<Vec<Object>> = rows.iter().map(held).collect();
        let one_holder = |objects: &Vec<Object>| objects.windows(2).all(|pair| pair[0].held_by == pair[1].held_by);
        let Some(objects) = objects.filter(one_holder) else { return rows.into_iter().chain(deletes).collect() };
        for (job, object) in rows.into_iter().zip(objects) {
            self.tell.done(1, object.content_len());
            known.held += 1;
            known.objects.insert(job.to, object);
        }
        deletes
    }

    /// Copies one log, unless an earlier run did.
    async fn copy(&self, job: Job) -> Result<Copied> {
        let _turn = self.copies.acquire().await;
        let mut done = Copied::default();
        let keys = &self.options.recipients;
        let object = if !keys.is_nobody() {
            // Whether an envelope that an earlier run left is whole can't be known without the private key: it is made anew.
            let to = sealing::named(&job.to);
            let object = sealing::copy_in(&self.source, &job.from, &self.target, &to, keys).await?.object();
            done.copied = (1, object.content_len());
            object
        } else if self.earlier.get(&job.to) == Some(&job.len) {
            let (len, sha256) = self.target.sha256(&job.to).await?;
            done.kept = 1;
            Object { len, sha256: Some(hex(&sha256)), ..Object::default() }
        } else {
            let check = if self.settings.server_side_copy { CopyCheck::Length } else { CopyCheck::Streamed };
            let copied = self.target.copy_from(&self.source, &job.from, &job.to, check).await?;
            done.copied = (1, copied.len);
            let etag = copied.sha256.is_none().then_some(copied.stat.etag).flatten();
            let sha256 = copied.sha256.map(|sha256| hex(&sha256));
            Object { len: copied.len, sha256, etag, ..Object::default() }
        };
        self.tell.done(1, object.content_len());
        done.objects.insert(job.to, object);
        Ok(done)
    }
}

fn jobs(
    segment: &SegmentBackup,
    inserts: &BTreeMap<(i64, i64), (String, u64)>,
    deltas: &BTreeMap<(i64, i64), (String, u64)>,
) -> Vec<Job> {
    let inserts = inserts.iter().map(|((field, log), (from, len))| Job {
        from: from.clone(),
        to: layout::insert_log(segment, Grouping::Groups, FieldId(*field), LogId(*log)),
        len: *len,
        rows: true,
    });
    let deltas = deltas.iter().map(|((_, log), (from, len))| Job {
        from: from.clone(),
        to: layout::delta_log(segment, Grouping::Groups, LogId(*log)),
        len: *len,
        rows: false,
    });
    inserts.chain(deltas).collect()
}
