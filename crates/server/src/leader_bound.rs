//! Streams whose client wants a leader behind them: without one for too long they end, so that the client looks elsewhere.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;
use tonic::body::Body;

use crate::store::Store;

/// Election timeouts without a leader after which a stream ends (etcd's figure).
const ELECTIONS_MAX: u32 = 3;

/// The same response, which ends with `no leader` when there is none for three election timeouts.
pub(crate) fn bound_to_leader(store: &Store, response: Response<Body>) -> Response<Body> {
    let mut looks = interval(store.election_timeout());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let store = store.clone();
    response.map(|inner| Body::new(LeaderBound { inner, store, looks, without: 0, ended: false }))
}

struct LeaderBound {
    inner: Body,
    store: Store,
    looks: Interval,
    /// Looks in a row that found no leader.
    without: u32,
    ended: bool,
}

impl http_body::Body for LeaderBound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        while self.looks.poll_tick(cx).is_ready() {
            self.without = if self.store.standing().leader == 0 { self.without + 1 } else { 0 };
            if self.without > ELECTIONS_MAX {
                self.ended = true;
                let mut trailers = http::HeaderMap::new();
                Status::unavailable("etcdserver: no leader").add_header(&mut trailers)?;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
