//! A change of the set of members, as the log carries it.
//!
//! The entry's bytes are raft's own `ConfChange`, with the state machine's command in its `context`: so raft and the state
//! machine follow one entry.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType};

use crate::group::RaftFault;

/// What happens to a member's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoteChange {
    /// It votes from now on.
    Voter,
    /// It listens.
    Learner,
    /// It is gone.
    Gone,
}

/// Who changes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipChange {
    /// Which member.
    pub member: u64,
    /// How.
    pub vote: VoteChange,
}

impl MembershipChange {
    pub(crate) fn to_raft(self) -> ConfChange {
        let mut change = ConfChange { node_id: self.member, ..Default::default() };
        change.set_change_type(match self.vote {
            VoteChange::Voter => ConfChangeType::AddNode,
            VoteChange::Learner => ConfChangeType::AddLearnerNode,
            VoteChange::Gone => ConfChangeType::RemoveNode,
        });
        change
    }

    /// The entry's bytes, with the state machine's command.
    ///
    /// # Errors
    /// When they are larger than the encoding allows.
    pub(crate) fn encode(self, command: &[u8]) -> Result<Vec<u8>, RaftFault> {
        let mut change = self.to_raft();
        change.context = Bytes::copy_from_slice(command);
        change.write_to_bytes().map_err(|error| RaftFault(format!("a membership change can't be written: {error}")))
    }

    /// Reads a membership entry: the change, and the state machine's command.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Bytes), RaftFault> {
        let mut change = ConfChange::default();
        change.merge_from_bytes(bytes).map_err(|error| RaftFault(format!("no membership change: {error}")))?;
        let vote = match change.get_change_type() {
            ConfChangeType::AddNode => VoteChange::Voter,
            ConfChangeType::AddLearnerNode => VoteChange::Learner,
            ConfChangeType::RemoveNode => VoteChange::Gone,
        };
        Ok((Self { member: change.node_id, vote }, change.context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_comes_back_with_its_command() {
        for vote in [VoteChange::Voter, VoteChange::Learner, VoteChange::Gone] {
            let change = MembershipChange { member: u64::MAX - 3, vote };
            let bytes = change.encode(b"\x01\x0ccommand").unwrap();
            assert_eq!(MembershipChange::decode(&bytes).unwrap(), (change, Bytes::from_static(b"\x01\x0ccommand")));
        }
        assert!(MembershipChange::decode(b"\xff\xff\xff").is_err());
    }
}
