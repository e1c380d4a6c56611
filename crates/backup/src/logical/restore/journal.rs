//! What a restore has done, remembered beside the backup, so that the same restore goes on where one was killed.
//!
//! ```text
//! <name>/eyrie/restores/<target>/collection.json   which collection is filled; at last, how many rows it has
//!                               /working.json      who is at work on it
//!                               /<segment>.json    before it is handed to Milvus; then its task; then its rows
//! ```
//!
//! A segment comes once: one that Milvus took is left out, one that it works on is waited for, and where nobody can know
//! whether Milvus took it, the restore says so and stops. All of this is deleted when the whole restore is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eyrie_milvus::logical::CollectionName;
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::bucket::{Bucket, BucketError, Kind as StoreKind};
use crate::history::TimeMs;
use crate::limits::META_LEN_MAX;
use crate::logical::claims::{Claim, Unclaimed, Working};
use crate::logical::create::hex;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::news::Tell;

/// The folder of all journals below a backup's folder.
pub(crate) const FOLDER: &str = "eyrie/restores";
const HEAD: &str = "collection.json";
const WORKING: &str = "working.json";

/// Which collection is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Host and port of Milvus.
    pub(crate) milvus: String,
    /// The collection's name there.
    pub(crate) target: String,
    /// Its id; 0 until Milvus has made it.
    pub(super) collection_id: i64,
    /// Rows that were there before.
    pub(super) before: u64,
    /// Where copies for Milvus lie in its storage, if it can't read the backup where that lies.
    pub(super) temporary: String,
    pub(super) began_ms: u64,
    /// What was to be done with it.
    #[serde(default)]
    pub(super) wanted: String,
    /// Its rows, once it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
    /// What went wrong in a way that going on can't mend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wrong: Option<String>,
}

/// What became of one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handed {
    /// Milvus's task; none: nobody knows whether it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<String>,
    /// The rows that it took, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<u64>,
}

/// The journal of one collection in one Milvus.
pub(super) struct Journal {
    bucket: Bucket,
    head: Mutex<Option<Head>>,
    segments: Mutex<BTreeMap<i64, Handed>>,
    /// Nothing may be written there: the restore goes on without a journal.
    silent: AtomicBool,
}

