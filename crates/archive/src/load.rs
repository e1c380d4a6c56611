//! Finding and reading a catalogue without trusting a listing: says which files to fetch next, until all is known.
//!
//! ```text
//! list catalog/ ─▶ Load ─▶ Get(names) ─▶ give(name, bytes or nothing) ─▶ … ─▶ Done(reading)
//! ```
//! A listing may be stale, so the places behind its end are asked for by name, until several in a row are empty. The
//! newest record says where the newest checkpoint is; when that cannot be used, the one before is, down to the first
//! record. Everything is asked for at most once.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    catalog::{Catalog, Damage, Reading, Start, Unreadable},
    codec::{self, DecodeError},
    ids::{Seq, StoredPath},
    limits::{PROBE_AHEAD, WANT_MAX},
    names,
    record::{Kind, Link, Record},
};

/// Unlisted places inside the range that are asked for by name. More than this missing at once is no stale listing.
const UNLISTED_MAX: u64 = 10_000;

/// A catalogue on its way in.
#[derive(Debug, Clone)]
pub struct Load {
    listed: BTreeSet<Seq>,
    pin: Option<Link>,
    records: BTreeMap<Seq, Option<Vec<u8>>>,
    checkpoints: BTreeMap<Seq, Option<Vec<u8>>>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch these, in any order or at the same time, and [`Load::give`] each answer.
    Get(Vec<StoredPath>),
    /// All is known.
    Done(Box<Result<Reading, Unreadable>>),
}

