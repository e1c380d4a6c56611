//! Where in etcd one Milvus keeps what: the prefixes that its configuration names.

use serde::Serialize;

/// The prefixes of one Milvus: `etcd.rootPath`, and below it `metaSubPath`, `kvSubPath` and the folder of woodpecker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Roots {
    /// `etcd.rootPath`; may hold slashes, may be empty.
    pub root: String,
    /// `etcd.metaSubPath`, below the root.
    pub meta: String,
    /// `etcd.kvSubPath`, below the root.
    pub kv: String,
    /// The whole prefix of woodpecker's keys, where it keeps any: below the root, or `woodpecker` at the top in older ones.
    pub woodpecker: Option<String>,
}

impl Roots {
    /// The prefixes that Milvus has by default, below `root`.
    pub fn new(root: impl Into<String>) -> Roots {
        Roots { root: root.into(), meta: "meta".into(), kv: "kv".into(), woodpecker: None }
    }

    /// The same Milvus at another `etcd.rootPath`. Woodpecker moves with it, unless its keys stand at the top.
    pub fn moved_to(&self, root: impl Into<String>) -> Roots {
        let root = root.into();
        let below = |w: &String| w.strip_prefix(&*self.root).and_then(|w| w.strip_prefix('/')).map(|w| join(&root, w));
        let woodpecker = self.woodpecker.as_ref().map(|w| below(w).unwrap_or_else(|| w.clone()));
        Roots { root, meta: self.meta.clone(), kv: self.kv.clone(), woodpecker }
    }

    /// Splits a key into the part of Milvus's key space that it stands in, and the rest; none: not a key of this Milvus.
    pub(crate) fn split<'k>(&self, key: &'k str) -> Option<(Part, &'k str)> {
        if let Some(rest) = self.woodpecker.as_deref().and_then(|prefix| below(key, prefix)) {
            return Some((Part::Woodpecker, rest));
        }
        let rest = if self.root.is_empty() { key } else { below(key, &self.root)? };
        if let Some(rest) = below(rest, &self.meta) {
            return Some((Part::Meta, rest));
        }
        if let Some(rest) = below(rest, &self.kv) {
            return Some((Part::Kv, rest));
        }
        below(rest, "config").map(|rest| (Part::Config, rest))
    }

    /// The whole prefix of a part, without a slash at its end.
    pub(crate) fn prefix(&self, part: Part) -> String {
        match part {
            Part::Meta => join(&self.root, &self.meta),
            Part::Kv => join(&self.root, &self.kv),
            Part::Config => join(&self.root, "config"),
            Part::Woodpecker => self.woodpecker.clone().unwrap_or_else(|| join(&self.root, "woodpecker")),
        }
    }
}

/// The parts of a Milvus's key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Meta,
    Kv,
    Config,
    Woodpecker,
}

fn below<'k>(key: &'k str, prefix: &str) -> Option<&'k str> {
    key.strip_prefix(prefix)?.strip_prefix('/')
}

fn join(root: &str, below: &str) -> String {
    if root.is_empty() { below.to_owned() } else { format!("{root}/{below}") }
}
