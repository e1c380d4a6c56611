//! What a record changes. Total: a record that was found faulty and is used all the same changes what it can.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Catalog, Full, Gap, Hole, OldRecords, Past, Piece, Seen, Superseded, TailPiece, Timeline, Unswept, VerifiedMark,
};
use crate::{
    ids::{LivedMillis, Revision, Seq, StoredPath, TimelineId, UnixMillis},
    index::Use,
    limits::{NAMED_MAX, REMEMBERED_MAX},
    names::{CATALOG, CHECKPOINT, OBJECTS},
    record::{Depth, Drilled, Expired, IndexMerged, Kind, Link, Record, Segment, Source, Stored, Swept, Verified},
};

impl Catalog {
    /// The state after the first record.
    pub(super) fn opened(record: &Record, link: Link) -> Option<Self> {
        let Kind::Opened(opened) = &record.what else { return None };
        if record.seq != Seq::FIRST || record.timeline != TimelineId(1) || record.prev.is_some() {
            return None;
        }
        let first = Timeline::begun(TimelineId(1), record.at_ms, opened.source.clone());
        Some(Self {
            archive: record.archive.clone(),
            head: link,
            head_at_ms: record.at_ms,
            lived: LivedMillis(0),
            checkpoint: None,
            checkpoints: Vec::new(),
            records_from: Seq::FIRST,
            opened_at_ms: record.at_ms,
            writer: record.writer.clone(),
            fence: 1,
            sealed_to: opened.sealed_to.clone(),
            current: first.id,
            timelines: BTreeMap::from([(first.id, first)]),
            pieces: BTreeMap::new(),
            superseded: BTreeMap::new(),
            unswept: BTreeMap::new(),
            damaged: BTreeMap::new(),
            damaged_uses: BTreeMap::new(),
            damaged_unnamed: BTreeMap::new(),
            verifications: Vec::new(),
            drills: Vec::new(),
            names: BTreeSet::new(),
        })
    }

    /// Takes the next record into account.
    pub(super) fn fold(&mut self, record: &Record, link: Link) {
        self.lived = self.lived_at(record.at_ms);
        self.head = link;
        self.head_at_ms = record.at_ms;
        let (seq, at_ms, lived) = (record.seq, record.at_ms, self.lived);
        match &record.what {
            Kind::Opened(_) => {}
            Kind::TimelineBegan(began) => {
                let mut line = Timeline::begun(record.timeline, at_ms, began.source.clone());
                line.parent = began.parent;
                line.why = began.why.clone();
                self.current = line.id;
                self.timelines.insert(line.id, line);
            }
            Kind::WriterTookOver(took) => {
                self.writer = record.writer.clone();
                self.fence = took.fence;
                self.sealed_to = took.sealed_to.clone();
            }
            Kind::FullTaken(full) => {
                self.names.insert(full.stored.path.clone());
                self.line().take(Full { seq, taken: full.clone(), lived, verified: None });
            }
            Kind::TailCut(cut) => {
                self.names.insert(cut.segment.stored.path.clone());
                let line = self.line();
                line.cut(TailPiece { seq, segment: cut.segment.clone(), lived });
                line.mirrored(cut.mirrored_to);
            }
            Kind::TailMerged(merged) => self.merge_tail(seq, &merged.segment),
            Kind::GapFound(gap) => {
                let line = self.line();
                line.tail_head = None;
                line.gaps.push(Gap { found: gap.clone(), at_ms });
            }
            Kind::Progress(progress) => {
                let line = self.line();
                line.seen = Some(Seen { revision: progress.revision, at_ms });
                line.mirrored(progress.mirrored_to);
            }
            Kind::ObjectsMirrored(mirrored) => {
                self.names.insert(mirrored.piece.path.clone());
                let (objects, bytes, stored_bytes) = (mirrored.objects, mirrored.bytes, mirrored.stored_bytes);
                let stored = mirrored.piece.clone();
                self.pieces.insert(seq, Piece { stored, removes: false, objects, bytes, stored_bytes });
                for path in &mirrored.repaired {
                    self.found_well(path);
                }
                self.line().mirrored(mirrored.mirrored_to);
            }
            Kind::IndexMerged(merged) => self.merge_index(seq, merged),
            Kind::HoleFound(hole) => {
                self.line().holes.insert(seq, Hole { found: hole.clone(), at_ms });
            }
            Kind::HoleClosed(closed) => {
                if let Some(hole) = self.line().holes.get_mut(&closed.hole) {
                    hole.found.to = Some(closed.to);
                }
            }
            Kind::HoleHealed(healed) => {
                self.line().holes.remove(&healed.hole);
            }
            Kind::Verified(verified) => self.verified(seq, at_ms, verified),
            Kind::Drilled(drilled) => self.drilled(seq, at_ms, drilled),
            Kind::Expired(expired) => self.expire(seq, expired),
            Kind::Swept(swept) => self.swept(swept),
            Kind::Checkpoint(_) => {
                self.checkpoint = Some(link);
                self.checkpoints.push((seq, lived));
            }
        }
    }

