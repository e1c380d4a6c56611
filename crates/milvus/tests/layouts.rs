//! Which Milvus are found in an etcd, and what is refused by name.

mod common;

use common::Fixture;
use eyrie_milvus::coherence::{Coherence, Strip, Verdict};
use eyrie_milvus::transform::{Options, Queue, Transform, Why};
use eyrie_milvus::{Catalog, Change, Layout, Need, ObjectRoot, References, Refusal, Roots};

fn detect(pairs: &[(&str, &str)]) -> Vec<Layout> {
    Layout::detect(pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())))
}

fn fixture(name: &str) -> Fixture {
    Fixture::all().into_iter().find(|fixture| fixture.name == name).unwrap()
}

const SESSION: &str = r#"{"ServerID":1,"ServerName":"rootcoord","Version":"2.4.1"}"#;
const USER: (&str, &str) = ("a/meta/root-coord/credential/users/root", "{}");

#[test]
fn two_milvus_in_one_etcd_are_told_apart() {
    let both = detect(&[
        USER,
        ("a/b/meta/root-coord/credential/users/root", "{}"),
        ("a/b/meta/session/rootcoord", SESSION),
        ("a/b/kv/gid/timestamp", "12345678"),
        ("another/program/session/x", "y"),
        ("health", ""),
    ]);
    let seen: Vec<_> = both.iter().map(|l| (l.roots.root.as_str(), l.classes.len(), l.check().is_ok())).collect();
    assert_eq!(seen, [("a", 1, true), ("a/b", 3, true)]);
    assert_eq!(both[1].versions.iter().collect::<Vec<_>>(), ["2.4.1"]);
}

#[test]
fn other_sub_paths_and_no_root_are_found() {
    let found = detect(&[("m/root-coord/database/db-info/1", ""), ("x/gid/timestamp", "12345678")]);
    assert_eq!(found[0].roots, Roots { root: String::new(), meta: "m".into(), kv: "x".into(), woodpecker: None });
    let found = detect(&[("r/s/metadata/root-coord/database/db-info/1", ""), ("r/s/keys/gid/timestamp", "12345678")]);
    let roots = Roots { root: "r/s".into(), meta: "metadata".into(), kv: "keys".into(), woodpecker: None };
    assert_eq!((found.len(), &found[0].roots), (1, &roots));
}

#[test]
fn nothing_of_milvus_is_no_milvus() {
    assert_eq!(
        detect(&[("session/id", "1"), ("my/session/web-1", "{}"), ("root-coord", ""), ("a/root-coord/x", "")]),
        []
    );
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let newer = SESSION.replace("2.4.1", "3.0.1");
    let refused = detect(&[USER, ("a/meta/session/mixcoord", &newer)])[0].check().unwrap_err();
    assert_eq!(refused, Refusal::Version { version: "3.0.1".into(), root: "a".into() });

    let snapshot = ("a/meta/datacoord-meta/snapshot/100/7", "");
    let refused = detect(&[USER, snapshot])[0].check().unwrap_err();
    assert_eq!(refused, Refusal::UnknownKeys { root: "a".into(), count: 1, first: snapshot.0.into() });

    let refused = detect(&[("a/meta/session/rootcoord", SESSION), ("a/meta/session/id", "3")])[0].check().unwrap_err();
    assert_eq!(refused, Refusal::MetadataElsewhere { root: "a".into() });
}

/// A needed object's absence breaks; that of a dropped segment asks to leave its keys out, after which all is whole.
#[test]
fn metadata_is_made_to_fit_by_leaving_keys_out() {
    let fixture = fixture("v2_4");
    let layout = &Layout::detect(fixture.pairs())[0];
    let catalog = Catalog::read(&layout.roots, fixture.pairs());
    let at = ObjectRoot::bucket("files");
    let references = References::of(layout.roots.clone(), at.clone(), fixture.pairs());
    let coherence = Coherence::check(&references, &catalog, &fixture.objects);
    assert_eq!(coherence.verdict(), Verdict::WholeIfStripped);

    let options = Options { strip: coherence.strip.clone(), ..Options::new(Queue::Kept) };
    let (pairs, report) = Transform::new(layout, &catalog, options).run(fixture.pairs()).unwrap();
    let stripped = report.counts[&Why::ObjectsGone];
    let pairs = || pairs.iter().map(|(key, value)| (&**key, &**value));
    let after = References::of(layout.roots.clone(), at, pairs());
    let again = Coherence::check(&after, &Catalog::read(&layout.roots, pairs()), &fixture.objects);
    assert_eq!((again.verdict(), again.strip.clone(), stripped), (Verdict::Whole, Strip::default(), 4));
    assert_eq!(again.collections.values().map(|c| c.rows).sum::<i64>(), 1260);

    // Of a dropped segment, and cut off: left out as if it were missing.
    let mut cut = fixture.objects.clone();
    cut.insert("files/insert_log/100/101/204/100/330".into(), 1);
    assert_eq!(Coherence::check(&references, &catalog, &cut).verdict(), Verdict::WholeIfStripped);
    let mut fewer = fixture.objects.clone();
    fewer.remove("files/insert_log/100/101/200/101/304").unwrap();
    assert_eq!(Coherence::check(&references, &catalog, &fewer).verdict(), Verdict::Broken);
    let mut shorter = fixture.objects.clone();
    shorter.insert("files/insert_log/100/101/200/101/304".into(), 402);
    assert_eq!(Coherence::check(&references, &catalog, &shorter).verdict(), Verdict::Broken);
}

