//! A busy etcd read in strides: every revision once, whole, in order, as those who wrote it know it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eyrie_api::pb::lease_client::LeaseClient;
use eyrie_api::pb::request_op::Request;
use eyrie_api::pb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest,
};
use eyrie_backup::history::{Event, Revised};
use eyrie_backup::source::{Anchor, Break, Follow, Heard, Source, SourceConfig, Strides};
use eyrie_state::{ClusterId, Revision};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::kit::Etcd;

const WRITERS: u64 = 12;
/// Keys of one writer, and the most changes of one revision: what etcd allows.
const KEYS: u64 = 128;

type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What was written, by those who did.
#[derive(Default)]
struct Ledger {
    revisions: Mutex<BTreeMap<i64, Changes>>,
    /// Keys that went with their lease, behind one revision and not behind another: the answer does not say where.
    went: Mutex<Vec<(i64, i64, Vec<u8>)>>,
}

impl Ledger {
    fn write(&self, header: Option<ResponseHeader>, changes: Changes) {
        self.revisions.lock().unwrap().insert(header.unwrap().revision, changes);
    }

    /// Whether `heard` is what was written behind `from`, without a gap.
    fn check(&self, heard: &[Revised], from: i64, who: &str) {
        let written = self.revisions.lock().unwrap();
        let mut went = self.went.lock().unwrap().clone();
        for (revised, expected) in heard.iter().zip(from + 1..) {
            let revision = revised.revision.0;
            assert_eq!(revision, expected, "{who}: a revision is missing, or came twice");
            let of = |event: &Event| (event.key().to_vec(), event.value().map(|value| value.to_vec()));
            let changes: Changes = revised.events.iter().map(of).collect();
            match written.get(&revision) {
                Some(known) => assert_eq!(&changes, known, "{who}: revision {revision}"),
                None => {
                    let fits = |(after, to, key): &(i64, i64, Vec<u8>)| {
                        *after < revision && revision <= *to && changes == [(key.clone(), None)]
                    };
                    let at = went.iter().position(fits);
                    let at = at.unwrap_or_else(|| panic!("{who}: nobody wrote revision {revision}: {changes:?}"));
                    went.swap_remove(at);
                }
            }
        }
    }

    fn len(&self) -> usize {
        self.revisions.lock().unwrap().len()
    }
}

/// Writes until it is told to stop, and rests while it is told to.
struct Writer {
    kv: eyrie_api::pb::kv_client::KvClient<Channel>,
    leases: LeaseClient<Channel>,
    ledger: Arc<Ledger>,
    name: u64,
    live: BTreeMap<Vec<u8>, u64>,
    dice: u64,
    count: u64,
}

impl Writer {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn key(&self, n: u64) -> Vec<u8> {
        format!("writer-{:04}/{n:03}", self.name).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut value = format!("{}-{}-", self.name, self.count).into_bytes();
        value.resize(value.len() + self.roll(300) as usize, b'.');
        value
    }

    async fn step(&mut self) {
        match self.roll(20) {
            0..14 => self.put().await,
            14..16 => self.txn().await,
            16..18 => self.delete().await,
            18 => self.clear().await,
            _ => self.lease().await,
        }
    }

    async fn put(&mut self) {
        let n = self.roll(KEYS);
        let (key, value) = (self.key(n), self.value());
        let put = PutRequest { key: key.clone().into(), value: value.clone().into(), ..PutRequest::default() };
        let answer = self.kv.put(put).await.unwrap().into_inner();
        self.live.insert(key.clone(), 0);
        self.ledger.write(answer.header, vec![(key, Some(value))]);
    }

