//! What the server tells the operator: one line per event, in the shape that etcd's logs have.
//!
//! ```text
//! {"level":"info","ts":"2026-11-22T07:30:00.123Z","caller":"server/node.rs:42","msg":"became leader","term":2}
//! ```
//!
//! [`info!`](crate::log::info) and its sisters cost one atomic load when their level is off. A line is written whole, under a
//! lock, so lines of different threads never mix. Who handles an event logs it; who passes it on does not.
//!
//! Knows no event of its own: neither what a message means nor who reads it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For someone who looks for a fault in the program.
    Debug = 0,
    /// The normal course.
    Info = 1,
    /// Something to look at before it becomes an error.
    Warn = 2,
    /// Something failed, the member goes on.
    Error = 3,
    /// The member stops.
    Fatal = 4,
}

impl Level {
    /// Reads a `--log-level`: etcd's names; `panic` and `dpanic` show what `error` shows.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" => Level::Warn,
            "error" | "dpanic" | "panic" => Level::Error,
            "fatal" => Level::Fatal,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Columns separated by tabs, for eyes.
    Console,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// Everything about logging that an operator can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Events below this are dropped.
    pub level: Level,
    /// The look.
    pub format: Format,
    /// The places; a line goes to each.
    pub outputs: Vec<Output>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Json, outputs: vec![Output::Stderr] }
    }
}

/// Sets level, format and places for the whole process. Before it, lines go to standard error as JSON, from level info.
///
/// # Errors
/// A log file cannot be opened; nothing has changed then.
pub fn init(config: &LogConfig) -> Result<(), std::io::Error> {
    let sinks = config.outputs.iter().map(Sink::open).collect::<Result<Vec<_>, _>>()?;
    *SINKS.lock() = sinks;
    CONSOLE.store(config.format == Format::Console, Ordering::Relaxed);
    LEVEL.store(config.level as u8, Ordering::Relaxed);
    Ok(())
}

/// Says whether an event of this level would be written.
#[inline]
pub fn enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static CONSOLE: AtomicBool = AtomicBool::new(false);
static SINKS: Mutex<Vec<Sink>> = Mutex::new(Vec::new());

/// `info!("message", "key" = value, ...)`: the normal course. A value is anything that serde can serialise.
#[macro_export]
#[doc(hidden)]
macro_rules! log_info { ($($rest:tt)*) => { $crate::log_at!($crate::log::Level::Info, $($rest)*) }; }
/// `warn!`: to look at before it becomes an error.
#[macro_export]
#[doc(hidden)]
macro_rules! log_warn { ($($rest:tt)*) => { $crate::log_at!($crate::log::Level::Warn, $($rest)*) }; }
/// `error!`: something failed, the member goes on.
#[macro_export]
#[doc(hidden)]
macro_rules! log_error { ($($rest:tt)*) => { $crate::log_at!($crate::log::Level::Error, $($rest)*) }; }
/// `debug!`: for someone who looks for a fault.
#[macro_export]
#[doc(hidden)]
macro_rules! log_debug { ($($rest:tt)*) => { $crate::log_at!($crate::log::Level::Debug, $($rest)*) }; }
/// `fatal!`: why the member stops. Only says so; the caller stops.
#[macro_export]
#[doc(hidden)]
macro_rules! log_fatal { ($($rest:tt)*) => { $crate::log_at!($crate::log::Level::Fatal, $($rest)*) }; }

#[macro_export]
#[doc(hidden)]
macro_rules! log_at {
    ($level:expr, $message:expr $(, $key:literal = $value:expr)* $(,)?) => {
        if $crate::log::enabled($level) {
            $crate::log::write($level, file!(), line!(), $message.as_ref(), &[$(($key, &$crate::log::field(&$value))),*]);
        }
    };
}

pub use crate::{log_debug as debug, log_error as error, log_fatal as fatal, log_info as info, log_warn as warn};

/// One value as JSON. What cannot be serialised becomes `null`: a log line is never lost for its field.
#[doc(hidden)]
pub fn field<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// Writes one line to every place. A place that fails loses the line: logging never stops the member.
#[doc(hidden)]
pub fn write(level: Level, file: &str, line: u32, message: &str, fields: &[(&str, &str)]) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let text = if CONSOLE.load(Ordering::Relaxed) {
        console_line(level, time, file, line, message, fields)
    } else {
        json_line(level, time, file, line, message, fields)
    };
    let mut sinks = SINKS.lock();
    if sinks.is_empty() {
        sinks.push(Sink::Stderr);
    }
    for sink in sinks.iter_mut() {
        sink.write(text.as_bytes());
    }
}

enum Sink {
    Stderr,
    Stdout,
    File(File),
}

