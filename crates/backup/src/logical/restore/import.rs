//! One segment: handed to Milvus, waited for, counted.
//!
//! Milvus calls an import of nothing completed: a folder that it can't see, or a path of another storage. So the rows
//! that it says it took must be those that the logs hold, less those that were deleted.

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::layout;
use eyrie_milvus::logical::meta::SegmentBackup;
use tokio::time::Instant;

use super::journal::{Handed, Journal};
use super::plan::Item;
use super::share::Share;
use super::{Origin, Run};
use crate::limits::{IMPORT_SILENCE_MAX, MILVUS_POLL};
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::milvus::{Milvus, Version};

/// From here on, imports go through REST, and deletes know their times.
pub(super) const REST_IMPORTS: Version = Version(2, 4, 0);
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
        let share = self.share(item, segment).await?;
        let expected = share.rows();
        let rows = match earlier {
            Some(Handed { task: Some(task), .. }) => self.wait_for(item, journal, &task, segment).await?,
            Some(Handed { task: None, .. }) => return Err(nobody_knows(item, segment)),
            // Nothing of it is alive: there is nothing to hand over.
            None if expected == (0..=0) => 0,
            None => {
                let paths = match &share {
                    Share::Anew(living) => self.written_anew(item, segment, living).await?,
                    Share::AsItIs(_) | Share::About(_) => self.as_it_is(item, segment).await?,
                };
                let _turn = self.imports.acquire().await;
                self.run_import(item, journal, partition, &paths, segment).await?
            }
        };
        if !expected.contains(&rows) {
            let (least, most) = expected.into_inner();
            let wanted = if least == most { format!("{most}") } else { format!("{least} to {most}") };
            let what = format!("Milvus took {rows} rows of segment {} instead of {wanted}", segment.segment_id);
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
                return Err(Failure::new(Kind::Refused, what, self.then("read the reason")));
            }
            if state.done {
                return Ok(state.rows);
            }
            if state.progress != last {
                (last, since) = (state.progress, Instant::now());
            }
            if since.elapsed() > IMPORT_SILENCE_MAX {
                let what = format!("the import of segment {} makes no progress ({last})", segment.segment_id);
                return Err(Failure::new(Kind::Unavailable, what, self.then("look at Milvus's data nodes")));
            }
            tokio::time::sleep(MILVUS_POLL).await;
        }
    }

    /// What to do after a failure: a restore of a backup goes on, rows that come from no backup do not.
    pub(super) fn then(&self, first: &str) -> String {
        match self.origin {
            Origin::Backup(..) => format!("{first}; the same restore then goes on"),
            Origin::Folders => first.to_owned(),
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
}

/// Refuses deletes that stand in no segment of rows, where Milvus is too old to know such.
pub(super) fn deletes_can_be(milvus: &Milvus, items: &[Item]) -> Result<()> {
    let mut l0 = items.iter().flat_map(|item| item.l0_segments().map(move |(_, segment)| (item, segment)));
    match l0.next() {
        Some((item, segment)) if milvus.version() < REST_IMPORTS => {
            let (id, source, version) = (segment.segment_id, &item.source, milvus.version_text());
            let what = format!(
                "segment {id} of {source} holds deletes for many segments, which Milvus {version} can't import; nothing was changed"
            );
            let next = "restore into Milvus 2.4 or newer, or the other collections with --filter";
            Err(Failure::new(Kind::Unsupported, what, next))
        }
        _ => Ok(()),
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
