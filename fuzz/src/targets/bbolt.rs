//! bbolt files, in memory: the structure only.

use bytes::Bytes;
use eyrie_disk::bbolt::{BucketPlan, Database, Extent, Image, WriteFault};
use eyrie_state::LeaseId;
use eyrie_state::record::LeaseRow;

use super::Target;

/// Pages lie at multiples of this.
const PAGE: usize = 4096;
/// Where in a meta page its checksum, and what it covers, stand.
const META: std::ops::Range<usize> = 16..72;

pub(super) const TARGET: Target = Target {
    name: "bbolt",
    what: "bbolt files: meta pages, trees, inline buckets",
    corpus: || vec![image(0), image(3), image(2_000)],
    reseal: Some(reseal),
    run: |input| {
        let Ok(database) = Database::open(input, None) else { return false };
        let mut pairs = 0;
        for name in database.buckets().expect("the buckets of a checked file") {
            let Some(mut cursor) = database.bucket(&name).expect("a bucket of a checked file") else { continue };
            let mut last: Option<Bytes> = None;
            while let Some((key, value)) = cursor.next_pair().expect("a pair of a checked file") {
                assert!(last.is_none_or(|last| last < key), "keys of a checked bucket do not ascend");
                pairs += key.len() + value.len();
                last = Some(key);
            }
        }
        assert!(pairs <= input.len(), "more pairs than the file has bytes");
        true
    },
};

/// A file with so many pairs in its large bucket.
pub(super) fn image(pairs: u32) -> Vec<u8> {
    let small = vec![(Bytes::from_static(b"consistent_index"), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 44]))];
    let lease = |id| LeaseRow { id: LeaseId(id), ttl_secs: 60, remaining_secs: id };
    let row = |row: LeaseRow| (Bytes::copy_from_slice(&LeaseRow::key(row.id)), Bytes::from(row.encode()));
    let medium = (1..200).map(|id| row(lease(id))).collect();
    let extent = Extent { records: u64::from(pairs), bytes: u64::from(pairs) * 80, key_len_max: 17 };
    let buckets = vec![
        ("key".to_string(), BucketPlan::Streamed(extent)),
        ("lease".to_string(), BucketPlan::Small(medium)),
        ("meta".to_string(), BucketPlan::Small(small)),
    ];
    let written = Image::plan(buckets).write(Vec::new(), |_, sink| {
        for n in 0..pairs {
            let at = eyrie_state::Position { main: i64::from(n) + 2, sub: 0 };
            let (key, len) = eyrie_state::record::position_key(at, false);
            sink(&key[..len], &record(n))?;
        }
        Ok::<(), WriteFault<String>>(())
    });
    written.expect("write an image")
}

fn record(n: u32) -> Vec<u8> {
    let revision = i64::from(n) + 2;
    prost::Message::encode_to_vec(&eyrie_api::mvccpb::KeyValue {
        key: format!("key{n:06}").into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        value: vec![n as u8; 24].into(),
        lease: 0,
    })
}

/// Both meta pages get the checksum that their bytes ask for.
pub(super) fn reseal(bytes: &mut [u8]) {
    for page in [0, PAGE] {
        let Some(meta) = bytes.get_mut(page + META.start..page + META.end + 8) else { return };
        let (covered, sum) = meta.split_at_mut(META.len());
        let hash = covered
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        sum.copy_from_slice(&hash.to_le_bytes());
    }
}
