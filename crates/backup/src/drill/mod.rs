//! A restore that is tried before it is needed: into scratch space, on a real store, with figures.
//!
//! ```text
//! restore (scratch) ─▶ store starts ─▶ digest through the store ─▶ every object ─▶ the user's own command ─▶ DrillReport
//! └──────────── RTO ──────────────┘
//! ```
//! Nothing outside the scratch folder is touched. What is found wrong is in the report; an error means that the drill itself
//! could not be held.

mod store;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eyrie_archive::record::{Drilled, Opened};
use eyrie_archive::{At, Catalog, Entry, Kind, Link, Revision, Seq, TimelineId, UnixMillis};
use eyrie_state::{ClusterId, Member, MemberId};
use futures::StreamExt;
use serde::Serialize;

use self::store::Store;
use crate::bucket::Bucket;
use crate::catalog::{self, ArchiveError, OpenOptions, Writer};
use crate::chance;
use crate::limits::{BUMP_REVISION, DRILL_COMMAND_LIMIT, DRILL_OBJECTS_READ};
use crate::restore::{
    self, Changes, ClusterTo, Digest, MemberTo, MetadataTo, Objects, ObjectsTo, Prepared, Request, RestoreError, Watch,
};
use crate::seal::Identities;
use crate::source::SourceError;

/// Why a drill could not be held.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The scratch folder.
    #[error("can't {verb} {path}: {cause}. Nothing was tried. Next: name another folder with --scratch")]
    Scratch {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The archive can't be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// What to try.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// The moment.
    pub at: At,
    /// Of which history.
    pub timeline: Option<TimelineId>,
    /// The program that serves: this one. It is called with `serve` and etcd's flags.
    pub program: PathBuf,
    /// Folder for the store and scratch files: room for the metadata three times.
    pub scratch: PathBuf,
    /// Every byte of every object is read; otherwise each is asked for, and a sample is read.
    pub read_data: bool,
    /// Where objects go, too, for a command that needs them; absent: they are looked at in the archive.
    pub objects_to: Option<ObjectsTo>,
    /// The user's own check, for `sh -c`. See docs/backup.md for its environment.
    pub command: Option<String>,
    /// How long it may take.
    pub command_limit: Duration,
    /// The newest head of the catalogue that was seen earlier.
    pub pin: Option<Link>,
}

