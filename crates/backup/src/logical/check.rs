//! `check`: whether Milvus, its storage and the place of the backups can be reached, and written to.

use futures::StreamExt;

use super::config::Settings;
use super::failure::{Failure, Kind, Result};
use super::milvus::Milvus;
use super::restore::TEMPORARY;
use crate::bucket::{Bucket, CopyCheck};
use crate::chance;

/// What the object says that is written and deleted.
const WORDS: &str = "This object shows that a backup can be written here.";

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Milvus's address and version.
    pub milvus: String,
    /// Milvus's storage.
    pub storage: String,
    /// Whether there is anything in it.
    pub storage_is_empty: bool,
    /// Where backups go.
    pub backup: String,
    /// Whether copies are made by the store itself.
    pub server_side: bool,
    /// Folders of copies in Milvus's storage that a restore made, and has not taken away, for it ended or is still at work.
    pub left: Vec<String>,
}

/// Looks at everything that a backup needs, and writes, copies and deletes one small object.
///
/// # Errors
/// The first thing that does not work.
pub async fn check(settings: &Settings) -> Result<Seen> {
    let milvus = Milvus::connect(&settings.milvus).await?;
    let storage = settings.storage.open()?;
    let backup = settings.backup.open()?;
    let storage_is_empty = match storage.list("").next().await {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(error)) if error.is_not_found() => true,
        Some(Err(error)) => return Err(Failure::from(error).during("Milvus's storage")),
    };
    let folders = match storage.folders().await {
        Ok(folders) => folders,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(Failure::from(error).during("Milvus's storage")),
    };
    let left = folders.into_iter().filter(|folder| folder.starts_with(TEMPORARY)).collect();
    let alone = copied(&backup).await.map_err(|failure| failure.during("the place of the backups"))?;
    let server_side = alone && settings.backup.config.endpoint == settings.storage.config.endpoint;
    Ok(Seen {
        milvus: format!("{} ({})", milvus.place(), milvus.version_text()),
        storage: storage.to_string(),
        storage_is_empty,
        backup: backup.to_string(),
        server_side,
        left,
    })
}

/// Whether the backups' place takes a copy, and whether its store made that by itself.
async fn copied(backup: &Bucket) -> Result<bool> {
    let (word, other) = (format!("check-{}", chance::word(6)), format!("check-{}-copy", chance::word(6)));
    backup.put(&word, WORDS).await?;
    let copied = backup.copy_from(backup, &word, &other, CopyCheck::Length).await;
    let read = backup.read(&other).await;
    backup.delete(&word).await?;
    backup.delete(&other).await?;
    let copied = copied?;
    if read? != WORDS {
        let what = format!("{backup} gives back something else than was written to it");
        return Err(Failure::new(Kind::Store, what, "do not keep backups there"));
    }
    Ok(copied.server_side)
}
