//! Start: rebuilds the state from the tables with one pass over history.

use std::collections::BTreeSet;

use crate::auth::{self, Auth};
use crate::cluster::{Cluster, parse_member_json, parse_member_key};
use crate::compaction::Compaction;
use crate::halt::Halt;
use crate::ids::{AuthRevision, LeaseId, Position, Revision};
use crate::index::{Bulk, Extra, Mark};
use crate::lease::Leases;
use crate::record::{self, LeaseRow, RecordView, parse_alarm_key, parse_position_key};
use crate::state::State;
use crate::tables::{Bucket, Records, TableFault, Tables};

impl<T: Tables> State<T> {
    /// Rebuilds everything from the tables: what comes back equals what was applied up to [`Tables::applied`].
    ///
    /// A compaction that was under way goes on with the next [`State::compaction_step`].
    ///
    /// # Errors
    /// [`Halt`] when the tables are damaged, or hold what no release has written.
    pub fn open(tables: T) -> Result<Self, Halt> {
        let compaction = load_compaction(&tables)?;
        let mut leases = load_leases(&tables)?;
        let history = load_history(&tables.records())?;
        let newest = history.last().map_or(1, |at| at.main);
        let scheduled = compaction.compacted().map_or(1, |revision| revision.0);
        let index = history.build(|id, key| {
            let slot = leases.slot(id);
            leases.moved(key, None, slot);
            slot
        });
        Ok(Self {
            alarms: load_alarms(&tables)?,
            cluster: load_cluster(&tables)?,
            auth: load_auth(&tables)?,
            revision: Revision(newest.max(scheduled).max(1)),
            applied: tables.applied(),
            compaction,
            index,
            leases,
            tables,
        })
    }
}

fn load_history(records: &impl Records) -> Result<Bulk, Halt> {
    let mut bulk = Bulk::default();
    let mut wrong: Option<(Position, &'static str)> = None;
    let end = Position { main: i64::MAX, sub: u32::MAX };
    records.scan(Position::default(), end, &mut |at, tombstone, bytes| {
        let ordered = at.main > 0 && bulk.last().is_none_or(|last| last < at);
        match record::view(bytes) {
            Ok(view) if ordered => {
                let mark = if tombstone { Mark::tombstone(at) } else { Mark::live(at) };
                let RecordView { create_revision: create, version, lease, key, .. } = view;
                bulk.add(&bytes[key], mark, Extra { create, version, lease });
            }
            Ok(_) => wrong = Some((at, "its revision is not larger than the one before it")),
            Err(what) => wrong = Some((at, what)),
        }
        wrong.is_none()
    })?;
    match wrong {
        Some((at, what)) => Err(damaged_record(at, what).into()),
        None => Ok(bulk),
    }
}

/// The fault of a record that cannot be what was written.
pub(crate) fn damaged_record(at: Position, what: &str) -> TableFault {
    TableFault::Damaged { place: format!("bucket key, revision {}_{}", at.main, at.sub), what: what.to_owned() }
}

/// Visits the rows of a bucket; the first error ends it.
fn rows<T: Tables>(
    tables: &T,
    bucket: Bucket,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), Halt> {
    let mut wrong = None;
    tables.load(bucket, &mut |key, value| {
        if wrong.is_none() {
            wrong = visit(key, value).err().map(|what| Halt::nonsense(bucket.name(), key, what));
        }
    })?;
    wrong.map_or(Ok(()), Err)
}

fn load_compaction<T: Tables>(tables: &T) -> Result<Compaction, Halt> {
    let (mut scheduled, mut finished) = (None, None);
    rows(tables, Bucket::Meta, |key, value| {
        let mark = match key {
            record::META_COMPACT_SCHEDULED => &mut scheduled,
            record::META_COMPACT_FINISHED => &mut finished,
            _ => return Ok(()),
        };
        let (at, _) = parse_position_key(value).ok_or("not a revision of 17 bytes")?;
        *mark = Some(at.revision());
        Ok(())
    })?;
    Ok(Compaction::resume(scheduled, finished))
}

fn load_leases<T: Tables>(tables: &T) -> Result<Leases, Halt> {
    let mut leases = Leases::default();
    rows(tables, Bucket::Lease, |key, value| {
        let row = LeaseRow::decode(value)?;
        if row.id == LeaseId(0) || key != LeaseRow::key(row.id) {
            return Err(format!("the row says it is lease {:x}", row.id.0));
        }
        leases.grant(row);
        Ok(())
    })?;
    Ok(leases)
}

fn load_alarms<T: Tables>(tables: &T) -> Result<BTreeSet<crate::answer::Alarm>, Halt> {
    let mut alarms = BTreeSet::new();
    rows(tables, Bucket::Alarm, |key, _| {
        alarms.insert(parse_alarm_key(key)?);
        Ok(())
    })?;
    Ok(alarms)
}

fn load_cluster<T: Tables>(tables: &T) -> Result<Cluster, Halt> {
    let mut cluster = Cluster::default();
    rows(tables, Bucket::Members, |key, value| {
        let member = parse_member_json(value)?;
        if parse_member_key(key) != Some(member.id) {
            return Err(format!("the row says it is member {:x}", member.id.0));
        }
        cluster.members.insert(member.id, member);
        Ok(())
    })?;
    rows(tables, Bucket::MembersRemoved, |key, _| {
        cluster.removed.insert(parse_member_key(key).ok_or("not a member id in hex")?);
        Ok(())
    })?;
    rows(tables, Bucket::Cluster, |key, value| {
        if key == record::CLUSTER_VERSION {
            let text = String::from_utf8(value.to_vec()).map_err(|_| "not text")?;
            cluster.version = Some(text);
        }
        Ok(())
    })?;
    Ok(cluster)
}

fn load_auth<T: Tables>(tables: &T) -> Result<Auth, Halt> {
    let (mut enabled, mut revision) = (false, AuthRevision(0));
    rows(tables, Bucket::Auth, |key, value| {
        match key {
            record::AUTH_ENABLED => enabled = value == [1],
            record::AUTH_REVISION => {
                let bytes = value.try_into().map_err(|_| "not a number of 8 bytes")?;
                revision = AuthRevision(u64::from_be_bytes(bytes));
            }
            _ => {}
        }
        Ok(())
    })?;
    let (mut users, mut roles) = (Vec::new(), Vec::new());
    rows(tables, Bucket::AuthUsers, |key, value| {
        let user = auth::User::decode(value)?;
        if key != user.name.as_bytes() {
            return Err(format!("the row says it is user {}", user.name));
        }
        users.push(user);
        Ok(())
    })?;
    rows(tables, Bucket::AuthRoles, |key, value| {
        let role = auth::Role::decode(value)?;
        if key != role.name.as_bytes() {
            return Err(format!("the row says it is role {}", role.name));
        }
        roles.push(role);
        Ok(())
    })?;
    Ok(Auth::load(enabled, revision, users, roles))
}
