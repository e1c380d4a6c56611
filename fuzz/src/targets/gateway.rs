//! The JSON gateway, from the HTTP request to the gRPC call that comes of it.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use eyrie_api::pb;
use eyrie_server::http::{BoxFuture, Context, HealthSource, grpc_service, router};
use eyrie_server::metrics::Metrics;
use http_body_util::{BodyExt, Full};
use prost::Message;
use tower::ServiceExt;

use super::Target;

/// The first byte of an input chooses one.
const PATHS: [&str; 4] = ["/v3/kv/put", "/v3/kv/range", "/v3/kv/txn", "/v3/watch"];
/// A request for each path.
const TEXTS: [&str; 4] = [
    r#"{"key":"aw==","value":"q6urqw==","lease":"-1","prev_kv":true}"#,
    r#"{"key":"aw==","range_end":"bA==","limit":"10","revision":5,"sort_order":"DESCEND","sort_target":"MOD"}"#,
    r#"{"compare":[{"key":"aw==","target":"VALUE","result":"NOT_EQUAL","value":"dg=="}],"success":[{"requestPut":
        {"key":"aw==","value":""}},{"request_txn":{"failure":[{"requestDeleteRange":{"key":"aw=="}}]}}],"failure":null}"#,
    r#"{"create_request":{"key":"aw==","filters":["NOPUT","NODELETE"],"watch_id":"7","progress_notify":true}}"#,
];
/// A gRPC message's head: a flag and four bytes of length.
const GRPC_HEAD: usize = 5;

thread_local! {
    static PORT: Port = Port::open();
    /// A call came out of the gateway.
    static CALLED: Cell<bool> = const { Cell::new(false) };
}

pub(super) const TARGET: Target = Target {
    name: "gateway",
    what: "requests to the JSON gateway",
    corpus: || (0..).zip(TEXTS).map(|(path, text)| [&[path], text.as_bytes()].concat()).collect(),
    reseal: None,
    run: |input| {
        let Some((path, text)) = input.split_first() else { return false };
        CALLED.set(false);
        PORT.with(|port| port.ask(PATHS[usize::from(*path) % PATHS.len()], text));
        CALLED.get()
    },
};

/// The client port's pages, over services that only look at what they are sent.
struct Port {
    runtime: tokio::runtime::Runtime,
    pages: axum::Router,
}

impl Port {
    fn open() -> Self {
        let context = Context {
            gateway: Some(grpc_service(tower::service_fn(call))),
            health: Arc::new(Member),
            metrics: Arc::new(Metrics::new(false)),
            cors: Arc::new(["*".to_string()]),
            host_whitelist: Arc::new(["*".to_string()]),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, pages: router(context) }
    }

    fn ask(&self, path: &str, text: &[u8]) {
        let request = http::Request::post(path).body(Body::from(text.to_vec())).expect("a request");
        let pages = self.pages.clone();
        self.runtime.block_on(async {
            let response = pages.oneshot(request).await.expect("pages always answer");
            let body = response.into_body().collect().await.expect("a body ends").to_bytes();
            assert!(std::str::from_utf8(&body).is_ok(), "an answer that is not text");
        });
    }
}

/// Checks that the gateway made a message of the right kind, and answers with an empty one.
async fn call(request: http::Request<tonic::body::Body>) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let (head, mut body) = request.into_parts();
    // A watch's request stays open, also when no message comes: only what is there already counts.
    let mut frame = pin!(body.frame());
    let frame = poll_fn(|context| match frame.as_mut().poll(context) {
        Poll::Ready(frame) => Poll::Ready(frame),
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(message) = frame.await.and_then(|frame| frame.ok()?.into_data().ok()) {
        assert!(message.len() >= GRPC_HEAD, "a call without a message");
        check(head.uri.path(), message.slice(GRPC_HEAD..));
        CALLED.set(true);
    }
    let trailers = async { Some(Ok(http::HeaderMap::from_iter([("grpc-status".parse().ok()?, "0".parse().ok()?)]))) };
    let answer = Full::new(Bytes::from_static(&[0; GRPC_HEAD])).with_trailers(trailers);
    Ok(http::Response::new(tonic::body::Body::new(answer)))
}

fn check(path: &str, message: Bytes) {
    let sound = match path {
        "/etcdserverpb.KV/Put" => pb::PutRequest::decode(message).map(drop),
        "/etcdserverpb.KV/Range" => pb::RangeRequest::decode(message).map(drop),
        "/etcdserverpb.KV/Txn" => pb::TxnRequest::decode(message).map(drop),
        "/etcdserverpb.Watch/Watch" => pb::WatchRequest::decode(message).map(drop),
        other => panic!("the gateway calls {other}"),
    };
    sound.unwrap_or_else(|error| panic!("the gateway makes of JSON what is no message for {path}: {error}"));
}

/// A member about which nothing is asked.
struct Member;

impl HealthSource for Member {
    fn alarms(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn has_leader(&self) -> bool {
        true
    }
    fn read(&self, _linearizable: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
    fn cluster_version(&self) -> Option<String> {
        None
    }
    fn raft_status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
