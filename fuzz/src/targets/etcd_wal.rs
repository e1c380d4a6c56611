//! The log of upstream etcd, as `utl migrate` reads it beside a whole database.

use std::cell::RefCell;

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_disk::bbolt::{BucketPlan, Image, WriteFault};
use eyrie_disk::etcd::EtcdDir;
use eyrie_state::{Member, MemberId, member_json, member_key};
use prost::Message;
use tempfile::TempDir;

use super::{Target, scratch};

const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
/// The last log entry that the database holds.
const APPLIED: u64 = 3;

/// Kinds of records.
const METADATA: u8 = 1;
const ENTRY: u8 = 2;
const STATE: u8 = 3;
const CRC: u8 = 4;
const SNAPSHOT: u8 = 5;

/// A record's first bytes: kind, then a checksum that always takes five bytes, so that it can be written over.
const RECORD_HEAD: usize = 8;

thread_local! {
    static DIR: RefCell<TempDir> = RefCell::new(data_dir());
}

pub(super) const TARGET: Target = Target {
    name: "etcd-wal",
    what: "the log of an upstream etcd that moves in",
    corpus,
    reseal: Some(reseal),
    run: |input| {
        DIR.with_borrow(|dir| {
            let path = dir.path().join("member/wal/0000000000000000-0000000000000000.wal");
            std::fs::write(&path, input).expect("write the segment");
            let opened = EtcdDir::open(dir.path(), None);
            let after = std::fs::read(&path).expect("read the segment");
            assert!(after == input, "the original was changed");
            opened.is_ok_and(|opened| opened.member() == MemberId(MEMBER))
        })
    },
};

/// Upstream's folders with a database in them.
fn data_dir() -> TempDir {
    let dir = scratch::dir();
    for folder in ["member/wal", "member/snap"] {
        std::fs::create_dir_all(dir.path().join(folder)).expect("make a folder");
    }
    let member = Member {
        id: MemberId(MEMBER),
        name: "default".into(),
        peer_urls: vec!["http://localhost:2380".into()],
        client_urls: vec!["http://localhost:2379".into()],
        learner: false,
    };
    let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let buckets = vec![
        ("key".to_string(), BucketPlan::Small(vec![])),
        ("members".to_string(), BucketPlan::Small(vec![(member_key(member.id).into(), member_json(&member).into())])),
        (
            "meta".to_string(),
            BucketPlan::Small(vec![("consistent_index".into(), number(APPLIED)), ("term".into(), number(2))]),
        ),
    ];
    let written = Image::plan(buckets).write(Vec::new(), |_, _| Ok::<(), WriteFault<String>>(()));
    std::fs::write(dir.path().join("member/snap/db"), written.expect("write an image")).expect("write the database");
    dir
}

fn corpus() -> Vec<Vec<u8>> {
    let requests = requests();
    let mut all = Segment::new();
    for (index, request) in (1..).zip(&requests) {
        all.entry(index, 0, request);
    }
    all.push(STATE, &numbers(&[(1, 2), (2, MEMBER), (3, requests.len() as u64)]));
    // An entry that is written again, as after an election; then the zeros of a preallocated file.
    let mut again = Segment::new();
    for index in [1, 2, 3, 4, 5, 4, 5, 6] {
        again.entry(index, 0, &requests[index as usize % requests.len()]);
    }
    again.bytes.extend_from_slice(&[0; 2048]);
    vec![all.bytes, again.bytes]
}

/// One of each request that the log can hold (etcdserverpb.InternalRaftRequest).
fn requests() -> Vec<Vec<u8>> {
    let put = pb::PutRequest { key: "k".into(), value: vec![0xab; 40].into(), lease: 7, ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: true };
    let compare = pb::Compare {
        key: "k".into(),
        target: pb::compare::CompareTarget::Value as i32,
        target_union: Some(pb::compare::TargetUnion::Value("v".into())),
        ..Default::default()
    };
    let success = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put.clone())) };
    let txn = pb::TxnRequest { compare: vec![compare], success: vec![success], failure: vec![] };
    let header = field(100, &numbers(&[(1, 77)]));
    let internal = |tag: u64, request: Vec<u8>| [header.clone(), field(tag, &request)].concat();
    let v2 = [field(2, b"PUT"), field(3, b"/0/version"), field(4, b"3.5.0")].concat();
    vec![
        Vec::new(),
        internal(4, put.encode_to_vec()),
        internal(5, delete.encode_to_vec()),
        internal(6, txn.encode_to_vec()),
        internal(7, pb::CompactionRequest { revision: 2, physical: true }.encode_to_vec()),
        internal(8, pb::LeaseGrantRequest { ttl: 60, id: 7 }.encode_to_vec()),
        internal(9, pb::LeaseRevokeRequest { id: 7 }.encode_to_vec()),
        internal(10, pb::AlarmRequest { action: 1, member_id: MEMBER, alarm: 1 }.encode_to_vec()),
        internal(1300, field(1, b"3.5.0")),
        v2,
    ]
}

/// A segment as upstream writes it.
struct Segment {
    bytes: Vec<u8>,
    crc: u32,
}

impl Segment {
    fn new() -> Self {
        let mut segment = Self { bytes: Vec::new(), crc: 0 };
        segment.push(CRC, &[]);
        segment.push(METADATA, &numbers(&[(1, MEMBER), (2, 9)]));
        segment.push(SNAPSHOT, &[]);
        segment
    }

    fn entry(&mut self, index: u64, kind: u64, data: &[u8]) {
        let head = numbers(&[(1, kind), (2, 2), (3, index)]);
        self.push(ENTRY, &[head, field(4, data)].concat());
    }

    fn push(&mut self, kind: u8, data: &[u8]) {
        if kind != CRC {
            self.crc = crc32c::crc32c_append(self.crc, data);
        }
        let mut record = vec![0x08, kind, 0x10];
        record.extend_from_slice(&long_varint(self.crc));
        record.extend(field(3, data));
        let padding = (8 - record.len() % 8) % 8;
        let word = record.len() as u64 | if padding > 0 { (0x80 | padding as u64) << 56 } else { 0 };
        self.bytes.extend(word.to_le_bytes());
        self.bytes.extend(record);
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }
}

/// Records that still look like records get the checksums that their bytes ask for.
fn reseal(bytes: &mut [u8]) {
    let (mut at, mut crc) = (0, 0_u32);
    while let Some(word) = bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes) {
        let len = (word & 0xff_ffff) as usize;
        let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
        let Some(record) = bytes.get_mut(at + 8..at + 8 + len).filter(|record| record.len() > RECORD_HEAD) else {
            return;
        };
        if record[0] != 0x08 || record[2] != 0x10 || record[RECORD_HEAD] != 0x1a {
            return;
        }
        let mut data = &record[RECORD_HEAD + 1..];
        let Ok(data_len) = prost::encoding::decode_varint(&mut data) else { return };
        if record[1] != CRC {
            crc = crc32c::crc32c_append(crc, &data[..data.len().min(data_len as usize)]);
        }
        record[3..RECORD_HEAD].copy_from_slice(&long_varint(crc));
        at += 8 + len + padding;
    }
}

/// A number in five groups of seven bits, needed or not.
fn long_varint(number: u32) -> [u8; 5] {
    [0, 7, 14, 21, 28].map(|shift| (number >> shift) as u8 | if shift < 28 { 0x80 } else { 0 })
}

fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(tag << 3 | 2, &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn numbers(fields: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, number) in fields {
        prost::encoding::encode_varint(tag << 3, &mut out);
        prost::encoding::encode_varint(*number, &mut out);
    }
    out
}
