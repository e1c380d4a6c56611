//! Between members: each is server and client to the others.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eyrie_api::client::{Tls, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite};
use x509_parser::extensions::GeneralName;

use super::admit::Standards;
use super::reload::Reloading;
use super::server::{ServerStream, ServerTls, Side};
use super::{files, suites};
use crate::config::{Config, TlsConfig};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::node::Fatal;

/// An encrypted connection to a member that was dialled.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<S>;

/// How members speak to each other over TLS. Cheap to clone; follows its files.
#[derive(Debug, Clone)]
pub struct PeerTls {
    /// `None` where no certificate is given: then only dialling is possible.
    server: Option<ServerTls>,
    client: Arc<Reloading<(Tls, Standards)>>,
    skip_san: bool,
}

impl PeerTls {
    /// Reads the files of the peers' side (`--peer-cert-file` and its kin, or `--peer-auto-tls`).
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn open(config: &Config) -> Result<Self, Fatal> {
        let given = Side::Peers.settled(config)?;
        let server = match given.cert_file {
            Some(_) => Some(ServerTls::with(Side::Peers, given.clone(), config.tls.clone())?),
            None => None,
        };
        let skip_san = given.skip_client_san_verification;
        let shown = dialling_files(&given);
        let mut files: Vec<PathBuf> = [&shown.cacert, &shown.cert, &shown.key]
            .into_iter()
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect();
        files.extend(given.crl_file.clone());
        let bounds = config.tls.clone();
        let make = move || {
            let tls = Tls::read_within(&shown, &suites::provider(&bounds), &suites::versions(&bounds))?;
            Ok((tls, Standards::read(&given)?))
        };
        let client = Reloading::new("dialling peers", files, make).map_err(Fatal::Other)?;
        Ok(Self { server, client: Arc::new(client), skip_san })
    }

    /// Whether members can be accepted over TLS: a certificate is there.
    pub fn can_listen(&self) -> bool {
        self.server.is_some()
    }

    /// Shakes hands with a member that connected from `from`, within a deadline, and checks its certificate: vouched for,
    /// not revoked, with an allowed name, and, unless that is switched off or it comes over a unix socket (`None`), naming
    /// the address that it comes from. `members` are the host names in the members' peer URLs; a wildcard in a certificate is looked for among them.
    ///
    /// # Errors
    /// Any of these does not hold.
    pub async fn accept<S>(&self, stream: S, from: Option<IpAddr>, members: &[String]) -> io::Result<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(server) = &self.server else {
            return Err(io::Error::other(
                "this member has no certificate for peers (--peer-cert-file, --peer-key-file)",
            ));
        };
        let within = async {
            let (stream, _) = server.accept(stream).await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            if let (Some(shown), Some(from)) = (shown.filter(|_| !self.skip_san), from) {
                let names = Names::of(shown)?;
                if !names.allow(from, members).await {
                    return Err(io::Error::other(format!(
                        "tls: {:?} does not match any of DNSNames {:?} nor an IP address of the certificate",
                        from.to_string(),
                        names.hosts
                    )));
                }
            }
            Ok(stream)
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, within).await.unwrap_or_else(|_| Err(late(HANDSHAKE_TIMEOUT)))
    }

    /// Shakes hands with the member that was dialled as `host` (a name or an address), within a deadline. Its certificate
    /// must be as good as that of one that connects: not revoked, with an allowed name.
    ///
    /// # Errors
    /// Its certificate is not vouched for or names another host, or it did not like ours.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let current = self.client.current();
        let (tls, standards) = &*current;
        let Ok(shaken) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.connect(host, stream)).await else {
            return Err(late(HANDSHAKE_TIMEOUT));
        };
        let stream = shaken.map_err(io::Error::other)?;
        if let Some((shown, between)) = stream.get_ref().1.peer_certificates().and_then(<[_]>::split_first) {
            standards.judge(shown, between).map_err(|error| io::Error::other(format!("tls: {error}")))?;
        }
        Ok(stream)
    }
}

fn late(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no TLS handshake within {limit:?}"))
}

/// What this member shows and trusts when it dials.
fn dialling_files(given: &TlsConfig) -> TlsFiles {
    let text =
        |file: &Option<PathBuf>| file.as_ref().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
    let own = given.client_cert_file.is_none();
    TlsFiles {
        cacert: text(&given.trusted_ca_file),
        cert: text(if own { &given.cert_file } else { &given.client_cert_file }),
        key: text(if own { &given.key_file } else { &given.client_key_file }),
        insecure_transport: false,
        // Members that made their own certificates cannot vouch for each other.
        insecure_skip_verify: given.auto,
    }
}

/// The names in a certificate.
struct Names {
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    fn of(certificate: &rustls::pki_types::CertificateDer<'_>) -> io::Result<Self> {
        let parsed = files::parse(certificate).map_err(io::Error::other)?;
        let mut names = Self { hosts: Vec::new(), addresses: Vec::new() };
        let extension = parsed.subject_alternative_name().map_err(io::Error::other)?;
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(host) => names.hosts.push(host.to_string()),
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(names)
    }

    /// A certificate without names may come from anywhere, as in etcd.
    async fn allow(&self, from: IpAddr, members: &[String]) -> bool {
        let from = from.to_canonical();
        if (self.hosts.is_empty() && self.addresses.is_empty()) || self.addresses.contains(&from) {
            return true;
        }
        for host in self.candidates(members) {
            let Ok(found) = tokio::net::lookup_host((host, 0)).await else { continue };
            if found.map(|found| found.ip().to_canonical()).any(|found| found == from) {
                return true;
            }
        }
        false
    }

    /// Plain names, and for each wildcard the members that it covers.
    fn candidates<'a>(&'a self, members: &'a [String]) -> Vec<&'a str> {
        let mut found = Vec::new();
        for host in &self.hosts {
            match host.strip_prefix('*') {
                None => found.push(host.as_str()),
                Some(rest) => found.extend(members.iter().filter(|member| member.ends_with(rest)).map(String::as_str)),
            }
        }
        found
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_looked_for_among_the_members() {
        let names = Names { hosts: vec!["localhost".into(), "*.etcd".into()], addresses: vec![] };
        let members = ["a.etcd".to_owned(), "b.other".to_owned()];
        assert_eq!(names.candidates(&members), ["localhost", "a.etcd"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let allow = |names: &Names, from: [u8; 4]| runtime.block_on(names.allow(IpAddr::from(from), &[]));
        assert!(allow(&names, [127, 0, 0, 1]));
        assert!(!allow(&names, [127, 0, 0, 9]));
        let nameless = Names { hosts: vec![], addresses: vec![] };
        assert!(allow(&nameless, [127, 0, 0, 9]));
        let by_address = Names { hosts: vec![], addresses: vec![[127, 0, 0, 9].into()] };
        assert!(allow(&by_address, [127, 0, 0, 9]) && !allow(&by_address, [127, 0, 0, 1]));
    }
}
