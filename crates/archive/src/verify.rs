//! What a verification looks at, and what the catalogue is told of what was found.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    catalog::Catalog,
    ids::{Revision, Seq, Sha256, SourcePath, StoredPath, TimelineId},
    index::{Entry, Index},
    limits::NAMED_MAX,
    record::{DamagedFile, Depth, Stored, Verified},
};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Everything is there with its length.
    Structure,
    /// Metadata is read, and this many objects; another seed picks others.
    Sample {
        /// How many.
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
    let mut chains = Vec::new();
    for (line, full) in fulls.iter().filter_map(|seq| catalog.full(*seq)) {
        let revision = full.taken.revision;
        let mut chain =
            Chain { full: full.seq, timeline: line.id, from: revision, up_to: revision, files: BTreeSet::new() };
        let mut add = |chain: &mut Chain, stored: &Stored, read: bool, is: Part| {
            chain.files.insert(stored.path.clone());
            let check = || Check { stored: stored.clone(), read, is };
            checks.entry(stored.path.clone()).or_insert_with(check);
        };
        add(&mut chain, &full.taken.stored, read, Part::Full(revision));
        for piece in line.chain(full) {
            let segment = &piece.segment;
            chain.up_to = chain.up_to.max(segment.last);
            add(&mut chain, &segment.stored, read, Part::Tail(segment.first, segment.last));
        }
        for (_, piece) in catalog.pieces() {
            add(&mut chain, &piece.stored, read, Part::Index);
        }
        let mut objects: Vec<&Entry> = index.entries().filter(|entry| needs(&chain, entry)).collect();
        if let Look::Sample { objects: count, seed } = look {
            objects.sort_by_cached_key(|entry| draw(seed, &entry.source));
            for (at, entry) in objects.into_iter().enumerate() {
                add(&mut chain, &entry.stored, at < count, Part::Object(entry.source.clone()));
            }
        } else {
            for entry in objects {
                add(&mut chain, &entry.stored, read, Part::Object(entry.source.clone()));
            }
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
            let damaged = wrong.iter().filter(|(path, _)| chain.files.contains(*path));
            let damaged = damaged.map(|(path, what)| DamagedFile { path: path.clone(), what: what.clone() });
            let damaged: Vec<DamagedFile> = damaged.take(NAMED_MAX).collect();
            let (full, up_to, depth, ok) = (chain.full, chain.up_to, self.depth, damaged.is_empty());
            Verified { full, up_to, depth, ok, files, bytes, damaged, took_ms }
        };
        self.chains.iter().map(of_chain).collect()
    }
}

/// Whether a revision of the chain references the object. One whose uses are unknown is looked at.
fn needs(chain: &Chain, entry: &Entry) -> bool {
    let meets = |one: &crate::index::Use| {
        one.timeline == chain.timeline && one.from <= chain.up_to && one.to.is_none_or(|to| to >= chain.from)
    };
    entry.uses.is_empty() || entry.uses.iter().any(meets)
}

/// A draw without chance: the same seed picks the same objects.
fn draw(seed: u64, source: &SourcePath) -> Sha256 {
    let mut bytes = seed.to_be_bytes().to_vec();
    bytes.extend_from_slice(source.as_str().as_bytes());
    Sha256::of(&bytes)
}
