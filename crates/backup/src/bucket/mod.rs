//! Buckets: one way to read and write objects, wherever they are.
//!
//! ```text
//!   Bucket      names checked, retries with a budget, resumed reads, lengths and hashes, rate limit
//!     └ Body    one attempt at a time: file · S3, GCS, Azure · memory · faults (tests)
//! ```
//!
//! The promises, for every store:
//! - an object is visible wholly or not at all, and durable when a write returns;
//! - [`Bucket::create`] writes a name once: of two writers one gets [`Created::Conflict`], even if answers get lost;
//! - a read yields exactly the bytes that were asked for, or an error, never a shorter body as if it were whole;
//! - a listing is a hint: it may be old. Nothing here takes it for the truth.

mod body;
mod config;
#[cfg(test)]
mod conformance;
mod copy;
mod error;
pub mod faults;
mod file;
mod key;
mod memory;
mod pace;
mod read;
mod remote;
mod retry;
#[cfg(test)]
mod s3_tests;
mod s3copy;
mod secret;
mod url;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

pub use self::body::{ByteRange, Entry, Listed, Stat};
pub use self::config::{BucketConfig, StaticKeys};
pub use self::copy::{Copied, CopyCheck};
pub use self::error::{Action, BucketError, Kind};
pub use self::key::Key;
pub use self::pace::Pace;
pub use self::read::Reading;
pub use self::retry::RetryConfig;
pub use self::secret::{Secret, SecretSource};
pub use self::url::BucketUrl;
pub use self::write::{Created, Written};

use self::body::{Body, StoreId};
use self::error::Fault;
use self::memory::Memory;
use self::retry::{Budget, within};
use crate::limits;

/// What this module returns.
pub type Result<T> = std::result::Result<T, BucketError>;

/// The bytes of an object, as they come.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A SHA-256.
pub type Sha256 = [u8; 32];

/// A bucket, or what lies below a prefix in one. Clones share connections and the rate limit.
#[derive(Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
    /// Empty, or ends in `/`.
    prefix: String,
}

struct Shared {
    body: Arc<dyn Body>,
    /// The address without prefix and secrets, for messages.
    place: String,
    retry: RetryConfig,
    timeout: Duration,
    parallel: usize,
    pace: Option<Pace>,
    /// Lets calls pass, one by one.
    requests: Option<Pace>,
    /// Counts the bytes that are read.
    meter: Option<Arc<AtomicU64>>,
    /// Whether the store was seen to refuse a second write under one name.
    conditional: OnceCell<()>,
}

impl Bucket {
    /// Opens a bucket. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`Kind::Config`] if the settings can't be right or a secret is missing.
    pub fn open(config: &BucketConfig) -> Result<Self> {
        config.open()
    }

