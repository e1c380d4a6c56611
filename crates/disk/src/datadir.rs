//! The data directory: what it is, whose it is, and whether a store may begin or go on in it.
//!
//! A store is begun in four steps (docs/format/datadir.md); until the last one nothing was acknowledged, so an
//! unfinished directory may be begun afresh, and a finished one that lacks a part never is.
//! Must never know what is inside the tables or the log.

mod rejoin;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use eyrie_state::{ClusterId, MemberId};
use serde::{Deserialize, Serialize};

use crate::{
    atomic,
    lock::{self, DirLock, LockFailure},
};

/// The layout that this program writes.
pub const VERSION: u32 = 1;

const IDENTITY: &str = "eyrie";
const LOCK: &str = "LOCK";
const TABLES: &str = "tables.redb";
const WAL: &str = "wal";
/// Where a member keeps certificates that it made for itself; no part of the store.
const CERTIFICATES: &str = "fixtures";
const FIRST_WORD: &str = "eyrie-data-dir";
/// An identity is a few hundred bytes; more is not one.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// What a directory turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// No such directory.
    Absent,
    /// Nothing in it.
    Empty,
    /// A store that was being created when its process ended; nothing in it was ever acknowledged.
    Unfinished,
    /// A restore or a migration whose process ended before it was done. Never begun afresh as a new store: someone
    /// counts on what was to be in it.
    UnfinishedRestore,
    /// A whole store of ours.
    Eyrie {
        /// Layout version.
        version: u32,
    },
    /// A store of a later program.
    Newer {
        /// Its layout version.
        version: u32,
    },
    /// An upstream etcd's directory.
    Etcd,
    /// A store of ours that lost a part.
    HalfDeleted {
        /// Which part.
        what: String,
    },
    /// Something else.
    Foreign {
        /// What was found.
        what: String,
    },
}

/// Who lives in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// The member's name.
    pub name: String,
}

/// Why a directory cannot be used. The message says what was found, what is safe and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The directory is not what the caller needs.
    #[error("{0}")]
    Refused(String),
    /// Another process uses it.
    #[error("data directory {dir} is in use by another process{}: stop that process first, or choose another --data-dir",
        .pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    InUse {
        /// The directory.
        dir: String,
        /// Its holder.
        pid: Option<u32>,
    },
    /// The identity file cannot be trusted.
    #[error(
        "{file}: {what}. The data beside it is untouched; restore this file from a copy of the directory, or restore a snapshot into a new directory: eyrie utl snapshot restore SNAPSHOT --data-dir NEW"
    )]
    Damaged {
        /// The identity file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The system refused.
    #[error("cannot {doing} {path}: {source}{}", advice(.source))]
    Io {
        /// A verb.
        doing: &'static str,
        /// On what.
        path: String,
        /// The system's words.
        source: io::Error,
    },
}

/// What to do about what the system said, where that is not plain.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ". The user that runs this must own the directory and all below it; look with ls -ld, or choose another --data-dir"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ReadOnlyFilesystem => {
            ". Choose a --data-dir on a disk where this user may write"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ". Make room on this disk, then start again",
        _ => "",
    }
}

/// A data directory that this process holds the lock of.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    wal_path: PathBuf,
    identity: Identity,
    wal_dir: Option<PathBuf>,
    /// It is being filled by a restore.
    restore: bool,
    _lock: DirLock,
}

impl DataDir {
    /// Says what `path` is, changing nothing. An external log is looked for where the identity says.
    ///
    /// # Errors
    /// [`DirError::Io`], or [`DirError::Damaged`] for an identity that cannot be read.
    pub fn inspect(path: &Path) -> Result<Kind, DirError> {
        inspect(path, None)
    }

    /// Begins a store: the directory must be absent, empty or unfinished (then its remains are removed).
    ///
    /// The caller makes the tables at [`DataDir::tables_path`] and the log in [`DataDir::wal_path`], then calls
    /// [`DataDir::finish`]. A crash before that leaves a directory that can be begun again.
    ///
    /// # Errors
    /// [`DirError::Refused`] when anything of worth may be there.
    pub fn create(path: &Path, wal_dir: Option<&Path>, identity: Identity) -> Result<Self, DirError> {
        Self::begin(path, wal_dir, identity, false)
    }

    /// As [`DataDir::create`], for a store that is to be filled from elsewhere. Left unfinished, it can only be
    /// restored again: a server refuses it.
    ///
    /// # Errors
    /// As for [`DataDir::create`].
    pub fn create_for_restore(path: &Path, wal_dir: Option<&Path>, identity: Identity) -> Result<Self, DirError> {
        Self::begin(path, wal_dir, identity, true)
    }

