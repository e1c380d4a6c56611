//! Which objects are in the mirror: an index in pieces, each a file of sorted lines.
//!
//! ```text
//! {"index":1}
//! {"mirrored":{"source":…,"len":…,"sha256":…,"stored":{…},"lived_ms":…,"uses":[{"timeline":1,"from":4711}]}}
//! {"used":{"source":…,"timeline":…,"from":…}}        referenced again, by another history or after a pause
//! {"released":{"source":…,"timeline":…,"to":…}}      the last revision that references it
//! {"removed":{"source":…,"stored":…}}              retention gave it up
//! ```
//! Pieces apply in the order of their records. Objects of Milvus never change and are uniquely named, so source path
//! and length identify one; the same path with another length is an error, never a second version. The pieces also
//! remember *which revisions* reference an object: so retention needs no key to old, sealed metadata.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{LivedMillis, Revision, Sha256, SourcePath, TimelineId},
    limits::FORMAT,
    record::Stored,
};

/// An object in the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name at the source.
    pub source: SourcePath,
    /// Its length at the source.
    pub len: u64,
    /// Its hash at the source.
    pub sha256: Sha256,
    /// Where it lies in the archive.
    pub stored: Stored,
    /// The archive's age when it was mirrored.
    pub lived_ms: LivedMillis,
    /// Which revisions reference it.
    pub uses: Vec<Use>,
}

/// Revisions of one history that reference an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The history.
    pub timeline: TimelineId,
    /// The first.
    pub from: Revision,
    /// The last; absent while the newest still does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Revision>,
}

/// A line of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// An object is in the mirror.
    Mirrored(Entry),
    /// A mirrored object is referenced from this revision on.
    Used {
        /// The object.
        source: SourcePath,
        /// The history.
        timeline: TimelineId,
        /// The first revision.
        from: Revision,
    },
    /// A mirrored object is not referenced any more.
    Released {
        /// The object.
        source: SourcePath,
        /// The history.
        timeline: TimelineId,
        /// The last revision that references it.
        to: Revision,
    },
    /// The object is not in the mirror any more.
    Removed {
        /// The object.
        source: SourcePath,
        /// How it lay there. Absent in lists of older versions: then under any of the names that it can have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stored: Option<Stored>,
    },
}

impl Line {
    /// The object that the line is about.
    pub fn source(&self) -> &SourcePath {
        match self {
            Self::Mirrored(entry) => &entry.source,
            Self::Used { source, .. } | Self::Released { source, .. } | Self::Removed { source, .. } => source,
        }
    }
}

/// What is wrong with an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A later program wrote it.
    #[error(
        "the index was written by a newer version of eyrie (format {0}): nothing was changed. Use that newer version"
    )]
    Newer(u32),
    /// A line that is none.
    #[error("line {line} of an index piece is damaged: {what}")]
    Damaged {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The lines are not in order.
    #[error("line {line} of an index piece is out of order: {path}")]
    Disorder {
        /// The line, from 1.
        line: usize,
        /// Its object.
        path: SourcePath,
    },
    /// One name, two contents.
    #[error(
        "{path} has {found} bytes now, but {known} when it was mirrored: objects of Milvus never change. Nothing was overwritten; find out who wrote it"
    )]
    Changed {
        /// The object.
        path: SourcePath,
        /// Its length in the mirror.
        known: u64,
        /// Its length now.
        found: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    index: u32,
}

/// The bytes of a piece: its lines sorted by object, in the given order for each.
pub fn encode_piece(lines: &[Line]) -> Vec<u8> {
    let mut sorted: Vec<&Line> = lines.iter().collect();
    sorted.sort_by_key(|line| line.source());
    let mut bytes = Vec::new();
    write_line(&mut bytes, &Header { index: FORMAT });
    for line in sorted {
        write_line(&mut bytes, line);
    }
    bytes
}

