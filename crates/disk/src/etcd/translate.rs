//! What an entry of upstream's log asks for, in our words.
//!
//! Says no to what it does not know for certain: a request passed over silently would be a lost write.

use bytes::Bytes;
use eyrie_state::{
    AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, MemberId, Op, Put,
    Range, Revision, SortOrder, SortTarget, Txn, parse_member_json,
};
use prost::Message;

use super::messages::{self, CompareValue, ConfChange, Entry, InternalRequest, OpKind, RequestV2};

/// The shortest lease that upstream grants with its default election timeout.
const LEASE_TTL_SECS_MIN: i64 = 2;

const ENTRY_NORMAL: i32 = 0;
const ENTRY_CONF_CHANGE: i32 = 1;

const CONF_ADD_NODE: i32 = 0;
const CONF_REMOVE_NODE: i32 = 1;
const CONF_UPDATE_NODE: i32 = 2;
const CONF_ADD_LEARNER: i32 = 3;

/// What is done about an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// Nothing: a new leader's mark, a read, a housekeeping request.
    Nothing,
    /// Apply this.
    Apply(Command),
}

/// Translates one committed entry; the error says what it is that cannot be translated.
pub(super) fn entry(entry: &Entry) -> Result<Meaning, String> {
    match entry.kind {
        ENTRY_NORMAL if entry.data.is_empty() => Ok(Meaning::Nothing),
        ENTRY_NORMAL => normal(&entry.data),
        ENTRY_CONF_CHANGE => {
            let change =
                ConfChange::decode(entry.data.clone()).map_err(|_| "a membership change that cannot be read")?;
            conf_change(change)
        }
        other => Err(format!("an entry of unknown kind {other}")),
    }
}

fn normal(data: &Bytes) -> Result<Meaning, String> {
    // 3.5 writes v2 requests bare; as upstream does, first take the bytes for what 3.5 writes otherwise
    let Ok(request) = InternalRequest::decode(data.clone()) else {
        let request = RequestV2::decode(data.clone()).map_err(|_| "a request that cannot be read")?;
        return v2(&request);
    };
    let fields = messages::fields(data).unwrap_or_default();
    if let Some(field) = fields.iter().find(|n| matches!(n, 1000..=1299)) {
        return Err(format!("a change of users, roles or authentication (request field {field})"));
    }
    if let Some(field) = fields.iter().find(|n| !matches!(n, 1..=11 | 100 | 1300..=1302)) {
        return Err(format!("a request that etcd 3.5 does not know (field {field})"));
    }
    internal(request)
}

fn internal(request: InternalRequest) -> Result<Meaning, String> {
    if let Some(request) = &request.v2 {
        return v2(request);
    }
    let command = if let Some(put) = request.put {
        Command::Put(self::put(put))
    } else if let Some(delete) = request.delete_range {
        Command::DeleteRange(delete_range(delete))
    } else if let Some(txn) = request.txn {
        Command::Txn(self::txn(txn)?)
    } else if let Some(compaction) = request.compaction {
        Command::Compact { revision: Revision(compaction.revision) }
    } else if let Some(grant) = request.lease_grant {
        Command::LeaseGrant { id: LeaseId(grant.id), ttl_secs: grant.ttl.max(LEASE_TTL_SECS_MIN) }
    } else if let Some(revoke) = request.lease_revoke {
        Command::LeaseRevoke { id: LeaseId(revoke.id) }
    } else if let Some(list) = request.lease_checkpoint {
        let remaining = list.checkpoints.iter().map(|c| (LeaseId(c.id), c.remaining_ttl)).collect();
        Command::LeaseCheckpoint { remaining }
    } else if let Some(alarm) = request.alarm {
        return self::alarm(alarm);
    } else if let Some(set) = request.cluster_version_set {
        Command::ClusterVersion(set.ver)
    } else if let Some(set) = request.member_attr_set {
        let attributes = set.attributes.unwrap_or_default();
        Command::MemberPublish {
            id: MemberId(set.member_id),
            name: attributes.name,
            client_urls: attributes.client_urls,
        }
    } else if request.downgrade_info_set.is_some_and(|set| set.enabled) {
        return Err("a cluster downgrade that was begun".into());
    } else {
        return Ok(Meaning::Nothing);
    };
    Ok(Meaning::Apply(command))
}