    /// Goes on behind records that are lost: whoever wrote this one was the writer, on the timeline that it says.
    pub(super) fn adopt(&mut self, record: &Record) {
        if let Kind::WriterTookOver(took) = &record.what {
            self.fence = took.fence.saturating_sub(1);
            self.writer = took.was.clone();
        } else {
            self.writer = record.writer.clone();
        }
        self.checkpoint = record.checkpoint;
        let began = u32::from(matches!(record.what, Kind::TimelineBegan(_)));
        let before = TimelineId(record.timeline.0.saturating_sub(began).max(1));
        if !self.timelines.contains_key(&before) {
            let source = self.current().source.clone();
            let mut line = Timeline::begun(before, record.at_ms, source);
            line.why = "its beginning is lost".into();
            self.timelines.insert(before, line);
        }
        self.current = before;
    }

    /// Finds the names in use again, after a state was read from a checkpoint.
    pub(super) fn collect_names(&mut self) {
        let mut names: BTreeSet<StoredPath> = BTreeSet::new();
        for line in self.timelines.values() {
            names.extend(line.fulls.values().map(|full| full.taken.stored.path.clone()));
            names.extend(line.tail.values().map(|piece| piece.segment.stored.path.clone()));
        }
        names.extend(self.pieces.values().map(|piece| piece.stored.path.clone()));
        names.extend(self.superseded.values().flat_map(|old| &old.files).map(|stored| stored.path.clone()));
        let unswept = self.unswept.values().flat_map(|rest| rest.files.iter().chain(&rest.objects));
        names.extend(unswept.map(|stored| stored.path.clone()));
        self.names = names;
    }

    fn line(&mut self) -> &mut Timeline {
        self.timelines.get_mut(&self.current).expect("the current timeline always exists")
    }

    fn merge_tail(&mut self, seq: Seq, segment: &Segment) {
        let line = self.line();
        let Ok(pieces) = line.covered(segment.first, segment.last) else { return };
        // As old as the newest part: none of it may age faster by being merged.
        let lived = pieces.iter().map(|piece| piece.lived).max().unwrap_or_default();
        let firsts: Vec<Revision> = pieces.iter().map(|piece| piece.segment.first).collect();
        let files = firsts.iter().filter_map(|first| line.tail.remove(first)).map(|piece| piece.segment.stored);
        let files: Vec<Stored> = files.collect();
        line.tail.insert(segment.first, TailPiece { seq, segment: segment.clone(), lived });
        self.names.insert(segment.stored.path.clone());
        self.supersede(seq, files);
    }

    fn merge_index(&mut self, seq: Seq, merged: &IndexMerged) {
        let later = self.pieces.split_off(&merged.up_to.next());
        let before = std::mem::replace(&mut self.pieces, later);
        self.supersede(seq, before.into_values().map(|piece| piece.stored).collect());
        let (objects, bytes, stored_bytes) = (merged.objects, merged.bytes, merged.stored_bytes);
        let piece = Piece { stored: merged.piece.clone(), removes: false, objects, bytes, stored_bytes };
        self.names.insert(merged.piece.path.clone());
        self.pieces.insert(merged.up_to, piece);
    }

    fn supersede(&mut self, seq: Seq, files: Vec<Stored>) {
        for file in &files {
            self.damaged.remove(&file.path);
        }
        if !files.is_empty() {
            self.superseded.insert(seq, Superseded { files, lived: self.lived });
        }
    }

