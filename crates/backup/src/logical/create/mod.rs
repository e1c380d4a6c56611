//! `create`: collections of a running Milvus into a new backup.
//!
//! ```text
//! claim the name ─▶ pause garbage collection ─▶ for each collection: describe, flush, segments, copy, count
//!               ─▶ meta files ─▶ manifest ─▶ backup_meta.json, which makes it a backup
//! ```
//!
//! A collection that fails is named and left out; the others are kept. Killed at any point, the same command goes on:
//! logs never change under their names, so what is there with the right length is not copied again.

mod collection;
mod segments;

use std::collections::BTreeMap;
use std::sync::Arc;

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::levels::{BACKUP, FULL};
use eyrie_milvus::logical::manifest::{FailedCollection, MANIFEST_VERSION, Object, SEALED_VERSION};
use eyrie_milvus::logical::meta::{
    BackupInfo, CollectionBackup, DatabaseBackup, FORMAT_SEALED, STATE_FAILED, STATE_SUCCESS,
};
use eyrie_milvus::logical::{BackupName, CollectionName, Filter, Levels, Manifest};
use futures::{StreamExt, TryStreamExt};
use sha2::Digest;
use tokio::sync::Semaphore;

use super::config::Settings;
use super::convert;
use super::doors::Doors;
use super::failure::{Failure, Kind, Result};
use super::gc::Pause;
use super::milvus::{Milvus, Version};
use super::news::Tell;
use super::rbac;
use super::sealing;
use super::store::Store;
use crate::bucket::Bucket;
use crate::chance;
use crate::history::TimeMs;
use crate::seal::Recipients;

/// How rows that are not in the bucket yet get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Each collection is flushed just before its logs are copied.
    #[default]
    Flush,
    /// What is in the bucket is backed up, and nothing else.
    SkipFlush,
    /// Schemas and settings alone.
    MetaOnly,
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Its name; without one it gets the time.
    pub name: Option<BackupName>,
    /// Which collections.
    pub filter: Filter,
    /// Whether and how rows are flushed.
    pub strategy: Strategy,
    /// Whether users, roles and grants are wanted.
    pub rbac: bool,
    /// Whether more is said of each index.
    pub index_extra: bool,
    /// Whether logs that the newest backup has are left where they are. Only this program can restore such a backup.
    pub incremental: bool,
    /// Who may open what is written; nobody: it is not sealed, and every reader of the format reads it.
    pub recipients: Recipients,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The name that the backup would have.
    pub name: BackupName,
    /// What it would have inside, and how many rows Milvus counts there.
    pub collections: Vec<(CollectionName, Option<u64>)>,
}

/// What a run made.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its name.
    pub name: BackupName,
    /// The backup.
    pub info: BackupInfo,
    /// What is not inside.
    pub failed: Vec<FailedCollection>,
    /// Objects and bytes that were copied by this run.
    pub copied: (u64, u64),
    /// Objects that an earlier run had copied.
    pub kept: u64,
    /// Objects that lie in another backup.
    pub held: u64,
}

/// What all collections of one run share.
struct Run<'r> {
    milvus: &'r Milvus,
    /// Milvus's objects, from its root on.
    source: Bucket,
    /// The backup's folder.
    target: Bucket,
    /// Every object of the backup and its length, where an earlier run left some.
    earlier: BTreeMap<String, u64>,
    /// The backup whose logs need no second copy, what it has, and which of that is still where it should be.
    base: Option<Base>,
    settings: &'r Settings,
    options: &'r Options,
    /// Copies at once, over all collections.
    copies: Arc<Semaphore>,
    tell: &'r Tell,
}

/// A backup that this one builds on.
struct Base {
    name: BackupName,
    manifest: Manifest,
    there: BTreeMap<String, u64>,
}

