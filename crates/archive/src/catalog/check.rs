//! The rules: what the next record may say. A writer is refused by them, a reader reports by them.

use super::{Catalog, Timeline};
use crate::{
    ids::{Revision, Seq, StoredPath, TimelineId, WriterId},
    limits::NAMED_MAX,
    names,
    record::{Expired, FullTaken, HoleFound, Kind, Record, Segment, Stored, TailRange},
};

/// How a record contradicts the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An opening in the middle, or none at the beginning.
    #[error("an archive is opened by its first record, and by no other")]
    NotTheFirst,
    /// Written by one that had been replaced.
    #[error("{found} wrote it, but the writer then was {writer}")]
    NotTheWriter {
        /// Who wrote it.
        found: WriterId,
        /// Who was to write.
        writer: WriterId,
    },
    /// A take-over that does not follow the one before.
    #[error("the take-over has fence {found}, expected {expected}")]
    WrongFence {
        /// Its fence.
        found: u64,
        /// One more than before.
        expected: u64,
    },
    /// Speaks of a history that is not the current one.
    #[error("it speaks of timeline {found}, but timeline {current} is being written")]
    WrongTimeline {
        /// Its timeline.
        found: TimelineId,
        /// The current one.
        current: TimelineId,
    },
    /// Its pointer to the newest checkpoint is wrong.
    #[error("it does not point at the newest checkpoint")]
    WrongCheckpoint,
    /// History continues later than it ended.
    #[error("revisions {expected} to {} are missing before it", .found.before())]
    Skips {
        /// Where it should have begun.
        expected: Revision,
        /// Where it begins.
        found: Revision,
    },
    /// History continues before it ended.
    #[error("it begins at revision {found}, but everything before {expected} is already there")]
    Overlaps {
        /// Where it should have begun.
        expected: Revision,
        /// Where it begins.
        found: Revision,
    },
    /// A tail that begins nowhere.
    #[error("a tail needs a full snapshot to begin with")]
    NoBase,
    /// An older state than the one before.
    #[error("it has revision {found}, older than {newest} before it: after a restore a new timeline must begin")]
    WentBack {
        /// Its revision.
        found: Revision,
        /// The newest before.
        newest: Revision,
    },
    /// A range that ends before it begins, a count that cannot be.
    #[error("its numbers cannot be: {0}")]
    Absurd(&'static str),
    /// Two members of the source do not hold the same.
    #[error("members {one} and {other} of the source differ at revision {revision}: the snapshot is not to be trusted")]
    MembersDiffer {
        /// A member.
        one: String,
        /// Another.
        other: String,
        /// Where they differ.
        revision: Revision,
    },
    /// A file of that name is already part of the archive.
    #[error("{0} is already named by an earlier record")]
    NamedTwice(StoredPath),
    /// A merged file that does not cover what it replaces.
    #[error("the merged piece {first} to {last} does not cover known pieces exactly")]
    NotACover {
        /// Its first revision.
        first: Revision,
        /// Its last.
        last: Revision,
    },
    /// Speaks of a record that says something else, or is not known.
    #[error("it speaks of record {0}, which is not there or is something else")]
    Unknown(Seq),
    /// More progress than there is history.
    #[error("it claims revision {claimed}, but the archive holds {held} only")]
    BeyondTheEnd {
        /// What it claims.
        claimed: Revision,
        /// What there is.
        held: Revision,
    },
    /// Would leave nothing that is known to be good.
    #[error("it would remove record {full}, which the last verified chain or the newest one begins with")]
    LastChain {
        /// The full.
        full: Seq,
    },
    /// Would cut a chain that must stay.
    #[error("it would remove revisions {first} to {last}, which the last verified chain or the newest one needs")]
    LastChainTail {
        /// First revision.
        first: Revision,
        /// Last revision.
        last: Revision,
    },
    /// Would remove records that no checkpoint holds.
    #[error("it would remove records before {0}, which no checkpoint holds")]
    Unfolded(Seq),
    /// A list that belongs into a file.
    #[error("it names {0} things, more than a record may")]
    TooMany(usize),
}

impl Fault {
    /// Whether the record, although it does not fit, still tells something that can be used.
    pub(super) fn is_usable(&self) -> bool {
        matches!(self, Self::Skips { .. } | Self::NoBase | Self::NotTheWriter { .. } | Self::WrongCheckpoint)
    }
}

