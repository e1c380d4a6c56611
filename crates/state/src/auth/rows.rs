//! The bytes of buckets `authUsers` and `authRoles`: upstream's `authpb` messages, see `docs/format/records.md`.

use std::ops::Range;

use super::{Access, Permission, Role, User};
use crate::record::{Field, Reader, put_bytes, put_number};

const WRONG_TYPE: &str = "a field has the wrong type";

impl User {
    /// The row's value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, self.name.as_bytes());
        put_bytes(&mut out, 2, self.password_hash.as_bytes());
        self.roles.iter().for_each(|role| put_message(&mut out, 3, role.as_bytes()));
        let mut options = Vec::new();
        put_number(&mut options, 1, i64::from(self.no_password));
        put_message(&mut out, 4, &options);
        out
    }

    /// Reads a row's value.
    ///
    /// # Errors
    /// Words that say what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut user = Self::default();
        let mut reader = Reader { bytes, at: 0 };
        while let Some(field) = reader.field()? {
            match field {
                (1, Field::Bytes(place)) => user.name = text(bytes, place)?,
                (2, Field::Bytes(place)) => user.password_hash = text(bytes, place)?,
                (3, Field::Bytes(place)) => {
                    user.roles.insert(text(bytes, place)?);
                }
                (4, Field::Bytes(place)) => user.no_password = no_password(&bytes[place])?,
                (1..=4, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        if user.name.is_empty() { Err("the user has no name") } else { Ok(user) }
    }
}

impl Role {
    /// The row's value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, self.name.as_bytes());
        for Permission { access, key, range_end } in &self.permissions {
            let mut permission = Vec::new();
            put_number(&mut permission, 1, *access as i64);
            put_bytes(&mut permission, 2, key);
            put_bytes(&mut permission, 3, range_end);
            put_message(&mut out, 2, &permission);
        }
        out
    }

    /// Reads a row's value.
    ///
    /// # Errors
    /// Words that say what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut role = Self::default();
        let mut reader = Reader { bytes, at: 0 };
        while let Some(field) = reader.field()? {
            match field {
                (1, Field::Bytes(place)) => role.name = text(bytes, place)?,
                (2, Field::Bytes(place)) => role.permissions.push(permission(&bytes[place])?),
                (1..=2, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        if role.name.is_empty() { Err("the role has no name") } else { Ok(role) }
    }
}

fn permission(bytes: &[u8]) -> Result<Permission, &'static str> {
    let (mut access, mut key, mut range_end) = (0, 0..0, 0..0);
    let mut reader = Reader { bytes, at: 0 };
    while let Some(field) = reader.field()? {
        match field {
            (1, Field::Number(n)) => access = n,
            (2, Field::Bytes(place)) => key = place,
            (3, Field::Bytes(place)) => range_end = place,
            (1..=3, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    let access = Access::of_number(access).ok_or("no release has such an access")?;
    let copy = |place: Range<usize>| bytes[place].to_vec().into();
    Ok(Permission { access, key: copy(key), range_end: copy(range_end) })
}

fn no_password(options: &[u8]) -> Result<bool, &'static str> {
    let mut set = false;
    let mut reader = Reader { bytes: options, at: 0 };
    while let Some(field) = reader.field()? {
        match field {
            (1, Field::Number(n)) => set = n != 0,
            (1, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    Ok(set)
}

/// Unlike [`put_bytes`], writes an empty one too.
fn put_message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if bytes.is_empty() {
        out.extend_from_slice(&[field << 3 | 2, 0]);
    } else {
        put_bytes(out, field, bytes);
    }
}

fn text(bytes: &[u8], place: Range<usize>) -> Result<String, &'static str> {
    std::str::from_utf8(&bytes[place]).map(str::to_owned).map_err(|_| "a name is not UTF-8")
}
