//! A member from start to stop.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eyrie_disk::datadir::DataDir;
use tokio::sync::oneshot;

use crate::config::{Config, Url};
use crate::dispatch::{Dispatch, Services};
use crate::edge::{Door, Edges, Listener, bind};
use crate::grpc::{KvService, Short};
use crate::housekeeping;
use crate::limits::GRPC_OVERHEAD_BYTES;
use crate::metrics::GrpcCounted;
use crate::node::{self, Fatal, Threads};
use crate::peer::{self, PeerThread};
use crate::store::Store;
use crate::tls::{PeerTls, ServerTls, Side};
use crate::{http, log_info, log_warn, pages};

/// How long a member that is alone may take to lead: far longer than it ever needs.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A running member.
pub struct Server {
    store: Store,
    threads: Threads,
    peers: PeerThread,
    edges: Edges,
    house: JoinHandle<()>,
    stop_house: oneshot::Sender<()>,
    _dir: DataDir,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens or founds the store, binds its ports, and serves. Returns when clients can be served.
    ///
    /// # Errors
    /// [`Fatal`] says what is wrong, what is safe and what to do. Nothing that was there before is changed then.
    pub fn start(config: &Config) -> Result<Self, Fatal> {
        Self::start_after(config, None)
    }

    /// As [`Server::start`], after a run that ended for [`Server::damage`].
    ///
    /// # Errors
    /// As for [`Server::start`].
    pub fn start_after(config: &Config, damage: Option<&str>) -> Result<Self, Fatal> {
        // Ports first: a taken port must not cost a founded store.
        let listeners = config.listen_client_urls.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let pages_only = config.listen_client_http_urls.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let peers = config.listen_peer_urls.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let metrics_only = config.listen_metrics_urls.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let tls = client_tls(config)?;
        let peer_tls = peer_tls(config)?;
        // On a thread of its own: what start-up needed for a moment goes back to the system when that thread ends.
        let started = std::thread::scope(|scope| {
            let opening = std::thread::Builder::new()
                .name("start".into())
                .spawn_scoped(scope, || node::start(config, peer_tls, damage));
            let opening = opening.map_err(|error| Fatal::Other(format!("can't start a thread: {error}")))?;
            opening.join().unwrap_or_else(|_| Err(Fatal::panicked("start")))
        });
        let node::Started { shared, threads, dir } = started?;
        let store = Store::new(shared, config);
        let peers = peers.into_iter().zip(config.listen_peer_urls.iter().map(|url| url.tls)).collect();
        let peers = peer::serve(store.shared_arc(), &store.itself(), peers)?;
        let (house, stop_house) = keep_house(&store, config)?;
        let services = GrpcCounted::new(Services::new(&store, config), store.metrics().grpc.clone());
        let context = pages::context(&store, services.clone(), config);
        let pages = http::router(context.clone());
        let here_too = config.listen_client_http_urls.is_empty();
        let message_bytes_max = config.max_request_bytes + GRPC_OVERHEAD_BYTES;
        let short = Short::new(KvService { store: store.clone() }, store.metrics().grpc.clone(), message_bytes_max);
        let both = Dispatch { services: services.clone(), short: Some(short), pages: here_too.then(|| pages.clone()) };
        let only_pages = Dispatch { services: services.clone(), short: None, pages: Some(pages) };
        let metrics = Dispatch { services, short: None, pages: Some(http::metrics_router(context)) };
        let door = |dispatch: &Dispatch, url: &Url, listener: Listener| {
            (listener, Door { dispatch: dispatch.clone(), tls: tls.clone().filter(|_| url.tls) })
        };
        let mut serving = Vec::new();
        for (urls, listeners, dispatch) in [
            (&config.listen_client_urls, listeners, both),
            (&config.listen_client_http_urls, pages_only, only_pages),
            (&config.listen_metrics_urls, metrics_only, metrics),
        ] {
            serving.extend(urls.iter().zip(listeners).map(|(url, listener)| door(&dispatch, url, listener)));
        }
        let edges = Edges::serve(config, store.shared(), serving)?;
        tell_doors(config);
        log_info!("ready to serve client requests");
        Ok(Self { store, threads, peers, edges, house, stop_house, _dir: dir })
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Waits until the member has to stop by itself, and says why.
    pub async fn failed(&self) -> String {
        let mut ending = self.store.shared().ending.watch();
        match ending.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Why the member has to stop, if that is damage which the other members can make good: it can be started again after
    /// that.
    pub fn damage(&self) -> Option<String> {
        self.store.shared().ending.damage()
    }

    /// Stops gracefully: open requests end, everything is made durable.
    ///
    /// # Errors
    /// The reason, when the member could not go on to the end.
    pub fn stop(self) -> Result<(), Fatal> {
        let begun = Instant::now();
        self.store.hub().stop();
        self.edges.stop();
        let _ = self.stop_house.send(());
        let _ = self.house.join();
        let stopped = self.threads.stop();
        self.peers.stop();
        let took = format!("{:?}", begun.elapsed());
        match &stopped {
            Ok(()) => log_info!("stopped; everything is durable", "took" = &took),
            Err(error) => {
                let error = error.to_string();
                log_warn!(
                    "stopped; what is not in the tables yet is in the log and is replayed at the next start",
                    "error" = &error
                );
            }
        }
        stopped
    }
}

/// Certificates for clients, where any URL asks for them.
fn client_tls(config: &Config) -> Result<Option<ServerTls>, Fatal> {
    let urls = [&config.listen_client_urls, &config.listen_client_http_urls, &config.listen_metrics_urls];
    if urls.into_iter().flatten().any(|url| url.tls) {
        return ServerTls::open(Side::Clients, config).map(Some);
    }
    Ok(None)
}

/// How members talk over TLS, where any URL of theirs or any flag asks for it.
fn peer_tls(config: &Config) -> Result<Option<PeerTls>, Fatal> {
    let given = &config.peer_tls;
    let files = [&given.cert_file, &given.client_cert_file, &given.trusted_ca_file];
    let listens = config.listen_peer_urls.iter().any(|url| url.tls);
    let named = config.initial_cluster.iter().map(|(_, url)| url).chain(&config.initial_advertise_peer_urls);
    let asked = given.auto || files.into_iter().any(Option::is_some);
    if !listens && !asked && !named.into_iter().any(|url| url.starts_with("https://")) {
        return Ok(None);
    }
    let tls = PeerTls::open(config)?;
    if listens && !tls.can_listen() {
        return Err(Fatal::Other(
            "a peer URL says https, but there is no certificate for it: give --peer-cert-file".into(),
        ));
    }
    for url in config.listen_peer_urls.iter().filter(|url| !url.tls && tls.can_listen()) {
        let address = url.to_string();
        log_warn!(
            "scheme is HTTP or unix while certificates for peers are given: they do not protect this URL",
            "peer-url" = &address
        );
    }
    Ok(Some(tls))
}

fn tell_doors(config: &Config) {
    let certificates = config.client_tls.cert_file.is_some() || config.client_tls.auto;
    for url in &config.listen_client_urls {
        let address = url.to_string();
        if url.tls {
            log_info!("serving client traffic securely", "traffic" = "grpc+http", "address" = &address);
            continue;
        }
        log_info!(
            "serving client traffic insecurely; this is strongly discouraged!",
            "traffic" = "grpc+http",
            "address" = &address
        );
        if certificates {
            log_warn!(
                "scheme is HTTP or unix while certificates are given: they do not protect this URL",
                "client-url" = &address
            );
        }
        if config.client_tls.client_cert_auth {
            log_warn!(
                "scheme is HTTP or unix while --client-cert-auth is enabled: clients of this URL show no certificate",
                "client-url" = &address
            );
        }
    }
}

/// Starts the thread on which the member does what nobody asks for. A member that is alone leads and has said who it is
/// when this returns; one among several says so once it can.
fn keep_house(store: &Store, config: &Config) -> Result<(JoinHandle<()>, oneshot::Sender<()>), Fatal> {
    let failed = |error: std::io::Error| Fatal::Other(format!("can't start the housekeeping thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let (published, ready) = std::sync::mpsc::sync_channel(1);
    let among_others = store.read(|state| state.members().len()) > 1;
    let (store, config) = (store.itself(), config.clone());
    let house = move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let work = async {
                housekeeping::publish(&store, &config).await;
                let _ = published.send(());
                housekeeping::keep_house(store.clone(), config).await;
            };
            tokio::select! {
                () = work => {}
                _ = stopped => {}
            }
        });
    };
    let thread = std::thread::Builder::new().name("house".into()).spawn(house).map_err(failed)?;
    if among_others {
        return Ok((thread, stop));
    }
    ready
        .recv_timeout(LEAD_TIMEOUT)
        .map_err(|_| Fatal::Other("the member did not come to lead its cluster of one: see the lines above".into()))?;
    Ok((thread, stop))
}
