//! What can be wrong with a log, in words for the person who must act.

use std::{io, path::Path};

/// Why the log cannot be used. The message says what was found, what is safe and what to do.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were once on disk are not what was written. Nothing was changed.
    #[error(
        "log segment {file} is damaged at offset {offset}: {what}. Nothing was changed. Keep a copy of the data directory, then restore a snapshot into a new one: eyrie utl snapshot restore SNAPSHOT --data-dir NEW"
    )]
    Damaged {
        /// The segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// No segment is there.
    #[error(
        "the log in {dir} is missing. Nothing was changed. Put the *.wal files back, or restore a snapshot into a new directory: eyrie utl snapshot restore SNAPSHOT --data-dir NEW"
    )]
    Missing {
        /// The log's directory.
        dir: String,
    },
    /// A log is already there.
    #[error("{dir} already holds a log: nothing was changed. Choose an empty directory")]
    Exists {
        /// The log's directory.
        dir: String,
    },
    /// A later program wrote it.
    #[error(
        "log segment {file} was written by a newer eyrie (format {version}): nothing was changed. Start it with that newer eyrie"
    )]
    Newer {
        /// The segment.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Another member wrote it.
    #[error(
        "log segment {file} belongs to {found}, but this is {expected}: nothing was changed. Put this member's own *.wal files there"
    )]
    Foreign {
        /// The segment.
        file: String,
        /// Whose it is.
        found: String,
        /// Who we are.
        expected: String,
    },
    /// No room for the append; nothing was written, and the handle can still be used.
    #[error(
        "no space left for the log in {dir}: {need} bytes are needed. Nothing was written; free some space, writes then go on by themselves"
    )]
    NoSpace {
        /// The log's directory.
        dir: String,
        /// Bytes needed.
        need: u64,
    },
    /// The system refused. After a failed write or sync the handle is poisoned.
    #[error("cannot {doing} {file}: {source}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// On what.
        file: String,
        /// The system's words.
        source: io::Error,
    },
    /// A write or sync failed before; what is on disk is known only after reopening.
    #[error("the log failed before and takes no more writes: stop this member, check the disk, start it again")]
    Poisoned,
}

/// Log and tables that do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Apart {
    /// Entries between the tables and the log are nowhere.
    #[error(
        "the tables hold what was applied up to entry {applied}, but the log begins after entry {start}: the tables are older than the log. Nothing was changed. Put back the tables.redb that belongs to this log, or restore a snapshot into a new directory: eyrie utl snapshot restore SNAPSHOT --data-dir NEW"
    )]
    TablesBehind {
        /// Last applied entry.
        applied: u64,
        /// Where the log begins.
        start: u64,
    },
    /// The log lost its end.
    #[error(
        "the tables hold what was applied up to entry {applied}, but the log ends at entry {last}: its newest part is missing. Nothing was changed. Put the missing *.wal files back, or restore a snapshot into a new directory: eyrie utl snapshot restore SNAPSHOT --data-dir NEW"
    )]
    LogBehind {
        /// Last applied entry.
        applied: u64,
        /// Last entry of the log.
        last: u64,
    },
}

impl WalError {
    pub(super) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> WalError + 'a {
        move |source| WalError::Io { doing, file: path.display().to_string(), source }
    }
}
