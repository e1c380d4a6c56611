//! TLS before the REST interface: handshakes are made beside each other, so that a slow caller holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::failure::{Failure, Kind, Result};
use crate::limits::{REST_HANDSHAKE_LIMIT, REST_HANDSHAKES_MAX};

/// What the server shows to its callers.
#[derive(Clone)]
pub struct Certificate(Arc<ServerConfig>);

impl Certificate {
    /// Reads a certificate with its chain, and its key; both PEM.
    ///
    /// # Errors
    /// A file can't be read, or the two don't belong together.
    pub fn read(cert: &Path, key: &Path) -> Result<Certificate> {
        let wrong = |path: &Path, why: String| {
            Failure::new(
                Kind::Request,
                format!("{}: {why}", path.display()),
                "give --tls-cert and --tls-key in PEM form",
            )
        };
        let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| wrong(cert, error.to_string()))?;
        if chain.is_empty() {
            return Err(wrong(cert, "there is no certificate in it".into()));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        let mut config = config.map_err(|error| wrong(cert, error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Certificate(Arc::new(config)))
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

/// A listener whose connections are encrypted.
pub(super) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl TlsListener {
    pub(super) fn over(mut tcp: TcpListener, certificate: &Certificate) -> io::Result<TlsListener> {
        let local = tcp.local_addr()?;
        let acceptor = TlsAcceptor::from(certificate.0.clone());
        let (give, ready) = mpsc::channel(REST_HANDSHAKES_MAX);
        let accepting = tokio::spawn(async move {
            let turns = Arc::new(tokio::sync::Semaphore::new(REST_HANDSHAKES_MAX));
            loop {
                let Ok(turn) = turns.clone().acquire_owned().await else { return };
                let (stream, from) = axum::serve::Listener::accept(&mut tcp).await;
                let (acceptor, give) = (acceptor.clone(), give.clone());
                tokio::spawn(async move {
                    // Who does not speak TLS, or not in time, is let go.
                    if let Ok(Ok(stream)) = tokio::time::timeout(REST_HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                        let _ = give.send((stream, from)).await;
                    }
                    drop(turn);
                });
            }
        });
        Ok(TlsListener { ready, local, accepting })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
