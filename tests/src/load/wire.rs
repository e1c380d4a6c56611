//! The few calls that the load needs, over gRPC.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use eyrie_api::mvccpb;
use eyrie_api::pb::{self, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::CALL_LIMIT;
use super::book::{Change, Event};

/// A connection to one server, made when first used.
#[derive(Clone)]
pub struct Wire {
    channel: Channel,
}

impl Wire {
    /// For the server at `host:port`. Must be called within a tokio runtime.
    pub fn new(endpoint: &str) -> Result<Wire> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?;
        Ok(Wire { channel: endpoint.connect_timeout(CALL_LIMIT).connect_lazy() })
    }

    pub(super) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(super) fn leases(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// Writes one key; the revision.
    pub async fn put(&self, key: &[u8], value: &[u8], lease: i64) -> Result<i64, Status> {
        let put =
            pb::PutRequest { key: key.to_vec().into(), value: value.to_vec().into(), lease, ..Default::default() };
        Ok(revision(limited(self.kv().put(put)).await?.header))
    }

    /// Writes and deletes keys in one transaction; the revision.
    pub async fn txn(&self, changes: &[Change]) -> Result<i64, Status> {
        use pb::request_op::Request;
        let op = |(key, value): &Change| {
            let key = key.clone().into();
            pb::RequestOp {
                request: Some(match value {
                    Some(value) => {
                        Request::RequestPut(pb::PutRequest { key, value: value.clone().into(), ..Default::default() })
                    }
                    None => Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }),
                }),
            }
        };
        let txn = pb::TxnRequest { success: changes.iter().map(op).collect(), ..Default::default() };
        Ok(revision(limited(self.kv().txn(txn)).await?.header))
    }

    /// Deletes one key; the revision and how many keys were there.
    pub async fn delete(&self, key: &[u8]) -> Result<(i64, i64), Status> {
        let delete = pb::DeleteRangeRequest { key: key.to_vec().into(), ..Default::default() };
        let answer = limited(self.kv().delete_range(delete)).await?;
        Ok((revision(answer.header), answer.deleted))
    }

    /// Grants a lease of the given id.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<(), Status> {
        limited(self.leases().lease_grant(pb::LeaseGrantRequest { ttl, id })).await?;
        Ok(())
    }

    /// Revokes a lease; the revision.
    pub async fn revoke(&self, id: i64) -> Result<i64, Status> {
        Ok(revision(limited(self.leases().lease_revoke(pb::LeaseRevokeRequest { id })).await?.header))
    }

    /// Granted TTL, time left and keys of a lease.
    pub async fn lease(&self, id: i64) -> Result<(i64, i64, Vec<Vec<u8>>)> {
        let answer = limited(self.leases().lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true })).await?;
        Ok((answer.granted_ttl, answer.ttl, answer.keys.into_iter().map(Into::into).collect()))
    }

    /// The current revision, read through the agreement.
    pub async fn revision(&self) -> Result<i64> {
        let range = pb::RangeRequest { key: b"x".to_vec().into(), ..Default::default() };
        Ok(revision(limited(self.kv().range(range)).await?.header))
    }

    /// One key's value, read through the agreement.
    pub async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Status> {
        let range = pb::RangeRequest { key: key.to_vec().into(), ..Default::default() };
        let mut answer = limited(self.kv().range(range)).await?;
        Ok(answer.kvs.pop().map(|kv| kv.value.into()))
    }

    /// All keys and values.
    pub async fn all(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let range = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        let answer = limited(self.kv().range(range)).await?;
        Ok(answer.kvs.into_iter().map(|kv| (kv.key.into(), kv.value.into())).collect())
    }

    /// Compacts the history.
    pub async fn compact(&self, revision: i64) -> Result<(), Status> {
        limited(self.kv().compact(pb::CompactionRequest { revision, physical: true })).await?;
        Ok(())
    }

    /// All events from revision `from` to revision `to`, by a watch. Every revision changes a key, so the last one has an event.
    pub async fn history(&self, from: i64, to: i64) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if from > to || to == 1 {
            return Ok(events);
        }
        let mut watch = self.watch(from).await?;
        while events.last().is_none_or(|e: &Event| e.revision < to) {
            let next = tokio::time::timeout(CALL_LIMIT, watch.next()).await;
            let heard = events.last().map_or(from - 1, |e| e.revision);
            let next = next.with_context(|| format!("the watch stays silent after revision {heard} of {to}"))?;
            events.extend(next?);
        }
        ensure!(events.last().is_some_and(|e| e.revision == to), "the watch went beyond revision {to}");
        Ok(events)
    }

    /// A watch on all keys.
    pub async fn watch(&self, from: i64) -> Result<Watch> {
        let create = pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: from,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        // The request stream stays open: some servers end a watch when the client has said all it wants.
        let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
        let mut client = WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let answers = tokio::time::timeout(CALL_LIMIT, client.watch(requests)).await??.into_inner();
        Ok(Watch { answers, newest: from - 1 })
    }
}

/// A watch on all keys, which checks order as it goes.
pub struct Watch {
    answers: Streaming<pb::WatchResponse>,
    newest: i64,
}

impl Watch {
    /// The next events. All events of one revision come together.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let answer = self.answers.message().await?.context("the server ended the watch")?;
            if answer.canceled {
                bail!("the watch was canceled: compacted {} {}", answer.compact_revision, answer.cancel_reason);
            }
            if answer.events.is_empty() {
                continue;
            }
            let events = answer.events.into_iter().map(event).collect::<Result<Vec<_>>>()?;
            let (first, last) = (events[0].revision, events[events.len() - 1].revision);
            ensure!(first > self.newest, "the watch repeats revision {first} after {}", self.newest);
            self.newest = last;
            return Ok(events);
        }
    }
}

fn event(event: mvccpb::Event) -> Result<Event> {
    let kv = event.kv.context("an event without its key")?;
    let value = (event.r#type == mvccpb::event::EventType::Put as i32).then(|| kv.value.into());
    Ok(Event { revision: kv.mod_revision, change: (kv.key.into(), value) })
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |h| h.revision)
}

/// An answer, or `deadline exceeded`.
async fn limited<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}
