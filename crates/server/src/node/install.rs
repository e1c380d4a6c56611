//! Tables that came whole from the leader take the place of those in use, while readers go on with the old ones.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eyrie_disk::tables::{Options, RedbTables};
use eyrie_disk::transfer;
use eyrie_raft::SnapshotMark;
use eyrie_state::State;

use super::{Fatal, Shared};
use crate::log_info;

/// Does so. The log has begun anew at `mark` already, so a crash anywhere in here is made good at the next start.
///
/// # Errors
/// [`Fatal`] when the new tables can't be used: the member must stop.
pub(super) fn install(
    shared: &Shared,
    whole: &Path,
    mark: &SnapshotMark,
    options: Options,
    grace: Duration,
) -> Result<(), Fatal> {
    let place = shared.data_dir.join("tables.redb");
    // No commit and no defragmentation may touch the name from here on.
    shared.replacing_tables.store(true, Ordering::Release);
    shared.state.write().tables_mut().retire();
    transfer::install(whole, &place).map_err(|fault| Fatal::Other(fault.to_string()))?;
    let tables = RedbTables::open(&place, options).map_err(Fatal::tables)?;
    let handle = tables.handle();
    let state = State::open(tables).map_err(Fatal::halt)?;
    let (applied, term) = state.applied();
    if applied.0 != mark.index {
        return Err(Fatal::Other(format!(
            "the snapshot from the leader ends at entry {}, not {}: stop this member and start it with an empty --data-dir",
            applied.0, mark.index
        )));
    }
    let (revision, keys) = (state.revision(), state.key_count());
    if let Ok(sizes) = handle.sizes() {
        shared.table_bytes.store(sizes.file_bytes, Ordering::Relaxed);
    }
    shared.lessor.replace(state.leases().map(super::start::lease_times), grace);
    let old = std::mem::replace(&mut *shared.state.write(), state);
    *shared.tables.write() = handle;
    shared.replacing_tables.store(false, Ordering::Release);
    drop(old);
    shared.guard.follow(shared.state.read().auth());
    shared.follow_members();
    shared.progress.applied_up_to(applied.0, term.0);
    shared.pending.passed_over(applied.0);
    shared.hub.skip_to(revision);
    shared.applied_moved.notify_waiters();
    shared.compaction_done.notify_waiters();
    shared.inbox.wake();
    log_info!(
        "took over the store as the leader sent it",
        "index" = &applied.0,
        "revision" = &revision.0,
        "keys" = &keys
    );
    Ok(())
}
