//! What can go wrong with a logical backup: what happened, what is safe, what to do next.

use eyrie_milvus::logical::FormatError;

use crate::bucket::BucketError;

/// What this module returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// The kinds of failure, by who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for can't be right.
    Request,
    /// It is not there.
    NotFound,
    /// It is there already.
    Exists,
    /// Milvus does not know the user or does not allow it.
    Denied,
    /// Milvus does not answer.
    Unavailable,
    /// Milvus is too old for it, or does not have it.
    Unsupported,
    /// Milvus refused for a reason of its own.
    Refused,
    /// The object store failed.
    Store,
    /// A backup is damaged or incomplete.
    Damaged,
}

/// A failure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}\n  Next: {next}.")]
pub struct Failure {
    /// Who has to do something.
    pub kind: Kind,
    /// What happened.
    pub what: String,
    /// What to do.
    pub next: String,
}

impl Failure {
    /// From its parts; the texts have no full stop at their end.
    pub fn new(kind: Kind, what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { kind, what: what.into(), next: next.into() }
    }

    /// The same with what was being done before it.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Failure {
        self.what = format!("{doing}: {}", self.what);
        self
    }

    /// What happened, on one line.
    pub fn line(&self) -> String {
        self.what.replace('\n', " ")
    }
}

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Failure {
        let what = format!("can't {} {}: {}", error.action, error.target(), error.cause);
        let kind = if error.is_not_found() { Kind::NotFound } else { Kind::Store };
        Failure::new(kind, what, error.kind.next_step())
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Failure {
        Failure::new(Kind::Damaged, error.to_string(), "take another backup; if the file was changed, put it back")
    }
}
