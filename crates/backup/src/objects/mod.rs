//! The object mirror: each object that metadata names is copied once, soon after it is named.
//!
//! ```text
//! metadata events ─▶ ledger (what is wanted) ─▶ jobs (copy, several at once) ─▶ index piece ─▶ record
//! ```
//! The ledger decides, the jobs only move bytes; records are written by the owner of the archive's writer, in one place.

mod copy;
pub mod ledger;
pub mod rebuild;
pub mod repair;

use std::collections::{HashMap, HashSet, VecDeque};

use eyrie_archive::index::encode_piece;
use eyrie_archive::record::{HoleClosed, HoleFound, HoleHealed, ObjectsMirrored};
use eyrie_archive::{Catalog, Entry, Index, Kind, Line, Revision, Seq, SourcePath, Use, limits::NAMED_MAX, names};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::copy::{Copied, CopyFault};
use self::ledger::{Ledger, Mark, NewHole, Verdict, Wanted};
use crate::bucket::{Bucket, BucketError};
use crate::catalog::{ArchiveError, Writer, now};
use crate::chance;
use crate::history::Revised;
use crate::limits::{COPY_RETRY_PAUSE, PIECE_AGE, PIECE_OBJECTS_MAX};
use crate::pack::{self, PackError};
use crate::seal::Recipients;

/// Why the mirror cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// An index piece could not be stored.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// An object cannot be copied, and trying again does not help.
    #[error("{0}")]
    Copy(String),
    /// The archive's index cannot be used.
    #[error("the archive's index cannot be used: {0}. Nothing was changed. Next: eyrie backup verify --repair")]
    Index(String),
}

/// How far the mirror is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Objects copied in this run.
    pub objects: u64,
    /// Their bytes at the source.
    pub bytes: u64,
    /// Objects that wait or are on their way.
    pub open: u64,
    /// Holes found in this run.
    pub holes: u64,
}

/// Copies what the ledger wants, and has the archive say so.
pub struct Mirror {
    ledger: Ledger,
    from: Bucket,
    to: Bucket,
    seal_to: Recipients,
    jobs: JoinSet<(String, Result<Vec<Copied>, CopyFault>)>,
    parallel: usize,
    /// Copied, and in no record yet; several for a folder.
    done: Vec<(String, Vec<Copied>)>,
    done_since: Option<Instant>,
    /// Recorded objects that are damaged in the archive: to be copied anew …
    to_repair: VecDeque<String>,
    /// … on their way …
    repairing: HashSet<String>,
    /// … and there again, in no record yet.
    repaired: Vec<Copied>,
    /// Names that an expiry is deleting: nothing is written under them now.
    blocked: HashSet<String>,
    later: VecDeque<(Instant, String)>,
    holes: Vec<NewHole>,
    count: Count,
    last_trouble: Option<String>,
    failures_in_row: u32,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Mirror {
    /// A mirror from one bucket into the archive's; `ledger` knows where history stands.
    pub fn new(mut ledger: Ledger, from: Bucket, to: Bucket, seal_to: Recipients, parallel: usize) -> Self {
        let holes = ledger.new_trouble().into_iter().collect();
        Self {
            ledger,
            from,
            to,
            seal_to,
            jobs: JoinSet::new(),
            parallel,
            done: Vec::new(),
            done_since: None,
            to_repair: VecDeque::new(),
            repairing: HashSet::new(),
            repaired: Vec::new(),
            blocked: HashSet::new(),
            later: VecDeque::new(),
            holes,
            count: Count::default(),
            last_trouble: None,
            failures_in_row: 0,
        }
    }

    /// What is wanted.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Takes in new revisions.
    pub fn follow(&mut self, revisions: &[Revised]) {
        for revised in revisions {
            self.ledger.follow(revised);
        }
        self.holes.extend(self.ledger.new_trouble());
    }

    /// Goes on with another ledger: behind a gap, or on another history. Jobs under way end as they like.
    pub fn restart(&mut self, mut ledger: Ledger, keep: bool) {
        self.jobs = JoinSet::new();
        self.later.clear();
        self.done.clear();
        self.done_since = None;
        self.repairing.clear();
        std::mem::swap(&mut self.ledger, &mut ledger);
        if keep {
            self.ledger.adopt(ledger);
        }
        self.holes.extend(self.ledger.new_trouble());
    }

    /// Starts as many copies as may run at once.
    pub fn pump(&mut self) {
        while self.later.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            if let Some((_, path)) = self.later.pop_front() {
                self.ledger.failed(&path);
            }
        }
        self.pump_repairs();
        let room = self.parallel.saturating_sub(self.jobs.len());
        for Wanted { path, folder } in self.ledger.take(room) {
            if self.is_blocked(&path) {
                self.later(path);
                continue;
            }
            let (from, to, seal_to) = (self.from.clone(), self.to.clone(), self.seal_to.clone());
            self.jobs.spawn(async move {
                let outcome = match folder {
                    false => copy::one(&from, &path, &to, &seal_to).await.map(|copied| vec![copied]),
                    true => copy::folder(&from, &path, &to, &seal_to).await,
                };
                (path, outcome)
            });
        }
    }

