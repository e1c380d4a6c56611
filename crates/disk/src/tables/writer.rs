//! The thread that turns staged changes into commits.
//!
//! ```text
//! stage -> active buffer --freeze--> frozen --commit--> base (a new read transaction), frozen dropped
//! ```
//! A commit holds whole changes only, with the log position of the last one. Decides nothing but when.

use std::{
    collections::BTreeMap,
    mem,
    ops::Bound,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Instant,
};

use eyrie_state::{Change, LogIndex, Position, TableFault, TableOp, Term};
use parking_lot::{Condvar, Mutex, RwLock};

use super::{
    Options,
    buffer::{Buffer, Mark, Steps},
    build::drop_from,
    contain::{contain, damaged, io as io_fault},
    format::{self, ABOUT, HISTORY, KEY_LEN, SHEET_KEY, SMALL, Sheet},
    space::{RETRY, SpaceGate},
    store::{Base, Store},
    view::View,
};

/// Staged bytes beyond this many flushes make the stager wait.
const BACKLOG_FLUSHES: usize = 8;
/// While the disk is full nothing can be committed and the server refuses writes; what was agreed already must still
/// be staged. Beyond this the tables give up.
const FULL_DISK_BYTES_MAX: usize = 1 << 30;
/// Bytes that a commit may write beyond the staged ones: copied pages, bookkeeping.
const COMMIT_EXTRA_BYTES: u64 = 4 << 20;

/// What all parts share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) options: Options,
    pub(super) gate: Arc<SpaceGate>,
    mem: RwLock<Mem>,
    control: Mutex<Control>,
    to_writer: Condvar,
    to_others: Condvar,
    faulty: AtomicBool,
}

/// What readers see.
struct Mem {
    base: Arc<Base>,
    frozen: Arc<Vec<Arc<Buffer>>>,
    frozen_bytes: usize,
    active: Arc<Buffer>,
    active_bytes: usize,
    mark: Mark,
    applied: (LogIndex, Term),
    last: Option<Position>,
    /// Changes staged so far.
    staged: u64,
}

#[derive(Default)]
struct Control {
    /// When the oldest change in the active buffer was staged.
    waiting_since: Option<Instant>,
    urgent: bool,
    stop: bool,
    gone: bool,
    /// The disk is full: nothing is committed until there is room.
    stalled: bool,
    /// Changes that are durable.
    durable: u64,
    fault: Option<TableFault>,
    jobs: Vec<Job>,
}

/// Work for the writer thread, between two commits.
type Job = Box<dyn FnOnce(&mut Writer) + Send>;

impl Shared {
    pub(super) fn new(base: Base, options: Options, gate: Arc<SpaceGate>) -> Result<Self, TableFault> {
        let (applied, last) = (base.sheet().applied, base.last_position()?);
        Ok(Self {
            path: base.store().path().to_path_buf(),
            options,
            gate,
            mem: RwLock::new(Mem {
                base: Arc::new(base),
                frozen: Arc::default(),
                frozen_bytes: 0,
                active: Arc::default(),
                active_bytes: 0,
                mark: Mark::default(),
                applied,
                last,
                staged: 0,
            }),
            control: Mutex::default(),
            to_writer: Condvar::new(),
            to_others: Condvar::new(),
            faulty: AtomicBool::new(false),
        })
    }

    pub(super) fn view(&self) -> View {
        let mem = self.mem.read();
        View {
            base: mem.base.clone(),
            frozen: mem.frozen.clone(),
            active: mem.active.clone(),
            mark: mem.mark,
            applied: mem.applied,
        }
    }

    pub(super) fn base(&self) -> Arc<Base> {
        self.mem.read().base.clone()
    }

    pub(super) fn applied(&self) -> (LogIndex, Term) {
        self.mem.read().applied
    }

    pub(super) fn staged_bytes(&self) -> usize {
        let mem = self.mem.read();
        mem.active_bytes + mem.frozen_bytes
    }

