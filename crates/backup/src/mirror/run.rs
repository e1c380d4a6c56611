//! One run of a mirror.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt;
use serde::Serialize;

use super::Progress;
use super::plan::{CopyStep, Gap, Plan, Refusal, Side, Why, plan};
use crate::bucket::{Bucket, BucketError, CopyCheck, Entry, Kind, Listed, Pace};
use crate::limits::{FAILURES_KEPT, LISTED_BETWEEN_REPORTS, MIRROR_PROGRESS_EVERY as PROGRESS_EVERY};

/// How to mirror.
#[derive(Clone, Default)]
pub struct Options {
    /// Objects that only the target has are removed, after all copies succeeded.
    pub remove: bool,
    /// Also when the source is empty.
    pub remove_if_source_is_empty: bool,
    /// Only the plan is made.
    pub dry_run: bool,
    /// Contents are compared, not lengths and times: every byte of both sides is read.
    pub checksum: bool,
    /// Copies at once; by default what the target takes.
    pub parallel: Option<usize>,
    /// Limit on what is read from the source.
    pub pace: Option<Pace>,
}

/// An object that could not be copied, compared or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its name.
    pub key: String,
    /// The kind, as a word.
    pub kind: &'static str,
    /// The whole message.
    pub error: String,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Objects that were copied.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Bytes that came through here; the rest was copied by the store itself.
    pub moved_bytes: u64,
    /// Objects that were equal already.
    pub same: u64,
    /// Objects that were removed from the target.
    pub removed: u64,
    /// Objects that vanished from the source between the listing and their copy.
    pub vanished: u64,
    /// Objects that only the target has.
    pub extra: u64,
    /// What could not be done; the first hundred of it.
    pub failures: Vec<Failure>,
    /// How much could not be done.
    pub failed: u64,
    /// What was left alone, because it is no object or has a name that can't be kept.
    pub gaps: Vec<Gap>,
    /// Why the run ended before its plan did.
    pub stopped: Option<String>,
}

impl Report {
    /// Whether the target has all that the source has.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.stopped.is_none() && self.gaps.iter().all(|gap| gap.side == Side::Target)
    }
}

/// Why a run did nothing.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A bucket could not be listed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The plan is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Makes `target` equal to `source`, once. The answer has the plan, too.
///
/// # Errors
/// [`MirrorError`], when nothing was done. What fails for single objects stands in the report.
pub async fn mirror(
    source: &Bucket,
    target: &Bucket,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Plan, Report), MirrorError> {
    let moved = Arc::<AtomicU64>::default();
    let run = Run {
        source: match &options.pace {
            Some(pace) => source.with_pace(Some(pace.clone())).with_meter(moved.clone()),
            None => source.with_meter(moved.clone()),
        },
        target,
        parallel: options.parallel.unwrap_or_else(|| target.parallel()).max(1),
        progress,
        moved,
        stop: AtomicBool::new(false),
    };
    let mut plan = run.plan(options).await?;
    if options.checksum {
        run.compare_contents(&mut plan).await?;
    }
    progress.planned(&plan);
    let mut report = Report { same: plan.same, extra: plan.extra, gaps: plan.gaps.clone(), ..Report::default() };
    if !options.dry_run {
        run.copy(&plan, &mut report).await;
        run.remove(&plan, &mut report).await;
    }
    Ok((plan, report))
}

struct Run<'a> {
    source: Bucket,
    target: &'a Bucket,
    parallel: usize,
    progress: &'a dyn Progress,
    moved: Arc<AtomicU64>,
    /// Set when going on makes no sense.
    stop: AtomicBool,
}

enum Done {
    Copied { key: String, len: u64 },
    Vanished,
    Failed(Failure),
    Skipped,
}

