//! Who may ask: the Host check against DNS rebinding, and what browsers are told about other origins.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Request, StatusCode, Uri, header};

use super::plain;
use crate::log;

/// The refusal of a request whose Host is not on the list.
pub(super) fn strange_host(list: &[String], request: &Request<Body>) -> Option<Response> {
    if list.is_empty() || list.iter().any(|host| host == "*") {
        return None;
    }
    let given = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let given = given.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default();
    let host = host_name(given);
    if list.iter().any(|allowed| allowed == host) {
        return None;
    }
    log::warn!("rejecting HTTP request to prevent DNS rebinding attacks", "host" = host);
    let text = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n\n"
    );
    Some(plain(StatusCode::MISDIRECTED_REQUEST, text))
}

/// The name without its port: `[::1]:2379` is `::1`.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[')
        && let Some((inner, port)) = rest.split_once(']')
        && port.starts_with(':')
    {
        return inner;
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// The origin to name in the answer: all, the one that asked, or none.
pub(super) fn allowed_origin(list: &[String], request: &Request<Body>) -> Option<HeaderValue> {
    let listed = |origin: &str| list.is_empty() || list.iter().any(|allowed| allowed == "*" || allowed == origin);
    if listed("*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = request.headers().get(header::ORIGIN)?;
    listed(origin.to_str().ok()?).then(|| origin.clone())
}

/// The three headers of every answer of the client port.
pub(super) fn add_cors(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    let allowed_headers = HeaderValue::from_static("accept, content-type, authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers);
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

/// `/v3beta/...` is `/v3/...`, for clients of etcd 3.3.
pub(super) fn rewrite_beta(request: &mut Request<Body>) {
    if let Some(rest) = request.uri().path().strip_prefix("/v3beta/") {
        let path = format!("/v3/{rest}");
        let path = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        if let Ok(uri) = path.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_loses_its_port_only() {
        for (given, name) in
            [("a.b:2379", "a.b"), ("a.b", "a.b"), ("[::1]:2379", "::1"), ("::1", "::1"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(host_name(given), name);
        }
    }
}
