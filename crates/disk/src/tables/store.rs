//! One redb file, opened: how it is opened, how it is checked, how a picture of it is read.
//!
//! ```text
//! Store (the open file)  <-  Base (one read transaction of it, shared by all views made since)
//! ```
//! Knows nothing of what is staged.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use eyrie_state::{Bucket, Position, TableFault};
use parking_lot::Mutex;
use redb::{
    BackendError, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    backends::FileBackend,
};

use super::{
    Options, Tally,
    contain::{contain, damaged, io as io_fault, quiet},
    format::{self, ABOUT, HISTORY, KEY_LEN, SHEET_KEY, SMALL, Sheet},
    space::SpaceGate,
};
use crate::atomic;

/// An open redb file.
pub(super) struct Store {
    /// `None` only while it is being dropped.
    db: Option<Database>,
    path: PathBuf,
    /// Whether a write without room waits for some.
    patient: Arc<AtomicBool>,
}

impl Store {
    /// Makes a new, empty file. The caller fills it and writes the sheet. `gate` is for later, when it is in use.
    pub(super) fn create(path: &Path, cache_bytes: usize, gate: Option<Arc<SpaceGate>>) -> Result<Self, TableFault> {
        let file = atomic::create(path).map_err(|e| io_fault(path, e))?;
        let gathers = gate.is_none();
        Self::begin(path, file, cache_bytes, false, gate, gathers)
    }

    /// As [`Store::create`], in an empty file that is open; `place` is only for messages.
    pub(super) fn create_in(file: File, place: &Path, cache_bytes: usize) -> Result<Self, TableFault> {
        Self::begin(place, file, cache_bytes, false, None, true)
    }

