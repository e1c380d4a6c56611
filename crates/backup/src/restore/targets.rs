//! Where metadata goes: data directories of members, or a snapshot file; and how a restore that was killed goes on.
//!
//! ```text
//! look (nothing is in the way) ─▶ note (what is being made) ─▶ directories, each unfinished until whole ─▶ note goes
//! ```
//! A directory of a store can't be told from one that this very command has just finished. So a note stands beside it until
//! all is done: who types the same command again for the same moment goes on, anybody else is refused.

use std::io;
use std::path::{Path, PathBuf};

use eyrie_disk::atomic;
use eyrie_disk::datadir::{DataDir, Identity, Kind, refusal};
use eyrie_disk::snapshot::{RestoreTarget, SnapshotFile, restore};
use eyrie_state::{ClusterId, Member, MemberId};
use serde::{Deserialize, Serialize};

use super::RestoreError;

/// Where metadata goes.
#[derive(Debug, Clone)]
pub enum MetadataTo {
    /// Data directories of members of a new cluster.
    Members(ClusterTo),
    /// A snapshot file in etcd's format.
    Snapshot(PathBuf),
}

/// A new cluster.
#[derive(Debug, Clone)]
pub struct ClusterTo {
    /// Its id.
    pub cluster: ClusterId,
    /// All its members.
    pub founders: Vec<Member>,
    /// Those whose directories are written here.
    pub write: Vec<MemberTo>,
    /// The folder of all directories, where there are several.
    pub folder: Option<PathBuf>,
}

/// A member's directory.
#[derive(Debug, Clone)]
pub struct MemberTo {
    /// Its name.
    pub name: String,
    /// Its id.
    pub member: MemberId,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where the log goes, if not into the data directory.
    pub wal_dir: Option<PathBuf>,
}

/// What is being made: equal notes are the same work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The archive.
    pub(super) archive: String,
    /// Its history.
    pub(super) timeline: u32,
    /// The revision.
    pub(super) revision: i64,
    /// The revision that is served.
    pub(super) serves: i64,
    /// Digest of what is written.
    pub(super) digest: String,
    /// The new cluster.
    pub(super) cluster: String,
}

/// Notes are a few hundred bytes.
const NOTE_LEN_MAX: u64 = 64 << 10;

impl MetadataTo {
    /// Names of what is written, for the plan.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Members(to) => {
                to.write.iter().map(|one| format!("{} in {}", one.name, one.data_dir.display())).collect()
            }
            Self::Snapshot(file) => vec![file.display().to_string()],
        }
    }

    /// Refuses what is in the way. What a killed run has left is not: whether it is of the same work, [`MetadataTo::begin`]
    /// says.
    pub(super) fn look(&self) -> Result<(), RestoreError> {
        let noted = read_note(&self.note())?.is_some();
        match self {
            Self::Snapshot(file) if file.exists() && !noted => Err(RestoreError::Refused(format!(
                "{} exists. Nothing was changed. Next: name a file that does not exist yet",
                file.display()
            ))),
            Self::Snapshot(_) => Ok(()),
            Self::Members(to) => to.look(noted),
        }
    }

    /// Notes what will be made; what is there must be of the same work.
    pub(super) fn begin(&self, note: &Note) -> Result<(), RestoreError> {
        let path = self.note();
        match read_note(&path)? {
            Some(found) if found != *note => Err(RestoreError::Refused(format!(
                "{} says that another restore was begun here (revision {}, cluster {}). Nothing was changed. Next: type \
                 that command again, or delete what it has made, and the note itself",
                path.display(),
                found.revision,
                found.cluster
            ))),
            Some(_) => Ok(()),
            None => {
                let folder = atomic::parent_of(&path);
                atomic::create_dir(folder).map_err(|cause| local("make", folder, cause))?;
                let text = serde_json::to_vec(note).expect("plain values always have JSON");
                atomic::write(&path, &text).map_err(|cause| local("write", &path, cause))
            }
        }
    }

    /// All is done and compared.
    pub(super) fn end(&self) -> Result<(), RestoreError> {
        let path = self.note();
        atomic::remove(&path).map_err(|cause| local("remove", &path, cause))
    }

    /// The file in which the snapshot is made before it has its name: beside its place, or with other scratch files.
    pub(super) fn scratch(&self, scratch: &Path, word: &str) -> PathBuf {
        match self {
            Self::Members(_) => scratch.join(format!("eyrie-restore-{}-{word}.db", std::process::id())),
            // always the same: what a killed run left is written over
            Self::Snapshot(file) => beside(file, "part"),
        }
    }

    fn note(&self) -> PathBuf {
        match self {
            Self::Snapshot(file) => beside(file, "json"),
            Self::Members(ClusterTo { folder: Some(folder), .. }) => folder.join(".eyrie-restore.json"),
            Self::Members(to) => to.write.first().map_or_else(PathBuf::new, |one| beside(&one.data_dir, "json")),
        }
    }
}

