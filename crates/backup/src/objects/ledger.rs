//! What must be mirrored, since which revision, and up to where all of it is. Pure: events and outcomes in, answers out.
//!
//! ```text
//! event ─▶ References ─▶ named for the first time ─▶ waiting ─▶ copying ─▶ copied ─▶ recorded (in the index)
//!                                                        └──▶ not found ─▶ a hole, from its first revision to its last
//! ```
//! A revision is recoverable when nothing that it names waits, is being copied, or is copied and not yet recorded. An object
//! that is not found makes a hole of exactly those revisions that need it, as far as that can be known, and never fewer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use eyrie_archive::{Revision, Seq};
use eyrie_milvus::{Need, ObjectName, References};

use crate::history::{Event, Revised};

/// Everything that is known about objects while a source is followed.
#[derive(Debug)]
pub struct Ledger {
    milvus: Vec<References>,
    /// The revision that the references are of.
    now: Revision,
    /// In the index; and whether it says there that the current history still names it.
    recorded: HashMap<String, bool>,
    /// The files of recorded folders, as far as this run copied them.
    folders: BTreeMap<String, Vec<String>>,
    /// What the index has to learn about recorded objects.
    marks: Vec<Mark>,
    open: BTreeMap<String, Open>,
    /// Waiting ones by their first revision: the oldest first, since they hold back the most.
    queue: BTreeSet<(Revision, String)>,
    /// First revisions of all that is not recorded and not in a hole, with how many have it.
    holding: BTreeMap<Revision, usize>,
    holes: BTreeMap<Seq, OpenHole>,
    troubled: Option<Revision>,
}

/// An object that is named and not recorded yet.
#[derive(Debug, Clone)]
struct Open {
    name: ObjectName,
    milvus: usize,
    /// The first revision that names it, as far as is known.
    since: Revision,
    /// The last one, once none names it any more.
    until: Option<Revision>,
    /// It was needed when it was first named.
    was_needed: bool,
    state: State,
    /// It was given up before, and is looked for once more.
    given: bool,
    /// It was not found, and nothing needed it then.
    passed_over: bool,
    /// How often it was not found.
    misses: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Copying,
    Copied,
    /// In a hole, or not needed: it holds nothing back.
    Given,
}

/// A hole whose end is not known.
#[derive(Debug, Clone)]
struct OpenHole {
    objects: Vec<(usize, ObjectName)>,
    trouble: bool,
}

/// What to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path, relative to the bucket; of a folder, with a slash at its end.
    pub path: String,
    /// It stands for everything below its path.
    pub folder: bool,
}

/// News about an object that is in the index already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Named again from this revision on. Until that is recorded, retention may believe that nothing needs it: so the
    /// revision does not count as mirrored before.
    Used {
        /// Its path.
        path: String,
        /// The first revision.
        from: Revision,
    },
    /// No longer named.
    Released {
        /// Its path.
        path: String,
        /// The last revision that names it.
        to: Revision,
    },
}

impl Mark {
    fn path(&self) -> &str {
        match self {
            Self::Used { path, .. } | Self::Released { path, .. } => path,
        }
    }
}

/// Revisions that need something that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHole {
    /// The first one.
    pub from: Revision,
    /// The last one; `None` while it is not known.
    pub to: Option<Revision>,
    /// Why, in words.
    pub cause: String,
    /// The objects' paths.
    pub objects: Vec<String>,
}

/// What becomes of an object that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Look again after a pause, by [`Ledger::failed`]: the news that it is not needed any more may be on its way.
    Again,
    /// Nothing needs it.
    NotNeeded,
    /// Some revisions can't be recovered wholly.
    Hole(NewHole),
}

/// How often an object must be missing before that is believed.
pub const MISSES_BELIEVED: u32 = 3;

impl Ledger {
    /// Knows what is in the archive's index (and whether the current history names it); of the source's metadata, nothing
    /// yet.
    pub fn new(milvus: Vec<References>, recorded: HashMap<String, bool>) -> Self {
        Self {
            milvus,
            now: Revision(0),
            recorded,
            folders: BTreeMap::new(),
            marks: Vec::new(),
            open: BTreeMap::new(),
            queue: BTreeSet::new(),
            holding: BTreeMap::new(),
            holes: BTreeMap::new(),
            troubled: None,
        }
    }

    /// Takes in a change that happened before the revision that is to be recoverable first. Call [`Ledger::begin`] after
    /// the last of them.
    pub fn load(&mut self, event: &Event) {
        for references in &mut self.milvus {
            apply(references, event);
        }
    }

