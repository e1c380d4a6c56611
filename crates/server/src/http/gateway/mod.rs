//! The JSON gateway: each `POST /v3/...` becomes the gRPC call of the same meaning, made in-process.
//!
//! ```text
//! JSON ─ json ─▶ tree ─ encode ─▶ message ─ call ─▶ gRPC services ─▶ message ─ decode ─▶ JSON
//!                        schema (field names and kinds, from the descriptors)
//! ```
//!
//! Knows no message: path, call and shapes are data. Answers, errors and status codes are those of etcd 3.5's gateway,
//! byte for byte.

mod call;
mod decode;
mod encode;
mod json;
mod routes;
mod schema;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use self::call::{Answer, Feed, Next};
pub use self::call::{BoxError, GrpcService};
use self::schema::SCHEMA;
use super::plain;

/// Bytes of one request body. Twice what base64 makes of the largest request that can be configured usefully; the
/// exact limit of a request is the gRPC service's.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Answers one request below `/v3/`.
pub(super) async fn answer(service: GrpcService, request: http::Request<HttpBody>) -> Response {
    let Some(path) = routes::find(request.uri().path()) else { return plain(StatusCode::NOT_FOUND, "Not Found\n") };
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    let Some(method) = SCHEMA.method(path) else { return plain(StatusCode::NOT_FOUND, "Not Found\n") };
    let metadata = metadata(request.headers());
    let timeout = match timeout(request.headers()) {
        Ok(timeout) => timeout,
        Err(status) => return failure(&status),
    };
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let answered = within(deadline, async {
        match (method.client_streaming, method.server_streaming) {
            (false, false) => once(service, path, method, metadata, request.into_body()).await,
            (false, true) => {
                let message = read_message(request.into_body(), method.input).await?;
                let answer =
                    call::call(service, path, metadata, http_body_util::Full::new(call::frame(&message))).await?;
                stream(answer, method.output, deadline).await
            }
            _ => {
                // A watch outlives its last request; a keep-alive stream ends with it.
                let stays_open = path == "/etcdserverpb.Watch/Watch";
                let mut feed = Feed::new(request.into_body(), method.input, stays_open, next_message);
                feed.begin().await.map_err(Status::unknown)?;
                let answer = call::call(service, path, metadata, feed).await?;
                stream(answer, method.output, deadline).await
            }
        }
    });
    answered.await.unwrap_or_else(|status| failure(&status))
}

async fn once(
    service: GrpcService,
    path: &str,
    method: schema::Method,
    metadata: HeaderMap,
    body: HttpBody,
) -> Result<Response, Status> {
    let message = read_message(body, method.input).await?;
    let answer = call::call(service, path, metadata, http_body_util::Full::new(call::frame(&message))).await?;
    let message = answer.single().await?;
    let mut text = String::with_capacity(message.len() * 2);
    decode::message(&SCHEMA, method.output, &message, &mut text)
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut response = json(StatusCode::OK, text);
    response.headers_mut().insert(GRPC_CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Waits for the first message, because a call that fails at once is an HTTP error, and lets the rest follow.
async fn stream(mut answer: Answer, shape: usize, deadline: Option<Instant>) -> Result<Response, Status> {
    let first = std::future::poll_fn(|context| answer.poll_message(context)).await;
    let begun = answer.begun;
    let (status, first) = match first {
        None => (StatusCode::OK, Bytes::new()),
        Some(Ok(message)) => (StatusCode::OK, result_line(shape, &message)),
        Some(Err(status)) => (http_status(status.code()), error_line(&status)),
    };
    let failed = status != StatusCode::OK;
    let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    let body = Lines { first: (!first.is_empty()).then_some(first), answer, shape, ended: failed, deadline };
    let mut response = Response::new(HttpBody::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if begun {
        response.headers_mut().insert(GRPC_CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    Ok(response)
}

/// The answers of a stream, one JSON line each.
struct Lines {
    first: Option<Bytes>,
    answer: Answer,
    shape: usize,
    ended: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::data(error_line(&deadline_exceeded())))));
        }
        let line = match ready!(self.answer.poll_message(context)) {
            None => return Poll::Ready(None),
            Some(Ok(message)) => result_line(self.shape, &message),
            Some(Err(status)) => {
                self.ended = true;
                error_line(&status)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(line))))
    }
}

