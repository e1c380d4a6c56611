//! How a run begins: with a full where there is nothing to go on from, else where an earlier run ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eyrie_archive::record::{HoleFound, Opened};
use eyrie_archive::{Index, Kind, Revision, Timeline, UnixMillis};
use eyrie_state::ClusterId;

use super::cutter::Cutter;
use super::merging::Merges;
use super::run::{Done, Run, Until};
use crate::catalog::{self, OpenOptions, Writer};
use crate::history::Event;
use crate::objects::ledger::Ledger;
use crate::objects::{self, Mirror, rebuild};
use crate::seal::Identities;
use crate::source::{Anchor, Follow};
use crate::take::{Backup, BackupError, Full, MilvusBucket};

impl<'a> Run<'a> {
    pub(super) async fn begin(backup: &'a Backup, until: Until, options: &OpenOptions) -> Result<Self, BackupError> {
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
        let mut run = Self::bare(backup, writer, backup.follow(anchor));
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
        let mut writer = Writer::open(&backup.archive, &opened, options).await?;
        let line = writer.catalog().current();
        let cluster = ClusterId(u64::from_str_radix(&line.source.cluster, 16).unwrap_or_default());
        let head = line.tail_head.unwrap_or_default();
        let (end, previous) = known_end(line, head);
        let mut begin = Begin { base: head, hole: None, ledger: None };
        if let Some(milvus) = &backup.milvus {
            begin = Begin::find(backup, &mut writer, head, milvus).await?;
        }
        let base = begin.base;
        let digest = if base == head { end } else { None };
        let anchor = Anchor { cluster, revision: eyrie_state::Revision(base.0), digest };
        let mut run = Self::bare(backup, writer, backup.follow(anchor));
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

    fn mirror_with(&self, ledger: Ledger, milvus: &MilvusBucket) -> Mirror {
        let (from, to) = (milvus.bucket.clone(), self.backup.archive.clone());
        Mirror::new(ledger, from, to, self.backup.seal_to.clone(), milvus.parallel)
    }

    /// Stores the first full of a history, or the first one behind a gap.
    pub(super) async fn record_first_full(&mut self, full: &Full) -> Result<(), BackupError> {
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

    async fn read_index(&mut self) -> Result<Index, BackupError> {
        index_of(self.backup, &mut self.writer).await
    }

    pub(super) async fn start_ledger(&mut self, full: &Full, keep: bool) -> Result<(), BackupError> {
        let Some(milvus) = &self.backup.milvus else { return Ok(()) };
        let index = self.read_index().await?;
        let known = objects::known(&index, self.writer.catalog());
        let mut ledger = Ledger::new(full.milvus.clone(), known);
        ledger.begin(Revision(full.spooled.revision.0));
        match &mut self.mirror {
            Some(mirror) => mirror.restart(ledger, keep),
            None => self.mirror = Some(self.mirror_with(ledger, milvus)),
        }
        Ok(())
    }
}

/// The index. A damaged one is made anew first: without it nothing is known of what is mirrored, and nothing could go on.
async fn index_of(backup: &Backup, writer: &mut Writer) -> Result<Index, BackupError> {
    let from = backup.milvus.as_ref().map(|milvus| &milvus.bucket);
    Ok(rebuild::whole(writer, from, &keys_at_hand(backup), &backup.tell).await?)
}

/// A backup needs no private key, and has none unless the agent holds drills on a sealed archive.
pub(super) fn keys_at_hand(backup: &Backup) -> Identities {
    Identities::load(backup.config.agent.drill_identity.as_ref()).unwrap_or_default()
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
        writer: &mut Writer,
        head: Revision,
        milvus: &MilvusBucket,
    ) -> Result<Self, BackupError> {
        let index = index_of(backup, writer).await?;
        let line = writer.catalog().current();
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
pub(super) fn known_end(line: &Timeline, head: Revision) -> (Option<[u8; 32]>, [u8; 32]) {
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

pub(super) fn anchor_of(full: &Full) -> Anchor {
    Anchor { cluster: full.spooled.member.cluster, revision: full.spooled.revision, digest: full.end }
}
