//! The edges: threads that talk to clients, each with a single-threaded runtime of its own.
//!
//! One thread accepts and deals connections out in turn. Sharing the port between threads (SO_REUSEPORT) would deal them
//! out unevenly, and would let a second process listen on the same port without anybody noticing.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use crate::completions::Trays;
use crate::config::{Address, Config, Url};
use crate::dispatch::Dispatch;
use crate::limits::{ACCEPT_BACKLOG, CONNECTIONS_DEALT_WAITING_MAX, GIVE_BACK_INTERVAL, GRACE};
use crate::log_warn;
use crate::node::{Fatal, Outcome};

/// How long an acceptor rests after an error such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// One accepted connection.
enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection on its way to an edge, with what answers on its port.
type Dealt = (Connection, Arc<Dispatch>);

/// A place to listen, bound but not served yet.
pub(crate) enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Binds what a URL names.
///
/// # Errors
/// With the address and what to do about it.
pub(crate) fn bind(url: &Url) -> Result<Listener, Fatal> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                ": another process listens there. Stop it (ss -ltnp shows it), or choose another port with --listen-client-urls"
            }
            std::io::ErrorKind::PermissionDenied => ": ports below 1024 need root",
            std::io::ErrorKind::AddrNotAvailable => ": this machine has no such address",
            _ => "",
        };
        Fatal::Other(format!("can't listen on {url}: {error}{hint}"))
    };
    match &url.address {
        Address::Tcp(host, port) => bind_tcp(host, *port).map(Listener::Tcp).map_err(failed),
        Address::Unix(path) => {
            // A socket that nobody answers on is a leftover.
            if UnixStream::connect(path).is_err() && path.exists() {
                std::fs::remove_file(path).map_err(failed)?;
            }
            let listener = UnixListener::bind(path).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            Ok(Listener::Unix(listener))
        }
    }
}

fn bind_tcp(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    // A name may mean several addresses; like upstream, the first IPv4 one is taken.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let address = *addresses.first().ok_or_else(|| std::io::Error::other("the name means no address"))?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

/// What the protocol asks of a connection.
#[derive(Debug, Clone, Copy)]
struct Manners {
    max_concurrent_streams: u32,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
}

/// All threads that serve clients.
pub(crate) struct Edges {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Edges {
    /// Starts serving.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub(crate) fn serve(
        config: &Config,
        trays: &Arc<Trays<Outcome>>,
        listeners: Vec<(Listener, Dispatch)>,
    ) -> Result<Self, Fatal> {
        let count = config.edges();
        let manners = Manners {
            max_concurrent_streams: config.max_concurrent_streams,
            keepalive_interval: config.grpc_keepalive_interval,
            keepalive_timeout: config.grpc_keepalive_timeout,
        };
        let (stop, stopped) = watch::channel(false);
        let mut edges = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        let mut listeners = Some(listeners);
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(CONNECTIONS_DEALT_WAITING_MAX);
            senders.push(sender);
            receivers.push(receiver);
        }
        for (number, receiver) in receivers.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Fatal::Other(format!("can't start an edge thread: {error}")))?;
            let accept = if number == 0 { listeners.take().unwrap_or_default() } else { Vec::new() };
            let (senders, stopped) = (senders.clone(), stopped.clone());
            edges.push(number);
            let trays = trays.clone();
            let give_back_memory = config.give_back_memory;
            let body = move || {
                runtime.block_on(async {
                    tokio::spawn(trays.hand_out(number));
                    tokio::spawn(give_back(give_back_memory));
                    edge(receiver, accept, senders, manners, stopped).await;
                });
            };
            let thread = std::thread::Builder::new().name(format!("edge-{number}")).spawn(body);
            threads.push(thread.map_err(|error| Fatal::Other(format!("can't start an edge thread: {error}")))?);
        }
        Ok(Self { threads, stop })
    }

    /// Takes no new connections and gives open requests a moment to end.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

async fn give_back(memory: fn()) {
    let mut tick = tokio::time::interval(GIVE_BACK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        memory();
    }
}

async fn edge(
    mut dealt: mpsc::Receiver<Dealt>,
    listeners: Vec<(Listener, Dispatch)>,
    edges: Vec<mpsc::Sender<Dealt>>,
    manners: Manners,
    stopped: watch::Receiver<bool>,
) {
    let next = Arc::new(AtomicUsize::new(0));
    for (listener, dispatch) in listeners {
        tokio::spawn(accept(listener, Arc::new(dispatch), edges.clone(), next.clone(), stopped.clone()));
    }
    drop(edges);
    let mut open = tokio::task::JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            connection = dealt.recv() => match connection {
                Some((connection, dispatch)) => {
                    open.spawn(connected(connection, dispatch, manners, stopped.clone()));
                }
                None => break,
            },
            Some(_) = open.join_next() => {}
            _ = stop.changed() => break,
        }
    }
    let _ = tokio::time::timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
}

async fn accept(
    listener: Listener,
    dispatch: Arc<Dispatch>,
    edges: Vec<mpsc::Sender<Dealt>>,
    next: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) {
    let deal = async |connection| {
        let turn = next.fetch_add(1, Ordering::Relaxed) % edges.len();
        let _ = edges[turn].send((connection, dispatch.clone())).await;
    };
    let accepting = async {
        match listener {
            Listener::Tcp(listener) => {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                loop {
                    match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                        Ok(stream) => deal(Connection::Tcp(stream)).await,
                        Err(error) => rest(&error).await,
                    }
                }
            }
            Listener::Unix(listener) => {
                let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
                loop {
                    match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                        Ok(stream) => deal(Connection::Unix(stream)).await,
                        Err(error) => rest(&error).await,
                    }
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stopped.changed() => {}
    }
}

async fn rest(error: &std::io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        let error = error.to_string();
        log_warn!("failed to accept a connection; it is tried again (said once)", "error" = &error);
    }
    tokio::time::sleep(ACCEPT_RETRY).await;
}

async fn connected(connection: Connection, dispatch: Arc<Dispatch>, manners: Manners, stopped: watch::Receiver<bool>) {
    match connection {
        Connection::Tcp(stream) => {
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                talk(TokioIo::new(stream), dispatch, manners, stopped).await;
            }
        }
        Connection::Unix(stream) => {
            if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                talk(TokioIo::new(stream), dispatch, manners, stopped).await;
            }
        }
    }
}

async fn talk<I>(io: I, dispatch: Arc<Dispatch>, manners: Manners, mut stopped: watch::Receiver<bool>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(manners.max_concurrent_streams)
        .keep_alive_interval(manners.keepalive_interval)
        .keep_alive_timeout(manners.keepalive_timeout);
    builder.http1().timer(TokioTimer::new()).keep_alive(true);
    let service = service_fn(move |request| dispatch.clone().call(request));
    let talking = builder.serve_connection(io, service);
    tokio::pin!(talking);
    tokio::select! {
        // What goes wrong on one connection is between it and its client.
        _ = &mut talking => {}
        _ = stopped.changed() => {
            talking.as_mut().graceful_shutdown();
            let _ = talking.await;
        }
    }
}
