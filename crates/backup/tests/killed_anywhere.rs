//! A run that dies at any call of the archive's bucket is continued by the next one, and nothing half counts.

#![allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]

mod kit;

use eyrie_backup::bucket::Bucket;
use eyrie_backup::bucket::faults::{Faults, Mishap};
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
    let wanted = eyrie_backup::objects::read_index(&clean, &kit::must_be_whole(&clean).await).await.unwrap().len();
    assert!(wanted >= 3, "only {wanted} objects are wanted");
    // what follows ends at another number of calls now and then: some more are tried
    let calls = faults.calls() + 4;
    let deaths = (1..=calls).flat_map(|call| [(call, Mishap::Kill), (call, Mishap::KillAfter)]);
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
        let wanted =
            eyrie_backup::objects::read_index(&archive, &kit::must_be_whole(&archive).await).await.unwrap().len();
        must_be_recoverable(&archive, revision, wanted).await;
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
    let wanted = eyrie_backup::objects::read_index(&clean, &kit::must_be_whole(&clean).await).await.unwrap().len();
    let calls = faults.calls();
    let mishaps = [
        Mishap::Busy,
        Mishap::Reset,
        Mishap::Truncated,
        Mishap::LostAnswer,
        Mishap::StaleList,
        Mishap::Expired,
        Mishap::Denied,
        Mishap::Refused,
        Mishap::Locked,
        Mishap::Full,
    ];
    let step = if std::env::var_os("EYRIE_LONG").is_some() { 1 } else { 3 };
    let cases = (1..=calls).step_by(step).flat_map(|call| mishaps.map(|mishap| (call, mishap)));
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
