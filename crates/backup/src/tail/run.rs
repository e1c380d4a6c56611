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
use std::time::{Duration, Instant};

use eyrie_archive::record::{
    FullTaken, GapCause, GapFound, HoleFound, Opened, Progress, Segment as SegmentRecord, TailCut, TimelineBegan,
};
use eyrie_archive::{Kind, Revision, Timeline, UnixMillis, names};
use eyrie_state::ClusterId;
use tokio::task::JoinHandle;

use super::cutter::Cutter;
use super::merging::{self, Merges};
use super::orders::{self, Orders, Sweeping};
use super::segment::Segment;
use crate::catalog::{self, OpenOptions, Writer, sha};
use crate::chance;
use crate::history::{Event, Revised, TimeMs};
use crate::limits::{
    COPY_FAILURES_MAX, FULL_RETRY_AFTER, PROGRESS_RECORD_EVERY, RECONCILE_EVERY, TAIL_WAITING_MAX, TICK,
};
use crate::objects::ledger::Ledger;
use crate::objects::{self, Mirror};
use crate::pack::{self, Packed};
use crate::source::{self, Anchor, Break, Follow, Heard};
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

/// A piece on its way into the bucket.
struct Storing {
    task: JoinHandle<Result<Packed, pack::PackError>>,
    first: Revision,
    last: Revision,
    first_at: TimeMs,
    last_at: TimeMs,
    events: u64,
    end: [u8; 32],
    revisions: Vec<Revised>,
    previous: [u8; 32],
}

pub(super) struct Run<'a> {
    pub(super) backup: &'a Backup,
    pub(super) writer: Writer,
    pub(super) mirror: Option<Mirror>,
    /// An expiry deletes.
    pub(super) sweeping: Option<Sweeping>,
    pub(super) merges: Merges,
    cutter: Cutter,
    storing: Option<Storing>,
    follow: Follow,
    /// Revisions up to this one are in the archive already and are only shown to the ledger.
    skip_to: Revision,
    /// What the last of those must be.
    skip_end: Option<[u8; 32]>,
    /// The hash that the next piece names as the one before.
    previous: [u8; 32],
    up_to_date: Option<(Revision, TimeMs)>,
    full_at: Instant,
    reconciled_at: Instant,
    told_recoverable: Revision,
    full: Option<JoinHandle<Result<(Full, FullTaken), BackupError>>>,
    /// A full that is stored, and is recorded once the tail has come as far and tells the same of its revision.
    full_stored: Option<(Full, FullTaken)>,
    /// A full is wanted as soon as the follower has seen that the history is ours.
    pub(super) full_wanted: bool,
    anchored: bool,
    /// What the tail tells of the revisions that were heard while a full is on its way.
    heard: BTreeMap<Revision, [u8; 32]>,
    /// `take`: the run ends when this revision is archived and recoverable.
    goal: Option<Revision>,
    done: Done,
}

