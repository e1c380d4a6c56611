//! Whom we admit: a certificate that somebody we trust vouches for, that is not revoked, and that bears an allowed name.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::files;
use crate::config::TlsConfig;

/// The judge of client certificates. Clients without one are not admitted.
#[derive(Debug)]
pub(super) struct Admission {
    vouched: Arc<dyn ClientCertVerifier>,
    /// The certificates given as those who vouch.
    given: Vec<CertificateDer<'static>>,
    standards: Standards,
}

impl Admission {
    /// Reads whom the configuration admits.
    ///
    /// # Errors
    /// The file that cannot be used.
    pub(super) fn new(config: &TlsConfig, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let (roots, given) = files::roots(config.trusted_ca_file.as_deref())?;
        let vouched = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(|error| format!("client certificates cannot be checked: {error}"))?;
        Ok(Self { vouched, given, standards: Standards::read(config)? })
    }
}

/// What a certificate must be beside vouched for.
#[derive(Debug)]
pub(super) struct Standards {
    revoked: HashSet<Vec<u8>>,
    common_names: Vec<String>,
    hostnames: Vec<ServerName<'static>>,
}

impl Standards {
    /// Reads them.
    ///
    /// # Errors
    /// The file that cannot be used, or the name that is none.
    pub(super) fn read(config: &TlsConfig) -> Result<Self, String> {
        let revoked = config.crl_file.as_deref().map(files::revoked).transpose()?.unwrap_or_default();
        let name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| format!("allowed host name {name:?} is no name of a host"))
        };
        let hostnames = config.allowed_hostnames.iter().map(name).collect::<Result<_, _>>()?;
        Ok(Self { revoked, common_names: config.allowed_cns.clone(), hostnames })
    }

    /// Judges a certificate and those between it and who vouches.
    ///
    /// # Errors
    /// One of them is revoked, or the first bears no allowed name.
    pub(super) fn judge(&self, certificate: &CertificateDer<'_>, between: &[CertificateDer<'_>]) -> Result<(), Error> {
        for shown in std::iter::once(certificate).chain(between) {
            if self.is_revoked(shown)? {
                return Err(Error::InvalidCertificate(CertificateError::Revoked));
            }
        }
        if !self.bears_an_allowed_name(certificate)? {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(())
    }

    fn is_revoked(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        if self.revoked.is_empty() {
            return Ok(false);
        }
        let parsed = files::parse(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(self.revoked.contains(&files::serial(parsed.raw_serial())))
    }

    fn bears_an_allowed_name(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        if self.common_names.is_empty() && self.hostnames.is_empty() {
            return Ok(true);
        }
        let name = common_name(certificate).unwrap_or_default();
        if self.common_names.contains(&name) {
            return Ok(true);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        Ok(self.hostnames.iter().any(|hostname| verify_server_name(&parsed, hostname).is_ok()))
    }
}

/// The common name of a certificate's subject; of several the last, as in Go.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = files::parse(certificate).ok()?;
    let name = parsed.subject().iter_common_name().last()?.as_str().ok()?;
    Some(name.to_owned())
}

impl ClientCertVerifier for Admission {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.vouched.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.vouched.verify_client_cert(certificate, between, now) {
            // `openssl req -x509` makes one file that is both certificate and CA, and Go takes it where it was given. Its
            // dates were checked before this was found.
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if why.0.to_string() == "CaUsedAsEndEntity" && self.given.iter().any(|given| given == certificate) => {}
            verdict => drop(verdict?),
        }
        self.standards.judge(certificate, between)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.vouched.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.vouched.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.vouched.supported_verify_schemes()
    }
}
