//! Live keys as a snapshot file in etcd's format, compacted at its revision.
//!
//! The small tables (leases, users, roles, cluster version) are those of the full, since a watch does not carry them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use eyrie_disk::atomic;
use eyrie_disk::bbolt::Extent;
use eyrie_disk::snapshot::{Export, SnapshotFault, SnapshotFile, Source};
use eyrie_state::record::{
    AUTH_ENABLED, LeaseRow, META_COMPACT_FINISHED, META_COMPACT_SCHEDULED, POSITION_KEY_LEN, parse_alarm_key,
    revision_bytes,
};
use eyrie_state::{AlarmKind, Bucket, LogIndex, Position, TableFault, Term};

use super::RestoreError;
use super::keys::{Digest, LiveKeys};
use crate::inside;
use crate::limits::LEASE_TTL_UNKNOWN_SECS;

/// All tables of a full but its history.
#[derive(Debug, Clone)]
pub(super) struct SmallTables(BTreeMap<&'static str, Vec<(Bytes, Bytes)>>);

/// What became of the small tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SmallReport {
    /// Leases that keys hang on and that the full does not know.
    pub(super) unknown_leases: u64,
    /// Keys that hang on them.
    pub(super) on_unknown_leases: u64,
    /// Users and roles are enforced.
    pub(super) auth: bool,
    /// Alarms about a full disk, left out: the store that they spoke of is gone.
    pub(super) alarms_dropped: u64,
    /// An alarm about corrupt data, kept.
    pub(super) corrupt: bool,
}

impl SmallTables {
    /// Those of a full.
    pub(super) fn of(file: &SnapshotFile) -> Result<Self, SnapshotFault> {
        let mut all = BTreeMap::new();
        for bucket in Bucket::ALL {
            all.insert(bucket.name(), file.small(bucket)?);
        }
        Ok(Self(all))
    }

    /// Makes them fit the keys, and lifts the revision to `lifted`: all up to there is marked as compacted.
    /// With `open_doors`, users are not enforced.
    pub(super) fn fit(&mut self, keys: &LiveKeys, lifted: i64, open_doors: bool) -> SmallReport {
        let mut report = SmallReport::default();
        let meta = self.rows(Bucket::Meta);
        meta.retain(|(key, _)| key != META_COMPACT_SCHEDULED && key != META_COMPACT_FINISHED);
        if lifted > 1 {
            let mark = Bytes::copy_from_slice(&revision_bytes(Position { main: lifted, sub: 0 }));
            let marks = [META_COMPACT_FINISHED, META_COMPACT_SCHEDULED];
            meta.extend(marks.map(|name| (Bytes::from_static(name), mark.clone())));
            meta.sort();
        }
        let leases = self.rows(Bucket::Lease);
        for (id, count) in keys.leases() {
            if leases.iter().any(|(key, _)| **key == LeaseRow::key(id)) {
                continue;
            }
            let row = LeaseRow { id, ttl_secs: LEASE_TTL_UNKNOWN_SECS, remaining_secs: 0 };
            leases.push((Bytes::copy_from_slice(&LeaseRow::key(id)), row.encode().into()));
            report.unknown_leases += 1;
            report.on_unknown_leases += count;
        }
        leases.sort();
        self.rows(Bucket::Alarm).retain(|(key, _)| {
            let full = parse_alarm_key(key).is_ok_and(|alarm| alarm.kind == AlarmKind::NoSpace);
            report.alarms_dropped += u64::from(full);
            report.corrupt |= !full;
            !full
        });
        if open_doors {
            self.rows(Bucket::Auth).retain(|(key, _)| key != AUTH_ENABLED);
        }
        report.auth = self.rows(Bucket::Auth).iter().any(|(key, value)| key == AUTH_ENABLED && **value == [1]);
        report
    }

    fn rows(&mut self, bucket: Bucket) -> &mut Vec<(Bytes, Bytes)> {
        self.0.entry(bucket.name()).or_default()
    }

    fn meta_number(&self, name: &[u8]) -> Option<u64> {
        let rows = self.0.get(Bucket::Meta.name())?;
        let value = &rows.iter().find(|(key, _)| key == name)?.1;
        Some(u64::from_be_bytes(value.as_ref().try_into().ok()?))
    }
}

/// Writes the file and reads it back whole: its hash, its structure, its content, and whether it holds these very keys.
///
/// `finish` gives it a durable name when all is proven; without it the file has no name any more when this returns.
pub(super) fn write(
    keys: &LiveKeys,
    expected: &Digest,
    small: &SmallTables,
    scratch: &Path,
    finish: Option<&Path>,
) -> Result<SnapshotFile, RestoreError> {
    let local = |verb, cause| RestoreError::Local { verb, path: scratch.display().to_string(), cause };
    let file = atomic::create(scratch).map_err(|cause| local("make", cause))?;
    let place = match finish {
        Some(_) => scratch.to_path_buf(),
        None => {
            // without a name from the start, a death leaves nothing of it behind
            std::fs::remove_file(scratch).map_err(|cause| local("remove", cause))?;
            inside::nameless(&file)
        }
    };
    let made = lay(keys, small, &file, scratch, finish.is_some()).and_then(|()| proven(expected, &place));
    let named = made.and_then(|proven| match finish {
        Some(path) => atomic::rename(scratch, path).map(|()| proven).map_err(|cause| local("name", cause)),
        None => Ok(proven),
    });
    if named.is_err() && finish.is_some() {
        let _ = std::fs::remove_file(scratch);
    }
    named
}

fn lay(keys: &LiveKeys, small: &SmallTables, file: &File, path: &Path, stays: bool) -> Result<(), RestoreError> {
    let image = Image { keys, small };
    let failed = |fault: String| RestoreError::Local {
        verb: "write",
        path: path.display().to_string(),
        cause: std::io::Error::other(fault),
    };
    let export = Export::plan(image).map_err(|fault| failed(fault.to_string()))?;
    export.write_to(file).map_err(|fault| failed(fault.to_string()))?;
    if stays { file.sync_all().map_err(|fault| failed(fault.to_string())) } else { Ok(()) }
}

fn proven(expected: &Digest, path: &Path) -> Result<SnapshotFile, RestoreError> {
    let file = SnapshotFile::open_for_restore(path, false)?;
    let found = LiveKeys::of(&file)?.digest();
    if found != *expected {
        let what = "the snapshot file that was written";
        return Err(RestoreError::Unequal { what, expected: expected.clone(), found });
    }
    Ok(file)
}

struct Image<'a> {
    keys: &'a LiveKeys,
    small: &'a SmallTables,
}

impl Source for Image<'_> {
    fn history_extent(&self) -> Result<Extent, TableFault> {
        let live = self.keys.in_history();
        let bytes = live.iter().map(|live| (POSITION_KEY_LEN + live.record.len()) as u64).sum();
        Ok(Extent { records: live.len() as u64, bytes, key_len_max: POSITION_KEY_LEN })
    }

    fn history(&self, visit: &mut dyn FnMut(Position, bool, &[u8]) -> bool) -> Result<(), TableFault> {
        let _ = self.keys.in_history().into_iter().all(|live| visit(live.at, false, &live.record));
        Ok(())
    }

    fn small(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        for (key, value) in self.small.0.get(bucket.name()).into_iter().flatten() {
            visit(key, value);
        }
        Ok(())
    }

    fn applied(&self) -> (LogIndex, Term) {
        let number = |name| self.small.meta_number(name).unwrap_or(1).max(1);
        (LogIndex(number(b"consistent_index")), Term(number(b"term")))
    }
}
