//! Why the source did not give what was asked, and what to do about it.

use std::path::PathBuf;

use eyrie_api::client::CallError;
use eyrie_state::Revision;
use tonic::Code;

/// What went wrong on the way from etcd.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration cannot be used.
    #[error("the source cannot be used as configured: {0}")]
    Config(String),
    /// Nobody answers.
    #[error(
        "no endpoint answers ({what}): {cause}. What the archive holds is safe. Next: look whether etcd runs and whether \
         the endpoints are right (etcdctl --endpoints={endpoints} endpoint health)"
    )]
    Unreachable {
        /// What was tried.
        what: &'static str,
        /// All endpoints.
        endpoints: String,
        /// The last trouble.
        cause: String,
    },
    /// The server refuses to talk to this user.
    #[error(
        "etcd refused to {what}: {cause}. Next: give a user with the role root (a snapshot and a watch over all keys need \
         it) by `user` and `password: !file PATH` (or `!env NAME`) in the section `source`"
    )]
    Denied {
        /// What was tried.
        what: &'static str,
        /// The server's words.
        cause: String,
    },
    /// Any other refusal.
    #[error("etcd could not {what}: {cause}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The server's words.
        cause: String,
    },
    /// The snapshot that arrived is not the one that was sent.
    #[error("the snapshot from {endpoint} is damaged: {cause}. It was thrown away and nothing in the archive changed")]
    Damaged {
        /// Who sent it.
        endpoint: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Members hold different data.
    #[error(
        "the members of the cluster do not hold the same data at revision {revision}: {table}. No full was written, for \
         nobody can say which member is right. Next: find the wrong one (etcdctl endpoint hashkv --cluster), remove it and \
         let it join again with an empty data dir"
    )]
    Disagree {
        /// Where they were compared.
        revision: Revision,
        /// Each member and its digest.
        table: String,
    },
    /// A member says that data is corrupt.
    #[error(
        "the alarm CORRUPT is raised at {endpoint}. No full was written. Next: etcdctl alarm list; replace that member, then \
         etcdctl alarm disarm"
    )]
    CorruptAlarm {
        /// Who raised it.
        endpoint: String,
    },
    /// No endpoint is fit to be read.
    #[error(
        "no endpoint is fit for a snapshot: {0}. Next: wait until a member has caught up, or name another endpoint"
    )]
    NoFitMember(String),
    /// The local scratch file failed.
    #[error(
        "cannot {verb} the scratch file {}: {cause}. Nothing in the archive changed. Next: make room there, or name another \
         folder by `spool` in the configuration", path.display()
    )]
    Spool {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
}

impl SourceError {
    /// Sorts a failed call.
    pub(super) fn of_call(what: &'static str, endpoints: &str, error: &CallError) -> Self {
        let cause = error.text();
        match error {
            CallError::Deadline(trouble) => Self::Unreachable {
                what,
                endpoints: endpoints.to_owned(),
                cause: trouble.clone().unwrap_or_else(|| "no answer in time".into()),
            },
            CallError::Broken(_) => Self::Unreachable { what, endpoints: endpoints.to_owned(), cause },
            CallError::Local(_) => Self::Config(cause),
            CallError::Status(status) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded => {
                    Self::Unreachable { what, endpoints: endpoints.to_owned(), cause }
                }
                Code::PermissionDenied | Code::Unauthenticated => Self::Denied { what, cause },
                // etcd says these with codes of other kinds
                _ if ["user name is empty", "authentication failed", "invalid auth token", "permission denied"]
                    .iter()
                    .any(|words| cause.contains(words)) =>
                {
                    Self::Denied { what, cause }
                }
                _ => Self::Refused { what, cause },
            },
        }
    }

    /// The same request may succeed later without anybody's help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoFitMember(_) | Self::Damaged { .. })
    }
}
