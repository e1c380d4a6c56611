//! What a moment in the archive holds: a full, and the tail on top of it, folded into live keys.
//!
//! Every file is checked against its record, and every piece against the one before, on the way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use eyrie_archive::names::Wrap;
use eyrie_archive::record;
use eyrie_archive::resolve::{Stop, Target};
use eyrie_archive::{Revision, UnixMillis};
use eyrie_disk::snapshot::{SnapshotFault, SnapshotFile};
pub use eyrie_milvus::Description;
use eyrie_milvus::{Catalog as MilvusCatalog, Layout};
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::bucket::{Bucket, BucketError, ByteRange};
use crate::chance;
use crate::history::{Event, Revised};
use crate::limits::TAIL_FETCHES;
use crate::seal::{Identities, SealError, open};
use crate::source;
use crate::tail::segment::{Segment, SegmentFault};
use crate::unpack::{self, UnpackError};

/// Why the inside cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// A file.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A piece of tail.
    #[error("{name}: {fault}. Next: eyrie backup verify")]
    Segment {
        /// The file.
        name: String,
        /// What is wrong.
        fault: SegmentFault,
    },
    /// The snapshot inside a full.
    #[error("{name}: {fault}. Next: eyrie backup verify")]
    Snapshot {
        /// The file.
        name: String,
        /// What is wrong.
        fault: SnapshotFault,
    },
    /// A file that is not what its record says.
    #[error("{name} is not what its record says: {what}. Next: eyrie backup verify")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The scratch file.
    #[error("cannot write a scratch file in {folder}: {cause}. Next: make room there")]
    Scratch {
        /// Its folder.
        folder: String,
        /// The system's answer.
        cause: std::io::Error,
    },
}

/// Live keys of one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySpace {
    /// The revision.
    pub revision: Revision,
    /// Keys and values, in key order.
    pub pairs: BTreeMap<Bytes, Bytes>,
}

impl KeySpace {
    fn take(&mut self, revised: Revised) {
        for event in revised.events {
            match event {
                Event::Put { key, value, .. } => drop(self.pairs.insert(key, value)),
                Event::Delete { key } => drop(self.pairs.remove(&key)),
            }
        }
        self.revision = Revision(revised.revision.0);
    }

    /// Every Milvus in it, in words; those that are not understood with the reason instead.
    pub fn describe(&self) -> Vec<Result<Description, String>> {
        let pairs = || self.pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        Layout::detect(pairs())
            .into_iter()
            .map(|layout| match layout.check() {
                Ok(()) => Ok(Description::of(&layout, &MilvusCatalog::read(&layout.roots, pairs()))),
                Err(refusal) => Err(refusal.to_string()),
            })
            .collect()
    }
}

/// Fetches the full of a target into a scratch file that has no name any more, checked and ready to be read.
///
/// # Errors
/// [`InsideError`].
pub async fn full(
    bucket: &Bucket,
    target: &Target,
    keys: &Identities,
    scratch: &Path,
) -> Result<SnapshotFile, InsideError> {
    let taken = &target.full.taken;
    let name = taken.stored.path.to_string();
    let damaged = |what: &str| InsideError::Damaged { name: name.clone(), what: what.into() };
    let failed = |cause| InsideError::Scratch { folder: scratch.display().to_string(), cause };
    let reading = bucket.read_stream(taken.stored.path.as_str(), ByteRange::ALL).await?;
    if reading.len != taken.stored.len {
        return Err(damaged("its length is another"));
    }
    let bytes = reading.bytes.map_err(UnpackError::from);
    let mut plain = open(bytes, Wrap::of(&taken.stored.path), keys, taken.plain.len).await?;
    let path = scratch.join(format!("eyrie-inside-{}-{}.db", std::process::id(), chance::word(4)));
    let mut file = create_private(&path).map_err(failed)?;
    // it holds every secret of the cluster: without a name from the start, a death leaves nothing of it behind
    std::fs::remove_file(&path).map_err(failed)?;
    let outcome: Result<SnapshotFile, InsideError> = async {
        let (mut hash, mut len) = (Sha256::new(), 0u64);
        while let Some(piece) = plain.try_next().await? {
            hash.update(&piece);
            len += piece.len() as u64;
            file.write_all(&piece).map_err(failed)?;
        }
        file.rewind().map_err(failed)?;
        if len != taken.plain.len || <[u8; 32]>::from(hash.finalize()) != taken.plain.sha256.0 {
            return Err(damaged("its content is another"));
        }
        SnapshotFile::open_for_restore(&nameless(&file), false)
            .map_err(|fault| InsideError::Snapshot { name: name.clone(), fault })
    }
    .await;
    outcome
}

