//! Asks the members and looks at this machine. Changes nothing; a member that does not answer is an observation too.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eyrie_api::client::{Address, CallError, Client, Config, Deadline, Page, Repeat, page};
use eyrie_api::etcdserverpb::alarm_request::AlarmAction;
use eyrie_api::etcdserverpb::cluster_client::ClusterClient;
use eyrie_api::etcdserverpb::kv_client::KvClient;
use eyrie_api::etcdserverpb::maintenance_client::MaintenanceClient;
use eyrie_api::etcdserverpb::{AlarmRequest, AlarmType, Member, MemberListRequest, RangeRequest, StatusRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::observe::{Answer, Listed, Local, Metrics, Milvus, Observations, Seen};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Members that are asked at most.
const MEMBERS_MAX: usize = 32;

/// Looks at the members behind the configuration's endpoints, and with `all` at those that the cluster lists instead.
pub(super) async fn observe(mut config: Config, all: bool, root: &str) -> Observations {
    let mut seen = Observations { now_secs: now().as_secs() as i64, ..Observations::default() };
    seen.machine = (std::thread::available_parallelism().map_or(0, usize::from), memory_bytes());
    let told = match Client::new(config.clone()).await {
        Ok(client) => first_told(&client).await,
        Err(_) => None,
    };
    let (client, listed) = told.unzip();
    let urls: Vec<String> = listed.iter().flatten().filter_map(|member| member.client_ur_ls.first().cloned()).collect();
    if all && !urls.is_empty() {
        config.endpoints = urls.into_iter().map(Address::new).collect();
    }
    config.endpoints.truncate(MEMBERS_MAX);
    seen.here = stores_here(&config.endpoints);
    seen.listed = listed.iter().flatten().map(as_listed).collect();
    let of_cluster = async {
        match &client {
            Some(client) => tokio::join!(alarms(client), milvus(client, root)),
            None => (Vec::new(), None),
        }
    };
    ((seen.alarms, seen.milvus), seen.members) = tokio::join!(of_cluster, members(&config));
    seen
}

/// Asks all members at once; their order stays.
async fn members(config: &Config) -> Vec<Seen> {
    let mut asked = JoinSet::new();
    for (place, endpoint) in config.endpoints.iter().enumerate() {
        let config = Config { endpoints: vec![endpoint.clone()], ..config.clone() };
        asked.spawn(async move { (place, member(config).await) });
    }
    let mut members = asked.join_all().await;
    members.sort_by_key(|(place, _)| *place);
    members.into_iter().map(|(_, member)| member).collect()
}

fn deadline() -> Deadline {
    Some(Instant::now() + LIMIT)
}

/// A client of the endpoint that first tells the members, and what it tells; one that only hangs keeps nobody waiting.
async fn first_told(client: &Client) -> Option<(Client, Vec<Member>)> {
    let mut asked = JoinSet::new();
    for endpoint in client.endpoints() {
        let one = client.to_endpoint(endpoint.clone());
        asked.spawn(async move { members_listed(&one).await.map(|members| (one, members)) });
    }
    while let Some(told) = asked.join_next().await {
        if let Ok(Some(told)) = told {
            return Some(told);
        }
    }
    None
}

/// The members that the cluster knows of; `None` when the client's endpoint does not say.
async fn members_listed(client: &Client) -> Option<Vec<Member>> {
    let request = MemberListRequest { linearizable: false };
    let listed = client.call(deadline(), Repeat::Read, request, |channel, request| async move {
        ClusterClient::new(channel).member_list(request).await
    });
    listed.await.ok().map(|listed| listed.members)
}

fn as_listed(member: &Member) -> Listed {
    let url = member.peer_ur_ls.first().map(Address::new);
    let host = url.as_ref().and_then(|url| url.host_port().ok()).map(|(host, _)| host.to_owned());
    Listed {
        member: member.id,
        name: if member.name.is_empty() { format!("{:x}", member.id) } else { member.name.clone() },
        host: host.unwrap_or_default(),
        learner: member.is_learner,
    }
}

/// Alarms that are on: member and kind.
async fn alarms(client: &Client) -> Vec<(u64, String)> {
    let request = AlarmRequest { action: AlarmAction::Get.into(), member_id: 0, alarm: AlarmType::None.into() };
    let alarms = client.call(deadline(), Repeat::Read, request, |channel, request| async move {
        MaintenanceClient::new(channel).alarm(request).await
    });
    let kind = |alarm| AlarmType::try_from(alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name()).to_owned();
    let alarms = alarms.await.map(|alarms| alarms.alarms).unwrap_or_default();
    alarms.into_iter().map(|alarm| (alarm.member_id, kind(alarm.alarm))).collect()
}

/// Counts what Milvus keeps below its root path.
async fn milvus(client: &Client, root: &str) -> Option<Milvus> {
    let collections = count(client, &format!("{root}/meta/root-coord/database/collection-info/")).await?;
    let older = count(client, &format!("{root}/meta/root-coord/collection/")).await?;
    let segments = count(client, &format!("{root}/meta/datacoord-meta/s/")).await?;
    let milvus = Milvus { collections: collections + older, segments };
    (milvus != Milvus::default()).then_some(milvus)
}

/// How many keys begin so; the prefix ends with a slash.
async fn count(client: &Client, prefix: &str) -> Option<i64> {
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let request = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end.into(),
        count_only: true,
        serializable: true,
        ..RangeRequest::default()
    };
    let reply = client.call(deadline(), Repeat::Read, request, |channel, request| async move {
        KvClient::new(channel).range(request).await
    });
    reply.await.ok().map(|reply| reply.count)
}

