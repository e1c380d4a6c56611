//! Fulls and tail: what stays, what goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use super::{Kept, Period, Policy, PolicyError};
use crate::{
    catalog::{Catalog, Full, TailPiece, Timeline},
    ids::{LivedMillis, Revision, Seq, StoredPath, TimelineId, UnixMillis},
    record::{Expired, Link, TailRange},
};

/// A source that had this many times the keys it has now has lost something.
const LOSS_FACTOR: u64 = 10;
/// Fewer keys than this are no loss worth a word.
const LOSS_KEYS_MIN: u64 = 100;

/// What retention would do, and why. Printing it is a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpirePlan {
    /// Everything that was judged, in the order of the records.
    pub items: Vec<Item>,
    /// Revisions that stay recoverable.
    pub kept: Vec<Kept>,
    /// Revisions whose objects stay: those, and what damage hides now.
    #[serde(skip)]
    pub(super) needed: Vec<Kept>,
    /// The policy, in words.
    pub policy: String,
    /// The plan holds for this state of the catalogue only.
    #[serde(skip)]
    pub(super) head: Link,
    #[serde(skip)]
    pub(super) lived: LivedMillis,
    #[serde(skip)]
    pub(super) now: UnixMillis,
    #[serde(skip)]
    pub(super) min_age: Period,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// About what.
    pub thing: Thing,
    /// Its bytes as stored.
    pub bytes: u64,
    /// Its age in the archive's life.
    pub age_ms: u64,
    /// The judgement.
    pub fate: Fate,
}

/// What can stay or go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Thing {
    /// A full snapshot.
    Full {
        /// The history.
        timeline: TimelineId,
        /// Its record.
        seq: Seq,
        /// Its revision.
        revision: Revision,
        /// When it was taken, by the writer's clock.
        taken_at_ms: UnixMillis,
        /// Its file.
        path: StoredPath,
    },
    /// A piece of tail.
    Tail {
        /// The history.
        timeline: TimelineId,
        /// Its first revision.
        first: Revision,
        /// Its last.
        last: Revision,
        /// Its file.
        path: StoredPath,
    },
    /// Files that a merged one stands in for.
    Superseded {
        /// The merging record.
        by: Seq,
        /// How many.
        files: usize,
    },
    /// Records that a checkpoint holds.
    Records {
        /// The first that stays, besides the very first.
        before: Seq,
    },
}

/// Stays or goes, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "because")]
pub enum Fate {
    /// Stays.
    Kept(Why),
    /// Goes.
    Removed(WhyGone),
}

impl Fate {
    /// Whether it goes.
    pub fn goes(self) -> bool {
        matches!(self, Self::Removed(_))
    }
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is the last verified chain.
    LastVerified,
    /// It is the newest chain.
    Newest,
    /// No chain is verified: nothing may go.
    NothingVerified,
    /// No verified chain came after it.
    NoneVerifiedSince,
    /// The source has lost most of its keys since.
    BeforeLoss,
    /// One of the last so many.
    KeepLast,
    /// The newest of its slot.
    Rule {
        /// The slot.
        every: Period,
        /// For how long.
        keep: Period,
    },
    /// The tail that is kept begins with it.
    TailBase,
    /// It is within the time for which every revision is kept.
    TailWindow,
    /// It leads from a kept full to the tail that is kept.
    LeadsToTail,
    /// Too young to be removed.
    Young,
    /// The store refuses to delete it until then.
    Locked {
        /// The time.
        until_ms: UnixMillis,
    },
    /// What stands in for it is damaged.
    StandInDamaged,
    /// An expiry that is not finished still reads it.
    InUse,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyGone {
    /// No rule keeps a full of that age and slot.
    NoRule,
    /// It is older than the tail that is kept.
    BeforeTail,
    /// No good full comes before it: nothing can be restored from it.
    NoBase,
    /// A merged file stands in for it.
    Superseded,
    /// A checkpoint holds what they say.
    Folded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastVerified => f.write_str("it belongs to the last verified chain"),
            Self::Newest => f.write_str("it belongs to the newest chain"),
            Self::NothingVerified => f.write_str("no chain is verified yet; run: eyrie backup verify"),
            Self::NoneVerifiedSince => f.write_str("no chain was verified since; run: eyrie backup verify"),
            Self::BeforeLoss => f.write_str(
                "the source has lost nine tenths of its keys since; if that is right, set keep-before-loss: false",
            ),
            Self::KeepLast => f.write_str("it is one of the last ones"),
            Self::Rule { every, keep } => write!(f, "one every {every} is kept for {keep}"),
            Self::TailBase => f.write_str("the tail that is kept begins with it"),
            Self::TailWindow => f.write_str("every revision of that time is kept"),
            Self::LeadsToTail => f.write_str("it leads to the tail that is kept"),
            Self::Young => f.write_str("it is younger than the minimum age"),
            Self::Locked { until_ms } => write!(f, "the store has locked it until {until_ms}"),
            Self::StandInDamaged => f.write_str("the file that stands in for it is damaged"),
            Self::InUse => f.write_str("an unfinished expiry still reads it"),
        }
    }
}