    /// All that is named now is wanted, as of this revision.
    pub fn begin(&mut self, at: Revision) {
        self.now = at;
        let named: Vec<(usize, ObjectName, Need, String)> = (0..)
            .zip(&self.milvus)
            .flat_map(|(milvus, references)| {
                references.iter().map(move |object| (milvus, object.name, object.need, object.path))
            })
            .collect();
        let mut still = HashSet::new();
        for (milvus, name, need, path) in named {
            still.insert(path.clone());
            self.want(milvus, name, need, path, at);
        }
        let folders: Vec<&String> = still.iter().filter(|path| path.ends_with('/')).collect();
        // released while nobody watched: at the latest now
        for (path, used) in &mut self.recorded {
            let in_folder = || folders.iter().any(|folder| path.starts_with(*folder));
            if *used && !still.contains(path) && !in_folder() {
                *used = false;
                self.marks.push(Mark::Released { path: path.clone(), to: at });
            }
        }
    }

    /// Takes in the next revision.
    pub fn follow(&mut self, revised: &Revised) {
        let revision = Revision(revised.revision.0);
        self.now = revision;
        let (mut added, mut needed) = (Vec::new(), Vec::new());
        for event in &revised.events {
            for (at, references) in self.milvus.iter_mut().enumerate() {
                let change = apply(references, event);
                added.extend(change.added.into_iter().map(|object| (at, object.name)));
                needed.extend(change.needed.into_iter().map(|object| object.path));
                for name in change.removed {
                    let path = name.path(references.objects_at());
                    let to = Revision(revision.0 - 1);
                    if let Some(open) = self.open.get_mut(&path) {
                        open.until.get_or_insert(to);
                    } else if let Some(used) = self.recorded.get_mut(&path)
                        && std::mem::replace(used, false)
                    {
                        self.marks.push(Mark::Released { path, to });
                    }
                }
            }
        }
        // how much an object is needed depends on keys of the same revision: asked at its end
        for (at, name) in added {
            if let Some(object) = self.milvus[at].get(&name) {
                self.want(at, object.name, object.need, object.path, revision);
            }
        }
        for path in needed {
            self.need(path, revision);
        }
    }

    /// Its segment or index came after it: what was not found and passed over before is looked for again.
    fn need(&mut self, path: String, since: Revision) {
        let Some(open) = self.open.get_mut(&path) else { return };
        open.was_needed = true;
        if std::mem::replace(&mut open.passed_over, false) {
            (open.state, open.since, open.misses, open.given) = (State::Waiting, since, 0, false);
            self.queue.insert((since, path));
            *self.holding.entry(since).or_default() += 1;
        }
    }

    fn want(&mut self, milvus: usize, name: ObjectName, need: Need, path: String, since: Revision) {
        if let Some(used) = self.recorded.get_mut(&path) {
            if !std::mem::replace(used, true) {
                *self.holding.entry(since).or_default() += 1;
                self.marks.push(Mark::Used { path, from: since });
            }
            return;
        }
        let was_needed = need == Need::Required;
        if let Some(open) = self.open.get_mut(&path) {
            // named again: whoever needed it before still does
            open.until = None;
            open.was_needed |= was_needed;
            return;
        }
        self.queue.insert((since, path.clone()));
        *self.holding.entry(since).or_default() += 1;
        let state = State::Waiting;
        self.open.insert(
            path,
            Open { name, milvus, since, until: None, was_needed, state, given: false, passed_over: false, misses: 0 },
        );
    }

