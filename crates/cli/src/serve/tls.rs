//! The flags of TLS: two sides, each with its files, and bounds for both.
//!
//! Law: a member that was asked for TLS does not start without it. What the files hold is looked at by the server.

use std::path::PathBuf;

use eyrie_server::Config;
use eyrie_server::config::{TlsBounds, TlsConfig, TlsVersion};
use eyrie_server::tls::check_suites;

use super::given::Given;
use super::settings::{number, switch, words};

/// How clients connect.
pub(super) fn clients(given: &Given) -> TlsConfig {
    TlsConfig {
        cert_file: file(given, "cert-file"),
        key_file: file(given, "key-file"),
        client_cert_file: None,
        client_key_file: None,
        client_cert_auth: switch(given, "client-cert-auth", false),
        trusted_ca_file: file(given, "trusted-ca-file"),
        crl_file: file(given, "client-crl-file"),
        allowed_cns: names(given, "client-cert-allowed-cn"),
        allowed_hostnames: names(given, "client-cert-allowed-hostname"),
        skip_client_san_verification: true,
        auto: switch(given, "auto-tls", false),
    }
}

/// How members connect.
pub(super) fn peers(given: &Given) -> TlsConfig {
    TlsConfig {
        cert_file: file(given, "peer-cert-file"),
        key_file: file(given, "peer-key-file"),
        client_cert_file: file(given, "peer-client-cert-file"),
        client_key_file: file(given, "peer-client-key-file"),
        client_cert_auth: switch(given, "peer-client-cert-auth", false),
        trusted_ca_file: file(given, "peer-trusted-ca-file"),
        crl_file: file(given, "peer-crl-file"),
        allowed_cns: names(given, "peer-cert-allowed-cn"),
        allowed_hostnames: names(given, "peer-cert-allowed-hostname"),
        skip_client_san_verification: switch(given, "experimental-peer-skip-client-san-verification", false),
        auto: switch(given, "peer-auto-tls", false),
    }
}

/// Versions and ciphers of both.
///
/// # Errors
/// etcd's words.
pub(super) fn bounds(given: &Given) -> Result<TlsBounds, String> {
    let text = |name: &str| given.get(name).unwrap_or_default();
    let version = |name: &str| match text(name) {
        "TLS1.2" => Some(TlsVersion::Tls12),
        "TLS1.3" => Some(TlsVersion::Tls13),
        _ => None,
    };
    let bounds = TlsBounds {
        min: version("tls-min-version"),
        max: version("tls-max-version"),
        cipher_suites: words(text("cipher-suites")),
        self_signed_cert_validity_years: number(given, "self-signed-cert-validity", 1),
    };
    if let (Some(min), Some(max)) = (bounds.min, bounds.max)
        && min > max
    {
        let (min, max) = (text("tls-min-version"), text("tls-max-version"));
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    if bounds.min == Some(TlsVersion::Tls13) && !bounds.cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".into());
    }
    check_suites(&bounds)?;
    Ok(bounds)
}

/// What must hold between the flags.
///
/// # Errors
/// The flags that do not fit, and what to do.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let client_urls = [&config.listen_client_urls, &config.listen_client_http_urls, &config.listen_metrics_urls]
        .into_iter()
        .flatten();
    for (prefix, tls, mut urls) in [
        ("", &config.client_tls, client_urls.collect::<Vec<_>>().into_iter()),
        ("peer-", &config.peer_tls, config.listen_peer_urls.iter().collect::<Vec<_>>().into_iter()),
    ] {
        pair(&format!("--{prefix}cert-file"), &format!("--{prefix}key-file"), &tls.cert_file, &tls.key_file)?;
        pair("--peer-client-cert-file", "--peer-client-key-file", &tls.client_cert_file, &tls.client_key_file)?;
        let side = if prefix.is_empty() { "client" } else { "peer" };
        if let Some(url) = urls.find(|url| url.tls)
            && tls.cert_file.is_none()
            && !tls.auto
        {
            return Err(format!(
                "TLS key/cert (--{prefix}cert-file, --{prefix}key-file) must be provided for {side} url {url} with HTTPS \
                 scheme (or --{prefix}auto-tls, which encrypts and proves nothing)"
            ));
        }
        if !tls.allowed_cns.is_empty() && !tls.allowed_hostnames.is_empty() {
            return Err(format!(
                "AllowedCN and AllowedHostname are mutually exclusive (cn={:?}, hostname={:?})",
                tls.allowed_cns, tls.allowed_hostnames
            ));
        }
        let asks = tls.client_cert_auth || tls.trusted_ca_file.is_some();
        let names = !tls.allowed_cns.is_empty() || !tls.allowed_hostnames.is_empty();
        if !asks && (names || tls.crl_file.is_some()) {
            return Err(format!(
                "allowed names and the revocation list judge the certificates of {side}s, but none are asked for: \
                 add --{prefix}client-cert-auth and --{prefix}trusted-ca-file"
            ));
        }
    }
    Ok(())
}

/// A certificate and its key come together.
fn pair(cert_flag: &str, key_flag: &str, cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Result<(), String> {
    if cert.is_some() == key.is_some() {
        return Ok(());
    }
    let shown = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    Err(format!(
        "KeyFile and CertFile must both be present[key: {}, cert: {}]: give {cert_flag} and {key_flag}",
        shown(key),
        shown(cert)
    ))
}

fn file(given: &Given, name: &str) -> Option<PathBuf> {
    given.get(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn names(given: &Given, name: &str) -> Vec<String> {
    words(given.get(name).unwrap_or_default()).into_iter().map(|name| name.trim().to_owned()).collect()
}
