//! The run: full where history needs one, then every revision, cut, stored and recorded, and the mirror beside it.
//!
//! ```text
//!            ┌─ follow ─▶ cutter ─▶ store (one piece at a time) ─▶ record TailCut ─┐
//!  begin ────┤                                                                      ├─▶ recoverable up to …
//!            └─ ledger ─▶ copies ─▶ index piece ─▶ record ObjectsMirrored ──────────┘
//! ```
//! One task owns the writer and writes all records; storing and copying run beside it. When the bucket is slow, revisions
//! wait here up to a limit, then in the source, which forgets nothing but what is compacted: that is a gap, and it is
//! named, and a new full follows.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Instant;

use eyrie_archive::record::{FullTaken, GapCause, GapFound, Progress};
use eyrie_archive::{Kind, Revision};
use tokio::task::JoinHandle;

use super::begin::anchor_of;
use super::cutter::Cutter;
use super::merging::{self, Merges};
use super::orders::{self, Orders, Sweeping};
use super::pieces::Storing;
use crate::catalog::{self, OpenOptions, Writer};
use crate::history::TimeMs;
use crate::limits::{COPY_FAILURES_MAX, PROGRESS_RECORD_EVERY, RECONCILE_EVERY, TAIL_WAITING_MAX, TICK};
use crate::objects::Mirror;
use crate::source::{self, Break, Follow, Heard};
use crate::take::{Backup, BackupError, Full};
use crate::tell::News;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Takes a full, archives history up to it, and ends when all of it is recoverable: `take`.
    CaughtUp,
    /// Goes on until it is stopped: `tail`.
    Stopped,
}

/// What a run has done.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Done {
    /// Fulls that were taken, by revision.
    pub fulls: Vec<i64>,
    /// Pieces of tail.
    pub pieces: u64,
    /// Events in them.
    pub events: u64,
    /// The archive's newest revision.
    pub revision: i64,
    /// Everything up to here is recoverable, objects included; absent: not yet, or no objects are kept.
    pub mirrored_to: Option<i64>,
    /// Objects that were copied.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Revisions that need objects which are gone.
    pub holes: u64,
}

impl Backup {
    /// Runs until what was wanted is reached, or `stop` ends. Stopped, it stores what it has heard and ends well.
    ///
    /// # Errors
    /// See [`BackupError`]. What was recorded is whole; the next run goes on there.
    pub async fn run(
        &self,
        until: Until,
        options: &OpenOptions,
        stop: impl Future<Output = ()>,
    ) -> Result<Done, BackupError> {
        self.run_with(until, options, None, stop).await
    }

    /// The same, and carries out the orders of others.
    ///
    /// # Errors
    /// As [`Backup::run`].
    pub async fn run_with(
        &self,
        until: Until,
        options: &OpenOptions,
        mut orders: Option<&mut Orders>,
        stop: impl Future<Output = ()>,
    ) -> Result<Done, BackupError> {
        tokio::pin!(stop);
        let mut run = tokio::select! {
            run = Run::begin(self, until, options) => run?,
            () = &mut stop => return Ok(Done::default()),
        };
        if let Some(newest) = run.writer.catalog().current().newest_revision() {
            self.tell.news(News::Begun { revision: eyrie_state::Revision(newest.0) });
            run.tell_recoverable();
        }
        loop {
            let ended = run.follow_until_break(until, &mut orders, &mut stop).await?;
            match ended {
                Ended::Reached | Ended::Stopped => return run.finish().await,
                Ended::Broke(reason) => run.mend(reason).await?,
            }
        }
    }
}

enum Ended {
    Reached,
    Stopped,
    Broke(Break),
}

pub(super) struct Run<'a> {
    pub(super) backup: &'a Backup,
    pub(super) writer: Writer,
    pub(super) mirror: Option<Mirror>,
    /// An expiry deletes.
    pub(super) sweeping: Option<Sweeping>,
    pub(super) merges: Merges,
    pub(super) cutter: Cutter,
    pub(super) storing: Option<Storing>,
    pub(super) follow: Follow,
    /// Revisions up to this one are in the archive already and are only shown to the ledger.
    pub(super) skip_to: Revision,
    /// What the last of those must be.
    pub(super) skip_end: Option<[u8; 32]>,
    /// The hash that the next piece names as the one before.
    pub(super) previous: [u8; 32],
    pub(super) up_to_date: Option<(Revision, TimeMs)>,
    pub(super) full_at: Instant,
    pub(super) reconciled_at: Instant,
    pub(super) told_recoverable: Revision,
    pub(super) full: Option<JoinHandle<Result<(Full, FullTaken), BackupError>>>,
    /// A full that is stored, and is recorded once the tail has come as far and tells the same of its revision.
    pub(super) full_stored: Option<(Full, FullTaken)>,
    /// A full is wanted as soon as the follower has seen that the history is ours.
    pub(super) full_wanted: bool,
    pub(super) anchored: bool,
    /// What the tail tells of the revisions that were heard while a full is on its way.
    pub(super) heard: BTreeMap<Revision, [u8; 32]>,
    /// `take`: the run ends when this revision is archived and recoverable.
    pub(super) goal: Option<Revision>,
    pub(super) done: Done,
}

