//! From stored records back to the catalogue, with every damage named and everything around it used.
//!
//! Trust runs backwards: the newest record is taken at its word (or at that of a head pinned outside), and each trusted
//! record vouches for the one before by its hash. A record that its successor does not vouch for is not used. What was
//! lost leaves a hole in what is known: revisions that were in it are missing from the spans, nothing is guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Catalog, Fault};
use crate::{
    codec::{self, DecodeError},
    ids::{ArchiveId, Seq, Sha256},
    record::{Kind, Link, Record},
};

/// What is wrong with a stored catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Records are not there.
    #[error("records {from} to {to} of the catalogue are missing")]
    Missing {
        /// The first.
        from: Seq,
        /// The last.
        to: Seq,
    },
    /// Bytes that were never written so.
    #[error("record {seq} of the catalogue is damaged: {what}")]
    Changed {
        /// The record.
        seq: Seq,
        /// What is wrong.
        what: String,
    },
    /// A well-formed record that its successor does not know.
    #[error("record {seq} of the catalogue was replaced: the record after it vouches for another one")]
    Replaced {
        /// The record.
        seq: Seq,
    },
    /// A record under the name of another one.
    #[error("record {found} of the catalogue lies under the name of record {seq}")]
    Misplaced {
        /// By its name.
        seq: Seq,
        /// By its content.
        found: Seq,
    },
    /// A record of another archive.
    #[error("record {seq} belongs to archive {found}, but this is archive {archive}")]
    Foreign {
        /// The record.
        seq: Seq,
        /// Its archive.
        found: ArchiveId,
        /// This one.
        archive: ArchiveId,
    },
    /// The catalogue ends before a record that is known to have existed.
    #[error(
        "the catalogue ends with record {head}, but record {pinned} was seen earlier: someone put an older state back, or removed records"
    )]
    RolledBack {
        /// The newest record there is.
        head: Seq,
        /// The newest that was seen.
        pinned: Seq,
    },
    /// Another record at a place that is known.
    #[error("record {seq} is not the one that was seen earlier: the catalogue was rewritten")]
    Rewritten {
        /// The place.
        seq: Seq,
    },
    /// A checkpoint that cannot be used; what came before it was read from older records.
    #[error("the checkpoint of record {seq} cannot be used: {what}")]
    Checkpoint {
        /// The record that names it.
        seq: Seq,
        /// What is wrong.
        what: String,
    },
    /// A record that contradicts the ones before it.
    #[error("record {seq} does not fit the ones before it: {fault}")]
    Unfit {
        /// The record.
        seq: Seq,
        /// How.
        fault: Fault,
    },
}

/// Why nothing can be said about an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing is there.
    #[error("there is no archive here")]
    Empty,
    /// There was one.
    #[error(
        "there is no archive here, but its record {pinned} was seen earlier: the archive was deleted, or the address is wrong"
    )]
    Vanished {
        /// The newest record that was seen.
        pinned: Seq,
    },
    /// A later program wrote it.
    #[error("its record {seq} was written by a newer version of eyrie ({what})")]
    Newer {
        /// The first such record.
        seq: Seq,
        /// What is not known here.
        what: String,
    },
    /// Neither the beginning nor any checkpoint can be read.
    #[error("the archive has no readable beginning: neither its first record nor a checkpoint can be used")]
    NoBeginning {
        /// What was found.
        damage: Vec<Damage>,
    },
    /// The pieces are there, but not all well. What is usable is in the reading.
    #[error("the catalogue is damaged: {}", .0.damage.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Damaged(Box<Reading>),
}

/// A catalogue as far as it can be trusted, and what is wrong next to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What the usable records say.
    pub catalog: Catalog,
    /// What is wrong, in the order of the records. Empty: all is well.
    pub damage: Vec<Damage>,
}

impl Reading {
    /// The catalogue, if all is well: whoever writes asks so. To write on in spite of damage, take
    /// [`Reading::catalog`] and write a checkpoint first: the damage then lies behind it, and readers begin after it.
    ///
    /// # Errors
    /// [`Unreadable::Damaged`] with the reading.
    pub fn whole(self) -> Result<Catalog, Unreadable> {
        if self.damage.is_empty() { Ok(self.catalog) } else { Err(Unreadable::Damaged(Box::new(self))) }
    }
}

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// With the first record.
    First,
    /// With the record of a checkpoint, and this content of its file.
    Checkpoint {
        /// The record's place.
        seq: Seq,
        /// The file.
        file: &'a [u8],
    },
}

