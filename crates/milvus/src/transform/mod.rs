//! What a restore changes in the metadata, key by key, and why.
//!
//! ```text
//!  key, value ─▶ does it go? ─▶ is its value changed? ─▶ where does it stand? ─▶ keep, change or drop
//!               sessions        queue positions          another etcd.rootPath
//!               open tasks      paths of objects
//!               lost logs       segments that end
//! ```
//!
//! Values are changed in place: fields that are not known here survive. What looks stale and is needed stays: the channel
//! watches of dead nodes are the only list of channels that Milvus 2.3 reads at its start; without them no collection loads
//! until the next insert. A restored Milvus must start on an empty queue
//! without waiting for messages that no longer exist, without processes that are dead, and without work that was cut
//! short; what is lost by that is in the [`TransformReport`], with its window in time.

mod queue;
mod report;

use std::collections::BTreeSet;

use crate::catalog::Catalog;
use crate::coherence::Strip;
use crate::ids::{SegmentId, SegmentPath, TaskId};
use crate::key::Key;
use crate::layout::Layout;
use crate::object::ObjectRoot;
use crate::proto;
use crate::queue::QueueKind;
use crate::roots::Roots;
use crate::value::{BadValue, SegmentState, TOMBSTONE, bad, message};
use crate::wire::{BadWire, edit_bytes, set_number};

pub use report::{LostWindow, TransformReport, Why};

/// What the restored Milvus shall be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Another `etcd.rootPath`.
    pub to_root: Option<String>,
    /// Another place of the objects: from, to. Only values that hold paths as text are changed; most hold ids.
    pub objects: Option<(ObjectRoot, ObjectRoot)>,
    /// What has become of the message queue.
    pub queue: Queue,
    /// Keys whose objects are gone, as the coherence check found.
    pub strip: Strip,
}

impl Options {
    /// The same Milvus at the same place. What has become of its queue has to be said.
    pub fn new(queue: Queue) -> Options {
        Options { to_root: None, objects: None, queue, strip: Strip::default() }
    }
}

/// What has become of the message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// It is kept, and it is of the restored moment: nothing was written between. Positions stay.
    ///
    /// A queue that goes on after the restored moment is worse than none: Milvus 2.3.5 replays its rows into segments that
    /// the older metadata does not have. They are found by queries, and gone after the next restart.
    Kept,
    /// It starts empty: positions point to its start.
    Lost(QueueKind),
}

