//! A client for Milvus's REST and management pages.

use std::time::Duration;

use crate::limits::MILVUS_DIAL_LIMIT;

/// A client that waits at most `limit` for an answer, unless a call says otherwise.
pub(super) fn client(ca: Option<&String>, limit: Duration) -> Result<reqwest::Client, String> {
    // The first one that is named in a process stays; all of ours are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder().connect_timeout(MILVUS_DIAL_LIMIT).timeout(limit);
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| format!("{path}: {error}"))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| error.to_string())
}
