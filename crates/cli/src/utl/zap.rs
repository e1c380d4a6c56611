//! Log lines on standard error, in the shape of zap's console encoder, which etcdutl uses.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// One line: time, level, where it comes from, message, fields as JSON.
pub(super) fn line(level: &str, place: &str, message: &str, fields: &[(&str, serde_json::Value)]) {
    let mut text = format!("{}\t{level}\t{place}\t{message}", now());
    if !fields.is_empty() {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {}", spaced(value))).collect();
        text += &format!("\t{{{}}}", fields.join(", "));
    }
    // A closed stream must not end a restore half way.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// zap puts a blank behind the comma of a list.
fn spaced(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn now() -> String {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = eyrie_server::log::civil((secs / 86_400).cast_signed());
    let of_day = secs % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