    /// Whether [`DataDir::create_for_restore`] would begin here, as far as can be told without changing anything.
    ///
    /// # Errors
    /// As for [`DataDir::create`].
    pub fn may_restore(path: &Path, wal_dir: Option<&Path>) -> Result<(), DirError> {
        may_begin(path, wal_dir, true)
    }

    fn begin(path: &Path, wal_dir: Option<&Path>, identity: Identity, restore: bool) -> Result<Self, DirError> {
        let unfinished = |kind: &Kind| *kind == Kind::Unfinished || (restore && *kind == Kind::UnfinishedRestore);
        may_begin(path, wal_dir, restore)?;
        atomic::create_dir(path).map_err(at("create", path))?;
        let lock = acquire(path)?;
        // Asked again under the lock: another process may have finished meanwhile.
        let kind = inspect(path, wal_dir)?;
        if kind != Kind::Empty && !unfinished(&kind) {
            return Err(refusal(path, &kind));
        }
        let wal_dir = wal_dir.map(std::path::absolute).transpose().map_err(at("resolve", path))?;
        let wal_path = wal_dir.clone().unwrap_or_else(|| path.join(WAL));
        if unfinished(&kind) {
            clear_unfinished(path)?;
        }
        if let Some(found) = first_name(&wal_path)? {
            return Err(DirError::Refused(format!(
                "log directory {} is not empty (found {found}), but data directory {} holds no store: nothing was changed. Choose an empty --wal-dir, or the --data-dir that belongs to this log",
                wal_path.display(),
                path.display()
            )));
        }
        let dir = Self { path: path.to_path_buf(), wal_path, identity, wal_dir, restore, _lock: lock };
        dir.write_identity(false)?;
        atomic::create_dir(&dir.wal_path).map_err(at("create", &dir.wal_path))?;
        Ok(dir)
    }

    /// Ends creation: from now on the directory is a store, and anything missing from it is a loss.
    ///
    /// Call after tables and log are made and synced.
    ///
    /// # Errors
    /// [`DirError::Io`].
    pub fn finish(&self) -> Result<(), DirError> {
        atomic::sync_dir(&self.wal_path).map_err(at("sync", &self.wal_path))?;
        atomic::sync_dir(&self.path).map_err(at("sync", &self.path))?;
        self.write_identity(true)
    }

