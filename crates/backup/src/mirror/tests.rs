//! Mirrors between buckets of memory and folders, with and without trouble.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use proptest::prelude::*;

use super::{Failure, MirrorError, Options, Plan, Progress, Report, Round, Why, differs, mirror, plan, watch};
use crate::bucket::faults::{Faults, Mishap};
use crate::bucket::{Action, Bucket, BucketConfig, BucketUrl, Entry, RetryConfig, Stat};

fn hasty() -> Bucket {
    let retry = RetryConfig { attempts: 4, total_secs: 60, pause_first_millis: 1, pause_max_millis: 2 };
    let url = BucketUrl::parse("memory:").unwrap();
    Bucket::open(&BucketConfig { retry, timeout_secs: 1, parallel: 4, ..BucketConfig::new(url) }).unwrap()
}

async fn filled(objects: usize) -> Bucket {
    let bucket = hasty();
    for n in 0..objects {
        bucket.put(&format!("dir{}/object{n:03}", n % 7), format!("content {n}").repeat(n + 1)).await.unwrap();
    }
    bucket
}

async fn contents(bucket: &Bucket) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let entries: Vec<Entry> = bucket.list("").try_collect().await.unwrap();
    for entry in entries {
        all.insert(entry.key.clone(), bucket.read(&entry.key).await.unwrap().to_vec());
    }
    all
}

async fn run(source: &Bucket, target: &Bucket, options: &Options) -> (Plan, Report) {
    mirror(source, target, options, &()).await.unwrap()
}

#[tokio::test]
async fn a_second_run_moves_only_what_changed() {
    let source = filled(100).await;
    let target = hasty();
    let (_, first) = run(&source, &target, &Options::default()).await;
    assert_eq!((first.copied, first.failed, first.moved_bytes), (100, 0, first.copied_bytes));
    assert_eq!(contents(&source).await, contents(&target).await);
    let (plan, second) = run(&source, &target, &Options::default()).await;
    assert!(plan.is_empty());
    assert_eq!((second.copied, second.same, second.moved_bytes), (0, 100, 0));
    source.put("dir1/object001", "changed!").await.unwrap();
    source.put("new", "new").await.unwrap();
    let (plan, third) = run(&source, &target, &Options::default()).await;
    assert_eq!((third.copied, third.moved_bytes), (2, 11));
    assert_eq!(plan.copies.iter().map(|step| step.key.as_str()).collect::<Vec<_>>(), ["dir1/object001", "new"]);
    assert!(matches!(plan.copies[0].why, Why::Length { .. }) && plan.copies[1].why == Why::Missing);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let (source, target) = (filled(5).await, hasty());
    target.put("extra", "x").await.unwrap();
    let options = Options { dry_run: true, remove: true, ..Options::default() };
    let (plan, report) = run(&source, &target, &options).await;
    assert_eq!((plan.copies.len(), plan.removals.len(), report.copied, report.removed), (5, 1, 0, 0));
    assert_eq!(contents(&target).await.len(), 1);
}

#[tokio::test]
async fn removing_waits_for_all_copies_and_refuses_an_empty_source() {
    let (source, target) = (filled(5).await, hasty());
    target.put("extra", "x").await.unwrap();
    let (_, kept) = run(&source, &target, &Options::default()).await;
    assert_eq!((kept.extra, kept.removed), (1, 0));
    let options = Options { remove: true, ..Options::default() };

    let (broken, faults) = Faults::over(&source);
    source.put("late", "late").await.unwrap();
    faults.on(Action::Read, Mishap::Busy);
    let (_, report) = run(&broken, &target, &options).await;
    assert_eq!((report.failed, report.removed), (1, 0));
    assert!(report.stopped.as_ref().unwrap().contains("not removed"), "{report:?}");
    assert!(contents(&target).await.contains_key("extra"));

    let (_, report) = run(&source, &target, &options).await;
    assert_eq!((report.copied, report.removed, report.is_complete()), (1, 1, true));
    assert_eq!(contents(&source).await, contents(&target).await);

    let refused = mirror(&hasty(), &target, &options, &()).await.unwrap_err();
    assert!(refused.to_string().contains("the source is empty: nothing removed"), "{refused}");
    assert_eq!(contents(&target).await.len(), 6);
    let forced = Options { remove_if_source_is_empty: true, ..options };
    run(&hasty(), &target, &forced).await;
    assert!(contents(&target).await.is_empty());
}

#[tokio::test]
async fn equal_lengths_are_found_out_by_content() {
    let (source, target) = (filled(20).await, hasty());
    run(&source, &target, &Options::default()).await;
    target.put("dir3/object003", "c0ntent 3".repeat(4)).await.unwrap();
    assert!(run(&source, &target, &Options::default()).await.0.is_empty(), "by length and time it looks the same");
    let (plan, report) = run(&source, &target, &Options { checksum: true, ..Options::default() }).await;
    assert_eq!((plan.copies.len(), plan.same, report.copied), (1, 19, 1));
    assert_eq!(plan.copies[0].why, Why::Content);
    assert_eq!(contents(&source).await, contents(&target).await);
}