    /// Opens an existing file; `gate` makes its writes wait for room instead of failing.
    pub(super) fn open(path: &Path, options: &Options, gate: Arc<SpaceGate>) -> Result<Self, TableFault> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => damaged(path, "the file is missing"),
            _ => io_fault(path, e),
        })?;
        let len = file.metadata().map_err(|e| io_fault(path, e))?.len();
        if len == 0 {
            return Err(damaged(path, "the file is empty"));
        }
        let store = Self::begin(path, file, options.cache_bytes, len <= options.check_bytes_max, Some(gate), false)?;
        store.patient.store(true, Ordering::Relaxed);
        Ok(store)
    }

    fn begin(
        path: &Path,
        file: File,
        cache_bytes: usize,
        check: bool,
        gate: Option<Arc<SpaceGate>>,
        gathers: bool,
    ) -> Result<Self, TableFault> {
        let patient = Arc::new(AtomicBool::new(false));
        let db = contain(path, || {
            let gathered = gathers.then(Mutex::default);
            let backend = Backend { file: FileBackend::new(file)?, gate, patient: patient.clone(), gathered };
            let mut builder = Database::builder();
            builder.set_cache_size(cache_bytes).set_check_integrity_on_open(check);
            Ok(builder.create_with_backend(backend)?)
        })?;
        Ok(Self { db: Some(db), path: path.to_path_buf(), patient })
    }

    /// The file got its final name and is used from now on.
    pub(super) fn renamed(mut self, path: &Path) -> Self {
        self.path = path.to_path_buf();
        self.patient.store(true, Ordering::Relaxed);
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn db(&self) -> Result<&Database, redb::Error> {
        self.db.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// Closes the file cleanly.
    pub(super) fn close(mut self) -> Result<(), TableFault> {
        match self.db.take() {
            Some(db) => contain(&self.path, || Ok(db.close()?)),
            None => Ok(()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whatever closing meets, the file is as crash-safe as before.
        let db = self.db.take();
        let _ = quiet(|| drop(db));
    }
}

/// One picture of the file, as of a commit. Reads never block writes.
pub(super) struct Base {
    history: ReadOnlyTable<&'static [u8; KEY_LEN], &'static [u8]>,
    small: ReadOnlyTable<&'static [u8], &'static [u8]>,
    sheet: Sheet,
    // After the tables: the transaction ends before the file can close.
    store: Arc<Store>,
}

impl Base {
    /// The picture as of now. Its counts are compared with redb's own.
    pub(super) fn new(store: &Arc<Store>) -> Result<Self, TableFault> {
        let path = store.path();
        let (history, small, lens, sheet) = contain(path, || {
            let read = store.db()?.begin_read()?;
            let history = read.open_table(HISTORY)?;
            let small = read.open_table(SMALL)?;
            let sheet = read.open_table(ABOUT)?.get(SHEET_KEY)?.map(|v| Sheet::decode(v.value()));
            let lens = (history.len()?, small.len()?);
            Ok((history, small, lens, sheet))
        })?;
        let sheet =
            sheet.ok_or_else(|| damaged(path, "the sheet of counts is missing"))?.map_err(|e| damaged(path, e))?;
        if lens != (sheet.records, sheet.small) {
            let what = format!(
                "{} + {} records were written, but {} + {} are there",
                sheet.records, sheet.small, lens.0, lens.1
            );
            return Err(damaged(path, what));
        }
        Ok(Self { history, small, sheet, store: store.clone() })
    }

    pub(super) fn sheet(&self) -> &Sheet {
        &self.sheet
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The record at exactly this position, with whether it is a tombstone.
    pub(super) fn record(&self, at: Position) -> Result<Option<(bool, Bytes)>, TableFault> {
        let key = format::key(at);
        let found = contain(self.store.path(), || {
            let Some(guard) = self.history.get(&key)? else { return Ok(None) };
            let value = guard.value();
            Ok(Some(
                format::open_record(&key, value).map(|(tombstone, record)| (tombstone, Bytes::copy_from_slice(record))),
            ))
        })?;
        found.transpose().map_err(|e| self.damaged_at(at, e))
    }

    /// The last position of history.
    pub(super) fn last_position(&self) -> Result<Option<Position>, TableFault> {
        contain(self.store.path(), || Ok(self.history.last()?.map(|(k, _)| format::position(k.value()))))
    }

    /// Starts reading history in order.
    pub(super) fn reader(&self, from: Position, to: Position) -> Result<HistoryReader<'_>, TableFault> {
        let (low, high) = (format::key(from), format::key(to));
        let range = if low < high {
            Some(contain(self.store.path(), || Ok(self.history.range::<&[u8; KEY_LEN]>(&low..&high)?))?)
        } else {
            None
        };
        let whole = from == Position::default() && to == POSITION_MAX;
        Ok(HistoryReader { base: self, range, whole: whole.then(Sheet::default) })
    }

    /// Reads all small buckets and compares count and sum with the sheet.
    pub(super) fn check_small(&self) -> Result<(), TableFault> {
        let path = self.store.path();
        let met = contain(path, || {
            let mut met = Sheet::default();
            for row in self.small.iter()? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                if let Err(e) = format::open(key, value) {
                    return Ok(Err(e));
                }
                met.small_added(key, value);
            }
            Ok(Ok(met))
        })?
        .map_err(|e| damaged(path, format!("a small bucket: {e}")))?;
        if (met.small, met.small_sum) == (self.sheet.small, self.sheet.small_sum) {
            return Ok(());
        }
        Err(damaged(
            path,
            format!("{} rows of small buckets were written, but {} other ones are there", self.sheet.small, met.small),
        ))
    }

    /// Reads all of history, each record checked, and compares count and sum with the sheet. Two threads read a half
    /// each.
    pub(super) fn check_history(&self) -> Result<Tally, TableFault> {
        let ends = contain(self.store.path(), || Ok((self.history.first()?, self.history.last()?)))?;
        let (Some((first, _)), Some((last, _))) = ends else { return self.must_be_whole(Tally::default()) };
        let (low, high) = (format::position(first.value()).main, format::position(last.value()).main);
        let middle = Position { main: low + (high - low) / 2, sub: 0 };
        let (lower, upper) = std::thread::scope(|scope| {
            let lower = scope.spawn(|| self.tally_of(Bound::Unbounded, Bound::Excluded(&format::key(middle))));
            let upper = self.tally_of(Bound::Included(&format::key(middle)), Bound::Unbounded);
            (lower.join().unwrap_or_else(|_| Err(damaged(self.store.path(), "the reader stopped"))), upper)
        });
        let mut met = lower?;
        met += upper?;
        self.must_be_whole(met)
    }

    fn tally_of(&self, low: Bound<&[u8; KEY_LEN]>, high: Bound<&[u8; KEY_LEN]>) -> Result<Tally, TableFault> {
        let met = contain(self.store.path(), || {
            let mut met = Tally::default();
            for row in self.history.range::<&[u8; KEY_LEN]>((low, high))? {
                let (key, value) = row?;
                if let Err(e) = format::open_record(key.value(), value.value()) {
                    return Ok(Err((format::position(key.value()), e)));
                }
                met += Tally { records: 1, sum: u64::from(format::crc_of(value.value())) };
            }
            Ok(Ok(met))
        })?;
        met.map_err(|(at, e)| self.damaged_at(at, e))
    }

    fn must_be_whole(&self, met: Tally) -> Result<Tally, TableFault> {
        let (records, sum) = (self.sheet.records, self.sheet.sum);
        if met == (Tally { records, sum }) {
            return Ok(met);
        }
        let what = format!(
            "{records} records with checksum sum {sum:016x} were written, but {} with {:016x} were read",
            met.records, met.sum
        );
        Err(damaged(self.store.path(), what))
    }

    /// Visits a small bucket in key order.
    pub(super) fn bucket(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        let number = format::bucket_number(bucket);
        let (low, high) = ([number], [number + 1]);
        let path = self.store.path();
        let mut range = contain(path, || {
            Ok(self.small.range::<&[u8]>((Bound::Included(&low[..]), Bound::Excluded(&high[..])))?)
        })?;
        loop {
            // Also taking a value out of its page may panic, where the page lies about its length.
            let row = contain(path, || {
                Ok(range.next().transpose()?.map(|(key, value)| {
                    let (key, value) = (key.value(), value.value());
                    format::open(key, value).map(|value| (key.to_vec(), value.to_vec()))
                }))
            })?;
            match row {
                None => return Ok(()),
                Some(Ok((key, value))) => visit(&key[1..], &value),
                Some(Err(e)) => return Err(damaged(path, format!("bucket {}: {e}", bucket.name()))),
            }
        }
    }

    fn damaged_at(&self, at: Position, what: impl std::fmt::Display) -> TableFault {
        damaged(self.store.path(), format!("record at revision {}.{}: {what}", at.main, at.sub))
    }
}

/// Beyond every position that is used.
pub(super) const POSITION_MAX: Position = Position { main: i64::MAX, sub: u32::MAX };

/// A record as read from the file.
pub(super) type ReadRecord = (Position, bool, Bytes);

/// Reads history in order, a batch at a time, each record checked.
pub(super) struct HistoryReader<'a> {
    base: &'a Base,
    range: Option<redb::Range<'static, &'static [u8; KEY_LEN], &'static [u8]>>,
    /// Own count, when all is read.
    whole: Option<Sheet>,
}

impl HistoryReader<'_> {
    /// Up to `limit` records; none at the end. The records of a batch share one allocation.
    ///
    /// At the end of a reading of everything, the counts must be those of the sheet.
    pub(super) fn batch(&mut self, limit: usize, bytes_max: usize) -> Result<Vec<ReadRecord>, TableFault> {
        let Some(range) = self.range.as_mut() else { return Ok(Vec::new()) };
        let whole = &mut self.whole;
        let mut heads: Vec<(Position, bool, usize)> = Vec::with_capacity(limit.min(1024));
        let mut data = BytesMut::new();
        let bad = contain(self.base.store.path(), || {
            while heads.len() < limit && data.len() < bytes_max {
                let Some(next) = range.next() else { break };
                let (key, value) = next?;
                let (key, value) = (key.value(), value.value());
                match format::open_record(key, value) {
                    Ok((tombstone, record)) => {
                        if let Some(sheet) = whole.as_mut() {
                            sheet.record_added(value);
                        }
                        data.extend_from_slice(record);
                        heads.push((format::position(key), tombstone, record.len()));
                    }
                    Err(e) => return Ok(Some((format::position(key), e))),
                }
            }
            Ok(None)
        })?;
        if let Some((at, e)) = bad {
            return Err(self.base.damaged_at(at, e));
        }
        if heads.is_empty() {
            self.range = None;
            self.compare()?;
        }
        let mut data = data.freeze();
        Ok(heads.into_iter().map(|(at, tombstone, len)| (at, tombstone, data.split_to(len))).collect())
    }

    fn compare(&mut self) -> Result<(), TableFault> {
        let Some(met) = self.whole.take() else { return Ok(()) };
        self.base.must_be_whole(Tally { records: met.records, sum: met.sum }).map(drop)
    }
}

