//! Restore, verify, merge and the index: plans that can be read before anything happens.

mod kit;

use std::collections::BTreeMap;

use eyrie_archive::{
    Ask, At, Entry, Index, IndexError, Line, LivedMillis, Revision, Scope, SourcePath, StoredPath, TimelineId, Use,
    index::{decode_piece, encode_piece},
    names,
    record::Depth,
    restore::{Hindered, Objects, Step, Want, restore_plan},
    verify::{Look, verify_plan},
};
use kit::{Archive, hash};

fn path(text: &str) -> SourcePath {
    SourcePath::new(text).unwrap()
}

fn entry(source: &str, len: u64, uses: &[(i64, Option<i64>)]) -> Entry {
    let source = path(source);
    let stored = kit::stored(names::object(&source, names::Wrap { zstd: true, age: true }).unwrap());
    let one =
        |(from, to): &(i64, Option<i64>)| Use { timeline: TimelineId(1), from: Revision(*from), to: to.map(Revision) };
    let uses = uses.iter().map(one).collect();
    Entry { sha256: hash(source.as_str()), source, len, stored, lived_ms: LivedMillis(5), uses }
}

fn index(entries: &[Entry]) -> Index {
    let mut index = Index::new();
    let lines: Vec<Line> = entries.iter().cloned().map(Line::Mirrored).collect();
    index.apply(&lines).unwrap();
    index
}

fn archive() -> Archive {
    let mut archive = Archive::open();
    archive.full(10);
    archive.cut(11, 20);
    archive.full(20);
    archive.cut_mirrored(21, 30, Some(30));
    archive
}

#[test]
fn a_restore_reads_the_full_the_tail_and_the_objects_that_are_not_there() {
    let archive = archive();
    let index = index(&[entry("files/a", 1, &[]), entry("files/b", 2, &[]), entry("files/c", 3, &[])]);
    let wanted = BTreeMap::from([(path("files/a"), Some(1)), (path("files/b"), None)]);
    let present = BTreeMap::from([(path("files/b"), 2)]);
    let ask = Ask { at: At::Revision(Revision(25)), timeline: None, scope: Scope::Everything };
    let target = archive.catalog.resolve(ask).unwrap();
    let members = ["m1".to_string(), "m2".to_string()];
    let objects = Objects { wanted: &wanted, present: &present, index: &index };
    let want = Want { scope: Scope::Everything, members: &members, objects: Some(objects) };
    let plan = restore_plan(&target, &want).unwrap();
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match step {
            Step::FetchFull { revision, .. } => format!("full {revision}"),
            Step::ApplyTail { after, .. } => format!("tail after {after}"),
            Step::CopyObject { object } => format!("copy {}", object.source),
            Step::WriteMember { name } => format!("write {name}"),
            Step::Verify => "verify".into(),
        })
        .collect();
    assert_eq!(steps, ["full 20", "tail after 20", "copy files/a", "write m1", "write m2", "verify"]);
    assert_eq!((plan.objects, plan.object_bytes, plan.present, plan.read_bytes), (1, 1, 1, 3000));
    assert!(plan.lost[0].starts_with("revisions 26 to 30"), "{:?}", plan.lost);

    let plan_for = |wanted: &BTreeMap<_, _>, present: &BTreeMap<_, _>, scope| {
        restore_plan(&target, &Want { scope, members: &[], objects: Some(Objects { wanted, present, index: &index }) })
    };
    let more = BTreeMap::from([(path("files/z"), None)]);
    assert!(matches!(plan_for(&more, &present, Scope::Everything), Err(Hindered::Missing { count: 1, .. })));
    let partial = plan_for(&more, &present, Scope::WhatIsThere).unwrap();
    assert!(partial.lost.iter().any(|line| line.contains("files/z")), "{:?}", partial.lost);
    let taken = BTreeMap::from([(path("files/a"), 9)]);
    assert!(matches!(plan_for(&wanted, &taken, Scope::Everything), Err(Hindered::Occupied { found: 9, .. })));
    let longer = BTreeMap::from([(path("files/a"), Some(7))]);
    assert!(matches!(plan_for(&longer, &present, Scope::Everything), Err(Hindered::OtherLength { .. })));
}

