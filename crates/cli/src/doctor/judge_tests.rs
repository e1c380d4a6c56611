//! A healthy cluster has no findings; each thing that goes wrong with it has its own.

use super::*;
use crate::doctor::observe::{Listed, Milvus};

const NOW: i64 = 1_800_000_000;

fn metrics(extra: &str) -> Result<Metrics, String> {
    let started = NOW - 10 * 3600;
    Ok(Metrics::read(&format!(
        "etcd_server_leader_changes_seen_total 1\nprocess_start_time_seconds {started}\netcd_server_quota_backend_bytes 4294967296\n\
         etcd_debugging_mvcc_compact_revision 4000\nprocess_open_fds 20\nprocess_max_fds 1024\n{extra}"
    )))
}

fn member(number: u64) -> Seen {
    let answer = Answer {
        took: Duration::from_millis(3),
        member: number,
        leader: 1,
        version: "3.5.21".into(),
        db_bytes: 100 << 20,
        db_used_bytes: 90 << 20,
        revision: 5000,
        raft_index: 9000,
        applied_index: 9000,
        learner: false,
    };
    Seen {
        endpoint: format!("https://10.0.0.{number}:2379"),
        local: false,
        encrypted: true,
        answer: Ok(answer),
        metrics: metrics(""),
        clock_ahead_secs: Some(0.4),
        certificate_ends: Some(NOW + 90 * DAY_SECS),
    }
}

fn healthy() -> Observations {
    let listed = |number: u64| Listed {
        member: number,
        name: format!("m{number}"),
        host: format!("10.0.0.{number}"),
        learner: false,
    };
    Observations {
        now_secs: NOW,
        members: (1..=3).map(member).collect(),
        listed: (1..=3).map(listed).collect(),
        alarms: vec![],
        milvus: Some(Milvus { collections: 20, segments: 80 }),
        here: vec![],
        machine: (4, 16 << 30),
    }
}

/// What is found after a change to the healthy cluster.
fn after(change: impl FnOnce(&mut Observations)) -> Vec<(Severity, &'static str)> {
    let mut seen = healthy();
    change(&mut seen);
    findings(&seen).into_iter().map(|finding| (finding.severity, finding.kind)).collect()
}

fn answer(seen: &mut Observations) -> &mut Answer {
    seen.members[1].answer.as_mut().unwrap()
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    assert_eq!(findings(&healthy()), []);
}

#[test]
fn each_fault_has_its_finding() {
    use Severity::{Critical, Note, Warning};
    let slow = |le: &str| {
        metrics(&format!(
            "etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"{le}\"}} 500\n\
             etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"+Inf\"}} 500\n"
        ))
    };
    type Change = Box<dyn FnOnce(&mut Observations)>;
    let cases: Vec<(Change, Severity, &str)> = vec![
        (Box::new(|seen| seen.members[1].answer = Err("refused".into())), Critical, "no-answer"),
        (Box::new(|seen| seen.members[1].encrypted = false), Warning, "in-the-clear"),
        (Box::new(|seen| answer(seen).leader = 0), Critical, "no-leader"),
        (Box::new(|seen| answer(seen).leader = 2), Critical, "two-leaders"),
        (Box::new(|seen| answer(seen).took = Duration::from_millis(400)), Warning, "slow-answer"),
        (Box::new(|seen| answer(seen).version = "3.5.1".into()), Note, "versions"),
        (Box::new(|seen| answer(seen).applied_index = 100), Warning, "behind"),
        (Box::new(|seen| answer(seen).db_used_bytes = 10 << 20), Warning, "fragmented"),
        (Box::new(|seen| answer(seen).revision = 2_000_000), Warning, "no-compaction"),
        (Box::new(|seen| drop(seen.members.pop())), Note, "not-looked-at"),
        (Box::new(|seen| seen.members[1].metrics = Err("404".into())), Note, "no-metrics"),
        (Box::new(move |seen| seen.members[1].metrics = slow("0.032")), Warning, "slow-sync"),
        (Box::new(move |seen| seen.members[1].metrics = slow("0.256")), Critical, "slow-sync"),
        (
            Box::new(|seen| {
                let page = "etcd_network_peer_round_trip_time_seconds_bucket{To=\"a\",le=\"0.1024\"} 30\n\
                            etcd_network_peer_round_trip_time_seconds_bucket{To=\"a\",le=\"+Inf\"} 30\n";
                seen.members[1].metrics = metrics(page);
            }),
            Warning,
            "slow-peers",
        ),
        (
            Box::new(|seen| seen.members[1].metrics = metrics("etcd_server_leader_changes_seen_total 30\n")),
            Warning,
            "elections",
        ),
        (Box::new(|seen| seen.members[1].metrics = metrics("process_open_fds 1000\n")), Warning, "open-files"),
        (Box::new(|seen| seen.members[1].certificate_ends = Some(NOW + 5 * DAY_SECS)), Warning, "certificate-expires"),
        (Box::new(|seen| seen.members[1].certificate_ends = Some(NOW - DAY_SECS)), Critical, "certificate-expired"),
        (Box::new(|seen| seen.members[1].clock_ahead_secs = Some(30.0)), Warning, "clocks"),
        (Box::new(|seen| seen.alarms.push((7, "NOSPACE".into()))), Critical, "alarm"),
        (Box::new(|seen| seen.alarms.push((7, "CORRUPT".into()))), Critical, "alarm"),
        (Box::new(|seen| seen.listed[1].host = "10.0.0.1".into()), Warning, "one-machine"),
        (Box::new(|seen| seen.listed[1].learner = true), Warning, "even-members"),
        (
            Box::new(|seen| {
                seen.here = ["/a", "/b"].map(|dir| Local { data_dir: dir.into(), device: 3 }).to_vec();
            }),
            Warning,
            "one-disk",
        ),
    ];
    for (change, severity, kind) in cases {
        let found = after(change);
        assert!(found.contains(&(severity, kind)), "{kind}: {found:?}");
        assert!(found.len() <= 2, "{kind}: one fault, and what follows from it: {found:?}");
    }
}

#[test]
fn a_quota_is_told_before_it_is_reached() {
    let filled = |share: f64| {
        let found = after(|seen| {
            let bytes = (4_294_967_296.0 * share) as i64;
            (answer(seen).db_bytes, answer(seen).db_used_bytes) = (bytes, bytes);
        });
        found.into_iter().find(|(_, kind)| *kind == "quota").map(|(severity, _)| severity)
    };
    assert_eq!(filled(0.5), None);
    assert_eq!(filled(0.85), Some(Severity::Warning));
    assert_eq!(filled(0.97), Some(Severity::Critical));
}

#[test]
fn a_large_milvus_wants_more_than_one_member() {
    let found = after(|seen| {
        seen.listed.truncate(1);
        seen.members.truncate(1);
        seen.members[0].local = true;
        seen.machine = (1, 1 << 30);
    });
    assert_eq!(found, [(Severity::Warning, "few-members"), (Severity::Warning, "small-machine")]);
}
