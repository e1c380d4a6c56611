//! One object from the source's bucket into the archive: length and hash always, sealed if the archive is.

use eyrie_archive::names::{self, Wrap};
use eyrie_archive::record::Stored;
use eyrie_archive::{Entry, LivedMillis, Sha256, SourcePath, Use};
use futures::TryStreamExt;

use crate::bucket::{Bucket, BucketError, ByteRange, CopyCheck, Kind};
use crate::pack::{self, PackError};
use crate::seal::Recipients;

/// An object that is in the archive's bucket now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) source: SourcePath,
    pub(super) len: u64,
    pub(super) sha256: Sha256,
    pub(super) stored: Stored,
}

impl Copied {
    /// Its line in the index.
    pub(super) fn entry(&self, lived_ms: LivedMillis, uses: Vec<Use>) -> Entry {
        let Self { source, len, sha256, stored } = self.clone();
        Entry { source, len, sha256, stored, lived_ms, uses }
    }
}

/// Why it is not.
#[derive(Debug)]
pub(super) enum CopyFault {
    /// The source does not have it.
    Gone,
    /// It may work later.
    Passing(String),
    /// Somebody must do something.
    Lasting(String),
}

/// Copies one object. Whatever a killed run left under its name is replaced: no record names it.
pub(super) async fn one(from: &Bucket, path: &str, to: &Bucket, seal_to: &Recipients) -> Result<Copied, CopyFault> {
    let source = SourcePath::new(path).map_err(|error| CopyFault::Lasting(error.to_string()))?;
    if seal_to.is_nobody() {
        let target = names::object(&source, Wrap::default()).map_err(|error| CopyFault::Lasting(error.to_string()))?;
        let copied = to.copy_from(from, path, target.as_str(), CopyCheck::Sha256).await;
        let copied = copied.map_err(|error| sorted(from, path, &error))?;
        let sha256 = copied.sha256.map(Sha256).ok_or_else(|| CopyFault::Passing(format!("{path} has no hash")))?;
        let stored = Stored { path: target, len: copied.len, sha256, locked_until_ms: None };
        return Ok(Copied { source, len: copied.len, sha256, stored });
    }
    let reading = from.read_stream(path, ByteRange::ALL).await.map_err(|error| sorted(from, path, &error))?;
    let len = reading.len;
    let named = source.clone();
    let bytes = reading.bytes.map_err(PackError::from);
    let packed = pack::stream(to, seal_to, |wrap| names::object(&named, wrap), bytes).await;
    let packed = packed.map_err(|error| match error {
        PackError::Bucket(error) => sorted(from, path, &error),
        other => CopyFault::Passing(other.to_string()),
    })?;
    if packed.plain.len != len {
        return Err(CopyFault::Passing(format!("{path} has {len} bytes, but {} came", packed.plain.len)));
    }
    Ok(Copied { source, len, sha256: packed.plain.sha256, stored: packed.stored })
}

/// Copies everything below a path. What it holds is known from a listing only; nothing there is gone.
pub(super) async fn folder(
    from: &Bucket,
    path: &str,
    to: &Bucket,
    seal_to: &Recipients,
) -> Result<Vec<Copied>, CopyFault> {
    let listed: Vec<String> = match from.list(path).map_ok(|entry| entry.key).try_collect().await {
        Ok(listed) => listed,
        Err(error) => return Err(sorted(from, path, &error)),
    };
    if listed.is_empty() {
        return Err(CopyFault::Gone);
    }
    let mut copied = Vec::new();
    for name in listed {
        copied.push(one(from, &name, to, seal_to).await?);
    }
    Ok(copied)
}

/// Gone is only what the *source* says is not there.
fn sorted(from: &Bucket, path: &str, error: &BucketError) -> CopyFault {
    match error.kind {
        Kind::NotFound if error.place == from.to_string() && error.key == path => CopyFault::Gone,
        Kind::Unavailable | Kind::Damaged | Kind::NotFound | Kind::Expired | Kind::Full => {
            CopyFault::Passing(error.to_string())
        }
        Kind::Conflict | Kind::Denied | Kind::Locked | Kind::Config => CopyFault::Lasting(error.to_string()),
    }
}
