//! A new tables file, written once from records in order: for a new store, a restore, a migration, a defragmentation.
//!
//! Knows nothing of running tables.

use std::{
    fs::File,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use eyrie_state::{Bucket, LogIndex, Position, TableFault, Term};
use redb::Durability;

use super::{
    contain::{contain, damaged, io as io_fault},
    format::{self, ABOUT, HISTORY, KEY_LEN, SHEET_KEY, SMALL, Sheet},
    space::SpaceGate,
    store::Store,
};
use crate::atomic;

/// Bytes gathered before they are given to redb in one transaction.
const CHUNK_BYTES: usize = 8 << 20;
/// The same where others use the disk meanwhile.
const POLITE_CHUNK_BYTES: usize = 2 << 20;
const BUILD_CACHE_BYTES: usize = 64 << 20;

/// Records of history, sealed and in order, ready for a [`TablesBuilder`]. Made by another thread than the one that
/// writes.
#[derive(Default)]
pub struct Batch {
    keys: Vec<[u8; KEY_LEN]>,
    ends: Vec<usize>,
    values: Vec<u8>,
    tally: Tally,
}

/// How many records there are, and the sum of their checksums modulo 2^64. A checksum covers a record's position, its
/// kind and its bytes, so equal tallies of two readings mean equal history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Number of records.
    pub records: u64,
    /// Sum of their checksums.
    pub sum: u64,
}

impl Batch {
    /// Adds a record. Positions must grow.
    pub fn push(&mut self, at: Position, tombstone: bool, record: &[u8]) {
        let key = format::key(at);
        let crc = format::seal_record_onto(&key, tombstone, record, &mut self.values);
        self.keys.push(key);
        self.ends.push(self.values.len());
        self.tally.records += 1;
        self.tally.sum = self.tally.sum.wrapping_add(u64::from(crc));
    }

    /// As many bytes as a builder likes to be given at once.
    pub fn is_full(&self) -> bool {
        self.values.len() >= CHUNK_BYTES
    }

    /// What was added.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
        self.values.clear();
        self.tally = Tally::default();
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Builds a tables file. Until [`TablesBuilder::finish`] returns, the file is of no use to anyone.
pub struct TablesBuilder {
    store: Store,
    path: PathBuf,
    sheet: Sheet,
    last: Option<Position>,
    batch: Batch,
    small: Vec<(Vec<u8>, Vec<u8>)>,
    small_bytes: usize,
    chunk_bytes: usize,
    chunks: u64,
    /// Whether every chunk is made durable, so that no large backlog is left for the end.
    steady: bool,
    /// Another handle of the file, when it has no name.
    unnamed: Option<File>,
}

/// A whole and durable tables file that has no name: dropped, it never was.
pub struct UnnamedTables(File);

impl UnnamedTables {
    /// Gives it its name, durably. The name must be free, and on the same file system.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn name(&self, path: &Path) -> Result<(), TableFault> {
        atomic::name(&self.0, path).map_err(|e| io_fault(path, e))
    }
}

