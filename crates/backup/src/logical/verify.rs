//! `verify`: whether a backup is what was written.

use std::collections::BTreeMap;

use eyrie_milvus::logical::manifest::Object;
use eyrie_milvus::logical::{BackupName, Grouping, Manifest, layout};
use futures::{StreamExt, TryStreamExt};
use sha2::Digest;

use super::create::hex;
use super::failure::{Failure, Kind, Result};
use super::news::Tell;
use super::sealing;
use super::store::Store;
use crate::bucket::Bucket;
use crate::limits::META_LEN_MAX;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects whose content was compared by its hash.
    pub hashed: u64,
    /// Of these, those whose hash was remembered just now.
    pub recorded: u64,
    /// What is wrong, a sentence each.
    pub faults: Vec<String>,
    /// Whether there are no checksums at all, since another program wrote the backup.
    pub lengths_only: bool,
    /// Whether it is sealed and no private key was given: only what is stored was compared, not what is in it.
    pub unopened: bool,
}

/// Compares every object with what the backup says about it: length and, where it was recorded and `read` is wanted, hash.
///
/// # Errors
/// There is no such backup, or the store fails. What is wrong with the backup is no error but in the answer.
pub async fn verify(store: &Store, name: &BackupName, read: bool, tell: &Tell) -> Result<Verified> {
    compare(store, name, read, false, tell).await
}

/// The same, with every object read: of those that the store copied by itself, so that nobody saw their bytes, the hash is
/// remembered from now on, if they are what was copied by length and ETag.
///
/// # Errors
/// As [`verify`], or the list can't be written.
pub async fn record(store: &Store, name: &BackupName, tell: &Tell) -> Result<Verified> {
    compare(store, name, true, true, tell).await
}

async fn compare(store: &Store, name: &BackupName, read: bool, record: bool, tell: &Tell) -> Result<Verified> {
    let (info, manifest) = match store.read(name).await {
        Ok(backup) => (Some(backup.info), backup.manifest),
        Err(failure) if failure.kind == Kind::Damaged => {
            return Ok(Verified { faults: vec![failure.line()], ..Verified::default() });
        }
        Err(failure) if failure.kind == Kind::Denied && store.keys().is_empty() => (None, store.manifest(name).await?),
        Err(failure) => return Err(failure),
    };
    let folder = store.folder(name)?;
    let there = store.logs(name, manifest.as_ref()).await?;
    let mut found = Verified { lengths_only: manifest.is_none(), unopened: info.is_none(), ..Verified::default() };

    // Every log that the meta names, by the meta's own lengths; whoever wrote it.
    let mut named = BTreeMap::new();
    match (&info, &manifest) {
        (Some(info), _) => {
            for collection in &info.collection_backups {
                let grouping = Grouping::of(collection);
                named.extend(collection.segments().flat_map(|segment| layout::logs(segment, grouping)));
            }
        }
        (None, Some(manifest)) => {
            named.extend(manifest.objects.iter().map(|(key, object)| (key.clone(), object.content_len())));
        }
        (None, None) => {}
    }
    let sealed = manifest.as_ref().is_some_and(Manifest::is_sealed);
    for (key, len) in &named {
        found.objects += 1;
        match there.get(key) {
            None => found.faults.push(format!("{key} is missing")),
            Some(0) if *len != 0 && sealed => found.faults.push(format!("{key} has another length than was written")),
            Some(is) if *len != 0 && is != len => found.faults.push(format!("{key} has {is} bytes instead of {len}")),
            Some(is) => found.bytes += is,
        }
    }
    let Some(manifest) = &manifest else { return Ok(found) };
    for failed in &manifest.failed {
        found.faults.push(format!("{}.{} is not in the backup: {}", failed.database, failed.name, failed.why));
    }
    for (file, object) in &manifest.meta {
        let key = format!("meta/{file}");
        found.objects += 1;
        let bytes = match folder.read_max(&key, META_LEN_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                found.faults.push(format!("{key} is missing"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        found.hashed += 1;
        if Some(hex(&sha2::Sha256::digest(&bytes))) != object.sha256 {
            found.faults.push(format!("{key} is not what was written"));
        }
    }
    found.faults.extend(
        manifest
            .objects
            .keys()
            .filter(|key| !named.contains_key(*key))
            .map(|key| format!("{key} was written, and the meta files do not name it")),
    );
    found.faults.extend(
        named
            .keys()
            .filter(|key| !manifest.objects.contains_key(*key))
            .map(|key| format!("{key} is named by the meta files, and was never written")),
    );
    if read {
        tell.more(manifest.objects.len() as u64, manifest.objects.values().map(|object| object.len).sum());
        let hashes = futures::stream::iter(&manifest.objects).map(|(key, object)| {
            let (folder, sealed) = (&folder, manifest.is_sealed());
            async move {
                let at = match &object.held_by {
                    Some(holder) => store.bucket().below(holder)?,
                    None => folder.clone(),
                };
                let stored = if sealed { sealing::named(key) } else { key.clone() };
                let (mut fault, seen) = content(&at, &stored, object, record).await?;
                if sealed && fault.is_none() && !store.keys().is_empty() {
                    fault = opened(&at, &stored, object, store).await?;
                }
                tell.done(1, object.len);
                Ok::<_, Failure>((key, object.sha256.is_some(), fault, seen))
            }
        });
        let hashes: Vec<(&String, bool, Option<String>, Option<String>)> =
            hashes.buffered(folder.parallel()).try_collect().await?;
        let mut with = manifest.clone();
        for (key, hashed, fault, seen) in hashes {
            found.hashed += u64::from(hashed || seen.is_some());
            found.faults.extend(fault);
            if let (Some(object), Some(seen)) = (with.objects.get_mut(key), seen) {
                object.sha256 = Some(seen);
                found.recorded += 1;
            }
        }
        if found.recorded > 0 {
            store.bucket().put(&name.manifest(), with.to_bytes()).await?;
        }
    }
    Ok(found)
}

/// What is wrong with the content of an object; one that is missing was named before. Of one without a hash that hash, if it is
/// wanted and nothing is wrong.
async fn content(
    folder: &Bucket,
    key: &str,
    object: &Object,
    record: bool,
) -> Result<(Option<String>, Option<String>)> {
    let Some(stat) = folder.stat(key).await? else { return Ok((None, None)) };
    if let Some(wanted) = &object.sha256 {
        let (_, sha256) = folder.sha256(key).await?;
        return Ok(((hex(&sha256) != *wanted).then(|| format!("{key} is not what was written")), None));
    }
    if object.etag.is_some() && stat.etag.is_some() && object.etag != stat.etag {
        return Ok((Some(format!("{key} was written anew since (another ETag)")), None));
    }
    if !record || stat.len != object.len {
        return Ok((None, None));
    }
    let (len, sha256) = folder.sha256(key).await?;
    Ok((None, (len == object.len).then(|| hex(&sha256))))
}

/// Opens an envelope to its end, which is what says that it is whole and what was sealed.
async fn opened(folder: &Bucket, key: &str, object: &Object, store: &Store) -> Result<Option<String>> {
    match sealing::len(folder, key, object.content_len(), store.keys()).await {
        Ok(len) if len == object.content_len() => Ok(None),
        Ok(len) => Ok(Some(format!("{key} holds {len} bytes instead of {}", object.content_len()))),
        Err(failure) if matches!(failure.kind, Kind::Damaged | Kind::Denied) => Ok(Some(failure.line())),
        // It was named as missing before.
        Err(failure) if failure.kind == Kind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}
