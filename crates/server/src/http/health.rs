//! `/health`, `/livez`, `/readyz`: is this member of use?
//!
//! `/health` is the old probe with one verdict; `/livez` and `/readyz` run named checks and can tell which failed.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};

use super::{Context, plain};
use crate::log;

/// The checks of `/livez`.
const LIVE: [&str; 1] = ["serializable_read"];
/// The checks of `/readyz`.
const READY: [&str; 4] = ["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

/// Whether the path is one of the named checks or their roots.
pub(super) fn is_check(path: &str) -> bool {
    split(path).is_some()
}

/// Answers a GET of any health page.
pub(super) async fn answer(context: &Context, uri: &Uri) -> Response {
    let query = Query::parse(uri.query().unwrap_or_default());
    match split(uri.path()) {
        Some((kind, all, one)) => checks(context, kind, all, one, &query).await,
        None => health(context, &query).await,
    }
}

/// `livez` or `readyz`, its checks, and the single one that was asked for.
fn split(path: &str) -> Option<(&'static str, &'static [&'static str], Option<&'static str>)> {
    let (kind, all, rest): (_, &'static [&'static str], _) = if let Some(rest) = path.strip_prefix("/livez") {
        ("livez", &LIVE, rest)
    } else {
        ("readyz", &READY, path.strip_prefix("/readyz")?)
    };
    if rest.is_empty() {
        return Some((kind, all, None));
    }
    let name = rest.strip_prefix('/')?;
    let one = all.iter().find(|check| **check == name)?;
    Some((kind, all, Some(one)))
}

async fn health(context: &Context, query: &Query) -> Response {
    let reason = unhealthy(context, query).await;
    let counts = &context.metrics.server;
    match reason {
        None => {
            counts.health_success.inc();
            let mut response = Response::new(Body::from("{\"health\":\"true\",\"reason\":\"\"}"));
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, text);
            response
        }
        Some(reason) => {
            counts.health_failures.inc();
            log::warn!("serving /health false", "reason" = reason);
            let verdict = serde_json::json!({ "health": "false", "reason": reason });
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("{verdict}\n"))
        }
    }
}

async fn unhealthy(context: &Context, query: &Query) -> Option<String> {
    let health = &context.health;
    if let Some(alarm) = health.alarms().into_iter().find(|alarm| !query.has("exclude", alarm)) {
        return Some(format!("ALARM {alarm}"));
    }
    let serializable = query.first("serializable") == Some("true");
    if !serializable && !health.has_leader() {
        return Some("RAFT NO LEADER".into());
    }
    health.read(!serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

async fn checks(
    context: &Context,
    kind: &'static str,
    all: &'static [&'static str],
    one: Option<&'static str>,
    query: &Query,
) -> Response {
    let mut report = String::new();
    let mut failed = false;
    for check in all {
        // What is excluded counts only for the root: who asks for one check means it.
        if one.is_some_and(|one| one != *check) || (one.is_none() && query.has("exclude", check)) {
            continue;
        }
        let outcome = run(context, check).await;
        context.metrics.server.health_checked(kind, check, outcome.is_ok());
        match outcome {
            Ok(()) => report.push_str(&format!("[+]{check} ok\n")),
            Err(reason) => {
                failed = true;
                report.push_str(&format!("[-]{check} failed: {reason}\n"));
            }
        }
    }
    if failed {
        log::error!("Health check error", "path" = format!("/{kind}"), "output" = report);
        return plain(StatusCode::SERVICE_UNAVAILABLE, format!("{report}\n"));
    }
    let text = if query.first("verbose").is_some() { format!("{report}ok\n") } else { "ok\n".to_string() };
    plain(StatusCode::OK, text)
}

async fn run(context: &Context, check: &str) -> Result<(), String> {
    let health = &context.health;
    match check {
        "data_corruption" if health.alarms().contains(&"CORRUPT") => Err("alarm activated: CORRUPT".into()),
        "data_corruption" => Ok(()),
        "non_learner" if health.is_learner() => Err("not supported for learner".into()),
        "non_learner" => Ok(()),
        _ => health.read(check == "linearizable_read").await.map_err(|error| format!("range error: {error}")),
    }
}

/// The parameters of a URL.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (unescape(k), unescape(v)))
                .collect(),
        )
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(k, v)| k == name && v == value)
    }
}

/// Resolves `%41` and `+`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        match (bytes[at], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
