//! Talking to another member: dial, say who we are, then whatever is queued, for as long as it listens.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eyrie_api::peer::Pulse;
use eyrie_api::peer::part::What;
use eyrie_api::peer::peer_client::PeerClient;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Link, REMOVED};
use crate::limits::{
    PEER_DIAL_PAUSE_MAX, PEER_DIAL_PAUSE_MIN, PEER_DIAL_TIMEOUT, PEER_PING_INTERVAL, PEER_SILENCE_MAX,
};
use crate::node::{Item, Shared};
use crate::tls::PeerTls;
use crate::{log_error, log_info, log_warn};

/// Dials and talks until the link is closed.
pub(super) async fn keep_talking(shared: Arc<Shared>, link: Arc<Link>) {
    let mut pause = PEER_DIAL_PAUSE_MIN;
    let mut said = String::new();
    while !link.is_closed() {
        let begun = Instant::now();
        let why = talk(&shared, &link).await;
        let was_up = link.lost();
        if link.is_closed() {
            return;
        }
        if was_up {
            shared.inbox.put_from_peer(vec![Item::PeerLost(link.member)]);
        }
        let (peer, error) = (format!("{:x}", link.member), why.to_string());
        if is_removal(&why) {
            log_error!("the member has been permanently removed from the cluster", "told-by" = &peer);
            shared.ending.end(removed_words());
            return;
        }
        if said != error {
            let urls = link.urls().join(",");
            log_warn!(
                "can't talk to a member; it is tried again",
                "remote-peer-id" = &peer,
                "peer-urls" = &urls,
                "error" = &error
            );
            said = error;
        }
        pause = if was_up && begun.elapsed() > PEER_DIAL_PAUSE_MAX {
            said.clear();
            PEER_DIAL_PAUSE_MIN
        } else {
            (pause * 2).min(PEER_DIAL_PAUSE_MAX)
        };
        tokio::time::sleep(pause).await;
    }
}

/// What a member that left says before it ends.
pub(crate) fn removed_words() -> String {
    format!(
        "{REMOVED}. Its data stays as it is and is of no more use here; to bring this machine back, run `etcdctl member add` \
         and start it with an empty --data-dir and --initial-cluster-state=existing"
    )
}

fn is_removal(status: &Status) -> bool {
    status.code() == Code::PermissionDenied && status.message() == REMOVED
}

/// One connection from its dialing to its end, and why it ended.
async fn talk(shared: &Arc<Shared>, link: &Arc<Link>) -> Status {
    let channel = match endpoint().connect_with_connector(connector(shared.peers.tls(), link.clone())).await {
        Ok(channel) => channel,
        Err(error) => return Status::unavailable(chain(&error)),
    };
    let mut client = PeerClient::new(channel);
    let hello = shared.peers.hello(link.member);
    let answer = match tokio::time::timeout(PEER_DIAL_TIMEOUT, client.talk(link.stream(hello))).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => return explained(status),
        Err(_) => return Status::deadline_exceeded("it took the connection, but said nothing"),
    };
    link.established();
    let peer = format!("{:x}", link.member);
    log_info!("established TCP streaming connection with remote peer", "remote-peer-id" = &peer);
    let mut pulses = answer.into_inner();
    let begun = Instant::now();
    let mut ping = tokio::time::interval(PEER_PING_INTERVAL);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            pulse = pulses.message() => match pulse {
                Ok(Some(pulse)) => {
                    heard = Instant::now();
                    note(link, begun, &pulse);
                }
                Ok(None) => return Status::unavailable("it ended the connection"),
                Err(status) => return status,
            },
            _ = ping.tick() => {
                if heard.elapsed() > PEER_SILENCE_MAX {
                    return Status::deadline_exceeded("it does not answer any more");
                }
                let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                // A full queue is a sign of its own; the silence after it is found above.
                let _ = link.push(0, What::Ping(nanos));
            }
        }
    }
}

fn note(link: &Link, begun: Instant, pulse: &Pulse) {
    let round_trip = begun.elapsed().saturating_sub(Duration::from_nanos(pulse.ping));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(round_trip / 2).as_nanos();
    let ahead = i128::from(pulse.clock) - i128::try_from(then).unwrap_or_default();
    link.pulse(round_trip, i64::try_from(ahead).unwrap_or_default());
}

