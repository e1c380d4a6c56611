//! The way back: one moment of the archive becomes data directories or a snapshot file, and objects in a bucket.
//!
//! ```text
//! prepare   nothing in the way? ─▶ which revision ─▶ full + tail ─▶ live keys ─▶ what Milvus needs ─▶ Plan
//! run       objects (each whole or not there) ─▶ snapshot file, proven ─▶ directories, read back ─▶ Done
//! ```
//! [`prepare`] reads and writes nothing: whatever can refuse, refuses there, wrong keys included. [`Prepared::run`] can be
//! killed at any point: the same call again does the rest. Success means compared.

mod image;
mod keys;
mod milvus;
mod moment;
pub(crate) mod objects;
mod plan;
mod read;
mod targets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use eyrie_archive::restore::{Hindered, Objects as PlanObjects, Step, Want, restore_plan};
use eyrie_archive::{
    Ask, At, Catalog, Entry, Index, Link, Revision, Scope, Seq, SourcePath, Target, TimelineId, UnixMillis, WhyNot,
};
use eyrie_disk::datadir::DirError;
use eyrie_disk::snapshot::{HashFault, LayFault, SnapshotFault};
use eyrie_milvus::Description;
pub use eyrie_milvus::ObjectRoot;
use futures::{StreamExt, TryStreamExt};

use self::image::SmallTables;
use self::keys::LiveKeys;
use self::milvus::Found;
use self::objects::{Place, Present};
use self::targets::Note;
use crate::bucket::{Bucket, BucketError};
use crate::catalog::{self, ArchiveError};
use crate::chance;
use crate::inside::InsideError;
use crate::limits::RATE_BYTES_MIN;
use crate::objects::{MirrorError, rebuild};
use crate::seal::{Identities, SealError};
use crate::unpack::UnpackError;

pub use self::keys::{Digest, Digester};
pub use self::milvus::Changes;
pub use self::moment::parse_at;
pub use self::objects::ObjectsTo;
pub use self::plan::{Done, ObjectsPlan, Plan};
pub use self::targets::{ClusterTo, MemberTo, MetadataTo};

