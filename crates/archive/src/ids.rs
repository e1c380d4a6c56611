//! What names things, each its own type; all of them are checked when they are read, so that nothing odd travels on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{PATH_BYTES_MAX, WORD_BYTES_MAX};

/// Declares a number that is never mixed with another number.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    };
}

/// Declares that such a number is shown as it is.
macro_rules! plain {
    ($($name:ident),*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        })*
    };
}

plain!(Seq, TimelineId, Revision);

id!(
    /// The place of a record in the catalogue; the first is 1, and none is skipped.
    Seq(u64)
);
id!(
    /// A history without a restore in it; the first is 1, and each restore begins the next.
    TimelineId(u32)
);
id!(
    /// The source's version number: etcd's revision.
    Revision(i64)
);
id!(
    /// A moment by some machine's clock: milliseconds since 1970, UTC. Never used to order anything.
    UnixMillis(i64)
);
id!(
    /// How long the archive has lived: the time between its records, silences bounded. It never goes back.
    LivedMillis(u64)
);

impl Seq {
    /// The first record's place.
    pub const FIRST: Self = Self(1);

    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
    /// The revision before this one.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl UnixMillis {
    /// How much later this is than `earlier`; 0 when it is not later.
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0)
    }
}

/// As `2026-11-22T11:20:15.123Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 3600 * 1000;
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        // Days in eras of 400 years that begin on the first of March, so that a leap day is the last of its year.
        let days = i128::from(days) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + i128::from(month <= 2);
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, milli) = (rest / 1000 % 60, rest % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if milli == 0 { f.write_str("Z") } else { write!(f, ".{milli:03}Z") }
    }
}

impl LivedMillis {
    /// Age at `now`.
    pub fn age(self, now: Self) -> u64 {
        now.0.saturating_sub(self.0)
    }
}

/// A SHA-256; 64 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> Self {
        hash.to_string()
    }
}

impl std::str::FromStr for Sha256 {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName { what: "a sha256", name: shorten(text), why: "not 64 lower-case hex digits" };
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(bad()),
        };
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(bad());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

/// A name that may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not {what}: {why}")]
pub struct BadName {
    /// What it should have been.
    pub what: &'static str,
    /// The name, shortened.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Declares a text that is checked by a function whenever it is made or read.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);
        impl $name {
            /// Takes the text if it is allowed.
            ///
            /// # Errors
            /// What is wrong with it.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(why) => Err(BadName { what: $what, name: shorten(&text), why }),
                }
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// Names an archive for ever: letters, digits and dashes, made by chance when the archive is opened.
    ArchiveId, "an archive id", check_word
);
text!(
    /// Names one run of one program that writes to the archive, for example `host-4711-9f3a`.
    WriterId, "a writer id", check_word
);
text!(
    /// The name of a file inside the archive: plain characters, relative, no way out of it.
    StoredPath, "a name inside the archive", check_stored
);
text!(
    /// The name of an object of the source bucket: any text, but relative and without a way out.
    SourcePath, "a source path", check_source
);

fn check_word(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > WORD_BYTES_MAX {
        return Err("it must have 1 to 200 characters");
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
        return Err("only letters, digits and -_.: are allowed");
    }
    Ok(())
}

fn check_stored(text: &str) -> Result<(), &'static str> {
    check_source(text)?;
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=%+,@/".contains(&byte)) {
        return Err("only letters, digits and -_.=%+,@/ are allowed");
    }
    Ok(())
}

fn check_source(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > PATH_BYTES_MAX {
        return Err("it must have 1 to 1024 bytes");
    }
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return Err("control characters and backslashes are not allowed");
    }
    if text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("an empty part, . or .. is not allowed, nor a slash at an end");
    }
    Ok(())
}

/// Enough of a text to recognise it in a message.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
