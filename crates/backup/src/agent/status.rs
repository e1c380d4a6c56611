//! How the agent is: kept by what its parts tell, shown as metrics, as health and as JSON.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eyrie_archive::record::Drilled;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::Serialize;

use super::jobs::Job;
use crate::expire::Outcome;
use crate::history::TimeMs;
use crate::limits::HEARD_REMEMBERED;
use crate::tell::News;
use crate::verify::Report;

/// The agent's condition.
#[derive(Debug)]
pub struct Status {
    state: Mutex<State>,
    metrics: Metrics,
}

/// What is known now; also the answer of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct State {
    /// The tail is running.
    pub running: bool,
    /// Why it is not.
    pub trouble: Option<String>,
    /// The source's newest revision that was heard of.
    pub source_revision: i64,
    /// The archive holds everything up to here.
    pub archived_revision: i64,
    /// With all objects.
    pub recoverable_revision: i64,
    /// The source was heard last.
    pub heard_at_ms: u64,
    /// Objects that wait to be copied.
    pub objects_open: u64,
    /// For each job: when it last succeeded.
    pub succeeded_at_ms: BTreeMap<&'static str, u64>,
    /// For each job that failed last: why.
    pub failures: BTreeMap<&'static str, String>,
    /// Revisions that are not archived yet: the last one of each message, and when it came.
    #[serde(skip)]
    behind: VecDeque<(i64, u64)>,
    /// Fulls that were taken, and that failed since the last one.
    #[serde(skip)]
    fulls: (u64, u64),
    /// Counts of the current run, for the differences.
    #[serde(skip)]
    copied: (u64, u64, u64),
}

#[derive(Debug)]
struct Metrics {
    registry: Registry,
    up: IntGauge,
    last_success: IntGaugeVec,
    runs: IntCounterVec,
    failures: IntCounterVec,
    lag_secs: Gauge,
    lag_revisions: IntGauge,
    revision: IntGaugeVec,
    bytes: IntCounterVec,
    objects: IntCounter,
    objects_open: IntGauge,
    holes: IntCounter,
    damaged: IntGauge,
    verified_bytes: IntCounter,
    expired_files: IntCounter,
    locked_files: IntGauge,
    drill_ok: IntGauge,
    drill_secs: GaugeVec,
    notices_failed: IntCounter,
}

impl Default for Status {
    fn default() -> Self {
        Self { state: Mutex::default(), metrics: Metrics::new() }
    }
}

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        let keep = |metric: Box<dyn prometheus::core::Collector>| {
            registry.register(metric).expect("every metric is registered once");
        };
        macro_rules! metric {
            ($kind:ident, $name:literal, $help:literal) => {{
                let metric = $kind::with_opts(Opts::new(concat!("eyrie_backup_", $name), $help)).expect("a good name");
                keep(Box::new(metric.clone()));
                metric
            }};
            ($kind:ident, $name:literal, $help:literal, $($label:literal),+) => {{
                let options = Opts::new(concat!("eyrie_backup_", $name), $help);
                let metric = $kind::new(options, &[$($label),+]).expect("a good name");
                keep(Box::new(metric.clone()));
                metric
            }};
        }
        let up = metric!(IntGauge, "up", "1 while the source is followed");
        let last_success =
            metric!(IntGaugeVec, "last_success_timestamp_seconds", "When a job last succeeded, 0: never", "job");
        let runs = metric!(IntCounterVec, "job_runs_total", "Runs of a job that ended", "job", "result");
        let failures = metric!(IntCounterVec, "failures_total", "Things that failed and are tried again", "what");
        let lag_secs = metric!(Gauge, "lag_seconds", "How far the archive is behind the source");
        let lag_revisions = metric!(IntGauge, "lag_revisions", "Revisions that were heard and are not archived");
        let revision = metric!(IntGaugeVec, "revision", "Newest revision: source, archived, recoverable", "of");
        let bytes =
            metric!(IntCounterVec, "stored_bytes_total", "Bytes: full and tail as stored, objects as read", "what");
        let objects = metric!(IntCounter, "objects_copied_total", "Objects that were copied");
        let objects_open = metric!(IntGauge, "objects_open", "Objects that wait to be copied");
        let holes = metric!(IntCounter, "holes_total", "Holes that were found: revisions whose objects are gone");
        let damaged =
            metric!(IntGauge, "damaged_files", "Files of the archive that the last verification found damaged");
        let verified_bytes = metric!(IntCounter, "verified_bytes_total", "Bytes that verifications read");
        let expired_files = metric!(IntCounter, "expired_files_total", "Files that retention deleted");
        let locked_files = metric!(IntGauge, "locked_files", "Files that the store refused to delete last time");
        let drill_ok = metric!(IntGauge, "drill_ok", "1: the last drill succeeded, 0: it failed, -1: none yet");
        let drill_secs = metric!(GaugeVec, "drill_seconds", "Of the last drill: rpo, rto", "of");
        let notices_failed = metric!(IntCounter, "notices_failed_total", "Notices that could not be delivered");
        drill_ok.set(-1);
        for job in Job::ALL {
            last_success.with_label_values(&[job.word()]).set(0);
            for result in ["ok", "failed"] {
                runs.with_label_values(&[job.word(), result]);
            }
        }
        for what in ["tail", "full", "history", "copy"] {
            failures.with_label_values(&[what]);
        }
        for of in ["source", "archived", "recoverable"] {
            revision.with_label_values(&[of]);
        }
        for what in ["full", "tail", "objects"] {
            bytes.with_label_values(&[what]);
        }
        for of in ["rpo", "rto"] {
            drill_secs.with_label_values(&[of]);
        }
        Self {
            registry,
            up,
            last_success,
            runs,
            failures,
            lag_secs,
            lag_revisions,
            revision,
            bytes,
            objects,
            objects_open,
            holes,
            damaged,
            verified_bytes,
            expired_files,
            locked_files,
            drill_ok,
            drill_secs,
            notices_failed,
        }
    }
}

