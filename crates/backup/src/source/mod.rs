//! Where metadata comes from: an etcd of any make, by its public API.
//!
//! ```text
//! members (who is fit) -> snapshot (full, into a scratch file) -> agree (do the members hold the same?)
//! follow (every later revision, once, whole, in order; or a Break that says why not), in strides where it is busy
//! ```
//! Must never know of the archive.

mod agree;
mod assemble;
mod failure;
mod follow;
mod lanes;
mod members;
mod pages;
mod snapshot;
mod strides;
mod traffic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eyrie_api::client::{Address, CallError, Client, Config, Tls, TlsFiles, User};
use tokio::time::Instant;

pub use agree::{Agreement, MemberDigest};
pub use failure::SourceError;
pub use follow::{Anchor, Break, Follow, Heard, digest};
pub use members::Member;
pub use snapshot::{Spooled, TrailerCheck, history};
pub use strides::Strides;

use crate::limits::ASK_LIMIT;

/// How to reach an etcd.
#[derive(Debug, Clone, Default)]
pub struct SourceConfig {
    /// Client URLs; at least one.
    pub endpoints: Vec<String>,
    /// Certificates of those who vouch for the servers; empty: the system's.
    pub ca_file: String,
    /// The backup's own certificate.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// Every server is believed.
    pub insecure_skip_verify: bool,
    /// Who logs in.
    pub user: Option<User>,
    /// Limit of one attempt to connect.
    pub dial_timeout: Option<Duration>,
    /// Folder for the scratch file of a full; empty: the system's folder for temporary files.
    pub spool: PathBuf,
}

/// A source that can be asked. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    client: Arc<Client>,
    endpoints: String,
    spool: PathBuf,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Source {
    /// Reads the certificates and logs in.
    ///
    /// # Errors
    /// Bad files or endpoints, a refused login.
    pub async fn connect(config: &SourceConfig) -> Result<Self, SourceError> {
        if config.endpoints.is_empty() {
            return Err(SourceError::Config(
                "it has no endpoints. Next: write `endpoints` in the section `source`, or pass --etcd URL".into(),
            ));
        }
        let files = TlsFiles {
            cacert: config.ca_file.clone(),
            cert: config.cert_file.clone(),
            key: config.key_file.clone(),
            insecure_transport: true,
            insecure_skip_verify: config.insecure_skip_verify,
        };
        let tls = Tls::read(&files).map_err(SourceError::Config)?;
        let mut client = Config::new(config.endpoints.iter().map(Address::new).collect(), tls);
        client.user = config.user.clone();
        if let Some(limit) = config.dial_timeout {
            client.dial_timeout = limit;
        }
        let endpoints = config.endpoints.join(",");
        let client =
            Client::new(client).await.map_err(|error| SourceError::of_call("log in to etcd", &endpoints, &error))?;
        let spool = if config.spool.as_os_str().is_empty() { std::env::temp_dir() } else { config.spool.clone() };
        Ok(Self { client: Arc::new(client), endpoints, spool })
    }

    /// The same source over connections of its own: for another runtime, since a connection lives in the one that made it.
    fn apart(&self) -> Self {
        Self { client: Arc::new(self.client.apart()), ..self.clone() }
    }

    /// The endpoints as they were given, with commas.
    pub fn endpoints(&self) -> &str {
        &self.endpoints
    }

    fn failed(&self, what: &'static str, error: &CallError) -> SourceError {
        SourceError::of_call(what, &self.endpoints, error)
    }
}

/// When a call that only asks must be answered.
fn soon() -> Option<Instant> {
    Some(Instant::now() + ASK_LIMIT)
}
