//! One gRPC call made in-process: frames in, frames out, and the status at the end.
//!
//! Knows the gRPC framing only, not what is in a message.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body as HttpBody;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::{Code, Status};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// What answers gRPC requests: this member's services, or a channel to another member.
pub type GrpcService =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, BoxError>;

/// Why a service could not even answer.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends `body` to `path` and returns the answer's messages, once the answer has begun.
pub(super) async fn call<B>(service: GrpcService, path: &str, metadata: HeaderMap, body: B) -> Result<Answer, Status>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut request = http::Request::new(tonic::body::Body::new(body));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = path.parse().map_err(|_| Status::internal("the path of a call is not a URI"))?;
    *request.headers_mut() = metadata;
    request.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    let response = service.oneshot(request).await.map_err(Status::from_error)?;
    let (head, body) = response.into_parts();
    match Status::from_header_map(&head.headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        early => Ok(Answer { body, buffer: BytesMut::new(), begun: early.is_none(), ended: early.is_some() }),
    }
}

/// The messages of an answer.
pub(super) struct Answer {
    body: tonic::body::Body,
    buffer: BytesMut,
    /// The service sent headers of its own before the status.
    pub(super) begun: bool,
    ended: bool,
}

impl Answer {
    /// The next message, `None` at a good end, or why the call failed.
    pub(super) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(message) = take_message(&mut self.buffer) {
                return Poll::Ready(Some(Ok(message)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Status::unknown("the answer ended without a status"))));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => self.buffer.put(&mut data),
                    Err(frame) => {
                        self.ended = true;
                        let trailers = frame.into_trailers().unwrap_or_default();
                        match Status::from_header_map(&trailers) {
                            Some(status) if status.code() != Code::Ok => return Poll::Ready(Some(Err(status))),
                            _ => {}
                        }
                    }
                },
            }
        }
    }

    /// The only message of a call that answers once.
    pub(super) async fn single(mut self) -> Result<Bytes, Status> {
        let first = std::future::poll_fn(|context| self.poll_message(context)).await;
        let message = first.unwrap_or_else(|| Err(Status::unknown("the answer has no message")))?;
        // The status comes after the message, and only it says that the call succeeded.
        match std::future::poll_fn(|context| self.poll_message(context)).await {
            Some(Err(status)) => Err(status),
            _ => Ok(message),
        }
    }
}

/// Puts a message into a frame.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.len());
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(length).freeze())
}

/// A request of many messages: each is read from an HTTP body by `next` as it arrives.
pub(super) struct Feed {
    source: HttpBody,
    buffer: BytesMut,
    next: fn(&mut BytesMut, bool, usize) -> Next,
    shape: usize,
    /// Messages that were read before the call began.
    first: Option<Bytes>,
    source_ended: bool,
    stays_open: bool,
    done: bool,
}

/// What a buffer holds.
pub(super) enum Next {
    /// One message, now taken out of the buffer.
    Message(Vec<u8>),
    /// Not yet a whole one.
    More,
    /// Nothing more will come.
    End,
    /// No message can be read from it.
    Wrong(String),
}

impl Feed {
    /// A feed of messages of `shape` from `source`. With `stays_open` the request never ends by itself: the
    /// answer goes on after the last message.
    pub(super) fn new(
        source: HttpBody,
        shape: usize,
        stays_open: bool,
        next: fn(&mut BytesMut, bool, usize) -> Next,
    ) -> Self {
        let buffer = BytesMut::new();
        Self { source, buffer, next, shape, first: None, source_ended: false, stays_open, done: false }
    }

    /// Reads the first message before the call is made, so that a wrong one is answered as an error of its own.
    ///
    /// # Errors
    /// Why it is no message.
    pub(super) async fn begin(&mut self) -> Result<(), String> {
        match std::future::poll_fn(|context| self.poll_next(context)).await {
            Next::Message(message) => self.first = Some(frame(&message)),
            Next::Wrong(message) => return Err(message),
            Next::End | Next::More => self.done = true,
        }
        Ok(())
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            match (self.next)(&mut self.buffer, self.source_ended, self.shape) {
                Next::More => {}
                found => return Poll::Ready(found),
            }
            if self.buffer.len() > super::BODY_BYTES_MAX {
                return Poll::Ready(Next::Wrong("one message of the stream is too large".into()));
            }
            match ready!(Pin::new(&mut self.source).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => self.source_ended = true,
            }
        }
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if !self.done {
            // etcd stops reading at the first fault and lets the answer go on.
            match ready!(self.poll_next(context)) {
                Next::Message(message) => return Poll::Ready(Some(Ok(Frame::data(frame(&message))))),
                Next::End | Next::More | Next::Wrong(_) => self.done = true,
            }
        }
        if self.stays_open { Poll::Pending } else { Poll::Ready(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_wherever_the_bytes_were_cut() {
        let all = [frame(b"one"), frame(b""), frame(b"three")].concat();
        for cut in 0..=all.len() {
            let mut buffer = BytesMut::from(&all[..cut]);
            let mut found = Vec::new();
            while let Some(message) = take_message(&mut buffer) {
                found.push(message);
            }
            buffer.extend_from_slice(&all[cut..]);
            while let Some(message) = take_message(&mut buffer) {
                found.push(message);
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"]);
        }
    }
}
