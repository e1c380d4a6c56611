//! Moves from one Milvus to another.

use std::sync::{Arc, Mutex};

use eyrie_backup::bucket::{Bucket, Pace};
use eyrie_backup::logical::config::{Given, Settings, read};
use eyrie_backup::logical::moving::{self, Options};
use eyrie_backup::logical::{Kind, News, Result, Tell, restore};
use eyrie_milvus::logical::{BackupName, Renames};

use crate::aviary::{Aviary, Held};

/// A Milvus with a bucket that has a name, and the settings that reach both.
async fn side(name: &str) -> (Aviary, Settings) {
    let url = format!("memory:{name}");
    let bucket = Bucket::at(&url).unwrap();
    let (aviary, port) = Aviary::start(&bucket.below("files").unwrap()).await;
    let set = vec!["milvus.address=127.0.0.1".into(), format!("milvus.port={port}"), "backup.pauseGC=false".into()];
    let mut settings = read(&Given { set, ..Given::default() }).unwrap().settings;
    for side in [&mut settings.storage, &mut settings.backup] {
        side.config = eyrie_backup::bucket::BucketConfig::new(eyrie_backup::bucket::BucketUrl::parse(&url).unwrap());
    }
    (settings.storage.root, settings.backup.root) = ("files".into(), "files/backup".into());
    (aviary, settings)
}

async fn moved(from: &Settings, to: &Settings, options: &Options) -> Result<moving::Moved> {
    moving::run(from, to, options, &Tell::nobody()).await
}

async fn backups(settings: &Settings) -> usize {
    eyrie_backup::logical::store::Store::open(settings).unwrap().list().await.unwrap().len()
}

#[tokio::test]
async fn collections_move_and_the_source_stays() {
    let ((source, from), (target, to)) = (side("move-a").await, side("move-b").await);
    source.add("birds", &[(10, 0), (7, 2)]).await;
    source.add("eggs", &[(3, 0)]).await;
    let before = source.rows();
    let options = Options::default();
    let plan = moving::plan(&from, &to, &options).await.unwrap();
    assert_eq!((plan.collections.len(), plan.state), (2, None));
    assert!(target.rows().is_empty(), "a plan made something");
    let done = moved(&from, &to, &options).await.unwrap();
    assert!(done.is_whole() && !done.kept, "{done:?}");
    assert_eq!((target.rows()["birds"], target.rows()["eggs"]), (15, 3));
    assert_eq!(source.rows(), before);
    assert_eq!((backups(&from).await, backups(&to).await), (0, 0), "the backup in between was left");

    // Names that are taken are known before anything is copied.
    let why = moved(&from, &to, &options).await.unwrap_err();
    assert!(why.kind == Kind::Exists && why.what.contains("default.birds"), "{why}");
    assert_eq!(backups(&to).await, 0);
    let renames = Renames::parse("", "_again").unwrap();
    let again = Options {
        name: Some(BackupName::parse("kept").unwrap()),
        restore: restore::Options { renames, ..restore::Options::default() },
        keep: true,
        ..Options::default()
    };
    assert!(moved(&from, &to, &again).await.unwrap().kept);
    assert_eq!((target.rows()["birds_again"], backups(&to).await), (15, 1));
    assert_eq!(moving::check(&from, &from, &options).unwrap_err().kind, Kind::Request);
    moving::check(&from, &to, &options).unwrap();
}

/// Killed at every call to the source and to the target: the same move goes on, and what it can't know it says.
#[tokio::test]
async fn a_move_is_killed_at_every_call_to_either_milvus() {
    let (mut gone_on, mut unsure) = (0, 0);
    for of_target in [false, true] {
        for number in 1.. {
            let name = format!("move-{of_target}-{number}");
            let ((source, from), (target, to)) = (side(&name).await, side(&format!("{name}-to")).await);
            source.add("birds", &[(4, 1), (6, 0)]).await;
            let held = if of_target { &target } else { &source };
            let options = Options::default();
            let done = tokio::select! {
                biased;
                () = held.hold(number, Held::Before) => None,
                done = moved(&from, &to, &options) => Some(done),
            };
            held.let_go();
            if let Some(done) = done {
                assert!(done.unwrap().is_whole());
                assert!(number > 8, "only {number} calls");
                break;
            }
            let again = moved(&from, &to, &options).await.unwrap();
            if again.is_whole() {
                gone_on += 1;
            } else {
                unsure += 1;
                assert!(again.restored.failed[0].1.what.contains("is not known"), "{name}: {again:?}");
                let drop = restore::Options { drop_exist_collection: true, ..restore::Options::default() };
                let again = moved(&from, &to, &Options { restore: drop, ..Options::default() }).await.unwrap();
                assert!(again.is_whole(), "{name}: {again:?}");
            }
            assert_eq!(target.rows()["birds"], 9, "{name}");
            assert_eq!((source.rows()["birds"], backups(&to).await), (10, 0), "{name}");
        }
    }
    assert!((1..=4).contains(&unsure), "two segments are handed over side by side: {unsure}");
    assert!(gone_on > 20, "{gone_on}");
}

/// Limits hold: bytes to the backups' place, and calls to both stores.
#[tokio::test(start_paused = true)]
async fn limits_hold() {
    let (source, mut settings) = side("limits").await;
    source.add("birds", &[(1000, 0)]).await;
    let heard = Arc::new(Mutex::new(0));
    let count = heard.clone();
    let tell = Tell::new(move |news| {
        if let News::Done { bytes, .. } = news {
            *count.lock().unwrap() += bytes;
        }
    });
    settings.bytes_per_sec = Some(500);
    settings.requests_per_sec = Some(10);
    let doors = eyrie_backup::logical::Doors::open(&settings).await.unwrap();
    let began = tokio::time::Instant::now();
    let options = eyrie_backup::logical::create::Options::default();
    eyrie_backup::logical::create::create(&doors, &settings, &options, &tell).await.unwrap();
    let (took, bytes) = (began.elapsed().as_secs_f64(), *heard.lock().unwrap());
    assert!(bytes > 500 && took >= bytes as f64 / 500.0, "{bytes} bytes took {took} s");

    let pace = Pace::new(10);
    let bucket = Bucket::memory().with_requests(Some(pace));
    let began = tokio::time::Instant::now();
    for number in 0..20 {
        bucket.put(&format!("k{number}"), "v").await.unwrap();
    }
    assert_eq!(began.elapsed().as_secs(), 2);
}
