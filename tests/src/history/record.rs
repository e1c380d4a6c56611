//! Clients and watchers that write down all they ask and hear.
//!
//! Half of the clients stay with one member, whatever becomes of it; the others go to the next one when a call fails. No call is
//! ever repeated: each asks once and notes what became of it. A pace for all together keeps the machine from being the limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyrie_api::mvccpb::{self, event::EventType};
use eyrie_api::pb::{
    self, compare, kv_client::KvClient, request_op::Request, response_op::Response as OpResponse,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::log::{Event, Pair};
use super::names::{PREFIX, PREFIX_END, key_of, name, text, value_of};
use super::op::{Answer, Call, Key, Moment, Op, Outcome, Value};
use super::watch::{Heard, Response, Stream};
use super::{End, History};
use crate::load::Dice;

/// Keys that all clients share: few, so that they meet.
const KEYS: u64 = 12;
/// Clients per member.
const CLIENTS_PER_MEMBER: usize = 10;
/// One client asks not more often than this.
const PACE: Duration = Duration::from_millis(18);
/// A client waits no longer for an answer; the fate is then unknown.
const CALL_LIMIT: Duration = Duration::from_millis(1500);
/// How long a request whose client has given up may still be under way in a cluster that is whole again.
const LAST_WAY: Duration = Duration::from_millis(400);
/// A client whose call failed rests.
const REST: Duration = Duration::from_millis(30);
/// The roaming watcher leaves its member after this, to resume at the next.
const ROAMING: Duration = Duration::from_millis(400);
/// What the watchers may still hear after the last write.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Clients and watchers at work.
pub struct Recorder {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
    begun: Instant,
}

struct Shared {
    epoch: Instant,
    endpoints: Vec<String>,
    ops: Mutex<Vec<Op>>,
    streams: Mutex<BTreeMap<usize, Stream>>,
    values: AtomicU64,
    stream_ids: AtomicU64,
    /// Writes end.
    resting: AtomicBool,
    /// All ends.
    over: AtomicBool,
    /// History is compacted in this run.
    compacting: AtomicBool,
    asks_progress: bool,
    newest: AtomicU64,
    answered: AtomicU64,
    /// Calls without an answer so far.
    open: AtomicU64,
    /// What no store of this load could have said: it can't even be read.
    broken: Mutex<Option<String>>,
}

impl Shared {
    fn now(&self) -> Moment {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(Moment::MAX)
    }

    fn next_value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn broken(&self, what: String) {
        self.broken.lock().expect("no panic while it is held").get_or_insert(what);
    }

    fn seen(&self, revision: i64) {
        self.newest.fetch_max(revision as u64, Ordering::Relaxed);
    }
}

impl Recorder {
    /// Begins, with clients at each of the endpoints; watchers ask how far they are, if they shall. They run in `runtime`, which is where they find the members.
    pub fn start(endpoints: Vec<String>, runtime: tokio::runtime::Runtime, seed: u64, asks_progress: bool) -> Recorder {
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            endpoints,
            ops: Mutex::default(),
            streams: Mutex::default(),
            values: AtomicU64::new(1),
            stream_ids: AtomicU64::new(0),
            resting: AtomicBool::new(false),
            over: AtomicBool::new(false),
            compacting: AtomicBool::new(false),
            asks_progress,
            newest: AtomicU64::new(1),
            answered: AtomicU64::new(0),
            open: AtomicU64::new(0),
            broken: Mutex::default(),
        });
        let mut tasks = Vec::new();
        let members = shared.endpoints.len();
        for client in 0..members * CLIENTS_PER_MEMBER {
            let one = Client {
                shared: shared.clone(),
                number: client,
                at: client % members,
                stays: (client / members) % 2 == 0,
                dice: Dice::new(seed ^ (client as u64 + 1) << 32),
                seen: BTreeMap::new(),
            };
            tasks.push(runtime.spawn(one.work()));
        }
        let watchers = (0..members).map(|at| (at, None, false)).chain([(0, None, true), (0, Some(1), true)]);
        for (at, key, roams) in watchers {
            let one = Watcher { shared: shared.clone(), at, key, roams, from: 2 };
            tasks.push(runtime.spawn(one.listen()));
        }
        Recorder { shared, tasks, runtime, begun: Instant::now() }
    }

    /// Where the clients run.
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// The newest revision that any client was told.
    pub fn newest(&self) -> i64 {
        self.shared.newest.load(Ordering::Relaxed) as i64
    }

    /// Calls that were answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// From now on history is compacted: pairs before an event may be missing.
    pub fn compacting(&self) {
        self.shared.compacting.store(true, Ordering::Relaxed);
    }

    /// Ends the load, waits until the watchers at all members have heard everything, and asks each of `members` what it holds.
    /// Returns the history and the answered calls per second.
    ///
    /// # Errors
    /// A watcher does not get there in time, or a member does not say what it holds.
    pub fn finish(self, members: Vec<String>) -> Result<(History, f64)> {
        let load = self.begun.elapsed();
        self.shared.resting.store(true, Ordering::Relaxed);
        let until = Instant::now() + CALL_LIMIT;
        while self.shared.open.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        // What had no answer may still be on its way to the log; it comes before the reads below.
        std::thread::sleep(LAST_WAY);
        let rate = self.shared.answered.load(Ordering::Relaxed) as f64 / load.as_secs_f64();
        let ends = self.ends(members).context("what the members hold at the end");
        let newest = ends.as_ref().ok().and_then(|ends| ends.first()).map_or(1, |end| end.revision);
        let heard = self.drained(newest);
        self.shared.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(async { tokio::time::timeout(CALL_LIMIT * 2, task).await })??;
        }
        if let Some(broken) = self.shared.broken.lock().expect("no panic while it is held").take() {
            anyhow::bail!("{broken}");
        }
        heard?;
        let ops = std::mem::take(&mut *self.shared.ops.lock().expect("no panic in a client"));
        let streams = std::mem::take(&mut *self.shared.streams.lock().expect("no panic in a watcher"));
        self.runtime.shutdown_timeout(Duration::from_secs(2));
        Ok((History { ops, streams: streams.into_values().collect(), ends: ends? }, rate))
    }

    /// Waits until all watchers of all keys have heard of `newest`.
    fn drained(&self, newest: i64) -> Result<()> {
        let end = Instant::now() + DRAIN_LIMIT;
        loop {
            let late: Vec<String> = {
                let streams = self.shared.streams.lock().expect("no panic in a watcher");
                let mut farthest: BTreeMap<&str, i64> = BTreeMap::new();
                for stream in streams.values().filter(|stream| stream.key.is_none()) {
                    let watcher = stream.name.split(" from ").next().unwrap_or_default();
                    let far = farthest.entry(watcher).or_default();
                    *far = (*far).max(stream.resumes_at() - 1);
                }
                let late = farthest.into_iter().filter(|(_, far)| *far < newest);
                late.map(|(name, far)| format!("{name} has heard up to {far}")).collect()
            };
            if late.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < end, "not complete: the newest revision is {newest}, but {}", late.join(", "));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(&self, members: Vec<String>) -> Result<Vec<End>> {
        let mut ends = Vec::new();
        for endpoint in members {
            let asked = self.runtime.spawn(async move { end(&endpoint).await.with_context(|| endpoint) });
            ends.push(self.runtime.block_on(asked)??);
        }
        Ok(ends)
    }
}

