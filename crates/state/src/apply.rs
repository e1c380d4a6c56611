//! Apply: one committed command in, one answer out, one change staged.

use bytes::Bytes;

use crate::answer::{Alarm, Answer, Applied, Refusal};
use crate::check;
use crate::cluster::{member_json, member_key};
use crate::command::{AlarmKind, Command, Member, Proposal};
use crate::halt::Halt;
use crate::ids::{LeaseId, LogIndex, MemberId, Position, Revision, Term};
use crate::record::{self, LeaseRow, alarm_key, revision_bytes};
use crate::state::State;
use crate::tables::{Bucket, Change, TableOp, Tables};
use crate::txn;
use crate::write::Write;

/// What one kind of command answers; the outer error stops the member, the inner one is an answer.
type Outcome = Result<Result<Answer, Refusal>, Halt>;

impl<T: Tables> State<T> {
    /// Applies one committed command and returns what it changed.
    ///
    /// The same `index` and `command` give the same [`Applied`] on every member. A request that the rules refuse is
    /// a normal answer inside it. Everything the command changes is staged as one [`Change`], together with `index`.
    ///
    /// Where users are enforced, the author's right is decided here, on the state as it is now, before anything else:
    /// what was checked at the door may have changed on the way through the log.
    ///
    /// # Errors
    /// [`Halt`] means that this member can no longer be trusted (bad table, lost entry): stop, do not retry.
    pub fn apply(&mut self, index: LogIndex, term: Term, proposal: impl Into<Proposal>) -> Result<Applied, Halt> {
        self.expect(index)?;
        let Proposal { author, command } = proposal.into();
        let permitted = self.permit(&author, &command);
        let mut write = Write::begin(self);
        let outcome = match permitted.and_then(|()| write.gate(&command)) {
            Ok(()) => write.carry_out(index, command)?,
            Err(refusal) => Err(refusal),
        };
        let (ops, events) = write.end();
        assert!(outcome.is_ok() || ops.is_empty(), "a refused command has changed something");
        self.revision.0 += i64::from(!events.is_empty());
        self.stage(index, term, ops)?;
        Ok(Applied { revision: self.revision, outcome, events })
    }

    /// Notes an entry that carries no command: only the applied position moves.
    ///
    /// # Errors
    /// As for [`State::apply`].
    pub fn apply_nothing(&mut self, index: LogIndex, term: Term) -> Result<(), Halt> {
        self.expect(index)?;
        self.stage(index, term, Vec::new())
    }

    fn expect(&self, index: LogIndex) -> Result<(), Halt> {
        let applied = self.applied.0;
        if index.0 == applied.0 + 1 { Ok(()) } else { Err(Halt::OutOfOrder { applied, got: index }) }
    }

    fn stage(&mut self, index: LogIndex, term: Term, ops: Vec<TableOp>) -> Result<(), Halt> {
        self.applied = (index, term);
        self.tables.stage(Change { applied: Some((index, term)), ops })?;
        Ok(())
    }
}