impl DrillRequest {
    /// The newest moment, with all defaults.
    pub fn new(program: PathBuf, scratch: PathBuf) -> Self {
        Self {
            at: At::Latest,
            timeline: None,
            program,
            scratch,
            read_data: false,
            objects_to: None,
            command: None,
            command_limit: DRILL_COMMAND_LIMIT,
            pin: None,
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// All was as it must be.
    pub ok: bool,
    /// What was not, in words.
    pub wrong: Vec<String>,
    /// The revision that was restored.
    pub revision: Option<Revision>,
    /// When it was.
    pub at_ms: Option<UnixMillis>,
    /// The record of the full it began with.
    pub full: Option<Seq>,
    /// How far the restored state was behind the source when the drill began: what would have been lost.
    pub rpo_ms: Option<u64>,
    /// How long it took from the first byte of the archive to a store that serves.
    pub rto_ms: Option<u64>,
    /// Of these: until the data directory was written and compared.
    pub restore_ms: Option<u64>,
    /// The keys that the store served, compared with those that were written.
    pub digest: Option<Digest>,
    /// Bytes of metadata that were read from the archive.
    pub metadata_bytes: u64,
    /// Objects that the revision needs; each was looked at.
    pub objects: u64,
    /// Of these: every byte was read and hashed.
    pub objects_read: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// What the user's command did.
    pub command: Option<CommandReport>,
    /// How long all of it took.
    pub took_ms: u64,
}

/// What the user's command did.
#[derive(Debug, Clone, Serialize)]
pub struct CommandReport {
    /// Its exit code; absent when it was killed.
    pub code: Option<i32>,
    /// How long it took.
    pub took_ms: u64,
    /// The end of what it said.
    pub output: String,
}

/// Holds a drill.
///
/// # Errors
/// [`DrillError`]; what is wrong with the backup is in the report.
pub async fn drill(
    archive: &Bucket,
    identities: &Identities,
    request: &DrillRequest,
    watch: &dyn Watch,
) -> Result<DrillReport, DrillError> {
    let (began, began_at) = (Instant::now(), catalog::now());
    let catalog = catalog::read(archive, request.pin).await?.catalog;
    let place = Scratch::make(&request.scratch)?;
    let mut report = DrillReport::empty();
    if let Err(wrong) =
        hold(archive, identities, request, watch, &place, &catalog, &mut report, (began, began_at)).await
    {
        report.wrong.push(wrong);
    }
    report.ok = report.wrong.is_empty();
    report.took_ms = millis(began.elapsed());
    Ok(report)
}

#[allow(clippy::too_many_arguments, reason = "the parts of one drill, passed on once")]
async fn hold(
    archive: &Bucket,
    identities: &Identities,
    request: &DrillRequest,
    watch: &dyn Watch,
    place: &Scratch,
    catalog: &Catalog,
    report: &mut DrillReport,
    (began, began_at): (Instant, UnixMillis),
) -> Result<(), String> {
    let text = |error: RestoreError| error.to_string();
    let wanted = wanted(request, place, catalog);
    let prepared = restore::prepare(archive, identities, wanted, watch).await.map_err(text)?;
    let plan = prepared.plan().clone();
    (report.revision, report.at_ms, report.full) = (Some(plan.revision), Some(plan.at_ms), Some(prepared.full()));
    report.metadata_bytes = plan.read_bytes;
    report.rpo_ms = Some(rpo(catalog, plan.timeline, plan.revision, plan.at_ms, began_at));
    let objects = prepared.wanted().to_vec();
    let restored = copied(prepared, request).run(watch).await.map_err(text)?;
    report.restore_ms = Some(millis(began.elapsed()));
    watch.step("starting a store on it");
    let mut store = Store::open(&request.program, &place.store(), &place.0).await?;
    store.wait_until_it_serves().await?;
    report.rto_ms = Some(millis(began.elapsed()));
    watch.step("comparing what it serves");
    let served = served(&store, restored.serves).await.map_err(|error| error.to_string())?;
    if served.as_ref() != Some(&restored.becomes) {
        let found = served.as_ref().map_or("nothing".into(), ToString::to_string);
        report.wrong.push(format!("the store serves {found}, and {} must be there", restored.becomes));
    }
    report.digest = served;
    watch.step("looking at every object");
    look_at(archive, identities, &objects, request.read_data, report).await;
    if let Some(command) = &request.command {
        watch.step("running the command");
        let bucket = request.objects_to.as_ref().map(|to| to.bucket.to_string());
        let told = [("EYRIE_REVISION", plan.revision.to_string()), ("EYRIE_BUCKET", bucket.unwrap_or_default())];
        let ran = store::run(command, &store, &told, &place.0, request.command_limit).await;
        let ran = ran.map_err(|error| format!("the command can't be started: {error}"))?;
        if ran.code != Some(0) {
            let how = ran.code.map_or("was killed at its limit".into(), |code| format!("ended with {code}"));
            report.wrong.push(format!("the command {how}"));
        }
        report.command = Some(ran);
    }
    store.stop().await;
    Ok(())
}

/// The restore that is tried: one member, and the objects that an archive with objects must have.
fn wanted(request: &DrillRequest, place: &Scratch, catalog: &Catalog) -> Request {
    let line = request.timeline.and_then(|id| catalog.timeline(id)).unwrap_or_else(|| catalog.current());
    let nowhere = || ObjectsTo { bucket: Bucket::memory(), at: None, from: None, into_existing: false };
    let objects = match line.source.objects {
        true => Objects::Restore(request.objects_to.clone().unwrap_or_else(nowhere)),
        false => Objects::Leave,
    };
    // ids of its own, so that nobody takes this store for another
    let id = || u64::from_str_radix(&chance::word(8), 16).unwrap_or(1).max(1);
    let (cluster, member, name) = (ClusterId(id()), MemberId(id()), "drill".to_owned());
    let peer_urls = vec![store::PEER_URL.to_owned()];
    let founder = Member { id: member, name: name.clone(), peer_urls, client_urls: Vec::new(), learner: false };
    let write = vec![MemberTo { name, member, data_dir: place.store(), wal_dir: None }];
    Request {
        at: request.at,
        timeline: request.timeline,
        metadata: Some(MetadataTo::Members(ClusterTo { cluster, founders: vec![founder], write, folder: None })),
        objects,
        changes: Some(Changes::default()),
        bump_revision: BUMP_REVISION,
        partial: false,
        scratch: place.0.clone(),
        pin: request.pin,
        open_doors: true,
    }
}

fn copied(prepared: Prepared, request: &DrillRequest) -> Prepared {
    if request.objects_to.is_some() { prepared } else { prepared.without_copies() }
}

/// How old the restored state was: since the archive last knew that the source had nothing newer, or since that revision.
fn rpo(catalog: &Catalog, timeline: TimelineId, revision: Revision, at: UnixMillis, now: UnixMillis) -> u64 {
    let seen = catalog.timeline(timeline).and_then(|line| line.seen).filter(|seen| seen.revision <= revision);
    now.since(seen.map_or(at, |seen| seen.at_ms.max(at)))
}

/// The digest of all that the store serves.
async fn served(store: &Store, revision: Revision) -> Result<Option<Digest>, SourceError> {
    let mut digester = restore::Digester::default();
    let whole = store.source.pairs_at(eyrie_state::Revision(revision.0), |kv| {
        digester.take(&kv.key, &kv.value, [kv.create_revision, kv.mod_revision, kv.version, kv.lease]);
    });
    Ok(whole.await?.then(|| digester.finish()))
}

async fn look_at(
    archive: &Bucket,
    identities: &Identities,
    objects: &[Entry],
    read_all: bool,
    report: &mut DrillReport,
) {
    let step = if read_all { 1 } else { objects.len().div_ceil(DRILL_OBJECTS_READ).max(1) };
    let looks = objects.iter().enumerate().map(|(at, entry)| async move {
        let read = at % step == 0;
        (entry, read, restore::objects::check_one(archive, identities, entry, read).await)
    });
    let mut looks = futures::stream::iter(looks).buffer_unordered(archive.parallel());
    while let Some((entry, read, seen)) = looks.next().await {
        report.objects += 1;
        report.objects_read += u64::from(read);
        report.object_bytes += entry.len;
        if let Err(error) = seen {
            report.wrong.push(format!("object {}: {error}", entry.source));
        }
    }
}

/// Says in the catalogue how a drill went. Only for whoever may write: another writer at work is left alone.
///
/// # Errors
/// [`ArchiveError`]; [`ArchiveError::Busy`] when another writer is at work.
pub async fn record(archive: &Bucket, report: &DrillReport) -> Result<(), ArchiveError> {
    let Some(drilled) = report.record() else { return Ok(()) };
    let catalog = catalog::read(archive, None).await?.catalog;
    let opened = Opened { source: catalog.current().source.clone(), sealed_to: catalog.sealed_to().to_vec() };
    let mut writer = Writer::open(archive, &opened, &OpenOptions::default()).await?;
    writer.append(Kind::Drilled(drilled)).await
}

impl DrillReport {
    fn empty() -> Self {
        Self {
            ok: false,
            wrong: Vec::new(),
            revision: None,
            at_ms: None,
            full: None,
            rpo_ms: None,
            rto_ms: None,
            restore_ms: None,
            digest: None,
            metadata_bytes: 0,
            objects: 0,
            objects_read: 0,
            object_bytes: 0,
            command: None,
            took_ms: 0,
        }
    }

    /// What the catalogue is told; nothing when not even a moment was found.
    pub fn record(&self) -> Option<Drilled> {
        Some(Drilled {
            full: self.full?,
            revision: self.revision?,
            ok: self.ok,
            rpo_ms: self.rpo_ms.unwrap_or_default(),
            rto_ms: self.rto_ms.unwrap_or_default(),
            detail: if self.ok { self.seen() } else { self.wrong.join("; ").chars().take(DETAIL_CHARS_MAX).collect() },
        })
    }

    fn seen(&self) -> String {
        let keys = self.digest.as_ref().map_or(String::new(), ToString::to_string);
        let command = if self.command.is_some() { "; the command succeeded" } else { "" };
        format!("{keys}; {} objects, {} of them read{command}", self.objects, self.objects_read)
    }
}

/// A record must stay small.
const DETAIL_CHARS_MAX: usize = 2000;

impl fmt::Display for DrillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = |ms: Option<u64>| ms.map_or("-".into(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
        writeln!(f, "{}", if self.ok { "The drill succeeded." } else { "THE DRILL FAILED." })?;
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "  {wrong}"))?;
        if let (Some(revision), Some(at)) = (self.revision, self.at_ms) {
            writeln!(f, "  restored: revision {revision} ({at}), {} bytes of metadata read", self.metadata_bytes)?;
        }
        if self.rpo_ms.is_none() && self.rto_ms.is_none() {
            return Ok(());
        }
        writeln!(f, "  RPO {}: so much of the newest would have been lost when the drill began", secs(self.rpo_ms))?;
        writeln!(
            f,
            "  RTO {}: from the first byte to a store that serves ({} of it the restore)",
            secs(self.rto_ms),
            secs(self.restore_ms)
        )?;
        writeln!(f, "  seen: {}", self.seen())?;
        if let Some(command) = &self.command {
            write!(f, "  the command took {}:\n{}", secs(Some(command.took_ms)), command.output)?;
        }
        Ok(())
    }
}

/// A folder that is gone afterwards.
struct Scratch(PathBuf);

const SCRATCH_PREFIX: &str = "eyrie-drill-";

impl Scratch {
    fn make(folder: &Path) -> Result<Self, DrillError> {
        store::clear_leftovers(folder, SCRATCH_PREFIX);
        let path = folder.join(format!("{SCRATCH_PREFIX}{}-{}", std::process::id(), chance::word(4)));
        let made = eyrie_disk::atomic::create_dir(&path);
        made.map_err(|cause| DrillError::Scratch { verb: "make", path: path.display().to_string(), cause })?;
        Ok(Self(path))
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
