//! What the catalogue says: one small record per event, each the commit marker of the files that it names.
//!
//! The files come first, the record last. So a file that no record names does not exist for any reader, and a record that
//! exists names only complete files. Frozen: docs/format/archive.md. A release may add kinds and fields; it never changes
//! or reuses one.

use serde::{Deserialize, Serialize};

use crate::ids::{
    ArchiveId, LivedMillis, Revision, Seq, Sha256, SourcePath, StoredPath, TimelineId, UnixMillis, WriterId,
};
use crate::index::Use;

/// One record of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format; [`crate::limits::FORMAT`].
    pub v: u32,
    /// Its place; the file's name says the same.
    pub seq: Seq,
    /// Hash of the record before, as it is stored; absent in the first.
    pub prev: Option<Sha256>,
    /// The newest checkpoint before this record, if there is one.
    pub checkpoint: Option<Link>,
    /// The archive that it belongs to.
    pub archive: ArchiveId,
    /// The history it speaks of: the current one, or the one that it begins.
    pub timeline: TimelineId,
    /// Who wrote it.
    pub writer: WriterId,
    /// When, by the writer's clock.
    pub at_ms: UnixMillis,
    /// What happened.
    pub what: Kind,
}

/// Points at a record, and pins its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The record's place.
    pub seq: Seq,
    /// Hash of the record as it is stored.
    pub sha256: Sha256,
}

/// What a record can say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The archive exists from here on. The first record, and only the first.
    Opened(Opened),
    /// A new history begins, after a restore or because the source is another one.
    TimelineBegan(TimelineBegan),
    /// From here on another writer writes; records of the one before are refused.
    WriterTookOver(WriterTookOver),
    /// A full snapshot of the metadata is complete.
    FullTaken(FullTaken),
    /// The next piece of the tail is complete.
    TailCut(TailCut),
    /// One longer piece of tail stands in for the short ones that it covers.
    TailMerged(TailMerged),
    /// History after the tail's end is lost; only a new full continues it.
    GapFound(GapFound),
    /// Nothing new, or the mirror has caught up.
    Progress(Progress),
    /// Objects are mirrored and verified, and an index piece says which.
    ObjectsMirrored(ObjectsMirrored),
    /// One index piece stands in for all before it.
    IndexMerged(IndexMerged),
    /// An object was gone before it could be copied: revisions that need it are not wholly recoverable.
    HoleFound(HoleFound),
    /// A hole has an end: later revisions do not need the objects any more.
    HoleClosed(HoleClosed),
    /// A hole is none: all its objects are mirrored after all.
    HoleHealed(HoleHealed),
    /// A chain was verified, well or not.
    Verified(Verified),
    /// A restore was tried, well or not.
    Drilled(Drilled),
    /// Retention gives up what is named here; only now may the files be deleted.
    Expired(Expired),
    /// The files of an expiry are deleted.
    Swept(Swept),
    /// The state before this record is stored in a file.
    Checkpoint(Checkpoint),
}

impl Kind {
    /// All kinds, by the name they have in a record.
    pub const NAMES: &'static [&'static str] = &[
        "opened",
        "timeline_began",
        "writer_took_over",
        "full_taken",
        "tail_cut",
        "tail_merged",
        "gap_found",
        "progress",
        "objects_mirrored",
        "index_merged",
        "hole_found",
        "hole_closed",
        "hole_healed",
        "verified",
        "drilled",
        "expired",
        "swept",
        "checkpoint",
    ];
}

/// A complete file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name.
    pub path: StoredPath,
    /// Its length as stored, in bytes.
    pub len: u64,
    /// Hash of it as stored: verifying needs no key.
    pub sha256: Sha256,
    /// Until when the store refuses to delete it, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until_ms: Option<UnixMillis>,
}

/// What is inside a stored file: before compression and sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// Length in bytes: a reader expects no more.
    pub len: u64,
    /// Its hash.
    pub sha256: Sha256,
}

/// Where the metadata comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The etcd cluster's id, 16 hex digits.
    pub cluster: String,
    /// Root paths of the Milvus instances in it; none when only metadata is kept.
    pub milvus_roots: Vec<String>,
    /// Whether referenced objects are mirrored. Without it every revision is recoverable as metadata only.
    pub objects: bool,
}