    pub(super) fn check(&self) -> Result<(), TableFault> {
        if self.faulty.load(Ordering::Acquire) {
            return Err(self
                .control
                .lock()
                .fault
                .clone()
                .unwrap_or_else(|| io_fault(&self.path, "the tables are closed")));
        }
        Ok(())
    }

    /// Takes a change: visible at once. Waits while too much is staged.
    pub(super) fn stage(&self, change: Change) -> Result<(), TableFault> {
        self.check()?;
        let (was_empty, active_bytes, staged_bytes) = {
            let mut mem = self.mem.write();
            mem.last = check_order(&self.path, &change, mem.last)?;
            let was_empty = mem.active_bytes == 0;
            let (mark, bytes) = mem.active.push(change.ops, change.applied);
            mem.mark = mark;
            // A change without steps still moves the log position, and counts as something to commit.
            mem.active_bytes = bytes.max(1);
            mem.applied = change.applied.unwrap_or(mem.applied);
            mem.staged += 1;
            (was_empty, mem.active_bytes, mem.active_bytes + mem.frozen_bytes)
        };
        if was_empty || active_bytes > self.options.flush_bytes {
            let mut control = self.control.lock();
            control.waiting_since.get_or_insert_with(Instant::now);
            control.urgent |= active_bytes > self.options.flush_bytes;
            self.to_writer.notify_one();
        }
        if staged_bytes > self.options.flush_bytes * BACKLOG_FLUSHES { self.wait_for_room() } else { Ok(()) }
    }

    fn wait_for_room(&self) -> Result<(), TableFault> {
        let mut control = self.control.lock();
        loop {
            if let Some(fault) = &control.fault {
                return Err(fault.clone());
            }
            let staged = self.staged_bytes();
            if staged <= self.options.flush_bytes * BACKLOG_FLUSHES
                || (control.stalled && staged <= FULL_DISK_BYTES_MAX)
            {
                return Ok(());
            }
            if control.stalled {
                return Err(io_fault(
                    &self.path,
                    "no space left, and too much is waiting to be written; free some space and start again",
                ));
            }
            self.to_others.wait(&mut control);
        }
    }

    /// Waits until all that was staged is durable.
    pub(super) fn flush(&self) -> Result<(), TableFault> {
        let target = self.mem.read().staged;
        let mut control = self.control.lock();
        while control.durable < target {
            if let Some(fault) = &control.fault {
                return Err(fault.clone());
            }
            if control.gone {
                return Err(io_fault(&self.path, "the tables are closed"));
            }
            if control.stalled {
                return Err(io_fault(
                    &self.path,
                    "no space left to write the tables: free some space, writes then go on by themselves",
                ));
            }
            control.waiting_since.get_or_insert_with(Instant::now);
            control.urgent = true;
            self.to_writer.notify_one();
            self.to_others.wait(&mut control);
        }
        Ok(())
    }

    /// Runs `work` on the writer thread between two commits, and waits for its result.
    pub(super) fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> T + Send + 'static,
    ) -> Result<T, TableFault> {
        let (give, take) = mpsc::sync_channel(1);
        {
            let mut control = self.control.lock();
            if control.gone {
                return Err(control.fault.clone().unwrap_or_else(|| io_fault(&self.path, "the tables are closed")));
            }
            control.jobs.push(Box::new(move |writer| {
                let _ = give.send(work(writer));
            }));
            self.to_writer.notify_one();
        }
        take.recv().map_err(|_| self.check().err().unwrap_or_else(|| io_fault(&self.path, "the tables are closed")))
    }

    pub(super) fn stop(&self) {
        self.gate.stop();
        self.control.lock().stop = true;
        self.to_writer.notify_one();
    }
}

fn check_order(
    path: &std::path::Path,
    change: &Change,
    last: Option<Position>,
) -> Result<Option<Position>, TableFault> {
    let mut last = last;
    for op in &change.ops {
        if let TableOp::PutRecord { at, .. } = op {
            if at.main < 0 || last.is_some_and(|last| *at <= last) {
                return Err(damaged(
                    path,
                    format!("a record at revision {}.{} was to be added out of order", at.main, at.sub),
                ));
            }
            last = Some(*at);
        }
    }
    Ok(last)
}

