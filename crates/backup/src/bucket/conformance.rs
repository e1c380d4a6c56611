//! What every store must do: one suite, run over each body.

use bytes::Bytes;
use futures::TryStreamExt;
use sha2::Digest;

use super::{Bucket, BucketError, ByteRange, CopyCheck, Created, Kind};
use crate::limits::PART_BYTES;

/// Runs everything on an empty bucket.
pub(super) async fn run(bucket: &Bucket) {
    objects_come_back_whole(bucket).await;
    ranges_are_exact(bucket).await;
    a_name_is_written_once(bucket).await;
    listings_have_all_below_a_prefix(bucket).await;
    streams_of_every_length(bucket).await;
    copies_are_equal(bucket).await;
    odd_names_are_refused(bucket).await;
}

async fn objects_come_back_whole(bucket: &Bucket) {
    for (key, body) in [("a", "first"), ("deep/er/er", "x"), ("ü/日 本+%&=?#.bin", "names"), ("empty", "")] {
        assert!(bucket.stat(key).await.unwrap().is_none(), "{key}");
        assert_eq!(bucket.read(key).await.unwrap_err().kind, Kind::NotFound);
        bucket.put(key, body).await.unwrap();
        assert_eq!(bucket.read(key).await.unwrap(), body, "{key}");
        let stat = bucket.stat(key).await.unwrap().unwrap();
        assert_eq!(stat.len, body.len() as u64);
        assert!(stat.modified.is_some() && stat.etag.is_some());
        bucket.put(key, "second").await.unwrap();
        assert_eq!(bucket.read(key).await.unwrap(), "second");
        bucket.delete(key).await.unwrap();
        bucket.delete(key).await.unwrap();
        assert!(bucket.stat(key).await.unwrap().is_none());
    }
    bucket.put("limit", "12345").await.unwrap();
    assert_eq!(bucket.read_max("limit", 5).await.unwrap(), "12345");
    assert_eq!(bucket.read_max("limit", 4).await.unwrap_err().kind, Kind::Damaged);
}