impl Catalog {
    /// Reads the catalogue from its records, given by the places that their names say; the order does not matter.
    /// `pin` is a head that was seen earlier and kept elsewhere. Records before the start say nothing here, but those from
    /// the pin on must be what was written: else a rewritten past could hide behind a checkpoint.
    ///
    /// # Errors
    /// [`Unreadable`], but never [`Unreadable::Damaged`]: see [`Reading::whole`] for that.
    pub fn replay<'a>(
        start: Start<'_>,
        records: impl IntoIterator<Item = (Seq, &'a [u8])>,
        pin: Option<Link>,
    ) -> Result<Reading, Unreadable> {
        let first = match start {
            Start::First => Seq::FIRST,
            Start::Checkpoint { seq, .. } => seq,
        };
        let from = pin.map_or(first, |pin| pin.seq.min(first));
        let files: BTreeMap<Seq, &[u8]> = records.into_iter().filter(|(seq, _)| *seq >= from).collect();
        let Some(head) = files.keys().next_back().copied() else {
            return Err(pin.map_or(Unreadable::Empty, |pin| Unreadable::Vanished { pinned: pin.seq }));
        };
        let mut damage = Vec::new();
        let mut good = decode_all(&files, &mut damage)?;
        distrust(&mut good, head, pin, &mut damage);
        let mut catalog = fold_all(start, first, head, good, &mut damage)?;
        missing_behind(from, first, &files, catalog.records_from, &mut damage);
        // Whatever is there: who goes on writing continues behind it.
        catalog.head =
            Link { seq: head, sha256: files.get(&head).map_or(catalog.head.sha256, |file| Sha256::of(file)) };
        damage.sort_by_key(Damage::place);
        Ok(Reading { catalog, damage })
    }
}

impl Damage {
    /// The record that it is about; of several, the first.
    pub fn place(&self) -> Seq {
        match self {
            Self::Missing { from, .. } => *from,
            Self::Changed { seq, .. }
            | Self::Replaced { seq }
            | Self::Misplaced { seq, .. }
            | Self::Foreign { seq, .. }
            | Self::Rewritten { seq }
            | Self::Checkpoint { seq, .. }
            | Self::Unfit { seq, .. } => *seq,
            Self::RolledBack { pinned, .. } => *pinned,
        }
    }
}

type Good = BTreeMap<Seq, (Record, Sha256)>;

/// The records that are well-formed and lie where they say.
fn decode_all(files: &BTreeMap<Seq, &[u8]>, damage: &mut Vec<Damage>) -> Result<Good, Unreadable> {
    let mut good = Good::new();
    for (&seq, bytes) in files {
        match codec::decode_record(bytes) {
            Ok(record) if record.seq == seq => {
                good.insert(seq, (record, Sha256::of(bytes)));
            }
            Ok(record) => damage.push(Damage::Misplaced { seq, found: record.seq }),
            Err(DecodeError::Newer { what }) => return Err(Unreadable::Newer { seq, what }),
            Err(error) => damage.push(Damage::Changed { seq, what: error.to_string() }),
        }
    }
    Ok(good)
}

/// Takes out the records that a trusted successor, or the pin, does not vouch for.
fn distrust(good: &mut Good, head: Seq, pin: Option<Link>, damage: &mut Vec<Damage>) {
    if let Some(pin) = pin {
        if head < pin.seq {
            damage.push(Damage::RolledBack { head, pinned: pin.seq });
        }
        if good.get(&pin.seq).is_some_and(|(_, hash)| *hash != pin.sha256) {
            damage.push(Damage::Rewritten { seq: pin.seq });
        }
    }
    let mut vouched: BTreeMap<Seq, Sha256> = BTreeMap::new();
    let seqs: Vec<Seq> = good.keys().rev().copied().collect();
    for seq in seqs {
        let (record, hash) = &good[&seq];
        if vouched.get(&seq).is_some_and(|expected| expected != hash) {
            good.remove(&seq);
            damage.push(Damage::Replaced { seq });
            continue;
        }
        if let (Some(prev), Some(before)) = (record.prev, seq.0.checked_sub(1)) {
            vouched.insert(Seq(before), prev);
        }
        if let Some(link) = record.checkpoint {
            vouched.entry(link.seq).or_insert(link.sha256);
        }
    }
}

