//! What is recoverable: spans of revisions, and between them what is lost and why.
//!
//! ```text
//! fulls      F                F                     F
//! tail        =====  ===========        x============
//! metadata   [------]       [----------]            [----]     a full at or before, and no break since
//! whole      [------]       [----]ooooo             [--]       … and every referenced object is in the mirror
//! ```
//! Computed from what the catalogue holds now, not from what once was: damage, expiry and lost records show by themselves.

use serde::Serialize;

use crate::{
    catalog::{Catalog, Full, TailPiece, Timeline},
    ids::{Revision, Seq, StoredPath, TimelineId, UnixMillis},
    index::Use,
    record::GapCause,
};

/// A revision, and its time when the catalogue knows it: inside a piece of tail only the piece knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The revision.
    pub revision: Revision,
    /// When it was seen, by the writer's clock.
    pub at_ms: Option<UnixMillis>,
}

/// Revisions that can be restored, each one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first.
    pub from: Point,
    /// The last.
    pub to: Point,
    /// What is not there for them; nothing: metadata and every referenced object are there.
    pub lacks: Option<Lack>,
}

/// Why a revision can be restored as metadata only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Lack {
    /// This archive keeps metadata only.
    NotKept,
    /// Objects are still being copied.
    NotMirroredYet,
    /// Objects were gone before they could be copied.
    Hole {
        /// The record that found it.
        hole: Seq,
        /// Why, in words.
        cause: String,
        /// How many objects.
        count: u64,
    },
    /// Objects in the mirror are known to be damaged, or gone from it.
    DamagedObjects {
        /// One of them, if it has a name in the catalogue.
        path: Option<StoredPath>,
        /// What is wrong with it.
        what: String,
        /// How many have one.
        count: u64,
    },
    /// A part of the index is damaged: which objects are in the mirror is not wholly known.
    DamagedIndex {
        /// The piece.
        path: StoredPath,
        /// What is wrong with it.
        what: String,
    },
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotKept => f.write_str("this archive keeps no objects, only metadata"),
            Self::NotMirroredYet => f.write_str("its objects are still being copied"),
            Self::Hole { cause, count, .. } => write!(f, "{count} of its objects are missing: {cause}"),
            Self::DamagedObjects { path: Some(path), what, count: 1 } => write!(f, "{path} is damaged: {what}"),
            Self::DamagedObjects { path: Some(path), what, count } => {
                write!(f, "{count} of its objects are damaged, among them {path}: {what}")
            }
            Self::DamagedObjects { path: None, what, .. } => f.write_str(what),
            Self::DamagedIndex { path, what } => write!(f, "{path} is damaged, a part of the index: {what}"),
        }
    }
}

/// Revisions that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The first.
    pub from: Revision,
    /// The last; absent when it goes on.
    pub to: Option<Revision>,
    /// Why.
    pub cause: Cause,
}

/// Why revisions are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Cause {
    /// They were never read.
    Gap {
        /// Why.
        cause: GapCause,
        /// The same in words.
        detail: String,
    },
    /// A file is damaged.
    Damaged {
        /// The file.
        path: StoredPath,
        /// What is wrong.
        what: String,
    },
    /// Retention gave them up.
    Expired,
    /// The records that spoke of them are lost.
    RecordsLost,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gap { detail, .. } => write!(f, "they were never read from the source: {detail}"),
            Self::Damaged { path, what } => write!(f, "{path} is damaged: {what}"),
            Self::Expired => f.write_str("retention removed them"),
            Self::RecordsLost => f.write_str("the catalogue's records about them are lost"),
        }
    }
}

/// A part of a history, recoverable or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stretch {
    /// Recoverable.
    Span(Span),
    /// Lost.
    Break(Break),
}

/// One history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spans {
    /// Which.
    pub timeline: TimelineId,
    /// Its parts in order of revision.
    pub stretches: Vec<Stretch>,
}

/// Revisions without a break in the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The first.
    pub from: Revision,
    /// The last.
    pub to: Revision,
}

