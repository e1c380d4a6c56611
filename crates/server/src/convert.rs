//! Between the wire and the heart: requests become checked values here, and answers become messages.
//!
//! Knows shapes only; what a request does is the heart's business.

use bytes::Bytes;
use eyrie_api::{mvccpb, pb};
use eyrie_state::{
    Alarm, AlarmKind, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, KeyValue, LeaseId, Member, Op,
    OpAnswer, Put, Range, RangeAnswer, Refusal, Revision, SortOrder, SortTarget, Txn, TxnAnswer,
};
use tonic::Code;

use crate::errors::ServeError;

/// Reads etcd's pair of key and range end.
pub(crate) fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    match range_end.as_ref() {
        [] => KeyRange::One(key),
        [0] => KeyRange::From(key),
        _ => KeyRange::Span(key, range_end),
    }
}

/// Checks and reads a range request.
///
/// # Errors
/// An empty key, or a sort order or target that no version of the API knows.
pub(crate) fn range(request: pb::RangeRequest) -> Result<Range, ServeError> {
    use pb::range_request as wire;
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    let invalid = || ServeError::other(Code::InvalidArgument, "etcdserver: invalid sort option");
    let order = match wire::SortOrder::try_from(request.sort_order) {
        Ok(wire::SortOrder::None) => SortOrder::None,
        Ok(wire::SortOrder::Ascend) => SortOrder::Ascend,
        Ok(wire::SortOrder::Descend) => SortOrder::Descend,
        Err(_) => return Err(invalid()),
    };
    let target = match wire::SortTarget::try_from(request.sort_target) {
        Ok(wire::SortTarget::Key) => SortTarget::Key,
        Ok(wire::SortTarget::Version) => SortTarget::Version,
        Ok(wire::SortTarget::Create) => SortTarget::Create,
        Ok(wire::SortTarget::Mod) => SortTarget::Mod,
        Ok(wire::SortTarget::Value) => SortTarget::Value,
        Err(_) => return Err(invalid()),
    };
    Ok(Range {
        keys: key_range(request.key, request.range_end),
        limit: usize::try_from(request.limit).unwrap_or(0),
        revision: (request.revision > 0).then_some(Revision(request.revision)),
        order,
        target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// Checks and reads a put request.
///
/// # Errors
/// An empty key, or a value or lease beside the flag that ignores it.
pub(crate) fn put(request: pb::PutRequest) -> Result<Put, ServeError> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided.into());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided.into());
    }
    Ok(Put {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })
}

/// Checks and reads a delete request.
///
/// # Errors
/// An empty key.
pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> Result<DeleteRange, ServeError> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    Ok(DeleteRange { keys: key_range(request.key, request.range_end), prev_kv: request.prev_kv })
}

/// Checks and reads a transaction: sizes of each level, each operation's shape. Duplicates are the heart's check.
///
/// # Errors
/// Too many operations, or an operation that would be refused by itself.
pub(crate) fn txn(request: pb::TxnRequest, ops_max: usize) -> Result<Txn, ServeError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > ops_max {
        return Err(Refusal::TooManyOps.into());
    }
    let inner_max = ops_max - ops;
    let compare = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
    let branch = |ops: Vec<pb::RequestOp>| ops.into_iter().map(|op| operation(op, inner_max)).collect::<Result<_, _>>();
    Ok(Txn { compare, success: branch(request.success)?, failure: branch(request.failure)? })
}

fn compare(request: pb::Compare) -> Result<Compare, ServeError> {
    use pb::compare as wire;
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey.into());
    }
    let result = match wire::CompareResult::try_from(request.result) {
        Ok(wire::CompareResult::Equal) => CompareResult::Equal,
        Ok(wire::CompareResult::Greater) => CompareResult::Greater,
        Ok(wire::CompareResult::Less) => CompareResult::Less,
        Ok(wire::CompareResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => CompareResult::Unknown,
    };
    // What the message carries need not be what its target names; upstream then reads the field as 0 or empty.
    let number =
        |pick: fn(&wire::TargetUnion) -> Option<i64>| request.target_union.as_ref().and_then(pick).unwrap_or(0);
    let target =
        match wire::CompareTarget::try_from(request.target) {
            Ok(wire::CompareTarget::Version) => {
                CompareTarget::Version(number(|u| if let wire::TargetUnion::Version(n) = u { Some(*n) } else { None }))
            }
            Ok(wire::CompareTarget::Create) => CompareTarget::Create(number(|u| {
                if let wire::TargetUnion::CreateRevision(n) = u { Some(*n) } else { None }
            })),
            Ok(wire::CompareTarget::Mod) => {
                CompareTarget::Mod(number(|u| if let wire::TargetUnion::ModRevision(n) = u { Some(*n) } else { None }))
            }
            Ok(wire::CompareTarget::Value) => CompareTarget::Value(match request.target_union {
                Some(wire::TargetUnion::Value(value)) => value,
                _ => Bytes::new(),
            }),
            Ok(wire::CompareTarget::Lease) => {
                CompareTarget::Lease(number(|u| if let wire::TargetUnion::Lease(n) = u { Some(*n) } else { None }))
            }
            Err(_) => CompareTarget::Unknown,
        };
    Ok(Compare { keys: key_range(request.key, request.range_end), result, target })
}

fn operation(op: pb::RequestOp, ops_max: usize) -> Result<Op, ServeError> {
    use pb::request_op::Request;
    Ok(match op.request.ok_or(Refusal::KeyNotFound)? {
        Request::RequestRange(request) => {
            // Unlike a read by itself, one inside a transaction takes a negative revision for a compacted one.
            let revision = (request.revision != 0).then_some(Revision(request.revision));
            Op::Range(Range { revision, ..range(request)? })
        }
        Request::RequestPut(request) => Op::Put(put(request)?),
        Request::RequestDeleteRange(request) => Op::DeleteRange(delete_range(request)?),
        Request::RequestTxn(request) => Op::Txn(txn(request, ops_max)?),
    })
}

/// A pair as a message.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease.0,
    }
}

/// A read's answer as a message.
pub(crate) fn range_response(header: pb::ResponseHeader, answer: RangeAnswer) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count,
    }
}

/// A transaction's answer as a message. Inner headers carry only the revision, and a nested transaction's nothing.
pub(crate) fn txn_response(header: pb::ResponseHeader, answer: TxnAnswer) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: answer.succeeded,
        responses: answer.answers.into_iter().map(op_response).collect(),
    }
}

fn op_response(answer: OpAnswer) -> pb::ResponseOp {
    use pb::response_op::Response;
    let at = |revision: Revision| pb::ResponseHeader { revision: revision.0, ..Default::default() };
    let response = match answer {
        OpAnswer::Range { revision, answer } => Response::ResponseRange(range_response(at(revision), answer)),
        OpAnswer::Put { revision, prev } => {
            Response::ResponsePut(pb::PutResponse { header: Some(at(revision)), prev_kv: prev.map(key_value) })
        }
        OpAnswer::DeleteRange { revision, deleted, prev } => Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header: Some(at(revision)),
            deleted,
            prev_kvs: prev.into_iter().map(key_value).collect(),
        }),
        OpAnswer::Txn(answer) => Response::ResponseTxn(txn_response(pb::ResponseHeader::default(), answer)),
    };
    pb::ResponseOp { response: Some(response) }
}

/// A member as a message.
pub(crate) fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.learner,
    }
}

/// An alarm as a message.
pub(crate) fn alarm(alarm: &Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.member.0, alarm: kind.into() }
}
