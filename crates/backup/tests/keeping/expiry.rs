//! Retention at work: what is planned is what goes, and a run that is killed anywhere, or refused anything, converges.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eyrie_archive::retention::{Period, Rule};
use eyrie_archive::{Catalog, Kind, Policy, Seq, names};

use eyrie_backup::bucket::faults::{Faults, Mishap};
use eyrie_backup::bucket::{Action, Bucket};
use eyrie_backup::catalog::{self, OpenOptions, Writer};
use eyrie_backup::expire::{Outcome, expire, prepare};
use eyrie_backup::tell::Tell;
use eyrie_backup::verify::{Options, Thoroughness, verify};

use crate::sample::{HOUR, Sample, contents, copy_of, now};

/// Twelve days, a full each, and each with an object that the next day no longer needs; a killed writer left something.
async fn archive() -> Sample {
    let mut sample = Sample::open(12 * 24).await;
    for day in 0..12 {
        let revision = 10 + day * 10;
        sample.full(revision).await;
        let name = format!("files/day-{day:02}");
        let until = if day == 11 { None } else { Some(revision + 9) };
        sample.objects(&[(&name, revision, until)]).await;
        sample.cut(revision + 1, revision + 10).await;
        sample.verified().await;
        if day % 4 == 3 {
            sample.checkpoint().await;
        }
        sample.now.0 += 23 * HOUR;
    }
    sample.bucket.put("full/0001/0000000000000099-orphan.snap", "left by a killed writer").await.unwrap();
    sample.bucket.put("objects/files/orphan", "also").await.unwrap();
    sample
}

fn policy() -> Policy {
    Policy {
        fulls: vec![Rule { every: Period::days(4), keep: Period::days(60) }],
        keep_last: 1,
        tail: Period::days(2),
        min_age: Period::hours(1),
        ..Policy::default()
    }
}

async fn run(bucket: &Bucket) -> Result<Outcome, String> {
    let mut writer = Writer::join(bucket, &OpenOptions::default()).await.map_err(|error| error.to_string())?;
    expire(&mut writer, &policy(), &Tell::nobody()).await.map_err(|error| error.to_string())
}

/// All but the catalogue's own files and lists: those depend on how often it was tried.
fn data(contents: &BTreeMap<String, Bytes>) -> BTreeSet<String> {
    let folders = [names::FULL, names::TAIL, names::OBJECTS];
    contents.keys().filter(|name| folders.iter().any(|folder| name.starts_with(folder))).cloned().collect()
}

/// Whole, and nothing left over; returns what it holds.
async fn settled(bucket: &Bucket) -> (BTreeSet<String>, Catalog) {
    let options = Options { thoroughness: Thoroughness::Data, ..Options::default() };
    let report = verify(bucket, &options, &Tell::nobody()).await.unwrap();
    assert!(report.is_well(), "{report:#?}");
    let catalog = catalog::read(bucket, None).await.unwrap().whole().unwrap();
    let left = prepare(bucket, &catalog, &policy()).await.unwrap();
    assert!(left.is_empty(), "{left:#?}");
    let contents = contents(bucket).await;
    let own: BTreeSet<String> = catalog.own_files().map(|name| name.to_string()).collect();
    let there = contents.keys().filter(|name| name.starts_with(names::CATALOG) || name.starts_with(names::CHECKPOINT));
    assert_eq!(there.cloned().collect::<BTreeSet<_>>(), own);
    (data(&contents), catalog)
}

#[tokio::test]
async fn what_a_dry_run_tells_is_what_goes() {
    let sample = archive().await;
    let before = contents(&sample.bucket).await;
    let planned = prepare(&sample.bucket, &sample.catalog, &policy()).await.unwrap();
    assert_eq!(contents(&sample.bucket).await, before, "a dry run changes nothing");
    assert!(planned.objects.count >= 5 && planned.orphans == 2, "{planned:#?}");
    let outcome = run(&sample.bucket).await.unwrap();
    assert_eq!(outcome.prepared.objects, planned.objects);
    assert_eq!(outcome.prepared.plan.items.len(), planned.plan.items.len());
    let (after, catalog) = settled(&sample.bucket).await;
    let gone = data(&before).difference(&after).count() as u64;
    let items = planned.plan.items.iter().filter(|item| item.fate.goes());
    let files =
        items.filter(|item| !matches!(item.thing, eyrie_archive::retention::Thing::Records { .. })).count() as u64;
    assert_eq!(gone, files + planned.objects.count + 2);
    // kept revisions still have their objects
    let newest = catalog.current().newest_revision().unwrap();
    assert!(catalog.current().mirrored_to == Some(newest) && after.contains("objects/files/day-11"));
    assert_eq!(
        sample.catalog.last_verified().map(|(_, full)| full.seq),
        catalog.last_verified().map(|(_, full)| full.seq)
    );
}