#[tokio::test]
async fn killed_at_every_call_the_next_run_does_the_rest() {
    let source = filled(6).await;
    let options = Options { remove: true, parallel: Some(2), ..Options::default() };
    let (target, faults) = Faults::over(&hasty());
    target.put("extra", "x").await.unwrap();
    faults.restart_count();
    run(&source, &target, &options).await;
    let calls = faults.calls();
    assert!(calls > 12, "{calls}");
    for number in 1..=calls {
        for mishap in [Mishap::Kill, Mishap::KillAfter] {
            let inner = hasty();
            inner.put("extra", "x").await.unwrap();
            let (target, faults) = Faults::over(&inner);
            faults.at(number, mishap);
            let ended = mirror(&source, &target, &options, &()).await;
            assert!(ended.is_err() || !ended.unwrap().1.is_complete(), "{number}");
            // Whatever has a name is whole.
            let full = contents(&source).await;
            for (key, content) in contents(&inner).await {
                assert!(key == "extra" || full[&key] == content, "{key}");
            }
            faults.clear();
            let (_, report) = run(&source, &target, &options).await;
            assert!(report.is_complete());
            assert_eq!(full, contents(&inner).await, "{mishap:?} at {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_on_both_sides_ends_equal() {
    for seed in 1..=10 {
        let source = filled(30).await;
        let (target_inner, source_inner) = (hasty(), source.clone());
        let (source, from) = Faults::over(&source);
        let (target, to) = Faults::over(&target_inner);
        from.by_chance(seed, 200);
        to.by_chance(seed + 100, 200);
        let mut complete = false;
        for _ in 0..20 {
            complete =
                mirror(&source, &target, &Options::default(), &()).await.is_ok_and(|(_, report)| report.is_complete());
        }
        let _ = complete;
        from.clear();
        to.clear();
        run(&source, &target, &Options::default()).await;
        assert_eq!(contents(&source_inner).await, contents(&target_inner).await, "seed {seed}");
    }
}

#[tokio::test]
async fn what_fails_for_all_stops_early_and_says_so() {
    for (mishap, word) in [(Mishap::Expired, "renew"), (Mishap::Full, "make room"), (Mishap::Denied, "permission")] {
        let source = filled(50).await;
        let (target, faults) = Faults::over(&hasty());
        faults.on(Action::Write, mishap);
        let (_, report) = run(&source, &target, &Options::default()).await;
        assert!(report.failed >= 1 && report.failed <= 4, "{}", report.failed);
        assert!(report.failures[0].error.contains(word) && report.stopped.is_some(), "{report:?}");
        assert!(!report.is_complete());
    }
}

#[tokio::test]
async fn links_in_the_source_are_named_and_make_the_run_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    let source = Bucket::at(dir.path().to_str().unwrap()).unwrap();
    let target = hasty();
    let (plan, report) = run(&source, &target, &Options { remove: true, ..Options::default() }).await;
    assert_eq!((report.copied, plan.gaps.len(), report.is_complete()), (1, 1, false));
    assert_eq!(plan.gaps[0].name, "link");
    // A missing source is an error, not an empty one; a missing target is made.
    let gone = Bucket::at(dir.path().join("gone").to_str().unwrap()).unwrap();
    assert!(matches!(mirror(&gone, &target, &Options::default(), &()).await, Err(MirrorError::Bucket(_))));
    let (_, report) = run(&target, &gone, &Options::default()).await;
    assert_eq!(report.copied, 1);
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn copied(&self, key: &str, _len: u64) {
        self.0.lock().unwrap().push(key.to_owned());
    }
    fn failed(&self, failure: &Failure) {
        panic!("{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_brings_what_comes_later_and_lives_through_bad_times() {
    let source = filled(2).await;
    let (flaky, faults) = Faults::over(&source);
    let target = hasty();
    let heard = Heard::default();
    let failed_rounds = Mutex::new(0);
    let tell = |round: Round| {
        if let Round::Failed { .. } = round {
            *failed_rounds.lock().unwrap() += 1;
        }
    };
    let script = async {
        tokio::time::sleep(Duration::from_secs(25)).await;
        source.put("later", "later").await.unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(target.read("later").await.unwrap(), "later");
        faults.on(Action::List, Mishap::Busy);
        tokio::time::sleep(Duration::from_secs(100)).await;
        faults.clear();
        source.put("after", "after").await.unwrap();
        tokio::time::sleep(Duration::from_secs(400)).await;
    };
    watch(&flaky, &target, &Options::default(), Duration::from_secs(10), &heard, &tell, script).await.unwrap();
    assert_eq!(target.read("after").await.unwrap(), "after");
    assert_eq!(heard.0.lock().unwrap().len(), 4);
    assert!(*failed_rounds.lock().unwrap() >= 2);
}

proptest! {
    /// After the plan is carried out, both sides have the same names, and what was the same was not touched.
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(
        source in proptest::collection::btree_map("[a-d]", (0_u64..3, 0_u64..5), 1..5),
        target in proptest::collection::btree_map("[a-d]", (0_u64..3, 0_u64..5), 0..5),
    ) {
        let stat = |(len, time): (u64, u64)| Stat {
            len, etag: None, modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(time)),
        };
        let entries = |side: &BTreeMap<String, (u64, u64)>| -> Vec<Entry> {
            side.iter().map(|(key, value)| Entry { key: key.clone(), stat: stat(*value) }).collect()
        };
        let made = plan(entries(&source), entries(&target), true, false).unwrap();
        let mut after = target.clone();
        for step in &made.copies {
            after.insert(step.key.clone(), (source[&step.key].0, 9));
        }
        for removal in &made.removals {
            prop_assert!(!source.contains_key(&removal.key));
            after.remove(&removal.key);
        }
        prop_assert_eq!(made.same as usize + made.copies.len(), source.len());
        prop_assert!(plan(entries(&source), entries(&after), true, false).unwrap().is_empty());
        for (key, value) in &source {
            let needed = differs(&stat(*value), target.get(key).map(|value| stat(*value)).as_ref());
            prop_assert_eq!(needed.is_some(), made.copies.iter().any(|step| &step.key == key));
        }
    }
}
