//! What tools find on the peer port, and what an upstream etcd hears that dials it.

use eyrie_state::member_json;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::service::PeerService;

/// Answers whatever is not a member's call.
pub(super) fn answer<B>(service: &PeerService, request: &Request<B>) -> Response<Body> {
    let path = request.uri().path();
    let mut response = match path {
        "/members" => page(StatusCode::OK, "application/json", members(service)),
        "/version" => page(StatusCode::OK, "application/json", version(service)),
        "/raft/probing" => {
            page(StatusCode::OK, "application/json", "{\"OK\":true}\n".into())
        }
        _ if path == "/raft" || path.starts_with("/raft/") => page(
            StatusCode::PRECONDITION_FAILED,
            "text/plain; charset=utf-8",
            "this is a member of an Eyrie cluster, which an upstream etcd can't join or talk to: members of both kinds can't \
             share a cluster. Look at --initial-cluster of the etcd that dials here; to bring data over, use a snapshot\n"
                .into(),
        ),
        _ => page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into()),
    };
    let cluster = format!("{:x}", service.shared.identity.cluster.0);
    if let Ok(cluster) = HeaderValue::from_str(&cluster) {
        response.headers_mut().insert("x-etcd-cluster-id", cluster);
    }
    response
}

fn members(service: &PeerService) -> String {
    let rows = service.store.read(|state| state.members().map(member_json).collect::<Vec<_>>());
    format!("[{}]\n", rows.join(","))
}

fn version(service: &PeerService) -> String {
    let cluster = service.store.read(|state| state.cluster_version().map(str::to_owned));
    let cluster = cluster.as_deref().unwrap_or("not_decided").to_owned();
    format!("{{\"etcdserver\":\"{}\",\"etcdcluster\":\"{cluster}\"}}", crate::VERSION)
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
