//! The meeting place of the apply thread and all watch streams.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use eyrie_state::watch::{GroupId, Interest, Match, Registry};
use eyrie_state::{Event, Revision};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::encode::put_state_event;
use super::group::{Group, Matched};
use super::limits::{TRAIL_BYTES_MAX, TRAIL_REVISIONS_MAX};
use super::stats::WatchStats;
use super::wake::{Shard, Signal};

/// A handle to the hub. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WatchHub(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    core: Mutex<Core>,
    /// All revisions up to here are on the trails of whoever wants them.
    published: AtomicI64,
    stopped: AtomicBool,
    stats: Arc<WatchStats>,
    next_stream: AtomicU64,
    bounds: Bounds,
}

/// What all trails may hold together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) revisions: usize,
}

#[derive(Debug, Default)]
struct Core {
    registry: Registry,
    /// By [`GroupId`].
    groups: Vec<Option<Arc<Group>>>,
    /// What is on trails, oldest first. Entries may be stale: a trail whose watchers have all seen it is empty.
    recent: VecDeque<(Revision, SmallVec<[GroupId; 2]>)>,
    shards: Vec<Arc<Shard>>,
    streams: BTreeMap<u64, Arc<Signal>>,
}

impl WatchHub {
    /// A hub for a store that is at `revision`.
    pub fn new(revision: Revision) -> Self {
        Self::with_bounds(revision, Bounds { bytes: TRAIL_BYTES_MAX, revisions: TRAIL_REVISIONS_MAX })
    }

    pub(super) fn with_bounds(revision: Revision, bounds: Bounds) -> Self {
        Self(Arc::new(Hub {
            core: Mutex::default(),
            published: AtomicI64::new(revision.0),
            stopped: AtomicBool::new(false),
            stats: Arc::default(),
            next_stream: AtomicU64::new(0),
            bounds,
        }))
    }

    /// Gives watchers the events of a revision. Revisions come in growing order, from one thread, after the state
    /// shows them. Never waits for a watcher and reads nothing; costs the same for one watcher as for a thousand with
    /// the same interest.
    pub fn publish(&self, revision: Revision, events: Vec<Event>) {
        let hub = &*self.0;
        let mut ring = SmallVec::<[Arc<Shard>; 4]>::new();
        let mut core = hub.core.lock();
        if !core.registry.is_empty() && !events.is_empty() {
            let matches = core.registry.matches(&events);
            if !matches.is_empty() {
                core.push(revision, &events, &matches, &hub.stats, &mut ring);
                core.keep_within(hub.bounds, &hub.stats);
            }
        }
        hub.published.store(revision.0, Ordering::Release);
        drop(core);
        for shard in ring {
            shard.ring();
        }
    }

    /// The store has come to `revision` at once, by a snapshot: watchers read what they missed from history. Called by the
    /// thread that publishes, after the state shows it.
    pub fn skip_to(&self, revision: Revision) {
        let hub = &*self.0;
        let mut ring = SmallVec::<[Arc<Shard>; 4]>::new();
        let mut core = hub.core.lock();
        let silent_until = Revision(self.published().0 + 1);
        if revision < silent_until {
            return;
        }
        for group in core.groups.iter().flatten() {
            group.skip(silent_until, revision, &mut ring);
        }
        core.recent.clear();
        hub.published.store(revision.0, Ordering::Release);
        drop(core);
        for shard in ring {
            shard.ring();
        }
    }

    /// The newest revision whose events are where watchers find them.
    pub fn published(&self) -> Revision {
        Revision(self.0.published.load(Ordering::Acquire))
    }

