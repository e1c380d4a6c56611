//! Fulls: recorded once it is known that they are of the history that is followed.

use std::time::Instant;

use eyrie_archive::Kind;
use eyrie_archive::record::{FullTaken, Source, TimelineBegan};

use super::run::{Joined, Run};
use crate::limits::FULL_RETRY_AFTER;
use crate::take::{BackupError, Full};
use crate::tell::News;

impl Run<'_> {
    pub(super) async fn record_full(&mut self, full: &Full, taken: FullTaken) -> Result<(), BackupError> {
        let (keys, stored_len, revision) = (taken.keys, taken.stored.len, full.spooled.revision);
        self.writer.append(Kind::FullTaken(taken)).await?;
        self.done.fulls.push(revision.0);
        self.full_at = Instant::now();
        for why in &full.agreement.not_compared {
            self.backup.tell.warn(format!("not compared: {why}"));
        }
        let members = full.agreement.same.len();
        self.backup.tell.news(News::FullTaken { revision, keys, stored_len, members });
        Ok(())
    }

    pub(super) async fn begin_timeline(&mut self, source: Source, why: String) -> Result<(), BackupError> {
        self.backup.tell.warn(format!("a new timeline begins: {why}"));
        // what both histories share is known to whoever restored, not here: nothing is claimed
        self.writer.append(Kind::TimelineBegan(TimelineBegan { parent: None, why, source })).await?;
        Ok(())
    }

    pub(super) fn start_full(&mut self) {
        self.full_wanted = false;
        if self.full.is_none() && self.full_stored.is_none() {
            let (backup, timeline) = (self.backup.clone(), self.writer.catalog().current().id);
            self.heard.clear();
            self.full = Some(tokio::spawn(async move {
                let full = backup.read_full().await?;
                let taken = backup.store_full(&full, timeline).await?;
                Ok((full, taken))
            }));
        }
    }

    /// A full beside the running tail: it starts a new chain, and the tail goes on as it was.
    pub(super) fn take_in_full(
        &mut self,
        full: Joined<Result<(Full, FullTaken), BackupError>>,
    ) -> Result<(), BackupError> {
        self.full = None;
        match full.flatten() {
            Ok((full, taken)) => {
                if self.goal.is_some() {
                    self.goal = Some(taken.revision);
                }
                self.full_stored = Some((full, taken));
                Ok(())
            }
            Err(error) if self.goal.is_some() => Err(error),
            Err(error) => {
                self.backup
                    .tell
                    .fail("full", format!("the full is tried again in {} s: {error}", FULL_RETRY_AFTER.as_secs()));
                let every = self.backup.config.tail.full_every().unwrap_or_default();
                self.full_at = (Instant::now() + FULL_RETRY_AFTER).checked_sub(every).unwrap_or_else(Instant::now);
                Ok(())
            }
        }
    }

    /// Between reading a full and hearing its revision, the store may have been replaced: the two must tell the same.
    pub(super) async fn record_stored_full(&mut self) -> Result<(), BackupError> {
        let head = self.writer.catalog().current().tail_head;
        let Some((full, taken)) = self.full_stored.take_if(|(_, taken)| head >= Some(taken.revision)) else {
            return Ok(());
        };
        let heard = self.heard.get(&taken.revision).copied();
        self.heard.clear();
        // compacted up to exactly there, a snapshot may lack deletions of that revision
        let comparable = taken.compact_revision < taken.revision;
        if comparable && full.end.is_some() && heard.is_some_and(|heard| Some(heard) != full.end) {
            self.backup.tell.warn("the full is not of the history that is followed; it is thrown away and taken again");
            self.full_wanted = true;
            return Ok(());
        }
        self.record_full(&full, taken).await
    }
}
