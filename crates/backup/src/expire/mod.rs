//! Retention at work: what `archive` plans is written down first and deleted then.
//!
//! ```text
//! plan (fulls, tail, merged, records) + objects that no kept revision needs
//!   └▶ list of objects ─▶ record `Expired` ─▶ deletions ─▶ record `Swept`
//!                        nobody counts on it   a killed run: the next one deletes the rest
//! ```
//! Deletes nothing that no record gave up, but what killed writers left: files that no record ever named.

mod sweep;

use std::collections::BTreeSet;

use eyrie_archive::record::{Left, ObjectsRemoved, Swept};
use eyrie_archive::retention::{self, ByUse, ExpirePlan, ObjectPlan, plan_objects};
use eyrie_archive::{Catalog, Index, Kind, Policy, PolicyError, Seq, StoredPath, UnixMillis, names};
use futures::TryStreamExt;
use serde::Serialize;

pub use self::sweep::{Deleted, Sweep, delete};
use crate::bucket::{Bucket, BucketError};
use crate::catalog::{ArchiveError, Writer, now};
use crate::chance;
use crate::objects;
use crate::pack::{self, PackError};
use crate::seal::Recipients;
use crate::tell::Tell;

/// Why nothing, or not all, was expired.
#[derive(Debug, thiserror::Error)]
pub enum ExpireError {
    /// The policy cannot be meant.
    #[error("{0}. Next: correct the section `retention`")]
    Policy(#[from] PolicyError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The index could not be read, or not be brought up to date.
    #[error("{0}. No object was removed. Next: eyrie backup verify")]
    Index(String),
    /// The list of objects could not be stored.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// What would go, and why: printing it is a dry run.
#[derive(Debug, Clone, Serialize)]
pub struct Prepared {
    /// Fulls, tail, what merges left, records.
    pub plan: ExpirePlan,
    /// Objects that go.
    pub objects: Gone,
    /// Objects that stay because a kept revision needs them.
    pub objects_needed: u64,
    /// Objects that nothing needs, but that are too young, or locked.
    pub objects_later: u64,
    /// Why no object is judged.
    pub objects_unknown: Option<String>,
    /// Files that no record names: killed writers left them.
    pub orphans: u64,
    /// Earlier expiries whose files are not all deleted.
    pub unswept: Vec<Seq>,
    #[serde(skip)]
    object_plan: ObjectPlan,
    #[serde(skip)]
    orphan_names: Vec<StoredPath>,
}

/// Some objects together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gone {
    /// How many.
    pub count: u64,
    /// Their bytes as stored.
    pub bytes: u64,
}

impl Prepared {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.objects.count == 0 && self.orphans == 0 && self.unswept.is_empty()
    }
}

/// What an expiry did.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What it was to do.
    pub prepared: Prepared,
    /// Files that were deleted.
    pub deleted: u64,
    /// Files that the store refused to delete; they are tried again next time.
    pub left: Vec<Left>,
    /// Why some were not tried.
    pub unfinished: Option<String>,
}

/// Judges everything. Changes nothing.
///
/// # Errors
/// A policy that can't be meant; the bucket can't be listed.
pub async fn prepare(bucket: &Bucket, catalog: &Catalog, policy: &Policy) -> Result<Prepared, ExpireError> {
    let index = objects::read_index(bucket, catalog).await.map_err(|error| error.to_string());
    let mut prepared = judge(catalog, index.as_ref().map_err(Clone::clone), policy, now())?;
    if let Ok(index) = &index {
        prepared.orphan_names = orphans(bucket, catalog, index).await?;
        prepared.orphans = prepared.orphan_names.len() as u64;
    }
    Ok(prepared)
}

/// Judges all but orphans, for a catalogue and its index.
///
/// # Errors
/// A policy that can't be meant.
pub fn judge(
    catalog: &Catalog,
    index: Result<&Index, String>,
    policy: &Policy,
    now: UnixMillis,
) -> Result<Prepared, PolicyError> {
    let plan = retention::plan(catalog, policy, now)?;
    let counted = catalog.totals().objects;
    let index = index.and_then(|index| match index.len() as u64 {
        read if read == counted => Ok(index),
        read => Err(format!("the index has {read} objects, but the records count {counted}. Run: eyrie backup verify")),
    });
    // While no chain is verified nothing goes, objects neither.
    let nothing_verified = catalog.last_verified().is_none();
    let (object_plan, objects_unknown) = match index {
        Ok(_) if nothing_verified => (ObjectPlan::default(), Some("no chain is verified yet".to_owned())),
        Ok(index) => (plan_objects(&plan, index, &ByUse { current: catalog.current().id }), None),
        Err(why) => (ObjectPlan::default(), Some(why)),
    };
    Ok(Prepared {
        plan,
        objects: Gone { count: object_plan.removed.len() as u64, bytes: object_plan.bytes().1 },
        objects_needed: object_plan.needed,
        objects_later: object_plan.young + object_plan.locked,
        objects_unknown,
        orphans: 0,
        unswept: catalog.unswept().map(|(seq, _)| seq).collect(),
        object_plan,
        orphan_names: Vec::new(),
    })
}

