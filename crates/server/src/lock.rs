//! Service `v3lockpb.Lock`: a lock is a key in a line, and its owner is who stands in front.

use eyrie_api::pb;
use eyrie_api::pb::request_op::Request as Op;
use eyrie_api::pb::response_op::Response as Answer;
use eyrie_api::v3lockpb::lock_server::Lock;
use eyrie_api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use crate::line::{Leaver, Line, by_creation, place, prefix};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct LockService {
    pub(crate) line: Line,
}

#[tonic::async_trait]
impl Lock for LockService {
    /// Returns when the caller owns the lock. A caller that goes away before leaves no key behind.
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let LockRequest { name, lease } = request.into_inner();
        let lease = self.line.session(lease).await?;
        let prefix = prefix(&name);
        let key = place(&prefix, lease);
        let put = Op::RequestPut(pb::PutRequest { key: key.clone(), lease, ..Default::default() });
        let get = Op::RequestRange(pb::RangeRequest { key: key.clone(), ..Default::default() });
        let owner = Op::RequestRange(by_creation(&prefix));
        let entered = self.line.when_created_at(&key, 0, vec![put, owner.clone()], vec![get, owner]).await?;
        // A session that is in line already keeps its place.
        let mine = match created_in(&entered, 0) {
            Some(revision) if !entered.succeeded => revision,
            _ => entered.header.unwrap_or_default().revision,
        };
        if created_in(&entered, 1).is_none_or(|owner| owner == mine) {
            return Ok(Response::new(LockResponse { header: entered.header, key }));
        }
        let leaver = Leaver::new({
            let (line, key) = (self.line.clone(), key.clone());
            move || {
                tokio::spawn(async move { line.delete(key).await });
            }
        });
        self.line.wait_for_those_before(&prefix, mine - 1).await?;
        let found = self.line.range(pb::RangeRequest { key: key.clone(), ..Default::default() }).await?;
        leaver.stay();
        if found.kvs.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(Response::new(LockResponse { header: found.header, key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let deleted = self.line.delete(request.into_inner().key).await?;
        Ok(Response::new(UnlockResponse { header: deleted.header }))
    }
}

/// The create revision of the first pair that an operation found.
fn created_in(txn: &pb::TxnResponse, operation: usize) -> Option<i64> {
    match txn.responses.get(operation)?.response.as_ref()? {
        Answer::ResponseRange(found) => found.kvs.first().map(|kv| kv.create_revision),
        _ => None,
    }
}
