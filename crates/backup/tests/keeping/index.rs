//! A damaged index: whatever happens to its pieces, it is made anew from the rest and from what lies in the bucket, and
//! nothing that a kept revision needs is lost, be it in what is listed or to retention.

use bytes::Bytes;
use eyrie_archive::retention::{ByUse, Period, Policy, plan, plan_objects};
use eyrie_archive::{Ask, At, Catalog, Entry, Index, Revision, Scope, UnixMillis};
use eyrie_backup::bucket::Bucket;
use eyrie_backup::bucket::faults::{Faults, Mishap};
use eyrie_backup::catalog::{self, OpenOptions, Writer};
use eyrie_backup::objects::{MirrorError, read_index, rebuild, repair};
use eyrie_backup::seal::{Identities, Recipients, keygen};
use eyrie_backup::tell::Tell;
use eyrie_backup::verify::{Options, Report, Thoroughness, record, verify};

use crate::sample::{HOUR, Sample, contents, copy_of};

/// Three pieces, two chains; the names are as odd as names may be.
async fn archive(sample: &mut Sample) {
    sample.full(10).await;
    sample.objects(&[("files/a", 10, Some(15)), ("files/b.zst", 12, None), ("files/c d%.age", 11, Some(40))]).await;
    sample.cut(11, 20).await;
    sample.objects(&[("files/e", 20, None), ("files/f", 20, Some(21))]).await;
    sample.full(20).await;
    sample.objects(&[("files/ü", 15, None)]).await;
    sample.cut(21, 40).await;
    sample.verified().await;
}

async fn look(bucket: &Bucket) -> Report {
    let options = Options { thoroughness: Thoroughness::Data, ..Options::default() };
    verify(bucket, &options, &Tell::nobody()).await.unwrap()
}

async fn mended(bucket: &Bucket, keys: &Identities) -> Result<(Catalog, Index), MirrorError> {
    let mut writer = Writer::join(bucket, &OpenOptions::default()).await.unwrap();
    let index = rebuild::whole(&mut writer, None, keys, &Tell::nobody()).await?;
    assert_eq!(index, read_index(bucket, writer.catalog()).await.unwrap(), "what is recorded is what was found");
    Ok((writer.catalog().clone(), index))
}

/// What an entry says of its object, without who needs it.
fn what(entry: &Entry) -> (String, u64, String, String) {
    let stored = format!("{} {} {}", entry.stored.path, entry.stored.len, entry.stored.sha256);
    (entry.source.to_string(), entry.len, entry.sha256.to_string(), stored)
}

/// No revision that is kept needs less than before.
fn must_cover(new: &Index, old: &Index, catalog: &Catalog) {
    for entry in old.entries() {
        let found = new.get(entry.source.as_str()).unwrap_or_else(|| panic!("{} is lost", entry.source));
        assert_eq!(what(found), what(entry));
        for line in catalog.timelines() {
            let revisions = catalog.runs(line).into_iter().flat_map(|run| run.from.0..=run.to.0).map(Revision);
            for at in revisions {
                let needs = |entry: &Entry| entry.uses.iter().any(|one| one.meets(line.id, at, at));
                assert!(!needs(entry) || needs(found), "{} at revision {at}: {found:?}", entry.source);
            }
        }
    }
}

#[tokio::test]
async fn any_pieces_that_are_damaged_or_gone_are_made_good() {
    let mut sample = Sample::open(50).await;
    archive(&mut sample).await;
    let whole = contents(&sample.bucket).await;
    let before = read_index(&sample.bucket, &sample.catalog).await.unwrap();
    let pieces: Vec<String> = sample.catalog.pieces().map(|(_, piece)| piece.stored.path.to_string()).collect();
    assert_eq!((pieces.len(), before.len()), (3, 6));
    for which in 1..8_u32 {
        for missing in [false, true] {
            let bucket = copy_of(&whole).await;
            for (_, piece) in pieces.iter().enumerate().filter(|(at, _)| which & (1 << at) != 0) {
                match missing {
                    true => bucket.delete(piece).await.unwrap(),
                    false => bucket.put(piece, flipped(&whole[piece])).await.unwrap(),
                };
            }
            let report = look(&bucket).await;
            assert!(report.is_index_damaged() && report.damaged_files == u64::from(which.count_ones()), "{report:#?}");
            let (catalog, index) = mended(&bucket, &Identities::default()).await.unwrap();
            must_cover(&index, &before, &catalog);
            assert_eq!(index.len(), before.len());
            let report = look(&bucket).await;
            assert!(report.is_well() && report.verdicts.iter().all(|one| one.ok), "{report:#?}");
            // once is enough
            let head = catalog.head();
            assert_eq!(rebuilt_twice(&bucket).await, head.seq.next(), "only the new writer wrote something");
        }
    }
}

