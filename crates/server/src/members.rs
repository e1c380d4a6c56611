//! What the store does about its members, beside what the log says: whether a change is safe now, and what only the leader
//! knows.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eyrie_api::peer as wire;
use eyrie_api::peer::peer_client::PeerClient;
use eyrie_raft::{MembershipChange, VoteChange};
use eyrie_state::{Command, LeaseId, Member, MemberId, Refusal};
use tonic::{Code, Status};

use crate::errors::ServeError;
use crate::founding::added_member_id;
use crate::limits::HEALTHY_AFTER;
use crate::node::Item;
use crate::peer;
use crate::store::Store;

/// How long who waits for a leader rests between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A learner that holds so much of the leader's log may vote (etcd's figure).
const READY_PERCENT: u64 = 90;

impl Store {
    /// Adds a member; its id is chosen here.
    ///
    /// # Errors
    /// When the change makes no sense, or would leave too few members for a quorum.
    pub(crate) async fn add_member(&self, wanted: Member) -> Result<Member, ServeError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let member = Member { id: added_member_id(&wanted.peer_urls, seconds), ..wanted };
        self.permit(&Command::MemberAdd(member.clone()))?;
        self.read(|state| state.check_member_add(&member))?;
        let learners = self.all_members().iter().filter(|member| member.learner).count();
        if member.learner && learners >= self.learners_max() {
            return Err(Refusal::TooManyLearners.into());
        }
        if self.strict_reconfig_check() {
            let members = self.all_members();
            if !member.learner && !enough_to_add(&members) {
                return Err(not_enough_started());
            }
            if !self.quorum_is_healthy(&members, 1) {
                return Err(ServeError::Unhealthy);
            }
        }
        let vote = if member.learner { VoteChange::Learner } else { VoteChange::Voter };
        self.propose_change(Command::MemberAdd(member.clone()), MembershipChange { member: member.id.0, vote }).await?;
        Ok(member)
    }

    /// Removes a member for ever.
    ///
    /// # Errors
    /// As for [`Store::add_member`].
    pub(crate) async fn remove_member(&self, id: MemberId) -> Result<(), ServeError> {
        self.permit(&Command::MemberRemove { id })?;
        self.read(|state| state.check_member_remove(id))?;
        let members = self.all_members();
        let learner = members.iter().any(|member| member.id == id && member.learner);
        if self.strict_reconfig_check() && !learner {
            if !enough_to_remove(&members, id) {
                return Err(not_enough_started());
            }
            let is_down = self.shared().peers.connected_for(id.0).is_none();
            if !is_down && !self.healthy_without(&members) {
                return Err(ServeError::Unhealthy);
            }
        }
        let change = MembershipChange { member: id.0, vote: VoteChange::Gone };
        self.propose_change(Command::MemberRemove { id }, change).await?;
        Ok(())
    }

    /// Lets a learner vote, here or where the leader is: only it knows how far the learner is.
    ///
    /// # Errors
    /// As for [`Store::add_member`], and when the learner is not there yet.
    pub(crate) async fn promote_anywhere(&self, id: MemberId) -> Result<(), ServeError> {
        // The leader is asked in the store's own name: who asks here is judged here.
        self.permit(&Command::MemberPromote { id })?;
        self.read(|state| state.check_member_promote(id))?;
        let end = Instant::now() + self.request_timeout();
        loop {
            let leader = self.leader_by(end).await?;
            if leader == self.identity().member.0 {
                return self.promote(id).await;
            }
            let request = wire::PromoteRequest { cluster: self.identity().cluster.0, member: id.0 };
            let Some(mut client) = self.client_of(leader) else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            // Asked of a leader once: who does not answer may have done it.
            return match tokio::time::timeout_at(end.into(), client.promote(request)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(status)) => Err(as_it_came(&status)),
                Err(_) => Err(ServeError::Timeout),
            };
        }
    }

    /// Lets a learner vote. Asked of the leader.
    pub(crate) async fn promote(&self, id: MemberId) -> Result<(), ServeError> {
        self.read(|state| state.check_member_promote(id))?;
        let places = self.shared().progress.places();
        let matched = |id: u64| places.iter().find(|place| place.member == id).map_or(0, |place| place.matched);
        let (own, learner) = (matched(self.identity().member.0), matched(id.0));
        if learner * 100 < own * READY_PERCENT || learner == 0 {
            let text = "etcdserver: can only promote a learner member which is in sync with leader";
            return Err(ServeError::other(Code::FailedPrecondition, text));
        }
        if self.strict_reconfig_check() && !enough_to_promote(&self.all_members()) {
            return Err(not_enough_started());
        }
        let change = MembershipChange { member: id.0, vote: VoteChange::Voter };
        self.propose_change(Command::MemberPromote { id }, change).await?;
        self.metrics().server.learner_promote_successes.inc();
        Ok(())
    }

    /// Hands leadership to a voter, and returns when it leads.
    ///
    /// # Errors
    /// When that took too long: then the old leader goes on.
    pub(crate) async fn move_leader(&self, target: MemberId) -> Result<(), ServeError> {
        if self.standing().leader == target.0 {
            return Ok(());
        }
        self.shared().inbox.put(Item::TransferLeader(target.0))?;
        let end = Instant::now() + self.request_timeout();
        while self.standing().leader != target.0 {
            if Instant::now() > end {
                let text = "etcdserver: request timed out, leader transfer took too long";
                return Err(ServeError::other(Code::Unknown, text));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Gives a lease its full time again, wherever its clock runs; `None` when there is no such lease.
    ///
    /// # Errors
    /// When no leader is found in time.
    pub(crate) async fn renew_lease(&self, id: LeaseId) -> Result<Option<Duration>, ServeError> {
        let end = Instant::now() + self.request_timeout();
        loop {
            let leader = self.leader_by(end).await?;
            if leader == self.identity().member.0 {
                match self.renew_lease_here(id).await {
                    Err(ServeError::NoLeader) => continue,
                    outcome => return outcome,
                }
            }
            let Some(mut client) = self.client_of(leader) else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            let request = wire::LeaseRequest { cluster: self.identity().cluster.0, id: id.0 };
            match tokio::time::timeout_at(end.into(), client.renew_lease(request)).await {
                Ok(Ok(answer)) => return Ok(times(answer.get_ref()).map(|(left, _)| left)),
                // Renewing twice does no harm: the next leader is asked.
                Ok(Err(status)) if status.code() == Code::Unavailable => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(Err(status)) => return Err(as_it_came(&status)),
                Err(_) => return Err(ServeError::Timeout),
            }
        }
    }

    /// As [`Store::renew_lease`], asked of the leader. Who does not lead any more must not promise time.
    pub(crate) async fn renew_lease_here(&self, id: LeaseId) -> Result<Option<Duration>, ServeError> {
        self.still_leading().await?;
        Ok(self.lessor().renew(id))
    }

    /// Time left and full time of a lease.
    ///
    /// # Errors
    /// As for [`Store::renew_lease`].
    pub(crate) async fn lease_left(&self, id: LeaseId) -> Result<Option<(Duration, Duration)>, ServeError> {
        let end = Instant::now() + self.request_timeout();
        loop {
            let leader = self.leader_by(end).await?;
            if leader == self.identity().member.0 {
                match self.lease_left_here(id).await {
                    Err(ServeError::NoLeader) => continue,
                    outcome => return outcome,
                }
            }
            let Some(mut client) = self.client_of(leader) else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            let request = wire::LeaseRequest { cluster: self.identity().cluster.0, id: id.0 };
            match tokio::time::timeout_at(end.into(), client.lease_time_to_live(request)).await {
                Ok(Ok(answer)) => {
                    // Its keys are read here: not before what the leader knew is here too.
                    let known = self.applied_up_to(answer.get_ref().applied);
                    if tokio::time::timeout_at(end.into(), known).await.is_err() {
                        return Err(ServeError::Timeout);
                    }
                    return Ok(times(answer.get_ref()));
                }
                Ok(Err(status)) if status.code() == Code::Unavailable => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(Err(status)) => return Err(as_it_came(&status)),
                Err(_) => return Err(ServeError::Timeout),
            }
        }
    }

    /// As [`Store::lease_left`], asked of the leader.
    pub(crate) async fn lease_left_here(&self, id: LeaseId) -> Result<Option<(Duration, Duration)>, ServeError> {
        self.still_leading().await?;
        Ok(self.lessor().remaining(id))
    }

    /// Returns when this member has been confirmed as the leader since the call.
    pub(crate) async fn still_leading(&self) -> Result<(), ServeError> {
        let before = self.standing();
        if !before.is_leader {
            return Err(ServeError::NoLeader);
        }
        self.linearize().await?;
        let after = self.standing();
        if after.is_leader && after.term == before.term { Ok(()) } else { Err(ServeError::NoLeader) }
    }

    /// The leader, as soon as one is known.
    async fn leader_by(&self, end: Instant) -> Result<u64, ServeError> {
        loop {
            if Instant::now() >= end {
                return Err(ServeError::Timeout);
            }
            let leader = self.standing().leader;
            if leader != 0 {
                return Ok(leader);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) fn client_of(&self, member: u64) -> Option<PeerClient<tonic::transport::Channel>> {
        peer::client(self.shared(), member)
    }

    pub(crate) fn all_members(&self) -> Vec<Member> {
        self.read(|state| state.members().cloned().collect())
    }

    /// As many voters as a quorum needs have been connected for a while, when `more` newcomers count as down.
    fn quorum_is_healthy(&self, members: &[Member], more: usize) -> bool {
        let voters = members.iter().filter(|member| !member.learner).count();
        // A founder alone may grow, also right after its start.
        voters == 1 || self.connected_voters(members) > (voters + more) / 2
    }

    /// One voter less still leaves a quorum of the others.
    fn healthy_without(&self, members: &[Member]) -> bool {
        let voters = members.iter().filter(|member| !member.learner).count();
        self.connected_voters(members) > (voters.saturating_sub(1)) / 2 + 1
    }

    pub(crate) fn connected_voters(&self, members: &[Member]) -> usize {
        let since =
            |member: &&Member| self.shared().peers.connected_for(member.id.0).is_some_and(|time| time >= HEALTHY_AFTER);
        members.iter().filter(|member| !member.learner).filter(since).count()
    }
}

/// A member is started once it has told its name.
fn started(member: &Member) -> bool {
    !member.name.is_empty()
}

/// Whether enough voters are started that one more, not started yet, leaves a quorum.
fn enough_to_add(members: &[Member]) -> bool {
    let voters = members.iter().filter(|member| !member.learner);
    let (count, up) = voters.fold((1, 0), |(count, up), member| (count + 1, up + usize::from(started(member))));
    // From one to two: whoever is alone must be able to grow.
    (up == 1 && count == 2) || up > count / 2
}

/// Whether the voters that stay are enough and started.
fn enough_to_remove(members: &[Member], gone: MemberId) -> bool {
    let voters = members.iter().filter(|member| !member.learner && member.id != gone);
    let (count, up) = voters.fold((0, 0), |(count, up), member| (count + 1, up + usize::from(started(member))));
    count > 0 && up > count / 2
}

/// Whether the voters with a promoted learner, which is up, are enough.
fn enough_to_promote(members: &[Member]) -> bool {
    let voters = members.iter().filter(|member| !member.learner);
    let (count, up) = voters.fold((1, 1), |(count, up), member| (count + 1, up + usize::from(started(member))));
    up > count / 2
}

fn not_enough_started() -> ServeError {
    // Upstream's table says FailedPrecondition, but this one reaches the wire as Unknown.
    ServeError::other(Code::Unknown, "etcdserver: re-configuration failed due to not enough started members")
}

fn times(answer: &wire::LeaseResponse) -> Option<(Duration, Duration)> {
    answer.exists.then(|| (Duration::from_millis(answer.left), Duration::from_millis(answer.granted)))
}

/// What the leader answered, unchanged.
fn as_it_came(status: &Status) -> ServeError {
    match status.message() {
        "etcdserver: member not found" => ServeError::Refused(Refusal::MemberNotFound),
        text => ServeError::other(status.code(), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(started: &[bool]) -> Vec<Member> {
        let member = |(id, started): (u64, &bool)| Member {
            id: MemberId(id),
            name: if *started { format!("m{id}") } else { String::new() },
            peer_urls: vec![],
            client_urls: vec![],
            learner: false,
        };
        (1..).zip(started).map(member).collect()
    }

    #[test]
    fn changes_that_would_cost_the_quorum_are_seen() {
        for (voters, add, remove_last) in [
            (&[true][..], true, false),
            (&[false], false, false),
            (&[true, true], true, true),
            (&[true, false], false, true),
            (&[true, true, true], true, true),
            (&[true, true, false], false, true),
            (&[true, false, false], false, false),
            (&[true, true, true, false], true, true),
        ] {
            let members = members(voters);
            assert_eq!(enough_to_add(&members), add, "add to {voters:?}");
            let last = MemberId(voters.len() as u64);
            assert_eq!(enough_to_remove(&members, last), remove_last, "remove the last of {voters:?}");
        }
    }
}
