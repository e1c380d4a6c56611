//! The gRPC service `etcdserverpb.Watch`.
//!
//! Written by hand where others are generated, because responses come as prepared bytes (see `codec`).

use std::convert::Infallible;
use std::task::{Context, Poll};

use eyrie_api::pb;
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::codec::WatchCodec;
use super::hub::WatchHub;
use super::source::Source;
use super::stream::{WatchSettings, WatchStream};

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WatchService<S> {
    hub: WatchHub,
    source: S,
    settings: WatchSettings,
    request_bytes_max: Option<usize>,
}

impl<S: Source> WatchService<S> {
    /// Serves watchers of `source`, whose events come through `hub`.
    pub fn new(hub: WatchHub, source: S, settings: WatchSettings) -> Self {
        Self { hub, source, settings, request_bytes_max: None }
    }

    /// Bounds the size of one request.
    #[must_use]
    pub fn max_decoding_message_size(mut self, bytes: usize) -> Self {
        self.request_bytes_max = Some(bytes);
        self
    }

    /// A stream that answers these requests, for callers inside the process (`Frame::into_message` gives messages).
    pub fn stream<R>(&self, requests: R) -> WatchStream<S, R>
    where
        R: tokio_stream::Stream<Item = Result<pb::WatchRequest, Status>> + Unpin,
    {
        WatchStream::new(self.hub.clone(), self.source.clone(), self.settings, Some(requests))
    }
}

impl<S: Source> WatchService<S> {
    /// A stream for a caller inside the process that creates its watchers itself.
    pub fn inside(&self) -> WatchStream<S, tokio_stream::Empty<Result<pb::WatchRequest, Status>>> {
        WatchStream::new(self.hub.clone(), self.source.clone(), self.settings, None)
    }
}

impl<S> NamedService for WatchService<S> {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl<S: Source> StreamingService<pb::WatchRequest> for WatchService<S> {
    type Response = super::frame::Frame;
    type ResponseStream = WatchStream<S, Streaming<pb::WatchRequest>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.stream(request.into_inner()))))
    }
}

impl<S, B> tower::Service<http::Request<B>> for WatchService<S>
where
    S: Source,
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != "/etcdserverpb.Watch/Watch" {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            let text = format!("unknown method {method} for service {}", Self::NAME);
            return Box::pin(std::future::ready(Ok(Status::unimplemented(text).into_http())));
        }
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(WatchCodec).apply_max_message_size_config(service.request_bytes_max, None);
            Ok(grpc.streaming(service, request).await)
        })
    }
}
