//! A store in memory: for tests, and as the model of what the others must do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::body::{Body, ByteRange, Conditional, CopySource, Entry, Listed, Opened, Parts, Stat};
use super::error::{Fault, Kind};
use super::key::Key;
use crate::limits::FILE_READ_BYTES;

type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// All objects of a store, by name.
#[derive(Default, Clone)]
pub(crate) struct Memory {
    kept: std::sync::Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, (Stat, Bytes)>,
    writes: u64,
}

impl Kept {
    fn put(&mut self, key: &Key, bytes: Bytes) {
        self.writes += 1;
        let etag = Some(format!("\"memory-{}\"", self.writes));
        let stat = Stat { len: bytes.len() as u64, etag, modified: Some(SystemTime::now()) };
        self.objects.insert(key.as_str().to_owned(), (stat, bytes));
    }
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Memory {
    fn read<'a>(&'a self, key: &'a Key, range: ByteRange) -> Answer<'a, Opened> {
        let found = self.kept().objects.get(key.as_str()).cloned();
        async move {
            let (stat, bytes) = found.ok_or_else(|| Fault::lasting(Kind::NotFound, "there is no such object"))?;
            let span = range.within(stat.len);
            let mut rest = bytes.slice(span.start as usize..span.end as usize);
            let pieces = std::iter::from_fn(move || {
                (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(FILE_READ_BYTES))))
            });
            Ok(Opened { stat, bytes: futures::stream::iter(pieces).boxed() })
        }
        .boxed()
    }

    fn stat<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Stat>> {
        let stat = self.kept().objects.get(key.as_str()).map(|(stat, _)| stat.clone());
        async move { Ok(stat) }.boxed()
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, ()> {
        async move {
            self.kept().put(key, bytes);
            Ok(())
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> Answer<'a, bool> {
        async move {
            let mut kept = self.kept();
            if kept.objects.contains_key(key.as_str()) {
                return Ok(false);
            }
            kept.put(key, bytes);
            Ok(true)
        }
        .boxed()
    }

    fn write<'a>(&'a self, key: &'a Key, _part: usize) -> Answer<'a, Box<dyn Parts>> {
        let parts: Box<dyn Parts> =
            Box::new(MemoryParts { memory: self.clone(), key: key.clone(), gathered: Vec::new() });
        async move { Ok(parts) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, BoxStream<'static, Result<Listed, Fault>>> {
        let kept = self.kept();
        let below = kept.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let listed: Vec<_> =
            below.map(|(key, (stat, _))| Ok(Listed::Object(Entry { key: key.clone(), stat: stat.clone() }))).collect();
        async move { Ok(futures::stream::iter(listed).boxed()) }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        async move {
            self.kept().objects.remove(key.as_str());
            Ok(())
        }
        .boxed()
    }

    fn copy<'a>(&'a self, _from: CopySource<'a>, _key: &'a Key) -> Answer<'a, bool> {
        async move { Ok(false) }.boxed()
    }

    fn conditional(&self) -> Conditional {
        Conditional::Sure
    }
}

struct MemoryParts {
    memory: Memory,
    key: Key,
    gathered: Vec<u8>,
}

impl Parts for MemoryParts {
    fn push(&mut self, part: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            self.gathered.extend_from_slice(&part);
            Ok(())
        }
        .boxed()
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let whole = std::mem::take(&mut self.gathered);
            self.memory.kept().put(&self.key, whole.into());
            Ok(())
        }
        .boxed()
    }

    fn abort(&mut self) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            self.gathered.clear();
            Ok(())
        }
        .boxed()
    }
}
