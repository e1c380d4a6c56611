//! A store that fails on demand: the liar among the bodies, for tests of everything that stands on buckets.
//!
//! Each call of a body, each part of a write and each step of its end has a number. A [`Mishap`] is set for a number, for
//! an [`Action`], or comes by chance from a seed. [`Faults::kill_at`] is the end of a process: the call and all after it
//! fail; what was done before stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::Bucket;
use super::body::{Body, ByteRange, Conditional, CopySource, Entry, Listed, Opened, Parts, Stat, StoreId};
use super::error::{Action, Fault, Kind};
use super::key::Key;

type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// How many of the newest writes an old listing lacks.
const STALE_WRITES: usize = 3;

/// What can happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The store answers 503 and does nothing.
    Busy,
    /// Nothing is done, and no answer ever comes.
    Silence,
    /// The body of a read breaks off in its middle with an error.
    Reset,
    /// The body of a read ends in its middle without one.
    Truncated,
    /// The call is done, but its answer is lost.
    LostAnswer,
    /// A listing lacks the newest objects and shows deleted ones.
    StaleList,
    /// The token has run out.
    Expired,
    /// The credentials do not allow this action.
    Denied,
    /// A conditional write is refused, although the name is free.
    Refused,
    /// The object is under a lock: it can't be deleted or replaced.
    Locked,
    /// No room is left.
    Full,
    /// The process dies before the call.
    Kill,
    /// The process dies after the call, before it hears the answer.
    KillAfter,
}

impl Mishap {
    /// All that a caller lives through and hears of, sooner or later.
    pub const ANSWERED: [Self; 10] = [
        Self::Busy,
        Self::Reset,
        Self::Truncated,
        Self::LostAnswer,
        Self::StaleList,
        Self::Expired,
        Self::Denied,
        Self::Refused,
        Self::Locked,
        Self::Full,
    ];
    /// Ends of the process.
    pub const DEATHS: [Self; 2] = [Self::Kill, Self::KillAfter];
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub action: Action,
    /// With which name; the prefix for a listing.
    pub key: String,
}

/// The hand on a failing bucket.
#[derive(Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    at: BTreeMap<usize, Mishap>,
    on: Vec<(Action, Mishap)>,
    /// Seed and mishaps in a thousand calls.
    chance: Option<(u64, u32)>,
    dead: bool,
    newest: Vec<String>,
    deleted: Vec<Entry>,
}

impl Faults {
    /// The same bucket, with this hand on it.
    pub fn over(bucket: &Bucket) -> (Bucket, Faults) {
        let faults = Faults::default();
        let body = FaultBody { inner: bucket.shared.body.clone(), faults: faults.clone() };
        (bucket.with_body(Arc::new(body)), faults)
    }

    /// The call with this number, counted from 1, meets this mishap.
    pub fn at(&self, number: usize, mishap: Mishap) {
        self.state().at.insert(number, mishap);
    }

    /// Every call of this kind meets this mishap.
    pub fn on(&self, action: Action, mishap: Mishap) {
        self.state().on.push((action, mishap));
    }

    /// The process dies before the call with this number.
    pub fn kill_at(&self, number: usize) {
        self.at(number, Mishap::Kill);
    }

    /// So many of a thousand calls meet a passing mishap, which ones and how is decided by the seed.
    pub fn by_chance(&self, seed: u64, per_mille: u32) {
        self.state().chance = Some((seed, per_mille));
    }

    /// No more mishaps, and the dead live again: the next run.
    pub fn clear(&self) {
        let mut state = self.state();
        (state.at, state.on, state.chance, state.dead) = (BTreeMap::new(), Vec::new(), None, false);
    }

    /// Forgets the calls, so that numbers begin at 1 again.
    pub fn restart_count(&self) {
        self.state().calls.clear();
    }

    /// How many calls were made.
    pub fn calls(&self) -> usize {
        self.state().calls.len()
    }

