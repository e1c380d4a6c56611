//! How people really start etcd, and what they hear when they are wrong.

use std::time::Duration;

use eyrie_server::Config;
use eyrie_server::config::{AutoCompaction, TlsVersion, TokenKind};
use eyrie_server::log::{Format, Level, Output};

use super::flags::{Kind, Meaning, SECTIONS};
use super::given::{self, Given, Note, Stop};
use super::{flags, settings, values};

/// Reads a command line as a shell would split it (no quotes), with variables and one file.
fn read(line: &str, variables: &[(&str, &str)], file: &str) -> Result<Given, Stop> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    given::read(&args, &variables, |path| {
        if path.ends_with("etcd.yaml") { Ok(file.to_string()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    })
}

fn config(line: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    match read(line, variables, "") {
        Ok(given) => settings::config(&given),
        Err(stop) => Err(format!("{stop:?}")),
    }
}

fn refused(line: &str) -> String {
    config(line, &[]).expect_err(line)
}

fn file(text: &str) -> Result<Config, String> {
    match read("--config-file etcd.yaml", &[], text) {
        Ok(given) => settings::config(&given),
        Err(Stop::Verify(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn milvus_compose_starts() {
    let variables = [
        ("ETCD_AUTO_COMPACTION_MODE", "revision"),
        ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
        ("ETCD_QUOTA_BACKEND_BYTES", "4294967296"),
        ("ETCD_SNAPSHOT_COUNT", "50000"),
        ("ETCD_ENABLE_V2", "true"),
        ("PATH", "/bin"),
    ];
    let line =
        "-advertise-client-urls=http://etcd:2379 -listen-client-urls http://0.0.0.0:2379 --data-dir /nowhere/etcd";
    let config = config(line, &variables).unwrap();
    assert_eq!(config.data_dir.to_str(), Some("/nowhere/etcd"));
    assert_eq!(config.advertise_client_urls, ["http://etcd:2379"]);
    assert_eq!(config.listen_client_urls[0].to_string(), "http://0.0.0.0:2379");
    assert_eq!(config.auto_compaction, AutoCompaction::Revision(1000));
    assert_eq!((config.quota_backend_bytes, config.snapshot_count), (4_294_967_296, 50_000));
    assert_eq!(config.initial_cluster, [("default".to_string(), "http://localhost:2380".to_string())]);
    let notes = read(line, &variables, "").unwrap().notes;
    assert_eq!(notes, [Note::NoEffect("enable-v2", "there is no v2 API; /v2 answers 404")]);
}

#[test]
fn bitnami_chart_of_one_replica_starts() {
    let variables = [
        ("ETCD_NAME", "milvus-etcd-0"),
        ("ETCD_DATA_DIR", "/nowhere/bitnami/etcd/data"),
        ("ETCD_ADVERTISE_CLIENT_URLS", "http://milvus-etcd-0.headless:2379,http://milvus-etcd:2379"),
        ("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:2379"),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://milvus-etcd-0.headless:2380"),
        ("ETCD_LISTEN_PEER_URLS", "http://0.0.0.0:2380"),
        ("ETCD_AUTH_TOKEN", "jwt,priv-key=/opt/bitnami/etcd/certs/token/jwt-token.pem,sign-method=RS256,ttl=10m"),
        ("ETCD_HEARTBEAT_INTERVAL", "500"),
        ("ETCD_ELECTION_TIMEOUT", "2500"),
        ("ETCD_AUTO_COMPACTION_MODE", "revision"),
        ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
        ("ETCD_LOG_LEVEL", "info"),
        ("ETCD_TRUSTED_CA_FILE", ""),
        ("ETCD_PORT_2379_TCP", "tcp://10.0.0.1:2379"),
        ("ETCD_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = config("", &variables).unwrap();
    assert_eq!(config.name, "milvus-etcd-0");
    assert_eq!(config.election_timeout, Duration::from_millis(2500));
    assert_eq!(
        config.initial_cluster,
        [("milvus-etcd-0".to_string(), "http://milvus-etcd-0.headless:2380".to_string())]
    );
    let notes = read("", &variables, "").unwrap().notes;
    assert!(notes.contains(&Note::UnknownVariable("ETCD_SERVICE_HOST".into())));
    assert!(notes.contains(&Note::UnknownVariable("ETCD_PORT_2379_TCP".into())));
    let TokenKind::Jwt(jwt) = config.auth.token else { panic!("a jwt") };
    assert_eq!((&jwt.method[..], jwt.ttl), ("RS256", Duration::from_secs(600)));
    assert_eq!(jwt.private_key, Some("/opt/bitnami/etcd/certs/token/jwt-token.pem".into()));
    assert_eq!(jwt.public_key, None);
}

#[test]
fn tokens_are_as_asked_or_not_at_all() {
    let auth = |line: &str| config(line, &[]).expect(line).auth;
    let plain = auth("");
    assert_eq!((plain.token, plain.bcrypt_cost, plain.simple_token_ttl.as_secs()), (TokenKind::Simple, 10, 300));
    let other = auth("--auth-token simple --bcrypt-cost 4 --auth-token-ttl 60");
    assert_eq!((other.token, other.bcrypt_cost, other.simple_token_ttl.as_secs()), (TokenKind::Simple, 4, 60));
    assert_eq!(auth("--bcrypt-cost 99").bcrypt_cost, 10);
    for (line, why) in [
        ("--auth-token paseto", "no such kind"),
        ("--auth-token jwt", "sign-method is missing"),
        ("--auth-token jwt,sign-method=RS256", "priv-key=FILE"),
        ("--auth-token jwt,sign-method=RS256,priv-key=/x,ttl=soon", "ttl"),
        ("--auth-token jwt,sign-method=RS256,priv-key=/x,ttl=0", "at once"),
        ("--auth-token jwt,sign-method=RS256,private=/x", "no option private"),
        ("--auth-token jwt,RS256", "NAME=VALUE"),
        ("--auth-token-ttl 0", "at once"),
    ] {
        assert!(refused(line).contains(why), "{line}: {}", refused(line));
    }
}

#[test]
fn three_replicas_are_named_by_each_of_them() {
    let three = "--data-dir /nowhere --name b --initial-advertise-peer-urls http://b:2380 --initial-cluster a=http://a:2380,b=http://b:2380,c=http://c:2380";
    let names: Vec<String> = config(three, &[]).unwrap().initial_cluster.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let text = refused(
        &three.replace("--initial-advertise-peer-urls http://b:2380", "--initial-advertise-peer-urls http://x:2380"),
    );
    assert!(text.contains("--initial-cluster has b=http://b:2380 but missing from"), "{text}");
    let text = refused(&three.replace("--name b", "--name d"));
    assert!(text.contains("couldn't find local name \"d\""), "{text}");
}

#[test]
fn what_asks_for_security_never_runs_without_it() {
    let pair = "--cert-file /c --key-file /k";
    for (line, words) in [
        ("--cert-file=/x", "KeyFile and CertFile must both be present[key: , cert: /x]"),
        ("--key-file=/x", "KeyFile and CertFile must both be present[key: /x, cert: ]"),
        ("--peer-cert-file=/x", "KeyFile and CertFile must both be present[key: , cert: /x]: give --peer-cert-file"),
        ("--peer-cert-allowed-cn=a", "none are asked for: add --peer-client-cert-auth"),
        ("--peer-crl-file=/x", "none are asked for: add --peer-client-cert-auth"),
        (
            "--listen-client-urls https://127.0.0.1:1 --advertise-client-urls https://127.0.0.1:1",
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1",
        ),
        ("--listen-metrics-urls https://127.0.0.1:1", "must be provided for client url https://127.0.0.1:1"),
        (
            "--listen-peer-urls unixs:///x",
            "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url",
        ),
        (
            "--client-cert-allowed-cn a --client-cert-allowed-hostname b",
            "AllowedCN and AllowedHostname are mutually exclusive",
        ),
        (&format!("{pair} --client-cert-allowed-hostname a"), "none are asked for: add --client-cert-auth"),
        (&format!("{pair} --client-crl-file /x"), "none are asked for: add --client-cert-auth"),
        (
            "--tls-min-version TLS1.3 --tls-max-version TLS1.2",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            "--tls-min-version TLS1.3 --cipher-suites TLS_AES_128_GCM_SHA256",
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        ("--cipher-suites TLS_AES", "unexpected TLS cipher suite \"TLS_AES\""),
        ("--discovery-srv example.invalid", "error querying DNS SRV records for --discovery-srv example.invalid"),
        (
            "--discovery-srv x --initial-cluster default=http://localhost:2380",
            "multiple discovery or bootstrap flags are set",
        ),
        ("--discovery http://x", "not supported"),
        ("--proxy on", "not supported"),
    ] {
        let text = refused(&format!("--data-dir /nowhere {line}"));
        assert!(text.contains(words), "{line}: {text}");
    }
    for line in ["--cert-file=", "--client-cert-auth=false", "--auto-tls=0", "--proxy off", "--discovery="] {
        assert!(config(&format!("--data-dir /nowhere {line}"), &[]).is_ok(), "{line}");
    }
    let tls = file("client-transport-security:\n  cert-file: /x\n").unwrap_err();
    assert!(tls.contains("KeyFile and CertFile must both be present[key: , cert: /x]"), "{tls}");
}

#[test]
fn flags_of_tls_reach_the_member() {
    let line = "--data-dir /nowhere --cert-file /c --key-file /k --trusted-ca-file /ca --client-crl-file /crl \
                --client-cert-allowed-hostname a,b \
                --listen-client-urls https://127.0.0.1:1,http://127.0.0.1:2 --advertise-client-urls https://127.0.0.1:1 \
                --tls-min-version TLS1.2 --tls-max-version TLS1.3 \
                --cipher-suites TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 --self-signed-cert-validity 3";
    let given = config(line, &[("ETCD_CLIENT_CERT_AUTH", "true")]).unwrap();
    let path = |path: &str| Some(std::path::PathBuf::from(path));
    let clients = &given.client_tls;
    assert_eq!((&clients.cert_file, &clients.key_file), (&path("/c"), &path("/k")));
    assert_eq!((&clients.trusted_ca_file, &clients.crl_file), (&path("/ca"), &path("/crl")));
    assert!(clients.client_cert_auth && !clients.auto);
    assert_eq!(clients.allowed_hostnames, ["a", "b"]);
    assert_eq!(given.tls.cipher_suites, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!((given.tls.min, given.tls.max), (Some(TlsVersion::Tls12), Some(TlsVersion::Tls13)));
    assert_eq!(given.tls.self_signed_cert_validity_years, 3);
    let schemes: Vec<_> = given.listen_client_urls.iter().map(|url| url.tls).collect();
    assert_eq!(schemes, [false, true]);
    let from_file =
        file("client-transport-security: {cert-file: /c, key-file: /k, client-cert-auth: true, crl-file: /r}");
    let clients = from_file.unwrap().client_tls;
    assert_eq!((clients.cert_file, clients.crl_file), (path("/c"), path("/r")));
    assert!(clients.client_cert_auth);
}

#[test]
fn syntax_is_that_of_gos_flags() {
    let usage = |line: &str| match read(line, &[], "") {
        Err(Stop::Usage(message)) => message,
        other => panic!("{line}: {other:?}"),
    };
    let verify = |line: &str| match read(line, &[], "") {
        Err(Stop::Verify(message)) => message,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(read("-name=a --name b", &[], "").unwrap().get("name"), Some("b"));
    assert_eq!(read("--pre-vote --name x", &[], "").unwrap().get("pre-vote"), Some("true"));
    assert_eq!(verify("--pre-vote false"), "'false' is not a valid flag");
    assert_eq!(verify("extra"), "'extra' is not a valid flag");
    assert_eq!(verify("-- --name x"), "'--name' is not a valid flag");
    assert_eq!(usage("--=x"), "bad flag syntax: --=x");
    assert_eq!(usage("---x"), "bad flag syntax: ---x");
    assert_eq!(usage("--quota-backend-bytes"), "flag needs an argument: -quota-backend-bytes");
    assert_eq!(usage("--foo=1"), "flag provided but not defined: -foo");
    assert_eq!(usage("-data-dri x"), "flag provided but not defined: -data-dri\nDid you mean --data-dir?");
    assert_eq!(usage("--enable-pprof=maybe"), "invalid boolean value \"maybe\" for -enable-pprof: parse error");
    assert_eq!(usage("--max-snapshots=abc"), "invalid value \"abc\" for flag -max-snapshots: parse error");
    assert_eq!(usage("--heartbeat-interval=-5"), "invalid value \"-5\" for flag -heartbeat-interval: parse error");
    assert_eq!(
        usage("--initial-cluster-state foo"),
        "invalid value \"foo\" for flag -initial-cluster-state: invalid value (one of new, existing)"
    );
    assert_eq!(
        usage("--listen-client-urls foo"),
        "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo"
    );
    assert_eq!(
        usage("--experimental-corrupt-check-time=5"),
        "invalid value \"5\" for flag -experimental-corrupt-check-time: parse error"
    );
    assert_eq!(read("--name x --help", &[], ""), Err(Stop::Help));
    assert_eq!(read("--version", &[], ""), Err(Stop::Version));
}

#[test]
fn variables_yield_to_nothing_and_conflict_with_flags() {
    let conflict = read("--name a", &[("ETCD_NAME", "a")], "");
    assert_eq!(conflict, Err(Stop::Conflict("ETCD_NAME".into())));
    let wrong = read("", &[("ETCD_MAX_SNAPSHOTS", "x")], "");
    assert_eq!(wrong, Err(Stop::Verify("invalid value \"x\" for ETCD_MAX_SNAPSHOTS: parse error".into())));
    assert_eq!(read("", &[("ETCD_NAME", "")], "").unwrap().get("name"), None);
}

#[test]
fn checks_between_flags_speak_as_etcd_does() {
    let own = "--data-dir /nowhere";
    for (line, text) in [
        (
            "--listen-client-urls http://1.2.3.4:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        ("--listen-peer-urls http://foo.bar:2379", "expected IP in URL for binding (http://foo.bar:2379)"),
        ("--advertise-client-urls http://:2379", "unexpected empty host (http://:2379)"),
        (
            "--name yy --initial-cluster xx=http://localhost:2380",
            "couldn't find local name \"yy\" in the initial cluster configuration",
        ),
        (
            "--name yy --initial-cluster yy=http://localhost:2380,xx=http://localhost:2380",
            "initial cluster xx=http://localhost:2380,yy=http://localhost:2380 has duplicate url",
        ),
        (
            "--election-timeout 100",
            "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        ("--election-timeout 100000", "--election-timeout[100000ms] is too long, and should be set less than 50000ms"),
        ("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            "--auto-compaction-retention 5x",
            "error parsing CompactionRetention: time: unknown unit \"x\" in duration \"5x\"",
        ),
        (
            "--feature-gates InitialCorruptChek=true",
            "unrecognized feature gate: InitialCorruptChek (did you mean InitialCorruptCheck?)",
        ),
    ] {
        assert_eq!(refused(&format!("{own} {line}")), text, "{line}");
    }
    let differ = refused(&format!("{own} --name yy --initial-cluster yy=http://127.0.0.1:5"));
    assert!(
        differ.starts_with("--initial-cluster has yy=http://127.0.0.1:5 but missing from --initial-advertise-peer-urls=http://localhost:2380"),
        "{differ}"
    );
    // Upstream stops on this too: the name `default` keeps the default URL.
    let half = refused(&format!("{own} --initial-advertise-peer-urls http://127.0.0.1:23888"));
    assert!(half.starts_with("--initial-cluster has default=http://localhost:2380 but missing from"), "{half}");
    let resolved = format!(
        "{own} --name a --initial-cluster a=http://localhost:2380 --initial-advertise-peer-urls http://127.0.0.1:2380"
    );
    assert!(config(&resolved, &[]).is_ok());
}

#[test]
fn retention_is_read_as_its_mode_says() {
    let retention =
        |line: &str| config(&format!("--data-dir /nowhere {line}"), &[]).map(|config| config.auto_compaction);
    let hours = |hours: u64| Ok(AutoCompaction::Periodic(Duration::from_secs(hours * 3600)));
    assert_eq!(retention(""), Ok(AutoCompaction::Off));
    assert_eq!(retention("--auto-compaction-retention 2"), hours(2));
    assert_eq!(retention("--auto-compaction-retention 60m"), hours(1));
    assert_eq!(retention("--auto-compaction-mode revision"), Ok(AutoCompaction::Off));
    assert_eq!(
        retention("--auto-compaction-mode revision --auto-compaction-retention 5"),
        Ok(AutoCompaction::Revision(5))
    );
    assert!(retention("--auto-compaction-mode revision --auto-compaction-retention 5h").is_err());
    assert!(retention("--auto-compaction-retention -1").is_err());
}

#[test]
fn a_file_replaces_flags_and_variables() {
    let text = "
name: one
data-dir: /nowhere/one
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: [\"http://h:1\"]
quota-backend-bytes: 4294967296
auto-compaction-mode: revision
auto-compaction-retention: '1000'
enable-grpc-gateway: false
experimental-warning-apply-duration: 200000000
backend-batch-interval: 50ms
log-outputs: [stderr, /tmp/x.log]
cors:
client-transport-security:
  client-cert-auth: false
  cert-file: ''
";
    let variables = [("ETCD_NAME", "two"), ("ETCD_ENABLE_V2", "true")];
    let given = read("--name three --config-file=etcd.yaml", &variables, text).unwrap();
    let ignored = ["--name", "ETCD_NAME", "ETCD_ENABLE_V2"].map(str::to_owned).to_vec();
    assert_eq!(given.notes, [Note::FileOnly(ignored)]);
    let config = settings::config(&given).unwrap();
    assert_eq!((config.name.as_str(), config.listen_client_urls.len()), ("one", 2));
    assert_eq!(config.auto_compaction, AutoCompaction::Revision(1000));
    assert_eq!(config.warning_apply_duration, Duration::from_millis(200));
    assert_eq!(config.backend_batch_interval, Duration::from_millis(50));
    assert!(!config.enable_grpc_gateway);
    let log = settings::log_config(&given);
    assert_eq!(log.outputs, [Output::Stderr, Output::File("/tmp/x.log".into())]);
    assert_eq!((log.level, log.format), (Level::Info, Format::Json));
    let json = read("", &[("ETCD_CONFIG_FILE", "etcd.yaml")], r#"{"name":"j","snapshot-count":7}"#).unwrap();
    assert_eq!(settings::config(&json).unwrap().snapshot_count, 7);
}

#[test]
fn a_wrong_file_is_named_with_what_is_wrong() {
    let refused = |text: &str| file(text).unwrap_err();
    assert_eq!(refused("data-dirr: x"), "etcd.yaml: unknown key data-dirr; did you mean data-dir?");
    assert_eq!(
        refused("peer-transport-security: {cert-fil: x}"),
        "etcd.yaml: unknown key peer-transport-security.cert-fil; did you mean cert-file?"
    );
    assert_eq!(
        refused("snapshot-count: many"),
        "etcd.yaml: invalid value \"many\" for key snapshot-count: parse error"
    );
    assert!(refused("a: b: c").starts_with("etcd.yaml: "));
    assert_eq!(refused("[1]"), "etcd.yaml: the file must be a map of flag names to values");
    let gone = read("--config-file /gone", &[], "").unwrap_err();
    assert!(matches!(gone, Stop::Verify(text) if text.starts_with("open /gone: ")));
}

#[test]
fn the_table_is_sound() {
    let mut names: Vec<_> = flags::all().map(|flag| flag.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "a flag stands twice");
    for flag in flags::all() {
        let canonical = flags::find(flag.canonical()).unwrap_or_else(|| panic!("{} leads nowhere", flag.name));
        assert!(!matches!(canonical.meaning, Meaning::Same(_)), "{}", flag.name);
        assert_eq!(canonical.kind, flag.kind, "{}", flag.name);
        let computed = flag.default.contains("${");
        let takes_empty =
            flag.default.is_empty() && matches!(flag.kind, Kind::Text | Kind::List | Kind::Urls | Kind::Duration);
        assert!(computed || takes_empty || values::check(flag.kind, flag.default).is_ok(), "{}", flag.name);
    }
}

/// Every flag of upstream's help, where it is at hand, is in the table.
#[test]
fn no_flag_of_upstream_is_missing() {
    let peers = std::env::var_os("EYRIE_PEERS").map(std::path::PathBuf::from);
    let peers = peers.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers").into());
    let binary = peers.join("etcd/etcd");
    assert!(
        binary.exists(),
        "no upstream etcd at {}: run `cargo run -p eyrie-tests --bin fetch-peers`",
        binary.display()
    );
    let help = std::process::Command::new(binary).arg("--help").output().unwrap();
    let help = [help.stdout, help.stderr].concat();
    let help = String::from_utf8_lossy(&help);
    let found: Vec<_> = help.lines().filter_map(|line| line.trim().strip_prefix("--")).collect();
    assert!(found.len() > 80, "{help}");
    for line in found {
        let name = line.split([' ', '=', '\'']).next().unwrap_or_default();
        assert!(flags::find(name).is_some(), "--{name}");
    }
}

#[test]
fn the_page_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = page();
    if std::env::var_os("EYRIE_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page,
        "docs/configuration.md is old: EYRIE_WRITE_DOCS=1 cargo test -p eyrie the_page_is_the_table"
    );
}

fn page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         `eyrie serve` (also as `etcd`) takes the flags of etcd 3.5, and those that 3.6 renamed. This page is made from the table \
         in `crates/cli/src/serve/flags.rs`; a test compares them.\n\n\
         - One dash or two, `--flag value` or `--flag=value`; a boolean alone means true and takes a value only with `=`.\n\
         - Each flag is also a variable: `--data-dir` is `ETCD_DATA_DIR`. Giving both is an error, as in etcd. An `ETCD_` variable \
         that is no flag's is only warned about, by name; its value, which may be a secret, is not logged (etcd logs it).\n\
         - `--config-file` (YAML or JSON, keys are names of flags; TLS in the maps `client-transport-security` and \
         `peer-transport-security`) replaces all flags and variables. A key that does not exist is an error here; etcd ignores it. \
         Lists may be YAML lists. A bare number is nanoseconds where a duration is meant.\n\
         - An unknown flag ends with exit code 2 and the nearest name; a wrong combination with exit code 1 and \
         `failed to verify flags` in the log.\n\
         - **no effect**: accepted, and said so once in the log when it differs from the default.\n\
         - **refused**: it asks for something that is not given yet, so the member does not start; an empty value \
         or the default is fine.\n",
    );
    for section in SECTIONS {
        text.push_str(&format!("\n## {}\n\n| Flag | Default | Here |\n|---|---|---|\n", section.title));
        for flag in section.flags {
            let meaning = match &flag.meaning {
                Meaning::Here(what) => what.to_string(),
                Meaning::NoEffect(why) => format!("no effect: {why}"),
                Meaning::Refused { why, .. } => format!("**refused**: {why}"),
                Meaning::Same(other) => format!("the same as `{other}` (3.6 name)"),
            };
            let default = if flag.default.is_empty() { "''" } else { flag.default };
            text.push_str(&format!("| `{}` | `{default}` | {meaning} |\n", flag.name));
        }
    }
    text
}

/// What the files in `deploy/` ask for, member by member: names and values of variables.
fn deployed() -> Vec<(&'static str, Vec<(String, String)>)> {
    use serde_yaml_ng::Value;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => panic!("a variable must be text, quoted where it looks like something else: {other:?}"),
    };
    let mut all = Vec::new();
    let mut compose: Value = serde_yaml_ng::from_str(include_str!("../../../../deploy/store/compose.yaml")).unwrap();
    compose.apply_merge().unwrap();
    for (_, service) in compose["services"].as_mapping().unwrap() {
        let variables = service["environment"].as_mapping().unwrap();
        all.push(("compose.yaml", variables.iter().map(|(name, value)| (text(name), text(value))).collect()));
    }
    let set = include_str!("../../../../deploy/store/statefulset.yaml").split("\n---\n").last().unwrap();
    let set: Value = serde_yaml_ng::from_str(set).unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    for ordinal in 0..set["spec"]["replicas"].as_u64().unwrap() {
        let name = format!("eyrie-{ordinal}");
        let value = |entry: &Value| match &entry["value"] {
            Value::String(text) => text.replace("$(ETCD_NAME)", &name),
            _ => name.clone(),
        };
        let variables =
            container["env"].as_sequence().unwrap().iter().map(|entry| (text(&entry["name"]), value(entry)));
        all.push(("statefulset.yaml", variables.collect()));
    }
    all
}

#[test]
fn what_is_deployed_starts() {
    let all = deployed();
    assert_eq!(all.len(), 6);
    for (file, variables) in all {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), if name == "ETCD_DATA_DIR" { "/nowhere" } else { value.as_str() }))
            .collect();
        let given = read("", &variables, "").unwrap_or_else(|stop| panic!("{file}: {stop:?}"));
        assert_eq!(given.notes, [], "{file}: a variable is not known, or has no effect");
        let config = settings::config(&given).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert_eq!(config.initial_cluster.len(), 3, "{file}");
        assert!(
            config
                .initial_cluster
                .iter()
                .any(|(name, url)| *name == config.name && config.initial_advertise_peer_urls == [url.as_str()]),
            "{file}"
        );
    }
    let image = include_str!("../../../../deploy/store/Dockerfile");
    for name in ["etcd", "etcdctl", "etcdutl", "ENV ETCD_DATA_DIR=/etcd-data"] {
        assert!(image.contains(name), "{name}");
    }
}
