//! What agreement leaves behind: log entries, the vote, the set of members. Plain values, which `disk` keeps.

use bytes::Bytes;

/// What an entry carries. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A command of the state machine (empty: a new leader's first entry).
    Normal = 0,
    /// A change of the set of members.
    Membership = 1,
}

/// One entry of the replicated log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place; the first is 1, and places have no holes.
    pub index: u64,
    /// The term in which a leader wrote it.
    pub term: u64,
    /// What `data` means.
    pub kind: EntryKind,
    /// Opaque here.
    pub data: Bytes,
}

/// What a member must never forget: its term, its vote in it, and how far the log is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// Current term.
    pub term: u64,
    /// Who got the vote in that term; 0 for nobody.
    pub vote: u64,
    /// The last index known to be committed.
    pub commit: u64,
}

/// Who votes and who only listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Voters, ascending.
    pub voters: Vec<u64>,
    /// Learners, ascending.
    pub learners: Vec<u64>,
}

impl Membership {
    /// Of these members, each with whether it only listens.
    pub fn of(members: impl IntoIterator<Item = (u64, bool)>) -> Self {
        let (learners, voters): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, learner)| *learner);
        let ascending = |some: Vec<(u64, bool)>| {
            let mut ids: Vec<u64> = some.into_iter().map(|(id, _)| id).collect();
            ids.sort_unstable();
            ids
        };
        Self { voters: ascending(voters), learners: ascending(learners) }
    }
}

/// Where the log begins: everything up to here is in the tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogStart {
    /// The last index that the tables replace.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members as of that index.
    pub membership: Membership,
}