impl Run<'_> {
    /// The main loop, until history breaks off, the goal is reached, or somebody says stop.
    async fn follow_until_break(
        &mut self,
        until: Until,
        orders: &mut Option<&mut Orders>,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Ended, BackupError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let hungry = self.cutter.weight() < TAIL_WAITING_MAX;
            tokio::select! {
                () = &mut *stop => return Ok(Ended::Stopped),
                heard = self.follow.next(), if hungry => match heard {
                    Ok(heard) => if let Some(reason) = self.hear(heard) { return Ok(Ended::Broke(reason)) },
                    Err(Break::Source(error)) if !error.is_passing() => return Err(error.into()),
                    Err(reason) => return Ok(Ended::Broke(reason)),
                },
                stored = joined(self.storing.as_mut().map(|storing| &mut storing.task)) => self.record_piece(stored).await?,
                full = joined(self.full.as_mut()) => self.take_in_full(full)?,
                copied = copied(self.mirror.as_mut()) => copied?,
                swept = orders::swept(self.sweeping.as_mut()) => self.take_in_sweep(swept).await?,
                merged = merging::merged(&mut self.merges) => self.take_in_merge(merged).await?,
                order = Orders::next(orders.as_deref_mut()) => self.obey(order).await?,
                _ = tick.tick() => {}
            }
            self.step().await?;
            if until == Until::CaughtUp && self.is_at_goal() {
                return Ok(Ended::Reached);
            }
        }
    }

    /// What is due after anything happened.
    async fn step(&mut self) -> Result<(), BackupError> {
        if self.storing.is_none() && self.cutter.is_due(Instant::now()) {
            self.store_piece();
        }
        self.merge_if_due();
        if let Some(mirror) = &mut self.mirror {
            mirror.pump();
            if mirror.is_due() {
                mirror.settle(&mut self.writer).await?;
                self.backup.tell.news(News::Objects(mirror.count()));
            }
            if self.goal.is_some() {
                mirror.give_up_after(COPY_FAILURES_MAX)?;
            }
            if let Some(trouble) = mirror.take_trouble() {
                self.backup.tell.fail("copy", format!("a copy failed: {trouble}"));
            }
            if self.reconciled_at.elapsed() > RECONCILE_EVERY {
                self.reconciled_at = Instant::now();
                mirror.ledger().look_again();
            }
        }
        if self.backup.config.tail.full_every().is_some_and(|every| self.full_at.elapsed() > every) {
            self.full_at = Instant::now();
            self.full_wanted = true;
        }
        if self.full_wanted && self.anchored {
            self.start_full();
        }
        self.record_stored_full().await?;
        self.say_progress().await
    }

    fn hear(&mut self, heard: Heard) -> Option<Break> {
        match heard {
            Heard::Trouble(why) => self.backup.tell.warn(format!("the source is lost, trying again: {why}")),
            Heard::UpToDate { revision, at } => {
                self.anchored = true;
                self.up_to_date = Some((Revision(revision.0), at));
                self.backup.tell.news(News::UpToDate { revision, at });
            }
            Heard::Revisions(revisions) => {
                if let Some(last) = revisions.last() {
                    self.backup.tell.news(News::Heard { revision: last.revision });
                }
                if let Some(mirror) = &mut self.mirror {
                    mirror.follow(&revisions);
                }
                self.anchored |= revisions.last().is_some_and(|last| last.revision.0 >= self.skip_to.0);
                let now = Instant::now();
                for revised in revisions {
                    let revision = Revision(revised.revision.0);
                    if self.full.is_some() || self.full_stored.is_some() {
                        self.heard.insert(revision, source::digest(&revised));
                    }
                    if revision > self.skip_to {
                        self.cutter.push(revised, now);
                    } else if revision == self.skip_to
                        && self.skip_end.is_some_and(|end| end != source::digest(&revised))
                    {
                        return Some(Break::Diverged { last: revised.revision });
                    }
                }
            }
        }
        None
    }

    fn is_at_goal(&self) -> bool {
        let line = self.writer.catalog().current();
        let (Some(goal), Some(head)) = (self.goal, line.tail_head) else { return false };
        if head < goal || self.full_wanted || self.full.is_some() || self.full_stored.is_some() {
            return false;
        }
        self.mirror.is_none() || line.mirrored_to.is_some_and(|to| to >= goal)
    }

    /// Says in the catalogue that the archive is up to date, when the source has just said so and nothing is on its way:
    /// at once when the mirror has caught up, else now and then, as a sign of life.
    async fn say_progress(&mut self) -> Result<(), BackupError> {
        let line = self.writer.catalog().current();
        let (Some(newest), Some((revision, _))) = (line.tail_head, self.up_to_date) else { return Ok(()) };
        if revision != newest || self.storing.is_some() || self.cutter.weight() > 0 {
            return Ok(());
        }
        let mirrored_to = self.mirror.as_ref().and_then(|mirror| mirror.mirrored_to(self.writer.catalog(), None));
        let quiet = catalog::now().since(self.writer.catalog().head_at_ms());
        if mirrored_to <= line.mirrored_to && u128::from(quiet) < PROGRESS_RECORD_EVERY.as_millis() {
            return Ok(());
        }
        self.writer.append(Kind::Progress(Progress { revision, mirrored_to })).await?;
        self.tell_recoverable();
        Ok(())
    }

    pub(super) fn tell_recoverable(&mut self) {
        let line = self.writer.catalog().current();
        let to = if line.source.objects { line.mirrored_to.min(line.tail_head) } else { line.tail_head };
        if let Some(to) = to.filter(|to| *to > self.told_recoverable) {
            self.told_recoverable = to;
            self.backup.tell.news(News::Recoverable { revision: eyrie_state::Revision(to.0) });
        }
    }

    /// History broke off: what was heard before is stored, the break is named, a new full begins what follows.
    async fn mend(&mut self, reason: Break) -> Result<(), BackupError> {
        self.backup.tell.fail("history", format!("{reason}; a new full is taken"));
        let other = reason.is_other_history();
        self.flush().await?;
        if let Some(mirror) = &mut self.mirror {
            mirror.settle(&mut self.writer).await?;
        }
        if let Some(task) = self.full.take() {
            task.abort();
        }
        (self.full_stored, self.full_wanted, self.anchored) = (None, false, false);
        let head = self.writer.catalog().current().tail_head;
        if let (false, Some(head)) = (other, head) {
            let cause = match &reason {
                Break::Compacted { .. } => GapCause::Compacted,
                Break::Missing { .. } => GapCause::Damaged,
                _ => GapCause::Other,
            };
            let gap = GapFound { from: head.next(), to: None, cause, detail: reason.to_string() };
            self.writer.append(Kind::GapFound(gap)).await?;
        }
        let full = self.backup.read_full().await?;
        if other {
            self.begin_timeline(self.backup.described(&full), reason.to_string()).await?;
        }
        self.record_first_full(&full).await?;
        self.start_ledger(&full, !other).await?;
        let anchor = anchor_of(&full);
        self.skip_to = Revision(anchor.revision.0);
        self.skip_end = None;
        self.up_to_date = None;
        self.told_recoverable = Revision(0);
        if self.goal.is_some() {
            self.goal = Some(self.skip_to);
        }
        self.follow = self.backup.follow(anchor);
        Ok(())
    }

    /// Stores and records everything that was heard.
    async fn flush(&mut self) -> Result<(), BackupError> {
        loop {
            if self.storing.is_none() {
                self.store_piece();
            }
            let Some(storing) = &mut self.storing else { return Ok(()) };
            let stored = joined(Some(&mut storing.task)).await;
            self.record_piece(stored).await?;
        }
    }

    async fn finish(mut self) -> Result<Done, BackupError> {
        self.flush().await?;
        if let Some(mirror) = &mut self.mirror {
            mirror.settle(&mut self.writer).await?;
        }
        self.say_progress().await?;
        self.writer.keep_pin(false);
        let line = self.writer.catalog().current();
        self.done.revision = line.newest_revision().map_or(0, |revision| revision.0);
        self.done.mirrored_to = line.mirrored_to.map(|revision| revision.0);
        if let Some(mirror) = &self.mirror {
            let count = mirror.count();
            (self.done.objects, self.done.bytes, self.done.holes) = (count.objects, count.bytes, count.holes);
        }
        Ok(self.done)
    }
}

/// The answer of a task, or that it ended early.
pub(super) type Joined<T> = Result<T, BackupError>;

/// Waits for a task that may not be there; for ever then.
async fn joined<T>(task: Option<&mut JoinHandle<T>>) -> Joined<T> {
    match task {
        Some(task) => task.await.map_err(|error| BackupError::Task(error.to_string())),
        None => std::future::pending().await,
    }
}

async fn copied(mirror: Option<&mut Mirror>) -> Result<(), BackupError> {
    match mirror {
        Some(mirror) => Ok(mirror.next().await?),
        None => std::future::pending().await,
    }
}
