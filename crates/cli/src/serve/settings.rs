//! From what was given to how the member runs: defaults, checks between flags, refusals.
//!
//! The checks and their words are etcd's; the refusals are for what etcd can do and this cannot yet.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eyrie_server::Config;
use eyrie_server::config::{Address, AutoCompaction, Url};
use eyrie_server::log::{Format, Level, LogConfig, Output};
use eyrie_state::limits::LEARNERS_MAX;

use super::flags::{self, Meaning};
use super::given::Given;
use super::{discover, tls, values};

/// The log comes first, so that what is wrong with the rest can be told in it.
pub(crate) fn log_config(given: &Given) -> LogConfig {
    let level = given.get("log-level").and_then(Level::parse).unwrap_or(Level::Info);
    let format = if given.get("log-format") == Some("console") { Format::Console } else { Format::Json };
    let names = given.get("log-outputs").unwrap_or("default");
    let output = |name: &str| match name {
        "default" | "stderr" | "systemd/journal" => Output::Stderr,
        "stdout" => Output::Stdout,
        path => Output::File(path.into()),
    };
    let mut outputs: Vec<Output> = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let output = output(name);
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    LogConfig { level, format, outputs }
}

/// How the member runs.
///
/// # Errors
/// The sentence for `failed to verify flags`.
pub(crate) fn config(given: &Given) -> Result<Config, String> {
    refuse(given)?;
    let defaults = Config::default();
    let name = given.get("name").unwrap_or("default").to_string();
    let data_dir = given.get("data-dir").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let data_dir = data_dir.unwrap_or_else(|| format!("{name}.etcd").into());
    let peers = advertised(given, "initial-advertise-peer-urls", "http://localhost:2380")?;
    let clients = advertised(given, "advertise-client-urls", "http://localhost:2379")?;
    if given.get("listen-client-urls").is_some() && given.get("advertise-client-urls").is_none() {
        return Err("--advertise-client-urls is required when --listen-client-urls is set explicitly".into());
    }
    let (heartbeat, election) = ticks(given)?;
    let config = Config {
        wal_dir: given.get("wal-dir").filter(|dir| !dir.is_empty()).map(PathBuf::from),
        listen_client_urls: listened(given, "listen-client-urls")?.unwrap_or(defaults.listen_client_urls),
        listen_client_http_urls: listened(given, "listen-client-http-urls")?.unwrap_or_default(),
        listen_peer_urls: listened(given, "listen-peer-urls")?.unwrap_or(defaults.listen_peer_urls),
        listen_metrics_urls: listened(given, "listen-metrics-urls")?.unwrap_or_default(),
        initial_cluster: initial_cluster(given, &name, &peers, &data_dir)?,
        advertise_client_urls: clients,
        initial_advertise_peer_urls: peers,
        initial_cluster_token: given.get("initial-cluster-token").unwrap_or("etcd-cluster").to_string(),
        initial_cluster_existing: given.get("initial-cluster-state") == Some("existing"),
        strict_reconfig_check: switch(given, "strict-reconfig-check", true),
        max_learners: max_learners(given)?,
        force_new_cluster: switch(given, "force-new-cluster", false),
        heartbeat_interval: heartbeat,
        election_timeout: election,
        snapshot_count: number(given, "snapshot-count", defaults.snapshot_count),
        quota_backend_bytes: number(given, "quota-backend-bytes", 0),
        max_txn_ops: number(given, "max-txn-ops", defaults.max_txn_ops),
        max_request_bytes: max_request_bytes(given, defaults.max_request_bytes)?,
        max_concurrent_streams: number(given, "max-concurrent-streams", u64::from(u32::MAX)).min(u64::from(u32::MAX))
            as u32,
        auto_compaction: auto_compaction(given)?,
        watch_progress_notify_interval: positive(
            given,
            "experimental-watch-progress-notify-interval",
            defaults.watch_progress_notify_interval,
        )?,
        lease_checkpoint: true,
        compaction_batch_limit: number(given, "experimental-compaction-batch-limit", 0usize),
        compaction_sleep_interval: time(
            given,
            "experimental-compaction-sleep-interval",
            defaults.compaction_sleep_interval,
        ),
        backend_batch_interval: time(given, "backend-batch-interval", defaults.backend_batch_interval),
        enable_grpc_gateway: switch(given, "enable-grpc-gateway", true),
        extensive_metrics: given.get("metrics") == Some("extensive"),
        cors: list(given, "cors"),
        host_whitelist: list(given, "host-whitelist"),
        auth: super::auth::settings(given)?,
        warning_apply_duration: time(given, "experimental-warning-apply-duration", defaults.warning_apply_duration),
        grpc_keepalive_min_time: time(given, "grpc-keepalive-min-time", defaults.grpc_keepalive_min_time),
        grpc_keepalive_interval: time(given, "grpc-keepalive-interval", defaults.grpc_keepalive_interval),
        grpc_keepalive_timeout: time(given, "grpc-keepalive-timeout", defaults.grpc_keepalive_timeout),
        unsafe_no_fsync: switch(given, "unsafe-no-fsync", false),
        initial_corrupt_check: switch(given, "experimental-initial-corrupt-check", false) || gates(given)?,
        corrupt_check_time: time(given, "experimental-corrupt-check-time", defaults.corrupt_check_time),
        digest_time: time(given, "experimental-corrupt-check-time", defaults.digest_time),
        self_repair: switch(given, "self-repair", true),
        client_tls: tls::clients(given),
        peer_tls: tls::peers(given),
        tls: tls::bounds(given)?,
        open_files: defaults.open_files,
        edge_threads: defaults.edge_threads,
        give_back_memory: defaults.give_back_memory,
        name,
        data_dir,
    };
    // 0 means the default, as in etcd.
    let config = Config {
        compaction_batch_limit: if config.compaction_batch_limit == 0 {
            defaults.compaction_batch_limit
        } else {
            config.compaction_batch_limit
        },
        ..config
    };
    tls::check(&config)?;
    if config.listen_client_urls.is_empty() {
        return Err("--listen-client-urls is empty: clients could not connect anywhere".into());
    }
    Ok(config)
}

