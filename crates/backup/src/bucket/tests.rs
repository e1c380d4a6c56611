//! The bucket over memory and over faults.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::faults::{Faults, Mishap};
use super::{Action, Bucket, BucketConfig, BucketError, BucketUrl, CopyCheck, Created, Kind, RetryConfig};
use crate::limits::PART_BYTES;

/// Memory with short pauses between attempts.
fn hasty(attempts: u32) -> Bucket {
    let retry = RetryConfig { attempts, total_secs: 60, pause_first_millis: 1, pause_max_millis: 2 };
    let url = BucketUrl::parse("memory:").unwrap();
    Bucket::open(&BucketConfig { retry, timeout_secs: 1, ..BucketConfig::new(url) }).unwrap()
}

#[tokio::test]
async fn memory_is_a_bucket() {
    super::conformance::run(&Bucket::memory()).await;
}

#[tokio::test]
async fn a_quiet_fault_bucket_is_a_bucket() {
    let (bucket, faults) = Faults::over(&Bucket::memory());
    super::conformance::run(&bucket).await;
    assert!(faults.calls() > 100);
}

#[tokio::test(start_paused = true)]
async fn half_of_all_calls_fail_and_all_is_well() {
    for seed in 1..=5 {
        let (bucket, faults) = Faults::over(&hasty(60));
        faults.by_chance(seed, 400);
        // Stale listings are what a listing may be: those are tried elsewhere.
        for n in 0..30 {
            let body = format!("{n}").repeat(n * 1000);
            let key = format!("k/{n}");
            bucket.put(&key, body.clone()).await.unwrap();
            assert_eq!(bucket.read(&key).await.unwrap(), body, "seed {seed}");
            assert_ne!(
                bucket.create(&format!("once/{n}"), body.clone()).await.unwrap(),
                Created::Conflict,
                "seed {seed}"
            );
            assert_eq!(bucket.read(&format!("once/{n}")).await.unwrap(), body, "seed {seed}");
        }
        let calls: Vec<_> = faults.log();
        assert!(calls.len() > 150, "{}", calls.len());
    }
}

#[tokio::test]
async fn the_same_seed_is_the_same_trouble() {
    let log = async |seed| {
        let (bucket, faults) = Faults::over(&hasty(60));
        faults.by_chance(seed, 300);
        for n in 0..20 {
            bucket.put(&format!("{n}"), "x").await.unwrap();
            bucket.read(&format!("{n}")).await.unwrap();
        }
        faults.log()
    };
    assert_eq!(log(7).await, log(7).await);
    assert_ne!(log(7).await, log(8).await);
}

#[tokio::test]
async fn a_lost_answer_after_success_is_success() {
    let (bucket, faults) = Faults::over(&hasty(5));
    faults.at(1, Mishap::LostAnswer);
    assert_eq!(bucket.create("marker", "mine").await.unwrap(), Created::Same);
    assert_eq!(bucket.create("marker", "your").await.unwrap(), Created::Conflict);
    let (bucket, faults) = Faults::over(&hasty(5));
    faults.at(1, Mishap::Refused);
    assert_eq!(bucket.create("free", "mine").await.unwrap(), Created::New);
    faults.on(Action::Create, Mishap::Refused);
    assert_eq!(bucket.create("never", "mine").await.unwrap_err().kind, Kind::Unavailable);
}

#[tokio::test]
async fn a_read_goes_on_where_it_broke_off_and_is_never_short() {
    for mishap in [Mishap::Busy, Mishap::Reset, Mishap::Truncated, Mishap::LostAnswer] {
        let bucket = hasty(5);
        let body: Bytes = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
        bucket.put("x", body.clone()).await.unwrap();
        let (bucket, faults) = Faults::over(&bucket);
        (1..=3).for_each(|number| faults.at(number, mishap));
        assert!(bucket.read("x").await.unwrap() == body, "{mishap:?}");
        assert_eq!(faults.calls(), 4, "{mishap:?}");
        faults.on(Action::Read, mishap);
        let reading = async { bucket.read_stream("x", ..).await?.bytes.try_collect::<Vec<_>>().await };
        let ended = tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
        // Every attempt brings half of the rest: those end well by halving, the others must fail.
        match mishap {
            Mishap::Reset | Mishap::Truncated => {}
            _ => assert_eq!(ended.unwrap_err().kind, Kind::Unavailable, "{mishap:?}"),
        }
    }
}

