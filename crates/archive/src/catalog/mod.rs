//! The catalogue: what all records together say, and the only way to write the next one.
//!
//! ```text
//! records ──replay──▶ Catalog ──draft──▶ Draft (name, bytes) ──the shell creates the file──▶ commit ──▶ Catalog
//! ```
//! A draft is checked by the very rules that a replay applies, so a writer cannot write what a reader would refuse.
//! The file is created only if its name is free: a writer that meets a taken name has been replaced, or its own answer was
//! lost; it compares bytes, and stops unless they are its own. Must never know what is inside a file that it names.

mod check;
mod fold;
mod inspect;
mod replay;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::{
    check::Fault,
    replay::{Damage, Reading, Start, Unreadable},
};
use crate::{
    codec::{self, DecodeError},
    ids::{ArchiveId, LivedMillis, Revision, Seq, Sha256, StoredPath, TimelineId, UnixMillis, WriterId},
    index::Use,
    limits::{CHECKPOINT_EVERY, FORMAT, SILENCE_MAX},
    names,
    record::{
        Branch, Checkpoint, Depth, Drilled, FullTaken, GapFound, HoleFound, Kind, Link, Opened, Record, Segment,
        Source, Stored, Verified,
    },
};

/// Everything that the records up to [`Catalog::head`] say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    pub(crate) archive: ArchiveId,
    pub(crate) head: Link,
    pub(crate) head_at_ms: UnixMillis,
    pub(crate) lived: LivedMillis,
    pub(crate) checkpoint: Option<Link>,
    /// All checkpoints whose files are there, with the archive's age at each.
    pub(crate) checkpoints: Vec<(Seq, LivedMillis)>,
    /// Records between the first and this one may be gone.
    pub(crate) records_from: Seq,
    pub(crate) opened_at_ms: UnixMillis,
    pub(crate) writer: WriterId,
    pub(crate) fence: u64,
    pub(crate) sealed_to: Vec<String>,
    pub(crate) current: TimelineId,
    pub(crate) timelines: BTreeMap<TimelineId, Timeline>,
    /// Pieces and removals of the index, in the order in which they apply.
    pub(crate) pieces: BTreeMap<Seq, Piece>,
    /// What merging records made superfluous.
    pub(crate) superseded: BTreeMap<Seq, Superseded>,
    /// Given up by retention, perhaps not yet deleted.
    pub(crate) unswept: BTreeMap<Seq, Unswept>,
    /// Files that the newest look at them found damaged.
    pub(crate) damaged: BTreeMap<StoredPath, String>,
    /// Of the objects among them: which revisions need them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) damaged_uses: BTreeMap<StoredPath, Vec<Use>>,
    /// By full: revisions of its chain that need damaged objects which no record had room to name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) damaged_unnamed: BTreeMap<Seq, Vec<Use>>,
    pub(crate) verifications: Vec<Past<Verified>>,
    pub(crate) drills: Vec<Past<Drilled>>,
    /// All names in use; none is used twice.
    #[serde(skip)]
    pub(crate) names: BTreeSet<StoredPath>,
}

/// One history: fulls and tail of one source between two restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Its number.
    pub id: TimelineId,
    /// When it began, by the writer's clock.
    pub began_at_ms: UnixMillis,
    /// What it continues.
    pub parent: Option<Branch>,
    /// Why it began, in words.
    pub why: String,
    /// What is backed up.
    pub source: Source,
    /// Fulls by their record: the order of taking.
    pub fulls: BTreeMap<Seq, Full>,
    /// The tail by first revision. No two pieces overlap.
    pub tail: BTreeMap<Revision, TailPiece>,
    /// Where the next cut must continue; `None` until a full says where the tail begins.
    pub tail_head: Option<Revision>,
    /// What is known to be lost.
    pub gaps: Vec<Gap>,
    /// Where referenced objects are missing.
    pub holes: BTreeMap<Seq, Hole>,
    /// All objects that any archived revision up to this one references are mirrored, holes excepted.
    pub mirrored_to: Option<Revision>,
    /// At this time, by the writer's clock, the archive held everything up to this revision, the source's newest.
    pub seen: Option<Seen>,
    /// Retention has removed tail up to here.
    pub expired_to: Option<Revision>,
}

/// A full snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Full {
    /// Its record.
    pub seq: Seq,
    /// What the record says.
    pub taken: FullTaken,
    /// The archive's age at the record.
    pub lived: LivedMillis,
    /// Set when the newest verification of its chain was a good one, at least by [`Depth::Sample`], or a drill succeeded.
    pub verified: Option<VerifiedMark>,
}

