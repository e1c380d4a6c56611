//! `restore`: the living rows of one collection into a new one, each once.
//!
//! A segment of which every row is wanted is imported where it lies, if Milvus can read it there, or as a copy. Of any other,
//! the wanted rows are written as new logs, without deletes: Milvus's own import drops every row whose key was ever deleted,
//! also one that was written again later. So each import must bring exactly the rows that were chosen, and in the end the keys
//! in Milvus's storage must be the chosen ones.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eyrie_milvus::binlog;
use eyrie_milvus::ids::SegmentPath;
use eyrie_milvus::logical::meta::{CollectionBackup, PartitionBackup};
use eyrie_milvus::logical::{CollectionName, Grouping};
use eyrie_milvus::salvage::schema::Schema;
use eyrie_milvus::salvage::{KeySum, Rows};
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::source::{Source, insert_folder, insert_key, path_of};
use super::{ALL_PARTITIONS, Found, FoundSegment, Pick, census, look, nothing};
use crate::bucket::CopyCheck;
use crate::chance;
use crate::limits::{LOG_LEN_MAX, MILVUS_POLL, READ_BACK_LIMIT, SALVAGE_IMPORTS};
use crate::logical::codec::inflate;
use crate::logical::config::Settings;
use crate::logical::doors::Doors;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::news::Tell;
use crate::logical::restore::salvaged::Filling;
use crate::logical::restore::{Action, Item, Options};

/// Milvus's number of a segment that is stored.
const FLUSHED: i32 = 4;
/// How Milvus names the partitions of a collection with a partition key.
const BY_KEY: &str = "_default_";

/// What is wanted of one collection.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which, by its id in the bucket.
    pub collection: i64,
    /// Its schema.
    pub schema: Schema,
    /// What it is to be called.
    pub name: CollectionName,
    /// Only these segments.
    pub segments: Option<BTreeSet<i64>>,
    /// Whether segments and deletes that can't be read are left out.
    pub accept_damage: bool,
    /// As [`Pick::memory`].
    pub memory: Option<u64>,
}

/// What is going to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is based on.
    pub found: Found,
    /// The segments from which rows are taken.
    pub steps: Vec<Step>,
    /// Damage that is accepted: segments and deletes that are left out.
    pub left_out: Vec<String>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The segment.
    pub path: SegmentPath,
    /// The partition that gets its rows.
    pub partition: String,
    /// How many rows that are.
    pub rows: u64,
    /// How they come.
    pub way: Way,
}

/// How rows come to Milvus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Milvus reads the logs where they lie.
    InPlace,
    /// The logs are copied to Milvus's storage first.
    Copied,
    /// The rows that are wanted, of so many, are written as new logs.
    Written(u64),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescued {
    /// Rows of the new collection.
    pub rows: u64,
    /// Imports that brought them.
    pub imports: u64,
}

impl Plan {
    /// Rows of the new collection.
    pub fn rows(&self) -> u64 {
        self.steps.iter().map(|step| step.rows).sum()
    }
}

/// Says what [`rescue`] would do: reads the bucket, and changes nothing. Milvus is not asked.
///
/// # Errors
/// The collection is not there, the schema is not that of its logs, or there is damage that was not accepted.
pub async fn plan(source: &Source, settings: &Settings, wanted: &Wanted, tell: &Tell) -> Result<Plan> {
    let pick = Pick {
        collection: Some(wanted.collection),
        segments: wanted.segments.clone(),
        key: wanted.schema.key(),
        memory: wanted.memory,
    };
    let found = look(source, &pick, tell).await?.into_iter().next();
    let found = found.ok_or_else(|| nothing(wanted.collection, source))?;
    let problems = wanted.schema.problems(&found.seen);
    if !problems.is_empty() {
        let what = format!(
            "the schema is not that of collection {} in the bucket; nothing was changed:\n  - {}",
            wanted.collection,
            problems.join("\n  - ")
        );
        return Err(Failure::new(Kind::Request, what, "correct the file; salvage schema shows what the logs tell"));
    }
    known(&found, wanted)?;
    let left_out = damage(&found, wanted)?;
    let in_place = source.settings().is_one_with(&settings.storage);
    let steps = found.segments.iter().filter(|segment| segment.own > 0).map(|segment| Step {
        path: segment.path,
        partition: wanted.schema.partition(segment.path.partition.0).unwrap_or_default().to_owned(),
        rows: segment.own,
        way: match (segment.own == segment.rows, in_place) {
            (true, true) => Way::InPlace,
            (true, false) => Way::Copied,
            (false, _) => Way::Written(segment.rows),
        },
    });
    let steps = steps.collect();
    Ok(Plan { found, steps, left_out })
}

