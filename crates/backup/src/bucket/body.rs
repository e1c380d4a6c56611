//! What a store must be able to do: one attempt at a time, no retries, no policy.
//!
//! A body tells passing failures from lasting ones ([`Fault`]); [`super::Bucket`] retries, checks and limits.

use std::time::SystemTime;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::error::Fault;
use super::key::Key;
use crate::limits::PART_BYTES;

/// What a store says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its length in bytes.
    pub len: u64,
    /// The store's mark of this content; equal marks are equal contents within one store.
    pub etag: Option<String>,
    /// When it was last written, by the store's clock.
    pub modified: Option<SystemTime>,
}

/// One name of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object(Entry),
    /// Something that is left alone: a link, a device, a name that means different things in different stores.
    Odd {
        /// Its name, as far as it can be printed.
        name: String,
        /// What is odd about it.
        why: String,
    },
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the bucket.
    pub key: String,
    /// What the listing says about it.
    pub stat: Stat,
}

/// Bytes `start..end` of an object; without an end, to its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// The byte after the last one.
    pub end: Option<u64>,
}

impl ByteRange {
    /// The whole object.
    pub const ALL: Self = Self { start: 0, end: None };

    /// The bytes of an object of length `len` that the range names: `start..end`.
    pub(crate) fn within(self, len: u64) -> std::ops::Range<u64> {
        let end = self.end.unwrap_or(len).min(len);
        self.start.min(end)..end
    }
}

impl From<std::ops::Range<u64>> for ByteRange {
    fn from(range: std::ops::Range<u64>) -> Self {
        Self { start: range.start, end: Some(range.end) }
    }
}

impl From<std::ops::RangeFull> for ByteRange {
    fn from(_: std::ops::RangeFull) -> Self {
        Self::ALL
    }
}

impl From<std::ops::RangeFrom<u64>> for ByteRange {
    fn from(range: std::ops::RangeFrom<u64>) -> Self {
        Self { start: range.start, end: None }
    }
}

/// An opened object: what is known of the whole, and the bytes of the range.
pub(crate) struct Opened {
    pub(crate) stat: Stat,
    pub(crate) bytes: BoxStream<'static, Result<Bytes, Fault>>,
}

/// Whether this store refuses a second write under a name that must be written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditional {
    /// It does, by its construction.
    Sure,
    /// It must be tried.
    Try,
}

/// An object of another body, for a copy that the store does by itself.
pub(crate) struct CopySource<'a> {
    pub(crate) body: &'a dyn Body,
    pub(crate) key: &'a Key,
    pub(crate) stat: &'a Stat,
}

/// What names a store, so that two bodies can tell whether one call can move an object between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreId {
    /// Only itself.
    Alone,
    /// A bucket behind an S3 endpoint, with the access key that is used.
    S3 { endpoint: String, bucket: String, access_key: String },
    /// A bucket or container of another store.
    Other { scheme: &'static str, endpoint: String, bucket: String },
}

/// A store. Names are whole: a bucket's prefix is already part of them.
pub(crate) trait Body: Send + Sync + 'static {
    /// Opens an object for reading. A missing one is [`super::Kind::NotFound`].
    fn read<'a>(&'a self, key: &'a Key, range: ByteRange) -> BoxFuture<'a, Result<Opened, Fault>>;
    /// Asks for an object.
    fn stat<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stat>, Fault>>;
    /// Writes a whole object: afterwards it is there wholly and durably, or not changed at all.
    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<(), Fault>>;
    /// Writes a whole object unless its name is taken; `false` means that it is.
    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<bool, Fault>>;
    /// Begins an object that comes in parts of `part` bytes.
    fn write<'a>(&'a self, key: &'a Key, part: usize) -> BoxFuture<'a, Result<Box<dyn Parts>, Fault>>;
    /// Lists what begins with `prefix`, which ends in `/` or is empty. Order is the store's.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<BoxStream<'static, Result<Listed, Fault>>, Fault>>;
    /// The folders right below `prefix`, which ends in `/` or is empty; `None`: this store can only list everything.
    fn folders<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, Fault>> {
        Box::pin(async { Ok(None) })
    }
    /// Deletes an object; one that is not there is a success.
    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), Fault>>;
    /// Copies within the store; `false` means that this store can't do it from there.
    fn copy<'a>(&'a self, from: CopySource<'a>, key: &'a Key) -> BoxFuture<'a, Result<bool, Fault>>;
    /// The least bytes of a part that is worth a call of its own.
    fn part_len(&self) -> usize {
        PART_BYTES
    }
    /// Whether [`Body::create`] can be trusted.
    fn conditional(&self) -> Conditional;
    /// Which store this is.
    fn store(&self) -> StoreId {
        StoreId::Alone
    }
}

/// An object being written in parts. Until [`Parts::finish`] succeeded, nothing of it is visible under its name.
pub(crate) trait Parts: Send {
    /// Adds a part.
    fn push(&mut self, part: Bytes) -> BoxFuture<'_, Result<(), Fault>>;
    /// Makes the object visible and durable.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), Fault>>;
    /// Takes back what was written.
    fn abort(&mut self) -> BoxFuture<'_, Result<(), Fault>>;
}
