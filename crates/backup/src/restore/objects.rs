//! Objects on their way back: from the archive into a bucket, each whole and with its own hash, or not there at all.

use std::collections::BTreeMap;

use bytes::Bytes;
use eyrie_archive::names::Wrap;
use eyrie_archive::{Entry, Sha256, SourcePath};
use eyrie_milvus::ObjectRoot;
use futures::{Stream, StreamExt, TryStreamExt};
use sha2::Digest;

use super::{RestoreError, Watch};
use crate::bucket::{Bucket, ByteRange, CopyCheck, Kind};
use crate::limits::{COPY_ATTEMPTS, ENVELOPES_TRIED, SEAL_HEADER_BYTES_MAX};
use crate::seal::{Identities, open};
use crate::unpack::UnpackError;

/// Where objects go.
#[derive(Debug, Clone)]
pub struct ObjectsTo {
    /// Milvus's bucket.
    pub bucket: Bucket,
    /// Where in it; absent: as at the source, or below `files` where that was a folder.
    pub at: Option<ObjectRoot>,
    /// Where the archive's objects lay at their source; absent: as their names tell.
    pub from: Option<ObjectRoot>,
    /// The bucket may hold other objects, and what is damaged there is replaced.
    pub into_existing: bool,
}

/// The same, with all that is known.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) at: ObjectRoot,
    pub(super) from: ObjectRoot,
    pub(super) into_existing: bool,
}

impl<'a> Place<'a> {
    /// `guessed` is where the source's objects seem to have been.
    pub(super) fn new(to: &'a ObjectsTo, guessed: impl FnOnce() -> ObjectRoot) -> Self {
        let from = to.from.clone().unwrap_or_else(guessed);
        let was_folder = from.is_folder() || from.prefix().is_empty();
        let at = match &to.at {
            Some(at) => at.clone(),
            None if was_folder => ObjectRoot::bucket(ROOT_DEFAULT),
            None => from.clone(),
        };
        // from a folder whose path nobody told into another: names stay as they are
        let from = if to.from.is_none() && was_folder && at.is_folder() { at.clone() } else { from };
        Self { bucket: &to.bucket, at, from, into_existing: to.into_existing }
    }

    /// An object's name here.
    pub(super) fn name(&self, source: &SourcePath) -> String {
        let source = source.as_str();
        let below = source.strip_prefix(&*self.from.prefix()).unwrap_or(source);
        format!("{}{below}", self.at.prefix())
    }

    /// An object's name in the archive, from its name here.
    fn source(&self, name: &str) -> Option<SourcePath> {
        let below = name.strip_prefix(&*self.at.prefix())?;
        SourcePath::new(format!("{}{below}", self.from.prefix())).ok()
    }
}

/// Milvus's own default of `minio.rootPath`.
const ROOT_DEFAULT: &str = "files";

/// What the bucket holds before anything is written.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// By the names of the archive, with their lengths.
    pub(super) known: BTreeMap<SourcePath, u64>,
    /// Below the root, and not by these names.
    pub(super) others: u64,
    /// One of them.
    pub(super) example: Option<String>,
}

