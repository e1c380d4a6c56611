//! What the Milvus in the restored keys needs: which objects, and which keys must change so that it starts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eyrie_archive::{Index, SourcePath};
use eyrie_milvus::coherence::Strip;
use eyrie_milvus::transform::{Options, Outcome, Queue};
use eyrie_milvus::{
    Catalog, Coherence, Layout, Need, ObjectRoot, QueueKind, References, Transform, TransformReport, Verdict,
};

use super::RestoreError;
use super::keys::{Edit, LiveKeys, collisions};

/// What is to be changed for the restored Milvus.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Another `etcd.rootPath`.
    pub to_root: Option<String>,
    /// The message queue is kept, and nothing was written to it since the restored moment.
    pub keep_queue: bool,
}

/// One Milvus in the keys.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) layout: Layout,
    pub(super) catalog: Catalog,
    /// What it names; of one whose objects the archive does not keep, nothing is asked.
    pub(super) references: Option<References>,
}

/// Finds every Milvus. `kept`: the roots that were backed up by name, none for all; `objects_at`: where their objects are, if
/// these are in question. One that was not backed up and is not understood is left as it is, and a note says so.
pub(super) fn find(
    keys: &LiveKeys,
    kept: &[String],
    objects_at: Option<&ObjectRoot>,
    notes: &mut Vec<String>,
) -> Result<Vec<Found>, RestoreError> {
    let mut all = Vec::new();
    for layout in Layout::detect(keys.pairs()) {
        let is_kept = kept.is_empty() || kept.contains(&layout.roots.root);
        if let Err(refusal) = layout.check() {
            if !is_kept {
                notes.push(format!("{refusal}; it comes back exactly as it was, stale sessions included"));
                continue;
            }
            return Err(RestoreError::Refused(format!(
                "{refusal}. Nothing was changed. Next: use a newer version; or restore the keys exactly as they were: \
                 --verbatim --metadata-only"
            )));
        }
        let catalog = Catalog::read(&layout.roots, keys.pairs());
        let at = objects_at.filter(|_| is_kept);
        let references = at.map(|at| References::of(layout.roots.clone(), at.clone(), keys.pairs()));
        all.push(Found { layout, catalog, references });
    }
    Ok(all)
}

/// Where the objects of an archive lay at their source, as their names tell: what stands before the folder of a class.
pub(super) fn root_of(index: &Index) -> ObjectRoot {
    const FOLDERS: [&str; 4] = ["insert_log/", "stats_log/", "delta_log/", "index_files/"];
    let before = |source: &str| {
        FOLDERS.iter().find_map(|folder| {
            let at = source.find(folder)?;
            (at == 0 || source[..at].ends_with('/')).then(|| source[..at].to_owned())
        })
    };
    let root = index.entries().find_map(|entry| before(entry.source.as_str())).unwrap_or_default();
    ObjectRoot::bucket(&root)
}

/// The objects that come back: each with the length that the metadata gives it, if any. Needed ones that are nowhere are
/// among them, so that the plan names them.
pub(super) fn wanted(found: &[Found], index: &Index) -> Result<BTreeMap<SourcePath, Option<u64>>, RestoreError> {
    let mut wanted = BTreeMap::new();
    for references in found.iter().filter_map(|found| found.references.as_ref()) {
        if let Some(trouble) = references.troubles().next() {
            return Err(RestoreError::Refused(format!(
                "the metadata of this moment is not wholly understood, so the objects that it needs are not known: \
                 {trouble}. Nothing was changed. Next: use a newer version, or restore the metadata alone: --metadata-only"
            )));
        }
        for object in references.iter() {
            if object.name.is_folder() {
                let below = index.entries().filter(|entry| entry.source.as_str().starts_with(&object.path));
                wanted.extend(below.map(|entry| (entry.source.clone(), None)));
                continue;
            }
            if index.get(&object.path).is_some() || object.need == Need::Required {
                let path = SourcePath::new(object.path.as_str())
                    .map_err(|error| RestoreError::Refused(format!("{error}. Nothing was changed")))?;
                wanted.insert(path, object.size);
            }
        }
    }
    Ok(wanted)
}

/// How well each Milvus fits the objects that are there, and what has to leave its keys so that it does.
pub(super) fn coherence(found: &[Found], present: &BTreeMap<String, u64>) -> Vec<Option<Coherence>> {
    let check = |found: &Found| {
        found.references.as_ref().map(|references| Coherence::check(references, &found.catalog, present))
    };
    found.iter().map(check).collect()
}

/// The first needed object that is missing, in words; nothing: no collection is broken.
pub(super) fn broken(coherence: &[Option<Coherence>]) -> Option<String> {
    let one = coherence.iter().flatten().find(|one| one.verdict() == Verdict::Broken)?;
    let (missing, short) = (one.missing.count, one.short.count);
    let example = one.missing.named.iter().find(|missing| missing.object.need == Need::Required);
    let example = example.or(one.missing.named.first()).map(|missing| format!(", for example {missing}"));
    Some(format!("{missing} objects are missing and {short} have another length{}", example.unwrap_or_default()))
}

