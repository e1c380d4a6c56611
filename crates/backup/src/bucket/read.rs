//! Reading: bounded, resumed where it broke off, and never short.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};

use super::body::{ByteRange, Opened, Stat};
use super::error::{Action, Fault, Kind};
use super::key::Key;
use super::retry::{Budget, within};
use super::{Bucket, ByteStream, Result};

/// An object that is being read.
pub struct Reading {
    /// What the store says about the whole object.
    pub stat: Stat,
    /// How many bytes the range has.
    pub len: u64,
    /// Its bytes: exactly `len` of them, or an error at the end.
    pub bytes: ByteStream,
}

impl Bucket {
    /// Reads a whole object of at most `max` bytes into memory.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is larger, before any of it is read; else as [`Bucket::read`].
    pub async fn read_max(&self, key: &str, max: u64) -> Result<Bytes> {
        let reading = self.read_stream(key, ByteRange::ALL).await?;
        if reading.len > max {
            let cause = format!("it has {} bytes, and no more than {max} are expected", reading.len);
            return Err(self.error(Fault::lasting(Kind::Damaged, cause), Action::Read, key));
        }
        // Room for what the store says, as the limit above allows it.
        let room = BytesMut::with_capacity(reading.len as usize);
        let whole = reading.bytes.try_fold(room, |mut whole, bytes| async move {
            whole.extend_from_slice(&bytes);
            Ok(whole)
        });
        Ok(whole.await?.freeze())
    }

    /// Opens an object for reading, or a range of its bytes.
    ///
    /// When the body breaks off, is too short, or falls silent, reading goes on behind the last byte that came, within the
    /// budget of retries; if the object has changed by then, the read fails. A range beyond the end is cut to the object.
    ///
    /// # Errors
    /// [`Kind::NotFound`] and all that a store can say; the stream ends with [`Kind::Unavailable`] or [`Kind::Damaged`].
    pub async fn read_stream(&self, key: &str, range: impl Into<ByteRange>) -> Result<Reading> {
        let range = range.into();
        let full = self.key(key, Action::Read)?;
        let opened = self.attempts(Action::Read, key, || self.shared.body.read(&full, range)).await?;
        let span = range.within(opened.stat.len);
        let stat = opened.stat.clone();
        let resume = Resume {
            bucket: self.clone(),
            key: full,
            shown: key.to_owned(),
            first: stat.clone(),
            next: span.start,
            end: span.end,
            body: Some(opened),
            budget: Budget::new(self.shared.retry),
        };
        let bytes = futures::stream::try_unfold(resume, Resume::step).boxed();
        Ok(Reading { stat, len: span.end - span.start, bytes })
    }
}

/// A read that goes on where it broke off.
struct Resume {
    bucket: Bucket,
    key: Key,
    shown: String,
    first: Stat,
    next: u64,
    end: u64,
    body: Option<Opened>,
    budget: Budget,
}

impl Resume {
    /// The next bytes, and how to go on; `None` when all came.
    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            if self.next == self.end {
                return Ok(None);
            }
            match self.attempt().await {
                Ok(bytes) => {
                    self.next += bytes.len() as u64;
                    self.budget.refill();
                    if let Some(meter) = &self.bucket.shared.meter {
                        meter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    }
                    if let Some(pace) = &self.bucket.shared.pace {
                        pace.pass(bytes.len()).await;
                    }
                    return Ok(Some((bytes, self)));
                }
                Err(fault) => {
                    self.body = None;
                    let again = self.budget.again(fault).await;
                    again.map_err(|fault| self.bucket.error(fault, Action::Read, &self.shown))?;
                }
            }
        }
    }

    async fn attempt(&mut self) -> std::result::Result<Bytes, Fault> {
        let silence = self.bucket.shared.timeout;
        if self.body.is_none() {
            let rest = ByteRange::from(self.next..self.end);
            let opened = within(silence, self.bucket.shared.body.read(&self.key, rest)).await?;
            if opened.stat.len != self.first.len || opened.stat.etag != self.first.etag {
                return Err(Fault::lasting(Kind::Damaged, "it was replaced by another content while it was read"));
            }
            self.body = Some(opened);
        }
        let Some(opened) = &mut self.body else { return Err(Fault::passing("not open")) };
        let left = self.end - self.next;
        match within(silence, async { opened.bytes.next().await.transpose() }).await? {
            None => Err(Fault::passing(format!("the body ended {left} bytes too early"))),
            Some(bytes) if bytes.is_empty() => Err(Fault::passing("the body has an empty piece")),
            Some(bytes) if bytes.len() as u64 > left => {
                Err(Fault::lasting(Kind::Damaged, "the body is longer than the store said"))
            }
            Some(bytes) => Ok(bytes),
        }
    }
}
