//! Short pieces become long ones: the tail's of the same ten minutes, and the index's when there are many.
//!
//! A tail that is cut every second loses at most a second, and leaves 86,400 files a day. What is sealed can't be read back
//! here, so the run keeps the revisions of the current span in memory and stores them once more, as one piece, when the span is
//! over. A run that is killed leaves its last span in short pieces. Pieces that are long by themselves stay as they are.
//!
//! An index of which a piece is damaged is merged, too: into one that was made anew.

use std::time::Instant;

use eyrie_archive::limits::MERGE_SPAN_MS;
use eyrie_archive::record::{Segment as SegmentRecord, TailMerged};
use eyrie_archive::{Catalog, Kind, TimelineId, names};
use tokio::task::JoinHandle;

use super::begin::keys_at_hand;
use super::run::Run;
use super::segment::Segment;
use crate::bucket::Bucket;
use crate::catalog::ArchiveError;
use crate::chance;
use crate::history::Revised;
use crate::limits::{MERGE_RETRY_AFTER, TAIL_LONG_LEN, TAIL_MERGE_LEN};
use crate::objects::rebuild::{self, Rebuilt};
use crate::pack;
use crate::seal::{Identities, Recipients};
use crate::take::BackupError;

/// Recorded pieces of the current span, with what is in them.
#[derive(Default)]
pub(super) struct Recent {
    timeline: TimelineId,
    pieces: Vec<SegmentRecord>,
    revisions: Vec<Revised>,
    /// The hash that the first of them names as the one before.
    previous: [u8; 32],
    len: u64,
}

/// A file that will stand in for others, on its way.
pub(super) struct Merging {
    task: JoinHandle<Result<Merged, BackupError>>,
    timeline: TimelineId,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The outcome of a merge: what is to be said in the catalogue.
pub(super) enum Merged {
    Tail(Kind),
    Index(Box<Rebuilt>),
}

/// What waits to be merged, and what was tried when.
#[derive(Default)]
pub(super) struct Merges {
    recent: Recent,
    under_way: Option<Merging>,
    /// A span that was over while another merge was under way.
    waiting: Vec<Recent>,
    /// A piece of the index is damaged.
    index_wanted: bool,
    failed_at: Option<Instant>,
}

impl Recent {
    fn fits(&self, timeline: TimelineId, next: &SegmentRecord) -> bool {
        let span = |piece: &SegmentRecord| piece.first_at_ms.0.div_euclid(MERGE_SPAN_MS);
        let follows = |last: &SegmentRecord| last.last.next() == next.first && span(last) == span(next);
        let room = self.len + next.plain.len <= TAIL_MERGE_LEN;
        self.pieces.is_empty() || self.timeline == timeline && room && self.pieces.last().is_some_and(follows)
    }

    fn take(&mut self, timeline: TimelineId, piece: SegmentRecord, revisions: Vec<Revised>, previous: [u8; 32]) {
        if self.pieces.is_empty() {
            (self.timeline, self.previous) = (timeline, previous);
        }
        self.len += piece.plain.len;
        self.pieces.push(piece);
        self.revisions.extend(revisions);
    }
}

impl Run<'_> {
    /// A piece of tail was recorded. `previous` is the hash that it names as the one before.
    pub(super) fn remember(&mut self, piece: SegmentRecord, revisions: Vec<Revised>, previous: [u8; 32]) {
        let timeline = self.writer.catalog().current().id;
        let long = piece.plain.len >= TAIL_LONG_LEN;
        if long || !self.merges.recent.fits(timeline, &piece) {
            let over = std::mem::take(&mut self.merges.recent);
            if over.pieces.len() > 1 {
                self.merges.waiting.push(over);
            }
        }
        if !long {
            self.merges.recent.take(timeline, piece, revisions, previous);
        }
    }

    /// A piece of the index was found damaged.
    pub(super) fn mend_index(&mut self) {
        self.merges.index_wanted = true;
        self.merges.failed_at = None;
    }

