//! Keys, times and deletes, read and counted: partition by partition, slice by slice.

use std::collections::BTreeMap;

use eyrie_milvus::binlog::{self, Values};
use eyrie_milvus::ids::SegmentPath;
use eyrie_milvus::salvage::schema::{ROW_ID_FIELD, Seen, TIME_FIELD};
use eyrie_milvus::salvage::{Census, Choice, Key, KeySum, Rows, Slice, Tally, delete};
use futures::StreamExt;

use super::source::{Source, delta_key, insert_key};
use super::{ALL_PARTITIONS, Counted, Found, FoundSegment, Verdict};
use crate::bucket::{self, Bucket, BucketError};
use crate::limits::{LOG_LEN_MAX, SALVAGE_SEGMENTS_READ};
use crate::logical::codec::inflate;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::news::Tell;

/// What one row or delete takes in a census, without the bytes of a text.
const ROW_LEN: u64 = 48;
/// How much a log of texts may grow when it is read.
const TEXTS_GROW: u64 = 6;

/// Why something can't be read: damage, which is told, or a store that fails, which ends all.
enum Unread {
    Damage(String),
    Store(Failure),
}

impl From<BucketError> for Unread {
    fn from(error: BucketError) -> Unread {
        match error.kind {
            bucket::Kind::NotFound | bucket::Kind::Damaged => Unread::Damage(error.cause),
            _ => Unread::Store(error.into()),
        }
    }
}

type Read<T> = std::result::Result<T, Unread>;

/// Keys and times of one segment, in the order of its logs.
struct Columns {
    keys: Vec<Values>,
    times: Vec<i64>,
}

impl Columns {
    fn each(&self, mut row: impl FnMut(u32, Key, u64)) {
        let mut place = 0u32;
        let mut tell = |key: Key| {
            row(place, key, self.times[place as usize] as u64);
            place += 1;
        };
        for keys in &self.keys {
            match keys {
                Values::Numbers(numbers) => numbers.iter().for_each(|number| tell(Key::Number(*number))),
                Values::Texts(texts) => texts.iter().for_each(|text| tell(Key::Text(text.as_slice().into()))),
                Values::Fixed(..) => {}
            }
        }
    }
}

/// Looks into one segment: whether keys are those that Milvus gave.
pub(super) async fn first_look(source: &Source, key: i64, seen: &mut Seen, segments: &[FoundSegment]) -> Result<()> {
    let sound = |segment: &&FoundSegment| segment.is_counted() && segment.logs.inserts.contains_key(&key);
    let Some(segment) = segments.iter().find(sound) else { return Ok(()) };
    let first = async |field: i64| -> Read<Option<Values>> {
        let log = segment.logs.inserts.get(&field).and_then(|logs| logs.first_key_value());
        let Some((log, _)) = log else { return Ok(None) };
        values(source.bucket(), &insert_key(&segment.path, field, *log)).await.map(Some)
    };
    let both = async { Ok((first(key).await?, first(ROW_ID_FIELD).await?)) };
    match both.await {
        Ok((Some(keys), Some(ids))) => seen.keys_are_row_ids = Some(keys == ids),
        Ok(_) | Err(Unread::Damage(_)) => {}
        Err(Unread::Store(failure)) => return Err(failure),
    }
    Ok(())
}

/// Counts all partitions of what was found, and gives each segment its verdict.
pub(super) async fn count(source: &Source, key: Option<i64>, found: &mut Found, tell: &Tell) -> Result<()> {
    let Some(key) = key else {
        let why = "no field can be the key, so its rows are not known";
        let rows = found.segments.iter_mut().filter(|segment| segment.is_counted());
        rows.for_each(|segment| segment.verdict = Verdict::Damaged(vec![why.into()]));
        return Ok(());
    };
    for partition in found.seen.partitions.clone() {
        if let Some(counted) = count_partition(source, key, partition, found).await? {
            tell.step(format!("partition {partition}: {} rows are alive", counted.choice.rows()));
            judge(found, &counted);
            found.counted.push(counted);
        }
    }
    Ok(())
}

