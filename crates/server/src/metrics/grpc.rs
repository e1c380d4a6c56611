//! Counts every gRPC call: started, ended with which code, messages and bytes each way.
//!
//! The methods are known beforehand, so each has its own atomics; a call costs one hash of its path and a handful of
//! relaxed additions. All methods and codes are on the page from the start, at zero, as etcd's are.

use std::collections::HashMap;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use parking_lot::RwLock;
use pin_project_lite::pin_project;
use prometheus::{Histogram, IntCounter, IntCounterVec, Registry};
use prost::Message as _;
use tower::Service;

use super::families;

/// Names of gRPC codes as Go prints them, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const CANCELED: usize = 1;
const UNKNOWN: usize = 2;

/// Client versions that get a label of their own; a client can't fill the page by inventing more.
const CLIENT_VERSIONS_MAX: usize = 32;

/// The counts of all methods.
pub struct GrpcStats {
    methods: Vec<MethodStats>,
    by_path: HashMap<String, usize>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    client_requests: IntCounterVec,
    client_versions: RwLock<Vec<(String, [IntCounter; 2])>>,
}

struct MethodStats {
    service: String,
    name: String,
    kind: &'static str,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    received: AtomicU64,
    sent: AtomicU64,
    times: Option<Histogram>,
}

impl GrpcStats {
    pub(super) fn new(registry: &Registry, extensive: bool) -> Self {
        let times = extensive.then(|| families::call_times(registry));
        let files = prost_types::FileDescriptorSet::decode(eyrie_api::DESCRIPTORS);
        let files = files.expect("the descriptors were encoded by our own build");
        let mut methods = Vec::new();
        let mut by_path = HashMap::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let service = format!("{}.{}", file.package(), service.name());
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => "unary",
                        (false, true) => "server_stream",
                        (true, false) => "client_stream",
                        (true, true) => "bidi_stream",
                    };
                    by_path.insert(format!("/{service}/{}", method.name()), methods.len());
                    let labels = [kind, &service, method.name()];
                    methods.push(MethodStats {
                        times: times.as_ref().map(|times| times.with_label_values(&labels)),
                        service,
                        name: method.name().to_string(),
                        kind,
                        started: AtomicU64::new(0),
                        handled: [const { AtomicU64::new(0) }; CODES.len()],
                        received: AtomicU64::new(0),
                        sent: AtomicU64::new(0),
                    });
                }
            }
        }
        let client_requests = families::counters(
            registry,
            "etcd_server_client_requests_total",
            "The total number of client requests per client version.",
            &["type", "client_api_version"],
        );
        Self {
            methods,
            by_path,
            received_bytes: families::counter(
                registry,
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
            ),
            sent_bytes: families::counter(
                registry,
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
            ),
            client_requests,
            client_versions: RwLock::default(),
        }
    }

    fn begin(self: &Arc<Self>, path: &str, headers: &HeaderMap) -> Option<Ticket> {
        Some(self.begin_at(self.method(path)?, headers))
    }

    /// The number of a method, to be asked once.
    pub(crate) fn method(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// A call of a method begins.
    pub(crate) fn begin_at(self: &Arc<Self>, at: usize, headers: &HeaderMap) -> Ticket {
        let method = &self.methods[at];
        method.started.fetch_add(1, Relaxed);
        let stream = method.kind != "unary";
        let version = headers.get("client-api-version").and_then(|value| value.to_str().ok());
        self.count_client(version.unwrap_or("unknown"), stream);
        Ticket { stats: self.clone(), at, begun: method.times.is_some().then(Instant::now), done: false }
    }

    fn count_client(&self, version: &str, stream: bool) {
        let known = self.client_versions.read();
        if let Some((_, counters)) = known.iter().find(|(known, _)| known == version) {
            counters[usize::from(stream)].inc();
            return;
        }
        let full = known.len() >= CLIENT_VERSIONS_MAX;
        drop(known);
        let version = if full { "unknown" } else { version };
        let counter = |kind| self.client_requests.with_label_values(&[kind, version]);
        let counters = ["unary", "stream"].map(counter);
        counters[usize::from(stream)].inc();
        let mut known = self.client_versions.write();
        if !full && !known.iter().any(|(known, _)| known == version) {
            known.push((version.to_string(), counters));
        }
    }

    #[cfg(test)]
    pub(super) fn touch(&self) {
        self.count_client("unknown", false);
    }

    pub(super) fn write(&self, out: &mut String) {
        let mut family = |name: &str, help: &str, value: &dyn Fn(&MethodStats) -> u64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for method in &self.methods {
                let labels = method.labels();
                let _ = writeln!(out, "{name}{{{labels}}} {}", value(method));
            }
        };
        let started = "Total number of RPCs started on the server.";
        family("grpc_server_started_total", started, &|method| method.started.load(Relaxed));
        let received = "Total number of RPC stream messages received on the server.";
        family("grpc_server_msg_received_total", received, &|method| method.received.load(Relaxed));
        let sent = "Total number of gRPC stream messages sent by the server.";
        family("grpc_server_msg_sent_total", sent, &|method| method.sent.load(Relaxed));
        let name = "grpc_server_handled_total";
        let help = "Total number of RPCs completed on the server, regardless of success or failure.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for method in &self.methods {
            let labels = method.labels();
            for (code, count) in CODES.iter().zip(&method.handled) {
                let _ = writeln!(out, "{name}{{grpc_code=\"{code}\",{labels}}} {}", count.load(Relaxed));
            }
        }
    }
}

