//! Double quoted strings as Go writes (`%q`) and reads (`strconv.Unquote`) them.

/// The quoted form of bytes: printable text stays, everything else becomes an escape.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut quoted, c);
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, c: char) {
    match c {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        c if printable(c) => quoted.push(c),
        c if (c as u32) < 0x80 => quoted.push_str(&format!("\\x{:02x}", c as u32)),
        c if (c as u32) < 0x1_0000 => quoted.push_str(&format!("\\u{:04x}", c as u32)),
        c => quoted.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

/// Whether Go calls the character printable: visible, or the plain space.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // Rust's own debug escape leaves exactly the printable characters alone, except combining marks.
    !c.is_control() && !c.is_whitespace() && (c.escape_debug().count() == 1 || c.is_alphanumeric())
}

/// Reads one quoted string (double quotes with escapes, or back quotes) at the start of `text`.
///
/// Returns its bytes and the number of bytes read; `None` when there is no whole quoted string.
pub(crate) fn scan(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    match text.first()? {
        b'`' => {
            let len = text[1..].iter().position(|byte| *byte == b'`')?;
            Some((text[1..=len].to_vec(), len + 2))
        }
        b'"' => scan_escaped(text),
        _ => None,
    }
}

fn scan_escaped(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some((value, at + 1)),
            b'\n' => return None,
            b'\\' => at += scan_escape(&text[at + 1..], &mut value)? + 1,
            byte => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// Reads what follows a backslash; returns how many bytes it took.
fn scan_escape(text: &[u8], value: &mut Vec<u8>) -> Option<usize> {
    let simple = match *text.first()? {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' => b'\\',
        b'"' => b'"',
        b'x' => return scan_digits(text, 1, 2, 16, value),
        b'u' => return scan_digits(text, 1, 4, 16, value),
        b'U' => return scan_digits(text, 1, 8, 16, value),
        b'0'..=b'7' => return scan_digits(text, 0, 3, 8, value),
        _ => return None,
    };
    value.push(simple);
    Some(1)
}

fn scan_digits(text: &[u8], from: usize, count: usize, base: u32, value: &mut Vec<u8>) -> Option<usize> {
    let digits = std::str::from_utf8(text.get(from..from + count)?).ok()?;
    if !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    let number = u32::from_str_radix(digits, base).ok()?;
    if count <= 3 {
        value.push(u8::try_from(number).ok()?);
    } else {
        value.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(from + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_shows_every_byte() {
        assert_eq!(quote(b"plain"), "\"plain\"");
        assert_eq!(quote(b"a\"b\\c"), "\"a\\\"b\\\\c\"");
        assert_eq!(quote(b"v\n%d\x01\xff\x7f"), "\"v\\n%d\\x01\\xff\\x7f\"");
        assert_eq!(quote("é世\u{feff}\u{200b}".as_bytes()), "\"é世\\ufeff\\u200b\"");
        assert_eq!(quote(b"\0"), "\"\\x00\"");
    }

    #[test]
    fn scanning_reads_one_string_and_stops() {
        assert_eq!(scan(b"\"a b\") = 1"), Some((b"a b".to_vec(), 5)));
        assert_eq!(scan(br#""\x61\142\u4e16\n\"""#), Some(("ab世\n\"".as_bytes().to_vec(), 20)));
        assert_eq!(scan(b"`raw\\n`x"), Some((b"raw\\n".to_vec(), 7)));
        assert_eq!(scan(b"\"open"), None);
        assert_eq!(scan(b"bare"), None);
        assert_eq!(scan(br#""\q""#), None);
    }
}
