//! What a restore changed, in plain words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::catalog::{Catalog, CollectionState, Import};
use crate::ids::TaskId;
use crate::key::Key;
use crate::layout::Layout;
use crate::limits::FINDINGS_NAMED_MAX;
use crate::time::utc;

use super::{Options, Queue};

/// Why a key was dropped or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A process that no longer runs. Restored without its lease it would never go.
    Session,
    /// Its objects are gone, and nothing needs them.
    ObjectsGone,
    /// An import that was not finished.
    Import,
    /// A compaction that had no result yet; Milvus starts it again.
    Compaction,
    /// The log of the streaming service, which is lost.
    StreamingLog,
    /// A change of schema that was under way in the lost queue.
    Broadcast,
    /// What was loaded, with positions in the lost queue; Milvus computes it again.
    LoadTarget,
    /// A position in the lost queue: the start of the empty one.
    QueueStart,
    /// A segment without anything in the object storage: dropped.
    SegmentEnds,
    /// Another `etcd.rootPath`.
    MovedRoot,
    /// A path of an object, at another place now.
    MovedObjects,
}

/// Rows and deletes of one channel that existed in the message queue alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostWindow {
    /// The channel.
    pub channel: String,
    /// Its collection, with its database.
    pub collection: String,
    /// Everything written up to here is restored: milliseconds since 1970.
    pub from_ms: u64,
    /// Nothing was written after this by the restored moment: milliseconds since 1970, up to three seconds too late.
    pub until_ms: Option<u64>,
}

/// What a restore changed in the metadata, and what is lost by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransformReport {
    /// `etcd.rootPath` as it was.
    pub from_root: String,
    /// Where it moved to.
    pub to_root: Option<String>,
    /// Numbers of keys that were dropped or changed, by reason.
    pub counts: BTreeMap<Why, u64>,
    /// Whether the queue is kept: then it has to be of the restored moment.
    pub queue_kept: bool,
    /// What existed in the queue alone, when it is lost.
    pub lost: Vec<LostWindow>,
    /// Imports that do not go on: what was to be imported is not there.
    pub imports: BTreeMap<TaskId, Import>,
    /// Changes of schema that were under way in the lost queue.
    pub broadcasts: BTreeSet<String>,
    /// Keys whose values hold the old `etcd.rootPath`: look at them.
    pub values_with_root: Vec<String>,
    /// The newest moment that Milvus's clock may have given out: the new machine's clock must be past it.
    pub clock_ms: Option<u64>,
    /// Collections whose rows expire: their time to live in seconds. It counts from when a row was written.
    pub expiring: BTreeMap<String, u64>,
}

impl Why {
    /// What it means for a key, in words.
    pub fn words(self) -> &'static str {
        match self {
            Why::Session => "sessions of processes that are gone were left out",
            Why::ObjectsGone => "keys of dropped segments and deleted indexes whose objects are gone were left out",
            Why::Import => "keys of imports that do not go on were left out",
            Why::Compaction => "compactions without a result were left out; Milvus starts them again",
            Why::StreamingLog => "keys of the lost streaming log were left out",
            Why::Broadcast => "changes of schema under way in the lost queue were left out",
            Why::LoadTarget => "load targets were left out; Milvus computes them again",
            Why::QueueStart => "values had positions in the lost queue: they point to the start of an empty one",
            Why::SegmentEnds => {
                "segments with nothing in the object storage, or of unfinished imports, are now dropped"
            }
            Why::MovedRoot => "keys moved to the new root",
            Why::MovedObjects => "values had paths of objects: they point to the new place",
        }
    }
}

impl TransformReport {
    pub(super) fn new(layout: &Layout, catalog: &Catalog, options: &Options) -> TransformReport {
        let lost = if options.queue == Queue::Kept { Vec::new() } else { lost_windows(catalog) };
        let broadcasts = if options.queue == Queue::Kept { BTreeSet::new() } else { catalog.broadcasts.clone() };
        let ttl = catalog.collections.iter().filter_map(|(id, c)| Some((catalog.name_of(*id), c.ttl_secs?)));
        TransformReport {
            from_root: layout.roots.root.clone(),
            to_root: options.to_root.clone(),
            counts: BTreeMap::new(),
            queue_kept: options.queue == Queue::Kept,
            lost,
            imports: catalog.imports.clone(),
            broadcasts,
            values_with_root: Vec::new(),
            clock_ms: catalog.clock_ms,
            expiring: ttl.collect(),
        }
    }

    pub(super) fn count(&mut self, why: Why) {
        *self.counts.entry(why).or_default() += 1;
    }

    /// Notes that a value holds the old root as a folder: no known one does.
    pub(super) fn note_root_in_value(&mut self, key: &Key, value: &[u8], root: &str) {
        let folder = format!("{root}/");
        let holds = !root.is_empty() && value.windows(folder.len()).any(|part| part == folder.as_bytes());
        if holds && self.values_with_root.len() < FINDINGS_NAMED_MAX {
            self.values_with_root.push(key.to_string());
        }
    }
}

/// What each channel of each collection had in the queue alone.
fn lost_windows(catalog: &Catalog) -> Vec<LostWindow> {
    let there = |state| !matches!(state, CollectionState::Dropping | CollectionState::Dropped);
    let mut lost = Vec::new();
    for (id, collection) in catalog.collections.iter().filter(|(_, c)| there(c.state)) {
        for channel in &collection.channels {
            // A channel without checkpoint has stored nothing since its collection was made.
            let from = catalog.checkpoints.get(channel).map_or(collection.created, |checkpoint| checkpoint.at);
            lost.push(LostWindow {
                channel: channel.clone(),
                collection: catalog.name_of(*id),
                from_ms: from.unix_ms(),
                until_ms: catalog.clock_ms,
            });
        }
    }
    lost
}

impl fmt::Display for TransformReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(to) = &self.to_root {
            writeln!(f, "moved from `{}` to `{to}`", self.from_root)?;
        }
        for (why, count) in &self.counts {
            writeln!(f, "{count} {}", why.words())?;
        }
        for (job, import) in &self.imports {
            let files = import.files.join(", ");
            writeln!(f, "import {job} into {} does not go on; import these again: {files}", import.collection)?;
        }
        for task in &self.broadcasts {
            writeln!(f, "change of schema {task} was under way: look whether it has to be made again")?;
        }
        self.lost.iter().try_for_each(|window| writeln!(f, "{window}"))?;
        if self.queue_kept {
            writeln!(
                f,
                "the message queue is kept: it has to be of this moment, what a newer one replays is lost at the next restart"
            )?;
        }
        for key in &self.values_with_root {
            writeln!(f, "the value of {key} holds the old root: look at it")?;
        }
        for (collection, secs) in &self.expiring {
            writeln!(
                f,
                "rows of {collection} expire {secs} s after they were written: older ones go soon after the start"
            )?;
        }
        match self.clock_ms {
            Some(ms) => writeln!(f, "start Milvus on a machine whose clock is past {}", utc(ms)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LostWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: what came by {} after {}", self.collection, self.channel, utc(self.from_ms))?;
        if let Some(until) = self.until_ms {
            write!(f, " and before {}", utc(until))?;
        }
        f.write_str(" was in the message queue alone")
    }
}
