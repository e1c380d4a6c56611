//! A checked database becomes a new data directory of ours: tables by bulk load, then the log's beginning.
//!
//! ```text
//! identity (unfinished) -> tables -> read back and compared -> log -> identity (finished)
//! ```
//! Ended at any point before the last step, the directory is seen as unfinished and can be begun again.

use eyrie_raft::{HardState, LogStart};
use eyrie_state::record::{META_COMPACT_FINISHED, META_COMPACT_SCHEDULED, position_key, revision_bytes};
use eyrie_state::{Bucket, LogIndex, Member, Position, TableFault, Term, member_json, member_key};

use super::file::is_bump;
use super::{SnapshotFault, SnapshotFile};
use crate::datadir::{DataDir, DirError};
use crate::tables::{Options, RedbTables, TablesBuilder};
use crate::wal::{Wal, WalError, WalMeta, WalOptions};

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
    /// See [`WalError`].
    #[error(transparent)]
    Wal(#[from] WalError),
    /// What was written does not read back equal.
    #[error(
        "the new tables do not hold what the source holds: {wrote} records with digest {wrote_digest:08x} were written, \
         {read} with {read_digest:08x} were read back. The source is untouched and the new data directory is not \
         finished: check the disk, then try again on another one"
    )]
    Unequal {
        /// Records written.
        wrote: u64,
        /// Records read.
        read: u64,
        /// Their digests.
        wrote_digest: u32,
        #[allow(missing_docs)]
        read_digest: u32,
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

/// Number and digest of the records of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub records: u64,
    pub digest: u32,
    /// The last one's revision.
    pub revision: i64,
}

impl Tally {
    fn add(&mut self, at: Position, tombstone: bool, record: &[u8]) {
        let (name, len) = position_key(at, tombstone);
        self.digest = crc32c::crc32c_append(crc32c::crc32c_append(self.digest, &name[..len]), record);
        self.records += 1;
        self.revision = at.main;
    }
}

/// Loads the tables of `dir` from a checked file, makes them durable, and reads them back.
pub(crate) fn load_tables(
    dir: &DataDir,
    file: &SnapshotFile,
    edits: &Edits,
    applied: (LogIndex, Term),
) -> Result<Tally, LayFault> {
    let path = dir.tables_path();
    let mut builder = TablesBuilder::create(&path)?;
    let mut wrote = Tally::default();
    let mut lifted = 0;
    file.history::<LayFault>(&mut |at, tombstone, record| {
        if is_bump(&record) {
            lifted = at.main;
            return Ok(());
        }
        wrote.add(at, tombstone, &record);
        Ok(builder.push_record(at, tombstone, &record)?)
    })?;
    for bucket in Bucket::ALL {
        match (bucket, &edits.members) {
            (Bucket::Members, Some(members)) => {
                for member in members {
                    builder.put(bucket, member_key(member.id).as_bytes(), member_json(member).as_bytes())?;
                }
            }
            (Bucket::MembersRemoved, _) if edits.forget_removed => {}
            (Bucket::Meta, _) => {
                let scheduled = scheduled_compaction(file, edits, wrote.revision, lifted)?;
                put_marks(&mut builder, file, scheduled)?;
            }
            _ => {
                for (key, value) in file.small(bucket)? {
                    builder.put(bucket, &key, &value)?;
                }
            }
        }
    }
    builder.finish(applied)?;
    let read = read_back(dir)?;
    if wrote != read {
        return Err(LayFault::Unequal {
            wrote: wrote.records,
            read: read.records,
            wrote_digest: wrote.digest,
            read_digest: read.digest,
        });
    }
    Ok(wrote)
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

fn read_back(dir: &DataDir) -> Result<Tally, LayFault> {
    let tables = RedbTables::open(&dir.tables_path(), Options::default())?;
    let mut read = Tally::default();
    tables.handle().view().full_scan(&mut |at, tombstone, record| {
        read.add(at, tombstone, record);
        true
    })?;
    Ok(read)
}
