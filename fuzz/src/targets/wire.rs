//! Requests as they come from clients in protobuf.

use eyrie_api::pb;
use prost::Message;
use prost::bytes::Bytes;

use super::Target;

pub(super) const PROTOBUF: Target = Target {
    name: "protobuf",
    what: "requests in protobuf",
    corpus: || {
        let mut corpus: Vec<Vec<u8>> = vec![put().encode_to_vec(), range().encode_to_vec(), watch().encode_to_vec()];
        corpus.push(txn(4).encode_to_vec());
        corpus
    },
    reseal: None,
    run: |input| {
        let bytes = Bytes::copy_from_slice(input);
        let known = [
            survives::<pb::PutRequest>(&bytes),
            survives::<pb::RangeRequest>(&bytes),
            survives::<pb::TxnRequest>(&bytes),
            survives::<pb::WatchRequest>(&bytes),
        ];
        known.contains(&true)
    },
};

fn survives<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &Bytes) -> bool {
    let Ok(message) = M::decode(bytes.clone()) else { return false };
    let again = M::decode(message.encode_to_vec().as_slice()).expect("what was encoded is decoded");
    assert_eq!(again, message);
    true
}

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "k".into(), value: vec![0xab; 300].into(), lease: -1, prev_kv: true, ..Default::default() }
}

fn range() -> pb::RangeRequest {
    pb::RangeRequest { key: "k".into(), range_end: "l".into(), limit: 10, revision: 5, ..Default::default() }
}

fn watch() -> pb::WatchRequest {
    let create = pb::WatchCreateRequest { key: "k".into(), filters: vec![0, 1], watch_id: 7, ..Default::default() };
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

/// A transaction in a transaction, so many deep.
fn txn(depth: usize) -> pb::TxnRequest {
    use pb::request_op::Request;
    let mut success = vec![pb::RequestOp { request: Some(Request::RequestPut(put())) }];
    if depth > 0 {
        success.push(pb::RequestOp { request: Some(Request::RequestTxn(txn(depth - 1))) });
    }
    let compare = pb::Compare {
        key: "k".into(),
        target_union: Some(pb::compare::TargetUnion::Value("v".into())),
        ..Default::default()
    };
    pb::TxnRequest { compare: vec![compare], success, failure: vec![] }
}
