//! Both generations, the environment, and what people really have in their files.

use super::{ConfigError, Given, Provider, Read, Tls, read};
use crate::bucket::BucketUrl;

/// What a guide shows that people copy; no release knows some of its keys.
const GUIDE: &str = "
milvus:
  address: milvus.example
  port: 19530
  authorization: root:Milvus
minio:
  address: localhost
  port: 9000
  accessKeyID: minioadmin
  secretAccessKey: minioadmin
  bucketName: milvus-bucket
  rootPath: files
backup:
  storageType: minio
  path: /backups
  maxSegmentGroupSize: 2G
";

const SECOND: &str = "
configVersion: v2
milvus:
  user: root
  password: Milvus
  grpc: { address: proxy, port: 19531, tlsMode: mutual, caCertPath: /ca, serverName: m.example, mtlsCertPath: /c, mtlsKeyPath: /k }
  management: { endpoint: 'http://dc:9091/' }
  etcd: { endpoints: [etcd-0:2379, etcd-1:2379], rootPath: by-dev }
  storage:
    provider: s3
    address: s3.us-west-2.amazonaws.com
    port: 443
    region: us-west-2
    useSSL: true
    bucketName: mine
    auth: { type: static, accessKeyID: ak, secretAccessKey: sk, sessionToken: tk }
backup:
  storage: { provider: local, rootPath: /var/lib/milvus-backup }
  concurrency: { collections: 8 }
  pauseGC: false
transfer: { concurrency: 64 }
";

