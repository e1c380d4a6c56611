//! Everything on the client port that is not gRPC: health, version, metrics, and the JSON gateway.
//!
//! ```text
//! request ─ access (host check, CORS, OPTIONS) ─▶ /health /livez /readyz    health
//!                                               ─▶ /metrics                 metrics
//!                                               ─▶ /version /debug/vars     facts
//!                                               ─▶ /v3/...                  gateway ─▶ gRPC services
//! ```
//!
//! Knows no store: what it needs to know comes through [`HealthSource`], what it does goes through the gRPC services.

mod access;
mod facts;
mod gateway;
mod health;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, Method, Request, StatusCode, header};

pub use self::gateway::{BoxError, GrpcService};
use crate::metrics::Metrics;

/// A future that a trait object returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the health pages ask of a member.
pub trait HealthSource: Send + Sync + 'static {
    /// The active alarms by etcd's name (`NOSPACE`, `CORRUPT`).
    fn alarms(&self) -> Vec<&'static str>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member only learns.
    fn is_learner(&self) -> bool {
        false
    }
    /// Reads one key as a client without rights would; the error is what a client would be told.
    fn read(&self, linearizable: bool) -> BoxFuture<'_, Result<(), String>>;
    /// The version that all members agreed on, `None` while undecided.
    fn cluster_version(&self) -> Option<String>;
    /// The state of agreement, for `/debug/vars`.
    fn raft_status(&self) -> serde_json::Value;
}

/// What the pages need.
#[derive(Clone)]
pub struct Context {
    /// All gRPC services, called in-process; `None` switches the JSON gateway off.
    pub gateway: Option<GrpcService>,
    /// The member.
    pub health: Arc<dyn HealthSource>,
    /// What `/metrics` prints.
    pub metrics: Arc<Metrics>,
    /// Allowed CORS origins; `*` for all.
    pub cors: Arc<[String]>,
    /// Allowed Host headers; `*` for all.
    pub host_whitelist: Arc<[String]>,
}

/// Makes a [`GrpcService`] of whatever answers gRPC requests, like `tonic::service::Routes`.
pub fn grpc_service<S>(service: S) -> GrpcService
where
    S: tower::Service<Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    GrpcService::new(tower::util::MapErr::new(service, Into::into))
}

/// The pages of the client port.
pub fn router(context: Context) -> Router {
    Router::new().fallback(client_port).with_state(context)
}

/// The pages of `--listen-metrics-urls`: metrics and health only.
pub fn metrics_router(context: Context) -> Router {
    Router::new().fallback(metrics_port).with_state(context)
}

async fn client_port(State(context): State<Context>, mut request: Request<Body>) -> Response {
    if let Some(refusal) = access::strange_host(&context.host_whitelist, &request) {
        return refusal;
    }
    let origin = access::allowed_origin(&context.cors, &request);
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::empty())
    } else {
        access::rewrite_beta(&mut request);
        page(&context, request).await
    };
    if let Some(origin) = origin {
        access::add_cors(&mut response, origin);
    }
    response
}

async fn page(context: &Context, request: Request<Body>) -> Response {
    let path = request.uri().path();
    if path == "/version" {
        return get_only(&request).unwrap_or_else(|| facts::version(context));
    }
    if path == "/debug/vars" {
        return get_only(&request).unwrap_or_else(|| facts::vars(context));
    }
    if let Some(gateway) = &context.gateway {
        if path == "/v3" {
            return moved_to_v3();
        }
        if path.starts_with("/v3/") {
            return gateway::answer(gateway.clone(), request).await;
        }
    }
    metrics_port(State(context.clone()), request).await
}

async fn metrics_port(State(context): State<Context>, request: Request<Body>) -> Response {
    match request.uri().path() {
        "/metrics" => facts::metrics(&context, &request),
        path if path == "/health" || health::is_check(path) => match get_only(&request) {
            Some(refusal) => refusal,
            None => health::answer(&context, request.uri()).await,
        },
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The refusal of any method but GET, as Go's handlers word it.
fn get_only(request: &Request<Body>) -> Option<Response> {
    (request.method() != Method::GET).then(|| {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        response
    })
}

fn moved_to_v3() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v3/"));
    response
}

/// A page of plain text that no browser should take for anything else.
fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