/// What one member holds, read through the agreement; its digest covers the same revision.
async fn end(endpoint: &str) -> Result<End> {
    let channel = channel(endpoint)?;
    let mut kv = kv(&channel);
    let mut failure = None;
    for _ in 0..100 {
        let all = range(0, true, false, 0);
        match tokio::time::timeout(CALL_LIMIT, kv.range(all)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let revision = answer.header.context("a header")?.revision;
                let pairs = answer.kvs.iter().map(pair).collect::<Result<Vec<_>>>()?;
                let mut maintenance = pb::maintenance_client::MaintenanceClient::new(channel.clone());
                let hash = maintenance.hash_kv(pb::HashKvRequest { revision }).await?.into_inner();
                let digest = (hash.hash, hash.compact_revision);
                return Ok(End { member: endpoint.into(), revision, pairs, digest });
            }
            Ok(Err(status)) => failure = Some(status),
            Err(_) => failure = None,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(failure.map_or_else(|| anyhow::anyhow!("no answer in time"), Into::into))
}

/// One client.
struct Client {
    shared: Arc<Shared>,
    number: usize,
    at: usize,
    stays: bool,
    dice: Dice,
    /// What it saw last of each key: what its swaps rely on.
    seen: BTreeMap<Key, Pair>,
}

impl Client {
    async fn work(mut self) {
        let Ok(mut connection) = channel(&self.shared.endpoints[self.at]) else { return };
        let mut turn = tokio::time::interval(PACE);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.shared.resting.load(Ordering::Relaxed) {
            turn.tick().await;
            let (call, serializable) = self.choose();
            self.shared.open.fetch_add(1, Ordering::Relaxed);
            let asked = self.shared.now();
            let answer = tokio::time::timeout(CALL_LIMIT, ask(&connection, &call, serializable)).await;
            let answered = self.shared.now();
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            let outcome = match answer {
                Ok(Ok(answer)) => {
                    self.shared.answered.fetch_add(1, Ordering::Relaxed);
                    self.shared.seen(answer.revision);
                    self.seen.extend(answer.pairs.iter().map(|pair| (pair.key, *pair)));
                    Outcome::Done(answer)
                }
                Ok(Err(status)) => {
                    if status.code() == Code::DataLoss {
                        self.shared.broken(format!("{call:?} was answered with {}", status.message()));
                    }
                    fate(&status)
                }
                Err(_) => Outcome::Unknown,
            };
            let failed = !matches!(outcome, Outcome::Done(_));
            let op = Op { client: self.number, call, serializable, asked, answered, outcome };
            self.shared.ops.lock().expect("no panic in a client").push(op);
            if failed {
                tokio::time::sleep(REST).await;
                if !self.stays {
                    self.at = (self.at + 1) % self.shared.endpoints.len();
                    let Ok(next) = channel(&self.shared.endpoints[self.at]) else { return };
                    connection = next;
                }
            }
        }
    }

    fn choose(&mut self) -> (Call, bool) {
        let key = self.dice.below(KEYS) as Key;
        let call = match self.dice.below(20) {
            0..6 => Call::Write(vec![(key, Some(self.shared.next_value()))]),
            6 => Call::Write(vec![(key, None)]),
            7 => {
                let keys = (0..3).map(|n| (key + n * 4) % KEYS as Key);
                Call::Write(keys.map(|key| (key, Some(self.shared.next_value()))).collect())
            }
            8..12 => {
                let seen = self.seen.get(&key);
                let (modified, saw) = seen.map_or((0, None), |pair| (pair.modified, Some(pair.value)));
                // Once in a while a swap deletes.
                let to = (modified == 0 || self.dice.below(5) > 0).then(|| self.shared.next_value());
                Call::Swap { key, modified, saw, to }
            }
            12..16 => Call::Read(key),
            16..18 => Call::ReadAll,
            18 => return (Call::ReadAll, true),
            _ => {
                let newest = self.shared.newest.load(Ordering::Relaxed) as i64;
                return (Call::ReadAllAt((newest - self.dice.below(20) as i64).max(1)), true);
            }
        };
        (call, false)
    }
}

/// What an error says about the fate of a request: only what is refused for a reason has certainly not happened.
fn fate(status: &Status) -> Outcome {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::ResourceExhausted => {
            Outcome::Refused(status.message().to_owned())
        }
        _ => Outcome::Unknown,
    }
}

