//! Who is there, and who is fit to be read.

use eyrie_api::client::{Address, CallError, Client, Repeat};
use eyrie_api::pb::maintenance_client::MaintenanceClient;
use eyrie_api::pb::{AlarmType, StatusRequest};
use eyrie_state::{ClusterId, MemberId, Revision, Term};

use tokio::time::Instant;

use super::{Source, SourceError};
use crate::limits::STATUS_LIMIT;

/// A member may be so many log entries behind the foremost and still be read.
const LAG_MAX: u64 = 5_000;

/// One endpoint and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// How it is reached.
    pub endpoint: String,
    /// Its id.
    pub id: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its software, as it says.
    pub version: String,
    /// Its revision when it was asked.
    pub revision: Revision,
    /// Its term.
    pub term: Term,
    /// The last log entry it has applied.
    pub applied: u64,
    /// It does not vote and may not be read.
    pub learner: bool,
    /// It leads.
    pub leader: bool,
    /// It knows a leader.
    pub has_leader: bool,
    /// It says that its data is corrupt.
    pub corrupt: bool,
    /// Bytes of its database file.
    pub database_len: u64,
}

impl Source {
    /// Asks every endpoint for its status; those that don't answer are named with the reason.
    ///
    /// # Errors
    /// None answers.
    pub async fn members(&self) -> Result<(Vec<Member>, Vec<String>), SourceError> {
        let asked = self.client.endpoints().iter().map(|address| async move {
            let client = self.client.to_endpoint(address.clone());
            status(&client, address).await
        });
        let (mut members, mut silent, mut last): (Vec<Member>, _, _) = (Vec::new(), Vec::new(), None);
        for (address, answer) in self.client.endpoints().iter().zip(futures::future::join_all(asked).await) {
            match answer {
                Ok(member) if members.iter().any(|other| other.id == member.id) => {}
                Ok(member) => members.push(member),
                Err(error) => {
                    silent.push(format!("{}: {}", address.typed(), error.text()));
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if members.is_empty() => Err(self.failed("ask the members for their status", &error)),
            _ => Ok((members, silent)),
        }
    }

    /// The members that may be read, the fittest first: those that don't lead (a snapshot costs a member some speed),
    /// then the most recent.
    ///
    /// # Errors
    /// None is fit, or one says that its data is corrupt, or the endpoints belong to two clusters.
    pub async fn fit_members(&self) -> Result<Vec<Member>, SourceError> {
        let (members, silent) = self.members().await?;
        if let Some(corrupt) = members.iter().find(|member| member.corrupt) {
            return Err(SourceError::CorruptAlarm { endpoint: corrupt.endpoint.clone() });
        }
        if let Some(other) = members.iter().find(|member| member.cluster != members[0].cluster) {
            return Err(SourceError::Config(format!(
                "{} and {} are of two clusters ({:x}, {:x}). Next: name the endpoints of one",
                members[0].endpoint, other.endpoint, members[0].cluster.0, other.cluster.0
            )));
        }
        let foremost = members.iter().map(|member| member.applied).max().unwrap_or_default();
        let mut unfit = silent;
        let mut fit = Vec::new();
        for member in members {
            let why = if member.learner {
                Some("is a learner")
            } else if !member.has_leader {
                Some("has no leader")
            } else if member.applied.saturating_add(LAG_MAX) < foremost {
                Some("is far behind the others")
            } else {
                None
            };
            match why {
                Some(why) => unfit.push(format!("{} {why}", member.endpoint)),
                None => fit.push(member),
            }
        }
        if fit.is_empty() {
            return Err(SourceError::NoFitMember(unfit.join("; ")));
        }
        fit.sort_by_key(|member| (member.leader, std::cmp::Reverse(member.applied)));
        Ok(fit)
    }

    /// A client that speaks to one member only.
    pub(super) fn at(&self, member: &Member) -> Client {
        self.client.to_endpoint(Address::new(&member.endpoint))
    }
}

async fn status(client: &Client, address: &Address) -> Result<Member, CallError> {
    let status = client
        .call(Some(Instant::now() + STATUS_LIMIT), Repeat::Read, StatusRequest {}, |channel, request| async move {
            MaintenanceClient::new(channel).status(request).await
        })
        .await?;
    let header = status.header.unwrap_or_default();
    let corrupt = status.errors.iter().any(|error| error.contains(AlarmType::Corrupt.as_str_name()));
    Ok(Member {
        endpoint: address.typed().to_owned(),
        id: MemberId(header.member_id),
        cluster: ClusterId(header.cluster_id),
        version: status.version,
        revision: Revision(header.revision),
        term: Term(status.raft_term),
        applied: status.raft_applied_index,
        learner: status.is_learner,
        leader: status.leader != 0 && status.leader == header.member_id,
        has_leader: status.leader != 0,
        corrupt,
        database_len: u64::try_from(status.db_size).unwrap_or_default(),
    })
}
