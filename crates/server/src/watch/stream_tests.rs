//! What one client says on a stream and what it hears, word for word.

use std::time::Duration;

use bytes::Bytes;
use eyrie_api::{mvccpb, pb};
use eyrie_state::{Op, Revision};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::fake::{Fake, delete, put};
use super::hub::Bounds;
use super::stream::{WatchSettings, WatchStream};
use super::*;

const SETTINGS: WatchSettings = WatchSettings { progress_interval: Duration::from_secs(600), fragment_bytes: 2 << 20 };

type Requests = ReceiverStream<Result<pb::WatchRequest, Status>>;

/// A client: what it sends, and what it has heard.
struct Talk {
    say: Option<mpsc::Sender<Result<pb::WatchRequest, Status>>>,
    stream: WatchStream<Fake, Requests>,
}

impl Talk {
    fn new(fake: &Fake) -> Self {
        Self::with(fake, SETTINGS)
    }

    fn with(fake: &Fake, settings: WatchSettings) -> Self {
        let (say, requests) = mpsc::channel(1000);
        let stream = WatchStream::new(fake.hub.clone(), fake.clone(), settings, Some(ReceiverStream::new(requests)));
        Self { say: Some(say), stream }
    }

    async fn say(&self, request: pb::watch_request::RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.say.as_ref().unwrap().send(Ok(request)).await.unwrap();
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.say(pb::watch_request::RequestUnion::CreateRequest(request)).await;
        self.hear().await
    }

