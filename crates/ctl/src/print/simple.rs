//! The simple format: lines for people and scripts.

use std::fmt::Write;

use eyrie_api::authpb::Permission;
use eyrie_api::authpb::permission::Type;
use eyrie_api::etcdserverpb::{
    AlarmResponse, AlarmType, AuthRoleAddResponse, AuthRoleDeleteResponse, AuthRoleGetResponse,
    AuthRoleGrantPermissionResponse, AuthRoleListResponse, AuthRoleRevokePermissionResponse, AuthStatusResponse,
    AuthUserAddResponse, AuthUserChangePasswordResponse, AuthUserDeleteResponse, AuthUserGetResponse,
    AuthUserGrantRoleResponse, AuthUserListResponse, AuthUserRevokeRoleResponse, DeleteRangeResponse,
    DowngradeResponse, HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberAddResponse, MemberListResponse, MemberPromoteResponse,
    MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse, PutResponse, RangeResponse, ResponseHeader,
    StatusResponse, TxnResponse, WatchResponse, response_op::Response,
};
use eyrie_api::mvccpb::KeyValue;

use super::{Health, Printer, rows};
use crate::commands::range::prefix_end;
use crate::exit::Done;
use crate::go::duration;
use crate::screen::{error_line, line, out};

/// See the module.
pub(super) struct Simple {
    hex: bool,
    value_only: bool,
}

impl Simple {
    pub(super) fn new(hex: bool) -> Simple {
        Simple { hex, value_only: false }
    }

    fn kv(&self, kv: &KeyValue) {
        let shown = |bytes: &[u8]| if self.hex { hex(bytes).into_bytes() } else { bytes.to_vec() };
        let mut text = Vec::new();
        if !self.value_only {
            text.extend(shown(&kv.key));
            text.push(b'\n');
        }
        text.extend(shown(&kv.value));
        line(text);
    }

    fn show_range(&self, reply: &RangeResponse) {
        reply.kvs.iter().for_each(|kv| self.kv(kv));
    }

    fn show_put(&self, reply: &PutResponse) {
        line("OK");
        if let Some(kv) = &reply.prev_kv {
            self.kv(kv);
        }
    }

    fn show_del(&self, reply: &DeleteRangeResponse) {
        line(reply.deleted.to_string());
        reply.prev_kvs.iter().for_each(|kv| self.kv(kv));
    }
}

/// Every byte as `\x61`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

fn cluster(header: &Option<ResponseHeader>) -> u64 {
    header.as_ref().map(|header| header.cluster_id).unwrap_or_default()
}

fn say(text: String) -> Done {
    line(text);
    Ok(())
}

fn show_rows(rows: Vec<Vec<String>>) -> Done {
    rows.iter().for_each(|row| line(row.join(", ")));
    Ok(())
}

