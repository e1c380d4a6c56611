//! One process at a time: a word in a bucket, renewed while its owner lives.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::bucket::{Bucket, BucketError};
use crate::chance;
use crate::history::TimeMs;
use crate::limits::{META_LEN_MAX, WORKING_EVERY};

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
    writer: String,
}

impl Claim {
    /// Claims `key`, unless somebody who lives has it: then the answer is what `taken` makes of that writer.
    ///
    /// # Errors
    /// `taken`'s, or the store failed.
    pub(super) async fn take(bucket: &Bucket, key: &str, taken: impl Fn(&str) -> Failure) -> Result<Claim, Unclaimed> {
        if let Some(working) = Working::at(bucket, key).await?.filter(Working::lives) {
            return Err(Unclaimed::Taken(taken(&working.writer)));
        }
        let now = TimeMs::now().0;
        let working = Working { writer: chance::writer_id().as_str().to_owned(), began_ms: now, beat_ms: now };
        bucket.put(key, working.bytes()).await?;
        // Two that began at once both wrote; the one whose word stands goes on.
        match Working::at(bucket, key).await? {
            Some(found) if found.writer == working.writer => {}
            found => {
                let other = found.as_ref().map_or("another run", |found| &found.writer);
                return Err(Unclaimed::Taken(taken(other)));
            }
        }
        let writer = working.writer.clone();
        at_work().insert(writer.clone());
        let (bucket, key, mut beat) = (bucket.clone(), key.to_owned(), working);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(WORKING_EVERY).await;
                beat.beat_ms = TimeMs::now().0;
                // A beat that is lost is followed by the next; three of them must be lost before anybody takes over.
                let _ = bucket.put(&key, beat.bytes()).await;
            }
        });
        Ok(Claim { task, writer })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.task.abort();
        at_work().remove(&self.writer);
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