/// Says what [`create`] would do.
///
/// # Errors
/// Milvus can't be asked, or something that was named is not there.
pub async fn plan(milvus: &Milvus, options: &Options) -> Result<Plan> {
    let (_, wanted) = wanted(milvus, &options.filter).await?;
    let mut collections = Vec::new();
    for name in wanted {
        let request =
            pb::GetCollectionStatisticsRequest { db_name: name.database.clone(), collection_name: name.name.clone() };
        let stats = milvus.get_collection_statistics(request).await?.stats;
        let rows = stats.iter().find(|pair| pair.key == "row_count").and_then(|pair| pair.value.parse().ok());
        collections.push((name, rows));
    }
    Ok(Plan { name: options.name.clone().unwrap_or_else(name_of_now), collections })
}

/// Takes a backup.
///
/// # Errors
/// Nothing can be backed up, or the store fails. A collection that fails alone is in [`Created::failed`]; when all fail,
/// that is an error, and nothing is kept.
pub async fn create(doors: &Doors, settings: &Settings, options: &Options, tell: &Tell) -> Result<Created> {
    let Doors { milvus, storage, store } = doors;
    let name = options.name.clone().unwrap_or_else(name_of_now);
    let (databases, wanted) = wanted(milvus, &options.filter).await?;
    let base = if options.incremental { base(store, &options.recipients, tell).await? } else { None };
    let claim = store.claim(&name).await?;
    let target = store.folder(&name)?;
    let earlier = there(&target).await?;
    if !earlier.is_empty() {
        tell.say(format!("an earlier run left {} objects of {name}; what is right is not copied again", earlier.len()));
    }
    let run = Run {
        milvus,
        source: storage.clone(),
        target,
        earlier,
        base,
        settings,
        options,
        copies: Arc::new(Semaphore::new(settings.concurrency.copies)),
        tell,
    };
    let pause = match options.strategy {
        Strategy::MetaOnly => None,
        _ => Some(Pause::begin(settings, tell).await),
    };
    let (done, failed) = run.collections(&wanted).await;
    if let (true, Some((_, why))) = (done.is_empty(), failed.first()) {
        // Nothing is left behind that has no use; what an earlier run left, the next one may still need.
        let fresh = run.earlier.is_empty();
        drop(claim);
        if fresh && let Ok(keys) = store.plan_delete(&name).await {
            // What can't be deleted now is listed as incomplete.
            let _ = store.delete(&keys, &Tell::nobody()).await;
        }
        return Err(why.clone().during("no collection could be backed up; the first failed with"));
    }
    let info = run.info(&name, &databases, done.iter().map(|done| done.backup.clone()).collect()).await?;
    drop(pause);
    let failed: Vec<FailedCollection> = failed
        .into_iter()
        .map(|(name, why)| FailedCollection { database: name.database, name: name.name, why: why.line() })
        .collect();
    let objects: BTreeMap<String, Object> = done.iter().flat_map(|done| done.objects.clone()).collect();
    run.finish(&info, failed.clone(), objects).await?;
    claim.give_back().await?;
    let copied = done.iter().fold((0, 0), |sum, done| (sum.0 + done.copied.0, sum.1 + done.copied.1));
    let (kept, held) = done.iter().fold((0, 0), |sum, done| (sum.0 + done.kept, sum.1 + done.held));
    Ok(Created { name, info, failed, copied, kept, held })
}

/// The newest backup, if its logs are known one by one, and sealed as this one will be.
async fn base(store: &Store, recipients: &Recipients, tell: &Tell) -> Result<Option<Base>> {
    let Some(name) = store.newest().await? else { return Ok(None) };
    // Only its list is needed: who can seal need not be able to open.
    let Some(manifest) = store.manifest(&name).await? else {
        tell.warn(format!("{name} was written by another program and left no checksums; everything is copied anew"));
        return Ok(None);
    };
    if manifest.sealed_to != recipients.texts() {
        tell.warn(format!("{name} is sealed to others than this backup; everything is copied anew"));
        return Ok(None);
    }
    let there = store.logs(&name, Some(&manifest)).await?;
    Ok(Some(Base { name, manifest, there }))
}

