//! What went wrong with a call, in the two ways etcd's client words it.

use tonic::{Code, Status};

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub enum CallError {
    /// The deadline passed; with the last trouble of connecting, when that was the reason.
    Deadline(Option<String>),
    /// The server refused.
    Status(Status),
    /// The connection ended before the answer came; the request may have been done.
    Broken(String),
    /// The client could not begin (bad certificate, bad address).
    Local(String),
}

impl CallError {
    /// The server's code, when there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            CallError::Status(status) => Some(status.code()),
            CallError::Broken(_) => Some(Code::Unavailable),
            CallError::Deadline(_) | CallError::Local(_) => None,
        }
    }

    /// Whether the server no longer knows the token of this login; it did nothing then.
    pub fn is_old_login(&self) -> bool {
        let words = self.message();
        self.code() == Some(Code::Unauthenticated) && words.starts_with("etcdserver: invalid auth token")
            || self.code() == Some(Code::InvalidArgument) && words == "etcdserver: revision of auth store is old"
    }

    /// The server's own words, when it spoke.
    pub fn message(&self) -> &str {
        match self {
            CallError::Status(status) => status.message(),
            CallError::Deadline(_) => "context deadline exceeded",
            CallError::Broken(text) | CallError::Local(text) => text,
        }
    }

    /// As a log line carries it: `rpc error: code = … desc = …`.
    pub fn wire_text(&self) -> String {
        match self {
            CallError::Deadline(Some(trouble)) => {
                format!(
                    "rpc error: code = DeadlineExceeded desc = latest balancer error: last connection error: {trouble}"
                )
            }
            CallError::Deadline(None) => "rpc error: code = DeadlineExceeded desc = context deadline exceeded".into(),
            CallError::Status(status) => {
                format!("rpc error: code = {} desc = {}", code_name(status.code()), status.message())
            }
            CallError::Broken(text) => format!("rpc error: code = Unavailable desc = {text}"),
            CallError::Local(text) => text.clone(),
        }
    }

    /// As a person reads it: etcd's own errors bare, foreign ones with their code.
    pub fn text(&self) -> String {
        match self {
            CallError::Deadline(_) => "context deadline exceeded".into(),
            CallError::Status(status) if status.message().starts_with("etcdserver: ") => status.message().into(),
            CallError::Status(_) | CallError::Broken(_) => self.wire_text(),
            CallError::Local(text) => text.clone(),
        }
    }

    /// What a person must know before the same thing is asked again: nobody can say whether it was done.
    pub fn note(&self) -> Option<&'static str> {
        match self {
            CallError::Broken(_) => Some(
                "The connection ended before the server answered: the change may have been made, or not. Read it back \
                 before you repeat it. (If the server wants TLS: https:// or --cacert.)",
            ),
            CallError::Status(status) if status.message().starts_with("etcdserver: request timed out") => Some(
                "The server gave up waiting: the change may still be made. Read it back before you repeat it; if \
                 this goes on, look at the server's disk and log.",
            ),
            _ => None,
        }
    }
}

impl From<Status> for CallError {
    /// A status with a cause was made on this side, by a connection that failed; others are the server's words.
    fn from(status: Status) -> CallError {
        let mut cause = std::error::Error::source(&status);
        while let Some(deeper) = cause.and_then(std::error::Error::source) {
            cause = Some(deeper);
        }
        match cause {
            Some(cause) => CallError::Broken(format!("error reading from server: {}", broken_text(cause))),
            None => CallError::Status(status),
        }
    }
}

/// How a connection ended: `EOF` when the other side closed it, as Go says.
fn broken_text(cause: &(dyn std::error::Error + 'static)) -> String {
    match cause.to_string() {
        text if text.contains("broken pipe") || text.contains("unexpected end of file") => "EOF".into(),
        text => text,
    }
}

/// gRPC's name of a code as Go prints it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// An error of the operating system as Go words it: no number, and no capital at the beginning.
pub fn os_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
