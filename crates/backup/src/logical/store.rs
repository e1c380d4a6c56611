//! The place of all backups: which there are, in what state, and the way in and out.

use std::collections::BTreeMap;

use eyrie_milvus::logical::levels::{self, BACKUP, COLLECTION, FULL, PARTITION, SEGMENT};
use eyrie_milvus::logical::manifest::Object;
use eyrie_milvus::logical::meta::{BackupInfo, FORMAT_SEALED};
use eyrie_milvus::logical::{BackupName, Manifest, assemble, read_full};
use futures::{StreamExt, TryStreamExt};
use sha2::Digest;

use super::claims::{Claim, Working};
use super::config::{Settings, StorageSettings};
use super::create::hex;
use super::failure::{Failure, Kind, Result};
use super::news::Tell;
use super::restore::{Unfinished, unfinished};
use super::sealing;
use crate::bucket::{Bucket, Pace};
use crate::limits::META_LEN_MAX;
use crate::seal::Identities;

/// Where backups lie.
#[derive(Debug, Clone)]
pub struct Store {
    bucket: Bucket,
    settings: StorageSettings,
    /// What opens sealed backups.
    keys: Identities,
}

/// A backup of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: BackupName,
    /// Whether it counts.
    pub state: State,
    /// What its shortest meta file says; none where there is no such file.
    pub brief: Option<BackupInfo>,
    /// Collections that a restore of it has begun to fill, and not finished.
    pub restores: Vec<Unfinished>,
}

impl Listed {
    /// Whether only a private key opens it.
    pub fn is_sealed(&self) -> bool {
        self.brief.as_ref().is_some_and(|brief| brief.format == FORMAT_SEALED)
    }
}

/// Whether a backup counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is finished.
    Whole,
    /// It is finished, without these collections.
    Partial(Vec<String>),
    /// It is being written.
    Running(String),
    /// It was not finished: the same `create` goes on, `delete` takes it away.
    Incomplete,
    /// Its meta can't be read.
    Damaged(String),
}

impl State {
    /// One word for machines.
    pub fn word(&self) -> &'static str {
        match self {
            State::Whole => "complete",
            State::Partial(_) => "partial",
            State::Running(_) => "running",
            State::Incomplete => "incomplete",
            State::Damaged(_) => "damaged",
        }
    }
}

/// A backup that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// The tree.
    pub info: BackupInfo,
    /// Ours, where this program wrote it.
    pub manifest: Option<Manifest>,
}

impl Store {
    /// Opens the place; nothing is read yet.
    ///
    /// # Errors
    /// The settings can't be right, or a private key can't be read.
    pub fn open(settings: &Settings) -> Result<Store> {
        let keys = Identities::load(settings.identity.as_ref())?;
        Ok(Store { bucket: settings.backup.open()?, settings: settings.backup.clone(), keys })
    }

    /// The place in any bucket, from the backups' root on.
    pub fn over(bucket: Bucket, settings: StorageSettings) -> Store {
        Store { bucket, settings, keys: Identities::default() }
    }

    /// The same, with keys that open sealed backups.
    #[must_use]
    pub fn with_keys(self, keys: Identities) -> Store {
        Store { keys, ..self }
    }

    /// The same, at most so many bytes and calls a second.
    #[must_use]
    pub(super) fn limited(self, bytes: Option<Pace>, requests: Option<Pace>) -> Store {
        let bucket = self.bucket.with_requests(requests);
        let bucket = if bytes.is_some() { bucket.with_pace(bytes) } else { bucket };
        Store { bucket, ..self }
    }

    /// What opens sealed backups.
    pub(super) fn keys(&self) -> &Identities {
        &self.keys
    }

    /// The bucket, from the backups' root on.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// How it is reached.
    pub fn settings(&self) -> &StorageSettings {
        &self.settings
    }

    /// What lies in one backup's folder.
    pub(super) fn folder(&self, name: &BackupName) -> Result<Bucket> {
        Ok(self.bucket.below(name.as_str())?)
    }

