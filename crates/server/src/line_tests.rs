//! Locks and elections on a real member.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eyrie_api::pb;
use eyrie_api::pb::lease_server::Lease;
use eyrie_api::v3electionpb::election_server::Election;
use eyrie_api::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use eyrie_api::v3lockpb::lock_server::Lock;
use eyrie_api::v3lockpb::{LockRequest, UnlockRequest};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use crate::config::{Address, Config, Url};
use crate::election::ElectionService;
use crate::grpc::{KvService, LeaseService};
use crate::line::Line;
use crate::lock::LockService;
use crate::server::Server;
use crate::watch::{WatchService, WatchSettings};

struct Member {
    kv: KvService,
    lease: Arc<LeaseService>,
    lock: LockService,
    election: ElectionService,
}

/// Runs a conversation with a fresh member.
fn with_member<F: Future<Output = ()>>(talk: impl FnOnce(Member) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let anywhere = || vec![Url { tls: false, address: Address::Tcp("127.0.0.1".into(), 0) }];
    let config = Config {
        data_dir: dir.path().join("data"),
        listen_client_urls: anywhere(),
        listen_peer_urls: anywhere(),
        unsafe_no_fsync: true,
        edge_threads: 1,
        ..Config::default()
    };
    let server = Server::start(&config).unwrap_or_else(|error| panic!("{error}"));
    let store = server.store().clone();
    let kv = KvService { store: store.clone() };
    let lease = Arc::new(LeaseService::new(store.clone()));
    let watch = WatchService::new(store.hub().clone(), store.clone(), WatchSettings::from(&config));
    let line = Line::new(kv.clone(), Arc::clone(&lease), watch);
    let member = Member { kv, lease, lock: LockService { line: line.clone() }, election: ElectionService { line } };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), talk(member)).await.expect("the conversation ends");
    });
    drop(runtime);
    drop(store);
    server.stop().unwrap_or_else(|error| panic!("{error}"));
}

impl Member {
    async fn session(&self) -> i64 {
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
        self.lease.lease_grant(Request::new(grant)).await.unwrap().into_inner().id
    }

    async fn keys(&self) -> Vec<String> {
        let all = pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..Default::default()
        };
        let found = self.kv.range(all).await.unwrap();
        found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    fn lock(&self, name: &'static str, lease: i64) -> tokio::task::JoinHandle<Result<Bytes, Status>> {
        let service = self.lock.clone();
        let request = LockRequest { name: name.into(), lease };
        tokio::spawn(async move { Ok(service.lock(Request::new(request)).await?.into_inner().key) })
    }

    async fn unlock(&self, key: Bytes) {
        self.lock.unlock(Request::new(UnlockRequest { key })).await.unwrap();
    }

    fn campaign(&self, lease: i64, value: &'static str) -> tokio::task::JoinHandle<Result<LeaderKey, Status>> {
        let service = self.election.clone();
        let request = CampaignRequest { name: "e".into(), lease, value: value.into() };
        tokio::spawn(async move { Ok(service.campaign(Request::new(request)).await?.into_inner().leader.unwrap()) })
    }

