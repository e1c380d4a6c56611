//! A snapshot file from anywhere: first its hash and its whole structure, then its content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;

use bytes::Bytes;
use eyrie_state::auth::{Role, User};
use eyrie_state::record::{
    self, LeaseRow, META_COMPACT_FINISHED, META_COMPACT_SCHEDULED, parse_position_key, position_key,
};
use eyrie_state::{Bucket, Position, parse_member_json, parse_member_key};
use sha2::{Digest, Sha256};

use super::HASH_LEN;
use crate::bbolt::{BoltFault, Database};

const READ_LEN: usize = 256 * 1024;
/// Smaller files are not worth a second thread.
const SIDE_BY_SIDE_LEN_MIN: u64 = 4 << 20;

/// Why a file is not accepted. The texts are upstream's where upstream has one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// The file cannot be opened or read.
    #[error("{}", go_io(.verb, .path, .cause))]
    Io {
        /// What was tried (`open`, `read`).
        verb: &'static str,
        /// Which file.
        path: String,
        /// The system's answer.
        cause: io::Error,
    },
    /// No trailing hash, so this is a database file or a truncated snapshot.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    MissingHash,
    /// The bytes are not those that were saved.
    #[error("expected sha256 {}, got {}", go_bytes(.expected), go_bytes(.got))]
    Hash {
        /// What the trailer says.
        expected: [u8; HASH_LEN],
        /// What the bytes give.
        got: [u8; HASH_LEN],
    },
    /// The database inside is not sound.
    #[error(transparent)]
    Structure(#[from] BoltFault),
    /// The database is sound, but not etcd's.
    #[error("snapshot file is a bbolt database, but not etcd's: {0}")]
    Foreign(String),
    /// A record of history makes no sense.
    #[error("bucket key, record {name}: {what}")]
    Record {
        /// Its name in hex.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// What `snapshot status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over bucket names, keys and values.
    pub hash: u32,
    /// Revision of the last record.
    pub revision: i64,
    /// Pairs in all buckets.
    pub total_key: u64,
    /// Bytes of the database.
    pub total_size: u64,
}

/// An open file. How far it was checked is said by what opened it.
#[derive(Debug)]
pub struct SnapshotFile {
    database: Database<File>,
    content_checked: bool,
}

impl SnapshotFile {
    /// Checks the hash and the structure.
    ///
    /// # Errors
    /// [`SnapshotFault`] when anything is wrong.
    pub fn open(path: &Path, skip_hash_check: bool) -> Result<Self, SnapshotFault> {
        Self::open_checked(path, skip_hash_check, false)
    }

    /// Checks the hash, the structure and the content of a file that is to be restored.
    ///
    /// # Errors
    /// [`SnapshotFault`] when anything is wrong; nothing was written anywhere.
    pub fn open_for_restore(path: &Path, skip_hash_check: bool) -> Result<Self, SnapshotFault> {
        Self::open_checked(path, skip_hash_check, true)
    }

    fn open_checked(path: &Path, skip_hash_check: bool, content: bool) -> Result<Self, SnapshotFault> {
        let fault = |verb, cause| SnapshotFault::Io { verb, path: path.display().to_string(), cause };
        let file = File::open(path).map_err(|e| fault("open", e))?;
        let len = file.metadata().map_err(|e| fault("stat", e))?.len();
        let (body, hashed) = body_of(len, skip_hash_check)?;
        let check_hash = || match hashed {
            true => check_hash(&file, body).map_err(|e| fault("read", e)).flatten(),
            false => Ok(()),
        };
        let check_rest = || -> Result<Self, SnapshotFault> {
            let database = Database::open(file.try_clone().map_err(BoltFault::Io)?, Some(body))?;
            let mut opened = Self { database, content_checked: false };
            if content {
                opened.check_content()?;
                opened.content_checked = true;
            }
            Ok(opened)
        };
        if len < SIDE_BY_SIDE_LEN_MIN {
            check_hash()?;
            return check_rest();
        }
        // both read the whole file: side by side
        std::thread::scope(|scope| {
            let hashing = scope.spawn(check_hash);
            let rest = check_rest();
            hashing.join().expect("hashing does not panic")?;
            rest
        })
    }

    /// Checks the structure and the small buckets of a file that is to be restored, while another thread goes on with the
    /// hash. What comes of it must not be kept before the rest is proven.
    ///
    /// # Errors
    /// [`SnapshotFault`] when anything is wrong; nothing was written anywhere.
    pub fn open_unproven(path: &Path, skip_hash_check: bool) -> Result<Unproven, SnapshotFault> {
        let name = path.display().to_string();
        let fault = move |verb, cause| SnapshotFault::Io { verb, path: name.clone(), cause };
        let file = File::open(path).map_err(|e| fault("open", e))?;
        let len = file.metadata().map_err(|e| fault("stat", e))?.len();
        let (body, hashed) = body_of(len, skip_hash_check)?;
        let other = file.try_clone().map_err(|e| fault("open", e))?;
        let check_hash = move || match hashed {
            true => check_hash(&other, body).map_err(|e| fault("read", e)).flatten(),
            false => Ok(()),
        };
        let hashing = std::thread::spawn(check_hash);
        let opened = Database::open(file, Some(body)).map_err(SnapshotFault::from).and_then(|database| {
            let opened = Self { database, content_checked: false };
            opened.check_buckets()?;
            Ok(opened)
        });
        match opened {
            Ok(file) => Ok(Unproven { file, hashing }),
            Err(fault) => Err(verdict(hashing).err().unwrap_or(fault)),
        }
    }

    /// Checks the structure only, as `snapshot status` does.
    ///
    /// # Errors
    /// [`SnapshotFault`] when the file is not a sound database.
    pub fn open_for_status(path: &Path) -> Result<Self, SnapshotFault> {
        let fault = |verb, cause| SnapshotFault::Io { verb, path: path.display().to_string(), cause };
        if std::fs::metadata(path).map_err(|e| fault("stat", e))?.is_dir() {
            return Err(fault("open", io::ErrorKind::IsADirectory.into()));
        }
        let file = File::open(path).map_err(|e| fault("open", e))?;
        Ok(Self { database: Database::open(file, None)?, content_checked: false })
    }

    /// The database inside.
    pub fn database(&self) -> &Database<File> {
        &self.database
    }

    /// The figures of upstream's `snapshot status`.
    ///
    /// # Errors
    /// [`SnapshotFault`] when the file changes or fails under us.
    pub fn status(&self) -> Result<Status, SnapshotFault> {
        let mut status = Status { hash: 0, revision: 0, total_key: 0, total_size: self.database.size() };
        for name in self.database.buckets()? {
            status.hash = crc32c::crc32c_append(status.hash, &name);
            let Some(mut cursor) = self.database.bucket(&name)? else { continue };
            while let Some((key, value)) = cursor.next_pair_ref()? {
                status.hash = crc32c::crc32c_append(status.hash, key);
                status.hash = crc32c::crc32c_append(status.hash, value);
                status.total_key += 1;
                if name.as_ref() == b"key" {
                    status.revision =
                        parse_position_key(key).ok_or_else(|| record_fault(key, "name is not a revision"))?.0.main;
                }
            }
        }
        Ok(status)
    }

    /// Checks that the buckets are etcd's and that every record of history can be read.
    ///
    /// # Errors
    /// [`SnapshotFault`] names the first thing that is wrong.
    pub fn check_content(&self) -> Result<(), SnapshotFault> {
        self.check_buckets()?;
        self.history_in_order(|_, _, _| Ok(()))
    }

    /// All of the content but the history.
    fn check_buckets(&self) -> Result<(), SnapshotFault> {
        if self.database.bucket(b"key")?.is_none() {
            return Err(SnapshotFault::Foreign("there is no bucket \"key\"".into()));
        }
        if let Some(version) = self.database.get(b"meta", b"storageVersion")? {
            let version = String::from_utf8_lossy(&version).into_owned();
            if !version.starts_with("3.5") {
                let what = format!("its storage version is {version}, and this program reads up to 3.5");
                return Err(SnapshotFault::Foreign(what));
            }
        }
        for name in self.database.buckets()? {
            let known = name.as_ref() == b"key" || Bucket::ALL.iter().any(|b| b.name().as_bytes() == name);
            if !known {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(SnapshotFault::Foreign(format!("bucket {name:?} is unknown")));
            }
        }
        self.check_rows()
    }

    /// As [`SnapshotFile::history`], and checks that every record is above the one before.
    pub(crate) fn history_in_order<E: From<SnapshotFault>>(
        &self,
        mut visit: impl FnMut(Position, bool, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = Position::default();
        self.history(|at, tombstone, record| {
            if at <= last || at.main == 0 {
                let (name, len) = position_key(at, tombstone);
                return Err(record_fault(&name[..len], "its revision is not above the one before").into());
            }
            last = at;
            visit(at, tombstone, record)
        })
    }

    /// As [`SnapshotFile::check_content`], unless opening has done it.
    pub(crate) fn ensure_content(&self) -> Result<(), SnapshotFault> {
        if self.content_checked { Ok(()) } else { self.check_content() }
    }

    /// Rows of small buckets that a member must understand to start.
    fn check_rows(&self) -> Result<(), SnapshotFault> {
        let buckets = [
            Bucket::Lease,
            Bucket::Alarm,
            Bucket::AuthUsers,
            Bucket::AuthRoles,
            Bucket::Members,
            Bucket::MembersRemoved,
            Bucket::Meta,
        ];
        for bucket in buckets {
            for (key, value) in self.small(bucket)? {
                check_row(bucket, &key, &value).map_err(|what| {
                    SnapshotFault::Foreign(format!("bucket {}, row {}: {what}", bucket.name(), key.escape_ascii()))
                })?;
            }
        }
        Ok(())
    }

    /// The file has users and roles that are enforced.
    ///
    /// # Errors
    /// [`SnapshotFault`] when the file changes or fails under us.
    pub fn auth_enabled(&self) -> Result<bool, SnapshotFault> {
        Ok(self.database.get(Bucket::Auth.name().as_bytes(), record::AUTH_ENABLED)?.is_some_and(|v| v.as_ref() == [1]))
    }

    /// Visits the records of bucket `key` in order.
    ///
    /// # Errors
    /// The visitor's, or [`SnapshotFault`] when a record makes no sense.
    pub fn history<E: From<SnapshotFault>>(
        &self,
        mut visit: impl FnMut(Position, bool, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut cursor) = self.database.bucket(b"key").map_err(SnapshotFault::from)? else { return Ok(()) };
        while let Some((name, record)) = cursor.next_pair_ref().map_err(SnapshotFault::from)? {
            let (at, tombstone) =
                parse_position_key(name).ok_or_else(|| record_fault(name, "name is not a revision"))?;
            if !is_bump(record) {
                record::view(record).map_err(|what| record_fault(name, what))?;
            }
            visit(at, tombstone, record)?;
        }
        Ok(())
    }

    /// All pairs of a small bucket, in order; none when the bucket does not exist.
    ///
    /// # Errors
    /// [`SnapshotFault`] when the file changes or fails under us.
    pub fn small(&self, bucket: Bucket) -> Result<Vec<(Bytes, Bytes)>, SnapshotFault> {
        let mut pairs = Vec::new();
        if let Some(mut cursor) = self.database.bucket(bucket.name().as_bytes())? {
            while let Some(pair) = cursor.next_pair()? {
                pairs.push(pair);
            }
        }
        Ok(pairs)
    }
}

/// A file whose structure is sound, and whose hash is being computed. See [`SnapshotFile::open_unproven`].
pub struct Unproven {
    file: SnapshotFile,
    hashing: JoinHandle<Result<(), SnapshotFault>>,
}

impl Unproven {
    /// The file as it is. What is read of it may be wrong.
    pub(crate) fn file(&self) -> &SnapshotFile {
        &self.file
    }

    /// Waits for the hash. With `history_read` somebody has read all of the history in order and found nothing wrong.
    pub(crate) fn proven(self, history_read: bool) -> Result<SnapshotFile, SnapshotFault> {
        let Self { mut file, hashing } = self;
        verdict(hashing)?;
        if !history_read {
            file.check_content()?;
        }
        file.content_checked = true;
        Ok(file)
    }
}

fn verdict(hashing: JoinHandle<Result<(), SnapshotFault>>) -> Result<(), SnapshotFault> {
    hashing.join().expect("hashing does not panic")
}

/// Bytes of the database in a file of this length, and whether a hash follows that is to be checked.
fn body_of(len: u64, skip_hash_check: bool) -> Result<(u64, bool), SnapshotFault> {
    let hashed = len % 512 == HASH_LEN as u64;
    if !hashed && !skip_hash_check {
        return Err(SnapshotFault::MissingHash);
    }
    Ok((if hashed { len - HASH_LEN as u64 } else { len }, hashed && !skip_hash_check))
}

fn check_row(bucket: Bucket, key: &[u8], value: &[u8]) -> Result<(), String> {
    let sound = match bucket {
        Bucket::Lease => LeaseRow::decode(value).is_ok_and(|row| row.id.0 != 0 && LeaseRow::key(row.id) == key),
        Bucket::Alarm => record::parse_alarm_key(key).is_ok(),
        Bucket::AuthUsers => User::decode(value).is_ok_and(|user| user.name.as_bytes() == key),
        Bucket::AuthRoles => Role::decode(value).is_ok_and(|role| role.name.as_bytes() == key),
        Bucket::Members => parse_member_key(key) == Some(parse_member_json(value)?.id),
        Bucket::MembersRemoved => parse_member_key(key).is_some(),
        Bucket::Meta if key == META_COMPACT_SCHEDULED || key == META_COMPACT_FINISHED => {
            parse_position_key(value).is_some()
        }
        _ => true,
    };
    if sound { Ok(()) } else { Err("it is not what etcd writes there".into()) }
}

/// A record without a single byte: upstream's `--bump-revision` leaves one, to lift the revision. It is no pair.
pub(crate) fn is_bump(record: &[u8]) -> bool {
    record.is_empty()
}

fn record_fault(name: &[u8], what: &'static str) -> SnapshotFault {
    SnapshotFault::Record { name: name.iter().map(|b| format!("{b:02x}")).collect(), what }
}

fn check_hash(file: &File, body: u64) -> io::Result<Result<(), SnapshotFault>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_LEN];
    let mut at = 0;
    while at < body {
        let len = (body - at).min(READ_LEN as u64) as usize;
        file.read_exact_at(&mut buffer[..len], at)?;
        hash.update(&buffer[..len]);
        at += len as u64;
    }
    let mut expected = [0; HASH_LEN];
    file.read_exact_at(&mut expected, body)?;
    let got: [u8; HASH_LEN] = hash.finalize().into();
    Ok(if expected == got { Ok(()) } else { Err(SnapshotFault::Hash { expected, got }) })
}

/// Bytes as upstream prints them: `[1 2 3]`.
fn go_bytes(bytes: &[u8]) -> String {
    format!("[{}]", bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" "))
}

/// A system error as upstream prints it: `open /x: no such file or directory`.
fn go_io(verb: &str, path: &str, cause: &io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let lower: String = chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect();
    format!("{verb} {path}: {lower}")
}
