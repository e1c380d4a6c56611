//! What machines read: the archive as JSON, for `list` and `show`. Fields may be added, none changes its meaning.

use serde::Serialize;

use crate::{
    catalog::{Catalog, Past, Totals, VerifiedMark},
    ids::{ArchiveId, Revision, Seq, StoredPath, TimelineId, UnixMillis, WriterId},
    record::{Branch, Drilled, Source, Verified},
    spans::Stretch,
};

/// A whole archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveView {
    /// Its id.
    pub archive: ArchiveId,
    /// When it was opened.
    pub opened_at_ms: UnixMillis,
    /// Its newest record.
    pub head: Seq,
    /// When that was written.
    pub head_at_ms: UnixMillis,
    /// Who writes.
    pub writer: WriterId,
    /// Who can open what is sealed.
    pub sealed_to: Vec<String>,
    /// Its histories, oldest first.
    pub timelines: Vec<TimelineView>,
    /// The mirror.
    pub objects: Totals,
    /// Bytes of metadata, as stored.
    pub metadata_bytes: u64,
    /// The newest verification.
    pub last_verified: Option<Past<Verified>>,
    /// The newest drill.
    pub last_drill: Option<Past<Drilled>>,
    /// Files that are known to be damaged.
    pub damaged: Vec<DamagedView>,
    /// Expiries whose files are not all deleted yet.
    pub unswept: Vec<Seq>,
}

/// A history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineView {
    /// Its number.
    pub timeline: TimelineId,
    /// Whether it is being written.
    pub current: bool,
    /// When it began.
    pub began_at_ms: UnixMillis,
    /// What it continues.
    pub parent: Option<Branch>,
    /// Why it began.
    pub why: String,
    /// What is backed up.
    pub source: Source,
    /// All objects are mirrored that revisions up to this one reference.
    pub mirrored_to: Option<Revision>,
    /// The archive had everything up to this revision …
    pub seen: Option<Revision>,
    /// … at this time.
    pub seen_at_ms: Option<UnixMillis>,
    /// What is recoverable, what is not, and why.
    pub stretches: Vec<Stretch>,
    /// Its fulls.
    pub fulls: Vec<FullView>,
    /// Pieces of tail.
    pub tail_pieces: usize,
    /// Their bytes as stored.
    pub tail_bytes: u64,
}

/// A full snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FullView {
    /// Its record.
    pub seq: Seq,
    /// Its revision.
    pub revision: Revision,
    /// When it was taken.
    pub taken_at_ms: UnixMillis,
    /// Live keys in it.
    pub keys: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its bytes as stored.
    pub stored_bytes: u64,
    /// Its file.
    pub path: StoredPath,
    /// Members of the source that were compared.
    pub members_compared: usize,
    /// The newest good verification of its chain.
    pub verified: Option<VerifiedMark>,
}

/// A damaged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedView {
    /// The file.
    pub path: StoredPath,
    /// What is wrong.
    pub what: String,
}

impl Catalog {
    /// The archive for machines.
    pub fn view(&self) -> ArchiveView {
        let timelines: Vec<TimelineView> = self.spans().into_iter().filter_map(|spans| self.view_of(spans)).collect();
        let fulls = timelines.iter().flat_map(|line| &line.fulls).map(|full| full.stored_bytes);
        let tails = timelines.iter().map(|line| line.tail_bytes);
        ArchiveView {
            archive: self.archive.clone(),
            opened_at_ms: self.opened_at_ms,
            head: self.head.seq,
            head_at_ms: self.head_at_ms,
            writer: self.writer.clone(),
            sealed_to: self.sealed_to.clone(),
            metadata_bytes: fulls.chain(tails).fold(0, u64::saturating_add),
            timelines,
            objects: self.totals(),
            last_verified: self.verifications.last().cloned(),
            last_drill: self.drills.last().cloned(),
            damaged: self
                .damaged
                .iter()
                .map(|(path, what)| DamagedView { path: path.clone(), what: what.clone() })
                .collect(),
            unswept: self.unswept.keys().copied().collect(),
        }
    }

    fn view_of(&self, spans: crate::spans::Spans) -> Option<TimelineView> {
        let line = self.timeline(spans.timeline)?;
        let fulls = line.fulls.values().map(|full| FullView {
            seq: full.seq,
            revision: full.taken.revision,
            taken_at_ms: full.taken.taken_at_ms,
            keys: full.taken.keys,
            bytes: full.taken.plain.len,
            stored_bytes: full.taken.stored.len,
            path: full.taken.stored.path.clone(),
            members_compared: full.taken.members.len(),
            verified: full.verified.clone(),
        });
        Some(TimelineView {
            timeline: line.id,
            current: line.id == self.current,
            began_at_ms: line.began_at_ms,
            parent: line.parent,
            why: line.why.clone(),
            source: line.source.clone(),
            mirrored_to: line.mirrored_to,
            seen: line.seen.map(|seen| seen.revision),
            seen_at_ms: line.seen.map(|seen| seen.at_ms),
            stretches: spans.stretches,
            fulls: fulls.collect(),
            tail_pieces: line.tail.len(),
            tail_bytes: line.tail.values().map(|piece| piece.segment.stored.len).fold(0, u64::saturating_add),
        })
    }
}
