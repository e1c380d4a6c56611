//! `restore`: collections of a backup into a running Milvus.
//!
//! ```text
//! read meta ─▶ plan: new names, what is there ─▶ every log is there with its length
//!          ─▶ for each: create, partitions, indexes ─▶ import each segment, count ─▶ count all ─▶ load, aliases
//! ```
//!
//! Nothing is changed before the plan is known to be possible. Success is said when the rows that Milvus has are the
//! rows that the logs hold, less those that were deleted.

mod collection;
mod import;
pub mod plan;
mod rest;
pub(super) mod salvaged;

use std::collections::BTreeMap;
use std::sync::Arc;

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::meta::{DatabaseBackup, RbacMeta};
use eyrie_milvus::logical::{BackupName, CollectionName, Manifest, layout};
use futures::StreamExt;
use tokio::sync::Semaphore;

pub use self::plan::{Action, Item, Options};
use super::config::Settings;
use super::convert;
use super::doors::Doors;
use super::failure::{Failure, Kind, Result};
use super::http;
use super::milvus::{Milvus, Version};
use super::news::Tell;
use super::store::{Backup, Store};
use crate::bucket::Bucket;
use crate::chance;
use crate::limits::MILVUS_CALL_LIMIT;

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
    /// Whether Milvus can read the logs where they lie.
    in_place: bool,
    /// Names of temporary copies begin so.
    task: String,
    imports: Arc<Semaphore>,
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
    decided(&doors.milvus, plan::items(&backup.info, options)?, options).await
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
    let items = decided(milvus, plan::items(&backup.info, options)?, options).await?;
    let source = store.folder(name)?;
    if !options.meta_only {
        tell.step("checking that every log of the backup is there");
        complete(&store.logs(name, backup.manifest.as_ref()).await?, &items)?;
    }
    if options.rbac {
        let meta = backup.info.rbac_meta.as_ref();
        let none = || {
            let what = format!("the backup {name} has no users and roles");
            Failure::new(Kind::NotFound, what, "restore without --rbac, or take a backup with --rbac")
        };
        rbac(milvus, meta.ok_or_else(none)?, tell).await?;
    }
    databases(milvus, &backup, &items).await?;
    let run = Run {
        milvus,
        origin: Origin::Backup(name, backup.manifest.as_ref()),
        source,
        store,
        storage: storage.clone(),
        settings,
        options,
        in_place: settings.backup.is_one_with(&settings.storage),
        task: format!("restore-temp-{}", chance::word(6)),
        imports: Arc::new(Semaphore::new(settings.concurrency.import_jobs)),
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
    Ok(restored)
}

/// Asks which of the collections are there, and decides what to do with each.
async fn decided(milvus: &Milvus, mut items: Vec<Item>, options: &Options) -> Result<Vec<Item>> {
    let databases = match milvus.list_databases(pb::ListDatabasesRequest {}).await {
        Ok(answer) => answer.db_names,
        Err(failure) if failure.kind == Kind::Unsupported => vec!["default".to_owned()],
        Err(failure) => return Err(failure),
    };
    let (mut taken, mut missing) = (Vec::new(), Vec::new());
    for item in &mut items {
        let CollectionName { database, name } = &item.target;
        let there = databases.contains(database) && {
            let shown = milvus.show_collections(pb::ShowCollectionsRequest { db_name: database.clone() }).await?;
            shown.collection_names.contains(name)
        };
        item.action = match (there, options.skip_create_collection, options.drop_exist_collection) {
            (true, true, _) => Action::Fill,
            (true, false, true) => Action::DropAndCreate,
            (false, false, _) => Action::Create,
            (true, false, false) => {
                taken.push(item.target.to_string());
                Action::Create
            }
            (false, true, _) => {
                missing.push(item.target.to_string());
                Action::Create
            }
        };
    }
    if !taken.is_empty() {
        return Err(Failure::new(
            Kind::Exists,
            format!("Milvus has {} already; nothing was changed", taken.join(", ")),
            "give a suffix with -s or other names with --rename, replace them with --drop_exist_collection, or add the \
             rows to them with --skip_create_collection",
        ));
    }
    if !missing.is_empty() {
        let what =
            format!("Milvus has no collection {}, and none is to be created; nothing was changed", missing.join(", "));
        return Err(Failure::new(Kind::NotFound, what, "create them first, or leave --skip_create_collection out"));
    }
    Ok(items)
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

/// Adds the users, roles and grants that are not there yet.
async fn rbac(milvus: &Milvus, wanted: &RbacMeta, tell: &Tell) -> Result<()> {
    let there = milvus.backup_rbac(pb::BackupRbacRequest {}).await?.rbac_meta.map(convert::rbac).unwrap_or_default();
    let mut missing = wanted.clone();
    missing.users.retain(|user| !there.users.iter().any(|other| other.user == user.user));
    missing.roles.retain(|role| !there.roles.contains(role));
    missing.grants.retain(|grant| !there.grants.contains(grant));
    missing.privilege_groups.retain(|group| !there.privilege_groups.iter().any(|o| o.group_name == group.group_name));
    tell.say(format!(
        "{} users, {} roles and {} grants are added; what is there already stays as it is",
        missing.users.len(),
        missing.roles.len(),
        missing.grants.len()
    ));
    milvus.restore_rbac(pb::RestoreRbacRequest { rbac_meta: Some(convert::rbac_back(&missing)) }).await?;
    Ok(())
}
