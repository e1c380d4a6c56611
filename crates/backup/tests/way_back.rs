//! What comes back is what was there: at any revision, for any target, after a death at any call; and nothing from an archive
//! that lies.

mod kit;

use std::path::Path;

use eyrie_archive::restore::Step;
use eyrie_archive::{At, Kind, Revision, Sha256, UnixMillis, codec};
use eyrie_backup::bucket::faults::{Faults, Mishap};
use eyrie_backup::bucket::{Action, Bucket};
use eyrie_backup::catalog::OpenOptions;
use eyrie_backup::inside;
use eyrie_backup::restore::{
    Changes, ClusterTo, Digester, Done, MemberTo, MetadataTo, ObjectRoot, Objects, ObjectsTo, Plan, Request,
    RestoreError, prepare,
};
use eyrie_backup::seal::{Identities, Recipients, keygen};
use eyrie_backup::tail::run::Until;
use eyrie_backup::take::Backup;
use eyrie_disk::snapshot::{SnapshotFault, SnapshotFile};
use eyrie_state::{ClusterId, Member, MemberId};
use futures::{StreamExt, TryStreamExt};
use kit::{Etcd, Segment, backup, take};
use tokio::sync::oneshot;

/// Where the recorded Milvus had its objects.
const HOME: &str = "/var/lib/milvus/data";
/// Restores side by side.
const AT_ONCE: usize = 4;

#[tokio::test]
async fn every_revision_comes_back_with_all_that_etcd_knows_of_its_keys() {
    let mut etcd = Etcd::start().await;
    let archive = Bucket::memory();
    etcd.put("kept", "from before").await;
    let backup = backup(&etcd, None, &archive).await;
    take(&backup).await.unwrap();
    let (source, first) = (backup.source.clone(), etcd.put("key-0", "x").await);
    let (stop, stopped) = oneshot::channel::<()>();
    let tail = tokio::spawn(async move {
        backup.run(Until::Stopped, &OpenOptions::default(), async { drop(stopped.await) }).await
    });
    let mut last = first;
    for n in 0..120 {
        last = etcd.put(format!("key-{}", n % 11), format!("value-{n}")).await;
        if n % 7 == 6 {
            last = etcd.delete(format!("key-{}", n % 11)).await;
        }
        if n % 30 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    }
    wait_for(&archive, last).await;
    stop.send(()).unwrap();
    tail.await.unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for revision in (first..=last).step_by(13).chain([last]) {
        let mut digester = Digester::default();
        let there = source.pairs_at(eyrie_state::Revision(revision), |kv| {
            digester.take(&kv.key, &kv.value, [kv.create_revision, kv.mod_revision, kv.version, kv.lease]);
        });
        assert!(there.await.unwrap());
        let mut request = metadata_only(dir.path(), &format!("at-{revision}"));
        request.at = At::Revision(Revision(revision));
        let done = restore(&archive, request).await.unwrap();
        let digest = digester.finish();
        assert_eq!((&done.was, &done.becomes), (&digest, &digest), "revision {revision}");
        assert_eq!((done.revision.0, done.serves.0), (revision, revision));
    }
}

