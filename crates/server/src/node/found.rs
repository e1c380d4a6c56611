//! The first start of a member: founding a cluster together with others, or joining one that runs; and directories that
//! are not this member's to start on.

use std::collections::BTreeSet;

use eyrie_disk::datadir::{self, DataDir};
use eyrie_disk::tables::RedbTables;
use eyrie_disk::wal::{Wal, WalOptions};
use eyrie_raft::{HardState, LogStart, Membership};
use eyrie_state::{Bucket, Change, LogIndex, Member, MemberId, TableOp, Tables, Term, member_json, member_key};

use super::start::{table_options, wal_meta};
use super::{Fatal, Identity, rebuild};
use crate::config::Config;
use crate::founding::{cluster_id, founders};
use crate::peer::{self, ask_members, founded_already, joined_as, membership};
use crate::tls::PeerTls;
use crate::{log_info, log_warn};

/// A new cluster's log begins in this term, as upstream's does.
const FIRST_TERM: u64 = 1;

/// Founds a cluster, or joins one.
///
/// # Errors
/// [`Fatal`]: nothing of worth was begun.
pub(super) fn begin(config: &Config, tls: Option<&PeerTls>) -> Result<DataDir, Fatal> {
    if DataDir::is_rejoining(&config.data_dir)
        && let Some(identity) = DataDir::begun_for(&config.data_dir)?
    {
        rebuild::resume(config, tls, identity)?;
        return Ok(DataDir::open(&config.data_dir, config.wal_dir.as_deref())?);
    }
    let wanted = founders(&config.initial_cluster, &config.initial_cluster_token);
    if config.initial_cluster_existing { join(config, tls, &wanted) } else { found(config, tls, &wanted) }
}

fn found(config: &Config, tls: Option<&PeerTls>, members: &[Member]) -> Result<DataDir, Fatal> {
    let Some(own) = members.iter().find(|member| member.name == config.name) else {
        let name = &config.name;
        return Err(Fatal::Other(format!("couldn't find local name \"{name}\" in the initial cluster configuration")));
    };
    let cluster = cluster_id(members.iter().map(|member| member.id));
    if members.len() > 1 {
        let (answers, _) = ask_members(tls, &urls_of_others(members, own.id));
        if founded_already(&answers, cluster.0, own.id) {
            let (name, id, urls) = (&own.name, own.id.0, own.peer_urls.join(","));
            return Err(Fatal::Other(format!(
                "member {id:x} has already been bootstrapped: {name} has served in this cluster, and its data is not in {}. \
                 Starting it empty would take back what it has promised. Put its --data-dir back, or replace it: etcdctl \
                 member remove {id:x}, then etcdctl member add {name} --peer-urls={urls}, and start it with \
                 --initial-cluster-state=existing",
                config.data_dir.display()
            )));
        }
    }
    // Every founder begins with the same entries behind it, as if each had been added by one.
    let start = LogStart { index: members.len() as u64, term: FIRST_TERM, membership: membership(members) };
    let identity = datadir::Identity { cluster, member: own.id, name: config.name.clone() };
    let rows: Vec<_> = members.iter().map(unstarted).chain(rows_of_upstream(members)).collect();
    let dir = lay(config, identity, rows, &start)?;
    let (path, member) = (dir.path().display().to_string(), format!("{:x}", own.id.0));
    log_info!("founded a new store", "data-dir" = &path, "member-id" = &member, "members" = &members.len());
    Ok(dir)
}

fn join(config: &Config, tls: Option<&PeerTls>, wanted: &[Member]) -> Result<DataDir, Fatal> {
    let own = wanted.iter().find(|member| member.name == config.name).map(|member| member.id);
    let urls = urls_of_others(wanted, own.unwrap_or(MemberId(0)));
    let (answers, failures) = ask_members(tls, &urls);
    let Some(answer) = answers.into_iter().find(|answer| answer.leader != 0) else {
        return Err(Fatal::Other(format!(
            "--initial-cluster-state=existing asks to join a cluster, but none of its members named in --initial-cluster \
             answers as part of a cluster with a leader ({}); {} was not begun. Check the addresses, or found a new store with \
             --initial-cluster-state=new",
            if failures.is_empty() { "nobody else is named".into() } else { failures.join("; ") },
            config.data_dir.display()
        )));
    };
    let (member, members) = joined_as(&answer, wanted, &config.name).map_err(Fatal::Other)?;
    let cluster = eyrie_state::ClusterId(answer.cluster);
    let identity = datadir::Identity { cluster, member, name: config.name.clone() };
    // All that the cluster holds comes from its leader; the rows only tell where to find it.
    let start = LogStart { index: 0, term: 0, membership: Membership::default() };
    let dir = lay(config, identity, members.iter().map(row).collect(), &start)?;
    let (path, member, cluster) =
        (dir.path().display().to_string(), format!("{:x}", member.0), format!("{:x}", cluster.0));
    log_info!("joins a running cluster", "data-dir" = &path, "member-id" = &member, "cluster-id" = &cluster);
    Ok(dir)
}

