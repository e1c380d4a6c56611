//! How a command ends: etcdctl's exit codes, and the failure that carries one of them.
//!
//! Never knows which command failed or how the text is shown.

use eyrie_api::client::CallError;

/// Something went wrong while the command ran.
pub(crate) const ERROR: i32 = 1;
/// The connection, or the login over it, could not be made.
pub(crate) const BAD_CONNECTION: i32 = 2;
/// What was read from standard input is not understood.
pub(crate) const INVALID_INPUT: i32 = 3;
/// The feature (format, order, consistency) does not exist.
pub(crate) const BAD_FEATURE: i32 = 4;
/// The work was cut off before it was done.
pub(crate) const INTERRUPTED: i32 = 5;
/// The arguments are wrong.
pub(crate) const BAD_ARGS: i32 = 128;

/// What a command's function returns.
pub(crate) type Done = Result<(), Failure>;

/// The end of a command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) code: i32,
    /// Shown on standard error after `Error: `; `None` when all was said already.
    pub(crate) text: Option<String>,
    /// Shown on a line of its own after the text: what upstream does not say, and a person must know.
    pub(crate) note: Option<&'static str>,
}

impl Failure {
    /// A failure that is announced as `Error: <text>`.
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Failure {
        Failure { code, text: Some(text.into()), note: None }
    }

    /// A failure whose reason is on the screen already.
    pub(crate) fn silent(code: i32) -> Failure {
        Failure { code, text: None, note: None }
    }

    /// Wrong arguments (128).
    pub(crate) fn args(text: impl Into<String>) -> Failure {
        Failure::new(BAD_ARGS, text)
    }

    /// A plain error (1).
    pub(crate) fn error(text: impl Into<String>) -> Failure {
        Failure::new(ERROR, text)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure { note: error.note(), ..Failure::error(error.text()) }
    }
}
