//! The peer port: members talk gRPC there, tools find a few pages.
//!
//! ```text
//! accepted ─▶ handshake, where the URL says https ─▶ a first request, soon ─▶ answers
//! ```
//! Whoever does not come that far in time is let go: places are few, and members need them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use eyrie_api::peer::peer_server::PeerServer;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;
use tower::Service;

use super::pages;
use super::service::PeerService;
use crate::edge::{Listener, Sparingly};
use crate::limits::{
    ACCEPT_PAUSE, PEER_CONNECTIONS_MAX, PEER_FIRST_REQUEST_MAX, PEER_SILENCE_MAX, REFUSALS_TOLD_INTERVAL,
    REFUSALS_TOLD_MAX,
};
use crate::log_warn;
use crate::node::{Fatal, Shared};
use crate::store::Store;
use crate::tls::PeerTls;

/// The thread on which members talk.
pub(crate) struct PeerThread {
    thread: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl PeerThread {
    /// Ends all talk.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

/// Serves members on these listeners, those with `true` over TLS, and dials them, until stopped.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    store: &Store,
    listeners: Vec<(Listener, bool)>,
) -> Result<PeerThread, Fatal> {
    let failed = |error: std::io::Error| Fatal::Other(format!("can't start the peer thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, mut stopped) = watch::channel(false);
    let service = PeerService { shared: shared.clone(), store: store.clone(), arrivals: Arc::default() };
    let shared = shared.clone();
    let body = move || {
        runtime.block_on(async move {
            shared.peers.run_on(tokio::runtime::Handle::current(), shared.clone());
            let places = Arc::new(tokio::sync::Semaphore::new(PEER_CONNECTIONS_MAX));
            let refusals = Arc::new(Sparingly::new(REFUSALS_TOLD_MAX, REFUSALS_TOLD_INTERVAL));
            for (listener, secure) in listeners {
                let tls = shared.peers.tls().filter(|_| secure);
                let door = Door { service: service.clone(), tls, places: places.clone(), refusals: refusals.clone() };
                tokio::spawn(accept(listener, door));
            }
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        // What still runs is dropped with its connections: a member that stops says nothing more.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("peer".into()).spawn(body).map_err(failed)?;
    Ok(PeerThread { thread, stop })
}

/// A place where members come in.
#[derive(Clone)]
struct Door {
    service: PeerService,
    /// `None`: in the clear.
    tls: Option<PeerTls>,
    places: Arc<tokio::sync::Semaphore>,
    refusals: Arc<Sparingly>,
}

async fn accept(listener: Listener, door: Door) {
    match listener {
        Listener::Tcp(listener) => {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            loop {
                let Ok(place) = door.places.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, from)) => {
                        let _ = stream.set_nodelay(true);
                        let door = door.clone();
                        tokio::spawn(async move { door.welcome(stream, Some(from.ip()), place).await });
                    }
                    Err(error) => rest(&error).await,
                }
            }
        }
        Listener::Unix(listener) => {
            let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
            loop {
                let Ok(place) = door.places.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let door = door.clone();
                        tokio::spawn(async move { door.welcome(stream, None, place).await });
                    }
                    Err(error) => rest(&error).await,
                }
            }
        }
    }
}

impl Door {
    async fn welcome<S>(self, stream: S, from: Option<IpAddr>, _place: tokio::sync::OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = &self.tls else { return connected(TokioIo::new(stream), self.service).await };
        match tls.accept(stream, from, &self.service.shared.peers.hosts()).await {
            Ok(stream) => connected(TokioIo::new(stream), self.service).await,
            Err(error) => {
                if self.refusals.may_tell() {
                    let (from, error) = (from.map_or("unix".into(), |from| from.to_string()), error.to_string());
                    log_warn!("rejected connection from a peer", "remote-addr" = &from, "error" = &error);
                }
            }
        }
    }
}

async fn rest(error: &std::io::Error) {
    let error = error.to_string();
    log_warn!("failed to accept a member's connection; it is tried again", "error" = &error);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connected<I>(io: I, service: PeerService)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(PEER_SILENCE_MAX)
        .keep_alive_timeout(PEER_SILENCE_MAX);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PEER_SILENCE_MAX);
    let asked = Arc::new(AtomicBool::new(false));
    let heard = asked.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        heard.store(true, Ordering::Relaxed);
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(service, request).await) }
    });
    let silent = async {
        tokio::time::sleep(PEER_FIRST_REQUEST_MAX).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // What goes wrong on one connection is between it and the other side, which tries again.
        _ = builder.serve_connection(io, answer) => {}
        () = silent => {}
    }
}

/// Bytes that may be under way before this side has taken them.
const WINDOW_BYTES: u32 = 4 << 20;

async fn answer(service: PeerService, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path().starts_with("/eyrie.peer.v1.Peer/") {
        let mut server = PeerServer::new(service).max_decoding_message_size(usize::MAX);
        let Ok(response) = server.call(request).await;
        return response;
    }
    pages::answer(&service, &request)
}