impl fmt::Display for WhyGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRule => "no rule keeps one of that age",
            Self::BeforeTail => "it is older than the tail that is kept",
            Self::NoBase => "no good full comes before it: nothing can be restored from it",
            Self::Superseded => "a merged file stands in for it",
            Self::Folded => "a checkpoint holds what they say",
        })
    }
}

/// Judges every full and every piece of tail, what merges left behind, and old records.
///
/// # Errors
/// [`PolicyError`]: the policy cannot be meant; nothing may be removed by it.
pub fn plan(catalog: &Catalog, policy: &Policy, now: UnixMillis) -> Result<ExpirePlan, PolicyError> {
    policy.check()?;
    let judge = Judge { catalog, policy, now, lived: catalog.lived_at(now) };
    let mut fulls = judge.fulls();
    let tail = judge.tail(&mut fulls);
    let mut items: Vec<(Seq, Item)> = Vec::new();
    for (line, full) in catalog.fulls() {
        let fate = fulls.get(&full.seq).copied().map_or(Fate::Removed(WhyGone::NoRule), Fate::Kept);
        items.push((full.seq, judge.item_of_full(line, full, fate)));
    }
    for (seq, item) in tail {
        items.push((seq, item));
    }
    items.extend(judge.superseded());
    items.extend(judge.records());
    items.sort_by_key(|(seq, _)| *seq);
    let mut plan = ExpirePlan {
        items: items.into_iter().map(|(_, item)| item).collect(),
        kept: Vec::new(),
        needed: Vec::new(),
        policy: policy.to_string(),
        head: catalog.head(),
        lived: judge.lived,
        now,
        min_age: policy.min_age,
    };
    plan.kept = catalog.runs_after(&plan.record(), false);
    plan.needed = catalog.runs_after(&plan.record(), true);
    Ok(plan)
}

impl ExpirePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.items.iter().any(|item| item.fate.goes())
    }

    /// Bytes that go.
    pub fn bytes(&self) -> u64 {
        self.items.iter().filter(|item| item.fate.goes()).map(|item| item.bytes).fold(0, u64::saturating_add)
    }

    /// What the catalogue is told, before anything is deleted. Objects come from [`super::plan_objects`].
    pub fn record(&self) -> Expired {
        let mut expired = Expired { policy: self.policy.clone(), ..Expired::default() };
        for item in self.items.iter().filter(|item| item.fate.goes()) {
            match &item.thing {
                Thing::Full { seq, .. } => expired.fulls.push(*seq),
                Thing::Tail { timeline, first, last, .. } => {
                    expired.tails.push(TailRange { timeline: *timeline, first: *first, last: *last });
                }
                Thing::Superseded { by, .. } => expired.superseded.push(*by),
                Thing::Records { before } => expired.records_before = Some(*before),
            }
        }
        expired.tails = joined(expired.tails);
        expired
    }

    /// Whether the plan was made for this state of the catalogue.
    pub fn fits(&self, catalog: &Catalog) -> bool {
        self.head == catalog.head()
    }
}

