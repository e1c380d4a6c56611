//! A real etcd with the keys of a recorded Milvus, a bucket with its objects, and backups of both.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use eyrie_api::pb::kv_client::KvClient;
use eyrie_api::pb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use eyrie_archive::{Ask, At, Catalog, Scope, Sha256};
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl};
use eyrie_backup::catalog::{self, OpenOptions};
use eyrie_backup::config::{Config, SourceSection, TailSection};
use eyrie_backup::objects::read_index;
use eyrie_backup::seal::Recipients;
use eyrie_backup::source::Source;
use eyrie_backup::tail::run::{Done, Until};
use eyrie_backup::take::{Backup, BackupError, MilvusBucket};
use eyrie_backup::tell::Tell;
use eyrie_milvus::ObjectRoot;
use tonic::transport::{Channel, Endpoint};

#[path = "../../../milvus/tests/common/escape.rs"]
mod escape;

use escape::unescape;

/// A member of upstream's etcd, killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) endpoint: String,
    pub(crate) kv: KvClient<Channel>,
    args: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        Self::cluster(1).await.remove(0)
    }

    /// So many members of one cluster.
    pub(crate) async fn cluster(members: usize) -> Vec<Self> {
        let address = || format!("http://127.0.0.1:{}", free_port());
        let peers: Vec<String> = (0..members).map(|_| address()).collect();
        let named: Vec<String> = peers.iter().enumerate().map(|(at, peer)| format!("m{at}={peer}")).collect();
        let mut cluster = Vec::new();
        for (at, peer) in peers.iter().enumerate() {
            let (dir, client) = (tempfile::tempdir().unwrap(), address());
            let data = dir.path().display().to_string();
            let args = [
                ["--name", &format!("m{at}")],
                ["--log-level", "error"],
                ["--data-dir", &data],
                ["--listen-client-urls", &client],
                ["--advertise-client-urls", &client],
                ["--listen-peer-urls", peer],
                ["--initial-advertise-peer-urls", peer],
                ["--initial-cluster", &named.join(",")],
            ];
            let args: Vec<String> = args.as_flattened().iter().map(|arg| (*arg).to_owned()).collect();
            let channel = Endpoint::from_shared(client.clone()).unwrap().connect_lazy();
            cluster.push(Self { child: spawn(&args), endpoint: client, kv: KvClient::new(channel), args, _dir: dir });
        }
        for etcd in &mut cluster {
            etcd.ready().await;
        }
        cluster
    }

    /// It listens before it has a leader.
    async fn ready(&mut self) {
        for tries in 0.. {
            match self.kv.put(PutRequest { key: "ready".into(), ..PutRequest::default() }).await {
                Ok(_) => return,
                Err(error) => assert!(tries < 300, "etcd does not start: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, on its data.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(&self.args);
        self.ready().await;
    }

    pub(crate) async fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> i64 {
        let (key, value) = (key.as_ref().to_vec().into(), value.as_ref().to_vec().into());
        let put = self.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
        put.into_inner().header.unwrap().revision
    }

    pub(crate) async fn delete(&mut self, key: impl AsRef<[u8]>) -> i64 {
        let key = key.as_ref().to_vec().into();
        let deleted = self.kv.delete_range(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }).await.unwrap();
        deleted.into_inner().header.unwrap().revision
    }

    pub(crate) async fn compact(&mut self, revision: i64) {
        self.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(args: &[String]) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/etcd/etcd");
    assert!(program.is_file(), "upstream etcd is missing: run `cargo run -p eyrie-tests --bin fetch-peers` once");
    let mut command = Command::new(program);
    command.arg("--unsafe-no-fsync").args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Keys and objects of one flushed segment, out of what a real Milvus 2.3 was seen to write.
pub(crate) struct Segment {
    pub(crate) keys: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) objects: Vec<(String, u64)>,
}

impl Segment {
    pub(crate) fn recorded() -> Self {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../milvus/tests/golden/v2_3.txt"].iter().collect();
        let text = std::fs::read_to_string(path).unwrap();
        let (keys, objects) = text.split_once("\nobjects\n").unwrap();
        // the first segment that is flushed (field 6 is 4), so that its objects are needed
        let segment = keys
            .lines()
            .filter_map(|line| line.split_once("/datacoord-meta/s/")?.1.split_once(' '))
            .find(|(_, value)| value.contains(r"0\x048"))
            .and_then(|(path, _)| path.rsplit('/').next())
            .unwrap()
            .to_owned();
        let wanted = |key: &str| {
            key.contains(&segment) && key.contains("datacoord-meta") && !key.ends_with("/0") && !key.ends_with("/1")
        };
        let keys = keys
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| (unescape(key), unescape(value)))
            .collect();
        let objects = objects
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(path, _)| path.contains(&segment))
            .map(|(path, len)| (path.to_owned(), len.parse().unwrap()))
            .collect();
        Self { keys, objects }
    }

    /// The objects that its keys name: a field's logs lie in the folder that is called as its key.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &str> {
        let folder = |key: &[u8]| {
            let key = String::from_utf8_lossy(key).into_owned();
            let (kind, ids) = key.split_once("datacoord-meta/")?.1.split_once('/')?;
            let kind = [("binlog", "insert_log"), ("statslog", "stats_log")].iter().find(|(name, _)| *name == kind)?.1;
            Some(format!("{kind}/{ids}/"))
        };
        let folders: Vec<String> = self.keys.iter().filter_map(|(key, _)| folder(key)).collect();
        let paths = self.objects.iter().map(|(path, _)| path.as_str());
        paths.filter(move |path| folders.iter().any(|folder| path.starts_with(folder)))
    }

    pub(crate) async fn store(&self, bucket: &Bucket) {
        for (path, len) in &self.objects {
            let bytes: Vec<u8> = (0..*len).map(|at| (at * 31 + path.len() as u64) as u8).collect();
            bucket.put(path, bytes).await.unwrap();
        }
    }

    pub(crate) async fn write(&self, etcd: &mut Etcd) -> i64 {
        let mut revision = 0;
        for (key, value) in &self.keys {
            revision = etcd.put(key, value).await;
        }
        revision
    }
}

