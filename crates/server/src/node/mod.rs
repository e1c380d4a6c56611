//! The node: one member's raft thread and apply thread, and what all threads share.
//!
//! ```text
//! Store::propose ─▶ inbox ─▶ raft thread (log, one sync per round) ─▶ apply thread ─▶ state, watchers, leases
//!       ▲                                                                   │
//!       └──────────────────────────── answer ───────────────────────────────┘
//! ```

mod alone;
mod apply_thread;
mod forward;
mod found;
mod inbox;
mod install;
mod log;
mod pending;
mod progress;
mod propose;
mod raft_thread;
mod reads;
mod rebuild;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eyrie_disk::datadir::DirError;
use eyrie_disk::tables::{RedbTables, TablesHandle};
use eyrie_disk::wal::{Apart, WalError};
use eyrie_raft::{Entry, MembershipChange, RaftFault, SnapshotMark};
use eyrie_state::{ClusterId, Halt, Member, MemberId, State, TableFault};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

pub(crate) use apply_thread::Told;
pub(crate) use inbox::{Inbox, Item, Outcome, Placement, Proposal};
pub(crate) use start::{Started, start};

use self::pending::PendingProposals;
use self::progress::{DiskFull, Ending, Progress};
use self::reads::Named;
use crate::auth::Guard;
use crate::completions::Trays;
use crate::errors::ServeError;
use crate::lease::Lessor;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::watch::WatchHub;

/// The state over its durable tables.
pub(crate) type DurableState = State<RedbTables>;

/// Who this member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
}

/// What every thread of a member may touch.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) state: RwLock<DurableState>,
    /// The same tables that the state writes: for sizes, defragmentation, flushing. A snapshot brings others.
    pub(super) tables: RwLock<TablesHandle>,
    /// A snapshot is taking their place now.
    pub(crate) replacing_tables: AtomicBool,
    /// Where they are.
    pub(crate) data_dir: PathBuf,
    /// Bytes of the tables, as of the last look and with what was proposed since.
    pub(crate) table_bytes: AtomicU64,
    pub(crate) inbox: Inbox,
    pub(crate) pending: PendingProposals,
    pub(crate) trays: Arc<Trays<Outcome>>,
    /// The same for those who read.
    pub(crate) read_trays: Arc<Trays<Named>>,
    /// Changes of the members that were applied and that raft has not followed yet: by index, and `None` where the state
    /// refused.
    pub(super) changes: Mutex<Vec<(u64, Option<MembershipChange>)>>,
    pub(crate) peers: Peers,
    pub(crate) progress: Progress,
    /// The log's disk has no room.
    pub(crate) disk_full: DiskFull,
    /// The tables' disk has hardly any.
    pub(crate) tables_full: DiskFull,
    pub(crate) hub: WatchHub,
    pub(crate) lessor: Lessor,
    /// What tokens and passwords are worth.
    pub(crate) guard: Guard,
    pub(crate) metrics: Arc<Metrics>,
    /// Damage was found, and the operator was told.
    pub(crate) damage_said: AtomicBool,
    pub(crate) applied_moved: Notify,
    pub(crate) compaction_done: Notify,
    pub(crate) ending: Ending,
}

/// What the raft thread gives the apply thread, in order.
pub(crate) enum ToApply {
    /// Committed entries.
    Entries(Vec<Entry>),
    /// Whole tables that take the place of those in use; the log has begun anew where they end.
    Install {
        /// Where they are.
        whole: PathBuf,
        /// What they stand for.
        mark: SnapshotMark,
    },
}

impl Shared {
    /// The tables as they are now.
    pub(crate) fn tables(&self) -> TablesHandle {
        self.tables.read().clone()
    }

    /// Links lead to whoever the applied state says.
    pub(crate) fn follow_members(&self) {
        let (members, removed): (Vec<Member>, Vec<u64>) = {
            let state = self.state.read();
            (state.members().cloned().collect(), state.removed_members().map(|id| id.0).collect())
        };
        self.peers.follow(&members, removed);
    }

    /// What somebody is told who waited too long.
    pub(crate) fn timed_out(&self, since: Instant) -> ServeError {
        if self.progress.leader_lost_since(since) { ServeError::TimeoutLeaderFailed } else { ServeError::Timeout }
    }

    /// This member leads from now on, and with it goes the leases' clock: whoever holds one gets time to find it.
    pub(crate) fn promote_leases(&self, grace: Duration) {
        let left: Vec<_> = self.state.read().leases().map(start::lease_times).collect();
        self.lessor.promote(left, grace);
    }
}

/// The threads of a running member.
pub(crate) struct Threads {
    raft: JoinHandle<Result<(), Fatal>>,
    apply: JoinHandle<Result<(), Fatal>>,
    shared: Arc<Shared>,
}

impl Threads {
    /// Ends both threads after they have finished what was begun, and makes all of it durable in the tables.
    ///
    /// # Errors
    /// The first reason why a thread had to stop.
    pub(crate) fn stop(self) -> Result<(), Fatal> {
        let _ = self.shared.inbox.put(Item::Stop);
        self.shared.inbox.wake();
        let raft = self.raft.join().unwrap_or_else(|_| Err(Fatal::panicked("raft")));
        for item in self.shared.inbox.close() {
            if let Item::Propose(proposal) = item {
                proposal.waiter.answer(Err(ServeError::Stopped));
            }
        }
        let apply = self.apply.join().unwrap_or_else(|_| Err(Fatal::panicked("apply")));
        self.shared.pending.fail_all(&ServeError::Stopped);
        raft.and(apply)?;
        self.shared.tables().flush().map_err(Fatal::tables)
    }
}

/// Why a member cannot start, or cannot go on. Each says what is safe and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The data dir is not one to start on.
    #[error("{0}")]
    Dir(#[from] DirError),
    /// The log.
    #[error("{0}")]
    Wal(#[source] WalError),
    /// The log and the tables do not belong together.
    #[error("{0}")]
    Apart(#[source] Apart),
    /// The tables.
    #[error("{0}")]
    Tables(#[source] TableFault),
    /// The state.
    #[error("{0}")]
    Halt(#[source] Halt),
    /// Agreement.
    #[error("the log does not fit the tables: {0}; restore this member from a snapshot (eyrie utl snapshot restore)")]
    Raft(#[source] RaftFault),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Fatal {
    pub(crate) fn wal(error: WalError) -> Self {
        Self::Wal(error)
    }
    pub(crate) fn tables(error: TableFault) -> Self {
        Self::Tables(error)
    }
    pub(crate) fn halt(error: Halt) -> Self {
        Self::Halt(error)
    }
    pub(crate) fn raft(error: RaftFault) -> Self {
        Self::Raft(error)
    }
    pub(crate) fn entry(index: u64, error: &dyn std::fmt::Display) -> Self {
        Self::Other(format!(
            "log entry {index} can't be read: {error}. It passed its checksum, so a newer release wrote it: start that \
             release, or restore from a snapshot"
        ))
    }
    pub(crate) fn apply_ended() -> Self {
        Self::Other("the apply thread has ended".into())
    }
    pub(crate) fn panicked(thread: &str) -> Self {
        Self::Other(format!(
            "the {thread} thread failed on a bug of this program; nothing acknowledged is lost: restart the member, and \
             report the lines above"
        ))
    }
}
