//! The server's side of a handshake, for clients and for members alike.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::admit::{Admission, common_name};
use super::reload::Reloading;
use super::{auto, files, suites};
use crate::config::{Config, TlsBounds, TlsConfig};
use crate::limits::CERTIFICATE_WARNING;
use crate::log_warn;
use crate::node::Fatal;

/// An encrypted connection that was accepted.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<S>;

/// Who a client is by the certificate that it showed, and that was found good.
///
/// It is in the extensions of each gRPC request of its connection, and in no other request: calls of the JSON gateway have
/// no identity but their token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The common name of its subject; never empty.
    pub common_name: Arc<str>,
}

/// Whose certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those for clients (`--cert-file` and its kin).
    Clients,
    /// Those for members (`--peer-cert-file` and its kin).
    Peers,
}

impl Side {
    pub(super) fn words(self) -> &'static str {
        match self {
            Side::Clients => "clients",
            Side::Peers => "peers",
        }
    }

    /// The configuration of this side, with the certificate that `--auto-tls` makes where none is given.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub(super) fn settled(self, config: &Config) -> Result<TlsConfig, Fatal> {
        let (given, urls) = match self {
            Side::Clients => (&config.client_tls, &config.listen_client_urls),
            Side::Peers => (&config.peer_tls, &config.listen_peer_urls),
        };
        if !given.auto {
            return Ok(given.clone());
        }
        if given.cert_file.is_some() || given.key_file.is_some() {
            log_warn!("ignoring automatic TLS since certificates are given", "for" = self.words());
            return Ok(TlsConfig { auto: false, ..given.clone() });
        }
        auto::settle(given, self, urls, config).map_err(Fatal::Other)
    }
}

/// What a listener needs to shake hands. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ServerTls {
    current: Arc<Reloading<ServerConfig>>,
}

impl ServerTls {
    /// Reads the files of one side.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub(crate) fn open(side: Side, config: &Config) -> Result<Self, Fatal> {
        Self::with(side, side.settled(config)?, config.tls.clone())
    }

    pub(super) fn with(side: Side, given: TlsConfig, bounds: TlsBounds) -> Result<Self, Fatal> {
        let files = [&given.cert_file, &given.key_file, &given.trusted_ca_file, &given.crl_file];
        let files: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
        let make = move || server_config(side, &given, &bounds);
        let current = Reloading::new(side.words(), files, make).map_err(Fatal::Other)?;
        Ok(Self { current: Arc::new(current) })
    }

    /// Shakes hands, by what the files say now. Has no deadline of its own.
    ///
    /// # Errors
    /// The other side does not speak TLS, shows no good certificate, or went away.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<(ServerStream<S>, Option<ClientIdentity>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.current.current()).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = shown.and_then(common_name).filter(|name| !name.is_empty());
        Ok((stream, name.map(|name| ClientIdentity { common_name: name.into() })))
    }
}

fn server_config(side: Side, given: &TlsConfig, bounds: &TlsBounds) -> Result<ServerConfig, String> {
    let (Some(cert), Some(key)) = (&given.cert_file, &given.key_file) else {
        return Err(format!("TLS for {} needs a certificate and its key", side.words()));
    };
    let pair = files::key_pair(cert, key)?;
    tell_age(cert, &pair.cert);
    let provider = suites::provider(bounds);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&suites::versions(bounds))
        .map_err(|error| format!("the versions and ciphers asked for do not fit: {error}"))?;
    // As in etcd, naming those who vouch is asking for certificates.
    let builder = if given.client_cert_auth || given.trusted_ca_file.is_some() {
        builder.with_client_cert_verifier(Arc::new(Admission::new(given, provider)?))
    } else {
        builder.with_no_client_auth()
    };
    let mut made = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    made.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    made.session_storage = Arc::new(NoServerSessionStorage {});
    made.send_tls13_tickets = 0;
    Ok(made)
}

/// A certificate whose time is over, or nearly so, is told but does not stop the member: others may be at work with it.
fn tell_age(file: &std::path::Path, chain: &[rustls::pki_types::CertificateDer<'_>]) {
    let Some(Ok(certificate)) = chain.first().map(files::parse) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let ends = certificate.validity().not_after.timestamp();
    let (file, left) = (file.display().to_string(), Duration::from_secs(u64::try_from(ends - now).unwrap_or_default()));
    if ends <= now {
        log_warn!(
            "the certificate has expired: whoever checks it refuses this member. Replace the file; no restart is needed",
            "cert-file" = &file
        );
    } else if certificate.validity().not_before.timestamp() > now {
        log_warn!("the certificate is not valid yet: look at this machine's clock", "cert-file" = &file);
    } else if left < CERTIFICATE_WARNING {
        log_warn!(
            "the certificate expires soon. Replace the file; no restart is needed",
            "cert-file" = &file,
            "days-left" = left.as_secs() / 86_400
        );
    }
}