    /// Opens a whole store and takes its lock. `wal_dir` is needed only when an external log was moved.
    ///
    /// # Errors
    /// [`DirError::Refused`] for any other kind of directory.
    pub fn open(path: &Path, wal_dir: Option<&Path>) -> Result<Self, DirError> {
        let kind = inspect(path, wal_dir)?;
        if !matches!(kind, Kind::Eyrie { .. }) {
            return Err(refusal(path, &kind));
        }
        let lock = acquire(path)?;
        let kind = inspect(path, wal_dir)?;
        let Some(Page { identity, wal_dir: noted, .. }) = read_identity(path)? else {
            return Err(refusal(path, &kind));
        };
        if !matches!(kind, Kind::Eyrie { .. }) {
            return Err(refusal(path, &kind));
        }
        let wal_path = wal_place(path, wal_dir, noted.as_deref())?;
        Ok(Self { path: path.to_path_buf(), wal_path, identity, wal_dir: noted, restore: false, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the tables are, or are to be made.
    pub fn tables_path(&self) -> PathBuf {
        self.path.join(TABLES)
    }

    /// Where the log is, or is to be made.
    pub fn wal_path(&self) -> &Path {
        &self.wal_path
    }

    /// Who lives here.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn write_identity(&self, created: bool) -> Result<(), DirError> {
        let file = self.path.join(IDENTITY);
        let text = Stored {
            cluster_id: format!("{:016x}", self.identity.cluster.0),
            member_id: format!("{:016x}", self.identity.member.0),
            name: self.identity.name.clone(),
            wal_dir: self.wal_dir.clone(),
            created,
            restore: self.restore && !created,
        };
        let json = serde_json::to_string(&text).map_err(|e| {
            DirError::Refused(format!("the identity cannot be written down (is --wal-dir valid UTF-8?): {e}"))
        })?;
        let page = format!("{FIRST_WORD} {VERSION} {:08x}\n{json}\n", crc32c::crc32c(json.as_bytes()));
        atomic::write(&file, page.as_bytes()).map_err(at("write", &file))
    }
}

/// Whether a new store may begin in this place.
fn may_begin(path: &Path, wal_dir: Option<&Path>, restore: bool) -> Result<(), DirError> {
    match inspect(path, wal_dir)? {
        Kind::Absent | Kind::Empty | Kind::Unfinished => Ok(()),
        Kind::UnfinishedRestore if restore => Ok(()),
        other => Err(refusal(path, &other)),
    }
}

/// The refusal that tells a person what `kind` means for starting on `path`.
pub fn refusal(path: &Path, kind: &Kind) -> DirError {
    let dir = path.display();
    DirError::Refused(match kind {
        Kind::Absent => format!("{dir} does not exist: nothing was changed. Check --data-dir"),
        Kind::Empty => format!("{dir} is empty: nothing was changed. Check --data-dir"),
        Kind::Unfinished => format!(
            "{dir} holds a store whose creation never finished; nothing in it was ever acknowledged. Start the server on it to begin afresh, or delete it"
        ),
        Kind::UnfinishedRestore => format!(
            "{dir} holds a restore or a migration that never finished; it is not a whole store and nothing was started on it. Give the same `eyrie utl snapshot restore` or `eyrie utl migrate` command again, or delete the directory"
        ),
        Kind::Eyrie { .. } => format!(
            "{dir} already holds a store: nothing was changed. Choose a new directory, or start the server on this one"
        ),
        Kind::Newer { version } => format!(
            "{dir} was written by a newer eyrie (layout {version}; this one knows up to {VERSION}): nothing was changed. Start it with that newer eyrie"
        ),
        Kind::Etcd => format!(
            "{dir} is the data directory of an upstream etcd: nothing was changed. Stop that etcd and adopt a copy of its data: eyrie utl migrate --from {dir} --data-dir NEW"
        ),
        Kind::HalfDeleted { what } => format!(
            "{dir} holds a store that lost a part: {what}. Nothing was changed, and no new store is begun over it. Put the missing part back, or restore a snapshot into a new directory: eyrie utl snapshot restore SNAPSHOT --data-dir NEW"
        ),
        Kind::Foreign { what } => {
            format!("{dir} is not a data directory of eyrie: {what}. Nothing was changed. Choose another --data-dir")
        }
    })
}

fn inspect(path: &Path, wal_dir: Option<&Path>) -> Result<Kind, DirError> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Kind::Absent),
        Err(e) => return Err(at("read", path)(e)),
        Ok(meta) if !meta.is_dir() => return Ok(Kind::Foreign { what: "it is not a directory".into() }),
        Ok(_) => {}
    }
    let page = match read_version(path)? {
        Some(version) if version > VERSION => return Ok(Kind::Newer { version }),
        Some(_) => read_identity(path)?,
        None => None,
    };
    let Some(page) = page else { return inspect_nameless(path) };
    if !page.created {
        return Ok(if page.restore { Kind::UnfinishedRestore } else { Kind::Unfinished });
    }
    if !path.join(TABLES).is_file() {
        return Ok(Kind::HalfDeleted { what: format!("the tables ({TABLES}) are missing") });
    }
    let wal = wal_place(path, wal_dir, page.wal_dir.as_deref())?;
    if !has_segment(&wal)? {
        return Ok(Kind::HalfDeleted { what: format!("the log ({}) is missing", wal.display()) });
    }
    Ok(Kind::Eyrie { version: VERSION })
}

/// A directory without an identity.
fn inspect_nameless(path: &Path) -> Result<Kind, DirError> {
    if path.join("member/snap/db").exists() || path.join("member/wal").exists() {
        return Ok(Kind::Etcd);
    }
    for part in [TABLES, WAL] {
        if path.join(part).exists() {
            return Ok(Kind::HalfDeleted {
                what: format!("there is {part}, but the identity (file {IDENTITY}) is missing"),
            });
        }
    }
    Ok(match first_name(path)? {
        None => Kind::Empty,
        Some(name) => Kind::Foreign { what: format!("it holds {name}") },
    })
}

