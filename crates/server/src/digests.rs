//! Whether the members hold the same: the leader compares digests of history now and then.
//!
//! A digest is HashKV at one revision. Where more than half of the voters agree, the others are damaged and the alarm names
//! them; where no majority agrees, it names all, since nobody knows who is right.

use std::time::Duration;

use eyrie_api::peer::{DigestRequest, DigestResponse};
use eyrie_state::{AlarmKind, Command, Member, MemberId, Revision};
use tonic::Status;

use crate::chores::chore;
use crate::errors::ServeError;
use crate::store::Store;
use crate::{log_error, log_info, log_warn};

/// How long a member may take to come to the revision and to read all its history.
const DIGEST_TIME_MAX: Duration = Duration::from_secs(600);
/// How long it may take to come to the revision.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
/// How often it looks whether it is there.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A digest, and up to where history was compacted: only digests with the same compaction can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Digest {
    compacted: i64,
    hash: u32,
}

/// What a comparison found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All that answered hold the same.
    Same,
    /// These do not hold what the others do.
    Apart(Vec<MemberId>),
    /// A compaction came in between.
    NotComparable,
}

impl Store {
    /// This member's digest at a revision, as soon as it is there.
    ///
    /// # Errors
    /// It does not come there in time, the revision is compacted, or the tables are damaged.
    pub(crate) async fn digest(&self, revision: i64) -> Result<DigestResponse, Status> {
        let there = async {
            while self.revision().0 < revision {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(CATCH_UP_MAX, there).await.is_err() {
            return Err(ServeError::Timeout.into());
        }
        let plan = self.read(|state| state.hash_kv(Some(Revision(revision)))).map_err(ServeError::from)?;
        let answer = chore("hash", move || plan.run()).await?;
        let answer = answer.inspect_err(|fault| self.damaged(fault)).map_err(ServeError::from)?;
        Ok(DigestResponse { hash: answer.hash, compact_revision: answer.compact_revision })
    }

    /// Compares all members, if this one leads; raises the alarm for those that are apart.
    pub(crate) async fn compare_digests(&self) {
        let members: Vec<Member> = self.all_members();
        if !self.standing().is_leader || members.len() < 2 || self.linearize().await.is_err() {
            return;
        }
        let begun = std::time::Instant::now();
        let revision = self.revision().0;
        let cluster = self.identity().cluster.0;
        let ask = async |member: &Member| -> Result<DigestResponse, Status> {
            if member.id == self.identity().member {
                return self.digest(revision).await;
            }
            let mut client = self.client_of(member.id.0).ok_or_else(|| Status::unavailable("no way to it"))?;
            let asked = client.digest(DigestRequest { cluster, revision });
            let answer = tokio::time::timeout(DIGEST_TIME_MAX, asked).await;
            answer
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
                .map(|answer| answer.into_inner())
        };
        let mut answers = Vec::new();
        // One after the other: what it costs is never felt on more than one member at a time.
        for member in &members {
            match ask(member).await {
                Ok(DigestResponse { hash, compact_revision }) => {
                    answers.push((member.id, !member.learner, Digest { compacted: compact_revision, hash }));
                }
                Err(status) => {
                    let (member, error) = (format!("{:x}", member.id.0), status.message().to_owned());
                    log_info!("a member gave no digest to compare; next time", "member-id" = &member, "error" = &error);
                }
            }
        }
        let voters = members.iter().filter(|member| !member.learner).count();
        let took = format!("{:?}", begun.elapsed());
        match judge(&answers, voters) {
            Verdict::Same => {
                let count = answers.len();
                log_info!("the members hold the same", "members" = &count, "revision" = &revision, "took" = &took);
                self.metrics().server.digests_compared.inc();
            }
            Verdict::NotComparable => {
                log_info!("a compaction came between the digests of the members; next time", "revision" = &revision);
            }
            Verdict::Apart(apart) => self.raise_for(&apart, &answers, revision).await,
        }
    }

    async fn raise_for(&self, apart: &[MemberId], answers: &[(MemberId, bool, Digest)], revision: i64) {
        let names: Vec<String> = apart.iter().map(|member| format!("{:x}", member.0)).collect();
        let digests = answers.iter().map(|(member, _, digest)| format!("{:x}={:08x}", member.0, digest.hash));
        let (names, digests) = (names.join(","), digests.collect::<Vec<_>>().join(" "));
        log_error!(
            "members do not hold the same: alarm CORRUPT is raised for them, and writes are refused until they are rebuilt or \
             the alarm is lifted (etcdctl alarm disarm)",
            "apart" = &names,
            "revision" = &revision,
            "digests" = &digests
        );
        for member in apart {
            let alarm = Command::AlarmActivate { member: *member, kind: AlarmKind::Corrupt };
            if let Err(error) = self.itself().propose_now(alarm).await {
                let error = error.to_string();
                log_warn!("can't raise the alarm CORRUPT; it is tried at the next comparison", "error" = &error);
            }
        }
    }
}

/// Who is apart, given what each said (a member, whether it votes, its digest) and how many voters there are.
fn judge(answers: &[(MemberId, bool, Digest)], voters: usize) -> Verdict {
    let Some((_, _, first)) = answers.first() else { return Verdict::NotComparable };
    if answers.iter().all(|(_, _, digest)| digest == first) {
        return Verdict::Same;
    }
    if answers.iter().any(|(_, _, digest)| digest.compacted != first.compacted) {
        return Verdict::NotComparable;
    }
    let votes = |wanted: &Digest| answers.iter().filter(|(_, votes, digest)| *votes && digest == wanted).count();
    let right = answers.iter().map(|(_, _, digest)| digest).find(|digest| votes(digest) > voters / 2);
    let apart = answers.iter().filter(|(_, _, digest)| Some(digest) != right).map(|(member, ..)| *member);
    Verdict::Apart(apart.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(hashes: &[(u64, bool, u32)], voters: usize) -> Verdict {
        let answer = |(member, votes, hash): &(u64, bool, u32)| {
            (MemberId(*member), *votes, Digest { compacted: -1, hash: *hash })
        };
        judge(&hashes.iter().map(answer).collect::<Vec<_>>(), voters)
    }

    #[test]
    fn the_minority_is_named_and_without_a_majority_all_are() {
        let apart = |ids: &[u64]| Verdict::Apart(ids.iter().map(|id| MemberId(*id)).collect());
        assert_eq!(verdict(&[(1, true, 7), (2, true, 7), (3, true, 7)], 3), Verdict::Same);
        assert_eq!(verdict(&[(1, true, 7), (2, true, 8), (3, true, 7)], 3), apart(&[2]));
        assert_eq!(verdict(&[(1, true, 8), (2, true, 7), (3, true, 7)], 3), apart(&[1]), "also when it leads");
        assert_eq!(verdict(&[(1, true, 7), (2, true, 8)], 2), apart(&[1, 2]));
        assert_eq!(verdict(&[(1, true, 7), (2, true, 8)], 3), apart(&[1, 2]), "one of three did not answer");
        assert_eq!(verdict(&[(1, true, 7), (2, true, 8), (3, true, 9)], 3), apart(&[1, 2, 3]));
        assert_eq!(verdict(&[(1, true, 7), (2, true, 7), (3, false, 8)], 2), apart(&[3]), "a learner has no say");
        let compacted = [
            (MemberId(1), true, Digest { compacted: 5, hash: 7 }),
            (MemberId(2), true, Digest { compacted: 6, hash: 8 }),
        ];
        assert_eq!(judge(&compacted, 2), Verdict::NotComparable);
    }
}
