//! What must hold at every moment, whatever happens; the first thing that does not ends the run.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use eyrie_raft::{Entry, Standing};

/// Everything that was ever promised.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// It looks away: what comes of it is for others to find.
    pub(crate) blind: bool,
    leaders: BTreeMap<u64, u64>,
    committed: BTreeMap<u64, (u64, u32)>,
    digests: BTreeMap<u64, (i64, u32)>,
}

impl Oracle {
    /// One leader a term.
    pub(crate) fn stands(&mut self, member: u64, standing: Standing) -> Result<()> {
        if standing.is_leader && !self.blind {
            let known = *self.leaders.entry(standing.term).or_insert(member);
            ensure!(known == member, "members {known} and {member} both lead in term {}", standing.term);
        }
        Ok(())
    }

    /// What is committed is committed for ever, and the same for all.
    pub(crate) fn committed(&mut self, member: u64, entry: &Entry) -> Result<()> {
        let what = (entry.term, digest_of(&entry.data));
        let known = *self.committed.entry(entry.index).or_insert(what);
        ensure!(
            known == what || self.blind,
            "entry {} was committed as {known:?}, member {member} is told that it is {what:?}",
            entry.index
        );
        Ok(())
    }

    /// Who has applied the same holds the same.
    pub(crate) fn holds(&mut self, member: u64, index: u64, revision: i64, digest: u32) -> Result<()> {
        let known = *self.digests.entry(index).or_insert((revision, digest));
        ensure!(
            known == (revision, digest) || self.blind,
            "after entry {index} a member held {known:?}, member {member} holds {:?}",
            (revision, digest)
        );
        Ok(())
    }

    /// How much was promised: leaders, entries, digests that were compared.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.leaders.len(), self.committed.len(), self.digests.len())
    }
}

fn digest_of(data: &Bytes) -> u32 {
    crc32c::crc32c(data)
}
