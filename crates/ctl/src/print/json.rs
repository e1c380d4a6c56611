//! The JSON format: one line per answer, shaped like the structs of etcd's Go client.

use prost::Message;

use eyrie_api::authpb::Permission;
use eyrie_api::etcdserverpb::{
    AlarmResponse, AuthRoleAddResponse, AuthRoleDeleteResponse, AuthRoleGetResponse, AuthRoleGrantPermissionResponse,
    AuthRoleListResponse, AuthRoleRevokePermissionResponse, AuthStatusResponse, AuthUserAddResponse,
    AuthUserChangePasswordResponse, AuthUserDeleteResponse, AuthUserGetResponse, AuthUserGrantRoleResponse,
    AuthUserListResponse, AuthUserRevokeRoleResponse, DeleteRangeResponse, DowngradeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    Member, MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse,
    MoveLeaderResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnResponse,
    WatchResponse, response_op::Response,
};
use eyrie_api::mvccpb::{Event, KeyValue};

use super::{Health, Printer, Reply};
use crate::exit::Done;
use crate::go::duration;
use crate::go::json::{Object, base64, list};
use crate::screen::line;

/// See the module.
pub(super) struct Json {
    /// Member ids as hexadecimal strings (`member list` only).
    pub(super) hex: bool,
}

impl Printer for Json {
    fn format(&self) -> &'static str {
        "json"
    }

    fn reply(&self, reply: &dyn Reply) -> Done {
        line(reply.json());
        Ok(())
    }

    fn member_list(&self, reply: &MemberListResponse) -> Done {
        line(if self.hex { hex_members(reply) } else { reply.json() });
        Ok(())
    }

    fn health(&self, healths: &[Health]) -> Done {
        line(list(healths, |health| {
            Object::new()
                .text("endpoint", &health.endpoint)
                .value("health", health.healthy)
                .text("took", &duration::text(health.took))
                .some_text("error", &health.error)
                .end()
        }));
        Ok(())
    }

    fn status(&self, statuses: &[(String, StatusResponse)]) -> Done {
        line(list(statuses, |(endpoint, reply)| {
            Object::new().text("Endpoint", endpoint).raw("Status", reply.json()).end()
        }));
        Ok(())
    }

    fn hash_kv(&self, hashes: &[(String, HashKvResponse)]) -> Done {
        line(list(hashes, |(endpoint, reply)| {
            Object::new().text("Endpoint", endpoint).raw("HashKV", reply.json()).end()
        }));
        Ok(())
    }
}

/// The members with hexadecimal ids; upstream spells `clientURLS` here.
fn hex_members(reply: &MemberListResponse) -> String {
    let header = reply.header.unwrap_or_default();
    let header = Object::new()
        .text("cluster_id", &format!("{:x}", header.cluster_id))
        .text("member_id", &format!("{:x}", header.member_id))
        .value("raft_term", header.raft_term)
        .end();
    let urls = |urls: &[String]| {
        if urls.is_empty() { "null".into() } else { list(urls, |url| crate::go::json::string(url)) }
    };
    let members = list(&reply.members, |member| {
        Object::new()
            .text("ID", &format!("{:x}", member.id))
            .text("name", &member.name)
            .raw("peerURLs", urls(&member.peer_ur_ls))
            .raw("clientURLS", urls(&member.client_ur_ls))
            .end()
    });
    Object::new().raw("header", header).raw("members", members).end()
}

/// The members of a header, alone or inside another object.
fn flat(object: Object, header: &Option<ResponseHeader>) -> Object {
    let Some(header) = header else { return object };
    object
        .some("cluster_id", header.cluster_id)
        .some("member_id", header.member_id)
        .some("revision", header.revision)
        .some("raft_term", header.raft_term)
}

/// An object that begins with the header.
fn begin(header: &Option<ResponseHeader>) -> Object {
    match header {
        Some(_) => Object::new().raw("header", flat(Object::new(), header).end()),
        None => Object::new(),
    }
}