/// Member attributes and the cluster version go through the old store; user data there is not adopted.
fn v2(request: &RequestV2) -> Result<Meaning, String> {
    let what = || format!("a request to the v2 store ({} {})", request.method, request.path);
    match request.method.as_str() {
        "SYNC" | "QGET" => return Ok(Meaning::Nothing),
        "PUT" => {}
        _ => return Err(what()),
    }
    if request.path == "/0/version" {
        return Ok(Meaning::Apply(Command::ClusterVersion(request.val.clone())));
    }
    let id = request.path.strip_prefix("/0/members/").and_then(|rest| rest.strip_suffix("/attributes"));
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok()).ok_or_else(what)?;
    let attributes: serde_json::Value = serde_json::from_str(&request.val).map_err(|_| what())?;
    let urls = attributes["clientURLs"].as_array().into_iter().flatten();
    Ok(Meaning::Apply(Command::MemberPublish {
        id: MemberId(id),
        name: attributes["name"].as_str().unwrap_or_default().to_owned(),
        client_urls: urls.filter_map(|url| url.as_str().map(str::to_owned)).collect(),
    }))
}

fn conf_change(change: ConfChange) -> Result<Meaning, String> {
    let id = MemberId(change.node_id);
    let command = match change.kind {
        CONF_ADD_NODE | CONF_ADD_LEARNER => {
            let json: serde_json::Value =
                serde_json::from_slice(&change.context).map_err(|_| "a member that cannot be read")?;
            if json["isPromote"].as_bool() == Some(true) {
                Command::MemberPromote { id }
            } else {
                Command::MemberAdd(parse_member_json(&change.context)?)
            }
        }
        CONF_UPDATE_NODE => {
            let member = parse_member_json(&change.context)?;
            Command::MemberUpdate { id, peer_urls: member.peer_urls }
        }
        CONF_REMOVE_NODE => Command::MemberRemove { id },
        other => return Err(format!("a membership change of unknown kind {other}")),
    };
    Ok(Meaning::Apply(command))
}

fn alarm(request: messages::Alarm) -> Result<Meaning, String> {
    let member = MemberId(request.member_id);
    let kind = match request.alarm {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ if request.action == 0 => return Ok(Meaning::Nothing),
        other => return Err(format!("an alarm of unknown kind {other}")),
    };
    Ok(match request.action {
        0 => Meaning::Nothing,
        1 => Meaning::Apply(Command::AlarmActivate { member, kind }),
        2 => Meaning::Apply(Command::AlarmDeactivate { member, kind }),
        other => return Err(format!("an alarm request of unknown kind {other}")),
    })
}

