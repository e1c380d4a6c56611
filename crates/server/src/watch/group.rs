//! The watchers of one interest: their trail, and those of them that sleep.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use eyrie_state::watch::{GroupId, Interest, Pull, Trail};
use eyrie_state::{Event, Revision, TableFault};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::encode::put_state_event;
use super::limits::{JOINED_PER_GROUP_MAX, RESPONSE_BYTES_MAX, RESPONSE_REVISIONS_MAX};
use super::source::Source;
use super::stats::WatchStats;
use super::wake::{Nap, Shard, Signal, Sleeper};

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) interest: Interest,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    trail: Trail<Arc<Matched>>,
    /// Who has seen everything on the trail, by runtime.
    asleep: SmallVec<[(Arc<Shard>, Vec<Sleeper>); 1]>,
    asleep_count: usize,
    members: usize,
    joined: Vec<Joined>,
}

/// What a group wants of one revision.
#[derive(Debug)]
pub(super) struct Matched {
    /// Ready at once, or, where the pairs before are wanted, made by the first who needs it: the publisher reads nothing.
    bytes: OnceLock<Bytes>,
    with_prev: Vec<Event>,
    held: Held,
}

/// Several revisions in one piece, for watchers who are equally far behind.
#[derive(Debug, Clone)]
struct Joined {
    first: Revision,
    last: Revision,
    bytes: Bytes,
    events: usize,
    _held: Arc<Held>,
}

/// Counts what trails hold, for as long as it lives.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    events: usize,
    revisions: usize,
    stats: Arc<WatchStats>,
}

impl Held {
    fn new(stats: &Arc<WatchStats>, bytes: usize, events: usize, revisions: usize) -> Self {
        stats.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        stats.pending_events.fetch_add(events, Ordering::Relaxed);
        stats.pending_revisions.fetch_add(revisions, Ordering::Relaxed);
        Self { bytes, events, revisions, stats: Arc::clone(stats) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.pending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.stats.pending_events.fetch_sub(self.events, Ordering::Relaxed);
        self.stats.pending_revisions.fetch_sub(self.revisions, Ordering::Relaxed);
    }
}

impl Matched {
    pub(super) fn ready(bytes: Bytes, events: usize, stats: &Arc<WatchStats>) -> Self {
        let held = Held::new(stats, bytes.len(), events, 1);
        Self { bytes: OnceLock::from(bytes), with_prev: Vec::new(), held }
    }

    pub(super) fn with_prev(events: Vec<Event>, stats: &Arc<WatchStats>) -> Self {
        let size = |event: &Event| size_of::<Event>() + event.kv.key.len() + 2 * event.kv.value.len();
        let held = Held::new(stats, events.iter().map(size).sum(), events.len(), 1);
        Self { bytes: OnceLock::new(), with_prev: events, held }
    }

    fn bytes<S: Source>(&self, source: &S) -> Result<Bytes, TableFault> {
        if let Some(bytes) = self.bytes.get() {
            return Ok(bytes.clone());
        }
        let wanted: Vec<_> = self
            .with_prev
            .iter()
            .filter(|event| event.prev.is_some())
            .map(|event| (event.kv.key.clone(), Revision(event.kv.mod_revision)))
            .collect();
        let mut before = source.before(&wanted)?.into_iter();
        let mut out = Vec::new();
        for event in &self.with_prev {
            let prev = if event.prev.is_some() { before.next().flatten() } else { None };
            put_state_event(&mut out, event, prev.as_ref());
        }
        Ok(self.bytes.get_or_init(|| out.into()).clone())
    }
}

/// What a watcher got from its trail.
#[derive(Debug)]
pub(super) enum Pulled {
    /// The trail begins later than where the watcher is.
    Unsynced,
    /// Nothing new; the watcher sleeps now.
    Nothing,
    /// Something.
    Some(Batch),
}

/// Whole revisions, in order.
#[derive(Debug)]
pub(super) struct Batch {
    first: Revision,
    /// The last revision in it.
    pub(super) last: Revision,
    /// The watcher has seen all now, and sleeps.
    pub(super) asleep: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    Single(Arc<Matched>),
    Several(Vec<Arc<Matched>>),
    Joined(Joined),
}

impl Group {
    pub(super) fn new(id: GroupId, interest: Interest, published: Revision) -> Self {
        let inner = Inner {
            trail: Trail::new(published),
            asleep: SmallVec::new(),
            asleep_count: 0,
            members: 0,
            joined: Vec::new(),
        };
        Self { id, interest, inner: Mutex::new(inner) }
    }

    pub(super) fn join(&self) {
        self.inner.lock().members += 1;
    }

    /// Takes watchers of one stream away, asleep or not.
    pub(super) fn leave(&self, signal: &Arc<Signal>, watchers: usize, gone: impl Fn(u64) -> bool) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.members -= watchers;
        for (shard, asleep) in &mut inner.asleep {
            if !Arc::ptr_eq(shard, &signal.shard) {
                continue;
            }
            let before = asleep.len();
            asleep.retain(|sleeper| !(Arc::ptr_eq(&sleeper.signal, signal) && gone(sleeper.nap.watcher)));
            inner.asleep_count -= before - asleep.len();
        }
        inner.forget_what_all_have_seen();
    }

