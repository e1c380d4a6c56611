//! Logical backups against a Milvus that is small and exact: killed at every call to the bucket and to Milvus, a collection that
//! fails, logs that nobody counts, imports of nothing.

mod aviary;
mod cases;

use aviary::{Aviary, Row, Segment, log_of};
use eyrie_backup::bucket::faults::Faults;
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl};
use eyrie_backup::logical::config::{Given, Settings, read};
use eyrie_backup::logical::create::{self, Options};
use eyrie_backup::logical::restore::{self, Action};
use eyrie_backup::logical::store::{State, Store};
use eyrie_backup::logical::{Doors, Kind, Milvus, Tell, server, verify};
use eyrie_milvus::logical::levels::{BACKUP, COLLECTION, FULL, PARTITION, SEGMENT};
use eyrie_milvus::logical::{BackupName, Filter, Levels, Manifest, Renames, breaches};
use eyrie_milvus::salvage::Key;
use futures::TryStreamExt;

struct World {
    aviary: Aviary,
    settings: Settings,
    doors: Doors,
    faults: Faults,
}

/// One bucket in memory for Milvus (`files`) and the backups (`backup`), with a hand on what the backup does in it.
async fn world() -> World {
    world_over(Bucket::memory(), "memory:").await
}

/// The same in a bucket that has a name, so that it can be opened once more.
async fn world_in(name: &str) -> World {
    let url = format!("memory:{name}");
    world_over(Bucket::at(&url).unwrap(), &url).await
}

async fn world_over(bucket: Bucket, url: &str) -> World {
    world_of((&bucket, url), (&bucket, url)).await
}

/// Milvus's storage (`files`) in one bucket, and the backups (`files/backup`) in another or the same.
async fn world_of((bucket, url): (&Bucket, &str), (backups, backups_url): (&Bucket, &str)) -> World {
    let (aviary, port) = Aviary::start(&bucket.below("files").unwrap()).await;
    let given = Given {
        set: vec!["milvus.address=127.0.0.1".into(), format!("milvus.port={port}"), "backup.pauseGC=false".into()],
        ..Given::default()
    };
    let mut settings = read(&given).unwrap().settings;
    for (side, url) in [(&mut settings.storage, url), (&mut settings.backup, backups_url)] {
        side.config = BucketConfig::new(BucketUrl::parse(url).unwrap());
    }
    (settings.storage.root, settings.backup.root) = ("files".into(), "files/backup".into());
    let (faulty, faults) = Faults::over(&backups.below("files/backup").unwrap());
    let doors = Doors {
        milvus: Milvus::connect(&settings.milvus).await.unwrap(),
        storage: bucket.below("files").unwrap(),
        store: Store::over(faulty, settings.backup.clone()),
    };
    World { aviary, settings, doors, faults }
}

impl World {
    async fn create(&self, name: &str) -> eyrie_backup::logical::Result<create::Created> {
        let options = Options { name: Some(BackupName::parse(name).unwrap()), ..Options::default() };
        create::create(&self.doors, &self.settings, &options, &Tell::nobody()).await
    }

    async fn restore(
        &self,
        name: &str,
        options: &restore::Options,
    ) -> eyrie_backup::logical::Result<restore::Restored> {
        let name = BackupName::parse(name).unwrap();
        restore::restore(&self.doors, &self.settings, &name, options, &Tell::nobody()).await
    }

    async fn states(&self) -> Vec<(String, State)> {
        let listed = self.doors.store.list().await.unwrap();
        listed.into_iter().map(|one| (one.name.to_string(), one.state)).collect()
    }

