//! What a verification looks at, and what the catalogue is told of what was found.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    catalog::{Catalog, Timeline},
    ids::{Revision, Seq, Sha256, SourcePath, StoredPath, TimelineId},
    index::{Entry, Index, Use},
    limits::NAMED_MAX,
    record::{DamagedFile, Depth, Stored, Verified},
    spans::Run,
};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Everything is there with its length.
    Structure,
    /// Metadata is read, and this many objects; another seed picks others.
    Sample {
        /// How many of all.
        objects: usize,
        /// Which.
        seed: u64,
    },
    /// Every byte is read.
    Data,
}

impl Look {
    /// As the catalogue records it.
    pub fn depth(self) -> Depth {
        match self {
            Self::Structure => Depth::Structure,
            Self::Sample { .. } => Depth::Sample,
            Self::Data => Depth::Data,
        }
    }
}

/// A file to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The file, with the length and hash that it must have.
    pub stored: Stored,
    /// Read and hash it, or only ask for its length.
    pub read: bool,
    /// What it is.
    pub is: Part,
    /// Of an object: the revisions that need it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
}

/// What a file is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A full snapshot.
    Full(Revision),
    /// A piece of tail.
    Tail(Revision, Revision),
    /// A piece of the index.
    Index,
    /// A mirrored object.
    Object(SourcePath),
}

/// A chain that is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The record of its full.
    pub full: Seq,
    /// Its history.
    pub timeline: TimelineId,
    /// Its first revision.
    pub from: Revision,
    /// Its last.
    pub up_to: Revision,
    /// Files that it needs.
    #[serde(skip)]
    pub files: BTreeSet<StoredPath>,
}

/// A verification that can be printed and acted upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyPlan {
    /// The chains.
    pub chains: Vec<Chain>,
    /// Each file once.
    pub checks: Vec<Check>,
    /// Bytes to read.
    pub read_bytes: u64,
    /// How deep.
    pub depth: Depth,
}

/// Plans to verify the chains that begin with these fulls; unknown ones are left out. Objects are looked at where the
/// index says that a revision of a chain references them.
pub fn verify_plan(catalog: &Catalog, index: &Index, fulls: &[Seq], look: Look) -> VerifyPlan {
    let mut checks: BTreeMap<StoredPath, Check> = BTreeMap::new();
    let read = look != Look::Structure;
    let sample = sample(index, look);
    let mut chains = Vec::new();
    for (line, full) in fulls.iter().filter_map(|seq| catalog.full(*seq)) {
        let revision = full.taken.revision;
        let mut chain =
            Chain { full: full.seq, timeline: line.id, from: revision, up_to: revision, files: BTreeSet::new() };
        let mut add = |chain: &mut Chain, stored: &Stored, read: bool, is: Part, uses: &[Use]| {
            chain.files.insert(stored.path.clone());
            let check = || Check { stored: stored.clone(), read, is, uses: uses.to_vec() };
            checks.entry(stored.path.clone()).or_insert_with(check);
        };
        add(&mut chain, &full.taken.stored, read, Part::Full(revision), &[]);
        for piece in line.chain(full) {
            let segment = &piece.segment;
            chain.up_to = chain.up_to.max(segment.last);
            add(&mut chain, &segment.stored, read, Part::Tail(segment.first, segment.last), &[]);
        }
        for (_, piece) in catalog.pieces() {
            add(&mut chain, &piece.stored, read, Part::Index, &[]);
        }
        let needed: Vec<&Entry> = index.entries().filter(|entry| needs(&chain, entry)).collect();
        for entry in needed {
            let read = read && sample.as_ref().is_none_or(|sample| sample.contains(&entry.source));
            add(&mut chain, &entry.stored, read, Part::Object(entry.source.clone()), &entry.uses);
        }
        chains.push(chain);
    }
    let checks: Vec<Check> = checks.into_values().collect();
    let read_bytes =
        checks.iter().filter(|check| check.read).map(|check| check.stored.len).fold(0, u64::saturating_add);
    VerifyPlan { chains, checks, read_bytes, depth: look.depth() }
}