    /// Adds a revision and hands all sleepers over; `ring` hears of shards that must be rung.
    pub(super) fn push(&self, revision: Revision, matched: Arc<Matched>, ring: &mut SmallVec<[Arc<Shard>; 4]>) {
        let mut inner = self.inner.lock();
        inner.trail.push(revision, matched);
        inner.asleep_count = 0;
        for (shard, asleep) in &mut inner.asleep {
            if !asleep.is_empty() && shard.hand(revision, std::mem::take(asleep)) {
                ring.push(Arc::clone(shard));
            }
        }
    }

    /// Revisions up to `through` never come by here: forgets all, and hands all sleepers over. They slept through nothing
    /// before `silent_until`.
    pub(super) fn skip(&self, silent_until: Revision, through: Revision, ring: &mut SmallVec<[Arc<Shard>; 4]>) {
        let mut inner = self.inner.lock();
        inner.trail.forget(through);
        inner.joined.clear();
        inner.asleep_count = 0;
        for (shard, asleep) in &mut inner.asleep {
            if !asleep.is_empty() && shard.hand(silent_until, std::mem::take(asleep)) {
                ring.push(Arc::clone(shard));
            }
        }
    }

    /// Forgets revisions up to and including this one.
    pub(super) fn forget(&self, through: Revision) {
        let mut inner = self.inner.lock();
        inner.trail.forget(through);
        inner.joined.retain(|joined| joined.first > through);
    }

    /// The oldest revision that can be pulled here.
    pub(super) fn complete_from(&self) -> Revision {
        self.inner.lock().trail.complete_from()
    }

    /// Whether there is something from `next` on; `None` when the trail begins later.
    pub(super) fn has_news(&self, next: Revision) -> Option<bool> {
        match self.inner.lock().trail.pull(next) {
            Pull::Unsynced(_) => None,
            Pull::Synced(news) => Some(news.len() > 0),
        }
    }

    /// What a watcher has not seen, as much as fits one response. When that is all there is, the watcher sleeps.
    pub(super) fn pull(&self, next: Revision, signal: &Arc<Signal>, nap: Nap) -> Pulled {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let (batch, rest) = match inner.trail.pull(next) {
            Pull::Unsynced(_) => return Pulled::Unsynced,
            Pull::Synced(news) => take(news, &inner.joined),
        };
        if rest == 0 {
            inner.sleep(signal, nap);
        }
        match batch {
            None => Pulled::Nothing,
            Some((first, last, what)) => Pulled::Some(Batch { first, last, asleep: rest == 0, what }),
        }
    }

    /// The bytes of a batch and the number of its events. Joined ones are kept for the next watcher.
    pub(super) fn bytes<S: Source>(&self, batch: Batch, source: &S) -> Result<(Bytes, usize), TableFault> {
        match batch.what {
            What::Single(matched) => Ok((matched.bytes(source)?, matched.held.events)),
            What::Joined(joined) => Ok((joined.bytes, joined.events)),
            What::Several(several) => {
                let parts: Vec<_> = several.iter().map(|matched| matched.bytes(source)).collect::<Result<_, _>>()?;
                let bytes = Bytes::from(parts.concat());
                let events = several.iter().map(|matched| matched.held.events).sum();
                let mut inner = self.inner.lock();
                if inner.members > 1 && inner.trail.complete_from() <= batch.first {
                    if inner.joined.len() == JOINED_PER_GROUP_MAX {
                        inner.joined.remove(0);
                    }
                    // Their events and revisions are already counted.
                    let held = Arc::new(Held::new(&several[0].held.stats, bytes.len(), 0, 0));
                    let (first, last) = (batch.first, batch.last);
                    inner.joined.push(Joined { first, last, bytes: bytes.clone(), events, _held: held });
                }
                Ok((bytes, events))
            }
        }
    }
}

/// The next response from the news, and how many revisions it leaves.
fn take(
    mut news: std::collections::vec_deque::Iter<'_, (Revision, Arc<Matched>)>,
    joined: &[Joined],
) -> (Option<(Revision, Revision, What)>, usize) {
    let total = news.len();
    let Some((first, matched)) = news.next() else { return (None, 0) };
    if total == 1 {
        return (Some((*first, *first, What::Single(Arc::clone(matched)))), 0);
    }
    if let Some(joined) = joined.iter().rev().find(|joined| joined.first == *first) {
        let rest = news.skip_while(|(revision, _)| *revision <= joined.last).count();
        return (Some((*first, joined.last, What::Joined(joined.clone()))), rest);
    }
    let (mut last, mut bytes) = (*first, matched.held.bytes);
    let mut several = vec![Arc::clone(matched)];
    for (revision, matched) in news {
        bytes += matched.held.bytes;
        if several.len() == RESPONSE_REVISIONS_MAX || bytes > RESPONSE_BYTES_MAX {
            break;
        }
        last = *revision;
        several.push(Arc::clone(matched));
    }
    let rest = total - several.len();
    let what = if several.len() == 1 { What::Single(several.remove(0)) } else { What::Several(several) };
    (Some((*first, last, what)), rest)
}

impl Inner {
    fn sleep(&mut self, signal: &Arc<Signal>, nap: Nap) {
        let sleeper = Sleeper { signal: Arc::clone(signal), nap };
        match self.asleep.iter_mut().find(|(shard, _)| Arc::ptr_eq(shard, &signal.shard)) {
            Some((_, asleep)) => asleep.push(sleeper),
            None => self.asleep.push((Arc::clone(&signal.shard), vec![sleeper])),
        }
        self.asleep_count += 1;
        self.forget_what_all_have_seen();
    }

    fn forget_what_all_have_seen(&mut self) {
        if self.asleep_count == self.members {
            self.trail.clear();
            self.joined.clear();
        }
    }
}