/// A good verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedMark {
    /// When, by the writer's clock.
    pub at_ms: UnixMillis,
    /// How deep.
    pub depth: Depth,
    /// The tail was good up to here.
    pub up_to: Revision,
}

/// A piece of the tail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailPiece {
    /// Its record.
    pub seq: Seq,
    /// What the record says.
    pub segment: Segment,
    /// The archive's age at the record; of a merged piece, that of the newest one that it replaced.
    pub lived: LivedMillis,
}

/// A gap, as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What the record says.
    pub found: GapFound,
    /// When, by the writer's clock.
    pub at_ms: UnixMillis,
}

/// A hole, as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// What the record says, its end included once that is known.
    pub found: HoleFound,
    /// When, by the writer's clock.
    pub at_ms: UnixMillis,
}

/// A moment at which the archive was up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The source's newest revision then.
    pub revision: Revision,
    /// When.
    pub at_ms: UnixMillis,
}

/// A part of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The file.
    pub stored: Stored,
    /// Whether it takes objects away.
    pub removes: bool,
    /// Objects in it.
    pub objects: u64,
    /// Their bytes at the source.
    pub bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

/// Files that a merged one stands in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The files.
    pub files: Vec<Stored>,
    /// The archive's age at the merge.
    pub lived: LivedMillis,
}

/// What an expiry still has to delete. Deleting again what is gone already is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unswept {
    /// Files.
    pub files: Vec<Stored>,
    /// A list of objects to delete.
    pub objects: Option<Stored>,
    /// Records to delete.
    pub records: Option<OldRecords>,
}

/// Records that a later checkpoint holds, and older checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldRecords {
    /// The first of them; the archive's first record stays even so.
    pub from: Seq,
    /// The first that stays.
    pub before: Seq,
    /// Records whose checkpoint files go.
    pub checkpoints: Vec<Seq>,
}

impl Unswept {
    /// The names to delete; those of removed objects stand in the list [`Unswept::objects`] besides.
    pub fn names(&self) -> impl Iterator<Item = StoredPath> {
        let records = self.records.iter().flat_map(|old| {
            let records = (old.from.0.max(2)..old.before.0).map(|seq| names::record(Seq(seq)));
            records.chain(old.checkpoints.iter().map(|seq| names::checkpoint(*seq)))
        });
        self.files.iter().map(|file| file.path.clone()).chain(records)
    }
}

/// Something that happened, with its place and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past<T> {
    /// Its record.
    pub seq: Seq,
    /// When, by the writer's clock.
    pub at_ms: UnixMillis,
    /// What.
    pub what: T,
}

/// What the index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Objects.
    pub objects: u64,
    /// Their bytes at the source.
    pub bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

/// The next record, ready to be created under its name. Nothing counts until it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    record: Record,
    bytes: Vec<u8>,
}