    fn is_blocked(&self, path: &str) -> bool {
        let inside = || path.ends_with('/') && self.blocked.iter().any(|blocked| blocked.starts_with(path));
        !self.blocked.is_empty() && (self.blocked.contains(path) || inside())
    }

    /// An expiry deletes these names from now on: they are not in the archive any more, and must not be written before
    /// [`Mirror::unblock`].
    pub fn block(&mut self, gone: impl IntoIterator<Item = String>) {
        for path in gone {
            self.ledger.given_up(&path);
            self.blocked.insert(path);
        }
    }

    /// The deletions have ended.
    pub fn unblock(&mut self) {
        self.blocked.clear();
    }

    /// Copies recorded objects anew whose copies in the archive are not well. What the source has no more stays as it is.
    pub fn repair(&mut self, files: impl IntoIterator<Item = String>) {
        let mut wanted: Vec<String> = files.into_iter().filter(|file| self.ledger.holds(file)).collect();
        wanted.retain(|file| !self.repairing.contains(file) && !self.to_repair.contains(file));
        self.to_repair.extend(wanted);
    }

    fn pump_repairs(&mut self) {
        while self.jobs.len() < self.parallel
            && let Some(path) = self.to_repair.pop_front()
        {
            let (from, to, seal_to) = (self.from.clone(), self.to.clone(), self.seal_to.clone());
            self.repairing.insert(path.clone());
            self.jobs.spawn(async move {
                let outcome = copy::one(&from, &path, &to, &seal_to).await.map(|copied| vec![copied]);
                (path, outcome)
            });
        }
    }

    /// Waits for the next copy to end; for ever when none runs.
    ///
    /// # Errors
    /// A copy failed for a reason that stays.
    pub async fn next(&mut self) -> Result<(), MirrorError> {
        let Some(ended) = self.jobs.join_next().await else { return std::future::pending().await };
        let Ok((path, outcome)) = ended else { return Err(MirrorError::Copy("a copy ended early".into())) };
        if self.repairing.remove(&path) {
            match outcome {
                Ok(copied) => {
                    self.repaired.extend(copied);
                    self.done_since.get_or_insert_with(Instant::now);
                }
                Err(CopyFault::Gone) => {
                    self.last_trouble =
                        Some(format!("{path} is damaged in the archive, and the source has it no more"));
                }
                Err(CopyFault::Passing(why) | CopyFault::Lasting(why)) => self.last_trouble = Some(why),
            }
            return Ok(());
        }
        match outcome {
            Ok(copied) => {
                self.failures_in_row = 0;
                self.ledger.copied(&path);
                self.count.objects += copied.len() as u64;
                self.count.bytes += copied.iter().map(|one| one.len).sum::<u64>();
                self.done.push((path, copied));
                self.done_since.get_or_insert_with(Instant::now);
            }
            Err(CopyFault::Gone) => match self.ledger.not_found(&path) {
                Verdict::Again => self.later(path),
                Verdict::NotNeeded => {}
                Verdict::Hole(hole) => self.holes.push(hole),
            },
            Err(CopyFault::Passing(trouble)) => {
                self.failures_in_row += 1;
                self.last_trouble = Some(trouble);
                self.later(path);
            }
            Err(CopyFault::Lasting(why)) => return Err(MirrorError::Copy(why)),
        }
        Ok(())
    }