/// Folds what is good, from the start to the head.
fn fold_all(
    start: Start<'_>,
    first: Seq,
    head: Seq,
    good: Good,
    damage: &mut Vec<Damage>,
) -> Result<Catalog, Unreadable> {
    let no_beginning = |damage: &mut Vec<Damage>| Unreadable::NoBeginning { damage: std::mem::take(damage) };
    let Some((record, hash)) = good.get(&first) else { return Err(no_beginning(damage)) };
    let link = Link { seq: first, sha256: *hash };
    let begun = match start {
        Start::First => Catalog::opened(record, link).ok_or("the first record does not open an archive".into()),
        Start::Checkpoint { file, .. } => Catalog::from_checkpoint(record, file).map(|mut state| {
            state.fold(record, link);
            state
        }),
    };
    let mut catalog = match begun {
        Ok(catalog) => catalog,
        Err(what) => {
            damage.push(Damage::Checkpoint { seq: first, what });
            return Err(no_beginning(damage));
        }
    };
    let mut expected = first.next();
    let mut lost = false;
    for (seq, (record, hash)) in good.range(expected..) {
        let (seq, link) = (*seq, Link { seq: *seq, sha256: *hash });
        if record.archive != catalog.archive {
            let (found, archive) = (record.archive.clone(), catalog.archive.clone());
            damage.push(Damage::Foreign { seq, found, archive });
            continue;
        }
        if seq > expected {
            note_missing(expected, seq, damage);
            lost = true;
        }
        expected = seq.next();
        if lost {
            catalog.adopt(record);
            lost = false;
        }
        match catalog.check(record) {
            Ok(()) => catalog.fold(record, link),
            Err(fault) => {
                if fault.is_usable() {
                    catalog.fold(record, link);
                }
                damage.push(Damage::Unfit { seq, fault });
            }
        }
    }
    note_missing(expected, head.next(), damage);
    Ok(catalog)
}

/// Names the records between a pin and the start that should be there: the first one, and those that no expiry removed.
fn missing_behind(from: Seq, first: Seq, files: &BTreeMap<Seq, &[u8]>, kept: Seq, damage: &mut Vec<Damage>) {
    let must = |seq: &Seq| *seq == Seq::FIRST || *seq >= kept;
    let absent = (from.0..first.0).map(Seq).filter(must).filter(|seq| !files.contains_key(seq));
    let mut range: Option<(Seq, Seq)> = None;
    for seq in absent {
        range = match range {
            Some((from, to)) if to.next() == seq => Some((from, seq)),
            Some((from, to)) => {
                damage.push(Damage::Missing { from, to });
                Some((seq, seq))
            }
            None => Some((seq, seq)),
        };
    }
    damage.extend(range.map(|(from, to)| Damage::Missing { from, to }));
}

/// Names the places in `from..to` that nothing was said about yet.
fn note_missing(from: Seq, to: Seq, damage: &mut Vec<Damage>) {
    let named: BTreeSet<Seq> = damage.iter().map(Damage::place).filter(|place| (from..to).contains(place)).collect();
    let mut next = from;
    for stop in named.into_iter().chain([to]) {
        if next < stop {
            damage.push(Damage::Missing { from: next, to: Seq(stop.0 - 1) });
        }
        next = stop.next();
    }
}

impl Catalog {
    /// The state before a checkpoint's record.
    fn from_checkpoint(record: &Record, file: &[u8]) -> Result<Self, String> {
        let Kind::Checkpoint(checkpoint) = &record.what else { return Err("the record is no checkpoint".into()) };
        if file.len() as u64 != checkpoint.stored.len || Sha256::of(file) != checkpoint.stored.sha256 {
            return Err("its file is not the one that the record names".into());
        }
        let mut state: Self = codec::decode_state(file).map_err(|error| error.to_string())?;
        if Some(state.head.sha256) != record.prev || state.head.seq.next() != record.seq {
            return Err("its state does not end with the record before".into());
        }
        if state.archive != record.archive || !state.timelines.contains_key(&state.current) {
            return Err("its state is of another archive".into());
        }
        state.collect_names();
        Ok(state)
    }
}