impl Journal {
    /// Reads what there is of a restore to `target` in the Milvus at `milvus`, if it is one of those that are `known`.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn read(
        folder: &Bucket,
        known: &BTreeSet<String>,
        milvus: &str,
        target: &CollectionName,
    ) -> Result<Journal> {
        let word = hex(&sha2::Sha256::digest(format!("{milvus} {target}").as_bytes())[..8]);
        let bucket = folder.below(&format!("{FOLDER}/{word}"))?;
        let head: Option<Head> = if known.contains(&word) { read(&bucket, HEAD).await? } else { None };
        let mut segments = BTreeMap::new();
        if head.is_some() {
            let keys: Vec<_> = bucket.list("").try_collect().await?;
            let ids = keys.into_iter().filter_map(|entry| entry.key.strip_suffix(".json")?.parse::<i64>().ok());
            let found = futures::stream::iter(ids).map(|id| {
                let bucket = &bucket;
                async move { Ok::<_, BucketError>((id, read::<Handed>(bucket, &key(id)).await?.unwrap_or_default())) }
            });
            segments = found.buffer_unordered(bucket.parallel()).try_collect().await?;
        }
        let (head, segments) = (Mutex::new(head), Mutex::new(segments));
        Ok(Journal { bucket, head, segments, silent: AtomicBool::new(false) })
    }

    /// For rows that come from no backup: nothing is remembered, and nothing is written.
    pub(super) fn of_nothing(bucket: &Bucket) -> Journal {
        let (head, segments) = (Mutex::default(), Mutex::default());
        Journal { bucket: bucket.clone(), head, segments, silent: AtomicBool::new(true) }
    }

    /// Claims the collection for this run. Where the backups' place can't be written, there is nothing to claim.
    ///
    /// # Errors
    /// Another restore fills it, or the store failed.
    pub(super) async fn claim(&self, target: &CollectionName, tell: &Tell) -> Result<Option<Claim>> {
        let busy = |writer: &str| {
            let what = format!("{target} is being restored by {writer}");
            Failure::new(Kind::Exists, what, "wait until it is finished, or end that process")
        };
        match Claim::take(&self.bucket, WORKING, busy).await {
            Ok(claim) => Ok(Some(claim)),
            Err(Unclaimed::Store(error)) if error.kind == StoreKind::Denied => {
                tell.warn(format!(
                    "nothing may be written in {}: if this restore is ended, it begins anew and does not go on",
                    self.bucket
                ));
                self.silent.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Who is at work on it now.
    pub(super) async fn worker(&self) -> Result<Option<String>> {
        if self.head().is_none() {
            return Ok(None);
        }
        let working = Working::at(&self.bucket, WORKING).await?;
        Ok(working.filter(Working::lives).map(|working| working.writer))
    }

    /// What was begun.
    pub(super) fn head(&self) -> Option<Head> {
        lock(&self.head).clone()
    }

    /// What became of a segment.
    pub(super) fn segment(&self, id: i64) -> Option<Handed> {
        lock(&self.segments).get(&id).cloned()
    }

    /// Remembers the collection, before it is made.
    pub(super) async fn begin(&self, head: Head) -> Result<()> {
        self.write(HEAD, &head).await?;
        *lock(&self.head) = Some(head);
        Ok(())
    }

    /// Remembers something more of the collection.
    pub(super) async fn change(&self, change: impl FnOnce(&mut Head)) -> Result<()> {
        let Some(mut head) = self.head() else { return Ok(()) };
        change(&mut head);
        self.begin(head).await
    }

    /// Remembers what becomes of a segment.
    pub(super) async fn hand(&self, id: i64, handed: Handed) -> Result<()> {
        self.write(&key(id), &handed).await?;
        lock(&self.segments).insert(id, handed);
        Ok(())
    }

    /// A segment that Milvus refused can be handed to it again.
    pub(super) async fn take_back(&self, id: i64) -> Result<()> {
        if !self.silent.load(Ordering::Relaxed) {
            self.bucket.delete(&key(id)).await?;
        }
        lock(&self.segments).remove(&id);
        Ok(())
    }

    /// Deletes what was done, and leaves who is at work: this run begins anew.
    pub(super) async fn clear(&self) -> Result<()> {
        *lock(&self.head) = None;
        lock(&self.segments).clear();
        if self.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        // What says that it is a journal goes last: segments without it would be taken for those of the next one.
        let entries: Vec<_> = self.bucket.list("").try_collect().await?;
        for entry in entries.iter().filter(|entry| !is_claim(&entry.key) && entry.key != HEAD) {
            self.bucket.delete(&entry.key).await?;
        }
        Ok(self.bucket.delete(HEAD).await?)
    }

    /// Deletes the journal, once nobody is at work any more.
    pub(super) async fn forget(&self) -> Result<()> {
        self.clear().await?;
        if self.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        let entries: Vec<_> = self.bucket.list("").try_collect().await?;
        for entry in entries.iter().filter(|entry| is_claim(&entry.key)) {
            self.bucket.delete(&entry.key).await?;
        }
        Ok(())
    }

    async fn write<T: Serialize>(&self, key: &str, what: &T) -> Result<()> {
        if self.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        Ok(self.bucket.put(key, serde_json::to_vec(what).unwrap_or_default()).await?)
    }
}

/// The words of all journals of a backup.
///
/// # Errors
/// The store failed.
pub(super) async fn known(folder: &Bucket) -> Result<BTreeSet<String>> {
    match folder.below(FOLDER)?.folders().await {
        Ok(words) => Ok(words.into_iter().collect()),
        Err(error) if error.is_not_found() => Ok(BTreeSet::new()),
        Err(error) => Err(error.into()),
    }
}

/// A collection that a restore has begun to fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its name in Milvus.
    pub target: String,
    /// Host and port of that Milvus.
    pub milvus: String,
    /// Who is at work on it now, if anybody is.
    pub worker: Option<String>,
    /// Its rows, if it is whole and only others of the same restore are not.
    pub rows: Option<u64>,
}

/// The restores of a backup that were begun and not finished.
///
/// # Errors
/// The store failed.
pub(crate) async fn unfinished(folder: &Bucket) -> Result<Vec<Unfinished>> {
    let mut found = Vec::new();
    for word in known(folder).await? {
        let bucket = folder.below(&format!("{FOLDER}/{word}"))?;
        let Some(head) = read::<Head>(&bucket, HEAD).await? else { continue };
        let working = Working::at(&bucket, WORKING).await?;
        let worker = working.filter(Working::lives).map(|working| working.writer);
        found.push(Unfinished { target: head.target, milvus: head.milvus, worker, rows: head.rows });
    }
    Ok(found)
}

/// Forgets what all restores of a backup have done.
///
/// # Errors
/// The store failed.
pub(crate) async fn forget_all(folder: &Bucket) -> Result<()> {
    for word in known(folder).await? {
        let bucket = folder.below(&format!("{FOLDER}/{word}"))?;
        let entries: Vec<_> = bucket.list("").try_collect().await?;
        for entry in entries {
            bucket.delete(&entry.key).await?;
        }
    }
    Ok(())
}

impl Head {
    /// The first word of a journal.
    pub(super) fn new(milvus: &str, target: &CollectionName, temporary: String, wanted: String) -> Head {
        Head {
            milvus: milvus.to_owned(),
            target: target.to_string(),
            collection_id: 0,
            before: 0,
            temporary,
            began_ms: TimeMs::now().0,
            wanted,
            rows: None,
            wrong: None,
        }
    }
}

/// What can't be read counts as nothing: the restore then finds the collection there, and says so.
async fn read<T: DeserializeOwned>(bucket: &Bucket, key: &str) -> std::result::Result<Option<T>, BucketError> {
    match bucket.read_max(key, META_LEN_MAX).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an object says who is at work, or was.
fn is_claim(key: &str) -> bool {
    key.starts_with("working")
}

fn key(segment: i64) -> String {
    format!("{segment}.json")
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
