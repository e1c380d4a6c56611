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
    let (year, month, day) = civil_date((secs / 86_400).cast_signed());
    let of_day = secs % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