/// A backup of `etcd`, and of the objects in `milvus`, into `archive`.
pub(crate) async fn backup(etcd: &Etcd, milvus: Option<&Bucket>, archive: &Bucket) -> Backup {
    let config = Config {
        source: SourceSection { endpoints: vec![etcd.endpoint.clone()], ..SourceSection::default() },
        tail: TailSection { segment_age_ms: 200, ..TailSection::default() },
        ..Config::of_archive(BucketConfig::new(BucketUrl::parse("memory:").unwrap()))
    };
    let milvus = milvus.map(|bucket| MilvusBucket {
        bucket: bucket.clone(),
        objects_at: ObjectRoot::folder("/var/lib/milvus/data"),
        root: None,
        parallel: 4,
    });
    Backup {
        source: Source::connect(&config.source().unwrap()).await.unwrap(),
        archive: archive.clone(),
        milvus,
        seal_to: Recipients::nobody(),
        config,
        tell: Tell::nobody(),
    }
}

pub(crate) async fn take(backup: &Backup) -> Result<Done, BackupError> {
    let options = OpenOptions::default();
    let run = backup.run(Until::CaughtUp, &options, std::future::pending());
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("a take ends")
}

/// Everything that the archive names is there, byte for byte; returns what it says.
pub(crate) async fn must_be_whole(archive: &Bucket) -> Catalog {
    let catalog = catalog::read(archive, None).await.unwrap().whole().unwrap();
    let mut named: Vec<eyrie_archive::record::Stored> = Vec::new();
    for line in catalog.timelines() {
        named.extend(line.fulls.values().map(|full| full.taken.stored.clone()));
        named.extend(line.tail.values().map(|piece| piece.segment.stored.clone()));
    }
    named.extend(catalog.pieces().map(|(_, piece)| piece.stored.clone()));
    let index = read_index(archive, &catalog).await.unwrap();
    named.extend(index.entries().map(|entry| entry.stored.clone()));
    for stored in named {
        let bytes = archive.read(stored.path.as_str()).await.unwrap();
        assert_eq!(bytes.len() as u64, stored.len, "{}", stored.path);
        assert_eq!(Sha256::of(&bytes), stored.sha256, "{}", stored.path);
    }
    catalog
}

/// The newest revision is recoverable with all its objects, and these are as many as expected.
pub(crate) async fn must_be_recoverable(archive: &Bucket, revision: i64, objects: usize) {
    let catalog = must_be_whole(archive).await;
    let at = At::Revision(eyrie_archive::Revision(revision));
    let target = catalog.resolve(Ask { at, timeline: None, scope: Scope::Everything });
    assert!(
        target.is_ok(),
        "revision {revision}: {:?}\n{:#?}",
        target.err().map(|why| why.to_string()),
        catalog.spans()
    );
    assert_eq!(read_index(archive, &catalog).await.unwrap().len(), objects);
}
