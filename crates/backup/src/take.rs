//! A full: from a fit member through proof and comparison into the archive, its record last.
//!
//! ```text
//! members ─▶ snapshot (scratch file, proven) ─▶ digests of the members ─▶ which Milvus ─▶ store ─▶ FullTaken
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use eyrie_archive::record::{self, FullTaken, MemberDigest};
use eyrie_archive::{Revision, TimelineId, UnixMillis, names};
use eyrie_disk::snapshot::SnapshotFault;
use eyrie_milvus::{Layout, ObjectRoot, References, Roots};

use crate::bucket::{Bucket, BucketConfig, BucketError, BucketUrl};
use crate::catalog::{ArchiveError, sha};
use crate::chance;
use crate::config::{Config, MilvusSection};
use crate::history::{Event, TimeMs};
use crate::limits::SNAPSHOT_ATTEMPTS_MAX;
use crate::objects::MirrorError;
use crate::pack::{self, PackError};
use crate::seal::{Recipients, SealError};
use crate::source::{self, Agreement, Anchor, Break, Follow, Source, SourceError, Spooled, Strides};
use crate::tell::{News, Tell};

/// Where Milvus is expected when no key of one is there yet: its own default.
const ROOT_DEFAULT: &str = "by-dev";

/// Why a run ended without what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The archive's catalogue.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file could not be stored.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Keys.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The settings.
    #[error("{0}. Nothing was done. Next: correct the configuration")]
    Config(String),
    /// The metadata is of a Milvus that is not understood.
    #[error(
        "{0}. No full was written, for a backup that misses objects shows it only when it is needed. Next: use a newer \
         version; or name the one Milvus that is meant by `milvus.root`; or leave out the section `milvus` to keep \
         metadata only"
    )]
    Layout(String),
    /// The snapshot changed under us.
    #[error("the scratch file of the full can't be read: {0}. Nothing was recorded")]
    Scratch(#[from] SnapshotFault),
    /// History broke off and a new full did not help.
    #[error("the source cannot be followed: {0}")]
    Break(#[from] Break),
    /// A lost piece of the index named objects that lie nowhere.
    #[error(
        "{0} objects that a lost piece of the index named are not in the archive any more, and which ones is not known. \
         What is recorded is safe; revisions so far do not count as recoverable. Next: run again, it looks at all that the \
         metadata names and copies what is missing"
    )]
    ObjectsMissing(u64),
    /// A task of this program ended early.
    #[error("a part of this program ended early: {0}. What is recorded is safe. Next: run again")]
    Task(String),
}

/// Everything a run works with.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The etcd.
    pub source: Source,
    /// The archive's bucket.
    pub archive: Bucket,
    /// Milvus's bucket, where objects are mirrored.
    pub milvus: Option<MilvusBucket>,
    /// Who may open what is stored.
    pub seal_to: Recipients,
    /// The settings.
    pub config: Config,
    /// Who hears of it.
    pub tell: Tell,
}

/// Where the objects of Milvus are.
#[derive(Debug, Clone)]
pub struct MilvusBucket {
    /// Its bucket.
    pub bucket: Bucket,
    /// Where in it.
    pub objects_at: ObjectRoot,
    /// `etcd.rootPath`, if only one is meant.
    pub root: Option<String>,
    /// Copies at once.
    pub parallel: usize,
}

/// A proven full in a scratch file, and what it tells.
#[derive(Debug)]
pub struct Full {
    /// The file.
    pub spooled: Spooled,
    /// What its members said.
    pub agreement: Agreement,
    /// When it was taken.
    pub taken_at: TimeMs,
    /// Hash of its last revision's changes, if it has any.
    pub end: Option<[u8; 32]>,
    /// What it names, for each Milvus in it.
    pub milvus: Vec<References>,
}

impl Backup {
    /// Opens the source and the buckets.
    ///
    /// # Errors
    /// Settings that can't be right, secrets that can't be read, a refused login.
    pub async fn open(config: Config, tell: Tell) -> Result<Self, BackupError> {
        config.check().map_err(BackupError::Config)?;
        let seal_to = Recipients::parse(config.recipients.iter().map(String::as_str))?;
        let archive = Bucket::open(&config.archive)?;
        let milvus = config.milvus.as_ref().map(MilvusBucket::open).transpose()?;
        let source = Source::connect(&config.source().map_err(BackupError::Config)?).await?;
        Ok(Self { source, archive, milvus, seal_to, config, tell })
    }

    /// Follows the source, in strides where that is wished and it is busy.
    pub(crate) fn follow(&self, anchor: Anchor) -> Follow {
        self.source.follow(anchor, self.config.tail.strides.then(Strides::default))
    }

    /// The source as the archive names it.
    pub(crate) fn described(&self, full: &Full) -> record::Source {
        record::Source {
            cluster: format!("{:016x}", full.spooled.member.cluster.0),
            milvus_roots: full.milvus.iter().map(|references| references.roots().root.clone()).collect(),
            objects: self.milvus.is_some(),
        }
    }

