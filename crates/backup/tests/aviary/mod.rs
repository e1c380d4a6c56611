//! A Milvus that is small and exact: collections in memory, logs in a bucket, imports that count what they find.

#![allow(dead_code, reason = "each test needs a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eyrie_api::milvus as pb;
use eyrie_api::milvus::milvus_service_server::{MilvusService, MilvusServiceServer};
use eyrie_backup::bucket::Bucket;
use eyrie_milvus::binlog::{self, Descriptor, EventKind, Physical, Values};
use eyrie_milvus::salvage::{self, Key};
use futures::TryStreamExt;
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// A handle on it; clones are the same Milvus.
#[derive(Clone)]
pub(crate) struct Aviary {
    bucket: Bucket,
    state: Arc<Mutex<State>>,
    /// Told when a call is held.
    silent: Arc<Notify>,
    /// What callers must send.
    login: Arc<Mutex<Option<String>>>,
}

/// Where a call is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing is done.
    Before,
    /// It is done, and nobody hears of it; for the calls that change something.
    After,
}

#[derive(Default)]
struct State {
    next: i64,
    collections: BTreeMap<String, Collection>,
    imports: BTreeMap<i64, Result<i64, String>>,
    /// Calls that still succeed; after them, Milvus is gone.
    calls_left: Option<usize>,
    calls: usize,
    /// Whether imports find nothing, and are completed nevertheless.
    blind: bool,
    /// Whether imports pass over the logs of deletes.
    undeletes: bool,
    /// Whether imported rows get logs of their own, as Milvus writes them.
    stores: bool,
    /// Collections that can't be flushed.
    stuck: Vec<String>,
    /// Collections whose flush never ends.
    slow: Vec<String>,
    /// The call that never gets an answer.
    held: Option<(usize, Held)>,
    version: String,
}

#[derive(Clone, Default)]
struct Collection {
    id: i64,
    schema: pb::CollectionSchema,
    partitions: Vec<(String, i64)>,
    segments: Vec<pb::PersistentSegmentInfo>,
    rows: i64,
    came: Vec<(Key, u64)>,
}

/// Key and time.
pub(crate) type Row = (i64, u64);

/// A segment as it lies in the bucket.
pub(crate) struct Segment {
    /// The rows of every field's first log, second log and so on.
    pub(crate) logs: Vec<Vec<Row>>,
    pub(crate) deletes: Vec<Row>,
}

impl Aviary {
    /// Starts it on a free port; its logs lie in `bucket`.
    pub(crate) async fn start(bucket: &Bucket) -> (Aviary, u16) {
        let (silent, login) = (Arc::default(), Arc::<Mutex<Option<String>>>::default());
        let aviary = Aviary { bucket: bucket.clone(), state: Arc::default(), silent, login: login.clone() };
        aviary.state.lock().unwrap().next = 1000;
        aviary.has_version("v2.3.5");
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = MilvusServiceServer::with_interceptor(aviary.clone(), move |request: Request<()>| {
            let wanted = login.lock().unwrap().clone();
            let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            match wanted {
                Some(wanted) if given != Some(&wanted) => Err(Status::unauthenticated("auth check failure")),
                _ => Ok(request),
            }
        });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        (aviary, port)
    }

    /// Makes a collection with segments of so many rows, each with two logs a field and, if any, deletes of the first ones.
    pub(crate) async fn add(&self, name: &str, segments: &[(u64, u64)]) {
        let rows = |n: u64| -> Vec<Row> { (0..n as i64).map(|key| (key, 10)).collect() };
        let segments: Vec<Segment> = segments
            .iter()
            .map(|(rows_of, deletes)| Segment {
                logs: vec![
                    rows(*rows_of)[..*rows_of as usize / 2].to_vec(),
                    rows(*rows_of)[*rows_of as usize / 2..].to_vec(),
                ],
                deletes: (0..*deletes as i64).map(|key| (key, 20)).collect(),
            })
            .collect();
        self.add_segments(name, &segments).await;
    }

