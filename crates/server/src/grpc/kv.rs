//! Service `KV`: keys and values.

use eyrie_api::pb;
use eyrie_state::{Answer, Command, Refusal, Revision, check};
use tonic::{Request, Response, Status};

use crate::convert;
use crate::errors::ServeError;
use crate::store::Store;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct KvService {
    pub(crate) store: Store,
}

impl KvService {
    pub(crate) async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let serializable = request.serializable;
        let range = convert::range(request)?;
        if !serializable {
            self.store.refuse_if_learner()?;
            self.store.linearize().await?;
        }
        let (revision, answer) = self.store.range(&range)?;
        Ok(convert::range_response(self.store.header(revision), answer))
    }

    pub(crate) async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Status> {
        let put = convert::put(request)?;
        let (revision, answer) = self.store.propose(Command::Put(put)).await?;
        let Answer::Put { prev } = answer else { return Err(mismatch("put")) };
        let header = Some(self.store.header(revision));
        Ok(pb::PutResponse { header, prev_kv: prev.map(convert::key_value) })
    }

    pub(crate) async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        let delete = convert::delete_range(request)?;
        let (revision, answer) = self.store.propose(Command::DeleteRange(delete)).await?;
        let Answer::DeleteRange { deleted, prev } = answer else { return Err(mismatch("delete")) };
        let header = Some(self.store.header(revision));
        let prev_kvs = prev.into_iter().map(convert::key_value).collect();
        Ok(pb::DeleteRangeResponse { header, deleted, prev_kvs })
    }

    pub(crate) async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        let serializable = only_serializable(&request);
        let txn = convert::txn(request, self.store.txn_ops_max())?;
        check::txn(&txn, self.store.txn_ops_max()).map_err(ServeError::from)?;
        let (revision, answer) = if txn.is_read_only() {
            if !serializable {
                self.store.linearize().await?;
            }
            self.store.read_txn(&txn)?
        } else {
            let (revision, answer) = self.store.propose(Command::Txn(txn)).await?;
            let Answer::Txn(answer) = answer else { return Err(mismatch("transaction")) };
            (revision, answer)
        };
        Ok(convert::txn_response(self.store.header(revision), answer))
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Status> {
        let pb::CompactionRequest { revision, physical } = request;
        if revision < 0 {
            return Err(ServeError::from(Refusal::Compacted).into());
        }
        let (at, _) = self.store.propose(Command::Compact { revision: Revision(revision) }).await?;
        if physical {
            self.store.compaction_finished().await;
        }
        Ok(pb::CompactionResponse { header: Some(self.store.header(at)) })
    }
}

#[tonic::async_trait]
impl pb::kv_server::Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        Ok(Response::new(self.range(request.into_inner()).await?))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        Ok(Response::new(self.put(request.into_inner()).await?))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Ok(Response::new(self.delete_range(request.into_inner()).await?))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Ok(Response::new(self.txn(request.into_inner()).await?))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        Ok(Response::new(self.compact(request.into_inner()).await?))
    }
}

/// Every range of a transaction may be answered from what this member has.
fn only_serializable(request: &pb::TxnRequest) -> bool {
    let op = |op: &pb::RequestOp| match &op.request {
        Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    };
    request.success.iter().chain(&request.failure).all(op)
}

/// An answer of another kind than the question: a fault of this program, said rather than guessed over.
fn mismatch(what: &str) -> Status {
    Status::internal(format!("etcdserver: a {what} was answered with something else"))
}