impl Run {
    /// Whether the revision is in it.
    pub fn has(self, revision: Revision) -> bool {
        (self.from..=self.to).contains(&revision)
    }
}

impl Catalog {
    /// All histories, oldest first, with what is recoverable of them.
    pub fn spans(&self) -> Vec<Spans> {
        self.timelines().map(|line| Spans { timeline: line.id, stretches: self.stretches(line) }).collect()
    }

    /// Revisions whose metadata can be restored: from a good full on, as far as the good tail reaches.
    pub fn runs(&self, line: &Timeline) -> Vec<Run> {
        let mut fulls: Vec<&Full> = line.fulls.values().filter(|full| self.is_good(full)).collect();
        fulls.sort_by_key(|full| full.taken.revision);
        let mut runs: Vec<Run> = Vec::new();
        for full in fulls {
            let from = full.taken.revision;
            match runs.last_mut() {
                Some(run) if from <= run.to => {}
                Some(run) if from == run.to.next() => run.to = self.reach(line, full),
                _ => runs.push(Run { from, to: self.reach(line, full) }),
            }
        }
        runs
    }

    /// The good pieces that continue a full without a break.
    pub(crate) fn good_chain<'a>(&'a self, line: &'a Timeline, full: &'a Full) -> impl Iterator<Item = &'a TailPiece> {
        line.chain(full).take_while(|piece| !self.is_damaged(&piece.segment.stored.path))
    }

    /// Whether a full is not known to be damaged.
    pub(crate) fn is_good(&self, full: &Full) -> bool {
        !self.is_damaged(&full.taken.stored.path)
    }

    fn reach(&self, line: &Timeline, full: &Full) -> Revision {
        let last = self.good_chain(line, full).last().map(|piece| piece.segment.last);
        last.map_or(full.taken.revision, |last| last.max(full.taken.revision))
    }

    /// What a revision lacks beyond its metadata.
    pub fn lack(&self, line: &Timeline, revision: Revision) -> Option<Lack> {
        if !line.source.objects {
            return Some(Lack::NotKept);
        }
        if line.mirrored_to.is_none_or(|to| revision > to) {
            return Some(Lack::NotMirroredYet);
        }
        let hole = line.holes.iter().find_map(|(seq, hole)| {
            let found = &hole.found;
            let inside = found.from <= revision && found.to.is_none_or(|to| revision <= to);
            inside.then(|| Lack::Hole { hole: *seq, cause: found.cause.clone(), count: found.count })
        });
        hole.or_else(|| self.damaged_at(line, revision))
    }

    /// What of the mirror a revision needs and a verification found damaged.
    fn damaged_at(&self, line: &Timeline, revision: Revision) -> Option<Lack> {
        if self.damaged.is_empty() && self.damaged_unnamed.is_empty() {
            return None;
        }
        let needs = |uses: &Vec<Use>| uses.iter().any(|one| one.meets(line.id, revision, revision));
        let mut named = self.damaged_uses.iter().filter(|(_, uses)| needs(uses)).map(|(path, _)| path);
        if let Some(path) = named.next() {
            let what = self.damaged.get(path).cloned().unwrap_or_default();
            return Some(Lack::DamagedObjects { path: Some(path.clone()), what, count: 1 + named.count() as u64 });
        }
        if self.damaged_unnamed.values().any(needs) {
            let what = "more objects are damaged than have room in the catalogue; run: eyrie backup verify".into();
            return Some(Lack::DamagedObjects { path: None, what, count: 0 });
        }
        let piece = self.pieces.values().map(|piece| &piece.stored.path).find(|path| self.is_damaged(path))?;
        let what = self.damaged.get(piece).cloned().unwrap_or_default();
        Some(Lack::DamagedIndex { path: piece.clone(), what })
    }

    fn stretches(&self, line: &Timeline) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut next: Option<Revision> = None;
        for run in self.runs(line) {
            if let Some(from) = next {
                let to = run.from.before();
                stretches.push(Stretch::Break(Break {
                    from,
                    to: Some(to),
                    cause: self.cause_of(line, from, Some(to)),
                }));
            }
            stretches.extend(self.split(line, run).into_iter().map(Stretch::Span));
            next = Some(run.to.next());
        }
        if let Some((from, cause)) = self.open_end(line, next) {
            stretches.push(Stretch::Break(Break { from, to: None, cause }));
        }
        stretches
    }

    /// What is lost behind the last span, for as long as no new full continues it.
    fn open_end(&self, line: &Timeline, next: Option<Revision>) -> Option<(Revision, Cause)> {
        let from = next.unwrap_or(Revision(1));
        let unread = line.tail_head.is_none() && line.gaps.iter().any(|gap| gap.found.to.is_none_or(|to| to >= from));
        let unusable = line.newest_revision().is_some_and(|newest| newest >= from);
        (unread || unusable).then(|| (from, self.cause_of(line, from, None)))
    }

    /// Why the revisions from `from` on are lost.
    pub(crate) fn cause_of(&self, line: &Timeline, from: Revision, to: Option<Revision>) -> Cause {
        let meets = |first: Revision, last: Option<Revision>| {
            to.is_none_or(|to| first <= to) && last.is_none_or(|last| last >= from)
        };
        let pieces = line.tail.values().map(|piece| (piece.segment.first, piece.segment.last, &piece.segment.stored));
        let fulls = line.fulls.values().map(|full| (full.taken.revision, full.taken.revision, &full.taken.stored));
        for (first, last, stored) in pieces.chain(fulls) {
            if let Some(what) = self.damaged.get(&stored.path).filter(|_| meets(first, Some(last))) {
                return Cause::Damaged { path: stored.path.clone(), what: what.clone() };
            }
        }
        if let Some(gap) = line.gaps.iter().rev().find(|gap| meets(gap.found.from, gap.found.to)) {
            return Cause::Gap { cause: gap.found.cause, detail: gap.found.detail.clone() };
        }
        if line.expired_to.is_some_and(|expired| expired >= from) { Cause::Expired } else { Cause::RecordsLost }
    }

    /// A run in parts of which each lacks the same.
    fn split(&self, line: &Timeline, run: Run) -> Vec<Span> {
        let mut starts = vec![run.from];
        starts.extend(line.mirrored_to.map(Revision::next));
        for hole in line.holes.values() {
            starts.push(hole.found.from);
            starts.extend(hole.found.to.map(Revision::next));
        }
        let uses = self.damaged_uses.values().chain(self.damaged_unnamed.values()).flatten();
        for one in uses.filter(|one| one.timeline == line.id) {
            starts.push(one.from);
            starts.extend(one.to.map(Revision::next));
        }
        starts.retain(|start| run.has(*start));
        starts.sort_unstable();
        starts.dedup();
        let mut spans: Vec<Span> = Vec::new();
        for (at, from) in starts.iter().enumerate() {
            let to = starts.get(at + 1).map_or(run.to, |next| next.before());
            let lacks = self.lack(line, *from);
            match spans.last_mut() {
                Some(before) if before.lacks == lacks => before.to = point(line, to),
                _ => spans.push(Span { from: point(line, *from), to: point(line, to), lacks }),
            }
        }
        spans
    }
}

/// A revision with its time, where the catalogue knows it.
pub(crate) fn point(line: &Timeline, revision: Revision) -> Point {
    let full = line.fulls.values().find(|full| full.taken.revision == revision).map(|full| full.taken.taken_at_ms);
    let piece = line.tail.range(..=revision).next_back().map(|(_, piece)| &piece.segment);
    let tail = piece.and_then(|segment| match revision {
        _ if revision == segment.last => Some(segment.last_at_ms),
        _ if revision == segment.first => Some(segment.first_at_ms),
        _ => None,
    });
    Point { revision, at_ms: tail.or(full) }
}
