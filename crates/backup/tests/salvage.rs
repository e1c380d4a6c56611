//! Salvage on hand-made buckets: what each segment is, and what comes into a Milvus that is small and exact.

mod aviary;

use std::collections::{BTreeMap, BTreeSet};

use aviary::Aviary;
use bytes::Bytes;
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl};
use eyrie_backup::logical::config::{Given, Settings, read};
use eyrie_backup::logical::salvage::{
    Found, FoundSegment, Pick, Source, Verdict, Wanted, Way, look, plan, read_schema, rescue,
};
use eyrie_backup::logical::store::Store;
use eyrie_backup::logical::{Doors, Failure, Kind, Milvus, Tell};
use eyrie_milvus::binlog::{self, Descriptor, EventKind, Physical, Values};
use eyrie_milvus::ids::SegmentId;
use eyrie_milvus::logical::CollectionName;
use eyrie_milvus::salvage::schema::Schema;
use futures::TryStreamExt;

const COLLECTION: i64 = 500;
const PARTITION: i64 = 501;

/// Key and time of a row; its other fields follow from the two.
type Row = (i64, u64);

/// All of a row: key (number or text), time, vector, truth, note.
type Whole = (Vec<u8>, i64, Vec<u8>, u8, Vec<u8>);

/// What makes segments: with keys that are numbers, or texts.
#[derive(Clone)]
struct Maker {
    bucket: Bucket,
    texts: bool,
}

fn key_of(key: i64) -> Vec<u8> {
    format!("key {key:04}").into_bytes()
}

