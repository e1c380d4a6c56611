//! Adoption: what a stopped etcd held becomes a data directory of ours, with the same cluster, member and name.

use std::path::Path;

use eyrie_raft::{HardState, LogStart, Membership};
use eyrie_state::{ClusterId, Halt, LogIndex, State, TableFault, Term};

use super::source::{EtcdDir, SourceFault};
use crate::datadir::{DataDir, Identity};
use crate::snapshot::{Edits, LayFault, finish, load_tables};
use crate::tables::{Options, RedbTables};

/// Why nothing was adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptFault {
    /// The source is not fit.
    #[error(transparent)]
    Source(#[from] SourceFault),
    /// The target could not be written.
    #[error(transparent)]
    Lay(#[from] LayFault),
    /// An entry of the source's log could not be applied.
    #[error("{0}. The source is untouched; the new data directory is not finished, delete it")]
    Apply(#[from] Halt),
}

/// What was adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The store's revision.
    pub revision: i64,
    /// Keys that live.
    pub keys: usize,
    /// Leases.
    pub leases: usize,
    /// Records of history in the database.
    pub records: u64,
    /// Log entries applied after it.
    pub entries: usize,
}

impl EtcdDir {
    /// Writes a new data directory; the source stays as it is. `name` replaces the member's name in the identity.
    ///
    /// # Errors
    /// [`AdoptFault`]; the data directory is then as it was, or marked unfinished.
    pub fn adopt(&self, data_dir: &Path, wal_dir: Option<&Path>, name: Option<&str>) -> Result<Adopted, AdoptFault> {
        let name = name.unwrap_or(self.name()).to_owned();
        let identity = Identity { cluster: ClusterId(self.cluster), member: self.member, name };
        let dir = DataDir::create_for_restore(data_dir, wal_dir, identity).map_err(LayFault::from)?;
        let edits = Edits { members: Some(self.stored_members.clone()), ..Edits::default() };
        let tally = load_tables(&dir, &self.database, &edits, self.applied)?;
        let (state, applied) = self.replay(&dir)?;
        let adopted = Adopted {
            revision: state.revision().0,
            keys: state.key_count(),
            leases: state.leases().len(),
            records: tally.records,
            entries: self.tail.len(),
        };
        drop(state);
        let start = LogStart {
            index: applied.0.0,
            term: applied.1.0,
            membership: Membership { voters: vec![self.member.0], learners: Vec::new() },
        };
        let term = self.hard_state.term.max(start.term);
        let vote = if term == self.hard_state.term { self.hard_state.vote } else { 0 };
        finish(&dir, &start, &HardState { term, vote, commit: start.index })?;
        Ok(adopted)
    }

    /// Applies the tail, and waits until the tables have it.
    fn replay(&self, dir: &DataDir) -> Result<(State<RedbTables>, (LogIndex, Term)), AdoptFault> {
        let fault = |fault: TableFault| AdoptFault::Lay(LayFault::Tables(fault));
        let tables = RedbTables::open(&dir.tables_path(), Options::default()).map_err(fault)?;
        let mut state = State::open(tables)?;
        for entry in &self.tail {
            match &entry.command {
                Some(command) => drop(state.apply(entry.index, entry.term, command.clone())?),
                None => state.apply_nothing(entry.index, entry.term)?,
            }
        }
        state.tables().flush().map_err(fault)?;
        let applied = state.applied();
        Ok((state, applied))
    }
}