/// One partition; nothing: it has no rows that can be read.
async fn count_partition(source: &Source, key: i64, partition: i64, found: &mut Found) -> Result<Option<Counted>> {
    // A segment whose keys can't be read is found out by counting; then all is counted once more without it.
    'again: loop {
        let (segments, rows): (Vec<SegmentPath>, Vec<u64>) =
            rows_of(found, partition).map(|segment| (segment.path, segment.rows)).unzip();
        if segments.is_empty() {
            return Ok(None);
        }
        let slices = slices(found, partition, key);
        let mut tally = Tally::default();
        for nth in 0..slices {
            let mut census = Census::new(Slice { nth, of: slices });
            deletes(source, partition, found, &mut census, nth == 0).await?;
            if fill(source, key, &segments, found, &mut census, nth == 0).await? {
                continue 'again;
            }
            census.tally(segments.len(), &mut tally).map_err(|tangled| {
                let what = format!("partition {partition} of collection {}: {tangled}", found.seen.collection);
                Failure::new(Kind::Damaged, what, "choose segments by hand: --segments")
            })?;
        }
        let choice = Choice::of(&tally, &rows);
        return Ok(Some(Counted { partition, segments, slices, choice }));
    }
}

/// Rows that are to be taken, of segments from which not all are.
pub(super) async fn taken(
    source: &Source,
    key: i64,
    found: &mut Found,
) -> Result<(BTreeMap<SegmentPath, Rows>, KeySum)> {
    let (mut some, mut sum) = (BTreeMap::new(), KeySum::default());
    for Counted { partition, segments, slices, choice } in found.counted.clone() {
        let mut bits: Vec<Option<Rows>> = Vec::new();
        for (path, share) in segments.iter().zip(choice.shares()) {
            let rows = found.segment(path).map_or(0, |segment| segment.rows);
            bits.push((share.own > 0 && share.own < rows).then(Rows::default));
        }
        for nth in 0..slices {
            let mut census = Census::new(Slice { nth, of: slices });
            deletes(source, partition, found, &mut census, false).await?;
            if fill(source, key, &segments, found, &mut census, false).await? {
                let what = format!("a segment of partition {partition} changed while it was read");
                return Err(Failure::new(Kind::Damaged, what, "make sure that nobody writes to the bucket; run again"));
            }
            sum.and(census.kept(&choice, |segment, place| {
                if let Some(rows) = &mut bits[segment as usize] {
                    rows.add(u64::from(place));
                }
            }));
        }
        some.extend(segments.into_iter().zip(bits).filter_map(|(path, bits)| Some((path, bits?))));
    }
    Ok((some, sum))
}

/// The segments of a partition that are counted: whole ones with rows.
fn rows_of(found: &Found, partition: i64) -> impl Iterator<Item = &FoundSegment> {
    found.segments.iter().filter(move |segment| segment.path.partition.0 == partition && segment.is_counted())
}

/// The segments whose deletes hold in a partition: its own, and those that hold for all.
fn deletes_of(found: &Found, partition: i64) -> impl Iterator<Item = &FoundSegment> {
    found
        .segments
        .iter()
        .filter(move |segment| matches!(segment.path.partition.0, id if id == partition || id == ALL_PARTITIONS))
}

/// Into how many slices a partition is cut, so that none takes more memory than it may.
fn slices(found: &Found, partition: i64, key: i64) -> u64 {
    let texts = found.seen.fields.get(&key).is_some_and(|field| field.data_type != 5);
    let rows: u64 = rows_of(found, partition)
        .map(|segment| {
            let keys: u64 = segment.logs.inserts.get(&key).map_or(0, |logs| logs.values().sum());
            segment.rows * ROW_LEN + if texts { keys * TEXTS_GROW } else { 0 }
        })
        .sum();
    // A delete takes some 60 bytes in a log, before compression.
    let deletes: u64 = deletes_of(found, partition).flat_map(|s| s.logs.deltas.values()).sum();
    (rows + deletes * TEXTS_GROW).div_ceil(found.memory).max(1)
}

