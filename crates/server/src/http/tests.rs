//! The pages as a client sees them.

use std::sync::Mutex;

use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

/// A member whose state a test chooses.
#[derive(Default)]
struct Member {
    alarms: Mutex<Vec<&'static str>>,
    leaderless: bool,
    sick: bool,
}

impl HealthSource for Member {
    fn alarms(&self) -> Vec<&'static str> {
        self.alarms.lock().unwrap().clone()
    }
    fn has_leader(&self) -> bool {
        !self.leaderless
    }
    fn read(&self, linearizable: bool) -> BoxFuture<'_, Result<(), String>> {
        let failed = self.sick && linearizable;
        Box::pin(async move { if failed { Err("etcdserver: request timed out".into()) } else { Ok(()) } })
    }
    fn cluster_version(&self) -> Option<String> {
        (!self.leaderless).then(|| "3.5.0".into())
    }
    fn raft_status(&self) -> serde_json::Value {
        serde_json::json!({ "id": 1 })
    }
}

fn context(member: Member) -> Context {
    Context {
        gateway: None,
        health: Arc::new(member),
        metrics: Arc::new(Metrics::new(false)),
        cors: Arc::new(["*".to_string()]),
        host_whitelist: Arc::new(["*".to_string()]),
    }
}

async fn ask(context: Context, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, http::HeaderMap, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router(context).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

async fn get(member: Member, path: &str) -> (u16, String) {
    let (status, _, body) = ask(context(member), "GET", path, &[]).await;
    (status, String::from_utf8(body).unwrap())
}

fn page(status: u16, text: &str) -> (u16, String) {
    (status, text.to_string())
}

#[tokio::test]
async fn health_names_the_first_reason() {
    let alarmed = |names: &[&'static str]| Member { alarms: Mutex::new(names.to_vec()), ..Member::default() };
    let leaderless = || Member { leaderless: true, ..Member::default() };
    let sick = || Member { sick: true, ..Member::default() };
    let good = page(200, "{\"health\":\"true\",\"reason\":\"\"}");
    let bad = |reason: &str| page(503, &format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    assert_eq!(get(Member::default(), "/health").await, good);
    assert_eq!(get(alarmed(&["NOSPACE"]), "/health").await, bad("ALARM NOSPACE"));
    assert_eq!(get(alarmed(&["NOSPACE", "CORRUPT"]), "/health?exclude=NOSPACE").await, bad("ALARM CORRUPT"));
    assert_eq!(get(alarmed(&["NOSPACE", "CORRUPT"]), "/health?exclude=NOSPACE&exclude=CORRUPT").await, good);
    assert_eq!(get(leaderless(), "/health").await, bad("RAFT NO LEADER"));
    assert_eq!(get(leaderless(), "/health?serializable=true").await, good);
    assert_eq!(get(sick(), "/health").await, bad("RANGE ERROR:etcdserver: request timed out"));
    assert_eq!(get(sick(), "/health?serializable=true").await, good);
}

#[tokio::test]
async fn named_checks_tell_which_failed() {
    let sick = || Member { sick: true, alarms: Mutex::new(vec!["CORRUPT"]), ..Member::default() };
    assert_eq!(get(Member::default(), "/livez").await, page(200, "ok\n"));
    assert_eq!(get(Member::default(), "/livez?verbose").await, page(200, "[+]serializable_read ok\nok\n"));
    assert_eq!(get(Member::default(), "/readyz/linearizable_read").await, page(200, "ok\n"));
    assert_eq!(get(Member::default(), "/readyz/nothing").await, page(404, "404 page not found\n"));
    let (status, body) = get(sick(), "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
         [-]linearizable_read failed: range error: etcdserver: request timed out\n[+]non_learner ok\n\n"
    );
    assert_eq!(
        get(sick(), "/readyz?exclude=data_corruption&exclude=linearizable_read&exclude=x").await,
        page(200, "ok\n")
    );
}

#[tokio::test]
async fn the_rest_of_the_port_answers_as_etcd_does() {
    let version = format!("{{\"etcdserver\":\"{}\",\"etcdcluster\":\"3.5.0\"}}", crate::VERSION);
    assert_eq!(get(Member::default(), "/version").await, (200, version));
    let undecided = Member { leaderless: true, ..Member::default() };
    assert!(get(undecided, "/version").await.1.ends_with("\"etcdcluster\":\"not_decided\"}"));
    for path in ["/", "/members", "/v2/keys", "/health/", "/v3/kv/range"] {
        assert_eq!(get(Member::default(), path).await, page(404, "404 page not found\n"), "{path}");
    }
    for method in ["HEAD", "POST"] {
        let (status, headers, _) = ask(context(Member::default()), method, "/health", &[]).await;
        assert_eq!((status, headers["allow"].to_str().unwrap()), (405, "GET"));
    }
    let (status, headers, body) = ask(context(Member::default()), "OPTIONS", "/v3/kv/range", &[]).await;
    assert_eq!((status, body.len()), (200, 0));
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["access-control-allow-methods"], "POST, GET, OPTIONS, PUT, DELETE");
    let vars: serde_json::Value = serde_json::from_str(&get(Member::default(), "/debug/vars").await.1).unwrap();
    assert_eq!(vars["raft.status"]["id"], 1);
}

#[tokio::test]
async fn metrics_are_compressed_when_asked() {
    let (_, headers, plain) = ask(context(Member::default()), "GET", "/metrics", &[]).await;
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let asked = [("accept-encoding", "deflate, gzip;q=1.0")];
    let (_, headers, zipped) = ask(context(Member::default()), "GET", "/metrics", &asked).await;
    assert_eq!(headers["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped[..]), &mut text).unwrap();
    assert!(zipped.len() < plain.len() / 4 && text.contains("etcd_server_has_leader 0"));
}

#[tokio::test]
async fn strange_hosts_and_origins_are_kept_out() {
    let closed = || Context {
        cors: Arc::new(["http://a.b".to_string()]),
        host_whitelist: Arc::new(["good.host".to_string()]),
        ..context(Member::default())
    };
    let (status, _, body) = ask(closed(), "GET", "/health", &[("host", "evil.host:2379")]).await;
    assert_eq!(status, 421);
    assert!(String::from_utf8(body).unwrap().contains("- e.g. etcd --host-whitelist \"evil.host\"\n"));
    let (status, headers, _) = ask(closed(), "GET", "/health", &[("host", "good.host:2379")]).await;
    assert_eq!((status, headers.get("access-control-allow-origin")), (200, None));
    let asked = [("host", "good.host"), ("origin", "http://a.b")];
    let (_, headers, _) = ask(closed(), "GET", "/health", &asked).await;
    assert_eq!(headers["access-control-allow-origin"], "http://a.b");
}