#[tokio::test]
async fn killed_at_any_call_the_next_run_does_the_rest() {
    let whole = contents(&archive().await.bucket).await;
    let clean = copy_of(&whole).await;
    let (counted, faults) = Faults::over(&clean);
    run(&counted).await.unwrap();
    let calls = faults.calls();
    assert!(calls > 60, "{calls}");
    let (expected, _) = settled(&clean).await;
    for call in 1..=calls {
        for death in Mishap::DEATHS {
            let bucket = copy_of(&whole).await;
            let (deadly, faults) = Faults::over(&bucket);
            faults.at(call, death);
            let died = run(&deadly).await;
            let unfinished = |outcome: &Outcome| outcome.unfinished.is_some();
            assert!(
                !faults.is_dead() || died.as_ref().map_or(true, unfinished),
                "dead at call {call}, and nobody noticed"
            );
            // what is still counted on is whole, whatever was deleted
            let options = Options { thoroughness: Thoroughness::Data, ..Options::default() };
            let report = verify(&bucket, &options, &Tell::nobody()).await.unwrap();
            assert!(report.is_well(), "{death:?} at call {call}: {report:#?}");
            run(&bucket).await.unwrap();
            assert_eq!(settled(&bucket).await.0, expected, "{death:?} at call {call}");
        }
    }
}

#[tokio::test]
async fn whatever_a_store_answers_nothing_else_is_deleted() {
    let whole = contents(&archive().await.bucket).await;
    let clean = copy_of(&whole).await;
    let (counted, faults) = Faults::over(&clean);
    run(&counted).await.unwrap();
    let calls = faults.calls();
    let (expected, _) = settled(&clean).await;
    for call in (1..=calls).step_by(5) {
        for mishap in Mishap::ANSWERED {
            let bucket = copy_of(&whole).await;
            let (faulty, faults) = Faults::over(&bucket);
            faults.at(call, mishap);
            if let Err(why) = run(&faulty).await {
                assert!(why.contains("Next:") || why.contains("can't"), "{mishap:?} at call {call}: {why}");
            }
            run(&bucket).await.unwrap();
            assert_eq!(settled(&bucket).await.0, expected, "{mishap:?} at call {call}");
        }
    }
}

#[tokio::test]
async fn locked_files_are_told_and_tried_again() {
    let sample = archive().await;
    let (bucket, faults) = Faults::over(&sample.bucket);
    faults.on(Action::Delete, Mishap::Locked);
    let outcome = run(&bucket).await.unwrap();
    assert!(outcome.unfinished.is_none() && outcome.deleted == 0 && outcome.left.len() > 10, "{outcome:#?}");
    // no reader counts on them any more
    assert!(verify(&bucket, &Options::default(), &Tell::nobody()).await.unwrap().is_well());
    faults.clear();
    run(&bucket).await.unwrap();
    settled(&bucket).await;
}

#[tokio::test]
async fn an_object_that_was_stored_again_survives_the_sweep_that_comes_late() {
    let sample = archive().await;
    let (bucket, faults) = Faults::over(&sample.bucket);
    faults.on(Action::Delete, Mishap::Denied);
    let outcome = run(&bucket).await.unwrap();
    assert!(outcome.unfinished.is_some(), "{outcome:#?}");
    faults.clear();
    // another history names the oldest object again
    let mut writer = Writer::join(&bucket, &OpenOptions::default()).await.unwrap();
    assert_eq!(writer.catalog().unswept().count(), 1);
    let list = index_line(&bucket, writer.catalog()).await;
    writer.append(list).await.unwrap();
    run(&bucket).await.unwrap();
    let (there, _) = settled(&bucket).await;
    assert!(there.contains("objects/files/day-00") && !there.contains("objects/files/day-01"), "{there:?}");
}

/// The record that says that the object of the first day is mirrored, and needed from now on.
async fn index_line(bucket: &Bucket, catalog: &Catalog) -> Kind {
    use eyrie_archive::record::ObjectsMirrored;
    use eyrie_archive::{Entry, Line, Sha256, SourcePath, Use, index::encode_piece};
    let source = SourcePath::new("files/day-00").unwrap();
    let text = "the object files/day-00";
    let name = |wrap| names::object(&source.clone(), wrap);
    let nobody = eyrie_backup::seal::Recipients::nobody();
    let packed = eyrie_backup::pack::bytes(bucket, &nobody, name, text.into()).await.unwrap();
    let line = catalog.current();
    let uses = vec![Use { timeline: line.id, from: line.newest_revision().unwrap(), to: None }];
    let (len, sha256) = (text.len() as u64, Sha256::of(text.as_bytes()));
    let entry = Entry { source, len, sha256, stored: packed.stored, lived_ms: catalog.lived_at(now()), uses };
    let piece = encode_piece(&[Line::Mirrored(entry)]);
    let name = |wrap| names::index(Seq(999), "late", wrap);
    let piece = eyrie_backup::pack::bytes(bucket, &nobody, name, piece.into()).await.unwrap().stored;
    Kind::ObjectsMirrored(ObjectsMirrored {
        piece,
        objects: 1,
        bytes: len,
        stored_bytes: len,
        mirrored_to: None,
        repaired: Vec::new(),
    })
}

#[tokio::test]
async fn an_archive_whose_index_is_damaged_loses_no_object() {
    let sample = archive().await;
    let piece = sample.catalog.pieces().next().unwrap().1.stored.path.clone();
    sample.bucket.put(piece.as_str(), "x").await.unwrap();
    let before = contents(&sample.bucket).await.keys().filter(|name| name.starts_with(names::OBJECTS)).count();
    let outcome = run(&sample.bucket).await.unwrap();
    assert!(outcome.prepared.objects_unknown.is_some() && outcome.prepared.orphans == 0, "{outcome:#?}");
    let after = contents(&sample.bucket).await.keys().filter(|name| name.starts_with(names::OBJECTS)).count();
    assert_eq!(before, after);
}