/// What killed writers left. For the active writer only, while it writes no files.
async fn orphans(bucket: &Bucket, catalog: &Catalog, index: &Index) -> Result<Vec<StoredPath>, ExpireError> {
    let mut listed: Vec<StoredPath> = Vec::new();
    for folder in [names::FULL, names::TAIL, names::INDEX, names::CHECKPOINT, names::OBJECTS] {
        let mut entries = bucket.list(folder);
        loop {
            match entries.try_next().await {
                Ok(Some(entry)) => listed.extend(StoredPath::new(entry.key).ok()),
                Ok(None) => break,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    // An index that does not add up was named before; then nothing is called an orphan.
    Ok(retention::orphans(catalog, index, &listed, &BTreeSet::new()).unwrap_or_default())
}

/// Finishes earlier expiries, expires what the policy gives up, and deletes what killed writers left.
///
/// # Errors
/// See [`ExpireError`]. What was recorded is given up for good, and the next run deletes the rest of it.
pub async fn expire(writer: &mut Writer, policy: &Policy, tell: &Tell) -> Result<Outcome, ExpireError> {
    let mut done = Deleted::default();
    finish(writer, tell, &mut done).await?;
    let bucket = writer.bucket().clone();
    let mut prepared = prepare(&bucket, writer.catalog(), policy).await?;
    if let Some(seq) = give_up(writer, &mut prepared).await? {
        sweep_one(writer, seq, tell, &mut done).await?;
    }
    if done.unfinished.is_none() && !prepared.orphan_names.is_empty() {
        let left = prepared.orphan_names.iter().map(|path| sweep::unknown(path.clone())).collect();
        done.add(sweep_files(writer, left, tell).await?);
    }
    Ok(Outcome { prepared, deleted: done.files, left: done.left, unfinished: done.unfinished })
}

/// Deletes what earlier expiries gave up.
///
/// # Errors
/// The archive can't be written any more.
pub async fn finish(writer: &mut Writer, tell: &Tell, done: &mut Deleted) -> Result<(), ExpireError> {
    let unswept: Vec<Seq> = writer.catalog().unswept().map(|(seq, _)| seq).collect();
    for seq in unswept {
        sweep_one(writer, seq, tell, done).await?;
    }
    Ok(())
}

/// Says in the catalogue what is given up; nothing is deleted yet.
pub(crate) async fn give_up(writer: &mut Writer, prepared: &mut Prepared) -> Result<Option<Seq>, ExpireError> {
    if prepared.plan.is_empty() && prepared.object_plan.removed.is_empty() {
        return Ok(None);
    }
    let mut expired = prepared.plan.record();
    if !prepared.object_plan.removed.is_empty() {
        let (after, nonce) = (writer.catalog().head().seq, chance::word(4));
        let name = |wrap| names::index(after, &nonce, wrap);
        let list = prepared.object_plan.list();
        let packed = pack::bytes(writer.bucket(), &Recipients::nobody(), name, list.into()).await?;
        let (bytes, stored_bytes) = prepared.object_plan.bytes();
        let objects = prepared.object_plan.removed.len() as u64;
        expired.objects = Some(ObjectsRemoved { list: packed.stored, objects, bytes, stored_bytes });
    }
    writer.append(Kind::Expired(expired)).await?;
    Ok(writer.catalog().unswept().map(|(seq, _)| seq).max())
}

impl Prepared {
    /// Keeps objects that somebody knows to be needed again.
    pub(crate) fn spare(&mut self, needed: impl Fn(&str) -> bool) {
        self.object_plan.removed.retain(|entry| !needed(entry.source.as_str()));
        let (count, bytes) = (self.object_plan.removed.len() as u64, self.object_plan.bytes().1);
        self.objects = Gone { count, bytes };
    }

    /// The objects that go, by their names at the source.
    pub(crate) fn objects_gone(&self) -> impl Iterator<Item = &str> {
        self.object_plan.removed.iter().map(|entry| entry.source.as_str())
    }
}

async fn sweep_one(writer: &mut Writer, seq: Seq, tell: &Tell, done: &mut Deleted) -> Result<(), ExpireError> {
    let bucket = writer.bucket().clone();
    let index = objects::read_index(&bucket, writer.catalog()).await.ok();
    let Some(sweep) = Sweep::of(&bucket, writer.catalog(), index.as_ref(), seq).await? else { return Ok(()) };
    let whole = sweep.is_whole();
    let deleted = sweep_files(writer, sweep.files, tell).await?;
    swept(writer, seq, whole, &deleted).await?;
    done.add(deleted);
    Ok(())
}

/// Says in the catalogue that the files of an expiry are gone, if they are.
pub(crate) async fn swept(writer: &mut Writer, expired: Seq, whole: bool, done: &Deleted) -> Result<(), ArchiveError> {
    if whole && done.can_be_recorded() {
        writer.append(Kind::Swept(Swept { expired, left: done.left.clone() })).await?;
    }
    Ok(())
}

/// Deletes some at a time, and makes sure in between that nobody else has begun to write: a new writer may have stored an
/// object again under the name that is to be deleted.
async fn sweep_files(
    writer: &mut Writer,
    files: Vec<eyrie_archive::record::Stored>,
    tell: &Tell,
) -> Result<Deleted, ExpireError> {
    let (mut done, of_files) = (Deleted::default(), files.len() as u64);
    let bucket = writer.bucket().clone();
    for batch in files.chunks(crate::limits::SWEEP_BATCH) {
        writer.still_here().await?;
        done.add(delete(&bucket, batch).await);
        tell.news(crate::tell::News::Deleting { files: done.files, of_files });
        if done.unfinished.is_some() {
            break;
        }
    }
    Ok(done)
}
