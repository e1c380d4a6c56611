//! The consistent pair: a Milvus in fast time (writer, compactor, and a garbage collector that deletes objects as the real one
//! does) beside the mirror, which is slow, killed and lied to; retention that gives up whatever it may, and is killed, too; and
//! restores, after which another history has the same revisions. No revision that the archive calls recoverable may need an
//! object that is not there. `EYRIE_LONG=1` makes 10,000 histories.

#![allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use eyrie_archive::record::{
    Depth, GapCause, GapFound, HoleFound, ObjectsRemoved, Opened, Progress, Source, TailCut, TimelineBegan, Verified,
};
use eyrie_archive::retention::{ByUse, Period, Policy, Rule, plan, plan_objects};
use eyrie_archive::{Kind, Revision, Stretch, UnixMillis, names};
use eyrie_backup::bucket::Bucket;
use eyrie_backup::bucket::faults::Faults;
use eyrie_backup::catalog::{self, OpenOptions, Writer};
use eyrie_backup::expire::{Deleted, finish};
use eyrie_backup::history::{Event, Revised, TimeMs};
use eyrie_backup::objects::ledger::Ledger;
use eyrie_backup::objects::{Mirror, known, read_index};
use eyrie_backup::pack;
use eyrie_backup::seal::Recipients;
use eyrie_backup::tail::segment::Segment;
use eyrie_backup::tell::Tell;
use eyrie_milvus::proto::{Binlog, FieldBinlog, SegmentInfo};
use eyrie_milvus::{ObjectRoot, References, Roots};
use prost::Message;

use crate::sample::{HOUR, hasty, now, stored_full};

const HISTORIES: [u64; 2] = [250, 10_000];
const STEPS: u64 = 60;
/// States of a segment, as Milvus numbers them.
const GROWING: i32 = 2;
const FLUSHED: i32 = 4;
const DROPPED: i32 = 6;