impl Run<'_> {
    async fn plan(&self, options: &Options) -> Result<Plan, MirrorError> {
        let (from, to) = (AtomicU64::new(0), AtomicU64::new(0));
        let tell = || self.progress.listing(from.load(Ordering::Relaxed), to.load(Ordering::Relaxed));
        let source = list(&self.source, Side::Source, &from, &tell);
        let target = async {
            match list(self.target, Side::Target, &to, &tell).await {
                // A target folder that is not there yet is an empty one.
                Err(error) if error.is_not_found() => Ok((Vec::new(), Vec::new())),
                listed => listed,
            }
        };
        let ((source, mut gaps), (target, more)) = futures::try_join!(source, target)?;
        gaps.extend(more);
        let mut plan = plan(source, target, options.remove, options.remove_if_source_is_empty)?;
        plan.gaps = gaps;
        Ok(plan)
    }

    /// Reads both sides of what looks the same, and plans a copy where they differ.
    async fn compare_contents(&self, plan: &mut Plan) -> Result<(), MirrorError> {
        // Listed again: the plan keeps no names of what is the same, since that is nearly everything nearly always.
        let planned: std::collections::BTreeSet<String> = plan.copies.iter().map(|step| step.key.clone()).collect();
        let compared = self
            .source
            .list("")
            .map(|entry| async {
                let entry = entry?;
                if planned.contains(&entry.key) {
                    return Ok(None);
                }
                let (ours, theirs) =
                    futures::try_join!(self.source.sha256(&entry.key), self.target.sha256(&entry.key))?;
                let step = CopyStep { key: entry.key, len: ours.0, why: Why::Content };
                Ok::<_, BucketError>((ours != theirs).then_some(step))
            })
            .buffer_unordered(self.parallel);
        let mut compared = std::pin::pin!(compared);
        while let Some(step) = compared.next().await {
            match step {
                Ok(Some(step)) => {
                    plan.same = plan.same.saturating_sub(1);
                    plan.same_bytes = plan.same_bytes.saturating_sub(step.len);
                    plan.copies.push(step);
                }
                Ok(None) => {}
                // Gone meanwhile on either side: the next run sees it.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        plan.copies.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(())
    }

    async fn copy(&self, plan: &Plan, report: &mut Report) {
        // Reading for a comparison was counted, too.
        let before = self.moved.load(Ordering::Relaxed);
        let mut told = before;
        let steps = futures::stream::iter(&plan.copies).map(|step| self.copy_one(step));
        let mut done = std::pin::pin!(steps.buffer_unordered(self.parallel));
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        loop {
            let next = tokio::select! {
                next = done.next() => next,
                _ = tick.tick() => {
                    self.tell_moved(&mut told);
                    continue;
                }
            };
            let Some(next) = next else { break };
            self.tell_moved(&mut told);
            match next {
                Done::Copied { key, len } => {
                    report.copied += 1;
                    report.copied_bytes += len;
                    self.progress.copied(&key, len);
                }
                Done::Vanished => report.vanished += 1,
                Done::Skipped => {}
                Done::Failed(failure) => self.note(report, failure),
            }
        }
        report.moved_bytes = self.moved.load(Ordering::Relaxed) - before;
        if self.stop.load(Ordering::Relaxed) {
            let left = plan.copies.len() as u64 - report.copied - report.failed - report.vanished;
            report.stopped = Some(format!("{left} more objects were not tried, as they would fail in the same way"));
        }
    }

    fn tell_moved(&self, told: &mut u64) {
        let moved = self.moved.load(Ordering::Relaxed);
        if moved > *told {
            self.progress.moved(moved - *told);
            *told = moved;
        }
    }

    async fn copy_one(&self, step: &CopyStep) -> Done {
        if self.stop.load(Ordering::Relaxed) {
            return Done::Skipped;
        }
        let source = &self.source;
        match self.target.copy_from(source, &step.key, &step.key, CopyCheck::Length).await {
            Ok(copied) => {
                if copied.server_side {
                    self.progress.moved(copied.len);
                }
                Done::Copied { key: step.key.clone(), len: copied.len }
            }
            Err(error) if error.is_not_found() && error.place == source.to_string() => Done::Vanished,
            Err(error) => {
                // One object of the source may be closed to us alone; a target that is closed is so for all.
                let at_target = error.place == self.target.to_string();
                if matches!(error.kind, Kind::Expired | Kind::Full) || (error.kind == Kind::Denied && at_target) {
                    self.stop.store(true, Ordering::Relaxed);
                }
                Done::Failed(failure(&step.key, &error))
            }
        }
    }

    async fn remove(&self, plan: &Plan, report: &mut Report) {
        if plan.removals.is_empty() {
            return;
        }
        if !report.is_complete() {
            let why = format!("{} objects were not removed, since not everything could be copied", plan.removals.len());
            report.stopped = Some(report.stopped.take().map_or(why.clone(), |first| format!("{first}; {why}")));
            return;
        }
        let steps = futures::stream::iter(&plan.removals)
            .map(|removal| async { (&removal.key, self.target.delete(&removal.key).await) });
        let mut done = std::pin::pin!(steps.buffer_unordered(self.parallel));
        while let Some((key, removed)) = done.next().await {
            match removed {
                Ok(()) => {
                    report.removed += 1;
                    self.progress.removed(key);
                }
                Err(error) => self.note(report, failure(key, &error)),
            }
        }
    }

    fn note(&self, report: &mut Report, failure: Failure) {
        report.failed += 1;
        self.progress.failed(&failure);
        if report.failures.len() < FAILURES_KEPT {
            report.failures.push(failure);
        }
    }
}

fn failure(key: &str, error: &BucketError) -> Failure {
    Failure { key: key.to_owned(), kind: error.kind.word(), error: error.to_string() }
}

/// Lists a side as a whole; a listing that breaks off is an error, never a shorter list.
async fn list(
    bucket: &Bucket,
    side: Side,
    count: &AtomicU64,
    tell: &(dyn Fn() + Sync),
) -> Result<(Vec<Entry>, Vec<Gap>), BucketError> {
    let (mut entries, mut gaps) = (Vec::new(), Vec::new());
    let mut listed = bucket.list_all("");
    while let Some(item) = listed.next().await {
        match item? {
            Listed::Object(entry) => entries.push(entry),
            Listed::Odd { name, why } => gaps.push(Gap { side, name, why }),
        }
        if count.fetch_add(1, Ordering::Relaxed) % LISTED_BETWEEN_REPORTS == 0 {
            tell();
        }
    }
    Ok((entries, gaps))
}
