//! A full snapshot, from the stream of `Maintenance.Snapshot` into a scratch file that is proven before it is used.
//!
//! Why a scratch file and not straight into the bucket: the bytes count only when all of them and their hash are here,
//! the pages must be read at random to know revision and keys, and a slow bucket must not hold the server's read
//! transaction open, which would let its database file grow. Memory stays at one message of the stream.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eyrie_api::client::CallError;
use eyrie_api::pb::SnapshotRequest;
use eyrie_api::pb::maintenance_client::MaintenanceClient;
use eyrie_disk::snapshot::{HASH_LEN, HashFault, HashKv, SnapshotFault, SnapshotFile};
use eyrie_state::record;
use eyrie_state::{Position, Revision};
use sha2::{Digest, Sha256};

use super::{Member, Source, SourceError, soon};
use crate::history::{Event, Revised, TimeMs};
use crate::limits::{MESSAGE_LEN_MAX, SNAPSHOT_SILENCE_MAX};

/// Scratch files are named so; those that no living process holds are removed by the next one.
const SCRATCH_PREFIX: &str = "eyrie-full-";

/// A whole, proven snapshot in a scratch file that has no name any more: it is gone when this is dropped.
pub struct Spooled {
    file: File,
    database: SnapshotFile,
    /// Who sent it.
    pub member: Member,
    /// Bytes of the file, trailing hash included.
    pub len: u64,
    /// SHA-256 of the whole file, trailing hash included.
    pub sha256: [u8; 32],
    /// The revision whose state it is.
    pub revision: Revision,
    /// Live keys at that revision.
    pub key_count: u64,
    /// The digest that a member with the same data answers, and the compaction it was computed under.
    pub digest: HashKv,
    /// The last change in it, by which a follower knows that the store is still the same.
    pub last: Option<(Bytes, Option<Bytes>)>,
}

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spooled").field("revision", &self.revision).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Source {
    /// Fetches a snapshot from `member`. `heard` is told the bytes that arrived and the bytes that are expected.
    ///
    /// # Errors
    /// The stream broke or is damaged, or the scratch file failed. Nothing is left behind.
    pub async fn snapshot(&self, member: &Member, heard: &mut impl FnMut(u64, u64)) -> Result<Spooled, SourceError> {
        let mut scratch = Scratch::create(&self.spool)?;
        let damaged = |cause: String| SourceError::Damaged { endpoint: member.endpoint.clone(), cause };
        let client = self.at(member);
        let failed = |error: &CallError| self.failed("read a snapshot", error);
        let channel = client.channel(soon()).await.map_err(|error| failed(&error))?;
        let mut maintenance = MaintenanceClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
        let answer = maintenance.snapshot(client.request(SnapshotRequest {})).await;
        let mut stream = answer.map_err(|status| failed(&status.into()))?.into_inner();
        let mut check = TrailerCheck::default();
        loop {
            let message = tokio::time::timeout(SNAPSHOT_SILENCE_MAX, stream.message()).await;
            let message = message.map_err(|_| failed(&CallError::Deadline(None)))?;
            let Some(part) = message.map_err(|status| failed(&status.into()))? else { break };
            check.update(&part.blob);
            scratch.write(&part.blob)?;
            heard(check.len(), check.len().saturating_add(part.remaining_bytes));
        }
        let (len, sha256) = check.finish().map_err(damaged)?;
        let member = member.clone();
        tokio::task::spawn_blocking(move || scratch.prove(member, len, sha256)).await.expect("proving does not panic")
    }
}

impl Spooled {
    /// The file from its start.
    ///
    /// # Errors
    /// The scratch file failed.
    pub fn reader(&self) -> Result<File, SourceError> {
        let fault = |cause| SourceError::Spool { verb: "read", path: "(unnamed)".into(), cause };
        let mut file = self.file.try_clone().map_err(fault)?;
        file.rewind().map_err(fault)?;
        Ok(file)
    }

    /// The database inside.
    pub fn database(&self) -> &SnapshotFile {
        &self.database
    }

    /// Visits all history that the file holds, revision by revision.
    ///
    /// # Errors
    /// A record that makes no sense.
    pub fn history(&self, visit: impl FnMut(Revised)) -> Result<(), SnapshotFault> {
        history(&self.database, visit)
    }
}

/// Visits all history that a snapshot file holds, revision by revision, oldest first. Of keys that were changed before
/// the last compaction only the last change is there; a revision may so be less than it was.
///
/// # Errors
/// A record that makes no sense.
pub fn history(file: &SnapshotFile, mut visit: impl FnMut(Revised)) -> Result<(), SnapshotFault> {
    let mut pending: Option<Revised> = None;
    file.history::<SnapshotFault>(|at: Position, tombstone, bytes| {
        let revision = at.revision();
        // `--bump-revision` leaves records without a byte
        let events = if bytes.is_empty() { Vec::new() } else { vec![event(bytes, tombstone)] };
        match &mut pending {
            Some(open) if open.revision == revision => open.events.extend(events),
            _ => {
                let next = Revised { revision, heard_at: TimeMs::default(), events };
                if let Some(whole) = pending.replace(next) {
                    visit(whole);
                }
            }
        }
        Ok(())
    })?;
    if let Some(whole) = pending {
        visit(whole);
    }
    Ok(())
}

