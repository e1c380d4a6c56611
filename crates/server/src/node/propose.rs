//! Where proposals go: into the own log, to the leader, or they wait: for a leader, or for the round under way.

use eyrie_api::peer as wire;
use eyrie_api::peer::part::What;
use eyrie_raft::{MembershipChange, ProposeError};

use super::forward::{REFUSED_DISK_FULL, REFUSED_NOT_LEADER};
use super::inbox::Proposal;
use super::log::Room;
use super::raft_thread::{Affairs, RaftThread};
use crate::errors::ServeError;
use crate::limits::PROPOSALS_WAITING_MAX;
use crate::peer::vote;

impl RaftThread {
    /// Proposals go into the own log, to the leader, or wait until there is one.
    pub(super) fn route(&mut self, batch: Vec<Proposal>, affairs: &mut Affairs) {
        let standing = self.group.standing();
        if self.group.can_propose() {
            return self.propose(batch, affairs);
        }
        match self.shared.peers.link(standing.leader) {
            Some(link) => affairs.forward.send(&link, batch),
            // Also while leadership is being handed over.
            None => batch.into_iter().for_each(|proposal| affairs.forward.park(proposal)),
        }
    }

    fn propose(&mut self, batch: Vec<Proposal>, affairs: &mut Affairs) {
        if self.log.is_busy() {
            return self.hold(batch, affairs);
        }
        let bytes: usize = batch.iter().map(|proposal| proposal.data.len()).sum();
        match self.log.room(bytes as u64, batch.len() as u64) {
            Room::Yes => self.shared.disk_full.clear(),
            Room::Later => return self.hold(batch, affairs),
            Room::No(error) => {
                self.shared.disk_full.raise(&error);
                return batch.into_iter().for_each(|proposal| proposal.waiter.answer(Err(ServeError::DiskFull)));
            }
        }
        let term = self.group.standing().term;
        let (changes, mut plain): (Vec<_>, Vec<_>) = batch.into_iter().partition(|proposal| proposal.change.is_some());
        if !plain.is_empty() {
            let data = plain.iter_mut().map(|proposal| std::mem::take(&mut proposal.data)).collect();
            match self.group.propose(data) {
                Ok(first) => {
                    let waiters = plain.into_iter().map(|proposal| (Some(proposal.waiter), proposal.since)).collect();
                    self.shared.pending.add(first, term, waiters);
                }
                // Not after `can_propose`; nothing was taken, and the commands are gone with the refusal.
                Err(_) => {
                    self.shared.metrics.server.proposals_failed.inc_by(plain.len() as u64);
                    plain.into_iter().for_each(|proposal| proposal.waiter.answer(Err(ServeError::NoLeader)));
                }
            }
        }
        for proposal in changes {
            let Some(change) = proposal.change else { continue };
            match self.group.propose_change(change, &proposal.data) {
                Ok(index) => self.shared.pending.add(index, term, vec![(Some(proposal.waiter), proposal.since)]),
                Err(ProposeError::Busy | ProposeError::NotLeader) => affairs.forward.park(proposal),
            }
        }
    }

    /// Keeps proposals until the round under way is on disk.
    fn hold(&self, batch: Vec<Proposal>, affairs: &mut Affairs) {
        let refusal =
            if self.shared.disk_full.is_raised() { ServeError::DiskFull } else { ServeError::TooManyRequests };
        for proposal in batch {
            if self.shared.disk_full.is_raised() || affairs.held.len() >= PROPOSALS_WAITING_MAX {
                proposal.waiter.answer(Err(refusal.clone()));
            } else {
                affairs.held.push(proposal);
            }
        }
    }

    /// Puts what a follower was asked for into the log, and tells it where.
    pub(super) fn propose_for(&mut self, from: u64, proposals: Vec<wire::Proposal>, affairs: &mut Affairs) {
        if self.log.is_busy() && self.group.can_propose() {
            return affairs.held_for.push((from, proposals));
        }
        let Some(link) = self.shared.peers.link(from) else { return };
        let term = self.group.standing().term;
        let answer = |numbers: Vec<u64>, placed: Result<u64, u32>| {
            let (index, refused) = placed.map_or_else(|why| (0, why), |index| (index, 0));
            let weight = numbers.len() * 10;
            // Lost with the connection: then the follower gives up on its own.
            let _ = link.push(weight, What::Placed(wire::Placed { numbers, index, term, refused }));
        };
        let bytes: usize = proposals.iter().map(|proposal| proposal.command.len()).sum();
        let numbers = |some: &[wire::Proposal]| some.iter().map(|proposal| proposal.number).collect::<Vec<_>>();
        match self.log.room(bytes as u64, proposals.len() as u64) {
            Room::Yes => self.shared.disk_full.clear(),
            Room::Later => return affairs.held_for.push((from, proposals)),
            Room::No(error) => {
                self.shared.disk_full.raise(&error);
                return answer(numbers(&proposals), Err(REFUSED_DISK_FULL));
            }
        }
        let (plain, changes): (Vec<_>, Vec<_>) = proposals.into_iter().partition(|proposal| proposal.vote == 0);
        if !plain.is_empty() {
            let numbers = numbers(&plain);
            let placed = self.group.propose(plain.into_iter().map(|proposal| proposal.command.into()).collect());
            answer(numbers, placed.map_err(|_| REFUSED_NOT_LEADER));
        }
        for proposal in changes {
            let change = vote(proposal.vote).map(|vote| MembershipChange { member: proposal.member, vote });
            let placed = match change {
                Some(change) => self.group.propose_change(change, &proposal.command),
                None => Err(ProposeError::NotLeader),
            };
            answer(vec![proposal.number], placed.map_err(|_| REFUSED_NOT_LEADER));
        }
    }
}