#[tokio::test]
async fn a_time_is_the_newest_revision_that_was_heard_by_then() {
    let mut etcd = Etcd::start().await;
    let archive = Bucket::memory();
    let backup = backup(&etcd, None, &archive).await;
    take(&backup).await.unwrap();
    for n in 0..20 {
        etcd.put("a", n.to_string()).await;
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let mut slow = backup.clone();
    slow.config.tail.segment_age_ms = 60_000;
    let (stop, stopped) = oneshot::channel::<()>();
    let tail =
        tokio::spawn(
            async move { slow.run(Until::Stopped, &OpenOptions::default(), async { drop(stopped.await) }).await },
        );
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for n in 0..20 {
        etcd.put("a", n.to_string()).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    tail.await.unwrap().unwrap();
    let catalog = kit::must_be_whole(&archive).await;
    let (nobody, dir) = (Identities::default(), tempfile::tempdir().unwrap());
    let mut heard = Vec::new();
    for piece in catalog.current().tail.values() {
        let (segment, _) = inside::piece_of_tail(&archive, &piece.segment, &nobody).await.unwrap();
        heard.extend(segment.revisions.iter().map(|revised| (revised.revision.0, revised.heard_at.0.cast_signed())));
    }
    let inside_a_piece = heard.windows(2).filter(|two| two[0].1 < two[1].1).count();
    assert!(inside_a_piece > 15, "{heard:?}");
    for two in heard.windows(2).filter(|two| two[0].1 < two[1].1) {
        for at_ms in [two[0].1, two[1].1 - 1] {
            let request = Request { at: At::Time(UnixMillis(at_ms)), ..metadata_only(dir.path(), "unused") };
            let plan = prepare(&archive, &nobody, request, &()).await.unwrap().plan().clone();
            assert_eq!((plan.revision.0, plan.at_ms.0), two[0], "at {at_ms}");
        }
    }
}

#[tokio::test]
async fn killed_at_any_call_the_same_request_does_the_rest() {
    let (_etcd, archive, segment) = milvus_archive(Recipients::nobody()).await;
    let dir = tempfile::tempdir().unwrap();
    let (clean, faults) = Faults::over(&Bucket::memory());
    let (watched, reads) = Faults::over(&archive);
    let done = restore(&watched, whole(dir.path(), "clean", &clean)).await.unwrap();
    assert!(done.objects_copied >= 3 && done.objects_copied == done.objects_whole, "{done:?}");
    let expected = contents(&clean).await;
    assert_eq!(expected.len() as u64, done.objects_copied);
    assert!(segment.objects.len() >= expected.len());
    let of_target = (1..=faults.calls()).map(|call| (call, false));
    let of_archive = (1..=reads.calls()).map(|call| (call, true));
    let deaths = of_target.chain(of_archive).flat_map(|(call, of)| Mishap::DEATHS.map(|death| (call, of, death)));
    let (archive, dir, expected, done) = (&archive, dir.path(), &expected, &done);
    futures::stream::iter(deaths)
        .for_each_concurrent(AT_ONCE, |(call, of_archive, death)| async move {
            let (target, writes) = Faults::over(&Bucket::memory());
            let (source, reads) = Faults::over(archive);
            if of_archive { &reads } else { &writes }.at(call, death);
            let name = format!("{of_archive}-{call}-{death:?}");
            let request = whole(dir, &name, &target);
            let first = restore(&source, request.clone()).await;
            assert!(first.is_err() || !(reads.is_dead() || writes.is_dead()), "dead at {name}, and nobody noticed");
            (reads.clear(), writes.clear());
            // whatever became visible is whole
            for (key, hash) in contents(&target).await {
                assert_eq!(expected.get(&key), Some(&hash), "{name}: {key}");
            }
            if first.is_err() {
                let again = restore(&source, request).await.unwrap_or_else(|error| panic!("after {name}: {error}"));
                assert_eq!((&again.becomes, again.objects_whole), (&done.becomes, done.objects_whole), "{name}");
            }
            assert_eq!(contents(&target).await, *expected, "{name}");
        })
        .await;
}

#[tokio::test]
async fn whatever_happens_to_any_call_the_result_is_right_or_an_error() {
    let (_etcd, archive, _) = milvus_archive(Recipients::nobody()).await;
    let dir = tempfile::tempdir().unwrap();
    let (clean, writes) = Faults::over(&Bucket::memory());
    let (watched, reads) = Faults::over(&archive);
    let objects = |bucket: &Bucket| Request { metadata: None, ..whole(dir.path(), "unused", bucket) };
    restore(&watched, objects(&clean)).await.unwrap();
    let expected = contents(&clean).await;
    let calls = (1..=writes.calls()).map(|call| (call, false)).chain((1..=reads.calls()).map(|call| (call, true)));
    let cases: Vec<_> = calls.flat_map(|(call, of)| Mishap::ANSWERED.map(|mishap| (call, of, mishap))).collect();
    let (mut right, mut wrong) = (0, 0);
    let (archive, expected, objects) = (&archive, &expected, &objects);
    let mut tried = futures::stream::iter(cases)
        .map(|(call, of_archive, mishap)| async move {
            let (target, writes) = Faults::over(&Bucket::memory());
            let (source, reads) = Faults::over(archive);
            if of_archive { &reads } else { &writes }.at(call, mishap);
            let name = format!("{mishap:?} at call {call} of the {}", if of_archive { "archive" } else { "target" });
            let outcome = restore(&source, objects(&target)).await;
            (reads.clear(), writes.clear());
            let found = contents(&target).await;
            if let Err(error) = &outcome {
                assert!(error.to_string().contains("Next: "), "{name}: {error}");
                assert!(found.iter().all(|(key, hash)| expected.get(key) == Some(hash)), "{name}: {error}");
                restore(&source, objects(&target)).await.unwrap_or_else(|error| panic!("after {name}: {error}"));
            }
            assert_eq!(contents(&target).await, *expected, "{name}");
            outcome.is_ok()
        })
        .buffer_unordered(64);
    while let Some(ok) = tried.next().await {
        *(if ok { &mut right } else { &mut wrong }) += 1;
    }
    assert!(right > 50 && wrong > 20, "{right} went well, {wrong} did not");
}

#[tokio::test]
async fn a_death_between_the_last_directory_and_the_answer_is_no_obstacle() {
    let (_etcd, archive, _) = milvus_archive(Recipients::nobody()).await;
    let dir = tempfile::tempdir().unwrap();
    let three = |name: &str| cluster(dir.path(), name, &["a", "b", "c"]);
    let request = || Request { metadata: Some(three("cluster")), ..metadata_only(dir.path(), "unused") };
    restore(&archive, request()).await.unwrap();
    // as if it had been killed before the third member was begun: its note stands, two members are whole
    let folder = dir.path().join("cluster");
    let finished = restore(&archive, request()).await.unwrap_err().to_string();
    assert!(finished.contains("already holds a store"), "{finished}");
    let seen = dir.path().join("seen");
    let note = folder.join(".eyrie-restore.json");
    assert!(!note.exists());
    let other = Request { metadata: Some(three("seen")), ..request() };
    restore(&archive, other).await.unwrap();
    std::fs::remove_dir_all(seen.join("c")).unwrap();
    let refused = Request { metadata: Some(three("seen")), ..request() };
    assert!(restore(&archive, refused.clone()).await.is_err(), "two whole members without a note are in the way");
    std::fs::write(seen.join(".eyrie-restore.json"), note_of(&archive, refused.clone()).await).unwrap();
    restore(&archive, refused.clone()).await.unwrap();
    assert!(seen.join("c/eyrie").is_file() && !seen.join(".eyrie-restore.json").exists());
    // the note of another moment does not open the door
    std::fs::remove_dir_all(seen.join("c")).unwrap();
    let note = note_of(&archive, Request { bump_revision: 7, ..refused.clone() }).await;
    std::fs::write(seen.join(".eyrie-restore.json"), note).unwrap();
    let why = restore(&archive, refused).await.unwrap_err().to_string();
    assert!(why.contains("another restore was begun here"), "{why}");
    assert!(!seen.join("c").exists());
}

/// The note that a restore leaves while it is under way, made by one that can't end.
async fn note_of(archive: &Bucket, request: Request) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let MetadataTo::Members(mut to) = request.metadata.clone().unwrap() else { panic!("members") };
    to.folder = Some(dir.path().join("x"));
    to.write.iter_mut().for_each(|one| one.data_dir = dir.path().join("x").join(&one.name));
    // the log's directory of the last one is in the way
    let blocked = dir.path().join("log");
    std::fs::create_dir(&blocked).unwrap();
    to.write[2].wal_dir = Some(blocked.clone());
    let note = dir.path().join("x/.eyrie-restore.json");
    let prepared =
        prepare(archive, &Identities::default(), Request { metadata: Some(MetadataTo::Members(to)), ..request }, &())
            .await;
    let prepared = prepared.unwrap();
    std::fs::write(blocked.join("file"), b"x").unwrap();
    prepared.run(&()).await.unwrap_err();
    std::fs::read(note).unwrap()
}

#[tokio::test]
async fn without_the_key_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (mine, other) = (dir.path().join("mine.key"), dir.path().join("other.key"));
    let recipient = keygen(&mine, "today").unwrap();
    keygen(&other, "today").unwrap();
    let (_etcd, archive, _) = milvus_archive(Recipients::parse([recipient.to_string().as_str()]).unwrap()).await;
    let keys = |path: &Path| Identities::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    for wrong in [Identities::default(), keys(&other)] {
        let (target, calls) = Faults::over(&Bucket::memory());
        let error = prepare(&archive, &wrong, whole(dir.path(), "data", &target), &()).await.unwrap_err();
        assert!(matches!(error, RestoreError::Inside(_)), "{error}");
        assert!(calls.log().iter().all(|call| call.action == Action::List), "{:?}", calls.log());
        assert!(!dir.path().join("data").exists());
    }
    let target = Bucket::memory();
    let prepared = prepare(&archive, &keys(&mine), whole(dir.path(), "data", &target), &()).await.unwrap();
    assert!(prepared.run(&()).await.unwrap().objects_copied >= 3);
}