    /// Makes a collection with these segments.
    pub(crate) async fn add_segments(&self, name: &str, segments: &[Segment]) {
        let schema = pb::CollectionSchema {
            name: name.into(),
            fields: vec![field(100, "id", 5, true), field(101, "vector", 101, false)],
            ..pb::CollectionSchema::default()
        };
        let (id, partition) = (self.id(), self.id());
        let mut infos = Vec::new();
        for Segment { logs, deletes } in segments {
            let segment = self.id();
            for (n, rows) in logs.iter().enumerate() {
                for (field, log) in logs_of(rows) {
                    let key = format!("insert_log/{id}/{partition}/{segment}/{field}/{}", field * 10 + n as i64 + 1);
                    self.bucket.put(&key, log).await.unwrap();
                }
            }
            if !deletes.is_empty() {
                let key = format!("delta_log/{id}/{partition}/{segment}/7");
                self.bucket.put(&key, log_of_deletes(deletes)).await.unwrap();
            }
            infos.push(pb::PersistentSegmentInfo {
                segment_id: segment,
                collection_id: id,
                partition_id: partition,
                num_rows: logs.iter().map(Vec::len).sum::<usize>() as i64,
                state: 4,
                ..pb::PersistentSegmentInfo::default()
            });
        }
        let rows = infos.iter().map(|info| info.num_rows).sum();
        let partitions = vec![("_default".to_owned(), partition)];
        let collection = Collection { id, schema, partitions, segments: infos, rows, came: Vec::new() };
        self.state.lock().unwrap().collections.insert(name.into(), collection);
    }

    /// The rows that imports have brought into a collection, by key and time.
    pub(crate) fn came(&self, name: &str) -> Vec<(Key, u64)> {
        let mut came = self.state.lock().unwrap().collections[name].came.clone();
        came.sort();
        came
    }

    /// Names and rows of all collections.
    pub(crate) fn rows(&self) -> BTreeMap<String, i64> {
        let state = self.state.lock().unwrap();
        state.collections.iter().map(|(name, collection)| (name.clone(), collection.rows)).collect()
    }

    /// Forgets a collection.
    pub(crate) fn drop_collection_now(&self, name: &str) {
        self.state.lock().unwrap().collections.remove(name);
    }

