//! Every flag of etcd 3.5 and 3.6, and what it means here. `--help` and docs/configuration.md are made from this table.
//!
//! Law: a flag that asks for security or replication which is not given is refused, never ignored.

/// One flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// As typed after the dashes.
    pub(crate) name: &'static str,
    /// What a value must look like.
    pub(crate) kind: Kind,
    /// The default of etcd 3.5, as etcd's help shows it.
    pub(crate) default: &'static str,
    /// What it does.
    pub(crate) meaning: Meaning,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true`, `false`, or the bare flag.
    Bool,
    /// A whole number that may be negative.
    Int,
    /// A whole number.
    Uint,
    /// `1h30m`, `100ms`.
    Duration,
    /// Anything.
    Text,
    /// URLs, separated by commas.
    Urls,
    /// Words, separated by commas.
    List,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// What a flag does here.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// This.
    Here(&'static str),
    /// Nothing, for this reason; said in the log once when it is given.
    NoEffect(&'static str),
    /// The member does not start with it, unless its value is one of `harmless` (or empty).
    Refused { harmless: &'static [&'static str], why: &'static str },
    /// The same as another flag.
    Same(&'static str),
}

/// A part of the table with its heading.
pub(crate) struct Section {
    /// For people.
    pub(crate) title: &'static str,
    /// In the order of etcd's help.
    pub(crate) flags: &'static [Flag],
}

/// The flag of this name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// All flags.
pub(crate) fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

impl Flag {
    /// The name under which its value is kept.
    pub(crate) fn canonical(&self) -> &'static str {
        match self.meaning {
            Meaning::Same(other) => other,
            _ => self.name,
        }
    }

    /// Its environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

const fn here(name: &'static str, kind: Kind, default: &'static str, what: &'static str) -> Flag {
    Flag { name, kind, default, meaning: Meaning::Here(what) }
}
const fn no_effect(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, meaning: Meaning::NoEffect(why) }
}
const fn refused(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
) -> Flag {
    Flag { name, kind, default, meaning: Meaning::Refused { harmless, why } }
}
const fn same(name: &'static str, kind: Kind, default: &'static str, other: &'static str) -> Flag {
    Flag { name, kind, default, meaning: Meaning::Same(other) }
}

const NO_DISCOVERY: &str = "there is no discovery service; name the members with --initial-cluster or --discovery-srv";
const NO_PROXY: &str = "the v2 proxy does not exist; run a member, or point clients at one";
const NO_PROXY_TIMES: &str = "the v2 proxy does not exist";
const NO_TRACING: &str = "there is no OpenTelemetry exporter";
const FIXED: &str = "not adjustable";
const LEGACY: &str = "ignored by etcd 3.5 too";

use Kind::{Bool, Duration, Int, List, OneOf, Text, Uint, Urls};

/// The table.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Member",
        flags: &[
            here("name", Text, "default", "human-readable name of this member"),
            here("data-dir", Text, "${name}.etcd", "where the data lives"),
            here("wal-dir", Text, "", "a disk of its own for the write-ahead log"),
            here(
                "snapshot-count",
                Uint,
                "100000",
                "log entries to keep behind the applied index before the log is cut",
            ),
            here("heartbeat-interval", Uint, "100", "milliseconds of a raft tick"),
            here(
                "election-timeout",
                Uint,
                "1000",
                "milliseconds of an election; also sets request timeouts and the shortest lease",
            ),
            no_effect("initial-election-tick-advance", Bool, "true", "the first election waits for the whole timeout"),
            here("listen-peer-urls", Urls, "http://localhost:2380", "where other members connect"),
            here("listen-client-urls", Urls, "http://localhost:2379", "where clients connect: gRPC, JSON and HTTP"),
            here("listen-client-http-urls", Urls, "", "where JSON and HTTP are served instead of on the client URLs"),
            no_effect("max-snapshots", Uint, "5", "only the newest snapshot is ever needed and kept"),
            no_effect("max-wals", Uint, "5", "log files are removed as soon as nothing needs them"),
            here("quota-backend-bytes", Int, "0", "NOSPACE alarm above this size; 0 is 2 GiB, negative is no quota"),
            no_effect("backend-bbolt-freelist-type", OneOf(&["", "array", "map"]), "map", "the tables are not bbolt"),
            here(
                "backend-batch-interval",
                Duration,
                "",
                "how long changes may wait before they go from the log to the tables; 100ms",
            ),
            no_effect("backend-batch-limit", Int, "0", "batches are bounded by bytes"),
            here("max-txn-ops", Uint, "128", "operations in one transaction"),
            here("max-request-bytes", Uint, "1572864", "bytes of one request"),
            here("max-concurrent-streams", Uint, "4294967295", "gRPC streams of one connection"),
            no_effect("grpc-keepalive-min-time", Duration, "5s", "pings are answered however often they come"),
            here("grpc-keepalive-interval", Duration, "2h0m0s", "how often the server pings idle clients; 0 for never"),
            here("grpc-keepalive-timeout", Duration, "20s", "how long it waits for the answer"),
            no_effect("socket-reuse-port", Bool, "false", "a second process on the same port would be a second store"),
            no_effect("socket-reuse-address", Bool, "false", "always set"),
            here("enable-grpc-gateway", Bool, "true", "serve the JSON gateway under /v3"),
            no_effect("raft-read-timeout", Duration, "5s", "always 5s"),
            no_effect("raft-write-timeout", Duration, "5s", "always 5s"),
        ],
    },
    Section {
        title: "Clustering",
        flags: &[
            here(
                "initial-advertise-peer-urls",
                Urls,
                "http://localhost:2380",
                "what other members are told; goes into the member id",
            ),
            here(
                "initial-cluster",
                Text,
                "${name}=${initial-advertise-peer-urls}",
                "the members at first start, this one among them; without a meaning once data exists",
            ),
            here(
                "initial-cluster-state",
                OneOf(&["new", "existing"]),
                "new",
                "`existing` joins a running cluster, after `etcdctl member add`; ignored once data exists",
            ),
            here("initial-cluster-token", Text, "etcd-cluster", "goes into the cluster id and member ids"),
            here(
                "advertise-client-urls",
                Urls,
                "http://localhost:2379",
                "what clients are told; required when listen-client-urls is given",
            ),
            refused("discovery", Text, "", &[], NO_DISCOVERY),
            no_effect("discovery-fallback", OneOf(&["exit", "proxy"]), "proxy", "there is no discovery"),
            refused("discovery-proxy", Text, "", &[], NO_DISCOVERY),
            here(
                "discovery-srv",
                Text,
                "",
                "the domain whose SRV records name the members at first start, instead of initial-cluster",
            ),
            here("discovery-srv-name", Text, "", "a suffix of the records' service: _etcd-server-NAME._tcp"),
            refused("discovery-token", Text, "", &[], NO_DISCOVERY),
            refused("discovery-endpoints", Text, "", &[], NO_DISCOVERY),
            no_effect("discovery-dial-timeout", Duration, "2s", "there is no discovery"),
            no_effect("discovery-request-timeout", Duration, "5s", "there is no discovery"),
            no_effect("discovery-keepalive-time", Duration, "2s", "there is no discovery"),
            no_effect("discovery-keepalive-timeout", Duration, "6s", "there is no discovery"),
            no_effect("discovery-insecure-transport", Bool, "true", "there is no discovery"),
            no_effect("discovery-insecure-skip-tls-verify", Bool, "false", "there is no discovery"),
            refused("discovery-cert", Text, "", &[], NO_DISCOVERY),
            refused("discovery-key", Text, "", &[], NO_DISCOVERY),
            refused("discovery-cacert", Text, "", &[], NO_DISCOVERY),
            refused("discovery-user", Text, "", &[], NO_DISCOVERY),
            refused("discovery-password", Text, "", &[], NO_DISCOVERY),
            here("strict-reconfig-check", Bool, "true", "refuse changes of the members that would cost the quorum"),
            no_effect("pre-vote", Bool, "true", "always so"),
            here(
                "auto-compaction-mode",
                OneOf(&["periodic", "revision"]),
                "periodic",
                "what auto-compaction-retention counts",
            ),
            here(
                "auto-compaction-retention",
                Text,
                "0",
                "keep this much history: hours or `30m` (periodic), revisions (revision); 0 is off",
            ),
            no_effect(
                "v2-deprecation",
                OneOf(&["", "not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
                "not-yet",
                "there is no v2 store",
            ),
            no_effect("enable-v2", Bool, "false", "there is no v2 API; /v2 answers 404"),
            no_effect("experimental-enable-v2v3", Text, "", "there is no v2 API; /v2 answers 404"),
            refused("proxy", OneOf(&["off", "readonly", "on"]), "off", &["off"], NO_PROXY),
            no_effect("proxy-failure-wait", Uint, "5000", NO_PROXY_TIMES),
            no_effect("proxy-refresh-interval", Uint, "30000", NO_PROXY_TIMES),
            no_effect("proxy-dial-timeout", Uint, "1000", NO_PROXY_TIMES),
            no_effect("proxy-write-timeout", Uint, "5000", NO_PROXY_TIMES),
            no_effect("proxy-read-timeout", Uint, "0", NO_PROXY_TIMES),
        ],
    },
    Section {
        title: "Security",
        flags: &[
            here(
                "cert-file",
                Text,
                "",
                "the member's certificate for clients, with its chain; read again when it changes",
            ),
            here("key-file", Text, "", "its key"),
            no_effect(
                "client-cert-file",
                Text,
                "",
                "the JSON gateway does not dial the member, so it shows no certificate",
            ),
            no_effect(
                "client-key-file",
                Text,
                "",
                "the JSON gateway does not dial the member, so it shows no certificate",
            ),
            here(
                "client-cert-auth",
                Bool,
                "false",
                "clients must show a certificate; its common name is a login where auth is on",
            ),
            here("client-crl-file", Text, "", "clients whose certificate is on this revocation list are refused"),
            here(
                "client-cert-allowed-hostname",
                List,
                "",
                "clients must show a certificate that is good for one of these names",
            ),
            here(
                "client-cert-allowed-cn",
                List,
                "",
                "clients must show a certificate with one of these common names (not in etcd)",
            ),
            here(
                "trusted-ca-file",
                Text,
                "",
                "who vouches for clients; giving it is asking for certificates, as in etcd",
            ),
            here("auto-tls", Bool, "false", "make a certificate for clients in the data directory where none is given"),
            here(
                "peer-cert-file",
                Text,
                "",
                "the member's certificate for other members, with its chain; read again when it changes",
            ),
            here("peer-key-file", Text, "", "its key"),
            here("peer-client-cert-file", Text, "", "what it shows where it dials; empty is peer-cert-file"),
            here("peer-client-key-file", Text, "", "its key"),
            here("peer-client-cert-auth", Bool, "false", "members that connect must show a certificate"),
            here(
                "peer-trusted-ca-file",
                Text,
                "",
                "who vouches for members, those that connect and those that are dialed",
            ),
            here("peer-cert-allowed-cn", List, "", "members must show a certificate with one of these common names"),
            here(
                "peer-cert-allowed-hostname",
                List,
                "",
                "members must show a certificate that is good for one of these names",
            ),
            here(
                "peer-auto-tls",
                Bool,
                "false",
                "make a certificate for members in the data directory where none is given; it encrypts and proves nothing",
            ),
            here("peer-crl-file", Text, "", "members whose certificate is on this revocation list are refused"),
            here(
                "self-signed-cert-validity",
                Uint,
                "1",
                "years that a certificate is good which the member makes for itself",
            ),
            here(
                "cipher-suites",
                List,
                "",
                "suites of TLS 1.2, by Go's names; those without forward secrecy or AEAD do not exist here",
            ),
            here("tls-min-version", OneOf(&["", "TLS1.2", "TLS1.3"]), "TLS1.2", "the oldest version of TLS"),
            here("tls-max-version", OneOf(&["", "TLS1.2", "TLS1.3"]), "", "the newest version of TLS; empty is 1.3"),
            here("cors", List, "*", "origins that browsers are allowed to call from"),
            here("host-whitelist", List, "*", "Host headers that HTTP requests may carry"),
        ],
    },
    Section {
        title: "Authentication",
        flags: &[
            here(
                "auth-token",
                Text,
                "simple",
                "kind of token: simple, or jwt,sign-method=METHOD,priv-key=FILE[,pub-key=FILE][,ttl=5m]",
            ),
            here("bcrypt-cost", Uint, "10", "cost of a password's hash: 4 to 31, each step twice the time"),
            here("auth-token-ttl", Uint, "300", "seconds that a simple token lives after its last use"),
        ],
    },
    Section {
        title: "Metrics, logging, profiling",
        flags: &[
            no_effect("enable-pprof", Bool, "false", "there is no Go runtime to profile; use perf"),
            here("metrics", OneOf(&["basic", "extensive"]), "basic", "extensive adds histograms of request times"),
            here("listen-metrics-urls", Urls, "", "more places that serve /metrics and /health"),
            here("logger", OneOf(&["zap"]), "zap", "the shape of log lines; etcd's only one"),
            here("log-outputs", List, "default", "default, stderr, stdout, or file names"),
            here(
                "log-level",
                OneOf(&["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]),
                "info",
                "drop log lines below this",
            ),
            here("log-format", OneOf(&["json", "console"]), "json", "the look of log lines (3.6)"),
            refused(
                "enable-log-rotation",
                Bool,
                "false",
                &["false"],
                "log files are not rotated yet; log to stderr and let the service manager rotate, or use logrotate with copytruncate",
            ),
            no_effect("log-rotation-config-json", Text, "", "log files are not rotated yet"),
            no_effect("experimental-enable-distributed-tracing", Bool, "false", NO_TRACING),
            no_effect("experimental-distributed-tracing-address", Text, "localhost:4317", NO_TRACING),
            no_effect("experimental-distributed-tracing-service-name", Text, "etcd", NO_TRACING),
            no_effect("experimental-distributed-tracing-instance-id", Text, "", NO_TRACING),
            no_effect("experimental-distributed-tracing-sampling-rate", Int, "0", NO_TRACING),
            same("enable-distributed-tracing", Bool, "false", "experimental-enable-distributed-tracing"),
            same("distributed-tracing-address", Text, "localhost:4317", "experimental-distributed-tracing-address"),
            same("distributed-tracing-service-name", Text, "etcd", "experimental-distributed-tracing-service-name"),
            same("distributed-tracing-instance-id", Text, "", "experimental-distributed-tracing-instance-id"),
            same("distributed-tracing-sampling-rate", Int, "0", "experimental-distributed-tracing-sampling-rate"),
        ],
    },
    Section {
        title: "Checks, limits, upkeep",
        flags: &[
            here("experimental-initial-corrupt-check", Bool, "false", "check all tables at start, before serving"),
            here(
                "experimental-corrupt-check-time",
                Duration,
                "0s",
                "check all tables, and compare the members' digests, so often while serving; damage raises the CORRUPT alarm. \
                 Without the flag digests are compared every 10m; 0s switches that off",
            ),
            here(
                "self-repair",
                Bool,
                "true",
                "a member of three or more whose log or tables are damaged is set aside and rebuilt from the others (not in etcd)",
            ),
            no_effect("experimental-compact-hash-check-enabled", Bool, "false", FIXED),
            no_effect("experimental-compact-hash-check-time", Duration, "1m0s", FIXED),
            here("experimental-compaction-batch-limit", Uint, "1000", "revisions removed in one step of a compaction"),
            here("experimental-compaction-sleep-interval", Duration, "10ms", "the pause after each step"),
            no_effect(
                "experimental-enable-lease-checkpoint",
                Bool,
                "false",
                "the remaining time of leases is always kept",
            ),
            no_effect(
                "experimental-enable-lease-checkpoint-persist",
                Bool,
                "false",
                "the remaining time of leases is always kept",
            ),
            here(
                "experimental-watch-progress-notify-interval",
                Duration,
                "10m0s",
                "how often idle watchers that asked for it hear so",
            ),
            here(
                "experimental-warning-apply-duration",
                Duration,
                "100ms",
                "a command that takes longer to apply is logged",
            ),
            no_effect(
                "experimental-warning-unary-request-duration",
                Duration,
                "300ms",
                "experimental-warning-apply-duration says what is logged as slow",
            ),
            here(
                "experimental-peer-skip-client-san-verification",
                Bool,
                "false",
                "a member's certificate need not name the address that it comes from",
            ),
            no_effect(
                "experimental-memory-mlock",
                Bool,
                "false",
                "memory is not locked; little of the data is held in it",
            ),
            no_effect(
                "experimental-txn-mode-write-with-shared-buffer",
                Bool,
                "true",
                "a transaction never copies the buffer",
            ),
            no_effect(
                "experimental-bootstrap-defrag-threshold-megabytes",
                Uint,
                "0",
                "defragmentation does not block; `etcdctl defrag` at any time",
            ),
            no_effect("experimental-snapshot-catchup-entries", Uint, "5000", FIXED),
            no_effect("experimental-stop-grpc-service-on-defrag", Bool, "false", "defragmentation does not block"),
            no_effect("experimental-downgrade-check-time", Duration, "5s", FIXED),
            here("experimental-max-learners", Uint, "1", "learners that the cluster may have at a time, up to 16"),
            same("corrupt-check-time", Duration, "0s", "experimental-corrupt-check-time"),
            same("compact-hash-check-time", Duration, "1m0s", "experimental-compact-hash-check-time"),
            same("compaction-batch-limit", Uint, "1000", "experimental-compaction-batch-limit"),
            same("compaction-sleep-interval", Duration, "10ms", "experimental-compaction-sleep-interval"),
            same("watch-progress-notify-interval", Duration, "10m0s", "experimental-watch-progress-notify-interval"),
            same("warning-apply-duration", Duration, "100ms", "experimental-warning-apply-duration"),
            same("warning-unary-request-duration", Duration, "300ms", "experimental-warning-unary-request-duration"),
            same("peer-skip-client-san-verification", Bool, "false", "experimental-peer-skip-client-san-verification"),
            same("memory-mlock", Bool, "false", "experimental-memory-mlock"),
            same(
                "bootstrap-defrag-threshold-megabytes",
                Uint,
                "0",
                "experimental-bootstrap-defrag-threshold-megabytes",
            ),
            same("snapshot-catchup-entries", Uint, "5000", "experimental-snapshot-catchup-entries"),
            same("downgrade-check-time", Duration, "5s", "experimental-downgrade-check-time"),
            same("max-learners", Uint, "1", "experimental-max-learners"),
            here("feature-gates", Text, "", "3.6's switches; InitialCorruptCheck has a meaning here"),
        ],
    },
    Section {
        title: "Unsafe",
        flags: &[
            here(
                "force-new-cluster",
                Bool,
                "false",
                "go on as a cluster of one after the others are lost for ever; refused while one of them answers",
            ),
            here(
                "unsafe-no-fsync",
                Bool,
                "false",
                "never wait for the disk: a power failure loses acknowledged writes",
            ),
        ],
    },
    Section {
        title: "Other",
        flags: &[
            here(
                "config-file",
                Text,
                "",
                "read everything from this YAML or JSON file; all other flags and variables are then ignored",
            ),
            here("version", Bool, "false", "print the version and exit"),
            no_effect("cluster-active-size", Text, "", LEGACY),
            no_effect("cluster-remove-delay", Text, "", LEGACY),
            no_effect("cluster-sync-interval", Text, "", LEGACY),
            no_effect("config", Text, "", LEGACY),
            no_effect("force", Bool, "false", LEGACY),
            no_effect("max-result-buffer", Text, "", LEGACY),
            no_effect("max-retry-attempts", Text, "", LEGACY),
            no_effect("peer-heartbeat-interval", Text, "", LEGACY),
            no_effect("peer-election-timeout", Text, "", LEGACY),
            no_effect("retry-interval", Text, "", LEGACY),
            no_effect("snapshot", Bool, "false", LEGACY),
            no_effect("v", Bool, "false", LEGACY),
            no_effect("vv", Bool, "false", LEGACY),
        ],
    },
];

/// The name nearest to what was typed, if one is near.
pub(crate) fn nearest(typed: &str) -> Option<&'static str> {
    nearest_of(typed, all().map(|flag| flag.name))
}

/// The nearest of `names`, if one is near: a third of the letters may be wrong, or it ends as typed.
pub(crate) fn nearest_of<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| {
        let plain = strsim::damerau_levenshtein(typed, name);
        let unprefixed = name.strip_prefix("experimental-").map(|name| strsim::damerau_levenshtein(typed, name) + 1);
        unprefixed.map_or(plain, |unprefixed| unprefixed.min(plain))
    };
    let (name, distance) = names.map(|name| (name, distance(name))).min_by_key(|(_, distance)| *distance)?;
    (distance * 3 <= typed.len().max(3)).then_some(name)
}
