//! Rows that come from no backup: the same collections, imports and counts, for a caller who knows where the logs lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use eyrie_api::milvus as pb;
use eyrie_milvus::logical::meta::SegmentBackup;
use tokio::sync::Semaphore;

use super::collection::count;
use super::journal::Journal;
use super::{Item, Options, Origin, Run};
use crate::limits::{MILVUS_CALL_LIMIT, RESTORE_LOGS_READ};
use crate::logical::config::Settings;
use crate::logical::doors::Doors;
use crate::logical::failure::{Failure, Kind, Result};
use crate::logical::http;
use crate::logical::news::Tell;

/// A collection that is made and filled by folders of logs.
pub(in crate::logical) struct Filling<'r> {
    run: Run<'r>,
    item: &'r Item,
    journal: Journal,
}

impl<'r> Filling<'r> {
    pub(in crate::logical) fn new(
        doors: &'r Doors,
        settings: &'r Settings,
        options: &'r Options,
        item: &'r Item,
        tell: &'r Tell,
    ) -> Filling<'r> {
        let Doors { milvus, storage, store } = doors;
        let run = Run {
            milvus,
            origin: Origin::Folders,
            source: storage.clone(),
            store,
            storage: storage.clone(),
            settings,
            options,
            keys: None,
            in_place: true,
            journals: BTreeMap::new(),
            imports: Arc::new(Semaphore::new(settings.concurrency.import_jobs)),
            reading: Arc::new(Semaphore::new(RESTORE_LOGS_READ)),
            http: http::client(settings.milvus.ca.as_ref(), MILVUS_CALL_LIMIT),
            tell,
        };
        Filling { run, item, journal: Journal::of_nothing(storage) }
    }

    /// Whether the name is free.
    ///
    /// # Errors
    /// It is taken, or Milvus can't be asked.
    pub(in crate::logical) async fn free(&self) -> Result<()> {
        let target = &self.item.target;
        if !self.databases().await?.contains(&target.database) {
            return Ok(());
        }
        let request = pb::ShowCollectionsRequest { db_name: target.database.clone() };
        if self.run.milvus.show_collections(request).await?.collection_names.contains(&target.name) {
            let what = format!("Milvus has a collection {target} already; nothing was changed");
            return Err(Failure::new(Kind::Exists, what, "give another name with --to, or drop that collection first"));
        }
        Ok(())
    }

    async fn databases(&self) -> Result<Vec<String>> {
        match self.run.milvus.list_databases(pb::ListDatabasesRequest {}).await {
            Ok(answer) => Ok(answer.db_names),
            Err(failure) if failure.kind == Kind::Unsupported => Ok(vec!["default".to_owned()]),
            Err(failure) => Err(failure),
        }
    }

    /// Makes the collection, and its database and partitions where they are missing.
    ///
    /// # Errors
    /// Milvus refused it, or made it otherwise than asked.
    pub(in crate::logical) async fn create(&self) -> Result<()> {
        let database = &self.item.target.database;
        if !self.databases().await?.contains(database) {
            let request = pb::CreateDatabaseRequest { db_name: database.clone(), ..Default::default() };
            self.run.milvus.create_database(request).await?;
        }
        let none = || Failure::new(Kind::Request, "there is no schema", "give one with --schema");
        self.run.create(self.item, self.item.collection.schema.as_ref().ok_or_else(none)?).await?;
        self.run.partitions(self.item).await
    }

    /// Imports one folder of logs of rows, as Milvus is told its path; how many rows Milvus took.
    ///
    /// # Errors
    /// Milvus could not read or take it.
    pub(in crate::logical) async fn import(&self, partition: &str, folder: &str, segment: i64) -> Result<u64> {
        let _turn = self.run.imports.acquire().await;
        let segment = SegmentBackup { segment_id: segment, ..SegmentBackup::default() };
        let paths = [folder.to_owned(), String::new()];
        self.run.run_import(self.item, &self.journal, partition, &paths, &segment).await
    }

    /// Rows of the collection, as Milvus counts them.
    ///
    /// # Errors
    /// Milvus can't be asked.
    pub(in crate::logical) async fn count(&self) -> Result<u64> {
        count(self.run.milvus, &self.item.target).await
    }

    /// The segments of the collection that Milvus has stored, and its id.
    ///
    /// # Errors
    /// Milvus can't be asked.
    pub(in crate::logical) async fn segments(&self) -> Result<(i64, Vec<pb::PersistentSegmentInfo>)> {
        let (db_name, collection_name) = (self.item.target.database.clone(), self.item.target.name.clone());
        let request = pb::DescribeCollectionRequest {
            db_name: db_name.clone(),
            collection_name: collection_name.clone(),
            collection_id: 0,
        };
        let id = self.run.milvus.describe_collection(request).await?.collection_id;
        let request = pb::GetPersistentSegmentInfoRequest { db_name, collection_name };
        Ok((id, self.run.milvus.get_persistent_segment_info(request).await?.infos))
    }
}
