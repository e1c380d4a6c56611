//! HashKV of a file: the digest over history by which members compare themselves.

use std::collections::HashMap;

use bytes::Bytes;
use eyrie_state::{Bucket, Position};

use super::{SnapshotFault, SnapshotFile, parse_record, parse_record_name, record_name};

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
        self.history::<SnapshotFault>(&mut |at, _, _| {
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
        self.history::<SnapshotFault>(&mut |at, tombstone, record| {
            let dropped = at.main <= compact_revision && !kept.holds(at);
            if at.main <= upto && !dropped {
                hash = crc32c::crc32c_append(hash, record_name(at, tombstone).as_ref());
                hash = crc32c::crc32c_append(hash, &record);
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
            if key.as_ref() == b"finishedCompactRev" || key.as_ref() == b"scheduledCompactRev" {
                let (at, _) = parse_record_name(&value).ok_or_else(|| {
                    SnapshotFault::Foreign(format!("meta {} is not a revision", String::from_utf8_lossy(&key)))
                })?;
                revision = revision.max(at.main);
            }
        }
        Ok(revision)
    }

    /// Which records at or before the compaction still show at `upto`.
    fn kept(&self, upto: i64, compact_revision: i64) -> Result<Kept, SnapshotFault> {
        if compact_revision <= 0 {
            return Ok(Kept { positions: Vec::new(), any: false });
        }
        let old = self.last_of_keys(upto, |at| at.main <= compact_revision)?;
        let mut positions: Vec<Position> = old.into_values().flatten().collect();
        positions.sort_unstable();
        let any = !positions.is_empty() || self.last_of_keys(upto, |_| true)?.values().any(Option::is_some);
        Ok(Kept { positions, any })
    }

    /// The last record at or before `upto` of each key that has a record which `counts`; `None` for a tombstone.
    fn last_of_keys(
        &self,
        upto: i64,
        counts: impl Fn(Position) -> bool,
    ) -> Result<HashMap<Bytes, Option<Position>>, SnapshotFault> {
        let mut last: HashMap<Bytes, Option<Position>> = HashMap::new();
        self.history::<SnapshotFault>(&mut |at, tombstone, record| {
            let key = parse_record(&record).unwrap_or_default().key;
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

struct Kept {
    positions: Vec<Position>,
    /// Some key lives at that revision. When none does, upstream drops nothing.
    any: bool,
}

impl Kept {
    fn holds(&self, at: Position) -> bool {
        !self.any || self.positions.binary_search(&at).is_ok()
    }
}
