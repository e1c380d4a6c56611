//! The protobuf messages that upstream etcd 3.5 writes into its log: only the fields that adoption needs.
//!
//! Field numbers are upstream's (walpb, raftpb, etcdserverpb, membershippb). Strings that may be any bytes are bytes.

use bytes::Bytes;
use prost::{Message, Oneof};

/// walpb.Record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(int64, tag = "1")]
    pub kind: i64,
    #[prost(uint32, tag = "2")]
    pub crc: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// etcdserverpb.Metadata.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Metadata {
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    #[prost(uint64, tag = "2")]
    pub cluster_id: u64,
}

/// raftpb.Entry.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Entry {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    #[prost(uint64, tag = "3")]
    pub index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// raftpb.HardState.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct HardState {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub vote: u64,
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

/// raftpb.ConfChange.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ConfChange {
    #[prost(int32, tag = "2")]
    pub kind: i32,
    #[prost(uint64, tag = "3")]
    pub node_id: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub context: Bytes,
}

/// etcdserverpb.InternalRaftRequest. Which of its fields are set is read apart, so that an unknown one is noticed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InternalRequest {
    #[prost(message, optional, tag = "2")]
    pub v2: Option<RequestV2>,
    #[prost(message, optional, tag = "4")]
    pub put: Option<Put>,
    #[prost(message, optional, tag = "5")]
    pub delete_range: Option<DeleteRange>,
    #[prost(message, optional, tag = "6")]
    pub txn: Option<Txn>,
    #[prost(message, optional, tag = "7")]
    pub compaction: Option<Compaction>,
    #[prost(message, optional, tag = "8")]
    pub lease_grant: Option<LeaseGrant>,
    #[prost(message, optional, tag = "9")]
    pub lease_revoke: Option<LeaseRevoke>,
    #[prost(message, optional, tag = "10")]
    pub alarm: Option<Alarm>,
    #[prost(message, optional, tag = "11")]
    pub lease_checkpoint: Option<LeaseCheckpoints>,
    #[prost(message, optional, tag = "1300")]
    pub cluster_version_set: Option<ClusterVersionSet>,
    #[prost(message, optional, tag = "1301")]
    pub member_attr_set: Option<MemberAttrSet>,
    #[prost(message, optional, tag = "1302")]
    pub downgrade_info_set: Option<DowngradeInfoSet>,
}

/// etcdserverpb.Request: the old v2 store, which 3.5 still uses for member attributes and the cluster version.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RequestV2 {
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(string, tag = "3")]
    pub path: String,
    #[prost(string, tag = "4")]
    pub val: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Range {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub limit: i64,
    #[prost(int64, tag = "4")]
    pub revision: i64,
    #[prost(int32, tag = "5")]
    pub sort_order: i32,
    #[prost(int32, tag = "6")]
    pub sort_target: i32,
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
    #[prost(bool, tag = "9")]
    pub count_only: bool,
    #[prost(int64, tag = "10")]
    pub min_mod_revision: i64,
    #[prost(int64, tag = "11")]
    pub max_mod_revision: i64,
    #[prost(int64, tag = "12")]
    pub min_create_revision: i64,
    #[prost(int64, tag = "13")]
    pub max_create_revision: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(int64, tag = "3")]
    pub lease: i64,
    #[prost(bool, tag = "4")]
    pub prev_kv: bool,
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DeleteRange {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    #[prost(bool, tag = "3")]
    pub prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Txn {
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Op>,
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<Op>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Op {
    #[prost(oneof = "OpKind", tags = "1, 2, 3, 4")]
    pub kind: Option<OpKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OpKind {
    #[prost(message, tag = "1")]
    Range(Range),
    #[prost(message, tag = "2")]
    Put(Put),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRange),
    #[prost(message, tag = "4")]
    Txn(Txn),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Compare {
    #[prost(int32, tag = "1")]
    pub result: i32,
    #[prost(int32, tag = "2")]
    pub target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    #[prost(oneof = "CompareValue", tags = "4, 5, 6, 7, 8")]
    pub value: Option<CompareValue>,
    #[prost(bytes = "bytes", tag = "64")]
    pub range_end: Bytes,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum CompareValue {
    #[prost(int64, tag = "4")]
    Version(i64),
    #[prost(int64, tag = "5")]
    Create(i64),
    #[prost(int64, tag = "6")]
    Mod(i64),
    #[prost(bytes = "bytes", tag = "7")]
    Value(Bytes),
    #[prost(int64, tag = "8")]
    Lease(i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Compaction {
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseGrant {
    #[prost(int64, tag = "1")]
    pub ttl: i64,
    #[prost(int64, tag = "2")]
    pub id: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseRevoke {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct LeaseCheckpoints {
    #[prost(message, repeated, tag = "1")]
    pub checkpoints: Vec<LeaseCheckpoint>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseCheckpoint {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub remaining_ttl: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Alarm {
    #[prost(int32, tag = "1")]
    pub action: i32,
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int32, tag = "3")]
    pub alarm: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ClusterVersionSet {
    #[prost(string, tag = "1")]
    pub ver: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MemberAttrSet {
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    #[prost(message, optional, tag = "2")]
    pub attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Attributes {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub client_urls: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DowngradeInfoSet {
    #[prost(bool, tag = "1")]
    pub enabled: bool,
}

/// The numbers of the fields that a message sets; `None` when the bytes are not a message.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<u32>> {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes).ok()?;
        skip_field(wire_type, number, &mut bytes, DecodeContext::default()).ok()?;
        numbers.push(number);
    }
    Some(numbers)
}