fn event(bytes: &[u8], tombstone: bool) -> Event {
    let bytes = Bytes::copy_from_slice(bytes);
    // checked by `SnapshotFile::history`
    let view = record::view(&bytes).unwrap_or_default();
    if tombstone {
        return Event::Delete { key: bytes.slice(view.key) };
    }
    Event::Put {
        key: bytes.slice(view.key),
        value: bytes.slice(view.value),
        create_revision: Revision(view.create_revision),
        version: view.version,
        lease: view.lease,
    }
}

/// Checks etcd's trailing SHA-256 while the bytes pass by: all but the last 32 are hashed and compared with these.
#[derive(Debug, Default)]
pub struct TrailerCheck {
    body: Sha256,
    whole: Sha256,
    held: Vec<u8>,
    len: u64,
}

impl TrailerCheck {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.len += bytes.len() as u64;
        if bytes.len() >= HASH_LEN {
            let (body, tail) = bytes.split_at(bytes.len() - HASH_LEN);
            self.body.update(&self.held);
            self.body.update(body);
            self.held.clear();
            self.held.extend_from_slice(tail);
        } else {
            self.held.extend_from_slice(bytes);
            let out = self.held.len().saturating_sub(HASH_LEN);
            self.body.update(&self.held[..out]);
            self.held.drain(..out);
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No byte came yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length and SHA-256 of all bytes.
    ///
    /// # Errors
    /// Words that say what is wrong: cut short, or changed on the way.
    pub fn finish(self) -> Result<(u64, [u8; 32]), String> {
        if self.len % 512 != HASH_LEN as u64 {
            return Err(format!("it ends after {} bytes, which is in the middle", self.len));
        }
        if self.body.finalize().as_slice() != self.held {
            return Err("its bytes do not match the SHA-256 at its end".into());
        }
        Ok((self.len, self.whole.finalize().into()))
    }
}

/// A scratch file that is removed on every way out.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn create(folder: &Path) -> Result<Self, SourceError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        remove_leftovers(folder);
        let name = format!("{SCRATCH_PREFIX}{}-{}.db", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
        let fault = |cause| SourceError::Spool { verb: "create", path: path.clone(), cause };
        let mut options = File::options();
        // the database holds every secret of the cluster
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(fault)?;
        file.try_lock().map_err(|error| fault(error.into()))?;
        Ok(Self { file, path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.file.write_all(bytes).map_err(|cause| SourceError::Spool { verb: "write", path: self.path.clone(), cause })
    }

    /// Reads every page and record of the file, then takes its name away.
    fn prove(self, member: Member, len: u64, sha256: [u8; 32]) -> Result<Spooled, SourceError> {
        let damaged = |cause: String| SourceError::Damaged { endpoint: member.endpoint.clone(), cause };
        // what was hashed on the wire must be what the disk gives back: the hash is checked a second time here
        let database = SnapshotFile::open_for_restore(&self.path, false).map_err(|fault| damaged(fault.to_string()))?;
        let mut live: HashSet<[u8; 16]> = HashSet::new();
        let (mut revision, mut last) = (Revision(1), None);
        history(&database, |revised| {
            revision = revised.revision;
            for event in revised.events {
                let mut name = [0; 16];
                name.copy_from_slice(&Sha256::digest(event.key())[..16]);
                match event.value() {
                    Some(_) => live.insert(name),
                    None => live.remove(&name),
                };
                last = Some((event.key().clone(), event.value().cloned()));
            }
        })
        .map_err(|fault| damaged(fault.to_string()))?;
        let digest = database.hash_kv(0).map_err(|fault: HashFault| damaged(fault.to_string()))?;
        let file = self.file.try_clone().map_err(|cause| SourceError::Spool {
            verb: "reopen",
            path: self.path.clone(),
            cause,
        })?;
        let revision = Revision(revision.0.max(digest.revision));
        let key_count = live.len() as u64;
        Ok(Spooled { file, database, member, len, sha256, revision, key_count, digest, last })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes scratch files of processes that were killed: theirs is not locked any more.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH_PREFIX));
        if ours && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body whose length fits, with its hash.
    fn sealed(body_len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..body_len).map(|at| (at * 7) as u8).collect();
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        bytes
    }

    fn check(parts: &[&[u8]]) -> Result<(u64, [u8; 32]), String> {
        let mut check = TrailerCheck::default();
        parts.iter().for_each(|part| check.update(part));
        check.finish()
    }

    #[test]
    fn the_trailer_is_found_however_the_stream_is_cut() {
        let bytes = sealed(1024);
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        for step in [1, 7, 31, 32, 33, 100, 1000, 4096] {
            let parts: Vec<&[u8]> = bytes.chunks(step).collect();
            assert_eq!(check(&parts), Ok((bytes.len() as u64, expected)), "parts of {step}");
        }
    }

    #[test]
    fn a_changed_or_cut_stream_is_refused() {
        let bytes = sealed(1024);
        for at in [0, 512, 1023, 1024, 1055] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(check(&[&changed]).is_err(), "byte {at}");
        }
        assert!(check(&[&bytes[..1055]]).is_err());
        // a cut at a length that looks whole
        assert!(check(&[&bytes[..544]]).is_err());
        assert!(check(&[]).is_err());
    }

    #[test]
    fn leftovers_of_dead_processes_go_and_files_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join("eyrie-full-1-1.db");
        let other = folder.path().join("precious.db");
        std::fs::write(&dead, b"x").unwrap();
        std::fs::write(&other, b"x").unwrap();
        let live = Scratch::create(folder.path()).unwrap();
        assert!(!dead.exists());
        let second = Scratch::create(folder.path()).unwrap();
        assert!(live.path.exists() && other.exists());
        let path = second.path.clone();
        drop(second);
        assert!(!path.exists());
    }
}
