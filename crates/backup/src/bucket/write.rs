//! Writing: whole objects, objects that must be new, and streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use sha2::Digest;

use super::body::{ByteRange, Conditional, Parts};
use super::error::{Action, BucketError, Fault, Kind};
use super::key::Key;
use super::retry::{Budget, within};
use super::{Bucket, Result, Sha256};
use crate::limits::{CREATE_BYTES_MAX, HASHED_APART_BYTES, PARTS_AT_ONCE, PARTS_MAX};

/// The name of the object that shows whether a store's writes can be conditional; it stays, so that no right to delete is
/// needed.
const PROBE: &str = ".eyrie-conditional-writes";

/// What became of a write that must not overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there now, by this call.
    New,
    /// It was there already, with the same content: an earlier attempt or run of ours.
    Same,
    /// Another content has this name. Nothing was changed.
    Conflict,
}

/// What a streamed write has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub len: u64,
    /// Their SHA-256, taken while they passed.
    pub sha256: Sha256,
}

impl Bucket {
    /// Writes a whole object, over what was there. Afterwards it is durable.
    ///
    /// # Errors
    /// [`Kind::Locked`] when the old object may not be replaced, [`Kind::Full`], and all that a store can say.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let (full, bytes) = (self.key(key, Action::Write)?, bytes.into());
        self.pay(bytes.len()).await;
        let put = || self.shared.body.put(&full, bytes.clone());
        self.attempts_within(self.patience(bytes.len()), Action::Write, key, put).await
    }

    /// Writes a whole object unless its name is taken: of many writers exactly one gets [`Created::New`].
    ///
    /// When an answer got lost, the attempt after it finds the name taken; then the contents are compared, so that our own
    /// object is never called foreign. A remote store is tried once, before the first such write, for whether it
    /// enforces the condition at all: some answer as if they did and overwrite.
    ///
    /// # Errors
    /// [`Kind::Config`] when the store can't do this; else all that a store can say.
    pub async fn create(&self, key: &str, bytes: impl Into<Bytes>) -> Result<Created> {
        let bytes = bytes.into();
        if bytes.len() > CREATE_BYTES_MAX {
            let cause = format!("{} bytes are too many for an object that must be new", bytes.len());
            return Err(self.error(Fault::lasting(Kind::Config, cause), Action::Create, key));
        }
        self.ensure_conditional().await?;
        self.create_unproven(key, bytes).await
    }

    /// As [`Bucket::create`], for a name that nothing irreplaceable depends on: whether the store enforces the condition is not
    /// tried first. One that ignores it overwrites, and says [`Created::New`] to everybody.
    ///
    /// # Errors
    /// As [`Bucket::create`].
    pub async fn create_unproven(&self, key: &str, bytes: impl Into<Bytes>) -> Result<Created> {
        let (full, bytes) = (self.key(key, Action::Create)?, bytes.into());
        self.pay(bytes.len()).await;
        let mut budget = Budget::new(self.shared.retry);
        loop {
            let create = || self.shared.body.create(&full, bytes.clone());
            if self.attempts_within(self.patience(bytes.len()), Action::Create, key, create).await? {
                return Ok(Created::New);
            }
            match self.holds(key, &bytes).await {
                Ok(true) => return Ok(Created::Same),
                Ok(false) => return Ok(Created::Conflict),
                Err(error) if error.is_not_found() => {
                    let fault = Fault::passing("the store says that the name is taken, but there is no such object");
                    budget.again(fault).await.map_err(|fault| self.error(fault, Action::Create, key))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes sure that the store refuses a second write under one name; a remote store is asked once.
    ///
    /// # Errors
    /// [`Kind::Config`] when it does not.
    pub async fn ensure_conditional(&self) -> Result<()> {
        if self.shared.body.conditional() == Conditional::Sure {
            return Ok(());
        }
        self.shared.conditional.get_or_try_init(|| self.probe()).await.map(|_| ())
    }

    /// Writes a stream as one object, over what was there; `expected` is its length where that is known.
    ///
    /// Memory is bounded: small objects go in one call, larger ones in parts. Until this returns, nothing is visible under
    /// the name; when it fails, the parts are taken back.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the stream has another length than `expected`; the stream's own error; what a store can say.
    /// A large write is not begun again here, since the stream is gone by then: the caller does that.
    pub async fn write_stream<S, E>(
        &self,
        key: &str,
        stream: S,
        expected: Option<u64>,
    ) -> std::result::Result<Written, E>
    where
        S: Stream<Item = std::result::Result<Bytes, E>> + Send,
        E: From<BucketError>,
    {
        let full = self.key(key, Action::Write)?;
        let mut stream = std::pin::pin!(stream);
        let mut writer = StreamWriter::new(self, key, full, expected);
        loop {
            match stream.next().await {
                None => break,
                Some(Ok(bytes)) => writer.push(bytes).await?,
                Some(Err(error)) => {
                    writer.abort().await;
                    return Err(error);
                }
            }
        }
        Ok(writer.finish().await?)
    }

    /// Waits until the rate limit lets `bytes` pass.
    pub(super) async fn pay(&self, bytes: usize) {
        if let Some(pace) = &self.shared.pace {
            pace.pass(bytes).await;
        }
    }

    /// Whether the object has exactly this content.
    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool> {
        let reading = self.read_stream(key, ByteRange::ALL).await?;
        if reading.len != bytes.len() as u64 {
            return Ok(false);
        }
        let mut rest = bytes.clone();
        let mut found = reading.bytes;
        while let Some(piece) = found.try_next().await? {
            if rest.split_to(piece.len().min(rest.len())) != piece {
                return Ok(false);
            }
        }
        Ok(rest.is_empty())
    }

    /// Writes one name twice; the second must be refused.
    async fn probe(&self) -> Result<()> {
        let key = Key::own(&self.prefix, PROBE);
        let body = &self.shared.body;
        let mut refused = false;
        for text in ["This object shows that a name is written once.", "If this can be read, names are overwritten."] {
            let create = || body.create(&key, Bytes::from_static(text.as_bytes()));
            refused = !self.attempts(Action::Create, PROBE, create).await?;
        }
        if refused {
            return Ok(());
        }
        let cause = "this store overwrites an object that must be written once (it ignores If-None-Match), so that two \
                     writers could not be kept apart. Archives need a store that enforces it: a folder, AWS S3, MinIO, \
                     Ceph, GCS, Azure";
        Err(self.error(Fault::lasting(Kind::Config, cause), Action::Create, PROBE))
    }
}

/// The length of parts of an object of `expected` bytes, where they have `usual` bytes: so that their number stays below the
/// limit of stores.
fn part_len(usual: usize, expected: Option<u64>) -> usize {
    let least = expected.unwrap_or(0).div_ceil(PARTS_MAX - 1);
    usual.max(usize::try_from(least).unwrap_or(usual).next_multiple_of(1 << 20))
}

/// Gathers a stream into parts.
struct StreamWriter<'a> {
    bucket: &'a Bucket,
    shown: &'a str,
    key: Key,
    expected: Option<u64>,
    part_len: usize,
    gathered: BytesMut,
    parts: Option<Box<dyn Parts>>,
    hash: sha2::Sha256,
    len: u64,
}

impl<'a> StreamWriter<'a> {
    fn new(bucket: &'a Bucket, shown: &'a str, key: Key, expected: Option<u64>) -> Self {
        let part_len = part_len(bucket.shared.body.part_len(), expected);
        let room = expected.map_or(0, |len| part_len.min(usize::try_from(len).unwrap_or(part_len)));
        // memory that is not touched is never made
        let gathered = BytesMut::with_capacity(room);
        let hash = sha2::Sha256::new();
        Self { bucket, shown, key, expected, part_len, gathered, parts: None, hash, len: 0 }
    }

    async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        self.len += bytes.len() as u64;
        if self.expected.is_some_and(|expected| self.len > expected) {
            return Err(self.fail(self.wrong_length("at least")).await);
        }
        while !bytes.is_empty() {
            if self.gathered.is_empty() && bytes.len() >= self.part_len {
                // a whole part as it came: nothing to gather
                let part = bytes.split_to(self.part_len);
                self.send_part(part).await?;
                continue;
            }
            let piece = bytes.split_to(bytes.len().min(self.part_len - self.gathered.len()));
            self.gathered.extend_from_slice(&piece);
            if self.gathered.len() == self.part_len {
                let part = self.gathered.split().freeze();
                self.send_part(part).await?;
            }
        }
        Ok(())
    }

    /// Sends a part, which is hashed meanwhile; the first one begins the object.
    async fn send_part(&mut self, part: Bytes) -> Result<()> {
        let hashing = hashed(std::mem::take(&mut self.hash), part.clone());
        let patience = self.patience();
        self.bucket.pay(part.len()).await;
        let sent = async {
            if self.parts.is_none() {
                let (body, key) = (&self.bucket.shared.body, &self.key);
                self.parts = Some(retried(self.bucket, || body.write(key, self.part_len)).await?);
            }
            match &mut self.parts {
                Some(parts) => within(patience, parts.push(part)).await,
                None => Ok(()),
            }
        };
        match futures::join!(sent, hashing) {
            (Ok(()), Ok(hash)) => {
                self.hash = hash;
                Ok(())
            }
            (Err(fault), _) | (_, Err(fault)) => Err(self.fail(fault).await),
        }
    }

    async fn finish(mut self) -> Result<Written> {
        if self.expected.is_some_and(|expected| self.len != expected) {
            let fault = self.wrong_length("only");
            return Err(self.fail(fault).await);
        }
        if self.parts.is_none() {
            let whole = self.gathered.split().freeze();
            let hashing = hashed(std::mem::take(&mut self.hash), whole.clone());
            let (put, hash) = futures::join!(self.bucket.put(self.shown, whole), hashing);
            put?;
            let hash = hash.map_err(|fault| self.bucket.error(fault, Action::Write, self.shown))?;
            return Ok(Written { len: self.len, sha256: hash.finalize().into() });
        }
        if !self.gathered.is_empty() {
            let part = self.gathered.split().freeze();
            self.send_part(part).await?;
        }
        let patience = self.patience();
        if let Some(parts) = &mut self.parts
            && let Err(fault) = within(patience, parts.finish()).await
        {
            return Err(self.fail(fault).await);
        }
        Ok(Written { len: self.len, sha256: self.hash.finalize().into() })
    }

    /// A call may wait for all parts that are on their way, each of which has its own retries.
    fn patience(&self) -> Duration {
        self.bucket.patience(self.part_len * (PARTS_AT_ONCE + 1)) * 2
    }

    fn wrong_length(&self, than: &str) -> Fault {
        let expected = self.expected.unwrap_or_default();
        Fault::lasting(Kind::Damaged, format!("the stream has {than} {} bytes, and {expected} were expected", self.len))
    }

    async fn fail(&mut self, fault: Fault) -> BucketError {
        self.abort().await;
        self.bucket.error(fault, Action::Write, self.shown)
    }

    /// Takes the parts back, as far as the store lets it: what stays is invisible, and the store's own rules remove it.
    async fn abort(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            let _ = within(self.bucket.shared.timeout, parts.abort()).await;
        }
    }
}

/// The hash with these bytes, too. Many of them are hashed on a thread of their own, beside whatever else there is to do.
async fn hashed(mut hash: sha2::Sha256, bytes: Bytes) -> std::result::Result<sha2::Sha256, Fault> {
    if bytes.len() < HASHED_APART_BYTES {
        hash.update(&bytes);
        return Ok(hash);
    }
    let apart = tokio::task::spawn_blocking(move || {
        hash.update(&bytes);
        hash
    });
    apart.await.map_err(|error| Fault::lasting(Kind::Unavailable, format!("the hashing thread ended: {error}")))
}

async fn retried<'a, T>(
    bucket: &Bucket,
    attempt: impl Fn() -> futures::future::BoxFuture<'a, std::result::Result<T, Fault>>,
) -> std::result::Result<T, Fault> {
    let mut budget = Budget::new(bucket.shared.retry);
    loop {
        match within(bucket.shared.timeout, attempt()).await {
            Ok(answer) => return Ok(answer),
            Err(fault) => budget.again(fault).await?,
        }
    }
}
