//! One other member: its addresses, and what waits to be said to it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use eyrie_api::peer::part::What;
use eyrie_api::peer::{Batch, Hello, Part};
use eyrie_raft::Message;
use parking_lot::Mutex;
use tokio_stream::Stream;

use crate::limits::{PEER_BATCH_BYTES, PEER_QUEUE_BYTES_MAX};

/// See the module.
pub(crate) struct Link {
    /// Whom it leads to.
    pub(crate) member: u64,
    urls: Mutex<Vec<String>>,
    queue: Mutex<Queue>,
    round_trip_nanos: AtomicU64,
    /// How much the other clock is ahead of this one, in nanoseconds.
    clock_ahead_nanos: std::sync::atomic::AtomicI64,
    /// For calls that are not part of the talk.
    channel: Mutex<Option<tonic::transport::Channel>>,
}

#[derive(Default)]
struct Queue {
    parts: VecDeque<(usize, What)>,
    bytes: usize,
    waker: Option<Waker>,
    /// The stream that is fed now; what an older one asks for ends it.
    stream: u64,
    /// Since when the other side takes what is said. Nothing is queued before: it would be old when it is heard.
    open_since: Option<Instant>,
    closed: bool,
}

impl Link {
    pub(crate) fn new(member: u64, urls: Vec<String>) -> Self {
        Self {
            member,
            urls: Mutex::new(urls),
            queue: Mutex::default(),
            round_trip_nanos: AtomicU64::new(0),
            clock_ahead_nanos: Default::default(),
            channel: Mutex::default(),
        }
    }

    /// Where the member is to be found.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.urls.lock().clone()
    }

    /// It moved, perhaps.
    pub(crate) fn now_at(&self, urls: &[String]) {
        let mut known = self.urls.lock();
        if *known != urls {
            *known = urls.to_vec();
            *self.channel.lock() = None;
            drop(known);
            self.lost();
        }
    }

    /// Says something; `false` when it can't be heard now.
    pub(crate) fn say(&self, message: &Message) -> bool {
        let Ok(bytes) = message.encode() else { return false };
        self.push(bytes.len(), What::Raft(bytes.into()))
    }

    /// As [`Link::say`], for what is not raft's.
    pub(crate) fn push(&self, weight: usize, what: What) -> bool {
        let mut queue = self.queue.lock();
        if queue.open_since.is_none() || queue.closed || queue.bytes + weight > PEER_QUEUE_BYTES_MAX {
            return false;
        }
        queue.bytes += weight + PART_OVERHEAD;
        queue.parts.push_back((weight + PART_OVERHEAD, what));
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// A stream of what is said from now on; it begins with `hello`.
    pub(crate) fn stream(self: &Arc<Self>, hello: Hello) -> Outgoing {
        let mut queue = self.queue.lock();
        queue.stream += 1;
        queue.parts.clear();
        queue.bytes = 0;
        queue.open_since = None;
        Outgoing { link: self.clone(), number: queue.stream, hello: Some(hello) }
    }

    /// The other side has accepted the stream.
    pub(crate) fn established(&self) {
        self.queue.lock().open_since.get_or_insert_with(Instant::now);
    }

    /// The stream has ended. Returns whether it was established.
    pub(crate) fn lost(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.stream += 1;
        queue.parts.clear();
        queue.bytes = 0;
        let was_open = queue.open_since.take().is_some();
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        was_open
    }

    /// The member has left the cluster.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.lost();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// For how long the other side has been hearing.
    pub(crate) fn connected_for(&self) -> Option<Duration> {
        self.queue.lock().open_since.map(|since| since.elapsed())
    }

    /// A ping came back after `round_trip` from a member whose clock is ahead by `ahead_nanos`.
    pub(crate) fn pulse(&self, round_trip: Duration, ahead_nanos: i64) {
        self.round_trip_nanos.store(u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.clock_ahead_nanos.store(ahead_nanos, Ordering::Relaxed);
    }

    /// The last round trip, and how much the other clock was ahead, in nanoseconds.
    pub(crate) fn last_pulse(&self) -> (Duration, i64) {
        let round_trip = Duration::from_nanos(self.round_trip_nanos.load(Ordering::Relaxed));
        (round_trip, self.clock_ahead_nanos.load(Ordering::Relaxed))
    }

    /// A channel for calls apart from the talk, made by `make` when there is none.
    pub(crate) fn channel(&self, make: impl FnOnce() -> tonic::transport::Channel) -> tonic::transport::Channel {
        self.channel.lock().get_or_insert_with(make).clone()
    }
}

/// What a part costs beyond its content.
const PART_OVERHEAD: usize = 32;

/// See [`Link::stream`].
pub(crate) struct Outgoing {
    link: Arc<Link>,
    number: u64,
    hello: Option<Hello>,
}

impl Stream for Outgoing {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Batch { hello: Some(hello), parts: vec![] }));
        }
        let mut queue = self.link.queue.lock();
        if queue.stream != self.number || queue.closed {
            return Poll::Ready(None);
        }
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while bytes < PEER_BATCH_BYTES
            && let Some((weight, what)) = queue.parts.pop_front()
        {
            bytes += weight;
            parts.push(Part { what: Some(what) });
        }
        queue.bytes -= bytes;
        if parts.is_empty() {
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(Batch { hello: None, parts }))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn order_is_kept_and_a_deaf_peer_costs_no_more_than_its_queue() {
        let link = Arc::new(Link::new(7, vec![]));
        assert!(!link.push(1, What::Ping(0)), "nobody listens yet");
        let mut stream = link.stream(Hello::default());
        assert!(stream.next().await.unwrap().hello.is_some());
        link.established();
        let said = (1..).take_while(|n| link.push((1 << 20) - PART_OVERHEAD, What::Ping(*n))).count();
        assert_eq!(said, PEER_QUEUE_BYTES_MAX >> 20, "then it is full");
        let mut heard = vec![];
        while heard.len() < said {
            for part in stream.next().await.unwrap().parts {
                heard.push(part.what.unwrap());
            }
        }
        assert_eq!(heard, (1..=said as u64).map(What::Ping).collect::<Vec<_>>());
        assert!(link.push(1, What::Ping(9)), "there is room again");
        let mut newer = link.stream(Hello::default());
        assert!(stream.next().await.is_none(), "an older stream ends, and what it did not carry is lost");
        newer.next().await;
        link.established();
        link.push(1, What::Ping(10));
        assert_eq!(newer.next().await.unwrap().parts, [Part { what: Some(What::Ping(10)) }]);
    }
}