fn given(text: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Read, ConfigError> {
    read(&Given {
        file: (!text.is_empty()).then(|| ("backup.yaml".into(), text.into())),
        env: env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        set: set.iter().map(|s| (*s).into()).collect(),
    })
}

#[test]
fn without_anything_the_defaults_of_upstream_hold() {
    let settings = given("", &[], &[]).unwrap().settings;
    assert_eq!((settings.milvus.address.as_str(), settings.milvus.port), ("localhost", 19530));
    assert_eq!(settings.storage.config.url, BucketUrl::parse("s3://a-bucket").unwrap());
    assert_eq!(settings.storage.config.endpoint.as_deref(), Some("http://localhost:9000"));
    assert_eq!((settings.storage.root.as_str(), settings.backup.root.as_str()), ("files", "backup"));
    assert!(settings.backup.is_one_with(&settings.storage) && settings.pause_gc && settings.milvus.user.is_none());
    assert_eq!(settings.backup.for_milvus("n/binlogs/"), "backup/n/binlogs/");
}

#[test]
fn the_guides_keys_are_understood_and_the_right_ones_named() {
    let read = given(GUIDE, &[], &[]).unwrap();
    assert!(read.first_generation);
    let settings = &read.settings;
    assert_eq!(settings.milvus.user.as_deref(), Some("root"));
    assert_eq!(settings.milvus.password.as_ref().unwrap().reveal(), "Milvus");
    assert_eq!((settings.backup.root.as_str(), settings.backup.bucket_name.as_str()), ("backups", "milvus-bucket"));
    let warnings = read.warnings.join("\n");
    for right in
        ["`milvus.user` and `milvus.password`", "`minio.backupStorageType`", "`minio.backupRootPath`", "no effect"]
    {
        assert!(warnings.contains(right), "{right} is not in\n{warnings}");
    }
    assert_eq!(read.warnings.len(), 4, "{warnings}");
}

#[test]
fn the_second_generation_is_read_whole() {
    let read = given(SECOND, &[], &[]).unwrap();
    assert!(!read.first_generation && read.warnings.is_empty(), "{:?}", read.warnings);
    let settings = read.settings;
    assert_eq!(settings.milvus.tls, Tls::Mutual);
    assert_eq!(settings.milvus.identity, Some(("/c".into(), "/k".into())));
    assert_eq!(settings.milvus.server_name.as_deref(), Some("m.example"));
    assert_eq!(
        (settings.milvus.rest.as_str(), settings.milvus.management.as_str()),
        ("https://proxy:19531", "http://dc:9091")
    );
    assert_eq!(settings.storage.config.endpoint, None, "the cloud's own address follows from the region");
    assert_eq!(settings.storage.config.region.as_deref(), Some("us-west-2"));
    assert_eq!(settings.backup.provider, Provider::Local);
    assert_eq!(settings.backup.config.url, BucketUrl::File("/var/lib/milvus-backup".into()));
    assert!(!settings.pause_gc && !settings.backup.is_one_with(&settings.storage));
    assert_eq!((settings.concurrency.backup_collections, settings.concurrency.copies), (8, 64));
}

#[test]
fn set_goes_before_the_environment_and_that_before_the_file() {
    let env = [("MILVUS_ADDRESS", "of-env"), ("MINIO_BUCKET_NAME", "of-env")];
    let settings = given(GUIDE, &env, &["milvus.address=of-set"]).unwrap().settings;
    assert_eq!((settings.milvus.address.as_str(), settings.storage.bucket_name.as_str()), ("of-set", "of-env"));
    let settings = given(SECOND, &env, &["MILVUS_ADDRESS=as-variable"]).unwrap().settings;
    assert_eq!(settings.milvus.address, "as-variable", "--set takes names of variables too");
    assert_eq!(settings.storage.bucket_name, "mine", "the second generation reads secrets alone from the environment");
    let read = given(GUIDE, &[("MILVUS_PORT", "tcp://10.0.0.1:19530")], &[]).unwrap();
    assert_eq!(read.settings.milvus.port, 19530);
    assert!(read.warnings.iter().any(|w| w.contains("Kubernetes")), "{:?}", read.warnings);
}

#[test]
fn what_cannot_be_right_says_where_it_stands() {
    let why = |text: &str, set: &[&str]| given(text, &[], set).unwrap_err().to_string();
    assert!(why("milvus: { port: many }", &[]).contains("`milvus.port` in backup.yaml"));
    assert!(why("", &["milvus.prot=1"]).contains("--set milvus.prot"));
    assert!(why("", &["nothing"]).contains("KEY=VALUE"));
    assert!(why("minio: { storageType: floppy }", &[]).contains("floppy"));
    assert!(why("configVersion: v3", &[]).contains("v1 and v2"));
    assert!(why("milvus: [", &[]).contains("backup.yaml"));
    assert!(why("backup: { parallelism: { copydata: 0 } }", &[]).contains("at least 1"));
    let read = given("minio: { bucketname: b, buketName: c, region: d }", &[], &[]).unwrap();
    assert_eq!(read.settings.storage.bucket_name, "b", "names of keys don't depend on case");
    assert!(read.warnings[0].contains("buketName"), "{:?}", read.warnings);
}

#[test]
fn our_own_section_is_read_in_both_generations() {
    let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let own = format!("eyrie: {{ rateLimitMiB: 20, requestsPerSecond: 50, recipients: [{key}], identity: /k }}");
    for first in [GUIDE, SECOND] {
        let plain = given(first, &[], &[]).unwrap();
        assert_eq!((plain.settings.bytes_per_sec, plain.settings.recipients.len()), (None, 0));
        let read = given(&format!("{first}\n{own}"), &[], &[]).unwrap();
        assert_eq!(read.warnings, plain.warnings);
        assert_eq!((read.settings.bytes_per_sec, read.settings.requests_per_sec), (Some(20 << 20), Some(50)));
        assert_eq!(read.settings.recipients().unwrap().texts(), [key]);
        assert!(read.settings.identity.is_some());
    }
    let why = |set: &str| given("", &[], &[set]).unwrap_err().to_string();
    assert!(why("eyrie.rateLimitMiB=0").contains("leave it out"));
    assert!(why("eyrie.recipients=age1nobody").contains("age1nobody"));
    let secret = why("eyrie.recipients=AGE-SECRET-KEY-1CANARY");
    assert!(!secret.contains("CANARY") && secret.contains("private key"), "{secret}");
}

#[test]
fn secrets_do_not_show() {
    let settings = given(GUIDE, &[("MINIO_SECRET_KEY", "canary-1")], &["milvus.password=canary-2"]).unwrap().settings;
    let shown = format!("{settings:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

/// Whatever stands in a file or behind `--set`: an answer or a sentence, and never a panic.
#[test]
fn odd_values_and_cut_files_are_answered() {
    const ODD: [&str; 20] = [
        "",
        " ",
        "-1",
        "0",
        "1e99",
        "99999999999999999999",
        "true",
        "null",
        "[]",
        "{}",
        "[1, 2]",
        "{a: b}",
        "!file x",
        "ü",
        "..",
        "/",
        "a/../../b",
        "http://[::",
        "x\0y",
        "'",
    ];
    for key in super::keys::KEYS {
        for odd in ODD {
            let _ = given("", &[], &[&format!("{}={odd}", key.name)]);
            let mut yaml = format!("configVersion: v2\n{}: {odd}\n", key.name);
            let _ = given(&yaml, &[], &[]);
            yaml = key.name.split('.').rev().fold(odd.to_owned(), |inner, part| format!("{{ {part}: {inner} }}"));
            let _ = given(&yaml, &[], &[]);
        }
    }
    for text in [GUIDE, SECOND] {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = given(&text[..end], &[], &[]);
        }
        for place in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[place] ^= 1 << (place % 7);
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = given(&text, &[], &[]);
            }
        }
    }
    let long = "x".repeat(1 << 20);
    let _ = given(&format!("backup: {{ storage: {{ rootPath: {long} }} }}"), &[], &[]);
    let deep = "[".repeat(100_000);
    assert!(given(&deep, &[], &[]).is_err());
    let deep = "a: {".repeat(10_000);
    assert!(given(&deep, &[], &[]).is_err());
}