impl<T: Tables> Write<'_, T> {
    /// What raised alarms forbid. Reads are not asked here.
    fn gate(&self, command: &Command) -> Result<(), Refusal> {
        if self.state.alarms.is_empty() {
            return Ok(());
        }
        let (writes, grows) = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => (true, true),
            Command::DeleteRange(_) | Command::Compact { .. } | Command::LeaseRevoke { .. } => (true, false),
            Command::Txn(txn) => (!txn.is_read_only(), txn.puts()),
            _ => (false, false),
        };
        if writes && self.state.is_raised(AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if grows && self.state.is_raised(AlarmKind::NoSpace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    fn carry_out(&mut self, index: LogIndex, command: Command) -> Outcome {
        match command {
            Command::Put(put) => {
                if let Err(refusal) = txn::put_is_possible(self.state, &put) {
                    return Ok(Err(refusal));
                }
                Ok(Ok(Answer::Put { prev: self.put(&put)? }))
            }
            Command::DeleteRange(delete) => {
                let (deleted, prev) = self.delete_range(&delete)?;
                Ok(Ok(Answer::DeleteRange { deleted, prev }))
            }
            Command::Txn(txn) => Ok(txn::carry_out(self, &txn)?.map(Answer::Txn)),
            Command::Compact { revision } => Ok(self.compact(revision)),
            Command::LeaseGrant { id, ttl_secs } => Ok(self.lease_grant(id, ttl_secs)),
            Command::LeaseRevoke { id } => Ok(self.lease_revoke(id)),
            Command::LeaseCheckpoint { remaining } => Ok(self.lease_checkpoint(&remaining)),
            Command::AlarmActivate { member, kind } => Ok(self.alarm_activate(Alarm { member, kind })),
            Command::AlarmDeactivate { member, kind } => Ok(self.alarm_deactivate(Alarm { member, kind })),
            Command::MemberPublish { id, name, client_urls } => Ok(self.member_publish(id, name, client_urls)),
            Command::MemberUpdate { id, peer_urls } => Ok(self.member_update(id, peer_urls)),
            Command::MemberAdd(member) => Ok(self.member_add(member)),
            Command::MemberRemove { id } => Ok(self.member_remove(id)),
            Command::MemberPromote { id } => Ok(self.member_promote(id)),
            Command::ClusterVersion(version) => Ok(Ok(self.cluster_version(version))),
            Command::Auth(change) => Ok(self.auth_change(index, change)),
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<Answer, Refusal> {
        // A store that was never compacted takes 0, as upstream does.
        let line = self.state.compacted().unwrap_or(Revision(-1));
        if revision <= line {
            return Err(Refusal::Compacted);
        }
        if revision > self.state.revision {
            return Err(Refusal::FutureRevision);
        }
        self.state.compaction.schedule(revision);
        let value = revision_bytes(Position::start_of(revision));
        self.put_row(Bucket::Meta, record::META_COMPACT_SCHEDULED, value.to_vec());
        Ok(Answer::Compact)
    }

    fn lease_grant(&mut self, id: LeaseId, ttl_secs: i64) -> Result<Answer, Refusal> {
        if id == LeaseId(0) {
            return Err(Refusal::LeaseNotFound);
        }
        check::lease_ttl(ttl_secs)?;
        if self.state.lease(id).is_some() {
            return Err(Refusal::LeaseExists);
        }
        let row = LeaseRow { id, ttl_secs, remaining_secs: 0 };
        self.state.leases.grant(row);
        self.put_row(Bucket::Lease, &LeaseRow::key(id), row.encode());
        Ok(Answer::LeaseGrant { id, ttl_secs })
    }

    fn lease_revoke(&mut self, id: LeaseId) -> Result<Answer, Refusal> {
        let lease = self.state.lease(id).ok_or(Refusal::LeaseNotFound)?;
        let keys: Vec<Box<[u8]>> = lease.keys().map(Box::from).collect();
        for key in &keys {
            self.delete(key);
        }
        self.state.leases.revoke(id);
        self.delete_row(Bucket::Lease, &LeaseRow::key(id));
        Ok(Answer::LeaseRevoke)
    }

    /// Leases that are gone meanwhile are skipped: their checkpoint has lost its meaning, that of others has not.
    fn lease_checkpoint(&mut self, remaining: &[(LeaseId, i64)]) -> Result<Answer, Refusal> {
        for &(id, secs) in remaining {
            let Some(lease) = self.state.leases.get_mut(id) else { continue };
            lease.remaining_secs = secs;
            let row = lease.row().encode();
            self.put_row(Bucket::Lease, &LeaseRow::key(id), row);
        }
        Ok(Answer::LeaseCheckpoint)
    }

    fn alarm_activate(&mut self, alarm: Alarm) -> Result<Answer, Refusal> {
        if self.state.alarms.insert(alarm) {
            self.put_row(Bucket::Alarm, &alarm_key(alarm), Vec::new());
        }
        Ok(Answer::Alarm(vec![alarm]))
    }

    fn alarm_deactivate(&mut self, alarm: Alarm) -> Result<Answer, Refusal> {
        if !self.state.alarms.remove(&alarm) {
            return Ok(Answer::Alarm(Vec::new()));
        }
        self.delete_row(Bucket::Alarm, &alarm_key(alarm));
        Ok(Answer::Alarm(vec![alarm]))
    }

    fn member_publish(&mut self, id: MemberId, name: String, client_urls: Vec<String>) -> Result<Answer, Refusal> {
        let member = self.state.cluster.member(id)?.clone();
        Ok(self.keep_member(Member { name, client_urls, ..member }))
    }

    fn member_update(&mut self, id: MemberId, peer_urls: Vec<String>) -> Result<Answer, Refusal> {
        self.state.cluster.may_update(id, &peer_urls)?;
        let member = self.state.cluster.member(id)?.clone();
        Ok(self.keep_member(Member { peer_urls, ..member }))
    }

    fn member_add(&mut self, member: Member) -> Result<Answer, Refusal> {
        self.state.cluster.may_add(&member)?;
        Ok(self.keep_member(member))
    }

    fn member_promote(&mut self, id: MemberId) -> Result<Answer, Refusal> {
        self.state.cluster.may_promote(id)?;
        let member = self.state.cluster.member(id)?.clone();
        Ok(self.keep_member(Member { learner: false, ..member }))
    }

    fn member_remove(&mut self, id: MemberId) -> Result<Answer, Refusal> {
        self.state.cluster.member(id)?;
        self.state.cluster.members.remove(&id);
        self.state.cluster.removed.insert(id);
        let key = member_key(id);
        self.delete_row(Bucket::Members, key.as_bytes());
        self.put_row(Bucket::MembersRemoved, key.as_bytes(), record::MEMBER_REMOVED.to_vec());
        Ok(Answer::Members(self.state.cluster.list()))
    }

    fn keep_member(&mut self, member: Member) -> Answer {
        self.put_row(Bucket::Members, member_key(member.id).as_bytes(), member_json(&member).into_bytes());
        self.state.cluster.members.insert(member.id, member);
        Answer::Members(self.state.cluster.list())
    }

    fn cluster_version(&mut self, version: String) -> Answer {
        self.put_row(Bucket::Cluster, record::CLUSTER_VERSION, version.clone().into_bytes());
        self.state.cluster.version = Some(version);
        Answer::ClusterVersion
    }

    pub(crate) fn put_row(&mut self, bucket: Bucket, key: &[u8], value: Vec<u8>) {
        self.ops.push(TableOp::Put { bucket, key: Bytes::copy_from_slice(key), value: value.into() });
    }

    pub(crate) fn delete_row(&mut self, bucket: Bucket, key: &[u8]) {
        self.ops.push(TableOp::Delete { bucket, key: Bytes::copy_from_slice(key) });
    }
}
