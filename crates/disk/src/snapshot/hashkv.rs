//! HashKV of a file: the digest over history by which members compare themselves.

use std::collections::HashMap;

use bytes::Bytes;
use eyrie_state::record::{self, META_COMPACT_FINISHED, META_COMPACT_SCHEDULED, parse_position_key, position_key};
use eyrie_state::{Bucket, Position};

use super::{SnapshotFault, SnapshotFile};

/// What a member that serves this file would answer to `HashKV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the records.
    pub hash: u32,
    /// The last revision in it.
    pub revision: i64,
    /// History begins after it; -1 when nothing was ever compacted.
    pub compact_revision: i64,
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashFault {
    /// See [`SnapshotFault`].
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
    /// History of that revision is gone.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The file does not know that revision yet.
    #[error("mvcc: required revision is a future revision")]
    Future,
}

impl SnapshotFile {
    /// The digest at `revision`; 0 for the last one.
    ///
    /// A compaction that the file has only scheduled counts as done, as it would once a member served the file.
    ///
    /// # Errors
    /// [`HashFault`] when the revision is out of range or a record makes no sense.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, HashFault> {
        let compact_revision = self.compact_revision()?;
        let mut current = compact_revision.max(1);
        self.history::<SnapshotFault>(|at, _, _| {
            current = current.max(at.main);
            Ok(())
        })?;
        if revision > 0 && revision <= compact_revision {
            return Err(HashFault::Compacted);
        }
        if revision > current {
            return Err(HashFault::Future);
        }
        let upto = if revision == 0 { current } else { revision };
        let kept = self.kept(upto, compact_revision)?;
        let mut hash = crc32c::crc32c(b"key");
        self.history::<SnapshotFault>(|at, tombstone, record| {
            let dropped = at.main <= compact_revision && kept.binary_search(&at).is_err();
            if at.main <= upto && !dropped {
                let (name, len) = position_key(at, tombstone);
                hash = crc32c::crc32c_append(hash, &name[..len]);
                hash = crc32c::crc32c_append(hash, record);
            }
            Ok(())
        })?;
        Ok(HashKv { hash, revision: upto, compact_revision })
    }

    /// The revision that history begins after; -1 when nothing was compacted.
    ///
    /// # Errors
    /// [`SnapshotFault`] when the mark is not one.
    pub fn compact_revision(&self) -> Result<i64, SnapshotFault> {
        let mut revision = -1;
        for (key, value) in self.small(Bucket::Meta)? {
            if key == META_COMPACT_FINISHED || key == META_COMPACT_SCHEDULED {
                let (at, _) = parse_position_key(&value).ok_or_else(|| {
                    SnapshotFault::Foreign(format!("meta {} is not a revision", String::from_utf8_lossy(&key)))
                })?;
                revision = revision.max(at.main);
            }
        }
        Ok(revision)
    }

    /// Which records at or before the compaction still show at `upto`.
    fn kept(&self, upto: i64, compact_revision: i64) -> Result<Vec<Position>, SnapshotFault> {
        if compact_revision <= 0 {
            return Ok(Vec::new());
        }
        let old = |at: Position| at.main <= compact_revision;
        let mut kept = live(&self.last_of_keys(upto, old)?);
        // when no key at all lives at `upto`, upstream drops nothing more than the compaction did
        if kept.is_empty() && live(&self.last_of_keys(upto, |_| true)?).is_empty() {
            kept = live(&self.last_of_keys(compact_revision, old)?);
        }
        Ok(kept)
    }

    /// The last record at or before `upto` of each key that has a record which `counts`; `None` for a tombstone.
    fn last_of_keys(
        &self,
        upto: i64,
        counts: impl Fn(Position) -> bool,
    ) -> Result<HashMap<Bytes, Option<Position>>, SnapshotFault> {
        let mut last: HashMap<Bytes, Option<Position>> = HashMap::new();
        self.history::<SnapshotFault>(|at, tombstone, record| {
            // a bump record has no key
            let key = &record[record::view(record).unwrap_or_default().key];
            let now = (!tombstone).then_some(at);
            if let Some(entry) = last.get_mut(key).filter(|_| at.main <= upto) {
                *entry = now;
            } else if at.main <= upto && counts(at) {
                last.insert(Bytes::copy_from_slice(key), now);
            }
            Ok(())
        })?;
        Ok(last)
    }
}

/// Positions of the last records that are no tombstones, ascending.
fn live(last: &HashMap<Bytes, Option<Position>>) -> Vec<Position> {
    let mut positions: Vec<Position> = last.values().flatten().copied().collect();
    positions.sort_unstable();
    positions
}
