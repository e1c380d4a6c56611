//! What a restore does, step by step, before it does anything.
//!
//! ```text
//! target + what is wanted + what is already there ─▶ RestorePlan ─▶ the shell acts, in this order
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    ids::{Revision, SourcePath},
    index::{Entry, Index},
    limits::NAMED_MAX,
    record::{Plain, Stored},
    resolve::{Scope, Stop, Target},
};

/// What a restore is to make.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// Metadata, objects, or what is there of them.
    pub scope: Scope,
    /// Members whose data directories are written; none when only objects come back.
    pub members: &'a [String],
    /// The objects of the target revision; absent when only metadata comes back.
    pub objects: Option<Objects<'a>>,
}

/// Objects that a revision references, and where they are.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    /// What the metadata references, with the length where the metadata knows it.
    pub wanted: &'a BTreeMap<SourcePath, Option<u64>>,
    /// What the target bucket holds already, with its length.
    pub present: &'a BTreeMap<SourcePath, u64>,
    /// The mirror.
    pub index: &'a Index,
}

/// A step, in the order of acting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Step {
    /// Fetch the snapshot, check both hashes.
    FetchFull {
        /// The file.
        stored: Stored,
        /// What must be in it.
        plain: Plain,
        /// Its revision.
        revision: Revision,
    },
    /// Fetch a piece of tail, check both hashes, apply its revisions after `after`.
    ApplyTail {
        /// The file.
        stored: Stored,
        /// What must be in it.
        plain: Plain,
        /// Revisions up to this one are there already.
        after: Revision,
        /// Stop behind the target.
        stop: Stop,
    },
    /// Copy an object into the target bucket.
    CopyObject {
        /// From where to where.
        object: Entry,
    },
    /// Write a member's data directory.
    WriteMember {
        /// The member.
        name: String,
    },
    /// Compare counts, digests and lengths with what was recorded.
    Verify,
}

/// A restore that can be printed and acted upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// What to do, in this order. Objects come before the metadata that references them is put to use.
    pub steps: Vec<Step>,
    /// Bytes to read from the archive.
    pub read_bytes: u64,
    /// Objects to copy.
    pub objects: u64,
    /// Their bytes at the source.
    pub object_bytes: u64,
    /// Objects that are at the target already.
    pub present: u64,
    /// What does not come back, and why: a line for a person each.
    pub lost: Vec<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// Why a restore is not begun. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hindered {
    /// The mirror lacks objects.
    #[error(
        "{count} objects that this revision references are not in the archive, for example {example}. Nothing was touched. Choose another moment (eyrie backup list), or restore what is there with --partial"
    )]
    Missing {
        /// How many.
        count: u64,
        /// One of them.
        example: SourcePath,
    },
    /// The target holds something else under the same name.
    #[error(
        "the target bucket already has {path} with {found} bytes, but the archive's has {expected}: it belongs to something else. Nothing was touched. Restore into an empty bucket or under another root path"
    )]
    Occupied {
        /// The object.
        path: SourcePath,
        /// Its length at the target.
        found: u64,
        /// Its length in the archive.
        expected: u64,
    },
    /// The archive's copy is not what the metadata says.
    #[error(
        "the archive's {path} has {found} bytes, but the metadata says {expected}. Nothing was touched. Run: eyrie backup verify --read-data"
    )]
    OtherLength {
        /// The object.
        path: SourcePath,
        /// Its length in the archive.
        found: u64,
        /// Its length by the metadata.
        expected: u64,
    },
}

/// Plans a restore of a resolved target.
///
/// # Errors
/// [`Hindered`].
pub fn restore_plan(target: &Target, want: &Want<'_>) -> Result<RestorePlan, Hindered> {
    let mut plan = RestorePlan {
        steps: Vec::new(),
        read_bytes: 0,
        objects: 0,
        object_bytes: 0,
        present: 0,
        lost: lost_by_time(target),
        notes: target.notes.clone(),
    };
    plan.metadata(target);
    if let Some(objects) = &want.objects {
        plan.objects(objects, want.scope)?;
    }
    plan.steps.extend(want.members.iter().map(|name| Step::WriteMember { name: name.clone() }));
    plan.steps.push(Step::Verify);
    Ok(plan)
}

impl RestorePlan {
    fn metadata(&mut self, target: &Target) {
        let full = &target.full.taken;
        let (stored, plain) = (full.stored.clone(), full.plain);
        self.read_bytes = self.read_bytes.saturating_add(stored.len);
        self.steps.push(Step::FetchFull { stored, plain, revision: full.revision });
        let mut after = full.revision;
        for piece in &target.tail {
            self.read_bytes = self.read_bytes.saturating_add(piece.stored.len);
            let (stored, plain) = (piece.stored.clone(), piece.plain);
            self.steps.push(Step::ApplyTail { stored, plain, after, stop: target.stop });
            after = after.max(piece.last);
        }
    }

    fn objects(&mut self, objects: &Objects<'_>, scope: Scope) -> Result<(), Hindered> {
        let mut missing: Vec<&SourcePath> = Vec::new();
        for (path, len) in objects.wanted {
            let Some(entry) = objects.index.get(path.as_str()) else {
                missing.push(path);
                continue;
            };
            if let Some(expected) = len.filter(|len| *len != entry.len) {
                return Err(Hindered::OtherLength { path: path.clone(), found: entry.len, expected });
            }
            match objects.present.get(path) {
                Some(found) if *found == entry.len => self.present += 1,
                Some(found) => {
                    return Err(Hindered::Occupied { path: path.clone(), found: *found, expected: entry.len });
                }
                None => {
                    self.read_bytes = self.read_bytes.saturating_add(entry.stored.len);
                    self.objects += 1;
                    self.object_bytes = self.object_bytes.saturating_add(entry.len);
                    self.steps.push(Step::CopyObject { object: entry.clone() });
                }
            }
        }
        let count = missing.len() as u64;
        if let Some(example) = missing.first().filter(|_| scope == Scope::Everything) {
            return Err(Hindered::Missing { count, example: (*example).clone() });
        }
        self.lost.extend(missing.iter().take(NAMED_MAX).map(|path| format!("object {path}: it is not in the archive")));
        if missing.len() > NAMED_MAX {
            self.lost.push(format!("{} more objects that are not in the archive", missing.len() - NAMED_MAX));
        }
        Ok(())
    }
}

fn lost_by_time(target: &Target) -> Vec<String> {
    let mut lost = Vec::new();
    if let Some(given) = target.gives_up {
        let until = given.to.at_ms.map_or(String::new(), |at| format!(" (until {at})"));
        lost.push(format!("revisions {} to {}{until}: they are newer than the target", given.from, given.to.revision));
    }
    if let Some(known) = target.known_until_ms {
        lost.push(format!("whatever the source did after {known}: the archive has not seen it"));
    }
    if let Some(lack) = &target.lacks {
        lost.push(lack.to_string());
    }
    lost
}