#[tokio::test]
async fn objects_sealed_to_a_key_that_is_not_given_are_found_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("1.key"), dir.path().join("2.key"));
    let recipients = |path: &Path| Recipients::parse([keygen(path, "today").unwrap().to_string().as_str()]).unwrap();
    let (mut etcd, archive, _) = milvus_archive(recipients(&first)).await;
    // from here on everything is sealed to another key, a new full, too
    etcd.put("later", "x").await;
    let mut later = backup(&etcd, Some(&Bucket::memory()), &archive).await;
    later.seal_to = recipients(&second);
    take(&later).await.unwrap();
    let keys = Identities::parse(&std::fs::read_to_string(&second).unwrap()).unwrap();
    let target = Bucket::memory();
    let error = prepare(&archive, &keys, whole(dir.path(), "data", &target), &()).await.unwrap_err().to_string();
    assert!(error.contains("opens this"), "{error}");
    assert!(contents(&target).await.is_empty() && !dir.path().join("data").exists());
    let both = format!("{}{}", std::fs::read_to_string(&first).unwrap(), std::fs::read_to_string(&second).unwrap());
    let keys = Identities::parse(&both).unwrap();
    let prepared = prepare(&archive, &keys, whole(dir.path(), "data", &target), &()).await.unwrap();
    prepared.run(&()).await.unwrap();
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let recipient = keygen(&key, "today").unwrap().to_string();
    let keys = Identities::parse(&std::fs::read_to_string(&key).unwrap()).unwrap();
    for recipients in [Recipients::nobody(), Recipients::parse([recipient.as_str()]).unwrap()] {
        let sealed = !recipients.is_nobody();
        let (_etcd, archive, _) = milvus_archive(recipients).await;
        let target = Bucket::memory();
        let request = |name: &str, target: &Bucket| whole(dir.path(), &format!("{sealed}-{name}"), target);
        let prepared = prepare(&archive, &keys, request("whole", &target), &()).await.unwrap();
        let used = files_of(prepared.plan());
        prepared.run(&()).await.unwrap();
        let expected = contents(&target).await;
        let files: Vec<String> = archive.list("").map_ok(|entry| entry.key).try_collect().await.unwrap();
        assert!(used.len() >= 4 && used.iter().all(|file| files.contains(file)), "{used:?}");
        for file in files.iter().filter(|file| file.starts_with("index/") || used.contains(file)) {
            let bytes = archive.read(file).await.unwrap();
            for at in [0, bytes.len() / 3, bytes.len() - 1] {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1;
                archive.put(file, changed).await.unwrap();
                let target = Bucket::memory();
                let name = format!("{}-{at}", file.replace('/', "_"));
                let mut told = false;
                let outcome = match prepare(&archive, &keys, request(&name, &target), &()).await {
                    Ok(prepared) => {
                        told = prepared.plan().notes.iter().any(|note| note.contains(file.as_str()));
                        prepared.run(&()).await.map(drop)
                    }
                    Err(error) => Err(error),
                };
                for (key, hash) in contents(&target).await {
                    assert_eq!(expected.get(&key), Some(&hash), "{file} byte {at}: {key}");
                }
                if file.starts_with("index/") {
                    // what it said is found again; the plan says so
                    assert!(outcome.is_ok() && told, "{file} byte {at}: {outcome:?}");
                    assert_eq!(contents(&target).await, expected, "{file} byte {at}");
                } else {
                    assert!(outcome.is_err(), "{file} byte {at} was changed, and nobody noticed");
                }
            }
            archive.put(file, bytes).await.unwrap();
        }
    }
}

