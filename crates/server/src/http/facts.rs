//! The pages that only report: `/version`, `/metrics`, `/debug/vars`.

use std::io::Write;

use axum::body::Body;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::json;

use super::{Context, plain};
use crate::metrics::process;

/// `{"etcdserver":"3.5.21","etcdcluster":"3.5.0"}`
pub(super) fn version(context: &Context) -> Response {
    let cluster = context.health.cluster_version();
    let cluster = cluster.as_deref().unwrap_or("not_decided");
    let text = format!("{{\"etcdserver\":\"{}\",\"etcdcluster\":\"{cluster}\"}}", crate::VERSION);
    typed("application/json", text)
}

/// What Go's `expvar` page shows, as far as it has a meaning here.
pub(super) fn vars(context: &Context) -> Response {
    let process = process::read();
    let vars = json!({
        "cmdline": std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "file_descriptor_limit": process.fds_max,
        "memstats": { "Sys": process.resident_bytes },
        "raft.status": context.health.raft_status(),
    });
    typed("application/json; charset=utf-8", format!("{vars:#}\n"))
}

/// The metrics as Prometheus text, compressed when asked.
pub(super) fn metrics(context: &Context, request: &Request<Body>) -> Response {
    let text = match context.metrics.render() {
        Ok(text) => text,
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot collect metrics: {error}\n")),
    };
    let accepts = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let zipped = accepts.is_some_and(|value| value.split(',').any(|one| one.trim().split(';').next() == Some("gzip")));
    let zip = |text: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
        encoder.write_all(text).and_then(|()| encoder.finish())
    };
    match zipped.then(|| zip(text.as_bytes())) {
        Some(Ok(bytes)) => {
            let mut response = typed("text/plain; version=0.0.4; charset=utf-8", bytes);
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        _ => typed("text/plain; version=0.0.4; charset=utf-8", text),
    }
}

fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
