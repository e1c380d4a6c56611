//! JSON text into a tree, judged and refused in the words of Go's `encoding/json`, which etcd's clients know.
//!
//! Numbers stay text and strings keep their raw form, since etcd's rules for both depend on the field they are for.
//! Knows nothing of messages or fields.

use std::borrow::Cow;

/// One JSON value; borrows from the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    /// The characters, and the text between the quotes as it was written.
    String(Cow<'a, str>, &'a str),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// More text may complete it.
    Truncated,
    /// No text can, and this is what Go says.
    Wrong(String),
}

/// How deep arrays and objects may nest; the protobuf decoder behind allows 100.
const DEPTH_MAX: usize = 256;

/// Reads the first value of `text` and how many bytes it took; `None` when there is only white space.
pub(super) fn first(text: &[u8]) -> Result<Option<(Json<'_>, usize)>, Fault> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.space();
    if reader.at == text.len() {
        return Ok(None);
    }
    let value = reader.value()?;
    Ok(Some((value, reader.at)))
}

/// Reads a text that is one value and nothing else.
pub(super) fn whole(text: &str) -> Result<Json<'_>, String> {
    match first(text.as_bytes()) {
        Ok(None) | Err(Fault::Truncated) => Err("unexpected end of JSON input".into()),
        Err(Fault::Wrong(message)) => Err(message),
        Ok(Some((value, used))) => match text.as_bytes()[used..].iter().find(|byte| !is_space(**byte)) {
            Some(byte) => Err(invalid(*byte, "after top-level value")),
            None => Ok(value),
        },
    }
}

/// Appends `text` as a JSON string with the escapes that Go chooses (HTML characters too).
pub(super) fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Result<Json<'a>, Fault> {
        self.space();
        match self.peek()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => {
                let (text, raw) = self.string()?;
                Ok(Json::String(text, raw))
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true", Json::Bool(true)),
            b'f' => self.literal("false", Json::Bool(false)),
            b'n' => self.literal("null", Json::Null),
            other => Err(wrong(other, "looking for beginning of value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json<'a>, Fault>) -> Result<Json<'a>, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::Wrong("exceeded max depth".into()));
        }
        self.at += 1;
        self.space();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Json<'a>, Fault> {
        let mut fields = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            match self.peek()? {
                b'"' => {}
                other => return Err(wrong(other, "looking for beginning of object key string")),
            }
            let (key, _) = self.string()?;
            self.space();
            match self.take()? {
                b':' => {}
                other => return Err(wrong(other, "after object key")),
            }
            fields.push((key, self.value()?));
            self.space();
            match self.take()? {
                b',' => {}
                b'}' => return Ok(Json::Object(fields)),
                other => return Err(wrong(other, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Json<'a>, Fault> {
        let mut items = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.take()? {
                b',' => {}
                b']' => return Ok(Json::Array(items)),
                other => return Err(wrong(other, "after array element")),
            }
        }
    }

    fn literal(&mut self, word: &'static str, value: Json<'a>) -> Result<Json<'a>, Fault> {
        for expected in word.bytes() {
            let byte = self.take()?;
            if byte != expected {
                return Err(wrong(byte, &format!("in literal {word} (expecting '{}')", expected as char)));
            }
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Json<'a>, Fault> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.take()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            other => return Err(wrong(other, "in numeric literal")),
        }
        if self.next_is(b".") {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if self.next_is(b"eE") {
            self.at += 1;
            if self.next_is(b"+-") {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(Json::Number(str::from_utf8(&self.text[start..self.at]).unwrap_or_default()))
    }

    fn digit(&mut self, context: &str) -> Result<(), Fault> {
        match self.take()? {
            b'0'..=b'9' => Ok(()),
            other => Err(wrong(other, context)),
        }
    }

    fn digits(&mut self) {
        while self.next_is(b"0123456789") {
            self.at += 1;
        }
    }

    /// Reads a string from its opening quote: the characters, and the raw text between the quotes.
    fn string(&mut self) -> Result<(Cow<'a, str>, &'a str), Fault> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.take()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    match self.take()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            for _ in 0..4 {
                                match self.take()? {
                                    byte if byte.is_ascii_hexdigit() => {}
                                    other => return Err(wrong(other, "in \\u hexadecimal character escape")),
                                }
                            }
                        }
                        other => return Err(wrong(other, "in string escape code")),
                    }
                }
                control @ 0..0x20 => return Err(wrong(control, "in string literal")),
                _ => {}
            }
        }
        let bytes = &self.text[start..self.at - 1];
        match str::from_utf8(bytes) {
            Ok(raw) if escaped => Ok((Cow::Owned(unescape(raw)), raw)),
            Ok(raw) => Ok((Cow::Borrowed(raw), raw)),
            // Go replaces what is not UTF-8; the raw form is only asked for numbers and enum names, which are ASCII.
            Err(_) => Ok((Cow::Owned(unescape(&String::from_utf8_lossy(bytes))), "")),
        }
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| is_space(*byte)) {
            self.at += 1;
        }
    }

    fn next_is(&self, set: &[u8]) -> bool {
        self.text.get(self.at).is_some_and(|byte| set.contains(byte))
    }

    fn peek(&self) -> Result<u8, Fault> {
        self.text.get(self.at).copied().ok_or(Fault::Truncated)
    }

    fn take(&mut self) -> Result<u8, Fault> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }
}

