//! What the store answers, and what it refuses.

use bytes::Bytes;

use crate::command::{AlarmKind, Member};
use crate::ids::{LeaseId, LogIndex, MemberId, Position, Revision};

/// A key with its value and history marks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision of the put that created the key (0 in a delete event).
    pub create_revision: i64,
    /// Revision of the last change.
    pub mod_revision: i64,
    /// Number of puts since creation (0 in a delete event).
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease it hangs on; 0 for none.
    pub lease: LeaseId,
}

/// One change of one key, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A delete; `kv` then has only key and mod_revision.
    pub delete: bool,
    /// The key after the change.
    pub kv: KeyValue,
    /// Where the pair before this change stands in history; `None` when there was none. Who wants the pair reads it.
    pub prev: Option<Position>,
}

/// The answer to a [`crate::command::Range`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeAnswer {
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// There were more than the limit.
    pub more: bool,
    /// All keys in the range at that revision, whatever limit and filters say.
    pub count: i64,
}

/// The answer to one operation of a transaction; `revision` is what its inner header says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OpAnswer {
    Range { revision: Revision, answer: RangeAnswer },
    Put { revision: Revision, prev: Option<KeyValue> },
    DeleteRange { revision: Revision, deleted: i64, prev: Vec<KeyValue> },
    Txn(TxnAnswer),
}

/// The answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnAnswer {
    /// All compares held.
    pub succeeded: bool,
    /// One per operation of the branch that ran.
    pub answers: Vec<OpAnswer>,
}

/// One raised alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Whose.
    pub member: MemberId,
    /// Which.
    pub kind: AlarmKind,
}

/// What a command answers when it is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    Put {
        prev: Option<KeyValue>,
    },
    DeleteRange {
        deleted: i64,
        prev: Vec<KeyValue>,
    },
    Txn(TxnAnswer),
    Compact,
    LeaseGrant {
        id: LeaseId,
        ttl_secs: i64,
    },
    LeaseRevoke,
    LeaseCheckpoint,
    /// The alarms that the request changed.
    Alarm(Vec<Alarm>),
    /// The members after the change.
    Members(Vec<Member>),
    ClusterVersion,
    /// Users or roles have changed as asked (or were so already).
    Auth,
    /// The token is good on every member that has applied this entry.
    Token {
        index: LogIndex,
        user: String,
        fingerprint: [u8; 32],
        issued_millis: u64,
    },
}

/// What one applied command did. Equal on every member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision after it.
    pub revision: Revision,
    /// The answer, or why not.
    pub outcome: Result<Answer, Refusal>,
    /// The changes it made, in order, all of one revision. Empty when nothing changed.
    pub events: Vec<Event>,
}

/// A request that the rules refuse: the same on every member, and nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("key is not provided")]
    EmptyKey,
    #[error("key not found")]
    KeyNotFound,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
    #[error("database space exceeded")]
    NoSpace,
    #[error("corrupt cluster")]
    Corrupt,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("member ID already exist")]
    MemberExists,
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    #[error("member not found")]
    MemberNotFound,
    #[error("can only promote a learner member")]
    MemberNotLearner,
    #[error("too many learner members in cluster")]
    TooManyLearners,
    #[error("root user does not exist")]
    RootUserMissing,
    #[error("root user does not have root role")]
    RootRoleMissing,
    #[error("user name is empty")]
    UserEmpty,
    #[error("user name already exists")]
    UserExists,
    #[error("user name not found")]
    UserNotFound,
    #[error("role name is empty")]
    RoleEmpty,
    #[error("role name already exists")]
    RoleExists,
    #[error("role name not found")]
    RoleNotFound,
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    #[error("permission denied")]
    PermissionDenied,
    #[error("role is not granted to the user")]
    RoleNotGranted,
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    #[error("invalid auth management")]
    InvalidAuthManagement,
    #[error("revision of auth store is old")]
    AuthOldRevision,
}
