//! Sealed backups: written with a public key, opened with a private one, and nothing without it.

use eyrie_backup::logical::create::{self, Created, Options};
use eyrie_backup::logical::store::{State, Store};
use eyrie_backup::logical::{Kind, Tell, verify};
use eyrie_backup::seal::{Identities, Recipients, keygen};
use eyrie_milvus::logical::levels::{BACKUP, FULL, read_backup};
use eyrie_milvus::logical::{BackupName, breaches};
use eyrie_milvus::salvage::Key;
use futures::TryStreamExt;

use crate::aviary::Segment;
use crate::{World, suffix, world};

/// A fresh pair of keys.
fn keys() -> (Recipients, Identities) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let recipient = keygen(&path, "today").unwrap().to_string();
    let identities = Identities::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    (Recipients::parse([recipient.as_str()]).unwrap(), identities)
}

impl World {
    async fn seal(&self, name: &str, recipients: &Recipients, incremental: bool) -> Created {
        let name = Some(BackupName::parse(name).unwrap());
        let options = Options { name, recipients: recipients.clone(), incremental, ..Options::default() };
        create::create(&self.doors, &self.settings, &options, &Tell::nobody()).await.unwrap()
    }

    /// The store as one sees it who has these keys.
    fn with(&self, keys: &Identities) -> Store {
        self.doors.store.clone().with_keys(keys.clone())
    }
}

async fn verified(store: &Store, name: &str) -> verify::Verified {
    verify::verify(store, &BackupName::parse(name).unwrap(), true, &Tell::nobody()).await.unwrap()
}

#[tokio::test]
async fn only_the_private_key_opens_what_is_sealed() {
    let mut world = world().await;
    world.aviary.add("secretive", &[(10, 0), (7, 2)]).await;
    let ((public, private), (_, other)) = (keys(), keys());
    let created = world.seal("one", &public, false).await;
    assert_eq!(created.copied.0, 17);

    // Who reads the bucket sees that it is sealed, and neither names nor rows.
    let bucket = world.doors.store.bucket().clone();
    for entry in bucket.list("").try_collect::<Vec<_>>().await.unwrap() {
        let bytes = bucket.read(&entry.key).await.unwrap();
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!has(b"secretive") && !has(b"PAR1"), "{} is in the clear", entry.key);
    }
    let brief = read_backup(&bucket.read(&format!("one/meta/{BACKUP}")).await.unwrap()).unwrap();
    assert_eq!((brief.format.as_str(), brief.collection_backups.len()), ("eyrie-sealed", 0));
    assert!(brief.error_message.contains("eyrie milvus-backup") && brief.state_code != 2, "{brief:?}");
    assert!(
        bucket.stat(&format!("one/meta/{FULL}")).await.unwrap().is_none(),
        "upstream's readers would take it for theirs"
    );
    let listed = world.doors.store.list().await.unwrap();
    assert!(listed[0].is_sealed() && listed[0].state == State::Whole && listed[0].brief.as_ref().unwrap().size > 0);

    // Without a key, or with a wrong one, nothing is touched.
    let before = (world.aviary.calls(), world.aviary.rows());
    for keys in [Identities::default(), other] {
        world.doors.store = world.with(&keys);
        let why = world.restore("one", &suffix("_r")).await.unwrap_err();
        assert!(why.kind == Kind::Denied && why.next.contains("--identity"), "{why}");
        assert!(world.doors.store.read(&created.name).await.is_err());
    }
    assert_eq!((world.aviary.calls(), world.aviary.rows()), before, "a wrong key is known before Milvus is asked");

    world.doors.store = world.with(&private);
    let restored = world.restore("one", &suffix("_r")).await.unwrap();
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!(world.aviary.rows()["secretive_r"], 15);
    let left: Vec<_> = world.aviary.bucket().list("restore-temp").try_collect().await.unwrap();
    assert!(left.is_empty(), "plain copies were left: {left:?}");
    let keys = world.doors.store.plan_delete(&created.name).await.unwrap();
    world.doors.store.delete(&keys, &Tell::nobody()).await.unwrap();
    assert_eq!(world.states().await, []);
}

