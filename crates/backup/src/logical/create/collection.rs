//! One collection: what Milvus says of it, its flush, its segments.

use std::collections::BTreeMap;

use base64::Engine;
use eyrie_api::milvus as pb;
use eyrie_milvus::logical::CollectionName;
use eyrie_milvus::logical::manifest::Object;
use eyrie_milvus::logical::meta::{ALL_PARTITIONS, CollectionBackup, IndexInfo, PartitionBackup};
use prost::Message;
use tokio::time::Instant;

use super::segments::Copied;
use super::{Run, Strategy};
use crate::limits::{FLUSH_LIMIT, MILVUS_POLL, MILVUS_POLL_FIRST, SEGMENT_ATTEMPTS};
use crate::logical::convert;
use crate::logical::failure::{Failure, Kind, Result};

/// A collection that is in the backup.
pub(super) struct Done {
    pub(super) backup: CollectionBackup,
    /// Its objects, by key below the backup's folder.
    pub(super) objects: BTreeMap<String, Object>,
    /// Objects and bytes that were copied.
    pub(super) copied: (u64, u64),
    /// Objects that were there.
    pub(super) kept: u64,
    /// Objects that lie in another backup.
    pub(super) held: u64,
}

/// The state of a segment whose rows are in the bucket.
const FLUSHED: i32 = 4;
/// The level of a segment that holds deletes only.
const LEVEL_ZERO: i32 = 1;

