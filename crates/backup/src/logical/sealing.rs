//! Logs and the tree in envelopes of age: written by whoever has public keys, opened by whoever has a private one.
//!
//! What is sealed has `.age` after its name. It is the plain age format: the standard tool opens it too.

use bytes::{Bytes, BytesMut};
use eyrie_milvus::logical::manifest::Object;
use futures::{Stream, TryStreamExt};

use super::create::hex;
use super::failure::{Failure, Kind, Result};
use crate::bucket::{Bucket, ByteRange, Sha256};
use crate::limits::COPY_ATTEMPTS;
use crate::seal::{Compress, Identities, Recipients, SealError, Wrap, open, seal};

/// What is done to each object; logs are compressed already.
const WRAP: Wrap = Wrap { zstd: false, age: true };

/// The name of what is sealed.
pub(super) fn named(key: &str) -> String {
    format!("{key}{}", WRAP.ending())
}

/// The name of what is in it; nothing for what is not sealed.
pub(super) fn plain_name(key: &str) -> Option<&str> {
    key.strip_suffix(WRAP.ending())
}

/// An object that was sealed.
pub(super) struct Stored {
    pub(super) len: u64,
    pub(super) sha256: Sha256,
    pub(super) plain_len: u64,
}

impl Stored {
    /// As the list of a backup has it.
    pub(super) fn object(&self) -> Object {
        let (len, sha256) = (self.len, Some(hex(&self.sha256)));
        Object { len, plain_len: Some(self.plain_len), sha256, ..Object::default() }
    }
}

/// Seals an object of one bucket into another.
///
/// # Errors
/// The source has no such object, or a store failed.
pub(super) async fn copy_in(source: &Bucket, from: &str, to: &Bucket, key: &str, keys: &Recipients) -> Result<Stored> {
    again(async || {
        let reading = source.read_stream(from, ByteRange::ALL).await?;
        let stored = put_stream(to, key, reading.bytes.map_err(Failure::from), keys).await?;
        if stored.plain_len != reading.len {
            let what = format!("{from} in {source} has {} bytes, and {} came", reading.len, stored.plain_len);
            return Err(Failure::new(Kind::Store, what, "run again"));
        }
        Ok(stored)
    })
    .await
}

/// Seals bytes.
///
/// # Errors
/// The store failed.
pub(super) async fn put(to: &Bucket, key: &str, bytes: Bytes, keys: &Recipients) -> Result<Stored> {
    put_stream(to, key, futures::stream::iter([Ok(bytes)]), keys).await
}

async fn put_stream<S>(to: &Bucket, key: &str, plain: S, keys: &Recipients) -> Result<Stored>
where
    S: Stream<Item = Result<Bytes>> + Send + 'static,
{
    let sealed = seal(plain, keys, Compress::Never).await?;
    let told = sealed.plain();
    let written = to.write_stream::<_, Failure>(key, sealed.bytes, None).await?;
    let unfinished = || Failure::from(SealError::Failed("the stream ended early".into()));
    let (plain_len, _) = told().ok_or_else(unfinished)?;
    match to.stat(key).await? {
        Some(stat) if stat.len == written.len => Ok(Stored { len: written.len, sha256: written.sha256, plain_len }),
        _ => Err(Failure::new(Kind::Store, format!("{key} in {to} is not what was written"), "run again")),
    }
}

/// Opens an object of one bucket into another, which must be `len` bytes then.
///
/// # Errors
/// The key is wrong, the envelope is damaged, or a store failed.
pub(super) async fn copy_out(
    source: &Bucket,
    from: &str,
    to: &Bucket,
    key: &str,
    len: u64,
    keys: &Identities,
) -> Result<()> {
    again(async || {
        let reading = source.read_stream(from, ByteRange::ALL).await?;
        let plain = open(reading.bytes.map_err(Failure::from), WRAP, keys, len).await?;
        to.write_stream::<_, Failure>(key, plain, Some(len)).await?;
        Ok(())
    })
    .await
}

/// The plain bytes of an object, at most `limit` of them.
///
/// # Errors
/// The key is wrong, the envelope is damaged, or the store failed.
pub(super) async fn read(source: &Bucket, key: &str, limit: u64, keys: &Identities) -> Result<Bytes> {
    let reading = source.read_stream(key, ByteRange::ALL).await?;
    let plain = open(reading.bytes.map_err(Failure::from), WRAP, keys, limit).await;
    let plain = plain.map_err(|failure| failure.during(&format!("{key} in {source}")))?;
    let all = plain.try_fold(BytesMut::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    Ok(all.await.map_err(|failure| failure.during(&format!("{key} in {source}")))?.freeze())
}

/// The length of the plain bytes of an object, by opening all of it.
///
/// # Errors
/// As [`read`].
pub(super) async fn len(source: &Bucket, key: &str, limit: u64, keys: &Identities) -> Result<u64> {
    let reading = source.read_stream(key, ByteRange::ALL).await?;
    let plain = open(reading.bytes.map_err(Failure::from), WRAP, keys, limit).await;
    let plain = plain.map_err(|failure| failure.during(&format!("{key} in {source}")))?;
    let len = plain.try_fold(0, |len, piece| async move { Ok(len + piece.len() as u64) });
    len.await.map_err(|failure| failure.during(&format!("{key} in {source}")))
}

/// A stream can't be rewound when a store breaks off in its middle; here it begins again.
async fn again<T>(attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut attempts = 1;
    loop {
        match attempt().await {
            Err(failure) if failure.kind == Kind::Store && attempts < COPY_ATTEMPTS => attempts += 1,
            done => return done,
        }
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Failure {
        let kind = match error {
            SealError::WrongKey { .. } | SealError::NoKey => Kind::Denied,
            SealError::Damaged(_) | SealError::TooLong { .. } => Kind::Damaged,
            SealError::Recipient(_) | SealError::Identity(_) => Kind::Request,
            SealError::Failed(_) => Kind::Store,
        };
        let said = error.to_string();
        let (what, next) = said.split_once("\n  Next: ").unwrap_or((&said, "read the reason above"));
        let next = match error {
            SealError::WrongKey { .. } | SealError::NoKey => {
                "give the identity file of one of its recipients by --identity"
            }
            _ => next,
        };
        Failure::new(kind, what.trim_end_matches('.'), next.trim_end_matches('.'))
    }
}