async fn ask(channel: &Channel, call: &Call, serializable: bool) -> Result<Answer, Status> {
    let mut kv = kv(channel);
    match call {
        Call::Write(changes) if changes.len() > 1 => {
            let success = changes.iter().map(|(key, value)| change(*key, *value)).collect();
            let answer = kv.txn(pb::TxnRequest { success, ..Default::default() }).await?.into_inner();
            Ok(Answer { revision: revision(answer.header.as_ref())?, wrote: true, pairs: vec![] })
        }
        Call::Write(changes) => match changes[0] {
            (key, Some(value)) => {
                let put = pb::PutRequest { key: name(key), value: text(value), ..Default::default() };
                let answer = kv.put(put).await?.into_inner();
                Ok(Answer { revision: revision(answer.header.as_ref())?, wrote: true, pairs: vec![] })
            }
            (key, None) => {
                let delete = pb::DeleteRangeRequest { key: name(key), ..Default::default() };
                let answer = kv.delete_range(delete).await?.into_inner();
                Ok(Answer { revision: revision(answer.header.as_ref())?, wrote: answer.deleted > 0, pairs: vec![] })
            }
        },
        Call::Swap { key, modified, to, .. } => swap(kv, *key, *modified, *to).await,
        Call::Read(key) => pairs(kv.range(range(*key, false, serializable, 0)).await?.into_inner()),
        Call::ReadAll => pairs(kv.range(range(0, true, serializable, 0)).await?.into_inner()),
        Call::ReadAllAt(at) => pairs(kv.range(range(0, true, serializable, *at)).await?.into_inner()),
    }
}