    /// Fails when so many copies failed in a row.
    ///
    /// # Errors
    /// The last trouble.
    pub fn give_up_after(&mut self, failures: u32) -> Result<(), MirrorError> {
        if self.failures_in_row < failures {
            return Ok(());
        }
        let trouble = self.last_trouble.take().unwrap_or_else(|| "copies fail".into());
        Err(MirrorError::Copy(format!("{failures} copies in a row failed, the last one so: {trouble}")))
    }

    fn later(&mut self, path: String) {
        self.later.push_back((Instant::now() + COPY_RETRY_PAUSE, path));
    }

    /// Whether [`Mirror::settle`] has something to record now.
    pub fn is_due(&self) -> bool {
        let aged = self.done_since.is_some_and(|since| since.elapsed() >= PIECE_AGE);
        let last =
            !(self.done.is_empty() && self.repaired.is_empty()) && self.jobs.is_empty() && self.ledger.waiting() == 0;
        aged || last || self.done.len() >= PIECE_OBJECTS_MAX || !self.holes.is_empty()
    }

    /// Records what is copied, what is missing, and what is missing no more.
    ///
    /// # Errors
    /// The archive can't be written.
    pub async fn settle(&mut self, writer: &mut Writer) -> Result<(), MirrorError> {
        self.settle_holes(writer).await?;
        let marks = self.ledger.take_marks();
        if self.done.is_empty() && marks.is_empty() && self.repaired.is_empty() {
            return Ok(());
        }
        let done = std::mem::take(&mut self.done);
        self.done_since = None;
        let timeline = writer.catalog().current().id;
        let mut lines: Vec<Line> = Vec::new();
        let mut spans = Vec::new();
        for (path, copies) in &done {
            let Some((since, until)) = self.ledger.uses(path) else { continue };
            spans.push((path.clone(), until, copies.iter().map(|one| one.source.as_str().to_owned()).collect()));
            let lived_ms = writer.catalog().lived_at(now());
            lines.extend(
                copies
                    .iter()
                    .map(|one| Line::Mirrored(one.entry(lived_ms, vec![Use { timeline, from: since, to: until }]))),
            );
        }
        let sums = sums(&lines, &self.ledger);
        lines.extend(marks.iter().flat_map(|mark| mark_lines(mark, timeline, &self.ledger)));
        let repaired = self.repaired.split_off(self.repaired.len().saturating_sub(NAMED_MAX));
        let lived_ms = writer.catalog().lived_at(now());
        lines.extend(repaired.iter().map(|one| Line::Mirrored(one.entry(lived_ms, Vec::new()))));
        let after = writer.catalog().head().seq;
        let nonce = chance::word(4);
        let name = |wrap| names::index(after, &nonce, wrap);
        let packed = pack::bytes(&self.to, &Recipients::nobody(), name, encode_piece(&lines).into()).await?;
        for (path, until, files) in spans {
            self.ledger.recorded(&path, until, files);
        }
        self.ledger.marks_recorded(&marks);
        let (objects, bytes, stored_bytes) = sums;
        let mirrored_to = self.mirrored_to(writer.catalog(), None);
        let repaired = repaired.into_iter().map(|one| one.stored.path).collect();
        let record = ObjectsMirrored { piece: packed.stored, objects, bytes, stored_bytes, mirrored_to, repaired };
        writer.append(Kind::ObjectsMirrored(record)).await?;
        for hole in self.ledger.healed_holes() {
            let how = "its objects could be copied after all".into();
            writer.append(Kind::HoleHealed(HoleHealed { hole, how })).await?;
        }
        Ok(())
    }

    async fn settle_holes(&mut self, writer: &mut Writer) -> Result<(), MirrorError> {
        for hole in grouped(std::mem::take(&mut self.holes)) {
            self.count.holes += 1;
            let named = hole.objects.iter().take(NAMED_MAX).filter_map(|path| SourcePath::new(path.as_str()).ok());
            let found = HoleFound {
                from: hole.from,
                to: hole.to,
                cause: hole.cause.clone(),
                objects: named.collect(),
                count: (hole.objects.len() as u64).max(1),
            };
            writer.append(Kind::HoleFound(found)).await?;
            let seq = hole_seq(writer.catalog());
            match (hole.to, hole.objects.is_empty()) {
                (None, false) => self.ledger.watch_hole(seq, &hole.objects),
                (None, true) => self.ledger.watch_trouble(seq),
                _ => {}
            }
        }
        for (hole, to) in self.ledger.closed_holes() {
            let from = writer.catalog().current().holes.get(&hole).map(|hole| hole.found.from);
            let Some(from) = from else { continue };
            writer.append(Kind::HoleClosed(HoleClosed { hole, to: to.max(from) })).await?;
        }
        Ok(())
    }