/// redb's own file access, except that a write for which there is no room waits for some, and that a file that is being
/// built is written in long runs.
#[derive(Debug)]
struct Backend {
    file: FileBackend,
    gate: Option<Arc<SpaceGate>>,
    patient: Arc<AtomicBool>,
    /// For a file that is written once, in order: what was written and not yet given to the system.
    gathered: Option<Mutex<Gathered>>,
}

/// Writes to places that do not overlap.
#[derive(Debug, Default)]
struct Gathered {
    /// Offset in the file to offset in `bytes` and length.
    places: BTreeMap<u64, (usize, usize)>,
    bytes: Vec<u8>,
    /// Writes that follow one another in the file, put together.
    run: Vec<u8>,
}

impl Gathered {
    fn overlaps(&self, offset: u64, len: usize) -> bool {
        let end = offset + len as u64;
        self.places.range(..end).next_back().is_some_and(|(begin, (_, len))| begin + *len as u64 > offset)
    }
}

/// Bytes that are gathered before they are written. redb writes page by page and not quite in order, and a system call a
/// page costs as much as all the rest of a restore.
const GATHERED_BYTES: usize = 2 << 20;

impl Backend {
    fn patient(&self, mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        loop {
            match work() {
                Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    match &self.gate {
                        Some(gate) if self.patient.load(Ordering::Relaxed) && gate.wait_after_refusal() => {}
                        _ => return Err(e),
                    }
                }
                other => return other,
            }
        }
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.patient(|| self.file.write(offset, data))
    }

    /// Gives the system what was gathered. A refusal leaves it gathered.
    fn write_gathered(&self) -> io::Result<()> {
        match &self.gathered {
            Some(gathered) => self.empty(&mut gathered.lock()),
            None => Ok(()),
        }
    }

    fn empty(&self, gathered: &mut Gathered) -> io::Result<()> {
        let Gathered { places, bytes, run } = gathered;
        let mut begin = 0;
        run.clear();
        for (offset, (at, len)) in &*places {
            if begin + run.len() as u64 != *offset {
                self.write_run(begin, run)?;
                begin = *offset;
            }
            run.extend_from_slice(&bytes[*at..at + len]);
        }
        self.write_run(begin, run)?;
        places.clear();
        bytes.clear();
        Ok(())
    }

    fn write_run(&self, offset: u64, run: &mut Vec<u8>) -> io::Result<()> {
        if !run.is_empty() {
            self.write_now(offset, run)?;
            run.clear();
        }
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.write_gathered()?;
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.write_gathered()?;
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_gathered()?;
        self.patient(|| self.file.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.write_gathered()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(gathered) = &self.gathered else { return self.write_now(offset, data) };
        let mut gathered = gathered.lock();
        if gathered.bytes.len() + data.len() > GATHERED_BYTES || gathered.overlaps(offset, data.len()) {
            self.empty(&mut gathered)?;
        }
        if data.len() > GATHERED_BYTES {
            return self.write_now(offset, data);
        }
        let place = (gathered.bytes.len(), data.len());
        gathered.places.insert(offset, place);
        gathered.bytes.extend_from_slice(data);
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        self.write_gathered()?;
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// Bytes that a file takes on its disk: redb extends files far ahead of what it writes.
pub(super) fn disk_bytes(path: &Path) -> Result<u64, TableFault> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path).map_err(|e| io_fault(path, e))?;
    Ok(meta.len().min(meta.blocks() * 512))
}