impl MethodStats {
    fn labels(&self) -> String {
        format!("grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{}\"", self.name, self.service, self.kind)
    }
}

/// One call under way. A call that is dropped before its status counts as canceled.
pub(crate) struct Ticket {
    stats: Arc<GrpcStats>,
    at: usize,
    begun: Option<Instant>,
    done: bool,
}

impl Ticket {
    /// The one message of a unary call came.
    pub(crate) fn received(&self, bytes: usize) {
        self.stats.methods[self.at].received.fetch_add(1, Relaxed);
        self.stats.received_bytes.inc_by(bytes as u64);
    }

    /// The one answer to a unary call goes out.
    pub(crate) fn sent(&self, bytes: usize) {
        self.stats.methods[self.at].sent.fetch_add(1, Relaxed);
        self.stats.sent_bytes.inc_by(bytes as u64);
    }

    /// The call ended with a code.
    pub(crate) fn end(&mut self, code: usize) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let method = &self.stats.methods[self.at];
        method.handled[code].fetch_add(1, Relaxed);
        if let (Some(times), Some(begun)) = (&method.times, self.begun) {
            times.observe(begun.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(CANCELED);
    }
}

fn status(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get("grpc-status")?.to_str().ok()?;
    let code = text.parse().unwrap_or(UNKNOWN);
    Some(if code < CODES.len() { code } else { UNKNOWN })
}

/// A gRPC service whose calls are counted.
#[derive(Clone)]
pub struct GrpcCounted<S> {
    inner: S,
    stats: Arc<GrpcStats>,
}

impl<S> GrpcCounted<S> {
    /// Counts the calls of `inner` in `stats`.
    pub fn new(inner: S, stats: Arc<GrpcStats>) -> Self {
        Self { inner, stats }
    }
}

impl<S, In, Out> Service<Request<In>> for GrpcCounted<S>
where
    S: Service<Request<Received<In>>, Response = Response<Out>>,
    Out: Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Calling<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let ticket = self.stats.begin(request.uri().path(), request.headers());
        let counted = ticket.as_ref().map(|ticket| (ticket.stats.clone(), ticket.at));
        let request = request.map(|body| Received { body, counted, frames: Frames::default() });
        Calling { inner: self.inner.call(request), ticket }
    }
}

pin_project! {
    /// The answer to a counted call.
    pub struct Calling<F> {
        #[pin]
        inner: F,
        ticket: Option<Ticket>,
    }
}

impl<F, Out, E> Future for Calling<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
    Out: Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<tonic::body::Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(context));
        let ticket = this.ticket.take();
        Poll::Ready(response.map(|response| match ticket {
            None => response.map(tonic::body::Body::new),
            Some(mut ticket) => {
                if let Some(code) = status(response.headers()) {
                    ticket.end(code);
                }
                response.map(|body| tonic::body::Body::new(Sent { body, ticket, frames: Frames::default() }))
            }
        }))
    }
}