/// Lists the bucket below its root.
pub(super) async fn look(to: &Place<'_>) -> Result<BTreeMap<String, (SourcePath, u64)>, RestoreError> {
    let mut all = BTreeMap::new();
    let prefix = to.at.prefix();
    let mut listed = to.bucket.list(&prefix);
    loop {
        match listed.try_next().await {
            Ok(Some(entry)) => {
                if let Some(source) = to.source(&entry.key) {
                    all.insert(entry.key, (source, entry.stat.len));
                }
            }
            Ok(None) => return Ok(all),
            // a folder that does not exist yet has nothing in it
            Err(error) if error.is_not_found() => return Ok(all),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Which of the objects that shall come back are there already, byte for byte; what has the name and other bytes is not.
pub(super) async fn compare(
    to: &Place<'_>,
    wanted: &BTreeMap<SourcePath, &Entry>,
    watch: &dyn Watch,
) -> Result<Present, RestoreError> {
    let mut present = Present::default();
    let mut same_length = Vec::new();
    for (key, (source, len)) in look(to).await? {
        match wanted.get(&source) {
            Some(entry) if entry.len == len => same_length.push((key, *entry)),
            // another length: in a bucket that is in use it is replaced, else the plan says that it is in the way
            Some(_) if to.into_existing => {}
            Some(_) => drop(present.known.insert(source, len)),
            None => {
                present.others += 1;
                present.example.get_or_insert(key);
            }
        }
    }
    if !same_length.is_empty() {
        watch.step(&format!("comparing {} objects that are there already", same_length.len()));
    }
    let compared = futures::stream::iter(same_length)
        .map(|(key, entry)| async move {
            match to.bucket.sha256(&key).await {
                Ok((_, hash)) => Ok(Some((hash, key, entry))),
                // the listing was old: it is not there
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(RestoreError::from(error)),
            }
        })
        .buffer_unordered(to.bucket.parallel());
    let mut compared = std::pin::pin!(compared);
    while let Some(one) = compared.try_next().await? {
        let Some((hash, key, entry)) = one else { continue };
        if Sha256(hash) == entry.sha256 {
            present.known.insert(entry.source.clone(), entry.len);
        } else if !to.into_existing {
            return Err(RestoreError::Refused(format!(
                "{}/{key} has the length of the archive's, and other bytes. Nothing was changed. Next: restore into an \
                 empty bucket; or have what is damaged replaced: --into-existing",
                to.bucket
            )));
        }
    }
    Ok(present)
}

/// Makes sure that the keys open what is sealed: a sample of the envelopes, before anything is written.
pub(super) async fn try_envelopes(archive: &Bucket, keys: &Identities, entries: &[&Entry]) -> Result<(), RestoreError> {
    let sealed: Vec<&&Entry> = entries.iter().filter(|entry| Wrap::of(&entry.stored.path).age).collect();
    let step = sealed.len().div_ceil(ENVELOPES_TRIED).max(1);
    for entry in sealed.into_iter().step_by(step) {
        let head = archive.read_stream(entry.stored.path.as_str(), 0..SEAL_HEADER_BYTES_MAX).await?;
        drop(open(head.bytes.map_err(UnpackError::from), Wrap::of(&entry.stored.path), keys, entry.len).await?);
    }
    Ok(())
}

/// Copies one object to its new name. It is visible there only with the right bytes.
pub(super) async fn restore_one(
    archive: &Bucket,
    keys: &Identities,
    entry: &Entry,
    to: &Bucket,
    name: &str,
) -> Result<(), RestoreError> {
    let mut attempt = 1;
    loop {
        match once(archive, keys, entry, to, name).await {
            // the stream can't be rewound by a write that fails in its middle; here it can begin again
            Err(RestoreError::Unpack(UnpackError::Bucket(error)))
                if error.kind == Kind::Unavailable && attempt < COPY_ATTEMPTS =>
            {
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn once(archive: &Bucket, keys: &Identities, entry: &Entry, to: &Bucket, name: &str) -> Result<(), RestoreError> {
    let stored = &entry.stored;
    let wrap = Wrap::of(&stored.path);
    let damaged = |what| UnpackError::Damaged { name: stored.path.to_string(), what };
    if wrap == Wrap::default() {
        let copied = to.copy_from(archive, stored.path.as_str(), name, CopyCheck::Sha256).await?;
        if copied.len == entry.len && copied.sha256.map(Sha256) == Some(entry.sha256) {
            return Ok(());
        }
        to.delete(name).await?;
        return Err(damaged("its bytes are others; the copy was taken away again").into());
    }
    let reading = archive.read_stream(stored.path.as_str(), ByteRange::ALL).await?;
    if reading.len != stored.len {
        return Err(damaged("its length is another").into());
    }
    let plain = open(reading.bytes.map_err(UnpackError::from), wrap, keys, entry.len).await?;
    let checked = hashed(plain, entry.sha256, stored.path.to_string());
    let written = to.write_stream::<_, UnpackError>(name, checked, Some(entry.len)).await?;
    match to.stat(name).await? {
        Some(stat) if stat.len == written.len => Ok(()),
        _ => Err(RestoreError::Refused(format!(
            "{to}/{name} was written without an error, and is not there with its length. Next: type the same command again"
        ))),
    }
}

/// Looks at one object in the archive: that it is there with its length, or (`read`) every byte of it.
pub(crate) async fn check_one(
    archive: &Bucket,
    keys: &Identities,
    entry: &Entry,
    read: bool,
) -> Result<(), RestoreError> {
    let stored = &entry.stored;
    let damaged = |what| UnpackError::Damaged { name: stored.path.to_string(), what };
    if !read {
        return match archive.stat(stored.path.as_str()).await? {
            Some(stat) if stat.len == stored.len => Ok(()),
            Some(_) => Err(damaged("its length is another").into()),
            None => Err(damaged("it is not there").into()),
        };
    }
    let reading = archive.read_stream(stored.path.as_str(), ByteRange::ALL).await?;
    let wrap = Wrap::of(&stored.path);
    let plain = open(reading.bytes.map_err(UnpackError::from), wrap, keys, entry.len).await?;
    let checked = hashed(plain, entry.sha256, stored.path.to_string());
    let len = checked.try_fold(0, async |sum, piece| Ok(sum + piece.len() as u64)).await?;
    if len == entry.len { Ok(()) } else { Err(damaged("its length is another").into()) }
}

/// The same bytes; the last ones come only when all together have this hash.
fn hashed(
    plain: impl Stream<Item = Result<Bytes, UnpackError>> + Send,
    expected: Sha256,
    name: String,
) -> impl Stream<Item = Result<Bytes, UnpackError>> + Send {
    let state = (Box::pin(plain), sha2::Sha256::new(), name);
    futures::stream::try_unfold(state, move |(mut plain, mut hash, name)| async move {
        match plain.try_next().await? {
            Some(piece) => {
                hash.update(&piece);
                Ok(Some((piece, (plain, hash, name))))
            }
            None if Sha256(hash.finalize().into()) == expected => Ok(None),
            None => Err(UnpackError::Damaged { name, what: "its bytes are others" }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(to: &ObjectsTo) -> Place<'_> {
        Place::new(to, || ObjectRoot::bucket(""))
    }

    #[test]
    fn names_move_with_their_root_and_back() {
        let (files, folder) = (ObjectRoot::bucket("files"), ObjectRoot::folder("/data"));
        let other = ObjectRoot::bucket("x/y");
        let cases = [
            (&files, None, "files/insert_log/1", "files/insert_log/1"),
            (&files, Some(&other), "files/insert_log/1", "x/y/insert_log/1"),
            (&files, Some(&folder), "files/insert_log/1", "insert_log/1"),
            (&folder, None, "insert_log/1", "files/insert_log/1"),
            (&folder, Some(&other), "insert_log/1", "x/y/insert_log/1"),
        ];
        for (from, at, source, target) in cases {
            let (from, at) = (Some(from.clone()), at.cloned());
            let to = ObjectsTo { bucket: Bucket::memory(), at, from, into_existing: false };
            let place = place(&to);
            assert_eq!(place.name(&SourcePath::new(source).unwrap()), target);
            assert_eq!(place.source(target).unwrap().as_str(), source);
            assert!(place.source("insert_log/../../etc/passwd").is_none());
        }
    }

    #[test]
    fn from_folder_to_folder_nothing_moves() {
        let at = Some(ObjectRoot::folder("/new"));
        let to = ObjectsTo { bucket: Bucket::memory(), at, from: None, into_existing: false };
        let place = place(&to);
        assert_eq!(place.from, place.at);
        assert_eq!(place.name(&SourcePath::new("insert_log/1").unwrap()), "insert_log/1");
    }
}
