//! One watch stream: requests in, responses out, at the pace of its client.
//!
//! It is polled by the connection that it answers, and only when there is room to send. Each watcher is in one of
//! three places: *asleep* (has seen all; its group will call), *live* (pulls from its group's trail) or *behind* (reads
//! history until it reaches the trail).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_state::{Revision, TableFault};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::frame::Frame;
use super::group::{Group, Pulled};
use super::history::{self, Readers};
use super::hub::WatchHub;
use super::limits::{ANSWERS_WAITING_MAX, HISTORY_WATCHERS_MAX, PREPARED_BYTES_MAX, PROGRESS_INTERVAL_MIN};
use super::requests::{self, Create};
use super::source::Source;
use super::stats::WatchStats;
use super::wake::{Call, Nap, Signal};
use crate::config::Config;
use crate::errors::ServeError;
use crate::limits::GRPC_OVERHEAD_BYTES;

/// The id in answers that concern no watcher, or all.
const NO_WATCHER: i64 = -1;
/// Pulls between two looks at requests and the clock, while there is always something to pull.
const PULLS_PER_LOOK: u32 = 16;

/// How streams behave.
#[derive(Debug, Clone, Copy)]
pub struct WatchSettings {
    /// How often watchers that asked for it hear that nothing happened.
    pub progress_interval: Duration,
    /// Responses are kept below this for watchers that asked for fragments.
    pub fragment_bytes: usize,
}

impl From<&Config> for WatchSettings {
    fn from(config: &Config) -> Self {
        Self {
            progress_interval: config.watch_progress_notify_interval.max(PROGRESS_INTERVAL_MIN),
            fragment_bytes: config.max_request_bytes + GRPC_OVERHEAD_BYTES,
        }
    }
}

/// A stream of responses to a stream of requests. The end of the requests does not end it.
#[derive(Debug)]
pub struct WatchStream<S: Source, R> {
    hub: WatchHub,
    source: S,
    settings: WatchSettings,
    number: u64,
    signal: Arc<Signal>,
    requests: Option<R>,
    watchers: HashMap<u64, Watcher>,
    next_watcher: u64,
    by_id: HashMap<i64, u64>,
    next_id: i64,
    /// Ready to send, in order.
    out: VecDeque<Frame>,
    live: VecDeque<u64>,
    behind: BTreeSet<(Revision, u64)>,
    /// History is next, so that neither it nor live events starve the other.
    turn_of_history: bool,
    pulls: u32,
    heard: Vec<Call>,
    /// A progress request waits until all up to this revision is sent.
    progress_due: Option<Revision>,
    ticker: Option<Pin<Box<Interval>>>,
    ended: bool,
}

#[derive(Debug)]
struct Watcher {
    id: i64,
    group: Arc<Group>,
    /// All before is sent.
    next: Revision,
    /// Where the client asked to begin; 0 for "now".
    start: Revision,
    place: Place,
    naps: u32,
    fragment: bool,
    /// Wants progress notifications, and has heard nothing since the last tick.
    quiet: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Asleep,
    Live,
    Behind,
}

