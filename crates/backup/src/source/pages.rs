//! The key space as it was at one revision, page by page.

use eyrie_api::client::{CallError, Repeat};
use eyrie_api::mvccpb::KeyValue;
use eyrie_api::pb::kv_client::KvClient;
use eyrie_api::pb::{RangeRequest, RangeResponse};
use eyrie_state::{LeaseId, Revision};

use super::{Source, SourceError, soon};
use crate::history::Event;
use crate::limits::{MESSAGE_LEN_MAX, PAGE_KEYS};

impl Source {
    /// Visits every live key at `revision`, in key order. `false`: that revision is compacted, and nothing can be said.
    ///
    /// # Errors
    /// The source does not answer, or refuses.
    pub async fn keys_at(&self, revision: Revision, mut visit: impl FnMut(Event)) -> Result<bool, SourceError> {
        self.pairs_at(revision, |kv| {
            visit(Event::Put {
                key: kv.key,
                value: kv.value,
                create_revision: Revision(kv.create_revision),
                version: kv.version,
                lease: LeaseId(kv.lease),
            });
        })
        .await
    }

    /// The same, with all that the source tells of each key.
    ///
    /// # Errors
    /// The source does not answer, or refuses.
    pub async fn pairs_at(&self, revision: Revision, mut visit: impl FnMut(KeyValue)) -> Result<bool, SourceError> {
        let mut from = vec![0];
        loop {
            let page = match self.page(revision, from, PAGE_KEYS).await {
                Ok(page) => page,
                Err(error) if error.message().contains("revision has been compacted") => return Ok(false),
                Err(error) => return Err(self.failed("read the keys", &error)),
            };
            from = page.kvs.last().map(|kv| kv.key.to_vec()).unwrap_or_default();
            from.push(0);
            page.kvs.into_iter().for_each(&mut visit);
            if !page.more {
                return Ok(true);
            }
        }
    }

    /// Reads something of the newest state, as every client may: whether the store serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn read_any(&self) -> Result<(), SourceError> {
        let read = self.page(Revision(0), vec![0], 1).await;
        read.map(drop).map_err(|error| self.failed("read a key", &error))
    }

    async fn page(&self, revision: Revision, from: Vec<u8>, limit: i64) -> Result<RangeResponse, CallError> {
        let request = RangeRequest {
            key: from.into(),
            range_end: vec![0].into(),
            limit,
            revision: revision.0,
            ..RangeRequest::default()
        };
        self.client
            .call(soon(), Repeat::Read, request, |channel, request| async move {
                KvClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX).range(request).await
            })
            .await
    }
}
