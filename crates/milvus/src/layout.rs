//! Which Milvus stands in an etcd: where its keys are, and of which generation they are.
//!
//! Found by the keys that every Milvus has, not by configuration: several may share one etcd, each at its own
//! `etcd.rootPath`. What does not look like Milvus 2.2 to 2.6 is refused by name: a backup that misses a class of keys
//! or objects would only show at the restore.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::{Key, LogKind, UnknownKey};
use crate::limits::UNKNOWN_KEYS_NAMED_MAX;
use crate::roots::Roots;

/// Folders of the meta part that every Milvus has, from its first start on.
const MARKS: [&str; 3] = ["root-coord", "datacoord-meta", "session"];

/// One Milvus in an etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Where its keys are.
    pub roots: Roots,
    /// What its keys and processes say about its age.
    pub generation: Generation,
    /// The version of each running process, as its session key tells; empty when none runs.
    pub versions: BTreeSet<String>,
    /// Number of keys of each class.
    pub classes: BTreeMap<&'static str, u64>,
    /// Keys below its roots that fit no class: the first ones by name.
    pub unknown: Vec<UnknownKey>,
    /// How many such keys there are.
    pub unknown_count: u64,
}

/// Milvus releases that differ in what they keep in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Generation {
    /// 2.3 and 2.2: segments, their logs, indexes.
    V2_3,
    /// 2.4: level zero segments, import jobs, compaction tasks.
    V2_4,
    /// 2.5: statistics tasks, bm25, text and JSON indexes.
    V2_5,
    /// 2.6: the streaming service and woodpecker.
    V2_6,
}

/// Why a layout is not taken for a Milvus that this crate understands.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// A process says that it is of a release that is not known here.
    #[error("Milvus {version} at `{root}`: its keys are not known here (2.2 to 2.6 are); nothing was guessed")]
    Version {
        /// The version of the process.
        version: String,
        /// `etcd.rootPath`.
        root: String,
    },
    /// There are processes, but no metadata: it stands elsewhere.
    #[error(
        "Milvus at `{root}` keeps its metadata outside of etcd (metastore.type: tikv): there is nothing here to back up; \
         back up that store by its own means"
    )]
    MetadataElsewhere {
        /// `etcd.rootPath`.
        root: String,
    },
    /// Keys of a class that is not known here.
    #[error(
        "Milvus at `{root}` has {count} keys of unknown classes, the first is `{first}`: what they name would be missing"
    )]
    UnknownKeys {
        /// `etcd.rootPath`.
        root: String,
        /// How many.
        count: u64,
        /// The first one.
        first: String,
    },
}

impl Layout {
    /// Finds every Milvus whose keys are among `pairs`, in the order of their roots.
    pub fn detect<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Vec<Layout> {
        let roots = find_roots(pairs.clone().map(|(key, _)| key));
        let mut layouts: Vec<Layout> = roots.into_iter().map(Layout::empty).collect();
        for (key, value) in pairs {
            // The longest root that fits owns the key: one Milvus may stand below another's root.
            let owner = layouts
                .iter_mut()
                .filter(|layout| std::str::from_utf8(key).is_ok_and(|key| layout.roots.split(key).is_some()))
                .max_by_key(|layout| layout.roots.root.len());
            if let Some(layout) = owner {
                layout.count(key, value);
            }
        }
        layouts
    }

    /// Whether a backup may trust that it sees all of this Milvus.
    ///
    /// # Errors
    /// [`Refusal`]: by name what is not understood.
    pub fn check(&self) -> Result<(), Refusal> {
        let root = self.roots.root.clone();
        if let Some(version) = self.versions.iter().find(|version| generation_of(version).is_none()) {
            return Err(Refusal::Version { version: version.clone(), root });
        }
        let has = |class| self.classes.contains_key(class);
        if has("session") && !has("database") && !has("collection") && !has("user") && !has("role") {
            return Err(Refusal::MetadataElsewhere { root });
        }
        if let Some(first) = self.unknown.first() {
            return Err(Refusal::UnknownKeys { root, count: self.unknown_count, first: first.key.clone() });
        }
        Ok(())
    }

    fn empty(roots: Roots) -> Layout {
        Layout {
            roots,
            generation: Generation::V2_3,
            versions: BTreeSet::new(),
            classes: BTreeMap::new(),
            unknown: Vec::new(),
            unknown_count: 0,
        }
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        match Key::parse(&self.roots, key) {
            Ok(key) => {
                *self.classes.entry(key.class()).or_default() += 1;
                self.generation = self.generation.max(generation_of_key(&key));
                if matches!(key, Key::Session(_))
                    && let Some(version) = session_version(value)
                {
                    self.generation = self.generation.max(generation_of(&version).unwrap_or(self.generation));
                    self.versions.insert(version);
                }
            }
            Err(unknown) => {
                self.unknown_count += 1;
                if self.unknown.len() < UNKNOWN_KEYS_NAMED_MAX {
                    self.unknown.push(unknown);
                }
            }
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Generation::V2_3 => "2.3",
            Generation::V2_4 => "2.4",
            Generation::V2_5 => "2.5",
            Generation::V2_6 => "2.6",
        })
    }
}

