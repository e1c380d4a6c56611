//! One segment: handed to Milvus, waited for, counted.
//!
//! Milvus calls an import of nothing completed: a folder that it can't see, or a path of another storage. So the rows
//! that it says it took must be those that the logs hold, less at most as many as were deleted.

use std::ops::RangeInclusive;

use eyrie_api::milvus as pb;
use eyrie_milvus::binlog;
use eyrie_milvus::logical::layout;
use eyrie_milvus::logical::meta::SegmentBackup;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::journal::{Handed, Journal};
use super::plan::Item;
use super::{Origin, Run};
use crate::bucket::CopyCheck;
use crate::limits::{IMPORT_SILENCE_MAX, LOG_LEN_MAX, MILVUS_POLL};
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::milvus::Version;
use crate::logical::sealing;

/// From here on, imports go through REST.
const REST_IMPORTS: Version = Version(2, 4, 0);
/// Of the states of an import, those that are ends.
const FAILED: [i32; 2] = [1, 7];
const COMPLETED: i32 = 6;

/// What Milvus said of an import.
pub(super) struct Imported {
    pub(super) done: bool,
    pub(super) failed: Option<String>,
    pub(super) rows: u64,
    /// Anything that changes while it goes on.
    pub(super) progress: String,
}

impl Run<'_> {
    /// Imports the rows of one segment, unless an earlier run did; how many Milvus took.
    pub(super) async fn import(
        &self,
        item: &Item,
        journal: &Journal,
        partition: &str,
        segment: &SegmentBackup,
    ) -> Result<u64> {
        let size = u64::try_from(segment.size).unwrap_or_default();
        let earlier = journal.segment(segment.segment_id);
        if let Some(rows) = earlier.as_ref().and_then(|handed| handed.rows) {
            self.tell.done(1, size);
            return Ok(rows);
        }
        let expected = self.expected(segment, item).await?;
        let rows = match earlier {
            Some(Handed { task: Some(task), .. }) => self.wait_for(item, journal, &task, segment).await?,
            Some(Handed { task: None, .. }) => return Err(nobody_knows(item, segment)),
            None => {
                let (insert, delta) =
                    (layout::insert_folder(segment, item.grouping), layout::delta_folder(segment, item.grouping));
                self.stage(item, segment).await?;
                let _turn = self.imports.acquire().await;
                let first = layout::logs(segment, item.grouping).into_iter().next();
                let holder = first.and_then(|(key, _)| self.holder(&key));
                let deletes = !segment.deltalogs.is_empty();
                let deltas = if deletes { self.path(item, None, &delta) } else { String::new() };
                let paths = [self.path(item, holder, &insert), deltas];
                self.run_import(item, journal, partition, &paths, segment).await?
            }
        };
        if !expected.contains(&rows) {
            let (least, most) = expected.into_inner();
            let wanted = if least == most { format!("{most}") } else { format!("{least} to {most}") };
            let what = format!("Milvus took {rows} rows of segment {}, whose logs hold {wanted}", segment.segment_id);
            journal.change(|head| head.wrong = Some(what.clone())).await?;
            return Err(Failure::new(
                Kind::Damaged,
                what,
                "check that Milvus can read the place of the backup: the same bucket, or for local storage the same \
                 folder under the same path; then restore again with --drop_exist_collection",
            ));
        }
        journal.hand(segment.segment_id, Handed { task: None, rows: Some(rows) }).await?;
        self.tell.done(1, size);
        Ok(rows)
    }

    /// Imports deletes that stand in no segment of rows (2.4 and newer). To do it twice changes nothing.
    pub(super) async fn import_deletes(
        &self,
        item: &Item,
        journal: &Journal,
        partition: &str,
        segment: &SegmentBackup,
    ) -> Result<()> {
        if self.milvus.version() < REST_IMPORTS {
            let what = format!(
                "segment {} holds deletes for many segments, which this Milvus can't import",
                segment.segment_id
            );
            return Err(Failure::new(Kind::Unsupported, what, "restore into Milvus 2.4 or newer"));
        }
        if journal.segment(segment.segment_id).is_some_and(|handed| handed.rows.is_some()) {
            return Ok(());
        }
        self.stage(item, segment).await?;
        let paths = [self.path(item, None, &layout::delta_folder(segment, item.grouping))];
        self.run_import(item, journal, partition, &paths, segment).await?;
        journal.hand(segment.segment_id, Handed { task: None, rows: Some(0) }).await
    }

    /// Starts an import and waits for its end; how many rows Milvus took.
    pub(super) async fn run_import(
        &self,
        item: &Item,
        journal: &Journal,
        partition: &str,
        paths: &[String],
        segment: &SegmentBackup,
    ) -> Result<u64> {
        journal.hand(segment.segment_id, Handed::default()).await?;
        let begun = match self.milvus.version() >= REST_IMPORTS {
            true => self.start_by_rest(item, partition, paths, segment).await,
            false => self.start(item, partition, paths).await,
        };
        let task = match begun {
            Ok(task) => task,
            Err(failure) => {
                // A no is an answer: nothing was begun. Silence is none.
                if failure.kind != Kind::Unavailable {
                    journal.take_back(segment.segment_id).await?;
                }
                return Err(failure);
            }
        };
        journal.hand(segment.segment_id, Handed { task: Some(task.clone()), rows: None }).await?;
        self.wait_for(item, journal, &task, segment).await
    }

    /// Waits for the end of an import; how many rows Milvus took.
    async fn wait_for(&self, item: &Item, journal: &Journal, task: &str, segment: &SegmentBackup) -> Result<u64> {
        let (mut last, mut since) = (String::new(), Instant::now());
        loop {
            let state = match self.milvus.version() >= REST_IMPORTS {
                true => self.state_by_rest(item, task).await?,
                false => self.state(task).await?,
            };
            if let Some(why) = state.failed {
                journal.take_back(segment.segment_id).await?;
                let what = format!("Milvus could not import segment {}: {why}", segment.segment_id);
                return Err(Failure::new(Kind::Refused, what, "read the reason; the same restore then goes on"));
            }
            if state.done {
                return Ok(state.rows);
            }
            if state.progress != last {
                (last, since) = (state.progress, Instant::now());
            }
            if since.elapsed() > IMPORT_SILENCE_MAX {
                let what = format!("the import of segment {} makes no progress ({last})", segment.segment_id);
                let next = "look at Milvus's data nodes; the same restore then goes on";
                return Err(Failure::new(Kind::Unavailable, what, next));
            }
            tokio::time::sleep(MILVUS_POLL).await;
        }
    }

    async fn start(&self, item: &Item, partition: &str, paths: &[String]) -> Result<String> {
        let request = pb::ImportRequest {
            db_name: item.target.database.clone(),
            collection_name: item.target.name.clone(),
            partition_name: partition.to_owned(),
            files: paths.to_vec(),
            options: vec![pb::KeyValuePair { key: "backup".into(), value: "true".into() }],
            ..pb::ImportRequest::default()
        };
        let tasks = self.milvus.import(request).await?.tasks;
        let none = || Failure::new(Kind::Refused, "Milvus began no import, and did not say why", "look at its log");
        tasks.first().map(ToString::to_string).ok_or_else(none)
    }

    async fn state(&self, task: &str) -> Result<Imported> {
        let state =
            self.milvus.get_import_state(pb::GetImportStateRequest { task: task.parse().unwrap_or_default() }).await?;
        let info = |key: &str| state.infos.iter().find(|pair| pair.key == key).map(|pair| pair.value.clone());
        let failed =
            FAILED.contains(&state.state).then(|| info("failed_reason").unwrap_or_else(|| "no reason given".into()));
        Ok(Imported {
            done: state.state == COMPLETED,
            failed,
            rows: u64::try_from(state.row_count).unwrap_or_default(),
            progress: format!("state {} {}", state.state, info("progress_percent").unwrap_or_default()),
        })
    }

    /// How many rows an import may bring: those in the logs, less at most as many as deletes are there.
    async fn expected(&self, segment: &SegmentBackup, item: &Item) -> Result<RangeInclusive<u64>> {
        let deletes =
            self.count_logs(layout::delta_folder(segment, item.grouping), !segment.deltalogs.is_empty()).await?;
        let rows = match u64::try_from(segment.num_of_rows) {
            Ok(rows) if rows > 0 => rows,
            // Old writers did not count.
            _ => self.count_logs(format!("{}1/", layout::insert_folder(segment, item.grouping)), true).await?,
        };
        Ok(rows.saturating_sub(deletes)..=rows)
    }

    /// Rows in all logs of one folder.
    async fn count_logs(&self, folder: String, any: bool) -> Result<u64> {
        if !any {
            return Ok(0);
        }
        let mut rows = 0;
        let mut listed = self.source.list(&folder);
        while let Some(entry) = listed.try_next().await? {
            let bytes = match &self.keys {
                Some(keys) => sealing::read(&self.source, &entry.key, LOG_LEN_MAX, keys).await?,
                None => self.source.read_max(&entry.key, LOG_LEN_MAX).await?,
            };
            let counted = binlog::Log::read(&bytes).and_then(|log| log.rows());
            rows += counted.map_err(|bad| {
                let what = format!("{} in {}: {bad}", entry.key, self.source);
                Failure::new(Kind::Damaged, what, "verify the backup; restore the other collections with --filter")
            })?;
        }
        Ok(rows)
    }

    /// The backup that holds a log, if it is another one.
    fn holder(&self, key: &str) -> Option<&str> {
        match self.origin {
            Origin::Backup(_, manifest) => manifest?.holder(key),
            Origin::Folders => None,
        }
    }

    /// How Milvus is told the path of a folder of the backup, or of the one that holds it.
    fn path(&self, item: &Item, holder: Option<&str>, folder: &str) -> String {
        let Origin::Backup(name, _) = self.origin else { return folder.to_owned() };
        match self.in_place {
            true => self.settings.backup.for_milvus(&format!("{}/{folder}", holder.unwrap_or(name.as_str()))),
            false => self.settings.storage.for_milvus(&format!("{}/{folder}", self.temporary(item))),
        }
    }

    /// Where copies for Milvus lie in its storage.
    fn temporary(&self, item: &Item) -> String {
        self.journals.get(&item.target).and_then(Journal::head).map(|head| head.temporary).unwrap_or_default()
    }

    /// Copies a segment's logs to where Milvus can read them, if it can't where they lie.
    async fn stage(&self, item: &Item, segment: &SegmentBackup) -> Result<()> {
        if self.in_place {
            return Ok(());
        }
        let temporary = self.temporary(item);
        let copies = futures::stream::iter(layout::logs(segment, item.grouping)).map(|(key, len)| {
            let to = format!("{temporary}/{key}");
            async move {
                let source = match self.holder(&key) {
                    Some(holder) => self.store.bucket().below(holder)?,
                    None => self.source.clone(),
                };
                match &self.keys {
                    Some(keys) => {
                        let sealed = sealing::named(&key);
                        sealing::copy_out(&source, &sealed, &self.storage, &to, len, keys).await?;
                    }
                    None => drop(self.storage.copy_from(&source, &key, &to, CopyCheck::Length).await?),
                }
                Ok::<_, Failure>(())
            }
        });
        copies.buffer_unordered(self.settings.concurrency.copies).try_collect().await
    }

    /// Takes away what was copied for Milvus.
    pub(super) async fn unstage(&self, item: &Item) -> Result<()> {
        let temporary = self.temporary(item);
        if self.in_place || self.settings.keep_temp_files || temporary.is_empty() {
            return Ok(());
        }
        let copies: Vec<_> = self.storage.list(&format!("{temporary}/")).try_collect().await?;
        for entry in copies {
            self.storage.delete(&entry.key).await?;
        }
        Ok(())
    }
}

/// A run was killed just as it handed a segment over.
fn nobody_knows(item: &Item, segment: &SegmentBackup) -> Failure {
    let what = format!(
        "an earlier restore of {} ended while it handed segment {} to Milvus; whether its rows are there is not known",
        item.target, segment.segment_id
    );
    Failure::new(Kind::Exists, what, "restore again with --drop_exist_collection, which begins this collection anew")
}
