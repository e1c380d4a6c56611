//! A checked database becomes a new data directory of ours: tables by bulk load, then the log's beginning.
//!
//! ```text
//! identity (unfinished) -> tables -> read back and compared -> log -> identity (finished)
//! ```
//! Ended at any point before the last step, the directory is seen as unfinished and can be begun again. The tables may be
//! made ahead of all that, in a file without a name, while it is still being found out whether the source may be used.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use eyrie_raft::{HardState, LogStart};
use eyrie_state::record::{META_COMPACT_FINISHED, META_COMPACT_SCHEDULED, revision_bytes};
use eyrie_state::{Bucket, LogIndex, Member, Position, TableFault, Term, member_json, member_key};

use super::file::is_bump;
use super::{SnapshotFault, SnapshotFile};
use crate::datadir::{DataDir, DirError};
use crate::tables::{Batch, Options, RedbTables, TablesBuilder, Tally, UnnamedTables};
use crate::wal::{Wal, WalError, WalMeta, WalOptions};

/// Batches that wait to be written, beside the one being read and the one being written.
const BATCHES_AHEAD: usize = 1;

/// Why no data directory came to be. Whatever was begun is marked unfinished.
#[derive(Debug, thiserror::Error)]
pub enum LayFault {
    /// See [`SnapshotFault`].
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
    /// See [`DirError`].
    #[error(transparent)]
    Dir(#[from] DirError),
    /// See [`TableFault`].
    #[error("{0}. The new data directory is not finished; delete it and try again where there is room")]
    Tables(#[from] TableFault),
    /// The tables could not be made ahead.
    #[error("{0}. Nothing was written to the data directory: try again where there is room")]
    Ahead(#[source] TableFault),
    /// See [`WalError`].
    #[error(transparent)]
    Wal(#[from] WalError),
    /// What was written does not read back equal.
    #[error(
        "the new tables do not hold what the source holds: {wrote} records with digest {wrote_digest:016x} were written, \
         {read} with {read_digest:016x} were read back. The source is untouched and the new data directory is not \
         finished: check the disk, then try again on another one"
    )]
    Unequal {
        /// Records written.
        wrote: u64,
        /// Records read.
        read: u64,
        /// Their digests.
        wrote_digest: u64,
        #[allow(missing_docs)]
        read_digest: u64,
    },
    /// The revision cannot be lifted so far.
    #[error("--bump-revision {by} lifts revision {from} over the largest one there is")]
    Bump {
        /// Revision in the file.
        from: i64,
        /// How far it should go.
        by: u64,
    },
}

/// What is changed on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edits {
    /// The members from now on, in place of the file's.
    pub members: Option<Vec<Member>>,
    /// Forgets which members have left: in a new cluster their ids mean nothing.
    pub forget_removed: bool,
    /// Lifts the revision by so much, and marks all up to there as compacted.
    pub bump_revision: u64,
}

/// What was laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Laid {
    /// Records of history.
    pub records: u64,
    /// The last one's revision.
    pub revision: i64,
}

/// The history of a file, as one thread read it.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    tally: Tally,
    /// Revision of the last record.
    newest: i64,
    /// Revision of the last bump record; 0 without one.
    lifted: i64,
}

/// Loads the tables of `dir` from a checked file, makes them durable, and reads them back.
pub(crate) fn load_tables(
    dir: &DataDir,
    file: &SnapshotFile,
    edits: &Edits,
    applied: (LogIndex, Term),
) -> Result<Laid, LayFault> {
    let path = dir.tables_path();
    let mut builder = TablesBuilder::create(&path)?;
    let read = fill(&mut builder, file, edits)?;
    builder.finish(applied)?;
    read_back(&path, read)
}

/// Tables that are whole and have no name yet: dropped, they leave nothing behind.
pub(crate) struct Ahead {
    tables: UnnamedTables,
    read: Read,
}

impl Ahead {
    /// Loads tables into a file without a name in directory `beside`; `None` where there are no such files. The file may
    /// be unproven: what it says of its structure must be sound, its history is checked on the way.
    pub(crate) fn load(
        beside: &Path,
        file: &SnapshotFile,
        edits: &Edits,
        applied: (LogIndex, Term),
    ) -> Result<Option<Self>, LayFault> {
        let ahead = |fault| match fault {
            LayFault::Tables(fault) => LayFault::Ahead(fault),
            other => other,
        };
        let Some(mut builder) = TablesBuilder::create_unnamed(beside).map_err(LayFault::Ahead)? else {
            return Ok(None);
        };
        let read = fill(&mut builder, file, edits).map_err(ahead)?;
        let tables = builder.finish_unnamed(applied).map_err(LayFault::Ahead)?;
        Ok(Some(Self { tables, read }))
    }

