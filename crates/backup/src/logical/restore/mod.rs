//! `restore`: collections of a backup into a running Milvus.
//!
//! ```text
//! read meta ─▶ plan: new names, what is there ─▶ every log is there with its length
//!          ─▶ for each: create, partitions, indexes ─▶ import each segment, count ─▶ count all ─▶ load, aliases
//! ```
//!
//! A journal beside the backup says what is done: the same restore goes on where an earlier one was killed.
//!
//! Nothing is changed before the plan is known to be possible. Success is said when the rows that Milvus has are the
//! rows that the logs hold, less those that were deleted.

mod collection;
mod import;
mod journal;
pub mod plan;
mod rest;
pub(super) mod salvaged;
mod share;

use std::collections::BTreeMap;
use std::sync::Arc;

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::meta::DatabaseBackup;
use eyrie_milvus::logical::{BackupName, CollectionName, Manifest, layout};
use futures::StreamExt;
use tokio::sync::Semaphore;

pub(super) use self::collection::count_loaded;
use self::journal::Journal;
pub use self::journal::Unfinished;
pub(super) use self::journal::{forget_all, unfinished};
pub use self::plan::{Action, Item, Options};
use super::config::Settings;
use super::convert;
use super::doors::Doors;
use super::failure::{Failure, Kind, Result};
use super::http;
use super::milvus::{Milvus, Version};
use super::news::Tell;
use super::rbac;
use super::store::{Backup, Store};
use crate::bucket::Bucket;
use crate::limits::{MILVUS_CALL_LIMIT, RESTORE_LOGS_READ};
use crate::seal::Identities;

/// How folders in Milvus's storage begin that hold copies for it.
pub(super) const TEMPORARY: &str = "restore-temp-";

/// What became of a restore.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Collections that are whole, and how many rows each has.
    pub done: Vec<(CollectionName, u64)>,
    /// Collections that are not.
    pub failed: Vec<(CollectionName, Failure)>,
}

/// What all collections of one run share.
struct Run<'r> {
    milvus: &'r Milvus,
    /// Where the logs come from.
    origin: Origin<'r>,
    /// The backup's folder.
    source: Bucket,
    store: &'r Store,
    /// Milvus's own storage.
    storage: Bucket,
    settings: &'r Settings,
    options: &'r Options,
    /// The keys that open the logs, if they are sealed.
    keys: Option<Identities>,
    /// Whether Milvus can read the logs where they lie.
    in_place: bool,
    /// What is done already, by the collection that is filled.
    journals: BTreeMap<CollectionName, Journal>,
    imports: Arc<Semaphore>,
    /// Logs that are read whole at once.
    reading: Arc<Semaphore>,
    /// For imports by REST, or why there is no client.
    http: std::result::Result<reqwest::Client, String>,
    tell: &'r Tell,
}

/// Where the logs of a run come from.
enum Origin<'r> {
    /// A backup, and, where this program wrote it, which logs lie in another one.
    Backup(&'r BackupName, Option<&'r Manifest>),
    /// Folders whose paths the caller knows.
    Folders,
}

/// Says what [`restore`] would do: asks Milvus what is there, and changes nothing.
///
/// # Errors
/// As [`restore`], as far as it can be known before.
pub async fn plan(doors: &Doors, name: &BackupName, options: &Options) -> Result<Vec<Item>> {
    let backup = doors.store.read(name).await?;
    let folder = doors.store.folder(name)?;
    Ok(decided(&doors.milvus, &folder, plan::items(&backup.info, options)?, options).await?.0)
}