/// Reads the deletes that hold in a partition. Those that can't be read are named once.
async fn deletes(source: &Source, partition: i64, found: &mut Found, census: &mut Census, first: bool) -> Result<()> {
    let logs: Vec<(SegmentPath, i64)> = deletes_of(found, partition)
        .flat_map(|segment| segment.logs.deltas.keys().map(|log| (segment.path, *log)))
        .collect();
    let mut counts: BTreeMap<SegmentPath, u64> = BTreeMap::new();
    let read = futures::stream::iter(logs).map(|(path, log)| async move {
        let key = delta_key(&path, log);
        let read = values(source.bucket(), &key).await;
        (path, key, read)
    });
    let mut read = read.buffered(SALVAGE_SEGMENTS_READ);
    while let Some((path, key, read)) = read.next().await {
        let mut bad = |why: String| {
            let line = format!("{key}: {why}");
            if first && !found.bad_deletes.contains(&line) {
                found.bad_deletes.push(line);
            }
        };
        match read {
            Ok(Values::Texts(lines)) => {
                for line in &lines {
                    match delete(line) {
                        Some((key, at)) => census.delete(&key, at),
                        None => bad("a delete in it is neither of Milvus's forms".into()),
                    }
                }
                *counts.entry(path).or_default() += lines.len() as u64;
            }
            Ok(_) => bad("it is no log of deletes".into()),
            Err(Unread::Damage(why)) => bad(why),
            Err(Unread::Store(failure)) => return Err(failure),
        }
    }
    for (path, count) in counts {
        if let Some(segment) = found.segment_mut(&path) {
            segment.deletes = count;
        }
    }
    Ok(())
}

/// Reads the rows of segments; whether one of them can't be read, which is then damaged.
async fn fill(
    source: &Source,
    key: i64,
    paths: &[SegmentPath],
    found: &mut Found,
    census: &mut Census,
    first: bool,
) -> Result<bool> {
    let (mut damaged, mut spans) = (Vec::new(), Vec::new());
    {
        let segments = paths.iter().enumerate().filter_map(|(n, path)| Some((n, found.segment(path)?)));
        let read = futures::stream::iter(segments)
            .map(|(n, segment)| async move { (n as u32, segment, columns(source.bucket(), segment, key).await) });
        let mut read = read.buffer_unordered(SALVAGE_SEGMENTS_READ);
        while let Some((n, segment, columns)) = read.next().await {
            match columns {
                Ok(columns) => {
                    let mut span = Span::default();
                    columns.each(|place, key, at| {
                        census.row(n, place, &key, at);
                        if first {
                            span.add(key, at);
                        }
                    });
                    spans.push((segment.path, span));
                }
                Err(Unread::Damage(why)) => damaged.push((segment.path, why)),
                Err(Unread::Store(failure)) => return Err(failure),
            }
        }
    }
    for (path, why) in &damaged {
        if let Some(segment) = found.segment_mut(path) {
            segment.verdict = Verdict::Damaged(vec![why.clone()]);
        }
    }
    for (path, span) in spans.into_iter().filter(|_| first) {
        found.seen.key_len_max = found.seen.key_len_max.max(span.longest);
        if let Some(segment) = found.segment_mut(&path) {
            (segment.keys, segment.times) = (span.keys, span.times);
        }
    }
    Ok(!damaged.is_empty())
}

/// From where to where the rows of a segment go.
#[derive(Default)]
struct Span {
    keys: Option<(Key, Key)>,
    times: Option<(u64, u64)>,
    /// Bytes of the longest key that is a text.
    longest: Option<usize>,
}