/// Stops at the first flag that asks for what is not given yet.
fn refuse(given: &Given) -> Result<(), String> {
    for flag in flags::all() {
        let Meaning::Refused { harmless, why } = &flag.meaning else { continue };
        let Some(value) = given.get(flag.name).filter(|value| !value.is_empty()) else { continue };
        let harmless =
            harmless.contains(&value) || (harmless.contains(&"false") && values::boolean(value) == Some(false));
        if !harmless {
            return Err(format!("--{} is not supported: {why}", flag.name));
        }
    }
    Ok(())
}

/// URLs to listen on: an address of this machine.
fn listened(given: &Given, name: &str) -> Result<Option<Vec<Url>>, String> {
    let Some(text) = given.get(name) else { return Ok(None) };
    let mut urls = Vec::new();
    for (text, url) in values::urls(text)? {
        if let Address::Tcp(host, _) = &url.address
            && host != "localhost"
            && host.parse::<IpAddr>().is_err()
        {
            return Err(format!("expected IP in URL for binding ({text})"));
        }
        urls.push(url);
    }
    Ok(Some(urls))
}

/// URLs to tell others, as typed. They may say https: something before this member may speak TLS.
fn advertised(given: &Given, name: &str, default: &str) -> Result<Vec<String>, String> {
    let urls = values::urls(given.get(name).unwrap_or(default))?;
    for (text, url) in &urls {
        if matches!(&url.address, Address::Tcp(host, _) if host.is_empty()) {
            return Err(format!("unexpected empty host ({text})"));
        }
    }
    Ok(urls.into_iter().map(|(text, _)| text).collect())
}

