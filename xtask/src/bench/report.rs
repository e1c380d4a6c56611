//! From figures to the table: medians, ratios, and which target is met.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::sides::Side;

/// What a figure must reach.
#[derive(Clone, Copy)]
enum Target {
    /// Eyrie's figure by upstream's must be at least this.
    RatioAtLeast(f64),
    /// Eyrie's figure by upstream's must be at most this.
    RatioAtMost(f64),
    /// Eyrie's own figure must be at most this.
    OwnAtMost(f64),
    /// Printed so that the others can be understood.
    None,
}

/// One line of the table.
struct Figure {
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    target: Target,
}

const fn figure(id: &'static str, what: &'static str, unit: &'static str, target: Target) -> Figure {
    Figure { id, what, unit, target }
}

use Target::{None as Shown, OwnAtMost, RatioAtLeast, RatioAtMost};

const FIGURES: &[Figure] = &[
    figure("put.rate", "put 256 B, distinct keys: throughput", "/s", RatioAtLeast(3.0)),
    figure("put.cpu", "put: server CPU per 100k", "s", RatioAtMost(1.0 / 3.0)),
    figure("put.p50", "put: p50 at full speed", "ms", Shown),
    figure("put.p99", "put: p99 at full speed", "ms", Shown),
    figure("put.client", "put: load generator's CPU per call", "µs", Shown),
    figure("latency.offered", "put at equal load: offered", "/s", Shown),
    figure("latency.rate", "put at equal load: answered", "/s", Shown),
    figure("latency.p50", "put at equal load: p50", "ms", Shown),
    figure("latency.p99", "put at equal load: p99", "ms", RatioAtMost(0.5)),
    figure("latency.max", "put at equal load: longest", "ms", Shown),
    figure("latency.failed", "put at equal load: refused", "", OwnAtMost(0.0)),
    figure("latency.cpu", "put at equal load: server CPU per 100k", "s", Shown),
    figure("range.linearizable.rate", "linearizable range of one key: throughput", "/s", RatioAtLeast(2.5)),
    figure("range.linearizable.cpu", "linearizable range: server CPU per 100k", "s", RatioAtMost(0.4)),
    figure("range.linearizable.p50", "linearizable range: p50", "ms", Shown),
    figure("range.linearizable.p99", "linearizable range: p99", "ms", Shown),
    figure("range.linearizable.client", "linearizable range: load generator's CPU per call", "µs", Shown),
    figure("range.serializable.rate", "serializable range of one key: throughput", "/s", RatioAtLeast(2.5)),
    figure("range.serializable.cpu", "serializable range: server CPU per 100k", "s", RatioAtMost(0.4)),
    figure("range.serializable.p50", "serializable range: p50", "ms", Shown),
    figure("range.serializable.p99", "serializable range: p99", "ms", Shown),
    figure("range.serializable.client", "serializable range: load generator's CPU per call", "µs", Shown),
    figure("memory.loaded", "anonymous memory after the puts", "MiB", RatioAtMost(1.0 / 3.0)),
    figure("memory.restarted", "anonymous memory after a restart", "MiB", RatioAtMost(1.0 / 3.0)),
    figure("start.time", "start on that data dir, to the first linearizable read", "s", RatioAtMost(0.2)),
    figure("snapshot.save", "snapshot save", "s", RatioAtMost(0.5)),
    figure("snapshot.restore", "snapshot restore", "s", RatioAtMost(0.2)),
    figure("watch.rate", "1,000 watchers on one prefix: events delivered", "/s", RatioAtLeast(3.0)),
    figure("watch.cpu", "watchers: server CPU per event", "µs", Shown),
    figure("watch.client", "watchers: load generator's CPU per event", "µs", Shown),
    figure("cluster.put.rate", "three members, put 256 B: throughput", "/s", RatioAtLeast(2.5)),
    figure("cluster.put.cpu", "three members, put: CPU of all per 100k", "s", RatioAtMost(0.4)),
    figure("cluster.put.p50", "three members, put: p50 at full speed", "ms", Shown),
    figure("cluster.put.p99", "three members, put: p99 at full speed", "ms", Shown),
    figure("cluster.put.client", "three members, put: load generator's CPU per call", "µs", Shown),
    figure("cluster.latency.offered", "three members, put at equal load: offered", "/s", Shown),
    figure("cluster.latency.rate", "three members, put at equal load: answered", "/s", Shown),
    figure("cluster.latency.p50", "three members, put at equal load: p50", "ms", Shown),
    figure("cluster.latency.p99", "three members, put at equal load: p99", "ms", RatioAtMost(0.5)),
    figure("cluster.latency.max", "three members, put at equal load: longest", "ms", Shown),
    figure("cluster.latency.failed", "three members, put at equal load: refused", "", OwnAtMost(0.0)),
    figure("cluster.range.rate", "linearizable range through a follower: throughput", "/s", RatioAtLeast(2.5)),
    figure("cluster.range.cpu", "… CPU of all members per 100k", "s", Shown),
    figure("cluster.range.p50", "… p50", "ms", Shown),
    figure("cluster.range.p99", "… p99", "ms", Shown),
    figure("cluster.range.client", "… load generator's CPU per call", "µs", Shown),
    figure("housekeeping.idle.p99", "put p99, idle", "ms", Shown),
    figure("housekeeping.snapshot.p99", "put p99 during a snapshot", "ms", Shown),
    figure("housekeeping.snapshot.ratio", "… by the idle p99", "×", OwnAtMost(3.0)),
    figure("housekeeping.snapshot.time", "… which took", "s", Shown),
    figure("housekeeping.defragment.p99", "put p99 during defragmentation", "ms", Shown),
    figure("housekeeping.defragment.ratio", "… by the idle p99", "×", OwnAtMost(3.0)),
    figure("housekeeping.defragment.time", "… which took", "s", Shown),
    figure("housekeeping.compact.p99", "put p99 during compaction", "ms", Shown),
    figure("housekeeping.compact.ratio", "… by the idle p99", "×", OwnAtMost(3.0)),
    figure("housekeeping.compact.time", "… which took", "s", Shown),
    figure("housekeeping.failed", "puts refused during housekeeping", "", OwnAtMost(0.0)),
];

