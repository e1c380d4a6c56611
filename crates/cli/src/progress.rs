//! Long work, shown: a bar on a terminal, plain lines in a pipe, JSON lines for machines.
//!
//! All of it goes to standard error, except JSON, which is the answer itself and goes to standard output.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Between two lines in a pipe.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two JSON lines.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How a command speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object in each line
    Json,
}

/// One long work.
pub(crate) struct Progress {
    shown: Shown,
    verb: &'static str,
    began: Instant,
    objects: Counter,
    bytes: Counter,
    last: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Counter {
    done: AtomicU64,
    total: AtomicU64,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Json,
}

/// A JSON line about progress.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    verb: &'a str,
    objects: u64,
    objects_total: u64,
    bytes: u64,
    bytes_total: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

impl Progress {
    /// Begins to show: a bar if a person looks, else lines; JSON if asked for.
    pub(crate) fn new(verb: &'static str, output: Output) -> Self {
        let shown = match output {
            Output::Json => Shown::Json,
            Output::Text if std::io::stderr().is_terminal() => Shown::Bar(bar(verb)),
            Output::Text => Shown::Lines,
        };
        let (objects, bytes) = (Counter::default(), Counter::default());
        Self { shown, verb, began: Instant::now(), objects, bytes, last: Mutex::new(None) }
    }

    /// How much there is to do, once it is known; it may grow.
    pub(crate) fn total(&self, objects: u64, bytes: u64) {
        self.objects.total.store(objects, Ordering::Relaxed);
        self.bytes.total.store(bytes, Ordering::Relaxed);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_length(bytes);
        }
    }

    /// So many more bytes are through.
    pub(crate) fn bytes(&self, bytes: u64) {
        self.bytes.done.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// So many more objects are done.
    pub(crate) fn objects(&self, objects: u64) {
        self.objects.done.fetch_add(objects, Ordering::Relaxed);
        self.show();
    }

    /// What is going on before the amount is known.
    pub(crate) fn step(&self, words: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.set_message(words.to_owned()),
            Shown::Lines if self.is_due(LINE_EVERY) => eprintln!("{words}"),
            Shown::Lines | Shown::Json => {}
        }
    }

    /// A line for a person, above the bar; nothing in JSON.
    pub(crate) fn say(&self, line: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Shown::Lines => eprintln!("{line}"),
            Shown::Json => {}
        }
    }

    /// A JSON line for machines; nothing else.
    pub(crate) fn event(&self, event: &impl Serialize) {
        if matches!(self.shown, Shown::Json) {
            json(event);
        }
    }

    /// The end of it: the bar goes.
    pub(crate) fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn show(&self) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(self.bytes.done.load(Ordering::Relaxed));
                let (done, total) =
                    (self.objects.done.load(Ordering::Relaxed), self.objects.total.load(Ordering::Relaxed));
                bar.set_message(format!("{done} of {total} objects"));
            }
            Shown::Lines if self.is_due(LINE_EVERY) => eprintln!("{}", self.sentence()),
            Shown::Json if self.is_due(JSON_EVERY) => json(&self.line()),
            Shown::Lines | Shown::Json => {}
        }
    }

    /// Whether it is time for another line; the first comes after one interval.
    fn is_due(&self, every: Duration) -> bool {
        let Ok(mut last) = self.last.lock() else { return false };
        if last.unwrap_or(self.began).elapsed() < every {
            return false;
        }
        *last = Some(Instant::now());
        true
    }

    fn line(&self) -> Line<'_> {
        let (done, total) = (self.bytes.done.load(Ordering::Relaxed), self.bytes.total.load(Ordering::Relaxed));
        let seconds = self.began.elapsed().as_secs_f64();
        Line {
            event: "progress",
            verb: self.verb,
            objects: self.objects.done.load(Ordering::Relaxed),
            objects_total: self.objects.total.load(Ordering::Relaxed),
            bytes: done,
            bytes_total: total,
            seconds,
            seconds_left: seconds_left(done, total, seconds),
        }
    }

    fn sentence(&self) -> String {
        let line = self.line();
        let rate = HumanBytes((line.bytes as f64 / line.seconds.max(0.001)) as u64);
        let left = line
            .seconds_left
            .map_or(String::new(), |secs| format!(", {} left", HumanDuration(Duration::from_secs(secs))));
        format!(
            "{}: {} of {} objects, {} of {}, {rate}/s{left}",
            line.verb,
            line.objects,
            line.objects_total,
            HumanBytes(line.bytes),
            HumanBytes(line.bytes_total)
        )
    }
}

/// Time left at the rate so far.
fn seconds_left(done: u64, total: u64, seconds: f64) -> Option<u64> {
    (done > 0 && total >= done).then(|| (seconds * (total - done) as f64 / done as f64).ceil() as u64)
}

fn bar(verb: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(verb);
    bar
}

/// One line of JSON on standard output; without a reader it goes nowhere.
pub(crate) fn json(value: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(value) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_rate_and_never_divides_by_nothing() {
        assert_eq!(seconds_left(0, 100, 10.0), None);
        assert_eq!(seconds_left(25, 100, 10.0), Some(30));
        assert_eq!(seconds_left(100, 100, 10.0), Some(0));
        assert_eq!(seconds_left(120, 100, 10.0), None);
    }

    #[test]
    fn a_line_says_objects_bytes_rate_and_time_left() {
        let progress = Progress {
            shown: Shown::Lines,
            verb: "mirror",
            began: Instant::now().checked_sub(Duration::from_secs(2)).unwrap(),
            objects: Counter::default(),
            bytes: Counter::default(),
            last: Mutex::new(Some(Instant::now())),
        };
        progress.total(10, 4 << 20);
        progress.bytes(1 << 20);
        progress.objects(3);
        let line = progress.sentence();
        assert!(line.starts_with("mirror: 3 of 10 objects, 1.00 MiB of 4.00 MiB, "), "{line}");
        assert!(line.ends_with("s left") || line.ends_with("seconds left"), "{line}");
    }
}
