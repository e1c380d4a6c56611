//! Reading a busy store in strides: a few times a second all that has come since, instead of each change by itself.
//!
//! ```text
//! the store's revision ─▶ lanes over what is new ─▶ all full ─▶ is the revision before them still readable? ─▶ hand out
//!         ▲                                                                                                       │
//!         └─────────────────────────────────────── rest ◀─────────────────────────────────────────────────────────┘
//! ```
//! Who listens to a busy etcd halves what it can do: each change is an answer of its own. Read in strides, its puts notify
//! nobody, and its answers hold a thousand revisions each. The price is that the archive is some tenths of a second further
//! behind, and that history must still be there when it is read: so this is for stores that keep their past (`may_stride`).
//! Nothing is decided here about a history that does not go on: whatever is odd is left to the watch that listens.

use std::sync::atomic::Ordering;
use std::time::Duration;

use eyrie_api::client::CallError;
use eyrie_api::pb::watch_request::RequestUnion;
use eyrie_api::pb::{WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use eyrie_state::Revision;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use super::follow::{Batch, End, Follower, Readable};
use super::lanes::{Lanes, Taken};
use crate::history::TimeMs;
use crate::limits::{
    ASK_LIMIT, LANE_REVISIONS, LANES_MAX, STRIDE_BUSY_RATE, STRIDE_BUSY_WINDOWS, STRIDE_EVERY, STRIDE_LEN,
    STRIDE_LEN_MAX, STRIDE_REST, STRIDES_EMPTY_MAX,
};

/// When and how a store is read in strides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strides {
    /// Changes a second from which on it is.
    pub busy_rate: u64,
    /// Windows of half a second that must be so busy, one after the other.
    pub busy_windows: u32,
    /// Time from one stride to the next.
    pub every: Duration,
    /// Revisions of one watch.
    pub lane_revisions: i64,
    /// How long it is listened to when strides were not possible.
    pub rest: Duration,
}

impl Default for Strides {
    fn default() -> Self {
        Self {
            busy_rate: STRIDE_BUSY_RATE,
            busy_windows: STRIDE_BUSY_WINDOWS,
            every: STRIDE_EVERY,
            lane_revisions: LANE_REVISIONS,
            rest: STRIDE_REST,
        }
    }
}

/// Why reading in strides ended.
enum Left {
    /// The store is calm, or its values are too large for this to pay.
    Calm,
    /// Something was not as expected.
    Odd,
}

/// One stream that all watches share.
struct Stream {
    answers: Streaming<WatchResponse>,
    ask: mpsc::Sender<WatchRequest>,
}

impl Follower {
    /// Whether to read in strides from here on.
    pub(super) async fn wants_strides(&mut self) -> Result<bool, End> {
        let now = Instant::now();
        let Some(strides) = &self.strides else { return Ok(false) };
        if !self.traffic.is_busy(strides.busy_windows) || self.no_strides_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        let rest = strides.rest;
        if self.lanes_max() > 0 && self.may_stride(now).await? {
            return Ok(true);
        }
        self.no_strides_until = Some(now + rest);
        Ok(false)
    }

    /// Only who has never compacted, or is known to keep more than a cycle of compaction: otherwise the store may forget what
    /// a watch that listens had long heard.
    async fn may_stride(&self, now: Instant) -> Result<bool, End> {
        if matches!(self.readable(Revision(1)).await?, Readable::Yes { .. }) {
            return Ok(true);
        }
        let Some(proof) = self.traffic.long_past(self.handed, now) else { return Ok(false) };
        Ok(matches!(self.readable(proof).await?, Readable::Yes { .. }))
    }

    /// Reads in strides until the store is calm again, or something is odd.
    pub(super) async fn stride(&mut self) -> Result<(), End> {
        let left = self.stride_on().await;
        self.traffic.forget();
        if let (false, Some(strides)) = (matches!(left, Ok(Left::Calm)), &self.strides) {
            self.no_strides_until = Some(Instant::now() + strides.rest);
        }
        left.map(|_| ())
    }

    async fn stride_on(&mut self) -> Result<Left, End> {
        let Some(Strides { every, lane_revisions, .. }) = self.strides.clone() else { return Ok(Left::Calm) };
        let (mut stream, mut next_id, mut empty) = (None, 1, 0);
        loop {
            let began = Instant::now();
            let Readable::Yes { store } = self.readable(self.handed).await? else { return Ok(Left::Odd) };
            let lanes_max = self.lanes_max();
            let Some(lanes) = Lanes::plan(self.handed, store, lane_revisions, lanes_max, next_id) else {
                empty += 1;
                if empty > STRIDES_EMPTY_MAX || lanes_max == 0 {
                    return Ok(Left::Calm);
                }
                tokio::time::sleep(every).await;
                continue;
            };
            empty = 0;
            next_id = lanes.next_id();
            let is_all = lanes.watches().count() < usize::try_from(lanes_max).unwrap_or(usize::MAX);
            if self.one_stride(lanes, &mut stream).await?.is_none() {
                return Ok(Left::Odd);
            }
            self.strode.fetch_add(1, Ordering::Relaxed);
            if is_all {
                tokio::time::sleep_until(began + every).await;
            }
        }
    }

    /// Fills the lanes and hands out what is in them; `None` where that was not to be had.
    async fn one_stride(&mut self, mut lanes: Lanes, stream: &mut Option<Stream>) -> Result<Option<()>, End> {
        let creates = lanes.watches().map(|(id, start)| create(id, start)).collect();
        let stream = match stream {
            Some(open) => {
                if !open.say(creates) {
                    return Ok(None);
                }
                open
            }
            none => {
                let (answers, ask) = self.open_watches(creates).await?;
                none.insert(Stream { answers, ask })
            }
        };
        while !lanes.are_full() {
            let answer = timeout(ASK_LIMIT, stream.answers.message()).await;
            let answer = answer.map_err(|_| CallError::Broken("the store does not tell its past".into()))?;
            let Some(answer) = answer.map_err(CallError::from)? else {
                return Err(CallError::Broken("the server ended the watch".into()).into());
            };
            let id = answer.watch_id;
            // one that we did not cancel, or that was never opened
            if answer.canceled && (lanes.is_open(id) || answer.created) {
                return Ok(None);
            }
            match lanes.take(id, answer.events, answer.fragment, TimeMs::now()) {
                Ok(Taken::Full) if !stream.say(vec![cancel(id)]) => return Ok(None),
                Ok(_) if lanes.weight() <= STRIDE_LEN_MAX => {}
                Ok(_) | Err(_) => return Ok(None),
            }
        }
        let mut batch = Batch { revisions: lanes.join(), from_history: true };
        self.hand_out(&mut batch).await.map(Some)
    }

    /// Lanes at once, so that a stride has about [`STRIDE_LEN`] bytes.
    fn lanes_max(&self) -> i64 {
        let lane = self.strides.as_ref().map_or(LANE_REVISIONS, |strides| strides.lane_revisions);
        let lane = self.traffic.weight_mean().max(1).saturating_mul(lane.unsigned_abs().max(1));
        i64::try_from(STRIDE_LEN / lane).unwrap_or(LANES_MAX).min(LANES_MAX)
    }
}

impl Stream {
    /// Whether all could be said.
    fn say(&self, requests: Vec<WatchRequest>) -> bool {
        requests.into_iter().all(|request| self.ask.try_send(request).is_ok())
    }
}

fn create(watch_id: i64, start: Revision) -> WatchRequest {
    let create = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: start.0,
        fragment: true,
        watch_id,
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn cancel(watch_id: i64) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })) }
}
