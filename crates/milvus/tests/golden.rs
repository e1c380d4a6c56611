//! What is seen in a Milvus of each generation, and what a restore makes of it: `golden/*.txt` in, `golden/*.seen` out.
//!
//! `EYRIE_BLESS=1 cargo test -p eyrie-milvus` writes down what is seen now; read the diff before you keep it.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::Fixture;
use eyrie_milvus::coherence::Coherence;
use eyrie_milvus::transform::{Options, Outcome, Queue, Transform};
use eyrie_milvus::{Catalog, Description, Key, Layout, ObjectRoot, QueueKind, References, Value};

#[test]
#[allow(clippy::disallowed_methods, reason = "fixtures are files; the crate itself never opens one")]
fn each_generation_is_seen_as_written_down() {
    let bless = std::env::var_os("EYRIE_BLESS").is_some();
    for fixture in Fixture::all() {
        let seen = see(&fixture);
        let file = format!("{}/tests/golden/{}.seen", env!("CARGO_MANIFEST_DIR"), fixture.name);
        if bless {
            std::fs::write(&file, &seen).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        for (n, (now, then)) in seen.lines().zip(kept.lines()).enumerate() {
            assert_eq!(now, then, "{}.seen, line {}", fixture.name, n + 1);
        }
        assert_eq!(seen.lines().count(), kept.lines().count(), "{}.seen is shorter or longer", fixture.name);
    }
}

#[test]
fn every_key_is_read_and_printed_back() {
    for fixture in Fixture::all() {
        let layout = &Layout::detect(fixture.pairs())[0];
        for (raw, value) in fixture.pairs() {
            let key = Key::parse(&layout.roots, raw).unwrap();
            assert_eq!(key.print(&layout.roots).as_bytes(), raw);
            Value::decode(&key, value).unwrap();
        }
    }
}

/// The real Milvus's objects are the judge: what it wrote and still keeps is what its metadata names.
#[test]
fn the_recorded_milvus_names_just_the_objects_that_it_had() {
    let fixture = Fixture::all().into_iter().find(|fixture| fixture.name == "v2_3").unwrap();
    let layout = &Layout::detect(fixture.pairs())[0];
    let references = References::of(layout.roots.clone(), fixture.objects_at.clone(), fixture.pairs());
    let named: BTreeMap<String, Option<u64>> = references.iter().map(|object| (object.path, object.size)).collect();
    for path in named.keys() {
        assert!(fixture.objects.contains_key(path), "named, and Milvus had no such object: {path}");
    }
    for path in fixture.objects.keys() {
        assert!(named.contains_key(path), "Milvus had it and it is not named: {path}");
    }
}

/// Whatever moves, the same objects are named, at their new place, and nothing names the old root.
#[test]
fn a_moved_milvus_names_the_same_objects_at_the_new_place() {
    for fixture in Fixture::all() {
        let layout = &Layout::detect(fixture.pairs())[0];
        let catalog = Catalog::read(&layout.roots, fixture.pairs());
        let to = ObjectRoot::bucket("moved/here");
        let before = References::of(layout.roots.clone(), fixture.objects_at.clone(), fixture.pairs());
        let options = Options {
            to_root: Some("else/where".into()),
            objects: Some((fixture.objects_at.clone(), to.clone())),
            ..Options::new(Queue::Kept)
        };
        let (pairs, report) = Transform::new(layout, &catalog, options).run(fixture.pairs()).unwrap();
        assert_eq!(report.values_with_root, Vec::<String>::new(), "{}", fixture.name);
        let pairs = || pairs.iter().map(|(key, value)| (&**key, &**value));
        assert!(pairs().all(|(key, _)| key.starts_with(b"else/where/") || key.starts_with(b"woodpecker/")));
        let moved = &Layout::detect(pairs())[0];
        assert_eq!(moved.roots.root, "else/where");
        let after = References::of(moved.roots.clone(), to, pairs());
        let old = |path: &str| path.strip_prefix(&*fixture.objects_at.prefix()).unwrap().to_owned();
        let new = |path: &str| path.strip_prefix("moved/here/").unwrap().to_owned();
        let before: Vec<_> = before.iter().map(|object| (old(&object.path), object.size)).collect();
        let after: Vec<_> = after.iter().map(|object| (new(&object.path), object.size)).collect();
        assert_eq!(before, after, "{}", fixture.name);
    }
}

fn see(fixture: &Fixture) -> String {
    let mut out = String::new();
    let layouts = Layout::detect(fixture.pairs());
    for layout in &layouts {
        let r = &layout.roots;
        let woodpecker = r.woodpecker.as_deref().unwrap_or("none");
        writeln!(
            out,
            "layout {} at `{}`, meta `{}`, kv `{}`, woodpecker {woodpecker}",
            layout.generation, r.root, r.meta, r.kv
        )
        .unwrap();
        for (class, count) in &layout.classes {
            writeln!(out, "  {count} {class}").unwrap();
        }
        match layout.check() {
            Ok(()) => writeln!(out, "  understood").unwrap(),
            Err(refusal) => writeln!(out, "  refused: {refusal}").unwrap(),
        }
    }
    let layout = &layouts[0];
    let catalog = Catalog::read(&layout.roots, fixture.pairs());
    write!(out, "\n{}", Description::of(layout, &catalog)).unwrap();
    let references = References::of(layout.roots.clone(), fixture.objects_at.clone(), fixture.pairs());
    writeln!(out, "\nnames {} objects", references.len()).unwrap();
    for object in references.iter() {
        let size = object.size.map_or("?".into(), |size| size.to_string());
        writeln!(out, "  {:?} {} {size}", object.need, object.path).unwrap();
    }
    for trouble in references.troubles() {
        writeln!(out, "  trouble: {trouble}").unwrap();
    }
    see_coherence(&mut out, &Coherence::check(&references, &catalog, &fixture.objects));
    see_transform(&mut out, fixture, layout, &catalog);
    out
}

fn see_coherence(out: &mut String, coherence: &Coherence) {
    writeln!(
        out,
        "\ncoherence: {:?}, {} objects of {} bytes",
        coherence.verdict(),
        coherence.whole.objects,
        coherence.whole.bytes
    )
    .unwrap();
    for sum in coherence.collections.values() {
        writeln!(
            out,
            "  {}: {} rows in {} segments, {} objects, {} broken",
            sum.name, sum.rows, sum.segments, sum.whole.objects, sum.broken
        )
        .unwrap();
    }
    coherence.missing.named.iter().for_each(|missing| writeln!(out, "  missing {missing}").unwrap());
    coherence.short.named.iter().for_each(|w| {
        writeln!(out, "  length {} of {}, found {}", w.object.path, w.object.size.unwrap_or(0), w.found).unwrap()
    });
    coherence
        .orphans
        .named
        .iter()
        .for_each(|orphan| writeln!(out, "  not named {} {}", orphan.path, orphan.bytes).unwrap());
    coherence.doubts.named.iter().for_each(|doubt| writeln!(out, "  doubt: {doubt}").unwrap());
    let strip = &coherence.strip;
    strip.segments.iter().for_each(|segment| writeln!(out, "  to leave out: segment {segment}").unwrap());
    strip
        .builds
        .iter()
        .for_each(|(segment, build)| writeln!(out, "  to leave out: index {build} of {segment}").unwrap());
}

fn see_transform(out: &mut String, fixture: &Fixture, layout: &Layout, catalog: &Catalog) {
    let queue = Queue::Lost(catalog.queue().unwrap_or(QueueKind::Woodpecker));
    let options = Options::new(queue);
    let mut transform = Transform::new(layout, catalog, options);
    writeln!(out, "\nrestored on an empty queue ({queue:?})").unwrap();
    for (key, value) in fixture.pairs() {
        let name = String::from_utf8_lossy(key);
        match transform.apply(key, value).unwrap() {
            Outcome::Keep => {}
            Outcome::Drop(why) => writeln!(out, "  - {name} ({why:?})").unwrap(),
            Outcome::Change { value: new, .. } => {
                writeln!(out, "  * {name} {} -> {} bytes", value.len(), new.len()).unwrap()
            }
        }
    }
    write!(out, "{}", transform.report()).unwrap();
}