    /// After so many more calls Milvus is gone; none: it is there for good.
    pub(crate) fn dies_after(&self, calls: Option<usize>) {
        self.state.lock().unwrap().calls_left = calls;
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    /// From now on imports find nothing.
    pub(crate) fn goes_blind(&self, blind: bool) {
        self.state.lock().unwrap().blind = blind;
    }

    /// From now on imports bring deleted rows back.
    pub(crate) fn ignores_deletes(&self) {
        self.state.lock().unwrap().undeletes = true;
    }

    /// From now on imported rows get logs of their own.
    pub(crate) fn stores_imports(&self) {
        self.state.lock().unwrap().stores = true;
    }

    /// Partitions and segments of a collection.
    pub(crate) fn stored(&self, name: &str) -> (i64, Vec<(String, i64)>, Vec<pb::PersistentSegmentInfo>) {
        let collection = self.state.lock().unwrap().collections[name].clone();
        (collection.id, collection.partitions, collection.segments)
    }

    /// This collection can't be flushed.
    pub(crate) fn sticks(&self, name: &str) {
        self.state.lock().unwrap().stuck.push(name.into());
    }

    /// The flush of this collection never ends.
    pub(crate) fn never_flushes(&self, name: &str) {
        self.state.lock().unwrap().slow.push(name.into());
    }

    /// Flushes end again.
    pub(crate) fn flushes_again(&self) {
        self.state.lock().unwrap().slow.clear();
    }

    /// One log of a segment gets a twin that Milvus does not count.
    pub(crate) async fn leave_an_uncounted_log(&self, name: &str) {
        let segment = self.state.lock().unwrap().collections[name].segments[0];
        let path = format!("{}/{}/{}", segment.collection_id, segment.partition_id, segment.segment_id);
        for field in [0, 1, 100, 101] {
            self.bucket.put(&format!("insert_log/{path}/{field}/99"), log_of(1, 3)).await.unwrap();
        }
    }

    fn id(&self) -> i64 {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        state.next
    }

    /// Counts a call; an error once Milvus is gone, and silence for one that is held.
    async fn meet(&self) -> Result<(), Status> {
        if self.count()? {
            self.silence().await;
        }
        Ok(())
    }

    /// Whether this call is held before it does anything.
    fn count(&self) -> Result<bool, Status> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if state.held == Some((state.calls, Held::Before)) {
            return Ok(true);
        }
        match &mut state.calls_left {
            Some(0) => Err(Status::internal("the process is gone")),
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Keeps the answer of a call that did something, if that is the one that is held.
    async fn meet_again(&self) {
        let held = {
            let state = self.state.lock().unwrap();
            state.held == Some((state.calls, Held::After))
        };
        if held {
            self.silence().await;
        }
    }

    /// Says that a call is held, and never answers it.
    async fn silence(&self) {
        self.silent.notify_one();
        std::future::pending::<()>().await;
    }

    /// The call with this number from now on is held; returns once it is.
    pub(crate) async fn hold(&self, number: usize, held: Held) {
        {
            let mut state = self.state.lock().unwrap();
            state.held = Some((state.calls + number, held));
        }
        self.silent.notified().await;
    }

    /// Nothing is held any more.
    pub(crate) fn let_go(&self) {
        self.state.lock().unwrap().held = None;
    }

    /// What it calls itself.
    pub(crate) fn has_version(&self, version: &str) {
        self.state.lock().unwrap().version = version.into();
    }

    /// From now on it knows one user only, by this login.
    pub(crate) fn asks_for(&self, login: Option<&str>) {
        *self.login.lock().unwrap() = login.map(str::to_owned);
    }

    /// A collection that is there gets another size of vectors.
    pub(crate) fn gets_other_vectors(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        let schema = &mut state.collections.get_mut(name).unwrap().schema;
        schema.fields[1].type_params[0].value = "8".into();
    }

    /// The bucket that its logs lie in.
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn find(&self, name: &str) -> Result<Collection, pb::Status> {
        let found = self.state.lock().unwrap().collections.get(name).cloned();
        found.ok_or_else(|| pb::Status { error_code: 4, code: 100, reason: "collection not found".into(), ..ok() })
    }

    /// Writes what lies in a folder as a new segment.
    async fn store(&self, name: &str, partition: &str, folder: &str, rows: i64) {
        let found = self.find(name).ok().filter(|_| self.state.lock().unwrap().stores);
        let Some(collection) = found else { return };
        let partition = collection.partitions.iter().find(|(known, _)| known == partition).unwrap().1;
        let segment_id = self.id();
        let folder = folder.strip_prefix("files/").unwrap();
        let entries: Vec<_> = self.bucket.list(folder).try_collect().await.unwrap();
        for entry in entries {
            let rest = entry.key.strip_prefix(folder).unwrap();
            let key = format!("insert_log/{}/{partition}/{segment_id}/{rest}", collection.id);
            self.bucket.put(&key, self.bucket.read(&entry.key).await.unwrap()).await.unwrap();
        }
        let (collection_id, partition_id) = (collection.id, partition);
        let info = pb::PersistentSegmentInfo {
            segment_id,
            collection_id,
            partition_id,
            num_rows: rows,
            state: 4,
            ..Default::default()
        };
        self.state.lock().unwrap().collections.get_mut(name).unwrap().segments.push(info);
    }

    /// The rows that an import of these folders brings: all whose key no delete names, whenever that was, as 2.3 does it.
    async fn import_now(&self, files: &[String]) -> Result<Vec<(Key, u64)>, String> {
        if self.state.lock().unwrap().blind {
            return Ok(Vec::new());
        }
        let below = |folder: &str, rest: &str| format!("{}{rest}", folder.strip_prefix("files/").unwrap_or_default());
        let deletes = match files.get(1).filter(|folder| !folder.is_empty()) {
            Some(folder) => self.values(&below(folder, "")).await?,
            None => Vec::new(),
        };
        let mut deleted = BTreeSet::new();
        for lines in deletes {
            let Values::Texts(lines) = lines else { return Err("no log of deletes".into()) };
            let keys: Option<Vec<Key>> = lines.iter().map(|line| Some(salvage::delete(line)?.0)).collect();
            deleted.extend(keys.ok_or("a delete that can't be read")?);
        }
        let (keys, times) =
            (self.values(&below(&files[0], "100/")).await?, self.values(&below(&files[0], "1/")).await?);
        if keys.len() != times.len() {
            return Err("binlog file count of each field must be equal".into());
        }
        let mut rows = Vec::new();
        for (keys, times) in keys.into_iter().zip(times) {
            let Values::Numbers(times) = times else { return Err("no times".into()) };
            let keys: Vec<Key> = match keys {
                Values::Numbers(numbers) => numbers.into_iter().map(Key::Number).collect(),
                Values::Texts(texts) => texts.into_iter().map(|text| Key::Text(text.into())).collect(),
                Values::Fixed(..) => return Err("no keys".into()),
            };
            rows.extend(keys.into_iter().zip(times).map(|(key, at)| (key, at as u64)));
        }
        rows.retain(|(key, _)| self.state.lock().unwrap().undeletes || !deleted.contains(key));
        Ok(rows)
    }

    /// What is in all logs of a folder, in the order of their ids.
    async fn values(&self, folder: &str) -> Result<Vec<Values>, String> {
        let entries: Vec<_> = self.bucket.list(folder).try_collect().await.map_err(|e| e.to_string())?;
        let mut keys: Vec<String> = entries.into_iter().map(|entry| entry.key).collect();
        keys.sort_by_key(|key| key.rsplit('/').next().and_then(|id| id.parse::<i64>().ok()));
        let mut values = Vec::new();
        for key in keys {
            let bytes = self.bucket.read(&key).await.map_err(|e| e.to_string())?;
            let log = binlog::Log::read(&bytes).map_err(|e| e.to_string())?;
            values.push(log.values(&|_, _, _| None).map_err(|e| e.to_string())?);
        }
        Ok(values)
    }
}

/// One log of each field of a segment: key, vector, and what is hidden.
fn logs_of(rows: &[Row]) -> Vec<(i64, Bytes)> {
    let numbers = |of: fn(&Row) -> i64| Values::Numbers(rows.iter().map(of).collect());
    let vectors =
        rows.iter().flat_map(|row| [row.0 as f32, row.1 as f32, 0.5, 0.25]).flat_map(f32::to_le_bytes).collect();
    let columns = [
        (0, 5, Physical::Int64, numbers(|row| row.0 ^ 77)),
        (1, 5, Physical::Int64, numbers(|row| row.1 as i64)),
        (100, 5, Physical::Int64, numbers(|row| row.0)),
        (101, 101, Physical::Fixed(16), Values::Fixed(16, vectors)),
    ];
    let columns = columns.into_iter();
    columns
        .map(|(field, kind, physical, values)| (field, written(EventKind::Insert, field, kind, physical, &values)))
        .collect()
}

fn log_of_deletes(deletes: &[Row]) -> Bytes {
    let lines = deletes.iter().map(|(key, at)| format!(r#"{{"pk":{key},"ts":{at},"pkType":5}}"#).into_bytes());
    written(EventKind::Delete, 100, 21, Physical::Text, &Values::Texts(lines.collect()))
}

fn written(kind: EventKind, field: i64, data_type: i32, physical: Physical, values: &Values) -> Bytes {
    let at = Descriptor { collection: 1, partition: 1, segment: 1, field, from: 1, to: 2, data_type };
    Bytes::from(binlog::log(&at, kind, physical, values).unwrap())
}

fn field(id: i64, name: &str, data_type: i32, key: bool) -> pb::FieldSchema {
    let type_params = match data_type {
        101 => vec![pb::KeyValuePair { key: "dim".into(), value: "4".into() }],
        _ => Vec::new(),
    };
    let is_primary_key = key;
    pb::FieldSchema { field_id: id, name: name.into(), data_type, is_primary_key, type_params, ..Default::default() }
}

/// A log with a Parquet file that says how many rows it has.
pub(crate) fn log_of(kind: u8, rows: u64) -> Bytes {
    let mut number = Vec::new();
    let mut zigzag = rows << 1;
    while zigzag >= 0x80 {
        number.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    number.push(zigzag as u8);
    // version, rows, one group of rows with as many
    let description =
        [&[0x15, 0x02, 0x26][..], &number[..], &[0x19, 0x1c, 0x36][..], &number[..], &[0x00, 0x00][..]].concat();
    let length = (description.len() as u32).to_le_bytes();
    let parquet = [b"PAR1", &[0x55; 20][..], &description[..], &length[..], b"PAR1"].concat();
    let event = |kind: u8, body: &[u8]| {
        let len = (17 + body.len()) as u32;
        [&[0; 8][..], &[kind][..], &len.to_le_bytes()[..], &[0; 4][..], body].concat()
    };
    let descriptor = event(0, &[0; 52 + 8 + 4]);
    let rows = event(kind, &[&[0; 16][..], &parquet[..]].concat());
    Bytes::from([&[0xbc, 0xfa, 0xff, 0x00][..], &descriptor[..], &rows[..]].concat())
}

fn ok() -> pb::Status {
    pb::Status::default()
}

macro_rules! found {
    ($self:ident, $name:expr, $answer:ident) => {
        match $self.find($name) {
            Ok(collection) => collection,
            Err(status) => return Ok(Response::new(pb::$answer { status: Some(status), ..Default::default() })),
        }
    };
}

#[tonic::async_trait]
impl MilvusService for Aviary {
    async fn get_version(&self, _: Request<pb::GetVersionRequest>) -> Answer<pb::GetVersionResponse> {
        self.meet().await?;
        Ok(Response::new(pb::GetVersionResponse {
            status: Some(ok()),
            version: self.state.lock().unwrap().version.clone(),
        }))
    }

    async fn list_databases(&self, _: Request<pb::ListDatabasesRequest>) -> Answer<pb::ListDatabasesResponse> {
        self.meet().await?;
        Ok(Response::new(pb::ListDatabasesResponse { status: Some(ok()), db_names: vec!["default".into()] }))
    }

    async fn show_collections(&self, _: Request<pb::ShowCollectionsRequest>) -> Answer<pb::ShowCollectionsResponse> {
        self.meet().await?;
        let collection_names = self.state.lock().unwrap().collections.keys().cloned().collect();
        Ok(Response::new(pb::ShowCollectionsResponse { collection_names, ..Default::default() }))
    }

    async fn describe_collection(
        &self,
        request: Request<pb::DescribeCollectionRequest>,
    ) -> Answer<pb::DescribeCollectionResponse> {
        self.meet().await?;
        let collection = found!(self, &request.get_ref().collection_name, DescribeCollectionResponse);
        let (collection_id, schema) = (collection.id, Some(collection.schema));
        Ok(Response::new(pb::DescribeCollectionResponse { collection_id, schema, shards_num: 1, ..Default::default() }))
    }

    async fn describe_index(&self, _: Request<pb::DescribeIndexRequest>) -> Answer<pb::DescribeIndexResponse> {
        self.meet().await?;
        let status = pb::Status { error_code: 25, code: 700, reason: "index not found".into(), ..ok() };
        Ok(Response::new(pb::DescribeIndexResponse { status: Some(status), ..Default::default() }))
    }

    async fn get_load_state(&self, _: Request<pb::GetLoadStateRequest>) -> Answer<pb::GetLoadStateResponse> {
        self.meet().await?;
        Ok(Response::new(pb::GetLoadStateResponse { status: Some(ok()), state: 1 }))
    }

    async fn show_partitions(&self, request: Request<pb::ShowPartitionsRequest>) -> Answer<pb::ShowPartitionsResponse> {
        self.meet().await?;
        let collection = found!(self, &request.get_ref().collection_name, ShowPartitionsResponse);
        let (partition_names, partition_ids) = collection.partitions.into_iter().unzip();
        Ok(Response::new(pb::ShowPartitionsResponse { status: Some(ok()), partition_names, partition_ids }))
    }

    async fn flush(&self, request: Request<pb::FlushRequest>) -> Answer<pb::FlushResponse> {
        self.meet().await?;
        let stuck = request.get_ref().collection_names.iter().any(|n| self.state.lock().unwrap().stuck.contains(n));
        let status = if stuck { pb::Status { error_code: 1, code: 5, reason: "stuck".into(), ..ok() } } else { ok() };
        Ok(Response::new(pb::FlushResponse { status: Some(status), ..Default::default() }))
    }

    async fn get_flush_state(&self, request: Request<pb::GetFlushStateRequest>) -> Answer<pb::GetFlushStateResponse> {
        self.meet().await?;
        let flushed = !self.state.lock().unwrap().slow.contains(&request.get_ref().collection_name);
        Ok(Response::new(pb::GetFlushStateResponse { status: Some(ok()), flushed }))
    }

    async fn get_persistent_segment_info(
        &self,
        request: Request<pb::GetPersistentSegmentInfoRequest>,
    ) -> Answer<pb::GetPersistentSegmentInfoResponse> {
        self.meet().await?;
        let collection = found!(self, &request.get_ref().collection_name, GetPersistentSegmentInfoResponse);
        let infos = collection.segments;
        Ok(Response::new(pb::GetPersistentSegmentInfoResponse { status: Some(ok()), infos }))
    }

    async fn create_collection(&self, request: Request<pb::CreateCollectionRequest>) -> Answer<pb::Status> {
        self.meet().await?;
        let request = request.into_inner();
        let schema = <pb::CollectionSchema as prost::Message>::decode(&*request.schema).unwrap();
        let partitions = vec![("_default".to_owned(), self.id())];
        let collection = Collection { id: self.id(), schema, partitions, ..Collection::default() };
        self.state.lock().unwrap().collections.insert(request.collection_name, collection);
        self.meet_again().await;
        Ok(Response::new(ok()))
    }

    async fn create_partition(&self, request: Request<pb::CreatePartitionRequest>) -> Answer<pb::Status> {
        self.meet().await?;
        let (request, id) = (request.into_inner(), self.id());
        let mut state = self.state.lock().unwrap();
        let collection = state.collections.get_mut(&request.collection_name).unwrap();
        collection.partitions.push((request.partition_name, id));
        Ok(Response::new(ok()))
    }

    async fn drop_collection(&self, request: Request<pb::DropCollectionRequest>) -> Answer<pb::Status> {
        self.meet().await?;
        self.drop_collection_now(&request.get_ref().collection_name);
        self.meet_again().await;
        Ok(Response::new(ok()))
    }

    async fn get_collection_statistics(
        &self,
        request: Request<pb::GetCollectionStatisticsRequest>,
    ) -> Answer<pb::GetCollectionStatisticsResponse> {
        self.meet().await?;
        let collection = found!(self, &request.get_ref().collection_name, GetCollectionStatisticsResponse);
        let stats = vec![pb::KeyValuePair { key: "row_count".into(), value: collection.rows.to_string() }];
        Ok(Response::new(pb::GetCollectionStatisticsResponse { status: Some(ok()), stats }))
    }

    async fn import(&self, request: Request<pb::ImportRequest>) -> Answer<pb::ImportResponse> {
        self.meet().await?;
        let request = request.into_inner();
        let imported = self.import_now(&request.files).await;
        if let Ok(rows) = &imported {
            let rows = rows.len() as i64;
            self.store(&request.collection_name, &request.partition_name, &request.files[0], rows).await;
        }
        let task = self.id();
        {
            let mut state = self.state.lock().unwrap();
            if let (Ok(rows), Some(collection)) = (&imported, state.collections.get_mut(&request.collection_name)) {
                collection.rows += rows.len() as i64;
                collection.came.extend(rows.iter().cloned());
            }
            state.imports.insert(task, imported.map(|rows| rows.len() as i64));
        }
        self.meet_again().await;
        Ok(Response::new(pb::ImportResponse { status: Some(ok()), tasks: vec![task] }))
    }

    async fn get_import_state(
        &self,
        request: Request<pb::GetImportStateRequest>,
    ) -> Answer<pb::GetImportStateResponse> {
        self.meet().await?;
        let state = self.state.lock().unwrap();
        Ok(Response::new(match &state.imports[&request.get_ref().task] {
            Ok(rows) => pb::GetImportStateResponse { state: 6, row_count: *rows, ..Default::default() },
            Err(why) => pb::GetImportStateResponse {
                state: 1,
                infos: vec![pb::KeyValuePair { key: "failed_reason".into(), value: why.clone() }],
                ..Default::default()
            },
        }))
    }
}