impl<S, R> WatchStream<S, R>
where
    S: Source,
    R: Stream<Item = Result<pb::WatchRequest, Status>> + Unpin,
{
    /// A stream that answers `requests`. Must be made inside the runtime that polls it.
    pub fn new(hub: WatchHub, source: S, settings: WatchSettings, requests: Option<R>) -> Self {
        let (number, signal) = hub.open_stream();
        Self {
            hub,
            source,
            settings,
            number,
            signal,
            requests,
            watchers: HashMap::new(),
            next_watcher: 0,
            by_id: HashMap::new(),
            next_id: 0,
            out: VecDeque::new(),
            live: VecDeque::new(),
            behind: BTreeSet::new(),
            turn_of_history: false,
            pulls: 0,
            heard: Vec::new(),
            progress_due: None,
            ticker: None,
            ended: false,
        }
    }

    /// Creates a watcher, as a request on the stream would.
    pub fn create(&mut self, request: pb::WatchCreateRequest) {
        let permitted = self.source.permit(&requests::keys(&request)).map_err(|status| go_text(&status));
        let created = permitted.and_then(|()| {
            let create = requests::create(request).map_err(str::to_owned)?;
            let id = self.choose_id(&create).map_err(str::to_owned)?;
            Ok((create, id))
        });
        match created {
            Ok((create, id)) => self.add(create, id),
            Err(reason) => {
                let response = pb::WatchResponse {
                    header: Some(self.header_now()),
                    watch_id: NO_WATCHER,
                    created: true,
                    canceled: true,
                    cancel_reason: reason,
                    ..Default::default()
                };
                self.out.push_back(Frame::control(&response));
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Status>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(frame) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match self.advance(cx) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(status) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
            }
        }
    }

    /// One step. `Pending` when there is nothing to do, or when others should run first.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Status> {
        self.hear(cx);
        if self.hub.is_stopped() {
            return Err(Status::cancelled("etcdserver: watch canceled"));
        }
        self.pulls = self.pulls.wrapping_add(1);
        let idle = self.live.is_empty() && self.behind.is_empty();
        if idle || self.pulls % PULLS_PER_LOOK == 1 {
            self.read_requests(cx)?;
            self.look_at_clock(cx);
        }
        self.answer_progress_request();
        if !self.out.is_empty() {
            return Ok(Poll::Ready(()));
        }
        let history = !self.behind.is_empty() && (self.turn_of_history || self.live.is_empty());
        self.turn_of_history = !history;
        if history {
            self.read_history()?;
            if self.out.is_empty() {
                // A long search: let the other streams of this thread run in between.
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
        } else if let Some(watcher) = self.live.pop_front() {
            self.pull(watcher)?;
        } else if idle {
            return Ok(Poll::Pending);
        }
        Ok(Poll::Ready(()))
    }

    fn read_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        use pb::watch_request::RequestUnion;
        while self.out.len() < ANSWERS_WAITING_MAX {
            let Some(requests) = &mut self.requests else { return Ok(()) };
            match Pin::new(requests).poll_next(cx) {
                Poll::Pending => return Ok(()),
                // The client has said all it has to say; it goes on listening.
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(request)) => match request?.request_union {
                    Some(RequestUnion::CreateRequest(request)) => self.create(request),
                    Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
                    Some(RequestUnion::ProgressRequest(_)) => self.progress_request(),
                    None => {}
                },
            }
        }
        Ok(())
    }
}

impl<S: Source, R> WatchStream<S, R> {
    fn header_now(&self) -> pb::ResponseHeader {
        self.source.header(self.source.revision())
    }