/// Visits the revisions of the tail of a target, oldest first, those after the full and up to where it stops. Several pieces
/// are fetched at once.
///
/// # Errors
/// [`InsideError`].
pub async fn tail(
    bucket: &Bucket,
    target: &Target,
    keys: &Identities,
    mut visit: impl FnMut(Revised),
) -> Result<(), InsideError> {
    let mut before = None;
    let fetches = target.tail.iter().map(|piece| piece_of_tail(bucket, piece, keys));
    let mut fetched = futures::stream::iter(fetches).buffered(TAIL_FETCHES);
    for piece in &target.tail {
        let Some((segment, hash)) = fetched.try_next().await? else { break };
        if before.is_some_and(|before| before != segment.previous) {
            let (name, what) = (piece.stored.path.to_string(), "it does not follow the piece before it".into());
            return Err(InsideError::Damaged { name, what });
        }
        before = Some(hash);
        for revised in segment.revisions {
            if revised.revision.0 > target.full.taken.revision.0 && is_wanted(&target.stop, &revised) {
                visit(revised);
            }
        }
    }
    Ok(())
}

/// One piece of tail, checked against its record, and the hash that the next piece names it by.
///
/// # Errors
/// [`InsideError`].
pub async fn piece_of_tail(
    bucket: &Bucket,
    piece: &record::Segment,
    keys: &Identities,
) -> Result<(Segment, [u8; 32]), InsideError> {
    let name = || piece.stored.path.to_string();
    let bytes = unpack::bytes_with(bucket, &piece.stored, keys).await?;
    let segment = Segment::decode(&bytes).map_err(|fault| InsideError::Segment { name: name(), fault })?;
    let (first, last) = segment.bounds();
    if (first.0, last.0) != (piece.first.0, piece.last.0) {
        return Err(InsideError::Damaged { name: name(), what: "it holds other revisions".into() });
    }
    let followed_as = piece.followed_as.map_or_else(|| Sha256::digest(&bytes).into(), |hash| hash.0);
    Ok((segment, followed_as))
}

/// The live keys at a target.
///
/// # Errors
/// [`InsideError`].
pub async fn keys_at(
    bucket: &Bucket,
    target: &Target,
    keys: &Identities,
    scratch: &Path,
) -> Result<KeySpace, InsideError> {
    let file = full(bucket, target, keys, scratch).await?;
    let mut space = KeySpace::default();
    source::history(&file, |revised| space.take(revised))
        .map_err(|fault| InsideError::Snapshot { name: target.full.taken.stored.path.to_string(), fault })?;
    space.revision = space.revision.max(target.full.taken.revision);
    tail(bucket, target, keys, |revised| space.take(revised)).await?;
    Ok(space)
}

fn is_wanted(stop: &Stop, revised: &Revised) -> bool {
    match stop {
        Stop::Revision(last) => revised.revision.0 <= last.0,
        Stop::Time { at_ms, .. } => UnixMillis(i64::try_from(revised.heard_at.0).unwrap_or(i64::MAX)) <= *at_ms,
    }
}

/// A path to an open file that has no name any more.
pub(crate) fn nameless(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}