impl Status {
    /// Takes in what a run tells.
    pub fn hear(&self, news: &News, now: TimeMs) {
        let (mut state, metrics) = (self.state(), &self.metrics);
        match news {
            News::Begun { revision } => {
                (state.running, state.trouble, state.copied) = (true, None, (0, 0, 0));
                state.archived_revision = revision.0;
                state.behind.clear();
                metrics.up.set(1);
            }
            News::Heard { revision } => {
                state.heard_at_ms = now.0;
                state.source_revision = state.source_revision.max(revision.0);
                if revision.0 > state.archived_revision && state.behind.len() < HEARD_REMEMBERED {
                    state.behind.push_back((revision.0, now.0));
                }
            }
            News::UpToDate { revision, .. } => {
                state.heard_at_ms = now.0;
                // after a restore of the source it is lower than before
                state.source_revision = revision.0;
            }
            News::TailCut { last, stored_len, .. } => {
                state.archived_revision = state.archived_revision.max(last.0);
                state.behind.retain(|(revision, _)| *revision > last.0);
                metrics.bytes.with_label_values(&["tail"]).inc_by(*stored_len);
            }
            News::FullTaken { revision, stored_len, .. } => {
                state.archived_revision = state.archived_revision.max(revision.0);
                state.fulls = (state.fulls.0 + 1, 0);
                metrics.bytes.with_label_values(&["full"]).inc_by(*stored_len);
            }
            News::Recoverable { revision } => state.recoverable_revision = revision.0,
            News::Objects(count) => {
                let (objects, bytes, holes) = state.copied;
                metrics.objects.inc_by(count.objects.saturating_sub(objects));
                metrics.bytes.with_label_values(&["objects"]).inc_by(count.bytes.saturating_sub(bytes));
                metrics.holes.inc_by(count.holes.saturating_sub(holes));
                (state.copied, state.objects_open) = ((count.objects, count.bytes, count.holes), count.open);
            }
            News::Failed { what, .. } => {
                state.fulls.1 += u64::from(*what == "full");
                metrics.failures.with_label_values(&[what]).inc();
            }
            News::Said(_)
            | News::Warned(_)
            | News::FullReading { .. }
            | News::FullStoring { .. }
            | News::Verifying { .. }
            | News::Deleting { .. } => {}
        }
    }

    /// The tail has ended, for this reason.
    pub(super) fn broke(&self, why: String) {
        let mut state = self.state();
        (state.running, state.trouble) = (false, Some(why));
        self.metrics.up.set(0);
        self.metrics.failures.with_label_values(&["tail"]).inc();
    }

    /// A job has ended. `true`: it is the first success after failures.
    pub(super) fn ended(&self, job: Job, outcome: Result<(), String>, now: TimeMs) -> bool {
        let mut state = self.state();
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        self.metrics.runs.with_label_values(&[job.word(), result]).inc();
        match outcome {
            Ok(()) => {
                self.metrics.last_success.with_label_values(&[job.word()]).set(secs(now));
                state.succeeded_at_ms.insert(job.word(), now.0);
                state.failures.remove(job.word()).is_some()
            }
            Err(why) => {
                state.failures.insert(job.word(), why);
                false
            }
        }
    }

