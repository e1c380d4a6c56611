//! Retention over random histories whose clocks jump: what must stay stays, what goes is gone wholly, and a run that is
//! killed between any two deletions is finished by the next. `EYRIE_LONG=1` makes 100,000 histories instead of a few.

#![allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]

mod kit;

use std::collections::{BTreeMap, BTreeSet};

use eyrie_archive::{
    Catalog, Entry, Index, Kind, Line, LivedMillis, Revision, Seq, SourcePath, StoredPath, TimelineId, UnixMillis, Use,
    names,
    record::{
        DamagedFile, Depth, Expired, IndexMerged, ObjectsMirrored, ObjectsRemoved, Stored, Swept, TimelineBegan,
        Verified,
    },
    retention::{ByUse, Fate, Kept, Listed, Period, Policy, Rule, Thing, Why, orphans, plan, plan_objects},
};
use kit::{Archive, Chance, hash, source};

const HISTORIES: [u64; 2] = [1000, 100_000];
const STEPS: u64 = 60;
const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;

#[test]
fn random_histories_keep_what_must_stay() {
    let histories = HISTORIES[usize::from(std::env::var_os("EYRIE_LONG").is_some())];
    let one: Option<u64> = std::env::var("EYRIE_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut removed = 0;
    for seed in one.map_or(0..histories, |seed| seed..seed + 1) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.expire();
            world.removed
        });
        match run {
            Ok(count) => removed += count,
            Err(panic) => {
                eprintln!("history {seed} failed; repeat it with EYRIE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(one.is_some() || removed > histories, "these histories remove next to nothing: {removed}");
}

/// A bucket, a clock that jumps, and an index of objects.
struct World {
    archive: Archive,
    chance: Chance,
    policy: Policy,
    index: Index,
    /// Index pieces by name.
    pieces: BTreeMap<String, Vec<Line>>,
    revision: i64,
    objects: u64,
    removed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let policy = any_policy(&mut chance);
        Self {
            archive: Archive::open(),
            policy,
            index: Index::new(),
            pieces: BTreeMap::new(),
            revision: 1 + chance.below(100) as i64,
            objects: 0,
            removed: 0,
            chance,
        }
    }

    fn step(&mut self) {
        self.pass_time();
        match self.chance.below(100) {
            0..=24 => self.full(),
            25..=54 => self.cut(),
            55..=58 => self.gap(),
            59..=68 => self.verify(),
            69..=74 => self.merge(),
            75..=76 => self.timeline(),
            77..=86 => self.mirror(),
            87..=90 => {
                let name = self.archive.catalog.checkpoint_file().0;
                self.archive.checkpoint();
                assert!(self.archive.files.contains_key(name.as_str()));
            }
            _ => self.expire(),
        }
    }

    fn pass_time(&mut self) {
        let chance = &mut self.chance;
        let jump = match chance.below(40) {
            0 => chance.below(20 * YEAR as u64) as i64,
            1 => -(chance.below(20 * YEAR as u64) as i64),
            2..=8 => 0,
            9 => i64::MAX / 4,
            10 => -i64::MAX / 4,
            _ => chance.below(20 * HOUR as u64) as i64,
        };
        let now = &mut self.archive.now.0;
        *now = now.saturating_add(jump).clamp(-i64::MAX / 2, i64::MAX / 2);
    }

    fn line_head(&self) -> i64 {
        self.archive.catalog.current().newest_revision().map_or(0, |revision| revision.0)
    }

    fn full(&mut self) {
        self.revision = self.revision.max(self.line_head()) + self.chance.below(3) as i64;
        if self.archive.catalog.current().tail_head.is_some() && self.chance.below(2) == 0 {
            self.revision = self.line_head();
        }
        self.archive.full(self.revision);
        self.data_files();
    }

    fn cut(&mut self) {
        let Some(head) = self.archive.catalog.current().tail_head else { return };
        let last = head.0 + 1 + self.chance.below(20) as i64;
        self.archive.cut(head.0 + 1, last);
        self.data_files();
    }

    fn gap(&mut self) {
        if let Some(head) = self.archive.catalog.current().tail_head {
            self.archive.gap(head.0 + 1);
            self.revision = head.0 + 1 + self.chance.below(10) as i64;
        }
    }

    fn verify(&mut self) {
        let fulls: Vec<Seq> = self.archive.catalog.fulls().iter().map(|(_, full)| full.seq).collect();
        let Some(full) = self.chance.pick(&fulls) else { return };
        let (line, found) = self.archive.catalog.full(full).unwrap();
        let chain: Vec<StoredPath> = line.chain(found).map(|piece| piece.segment.stored.path.clone()).collect();
        let up_to = line.chain(found).last().map_or(found.taken.revision, |piece| piece.segment.last);
        let mut damaged = Vec::new();
        if self.chance.below(4) == 0 {
            let path = self.chance.pick(&chain).unwrap_or(found.taken.stored.path.clone());
            damaged.push(DamagedFile { path, what: "too short".into(), uses: Vec::new() });
        }
        let depth = if self.chance.below(4) == 0 { Depth::Structure } else { Depth::Data };
        let ok = damaged.is_empty();
        self.archive.write(Kind::Verified(Verified {
            full,
            up_to,
            depth,
            ok,
            files: 1,
            bytes: 1,
            damaged,
            unnamed: Vec::new(),
            took_ms: 1,
        }));
    }

    fn merge(&mut self) {
        let firsts: Vec<i64> = self.archive.catalog.current().tail.keys().map(|first| first.0).collect();
        let Some(first) = self.chance.pick(&firsts) else { return };
        let mut last = None;
        for piece in self.archive.catalog.current().tail.range(Revision(first)..).map(|(_, piece)| piece).take(4) {
            if last.is_some_and(|last: Revision| last.next() != piece.segment.first) {
                break;
            }
            last = Some(piece.segment.last);
        }
        self.archive.merge(first, last.unwrap().0);
        self.data_files();
    }

    fn timeline(&mut self) {
        let why = "restored".into();
        self.archive.write(Kind::TimelineBegan(TimelineBegan { parent: None, why, source: source() }));
        self.revision = 1 + self.chance.below(1000) as i64;
    }

    /// New objects that are referenced from about now on, some no longer; sometimes the whole index in one piece.
    fn mirror(&mut self) {
        let catalog = &self.archive.catalog;
        let (timeline, head, lived_ms) = (catalog.current().id, self.line_head(), catalog.lived_at(self.archive.now));
        let mut lines = Vec::new();
        for _ in 0..=self.chance.below(3) {
            self.objects += 1;
            let source = SourcePath::new(format!("files/insert_log/{:06}", self.objects)).unwrap();
            let from = Revision((head - self.chance.below(30) as i64).max(0));
            let to = (self.chance.below(2) == 0).then(|| Revision(from.0 + self.chance.below(40) as i64));
            let stored = kit::stored(names::object(&source, names::Wrap::default()).unwrap());
            self.archive.files.insert(stored.path.to_string(), Vec::new());
            let uses = vec![Use { timeline, from, to }];
            lines.push(Line::Mirrored(Entry { source, len: 7, sha256: hash("7"), stored, lived_ms, uses }));
        }
        let open = |entry: &&Entry| entry.uses.iter().any(|one| one.timeline == timeline && one.to.is_none());
        let used: Vec<SourcePath> = self.index.entries().filter(open).map(|entry| entry.source.clone()).collect();
        if let Some(source) = self.chance.pick(&used) {
            lines.push(Line::Released { source, timeline, to: Revision(head) });
        }
        self.index.apply(&lines).unwrap();
        let objects = lines.iter().filter(|line| matches!(line, Line::Mirrored(_))).count() as u64;
        let piece = self.piece(lines);
        let bytes = 7 * objects;
        let what = ObjectsMirrored {
            piece,
            objects,
            bytes,
            stored_bytes: 1000 * objects,
            mirrored_to: None,
            repaired: Vec::new(),
        };
        self.archive.write(Kind::ObjectsMirrored(what));
        if self.chance.below(4) == 0 {
            let lines = eyrie_archive::index::decode_piece(&self.index.merged()).unwrap();
            let (up_to, objects) = (self.archive.catalog.head().seq, lines.len() as u64);
            let piece = self.piece(lines);
            let (bytes, stored_bytes) = (7 * objects, 1000 * objects);
            self.archive.write(Kind::IndexMerged(IndexMerged { piece, up_to, objects, bytes, stored_bytes }));
        }
    }

    fn piece(&mut self, lines: Vec<Line>) -> Stored {
        let nonce = format!("p{}", self.pieces.len());
        let path = names::index(self.archive.catalog.head().seq, &nonce, names::Wrap::default()).unwrap();
        self.pieces.insert(path.to_string(), lines);
        self.archive.files.insert(path.to_string(), Vec::new());
        kit::stored(path)
    }

    /// The bucket has every file that the catalogue names.
    fn data_files(&mut self) {
        for path in named_files(&self.archive.catalog) {
            self.archive.files.entry(path).or_default();
        }
    }

    fn expire(&mut self) {
        let before = self.archive.catalog.clone();
        let (now, policy) = (self.archive.now, self.policy.clone());
        let plan = plan(&before, &policy, now).unwrap();
        assert!(plan.fits(&before));
        let references = ByUse { current: before.current().id };
        let objects = plan_objects(&plan, &self.index, &references);
        let mut expired = plan.record();
        if plan.is_empty() && objects.removed.is_empty() {
            return;
        }
        self.removed += 1;
        if !objects.removed.is_empty() {
            let list = self.piece(eyrie_archive::index::decode_piece(&objects.list()).unwrap());
            let (bytes, stored_bytes) = objects.bytes();
            let count = objects.removed.len() as u64;
            expired.objects = Some(ObjectsRemoved { list, objects: count, bytes, stored_bytes });
        }
        must_refuse_the_last_chain(&self.archive, &expired);
        // A piece of the tail that a merged one stands in for may go with the rest; all other files stay until named.
        let seq = self.archive.write(Kind::Expired(expired));
        for entry in &objects.removed {
            self.index.apply(&[Line::Removed { source: entry.source.clone(), stored: None }]).unwrap();
        }
        let after = self.archive.catalog.clone();
        what_must_stay_stays(&before, &after, &policy, now);
        kept_is_what_stays(&after, &plan.kept);
        young_things_stay(&plan.items, &policy);
        removed_objects_are_needed_by_none(&objects.removed, &after);
        self.killed_anywhere(seq);
    }

    /// Deletes in the order of the plan, killed in between at random; each next run reads the bucket afresh.
    fn killed_anywhere(&mut self, expiry: Seq) {
        loop {
            let reading = self.archive.load(None).unwrap();
            assert_eq!(reading.damage, []);
            assert_eq!(reading.catalog, self.archive.catalog, "what is read is what was written");
            let Some((_, rest)) = reading.catalog.unswept().find(|(seq, _)| *seq == expiry) else { break };
            let mut names: Vec<String> = rest.names().map(|name| name.to_string()).collect();
            if let Some(list) = &rest.objects {
                let stored = |line: &Line| names::object(line.source(), names::Wrap::default()).unwrap().to_string();
                names.extend(self.pieces[list.path.as_str()].iter().map(stored));
            }
            let killed_at = self.chance.below(3 * names.len() as u64 + 3) as usize;
            for name in names.iter().take(killed_at) {
                self.archive.files.remove(name);
            }
            if killed_at > names.len() {
                self.archive.write(Kind::Swept(Swept { expired: expiry, left: Vec::new() }));
            }
        }
        self.nothing_is_lost_or_left();
    }

    /// Exactly the named files are there, and the index is what its pieces say.
    fn nothing_is_lost_or_left(&self) {
        let catalog = &self.archive.catalog;
        let mut expected: BTreeSet<String> = named_files(catalog);
        expected.extend(self.index.entries().map(|entry| entry.stored.path.to_string()));
        expected.extend(catalog.checkpoints().iter().map(|(seq, _)| names::checkpoint(*seq).to_string()));
        expected.insert(names::record(Seq(1)).to_string());
        let records = catalog.records_from().0.max(1)..=catalog.head().seq.0;
        expected.extend(records.map(|seq| names::record(Seq(seq)).to_string()));
        let there: BTreeSet<String> = self.archive.files.keys().cloned().collect();
        assert_eq!(there, expected);

        let mut index = Index::new();
        for (_, piece) in catalog.pieces() {
            index.apply(&self.pieces[piece.stored.path.as_str()]).unwrap();
        }
        assert_eq!(index, self.index);
        assert_eq!(catalog.totals().objects, self.index.len() as u64);

        // What a killed writer left is found, and nothing else.
        let mut listed: Vec<StoredPath> = there.iter().map(|name| StoredPath::new(name.as_str()).unwrap()).collect();
        let left = [
            "full/0001/1-x.snap",
            "tail/0001/1-2-x.tail",
            "index/1-x.jsonl",
            "objects/x",
            "checkpoint/000000000001.json",
        ];
        let left: Vec<StoredPath> = left.iter().map(|name| StoredPath::new(*name).unwrap()).collect();
        listed.extend(left.iter().cloned());
        listed.push(StoredPath::new("notes/mine.txt").unwrap());
        assert_eq!(orphans(catalog, &self.index, &listed, &BTreeSet::new()).unwrap(), left);
        let in_flight: BTreeSet<StoredPath> = left.into_iter().collect();
        assert_eq!(orphans(catalog, &self.index, &listed, &in_flight).unwrap(), []);
        if !self.index.is_empty() {
            assert!(orphans(catalog, &Index::new(), &listed, &BTreeSet::new()).is_err());
        }
    }
}

/// Files that records name, except records and checkpoints.
fn named_files(catalog: &Catalog) -> BTreeSet<String> {
    let mut files: BTreeSet<String> = BTreeSet::new();
    for line in catalog.timelines() {
        files.extend(line.fulls.values().map(|full| full.taken.stored.path.to_string()));
        files.extend(line.tail.values().map(|piece| piece.segment.stored.path.to_string()));
    }
    files.extend(catalog.pieces().map(|(_, piece)| piece.stored.path.to_string()));
    files.extend(catalog.superseded().flat_map(|(_, old)| &old.files).map(|file| file.path.to_string()));
    files
}

/// The rules again, written down from the other side: by what can be recovered, not by what is marked.
fn what_must_stay_stays(before: &Catalog, after: &Catalog, policy: &Policy, now: UnixMillis) {
    let recoverable = |catalog: &Catalog, timeline: TimelineId, revision: Revision| {
        catalog.timeline(timeline).is_some_and(|line| catalog.runs(line).iter().any(|run| run.has(revision)))
    };
    let lived = before.lived_at(now);
    if let Some((line, full)) = before.last_verified() {
        assert_eq!(after.last_verified().map(|(_, full)| full.seq), Some(full.seq), "the last verified chain");
        let mut chain = line.chain(full).map(|piece| piece.segment.last);
        assert!(chain.all(|last| !recoverable(before, line.id, last) || recoverable(after, line.id, last)));
    } else {
        assert_eq!(before.fulls().len(), after.fulls().len(), "nothing is verified, nothing goes");
    }
    let newest = |catalog: &Catalog| catalog.fulls().last().map(|(_, full)| full.seq);
    assert_eq!(newest(before), newest(after));
    for line in before.timelines() {
        for piece in line.tail.values().filter(|piece| age(piece.lived, lived) <= policy.tail.millis()) {
            for revision in [piece.segment.first, piece.segment.last] {
                if recoverable(before, line.id, revision) {
                    assert!(recoverable(after, line.id, revision), "revision {revision} of the tail window");
                }
            }
        }
    }
    for rule in &policy.fulls {
        let slots = |catalog: &Catalog| -> BTreeSet<u64> {
            let fulls = catalog.fulls().into_iter().map(|(_, full)| full);
            let good = fulls.filter(|full| full.verified.is_some() && !catalog.is_damaged(&full.taken.stored.path));
            let young = good.filter(|full| age(full.lived, lived) <= rule.keep.millis());
            young.map(|full| full.lived.0 / rule.every.millis()).collect()
        };
        assert_eq!(slots(before), slots(after), "a verified full for each slot of {}", rule.every);
    }
    let verified = |catalog: &Catalog| {
        let fulls = catalog.fulls().into_iter().map(|(_, full)| full);
        fulls.filter(|full| full.verified.is_some() && !catalog.is_damaged(&full.taken.stored.path)).count()
    };
    assert!(verified(after) >= verified(before).min(policy.keep_last));
}

fn kept_is_what_stays(after: &Catalog, kept: &[Kept]) {
    let mut runs = Vec::new();
    for line in after.timelines() {
        runs.extend(after.runs(line).iter().map(|run| Kept { timeline: line.id, from: run.from, to: run.to }));
    }
    assert_eq!(runs, kept);
}

fn young_things_stay(items: &[eyrie_archive::retention::Item], policy: &Policy) {
    for item in items.iter().filter(|item| item.fate.goes()) {
        let merged = matches!(item.thing, Thing::Superseded { .. });
        assert!(merged || item.age_ms >= policy.min_age.millis(), "{item:?}");
    }
}

fn removed_objects_are_needed_by_none(removed: &[Entry], after: &Catalog) {
    for entry in removed {
        for one in &entry.uses {
            assert!(one.to.is_some() || one.timeline != after.current().id, "still in use: {entry:?}");
            let line = after.timeline(one.timeline).unwrap();
            for run in after.runs(line) {
                let meets = one.from <= run.to && one.to.is_none_or(|to| to >= run.from);
                assert!(!meets, "{entry:?} is needed in {run:?}");
            }
        }
    }
}

/// Whoever makes a plan by other means meets the same wall.
fn must_refuse_the_last_chain(archive: &Archive, expired: &Expired) {
    let catalog = &archive.catalog;
    let newest = catalog.fulls().last().map(|(_, full)| full.seq);
    for full in newest.into_iter().chain(catalog.last_verified().map(|(_, full)| full.seq)) {
        let mut wrong = expired.clone();
        wrong.fulls.push(full);
        catalog.draft(&archive.writer, archive.now, Kind::Expired(wrong)).unwrap_err();
    }
}

fn age(then: LivedMillis, now: LivedMillis) -> u64 {
    now.0 - then.0
}

/// A policy that can be meant; one of four keeps next to nothing by itself, so that only the wall holds the last chain.
fn any_policy(chance: &mut Chance) -> Policy {
    match chance.below(4) {
        0 => return Policy::default(),
        1 => {
            let hour = Period::hours(1);
            let fulls = vec![Rule { every: hour, keep: hour }];
            let (tail, min_age, superseded) = (hour, hour, hour);
            return Policy { fulls, keep_last: 0, tail, min_age, superseded, keep_before_loss: false };
        }
        _ => {}
    }
    let every = [Period::hours(1), Period::hours(5), Period::days(1), Period::days(3)];
    let keep = [Period::days(3), Period::days(4), Period::days(11), Period::days(60)];
    let rules = chance.below(4);
    // Without `keep-last` only the rule of the last verified chain holds it.
    let keep_last = (chance.below(4) as usize).max(usize::from(rules == 0));
    let rule = |chance: &mut Chance| Rule { every: chance.pick(&every).unwrap(), keep: chance.pick(&keep).unwrap() };
    Policy {
        fulls: (0..rules).map(|_| rule(chance)).collect(),
        keep_last,
        tail: chance.pick(&[Period::hours(3), Period::days(1), Period::days(7)]).unwrap(),
        min_age: chance.pick(&[Period::hours(1), Period::days(1)]).unwrap(),
        superseded: Period::hours(1),
        keep_before_loss: true,
    }
}
#[test]
fn the_default_is_the_table_of_the_runbooks() {
    let mut archive = Archive::open();
    // A year and a half, every six hours a full and a tail; each full verified an hour later.
    for hour in 0..(550 * 4) {
        archive.now.0 += 6 * HOUR - 4000;
        let revision = 10 + hour * 10;
        archive.full(revision);
        archive.cut(if hour == 0 { 11 } else { revision + 1 }, revision + 10);
        archive.verify_last();
        if hour % 40 == 39 {
            let plan = plan(&archive.catalog, &Policy::default(), archive.now).unwrap();
            if !plan.is_empty() {
                archive.write(Kind::Expired(plan.record()));
            }
        }
    }
    let plan = plan(&archive.catalog, &Policy::default(), archive.now).unwrap();
    let mut by_rule: BTreeMap<String, u64> = BTreeMap::new();
    for item in plan.items.iter().filter(|item| matches!(item.thing, Thing::Full { .. })) {
        if let Fate::Kept(why) = item.fate {
            let key = match why {
                Why::Rule { every, .. } => every.to_string(),
                other => other.to_string(),
            };
            *by_rule.entry(key).or_default() += 1;
        }
    }
    let fulls: u64 = by_rule.values().sum();
    // 28 of a week, 23 more days, 9 more weeks, one or two at the edges.
    assert!((58..=64).contains(&fulls), "{by_rule:?}");
    assert!(by_rule["6h"] + by_rule.get("it is one of the last ones").copied().unwrap_or(0) >= 26, "{by_rule:?}");
    assert!((22..=24).contains(&by_rule["1d"]), "{by_rule:?}");
    assert!((8..=10).contains(&by_rule["7d"]), "{by_rule:?}");
}

#[test]
fn a_clock_ten_years_ahead_ages_nothing_by_more_than_two_days() {
    let mut archive = Archive::open();
    for day in 0..40 {
        archive.now.0 += 24 * HOUR;
        archive.full(10 + day);
        archive.verify_last();
    }
    let sane = plan(&archive.catalog, &Policy::default(), archive.now).unwrap();
    let mad = plan(&archive.catalog, &Policy::default(), UnixMillis(archive.now.0 + 10 * YEAR)).unwrap();
    let past = plan(&archive.catalog, &Policy::default(), UnixMillis(0)).unwrap();
    let gone = |plan: &eyrie_archive::ExpirePlan| plan.items.iter().filter(|item| item.fate.goes()).count();
    assert!(gone(&mad) <= gone(&sane) + 2, "{} and {}", gone(&mad), gone(&sane));
    assert_eq!(gone(&past), gone(&sane));
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused() {
    let rule = |every: Period, keep: Period| Policy { fulls: vec![Rule { every, keep }], ..Policy::default() };
    let none = Policy { fulls: Vec::new(), keep_last: 0, ..Policy::default() };
    assert!(none.check().unwrap_err().to_string().contains("keeps no fulls"));
    assert!(rule(Period::days(7), Period::days(1)).check().unwrap_err().to_string().contains("keeps none"));
    for (text, why) in [
        ("0d", "zero"),
        ("-7d", "negative"),
        ("", "empty"),
        ("d", "whole number"),
        ("7", "must end"),
        ("1.5h", "whole number"),
        ("9999999999w", "100 years"),
        ("99999999999999999999999d", "100 years"),
        ("7 d", "whole number"),
        ("7é", "must end"),
    ] {
        let error = text.parse::<Period>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for (text, same) in [("6h", "6h"), ("48h", "2d"), ("2w", "14d"), ("90m", "90m"), ("61s", "61s")] {
        assert_eq!(text.parse::<Period>().unwrap().to_string(), same);
    }
    let json = r#"{"fulls":[{"every":"6h","keep":"7d"}],"tail":"3d"}"#;
    let policy: Policy = serde_json::from_str(json).unwrap();
    assert_eq!((policy.keep_last, policy.tail), (3, Period::days(3)));
    assert!(serde_json::from_str::<Policy>(r#"{"keeplast":3}"#).is_err(), "a typing error is no default");
}

#[test]
fn a_list_computed_for_other_revisions_frees_nothing() {
    let source = SourcePath::new("files/a").unwrap();
    let stored = kit::stored(names::object(&source, names::Wrap::default()).unwrap());
    let entry = Entry { source, len: 1, sha256: hash("a"), stored, lived_ms: LivedMillis(0), uses: Vec::new() };
    let kept = |from, to| Kept { timeline: TimelineId(1), from: Revision(from), to: Revision(to) };
    let (looked, none) = ([kept(10, 20)], BTreeSet::new());
    let listed = Listed { of: &looked, objects: &none };
    use eyrie_archive::References as _;
    assert!(!listed.need(&[kept(12, 20)], &entry));
    assert!(listed.need(&[kept(12, 21)], &entry));
    assert!(listed.need(&[kept(12, 20), kept(30, 30)], &entry));
}

#[test]
fn a_source_that_is_suddenly_empty_does_not_push_out_what_it_had() {
    let mut archive = Archive::open();
    let rich = archive.full_of(10, 5000);
    archive.verify_last();
    for day in 1..=200 {
        archive.now.0 += 24 * HOUR;
        archive.full_of(10 + day, 3);
        archive.verify_last();
    }
    let fate = |policy: &Policy| {
        let plan = plan(&archive.catalog, policy, archive.now).unwrap();
        let of = |thing: &Thing| matches!(thing, Thing::Full { seq, .. } if *seq == rich);
        plan.items.into_iter().find(|item| of(&item.thing)).unwrap().fate
    };
    assert_eq!(fate(&Policy::default()), Fate::Kept(Why::BeforeLoss));
    assert!(fate(&Policy { keep_before_loss: false, ..Policy::default() }).goes());
}

#[test]
fn what_the_store_refuses_to_delete_is_tried_again() {
    let mut archive = Archive::open();
    for day in 0..100 {
        archive.now.0 += 24 * HOUR;
        archive.full(10 + day);
        archive.verify_last();
    }
    let plan = plan(&archive.catalog, &Policy::default(), archive.now).unwrap();
    let expired = archive.write(Kind::Expired(plan.record()));
    let rest = |archive: &Archive| archive.catalog.unswept().next().map(|(_, rest)| rest.names().count());
    let count = rest(&archive).unwrap();
    assert!(count > 10);
    let locked = archive.catalog.unswept().next().unwrap().1.files[0].clone();
    let left = vec![eyrie_archive::record::Left { stored: locked, why: "WORM until 2030".into() }];
    archive.write(Kind::Swept(Swept { expired, left }));
    assert_eq!(rest(&archive), Some(1));
    archive.write(Kind::Swept(Swept { expired, left: Vec::new() }));
    assert_eq!(rest(&archive), None);
    // A full that is locked by its record is not even tried.
    let (oldest, newest) = (archive.catalog.fulls()[0].1.seq, archive.catalog.fulls().last().unwrap().1.seq);
    assert!(oldest < newest);
}
