//! One connection, from its socket to its last answer.
//!
//! ```text
//! accepted ─▶ lobby: first byte ─▶ handshake ─▶ first byte inside ─▶ talk: HTTP/1 or HTTP/2
//! ```

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::lobby::Lobby;
use super::together::Together;
use crate::dispatch::Dispatch;
use crate::limits::{FIRST_BYTE_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_BYTES_MAX, HEAD_TIMEOUT};
use crate::log_warn;
use crate::tls::{ClientIdentity, ServerStream, ServerTls};

/// One accepted connection.
pub(super) enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// A door as its connections share it.
pub(super) struct Opened {
    /// What answers.
    pub(super) dispatch: Arc<Dispatch>,
    /// `None`: in the clear.
    pub(super) tls: Option<ServerTls>,
}

/// What the protocol asks of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) max_concurrent_streams: u32,
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_timeout: Duration,
}

/// What the connections of all edges share.
pub(super) struct Household {
    pub(super) manners: Manners,
    /// How many are open.
    pub(super) open: AtomicUsize,
    pub(super) open_max: usize,
    pub(super) refusals: Sparingly,
}

/// What one connection needs to be served.
pub(super) struct Guest {
    pub(super) door: Arc<Opened>,
    pub(super) household: Arc<Household>,
    pub(super) lobby: Arc<Lobby>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.household.open.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn connected(connection: Connection, guest: Guest) {
    match connection {
        Connection::Tcp(stream) => {
            let _ = stream.set_nodelay(true);
            let from = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
            if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                welcome(stream, &from, guest).await;
            }
        }
        Connection::Unix(stream) => {
            if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                welcome(stream, "unix", guest).await;
            }
        }
    }
}

/// A socket that tells when something is there to be read.
trait Speaker: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Returns when there is something to read, or the other side went away.
    fn heard(&self) -> impl Future<Output = std::io::Result<()>> + Send;
}

impl Speaker for tokio::net::TcpStream {
    fn heard(&self) -> impl Future<Output = std::io::Result<()>> + Send {
        self.readable()
    }
}

impl Speaker for tokio::net::UnixStream {
    fn heard(&self) -> impl Future<Output = std::io::Result<()>> + Send {
        self.readable()
    }
}

/// A connection whose other side has begun to speak.
enum Greeted<S> {
    Plain(S),
    Secure(Box<ServerStream<S>>, Option<ClientIdentity>),
}

/// Waits in the lobby until the other side has begun to speak, then talks.
async fn welcome<S: Speaker>(socket: S, from: &str, guest: Guest) {
    let place = guest.lobby.enter().await;
    let mut stopped = guest.stopped.clone();
    let greeted = tokio::select! {
        greeted = greet(socket, &guest.door) => greeted,
        () = place.shown_out() => Ok(None),
        _ = stopped.changed() => Ok(None),
    };
    drop(place);
    match greeted {
        Ok(Some(Greeted::Plain(socket))) => talk(TokioIo::new(socket), None, &guest).await,
        Ok(Some(Greeted::Secure(stream, identity))) => talk(TokioIo::new(*stream), identity, &guest).await,
        Ok(None) => {}
        Err(error) => {
            if guest.household.refusals.may_tell() {
                let error = error.to_string();
                log_warn!("rejected connection", "remote-addr" = from, "error" = &error);
            }
        }
    }
}

/// The handshake where the door asks for one, and the first byte. `None`: the other side said nothing and is let go.
async fn greet<S: Speaker>(socket: S, door: &Opened) -> std::io::Result<Option<Greeted<S>>> {
    // Before that, not even the handshake's own memory is spent.
    match tokio::time::timeout(FIRST_BYTE_TIMEOUT, socket.heard()).await {
        Ok(heard) => heard?,
        Err(_) => return Ok(None),
    }
    let Some(tls) = &door.tls else { return Ok(Some(Greeted::Plain(socket))) };
    let late =
        || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no handshake within {HANDSHAKE_TIMEOUT:?}"));
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await;
    let (stream, identity) = accepted.unwrap_or_else(|_| Err(late()))?;
    let mut stream = Box::new(stream);
    match tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.fill_buf()).await {
        Ok(Ok([])) | Err(_) => Ok(None),
        // Whoever only wanted to see the certificate goes without a word, and that is no refusal.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) => Ok(Some(Greeted::Secure(stream, identity))),
    }
}

async fn talk<I>(io: I, identity: Option<ClientIdentity>, guest: &Guest)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let manners = guest.household.manners;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(manners.max_concurrent_streams)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(manners.keepalive_interval)
        .keep_alive_timeout(manners.keepalive_timeout)
        // Upstream's has none, and every answer would pay for it.
        .auto_date_header(false);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .writev(true)
        .keep_alive(true);
    let dispatch = guest.door.dispatch.clone();
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        if let Some(identity) = &identity {
            request.extensions_mut().insert(identity.clone());
        }
        dispatch.clone().call(request)
    });
    let talking = builder.serve_connection(Together::new(io), service);
    tokio::pin!(talking);
    let mut stopped = guest.stopped.clone();
    tokio::select! {
        // What goes wrong on one connection is between it and its client.
        _ = &mut talking => {}
        _ = stopped.changed() => {
            talking.as_mut().graceful_shutdown();
            let _ = talking.await;
        }
    }
}

/// Leave to tell something a few times in an interval.
pub(crate) struct Sparingly {
    most: u32,
    interval: Duration,
    told: parking_lot::Mutex<(Instant, u32)>,
}

impl Sparingly {
    pub(crate) fn new(most: u32, interval: Duration) -> Self {
        Self { most, interval, told: parking_lot::Mutex::new((Instant::now(), 0)) }
    }

    pub(crate) fn may_tell(&self) -> bool {
        let mut told = self.told.lock();
        if told.0.elapsed() >= self.interval {
            *told = (Instant::now(), 0);
        }
        told.1 += 1;
        told.1 <= self.most
    }
}
