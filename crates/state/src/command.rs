//! What can be asked of the store: values, already checked for shape at the border.
//!
//! A [`Command`] is what the replicated log carries. [`Range`] and read-only [`Txn`]s never enter the log.

use bytes::Bytes;

use crate::auth::{AuthChange, Author};
use crate::ids::{LeaseId, MemberId, Revision};

/// A set of adjacent keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// From the first (inclusive) to the second (exclusive). Empty when the second is not larger.
    Span(Bytes, Bytes),
    /// This key and all after it.
    From(Bytes),
}

/// What a read sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// In which direction a read sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// A read of keys at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// The most pairs to return; 0 for all.
    pub limit: usize,
    /// The revision to read at; `None` for the current one.
    pub revision: Option<Revision>,
    /// Sort direction.
    pub order: SortOrder,
    /// Sort key.
    pub target: SortTarget,
    /// Leave values out.
    pub keys_only: bool,
    /// Return only the number of keys.
    pub count_only: bool,
    /// Inclusive bounds; 0 for none.
    pub min_mod_revision: i64,
    #[allow(missing_docs)]
    pub max_mod_revision: i64,
    #[allow(missing_docs)]
    pub min_create_revision: i64,
    #[allow(missing_docs)]
    pub max_create_revision: i64,
}

impl Range {
    /// All pairs of these keys with their values, as of now, in the order of keys.
    pub fn of(keys: KeyRange) -> Self {
        Self {
            keys,
            limit: 0,
            revision: None,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// The pair of one key, as of now.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self::of(KeyRange::One(key.into()))
    }
}

/// Stores one value under a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Put {
    /// Never empty.
    pub key: Bytes,
    /// The value; kept as it is when `ignore_value` is set.
    pub value: Bytes,
    /// The lease to attach to; 0 detaches.
    pub lease: LeaseId,
    /// Return the pair that was there before.
    pub prev_kv: bool,
    /// Keep the current value (the key must exist).
    pub ignore_value: bool,
    /// Keep the current lease (the key must exist).
    pub ignore_lease: bool,
}

/// Deletes keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which keys.
    pub keys: KeyRange,
    /// Return the pairs that were there before.
    pub prev_kv: bool,
}

/// How a compare relates the stored to the given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
    /// A number that no version of the API knows: always true, as upstream has it.
    Unknown,
}

/// What a compare looks at, with the value it is compared to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompareTarget {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(Bytes),
    Lease(i64),
    /// A target that no version of the API knows: compares as equal, as upstream has it.
    Unknown,
}

/// One guard of a transaction; with a span, every key inside must satisfy it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// The relation.
    pub result: CompareResult,
    /// The field and the value.
    pub target: CompareTarget,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Range(Range),
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
}

/// Guards, and what to do when all hold or one does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All must hold for `success` to run.
    pub compare: Vec<Compare>,
    /// Runs when all compares hold.
    pub success: Vec<Op>,
    /// Runs when one does not.
    pub failure: Vec<Op>,
}

/// The kinds of alarm. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AlarmKind {
    /// The quota is used up.
    NoSpace = 1,
    /// Members disagree, or a check failed.
    Corrupt = 2,
}

/// A member as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Empty until the member has published itself.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until published.
    pub client_urls: Vec<String>,
    /// Does not vote.
    pub learner: bool,
}

/// What the log can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// See [`Put`].
    Put(Put),
    /// See [`DeleteRange`].
    DeleteRange(DeleteRange),
    /// See [`Txn`].
    Txn(Txn),
    /// Forget history before this revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
    /// Create a lease. `id` is never 0 here: the server has chosen.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Seconds, already raised to the floor.
        ttl_secs: i64,
    },
    /// End a lease and delete its keys (by hand or by expiry).
    LeaseRevoke {
        /// Its id.
        id: LeaseId,
    },
    /// Remember how much of each lease is left, so that a new leader does not begin anew.
    LeaseCheckpoint {
        /// Lease and remaining seconds.
        remaining: Vec<(LeaseId, i64)>,
    },
    /// Raise an alarm.
    AlarmActivate {
        /// Whose.
        member: MemberId,
        /// Which.
        kind: AlarmKind,
    },
    /// Lift an alarm.
    AlarmDeactivate {
        /// Whose.
        member: MemberId,
        /// Which.
        kind: AlarmKind,
    },
    /// A member tells its name and client URLs.
    MemberPublish {
        /// Which.
        id: MemberId,
        /// Its name.
        name: String,
        /// Its URLs.
        client_urls: Vec<String>,
    },
    /// New peer URLs for a member.
    MemberUpdate {
        /// Which.
        id: MemberId,
        /// Its URLs.
        peer_urls: Vec<String>,
    },
    /// A member joins (as a learner or as a voter). Carried by a raft configuration change.
    MemberAdd(Member),
    /// A member leaves for ever.
    MemberRemove {
        /// Which.
        id: MemberId,
    },
    /// A learner becomes a voter.
    MemberPromote {
        /// Which.
        id: MemberId,
    },
    /// The version that all members can speak, as text (`3.5.0`).
    ClusterVersion(String),
    /// Users, roles, and whether they are enforced.
    Auth(AuthChange),
}

/// A command, and who asks for it.
///
/// Where users are enforced, an author without the right is refused when the command is applied, whatever was checked
/// before. A bare command comes from nobody: forgetting the author refuses too much, never too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who asks.
    pub author: Author,
    /// For what.
    pub command: Command,
}

impl Proposal {
    /// What the store asks of itself. No client's request may be given this.
    pub fn own(command: Command) -> Self {
        Self { author: Author::Store, command }
    }
}

impl From<Command> for Proposal {
    fn from(command: Command) -> Self {
        Self { author: Author::Nobody, command }
    }
}
