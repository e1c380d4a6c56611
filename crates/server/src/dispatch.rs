//! One port, two languages: gRPC goes straight to its service, everything else to the HTTP pages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use eyrie_api::health::health_server::HealthServer;
use eyrie_api::pb::auth_server::AuthServer;
use eyrie_api::pb::cluster_server::ClusterServer;
use eyrie_api::pb::kv_server::KvServer;
use eyrie_api::pb::lease_server::LeaseServer;
use eyrie_api::pb::maintenance_server::MaintenanceServer;
use eyrie_api::v3electionpb::election_server::ElectionServer;
use eyrie_api::v3lockpb::lock_server::LockServer;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use crate::auth::admit;
use crate::config::Config;
use crate::election::ElectionService;
use crate::grpc::{AuthService, Call, ClusterService, EdgeBody, KvService, LeaseService, MaintenanceService, Short};
use crate::grpc_health::HealthService;
use crate::leader_bound::bound_to_leader;
use crate::limits::GRPC_OVERHEAD_BYTES;
use crate::line::Line;
use crate::lock::LockService;
use crate::metrics::GrpcCounted;
use crate::store::Store;
use crate::tls::ClientIdentity;
use crate::watch::{WatchService, WatchSettings};

const GRPC_STATUS: &str = "grpc-status";

/// All gRPC services of a member. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    store: Store,
    lease_ids: Arc<LeaseService>,
    watch_settings: WatchSettings,
    message_bytes_max: usize,
    kv: KvServer<KvService>,
    watch: WatchService<Store>,
    lock: LockServer<LockService>,
    election: ElectionServer<ElectionService>,
    health: HealthServer<HealthService>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    pub(crate) fn new(store: &Store, config: &Config) -> Self {
        let most = config.max_request_bytes + GRPC_OVERHEAD_BYTES;
        Self::assemble(store.clone(), Arc::new(LeaseService::new(store.clone())), config.into(), most)
    }

    /// The same services for another caller.
    fn speaking(&self, store: Store) -> Self {
        let lease = Arc::new(self.lease_ids.with(store.clone()));
        Self::assemble(store, lease, self.watch_settings, self.message_bytes_max)
    }

    fn assemble(store: Store, lease: Arc<LeaseService>, watch_settings: WatchSettings, most: usize) -> Self {
        let kv = KvService { store: store.clone() };
        let watch = WatchService::new(store.hub().clone(), store.clone(), watch_settings);
        let line = Line::new(kv.clone(), Arc::clone(&lease), watch.clone());
        Self {
            lease_ids: lease.clone(),
            watch_settings,
            message_bytes_max: most,
            kv: KvServer::new(kv).max_decoding_message_size(most),
            watch: watch.max_decoding_message_size(most),
            lock: LockServer::new(LockService { line: line.clone() }).max_decoding_message_size(most),
            election: ElectionServer::new(ElectionService { line }).max_decoding_message_size(most),
            health: HealthServer::new(HealthService).max_decoding_message_size(most),
            lease: LeaseServer::from_arc(lease).max_decoding_message_size(most),
            cluster: ClusterServer::new(ClusterService { store: store.clone() }).max_decoding_message_size(most),
            maintenance: MaintenanceServer::new(MaintenanceService { store: store.clone() })
                .max_decoding_message_size(most),
            auth: AuthServer::new(AuthService { store: store.clone() }).max_decoding_message_size(most),
            store,
        }
    }

    /// Answers one gRPC request.
    async fn answer<B>(mut self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        let wants_leader = wants_leader(request.headers());
        if wants_leader && self.store.standing().leader == 0 {
            return Status::unavailable("etcdserver: no leader").into_http();
        }
        // Every call comes through here, but for those that go the short way and ask there.
        match admit(&self.store, request.uri().path(), request.headers(), request.extensions()).await {
            Ok(None) => {}
            Ok(Some(caller)) => self = self.speaking(caller),
            Err(error) => return Status::from(error).into_http(),
        }
        let (service, method) = split(request.uri().path());
        let (service, method) = (service.to_owned(), method.to_owned());
        if !served_by_learners(&service, &method)
            && let Err(refusal) = self.store.refuse_if_learner()
        {
            return Status::from(refusal).into_http();
        }
        let response = match service.as_str() {
            "etcdserverpb.KV" => served(self.kv.call(request.map(Body::new)).await),
            "etcdserverpb.Watch" => served(self.watch.call(request.map(Body::new)).await),
            "v3lockpb.Lock" => served(self.lock.call(request.map(Body::new)).await),
            "v3electionpb.Election" => served(self.election.call(request.map(Body::new)).await),
            "grpc.health.v1.Health" => served(self.health.call(request.map(Body::new)).await),
            "etcdserverpb.Lease" => served(self.lease.call(request.map(Body::new)).await),
            "etcdserverpb.Cluster" => served(self.cluster.call(request.map(Body::new)).await),
            "etcdserverpb.Maintenance" => served(self.maintenance.call(request.map(Body::new)).await),
            "etcdserverpb.Auth" => served(self.auth.call(request.map(Body::new)).await),
            _ => return Status::unimplemented(format!("unknown service {service}")).into_http(),
        };
        let response = self.reworded(response, &service, &method);
        let stream =
            matches!(service.as_str(), "etcdserverpb.Watch") || method == "LeaseKeepAlive" || method == "Observe";
        if wants_leader && stream { bound_to_leader(&self.store, response) } else { response }
    }

    /// Gives the transport's own errors the words that Go clients know.
    fn reworded(&self, response: Response<Body>, service: &str, method: &str) -> Response<Body> {
        if !response.headers().contains_key(GRPC_STATUS) {
            return response;
        }
        let Some(status) = Status::from_header_map(response.headers()) else { return response };
        let message = status.message();
        match status.code() {
            Code::Unimplemented if message.is_empty() => {
                Status::unimplemented(format!("unknown method {method} for service {service}")).into_http()
            }
            Code::OutOfRange if message.starts_with("Error, decoded message length too large") => {
                let found = message.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap_or(0);
                let most = self.message_bytes_max;
                let text = format!("grpc: received message larger than max ({found} vs. {most})");
                Status::resource_exhausted(text).into_http()
            }
            Code::Internal if message.starts_with("failed to decode Protobuf message") => {
                Status::internal(format!("grpc: error unmarshalling request: {message}")).into_http()
            }
            _ => response,
        }
    }
}

