//! Every error a client can see: its gRPC code and its exact text, in one place.
//!
//! Clients tell errors apart by their text, so these are etcd's words to the letter.

use eyrie_state::{Refusal, TableFault};
use tonic::{Code, Status};

/// Why a request was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServeError {
    /// The rules refuse it; nothing changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No leader is known now: try again soon.
    #[error("no leader")]
    NoLeader,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
    /// No answer in time; the request may still be carried out.
    #[error("request timed out")]
    Timeout,
    /// No answer in time, and a leader was lost meanwhile; the request may still be carried out.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// The leader can't be reached any more; the request may still be carried out.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// This member only listens.
    #[error("rpc not supported for learner")]
    Learner,
    /// Too few members are connected to change the membership safely.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// More requests wait than can be served soon.
    #[error("too many requests")]
    TooManyRequests,
    /// The request is larger than this member accepts.
    #[error("request is too large")]
    TooLarge,
    /// The disk has no room for the log; reads go on, and writes too once there is room.
    #[error("database space exceeded: no space left on the disk of the write-ahead log")]
    DiskFull,
    /// A record on disk is not what was written.
    #[error("{0}")]
    Damaged(#[from] TableFault),
    /// Any other error of etcd's table.
    #[error("{text}")]
    Other {
        /// gRPC code.
        code: Code,
        /// The whole text.
        text: String,
    },
}

impl ServeError {
    /// An error of etcd's table that only one place raises.
    pub fn other(code: Code, text: impl Into<String>) -> Self {
        Self::Other { code, text: text.into() }
    }
}

impl From<eyrie_state::ReadError> for ServeError {
    fn from(error: eyrie_state::ReadError) -> Self {
        match error {
            eyrie_state::ReadError::Refused(why) => Self::Refused(why),
            eyrie_state::ReadError::Fault(fault) => Self::Damaged(fault),
        }
    }
}

/// Code and text of a refusal.
pub(crate) const fn refusal(refusal: Refusal) -> (Code, &'static str) {
    match refusal {
        Refusal::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        Refusal::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        Refusal::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        Refusal::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        Refusal::TooManyOps => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
        Refusal::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        Refusal::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        Refusal::FutureRevision => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
        Refusal::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        Refusal::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
        Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        Refusal::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Refusal::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        Refusal::MemberExists => (Code::FailedPrecondition, "etcdserver: member ID already exist"),
        Refusal::PeerUrlExists => (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
        Refusal::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
        Refusal::MemberNotLearner => (Code::FailedPrecondition, "etcdserver: can only promote a learner member"),
        Refusal::TooManyLearners => (Code::FailedPrecondition, "etcdserver: too many learner members in cluster"),
        Refusal::RootUserMissing => (Code::FailedPrecondition, "etcdserver: root user does not exist"),
        Refusal::RootRoleMissing => (Code::FailedPrecondition, "etcdserver: root user does not have root role"),
        Refusal::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
        Refusal::UserExists => (Code::FailedPrecondition, "etcdserver: user name already exists"),
        Refusal::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
        Refusal::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
        Refusal::RoleExists => (Code::FailedPrecondition, "etcdserver: role name already exists"),
        Refusal::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
        Refusal::AuthFailed => {
            (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password")
        }
        Refusal::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
        Refusal::RoleNotGranted => (Code::FailedPrecondition, "etcdserver: role is not granted to the user"),
        Refusal::PermissionNotGranted => {
            (Code::FailedPrecondition, "etcdserver: permission is not granted to the role")
        }
        Refusal::AuthNotEnabled => (Code::FailedPrecondition, "etcdserver: authentication is not enabled"),
        Refusal::InvalidAuthManagement => (Code::InvalidArgument, "etcdserver: invalid auth management"),
        Refusal::AuthOldRevision => (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
    }
}

impl From<ServeError> for Status {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Refused(why) => {
                let (code, text) = refusal(why);
                Status::new(code, text)
            }
            ServeError::NoLeader => Status::unavailable("etcdserver: no leader"),
            ServeError::Stopped => Status::unavailable("etcdserver: server stopped"),
            ServeError::Timeout => Status::unavailable("etcdserver: request timed out"),
            ServeError::TimeoutLeaderFailed => {
                Status::unavailable("etcdserver: request timed out, possibly due to previous leader failure")
            }
            ServeError::TimeoutConnectionLost => {
                Status::unavailable("etcdserver: request timed out, possibly due to connection lost")
            }
            ServeError::Learner => Status::unavailable("etcdserver: rpc not supported for learner"),
            ServeError::Unhealthy => Status::unavailable("etcdserver: unhealthy cluster"),
            // Upstream's table says ResourceExhausted, but this one reaches the wire as Unknown.
            ServeError::TooManyRequests => Status::unknown("etcdserver: too many requests"),
            ServeError::TooLarge => Status::invalid_argument("etcdserver: request is too large"),
            ServeError::DiskFull => Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
            // Where and what stands in the log; clients know this text.
            ServeError::Damaged(_) => Status::data_loss("etcdserver: corrupt cluster"),
            ServeError::Other { code, text } => Status::new(code, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_says_whose_it_is() {
        for why in [Refusal::EmptyKey, Refusal::Compacted, Refusal::NoSpace, Refusal::LeaseNotFound] {
            let status = Status::from(ServeError::Refused(why));
            assert!(status.message().starts_with("etcdserver: "), "{status:?}");
        }
        let status = Status::from(ServeError::Refused(Refusal::FutureRevision));
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(status.message(), "etcdserver: mvcc: required revision is a future revision");
    }
}
