//! `salvage`: rows out of Milvus's bucket when its metadata is gone.
//!
//! ```text
//! list  names of logs ─▶ both ends of each log ─▶ keys, times and deletes ─▶ census ─▶ a verdict on each segment
//! restore  the same ─▶ schema compared ─▶ plan ─▶ collection ─▶ whole segments where they lie, of others the rows that are
//!          wanted as new logs ─▶ counted, and the keys in Milvus's storage compared with those that were chosen
//! ```
//!
//! What is certain and what is a guess: `eyrie_milvus::salvage`. Nothing is ever written to the bucket that is looked through;
//! new logs go to `salvage-temp-…` in the storage of the Milvus that takes the rows.

mod census;
mod ends;
mod file;
mod rescue;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use eyrie_milvus::ids::{SegmentId, SegmentPath};
use eyrie_milvus::salvage::schema::{Seen, SeenField};
use eyrie_milvus::salvage::{Choice, Key, KeySum, Rows};

pub use self::file::read_schema;
pub use self::rescue::{Plan, Rescued, Step, Wanted, Way, plan, rescue};
pub use self::source::Source;
use super::failure::{Failure, Kind, Result};
use super::news::Tell;
use crate::limits::CENSUS_LEN_MAX;

/// The partition id of deletes that hold for all partitions.
const ALL_PARTITIONS: i64 = -1;

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Pick {
    /// Only this collection.
    pub collection: Option<i64>,
    /// Rows of these segments only; deletes are taken from all.
    pub segments: Option<BTreeSet<i64>>,
    /// The key field, where a person has said which it is.
    pub key: Option<i64>,
    /// Bytes that the rows of one slice may take; as a rule [`CENSUS_LEN_MAX`](crate::limits::CENSUS_LEN_MAX).
    pub memory: Option<u64>,
}

/// What lies in a bucket of one collection.
#[derive(Debug, Clone)]
pub struct Found {
    /// What its logs tell of its schema.
    pub seen: Seen,
    /// Its segments, in the order of their paths.
    pub segments: Vec<FoundSegment>,
    /// Logs of deletes that can't be read: rows that were deleted may come back.
    pub bad_deletes: Vec<String>,
    /// Objects whose names Milvus does not give.
    pub foreign: u64,
    memory: u64,
    /// What is counted again when rows are taken.
    counted: Vec<Counted>,
}

/// A segment.
#[derive(Debug, Clone)]
pub struct FoundSegment {
    /// Where it lies.
    pub path: SegmentPath,
    /// Rows in its logs, deleted ones included.
    pub rows: u64,
    /// Rows that are alive, each once.
    pub alive: u64,
    /// Of these, those that are to be taken from it.
    pub own: u64,
    /// Rows that were deleted.
    pub deleted: u64,
    /// Rows that stand in it more than once.
    pub doubles: u64,
    /// Of its own rows, those that stand in no other segment.
    pub alone: u64,
    /// Smallest and largest key.
    pub keys: Option<(Key, Key)>,
    /// Hybrid times of its first and last row.
    pub times: Option<(u64, u64)>,
    /// Deletes in its logs.
    pub deletes: u64,
    /// Bytes of its logs.
    pub len: u64,
    /// Whether an index was built on it.
    pub indexed: bool,
    /// What it is.
    pub verdict: Verdict,
    pub(super) logs: Logs,
}

/// What a segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All its living rows are taken from it.
    Live,
    /// Some of its living rows are taken from these segments, the others from it.
    Partly(Vec<SegmentId>),
    /// All its living rows are taken from these segments: compaction left it behind.
    LeftBehind(Vec<SegmentId>),
    /// All its rows were deleted.
    Emptied,
    /// It holds deletes and no rows.
    Deletes,
    /// It can't be read whole.
    Damaged(Vec<String>),
    /// It was not asked for.
    NotChosen,
}

impl Verdict {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Live => "live",
            Verdict::Partly(_) => "partly",
            Verdict::LeftBehind(_) => "left behind",
            Verdict::Emptied => "emptied",
            Verdict::Deletes => "deletes",
            Verdict::Damaged(_) => "DAMAGED",
            Verdict::NotChosen => "not chosen",
        }
    }
}

