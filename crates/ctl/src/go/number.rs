//! Numbers and truth values as Go's `strconv` reads them, with its error texts.

/// Reads a signed number in the given base (0: decided by a `0x`, `0o`, `0b` or `0` prefix).
///
/// # Errors
/// The text of Go's `strconv.ParseInt` error.
pub(crate) fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let refuse = |why: &str| Err(format!("strconv.ParseInt: parsing {}: {why}", super::quote::quote(text.as_bytes())));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    match magnitude(digits, base) {
        None => refuse("invalid syntax"),
        Some(value) => {
            let signed = if negative { -(value as i128) } else { value as i128 };
            i64::try_from(signed).or_else(|_| refuse("value out of range"))
        }
    }
}

/// Reads an unsigned number in the given base.
///
/// # Errors
/// The text of Go's `strconv.ParseUint` error.
pub(crate) fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    let refuse = |why: &str| Err(format!("strconv.ParseUint: parsing {}: {why}", super::quote::quote(text.as_bytes())));
    match magnitude(text, base) {
        None => refuse("invalid syntax"),
        Some(value) => u64::try_from(value).or_else(|_| refuse("value out of range")),
    }
}

/// Reads a truth value.
///
/// # Errors
/// The text of Go's `strconv.ParseBool` error.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", super::quote::quote(text.as_bytes()))),
    }
}

/// The digits' value, saturated far above 64 bits; `None` when they are not digits of the base.
fn magnitude(digits: &str, base: u32) -> Option<u128> {
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match base {
        0 => match lower.get(..2) {
            Some("0x") => (16, lower[2..].replace('_', "")),
            Some("0b") => (2, lower[2..].replace('_', "")),
            Some("0o") => (8, lower[2..].replace('_', "")),
            _ if lower.len() > 1 && lower.starts_with('0') => (8, lower[1..].replace('_', "")),
            _ => (10, lower),
        },
        base => (base, lower),
    };
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0u128, |value, c| {
        let digit = c.to_digit(base)?;
        Some((value * u128::from(base) + u128::from(digit)).min(1 << 80))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_their_refusals() {
        assert_eq!(parse_int("-42", 10), Ok(-42));
        assert_eq!(parse_int("0x10", 0), Ok(16));
        assert_eq!(parse_int("010", 0), Ok(8));
        assert_eq!(parse_int("7587862094b5d0a4", 16), Ok(0x7587_8620_94b5_d0a4));
        assert_eq!(parse_int("abc", 10), Err("strconv.ParseInt: parsing \"abc\": invalid syntax".into()));
        assert_eq!(parse_int("", 10), Err("strconv.ParseInt: parsing \"\": invalid syntax".into()));
        assert_eq!(
            parse_int("9223372036854775808", 10),
            Err("strconv.ParseInt: parsing \"9223372036854775808\": value out of range".into())
        );
        assert_eq!(parse_int("-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(parse_uint("ffffffffffffffff", 16), Ok(u64::MAX));
        assert_eq!(parse_uint("-1", 16), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".into()));
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("maybe"), Err("strconv.ParseBool: parsing \"maybe\": invalid syntax".into()));
    }
}
