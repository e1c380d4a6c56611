//! Service `v3electionpb.Election`: candidates stand in a line, and who stands in front leads.

use bytes::Bytes;
use eyrie_api::mvccpb::{self, event::EventType};
use eyrie_api::pb;
use eyrie_api::pb::request_op::Request as Op;
use eyrie_api::pb::response_op::Response as Answer;
use eyrie_api::v3electionpb::election_server::Election;
use eyrie_api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::line::{Leaver, Line, by_creation, end_of, next_response, place, prefix};

/// Leaders that an observer may be behind.
const OBSERVED_WAITING_MAX: usize = 16;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct ElectionService {
    pub(crate) line: Line,
}

/// A candidate's key, as it was created.
#[derive(Debug, Clone)]
struct Candidate {
    key: Bytes,
    created: i64,
    lease: i64,
}

#[tonic::async_trait]
impl Election for ElectionService {
    /// Returns when the caller leads. A caller that goes away before does not stay a candidate.
    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        let CampaignRequest { name, lease, value } = request.into_inner();
        let lease = self.line.session(lease).await?;
        let prefix = prefix(&name);
        let key = place(&prefix, lease);
        let put = pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let then = vec![Op::RequestPut(put)];
        let entered = self.line.when_created_at(&key, 0, then, vec![Op::RequestRange(get)]).await?;
        let mut header = entered.header;
        let mut candidate = Candidate { key, created: header.unwrap_or_default().revision, lease };
        let standing = if entered.succeeded { None } else { first_found(entered) };
        if let Some(kv) = &standing {
            candidate.created = kv.create_revision;
        }
        let leaver = self.resign_when_dropped(candidate.clone());
        if standing.is_some_and(|kv| kv.value != value) {
            header = self.proclaim_as(&candidate, value).await?;
        }
        self.line.wait_for_those_before(&prefix, candidate.created - 1).await?;
        leaver.stay();
        let leader = Some(LeaderKey { name, key: candidate.key, rev: candidate.created, lease });
        Ok(Response::new(CampaignResponse { header, leader }))
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        let ProclaimRequest { leader, value } = request.into_inner();
        let candidate = self.candidate(leader).await?;
        let header = self.proclaim_as(&candidate, value).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let found = self.line.range(by_creation(&prefix(&request.into_inner().name))).await?;
        match found.kvs.into_iter().next() {
            Some(kv) => Ok(Response::new(LeaderResponse { header: found.header, kv: Some(kv) })),
            None => Err(Status::unknown("election: no leader")),
        }
    }

    type ObserveStream = ReceiverStream<Result<LeaderResponse, Status>>;

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let prefix = prefix(&request.into_inner().name);
        let (tell, told) = mpsc::channel(OBSERVED_WAITING_MAX);
        let line = self.line.clone();
        tokio::spawn(async move {
            let gone = tell.clone();
            let observed = tokio::select! {
                observed = observe(&line, &prefix, &tell) => observed,
                () = gone.closed() => return,
            };
            if let Err(status) = observed {
                let _ = tell.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let candidate = self.candidate(request.into_inner().leader).await?;
        Ok(Response::new(ResignResponse { header: resign(&self.line, candidate).await? }))
    }
}

impl ElectionService {
    async fn candidate(&self, leader: Option<LeaderKey>) -> Result<Candidate, Status> {
        let LeaderKey { key, rev, lease, .. } =
            leader.ok_or_else(|| Status::unknown("\"leader\" field must be provided"))?;
        let lease = self.line.session(lease).await?;
        Ok(Candidate { key, created: rev, lease })
    }

    async fn proclaim_as(&self, candidate: &Candidate, value: Bytes) -> Result<Option<pb::ResponseHeader>, Status> {
        let Candidate { key, created, lease } = candidate;
        let put = pb::PutRequest { key: key.clone(), value, lease: *lease, ..Default::default() };
        let done = self.line.when_created_at(key, *created, vec![Op::RequestPut(put)], vec![]).await?;
        if done.succeeded { Ok(done.header) } else { Err(Status::unknown("election: not leader")) }
    }

    fn resign_when_dropped(&self, candidate: Candidate) -> Leaver<impl FnOnce() + Send + use<>> {
        let line = self.line.clone();
        Leaver::new(move || {
            tokio::spawn(async move { resign(&line, candidate).await });
        })
    }
}

async fn resign(line: &Line, candidate: Candidate) -> Result<Option<pb::ResponseHeader>, Status> {
    let delete = pb::DeleteRangeRequest { key: candidate.key.clone(), ..Default::default() };
    let then = vec![Op::RequestDeleteRange(delete)];
    Ok(line.when_created_at(&candidate.key, candidate.created, then, vec![]).await?.header)
}

/// Tells every leader and everything a leader proclaims, until the observer is gone.
async fn observe(
    line: &Line,
    prefix: &Bytes,
    tell: &mpsc::Sender<Result<LeaderResponse, Status>>,
) -> Result<(), Status> {
    loop {
        let found = line.range(by_creation(prefix)).await?;
        let header = found.header.unwrap_or_default();
        let (kv, at) = match found.kvs.into_iter().next() {
            Some(kv) => (kv, header.revision),
            None => {
                let kv = first_candidate(line, prefix, header.revision).await?;
                let at = kv.mod_revision;
                (kv, at)
            }
        };
        let of = |revision| Some(pb::ResponseHeader { revision, ..header });
        let key = kv.key.clone();
        if tell.send(Ok(LeaderResponse { header: of(at), kv: Some(kv) })).await.is_err() {
            return Ok(());
        }
        let mut events = line.watch(pb::WatchCreateRequest { start_revision: at + 1, key, ..Default::default() });
        'leader: loop {
            let response = next_response(&mut events).await?;
            if response.canceled {
                return Err(closed_early());
            }
            for event in response.events {
                let Some(kv) = event.kv.filter(|_| event.r#type == i32::from(EventType::Put)) else { break 'leader };
                let told = LeaderResponse { header: of(kv.mod_revision), kv: Some(kv) };
                if tell.send(Ok(told)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits until somebody enters an empty line.
async fn first_candidate(line: &Line, prefix: &Bytes, revision: i64) -> Result<mvccpb::KeyValue, Status> {
    let mut events = line.watch(pb::WatchCreateRequest {
        filters: vec![pb::watch_create_request::FilterType::Nodelete.into()],
        start_revision: revision,
        range_end: end_of(prefix),
        key: prefix.clone(),
        ..Default::default()
    });
    let response = next_response(&mut events).await?;
    response.events.into_iter().find_map(|event| event.kv).ok_or_else(closed_early)
}

fn closed_early() -> Status {
    Status::unknown("election: observe closed early")
}

fn first_found(txn: pb::TxnResponse) -> Option<mvccpb::KeyValue> {
    match txn.responses.into_iter().next()?.response? {
        Answer::ResponseRange(found) => found.kvs.into_iter().next(),
        _ => None,
    }
}
