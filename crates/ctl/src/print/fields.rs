//! The fields format: one `"Name" : value` a line.

use eyrie_api::etcdserverpb::{
    AlarmResponse, AuthRoleAddResponse, AuthRoleDeleteResponse, AuthRoleGetResponse, AuthRoleGrantPermissionResponse,
    AuthRoleListResponse, AuthRoleRevokePermissionResponse, AuthUserAddResponse, AuthUserChangePasswordResponse,
    AuthUserDeleteResponse, AuthUserGrantRoleResponse, AuthUserRevokeRoleResponse, DeleteRangeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    MemberListResponse, PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
    response_op::Response,
};
use eyrie_api::mvccpb::KeyValue;

use super::{Health, Printer};
use crate::exit::Done;
use crate::go::duration;
use crate::go::quote::quote;
use crate::screen::line;

/// See the module.
pub(super) struct Fields;

fn field(name: &str, value: impl std::fmt::Display) {
    line(format!("\"{name}\" : {value}"));
}

fn header(header: &Option<ResponseHeader>) -> Done {
    let header = header.unwrap_or_default();
    field("ClusterID", header.cluster_id);
    field("MemberID", header.member_id);
    field("Revision", header.revision);
    field("RaftTerm", header.raft_term);
    Ok(())
}

fn kv(prefix: &str, kv: &KeyValue) {
    field(&format!("{prefix}Key"), quote(&kv.key));
    field(&format!("{prefix}CreateRevision"), kv.create_revision);
    field(&format!("{prefix}ModRevision"), kv.mod_revision);
    field(&format!("{prefix}Version"), kv.version);
    field(&format!("{prefix}Value"), quote(&kv.value));
    field(&format!("{prefix}Lease"), kv.lease);
}

