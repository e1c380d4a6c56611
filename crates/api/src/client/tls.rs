//! Certificates: whom we trust, and who we are.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::os_error;

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For rustls.
    config: Arc<ClientConfig>,
    /// Whether addresses without a scheme use it too.
    pub(super) wanted: bool,
    /// The name that the server's certificate must be good for, if it is not the address that is dialled.
    expected: Option<String>,
}

/// Files and switches, as etcdctl's flags name them. Empty paths are files that were not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of those who vouch for servers; empty: the system's.
    pub cacert: String,
    /// The client's own certificate, with its chain.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Addresses without a scheme are dialled in the clear, unless files are given.
    pub insecure_transport: bool,
    /// Every server is believed.
    pub insecure_skip_verify: bool,
}

impl Tls {
    /// Reads the files. Without a CA file the system's certificates are trusted.
    ///
    /// # Errors
    /// A file that cannot be read, or a certificate without its key.
    pub fn read(files: &TlsFiles) -> Result<Tls, String> {
        Tls::read_within(files, &Arc::new(ring::default_provider()), rustls::DEFAULT_VERSIONS)
    }

    /// As [`Tls::read`], with these ciphers and versions.
    ///
    /// # Errors
    /// As [`Tls::read`].
    pub fn read_within(
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Tls, String> {
        let TlsFiles { cacert, cert, key, insecure_transport, insecure_skip_verify } = files;
        if cert.is_empty() != key.is_empty() {
            return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
        }
        // In upstream's order, so that of several bad files the same one is named.
        let identity = if cert.is_empty() { None } else { Some(identity(cert, key)?) };
        let provider = provider.clone();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = if *insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone { provider }))
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustGiven::new(provider, cacert)?))
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                Error::InconsistentKeys(_) => "tls: private key does not match public key".to_owned(),
                other => format!("tls: {other}"),
            })?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let wanted = !(cacert.is_empty() && cert.is_empty() && *insecure_transport);
        Ok(Tls { config: Arc::new(config), wanted, expected: None })
    }

    /// The same; the server's certificate must be good for this name, whatever address is dialled.
    #[must_use]
    pub fn expecting(mut self, name: &str) -> Tls {
        self.expected = Some(name.to_owned());
        self
    }

    /// The same for whoever wants pages and not gRPC: nothing is said about protocols.
    pub(super) fn for_pages(&self) -> Tls {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.clear();
        Tls { config: Arc::new(config), wanted: self.wanted, expected: self.expected.clone() }
    }

    /// Shakes hands over a stream to `host`, whose certificate must be good for that name or address.
    ///
    /// # Errors
    /// Why not, in the words of Go's libraries where they have some.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = self.expected.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name for a certificate"))?;
        let shaken = TlsConnector::from(self.config.clone()).connect(name, stream).await;
        shaken.map_err(|error| format!("authentication handshake failed: {}", handshake_text(&error)))
    }
}

/// Who we are: a certificate with its chain, and its key.
fn identity(cert: &str, key: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let (cert_text, key_text) = (read(cert)?, read(key)?);
    let chain = certificates(&cert_text)
        .ok_or_else(|| format!("tls: failed to find any PEM data in certificate input ({cert})"))?;
    let key = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|_| format!("tls: failed to find any PEM data in key input ({key})"))?;
    Ok((chain, key))
}

/// All certificates of a PEM text; `None` if it has none.
fn certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().ok()?;
    if found.is_empty() { None } else { Some(found) }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut text))
        .map_err(|error| format!("open {path}: {}", os_error(&error)))?;
    Ok(text)
}

/// Why a handshake failed, in the words of Go's libraries where they have some.
fn handshake_text(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "x509: certificate signed by unknown authority".into()
        }
        // Its own CA, and not among those given.
        Some(Error::InvalidCertificate(CertificateError::Other(why))) if is_ca_as_server(why) => {
            "x509: certificate signed by unknown authority".into()
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "x509: certificate has expired or is not yet valid".into(),
        Some(Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        )) => {
            "tls: the server's certificate has a kind of key (such as P-521, which etcd's --auto-tls makes) that this \
               program cannot check; give the server an ECDSA P-256 or RSA certificate"
                .into()
        }
        Some(Error::InvalidMessage(_)) => "tls: first record does not look like a TLS handshake".into(),
        Some(other) => format!("tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => os_error(error),
    }
}

/// Takes what the given CA certificates (or the system's) vouch for. Like Go, it also takes a certificate that is itself
/// among those given: `openssl req -x509` makes one file that is both the server's certificate and its own CA.
#[derive(Debug)]
struct TrustGiven {
    given: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl TrustGiven {
    /// A system without certificates trusts nobody: then each handshake fails, and says so.
    fn new(provider: Arc<CryptoProvider>, cacert: &str) -> Result<TrustGiven, String> {
        let mut trust = TrustGiven { given: Vec::new(), roots: RootCertStore::empty(), provider };
        if cacert.is_empty() {
            trust.roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(trust);
        }
        trust.given = certificates(&read(cacert)?)
            .ok_or_else(|| format!("tls: failed to find any PEM data in certificate input ({cacert})"))?;
        for certificate in &trust.given {
            trust.roots.add(certificate.clone()).map_err(|error| format!("{cacert}: {error}"))?;
        }
        Ok(trust)
    }
}

impl ServerCertVerifier for TrustGiven {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, between, now, algorithms) {
            // The dates were checked before this was found.
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if is_ca_as_server(&why) && self.given.iter().any(|given| given == certificate) => {}
            verdict => verdict?,
        }
        verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_ca_as_server(why: &OtherError) -> bool {
    why.0.to_string() == "CaUsedAsEndEntity"
}

/// Takes every certificate (`--insecure-skip-tls-verify`), also those with keys that could not be checked here: etcd's
/// `--auto-tls` makes such.
#[derive(Debug)]
struct TrustAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ctl/tests/conversation/certs");

    /// What is said of `certificate`, presented for `name` at `year`, by one who trusts `ca`.
    fn verdict(ca: &str, certificate: &str, name: &str, year: u64) -> Result<(), Error> {
        let trust = TrustGiven::new(Arc::new(ring::default_provider()), &format!("{CERTS}/{ca}")).unwrap();
        let shown = certificates(&read(&format!("{CERTS}/{certificate}")).unwrap()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
        trust.verify_server_cert(&shown[0], &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_certificate_that_is_its_own_ca_is_trusted_where_it_was_given() {
        assert_eq!(verdict("self-signed.pem", "self-signed.pem", "127.0.0.1", 2030), Ok(()));
        let other_name = verdict("self-signed.pem", "self-signed.pem", "127.0.0.2", 2030);
        assert!(matches!(other_name, Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))));
        let too_old = verdict("self-signed.pem", "self-signed.pem", "127.0.0.1", 2200);
        assert!(matches!(too_old, Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. }))));
        assert!(verdict("ca.pem", "self-signed.pem", "127.0.0.1", 2030).is_err());
    }

    #[test]
    fn a_chain_of_trust_is_followed() {
        assert_eq!(verdict("ca.pem", "member.pem", "127.0.0.1", 2030), Ok(()));
        assert!(verdict("ca.pem", "member.pem", "elsewhere", 2030).is_err());
        assert!(verdict("self-signed.pem", "member.pem", "127.0.0.1", 2030).is_err());
    }
}
