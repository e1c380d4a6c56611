//! What other members say to this one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eyrie_api::peer as wire;
use eyrie_api::peer::part::What;
use eyrie_raft::{Message, VoteChange};
use eyrie_state::{LeaseId, MemberId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::arrivals::{Arrivals, ArrivedSoFar, Name};
use super::{PROTOCOL, REMOVED};
use crate::limits::{PEER_DIAL_TIMEOUT, PEER_ITEMS_WAITING_MAX};
use crate::log_warn;
use crate::node::{Item, Placement, Shared};
use crate::store::Store;

/// Pings that may wait for their answer to be sent.
const PULSES_WAITING_MAX: usize = 8;
/// How long a full inbox is left alone.
const BACKLOG_REST: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Clone)]
pub(super) struct PeerService {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) arrivals: Arc<Arrivals>,
}

#[tonic::async_trait]
impl wire::peer_server::Peer for PeerService {
    type TalkStream = ReceiverStream<Result<wire::Pulse, Status>>;

    async fn talk(&self, request: Request<Streaming<wire::Batch>>) -> Result<Response<Self::TalkStream>, Status> {
        let mut batches = request.into_inner();
        let first = tokio::time::timeout(PEER_DIAL_TIMEOUT, batches.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("nothing was said"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("nothing was said"))?;
        let hello = self.greet(first.hello)?;
        let (pulses, answer) = mpsc::channel(PULSES_WAITING_MAX);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            hear(&shared, hello.from, first.parts, &pulses).await;
            while let Ok(Some(batch)) = batches.message().await {
                if shared.peers.is_removed(hello.from) {
                    let _ = pulses.send(Err(Status::permission_denied(REMOVED))).await;
                    return;
                }
                if !hear(&shared, hello.from, batch.parts, &pulses).await {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPiece>>,
    ) -> Result<Response<wire::SnapshotTaken>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?.ok_or_else(|| Status::invalid_argument("nothing was sent"))?;
        let hello = self.greet(first.hello)?;
        let message = Message::decode(&first.raft).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let name = Name { from: hello.from, instance: hello.instance, number: first.number };
        let mut arrival = self.arrivals.begin(&self.shared, name, first.first, message)?;
        arrival.hear(stream).await;
        match arrival.outcome.await {
            Ok(Ok(())) => Ok(Response::new(wire::SnapshotTaken {})),
            Ok(Err(why)) => Err(Status::failed_precondition(why)),
            Err(_) => Err(Status::unavailable("the member is stopping")),
        }
    }

    async fn snapshot_place(
        &self,
        request: Request<wire::SnapshotPlaceRequest>,
    ) -> Result<Response<wire::SnapshotPlaceResponse>, Status> {
        let wire::SnapshotPlaceRequest { hello, number } = request.into_inner();
        let hello = self.greet(hello)?;
        let name = Name { from: hello.from, instance: hello.instance, number };
        let (whole, pieces) = match self.arrivals.place(name).await? {
            ArrivedSoFar::Whole => (true, 0),
            ArrivedSoFar::Pieces(pieces) => (false, pieces),
        };
        Ok(Response::new(wire::SnapshotPlaceResponse { whole, pieces }))
    }

    async fn members(&self, _: Request<wire::MembersRequest>) -> Result<Response<wire::MembersResponse>, Status> {
        let identity = self.shared.identity;
        let standing = self.store.standing();
        let (revision, members) = self.store.read(|state| (state.revision().0, state.members().map(to_wire).collect()));
        Ok(Response::new(wire::MembersResponse {
            cluster: identity.cluster.0,
            members,
            version: crate::VERSION.into(),
            from: identity.member.0,
            leader: standing.leader,
            revision,
        }))
    }

    async fn renew_lease(&self, request: Request<wire::LeaseRequest>) -> Result<Response<wire::LeaseResponse>, Status> {
        let wire::LeaseRequest { cluster, id } = request.into_inner();
        self.same_cluster(cluster)?;
        let left = self.store.renew_lease_here(LeaseId(id)).await?;
        let left = left.map(|ttl| (ttl, ttl));
        Ok(Response::new(self.lease_answer(left)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<wire::LeaseRequest>,
    ) -> Result<Response<wire::LeaseResponse>, Status> {
        let wire::LeaseRequest { cluster, id } = request.into_inner();
        self.same_cluster(cluster)?;
        let left = self.store.lease_left_here(LeaseId(id)).await?;
        Ok(Response::new(self.lease_answer(left)))
    }

    async fn promote(&self, request: Request<wire::PromoteRequest>) -> Result<Response<wire::PromoteResponse>, Status> {
        let wire::PromoteRequest { cluster, member } = request.into_inner();
        self.same_cluster(cluster)?;
        if !self.store.standing().is_leader {
            return Err(crate::errors::ServeError::NoLeader.into());
        }
        self.store.promote(MemberId(member)).await?;
        Ok(Response::new(wire::PromoteResponse {}))
    }

    async fn replace(&self, request: Request<wire::ReplaceRequest>) -> Result<Response<wire::ReplaceResponse>, Status> {
        let request = request.into_inner();
        self.same_cluster(request.cluster)?;
        if !self.store.standing().is_leader {
            return Err(crate::errors::ServeError::NoLeader.into());
        }
        let (member, members) = self.store.replace_member(&request).await?;
        let members = members.iter().map(to_wire).collect();
        Ok(Response::new(wire::ReplaceResponse { member: member.0, members }))
    }

    async fn digest(&self, request: Request<wire::DigestRequest>) -> Result<Response<wire::DigestResponse>, Status> {
        let wire::DigestRequest { cluster, revision } = request.into_inner();
        self.same_cluster(cluster)?;
        Ok(Response::new(self.store.digest(revision).await?))
    }
}

fn to_wire(member: &eyrie_state::Member) -> wire::Member {
    wire::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        learner: member.learner,
    }
}

/// A member as it came over the wire.
pub(crate) fn from_wire(member: wire::Member) -> eyrie_state::Member {
    eyrie_state::Member {
        id: MemberId(member.id),
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        learner: member.learner,
    }
}

impl PeerService {
    fn lease_answer(&self, left: Option<(Duration, Duration)>) -> wire::LeaseResponse {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (left, granted) = left.unwrap_or_default();
        wire::LeaseResponse {
            exists: !granted.is_zero(),
            left: millis(left),
            granted: millis(granted),
            applied: self.store.applied(),
        }
    }

    fn same_cluster(&self, cluster: u64) -> Result<(), Status> {
        let own = self.shared.identity.cluster.0;
        if cluster == own { Ok(()) } else { Err(other_cluster(own, cluster)) }
    }

    /// Whether this member is the one that is meant, and the other one belongs here.
    fn greet(&self, hello: Option<wire::Hello>) -> Result<wire::Hello, Status> {
        let hello = hello.ok_or_else(|| Status::invalid_argument("the first message says nothing about its sender"))?;
        let refused = refusal(&self.shared, &hello);
        if let Some(status) = &refused
            && status.code() != tonic::Code::Unavailable
        {
            let (peer, why) = (format!("{:x}", hello.from), status.message().to_owned());
            log_warn!("refused a member that wants to talk", "remote-peer-id" = &peer, "error" = &why);
        }
        refused.map_or(Ok(hello), Err)
    }
}

fn refusal(shared: &Shared, hello: &wire::Hello) -> Option<Status> {
    let own = shared.identity;
    if hello.protocol != PROTOCOL {
        return Some(Status::failed_precondition(format!(
            "the other member speaks version {} of the members' language (Eyrie {}), this one version {PROTOCOL} (Eyrie {}): \
             run the same release on all members",
            hello.protocol,
            hello.version,
            crate::VERSION
        )));
    }
    if hello.cluster != own.cluster.0 {
        return Some(other_cluster(own.cluster.0, hello.cluster));
    }
    if hello.from == own.member.0 {
        return Some(Status::failed_precondition(format!(
            "two processes say that they are member {:x}: is one data directory in use twice, or a copy of it? Stop one of \
             them. Each member needs a directory of its own: eyrie utl snapshot restore SNAPSHOT --name NAME --data-dir NEW",
            hello.from
        )));
    }
    if hello.to != own.member.0 {
        return Some(Status::failed_precondition(format!(
            "member {:x} was to be reached, but here is member {:x}: look at the peer URLs (etcdctl member list), and whether \
             two members were given the same address",
            hello.to, own.member.0
        )));
    }
    if shared.peers.is_removed(hello.from) {
        return Some(Status::permission_denied(REMOVED));
    }
    if shared.peers.link(hello.from).is_none() {
        return Some(Status::unavailable(format!("member {:x} is not known here, or not yet", hello.from)));
    }
    None
}

fn other_cluster(own: u64, other: u64) -> Status {
    Status::failed_precondition(format!(
        "cluster ID mismatch: this member belongs to cluster {own:x}, the other one to {other:x}. Two clusters are mixed up: \
         look at --initial-cluster, --initial-cluster-token and the peer URLs of both; a member that was founded by mistake \
         needs an empty --data-dir and --initial-cluster-state=existing"
    ))
}

/// Hands on what a member said, in order. Returns whether anybody still listens.
async fn hear(
    shared: &Shared,
    from: u64,
    parts: Vec<wire::Part>,
    pulses: &mpsc::Sender<Result<wire::Pulse, Status>>,
) -> bool {
    let mut items = Vec::with_capacity(parts.len());
    for part in parts {
        match part.what {
            Some(What::Raft(bytes)) => {
                // What does not come from whom it says it does is no message of this talk.
                if let Ok(message) = Message::decode(&bytes)
                    && message.from() == from
                    && !message.is_snapshot()
                {
                    items.push(Item::Heard(Box::new(message)));
                }
            }
            Some(What::Proposals(some)) => {
                items.push(Item::Forwarded { from, proposals: some.proposals });
            }
            Some(What::Placed(placed)) => {
                let wire::Placed { numbers, index, term, refused } = placed;
                items.push(Item::Placed(Placement { numbers, index, term, refused }));
            }
            Some(What::Ping(ping)) => {
                let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let clock = u64::try_from(clock.as_nanos()).unwrap_or_default();
                if pulses.is_closed() {
                    return false;
                }
                // Whoever does not read the answers may miss some.
                let _ = pulses.try_send(Ok(wire::Pulse { ping, clock }));
            }
            None => {}
        }
    }
    while shared.inbox.peer_backlog() > PEER_ITEMS_WAITING_MAX {
        tokio::time::sleep(BACKLOG_REST).await;
    }
    shared.inbox.put_from_peer(items)
}

/// The vote that a number on the wire means.
pub(crate) fn vote(number: u32) -> Option<VoteChange> {
    match number {
        1 => Some(VoteChange::Voter),
        2 => Some(VoteChange::Learner),
        3 => Some(VoteChange::Gone),
        _ => None,
    }
}

/// See [`vote`].
pub(crate) fn vote_number(vote: VoteChange) -> u32 {
    match vote {
        VoteChange::Voter => 1,
        VoteChange::Learner => 2,
        VoteChange::Gone => 3,
    }
}
