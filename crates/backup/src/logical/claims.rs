//! One process at a time: a word in a bucket, renewed while its owner lives.
//!
//! ```text
//! <key>.json                nobody's: who creates it has it; its owner renews it
//! <key>-after-<hash>.json   the word of this hash is of somebody who is gone: who creates this one takes it over
//! ```
//!
//! Both are conditional writes, so of many that begin at one moment one goes on. A store that ignores the condition lets
//! everybody write; then the one goes on whose word stands, which two that meet exactly may both believe.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::create::hex;
use super::failure::Failure;
use crate::bucket::{Bucket, BucketError, Created, Kind as StoreKind};
use crate::chance;
use crate::history::TimeMs;
use crate::limits::{META_LEN_MAX, WORKING_DEAD_MAX, WORKING_EVERY};

/// Who is at work, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Working {
    pub(super) writer: String,
    began_ms: u64,
    beat_ms: u64,
}

/// Why there is no claim.
pub(super) enum Unclaimed {
    /// Somebody else has it.
    Taken(Failure),
    /// The store failed.
    Store(BucketError),
}

impl From<BucketError> for Unclaimed {
    fn from(error: BucketError) -> Self {
        Unclaimed::Store(error)
    }
}

impl From<Unclaimed> for Failure {
    fn from(why: Unclaimed) -> Failure {
        match why {
            Unclaimed::Taken(failure) => failure,
            Unclaimed::Store(error) => error.into(),
        }
    }
}

/// The right to be the only one; it is renewed until dropped.
pub(super) struct Claim {
    task: tokio::task::JoinHandle<()>,
    bucket: Bucket,
    key: String,
    /// Whether somebody had it before, who is gone.
    took_over: bool,
    _writer: AtWork,
}

impl Claim {
    /// Claims `key`, unless somebody who lives has it: then the answer is what `taken` makes of that writer.
    ///
    /// # Errors
    /// `taken`'s, or the store failed.
    pub(super) async fn take(bucket: &Bucket, key: &str, taken: impl Fn(&str) -> Failure) -> Result<Claim, Unclaimed> {
        let now = TimeMs::now().0;
        let working = Working { writer: chance::writer_id().as_str().to_owned(), began_ms: now, beat_ms: now };
        // Before anybody can read the word: a run of this process that is not known to be at work counts as ended.
        let writer = AtWork::begin(&working.writer);
        // A store that ignores conditions must not have a living word overwritten.
        if let Some(there) = Working::at(bucket, key).await?.filter(Working::lives) {
            return Err(Unclaimed::Taken(taken(&there.writer)));
        }
        let took_over = Claim::fence(bucket, key, &working, &taken).await?;
        if took_over {
            bucket.put(key, working.bytes()).await?;
        }
        match Working::at(bucket, key).await? {
            Some(found) if found.writer == working.writer => {}
            found => {
                let other = found.as_ref().map_or("another run", |found| &found.writer);
                return Err(Unclaimed::Taken(taken(other)));
            }
        }
        let task = tokio::spawn(beats(bucket.clone(), key.to_owned(), working));
        Ok(Claim { task, bucket: bucket.clone(), key: key.to_owned(), took_over, _writer: writer })
    }

