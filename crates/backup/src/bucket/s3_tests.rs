//! The bucket at a real S3 server: moto, which enforces conditional writes. It checks no signatures.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::Digest;

use super::s3copy::S3Copy;
use super::{Bucket, BucketConfig, BucketUrl, CopyCheck, Kind, RetryConfig, Secret, SecretSource, StaticKeys};
use crate::mirror::{Options, mirror};

/// How long the server may take to listen: it is Python, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running server with two empty buckets; ended with this value.
struct Moto {
    child: Child,
    dir: tempfile::TempDir,
    endpoint: String,
}

impl Moto {
    async fn start() -> Self {
        let peers = std::env::var_os("EYRIE_PEERS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"), PathBuf::from);
        let python = peers.join("moto/bin/python");
        assert!(
            python.exists(),
            "no S3 server at {}: run `cargo run -p eyrie-tests --bin fetch-peers`",
            python.display()
        );
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut moto = Self { child, dir, endpoint: format!("http://127.0.0.1:{port}") };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let log = std::fs::read_to_string(moto.dir.path().join("log")).unwrap_or_default();
            assert!(moto.child.try_wait().unwrap().is_none(), "the S3 server ended:\n{log}");
            assert!(began.elapsed() < START_LIMIT, "the S3 server does not listen:\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        for bucket in ["one", "two"] {
            let made = reqwest::Client::new().put(format!("{}/{bucket}", moto.endpoint)).send().await.unwrap();
            assert!(made.status().is_success());
        }
        for name in ["access", "secret"] {
            std::fs::write(moto.dir.path().join(name), format!("test-{name}\n")).unwrap();
        }
        moto
    }

    fn config(&self, url: &str) -> BucketConfig {
        let key = |name: &str| Some(SecretSource::File(self.dir.path().join(name)));
        BucketConfig {
            endpoint: Some(self.endpoint.clone()),
            access_key: key("access"),
            secret_key: key("secret"),
            timeout_secs: 120,
            ..BucketConfig::new(BucketUrl::parse(url).unwrap())
        }
    }

    fn bucket(&self, url: &str) -> Bucket {
        Bucket::open(&self.config(url)).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One server for all of it: it takes seconds to start.
#[tokio::test]
async fn s3_is_a_bucket() {
    let moto = Moto::start().await;
    super::conformance::run(&moto.bucket("s3://one/some/prefix")).await;
    copies_between_buckets_are_the_stores_work(&moto).await;
    a_copy_in_parts_is_whole(&moto).await;
    a_wrong_bucket_says_so(&moto).await;
    a_folder_goes_to_s3_and_back(&moto).await;
}

async fn copies_between_buckets_are_the_stores_work(moto: &Moto) {
    let (one, two) = (moto.bucket("s3://one/from"), moto.bucket("s3://two/to"));
    one.put("a/ü +%.bin", "content").await.unwrap();
    let copied = two.copy_from(&one, "a/ü +%.bin", "b/ü +%.bin", CopyCheck::Sha256).await.unwrap();
    assert!(copied.server_side && copied.len == 7);
    assert_eq!(copied.sha256.unwrap()[..], sha2::Sha256::digest("content")[..]);
    assert_eq!(two.read("b/ü +%.bin").await.unwrap(), "content");
    // Other keys may not be able to read the source: it is streamed.
    let config = BucketConfig {
        access_key: Some(SecretSource::File(moto.dir.path().join("secret"))),
        ..moto.config("s3://two/to")
    };
    let stranger = Bucket::open(&config).unwrap();
    let copied = stranger.copy_from(&one, "a/ü +%.bin", "c", CopyCheck::Length).await.unwrap();
    assert!(!copied.server_side && copied.sha256.is_some());
    let gone = two.copy_from(&one, "none", "d", CopyCheck::Length).await.unwrap_err();
    assert_eq!((gone.kind, gone.place.as_str()), (Kind::NotFound, "s3://one/from"));
}

async fn a_copy_in_parts_is_whole(moto: &Moto) {
    let (one, two) = (moto.bucket("s3://one"), moto.bucket("s3://two"));
    let body: Vec<u8> = (0..12 << 20).map(|n: u32| (n / 3 % 251) as u8).collect();
    one.put("large", body.clone()).await.unwrap();
    let stat = one.stat("large").await.unwrap().unwrap();
    let keys = StaticKeys {
        access_key: Secret::new("test-access"),
        secret_key: Secret::new("test-secret"),
        session_token: None,
    };
    let copy = S3Copy::new(reqwest::Client::new(), &moto.endpoint, true, "two", "us-east-1", &keys).unwrap();
    let copy = copy.with_parts_above(1 << 20, 5 << 20);
    assert!(copy.copy("one", "large", &stat, "large-copy").await.unwrap());
    assert!(two.read("large-copy").await.unwrap() == body);
    // A source that was replaced since it was looked at is not copied as if it were the same.
    one.put("large", "small now").await.unwrap();
    assert!(copy.copy("one", "large", &stat, "large-copy").await.is_err());
    assert!(two.read("large-copy").await.unwrap() == body);
}

async fn a_wrong_bucket_says_so(moto: &Moto) {
    let error = moto.bucket("s3://no-such-bucket").put("x", "x").await.unwrap_err();
    assert_eq!(error.kind, Kind::Config, "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    let retry = RetryConfig { attempts: 2, pause_first_millis: 1, ..RetryConfig::default() };
    let nobody = BucketConfig { endpoint: Some("http://127.0.0.1:1".into()), retry, ..moto.config("s3://one") };
    let error = Bucket::open(&nobody).unwrap().read("x").await.unwrap_err();
    assert!(error.kind == Kind::Unavailable && error.to_string().contains("tried 2 times"), "{error}");
    assert!(!format!("{error} {error:?}").contains("test-secret"));
}

async fn a_folder_goes_to_s3_and_back(moto: &Moto) {
    let place = |name: &str| Bucket::at(moto.dir.path().join(name).to_str().unwrap()).unwrap();
    let (source, middle, back) = (place("source"), moto.bucket("s3://two/mirror"), place("back"));
    for n in 0..40 {
        source.put(&format!("d{}/o{n}", n % 3), format!("{n} ").repeat(n * 100)).await.unwrap();
    }
    // S3 tells whole seconds: what changed within the second of its copy is copied once more.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (_, report) = mirror(&source, &middle, &Options::default(), &()).await.unwrap();
    assert!(report.copied == 40 && report.is_complete(), "{report:?}");
    let (plan, _) = mirror(&source, &middle, &Options::default(), &()).await.unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    mirror(&middle, &back, &Options::default(), &()).await.unwrap();
    let (plan, _) =
        mirror(&source, &back, &Options { checksum: true, dry_run: true, ..Options::default() }, &()).await.unwrap();
    assert!(plan.is_empty() && plan.extra == 0, "{plan:?}");
}