async fn read_message(body: HttpBody, shape: usize) -> Result<Vec<u8>, Status> {
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        Status::resource_exhausted(format!(
            "grpc: received message larger than max (the body exceeds {BODY_BYTES_MAX} bytes)"
        ))
    })?;
    match next_message(&mut BytesMut::from(body), true, shape) {
        Next::Message(message) => Ok(message),
        Next::Wrong(message) => Err(Status::invalid_argument(message)),
        Next::End | Next::More => Ok(Vec::new()),
    }
}

/// Takes one JSON value from the front of `buffer`; `ended` says that nothing will follow.
fn next_message(buffer: &mut BytesMut, ended: bool, shape: usize) -> Next {
    let (found, used) = match json::first(buffer) {
        Ok(None) if ended => return Next::End,
        Ok(None) => return Next::More,
        Ok(Some((value, used))) => (encode::message(&SCHEMA, shape, &value), used),
        Err(json::Fault::Truncated) if ended => return Next::Wrong("unexpected EOF".into()),
        Err(json::Fault::Truncated) => return Next::More,
        Err(json::Fault::Wrong(message)) => return Next::Wrong(message),
    };
    buffer.advance(used);
    found.map_or_else(Next::Wrong, Next::Message)
}

const GRPC_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");

fn result_line(shape: usize, message: &[u8]) -> Bytes {
    let mut text = String::from("{\"result\":");
    match decode::message(&SCHEMA, shape, message, &mut text) {
        Ok(()) => {
            text.push_str("}\n");
            text.into()
        }
        Err(error) => error_line(&Status::internal(error.to_string())),
    }
}

/// What a stream says when it fails.
fn error_line(status: &Status) -> Bytes {
    let http = http_status(status.code());
    let mut text =
        format!("{{\"error\":{{\"grpc_code\":{},\"http_code\":{},\"message\":", status.code() as i32, http.as_u16());
    json::push_string(&mut text, status.message());
    text.push_str(",\"http_status\":");
    json::push_string(&mut text, http.canonical_reason().unwrap_or_default());
    // etcd ends this line without a line feed.
    text.push_str("}}");
    text.into()
}

/// What a single call says when it fails.
fn failure(status: &Status) -> Response {
    let mut text = String::from("{\"error\":");
    json::push_string(&mut text, status.message());
    text.push_str(&format!(",\"code\":{},\"message\":", status.code() as i32));
    json::push_string(&mut text, status.message());
    text.push('}');
    json(http_status(status.code()), text)
}

fn json(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(HttpBody::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The HTTP status of a gRPC code, as grpc-gateway maps them.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What goes on to the service: the token, and whatever the client names `Grpc-Metadata-...`.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        if name == header::AUTHORIZATION {
            out.append(name, value.clone());
        } else if let Some(rest) = name.as_str().strip_prefix("grpc-metadata-")
            && let Ok(name) = HeaderName::from_bytes(rest.as_bytes())
            && !["content-type", "te", "grpc-timeout", "grpc-encoding"].contains(&rest)
        {
            out.append(name, value.clone());
        }
    }
    out
}

/// `Grpc-Timeout: 500m`.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let wrong = || Status::invalid_argument(format!("invalid grpc-timeout: {text}"));
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let amount: u64 = digits.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "H" => Duration::from_secs(amount.saturating_mul(3600)),
        "M" => Duration::from_secs(amount.saturating_mul(60)),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(wrong()),
    };
    // Longer than this is no limit in practice, and the clock cannot add more.
    Ok(Some(duration.min(Duration::from_secs(365 * 86_400))))
}

async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match deadline {
        None => work.await,
        Some(deadline) if deadline <= Instant::now() => Err(deadline_exceeded()),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(deadline_exceeded())),
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}
