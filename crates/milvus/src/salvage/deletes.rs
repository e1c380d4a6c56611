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