/// A piece and an object that only it names, or that another one names, too.
#[tokio::test]
async fn an_object_that_is_lost_with_its_piece_is_missed() {
    let mut sample = Sample::open(50).await;
    archive(&mut sample).await;
    let whole = contents(&sample.bucket).await;
    let pieces: Vec<String> = sample.catalog.pieces().map(|(_, piece)| piece.stored.path.to_string()).collect();
    let before = read_index(&sample.bucket, &sample.catalog).await.unwrap();
    let everything = |catalog: &Catalog, revision: i64| {
        let ask = Ask { at: At::Revision(Revision(revision)), timeline: None, scope: Scope::Everything };
        catalog.resolve(ask).map(drop).map_err(|why| why.to_string())
    };
    assert_eq!(everything(&sample.catalog, 40), Ok(()), "the sample is whole");
    for object in whole.keys().filter(|name| name.starts_with("objects/")) {
        for piece in &pieces {
            let bucket = copy_of(&whole).await;
            bucket.delete(object).await.unwrap();
            bucket.delete(piece).await.unwrap();
            let (catalog, index) = mended(&bucket, &Identities::default()).await.unwrap();
            // one that another piece names is still in the index, and a look names it
            let report = look(&bucket).await;
            let mut writer = Writer::join(&bucket, &OpenOptions::default()).await.unwrap();
            record(&mut writer, &report).await.unwrap();
            let damaged = report.damaged_objects();
            assert_eq!(index.len() + usize::from(damaged.is_empty()), 6, "{object}, {piece}");
            assert_eq!(catalog.current().holes.len(), usize::from(damaged.is_empty()), "{object}, {piece}");
            for revision in [20, 40] {
                let why = everything(writer.catalog(), revision);
                let at = Revision(revision);
                let needs = |entry: &Entry| entry.uses.iter().any(|one| one.meets(catalog.current().id, at, at));
                let needed =
                    before.entries().any(|entry| entry.stored.path.as_str() == object.as_str() && needs(entry));
                assert!(
                    why.is_err() || !needed,
                    "{object} is not there, nor is {piece}; revision {revision} is promised"
                );
            }
        }
    }
}

async fn rebuilt_twice(bucket: &Bucket) -> eyrie_archive::Seq {
    mended(bucket, &Identities::default()).await.unwrap().0.head().seq
}

fn flipped(bytes: &Bytes) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// A list of removals is lost before anything, some, or all of it was deleted.
#[tokio::test]
async fn a_lost_list_of_removals_removes_nothing_that_is_needed() {
    let mut sample = Sample::open(50 * 24).await;
    archive(&mut sample).await;
    sample.now.0 += 30 * 24 * HOUR;
    sample.full(41).await;
    sample.verified().await;
    let index = read_index(&sample.bucket, &sample.catalog).await.unwrap();
    let hour = Period::hours(1);
    let policy = Policy { keep_last: 1, fulls: Vec::new(), tail: hour, min_age: hour, ..Policy::default() };
    let later = UnixMillis(sample.now.0 + 40 * HOUR);
    let planned = plan(&sample.catalog, &policy, later).unwrap();
    let objects = plan_objects(&planned, &index, &ByUse { current: sample.catalog.current().id });
    let gone: Vec<String> = objects.removed.iter().map(|entry| entry.stored.path.to_string()).collect();
    assert_eq!(gone.len(), 3, "{gone:?}");
    sample.expire(planned.record(), &objects).await;
    let whole = contents(&sample.bucket).await;
    let kept = read_index(&sample.bucket, &sample.catalog).await.unwrap();
    let list = sample.catalog.pieces().find(|(_, piece)| piece.removes).unwrap().1.stored.path.to_string();
    for deleted in 0..=gone.len() {
        let bucket = copy_of(&whole).await;
        bucket.put(&list, "x").await.unwrap();
        for name in &gone[..deleted] {
            bucket.delete(name).await.unwrap();
        }
        let (catalog, index) = mended(&bucket, &Identities::default()).await.unwrap();
        must_cover(&index, &kept, &catalog);
        assert_eq!(index.len(), kept.len() + gone.len() - deleted, "what is still there is in the index again");
        assert!(catalog.unswept().all(|(_, rest)| rest.objects.is_none()), "nobody deletes by a list that is lost");
        let report = look(&bucket).await;
        assert!(report.is_well(), "{deleted} deleted: {report:#?}");
    }
}

