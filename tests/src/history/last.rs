//! What the members hold when all is over.

use anyhow::{Result, ensure};

use super::log::{Log, Pair};

/// What one member holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Which.
    pub member: String,
    /// Its revision.
    pub revision: i64,
    /// All its pairs, in the order of keys.
    pub pairs: Vec<Pair>,
    /// Its digest of history at that revision (HashKV), and the compaction that this covers.
    pub digest: (u32, i64),
}

/// Checks that all hold the same, and that it is what the log leaves.
///
/// # Errors
/// Who holds something else.
pub(super) fn check(ends: &[End], log: &Log) -> Result<()> {
    for end in ends {
        let (newest, member) = (log.newest(), &end.member);
        ensure!(end.revision == newest, "{member} is at revision {}, the watchers heard {newest}", end.revision);
        let wanted = log.all_at(newest);
        ensure!(end.pairs == wanted, "{member} holds {:?}, the history leaves {wanted:?}", end.pairs);
        let first = &ends[0];
        ensure!(
            end.digest == first.digest,
            "{member} has the digest {:?}, {} has {:?}",
            end.digest,
            first.member,
            first.digest
        );
    }
    Ok(())
}
