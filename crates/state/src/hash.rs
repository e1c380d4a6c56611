//! The digest of history that upstream calls HashKV: equal on every member, and equal to upstream's.
//!
//! CRC32C over the bucket's name, then key and value bytes of every record that counts, in order. Which count is a
//! bit odd, and kept so on purpose. For revision R and compaction C:
//! - after C (and up to R): all;
//! - up to C: those that would survive a compaction at *R* (not C), without tombstones;
//! - when nothing would survive a compaction at R: those that survive the one at C, without tombstones.
//!
//! Records that compaction has yet to drop never count, so the digest does not depend on how far it is.

use crate::answer::Refusal;
use crate::ids::{Position, Revision};
use crate::record::position_key;
use crate::state::State;
use crate::tables::{Records, TableFault, Tables};

/// A digest that is ready to be computed, outside of any lock.
#[derive(Debug, Clone)]
pub struct HashPlan<R> {
    records: R,
    revision: Revision,
    compacted: Option<Revision>,
    current: Revision,
    /// Records up to the compaction that count.
    kept: Vec<Position>,
}

/// A digest, and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashAnswer {
    /// CRC32C.
    pub hash: u32,
    /// The compacted revision; -1 when nothing was ever compacted.
    pub compact_revision: i64,
    /// The newest revision it covers.
    pub hash_revision: Revision,
    /// The store's revision when it was asked.
    pub revision: Revision,
}

impl<T: Tables> State<T> {
    /// Prepares the digest up to a revision (`None`: the current one). Walks the index once if the store was ever
    /// compacted; the rest is work for [`HashPlan::run`].
    ///
    /// # Errors
    /// The revision is compacted, or in the future.
    pub fn hash_kv(&self, revision: Option<Revision>) -> Result<HashPlan<T::Records>, Refusal> {
        let revision = self.readable(revision)?;
        let compacted = self.compacted();
        let kept = compacted.map_or_else(Vec::new, |compacted| self.kept(compacted.0, revision.0));
        Ok(HashPlan { records: self.tables.records(), revision, compacted, current: self.revision, kept })
    }

    fn kept(&self, compacted: i64, revision: i64) -> Vec<Position> {
        let survive = |at: i64| self.index.all().filter_map(move |(_, history)| history.at(at));
        let mut any = false;
        let mut kept: Vec<_> = survive(revision).inspect(|_| any = true).filter(|at| at.main <= compacted).collect();
        if !any {
            kept = survive(compacted).collect();
        }
        kept
    }
}

impl<R: Records> HashPlan<R> {
    /// Reads history and computes the digest.
    ///
    /// # Errors
    /// [`TableFault`] when a record is damaged.
    pub fn run(mut self) -> Result<HashAnswer, TableFault> {
        self.kept.sort_unstable();
        let mut kept = self.kept.iter().peekable();
        let compacted = self.compacted.map_or(-1, |revision| revision.0);
        let mut hash = crc32c::crc32c(b"key");
        let end = Position { main: self.revision.0.saturating_add(1), sub: 0 };
        self.records.scan(Position::default(), end, &mut |at, tombstone, record| {
            if at.main > compacted || kept.next_if_eq(&&at).is_some() {
                let (key, len) = position_key(at, tombstone);
                hash = crc32c::crc32c_append(hash, &key[..len]);
                hash = crc32c::crc32c_append(hash, record);
            }
            true
        })?;
        match kept.next() {
            Some(at) => Err(crate::open::damaged_record(*at, "the index knows it, but it is not there")),
            None => Ok(HashAnswer {
                hash,
                compact_revision: compacted,
                hash_revision: self.revision,
                revision: self.current,
            }),
        }
    }
}