    /// All backups, by name, and what is left of unfinished ones.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let folders = match self.bucket.folders().await {
            Ok(folders) => folders,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let names: Vec<BackupName> = folders.iter().filter_map(|name| BackupName::parse(name).ok()).collect();
        let looked = futures::stream::iter(names).map(|name| self.look(name)).buffered(self.bucket.parallel());
        Ok(looked.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
    }

    /// One name; nothing if there is nothing of a backup.
    async fn look(&self, name: BackupName) -> Result<Option<Listed>> {
        let restores = unfinished(&self.folder(&name)?).await?;
        let brief = match self.read_meta(&name, BACKUP).await? {
            Some(bytes) => levels::read_backup(&bytes),
            None => {
                let folders = self.folder(&name)?.folders().await?;
                if !folders.iter().any(|folder| matches!(folder.as_str(), "meta" | "binlogs" | "bundle" | "eyrie")) {
                    return Ok(None);
                }
                let state = match self.worker(&name).await? {
                    Some(working) if working.lives() => State::Running(working.writer),
                    _ => State::Incomplete,
                };
                return Ok(Some(Listed { name, state, brief: None, restores }));
            }
        };
        let (state, brief) = match (brief, self.manifest(&name).await) {
            (Err(error), _) => (State::Damaged(error.to_string()), None),
            (Ok(brief), Err(failure)) if failure.kind == Kind::Damaged => (State::Damaged(failure.line()), Some(brief)),
            (Ok(_), Err(failure)) => return Err(failure),
            (Ok(brief), Ok(Some(manifest))) if !manifest.failed.is_empty() => {
                let failed = manifest.failed.iter().map(|failed| format!("{}.{}", failed.database, failed.name));
                (State::Partial(failed.collect()), Some(brief))
            }
            (Ok(brief), Ok(_)) => (State::Whole, Some(brief)),
        };
        Ok(Some(Listed { name, state, brief, restores }))
    }

