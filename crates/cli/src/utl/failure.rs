//! How a command ends badly: what is said, and the exit code. The codes are etcdutl's.

use std::fmt;

const ERROR: u8 = 1;
const BAD_FEATURE: u8 = 4;
const BAD_ARGS: u8 = 128;

/// A command that did not do what was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    text: String,
    /// Said before the text, as cobra does when it cannot make sense of a command line.
    preamble: Option<String>,
}

impl Failure {
    /// The work failed.
    pub(super) fn error(text: impl fmt::Display) -> Self {
        Self { code: ERROR, text: text.to_string(), preamble: None }
    }

    /// Wrong arguments.
    pub(super) fn args(text: impl fmt::Display) -> Self {
        Self { code: BAD_ARGS, text: text.to_string(), preamble: None }
    }

    /// A format that does not exist, or not for this command.
    pub(super) fn feature(text: impl fmt::Display) -> Self {
        Self { code: BAD_FEATURE, text: text.to_string(), preamble: None }
    }

    /// Wrong flags: the command's help is shown.
    pub(super) fn usage(text: impl fmt::Display, page: &str) -> Self {
        let preamble = Some(format!("Error: {text}\n{page}\n"));
        Self { code: ERROR, text: text.to_string(), preamble }
    }

    /// A command that does not exist.
    pub(super) fn unknown(text: impl fmt::Display, program: &str) -> Self {
        let preamble = Some(format!("Error: {text}\nRun '{program} --help' for usage.\n"));
        Self { code: ERROR, text: text.to_string(), preamble }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}Error: {}", self.preamble.as_deref().unwrap_or_default(), self.text)
    }
}