impl Catalog {
    /// Whether `record` may follow. Its link to the newest record is the caller's matter.
    pub(super) fn check(&self, record: &Record) -> Result<(), Fault> {
        self.check_frame(record)?;
        let line = self.current();
        match &record.what {
            Kind::Opened(_) => Err(Fault::NotTheFirst),
            Kind::TimelineBegan(began) => match began.parent {
                Some(parent) if !self.timelines.contains_key(&parent.timeline) => {
                    Err(Fault::WrongTimeline { found: parent.timeline, current: self.current })
                }
                _ => Ok(()),
            },
            Kind::WriterTookOver(took) => match self.fence.saturating_add(1) {
                expected if took.fence != expected => Err(Fault::WrongFence { found: took.fence, expected }),
                _ if took.was != self.writer => {
                    Err(Fault::NotTheWriter { found: took.was.clone(), writer: self.writer.clone() })
                }
                _ => Ok(()),
            },
            Kind::FullTaken(full) => self.check_full(line, full),
            Kind::TailCut(cut) => {
                self.check_new(&cut.segment.stored)?;
                check_segment(&cut.segment)?;
                check_follows(line.tail_head, cut.segment.first)?;
                check_mirrored(line, cut.mirrored_to, line.newest_revision().max(Some(cut.segment.last)))
            }
            Kind::TailMerged(merged) => {
                self.check_new(&merged.segment.stored)?;
                check_segment(&merged.segment)?;
                line.covered(merged.segment.first, merged.segment.last).map(drop)
            }
            Kind::GapFound(gap) => match gap.to {
                Some(to) if to < gap.from => Err(Fault::Absurd("the gap ends before it begins")),
                _ => Ok(()),
            },
            Kind::Progress(progress) => {
                let held = line.newest_revision();
                check_held(progress.revision, held)?;
                check_mirrored(line, progress.mirrored_to, held)
            }
            Kind::ObjectsMirrored(mirrored) => {
                self.check_new(&mirrored.piece)?;
                check_mirrored(line, mirrored.mirrored_to, line.newest_revision())
            }
            Kind::IndexMerged(merged) => {
                self.check_new(&merged.piece)?;
                if merged.up_to > self.head.seq { Err(Fault::Unknown(merged.up_to)) } else { Ok(()) }
            }
            Kind::HoleFound(hole) => check_hole(hole),
            Kind::HoleClosed(closed) => match line.holes.get(&closed.hole) {
                Some(hole) if closed.to < hole.found.from => Err(Fault::Absurd("the hole ends before it begins")),
                Some(_) => Ok(()),
                None => Err(Fault::Unknown(closed.hole)),
            },
            Kind::HoleHealed(healed) => line.holes.get(&healed.hole).map(drop).ok_or(Fault::Unknown(healed.hole)),
            Kind::Verified(verified) => {
                if verified.damaged.len() > NAMED_MAX {
                    return Err(Fault::TooMany(verified.damaged.len()));
                }
                if verified.ok && !verified.damaged.is_empty() {
                    return Err(Fault::Absurd("it is well, and something is damaged"));
                }
                self.full(verified.full).map(drop).ok_or(Fault::Unknown(verified.full))
            }
            Kind::Drilled(drilled) => self.full(drilled.full).map(drop).ok_or(Fault::Unknown(drilled.full)),
            Kind::Expired(expired) => self.check_expiry(expired),
            Kind::Swept(swept) => {
                if swept.left.len() > NAMED_MAX {
                    return Err(Fault::TooMany(swept.left.len()));
                }
                self.unswept.get(&swept.expired).map(drop).ok_or(Fault::Unknown(swept.expired))
            }
            Kind::Checkpoint(checkpoint) => {
                let name = names::checkpoint(record.seq);
                if checkpoint.stored.path == name { Ok(()) } else { Err(Fault::Unknown(record.seq)) }
            }
        }
    }

    fn check_frame(&self, record: &Record) -> Result<(), Fault> {
        if !matches!(record.what, Kind::WriterTookOver(_)) && record.writer != self.writer {
            return Err(Fault::NotTheWriter { found: record.writer.clone(), writer: self.writer.clone() });
        }
        let began = matches!(record.what, Kind::TimelineBegan(_));
        let expected = if began { TimelineId(self.current.0.saturating_add(1)) } else { self.current };
        if record.timeline != expected {
            return Err(Fault::WrongTimeline { found: record.timeline, current: self.current });
        }
        if record.checkpoint != self.checkpoint { Err(Fault::WrongCheckpoint) } else { Ok(()) }
    }

    fn check_full(&self, line: &Timeline, full: &FullTaken) -> Result<(), Fault> {
        self.check_new(&full.stored)?;
        if full.revision.0 < 1 || full.compact_revision > full.revision {
            return Err(Fault::Absurd("revisions begin with 1, and a compaction is not ahead of them"));
        }
        if let Some(newest) = line.newest_full().map(|newest| newest.taken.revision)
            && full.revision < newest
        {
            return Err(Fault::WentBack { found: full.revision, newest });
        }
        for (at, one) in full.members.iter().enumerate() {
            let same = |other: &&crate::record::MemberDigest| {
                (other.revision, other.compact_revision) == (one.revision, one.compact_revision)
            };
            if let Some(other) = full.members[at + 1..].iter().filter(same).find(|other| other.hash != one.hash) {
                let (one, other) = (one.member.clone(), other.member.clone());
                return Err(Fault::MembersDiffer { one, other, revision: full.members[at].revision });
            }
        }
        Ok(())
    }