    /// Whether a finished backup has this name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn exists(&self, name: &BackupName) -> Result<bool> {
        Ok(self.bucket.stat(&name.meta(BACKUP)).await?.is_some())
    }

    /// Reads a finished backup.
    ///
    /// # Errors
    /// There is none of this name, it was not finished, or its meta is damaged.
    pub async fn read(&self, name: &BackupName) -> Result<Backup> {
        let Some(backup) = self.read_meta(name, BACKUP).await? else {
            let listed = self.look(name.clone()).await?;
            return Err(match listed.map(|listed| listed.state) {
                None => Failure::new(
                    Kind::NotFound,
                    format!("there is no backup {name} in {}", self.bucket),
                    "list shows which there are; check backup.storage (v1: minio.backupBucketName, minio.backupRootPath)",
                ),
                Some(State::Running(writer)) => Failure::new(
                    Kind::Exists,
                    format!("the backup {name} is being written by {writer}"),
                    "wait until it is finished",
                ),
                Some(_) => Failure::new(
                    Kind::Damaged,
                    format!("the backup {name} was not finished: meta/{BACKUP} is missing"),
                    format!("create -n {name} goes on where it ended; delete -n {name} takes it away"),
                ),
            });
        };
        let manifest = self.manifest(name).await?;
        if manifest.as_ref().is_some_and(Manifest::is_sealed) {
            // A wrong key is known here: nothing has been touched.
            let key = sealing::named(&name.meta(FULL));
            let full = sealing::read(&self.bucket, &key, META_LEN_MAX, &self.keys).await?;
            return Ok(Backup { info: read_full(&full)?, manifest });
        }
        if levels::read_backup(&backup).is_ok_and(|brief| brief.format == FORMAT_SEALED) {
            let what = format!("the backup {name} is sealed, and {} is missing", name.manifest());
            return Err(Failure::new(Kind::Damaged, what, "take the file from another copy of this backup"));
        }
        let info = match self.read_meta(name, FULL).await? {
            Some(full) => {
                as_written(name, FULL, &full, manifest.as_ref())?;
                read_full(&full)?
            }
            // Releases before 0.2 wrote the levels alone.
            None => {
                let mut levels = Vec::new();
                for file in [COLLECTION, PARTITION, SEGMENT] {
                    let missing = || {
                        let what = format!("the backup {name} has neither meta/{FULL} nor meta/{file}");
                        Failure::new(Kind::Damaged, what, "take the file from another copy of this backup")
                    };
                    let bytes = self.read_meta(name, file).await?.ok_or_else(missing)?;
                    as_written(name, file, &bytes, manifest.as_ref())?;
                    levels.push(bytes);
                }
                assemble(&backup, &levels[0], &levels[1], &levels[2])?
            }
        };
        Ok(Backup { info, manifest })
    }

    /// The newest complete backup; none if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn newest(&self) -> Result<Option<BackupName>> {
        let listed = self.list().await?.into_iter().filter(|one| matches!(one.state, State::Whole | State::Partial(_)));
        let newest = listed.max_by_key(|one| one.brief.as_ref().map(|brief| brief.backup_timestamp));
        Ok(newest.map(|one| one.name))
    }

    /// The lengths of all logs of a backup by their keys: each where it lies, be that another backup's folder, and of what
    /// is sealed the length of the log itself, where the envelope has the length that was written.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn logs(&self, name: &BackupName, manifest: Option<&Manifest>) -> Result<BTreeMap<String, u64>> {
        let own: Vec<_> = self.folder(name)?.list("binlogs/").try_collect().await?;
        let Some(manifest) = manifest else {
            return Ok(own.into_iter().map(|entry| (entry.key, entry.stat.len)).collect());
        };
        let plain = |key: String, len: u64| match sealing::plain_name(&key) {
            Some(plain) if manifest.is_sealed() => {
                let written = manifest.objects.get(plain).filter(|object| object.len == len);
                (plain.to_owned(), written.map_or(0, Object::content_len))
            }
            _ => (key, len),
        };
        let mut logs: BTreeMap<String, u64> = own.into_iter().map(|entry| plain(entry.key, entry.stat.len)).collect();
        for holder in manifest.holders() {
            let mut listed = self.bucket.below(holder)?.list("binlogs/");
            while let Some(entry) = listed.try_next().await? {
                let (key, len) = plain(entry.key, entry.stat.len);
                if manifest.holder(&key) == Some(holder) {
                    logs.insert(key, len);
                }
            }
        }
        Ok(logs)
    }

    /// Refuses if other backups need what lies in this one's folder.
    async fn needed(&self, name: &BackupName) -> Result<()> {
        let listed = self.list().await?;
        let others: Vec<BackupName> = listed.into_iter().map(|one| one.name).filter(|other| other != name).collect();
        let manifests = futures::stream::iter(others).map(|other| async move { (self.manifest(&other).await, other) });
        let manifests: Vec<_> = manifests.buffered(self.bucket.parallel()).collect().await;
        let mut needing = Vec::new();
        for (manifest, other) in manifests {
            match manifest {
                Ok(Some(manifest)) if manifest.holders().contains(name.as_str()) => needing.push(other.to_string()),
                Ok(_) => {}
                // One that can't be read may need it too.
                Err(failure) => return Err(failure.during(&format!("whether {other} needs {name} is not known"))),
            }
        }
        if needing.is_empty() {
            return Ok(());
        }
        let what = format!("the backup {name} holds logs of {}; nothing was deleted", needing.join(", "));
        Err(Failure::new(Kind::Exists, what, "delete those first, or keep it"))
    }

    /// What deleting a backup would remove: in that order, what makes it a backup first.
    ///
    /// # Errors
    /// It is not there, being written, or holds logs of another backup.
    pub async fn plan_delete(&self, name: &BackupName) -> Result<Vec<String>> {
        match self.look(name.clone()).await?.map(|listed| listed.state) {
            None => {
                let what = format!("there is no backup {name} in {}", self.bucket);
                return Err(Failure::new(Kind::NotFound, what, "list shows which there are"));
            }
            Some(State::Running(writer)) => {
                let what = format!("the backup {name} is being written by {writer}");
                return Err(Failure::new(Kind::Exists, what, "wait until it is finished, or end that process"));
            }
            Some(_) => self.needed(name).await?,
        }
        let restores = unfinished(&self.folder(name)?).await?;
        if let Some(one) = restores.iter().find(|one| one.worker.is_some()) {
            let what = format!("the backup {name} is being restored to {} in {}", one.target, one.milvus);
            return Err(Failure::new(Kind::Exists, what, "wait until that is finished"));
        }
        let entries: Vec<_> = self.bucket.list(&name.folder()).try_collect().await?;
        let mut keys: Vec<String> = entries.into_iter().map(|entry| entry.key).collect();
        let (marker, meta) = (name.meta(BACKUP), name.meta(""));
        // What is left after a kill must look unfinished, never whole: marker, meta, logs, and the manifest at last.
        keys.sort_by_key(|key| {
            let rank = match key {
                key if *key == marker => 0,
                key if key.starts_with(&meta) => 1,
                key if key.starts_with(&name.binlogs()) => 2,
                _ => 3,
            };
            (rank, key.clone())
        });
        Ok(keys)
    }

    /// Deletes what [`Store::plan_delete`] named.
    ///
    /// # Errors
    /// The store failed; what is left is listed as incomplete, and deleting again goes on.
    pub async fn delete(&self, keys: &[String], tell: &Tell) -> Result<()> {
        tell.more(keys.len() as u64, 0);
        let (first, rest) = keys.split_at(keys.len().min(1));
        for key in first {
            self.bucket.delete(key).await?;
            tell.done(1, 0);
        }
        let deleted = futures::stream::iter(rest.to_vec()).map(|key| async move {
            self.bucket.delete(&key).await?;
            tell.done(1, 0);
            Ok::<_, Failure>(())
        });
        deleted.buffered(self.bucket.parallel()).try_collect().await
    }

    async fn read_meta(&self, name: &BackupName, file: &str) -> Result<Option<bytes::Bytes>> {
        self.read_some(&name.meta(file)).await
    }

    pub(super) async fn manifest(&self, name: &BackupName) -> Result<Option<Manifest>> {
        let Some(bytes) = self.read_some(&name.manifest()).await? else { return Ok(None) };
        let wrong = |why: String| {
            let what = format!("{} can't be read: {why}", name.manifest());
            Failure::new(Kind::Damaged, what, "without it, lengths alone can be checked; take another backup")
        };
        Manifest::read(&bytes).map(Some).map_err(wrong)
    }

    async fn read_some(&self, key: &str) -> Result<Option<bytes::Bytes>> {
        match self.bucket.read_max(key, META_LEN_MAX).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn worker(&self, name: &BackupName) -> Result<Option<Working>> {
        Ok(Working::at(&self.bucket, &name.working()).await?)
    }

    /// Claims a name for this run, unless another run is at work on it.
    ///
    /// # Errors
    /// Another run is, or a finished backup has the name.
    pub(super) async fn claim(&self, name: &BackupName) -> Result<Claim> {
        let taken =
            |what: String| Failure::new(Kind::Exists, what, "give another name with -n, or delete the other first");
        let finished = || taken(format!("there is a backup {name} in {} already", self.bucket));
        if self.exists(name).await? {
            return Err(finished());
        }
        let busy = |writer: &str| taken(format!("the backup {name} is being written by {writer}"));
        let claim = Claim::take(&self.bucket, &name.working(), busy).await?;
        // Whoever had it until now may have finished it.
        if self.exists(name).await? {
            claim.give_back().await?;
            return Err(finished());
        }
        Ok(claim)
    }
}

/// Refuses a meta file that is not what was written, though it may look like one: where this program wrote the backup.
fn as_written(name: &BackupName, file: &str, bytes: &[u8], manifest: Option<&Manifest>) -> Result<()> {
    let wanted = manifest.and_then(|manifest| manifest.meta.get(file)).and_then(|object| object.sha256.as_deref());
    match wanted {
        Some(wanted) if wanted != hex(&sha2::Sha256::digest(bytes)) => {
            let what = format!("the backup {name} is damaged: meta/{file} is not what was written");
            Err(Failure::new(Kind::Damaged, what, "take the file from another copy of this backup"))
        }
        _ => Ok(()),
    }
}
