//! What a mirror run will do, and why. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::bucket::{Entry, Stat};

/// Why an object is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The target does not have it.
    Missing,
    /// The target has another length.
    Length {
        /// Bytes at the source.
        source: u64,
        /// Bytes at the target.
        target: u64,
    },
    /// It changed at the source after the target was written, or a store does not tell when.
    Newer,
    /// Its content differs, though its length and time do not tell.
    Content,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the target does not have it"),
            Self::Length { source, target } => write!(f, "{target} bytes at the target, {source} at the source"),
            Self::Newer => f.write_str("changed at the source since it was copied"),
            Self::Content => f.write_str("same length, other content"),
        }
    }
}

/// One object to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyStep {
    /// Its name, on both sides.
    pub key: String,
    /// Its length at the source.
    pub len: u64,
    /// The reason.
    pub why: Why,
}

/// One object to remove from the target: the source does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Its name.
    pub key: String,
    /// Its length.
    pub len: u64,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What is copied.
    Source,
    /// Where it is copied to.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "SRC",
            Self::Target => "DST",
        })
    }
}

/// Something that is left alone, because it is no object or can't be kept under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Where it is.
    pub side: Side,
    /// Its name, as far as it can be printed.
    pub name: String,
    /// What is odd about it.
    pub why: String,
}

/// What a run will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In order of names.
    pub copies: Vec<CopyStep>,
    /// In order of names; done after all copies succeeded.
    pub removals: Vec<Removal>,
    /// Objects that are equal already.
    pub same: u64,
    /// Their bytes.
    pub same_bytes: u64,
    /// Objects that only the target has and that stay, as removing was not asked for.
    pub extra: u64,
    /// What is left alone.
    pub gaps: Vec<Gap>,
}

impl Plan {
    /// Bytes of all copies.
    pub fn copy_bytes(&self) -> u64 {
        self.copies.iter().map(|step| step.len).sum()
    }

    /// Bytes of all removals.
    pub fn removal_bytes(&self) -> u64 {
        self.removals.iter().map(|removal| removal.len).sum()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.removals.is_empty()
    }
}

/// Why no plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Removing everything is seldom meant: an unmounted disk or a wrong name looks just so.
    #[error(
        "the source is empty: nothing removed. The target has {objects} objects, and all of them would go.\n  Next: check \
         the source's address; if it is meant to be empty, add --remove-all-if-source-is-empty."
    )]
    EmptySource {
        /// Objects at the target.
        objects: u64,
    },
}

/// Whether an object must be copied, by what the stores say about it.
///
/// Equal marks (`ETag`) of one kind mean equal contents. Otherwise it is the same when the length is, and the target was
/// written after the source's last change; in doubt it is copied.
pub fn differs(source: &Stat, target: Option<&Stat>) -> Option<Why> {
    let Some(target) = target else { return Some(Why::Missing) };
    if source.len != target.len {
        return Some(Why::Length { source: source.len, target: target.len });
    }
    if source.etag.is_some() && source.etag == target.etag {
        return None;
    }
    match (source.modified, target.modified) {
        (Some(changed), Some(written)) if written >= changed => None,
        _ => Some(Why::Newer),
    }
}

/// Compares two listings.
///
/// # Errors
/// [`Refusal`], when `remove` is asked for and the source has nothing, unless `even_if_empty`.
pub fn plan(source: Vec<Entry>, target: Vec<Entry>, remove: bool, even_if_empty: bool) -> Result<Plan, Refusal> {
    if remove && source.is_empty() && !target.is_empty() && !even_if_empty {
        return Err(Refusal::EmptySource { objects: target.len() as u64 });
    }
    let mut target: BTreeMap<String, Stat> = target.into_iter().map(|entry| (entry.key, entry.stat)).collect();
    // A listing may repeat a name; the last word counts.
    let source: BTreeMap<String, Stat> = source.into_iter().map(|entry| (entry.key, entry.stat)).collect();
    let mut plan = Plan::default();
    for (key, stat) in source {
        match differs(&stat, target.remove(&key).as_ref()) {
            Some(why) => plan.copies.push(CopyStep { key, len: stat.len, why }),
            None => {
                plan.same += 1;
                plan.same_bytes += stat.len;
            }
        }
    }
    if remove {
        plan.removals = target.into_iter().map(|(key, stat)| Removal { key, len: stat.len }).collect();
    } else {
        plan.extra = target.len() as u64;
    }
    Ok(plan)
}
