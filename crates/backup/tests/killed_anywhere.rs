//! A run that dies at any call of the archive's bucket is continued by the next one, and nothing half counts.

#![allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]

mod kit;

use std::collections::{BTreeMap, BTreeSet};

use eyrie_archive::{Ask, At, Scope};
use eyrie_backup::bucket::Bucket;
use eyrie_backup::bucket::faults::{Faults, Mishap};
use eyrie_backup::inside;
use eyrie_backup::objects::read_index;
use eyrie_backup::seal::Identities;
use futures::StreamExt;
use kit::{Etcd, Segment, backup, must_be_recoverable, take};

/// Runs side by side: each has its own archive, and mostly waits before it tries again.
const AT_ONCE: usize = 48;

#[tokio::test]
async fn the_next_run_converges() {
    let mut etcd = Etcd::start().await;
    let segment = Segment::recorded();
    assert!(segment.keys.len() >= 3 && segment.objects.len() >= 3, "{:?}", segment.objects);
    let milvus = Bucket::memory();
    segment.store(&milvus).await;
    let revision = segment.write(&mut etcd).await;
    let (clean, faults) = Faults::over(&Bucket::memory());
    take(&backup(&etcd, Some(&milvus), &clean).await).await.unwrap();
    let wanted = read_index(&clean, &kit::must_be_whole(&clean).await).await.unwrap().len();
    assert!(wanted >= 3, "only {wanted} objects are wanted");
    // what follows ends at another number of calls now and then: some more are tried
    let calls = faults.calls() + 4;
    let deaths = (1..=calls).flat_map(|call| Mishap::DEATHS.map(|death| (call, death)));
    let (etcd, milvus) = (&etcd, &milvus);
    futures::stream::iter(deaths)
        .for_each_concurrent(AT_ONCE, |(call, death)| async move {
            let (archive, faults) = Faults::over(&Bucket::memory());
            faults.at(call, death);
            let first = take(&backup(etcd, Some(milvus), &archive).await).await;
            assert!(first.is_err() || !faults.is_dead(), "dead at call {call}, and nobody noticed");
            faults.clear();
            let second = take(&backup(etcd, Some(milvus), &archive).await).await;
            assert!(second.is_ok(), "after {death:?} at call {call}: {}", second.unwrap_err());
            must_be_recoverable(&archive, revision, wanted).await;
        })
        .await;
}

#[tokio::test]
async fn passing_faults_change_nothing() {
    let mut etcd = Etcd::start().await;
    let segment = Segment::recorded();
    let milvus = Bucket::memory();
    segment.store(&milvus).await;
    let revision = segment.write(&mut etcd).await;
    for seed in 0..4 {
        let (archive, faults) = Faults::over(&Bucket::memory());
        faults.by_chance(seed, 100);
        take(&backup(&etcd, Some(&milvus), &archive).await).await.unwrap();
        faults.clear();
        let catalog = kit::must_be_whole(&archive).await;
        // not with what the archive itself says, but with what was written
        let at = At::Revision(eyrie_archive::Revision(revision));
        let target = catalog.resolve(Ask { at, timeline: None, scope: Scope::Everything }).unwrap();
        let nobody = Identities::default();
        let space = inside::keys_at(&archive, &target, &nobody, &std::env::temp_dir()).await.unwrap();
        let mut keys: BTreeMap<Vec<u8>, Vec<u8>> = segment.keys.iter().cloned().collect();
        keys.insert(b"ready".to_vec(), Vec::new());
        let found = space.pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), keys, "seed {seed}");
        let index = read_index(&archive, &catalog).await.unwrap();
        let copied: BTreeSet<String> = index.entries().map(|entry| entry.source.to_string()).collect();
        let written: BTreeSet<String> = segment.needed().map(str::to_owned).collect();
        assert!(written.len() >= 3 && copied == written, "seed {seed}: {copied:?} instead of {written:?}");
        for entry in index.entries() {
            let there = milvus.read(entry.source.as_str()).await.unwrap();
            assert_eq!(archive.read(entry.stored.path.as_str()).await.unwrap(), there, "{}", entry.source);
        }
    }
}

/// Whatever the archive's bucket answers to any call: the run ends well or says why, and the next one converges.
#[tokio::test]
async fn any_mishap_at_any_call_is_survived_or_told() {
    let mut etcd = Etcd::start().await;
    let segment = Segment::recorded();
    let milvus = Bucket::memory();
    segment.store(&milvus).await;
    let revision = segment.write(&mut etcd).await;
    let (clean, faults) = Faults::over(&Bucket::memory());
    take(&backup(&etcd, Some(&milvus), &clean).await).await.unwrap();
    let wanted = read_index(&clean, &kit::must_be_whole(&clean).await).await.unwrap().len();
    let calls = faults.calls();
    let step = if std::env::var_os("EYRIE_LONG").is_some() { 1 } else { 3 };
    let cases = (1..=calls).step_by(step).flat_map(|call| Mishap::ANSWERED.map(|mishap| (call, mishap)));
    let (etcd, milvus) = (&etcd, &milvus);
    futures::stream::iter(cases)
        .for_each_concurrent(AT_ONCE, |(call, mishap)| async move {
            let (archive, faults) = Faults::over(&Bucket::memory());
            faults.at(call, mishap);
            let first = take(&backup(etcd, Some(milvus), &archive).await).await;
            if let Err(error) = first {
                let words = error.to_string();
                assert!(words.contains("Next:"), "{mishap:?} at call {call}: what is to be done? {words}");
                faults.clear();
                let second = take(&backup(etcd, Some(milvus), &archive).await).await;
                assert!(second.is_ok(), "after {mishap:?} at call {call}: {}", second.unwrap_err());
            }
            // A run may make fewer calls than the clean one; what checks it must not meet the mishap.
            faults.clear();
            must_be_recoverable(&archive, revision, wanted).await;
        })
        .await;
}