impl<'a> Run<'a> {
    async fn begin(backup: &'a Backup, until: Until, options: &OpenOptions) -> Result<Self, BackupError> {
        match catalog::read(&backup.archive, options.pinned()).await {
            Ok(reading) => {
                let line = reading.catalog.current();
                let same = line.source.objects == backup.milvus.is_some();
                if line.tail_head.is_some() && same {
                    Self::resume(backup, until, options).await
                } else {
                    Self::with_full(backup, until, options).await
                }
            }
            Err(error) if error.is_no_archive() => Self::with_full(backup, until, options).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing to go on from: a full first.
    async fn with_full(backup: &'a Backup, until: Until, options: &OpenOptions) -> Result<Self, BackupError> {
        let full = backup.read_full().await?;
        let opened = Opened { source: backup.described(&full), sealed_to: backup.seal_to.texts() };
        let writer = Writer::open(&backup.archive, &opened, options).await?;
        let mut run = Self::new(backup, writer, until, &full);
        run.finish_sweeps().await?;
        run.name_unwatched().await?;
        run.record_first_full(&full).await?;
        run.start_ledger(&full, false).await?;
        Ok(run)
    }

    fn new(backup: &'a Backup, writer: Writer, until: Until, full: &Full) -> Self {
        let anchor = anchor_of(full);
        let revision = Revision(anchor.revision.0);
        let mut run = Self::bare(backup, writer, backup.source.follow(anchor));
        run.skip_to = revision;
        run.goal = (until == Until::CaughtUp).then_some(revision);
        run
    }

    fn bare(backup: &'a Backup, writer: Writer, follow: Follow) -> Self {
        let now = Instant::now();
        let tail = &backup.config.tail;
        Self {
            backup,
            writer,
            mirror: None,
            sweeping: None,
            merges: Merges::default(),
            cutter: Cutter::new(tail.segment_bytes, tail.segment_age()),
            storing: None,
            follow,
            skip_to: Revision(0),
            skip_end: None,
            previous: [0; 32],
            up_to_date: None,
            full_at: now,
            reconciled_at: now,
            told_recoverable: Revision(0),
            full: None,
            full_stored: None,
            full_wanted: false,
            anchored: false,
            heard: BTreeMap::new(),
            goal: None,
            done: Done::default(),
        }
    }

    /// Goes on where an earlier run ended. The ledger begins at the last revision that was wholly mirrored, so that
    /// objects named and forgotten meanwhile are seen.
    async fn resume(backup: &'a Backup, until: Until, options: &OpenOptions) -> Result<Self, BackupError> {
        let reading = catalog::read(&backup.archive, options.pinned()).await?;
        let line = reading.catalog.current();
        let opened = Opened { source: line.source.clone(), sealed_to: backup.seal_to.texts() };
        let writer = Writer::open(&backup.archive, &opened, options).await?;
        let line = writer.catalog().current();
        let cluster = ClusterId(u64::from_str_radix(&line.source.cluster, 16).unwrap_or_default());
        let head = line.tail_head.unwrap_or_default();
        let (end, previous) = known_end(line, head);
        let mut begin = Begin { base: head, hole: None, ledger: None };
        if let Some(milvus) = &backup.milvus {
            begin = Begin::find(backup, &writer, line, head, milvus).await?;
        }
        let base = begin.base;
        let digest = if base == head { end } else { None };
        let anchor = Anchor { cluster, revision: eyrie_state::Revision(base.0), digest };
        let mut run = Self::bare(backup, writer, backup.source.follow(anchor));
        (run.skip_to, run.skip_end, run.previous) = (head, end, previous);
        run.finish_sweeps().await?;
        if let Some(hole) = begin.hole {
            run.writer.append(Kind::HoleFound(hole)).await?;
        }
        if let (Some(ledger), Some(milvus)) = (begin.ledger, &backup.milvus) {
            run.mirror = Some(run.mirror_with(ledger, milvus));
        }
        if until == Until::CaughtUp {
            run.goal = Some(Revision(i64::MAX));
            run.full_wanted = true;
        } else {
            let quiet = catalog::now().since(newest_full_at(run.writer.catalog().current()));
            run.full_at = Instant::now().checked_sub(Duration::from_millis(quiet)).unwrap_or(run.full_at);
        }
        backup
            .tell
            .say(format!("going on at revision {head}; it is checked that the source's history is still the same"));
        Ok(run)
    }

    fn mirror_with(&self, ledger: Ledger, milvus: &crate::take::MilvusBucket) -> Mirror {
        let (from, to) = (milvus.bucket.clone(), self.backup.archive.clone());
        Mirror::new(ledger, from, to, self.backup.seal_to.clone(), milvus.parallel)
    }

    /// Stores the first full of a history, or the first one behind a gap.
    async fn record_first_full(&mut self, full: &Full) -> Result<(), BackupError> {
        let source = self.backup.described(full);
        let line = self.writer.catalog().current();
        let revision = Revision(full.spooled.revision.0);
        let other = line.source.cluster != source.cluster || line.newest_revision().is_some_and(|had| had > revision);
        let kept = line.source.objects != source.objects;
        if other || kept {
            let why =
                if other { "the source is another one, or was restored" } else { "objects are kept, or not any more" };
            self.begin_timeline(source, why.to_owned()).await?;
        }
        let taken = self.backup.store_full(full, self.writer.catalog().current().id).await?;
        self.record_full(full, taken).await?;
        let line = self.writer.catalog().current();
        self.previous = known_end(line, line.tail_head.unwrap_or_default()).1;
        Ok(())
    }

    /// What an earlier run left without its objects, and no ledger remembers, is a hole.
    async fn name_unwatched(&mut self) -> Result<(), BackupError> {
        let line = self.writer.catalog().current();
        let oldest = line.fulls.values().map(|full| full.taken.revision.before()).min();
        let mirrored_to = line.mirrored_to.or(oldest);
        let (Some(mirrored_to), Some(newest), true) = (mirrored_to, line.newest_revision(), line.source.objects) else {
            return Ok(());
        };
        if mirrored_to < newest {
            self.writer.append(Kind::HoleFound(uncertain(mirrored_to, newest))).await?;
        }
        Ok(())
    }

    async fn record_full(&mut self, full: &Full, taken: FullTaken) -> Result<(), BackupError> {
        let (keys, stored_len, revision) = (taken.keys, taken.stored.len, full.spooled.revision);
        self.writer.append(Kind::FullTaken(taken)).await?;
        self.done.fulls.push(revision.0);
        self.full_at = Instant::now();
        for why in &full.agreement.not_compared {
            self.backup.tell.warn(format!("not compared: {why}"));
        }
        let members = full.agreement.same.len();
        self.backup.tell.news(News::FullTaken { revision, keys, stored_len, members });
        Ok(())
    }

    async fn begin_timeline(&mut self, source: eyrie_archive::record::Source, why: String) -> Result<(), BackupError> {
        self.backup.tell.warn(format!("a new timeline begins: {why}"));
        // what both histories share is known to whoever restored, not here: nothing is claimed
        self.writer.append(Kind::TimelineBegan(TimelineBegan { parent: None, why, source })).await?;
        Ok(())
    }

    async fn start_ledger(&mut self, full: &Full, keep: bool) -> Result<(), BackupError> {
        let Some(milvus) = &self.backup.milvus else { return Ok(()) };
        let index = objects::read_index(&self.backup.archive, self.writer.catalog()).await?;
        let known = objects::known(&index, self.writer.catalog());
        let mut ledger = Ledger::new(full.milvus.clone(), known);
        ledger.begin(Revision(full.spooled.revision.0));
        match &mut self.mirror {
            Some(mirror) => mirror.restart(ledger, keep),
            None => self.mirror = Some(self.mirror_with(ledger, milvus)),
        }
        Ok(())
    }

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

    fn store_piece(&mut self) {
        let revisions = self.cutter.cut();
        let (Some(first), Some(last)) = (revisions.first(), revisions.last()) else { return };
        let (first_revision, last_revision) = (Revision(first.revision.0), Revision(last.revision.0));
        let (first_at, last_at, end) = (first.heard_at, last.heard_at, source::digest(last));
        let events = revisions.iter().map(|revised| revised.events.len() as u64).sum();
        let (kept, previous) = (revisions.clone(), self.previous);
        let bytes = Segment { previous, revisions }.encode();
        let (bucket, seal_to) = (self.backup.archive.clone(), self.backup.seal_to.clone());
        let (timeline, nonce) = (self.writer.catalog().current().id, chance::word(4));
        let task = tokio::spawn(async move {
            let name = |wrap| names::tail(timeline, first_revision, last_revision, &nonce, wrap);
            pack::bytes(&bucket, &seal_to, name, bytes.into()).await
        });
        self.storing = Some(Storing {
            task,
            first: first_revision,
            last: last_revision,
            first_at,
            last_at,
            events,
            end,
            revisions: kept,
            previous,
        });
    }

    async fn record_piece(&mut self, stored: Joined<Result<Packed, pack::PackError>>) -> Result<(), BackupError> {
        let Some(piece) = self.storing.take() else { return Ok(()) };
        let Packed { plain, stored } = stored??;
        let stored_len = stored.len;
        let Storing { first, last, first_at, last_at, events, revisions, previous, .. } = piece;
        let segment = SegmentRecord {
            first,
            last,
            first_at_ms: millis(first_at),
            last_at_ms: millis(last_at),
            events,
            end: Some(sha(piece.end)),
            followed_as: None,
            plain,
            stored,
        };
        let recorded = segment.clone();
        let mirrored_to = self.mirror.as_ref().and_then(|mirror| mirror.mirrored_to(self.writer.catalog(), Some(last)));
        self.writer.append(Kind::TailCut(TailCut { segment, mirrored_to })).await?;
        self.remember(recorded, revisions, previous);
        self.previous = plain.sha256.0;
        self.done.pieces += 1;
        self.done.events += events;
        let lag_ms = TimeMs::now().0.saturating_sub(first_at.0);
        let (first, last) = (eyrie_state::Revision(first.0), eyrie_state::Revision(last.0));
        self.backup.tell.news(News::TailCut { first, last, events, lag_ms, stored_len });
        self.tell_recoverable();
        Ok(())
    }

    fn start_full(&mut self) {
        self.full_wanted = false;
        if self.full.is_none() && self.full_stored.is_none() {
            let (backup, timeline) = (self.backup.clone(), self.writer.catalog().current().id);
            self.heard.clear();
            self.full = Some(tokio::spawn(async move {
                let full = backup.read_full().await?;
                let taken = backup.store_full(&full, timeline).await?;
                Ok((full, taken))
            }));
        }
    }

    /// A full beside the running tail: it starts a new chain, and the tail goes on as it was.
    fn take_in_full(&mut self, full: Joined<Result<(Full, FullTaken), BackupError>>) -> Result<(), BackupError> {
        self.full = None;
        match full.flatten() {
            Ok((full, taken)) => {
                if self.goal.is_some() {
                    self.goal = Some(taken.revision);
                }
                self.full_stored = Some((full, taken));
                Ok(())
            }
            Err(error) if self.goal.is_some() => Err(error),
            Err(error) => {
                self.backup
                    .tell
                    .fail("full", format!("the full is tried again in {} s: {error}", FULL_RETRY_AFTER.as_secs()));
                let every = self.backup.config.tail.full_every().unwrap_or_default();
                self.full_at = (Instant::now() + FULL_RETRY_AFTER).checked_sub(every).unwrap_or_else(Instant::now);
                Ok(())
            }
        }
    }

    /// Between reading a full and hearing its revision, the store may have been replaced: the two must tell the same.
    async fn record_stored_full(&mut self) -> Result<(), BackupError> {
        let head = self.writer.catalog().current().tail_head;
        let Some((full, taken)) = self.full_stored.take_if(|(_, taken)| head >= Some(taken.revision)) else {
            return Ok(());
        };
        let heard = self.heard.get(&taken.revision).copied();
        self.heard.clear();
        // compacted up to exactly there, a snapshot may lack deletions of that revision
        let comparable = taken.compact_revision < taken.revision;
        if comparable && full.end.is_some() && heard.is_some_and(|heard| Some(heard) != full.end) {
            self.backup.tell.warn("the full is not of the history that is followed; it is thrown away and taken again");
            self.full_wanted = true;
            return Ok(());
        }
        self.record_full(&full, taken).await
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

    fn tell_recoverable(&mut self) {
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
        self.follow = self.backup.source.follow(anchor);
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

/// Where the ledger of a resumed run begins.
struct Begin {
    base: Revision,
    hole: Option<HoleFound>,
    ledger: Option<Ledger>,
}

impl Begin {
    async fn find(
        backup: &Backup,
        writer: &Writer,
        line: &Timeline,
        head: Revision,
        milvus: &crate::take::MilvusBucket,
    ) -> Result<Self, BackupError> {
        let index = objects::read_index(&backup.archive, writer.catalog()).await?;
        let oldest_full = line.fulls.values().map(|full| full.taken.revision).min();
        let wanted = line.mirrored_to.or(oldest_full).unwrap_or(head).min(head);
        for base in [wanted, head] {
            let mut ledger =
                Ledger::new(milvus.empty(&line.source.milvus_roots), objects::known(&index, writer.catalog()));
            let load = |event: Event| ledger.load(&event);
            if !backup.source.keys_at(eyrie_state::Revision(base.0), load).await? {
                continue;
            }
            ledger.begin(base);
            for (seq, hole) in line.holes.iter().filter(|(_, hole)| hole.found.to.is_none()) {
                let objects: Vec<String> = hole.found.objects.iter().map(|path| path.as_str().to_owned()).collect();
                ledger.known_hole(*seq, &objects);
            }
            let hole = (base > wanted).then(|| uncertain(wanted, head));
            return Ok(Self { base, hole, ledger: Some(ledger) });
        }
        // the head itself is compacted: the follower says so at once, and a full follows
        let ledger = Ledger::new(milvus.empty(&line.source.milvus_roots), objects::known(&index, writer.catalog()));
        let hole = (head > wanted).then(|| uncertain(wanted, head));
        Ok(Self { base: head, hole, ledger: Some(ledger) })
    }
}

/// Revisions whose objects nobody watched.
fn uncertain(mirrored_to: Revision, head: Revision) -> HoleFound {
    HoleFound {
        from: mirrored_to.next(),
        to: Some(head),
        cause: "the backup was away before their objects were copied, and the source has compacted that history: what they \
                needed is not known"
            .into(),
        objects: Vec::new(),
        count: 1,
    }
}

/// What the archive knows of its last revision, and the hash that the next piece must name.
fn known_end(line: &Timeline, head: Revision) -> (Option<[u8; 32]>, [u8; 32]) {
    if let Some(piece) = line.tail.values().next_back().filter(|piece| piece.segment.last == head) {
        let named = piece.segment.followed_as.unwrap_or(piece.segment.plain.sha256);
        return (piece.segment.end.map(|end| end.0), named.0);
    }
    let full = line.fulls.values().find(|full| full.taken.revision == head);
    full.map_or((None, [0; 32]), |full| (full.taken.end.map(|end| end.0), full.taken.plain.sha256.0))
}

fn newest_full_at(line: &Timeline) -> UnixMillis {
    line.newest_full().map_or(UnixMillis(0), |full| full.taken.taken_at_ms)
}

fn anchor_of(full: &Full) -> Anchor {
    Anchor { cluster: full.spooled.member.cluster, revision: full.spooled.revision, digest: full.end }
}

fn millis(at: TimeMs) -> UnixMillis {
    UnixMillis(i64::try_from(at.0).unwrap_or(i64::MAX))
}

/// The answer of a task, or that it ended early.
type Joined<T> = Result<T, BackupError>;

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
