//! Tampering: whatever is done to a file of an archive, the verification names it. `EYRIE_LONG=1` flips every byte.

#![allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]

use std::collections::BTreeMap;

use bytes::Bytes;
use eyrie_archive::record::Depth;
use eyrie_archive::{Lack, Link, Revision, Stretch};

use eyrie_backup::bucket::faults::{Faults, Mishap};
use eyrie_backup::bucket::{Action, Bucket};
use eyrie_backup::catalog::{self, OpenOptions, Writer};
use eyrie_backup::tell::Tell;
use eyrie_backup::verify::{Options, Report, Thoroughness, record, verify};

use crate::sample::{Sample, contents, copy_of};

/// Two chains, three objects, an old checkpoint and a newer one.
async fn archive() -> Sample {
    let mut sample = Sample::open(50).await;
    sample.full(10).await;
    sample.objects(&[("files/a", 10, Some(15)), ("files/b", 12, None)]).await;
    sample.cut(11, 20).await;
    sample.checkpoint().await;
    sample.cut(21, 30).await;
    sample.full(30).await;
    sample.objects(&[("files/c", 31, None)]).await;
    sample.verified().await;
    sample.checkpoint().await;
    sample.cut(31, 40).await;
    sample
}

async fn look(bucket: &Bucket, thoroughness: Thoroughness) -> Option<Report> {
    look_pinned(bucket, thoroughness, None).await
}

async fn look_pinned(bucket: &Bucket, thoroughness: Thoroughness, pin: Option<Link>) -> Option<Report> {
    verify(bucket, &Options { thoroughness, pin, ..Options::default() }, &Tell::nobody()).await.ok()
}

/// Whether the report speaks of this file. An archive that can't be read at all speaks for itself.
fn names(report: Option<&Report>, file: &str) -> bool {
    let Some(report) = report else { return true };
    let digits = |name: &str| {
        name.split('/').nth(1).map(|rest| rest.trim_end_matches(".json").trim_start_matches('0').to_owned())
    };
    if file.starts_with("catalog/") || file.starts_with("checkpoint/") {
        let number = digits(file).unwrap();
        return report.catalog.iter().any(|one| one.what.contains(&format!(" {number}")));
    }
    report.damaged.iter().any(|one| one.path.as_str() == file && !one.means().is_empty())
}

#[tokio::test]
async fn a_whole_archive_is_well_and_recorded_as_that() {
    let sample = archive().await;
    for thoroughness in [Thoroughness::Structure, Thoroughness::Sample { percent: 40.0, seed: 1 }, Thoroughness::Data] {
        let report = look(&sample.bucket, thoroughness).await.unwrap();
        assert!(report.is_well() && report.verdicts.iter().all(|one| one.ok), "{report:#?}");
        assert_eq!((report.chains, report.objects), (2, 3));
        let mut writer = Writer::join(&sample.bucket, &OpenOptions::default()).await.unwrap();
        record(&mut writer, &report).await.unwrap();
        let newest = writer.catalog().verifications().last().unwrap();
        assert!(newest.what.ok && newest.what.depth == report.depth);
    }
    let data = look(&sample.bucket, Thoroughness::Data).await.unwrap();
    let shallow = look(&sample.bucket, Thoroughness::Sample { percent: 0.0, seed: 1 }).await.unwrap();
    assert!(data.bytes > shallow.bytes && shallow.bytes > 0);
}

#[tokio::test]
async fn every_flipped_byte_is_named() {
    let sample = archive().await;
    let step = if std::env::var_os("EYRIE_LONG").is_some() { 1 } else { 23 };
    let whole = contents(&sample.bucket).await;
    let bucket = copy_of(&whole).await;
    let mut flips = 0;
    for (file, bytes) in &whole {
        for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 8);
            bucket.put(file, flipped).await.unwrap();
            let report = look(&bucket, Thoroughness::Data).await;
            assert!(names(report.as_ref(), file), "byte {at} of {file}: {report:#?}");
            bucket.put(file, bytes.clone()).await.unwrap();
            flips += 1;
        }
    }
    assert!(flips > 200, "{flips}");
    assert!(look(&bucket, Thoroughness::Data).await.unwrap().is_well());
}

