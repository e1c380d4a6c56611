//! What one user may read and write: disjoint spans of keys.

use super::{Access, Permission, ROOT, Role, User};
use crate::answer::Refusal;
use crate::command::KeyRange;
use crate::spans::Spans;

/// What a user may do, as its roles say together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    all: bool,
    read: Spans,
    write: Spans,
}

impl Rights {
    pub(super) fn of<'r>(user: &User, role: impl Fn(&str) -> Option<&'r Role>) -> Self {
        let mut rights = Rights { all: user.roles.contains(ROOT), ..Rights::default() };
        for permission in user.roles.iter().filter_map(|name| role(name)).flat_map(|role| &role.permissions) {
            if matches!(permission.access, Access::Read | Access::ReadWrite) {
                rights.read.permit(permission);
            }
            if matches!(permission.access, Access::Write | Access::ReadWrite) {
                rights.write.permit(permission);
            }
        }
        rights
    }
}

/// What an author may do now.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// Everything.
    All,
    /// What these rights say.
    Some(&'a Rights),
}

impl Grant<'_> {
    /// Everything is allowed.
    ///
    /// # Errors
    /// The refusal.
    pub fn root(&self) -> Result<(), Refusal> {
        match self {
            Grant::All => Ok(()),
            Grant::Some(rights) => allowed(rights.all),
        }
    }

    /// These keys may be read, every one of them.
    ///
    /// # Errors
    /// The refusal.
    pub fn read(&self, keys: &KeyRange) -> Result<(), Refusal> {
        match self {
            Grant::All => Ok(()),
            Grant::Some(rights) => allowed(rights.all || rights.read.cover(keys)),
        }
    }

    /// These keys may be written, every one of them.
    ///
    /// # Errors
    /// The refusal.
    pub fn write(&self, keys: &KeyRange) -> Result<(), Refusal> {
        match self {
            Grant::All => Ok(()),
            Grant::Some(rights) => allowed(rights.all || rights.write.cover(keys)),
        }
    }

    pub(super) fn read_key(&self, key: &[u8]) -> Result<(), Refusal> {
        match self {
            Grant::All => Ok(()),
            Grant::Some(rights) => allowed(rights.all || rights.read.holds(key)),
        }
    }

    pub(super) fn write_key(&self, key: &[u8]) -> Result<(), Refusal> {
        match self {
            Grant::All => Ok(()),
            Grant::Some(rights) => allowed(rights.all || rights.write.holds(key)),
        }
    }
}

fn allowed(yes: bool) -> Result<(), Refusal> {
    if yes { Ok(()) } else { Err(Refusal::PermissionDenied) }
}

impl Spans {
    /// A permission whose span can't hold a key gives nothing.
    fn permit(&mut self, permission: &Permission) {
        let Permission { key, range_end, .. } = permission;
        match &range_end[..] {
            [] if key.is_empty() => {}
            [] => self.insert_key(key),
            [0] => self.insert(key.clone(), None),
            end if &key[..] < end => self.insert(key.clone(), Some(range_end.clone())),
            _ => {}
        }
    }

    /// Every key of the range lies inside. A range that can hold no key counts as its first key: asking for nothing is
    /// no way around the question.
    fn cover(&self, keys: &KeyRange) -> bool {
        match keys {
            KeyRange::One(key) => self.holds(key),
            KeyRange::Span(from, to) if from < to => self.hold(from, Some(to)),
            KeyRange::Span(from, _) => self.holds(from),
            KeyRange::From(from) => self.hold(from, None),
        }
    }
}
