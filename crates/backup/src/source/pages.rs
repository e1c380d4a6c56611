//! The key space as it was at one revision, page by page.

use eyrie_api::client::{CallError, Repeat};
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
        let mut from = vec![0];
        loop {
            let page = match self.page(revision, from).await {
                Ok(page) => page,
                Err(error) if error.message().contains("revision has been compacted") => return Ok(false),
                Err(error) => return Err(self.failed("read the keys", &error)),
            };
            from = page.kvs.last().map(|kv| kv.key.to_vec()).unwrap_or_default();
            from.push(0);
            for kv in page.kvs {
                visit(Event::Put {
                    key: kv.key,
                    value: kv.value,
                    create_revision: Revision(kv.create_revision),
                    version: kv.version,
                    lease: LeaseId(kv.lease),
                });
            }
            if !page.more {
                return Ok(true);
            }
        }
    }

    async fn page(&self, revision: Revision, from: Vec<u8>) -> Result<RangeResponse, CallError> {
        let request = RangeRequest {
            key: from.into(),
            range_end: vec![0].into(),
            limit: PAGE_KEYS,
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
