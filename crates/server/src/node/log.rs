//! The log on disk, as the raft thread uses it: on the spot for a member that votes alone, on a thread of its own among
//! others.
//!
//! ```text
//! alone           append, sync; then raft goes on            nobody waits for a heartbeat, and a hop would only cost
//! among others    orders ─▶ `wal` thread: append each, one sync for all that gathered ─▶ reports ─▶ raft thread
//! ```
//! A disk that takes its time so stops no heartbeat. What relies on a write is said when its report has come, in order.
//! One round of proposals is under way at a time: the next gathers meanwhile, and that is the group commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eyrie_disk::wal::{Wal, WalError};
use eyrie_raft::{Entry, Finished, HardState, LogStart, Message, UnderWay};
use parking_lot::{Condvar, Mutex};

use super::{Fatal, Shared};
use crate::limits::{FULL_DISK_RETRY, LOG_BYTES_UNDER_WAY_MAX};

/// See the module.
pub(super) enum Log {
    /// The raft thread writes.
    Here(Box<Wal>),
    /// A thread of its own writes.
    Away(Away),
    /// It was lost with a thread that failed.
    Lost,
}

/// One write.
pub(super) struct Write {
    /// The number of the work that asks for it.
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) hard_state: Option<HardState>,
    /// To be said when it is done.
    pub(super) later: Vec<Message>,
}

/// Whether what is to be proposed has room.
pub(super) enum Room {
    /// For certain.
    Yes,
    /// The thread is asked: ask again when it has answered.
    Later,
    /// None.
    No(WalError),
}

/// The raft thread's end.
pub(super) struct Away {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<Wal>>,
    under_way: UnderWay,
    /// Since when the oldest write is under way.
    since: Option<Instant>,
    /// Bytes that can still be proposed for certain.
    room: u64,
    asked_for_room: bool,
    /// There was none for what was asked.
    refused: Option<WalError>,
    unsettled: bool,
    start_index: u64,
}

/// What lies between the two threads.
#[derive(Default)]
struct Desk {
    orders: Mutex<VecDeque<Order>>,
    ordered: Condvar,
    report: Mutex<Report>,
    /// The member stops: whoever waits for room on the disk gives up.
    give_up: AtomicBool,
    /// The thread has ended as it should.
    ended: AtomicBool,
}

enum Order {
    Write(u64, Vec<Entry>, Option<HardState>),
    Room(u64),
    Release(LogStart),
    Settle,
    Return,
}

#[derive(Default)]
struct Report {
    up_to: Option<u64>,
    room: Option<u64>,
    /// There is no room for what was asked.
    refused: Option<WalError>,
    failed: Option<WalError>,
}

impl Log {
    /// The log itself, which must be here.
    pub(super) fn wal(&mut self) -> Result<&mut Wal, Fatal> {
        match self {
            Log::Here(wal) => Ok(wal),
            Log::Away(_) | Log::Lost => Err(Fatal::panicked("wal")),
        }
    }

    pub(super) fn is_away(&self) -> bool {
        !matches!(self, Log::Here(_))
    }