#[test]
fn a_verification_looks_at_each_file_once_and_tells_each_chain() {
    let archive = archive();
    let fulls: Vec<_> = archive.catalog.fulls().iter().map(|(_, full)| full.seq).collect();
    let uses = [(5, Some(9)), (5, Some(15)), (25, None), (29, None), (31, Some(40))];
    let entries: Vec<Entry> =
        uses.iter().enumerate().map(|(at, one)| entry(&format!("files/{at}"), 1, &[*one])).collect();
    let index = index(&entries);
    let reads = |look| verify_plan(&archive.catalog, &index, &fulls, look).checks.iter().filter(|one| one.read).count();
    // Two fulls, two pieces of tail, the objects 1, 2 and 3; 0 and 4 belong to other revisions.
    let plan = verify_plan(&archive.catalog, &index, &fulls, Look::Data);
    assert_eq!((plan.checks.len(), plan.read_bytes), (7, 7000));
    assert_eq!(reads(Look::Structure), 0);
    assert_eq!(reads(Look::Sample { objects: 0, seed: 1 }), 4);
    let some: Vec<usize> = (0..20).map(|seed| reads(Look::Sample { objects: 1, seed })).collect();
    assert!(some.iter().all(|count| (4..=5).contains(count)), "{some:?}");
    assert!(some.contains(&5), "a seed draws an object that is needed");
    assert!(reads(Look::Sample { objects: 9, seed: 1 }) == 7);

    let none = plan.verdicts(&BTreeMap::new(), 3);
    assert!(none.iter().all(|one| one.ok && one.depth == Depth::Data));
    // The second full is not needed by the first chain.
    assert_eq!((none[0].files, none[1].files), (6, 4));
    // Object 1 is of the first chain alone.
    let wrong = BTreeMap::from([(entries[1].stored.path.clone(), "hash differs".to_string())]);
    let told = plan.verdicts(&wrong, 3);
    assert_eq!((told[0].ok, told[1].ok), (false, true));
    assert_eq!(told[0].damaged[0].path, entries[1].stored.path);
    for verified in told.into_iter().chain(none) {
        archive.catalog.draft(&archive.writer, archive.now, eyrie_archive::Kind::Verified(verified)).unwrap();
    }
}

#[test]
fn short_pieces_of_a_span_that_is_over_are_merged() {
    let mut archive = Archive::open();
    archive.now.0 -= archive.now.0 % eyrie_archive::limits::MERGE_SPAN_MS;
    archive.full(10);
    for revision in 11..=15 {
        archive.cut(revision, revision);
    }
    assert_eq!(archive.catalog.merges(), [], "the span may still grow");
    archive.now.0 += eyrie_archive::limits::MERGE_SPAN_MS;
    for revision in 16..=18 {
        archive.cut(revision, revision);
    }
    let merges = archive.catalog.merges();
    let ranges: Vec<_> = merges.iter().map(|one| (one.first.0, one.last.0, one.pieces.len())).collect();
    assert_eq!(ranges, [(11, 15, 5)]);
    archive.merge(11, 15);
    assert_eq!(archive.catalog.merges(), []);
    assert_eq!(archive.catalog.current().tail.len(), 4);
    assert_eq!(archive.catalog.superseded().map(|(_, old)| old.files.len()).sum::<usize>(), 5);
    assert_eq!(archive.catalog.runs(archive.catalog.current()).len(), 1);
}

