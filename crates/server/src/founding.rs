//! Founding a cluster, and the numbers that follow from it. Ids are computed as etcd computes them, so that members,
//! snapshots and scripts mean the same ones.

use eyrie_state::{ClusterId, Member, MemberId};
use sha1::{Digest, Sha1};

/// The id of a member that founds a cluster: from its peer URLs and the cluster's token.
pub fn founding_member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort_unstable();
    MemberId(first_eight(Sha1::new().chain_update(urls.concat()).chain_update(token)))
}

/// The id of a member that is added to a running cluster: from its peer URLs and the second in which that happens.
pub(crate) fn added_member_id(peer_urls: &[String], unix_seconds: u64) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort_unstable();
    MemberId(first_eight(Sha1::new().chain_update(urls.concat()).chain_update(unix_seconds.to_string())))
}

/// The id of a cluster: from the ids of its founders.
pub fn cluster_id(founders: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<u64> = founders.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let hash = ids.iter().fold(Sha1::new(), |hash, id| hash.chain_update(id.to_be_bytes()));
    ClusterId(first_eight(hash))
}

/// The founders named by `--initial-cluster`: pairs of name and peer URL; a name may come several times.
pub fn founders(initial_cluster: &[(String, String)], token: &str) -> Vec<Member> {
    let mut names: Vec<&str> = initial_cluster.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let member = |name: &str| {
        let mut peer_urls: Vec<String> =
            initial_cluster.iter().filter(|(other, _)| other == name).map(|(_, url)| url.clone()).collect();
        peer_urls.sort_unstable();
        let id = founding_member_id(&peer_urls, token);
        Member { id, name: name.to_owned(), peer_urls, client_urls: vec![], learner: false }
    };
    names.into_iter().map(member).collect()
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_upstream() {
        let founders = founders(&[("default".into(), "http://localhost:2380".into())], "etcd-cluster");
        assert_eq!(founders[0].id, MemberId(0x8e9e_05c5_2164_694d));
        assert_eq!(cluster_id(founders.iter().map(|member| member.id)), ClusterId(0xcdf8_1819_4e3a_8c32));
    }
}
