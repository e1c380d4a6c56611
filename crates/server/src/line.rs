//! A line of waiting keys under one prefix: who stands in front holds the lock, or leads.
//!
//! Locks and elections both are recipes over keys, leases and watches, so they speak to the same services as any
//! client does, only inside the process. Their errors reach the wire as `Unknown` with the text unchanged, as etcd's
//! do.

use std::sync::Arc;

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_api::pb::lease_server::Lease;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use crate::grpc::{KvService, LeaseService};
use crate::store::Store;
use crate::watch::{WatchService, WatchStream};

/// The lease of whoever brings none, in seconds (etcd's figure). Nobody keeps it alive but its owner.
const SESSION_TTL_SECS: i64 = 60;

/// The services that a line is made of. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    kv: KvService,
    lease: Arc<LeaseService>,
    watch: WatchService<Store>,
}

/// Events of one key or prefix, inside the process.
pub(crate) type Events = WatchStream<Store, tokio_stream::Empty<Result<pb::WatchRequest, Status>>>;

/// The keys of everybody who waits under this name begin so.
pub(crate) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease in a line. Go prints a negative number as a minus and its magnitude, and so must this.
pub(crate) fn place(prefix: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let number = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, number.as_bytes()].concat().into()
}

/// An error as upstream's in-process client passes it on.
pub(crate) fn unknown(status: Status) -> Status {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => status,
        _ => Status::unknown(status.message()),
    }
}

impl Line {
    pub(crate) fn new(kv: KvService, lease: Arc<LeaseService>, watch: WatchService<Store>) -> Self {
        Self { kv, lease, watch }
    }

    /// The given lease, or a new one.
    pub(crate) async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = pb::LeaseGrantRequest { ttl: SESSION_TTL_SECS, id: 0 };
        let granted = self.lease.lease_grant(Request::new(request)).await.map_err(unknown)?;
        Ok(granted.into_inner().id)
    }

    /// Runs `then` when the key was created at this revision (0: does not exist), otherwise `or`.
    pub(crate) async fn when_created_at(
        &self,
        key: &Bytes,
        revision: i64,
        then: Vec<pb::request_op::Request>,
        or: Vec<pb::request_op::Request>,
    ) -> Result<pb::TxnResponse, Status> {
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(pb::compare::TargetUnion::CreateRevision(revision)),
            ..Default::default()
        };
        let ops = |ops: Vec<_>| ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
        let request = pb::TxnRequest { compare: vec![compare], success: ops(then), failure: ops(or) };
        self.kv.txn(request).await.map_err(unknown)
    }

    pub(crate) async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.kv.range(request).await.map_err(unknown)
    }

    pub(crate) async fn delete(&self, key: Bytes) -> Result<pb::DeleteRangeResponse, Status> {
        let request = pb::DeleteRangeRequest { key, ..Default::default() };
        self.kv.delete_range(request).await.map_err(unknown)
    }

    /// Returns when no key of the line is left that was created at this revision or before.
    pub(crate) async fn wait_for_those_before(&self, prefix: &Bytes, revision: i64) -> Result<(), Status> {
        let last_before = pb::RangeRequest {
            sort_order: pb::range_request::SortOrder::Descend.into(),
            max_create_revision: revision,
            ..by_creation(prefix)
        };
        loop {
            let found = self.range(last_before.clone()).await?;
            let Some(kv) = found.kvs.into_iter().next() else { return Ok(()) };
            let now = found.header.unwrap_or_default().revision;
            let mut events = self.watch(pb::WatchCreateRequest {
                filters: vec![pb::watch_create_request::FilterType::Noput.into()],
                start_revision: now,
                key: kv.key,
                ..Default::default()
            });
            // Any delete, and a compaction that was faster than this watch: look again.
            next_response(&mut events).await?;
        }
    }

    /// Watches inside the process.
    pub(crate) fn watch(&self, request: pb::WatchCreateRequest) -> Events {
        let mut events = self.watch.inside();
        events.create(request);
        events
    }
}

/// The next response with events, or the one that ends the watcher.
pub(crate) async fn next_response(events: &mut Events) -> Result<pb::WatchResponse, Status> {
    while let Some(frame) = events.next().await {
        let response = frame.map_err(unknown)?.into_message();
        if response.canceled || !response.events.is_empty() {
            return Ok(response);
        }
    }
    Err(Status::unknown("lost watcher waiting for delete"))
}

/// A request for one key of the line: the first that was created, unless the order is turned.
pub(crate) fn by_creation(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: pb::range_request::SortOrder::Ascend.into(),
        sort_target: pb::range_request::SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The end of the span of all keys with this prefix, which ends with a slash.
pub(crate) fn end_of(prefix: &Bytes) -> Bytes {
    let (last, start) = prefix.split_last().expect("a prefix ends with a slash");
    [start, &[last + 1]].concat().into()
}

/// Leaves the line when dropped: for a caller that went away while it waited.
pub(crate) struct Leaver<F: FnOnce() + Send>(Option<F>);

impl<F: FnOnce() + Send> Leaver<F> {
    pub(crate) fn new(leave: F) -> Self {
        Self(Some(leave))
    }

    /// Stays in the line.
    pub(crate) fn stay(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce() + Send> Drop for Leaver<F> {
    fn drop(&mut self) {
        if let Some(leave) = self.0.take() {
            leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_printed_as_go_prints_them() {
        let prefix = prefix(b"my");
        assert_eq!(place(&prefix, 0x694d_7fff), "my/694d7fff");
        assert_eq!(place(&prefix, -5), "my/-5");
        assert_eq!(place(&prefix, i64::MIN), "my/-8000000000000000");
        assert_eq!(end_of(&prefix), "my0");
    }
}