#[tokio::test]
async fn what_is_removed_cut_grown_or_exchanged_is_named() {
    let sample = archive().await;
    let whole = contents(&sample.bucket).await;
    let bucket = copy_of(&whole).await;
    // without a pin nobody sees that the newest record is gone
    let pin = Some(sample.head());
    let files: Vec<&String> = whole.keys().collect();
    for (at, file) in files.iter().enumerate() {
        let bytes = &whole[*file];
        let other = files[(at + 1) % files.len()];
        let newer: Bytes = [b"x".as_slice(), &bytes[1..]].concat().into();
        let cases: [(&str, Option<Bytes>, bool); 5] = [
            ("removed", None, true),
            ("cut", Some(bytes.slice(..bytes.len() / 2)), true),
            ("grown", Some([bytes.as_ref(), b"x"].concat().into()), true),
            ("in the place of another", Some(whole[other].clone()), whole[other].len() != bytes.len()),
            ("another version of the same length", Some(newer), false),
        ];
        for (case, content, shows_without_reading) in cases {
            match content {
                Some(content) => bucket.put(file, content).await.unwrap(),
                None => bucket.delete(file).await.unwrap(),
            }
            let report = look_pinned(&bucket, Thoroughness::Data, pin).await;
            assert!(names(report.as_ref(), file), "{file} is {case}: {report:#?}");
            if shows_without_reading {
                let report = look_pinned(&bucket, Thoroughness::Structure, pin).await;
                assert!(names(report.as_ref(), file), "{file} is {case}, looked at by length: {report:#?}");
            }
            bucket.put(file, bytes.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn two_files_in_each_others_place_are_told_as_that() {
    let mut sample = Sample::open(50).await;
    sample.full(10).await;
    sample.objects(&[("files/a", 10, None), ("files/b", 10, None)]).await;
    sample.cut(11, 20).await;
    let (a, b) =
        (sample.bucket.read("objects/files/a").await.unwrap(), sample.bucket.read("objects/files/b").await.unwrap());
    sample.bucket.put("objects/files/a", b).await.unwrap();
    sample.bucket.put("objects/files/b", a).await.unwrap();
    let report = look(&sample.bucket, Thoroughness::Data).await.unwrap();
    let told: BTreeMap<_, _> = report.damaged.iter().map(|one| (one.path.as_str(), one.what.as_str())).collect();
    assert_eq!(told["objects/files/a"], "it holds the content of objects/files/b");
    assert_eq!(told["objects/files/b"], "it holds the content of objects/files/a");
}

#[tokio::test]
async fn an_older_state_of_the_bucket_is_noticed_by_the_pin() {
    let mut sample = archive().await;
    let older = copy_of(&contents(&sample.bucket).await).await;
    sample.cut(41, 50).await;
    let options = Options { pin: Some(sample.head()), ..Options::default() };
    let report = verify(&older, &options, &Tell::nobody()).await.unwrap();
    assert!(report.catalog[0].what.contains("older state"), "{report:#?}");
    assert!(verify(&sample.bucket, &options, &Tell::nobody()).await.unwrap().is_well());
}

#[tokio::test]
async fn what_damage_means_is_said_and_listed() {
    let sample = archive().await;
    let line = sample.catalog.current();
    let first_tail = line.tail[&Revision(11)].segment.stored.path.clone();
    let newest_full = line.newest_full().unwrap().taken.stored.path.clone();
    let bucket = &sample.bucket;
    bucket.put(first_tail.as_str(), "x").await.unwrap();
    bucket.put(newest_full.as_str(), "x").await.unwrap();
    bucket.delete("objects/files/a").await.unwrap();
    let report = look(bucket, Thoroughness::Data).await.unwrap();
    let means: BTreeMap<_, _> = report.damaged.iter().map(|one| (one.path.as_str(), one.means())).collect();
    assert_eq!(means[first_tail.as_str()], "lost: revisions 11 to 29 of timeline 1");
    assert_eq!(means[newest_full.as_str()], "no revision is lost: other files hold what it held");
    assert_eq!(means["objects/files/a"], "needed by revisions 10 to 15 of timeline 1");
    assert!(report.verdicts.iter().all(|one| one.depth == Depth::Data && !one.ok));

    let mut writer = Writer::join(bucket, &OpenOptions::default()).await.unwrap();
    record(&mut writer, &report).await.unwrap();
    let listed = catalog::read(bucket, None).await.unwrap().catalog;
    let stretches = listed.spans().remove(0).stretches;
    // only the first full is left, and its object is gone
    let Stretch::Span(span) = &stretches[0] else { panic!("{stretches:#?}") };
    assert_eq!((span.from.revision, span.to.revision), (Revision(10), Revision(10)));
    assert!(matches!(&span.lacks, Some(Lack::DamagedObjects { count: 1, .. })), "{span:#?}");
    assert_eq!(listed.last_verified(), None);

    // found well again
    let fresh = archive().await;
    for file in [first_tail.as_str(), newest_full.as_str(), "objects/files/a"] {
        bucket.put(file, fresh.bucket.read(file).await.unwrap()).await.unwrap();
    }
    let report = look(bucket, Thoroughness::Data).await.unwrap();
    assert!(report.is_well(), "{report:#?}");
    record(&mut writer, &report).await.unwrap();
    let stretches = writer.catalog().spans().remove(0).stretches;
    let Stretch::Span(span) = &stretches[0] else { panic!("{stretches:#?}") };
    assert_eq!((span.from.revision, span.to.revision, &span.lacks), (Revision(10), Revision(40), &None));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_neither_well_nor_damaged() {
    let sample = archive().await;
    let (bucket, faults) = Faults::over(&sample.bucket);
    look(&bucket, Thoroughness::Data).await.unwrap();
    let calls = faults.calls();
    for (number, mishap) in (1..=calls).flat_map(|number| {
        [Mishap::Expired, Mishap::Denied, Mishap::Busy, Mishap::Truncated, Mishap::StaleList].map(|one| (number, one))
    }) {
        faults.clear();
        faults.restart_count();
        faults.at(number, mishap);
        let Some(report) = look(&bucket, Thoroughness::Data).await else { continue };
        assert!(!report.is_damaged(), "{mishap:?} at call {number}: {report:#?}");
        let lasting = matches!(mishap, Mishap::Expired | Mishap::Denied);
        assert!(lasting || report.is_well(), "{mishap:?} at call {number}: {report:#?}");
        assert!(report.verdicts.iter().all(|one| one.ok));
    }
    faults.clear();
    faults.on(Action::Read, Mishap::Denied);
    assert!(look(&bucket, Thoroughness::Structure).await.is_none());
}
