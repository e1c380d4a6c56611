//! The store's applied state: what it holds, and the getters. How it changes stands in `apply` and its pages.

use std::collections::BTreeSet;

use crate::answer::Alarm;
use crate::answer::Refusal;
use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::command::{AlarmKind, Member};
use crate::compaction::Compaction;
use crate::ids::{LeaseId, LogIndex, MemberId, Revision, Term};
use crate::index::KeyIndex;
use crate::lease::{Lease, Leases};
use crate::tables::Tables;

/// Everything that committed commands have made of the store, with its tables.
///
/// Readers share it under a read lock, briefly: they plan, and run the plan outside. One writer applies.
#[derive(Debug)]
pub struct State<T: Tables> {
    pub(crate) tables: T,
    pub(crate) index: KeyIndex,
    pub(crate) leases: Leases,
    pub(crate) alarms: BTreeSet<Alarm>,
    pub(crate) cluster: Cluster,
    pub(crate) revision: Revision,
    pub(crate) compaction: Compaction,
    pub(crate) auth: Auth,
    /// Position of the last entry applied; equals what the tables hold.
    pub(crate) applied: (LogIndex, Term),
}

impl<T: Tables> State<T> {
    /// The store's revision: 1 when nothing was ever written.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest readable revision; `None` when nothing was ever compacted.
    pub fn compacted(&self) -> Option<Revision> {
        self.compaction.compacted()
    }

    /// The last log entry applied, and its term.
    pub fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }

    /// Keys that exist at the current revision.
    pub fn key_count(&self) -> usize {
        self.index.live_count()
    }

    /// All leases, by id.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.leases.iter()
    }

    /// One lease.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// The raised alarms, by member, then kind.
    pub fn alarms(&self) -> impl ExactSizeIterator<Item = Alarm> {
        self.alarms.iter().copied()
    }

    /// An alarm of this kind is raised, by whomever.
    pub fn is_raised(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    /// The members, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.cluster.members.values()
    }

    /// One member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.cluster.members.get(&id)
    }

    /// Members that left for ever, by id.
    pub fn removed_members(&self) -> impl ExactSizeIterator<Item = MemberId> {
        self.cluster.removed.iter().copied()
    }

    /// The version that all members can speak (`3.5.0`), once agreed.
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster.version.as_deref()
    }

    /// Users, roles, and whether they are enforced.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether a change of the cluster makes sense now, before it is proposed: what apply would answer.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_member_add(&self, new: &Member) -> Result<(), Refusal> {
        self.cluster.may_add(new)
    }

    /// As [`State::check_member_add`].
    ///
    /// # Errors
    /// The refusal.
    pub fn check_member_update(&self, id: MemberId, peer_urls: &[String]) -> Result<(), Refusal> {
        self.cluster.may_update(id, peer_urls)
    }

    /// As [`State::check_member_add`].
    ///
    /// # Errors
    /// The refusal.
    pub fn check_member_remove(&self, id: MemberId) -> Result<(), Refusal> {
        self.cluster.member(id).map(drop)
    }

    /// As [`State::check_member_add`].
    ///
    /// # Errors
    /// The refusal.
    pub fn check_member_promote(&self, id: MemberId) -> Result<(), Refusal> {
        self.cluster.may_promote(id)
    }

    /// A reader of history as of now.
    pub fn records(&self) -> T::Records {
        self.tables.records()
    }

    /// The tables underneath.
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// The tables underneath, for their own housekeeping. What the state has staged must stay as it is.
    pub fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }

    /// Ends this state and hands the tables back.
    pub fn into_tables(self) -> T {
        self.tables
    }
}