    /// Begins what is due, one at a time.
    pub(super) fn merge_if_due(&mut self) {
        if self.merges.under_way.is_some() {
            return;
        }
        let (bucket, seal_to) = (self.backup.archive.clone(), self.backup.seal_to.clone());
        let timeline = self.writer.catalog().current().id;
        if let Some(over) = self.merges.waiting.pop() {
            if over.timeline == timeline {
                let task = tokio::spawn(merged_tail(bucket, seal_to, over));
                self.merges.under_way = Some(Merging { task, timeline });
            }
            return;
        }
        let rests = self.merges.failed_at.is_some_and(|at| at.elapsed() < MERGE_RETRY_AFTER);
        if (self.merges.index_wanted || self.writer.catalog().index_merge_due()) && !rests {
            self.merges.index_wanted = false;
            let from = self.backup.milvus.as_ref().map(|milvus| milvus.bucket.clone());
            let keys = keys_at_hand(self.backup);
            let task = tokio::spawn(merged_index(bucket, self.writer.catalog().clone(), from, keys));
            self.merges.under_way = Some(Merging { task, timeline });
        }
    }

    /// Says in the catalogue what the new file stands in for. That a merge failed costs nothing but room.
    pub(super) async fn take_in_merge(&mut self, ended: Result<Merged, BackupError>) -> Result<(), BackupError> {
        let Some(merging) = self.merges.under_way.take() else { return Ok(()) };
        let mut missing = 0;
        let recorded = match ended {
            Ok(Merged::Index(rebuilt)) if rebuilt.is_outdated(self.writer.catalog()) => {
                self.merges.index_wanted = true;
                Ok(())
            }
            Ok(Merged::Index(rebuilt)) => {
                missing = rebuilt.missing();
                rebuilt.record(&mut self.writer, &self.backup.tell).await
            }
            Ok(Merged::Tail(record)) if self.writer.catalog().current().id == merging.timeline => {
                self.writer.append(record).await
            }
            Ok(Merged::Tail(_)) => Ok(()),
            Err(error) => {
                self.merges.failed_at = Some(Instant::now());
                self.backup.tell.warn(format!("short pieces stay as they are for now: {error}"));
                Ok(())
            }
        };
        match recorded {
            // retention was quicker
            Err(ArchiveError::Refused(why)) => self.backup.tell.warn(format!("a merge came too late: {why}")),
            other => other?,
        }
        // the ledger believes that they are mirrored: a run that begins anew sees what is wanted
        if missing > 0 { Err(BackupError::ObjectsMissing(missing)) } else { Ok(()) }
    }
}

/// The merge that is under way, for the loop of the run; for ever when there is none.
pub(super) async fn merged(merges: &mut Merges) -> Result<Merged, BackupError> {
    match &mut merges.under_way {
        Some(merging) => (&mut merging.task).await.map_err(|error| BackupError::Task(error.to_string()))?,
        None => std::future::pending().await,
    }
}

async fn merged_tail(bucket: Bucket, seal_to: Recipients, over: Recent) -> Result<Merged, BackupError> {
    let Recent { timeline, pieces, revisions, previous, .. } = over;
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return Err(BackupError::Task("a span without pieces".into()));
    };
    let bytes = Segment { previous, revisions }.encode();
    let nonce = chance::word(4);
    let name = |wrap| names::tail(timeline, first.first, last.last, &nonce, wrap);
    let packed = pack::bytes(&bucket, &seal_to, name, bytes.into()).await?;
    let segment = SegmentRecord {
        first: first.first,
        last: last.last,
        first_at_ms: first.first_at_ms,
        last_at_ms: last.last_at_ms,
        events: pieces.iter().map(|piece| piece.events).sum(),
        end: last.end,
        followed_as: Some(last.plain.sha256),
        plain: packed.plain,
        stored: packed.stored,
    };
    Ok(Merged::Tail(Kind::TailMerged(TailMerged { segment })))
}

async fn merged_index(
    bucket: Bucket,
    catalog: Catalog,
    from: Option<Bucket>,
    keys: Identities,
) -> Result<Merged, BackupError> {
    let reading = rebuild::read(&bucket, &catalog, from.as_ref(), &keys).await?;
    Ok(Merged::Index(Box::new(reading.merged(&bucket, &catalog).await?)))
}
