//! Mistakes: each has a kind, a sentence that names it, and what to type next; and none changes anything.

use eyrie_backup::logical::create::{self, Options};
use eyrie_backup::logical::restore;
use eyrie_backup::logical::store::State;
use eyrie_backup::logical::{Failure, Kind, Milvus, Tell};
use eyrie_milvus::logical::levels::{BACKUP, FULL};
use eyrie_milvus::logical::{BackupName, Filter};
use futures::TryStreamExt;

use crate::{World, suffix, world};

/// What was said, by whom it is to be settled, and words that must be in it.
struct Told<'t>(&'static str, Option<Failure>, Kind, &'t [&'t str]);

fn check(told: Vec<Told<'_>>) {
    for Told(mistake, failure, kind, words) in told {
        let failure = failure.unwrap_or_else(|| panic!("{mistake}: nobody said anything"));
        assert_eq!(failure.kind, kind, "{mistake}: {failure}");
        let said = failure.to_string();
        for word in words {
            assert!(said.contains(word), "{mistake}: `{word}` is not in\n{said}");
        }
        assert!(failure.next.len() > 10 && !failure.next.ends_with('.'), "{mistake}: {said}");
        assert!(!said.contains("canary"), "{mistake} tells a secret: {said}");
    }
}

async fn connected(
    world: &World,
    set: impl FnOnce(&mut eyrie_backup::logical::config::MilvusSettings),
) -> Option<Failure> {
    let mut settings = world.settings.milvus.clone();
    set(&mut settings);
    Milvus::connect(&settings).await.err()
}

async fn created(world: &World, filter: &str) -> Option<Failure> {
    let (name, filter) = (BackupName::parse("new").unwrap(), Filter::parse(filter).unwrap());
    let options = Options { name: Some(name), filter, ..Options::default() };
    create::create(&world.doors, &world.settings, &options, &Tell::nobody()).await.err()
}

/// What a restore said: as a whole, or of its first collection.
async fn restored(world: &World, name: &str, options: restore::Options) -> Option<Failure> {
    match world.restore(name, &options).await {
        Ok(restored) => restored.failed.into_iter().next().map(|(_, why)| why),
        Err(failure) => Some(failure),
    }
}

#[tokio::test]
async fn mistakes_are_told_and_change_nothing() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.create("one").await.unwrap();
    world.restore("one", &suffix("_there")).await.unwrap();
    world.aviary.gets_other_vectors("birds_there");
    let before = world.aviary.rows();
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let away = nobody.local_addr().unwrap().port();
    drop(nobody);

    world.aviary.asks_for(Some("cm9vdDpNaWx2dXM="));
    let stranger = connected(&world, |_| {}).await;
    let wrong = connected(&world, |milvus| {
        (milvus.user, milvus.password) = (Some("root".into()), Some(eyrie_backup::bucket::Secret::new("canary")));
    });
    let wrong = wrong.await;
    let right = connected(&world, |milvus| {
        (milvus.user, milvus.password) = (Some("root".into()), Some(eyrie_backup::bucket::Secret::new("Milvus")));
    });
    assert!(right.await.is_none());
    world.aviary.asks_for(None);
    world.aviary.has_version("v2.1.4");
    let old = connected(&world, |_| {}).await;
    world.aviary.has_version("v2.3.5");
    let filter = |text: &str| restore::Options { filter: Filter::parse(text).unwrap(), ..suffix("_new") };
    let fill = restore::Options { skip_create_collection: true, ..suffix("_there") };
    let nothing_to_fill = restore::Options { skip_create_collection: true, ..suffix("_new") };

    check(vec![
        Told("no login", stranger, Kind::Denied, &["does not let the user in", "milvus.user and milvus.password"]),
        Told("a wrong password", wrong, Kind::Denied, &["milvus.user and milvus.password"]),
        Told(
            "Milvus away",
            connected(&world, |milvus| milvus.port = away).await,
            Kind::Unavailable,
            &["can't be reached", "milvus.address"],
        ),
        Told("an old Milvus", old, Kind::Unsupported, &["2.1.4", "2.2 or newer", "upgrade"]),
        Told(
            "a collection that is not there",
            created(&world, "none").await,
            Kind::NotFound,
            &["default.none", "--filter"],
        ),
        Told(
            "one that the backup lacks",
            restored(&world, "one", filter("none")).await,
            Kind::NotFound,
            &["default.none"],
        ),
        Told("no such backup", restored(&world, "none", suffix("_new")).await, Kind::NotFound, &["none", "list"]),
        Told(
            "a name that is taken",
            restored(&world, "one", suffix("_there")).await,
            Kind::Exists,
            &["default.birds_there", "nothing was changed", "--drop_exist_collection"],
        ),
        Told(
            "another schema",
            restored(&world, "one", fill).await,
            Kind::Refused,
            &["another schema", "the field vector", "-s"],
        ),
        Told(
            "nothing to fill",
            restored(&world, "one", nothing_to_fill).await,
            Kind::NotFound,
            &["default.birds_new", "create them"],
        ),
        Told("a backup of that name", world.create("one").await.err(), Kind::Exists, &["there is a backup one", "-n"]),
    ]);
    assert_eq!(world.aviary.rows(), before);
    assert_eq!(world.states().await, [("one".into(), State::Whole)], "a mistake left a backup");
    world.assert_sound("one").await;
}

