//! `hashkv`: the digest that a member serving this file would answer, to compare with `etcdctl endpoint hashkv`.

use std::path::Path;

use eyrie_disk::snapshot::SnapshotFile;

use super::failure::Failure;
use super::parse::Parsed;
use super::print::{Figure, Format};

pub(super) fn run(parsed: &Parsed) -> Result<(), Failure> {
    let [file] = &parsed.args[..] else {
        return Err(Failure::error(format!("accepts 1 arg(s), received {}", parsed.args.len())));
    };
    let format = Format::of(parsed)?;
    let revision = i64::try_from(parsed.number("rev")).map_err(|_| Failure::error("--rev is too large"))?;
    let file = SnapshotFile::open_for_status(Path::new(file)).map_err(Failure::error)?;
    file.check_content().map_err(Failure::error)?;
    let digest = file.hash_kv(revision).map_err(Failure::error)?;
    let figure = |head, field, json, number: i128| Figure { head, field, json, number, text: number.to_string() };
    format.print(&[
        figure("HASH", "Hash", "hash", digest.hash.into()),
        figure("HASH REVISION", "Hash revision", "hashRevision", digest.revision.into()),
        figure("COMPACT REVISION", "Compact revision", "compactRevision", digest.compact_revision.into()),
    ])
}
