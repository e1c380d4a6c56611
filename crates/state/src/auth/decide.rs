//! The decision: may this author do this, now?
//!
//! Every way to read or change the store asks here. What a request needs follows from the whole request: all branches of a
//! transaction at any depth, whichever will run, and what it would show of the pair before.

use super::{Auth, AuthChange, Author, Grant};
use crate::answer::Refusal;
use crate::command::{Command, DeleteRange, KeyRange, Op, Put, Txn};
use crate::ids::LeaseId;
use crate::state::State;
use crate::tables::Tables;

/// What somebody wants with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseUse {
    /// See that it exists, and its time.
    Look,
    /// See the keys that hang on it.
    ShowKeys,
    /// Keep it alive, end it, or hang another key on it: that decides over all its keys.
    Rule,
}

impl Auth {
    /// What an author may do now.
    ///
    /// # Errors
    /// There is no author, it is unknown, or users and roles have changed since it was checked.
    pub fn grant(&self, author: &Author) -> Result<Grant<'_>, Refusal> {
        if !self.enabled {
            return Ok(Grant::All);
        }
        match author {
            Author::Store => Ok(Grant::All),
            Author::Nobody => Err(Refusal::UserEmpty),
            Author::User { revision, .. } if *revision != self.revision => Err(Refusal::AuthOldRevision),
            Author::User { name, .. } => self.rights.get(&name[..]).map(Grant::Some).ok_or(Refusal::PermissionDenied),
        }
    }
}

impl<T: Tables> State<T> {
    /// Whether this author may have this command carried out now.
    ///
    /// # Errors
    /// The refusal.
    pub fn permit(&self, author: &Author, command: &Command) -> Result<(), Refusal> {
        if !self.auth.enabled {
            return Ok(());
        }
        match command {
            Command::Put(put) => self.permit_put(self.auth.grant(author)?, put),
            Command::DeleteRange(delete) => permit_delete(self.auth.grant(author)?, delete),
            Command::Txn(txn) => self.permit_txn(author, txn),
            Command::Compact { .. } | Command::AlarmActivate { .. } | Command::AlarmDeactivate { .. } => {
                self.auth.grant(author)?.root()
            }
            Command::LeaseGrant { .. } => self.auth.grant(author).map(drop),
            Command::LeaseRevoke { id } => self.permit_lease(author, *id, LeaseUse::Rule),
            // Given out by the store to somebody whose password was right.
            Command::Auth(AuthChange::Token { .. }) => match author {
                Author::Store => Ok(()),
                _ => Err(Refusal::PermissionDenied),
            },
            Command::Auth(_) => self.auth.grant(author)?.root(),
            // No client can propose these.
            Command::LeaseCheckpoint { .. } | Command::MemberPublish { .. } | Command::ClusterVersion(_) => Ok(()),
            // The configuration of the log has taken these over already when they are applied: refusing them here
            // would part the two. So the right is asked for when the request comes in, and only there.
            Command::MemberUpdate { .. }
            | Command::MemberAdd(_)
            | Command::MemberRemove { .. }
            | Command::MemberPromote { .. } => Ok(()),
        }
    }

    /// Whether this author may read these keys now.
    ///
    /// # Errors
    /// The refusal.
    pub fn permit_read(&self, author: &Author, keys: &KeyRange) -> Result<(), Refusal> {
        if self.auth.enabled { self.auth.grant(author)?.read(keys) } else { Ok(()) }
    }

    /// Whether this author may have this transaction carried out, both branches of it and all that are nested.
    ///
    /// # Errors
    /// The refusal.
    pub fn permit_txn(&self, author: &Author, txn: &Txn) -> Result<(), Refusal> {
        if self.auth.enabled { self.permit_inner(self.auth.grant(author)?, txn) } else { Ok(()) }
    }

    /// Whether this author may do this with a lease. One that does not exist needs only somebody known.
    ///
    /// # Errors
    /// The refusal.
    pub fn permit_lease(&self, author: &Author, id: LeaseId, what: LeaseUse) -> Result<(), Refusal> {
        if !self.auth.enabled {
            return Ok(());
        }
        let grant = self.auth.grant(author)?;
        match what {
            LeaseUse::Look => Ok(()),
            LeaseUse::ShowKeys => self.lease_keys(id).try_for_each(|key| grant.read_key(key)),
            LeaseUse::Rule => self.lease_keys(id).try_for_each(|key| grant.write_key(key)),
        }
    }

    fn lease_keys(&self, id: LeaseId) -> impl Iterator<Item = &[u8]> {
        self.lease(id).into_iter().flat_map(|lease| lease.keys())
    }

    fn permit_put(&self, grant: Grant<'_>, put: &Put) -> Result<(), Refusal> {
        grant.write_key(&put.key)?;
        if put.prev_kv {
            grant.read_key(&put.key)?;
        }
        // Who hangs a key on a lease can let it expire or not, with all that hang there already.
        self.lease_keys(put.lease).try_for_each(|key| grant.write_key(key))
    }

    fn permit_inner(&self, grant: Grant<'_>, txn: &Txn) -> Result<(), Refusal> {
        txn.compare.iter().try_for_each(|compare| grant.read(&compare.keys))?;
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            Op::Range(range) => grant.read(&range.keys),
            Op::Put(put) => self.permit_put(grant, put),
            Op::DeleteRange(delete) => permit_delete(grant, delete),
            Op::Txn(nested) => self.permit_inner(grant, nested),
        })
    }
}

fn permit_delete(grant: Grant<'_>, delete: &DeleteRange) -> Result<(), Refusal> {
    grant.write(&delete.keys)?;
    if delete.prev_kv { grant.read(&delete.keys) } else { Ok(()) }
}
