//! `snapshot status`: the figures of a file.

use std::path::Path;

use eyrie_disk::snapshot::SnapshotFile;

use super::failure::Failure;
use super::parse::Parsed;
use super::print::{Figure, Format, size};

pub(super) fn status(parsed: &Parsed) -> Result<(), Failure> {
    let [file] = &parsed.args[..] else {
        return Err(Failure::args("snapshot status requires exactly one argument"));
    };
    let format = Format::of(parsed)?;
    let status =
        SnapshotFile::open_for_status(Path::new(file)).and_then(|file| file.status()).map_err(Failure::error)?;
    let figure = |head, field, json, number: i128, text: String| Figure { head, field, json, number, text };
    format.print(&[
        figure("HASH", "Hash", "hash", status.hash.into(), format!("{:x}", status.hash)),
        figure("REVISION", "Revision", "revision", status.revision.into(), status.revision.to_string()),
        figure("TOTAL KEYS", "Keys", "totalKey", status.total_key.into(), status.total_key.to_string()),
        figure("TOTAL SIZE", "Size", "totalSize", status.total_size.into(), size(status.total_size)),
    ])
}