/// The writer thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Positions dropped since it was last emptied, while a copy is being made.
    pub(super) drop_log: Option<Vec<Position>>,
    /// Files that were replaced and are closed when no view reads them any more.
    retired: Vec<Arc<Store>>,
    scratch: Vec<u8>,
}

enum Next {
    Stop,
    Jobs(Vec<Job>),
    Commit,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, drop_log: None, retired: Vec::new(), scratch: Vec::new() }
    }

    /// The thread's life: until told to stop, or until a fault.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let fault = loop {
            match self.next() {
                Next::Stop => break None,
                Next::Jobs(jobs) => jobs.into_iter().for_each(|job| job(&mut self)),
                Next::Commit => {
                    if let Err(fault) = self.commit() {
                        break Some(fault);
                    }
                }
            }
            self.retired.retain(|store| Arc::strong_count(store) > 1);
        };
        let mut control = shared.control.lock();
        control.fault = fault;
        control.gone = true;
        // Dropped jobs answer their callers with an error.
        control.jobs.clear();
        shared.faulty.store(true, Ordering::Release);
        shared.to_others.notify_all();
    }

    fn next(&self) -> Next {
        let mut control = self.shared.control.lock();
        loop {
            if control.stop {
                return Next::Stop;
            }
            if !control.jobs.is_empty() {
                return Next::Jobs(mem::take(&mut control.jobs));
            }
            let Some(since) = control.waiting_since else {
                self.shared.to_writer.wait(&mut control);
                continue;
            };
            let due = since + self.shared.options.flush_interval;
            if control.urgent || Instant::now() >= due {
                return Next::Commit;
            }
            self.shared.to_writer.wait_until(&mut control, due);
        }
    }

    fn commit(&mut self) -> Result<(), TableFault> {
        let shared = self.shared.clone();
        {
            // Asked under the lock that a stager takes after it staged: else its wake-up could be forgotten here.
            let mut control = shared.control.lock();
            if shared.staged_bytes() == 0 {
                (control.urgent, control.waiting_since) = (false, None);
                return Ok(());
            }
        }
        let need = shared.staged_bytes() as u64 * 2 + COMMIT_EXTRA_BYTES;
        if shared.gate.look(need).short {
            let mut control = shared.control.lock();
            control.stalled = true;
            shared.to_others.notify_all();
            if !control.stop {
                shared.to_writer.wait_for(&mut control, RETRY);
            }
            return Ok(());
        }
        {
            let mut control = shared.control.lock();
            (control.stalled, control.urgent, control.waiting_since) = (false, false, None);
        }
        let (frozen, base, staged) = self.freeze();
        let begun = Instant::now();
        let (sheet, drops) = contain(&shared.path, || self.write(&base, &frozen))??;
        shared.options.on_commit.tell(begun.elapsed());
        shared.gate.passed();
        let fresh = Base::new(base.store())?;
        if *fresh.sheet() != sheet {
            return Err(damaged(&shared.path, "what was just committed is not there"));
        }
        if let Some(log) = &mut self.drop_log {
            log.extend(drops);
        }
        self.publish(Arc::new(fresh));
        let mut control = shared.control.lock();
        control.durable = staged;
        shared.to_others.notify_all();
        Ok(())
    }

    fn freeze(&mut self) -> (Arc<Vec<Arc<Buffer>>>, Arc<Base>, u64) {
        let mut mem = self.shared.mem.write();
        let full = mem::take(&mut mem.active);
        let mut frozen = mem.frozen.to_vec();
        frozen.push(full);
        mem.frozen = Arc::new(frozen);
        mem.frozen_bytes += mem.active_bytes;
        mem.active_bytes = 0;
        mem.mark = Mark::default();
        (mem.frozen.clone(), mem.base.clone(), mem.staged)
    }

    /// Makes `base` what new views stand on. Everything frozen is in it.
    fn publish(&mut self, base: Arc<Base>) {
        let old = {
            let mut mem = self.shared.mem.write();
            mem.frozen_bytes = 0;
            (mem::replace(&mut mem.base, base), mem::take(&mut mem.frozen))
        };
        // Freed outside the lock.
        drop(old);
    }

    /// Puts a finished copy in the place of the file in use.
    pub(super) fn replace_store(&mut self, store: Store) -> Result<(), TableFault> {
        let fresh = Arc::new(Base::new(&Arc::new(store))?);
        self.retired.push(self.shared.base().store().clone());
        let old = mem::replace(&mut self.shared.mem.write().base, fresh);
        drop(old);
        Ok(())
    }

    pub(super) fn base(&self) -> Arc<Base> {
        self.shared.base()
    }

    /// One redb transaction with all frozen buffers, in order. The inner error is a record out of order.
    #[allow(clippy::type_complexity)]
    fn write(
        &mut self,
        base: &Base,
        frozen: &[Arc<Buffer>],
    ) -> Result<Result<(Sheet, Vec<Position>), TableFault>, redb::Error> {
        let mut sheet = *base.sheet();
        let mut all_drops = Vec::new();
        let mut w = base.store().db()?.begin_write()?;
        w.set_quick_repair(true);
        {
            let mut history = w.open_table(HISTORY)?;
            let mut small = w.open_table(SMALL)?;
            for buffer in frozen {
                let steps = buffer.steps();
                if !self.add_records(&mut history, &steps, &mut sheet)? {
                    return Ok(Err(damaged(&self.shared.path, "a record is out of order")));
                }
                let own = |at: &Position| steps.records.binary_search_by_key(at, |r| r.at).is_ok();
                let drops: Vec<Position> = steps.drops.keys().filter(|at| !own(at)).copied().collect();
                drop_from(&mut history, &drops, &mut sheet)?;
                all_drops.extend(drops);
                self.put_small(&mut small, &steps, &mut sheet)?;
                sheet.applied = steps.applied.unwrap_or(sheet.applied);
            }
            w.open_table(ABOUT)?.insert(SHEET_KEY, &sheet.encode()[..])?;
        }
        w.commit()?;
        Ok(Ok((sheet, all_drops)))
    }

    fn add_records(
        &mut self,
        history: &mut redb::Table<'_, &'static [u8; KEY_LEN], &'static [u8]>,
        steps: &Steps,
        sheet: &mut Sheet,
    ) -> Result<bool, redb::Error> {
        let mut cursor = history.upper_bound_mut(Bound::<&[u8; KEY_LEN]>::Unbounded)?;
        for r in steps.records.iter().filter(|r| !steps.drops.contains_key(&r.at)) {
            let key = format::key(r.at);
            format::seal_record(&key, r.tombstone, &r.record, &mut self.scratch);
            match cursor.insert_before(&key, &self.scratch[..]) {
                Ok(()) => sheet.record_added(&self.scratch),
                Err(redb::CursorError::Storage(e)) => return Err(e.into()),
                Err(_) => return Ok(false),
            }
        }
        cursor.close()?;
        Ok(true)
    }

    fn put_small(
        &mut self,
        small: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
        steps: &Steps,
        sheet: &mut Sheet,
    ) -> Result<(), redb::Error> {
        let rows: &BTreeMap<_, _> = &steps.small;
        for ((bucket, key), values) in rows {
            let Some((_, value)) = values.last() else { continue };
            let key = format::small_key(*bucket, key);
            match value {
                Some(value) => {
                    format::seal_small(&key, value, &mut self.scratch);
                    if let Some(old) = small.insert(&key[..], &self.scratch[..])? {
                        sheet.small_dropped(&key, old.value());
                    }
                    sheet.small_added(&key, &self.scratch);
                }
                None => {
                    if let Some(old) = small.remove(&key[..])? {
                        sheet.small_dropped(&key, old.value());
                    }
                }
            }
        }
        Ok(())
    }
}