impl Run<'_> {
    /// Backs up one collection.
    pub(super) async fn collection(&self, name: &CollectionName) -> Result<Done> {
        self.tell.step(format!("{name}: describe"));
        let mut backup = self.describe(name).await?;
        if self.options.strategy == Strategy::MetaOnly {
            backup.partition_backups.iter_mut().for_each(|partition| partition.collection_id = backup.collection_id);
            return Ok(Done { backup, objects: BTreeMap::new(), copied: (0, 0), kept: 0, held: 0 });
        }
        if self.options.strategy == Strategy::Flush {
            self.tell.step(format!("{name}: flush"));
            self.flush(name, &mut backup).await?;
        }
        let mut attempt = 1;
        loop {
            self.tell.step(format!("{name}: copy"));
            match self.data(name, &mut backup).await {
                // Compaction and garbage collection took a segment away: what replaced it has the same rows.
                Err(failure) if failure.kind == Kind::NotFound && attempt < SEGMENT_ATTEMPTS => {
                    self.tell.say(format!("{name}: {}; its segments are listed again", failure.line()));
                    tokio::time::sleep(MILVUS_POLL * attempt).await;
                    attempt += 1;
                }
                Err(failure) => return Err(failure),
                Ok(copied) => {
                    let Copied { objects, copied, kept, held } = copied;
                    return Ok(Done { backup, objects, copied, kept, held });
                }
            }
        }
    }

    /// All that is not rows.
    async fn describe(&self, name: &CollectionName) -> Result<CollectionBackup> {
        let (db_name, collection_name) = (name.database.clone(), name.name.clone());
        let described = self
            .milvus
            .describe_collection(pb::DescribeCollectionRequest {
                db_name: db_name.clone(),
                collection_name: collection_name.clone(),
                collection_id: 0,
            })
            .await?;
        let nothing = || Failure::new(Kind::Refused, format!("Milvus shows no schema of {name}"), "run again");
        let schema = described.schema.ok_or_else(nothing)?;
        if !schema.external_source.is_empty() {
            let what = format!("the rows of {name} are outside of Milvus");
            return Err(Failure::new(Kind::Unsupported, what, "leave it out with --filter"));
        }
        let indexes = self.milvus.indexes(&db_name, &collection_name).await?;
        let schema = convert::schema(schema);
        let index_infos: Vec<IndexInfo> = indexes.into_iter().map(|index| self.index(index, &schema)).collect();
        Ok(CollectionBackup {
            collection_id: described.collection_id,
            db_name,
            collection_name,
            schema: Some(schema),
            shards_num: described.shards_num,
            consistency_level: described.consistency_level,
            has_index: !index_infos.is_empty(),
            index_infos,
            load_state: self.load_state(name, &[]).await?,
            partition_backups: self.partitions(name).await?,
            properties: convert::pairs(described.properties),
            db_id: described.db_id,
            created_timestamp: described.created_timestamp,
            virtual_channel_names: described.virtual_channel_names,
            physical_channel_names: described.physical_channel_names,
            aliases: described.aliases,
            ..CollectionBackup::default()
        })
    }

    fn index(&self, index: pb::IndexDescription, schema: &eyrie_milvus::logical::meta::CollectionSchema) -> IndexInfo {
        let params: BTreeMap<String, String> = index.params.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let field_id = schema.fields.iter().find(|field| field.name == index.field_name).map(|field| field.field_id);
        let mut info = IndexInfo {
            field_name: index.field_name,
            index_name: index.index_name,
            index_type: params.get("index_type").cloned().unwrap_or_default(),
            params,
            ..IndexInfo::default()
        };
        if self.options.index_extra {
            info.index_id = index.index_id;
            info.field_id = field_id.unwrap_or_default();
            (info.min_index_version, info.max_index_version) = (index.min_index_version, index.max_index_version);
        }
        info
    }

    async fn load_state(&self, name: &CollectionName, partitions: &[String]) -> Result<String> {
        let request = pb::GetLoadStateRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            partition_names: partitions.to_vec(),
        };
        Ok(match self.milvus.get_load_state(request).await?.state {
            3 => "Loaded",
            2 => "Loading",
            _ => "NotLoad",
        }
        .to_owned())
    }

    async fn partitions(&self, name: &CollectionName) -> Result<Vec<PartitionBackup>> {
        let request = pb::ShowPartitionsRequest {
            db_name: name.database.clone(),
            collection_name: name.name.clone(),
            collection_id: 0,
        };
        let shown = self.milvus.show_partitions(request).await?;
        let mut partitions = Vec::new();
        for (partition_name, partition_id) in shown.partition_names.into_iter().zip(shown.partition_ids) {
            let load_state = self.load_state(name, std::slice::from_ref(&partition_name)).await?;
            partitions.push(PartitionBackup { partition_id, partition_name, load_state, ..PartitionBackup::default() });
        }
        Ok(partitions)
    }

    /// Everything that was written until now gets into the bucket.
    async fn flush(&self, name: &CollectionName, backup: &mut CollectionBackup) -> Result<()> {
        let request = pb::FlushRequest { db_name: name.database.clone(), collection_names: vec![name.name.clone()] };
        let flushed = self.milvus.flush(request).await?;
        let segments = flushed.coll_seg_ids.get(&name.name).map(|ids| ids.data.clone()).unwrap_or_default();
        let flush_ts = flushed.coll_flush_ts.get(&name.name).copied().unwrap_or_default();
        let began = Instant::now();
        let mut pause = MILVUS_POLL_FIRST;
        loop {
            let request = pb::GetFlushStateRequest {
                segment_ids: segments.clone(),
                flush_ts,
                db_name: name.database.clone(),
                collection_name: name.name.clone(),
            };
            if self.milvus.get_flush_state(request).await?.flushed {
                break;
            }
            if began.elapsed() > FLUSH_LIMIT {
                let what = format!("Milvus did not finish to flush {name} within {} s", FLUSH_LIMIT.as_secs());
                let next = "check Milvus's data nodes; --strategy skip_flush backs up what is in the bucket now";
                return Err(Failure::new(Kind::Unavailable, what, next));
            }
            // a small flush is over in some milliseconds, and an incremental backup is mostly that
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MILVUS_POLL);
        }
        let sealed = flushed.coll_seal_times.get(&name.name).copied().unwrap_or_default();
        backup.backup_physical_timestamp = u64::try_from(sealed).unwrap_or_default();
        // Channels report where they stand since 2.4; before, the flush itself has a time, or only the clock does.
        let of_channels = flushed.channel_cps.values().map(|position| position.timestamp).max();
        let of_clock = backup.backup_physical_timestamp.saturating_mul(1000) << 18;
        backup.backup_timestamp = of_channels.unwrap_or(if flush_ts > 0 { flush_ts } else { of_clock });
        backup.channel_checkpoints = flushed
            .channel_cps
            .into_iter()
            .map(|(channel, position)| {
                (channel, base64::engine::general_purpose::STANDARD.encode(position.encode_to_vec()))
            })
            .collect();
        Ok(())
    }

    /// Lists the segments, copies their logs, and puts them into the tree.
    async fn data(&self, name: &CollectionName, backup: &mut CollectionBackup) -> Result<Copied> {
        let request =
            pb::GetPersistentSegmentInfoRequest { db_name: name.database.clone(), collection_name: name.name.clone() };
        let infos = self.milvus.get_persistent_segment_info(request).await?.infos;
        let flushed: Vec<_> = infos.into_iter().filter(|info| info.state == FLUSHED).collect();
        // Asked after the segments: one whose partition is not shown was dropped with it.
        backup.partition_backups = self.partitions(name).await?;
        let (segments, copied) = self.segments(name, backup, &flushed).await?;
        for partition in &mut backup.partition_backups {
            partition.collection_id = backup.collection_id;
        }
        backup.l0_segments.clear();
        for segment in segments {
            if segment.partition_id == ALL_PARTITIONS {
                backup.l0_segments.push(segment);
                continue;
            }
            let wanted = segment.partition_id;
            let partition = backup.partition_backups.iter_mut().find(|partition| partition.partition_id == wanted);
            if let Some(partition) = partition {
                partition.segment_backups.push(segment);
            }
        }
        for partition in &mut backup.partition_backups {
            partition.segment_backups.sort_by_key(|segment| segment.segment_id);
            partition.size = partition.segment_backups.iter().map(|segment| segment.size).sum();
        }
        let l0: i64 = backup.l0_segments.iter().map(|segment| segment.size).sum();
        backup.size = l0 + backup.partition_backups.iter().map(|partition| partition.size).sum::<i64>();
        Ok(copied)
    }
}

/// Whether a segment holds deletes only.
pub(super) fn is_l0(info: &pb::PersistentSegmentInfo) -> bool {
    info.level == LEVEL_ZERO
}