fn urls_of_others(members: &[Member], own: MemberId) -> Vec<String> {
    members.iter().filter(|member| member.id != own).flat_map(|member| member.peer_urls.iter().cloned()).collect()
}

/// Lays down a directory whose log begins after `start`.
pub(super) fn lay(
    config: &Config,
    who: datadir::Identity,
    rows: Vec<TableOp>,
    start: &LogStart,
) -> Result<DataDir, Fatal> {
    let dir = DataDir::create(&config.data_dir, config.wal_dir.as_deref(), who)?;
    RedbTables::create(&dir.tables_path()).map_err(Fatal::tables)?;
    let mut tables = RedbTables::open(&dir.tables_path(), table_options(config)).map_err(Fatal::tables)?;
    let applied = (start.index > 0).then_some((LogIndex(start.index), Term(start.term)));
    tables.stage(Change { applied, ops: rows }).map_err(Fatal::tables)?;
    tables.flush().map_err(Fatal::tables)?;
    drop(tables);
    let founded = Identity { cluster: dir.identity().cluster, member: dir.identity().member };
    let mut wal = Wal::create(dir.wal_path(), wal_meta(founded), start, WalOptions::default()).map_err(Fatal::wal)?;
    let hard_state = HardState { term: start.term, vote: 0, commit: start.index };
    wal.append(&[], Some(&hard_state)).and_then(|()| wal.sync()).map_err(Fatal::wal)?;
    drop(wal);
    dir.finish()?;
    Ok(dir)
}

/// Refuses a directory that is another member's, or that of a member that has left.
///
/// # Errors
/// What is wrong, and the command that makes it right.
pub(super) fn refuse_the_wrong_directory(
    members: &[Member],
    removed: impl Iterator<Item = MemberId>,
    dir: &DataDir,
    config: &Config,
) -> Result<(), Fatal> {
    let own = dir.identity().member;
    if removed.collect::<BTreeSet<_>>().contains(&own) {
        log_warn!("the member has been permanently removed from the cluster");
        return Err(Fatal::Other(peer::removed_words()));
    }
    let named = config.initial_cluster.iter().filter(|(name, _)| *name == config.name).map(|(_, url)| url);
    let urls: BTreeSet<&String> = named.collect();
    let is_named =
        |member: &&Member| member.name == config.name || member.peer_urls.iter().any(|url| urls.contains(url));
    let Some(other) = members.iter().find(is_named).filter(|other| other.id != own) else {
        return refuse_a_foreign_copy(members, dir, config);
    };
    if members.iter().filter(|member| member.id == own).any(|member| is_named(&member)) {
        return Ok(());
    }
    Err(another_members(&other.name, dir, config))
}

/// A directory restored for one member, and copied to members of a cluster that it knows nothing of.
fn refuse_a_foreign_copy(members: &[Member], dir: &DataDir, config: &Config) -> Result<(), Fatal> {
    let names: BTreeSet<&str> = config.initial_cluster.iter().map(|(name, _)| name.as_str()).collect();
    let never_served = members.iter().all(|member| member.client_urls.is_empty());
    let alone = members.len() == 1 && names.len() > 1 && never_served;
    if alone && !config.force_new_cluster { Err(another_members("", dir, config)) } else { Ok(()) }
}

fn another_members(other: &str, dir: &DataDir, config: &Config) -> Fatal {
    let all: Vec<String> = config.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let whose = if other.is_empty() {
        "a store that was restored as a cluster of one".to_owned()
    } else {
        format!("the store of another member ({})", dir.identity().name)
    };
    Fatal::Other(format!(
        "{} holds {whose}, and this member is {}: nothing was changed. A restored directory serves one member only; copies of \
         it would all say that they are the same one. Restore the snapshot for each member by itself, with the same file: \
         eyrie utl snapshot restore SNAPSHOT --name {} --initial-cluster {} --initial-cluster-token {} \
         --initial-advertise-peer-urls {} --data-dir NEW",
        dir.path().display(),
        config.name,
        config.name,
        all.join(","),
        config.initial_cluster_token,
        config.initial_advertise_peer_urls.join(",")
    ))
}

pub(super) fn row(member: &Member) -> TableOp {
    TableOp::Put {
        bucket: Bucket::Members,
        key: member_key(member.id).into_bytes().into(),
        value: member_json(member).into_bytes().into(),
    }
}

/// A founder's row before the founder has said its name and client URLs.
fn unstarted(member: &Member) -> TableOp {
    row(&Member { name: String::new(), ..member.clone() })
}

/// Rows that mean nothing here, but that every store of upstream's has: its tools count them.
fn rows_of_upstream(members: &[Member]) -> [TableOp; 2] {
    let voters = members.iter().map(|member| member.id.0.to_string()).collect::<Vec<_>>().join(",");
    let conf_state = format!("{{\"voters\":[{voters}],\"auto_leave\":false}}");
    let row = |bucket, key: &'static str, value: Vec<u8>| TableOp::Put { bucket, key: key.into(), value: value.into() };
    [
        row(Bucket::Auth, "authRevision", 1_u64.to_be_bytes().to_vec()),
        row(Bucket::Meta, "confState", conf_state.into_bytes()),
    ]
}
