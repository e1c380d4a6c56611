//! The rows of the matrix: what is asked, and who may.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eyrie_api::pb::request_op::Request as Op;
use eyrie_api::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use eyrie_api::v3lockpb::{LockRequest, UnlockRequest};
use eyrie_api::{authpb, health, pb};
use prost::Message;
use tonic::Code;

use super::wire::{Denial, Outcome};
use super::world::{INSIDE_LEASE, OUTSIDE_LEASE};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Anybody.
    Nothing,
    /// A known user.
    Known,
    /// Who has the role with the ranges.
    Inside,
    /// Only root.
    Root,
}

/// What upstream 3.5.1 does with the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// It lets in and refuses the same.
    Same,
    /// A known hole, closed in later releases.
    LetsPass,
    /// It can't be asked without harm to the rows after it.
    Skip,
}

/// A request in both languages.
pub struct Asked {
    /// Its protobuf.
    pub message: Vec<u8>,
    /// Its JSON.
    pub json: String,
}

/// One row.
pub struct Row {
    /// What it is about.
    pub name: &'static str,
    /// The gRPC path.
    pub path: &'static str,
    /// The gateway's path; empty for none.
    pub route: &'static str,
    /// Who may.
    pub need: Need,
    /// What upstream does.
    pub upstream: Upstream,
    /// Makes the request; the number is new each time.
    pub make: Box<dyn Fn(u64) -> Asked>,
    /// Root would do harm to the rows after it.
    pub not_as_root: bool,
    /// Who may do it switches authentication off.
    pub switches_off: bool,
    /// It ends a lease, which is made for it.
    pub takes_a_lease: bool,
}

impl Row {
    /// A lock or an election: made of other calls.
    pub fn is_recipe(&self) -> bool {
        self.path.starts_with("/v3lock") || self.path.starts_with("/v3election")
    }

    /// A refusal has its code.
    pub fn codes_are_right(&self, outcome: &Outcome) -> bool {
        let recipe = self.is_recipe();
        let want = match outcome.denial {
            // Locks and elections pass errors on as they come from a client within.
            _ if recipe => Code::Unknown,
            Some(Denial::UserEmpty | Denial::OldRevision) => Code::InvalidArgument,
            Some(Denial::InvalidToken) => Code::Unauthenticated,
            Some(Denial::Denied) => Code::PermissionDenied,
            None => Code::Ok,
        };
        let whole = outcome.text.starts_with("etcdserver: ");
        outcome.code == Some(want as i32) && (whole || outcome.denial.is_none())
    }

    fn lets_pass(mut self) -> Self {
        self.upstream = Upstream::LetsPass;
        self
    }

    fn not_as_root(mut self) -> Self {
        self.not_as_root = true;
        self
    }

    fn skip_upstream(mut self) -> Self {
        self.upstream = Upstream::Skip;
        self
    }
}

/// The lease that is made for a call.
pub fn lease_of(number: u64) -> i64 {
    1_000_000 + number as i64
}

fn row<M: Message>(
    name: &'static str,
    (path, route): (&'static str, &'static str),
    need: Need,
    make: impl Fn(u64) -> (M, String) + 'static,
) -> Row {
    let make = Box::new(move |number| {
        let (message, json) = make(number);
        Asked { message: message.encode_to_vec(), json }
    });
    let (not_as_root, switches_off, takes_a_lease) = (false, false, false);
    Row { name, path, route, need, upstream: Upstream::Same, make, not_as_root, switches_off, takes_a_lease }
}

fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

const RANGE: (&str, &str) = ("/etcdserverpb.KV/Range", "/v3/kv/range");
const PUT: (&str, &str) = ("/etcdserverpb.KV/Put", "/v3/kv/put");
const DELETE: (&str, &str) = ("/etcdserverpb.KV/DeleteRange", "/v3/kv/deleterange");
const TXN: (&str, &str) = ("/etcdserverpb.KV/Txn", "/v3/kv/txn");
const WATCH: (&str, &str) = ("/etcdserverpb.Watch/Watch", "/v3/watch");

