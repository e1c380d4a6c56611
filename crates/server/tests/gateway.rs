//! The JSON gateway beside upstream's: each stands before a fresh upstream etcd, both get the same requests, and must
//! answer alike: status, headers and body.
//!
//! Upstream's binary is looked for in `$EYRIE_PEERS/etcd` or `target/peers/etcd`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eyrie_server::http::{BoxFuture, Context, HealthSource, grpc_service, router};
use eyrie_server::metrics::Metrics;

/// What a request is, and how long its answer may take to come (a watch never ends by itself).
struct Step(&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const fn post(path: &'static str, body: &'static str) -> Step {
    Step("POST", path, body, &[])
}

/// Every path, every kind of field, every way to be wrong that was thought of.
const SCRIPT: &[Step] = &[
    // keys
    post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#),
    post("/v3/kv/put", r#"{"key":"Zm9vMg==","value":""}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","rangeEnd":"Zm9w","sortOrder":"DESCEND","sort_target":"KEY","limit":1}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","range_end":"Zm9w","count_only":true}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","keys_only":true,"serializable":true}"#),
    post("/v3beta/kv/range?x=1", r#"{"key":"Zm9v"}"#),
    post(
        "/v3/kv/txn",
        r#"{"compare":[{"key":"Zm9v","result":"GREATER","target":"CREATE","create_revision":"0"}],
            "success":[{"request_put":{"key":"YQ==","value":"MQ=="}},{"requestRange":{"key":"Zm9v"}},
                       {"request_txn":{"success":[{"request_range":{"key":"YQ=="}}]}},
                       {"request_delete_range":{"key":"YQ==","prev_kv":true}}]}"#,
    ),
    post("/v3/kv/txn", r#"{"success":[{}]}"#),
    post("/v3/kv/txn", r#"{"success":null}"#),
    post("/v3/kv/txn", r#"{"success":{}}"#),
    post("/v3/kv/txn", r#"{"compare":[null]}"#),
    // what is no request
    post("/v3/kv/range", ""),
    post("/v3/kv/range", "{}"),
    post("/v3/kv/range", "null"),
    post("/v3/kv/range", "[]"),
    post("/v3/kv/range", r#""x""#),
    post("/v3/kv/range", r#"{"key":"Zm9v""#),
    post("/v3/kv/range", r#"{"key":"Zm9v"} {"key":"YQ=="}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v"} x"#),
    post("/v3/kv/range", r#"{"key":"Zm9"}"#),
    post("/v3/kv/range", r#"{"key":"Zm_-"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v=="}"#),
    post("/v3/kv/range", r#"{"key":"Zm\n9v"}"#),
    post("/v3/kv/range", r#"{"key":"Zg=x"}"#),
    post("/v3/kv/range", r#"{"key":"Zg="}"#),
    post("/v3/kv/range", r#"{"key":5}"#),
    post("/v3/kv/range", r#"{"key":["YQ=="]}"#),
    post("/v3/kv/range", r#"{"key":[102,111,111,null]}"#),
    post("/v3/kv/range", r#"{"key":[256]}"#),
    post("/v3/kv/range", r#"{"key":{"a":1}}"#),
    post("/v3/kv/range", r#"{"key":true}"#),
    post("/v3/kv/range", r#"{"key":null,"limit":null}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":"abc"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":"1x"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":""}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":"null"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":" 1 "}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":1.5}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":1e2}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":9223372036854775808}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","limit":true}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","count_only":"true"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","count_only":1}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","sort_order":"FOO"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","sort_order":"\"A"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","sort_order":1,"unknown":{"a":[1]}}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","sort_order":99999999999}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","sort_order":{}}"#),
    post("/v3/kv/range", r#"{"key":"YQ==","key":"Zm9v"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","rangeEnd":"Zm9w","range_end":"AA=="}"#),
    post("/v3/kv/range", r#"{key:1}"#),
    post("/v3/kv/range", r#"{"key" 1}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v" "limit":1}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v",}"#),
    post("/v3/kv/range", r#"{"key":nul}"#),
    post("/v3/kv/range", r#"{"limit":-}"#),
    post("/v3/kv/range", r#"{"key":"\q"}"#),
    post("/v3/kv/range", "{\"key\":\"a\nb\"}"),
    post("/v3/kv/range", r#"{"key":"Zm9v","revision":"999999"}"#),
    post("/v3/kv/put", r#"{"key":"Zm9v","lease":"-1"}"#),
    post("/v3/kv/put", r#"{"key":"Zm9v","ignore_value":true,"value":"YQ=="}"#),
    // what is no path or method
    post("/v3/kv/nope", "{}"),
    post("/v3/kv/range/", "{}"),
    post("/v3", "{}"),
    post("/v3/", "{}"),
    post("/v3alpha/kv/range", "{}"),
    Step("GET", "/v3/kv/range", "", &[]),
    Step("PUT", "/v3/kv/range", "{}", &[]),
    Step("GET", "/v3/nope", "", &[]),
    Step("OPTIONS", "/v3/kv/range", "", &[]),
    // leases
    post("/v3/lease/grant", r#"{"TTL":100,"ID":77}"#),
    post("/v3/lease/grant", r#"{"TTL":100,"ID":77}"#),
    post("/v3/lease/timetolive", r#"{"ID":"77","keys":true}"#),
    post("/v3/kv/lease/timetolive", r#"{"ID":78}"#),
    post("/v3/lease/leases", ""),
    post("/v3/kv/lease/leases", "{}"),
    post("/v3/lease/keepalive", r#"{"ID":77}{"ID":78}"#),
    post("/v3/lease/keepalive", r#"{"ID":77} x"#),
    post("/v3/lease/keepalive", ""),
    post("/v3/lease/keepalive", r#"{"ID":"x"}"#),
    post("/v3/kv/lease/revoke", r#"{"ID":77}"#),
    post("/v3/lease/revoke", r#"{"ID":77}"#),
    // watches
    post("/v3/watch", r#"{"create_request":{"key":"Zm9v","start_revision":1}}"#),
    post("/v3/watch", r#"{"create_request":{"key":"Zm9vMg==","prev_kv":true,"filters":["NOPUT"]}}"#),
    post("/v3/watch", r#"{"create_request":{"key":"Zm9v"}}{"cancel_request":{"watch_id":0}}"#),
    post("/v3/watch", r#"{"progress_request":{}}"#),
    post("/v3/watch", r#"{"create_request":{"key":"Zm9v"}} x"#),
    post("/v3/watch", r#"{"create_request":{"key":"Zm9v=="}}"#),
    Step("POST", "/v3/watch", r#"{"create_request":{"key":"Zm9v"}}"#, &[("Grpc-Timeout", "300m")]),
    // the rest
    post("/v3/cluster/member/list", "{}"),
    post("/v3/cluster/member/list", r#"{"linearizable":true}"#),
    post("/v3/cluster/member/remove", r#"{"ID":"5"}"#),
    post("/v3/maintenance/status", "{}"),
    post("/v3/maintenance/alarm", "{}"),
    post("/v3/maintenance/alarm", r#"{"action":"ACTIVATE","alarm":"NOSPACE"}"#),
    post("/v3/maintenance/alarm", r#"{"action":"GET","alarm":"NOSPACE"}"#),
    post("/v3/maintenance/alarm", r#"{"action":"DEACTIVATE","alarm":"NOSPACE"}"#),
    post("/v3/maintenance/defragment", "{}"),
    post("/v3/maintenance/transfer-leadership", r#"{"targetID":1}"#),
    post("/v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"3.5"}"#),
    post("/v3/maintenance/downgrade", r#"{"action":"validate","version":"3.5"}"#),
    post("/v3/maintenance/snapshot", r#"{"x"#),
    post("/v3/auth/status", "{}"),
    post("/v3/auth/enable", "{}"),
    post("/v3/auth/authenticate", r#"{"name":"a","password":"b"}"#),
    post("/v3/auth/user/add", r#"{"name":"<a>&\u2028\u00e9","password":"b"}"#),
    post("/v3/auth/user/list", "{}"),
    post("/v3/auth/user/get", r#"{"name":5}"#),
    post("/v3/auth/user/delete", r#"{"name":"<a>&\u2028\u00e9"}"#),
    post("/v3/auth/role/add", r#"{"name":"r"}"#),
    post("/v3/auth/role/grant", r#"{"name":"r","perm":{"permType":"READWRITE","key":"Zm9v","range_end":"AA=="}}"#),
    post("/v3/auth/role/get", r#"{"role":"r"}"#),
    post("/v3/auth/role/delete", r#"{"role":"r"}"#),
    post("/v3/election/proclaim", "{}"),
    post("/v3/election/leader", r#"{"name":"bm9uZQ=="}"#),
    post("/v3/lock/unlock", r#"{"key":"bQ=="}"#),
    Step("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, &[("Authorization", "Bearer x")]),
    Step("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, &[("Grpc-Metadata-Token", "x")]),
    Step("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, &[("Grpc-Timeout", "1n")]),
    Step("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, &[("Grpc-Timeout", "1q")]),
    Step("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, &[("Grpc-Metadata-Hasleader", "true")]),
    Step("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, &[("Content-Type", "application/x-www-form-urlencoded")]),
    post("/v3/kv/deleterange", r#"{"key":"AA==","range_end":"AA==","prev_kv":true}"#),
    // other pages of the port
    Step("GET", "/health", "", &[]),
    Step("GET", "/health?serializable=true&exclude=NOSPACE", "", &[]),
    Step("HEAD", "/health", "", &[]),
    Step("POST", "/version", "", &[]),
    Step("GET", "/health/", "", &[]),
    Step("GET", "/", "", &[]),
    Step("GET", "/v2/keys", "", &[]),
];

#[tokio::test]
async fn the_gateway_answers_as_upstreams_does() {
    let (upstream, behind) = (Upstream::start(), Upstream::start());
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", behind.client)).unwrap();
    let ours = serve(grpc_service(channel.connect_lazy())).await;
    let theirs = upstream.client;
    let differences = tokio::task::spawn_blocking(move || {
        let mut differences = Vec::new();
        for step in SCRIPT {
            let (expected, found) = (ask(theirs, step), ask(ours, step));
            if found != expected {
                let Step(method, path, body, _) = step;
                differences.push(format!("{method} {path} {body}\nupstream: {expected}\nhere:     {found}\n"));
            }
        }
        differences
    });
    let differences = differences.await.unwrap();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test]
async fn a_snapshot_comes_through_whole() {
    let upstream = Upstream::start();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", upstream.client)).unwrap();
    let ours = serve(grpc_service(channel.connect_lazy())).await;
    let step = post("/v3/maintenance/snapshot", "{}");
    let (theirs, here) =
        tokio::task::spawn_blocking(move || (ask(upstream.client, &step), ask(ours, &step))).await.unwrap();
    assert!(theirs.len() > 20_000, "{theirs}");
    assert_eq!(theirs.len(), here.len());
}

async fn serve(gateway: eyrie_server::http::GrpcService) -> SocketAddr {
    let context = Context {
        gateway: Some(gateway),
        health: Arc::new(Healthy),
        metrics: Arc::new(Metrics::new(false)),
        cors: Arc::new(["*".to_string()]),
        host_whitelist: Arc::new(["*".to_string()]),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(context)).await });
    address
}

struct Healthy;

impl HealthSource for Healthy {
    fn alarms(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn has_leader(&self) -> bool {
        true
    }
    fn read(&self, _linearizable: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
    fn cluster_version(&self) -> Option<String> {
        Some("3.5.0".into())
    }
    fn raft_status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// Sends one request on a connection of its own and returns the answer in a form that can be compared.
fn ask(address: SocketAddr, step: &Step) -> String {
    let Step(method, path, body, headers) = step;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in *headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Connection: close\r\n\r\n{body}"));
    let Ok(mut stream) = TcpStream::connect(address) else { return "no connection".into() };
    stream.write_all(request.as_bytes()).unwrap();
    // Watches are cut off after this long; everything else ends by itself long before.
    let patience = if path.starts_with("/v3/watch") { 600 } else { 5000 };
    let end = Instant::now() + Duration::from_millis(patience);
    let mut answer = Vec::new();
    let mut buffer = [0; 16384];
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
        }
    }
    comparable(&answer)
}

/// Status line, headers in order of name without the date, body without chunks, and every quoted number or
/// address as `"N"`.
fn comparable(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return format!("no answer: {text}") };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default().to_string();
    let mut headers: Vec<String> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| format!("{}: {v}", k.to_lowercase())).collect();
    headers.retain(|line| !line.starts_with("date: "));
    headers.sort();
    let chunked = headers.iter().any(|line| line == "transfer-encoding: chunked");
    let body = if chunked { without_chunks(body) } else { body.to_string() };
    // The length depends on how many digits the revisions have by now.
    let headers: Vec<_> = headers.iter().filter(|line| !line.starts_with("content-length")).cloned().collect();
    format!("{status} | {} | {}", headers.join(", "), without_numbers(&body))
}

fn without_chunks(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 {
            break;
        }
        out.push_str(&rest[..size.min(rest.len())]);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

fn without_numbers(body: &str) -> String {
    let parts = body.split('"').map(|part| {
        let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if number || part.starts_with("http://127.0.0.1:") { "N" } else { part }
    });
    // Upstream answers a watch whose time is up with either code: two of its threads notice, and the first wins.
    let (rare, usual) = ([2, 500], [4, 504]);
    let line = |[grpc, http]: [u16; 2], reason: &str| {
        format!(
            "\"grpc_code\":{grpc},\"http_code\":{http},\"message\":\"context deadline exceeded\",\"http_status\":\"{reason}\""
        )
    };
    let text = parts.collect::<Vec<_>>().join("\"");
    text.replace(&line(rare, "Internal Server Error"), &line(usual, "Gateway Timeout"))
}

/// A running upstream etcd, ended with the test.
struct Upstream {
    child: Child,
    client: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Upstream {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (client, peer) = (port(), port());
        let mut child = Command::new(binary())
            .args(["--name", "default", "--data-dir"])
            .arg(dir.path().join("data"))
            .args([
                &format!("--listen-client-urls=http://{client}"),
                &format!("--advertise-client-urls=http://{client}"),
            ])
            .args([
                &format!("--listen-peer-urls=http://{peer}"),
                &format!("--initial-advertise-peer-urls=http://{peer}"),
            ])
            .arg(format!("--initial-cluster=default=http://{peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while !ask(client, &Step("GET", "/health", "", &[])).contains("true") {
            assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "upstream etcd did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, client, _dir: dir }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    let peers = std::env::var_os("EYRIE_PEERS").map(PathBuf::from);
    let peers = peers.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"));
    let binary = peers.join("etcd/etcd");
    assert!(
        binary.exists(),
        "no upstream etcd at {}: run `cargo run -p eyrie-tests --bin fetch-peers`",
        binary.display()
    );
    binary
}