async fn member(config: Config) -> Seen {
    let endpoint = config.endpoints[0].clone();
    let (tls, local) = (config.tls.clone(), is_local(&endpoint));
    let (answer, got) = tokio::join!(status(config), page(&endpoint, &tls, "/metrics", LIMIT));
    let received = now();
    let certificate = got.as_ref().ok().and_then(|page| page.certificate.clone());
    let date = got.as_ref().ok().and_then(|page| page.date.as_deref()).and_then(http_date);
    Seen {
        endpoint: endpoint.typed().to_owned(),
        local,
        encrypted: certificate.is_some() || endpoint.is_secure(),
        answer,
        // A date names a whole second: its middle is the best guess.
        clock_ahead_secs: date.map(|secs| secs as f64 + 0.5 - received.as_secs_f64()),
        certificate_ends: certificate.as_deref().and_then(ends),
        metrics: got.map_err(|why| unwrapped(&why).to_owned()).and_then(metrics),
    }
}

async fn status(config: Config) -> Result<Answer, String> {
    let client = Client::new(config).await.map_err(|error| plain(&error))?;
    // The first answer pays for the connection, the second shows how fast the member is.
    ask(&client).await?;
    let begun = Instant::now();
    let answer = ask(&client).await?;
    Ok(Answer { took: begun.elapsed(), ..answer })
}

/// Why a call failed, without gRPC's wrapping.
fn plain(error: &CallError) -> String {
    match error {
        CallError::Deadline(None) => format!("no answer within {} seconds", LIMIT.as_secs()),
        CallError::Deadline(Some(trouble)) | CallError::Broken(trouble) => unwrapped(trouble).to_owned(),
        CallError::Status(_) | CallError::Local(_) => error.message().to_owned(),
    }
}

fn unwrapped(trouble: &str) -> &str {
    let inner = trouble.split_once("transport: ").map_or(trouble, |(_, inner)| inner.trim_end_matches('"'));
    inner.trim_start_matches("Error while dialing ").trim_start_matches("dial tcp ").trim_end_matches('.')
}

async fn ask(client: &Client) -> Result<Answer, String> {
    let reply = client.call(deadline(), Repeat::Read, StatusRequest {}, |channel, request| async move {
        MaintenanceClient::new(channel).status(request).await
    });
    let reply = reply.await.map_err(|error| plain(&error))?;
    let header = reply.header.unwrap_or_default();
    Ok(Answer {
        took: Duration::ZERO,
        member: header.member_id,
        leader: reply.leader,
        version: reply.version,
        db_bytes: reply.db_size,
        db_used_bytes: reply.db_size_in_use,
        revision: header.revision,
        raft_index: reply.raft_index,
        applied_index: reply.raft_applied_index,
        learner: reply.is_learner,
    })
}