    fn verified(&mut self, seq: Seq, at_ms: UnixMillis, verified: &Verified) {
        if verified.depth >= Depth::Sample && verified.damaged.len() < NAMED_MAX {
            let pieces: Vec<StoredPath> = self.pieces.values().map(|piece| piece.stored.path.clone()).collect();
            for path in self.chain_files(verified.full, verified.up_to).iter().chain(&pieces) {
                self.damaged.remove(path);
            }
        }
        if verified.depth == Depth::Data {
            self.forget_damaged_objects(verified);
        }
        for file in &verified.damaged {
            self.damaged.insert(file.path.clone(), file.what.clone());
            if !file.uses.is_empty() {
                self.damaged_uses.insert(file.path.clone(), file.uses.clone());
            }
        }
        if !verified.unnamed.is_empty() {
            self.damaged_unnamed.insert(verified.full, verified.unnamed.clone());
        }
        let mark = VerifiedMark { at_ms, depth: verified.depth, up_to: verified.up_to };
        if let Some(full) = self.full_mut(verified.full) {
            match (verified.ok, verified.depth >= Depth::Sample) {
                (true, true) => full.verified = Some(mark),
                (true, false) => {}
                (false, _) => full.verified = None,
            }
        }
        remember(&mut self.verifications, Past { seq, at_ms, what: verified.clone() });
    }

    /// Every byte of a chain was read: what was said of its objects before is said anew. A look that is less deep only adds.
    fn forget_damaged_objects(&mut self, verified: &Verified) {
        self.damaged_unnamed.remove(&verified.full);
        let Some((line, full)) = self.full(verified.full) else { return };
        let (line, from) = (line.id, full.taken.revision);
        let of_chain = |uses: &Vec<Use>| uses.iter().any(|one| one.meets(line, from, verified.up_to));
        let known = self.damaged_uses.iter().filter(|(_, uses)| of_chain(uses));
        let known: Vec<StoredPath> = known.map(|(path, _)| path.clone()).collect();
        known.iter().for_each(|path| self.found_well(path));
    }

    fn found_well(&mut self, object: &StoredPath) {
        self.damaged.remove(object);
        self.damaged_uses.remove(object);
    }

    fn drilled(&mut self, seq: Seq, at_ms: UnixMillis, drilled: &Drilled) {
        if drilled.ok {
            let mark = VerifiedMark { at_ms, depth: Depth::Sample, up_to: drilled.revision };
            if let Some(full) = self.full_mut(drilled.full) {
                full.verified = Some(mark);
            }
        }
        remember(&mut self.drills, Past { seq, at_ms, what: drilled.clone() });
    }

    fn chain_files(&self, full: Seq, up_to: Revision) -> Vec<StoredPath> {
        let Some((line, full)) = self.full(full) else { return Vec::new() };
        let tail = line.chain(full).take_while(|piece| piece.segment.first <= up_to);
        let tail = tail.map(|piece| piece.segment.stored.path.clone());
        std::iter::once(full.taken.stored.path.clone()).chain(tail).collect()
    }

    fn full_mut(&mut self, seq: Seq) -> Option<&mut Full> {
        self.timelines.values_mut().find_map(|line| line.fulls.get_mut(&seq))
    }

    pub(crate) fn expire(&mut self, seq: Seq, expired: &Expired) {
        let mut files: Vec<Stored> = Vec::new();
        for line in self.timelines.values_mut() {
            for full in &expired.fulls {
                files.extend(line.fulls.remove(full).map(|full| full.taken.stored));
            }
            let id = line.id;
            for range in expired.tails.iter().filter(|range| range.timeline == id) {
                files.extend(line.drop_tail(range.first, range.last));
            }
            line.forget_gaps();
        }
        for old in &expired.superseded {
            files.extend(self.superseded.remove(old).into_iter().flat_map(|old| old.files));
        }
        for file in &files {
            self.damaged.remove(&file.path);
        }
        self.forget_unneeded_objects(expired);
        if let Some(removed) = &expired.objects {
            self.names.insert(removed.list.path.clone());
            let (objects, bytes, stored_bytes) = (removed.objects, removed.bytes, removed.stored_bytes);
            let stored = removed.list.clone();
            self.pieces.insert(seq, Piece { stored, removes: true, objects, bytes, stored_bytes });
        }
        let records = expired.records_before.map(|before| {
            let gone = self.checkpoints.iter().map(|(seq, _)| *seq).filter(|seq| *seq < before).collect();
            self.checkpoints.retain(|(seq, _)| *seq >= before);
            let from = self.records_from;
            self.records_from = from.max(before);
            OldRecords { from, before, checkpoints: gone }
        });
        let objects = expired.objects.as_ref().map(|removed| removed.list.clone());
        self.unswept.insert(seq, Unswept { files, objects, records });
    }

