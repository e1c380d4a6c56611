//! What happens to history: it goes on, it is compacted, it is fought over, objects vanish.

mod kit;
#[path = "history/strides.rs"]
mod strides;

use std::time::Duration;

use eyrie_archive::record::GapCause;
use eyrie_archive::{Ask, At, Scope};
use eyrie_backup::bucket::Bucket;
use eyrie_backup::catalog::{self, ArchiveError, OpenOptions};
use eyrie_backup::inside;
use eyrie_backup::objects::read_index;
use eyrie_backup::seal::Identities;
use eyrie_backup::tail::orders::desk;
use eyrie_backup::tail::run::Until;
use eyrie_backup::take::BackupError;
use kit::{Etcd, Segment, backup, must_be_recoverable, must_be_whole, take};
use tokio::sync::oneshot;

#[tokio::test]
async fn every_revision_is_what_it_was() {
    let mut etcd = Etcd::start().await;
    let archive = Bucket::memory();
    etcd.put("a", "before").await;
    let backup = backup(&etcd, None, &archive).await;
    take(&backup).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let tail = tokio::spawn(async move {
        backup.run(Until::Stopped, &OpenOptions::default(), async { drop(stopped.await) }).await
    });
    let mut expected = Vec::new();
    for n in 0..300 {
        let revision = etcd.put(format!("key-{}", n % 7), format!("value-{n}")).await;
        expected.push((revision, format!("key-{}", n % 7), Some(format!("value-{n}"))));
        if n % 10 == 9 {
            let revision = etcd.delete(format!("key-{}", n % 7)).await;
            expected.push((revision, format!("key-{}", n % 7), None));
        }
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    let last = expected.last().unwrap().0;
    wait_for(&archive, last).await;
    stop.send(()).unwrap();
    let done = tail.await.unwrap().unwrap();
    assert!(done.pieces > 1, "{done:?}");
    let catalog = must_be_whole(&archive).await;
    for (revision, key, value) in expected.iter().step_by(17).chain(expected.last()) {
        let at = At::Revision(eyrie_archive::Revision(*revision));
        let target = catalog.resolve(Ask { at, timeline: None, scope: Scope::MetadataOnly }).unwrap();
        let space = inside::keys_at(&archive, &target, &Identities::default(), &std::env::temp_dir()).await.unwrap();
        let found = space.pairs.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(found, *value, "{key} at revision {revision}");
        assert_eq!(space.revision.0, *revision);
    }
}

#[tokio::test]
async fn short_pieces_become_one_and_the_chain_goes_on() {
    let mut etcd = Etcd::start().await;
    let archive = Bucket::memory();
    let mut run = backup(&etcd, None, &archive).await;
    // pieces are short: two changes at most
    run.config.tail.segment_bytes = 1 << 20;
    let (stop, stopped) = oneshot::channel::<()>();
    let tail =
        tokio::spawn(
            async move { run.run(Until::Stopped, &OpenOptions::default(), async { drop(stopped.await) }).await },
        );
    let mut expected = Vec::new();
    // more than one merged piece may hold, so that a span is over before its time
    for n in 0..30 {
        let revision = etcd.put(format!("key-{}", n % 5), vec![n; 900_000]).await;
        expected.push((revision, format!("key-{}", n % 5), n));
        if n == 20 {
            wait_for(&archive, revision).await;
        }
    }
    wait_for(&archive, expected.last().unwrap().0).await;
    stop.send(()).unwrap();
    tail.await.unwrap().unwrap();
    // the next run names what the last one ended with
    let again = backup(&etcd, None, &archive).await;
    let revision = etcd.put("key-0", vec![77; 10]).await;
    expected.push((revision, "key-0".into(), 77));
    take(&again).await.unwrap();
    let catalog = must_be_whole(&archive).await;
    let line = catalog.current();
    let merged = line.tail.values().filter(|piece| piece.segment.followed_as.is_some()).count();
    assert!(merged >= 1, "nothing was merged: {:#?}", line.tail.keys());
    assert!(catalog.superseded().map(|(_, old)| old.files.len()).sum::<usize>() >= 5);
    for (revision, key, n) in expected {
        let at = At::Revision(eyrie_archive::Revision(revision));
        let target = catalog.resolve(Ask { at, timeline: None, scope: Scope::MetadataOnly }).unwrap();
        let space = inside::keys_at(&archive, &target, &Identities::default(), &std::env::temp_dir()).await.unwrap();
        assert_eq!(space.pairs[key.as_bytes()][0], n, "{key} at revision {revision}");
    }
}

#[tokio::test]
async fn history_that_is_compacted_is_a_named_gap_and_a_new_full_follows() {
    let mut etcd = Etcd::start().await;
    let archive = Bucket::memory();
    let backup = backup(&etcd, None, &archive).await;
    let first = take(&backup).await.unwrap().revision;
    for n in 0..20 {
        etcd.put("a", n.to_string()).await;
    }
    let compacted = etcd.put("b", "x").await;
    etcd.compact(compacted).await;
    let last = etcd.put("c", "x").await;
    take(&backup).await.unwrap();
    let catalog = must_be_whole(&archive).await;
    let gaps: Vec<_> = catalog.current().gaps.iter().map(|gap| (gap.found.from.0, gap.found.cause)).collect();
    assert_eq!(gaps, [(first + 1, GapCause::Compacted)]);
    let ask = |revision| {
        let at = At::Revision(eyrie_archive::Revision(revision));
        catalog.resolve(Ask { at, timeline: None, scope: Scope::MetadataOnly })
    };
    assert!(ask(first).is_ok() && ask(last).is_ok());
    let why = ask(first + 5).unwrap_err().to_string();
    assert!(why.contains("compacted"), "{why}");
}

#[tokio::test]
async fn a_damaged_index_stops_neither_the_next_run_nor_the_running_one() {
    let mut etcd = Etcd::start().await;
    let (archive, milvus) = (Bucket::memory(), Bucket::memory());
    let segment = Segment::recorded();
    segment.store(&milvus).await;
    let revision = segment.write(&mut etcd).await;
    let backup = backup(&etcd, Some(&milvus), &archive).await;
    take(&backup).await.unwrap();
    let objects = read_index(&archive, &must_be_whole(&archive).await).await.unwrap().len();
    assert!(objects >= 3);
    spoil_index(&archive).await;
    let done = take(&backup).await.unwrap();
    assert_eq!(done.objects, 0, "what lies in the archive is not copied again");
    must_be_recoverable(&archive, revision, objects).await;
    // beside a running tail, as the agent has it done
    let (desk, mut orders) = desk();
    let (stop, stopped) = oneshot::channel::<()>();
    let tail = tokio::spawn(async move {
        let stop = async { drop(stopped.await) };
        backup.run_with(Until::Stopped, &OpenOptions::default(), Some(&mut orders), stop).await
    });
    let last = etcd.put("a", "x").await;
    wait_for(&archive, last).await;
    spoil_index(&archive).await;
    desk.mend_index().await;
    for tries in 0.. {
        let catalog = catalog::read(&archive, None).await.unwrap().catalog;
        if read_index(&archive, &catalog).await.is_ok_and(|index| index.len() == objects) {
            break;
        }
        assert!(tries < 300, "nobody mends the index");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.send(()).unwrap();
    tail.await.unwrap().unwrap();
    must_be_recoverable(&archive, last, objects).await;
}

async fn spoil_index(archive: &Bucket) {
    let catalog = catalog::read(archive, None).await.unwrap().catalog;
    let pieces: Vec<String> = catalog.pieces().map(|(_, piece)| piece.stored.path.to_string()).collect();
    assert!(!pieces.is_empty());
    for piece in pieces {
        archive.put(&piece, "spoilt").await.unwrap();
    }
    assert!(read_index(archive, &catalog).await.is_err());
}

#[tokio::test]
async fn the_first_of_two_writers_stops_and_says_who_took_over() {
    let mut etcd = Etcd::start().await;
    let archive = Bucket::memory();
    let one = backup(&etcd, None, &archive).await;
    let two = one.clone();
    let first =
        tokio::spawn(async move { one.run(Until::Stopped, &OpenOptions::default(), std::future::pending()).await });
    wait_for(&archive, 1).await;
    take(&two).await.unwrap();
    etcd.put("a", "x").await;
    let ended = tokio::time::timeout(Duration::from_secs(20), first).await.unwrap().unwrap();
    let me = catalog::read(&archive, None).await.unwrap().catalog.writer().clone();
    match ended {
        Err(BackupError::Archive(ArchiveError::Fenced { by, .. })) => assert_eq!(by, me.as_str()),
        other => panic!("the first writer went on: {other:?}"),
    }
    must_be_whole(&archive).await;
}

#[tokio::test]
async fn an_object_that_vanished_is_a_hole_until_nothing_needs_it() {
    let mut etcd = Etcd::start().await;
    let segment = Segment::recorded();
    let (milvus, archive) = (Bucket::memory(), Bucket::memory());
    segment.store(&milvus).await;
    let lost = segment.objects.iter().map(|(path, _)| path).find(|path| path.contains("insert_log")).unwrap();
    // one that is wanted
    let kept = read_wanted(&etcd, &segment, &milvus).await;
    let lost = kept.iter().find(|path| path.contains("insert_log")).unwrap_or(lost).clone();
    milvus.delete(&lost).await.unwrap();
    let revision = segment.write(&mut etcd).await;
    let backup = backup(&etcd, Some(&milvus), &archive).await;
    take(&backup).await.unwrap();
    let catalog = must_be_whole(&archive).await;
    let holes: Vec<_> = catalog.current().holes.values().collect();
    assert_eq!(holes.len(), 1, "{holes:#?}");
    assert_eq!(holes[0].found.objects[0].as_str(), lost);
    assert_eq!(holes[0].found.to, None);
    // Milvus drops the segment: from here on everything is recoverable again
    let mut dropped = revision;
    for (key, _) in &segment.keys {
        dropped = etcd.delete(key).await;
    }
    take(&backup).await.unwrap();
    must_be_recoverable(&archive, dropped, kept.len() - 1).await;
    let at = At::Revision(eyrie_archive::Revision(revision));
    let catalog = must_be_whole(&archive).await;
    let why = catalog.resolve(Ask { at, timeline: None, scope: Scope::Everything }).unwrap_err().to_string();
    assert!(why.contains("gone"), "{why}");
}

/// The objects that a whole archive of the segment has.
async fn read_wanted(_: &Etcd, segment: &Segment, milvus: &Bucket) -> Vec<String> {
    let mut etcd = Etcd::start().await;
    segment.write(&mut etcd).await;
    let archive = Bucket::memory();
    take(&backup(&etcd, Some(milvus), &archive).await).await.unwrap();
    let index = eyrie_backup::objects::read_index(&archive, &must_be_whole(&archive).await).await.unwrap();
    index.entries().map(|entry| entry.source.as_str().to_owned()).collect()
}

async fn wait_for(archive: &Bucket, revision: i64) {
    for _ in 0..300 {
        if let Ok(reading) = catalog::read(archive, None).await
            && reading.catalog.current().tail_head.is_some_and(|head| head.0 >= revision)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the archive does not come to revision {revision}");
}
