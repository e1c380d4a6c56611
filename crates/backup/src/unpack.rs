//! Files out of the archive: checked against their record before a byte counts.

use bytes::{Bytes, BytesMut};
use eyrie_archive::Sha256;
use eyrie_archive::names::Wrap;
use eyrie_archive::record::Stored;
use futures::TryStreamExt;

use crate::bucket::{Bucket, BucketError};
use crate::limits::UNPACK_LEN_MAX;
use crate::seal::{Identities, SealError, open};

/// Why a file of the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is not what its record says.
    #[error("{name} is not what its record says: {what}. Next: eyrie backup verify")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// The plain bytes of a small file that is not sealed, such as an index piece.
///
/// # Errors
/// [`UnpackError`].
pub async fn bytes(bucket: &Bucket, stored: &Stored) -> Result<Bytes, UnpackError> {
    bytes_with(bucket, stored, &Identities::default()).await
}

/// The plain bytes of a small file, opened with one of `keys` if it is sealed.
///
/// # Errors
/// [`UnpackError`].
pub async fn bytes_with(bucket: &Bucket, stored: &Stored, keys: &Identities) -> Result<Bytes, UnpackError> {
    let whole = bucket.read_max(stored.path.as_str(), UNPACK_LEN_MAX).await?;
    let damaged = |what| UnpackError::Damaged { name: stored.path.to_string(), what };
    if whole.len() as u64 != stored.len {
        return Err(damaged("its length is another"));
    }
    if Sha256::of(&whole) != stored.sha256 {
        return Err(damaged("its bytes are others"));
    }
    let sealed = futures::stream::iter([Ok::<_, UnpackError>(whole)]);
    let plain = open(sealed, Wrap::of(&stored.path), keys, UNPACK_LEN_MAX).await?;
    let plain: BytesMut = plain
        .try_fold(BytesMut::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await?;
    Ok(plain.freeze())
}