/// Restores a backup.
///
/// # Errors
/// Nothing was changed: the backup is not there or damaged, Milvus can't be asked, or names are taken. A collection that
/// fails later alone is in [`Restored::failed`].
pub async fn restore(
    doors: &Doors,
    settings: &Settings,
    name: &BackupName,
    options: &Options,
    tell: &Tell,
) -> Result<Restored> {
    let Doors { milvus, storage, store } = doors;
    let backup = store.read(name).await?;
    let source = store.folder(name)?;
    let (items, journals) = decided(milvus, &source, plan::items(&backup.info, options)?, options).await?;
    if !options.meta_only {
        tell.step("checking that every log of the backup is there");
        complete(&store.logs(name, backup.manifest.as_ref()).await?, &items)?;
        import::deletes_can_be(milvus, &items)?;
    }
    if options.rbac {
        let meta = backup.info.rbac_meta.as_ref();
        let none = || {
            let what = format!("the backup {name} has no users and roles");
            Failure::new(Kind::NotFound, what, "restore without --rbac, or take a backup with --rbac")
        };
        rbac::restore(milvus, meta.ok_or_else(none)?, tell).await?;
    }
    databases(milvus, &backup, &items).await?;
    let sealed = backup.manifest.as_ref().is_some_and(Manifest::is_sealed);
    let run = Run {
        milvus,
        origin: Origin::Backup(name, backup.manifest.as_ref()),
        source,
        store,
        storage: storage.clone(),
        settings,
        options,
        in_place: !sealed && settings.backup.is_one_with(&settings.storage),
        keys: sealed.then(|| store.keys().clone()),
        journals,
        imports: Arc::new(Semaphore::new(settings.concurrency.import_jobs)),
        reading: Arc::new(Semaphore::new(RESTORE_LOGS_READ)),
        http: http::client(settings.milvus.ca.as_ref(), MILVUS_CALL_LIMIT),
        tell,
    };
    for item in &items {
        let bytes = u64::try_from(item.collection.size).unwrap_or_default();
        tell.more(item.segments().count() as u64, if options.meta_only { 0 } else { bytes });
    }
    let (run, items) = (&run, &items);
    let all = futures::stream::iter(0..items.len()).map(|n| async move {
        let item: &Item = &items[n];
        (item.target.clone(), run.collection(item).await)
    });
    let all: Vec<_> = all.buffered(settings.concurrency.restore_collections).collect().await;
    let mut restored = Restored::default();
    for (target, result) in all {
        match result {
            Ok(rows) => restored.done.push((target, rows)),
            Err(failure) => {
                tell.warn(format!("{target} is NOT restored: {failure}"));
                restored.failed.push((target, failure));
            }
        }
    }
    // While one is missing, the others' journals say that they are whole: the same restore leaves them as they are.
    if restored.failed.is_empty() && !options.keep_journal {
        for journal in run.journals.values() {
            journal.forget().await?;
        }
    }
    Ok(restored)
}

/// Asks which of the collections are there and what an earlier run did, and decides what to do with each.
async fn decided(
    milvus: &Milvus,
    folder: &Bucket,
    mut items: Vec<Item>,
    options: &Options,
) -> Result<(Vec<Item>, BTreeMap<CollectionName, Journal>)> {
    let databases = databases_of(milvus).await?;
    let (mut taken, mut missing, mut journals) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let known = journal::known(folder).await?;
    for item in &mut items {
        let CollectionName { database, name } = &item.target;
        if databases.contains(database) && !shown.contains_key(database) {
            let request = pb::ShowCollectionsRequest { db_name: database.clone() };
            shown.insert(database.clone(), milvus.show_collections(request).await?.collection_names);
        }
        let there = shown.get(database).is_some_and(|names| names.contains(name));
        let journal = Journal::read(folder, &known, milvus.place(), &item.target).await?;
        if let Some(writer) = journal.worker().await? {
            let what = format!("{} is being restored by {writer}; nothing was changed", item.target);
            return Err(Failure::new(Kind::Exists, what, "wait until it is finished, or end that process"));
        }
        let earlier = if there { begun(milvus, &item.target, &journal, options).await? } else { Begun::Nothing };
        item.action = match (there, options.skip_create_collection, options.drop_exist_collection) {
            (true, false, true) => Action::DropAndCreate,
            (true, ..) if earlier == Begun::Whole => Action::Keep,
            (true, true, _) => Action::Fill,
            (true, false, false) if earlier == Begun::Part => Action::GoOn,
            (false, false, _) => Action::Create,
            (true, false, false) => {
                let wrong =
                    journal.head().and_then(|head| head.wrong).map(|why| format!(" (left by a restore: {why})"));
                taken.push(format!("{}{}", item.target, wrong.unwrap_or_default()));
                Action::Create
            }
            (false, true, _) => {
                missing.push(item.target.to_string());
                Action::Create
            }
        };
        journals.insert(item.target.clone(), journal);
    }
    if !taken.is_empty() {
        return Err(are_taken(&taken));
    }
    if !missing.is_empty() {
        let what =
            format!("Milvus has no collection {}, and none is to be created; nothing was changed", missing.join(", "));
        return Err(Failure::new(Kind::NotFound, what, "create them first, or leave --skip_create_collection out"));
    }
    Ok((items, journals))
}