#[test]
fn the_index_keeps_one_truth_for_each_object() {
    let mut index = index(&[entry("files/a", 1, &[(5, None)])]);
    let same = path("files/a");
    assert_eq!(index.find(&same, 1).unwrap().unwrap().len, 1);
    assert_eq!(index.find(&path("files/b"), 1).unwrap(), None);
    let changed = index.find(&same, 2).unwrap_err();
    assert!(changed.to_string().contains("never change"), "{changed}");
    let before = index.clone();
    let lines = [Line::Mirrored(entry("files/0", 1, &[])), Line::Mirrored(entry("files/a", 2, &[]))];
    assert!(matches!(index.apply(&lines), Err(IndexError::Changed { .. })));
    assert_eq!(index, before, "nothing of a bad piece is used");

    let (timeline, source) = (TimelineId(1), same.clone());
    index.apply(&[Line::Released { source: source.clone(), timeline, to: Revision(8) }]).unwrap();
    index.apply(&[Line::Used { source: source.clone(), timeline, from: Revision(20) }]).unwrap();
    index.apply(&[Line::Used { source: source.clone(), timeline: TimelineId(2), from: Revision(3) }]).unwrap();
    let uses = &index.get("files/a").unwrap().uses;
    let told: Vec<_> = uses.iter().map(|one| (one.timeline.0, one.from.0, one.to.map(|to| to.0))).collect();
    assert_eq!(told, [(1, 5, Some(8)), (1, 20, None), (2, 3, None)]);
    let mut again = Index::new();
    again.apply(&decode_piece(&index.merged()).unwrap()).unwrap();
    assert_eq!(again, index);
    index.apply(&[Line::Removed { source, stored: None }]).unwrap();
    assert!(index.is_empty());
}

#[test]
fn a_piece_that_is_not_what_was_written_is_refused() {
    let good = encode_piece(&[Line::Mirrored(entry("files/b", 1, &[])), Line::Mirrored(entry("files/a", 1, &[]))]);
    assert_eq!(decode_piece(&good).unwrap().len(), 2);
    let text = String::from_utf8(good).unwrap();
    let refused = |text: &str| decode_piece(text.as_bytes()).unwrap_err().to_string();
    assert!(refused(&text.replace("{\"index\":1}", "{\"index\":2}")).contains("newer version"));
    assert!(refused(text.trim_end()).contains("end is missing"));
    assert!(refused(&text.replace("files/b", "../../etc/passwd")).contains("not a source path"));
    assert!(refused(&text.replace("\"path\":\"objects/files/b", "\"path\":\"/objects/files/b")).contains("not a name"));
    assert!(refused(&text.replace("files/a", "files/c")).contains("out of order"));
    assert!(refused("").contains("end is missing"));
}

#[test]
fn names_say_one_thing_only() {
    let wrap = names::Wrap { zstd: true, age: true };
    let object = |source: &str| names::object(&path(source), wrap).unwrap();
    assert_eq!(object("files/insert_log/1").as_str(), "objects/files/insert_log/1.zst.age");
    assert_eq!(names::Wrap::of(&object("files/x")), wrap);
    // A source that is itself called so does not look like a wrap, nor like another object's.
    let plain = names::object(&path("a.zst"), names::Wrap::default()).unwrap();
    assert_eq!(plain.as_str(), "objects/a%2Ezst");
    assert_eq!(names::Wrap::of(&plain), names::Wrap::default());
    assert_eq!(object("sp ace/ü").as_str(), "objects/sp%20ace/%C3%BC.zst.age");
    for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "a\\b", "a\nb"] {
        assert!(SourcePath::new(bad).is_err() && StoredPath::new(bad).is_err(), "{bad:?}");
    }
    assert!(StoredPath::new("objects/sp ace").is_err());
    assert!(names::full(TimelineId(1), Revision(1), "../x", wrap).is_err());
    for (name, seq) in [
        ("catalog/000000000001.json", Some(1)),
        ("catalog/1000000000000.json", Some(1_000_000_000_000)),
        ("catalog/0000000000001.json", None),
        ("catalog/000000000000.json", None),
        ("catalog/00000000001.json", None),
        ("catalog/+00000000001.json", None),
        ("catalog/99999999999999999999999.json", None),
        ("checkpoint/000000000001.json", None),
    ] {
        assert_eq!(names::record_seq(name).map(|seq| seq.0), seq, "{name}");
    }
}
