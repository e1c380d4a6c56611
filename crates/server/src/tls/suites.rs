//! Cipher suites by Go's names, and versions.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::{CipherSuite, SupportedProtocolVersion, version};

use crate::config::{TlsBounds, TlsVersion};

/// Suites that exist here: what Go calls them, and their number. Those of TLS 1.3 are always on, as in Go.
const OURS: [(&str, CipherSuite); 11] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// Suites that Go has and this has not: without forward secrecy, or with a cipher that is broken or brittle.
const WEAK: [&str; 15] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// Checks a list of suites; returns those that Go would use and this leaves out.
///
/// # Errors
/// etcd's words for a name that nobody knows; our own where nothing usable is left.
pub fn check_suites(bounds: &TlsBounds) -> Result<Vec<String>, String> {
    let mut left_out = Vec::new();
    for name in &bounds.cipher_suites {
        if OURS.iter().any(|(ours, _)| ours == name) {
            continue;
        }
        if !WEAK.contains(&name.as_str()) && name != "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256" {
            return Err(format!("unexpected TLS cipher suite {name:?}"));
        }
        left_out.push(name.clone());
    }
    let only_12 = bounds.max == Some(TlsVersion::Tls12);
    if !bounds.cipher_suites.is_empty() && only_12 && chosen(bounds).next().is_none() {
        let offered: Vec<_> = OURS.iter().filter(|(_, suite)| is_12(*suite)).map(|(name, _)| *name).collect();
        return Err(format!(
            "--cipher-suites names no suite that is offered here for TLS 1.2, and --tls-max-version forbids 1.3; name at \
             least one of {}",
            offered.join(", ")
        ));
    }
    Ok(left_out)
}

/// The ciphers that the bounds allow. A list bounds TLS 1.2 only: in 1.3 all suites are sound, and Go has them all on.
pub(super) fn provider(bounds: &TlsBounds) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !bounds.cipher_suites.is_empty() {
        let chosen: Vec<CipherSuite> = chosen(bounds).collect();
        provider.cipher_suites.retain(|suite| !is_12(suite.suite()) || chosen.contains(&suite.suite()));
    }
    Arc::new(provider)
}

/// The versions that the bounds allow.
pub(super) fn versions(bounds: &TlsBounds) -> Vec<&'static SupportedProtocolVersion> {
    let (min, max) = (bounds.min.unwrap_or(TlsVersion::Tls12), bounds.max.unwrap_or(TlsVersion::Tls13));
    // A list without a suite of 1.2 leaves 1.3 alone, which rustls wants to be told.
    let any_12 = bounds.cipher_suites.is_empty() || chosen(bounds).next().is_some();
    let all = [(TlsVersion::Tls12, &version::TLS12), (TlsVersion::Tls13, &version::TLS13)];
    let allowed = |of: TlsVersion| min <= of && of <= max && (of == TlsVersion::Tls13 || any_12);
    all.into_iter().filter(|(of, _)| allowed(*of)).map(|(_, version)| version).collect()
}

/// The suites of TLS 1.2 that are named and exist here.
fn chosen(bounds: &TlsBounds) -> impl Iterator<Item = CipherSuite> {
    let of = |name: &String| OURS.iter().find(|(ours, _)| ours == name).map(|(_, suite)| *suite);
    bounds.cipher_suites.iter().filter_map(of).filter(|suite| is_12(*suite))
}

/// The suites of TLS 1.3 are numbered 0x13xx.
fn is_12(suite: CipherSuite) -> bool {
    u16::from(suite) >> 8 != 0x13
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(suites: &[&str], max: Option<TlsVersion>) -> TlsBounds {
        TlsBounds { cipher_suites: suites.iter().map(|name| name.to_string()).collect(), max, ..TlsBounds::default() }
    }

    #[test]
    fn names_are_gos() {
        let one = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
        let weak = "TLS_RSA_WITH_AES_256_CBC_SHA";
        assert_eq!(check_suites(&bounds(&[one], None)), Ok(vec![]));
        assert_eq!(check_suites(&bounds(&[one, weak], None)), Ok(vec![weak.to_owned()]));
        assert_eq!(check_suites(&bounds(&["RC4"], None)), Err("unexpected TLS cipher suite \"RC4\"".into()));
        assert!(
            check_suites(&bounds(&[weak], Some(TlsVersion::Tls12))).unwrap_err().contains("no suite that is offered")
        );
        let all = |names: &[&str]| bounds(names, None);
        assert_eq!(provider(&all(&[one])).cipher_suites.len(), 4, "three of TLS 1.3 and the one");
        assert_eq!(provider(&all(&[])).cipher_suites.len(), ring::default_provider().cipher_suites.len());
        assert_eq!(versions(&all(&[one])).len(), 2);
        assert_eq!(versions(&all(&[weak])), [&version::TLS13]);
        assert_eq!(versions(&bounds(&[], Some(TlsVersion::Tls12))), [&version::TLS12]);
        // Every suite of ours can really be made.
        for (name, suite) in OURS {
            assert!(ring::default_provider().cipher_suites.iter().any(|made| made.suite() == suite), "{name}");
        }
    }
}