/// Refuses names that a restore with these options could not use; asked before anything is copied for it.
///
/// # Errors
/// Names are taken, or missing where they are to be filled.
pub(super) async fn free(milvus: &Milvus, targets: &[CollectionName], options: &Options) -> Result<()> {
    if options.drop_exist_collection || options.skip_create_collection {
        return Ok(());
    }
    let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let databases = databases_of(milvus).await?;
    let mut taken = Vec::new();
    for CollectionName { database, name } in targets.iter().filter(|target| databases.contains(&target.database)) {
        if !shown.contains_key(database.as_str()) {
            let request = pb::ShowCollectionsRequest { db_name: database.clone() };
            shown.insert(database, milvus.show_collections(request).await?.collection_names);
        }
        if shown[database.as_str()].contains(name) {
            taken.push(format!("{database}.{name}"));
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(are_taken(&taken)) }
}

fn are_taken(taken: &[String]) -> Failure {
    Failure::new(
        Kind::Exists,
        format!("Milvus has {} already; nothing was changed", taken.join(", ")),
        "give a suffix with -s or other names with --rename, replace them with --drop_exist_collection, or add the rows to \
         them with --skip_create_collection",
    )
}

/// Before 2.2.9 there was one database, which had no name.
async fn databases_of(milvus: &Milvus) -> Result<Vec<String>> {
    match milvus.list_databases(pb::ListDatabasesRequest {}).await {
        Ok(answer) => Ok(answer.db_names),
        Err(failure) if failure.kind == Kind::Unsupported => Ok(vec!["default".to_owned()]),
        Err(failure) => Err(failure),
    }
}

/// What an earlier run of this restore did to a collection that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// Nothing: it was there before, or has been made anew since, or is beyond going on.
    Nothing,
    /// It made it, and did not finish it.
    Part,
    /// It finished it.
    Whole,
}

async fn begun(milvus: &Milvus, target: &CollectionName, journal: &Journal, options: &Options) -> Result<Begun> {
    let Some(head) = journal.head().filter(|head| head.wrong.is_none()) else { return Ok(Begun::Nothing) };
    let (db_name, collection_name) = (target.database.clone(), target.name.clone());
    let request = pb::DescribeCollectionRequest { db_name, collection_name, collection_id: 0 };
    let id = milvus.describe_collection(request).await?.collection_id;
    // Killed between the making and the word of it: one that is empty can be filled, whoever made it.
    let unknown = head.collection_id == 0 && collection::count(milvus, target).await? == 0;
    Ok(match head.rows {
        Some(_) if head.collection_id == id && head.wanted == options.wanted() => Begun::Whole,
        _ if head.collection_id == id || unknown => Begun::Part,
        _ => Begun::Nothing,
    })
}

/// Whether every log that the meta names is there, with the length that it should have.
fn complete(there: &BTreeMap<String, u64>, items: &[Item]) -> Result<()> {
    let (mut wrong, mut first) = (0u64, None);
    for item in items {
        for segment in item.collection.segments() {
            for (key, len) in layout::logs(segment, item.grouping) {
                let why = match there.get(&key) {
                    None => "is missing".to_owned(),
                    Some(found) if len != 0 && *found != len => format!("has {found} bytes instead of {len}"),
                    Some(_) => continue,
                };
                wrong += 1;
                first.get_or_insert_with(|| format!("{key} of {} {why}", item.source));
            }
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(Failure::new(
            Kind::Damaged,
            format!("{wrong} logs of the backup are not what they should be: {first}; nothing was changed"),
            "verify names them all; the other collections can be restored with --filter",
        )),
    }
}

/// Makes the databases that are missing.
async fn databases(milvus: &Milvus, backup: &Backup, items: &[Item]) -> Result<()> {
    let there = match milvus.list_databases(pb::ListDatabasesRequest {}).await {
        Ok(answer) => answer.db_names,
        Err(failure) if failure.kind == Kind::Unsupported => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let mut wanted: Vec<(&str, &str)> =
        items.iter().map(|item| (item.target.database.as_str(), item.source.database.as_str())).collect();
    wanted.sort_unstable();
    wanted.dedup_by_key(|(target, _)| *target);
    for (target, source) in wanted.into_iter().filter(|(target, _)| !there.iter().any(|name| name == target)) {
        let of = |database: &&DatabaseBackup| database.db_name == source;
        let properties = match backup.info.database_backups.iter().find(of) {
            Some(database) if milvus.version() >= Version(2, 4, 3) => convert::pairs_back(&database.properties),
            _ => Vec::new(),
        };
        let request = pb::CreateDatabaseRequest { db_name: target.to_owned(), properties };
        milvus
            .create_database(request)
            .await
            .map_err(|failure| failure.during(&format!("create database {target}")))?;
    }
    Ok(())
}
