//! Defragmentation: a copy without the holes, made while reads and writes go on.
//!
//! ```text
//! copy a picture -> copy what was added since, drop what was dropped since -> ... -> last small step: swap
//! ```
//! The last step runs between two commits; changes are staged in memory meanwhile. At a crash at any moment either file
//! is whole under the tables' name, and the other one's name is the temporary one, removed at the next start.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use eyrie_state::{Position, TableFault};

use super::{
    build::{TablesBuilder, copy_small},
    contain::{damaged, io as io_fault},
    store::{Base, POSITION_MAX},
    temporary_of,
    writer::{Shared, Writer},
};
use crate::atomic;

/// A round that copied fewer records than this is followed by the last step.
const LAST_STEP_RECORDS: u64 = 1_000;
/// With more than this many rounds writes outrun the copy: the last step then takes what is left.
const ROUNDS_MAX: u32 = 12;
const BATCH: usize = 512;
const BATCH_BYTES: usize = 128 * 1024;
/// Least rest after each chunk written; otherwise as long as the chunk took, so that half the disk is left to others.
const REST_MIN: Duration = Duration::from_millis(5);

/// Rewrites the tables without holes.
pub(super) fn defragment(shared: &Shared) -> Result<(), TableFault> {
    shared.check()?;
    let temporary = temporary_of(&shared.path);
    check_room(shared)?;
    // What is dropped but not yet committed would be copied, and leave its holes in the copy: right after a compaction, most of it.
    shared.flush()?;
    let first = shared.on_writer(|writer| {
        writer.drop_log = Some(Vec::new());
        writer.base()
    })?;
    let result = copy_and_swap(shared, first, temporary.clone());
    if result.is_err() {
        let _ = shared.on_writer(|writer| writer.drop_log = None);
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn check_room(shared: &Shared) -> Result<(), TableFault> {
    let need = shared.base().sheet().bytes + shared.base().sheet().bytes / 8 + (8 << 20);
    let space = shared.gate.look(need);
    if !space.short {
        return Ok(());
    }
    let what = format!(
        "no space to defragment: the copy needs {need} bytes and {} must stay free, but {} are free. Nothing was changed; free some space and repeat",
        space.reserve_bytes, space.free_bytes
    );
    Err(io_fault(&shared.path, what))
}

fn copy_and_swap(shared: &Shared, first: std::sync::Arc<Base>, temporary: PathBuf) -> Result<(), TableFault> {
    let mut copy = TablesBuilder::create_polite(&temporary, shared.options.cache_bytes, shared.gate.clone())?;
    let mut base = first;
    for _ in 0..ROUNDS_MAX {
        let copied = copy_records(&base, &mut copy, true)?;
        if copied < LAST_STEP_RECORDS {
            break;
        }
        let drops;
        (base, drops) =
            shared.on_writer(|writer| (writer.base(), writer.drop_log.replace(Vec::new()).unwrap_or_default()))?;
        copy.drop_records(&drops)?;
    }
    drop(base);
    let path = shared.path.clone();
    shared.on_writer(move |writer| swap(writer, copy, &temporary, path))?
}

/// Copies the records after the last copied one; returns how many.
fn copy_records(base: &Base, copy: &mut TablesBuilder, politely: bool) -> Result<u64, TableFault> {
    let from = copy.last().map_or(Position::default(), next_position);
    let mut reader = base.reader(from, POSITION_MAX)?;
    let mut copied = 0;
    let mut since = Instant::now();
    loop {
        let batch = reader.batch(BATCH, BATCH_BYTES)?;
        if batch.is_empty() {
            return Ok(copied);
        }
        copied += batch.len() as u64;
        let before = copy.chunks();
        for (at, tombstone, record) in &batch {
            copy.push_record(*at, *tombstone, record)?;
        }
        if politely && copy.chunks() > before {
            thread::sleep(since.elapsed().max(REST_MIN));
            since = Instant::now();
        }
    }
}

/// The last step, on the writer thread: nothing is committed meanwhile.
fn swap(
    writer: &mut Writer,
    mut copy: TablesBuilder,
    temporary: &std::path::Path,
    path: PathBuf,
) -> Result<(), TableFault> {
    let base = writer.base();
    copy.drop_records(&writer.drop_log.take().unwrap_or_default())?;
    copy_records(&base, &mut copy, false)?;
    copy_small(&base, &mut copy)?;
    copy.seal(base.sheet().applied)?;
    if copy.sheet() != base.sheet() {
        return Err(damaged(&path, "a copy has other contents than the tables; the copy was thrown away"));
    }
    let store = copy.into_store();
    atomic::rename(temporary, &path).map_err(|e| io_fault(&path, e))?;
    writer.replace_store(store.renamed(&path))
}

fn next_position(at: Position) -> Position {
    match at.sub.checked_add(1) {
        Some(sub) => Position { main: at.main, sub },
        None => Position { main: at.main.saturating_add(1), sub: 0 },
    }
}
