//! Whether watchers heard what the API promises: ordered, unique, atomic, complete, resumable, with the right previous pairs.

use anyhow::{Context, Result, bail, ensure};

use super::log::{Event, Log, Pair};
use super::op::{Key, Moment};

/// One event, as one answer of a watch had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The revision that made it.
    pub revision: i64,
    /// What it changed.
    pub event: Event,
    /// The pair before it, where the watcher asked for that and the store still had it.
    pub before: Option<Pair>,
    /// What the server calls a creation.
    pub is_create: bool,
}

/// One answer of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// When it came.
    pub at: Moment,
    /// The revision in its header.
    pub revision: i64,
    /// What it tells; nothing, in a notification of progress.
    pub events: Vec<Heard>,
}

/// One watch, from its creation to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// For messages: at whom, by whom.
    pub name: String,
    /// The one key it wants; `None` for all.
    pub key: Option<Key>,
    /// The first revision it wants.
    pub from: i64,
    /// It wants the pairs before.
    pub wants_before: bool,
    /// History was compacted while it ran: a pair before may be missing, never wrong.
    pub compacting: bool,
    /// When it ended because the history it wants is gone: the oldest revision that is left.
    pub compacted: Option<i64>,
    /// Every answer, in order.
    pub responses: Vec<Response>,
}

impl Stream {
    /// What it heard, by revision.
    pub fn by_revision(&self) -> Vec<(i64, Vec<Event>)> {
        let mut told: Vec<(i64, Vec<Event>)> = Vec::new();
        for heard in self.heard() {
            match told.last_mut() {
                Some((revision, events)) if *revision == heard.revision => events.push(heard.event),
                _ => told.push((heard.revision, vec![heard.event])),
            }
        }
        told
    }

    /// The first revision that the next stream of the same watcher must ask for, when this one has ended.
    pub fn resumes_at(&self) -> i64 {
        self.heard().map(|heard| heard.revision + 1).fold(self.from, i64::max)
    }

    fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.responses.iter().flat_map(|response| &response.events)
    }

    fn wants(&self, event: &Event) -> bool {
        self.key.is_none_or(|key| key == event.key)
    }

    /// What can be seen without knowing the history.
    fn check_alone(&self) -> Result<()> {
        let mut newest = self.from - 1;
        // A notification of progress promises that nothing up to its revision is still to come.
        let mut promised = self.from - 1;
        for response in &self.responses {
            let mut keys_of_revision: Vec<Key> = Vec::new();
            for (at, heard) in response.events.iter().enumerate() {
                let revision = heard.revision;
                ensure!(revision >= self.from, "revision {revision} comes, but {} was asked for", self.from);
                ensure!(self.wants(&heard.event), "key {} comes, but was not asked for", heard.event.key);
                if at > 0 && revision < newest {
                    bail!("not ordered: revision {revision} comes after {newest}");
                }
                if at == 0 || revision > newest {
                    ensure!(revision > newest, "not ordered, not unique or not atomic: {revision} after {newest}");
                    keys_of_revision.clear();
                }
                ensure!(
                    !keys_of_revision.contains(&heard.event.key),
                    "not unique: key {} comes twice in revision {revision}",
                    heard.event.key
                );
                ensure!(revision > promised, "revision {revision} comes after progress to {promised} was told");
                keys_of_revision.push(heard.event.key);
                newest = revision;
            }
            // A notification of progress may lag behind what was told, and says less then.
            ensure!(
                response.events.is_empty() || response.revision >= newest,
                "an answer's header says {}, but it tells of revision {newest}",
                response.revision
            );
            if response.events.is_empty() {
                promised = promised.max(response.revision);
            }
        }
        Ok(())
    }

    /// What needs the history.
    fn check_against(&self, log: &Log) -> Result<()> {
        let last_event = self.heard().last().map_or(self.from - 1, |heard| heard.revision);
        let progress = self.responses.iter().filter(|response| response.events.is_empty());
        let complete_to = progress.map(|response| response.revision).fold(last_event, i64::max);
        let mut told = self.by_revision().into_iter().peekable();
        for revision in self.from.max(2)..=complete_to.min(log.newest()) {
            let wanted: Vec<Event> = log.events(revision).iter().copied().filter(|event| self.wants(event)).collect();
            if wanted.is_empty() {
                continue;
            }
            let heard = told.next_if(|(at, _)| *at == revision);
            let Some((_, heard)) = heard else {
                bail!("not complete: revision {revision} is missing, which changed {wanted:?}");
            };
            ensure!(heard == wanted, "revision {revision} told {heard:?}, but it changed {wanted:?}");
        }
        if let Some((revision, events)) = told.next() {
            bail!("revision {revision} told {events:?}, which the history does not have");
        }
        for heard in self.heard() {
            let before = log.at(heard.event.key, heard.revision - 1);
            let (key, revision) = (heard.event.key, heard.revision);
            if heard.event.now.is_some() {
                ensure!(heard.is_create == before.is_none(), "key {key}, revision {revision}: is-create is wrong");
            }
            if self.wants_before {
                ensure!(
                    heard.before == before || (self.compacting && heard.before.is_none()),
                    "key {key}, revision {revision}: the pair before is told as {:?}, but was {before:?}",
                    heard.before
                );
            }
        }
        Ok(())
    }
}

/// Checks what each stream shows by itself.
///
/// # Errors
/// The first broken promise.
pub(super) fn check_each(streams: &[Stream]) -> Result<()> {
    streams.iter().try_for_each(|stream| stream.check_alone().with_context(|| stream.name.clone()))
}

/// Checks each stream against the history.
///
/// # Errors
/// The first broken promise.
pub(super) fn check_against(streams: &[Stream], log: &Log) -> Result<()> {
    streams.iter().try_for_each(|stream| stream.check_against(log).with_context(|| stream.name.clone()))
}