    /// Sound by every byte, readable by a strict reader, and with nothing in its folder that it does not name.
    async fn assert_sound(&self, name: &str) {
        let name = BackupName::parse(name).unwrap();
        let found = verify::verify(&self.doors.store, &name, true, &Tell::nobody()).await.unwrap();
        assert_eq!(found.faults, Vec::<String>::new());
        let bucket = self.doors.store.bucket();
        let file = async |file: &str| bucket.read(&name.meta(file)).await.unwrap().to_vec();
        let levels = Levels {
            full: file(FULL).await,
            collection: file(COLLECTION).await,
            partition: file(PARTITION).await,
            segment: file(SEGMENT).await,
            backup: file(BACKUP).await,
        };
        assert_eq!(breaches(&levels), []);
        let all: Vec<_> = bucket.list(&name.folder()).try_collect().await.unwrap();
        assert_eq!(all.len() as u64, found.objects + 1, "something lies there that nothing names: {all:?}");
    }
}

fn suffix(suffix: &str) -> restore::Options {
    restore::Options { renames: Renames::parse("", suffix).unwrap(), ..restore::Options::default() }
}

#[tokio::test]
async fn what_is_backed_up_comes_back_counted() {
    let world = world().await;
    world.aviary.add("birds", &[(10, 0), (7, 2)]).await;
    world.aviary.add("eggs", &[]).await;
    let created = world.create("one").await.unwrap();
    assert_eq!((created.info.collection_backups.len(), created.copied.0), (2, 17));
    world.assert_sound("one").await;
    let restored = world.restore("one", &suffix("_r")).await.unwrap();
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!(world.aviary.rows()["birds_r"], 15, "ten, and seven less two");
    assert_eq!(world.aviary.rows()["eggs_r"], 0);
    let again = world.restore("one", &suffix("_r")).await.unwrap_err();
    assert_eq!(again.kind, Kind::Exists);
    let replace = restore::Options { drop_exist_collection: true, ..suffix("_r") };
    let name = BackupName::parse("one").unwrap();
    let items = restore::plan(&world.doors, &name, &replace).await.unwrap();
    assert!(items.iter().all(|item| item.action == Action::DropAndCreate));
    world.restore("one", &replace).await.unwrap();
    assert_eq!(world.aviary.rows()["birds_r"], 15);
    let keys = world.doors.store.plan_delete(&name).await.unwrap();
    assert_eq!(keys[0], "one/meta/backup_meta.json", "what makes it a backup goes first");
    world.doors.store.delete(&keys, &Tell::nobody()).await.unwrap();
    assert_eq!(world.states().await, []);
}

/// Milvus's import leaves out each row whose key was ever deleted: those that were written again afterwards come as new logs.
#[tokio::test]
async fn rows_that_were_deleted_and_written_again_come_back() {
    let again: Vec<Row> = (0..3).map(|key| (key, 30)).collect();
    let shapes = [
        // Deleted and written again within one segment; its first log has nothing that lives.
        Segment {
            logs: vec![vec![(0, 10), (1, 10), (2, 10)], again.clone()],
            deletes: vec![(0, 20), (1, 20), (2, 20)],
        },
        // The delete of an upsert has the time of its row.
        Segment { logs: vec![vec![(5, 10), (6, 10)], vec![(5, 40)]], deletes: vec![(5, 40)] },
        // Written here, deleted before in another segment, whose deletes came here, too.
        Segment { logs: vec![vec![(7, 50), (8, 50)]], deletes: vec![(7, 45), (99, 45)] },
        // Deleted twice, the last time for good; and as many deletes as rows that hit nothing.
        Segment {
            logs: vec![vec![(9, 10), (10, 10)], vec![(9, 30)]],
            deletes: vec![(9, 20), (9, 40), (77, 1), (78, 1)],
        },
        // Only deleted: Milvus is given the logs as they are. And a segment of which nothing lives.
        Segment { logs: vec![vec![(11, 10), (12, 10)]], deletes: vec![(11, 20)] },
        Segment { logs: vec![vec![(13, 10)]], deletes: vec![(13, 20)] },
    ];
    let world = world().await;
    world.aviary.add_segments("birds", &shapes).await;
    world.create("one").await.unwrap();
    let restored = world.restore("one", &suffix("_r")).await.unwrap();
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    let alive = [(0, 30), (1, 30), (2, 30), (5, 40), (6, 10), (7, 50), (8, 50), (10, 10), (12, 10)];
    let alive: Vec<(Key, u64)> = alive.into_iter().map(|(key, at)| (Key::Number(key), at)).collect();
    assert_eq!(world.aviary.came("birds_r"), alive);
    let left: Vec<_> = world.aviary.bucket().list("restore-temp").try_collect().await.unwrap();
    assert!(left.is_empty(), "logs that were written anew were left: {left:?}");

    // A Milvus that brings deleted rows back is not believed, though no more came than the logs hold.
    world.aviary.ignores_deletes();
    let restored = world.restore("one", &suffix("_s")).await.unwrap();
    let (_, why) = &restored.failed[0];
    assert!(why.what.contains("took 3 rows") && why.what.contains("instead of 1"), "{why}");
}