    /// When a job last succeeded, as remembered from an earlier run.
    pub(super) fn remembered(&self, job: Job, at: TimeMs) {
        self.metrics.last_success.with_label_values(&[job.word()]).set(secs(at));
        self.state().succeeded_at_ms.insert(job.word(), at.0);
    }

    pub(super) fn verified(&self, report: &Report) {
        let damaged = report.damaged_files + report.catalog.len() as u64;
        self.metrics.damaged.set(i64::try_from(damaged).unwrap_or(i64::MAX));
        self.metrics.verified_bytes.inc_by(report.bytes);
    }

    pub(super) fn expired(&self, outcome: &Outcome) {
        self.metrics.expired_files.inc_by(outcome.deleted);
        self.metrics.locked_files.set(i64::try_from(outcome.left.len()).unwrap_or(i64::MAX));
    }

    /// The outcome of a drill.
    pub fn drilled(&self, drilled: &Drilled) {
        self.metrics.drill_ok.set(i64::from(drilled.ok));
        for (of, ms) in [("rpo", drilled.rpo_ms), ("rto", drilled.rto_ms)] {
            self.metrics.drill_secs.with_label_values(&[of]).set(ms as f64 / 1000.0);
        }
    }

    pub(super) fn notice_failed(&self) {
        self.metrics.notices_failed.inc();
    }

    /// Fulls that were taken since the agent began.
    pub(super) fn fulls(&self) -> u64 {
        self.state().fulls.0
    }

    /// Fulls that failed since the last one that did not.
    pub(super) fn full_failures(&self) -> u64 {
        self.state().fulls.1
    }

    /// What is known now.
    pub fn now(&self) -> State {
        self.state().clone()
    }

    /// Prometheus's text.
    pub fn metrics(&self, now: TimeMs) -> String {
        let state = self.now();
        let metrics = &self.metrics;
        metrics.lag_secs.set(state.lag_ms(now) as f64 / 1000.0);
        metrics.lag_revisions.set((state.source_revision - state.archived_revision).max(0));
        metrics.objects_open.set(i64::try_from(state.objects_open).unwrap_or(i64::MAX));
        let revisions = [
            ("source", state.source_revision),
            ("archived", state.archived_revision),
            ("recoverable", state.recoverable_revision),
        ];
        for (of, revision) in revisions {
            metrics.revision.with_label_values(&[of]).set(revision);
        }
        TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How far the archive is behind the source: since when something was heard that is not archived, or, if there is
    /// nothing, since when the source was heard last.
    pub fn lag_ms(&self, now: TimeMs) -> u64 {
        let since = self.behind.front().map_or(self.heard_at_ms, |(_, at)| *at);
        now.0.saturating_sub(since)
    }
}

fn secs(at: TimeMs) -> i64 {
    i64::try_from(at.0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use eyrie_state::Revision;

    use super::*;

    #[test]
    fn the_lag_is_counted_from_the_first_change_that_is_not_safe() {
        let status = Status::default();
        let lag = |at: u64| status.now().lag_ms(TimeMs(at));
        let heard = |revision, at| status.hear(&News::Heard { revision: Revision(revision) }, TimeMs(at));
        let cut = |last, at| {
            let (first, last) = (Revision(last), Revision(last));
            status.hear(&News::TailCut { first, last, events: 1, lag_ms: 0, stored_len: 7 }, TimeMs(at));
        };
        status.hear(&News::Begun { revision: Revision(10) }, TimeMs(0));
        heard(11, 1_000);
        heard(12, 1_500);
        assert_eq!(lag(2_000), 1_000);
        cut(11, 2_100);
        assert_eq!(lag(2_100), 600);
        cut(12, 2_200);
        assert_eq!(lag(2_200), 700, "nothing is waiting: since the source was heard");
        status.hear(&News::UpToDate { revision: Revision(12), at: TimeMs(2_300) }, TimeMs(2_300));
        assert_eq!(lag(2_400), 100);
        let page = status.metrics(TimeMs(2_400));
        assert!(
            page.contains("eyrie_backup_lag_revisions 0") && page.contains("eyrie_backup_lag_seconds 0.1"),
            "{page}"
        );
        assert!(page.contains("eyrie_backup_stored_bytes_total{what=\"tail\"} 14"), "{page}");
        assert!(page.contains("eyrie_backup_revision{of=\"archived\"} 12"), "{page}");
    }
}
