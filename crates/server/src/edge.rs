//! The edges: threads that talk to clients, each with a single-threaded runtime of its own.
//!
//! One thread accepts and deals connections out in turn. Sharing the port between threads (SO_REUSEPORT) would deal them
//! out unevenly, and would let a second process listen on the same port without anybody noticing.

mod lobby;
mod together;
mod welcome;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use self::lobby::Lobby;
pub(crate) use self::welcome::Sparingly;
use self::welcome::{Connection, Guest, Household, Manners, Opened, connected};
use crate::config::{Address, Config, Url};
use crate::dispatch::Dispatch;
use crate::limits::{
    ACCEPT_BACKLOG, CONNECTIONS_DEALT_WAITING_MAX, CONNECTIONS_MAX, FILES_RESERVED, GIVE_BACK_INTERVAL, GRACE,
    LOBBY_PATIENCE, LOBBY_PLACES_MAX, REFUSALS_TOLD_INTERVAL, REFUSALS_TOLD_MAX, STREAMS_PER_CONNECTION_MAX,
};
use crate::log_warn;
use crate::node::{Fatal, Shared};
use crate::tls::ServerTls;

/// How long an acceptor rests after an error such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A place to come in: what answers there, and whether it is encrypted.
pub(crate) struct Door {
    /// What answers.
    pub(crate) dispatch: Dispatch,
    /// `None`: in the clear.
    pub(crate) tls: Option<ServerTls>,
}

/// A connection on its way to an edge, with where it came in.
type Dealt = (Connection, Arc<Opened>);

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
    pub(crate) fn serve(config: &Config, shared: &Shared, listeners: Vec<(Listener, Door)>) -> Result<Self, Fatal> {
        let count = config.edges();
        let manners = Manners {
            max_concurrent_streams: config.max_concurrent_streams.min(STREAMS_PER_CONNECTION_MAX),
            keepalive_interval: config.grpc_keepalive_interval,
            keepalive_timeout: config.grpc_keepalive_timeout,
        };
        let open_max = config.open_files.saturating_sub(FILES_RESERVED).clamp(FILES_RESERVED, CONNECTIONS_MAX);
        // Silent connections get a part of what is there, so that they never keep others out.
        let places = LOBBY_PLACES_MAX.min(open_max / 2 / count);
        let refusals = Sparingly::new(REFUSALS_TOLD_MAX, REFUSALS_TOLD_INTERVAL);
        let household = Arc::new(Household { manners, open: AtomicUsize::new(0), open_max, refusals });
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
            let (trays, read_trays) = (shared.trays.clone(), shared.read_trays.clone());
            let give_back_memory = config.give_back_memory;
            let household = household.clone();
            let body = move || {
                runtime.block_on(async {
                    tokio::spawn(trays.hand_out(number));
                    tokio::spawn(read_trays.hand_out(number));
                    tokio::spawn(give_back(give_back_memory));
                    edge(receiver, accept, senders, household, places, stopped).await;
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
    listeners: Vec<(Listener, Door)>,
    edges: Vec<mpsc::Sender<Dealt>>,
    household: Arc<Household>,
    places: usize,
    stopped: watch::Receiver<bool>,
) {
    let next = Arc::new(AtomicUsize::new(0));
    for (listener, door) in listeners {
        let door = Arc::new(Opened { dispatch: Arc::new(door.dispatch), tls: door.tls });
        tokio::spawn(accept(listener, door, edges.clone(), next.clone(), household.clone(), stopped.clone()));
    }
    drop(edges);
    let lobby = Arc::new(Lobby::new(places, LOBBY_PATIENCE));
    let mut open = tokio::task::JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            connection = dealt.recv() => match connection {
                Some((connection, door)) => {
                    let guest = Guest { door, household: household.clone(), lobby: lobby.clone(), stopped: stopped.clone() };
                    open.spawn(connected(connection, guest));
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
    door: Arc<Opened>,
    edges: Vec<mpsc::Sender<Dealt>>,
    next: Arc<AtomicUsize>,
    household: Arc<Household>,
    mut stopped: watch::Receiver<bool>,
) {
    let deal = async |connection| {
        // Whoever is open goes on; whoever comes now is turned away at once instead of waiting for nothing.
        if household.open.load(Ordering::Relaxed) >= household.open_max {
            if household.refusals.may_tell() {
                log_warn!("too many connections: new ones are refused", "open" = household.open_max);
            }
            return;
        }
        household.open.fetch_add(1, Ordering::Relaxed);
        let turn = next.fetch_add(1, Ordering::Relaxed) % edges.len();
        if edges[turn].send((connection, door.clone())).await.is_err() {
            household.open.fetch_sub(1, Ordering::Relaxed);
        }
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