    /// Damaged objects that no kept revision needs are no one's concern any more.
    fn forget_unneeded_objects(&mut self, expired: &Expired) {
        expired.fulls.iter().for_each(|full| drop(self.damaged_unnamed.remove(full)));
        let oldest = |line: &Timeline| line.fulls.values().map(|full| full.taken.revision).min();
        let oldest: BTreeMap<TimelineId, Revision> =
            self.timelines.values().filter_map(|line| Some((line.id, oldest(line)?))).collect();
        let needed = |one: &Use| oldest.get(&one.timeline).is_some_and(|oldest| one.to.is_none_or(|to| to >= *oldest));
        let unneeded = self.damaged_uses.iter().filter(|(_, uses)| !uses.iter().any(needed));
        let unneeded: Vec<StoredPath> = unneeded.map(|(path, _)| path.clone()).collect();
        unneeded.iter().for_each(|path| self.found_well(path));
    }

    /// Forgets what is deleted. The list of removed objects stays as long as one of them is left.
    fn swept(&mut self, swept: &Swept) {
        let Some(mut rest) = self.unswept.remove(&swept.expired) else { return };
        let left: BTreeSet<&StoredPath> = swept.left.iter().map(|left| &left.stored.path).collect();
        let gone = |file: &Stored| !left.contains(&file.path);
        for file in rest.files.iter().filter(|file| gone(file)) {
            self.names.remove(&file.path);
        }
        rest.files.retain(|file| !gone(file));
        // Records and checkpoints that could not be deleted are files like any other from now on.
        let own = |path: &StoredPath| path.as_str().starts_with(CATALOG) || path.as_str().starts_with(CHECKPOINT);
        let own = swept.left.iter().map(|left| &left.stored).filter(|stored| own(&stored.path));
        let own: Vec<Stored> = own.filter(|stored| !rest.files.contains(stored)).cloned().collect();
        rest.files.extend(own);
        rest.records = None;
        if !left.iter().any(|path| path.as_str().starts_with(OBJECTS)) {
            rest.objects = None;
        }
        if !rest.files.is_empty() || rest.objects.is_some() {
            self.unswept.insert(swept.expired, rest);
        }
    }
}

impl Timeline {
    fn begun(id: TimelineId, at_ms: UnixMillis, source: Source) -> Self {
        Self {
            id,
            began_at_ms: at_ms,
            parent: None,
            why: String::new(),
            source,
            fulls: BTreeMap::new(),
            tail: BTreeMap::new(),
            tail_head: None,
            gaps: Vec::new(),
            holes: BTreeMap::new(),
            mirrored_to: None,
            seen: None,
            expired_to: None,
        }
    }

    fn take(&mut self, full: Full) {
        if self.tail_head.is_none() {
            // Behind a gap the tail goes on after the full, unless the archive had come further than that.
            let tail = self.tail.values().next_back().map(|piece| piece.segment.last);
            self.tail_head = tail.max(Some(full.taken.revision));
        }
        self.seen_at(full.taken.revision, full.taken.taken_at_ms);
        self.fulls.insert(full.seq, full);
    }

    fn cut(&mut self, piece: TailPiece) {
        self.tail_head = Some(piece.segment.last);
        self.seen_at(piece.segment.last, piece.segment.last_at_ms);
        self.tail.insert(piece.segment.first, piece);
    }

    fn seen_at(&mut self, revision: Revision, at_ms: UnixMillis) {
        if self.seen.is_none_or(|seen| seen.revision <= revision) {
            self.seen = Some(Seen { revision, at_ms });
        }
    }

    fn mirrored(&mut self, to: Option<Revision>) {
        self.mirrored_to = self.mirrored_to.max(to);
    }

    fn drop_tail(&mut self, first: Revision, last: Revision) -> Vec<Stored> {
        if first > last {
            return Vec::new();
        }
        let inside = self.tail.range(first..=last).filter(|(_, piece)| piece.segment.last <= last);
        let firsts: Vec<Revision> = inside.map(|(first, _)| *first).collect();
        self.expired_to = self.expired_to.max(Some(last));
        firsts.iter().filter_map(|first| self.tail.remove(first)).map(|piece| piece.segment.stored).collect()
    }

    /// Gaps and holes before everything that is left are no one's concern any more.
    fn forget_gaps(&mut self) {
        let full = self.fulls.values().map(|full| full.taken.revision).min();
        let Some(oldest) = full else { return };
        self.gaps.retain(|gap| gap.found.to.is_none_or(|to| to >= oldest));
        self.holes.retain(|_, hole| hole.found.to.is_none_or(|to| to >= oldest));
    }
}

fn remember<T>(past: &mut Vec<Past<T>>, one: Past<T>) {
    if past.len() >= REMEMBERED_MAX {
        past.remove(0);
    }
    past.push(one);
}