/// The logs of one segment, with their lengths.
#[derive(Debug, Clone, Default)]
pub(super) struct Logs {
    /// By field and id.
    inserts: BTreeMap<i64, BTreeMap<i64, u64>>,
    deltas: BTreeMap<i64, u64>,
    /// What the fields are.
    fields: BTreeMap<i64, SeenField>,
    /// Rows of every field's first log, second log and so on.
    batches: Vec<u64>,
}

/// One partition's segments, in the order in which the census knows them, and what is taken from where.
#[derive(Debug, Clone)]
struct Counted {
    partition: i64,
    segments: Vec<SegmentPath>,
    slices: u64,
    choice: Choice,
}

impl Found {
    /// Rows that are alive, each once.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|segment| segment.own).sum()
    }

    /// Segments that can't be read whole.
    pub fn damaged(&self) -> impl Iterator<Item = (&FoundSegment, &[String])> {
        self.segments.iter().filter_map(|segment| match &segment.verdict {
            Verdict::Damaged(why) => Some((segment, why.as_slice())),
            _ => None,
        })
    }

    fn segment(&self, path: &SegmentPath) -> Option<&FoundSegment> {
        let at = self.segments.binary_search_by_key(path, |segment| segment.path).ok()?;
        self.segments.get(at)
    }

    fn segment_mut(&mut self, path: &SegmentPath) -> Option<&mut FoundSegment> {
        let at = self.segments.binary_search_by_key(path, |segment| segment.path).ok()?;
        self.segments.get_mut(at)
    }
}

/// Looks through a bucket: every collection that has logs in it, or the one that is picked.
///
/// # Errors
/// The store failed, or rows are spread in a way that no compaction leaves. What can't be read is in what was found.
pub async fn look(source: &Source, pick: &Pick, tell: &Tell) -> Result<Vec<Found>> {
    let collections = match pick.collection {
        Some(collection) => vec![collection],
        None => source.collections().await?,
    };
    let indexed = source.indexed().await?;
    let mut all = Vec::new();
    for collection in collections {
        if let Some(mut found) = look_at(source, collection, pick, tell).await? {
            for segment in &mut found.segments {
                segment.indexed = indexed.contains(&(segment.path.partition.0, segment.path.segment.0));
            }
            all.push(found);
        }
    }
    Ok(all)
}

async fn look_at(source: &Source, collection: i64, pick: &Pick, tell: &Tell) -> Result<Option<Found>> {
    tell.step(format!("collection {collection}: names of logs"));
    let (logs, foreign) = source.logs(collection).await?;
    if logs.is_empty() {
        return Ok(None);
    }
    tell.step(format!("collection {collection}: both ends of the logs of {} segments", logs.len()));
    let mut segments = ends::read(source, logs, tell).await?;
    let mut seen = ends::agree(collection, &mut segments);
    seen.key = source.key_field(collection).await?;
    let key = pick.key.or_else(|| seen.likely_key());
    if let Some(key) = key {
        tell.step(format!("collection {collection}: keys, times and deletes"));
        census::first_look(source, key, &mut seen, &segments).await?;
    }
    let memory = pick.memory.unwrap_or(CENSUS_LEN_MAX).max(1);
    let mut found = Found { seen, segments, bad_deletes: Vec::new(), foreign, memory, counted: Vec::new() };
    if let Some(chosen) = &pick.segments {
        for segment in &mut found.segments {
            let deletes_only = segment.verdict == Verdict::Deletes;
            if !chosen.contains(&segment.path.segment.0) && !deletes_only {
                segment.verdict = Verdict::NotChosen;
            }
        }
    }
    census::count(source, key, &mut found, tell).await?;
    Ok(Some(found))
}

impl FoundSegment {
    /// Whether its rows take part in the census.
    fn is_counted(&self) -> bool {
        !self.logs.inserts.is_empty() && !matches!(self.verdict, Verdict::Damaged(_) | Verdict::NotChosen)
    }
}

impl Found {
    /// Which rows of each segment are taken, for those from which not all are; and the sum of all keys that are.
    async fn taken(&mut self, source: &Source, key: i64) -> Result<(BTreeMap<SegmentPath, Rows>, KeySum)> {
        census::taken(source, key, self).await
    }
}

/// No rows were found where some were named.
fn nothing(collection: i64, source: &Source) -> Failure {
    let what = format!("there are no logs of collection {collection} in {source}");
    Failure::new(
        Kind::NotFound,
        what,
        "salvage list names the collections that are there; check --bucket and --root-path",
    )
}
