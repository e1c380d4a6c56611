//! `defrag`: rewrites the tables of a data directory that no server uses.

use std::path::Path;
use std::time::Instant;

use eyrie_disk::datadir::DataDir;
use eyrie_disk::tables::{Options, RedbTables, Sizes};
use serde_json::json;

use super::failure::Failure;
use super::parse::Parsed;
use super::print::size;
use super::zap;

const PLACE: &str = "utl/defrag.rs";

pub(super) fn run(parsed: &Parsed) -> Result<(), Failure> {
    let dir = parsed.text("data-dir");
    defragment(dir).map_err(|cause| Failure::error(format!("Failed to defragment etcd data[{dir}] ({cause})")))
}

fn defragment(dir: &str) -> Result<(), Box<dyn std::error::Error>> {
    let held = DataDir::open(Path::new(dir), None)?;
    let path = held.tables_path();
    let tables = RedbTables::open(&path, Options::default())?;
    let begun = Instant::now();
    let before = tables.handle().sizes()?;
    let named = |sizes: &Sizes| {
        [
            ("path", json!(path.display().to_string())),
            ("current-db-size-bytes", json!(sizes.file_bytes)),
            ("current-db-size", json!(size(sizes.file_bytes))),
            ("current-db-size-in-use-bytes", json!(sizes.in_use_bytes)),
            ("current-db-size-in-use", json!(size(sizes.in_use_bytes))),
        ]
    };
    zap::line("info", PLACE, "defragmenting", &named(&before));
    tables.handle().defragment()?;
    let after = tables.handle().sizes()?;
    let mut fields = named(&after).to_vec();
    let gained = i128::from(after.file_bytes) - i128::from(before.file_bytes);
    fields.insert(1, ("current-db-size-bytes-diff", json!(gained as i64)));
    fields.push(("took", json!(begun.elapsed().as_secs_f64())));
    zap::line("info", PLACE, "finished defragmenting directory", &fields);
    Ok(())
}