async fn ranges_are_exact(bucket: &Bucket) {
    bucket.put("range", "0123456789").await.unwrap();
    let read = async |range: ByteRange| {
        let reading = bucket.read_stream("range", range).await.unwrap();
        assert_eq!(reading.stat.len, 10);
        let pieces: Vec<Bytes> = reading.bytes.try_collect().await.unwrap();
        let bytes = pieces.concat();
        assert_eq!(reading.len, bytes.len() as u64);
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(read((..).into()).await, "0123456789");
    assert_eq!(read((2..5).into()).await, "234");
    assert_eq!(read((7..).into()).await, "789");
    assert_eq!(read((7..99).into()).await, "789");
    assert_eq!(read((10..).into()).await, "");
    assert_eq!(read((50..60).into()).await, "");
    assert_eq!(read((3..3).into()).await, "");
}

async fn a_name_is_written_once(bucket: &Bucket) {
    assert_eq!(bucket.create("once/x", "mine").await.unwrap(), Created::New);
    assert_eq!(bucket.create("once/x", "mine").await.unwrap(), Created::Same);
    assert_eq!(bucket.create("once/x", "your").await.unwrap(), Created::Conflict);
    assert_eq!(bucket.create("once/x", "longer").await.unwrap(), Created::Conflict);
    assert_eq!(bucket.read("once/x").await.unwrap(), "mine");
    let racers = (0..8).map(|n| bucket.create("once/race", format!("writer {n}")));
    let won: Vec<_> = futures::future::join_all(racers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(won.iter().filter(|created| **created == Created::New).count(), 1, "{won:?}");
    assert_eq!(won.iter().filter(|created| **created == Created::Conflict).count(), 7, "{won:?}");
}

async fn listings_have_all_below_a_prefix(bucket: &Bucket) {
    let keys = ["l/a", "l/b/c", "l/b/d", "l/bb", "m/a"];
    for key in keys {
        bucket.put(key, "12").await.unwrap();
    }
    let list = async |bucket: &Bucket, prefix: &str| {
        let mut entries: Vec<_> = bucket.list(prefix).try_collect().await.unwrap();
        assert!(entries.iter().all(|entry| entry.stat.len == 2 && entry.stat.modified.is_some()), "{entries:?}");
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(list(bucket, "l/").await, ["l/a", "l/b/c", "l/b/d", "l/bb"]);
    assert_eq!(list(bucket, "l/b").await, ["l/b/c", "l/b/d", "l/bb"]);
    assert_eq!(list(bucket, "l/b/").await, ["l/b/c", "l/b/d"]);
    assert_eq!(list(bucket, "none/").await, Vec::<String>::new());
    let below = bucket.below("l").unwrap();
    assert_eq!(list(&below, "").await, ["a", "b/c", "b/d", "bb"]);
    assert_eq!(below.read("b/c").await.unwrap(), "12");
    let all: Vec<_> = bucket.list("").try_collect().await.unwrap();
    assert!(keys.iter().all(|key| all.iter().any(|entry| entry.key == *key)));
    assert!(all.iter().all(|entry| !entry.key.contains(".eyrie-")), "{all:?}");
    let below = bucket.below("folders").unwrap();
    for key in ["b/1", "a/deep/2", "a/deep/3", "no-folder"] {
        below.put(key, "x").await.unwrap();
    }
    assert_eq!(below.folders().await.unwrap(), ["a", "b"]);
    assert!(bucket.below("nothing-here").unwrap().folders().await.unwrap().is_empty());
}

async fn streams_of_every_length(bucket: &Bucket) {
    for len in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12_345] {
        let body: Bytes = (0..len).map(|n| (n / 7 % 251) as u8).collect::<Vec<_>>().into();
        let stream = |body: &Bytes| {
            let pieces: Vec<_> = body.chunks(1_000_003).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            futures::stream::iter(pieces)
        };
        let written: Result<_, BucketError> = bucket.write_stream("stream", stream(&body), Some(len as u64)).await;
        let written = written.unwrap();
        assert_eq!(written.len, len as u64);
        assert_eq!(written.sha256[..], sha2::Sha256::digest(&body)[..]);
        assert!(bucket.read("stream").await.unwrap() == body, "{len}");
        assert_eq!(bucket.sha256("stream").await.unwrap(), (len as u64, written.sha256));
        // A stream of another length than was said leaves the old object as it was.
        let wrong: Result<_, BucketError> = bucket.write_stream("stream", stream(&body), Some(len as u64 + 1)).await;
        assert_eq!(wrong.unwrap_err().kind, Kind::Damaged);
        assert!(bucket.read("stream").await.unwrap() == body, "{len}");
    }
    let broken =
        futures::stream::iter([Ok(Bytes::from(vec![7; PART_BYTES + 1])), Err(bucket.read("none").await.unwrap_err())]);
    let error: BucketError = bucket.write_stream("broken", broken, None).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(bucket.stat("broken").await.unwrap().is_none());
}

async fn copies_are_equal(bucket: &Bucket) {
    bucket.put("copy/from", "content").await.unwrap();
    for (check, to) in
        [(CopyCheck::Length, "copy/to"), (CopyCheck::Sha256, "copy/to"), (CopyCheck::Sha256, "copy/other")]
    {
        let copied = bucket.copy_from(bucket, "copy/from", to, check).await.unwrap();
        assert_eq!((copied.len, copied.stat.len), (7, 7));
        assert_eq!(bucket.read(to).await.unwrap(), "content");
        if check == CopyCheck::Sha256 {
            assert_eq!(copied.sha256.unwrap()[..], sha2::Sha256::digest("content")[..]);
        }
    }
    let other = Bucket::memory();
    other.copy_from(bucket, "copy/from", "x", CopyCheck::Length).await.unwrap();
    bucket.copy_from(&other, "x", "copy/back", CopyCheck::Length).await.unwrap();
    assert_eq!(bucket.read("copy/back").await.unwrap(), "content");
    let gone = bucket.copy_from(bucket, "copy/none", "copy/to", CopyCheck::Length).await.unwrap_err();
    assert_eq!((gone.kind, gone.key.as_str()), (Kind::NotFound, "copy/none"));
}

async fn odd_names_are_refused(bucket: &Bucket) {
    for key in ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "./a", "a\0b", ".eyrie-tmp-1"] {
        assert_eq!(bucket.put(key, "x").await.unwrap_err().kind, Kind::Config, "{key:?}");
        assert_eq!(bucket.read(key).await.unwrap_err().kind, Kind::Config, "{key:?}");
        assert_eq!(bucket.delete(key).await.unwrap_err().kind, Kind::Config, "{key:?}");
        assert_eq!(bucket.create(key, "x").await.unwrap_err().kind, Kind::Config, "{key:?}");
    }
    assert!(bucket.below("../up").is_err());
    let escape: Result<Vec<_>, _> = bucket.list("../").try_collect().await;
    assert_eq!(escape.unwrap_err().kind, Kind::Config);
}
