//! Damaged objects copied anew from Milvus's bucket, by a command of its own. The agent's tail does the same beside its work.

use std::collections::BTreeSet;

use eyrie_archive::index::encode_piece;
use eyrie_archive::limits::NAMED_MAX;
use eyrie_archive::record::ObjectsMirrored;
use eyrie_archive::{Kind, Line, names};
use futures::StreamExt;

use super::copy::{self, Copied, CopyFault};
use super::{MirrorError, read_index};
use crate::bucket::Bucket;
use crate::catalog::{Writer, now};
use crate::chance;

use crate::pack;
use crate::seal::Recipients;

/// What became of damaged objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Copied anew.
    pub copied: u64,
    /// The source has them no more: the revisions that need them stay unrecoverable.
    pub gone: Vec<String>,
    /// They could not be copied, and why.
    pub failed: Vec<String>,
}

/// Copies these objects anew, and has the archive say so. Only what the index names is touched.
///
/// # Errors
/// [`MirrorError`]: the archive can't be read or written.
pub async fn objects(
    writer: &mut Writer,
    from: &Bucket,
    parallel: usize,
    seal_to: &Recipients,
    files: &[String],
) -> Result<Repaired, MirrorError> {
    let to = writer.bucket().clone();
    let index = read_index(&to, writer.catalog()).await?;
    let wanted: BTreeSet<&str> = files.iter().map(String::as_str).filter(|file| index.get(file).is_some()).collect();
    let mut repaired = Repaired::default();
    let to_copy = &to;
    let copies = wanted.into_iter().map(|file| async move { (file, copy::one(from, file, to_copy, seal_to).await) });
    let mut copies = futures::stream::iter(copies).buffer_unordered(parallel.max(1));
    let mut done: Vec<Copied> = Vec::new();
    while let Some((file, outcome)) = copies.next().await {
        match outcome {
            Ok(copied) => done.push(copied),
            Err(CopyFault::Gone) => repaired.gone.push(file.to_owned()),
            Err(CopyFault::Passing(why) | CopyFault::Lasting(why)) => repaired.failed.push(why),
        }
        if done.len() >= NAMED_MAX {
            repaired.copied += record(writer, &to, std::mem::take(&mut done)).await?;
        }
    }
    repaired.copied += record(writer, &to, done).await?;
    Ok(repaired)
}

async fn record(writer: &mut Writer, to: &Bucket, done: Vec<Copied>) -> Result<u64, MirrorError> {
    if done.is_empty() {
        return Ok(0);
    }
    let lived_ms = writer.catalog().lived_at(now());
    let lines: Vec<Line> = done.iter().map(|one| Line::Mirrored(one.entry(lived_ms, Vec::new()))).collect();
    let (after, nonce) = (writer.catalog().head().seq, chance::word(4));
    let name = |wrap| names::index(after, &nonce, wrap);
    let piece = pack::bytes(to, &Recipients::nobody(), name, encode_piece(&lines).into()).await?.stored;
    let copied = done.len() as u64;
    let repaired = done.into_iter().map(|one| one.stored.path).collect();
    let record = ObjectsMirrored { piece, objects: 0, bytes: 0, stored_bytes: 0, mirrored_to: None, repaired };
    writer.append(Kind::ObjectsMirrored(record)).await?;
    Ok(copied)
}
