//! What killed writers left behind: files that no record names.

use std::collections::BTreeSet;

use crate::{
    catalog::Catalog,
    ids::{Seq, StoredPath},
    index::Index,
    names::{CHECKPOINT, FULL, INDEX, OBJECTS, TAIL, checkpoint_seq},
};

/// Why nothing is said about orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the index that was read has {read} objects, but the catalogue counts {counted}: what is an orphan cannot be told. Nothing was removed. Run: eyrie backup verify"
)]
pub struct IndexIncomplete {
    /// Objects that were read.
    pub read: u64,
    /// Objects that there should be.
    pub counted: u64,
}

/// The files of a listing that nothing names and nobody is writing: they may be deleted, no reader ever counted on them.
///
/// Only the active writer may ask, with all names that it is writing to in `in_flight`; a writer that was replaced
/// cannot have its files named any more. No clock is asked. Files outside the archive's folders are left alone, and so
/// are records: an expiry alone removes those. A listing that shows what is long deleted does no harm.
///
/// # Errors
/// [`IndexIncomplete`]: with a part of the index, good objects would look like orphans.
pub fn orphans<'a>(
    catalog: &Catalog,
    index: &Index,
    listed: impl IntoIterator<Item = &'a StoredPath>,
    in_flight: &BTreeSet<StoredPath>,
) -> Result<Vec<StoredPath>, IndexIncomplete> {
    let (read, counted) = (index.len() as u64, catalog.totals().objects);
    if read != counted {
        return Err(IndexIncomplete { read, counted });
    }
    let objects: BTreeSet<&StoredPath> = index.entries().map(|entry| &entry.stored.path).collect();
    let checkpoints: BTreeSet<Seq> = catalog.checkpoints().iter().map(|(seq, _)| *seq).collect();
    let is_orphan = |path: &&StoredPath| {
        let name = path.as_str();
        if in_flight.contains(*path) || catalog.names(path) {
            return false;
        }
        if name.starts_with(OBJECTS) {
            return !objects.contains(path);
        }
        if name.starts_with(CHECKPOINT) {
            // One of a later number is being written, or will be.
            return checkpoint_seq(name).is_some_and(|seq| seq <= catalog.head().seq && !checkpoints.contains(&seq));
        }
        [FULL, TAIL, INDEX].iter().any(|folder| name.starts_with(folder))
    };
    Ok(listed.into_iter().filter(is_orphan).cloned().collect())
}
