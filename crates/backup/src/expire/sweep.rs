//! The deletions of an expiry: which names, and what becomes of each.

use std::collections::BTreeSet;

use eyrie_archive::names::{self, Wrap};
use eyrie_archive::record::{Left, Stored};
use eyrie_archive::{Catalog, Index, Line, Seq, Sha256, StoredPath, limits::NAMED_MAX};
use futures::StreamExt;

use super::ExpireError;
use crate::bucket::{Bucket, BucketError, Kind};
use crate::catalog::ArchiveError;
use crate::unpack;

/// What an expiry has to delete.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The expiry's record.
    pub expired: Seq,
    /// The files, in the order in which they go.
    pub files: Vec<Stored>,
    /// Why the objects are not among them.
    pub objects_unknown: Option<String>,
    /// The names at the source of the objects among them.
    pub(crate) sources: Vec<String>,
}

/// What became of deletions.
#[derive(Debug, Clone, Default)]
pub struct Deleted {
    /// Files that are gone.
    pub files: u64,
    /// Files that the store refuses to delete.
    pub left: Vec<Left>,
    /// Why it ended early.
    pub unfinished: Option<String>,
}

impl Sweep {
    /// What is to be deleted for an expiry; none: all of it is. An object that was mirrored again since then stays: its name
    /// is the same.
    ///
    /// # Errors
    /// The list of objects can't be read.
    pub async fn of(
        bucket: &Bucket,
        catalog: &Catalog,
        index: Option<&Index>,
        seq: Seq,
    ) -> Result<Option<Self>, ExpireError> {
        let Some((_, rest)) = catalog.unswept().find(|(found, _)| *found == seq) else { return Ok(None) };
        let mut sweep = Self { expired: seq, files: rest.files.clone(), objects_unknown: None, sources: Vec::new() };
        if let Some(list) = &rest.objects {
            match removals(bucket, index, list).await {
                Ok((sources, files)) => {
                    sweep.files.extend(files);
                    sweep.sources = sources;
                }
                Err(Trouble::Passing(error)) => return Err(error),
                Err(Trouble::Lasting(why)) => sweep.objects_unknown = Some(why),
            }
        }
        // Last, and after all else is gone: what the catalogue itself is made of.
        let named: BTreeSet<StoredPath> = rest.files.iter().map(|file| file.path.clone()).collect();
        sweep.files.extend(rest.names().filter(|name| !named.contains(name)).map(unknown));
        Ok(Some(sweep))
    }

    /// Whether all that the expiry gave up is in it.
    pub fn is_whole(&self) -> bool {
        self.objects_unknown.is_none()
    }
}

enum Trouble {
    Passing(ExpireError),
    Lasting(String),
}

async fn removals(
    bucket: &Bucket,
    index: Option<&Index>,
    list: &Stored,
) -> Result<(Vec<String>, Vec<Stored>), Trouble> {
    let lasting = |error: &dyn std::fmt::Display| Trouble::Lasting(error.to_string());
    let bytes = match unpack::bytes(bucket, list).await {
        Ok(bytes) => bytes,
        Err(unpack::UnpackError::Bucket(error)) if !error.is_not_found() => {
            return Err(Trouble::Passing(ArchiveError::from(error).into()));
        }
        Err(error) => return Err(lasting(&error)),
    };
    let lines = eyrie_archive::index::decode_piece(&bytes).map_err(|error| lasting(&error))?;
    let index =
        index.ok_or_else(|| lasting(&"the index can't be read: which of them are mirrored again is not known"))?;
    let (mut sources, mut files) = (Vec::new(), Vec::new());
    for line in lines {
        let Line::Removed { source, stored } = line else { continue };
        if index.get(source.as_str()).is_some() {
            continue;
        }
        match stored {
            Some(stored) => files.push(stored),
            None => files.extend(every_wrap().filter_map(|wrap| names::object(&source, wrap).ok()).map(unknown)),
        }
        sources.push(source.into());
    }
    Ok((sources, files))
}

fn every_wrap() -> impl Iterator<Item = Wrap> {
    [(false, false), (true, false), (false, true), (true, true)].into_iter().map(|(zstd, age)| Wrap { zstd, age })
}

/// A file of which only the name is known.
pub(super) fn unknown(path: StoredPath) -> Stored {
    Stored { path, len: 0, sha256: Sha256([0; 32]), locked_until_ms: None }
}

/// Deletes files, several at once. A lock is no failure; a store that forbids everything, or does not answer, ends it.
pub async fn delete(bucket: &Bucket, files: &[Stored]) -> Deleted {
    let mut done = Deleted::default();
    let deletions = files.to_vec().into_iter().map(|file| delete_one(bucket.clone(), file));
    let mut deletions = futures::stream::iter(deletions).buffer_unordered(bucket.parallel());
    while let Some((file, outcome)) = deletions.next().await {
        match outcome {
            Ok(()) => done.files += 1,
            Err(error) if error.kind == Kind::Locked => {
                done.left.push(Left { stored: file, why: error.cause });
            }
            Err(error) => {
                done.unfinished = Some(error.to_string());
                break;
            }
        }
    }
    done
}

async fn delete_one(bucket: Bucket, file: Stored) -> (Stored, Result<(), BucketError>) {
    let outcome = bucket.delete(file.path.as_str()).await;
    (file, outcome)
}

impl Deleted {
    pub(crate) fn add(&mut self, other: Deleted) {
        self.files += other.files;
        self.left.extend(other.left);
        self.unfinished = self.unfinished.take().or(other.unfinished);
    }

    /// Whether the catalogue may be told that the rest is deleted.
    pub(crate) fn can_be_recorded(&self) -> bool {
        self.unfinished.is_none() && self.left.len() <= NAMED_MAX
    }
}