pin_project! {
    /// A request's body, counted as it is read.
    pub struct Received<B> {
        #[pin]
        body: B,
        counted: Option<(Arc<GrpcStats>, usize)>,
        frames: Frames,
    }
}

impl<B: Body<Data = Bytes>> Body for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        if let (Some(Ok(frame)), Some((stats, at))) = (&frame, this.counted)
            && let Some(data) = frame.data_ref()
        {
            let (messages, bytes) = this.frames.count(data);
            stats.methods[*at].received.fetch_add(messages, Relaxed);
            stats.received_bytes.inc_by(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    struct Sent<B> {
        #[pin]
        body: B,
        ticket: Ticket,
        frames: Frames,
    }
}

impl<B: Body<Data = Bytes>> Body for Sent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let (messages, bytes) = this.frames.count(data);
                    let stats = &this.ticket.stats;
                    stats.methods[this.ticket.at].sent.fetch_add(messages, Relaxed);
                    stats.sent_bytes.inc_by(bytes);
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.ticket.end(status(trailers).unwrap_or(0));
                }
            }
            Some(Err(_)) => this.ticket.end(UNKNOWN),
            None => this.ticket.end(0),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Finds the messages in a stream of bytes by their five-byte heads, wherever the stream was cut.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 5],
    head_len: usize,
    rest: usize,
}

impl Frames {
    /// How many messages begin in `data`, and how many of its bytes are theirs (heads not counted).
    fn count(&mut self, mut data: &[u8]) -> (u64, u64) {
        let (mut messages, mut bytes) = (0, 0);
        while !data.is_empty() {
            if self.rest > 0 {
                let part = self.rest.min(data.len());
                self.rest -= part;
                bytes += part as u64;
                data = &data[part..];
                continue;
            }
            let part = (5 - self.head_len).min(data.len());
            self.head[self.head_len..self.head_len + part].copy_from_slice(&data[..part]);
            self.head_len += part;
            data = &data[part..];
            if self.head_len == 5 {
                self.head_len = 0;
                messages += 1;
                self.rest = u32::from_be_bytes([self.head[1], self.head[2], self.head[3], self.head[4]]) as usize;
            }
        }
        (messages, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_the_stream_is_cut() {
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let (first, second) = (frames.count(&stream[..cut]), frames.count(&stream[cut..]));
            assert_eq!((first.0 + second.0, first.1 + second.1), (3, 259), "cut at {cut}");
        }
    }

    #[test]
    fn a_dropped_call_is_a_canceled_one() {
        let registry = Registry::new();
        let stats = Arc::new(GrpcStats::new(&registry, true));
        drop(stats.begin("/etcdserverpb.KV/Put", &HeaderMap::new()));
        let mut ticket = stats.begin("/etcdserverpb.KV/Put", &HeaderMap::new()).unwrap();
        ticket.end(0);
        ticket.end(5);
        drop(ticket);
        assert!(stats.begin("/unknown/Put", &HeaderMap::new()).is_none());
        let mut text = String::new();
        stats.write(&mut text);
        let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        assert!(text.contains(&format!("grpc_server_started_total{{{put}}} 2\n")));
        assert!(text.contains(&format!("grpc_server_handled_total{{grpc_code=\"Canceled\",{put}}} 1\n")));
        assert!(text.contains(&format!("grpc_server_handled_total{{grpc_code=\"OK\",{put}}} 1\n")));
        assert!(text.contains(&format!("grpc_server_handled_total{{grpc_code=\"NotFound\",{put}}} 0\n")));
    }

    #[test]
    fn invented_client_versions_do_not_fill_the_page() {
        let stats = Arc::new(GrpcStats::new(&Registry::new(), false));
        for n in 0..1000 {
            stats.count_client(&format!("v{n}"), n % 2 == 0);
        }
        assert_eq!(stats.client_versions.read().len(), CLIENT_VERSIONS_MAX);
    }
}
