//! What can go wrong with a bucket: few kinds, each with what to do next.

use std::fmt;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Opening the bucket.
    Open,
    /// Reading an object.
    Read,
    /// Asking for an object's length and time.
    Stat,
    /// Writing an object.
    Write,
    /// Writing an object that must not exist yet.
    Create,
    /// Listing names.
    List,
    /// Deleting an object.
    Delete,
    /// Copying an object within the store.
    Copy,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Stat => "stat",
            Self::Write => "write",
            Self::Create => "create",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Copy => "copy",
        })
    }
}

/// The kinds of failure, by what the reader must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no such object (or folder, or bucket).
    NotFound,
    /// Another content stands under a name that must be written once: another writer.
    Conflict,
    /// The credentials do not allow this action.
    Denied,
    /// The credentials, or the token in them, have run out.
    Expired,
    /// The object is under a lock or a legal hold and can't be deleted or replaced yet.
    Locked,
    /// No room or quota is left.
    Full,
    /// The store did not answer, or answered with a passing error, until the budget of retries was spent.
    Unavailable,
    /// What came is not what was asked for: too long, too short, changed meanwhile.
    Damaged,
    /// The request can't be right: a bad name or address, an unknown bucket, a store that lacks what is needed.
    Config,
}

impl Kind {
    /// What the reader can do.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::NotFound => "check the name, and that nothing else deletes from this place",
            Self::Conflict => "find the other writer; nothing was overwritten",
            Self::Denied => "give the credentials this permission, or use others",
            Self::Expired => "renew the credentials and run again; what is done is kept",
            Self::Locked => "wait until the lock ends, or lift it where it was set; nothing was changed",
            Self::Full => "make room or raise the quota, then run again; what is done is kept",
            Self::Unavailable => "check that the store is reachable, then run again; what is done is kept",
            Self::Damaged => "do not trust this copy; take the object from another place, or verify the archive",
            Self::Config => "correct the address, the name or the settings; nothing was changed",
        }
    }

    /// A word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Locked => "locked",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Damaged => "damaged",
            Self::Config => "config",
        }
    }
}

/// One attempt that failed, as a body reports it; [`BucketError`] adds who, what and where.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) cause: String,
    /// Whether another attempt may succeed.
    pub(crate) passing: bool,
}

impl Fault {
    /// A failure that another attempt won't change.
    pub(crate) fn lasting(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), passing: false }
    }

    /// A failure that may pass.
    pub(crate) fn passing(cause: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, cause: cause.into(), passing: true }
    }

    /// Adds who, what and where.
    pub(crate) fn at(self, place: &str, action: Action, key: &str) -> BucketError {
        BucketError { kind: self.kind, action, place: place.to_owned(), key: key.to_owned(), cause: self.cause }
    }
}

/// A failure of a bucket: what was done to which object, why it failed, and what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("can't {action} {}: {cause}\n  Next: {}.", self.target(), self.kind.next_step())]
pub struct BucketError {
    /// What the reader must do.
    pub kind: Kind,
    /// What was being done.
    pub action: Action,
    /// The bucket, as its address without secrets.
    pub place: String,
    /// The object; empty when it is about the bucket.
    pub key: String,
    /// What the store, or the system, said.
    pub cause: String,
}

impl BucketError {
    /// Whether the object, folder or bucket is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// The bucket and the name in it, for a sentence.
    pub fn target(&self) -> String {
        match (self.key.is_empty(), self.place.ends_with('/') || self.place.ends_with(':')) {
            (true, _) => self.place.clone(),
            (false, true) => format!("{}{}", self.place, self.key),
            (false, false) => format!("{}/{}", self.place, self.key),
        }
    }
}
