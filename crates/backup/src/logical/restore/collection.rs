//! One collection: made, filled, counted, loaded.

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::CollectionName;
use eyrie_milvus::logical::meta::{CollectionSchema, IndexInfo};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::time::Instant;

use super::journal::{Head, Journal};
use super::plan::{Action, Item};
use super::{Run, TEMPORARY};
use crate::chance;
use crate::limits::{IMPORTS_WAITING, LOAD_SILENCE_MAX, MILVUS_POLL};
use crate::logical::convert;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::milvus::{Milvus, Version};

/// A property that lets rows vanish by age.
const TTL: &str = "collection.ttl.seconds";
/// The state of a collection that can be searched.
const LOADED: i32 = 3;

impl Run<'_> {
    /// Restores one collection; how many rows it has.
    pub(super) async fn collection(&self, item: &Item) -> Result<u64> {
        let (target, journal) = (&item.target, self.journal(item)?);
        if let (Action::Keep, Some(rows)) = (item.action, journal.head().and_then(|head| head.rows)) {
            self.tell.say(format!("{target} was restored by an earlier run and stays as it is"));
            self.unstage(item).await?;
            item.segments().for_each(|(_, segment)| self.tell.done(1, u64::try_from(segment.size).unwrap_or_default()));
            return Ok(rows);
        }
        let claim = journal.claim(target, self.tell).await?;
        let done = self.filled(item, journal).await;
        drop(claim);
        // Nothing was begun: nothing is left that says so. What can't be deleted now goes with the backup.
        if done.is_err() && journal.head().is_none() {
            let _ = journal.forget().await;
        }
        done
    }

    /// Makes it, or what it lacks, and fills it; how many rows it has.
    async fn filled(&self, item: &Item, journal: &Journal) -> Result<u64> {
        let target = &item.target;
        let nothing =
            || Failure::new(Kind::Damaged, format!("the backup has no schema of {}", item.source), "take another");
        let schema = item.collection.schema.as_ref().ok_or_else(nothing)?;
        self.made(item, schema, journal).await?;
        self.partitions(item).await?;
        if self.options.drop_exist_index {
            self.drop_indexes(target).await?;
        }
        if self.options.rebuild_index {
            self.tell.step(format!("{target}: indexes"));
            let there = match item.action {
                Action::GoOn => self.milvus.indexes(&target.database, &target.name).await?,
                _ => Vec::new(),
            };
            let missing = |index: &&IndexInfo| !there.iter().any(|known| known.index_name == index.index_name);
            for index in item.collection.index_infos.iter().filter(missing) {
                self.index(target, index).await?;
            }
        }
        let rows = if self.options.meta_only { 0 } else { self.rows(item, journal).await? };
        self.aliases(item).await?;
        self.load(item).await?;
        journal.change(|head| (head.rows, head.wanted) = (Some(rows), self.options.wanted())).await?;
        self.unstage(item).await?;
        Ok(rows)
    }

    /// Sees to it that the collection is there, and that the journal says so.
    async fn made(&self, item: &Item, schema: &CollectionSchema, journal: &Journal) -> Result<()> {
        let target = &item.target;
        let temporary = || format!("{TEMPORARY}{}", chance::word(6));
        let head = || Head::new(self.milvus.place(), target, temporary(), self.options.wanted());
        let goes_on = journal.head().is_some_and(|head| head.wrong.is_none());
        match item.action {
            Action::GoOn | Action::Keep => {
                self.tell.say(format!("{target}: an earlier run began to restore it; this one goes on"));
                let id = self.same_schema(target, schema).await?;
                return journal.change(|head| (head.collection_id, head.rows) = (id, None)).await;
            }
            Action::Fill if goes_on => {
                let id = self.same_schema(target, schema).await?;
                if journal.head().is_some_and(|head| head.collection_id == id) {
                    self.tell.say(format!("{target}: an earlier run began to add these rows; this one goes on"));
                    return Ok(());
                }
            }
            Action::Fill | Action::DropAndCreate | Action::Create => {}
        }
        // What an earlier run did to a collection of this name that is no more, or is about to be no more.
        if journal.head().is_some() {
            self.unstage(item).await?;
            journal.clear().await?;
        }
        if item.action == Action::Fill {
            let collection_id = self.same_schema(target, schema).await?;
            let before = count(self.milvus, target).await?;
            return journal.begin(Head { collection_id, before, ..head() }).await;
        }
        if item.action == Action::DropAndCreate {
            self.tell.step(format!("{target}: drop what is there"));
            let (db_name, collection_name) = (target.database.clone(), target.name.clone());
            self.milvus.drop_collection(pb::DropCollectionRequest { db_name, collection_name }).await?;
        }
        journal.begin(head()).await?;
        let id = self.create(item, schema).await?;
        journal.change(|head| head.collection_id = id).await
    }

    fn journal(&self, item: &Item) -> Result<&Journal> {
        let nothing = || Failure::new(Kind::Refused, format!("{} was not planned", item.target), "run again");
        self.journals.get(&item.target).ok_or_else(nothing)
    }

    /// Makes it; its id.
    pub(super) async fn create(&self, item: &Item, schema: &CollectionSchema) -> Result<i64> {
        let target = &item.target;
        self.tell.step(format!("{target}: create"));
        let made = convert::schema_back(schema, &target.name)?;
        let by_key = made.fields.iter().any(|field| field.is_partition_key);
        let request = pb::CreateCollectionRequest {
            db_name: target.database.clone(),
            collection_name: target.name.clone(),
            schema: made.encode_to_vec(),
            shards_num: item.collection.shards_num,
            consistency_level: item.collection.consistency_level,
            properties: convert::pairs_back(&item.collection.properties),
            num_partitions: if by_key { item.collection.partition_backups.len() as i64 } else { 0 },
        };
        self.milvus.create_collection(request).await?;
        // Milvus numbers fields by itself, and logs are found by these numbers.
        self.same_schema(target, schema).await
    }

    /// Whether the collection that is there takes the backup's rows; its id.
    async fn same_schema(&self, target: &CollectionName, schema: &CollectionSchema) -> Result<i64> {
        let request = pb::DescribeCollectionRequest {
            db_name: target.database.clone(),
            collection_name: target.name.clone(),
            collection_id: 0,
        };
        let described = self.milvus.describe_collection(request).await?;
        let found = convert::schema(described.schema.unwrap_or_default());
        match convert::difference(schema, &found) {
            None => Ok(described.collection_id),
            Some(difference) => Err(Failure::new(
                Kind::Refused,
                format!("{target} in Milvus has another schema than the backup: {difference}"),
                "give the restored collection another name with -s or --rename",
            )),
        }
    }

    pub(super) async fn partitions(&self, item: &Item) -> Result<()> {
        let target = &item.target;
        let request = pb::ShowPartitionsRequest {
            db_name: target.database.clone(),
            collection_name: target.name.clone(),
            collection_id: 0,
        };
        let there = self.milvus.show_partitions(request).await?.partition_names;
        for partition in &item.collection.partition_backups {
            if !there.contains(&partition.partition_name) {
                let request = pb::CreatePartitionRequest {
                    db_name: target.database.clone(),
                    collection_name: target.name.clone(),
                    partition_name: partition.partition_name.clone(),
                };
                self.milvus.create_partition(request).await?;
            }
        }
        Ok(())
    }

    async fn drop_indexes(&self, target: &CollectionName) -> Result<()> {
        for index in self.milvus.indexes(&target.database, &target.name).await? {
            let request = pb::DropIndexRequest {
                db_name: target.database.clone(),
                collection_name: target.name.clone(),
                field_name: index.field_name,
                index_name: index.index_name,
            };
            self.milvus.drop_index(request).await?;
        }
        Ok(())
    }

    async fn index(&self, target: &CollectionName, index: &IndexInfo) -> Result<()> {
        let pair = |key: &str, value: &str| pb::KeyValuePair { key: key.into(), value: value.into() };
        let extra_params = if self.options.use_auto_index {
            let metric = index.params.get("metric_type").map(|metric| pair("metric_type", metric));
            metric.into_iter().chain([pair("index_type", "AUTOINDEX")]).collect()
        } else {
            // Milvus shows this kind under a name that it does not take.
            let value = |value: &str| if value == "marisa-trie" { "Trie".to_owned() } else { value.to_owned() };
            index.params.iter().map(|(key, v)| pair(key, &value(v))).collect()
        };
        let request = pb::CreateIndexRequest {
            db_name: target.database.clone(),
            collection_name: target.name.clone(),
            field_name: index.field_name.clone(),
            index_name: index.index_name.clone(),
            extra_params,
        };
        let made = self.milvus.create_index(request).await;
        made.map(|_| ()).map_err(|failure| failure.during(&format!("index {} of {target}", index.index_name)))
    }

    /// Imports every segment, and compares what Milvus has with what the logs hold.
    async fn rows(&self, item: &Item, journal: &Journal) -> Result<u64> {
        let target = &item.target;
        self.tell.step(format!("{target}: import"));
        let before = journal.head().map_or(0, |head| head.before);
        let segments: Vec<_> =
            item.segments().map(|(partition, segment)| (partition.to_owned(), segment.clone())).collect();
        let segments = futures::stream::iter(segments);
        let imported =
            segments.map(|(partition, segment)| async move { self.import(item, journal, &partition, &segment).await });
        let imported: Vec<u64> = imported.buffer_unordered(IMPORTS_WAITING).try_collect().await?;
        for (partition, segment) in item.l0_segments() {
            self.import_deletes(item, journal, partition, segment).await?;
        }
        let rows: u64 = imported.into_iter().sum();
        let found = count(self.milvus, target).await?;
        if found == before + rows {
            return Ok(rows);
        }
        let what = format!("Milvus counts {found} rows in {target}, and {} were imported", before + rows);
        if item.collection.properties.iter().any(|pair| pair.key == TTL) || item.action == Action::Fill {
            self.tell.warn(format!("{what}: rows may have come or expired meanwhile"));
            return Ok(rows);
        }
        journal.change(|head| head.wrong = Some(what.clone())).await?;
        let next = "do not use it: restore again with --drop_exist_collection; if it stays so, verify the backup";
        Err(Failure::new(Kind::Damaged, what, next))
    }

    /// Aliases that are free: one that is in use stays where it is.
    async fn aliases(&self, item: &Item) -> Result<()> {
        for alias in &item.collection.aliases {
            let request = pb::CreateAliasRequest {
                db_name: item.target.database.clone(),
                collection_name: item.target.name.clone(),
                alias: alias.clone(),
            };
            match self.milvus.create_alias(request).await {
                Ok(_) => {}
                Err(failure) if failure.kind == Kind::Refused => {
                    self.tell.say(format!("the alias {alias} is not given to {}: {}", item.target, failure.line()));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Loads what was loaded, once there is an index to load.
    async fn load(&self, item: &Item) -> Result<()> {
        let was_loaded = item.collection.load_state == "Loaded";
        if !was_loaded || !self.options.rebuild_index || self.options.no_load || item.action == Action::Fill {
            return Ok(());
        }
        let target = &item.target;
        self.tell.step(format!("{target}: load"));
        let (db_name, collection_name) = (target.database.clone(), target.name.clone());
        self.milvus.load_collection(pb::LoadCollectionRequest { db_name, collection_name, replica_number: 1 }).await?;
        let (mut last, mut since) = (-1, Instant::now());
        loop {
            let request = pb::GetLoadingProgressRequest {
                collection_name: target.name.clone(),
                partition_names: Vec::new(),
                db_name: target.database.clone(),
            };
            let progress = self.milvus.get_loading_progress(request).await?.progress;
            if progress >= 100 {
                break;
            }
            if progress != last {
                (last, since) = (progress, Instant::now());
            }
            if since.elapsed() > LOAD_SILENCE_MAX {
                let what = format!("{target} has all its rows, but loading it stays at {progress} %");
                return Err(Failure::new(
                    Kind::Unavailable,
                    what,
                    "look at the query nodes' memory, then load it by hand",
                ));
            }
            tokio::time::sleep(MILVUS_POLL).await;
        }
        self.count_loaded(item).await
    }

    /// Asks a loaded collection for its rows: what a search can find.
    async fn count_loaded(&self, item: &Item) -> Result<()> {
        if self.options.meta_only {
            return Ok(());
        }
        let target = &item.target;
        let imported = count(self.milvus, target).await?;
        match count_loaded(self.milvus, target).await? {
            Some(found) if found != imported && item.collection.l0_segments.is_empty() => {
                let what = format!("{target} was loaded and shows {found} rows, {imported} were imported");
                let next = "do not use it: restore again with --drop_exist_collection";
                Err(Failure::new(Kind::Damaged, what, next))
            }
            _ => Ok(()),
        }
    }
}

/// The rows that Milvus counts in a collection, deleted ones that are not compacted yet among them.
pub(in crate::logical) async fn count(milvus: &Milvus, target: &CollectionName) -> Result<u64> {
    let request =
        pb::GetCollectionStatisticsRequest { db_name: target.database.clone(), collection_name: target.name.clone() };
    let stats = milvus.get_collection_statistics(request).await?.stats;
    let rows = stats.iter().find(|pair| pair.key == "row_count").and_then(|pair| pair.value.parse().ok());
    rows.ok_or_else(|| Failure::new(Kind::Refused, format!("Milvus does not count the rows of {target}"), "run again"))
}

/// The rows that a query finds in a loaded collection, all that was written among them; nothing for one that is not loaded,
/// or a Milvus that can't count so.
pub(in crate::logical) async fn count_loaded(milvus: &Milvus, target: &CollectionName) -> Result<Option<u64>> {
    // Since 2.3 a query can count.
    if milvus.version() < Version(2, 3, 0) {
        return Ok(None);
    }
    let (db_name, collection_name) = (target.database.clone(), target.name.clone());
    let state = pb::GetLoadStateRequest { db_name, collection_name, partition_names: Vec::new() };
    if milvus.get_load_state(state).await?.state != LOADED {
        return Ok(None);
    }
    let request = pb::QueryRequest {
        db_name: target.database.clone(),
        collection_name: target.name.clone(),
        output_fields: vec!["count(*)".into()],
        ..pb::QueryRequest::default()
    };
    let fields = milvus.query(request).await?.fields_data;
    let counted =
        fields.first().and_then(|field| field.scalars.as_ref()).and_then(|scalars| scalars.long_data.as_ref());
    Ok(counted.and_then(|data| data.data.first()).and_then(|rows| u64::try_from(*rows).ok()))
}
