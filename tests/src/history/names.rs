//! Keys and values of the test, as the store has them.

use anyhow::{Context, Result, ensure};
use prost::bytes::Bytes;

use super::op::{Key, Value};

/// All keys of the test begin so.
pub const PREFIX: &[u8] = b"h/";
/// The end of their range.
pub const PREFIX_END: &[u8] = b"h0";

/// The bytes of a key.
pub fn name(key: Key) -> Bytes {
    format!("h/{key:03}").into_bytes().into()
}

/// The key of these bytes.
///
/// # Errors
/// It is none of the test's.
pub fn key_of(name: &[u8]) -> Result<Key> {
    let digits = name.strip_prefix(PREFIX).and_then(|digits| std::str::from_utf8(digits).ok());
    let key = digits.and_then(|digits| digits.parse().ok());
    key.with_context(|| format!("nobody wrote the key {:?}", String::from_utf8_lossy(name)))
}

/// A value's bytes: its number, and a filling that makes values of many sizes.
pub fn text(value: Value) -> Bytes {
    let mut text = format!("{value}:").into_bytes();
    let size = [0, 10, 100, 100, 500, 2000][(value % 6) as usize];
    text.resize(text.len() + size, b'a' + (value % 26) as u8);
    text.into()
}

/// The value of these bytes.
///
/// # Errors
/// It is not what was written.
pub fn value_of(there: &[u8]) -> Result<Value> {
    let digits = there.split(|byte| *byte == b':').next().and_then(|digits| std::str::from_utf8(digits).ok());
    let value = digits.and_then(|digits| digits.parse().ok());
    let value = value.with_context(|| format!("nobody wrote the value {:?}", String::from_utf8_lossy(there)))?;
    ensure!(text(value) == there, "the value {value} has changed on the way");
    Ok(value)
}