/// The files that a restore reads beside the catalogue and the index.
fn files_of(plan: &Plan) -> Vec<String> {
    let file = |step: &Step| match step {
        Step::FetchFull { stored, .. } | Step::ApplyTail { stored, .. } => Some(stored.path.to_string()),
        Step::CopyObject { object } => Some(object.stored.path.to_string()),
        Step::WriteMember { .. } | Step::Verify => None,
    };
    plan.steps.steps.iter().filter_map(file).collect()
}

#[tokio::test]
async fn a_forged_archive_can_not_name_a_place_outside() {
    let (_etcd, archive, _) = milvus_archive(Recipients::nobody()).await;
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("bucket/of/milvus");
    // every hash in the forgery fits: only the name itself is wrong
    forge(&archive, "insert_log/", "../../../x/").await;
    let request = whole(dir.path(), "data", &Bucket::at(target.to_str().unwrap()).unwrap());
    let error = prepare(&archive, &Identities::default(), request, &()).await.unwrap_err().to_string();
    assert!(error.contains("index"), "{error}");
    assert!(!dir.path().join("x").exists() && !dir.path().join("data").exists() && !target.exists());
}

/// Changes a text in every index piece, and each record that depends on it.
async fn forge(archive: &Bucket, from: &str, to: &str) {
    let mut files: Vec<String> = archive.list("").map_ok(|entry| entry.key).try_collect().await.unwrap();
    files.sort();
    let mut hashes = std::collections::BTreeMap::new();
    for file in files.iter().filter(|file| file.starts_with("index/")) {
        let bytes = archive.read(file).await.unwrap();
        let packed = file.ends_with(".zst");
        let text = if packed { zstd::decode_all(&bytes[..]).unwrap() } else { bytes.to_vec() };
        let text = String::from_utf8(text).unwrap();
        let forged = text.replace(&format!("\"source\":\"{from}"), &format!("\"source\":\"{to}"));
        assert_ne!(text, forged);
        let forged = if packed { zstd::encode_all(forged.as_bytes(), 3).unwrap() } else { forged.into_bytes() };
        hashes.insert(file.clone(), (forged.len() as u64, Sha256::of(&forged)));
        archive.put(file, forged).await.unwrap();
    }
    let mut before: Option<Sha256> = None;
    for file in files.iter().filter(|file| file.starts_with("catalog/")) {
        let mut record = codec::decode_record(&archive.read(file).await.unwrap()).unwrap();
        record.prev = before;
        if let Kind::ObjectsMirrored(mirrored) = &mut record.what {
            (mirrored.piece.len, mirrored.piece.sha256) = hashes[mirrored.piece.path.as_str()];
        }
        let bytes = codec::encode_record(&record).unwrap();
        before = Some(Sha256::of(&bytes));
        archive.put(file, bytes).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_in_the_way_stays_and_what_is_damaged_is_replaced_when_asked_for() {
    let (_etcd, archive, _) = milvus_archive(Recipients::nobody()).await;
    let dir = tempfile::tempdir().unwrap();
    let target = Bucket::memory();
    restore(&archive, whole(dir.path(), "first", &target)).await.unwrap();
    let whole_target = contents(&target).await;
    let keys: Vec<&String> = whole_target.keys().collect();
    let (damaged, cut, gone) = (keys[0], keys[1], keys[2]);
    let bytes = target.read(damaged).await.unwrap();
    target.put(damaged, vec![7; bytes.len()]).await.unwrap();
    target.put(cut, vec![7]).await.unwrap();
    target.delete(gone).await.unwrap();
    target.put("insert_log/of/somebody/else", vec![1]).await.unwrap();
    let before = contents(&target).await;
    let refused = |why: RestoreError| why.to_string();
    let request = whole(dir.path(), "second", &target);
    let why = refused(restore(&archive, request.clone()).await.unwrap_err());
    assert!(
        why.contains("other bytes") || why.contains("belongs to something else") || why.contains("not empty"),
        "{why}"
    );
    assert_eq!(contents(&target).await, before, "a refused restore has changed the bucket");
    assert!(!dir.path().join("second").exists());
    let Objects::Restore(to) = request.objects.clone() else { panic!("objects") };
    let into =
        Request { objects: Objects::Restore(ObjectsTo { into_existing: true, ..to }), metadata: None, ..request };
    let done = restore(&archive, into).await.unwrap();
    assert_eq!((done.objects_copied, done.objects_whole), (3, whole_target.len() as u64));
    let mut after = contents(&target).await;
    assert!(after.remove("insert_log/of/somebody/else").is_some());
    assert_eq!(after, whole_target);
}

#[tokio::test]
async fn metadata_alone_is_refused_over_a_bucket_that_lacks_what_it_needs() {
    let (_etcd, archive, _) = milvus_archive(Recipients::nobody()).await;
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::memory();
    restore(&archive, Request { metadata: None, ..whole(dir.path(), "unused", &bucket) }).await.unwrap();
    let check = |name: &str| {
        let request = whole(dir.path(), name, &bucket);
        let Objects::Restore(to) = request.objects else { panic!("objects") };
        Request { objects: Objects::Check(to), ..request }
    };
    restore(&archive, check("fits")).await.unwrap();
    let lost = contents(&bucket).await.into_keys().find(|key| key.contains("insert_log")).unwrap();
    bucket.delete(&lost).await.unwrap();
    let why = restore(&archive, check("lacks")).await.unwrap_err().to_string();
    assert!(why.contains(&lost) && why.contains("--into-existing"), "{why}");
    assert!(!dir.path().join("lacks").exists());
}

/// An archive of an etcd with one flushed segment of Milvus and all its objects.
async fn milvus_archive(seal_to: Recipients) -> (Etcd, Bucket, Segment) {
    let mut etcd = Etcd::start().await;
    let segment = Segment::recorded();
    let (milvus, archive) = (Bucket::memory(), Bucket::memory());
    segment.store(&milvus).await;
    segment.write(&mut etcd).await;
    let backup = Backup { seal_to, ..backup(&etcd, Some(&milvus), &archive).await };
    take(&backup).await.unwrap();
    etcd.put("in the tail", "x").await;
    etcd.put("in the tail", "y").await;
    take(&backup).await.unwrap();
    (etcd, archive, segment)
}

fn cluster(dir: &Path, folder: &str, names: &[&str]) -> MetadataTo {
    let founder = |(name, id): (&&str, u64)| Member {
        id: MemberId(id),
        name: (*name).to_owned(),
        peer_urls: vec![format!("http://localhost:{}", 2000 + id)],
        client_urls: Vec::new(),
        learner: false,
    };
    let founders: Vec<Member> = names.iter().zip(1..).map(founder).collect();
    let several = (names.len() > 1).then(|| dir.join(folder));
    let place = |name: &str| several.as_ref().map_or_else(|| dir.join(folder), |folder| folder.join(name));
    let write = founders.iter().map(|founder| MemberTo {
        name: founder.name.clone(),
        member: founder.id,
        data_dir: place(&founder.name),
        wal_dir: None,
    });
    MetadataTo::Members(ClusterTo { cluster: ClusterId(77), write: write.collect(), founders, folder: several })
}

fn metadata_only(dir: &Path, name: &str) -> Request {
    Request {
        at: At::Latest,
        timeline: None,
        metadata: Some(cluster(dir, name, &["one"])),
        objects: Objects::Leave,
        changes: None,
        bump_revision: 0,
        partial: false,
        scratch: dir.to_path_buf(),
        pin: None,
        open_doors: false,
    }
}

fn whole(dir: &Path, name: &str, bucket: &Bucket) -> Request {
    let home = Some(ObjectRoot::folder(HOME));
    let to = ObjectsTo { bucket: bucket.clone(), at: home.clone(), from: home, into_existing: false };
    let changes = Some(Changes::default());
    Request { objects: Objects::Restore(to), changes, bump_revision: 1000, ..metadata_only(dir, name) }
}

async fn restore(archive: &Bucket, request: Request) -> Result<Done, RestoreError> {
    prepare(archive, &Identities::default(), request, &()).await?.run(&()).await
}

/// All objects of a bucket with the hash of their bytes.
async fn contents(bucket: &Bucket) -> std::collections::BTreeMap<String, Sha256> {
    let keys: Vec<String> = bucket.list("").map_ok(|entry| entry.key).try_collect().await.unwrap();
    let mut all = std::collections::BTreeMap::new();
    for key in keys {
        let hash = Sha256::of(&bucket.read(&key).await.unwrap());
        all.insert(key, hash);
    }
    all
}

async fn wait_for(archive: &Bucket, revision: i64) {
    for _ in 0..300 {
        if let Ok(reading) = eyrie_backup::catalog::read(archive, None).await
            && reading.catalog.current().tail_head.is_some_and(|head| head.0 >= revision)
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the archive does not come to revision {revision}");
}

#[tokio::test]
async fn milvus_moves_to_another_root_and_nothing_else_does() {
    let (mut etcd, archive, segment) = milvus_archive(Recipients::nobody()).await;
    etcd.put("somebody/else", "x").await;
    let milvus = Bucket::memory();
    segment.store(&milvus).await;
    take(&backup(&etcd, Some(&milvus), &archive).await).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let to = |name: &str, changes: Option<Changes>| Request {
        metadata: Some(MetadataTo::Snapshot(file(name))),
        changes,
        ..metadata_only(dir.path(), "unused")
    };
    let moved = Changes { to_root: Some("other/root".into()), keep_queue: false };
    let done = restore(&archive, to("moved", Some(moved))).await.unwrap();
    assert_eq!(done.serves.0, done.revision.0 + 1, "changes are one revision later");
    restore(&archive, to("was", None)).await.unwrap();
    let (was, now) = (live_keys(&file("was")), live_keys(&file("moved")));
    assert!(was.iter().filter(|key| key.starts_with("by-dev/")).count() >= 3, "{was:?}");
    let expected: std::collections::BTreeSet<String> = was
        .iter()
        .map(|key| key.strip_prefix("by-dev/").map_or_else(|| key.clone(), |rest| format!("other/root/{rest}")))
        .collect();
    assert_eq!(now, expected);
    // a root that is in use is not written over
    let taken = now.iter().find(|key| key.starts_with("other/")).unwrap();
    etcd.put(taken, "somebody's").await;
    take(&backup(&etcd, Some(&milvus), &archive).await).await.unwrap();
    let moved = Changes { to_root: Some("other/root".into()), keep_queue: false };
    let why = restore(&archive, to("again", Some(moved))).await.unwrap_err().to_string();
    assert!(why.contains("Nothing was changed"), "{why}");
    assert!(!file("again").exists());
}

fn live_keys(file: &Path) -> std::collections::BTreeSet<String> {
    let file = SnapshotFile::open_for_restore(file, false).unwrap();
    let mut keys = std::collections::BTreeSet::new();
    file.history::<SnapshotFault>(|_, tombstone, bytes| {
        assert!(!tombstone, "only what lives is kept");
        let key = eyrie_state::record::view(bytes).unwrap().key;
        keys.insert(String::from_utf8_lossy(&bytes[key]).into_owned());
        Ok(())
    })
    .unwrap();
    keys
}
