//! Copies from one bucket to another: by the store itself where it can, else streamed; compared afterwards.

use std::time::Duration;

use futures::TryStreamExt;
use sha2::Digest;

use super::body::{ByteRange, CopySource, Stat};
use super::error::{Action, Fault, Kind};
use super::{Bucket, BucketError, Result, Sha256};
use crate::limits::{COPY_ATTEMPTS, SLOWEST_SERVER_COPY_BYTES_PER_SEC};

/// How a copy is compared with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyCheck {
    /// By its length; a streamed copy has a SHA-256 anyway.
    Length,
    /// The SHA-256 is wanted in any case: what the store copied by itself is read once for it.
    Sha256,
    /// The bytes come through here in any case, and their SHA-256 is taken on the way.
    Streamed,
}

/// A finished copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Bytes.
    pub len: u64,
    /// Of the content; missing only for a copy by the store itself under [`CopyCheck::Length`].
    pub sha256: Option<Sha256>,
    /// Whether the store copied it by itself, and no byte came through here.
    pub server_side: bool,
    /// What the target's store says about it now.
    pub stat: Stat,
}

impl Bucket {
    /// Copies an object from `source` to the name `to` here, over what was there.
    ///
    /// Within one store, or between two buckets of one S3 endpoint under the same keys, the store does it; else the bytes
    /// are streamed, and their SHA-256 is taken on the way. Afterwards the target is asked again: another length is an error.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the source has no such object, [`Kind::Damaged`] when source and copy differ, and all that
    /// either store can say.
    pub async fn copy_from(&self, source: &Bucket, from: &str, to: &str, check: CopyCheck) -> Result<Copied> {
        let mut attempt = 1;
        loop {
            match self.copy_once(source, from, to, check).await {
                // A large object's stream can't be rewound by a write that fails in its middle; here it can begin again.
                Err(error) if error.kind == Kind::Unavailable && attempt < COPY_ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    /// The SHA-256 of an object's content, by reading it.
    ///
    /// # Errors
    /// As [`Bucket::read_stream`].
    pub async fn sha256(&self, key: &str) -> Result<(u64, Sha256)> {
        let reading = self.read_stream(key, ByteRange::ALL).await?;
        let mut bytes = reading.bytes;
        let mut hash = sha2::Sha256::new();
        while let Some(piece) = bytes.try_next().await? {
            hash.update(&piece);
        }
        Ok((reading.len, hash.finalize().into()))
    }

    async fn copy_once(&self, source: &Bucket, from: &str, to: &str, check: CopyCheck) -> Result<Copied> {
        let within = match check {
            CopyCheck::Streamed => None,
            CopyCheck::Length | CopyCheck::Sha256 => self.copy_within_store(source, from, to).await?,
        };
        if let Some((len, stat)) = within {
            let sha256 = match check {
                CopyCheck::Length | CopyCheck::Streamed => None,
                CopyCheck::Sha256 => Some(self.sha256(to).await?.1),
            };
            return Ok(Copied { len, sha256, server_side: true, stat });
        }
        let reading = source.read_stream(from, ByteRange::ALL).await?;
        let written = self.write_stream::<_, BucketError>(to, reading.bytes, Some(reading.len)).await?;
        let stat = self.compared(to, written.len).await?;
        Ok(Copied { len: written.len, sha256: Some(written.sha256), server_side: false, stat })
    }

    /// Lets the store copy; nothing when it can't do it from there.
    async fn copy_within_store(&self, source: &Bucket, from: &str, to: &str) -> Result<Option<(u64, Stat)>> {
        if self.shared.body.store() == super::body::StoreId::Alone {
            return Ok(None);
        }
        let (from_key, to_key) = (source.key(from, Action::Copy)?, self.key(to, Action::Copy)?);
        let same = source.shared.body.store() == self.shared.body.store() && from_key == to_key;
        let gone = || source.error(Fault::lasting(Kind::NotFound, "there is no such object"), Action::Copy, from);
        let stat = source.stat(from).await?.ok_or_else(gone)?;
        if same {
            return Ok(Some((stat.len, stat)));
        }
        let body = &self.shared.body;
        let copy = || body.copy(CopySource { body: &*source.shared.body, key: &from_key, stat: &stat }, &to_key);
        // A store may take long over a large object: silence is no sign of loss as early as for other calls.
        let patience = self.shared.timeout * 10 + Duration::from_secs(stat.len / SLOWEST_SERVER_COPY_BYTES_PER_SEC);
        if !self.attempts_within(patience, Action::Copy, to, copy).await? {
            return Ok(None);
        }
        // No byte came through here, but the store moved them: a limit holds for it, too, from the next call on.
        self.pay(usize::try_from(stat.len).unwrap_or(usize::MAX)).await;
        Ok(Some((stat.len, self.compared(to, stat.len).await?)))
    }

    /// Asks for what was just written, which must have this length.
    async fn compared(&self, key: &str, len: u64) -> Result<Stat> {
        let damaged = |cause: String| self.error(Fault::lasting(Kind::Damaged, cause), Action::Copy, key);
        match self.stat(key).await? {
            Some(stat) if stat.len == len => Ok(stat),
            Some(stat) => Err(damaged(format!("the copy has {} bytes, its source {len}", stat.len))),
            None => Err(damaged("the copy was written without an error, and is not there".into())),
        }
    }
}