#[tokio::test]
async fn an_import_of_nothing_is_no_success() {
    let world = world().await;
    world.aviary.add("birds", &[(10, 3)]).await;
    world.create("one").await.unwrap();
    world.aviary.goes_blind(true);
    let restored = world.restore("one", &suffix("_r")).await.unwrap();
    assert_eq!(restored.done, []);
    let (_, why) = &restored.failed[0];
    assert!(why.what.contains("took 0 rows") && why.what.contains("instead of 7"), "{why}");
}

#[tokio::test]
async fn a_collection_that_fails_does_not_sink_the_others() {
    let world = world().await;
    world.aviary.add("birds", &[(10, 0)]).await;
    world.aviary.add("stuck", &[(5, 0)]).await;
    world.aviary.sticks("stuck");
    let created = world.create("one").await.unwrap();
    assert_eq!(created.failed.len(), 1);
    assert_eq!(world.states().await, [("one".into(), State::Partial(vec!["default.stuck".into()]))]);
    let wanted = Options { filter: Filter::parse("stuck").unwrap(), ..Options::default() };
    let why = create::create(&world.doors, &world.settings, &wanted, &Tell::nobody()).await.unwrap_err();
    assert!(why.what.contains("stuck"), "{why}");
    assert_eq!(world.states().await.len(), 1, "a backup of nothing left something");
}

#[tokio::test(start_paused = true)]
async fn logs_that_milvus_does_not_count_are_not_backed_up_as_rows() {
    let world = world().await;
    world.aviary.add("birds", &[(10, 0)]).await;
    world.aviary.leave_an_uncounted_log("birds").await;
    let why = world.create("one").await.unwrap_err();
    assert!(why.what.contains("hold 13 rows, and Milvus counts 10"), "{why}");
}

/// The process ends before and after each call to the bucket in turn: what is listed as complete is, and the next run finishes.
#[tokio::test]
async fn create_is_killed_at_every_call_to_the_bucket() {
    let mut ends = 0;
    for number in 1.. {
        let world = world().await;
        world.aviary.add("birds", &[(4, 1)]).await;
        world.faults.kill_at(number);
        let first = world.create("one").await;
        let killed = world.faults.is_dead();
        world.faults.clear();
        if !killed {
            first.unwrap();
            break;
        }
        ends += 1;
        match world.states().await.as_slice() {
            [] => {}
            [(_, State::Whole)] => world.assert_sound_but_for_working().await,
            [(_, State::Incomplete)] => assert!(first.is_err(), "call {number}"),
            other => panic!("call {number}: {other:?}"),
        }
        match world.create("one").await {
            Ok(_) => {}
            // The marker was there already: the backup is whole.
            Err(failure) => assert_eq!(failure.kind, Kind::Exists, "call {number}: {failure}"),
        }
        world.assert_sound_but_for_working().await;
        assert_eq!(world.restore("one", &suffix("_r")).await.unwrap().failed.len(), 0);
        assert_eq!(world.aviary.rows()["birds_r"], 3, "call {number}");
    }
    assert!(ends > 20, "only {ends} calls");
}