    /// Makes them the tables of `dir`, and reads them back; `None` where the system does not give such a file a name.
    pub(crate) fn lay(self, dir: &DataDir) -> Result<Option<Laid>, LayFault> {
        let path = dir.tables_path();
        match self.tables.name(&path) {
            Ok(()) => read_back(&path, self.read).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// All tables from the file, with the edits.
fn fill(builder: &mut TablesBuilder, file: &SnapshotFile, edits: &Edits) -> Result<Read, LayFault> {
    let read = load_history(builder, file)?;
    for bucket in Bucket::ALL {
        match (bucket, &edits.members) {
            (Bucket::Members, Some(members)) => {
                for member in members {
                    builder.put(bucket, member_key(member.id).as_bytes(), member_json(member).as_bytes())?;
                }
            }
            (Bucket::MembersRemoved, _) if edits.forget_removed => {}
            (Bucket::Meta, _) => {
                let scheduled = scheduled_compaction(file, edits, read.newest, read.lifted)?;
                put_marks(builder, file, scheduled)?;
            }
            _ => {
                for (key, value) in file.small(bucket)? {
                    builder.put(bucket, &key, &value)?;
                }
            }
        }
    }
    Ok(read)
}

/// Opens what was written as a member does, and compares all of its history with what was read.
fn read_back(path: &Path, read: Read) -> Result<Laid, LayFault> {
    let wrote = read.tally;
    let found = RedbTables::open(path, Options::default())?.view().check_history()?;
    if wrote != found {
        return Err(LayFault::Unequal {
            wrote: wrote.records,
            read: found.records,
            wrote_digest: wrote.sum,
            read_digest: found.sum,
        });
    }
    Ok(Laid { records: wrote.records, revision: read.newest })
}

/// Another thread reads the file and seals its records; this one writes them.
fn load_history(builder: &mut TablesBuilder, file: &SnapshotFile) -> Result<Read, LayFault> {
    std::thread::scope(|scope| {
        let (give, take) = sync_channel::<Batch>(BATCHES_AHEAD);
        let (give_back, take_back) = sync_channel::<Batch>(BATCHES_AHEAD + 2);
        let reader = scope.spawn(move || read_history(file, &give, &take_back));
        let mut written = Ok(());
        for batch in take {
            match builder.push_batch(batch) {
                Ok(empty) => drop(give_back.try_send(empty)),
                Err(fault) => {
                    written = Err(fault);
                    break;
                }
            }
        }
        let read = reader.join().expect("the reader does not panic");
        written?;
        read
    })
}

/// Whether anybody still takes the batches is the writer's to say: it knows why.
fn read_history(file: &SnapshotFile, give: &SyncSender<Batch>, empty: &Receiver<Batch>) -> Result<Read, LayFault> {
    let (mut read, mut batch, mut taken) = (Read::default(), Batch::default(), true);
    file.history_in_order::<LayFault>(|at, tombstone, record| {
        if is_bump(record) {
            read.lifted = at.main;
            return Ok(());
        }
        batch.push(at, tombstone, record);
        read.newest = at.main;
        if batch.is_full() {
            let full = std::mem::replace(&mut batch, empty.try_recv().unwrap_or_default());
            read.tally += full.tally();
            taken = taken && give.send(full).is_ok();
        }
        Ok(())
    })?;
    read.tally += batch.tally();
    let _ = give.send(batch);
    Ok(read)
}

/// Begins the log after `start` and declares the directory whole.
pub(crate) fn finish(dir: &DataDir, start: &LogStart, hard_state: &HardState) -> Result<(), LayFault> {
    let identity = dir.identity();
    let meta = WalMeta { cluster: identity.cluster.0, member: identity.member.0 };
    let mut wal = Wal::create(dir.wal_path(), meta, start, WalOptions::default())?;
    wal.append(&[], Some(hard_state))?;
    wal.sync()?;
    drop(wal);
    Ok(dir.finish()?)
}

/// The revision at which the tables shall be compacted, if that is more than what the file says already.
fn scheduled_compaction(file: &SnapshotFile, edits: &Edits, newest: i64, lifted: i64) -> Result<Option<i64>, LayFault> {
    let compacted = file.compact_revision()?;
    let latest = newest.max(lifted).max(compacted).max(1);
    if edits.bump_revision > 0 {
        let bump = i64::try_from(edits.bump_revision).ok().and_then(|by| latest.checked_add(by));
        return bump.map(Some).ok_or(LayFault::Bump { from: latest, by: edits.bump_revision });
    }
    // upstream's own bump leaves the mark; where it is missing, the lifted revision must not be lost
    Ok((lifted > newest && lifted > compacted).then_some(lifted))
}

/// Bucket `meta`: the compaction marks. All else in it belongs to the old cluster's log.
fn put_marks(builder: &mut TablesBuilder, file: &SnapshotFile, scheduled: Option<i64>) -> Result<(), LayFault> {
    for (key, value) in file.small(Bucket::Meta)? {
        let replaced = scheduled.is_some() && key == META_COMPACT_SCHEDULED;
        if (key == META_COMPACT_SCHEDULED || key == META_COMPACT_FINISHED) && !replaced {
            builder.put(Bucket::Meta, &key, &value)?;
        }
    }
    if let Some(main) = scheduled {
        builder.put(Bucket::Meta, META_COMPACT_SCHEDULED, &revision_bytes(Position { main, sub: 0 }))?;
    }
    Ok(())
}
