//! How answers are shown: one printer per format.
//!
//! A printer only shows; it never asks a server. A format that cannot show an answer says so *after* the work was
//! done, as etcdctl does.

mod fields;
mod json;
mod protobuf;
mod rows;
mod simple;
mod table;

use std::time::Duration;

use eyrie_api::etcdserverpb::{
    AlarmResponse, AuthRoleAddResponse, AuthRoleDeleteResponse, AuthRoleGetResponse, AuthRoleGrantPermissionResponse,
    AuthRoleListResponse, AuthRoleRevokePermissionResponse, AuthStatusResponse, AuthUserAddResponse,
    AuthUserChangePasswordResponse, AuthUserDeleteResponse, AuthUserGetResponse, AuthUserGrantRoleResponse,
    AuthUserListResponse, AuthUserRevokeRoleResponse, DeleteRangeResponse, DowngradeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse,
    MoveLeaderResponse, PutResponse, RangeResponse, StatusResponse, TxnResponse, WatchResponse,
};

use crate::exit::{self, Done, Failure};

/// The health of one endpoint.
pub(crate) struct Health {
    /// As it was typed.
    pub(crate) endpoint: String,
    /// Whether it answered and has no alarm.
    pub(crate) healthy: bool,
    /// How long the answer took.
    pub(crate) took: Duration,
    /// Why it is not healthy.
    pub(crate) error: String,
}

/// An answer that the general formats (JSON, protobuf) can show.
pub(crate) trait Reply {
    /// As Go's `encoding/json` writes the struct of etcd's client.
    fn json(&self) -> String;
    /// As protobuf bytes.
    fn bytes(&self) -> Vec<u8>;
}

/// Shows answers in one format. What a format does not override goes to [`Printer::reply`].
#[allow(missing_docs)]
pub(crate) trait Printer {
    /// The format's name.
    fn format(&self) -> &'static str;

    /// Shows any answer. Formats without a general form refuse.
    fn reply(&self, _: &dyn Reply) -> Done {
        self.unsupported()
    }

    /// The refusal.
    fn unsupported(&self) -> Done {
        Err(Failure::new(exit::BAD_FEATURE, format!("{} not supported as output format", self.format())))
    }

    /// Shows only values from now on.
    fn set_value_only(&mut self) {}

    fn del(&self, reply: &DeleteRangeResponse) -> Done {
        self.reply(reply)
    }
    fn get(&self, reply: &RangeResponse) -> Done {
        self.reply(reply)
    }
    fn put(&self, reply: &PutResponse) -> Done {
        self.reply(reply)
    }
    fn txn(&self, reply: &TxnResponse) -> Done {
        self.reply(reply)
    }
    fn watch(&self, reply: &WatchResponse) -> Done {
        self.reply(reply)
    }
    fn grant(&self, reply: &LeaseGrantResponse) -> Done {
        self.reply(reply)
    }
    fn revoke(&self, _lease: i64, reply: &LeaseRevokeResponse) -> Done {
        self.reply(reply)
    }
    fn keep_alive(&self, reply: &LeaseKeepAliveResponse) -> Done {
        self.reply(reply)
    }
    fn time_to_live(&self, reply: &LeaseTimeToLiveResponse, _keys: bool) -> Done {
        self.reply(reply)
    }
    fn leases(&self, reply: &LeaseLeasesResponse) -> Done {
        self.reply(reply)
    }
    fn member_add(&self, reply: &MemberAddResponse) -> Done {
        self.reply(reply)
    }
    fn member_remove(&self, _id: u64, reply: &MemberRemoveResponse) -> Done {
        self.reply(reply)
    }
    fn member_update(&self, _id: u64, reply: &MemberUpdateResponse) -> Done {
        self.reply(reply)
    }
    fn member_promote(&self, _id: u64, reply: &MemberPromoteResponse) -> Done {
        self.reply(reply)
    }
    fn member_list(&self, reply: &MemberListResponse) -> Done {
        self.reply(reply)
    }
    fn health(&self, _: &[Health]) -> Done {
        self.unsupported()
    }
    fn status(&self, _: &[(String, StatusResponse)]) -> Done {
        self.unsupported()
    }
    fn hash_kv(&self, _: &[(String, HashKvResponse)]) -> Done {
        self.unsupported()
    }
    fn move_leader(&self, _leader: u64, _target: u64, reply: &MoveLeaderResponse) -> Done {
        self.reply(reply)
    }
    fn downgrade(&self, _done: &str, reply: &DowngradeResponse) -> Done {
        self.reply(reply)
    }
    fn alarm(&self, reply: &AlarmResponse) -> Done {
        self.reply(reply)
    }
    fn auth_status(&self, reply: &AuthStatusResponse) -> Done {
        self.reply(reply)
    }
    fn role_add(&self, _role: &str, reply: &AuthRoleAddResponse) -> Done {
        self.reply(reply)
    }
    fn role_get(&self, _role: &str, reply: &AuthRoleGetResponse) -> Done {
        self.reply(reply)
    }
    fn role_delete(&self, _role: &str, reply: &AuthRoleDeleteResponse) -> Done {
        self.reply(reply)
    }
    fn role_list(&self, reply: &AuthRoleListResponse) -> Done {
        self.reply(reply)
    }
    fn role_grant(&self, _role: &str, reply: &AuthRoleGrantPermissionResponse) -> Done {
        self.reply(reply)
    }
    fn role_revoke(&self, _role: &str, _key: &[u8], _end: &[u8], reply: &AuthRoleRevokePermissionResponse) -> Done {
        self.reply(reply)
    }
    fn user_add(&self, _user: &str, reply: &AuthUserAddResponse) -> Done {
        self.reply(reply)
    }
    fn user_get(&self, _user: &str, reply: &AuthUserGetResponse) -> Done {
        self.reply(reply)
    }
    fn user_list(&self, reply: &AuthUserListResponse) -> Done {
        self.reply(reply)
    }
    fn user_password(&self, reply: &AuthUserChangePasswordResponse) -> Done {
        self.reply(reply)
    }
    fn user_grant(&self, _user: &str, _role: &str, reply: &AuthUserGrantRoleResponse) -> Done {
        self.reply(reply)
    }
    fn user_revoke(&self, _user: &str, _role: &str, reply: &AuthUserRevokeRoleResponse) -> Done {
        self.reply(reply)
    }
    fn user_delete(&self, _user: &str, reply: &AuthUserDeleteResponse) -> Done {
        self.reply(reply)
    }
}

/// The printer of a format; `None` when there is no such format.
pub(crate) fn printer(format: &str, hex: bool) -> Option<Box<dyn Printer>> {
    Some(match format {
        "simple" => Box::new(simple::Simple::new(hex)),
        "fields" => Box::new(fields::Fields),
        "json" => Box::new(json::Json { hex }),
        "protobuf" => Box::new(protobuf::Protobuf),
        "table" => Box::new(table::Table),
        _ => return None,
    })
}