impl<B> Service<Request<B>> for Services
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let services = self.clone();
        Box::pin(async move { Ok(services.answer(request).await) })
    }
}

/// Both languages of one port.
#[derive(Clone)]
pub(crate) struct Dispatch {
    pub(crate) services: GrpcCounted<Services>,
    /// `None` where only pages are served.
    pub(crate) short: Option<Short>,
    /// `None` where only gRPC is served.
    pub(crate) pages: Option<axum::Router>,
}

impl Dispatch {
    pub(crate) async fn call(
        self: Arc<Self>,
        request: Request<hyper::body::Incoming>,
    ) -> Result<Response<EdgeBody>, Infallible> {
        if let Some(short) = &self.short
            && let Some(call) = Call::of(&request)
        {
            return Ok(short.answer(call, request).await);
        }
        // In a box, since the future of every call has the size of its largest branch, and is moved about.
        Box::pin(self.the_long_way(request)).await
    }

    async fn the_long_way(
        &self,
        mut request: Request<hyper::body::Incoming>,
    ) -> Result<Response<EdgeBody>, Infallible> {
        if self.short.is_some() && is_grpc(request.headers()) {
            let Ok(response) = self.services.clone().call(request).await;
            return Ok(response.map(EdgeBody::Long));
        }
        match &self.pages {
            Some(pages) => {
                // Whoever speaks JSON is known by a token alone: no certificate is a login there.
                request.extensions_mut().remove::<ClientIdentity>();
                let Ok(response) = pages.clone().oneshot(request.map(axum::body::Body::new)).await;
                Ok(response.map(|body| EdgeBody::Long(Body::new(body))))
            }
            None => Ok(not_here()),
        }
    }
}

fn not_here() -> Response<EdgeBody> {
    let mut response = Response::new(EdgeBody::default());
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    response
}

fn served(response: Result<Response<Body>, Infallible>) -> Response<Body> {
    let Ok(response) = response;
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn wants_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value: &HeaderValue| value == "true")
}

/// What a member answers that only listens: what it can without asking the others.
fn served_by_learners(service: &str, method: &str) -> bool {
    match service {
        // Whether a range is serializable is seen when it is read.
        "etcdserverpb.KV" => method == "Range",
        "etcdserverpb.Maintenance" => matches!(method, "Status" | "Snapshot"),
        "grpc.health.v1.Health" => true,
        _ => false,
    }
}

/// `/package.Service/Method`.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.rsplit_once('/').unwrap_or((path, ""))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn paths_are_service_and_method() {
        assert_eq!(split("/etcdserverpb.KV/Range"), ("etcdserverpb.KV", "Range"));
        assert_eq!(split("/nonsense"), ("nonsense", ""));
    }
}