impl Printer for Fields {
    fn format(&self) -> &'static str {
        "fields"
    }

    fn del(&self, reply: &DeleteRangeResponse) -> Done {
        header(&reply.header)?;
        field("Deleted", reply.deleted);
        reply.prev_kvs.iter().for_each(|one| kv("Prev", one));
        Ok(())
    }

    fn get(&self, reply: &RangeResponse) -> Done {
        header(&reply.header)?;
        reply.kvs.iter().for_each(|one| kv("", one));
        field("More", reply.more);
        field("Count", reply.count);
        Ok(())
    }

    fn put(&self, reply: &PutResponse) -> Done {
        header(&reply.header)?;
        reply.prev_kv.iter().for_each(|one| kv("Prev", one));
        Ok(())
    }

    fn txn(&self, reply: &TxnResponse) -> Done {
        header(&reply.header)?;
        field("Succeeded", reply.succeeded);
        for response in &reply.responses {
            match &response.response {
                Some(Response::ResponseRange(reply)) => self.get(reply)?,
                Some(Response::ResponsePut(reply)) => self.put(reply)?,
                Some(Response::ResponseDeleteRange(reply)) => self.del(reply)?,
                Some(Response::ResponseTxn(_)) | None => {
                    field("Unknown", quote(format!("{response:?}").as_bytes()));
                }
            }
        }
        Ok(())
    }

    fn watch(&self, reply: &WatchResponse) -> Done {
        header(&reply.header)?;
        for event in &reply.events {
            field("Type", event.r#type().as_str_name());
            event.prev_kv.iter().for_each(|one| kv("Prev", one));
            event.kv.iter().for_each(|one| kv("", one));
        }
        Ok(())
    }

    fn grant(&self, reply: &LeaseGrantResponse) -> Done {
        header(&reply.header)?;
        field("ID", reply.id);
        field("TTL", reply.ttl);
        Ok(())
    }

    fn revoke(&self, _: i64, reply: &LeaseRevokeResponse) -> Done {
        header(&reply.header)
    }

    fn keep_alive(&self, reply: &LeaseKeepAliveResponse) -> Done {
        header(&reply.header)?;
        field("ID", reply.id);
        field("TTL", reply.ttl);
        Ok(())
    }

    fn time_to_live(&self, reply: &LeaseTimeToLiveResponse, _: bool) -> Done {
        header(&reply.header)?;
        field("ID", reply.id);
        field("TTL", reply.ttl);
        field("GrantedTTL", reply.granted_ttl);
        reply.keys.iter().for_each(|key| field("Key", quote(key)));
        Ok(())
    }

    fn leases(&self, reply: &LeaseLeasesResponse) -> Done {
        header(&reply.header)?;
        reply.leases.iter().for_each(|lease| field("ID", lease.id));
        Ok(())
    }

    fn member_list(&self, reply: &MemberListResponse) -> Done {
        header(&reply.header)?;
        for member in &reply.members {
            field("ID", member.id);
            field("Name", quote(member.name.as_bytes()));
            member.peer_ur_ls.iter().for_each(|url| field("PeerURL", quote(url.as_bytes())));
            member.client_ur_ls.iter().for_each(|url| field("ClientURL", quote(url.as_bytes())));
            field("IsLearner", member.is_learner);
            line("");
        }
        Ok(())
    }

    fn health(&self, healths: &[Health]) -> Done {
        for health in healths {
            field("Endpoint", quote(health.endpoint.as_bytes()));
            field("Health", health.healthy);
            field("Took", duration::text(health.took));
            field("Error", &health.error);
            line("");
        }
        Ok(())
    }

    fn status(&self, statuses: &[(String, StatusResponse)]) -> Done {
        for (endpoint, status) in statuses {
            header(&status.header)?;
            field("Version", quote(status.version.as_bytes()));
            field("DBSize", status.db_size);
            field("Leader", status.leader);
            field("IsLearner", status.is_learner);
            field("RaftIndex", status.raft_index);
            field("RaftTerm", status.raft_term);
            field("RaftAppliedIndex", status.raft_applied_index);
            field("Errors", format!("[{}]", status.errors.join(" ")));
            field("Endpoint", quote(endpoint.as_bytes()));
            line("");
        }
        Ok(())
    }

    fn hash_kv(&self, hashes: &[(String, HashKvResponse)]) -> Done {
        for (endpoint, reply) in hashes {
            header(&reply.header)?;
            field("Endpoint", quote(endpoint.as_bytes()));
            field("Hash", reply.hash);
            line("");
        }
        Ok(())
    }

    fn alarm(&self, reply: &AlarmResponse) -> Done {
        header(&reply.header)?;
        for alarm in &reply.alarms {
            field("MemberID", alarm.member_id);
            field("AlarmType", alarm.alarm().as_str_name());
            line("");
        }
        Ok(())
    }

    fn role_add(&self, _: &str, reply: &AuthRoleAddResponse) -> Done {
        header(&reply.header)
    }

    fn role_get(&self, _: &str, reply: &AuthRoleGetResponse) -> Done {
        header(&reply.header)?;
        for permission in &reply.perm {
            // Two blanks: upstream's own slip, kept because scripts match the line.
            field("PermType", format!(" {}", permission.perm_type().as_str_name()));
            field("Key", quote(&permission.key));
            field("RangeEnd", quote(&permission.range_end));
        }
        Ok(())
    }

    fn role_delete(&self, _: &str, reply: &AuthRoleDeleteResponse) -> Done {
        header(&reply.header)
    }

    fn role_list(&self, reply: &AuthRoleListResponse) -> Done {
        header(&reply.header)?;
        let roles: String = reply.roles.iter().map(|role| format!(" {}", quote(role.as_bytes()))).collect();
        line(format!("\"Roles\" :{roles}"));
        Ok(())
    }

    fn role_grant(&self, _: &str, reply: &AuthRoleGrantPermissionResponse) -> Done {
        header(&reply.header)
    }

    fn role_revoke(&self, _: &str, _: &[u8], _: &[u8], reply: &AuthRoleRevokePermissionResponse) -> Done {
        header(&reply.header)
    }

    fn user_add(&self, _: &str, reply: &AuthUserAddResponse) -> Done {
        header(&reply.header)
    }

    fn user_password(&self, reply: &AuthUserChangePasswordResponse) -> Done {
        header(&reply.header)
    }

    fn user_grant(&self, _: &str, _: &str, reply: &AuthUserGrantRoleResponse) -> Done {
        header(&reply.header)
    }

    fn user_revoke(&self, _: &str, _: &str, reply: &AuthUserRevokeRoleResponse) -> Done {
        header(&reply.header)
    }

    fn user_delete(&self, _: &str, reply: &AuthUserDeleteResponse) -> Done {
        header(&reply.header)
    }
}