    fn choose_id(&mut self, create: &Create) -> Result<i64, &'static str> {
        match create.watch_id {
            Some(id) if self.by_id.contains_key(&id) => Err(requests::DUPLICATE_ID),
            Some(id) => Ok(id),
            None => {
                while self.by_id.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                Ok(self.next_id - 1)
            }
        }
    }

    fn add(&mut self, create: Create, id: i64) {
        // Join first, then ask for the revision: whatever comes after it is on the trail.
        let group = self.hub.join(&create.interest);
        let now = self.source.revision().max(self.hub.published());
        let response = pb::WatchResponse {
            header: Some(self.source.header(now)),
            watch_id: id,
            created: true,
            ..Default::default()
        };
        self.out.push_back(Frame::control(&response));
        let next = create.start.unwrap_or(Revision(now.0 + 1));
        let number = self.next_watcher;
        self.next_watcher += 1;
        self.by_id.insert(id, number);
        let place = if next < group.complete_from() { Place::Behind } else { Place::Live };
        match place {
            Place::Behind => {
                self.behind.insert((next, number));
                WatchStats::add(&self.hub.stats().slow_watchers, 1);
            }
            _ => self.live.push_back(number),
        }
        let quiet = create.progress_notify.then_some(true);
        if quiet.is_some() && self.ticker.is_none() {
            self.ticker = Some(Box::pin(ticker(self.settings.progress_interval)));
        }
        let start = create.start.unwrap_or_default();
        let watcher = Watcher { id, group, next, start, place, naps: 0, fragment: create.fragment, quiet };
        self.watchers.insert(number, watcher);
    }

    fn cancel(&mut self, id: i64) {
        if self.remove(id).is_some() {
            let response = pb::WatchResponse {
                header: Some(self.header_now()),
                watch_id: id,
                canceled: true,
                ..Default::default()
            };
            self.out.push_back(Frame::control(&response));
        }
    }

    fn remove(&mut self, id: i64) -> Option<Watcher> {
        let number = self.by_id.remove(&id)?;
        let watcher = self.watchers.remove(&number)?;
        if watcher.place == Place::Behind {
            self.behind.remove(&(watcher.next, number));
            WatchStats::sub(&self.hub.stats().slow_watchers, 1);
        }
        self.hub.leave(&watcher.group, &self.signal, 1, |asleep| asleep == number);
        Some(watcher)
    }

    /// Wakes watchers whose groups have called.
    fn hear(&mut self, cx: &Context<'_>) {
        let mut heard = std::mem::take(&mut self.heard);
        self.signal.take(&mut heard, cx);
        for Call { nap, revision } in heard.drain(..) {
            let Some(watcher) = self.watchers.get_mut(&nap.watcher) else { continue };
            if watcher.place == Place::Asleep && watcher.naps == nap.number {
                // It slept through nothing: its group was silent until this revision.
                watcher.next = watcher.next.max(revision);
                watcher.place = Place::Live;
                self.live.push_back(nap.watcher);
            }
        }
        self.heard = heard;
    }

    fn pull(&mut self, number: u64) -> Result<(), Status> {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Ok(()) };
        let nap = Nap { watcher: number, number: watcher.naps.wrapping_add(1) };
        let batch = match watcher.group.pull(watcher.next, &self.signal, nap) {
            Pulled::Some(batch) => batch,
            Pulled::Nothing => {
                (watcher.place, watcher.naps) = (Place::Asleep, nap.number);
                return Ok(());
            }
            Pulled::Unsynced => {
                watcher.place = Place::Behind;
                self.behind.insert((watcher.next, number));
                WatchStats::add(&self.hub.stats().slow_watchers, 1);
                return Ok(());
            }
        };
        let last = batch.last;
        watcher.next = Revision(last.0 + 1);
        if batch.asleep {
            (watcher.place, watcher.naps) = (Place::Asleep, nap.number);
        } else {
            self.live.push_back(number);
        }
        let (bytes, events) = watcher.group.bytes(batch, &self.source).map_err(damaged)?;
        self.send(number, last, bytes, events);
        Ok(())
    }

    fn send(&mut self, number: u64, revision: Revision, bytes: Bytes, events: usize) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        watcher.quiet = watcher.quiet.map(|_| false);
        WatchStats::add(&self.hub.stats().events, events as u64);
        let header = self.source.header(revision);
        if watcher.fragment {
            self.out.extend(Frame::fragments(header, watcher.id, bytes, self.settings.fragment_bytes));
        } else {
            self.out.push_back(Frame::of_events(header, watcher.id, bytes));
        }
    }

    /// Brings the watchers that are furthest behind one piece of history further.
    fn read_history(&mut self) -> Result<(), Status> {
        let view = self.source.view();
        self.cancel_compacted(view.compacted);
        let Some(&(from, _)) = self.behind.first() else { return Ok(()) };
        let end = Revision(view.revision.0 + 1);
        let mut readers = Readers::default();
        let mut taking_part = Vec::new();
        for &(next, number) in self.behind.iter().take(HISTORY_WATCHERS_MAX) {
            let watcher = &self.watchers[&number];
            taking_part.push((next, number, readers.add(&watcher.group.interest)));
        }
        let piece = history::read(&view.records, &readers, from, end).map_err(damaged)?;
        drop(view.records);
        let mut shared = history::Shared::default();
        let mut prepared = 0;
        for (next, number, reader) in taking_part {
            if next >= piece.to || prepared >= PREPARED_BYTES_MAX {
                break;
            }
            let prev_kv = self.watchers[&number].group.interest.prev_kv();
            let make = || piece.events(reader, next, prev_kv, &self.source);
            let (bytes, events, fresh) = shared.get_or(reader, next, make).map_err(damaged)?;
            if fresh {
                prepared += bytes.len();
            }
            if events > 0 {
                self.send(number, view.revision, bytes, events);
            }
            self.behind.remove(&(next, number));
            self.came_to(number, piece.to);
        }
        Ok(())
    }

    fn came_to(&mut self, number: u64, next: Revision) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        watcher.next = next;
        if next < watcher.group.complete_from() {
            self.behind.insert((next, number));
        } else {
            watcher.place = Place::Live;
            self.live.push_back(number);
            WatchStats::sub(&self.hub.stats().slow_watchers, 1);
        }
    }

    /// Ends the watchers whose next revision is gone, as etcd does: without words, with the oldest revision there is.
    fn cancel_compacted(&mut self, compacted: Revision) {
        while let Some(&(next, number)) = self.behind.first() {
            if next >= compacted {
                return;
            }
            let id = self.watchers[&number].id;
            self.remove(id);
            let response = pb::WatchResponse {
                header: Some(self.source.header(Revision(0))),
                watch_id: id,
                canceled: true,
                compact_revision: compacted.0,
                ..Default::default()
            };
            self.out.push_back(Frame::control(&response));
        }
    }

    /// Promises an answer when all watchers are synced and none waits for the future; otherwise stays silent, as etcd.
    fn progress_request(&mut self) {
        let published = self.hub.published();
        let synced = |watcher: &Watcher| watcher.place != Place::Behind && watcher.start <= published;
        if self.watchers.is_empty() || !self.watchers.values().all(synced) {
            return;
        }
        for (number, watcher) in &mut self.watchers {
            if watcher.place != Place::Asleep {
                continue;
            }
            match watcher.group.has_news(watcher.next) {
                Some(false) => {}
                // Called, but the call is still on its way.
                Some(true) => {
                    watcher.place = Place::Live;
                    self.live.push_back(*number);
                }
                None => return,
            }
        }
        self.progress_due = Some(published);
    }

    fn answer_progress_request(&mut self) {
        let Some(due) = self.progress_due else { return };
        let seen = |number: &u64| self.watchers.get(number).is_none_or(|watcher| watcher.next > due);
        if self.live.iter().all(seen) && self.behind.iter().all(|(next, _)| *next > due) {
            self.progress_due = None;
            // Meanwhile all may have been told more: a bookmark never lies before what everybody has seen.
            let told = self.watchers.values().map(|watcher| watcher.next.0 - 1).min();
            self.tell_progress(NO_WATCHER, due.max(Revision(told.unwrap_or(0))));
        }
    }

    fn tell_progress(&mut self, watch_id: i64, revision: Revision) {
        let header = Some(self.source.header(revision));
        self.out.push_back(Frame::control(&pb::WatchResponse { header, watch_id, ..Default::default() }));
    }

    /// Sends progress notifications when they are due.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) {
        let Some(ticker) = &mut self.ticker else { return };
        if ticker.poll_tick(cx).is_pending() {
            return;
        }
        // First the revision, then the trails: what a trail does not have by now is later than the revision.
        let published = self.hub.published();
        let mut quiet = Vec::new();
        for watcher in self.watchers.values_mut() {
            let Some(was_quiet) = watcher.quiet else { continue };
            watcher.quiet = Some(true);
            let synced = watcher.place != Place::Behind && watcher.start <= published;
            if was_quiet && synced && watcher.group.has_news(watcher.next) == Some(false) {
                quiet.push(watcher.id);
            }
        }
        for id in quiet {
            self.tell_progress(id, published);
        }
    }
}