    /// Opens the bucket at an address, with what the environment says about it.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn at(url: &str) -> Result<Self> {
        let fault = |why: String| {
            Fault::lasting(Kind::Config, why).at(url.split('@').next_back().unwrap_or(url), Action::Open, "")
        };
        Self::open(&BucketConfig::new(BucketUrl::parse(url).map_err(fault)?))
    }

    /// A new, empty bucket in memory.
    pub fn memory() -> Self {
        Self::over(Arc::new(Memory::default()), "memory:".into(), &BucketConfig::default())
    }

    /// A bucket over any body.
    fn over(body: Arc<dyn Body>, place: String, config: &BucketConfig) -> Self {
        let pace = config.bytes_per_sec.map(Pace::new);
        let timeout = Duration::from_secs(config.timeout_secs.max(1));
        let parallel = config.parallel.clamp(1, limits::PARALLEL_MAX);
        let shared = Shared {
            body,
            place,
            retry: config.retry,
            timeout,
            parallel,
            pace,
            requests: config.requests_per_sec.map(Pace::new),
            meter: None,
            conditional: OnceCell::new(),
        };
        Self { shared: Arc::new(shared), prefix: String::new() }
    }

    /// What lies below `prefix` in this bucket, as a bucket of its own.
    ///
    /// # Errors
    /// [`Kind::Config`] if the prefix is an odd name.
    pub fn below(&self, prefix: &str) -> Result<Self> {
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Ok(self.clone());
        }
        if let Some(why) = key::oddity(prefix) {
            return Err(self.error(Fault::lasting(Kind::Config, why), Action::Open, prefix));
        }
        Ok(Self { shared: self.shared.clone(), prefix: format!("{}{prefix}/", self.prefix) })
    }

    /// The same bucket with another limit on bytes per second, counted for itself.
    #[must_use]
    pub fn with_pace(&self, pace: Option<Pace>) -> Self {
        self.changed(|shared| shared.pace = pace)
    }

    /// The same bucket with another limit on calls per second, shared by all that are given a clone of it.
    #[must_use]
    pub fn with_requests(&self, requests: Option<Pace>) -> Self {
        self.changed(|shared| shared.requests = requests.or(shared.requests.take()))
    }

    /// The same bucket; what is read through it is counted, in bytes.
    #[must_use]
    pub fn with_meter(&self, meter: Arc<AtomicU64>) -> Self {
        self.changed(|shared| shared.meter = Some(meter))
    }

    /// The same bucket over another body.
    fn with_body(&self, body: Arc<dyn Body>) -> Self {
        self.changed(|shared| {
            shared.body = body;
            shared.conditional = OnceCell::new();
        })
    }

    fn changed(&self, change: impl FnOnce(&mut Shared)) -> Self {
        let s = &self.shared;
        let mut shared = Shared {
            body: s.body.clone(),
            place: s.place.clone(),
            retry: s.retry,
            timeout: s.timeout,
            parallel: s.parallel,
            pace: s.pace.clone(),
            requests: s.requests.clone(),
            meter: s.meter.clone(),
            conditional: s.conditional.clone(),
        };
        change(&mut shared);
        Self { shared: Arc::new(shared), prefix: self.prefix.clone() }
    }

    /// How long one attempt that sends so many bytes may take: slow lines must get through.
    fn patience(&self, bytes: usize) -> Duration {
        self.shared.timeout + Duration::from_secs(bytes as u64 / limits::SLOWEST_BYTES_PER_SEC)
    }

    /// How many calls at once this bucket should get.
    pub fn parallel(&self) -> usize {
        self.shared.parallel
    }

    /// Reads a whole object of at most [`limits::READ_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`Kind::NotFound`], [`Kind::Damaged`] when it is larger, and all that a store can say.
    pub async fn read(&self, key: &str) -> Result<Bytes> {
        self.read_max(key, limits::READ_BYTES_MAX).await
    }

    /// Asks for an object; `None` when it is not there.
    ///
    /// # Errors
    /// All that a store can say, except [`Kind::NotFound`].
    pub async fn stat(&self, key: &str) -> Result<Option<Stat>> {
        let full = self.key(key, Action::Stat)?;
        self.attempts(Action::Stat, key, || self.shared.body.stat(&full)).await
    }

    /// Deletes an object; one that is not there is a success.
    ///
    /// # Errors
    /// [`Kind::Locked`] when a lock or hold forbids it, and all that a store can say.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let full = self.key(key, Action::Delete)?;
        self.attempts(Action::Delete, key, || self.shared.body.delete(&full)).await
    }

    /// Lists the objects whose names begin with `prefix`; odd names are left out.
    ///
    /// The order is the store's. A listing can be old or, when it ends with an error, incomplete.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Entry>> {
        self.list_all(prefix)
            .try_filter_map(async |listed| match listed {
                Listed::Object(entry) => Ok(Some(entry)),
                Listed::Odd { .. } => Ok(None),
            })
            .boxed()
    }

    /// The names of the folders right below this bucket's own prefix, sorted. Of a store that can't ask for folders alone,
    /// everything is listed.
    ///
    /// # Errors
    /// All that a store can say.
    pub async fn folders(&self) -> Result<Vec<String>> {
        let asked = || self.shared.body.folders(&self.prefix);
        let folders: std::collections::BTreeSet<String> = match self.attempts(Action::List, "", asked).await? {
            Some(folders) => folders.into_iter().filter(|name| key::oddity(name).is_none()).collect(),
            None => {
                let mut folders = std::collections::BTreeSet::new();
                let mut listed = self.list("");
                while let Some(entry) = listed.try_next().await? {
                    folders.extend(entry.key.split_once('/').map(|(folder, _)| folder.to_owned()));
                }
                folders
            }
        };
        Ok(folders.into_iter().collect())
    }

    /// Lists as [`Bucket::list`] does, and names what is left alone: links, devices, names that can't be kept elsewhere.
    pub fn list_all(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        let bucket = self.clone();
        let wanted = format!("{}{prefix}", self.prefix);
        // Stores list folders best: ask for the folder and filter.
        let folder = wanted.rfind('/').map_or(String::new(), |slash| wanted[..=slash].to_owned());
        let asked = prefix.to_owned();
        let stream = async move {
            if let Some(why) = folder.strip_suffix('/').and_then(key::oddity) {
                return Err(bucket.error(Fault::lasting(Kind::Config, why), Action::List, &asked));
            }
            let body = bucket.shared.body.clone();
            let listing = bucket.attempts(Action::List, &asked, || body.list(&folder)).await?;
            let silence = bucket.shared.timeout;
            let listing = futures::stream::try_unfold(listing, move |mut listing| async move {
                let next = within(silence, async { listing.next().await.transpose() }).await?;
                Ok::<_, Fault>(next.map(|item| (item, listing)))
            });
            Ok(listing.map(move |item| match item {
                Ok(listed) => Ok(bucket.relative(listed, &wanted)),
                Err(fault) => Err(bucket.error(fault, Action::List, &asked)),
            }))
        };
        futures::stream::once(stream).try_flatten().try_filter_map(async |listed| Ok(listed)).boxed()
    }

    /// A listed name as this bucket's callers see it; nothing for what is not asked for or this program's own.
    fn relative(&self, listed: Listed, wanted: &str) -> Option<Listed> {
        let (name, stat, why) = match listed {
            Listed::Object(Entry { key, stat }) => (key, Some(stat), String::new()),
            Listed::Odd { name, why } => (name, None, why),
        };
        if !name.starts_with(wanted) {
            return None;
        }
        let name = name[self.prefix.len()..].to_owned();
        if name.split('/').any(|part| part.starts_with(key::OWN_PREFIX)) {
            return None;
        }
        Some(match (stat, key::oddity(&name)) {
            (Some(stat), None) => Listed::Object(Entry { key: name, stat }),
            (Some(_), Some(odd)) => Listed::Odd { name, why: odd.into() },
            (None, _) => Listed::Odd { name, why },
        })
    }

    /// Tries until it succeeds, fails for good, or the budget is spent.
    async fn attempts<'a, T>(
        &self,
        action: Action,
        key: &str,
        attempt: impl Fn() -> futures::future::BoxFuture<'a, std::result::Result<T, Fault>>,
    ) -> Result<T> {
        self.attempts_within(self.shared.timeout, action, key, attempt).await
    }

    /// The same, with another time for each attempt.
    async fn attempts_within<'a, T>(
        &self,
        limit: Duration,
        action: Action,
        key: &str,
        attempt: impl Fn() -> futures::future::BoxFuture<'a, std::result::Result<T, Fault>>,
    ) -> Result<T> {
        let mut budget = Budget::new(self.shared.retry);
        loop {
            if let Some(requests) = &self.shared.requests {
                requests.pass(1).await;
            }
            match within(limit, attempt()).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => budget.again(fault).await.map_err(|fault| self.error(fault, action, key))?,
            }
        }
    }

    /// The whole name of an object in the store.
    fn key(&self, key: &str, action: Action) -> Result<Key> {
        // Checked alone first, so that a prefix can't hide a `..` and the message names what the caller gave.
        Key::parse(key)
            .and_then(|_| Key::parse(&format!("{}{key}", self.prefix)))
            .map_err(|why| self.error(Fault::lasting(Kind::Config, why), action, key))
    }

    /// The server that the bucket is on; empty for a folder.
    pub fn server(&self) -> String {
        match self.shared.body.store() {
            StoreId::Alone => String::new(),
            StoreId::S3 { endpoint, .. } | StoreId::Other { endpoint, .. } => endpoint,
        }
    }

    fn error(&self, fault: Fault, action: Action, key: &str) -> BucketError {
        fault.at(&self.to_string(), action, key)
    }
}

/// The address, without secrets.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, prefix) = (&self.shared.place, self.prefix.trim_end_matches('/'));
        match (prefix.is_empty(), place.ends_with('/') || place.ends_with(':')) {
            (true, _) => f.write_str(place),
            (false, true) => write!(f, "{place}{prefix}"),
            (false, false) => write!(f, "{place}/{prefix}"),
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({self})")
    }
}

#[cfg(test)]
mod tests;