    /// Writes what only one can write; whether the word of somebody who is gone stands at `key` still.
    async fn fence(
        bucket: &Bucket,
        key: &str,
        working: &Working,
        taken: &impl Fn(&str) -> Failure,
    ) -> Result<bool, Unclaimed> {
        let mut place = key.to_owned();
        for _ in 0..WORKING_DEAD_MAX {
            match bucket.create_unproven(&place, working.bytes()).await {
                Ok(Created::New | Created::Same) => return Ok(place != key),
                Ok(Created::Conflict) => {}
                // A store that knows no conditions.
                Err(error) if error.kind == StoreKind::Config => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            place = match bucket.read_max(&place, META_LEN_MAX).await {
                Ok(there) => match serde_json::from_slice::<Working>(&there) {
                    Ok(found) if found.lives() => return Err(Unclaimed::Taken(taken(&found.writer))),
                    // What can't be read is nobody's.
                    _ => after(key, &there),
                },
                // Given back at this very moment.
                Err(error) if error.is_not_found() => key.to_owned(),
                Err(error) => return Err(error.into()),
            };
        }
        Err(Unclaimed::Taken(taken("one of many runs that ended before their time")))
    }

    /// Gives the right back, and leaves nothing behind.
    ///
    /// # Errors
    /// The store failed; what is left then is a word of somebody who does not live.
    pub(super) async fn give_back(self) -> Result<(), BucketError> {
        self.task.abort();
        if self.took_over {
            let all: Vec<_> = self.bucket.list(&after_prefix(&self.key)).try_collect().await?;
            for entry in all {
                self.bucket.delete(&entry.key).await?;
            }
        }
        // At last: what says that somebody was here goes after what says who followed him.
        self.bucket.delete(&self.key).await
    }
}

/// Where whoever follows a word writes his own.
fn after(key: &str, word: &[u8]) -> String {
    format!("{}{}.json", after_prefix(key), hex(&sha2::Sha256::digest(word)[..8]))
}

fn after_prefix(key: &str) -> String {
    format!("{}-after-", key.trim_end_matches(".json"))
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Renews a word for ever.
async fn beats(bucket: Bucket, key: String, mut working: Working) {
    loop {
        tokio::time::sleep(WORKING_EVERY).await;
        working.beat_ms = TimeMs::now().0;
        // A beat that is lost is followed by the next; three of them must be lost before anybody takes over.
        let _ = bucket.put(&key, working.bytes()).await;
    }
}

/// A run of this process, until it is dropped.
struct AtWork(String);

impl AtWork {
    fn begin(writer: &str) -> AtWork {
        at_work().insert(writer.to_owned());
        AtWork(writer.to_owned())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        at_work().remove(&self.0);
    }
}

/// The runs of this very process.
fn at_work() -> MutexGuard<'static, BTreeSet<String>> {
    static AT_WORK: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Working {
    /// The word under a key; what can't be read counts as none.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn at(bucket: &Bucket, key: &str) -> Result<Option<Working>, BucketError> {
        match bucket.read_max(key, META_LEN_MAX).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether that run may still be at work.
    pub(super) fn lives(&self) -> bool {
        if let Some((host, pid)) = host_and_pid(&self.writer)
            && host == chance::host()
        {
            return match pid == std::process::id() {
                true => at_work().contains(&self.writer),
                false => std::path::Path::new(&format!("/proc/{pid}")).exists(),
            };
        }
        let silent = TimeMs::now().0.saturating_sub(self.beat_ms);
        u128::from(silent) < (WORKING_EVERY * 3).as_millis()
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn host_and_pid(writer: &str) -> Option<(&str, u32)> {
    let mut parts = writer.split(':');
    let (host, pid, _) = (parts.next()?, parts.next()?, parts.next()?);
    Some((host, pid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::faults::Faults;
    use crate::logical::failure::Kind;

    const KEY: &str = "one/eyrie/working.json";

    async fn take(bucket: &Bucket) -> Result<Claim, Unclaimed> {
        Claim::take(bucket, KEY, |writer| Failure::new(Kind::Exists, writer, "wait")).await
    }

    async fn names(bucket: &Bucket) -> Vec<String> {
        let all: Vec<_> = bucket.list("").try_collect().await.unwrap();
        all.into_iter().map(|entry| entry.key).collect()
    }

    /// Of many that begin at one moment one goes on, also where somebody left a word and is gone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_one_goes_on() {
        let dead = Working { writer: "nowhere:1:a".into(), began_ms: 1, beat_ms: 1 };
        for left in [None, Some(dead.bytes()), Some(b"no word at all".to_vec())] {
            for _ in 0..50 {
                let bucket = Bucket::memory();
                if let Some(left) = &left {
                    bucket.put(KEY, left.clone()).await.unwrap();
                }
                let all = (0..8).map(|_| {
                    tokio::spawn({
                        let bucket = bucket.clone();
                        async move { take(&bucket).await }
                    })
                });
                let mut won = Vec::new();
                for one in all.collect::<Vec<_>>() {
                    match one.await.unwrap() {
                        Ok(claim) => won.push(claim),
                        Err(Unclaimed::Taken(_)) => {}
                        Err(Unclaimed::Store(error)) => panic!("{error}"),
                    }
                }
                assert_eq!(won.len(), 1, "left before: {left:?}");
                won.remove(0).give_back().await.unwrap();
                assert_eq!(names(&bucket).await, Vec::<String>::new());
            }
        }
    }

    /// A run ends at any call of its claim: the next one has it, and leaves nothing.
    #[tokio::test]
    async fn whoever_ends_while_claiming_is_followed() {
        for number in 1.. {
            let (bucket, faults) = Faults::over(&Bucket::memory());
            drop(take(&bucket).await.ok().unwrap());
            faults.restart_count();
            faults.kill_at(number);
            let second = take(&bucket).await;
            let killed = faults.is_dead();
            drop(second);
            faults.clear();
            take(&bucket).await.ok().expect("a claim").give_back().await.unwrap();
            assert_eq!(names(&bucket).await, Vec::<String>::new(), "call {number}");
            if !killed {
                assert!(number > 4, "only {number} calls");
                break;
            }
        }
    }
}
