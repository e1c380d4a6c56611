//! Restore: a snapshot file becomes the data directory of one member of a new cluster.
//!
//! Kept from the file: keys with their history, leases, alarms, users and roles, compaction marks, cluster version.
//! New: members, ids, the log.

use std::path::Path;

use eyrie_raft::{HardState, LogStart, Membership};
use eyrie_state::{LogIndex, Member, Term};

use super::lay::{Ahead, Edits, Laid, finish, load_tables};
use super::{LayFault, SnapshotFile, Unproven};
use crate::datadir::{DataDir, Identity};

/// A new cluster's log begins in this term, as upstream's does.
const FIRST_TERM: u64 = 1;

/// What a restore shall make.
#[derive(Debug, Clone)]
pub struct RestoreTarget<'a> {
    /// Absent, empty, or left over from a restore that did not end.
    pub data_dir: &'a Path,
    /// Where the log goes, if not into the data directory.
    pub wal_dir: Option<&'a Path>,
    /// The member whose directory it is.
    pub identity: Identity,
    /// All members of the new cluster.
    pub members: Vec<Member>,
    /// How far the revision is lifted over the file's; everything up to there is then marked as compacted. 0: not.
    pub bump_revision: u64,
}

/// What a restore has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Records of history, read back and compared with the file.
    pub records: u64,
    /// Revision of the last one.
    pub revision: i64,
    /// The file has authentication switched on.
    pub auth_enabled: bool,
}

/// Writes the data directory. The file was checked by [`SnapshotFile::open_for_restore`]; opened in another way, its
/// records are checked here, before anything is written.
///
/// The same file and cluster give every member the same log position, so that they agree from the first moment.
///
/// # Errors
/// [`LayFault`]; the data directory is then as it was, or marked unfinished.
pub fn restore(file: &SnapshotFile, target: RestoreTarget<'_>) -> Result<Restored, LayFault> {
    file.ensure_content()?;
    let plan = Plan::new(file, &target)?;
    let dir = DataDir::create_for_restore(target.data_dir, target.wal_dir, target.identity)?;
    let laid = load_tables(&dir, file, &plan.edits, plan.applied())?;
    plan.finish(&dir, laid)
}

/// As [`restore`], for a file whose hash is still being computed: the tables are made meanwhile, in a file without a name.
/// The data directory is begun when all is proven.
///
/// # Errors
/// [`LayFault`]; as for [`restore`]. What is wrong with the file is always told first.
pub fn restore_unproven(file: Unproven, target: RestoreTarget<'_>) -> Result<Restored, LayFault> {
    DataDir::may_restore(target.data_dir, target.wal_dir)?;
    let plan = Plan::new(file.file(), &target)?;
    let made = Ahead::load(beside(target.data_dir), file.file(), &plan.edits, plan.applied());
    let file = file.proven(matches!(made, Ok(Some(_))))?;
    let made = made?;
    let dir = DataDir::create_for_restore(target.data_dir, target.wal_dir, target.identity)?;
    let laid = match made {
        Some(ahead) => ahead.lay(&dir)?,
        None => None,
    };
    let laid = match laid {
        Some(laid) => laid,
        None => load_tables(&dir, &file, &plan.edits, plan.applied())?,
    };
    plan.finish(&dir, laid)
}

/// What is known before the first record is read.
struct Plan {
    edits: Edits,
    start: LogStart,
    auth_enabled: bool,
}

impl Plan {
    fn new(file: &SnapshotFile, target: &RestoreTarget<'_>) -> Result<Self, LayFault> {
        let mut voters: Vec<u64> = target.members.iter().map(|member| member.id.0).collect();
        voters.sort_unstable();
        let start = LogStart {
            index: voters.len() as u64,
            term: FIRST_TERM,
            membership: Membership { voters, learners: Vec::new() },
        };
        let members = Some(target.members.clone());
        let edits = Edits { members, forget_removed: true, bump_revision: target.bump_revision };
        Ok(Self { edits, start, auth_enabled: file.auth_enabled()? })
    }

    fn applied(&self) -> (LogIndex, Term) {
        (LogIndex(self.start.index), Term(self.start.term))
    }

    fn finish(self, dir: &DataDir, laid: Laid) -> Result<Restored, LayFault> {
        let Self { start, auth_enabled, .. } = self;
        finish(dir, &start, &HardState { term: start.term, vote: 0, commit: start.index })?;
        Ok(Restored { records: laid.records, revision: laid.revision, auth_enabled })
    }
}

/// A directory that exists on the file system where the data directory is or will be.
fn beside(data_dir: &Path) -> &Path {
    let mut dir = data_dir;
    while !dir.is_dir() {
        match dir.parent() {
            Some(above) if !above.as_os_str().is_empty() => dir = above,
            _ => return Path::new("."),
        }
    }
    dir
}