/// What upstream answers to a call that it does not know, in words that help.
fn explained(status: Status) -> Status {
    let inner = chain(&status);
    if inner.contains("received fatal alert") {
        return Status::unavailable(format!(
            "it does not admit this member: {inner}. Look at the certificates of both, and at its log (rejected connection)"
        ));
    }
    match status.code() {
        Code::Unimplemented | Code::Unknown | Code::Internal => Status::new(
            status.code(),
            format!(
                "what listens there does not speak the language of Eyrie's members ({}): is it an upstream etcd, or a client \
                 port? Members of both kinds can't share a cluster: bring the data over with a snapshot",
                status.message()
            ),
        ),
        _ => status,
    }
}

/// How calls to a member are made.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::from_static("http://peer.eyrie")
        .connect_timeout(PEER_DIAL_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(PEER_SILENCE_MAX)
        .keep_alive_timeout(PEER_SILENCE_MAX)
        .keep_alive_while_idle(true)
}

/// Bytes that may be under way before the receiver has taken them: one large batch.
const WINDOW_BYTES: u32 = 4 << 20;

/// A channel for calls apart from the talk; it connects when it is used.
pub(super) fn channel(tls: Option<PeerTls>, link: &Arc<Link>) -> Channel {
    let target = link.clone();
    link.channel(|| endpoint().connect_with_connector_lazy(connector(tls, target)))
}

/// A connection to a member, encrypted or not.
pub(super) trait Line: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Line for S {}

pub(super) fn connector(
    tls: Option<PeerTls>,
    link: Arc<Link>,
) -> impl tower::Service<
    http::Uri,
    Response = TokioIo<Box<dyn Line>>,
    Error = std::io::Error,
    Future = impl Future<Output = std::io::Result<TokioIo<Box<dyn Line>>>> + Send,
> + Send
+ 'static {
    tower::service_fn(move |_| {
        let (tls, urls) = (tls.clone(), link.urls());
        async move { connect_any(tls.as_ref(), &urls).await }
    })
}

/// Connects to the first of several URLs that answers.
pub(super) async fn connect_any(tls: Option<&PeerTls>, urls: &[String]) -> std::io::Result<TokioIo<Box<dyn Line>>> {
    let mut why = std::io::Error::other("the member has no peer URL");
    for url in urls {
        match connect(tls, url).await {
            Ok(line) => return Ok(TokioIo::new(line)),
            Err(error) => why = std::io::Error::new(error.kind(), format!("{url}: {error}")),
        }
    }
    Err(why)
}

async fn connect(tls: Option<&PeerTls>, url: &str) -> std::io::Result<Box<dyn Line>> {
    let other = |why: &str| std::io::Error::other(why.to_owned());
    let scheme_wrong = || other("only http://, https://, unix:// and unixs:// peer URLs can be dialed");
    let (scheme, place) = url.split_once("://").ok_or_else(scheme_wrong)?;
    let secure = match scheme {
        "http" | "unix" => None,
        "https" | "unixs" => {
            let words = "this member was started without TLS for peers: give --peer-trusted-ca-file, --peer-cert-file and \
                         --peer-key-file";
            Some(tls.ok_or_else(|| other(words))?)
        }
        _ => return Err(scheme_wrong()),
    };
    if scheme.starts_with("unix") {
        // As upstream writes it, a socket's name may look like an address: `unix://localhost:2380`.
        let stream = in_time(tokio::net::UnixStream::connect(place)).await?;
        return encrypted(secure, host_of(place), stream).await;
    }
    let place = place.trim_end_matches('/');
    let stream = in_time(tokio::net::TcpStream::connect(place)).await?;
    stream.set_nodelay(true)?;
    encrypted(secure, host_of(place), stream).await
}

async fn in_time<S>(dialed: impl Future<Output = std::io::Result<S>>) -> std::io::Result<S> {
    let dialed = tokio::time::timeout(PEER_DIAL_TIMEOUT, dialed).await;
    dialed.map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))?
}

async fn encrypted<S: Line + 'static>(tls: Option<&PeerTls>, host: &str, stream: S) -> std::io::Result<Box<dyn Line>> {
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => Ok(Box::new(tls.connect(host, stream).await?)),
    }
}

/// The host of `host:port`, without the brackets of IPv6.
pub(super) fn host_of(place: &str) -> &str {
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