    /// A file that a record names for the first time.
    fn check_new(&self, stored: &Stored) -> Result<(), Fault> {
        if self.names.contains(&stored.path) { Err(Fault::NamedTwice(stored.path.clone())) } else { Ok(()) }
    }

    fn check_expiry(&self, expired: &Expired) -> Result<(), Fault> {
        for seq in &expired.fulls {
            self.full(*seq).ok_or(Fault::Unknown(*seq))?;
        }
        for seq in &expired.superseded {
            self.superseded.get(seq).ok_or(Fault::Unknown(*seq))?;
        }
        for range in &expired.tails {
            let unknown = Fault::WrongTimeline { found: range.timeline, current: self.current };
            self.timelines.get(&range.timeline).ok_or(unknown)?.covered(range.first, range.last)?;
        }
        if let Some(list) = &expired.objects {
            self.check_new(&list.list)?;
        }
        if let Some(before) = expired.records_before
            && !self.checkpoints.iter().any(|(seq, _)| *seq == before)
        {
            return Err(Fault::Unfolded(before));
        }
        self.check_last_chains(expired)
    }

    /// The last verified chain and the newest one stay, whatever a plan says.
    fn check_last_chains(&self, expired: &Expired) -> Result<(), Fault> {
        for (line, full) in self.protected() {
            if expired.fulls.contains(&full.seq) {
                return Err(Fault::LastChain { full: full.seq });
            }
            let goes = |range: &&TailRange, first, last| {
                range.timeline == line.id && range.first <= last && range.last >= first
            };
            for piece in line.chain(full) {
                let (first, last) = (piece.segment.first, piece.segment.last);
                if expired.tails.iter().any(|range| goes(&range, first, last)) {
                    return Err(Fault::LastChainTail { first, last });
                }
            }
        }
        Ok(())
    }

    /// The fulls whose chains are never removed: the last verified, and the newest one.
    pub(crate) fn protected(&self) -> Vec<(&Timeline, &super::Full)> {
        let newest = self.fulls().pop();
        let verified = self.last_verified();
        let mut all: Vec<_> = newest.into_iter().chain(verified).collect();
        all.dedup_by_key(|(_, full)| full.seq);
        all
    }
}

impl Timeline {
    /// The pieces that lie in a range and fill it exactly.
    pub(super) fn covered(&self, first: Revision, last: Revision) -> Result<Vec<&super::TailPiece>, Fault> {
        let fault = Fault::NotACover { first, last };
        if first > last {
            return Err(fault);
        }
        let pieces: Vec<_> = self.tail.range(first..=last).map(|(_, piece)| piece).collect();
        let begins = pieces.first().is_some_and(|piece| piece.segment.first == first);
        let ends = pieces.last().is_some_and(|piece| piece.segment.last == last);
        let fills = pieces.windows(2).all(|two| two[0].segment.last.next() == two[1].segment.first);
        if begins && ends && fills { Ok(pieces) } else { Err(fault) }
    }
}

fn check_segment(segment: &Segment) -> Result<(), Fault> {
    if segment.first.0 < 1 || segment.last < segment.first {
        return Err(Fault::Absurd("a piece of tail ends before it begins"));
    }
    // Every revision has at least one event.
    if i128::from(segment.events) <= i128::from(segment.last.0) - i128::from(segment.first.0) {
        return Err(Fault::Absurd("a piece of tail has fewer events than revisions"));
    }
    Ok(())
}

fn check_follows(head: Option<Revision>, first: Revision) -> Result<(), Fault> {
    let expected = head.ok_or(Fault::NoBase)?.next();
    match first.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Fault::Skips { expected, found: first }),
        std::cmp::Ordering::Less => Err(Fault::Overlaps { expected, found: first }),
    }
}

fn check_held(claimed: Revision, held: Option<Revision>) -> Result<(), Fault> {
    let held = held.unwrap_or_default();
    if claimed > held { Err(Fault::BeyondTheEnd { claimed, held }) } else { Ok(()) }
}

fn check_mirrored(line: &Timeline, mirrored: Option<Revision>, held: Option<Revision>) -> Result<(), Fault> {
    let Some(mirrored) = mirrored else { return Ok(()) };
    match line.mirrored_to {
        Some(before) if mirrored < before => Err(Fault::WentBack { found: mirrored, newest: before }),
        _ => check_held(mirrored, held),
    }
}

fn check_hole(hole: &HoleFound) -> Result<(), Fault> {
    if hole.objects.len() > NAMED_MAX {
        return Err(Fault::TooMany(hole.objects.len()));
    }
    if hole.to.is_some_and(|to| to < hole.from) {
        return Err(Fault::Absurd("the hole ends before it begins"));
    }
    if hole.count < hole.objects.len() as u64 || hole.count == 0 {
        return Err(Fault::Absurd("the hole names more objects than it has, or none"));
    }
    Ok(())
}