    /// Gives it to a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn send_away(&mut self, shared: &Arc<Shared>, fsync: bool) -> Result<(), Fatal> {
        let mut wal = match std::mem::replace(self, Log::Lost) {
            Log::Here(wal) => wal,
            other => {
                *self = other;
                return Ok(());
            }
        };
        let desk = Arc::new(Desk::default());
        let (room, start_index) = (wal.room_ahead(), wal.start().index);
        let clerk = Clerk { desk: desk.clone(), shared: shared.clone(), fsync };
        let thread = std::thread::Builder::new().name("wal".into()).spawn(move || clerk.run(*wal));
        let thread = thread.map_err(|error| Fatal::Other(format!("can't start the log's thread: {error}")))?;
        *self = Log::Away(Away {
            desk,
            thread: Some(thread),
            under_way: UnderWay::default(),
            since: None,
            room,
            asked_for_room: false,
            refused: None,
            unsettled: false,
            start_index,
        });
        Ok(())
    }

    /// Takes it back, when all that was ordered is done. `wait` is called again and again until then; when it says `true`,
    /// waiting for room on the disk is given up.
    ///
    /// # Errors
    /// The thread failed to write.
    pub(super) fn take_back(&mut self, mut wait: impl FnMut() -> bool) -> Result<Finished, Fatal> {
        let Log::Away(away) = self else { return Ok(Finished::default()) };
        away.desk.order(Order::Return);
        while away.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if wait() {
                away.desk.give_up.store(true, Ordering::Release);
            }
        }
        let finished = away.reports()?;
        let wal = away.thread.take().map(JoinHandle::join);
        let Some(Ok(wal)) = wal else { return Err(Fatal::panicked("wal")) };
        *self = Log::Here(Box::new(wal));
        Ok(finished)
    }

    /// The member stops: a write that waits for room on the disk fails instead.
    pub(super) fn give_up_waiting(&self) {
        if let Log::Away(away) = self {
            away.desk.give_up.store(true, Ordering::Release);
        }
    }

    /// What was done since the last call.
    ///
    /// # Errors
    /// The thread failed to write, or ended.
    pub(super) fn finished(&mut self) -> Result<Finished, Fatal> {
        match self {
            Log::Here(_) => Ok(Finished::default()),
            Log::Away(away) => away.reports(),
            Log::Lost => Err(Fatal::panicked("wal")),
        }
    }

    /// Proposals wait: a round is under way.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Log::Away(away) if away.asked_for_room || away.under_way.bytes() > 0)
    }

    /// More is under way than should be: no entries are taken in from others.
    pub(super) fn is_flooded(&self) -> bool {
        matches!(self, Log::Away(away) if away.under_way.bytes() > LOG_BYTES_UNDER_WAY_MAX)
    }

    /// For how long the oldest write has been under way.
    pub(super) fn stalled_for(&self) -> Duration {
        match self {
            Log::Away(Away { since: Some(since), .. }) => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Whether so much can be proposed.
    pub(super) fn room(&mut self, data_bytes: u64, entries: u64) -> Room {
        match self {
            Log::Here(wal) => wal.ensure_room(data_bytes, entries).map_or_else(Room::No, |()| Room::Yes),
            Log::Away(away) => away.room(Wal::need(data_bytes, entries)),
            Log::Lost => Room::Later,
        }
    }

    /// Orders a write; what has nothing to write waits for those before it. Only while the log is away.
    pub(super) fn order(&mut self, write: Write) {
        let Log::Away(away) = self else { return };
        let Write { number, entries, hard_state, later } = write;
        let writes = !entries.is_empty() || hard_state.is_some();
        let data: usize = entries.iter().map(|entry| entry.data.len()).sum();
        away.under_way.order(number, writes.then(|| Wal::need(data as u64, entries.len() as u64)), later);
        if writes {
            away.since.get_or_insert_with(Instant::now);
            away.unsettled = true;
            away.desk.order(Order::Write(number, entries, hard_state));
        }
    }

    /// Writes down, while nothing else is to do, how far the log is synced.
    ///
    /// # Errors
    /// As for a write.
    pub(super) fn settle(&mut self) -> Result<(), Fatal> {
        match self {
            Log::Here(wal) => wal.settle().map_err(Fatal::wal),
            Log::Away(away) => {
                if away.unsettled && away.under_way.is_empty() {
                    away.unsettled = false;
                    away.desk.order(Order::Settle);
                }
                Ok(())
            }
            Log::Lost => Ok(()),
        }
    }

    /// Where the log begins, or will when what was ordered is done.
    pub(super) fn start_index(&self) -> u64 {
        match self {
            Log::Here(wal) => wal.start().index,
            Log::Away(away) => away.start_index,
            Log::Lost => u64::MAX,
        }
    }

    /// Drops whole segments before `start`.
    ///
    /// # Errors
    /// As for a write.
    pub(super) fn release_before(&mut self, start: LogStart) -> Result<(), Fatal> {
        match self {
            Log::Here(wal) => wal.release_before(&start).map_err(Fatal::wal),
            Log::Away(away) => {
                away.start_index = start.index;
                away.desk.order(Order::Release(start));
                Ok(())
            }
            Log::Lost => Ok(()),
        }
    }
}

impl Away {
    fn reports(&mut self) -> Result<Finished, Fatal> {
        let report = std::mem::take(&mut *self.desk.report.lock());
        if let Some(error) = report.failed {
            return Err(Fatal::wal(error));
        }
        let finished = self.under_way.finished(report.up_to);
        if report.up_to.is_some() {
            // The next one begins now, as far as is known here.
            self.since = (self.under_way.bytes() > 0).then(Instant::now);
        }
        if let Some(room) = report.room {
            self.room = room.saturating_sub(self.under_way.bytes());
            self.asked_for_room = false;
        }
        self.refused = report.refused.or(self.refused.take());
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) && !self.desk.ended.load(Ordering::Acquire) {
            return Err(Fatal::panicked("wal"));
        }
        Ok(finished)
    }

    fn room(&mut self, need: u64) -> Room {
        if self.asked_for_room {
            return Room::Later;
        }
        if let Some(error) = self.refused.take() {
            return Room::No(error);
        }
        if need <= self.room {
            self.room -= need;
            return Room::Yes;
        }
        self.asked_for_room = true;
        self.desk.order(Order::Room(need));
        Room::Later
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.desk.give_up.store(true, Ordering::Release);
        self.desk.order(Order::Return);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn order(&self, order: Order) {
        self.orders.lock().push_back(order);
        self.ordered.notify_one();
    }

    fn next(&self) -> VecDeque<Order> {
        let mut orders = self.orders.lock();
        while orders.is_empty() {
            self.ordered.wait(&mut orders);
        }
        std::mem::take(&mut orders)
    }
}

/// The thread's end.
struct Clerk {
    desk: Arc<Desk>,
    shared: Arc<Shared>,
    fsync: bool,
}

impl Clerk {
    fn run(self, mut wal: Wal) -> Wal {
        loop {
            match self.work(&mut wal) {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => {
                    self.desk.report.lock().failed = Some(error);
                    break;
                }
            }
        }
        self.desk.ended.store(true, Ordering::Release);
        self.shared.inbox.wake();
        wal
    }

    /// Does all orders that wait. Returns whether the log was asked back.
    fn work(&self, wal: &mut Wal) -> Result<bool, WalError> {
        let mut written = None;
        let mut refused = None;
        let mut give_back = false;
        for order in self.desk.next() {
            match order {
                Order::Write(number, entries, hard_state) => {
                    self.append(wal, &entries, hard_state.as_ref())?;
                    written = Some(number);
                }
                Order::Room(need) => match wal.ensure_room(need, 0) {
                    Ok(()) => {}
                    Err(error @ WalError::NoSpace { .. }) => refused = Some(error),
                    Err(error) => return Err(error),
                },
                Order::Release(start) => {
                    self.report(wal, written.take(), None)?;
                    wal.release_before(&start)?;
                }
                Order::Settle => wal.settle()?,
                Order::Return => give_back = true,
            }
        }
        self.report(wal, written, refused)?;
        Ok(give_back)
    }

    /// Syncs what was written, and says so.
    fn report(&self, wal: &mut Wal, written: Option<u64>, refused: Option<WalError>) -> Result<(), WalError> {
        if written.is_some() && self.fsync {
            let begun = Instant::now();
            wal.sync()?;
            self.shared.metrics.disk.wal_fsync.observe(begun.elapsed().as_secs_f64());
        }
        {
            let mut report = self.desk.report.lock();
            report.up_to = written.or(report.up_to);
            report.room = Some(wal.room_ahead());
            report.refused = refused.or(report.refused.take());
        }
        self.shared.inbox.wake();
        Ok(())
    }

    /// Writes to the log. A disk without room is waited for: nothing that is being written has been answered yet.
    fn append(&self, wal: &mut Wal, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), WalError> {
        while let Err(error) = wal.append(entries, hard_state) {
            let full = matches!(error, WalError::NoSpace { .. });
            if !full || self.desk.give_up.load(Ordering::Acquire) {
                return Err(error);
            }
            self.shared.disk_full.raise(&error);
            std::thread::sleep(FULL_DISK_RETRY);
        }
        Ok(())
    }
}