/// `backup_2026_11_22_14_30_00_123456789`, as milvus-backup names one.
pub(super) fn name_of_now() -> BackupName {
    let now = chrono::Utc::now();
    let text = format!("backup_{}_{}", now.format("%Y_%m_%d_%H_%M_%S"), now.timestamp_subsec_nanos());
    BackupName::parse(&text).expect("letters, digits and underscores")
}

/// The databases and collections that are meant.
async fn wanted(milvus: &Milvus, filter: &Filter) -> Result<(Vec<String>, Vec<CollectionName>)> {
    let databases = match milvus.list_databases(pb::ListDatabasesRequest {}).await {
        Ok(answer) => answer.db_names,
        // Before 2.2.9 there was one database, which had no name.
        Err(failure) if failure.kind == Kind::Unsupported => vec!["default".to_owned()],
        Err(failure) => return Err(failure),
    };
    let mut collections = Vec::new();
    let databases: Vec<String> = databases.into_iter().filter(|database| filter.has_database(database)).collect();
    for database in &databases {
        let shown = milvus.show_collections(pb::ShowCollectionsRequest { db_name: database.clone() }).await?;
        let names = shown.collection_names.iter().map(|name| CollectionName::new(database, name));
        collections.extend(names.filter(|name| filter.has(name)));
    }
    let missing: Vec<String> =
        filter.named().filter(|name| !collections.contains(name)).map(|name| name.to_string()).collect();
    if !missing.is_empty() {
        let what = format!("Milvus has no collection {}", missing.join(", "));
        return Err(Failure::new(Kind::NotFound, what, "check the names; without --filter everything is backed up"));
    }
    collections.sort();
    Ok((databases, collections))
}

/// What lies in the folder of a backup.
async fn there(target: &Bucket) -> Result<BTreeMap<String, u64>> {
    let entries: Vec<_> = target.list("binlogs/").try_collect().await?;
    Ok(entries.into_iter().map(|entry| (entry.key, entry.stat.len)).collect())
}