impl World {
    /// As sound, though the word of who was at work may be left.
    async fn assert_sound_but_for_working(&self) {
        self.doors.store.bucket().delete("one/eyrie/working.json").await.unwrap();
        self.assert_sound("one").await;
    }
}

/// Milvus goes away after each of its calls in turn.
#[tokio::test(start_paused = true)]
async fn milvus_is_gone_after_every_call() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    let before = world.aviary.calls();
    world.create("whole").await.unwrap();
    let calls = world.aviary.calls() - before;
    for left in 0..calls {
        world.aviary.dies_after(Some(left));
        let why = world.create("one").await.unwrap_err();
        assert!(why.what.contains("did not answer"), "after {left} calls: {why}");
        assert!(world.states().await.iter().all(|(name, _)| name == "whole"), "after {left} calls");
    }
    world.aviary.dies_after(None);
    world.create("one").await.unwrap();
    world.assert_sound("one").await;

    let before = world.aviary.calls();
    world.restore("one", &suffix("_r")).await.unwrap();
    let calls = world.aviary.calls() - before;
    for left in 0..calls {
        world.aviary.drop_collection_now("birds_r");
        world.aviary.dies_after(Some(left));
        let restored = world.restore("one", &suffix("_r")).await;
        assert!(restored.is_err() || !restored.unwrap().failed.is_empty(), "a success after {left} calls");
        world.aviary.dies_after(None);
        // The same with leave to replace what is half there.
        let replace = restore::Options { drop_exist_collection: true, ..suffix("_r") };
        assert_eq!(world.restore("one", &replace).await.unwrap().done.len(), 1);
        assert_eq!(world.aviary.rows()["birds_r"], 3);
    }
}

/// What the store copied by itself has no checksums until they are asked for; from then on they are compared.
#[tokio::test]
async fn checksums_of_copies_are_remembered() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.create("one").await.unwrap();
    let (store, name, tell) = (&world.doors.store, BackupName::parse("one").unwrap(), Tell::nobody());
    // As a store leaves it that copies by itself.
    let mut manifest = Manifest::read(&store.bucket().read(&name.manifest()).await.unwrap()).unwrap();
    for (key, object) in &mut manifest.objects {
        let stat = store.bucket().stat(&format!("one/{key}")).await.unwrap().unwrap();
        (object.sha256, object.etag) = (None, stat.etag);
    }
    store.bucket().put(&name.manifest(), manifest.to_bytes()).await.unwrap();
    let before = verify::verify(store, &name, true, &tell).await.unwrap();
    let logs: Vec<_> = store.bucket().list("one/binlogs/").try_collect().await.unwrap();
    assert_eq!(before.objects - before.hashed, logs.len() as u64);
    let recorded = verify::record(store, &name, &tell).await.unwrap();
    assert_eq!((recorded.recorded, recorded.hashed, recorded.faults.len()), (logs.len() as u64, before.objects, 0));
    assert_eq!(verify::record(store, &name, &tell).await.unwrap().recorded, 0);
    world.assert_sound("one").await;
    let whole = store.bucket().read(&logs[0].key).await.unwrap();
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 1;
    store.bucket().put(&logs[0].key, flipped).await.unwrap();
    let found = verify::verify(store, &name, true, &tell).await.unwrap();
    assert!(found.faults[0].contains("is not what was written"), "{:?}", found.faults);
}