/// Why a record cannot be written now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another writer has taken over.
    #[error(
        "this archive is now written by {now}, not by {me}: nothing was written. Only one writer may be active; stop one of the two"
    )]
    Fenced {
        /// Who asked.
        me: WriterId,
        /// Who may.
        now: WriterId,
    },
    /// The record would contradict what the archive already says.
    #[error("the record was not written: {0}")]
    Fault(#[from] Fault),
    /// The record cannot be encoded.
    #[error("the record was not written: {0}")]
    Encode(#[from] DecodeError),
    /// The draft was made for another state.
    #[error("the draft is for record {draft}, but the next one is {next}: draft it again")]
    Stale {
        /// The draft's place.
        draft: Seq,
        /// The next place.
        next: Seq,
    },
}

impl Draft {
    /// The name to create, if it is free.
    pub fn name(&self) -> StoredPath {
        names::record(self.record.seq)
    }
    /// The file's whole content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }
    fn link(&self) -> Link {
        Link { seq: self.record.seq, sha256: Sha256::of(&self.bytes) }
    }
}

impl Catalog {
    /// The first record of a new archive. Create it, then [`Catalog::begin`].
    ///
    /// # Errors
    /// The record is too large.
    pub fn open(archive: ArchiveId, writer: WriterId, at_ms: UnixMillis, opened: Opened) -> Result<Draft, Refused> {
        let record = Record {
            v: FORMAT,
            seq: Seq::FIRST,
            prev: None,
            checkpoint: None,
            archive,
            timeline: TimelineId(1),
            writer,
            at_ms,
            what: Kind::Opened(opened),
        };
        let bytes = codec::encode_record(&record)?;
        Ok(Draft { record, bytes })
    }

    /// The catalogue of a new archive, once its first record is created.
    ///
    /// # Errors
    /// The draft is not one of [`Catalog::open`].
    pub fn begin(draft: Draft) -> Result<Self, Refused> {
        let link = draft.link();
        let mut catalog = Self::opened(&draft.record, link).ok_or(Refused::Fault(Fault::NotTheFirst))?;
        catalog.head = link;
        Ok(catalog)
    }

    /// The next record, if it fits what the archive says.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn draft(&self, writer: &WriterId, at_ms: UnixMillis, what: Kind) -> Result<Draft, Refused> {
        let takes_over = matches!(what, Kind::WriterTookOver(_));
        if !takes_over && *writer != self.writer {
            return Err(Refused::Fenced { me: writer.clone(), now: self.writer.clone() });
        }
        let timeline = match what {
            Kind::TimelineBegan(_) => TimelineId(self.current.0.saturating_add(1)),
            _ => self.current,
        };
        let record = Record {
            v: FORMAT,
            seq: self.head.seq.next(),
            prev: Some(self.head.sha256),
            checkpoint: self.checkpoint,
            archive: self.archive.clone(),
            timeline,
            writer: writer.clone(),
            at_ms,
            what,
        };
        self.check(&record)?;
        let bytes = codec::encode_record(&record)?;
        Ok(Draft { record, bytes })
    }

    /// Takes a draft into account, once its file is created.
    ///
    /// # Errors
    /// [`Refused::Stale`]: another record was committed since.
    pub fn commit(&mut self, draft: Draft) -> Result<(), Refused> {
        if draft.record.prev != Some(self.head.sha256) || draft.record.seq != self.head.seq.next() {
            return Err(Refused::Stale { draft: draft.record.seq, next: self.head.seq.next() });
        }
        let link = draft.link();
        self.fold(&draft.record, link);
        Ok(())
    }

    /// The file that the next [`Kind::Checkpoint`] names: create it, then draft the record.
    pub fn checkpoint_file(&self) -> (StoredPath, Vec<u8>) {
        (names::checkpoint(self.head.seq.next()), codec::encode_state(self))
    }

    /// What [`Kind::Checkpoint`] says about that file.
    pub fn checkpoint_record(&self, bytes: &[u8]) -> Kind {
        let stored = Stored {
            path: names::checkpoint(self.head.seq.next()),
            len: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            locked_until_ms: None,
        };
        Kind::Checkpoint(Checkpoint { stored, lived_ms: self.lived })
    }

    /// Whether enough records have gathered since the newest checkpoint.
    pub fn checkpoint_due(&self) -> bool {
        self.head.seq.0.saturating_sub(self.checkpoint.map_or(0, |link| link.seq.0)) >= CHECKPOINT_EVERY
    }

    /// The archive.
    pub fn archive(&self) -> &ArchiveId {
        &self.archive
    }
    /// The newest record. Keep it outside of the archive: it shows later whether someone put an older state back.
    pub fn head(&self) -> Link {
        self.head
    }
    /// When the newest record was written, by its writer's clock.
    pub fn head_at_ms(&self) -> UnixMillis {
        self.head_at_ms
    }
    /// The newest checkpoint.
    pub fn checkpoint(&self) -> Option<Link> {
        self.checkpoint
    }
    /// All checkpoints that are kept, with the archive's age at each.
    pub fn checkpoints(&self) -> &[(Seq, LivedMillis)] {
        &self.checkpoints
    }
    /// The first record that is kept, besides the very first.
    pub fn records_from(&self) -> Seq {
        self.records_from
    }
    /// When the archive was opened.
    pub fn opened_at_ms(&self) -> UnixMillis {
        self.opened_at_ms
    }
    /// Who writes.
    pub fn writer(&self) -> &WriterId {
        &self.writer
    }
    /// How often the writer changed, and one.
    pub fn fence(&self) -> u64 {
        self.fence
    }
    /// Who can open what is sealed from now on.
    pub fn sealed_to(&self) -> &[String] {
        &self.sealed_to
    }
    /// The history that is being written.
    pub fn current(&self) -> &Timeline {
        self.timelines.get(&self.current).expect("the current timeline always exists")
    }
    /// A history.
    pub fn timeline(&self, id: TimelineId) -> Option<&Timeline> {
        self.timelines.get(&id)
    }
    /// All histories, oldest first.
    pub fn timelines(&self) -> impl DoubleEndedIterator<Item = &Timeline> {
        self.timelines.values()
    }
    /// A full, by its record.
    pub fn full(&self, seq: Seq) -> Option<(&Timeline, &Full)> {
        self.timelines.values().find_map(|timeline| timeline.fulls.get(&seq).map(|full| (timeline, full)))
    }
    /// All fulls in the order of taking.
    pub fn fulls(&self) -> Vec<(&Timeline, &Full)> {
        let mut fulls: Vec<_> =
            self.timelines.values().flat_map(|line| line.fulls.values().map(move |full| (line, full))).collect();
        fulls.sort_by_key(|(_, full)| full.seq);
        fulls
    }
    /// The files of the index, in the order in which they apply.
    pub fn pieces(&self) -> impl Iterator<Item = (Seq, &Piece)> {
        self.pieces.iter().map(|(seq, piece)| (*seq, piece))
    }
    /// What merges made superfluous, by the merging record.
    pub fn superseded(&self) -> impl Iterator<Item = (Seq, &Superseded)> {
        self.superseded.iter().map(|(seq, files)| (*seq, files))
    }
    /// What expiries still have to delete, by their record.
    pub fn unswept(&self) -> impl Iterator<Item = (Seq, &Unswept)> {
        self.unswept.iter().map(|(seq, rest)| (*seq, rest))
    }
    /// Files that are known to be damaged, with what is wrong.
    pub fn damaged(&self) -> impl Iterator<Item = (&StoredPath, &str)> {
        self.damaged.iter().map(|(path, what)| (path, what.as_str()))
    }
    /// The last verifications, oldest first.
    pub fn verifications(&self) -> &[Past<Verified>] {
        &self.verifications
    }
    /// The last drills, oldest first.
    pub fn drills(&self) -> &[Past<Drilled>] {
        &self.drills
    }
    /// Whether a file is known to be damaged.
    pub fn is_damaged(&self, path: &StoredPath) -> bool {
        self.damaged.contains_key(path)
    }
    /// Whether a reader counts on a file: it is a full, a piece of tail or of the index. Objects stand in the index.
    pub fn counts_on(&self, path: &StoredPath) -> bool {
        let full = |line: &Timeline| line.fulls.values().any(|full| full.taken.stored.path == *path);
        let tail = |line: &Timeline| line.tail.values().any(|piece| piece.segment.stored.path == *path);
        self.timelines.values().any(|line| full(line) || tail(line))
            || self.pieces.values().any(|piece| piece.stored.path == *path)
    }
    /// Whether a name is in use.
    pub fn names(&self, path: &StoredPath) -> bool {
        self.names.contains(path)
    }
    /// Objects in the mirror, and their bytes.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for piece in self.pieces.values() {
            let add = |to: &mut u64, what: u64| {
                *to = if piece.removes { to.saturating_sub(what) } else { to.saturating_add(what) };
            };
            add(&mut totals.objects, piece.objects);
            add(&mut totals.bytes, piece.bytes);
            add(&mut totals.stored_bytes, piece.stored_bytes);
        }
        totals
    }
    /// The archive's age at `now`: what retention counts by. A clock that jumps moves it by [`SILENCE_MAX`] at most,
    /// and never back.
    pub fn lived_at(&self, now: UnixMillis) -> LivedMillis {
        LivedMillis(self.lived.0.saturating_add(now.since(self.head_at_ms).min(SILENCE_MAX.0)))
    }
    /// The newest full whose chain was verified and is not known to be damaged.
    pub fn last_verified(&self) -> Option<(&Timeline, &Full)> {
        self.fulls()
            .into_iter()
            .rev()
            .find(|(_, full)| full.verified.is_some() && !self.is_damaged(&full.taken.stored.path))
    }
}

impl Timeline {
    /// The pieces of tail that continue `full` without a break, in order. The first may begin before it.
    pub fn chain(&self, full: &Full) -> impl Iterator<Item = &TailPiece> {
        let mut next = full.taken.revision.next();
        let from = self.tail.range(..=next).next_back().map_or(next, |(first, _)| *first);
        self.tail
            .range(from..)
            .map(|(_, piece)| piece)
            .skip_while(move |piece| piece.segment.last < full.taken.revision.next())
            .take_while(move |piece| {
                let follows = piece.segment.first <= next;
                next = piece.segment.last.next();
                follows
            })
    }
    /// The newest full.
    pub fn newest_full(&self) -> Option<&Full> {
        self.fulls.values().next_back()
    }
    /// The newest revision that any file of it holds.
    pub fn newest_revision(&self) -> Option<Revision> {
        let full = self.newest_full().map(|full| full.taken.revision);
        let tail = self.tail.values().next_back().map(|piece| piece.segment.last);
        full.max(tail)
    }
}