impl Span {
    fn add(&mut self, key: Key, at: u64) {
        if let Key::Text(text) = &key {
            self.longest = self.longest.max(Some(text.len()));
        }
        match &mut self.keys {
            None => self.keys = Some((key.clone(), key)),
            Some((least, _)) if key < *least => *least = key,
            Some((_, most)) if key > *most => *most = key,
            Some(_) => {}
        }
        self.times = Some(self.times.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
    }
}

/// Gives verdicts by what was counted.
fn judge(found: &mut Found, counted: &Counted) {
    let ids = |elsewhere: &std::collections::BTreeSet<u32>| {
        elsewhere.iter().map(|n| counted.segments[*n as usize].segment).collect::<Vec<_>>()
    };
    for (path, share) in counted.segments.iter().zip(counted.choice.shares()) {
        let Some(segment) = found.segment_mut(path) else { continue };
        segment.verdict = match (share.alive, share.own) {
            (0, _) => Verdict::Emptied,
            (_, 0) => Verdict::LeftBehind(ids(&share.elsewhere)),
            (alive, own) if alive == own => Verdict::Live,
            _ => Verdict::Partly(ids(&share.elsewhere)),
        };
        (segment.alive, segment.own, segment.alone) = (share.alive, share.own, share.alone);
        (segment.deleted, segment.doubles) = (share.dead, share.doubles);
    }
}

/// Keys and times of a segment, as many as each other.
async fn columns(bucket: &Bucket, segment: &FoundSegment, key: i64) -> Read<Columns> {
    let none = || Unread::Damage(format!("the logs of the key, field {key}, are missing"));
    let key_logs = segment.logs.inserts.get(&key).ok_or_else(none)?;
    let time_logs = segment.logs.inserts.get(&TIME_FIELD).ok_or_else(none)?;
    let mut columns = Columns { keys: Vec::new(), times: Vec::new() };
    for (key_log, time_log) in key_logs.keys().zip(time_logs.keys()) {
        let name = insert_key(&segment.path, key, *key_log);
        let keys = values(bucket, &name).await?;
        let times = values(bucket, &insert_key(&segment.path, TIME_FIELD, *time_log)).await?;
        match (&keys, times) {
            (Values::Numbers(_) | Values::Texts(_), Values::Numbers(times)) if keys.len() == times.len() => {
                columns.times.extend(times);
                columns.keys.push(keys);
            }
            _ => return Err(Unread::Damage(format!("{name}: keys and times are not equally many numbers or texts"))),
        }
    }
    if columns.times.len() as u64 == segment.rows {
        Ok(columns)
    } else {
        Err(Unread::Damage(format!("there are {} keys, and {} rows", columns.times.len(), segment.rows)))
    }
}

/// All values of one log.
async fn values(bucket: &Bucket, key: &str) -> Read<Values> {
    let bytes = bucket.read_max(key, LOG_LEN_MAX).await?;
    let damage = |bad: binlog::BadLog| Unread::Damage(format!("{key}: {bad}"));
    binlog::Log::read(&bytes).and_then(|log| log.values(&inflate)).map_err(damage)
}

/// The sum of all keys in the logs of one field of one folder.
pub(super) async fn keys_in(bucket: &Bucket, path: &SegmentPath, field: i64) -> Result<Option<KeySum>> {
    use futures::TryStreamExt;
    let mut sum = KeySum::default();
    let logs: Vec<_> = bucket.list(&format!("{}{field}/", super::source::insert_folder(path))).try_collect().await?;
    for entry in logs {
        match values(bucket, &entry.key).await {
            Ok(Values::Numbers(numbers)) => numbers.into_iter().for_each(|number| sum.add(&Key::Number(number))),
            Ok(Values::Texts(texts)) => texts.into_iter().for_each(|text| sum.add(&Key::Text(text.into()))),
            Ok(Values::Fixed(..)) | Err(Unread::Damage(_)) => return Ok(None),
            Err(Unread::Store(failure)) => return Err(failure),
        }
    }
    Ok(Some(sum))
}