    async fn cancel(&self, watch_id: i64) {
        self.say(pb::watch_request::RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
    }

    async fn progress(&self) {
        self.say(pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    }

    async fn hear(&mut self) -> pb::WatchResponse {
        let heard = tokio::time::timeout(Duration::from_secs(5), self.stream.next()).await;
        heard.expect("a response").expect("the stream goes on").expect("no error").into_message()
    }

    async fn silence(&mut self) {
        let heard = tokio::time::timeout(Duration::from_millis(30), self.stream.next()).await;
        assert!(heard.is_err(), "unexpected: {heard:?}");
    }
}

fn key(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

fn range(from: &str, to: &'static [u8]) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { range_end: Bytes::from_static(to), ..key(from) }
}

fn revision(response: &pb::WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

/// `P key=value@mod` or `D key@mod`, with `<value` of the pair before.
fn lines(response: &pb::WatchResponse) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let line = |event: &mvccpb::Event| {
        let kv = event.kv.as_ref().unwrap();
        let prev = event.prev_kv.as_ref().map_or(String::new(), |prev| format!("<{}", text(&prev.value)));
        match event.r#type {
            0 => format!("P {}={}@{}{prev}", text(&kv.key), text(&kv.value), kv.mod_revision),
            _ => {
                assert_eq!((kv.version, kv.create_revision, kv.value.len()), (0, 0, 0));
                format!("D {}@{}{prev}", text(&kv.key), kv.mod_revision)
            }
        }
    };
    response.events.iter().map(line).collect()
}

#[tokio::test]
async fn a_watch_without_revision_sees_what_comes_after_its_creation() {
    let fake = Fake::new();
    fake.put("a", "0");
    let mut talk = Talk::new(&fake);
    let created = talk.create(key("a")).await;
    assert_eq!((created.created, created.canceled, created.watch_id, revision(&created)), (true, false, 0, 2));
    assert_eq!(created.header.unwrap().cluster_id, 10);
    talk.silence().await;
    fake.put("b", "x");
    fake.put("a", "1");
    let heard = talk.hear().await;
    assert_eq!((heard.watch_id, revision(&heard), heard.created), (0, 4, false));
    assert_eq!(lines(&heard), ["P a=1@4"]);
    fake.delete("a");
    assert_eq!(lines(&talk.hear().await), ["D a@5"]);
    talk.silence().await;
}

#[tokio::test]
async fn history_comes_first_and_the_present_follows() {
    let fake = Fake::new();
    for n in 0..5 {
        fake.put("a", &n.to_string());
    }
    let mut talk = Talk::new(&fake);
    let created = talk.create(pb::WatchCreateRequest { start_revision: 4, ..key("a") }).await;
    assert_eq!(revision(&created), 6);
    let heard = talk.hear().await;
    assert_eq!(revision(&heard), 6);
    assert_eq!(lines(&heard), ["P a=2@4", "P a=3@5", "P a=4@6"]);
    fake.put("a", "5");
    assert_eq!(lines(&talk.hear().await), ["P a=5@7"]);
}

#[tokio::test]
async fn long_history_comes_in_pieces_of_at_most_a_thousand_revisions() {
    let fake = Fake::new();
    for n in 0..2500 {
        fake.txn(vec![Op::Put(put("a", &n.to_string())), Op::Put(put("b", &n.to_string()))]);
    }
    let mut talk = Talk::new(&fake);
    talk.create(pb::WatchCreateRequest { start_revision: 1, ..range("a", b"c") }).await;
    let mut next = 2;
    while next < 2502 {
        let heard = talk.hear().await;
        assert!(heard.events.len() <= 2000 && heard.events.len() % 2 == 0, "{}", heard.events.len());
        for pair in heard.events.chunks(2) {
            assert!(pair.iter().all(|event| event.kv.as_ref().unwrap().mod_revision == next));
            next += 1;
        }
    }
    talk.silence().await;
}

#[tokio::test]
async fn ids_are_given_taken_refused_and_used_again() {
    let fake = Fake::new();
    let mut talk = Talk::new(&fake);
    assert_eq!(talk.create(key("a")).await.watch_id, 0);
    assert_eq!(talk.create(pb::WatchCreateRequest { watch_id: 1, ..key("a") }).await.watch_id, 1);
    assert_eq!(talk.create(key("a")).await.watch_id, 2);
    assert_eq!(talk.create(pb::WatchCreateRequest { watch_id: -7, ..key("a") }).await.watch_id, -7);
    let twice = talk.create(pb::WatchCreateRequest { watch_id: 1, ..key("b") }).await;
    assert_eq!((twice.watch_id, twice.created, twice.canceled), (-1, true, true));
    assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    talk.cancel(1).await;
    let canceled = talk.hear().await;
    assert_eq!((canceled.watch_id, canceled.created, canceled.canceled), (1, false, true));
    assert_eq!((canceled.cancel_reason.as_str(), revision(&canceled)), ("", 1));
    talk.cancel(1).await;
    talk.cancel(99).await;
    talk.silence().await;
    assert_eq!(talk.create(pb::WatchCreateRequest { watch_id: 1, ..key("b") }).await.watch_id, 1);
    fake.put("b", "x");
    assert_eq!(talk.hear().await.watch_id, 1);
    talk.silence().await;
}

#[tokio::test]
async fn ranges_have_etcds_forms() {
    let fake = Fake::new();
    let mut talk = Talk::new(&fake);
    for (request, watch_id) in [(range("b", b"a"), -1), (range("b", b"b"), -1), (range("b", b"\0"), 0), (key(""), 1)] {
        let created = talk.create(request).await;
        assert_eq!(created.watch_id, watch_id);
        assert_eq!(created.canceled, watch_id == -1);
        let reason = if watch_id == -1 { "mvcc: watcher range is empty" } else { "" };
        assert_eq!(created.cancel_reason, reason);
    }
    assert_eq!(talk.create(range("", b"\0")).await.watch_id, 2);
    fake.put("a", "x");
    assert_eq!(talk.hear().await.watch_id, 2);
    fake.put("z", "x");
    let mut heard = [talk.hear().await.watch_id, talk.hear().await.watch_id];
    heard.sort_unstable();
    assert_eq!(heard, [0, 2]);
    talk.silence().await;
}

#[tokio::test]
async fn compacted_negative_and_future_starts() {
    let fake = Fake::new();
    for n in 0..8 {
        fake.put("a", &n.to_string());
    }
    fake.compact(Revision(5));
    let mut talk = Talk::new(&fake);
    let negative = talk.create(pb::WatchCreateRequest { start_revision: -1, ..key("a") }).await;
    assert_eq!((negative.watch_id, negative.created, negative.canceled), (-1, true, true));
    assert_eq!(negative.cancel_reason, "etcdserver: mvcc: required revision has been compacted");

    let created = talk.create(pb::WatchCreateRequest { start_revision: 4, ..key("a") }).await;
    assert_eq!((created.created, created.canceled, created.watch_id), (true, false, 0));
    let gone = talk.hear().await;
    assert_eq!((gone.created, gone.canceled, gone.watch_id, gone.compact_revision), (false, true, 0, 5));
    assert_eq!((revision(&gone), gone.cancel_reason.as_str(), gone.events.len()), (0, "", 0));

    talk.create(pb::WatchCreateRequest { start_revision: 5, ..key("a") }).await;
    assert_eq!(lines(&talk.hear().await)[0], "P a=3@5");

    let mut talk = Talk::new(&fake);
    talk.create(pb::WatchCreateRequest { start_revision: 12, ..key("a") }).await;
    fake.put("a", "10");
    fake.put("a", "11");
    talk.silence().await;
    fake.put("a", "12");
    assert_eq!(lines(&talk.hear().await), ["P a=12@12"]);
}

#[tokio::test]
async fn previous_pairs_come_when_asked_and_not_compacted() {
    let fake = Fake::new();
    fake.put("a", "1");
    let mut live = Talk::new(&fake);
    live.create(pb::WatchCreateRequest { prev_kv: true, ..key("a") }).await;
    fake.put("a", "2");
    fake.delete("a");
    fake.put("a", "3");
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(lines(&live.hear().await));
    }
    assert_eq!(heard, ["P a=2@3<1", "D a@4<2", "P a=3@5"]);

    fake.compact(Revision(4));
    fake.put("a", "4");
    let mut late = Talk::new(&fake);
    late.create(pb::WatchCreateRequest { prev_kv: true, start_revision: 4, ..key("a") }).await;
    assert_eq!(lines(&late.hear().await), ["D a@4", "P a=3@5", "P a=4@6<3"]);
}

#[tokio::test]
async fn filters_hide_events_and_empty_responses() {
    let fake = Fake::new();
    let mut talk = Talk::new(&fake);
    talk.create(pb::WatchCreateRequest { filters: vec![0, 7], ..key("a") }).await;
    talk.create(pb::WatchCreateRequest { filters: vec![1], ..key("a") }).await;
    talk.create(pb::WatchCreateRequest { filters: vec![0, 1], ..key("a") }).await;
    fake.put("a", "1");
    let heard = talk.hear().await;
    assert_eq!((heard.watch_id, lines(&heard)), (1, vec!["P a=1@2".to_owned()]));
    talk.silence().await;
    fake.delete("a");
    let heard = talk.hear().await;
    assert_eq!((heard.watch_id, lines(&heard)), (0, vec!["D a@3".to_owned()]));
    talk.silence().await;
    let mut late = Talk::new(&fake);
    late.create(pb::WatchCreateRequest { filters: vec![0], start_revision: 1, ..key("a") }).await;
    assert_eq!(lines(&late.hear().await), ["D a@3"]);
}

#[tokio::test]
async fn a_revision_is_one_response_in_the_order_of_operations() {
    let fake = Fake::new();
    fake.put("c", "0");
    let mut talk = Talk::new(&fake);
    talk.create(range("a", b"z")).await;
    let ops = vec![Op::Put(put("b", "1")), Op::DeleteRange(delete("c")), Op::Put(put("a", "2"))];
    fake.txn(ops);
    assert_eq!(lines(&talk.hear().await), ["P b=1@3", "D c@3", "P a=2@3"]);
    let mut late = Talk::new(&fake);
    late.create(pb::WatchCreateRequest { start_revision: 3, ..range("a", b"z") }).await;
    assert_eq!(lines(&late.hear().await), ["P b=1@3", "D c@3", "P a=2@3"]);
}

#[tokio::test]
async fn fragments_only_when_asked() {
    let fake = Fake::new();
    let settings = WatchSettings { fragment_bytes: 1000, ..SETTINGS };
    let mut talk = Talk::with(&fake, settings);
    talk.create(pb::WatchCreateRequest { fragment: true, ..range("a", b"b") }).await;
    talk.create(range("a", b"b")).await;
    let value = "v".repeat(400);
    fake.txn((0..5).map(|n| Op::Put(put(&format!("a{n}"), &value))).collect());
    let mut parts = Vec::new();
    let mut whole = 0;
    for _ in 0..4 {
        let heard = talk.hear().await;
        match heard.watch_id {
            0 => parts.push((heard.events.len(), heard.fragment)),
            _ => whole = heard.events.len(),
        }
    }
    assert_eq!(parts, [(2, true), (2, true), (1, false)]);
    assert_eq!(whole, 5);
}

#[tokio::test]
async fn progress_is_told_on_request_when_all_are_synced() {
    let fake = Fake::new();
    fake.put("a", "1");
    let mut talk = Talk::new(&fake);
    talk.progress().await;
    talk.silence().await;
    talk.create(key("a")).await;
    talk.create(key("b")).await;
    fake.put("x", "1");
    talk.progress().await;
    let heard = talk.hear().await;
    assert_eq!((heard.watch_id, revision(&heard), heard.events.len()), (-1, 3, 0));

    // What is already there goes first.
    fake.put("a", "2");
    fake.put("b", "2");
    talk.progress().await;
    let heard = [talk.hear().await, talk.hear().await, talk.hear().await];
    assert_eq!((heard[2].watch_id, revision(&heard[2])), (-1, 5));
    assert!(heard[..2].iter().all(|response| response.events.len() == 1));

    talk.create(pb::WatchCreateRequest { start_revision: 50, ..key("a") }).await;
    talk.progress().await;
    talk.silence().await;
}

#[tokio::test]
async fn progress_is_notified_to_whoever_heard_nothing() {
    let fake = Fake::new();
    let settings = WatchSettings { progress_interval: Duration::from_millis(100), ..SETTINGS };
    let mut talk = Talk::with(&fake, settings);
    talk.create(pb::WatchCreateRequest { progress_notify: true, ..key("a") }).await;
    talk.create(pb::WatchCreateRequest { progress_notify: true, ..key("b") }).await;
    talk.create(key("c")).await;
    fake.put("a", "1");
    assert_eq!(lines(&talk.hear().await), ["P a=1@2"]);
    let first = talk.hear().await;
    assert_eq!((first.watch_id, revision(&first), first.events.len()), (1, 2, 0));
    let mut then = [talk.hear().await, talk.hear().await].map(|heard| (heard.watch_id, revision(&heard)));
    then.sort_unstable();
    assert_eq!(then, [(0, 2), (1, 2)]);
}

#[tokio::test]
async fn a_client_that_has_no_more_to_say_goes_on_listening() {
    let fake = Fake::new();
    let mut talk = Talk::new(&fake);
    talk.create(key("a")).await;
    talk.say = None;
    talk.silence().await;
    fake.put("a", "1");
    assert_eq!(lines(&talk.hear().await), ["P a=1@2"]);
}

#[tokio::test]
async fn a_stopping_member_says_so_and_forgets_everybody() {
    let fake = Fake::new();
    let mut talk = Talk::new(&fake);
    talk.create(key("a")).await;
    talk.create(pb::WatchCreateRequest { start_revision: 1, ..key("b") }).await;
    talk.silence().await;
    let stats = fake.hub.stats().clone();
    let count = |gauge: &std::sync::atomic::AtomicU64| gauge.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&stats.watchers), count(&stats.streams)), (2, 1));
    let stopped = tokio::spawn(async move { (talk.stream.next().await, talk.stream.next().await) });
    tokio::time::sleep(Duration::from_millis(10)).await;
    fake.hub.stop();
    let (last, end) = stopped.await.unwrap();
    let status = last.unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Cancelled, "etcdserver: watch canceled"));
    assert!(end.is_none());
    assert_eq!((count(&stats.watchers), count(&stats.streams), count(&stats.slow_watchers)), (0, 0, 0));
}

