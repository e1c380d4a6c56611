//! References fed event by event equal those built at once, whatever happened; and no bytes make anything panic.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Fixture;
use eyrie_milvus::coherence::Coherence;
use eyrie_milvus::transform::{Options, Queue, Transform};
use eyrie_milvus::{Catalog, Description, Key, Layout, Need, ObjectRoot, QueueKind, References, Roots, Value};
use proptest::prelude::*;

/// One event: a key of the pool gets the value that another key of the pool had, a damaged one, or goes.
#[derive(Clone, Debug)]
enum Event {
    Put { key: usize, value: usize },
    Damage { key: usize, at: usize, byte: u8 },
    Delete { key: usize },
}

/// Keys of a few segments and indexes, with the values that such keys have: enough for every rule, few enough that
/// histories come back to the same keys.
fn pool() -> Vec<(Vec<u8>, Vec<u8>)> {
    let wanted = ["/datacoord-meta/", "/segment-index/", "/field-index/"];
    let mut pool = Vec::new();
    for fixture in Fixture::all().iter().filter(|fixture| fixture.name != "v2_3") {
        let root = &Layout::detect(fixture.pairs())[0].roots.root;
        for (key, value) in fixture.pairs() {
            let key = std::str::from_utf8(key).unwrap();
            if wanted.iter().any(|part| key.contains(part)) {
                pool.push((key.replacen(root.as_str(), "r", 1).into_bytes(), value.to_vec()));
            }
        }
    }
    pool.push((b"r/meta/of/no/class".to_vec(), b"x".to_vec()));
    pool.push((b"another/program".to_vec(), b"x".to_vec()));
    pool
}

fn events(pool: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..pool).prop_map(|key| Event::Put { key, value: key }),
        3 => (0..pool, 0..pool).prop_map(|(key, value)| Event::Put { key, value }),
        1 => (0..pool, 0usize..200, any::<u8>()).prop_map(|(key, at, byte)| Event::Damage { key, at, byte }),
        4 => (0..pool).prop_map(|key| Event::Delete { key }),
    ];
    prop::collection::vec(event, 1..120)
}

#[allow(clippy::disallowed_methods, reason = "how long to search is said from outside")]
fn cases() -> u32 {
    if std::env::var_os("EYRIE_LONG").is_some() { 20_000 } else { 200 }
}

fn empty() -> References {
    References::new(Roots::new("r"), ObjectRoot::bucket("files"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn fed_event_by_event_equals_built_at_once(events in events(pool().len())) {
        let pool = pool();
        let mut fed = empty();
        let mut space: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut told_needed: BTreeSet<String> = BTreeSet::new();
        for event in events {
            let change = match event {
                Event::Put { key, value } => {
                    space.insert(pool[key].0.clone(), pool[value].1.clone());
                    fed.put(&pool[key].0, &pool[value].1)
                }
                Event::Damage { key, at, byte } => {
                    let mut value = pool[key].1.clone();
                    if let Some(damaged) = value.get_mut(at) { *damaged = byte; }
                    space.insert(pool[key].0.clone(), value.clone());
                    fed.put(&pool[key].0, &value)
                }
                Event::Delete { key } => {
                    space.remove(&pool[key].0);
                    fed.delete(&pool[key].0)
                }
            };
            for name in change.removed {
                prop_assert!(told.remove(&name.path(fed.objects_at())), "removed twice: {name}");
            }
            told_needed.extend(change.needed.into_iter().map(|object| object.path));
            for object in change.added {
                if object.need == Need::Required { told_needed.insert(object.path.clone()); }
                prop_assert!(told.insert(object.path.clone()), "added twice: {}", object.path);
            }
        }
        let pairs = space.iter().map(|(key, value)| (&**key, &**value));
        let built = References::of(Roots::new("r"), ObjectRoot::bucket("files"), pairs.clone());
        prop_assert_eq!(&fed, &built);
        let named: BTreeSet<String> = built.iter().map(|object| object.path).collect();
        prop_assert_eq!(&told, &named, "what the events told differs from what is named");
        for object in built.iter().filter(|object| object.need == Need::Required) {
            prop_assert!(told_needed.contains(&object.path), "required, and no event told: {}", object.path);
        }
        let backwards = References::of(Roots::new("r"), ObjectRoot::bucket("files"), pairs.collect::<Vec<_>>().into_iter().rev());
        prop_assert_eq!(&built, &backwards, "the order of keys matters");
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        at in 0usize..1000,
        key in prop::collection::vec(any::<u8>(), 0..60),
        value in prop::collection::vec(any::<u8>(), 0..200),
        flip in (0usize..200, any::<u8>()),
    ) {
        let pool = pool();
        let (known, mut damaged) = pool[at % pool.len()].clone();
        if let Some(byte) = damaged.get_mut(flip.0) { *byte = flip.1; }
        let pairs = [(&*known, &*value), (&*known, &*damaged), (&*key, &*value)];
        for layout in Layout::detect(pairs.into_iter()) {
            let _ = layout.check();
        }
        let roots = Roots::new("r");
        for (key, value) in pairs {
            if let Ok(key) = Key::parse(&roots, key) {
                let _ = Value::decode(&key, value);
            }
        }
        let catalog = Catalog::read(&roots, pairs);
        let references = References::of(roots, ObjectRoot::bucket("files"), pairs);
        for object in references.iter() {
            prop_assert!(!object.path.split('/').any(|part| part == ".."), "a way out: {}", object.path);
        }
        let _ = Coherence::check(&references, &catalog, &BTreeMap::new());
        for fixture in Fixture::all().iter().take(1) {
            let layout = &Layout::detect(fixture.pairs())[0];
            let _ = Description::of(layout, &catalog).to_string();
            let options = Options {
                to_root: Some("to".into()),
                objects: Some((ObjectRoot::bucket("files"), ObjectRoot::folder("/x"))),
                    ..Options::new(Queue::Lost(QueueKind::Pulsar))
            };
            let mut transform = Transform::new(layout, &catalog, options);
            for (key, value) in pairs {
                let moved = [b"by-dev", key.strip_prefix(b"r").unwrap_or(key)].concat();
                let _ = transform.apply(&moved, value);
            }
            let _ = transform.report().to_string();
        }
    }

    #[test]
    fn a_key_that_is_read_is_printed_back(key in "(r/)?(meta|kv|config|woodpecker)(/(root-coord|datacoord-meta|snapshots|session|s|binlog|[a-z]{1,8}|-?[0-9]{1,19}|[a-z]{0,3}_ts[0-9]{0,5}))*/?") {
        let mut roots = Roots::new("r");
        roots.woodpecker = Some("woodpecker".into());
        if let Ok(read) = Key::parse(&roots, key.as_bytes()) {
            prop_assert_eq!(read.print(&roots), key);
        }
    }
}
