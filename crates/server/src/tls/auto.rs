//! `--auto-tls`: a certificate that the member makes for itself. It encrypts; it proves nothing about who is there.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use eyrie_disk::datadir::{DataDir, Kind};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

use super::files;
use super::server::Side;
use crate::config::{Address, Config, TlsConfig, Url};
use crate::log::civil;
use crate::{log_info, log_warn};

const DAY_SECS: u64 = 86_400;

/// The configuration with the pair in `fixtures/client` or `fixtures/peer` of the data directory, made if it is not there.
///
/// # Errors
/// The pair cannot be made or written.
pub(super) fn settle(given: &TlsConfig, side: Side, urls: &[Url], config: &Config) -> Result<TlsConfig, String> {
    // What the directory is decides the start of the store; nothing is added to one that is not ours.
    let ours = [Kind::Absent, Kind::Empty, Kind::Unfinished];
    match DataDir::inspect(&config.data_dir) {
        Ok(kind) if ours.contains(&kind) || matches!(kind, Kind::Eyrie { .. }) => {}
        Ok(_) => {
            return Err(format!(
                "--auto-tls keeps its certificate in the data directory, and {} holds no store of this program",
                config.data_dir.display()
            ));
        }
        Err(error) => return Err(error.to_string()),
    }
    let folder = config.data_dir.join("fixtures").join(match side {
        Side::Clients => "client",
        Side::Peers => "peer",
    });
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if let Some(why) = unusable(&cert, &key) {
        if cert.exists() || key.exists() {
            log_warn!(
                "the automatic certificate is replaced",
                "cert-file" = cert.display().to_string(),
                "reason" = &why
            );
        }
        make(&cert, &key, &folder, urls, config.tls.self_signed_cert_validity_years)?;
    }
    Ok(TlsConfig { cert_file: Some(cert), key_file: Some(key), ..given.clone() })
}

/// Why the pair that may be there cannot be used; its keys may be of a kind that only upstream's program knows.
fn unusable(cert: &Path, key: &Path) -> Option<String> {
    let pair = match files::key_pair(cert, key) {
        Ok(pair) => pair,
        Err(why) => return Some(why),
    };
    let ends = files::parse(pair.cert.first()?).ok()?.validity().not_after.timestamp();
    (ends <= now_secs() as i64).then(|| "it has expired".into())
}

fn make(cert: &Path, key: &Path, folder: &Path, urls: &[Url], years: u32) -> Result<(), String> {
    if years == 0 {
        return Err("--self-signed-cert-validity is 0: a certificate must be valid for a year at least".into());
    }
    let hosts: Vec<String> = urls
        .iter()
        .filter_map(|url| match &url.address {
            Address::Tcp(host, _) if !host.is_empty() => Some(host.clone()),
            _ => None,
        })
        .collect();
    let cannot = |error: rcgen::Error| format!("cannot make a certificate: {error}");
    let mut params = CertificateParams::new(hosts).map_err(cannot)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let today = now_secs() / DAY_SECS;
    let beginning_of = |day: u64| {
        let (year, month, day) = civil(day as i64);
        rcgen::date_time_ymd(year as i32, month as u8, day as u8)
    };
    params.not_before = beginning_of(today);
    // Calendars end.
    params.not_after = beginning_of(today + u64::from(years.min(1000)) * 365);
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(cannot)?;
    let made = params.self_signed(&pair).map_err(cannot)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    write(key, &pair.serialize_pem(), 0o600)?;
    write(cert, &made.pem(), 0o644)?;
    log_info!(
        "made a certificate for itself: it encrypts, and proves nothing about who is there",
        "cert-file" = cert.display().to_string(),
        "valid-days" = u64::from(years) * 365
    );
    Ok(())
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
    // Removed first, so that a file that others could read does not keep its mode.
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(cannot)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(cannot)
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