#[test]
fn no_recoverable_revision_needs_an_object_that_is_not_there() {
    let histories = HISTORIES[usize::from(std::env::var_os("EYRIE_LONG").is_some())];
    let one: Option<u64> = std::env::var("EYRIE_SEED").ok().and_then(|seed| seed.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut all = Seen::default();
    for seed in one.map_or(0..histories, |seed| seed..seed + 1) {
        println!("history {seed}; repeat it with EYRIE_SEED={seed}");
        let seen = runtime.block_on(async { World::new(seed).await.live().await });
        all.whole += seen.whole;
        all.required += seen.required;
        all.holes += seen.holes;
        all.kills += seen.kills;
        all.deleted += seen.deleted;
        all.expired += seen.expired;
        all.restores += seen.restores;
        all.older += seen.older;
    }
    eprintln!("{all:?}");
    let enough = |count: u64, of_ten: u64| one.is_some() || count * 10 >= histories * of_ten;
    let met = enough(all.whole, 150) && enough(all.required, 800) && enough(all.kills, 3) && enough(all.deleted, 40);
    let met = met && enough(all.expired, 1) && enough(all.restores, 2) && enough(all.older, 8);
    assert!(met, "these histories try next to nothing: {all:?}");
    assert!(one.is_some() || all.holes > histories / 10, "the collector never comes first: {all:?}");
}

/// What the histories went through.
#[derive(Debug, Default)]
struct Seen {
    whole: u64,
    required: u64,
    holes: u64,
    kills: u64,
    deleted: u64,
    /// Objects that retention gave up.
    expired: u64,
    restores: u64,
    /// Whole revisions of histories that are not the current one.
    older: u64,
}

/// Numbers that look random and are the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A segment as the model knows it, in its own words: what it holds, and how far its end has come.
#[derive(Clone)]
struct Held {
    state: i32,
    logs: Vec<u64>,
    /// The collector has been there; its keys may go.
    collected: bool,
}

/// A Milvus with one collection.
struct Milvus {
    bucket: Bucket,
    revision: i64,
    next: u64,
    segments: BTreeMap<u64, Held>,
    history: Vec<Revised>,
    /// Which history this is: another one after each restore.
    line: u32,
    /// For each revision of each history, what must be there for its rows.
    required: BTreeMap<(u32, i64), BTreeSet<String>>,
    /// For each revision of the current history, the segments.
    states: BTreeMap<i64, BTreeMap<u64, Held>>,
    compacted: i64,
    deleted: u64,
}

fn path(segment: u64, log: u64) -> String {
    format!("files/insert_log/1/2/{segment}/100/{log}")
}

fn text(segment: u64, log: u64) -> String {
    format!("log {log} of segment {segment}")
}

fn put(key: String, value: Vec<u8>) -> Event {
    Event::Put {
        key: key.into(),
        value: value.into(),
        create_revision: eyrie_state::Revision(1),
        version: 1,
        lease: eyrie_state::LeaseId(0),
    }
}

impl Milvus {
    fn change(&mut self, events: Vec<Event>) {
        self.revision += 1;
        let revision = eyrie_state::Revision(self.revision);
        self.history.push(Revised { revision, heard_at: TimeMs(u64::try_from(now().0).unwrap()), events });
        let live = self.segments.iter().filter(|(_, held)| held.state != DROPPED);
        let paths = live.flat_map(|(segment, held)| held.logs.iter().map(|log| path(*segment, *log)));
        self.required.insert((self.line, self.revision), paths.collect());
        self.states.insert(self.revision, self.segments.clone());
    }

    /// Somebody restores an older revision: with its objects, and with the revision lifted or not.
    async fn restore(&mut self, chance: &mut Chance) {
        let known: Vec<i64> = self.states.keys().copied().collect();
        let to = known[chance.below(known.len() as u64) as usize];
        self.history.retain(|one| one.revision.0 <= to);
        self.states.retain(|revision, _| *revision <= to);
        self.segments = self.states[&to].clone();
        self.line += 1;
        self.revision = to + if chance.below(2) == 0 { 0 } else { 1000 };
        self.compacted = self.revision;
        for (segment, held) in self.segments.iter().filter(|(_, held)| held.state != DROPPED) {
            for log in &held.logs {
                self.bucket.put(&path(*segment, *log), text(*segment, *log)).await.unwrap();
            }
        }
        self.change(vec![put("another/program".into(), vec![1; 8])]);
    }

    fn keys(&self, segment: u64) -> Vec<Event> {
        let held = &self.segments[&segment];
        let info = SegmentInfo {
            id: segment as i64,
            collection_id: 1,
            partition_id: 2,
            insert_channel: "by-dev-rootcoord-dml_0_1v0".into(),
            num_of_rows: 100,
            state: held.state,
            dropped_at: u64::from(held.state == DROPPED),
            ..SegmentInfo::default()
        };
        let logs = held.logs.iter().map(|log| Binlog {
            entries_num: 100,
            log_size: 10,
            log_id: *log as i64,
            ..Binlog::default()
        });
        let field = FieldBinlog { field_id: 100, binlogs: logs.collect(), ..FieldBinlog::default() };
        vec![
            put(format!("by-dev/meta/datacoord-meta/binlog/1/2/{segment}/100"), field.encode_to_vec()),
            put(format!("by-dev/meta/datacoord-meta/s/1/2/{segment}"), info.encode_to_vec()),
        ]
    }

    /// Objects first, then the keys that name them.
    async fn write(&mut self, segment: u64, logs: u64) {
        for _ in 0..logs {
            self.next += 1;
            let log = self.next;
            self.bucket.put(&path(segment, log), text(segment, log)).await.unwrap();
            self.segments.get_mut(&segment).unwrap().logs.push(log);
        }
    }

    async fn step(&mut self, chance: &mut Chance) {
        let of = |milvus: &Self, state: i32, collected: bool| -> Vec<u64> {
            let is = |held: &(&u64, &Held)| held.1.state == state && held.1.collected == collected;
            milvus.segments.iter().filter(is).map(|(segment, _)| *segment).collect()
        };
        let pick = |from: &[u64], chance: &mut Chance| {
            (!from.is_empty()).then(|| from[chance.below(from.len() as u64) as usize])
        };
        match chance.below(10) {
            // rows come in: a new segment, growing or flushed at once
            0..=2 => {
                self.next += 1;
                let (segment, state) = (self.next, if chance.below(2) == 0 { GROWING } else { FLUSHED });
                self.segments.insert(segment, Held { state, logs: Vec::new(), collected: false });
                self.write(segment, 1 + chance.below(3)).await;
                self.change(self.keys(segment));
            }
            // a growing one gets more, and may be flushed
            3 => {
                let Some(segment) = pick(&of(self, GROWING, false), chance) else { return };
                self.write(segment, 1).await;
                if chance.below(2) == 0 {
                    self.segments.get_mut(&segment).unwrap().state = FLUSHED;
                }
                self.change(self.keys(segment));
            }
            // compaction: some become one, in one revision
            4..=5 => {
                let old: Vec<u64> = of(self, FLUSHED, false).into_iter().take(1 + chance.below(3) as usize).collect();
                if old.is_empty() {
                    return;
                }
                self.next += 1;
                let new = self.next;
                self.segments.insert(new, Held { state: FLUSHED, logs: Vec::new(), collected: false });
                self.write(new, 1 + chance.below(2)).await;
                let mut events = self.keys(new);
                for segment in old {
                    self.segments.get_mut(&segment).unwrap().state = DROPPED;
                    events.extend(self.keys(segment));
                }
                self.change(events);
            }
            // the collector: first the objects of a dropped segment, at some later time its keys
            6..=7 => {
                let Some(segment) = pick(&of(self, DROPPED, false), chance) else { return };
                for log in self.segments[&segment].logs.clone() {
                    self.bucket.delete(&path(segment, log)).await.unwrap();
                    self.deleted += 1;
                }
                self.segments.get_mut(&segment).unwrap().collected = true;
            }
            8 => {
                let Some(segment) = pick(&of(self, DROPPED, true), chance) else { return };
                self.segments.remove(&segment);
                self.change(vec![
                    Event::Delete { key: format!("by-dev/meta/datacoord-meta/s/1/2/{segment}").into() },
                    Event::Delete { key: format!("by-dev/meta/datacoord-meta/binlog/1/2/{segment}/100").into() },
                ]);
            }
            // something else
            _ => self.change(vec![put("another/program".into(), vec![0; 8])]),
        }
    }

    fn keys_at(&self, revision: i64) -> Vec<Event> {
        let mut keys: BTreeMap<Bytes, Event> = BTreeMap::new();
        for event in self.history.iter().filter(|one| one.revision.0 <= revision).flat_map(|one| &one.events) {
            match event {
                Event::Put { .. } => drop(keys.insert(event.key().clone(), event.clone())),
                Event::Delete { key } => drop(keys.remove(key)),
            }
        }
        keys.into_values().collect()
    }
}

/// The mirror at work.
struct Running {
    writer: Writer,
    mirror: Mirror,
    followed: i64,
    heard: Vec<Revised>,
    previous: [u8; 32],
}

struct World {
    chance: Chance,
    milvus: Milvus,
    /// As it is, without the lies.
    archive: Bucket,
    lying: Bucket,
    faults: Faults,
    seed: u64,
    seen: Seen,
}

impl World {
    async fn new(seed: u64) -> Self {
        let archive = hasty();
        let (lying, faults) = Faults::over(&archive);
        let milvus = Milvus {
            bucket: hasty(),
            revision: 1,
            next: 1000,
            segments: BTreeMap::new(),
            history: Vec::new(),
            line: 1,
            required: BTreeMap::new(),
            states: BTreeMap::new(),
            compacted: 0,
            deleted: 0,
        };
        let (chance, seen) = (Chance(seed), Seen::default());
        let mut world = Self { chance, milvus, archive, lying, faults, seed, seen };
        world.milvus.change(vec![put("another/program".into(), vec![0; 8])]);
        for _ in 0..world.chance.below(10) {
            world.milvus.step(&mut world.chance).await;
        }
        world
    }

    async fn live(mut self) -> Seen {
        self.faults.by_chance(self.seed, if self.chance.below(2) == 0 { 0 } else { 30 });
        let mut running = self.begin().await;
        for _ in 0..STEPS {
            match self.chance.below(20) {
                0..=7 => self.milvus.step(&mut self.chance).await,
                8..=10 => self.follow(&mut running),
                11..=14 => self.copy(&mut running).await,
                15..=16 => self.cut(&mut running).await,
                17 => running.mirror.settle(&mut running.writer).await.unwrap(),
                18 => match self.chance.below(7) {
                    0 => {
                        drop(running);
                        self.seen.kills += 1;
                        running = self.begin().await;
                    }
                    4 | 6 => {
                        drop(running);
                        self.expire().await;
                        running = self.begin().await;
                    }
                    5 => {
                        drop(running);
                        self.milvus.restore(&mut self.chance).await;
                        self.seen.restores += 1;
                        running = self.begin().await;
                    }
                    1 => self.full(&mut running).await,
                    2 => self.milvus.compacted = self.milvus.revision - self.chance.below(20) as i64,
                    _ => running.mirror.ledger().look_again(),
                },
                _ => self.check().await,
            }
        }
        // Milvus rests: in the end everything is followed, copied and said
        self.faults.clear();
        for _ in 0..200 {
            self.follow(&mut running);
            self.copy(&mut running).await;
            running.mirror.settle(&mut running.writer).await.unwrap();
            self.cut(&mut running).await;
            if running.mirror.is_settled() && running.followed == self.milvus.revision {
                break;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let head = running.writer.catalog().current().tail_head.unwrap();
        assert_eq!(head.0, self.milvus.revision);
        let mirrored_to = running.mirror.mirrored_to(running.writer.catalog(), None);
        if mirrored_to.is_some() {
            running.writer.append(Kind::Progress(Progress { revision: head, mirrored_to })).await.unwrap();
        }
        assert_eq!(running.writer.catalog().current().mirrored_to, Some(head), "in the end all is mirrored, or a hole");
        self.check().await;
        self.seen.holes = running.writer.catalog().current().holes.len() as u64;
        self.seen.deleted = self.milvus.deleted;
        self.seen
    }

    fn references(&self) -> References {
        References::new(Roots::new("by-dev"), ObjectRoot::bucket("files"))
    }

    /// As a run begins: at a full where the archive has nothing to go on from, else at the last revision that was mirrored.
    async fn begin(&mut self) -> Running {
        loop {
            // a listing that breaks off ends a run; the next one begins anew
            if let Some(running) = self.begin_once().await {
                return running;
            }
        }
    }

    async fn begin_once(&mut self) -> Option<Running> {
        let source = Source { cluster: "aa".into(), milvus_roots: vec!["by-dev".into()], objects: true };
        let opened = Opened { source, sealed_to: Vec::new() };
        let mut writer = Writer::open(&self.lying, &opened, &OpenOptions::default()).await.ok()?;
        finish(&mut writer, &Tell::nobody(), &mut Deleted::default()).await.unwrap();
        if writer.catalog().current().id.0 != self.milvus.line {
            self.other_history(&mut writer).await;
        }
        let line = writer.catalog().current().clone();
        let index = read_index(&self.lying, writer.catalog()).await.unwrap();
        let mut ledger = Ledger::new(vec![self.references()], known(&index, writer.catalog()));
        let oldest = line.fulls.values().map(|full| full.taken.revision).min();
        let head = line.tail_head.filter(|head| head.0 >= self.milvus.compacted);
        let unwatched = |from: Revision, to: Revision| {
            let cause = "nobody watched".into();
            Kind::HoleFound(HoleFound { from: from.next(), to: Some(to), cause, objects: Vec::new(), count: 1 })
        };
        let mirrored = line.mirrored_to.or(oldest);
        let (base, previous) = match (head, mirrored) {
            (Some(head), Some(mirrored)) => {
                let base = mirrored.min(head);
                if base.0 >= self.milvus.compacted {
                    (base, [0; 32])
                } else {
                    if base < head {
                        writer.append(unwatched(base, head)).await.unwrap();
                    }
                    (head, [0; 32])
                }
            }
            _ => {
                if let (Some(last), Some(oldest)) = (line.newest_revision(), oldest) {
                    let from = line.mirrored_to.unwrap_or(oldest.before());
                    if from < last {
                        writer.append(unwatched(from, last)).await.unwrap();
                    }
                    let gap = GapFound {
                        from: last.next(),
                        to: None,
                        cause: GapCause::Compacted,
                        detail: "compacted".into(),
                    };
                    writer.append(Kind::GapFound(gap)).await.unwrap();
                }
                let revision = Revision(self.milvus.revision);
                take_full(&mut writer, &self.lying, revision).await;
                (revision, [0; 32])
            }
        };
        for event in self.milvus.keys_at(base.0) {
            ledger.load(&event);
        }
        ledger.begin(base);
        for (seq, hole) in line.holes.iter().filter(|(_, hole)| hole.found.to.is_none()) {
            let objects: Vec<String> = hole.found.objects.iter().map(|path| path.as_str().to_owned()).collect();
            ledger.known_hole(*seq, &objects);
        }
        let mirror = Mirror::new(ledger, self.milvus.bucket.clone(), self.lying.clone(), Recipients::nobody(), 4);
        Some(Running { writer, mirror, followed: base.0, heard: Vec::new(), previous })
    }

    /// The source is not the one any more that was archived: what nobody copied is a hole of the old history.
    async fn other_history(&mut self, writer: &mut Writer) {
        let line = writer.catalog().current();
        let oldest = line.fulls.values().map(|full| full.taken.revision.before()).min();
        if let (Some(from), Some(last)) = (line.mirrored_to.or(oldest), line.newest_revision())
            && from < last
        {
            let cause = "nobody watched".into();
            let hole = HoleFound { from: from.next(), to: Some(last), cause, objects: Vec::new(), count: 1 };
            writer.append(Kind::HoleFound(hole)).await.unwrap();
        }
        let source = writer.catalog().current().source.clone();
        let began = TimelineBegan { parent: None, why: "it was restored".into(), source };
        writer.append(Kind::TimelineBegan(began)).await.unwrap();
    }

    /// Retention as the command carries it out, two days later: all that it may give up goes, or half of that.
    async fn expire(&mut self) {
        let Ok(mut writer) = Writer::join(&self.lying, &OpenOptions::default()).await else { return };
        let Some((line, full)) = writer.catalog().fulls().last().copied() else { return };
        let (full, up_to) = (full.seq, line.chain(full).last().map_or(full.taken.revision, |last| last.segment.last));
        let (depth, ok, damaged, unnamed) = (Depth::Data, true, Vec::new(), Vec::new());
        let verified = Verified { full, up_to, depth, ok, files: 1, bytes: 1, damaged, unnamed, took_ms: 1 };
        writer.append(Kind::Verified(verified)).await.unwrap();
        let hour = Period::hours(1);
        let policy = Policy {
            fulls: vec![Rule { every: hour, keep: hour }],
            keep_last: 0,
            tail: hour,
            min_age: hour,
            superseded: hour,
            keep_before_loss: false,
        };
        let index = read_index(&self.lying, writer.catalog()).await.unwrap();
        let plan = plan(writer.catalog(), &policy, UnixMillis(now().0 + 48 * HOUR)).unwrap();
        let objects = plan_objects(&plan, &index, &ByUse { current: writer.catalog().current().id });
        if plan.is_empty() && objects.removed.is_empty() {
            return;
        }
        let mut expired = plan.record();
        if !objects.removed.is_empty() {
            let (after, nonce) = (writer.catalog().head().seq, format!("e{}", writer.catalog().head().seq));
            let name = |wrap| names::index(after, &nonce, wrap);
            let list =
                pack::bytes(&self.lying, &Recipients::nobody(), name, objects.list().into()).await.unwrap().stored;
            let ((bytes, stored_bytes), count) = (objects.bytes(), objects.removed.len() as u64);
            expired.objects = Some(ObjectsRemoved { list, objects: count, bytes, stored_bytes });
            self.seen.expired += count;
        }
        writer.append(Kind::Expired(expired)).await.unwrap();
        // killed before the first deletion, now and then: the next run does it
        if self.chance.below(2) == 0 {
            finish(&mut writer, &Tell::nobody(), &mut Deleted::default()).await.unwrap();
        }
    }

    fn follow(&mut self, running: &mut Running) {
        let count = 1 + self.chance.below(6) as usize;
        let new: Vec<Revised> =
            self.milvus.history.iter().filter(|one| one.revision.0 > running.followed).take(count).cloned().collect();
        running.mirror.follow(&new);
        running.followed = new.last().map_or(running.followed, |last| last.revision.0);
        let head = running.writer.catalog().current().tail_head.unwrap_or_default();
        running.heard.extend(new.into_iter().filter(|one| one.revision.0 > head.0));
    }

    async fn copy(&mut self, running: &mut Running) {
        for _ in 0..=self.chance.below(6) {
            running.mirror.pump();
            // longer than the pause before another attempt: what is waited for comes
            if tokio::time::timeout(Duration::from_millis(50), running.mirror.next()).await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if running.mirror.is_due() {
            running.mirror.settle(&mut running.writer).await.unwrap();
        }
    }

    async fn cut(&mut self, running: &mut Running) {
        let revisions = std::mem::take(&mut running.heard);
        let (Some(first), Some(last)) = (revisions.first(), revisions.last()) else { return };
        let (first, last) = (Revision(first.revision.0), Revision(last.revision.0));
        let events = revisions.iter().map(|one| one.events.len() as u64).sum();
        let bytes = Segment { previous: running.previous, revisions }.encode();
        let line = running.writer.catalog().current().id;
        let nonce = format!("n{}", running.writer.catalog().head().seq);
        let name = |wrap| names::tail(line, first, last, &nonce, wrap);
        let packed = pack::bytes(&self.lying, &Recipients::nobody(), name, bytes.into()).await.unwrap();
        running.previous = packed.plain.sha256.0;
        let segment = eyrie_archive::record::Segment {
            first,
            last,
            first_at_ms: now(),
            last_at_ms: now(),
            events,
            end: None,
            followed_as: None,
            plain: packed.plain,
            stored: packed.stored,
        };
        let mirrored_to = running.mirror.mirrored_to(running.writer.catalog(), Some(last));
        running.writer.append(Kind::TailCut(TailCut { segment, mirrored_to })).await.unwrap();
    }

    async fn full(&mut self, running: &mut Running) {
        if let Some(head) = running.writer.catalog().current().tail_head {
            take_full(&mut running.writer, &self.lying, head).await;
        }
    }

    /// Every revision that is listed as wholly recoverable has every object that the model says it needs.
    async fn check(&mut self) {
        let catalog = catalog::read(&self.archive, None).await.unwrap().whole().unwrap();
        let index = read_index(&self.archive, &catalog).await.unwrap();
        assert_eq!(index.len() as u64, catalog.totals().objects, "what is counted is what is there");
        let stretches = catalog.spans().into_iter().flat_map(|spans| {
            let line = spans.timeline;
            spans.stretches.into_iter().map(move |stretch| (line, stretch))
        });
        for (line, stretch) in stretches {
            let Stretch::Span(span) = stretch else { continue };
            let lacks = span.lacks.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(!lacks.contains("not understood"), "the model writes what Milvus does: {lacks}");
            if span.lacks.is_some() {
                continue;
            }
            for revision in span.from.revision.0..=span.to.revision.0 {
                self.seen.whole += 1;
                self.seen.older += u64::from(line != catalog.current().id);
                for path in &self.milvus.required[&(line.0, revision)] {
                    self.seen.required += 1;
                    let Some(entry) = index.get(path) else {
                        panic!(
                            "revision {revision} is listed, and {path} is not in the mirror: {:#?}",
                            catalog.spans()
                        );
                    };
                    let uses = entry.uses.iter().any(|one| one.meets(line, Revision(revision), Revision(revision)));
                    assert!(uses, "retention would not know that revision {revision} needs {path}: {entry:?}");
                    let stat = self.archive.stat(entry.stored.path.as_str()).await.unwrap();
                    assert_eq!(stat.map(|stat| stat.len), Some(entry.stored.len), "{path} of revision {revision}");
                }
            }
        }
    }
}

async fn take_full(writer: &mut Writer, bucket: &Bucket, revision: Revision) {
    let (line, nonce) = (writer.catalog().current().id, format!("n{}", writer.catalog().head().seq));
    let taken = stored_full(bucket, &Recipients::nobody(), line, revision, &nonce, now()).await;
    writer.append(Kind::FullTaken(taken)).await.unwrap();
}
