//! News of a run, for whoever watches: one line that changes on a terminal, plain lines in a pipe, JSON for machines.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use eyrie_backup::tell::{News, Tell};
use serde_json::json;

use super::Output;

/// Between two lines about the same work in a pipe.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two changes of the line on a terminal.
const SCREEN_EVERY: Duration = Duration::from_millis(200);

/// What is known so far.
#[derive(Default)]
struct Seen {
    shown_at: Option<Instant>,
    revision: i64,
    recoverable: i64,
    pieces: u64,
    lag_ms: u64,
    objects: u64,
    bytes: u64,
    open: u64,
    on_line: bool,
}

/// Who tells it.
pub(crate) fn tell(output: Output) -> Tell {
    let seen = Mutex::new(Seen::default());
    let terminal = std::io::stderr().is_terminal();
    Tell::new(move |news| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match output {
            Output::Json => line_of_json(&news),
            Output::Text => seen.show(&news, terminal),
        }
    })
}

impl Seen {
    fn show(&mut self, news: &News, terminal: bool) {
        match news {
            News::Said(words) => self.line(words),
            News::Warned(words) => self.line(&format!("warning: {words}")),
            News::FullTaken { revision, keys, stored_len, members } => {
                let compared = match members {
                    0 => "not compared with any member".into(),
                    1 => "its digest is that of the member".into(),
                    n => format!("its digest is that of {n} members"),
                };
                let size = size_text(*stored_len);
                self.line(&format!("full taken at revision {revision}: {keys} keys, {size} stored, {compared}"));
            }
            News::FullReading { bytes, of } => self.work("reading the full", *bytes, *of, terminal),
            News::FullStoring { bytes, of } => self.work("storing the full", *bytes, *of, terminal),
            News::Verifying { files, of_files, bytes, of_bytes } => {
                let words = format!(
                    "looked at {files} of {of_files} files, {} of {} read",
                    size_text(*bytes),
                    size_text(*of_bytes)
                );
                self.status(&words, terminal);
            }
            News::Deleting { files, of_files } => {
                self.status(&format!("deleted {files} of {of_files} files"), terminal);
            }
            News::Failed { words, .. } => self.line(&format!("warning: {words}")),
            News::Begun { revision } => self.revision = revision.0,
            News::Heard { .. } => {}
            News::TailCut { last, lag_ms, .. } => {
                (self.revision, self.lag_ms) = (last.0, *lag_ms);
                self.pieces += 1;
                self.state(terminal);
            }
            News::UpToDate { revision, .. } => {
                self.revision = revision.0;
                self.state(terminal);
            }
            News::Objects(count) => {
                (self.objects, self.bytes, self.open) = (count.objects, count.bytes, count.open);
                self.state(terminal);
            }
            News::Recoverable { revision } => {
                self.recoverable = revision.0;
                self.state(terminal);
            }
        }
    }

    fn line(&mut self, words: &str) {
        let clear = if std::mem::take(&mut self.on_line) { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{words}");
    }

    fn work(&mut self, verb: &str, bytes: u64, of: u64, terminal: bool) {
        let share = if of == 0 { 0 } else { bytes.saturating_mul(100) / of };
        self.status(&format!("{verb}: {} of {} ({share} %)", size_text(bytes), size_text(of)), terminal);
    }

    fn state(&mut self, terminal: bool) {
        let Self { revision, recoverable, pieces, lag_ms, objects, bytes, open, .. } = *self;
        // what is not known yet is not told
        let mut words = match (revision, recoverable) {
            (0, 0) => "looking at the source".to_owned(),
            (0, to) => format!("recoverable up to {to}"),
            (at, 0) => format!("at revision {at}"),
            (at, to) => format!("at revision {at}, recoverable up to {to}"),
        };
        if pieces > 0 {
            words += &format!(", {pieces} pieces of tail, {:.1} s behind", lag_ms as f64 / 1000.0);
        }
        if objects + open > 0 {
            words += &format!(", {objects} objects copied ({}), {open} to go", size_text(bytes));
        }
        self.status(&words, terminal);
    }

    fn status(&mut self, words: &str, terminal: bool) {
        let every = if terminal { SCREEN_EVERY } else { LINE_EVERY };
        if self.shown_at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.shown_at = Some(Instant::now());
        if terminal {
            self.on_line = true;
            let mut screen = std::io::stderr().lock();
            let _ = write!(screen, "\r\x1b[K{words}").and_then(|()| screen.flush());
        } else {
            eprintln!("{words}");
        }
    }
}

fn line_of_json(news: &News) {
    let value = match news {
        News::Said(words) => json!({"event": "said", "words": words}),
        News::Warned(words) => json!({"event": "warned", "words": words}),
        News::FullReading { bytes, of } => json!({"event": "full_reading", "bytes": bytes, "of": of}),
        News::FullStoring { bytes, of } => json!({"event": "full_storing", "bytes": bytes, "of": of}),
        News::FullTaken { revision, keys, stored_len, members } => json!({
            "event": "full_taken", "revision": revision.0, "keys": keys, "stored_bytes": stored_len, "members": members,
        }),
        News::TailCut { first, last, events, lag_ms, stored_len } => {
            json!({
                "event": "tail_cut", "first": first.0, "last": last.0, "events": events, "lag_ms": lag_ms,
                "stored_bytes": stored_len,
            })
        }
        News::UpToDate { revision, at } => json!({"event": "up_to_date", "revision": revision.0, "at_ms": at.0}),
        News::Objects(count) => json!({
            "event": "objects", "copied": count.objects, "bytes": count.bytes, "open": count.open, "holes": count.holes,
        }),
        News::Verifying { files, of_files, bytes, of_bytes } => {
            json!({"event": "verifying", "files": files, "of_files": of_files, "bytes": bytes, "of_bytes": of_bytes})
        }
        News::Deleting { files, of_files } => json!({"event": "deleting", "files": files, "of_files": of_files}),
        News::Failed { what, words } => json!({"event": "failed", "what": what, "words": words}),
        News::Heard { .. } | News::Begun { .. } => return,
        News::Recoverable { revision } => json!({"event": "recoverable", "revision": revision.0}),
    };
    crate::screen::tell(&value.to_string());
}

/// Bytes for a person.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// A moment for a person, in UTC.
pub(super) fn clock_text(unix_ms: u64) -> String {
    eyrie_backup::history::TimeMs(unix_ms).to_string()
}
