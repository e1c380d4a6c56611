//! JSON text as Go's `encoding/json` writes it: declared order, escaped `<>&`, bytes in base64.

use base64::Engine;

/// An object that is being written; members appear in the order they are added.
pub(crate) struct Object {
    text: String,
}

impl Object {
    /// An empty object.
    pub(crate) fn new() -> Object {
        Object { text: "{".into() }
    }

    /// Adds a member whose value is JSON text already.
    pub(crate) fn raw(mut self, name: &str, value: impl AsRef<str>) -> Object {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push_str(&string(name));
        self.text.push(':');
        self.text.push_str(value.as_ref());
        self
    }

    /// Adds a number or truth value.
    pub(crate) fn value(self, name: &str, value: impl std::fmt::Display) -> Object {
        self.raw(name, value.to_string())
    }

    /// Adds a number or truth value unless it is the default of its type.
    pub(crate) fn some<T: std::fmt::Display + Default + PartialEq>(self, name: &str, value: T) -> Object {
        if value == T::default() { self } else { self.value(name, value) }
    }

    /// Adds a string.
    pub(crate) fn text(self, name: &str, value: &str) -> Object {
        self.raw(name, string(value))
    }

    /// Adds a string unless it is empty.
    pub(crate) fn some_text(self, name: &str, value: &str) -> Object {
        if value.is_empty() { self } else { self.text(name, value) }
    }

    /// Adds bytes in base64 unless there are none.
    pub(crate) fn some_bytes(self, name: &str, value: &[u8]) -> Object {
        if value.is_empty() { self } else { self.raw(name, base64(value)) }
    }

    /// Adds a list of strings unless it is empty.
    pub(crate) fn some_texts(self, name: &str, values: &[String]) -> Object {
        if values.is_empty() { self } else { self.raw(name, list(values, |value| string(value))) }
    }

    /// Adds a list unless it is empty.
    pub(crate) fn some_list<T>(self, name: &str, values: &[T], one: impl Fn(&T) -> String) -> Object {
        if values.is_empty() { self } else { self.raw(name, list(values, one)) }
    }

    /// The finished text.
    pub(crate) fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// A JSON array.
pub(crate) fn list<T>(values: &[T], one: impl Fn(&T) -> String) -> String {
    format!("[{}]", values.iter().map(one).collect::<Vec<_>>().join(","))
}

/// Bytes as a JSON string in standard base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A JSON string.
pub(crate) fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_defaults_vanish() {
        let text = Object::new()
            .some("revision", 7)
            .some("lease", 0)
            .some("more", false)
            .text("name", "a<b>\"\u{1}")
            .some_bytes("value", b"foo")
            .some_texts("roles", &["r1".into(), "r2".into()])
            .end();
        assert_eq!(text, r#"{"revision":7,"name":"a\u003cb\u003e\"\u0001","value":"Zm9v","roles":["r1","r2"]}"#);
    }
}
