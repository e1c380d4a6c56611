//! What the agent shows: `/metrics`, `/healthz`, `/readyz`, `/status`. Reading only, and nothing secret.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::TcpListener;

use super::status::Status;
use crate::history::TimeMs;

/// What the pages are made of.
#[derive(Clone)]
pub(super) struct Pages {
    pub(super) status: Arc<Status>,
    pub(super) healthy_lag: Duration,
}

/// Serves the pages until `stop` ends.
pub(super) async fn show(listener: TcpListener, pages: Pages, stop: impl Future<Output = ()> + Send + 'static) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(pages);
    if let Err(error) = serve(listener, router).with_graceful_shutdown(stop).await {
        eprintln!("warning: the agent's pages are not served any more: {error}");
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let text = pages.status.metrics(TimeMs::now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Whether the source is followed and the archive is not too far behind.
async fn health(State(pages): State<Pages>) -> (StatusCode, String) {
    let state = pages.status.now();
    let lag = Duration::from_millis(state.lag_ms(TimeMs::now()));
    if !state.running {
        let why = state.trouble.unwrap_or_else(|| "it is beginning".into());
        return (StatusCode::SERVICE_UNAVAILABLE, format!("the source is not followed: {why}\n"));
    }
    if lag > pages.healthy_lag {
        let words = format!("the archive is {:.1} s behind the source\n", lag.as_secs_f64());
        return (StatusCode::SERVICE_UNAVAILABLE, words);
    }
    (StatusCode::OK, "ok\n".into())
}

/// Whether the tail runs.
async fn ready(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if pages.status.now().running {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the source is not followed yet\n")
    }
}

async fn status(State(pages): State<Pages>) -> Response {
    let state = pages.status.now();
    let mut answer = serde_json::to_value(&state).unwrap_or_default();
    answer["lag_ms"] = state.lag_ms(TimeMs::now()).into();
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
