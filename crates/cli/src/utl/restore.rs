//! `snapshot restore`: a snapshot file becomes the data directory of one member of a new cluster, or one directory for each
//! of its members.

use std::path::{Path, PathBuf};

use eyrie_disk::datadir::{DataDir, Identity, Kind};
use eyrie_disk::snapshot::{RestoreTarget, SnapshotFile, restore_unproven};
use serde_json::json;

use super::cluster::{Bootstrap, all_named};
use super::failure::Failure;
use super::parse::Parsed;
use super::zap;

const PLACE: &str = "utl/restore.rs";

/// Users and roles travel with the data, and are enforced: who restores must know a password.
pub(super) const AUTH_WARNING: &str = "authentication is switched on in this data: its users and roles are kept, and the \
                                       server will ask for them";

pub(super) fn run(parsed: &Parsed) -> Result<(), Failure> {
    let [file] = &parsed.args[..] else {
        return Err(Failure::args("snapshot restore requires exactly one argument"));
    };
    let bump_revision = parsed.number("bump-revision");
    if (bump_revision > 0) != parsed.truth("mark-compacted") {
        return Err(Failure::args("--mark-compacted required if --revision-bump > 0"));
    }
    if parsed.truth("all-members") {
        return all_members(parsed, file, bump_revision);
    }
    let name = parsed.text("name");
    let data_dir = match parsed.text("data-dir") {
        "" => format!("{name}.etcd"),
        dir => dir.to_owned(),
    };
    let advertised = parsed.text("initial-advertise-peer-urls");
    one_member(parsed, file, bump_revision, name, advertised, &data_dir, parsed.text("wal-dir"))
}

/// Each member of `--initial-cluster` gets a directory of its name in `--data-dir`.
fn all_members(parsed: &Parsed, file: &str, bump_revision: u64) -> Result<(), Failure> {
    for flag in ["name", "initial-advertise-peer-urls", "wal-dir"] {
        if parsed.is_set(flag) {
            return Err(Failure::error(format!(
                "--{flag} is one member's, and --all-members restores all that --initial-cluster names: leave it out"
            )));
        }
    }
    let members = all_named(parsed.text("initial-cluster")).map_err(Failure::error)?;
    let place = |name: &str| Path::new(parsed.text("data-dir")).join(name).display().to_string();
    for (name, _) in &members {
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(Failure::error(format!(
                "{name:?} can't be the name of a directory: restore this member by itself"
            )));
        }
        // All are looked at before anything is written: half a cluster helps nobody.
        target_dirs(&place(name), "")?;
    }
    for (name, urls) in &members {
        one_member(parsed, file, bump_revision, name, &urls.join(","), &place(name), "")?;
    }
    Ok(())
}

fn one_member(
    parsed: &Parsed,
    file: &str,
    bump_revision: u64,
    name: &str,
    advertised: &str,
    data_dir: &str,
    wal_dir: &str,
) -> Result<(), Failure> {
    let bootstrap =
        Bootstrap::new(name, parsed.text("initial-cluster"), advertised, parsed.text("initial-cluster-token"))
            .map_err(Failure::error)?;
    let wal_dir = target_dirs(data_dir, wal_dir)?;
    let fields = [
        ("path", json!(file)),
        ("wal-dir", json!(wal_dir.clone().unwrap_or(Path::new(data_dir).join("wal")).display().to_string())),
        ("data-dir", json!(data_dir)),
    ];
    zap::line("info", PLACE, "restoring snapshot", &fields);

    let snapshot =
        SnapshotFile::open_unproven(Path::new(file), parsed.truth("skip-hash-check")).map_err(Failure::error)?;
    let (cluster, member) = (bootstrap.cluster, bootstrap.me);
    let added: Vec<_> = bootstrap.members.iter().map(|m| (m.id, m.peer_urls.clone())).collect();
    let target = RestoreTarget {
        data_dir: Path::new(data_dir),
        wal_dir: wal_dir.as_deref(),
        identity: Identity { cluster, member, name: name.to_owned() },
        members: bootstrap.members,
        bump_revision,
    };
    let restored = restore_unproven(snapshot, target).map_err(Failure::error)?;
    // Said only now: the file was proven while the tables were built, and of a refused one nothing is told as done.
    zap::line("info", PLACE, "Trimming membership information from the backend...", &[]);
    for (id, peer_urls) in added {
        zap::line(
            "info",
            PLACE,
            "added member",
            &[
                ("cluster-id", json!(format!("{:x}", cluster.0))),
                ("local-member-id", json!("0")),
                ("added-peer-id", json!(format!("{:x}", id.0))),
                ("added-peer-peer-urls", json!(peer_urls)),
            ],
        );
    }
    if restored.auth_enabled {
        zap::line("warn", PLACE, AUTH_WARNING, &[]);
    }
    let mut fields = fields.to_vec();
    fields.extend([("records", json!(restored.records)), ("revision", json!(restored.revision))]);
    zap::line("info", PLACE, "restored snapshot", &fields);
    Ok(())
}

/// Refuses directories that hold something, in upstream's words.
fn target_dirs(data_dir: &str, wal_dir: &str) -> Result<Option<PathBuf>, Failure> {
    match DataDir::inspect(Path::new(data_dir)) {
        Ok(Kind::Absent | Kind::Empty | Kind::Unfinished | Kind::UnfinishedRestore) => {}
        Ok(_) | Err(_) => {
            return Err(Failure::error(format!("data-dir {data_dir:?} not empty or could not be read")));
        }
    }
    if wal_dir.is_empty() {
        return Ok(None);
    }
    // what an unfinished restore left there is cleared when the data directory is begun again
    let unfinished = matches!(DataDir::inspect(Path::new(data_dir)), Ok(Kind::Unfinished | Kind::UnfinishedRestore));
    if Path::new(wal_dir).exists() && !unfinished {
        return Err(Failure::error(format!("wal-dir {wal_dir:?} exists")));
    }
    Ok(Some(PathBuf::from(wal_dir)))
}