async fn swap(mut kv: KvClient<Channel>, key: Key, modified: i64, to: Option<Value>) -> Result<Answer, Status> {
    let guard = pb::Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: name(key),
        target_union: Some(compare::TargetUnion::ModRevision(modified)),
        ..Default::default()
    };
    let read = pb::RequestOp { request: Some(Request::RequestRange(range(key, false, false, 0))) };
    let txn = pb::TxnRequest { compare: vec![guard], success: vec![change(key, to)], failure: vec![read] };
    let answer = kv.txn(txn).await?.into_inner();
    let mut found = Vec::new();
    for one in answer.responses {
        if let Some(OpResponse::ResponseRange(range)) = one.response {
            found.extend(range.kvs);
        }
    }
    let pairs =
        found.iter().map(pair).collect::<Result<Vec<_>>>().map_err(|error| Status::data_loss(error.to_string()))?;
    Ok(Answer { revision: revision(answer.header.as_ref())?, wrote: answer.succeeded, pairs })
}

fn change(key: Key, value: Option<Value>) -> pb::RequestOp {
    let request = match value {
        Some(value) => Request::RequestPut(pb::PutRequest { key: name(key), value: text(value), ..Default::default() }),
        None => Request::RequestDeleteRange(pb::DeleteRangeRequest { key: name(key), ..Default::default() }),
    };
    pb::RequestOp { request: Some(request) }
}

fn range(key: Key, all: bool, serializable: bool, revision: i64) -> pb::RangeRequest {
    let (key, range_end) = if all { (PREFIX.to_vec(), PREFIX_END.to_vec()) } else { (name(key).to_vec(), vec![]) };
    pb::RangeRequest { key: key.into(), range_end: range_end.into(), serializable, revision, ..Default::default() }
}

fn pairs(answer: pb::RangeResponse) -> Result<Answer, Status> {
    let pairs = answer.kvs.iter().map(pair).collect::<Result<Vec<_>>>();
    let pairs = pairs.map_err(|error| Status::data_loss(error.to_string()))?;
    Ok(Answer { revision: revision(answer.header.as_ref())?, wrote: false, pairs })
}

fn revision(header: Option<&pb::ResponseHeader>) -> Result<i64, Status> {
    header.map(|header| header.revision).ok_or_else(|| Status::data_loss("an answer without a header"))
}

fn pair(kv: &mvccpb::KeyValue) -> Result<Pair> {
    Ok(Pair {
        key: key_of(&kv.key)?,
        value: value_of(&kv.value)?,
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
    })
}

/// One watcher, which resumes when its stream ends.
struct Watcher {
    shared: Arc<Shared>,
    at: usize,
    key: Option<Key>,
    roams: bool,
    from: i64,
}