/// Whether all segments that were asked for are there.
fn known(found: &Found, wanted: &Wanted) -> Result<()> {
    let there: BTreeSet<i64> = found.segments.iter().map(|segment| segment.path.segment.0).collect();
    let missing: Vec<String> =
        wanted.segments.iter().flatten().filter(|id| !there.contains(id)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("collection {} has no segment {}; nothing was changed", wanted.collection, missing.join(", "));
    Err(Failure::new(Kind::NotFound, what, "salvage list names its segments"))
}

/// What is damaged, if that was accepted.
fn damage(found: &Found, wanted: &Wanted) -> Result<Vec<String>> {
    let segments =
        found.damaged().map(|(segment, why)| format!("segment {}: {}", segment.path.segment, why.join("; ")));
    let deletes = found.bad_deletes.iter().map(|why| format!("deletes that can't be read: {why}"));
    let all: Vec<String> = segments.chain(deletes).collect();
    if all.is_empty() || wanted.accept_damage {
        return Ok(all);
    }
    let what = format!(
        "of collection {} some can't be read; nothing was changed:\n  - {}",
        wanted.collection,
        all.join("\n  - ")
    );
    let next = "get these objects from another copy of the bucket; or leave them out with --accept-damage, which means that \
                rows of such segments are missing unless another segment has them, and rows of such deletes come back";
    Err(Failure::new(Kind::Damaged, what, next))
}

/// Makes the collection and brings the rows of a plan into it.
///
/// # Errors
/// The name is taken (nothing was changed), Milvus refused something, or the rows that came are not those that were chosen.
pub async fn rescue(
    doors: &Doors,
    settings: &Settings,
    source: &Source,
    wanted: &Wanted,
    mut plan: Plan,
    tell: &Tell,
) -> Result<Rescued> {
    let (options, item) = (Options::default(), item(wanted, &plan));
    let task = format!("salvage-temp-{}", chance::word(6));
    let filling = Filling::new(doors, settings, &options, &item, tell);
    filling.free().await?;
    let key = wanted.schema.key().unwrap_or_default();
    tell.step("choosing rows");
    let (some, sum) = plan.found.taken(source, key).await?;
    if sum.keys != plan.rows() {
        let what = format!("{} rows were chosen first, and then {}; nothing was changed", plan.rows(), sum.keys);
        return Err(Failure::new(Kind::Damaged, what, "make sure that nobody writes to the bucket, then run again"));
    }
    tell.step(format!("{}: create", wanted.name));
    let all = async {
        filling.create().await?;
        tell.more(plan.steps.len() as u64, 0);
        let bring = Bring { doors, settings, source, filling: &filling, some: &some, found: &plan.found, task, tell };
        let bring = &bring;
        let steps = futures::stream::iter(plan.steps.clone()).map(|step| async move { bring.step(&step).await });
        steps.buffer_unordered(SALVAGE_IMPORTS).try_collect::<()>().await?;
        compare(doors, &filling, key, sum, tell).await
    };
    all.await.map_err(|failure| incomplete(failure, &wanted.name))?;
    Ok(Rescued { rows: sum.keys, imports: plan.steps.len() as u64 })
}

/// A failure after which a collection may be there that is not whole.
fn incomplete(mut failure: Failure, name: &CollectionName) -> Failure {
    failure.next = format!("{}. {name} is not complete: drop it, then run again", failure.next);
    failure
}

/// The new collection, as the restore of a backup would have it.
fn item(wanted: &Wanted, plan: &Plan) -> Item {
    let schema = &wanted.schema;
    let names: Vec<String> = match schema.num_partitions {
        Some(count) => (0..count).map(|n| format!("{BY_KEY}{n}")).collect(),
        None => schema.partitions.iter().map(|partition| partition.name.clone()).collect(),
    };
    let partitions =
        names.into_iter().map(|name| PartitionBackup { partition_name: name, ..PartitionBackup::default() });
    let collection = CollectionBackup {
        collection_id: plan.found.seen.collection,
        db_name: wanted.name.database.clone(),
        collection_name: wanted.name.name.clone(),
        schema: Some(schema.for_milvus(&wanted.name.name)),
        shards_num: schema.shards,
        // Bounded: Milvus's own default.
        consistency_level: 2,
        partition_backups: partitions.collect(),
        ..CollectionBackup::default()
    };
    let name = wanted.name.clone();
    Item { source: name.clone(), target: name, action: Action::Create, collection, grouping: Grouping::Flat }
}

/// What all imports share.
struct Bring<'r> {
    doors: &'r Doors,
    settings: &'r Settings,
    source: &'r Source,
    filling: &'r Filling<'r>,
    some: &'r BTreeMap<SegmentPath, Rows>,
    found: &'r Found,
    task: String,
    tell: &'r Tell,
}

