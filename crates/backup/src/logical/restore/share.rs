//! What of a segment is to come back, and the logs that bring it.
//!
//! ```text
//! no deletes                         all rows: the logs as they are
//! deletes, and no key written again  the rows that no delete hits: the logs as they are, with those of deletes
//! a key was written again            the same rows; before 2.4 as new logs without deletes, since that Milvus leaves out
//!                                    every row whose key was ever deleted
//! ```
//!
//! So it is known before an import how many rows it has to bring, to the row; only where logs are of a form that is not read
//! here, deletes make it a range.

use std::ops::RangeInclusive;

use bytes::Bytes;
use eyrie_milvus::binlog::{self, BadLog, Parquet};
use eyrie_milvus::ids::FieldId;
use eyrie_milvus::logical::meta::SegmentBackup;
use eyrie_milvus::logical::{Deletes, Living, layout};
use futures::{StreamExt, TryStreamExt};

use super::import::REST_IMPORTS;
use super::plan::Item;
use super::{Origin, Run};
use crate::bucket::{Bucket, CopyCheck};
use crate::limits::LOG_LEN_MAX;
use crate::logical::codec::inflate;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::sealing;

/// The hidden field of times.
const TIMES: FieldId = FieldId(1);
/// How a log begins that is Parquet and nothing else, as newer storage versions write them.
const PARQUET: &[u8] = b"PAR1";

/// What of a segment is to come back.
pub(super) enum Share {
    /// So many rows, when Milvus is given the logs as they are.
    AsItIs(u64),
    /// These rows alone, as new logs.
    Anew(Living),
    /// Deletes are there that can't be read one by one.
    About(RangeInclusive<u64>),
}

impl Share {
    /// How many rows an import may bring.
    pub(super) fn rows(&self) -> RangeInclusive<u64> {
        match self {
            Share::AsItIs(rows) => *rows..=*rows,
            Share::Anew(living) => living.alive..=living.alive,
            Share::About(rows) => rows.clone(),
        }
    }
}

