//! What one user may read and write: disjoint spans of keys.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Access, Permission, ROOT, Role, User};
use crate::answer::Refusal;
use crate::command::KeyRange;

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
                rights.read.add(permission);
            }
            if matches!(permission.access, Access::Write | Access::ReadWrite) {
                rights.write.add(permission);
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
            Grant::Some(rights) => allowed(rights.all || rights.read.covers_key(key)),
        }
    }

    pub(super) fn write_key(&self, key: &[u8]) -> Result<(), Refusal> {
        match self {
            Grant::All => Ok(()),
            Grant::Some(rights) => allowed(rights.all || rights.write.covers_key(key)),
        }
    }
}

fn allowed(yes: bool) -> Result<(), Refusal> {
    if yes { Ok(()) } else { Err(Refusal::PermissionDenied) }
}

/// Keys as spans by their first key, never touching each other; the end is exclusive, `None` for no end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Spans(BTreeMap<Bytes, Option<Bytes>>);

impl Spans {
    /// A permission whose span can't hold a key gives nothing.
    fn add(&mut self, permission: &Permission) {
        let Permission { key, range_end, .. } = permission;
        match &range_end[..] {
            [] if key.is_empty() => {}
            [] => self.join(key.clone(), Some(after(key))),
            [0] => self.join(key.clone(), None),
            end if &key[..] < end => self.join(key.clone(), Some(range_end.clone())),
            _ => {}
        }
    }

    fn join(&mut self, mut from: Bytes, mut to: Option<Bytes>) {
        // Spans that only touch are one span too: no key lies between them.
        let reaches = |end: &Option<Bytes>, key: &Bytes| end.as_ref().is_none_or(|end| end >= key);
        if let Some((first, end)) = self.0.range(..=from.clone()).next_back()
            && reaches(end, &from)
        {
            from = first.clone();
        }
        while let Some((first, end)) = self.0.range(from.clone()..).next() {
            if !reaches(&to, first) {
                break;
            }
            to = match (to, end) {
                (Some(a), Some(b)) => Some(a.max(b.clone())),
                _ => None,
            };
            let first = first.clone();
            self.0.remove(&first);
        }
        self.0.insert(from, to);
    }

    /// Every key of the range lies inside. A range that can hold no key counts as its first key: asking for nothing is
    /// no way around the question.
    fn cover(&self, keys: &KeyRange) -> bool {
        match keys {
            KeyRange::One(key) => self.covers_key(key),
            KeyRange::Span(from, to) if from < to => {
                self.around(from).is_some_and(|end| end.as_ref().is_none_or(|end| to <= end))
            }
            KeyRange::Span(from, _) => self.covers_key(from),
            KeyRange::From(from) => self.around(from).is_some_and(Option::is_none),
        }
    }

    fn covers_key(&self, key: &[u8]) -> bool {
        self.around(key).is_some()
    }

    /// The end of the span that holds this key.
    fn around(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.map(|(_, end)| end).filter(|end| end.as_ref().is_none_or(|end| key < &end[..]))
    }
}

/// The smallest key after this one.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
