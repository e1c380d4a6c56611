//! The judgement: from what was seen to what is wrong, in plain words, with what to type.
//!
//! Pure: the same observations give the same findings. Figures are upstream's advice where it gives some.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::observe::{Answer, Local, Metrics, Observations, Seen};

/// 99 of 100 syncs of the log should be faster (upstream's advice).
const SYNC_SLOW: Duration = Duration::from_millis(10);
/// Above this, heartbeats of 100 ms are late.
const SYNC_TOO_SLOW: Duration = Duration::from_millis(100);
/// 99 of 100 commits of the tables should be faster (upstream's advice).
const COMMIT_SLOW: Duration = Duration::from_millis(25);
/// Events below which a share means nothing.
const EVENTS_MIN: f64 = 100.0;
/// A member that answers slower than this is far away or busy.
const ANSWER_SLOW: Duration = Duration::from_millis(100);
/// 9 of 10 journeys to another member and back should be shorter: heartbeats go every 100 ms.
const PEERS_SLOW: Duration = Duration::from_millis(60);
/// Journeys below which a share means nothing; members are probed seldom.
const JOURNEYS_MIN: f64 = 20.0;
/// Clocks are told to a second, so that a smaller difference cannot be seen.
const CLOCKS_APART_SECS: f64 = 2.5;
/// Changes of leader an hour that are no accident.
const ELECTIONS_AN_HOUR: f64 = 1.0;
/// Changes of leader below which an hour's rate means nothing.
const ELECTIONS_MIN: f64 = 4.0;
/// Shares of the quota.
const QUOTA_NEAR: f64 = 0.8;
const QUOTA_REACHED: f64 = 0.95;
/// The default of a quota of 0.
const QUOTA_DEFAULT: f64 = 2.0 * 1024.0 * 1024.0 * 1024.0;
/// A smaller store need not be defragmented.
const FRAGMENTED_BYTES_MIN: i64 = 64 << 20;
/// Revisions of history without which no Milvus misses anything.
const HISTORY_MAX: f64 = 1_000_000.0;
/// Revisions by which every automatic compaction has run at least once.
const HISTORY_MAX_AT_FIRST: f64 = 100_000.0;
/// Log entries that a member may be behind.
const BEHIND_MAX: u64 = 5_000;
/// A certificate that ends sooner is told.
const CERTIFICATE_SOON_DAYS: i64 = 30;
const DAY_SECS: i64 = 86_400;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Good to know.
    Note,
    /// It will hurt.
    Warning,
    /// It hurts.
    Critical,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// A short name that does not change.
    pub(crate) kind: &'static str,
    /// An endpoint, or `cluster`, or `host`.
    pub(crate) about: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do or type.
    pub(crate) then: String,
}

