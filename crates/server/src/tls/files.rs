//! PEM files: certificates, keys, revocation lists. Every error names its file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

/// A key file is a few kilobytes, a bundle of all public authorities less than a megabyte.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A certificate with its chain, and its key; the two are seen to belong together.
///
/// # Errors
/// What is wrong with which file, and what to do.
pub(super) fn key_pair(cert_file: &Path, key_file: &Path) -> Result<Arc<CertifiedKey>, String> {
    let (cert, key) = (cert_file.display(), key_file.display());
    let chain = certificates(cert_file)?;
    let der = PrivateKeyDer::from_pem_slice(&read(key_file)?)
        .map_err(|_| format!("{key} holds no private key in PEM (-----BEGIN PRIVATE KEY-----, not encrypted)"))?;
    let pair = CertifiedKey::from_der(chain, der, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "{key} is not the key of the certificate in {cert}: the private key does not match the public key. Give the \
             pair that was made together"
        ),
        rustls::Error::InvalidCertificate(why) => format!("{cert} cannot be read: {why:?}"),
        other => format!(
            "the key in {key} cannot be used ({other}); RSA of 2048 bits and more, ECDSA P-256 and P-384, and Ed25519 can"
        ),
    })?;
    Ok(Arc::new(pair))
}

/// All certificates of a file, of which there is at least one.
///
/// # Errors
/// As above.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", file.display())),
        Err(error) => Err(format!("{} is not PEM: {error}", file.display())),
    }
}

/// Those who vouch for others: the certificates of a file, or without one the system's.
///
/// # Errors
/// As above; a system without certificates vouches for nobody, and that is an error too.
pub(super) fn roots(file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "client certificates are asked for, but there is nobody to vouch for them: this system has no \
                        certificates of its own; give --trusted-ca-file (--peer-trusted-ca-file)"
                    .into(),
            );
        }
        return Ok((roots, Vec::new()));
    };
    let given = certificates(file)?;
    for certificate in &given {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("{} holds a certificate that cannot be read: {error}", file.display()))?;
    }
    Ok((roots, given))
}

/// The serial numbers on all lists of a file, PEM or DER.
///
/// # Errors
/// As above.
pub(super) fn revoked(file: &Path) -> Result<HashSet<Vec<u8>>, String> {
    let text = read(file)?;
    let pem: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
    let lists: Vec<&[u8]> = if pem.is_empty() { vec![&text] } else { pem.iter().map(AsRef::as_ref).collect() };
    let mut serials = HashSet::new();
    for list in lists {
        let (_, list) = CertificateRevocationList::from_der(list).map_err(|error| {
            format!(
                "{} is no certificate revocation list in PEM (-----BEGIN X509 CRL-----) or DER: {error}",
                file.display()
            )
        })?;
        serials.extend(list.iter_revoked_certificates().map(|entry| serial(entry.raw_serial())));
    }
    Ok(serials)
}

/// A serial number as it is compared: without leading zeros.
pub(super) fn serial(raw: &[u8]) -> Vec<u8> {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    raw[zeros..].to_vec()
}

/// A certificate, read.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|error| error.to_string())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "; the user that runs this must be able to read it (ls -l)",
            std::io::ErrorKind::NotFound => "; check the path",
            _ => "",
        };
        format!("cannot read {}: {error}{hint}", file.display())
    };
    let bytes = std::fs::metadata(file).map_err(cannot)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{} has {bytes} bytes; that is no certificate", file.display()));
    }
    std::fs::read(file).map_err(cannot)
}