/// The need of an object follows its segment and its index, event by event, while its name stays.
#[test]
fn need_follows_segment_and_index() {
    let fixture = fixture("v2_4");
    let layout = &Layout::detect(fixture.pairs())[0];
    let mut references = References::of(layout.roots.clone(), ObjectRoot::bucket("files"), fixture.pairs());
    let find = |path: &str| references.iter().find(|object| object.path == path).unwrap().name;
    let log = find("files/insert_log/100/101/200/101/304");
    let index = find("files/index_files/410/2/101/200/HNSW");
    let value = |key: &str| fixture.pairs.iter().find(|(k, _)| k == key.as_bytes()).unwrap().1.clone();
    let field_index = "t4/meta/field-index/100/400";
    let segment = "t4/meta/datacoord-meta/s/100/101/200";
    let both = |references: &References| (references.need(&log), references.need(&index));
    assert_eq!(both(&references), (Some(Need::Required), Some(Need::Required)));

    let mut deleted = value(field_index);
    deleted.extend([2 << 3, 1]);
    assert_eq!(references.put(field_index.as_bytes(), &deleted), Default::default());
    assert_eq!(both(&references), (Some(Need::Required), Some(Need::DeletedIndex)));

    let mut dropped = value(segment);
    dropped.extend([6 << 3, 6]);
    references.put(segment.as_bytes(), &dropped);
    assert_eq!(both(&references), (Some(Need::DroppedSegment), Some(Need::DroppedSegment)));

    references.delete(segment.as_bytes());
    assert_eq!(both(&references), (Some(Need::NoSegment), Some(Need::NoSegment)));

    // It comes back, then its index: each event says what is required from now on.
    let paths = |change: Change| change.needed.into_iter().map(|object| object.path).collect::<Vec<_>>();
    let needed = paths(references.put(segment.as_bytes(), &value(segment)));
    assert_eq!((needed.len(), needed.iter().any(|path| path.contains("index_files"))), (6, false), "{needed:?}");
    assert_eq!(both(&references), (Some(Need::Required), Some(Need::DeletedIndex)));
    let needed = paths(references.put(field_index.as_bytes(), &value(field_index)));
    assert_eq!(needed, ["files/index_files/410/2/101/200/HNSW", "files/index_files/410/2/101/200/HNSW_meta"]);
    assert_eq!(paths(references.put(segment.as_bytes(), &value(segment))), Vec::<String>::new());

    let gone = references.delete(b"t4/meta/datacoord-meta/binlog/100/101/200/101");
    assert_eq!(gone.removed, std::slice::from_ref(&log));
    assert_eq!(references.need(&log), None);
}

/// A kept queue keeps its positions; sessions go in any case, the counter of server ids stays.
#[test]
fn a_kept_queue_keeps_its_positions() {
    for fixture in Fixture::all() {
        let layout = &Layout::detect(fixture.pairs())[0];
        let catalog = Catalog::read(&layout.roots, fixture.pairs());
        let options = Options::new(Queue::Kept);
        let (pairs, report) = Transform::new(layout, &catalog, options).run(fixture.pairs()).unwrap();
        let has = |end: &str| pairs.iter().any(|(key, _)| String::from_utf8_lossy(key).ends_with(end));
        assert!(has("/session/id") && !has("/session/rootcoord") && !has("/session/mixcoord"), "{}", fixture.name);
        assert_eq!(report.lost, []);
        for (key, value) in fixture.pairs() {
            let kept = pairs.iter().find(|(k, _)| k == key).map(|(_, value)| &**value);
            let name = String::from_utf8_lossy(key);
            assert!(kept.is_none_or(|kept| kept == value) || name.contains("/datacoord-meta/s/"), "{name} was changed");
        }
    }
}
