//! The three things that a run talks to.

use super::config::Settings;
use super::failure::Result;
use super::milvus::Milvus;
use super::store::Store;
use crate::bucket::{Bucket, Pace};

/// Milvus, its storage, and the place of the backups.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Milvus itself.
    pub milvus: Milvus,
    /// Milvus's objects, from its root on.
    pub storage: Bucket,
    /// The backups.
    pub store: Store,
}

impl Doors {
    /// Opens all three.
    ///
    /// # Errors
    /// Milvus can't be reached, or a setting can't be right.
    pub async fn open(settings: &Settings) -> Result<Doors> {
        let (store, storage) = (Store::open(settings)?, settings.storage.open()?);
        // One limit for both: most often they are one store.
        let requests = settings.requests_per_sec.map(Pace::new);
        let storage = storage.with_requests(requests.clone());
        let store = store.limited(settings.bytes_per_sec.map(Pace::new), requests);
        Ok(Doors { milvus: Milvus::connect(&settings.milvus).await?, storage, store })
    }
}