/// Each meta file is gone, cut in the middle, empty, or something else.
#[tokio::test]
async fn damaged_meta_is_told_before_anything_is_made() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.create("one").await.unwrap();
    let (bucket, name) = (world.doors.store.bucket(), BackupName::parse("one").unwrap());
    let before = world.aviary.rows();
    let mut newer: serde_json::Value = serde_json::from_slice(&bucket.read(&name.manifest()).await.unwrap()).unwrap();
    newer["version"] = 99.into();
    // One bit, and it is JSON still: another number of rows.
    let full = bucket.read(&name.meta(FULL)).await.unwrap();
    let place = full.windows(15).position(|bytes| bytes == b"\"num_of_rows\":4").unwrap() + 14;
    let mut flipped = full.to_vec();
    flipped[place] ^= 1;
    bucket.put(&name.meta(FULL), flipped).await.unwrap();
    let why = restored(&world, "one", suffix("_new")).await;
    check(vec![Told("a flipped bit", why, Kind::Damaged, &["full_meta.json is not what was written", "another copy"])]);
    assert_eq!(world.aviary.rows(), before);
    bucket.put(&name.meta(FULL), full).await.unwrap();
    for key in [name.meta(BACKUP), name.meta(FULL), name.manifest()] {
        let whole = bucket.read(&key).await.unwrap();
        let half = whole.slice(..whole.len() / 2);
        let short = key.rsplit('/').next().unwrap().to_owned();
        let newer = (key == name.manifest()).then(|| bytes::Bytes::from(newer.to_string()));
        for damaged in [Some(half), Some(bytes::Bytes::new()), Some("<html>".into()), newer].into_iter().flatten() {
            bucket.put(&key, damaged).await.unwrap();
            if key == name.meta(BACKUP) || key == name.manifest() {
                let states = world.states().await;
                assert!(matches!(states.as_slice(), [(_, State::Damaged(_))]), "{short}: {states:?}");
            }
            // What readers take is full_meta.json: the damage of another file does not keep anybody from the rows.
            if key != name.meta(BACKUP) {
                let why = restored(&world, "one", suffix("_new")).await;
                check(vec![Told("damaged meta", why, Kind::Damaged, &[&short, "Next:"])]);
                assert_eq!(world.aviary.rows(), before);
            }
            let found = eyrie_backup::logical::verify::verify(&world.doors.store, &name, true, &Tell::nobody()).await;
            assert!(found.unwrap().faults.iter().any(|fault| fault.contains(&short)), "verify does not see {short}");
        }
        bucket.delete(&key).await.unwrap();
        let why = restored(&world, "one", suffix("_new")).await;
        if key == name.meta(BACKUP) {
            assert_eq!(world.states().await, [("one".into(), State::Incomplete)]);
            check(vec![Told("no marker", why, Kind::Damaged, &["was not finished", "create -n one goes on"])]);
        } else if key == name.meta(FULL) {
            // The levels say the same.
            assert!(why.is_none(), "{why:?}");
            world.aviary.drop_collection_now("birds_new");
        } else {
            // As a backup that upstream wrote.
            assert!(why.is_none(), "{why:?}");
            world.aviary.drop_collection_now("birds_new");
        }
        bucket.put(&key, whole).await.unwrap();
    }
    world.assert_sound("one").await;
}