/// Rows never change, so an incremental backup names those of the one before; deletes and new segments are copied.
#[tokio::test]
async fn an_incremental_backup_copies_what_is_new() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
    let options =
        |name: &str| Options { name: Some(BackupName::parse(name).unwrap()), incremental: true, ..Options::default() };
    let create = async |name: &str| {
        create::create(&world.doors, &world.settings, &options(name), &Tell::nobody()).await.unwrap()
    };
    let first = create("one").await;
    assert_eq!((first.copied.0, first.held), (17, 0));
    world.aviary.add("eggs", &[(3, 0)]).await;
    let second = create("two").await;
    assert_eq!((second.copied.0, second.held), (8 + 1, 16), "a new collection, and the deletes");
    let third = create("three").await;
    assert_eq!((third.copied.0, third.held), (1, 24));
    for name in ["two", "three"] {
        let name = BackupName::parse(name).unwrap();
        let found = verify::verify(&world.doors.store, &name, true, &Tell::nobody()).await.unwrap();
        assert_eq!(found.faults, Vec::<String>::new());
    }
    let restored = world.restore("three", &suffix("_r")).await.unwrap();
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!((world.aviary.rows()["birds_r"], world.aviary.rows()["eggs_r"]), (9, 3));

    // What others need is not deleted, and its loss is named.
    let one = BackupName::parse("one").unwrap();
    let why = world.doors.store.plan_delete(&one).await.unwrap_err();
    assert!(why.what.contains("three, two"), "{why}");
    let all: Vec<_> = world.doors.store.bucket().list("one/binlogs/insert_log/").try_collect().await.unwrap();
    world.doors.store.bucket().delete(&all[0].key).await.unwrap();
    let why = world.restore("three", &suffix("_s")).await.unwrap_err();
    assert_eq!(why.kind, Kind::Damaged, "{why}");
    // A base that lost something is no base for that segment.
    let fourth = create("four").await;
    assert_eq!((fourth.copied.0, fourth.held), (8 + 1, 16));
    assert!(world.restore("four", &suffix("_s")).await.unwrap().failed.is_empty());
    for name in ["four", "three", "two", "one"] {
        let keys = world.doors.store.plan_delete(&BackupName::parse(name).unwrap()).await.unwrap();
        world.doors.store.delete(&keys, &Tell::nobody()).await.unwrap();
    }
    assert_eq!(world.states().await, []);
}

/// A backup with a log that is missing, short, or of other bytes.
#[tokio::test]
async fn damage_is_named_before_anything_is_made() {
    let world = world().await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.create("one").await.unwrap();
    let (bucket, name) = (world.doors.store.bucket(), BackupName::parse("one").unwrap());
    let all: Vec<_> = bucket.list(&name.binlogs()).try_collect().await.unwrap();
    for entry in all {
        let whole = bucket.read(&entry.key).await.unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [None, Some(whole.slice(..whole.len() - 1)), Some(flipped.into()), Some(log_of(1, 99))] {
            let same_length = damaged.as_ref().is_some_and(|bytes| bytes.len() == whole.len());
            match damaged {
                None => bucket.delete(&entry.key).await.unwrap(),
                Some(bytes) => bucket.put(&entry.key, bytes).await.unwrap(),
            }
            let found = verify::verify(&world.doors.store, &name, true, &Tell::nobody()).await.unwrap();
            let told = entry.key.strip_prefix("one/").unwrap();
            assert!(found.faults.iter().any(|fault| fault.contains(told)), "{told}: {:?}", found.faults);
            if !same_length {
                let why = world.restore("one", &suffix("_r")).await.unwrap_err();
                assert!(why.kind == Kind::Damaged && why.what.contains("nothing was changed"), "{why}");
                assert!(!world.aviary.rows().contains_key("birds_r"));
            }
            bucket.put(&entry.key, whole.clone()).await.unwrap();
        }
    }
    world.assert_sound("one").await;
}

/// Starts the REST interface over a world; its address.
async fn served(world: &World, token: Option<&str>) -> String {
    serving(world, token).await.0
}

