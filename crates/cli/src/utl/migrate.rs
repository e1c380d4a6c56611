//! `migrate`: a new data directory from that of a stopped etcd 3.5, which is left as it is.

use std::path::Path;

use eyrie_disk::etcd::EtcdDir;
use serde_json::json;

use super::failure::Failure;
use super::parse::Parsed;
use super::zap;
use crate::screen::out;

const PLACE: &str = "utl/migrate.rs";

pub(super) fn run(parsed: &Parsed) -> Result<(), Failure> {
    if let Some(extra) = parsed.args.first() {
        return Err(Failure::args(format!("migrate takes no arguments, got {extra:?}")));
    }
    let (from, to) = (parsed.text("from"), parsed.text("data-dir"));
    let optional = |name: &str| Some(parsed.text(name).to_owned()).filter(|text| !text.is_empty());
    let source = EtcdDir::open(Path::new(from), optional("from-wal-dir").as_deref().map(Path::new));
    let source = source.map_err(Failure::error)?;
    zap::line(
        "info",
        PLACE,
        "adopting data directory",
        &[
            ("from", json!(from)),
            ("data-dir", json!(to)),
            ("cluster-id", json!(format!("{:x}", source.cluster()))),
            ("member-id", json!(format!("{:x}", source.member().0))),
            ("name", json!(source.name())),
            ("log-entries-after-database", json!(source.tail_len())),
        ],
    );
    if let Some((file, offset)) = source.torn() {
        let fields = [("file", json!(file.display().to_string())), ("offset", json!(offset))];
        zap::line("warn", PLACE, "left out an append that never finished, at the end of the log", &fields);
    }
    if source.auth_enabled().map_err(Failure::error)? {
        zap::line("warn", PLACE, super::restore::AUTH_WARNING, &[]);
    }
    let (wal_dir, name) = (optional("wal-dir"), optional("name"));
    let adopted = source.adopt(Path::new(to), wal_dir.as_deref().map(Path::new), name.as_deref());
    let adopted = adopted.map_err(Failure::error)?;
    zap::line("info", PLACE, "adopted data directory", &[("from", json!(from)), ("data-dir", json!(to))]);
    out(&format!(
        "adopted {from} as {to}: revision {}, {} keys, {} leases; {} records of history, {} log entries applied after \
         them. {from} is as it was\n",
        adopted.revision, adopted.keys, adopted.leases, adopted.records, adopted.entries
    ));
    Ok(())
}