fn initial_cluster(given: &Given, name: &str, peers: &[String], dir: &Path) -> Result<Vec<(String, String)>, String> {
    let own = || peers.iter().map(|url| (name.to_string(), url.clone())).collect::<Vec<_>>();
    let begun = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if let Some(domain) = given.get("discovery-srv").filter(|domain| !domain.is_empty()) {
        if given.get("initial-cluster").is_some_and(|text| !text.is_empty()) {
            return Err(
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
                        \"discovery-endpoints\" or \"discovery-srv\""
                    .into(),
            );
        }
        let service = given.get("discovery-srv-name").unwrap_or_default();
        return match discover::members(domain, service, name, peers) {
            Ok(members) => Ok(members),
            // The flag has done its work once there is data.
            Err(_) if begun => Ok(own()),
            Err(why) => Err(why),
        };
    }
    let text = match given.get("initial-cluster").filter(|text| !text.is_empty()) {
        Some(text) => text.to_string(),
        // etcd fills in the name but not the URLs of a member called `default`.
        None if name == "default" => "default=http://localhost:2380".into(),
        None => return Ok(own()),
    };
    let mut members = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (member, url) = part.split_once('=').unwrap_or((part, ""));
        if url.is_empty() {
            return Err(format!("empty URL given for \"{member}\""));
        }
        let url = values::urls(url)?.pop().map(|(text, _)| text).unwrap_or_default();
        members.push((member.to_string(), url));
    }
    let names: BTreeSet<&str> = members.iter().map(|(member, _)| member.as_str()).collect();
    // etcd ignores the flag once the member has data.
    if begun {
        return Ok(members);
    }
    if !names.contains(name) {
        return Err(format!("couldn't find local name {name:?} in the initial cluster configuration"));
    }
    let named: Vec<String> = members.iter().filter(|(member, _)| member == name).map(|(_, url)| url.clone()).collect();
    same_peers(name, &named, peers)?;
    if members.iter().map(|(_, url)| url).collect::<BTreeSet<_>>().len() < members.len() {
        members.sort();
        let all: Vec<_> = members.iter().map(|(member, url)| format!("{member}={url}")).collect();
        return Err(format!("initial cluster {} has duplicate url", all.join(",")));
    }
    Ok(members)
}

/// The URLs of initial-cluster and initial-advertise-peer-urls must be the same, or resolve to the same.
fn same_peers(name: &str, named: &[String], advertised: &[String]) -> Result<(), String> {
    let set = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
    let (named, advertised) = (set(named), set(advertised));
    let resolved = |urls: &BTreeSet<String>| urls.iter().map(|url| resolve(url)).collect::<Option<BTreeSet<_>>>();
    if named == advertised || resolved(&named).is_some_and(|all| resolved(&advertised) == Some(all)) {
        return Ok(());
    }
    let list = |urls: Vec<&String>, prefix: &str| {
        urls.into_iter().map(|url| format!("{prefix}{url}")).collect::<Vec<_>>().join(",")
    };
    let missing: Vec<_> = named.difference(&advertised).collect();
    if missing.is_empty() {
        let extra = list(advertised.difference(&named).collect(), &format!("{name}="));
        let whole = list(named.iter().collect(), &format!("{name}="));
        return Err(format!("--initial-advertise-peer-urls has {extra} but missing from --initial-cluster={whole}"));
    }
    let prefix = format!("{name}=");
    Err(format!(
        "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}; give both flags the same URLs: \
         --initial-cluster={}",
        list(missing, &prefix),
        list(advertised.iter().collect(), ""),
        list(advertised.iter().collect(), &prefix),
    ))
}

fn resolve(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let mut addresses: Vec<_> = rest.to_socket_addrs().ok()?.collect();
    addresses.sort_by_key(|address| (address.is_ipv6(), *address));
    Some(format!("{scheme}://{}", addresses.first()?))
}

