//! `--force-new-cluster`: a member goes on by itself after the others are lost for ever.
//!
//! The one step that can take back what was acknowledged: entries that only the others had are gone. So it is refused while
//! any of them answers, and it says what it knows and what it cannot know.

use std::collections::BTreeSet;

use eyrie_disk::tables::RedbTables;
use eyrie_disk::wal::{Recovered, Wal};
use eyrie_raft::EntryKind;
use eyrie_state::{Bucket, Change, Member, TableOp, Tables, member_key, parse_member_json, record};

use super::{Fatal, Identity};
use crate::peer::ask_members;
use crate::tls::PeerTls;
use crate::{log_info, log_warn};

/// Makes `identity` the only member: its rows first, then the entries of the log that would bring others back.
///
/// # Errors
/// When another member answers; nothing was changed then.
pub(super) fn go_on_alone(
    identity: Identity,
    tls: Option<&PeerTls>,
    tables: &mut RedbTables,
    recovered: &mut Recovered,
    wal: &mut Wal,
) -> Result<(), Fatal> {
    let others: Vec<Member> = members(tables)?.into_iter().filter(|member| member.id != identity.member).collect();
    let (applied, _) = tables.applied();
    if others.is_empty() && !recovered.entries.iter().any(|entry| brings_others(entry, applied.0)) {
        log_info!("--force-new-cluster has nothing to do: this member is alone already; remove the flag");
        return Ok(());
    }
    refuse_while_others_answer(identity, tls, &others)?;
    let ops = others.iter().flat_map(|member| {
        let key = bytes::Bytes::from(member_key(member.id).into_bytes());
        [
            TableOp::Delete { bucket: Bucket::Members, key: key.clone() },
            TableOp::Put { bucket: Bucket::MembersRemoved, key, value: record::MEMBER_REMOVED.into() },
        ]
    });
    tables.stage(Change { applied: None, ops: ops.collect() }).map_err(Fatal::tables)?;
    tables.flush().map_err(Fatal::tables)?;
    forget_changes(recovered, wal, applied.0)?;
    let (last, commit, gone) = (recovered.last_index(), recovered.hard_state.commit.max(applied.0), others.len());
    log_warn!(
        "goes on as a cluster of one, by --force-new-cluster. All that this member's log holds is kept, also what it does not know to be acknowledged. Lost is whatever the others acknowledged after they stopped sending it here: compare revisions with what clients and backups know. Remove the flag, then add new members: etcdctl member add NAME --peer-urls=URL",
        "members-given-up" = &gone,
        "log-last-index" = &last,
        "log-committed-index" = &commit
    );
    Ok(())
}

fn members(tables: &RedbTables) -> Result<Vec<Member>, Fatal> {
    let (mut members, mut wrong) = (Vec::new(), None);
    let visit = &mut |_: &[u8], row: &[u8]| match parse_member_json(row) {
        Ok(member) => members.push(member),
        Err(what) => wrong = Some(what),
    };
    tables.view().bucket(Bucket::Members, visit).map_err(Fatal::tables)?;
    wrong.map_or(Ok(members), |what| Err(Fatal::Other(format!("a member's row can't be read: {what}"))))
}

fn refuse_while_others_answer(identity: Identity, tls: Option<&PeerTls>, others: &[Member]) -> Result<(), Fatal> {
    let urls: Vec<String> = others.iter().flat_map(|member| member.peer_urls.iter().cloned()).collect();
    let (answers, _) = ask_members(tls, &urls);
    let alive: BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer.cluster == identity.cluster.0 && answer.from != identity.member.0)
        .map(|answer| format!("{:x} (revision {})", answer.from, answer.revision))
        .collect();
    if alive.is_empty() {
        return Ok(());
    }
    Err(Fatal::Other(format!(
        "--force-new-cluster is refused: other members of this cluster answer: {}. Two halves would go on separately, and one of \
         them would be lost. If they are a majority, start this member without the flag. If they are not, stop them all first, \
         and give the flag to the one with the highest revision",
        alive.into_iter().collect::<Vec<_>>().join(", ")
    )))
}

fn brings_others(entry: &eyrie_raft::Entry, applied: u64) -> bool {
    entry.kind == EntryKind::Membership && entry.index > applied
}

/// Changes of the members that are not applied yet become entries without a meaning.
fn forget_changes(recovered: &mut Recovered, wal: &mut Wal, applied: u64) -> Result<(), Fatal> {
    let Some(first) = recovered.entries.iter().position(|entry| brings_others(entry, applied)) else { return Ok(()) };
    for entry in recovered.entries[first..].iter_mut().filter(|entry| entry.kind == EntryKind::Membership) {
        entry.kind = EntryKind::Normal;
        entry.data = bytes::Bytes::new();
    }
    wal.append(&recovered.entries[first..], Some(&recovered.hard_state)).and_then(|()| wal.sync()).map_err(Fatal::wal)
}