impl Watcher {
    async fn listen(mut self) {
        while !self.shared.over.load(Ordering::Relaxed) {
            let id = self.shared.stream_ids.fetch_add(1, Ordering::Relaxed) as usize;
            let kind = if self.roams { "a roaming watcher" } else { "the watcher" };
            let of = self.key.map_or("all keys".to_owned(), |key| format!("key {key}"));
            let place = if self.roams { String::new() } else { format!(" at {}", self.shared.endpoints[self.at]) };
            let stream = Stream {
                name: format!("{kind} of {of}{place} from revision {} on", self.from),
                key: self.key,
                from: self.from,
                wants_before: true,
                compacting: self.shared.compacting.load(Ordering::Relaxed),
                compacted: None,
                responses: vec![],
            };
            self.shared.streams.lock().expect("no panic in a watcher").insert(id, stream);
            // A stream that breaks is part of the test; a broken promise is found in what was written down.
            let _ = self.hear(id).await;
            self.ended(id);
            if self.roams {
                self.at = (self.at + 1) % self.shared.endpoints.len();
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Its stream has ended: where the next one begins.
    fn ended(&mut self, id: usize) {
        let mut streams = self.shared.streams.lock().expect("no panic in a watcher");
        let stream = streams.get_mut(&id).expect("put there before it was heard");
        stream.compacting |= self.shared.compacting.load(Ordering::Relaxed);
        self.from = stream.compacted.unwrap_or(0).max(stream.resumes_at());
        if stream.responses.is_empty() {
            streams.remove(&id);
        }
    }

    async fn hear(&self, id: usize) -> Result<()> {
        let channel = channel(&self.shared.endpoints[self.at])?;
        let (key, range_end) = match self.key {
            Some(key) => (name(key), Default::default()),
            None => (PREFIX.to_vec().into(), PREFIX_END.to_vec().into()),
        };
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.from,
            progress_notify: true,
            prev_kv: true,
            ..Default::default()
        };
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // Asks for progress now and then, and keeps the request stream open.
        let progress =
            pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) };
        let (ask, asked) = tokio::sync::mpsc::channel(4);
        ask.send(create).await?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(asked);
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut answers = tokio::time::timeout(CALL_LIMIT, client.watch(requests)).await??.into_inner();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let leave = tokio::time::Instant::now() + ROAMING;
        loop {
            tokio::select! {
                answer = answers.message() => self.note(id, answer?.context("the stream ended")?)?,
                now = ticks.tick() => {
                    if self.shared.over.load(Ordering::Relaxed) || (self.roams && now > leave) {
                        return Ok(());
                    }
                    if self.shared.asks_progress {
                        let _ = ask.try_send(progress.clone());
                    }
                }
            }
        }
    }

    fn note(&self, id: usize, answer: pb::WatchResponse) -> Result<()> {
        let at = self.shared.now();
        let mut streams = self.shared.streams.lock().expect("no panic in a watcher");
        let stream = streams.get_mut(&id).context("its stream")?;
        if answer.canceled {
            stream.compacted = Some(answer.compact_revision).filter(|revision| *revision > 0);
            anyhow::bail!("canceled");
        }
        // The answer to the creation tells where the store is, not how far the watch is.
        if answer.created {
            return Ok(());
        }
        let revision = answer.header.context("a header")?.revision;
        let events = answer.events.into_iter().map(heard).collect::<Result<Vec<_>>>();
        // What can't be read is a broken promise, and must not pass for a broken stream.
        let events = events.inspect_err(|error| self.shared.broken(format!("{}: {error:#}", stream.name)))?;
        stream.responses.push(Response { at, revision, events });
        Ok(())
    }
}

fn heard(event: mvccpb::Event) -> Result<Heard> {
    let kv = event.kv.context("an event without its pair")?;
    let put = event.r#type == EventType::Put as i32;
    let now = if put { Some(pair(&kv)?) } else { None };
    let before = event.prev_kv.as_ref().map(pair).transpose()?;
    let is_create = put && kv.create_revision == kv.mod_revision;
    Ok(Heard { revision: kv.mod_revision, event: Event { key: key_of(&kv.key)?, now }, before, is_create })
}

/// A connection to one member, made when first used, and made anew when it breaks.
fn channel(endpoint: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?;
    Ok(endpoint.connect_timeout(CALL_LIMIT).tcp_nodelay(true).connect_lazy())
}

fn kv(channel: &Channel) -> KvClient<Channel> {
    KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}