impl TablesBuilder {
    /// Begins a new file at `path`, replacing one that is there.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn create(path: &Path) -> Result<Self, TableFault> {
        Ok(Self::over(Store::create(path, BUILD_CACHE_BYTES, None)?, CHUNK_BYTES, false))
    }

    /// Begins a file that has no name yet, in `dir`; `None` where the file system has no such files. Nobody sees it, and
    /// it vanishes with the builder, until [`TablesBuilder::finish_unnamed`] and [`UnnamedTables::name`].
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn create_unnamed(dir: &Path) -> Result<Option<Self>, TableFault> {
        let Some(file) = atomic::create_unnamed(dir) else { return Ok(None) };
        let own = file.try_clone().map_err(|e| io_fault(dir, e))?;
        let mut builder = Self::over(Store::create_in(own, dir, BUILD_CACHE_BYTES)?, CHUNK_BYTES, false);
        builder.unnamed = Some(file);
        Ok(Some(builder))
    }

    /// Begins a file beside running tables: small steps, each made durable.
    pub(super) fn create_polite(path: &Path, cache_bytes: usize, gate: Arc<SpaceGate>) -> Result<Self, TableFault> {
        Ok(Self::over(Store::create(path, cache_bytes, Some(gate))?, POLITE_CHUNK_BYTES, true))
    }

    fn over(store: Store, chunk_bytes: usize, steady: bool) -> Self {
        Self {
            path: store.path().to_path_buf(),
            store,
            sheet: Sheet::default(),
            last: None,
            batch: Batch::default(),
            small: Vec::new(),
            small_bytes: 0,
            chunk_bytes,
            chunks: 0,
            steady,
            unnamed: None,
        }
    }

    /// Adds a record of history. Positions must grow.
    ///
    /// # Errors
    /// [`TableFault::Damaged`] when this position is not above the one before; [`TableFault::Io`].
    pub fn push_record(&mut self, at: Position, tombstone: bool, record: &[u8]) -> Result<(), TableFault> {
        if at.main < 0 || self.last.is_some_and(|last| at <= last) {
            let what = format!("record at revision {}.{} is out of order", at.main, at.sub);
            return Err(TableFault::Damaged { place: self.path.display().to_string(), what });
        }
        self.last = Some(at);
        self.batch.push(at, tombstone, record);
        self.write_if_full()
    }

    /// Adds a batch of records, whose positions are above all that were added before, and gives it back empty.
    ///
    /// # Errors
    /// [`TableFault::Damaged`] when a position is not above the one before; [`TableFault::Io`].
    pub fn push_batch(&mut self, batch: Batch) -> Result<Batch, TableFault> {
        self.write(self.durability())?;
        self.last = batch.keys.last().map(format::position).or(self.last);
        self.batch = batch;
        self.write(self.durability())?;
        Ok(std::mem::take(&mut self.batch))
    }

    /// Adds a row of a small bucket, or replaces it.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: &[u8]) -> Result<(), TableFault> {
        let key = format::small_key(bucket, key);
        let mut sealed = Vec::new();
        format::seal_small(&key, value, &mut sealed);
        self.small_bytes += key.len() + sealed.len();
        self.small.push((key, sealed));
        self.write_if_full()
    }

    /// Ends the file: durable, with the log position up to which it was built.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn finish(mut self, applied: (LogIndex, Term)) -> Result<(), TableFault> {
        self.seal(applied)?;
        let path = self.path;
        self.store.close()?;
        atomic::sync_dir(atomic::parent_of(&path)).map_err(|e| io_fault(&path, e))
    }

    /// Ends a file without a name: durable but for that.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn finish_unnamed(mut self, applied: (LogIndex, Term)) -> Result<UnnamedTables, TableFault> {
        self.seal(applied)?;
        self.store.close()?;
        let Some(file) = self.unnamed else { return Err(io_fault(&self.path, "this file has a name")) };
        file.sync_all().map_err(|e| io_fault(&self.path, e))?;
        Ok(UnnamedTables(file))
    }

    /// The last position added.
    pub(super) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Chunks given to redb so far.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    pub(super) fn sheet(&self) -> &Sheet {
        &self.sheet
    }

    /// Writes the sheet and makes all durable.
    pub(super) fn seal(&mut self, applied: (LogIndex, Term)) -> Result<(), TableFault> {
        self.write(Durability::None)?;
        self.sheet.applied = applied;
        let (store, sheet) = (&self.store, &self.sheet);
        contain(&self.path, || {
            let mut w = store.db()?.begin_write()?;
            w.set_quick_repair(true);
            // All three tables exist from the beginning.
            w.open_table(HISTORY)?;
            w.open_table(SMALL)?;
            w.open_table(ABOUT)?.insert(SHEET_KEY, &sheet.encode()[..])?;
            Ok(w.commit()?)
        })
    }

    /// The sealed file, still open.
    pub(super) fn into_store(self) -> Store {
        self.store
    }

    /// Takes records away again that were dropped since they were added.
    pub(super) fn drop_records(&mut self, positions: &[Position]) -> Result<(), TableFault> {
        self.write(self.durability())?;
        let (store, durability, mut sheet) = (&self.store, self.durability(), self.sheet);
        contain(&self.path, || {
            let mut w = store.db()?.begin_write()?;
            w.set_durability(durability)?;
            {
                let mut history = w.open_table(HISTORY)?;
                for at in positions {
                    if let Some(old) = history.remove(&format::key(*at))? {
                        sheet.record_dropped(old.value());
                    }
                }
            }
            Ok(w.commit()?)
        })?;
        self.sheet = sheet;
        Ok(())
    }

    fn write_if_full(&mut self) -> Result<(), TableFault> {
        if self.batch.values.len() + self.small_bytes < self.chunk_bytes {
            Ok(())
        } else {
            self.write(self.durability())
        }
    }

    fn durability(&self) -> Durability {
        if self.steady { Durability::Immediate } else { Durability::None }
    }

    fn write(&mut self, durability: Durability) -> Result<(), TableFault> {
        if self.batch.keys.is_empty() && self.small.is_empty() {
            return Ok(());
        }
        let Self { store, batch: Batch { keys, ends, values, .. }, small, path, .. } = self;
        let mut sheet = self.sheet;
        let in_order = contain(path, || {
            let mut w = store.db()?.begin_write()?;
            w.set_durability(durability)?;
            {
                let mut history = w.open_table(HISTORY)?;
                let mut cursor = history.upper_bound_mut(Bound::<&[u8; KEY_LEN]>::Unbounded)?;
                let mut begin = 0;
                for (key, end) in keys.iter().zip(ends.iter()) {
                    match cursor.insert_before(key, &values[begin..*end]) {
                        Ok(()) => {}
                        Err(redb::CursorError::Storage(e)) => return Err(e.into()),
                        Err(_) => return Ok(false),
                    }
                    sheet.record_added(&values[begin..*end]);
                    begin = *end;
                }
                cursor.close()?;
                let mut table = w.open_table(SMALL)?;
                for (key, value) in small.iter() {
                    if let Some(old) = table.insert(&key[..], &value[..])? {
                        sheet.small_dropped(key, old.value());
                    }
                    sheet.small_added(key, value);
                }
            }
            w.commit()?;
            Ok(true)
        })?;
        if !in_order {
            return Err(damaged(path, "a record is out of order"));
        }
        self.sheet = sheet;
        self.chunks += 1;
        self.batch.clear();
        self.small.clear();
        self.small_bytes = 0;
        Ok(())
    }
}