fn put(put: messages::Put) -> Put {
    Put {
        key: put.key,
        value: put.value,
        lease: LeaseId(put.lease),
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

fn delete_range(delete: messages::DeleteRange) -> DeleteRange {
    DeleteRange { keys: keys(delete.key, delete.range_end), prev_kv: delete.prev_kv }
}

fn keys(key: Bytes, end: Bytes) -> KeyRange {
    match &end[..] {
        [] => KeyRange::One(key),
        [0] => KeyRange::From(key),
        _ => KeyRange::Span(key, end),
    }
}

fn range(range: messages::Range) -> Result<Range, String> {
    Ok(Range {
        keys: keys(range.key, range.range_end),
        limit: usize::try_from(range.limit).unwrap_or(0),
        revision: (range.revision > 0).then_some(Revision(range.revision)),
        order: match range.sort_order {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            other => return Err(format!("a read in unknown order {other}")),
        },
        target: match range.sort_target {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            other => return Err(format!("a read sorted by unknown field {other}")),
        },
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    })
}

fn txn(txn: messages::Txn) -> Result<Txn, String> {
    let ops =
        |ops: Vec<messages::Op>| ops.into_iter().filter_map(|op| op.kind).map(op).collect::<Result<Vec<_>, String>>();
    Ok(Txn {
        compare: txn.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(txn.success)?,
        failure: ops(txn.failure)?,
    })
}

fn op(kind: OpKind) -> Result<Op, String> {
    Ok(match kind {
        OpKind::Range(range) => Op::Range(self::range(range)?),
        OpKind::Put(put) => Op::Put(self::put(put)),
        OpKind::DeleteRange(delete) => Op::DeleteRange(delete_range(delete)),
        OpKind::Txn(txn) => Op::Txn(self::txn(txn)?),
    })
}

fn compare(compare: messages::Compare) -> Result<Compare, String> {
    Ok(Compare {
        result: match compare.result {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            _ => CompareResult::Unknown,
        },
        target: match (compare.target, compare.value) {
            (0, Some(CompareValue::Version(n))) => CompareTarget::Version(n),
            (1, Some(CompareValue::Create(n))) => CompareTarget::Create(n),
            (2, Some(CompareValue::Mod(n))) => CompareTarget::Mod(n),
            (3, Some(CompareValue::Value(value))) => CompareTarget::Value(value),
            (4, Some(CompareValue::Lease(n))) => CompareTarget::Lease(n),
            (target, _) => return Err(format!("a compare of field {target} without a value of its kind")),
        },
        keys: keys(compare.key, compare.range_end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal_entry(data: Vec<u8>) -> Entry {
        Entry { kind: 0, term: 1, index: 1, data: data.into() }
    }

    #[test]
    fn bare_v2_requests_are_told_from_the_others() {
        let text = r#"{"name":"n1","clientURLs":["http://a:1"]}"#;
        let request =
            RequestV2 { method: "PUT".into(), path: "/0/members/8e9e05c52164694d/attributes".into(), val: text.into() };
        let mut bytes = vec![0x08, 0x96, 0x01];
        bytes.extend(request.encode_to_vec());
        let Ok(Meaning::Apply(Command::MemberPublish { id, name, client_urls })) = entry(&normal_entry(bytes)) else {
            panic!("a publication")
        };
        assert_eq!((id.0, name.as_str(), client_urls.len()), (0x8e9e_05c5_2164_694d, "n1", 1));
        let user = RequestV2 { method: "PUT".into(), path: "/1/foo".into(), val: "x".into() };
        assert!(entry(&normal_entry(user.encode_to_vec())).unwrap_err().contains("v2 store"));
        let sync = RequestV2 { method: "SYNC".into(), path: String::new(), val: String::new() };
        assert_eq!(entry(&normal_entry(sync.encode_to_vec())), Ok(Meaning::Nothing));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        // field 1000: AuthEnable
        assert!(entry(&normal_entry(vec![0xc2, 0x3e, 0x00])).unwrap_err().contains("authentication"));
        // field 1400
        assert!(entry(&normal_entry(vec![0xc2, 0x57, 0x00])).unwrap_err().contains("1400"));
        assert!(entry(&Entry { kind: 2, ..normal_entry(Vec::new()) }).is_err());
    }

    #[test]
    fn puts_and_ranges_come_over() {
        let put = messages::Put { key: "k".into(), value: "v".into(), lease: 5, ..Default::default() };
        let request = InternalRequest { put: Some(put), ..Default::default() };
        let Ok(Meaning::Apply(Command::Put(put))) = entry(&normal_entry(request.encode_to_vec())) else {
            panic!("a put")
        };
        assert_eq!((&put.key[..], &put.value[..], put.lease), (&b"k"[..], &b"v"[..], LeaseId(5)));
        let delete = messages::DeleteRange { key: "a".into(), range_end: "\0".into(), prev_kv: false };
        let request = InternalRequest { delete_range: Some(delete), ..Default::default() };
        let Ok(Meaning::Apply(Command::DeleteRange(delete))) = entry(&normal_entry(request.encode_to_vec())) else {
            panic!("a delete")
        };
        assert_eq!(delete.keys, KeyRange::From("a".into()));
    }
}