impl ClusterTo {
    fn look(&self, noted: bool) -> Result<(), RestoreError> {
        if let Some(folder) = &self.folder {
            self.look_into(folder)?;
        }
        for one in &self.write {
            let kind = DataDir::inspect(&one.data_dir)?;
            if matches!(kind, Kind::Eyrie { .. }) && noted && self.is_ours(one) {
                continue;
            }
            DataDir::may_restore(&one.data_dir, one.wal_dir.as_deref())?;
        }
        Ok(())
    }

    /// In the folder of all members may be nothing but members.
    fn look_into(&self, folder: &Path) -> Result<(), RestoreError> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(local("read", folder, cause)),
        };
        for entry in entries {
            let name = entry.map_err(|cause| local("read", folder, cause))?.file_name();
            // the note, also while it was being written
            let note = name.as_encoded_bytes().starts_with(b".eyrie-restore.");
            let ours = note || name == "lost+found" || self.write.iter().any(|one| *one.name == name);
            if !ours {
                return Err(RestoreError::Refused(format!(
                    "{} is not empty (found {}). Nothing was changed. Next: choose another --data-dir",
                    folder.display(),
                    name.to_string_lossy()
                )));
            }
        }
        Ok(())
    }

    /// Whether the finished store in a directory is this member of this cluster.
    fn is_ours(&self, one: &MemberTo) -> bool {
        DataDir::open(&one.data_dir, one.wal_dir.as_deref()).is_ok_and(|dir| {
            let identity = dir.identity();
            (identity.cluster, identity.member) == (self.cluster, one.member)
        })
    }

    /// Writes every directory that is not there yet, each read back and compared with the file.
    pub(super) fn write(&self, file: &SnapshotFile) -> Result<(), RestoreError> {
        for one in &self.write {
            if matches!(DataDir::inspect(&one.data_dir)?, Kind::Eyrie { .. }) {
                if self.is_ours(one) {
                    continue;
                }
                return Err(refusal(&one.data_dir, &DataDir::inspect(&one.data_dir)?).into());
            }
            let identity = Identity { cluster: self.cluster, member: one.member, name: one.name.clone() };
            let (data_dir, wal_dir) = (one.data_dir.as_path(), one.wal_dir.as_deref());
            restore(
                file,
                RestoreTarget { data_dir, wal_dir, identity, members: self.founders.clone(), bump_revision: 0 },
            )?;
        }
        Ok(())
    }
}

fn read_note(path: &Path) -> Result<Option<Note>, RestoreError> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(local("read", path, cause)),
    };
    let odd = |why: String| {
        RestoreError::Refused(format!(
            "{} is not the note of a restore: {why}. Nothing was changed. Next: look at it, and move it away",
            path.display()
        ))
    };
    if !meta.is_file() || meta.len() > NOTE_LEN_MAX {
        return Err(odd("it is no small file".into()));
    }
    let text = std::fs::read(path).map_err(|cause| local("read", path, cause))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| odd(error.to_string()))
}

/// `.NAME.eyrie-restore.ENDING` beside a file or directory.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    atomic::parent_of(&absolute).join(format!(".{name}.eyrie-restore.{ending}"))
}

fn local(verb: &'static str, path: &Path, cause: io::Error) -> RestoreError {
    RestoreError::Local { verb, path: path.display().to_string(), cause }
}
