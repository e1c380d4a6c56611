//! What members say to each other. Opaque outside this crate, but for who says it to whom.

use protobuf::Message as _;
use raft::eraftpb::{self, ConfState, MessageType};

use crate::group::RaftFault;
use crate::log::Membership;

/// One message from a member to another.
#[derive(Debug, Clone)]
pub struct Message(pub(crate) eraftpb::Message);

/// The place in the log that a snapshot stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last entry that the snapshot holds.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members as of that entry.
    pub membership: Membership,
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, RaftFault> {
        let mut message = eraftpb::Message::default();
        message.merge_from_bytes(bytes).map_err(|error| RaftFault(format!("a message can't be read: {error}")))?;
        Ok(Self(message))
    }

    /// The bytes for the wire.
    ///
    /// # Errors
    /// When a message is larger than the encoding allows.
    pub fn encode(&self) -> Result<Vec<u8>, RaftFault> {
        self.0.write_to_bytes().map_err(|error| RaftFault(format!("a message can't be written: {error}")))
    }

    /// Who says it.
    pub fn from(&self) -> u64 {
        self.0.from
    }

    /// Who shall hear it.
    pub fn to(&self) -> u64 {
        self.0.to
    }

    /// Bytes of the entries in it, roughly what it weighs in a queue.
    pub fn weight(&self) -> usize {
        64 + self.0.entries.iter().map(|entry| 32 + entry.data.len()).sum::<usize>()
    }

    /// It asks the receiver to take a snapshot, which travels apart.
    pub fn is_snapshot(&self) -> bool {
        self.0.get_msg_type() == MessageType::MsgSnapshot
    }

    /// What snapshot it offers.
    pub fn snapshot(&self) -> Option<SnapshotMark> {
        self.is_snapshot().then(|| mark_of(self.0.get_snapshot()))
    }

    /// The same offer for a snapshot that was taken at `mark`.
    pub fn with_snapshot(mut self, mark: &SnapshotMark) -> Self {
        self.0.set_snapshot(snapshot_at(mark));
        self
    }

    /// It says nothing about this member's log: that it is alive, or that it asks what the leader knows.
    pub(crate) fn relies_on_no_write(&self) -> bool {
        matches!(self.0.get_msg_type(), MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex)
    }

    /// It carries entries for the log.
    pub fn has_entries(&self) -> bool {
        !self.0.entries.is_empty()
    }

    /// Only members of the local process may say this; from outside it is refused.
    pub(crate) fn is_local(&self) -> bool {
        raft::raw_node::is_local_msg(self.0.get_msg_type()) || self.0.get_msg_type() == MessageType::MsgPropose
    }
}

/// The mark of raft's own form.
pub(crate) fn mark_of(snapshot: &eraftpb::Snapshot) -> SnapshotMark {
    let meta = snapshot.get_metadata();
    let state = meta.get_conf_state();
    SnapshotMark { index: meta.index, term: meta.term, membership: membership_of(state) }
}

/// Raft's own form of a mark.
pub(crate) fn snapshot_at(mark: &SnapshotMark) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let meta = snapshot.mut_metadata();
    meta.index = mark.index;
    meta.term = mark.term;
    meta.set_conf_state(conf_state(&mark.membership));
    snapshot
}

pub(crate) fn conf_state(membership: &Membership) -> ConfState {
    ConfState { voters: membership.voters.clone(), learners: membership.learners.clone(), ..Default::default() }
}

pub(crate) fn membership_of(state: &ConfState) -> Membership {
    let mut membership = Membership { voters: state.voters.clone(), learners: state.learners.clone() };
    membership.voters.sort_unstable();
    membership.learners.sort_unstable();
    membership
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_of_a_snapshot_keeps_its_mark_over_the_wire() {
        let mark = SnapshotMark { index: 9, term: 2, membership: Membership { voters: vec![1, 2], learners: vec![3] } };
        let mut raw = eraftpb::Message { from: 1, to: 3, ..Default::default() };
        raw.set_msg_type(MessageType::MsgSnapshot);
        let sent = Message(raw).with_snapshot(&mark);
        let heard = Message::decode(&sent.encode().unwrap()).unwrap();
        assert_eq!((heard.from(), heard.to(), heard.snapshot()), (1, 3, Some(mark)));
    }
}
