//! What `lock` and `elect` share: a place in a queue of keys under a prefix, ordered by creation.
//!
//! The key is bound to a session's lease, so that a dead waiter leaves the queue by itself.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use eyrie_api::client::{CallError, Client, Deadline, Repeat};
use eyrie_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use eyrie_api::etcdserverpb::kv_client::KvClient;
use eyrie_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use eyrie_api::etcdserverpb::request_op::Request;
use eyrie_api::etcdserverpb::response_op::Response;
use eyrie_api::etcdserverpb::watch_client::WatchClient;
use eyrie_api::etcdserverpb::watch_request::RequestUnion;
use eyrie_api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use eyrie_api::mvccpb::KeyValue;

use super::kv::REPLY_BYTES_MAX;
use super::range::prefix_end;

/// A place in the queue.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Our key.
    pub(crate) key: Bytes,
    /// All keys of the queue begin so.
    pub(crate) prefix: Bytes,
    /// When our key was created: the order of the queue.
    pub(crate) revision: i64,
}

/// Takes a place: creates the key, or finds the one this session has already.
///
/// # Errors
/// The transaction failed.
pub(crate) async fn take_place(client: &Client, name: &[u8], value: &[u8], lease: i64) -> Result<Place, CallError> {
    let prefix = [name, b"/"].concat();
    let key = Bytes::from([prefix.as_slice(), format!("{lease:x}").as_bytes()].concat());
    let put = PutRequest { key: key.clone(), value: Bytes::copy_from_slice(value), lease, ..PutRequest::default() };
    let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let request = TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(get)) }],
    };
    let reply = txn(client, request).await?;
    let mut revision = reply.header.map(|header| header.revision).unwrap_or_default();
    if !reply.succeeded
        && let Some(Response::ResponseRange(range)) = reply.responses.into_iter().next().and_then(|one| one.response)
    {
        revision = range.kvs.first().map(|kv| kv.create_revision).unwrap_or(revision);
    }
    Ok(Place { key, prefix: prefix.into(), revision })
}

/// Returns when all keys of the queue that are older than `place` are gone.
///
/// # Errors
/// A read or a watch failed.
pub(crate) async fn wait_turn(client: &Client, place: &Place) -> Result<(), CallError> {
    loop {
        let request = RangeRequest {
            key: place.prefix.clone(),
            range_end: prefix_end(&place.prefix),
            limit: 1,
            sort_order: SortOrder::Descend as i32,
            sort_target: SortTarget::Create as i32,
            max_create_revision: place.revision - 1,
            ..RangeRequest::default()
        };
        let reply = range(client, request).await?;
        let Some(older) = reply.kvs.first() else { return Ok(()) };
        let revision = reply.header.as_ref().map(|header| header.revision).unwrap_or_default();
        wait_deleted(client, &older.key, revision).await?;
    }
}

/// Returns when a key is deleted after `revision`.
async fn wait_deleted(client: &Client, key: &Bytes, revision: i64) -> Result<(), CallError> {
    let create = WatchCreateRequest { key: key.clone(), start_revision: revision, ..WatchCreateRequest::default() };
    let mut watch = Follow::begin(client, create).await?;
    while let Some(response) = watch.next().await? {
        if response.events.iter().any(|event| event.r#type() == eyrie_api::mvccpb::event::EventType::Delete) {
            return Ok(());
        }
    }
    Ok(())
}

/// The oldest key of the queue.
///
/// # Errors
/// The read failed.
pub(crate) async fn oldest(client: &Client, prefix: &[u8]) -> Result<RangeResponse, CallError> {
    let request = RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..RangeRequest::default()
    };
    range(client, request).await
}

/// Reads one key.
///
/// # Errors
/// The read failed.
pub(crate) async fn read(client: &Client, key: &Bytes) -> Result<RangeResponse, CallError> {
    range(client, RangeRequest { key: key.clone(), ..RangeRequest::default() }).await
}

/// Leaves the queue.
///
/// # Errors
/// The delete failed.
pub(crate) async fn leave(client: &Client, place: &Place, deadline: Deadline) -> Result<(), CallError> {
    let request = DeleteRangeRequest { key: place.key.clone(), ..DeleteRangeRequest::default() };
    client
        .call(deadline, Repeat::Write, request, |channel, request| async move {
            KvClient::new(channel).delete_range(request).await
        })
        .await
        .map(drop)
}

async fn range(client: &Client, request: RangeRequest) -> Result<RangeResponse, CallError> {
    client
        .call(None, Repeat::Read, request, |channel, request| async move {
            KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).range(request).await
        })
        .await
}

/// Sends a transaction.
///
/// # Errors
/// The call failed.
pub(crate) async fn txn(client: &Client, request: TxnRequest) -> Result<TxnResponse, CallError> {
    client
        .call(None, Repeat::Write, request, |channel, request| async move {
            KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).txn(request).await
        })
        .await
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// One watch on a stream of its own that goes on over a new connection when the old one breaks.
pub(crate) struct Follow<'a> {
    client: &'a Client,
    create: WatchCreateRequest,
    open: Option<(mpsc::Sender<WatchRequest>, tonic::Streaming<WatchResponse>)>,
}

impl<'a> Follow<'a> {
    /// Begins to watch.
    ///
    /// # Errors
    /// The server refused.
    pub(crate) async fn begin(client: &'a Client, create: WatchCreateRequest) -> Result<Follow<'a>, CallError> {
        let mut follow = Follow { client, create, open: None };
        follow.reopen().await?;
        Ok(follow)
    }

    async fn reopen(&mut self) -> Result<(), CallError> {
        let (sender, receiver) = mpsc::channel(1);
        let union = RequestUnion::CreateRequest(self.create.clone());
        // The queue holds one and is empty: this cannot fail.
        let _ = sender.try_send(WatchRequest { request_union: Some(union) });
        let channel = self.client.channel(None).await?;
        let request = self.client.request_with_leader(ReceiverStream::new(receiver));
        let reply = WatchClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).watch(request).await;
        let stream = reply.map_err(CallError::from)?.into_inner();
        self.open = Some((sender, stream));
        Ok(())
    }

    /// The next response with events; `None` when the server cancelled the watch for compaction.
    ///
    /// # Errors
    /// The server refused for good.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchResponse>, CallError> {
        loop {
            let received = match &mut self.open {
                Some((_, stream)) => stream.message().await,
                None => Ok(None),
            };
            match received {
                Ok(Some(response)) if response.canceled => {
                    if response.compact_revision != 0 {
                        return Ok(None);
                    }
                    return Err(CallError::Local(response.cancel_reason));
                }
                Ok(Some(response)) => {
                    if let Some(kv) = response.events.last().and_then(|event| event.kv.as_ref()) {
                        self.create.start_revision = kv.mod_revision + 1;
                        return Ok(Some(response));
                    }
                }
                Ok(None) | Err(_) => {
                    self.client.forget().await;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    match self.reopen().await {
                        Err(error) if error.code() != Some(tonic::Code::Unavailable) => return Err(error),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// A key alone, shaped like a read of it.
pub(crate) fn as_range(header: Option<eyrie_api::etcdserverpb::ResponseHeader>, kv: KeyValue) -> RangeResponse {
    RangeResponse { header, kvs: vec![kv], more: false, count: 0 }
}