#[tokio::test]
async fn damage_of_envelopes_is_named_with_and_without_the_key() {
    let world = world().await;
    world.aviary.add("birds", &[(10, 1)]).await;
    let (public, private) = keys();
    world.seal("one", &public, false).await;
    let bucket = world.doors.store.bucket();
    for with_key in [false, true] {
        let store = if with_key { world.with(&private) } else { world.doors.store.clone() };
        let found = verified(&store, "one").await;
        assert_eq!((found.faults.as_slice(), found.unopened), (&[][..], !with_key));
        assert!(found.hashed >= 9, "{found:?}");
        for entry in bucket.list("one/binlogs/").try_collect::<Vec<_>>().await.unwrap() {
            let whole = bucket.read(&entry.key).await.unwrap();
            let mut flipped = whole.to_vec();
            flipped[whole.len() - 3] ^= 1;
            for damaged in [flipped.into(), whole.slice(..whole.len() - 1)] {
                bucket.put(&entry.key, damaged).await.unwrap();
                let log = entry.key.strip_prefix("one/").unwrap().trim_end_matches(".age");
                let faults = verified(&store, "one").await.faults;
                assert!(faults.iter().any(|fault| fault.contains(log)), "{log}: {faults:?}");
            }
            bucket.put(&entry.key, whole).await.unwrap();
        }
    }
}

/// Rows that were deleted and written again come out of envelopes, too: those of this backup and of the one it builds on.
#[tokio::test]
async fn rows_that_were_written_again_come_out_of_envelopes() {
    let mut world = world().await;
    let (logs, deletes) = (vec![vec![(1, 10), (2, 10)], vec![(1, 30)]], vec![(1, 20)]);
    world.aviary.add_segments("birds", &[Segment { logs, deletes }]).await;
    let (public, private) = keys();
    world.seal("one", &public, false).await;
    let second = world.seal("two", &public, true).await;
    assert_eq!((second.copied.0, second.held), (1, 8), "the rows lie in the first");
    world.doors.store = world.with(&private);
    for name in ["one", "two"] {
        let restored = world.restore(name, &suffix("_r")).await.unwrap();
        assert!(restored.failed.is_empty(), "{:?}", restored.failed);
        assert_eq!(world.aviary.came("birds_r"), [(Key::Number(1), 30), (Key::Number(2), 10)]);
        let left: Vec<_> = world.aviary.bucket().list("restore-temp").try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        world.aviary.drop_collection_now("birds_r");
    }
}

/// Who seals needs no private key, also for what builds on an earlier backup.
#[tokio::test]
async fn sealed_backups_build_on_those_of_the_same_keys() {
    let mut world = world().await;
    world.aviary.add("birds", &[(4, 1), (6, 0)]).await;
    let ((public, private), (others, _)) = (keys(), keys());
    world.seal("one", &public, false).await;
    world.aviary.add("eggs", &[(3, 0)]).await;
    let second = world.seal("two", &public, true).await;
    assert_eq!((second.copied.0, second.held), (8 + 1, 16));
    let foreign = world.seal("three", &others, true).await;
    assert_eq!(foreign.held, 0, "what is sealed to others is of no use");
    let plain = world.create("four").await.unwrap();
    let levels = world.doors.store.read(&plain.name).await.unwrap();
    assert_eq!(breaches(&eyrie_milvus::logical::Levels::of(&levels.info)), []);
    world.doors.store = world.with(&private);
    assert_eq!(verified(&world.doors.store, "two").await.faults, Vec::<String>::new());
    let restored = world.restore("two", &suffix("_r")).await.unwrap();
    assert!(restored.failed.is_empty(), "{:?}", restored.failed);
    assert_eq!((world.aviary.rows()["birds_r"], world.aviary.rows()["eggs_r"]), (9, 3));
}

/// A run that ends in the middle is finished by the next, and nothing that it left is taken for whole.
#[tokio::test]
async fn sealing_is_killed_at_every_call_to_the_bucket() {
    let (public, private) = keys();
    for number in 1.. {
        let mut world = world().await;
        world.aviary.add("birds", &[(4, 1)]).await;
        let options =
            Options { name: Some(BackupName::parse("one").unwrap()), recipients: public.clone(), ..Options::default() };
        world.faults.kill_at(number);
        let first = create::create(&world.doors, &world.settings, &options, &Tell::nobody()).await;
        let killed = world.faults.is_dead();
        world.faults.clear();
        if killed {
            let again = create::create(&world.doors, &world.settings, &options, &Tell::nobody()).await;
            assert!(again.is_ok() || again.unwrap_err().kind == Kind::Exists, "call {number}");
        } else {
            first.unwrap();
        }
        world.doors.store = world.with(&private);
        let found = verified(&world.doors.store, "one").await;
        assert_eq!(found.faults, Vec::<String>::new(), "call {number}");
        world.doors.store.bucket().delete("one/eyrie/working.json").await.unwrap();
        let all: Vec<_> = world.doors.store.bucket().list("one/").try_collect().await.unwrap();
        assert_eq!(all.len() as u64, found.objects + 1, "call {number}: {all:?}");
        if !killed {
            assert!(number > 20, "only {number} calls");
            break;
        }
    }
}