impl Run<'_> {
    /// All collections, some at once; those that failed with their reason.
    async fn collections(&self, wanted: &[CollectionName]) -> (Vec<collection::Done>, Vec<(CollectionName, Failure)>) {
        let all = futures::stream::iter(wanted.to_vec()).map(|name| async move {
            let result = self.collection(&name).await;
            (name, result)
        });
        let all: Vec<_> = all.buffered(self.settings.concurrency.backup_collections).collect().await;
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for (name, result) in all {
            match result {
                Ok(one) => done.push(one),
                Err(failure) => {
                    self.tell.warn(format!("{name} is NOT in the backup: {failure}"));
                    failed.push((name, failure));
                }
            }
        }
        (done, failed)
    }

    /// The root of the tree.
    async fn info(&self, name: &BackupName, databases: &[String], done: Vec<CollectionBackup>) -> Result<BackupInfo> {
        let mut database_backups = Vec::new();
        for database in databases {
            let mut backup = DatabaseBackup { db_name: database.clone(), ..DatabaseBackup::default() };
            if self.milvus.version() >= Version(2, 4, 3) {
                let request = pb::DescribeDatabaseRequest { db_name: database.clone() };
                let described = self.milvus.describe_database(request).await?;
                (backup.db_id, backup.properties) = (described.db_id, convert::pairs(described.properties));
            }
            database_backups.push(backup);
        }
        let rbac_meta = match self.options.rbac {
            true => Some(rbac::read(self.milvus, self.tell).await?),
            false => None,
        };
        let id = chance::word(16);
        Ok(BackupInfo {
            id: format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]),
            state_code: STATE_SUCCESS,
            name: name.as_str().to_owned(),
            // Without a flush there is the clock alone.
            backup_timestamp: match done.iter().map(|collection| collection.backup_timestamp).max() {
                None | Some(0) => TimeMs::now().0 << 18,
                Some(flushed) => flushed,
            },
            size: done.iter().map(|collection| collection.size).sum(),
            collection_backups: done,
            milvus_version: self.milvus.version_text().to_owned(),
            rbac_meta,
            database_backups,
            ..BackupInfo::default()
        })
    }

    /// Takes away what an earlier run left and nobody names, then writes meta, manifest, and the marker.
    async fn finish(
        &self,
        info: &BackupInfo,
        failed: Vec<FailedCollection>,
        objects: BTreeMap<String, Object>,
    ) -> Result<()> {
        let sealed_to = self.options.recipients.texts();
        let is_sealed = !sealed_to.is_empty();
        let own = |key: &String| {
            let plain = if is_sealed { sealing::plain_name(key) } else { Some(key.as_str()) };
            plain.and_then(|plain| objects.get(plain)).is_some_and(|object| object.held_by.is_none())
        };
        let extra = there(&self.target).await?.into_keys().filter(|key| !own(key));
        for key in extra {
            self.target.delete(&key).await?;
        }
        let levels = match is_sealed {
            true => Levels::of(&shown(info)),
            false => Levels::of(info),
        };
        let plain = |bytes: &[u8]| Object {
            len: bytes.len() as u64,
            sha256: Some(hex(&sha2::Sha256::digest(bytes))),
            ..Object::default()
        };
        let mut meta = BTreeMap::new();
        if is_sealed {
            let (key, full) = (sealing::named(FULL), Levels::of(&with_failed(info, &failed)).full);
            let stored =
                sealing::put(&self.target, &format!("meta/{key}"), full.into(), &self.options.recipients).await?;
            meta.insert(key, stored.object());
        } else {
            for (file, bytes) in levels.files().into_iter().filter(|(file, _)| *file != BACKUP) {
                self.target.put(&format!("meta/{file}"), bytes.to_vec()).await?;
                meta.insert(file.to_owned(), plain(bytes));
            }
        }
        meta.insert(BACKUP.to_owned(), plain(&levels.backup));
        let manifest = Manifest {
            version: if is_sealed { SEALED_VERSION } else { MANIFEST_VERSION },
            tool: format!("eyrie {}", env!("CARGO_PKG_VERSION")),
            finished_at_ms: TimeMs::now().0,
            failed: if is_sealed { nameless(&failed) } else { failed },
            sealed_to,
            meta,
            objects,
        };
        self.target.put("eyrie/manifest.json", manifest.to_bytes()).await?;
        self.target.put(&format!("meta/{BACKUP}"), levels.backup.clone()).await?;
        Ok(())
    }
}

/// What everybody may see of a sealed backup, and what other readers of the format say of it.
fn shown(info: &BackupInfo) -> BackupInfo {
    BackupInfo {
        id: info.id.clone(),
        state_code: STATE_FAILED,
        error_message: "sealed with age by eyrie: restore it with eyrie milvus-backup and the private key".into(),
        name: info.name.clone(),
        backup_timestamp: info.backup_timestamp,
        size: info.size,
        milvus_version: info.milvus_version.clone(),
        format: FORMAT_SEALED.into(),
        ..BackupInfo::default()
    }
}

/// Names are sealed, also those of collections that failed: they stand in the tree.
fn with_failed(info: &BackupInfo, failed: &[FailedCollection]) -> BackupInfo {
    let failed: Vec<String> = failed.iter().map(|one| format!("{}.{}: {}", one.database, one.name, one.why)).collect();
    let error_message = if failed.is_empty() { String::new() } else { format!("without {}", failed.join("; ")) };
    BackupInfo { error_message, ..info.clone() }
}

fn nameless(failed: &[FailedCollection]) -> Vec<FailedCollection> {
    let (name, why) = ("a collection", "get shows which and why, with the private key");
    let one = || FailedCollection { database: "sealed".into(), name: name.into(), why: why.into() };
    failed.iter().map(|_| one()).collect()
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
