//! Names of objects: what every store takes, and nothing that leaves a folder.

use std::fmt;

use crate::limits::{KEY_BYTES_MAX, KEY_COMPONENT_BYTES_MAX};

/// Names that begin so are ours: temporary files, and the object that shows whether writes can be conditional.
pub(crate) const OWN_PREFIX: &str = ".eyrie-";

/// A checked name: parts joined by `/`; no part is empty, `.`, `..`, or one of ours; no control characters.
///
/// The rules are the same for every store, so that what was written to one can be moved to any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks a name.
    ///
    /// # Errors
    /// Says what is odd about it.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        match oddity(name) {
            Some(why) => Err(why),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// For objects of our own, whose names no caller may use.
    pub(crate) fn own(prefix: &str, name: &str) -> Self {
        debug_assert!(name.starts_with(OWN_PREFIX));
        Self(format!("{prefix}{name}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is odd about a name, if anything.
pub(crate) fn oddity(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name is empty");
    }
    if name.len() > KEY_BYTES_MAX {
        return Some("the name is longer than 1024 bytes");
    }
    if name.chars().any(|c| c.is_control()) {
        return Some("the name has control characters");
    }
    if name.trim() != name {
        return Some("the name begins or ends with white space");
    }
    name.split('/').find_map(|part| match part {
        "" => Some("the name has an empty part (a slash at an end, or two in a row)"),
        "." | ".." => Some("the name has `.` or `..` as a part, which would leave the folder"),
        _ if part.len() > KEY_COMPONENT_BYTES_MAX => Some("a part of the name is longer than 255 bytes"),
        _ if part.starts_with(OWN_PREFIX) => Some("names that begin with `.eyrie-` are this program's own"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_a_folder_or_mean_two_things_are_odd() {
        for good in ["a", "a/b.c", "insert_log/1/2/3", "ü/日本", "a..b", "..a/b", "a b", "-x", "~"] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(256);
        for odd in
            ["", "/", "/a", "a/", "a//b", "..", "a/../b", "../a", "./a", "a/.", "a\0b", "a\nb", " a", "a ", &long]
        {
            assert!(Key::parse(odd).is_err(), "{odd:?}");
        }
        assert!(Key::parse(".eyrie-tmp").is_err());
        assert!(Key::parse("a/.eyrie-tmp/b").is_err());
        assert!(Key::parse(&"a/".repeat(600)).is_err());
    }
}