    /// Many keys in one revision, some of them deletions.
    async fn txn(&mut self) {
        let (mut success, mut changes) = (Vec::new(), Vec::new());
        let keys = if self.roll(10) == 0 { KEYS } else { 2 + self.roll(30) };
        for n in 0..keys {
            let key = self.key(n);
            let op = if self.live.contains_key(&key) && self.roll(3) == 0 {
                self.live.remove(&key);
                changes.push((key.clone(), None));
                Request::RequestDeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() })
            } else {
                let value = self.value();
                self.live.insert(key.clone(), 0);
                changes.push((key.clone(), Some(value.clone())));
                Request::RequestPut(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
            };
            success.push(RequestOp { request: Some(op) });
        }
        let answer = self.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap().into_inner();
        self.ledger.write(answer.header, changes);
    }

    async fn delete(&mut self) {
        let Some(key) = self.live.keys().next().cloned() else { return };
        let request = DeleteRangeRequest { key: key.clone().into(), ..DeleteRangeRequest::default() };
        let answer = self.kv.delete_range(request).await.unwrap().into_inner();
        self.live.remove(&key);
        self.ledger.write(answer.header, vec![(key, None)]);
    }

    /// All keys in one revision; none where there are none.
    async fn clear(&mut self) {
        let (key, end) = (format!("writer-{:04}/", self.name), format!("writer-{:04}0", self.name));
        let request = DeleteRangeRequest { key: key.into(), range_end: end.into(), ..DeleteRangeRequest::default() };
        let answer = self.kv.delete_range(request).await.unwrap().into_inner();
        let gone: Changes = std::mem::take(&mut self.live).into_keys().map(|key| (key, None)).collect();
        if !gone.is_empty() {
            self.ledger.write(answer.header, gone);
        }
    }

    /// A key that goes with its lease.
    async fn lease(&mut self) {
        let granted = self.leases.lease_grant(LeaseGrantRequest { ttl: 100, id: 0 }).await.unwrap().into_inner();
        let (key, value) = (format!("leased-{:04}", self.name).into_bytes(), self.value());
        let lease = granted.id;
        let put = PutRequest { key: key.clone().into(), value: value.clone().into(), lease, ..PutRequest::default() };
        let header = self.kv.put(put).await.unwrap().into_inner().header;
        let after = header.as_ref().unwrap().revision;
        self.ledger.write(header, vec![(key.clone(), Some(value))]);
        let revoked = self.leases.lease_revoke(LeaseRevokeRequest { id: lease }).await.unwrap().into_inner();
        self.ledger.went.lock().unwrap().push((after, revoked.header.unwrap().revision, key));
    }
}

/// All writers at work.
struct Crowd {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    rest: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// With keys that no crowd of another number has.
    async fn start(etcd: &Etcd, number: u64) -> Self {
        let ledger = Arc::new(Ledger::default());
        let (stop, rest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        let channel = Endpoint::from_shared(etcd.endpoint.clone()).unwrap().connect().await.unwrap();
        for name in (0..WRITERS).map(|name| number * WRITERS + name) {
            let mut writer = Writer {
                kv: etcd.kv.clone(),
                leases: LeaseClient::new(channel.clone()),
                ledger: ledger.clone(),
                name,
                live: BTreeMap::new(),
                dice: 0x9e37_79b9_7f4a_7c15 ^ (name + 1),
                count: 0,
            };
            let (stop, rest) = (stop.clone(), rest.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if rest.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    writer.step().await;
                }
            }));
        }
        Self { ledger, stop, rest, tasks }
    }

    /// A few changes a second instead of some thousand.
    async fn rest(&self, time: Duration) {
        self.rest.store(true, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        self.rest.store(false, Ordering::Relaxed);
    }

    async fn stop(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.ledger
    }
}

/// What a listener heard: revisions, in how many strides, and why it ended, unless it had heard all.
type Told = (Vec<Revised>, u64, Option<Break>);

/// Somebody who listens.
struct Listener {
    task: JoinHandle<Told>,
    heard_to: Arc<AtomicI64>,
}

impl Listener {
    fn heard_to(&self) -> i64 {
        self.heard_to.load(Ordering::Relaxed)
    }

    async fn told(self, who: &str) -> Told {
        tokio::time::timeout(Duration::from_secs(60), self.task).await.expect(who).unwrap()
    }
}