    /// The calls that were made.
    pub fn log(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Whether the process was killed.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and says what happens to it.
    fn meet(&self, action: Action, key: &str) -> Option<Mishap> {
        let mut state = self.state();
        state.calls.push(Call { action, key: key.to_owned() });
        let number = state.calls.len();
        let by_action = state.on.iter().find(|(on, _)| *on == action).map(|(_, mishap)| *mishap);
        let mishap = if state.dead {
            Some(Mishap::Kill)
        } else {
            state.at.get(&number).copied().or(by_action).or_else(|| chosen(state.chance, number as u64))
        };
        state.dead |= matches!(mishap, Some(Mishap::Kill | Mishap::KillAfter));
        mishap
    }

    fn wrote(&self, key: &Key) {
        let mut state = self.state();
        state.newest.retain(|newer| newer != key.as_str());
        state.newest.push(key.as_str().to_owned());
        let surplus = state.newest.len().saturating_sub(STALE_WRITES);
        state.newest.drain(..surplus);
        state.deleted.retain(|entry| entry.key != key.as_str());
    }

    fn deleted(&self, key: &Key, stat: Option<Stat>) {
        if let Some(stat) = stat {
            self.state().deleted.push(Entry { key: key.as_str().to_owned(), stat });
        }
    }
}

/// What chance does to a call: only what passes.
fn chosen(chance: Option<(u64, u32)>, number: u64) -> Option<Mishap> {
    let (seed, per_mille) = chance?;
    let drawn = scramble(seed ^ scramble(number));
    (drawn % 1_000 < u64::from(per_mille)).then(|| match drawn / 1_000 % 5 {
        0 => Mishap::Busy,
        1 => Mishap::Reset,
        2 => Mishap::Truncated,
        3 => Mishap::LostAnswer,
        _ => Mishap::StaleList,
    })
}

/// SplitMix64's step: neighbours become strangers.
fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// How a call fails before it is done; nothing for mishaps that come later or do not concern it.
async fn before(mishap: Option<Mishap>) -> Result<(), Fault> {
    match mishap {
        Some(Mishap::Busy) => Err(Fault::passing("SlowDown: reduce your request rate")),
        Some(Mishap::Silence) => std::future::pending().await,
        Some(Mishap::Expired) => Err(Fault::lasting(Kind::Expired, "ExpiredToken: the token has expired")),
        Some(Mishap::Denied) => Err(Fault::lasting(Kind::Denied, "AccessDenied: access denied")),
        Some(Mishap::Locked) => Err(Fault::lasting(Kind::Locked, "AccessDenied: the object is under object lock")),
        Some(Mishap::Full) => Err(Fault::lasting(Kind::Full, "QuotaExceeded: no room is left")),
        Some(Mishap::Kill) => Err(killed()),
        _ => Ok(()),
    }
}

/// How a call that was done fails nevertheless.
fn after(mishap: Option<Mishap>) -> Result<(), Fault> {
    match mishap {
        Some(Mishap::LostAnswer) => Err(Fault::passing("the connection was reset before the answer came")),
        Some(Mishap::KillAfter) => Err(killed()),
        _ => Ok(()),
    }
}

fn killed() -> Fault {
    Fault::lasting(Kind::Unavailable, "the process was killed")
}

/// A body that lies on demand.
struct FaultBody {
    inner: Arc<dyn Body>,
    faults: Faults,
}

impl Body for FaultBody {
    fn read<'a>(&'a self, key: &'a Key, range: ByteRange) -> Answer<'a, Opened> {
        async move {
            let mishap = self.faults.meet(Action::Read, key.as_str());
            before(mishap).await?;
            let opened = self.inner.read(key, range).await?;
            after(mishap)?;
            let half = range.within(opened.stat.len);
            let half = (half.end - half.start) / 2;
            Ok(match mishap {
                Some(Mishap::Reset) => Opened { bytes: cut(opened.bytes, half, true), ..opened },
                Some(Mishap::Truncated) => Opened { bytes: cut(opened.bytes, half, false), ..opened },
                _ => opened,
            })
        }
        .boxed()
    }