    /// The next objects to copy, at most `max`; each is handed out once until its outcome is told.
    pub fn take(&mut self, max: usize) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        while wanted.len() < max
            && let Some((_, path)) = self.queue.pop_first()
        {
            if let Some(open) = self.open.get_mut(&path) {
                open.state = State::Copying;
                wanted.push(Wanted { folder: open.name.is_folder(), path });
            }
        }
        wanted
    }

    /// It is in the archive's bucket, but in no record yet.
    pub fn copied(&mut self, path: &str) {
        if let Some(open) = self.open.get_mut(path) {
            open.state = State::Copied;
        }
    }

    /// Which revisions name it, for its line in the index: the first, and the last once that is known.
    pub fn uses(&self, path: &str) -> Option<(Revision, Option<Revision>)> {
        self.open.get(path).map(|open| (open.since, open.until))
    }

    /// A durable record says that it is mirrored, and named up to `until`; `files` are what a folder holds.
    pub fn recorded(&mut self, path: &str, until: Option<Revision>, files: Vec<String>) {
        let Some(open) = self.open.remove(path) else { return };
        if path.ends_with('/') {
            let named = open.until.is_none();
            self.recorded.extend(files.iter().map(|file| (file.clone(), named)));
            self.folders.insert(path.to_owned(), files);
        }
        self.queue.remove(&(open.since, path.to_owned()));
        if open.state != State::Given && !open.given {
            self.release(open.since);
        }
        self.recorded.insert(path.to_owned(), open.until.is_none());
        match (until, open.until) {
            (None, Some(to)) => self.marks.push(Mark::Released { path: path.to_owned(), to }),
            (Some(_), None) => {
                *self.holding.entry(open.since).or_default() += 1;
                self.marks.push(Mark::Used { path: path.to_owned(), from: open.since });
            }
            _ => {}
        }
    }

    /// Whether the index has this file.
    pub fn holds(&self, file: &str) -> bool {
        self.recorded.contains_key(file)
    }

    /// Whether the current history names the object, or it waits for something: retention must not touch it now.
    pub fn is_in_use(&self, file: &str) -> bool {
        let mut folders = self.open.keys().filter(|path| path.ends_with('/'));
        self.recorded.get(file).copied().unwrap_or_default()
            || self.open.contains_key(file)
            || folders.any(|folder| file.starts_with(folder.as_str()))
            || self.marks.iter().any(|mark| mark.path() == file)
    }

    /// Retention gave the object up: if it is named again, it has to be copied again.
    pub fn given_up(&mut self, file: &str) {
        self.recorded.remove(file);
        let folder = |(path, _): (&String, &Vec<String>)| file.starts_with(path.as_str()).then(|| path.clone());
        for folder in self.folders.iter().filter_map(folder).collect::<Vec<_>>() {
            self.folders.remove(&folder);
            self.recorded.remove(&folder);
        }
    }

    /// The files that a path stands for.
    pub fn files_of(&self, path: &str) -> Vec<String> {
        if path.ends_with('/') { self.folders.get(path).cloned().unwrap_or_default() } else { vec![path.to_owned()] }
    }

    /// The news for the next index piece.
    pub fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    /// Whether there are any.
    pub fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// A durable record has the news.
    pub fn marks_recorded(&mut self, marks: &[Mark]) {
        for mark in marks {
            if let Mark::Used { from, .. } = mark {
                self.release(*from);
            }
        }
    }

    /// The copy failed for a reason that may pass: it waits again.
    pub fn failed(&mut self, path: &str) {
        if let Some(open) = self.open.get_mut(path) {
            open.state = State::Waiting;
            self.queue.insert((open.since, path.to_owned()));
        }
    }

    /// The source's bucket does not have it.
    pub fn not_found(&mut self, path: &str) -> Verdict {
        let Some(open) = self.open.get_mut(path) else { return Verdict::NotNeeded };
        if open.given {
            open.state = State::Given;
            return Verdict::NotNeeded;
        }
        open.misses += 1;
        if open.misses < MISSES_BELIEVED {
            return Verdict::Again;
        }
        let need = self.milvus[open.milvus].need(&open.name);
        let (from, now, until, was_needed) = (open.since, self.now, open.until, open.was_needed);
        open.state = State::Given;
        self.release(from);
        let gone = "the object was gone before it could be copied";
        let (to, cause) = match (need, until) {
            (Some(Need::Required), _) => (None, format!("{gone}, and the metadata still needs it")),
            _ if !was_needed => {
                if let Some(open) = self.open.get_mut(path) {
                    open.passed_over = true;
                }
                return Verdict::NotNeeded;
            }
            (None, Some(until)) => (Some(until.max(from)), format!("{gone}; later revisions do not name it")),
            _ => (Some(now), format!("{gone}; by now the metadata does not need it any more")),
        };
        Verdict::Hole(NewHole { from, to, cause, objects: vec![path.to_owned()] })
    }

    fn release(&mut self, since: Revision) {
        if let Some(count) = self.holding.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.holding.remove(&since);
            }
        }
    }

    /// A new full stands behind a gap: what older revisions need and is not recorded yet stays wanted for them.
    pub fn adopt(&mut self, old: Ledger) {
        for (path, open) in old.open {
            if open.state == State::Given || self.recorded.contains_key(&path) {
                continue;
            }
            if let Some(known) = self.open.get_mut(&path) {
                self.queue.remove(&(known.since, path.clone()));
                let since = std::mem::replace(&mut known.since, open.since);
                known.was_needed |= open.was_needed;
                self.queue.insert((open.since, path));
                self.release(since);
            } else {
                self.queue.insert((open.since, path.clone()));
                let until = open.until.or(Some(old.now));
                self.open.insert(path, Open { until, state: State::Waiting, misses: 0, ..open.clone() });
            }
            *self.holding.entry(open.since).or_default() += 1;
        }
    }

    /// A hole of an earlier run that has no end yet: its objects are not looked for again until [`Ledger::look_again`].
    pub fn known_hole(&mut self, hole: Seq, objects: &[String]) {
        if objects.is_empty() {
            self.troubled = Some(self.now);
            self.watch_trouble(hole);
            return;
        }
        self.watch_hole(hole, objects);
        for path in objects {
            let Some(open) = self.open.get_mut(path).filter(|open| open.state == State::Waiting) else { continue };
            open.state = State::Given;
            let since = open.since;
            self.queue.remove(&(since, path.clone()));
            self.release(since);
        }
    }

    /// A hole without an end was recorded; it is watched from now on.
    pub fn watch_hole(&mut self, hole: Seq, objects: &[String]) {
        let objects = objects
            .iter()
            .filter_map(|path| self.open.get(path).map(|open| (open.milvus, open.name.clone())))
            .collect();
        self.holes.insert(hole, OpenHole { objects, trouble: false });
    }

    /// The metadata holds something that is not understood since this revision: from here on nobody knows what is missing.
    pub fn new_trouble(&mut self) -> Option<NewHole> {
        let first = self.milvus.iter().find_map(|references| references.troubles().next())?;
        if self.troubled.is_some() {
            return None;
        }
        self.troubled = Some(self.now);
        let cause = format!("the metadata is not understood, so objects may be missing: {first}");
        Some(NewHole { from: self.now, to: None, cause, objects: Vec::new() })
    }

    /// The hole of [`Ledger::new_trouble`] was recorded.
    pub fn watch_trouble(&mut self, hole: Seq) {
        self.holes.insert(hole, OpenHole { objects: Vec::new(), trouble: true });
    }

    /// Holes that end with the revision before the one that was followed last: nothing needs their objects any more.
    pub fn closed_holes(&mut self) -> Vec<(Seq, Revision)> {
        if self.holes.is_empty() {
            return Vec::new();
        }
        let troubled = self.milvus.iter().any(|references| references.troubles().next().is_some());
        let needed = |(milvus, name): &(usize, ObjectName)| self.milvus[*milvus].need(name) == Some(Need::Required);
        let closed: Vec<Seq> = self
            .holes
            .iter()
            .filter(|(_, hole)| if hole.trouble { !troubled } else { !hole.objects.iter().any(needed) })
            .map(|(seq, _)| *seq)
            .collect();
        for seq in &closed {
            if self.holes.remove(seq).is_some_and(|hole| hole.trouble) {
                self.troubled = None;
            }
        }
        closed.into_iter().map(|seq| (seq, Revision(self.now.0 - 1))).collect()
    }

    /// All that revisions up to this one name is recorded, holes excepted; not beyond what was followed.
    pub fn mirrored_to(&self) -> Revision {
        match self.holding.first_key_value() {
            Some((since, _)) => Revision(since.0 - 1),
            None => self.now,
        }
    }

    /// Objects that wait or are on their way.
    pub fn open_count(&self) -> usize {
        self.holding.values().sum()
    }

    /// Objects that wait to be handed out.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// What the metadata of each Milvus names now.
    pub fn references(&self) -> &[References] {
        &self.milvus
    }

    /// What was given up and is still named is looked for once more: part of a reconciliation.
    pub fn look_again(&mut self) {
        for (path, open) in &mut self.open {
            let named = self.milvus[open.milvus].need(&open.name).is_some();
            if open.state == State::Given && named {
                (open.state, open.given) = (State::Waiting, true);
                self.queue.insert((open.since, path.clone()));
            }
        }
    }

    /// Holes all of whose objects are recorded after all.
    pub fn healed_holes(&mut self) -> Vec<Seq> {
        let path = |milvus: usize, name: &ObjectName| name.path(self.milvus[milvus].objects_at());
        let there = |(milvus, name): &(usize, ObjectName)| self.recorded.contains_key(&path(*milvus, name));
        let healed: Vec<Seq> = self
            .holes
            .iter()
            .filter(|(_, hole)| !hole.trouble && !hole.objects.is_empty() && hole.objects.iter().all(there))
            .map(|(seq, _)| *seq)
            .collect();
        healed.iter().for_each(|seq| drop(self.holes.remove(seq)));
        healed
    }
}

fn apply(references: &mut References, event: &Event) -> eyrie_milvus::Change {
    match event {
        Event::Put { key, value, .. } => references.put(key, value),
        Event::Delete { key } => references.delete(key),
    }
}
