//! Objects: those that no kept revision references.

use std::collections::BTreeSet;

use serde::Serialize;

use super::ExpirePlan;
use crate::{
    catalog::{Catalog, Timeline},
    ids::{Revision, SourcePath, TimelineId},
    index::{Entry, Index, Line, Use, encode_piece},
    spans::Run,
};

/// Revisions that stay recoverable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The history.
    pub timeline: TimelineId,
    /// The first.
    pub from: Revision,
    /// The last.
    pub to: Revision,
}

/// Knows which objects revisions reference.
pub trait References {
    /// Whether any revision of `kept`, or any that may still come, references the object. In doubt: yes.
    fn need(&self, kept: &[Kept], object: &Entry) -> bool;
}

/// What the index itself remembers: needs no key and no metadata.
#[derive(Debug, Clone, Copy)]
pub struct ByUse {
    /// The history that is being written: what is in use there stays in use.
    pub current: TimelineId,
}

impl References for ByUse {
    fn need(&self, kept: &[Kept], object: &Entry) -> bool {
        object.uses.iter().any(|one| {
            let open = one.timeline == self.current && one.to.is_none();
            open || kept.iter().any(|kept| one.meets(kept.timeline, kept.from, kept.to))
        })
    }
}

/// What was computed from the metadata of exactly these revisions. For any others it says that all is needed.
#[derive(Debug, Clone)]
pub struct Listed<'a> {
    /// The revisions that were looked at.
    pub of: &'a [Kept],
    /// All objects that any of them references.
    pub objects: &'a BTreeSet<SourcePath>,
}

impl References for Listed<'_> {
    fn need(&self, kept: &[Kept], object: &Entry) -> bool {
        let looked = |kept: &Kept| {
            let covers = |of: &&Kept| of.timeline == kept.timeline && of.from <= kept.from && of.to >= kept.to;
            self.of.iter().any(|of| covers(&of))
        };
        !kept.iter().all(looked) || self.objects.contains(&object.source)
    }
}

/// Objects that go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ObjectPlan {
    /// Those that go.
    pub removed: Vec<Entry>,
    /// How many stay because a kept revision references them.
    pub needed: u64,
    /// How many stay because they are younger than the minimum age.
    pub young: u64,
    /// How many stay because the store has locked them.
    pub locked: u64,
}

impl ObjectPlan {
    /// The list that an [`crate::record::ObjectsRemoved`] names: an index piece with a removal for each.
    pub fn list(&self) -> Vec<u8> {
        let lines: Vec<Line> = self.removed.iter().map(removal).collect();
        encode_piece(&lines)
    }

    /// Bytes that go, at the source and as stored.
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |of: fn(&Entry) -> u64| self.removed.iter().map(of).fold(0, u64::saturating_add);
        (sum(|entry| entry.len), sum(|entry| entry.stored.len))
    }
}

fn removal(entry: &Entry) -> Line {
    Line::Removed { source: entry.source.clone(), stored: Some(entry.stored.clone()) }
}

/// The objects that no revision needs which `plan` keeps, and that are old enough to go.
pub fn plan_objects(plan: &ExpirePlan, index: &Index, references: &dyn References) -> ObjectPlan {
    let mut objects = ObjectPlan::default();
    for entry in index.entries() {
        if references.need(&plan.needed, entry) {
            objects.needed += 1;
        } else if entry.lived_ms.age(plan.lived) < plan.min_age.millis() {
            objects.young += 1;
        } else if entry.stored.locked_until_ms.is_some_and(|until| until > plan.now) {
            objects.locked += 1;
        } else {
            objects.removed.push(entry.clone());
        }
    }
    objects
}

impl Catalog {
    /// The uses of an object of which nothing is known: every revision that is kept, of every history, and of the current one
    /// also those to come.
    pub fn every_use(&self) -> Vec<Use> {
        let of = |line: &Timeline| {
            let current = line.id == self.current().id;
            let oldest = line.fulls.values().map(|full| full.taken.revision).min();
            let from = oldest.or(current.then_some(Revision(1)))?;
            Some(Use { timeline: line.id, from, to: if current { None } else { line.newest_revision() } })
        };
        self.timelines().filter_map(of).collect()
    }

    /// What stays recoverable after an expiry; `repaired` as if nothing were damaged: the next look may find it well.
    pub(super) fn runs_after(&self, expired: &crate::record::Expired, repaired: bool) -> Vec<Kept> {
        let mut after = self.clone();
        after.expire(crate::ids::Seq(u64::MAX), expired);
        if repaired {
            after.damaged.clear();
        }
        let mut kept = Vec::new();
        for line in after.timelines() {
            let runs = after.runs(line).into_iter();
            kept.extend(runs.map(|Run { from, to }| Kept { timeline: line.id, from, to }));
        }
        kept
    }
}