/// All rows.
pub fn all() -> Vec<Row> {
    [keys(), transactions(), watches(), leases(), cluster(), maintenance(), users(), roles(), recipes()]
        .into_iter()
        .flatten()
        .collect()
}

/// The rows with these names.
pub fn named(names: &[&str]) -> Vec<Row> {
    let rows: Vec<Row> = all().into_iter().filter(|row| names.contains(&row.name)).collect();
    assert_eq!(rows.len(), names.len(), "a row is missing: {names:?}");
    rows
}

fn range(key: &str, end: &str, serializable: bool) -> (pb::RangeRequest, String) {
    let json = format!(
        r#"{{"key":"{}","range_end":"{}","serializable":{serializable}}}"#,
        b64(key.as_bytes()),
        b64(end.as_bytes())
    );
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    (pb::RangeRequest { key, range_end, serializable, ..Default::default() }, json)
}

fn put(key: &str, lease: i64, prev_kv: bool) -> (pb::PutRequest, String) {
    let json = format!(r#"{{"key":"{}","value":"Mg==","lease":"{lease}","prev_kv":{prev_kv}}}"#, b64(key.as_bytes()));
    (pb::PutRequest { key: key.to_owned().into(), value: "2".into(), lease, prev_kv, ..Default::default() }, json)
}

fn delete(key: &str, end: &str, prev_kv: bool) -> (pb::DeleteRangeRequest, String) {
    let (k, e) = (b64(key.as_bytes()), b64(end.as_bytes()));
    let json = format!(r#"{{"key":"{k}","range_end":"{e}","prev_kv":{prev_kv}}}"#);
    (pb::DeleteRangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), prev_kv }, json)
}

fn keys() -> Vec<Row> {
    use Need::{Inside, Root};
    vec![
        row("range inside", RANGE, Inside, |_| range("r1", "", false)),
        row("range of the whole permission", RANGE, Inside, |_| range("r", "s", false)),
        row("range over two permissions that touch", RANGE, Inside, |_| range("q", "s", false)),
        row("range outside", RANGE, Root, |_| range("z", "", false)),
        row("range, serializable, outside", RANGE, Root, |_| range("z", "", true)),
        row("range one key too far", RANGE, Root, |_| range("r", "s\u{1}", false)),
        row("range to the end of all keys", RANGE, Root, |_| range("r1", "\0", false)),
        row("range of all keys", RANGE, Root, |_| range("\0", "\0", false)),
        row("range of what may only be written", RANGE, Root, |_| range("w1", "", false)),
        row("put inside", PUT, Inside, |_| put("r2", 0, false)),
        row("put inside with the previous pair", PUT, Inside, |_| put("r2", 0, true)),
        row("put outside", PUT, Root, |_| put("y", 0, false)),
        row("put of what may only be read", PUT, Root, |_| put("q1", 0, false)),
        row("put of what may only be written", PUT, Inside, |_| put("w1", 0, false)),
        row("put with a previous pair that may not be read", PUT, Root, |_| put("w1", 0, true)),
        row("put on a lease with own keys", PUT, Inside, |_| put("r2", INSIDE_LEASE, false)),
        row("put on a lease with others' keys", PUT, Root, |_| put("r2", OUTSIDE_LEASE, false)),
        row("delete inside", DELETE, Inside, |_| delete("r9", "", true)),
        row("delete outside", DELETE, Root, |_| delete("y", "", false)),
        row("delete to the end of all keys", DELETE, Root, |_| delete("zzz", "\0", false)),
        row("delete with previous pairs that may not be read", DELETE, Root, |_| delete("w9", "wx", true)),
        row("compact", ("/etcdserverpb.KV/Compact", "/v3/kv/compaction"), Root, |_| {
            (pb::CompactionRequest { revision: 1, physical: false }, r#"{"revision":"1"}"#.into())
        })
        .lets_pass(),
    ]
}

fn op(of: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(of) }
}

