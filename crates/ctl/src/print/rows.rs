//! The rows that the simple and the table format share.

use eyrie_api::etcdserverpb::{HashKvResponse, MemberListResponse, StatusResponse};

use super::Health;
use crate::go::{duration, size};

/// Headings of [`members`].
pub(super) const MEMBER_HEAD: [&str; 6] = ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"];
/// Headings of [`healths`].
pub(super) const HEALTH_HEAD: [&str; 4] = ["endpoint", "health", "took", "error"];
/// Headings of [`statuses`].
pub(super) const STATUS_HEAD: [&str; 10] = [
    "endpoint",
    "ID",
    "version",
    "db size",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
];
/// Headings of [`hashes`].
pub(super) const HASH_HEAD: [&str; 2] = ["endpoint", "hash"];

/// One row per member; a member without a name has not started yet.
pub(super) fn members(reply: &MemberListResponse) -> Vec<Vec<String>> {
    let row = |member: &eyrie_api::etcdserverpb::Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted".into() } else { "started".into() },
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    reply.members.iter().map(row).collect()
}

/// One row per endpoint asked.
pub(super) fn healths(healths: &[Health]) -> Vec<Vec<String>> {
    let row = |health: &Health| {
        vec![health.endpoint.clone(), health.healthy.to_string(), duration::text(health.took), health.error.clone()]
    };
    healths.iter().map(row).collect()
}

/// One row per endpoint that answered.
pub(super) fn statuses(statuses: &[(String, StatusResponse)]) -> Vec<Vec<String>> {
    let row = |(endpoint, status): &(String, StatusResponse)| {
        let member = status.header.as_ref().map(|header| header.member_id).unwrap_or_default();
        vec![
            endpoint.clone(),
            format!("{member:x}"),
            status.version.clone(),
            size::bytes(status.db_size.max(0) as u64),
            (status.leader == member).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
        ]
    };
    statuses.iter().map(row).collect()
}

/// One row per endpoint that answered.
pub(super) fn hashes(hashes: &[(String, HashKvResponse)]) -> Vec<Vec<String>> {
    hashes.iter().map(|(endpoint, reply)| vec![endpoint.clone(), reply.hash.to_string()]).collect()
}
