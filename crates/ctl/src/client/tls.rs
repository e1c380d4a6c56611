//! Certificates: whom we trust, and who we are.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// For rustls.
    pub(super) config: Arc<ClientConfig>,
    /// Whether addresses without a scheme use it too.
    pub(super) wanted: bool,
}

impl Tls {
    /// Reads what the TLS flags say. Without a CA file the system's certificates are trusted.
    ///
    /// # Errors
    /// A file that cannot be read, or a certificate without its key.
    pub(crate) fn from_flags(
        cacert: &str,
        cert: &str,
        key: &str,
        insecure_transport: bool,
        skip_verify: bool,
    ) -> Result<Tls, String> {
        if cert.is_empty() != key.is_empty() {
            return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone { provider }))
        } else {
            builder.with_root_certificates(roots(cacert)?)
        };
        let mut config = if cert.is_empty() {
            builder.with_no_client_auth()
        } else {
            let key_text = read(key)?;
            let key = PrivateKeyDer::from_pem_slice(&key_text)
                .map_err(|_| format!("tls: failed to find any PEM data in key input ({key})"))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|error| format!("tls: {error}"))?
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let wanted = !(cacert.is_empty() && cert.is_empty() && insecure_transport);
        Ok(Tls { config: Arc::new(config), wanted })
    }
}

fn roots(cacert: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if cacert.is_empty() {
        // A system without certificates trusts nobody: then each handshake fails, and says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in certificates(cacert)? {
            roots.add(certificate).map_err(|error| format!("{cacert}: {error}"))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("tls: failed to find any PEM data in certificate input ({path})")),
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut text))
        .map_err(|error| format!("open {path}: {}", crate::go::os_error(&error)))?;
    Ok(text)
}

/// Why a handshake failed, in the words of Go's libraries where they have some.
pub(super) fn handshake_text(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
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
        None => crate::go::os_error(error),
    }
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