/// Logs of Milvus itself that are cut short, or none: that collection is not backed up, and the log is named.
#[tokio::test(start_paused = true)]
async fn damaged_logs_of_milvus_are_named() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.aviary.add("eggs", &[(3, 0)]).await;
    let storage = world.aviary.bucket();
    let all: Vec<_> = storage.list("insert_log/").try_collect().await.unwrap();
    let times = all.iter().find(|entry| entry.key.contains("/1/")).unwrap().key.clone();
    let whole = storage.read(&times).await.unwrap();
    for damaged in [whole.slice(..whole.len() - 1), whole.slice(..8), "no log at all".into()] {
        storage.put(&times, damaged).await.unwrap();
        let created = world.create("two").await.unwrap();
        assert_eq!(created.failed.len(), 1);
        let why = &created.failed[0].why;
        assert!(why.contains(&times), "{why}");
        let states = world.states().await;
        assert!(matches!(states.as_slice(), [(_, State::Partial(missing))] if missing.len() == 1), "{states:?}");
        let keys = world.doors.store.plan_delete(&created.name).await.unwrap();
        world.doors.store.delete(&keys, &Tell::nobody()).await.unwrap();
    }
}

/// A backup without checksums, as upstream writes it, with one bit of its tree flipped: refused with words, or restored with
/// every row that it then says it has; never a panic, and never a success with other rows.
#[tokio::test]
async fn each_bit_of_a_tree_without_checksums_may_flip() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.create("one").await.unwrap();
    let (bucket, name) = (world.doors.store.bucket(), BackupName::parse("one").unwrap());
    bucket.delete(&name.manifest()).await.unwrap();
    let full = bucket.read(&name.meta(FULL)).await.unwrap();
    let (mut refused, mut restored) = (0, 0);
    let step = if std::env::var_os("EYRIE_LONG").is_some() { 1 } else { 11 };
    for bit in (0..full.len() * 8).step_by(step) {
        let mut flipped = full.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bucket.put(&name.meta(FULL), flipped).await.unwrap();
        if restore::plan(&world.doors, &name, &suffix("_new")).await.is_err() {
            refused += 1;
            continue;
        }
        // Each eighth is tried to its end.
        if bit % 8 != bit / 8 % 8 {
            continue;
        }
        match world.restore("one", &suffix("_new")).await {
            Err(_) => refused += 1,
            Ok(done) => {
                for (target, rows) in &done.done {
                    assert_eq!(*rows, world.aviary.came(&target.name).len() as u64, "bit {bit}");
                    assert!(
                        *rows == 3
                            || bit_is_of(&full, bit, &["num_of_rows", "segment", "delta", "binlogs", "partition"])
                    );
                    restored += 1;
                }
            }
        }
        for made in world.aviary.rows().into_keys().filter(|made| made != "birds") {
            world.aviary.drop_collection_now(&made);
        }
        let folder = bucket.below("one/eyrie").unwrap();
        for entry in folder.list("").try_collect::<Vec<_>>().await.unwrap() {
            folder.delete(&entry.key).await.unwrap();
        }
    }
    assert!(refused > 50 && restored > 3, "{refused} refused, {restored} restored");
}

/// Whether a flipped bit lies near one of these words.
fn bit_is_of(full: &[u8], bit: usize, words: &[&str]) -> bool {
    let (from, to) = ((bit / 8).saturating_sub(60), (bit / 8 + 60).min(full.len()));
    let near = String::from_utf8_lossy(&full[from..to]).into_owned();
    words.iter().any(|word| near.contains(word))
}

/// A collection that is dropped while it is backed up is named as missing; the others are kept.
#[tokio::test(start_paused = true)]
async fn a_collection_may_be_dropped_meanwhile() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.aviary.add("eggs", &[(3, 0)]).await;
    world.aviary.never_flushes("birds");
    let drops = async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        world.aviary.drop_collection_now("birds");
        world.aviary.flushes_again();
    };
    let (created, ()) = tokio::join!(world.create("one"), drops);
    let created = created.unwrap();
    assert_eq!(created.failed.len(), 1, "{:?}", created.failed);
    assert!(created.failed[0].name == "birds" && created.failed[0].why.contains("not found"), "{:?}", created.failed);
    assert_eq!(world.states().await, [("one".into(), State::Partial(vec!["default.birds".into()]))]);
    let restored = world.restore("one", &suffix("_r")).await.unwrap();
    assert!(restored.failed.is_empty() && world.aviary.rows()["eggs_r"] == 3, "{restored:?}");
}