/// All that is wrong, the worst first.
pub(crate) fn findings(seen: &Observations) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    for member in &seen.members {
        found.of_member(member, seen.now_secs);
    }
    found.of_agreement(seen);
    found.of_alarms(seen);
    found.of_places(seen);
    found.of_size(seen);
    let mut found = found.0;
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        kind: &'static str,
        about: &str,
        what: impl Into<String>,
        then: impl Into<String>,
    ) {
        self.0.push(Finding { severity, kind, about: about.into(), what: what.into(), then: then.into() });
    }

    fn of_member(&mut self, member: &Seen, now_secs: i64) {
        let about = &member.endpoint;
        if let Some(ends) = member.certificate_ends {
            self.certificate(about, (ends - now_secs).div_euclid(DAY_SECS));
        }
        let answer = match &member.answer {
            Ok(answer) => answer,
            Err(why) if why.contains("authentication failed") => {
                let what = format!("It lets nobody in with this name and password: {why}");
                return self.add(Severity::Critical, "no-answer", about, what, "Look at --user and --password");
            }
            Err(why) => {
                let then = "Look whether the member runs (systemctl status etcd, docker ps) and what its log says last. If it \
                            runs, look at the address, the firewall and, for TLS, --cacert, --cert and --key";
                return self.add(Severity::Critical, "no-answer", about, format!("It does not answer: {why}"), then);
            }
        };
        if !member.encrypted && !member.local {
            let then = "Give the members --cert-file, --key-file, --trusted-ca-file and --client-cert-auth, and let clients use \
                        https://. Until then let only trusted machines reach the port";
            self.add(Severity::Warning, "in-the-clear", about, "Clients talk to it unencrypted over the network", then);
        }
        if answer.leader == 0 {
            let then = "More than half of the members must run and reach each other on their peer URLs. Start those that are \
                        down; if they are lost for ever, restore a snapshot into a new cluster (eyrie utl snapshot restore FILE \
                        --data-dir NEW)";
            self.add(Severity::Critical, "no-leader", about, "It knows of no leader: nothing can be written", then);
        }
        if answer.took > ANSWER_SLOW {
            let what = format!("It took {} ms to answer a small question", answer.took.as_millis());
            let then = "Look at the load of that machine (top) and at the network to it (ping); run this from another machine \
                        to tell the two apart";
            self.add(Severity::Warning, "slow-answer", about, what, then);
        }
        match &member.metrics {
            Ok(metrics) => self.of_metrics(about, answer, metrics, now_secs),
            Err(why) => {
                let what = format!(
                    "Its /metrics page cannot be read, so that disk, elections and quota were not looked at: {why}"
                );
                let then = "Let this machine reach the client port's /metrics, or run this where it can be reached";
                self.add(Severity::Note, "no-metrics", about, what, then);
            }
        }
        self.fragmentation(about, answer);
    }

    fn certificate(&mut self, about: &str, days: i64) {
        let then = "Put a new certificate and key in place of the old files; members read them again by themselves";
        if days < 0 {
            let what = format!("Its certificate expired {} days ago", -days);
            self.add(Severity::Critical, "certificate-expired", about, what, then);
        } else if days < CERTIFICATE_SOON_DAYS {
            let what = format!("Its certificate expires in {days} days");
            self.add(Severity::Warning, "certificate-expires", about, what, then);
        }
    }

    fn of_metrics(&mut self, about: &str, answer: &Answer, metrics: &Metrics, now_secs: i64) {
        let often = |histogram| metrics.below(histogram, 0.99).filter(|(_, events)| *events >= EVENTS_MIN);
        let disk = "Give the store a disk of its own, SSD or NVMe, not shared with objects, logs or other databases; check with \
                    `eyrie ctl check perf`. On a slower disk raise --heartbeat-interval and --election-timeout";
        if let Some((time, _)) = often("etcd_disk_wal_fsync_duration_seconds").filter(|(time, _)| *time > SYNC_SLOW) {
            let severity = if time > SYNC_TOO_SLOW { Severity::Critical } else { Severity::Warning };
            let what = format!("99 of 100 syncs of its log take up to {time:?}; up to {SYNC_SLOW:?} is good");
            self.add(severity, "slow-sync", about, what, disk);
        }
        if let Some((time, _)) =
            often("etcd_disk_backend_commit_duration_seconds").filter(|(time, _)| *time > COMMIT_SLOW)
        {
            let what = format!("99 of 100 commits of its tables take up to {time:?}; up to {COMMIT_SLOW:?} is good");
            self.add(Severity::Warning, "slow-commit", about, what, disk);
        }
        let journeys = metrics.below("etcd_network_peer_round_trip_time_seconds", 0.9);
        if let Some((time, _)) = journeys.filter(|(time, all)| *all >= JOURNEYS_MIN && *time > PEERS_SLOW) {
            let what = format!("9 of 10 journeys to another member and back take up to {time:?}");
            let then = "Put the members nearer to each other, or raise --heartbeat-interval to that time and --election-timeout \
                        to ten times as much, on all members alike";
            self.add(Severity::Warning, "slow-peers", about, what, then);
        }
        self.elections(about, metrics, now_secs);
        self.quota(about, answer, metrics);
        let compacted = metrics.get("etcd_debugging_mvcc_compact_revision").unwrap_or_default().max(0.0);
        let history = answer.revision as f64 - compacted;
        if history > if compacted > 0.0 { HISTORY_MAX } else { HISTORY_MAX_AT_FIRST } {
            let why = if compacted > 0.0 { "does not keep up" } else { "never ran" };
            let what = format!("It keeps {history:.0} revisions of history: compaction {why}");
            let then = "Start the members with --auto-compaction-mode=revision --auto-compaction-retention=1000; now: `eyrie ctl \
                        compaction REVISION` with the revision that `eyrie ctl endpoint status -w json` shows, less 1000";
            self.add(Severity::Warning, "no-compaction", about, what, then);
        }
        if let (Some(open), Some(most)) = (metrics.get("process_open_fds"), metrics.get("process_max_fds"))
            && most > 0.0
            && open / most > QUOTA_NEAR
        {
            let what = format!("It has {open:.0} of {most:.0} files open; at the limit it takes no new connections");
            let then = "Raise the limit (LimitNOFILE=65536 in its unit, --ulimit nofile=65536 in docker), and look for clients \
                        that never close connections";
            self.add(Severity::Warning, "open-files", about, what, then);
        }
    }

    fn elections(&mut self, about: &str, metrics: &Metrics, now_secs: i64) {
        let changes = metrics.get("etcd_server_leader_changes_seen_total").unwrap_or_default();
        let Some(started) = metrics.get("process_start_time_seconds") else { return };
        let hours = (now_secs as f64 - started) / 3600.0;
        if changes >= ELECTIONS_MIN && hours > 0.0 && changes / hours > ELECTIONS_AN_HOUR {
            let what =
                format!("It saw {changes:.0} changes of leader in {hours:.1} hours: writes stop for a moment at each");
            let then = "Usually a slow disk (see slow-sync), a busy machine or a bad network between members. If these are as good \
                        as they get, raise --heartbeat-interval and --election-timeout on all members alike";
            self.add(Severity::Warning, "elections", about, what, then);
        }
    }

    fn quota(&mut self, about: &str, answer: &Answer, metrics: &Metrics) {
        let quota = match metrics.get("etcd_server_quota_backend_bytes") {
            Some(bytes) if bytes > 0.0 => bytes,
            Some(0.0) => QUOTA_DEFAULT,
            _ => return,
        };
        let share = answer.db_bytes as f64 / quota;
        if share < QUOTA_NEAR {
            return;
        }
        let what =
            format!("Its tables have {} of the {} that the quota allows", mib(answer.db_bytes), mib(quota as i64));
        let severity = if share >= QUOTA_REACHED { Severity::Critical } else { Severity::Warning };
        self.add(severity, "quota", about, what, MAKE_ROOM);
    }

    fn fragmentation(&mut self, about: &str, answer: &Answer) {
        if answer.db_bytes < FRAGMENTED_BYTES_MIN || answer.db_used_bytes * 2 > answer.db_bytes {
            return;
        }
        let what = format!("Of {} only {} is in use", mib(answer.db_bytes), mib(answer.db_used_bytes));
        let then = format!(
            "eyrie ctl --endpoints {about} defrag    (one member after the other: upstream etcd stands still meanwhile)"
        );
        self.add(Severity::Warning, "fragmented", about, what, then);
    }

    /// What only shows between members.
    fn of_agreement(&mut self, seen: &Observations) {
        let answers: Vec<(&Seen, &Answer)> = seen
            .members
            .iter()
            .filter_map(|member| member.answer.as_ref().ok().map(|answer| (member, answer)))
            .collect();
        let newest = answers.iter().map(|(_, answer)| answer.raft_index).max().unwrap_or_default();
        for (member, answer) in &answers {
            let behind = newest.saturating_sub(answer.applied_index);
            if behind > BEHIND_MAX {
                let what = format!("It is {behind} log entries behind the others");
                let then = "Look at its disk, load and network. If it does not come nearer, remove it, empty its data directory \
                            and add it again: `eyrie ctl member remove ID`, then `eyrie ctl member add NAME --peer-urls=URL`";
                self.add(Severity::Warning, "behind", &member.endpoint, what, then);
            }
        }
        let mut leaders: Vec<u64> =
            answers.iter().map(|(_, answer)| answer.leader).filter(|leader| *leader != 0).collect();
        leaders.sort_unstable();
        leaders.dedup();
        if leaders.len() > 1 {
            let then = "If it lasts, these endpoints are of two clusters, or the network is cut in two: compare `eyrie ctl --endpoints \
                        … member list` of each";
            self.add(Severity::Critical, "two-leaders", "cluster", "The endpoints do not name the same leader", then);
        }
        let mut versions: Vec<&str> = answers.iter().map(|(_, answer)| answer.version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 {
            let what = format!("The members run different versions: {}", versions.join(", "));
            self.add(
                Severity::Note,
                "versions",
                "cluster",
                what,
                "Fine while you replace one after the other; finish it",
            );
        }
        let clocks: Vec<(f64, &str)> = seen
            .members
            .iter()
            .filter_map(|member| member.clock_ahead_secs.map(|ahead| (ahead, member.endpoint.as_str())))
            .collect();
        let first = clocks.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let last = clocks.iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let then = "Run chrony or systemd-timesyncd on every machine: certificates, tokens and the times of backups depend on it";
        if let (Some((low, slow)), Some((high, fast))) = (first, last) {
            if high - low > CLOCKS_APART_SECS {
                let what = format!("The clocks of {slow} and {fast} are {:.0} seconds apart", high - low);
                self.add(Severity::Warning, "clocks", "cluster", what, then);
            } else if low.abs() > CLOCKS_APART_SECS {
                let what = format!("This machine's clock and theirs are {:.0} seconds apart", low.abs());
                self.add(Severity::Note, "clocks", "host", what, then);
            }
        }
    }

    fn of_alarms(&mut self, seen: &Observations) {
        for (member, kind) in &seen.alarms {
            let listed = seen.listed.iter().find(|listed| listed.member == *member);
            let about = listed.map_or_else(|| format!("member {member:x}"), |listed| format!("member {}", listed.name));
            match kind.as_str() {
                "NOSPACE" => {
                    let what = "The alarm NOSPACE is on: the cluster refuses writes";
                    self.add(
                        Severity::Critical,
                        "alarm",
                        &about,
                        what,
                        format!("{MAKE_ROOM}. Then: eyrie ctl alarm disarm"),
                    );
                }
                _ => {
                    let what = format!("The alarm {kind} is on: this member's data is not to be trusted");
                    let then = "Save a snapshot from another member, then remove this member, empty its data directory and add it \
                                again. Disarm the alarm only after that: eyrie ctl alarm disarm";
                    self.add(Severity::Critical, "alarm", &about, what, then);
                }
            }
        }
    }

    /// What fails together.
    fn of_places(&mut self, seen: &Observations) {
        if seen.listed.len() > seen.members.len() {
            let what = format!(
                "This looked at {} of the {} members that the cluster has",
                seen.members.len(),
                seen.listed.len()
            );
            self.add(Severity::Note, "not-looked-at", "cluster", what, "Look at all: eyrie doctor --cluster");
        }
        let voters = seen.listed.iter().filter(|member| !member.learner).count();
        if voters > 0 && voters % 2 == 0 {
            let what = format!("The cluster has {voters} voting members; with {} it survives as much", voters - 1);
            let then = "Add one or remove one: an odd number of members is best";
            self.add(Severity::Warning, "even-members", "cluster", what, then);
        }
        let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for member in seen.listed.iter().filter(|member| !member.host.is_empty()) {
            hosts.entry(&member.host).or_default().push(&member.name);
        }
        for (host, names) in hosts.into_iter().filter(|(_, names)| names.len() > 1) {
            let what = format!("Members {} are all on {host}: one failure takes them together", names.join(", "));
            self.add(Severity::Warning, "one-machine", "cluster", what, "Give each member a machine of its own");
        }
        let mut disks: BTreeMap<u64, Vec<&Local>> = BTreeMap::new();
        for local in &seen.here {
            disks.entry(local.device).or_default().push(local);
        }
        for stores in disks.into_values().filter(|stores| stores.len() > 1) {
            let dirs: Vec<&str> = stores.iter().map(|local| local.data_dir.as_str()).collect();
            let what = format!("Stores on this machine share one disk, its failure and its speed: {}", dirs.join(", "));
            let then = "Give each store a disk of its own (--data-dir on another file system)";
            self.add(Severity::Warning, "one-disk", "host", what, then);
        }
    }

    /// The sizing table: rules of thumb by what Milvus keeps here, about a million vectors to a segment.
    fn of_size(&mut self, seen: &Observations) {
        let Some(milvus) = seen.milvus.filter(|milvus| milvus.segments > 0) else { return };
        let (scale, nodes, cores, gib) = match milvus.segments {
            ..=1 => return,
            2..=10 => ("10 million", 3, 1, 2),
            11..=100 => ("100 million", 3, 2, 4),
            _ => ("more than 100 million", 3, 4, 8),
        };
        let size = format!(
            "Milvus keeps {} collections and {} segments here, up to {scale} vectors",
            milvus.collections, milvus.segments
        );
        let voters = seen.listed.iter().filter(|member| !member.learner).count();
        if voters > 0 && voters < nodes {
            let what = format!("{size}: for that {nodes} members are advised, and there are {voters}");
            let then = "Plan for three members on three machines; until then save a snapshot often: eyrie ctl snapshot save FILE";
            self.add(Severity::Warning, "few-members", "cluster", what, then);
        }
        let (here_cores, here_bytes) = seen.machine;
        let small = here_cores < cores || (here_bytes >> 20) + 512 < gib << 10;
        if seen.members.iter().any(|member| member.local) && here_cores > 0 && small {
            let what = format!(
                "{size}: for that {cores} cores and {gib} GiB are advised for the store alone, and this machine has {here_cores} \
                 and {} GiB",
                here_bytes >> 30
            );
            self.add(
                Severity::Warning,
                "small-machine",
                "host",
                what,
                "Move the store to a larger machine, or one of its own",
            );
        }
    }
}

const MAKE_ROOM: &str = "Compact history and defragment, one member after the other: `eyrie ctl endpoint status -w json` shows the \
                         revision; `eyrie ctl compaction REVISION`; `eyrie ctl defrag`, and again if it brought nothing. If it is full of what is needed, \
                         restart the members with a larger --quota-backend-bytes";

/// Bytes for people.
pub(super) fn mib(bytes: i64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
