//! One consistent picture of all tables: what is committed, and over it what was staged before the picture was taken.
//!
//! ```text
//! newest  active buffer, up to a mark
//!         frozen buffers, being committed
//! oldest  base: a read transaction
//! ```
//! A record's position only grows, so history is the three in that order, less what was dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use eyrie_state::{Bucket, LogIndex, Position, Records, TableFault, Term};

use super::{
    Tally,
    buffer::{Buffer, Found, Mark},
    contain::io as io_fault,
    store::{Base, HistoryReader, POSITION_MAX, ReadRecord},
};

/// Records that a reading takes at once; the first batch is small, since most readings are.
const FIRST_BATCH: usize = 32;
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 256 * 1024;
/// After so many records another thread reads ahead, while the caller works on what was read.
const READ_AHEAD_AFTER: usize = 4096;
const BATCHES_AHEAD: usize = 4;

/// A reader of all tables as of one moment. Cheap to clone; stays readable while writes go on.
///
/// It keeps alive what it sees: pages that were replaced since are reused only after it is dropped.
#[derive(Clone)]
pub struct View {
    pub(super) base: Arc<Base>,
    pub(super) frozen: Arc<Vec<Arc<Buffer>>>,
    pub(super) active: Arc<Buffer>,
    pub(super) mark: Mark,
    pub(super) applied: (LogIndex, Term),
}

impl View {
    /// Position of the last applied entry that this picture holds.
    pub fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }

    /// Visits a small bucket in key order.
    ///
    /// # Errors
    /// [`TableFault`] when a checksum does not match, or the disk fails.
    pub fn bucket(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        let mut over: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for (buffer, mark) in self.oldest_first() {
            buffer.small_into(bucket, mark, &mut over);
        }
        let mut over = over.into_iter().peekable();
        self.base.bucket(bucket, &mut |key, value| {
            while let Some((k, v)) = over.next_if(|(k, _)| &k[..] < key) {
                if let Some(v) = v {
                    visit(&k, &v);
                }
            }
            match over.next_if(|(k, _)| &k[..] == key) {
                Some((k, Some(v))) => visit(&k, &v),
                Some((_, None)) => {}
                None => visit(key, value),
            }
        })?;
        for (k, v) in over {
            if let Some(v) = v {
                visit(&k, &v);
            }
        }
        Ok(())
    }

    /// Visits all of history in order, until `visit` says `false`. Count and checksum sum are compared with what the
    /// tables say they hold, so a record that is missing or exchanged is a fault at the end.
    ///
    /// # Errors
    /// [`TableFault`] when anything does not match, or the disk fails.
    pub fn full_scan(&self, visit: &mut dyn FnMut(Position, bool, &Bytes) -> bool) -> Result<(), TableFault> {
        self.scan(Position::default(), POSITION_MAX, visit)
    }

    /// Reads all of committed history, each record checked against its checksum, without handing any out. Count and sum
    /// must be those that the tables say they hold.
    ///
    /// # Errors
    /// As for [`View::full_scan`].
    pub fn check_history(&self) -> Result<Tally, TableFault> {
        self.base.check_history()
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = (&Arc<Buffer>, Mark)> {
        self.frozen.iter().map(|b| (b, b.mark())).chain([(&self.active, self.mark)])
    }

    fn scan_base(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(&ReadRecord) -> bool,
    ) -> Result<bool, TableFault> {
        let mut reader = self.base.reader(from, to)?;
        let (mut read, mut limit) = (0, FIRST_BATCH);
        while read < READ_AHEAD_AFTER {
            let batch = reader.batch(limit, BATCH_BYTES)?;
            if batch.is_empty() {
                return Ok(true);
            }
            read += batch.len();
            limit = BATCH;
            if !batch.iter().all(&mut *visit) {
                return Ok(false);
            }
        }
        self.read_ahead(reader, visit)
    }

    /// Goes on with a long reading: another thread reads and checks, this one visits.
    fn read_ahead(
        &self,
        mut reader: HistoryReader<'_>,
        visit: &mut dyn FnMut(&ReadRecord) -> bool,
    ) -> Result<bool, TableFault> {
        thread::scope(|scope| {
            let (give, take) = mpsc::sync_channel(BATCHES_AHEAD);
            thread::Builder::new()
                .name("tables-read".into())
                .spawn_scoped(scope, move || {
                    loop {
                        let batch = reader.batch(BATCH, BATCH_BYTES);
                        let end = !matches!(&batch, Ok(records) if !records.is_empty());
                        if give.send(batch).is_err() || end {
                            return;
                        }
                    }
                })
                .map_err(|e| io_fault(self.base.store().path(), e))?;
            for batch in take {
                if !batch?.iter().all(&mut *visit) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

impl Records for View {
    fn record(&self, at: Position) -> Result<Option<Bytes>, TableFault> {
        let newest_first =
            [(&self.active, Some(self.mark))].into_iter().chain(self.frozen.iter().rev().map(|b| (b, None)));
        for (buffer, mark) in newest_first {
            match buffer.find(at, mark.unwrap_or_else(|| buffer.mark())) {
                Found::Record(found) => return Ok((!found.tombstone).then_some(found.record)),
                Found::Dropped => return Ok(None),
                Found::Unknown => {}
            }
        }
        Ok(self.base.record(at)?.and_then(|(tombstone, record)| (!tombstone).then_some(record)))
    }

    fn scan(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(Position, bool, &Bytes) -> bool,
    ) -> Result<(), TableFault> {
        let mut dropped = BTreeSet::new();
        for (buffer, mark) in self.oldest_first() {
            buffer.drops_into(from, to, mark, &mut dropped);
        }
        let go_on = self.scan_base(from, to, &mut |(at, tombstone, record)| {
            dropped.contains(at) || visit(*at, *tombstone, record)
        })?;
        if !go_on {
            return Ok(());
        }
        for (buffer, mark) in self.oldest_first() {
            let mut next = Bound::Included(from);
            loop {
                let records = buffer.records(next, to, mark, BATCH);
                let Some(last) = records.last() else { break };
                next = Bound::Excluded(last.at);
                for r in &records {
                    if !dropped.contains(&r.at) && !visit(r.at, r.tombstone, &r.record) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
