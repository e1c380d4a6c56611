//! The bbolt writer and reader agree, and the reader takes any bytes without a panic.

use std::collections::BTreeMap;

use bytes::Bytes;
use eyrie_disk::bbolt::{BoltFault, BucketPlan, Database, Extent, Image, WriteFault};
use proptest::prelude::*;

type Bucket = BTreeMap<Vec<u8>, Vec<u8>>;

fn extent(bucket: &Bucket) -> Extent {
    Extent {
        records: bucket.len() as u64,
        bytes: bucket.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() as u64,
        key_len_max: bucket.keys().map(Vec::len).max().unwrap_or(0),
    }
}

/// Writes the buckets; those whose name ends in `s` are streamed.
fn write(buckets: &BTreeMap<String, Bucket>) -> Vec<u8> {
    let plan = |(name, bucket): (&String, &Bucket)| {
        let plan = if name.ends_with('s') {
            BucketPlan::Streamed(extent(bucket))
        } else {
            BucketPlan::Small(bucket.iter().map(|(k, v)| (Bytes::from(k.clone()), Bytes::from(v.clone()))).collect())
        };
        (name.clone(), plan)
    };
    let image = Image::plan(buckets.iter().map(plan).collect());
    let out = image
        .write(Vec::new(), |name, sink| {
            buckets[name].iter().try_for_each(|(key, value)| sink(key, value))?;
            Ok::<_, WriteFault<String>>(())
        })
        .unwrap();
    assert_eq!(out.len() as u64, image.len());
    out
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Bucket>, BoltFault> {
    let database = Database::open(bytes, None)?;
    let mut buckets = BTreeMap::new();
    for name in database.buckets()? {
        let mut bucket = Bucket::new();
        let mut cursor = database.bucket(&name)?.expect("a name that was listed");
        while let Some((key, value)) = cursor.next_pair()? {
            bucket.insert(key.to_vec(), value.to_vec());
        }
        buckets.insert(String::from_utf8_lossy(&name).into_owned(), bucket);
    }
    Ok(buckets)
}

fn sample() -> BTreeMap<String, Bucket> {
    let many: Bucket = (0..300u32).map(|n| (n.to_be_bytes().to_vec(), vec![7; 20])).collect();
    let few: Bucket = [(b"a".to_vec(), b"1".to_vec())].into();
    [("empty".into(), Bucket::new()), ("few".into(), few), ("keys".into(), many)].into()
}

#[test]
fn what_is_written_is_read_over_many_levels() {
    let mut buckets = sample();
    buckets.insert("bigs".into(), (0..200_000u32).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 9])).collect());
    buckets.insert("widevalues".into(), (0..5u8).map(|n| (vec![n], vec![n; 300_000])).collect());
    buckets.insert("longkeys".into(), (0..200u8).map(|n| (vec![n; 30_000], Vec::new())).collect());
    assert_eq!(read(&write(&buckets)).unwrap(), buckets);
}

#[test]
fn a_source_that_breaks_its_word_is_noticed() {
    let image = |records| {
        let extent = Extent { records, bytes: records * 5, key_len_max: 4 };
        Image::plan(vec![("keys".into(), BucketPlan::Streamed(extent))])
    };
    let feed = |keys: Vec<u32>| {
        move |_: &str, sink: &mut eyrie_disk::bbolt::Sink<'_, String>| {
            keys.iter().try_for_each(|key| sink(&key.to_be_bytes(), b"x"))
        }
    };
    assert!(image(10).write(Vec::new(), feed((0..10).collect())).is_ok());
    assert!(image(10).write(Vec::new(), feed((0..9).collect())).is_ok(), "less than announced is free space");
    let more = image(10).write(Vec::new(), feed((0..100_000).collect())).unwrap_err();
    assert!(more.to_string().contains("more than was announced"), "{more}");
    let twice = image(10).write(Vec::new(), feed(vec![1, 1])).unwrap_err();
    assert!(twice.to_string().contains("do not ascend"), "{twice}");
}

#[test]
fn every_flip_and_every_cut_gives_an_answer() {
    let good = write(&sample());
    let expected = read(&good).unwrap();
    let mut bad = good.clone();
    let mut found = 0;
    for at in 0..good.len() {
        for bit in [0, 7] {
            bad[at] ^= 1 << bit;
            found += usize::from(read(&bad).map_or(true, |buckets| buckets != expected));
            bad[at] = good[at];
        }
    }
    assert!(found > good.len() / 8, "{found}");
    for len in 0..good.len() {
        assert!(read(&good[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn either_meta_page_alone_is_enough_and_none_is_not() {
    let good = write(&sample());
    for page in [0, 1] {
        let mut bad = good.clone();
        bad[page * 4096..(page + 1) * 4096].fill(0);
        assert_eq!(read(&bad).unwrap(), sample(), "without meta {page}");
    }
    let mut bad = good;
    bad[..8192].fill(0);
    assert!(matches!(read(&bad), Err(BoltFault::NotADatabase)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_buckets_come_back(buckets in prop::collection::btree_map(
        "[a-z]{1,8}",
        prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..40), prop::collection::vec(any::<u8>(), 0..600), 0..40),
        0..6,
    )) {
        prop_assert_eq!(read(&write(&buckets)).unwrap(), buckets);
    }

    #[test]
    fn scrambled_pages_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut bytes = write(&sample());
        for (at, value) in changes {
            // the two metas stay, so that what they lead to is reached
            let at = 8192 + at.index(bytes.len() - 8192);
            bytes[at] = value;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(read(&bytes).is_err());
    }
}