/// Removes from a write's table what is dropped, keeping count. Dense drops are taken out in one sweep.
pub(super) fn drop_from(
    history: &mut redb::Table<'_, &'static [u8; KEY_LEN], &'static [u8]>,
    drops: &[Position],
    sheet: &mut Sheet,
) -> Result<(), redb::Error> {
    let (Some(first), Some(last)) = (drops.first(), drops.last()) else { return Ok(()) };
    let span = last.main.saturating_sub(first.main).saturating_add(1);
    if drops.len() < SWEEP_MIN || span as u64 > drops.len() as u64 * SWEEP_SPARSE {
        for at in drops {
            if let Some(old) = history.remove(&format::key(*at))? {
                sheet.record_dropped(old.value());
            }
        }
        return Ok(());
    }
    let (low, high) = (format::key(*first), format::key(*last));
    let mut left = drops.iter().peekable();
    let swept = history.extract_from_if::<&[u8; KEY_LEN], _>(&low..=&high, move |key, _| {
        let at = format::position(key);
        while left.next_if(|d| **d < at).is_some() {}
        left.next_if(|d| **d == at).is_some()
    })?;
    for dropped in swept {
        sheet.record_dropped(dropped?.1.value());
    }
    Ok(())
}

/// Fewer drops than this are taken out one by one.
const SWEEP_MIN: usize = 64;
/// And so are drops of which fewer than one in so many revisions is one.
const SWEEP_SPARSE: u64 = 4;

/// All rows of `small` of one file, for another.
pub(super) fn copy_small(from: &super::store::Base, to: &mut TablesBuilder) -> Result<(), TableFault> {
    for bucket in Bucket::ALL {
        let mut result = Ok(());
        from.bucket(bucket, &mut |key, value| {
            if result.is_ok() {
                result = to.put(bucket, key, value);
            }
        })?;
        result?;
    }
    Ok(())
}