    /// Up to where the archive may say that all is mirrored; `coming` is a revision that the same record adds.
    pub fn mirrored_to(&self, catalog: &Catalog, coming: Option<Revision>) -> Option<Revision> {
        if !self.holes.is_empty() {
            return None;
        }
        let line = catalog.current();
        let held = line.tail_head.max(coming)?;
        let to = self.ledger.mirrored_to().min(held);
        (line.mirrored_to.is_none_or(|before| before <= to) && to.0 > 0).then_some(to)
    }

    /// Nothing waits, and everything is recorded.
    pub fn is_settled(&self) -> bool {
        self.ledger.open_count() == 0 && self.done.is_empty() && self.holes.is_empty() && self.jobs.is_empty()
    }

    /// How far it is.
    pub fn count(&self) -> Count {
        Count { open: self.ledger.open_count() as u64, ..self.count }
    }

    /// The last passing trouble of a copy, once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.last_trouble.take()
    }
}

/// What the archive's index holds: each object, and whether the current history still names it.
///
/// # Errors
/// A piece is missing or damaged.
pub async fn read_index(bucket: &Bucket, catalog: &Catalog) -> Result<Index, MirrorError> {
    let mut index = Index::new();
    for (_, piece) in catalog.pieces() {
        let bytes =
            crate::unpack::bytes(bucket, &piece.stored).await.map_err(|error| MirrorError::Index(error.to_string()))?;
        let lines =
            eyrie_archive::index::decode_piece(&bytes).map_err(|error| MirrorError::Index(error.to_string()))?;
        index.apply(&lines).map_err(|error| MirrorError::Index(error.to_string()))?;
    }
    Ok(index)
}

/// The same, as the ledger wants it.
pub fn known(index: &Index, catalog: &Catalog) -> HashMap<String, bool> {
    let timeline = catalog.current().id;
    let open = |entry: &Entry| entry.uses.iter().any(|one| one.timeline == timeline && one.to.is_none());
    index.entries().map(|entry| (entry.source.as_str().to_owned(), open(entry))).collect()
}

/// Objects that the index does not have yet, and their bytes.
fn sums(lines: &[Line], ledger: &Ledger) -> (u64, u64, u64) {
    lines.iter().fold((0, 0, 0), |sum, line| match line {
        Line::Mirrored(entry) if !ledger.holds(entry.source.as_str()) => {
            (sum.0 + 1, sum.1 + entry.len, sum.2 + entry.stored.len)
        }
        _ => sum,
    })
}

fn mark_lines(mark: &Mark, timeline: eyrie_archive::TimelineId, ledger: &Ledger) -> Vec<Line> {
    let sources = |path: &str| ledger.files_of(path).into_iter().filter_map(|file| SourcePath::new(file).ok());
    match mark {
        Mark::Used { path, from } => sources(path).map(|source| Line::Used { source, timeline, from: *from }).collect(),
        Mark::Released { path, to } => {
            sources(path).map(|source| Line::Released { source, timeline, to: *to }).collect()
        }
    }
}

/// Holes of the same revisions and cause are one.
fn grouped(holes: Vec<NewHole>) -> Vec<NewHole> {
    let mut groups: Vec<NewHole> = Vec::new();
    for hole in holes {
        let same = |other: &&mut NewHole| (other.from, other.to, &other.cause) == (hole.from, hole.to, &hole.cause);
        match groups.iter_mut().find(same) {
            Some(group) => group.objects.extend(hole.objects),
            None => groups.push(hole),
        }
    }
    groups
}

/// The record that was just written, unless a checkpoint followed it at once.
fn hole_seq(catalog: &Catalog) -> Seq {
    catalog.current().holes.keys().next_back().copied().unwrap_or(catalog.head().seq)
}