impl Bring<'_> {
    async fn step(&self, step: &Step) -> Result<()> {
        let id = step.path.segment;
        let gone = || Failure::new(Kind::Damaged, format!("segment {id} is not there any more"), "run again");
        let segment = self.found.segment(&step.path).ok_or_else(gone)?;
        let (folder, staged) = match step.way {
            Way::InPlace => (self.source.settings().for_milvus(&insert_folder(&step.path)), Vec::new()),
            Way::Copied => (self.staged_folder(&step.path), self.copied(segment).await?),
            Way::Written(_) => (self.staged_folder(&step.path), self.written(segment).await?),
        };
        let rows = self.filling.import(&step.partition, &folder, id.0).await?;
        if rows != step.rows {
            let what = format!("Milvus took {rows} rows of segment {id}, and {} were chosen", step.rows);
            let next = "check that Milvus can read this place: the same bucket, or for local storage the same folder under \
                        the same path";
            return Err(Failure::new(Kind::Damaged, what, next));
        }
        if !self.settings.keep_temp_files {
            for key in staged {
                self.doors.storage.delete(&key).await?;
            }
        }
        self.tell.done(1, segment.len);
        Ok(())
    }

    fn staged_folder(&self, path: &SegmentPath) -> String {
        self.settings.storage.for_milvus(&format!("{}/{}", self.task, insert_folder(path)))
    }

    fn staged_key(&self, path: &SegmentPath, field: i64, log: i64) -> String {
        format!("{}/{}", self.task, insert_key(path, field, log))
    }

    /// Copies the logs of a segment to Milvus's storage.
    async fn copied(&self, segment: &FoundSegment) -> Result<Vec<String>> {
        let mut staged = Vec::new();
        for (field, logs) in &segment.logs.inserts {
            for log in logs.keys() {
                let (from, to) =
                    (insert_key(&segment.path, *field, *log), self.staged_key(&segment.path, *field, *log));
                self.doors.storage.copy_from(self.source.bucket(), &from, &to, CopyCheck::Length).await?;
                staged.push(to);
            }
        }
        Ok(staged)
    }

    /// Writes the wanted rows of a segment to Milvus's storage: every field's first log, second log and so on has the same rows.
    async fn written(&self, segment: &FoundSegment) -> Result<Vec<String>> {
        let none =
            || Failure::new(Kind::Damaged, format!("segment {} was not counted", segment.path.segment), "run again");
        let rows = self.some.get(&segment.path).ok_or_else(none)?;
        let mut staged = Vec::new();
        for (field, logs) in &segment.logs.inserts {
            let mut first = 0;
            for (log, count) in logs.keys().zip(&segment.logs.batches) {
                let key = insert_key(&segment.path, *field, *log);
                let bytes = self.source.bucket().read_max(&key, LOG_LEN_MAX).await?;
                let keep = |place: usize| rows.has(first + place as u64);
                let written = binlog::only(&bytes, &keep, &inflate).map_err(|bad| {
                    let next = "get it from another copy of the bucket, or leave this segment out with --segments";
                    Failure::new(Kind::Damaged, format!("{key}: {bad}"), next)
                })?;
                if let Some(written) = written {
                    let to = self.staged_key(&segment.path, *field, *log);
                    self.doors.storage.put(&to, Bytes::from(written)).await?;
                    staged.push(to);
                }
                first += count;
            }
        }
        Ok(staged)
    }
}

/// Counts the collection, and compares the keys in Milvus's storage with those that were chosen.
async fn compare(doors: &Doors, filling: &Filling<'_>, key: i64, chosen: KeySum, tell: &Tell) -> Result<()> {
    let counted = filling.count().await?;
    if counted != chosen.keys {
        let what = format!("Milvus counts {counted} rows, and {} were chosen", chosen.keys);
        return Err(Failure::new(Kind::Damaged, what, "look at Milvus's log"));
    }
    tell.step("comparing the keys in Milvus's storage with those that were chosen");
    let began = Instant::now();
    loop {
        let stored = stored(doors, filling, key).await?;
        if stored == Some(chosen) {
            return Ok(());
        }
        if began.elapsed() > READ_BACK_LIMIT {
            let found = stored.map_or("no readable".to_owned(), |sum| sum.keys.to_string());
            let what = format!(
                "Milvus took {} rows, but its storage {} has {found} keys that are not the chosen ones",
                chosen.keys, doors.storage
            );
            return Err(Failure::new(
                Kind::Damaged,
                what,
                "check that milvus.storage is where this Milvus keeps its objects",
            ));
        }
        tokio::time::sleep(MILVUS_POLL * 4).await;
    }
}

/// The keys of the new collection in Milvus's storage; none: it is being changed.
async fn stored(doors: &Doors, filling: &Filling<'_>, key: i64) -> Result<Option<KeySum>> {
    let (collection, segments) = filling.segments().await?;
    let mut sum = KeySum::default();
    for segment in segments.iter().filter(|one| one.state == FLUSHED && one.partition_id != ALL_PARTITIONS) {
        let path = path_of(collection, segment.partition_id, segment.segment_id);
        match census::keys_in(&doors.storage, &path, key).await? {
            Some(keys) => sum.and(keys),
            None => return Ok(None),
        }
    }
    Ok(Some(sum))
}
