//! Users, roles, and who may do what.
//!
//! ```text
//! roles ─▶ what each user may read and write: spans of keys, joined (Rights)
//!                                   │
//! author + command ─▶ permit ───────┴─▶ yes, or a refusal        (decide.rs; one pure function of the state)
//! ```
//! The decision is made when a command is applied, so every member decides the same, whatever alarms are raised. Reads and
//! watches are decided by the same function under the same lock that they read under.
//!
//! Knows passwords only as bcrypt hashes and tokens only as fingerprints, and never computes either.

mod change;
mod decide;
mod rights;
mod rows;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::AuthRevision;
pub use decide::LeaseUse;
pub use rights::{Grant, Rights};

/// The name of the user and of the role that may do everything.
pub const ROOT: &str = "root";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Author {
    /// Nobody who said so. Where users are enforced, nobody may do nothing.
    #[default]
    Nobody,
    /// The store itself.
    Store,
    /// A user whose token, certificate or password was checked.
    User {
        /// Its name.
        name: Arc<str>,
        /// The users and roles as they were at that check. When they have changed since, the request is refused: its
        /// author may be someone else by now.
        revision: AuthRevision,
    },
}

/// What a permission allows. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Access {
    Read = 0,
    Write = 1,
    ReadWrite = 2,
}

impl Access {
    /// The access with this number, on the wire and on disk.
    pub fn of_number(number: i64) -> Option<Self> {
        [Access::Read, Access::Write, Access::ReadWrite].into_iter().find(|access| *access as i64 == number)
    }
}

/// A right on a key or a span of keys, as etcd writes it down: `range_end` is empty for one key, `\0` for no end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Permission {
    pub access: Access,
    pub key: Bytes,
    pub range_end: Bytes,
}

impl Permission {
    /// It names a key, and a span that can hold one.
    pub fn is_sound(&self) -> bool {
        let ends = matches!(&self.range_end[..], [] | [0]) || self.key < self.range_end;
        !self.key.is_empty() && ends
    }
}

/// Somebody who can log in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Never empty.
    pub name: String,
    /// bcrypt's text; empty for none.
    pub password_hash: String,
    /// The roles it has. One that does not exist gives nothing.
    pub roles: BTreeSet<String>,
    /// Can't log in with a password, only with a certificate.
    pub no_password: bool,
}

/// A named set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// Never empty.
    pub name: String,
    /// Sorted by key.
    pub permissions: Vec<Permission>,
}

/// A change of users or roles, or of whether they are enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AuthChange {
    Enable,
    Disable,
    UserAdd {
        name: String,
        password_hash: String,
        no_password: bool,
    },
    UserDelete {
        name: String,
    },
    UserPassword {
        name: String,
        password_hash: String,
    },
    UserGrant {
        user: String,
        role: String,
    },
    UserRevoke {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrant {
        role: String,
        permission: Permission,
    },
    RoleRevoke {
        role: String,
        key: Bytes,
        range_end: Bytes,
    },
    /// A simple token was issued to somebody whose password was right. Changes no table.
    Token {
        user: String,
        /// When the password was checked; refused when users or roles have changed since.
        revision: AuthRevision,
        /// SHA-256 of the token's secret part.
        fingerprint: [u8; 32],
        /// The issuer's clock; the state does not look at it.
        issued_millis: u64,
    },
}

/// The users and roles of the store.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    enabled: bool,
    revision: AuthRevision,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// What each user may do: always what `users` and `roles` say.
    rights: BTreeMap<String, Rights>,
}

impl Auth {
    pub(crate) fn load(enabled: bool, revision: AuthRevision, users: Vec<User>, roles: Vec<Role>) -> Self {
        let users = users.into_iter().map(|user| (user.name.clone(), user)).collect();
        let roles = roles.into_iter().map(|role| (role.name.clone(), role)).collect();
        let mut auth = Self { enabled, revision, users, roles, rights: BTreeMap::new() };
        auth.derive_rights();
        auth
    }

    /// Users are enforced.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// How often users and roles have changed.
    pub fn revision(&self) -> AuthRevision {
        self.revision
    }

    /// All users, by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &User> {
        self.users.values()
    }

    /// All roles, by name.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = &Role> {
        self.roles.values()
    }

    /// One user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// One role.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    fn derive_rights(&mut self) {
        let rights = |user: &User| Rights::of(user, |role| self.roles.get(role));
        self.rights = self.users.iter().map(|(name, user)| (name.clone(), rights(user))).collect();
    }
}