/// The first name in a directory that is not one of the names that count as nothing.
fn first_name(path: &Path) -> Result<Option<String>, DirError> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at("read", path))?,
    };
    for entry in entries {
        let entry = entry.map_err(at("read", path))?;
        if rejoin::is_aside(&entry.path()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        // A file system's own folder is nobody's data; mount points begin with it.
        let nothing = [LOCK, "lost+found", CERTIFICATES].contains(&name.as_str())
            || name == format!("{IDENTITY}.{}", atomic::TEMPORARY);
        if !nothing {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().next())
}

fn has_segment(wal: &Path) -> Result<bool, DirError> {
    match fs::read_dir(wal) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(at("read", wal)(e)),
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(at("read", wal))?;
                if entry.path().extension().is_some_and(|x| x == "wal") {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

fn wal_place(path: &Path, asked: Option<&Path>, noted: Option<&Path>) -> Result<PathBuf, DirError> {
    let noted = noted.map_or_else(|| path.join(WAL), Path::to_path_buf);
    let Some(asked) = asked else { return Ok(noted) };
    let asked = std::path::absolute(asked).map_err(at("resolve", asked))?;
    let same = |a: &Path, b: &Path| a == b || (a.exists() && fs::canonicalize(a).ok() == fs::canonicalize(b).ok());
    if same(&asked, &noted) || (has_segment(&asked)? && !has_segment(&noted)?) {
        return Ok(asked);
    }
    Err(DirError::Refused(format!(
        "the log of {} is in {}, but --wal-dir says {}: nothing was changed. Leave --wal-dir as it was, or stop the server, move the *.wal files and start again",
        path.display(),
        noted.display(),
        asked.display()
    )))
}

/// Removes what an unfinished creation left: only files that it makes itself, only where its identity says.
fn clear_unfinished(path: &Path) -> Result<(), DirError> {
    for name in [TABLES.to_string(), format!("{TABLES}.new")] {
        let file = path.join(name);
        atomic::remove(&file).map_err(at("remove", &file))?;
    }
    let noted = read_identity(path)?.and_then(|page| page.wal_dir).unwrap_or_else(|| path.join(WAL));
    for entry in fs::read_dir(&noted).into_iter().flatten() {
        let file = entry.map_err(at("read", &noted))?.path();
        if file.extension().is_some_and(|x| x == "wal" || x == atomic::TEMPORARY) {
            atomic::remove(&file).map_err(at("remove", &file))?;
        }
    }
    Ok(())
}

/// The identity file, parsed.
struct Page {
    identity: Identity,
    wal_dir: Option<PathBuf>,
    created: bool,
    restore: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    cluster_id: String,
    member_id: String,
    name: String,
    wal_dir: Option<PathBuf>,
    created: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    restore: bool,
}

fn read_text(path: &Path) -> Result<Option<String>, DirError> {
    let file = path.join(IDENTITY);
    match fs::metadata(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at("read", &file)(e)),
        Ok(m) if !m.is_file() || m.len() > IDENTITY_BYTES_MAX => {
            return Err(damaged(&file, "it is not an identity file of eyrie"));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(&file).map_err(at("read", &file))?;
    String::from_utf8(bytes).map(Some).map_err(|_| damaged(&file, "it is not text"))
}

fn read_version(path: &Path) -> Result<Option<u32>, DirError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let file = path.join(IDENTITY);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    if words.next() != Some(FIRST_WORD) {
        return Err(damaged(&file, format!("it does not begin with \"{FIRST_WORD}\"")));
    }
    match words.next().and_then(|w| w.parse().ok()) {
        Some(version) if version > 0 => Ok(Some(version)),
        _ => Err(damaged(&file, "its version is not a number")),
    }
}

fn read_identity(path: &Path) -> Result<Option<Page>, DirError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let file = path.join(IDENTITY);
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let json = lines.next().unwrap_or_default();
    let crc = format!("{:08x}", crc32c::crc32c(json.as_bytes()));
    if first != format!("{FIRST_WORD} {VERSION} {crc}") || lines.next() != Some("") || lines.next().is_some() {
        return Err(damaged(&file, "its checksum does not match"));
    }
    let stored: Stored = serde_json::from_str(json).map_err(|e| damaged(&file, format!("it cannot be read: {e}")))?;
    let id = |hex: &str| u64::from_str_radix(hex, 16).map_err(|_| damaged(&file, format!("{hex:?} is not an id")));
    let identity = Identity {
        cluster: ClusterId(id(&stored.cluster_id)?),
        member: MemberId(id(&stored.member_id)?),
        name: stored.name,
    };
    Ok(Some(Page { identity, wal_dir: stored.wal_dir, created: stored.created, restore: stored.restore }))
}

fn acquire(path: &Path) -> Result<DirLock, DirError> {
    let file = path.join(LOCK);
    lock::acquire(&file).map_err(|failure| match failure {
        LockFailure::Held(pid) => DirError::InUse { dir: path.display().to_string(), pid },
        LockFailure::Io(source) => at("lock", &file)(source),
    })
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirError {
    let path = path.display().to_string();
    move |source| DirError::Io { doing, path, source }
}

fn damaged(file: &Path, what: impl Into<String>) -> DirError {
    DirError::Damaged { file: file.display().to_string(), what: what.into() }
}