fn ticks(given: &Given) -> Result<(Duration, Duration), String> {
    let heartbeat = number(given, "heartbeat-interval", 100u64);
    let election = number(given, "election-timeout", 1000u64);
    if heartbeat == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".into());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".into());
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > 50_000 {
        return Err(format!("--election-timeout[{election}ms] is too long, and should be set less than 50000ms"));
    }
    Ok((Duration::from_millis(heartbeat), Duration::from_millis(election)))
}

fn auto_compaction(given: &Given) -> Result<AutoCompaction, String> {
    let text = given.get("auto-compaction-retention").unwrap_or("0").trim();
    let text = if text.is_empty() { "0" } else { text };
    let revision = given.get("auto-compaction-mode") == Some("revision");
    let wrong = |why: String| format!("error parsing CompactionRetention: {why}");
    match text.parse::<i64>() {
        Ok(0) => Ok(AutoCompaction::Off),
        Ok(count) if count < 0 => Err(wrong(format!("--auto-compaction-retention={text} is negative"))),
        Ok(count) if revision => Ok(AutoCompaction::Revision(count)),
        Ok(hours) => Ok(AutoCompaction::Periodic(Duration::from_secs((hours as u64).saturating_mul(3600)))),
        Err(_) if revision => Err(wrong(format!(
            "--auto-compaction-retention={text} is no number of revisions, which --auto-compaction-mode=revision needs"
        ))),
        Err(_) => match values::duration(text).map_err(wrong)? {
            Duration::ZERO => Ok(AutoCompaction::Off),
            time => Ok(AutoCompaction::Periodic(time)),
        },
    }
}

/// `--feature-gates=InitialCorruptCheck=true,...`: whether the tables are to be checked at start.
fn gates(given: &Given) -> Result<bool, String> {
    const KNOWN: [&str; 9] = [
        "InitialCorruptCheck",
        "CompactHashCheck",
        "LeaseCheckpoint",
        "LeaseCheckpointPersist",
        "TxnModeWriteWithSharedBuffer",
        "StopGRPCServiceOnDefrag",
        "SetMemberLocalAddr",
        "AllAlpha",
        "AllBeta",
    ];
    let mut check = false;
    for part in given.get("feature-gates").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("missing bool value for {part}"))?;
        if !KNOWN.contains(&name) {
            let near = flags::nearest_of(name, KNOWN.into_iter());
            let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            return Err(format!("unrecognized feature gate: {name}{hint}"));
        }
        let value =
            values::boolean(value).ok_or_else(|| format!("invalid value of {name}={value}, use true or false"))?;
        check |= value && name == "InitialCorruptCheck";
    }
    Ok(check)
}

fn max_request_bytes(given: &Given, default: usize) -> Result<usize, String> {
    /// Above this a request would not fit the log's largest record.
    const MOST: usize = 512 << 20;
    let bytes = number(given, "max-request-bytes", default);
    if bytes > MOST { Err(format!("--max-request-bytes={bytes} is more than {MOST}")) } else { Ok(bytes) }
}

fn max_learners(given: &Given) -> Result<usize, String> {
    let most = number(given, "experimental-max-learners", 1usize);
    if most == 0 || most > LEARNERS_MAX {
        return Err(format!("--experimental-max-learners={most} must be between 1 and {LEARNERS_MAX}"));
    }
    Ok(most)
}

pub(super) fn number<N: std::str::FromStr>(given: &Given, name: &str, default: N) -> N {
    given.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn time(given: &Given, name: &str, default: Duration) -> Duration {
    given.get(name).and_then(|text| values::duration(text).ok()).unwrap_or(default)
}

fn positive(given: &Given, name: &str, default: Duration) -> Result<Duration, String> {
    match time(given, name, default) {
        Duration::ZERO => Err(format!("--{name} must be >0 (set to 0s)")),
        time => Ok(time),
    }
}

pub(super) fn switch(given: &Given, name: &str, default: bool) -> bool {
    given.get(name).and_then(values::boolean).unwrap_or(default)
}

fn list(given: &Given, name: &str) -> Vec<String> {
    words(given.get(name).unwrap_or("*"))
}

/// Words that commas part.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
