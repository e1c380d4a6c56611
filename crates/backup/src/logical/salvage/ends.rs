//! Whether each segment is whole: every field has the same logs with the same rows. Only the two ends of each log are read.

use std::collections::BTreeMap;

use eyrie_milvus::binlog::{self, Ends};
use eyrie_milvus::ids::SegmentPath;
use eyrie_milvus::salvage::schema::{FIELD_FIRST, ROW_ID_FIELD, Seen, SeenField, TIME_FIELD, type_name};
use futures::{StreamExt, TryStreamExt};

use super::source::{Source, insert_key};
use super::{ALL_PARTITIONS, FoundSegment, Logs, Verdict};
use crate::bucket::{self, Bucket, BucketError};
use crate::limits::{LOG_HEAD_LEN, LOG_LEN_MAX, LOG_TAIL_LEN, SALVAGE_READS};
use crate::logical::failure::Result;
use crate::logical::news::Tell;

/// Of all reads, those that are of one segment.
const LOGS_AT_ONCE: usize = 8;
/// Damage of one segment that is named; the rest is more of the same.
const DAMAGE_NAMED: usize = 5;
/// Raw Parquet, as the second storage version of Milvus writes it.
const PARQUET: &[u8] = b"PAR1";

/// What one log told.
type Told = std::result::Result<Ends, String>;

/// Reads the ends of all logs of rows, and judges which segments are whole.
pub(super) async fn read(source: &Source, logs: BTreeMap<SegmentPath, Logs>, tell: &Tell) -> Result<Vec<FoundSegment>> {
    tell.more(logs.len() as u64, 0);
    let segments = logs.into_iter().map(|(path, logs)| FoundSegment::named(path, logs));
    let read = futures::stream::iter(segments).map(|segment| async move {
        let segment = if segment.logs.inserts.is_empty() { segment } else { whole(source, segment).await? };
        tell.done(1, 0);
        Ok(segment)
    });
    read.buffered(SALVAGE_READS / LOGS_AT_ONCE).try_collect().await
}

async fn whole(source: &Source, mut segment: FoundSegment) -> Result<FoundSegment> {
    let path = segment.path;
    let all: Vec<(i64, i64, u64)> = segment
        .logs
        .inserts
        .iter()
        .flat_map(|(field, logs)| logs.iter().map(|(log, len)| (*field, *log, *len)))
        .collect();
    let told = futures::stream::iter(all).map(|(field, log, len)| async move {
        let told = ends(source.bucket(), &insert_key(&path, field, log), len).await?;
        let told = told.and_then(|ends| match ends.descriptor.field == field {
            true => Ok(ends),
            false => Err(format!("it says that it is of field {}", ends.descriptor.field)),
        });
        Ok::<_, crate::logical::Failure>((field, log, told))
    });
    let told: Vec<(i64, i64, Told)> = told.buffered(LOGS_AT_ONCE).try_collect().await?;
    let mut damage = Vec::new();
    let mut rows: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for (field, log, told) in told {
        match told {
            Ok(ends) => {
                rows.entry(field).or_default().push(ends.rows);
                let seen = SeenField { data_type: ends.descriptor.data_type, physical: ends.physical };
                let known = segment.logs.fields.entry(field).or_insert(seen);
                if *known != seen {
                    damage.push(format!("field {field} changes its type from log to log"));
                }
            }
            Err(why) => damage.push(format!("{}: {why}", insert_key(&path, field, log))),
        }
    }
    for hidden in [ROW_ID_FIELD, TIME_FIELD] {
        if !segment.logs.inserts.contains_key(&hidden) {
            damage.push(format!("the logs of the hidden field {hidden} are missing"));
        }
    }
    let times = rows.get(&TIME_FIELD).cloned().unwrap_or_default();
    if damage.is_empty() {
        for (field, counts) in rows.iter().filter(|(_, counts)| **counts != times) {
            damage.push(format!(
                "field {field} has {} rows in {} logs, and the times {} in {}",
                counts.iter().sum::<u64>(),
                counts.len(),
                times.iter().sum::<u64>(),
                times.len()
            ));
        }
    }
    segment.rows = rows.values().map(|counts| counts.iter().sum()).max().unwrap_or_default();
    if segment.rows > u64::from(u32::MAX) {
        damage.push(format!("it claims {} rows, more than a segment ever has", segment.rows));
    }
    segment.logs.batches = times;
    damage.truncate(DAMAGE_NAMED);
    if !damage.is_empty() {
        segment.verdict = Verdict::Damaged(damage);
    }
    Ok(segment)
}