#[tokio::test]
async fn a_sealed_archive_needs_a_key_only_for_what_no_piece_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let recipient = keygen(&file, "today").unwrap().to_string();
    let keys = Identities::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut sample = Sample::open(50).await;
    sample.seal_to = Recipients::parse([recipient.as_str()]).unwrap();
    archive(&mut sample).await;
    let before = read_index(&sample.bucket, &sample.catalog).await.unwrap();
    let piece = sample.catalog.pieces().nth(1).unwrap().1.stored.path.to_string();
    sample.bucket.delete(&piece).await.unwrap();
    let head = catalog::read(&sample.bucket, None).await.unwrap().catalog.head().seq;
    let why = mended(&sample.bucket, &Identities::default()).await.unwrap_err().to_string();
    assert!(why.contains(&piece) && why.contains("--repair --identity"), "{why}");
    let after = catalog::read(&sample.bucket, None).await.unwrap().catalog;
    assert_eq!(after.head().seq, head.next(), "nothing but the new writer was recorded");
    let (catalog, index) = mended(&sample.bucket, &keys).await.unwrap();
    must_cover(&index, &before, &catalog);
    assert!(look(&sample.bucket).await.is_well());
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_damage() {
    let mut sample = Sample::open(50).await;
    archive(&mut sample).await;
    let whole = contents(&sample.bucket).await;
    let (counted, faults) = Faults::over(&copy_of(&whole).await);
    mended(&counted, &Identities::default()).await.unwrap();
    for call in 1..=faults.calls() {
        for mishap in [Mishap::Truncated, Mishap::Busy, Mishap::Reset, Mishap::Denied] {
            let bucket = copy_of(&whole).await;
            let (faulty, faults) = Faults::over(&bucket);
            faults.at(call, mishap);
            let Ok(mut writer) = Writer::join(&faulty, &OpenOptions::default()).await else { continue };
            let _ = rebuild::whole(&mut writer, None, &Identities::default(), &Tell::nobody()).await;
            let merged = writer.catalog().superseded().count();
            assert_eq!(merged, 0, "{mishap:?} at call {call} was taken for damage");
        }
    }
}

#[tokio::test]
async fn damaged_objects_are_copied_anew_and_those_that_are_nowhere_are_named() {
    let mut sample = Sample::open(50).await;
    archive(&mut sample).await;
    let milvus = crate::sample::hasty();
    for name in ["files/a", "files/e"] {
        milvus.put(name, format!("the object {name}")).await.unwrap();
    }
    for name in ["objects/files/a", "objects/files/e", "objects/files/f"] {
        sample.bucket.put(name, "spoilt").await.unwrap();
    }
    let damaged = look(&sample.bucket).await.damaged_objects();
    assert_eq!(damaged.len(), 3);
    let mut writer = Writer::join(&sample.bucket, &OpenOptions::default()).await.unwrap();
    let repaired = repair::objects(&mut writer, &milvus, 2, &Recipients::nobody(), &damaged).await.unwrap();
    assert_eq!((repaired.copied, &repaired.gone[..], &repaired.failed[..]), (2, &["files/f".to_owned()][..], &[][..]));
    let left = look(&sample.bucket).await;
    assert_eq!(left.damaged_objects(), ["files/f"]);
    assert!(left.notes.is_empty(), "counts are right: {:?}", left.notes);
}
