//! Proposals that can't go into this member's own log now: to the leader, or until there is one.
//!
//! A proposal is sent to a leader once. It is tried again only where it is certain that no log has it: when the leader said
//! so, or when it never left. In all other cases its outcome is unknown, and its proposer is told so.

use std::collections::BTreeMap;
use std::time::Instant;

use eyrie_api::peer as wire;
use eyrie_api::peer::part::What;
use eyrie_state::Refusal;

use super::inbox::{Placement, Proposal, Waiter};
use super::pending::PendingProposals;
use crate::errors::ServeError;
use crate::limits::PROPOSALS_WAITING_MAX;
use crate::peer::{Link, vote_number};

/// The leader took none: it does not lead.
pub(super) const REFUSED_NOT_LEADER: u32 = 1;
/// The leader took none: its disk is full.
pub(super) const REFUSED_DISK_FULL: u32 = 2;

/// See the module.
#[derive(Default)]
pub(super) struct Forward {
    parked: Vec<Proposal>,
    sent: BTreeMap<u64, Sent>,
    next: u64,
}

struct Sent {
    to: u64,
    proposal: Proposal,
}

impl Forward {
    /// Keeps a proposal until there is a leader.
    pub(super) fn park(&mut self, proposal: Proposal) {
        if proposal.only_here {
            proposal.waiter.answer(Err(ServeError::NoLeader));
        } else if self.parked.len() >= PROPOSALS_WAITING_MAX {
            proposal.waiter.answer(Err(ServeError::TooManyRequests));
        } else {
            self.parked.push(proposal);
        }
    }

    /// What was kept.
    pub(super) fn unpark(&mut self) -> Vec<Proposal> {
        std::mem::take(&mut self.parked)
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Sends proposals to the leader at the end of `link`, or keeps them when it does not hear.
    pub(super) fn send(&mut self, link: &Link, proposals: Vec<Proposal>) {
        let (mut some, mut weight) = (Vec::with_capacity(proposals.len()), 0);
        let mut numbered = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            if proposal.only_here {
                proposal.waiter.answer(Err(ServeError::NoLeader));
                continue;
            }
            self.next += 1;
            weight += proposal.data.len() + 64;
            some.push(wire::Proposal {
                number: self.next,
                command: proposal.data.clone().into(),
                member: proposal.change.map_or(0, |change| change.member),
                vote: proposal.change.map_or(0, |change| vote_number(change.vote)),
            });
            numbered.push((self.next, proposal));
        }
        if some.is_empty() {
            return;
        }
        if link.push(weight, What::Proposals(wire::Proposals { proposals: some })) {
            let sent = |(number, proposal)| (number, Sent { to: link.member, proposal });
            self.sent.extend(numbered.into_iter().map(sent));
        } else {
            numbered.into_iter().for_each(|(_, proposal)| self.park(proposal));
        }
    }

    /// The leader has answered.
    pub(super) fn placed(&mut self, placement: Placement, pending: &PendingProposals) {
        let Placement { numbers, index, term, refused } = placement;
        if index == 0 {
            for number in numbers {
                match self.sent.remove(&number) {
                    Some(sent) if refused == REFUSED_DISK_FULL => {
                        sent.proposal.waiter.answer(Err(ServeError::from(Refusal::NoSpace)));
                    }
                    Some(sent) => self.park(sent.proposal),
                    None => {}
                }
            }
            return;
        }
        if !numbers.iter().any(|number| self.sent.contains_key(number)) {
            return;
        }
        let now = Instant::now();
        let waiter = |number: u64| match self.sent.remove(&number) {
            Some(sent) => (Some(sent.proposal.waiter), sent.proposal.since),
            None => (None, now),
        };
        pending.add(index, term, numbers.into_iter().map(waiter).collect());
    }

    /// Whoever is no longer the leader, or no longer reached, answers nothing any more.
    pub(super) fn give_up_on(&mut self, lost: impl Fn(u64) -> bool, error: &ServeError) {
        for (_, sent) in self.sent.extract_if(.., |_, sent| lost(sent.to)) {
            sent.proposal.waiter.answer(Err(error.clone()));
        }
    }

    /// Takes out who waits since before `cutoff`.
    pub(super) fn overdue(&mut self, cutoff: Instant) -> Vec<(Waiter, Instant)> {
        let parked = self.parked.extract_if(.., |proposal| proposal.since < cutoff);
        let mut late: Vec<_> = parked.map(|proposal| (proposal.waiter, proposal.since)).collect();
        let sent = self.sent.extract_if(.., |_, sent| sent.proposal.since < cutoff);
        late.extend(sent.map(|(_, sent)| (sent.proposal.waiter, sent.proposal.since)));
        late
    }

    /// Everybody is told the same.
    pub(super) fn fail_all(&mut self, error: &ServeError) {
        for proposal in self.unpark() {
            proposal.waiter.answer(Err(error.clone()));
        }
        self.give_up_on(|_| true, error);
    }
}