/// The roots of every Milvus among `keys`.
fn find_roots<'a>(keys: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<Roots> {
    let mut metas: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let text = keys.filter_map(|key| std::str::from_utf8(key).ok());
    for key in text.clone() {
        for mark in MARKS {
            if let Some((prefix, rest)) = at_folder(key, mark)
                && prefix.rsplit('/').next() != Some("snapshots")
                && looks_like_milvus(mark, rest)
            {
                metas.entry(prefix).or_default().insert(mark);
            }
        }
    }
    let roots = metas.into_keys().map(|prefix| {
        let (root, meta) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let mut roots = Roots::new(root);
        roots.meta = meta.to_owned();
        let clock = |key: &str| {
            let below = if root.is_empty() { key } else { key.strip_prefix(root)?.strip_prefix('/')? };
            let kv = below.strip_suffix("/gid/timestamp")?;
            (!kv.contains('/')).then(|| kv.to_owned())
        };
        if let Some(kv) = text.clone().find_map(clock) {
            roots.kv = kv;
        }
        roots
    });
    let mut roots: Vec<Roots> = roots.collect();
    roots.sort();
    with_woodpecker(roots, text)
}

/// Gives woodpecker's keys to the Milvus that they belong to: below its root, or at the top, where only one can have them.
fn with_woodpecker<'a>(mut roots: Vec<Roots>, keys: impl Iterator<Item = &'a str> + Clone) -> Vec<Roots> {
    let prefixes: BTreeSet<&str> = keys
        .filter_map(|key| {
            let prefix = ["/instance", "/version", "/logidgen"].iter().find_map(|end| key.strip_suffix(end))?;
            matches!(prefix.rsplit('/').next(), Some("woodpecker" | "wp")).then_some(prefix)
        })
        .collect();
    for prefix in prefixes {
        let owner = roots
            .iter_mut()
            .filter(|r| prefix.strip_prefix(&*r.root).is_some_and(|rest| r.root.is_empty() || rest.starts_with('/')))
            .max_by_key(|r| r.root.len());
        match owner {
            Some(owner) => owner.woodpecker = Some(prefix.to_owned()),
            None => roots.iter_mut().for_each(|r| {
                r.woodpecker.get_or_insert_with(|| prefix.to_owned());
            }),
        }
    }
    roots
}

/// Splits a key at a folder: what stands before it, and the folder with what follows.
fn at_folder<'k>(key: &'k str, folder: &str) -> Option<(&'k str, &'k str)> {
    let mut from = 0;
    while let Some(at) = key[from..].find(folder).map(|at| at + from) {
        if key[..at].ends_with('/') && key[at + folder.len()..].starts_with('/') {
            return Some((&key[..at - 1], &key[at..]));
        }
        from = at + folder.len();
    }
    None
}

/// Whether a key below a mark is one that only Milvus writes: a folder called `session` alone may be anybody's.
fn looks_like_milvus(mark: &str, below_meta: &str) -> bool {
    let roots = Roots { root: String::new(), meta: "m".into(), kv: "kv".into(), woodpecker: None };
    match Key::parse(&roots, format!("m/{below_meta}").as_bytes()) {
        Ok(Key::Session(role)) => {
            let role = role.split('-').next().unwrap_or_default();
            matches!(role, "rootcoord" | "datacoord" | "querycoord" | "indexcoord" | "mixcoord" | "proxy" | "datanode")
        }
        Ok(Key::SessionCounter) => false,
        Ok(_) => mark != "session",
        Err(_) => false,
    }
}

fn generation_of_key(key: &Key) -> Generation {
    match key {
        Key::Pchannel(_)
        | Key::BroadcastTask(_)
        | Key::StreamingCoord(..)
        | Key::Wal(..)
        | Key::Woodpecker(_)
        | Key::FileResource(_)
        | Key::StructField(..) => Generation::V2_6,
        Key::Logs(LogKind::Bm25, ..) | Key::StatsTask(_) | Key::PrivilegeGroup(_) | Key::Function(..) => {
            Generation::V2_5
        }
        Key::ImportJob(_)
        | Key::ImportTask(_)
        | Key::PreImportTask(_)
        | Key::CompactionTask(..)
        | Key::AnalyzeTask(_)
        | Key::PartitionStats(..)
        | Key::CurrentPartitionStats(..) => Generation::V2_4,
        _ => Generation::V2_3,
    }
}

/// The generation of a release; none: not known here.
fn generation_of(version: &str) -> Option<Generation> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-']);
    match (numbers.next()?, numbers.next()?) {
        ("2", "2" | "3") => Some(Generation::V2_3),
        ("2", "4") => Some(Generation::V2_4),
        ("2", "5") => Some(Generation::V2_5),
        ("2", "6") => Some(Generation::V2_6),
        _ => None,
    }
}

fn session_version(value: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Session {
        #[serde(rename = "Version", default)]
        version: String,
    }
    let session: Session = serde_json::from_slice(value).ok()?;
    (!session.version.is_empty()).then_some(session.version)
}