/// See [`Kind::Opened`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// What is backed up.
    pub source: Source,
    /// Fingerprints of the recipients that can open sealed files; none when nothing is sealed.
    pub sealed_to: Vec<String>,
}

/// See [`Kind::TimelineBegan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineBegan {
    /// What was restored; absent when the source simply became another one.
    pub parent: Option<Branch>,
    /// Why, in words.
    pub why: String,
    /// What is backed up from here on.
    pub source: Source,
}

/// A place in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The history.
    pub timeline: TimelineId,
    /// The last revision that both have.
    pub revision: Revision,
}

/// See [`Kind::WriterTookOver`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterTookOver {
    /// One more than at the take-over before; the first writer has 1.
    pub fence: u64,
    /// Who wrote before.
    pub was: WriterId,
    /// Why, in words.
    pub why: String,
    /// As in [`Opened`], from here on.
    pub sealed_to: Vec<String>,
}

/// See [`Kind::FullTaken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullTaken {
    /// The revision that it holds.
    pub revision: Revision,
    /// When it was taken, by the writer's clock.
    pub taken_at_ms: UnixMillis,
    /// The source's compaction at that time: history inside the snapshot begins after it.
    pub compact_revision: Revision,
    /// The source's raft term.
    pub raft_term: u64,
    /// Live keys in it.
    pub keys: u64,
    /// Hash of what its last revision changed (docs/format/tail.md): a writer that goes on sees by it whether the source's
    /// history is still the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Sha256>,
    /// Digests of the members that were compared; equal, or there is one only.
    pub members: Vec<MemberDigest>,
    /// The snapshot in etcd's format.
    pub plain: Plain,
    /// The same, as stored.
    pub stored: Stored,
}

/// One member's answer to HashKV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDigest {
    /// The member's id, 16 hex digits.
    pub member: String,
    /// The revision that was hashed.
    pub revision: Revision,
    /// Its compaction.
    pub compact_revision: Revision,
    /// The hash.
    pub hash: u32,
}

/// A piece of tail: all events of the revisions `first..=last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its first revision.
    pub first: Revision,
    /// Its last revision.
    pub last: Revision,
    /// When the first was seen, by the writer's clock.
    pub first_at_ms: UnixMillis,
    /// When the last was seen.
    pub last_at_ms: UnixMillis,
    /// Events in it.
    pub events: u64,
    /// Hash of what its last revision changed (docs/format/tail.md): a writer that goes on sees by it whether the source's
    /// history is still the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Sha256>,
    /// The hash that the next piece names as the one before, where that is not the hash of `plain`: this piece stands in
    /// for short ones, and the next one names the last of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed_as: Option<Sha256>,
    /// The segment file, docs/format/tail.md.
    pub plain: Plain,
    /// The same, as stored.
    pub stored: Stored,
}

/// See [`Kind::TailCut`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailCut {
    /// The piece; it begins where the tail ended.
    pub segment: Segment,
    /// See [`Progress::mirrored_to`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored_to: Option<Revision>,
}

/// See [`Kind::TailMerged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailMerged {
    /// The piece; it covers one or more known ones exactly.
    pub segment: Segment,
}

/// See [`Kind::GapFound`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapFound {
    /// The first revision that is lost.
    pub from: Revision,
    /// The last revision that is known to be lost.
    pub to: Option<Revision>,
    /// Why.
    pub cause: GapCause,
    /// The same in words, with what the source answered.
    pub detail: String,
}

/// Why a part of history is not in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The source compacted what had not been read yet.
    Compacted,
    /// The connection was lost for longer than the source keeps history.
    ConnectionLost,
    /// Nobody was writing.
    WriterAway,
    /// The source has an older revision than the archive: it was restored or replaced.
    SourceWentBack,
    /// What was read did not fit what was read before.
    Damaged,
    /// Something that this program does not know.
    #[serde(other)]
    Other,
}

/// See [`Kind::Progress`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// At the record's time the source's newest revision was this one, and the archive holds it.
    pub revision: Revision,
    /// All objects that any archived revision up to this one references are mirrored and verified, holes excepted.
    pub mirrored_to: Option<Revision>,
}

