//! The short way for the calls that a store spends its life on: `Range`, `Put`, `DeleteRange` and `Txn` of service `KV`.
//!
//! They are unary and their messages are small, so the layers that serve streams of any kind cost more than the call
//! itself. Here the message is cut out of the body's first bytes, and the answer is one data frame and its trailers.
//! Whatever is unusual about a request (compression, another content type) sends it the long way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tonic::Status;

use super::kv::KvService;
use crate::auth::admit;
use crate::metrics::GrpcStats;

/// Who calls, as the service that works for it; `None` when nobody need be known.
type Admitted = Result<Option<KvService>, Status>;

/// Flag and length before each message.
const HEAD_LEN: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The calls that go the short way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Range = 0,
    Put = 1,
    DeleteRange = 2,
    Txn = 3,
}

impl Call {
    /// What a request asks for, if it may go the short way.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        let call = match request.uri().path() {
            "/etcdserverpb.KV/Range" => Call::Range,
            "/etcdserverpb.KV/Put" => Call::Put,
            "/etcdserverpb.KV/DeleteRange" => Call::DeleteRange,
            "/etcdserverpb.KV/Txn" => Call::Txn,
            _ => return None,
        };
        let usual = request.headers().get(header::CONTENT_TYPE) == Some(&GRPC)
            && !request.headers().contains_key("grpc-encoding")
            && !request.headers().contains_key("hasleader");
        usual.then_some(call)
    }
}

/// The short way itself. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Short(Arc<Inner>);

struct Inner {
    kv: KvService,
    stats: Arc<GrpcStats>,
    /// The number of each call among all methods.
    methods: [usize; 4],
    message_bytes_max: usize,
}

impl Short {
    /// # Panics
    /// Never: the methods are in the definitions that the statistics are made of.
    pub(crate) fn new(kv: KvService, stats: Arc<GrpcStats>, message_bytes_max: usize) -> Self {
        let methods = ["Range", "Put", "DeleteRange", "Txn"]
            .map(|name| stats.method(&format!("/etcdserverpb.KV/{name}")).expect("service KV has this method"));
        Self(Arc::new(Inner { kv, stats, methods, message_bytes_max }))
    }

    /// The service as it is for whoever calls; `None` while users are not enforced, when nothing is asked.
    fn caller(&self, request: &Request<Incoming>) -> Option<Pin<Box<dyn Future<Output = Admitted> + Send>>> {
        let store = &self.0.kv.store;
        if !store.shared().guard.is_on() {
            return None;
        }
        let (store, uri) = (store.clone(), request.uri().clone());
        let (headers, extensions) = (request.headers().clone(), request.extensions().clone());
        Some(Box::pin(async move {
            let admitted = admit(&store, uri.path(), &headers, &extensions).await?;
            Ok(admitted.map(|store| KvService { store }))
        }))
    }

    /// Answers one call.
    pub(crate) async fn answer(&self, call: Call, request: Request<Incoming>) -> Response<EdgeBody> {
        let mut ticket = self.0.stats.begin_at(self.0.methods[call as usize], request.headers());
        let caller = match self.caller(&request) {
            Some(caller) => caller.await,
            None => Ok(None),
        };
        let answered = async {
            let caller = caller?;
            let message = message(request.into_body(), self.0.message_bytes_max).await?;
            ticket.received(message.len());
            let kv = caller.as_ref().unwrap_or(&self.0.kv);
            if call != Call::Range {
                kv.store.refuse_if_learner()?;
            }
            match call {
                Call::Range => Ok(framed(&kv.range(decoded(message)?).await?)),
                Call::Put => Ok(framed(&kv.put(decoded(message)?).await?)),
                // In a box, so that the future of the other two stays small.
                Call::DeleteRange => Ok(framed(&Box::pin(kv.delete_range(decoded(message)?)).await?)),
                Call::Txn => Ok(framed(&Box::pin(kv.txn(decoded(message)?)).await?)),
            }
        };
        match answered.await {
            Ok(data) => {
                ticket.sent(data.len() - HEAD_LEN);
                ticket.end(0);
                let mut response = Response::new(EdgeBody::Short { data: Some(data), trailers: true });
                response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
                response
            }
            Err(status) => {
                let status: Status = status;
                ticket.end(i32::from(status.code()) as usize);
                status.into_http()
            }
        }
    }
}

fn decoded<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

fn framed<M: Message>(answer: &M) -> Bytes {
    let len = answer.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD_LEN + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    answer.encode_raw(&mut out);
    out.freeze()
}

/// Cuts the one message out of a request's body. Nearly always it is the body's first piece as it is.
async fn message(mut body: Incoming, most: usize) -> Result<Bytes, Status> {
    let mut gathered: Option<BytesMut> = None;
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => piece,
                Err(_) => continue,
            },
            Some(Err(error)) => return Err(Status::cancelled(format!("the request broke off: {error}"))),
            None => return Err(Status::internal("grpc: the request ended before its message")),
        };
        let so_far: Bytes = match &mut gathered {
            None => piece,
            Some(gathered) => {
                gathered.extend_from_slice(&piece);
                if gathered.len() < HEAD_LEN || gathered.len() < HEAD_LEN + claimed(gathered) {
                    continue;
                }
                std::mem::take(gathered).freeze()
            }
        };
        if so_far.len() < HEAD_LEN {
            gathered = Some(BytesMut::from(&so_far[..]));
            continue;
        }
        let len = claimed(&so_far);
        if so_far[0] != 0 {
            return Err(Status::unimplemented("grpc: Decompressor is not installed for grpc-encoding \"\""));
        }
        if len > most {
            let text = format!("grpc: received message larger than max ({len} vs. {most})");
            return Err(Status::resource_exhausted(text));
        }
        if so_far.len() < HEAD_LEN + len {
            let mut room = BytesMut::with_capacity(HEAD_LEN + len);
            room.extend_from_slice(&so_far);
            gathered = Some(room);
            continue;
        }
        return Ok(so_far.slice(HEAD_LEN..HEAD_LEN + len));
    }
}

/// The length that a message's head claims.
fn claimed(head: &[u8]) -> usize {
    u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize
}

/// The body of any answer on the client port.
pub(crate) enum EdgeBody {
    /// One message and its good status.
    Short { data: Option<Bytes>, trailers: bool },
    /// Anything else.
    Long(tonic::body::Body),
}

impl Default for EdgeBody {
    fn default() -> Self {
        EdgeBody::Short { data: None, trailers: false }
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            EdgeBody::Short { data, trailers } => {
                if let Some(data) = data.take() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                if !std::mem::take(trailers) {
                    return Poll::Ready(None);
                }
                let mut status = HeaderMap::with_capacity(1);
                status.insert("grpc-status", OK);
                Poll::Ready(Some(Ok(Frame::trailers(status))))
            }
            EdgeBody::Long(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            EdgeBody::Short { data, trailers } => data.is_none() && !trailers,
            EdgeBody::Long(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // Said to be unknown: trailers follow, and a length in the head would only be more to send.
            EdgeBody::Short { .. } => SizeHint::default(),
            EdgeBody::Long(body) => body.size_hint(),
        }
    }
}