#[tokio::test]
async fn silence_is_a_failure_within_its_time() {
    let (bucket, faults) = Faults::over(&hasty(2));
    faults.on(Action::Stat, Mishap::Silence);
    let error = bucket.stat("x").await.unwrap_err();
    assert!(error.kind == Kind::Unavailable && error.cause.contains("tried 2 times"), "{error}");
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again_and_says_what_to_do() {
    for (mishap, kind, word) in [
        (Mishap::Expired, Kind::Expired, "renew"),
        (Mishap::Denied, Kind::Denied, "permission"),
        (Mishap::Locked, Kind::Locked, "lock"),
        (Mishap::Full, Kind::Full, "make room"),
    ] {
        let (bucket, faults) = Faults::over(&hasty(5));
        faults.on(Action::Write, mishap);
        faults.on(Action::Delete, mishap);
        for error in [bucket.put("a/b", "x").await.unwrap_err(), bucket.delete("a/b").await.unwrap_err()] {
            assert_eq!(error.kind, kind);
            let text = error.to_string();
            assert!(text.contains("memory:a/b") && text.contains("Next: ") && text.contains(word), "{text}");
        }
        assert_eq!(faults.calls(), 2, "{mishap:?}");
    }
}

#[tokio::test]
async fn a_killed_process_stays_dead_and_leaves_whole_objects() {
    let body = vec![5; 2 * PART_BYTES + 1];
    let stream = || futures::stream::iter([Ok::<_, BucketError>(Bytes::from(body.clone()))]);
    let (bucket, faults) = Faults::over(&hasty(3));
    bucket.write_stream("x", stream(), None).await.unwrap();
    let calls = faults.calls();
    assert!(calls >= 4, "{calls}");
    for number in 1..=calls {
        for mishap in [Mishap::Kill, Mishap::KillAfter] {
            let inner = hasty(3);
            let (bucket, faults) = Faults::over(&inner);
            faults.at(number, mishap);
            bucket.write_stream("x", stream(), None).await.unwrap_err();
            assert!(faults.is_dead() && bucket.stat("x").await.is_err());
            let found = inner.stat("x").await.unwrap();
            let last_call_done = number == calls && mishap == Mishap::KillAfter;
            assert_eq!(found.is_some(), last_call_done, "{mishap:?} at {number}");
            faults.clear();
            bucket.write_stream("x", stream(), None).await.unwrap();
            assert_eq!(inner.stat("x").await.unwrap().unwrap().len, body.len() as u64);
        }
    }
}

#[tokio::test]
async fn a_copy_that_breaks_in_its_middle_begins_again() {
    let source = hasty(2);
    source.put("big", vec![3; 3 * PART_BYTES]).await.unwrap();
    let (target, faults) = Faults::over(&hasty(2));
    faults.at(3, Mishap::Busy);
    let copied = target.copy_from(&source, "big", "big", CopyCheck::Length).await.unwrap();
    assert_eq!(copied.len, 3 * PART_BYTES as u64);
    assert_eq!(target.sha256("big").await.unwrap().1, copied.sha256.unwrap());
    faults.on(Action::Write, Mishap::Busy);
    assert_eq!(target.copy_from(&source, "big", "other", CopyCheck::Length).await.unwrap_err().kind, Kind::Unavailable);
    assert!(target.stat("other").await.unwrap().is_none());
}

#[tokio::test]
async fn a_stale_listing_lacks_the_new_and_shows_the_deleted() {
    let (bucket, faults) = Faults::over(&hasty(2));
    for key in ["a", "b", "c", "d", "e"] {
        bucket.put(key, key).await.unwrap();
    }
    bucket.delete("a").await.unwrap();
    faults.on(Action::List, Mishap::StaleList);
    let listed: Vec<_> = bucket.list("").map_ok(|entry| entry.key).try_collect().await.unwrap();
    assert_eq!(listed, ["b", "a"]);
    faults.clear();
    faults.on(Action::List, Mishap::Truncated);
    let broken: Result<Vec<_>, _> = bucket.list("").try_collect().await;
    assert_eq!(broken.unwrap_err().kind, Kind::Unavailable, "a listing that broke off must not pass for whole");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds() {
    let bucket = Bucket::memory().with_pace(Some(super::Pace::new(1 << 20)));
    let began = tokio::time::Instant::now();
    bucket.put("x", vec![0; 4 << 20]).await.unwrap();
    bucket.read("x").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 8);
}