impl Sink {
    fn open(output: &Output) -> Result<Self, std::io::Error> {
        Ok(match output {
            Output::Stderr => Sink::Stderr,
            Output::Stdout => Sink::Stdout,
            Output::File(path) => {
                let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
                Sink::File(file.map_err(|error| {
                    std::io::Error::new(error.kind(), format!("cannot open log file {}: {error}", path.display()))
                })?)
            }
        })
    }

    fn write(&mut self, line: &[u8]) {
        let _ = match self {
            Sink::Stderr => std::io::stderr().write_all(line),
            Sink::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(line).and_then(|()| out.flush())
            }
            Sink::File(file) => file.write_all(line),
        };
    }
}

fn json_line(level: Level, millis: u64, file: &str, line: u32, message: &str, fields: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(128 + message.len());
    text.push_str("{\"level\":\"");
    text.push_str(level.name());
    text.push_str("\",\"ts\":\"");
    push_time(&mut text, millis);
    text.push_str("\",\"caller\":\"");
    push_caller(&mut text, file, line);
    text.push_str("\",\"msg\":");
    text.push_str(&field(message));
    for (key, value) in fields {
        text.push(',');
        text.push_str(&field(key));
        text.push(':');
        text.push_str(value);
    }
    text.push_str("}\n");
    text
}

fn console_line(level: Level, millis: u64, file: &str, line: u32, message: &str, fields: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(128 + message.len());
    push_time(&mut text, millis);
    text.push('\t');
    text.push_str(level.name());
    text.push('\t');
    push_caller(&mut text, file, line);
    text.push('\t');
    text.push_str(message);
    for (n, (key, value)) in fields.iter().enumerate() {
        text.push_str(if n == 0 { "\t{" } else { ", " });
        text.push_str(&field(key));
        text.push_str(": ");
        text.push_str(value);
    }
    if !fields.is_empty() {
        text.push('}');
    }
    text.push('\n');
    text
}

/// `crates/server/src/node/run.rs` becomes `server/node/run.rs`.
fn push_caller(text: &mut String, file: &str, line: u32) {
    let short = file.rsplit_once("crates/").map_or(file, |(_, rest)| rest);
    match short.split_once("/src/") {
        Some((name, rest)) => {
            text.push_str(name);
            text.push('/');
            text.push_str(rest);
        }
        None => text.push_str(short),
    }
    text.push(':');
    text.push_str(&line.to_string());
}

/// UTC, as etcd writes it: `2006-01-02T15:04:05.000Z`.
fn push_time(text: &mut String, millis: u64) {
    use std::fmt::Write;
    let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days as i64);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

/// Days since 1970-01-01 as year, month, day (Gregorian, valid for all days after year 0).
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_shape_of_etcds() {
        let line = json_line(
            Level::Info,
            1_795_332_600_123,
            "crates/server/src/node/run.rs",
            42,
            "became \"leader\"",
            &[("term", &field(&2)), ("local-member-id", &field("8e9e05c52164694d")), ("urls", &field(&["a", "b"]))],
        );
        assert_eq!(
            line,
            "{\"level\":\"info\",\"ts\":\"2026-11-22T07:30:00.123Z\",\"caller\":\"server/node/run.rs:42\",\
             \"msg\":\"became \\\"leader\\\"\",\"term\":2,\"local-member-id\":\"8e9e05c52164694d\",\"urls\":[\"a\",\"b\"]}\n"
        );
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }

    #[test]
    fn console_lines_are_columns() {
        let line = console_line(
            Level::Warn,
            0,
            "crates/cli/src/main.rs",
            7,
            "slow",
            &[("took", &field("1s")), ("n", &field(&3))],
        );
        assert_eq!(line, "1970-01-01T00:00:00.000Z\twarn\tcli/main.rs:7\tslow\t{\"took\": \"1s\", \"n\": 3}\n");
    }

    #[test]
    fn leap_days_are_days() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_512), (2026, 2, 28));
        assert_eq!(civil(20_513), (2026, 3, 1));
    }

    #[test]
    fn the_macros_take_any_value() {
        let addresses = vec!["127.0.0.1:2379".to_string()];
        crate::log::info!("listening", "addresses" = addresses, "n" = 1u64, "ok" = true);
        crate::log::debug!(format!("dropped {}", 1));
        crate::log::warn!("no fields");
    }

    #[test]
    fn a_file_gets_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let mut sink = Sink::open(&Output::File(path.clone())).unwrap();
        sink.write(b"one\n");
        Sink::open(&Output::File(path.clone())).unwrap().write(b"two\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
        let Err(error) = Sink::open(&Output::File(dir.path().join("no/such/dir"))) else { panic!("opened") };
        assert!(error.to_string().starts_with("cannot open log file"));
    }
}
