//! The only way a committed command can fail: this member can no longer be trusted.

use crate::ids::LogIndex;
use crate::tables::TableFault;

/// Why this member must stop. Never an answer to a request: other members may be fine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Halt {
    /// The tables failed underneath.
    #[error(
        "this member's tables failed: {0}. Nothing was acknowledged that the log does not hold. \
         Do not retry in place: check the disk, then restart, or restore the member from a snapshot"
    )]
    Tables(#[from] TableFault),
    /// A row was read whole, and says what no release has written.
    #[error(
        "bucket {bucket}, row {row}: {what}. The row passed its checksum, so it was written like this: \
         by a newer release, or by hand. Start the release that wrote it, or restore from a snapshot"
    )]
    Nonsense {
        /// The bucket's name.
        bucket: &'static str,
        /// The row's key, readable.
        row: String,
        /// What is wrong with it.
        what: String,
    },
    /// The log handed over the wrong entry.
    #[error(
        "log entry {got} arrived after entry {applied}: one is missing, or came twice. The log and the tables of this \
         member do not belong together; restore it from a snapshot"
    )]
    OutOfOrder {
        /// The last entry applied.
        applied: LogIndex,
        /// The one that came.
        got: LogIndex,
    },
}

impl Halt {
    /// A row that makes no sense.
    pub(crate) fn nonsense(bucket: &'static str, row: &[u8], what: impl Into<String>) -> Self {
        Halt::Nonsense { bucket, row: row.escape_ascii().to_string(), what: what.into() }
    }
}

/// A read that did not work out: refused by the rules, or by the tables.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] crate::answer::Refusal),
    /// The tables failed.
    #[error(transparent)]
    Fault(#[from] TableFault),
}