#[tokio::test]
async fn a_slow_reader_falls_off_the_trail_and_misses_nothing() {
    let fake = Fake::with_bounds(Bounds { bytes: 2000, revisions: 10 });
    let mut talk = Talk::new(&fake);
    talk.create(range("a", b"b")).await;
    for n in 0..300 {
        fake.put("a", &n.to_string());
    }
    let held = fake.hub.stats().pending_revisions.load(std::sync::atomic::Ordering::Relaxed);
    assert!(held <= 10, "{held}");
    let mut heard = Vec::new();
    while heard.len() < 300 {
        heard.extend(lines(&talk.hear().await));
    }
    assert!(heard.iter().enumerate().all(|(n, line)| *line == format!("P a={n}@{}", n + 2)));
    talk.silence().await;
    let held = fake.hub.stats().pending_revisions.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(held, 0, "what all have seen is forgotten");
}

/// A watcher that slept through a million foreign revisions has missed nothing, wherever history begins now.
#[tokio::test]
async fn a_long_sleep_is_no_gap() {
    let fake = Fake::with_bounds(Bounds { bytes: 1 << 20, revisions: 2 });
    let mut talk = Talk::new(&fake);
    talk.create(key("a")).await;
    talk.silence().await;
    for n in 0..50 {
        fake.put("other", &n.to_string());
    }
    fake.compact(fake.revision_now());
    // Called, and pushed off the trail before it could pull.
    for n in 0..10 {
        fake.put("a", &n.to_string());
    }
    let mut heard = Vec::new();
    while heard.len() < 10 {
        let response = talk.hear().await;
        assert!(!response.canceled, "{response:?}");
        heard.extend(lines(&response));
    }
    assert_eq!(heard[0], "P a=0@52");
}

/// Over a real connection, as clients see it.
#[tokio::test]
async fn a_client_on_the_network_watches() {
    let fake = Fake::new();
    let service = WatchService::new(fake.hub.clone(), fake.clone(), SETTINGS);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let mut client = pb::watch_client::WatchClient::new(channel);
    let (say, requests) = mpsc::channel(10);
    let request = pb::watch_request::RequestUnion::CreateRequest(range("a", b"b"));
    say.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    let mut responses = client.watch(ReceiverStream::new(requests)).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    drop(say);
    let mut heard = Vec::new();
    for n in 0..100 {
        fake.put("a", &n.to_string());
    }
    while heard.len() < 100 {
        heard.extend(lines(&responses.message().await.unwrap().unwrap()));
    }
    assert!(heard.iter().enumerate().all(|(n, line)| *line == format!("P a={n}@{}", n + 2)));
    drop(responses);
    let watchers = &fake.hub.stats().watchers;
    for _ in 0..200 {
        if watchers.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(watchers.load(std::sync::atomic::Ordering::Relaxed), 0, "a client that left is forgotten");
    server.abort();
}