fn metrics(page: Page) -> Result<Metrics, String> {
    if page.status != 200 {
        return Err(format!("HTTP status {}", page.status));
    }
    Ok(Metrics::read(&page.body))
}

fn is_local(endpoint: &Address) -> bool {
    if endpoint.is_unix() {
        return true;
    }
    let Ok((host, port)) = endpoint.host_port() else { return false };
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => (host, port).to_socket_addrs().is_ok_and(|mut found| found.all(|found| found.ip().is_loopback())),
    }
}

/// When a certificate ends, in seconds since 1970.
fn ends(certificate: &[u8]) -> Option<i64> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.validity().not_after.timestamp())
}

/// The stores behind those endpoints that run on this machine, by the command lines of its processes.
fn stores_here(endpoints: &[Address]) -> Vec<Local> {
    let local = endpoints.iter().filter(|endpoint| is_local(endpoint));
    let ports: Vec<u16> = local.filter_map(|endpoint| endpoint.host_port().ok()).map(|(_, port)| port).collect();
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let Some(dir) = data_dir(&words).filter(|_| ports.iter().any(|port| names_port(&words, *port))) else {
            continue;
        };
        // As the process sees it: it may live in a container.
        let within = entry.path().join("root").join(dir.trim_start_matches('/'));
        let here = if Path::new(&dir).is_absolute() { within } else { entry.path().join("cwd").join(&dir) };
        let Ok(meta) = std::fs::metadata(here) else { continue };
        if known.insert((meta.dev(), meta.ino())) {
            found.push(Local { data_dir: dir, device: meta.dev() });
        }
    }
    found.sort_by(|a: &Local, b| a.data_dir.cmp(&b.data_dir));
    found
}

/// The data directory in the words of a store's command line.
fn data_dir(words: &[String]) -> Option<String> {
    let name = words.first()?.rsplit('/').next()?;
    if name != "etcd" && !(name == "eyrie" && words.get(1).is_some_and(|word| word == "serve")) {
        return None;
    }
    value_of(words, "data-dir")
}

/// Whether a store with this command line listens there for clients.
fn names_port(words: &[String], port: u16) -> bool {
    let urls = value_of(words, "listen-client-urls").unwrap_or_else(|| "http://localhost:2379".into());
    urls.split(',').any(|url| Address::new(url.trim()).host_port().is_ok_and(|(_, named)| named == port))
}

/// What a command line gives for a flag: `--flag value`, `--flag=value`, with one dash or two.
fn value_of(words: &[String], flag: &str) -> Option<String> {
    words.iter().enumerate().find_map(|(at, word)| {
        let rest = word.trim_start_matches('-').strip_prefix(flag).filter(|_| word.starts_with('-'))?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if rest.is_empty() => words.get(at + 1).cloned(),
            None => None,
        }
    })
}

fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemTotal:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `Sun, 22 Nov 2026 12:02:33 GMT` in seconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (day, year) = (day.parse::<i64>().ok()?, year.parse::<i64>().ok()?);
    let parts = time.split(':').map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?;
    let [hours, minutes, secs] = parts[..] else { return None };
    // Years that begin in March, so that the leap day is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 22 Nov 2026 12:02:33 GMT"), Some(1_795_348_953));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn command_lines_of_stores_are_known() {
        let dir = |line: &str| data_dir(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(dir("/usr/bin/etcd --data-dir=/a"), Some("/a".into()));
        assert_eq!(dir("eyrie serve -data-dir /b --name x"), Some("/b".into()));
        assert_eq!(dir("eyrie ctl --data-dir /b"), None);
        assert_eq!(dir("vi --data-dir /b"), None);
        let listens = |line: &str, port| names_port(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), port);
        assert!(listens("etcd --data-dir /a", 2379));
        assert!(listens("etcd --listen-client-urls=http://a:1,http://b:2379", 2379));
        assert!(!listens("etcd --listen-client-urls http://a:23790 --data-dir /a", 2379));
    }
}
