//! Files on their way into the archive: hashed, compressed where it pays, sealed if wanted, stored, and described.
//!
//! ```text
//! plain bytes ─▶ hash ─▶ zstd? ─▶ age? ─▶ bucket (hash and length of what is stored) ─▶ Packed
//! ```
//! Streaming all the way. A file that is packed exists for nobody until a record names it.

use std::io::Read;

use bytes::Bytes;
use eyrie_archive::names::Wrap;
use eyrie_archive::record::{Plain, Stored};
use eyrie_archive::{BadName, Sha256, StoredPath};
use futures::Stream;

use crate::bucket::{Bucket, BucketError};
use crate::limits::PACK_BLOCK_LEN;
use crate::seal::{Compress, Recipients, SealError, seal};

/// Why a file could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A local file failed.
    #[error("can't read what is to be stored: {0}. Nothing was recorded")]
    Read(#[source] std::io::Error),
    /// Compression or sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The name cannot be used.
    #[error(transparent)]
    Name(#[from] BadName),
}

/// A complete file in the bucket that no record names yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What went in.
    pub plain: Plain,
    /// What is stored.
    pub stored: Stored,
}

/// Stores a stream, sealed to `to`. `name` gets to know how the file is wrapped.
///
/// # Errors
/// [`PackError`]; nothing is visible under the name then.
pub async fn stream<E>(
    bucket: &Bucket,
    to: &Recipients,
    name: impl FnOnce(Wrap) -> Result<StoredPath, BadName>,
    plain: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Result<Packed, PackError>
where
    E: From<SealError> + From<BucketError> + Into<PackError> + Send + 'static,
{
    let sealed = seal(plain, to, Compress::IfItPays).await.map_err(Into::into)?;
    let path = name(sealed.wrap)?;
    let told = sealed.plain();
    let written = bucket.write_stream(path.as_str(), sealed.bytes, None).await.map_err(Into::into)?;
    let (len, sha256) = told().ok_or_else(|| SealError::Failed("the stream ended without its hash".into()))?;
    Ok(Packed {
        plain: Plain { len, sha256: Sha256(sha256) },
        stored: Stored { path, len: written.len, sha256: Sha256(written.sha256), locked_until_ms: None },
    })
}

/// Stores bytes.
///
/// # Errors
/// As [`stream`].
pub async fn bytes(
    bucket: &Bucket,
    to: &Recipients,
    name: impl FnOnce(Wrap) -> Result<StoredPath, BadName>,
    plain: Bytes,
) -> Result<Packed, PackError> {
    let blocks: Vec<Result<Bytes, PackError>> = (0..plain.len())
        .step_by(PACK_BLOCK_LEN)
        .map(|at| Ok(plain.slice(at..plain.len().min(at + PACK_BLOCK_LEN))))
        .collect();
    stream(bucket, to, name, futures::stream::iter(blocks)).await
}

/// Stores a local file from where it stands. `sent` is told how many bytes were read so far.
///
/// # Errors
/// As [`stream`].
pub async fn file(
    bucket: &Bucket,
    to: &Recipients,
    name: impl FnOnce(Wrap) -> Result<StoredPath, BadName>,
    file: std::fs::File,
    sent: impl Fn(u64) + Send + 'static,
) -> Result<Packed, PackError> {
    let blocks = futures::stream::try_unfold((file, 0u64, sent), |(mut file, so_far, sent)| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut block = Vec::with_capacity(PACK_BLOCK_LEN);
            (&mut file).take(PACK_BLOCK_LEN as u64).read_to_end(&mut block).map(|_| (file, block))
        });
        let (file, block) = read.await.expect("reading does not panic").map_err(PackError::Read)?;
        let so_far = so_far + block.len() as u64;
        sent(so_far);
        Ok::<_, PackError>((!block.is_empty()).then(|| (Bytes::from(block), (file, so_far, sent))))
    });
    stream(bucket, to, name, blocks).await
}