impl<S, R> Stream for WatchStream<S, R>
where
    S: Source,
    R: Stream<Item = Result<pb::WatchRequest, Status>> + Unpin,
{
    type Item = Result<Frame, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_frame(cx)
    }
}

impl<S: Source, R> Unpin for WatchStream<S, R> {}

impl<S: Source, R> Drop for WatchStream<S, R> {
    fn drop(&mut self) {
        let mut groups = BTreeMap::new();
        for (_, watcher) in self.watchers.drain() {
            groups.entry(watcher.group.id).or_insert((watcher.group, 0)).1 += 1;
        }
        for (group, watchers) in groups.into_values() {
            self.hub.leave(&group, &self.signal, watchers, |_| true);
        }
        WatchStats::sub(&self.hub.stats().slow_watchers, self.behind.len() as u64);
        self.hub.close_stream(self.number);
    }
}

/// Ticks at the interval plus up to a tenth, so that streams do not all speak at once.
fn ticker(interval: Duration) -> Interval {
    let chance = RandomState::new().build_hasher().finish();
    let tenth = u64::try_from(interval.as_millis() / 10).unwrap_or(u64::MAX);
    let interval = interval + Duration::from_millis(chance.checked_rem(tenth).unwrap_or(0));
    let mut ticker = tokio::time::interval_at(Instant::now() + interval, interval);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// A status as Go prints it: in a cancel reason upstream sends that, not only the message.
fn go_text(status: &Status) -> String {
    let code = match status.code() {
        Code::PermissionDenied => "PermissionDenied",
        Code::Unauthenticated => "Unauthenticated",
        Code::InvalidArgument => "InvalidArgument",
        _ => "Unknown",
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}

fn damaged(fault: TableFault) -> Status {
    ServeError::from(fault).into()
}
