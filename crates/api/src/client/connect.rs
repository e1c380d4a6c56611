//! Making connections: all endpoints are dialled at once, the first that answers is used.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};

use super::failure::os_error;
use super::tls::Tls;
use super::{Address, CallError, Config, Deadline};

/// Pause after all endpoints refused, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The shortest pause between keep-alive pings that servers accept.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);

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
        dials.spawn(async move { channel(&address, &config).await });
    }
    while let Some(dialled) = dials.join_next().await {
        match dialled {
            Ok(Ok(channel)) => return Some(channel),
            Ok(Err(text)) => *trouble = Some(format!("connection error: desc = \"transport: {text}\"")),
            Err(_) => {}
        }
    }
    None
}

/// Connects to one endpoint of any gRPC service, and knows nothing of what is said there. The channel dials it again by
/// itself when the connection is lost; nobody logs in.
///
/// # Errors
/// Why the endpoint could not be reached, or could not be believed.
pub async fn dial(address: &Address, config: &Config) -> Result<Channel, String> {
    channel(address, config).await
}

/// Connects to one endpoint. The channel dials it again by itself when the connection is lost.
async fn channel(address: &Address, config: &Config) -> Result<Channel, String> {
    // A scheme decides; without one the flags do.
    let secure = address.is_secure() || (config.tls.wanted && !address.is_plain());
    let scheme = if secure { "https" } else { "http" };
    let authority = if address.is_unix() {
        "localhost"
    } else {
        address.host_port().map_err(|why| format!("Error while dialing dial tcp: {why}"))?;
        address.dialled()
    };
    let bad = |error: &dyn std::fmt::Display| format!("Error while dialing dial tcp: address {authority}: {error}");
    let origin: Uri = format!("{scheme}://{authority}").parse().map_err(|error| bad(&error))?;
    let endpoint = Endpoint::from(origin)
        .http2_keep_alive_interval(config.keepalive_time.max(KEEPALIVE_MIN))
        .keep_alive_timeout(config.keepalive_timeout.max(Duration::from_secs(1)))
        .keep_alive_while_idle(true);
    let (address, tls) = (address.clone(), secure.then(|| config.tls.clone()));
    let limit = config.dial_timeout.max(Duration::from_millis(1));
    let connector = tower::service_fn(move |_: Uri| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let stream = tokio::time::timeout(limit, stream(&address, tls))
                .await
                .unwrap_or_else(|_| Err(dial_text(&address, "i/o timeout")));
            stream.map(|(stream, _)| TokioIo::new(stream)).map_err(std::io::Error::other)
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| deepest(&error).to_string())
}

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a socket, and shakes hands when it is to be encrypted; with the certificate that the server showed.
pub(super) async fn stream(address: &Address, tls: Option<Tls>) -> Result<(Box<dyn Stream>, Option<Vec<u8>>), String> {
    let (host, plain): (&str, Box<dyn Stream>) = if address.is_unix() {
        let stream = UnixStream::connect(address.dialled()).await.map_err(|error| refusal(address, &error))?;
        ("localhost", Box::new(stream))
    } else {
        let (host, port) = address.host_port().map_err(|why| format!("Error while dialing dial tcp: {why}"))?;
        let stream = TcpStream::connect((host, port)).await.map_err(|error| refusal(address, &error))?;
        stream.set_nodelay(true).map_err(|error| refusal(address, &error))?;
        (host, Box::new(stream))
    };
    let Some(tls) = tls else { return Ok((plain, None)) };
    let stream = tls.connect(host, plain).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|shown| shown.to_vec());
    Ok((Box::new(stream), shown))
}

fn dial_text(address: &Address, why: &str) -> String {
    let network = if address.is_unix() { "unix" } else { "tcp" };
    format!("Error while dialing dial {network} {}: {why}", address.dialled())
}

/// Why a socket could not be opened, worded as Go words it.
fn refusal(address: &Address, error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => dial_text(address, &format!("connect: {}", os_error(error))),
        // Names are looked up by the C library, whose errors have no number here.
        None => {
            let host = address.host_port().map_or(address.dialled(), |(host, _)| host);
            let unknown = error.to_string().contains("not known");
            let why = if unknown { "no such host".into() } else { os_error(error) };
            format!("Error while dialing dial tcp: lookup {host}: {why}")
        }
    }
}

fn deepest<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}