/// Why a restore did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive's catalogue.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The moment can't be had.
    #[error(transparent)]
    WhyNot(#[from] WhyNot),
    /// The objects can't be had, or are in the way.
    #[error(transparent)]
    Hindered(#[from] Hindered),
    /// The metadata of the archive.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// A file of the archive.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The index of objects.
    #[error(transparent)]
    Index(#[from] MirrorError),
    /// The snapshot inside a full, or the one that was written.
    #[error("{0}. Next: eyrie backup verify")]
    Snapshot(#[from] SnapshotFault),
    /// A data directory.
    #[error(transparent)]
    Lay(#[from] LayFault),
    /// A data directory.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Something is not as it must be; the words say what was changed and what to do.
    #[error("{0}")]
    Refused(String),
    /// A local file.
    #[error("can't {verb} {path}: {cause}. Next: mend that, then type the same command again")]
    Local {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// What is there is not what must be there.
    #[error(
        "{what} does not hold what it must: {expected} were expected, {found} were found. Do not use it. Next: check disk \
         and memory of this machine, then restore elsewhere"
    )]
    Unequal {
        /// What was looked at.
        what: &'static str,
        /// What it must hold.
        expected: Digest,
        /// What it holds.
        found: Digest,
    },
    /// A part of this program ended early.
    #[error("a part of this program ended early: {0}. Next: type the same command again")]
    Task(String),
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// The moment.
    pub at: At,
    /// Of which history; absent: the newest, or for a time the one of that time.
    pub timeline: Option<TimelineId>,
    /// Where the metadata goes; absent: objects only.
    pub metadata: Option<MetadataTo>,
    /// What happens to objects.
    pub objects: Objects,
    /// What is changed in the keys of Milvus; absent: nothing, the keys come back exactly as they were.
    pub changes: Option<Changes>,
    /// How far the revision is lifted.
    pub bump_revision: u64,
    /// Objects that are missing in the archive are no hindrance.
    pub partial: bool,
    /// Folder for scratch files.
    pub scratch: PathBuf,
    /// The newest head of the catalogue that was seen earlier.
    pub pin: Option<Link>,
    /// Users are not enforced in what is restored: for a drill, which nobody else reaches.
    pub open_doors: bool,
}

/// What happens to objects.
#[derive(Debug, Clone)]
pub enum Objects {
    /// They come back.
    Restore(ObjectsTo),
    /// They stay where they are, and it is checked that those which the metadata needs are all there.
    Check(ObjectsTo),
    /// Nobody looks at them.
    Leave,
    /// Nothing was said: an archive that keeps objects is not restored without them by oversight.
    Unsaid,
}

impl Objects {
    fn to(&self) -> Option<&ObjectsTo> {
        match self {
            Self::Restore(to) | Self::Check(to) => Some(to),
            Self::Leave | Self::Unsaid => None,
        }
    }
}

/// What happens meanwhile, for whoever shows it. Called from many tasks at once.
pub trait Watch: Send + Sync {
    /// What is being done now.
    fn step(&self, words: &str) {
        let _ = words;
    }
    /// How much there is to do from here on: first metadata to read, then objects to copy.
    fn total(&self, objects: u64, bytes: u64) {
        let _ = (objects, bytes);
    }
    /// So many more bytes of metadata were read.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }
    /// An object of so many bytes is there.
    fn copied(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// Shows nothing.
impl Watch for () {}

/// A restore that was found possible. Nothing is written yet.
#[derive(Debug)]
pub struct Prepared {
    archive: Bucket,
    identities: Identities,
    request: Request,
    plan: Plan,
    keys: LiveKeys,
    small: SmallTables,
    copies: Vec<(Entry, String)>,
    wanted: Vec<Entry>,
    queue_words: Vec<String>,
    full: Seq,
    began: Instant,
}

/// Reads everything that must be known, and finds out whether it can be done. Writes nothing but scratch files.
///
/// # Errors
/// [`RestoreError`]: what is missing, in the way or wrong, and what to type instead.
pub async fn prepare(
    archive: &Bucket,
    identities: &Identities,
    request: Request,
    watch: &dyn Watch,
) -> Result<Prepared, RestoreError> {
    let began = Instant::now();
    if let Some(to) = &request.metadata {
        to.look()?;
    }
    watch.step("reading the catalogue");
    let reading = catalog::read(archive, request.pin).await?;
    let catalog = &reading.catalog;
    let scope = match (&request.objects, request.partial) {
        (Objects::Restore(_), false) => Scope::Everything,
        (Objects::Restore(_), true) => Scope::WhatIsThere,
        _ => Scope::MetadataOnly,
    };
    let ask = Ask { at: request.at, timeline: request.timeline, scope };
    let target = moment::resolve(archive, catalog, identities, ask).await?;
    watch.step("reading the metadata");
    let read = read::watched(archive, &target, identities, &request.scratch, watch).await?;
    let mut look = Look { archive, identities, request: &request, catalog, target: &target, notes: Vec::new() };
    look.notes.extend(reading.damage.iter().map(|damage| format!("the archive's catalogue is damaged: {damage}")));
    look.finish(read, watch, began).await
}

/// What is known of the moment, while the plan is made.
struct Look<'a> {
    archive: &'a Bucket,
    identities: &'a Identities,
    request: &'a Request,
    catalog: &'a Catalog,
    target: &'a Target,
    notes: Vec<String>,
}

/// What becomes of objects.
struct Chosen {
    steps: eyrie_archive::restore::RestorePlan,
    plan: Option<ObjectsPlan>,
    copies: Vec<(Entry, String)>,
    wanted: Vec<Entry>,
    strips: Vec<eyrie_milvus::coherence::Strip>,
    moved: Option<(ObjectRoot, ObjectRoot)>,
}

impl Look<'_> {
    async fn finish(mut self, read: read::Read, watch: &dyn Watch, began: Instant) -> Result<Prepared, RestoreError> {
        let (archive, request, target) = (self.archive, self.request, self.target);
        let was = read.keys.digest();
        let mut keys = read.keys;
        let line = self.catalog.timeline(target.timeline);
        let roots = line.map(|line| line.source.milvus_roots.clone()).unwrap_or_default();
        if matches!(request.objects, Objects::Unsaid) && line.is_some_and(|line| line.source.objects) {
            return Err(RestoreError::Refused(
                "this archive holds objects, too, and nobody said where they go. Nothing was changed. Next: add \
                 --to-bucket ADDRESS; or, if the bucket of Milvus is whole, --metadata-only"
                    .into(),
            ));
        }
        let index = match request.objects.to() {
            None => Index::new(),
            Some(_) => {
                let reading = rebuild::read(archive, self.catalog, None, self.identities).await?;
                self.notes.extend(reading.words());
                reading.index
            }
        };
        let place = request.objects.to().map(|to| Place::new(to, || milvus::root_of(&index)));
        let found = match (&request.changes, &place) {
            (None, None) => Vec::new(),
            _ => milvus::find(&keys, &roots, place.as_ref().map(|place| &place.from), &mut self.notes)?,
        };
        let chosen = self.choose(&found, &index, place, watch).await?;
        let describe = |found: &Found| Description::of(&found.layout, &found.catalog);
        let described = found.iter().map(describe).collect();
        let mut lost = chosen.steps.lost.clone();
        let mut changed = Vec::new();
        if let Some(changes) = request.changes.as_ref().filter(|_| request.metadata.is_some()) {
            let (edits, reports) = milvus::edits(&keys, &found, chosen.strips, changes, chosen.moved)?;
            keys.change(edits);
            lost.extend(reports.iter().flat_map(|report| report.lost.iter().map(ToString::to_string)));
            changed = reports;
        }
        let serves = keys.revision.checked_add_unsigned(request.bump_revision).ok_or_else(|| {
            RestoreError::Refused("--bump-revision lifts the revision over the largest one there is".into())
        })?;
        let mut small = read.small;
        let report = small.fit(&keys, serves, request.open_doors);
        self.tell_of_small_tables(&report);
        self.tell_of_clocks(&changed);
        let becomes = keys.digest();
        let mut notes = chosen.steps.notes.clone();
        notes.extend(self.notes);
        let rate = read.stored_bytes / began.elapsed().as_secs().max(1);
        let bytes_to_copy = chosen.plan.as_ref().map_or(0, |plan| plan.copy_bytes);
        let plan = Plan {
            archive: self.catalog.archive().to_string(),
            from: archive.to_string(),
            timeline: target.timeline,
            revision: Revision(read.revision),
            at_ms: UnixMillis(read.at_ms),
            full: target.full.taken.revision,
            tail_pieces: target.tail.len(),
            was,
            becomes,
            serves: Revision(serves),
            metadata: request.metadata.as_ref().map(MetadataTo::names).unwrap_or_default(),
            objects: chosen.plan,
            milvus: described,
            changes: changed,
            lost,
            notes,
            read_bytes: read.stored_bytes,
            objects_secs: (read.stored_bytes >= RATE_BYTES_MIN && rate > 0).then(|| bytes_to_copy / rate),
            steps: chosen.steps,
        };
        Ok(Prepared {
            archive: archive.clone(),
            identities: self.identities.clone(),
            request: request.clone(),
            plan,
            keys,
            small,
            copies: chosen.copies,
            wanted: chosen.wanted,
            queue_words: milvus::queue_words(&found),
            full: target.full.seq,
            began,
        })
    }

    async fn choose(
        &mut self,
        found: &[Found],
        index: &Index,
        place: Option<Place<'_>>,
        watch: &dyn Watch,
    ) -> Result<Chosen, RestoreError> {
        let names: Vec<String> = self.request.metadata.as_ref().map(MetadataTo::names).unwrap_or_default();
        let mut chosen = Chosen {
            steps: self.steps(&names, None)?,
            plan: None,
            copies: Vec::new(),
            wanted: Vec::new(),
            strips: found.iter().map(|_| Default::default()).collect(),
            moved: None,
        };
        let Some(place) = place else {
            if self.catalog.timeline(self.target.timeline).is_some_and(|line| line.source.objects) {
                self.notes.push(
                    "nobody looked at the objects: Milvus needs all that this metadata names, and its bucket must not have \
                     lost any of them"
                        .into(),
                );
            }
            return Ok(chosen);
        };
        if matches!(self.request.objects, Objects::Restore(_)) {
            self.restore(&mut chosen, found, index, &place, &names, watch).await?;
        } else {
            watch.step("looking at the objects in the bucket");
            let there = objects::look(&place).await?.into_values().map(|(name, len)| (name.as_str().to_owned(), len));
            let fits = milvus::coherence(found, &there.collect());
            if let Some(broken) = milvus::broken(&fits).filter(|_| !self.request.partial) {
                return Err(RestoreError::Refused(format!(
                    "this metadata does not fit the objects in {}: {broken}. Milvus would not load these collections, and \
                     its garbage collection could remove the rest. Nothing was changed. Next: restore the objects, too: \
                     leave out --metadata-only, add --into-existing",
                    place.bucket
                )));
            }
            chosen.strips = fits.into_iter().map(|fit| fit.map(|fit| fit.strip).unwrap_or_default()).collect();
        }
        chosen.moved = Some((place.from, place.at));
        Ok(chosen)
    }

    async fn restore(
        &self,
        chosen: &mut Chosen,
        found: &[Found],
        index: &Index,
        place: &Place<'_>,
        names: &[String],
        watch: &dyn Watch,
    ) -> Result<(), RestoreError> {
        let wanted = milvus::wanted(found, index)?;
        let entries: BTreeMap<SourcePath, &Entry> =
            wanted.keys().filter_map(|path| Some((path.clone(), index.get(path.as_str())?))).collect();
        watch.step("looking at the bucket");
        let Present { known, others, example } = objects::compare(place, &entries, watch).await?;
        if others > 0 && !place.into_existing {
            return Err(RestoreError::Refused(format!(
                "{} is not empty: it has {others} objects that this moment does not know, for example {}. Nothing was \
                 changed. Next: name an empty bucket or another root path; or, to add what is missing to a bucket in \
                 use: --into-existing",
                place.bucket,
                example.unwrap_or_default()
            )));
        }
        let in_archive: BTreeMap<String, u64> =
            index.entries().map(|entry| (entry.source.as_str().to_owned(), entry.len)).collect();
        let fits = milvus::coherence(found, &in_archive);
        let objects = PlanObjects { wanted: &wanted, present: &known, index };
        chosen.steps = self.steps(names, Some(objects))?;
        chosen.strips = fits.into_iter().map(|fit| fit.map(|fit| fit.strip).unwrap_or_default()).collect();
        let copies = chosen.steps.steps.iter().filter_map(|step| match step {
            Step::CopyObject { object } => Some((object.clone(), place.name(&object.source))),
            _ => None,
        });
        chosen.copies = copies.collect();
        let all: Vec<&Entry> = chosen.copies.iter().map(|(entry, _)| entry).collect();
        objects::try_envelopes(self.archive, self.identities, &all).await?;
        chosen.plan = Some(ObjectsPlan {
            to: place.bucket.to_string(),
            prefix: place.at.prefix(),
            wanted: entries.len() as u64,
            copy: chosen.steps.objects,
            copy_bytes: chosen.steps.object_bytes,
            present: chosen.steps.present,
        });
        chosen.wanted = entries.into_values().cloned().collect();
        Ok(())
    }

    fn steps(
        &self,
        names: &[String],
        objects: Option<PlanObjects<'_>>,
    ) -> Result<eyrie_archive::restore::RestorePlan, RestoreError> {
        let scope = match (&objects, self.request.partial) {
            (Some(_), false) => Scope::Everything,
            (Some(_), true) => Scope::WhatIsThere,
            (None, _) => Scope::MetadataOnly,
        };
        Ok(restore_plan(self.target, &Want { scope, members: names, objects })?)
    }

    fn tell_of_small_tables(&mut self, report: &image::SmallReport) {
        let full = self.target.full.taken.revision;
        let at = self.target.full.taken.taken_at_ms;
        if !self.target.tail.is_empty() {
            let users = if report.auth { ", which are enforced," } else { "" };
            self.notes.push(format!(
                "users and roles{users} and the time to live of leases are those of the full of revision {full} ({at})"
            ));
        }
        if report.unknown_leases > 0 {
            self.notes.push(format!(
                "{} keys hang on {} leases that were made after that full: they get an hour from the start of the store",
                report.on_unknown_leases, report.unknown_leases
            ));
        }
        if report.alarms_dropped > 0 {
            self.notes.push("an alarm about a full disk at the source is left out".into());
        }
        if report.corrupt {
            self.notes.push("the source had raised an alarm about corrupt data: it comes back, too".into());
        }
    }

    fn tell_of_clocks(&mut self, changes: &[eyrie_milvus::TransformReport]) {
        let clock = changes.iter().filter_map(|change| change.clock_ms).max().and_then(|ms| i64::try_from(ms).ok());
        let now = catalog::now();
        if let Some(clock) = clock.filter(|clock| *clock > now.0) {
            self.notes.push(format!(
                "this machine's clock ({now}) is behind Milvus's ({}): start Milvus only when it is past it, or ids may be \
                 given out twice",
                UnixMillis(clock)
            ));
        }
    }
}

impl Prepared {
    /// What will be done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Objects that must be there afterwards, as the archive has them.
    pub fn wanted(&self) -> &[Entry] {
        &self.wanted
    }

    /// The record of the full that it begins with.
    pub fn full(&self) -> Seq {
        self.full
    }

    /// The same without copying a single object.
    #[must_use]
    pub fn without_copies(mut self) -> Self {
        self.copies.clear();
        self
    }

    /// Does it, and compares. Killed at any point, the same request does the rest.
    ///
    /// # Errors
    /// [`RestoreError`]; what is unfinished is marked so, and refused by a server.
    pub async fn run(self, watch: &dyn Watch) -> Result<Done, RestoreError> {
        let (objects_copied, bytes_copied) = self.copy_objects(watch).await?;
        let next = self.next_words();
        let Self { request, plan, keys, small, wanted, began, .. } = self;
        if let Some(to) = request.metadata {
            watch.step("writing the metadata");
            let note = Note {
                archive: plan.archive.clone(),
                timeline: plan.timeline.0,
                revision: plan.revision.0,
                serves: plan.serves.0,
                digest: plan.becomes.sha256.clone(),
                cluster: match &to {
                    MetadataTo::Members(to) => format!("{:016x}", to.cluster.0),
                    MetadataTo::Snapshot(_) => String::new(),
                },
            };
            let (becomes, scratch) = (plan.becomes.clone(), request.scratch);
            let write = move || write_metadata(&to, &note, &keys, &becomes, &small, &scratch);
            let written = tokio::task::spawn_blocking(write).await;
            written.map_err(|error| RestoreError::Task(error.to_string()))??;
        }
        Ok(Done {
            revision: plan.revision,
            at_ms: plan.at_ms,
            timeline: plan.timeline,
            was: plan.was,
            becomes: plan.becomes,
            serves: plan.serves,
            metadata: plan.metadata,
            objects_copied,
            bytes_copied,
            objects_whole: wanted.len() as u64,
            lost: plan.lost,
            notes: plan.notes,
            next,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn copy_objects(&self, watch: &dyn Watch) -> Result<(u64, u64), RestoreError> {
        let Objects::Restore(to) = &self.request.objects else { return Ok((0, 0)) };
        if self.copies.is_empty() {
            return Ok((0, 0));
        }
        let bytes = self.copies.iter().map(|(entry, _)| entry.len).sum();
        watch.step("copying objects");
        watch.total(self.copies.len() as u64, bytes);
        futures::stream::iter(&self.copies)
            .map(|(entry, name)| async move {
                objects::restore_one(&self.archive, &self.identities, entry, &to.bucket, name).await?;
                watch.copied(entry.len);
                Ok::<_, RestoreError>(())
            })
            .buffer_unordered(to.bucket.parallel())
            .try_collect::<()>()
            .await?;
        Ok((self.copies.len() as u64, bytes))
    }

    /// What a person does next.
    fn next_words(&self) -> Vec<String> {
        let mut next = Vec::new();
        match &self.request.metadata {
            Some(MetadataTo::Snapshot(file)) => {
                next.push(format!("etcdutl snapshot restore {} --data-dir NEW   (or: eyrie utl …)", file.display()));
            }
            Some(MetadataTo::Members(to)) => next.extend(to.write.iter().map(|one| serve_words(to, one))),
            None => {}
        }
        if let Some(changes) = self.request.changes.as_ref().filter(|_| self.request.metadata.is_some()) {
            if !changes.keep_queue {
                next.extend(self.queue_words.iter().cloned());
            }
            if !self.plan.milvus.is_empty() {
                next.push("start Milvus; it loads again what was loaded".into());
            }
        }
        next.push(match self.request.metadata {
            Some(_) => "go on with the backup: eyrie backup tail (it begins a new timeline)".into(),
            None => "start Milvus again".into(),
        });
        next
    }
}

fn serve_words(to: &ClusterTo, one: &MemberTo) -> String {
    let url = |member: &eyrie_state::Member| member.peer_urls.join(",");
    let peers = to.founders.iter().find(|member| member.id == one.member).map(url).unwrap_or_default();
    let wal = one.wal_dir.as_ref().map_or(String::new(), |dir| format!(" --wal-dir {}", dir.display()));
    format!(
        "eyrie serve --name {} --data-dir {}{wal} --listen-peer-urls {peers} --initial-advertise-peer-urls {peers}",
        one.name,
        one.data_dir.display()
    )
}

fn write_metadata(
    to: &MetadataTo,
    note: &Note,
    keys: &LiveKeys,
    becomes: &Digest,
    small: &SmallTables,
    scratch: &std::path::Path,
) -> Result<(), RestoreError> {
    to.begin(note)?;
    let word = chance::word(4);
    let place = to.scratch(scratch, &word);
    match to {
        MetadataTo::Snapshot(file) => drop(image::write(keys, becomes, small, &place, Some(file))?),
        MetadataTo::Members(cluster) => cluster.write(&image::write(keys, becomes, small, &place, None)?)?,
    }
    to.end()
}

impl From<HashFault> for RestoreError {
    fn from(fault: HashFault) -> Self {
        match fault {
            HashFault::Snapshot(fault) => fault.into(),
            HashFault::Compacted | HashFault::Future => Self::Refused(format!(
                "the full can't be compared with what its members answered: {fault}. Nothing was changed. Next: eyrie backup verify"
            )),
        }
    }
}
