//! A stopped upstream etcd's data directory: found, locked against its owner, read, and judged before anything else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use eyrie_state::{Bucket, Command, LogIndex, Member, MemberId, Term, parse_member_json};
use rustix::fs::{FlockOperation, fcntl_lock, flock};

use super::messages::{Entry, HardState};
use super::translate::{self, Meaning};
use super::wal::{self, Log};
use crate::snapshot::{SnapshotFault, SnapshotFile};

/// Why a directory is not adopted. The original is untouched.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// There is no data directory of etcd.
    #[error(
        "{0}: no such file, so this is not the data directory of an etcd. Give the directory that holds member/snap/db"
    )]
    Missing(String),
    /// Its owner lives.
    #[error("{0} is locked: an etcd is running on this data directory. Stop it first, then migrate")]
    Running(String),
    /// The database is not sound, or not of etcd 3.5.
    #[error("{place}: {cause}. {HINT}")]
    Database {
        /// Which file.
        place: String,
        /// What is wrong.
        cause: SnapshotFault,
    },
    /// A log segment is not what was written.
    #[error("{file} is damaged at offset {offset}: {what}. {HINT}")]
    Wal {
        /// The segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The log and the database do not fit together, or hold what cannot be adopted.
    #[error("{0}. {HINT}")]
    Unfit(String),
    /// More members than one.
    #[error(
        "{dir} belongs to a cluster of {members} members. A cluster moves by a snapshot: save one from a running member \
         (etcdctl snapshot save FILE), then restore it for each new member (eyrie utl snapshot restore FILE --name \
         NAME --initial-cluster ... --data-dir NEW)"
    )]
    Several {
        /// The directory.
        dir: String,
        /// How many members it knows.
        members: usize,
    },
    /// The system refused.
    #[error("cannot read {path}: {cause}")]
    Io {
        /// What.
        path: String,
        /// The system's answer.
        cause: std::io::Error,
    },
}

/// What always works while the source still starts.
const HINT: &str = "Nothing was changed. If that etcd still starts, start it, save a snapshot (etcdctl snapshot save \
                    FILE) and restore that one (eyrie utl snapshot restore FILE --data-dir NEW)";

/// One entry that the database does not hold yet.
#[derive(Debug, Clone)]
pub(super) struct TailEntry {
    pub index: LogIndex,
    pub term: Term,
    /// `None` when it changes nothing.
    pub command: Option<Command>,
}

/// A data directory that was found fit, held against its owner until dropped.
#[derive(Debug)]
pub struct EtcdDir {
    pub(super) database: SnapshotFile,
    pub(super) applied: (LogIndex, Term),
    pub(super) tail: Vec<TailEntry>,
    pub(super) hard_state: HardState,
    pub(super) cluster: u64,
    /// The members as the database has them, with the client URLs that 3.5.1 keeps only in its log.
    pub(super) stored_members: Vec<Member>,
    pub(super) member: MemberId,
    name: String,
    torn: Option<(PathBuf, u64)>,
    _db_lock: File,
    _segments: Vec<Segment>,
}

/// A log segment, with the lock on it. It is read through this handle: closing another one would end the lock.
#[derive(Debug)]
struct Segment {
    /// Index of its first entry.
    index: u64,
    path: PathBuf,
    file: File,
}

