//! What a verification has to say: for machines as it is, for people in words.

use std::collections::BTreeMap;

use eyrie_archive::index::Use;
use eyrie_archive::record::{Depth, Verified};
use eyrie_archive::verify::{Check, Loss, Part, VerifyPlan, loss};
use eyrie_archive::{ArchiveId, Catalog, Damage, Seq, StoredPath};
use serde::Serialize;

use crate::limits::FINDINGS_TOLD;

/// The outcome. Fields may be added, none changes its meaning.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The archive.
    pub archive: ArchiveId,
    /// Its newest record.
    pub head: Seq,
    /// How deep it was looked.
    pub depth: Depth,
    /// Chains that were looked at.
    pub chains: usize,
    /// Files, records and checkpoints included.
    pub files: u64,
    /// Objects in the mirror.
    pub objects: u64,
    /// Bytes that were read to be hashed.
    pub bytes: u64,
    /// What is wrong with the catalogue itself.
    pub catalog: Vec<CatalogFinding>,
    /// Damaged files, the first ones of them.
    pub damaged: Vec<Finding>,
    /// How many there are.
    pub damaged_files: u64,
    /// What does not add up.
    pub notes: Vec<String>,
    /// Files that could not be looked at, and why.
    pub unseen: Vec<String>,
    /// What belongs into the catalogue.
    pub verdicts: Vec<Verified>,
    /// How long it took.
    pub took_ms: u64,
}

/// Something wrong with the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogFinding {
    /// What.
    pub what: String,
    /// What follows from it.
    pub means: String,
}

/// A damaged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub path: StoredPath,
    /// What it is for.
    pub is: Part,
    /// What is wrong with it.
    pub what: String,
    /// What is lost by it.
    pub loss: Loss,
}

impl Report {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Self {
            archive: catalog.archive().clone(),
            head: catalog.head().seq,
            depth: Depth::Structure,
            chains: 0,
            files: 0,
            objects: 0,
            bytes: 0,
            catalog: Vec::new(),
            damaged: Vec::new(),
            damaged_files: 0,
            notes: Vec::new(),
            unseen: Vec::new(),
            verdicts: Vec::new(),
            took_ms: 0,
        }
    }

    /// Whether everything was looked at and is well.
    pub fn is_well(&self) -> bool {
        !self.is_damaged() && self.unseen.is_empty()
    }

    /// Whether something is wrong with the archive.
    pub fn is_damaged(&self) -> bool {
        !self.catalog.is_empty() || self.damaged_files > 0 || !self.notes.is_empty()
    }

    /// Objects among the damaged files, by their names at the source.
    pub fn damaged_objects(&self) -> Vec<String> {
        let object = |finding: &Finding| match &finding.is {
            Part::Object(source) => Some(source.as_str().to_owned()),
            _ => None,
        };
        self.damaged.iter().filter_map(object).collect()
    }

    /// Whether a piece of the index is damaged.
    pub fn is_index_damaged(&self) -> bool {
        self.damaged.iter().any(|finding| finding.is == Part::Index)
    }

    pub(super) fn miscounted(&mut self, read: u64, counted: u64) {
        self.notes.push(format!("the index has {read} objects, but the records count {counted}"));
    }

    pub(super) fn tell_damage(&mut self, catalog: &Catalog, damage: Vec<Damage>) {
        let begins = catalog.checkpoint().map_or(Seq::FIRST, |link| link.seq);
        self.catalog = damage
            .into_iter()
            .map(|one| {
                let means = match &one {
                    Damage::RolledBack { .. } | Damage::Rewritten { .. } => {
                        "what later records said is not known here: everything newer may be lost. Look for a copy of \
                         the bucket, or at its versions, before anything is written"
                    }
                    Damage::Checkpoint { .. } => {
                        "readers begin with an older one; nothing is lost as long as that is there"
                    }
                    _ if one.place() < begins => {
                        "it is older than the newest checkpoint, which says the same: nothing is lost, and retention \
                         removes it one day"
                    }
                    _ => "what it said is not known: the files that it named do not count",
                };
                CatalogFinding { what: one.to_string(), means: means.into() }
            })
            .collect();
    }

    pub(super) fn tell_files(&mut self, catalog: &Catalog, plan: &VerifyPlan, wrong: &BTreeMap<StoredPath, String>) {
        self.damaged_files = wrong.len() as u64;
        let found = |check: &&Check| wrong.contains_key(&check.stored.path);
        let mut found: Vec<&Check> = plan.checks.iter().filter(found).collect();
        found.sort_by_key(|check| matches!(check.is, Part::Object(_)));
        self.damaged = found
            .into_iter()
            .take(FINDINGS_TOLD)
            .map(|check| Finding {
                path: check.stored.path.clone(),
                is: check.is.clone(),
                what: wrong.get(&check.stored.path).cloned().unwrap_or_default(),
                loss: loss(catalog, check),
            })
            .collect();
    }
}

impl Finding {
    /// What is lost, in words.
    pub fn means(&self) -> String {
        let Loss { metadata, objects } = &self.loss;
        match (&self.is, metadata.is_empty(), objects.is_empty()) {
            (Part::Index, ..) => "which objects are in the mirror is not wholly known, until the index is made anew: by the agent, or with \
                             --repair".into(),
            (Part::Object(_), _, true) => "which revisions need it is not known".into(),
            (Part::Object(_), ..) => format!("needed by {}", ranges(objects)),
            (_, true, _) => "no revision is lost: other files hold what it held".into(),
            (_, false, _) => format!("lost: {}", ranges(metadata)),
        }
    }
}

fn ranges(uses: &[Use]) -> String {
    let one = |one: &Use| match one.to {
        Some(to) if to == one.from => format!("revision {} of timeline {}", to, one.timeline),
        Some(to) => format!("revisions {} to {} of timeline {}", one.from, to, one.timeline),
        None => format!("revisions from {} on of timeline {}", one.from, one.timeline),
    };
    uses.iter().map(one).collect::<Vec<_>>().join(", ")
}
