//! What went wrong with a call, in the two ways etcd's client words it.

use tonic::{Code, Status};

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(crate) enum CallError {
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
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            CallError::Status(status) => Some(status.code()),
            CallError::Broken(_) => Some(Code::Unavailable),
            CallError::Deadline(_) | CallError::Local(_) => None,
        }
    }

    /// The server's own words, when it spoke.
    pub(crate) fn message(&self) -> &str {
        match self {
            CallError::Status(status) => status.message(),
            CallError::Deadline(_) => "context deadline exceeded",
            CallError::Broken(text) | CallError::Local(text) => text,
        }
    }

    /// As a log line carries it: `rpc error: code = … desc = …`.
    pub(crate) fn wire_text(&self) -> String {
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
    pub(crate) fn text(&self) -> String {
        match self {
            CallError::Deadline(_) => "context deadline exceeded".into(),
            CallError::Status(status) if status.message().starts_with("etcdserver: ") => status.message().into(),
            CallError::Status(_) | CallError::Broken(_) => self.wire_text(),
            CallError::Local(text) => text.clone(),
        }
    }

    /// What a person must know before the same thing is asked again: nobody can say whether it was done.
    pub(crate) fn note(&self) -> Option<&'static str> {
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

impl From<CallError> for crate::exit::Failure {
    fn from(error: CallError) -> crate::exit::Failure {
        crate::exit::Failure { note: error.note(), ..crate::exit::Failure::error(error.text()) }
    }
}