    /// Ends all streams, those of the future too.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        let core = self.0.core.lock();
        for signal in core.streams.values() {
            signal.wake();
        }
    }

    /// Whether [`WatchHub::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Counts for the metrics page.
    pub fn stats(&self) -> &Arc<WatchStats> {
        &self.0.stats
    }

    /// A stream begins on the current runtime.
    pub(super) fn open_stream(&self) -> (u64, Arc<Signal>) {
        let number = self.0.next_stream.fetch_add(1, Ordering::Relaxed);
        let mut core = self.0.core.lock();
        let signal = Signal::new(Shard::current(&mut core.shards));
        core.streams.insert(number, Arc::clone(&signal));
        WatchStats::add(&self.0.stats.streams, 1);
        (number, signal)
    }

    /// A stream ends; its watchers have left.
    pub(super) fn close_stream(&self, number: u64) {
        self.0.core.lock().streams.remove(&number);
        WatchStats::sub(&self.0.stats.streams, 1);
    }

    /// A watcher comes. From now on every published revision is on its group's trail.
    pub(super) fn join(&self, interest: &Interest) -> Arc<Group> {
        let mut core = self.0.core.lock();
        let (id, new) = core.registry.join(interest);
        if new {
            let group = Arc::new(Group::new(id, interest.clone(), self.published()));
            let place = id.0 as usize;
            if core.groups.len() <= place {
                core.groups.resize(place + 1, None);
            }
            core.groups[place] = Some(group);
        }
        let group = Arc::clone(core.groups[id.0 as usize].as_ref().expect("a group that the registry knows"));
        group.join();
        WatchStats::add(&self.0.stats.watchers, 1);
        group
    }

    /// Watchers of one stream leave a group.
    pub(super) fn leave(&self, group: &Group, signal: &Arc<Signal>, watchers: usize, gone: impl Fn(u64) -> bool) {
        let mut core = self.0.core.lock();
        group.leave(signal, watchers, gone);
        for _ in 0..watchers {
            if core.registry.leave(group.id) {
                core.groups[group.id.0 as usize] = None;
            }
        }
        WatchStats::sub(&self.0.stats.watchers, watchers as u64);
    }
}

impl Core {
    fn push(
        &mut self,
        revision: Revision,
        events: &[Event],
        matches: &[Match],
        stats: &Arc<WatchStats>,
        ring: &mut SmallVec<[Arc<Shard>; 4]>,
    ) {
        let as_they_are = matches.iter().filter(|found| !self.registry.interest(found.group).prev_kv());
        let written = Written::new(events, as_they_are);
        for found in matches {
            let group = self.groups[found.group.0 as usize].as_ref().expect("a group that the registry knows");
            let matched = if group.interest.prev_kv() {
                let events = found.events.iter().map(|place| events[*place as usize].clone()).collect();
                Matched::with_prev(events, stats)
            } else {
                Matched::ready(written.of(&found.events), found.events.len(), stats)
            };
            group.push(revision, Arc::new(matched), ring);
        }
        self.recent.push_back((revision, matches.iter().map(|found| found.group).collect()));
    }

    fn keep_within(&mut self, bounds: Bounds, stats: &WatchStats) {
        loop {
            let revisions = stats.pending_revisions.load(Ordering::Relaxed);
            if revisions == 0 {
                self.recent.clear();
            }
            let over = revisions > bounds.revisions
                || stats.pending_bytes.load(Ordering::Relaxed) > bounds.bytes
                || self.recent.len() > bounds.revisions;
            if !over {
                return;
            }
            let Some((oldest, groups)) = self.recent.pop_front() else { return };
            for id in groups {
                if let Some(group) = &self.groups[id.0 as usize] {
                    group.forget(oldest);
                }
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for shard in &self.core.get_mut().shards {
            shard.close();
        }
    }
}

/// The wanted events of one revision, each written once.
struct Written {
    bytes: Bytes,
    /// Where each event begins and ends; empty for events that nobody wants.
    places: Vec<(usize, usize)>,
}

impl Written {
    fn new<'a>(events: &[Event], matches: impl Iterator<Item = &'a Match>) -> Self {
        let mut wanted = vec![false; events.len()];
        for found in matches {
            for place in &found.events {
                wanted[*place as usize] = true;
            }
        }
        let mut out = Vec::new();
        let mut places = Vec::with_capacity(events.len());
        for (event, wanted) in events.iter().zip(wanted) {
            let begin = out.len();
            if wanted {
                put_state_event(&mut out, event, None);
            }
            places.push((begin, out.len()));
        }
        Self { bytes: out.into(), places }
    }

    /// These events in one piece; shared when nothing stands between them.
    fn of(&self, events: &[u32]) -> Bytes {
        let place = |event: &u32| self.places[*event as usize];
        let (first, last) = (place(&events[0]), place(&events[events.len() - 1]));
        let len: usize = events.iter().map(|event| place(event).1 - place(event).0).sum();
        if last.1 - first.0 == len {
            return self.bytes.slice(first.0..last.1);
        }
        let mut out = Vec::with_capacity(len);
        for event in events {
            let (begin, end) = place(event);
            out.extend_from_slice(&self.bytes[begin..end]);
        }
        out.into()
    }
}