/// The two ends of one log; or why it is none.
async fn ends(bucket: &Bucket, key: &str, len: u64) -> Result<Told> {
    match try_ends(bucket, key, len).await {
        Ok(told) => Ok(told),
        Err(error) if matches!(error.kind, bucket::Kind::NotFound | bucket::Kind::Damaged) => Ok(Err(error.cause)),
        Err(error) => Err(error.into()),
    }
}

async fn try_ends(bucket: &Bucket, key: &str, len: u64) -> std::result::Result<Told, BucketError> {
    if len > LOG_HEAD_LEN + LOG_TAIL_LEN {
        let head = range(bucket, key, 0..LOG_HEAD_LEN).await?;
        if head.starts_with(PARQUET) {
            return Ok(Err(GROUPED.into()));
        }
        let tail = range(bucket, key, len - LOG_TAIL_LEN..len).await?;
        match Ends::read(&head, &tail, len) {
            Ok(Some(ends)) => return Ok(Ok(ends)),
            Ok(None) => {}
            Err(bad) => return Ok(Err(bad.to_string())),
        }
    }
    let bytes = bucket.read_max(key, LOG_LEN_MAX).await?;
    if bytes.starts_with(PARQUET) {
        return Ok(Err(GROUPED.into()));
    }
    Ok(binlog::Log::read(&bytes).and_then(|log| Ends::of(&log)).map_err(|bad| bad.to_string()))
}

const GROUPED: &str = "it holds a group of columns (storage version 2 of Milvus 2.6), which is not read here";

async fn range(bucket: &Bucket, key: &str, range: std::ops::Range<u64>) -> std::result::Result<Vec<u8>, BucketError> {
    let bytes: Vec<bytes::Bytes> = bucket.read_stream(key, range).await?.bytes.try_collect().await?;
    Ok(bytes.concat())
}

/// What the segments tell together: the types that most of them have. Those that differ are damaged.
pub(super) fn agree(collection: i64, segments: &mut [FoundSegment]) -> Seen {
    let sound = |segment: &FoundSegment| !matches!(segment.verdict, Verdict::Damaged(_));
    let mut votes: BTreeMap<i64, Vec<(SeenField, u64)>> = BTreeMap::new();
    // Where nothing is sound, even broken segments tell something.
    let any = segments.iter().any(|segment| sound(segment) && !segment.logs.fields.is_empty());
    for segment in segments.iter().filter(|segment| sound(segment) || !any) {
        for (field, seen) in segment.logs.fields.iter().filter(|(field, _)| **field >= FIELD_FIRST) {
            let of = votes.entry(*field).or_default();
            match of.iter_mut().find(|(known, _)| known == seen) {
                Some((_, rows)) => *rows += segment.rows,
                None => of.push((*seen, segment.rows)),
            }
        }
    }
    let fields: BTreeMap<i64, SeenField> = votes
        .into_iter()
        .filter_map(|(field, of)| Some((field, of.into_iter().max_by_key(|(_, rows)| *rows)?.0)))
        .collect();
    for segment in segments.iter_mut().filter(|segment| !segment.logs.inserts.is_empty() && sound(segment)) {
        let mut damage = Vec::new();
        for (field, wanted) in &fields {
            match segment.logs.fields.get(field) {
                None => damage.push(format!("the logs of field {field} ({}) are missing", type_name(wanted.data_type))),
                Some(seen) if seen != wanted => damage.push(format!(
                    "field {field} is {}{} here, and {}{} in most segments",
                    type_name(seen.data_type),
                    seen.dim().map_or(String::new(), |dim| format!(" of {dim}")),
                    type_name(wanted.data_type),
                    wanted.dim().map_or(String::new(), |dim| format!(" of {dim}")),
                )),
                Some(_) => {}
            }
        }
        damage.truncate(DAMAGE_NAMED);
        if !damage.is_empty() {
            segment.verdict = Verdict::Damaged(damage);
        }
    }
    let partitions = segments.iter().filter(|segment| !segment.logs.inserts.is_empty());
    let partitions = partitions.map(|segment| segment.path.partition.0).filter(|id| *id != ALL_PARTITIONS).collect();
    Seen { collection, fields, partitions, ..Seen::default() }
}