/// The edits that make each Milvus start at its new place on an empty queue, and what they mean.
pub(super) fn edits(
    keys: &LiveKeys,
    found: &[Found],
    strips: Vec<Strip>,
    changes: &Changes,
    objects: Option<(ObjectRoot, ObjectRoot)>,
) -> Result<(Vec<Edit>, Vec<TransformReport>), RestoreError> {
    if changes.to_root.is_some() && found.len() != 1 {
        return Err(RestoreError::Refused(format!(
            "--to-root-path moves one Milvus, and there are {} in these keys. Nothing was changed. Next: leave it out",
            found.len()
        )));
    }
    let mut edits: BTreeMap<Bytes, Edit> = BTreeMap::new();
    let mut reports = Vec::new();
    for (one, strip) in found.iter().zip(strips) {
        let queue = match changes.keep_queue {
            true => Queue::Kept,
            false => Queue::Lost(one.catalog.queue().unwrap_or(QueueKind::RocksMq)),
        };
        let to_root = changes.to_root.clone().filter(|to| *to != one.layout.roots.root);
        let objects = objects.clone().filter(|(from, to)| one.references.is_some() && from != to);
        let mut transform = Transform::new(&one.layout, &one.catalog, Options { to_root, objects, queue, strip });
        for (key, value) in keys.pairs() {
            let outcome = transform.apply(key, value).map_err(|bad| {
                RestoreError::Refused(format!(
                    "{bad}. Nothing was changed. Next: use a newer version, or restore the keys as they were: --verbatim"
                ))
            })?;
            let to = match outcome {
                Outcome::Keep => continue,
                Outcome::Change { key, value } => Some((Bytes::from(key), Bytes::from(value))),
                Outcome::Drop(_) => None,
            };
            let key = Bytes::copy_from_slice(key);
            edits.insert(key.clone(), Edit { key, to });
        }
        reports.push(transform.report().clone());
    }
    let edits: Vec<Edit> = edits.into_values().collect();
    match collisions(keys, &edits).first() {
        Some(taken) => Err(RestoreError::Refused(format!(
            "the new root is in use: there is a key {} already. Nothing was changed. Next: choose another --to-root-path",
            taken.escape_ascii()
        ))),
        None => Ok((edits, reports)),
    }
}

/// What a person must do with the message queue before the restored Milvus starts.
pub(super) fn queue_words(found: &[Found]) -> Vec<String> {
    let kinds: BTreeSet<QueueKind> = found.iter().filter_map(|found| found.catalog.queue()).collect();
    let words = |kind| match kind {
        QueueKind::RocksMq => {
            "give Milvus an empty rocksmq: delete or move away the folder of rocksmq.path and the one beside it that ends \
             with _meta_kv"
        }
        QueueKind::Kafka => {
            "give Milvus an empty queue: delete its Kafka topics (their names begin with msgChannel.chanNamePrefix.cluster)"
        }
        QueueKind::Pulsar => {
            "give Milvus an empty queue: delete its Pulsar topics (their names begin with msgChannel.chanNamePrefix.cluster)"
        }
        QueueKind::Woodpecker => {
            "give Milvus an empty woodpecker: move away the folder wp below its root path in the bucket"
        }
    };
    kinds.into_iter().map(|kind| words(kind).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use eyrie_archive::index::{Entry, Line};
    use eyrie_archive::record::Stored;
    use eyrie_archive::{LivedMillis, Sha256, names};

    use super::*;

    fn index(paths: &[&str]) -> Index {
        let mut index = Index::new();
        for path in paths {
            let source = SourcePath::new(*path).unwrap();
            let path = names::object(&source, names::Wrap::default()).unwrap();
            let stored = Stored { path, len: 1, sha256: Sha256::of(b"x"), locked_until_ms: None };
            let sha256 = Sha256::of(b"x");
            let entry = Entry { source, len: 1, sha256, stored, lived_ms: LivedMillis(0), uses: Vec::new() };
            index.apply(&[Line::Mirrored(entry)]).unwrap();
        }
        index
    }

    #[test]
    fn the_root_of_an_archive_is_seen_in_its_names() {
        assert_eq!(root_of(&index(&["files/insert_log/1/2/3/4/5"])), ObjectRoot::bucket("files"));
        assert_eq!(root_of(&index(&["a/b/stats_log/1/2"])), ObjectRoot::bucket("a/b"));
        assert_eq!(root_of(&index(&["insert_log/1/2/3/4/5"])), ObjectRoot::bucket(""));
        assert_eq!(root_of(&index(&["my_insert_log/1"])), ObjectRoot::bucket(""));
        assert_eq!(root_of(&Index::new()), ObjectRoot::bucket(""));
    }
}