/// One operation in both languages.
type Both = (Op, String);

fn get_op(key: &str) -> Both {
    let (message, json) = range(key, "", false);
    (Op::RequestRange(message), format!(r#"{{"request_range":{json}}}"#))
}

fn put_op(key: &str, lease: i64, prev_kv: bool) -> Both {
    let (message, json) = put(key, lease, prev_kv);
    (Op::RequestPut(message), format!(r#"{{"request_put":{json}}}"#))
}

fn delete_op(key: &str, end: &str, prev_kv: bool) -> Both {
    let (message, json) = delete(key, end, prev_kv);
    (Op::RequestDeleteRange(message), format!(r#"{{"request_delete_range":{json}}}"#))
}

fn txn(compared: Option<&str>, success: Vec<Both>, failure: Vec<Both>) -> (pb::TxnRequest, String) {
    let compare = compared.map(|key| pb::Compare {
        target: pb::compare::CompareTarget::Version.into(),
        result: pb::compare::CompareResult::Greater.into(),
        key: key.to_owned().into(),
        ..Default::default()
    });
    let compare_json =
        compared.map(|key| format!(r#"{{"target":"VERSION","result":"GREATER","key":"{}"}}"#, b64(key.as_bytes())));
    let branch = |ops: Vec<Both>| -> (Vec<pb::RequestOp>, String) {
        let (messages, json): (Vec<_>, Vec<_>) = ops.into_iter().map(|(message, json)| (op(message), json)).unzip();
        (messages, json.join(","))
    };
    let ((success, success_json), (failure, failure_json)) = (branch(success), branch(failure));
    let json = format!(
        r#"{{"compare":[{}],"success":[{success_json}],"failure":[{failure_json}]}}"#,
        compare_json.unwrap_or_default()
    );
    (pb::TxnRequest { compare: compare.into_iter().collect(), success, failure }, json)
}

fn nested(depth: usize, inner: (pb::TxnRequest, String)) -> (pb::TxnRequest, String) {
    (0..depth).fold(inner, |(message, json), _| {
        txn(None, vec![(Op::RequestTxn(message), format!(r#"{{"request_txn":{json}}}"#))], vec![])
    })
}

fn transactions() -> Vec<Row> {
    use Need::{Inside, Root};
    vec![
        row("txn inside", TXN, Inside, |_| txn(Some("r1"), vec![put_op("r2", 0, true)], vec![get_op("q1")])),
        row("txn that only reads, inside", TXN, Inside, |_| txn(Some("r1"), vec![get_op("r2")], vec![])),
        row("txn that only reads, outside", TXN, Root, |_| txn(None, vec![get_op("z")], vec![])),
        row("txn that compares outside", TXN, Root, |_| txn(Some("z"), vec![get_op("r1")], vec![])),
        row("txn with a branch outside that runs", TXN, Root, |_| txn(Some("r1"), vec![put_op("y", 0, false)], vec![])),
        row("txn with a branch outside that does not run", TXN, Root, |_| {
            txn(Some("r1"), vec![get_op("r1")], vec![put_op("y", 0, false)])
        }),
        row("txn that deletes outside", TXN, Root, |_| txn(None, vec![delete_op("y", "", false)], vec![])),
        row("txn that deletes with a previous pair that may not be read", TXN, Root, |_| {
            txn(None, vec![delete_op("w9", "", true)], vec![])
        }),
        row("txn with a previous pair that may not be read", TXN, Root, |_| {
            txn(None, vec![put_op("w1", 0, true)], vec![])
        })
        .lets_pass(),
        row("txn on a lease with others' keys", TXN, Root, |_| {
            txn(None, vec![put_op("r2", OUTSIDE_LEASE, false)], vec![])
        })
        .lets_pass(),
        row("nested txn inside", TXN, Inside, |_| nested(1, txn(Some("r1"), vec![put_op("r2", 0, false)], vec![])))
            .lets_pass(),
        row("nested txn that reads outside", TXN, Root, |_| nested(1, txn(None, vec![get_op("z")], vec![])))
            .lets_pass(),
        row("nested txn that writes outside", TXN, Root, |_| nested(1, txn(None, vec![put_op("y", 0, false)], vec![])))
            .lets_pass(),
        row("nested txn that compares outside", TXN, Root, |_| nested(1, txn(Some("z"), vec![], vec![]))).lets_pass(),
        row("nested txn with a branch outside that does not run", TXN, Root, |_| {
            nested(1, txn(Some("r1"), vec![], vec![delete_op("y", "", false)]))
        })
        .lets_pass(),
        row("txn nested five deep that writes outside", TXN, Root, |_| {
            nested(5, txn(None, vec![put_op("y", 0, false)], vec![]))
        })
        .lets_pass(),
        row("nested txn with a previous pair that may not be read", TXN, Root, |_| {
            nested(2, txn(None, vec![put_op("w1", 0, true)], vec![]))
        })
        .lets_pass(),
        row("nested txn on a lease with others' keys", TXN, Root, |_| {
            nested(2, txn(None, vec![put_op("r2", OUTSIDE_LEASE, false)], vec![]))
        })
        .lets_pass(),
    ]
}

fn watch(key: &str, end: &str) -> (pb::WatchRequest, String) {
    let create =
        pb::WatchCreateRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() };
    let (k, e) = (b64(key.as_bytes()), b64(end.as_bytes()));
    let json = format!(r#"{{"create_request":{{"key":"{k}","range_end":"{e}"}}}}"#);
    let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
    (pb::WatchRequest { request_union }, json)
}

fn watches() -> Vec<Row> {
    use Need::{Inside, Root};
    vec![
        row("watch inside", WATCH, Inside, |_| watch("r1", "")),
        row("watch of the whole permission", WATCH, Inside, |_| watch("r", "s")),
        row("watch outside", WATCH, Root, |_| watch("z", "")),
        row("watch one key too far", WATCH, Root, |_| watch("r", "s\u{1}")),
        row("watch of what may only be written", WATCH, Root, |_| watch("w1", "")),
        row("watch to the end of all keys", WATCH, Root, |_| watch("r1", "\0")).lets_pass(),
        row("watch of all keys", WATCH, Root, |_| watch("", "\0")),
    ]
}

fn leases() -> Vec<Row> {
    use Need::{Known, Root};
    const GRANT: (&str, &str) = ("/etcdserverpb.Lease/LeaseGrant", "/v3/lease/grant");
    const REVOKE: (&str, &str) = ("/etcdserverpb.Lease/LeaseRevoke", "/v3/lease/revoke");
    const KEEP: (&str, &str) = ("/etcdserverpb.Lease/LeaseKeepAlive", "/v3/lease/keepalive");
    const TIME: (&str, &str) = ("/etcdserverpb.Lease/LeaseTimeToLive", "/v3/lease/timetolive");
    let revoke = |id: i64| (pb::LeaseRevokeRequest { id }, format!(r#"{{"ID":"{id}"}}"#));
    let keep = |id: i64| (pb::LeaseKeepAliveRequest { id }, format!(r#"{{"ID":"{id}"}}"#));
    let time =
        |id: i64, keys: bool| (pb::LeaseTimeToLiveRequest { id, keys }, format!(r#"{{"ID":"{id}","keys":{keys}}}"#));
    let ended = row("revoke a lease with others' keys", REVOKE, Root, move |n| revoke(lease_of(n)));
    vec![
        row("grant a lease", GRANT, Known, |_| (pb::LeaseGrantRequest { ttl: 100, id: 0 }, r#"{"TTL":"100"}"#.into()))
            .lets_pass(),
        row("revoke a lease that is not there", REVOKE, Known, move |_| revoke(404)).lets_pass(),
        row(
            "revoke a lease of the aliases' path",
            ("/etcdserverpb.Lease/LeaseRevoke", "/v3/kv/lease/revoke"),
            Known,
            move |_| revoke(404),
        )
        .lets_pass(),
        Row { takes_a_lease: true, ..ended },
        row("keep a lease with others' keys alive", KEEP, Root, move |_| keep(OUTSIDE_LEASE)).lets_pass(),
        row("keep a lease with own keys alive", KEEP, Need::Inside, move |_| keep(INSIDE_LEASE)).lets_pass(),
        row("keep a lease alive that is not there", KEEP, Known, move |_| keep(404)).lets_pass(),
        row("time of a lease", TIME, Known, move |_| time(OUTSIDE_LEASE, false)).lets_pass(),
        row("others' keys of a lease", TIME, Root, move |_| time(OUTSIDE_LEASE, true)).lets_pass(),
        row("own keys of a lease", TIME, Need::Inside, move |_| time(INSIDE_LEASE, true)).lets_pass(),
        row("list of leases", ("/etcdserverpb.Lease/LeaseLeases", "/v3/lease/leases"), Known, |_| {
            (pb::LeaseLeasesRequest {}, "{}".into())
        })
        .lets_pass(),
    ]
}

fn cluster() -> Vec<Row> {
    use Need::{Known, Root};
    vec![
        row("add a member", ("/etcdserverpb.Cluster/MemberAdd", "/v3/cluster/member/add"), Root, |_| {
            let peer_ur_ls = vec!["http://127.0.0.1:9".to_owned()];
            (
                pb::MemberAddRequest { peer_ur_ls, is_learner: true },
                r#"{"peerURLs":["http://127.0.0.1:9"],"isLearner":true}"#.into(),
            )
        })
        .not_as_root(),
        row("remove a member", ("/etcdserverpb.Cluster/MemberRemove", "/v3/cluster/member/remove"), Root, |_| {
            (pb::MemberRemoveRequest { id: 1 }, r#"{"ID":"1"}"#.into())
        })
        .not_as_root(),
        row("update a member", ("/etcdserverpb.Cluster/MemberUpdate", "/v3/cluster/member/update"), Root, |_| {
            let peer_ur_ls = vec!["http://127.0.0.1:9".to_owned()];
            (pb::MemberUpdateRequest { id: 1, peer_ur_ls }, r#"{"ID":"1","peerURLs":["http://127.0.0.1:9"]}"#.into())
        })
        .not_as_root(),
        row("promote a member", ("/etcdserverpb.Cluster/MemberPromote", "/v3/cluster/member/promote"), Root, |_| {
            (pb::MemberPromoteRequest { id: 1 }, r#"{"ID":"1"}"#.into())
        })
        .not_as_root(),
        row("list of members", ("/etcdserverpb.Cluster/MemberList", "/v3/cluster/member/list"), Known, |_| {
            (pb::MemberListRequest { linearizable: true }, r#"{"linearizable":true}"#.into())
        })
        .lets_pass(),
    ]
}

fn alarm(action: pb::alarm_request::AlarmAction) -> (pb::AlarmRequest, String) {
    let json = format!(r#"{{"action":"{}","memberID":"404","alarm":"NOSPACE"}}"#, action.as_str_name());
    (pb::AlarmRequest { action: action.into(), member_id: 404, alarm: pb::AlarmType::Nospace.into() }, json)
}

fn maintenance() -> Vec<Row> {
    use Need::{Known, Root};
    use pb::alarm_request::AlarmAction::{Activate, Deactivate, Get};
    const ALARM: (&str, &str) = ("/etcdserverpb.Maintenance/Alarm", "/v3/maintenance/alarm");
    let empty = || "{}".to_owned();
    vec![
        row("list of alarms", ALARM, Known, |_| alarm(Get)).lets_pass(),
        row("raise an alarm", ALARM, Root, |_| alarm(Activate)).not_as_root().skip_upstream(),
        row("lift an alarm", ALARM, Root, |_| alarm(Deactivate)).lets_pass(),
        row("status", ("/etcdserverpb.Maintenance/Status", "/v3/maintenance/status"), Known, move |_| {
            (pb::StatusRequest {}, empty())
        })
        .lets_pass(),
        row("defragment", ("/etcdserverpb.Maintenance/Defragment", "/v3/maintenance/defragment"), Root, move |_| {
            (pb::DefragmentRequest {}, empty())
        }),
        row("hash", ("/etcdserverpb.Maintenance/Hash", "/v3/maintenance/hash"), Root, move |_| {
            (pb::HashRequest {}, empty())
        }),
        row("hash of keys", ("/etcdserverpb.Maintenance/HashKV", "/v3/maintenance/hashkv"), Root, move |_| {
            (pb::HashKvRequest { revision: 0 }, empty())
        })
        .skip_upstream(),
        row("snapshot", ("/etcdserverpb.Maintenance/Snapshot", "/v3/maintenance/snapshot"), Root, move |_| {
            (pb::SnapshotRequest {}, empty())
        }),
        row(
            "move the leader",
            ("/etcdserverpb.Maintenance/MoveLeader", "/v3/maintenance/transfer-leadership"),
            Root,
            |_| (pb::MoveLeaderRequest { target_id: 404 }, r#"{"targetID":"404"}"#.into()),
        )
        .lets_pass(),
        row("downgrade", ("/etcdserverpb.Maintenance/Downgrade", "/v3/maintenance/downgrade"), Root, |_| {
            let version = "3.4.0".to_owned();
            (pb::DowngradeRequest { action: 0, version }, r#"{"action":"VALIDATE","version":"3.4.0"}"#.into())
        })
        .lets_pass(),
        row("health", ("/grpc.health.v1.Health/Check", ""), Need::Nothing, move |_| {
            (health::HealthCheckRequest::default(), empty())
        }),
        row("health, watched", ("/grpc.health.v1.Health/Watch", ""), Need::Nothing, move |_| {
            (health::HealthCheckRequest::default(), empty())
        }),
    ]
}

fn users() -> Vec<Row> {
    use Need::{Inside, Nothing, Root};
    let empty = || "{}".to_owned();
    let s = str::to_owned;
    let get = |name: &str| (pb::AuthUserGetRequest { name: name.to_owned() }, format!(r#"{{"name":"{name}"}}"#));
    const GET: (&str, &str) = ("/etcdserverpb.Auth/UserGet", "/v3/auth/user/get");
    let disable =
        row("switch authentication off", ("/etcdserverpb.Auth/AuthDisable", "/v3/auth/disable"), Root, move |_| {
            (pb::AuthDisableRequest {}, empty())
        });
    vec![
        row("switch authentication on", ("/etcdserverpb.Auth/AuthEnable", "/v3/auth/enable"), Root, move |_| {
            (pb::AuthEnableRequest {}, empty())
        }),
        Row { switches_off: true, ..disable },
        row("status of authentication", ("/etcdserverpb.Auth/AuthStatus", "/v3/auth/status"), Root, move |_| {
            (pb::AuthStatusRequest {}, empty())
        }),
        row("log in", ("/etcdserverpb.Auth/Authenticate", "/v3/auth/authenticate"), Nothing, move |_| {
            (
                pb::AuthenticateRequest { name: s("bare"), password: s("pw") },
                r#"{"name":"bare","password":"pw"}"#.into(),
            )
        }),
        row("add a user", ("/etcdserverpb.Auth/UserAdd", "/v3/auth/user/add"), Root, move |_| {
            let user = pb::AuthUserAddRequest { name: s("bare"), password: s("x"), ..Default::default() };
            (user, r#"{"name":"bare","password":"x"}"#.into())
        }),
        row("see oneself", GET, Inside, move |_| get("ranged")),
        row("see another user", GET, Root, move |_| get("root")),
        row("see a user that is not there", GET, Root, move |_| get("nobody")),
        row("list of users", ("/etcdserverpb.Auth/UserList", "/v3/auth/user/list"), Root, move |_| {
            (pb::AuthUserListRequest {}, empty())
        }),
        row("delete a user", ("/etcdserverpb.Auth/UserDelete", "/v3/auth/user/delete"), Root, move |_| {
            (pb::AuthUserDeleteRequest { name: s("nobody") }, r#"{"name":"nobody"}"#.into())
        }),
        row(
            "change a password",
            ("/etcdserverpb.Auth/UserChangePassword", "/v3/auth/user/changepw"),
            Root,
            move |_| {
                let change =
                    pb::AuthUserChangePasswordRequest { name: s("nobody"), password: s("x"), ..Default::default() };
                (change, r#"{"name":"nobody","password":"x"}"#.into())
            },
        ),
        row("grant a role", ("/etcdserverpb.Auth/UserGrantRole", "/v3/auth/user/grant"), Root, move |_| {
            let grant = pb::AuthUserGrantRoleRequest { user: s("nobody"), role: s("root") };
            (grant, r#"{"user":"nobody","role":"root"}"#.into())
        }),
        row("take a role", ("/etcdserverpb.Auth/UserRevokeRole", "/v3/auth/user/revoke"), Root, move |_| {
            let revoke = pb::AuthUserRevokeRoleRequest { name: s("nobody"), role: s("root") };
            (revoke, r#"{"name":"nobody","role":"root"}"#.into())
        }),
    ]
}

fn roles() -> Vec<Row> {
    use Need::{Inside, Root};
    let s = str::to_owned;
    let get = |role: &str| (pb::AuthRoleGetRequest { role: role.to_owned() }, format!(r#"{{"role":"{role}"}}"#));
    const GET: (&str, &str) = ("/etcdserverpb.Auth/RoleGet", "/v3/auth/role/get");
    vec![
        row("add a role", ("/etcdserverpb.Auth/RoleAdd", "/v3/auth/role/add"), Root, move |_| {
            (pb::AuthRoleAddRequest { name: s("ranger") }, r#"{"name":"ranger"}"#.into())
        }),
        row("see an own role", GET, Inside, move |_| get("ranger")),
        row("see another role", GET, Root, move |_| get("root")),
        row("list of roles", ("/etcdserverpb.Auth/RoleList", "/v3/auth/role/list"), Root, |_| {
            (pb::AuthRoleListRequest {}, "{}".into())
        }),
        row("delete a role", ("/etcdserverpb.Auth/RoleDelete", "/v3/auth/role/delete"), Root, move |_| {
            (pb::AuthRoleDeleteRequest { role: s("nope") }, r#"{"role":"nope"}"#.into())
        }),
        row("grant a permission", ("/etcdserverpb.Auth/RoleGrantPermission", "/v3/auth/role/grant"), Root, move |_| {
            let perm = Some(authpb::Permission { perm_type: 2, key: "\0".into(), range_end: "\0".into() });
            let json = r#"{"name":"nope","perm":{"permType":"READWRITE","key":"AA==","range_end":"AA=="}}"#;
            (pb::AuthRoleGrantPermissionRequest { name: s("nope"), perm }, json.into())
        }),
        row(
            "take a permission",
            ("/etcdserverpb.Auth/RoleRevokePermission", "/v3/auth/role/revoke"),
            Root,
            move |_| {
                let revoke =
                    pb::AuthRoleRevokePermissionRequest { role: s("nope"), key: "r".into(), range_end: "s".into() };
                (revoke, r#"{"role":"nope","key":"cg==","range_end":"cw=="}"#.into())
            },
        ),
    ]
}

fn recipes() -> Vec<Row> {
    use Need::{Inside, Root};
    const LOCK: (&str, &str) = ("/v3lockpb.Lock/Lock", "/v3/lock/lock");
    const UNLOCK: (&str, &str) = ("/v3lockpb.Lock/Unlock", "/v3/lock/unlock");
    const CAMPAIGN: (&str, &str) = ("/v3electionpb.Election/Campaign", "/v3/election/campaign");
    const PROCLAIM: (&str, &str) = ("/v3electionpb.Election/Proclaim", "/v3/election/proclaim");
    const LEADER: (&str, &str) = ("/v3electionpb.Election/Leader", "/v3/election/leader");
    const OBSERVE: (&str, &str) = ("/v3electionpb.Election/Observe", "/v3/election/observe");
    const RESIGN: (&str, &str) = ("/v3electionpb.Election/Resign", "/v3/election/resign");
    let lock = |side: &str, n: u64| {
        let name = format!("{side}/lock{n}");
        let json = format!(r#"{{"name":"{}"}}"#, b64(name.as_bytes()));
        (LockRequest { name: name.into(), lease: 0 }, json)
    };
    let unlock = |side: &str| {
        let key = format!("{side}/lock/1");
        let json = format!(r#"{{"key":"{}"}}"#, b64(key.as_bytes()));
        (UnlockRequest { key: key.into() }, json)
    };
    let campaign = |side: &str, n: u64| {
        let name = format!("{side}/election{n}");
        let json = format!(r#"{{"name":"{}","value":"MQ=="}}"#, b64(name.as_bytes()));
        (CampaignRequest { name: name.into(), lease: 0, value: "1".into() }, json)
    };
    let leader_key = |side: &str| {
        let key = format!("{side}/e/1");
        let json = format!(r#"{{"name":"{0}","key":"{1}","rev":"4"}}"#, b64(side.as_bytes()), b64(key.as_bytes()));
        (LeaderKey { name: side.to_owned().into(), key: key.into(), rev: 4, lease: 0 }, json)
    };
    let proclaim = move |side: &str| {
        let (leader, json) = leader_key(side);
        (ProclaimRequest { leader: Some(leader), value: "1".into() }, format!(r#"{{"leader":{json},"value":"MQ=="}}"#))
    };
    let resign = move |side: &str| {
        let (leader, json) = leader_key(side);
        (ResignRequest { leader: Some(leader) }, format!(r#"{{"leader":{json}}}"#))
    };
    let leader = |side: &str| {
        let name = format!("{side}/observed");
        (LeaderRequest { name: name.clone().into() }, format!(r#"{{"name":"{}"}}"#, b64(name.as_bytes())))
    };
    vec![
        row("lock inside", LOCK, Inside, move |n| lock("r", n)),
        row("lock outside", LOCK, Root, move |n| lock("z", n)),
        row("unlock inside", UNLOCK, Inside, move |_| unlock("r")),
        row("unlock outside", UNLOCK, Root, move |_| unlock("z")),
        row("campaign inside", CAMPAIGN, Inside, move |n| campaign("r", n)),
        row("campaign outside", CAMPAIGN, Root, move |n| campaign("z", n)),
        row("proclaim inside", PROCLAIM, Inside, move |_| proclaim("r")),
        row("proclaim outside", PROCLAIM, Root, move |_| proclaim("z")),
        row("leader inside", LEADER, Inside, move |_| leader("r")),
        row("leader outside", LEADER, Root, move |_| leader("z")),
        // Upstream ends the stream without a word: it shows nothing, but does not say that it refuses.
        row("observe inside", OBSERVE, Inside, move |_| leader("r")).lets_pass(),
        row("observe outside", OBSERVE, Root, move |_| leader("z")).lets_pass(),
        row("resign inside", RESIGN, Inside, move |_| resign("r")),
        row("resign outside", RESIGN, Root, move |_| resign("z")),
    ]
}