impl Load {
    /// Begins with the names found under `catalog/`, and with the newest head that was seen earlier and kept elsewhere.
    pub fn new<'a>(listed: impl IntoIterator<Item = &'a str>, pin: Option<Link>) -> Self {
        let listed = listed.into_iter().filter_map(names::record_seq).collect();
        Self { listed, pin, records: BTreeMap::new(), checkpoints: BTreeMap::new() }
    }

    /// Takes a file's content, or that it does not exist. Names that were not asked for are ignored.
    pub fn give(&mut self, name: &StoredPath, content: Option<Vec<u8>>) {
        if let Some(seq) = names::record_seq(name.as_str()) {
            self.records.insert(seq, content);
        } else if let Some(seq) = names::checkpoint_seq(name.as_str()) {
            self.checkpoints.insert(seq, content);
        }
    }

    /// What to do next. Asks for the same files again until each is given.
    pub fn step(&self) -> Step {
        if let Some(names) = self.wants_of_head() {
            return Step::Get(names);
        }
        let Some(head) = self.head() else {
            return Step::Done(Box::new(Catalog::replay(Start::First, [], self.pin)));
        };
        let mut spoilt = Vec::new();
        let mut below = head;
        loop {
            let start = match self.start_at_or_below(below) {
                Err(names) => return Step::Get(names),
                Ok(start) => start,
            };
            let from = start.unwrap_or(Seq::FIRST);
            let looked_at = self.pin.map_or(from, |pin| pin.seq.min(from));
            if let Some(names) = self.wants_of_range(looked_at, head) {
                return Step::Get(names);
            }
            match (self.replay(start), start) {
                (Err(Unreadable::NoBeginning { damage }), Some(seq)) => {
                    spoilt.extend(damage.into_iter().filter(|damage| is_about(damage, seq)));
                    below = Seq(seq.0 - 1);
                }
                (Ok(mut reading), _) => {
                    reading.damage.extend(spoilt.into_iter().filter(|one| matches!(one, Damage::Checkpoint { .. })));
                    return Step::Done(Box::new(Ok(reading)));
                }
                (Err(error), _) => return Step::Done(Box::new(Err(error))),
            }
        }
    }

    /// The newest record that is there.
    fn head(&self) -> Option<Seq> {
        self.records.iter().rev().find(|(_, content)| content.is_some()).map(|(seq, _)| *seq)
    }

    /// Places to ask for until it is clear which record is the newest.
    fn wants_of_head(&self) -> Option<Vec<StoredPath>> {
        let ahead = |seq: Seq| (1..=PROBE_AHEAD).map(move |step| Seq(seq.0.saturating_add(step)));
        let mut wanted: BTreeSet<Seq> = ahead(Seq(0)).collect();
        wanted.extend(self.pin.map(|pin| pin.seq));
        for seq in self.listed.last().copied().into_iter().chain(self.head()) {
            wanted.insert(seq);
            wanted.extend(ahead(seq));
        }
        if let Some(names) = self.missing(wanted) {
            return Some(names);
        }
        if self.head().is_some() { None } else { self.missing(self.listed.iter().rev().copied()) }
    }

    /// The newest checkpoint's record at or below `below`, or the names to fetch before that can be said.
    fn start_at_or_below(&self, below: Seq) -> Result<Option<Seq>, Vec<StoredPath>> {
        let mut places: BTreeSet<Seq> = self.listed.range(..=below).copied().collect();
        let given = self.records.range(..=below).filter(|(_, content)| content.is_some());
        places.extend(given.map(|(seq, _)| *seq));
        for seq in places.into_iter().rev() {
            if let Some(names) = self.missing([seq]) {
                return Err(names);
            }
            let Some(record) = self.record(seq) else { continue };
            let start = match record.what {
                Kind::Checkpoint(_) => Some(seq),
                _ => record.checkpoint.map(|link| link.seq).filter(|link| *link < seq),
            };
            let Some(start) = start else { return Ok(None) };
            if !self.checkpoints.contains_key(&start) {
                return Err(vec![names::checkpoint(start)]);
            }
            if let Some(names) = self.missing([start]) {
                return Err(names);
            }
            return Ok(Some(start));
        }
        Ok(None)
    }

    /// The record, if it can be read. One of a newer version reads as none here: the replay says so.
    fn record(&self, seq: Seq) -> Option<Record> {
        let content = self.records.get(&seq)?.as_deref()?;
        codec::decode_record(content).ok().filter(|record| record.seq == seq)
    }

    fn wants_of_range(&self, from: Seq, head: Seq) -> Option<Vec<StoredPath>> {
        let listed = self.listed.range(from..=head).copied();
        let unlisted = (head.0 - from.0).saturating_sub(self.listed.range(from..=head).count() as u64);
        if unlisted > UNLISTED_MAX {
            return self.missing(listed);
        }
        self.missing((from.0..=head.0).map(Seq))
    }

    fn replay(&self, start: Option<Seq>) -> Result<Reading, Unreadable> {
        let records = self.records.iter().filter_map(|(seq, content)| Some((*seq, content.as_deref()?)));
        let newer = records.clone().find_map(|(seq, content)| match codec::decode_record(content) {
            Err(DecodeError::Newer { what }) => Some(Unreadable::Newer { seq, what }),
            _ => None,
        });
        if let Some(newer) = newer {
            return Err(newer);
        }
        let start = match start {
            None => Start::First,
            Some(seq) => match self.checkpoints.get(&seq).and_then(Option::as_deref) {
                Some(file) => Start::Checkpoint { seq, file },
                None => {
                    let what = "its file is missing".into();
                    return Err(Unreadable::NoBeginning { damage: vec![Damage::Checkpoint { seq, what }] });
                }
            },
        };
        Catalog::replay(start, records, self.pin)
    }

    /// The names of those places that were not fetched yet, a batch of them; `None` when there are none.
    fn missing(&self, wanted: impl IntoIterator<Item = Seq>) -> Option<Vec<StoredPath>> {
        let names: Vec<StoredPath> = wanted
            .into_iter()
            .filter(|seq| !self.records.contains_key(seq))
            .take(WANT_MAX)
            .map(names::record)
            .collect();
        if names.is_empty() { None } else { Some(names) }
    }
}

fn is_about(damage: &Damage, seq: Seq) -> bool {
    matches!(damage, Damage::Checkpoint { seq: place, .. } if *place == seq)
}
