//! Whole tables that arrive from another member: one at a time, on a thread of their own.
//!
//! ```text
//! connection ─▶ pieces ─▶ thread: Incoming ─▶ whole ─▶ raft judges ─▶ answer
//!      └ breaks: the part is kept ─▶ the sender asks for its place ─▶ a new connection brings the rest
//! ```
//! What arrives is built beside the tables in use and takes their place only when it is whole. The thread ends when nothing
//! arrives any more, and a part that nobody goes on with ends with it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use eyrie_api::peer::SnapshotPiece;
use eyrie_disk::transfer::Incoming;
use eyrie_raft::Message;
use eyrie_state::{LogIndex, Term};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::{Status, Streaming};

use crate::limits::{SNAPSHOT_LET_GO_MAX, SNAPSHOT_PART_KEPT, SNAPSHOT_PIECES_WAITING_MAX, SNAPSHOT_RESUME_PAUSE};
use crate::log_info;
use crate::node::{Item, Shared};

/// Which snapshot: the sender's process, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) from: u64,
    pub(super) instance: u64,
    pub(super) number: u64,
}

/// How much of a snapshot is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrivedSoFar {
    Whole,
    Pieces(u64),
}

/// See the module.
#[derive(Default)]
pub(super) struct Arrivals {
    now: Mutex<Now>,
    /// Told to a connection that may be dead: its place is wanted.
    let_go: Notify,
}

#[derive(Default)]
struct Now {
    /// What is being taken in.
    busy: Option<Name>,
    /// What broke off, and the pieces of it that are kept.
    part: Option<(Name, u64)>,
    /// What arrived last.
    whole: Option<Name>,
    /// Leads to the thread, if it runs.
    thread: Option<(SyncSender<Stretch>, JoinHandle<()>)>,
}

impl Now {
    /// A thread that ended on a bug has let go of all that it had.
    fn look(&mut self) {
        if self.thread.as_ref().is_some_and(|(_, thread)| thread.is_finished()) {
            *self = Self { whole: self.whole, ..Self::default() };
        }
    }
}

/// What one connection brings.
struct Stretch {
    shared: Arc<Shared>,
    name: Name,
    /// The number of its first piece; 0 begins anew.
    first: u64,
    message: Message,
    pieces: mpsc::Receiver<Bytes>,
    outcome: oneshot::Sender<Result<(), String>>,
}

/// The connection's end of a stretch.
pub(super) struct Arrival {
    arrivals: Arc<Arrivals>,
    give: Option<mpsc::Sender<Bytes>>,
    pub(super) outcome: oneshot::Receiver<Result<(), String>>,
}

impl Arrivals {
    /// Takes in the pieces from number `first` on.
    ///
    /// # Errors
    /// Another one is being taken in, or what comes before `first` is not here (any more).
    pub(super) fn begin(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        name: Name,
        first: u64,
        message: Message,
    ) -> Result<Arrival, Status> {
        let mut now = self.now.lock();
        now.look();
        if now.busy.is_some() {
            return Err(Status::resource_exhausted("another snapshot is being taken in"));
        }
        if first > 0 && now.part != Some((name, first)) {
            return Err(Status::out_of_range("the part before that is not here any more"));
        }
        let (give, pieces) = mpsc::channel(SNAPSHOT_PIECES_WAITING_MAX);
        let (tell, outcome) = oneshot::channel();
        let stretch = Stretch { shared: shared.clone(), name, first, message, pieces, outcome: tell };
        if now.thread.is_none() {
            let (orders, taken) = sync_channel(1);
            let arrivals = Arc::downgrade(self);
            let body = move || take_in_all(&arrivals, &taken);
            let started = std::thread::Builder::new().name("snapshot-take".into()).spawn(body);
            let thread =
                started.map_err(|error| Status::resource_exhausted(format!("can't start a thread: {error}")))?;
            now.thread = Some((orders, thread));
        }
        // There is room for one, and it is taken up before `busy` ends.
        let ordered = now.thread.as_ref().is_some_and(|(orders, _)| orders.try_send(stretch).is_ok());
        if !ordered {
            return Err(Status::unavailable("the thread that takes snapshots in has ended"));
        }
        (now.busy, now.part) = (Some(name), None);
        Ok(Arrival { arrivals: self.clone(), give: Some(give), outcome })
    }

    /// How much of it is here, after what was left of its connection has ended.
    ///
    /// # Errors
    /// It is being taken in, or another one is.
    pub(super) async fn place(&self, name: Name) -> Result<ArrivedSoFar, Status> {
        let end = Instant::now() + SNAPSHOT_LET_GO_MAX;
        loop {
            {
                let mut now = self.now.lock();
                now.look();
                match now.busy {
                    None if now.whole == Some(name) => return Ok(ArrivedSoFar::Whole),
                    None => {
                        let part = now.part.filter(|(kept, _)| *kept == name);
                        return Ok(ArrivedSoFar::Pieces(part.map_or(0, |(_, pieces)| pieces)));
                    }
                    Some(busy) if busy != name => {
                        return Err(Status::resource_exhausted("another snapshot is being taken in"));
                    }
                    Some(_) if Instant::now() > end => {
                        return Err(Status::unavailable("what has arrived is still being written"));
                    }
                    Some(_) => self.let_go.notify_waiters(),
                }
            }
            tokio::time::sleep(SNAPSHOT_RESUME_PAUSE / 10).await;
        }
    }

