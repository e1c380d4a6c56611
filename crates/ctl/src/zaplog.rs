//! The log lines that etcd's Go client writes to standard error: one JSON object per line.
//!
//! Two hands wrote them: the client's default logger (RFC 3339 time) and zap's production logger (seconds as a number).

use std::time::{SystemTime, UNIX_EPOCH};

use eyrie_api::client::FailedAttempt;

use crate::go::json;
use crate::screen::error_line;

/// Which of the two loggers writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logger {
    /// The logger a client makes for itself.
    ClientDefault,
    /// The production logger that some commands hand to their client.
    Production,
}

impl Logger {
    /// What a client calls when an attempt of a unary call failed.
    pub(crate) fn report(self) -> fn(&FailedAttempt<'_>) {
        match self {
            Logger::ClientDefault => |failed| attempt_failed(Logger::ClientDefault, failed),
            Logger::Production => |failed| attempt_failed(Logger::Production, failed),
        }
    }
}

fn attempt_failed(logger: Logger, failed: &FailedAttempt<'_>) {
    error_line(
        head(logger, "warn", "v3/retry_interceptor.go:62", "retrying of unary invoker failed")
            .raw("target", zap_string(failed.target))
            .value("attempt", failed.attempt)
            .raw("error", zap_string(failed.error))
            .end(),
    );
}

/// Writes one line of the client's own story (`logger` is `client`).
pub(crate) fn client(level: &str, caller: &str, message: &str, fields: &[(&str, &str)]) {
    write(head(Logger::Production, level, caller, message), fields);
}

/// Writes one line of a command (no logger name).
pub(crate) fn command(level: &str, caller: &str, message: &str, fields: &[(&str, &str)]) {
    let object = json::Object::new()
        .raw("level", zap_string(level))
        .raw("ts", seconds())
        .raw("caller", zap_string(caller))
        .raw("msg", zap_string(message));
    write(object, fields);
}

fn write(object: json::Object, fields: &[(&str, &str)]) {
    let object = fields.iter().fold(object, |object, (name, value)| object.raw(name, zap_string(value)));
    error_line(object.end());
}

fn head(logger: Logger, level: &str, caller: &str, message: &str) -> json::Object {
    let (ts, name) = match logger {
        Logger::ClientDefault => (format!("\"{}\"", rfc3339()), "\"etcd-client\""),
        Logger::Production => (seconds(), "\"client\""),
    };
    json::Object::new()
        .raw("level", zap_string(level))
        .raw("ts", ts)
        .raw("logger", name)
        .raw("caller", zap_string(caller))
        .raw("msg", zap_string(message))
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds() -> String {
    now().as_secs_f64().to_string()
}

fn rfc3339() -> String {
    let now = now();
    let (days, secs) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil_date(days as i64);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        now.subsec_millis()
    )
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
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// zap escapes less than `encoding/json`: `<`, `>` and `&` stay.
fn zap_string(text: &str) -> String {
    json::string(text).replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(19_782), (2024, 2, 29));
        assert_eq!(civil_date(20_779), (2026, 11, 22));
    }
}
