//! One delete out of a log of deletes.

use serde::Deserialize;

use super::Key;

/// Reads one delete, in either of the forms that Milvus wrote: `key,time`, or JSON with `pk` and `ts`; none: it is neither.
pub fn delete(line: &[u8]) -> Option<(Key, u64)> {
    #[derive(Deserialize)]
    struct Line {
        pk: Pk,
        ts: u64,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Pk {
        Number(i64),
        Text(String),
        Boxed { value: Value },
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Number(i64),
        Text(String),
    }
    let number = Key::Number;
    let text = |text: String| Key::Text(text.into_bytes().into());
    if let Ok(line) = serde_json::from_slice::<Line>(line) {
        let key = match line.pk {
            Pk::Number(value) | Pk::Boxed { value: Value::Number(value) } => number(value),
            Pk::Text(value) | Pk::Boxed { value: Value::Text(value) } => text(value),
        };
        return Some((key, line.ts));
    }
    let (key, at) = std::str::from_utf8(line).ok()?.split_once(',')?;
    Some((number(key.parse().ok()?), at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_in_all_forms() {
        let seven = Some((Key::Number(7), 450_000_000_000_000_001));
        assert_eq!(delete(br#"{"pk":7,"ts":450000000000000001,"pkType":5}"#), seven);
        assert_eq!(delete(br#"{"pk":{"value":7},"ts":450000000000000001,"pkType":5}"#), seven);
        assert_eq!(delete(b"7,450000000000000001"), seven);
        let text = |text: &str| Some((Key::Text(text.as_bytes().into()), 1));
        assert_eq!(delete(br#"{"pk":{"varCharValue":"x","value":"a,b"},"ts":1,"pkType":21}"#), text("a,b"));
        assert_eq!(delete("{\"pk\":\"ü\",\"ts\":1}".as_bytes()), text("ü"));
        let extreme = Some((Key::Number(i64::MIN), u64::MAX));
        assert_eq!(delete(br#"{"pk":-9223372036854775808,"ts":18446744073709551615}"#), extreme);
        for broken in [&b""[..], b"7", b"a,b", br#"{"pk":7}"#, br#"{"ts":7}"#, b"7,-1"] {
            assert_eq!(delete(broken), None, "{broken:?}");
        }
    }
}