fn kv(kv: &KeyValue) -> String {
    Object::new()
        .some_bytes("key", &kv.key)
        .some("create_revision", kv.create_revision)
        .some("mod_revision", kv.mod_revision)
        .some("version", kv.version)
        .some_bytes("value", &kv.value)
        .some("lease", kv.lease)
        .end()
}

fn some_kv(object: Object, name: &str, one: &Option<KeyValue>) -> Object {
    match one {
        Some(one) => object.raw(name, kv(one)),
        None => object,
    }
}

fn event(event: &Event) -> String {
    let object = some_kv(Object::new().some("type", event.r#type), "kv", &event.kv);
    some_kv(object, "prev_kv", &event.prev_kv).end()
}

fn member(member: &Member) -> String {
    Object::new()
        .some("ID", member.id)
        .some_text("name", &member.name)
        .some_texts("peerURLs", &member.peer_ur_ls)
        .some_texts("clientURLs", &member.client_ur_ls)
        .some("isLearner", member.is_learner)
        .end()
}

fn permission(permission: &Permission) -> String {
    Object::new()
        .some("permType", permission.perm_type)
        .some_bytes("key", &permission.key)
        .some_bytes("range_end", &permission.range_end)
        .end()
}

fn operation(response: &ResponseOp) -> String {
    let inner = match &response.response {
        Some(Response::ResponseRange(reply)) => Object::new().raw("response_range", reply.json()),
        Some(Response::ResponsePut(reply)) => Object::new().raw("response_put", reply.json()),
        Some(Response::ResponseDeleteRange(reply)) => Object::new().raw("response_delete_range", reply.json()),
        Some(Response::ResponseTxn(reply)) => Object::new().raw("response_txn", reply.json()),
        None => return Object::new().raw("Response", "null").end(),
    };
    Object::new().raw("Response", inner.end()).end()
}

/// Writes [`Reply`] for messages whose protobuf form is the message itself.
macro_rules! reply {
    ($($message:ident: |$reply:ident| $json:expr;)*) => {
        $(impl Reply for $message {
            fn json(&self) -> String {
                let $reply = self;
                $json
            }
            fn bytes(&self) -> Vec<u8> {
                self.encode_to_vec()
            }
        })*
    };
}

/// The same for the lease messages that etcd's client re-wraps: their protobuf form is the bare header.
macro_rules! wrapped_reply {
    ($($message:ident: |$reply:ident| $json:expr;)*) => {
        $(impl Reply for $message {
            fn json(&self) -> String {
                let $reply = self;
                $json
            }
            fn bytes(&self) -> Vec<u8> {
                self.header.unwrap_or_default().encode_to_vec()
            }
        })*
    };
}

reply! {
    RangeResponse: |reply| begin(&reply.header)
        .some_list("kvs", &reply.kvs, kv)
        .some("more", reply.more)
        .some("count", reply.count)
        .end();
    PutResponse: |reply| some_kv(begin(&reply.header), "prev_kv", &reply.prev_kv).end();
    DeleteRangeResponse: |reply| begin(&reply.header)
        .some("deleted", reply.deleted)
        .some_list("prev_kvs", &reply.prev_kvs, kv)
        .end();
    TxnResponse: |reply| begin(&reply.header)
        .some("succeeded", reply.succeeded)
        .some_list("responses", &reply.responses, operation)
        .end();
    LeaseRevokeResponse: |reply| begin(&reply.header).end();
    MemberAddResponse: |reply| {
        let object = begin(&reply.header);
        let object = match &reply.member {
            Some(one) => object.raw("member", member(one)),
            None => object,
        };
        object.some_list("members", &reply.members, member).end()
    };
    MemberRemoveResponse: |reply| begin(&reply.header).some_list("members", &reply.members, member).end();
    MemberUpdateResponse: |reply| begin(&reply.header).some_list("members", &reply.members, member).end();
    MemberPromoteResponse: |reply| begin(&reply.header).some_list("members", &reply.members, member).end();
    MemberListResponse: |reply| begin(&reply.header).some_list("members", &reply.members, member).end();
    MoveLeaderResponse: |reply| begin(&reply.header).end();
    DowngradeResponse: |reply| begin(&reply.header).some_text("version", &reply.version).end();
    AlarmResponse: |reply| begin(&reply.header)
        .some_list("alarms", &reply.alarms, |alarm| {
            Object::new().some("memberID", alarm.member_id).some("alarm", alarm.alarm).end()
        })
        .end();
    StatusResponse: |reply| begin(&reply.header)
        .some_text("version", &reply.version)
        .some("dbSize", reply.db_size)
        .some("leader", reply.leader)
        .some("raftIndex", reply.raft_index)
        .some("raftTerm", reply.raft_term)
        .some("raftAppliedIndex", reply.raft_applied_index)
        .some_texts("errors", &reply.errors)
        .some("dbSizeInUse", reply.db_size_in_use)
        .some("isLearner", reply.is_learner)
        .end();
    HashKvResponse: |reply| begin(&reply.header)
        .some("hash", reply.hash)
        .some("compact_revision", reply.compact_revision)
        .end();
    AuthStatusResponse: |reply| begin(&reply.header)
        .some("enabled", reply.enabled)
        .some("authRevision", reply.auth_revision)
        .end();
    AuthRoleAddResponse: |reply| begin(&reply.header).end();
    AuthRoleGetResponse: |reply| begin(&reply.header).some_list("perm", &reply.perm, permission).end();
    AuthRoleDeleteResponse: |reply| begin(&reply.header).end();
    AuthRoleListResponse: |reply| begin(&reply.header).some_texts("roles", &reply.roles).end();
    AuthRoleGrantPermissionResponse: |reply| begin(&reply.header).end();
    AuthRoleRevokePermissionResponse: |reply| begin(&reply.header).end();
    AuthUserAddResponse: |reply| begin(&reply.header).end();
    AuthUserGetResponse: |reply| begin(&reply.header).some_texts("roles", &reply.roles).end();
    AuthUserListResponse: |reply| begin(&reply.header).some_texts("users", &reply.users).end();
    AuthUserChangePasswordResponse: |reply| begin(&reply.header).end();
    AuthUserGrantRoleResponse: |reply| begin(&reply.header).end();
    AuthUserRevokeRoleResponse: |reply| begin(&reply.header).end();
    AuthUserDeleteResponse: |reply| begin(&reply.header).end();
}

wrapped_reply! {
    LeaseGrantResponse: |reply| flat(Object::new(), &reply.header)
        .value("ID", reply.id)
        .value("TTL", reply.ttl)
        .text("Error", &reply.error)
        .end();
    LeaseKeepAliveResponse: |reply| flat(Object::new(), &reply.header)
        .value("ID", reply.id)
        .value("TTL", reply.ttl)
        .end();
    LeaseTimeToLiveResponse: |reply| flat(Object::new(), &reply.header)
        .value("id", reply.id)
        .value("ttl", reply.ttl)
        .value("granted-ttl", reply.granted_ttl)
        .raw("keys", if reply.keys.is_empty() { "null".into() } else { list(&reply.keys, |key| base64(key)) })
        .end();
    LeaseLeasesResponse: |reply| flat(Object::new(), &reply.header)
        .raw("leases", list(&reply.leases, |lease| Object::new().value("id", lease.id).end()))
        .end();
}

impl Reply for WatchResponse {
    fn json(&self) -> String {
        Object::new()
            .raw("Header", flat(Object::new(), &self.header).end())
            .raw("Events", list(&self.events, event))
            .value("CompactRevision", self.compact_revision)
            .value("Canceled", self.canceled)
            .value("Created", self.created)
            .end()
    }

    /// Only what etcd's client keeps: no watch id, no reason, no fragment mark.
    fn bytes(&self) -> Vec<u8> {
        WatchResponse {
            header: Some(self.header.unwrap_or_default()),
            events: self.events.clone(),
            compact_revision: self.compact_revision,
            canceled: self.canceled,
            created: self.created,
            ..WatchResponse::default()
        }
        .encode_to_vec()
    }
}
