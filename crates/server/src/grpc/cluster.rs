//! Service `Cluster`: who belongs to it.

use eyrie_api::pb;
use eyrie_state::{Answer, Command, Member, MemberId, Refusal};
use tonic::{Code, Request, Response, Status};

use crate::convert;
use crate::errors::ServeError;
use crate::store::Store;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct ClusterService {
    pub(crate) store: Store,
}

impl ClusterService {
    /// The head that this service's answers have: without a revision.
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: 0, ..self.store.header(self.store.revision()) })
    }

    fn members(&self) -> Vec<pb::Member> {
        self.store.read(|state| state.members().map(convert::member).collect())
    }
}

/// Checks peer URLs as upstream does: one at least, each `http(s)://host:port` or a unix socket.
fn check_urls(urls: &[String]) -> Result<(), ServeError> {
    let bad = || ServeError::other(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
    if urls.is_empty() {
        return Err(bad());
    }
    for url in urls {
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let good = match scheme {
            "http" | "https" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
                !host.is_empty() && !rest.contains('/') && port.parse::<u16>().is_ok()
            }
            "unix" | "unixs" => !rest.is_empty(),
            _ => false,
        };
        if !good {
            return Err(bad());
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.store.linearize().await?;
        }
        Ok(Response::new(pb::MemberListResponse { header: self.header(), members: self.members() }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let pb::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        check_urls(&peer_ur_ls)?;
        let wanted = Member {
            id: MemberId(0),
            name: String::new(),
            peer_urls: peer_ur_ls,
            client_urls: vec![],
            learner: is_learner,
        };
        let added = self.store.add_member(wanted).await?;
        let (member, members) = (Some(convert::member(&added)), self.members());
        Ok(Response::new(pb::MemberAddResponse { header: self.header(), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let id = MemberId(request.into_inner().id);
        self.store.remove_member(id).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header: self.header(), members: self.members() }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let id = MemberId(id);
        self.store.read(|state| state.member(id).map(|_| ())).ok_or(ServeError::from(Refusal::MemberNotFound))?;
        check_urls(&peer_ur_ls)?;
        let (_, answer) = self.store.propose(Command::MemberUpdate { id, peer_urls: peer_ur_ls }).await?;
        let members = match answer {
            Answer::Members(members) => members.iter().map(convert::member).collect(),
            _ => self.members(),
        };
        Ok(Response::new(pb::MemberUpdateResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = MemberId(request.into_inner().id);
        self.store.promote_anywhere(id).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: self.header(), members: self.members() }))
    }
}