/// Resolves escapes that the reader has already found well-formed. Lone surrogates become U+FFFD, as in Go.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        match code {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let high = hex4(rest);
                rest = &rest[4..];
                let pair = (0xd800..0xdc00).contains(&high)
                    && rest.starts_with("\\u")
                    && (0xdc00..0xe000).contains(&hex4(&rest[2..]));
                if pair {
                    let low = hex4(&rest[2..]);
                    rest = &rest[6..];
                    out.push(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}'));
                } else {
                    out.push(char::from_u32(high).unwrap_or('\u{fffd}'));
                }
            }
            plain => out.push(plain as char),
        }
    }
    out.push_str(rest);
    out
}

fn hex4(text: &str) -> u32 {
    text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn wrong(byte: u8, context: &str) -> Fault {
    Fault::Wrong(invalid(byte, context))
}

fn invalid(byte: u8, context: &str) -> String {
    let shown = match byte {
        b'\'' => "\\'".to_string(),
        b'"' => "\"".to_string(),
        b'\n' => "\\n".to_string(),
        b'\r' => "\\r".to_string(),
        b'\t' => "\\t".to_string(),
        b'\\' => "\\\\".to_string(),
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..=0x9f | 0xad => format!("\\u{byte:04x}"),
        _ => (byte as char).to_string(),
    };
    format!("invalid character '{shown}' {context}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        match first(text.as_bytes()) {
            Err(Fault::Wrong(message)) => message,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn refusals_are_gos() {
        assert_eq!(refused("x"), "invalid character 'x' looking for beginning of value");
        assert_eq!(refused("{a:1}"), "invalid character 'a' looking for beginning of object key string");
        assert_eq!(refused("{\"a\" 1}"), "invalid character '1' after object key");
        assert_eq!(refused("{\"a\":1 2}"), "invalid character '2' after object key:value pair");
        assert_eq!(refused("[1 2]"), "invalid character '2' after array element");
        assert_eq!(refused("[1,]"), "invalid character ']' looking for beginning of value");
        assert_eq!(refused("nul!"), "invalid character '!' in literal null (expecting 'l')");
        assert_eq!(refused("-x"), "invalid character 'x' in numeric literal");
        assert_eq!(refused("1.x"), "invalid character 'x' after decimal point in numeric literal");
        assert_eq!(refused("1ex"), "invalid character 'x' in exponent of numeric literal");
        assert_eq!(refused("\"\\x\""), "invalid character 'x' in string escape code");
        assert_eq!(refused("\"\\u12g4\""), "invalid character 'g' in \\u hexadecimal character escape");
        assert_eq!(refused("\"\n\""), "invalid character '\\n' in string literal");
        assert_eq!(refused(&"[".repeat(1000)), "exceeded max depth");
        assert_eq!(whole("5x").unwrap_err(), "invalid character 'x' after top-level value");
        assert_eq!(whole("").unwrap_err(), "unexpected end of JSON input");
    }

    #[test]
    fn half_a_value_waits_for_the_rest() {
        let text = br#"{"a":["x\u00e9\ud83d\ude00",-1.5e3,true,null]} {"#;
        let (value, used) = first(text).unwrap().unwrap();
        assert_eq!(used, text.len() - 2);
        for cut in 1..used {
            assert_eq!(first(&text[..cut]), Err(Fault::Truncated), "cut at {cut}");
        }
        assert_eq!(first(b" \n"), Ok(None));
        let Json::Object(fields) = value else { panic!() };
        let Json::Array(items) = &fields[0].1 else { panic!() };
        assert!(matches!(&items[0], Json::String(text, _) if text == "xé😀"));
        assert_eq!(items[1], Json::Number("-1.5e3"));
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = String::new();
        push_string(&mut out, "a\"\\\n\u{1}<&>\u{2028}é\u{7f}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001\\u003c\\u0026\\u003e\\u2028é\u{7f}\"");
    }
}