    /// A stretch has ended: well, not, or with a part that is kept.
    fn ended(&self, name: Name, whole: bool, part: Option<u64>) {
        let mut now = self.now.lock();
        now.busy = None;
        now.part = part.map(|pieces| (name, pieces));
        if whole {
            now.whole = Some(name);
        }
    }

    /// Whether the thread may end: nothing was ordered meanwhile.
    fn may_end(&self) -> bool {
        let mut now = self.now.lock();
        if now.busy.is_some() {
            return false;
        }
        (now.thread, now.part) = (None, None);
        true
    }
}

impl Arrival {
    /// Hands on all that the connection brings, until it ends, breaks, or is to let go.
    pub(super) async fn hear(&mut self, mut stream: Streaming<SnapshotPiece>) {
        let Some(give) = self.give.take() else { return };
        let arrivals = self.arrivals.clone();
        loop {
            let let_go = arrivals.let_go.notified();
            let piece = tokio::select! {
                piece = stream.message() => piece,
                () = let_go => return,
            };
            let Ok(Some(piece)) = piece else { return };
            if give.send(piece.piece).await.is_err() {
                return;
            }
        }
    }
}

fn take_in_all(arrivals: &Weak<Arrivals>, stretches: &Receiver<Stretch>) {
    let mut part: Option<Incoming> = None;
    loop {
        let stretch = stretches.recv_timeout(SNAPSHOT_PART_KEPT);
        let Some(arrivals) = arrivals.upgrade() else { return };
        let Ok(mut stretch) = stretch else {
            if arrivals.may_end() {
                return;
            }
            continue;
        };
        let (shared, name) = (stretch.shared.clone(), stretch.name);
        shared.metrics.server.snapshot_apply_in_progress.inc();
        // An older part is gone before a new one takes its name.
        let begun = part.take().filter(|part| stretch.first > 0 && part.pieces() == stretch.first);
        let taken = take_in(&shared.data_dir, begun, &mut stretch);
        shared.metrics.server.snapshot_apply_in_progress.dec();
        let outcome = match taken {
            Ok(Taken::Part(incoming)) => {
                arrivals.ended(name, false, Some(incoming.pieces()));
                part = Some(incoming);
                Err("the connection broke; what has arrived is kept for a while".into())
            }
            Ok(Taken::Whole(whole)) => {
                let judged = judge(&shared, stretch.message, whole);
                arrivals.ended(name, judged.is_ok(), None);
                judged
            }
            Err(why) => {
                arrivals.ended(name, false, None);
                Err(why)
            }
        };
        let _ = stretch.outcome.send(outcome);
    }
}

enum Taken {
    Whole(PathBuf),
    Part(Incoming),
}

fn take_in(dir: &Path, part: Option<Incoming>, stretch: &mut Stretch) -> Result<Taken, String> {
    let mark = stretch.message.snapshot().ok_or("it offers no snapshot")?;
    let (peer, pieces) = (format!("{:x}", stretch.name.from), stretch.first);
    let fault = |fault: eyrie_disk::transfer::TransferFault| fault.to_string();
    let mut incoming = match part {
        Some(part) => {
            log_info!(
                "goes on with a snapshot of the store",
                "remote-peer-id" = &peer,
                "index" = &mark.index,
                "pieces" = &pieces
            );
            part
        }
        None if pieces > 0 => return Err("the part before that is not here any more".into()),
        None => {
            log_info!("receiving a snapshot of the store", "remote-peer-id" = &peer, "index" = &mark.index);
            Incoming::begin(dir).map_err(fault)?
        }
    };
    while let Some(piece) = stretch.pieces.blocking_recv() {
        incoming.take(&piece).map_err(fault)?;
    }
    if incoming.is_ended() {
        incoming.finish((LogIndex(mark.index), Term(mark.term))).map(Taken::Whole).map_err(fault)
    } else {
        Ok(Taken::Part(incoming))
    }
}

/// Has raft judge tables that arrived whole.
fn judge(shared: &Shared, message: Message, whole: PathBuf) -> Result<(), String> {
    let (done, outcome) = oneshot::channel();
    shared.inbox.put_from_peer(vec![Item::SnapshotArrived { message, whole, done }]);
    match outcome.blocking_recv() {
        Ok(true) => Ok(()),
        Ok(false) => Err("it was not needed any more".into()),
        Err(_) => Err("the member is stopping".into()),
    }
}
