//! The process ends at every call in turn: to Milvus, before and after it did what it was asked for, and to each bucket.

use std::future::Future;

use eyrie_backup::bucket::faults::Faults;
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl};
use eyrie_backup::logical::restore::{self, Action};
use eyrie_backup::logical::store::State;
use eyrie_backup::logical::{Kind, Result};
use eyrie_milvus::logical::BackupName;
use futures::TryStreamExt;

use crate::aviary::Held;
use crate::{World, suffix, world, world_of};

/// Runs until the call with this number is held, and ends the run there; what it answered if it came to its end.
async fn until<T>(world: &World, number: usize, held: Held, run: impl Future<Output = T>) -> Option<T> {
    let done = tokio::select! {
        biased;
        () = world.aviary.hold(number, held) => None,
        done = run => Some(done),
    };
    world.aviary.let_go();
    done
}

/// Nothing of a restore is left, neither beside the backup nor in Milvus's storage.
async fn assert_nothing_is_left(world: &World) {
    let all: Vec<_> = world.doors.store.bucket().list("").try_collect().await.unwrap();
    let left: Vec<_> = all.iter().filter(|entry| entry.key.contains("restores")).collect();
    assert!(left.is_empty(), "{left:?}");
    let all: Vec<_> = world.aviary.bucket().list("").try_collect().await.unwrap();
    let left: Vec<_> = all.iter().filter(|entry| entry.key.contains("restore-temp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn create_is_killed_at_every_call_to_milvus() {
    for number in 1.. {
        let world = world().await;
        world.aviary.add("birds", &[(4, 1)]).await;
        if let Some(done) = until(&world, number, Held::Before, world.create("one")).await {
            done.unwrap();
            assert!(number > 8, "only {number} calls");
            break;
        }
        match world.states().await.as_slice() {
            [] | [(_, State::Incomplete)] => {}
            other => panic!("call {number}: {other:?}"),
        }
        world.create("one").await.unwrap();
        world.assert_sound("one").await;
    }
}

/// What the same restore did after one that was killed.
#[derive(Debug, Default)]
struct After {
    gone_on: usize,
    refused: usize,
}

impl After {
    /// Restores again: it goes on, or says what it can't know and what to type; then that is typed.
    async fn again(&mut self, world: &World, options: &restore::Options, rows: i64, place: &str) {
        let unsure = match world.restore("one", options).await {
            Ok(restored) if restored.failed.is_empty() => None,
            Ok(restored) => Some(restored.failed[0].1.clone()),
            Err(failure) => Some(failure),
        };
        match unsure {
            None => self.gone_on += 1,
            Some(failure) => {
                let says = failure.kind == Kind::Exists && failure.what.contains("is not known");
                assert!(says && failure.next.contains("--drop_exist_collection"), "{place}: {failure}");
                self.refused += 1;
                let replace =
                    restore::Options { drop_exist_collection: true, skip_create_collection: false, ..options.clone() };
                let restored = world.restore("one", &replace).await.unwrap();
                assert!(restored.failed.is_empty(), "{place}: {:?}", restored.failed);
            }
        }
        assert_eq!(world.aviary.rows()["birds_r"], rows, "{place}");
        assert_nothing_is_left(world).await;
        world.assert_sound("one").await;
    }
}

#[tokio::test]
async fn restore_is_killed_at_every_call_to_milvus() {
    let (mut after, mut calls) = (After::default(), usize::MAX);
    for held in [Held::Before, Held::After] {
        for number in 1..calls {
            let world = world().await;
            world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
            world.create("one").await.unwrap();
            if let Some(done) = until(&world, number, held, world.restore("one", &suffix("_r"))).await {
                assert!(done.unwrap().failed.is_empty());
                if held == Held::Before {
                    calls = number;
                    break;
                }
                // A call that only asks: to have been heard changes nothing.
                continue;
            }
            let there = world.aviary.rows().contains_key("birds_r");
            let listed = world.doors.store.list().await.unwrap();
            assert_eq!((listed.len(), &listed[0].state), (1, &State::Whole));
            assert!(!there || listed[0].restores[0].target == "default.birds_r", "{held:?} {number}: not told");
            after.again(&world, &suffix("_r"), 9, &format!("{held:?} {number}")).await;
        }
    }
    assert!(calls > 8 && after.gone_on > 8, "{calls} calls, {after:?}");
    // Two segments are handed over side by side, with and without effect; nothing else is unsure.
    assert!((2..=8).contains(&after.refused), "{after:?}");
}

/// Rows that are added to a collection that is there are not added twice.
#[tokio::test]
async fn filling_is_killed_at_every_call_to_milvus() {
    let fill = restore::Options { skip_create_collection: true, ..suffix("_r") };
    let mut gone_on = 0;
    for number in 1.. {
        let world = world().await;
        world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
        world.create("one").await.unwrap();
        world.restore("one", &suffix("_r")).await.unwrap();
        if let Some(done) = until(&world, number, Held::Before, world.restore("one", &fill)).await {
            assert!(done.unwrap().failed.is_empty());
            assert_eq!(world.aviary.rows()["birds_r"], 18);
            break;
        }
        let again = world.restore("one", &fill).await.unwrap();
        match again.failed.first() {
            None => {
                gone_on += 1;
                assert_eq!(world.aviary.rows()["birds_r"], 18, "call {number}");
                assert_nothing_is_left(&world).await;
            }
            Some((_, why)) => assert!(why.what.contains("is not known"), "call {number}: {why}"),
        }
    }
    assert!(gone_on > 5, "{gone_on}");
}

#[tokio::test]
async fn restore_is_killed_at_every_call_to_the_bucket() {
    let mut after = After::default();
    for number in 1.. {
        let world = world().await;
        world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
        world.create("one").await.unwrap();
        world.faults.restart_count();
        world.faults.kill_at(number);
        let first = world.restore("one", &suffix("_r")).await;
        let killed = world.faults.is_dead();
        world.faults.clear();
        if !killed {
            assert!(first.unwrap().failed.is_empty());
            assert!(number > 12, "only {number} calls");
            break;
        }
        // Killed while it forgot what it had done: then all is there, and the same restore finds the name taken.
        if first.is_err() && world.aviary.rows().get("birds_r") == Some(&9) {
            match world.restore("one", &suffix("_r")).await {
                Ok(restored) => assert_eq!(restored.done[0].1, 9, "call {number}"),
                Err(failure) => {
                    assert!(failure.what.contains("has default.birds_r already"), "call {number}: {failure}")
                }
            }
            continue;
        }
        after.again(&world, &suffix("_r"), 9, &format!("call {number}")).await;
    }
    assert!(after.gone_on > 8, "{after:?}");
}

/// Milvus can't read where the backups are: copies are made for it, and none is left, wherever the restore is killed.
#[tokio::test]
async fn restore_by_copies_is_killed_at_every_call_to_either_store() {
    let mut after = After::default();
    for of_milvus in [true, false] {
        for number in 1.. {
            let (storage, backups) = (Bucket::memory(), Bucket::memory());
            let mut world = world_of((&storage, "memory:"), (&backups, "memory:")).await;
            world.settings.backup.config = BucketConfig::new(BucketUrl::parse("memory:elsewhere").unwrap());
            world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
            world.create("one").await.unwrap();
            let (faulty, of_storage) = Faults::over(&storage.below("files").unwrap());
            world.doors.storage = faulty;
            let faults = if of_milvus { of_storage } else { world.faults.clone() };
            faults.restart_count();
            faults.kill_at(number);
            let first = world.restore("one", &suffix("_r")).await;
            let killed = faults.is_dead();
            faults.clear();
            if !killed {
                assert!(first.unwrap().failed.is_empty());
                assert_nothing_is_left(&world).await;
                break;
            }
            if first.is_err() && world.aviary.rows().get("birds_r") == Some(&9) {
                continue;
            }
            after.again(&world, &suffix("_r"), 9, &format!("Milvus's {of_milvus}, call {number}")).await;
        }
    }
    assert!(after.gone_on > 30, "{after:?}");
}

/// Of two collections one fails: the same restore leaves the other as it is, unless somebody made it anew meanwhile.
#[tokio::test]
async fn what_is_whole_is_not_restored_again() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.aviary.add("eggs", &[(3, 0)]).await;
    world.create("one").await.unwrap();
    let name = BackupName::parse("one").unwrap();
    let all: Vec<_> = world.doors.store.bucket().list("one/binlogs/delta_log").try_collect().await.unwrap();
    let good = world.doors.store.bucket().read(&all[0].key).await.unwrap();
    let mut bad = good.to_vec();
    bad[0] ^= 1;
    world.doors.store.bucket().put(&all[0].key, bad).await.unwrap();
    let restored = world.restore("one", &suffix("_r")).await.unwrap();
    assert_eq!((restored.done.len(), restored.failed.len()), (1, 1), "{:?}", restored.failed);
    let listed = world.doors.store.list().await.unwrap();
    assert_eq!(listed[0].restores.iter().filter(|one| one.rows.is_some()).count(), 1, "{:?}", listed[0].restores);

    world.doors.store.bucket().put(&all[0].key, good).await.unwrap();
    let items = restore::plan(&world.doors, &name, &suffix("_r")).await.unwrap();
    let actions: Vec<Action> = items.iter().map(|item| item.action).collect();
    assert_eq!(actions, [Action::GoOn, Action::Keep]);
    let restored: Result<_> = world.restore("one", &suffix("_r")).await;
    assert_eq!(restored.unwrap().done.len(), 2);
    assert_eq!((world.aviary.rows()["birds_r"], world.aviary.rows()["eggs_r"]), (3, 3));
    assert_nothing_is_left(&world).await;
    let taken = world.restore("one", &suffix("_r")).await.unwrap_err();
    assert_eq!(taken.kind, Kind::Exists, "a restore that is done begins anew: {taken}");
}

/// A collection that is being restored is left alone by a second restore, and its backup is not deleted.
#[tokio::test]
async fn two_restores_do_not_fill_one_collection() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
    world.create("one").await.unwrap();
    let options = suffix("_r");
    let first = world.restore("one", &options);
    let second = async {
        // The sixth call: the collection is there, and nothing is imported yet.
        world.aviary.hold(6, Held::Before).await;
        let busy = world.restore("one", &options).await.unwrap_err();
        assert!(busy.kind == Kind::Exists && busy.what.contains("is being restored by"), "{busy}");
        let name = BackupName::parse("one").unwrap();
        let kept = world.doors.store.plan_delete(&name).await.unwrap_err();
        assert!(kept.what.contains("is being restored"), "{kept}");
    };
    tokio::select! {
        _ = first => panic!("it was not held"),
        () = second => {}
    }
}