    /// Reads a full from the fittest member, proves it, and compares the members.
    ///
    /// # Errors
    /// See [`BackupError`]; nothing was written.
    pub async fn read_full(&self) -> Result<Full, BackupError> {
        let mut attempt = 1;
        loop {
            match self.read_full_once().await {
                Err(BackupError::Source(error)) if error.is_passing() && attempt < SNAPSHOT_ATTEMPTS_MAX => {
                    self.tell.warn(format!("the full failed and is tried again: {error}"));
                    tokio::time::sleep(std::time::Duration::from_secs(u64::from(attempt))).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn read_full_once(&self) -> Result<Full, BackupError> {
        let members = self.source.fit_members().await?;
        let taken_at = TimeMs::now();
        let spooled =
            self.source.snapshot(&members[0], &mut |bytes, of| self.tell.news(News::FullReading { bytes, of })).await?;
        let agreement = self.source.agree(&spooled.digest, &members).await?;
        let mut last = None;
        spooled.history(|revised| last = Some(revised))?;
        let end = last.filter(|revised| !revised.events.is_empty()).map(|revised| source::digest(&revised));
        let milvus = match &self.milvus {
            Some(bucket) => bucket.references(&spooled)?,
            None => Vec::new(),
        };
        Ok(Full { spooled, agreement, taken_at, end, milvus })
    }

    /// Stores a full; what comes back belongs into its record.
    ///
    /// # Errors
    /// The bucket failed; no record names what may be there.
    pub(crate) async fn store_full(&self, full: &Full, timeline: TimelineId) -> Result<FullTaken, BackupError> {
        let revision = Revision(full.spooled.revision.0);
        let (nonce, of, tell) = (chance::word(4), full.spooled.len, self.tell.clone());
        let name = |wrap| names::full(timeline, revision, &nonce, wrap);
        let sent = move |bytes| tell.news(News::FullStoring { bytes, of });
        let packed = pack::file(&self.archive, &self.seal_to, name, full.spooled.reader()?, sent).await?;
        if packed.plain.sha256 != sha(full.spooled.sha256) {
            return Err(BackupError::Task("the scratch file of the full has changed while it was stored".into()));
        }
        let members = full.agreement.same.iter().map(|digest| MemberDigest {
            member: format!("{:016x}", digest.member.0),
            revision,
            compact_revision: Revision(digest.compact_revision),
            hash: digest.hash,
        });
        Ok(FullTaken {
            revision,
            taken_at_ms: UnixMillis(i64::try_from(full.taken_at.0).unwrap_or(i64::MAX)),
            compact_revision: Revision(full.spooled.digest.compact_revision.max(0)),
            raft_term: full.spooled.member.term.0,
            keys: full.spooled.key_count,
            end: full.end.map(sha),
            members: members.collect(),
            plain: packed.plain,
            stored: packed.stored,
        })
    }
}

impl MilvusBucket {
    /// Opens the bucket that a configuration describes.
    ///
    /// # Errors
    /// Settings that can't be right, secrets that can't be read.
    pub fn open(section: &MilvusSection) -> Result<Self, BackupError> {
        let config: &BucketConfig = &section.bucket;
        let objects_at = match &config.url {
            BucketUrl::File(path) => ObjectRoot::folder(&path.display().to_string()),
            _ => ObjectRoot::bucket(&section.root_path),
        };
        let bucket = Bucket::open(config)?;
        let parallel = bucket.parallel();
        Ok(Self { bucket, objects_at, root: section.root.clone(), parallel })
    }

    /// What each Milvus in a full names. Without any there, Milvus is expected where it would begin.
    fn references(&self, spooled: &Spooled) -> Result<Vec<References>, BackupError> {
        let mut keys: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        spooled.history(|revised| {
            for event in revised.events {
                match event {
                    // of values, only those of sessions tell anything about the layout
                    Event::Put { key, value, .. } => {
                        let session = key.windows(9).any(|part| part == b"/session/");
                        keys.insert(key, if session { value } else { Bytes::new() });
                    }
                    Event::Delete { key } => drop(keys.remove(&key)),
                }
            }
        })?;
        let mut found = Vec::new();
        for layout in Layout::detect(keys.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))) {
            if self.root.as_ref().is_some_and(|root| *root != layout.roots.root) {
                continue;
            }
            layout.check().map_err(|refusal| BackupError::Layout(refusal.to_string()))?;
            found.push(References::new(layout.roots, self.objects_at.clone()));
        }
        if found.is_empty() {
            let root = self.root.clone().unwrap_or_else(|| ROOT_DEFAULT.into());
            found.push(References::new(Roots::new(root), self.objects_at.clone()));
        }
        spooled.history(|revised| {
            for event in &revised.events {
                for references in &mut found {
                    match event {
                        Event::Put { key, value, .. } => drop(references.put(key, value)),
                        Event::Delete { key } => drop(references.delete(key)),
                    }
                }
            }
        })?;
        Ok(found)
    }

    /// What nothing is known of yet, below the same roots as another full had.
    pub(crate) fn empty(&self, roots: &[String]) -> Vec<References> {
        let expected = [self.root.clone().unwrap_or_else(|| ROOT_DEFAULT.into())];
        let roots = if roots.is_empty() { &expected } else { roots };
        roots.iter().map(|root| References::new(Roots::new(root.as_str()), self.objects_at.clone())).collect()
    }
}