/// All figures of all rounds.
#[derive(Default)]
pub(crate) struct Results {
    figures: HashMap<(&'static str, &'static str), Vec<f64>>,
}

impl Results {
    /// Adds one round's figure.
    ///
    /// # Panics
    /// When the table has no such line.
    pub(crate) fn add(&mut self, side: &Side, id: &str, value: f64) {
        let known = FIGURES.iter().find(|figure| figure.id == id);
        let known = known.unwrap_or_else(|| panic!("no line in the table for {id}"));
        self.figures.entry((known.id, side.name)).or_default().push(value);
        eprintln!("    {:9} {:58} {:>12} {}", side.name, known.what, pretty(value), known.unit);
    }

    /// The table as Markdown, which reads well on a terminal too.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![["", "upstream", "eyrie", "ratio", "target", ""].map(str::to_string)];
        rows.extend(FIGURES.iter().filter_map(|figure| self.row(figure)));
        let widths: Vec<usize> =
            (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
        let mut table = String::new();
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(table, "| {cell:width$} ");
            }
            table.push_str("|\n");
            if number == 0 {
                let line: String = widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))).collect();
                let _ = writeln!(table, "{line}|");
            }
        }
        table
    }

    /// How many targets there were figures for, and how many of them were missed.
    pub(crate) fn missed(&self) -> (usize, usize) {
        let met: Vec<bool> = FIGURES.iter().filter_map(|figure| self.met(figure)).collect();
        (met.len(), met.iter().filter(|met| !**met).count())
    }

    fn row(&self, figure: &Figure) -> Option<[String; 6]> {
        let (upstream, eyrie) = self.both(figure)?;
        let target = match figure.target {
            RatioAtLeast(ratio) => format!("≥ {}", pretty(ratio)),
            RatioAtMost(ratio) => format!("≤ {}", pretty(ratio)),
            OwnAtMost(value) => format!("own ≤ {}", pretty(value)),
            Shown => String::new(),
        };
        let verdict = match self.met(figure) {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let ratio = median(eyrie) / median(upstream);
        Some([
            figure.what.to_string(),
            cell(upstream, figure.unit),
            cell(eyrie, figure.unit),
            if ratio.is_finite() { pretty(ratio) } else { "–".to_string() },
            target,
            verdict.to_string(),
        ])
    }

    fn met(&self, figure: &Figure) -> Option<bool> {
        let (upstream, eyrie) = self.both(figure)?;
        let ratio = median(eyrie) / median(upstream);
        match figure.target {
            RatioAtLeast(wanted) => Some(ratio >= wanted),
            RatioAtMost(wanted) => Some(ratio <= wanted),
            OwnAtMost(wanted) => Some(median(eyrie) <= wanted),
            Shown => None,
        }
    }

    fn both(&self, figure: &Figure) -> Option<(&[f64], &[f64])> {
        Some((self.figures.get(&(figure.id, "upstream"))?, self.figures.get(&(figure.id, "eyrie"))?))
    }
}

/// The median with the spread around it.
fn cell(values: &[f64], unit: &str) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    let spread = if values.len() > 1 { format!(" ({}–{})", pretty(low), pretty(high)) } else { String::new() };
    format!("{} {unit}{spread}", pretty(median(values)))
}

/// The middle one, or what lies between the two in the middle; no number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        return f64::NAN;
    }
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// Three digits that count.
fn pretty(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let said = [1_234_567.0, 999.6, 12.345, 1.5, 0.0, 0.04321].map(pretty);
        assert_eq!(said, ["1,234,567", "1000", "12.3", "1.50", "0.00", "0.043"]);
    }

    #[test]
    fn a_missed_target_is_said() {
        let mut results = Results::default();
        for (side, values) in [("upstream", [10.0, 12.0, 11.0]), ("eyrie", [22.0, 20.0, 90.0])] {
            results.figures.insert(("put.rate", side), values.to_vec());
        }
        results.figures.insert(("start.time", "upstream"), vec![2.0]);
        results.figures.insert(("start.time", "eyrie"), vec![0.2]);
        let table = results.table();
        let line = |what: &str| table.lines().find(|line| line.contains(what)).unwrap_or_default().to_string();
        assert!(line("throughput").contains("MISSED") && line("throughput").contains("| 2.00 "), "{table}");
        assert!(line("start on").contains("met"), "{table}");
        assert_eq!(results.missed(), (2, 1));
    }
}
