//! Every stored record and checkpoint, also those that no reader needs any more: a reader begins with the newest checkpoint,
//! and what is damaged behind it shows only here.

use std::collections::BTreeMap;

use super::{Catalog, Damage, Start, Unreadable};
use crate::{
    codec,
    ids::{Seq, Sha256, StoredPath},
    names,
    record::{Kind, Link},
};

impl Catalog {
    /// The names of all records and checkpoints that must be there.
    pub fn own_files(&self) -> impl Iterator<Item = StoredPath> {
        let kept = self.records_from.max(Seq(2));
        let records = std::iter::once(Seq::FIRST).chain((kept.0..=self.head.seq.0).map(Seq)).map(names::record);
        let checkpoints: Vec<StoredPath> = self.checkpoints.iter().map(|(seq, _)| names::checkpoint(*seq)).collect();
        records.chain(checkpoints)
    }

    /// What is wrong with them, given the contents of those that are there.
    pub fn inspect(&self, files: &BTreeMap<StoredPath, Vec<u8>>, pin: Option<Link>) -> Vec<Damage> {
        let records: BTreeMap<Seq, &[u8]> = files
            .iter()
            .filter_map(|(name, bytes)| Some((names::record_seq(name.as_str())?, bytes.as_slice())))
            .filter(|(seq, _)| *seq <= self.head.seq)
            .collect();
        let mut damage = self.check_first(&records);
        let start = self.records_from;
        let file = files.get(&names::checkpoint(start));
        let begin = match file {
            Some(file) if start > Seq::FIRST => Start::Checkpoint { seq: start, file },
            _ => Start::First,
        };
        let from = if matches!(begin, Start::First) { Seq::FIRST } else { start };
        // An older pin is none here: what it vouched for was removed.
        let pin = pin.filter(|pin| pin.seq >= from);
        let read = Self::replay(begin, records.iter().map(|(seq, bytes)| (*seq, *bytes)), pin);
        let whole = match read {
            Ok(reading) => {
                let same = reading.catalog == *self;
                damage.extend(reading.damage);
                same
            }
            Err(Unreadable::NoBeginning { damage: found }) => {
                damage.extend(found);
                true
            }
            Err(error) => {
                damage.push(Damage::Changed { seq: from, what: error.to_string() });
                true
            }
        };
        damage.extend(self.checkpoints.iter().filter_map(|(seq, _)| {
            let what = check_checkpoint(*seq, &records, files)?;
            Some(Damage::Checkpoint { seq: *seq, what })
        }));
        if damage.is_empty() && !whole {
            let seq = self.checkpoint.map_or(Seq::FIRST, |link| link.seq);
            damage.push(Damage::Checkpoint { seq, what: "its state is not what the records before it say".into() });
        }
        let mut all: Vec<Damage> = Vec::new();
        damage.into_iter().for_each(|one| {
            if !all.contains(&one) {
                all.push(one)
            }
        });
        all.sort_by_key(Damage::place);
        all
    }

    /// The first record stays for ever, so that an archive is never opened twice; behind a checkpoint nothing reads it.
    fn check_first(&self, records: &BTreeMap<Seq, &[u8]>) -> Vec<Damage> {
        let seq = Seq::FIRST;
        let found = match records.get(&seq).map(|bytes| codec::decode_record(bytes)) {
            None => Some(Damage::Missing { from: seq, to: seq }),
            Some(Err(error)) => Some(Damage::Changed { seq, what: error.to_string() }),
            Some(Ok(record)) if record.seq != seq => Some(Damage::Misplaced { seq, found: record.seq }),
            Some(Ok(record)) if record.archive != self.archive => {
                Some(Damage::Foreign { seq, found: record.archive, archive: self.archive.clone() })
            }
            Some(Ok(record)) if !matches!(record.what, Kind::Opened(_)) => Some(Damage::Replaced { seq }),
            Some(Ok(_)) => None,
        };
        found.into_iter().collect()
    }
}

/// What is wrong with the file of a checkpoint whose record can be read.
fn check_checkpoint(seq: Seq, records: &BTreeMap<Seq, &[u8]>, files: &BTreeMap<StoredPath, Vec<u8>>) -> Option<String> {
    let Ok(record) = codec::decode_record(records.get(&seq)?) else { return None };
    let Kind::Checkpoint(said) = record.what else { return Some("its record is no checkpoint".into()) };
    match files.get(&said.stored.path) {
        None => Some("its file is missing".into()),
        Some(file) if file.len() as u64 != said.stored.len || Sha256::of(file) != said.stored.sha256 => {
            Some("its file is not the one that the record names".into())
        }
        Some(_) => None,
    }
}
