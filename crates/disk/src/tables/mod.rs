//! The tables: history and the small buckets, durable.
//!
//! ```text
//! stage -> buffer in memory (read at once) -> commit every 100 ms: data and log position together -> redb file
//! ```
//! The log covers what is staged and not committed. Nothing outside this folder names redb. Must never know what a
//! record means.

mod buffer;
mod build;
mod contain;
mod defrag;
mod format;
mod source;
mod space;
mod store;
mod view;
mod writer;

use std::{
    fmt, fs,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use eyrie_state::{Bucket, Change, LogIndex, TableFault, Tables, Term};
use parking_lot::Mutex;

pub use self::{
    build::{Batch, TablesBuilder, Tally, UnnamedTables},
    contain::EXIT_DAMAGED,
    space::Space,
    view::View,
};
use self::{
    contain::io as io_fault,
    space::SpaceGate,
    store::{Base, Store},
    writer::{Shared, Writer},
};
use crate::atomic;

/// Room that bookkeeping takes in the smallest file.
const FILE_BYTES_MIN: u64 = 64 * 1024;
/// What redb adds to a record in a page.
const RECORD_EXTRA_BYTES: u64 = 5;

/// How the tables are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// A staged change waits at most so long for its commit.
    pub flush_interval: Duration,
    /// More staged bytes than this are committed at once.
    pub flush_bytes: usize,
    /// Pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes that must stay free on the disk: with less, nothing is committed and [`TablesHandle::space`] says so.
    pub reserve_bytes: u64,
    /// Files up to this size are checked wholly at every start, every page; it takes some 1.5 ms per MiB. Larger ones
    /// rely on the checksum of every record, and on count and sum when all are read.
    pub check_bytes_max: u64,
    /// Told of every commit.
    pub on_commit: OnCommit,
}

/// Hears how long each commit took, sync included, on the thread that makes them: it must not wait for anything.
#[derive(Clone, Default)]
pub struct OnCommit(Option<Arc<dyn Fn(Duration) + Send + Sync>>);

impl OnCommit {
    /// Calls this after every commit.
    pub fn new(hear: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    fn tell(&self, took: Duration) {
        if let Some(hear) = &self.0 {
            hear(took);
        }
    }
}

impl fmt::Debug for OnCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OnCommit" } else { "None" })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_millis(100),
            flush_bytes: 8 << 20,
            cache_bytes: 32 << 20,
            reserve_bytes: 32 << 20,
            check_bytes_max: 32 << 20,
            on_commit: OnCommit::default(),
        }
    }
}

/// How large the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes that the file takes on disk.
    pub file_bytes: u64,
    /// Bytes of it that hold live data, by the tables' own count.
    pub in_use_bytes: u64,
}

/// The durable tables of one member; the one who may stage.
///
/// Dropping it ends the writer thread. What was staged and not flushed is then not in the file; the log has it.
pub struct RedbTables {
    handle: TablesHandle,
    thread: Option<JoinHandle<()>>,
}

/// Everything but staging. Cheap to clone; may be used from any thread while changes are staged.
#[derive(Clone)]
pub struct TablesHandle {
    shared: Arc<Shared>,
    /// One defragmentation at a time.
    defragmenting: Arc<Mutex<()>>,
}

impl RedbTables {
    /// Makes an empty tables file, durable, replacing one that is there. Open it to use it.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn create(path: &Path) -> Result<(), TableFault> {
        TablesBuilder::create(path)?.finish((LogIndex(0), Term(0)))
    }

    /// Opens a tables file. An unfinished copy beside it is removed.
    ///
    /// # Errors
    /// [`TableFault::Damaged`] when the file is missing, foreign, or not what was written.
    pub fn open(path: &Path, options: Options) -> Result<Self, TableFault> {
        match fs::remove_file(temporary_of(path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_fault(&temporary_of(path), e)),
            _ => {}
        }
        let gate = Arc::new(SpaceGate::new(atomic::parent_of(path), options.reserve_bytes));
        let store = Arc::new(Store::open(path, &options, gate.clone())?);
        let base = Base::new(&store)?;
        base.check_small()?;
        let shared = Arc::new(Shared::new(base, options, gate)?);
        let writer = Writer::new(shared.clone());
        let thread = thread::Builder::new()
            .name("tables-write".into())
            .spawn(move || writer.run())
            .map_err(|e| io_fault(path, e))?;
        Ok(Self { handle: TablesHandle { shared, defragmenting: Arc::default() }, thread: Some(thread) })
    }

    /// Ends all writing into the file, for ever: other tables are about to take its name. Pictures stay readable; whatever
    /// was not durable yet is only in memory now, and staging or defragmenting fails from here on.
    pub fn retire(&mut self) {
        self.handle.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// What can be done with the tables beside staging, for other threads.
    pub fn handle(&self) -> TablesHandle {
        self.handle.clone()
    }
}

impl TablesHandle {
    /// A picture of all tables that sees everything staged so far.
    pub fn view(&self) -> View {
        self.shared.view()
    }

    /// Waits until all that was staged is durable.
    ///
    /// # Errors
    /// [`TableFault`] when it cannot be; on a full disk it may succeed later.
    pub fn flush(&self) -> Result<(), TableFault> {
        self.shared.flush()
    }

    /// Position of the last applied entry that is durable here: the log is no longer needed up to it.
    pub fn durable_applied(&self) -> (LogIndex, Term) {
        self.shared.base().sheet().applied
    }

    /// Whether the tables can still be written.
    ///
    /// # Errors
    /// The fault that ended the writing.
    pub fn check(&self) -> Result<(), TableFault> {
        self.shared.check()
    }

    /// How large the tables are. One system call.
    ///
    /// # Errors
    /// [`TableFault::Io`].
    pub fn sizes(&self) -> Result<Sizes, TableFault> {
        let base = self.shared.base();
        let file_bytes = store::disk_bytes(&self.shared.path)?;
        let in_use = base.sheet().bytes + base.sheet().records * RECORD_EXTRA_BYTES + FILE_BYTES_MIN;
        Ok(Sizes { file_bytes, in_use_bytes: in_use.min(file_bytes) })
    }

    /// How the tables stand with the room on their disk: when short, the server refuses writes. One system call.
    pub fn space(&self) -> Space {
        self.shared.gate.look(self.shared.staged_bytes() as u64)
    }

    /// Rewrites the file without holes. Blocks its caller, but neither reads nor writes; a crash leaves whole tables.
    ///
    /// # Errors
    /// [`TableFault`]; the tables in use are then as they were.
    pub fn defragment(&self) -> Result<(), TableFault> {
        let _one = self.defragmenting.lock();
        defrag::defragment(&self.shared)
    }
}

impl Deref for RedbTables {
    type Target = TablesHandle;

    fn deref(&self) -> &TablesHandle {
        &self.handle
    }
}

impl Tables for RedbTables {
    type Records = View;

    fn records(&self) -> View {
        self.view()
    }

    fn stage(&mut self, change: Change) -> Result<(), TableFault> {
        self.handle.shared.stage(change)
    }

    fn load(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        self.view().bucket(bucket, visit)
    }

    fn applied(&self) -> (LogIndex, Term) {
        self.handle.shared.applied()
    }
}

impl Drop for RedbTables {
    fn drop(&mut self) {
        self.retire();
    }
}

impl fmt::Debug for RedbTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbTables").field("path", &self.handle.shared.path).finish_non_exhaustive()
    }
}

/// The name of an unfinished copy.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}
