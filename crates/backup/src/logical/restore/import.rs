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

use super::plan::Item;
use super::{Origin, Run};
use crate::bucket::CopyCheck;
use crate::limits::{IMPORT_SILENCE_MAX, LOG_LEN_MAX, MILVUS_POLL};
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::milvus::Version;

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
    /// Imports the rows of one segment; how many Milvus took.
    pub(super) async fn import(&self, item: &Item, partition: &str, segment: &SegmentBackup) -> Result<u64> {
        let expected = self.expected(segment, item).await?;
        let (insert, delta) =
            (layout::insert_folder(segment, item.grouping), layout::delta_folder(segment, item.grouping));
        let deletes = !segment.deltalogs.is_empty();
        let staged = self.stage(item, segment).await?;
        let _turn = self.imports.acquire().await;
        let first = layout::logs(segment, item.grouping).into_iter().next();
        let holder = first.and_then(|(key, _)| self.holder(&key));
        let deltas = if deletes { self.path(item, None, &delta) } else { String::new() };
        let paths = [self.path(item, holder, &insert), deltas];
        let rows = self.run_import(item, partition, &paths, segment).await?;
        if !expected.contains(&rows) {
            let (least, most) = expected.into_inner();
            let wanted = if least == most { format!("{most}") } else { format!("{least} to {most}") };
            return Err(Failure::new(
                Kind::Damaged,
                format!("Milvus took {rows} rows of segment {}, whose logs hold {wanted}", segment.segment_id),
                "check that Milvus can read the place of the backup: the same bucket, or for local storage the same \
                 folder under the same path; then drop the collection and restore again",
            ));
        }
        self.unstage(staged).await?;
        self.tell.done(1, u64::try_from(segment.size).unwrap_or_default());
        Ok(rows)
    }

    /// Imports deletes that stand in no segment of rows (2.4 and newer).
    pub(super) async fn import_deletes(&self, item: &Item, partition: &str, segment: &SegmentBackup) -> Result<()> {
        if self.milvus.version() < REST_IMPORTS {
            let what = format!(
                "segment {} holds deletes for many segments, which this Milvus can't import",
                segment.segment_id
            );
            return Err(Failure::new(Kind::Unsupported, what, "restore into Milvus 2.4 or newer"));
        }
        let staged = self.stage(item, segment).await?;
        let paths = [self.path(item, None, &layout::delta_folder(segment, item.grouping))];
        self.run_import(item, partition, &paths, segment).await?;
        self.unstage(staged).await
    }

    /// Starts an import and waits for its end; how many rows Milvus took.
    pub(super) async fn run_import(
        &self,
        item: &Item,
        partition: &str,
        paths: &[String],
        segment: &SegmentBackup,
    ) -> Result<u64> {
        let rest = self.milvus.version() >= REST_IMPORTS;
        let task = match rest {
            true => self.start_by_rest(item, partition, paths, segment).await?,
            false => self.start(item, partition, paths).await?,
        };
        let (mut last, mut since) = (String::new(), Instant::now());
        loop {
            let state = match rest {
                true => self.state_by_rest(item, &task).await?,
                false => self.state(&task).await?,
            };
            if let Some(why) = state.failed {
                let what = format!("Milvus could not import segment {}: {why}", segment.segment_id);
                return Err(Failure::new(
                    Kind::Refused,
                    what,
                    "read the reason; then drop the collection and restore again",
                ));
            }
            if state.done {
                return Ok(state.rows);
            }
            if state.progress != last {
                (last, since) = (state.progress, Instant::now());
            }
            if since.elapsed() > IMPORT_SILENCE_MAX {
                let what = format!("the import of segment {} makes no progress ({last})", segment.segment_id);
                return Err(Failure::new(Kind::Unavailable, what, "look at Milvus's data nodes, then restore again"));
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
            let bytes = self.source.read_max(&entry.key, LOG_LEN_MAX).await?;
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

    fn temporary(&self, item: &Item) -> String {
        format!("{}-{}-{}", self.task, item.target.database, item.target.name)
    }

    /// Copies a segment's logs to where Milvus can read them, if it can't where they lie; what was copied.
    async fn stage(&self, item: &Item, segment: &SegmentBackup) -> Result<Vec<String>> {
        if self.in_place {
            return Ok(Vec::new());
        }
        let temporary = self.temporary(item);
        let copies = futures::stream::iter(layout::logs(segment, item.grouping)).map(|(key, _)| {
            let to = format!("{temporary}/{key}");
            async move {
                let source = match self.holder(&key) {
                    Some(holder) => self.store.bucket().below(holder)?,
                    None => self.source.clone(),
                };
                self.storage.copy_from(&source, &key, &to, CopyCheck::Length).await?;
                Ok::<_, Failure>(to)
            }
        });
        copies.buffer_unordered(self.settings.concurrency.copies).try_collect().await
    }

    async fn unstage(&self, staged: Vec<String>) -> Result<()> {
        if self.settings.keep_temp_files {
            return Ok(());
        }
        for key in staged {
            self.storage.delete(&key).await?;
        }
        Ok(())
    }
}