impl EtcdDir {
    /// Opens the directory read-only and checks all that adoption needs.
    ///
    /// # Errors
    /// [`SourceFault`] says what is in the way and what to do instead.
    pub fn open(dir: &Path, wal_dir: Option<&Path>) -> Result<Self, SourceFault> {
        let db_path = dir.join("member/snap/db");
        let wal_path = wal_dir.map_or_else(|| dir.join("member/wal"), Path::to_path_buf);
        let segments = list_segments(&wal_path)?;
        let db_lock = lock(&db_path, Lock::Flock)?;
        let mut held = Vec::new();
        for (index, path) in segments {
            let file = lock(&path, Lock::Record)?;
            held.push(Segment { index, path, file });
        }

        let fault = |cause| SourceFault::Database { place: db_path.display().to_string(), cause };
        let database = SnapshotFile::open(&db_path, true).map_err(fault)?;
        database.check_content().map_err(fault)?;
        let applied = applied_of(&database).map_err(fault)?;
        let log = read_log(&held, applied.0)?;
        let metadata = log.metadata.ok_or_else(|| SourceFault::Unfit("the log does not say whose it is".into()))?;
        let tail = tail(&log, applied.0)?;
        if database.auth_enabled().map_err(fault)? && tail.iter().any(|entry| entry.command.is_some()) {
            return Err(SourceFault::Unfit(
                "authentication is switched on, and the log holds requests that are not in the database yet: whether \
                 their users had the right to make them is known only to that etcd"
                    .into(),
            ));
        }
        let members = members(&database, &tail).map_err(fault)?;
        if members.len() != 1 {
            return Err(SourceFault::Several { dir: dir.display().to_string(), members: members.len() });
        }
        let Some(me) = members.iter().find(|member| member.id.0 == metadata.node_id) else {
            let what = format!("the log is member {:x}'s, which the database does not know", metadata.node_id);
            return Err(SourceFault::Unfit(what));
        };
        let stored_members = stored_members(&database, &log).map_err(fault)?;
        Ok(Self {
            stored_members,
            applied: (applied.0, applied.1.unwrap_or_else(|| log.term_of(applied.0))),
            hard_state: log.hard_state,
            cluster: metadata.cluster_id,
            member: me.id,
            name: me.name.clone(),
            torn: log.torn,
            tail,
            database,
            _db_lock: db_lock,
            _segments: held,
        })
    }

    /// Cluster id.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Member id.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Log entries that are applied after the database is taken over.
    pub fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// Where the log ended in the middle of an append that was never acknowledged.
    pub fn torn(&self) -> Option<(&Path, u64)> {
        self.torn.as_ref().map(|(path, offset)| (path.as_path(), *offset))
    }

    /// Users and roles are enforced.
    ///
    /// # Errors
    /// [`SnapshotFault`] when the file fails under us.
    pub fn auth_enabled(&self) -> Result<bool, SnapshotFault> {
        self.database.auth_enabled()
    }
}

impl Log {
    fn term_of(&self, index: LogIndex) -> Term {
        Term(self.entries.iter().find(|entry| entry.index == index.0).map_or(0, |entry| entry.term))
    }
}

/// Segments in order, without holes in their numbers.
fn list_segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SourceFault> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(SourceFault::Missing(dir.display().to_string()));
        }
        other => other.map_err(io(dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io(dir))?.path();
        if let Some((sequence, index)) = wal::parse_segment_name(&path) {
            found.push((sequence, index, path));
        }
    }
    found.sort();
    if let Some(pair) = found.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1) {
        let what = format!("log segments between {} and {} are missing", pair[0].2.display(), pair[1].2.display());
        return Err(SourceFault::Unfit(what));
    }
    if found.is_empty() {
        return Err(SourceFault::Unfit(format!("{} holds no log segment", dir.display())));
    }
    Ok(found.into_iter().map(|(_, index, path)| (index, path)).collect())
}

/// Which lock the owner holds.
#[derive(Clone, Copy)]
enum Lock {
    /// bbolt's.
    Flock,
    /// The log's: a lock on the open file description, which a shared record lock runs into.
    Record,
}

fn lock(path: &Path, kind: Lock) -> Result<File, SourceFault> {
    let file = File::open(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => SourceFault::Missing(path.display().to_string()),
        _ => io(path)(cause),
    })?;
    let taken = match kind {
        Lock::Flock => flock(&file, FlockOperation::NonBlockingLockShared),
        Lock::Record => fcntl_lock(&file, FlockOperation::NonBlockingLockShared),
    };
    match taken {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            Err(SourceFault::Running(path.display().to_string()))
        }
        Err(cause) => Err(io(path)(cause.into())),
    }
}

/// The last log entry in the database; its term is known since 3.5.
fn applied_of(database: &SnapshotFile) -> Result<(LogIndex, Option<Term>), SnapshotFault> {
    let number = |key: &[u8]| -> Result<Option<u64>, SnapshotFault> {
        let Some(value) = database.database().get(Bucket::Meta.name().as_bytes(), key)? else { return Ok(None) };
        let bytes: [u8; 8] = value.as_ref().try_into().map_err(|_| {
            SnapshotFault::Foreign(format!("meta {} is not a number of 8 bytes", String::from_utf8_lossy(key)))
        })?;
        Ok(Some(u64::from_be_bytes(bytes)))
    };
    Ok((LogIndex(number(b"consistent_index")?.unwrap_or(0)), number(b"term")?.map(Term)))
}