impl VerifyPlan {
    /// What the catalogue is told of each chain, given what was wrong with the files, in words.
    pub fn verdicts(&self, wrong: &BTreeMap<StoredPath, String>, took_ms: u64) -> Vec<Verified> {
        let of_chain = |chain: &Chain| {
            let mine = |check: &&Check| chain.files.contains(&check.stored.path);
            let (mut files, mut bytes) = (0, 0_u64);
            for check in self.checks.iter().filter(mine) {
                files += 1;
                bytes = bytes.saturating_add(if check.read { check.stored.len } else { 0 });
            }
            let mut damaged: Vec<DamagedFile> = self
                .checks
                .iter()
                .filter(mine)
                .filter_map(|check| {
                    let (path, what) = wrong.get_key_value(&check.stored.path)?;
                    Some(DamagedFile { path: path.clone(), what: what.clone(), uses: check.uses_in(chain) })
                })
                .collect();
            // Metadata first: what does not find room must be objects.
            damaged.sort_by_key(|file| !file.uses.is_empty());
            let rest = damaged.split_off(damaged.len().min(NAMED_MAX));
            let unnamed = joined(rest.into_iter().flat_map(|file| file.uses));
            let (full, up_to, depth, ok) = (chain.full, chain.up_to, self.depth, damaged.is_empty());
            Verified { full, up_to, depth, ok, files, bytes, damaged, unnamed, took_ms }
        };
        self.chains.iter().map(of_chain).collect()
    }
}

/// What the damage of one file means.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Loss {
    /// Revisions that cannot be restored any more.
    pub metadata: Vec<Use>,
    /// Revisions that come back without one of their objects.
    pub objects: Vec<Use>,
}

/// What it means that `check` is damaged, and nothing besides what is known already: a full that a longer tail stands in
/// for costs nothing, a piece of tail costs all revisions up to the next full.
pub fn loss(catalog: &Catalog, check: &Check) -> Loss {
    match &check.is {
        Part::Object(_) => Loss { metadata: Vec::new(), objects: check.uses.clone() },
        Part::Index => {
            let whole = |line: &Timeline| {
                let runs = catalog.runs(line).into_iter();
                let id = line.id;
                runs.map(move |run| Use { timeline: id, from: run.from, to: Some(run.to) }).collect::<Vec<_>>()
            };
            Loss { metadata: Vec::new(), objects: catalog.timelines().flat_map(whole).collect() }
        }
        Part::Full(_) | Part::Tail(..) => {
            let mut without = catalog.clone();
            without.damaged.insert(check.stored.path.clone(), String::new());
            let lost = catalog.timelines().flat_map(|line| {
                let left = without.runs(line);
                let lost = catalog.runs(line).into_iter().flat_map(move |run| minus(run, &left));
                lost.map(|run| Use { timeline: line.id, from: run.from, to: Some(run.to) })
            });
            Loss { metadata: lost.collect(), objects: Vec::new() }
        }
    }
}

/// The parts of a run that are in none of the others, which are in order.
fn minus(run: Run, others: &[Run]) -> Vec<Run> {
    let (mut rest, mut from) = (Vec::new(), run.from);
    for other in others.iter().filter(|other| other.to >= run.from && other.from <= run.to) {
        if from < other.from {
            rest.push(Run { from, to: other.from.before() });
        }
        from = from.max(other.to.next());
    }
    if from <= run.to {
        rest.push(Run { from, to: run.to });
    }
    rest
}

impl Check {
    /// The revisions that need the object; where that is unknown, all of the chain.
    fn uses_in(&self, chain: &Chain) -> Vec<Use> {
        if matches!(self.is, Part::Object(_)) && self.uses.is_empty() {
            return vec![Use { timeline: chain.timeline, from: chain.from, to: Some(chain.up_to) }];
        }
        self.uses.clone()
    }
}

/// For each history one range that holds all that are given: never less than what is damaged.
fn joined(uses: impl Iterator<Item = Use>) -> Vec<Use> {
    let mut all: BTreeMap<TimelineId, Use> = BTreeMap::new();
    for one in uses {
        let whole = all.entry(one.timeline).or_insert(one);
        whole.from = whole.from.min(one.from);
        whole.to = whole.to.zip(one.to).map(|(a, b)| a.max(b));
    }
    all.into_values().collect()
}

/// Whether a revision of the chain references the object. One whose uses are unknown is looked at.
fn needs(chain: &Chain, entry: &Entry) -> bool {
    entry.uses.is_empty() || entry.uses.iter().any(|one| one.meets(chain.timeline, chain.from, chain.up_to))
}

/// The objects that a sample reads; nothing where it is no sample.
fn sample(index: &Index, look: Look) -> Option<BTreeSet<SourcePath>> {
    let Look::Sample { objects, seed } = look else { return None };
    let mut all: Vec<(Sha256, &SourcePath)> =
        index.entries().map(|entry| (draw(seed, &entry.source), &entry.source)).collect();
    all.sort_unstable();
    Some(all.into_iter().take(objects).map(|(_, source)| source.clone()).collect())
}

/// A draw without chance: the same seed picks the same objects.
fn draw(seed: u64, source: &SourcePath) -> Sha256 {
    let mut bytes = seed.to_be_bytes().to_vec();
    bytes.extend_from_slice(source.as_str().as_bytes());
    Sha256::of(&bytes)
}