/// The same, and a handle that ends it.
async fn serving(
    world: &World,
    token: Option<&str>,
) -> (String, tokio::task::JoinHandle<eyrie_backup::logical::Result<()>>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}/api/v1", listener.local_addr().unwrap());
    let (settings, token) = (world.settings.clone(), token.map(eyrie_backup::bucket::Secret::new));
    let serving = tokio::spawn(server::serve(settings, listener, token, None, std::future::pending()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    (address, serving)
}

async fn ask(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

/// A whole life over REST: check, create, list, get, restore in the background, tasks, mistakes, delete.
#[tokio::test]
async fn the_rest_interface_does_what_the_command_line_does() {
    let world = world_in("rest").await;
    world.aviary.add("birds", &[(4, 1)]).await;
    let (at, http) = (served(&world, None).await, reqwest::Client::new());
    let post = async |path: &str, body: &str| ask(http.post(format!("{at}{path}")).body(body.to_owned())).await;
    let get = async |path: &str| ask(http.get(format!("{at}{path}"))).await;
    let delete = async |path: &str| ask(http.delete(format!("{at}{path}"))).await;

    let (status, seen) = get("/check").await;
    assert_eq!((status, seen["code"].as_i64()), (200, Some(0)), "{seen}");
    let (status, made) = post("/create", r#"{"requestId":"r1","backup_name":"one"}"#).await;
    assert_eq!((status, made["requestId"].as_str()), (200, Some("r1")), "{made}");
    assert_eq!(
        (made["data"]["state_code"].as_i64(), made["data"]["progress"].as_i64()),
        (Some(2), Some(100)),
        "{made}"
    );
    let (_, list) = get("/list").await;
    assert_eq!(list["data"][0]["name"], "one");
    let (_, one) = get("/get_backup?backup_name=one").await;
    assert_eq!(one["data"]["collection_backups"][0]["collection_name"], "birds");

    let body = r#"{"backup_name":"one","collection_suffix":"_r","async":true}"#;
    let (status, begun) = post("/restore", body).await;
    assert_eq!(status, 200, "{begun}");
    let id = begun["data"]["id"].as_str().unwrap().to_owned();
    let done = loop {
        let (_, task) = get(&format!("/get_restore?id={id}")).await;
        if task["data"]["state_code"] != 1 {
            break task;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(done["data"]["state_code"], 2, "{done}");
    assert_eq!(done["data"]["collection_restore_tasks"][0]["restored_rows"], 3, "{done}");
    assert_eq!(world.aviary.rows()["birds_r"], 3);

    // Each mistake has a status, a code, and what to do next.
    let mistakes = [
        (post("/create", r#"{"backup_name":"one"}"#).await, 409, 3),
        (post("/create", "{").await, 400, 400),
        (post("/create", r#"{"backup_name":"1"}"#).await, 400, 400),
        (post("/create", r#"{"backup_name":"x","collection_names":["none"]}"#).await, 404, 404),
        (post("/create", r#"{"backup_name":"x","format":"snapshot"}"#).await, 501, 1),
        (post("/restore", r#"{"backup_name":"none"}"#).await, 404, 404),
        (post("/restore", body).await, 409, 3),
        (post("/restore", r#"{"backup_name":"one","truncateBinlogByTs":true}"#).await, 501, 1),
        (get("/get_backup?backup_name=none").await, 404, 404),
        (get("/get_restore?id=none").await, 404, 404),
        (delete("/delete?backup_name=none").await, 404, 404),
    ];
    for (number, ((status, said), wanted, code)) in mistakes.into_iter().enumerate() {
        assert_eq!((status, said["code"].as_i64()), (wanted, Some(code)), "{number}: {said}");
        assert!(said["msg"].as_str().unwrap().contains("Next:"), "{number}: {said}");
    }

    // Another server in the same place remembers.
    let again = served(&world, None).await;
    let (_, task) = ask(http.get(format!("{again}/get_restore?id={id}"))).await;
    assert_eq!(task["data"]["state_code"], 2, "{task}");
    let (status, gone) = delete("/delete?backup_name=one").await;
    assert_eq!((status, get("/list").await.1["data"].as_array().map(Vec::len)), (200, Some(0)), "{gone}");
}

#[tokio::test]
async fn whoever_lacks_the_token_gets_nothing() {
    let world = world_in("token").await;
    let (at, http) = (served(&world, Some("canary-1")).await, reqwest::Client::new());
    let page: serde_json::Value = serde_json::from_str(server::OPENAPI).unwrap();
    for (path, calls) in page["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let url = format!("{at}{path}");
            let with =
                |token: &str| http.request(method.clone(), &url).header("Authorization", format!("Bearer {token}"));
            let guarded = call.get("security").is_some();
            for token in ["", "wrong", "canary-"] {
                let answer = with(token).send().await.unwrap();
                assert_eq!(answer.status() == 401, guarded, "{path} {}", answer.status());
            }
            // Every call that the page names is there.
            let status = with("canary-1").send().await.unwrap().status();
            assert!(
                !matches!(status.as_u16(), 401 | 404 | 405) || path.contains("get_restore") || path.contains("cancel"),
                "{path}: {status}"
            );
        }
    }
}

/// A task of a server that lives is told as it is, by every server of the place; one that was at work when its server ended
/// has failed; a running one can be cancelled, by its own server.
#[tokio::test]
async fn tasks_are_remembered_and_can_be_cancelled() {
    let world = world_in("tasks").await;
    world.aviary.add("birds", &[(4, 1)]).await;
    world.aviary.never_flushes("birds");
    let body = r#"{"backup_name":"lost","async":true}"#;
    let (first, ends) = serving(&world, None).await;
    let http = reqwest::Client::new();
    let (_, begun) = ask(http.post(format!("{first}/create")).body(body)).await;
    let lost = begun["data"]["id"].as_str().unwrap().to_owned();
    let at = served(&world, None).await;
    let body = r#"{"backup_name":"one","async":true}"#;
    let (_, begun) = ask(http.post(format!("{at}/create")).body(body)).await;
    let id = begun["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(begun["data"]["state_code"], 1, "{begun}");
    let (status, second) = ask(http.post(format!("{at}/create")).body(r#"{"backup_name":"one"}"#)).await;
    assert_eq!(status, 409, "two wrote one backup: {second}");
    let get = async |at: &str, id: &str| ask(http.get(format!("{at}/get_restore?id={id}"))).await;
    for server in [&first, &at] {
        for id in [&lost, &id] {
            assert_eq!(get(server, id).await.1["data"]["state_code"], 1, "each knows what the other does");
        }
    }
    let (status, foreign) = ask(http.delete(format!("{at}/cancel?id={lost}"))).await;
    assert!(status == 404 && foreign["msg"].as_str().unwrap().contains("another server's"), "{foreign}");
    ends.abort();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let (_, seen) = get(&at, &lost).await;
    assert_eq!(seen["data"]["state_code"], 3, "{seen}");
    assert!(seen["data"]["errorMessage"].as_str().unwrap().contains("the server ended"), "{seen}");
    assert_eq!(get(&at, &id).await.1["data"]["state_code"], 1, "its own goes on");
    let (_, all) = ask(http.get(format!("{at}/tasks"))).await;
    assert_eq!(all["data"].as_array().map(Vec::len), Some(2), "{all}");
    let (_, cancelled) = ask(http.delete(format!("{at}/cancel?id={id}"))).await;
    assert_eq!(
        (&cancelled["data"]["state_code"], &cancelled["data"]["errorMessage"]),
        (&3.into(), &"it was cancelled".into())
    );
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.aviary.flushes_again();
    let (status, made) = ask(http.post(format!("{at}/create")).body(r#"{"backup_name":"one"}"#)).await;
    assert_eq!(status, 200, "{made}");
}