    fn stat<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Stat>> {
        async move {
            let mishap = self.faults.meet(Action::Stat, key.as_str());
            before(mishap).await?;
            let stat = self.inner.stat(key).await?;
            after(mishap).map(|()| stat)
        }
        .boxed()
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, ()> {
        async move {
            let mishap = self.faults.meet(Action::Write, key.as_str());
            before(mishap).await?;
            self.inner.put(key, bytes).await?;
            self.faults.wrote(key);
            after(mishap)
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, bool> {
        async move {
            let mishap = self.faults.meet(Action::Create, key.as_str());
            before(mishap).await?;
            if mishap == Some(Mishap::Refused) {
                return Ok(false);
            }
            let created = self.inner.create(key, bytes).await?;
            self.faults.wrote(key);
            after(mishap).map(|()| created)
        }
        .boxed()
    }

    fn write<'a>(&'a self, key: &'a Key, part: usize) -> Answer<'a, Box<dyn Parts>> {
        async move {
            let mishap = self.faults.meet(Action::Write, key.as_str());
            before(mishap).await?;
            let inner = self.inner.write(key, part).await?;
            after(mishap)?;
            Ok(Box::new(FaultParts { inner, key: key.clone(), faults: self.faults.clone() }) as Box<dyn Parts>)
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, BoxStream<'static, Result<Listed, Fault>>> {
        async move {
            let mishap = self.faults.meet(Action::List, prefix);
            before(mishap).await?;
            let listed = self.inner.list(prefix).await?;
            after(mishap)?;
            Ok(match mishap {
                Some(Mishap::StaleList) => self.stale(listed, prefix),
                Some(Mishap::Reset | Mishap::Truncated) => {
                    let broken = futures::stream::iter([Err(Fault::passing("the listing broke off"))]);
                    listed.take(1).chain(broken).boxed()
                }
                _ => listed,
            })
        }
        .boxed()
    }

    fn folders<'a>(&'a self, prefix: &'a str) -> Answer<'a, Option<Vec<String>>> {
        async move {
            let mishap = self.faults.meet(Action::List, prefix);
            before(mishap).await?;
            let folders = self.inner.folders(prefix).await?;
            after(mishap)?;
            Ok(folders)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        async move {
            let mishap = self.faults.meet(Action::Delete, key.as_str());
            before(mishap).await?;
            let stat = self.inner.stat(key).await?;
            self.inner.delete(key).await?;
            self.faults.deleted(key, stat);
            after(mishap)
        }
        .boxed()
    }

    fn copy<'a>(&'a self, from: CopySource<'a>, key: &'a Key) -> Answer<'a, bool> {
        async move {
            let mishap = self.faults.meet(Action::Copy, key.as_str());
            before(mishap).await?;
            let copied = self.inner.copy(from, key).await?;
            self.faults.wrote(key);
            after(mishap).map(|()| copied)
        }
        .boxed()
    }

    fn conditional(&self) -> Conditional {
        self.inner.conditional()
    }

    fn part_len(&self) -> usize {
        self.inner.part_len()
    }

    fn store(&self) -> StoreId {
        self.inner.store()
    }
}

impl FaultBody {
    /// The listing as it was some calls ago.
    fn stale(
        &self,
        listed: BoxStream<'static, Result<Listed, Fault>>,
        prefix: &str,
    ) -> BoxStream<'static, Result<Listed, Fault>> {
        let state = self.faults.state();
        let newest = state.newest.clone();
        let deleted: Vec<_> = state.deleted.iter().filter(|entry| entry.key.starts_with(prefix)).cloned().collect();
        let fresh = listed.filter(move |item| {
            let is_new = matches!(item, Ok(Listed::Object(entry)) if newest.contains(&entry.key));
            std::future::ready(!is_new)
        });
        fresh.chain(futures::stream::iter(deleted.into_iter().map(|entry| Ok(Listed::Object(entry))))).boxed()
    }
}

/// The first `keep` bytes, then an error or a silent end.
fn cut(
    bytes: BoxStream<'static, Result<Bytes, Fault>>,
    keep: u64,
    reset: bool,
) -> BoxStream<'static, Result<Bytes, Fault>> {
    let kept = bytes.scan(keep, |left, piece| {
        let piece = piece.map(|mut piece| {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= piece.len() as u64;
            piece
        });
        std::future::ready(match &piece {
            Ok(piece) if piece.is_empty() => None,
            _ => Some(piece),
        })
    });
    let end = reset.then(|| Err(Fault::passing("the connection was reset in the middle of the body")));
    kept.chain(futures::stream::iter(end)).boxed()
}

struct FaultParts {
    inner: Box<dyn Parts>,
    key: Key,
    faults: Faults,
}

impl Parts for FaultParts {
    fn push(&mut self, part: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let mishap = self.faults.meet(Action::Write, self.key.as_str());
            before(mishap).await?;
            self.inner.push(part).await?;
            after(mishap)
        }
        .boxed()
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let mishap = self.faults.meet(Action::Write, self.key.as_str());
            before(mishap).await?;
            self.inner.finish().await?;
            self.faults.wrote(&self.key);
            after(mishap)
        }
        .boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            // The dead take nothing back.
            let mishap = self.faults.meet(Action::Write, self.key.as_str());
            before(mishap).await?;
            self.inner.abort().await
        }
        .boxed()
    }
}
