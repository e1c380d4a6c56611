//! Reads a piece of history for watchers that are behind their trails.
//!
//! One reading serves all watchers of a stream that are about equally far behind. It is short, so that the thread
//! soon serves others, and it ends between two revisions.

use bytes::Bytes;
use eyrie_state::watch::{GroupId, Interest, Registry};
use eyrie_state::{KeyValue, Position, Records, Revision, TableFault, record};

use super::encode::{Pair, put_event};
use super::limits::{HISTORY_BYTES_MAX, HISTORY_RECORDS_MAX, RESPONSE_REVISIONS_MAX};
use super::source::Source;

/// Who takes part in a reading.
#[derive(Debug, Default)]
pub(super) struct Readers {
    registry: Registry,
}

impl Readers {
    /// Adds a watcher; the answer names what it will find in a [`Piece`].
    pub(super) fn add(&mut self, interest: &Interest) -> GroupId {
        self.registry.join(interest).0
    }
}

/// A piece of history: all that the readers want of the revisions from `from` (inclusive) to `to` (exclusive).
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) to: Revision,
    found: Vec<Found>,
    /// By reader group: places in `found`, ascending.
    by_group: Vec<Vec<u32>>,
}

#[derive(Debug)]
struct Found {
    at: Position,
    tombstone: bool,
    record: Bytes,
}

impl Found {
    fn revision(&self) -> Revision {
        self.at.revision()
    }

    fn view(&self) -> Result<record::RecordView, TableFault> {
        view(self.at, &self.record)
    }
}

/// Reads from `from` on, at most to `end` (exclusive).
///
/// # Errors
/// [`TableFault`] when a record is damaged.
pub(super) fn read(
    records: &impl Records,
    readers: &Readers,
    from: Revision,
    end: Revision,
) -> Result<Piece, TableFault> {
    let mut piece = Piece { to: end, found: Vec::new(), by_group: Vec::new() };
    let (mut records_read, mut bytes, mut revisions) = (0, 0, 0);
    let mut last = Revision(0);
    let mut fault = None;
    records.scan(Position::start_of(from), Position::start_of(end), &mut |at, tombstone, record| {
        if at.revision() != last {
            let full = records_read >= HISTORY_RECORDS_MAX
                || bytes >= HISTORY_BYTES_MAX
                || revisions >= RESPONSE_REVISIONS_MAX;
            if full {
                piece.to = at.revision();
                return false;
            }
            last = at.revision();
            revisions += 1;
        }
        records_read += 1;
        let view = match view(at, record) {
            Ok(view) => view,
            Err(why) => {
                fault = Some(why);
                return false;
            }
        };
        let place = piece.found.len() as u32;
        let mut wanted = false;
        readers.registry.groups_of(&record[view.key], tombstone, &mut |group| {
            let group = group.0 as usize;
            if piece.by_group.len() <= group {
                piece.by_group.resize(group + 1, Vec::new());
            }
            piece.by_group[group].push(place);
            wanted = true;
        });
        if wanted {
            bytes += record.len();
            piece.found.push(Found { at, tombstone, record: record.clone() });
        }
        true
    })?;
    match fault {
        Some(fault) => Err(fault),
        None => Ok(piece),
    }
}

impl Piece {
    /// The events that a reader wants from revision `next` on, ready for a response, and how many.
    ///
    /// # Errors
    /// [`TableFault`] when a record is damaged.
    pub(super) fn events<S: Source>(
        &self,
        reader: GroupId,
        next: Revision,
        prev_kv: bool,
        source: &S,
    ) -> Result<(Bytes, usize), TableFault> {
        let places = self.by_group.get(reader.0 as usize).map_or(&[][..], |places| places);
        let seen = places.partition_point(|place| self.found[*place as usize].revision() < next);
        let found: Vec<&Found> = places[seen..].iter().map(|place| &self.found[*place as usize]).collect();
        let before = if prev_kv { before(&found, source)? } else { Vec::new() };
        let mut out = Vec::with_capacity(found.iter().map(|found| found.record.len() + 16).sum());
        for (number, found) in found.iter().enumerate() {
            let prev = before.get(number).and_then(Option::as_ref).map(Pair::Parts);
            if found.tombstone {
                let key = found.record.slice(found.view()?.key);
                let kv = KeyValue { key, mod_revision: found.at.main, ..Default::default() };
                put_event(&mut out, true, Pair::Parts(&kv), prev);
            } else {
                put_event(&mut out, false, Pair::Record(&found.record), prev);
            }
        }
        Ok((out.into(), found.len()))
    }
}

/// The pairs before these changes, one for each; none for a put that creates its key.
fn before<S: Source>(found: &[&Found], source: &S) -> Result<Vec<Option<KeyValue>>, TableFault> {
    let (mut wanted, mut places) = (Vec::new(), Vec::new());
    for (place, found) in found.iter().enumerate() {
        let view = found.view()?;
        if found.tombstone || view.create_revision != view.mod_revision {
            wanted.push((found.record.slice(view.key), found.revision()));
            places.push(place);
        }
    }
    let mut before = vec![None; found.len()];
    for (place, pair) in places.into_iter().zip(source.before(&wanted)?) {
        before[place] = pair;
    }
    Ok(before)
}

fn view(at: Position, record: &[u8]) -> Result<record::RecordView, TableFault> {
    record::view(record).map_err(|what| TableFault::Damaged {
        place: format!("bucket key, revision {}_{}", at.main, at.sub),
        what: what.to_owned(),
    })
}

/// Bytes made once for all watchers of a reading that want the same from the same revision on.
#[derive(Debug, Default)]
pub(super) struct Shared(Vec<(GroupId, Revision, Bytes, usize)>);

impl Shared {
    /// The bytes, the number of events in them, and whether they are new.
    pub(super) fn get_or<E>(
        &mut self,
        reader: GroupId,
        next: Revision,
        make: impl FnOnce() -> Result<(Bytes, usize), E>,
    ) -> Result<(Bytes, usize, bool), E> {
        // Watchers come in the order of what they have seen, so equal ones mostly stand together.
        let recent = self.0.iter().rev().take(8);
        if let Some((.., bytes, events)) = recent.into_iter().find(|(r, n, ..)| (*r, *n) == (reader, next)) {
            return Ok((bytes.clone(), *events, false));
        }
        let (bytes, events) = make()?;
        self.0.push((reader, next, bytes.clone(), events));
        Ok((bytes, events, true))
    }
}