/// The lines of a piece.
///
/// # Errors
/// [`IndexError`].
pub fn decode_piece(bytes: &[u8]) -> Result<Vec<Line>, IndexError> {
    let damaged = |line: usize, what: String| IndexError::Damaged { line, what };
    let body = bytes.strip_suffix(b"\n").ok_or_else(|| damaged(1, "its end is missing".into()))?;
    let mut lines: Vec<Line> = Vec::new();
    for (at, text) in body.split(|byte| *byte == b'\n').enumerate() {
        let place = at + 1;
        if at == 0 {
            let header: Header = serde_json::from_slice(text).map_err(|error| damaged(place, error.to_string()))?;
            if header.index > FORMAT {
                return Err(IndexError::Newer(header.index));
            }
            continue;
        }
        let line: Line = serde_json::from_slice(text).map_err(|error| damaged(place, error.to_string()))?;
        if lines.last().is_some_and(|before| before.source() > line.source()) {
            return Err(IndexError::Disorder { line: place, path: line.source().clone() });
        }
        lines.push(line);
    }
    Ok(lines)
}

fn write_line<T: Serialize>(bytes: &mut Vec<u8>, line: &T) {
    serde_json::to_writer(&mut *bytes, line).expect("plain values with text keys always have JSON");
    bytes.push(b'\n');
}

/// The whole index: all pieces applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    entries: BTreeMap<SourcePath, Entry>,
}

impl Index {
    /// An index of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the lines of the next piece. All of them, or none where there is an error.
    ///
    /// # Errors
    /// [`IndexError::Changed`].
    pub fn apply(&mut self, lines: &[Line]) -> Result<(), IndexError> {
        for line in lines {
            if let Line::Mirrored(entry) = line {
                self.must_be_same(&entry.source, entry.len)?;
            }
        }
        for line in lines {
            self.apply_one(line);
        }
        Ok(())
    }

    /// An object in the mirror.
    pub fn get(&self, source: &str) -> Option<&Entry> {
        self.entries.get(source)
    }

    /// The object in the mirror, if it has this length.
    ///
    /// # Errors
    /// [`IndexError::Changed`]: it has another length.
    pub fn find(&self, source: &SourcePath, len: u64) -> Result<Option<&Entry>, IndexError> {
        self.must_be_same(source, len)?;
        Ok(self.entries.get(source))
    }

    /// All objects, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One piece that stands in for all that were applied.
    pub fn merged(&self) -> Vec<u8> {
        let lines: Vec<Line> = self.entries.values().cloned().map(Line::Mirrored).collect();
        encode_piece(&lines)
    }

    fn must_be_same(&self, source: &SourcePath, found: u64) -> Result<(), IndexError> {
        match self.entries.get(source) {
            Some(entry) if entry.len != found => {
                Err(IndexError::Changed { path: source.clone(), known: entry.len, found })
            }
            _ => Ok(()),
        }
    }

    fn apply_one(&mut self, line: &Line) {
        match line {
            Line::Mirrored(entry) => {
                let uses = self.entries.get(&entry.source).map(|known| known.uses.clone()).unwrap_or_default();
                let mut entry = entry.clone();
                let new = std::mem::replace(&mut entry.uses, uses);
                new.into_iter().for_each(|one| entry.add(one));
                self.entries.insert(entry.source.clone(), entry);
            }
            Line::Used { source, timeline, from } => {
                if let Some(entry) = self.entries.get_mut(source) {
                    entry.add(Use { timeline: *timeline, from: *from, to: None });
                }
            }
            Line::Released { source, timeline, to } => {
                let open = |one: &&mut Use| one.timeline == *timeline && one.to.is_none();
                if let Some(one) = self.entries.get_mut(source).and_then(|entry| entry.uses.iter_mut().find(open)) {
                    one.to = Some((*to).max(one.from));
                }
            }
            Line::Removed { source, .. } => {
                self.entries.remove(source);
            }
        }
    }
}

impl Use {
    /// Whether a revision of the range references the object.
    pub fn meets(&self, timeline: TimelineId, from: Revision, to: Revision) -> bool {
        self.timeline == timeline && self.from <= to && self.to.is_none_or(|end| end >= from)
    }
}

impl Entry {
    /// Adds a use; one that is still open goes on.
    fn add(&mut self, new: Use) {
        let open = |one: &&mut Use| one.timeline == new.timeline && (one.to.is_none() || one.from == new.from);
        match self.uses.iter_mut().find(open) {
            Some(one) => {
                one.from = one.from.min(new.from);
                one.to = if one.to.is_none() || new.to.is_none() { None } else { one.to.max(new.to) };
            }
            None => self.uses.push(new),
        }
    }
}
