//! Service `Lease`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_state::auth::LeaseUse;
use eyrie_state::{Answer, Command, LeaseId, Refusal};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::errors::ServeError;
use crate::limits::LEASE_TTL_SECS_MAX;
use crate::store::Store;

/// See the module.
#[derive(Debug)]
pub(crate) struct LeaseService {
    store: Store,
    ids: Arc<IdSource>,
}

impl LeaseService {
    pub(crate) fn new(store: Store) -> Self {
        let ids = Arc::new(IdSource::new(store.identity().member.0));
        Self { store, ids }
    }

    /// The same service for another caller.
    pub(crate) fn with(&self, store: Store) -> Self {
        Self { store, ids: self.ids.clone() }
    }
}

type KeepAlives = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::lease_server::Lease for LeaseService {
    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        if ttl > LEASE_TTL_SECS_MAX {
            return Err(ServeError::from(Refusal::LeaseTtlTooLarge).into());
        }
        let id = LeaseId(if id == 0 { self.ids.next() } else { id });
        let ttl_secs = ttl.max(self.store.lease_ttl_secs_min());
        let (revision, answer) = self.store.propose(Command::LeaseGrant { id, ttl_secs }).await?;
        let Answer::LeaseGrant { id, ttl_secs } = answer else {
            return Err(Status::internal("etcdserver: a grant was answered with something else"));
        };
        self.store.metrics().lease.granted.inc();
        self.store.metrics().lease.ttl.observe(ttl_secs as f64);
        let header = Some(self.store.header(revision));
        Ok(Response::new(pb::LeaseGrantResponse { header, id: id.0, ttl: ttl_secs, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = LeaseId(request.into_inner().id);
        let (revision, _) = self.store.propose(Command::LeaseRevoke { id }).await?;
        self.store.metrics().lease.revoked.inc();
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(self.store.header(revision)) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let store = self.store.clone();
        let answers = request.into_inner().then(move |request| {
            let store = store.clone();
            async move {
                let id = request?.id;
                store.read(|state| store.permit_lease(state, LeaseId(id), LeaseUse::Rule))?;
                let header = store.header(store.revision());
                let ttl = store.renew_lease(LeaseId(id)).await?.map_or(0, |ttl| ttl.as_secs());
                if ttl > 0 {
                    store.metrics().lease.renewed.inc();
                }
                let ttl = i64::try_from(ttl).unwrap_or(i64::MAX);
                Ok(pb::LeaseKeepAliveResponse { header: Some(header), id, ttl })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let pb::LeaseTimeToLiveRequest { id, keys: with_keys } = request.into_inner();
        let remaining = self.store.lease_left(LeaseId(id)).await?;
        let what = if with_keys { LeaseUse::ShowKeys } else { LeaseUse::Look };
        let known = self.store.read(|state| {
            self.store.permit_lease(state, LeaseId(id), what)?;
            Ok::<_, ServeError>(state.lease(LeaseId(id)).map(|lease| {
                let keys: Vec<Bytes> =
                    if with_keys { lease.keys().map(Bytes::copy_from_slice).collect() } else { Vec::new() };
                (lease.ttl_secs, keys)
            }))
        })?;
        let header = Some(self.store.header(self.store.revision()));
        let response = match (known, remaining) {
            (Some((granted_ttl, keys)), Some((left, _))) => pb::LeaseTimeToLiveResponse {
                header,
                id,
                ttl: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                granted_ttl,
                keys,
            },
            _ => pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        };
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let mut ids = self.store.lessor().by_expiry();
        // Others' leases are nobody's business.
        self.store.read(|state| ids.retain(|id| self.store.permit_lease(state, *id, LeaseUse::ShowKeys).is_ok()));
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
        let header = Some(self.store.header(self.store.revision()));
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

/// Chooses lease ids as etcd does: 2 bytes of the member's id, 40 bits of the clock at start, and a counter; positive.
#[derive(Debug)]
struct IdSource(AtomicU64);

impl IdSource {
    fn new(member: u64) -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let low_bits = 48;
        let suffix = (millis << 8) & ((1 << low_bits) - 1);
        Self(AtomicU64::new((member << low_bits) | suffix))
    }

    fn next(&self) -> i64 {
        let id = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & (i64::MAX as u64);
        if id == 0 { self.next() } else { id as i64 }
    }
}
