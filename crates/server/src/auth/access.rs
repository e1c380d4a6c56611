//! What each call needs: one row for every method of the definitions. A test compares the two.

/// What a call needs before its service may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it is how one becomes known, or tells nothing.
    Nothing,
    /// Decided for each message of the stream, or for each step inside: the answer says what was refused.
    EachMessage,
    /// A known user. What it asks for may be decided further in, where keys and leases are known.
    Known,
    /// A user with the role `root`.
    Root,
}

use Need::{EachMessage, Known, Nothing, Root};

/// The table.
#[rustfmt::skip]
pub(super) const TABLE: &[(&str, Need)] = &[
    // Keys are decided in the read itself and in apply, with everything that the request names.
    ("/etcdserverpb.KV/Range", Known),
    ("/etcdserverpb.KV/Put", Known),
    ("/etcdserverpb.KV/DeleteRange", Known),
    ("/etcdserverpb.KV/Txn", Known),
    ("/etcdserverpb.KV/Compact", Root),
    ("/etcdserverpb.Watch/Watch", EachMessage),
    // A lease is decided by the keys that hang on it.
    ("/etcdserverpb.Lease/LeaseGrant", Known),
    ("/etcdserverpb.Lease/LeaseRevoke", Known),
    ("/etcdserverpb.Lease/LeaseKeepAlive", EachMessage),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Known),
    ("/etcdserverpb.Lease/LeaseLeases", Known),
    ("/etcdserverpb.Cluster/MemberAdd", Root),
    ("/etcdserverpb.Cluster/MemberRemove", Root),
    ("/etcdserverpb.Cluster/MemberUpdate", Root),
    ("/etcdserverpb.Cluster/MemberList", Known),
    ("/etcdserverpb.Cluster/MemberPromote", Root),
    // Raising and lifting is decided in apply: root. Looking is not.
    ("/etcdserverpb.Maintenance/Alarm", Known),
    ("/etcdserverpb.Maintenance/Status", Known),
    ("/etcdserverpb.Maintenance/Defragment", Root),
    ("/etcdserverpb.Maintenance/Hash", Root),
    ("/etcdserverpb.Maintenance/HashKV", Root),
    ("/etcdserverpb.Maintenance/Snapshot", Root),
    ("/etcdserverpb.Maintenance/MoveLeader", Root),
    ("/etcdserverpb.Maintenance/Downgrade", Root),
    ("/etcdserverpb.Auth/AuthEnable", Root),
    ("/etcdserverpb.Auth/AuthDisable", Root),
    ("/etcdserverpb.Auth/AuthStatus", Root),
    ("/etcdserverpb.Auth/Authenticate", Nothing),
    ("/etcdserverpb.Auth/UserAdd", Root),
    // One's own user and roles may be seen: decided in the service.
    ("/etcdserverpb.Auth/UserGet", Known),
    ("/etcdserverpb.Auth/UserList", Root),
    ("/etcdserverpb.Auth/UserDelete", Root),
    ("/etcdserverpb.Auth/UserChangePassword", Root),
    ("/etcdserverpb.Auth/UserGrantRole", Root),
    ("/etcdserverpb.Auth/UserRevokeRole", Root),
    ("/etcdserverpb.Auth/RoleAdd", Root),
    ("/etcdserverpb.Auth/RoleGet", Known),
    ("/etcdserverpb.Auth/RoleList", Root),
    ("/etcdserverpb.Auth/RoleDelete", Root),
    ("/etcdserverpb.Auth/RoleGrantPermission", Root),
    ("/etcdserverpb.Auth/RoleRevokePermission", Root),
    // Recipes over keys and leases: each step is decided there.
    ("/v3lockpb.Lock/Lock", EachMessage),
    ("/v3lockpb.Lock/Unlock", EachMessage),
    ("/v3electionpb.Election/Campaign", EachMessage),
    ("/v3electionpb.Election/Proclaim", EachMessage),
    ("/v3electionpb.Election/Leader", EachMessage),
    ("/v3electionpb.Election/Observe", EachMessage),
    ("/v3electionpb.Election/Resign", EachMessage),
    ("/grpc.health.v1.Health/Check", Nothing),
    ("/grpc.health.v1.Health/Watch", Nothing),
];

/// What the call at this path needs. One that is not in the table is root's alone.
pub(super) fn need(path: &str) -> Need {
    TABLE.iter().find(|(known, _)| *known == path).map_or(Root, |(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;

    #[test]
    fn every_method_of_the_definitions_has_its_row_and_only_they() {
        let files = prost_types::FileDescriptorSet::decode(eyrie_api::DESCRIPTORS).expect("our own descriptors");
        let mut defined = BTreeSet::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    defined.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        let rows: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(rows, defined);
        assert_eq!(rows.len(), TABLE.len(), "a row comes twice");
    }

    #[test]
    fn what_nobody_knows_is_roots() {
        assert_eq!(need("/etcdserverpb.KV/RangeStream"), Root);
        assert_eq!(need(""), Root);
    }
}