impl Run<'_> {
    /// Reads what the deletes of a segment leave of it.
    pub(super) async fn share(&self, item: &Item, segment: &SegmentBackup) -> Result<Share> {
        let deltas = layout::delta_logs(segment, item.grouping);
        let told = u64::try_from(segment.num_of_rows).ok().filter(|rows| *rows > 0);
        if deltas.is_empty() {
            return Ok(Share::AsItIs(match told {
                Some(rows) => rows,
                // Old writers did not count.
                None => self.count_logs(&self.any_logs(item, segment)).await?,
            }));
        }
        let _turn = self.reading.acquire().await;
        let deleted = self.count_logs(&deltas).await?;
        let living = match self.living(item, segment, &deltas).await? {
            Ok(living) => living,
            Err(why) => {
                let all = match told {
                    Some(rows) => rows,
                    None => self.count_logs(&self.any_logs(item, segment)).await?,
                };
                self.tell.warn(format!(
                    "{}: how many rows of segment {} were deleted is not known exactly ({why}): what Milvus takes of it is \
                     compared with {} to {all}",
                    item.target,
                    segment.segment_id,
                    all.saturating_sub(deleted)
                ));
                return Ok(Share::About(all.saturating_sub(deleted)..=all));
            }
        };
        if told.is_some_and(|rows| rows != living.all()) {
            let (id, found) = (segment.segment_id, living.all());
            let what =
                format!("the logs of segment {id} hold {found} rows, and the backup says {}", segment.num_of_rows);
            return Err(Failure::new(Kind::Damaged, what, NEXT));
        }
        Ok(match living.again > 0 && self.milvus.version() < REST_IMPORTS {
            true => Share::Anew(living),
            false => Share::AsItIs(living.alive),
        })
    }

    /// Which rows are alive; or why that can't be known.
    async fn living(
        &self,
        item: &Item,
        segment: &SegmentBackup,
        deltas: &[String],
    ) -> Result<std::result::Result<Living, String>> {
        let key = item.collection.schema.iter().flat_map(|schema| &schema.fields).find(|field| field.is_primary_key);
        let Some(key) = key else { return Ok(Err("the backup does not say which field is the key".to_owned())) };
        let keys = layout::field_logs(segment, item.grouping, FieldId(key.field_id));
        let times = layout::field_logs(segment, item.grouping, TIMES);
        if keys.is_empty() || keys.len() != times.len() {
            return Ok(Err(format!("there are {} logs of keys and {} of times", keys.len(), times.len())));
        }
        let (mut deletes, mut living) = (Deletes::default(), Living::default());
        for log in deltas {
            if let Err(bad) = deletes.add_log(&self.log(log).await?, &inflate) {
                return Ok(Err(format!("{log}: {bad}")));
            }
        }
        for (key_log, time_log) in keys.iter().zip(&times) {
            let (keys, times) = futures::try_join!(self.log(key_log), self.log(time_log))?;
            let values = |bytes: &Bytes| binlog::Log::read(bytes).and_then(|log| log.values(&inflate));
            let added = values(&keys)
                .and_then(|keys| values(&times).map(|times| (keys, times)))
                .and_then(|(keys, times)| living.add_log(&deletes, keys, &times));
            if let Err(bad) = added {
                return Ok(Err(format!("{key_log}: {bad}")));
            }
        }
        Ok(Ok(living))
    }

    /// The logs of any field, which all have the same rows.
    fn any_logs(&self, item: &Item, segment: &SegmentBackup) -> Vec<String> {
        let times = layout::field_logs(segment, item.grouping, TIMES);
        match segment.binlogs.first() {
            Some(first) if times.is_empty() => layout::field_logs(segment, item.grouping, FieldId(first.field_id)),
            _ => times,
        }
    }

    /// Rows in all of these logs.
    async fn count_logs(&self, logs: &[String]) -> Result<u64> {
        let mut rows = 0;
        for log in logs {
            let bytes = self.log(log).await?;
            let counted = match bytes.starts_with(PARQUET) {
                true => Parquet::read(&bytes).map(|parquet| parquet.rows),
                false => binlog::Log::read(&bytes).and_then(|log| log.rows()),
            };
            rows += counted.map_err(|bad| self.damaged(log, &bad))?;
        }
        Ok(rows)
    }

    fn damaged(&self, log: &str, bad: &BadLog) -> Failure {
        Failure::new(Kind::Damaged, format!("{log} in {}: {bad}", self.source), NEXT)
    }

    /// The plain bytes of one log, wherever it lies.
    async fn log(&self, key: &str) -> Result<Bytes> {
        let at = self.place_of(key)?;
        match &self.keys {
            Some(keys) => sealing::read(&at, &sealing::named(key), LOG_LEN_MAX, keys).await,
            None => Ok(at.read_max(key, LOG_LEN_MAX).await?),
        }
    }

    /// The folder of the backup that has a log.
    fn place_of(&self, key: &str) -> Result<Bucket> {
        match self.holder(key) {
            Some(holder) => Ok(self.store.bucket().below(holder)?),
            None => Ok(self.source.clone()),
        }
    }

    /// The backup that holds a log, if it is another one.
    fn holder(&self, key: &str) -> Option<&str> {
        match self.origin {
            Origin::Backup(_, manifest) => manifest?.holder(key),
            Origin::Folders => None,
        }
    }

    /// The logs as they are, where Milvus can read them: how it is told their two folders.
    pub(super) async fn as_it_is(&self, item: &Item, segment: &SegmentBackup) -> Result<[String; 2]> {
        self.stage(item, segment).await?;
        let first = layout::logs(segment, item.grouping).into_iter().next();
        let holder = first.and_then(|(key, _)| self.holder(&key));
        let inserts = self.path(item, holder, &layout::insert_folder(segment, item.grouping));
        if segment.deltalogs.is_empty() {
            return Ok([inserts, String::new()]);
        }
        Ok([inserts, self.path(item, None, &layout::delta_folder(segment, item.grouping))])
    }

    /// Writes the living rows of a segment as new logs for Milvus, which is told of no deletes.
    pub(super) async fn written_anew(
        &self,
        item: &Item,
        segment: &SegmentBackup,
        living: &Living,
    ) -> Result<[String; 2]> {
        self.tell.say(format!(
            "{}: {} rows of segment {} were deleted and written again; its {} living rows are handed over as new logs",
            item.target, living.again, segment.segment_id, living.alive
        ));
        let temporary = self.temporary(item);
        let mut logs = Vec::new();
        for field in &segment.binlogs {
            let of_field = layout::field_logs(segment, item.grouping, FieldId(field.field_id));
            if of_field.len() != living.logs.len() {
                let what = format!(
                    "field {} of segment {} has {} logs, and the times have {}",
                    field.field_id,
                    segment.segment_id,
                    of_field.len(),
                    living.logs.len()
                );
                return Err(Failure::new(Kind::Damaged, what, NEXT));
            }
            let mut first = 0;
            for (log, rows) in of_field.into_iter().zip(&living.logs) {
                logs.push((log, first));
                first += rows;
            }
        }
        let written = futures::stream::iter(logs).map(|(log, first)| {
            let to = format!("{temporary}/{log}");
            async move {
                let _turn = self.reading.acquire().await;
                let bytes = self.log(&log).await?;
                let keep = |place: usize| living.rows.has(first + place as u64);
                let anew = binlog::only(&bytes, &keep, &inflate).map_err(|bad| self.damaged(&log, &bad))?;
                if let Some(anew) = anew {
                    self.storage.put(&to, anew).await?;
                }
                Ok::<_, Failure>(())
            }
        });
        written.buffer_unordered(self.settings.concurrency.copies).try_collect::<()>().await?;
        let folder = format!("{temporary}/{}", layout::insert_folder(segment, item.grouping));
        Ok([self.settings.storage.for_milvus(&folder), String::new()])
    }

    /// How Milvus is told the path of a folder of the backup, or of the one that holds it.
    pub(super) fn path(&self, item: &Item, holder: Option<&str>, folder: &str) -> String {
        let Origin::Backup(name, _) = self.origin else { return folder.to_owned() };
        match self.in_place {
            true => self.settings.backup.for_milvus(&format!("{}/{folder}", holder.unwrap_or(name.as_str()))),
            false => self.settings.storage.for_milvus(&format!("{}/{folder}", self.temporary(item))),
        }
    }

    /// Where copies for Milvus lie in its storage.
    fn temporary(&self, item: &Item) -> String {
        let journal = self.journals.get(&item.target).and_then(super::Journal::head);
        journal.map(|head| head.temporary).unwrap_or_default()
    }

    /// Copies a segment's logs to where Milvus can read them, if it can't where they lie.
    pub(super) async fn stage(&self, item: &Item, segment: &SegmentBackup) -> Result<()> {
        if self.in_place {
            return Ok(());
        }
        let temporary = self.temporary(item);
        let copies = futures::stream::iter(layout::logs(segment, item.grouping)).map(|(key, len)| {
            let to = format!("{temporary}/{key}");
            async move {
                let source = self.place_of(&key)?;
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

    /// Takes away what was copied or written for Milvus.
    pub(super) async fn unstage(&self, item: &Item) -> Result<()> {
        let temporary = self.temporary(item);
        let old = self.milvus.version() < REST_IMPORTS;
        let anew = old && item.segments().any(|(_, segment)| !segment.deltalogs.is_empty());
        let any = (!self.in_place || anew) && !temporary.is_empty();
        if !any || self.settings.keep_temp_files {
            return Ok(());
        }
        let copies: Vec<_> = self.storage.list(&format!("{temporary}/")).try_collect().await?;
        for entry in copies {
            self.storage.delete(&entry.key).await?;
        }
        Ok(())
    }
}

/// What to do with a damaged backup.
const NEXT: &str = "verify the backup; restore the other collections with --filter";
