//! Pieces of tail: cut, stored beside the run, recorded when they are durable. One at a time, so that they stay in order.

use eyrie_archive::record::{Segment as SegmentRecord, TailCut};
use eyrie_archive::{Kind, Revision, UnixMillis, names};
use tokio::task::JoinHandle;

use super::run::{Joined, Run};
use super::segment::Segment;
use crate::catalog::sha;
use crate::chance;
use crate::history::{Revised, TimeMs};
use crate::pack::{self, Packed};
use crate::source;
use crate::take::BackupError;
use crate::tell::News;

/// A piece on its way into the bucket.
pub(super) struct Storing {
    pub(super) task: JoinHandle<Result<Packed, pack::PackError>>,
    first: Revision,
    last: Revision,
    first_at: TimeMs,
    last_at: TimeMs,
    events: u64,
    end: [u8; 32],
    revisions: Vec<Revised>,
    previous: [u8; 32],
}

impl Run<'_> {
    pub(super) fn store_piece(&mut self) {
        let revisions = self.cutter.cut();
        let (Some(first), Some(last)) = (revisions.first(), revisions.last()) else { return };
        let (first_revision, last_revision) = (Revision(first.revision.0), Revision(last.revision.0));
        let (first_at, last_at, end) = (first.heard_at, last.heard_at, source::digest(last));
        let events = revisions.iter().map(|revised| revised.events.len() as u64).sum();
        let (kept, previous) = (revisions.clone(), self.previous);
        let bytes = Segment { previous, revisions }.encode();
        let (bucket, seal_to) = (self.backup.archive.clone(), self.backup.seal_to.clone());
        let (timeline, nonce) = (self.writer.catalog().current().id, chance::word(4));
        let task = tokio::spawn(async move {
            let name = |wrap| names::tail(timeline, first_revision, last_revision, &nonce, wrap);
            pack::bytes(&bucket, &seal_to, name, bytes.into()).await
        });
        self.storing = Some(Storing {
            task,
            first: first_revision,
            last: last_revision,
            first_at,
            last_at,
            events,
            end,
            revisions: kept,
            previous,
        });
    }

    pub(super) async fn record_piece(
        &mut self,
        stored: Joined<Result<Packed, pack::PackError>>,
    ) -> Result<(), BackupError> {
        let Some(piece) = self.storing.take() else { return Ok(()) };
        let Packed { plain, stored } = stored??;
        let stored_len = stored.len;
        let Storing { first, last, first_at, last_at, events, revisions, previous, .. } = piece;
        let segment = SegmentRecord {
            first,
            last,
            first_at_ms: millis(first_at),
            last_at_ms: millis(last_at),
            events,
            end: Some(sha(piece.end)),
            followed_as: None,
            plain,
            stored,
        };
        let recorded = segment.clone();
        let mirrored_to = self.mirror.as_ref().and_then(|mirror| mirror.mirrored_to(self.writer.catalog(), Some(last)));
        self.writer.append(Kind::TailCut(TailCut { segment, mirrored_to })).await?;
        self.remember(recorded, revisions, previous);
        self.previous = plain.sha256.0;
        self.done.pieces += 1;
        self.done.events += events;
        let lag_ms = TimeMs::now().0.saturating_sub(first_at.0);
        let (first, last) = (eyrie_state::Revision(first.0), eyrie_state::Revision(last.0));
        self.backup.tell.news(News::TailCut { first, last, events, lag_ms, stored_len });
        self.tell_recoverable();
        Ok(())
    }
}

fn millis(at: TimeMs) -> UnixMillis {
    UnixMillis(i64::try_from(at.0).unwrap_or(i64::MAX))
}
