//! Records and checkpoints as bytes: one line of JSON in a fixed frame with its own hash.
//!
//! ```text
//! {"record":{…},"sha256":"HASH OF THE BYTES OF {…}"}\n
//! ```
//! The frame is compared byte for byte, the inside is ordinary JSON. So every flipped bit is seen in the file itself,
//! and not only by its successor; and a file is never valid in two spellings.

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};
use std::collections::BTreeMap;

use crate::{
    ids::Sha256,
    limits::{FORMAT, RECORD_BYTES_MAX},
    record::{Kind, Record},
};

/// Why bytes are no record or checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A later program wrote it.
    #[error("it was written by a newer version of eyrie ({what}): nothing was changed. Use that newer version")]
    Newer {
        /// What this one does not know.
        what: String,
    },
    /// The bytes are not what was written.
    #[error("its bytes are not what was written: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// Too long to be one.
    #[error("it has {len} bytes, more than the {max} that it may have")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// The bytes of a record.
///
/// # Errors
/// [`DecodeError::TooLong`]: it names too much.
pub fn encode_record(record: &Record) -> Result<Vec<u8>, DecodeError> {
    let bytes = frame("record", record);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(DecodeError::TooLong { len: bytes.len(), max: RECORD_BYTES_MAX });
    }
    Ok(bytes)
}

/// The record that the bytes are. Unknown fields are ignored, unknown kinds are [`DecodeError::Newer`].
///
/// # Errors
/// [`DecodeError`].
pub fn decode_record(bytes: &[u8]) -> Result<Record, DecodeError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(DecodeError::TooLong { len: bytes.len(), max: RECORD_BYTES_MAX });
    }
    let inner = unframe("record", bytes)?;
    newer_record(inner)?;
    parse(inner)
}

/// The bytes of a checkpoint's file.
pub(crate) fn encode_state<T: Serialize>(state: &T) -> Vec<u8> {
    frame("state", &Versioned { v: FORMAT, state })
}

/// The state that a checkpoint's file holds.
pub(crate) fn decode_state<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let inner = unframe("state", bytes)?;
    newer_version(inner)?;
    Ok(parse::<Versioned<T>>(inner)?.state)
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    state: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct Peek {
    what: BTreeMap<String, IgnoredAny>,
}

fn newer_version(json: &[u8]) -> Result<(), DecodeError> {
    let version: Version = parse(json)?;
    if version.v > FORMAT {
        return Err(DecodeError::Newer { what: format!("format {}, this one knows {FORMAT}", version.v) });
    }
    Ok(())
}

fn newer_record(json: &[u8]) -> Result<(), DecodeError> {
    newer_version(json)?;
    let peek: Peek = parse(json)?;
    match peek.what.keys().find(|kind| !Kind::NAMES.contains(&kind.as_str())) {
        Some(kind) => Err(DecodeError::Newer { what: format!("a record of the kind {kind:?}") }),
        None => Ok(()),
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(json).map_err(|error| DecodeError::Damaged { what: error.to_string() })
}

fn frame<T: Serialize>(name: &str, value: &T) -> Vec<u8> {
    let mut bytes = format!("{{\"{name}\":").into_bytes();
    let start = bytes.len();
    serde_json::to_writer(&mut bytes, value).expect("plain values with text keys always have JSON");
    let hash = Sha256::of(&bytes[start..]);
    bytes.extend_from_slice(format!(",\"sha256\":\"{hash}\"}}\n").as_bytes());
    bytes
}

fn unframe<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let damaged = |what: &str| DecodeError::Damaged { what: what.into() };
    let head = format!("{{\"{name}\":");
    let rest = bytes.strip_prefix(head.as_bytes()).ok_or_else(|| damaged("it does not begin as one"))?;
    let rest = rest.strip_suffix(b"\"}\n").ok_or_else(|| damaged("its end is missing"))?;
    let cut = rest.len().checked_sub(64).ok_or_else(|| damaged("it is too short"))?;
    let (rest, hash) = rest.split_at(cut);
    let inner = rest.strip_suffix(b",\"sha256\":\"").ok_or_else(|| damaged("its hash is missing"))?;
    if Sha256::of(inner).to_string().as_bytes() != hash {
        return Err(damaged("the hash that it carries does not fit"));
    }
    Ok(inner)
}