    async fn leader(&self) -> Result<String, Status> {
        let found = self.election.leader(Request::new(LeaderRequest { name: "e".into() })).await?.into_inner();
        Ok(String::from_utf8_lossy(&found.kv.unwrap().value).into_owned())
    }
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[test]
fn a_lock_goes_from_hand_to_hand_in_order() {
    with_member(|member| async move {
        let leases = [member.session().await, member.session().await, member.session().await];
        let first = member.lock("l", leases[0]).await.unwrap().unwrap();
        assert_eq!(first, format!("l/{:x}", leases[0]));
        // Whoever owns it gets it again.
        assert_eq!(member.lock("l", leases[0]).await.unwrap().unwrap(), first);
        let second = member.lock("l", leases[1]);
        a_while().await;
        let third = member.lock("l", leases[2]);
        a_while().await;
        assert!(!second.is_finished() && !third.is_finished());
        member.unlock(first).await;
        let second = second.await.unwrap().unwrap();
        a_while().await;
        assert!(!third.is_finished());
        // A session that ends loses its lock.
        let revoke = pb::LeaseRevokeRequest { id: leases[1] };
        member.lease.lease_revoke(Request::new(revoke)).await.unwrap();
        member.unlock(second).await;
        member.unlock(third.await.unwrap().unwrap()).await;
        assert!(member.keys().await.is_empty());
    });
}

#[test]
fn a_caller_that_goes_away_leaves_the_line() {
    with_member(|member| async move {
        let first = member.lock("l", 0).await.unwrap().unwrap();
        let waiting = member.lock("l", 0);
        a_while().await;
        assert_eq!(member.keys().await.len(), 2);
        waiting.abort();
        let _ = waiting.await;
        a_while().await;
        assert_eq!(member.keys().await.len(), 1);
        member.unlock(first).await;

        let leading = member.campaign(0, "a").await.unwrap().unwrap();
        let waiting = member.campaign(0, "b");
        a_while().await;
        waiting.abort();
        let _ = waiting.await;
        a_while().await;
        assert_eq!(member.keys().await, [String::from_utf8_lossy(&leading.key).into_owned()]);
    });
}

#[test]
fn errors_have_etcds_words() {
    with_member(|member| async move {
        let unknown = |error: Status, text: &str| assert_eq!((error.code(), error.message()), (Code::Unknown, text));
        let error = member.lock("l", 12345).await.unwrap().unwrap_err();
        unknown(error, "etcdserver: requested lease not found");
        unknown(member.leader().await.unwrap_err(), "election: no leader");
        let error = member.election.proclaim(Request::new(ProclaimRequest::default())).await.unwrap_err();
        unknown(error, "\"leader\" field must be provided");
        let error = member.election.resign(Request::new(ResignRequest::default())).await.unwrap_err();
        unknown(error, "\"leader\" field must be provided");
        let lease = member.session().await;
        let nobody = LeaderKey { name: "e".into(), key: "e/1".into(), rev: 7, lease };
        let proclaim = ProclaimRequest { leader: Some(nobody.clone()), value: "v".into() };
        unknown(member.election.proclaim(Request::new(proclaim)).await.unwrap_err(), "election: not leader");
        // To resign from what one is not is no error.
        member.election.resign(Request::new(ResignRequest { leader: Some(nobody) })).await.unwrap();
        let error = member.lock.unlock(Request::new(UnlockRequest::default())).await.unwrap_err();
        unknown(error, "etcdserver: key is not provided");
    });
}

#[test]
fn an_observer_sees_every_leader_and_every_word() {
    with_member(|member| async move {
        let observe = LeaderRequest { name: "e".into() };
        let mut observed = member.election.observe(Request::new(observe)).await.unwrap().into_inner();
        let lease = member.session().await;
        let first = member.campaign(lease, "one").await.unwrap().unwrap();
        assert_eq!((first.lease, &first.key[..]), (lease, format!("e/{lease:x}").as_bytes()));
        assert_eq!(member.leader().await.unwrap(), "one");
        // The same candidate with another value proclaims it.
        assert_eq!(member.campaign(lease, "two").await.unwrap().unwrap().rev, first.rev);
        let proclaim = ProclaimRequest { leader: Some(first.clone()), value: "three".into() };
        member.election.proclaim(Request::new(proclaim)).await.unwrap();
        let next = member.campaign(0, "four");
        a_while().await;
        assert!(!next.is_finished());
        member.election.resign(Request::new(ResignRequest { leader: Some(first) })).await.unwrap();
        next.await.unwrap().unwrap();
        assert_eq!(member.leader().await.unwrap(), "four");
        let mut values = Vec::new();
        while values.last().is_none_or(|last| last != "four") {
            let told = observed.next().await.unwrap().unwrap();
            let kv = told.kv.unwrap();
            assert!(told.header.unwrap().revision >= kv.mod_revision);
            values.push(String::from_utf8_lossy(&kv.value).into_owned());
        }
        // The first may have come to an observer that was still looking; none that came after it is missing.
        assert!(["one", "two", "three", "four"].ends_with(&values.iter().map(String::as_str).collect::<Vec<_>>()));
    });
}
