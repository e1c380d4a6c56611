//! The metadata of a moment out of the archive: every file checked, and the full compared with what its members answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eyrie_archive::Target;
use eyrie_archive::resolve::Stop;
use eyrie_disk::snapshot::SnapshotFile;

use super::image::SmallTables;
use super::keys::LiveKeys;
use super::{RestoreError, Watch};
use crate::bucket::Bucket;
use crate::inside;
use crate::limits::MIRROR_PROGRESS_EVERY;
use crate::seal::Identities;

/// A moment, read.
pub(super) struct Read {
    pub(super) keys: LiveKeys,
    pub(super) small: SmallTables,
    pub(super) revision: i64,
    /// When it was, by the clock of the backup.
    pub(super) at_ms: i64,
    /// What was read of the archive.
    pub(super) stored_bytes: u64,
}

/// Fetches the full, folds the tail on it, and tells how far it is.
pub(super) async fn watched(
    archive: &Bucket,
    target: &Target,
    identities: &Identities,
    scratch: &Path,
    watch: &dyn Watch,
) -> Result<Read, RestoreError> {
    let meter = Arc::<AtomicU64>::default();
    let metered = archive.with_meter(meter.clone());
    let tail: u64 = target.tail.iter().map(|piece| piece.stored.len).sum();
    watch.total(0, target.full.taken.stored.len + tail);
    let mut reading = std::pin::pin!(metadata(&metered, target, identities, scratch));
    let mut tick = tokio::time::interval(MIRROR_PROGRESS_EVERY);
    loop {
        tokio::select! {
            read = &mut reading => {
                watch.read(meter.swap(0, Ordering::Relaxed));
                return read;
            }
            _ = tick.tick() => watch.read(meter.swap(0, Ordering::Relaxed)),
        }
    }
}

async fn metadata(
    archive: &Bucket,
    target: &Target,
    identities: &Identities,
    scratch: &Path,
) -> Result<Read, RestoreError> {
    let taken = &target.full.taken;
    let file = inside::full(archive, target, identities, scratch).await?;
    let members = taken.members.clone();
    let folded = tokio::task::spawn_blocking(move || fold(&file, &members)).await;
    let (mut keys, small) = folded.map_err(|error| RestoreError::Task(error.to_string()))??;
    let name = taken.stored.path.to_string();
    if keys.revision != taken.revision.0 || keys.len() as u64 != taken.keys {
        let what = format!(
            "it holds {} keys of revision {}, and {} of revision {} were recorded",
            keys.len(),
            keys.revision,
            taken.keys,
            taken.revision
        );
        return Err(inside::InsideError::Damaged { name, what }.into());
    }
    let mut at_ms = taken.taken_at_ms.0;
    inside::tail(archive, target, identities, |revised| {
        keys.follow(&revised);
        at_ms = i64::try_from(revised.heard_at.0).unwrap_or(i64::MAX);
    })
    .await?;
    if let Stop::Revision(wanted) = target.stop
        && wanted.0 != keys.revision
    {
        let what = format!("with its tail it reaches revision {}, and {wanted} was wanted", keys.revision);
        return Err(inside::InsideError::Damaged { name, what }.into());
    }
    let tail: u64 = target.tail.iter().map(|piece| piece.stored.len).sum();
    let (revision, stored_bytes) = (keys.revision, taken.stored.len + tail);
    Ok(Read { keys, small, revision, at_ms, stored_bytes })
}

/// The live keys of a full. Its digest must be the one that the source's members answered when it was taken.
fn fold(
    file: &SnapshotFile,
    members: &[eyrie_archive::record::MemberDigest],
) -> Result<(LiveKeys, SmallTables), RestoreError> {
    std::thread::scope(|scope| {
        let hashing = scope.spawn(|| if members.is_empty() { Ok(None) } else { file.hash_kv(0).map(Some) });
        let keys = LiveKeys::of(file)?;
        let small = SmallTables::of(file)?;
        let hash = hashing.join().map_err(|_| RestoreError::Task("hashing the full".into()))??;
        for member in members {
            let Some(hash) = hash.filter(|hash| hash.compact_revision == member.compact_revision.0) else { continue };
            if (hash.revision, hash.hash) != (member.revision.0, member.hash) {
                return Err(RestoreError::Refused(format!(
                    "the full of revision {} has digest {:08x}, but member {} had {:08x} when it was taken. Nothing was \
                     changed. Next: eyrie backup verify, and choose a moment before or after it",
                    member.revision, hash.hash, member.member, member.hash
                )));
            }
        }
        Ok((keys, small))
    })
}