impl Printer for Simple {
    fn format(&self) -> &'static str {
        "simple"
    }

    fn set_value_only(&mut self) {
        self.value_only = true;
    }

    fn del(&self, reply: &DeleteRangeResponse) -> Done {
        self.show_del(reply);
        Ok(())
    }

    fn get(&self, reply: &RangeResponse) -> Done {
        self.show_range(reply);
        Ok(())
    }

    fn put(&self, reply: &PutResponse) -> Done {
        self.show_put(reply);
        Ok(())
    }

    fn txn(&self, reply: &TxnResponse) -> Done {
        line(if reply.succeeded { "SUCCESS" } else { "FAILURE" });
        for response in &reply.responses {
            line("");
            match &response.response {
                Some(Response::ResponseRange(reply)) => self.show_range(reply),
                Some(Response::ResponsePut(reply)) => self.show_put(reply),
                Some(Response::ResponseDeleteRange(reply)) => self.show_del(reply),
                Some(Response::ResponseTxn(_)) | None => line(format!("unexpected response {response:?}")),
            }
        }
        Ok(())
    }

    fn watch(&self, reply: &WatchResponse) -> Done {
        for event in &reply.events {
            line(event.r#type().as_str_name());
            if let Some(kv) = &event.prev_kv {
                self.kv(kv);
            }
            if let Some(kv) = &event.kv {
                self.kv(kv);
            }
        }
        Ok(())
    }

    fn grant(&self, reply: &LeaseGrantResponse) -> Done {
        say(format!("lease {:016x} granted with TTL({}s)", reply.id, reply.ttl))
    }

    fn revoke(&self, lease: i64, _: &LeaseRevokeResponse) -> Done {
        say(format!("lease {lease:016x} revoked"))
    }

    fn keep_alive(&self, reply: &LeaseKeepAliveResponse) -> Done {
        say(format!("lease {:016x} keepalived with TTL({})", reply.id, reply.ttl))
    }

    fn time_to_live(&self, reply: &LeaseTimeToLiveResponse, keys: bool) -> Done {
        if reply.granted_ttl == 0 && reply.ttl == -1 {
            return say(format!("lease {:016x} already expired", reply.id));
        }
        let mut text =
            format!("lease {:016x} granted with TTL({}s), remaining({}s)", reply.id, reply.granted_ttl, reply.ttl)
                .into_bytes();
        if keys {
            text.extend_from_slice(b", attached keys([");
            text.extend(reply.keys.join(&b' '));
            text.extend_from_slice(b"])");
        }
        line(text);
        Ok(())
    }

    fn leases(&self, reply: &LeaseLeasesResponse) -> Done {
        line(format!("found {} leases", reply.leases.len()));
        reply.leases.iter().for_each(|lease| line(format!("{:016x}", lease.id)));
        Ok(())
    }

    fn member_add(&self, reply: &MemberAddResponse) -> Done {
        let id = reply.member.as_ref().map(|member| member.id).unwrap_or_default();
        say(format!("Member {id:16x} added to cluster {:16x}", cluster(&reply.header)))
    }

    fn member_remove(&self, id: u64, reply: &MemberRemoveResponse) -> Done {
        say(format!("Member {id:16x} removed from cluster {:16x}", cluster(&reply.header)))
    }

    fn member_update(&self, id: u64, reply: &MemberUpdateResponse) -> Done {
        say(format!("Member {id:16x} updated in cluster {:16x}", cluster(&reply.header)))
    }

    fn member_promote(&self, id: u64, reply: &MemberPromoteResponse) -> Done {
        say(format!("Member {id:16x} promoted in cluster {:16x}", cluster(&reply.header)))
    }

    fn member_list(&self, reply: &MemberListResponse) -> Done {
        show_rows(rows::members(reply))
    }

    fn health(&self, healths: &[Health]) -> Done {
        for health in healths {
            if health.error.is_empty() {
                let took = duration::text(health.took);
                line(format!("{} is healthy: successfully committed proposal: took = {took}", health.endpoint));
            } else {
                error_line(format!("{} is unhealthy: failed to commit proposal: {}", health.endpoint, health.error));
            }
        }
        Ok(())
    }

    fn status(&self, statuses: &[(String, StatusResponse)]) -> Done {
        show_rows(rows::statuses(statuses))
    }

    fn hash_kv(&self, hashes: &[(String, HashKvResponse)]) -> Done {
        show_rows(rows::hashes(hashes))
    }

    fn move_leader(&self, leader: u64, target: u64, _: &MoveLeaderResponse) -> Done {
        say(format!("Leadership transferred from {leader:x} to {target:x}"))
    }

    fn downgrade(&self, done: &str, reply: &DowngradeResponse) -> Done {
        say(format!("{done}, cluster version {}", reply.version))
    }

    fn alarm(&self, reply: &AlarmResponse) -> Done {
        for alarm in &reply.alarms {
            let mut text = String::new();
            if alarm.member_id != 0 {
                let _ = write!(text, "memberID:{} ", alarm.member_id);
            }
            if alarm.alarm != AlarmType::None as i32 {
                let _ = write!(text, "alarm:{} ", alarm.alarm().as_str_name());
            }
            line(text);
        }
        Ok(())
    }

    fn auth_status(&self, reply: &AuthStatusResponse) -> Done {
        say(format!("Authentication Status: {}\nAuthRevision: {}", reply.enabled, reply.auth_revision))
    }

    fn role_add(&self, role: &str, _: &AuthRoleAddResponse) -> Done {
        say(format!("Role {role} created"))
    }

    fn role_get(&self, role: &str, reply: &AuthRoleGetResponse) -> Done {
        line(format!("Role {role}"));
        for (head, kind) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
            line(head);
            for permission in &reply.perm {
                if permission.perm_type() == kind || permission.perm_type() == Type::Readwrite {
                    out(permission_line(permission));
                }
            }
        }
        Ok(())
    }

    fn role_delete(&self, role: &str, _: &AuthRoleDeleteResponse) -> Done {
        say(format!("Role {role} deleted"))
    }

    fn role_list(&self, reply: &AuthRoleListResponse) -> Done {
        reply.roles.iter().for_each(line);
        Ok(())
    }

    fn role_grant(&self, role: &str, _: &AuthRoleGrantPermissionResponse) -> Done {
        say(format!("Role {role} updated"))
    }

    fn role_revoke(&self, role: &str, key: &[u8], end: &[u8], _: &AuthRoleRevokePermissionResponse) -> Done {
        let (key, end) = (String::from_utf8_lossy(key), String::from_utf8_lossy(end));
        say(match end.as_ref() {
            "" => format!("Permission of key {key} is revoked from role {role}"),
            "\0" => format!("Permission of range [{key}, <open ended> is revoked from role {role}"),
            _ => format!("Permission of range [{key}, {end}) is revoked from role {role}"),
        })
    }

    fn user_add(&self, user: &str, _: &AuthUserAddResponse) -> Done {
        say(format!("User {user} created"))
    }

    fn user_get(&self, user: &str, reply: &AuthUserGetResponse) -> Done {
        let roles: String = reply.roles.iter().map(|role| format!(" {role}")).collect();
        say(format!("User: {user}\nRoles:{roles}"))
    }

    fn user_list(&self, reply: &AuthUserListResponse) -> Done {
        reply.users.iter().for_each(line);
        Ok(())
    }

    fn user_password(&self, _: &AuthUserChangePasswordResponse) -> Done {
        say("Password updated".into())
    }

    fn user_grant(&self, user: &str, role: &str, _: &AuthUserGrantRoleResponse) -> Done {
        say(format!("Role {role} is granted to user {user}"))
    }

    fn user_revoke(&self, user: &str, role: &str, _: &AuthUserRevokeRoleResponse) -> Done {
        say(format!("Role {role} is revoked from user {user}"))
    }

    fn user_delete(&self, user: &str, _: &AuthUserDeleteResponse) -> Done {
        say(format!("User {user} deleted"))
    }
}

/// One key or range of a role.
fn permission_line(permission: &Permission) -> Vec<u8> {
    let mut text = Vec::new();
    if permission.range_end.is_empty() {
        text.push(b'\t');
        text.extend_from_slice(&permission.key);
    } else {
        text.extend_from_slice(b"\t[");
        text.extend_from_slice(&permission.key);
        if permission.range_end.as_ref() == b"\0" {
            text.extend_from_slice(b", <open ended>");
        } else {
            text.extend_from_slice(b", ");
            text.extend_from_slice(&permission.range_end);
            text.push(b')');
        }
        if prefix_end(&permission.key) == permission.range_end {
            text.extend_from_slice(b" (prefix ");
            text.extend_from_slice(&permission.key);
            text.push(b')');
        }
    }
    text.push(b'\n');
    text
}
