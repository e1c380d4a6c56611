//! The peer port: members talk gRPC there, tools find a few pages.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;

use eyrie_api::peer::peer_server::PeerServer;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tonic::body::Body;
use tower::Service;

use super::pages;
use super::service::PeerService;
use crate::edge::Listener;
use crate::limits::{ACCEPT_PAUSE, PEER_CONNECTIONS_MAX, PEER_SILENCE_MAX};
use crate::log_warn;
use crate::node::{Fatal, Shared};
use crate::store::Store;

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

/// Serves members on these listeners and dials them, until stopped.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn serve(shared: &Arc<Shared>, store: &Store, listeners: Vec<Listener>) -> Result<PeerThread, Fatal> {
    let failed = |error: std::io::Error| Fatal::Other(format!("can't start the peer thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, mut stopped) = watch::channel(false);
    let service = PeerService { shared: shared.clone(), store: store.clone(), taking_snapshot: Arc::default() };
    let shared = shared.clone();
    let body = move || {
        runtime.block_on(async move {
            shared.peers.run_on(tokio::runtime::Handle::current(), shared.clone());
            let places = Arc::new(tokio::sync::Semaphore::new(PEER_CONNECTIONS_MAX));
            for listener in listeners {
                tokio::spawn(accept(listener, service.clone(), places.clone()));
            }
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        // What still runs is dropped with its connections: a member that stops says nothing more.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("peer".into()).spawn(body).map_err(failed)?;
    Ok(PeerThread { thread, stop })
}

async fn accept(listener: Listener, service: PeerService, places: Arc<tokio::sync::Semaphore>) {
    match listener {
        Listener::Tcp(listener) => {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        tokio::spawn(connected(TokioIo::new(stream), service.clone(), place));
                    }
                    Err(error) => rest(&error).await,
                }
            }
        }
        Listener::Unix(listener) => {
            let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(connected(TokioIo::new(stream), service.clone(), place));
                    }
                    Err(error) => rest(&error).await,
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

async fn connected<I>(io: I, service: PeerService, _place: tokio::sync::OwnedSemaphorePermit)
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
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(service, request).await) }
    });
    // What goes wrong on one connection is between it and the other side, which tries again.
    let _ = builder.serve_connection(io, answer).await;
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