/// Listens until it has heard `to`, or history breaks off.
fn listen(mut follow: Follow, to: tokio::sync::watch::Receiver<i64>) -> Listener {
    let heard_to = Arc::new(AtomicI64::new(0));
    let told = heard_to.clone();
    let task = tokio::spawn(async move {
        let mut heard: Vec<Revised> = Vec::new();
        loop {
            let goal = *to.borrow();
            if goal > 0 && heard.last().is_some_and(|revised| revised.revision.0 >= goal) {
                return (heard, follow.strides(), None);
            }
            match tokio::time::timeout(Duration::from_millis(500), follow.next()).await {
                Ok(Ok(Heard::Revisions(revisions))) => {
                    heard.extend(revisions);
                    told.store(heard.last().map_or(0, |revised| revised.revision.0), Ordering::Relaxed);
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(why)) => return (heard, follow.strides(), Some(why)),
            }
        }
    });
    Listener { task, heard_to }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

async fn source(endpoint: &str) -> Source {
    let endpoints = endpoint.split(',').map(str::to_owned).collect();
    let config = SourceConfig { endpoints, ..SourceConfig::default() };
    Source::connect(&config).await.unwrap()
}

/// Where the store is.
async fn now(etcd: &mut Etcd) -> Anchor {
    let answer = etcd.kv.put(PutRequest { key: "now".into(), ..PutRequest::default() }).await.unwrap().into_inner();
    let header = answer.header.unwrap();
    Anchor { cluster: ClusterId(header.cluster_id), revision: Revision(header.revision), digest: None }
}

fn strides(every_ms: u64, lane_revisions: i64) -> Strides {
    let (every, rest) = (Duration::from_millis(every_ms), Duration::from_millis(300));
    Strides { busy_rate: 250, busy_windows: 1, every, lane_revisions, rest }
}

/// Passes bytes to `endpoint` and back, and cuts all connections now and then.
async fn relay(endpoint: &str) -> String {
    let to = endpoint.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
    let cuts = cut.clone();
    tokio::spawn(async move {
        for ms in [900u64, 350, 1700, 620, 90, 1300].into_iter().cycle() {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let _ = cuts.send(());
        }
    });
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (to, mut cut) = (to.clone(), cut.subscribe());
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_how_hears_the_same() {
    let mut etcd = Etcd::start().await;
    let anchor = now(&mut etcd).await;
    let broken = relay(&etcd.endpoint).await;
    let ways = [
        ("listening", &etcd.endpoint, None, 0),
        ("short lanes", &etcd.endpoint, Some(strides(50, 40)), 10),
        ("whole lanes", &etcd.endpoint, Some(strides(700, 1000)), 2),
        ("a line that breaks", &broken, Some(strides(50, 40)), 3),
    ];
    let (tell, goal) = tokio::sync::watch::channel(0);
    let mut listeners = Vec::new();
    for (who, endpoint, strides, at_least) in ways {
        let follow = source(endpoint).await.follow(anchor.clone(), strides);
        listeners.push((who, at_least, listen(follow, goal.clone())));
    }
    let crowd = Crowd::start(&etcd, 1).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        // calm: what was read in strides listens again, and is not behind for long
        let busy_to = now(&mut etcd).await.revision.0;
        crowd.ledger.write(header(busy_to), vec![(b"now".to_vec(), Some(Vec::new()))]);
        crowd.rest(Duration::from_millis(4500)).await;
        for (who, _, listener) in &listeners {
            let to = listener.heard_to();
            assert!(to >= busy_to, "{who}: at {to}, and {busy_to} was 4.5 s ago");
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ledger = crowd.stop().await;
    let last = now(&mut etcd).await.revision.0;
    ledger.write(header(last), vec![(b"now".to_vec(), Some(Vec::new()))]);
    tell.send(last).unwrap();
    println!("{} calls, {last} revisions", ledger.len());
    for (who, at_least, listener) in listeners {
        let (heard, strides, end) = listener.told(who).await;
        println!("{who}: {} revisions, {strides} strides", heard.len());
        assert!(end.is_none(), "{who}: {end:?}");
        ledger.check(&heard, anchor.revision.0, who);
        assert_eq!(heard.last().unwrap().revision.0, last, "{who}");
        assert!(strides >= at_least, "{who}: {strides} strides of at least {at_least}");
    }
}

/// Members that are killed and come back while they are read, and leaders that change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_die_while_they_are_read_cost_no_revision() {
    for members in [1, 3] {
        let mut cluster = Etcd::cluster(members).await;
        let anchor = now(&mut cluster[0]).await;
        let endpoints: Vec<String> = cluster.iter().map(|etcd| etcd.endpoint.clone()).collect();
        let (tell, goal) = tokio::sync::watch::channel(0);
        let all = source(&endpoints.join(",")).await;
        let listener = listen(all.follow(anchor.clone(), Some(strides(60, 40))), goal.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for n in 0..WRITERS {
            let (mut kv, stop) = (cluster[n as usize % members].kv.clone(), stop.clone());
            writers.push(tokio::spawn(async move {
                for value in 0u64.. {
                    let (key, value) = (format!("key-{n}").into(), value.to_string().into());
                    // what became of those that failed, the store knows
                    let put = kv.put(PutRequest { key, value, ..PutRequest::default() });
                    let put = tokio::time::timeout(Duration::from_secs(2), put).await;
                    if !matches!(put, Ok(Ok(_))) {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }));
        }
        for round in 0..2 {
            tokio::time::sleep(Duration::from_millis(1100 + 170 * round)).await;
            let at = round as usize % members;
            cluster[at].kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            cluster[at].start_again().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        let last = now(&mut cluster[0]).await.revision.0;
        tell.send(last).unwrap();
        let (heard, strode, end) = listener.told("a listener").await;
        println!("{members} members: {} revisions, {strode} strides", heard.len());
        assert!(end.is_none() && strode >= 4, "{strode} strides, {end:?}");
        // the store's own account, by whoever listens
        let listener = listen(all.follow(anchor.clone(), None), goal.clone());
        let (told, ..) = listener.told("a listener").await;
        assert!((anchor.revision.0 + 1..=last).eq(heard.iter().map(|revised| revised.revision.0)));
        for (heard, told) in heard.iter().zip(&told) {
            assert_eq!((heard.revision, &heard.events), (told.revision, &told.events));
        }
        assert_eq!(heard.len(), told.len());
    }
}

/// Compaction beside and ahead of the reader: what is handed out is whole, and what is lost is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_is_never_handed_out_in_part() {
    let rounds = if std::env::var_os("EYRIE_LONG").is_some() { 40 } else { 2 };
    let mut breaks = 0;
    for round in 0..rounds {
        let mut etcd = Etcd::start().await;
        let anchor = now(&mut etcd).await;
        let (tell, goal) = tokio::sync::watch::channel(0);
        let follow = source(&etcd.endpoint).await.follow(anchor.clone(), Some(strides(100, 40)));
        let listener = listen(follow, goal.clone());
        let crowd = Crowd::start(&etcd, round).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        // nearer and nearer to the newest, and at last to it
        for behind in [3000, 900, 300, 100, 30, 0, 0, 0] {
            let to = now(&mut etcd).await.revision.0;
            let key = vec![(b"now".to_vec(), Some(Vec::new()))];
            crowd.ledger.write(header(to), key);
            if to > behind + 1 {
                let request = eyrie_api::pb::CompactionRequest { revision: to - behind, physical: false };
                // to be behind the last compaction is no news
                let _ = etcd.kv.compact(request).await;
            }
            tokio::time::sleep(Duration::from_millis(130)).await;
        }
        let ledger = crowd.stop().await;
        let to = now(&mut etcd).await;
        let key = vec![(b"now".to_vec(), Some(Vec::new()))];
        ledger.write(header(to.revision.0), key);
        tell.send(to.revision.0).unwrap();
        let (heard, strode, end) = listener.told("a listener").await;
        println!("round {round}: {} of {} revisions, {strode} strides, {end:?}", heard.len(), to.revision.0);
        ledger.check(&heard, anchor.revision.0, "beside compaction");
        assert!(strode > 0, "round {round}: nothing was read in strides");
        match end {
            None => assert_eq!(heard.last().unwrap().revision, to.revision),
            Some(Break::Compacted { last }) => {
                assert_eq!(heard.last().map(|revised| revised.revision), Some(last));
                breaks += 1;
            }
            Some(other) => panic!("round {round}: {other}"),
        }
        // who begins anew behind that is not told to read in strides: this store forgets
        let (tell, goal) = tokio::sync::watch::channel(0);
        let follow = source(&etcd.endpoint).await.follow(to.clone(), Some(strides(100, 40)));
        let listener = listen(follow, goal.clone());
        let crowd = Crowd::start(&etcd, round + 100).await;
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let ledger = crowd.stop().await;
        let last = now(&mut etcd).await.revision.0;
        let key = vec![(b"now".to_vec(), Some(Vec::new()))];
        ledger.write(header(last), key);
        tell.send(last).unwrap();
        let (heard, strode, end) = listener.told("a listener").await;
        assert!(strode == 0 && end.is_none(), "{strode} strides, {end:?}");
        ledger.check(&heard, to.revision.0, "behind compaction");
    }
    println!("{breaks} of {rounds} readers were overtaken");
}