/// Reads the segments that reach behind `applied`.
fn read_log(segments: &[Segment], applied: LogIndex) -> Result<Log, SourceFault> {
    let first = segments.iter().rposition(|segment| segment.index <= applied.0).unwrap_or(0);
    let mut reader = wal::Reader::default();
    for (n, Segment { path, file, .. }) in segments.iter().enumerate().skip(first) {
        let mut bytes = Vec::new();
        let mut file: &File = file;
        file.read_to_end(&mut bytes).map_err(io(path))?;
        reader.segment(path, &bytes, n + 1 == segments.len()).map_err(|damage| SourceFault::Wal {
            file: path.display().to_string(),
            offset: damage.offset,
            what: damage.what,
        })?;
    }
    Ok(reader.log)
}

/// The entries after `applied`, translated.
///
/// All of them, also those that the hard state does not call committed: the source has one voter, which would commit
/// them at its next start, and may have acknowledged them before it noted the commit.
fn tail(log: &Log, applied: LogIndex) -> Result<Vec<TailEntry>, SourceFault> {
    let entries: Vec<&Entry> = log.entries.iter().filter(|entry| entry.index > applied.0).collect();
    let last = entries.last().map_or(applied.0, |entry| entry.index);
    if last < log.hard_state.commit {
        let what = format!("the log ends at entry {last}, but entry {} was committed", log.hard_state.commit);
        return Err(SourceFault::Unfit(what));
    }
    if let Some(first) = entries.first().filter(|entry| entry.index != applied.0 + 1) {
        let what =
            format!("the database holds the log up to entry {applied}, but the log begins at entry {}", first.index);
        return Err(SourceFault::Unfit(what));
    }
    let translate = |entry: &Entry| match translate::entry(entry) {
        Ok(meaning) => Ok(TailEntry {
            index: LogIndex(entry.index),
            term: Term(entry.term),
            command: match meaning {
                Meaning::Nothing => None,
                Meaning::Apply(command) => Some(command),
            },
        }),
        Err(what) => Err(SourceFault::Unfit(format!(
            "log entry {} is {what}, and the database does not hold it yet",
            entry.index
        ))),
    };
    entries.into_iter().map(translate).collect()
}

/// The members as the database has them. 3.5.1 writes client URLs into the old store only, whose requests are in the
/// log: they complete the rows.
fn stored_members(database: &SnapshotFile, log: &Log) -> Result<Vec<Member>, SnapshotFault> {
    let mut members = members(database, &[])?;
    let mut published = BTreeMap::new();
    for entry in &log.entries {
        if let Ok(Meaning::Apply(Command::MemberPublish { id, client_urls, .. })) = translate::entry(entry) {
            published.insert(id, client_urls);
        }
    }
    for member in members.iter_mut().filter(|member| member.client_urls.is_empty()) {
        member.client_urls = published.remove(&member.id).unwrap_or_default();
    }
    Ok(members)
}

/// The members after the tail.
fn members(database: &SnapshotFile, tail: &[TailEntry]) -> Result<Vec<Member>, SnapshotFault> {
    let mut members = Vec::new();
    for (_, value) in database.small(Bucket::Members)? {
        members.push(parse_member_json(&value).map_err(SnapshotFault::Foreign)?);
    }
    for command in tail.iter().filter_map(|entry| entry.command.as_ref()) {
        match command {
            Command::MemberAdd(new) if members.iter().all(|member| member.id != new.id) => members.push(new.clone()),
            Command::MemberRemove { id } => members.retain(|member| member.id != *id),
            Command::MemberPublish { id, name, .. } => {
                if let Some(member) = members.iter_mut().find(|member| member.id == *id) {
                    member.name.clone_from(name);
                }
            }
            _ => {}
        }
    }
    Ok(members)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SourceFault {
    let path = path.display().to_string();
    move |cause| SourceFault::Io { path, cause }
}