/// See [`Kind::ObjectsMirrored`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsMirrored {
    /// The index piece.
    pub piece: Stored,
    /// Objects that it adds.
    pub objects: u64,
    /// Their bytes at the source.
    pub bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
    /// See [`Progress::mirrored_to`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored_to: Option<Revision>,
    /// Objects among them that were in the mirror before and not well, at most [`crate::limits::NAMED_MAX`]: they were
    /// copied anew, and are counted once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<StoredPath>,
}

/// See [`Kind::IndexMerged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexMerged {
    /// The piece that holds the whole index.
    pub piece: Stored,
    /// It stands in for all pieces and removals of records up to and including this one.
    pub up_to: Seq,
    /// Objects in it.
    pub objects: u64,
    /// Their bytes at the source.
    pub bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

/// See [`Kind::HoleFound`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoleFound {
    /// The first revision that needs a missing object.
    pub from: Revision,
    /// The last one, when it is known; absent while the newest revision still needs it.
    pub to: Option<Revision>,
    /// Why, in words.
    pub cause: String,
    /// The missing objects, at most [`crate::limits::NAMED_MAX`] of them.
    pub objects: Vec<SourcePath>,
    /// How many are missing.
    pub count: u64,
}

/// See [`Kind::HoleClosed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoleClosed {
    /// The record that found the hole.
    pub hole: Seq,
    /// The last revision that needs a missing object.
    pub to: Revision,
}

/// See [`Kind::HoleHealed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoleHealed {
    /// The record that found the hole.
    pub hole: Seq,
    /// How, in words.
    pub how: String,
}

/// How deep a verification looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// All files are there with their lengths.
    Structure,
    /// All metadata files were read and hashed, and some of the objects.
    Sample,
    /// Every byte was read and hashed.
    Data,
}

/// See [`Kind::Verified`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The record of the full that the chain begins with.
    pub full: Seq,
    /// The chain's tail was looked at up to here.
    pub up_to: Revision,
    /// How deep.
    pub depth: Depth,
    /// Whether all was well.
    pub ok: bool,
    /// Files looked at.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What was not well, at most [`crate::limits::NAMED_MAX`] of it.
    pub damaged: Vec<DamagedFile>,
    /// Revisions that need objects which are not well and for which `damaged` had no room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unnamed: Vec<Use>,
    /// How long it took.
    pub took_ms: u64,
}

/// A file that is not what its record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// Its name.
    pub path: StoredPath,
    /// What is wrong, in words.
    pub what: String,
    /// Of an object: the revisions that need it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
}

/// See [`Kind::Drilled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// The record of the full that was restored.
    pub full: Seq,
    /// The revision that was restored.
    pub revision: Revision,
    /// Whether the restored store had the recorded digest and all objects.
    pub ok: bool,
    /// How far the recovered state was behind the source when the drill began.
    pub rpo_ms: u64,
    /// How long it took until the store served.
    pub rto_ms: u64,
    /// What was compared and seen, in words.
    pub detail: String,
}

/// See [`Kind::Expired`]. A tombstone: readers stop counting on these files at once, deletion follows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expired {
    /// Records of the fulls that go.
    pub fulls: Vec<Seq>,
    /// Tail that goes, in whole segments.
    pub tails: Vec<TailRange>,
    /// Merging records: the files that they made superfluous go.
    pub superseded: Vec<Seq>,
    /// Objects that go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsRemoved>,
    /// Records before this one go, except the first: a checkpoint at this place holds what they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_before: Option<Seq>,
    /// The policy, in words.
    pub policy: String,
}

/// Whole segments that lie in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailRange {
    /// The history.
    pub timeline: TimelineId,
    /// First revision of the first segment.
    pub first: Revision,
    /// Last revision of the last segment.
    pub last: Revision,
}

/// Objects that an expiry removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsRemoved {
    /// An index piece with a removal for each.
    pub list: Stored,
    /// How many.
    pub objects: u64,
    /// Their bytes at the source.
    pub bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

/// See [`Kind::Swept`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// The expiry.
    pub expired: Seq,
    /// What the store refused to delete, to be tried again.
    pub left: Vec<Left>,
}

/// A file that could not be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The file.
    pub stored: Stored,
    /// Why, in the store's words.
    pub why: String,
}

/// See [`Kind::Checkpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The file with the state.
    pub stored: Stored,
    /// The archive's age when it was made.
    pub lived_ms: LivedMillis,
}
