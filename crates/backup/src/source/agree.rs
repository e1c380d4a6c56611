//! Do the members hold the same data as the file? Compared by etcd's own digest, at the file's revision.
//!
//! The digest depends on how far history was compacted, so only answers under the same compaction can be compared. A
//! member that lags says "future revision", and is asked again for a while.

use std::time::Duration;

use eyrie_api::client::{CallError, Repeat};
use eyrie_api::pb::HashKvRequest;
use eyrie_api::pb::maintenance_client::MaintenanceClient;
use eyrie_disk::snapshot::HashKv;
use eyrie_state::{MemberId, Revision};
use tokio::time::Instant;

use super::{Member, Source, SourceError, soon};
use crate::limits::AGREE_LIMIT;

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// One member's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDigest {
    /// Who answered.
    pub member: MemberId,
    /// How it is reached.
    pub endpoint: String,
    /// CRC-32C over the history up to the revision.
    pub hash: u32,
    /// The compaction under which it was computed.
    pub compact_revision: i64,
}

/// What the comparison showed, when it showed no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// Where they were compared.
    pub revision: Revision,
    /// The members whose digest is that of the file.
    pub same: Vec<MemberDigest>,
    /// The members that could not be compared, with the reason.
    pub not_compared: Vec<String>,
}

impl Source {
    /// Compares the file's digest with that of each member.
    ///
    /// # Errors
    /// Two of them differ under the same compaction.
    pub async fn agree(&self, file: &HashKv, members: &[Member]) -> Result<Agreement, SourceError> {
        let revision = Revision(file.revision);
        let until = Instant::now() + AGREE_LIMIT;
        let asked = members.iter().map(|member| self.digest(member, revision, until));
        let (mut digests, mut not_compared) = (Vec::new(), Vec::new());
        for (member, answer) in members.iter().zip(futures::future::join_all(asked).await) {
            match answer {
                Ok(digest) => digests.push(digest),
                Err(error) => not_compared.push(format!("{}: {}", member.endpoint, error.text())),
            }
        }
        judge(file, digests, not_compared)
    }

    async fn digest(&self, member: &Member, revision: Revision, until: Instant) -> Result<MemberDigest, CallError> {
        let client = self.at(member);
        loop {
            let request = HashKvRequest { revision: revision.0 };
            let answer = client
                .call(soon(), Repeat::Read, request, |channel, request| async move {
                    MaintenanceClient::new(channel).hash_kv(request).await
                })
                .await;
            match answer {
                Ok(answer) => {
                    return Ok(MemberDigest {
                        member: member.id,
                        endpoint: member.endpoint.clone(),
                        hash: answer.hash,
                        compact_revision: answer.compact_revision,
                    });
                }
                Err(error) if error.message().contains("future revision") && Instant::now() < until => {
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Equal compaction and different digests is a difference; different compaction says nothing.
fn judge(file: &HashKv, digests: Vec<MemberDigest>, mut not_compared: Vec<String>) -> Result<Agreement, SourceError> {
    let revision = Revision(file.revision);
    let row = |digest: &MemberDigest| {
        format!("{} has {:08x} (compacted {})", digest.endpoint, digest.hash, digest.compact_revision)
    };
    let differs = |a: (u32, i64), b: (u32, i64)| a.1 == b.1 && a.0 != b.0;
    for (at, one) in digests.iter().enumerate() {
        let mine = (one.hash, one.compact_revision);
        let other = digests[..at].iter().find(|other| differs(mine, (other.hash, other.compact_revision)));
        let table = match other {
            Some(other) => Some(format!("{}, {}", row(other), row(one))),
            None if differs(mine, (file.hash, file.compact_revision)) => {
                Some(format!("the snapshot has {:08x} (compacted {}), {}", file.hash, file.compact_revision, row(one)))
            }
            None => None,
        };
        if let Some(table) = table {
            return Err(SourceError::Disagree { revision, table });
        }
    }
    let (same, other): (Vec<_>, Vec<_>) =
        digests.into_iter().partition(|digest| digest.compact_revision == file.compact_revision);
    not_compared.extend(
        other.iter().map(|digest| {
            format!("{}: history was compacted meanwhile ({})", digest.endpoint, digest.compact_revision)
        }),
    );
    Ok(Agreement { revision, same, not_compared })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(endpoint: &str, hash: u32, compact_revision: i64) -> MemberDigest {
        MemberDigest { member: MemberId(1), endpoint: endpoint.into(), hash, compact_revision }
    }

    const FILE: HashKv = HashKv { hash: 7, revision: 10, compact_revision: 3 };

    #[test]
    fn equal_digests_agree_and_another_compaction_says_nothing() {
        let agreed = judge(&FILE, vec![digest("a", 7, 3), digest("b", 9, 5)], Vec::new()).unwrap();
        assert_eq!(agreed.same, [digest("a", 7, 3)]);
        assert_eq!(agreed.not_compared, ["b: history was compacted meanwhile (5)"]);
    }

    #[test]
    fn a_member_that_differs_from_the_file_or_from_another_is_named() {
        let text = judge(&FILE, vec![digest("a", 8, 3)], Vec::new()).unwrap_err().to_string();
        assert!(text.contains("the snapshot has 00000007 (compacted 3), a has 00000008"), "{text}");
        let text = judge(&FILE, vec![digest("a", 8, 5), digest("b", 9, 5)], Vec::new()).unwrap_err().to_string();
        assert!(text.contains("a has 00000008 (compacted 5), b has 00000009"), "{text}");
    }
}
