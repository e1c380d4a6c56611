//! The one history that all watchers must tell: what each revision changed.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::op::{Effect, Key, Moment, Op, Value};
use super::watch::Stream;

/// A key with its value and marks, as answers and events show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// The revision that created it.
    pub created: i64,
    /// The revision that changed it last.
    pub modified: i64,
    /// Changes since it was created.
    pub version: i64,
}

/// One change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// The pair after it; `None` for a delete.
    pub now: Option<Pair>,
}

/// What every revision changed, without holes; the first is 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// At `n`, the events of revision `n + 2`.
    revisions: Vec<Vec<Event>>,
    /// For each key all its changes, by revision.
    keys: BTreeMap<Key, Vec<(i64, Option<Pair>)>>,
}

/// The revision of an empty store.
const EMPTY: i64 = 1;

impl Log {
    /// Puts together what watchers of all keys heard.
    ///
    /// # Errors
    /// Two of them heard different things of one revision, or nobody heard of one.
    pub fn of(streams: &[Stream]) -> Result<Log> {
        let mut told: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for stream in streams.iter().filter(|stream| stream.key.is_none()) {
            for (revision, events) in stream.by_revision() {
                match told.get(&revision) {
                    Some(before) if *before != events => bail!(
                        "revision {revision} changed {before:?} for one watcher, and {events:?} for {}",
                        stream.name
                    ),
                    Some(_) => {}
                    None => {
                        told.insert(revision, events);
                    }
                }
            }
        }
        let newest = told.last_key_value().map_or(EMPTY, |(revision, _)| *revision);
        let mut log = Log::default();
        for revision in EMPTY + 1..=newest {
            let Some(events) = told.remove(&revision) else {
                bail!("no watcher of all keys heard of revision {revision}, though {newest} is there");
            };
            log.push(events)?;
        }
        Ok(log)
    }

    /// Adds the next revision, whose marks must follow from what was before.
    ///
    /// # Errors
    /// They do not.
    pub fn push(&mut self, events: Vec<Event>) -> Result<()> {
        let revision = self.newest() + 1;
        ensure!(!events.is_empty(), "revision {revision} changes nothing");
        for event in &events {
            let before = self.at(event.key, revision - 1);
            match event.now {
                Some(now) => {
                    let wanted = Pair {
                        key: event.key,
                        value: now.value,
                        created: before.map_or(revision, |pair| pair.created),
                        modified: revision,
                        version: before.map_or(1, |pair| pair.version + 1),
                    };
                    ensure!(now == wanted, "revision {revision} made {now:?}, after {before:?} it must be {wanted:?}");
                }
                None => ensure!(before.is_some(), "revision {revision} deleted key {}, which was not there", event.key),
            }
            let changes = self.keys.entry(event.key).or_default();
            let twice = changes.last().is_some_and(|(last, _)| *last == revision);
            ensure!(!twice, "revision {revision} changed key {} twice", event.key);
            changes.push((revision, event.now));
        }
        self.revisions.push(events);
        Ok(())
    }

    /// The newest revision.
    pub fn newest(&self) -> i64 {
        EMPTY + self.revisions.len() as i64
    }

    /// How many revisions changed something.
    pub fn len(&self) -> usize {
        self.revisions.len()
    }

    /// Nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// What one revision changed; nothing, when there is no such.
    pub fn events(&self, revision: i64) -> &[Event] {
        let at = usize::try_from(revision - EMPTY - 1).ok();
        at.and_then(|at| self.revisions.get(at)).map_or(&[], Vec::as_slice)
    }

    /// The same as an [`Effect`], in the order of keys.
    pub fn effect(&self, revision: i64) -> Effect {
        let mut effect: Effect =
            self.events(revision).iter().map(|event| (event.key, event.now.map(|pair| pair.value))).collect();
        effect.sort_unstable();
        effect
    }

    /// The pair of a key at a revision.
    pub fn at(&self, key: Key, revision: i64) -> Option<Pair> {
        let changes = self.keys.get(&key)?;
        let until = changes.partition_point(|(at, _)| *at <= revision);
        changes[..until].last().and_then(|(_, pair)| *pair)
    }

    /// All pairs at a revision, in the order of keys.
    pub fn all_at(&self, revision: i64) -> Vec<Pair> {
        self.keys.keys().filter_map(|key| self.at(*key, revision)).collect()
    }

    /// When somebody first knew of each revision: from then on it had happened. At `n`, of revision `n + 2`.
    pub fn first_seen(&self, streams: &[Stream], ops: &[Op]) -> Vec<Moment> {
        let mut seen = vec![Moment::MAX; self.revisions.len()];
        let mut note = |revision: i64, at: Moment| {
            let place = usize::try_from(revision - EMPTY - 1).ok();
            if let Some(moment) = place.and_then(|place| seen.get_mut(place)) {
                *moment = (*moment).min(at);
            }
        };
        for op in ops {
            if let Some(answer) = op.answer() {
                note(answer.revision, op.answered);
            }
        }
        for response in streams.iter().flat_map(|stream| &stream.responses) {
            note(response.revision, response.at);
            response.events.iter().for_each(|event| note(event.revision, response.at));
        }
        // Who knows of a revision knows that all before it have happened.
        for at in (1..seen.len()).rev() {
            seen[at - 1] = seen[at - 1].min(seen[at]);
        }
        seen
    }
}