/// What happens to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays as it is.
    Keep,
    /// It stands elsewhere or has another value.
    Change {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// It goes.
    Drop(Why),
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A restore's changes to the metadata of one Milvus.
#[derive(Clone, Debug)]
pub struct Transform {
    roots: Roots,
    moved: Option<Roots>,
    options: Options,
    /// Segments that end: they hold nothing but rows in the queue, or belong to an import that does not go on.
    ends: BTreeSet<SegmentPath>,
    imports: BTreeSet<TaskId>,
    compactions: BTreeSet<TaskId>,
    report: TransformReport,
}

impl Transform {
    /// Prepares the changes, from the whole metadata at the restored moment.
    pub fn new(layout: &Layout, catalog: &Catalog, options: Options) -> Transform {
        let imported: BTreeSet<SegmentId> = catalog.imports.values().flat_map(|i| &i.segments).copied().collect();
        let ends = catalog.segments.iter().filter(|(path, segment)| {
            let unfinished = segment.state == SegmentState::Importing || imported.contains(&path.segment);
            let of_queue = queue::is_in_queue_alone(segment) && options.queue != Queue::Kept;
            segment.is_live() && (unfinished || of_queue)
        });
        let ends = ends.map(|(path, _)| *path).collect();
        let open = catalog.compactions.iter().filter(|(_, task)| is_compaction_without_result(task.state));
        let report = TransformReport::new(layout, catalog, &options);
        Transform {
            moved: options.to_root.as_ref().map(|root| layout.roots.moved_to(root.clone())),
            roots: layout.roots.clone(),
            ends,
            imports: catalog.imports.keys().copied().collect(),
            compactions: open.map(|(plan, _)| *plan).collect(),
            options,
            report,
        }
    }

    /// What happens to one key. Keys of other programs, and of no known class, stay as they are; the latter move along.
    ///
    /// # Errors
    /// [`BadValue`] when a value that has to be changed is not what its key promises.
    pub fn apply(&mut self, raw: &[u8], value: &[u8]) -> Result<Outcome, BadValue> {
        let Ok(key) = Key::parse(&self.roots, raw) else { return Ok(self.pass_on(raw, value)) };
        if let Some(why) = self.why_dropped(&key, value)? {
            self.report.count(why);
            return Ok(Outcome::Drop(why));
        }
        let new_value = self.new_value(&key, value)?;
        let new_key = self.moved.as_ref().map(|moved| key.print(moved).into_bytes());
        let value = new_value.as_deref().unwrap_or(value);
        if new_key.is_some() {
            self.report.count(Why::MovedRoot);
            self.report.note_root_in_value(&key, value, &self.roots.root);
        }
        if new_key.is_none() && new_value.is_none() {
            return Ok(Outcome::Keep);
        }
        Ok(Outcome::Change { key: new_key.unwrap_or_else(|| raw.to_vec()), value: value.to_vec() })
    }

    /// Changes a whole key space: what stays, and the report.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub fn run<'a>(
        mut self,
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(Vec<Pair>, TransformReport), BadValue> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            match self.apply(key, value)? {
                Outcome::Keep => out.push((key.to_vec(), value.to_vec())),
                Outcome::Change { key, value } => out.push((key, value)),
                Outcome::Drop(_) => {}
            }
        }
        Ok((out, self.report))
    }

    /// What was changed so far, and what is lost by it.
    pub fn report(&self) -> &TransformReport {
        &self.report
    }

    fn why_dropped(&self, key: &Key, value: &[u8]) -> Result<Option<Why>, BadValue> {
        let stripped = match key {
            Key::Segment(path) | Key::Logs(_, path, _) => self.options.strip.segments.contains(path),
            Key::SegmentIndex(path, build) => {
                self.options.strip.segments.contains(path) || self.options.strip.builds.contains(&(*path, *build))
            }
            _ => false,
        };
        if stripped {
            return Ok(Some(Why::ObjectsGone));
        }
        Ok(match key {
            Key::Session(_) => Some(Why::Session),
            Key::OldImportTask(_) => Some(Why::Import),
            Key::ImportJob(job) if self.imports.contains(job) => Some(Why::Import),
            Key::ImportTask(_) => {
                let task: proto::ImportTask = message(key, value)?;
                self.imports.contains(&TaskId(task.job_id)).then_some(Why::Import)
            }
            Key::PreImportTask(_) => {
                let task: proto::PreImportTask = message(key, value)?;
                self.imports.contains(&TaskId(task.job_id)).then_some(Why::Import)
            }
            Key::CompactionTask(_, _, plan) if self.compactions.contains(plan) => Some(Why::Compaction),
            Key::Woodpecker(rest) if queue::is_woodpecker_lease(rest) => Some(Why::Session),
            _ if self.options.queue != Queue::Kept => queue::why_dropped(key),
            _ => None,
        })
    }

    fn new_value(&mut self, key: &Key, value: &[u8]) -> Result<Option<Vec<u8>>, BadValue> {
        if value == TOMBSTONE {
            return Ok(None);
        }
        let wrong = |e: BadWire| bad(key, value, e.to_string());
        let mut new: Option<Vec<u8>> = None;
        if let Key::Segment(path) = key
            && self.ends.contains(path)
        {
            new = Some(set_number(value, STATE_OF_SEGMENT, SegmentState::DROPPED as u64).map_err(wrong)?);
            self.report.count(Why::SegmentEnds);
        }
        if let Queue::Lost(kind) = self.options.queue
            && let Some(reset) = queue::reset(key, new.as_deref().unwrap_or(value), kind).map_err(wrong)?
        {
            new = Some(reset);
            self.report.count(Why::QueueStart);
        }
        if let Some((from, to)) = &self.options.objects
            && let Some(moved) = move_paths(key, new.as_deref().unwrap_or(value), from, to).map_err(wrong)?
        {
            new = Some(moved);
            self.report.count(Why::MovedObjects);
        }
        Ok(new)
    }

    /// A key that is not understood: of another program, or of this Milvus and of no known class.
    fn pass_on(&mut self, raw: &[u8], value: &[u8]) -> Outcome {
        let Some(moved) = &self.moved else { return Outcome::Keep };
        let text = std::str::from_utf8(raw).ok();
        let Some((part, rest)) = text.and_then(|key| self.roots.split(key)) else { return Outcome::Keep };
        self.report.count(Why::MovedRoot);
        Outcome::Change { key: format!("{}/{rest}", moved.prefix(part)).into_bytes(), value: value.to_vec() }
    }
}

/// The state's number in a segment's value.
const STATE_OF_SEGMENT: u32 = 6;

/// Where values hold paths of objects as text: for a segment its four families of logs, text and JSON indexes.
const PATHS_IN_SEGMENT: [&[u32]; 6] = [&[11, 2, 4], &[12, 2, 4], &[13, 2, 4], &[27, 2, 4], &[26, 2, 3], &[29, 2, 3]];
const PATHS_IN_LOGS: [&[u32]; 1] = [&[2, 4]];
/// JSON with the folder of a segment of storage version 3.
const MANIFEST_OF_SEGMENT: [u32; 1] = [32];

fn move_paths(key: &Key, value: &[u8], from: &ObjectRoot, to: &ObjectRoot) -> Result<Option<Vec<u8>>, BadWire> {
    let paths: &[&[u32]] = match key {
        Key::Segment(_) => &PATHS_IN_SEGMENT,
        Key::Logs(..) => &PATHS_IN_LOGS,
        _ => return Ok(None),
    };
    let mut moved_path = |path: &[u8]| {
        let path = std::str::from_utf8(path).ok()?;
        // Names without a folder are relative already.
        let below = path.contains('/').then(|| from.strip(path)).flatten()?;
        Some(to.written(below).into_bytes())
    };
    let mut new: Option<Vec<u8>> = None;
    for path in paths {
        new = edit_bytes(new.as_deref().unwrap_or(value), path, &mut moved_path)?.or(new);
    }
    if matches!(key, Key::Segment(_)) {
        let mut manifest = |json: &[u8]| {
            let mut manifest: serde_json::Value = serde_json::from_slice(json).ok()?;
            let folder = manifest.get_mut("base_path")?;
            *folder = to.written(from.strip(folder.as_str()?)?).into();
            Some(manifest.to_string().into_bytes())
        };
        new = edit_bytes(new.as_deref().unwrap_or(value), &MANIFEST_OF_SEGMENT, &mut manifest)?.or(new);
    }
    Ok(new)
}

/// Whether a compaction has nothing in the metadata yet: executing, waiting or analyzing. Those that have are ended by
/// Milvus itself.
fn is_compaction_without_result(state: i32) -> bool {
    const EXECUTING: i32 = 1;
    const PIPELINING: i32 = 2;
    const ANALYZING: i32 = 6;
    matches!(state, EXECUTING | PIPELINING | ANALYZING)
}