/// Ranges that touch become one: a record stays small however many pieces go.
fn joined(mut ranges: Vec<TailRange>) -> Vec<TailRange> {
    ranges.sort_by_key(|range| (range.timeline, range.first));
    let mut all: Vec<TailRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.timeline == range.timeline && last.last.next() == range.first => last.last = range.last,
            _ => all.push(range),
        }
    }
    all
}

struct Judge<'a> {
    catalog: &'a Catalog,
    policy: &'a Policy,
    now: UnixMillis,
    lived: LivedMillis,
}

impl Judge<'_> {
    /// The fulls that stay, each with the strongest reason.
    fn fulls(&self) -> BTreeMap<Seq, Why> {
        let all = self.catalog.fulls();
        let mut kept: BTreeMap<Seq, Why> = BTreeMap::new();
        let mut keep = |seq: Seq, why: Why| {
            kept.entry(seq).or_insert(why);
        };
        let verified = self.catalog.last_verified().map(|(_, full)| full.seq);
        verified.into_iter().for_each(|seq| keep(seq, Why::LastVerified));
        all.last().into_iter().for_each(|(_, full)| keep(full.seq, Why::Newest));
        for (_, full) in &all {
            match verified {
                None => keep(full.seq, Why::NothingVerified),
                Some(verified) if full.seq > verified => keep(full.seq, Why::NoneVerifiedSince),
                Some(_) => {}
            }
        }
        let good = || all.iter().rev().filter(|(_, full)| full.verified.is_some() && self.catalog.is_good(full));
        if let Some(seq) = self.before_loss(&all, good().map(|(_, full)| *full)) {
            keep(seq, Why::BeforeLoss);
        }
        good().take(self.policy.keep_last).for_each(|(_, full)| keep(full.seq, Why::KeepLast));
        for rule in &self.policy.fulls {
            for seq in self.slots(&all, rule.every, rule.keep) {
                keep(seq, Why::Rule { every: rule.every, keep: rule.keep });
            }
        }
        for (_, full) in &all {
            if full.lived.age(self.lived) < self.policy.min_age.millis() {
                keep(full.seq, Why::Young);
            }
            if let Some(until_ms) = full.taken.stored.locked_until_ms.filter(|until| *until > self.now) {
                keep(full.seq, Why::Locked { until_ms });
            }
        }
        kept
    }

    /// The newest verified full that had ten times the keys of the newest full, if any.
    fn before_loss<'a>(&self, all: &[(&Timeline, &Full)], mut good: impl Iterator<Item = &'a Full>) -> Option<Seq> {
        let (_, newest) = all.last().filter(|_| self.policy.keep_before_loss)?;
        let loss = newest.taken.keys.saturating_mul(LOSS_FACTOR).max(LOSS_KEYS_MIN);
        good.find(|full| full.taken.keys >= loss).map(|full| full.seq)
    }

    /// The best full of each slot: a verified one before others, the newest of these. Damaged ones do not count.
    fn slots(&self, all: &[(&Timeline, &Full)], every: Period, keep: Period) -> Vec<Seq> {
        let mut slots: BTreeMap<u64, (bool, Seq)> = BTreeMap::new();
        for (_, full) in all.iter().filter(|(_, full)| self.catalog.is_good(full)) {
            if full.lived.age(self.lived) <= keep.millis() {
                let slot = slots.entry(full.lived.0 / every.millis()).or_default();
                *slot = (*slot).max((full.verified.is_some(), full.seq));
            }
        }
        slots.into_values().map(|(_, seq)| seq).collect()
    }

    /// Judges the tail, and keeps the fulls that it needs.
    fn tail(&self, fulls: &mut BTreeMap<Seq, Why>) -> Vec<(Seq, Item)> {
        let mut items = Vec::new();
        for line in self.catalog.timelines() {
            let mut kept = self.wanted(line);
            let unusable = self.bases(line, &mut kept, fulls);
            for piece in line.tail.values() {
                let fate = self.fate_of_piece(piece, &kept, &unusable);
                items.push((piece.seq, self.item_of_piece(line, piece, fate)));
            }
        }
        items
    }

    /// The pieces that must stay, from some revision on all of them.
    fn wanted(&self, line: &Timeline) -> BTreeMap<Revision, Why> {
        let mut wanted: BTreeMap<Revision, Why> = BTreeMap::new();
        let verified = self.catalog.last_verified().map(|(_, full)| full.seq);
        for (owner, full) in self.catalog.protected() {
            let why = if Some(full.seq) == verified { Why::LastVerified } else { Why::Newest };
            for piece in owner.chain(full).filter(|_| owner.id == line.id) {
                wanted.entry(piece.segment.first).or_insert(why);
            }
        }
        for piece in line.tail.values() {
            let why = match verified {
                None => Why::NothingVerified,
                Some(verified) if piece.seq > verified => Why::NoneVerifiedSince,
                Some(_) if piece.lived.age(self.lived) <= self.policy.tail.millis() => Why::TailWindow,
                Some(_) => continue,
            };
            wanted.entry(piece.segment.first).or_insert(why);
        }
        // What comes later in the history never goes before what comes earlier.
        if let Some((start, _)) = wanted.first_key_value() {
            for first in line.tail.range(*start..).map(|(first, _)| *first).collect::<Vec<_>>() {
                wanted.entry(first).or_insert(Why::TailWindow);
            }
        }
        wanted
    }

    /// Keeps a good full for each unbroken part of the tail that stays, and the tail that leads from it there. Answers
    /// the pieces of the window that have no full, and lets them go.
    fn bases(
        &self,
        line: &Timeline,
        kept: &mut BTreeMap<Revision, Why>,
        fulls: &mut BTreeMap<Seq, Why>,
    ) -> BTreeSet<Revision> {
        let Some(start) = kept.first_key_value().map(|(start, _)| *start) else { return BTreeSet::new() };
        let mut by_revision: Vec<&Full> = line.fulls.values().filter(|full| self.catalog.is_good(full)).collect();
        by_revision.sort_by_key(|full| (full.taken.revision, full.seq));
        let mut unusable: BTreeSet<Revision> = kept.keys().copied().collect();
        // The newest good full before the start whose good tail leads to it; else what stays begins with a later one.
        let leads = |full: &&Full| self.catalog.good_chain(line, full).any(|piece| piece.segment.first >= start);
        let before = by_revision.iter().rev().filter(|full| full.taken.revision < start).find(|full| leads(full));
        let inside = by_revision.iter().filter(|full| full.taken.revision >= start);
        let mut reached: Option<Revision> = None;
        for full in before.into_iter().chain(inside) {
            if reached.is_some_and(|reached| full.taken.revision <= reached) {
                continue;
            }
            fulls.entry(full.seq).or_insert(Why::TailBase);
            reached = reached.max(Some(full.taken.revision));
            for piece in self.catalog.good_chain(line, full) {
                kept.entry(piece.segment.first).or_insert(Why::LeadsToTail);
                unusable.remove(&piece.segment.first);
                reached = reached.max(Some(piece.segment.last));
            }
        }
        // A damaged piece stays as long as its neighbours: the next look at it may find it well.
        unusable.retain(|first| {
            let damaged = line.tail.get(first).is_some_and(|piece| self.catalog.is_damaged(&piece.segment.stored.path));
            kept.get(first) == Some(&Why::TailWindow) && !damaged
        });
        for first in &unusable {
            kept.remove(first);
        }
        unusable
    }

    fn fate_of_piece(&self, piece: &TailPiece, kept: &BTreeMap<Revision, Why>, unusable: &BTreeSet<Revision>) -> Fate {
        if let Some(why) = kept.get(&piece.segment.first) {
            return Fate::Kept(*why);
        }
        if piece.lived.age(self.lived) < self.policy.min_age.millis() {
            return Fate::Kept(Why::Young);
        }
        match piece.segment.stored.locked_until_ms.filter(|until| *until > self.now) {
            Some(until_ms) => Fate::Kept(Why::Locked { until_ms }),
            None if unusable.contains(&piece.segment.first) => Fate::Removed(WhyGone::NoBase),
            None => Fate::Removed(WhyGone::BeforeTail),
        }
    }

    fn superseded(&self) -> Vec<(Seq, Item)> {
        let lists: BTreeSet<&StoredPath> =
            self.catalog.unswept().filter_map(|(_, rest)| rest.objects.as_ref()).map(|list| &list.path).collect();
        let damaged = |by: Seq| {
            let tail = self.catalog.timelines().flat_map(|line| line.tail.values());
            let tail = tail.map(|piece| (piece.seq, &piece.segment.stored.path));
            tail.filter(|(seq, _)| *seq == by).any(|(_, path)| self.catalog.is_damaged(path))
        };
        let judged = self.catalog.superseded().map(|(by, old)| {
            let age_ms = old.lived.age(self.lived);
            let locked = old.files.iter().filter_map(|file| file.locked_until_ms).max();
            let fate = if age_ms < self.policy.superseded.millis() {
                Fate::Kept(Why::Young)
            } else if damaged(by) {
                Fate::Kept(Why::StandInDamaged)
            } else if old.files.iter().any(|file| lists.contains(&file.path)) {
                Fate::Kept(Why::InUse)
            } else if let Some(until_ms) = locked.filter(|until| *until > self.now) {
                Fate::Kept(Why::Locked { until_ms })
            } else {
                Fate::Removed(WhyGone::Superseded)
            };
            let bytes = old.files.iter().map(|file| file.len).fold(0, u64::saturating_add);
            (by, Item { thing: Thing::Superseded { by, files: old.files.len() }, bytes, age_ms, fate })
        });
        judged.collect()
    }

    /// Records before the newest checkpoint that is old enough; the newest two checkpoints always stay.
    fn records(&self) -> Option<(Seq, Item)> {
        let checkpoints = self.catalog.checkpoints();
        let old = checkpoints.iter().rev().skip(1);
        let (before, age_ms) = old
            .map(|(seq, lived)| (*seq, lived.age(self.lived)))
            .find(|(_, age)| *age >= self.policy.min_age.millis())?;
        if before <= self.catalog.records_from() {
            return None;
        }
        Some((
            before,
            Item { thing: Thing::Records { before }, bytes: 0, age_ms, fate: Fate::Removed(WhyGone::Folded) },
        ))
    }

    fn item_of_full(&self, line: &Timeline, full: &Full, fate: Fate) -> Item {
        let thing = Thing::Full {
            timeline: line.id,
            seq: full.seq,
            revision: full.taken.revision,
            taken_at_ms: full.taken.taken_at_ms,
            path: full.taken.stored.path.clone(),
        };
        Item { thing, bytes: full.taken.stored.len, age_ms: full.lived.age(self.lived), fate }
    }

    fn item_of_piece(&self, line: &Timeline, piece: &TailPiece, fate: Fate) -> Item {
        let segment = &piece.segment;
        let path = segment.stored.path.clone();
        let thing = Thing::Tail { timeline: line.id, first: segment.first, last: segment.last, path };
        Item { thing, bytes: segment.stored.len, age_ms: piece.lived.age(self.lived), fate }
    }
}