fn vector_of((key, at): Row) -> Vec<u8> {
    [key as f32, at as f32, key.wrapping_mul(3) as f32, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect()
}

impl Maker {
    fn new(bucket: &Bucket) -> Maker {
        Maker { bucket: bucket.clone(), texts: false }
    }

    async fn put(&self, key: &str, field: i64, data_type: i32, physical: Physical, values: Values) {
        let kind = if key.starts_with("delta") { EventKind::Delete } else { EventKind::Insert };
        let at =
            Descriptor { collection: COLLECTION, partition: PARTITION, segment: 1, field, from: 1, to: 2, data_type };
        let log = binlog::log(&at, kind, physical, &values).unwrap();
        self.bucket.put(key, Bytes::from(log)).await.unwrap();
    }

    /// A segment whose every slice of rows is one log of each field.
    async fn segment(&self, partition: i64, id: i64, batches: &[&[Row]], deletes: &[Row]) {
        for (n, rows) in batches.iter().enumerate() {
            let numbers = |of: fn(&Row) -> i64| Values::Numbers(rows.iter().map(of).collect());
            let key = match self.texts {
                true => (21, Physical::Text, Values::Texts(rows.iter().map(|row| key_of(row.0)).collect())),
                false => (5, Physical::Int64, numbers(|row| row.0)),
            };
            let vectors = Values::Fixed(16, rows.iter().flat_map(|row| vector_of(*row)).collect());
            let truths = Values::Fixed(1, rows.iter().map(|row| u8::from(row.0 % 2 == 0)).collect());
            let notes = Values::Texts(rows.iter().map(|row| format!("{{\"at\":{}}}", row.1).into_bytes()).collect());
            let fields = [
                (0, (5, Physical::Int64, numbers(|row| row.0 ^ 77))),
                (1, (5, Physical::Int64, numbers(|row| row.1 as i64))),
                (100, key),
                (101, (101, Physical::Fixed(16), vectors)),
                (102, (1, Physical::Bool, truths)),
                (103, (23, Physical::Text, notes)),
            ];
            for (field, (data_type, physical, values)) in fields {
                let log = field * 10 + n as i64 + 1;
                let key = format!("insert_log/{COLLECTION}/{partition}/{id}/{field}/{log}");
                self.put(&key, field, data_type, physical, values).await;
            }
        }
        if !batches.is_empty() {
            let key = format!("stats_log/{COLLECTION}/{partition}/{id}/100/1");
            self.bucket.put(&key, Bytes::from_static(b"{}")).await.unwrap();
        }
        if !deletes.is_empty() {
            let line = |(key, at): &Row| match self.texts {
                true => serde_json::json!({ "pk": String::from_utf8(key_of(*key)).unwrap(), "ts": at, "pkType": 21 }),
                false => serde_json::json!({ "pk": key, "ts": at, "pkType": 5 }),
            };
            let lines = Values::Texts(deletes.iter().map(|row| line(row).to_string().into_bytes()).collect());
            let key = format!("delta_log/{COLLECTION}/{partition}/{id}/9");
            self.put(&key, 100, 21, Physical::Text, lines).await;
        }
    }
}

/// A bucket `files` of a dead Milvus, and a living one on the same store or on another.
struct World {
    aviary: Aviary,
    settings: Settings,
    doors: Doors,
    source: Source,
    maker: Maker,
}

async fn world(elsewhere: bool) -> World {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let url = |what: &str| BucketUrl::parse(&format!("memory:salvage-{n}-{what}")).unwrap();
    let (living, dead) = (url("living"), url(if elsewhere { "dead" } else { "living" }));
    let bucket = Bucket::open(&BucketConfig::new(living.clone())).unwrap();
    let (aviary, port) = Aviary::start(&bucket.below("files").unwrap()).await;
    aviary.stores_imports();
    let given =
        Given { set: vec!["milvus.address=127.0.0.1".into(), format!("milvus.port={port}")], ..Given::default() };
    let mut settings = read(&given).unwrap().settings;
    for side in [&mut settings.storage, &mut settings.backup] {
        side.config = BucketConfig::new(living.clone());
        side.root = "files".into();
    }
    let mut old = settings.storage.clone();
    (old.config, old.root) = (BucketConfig::new(dead.clone()), "files/old".into());
    let doors = Doors {
        milvus: Milvus::connect(&settings.milvus).await.unwrap(),
        storage: bucket.below("files").unwrap(),
        store: Store::open(&settings).unwrap(),
    };
    let maker = Maker::new(&Bucket::open(&old.config).unwrap().below(&old.root).unwrap());
    World { aviary, settings, doors, source: Source::over(old).unwrap(), maker }
}

impl World {
    async fn found(&self) -> Found {
        self.found_by(&Pick::default()).await
    }

    async fn found_by(&self, pick: &Pick) -> Found {
        look(&self.source, pick, &Tell::nobody()).await.unwrap().remove(0)
    }

    /// All objects of the dead Milvus, by name.
    async fn objects(&self) -> BTreeMap<String, Bytes> {
        let mut objects = BTreeMap::new();
        let entries: Vec<_> = self.maker.bucket.list("").try_collect().await.unwrap();
        for entry in entries {
            objects.insert(entry.key.clone(), self.maker.bucket.read(&entry.key).await.unwrap());
        }
        objects
    }

    async fn wanted(&self) -> Wanted {
        Wanted {
            collection: COLLECTION,
            schema: Schema::guess(&self.found().await.seen),
            name: CollectionName::new("", "birds"),
            segments: None,
            accept_damage: false,
            memory: None,
        }
    }

    async fn restore(&self, wanted: &Wanted) -> Result<u64, Failure> {
        let tell = Tell::nobody();
        let plan = plan(&self.source, &self.settings, wanted, &tell).await?;
        Ok(rescue(&self.doors, &self.settings, &self.source, wanted, plan, &tell).await?.rows)
    }

    /// What the new collection has, by partition.
    async fn rows(&self) -> BTreeMap<String, Vec<Whole>> {
        let (id, partitions, segments) = self.aviary.stored("birds");
        let mut rows: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for segment in segments {
            let name = &partitions.iter().find(|(_, id)| *id == segment.partition_id).unwrap().0;
            let of = rows.entry(name.clone()).or_default();
            let folder = format!("insert_log/{id}/{}/{}", segment.partition_id, segment.segment_id);
            let column = async |field: i64| {
                let logs: Vec<_> = self.doors.storage.list(&format!("{folder}/{field}/")).try_collect().await.unwrap();
                let mut all: Vec<Vec<u8>> = Vec::new();
                for entry in logs {
                    let bytes = self.doors.storage.read(&entry.key).await.unwrap();
                    match binlog::Log::read(&bytes).unwrap().values(&|_, _, _| None).unwrap() {
                        Values::Numbers(n) => all.extend(n.iter().map(|n| n.to_le_bytes().to_vec())),
                        Values::Texts(texts) => all.extend(texts),
                        Values::Fixed(width, bytes) => all.extend(bytes.chunks(width).map(<[u8]>::to_vec)),
                    }
                }
                all
            };
            let (keys, times) = (column(100).await, column(1).await);
            let (vectors, truths, notes) = (column(101).await, column(102).await, column(103).await);
            for (n, key) in keys.iter().enumerate() {
                let at = i64::from_le_bytes(times[n].as_slice().try_into().unwrap());
                of.push((key.clone(), at, vectors[n].clone(), truths[n][0], notes[n].clone()));
            }
        }
        rows.values_mut().for_each(|rows| rows.sort());
        rows
    }
}

fn rows_of(rows: &[Row], texts: bool) -> Vec<Whole> {
    let row = |row: &Row| {
        let key = if texts { key_of(row.0) } else { row.0.to_le_bytes().to_vec() };
        let note = format!("{{\"at\":{}}}", row.1).into_bytes();
        (key, row.1 as i64, vector_of(*row), u8::from(row.0 % 2 == 0), note)
    };
    let mut all: Vec<_> = rows.iter().map(row).collect();
    all.sort();
    all
}

fn segment(found: &Found, id: i64) -> &FoundSegment {
    found.segments.iter().find(|segment| segment.path.segment == SegmentId(id)).unwrap()
}

fn range(keys: std::ops::Range<i64>, at: u64) -> Vec<Row> {
    keys.map(|key| (key, at)).collect()
}

/// Two inputs of a compaction, its output with a lower id, a segment with an upsert, one whose rows were all deleted, one that
/// overlaps in part, and deletes of level 0. Returns what is alive.
async fn history(maker: &Maker) -> Vec<Row> {
    let (a, b) = (range(0..40, 10), range(40..60, 11));
    maker.segment(PARTITION, 700, &[&a[..25], &a[25..]], &[(3, 20), (4, 20)]).await;
    maker.segment(PARTITION, 701, &[&b], &[(41, 20)]).await;
    let merged: Vec<Row> = a.iter().chain(&b).copied().filter(|row| ![3, 4, 41].contains(&row.0)).collect();
    maker.segment(PARTITION, 600, &[&merged], &[(5, 30)]).await;
    // Key 3 comes back by an upsert; in one segment a row, its upsert and the delete that belongs to it.
    maker.segment(PARTITION, 702, &[&[(3, 31), (70, 31), (70, 35)]], &[(70, 35)]).await;
    maker.segment(PARTITION, 703, &[&range(80..90, 40)], &range(80..90, 41)).await;
    let late: Vec<Row> = range(55..60, 11).into_iter().chain(range(90..95, 50)).collect();
    maker.segment(PARTITION, 704, &[&late], &[]).await;
    maker.segment(-1, 800, &[], &[(90, 60), (0, 5)]).await;
    let index = format!("index_files/3000/1/{PARTITION}/600/IVF");
    maker.bucket.put(&index, Bytes::from_static(b"i")).await.unwrap();
    let mut alive: Vec<Row> = merged.into_iter().filter(|row| row.0 != 5).collect();
    alive.extend([(3, 31), (70, 35)]);
    alive.extend(range(91..95, 50));
    alive
}

#[tokio::test(flavor = "multi_thread")]
async fn each_segment_gets_its_verdict() {
    let world = world(true).await;
    let alive = history(&world.maker).await;
    let before = world.objects().await;
    for memory in [None, Some(1000)] {
        let found = world.found_by(&Pick { memory, ..Pick::default() }).await;
        assert_eq!(found.rows(), alive.len() as u64);
        assert_eq!((found.seen.key, found.seen.keys_are_row_ids), (Some(100), Some(false)));
        let left = Verdict::LeftBehind(vec![SegmentId(600)]);
        assert_eq!((&segment(&found, 700).verdict, &segment(&found, 701).verdict), (&left, &left));
        assert_eq!(segment(&found, 600).verdict, Verdict::Live);
        assert_eq!((segment(&found, 600).rows, segment(&found, 600).own, segment(&found, 600).deleted), (57, 56, 1));
        assert_eq!(segment(&found, 702).verdict, Verdict::Live);
        assert_eq!((segment(&found, 600).indexed, segment(&found, 700).indexed), (true, false));
        assert_eq!(segment(&found, 703).verdict, Verdict::Emptied);
        assert_eq!(segment(&found, 704).verdict, Verdict::Partly(vec![SegmentId(600)]));
        assert_eq!((segment(&found, 704).own, segment(&found, 704).alone), (4, 4));
        assert_eq!(segment(&found, 800).verdict, Verdict::Deletes);
        assert_eq!(
            segment(&found, 700).keys,
            Some((eyrie_milvus::salvage::Key::Number(0), eyrie_milvus::salvage::Key::Number(39)))
        );
        assert_eq!(segment(&found, 704).times, Some((11, 50)));
    }
    assert_eq!(world.objects().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_living_row_comes_back_once() {
    for (elsewhere, texts, memory) in [(false, false, None), (true, true, None), (true, false, Some(1000))] {
        let mut world = world(elsewhere).await;
        world.maker.texts = texts;
        let alive = history(&world.maker).await;
        world.maker.segment(PARTITION + 7, 900, &[&range(0..10, 70)], &[]).await;
        let before = world.objects().await;
        let wanted = Wanted { memory, ..world.wanted().await };
        let tell = Tell::nobody();
        let planned = plan(&world.source, &world.settings, &wanted, &tell).await.unwrap();
        let ways: BTreeMap<i64, Way> = planned.steps.iter().map(|step| (step.path.segment.0, step.way)).collect();
        let whole = if elsewhere { Way::Copied } else { Way::InPlace };
        let expected = [(600, Way::Written(57)), (702, Way::Written(3)), (704, Way::Written(10)), (900, whole)];
        assert_eq!(ways, BTreeMap::from(expected));

        assert_eq!(world.restore(&wanted).await.unwrap(), alive.len() as u64 + 10);
        let rows = world.rows().await;
        assert_eq!(rows["_default"], rows_of(&alive, texts));
        assert_eq!(rows["partition_508"], rows_of(&range(0..10, 70), texts));
        assert_eq!(world.objects().await, before, "the bucket was changed");
        let left: Vec<_> = world.doors.storage.list("salvage-temp-").try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        let again = world.restore(&wanted).await.unwrap_err();
        assert!(again.kind == Kind::Exists && again.what.contains("nothing was changed"), "{again}");
    }
}

/// A broken segment gives nothing, and what it was made of comes back to life.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_its_inputs_step_in() {
    let world = world(true).await;
    let alive = history(&world.maker).await;
    let bucket = &world.maker.bucket;
    let path = format!("insert_log/{COLLECTION}/{PARTITION}/600");
    let key = |field: i64, log: i64| format!("{path}/{field}/{log}");
    let whole = world.objects().await;
    let wanted = world.wanted().await;
    let cut = |name: &str, by: usize| whole[name].slice(..whole[name].len() - by);
    let flip = |name: &str| {
        let mut bytes = whole[name].to_vec();
        bytes[whole[name].len() - 40] ^= 0x55;
        Bytes::from(bytes)
    };
    let damages = [
        (key(101, 1011), Some(cut(&key(101, 1011), 1)), "no whole log"),
        (key(100, 1001), Some(cut(&key(100, 1001), 200)), "no whole log"),
        (key(1, 11), Some(flip(&key(1, 11))), "field 1"),
        (key(1, 11), Some(Bytes::new()), "no whole log"),
        (key(1, 11), None, "hidden field 1 are missing"),
        (key(102, 1021), None, "field 102 (Bool) are missing"),
        (key(101, 1011), Some(whole[&key(100, 1001)].clone()), "it says that it is of field 100"),
        (
            key(103, 1031),
            Some(whole[&format!("insert_log/{COLLECTION}/{PARTITION}/701/103/1031")].clone()),
            "has 20 rows",
        ),
    ];
    for (name, bytes, words) in damages {
        match bytes {
            Some(bytes) => bucket.put(&name, bytes).await.unwrap(),
            None => bucket.delete(&name).await.unwrap(),
        }
        let found = world.found().await;
        let Verdict::Damaged(why) = &segment(&found, 600).verdict else {
            panic!("{name}, {words}: {:?}", segment(&found, 600).verdict)
        };
        // A flip in the description may be seen in one way or another.
        assert!(words == "field 1" || why.iter().any(|why| why.contains(words)), "{name}: {why:?}");
        // Its rows are in what it was made of; its own deletes are read still.
        assert_eq!(found.rows(), alive.len() as u64, "{name}");
        assert_eq!((&segment(&found, 700).verdict, &segment(&found, 701).verdict).0, &Verdict::Live);
        let refused = world.restore(&wanted).await.unwrap_err();
        assert!(refused.what.contains("nothing was changed") && refused.next.contains("--accept-damage"), "{refused}");
        bucket.put(&name, whole[&name].clone()).await.unwrap();
    }
    assert_eq!(world.aviary.rows().len(), 0, "nothing was made");

    // Deletes that can't be read would let rows come back: 3 and 4 of 700, and 41 is said by its own log.
    let deltas = format!("delta_log/{COLLECTION}/{PARTITION}/703/9");
    bucket.put(&deltas, cut(&deltas, 3)).await.unwrap();
    let found = world.found().await;
    assert!(found.bad_deletes.len() == 1 && found.bad_deletes[0].contains(&deltas), "{:?}", found.bad_deletes);
    assert_eq!(found.rows(), alive.len() as u64 + 10);
    assert!(world.restore(&wanted).await.unwrap_err().what.contains("deletes that can't be read"));
    let accepted = Wanted { accept_damage: true, ..wanted };
    assert_eq!(world.restore(&accepted).await.unwrap(), alive.len() as u64 + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_before_anything_is_made() {
    let world = world(false).await;
    history(&world.maker).await;
    let wanted = world.wanted().await;
    let mut other = wanted.clone();
    other.schema.fields[1].dim = Some(8);
    let refused = world.restore(&other).await.unwrap_err();
    assert!(refused.what.contains("dim 8 in the schema, and 4 in the logs"), "{refused}");
    let segments = |ids: &[i64]| Wanted { segments: Some(BTreeSet::from_iter(ids.iter().copied())), ..wanted.clone() };
    let missing = world.restore(&segments(&[600, 999])).await.unwrap_err();
    assert!(missing.kind == Kind::NotFound && missing.what.contains("999"), "{missing}");
    let nowhere = world.restore(&Wanted { collection: 1, ..wanted.clone() }).await.unwrap_err();
    assert_eq!(nowhere.kind, Kind::NotFound);
    assert_eq!(world.aviary.rows().len(), 0, "nothing was made");

    // A Milvus that takes nothing and calls it done is not believed.
    world.aviary.goes_blind(true);
    let blind = world.restore(&wanted).await.unwrap_err();
    assert!(blind.what.contains("Milvus took 0 rows") && blind.next.contains("drop it"), "{blind}");
    world.aviary.goes_blind(false);
    world.aviary.drop_collection_now("birds");

    // Of the segments that were asked for, each row once; deletes of all others hold.
    assert_eq!(world.restore(&segments(&[700, 704])).await.unwrap(), 37 + 9);
    let mut rows: Vec<Row> = range(0..40, 10).into_iter().filter(|row| ![3, 4, 5].contains(&row.0)).collect();
    rows.extend(range(55..60, 11));
    rows.extend(range(91..95, 50));
    assert_eq!(world.rows().await["_default"], rows_of(&rows, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_statistics_and_keys_at_the_ends() {
    let world = world(true).await;
    let rows = [(i64::MIN, u64::MAX >> 1), (i64::MAX, 1), (0, 1)];
    world.maker.segment(PARTITION, 700, &[&rows], &[(i64::MAX, u64::MAX)]).await;
    world.maker.bucket.delete(&format!("stats_log/{COLLECTION}/{PARTITION}/700/100/1")).await.unwrap();
    world.maker.bucket.put(&format!("insert_log/{COLLECTION}/readme"), Bytes::from_static(b"x")).await.unwrap();
    let found = world.found().await;
    assert_eq!((found.seen.key, found.seen.likely_key(), found.foreign, found.rows()), (None, Some(100), 1, 2));
    assert!(Schema::page(&found.seen).contains("GUESS: there are no statistics"), "{}", Schema::page(&found.seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_read_as_people_have_them() {
    let world = world(true).await;
    history(&world.maker).await;
    let seen = world.found().await.seen;
    let page = Schema::page(&seen);
    assert_eq!(read_schema(&page, COLLECTION).unwrap(), Schema::guess(&seen), "{page}");
    let old = Schema::guess(&seen).for_milvus("birds");
    let partitions = serde_json::json!([{ "partition_id": PARTITION, "partition_name": "_default" }]);
    let collection = serde_json::json!({ "collection_id": COLLECTION, "schema": old, "partition_backups": partitions });
    let backup = serde_json::json!({ "name": "old", "collection_backups": [collection.clone()] });
    for text in [collection.to_string(), backup.to_string()] {
        let schema = read_schema(&text, COLLECTION).unwrap();
        assert_eq!(schema.problems(&seen), Vec::<String>::new(), "{text}");
    }
    for broken in ["", "fields: 7", "fields: [{ id: 100, nam: x }]", "{", "collection_backups: []"] {
        let refused = read_schema(broken, COLLECTION).unwrap_err();
        assert_eq!(refused.kind, Kind::Request, "{broken}");
    }
}
