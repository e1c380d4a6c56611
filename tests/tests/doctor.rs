//! `eyrie doctor` finds what is wrong with a real cluster, upstream's or ours, and what it says to type cures it.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::place::wait_until;
use eyrie_tests::store::{Setup, Store, bounded};
use eyrie_tests::verdict::Verdict;
use serde_json::Value;

/// Longer than any answer that the doctor waits for.
const DOCTOR_LIMIT: Duration = Duration::from_secs(30);
/// How long a change may take to show.
const NOTICE_LIMIT: Duration = Duration::from_secs(15);
/// A quota that a few puts fill.
const QUOTA_BYTES: &str = "16777216";
/// One put; a word of a command line can be 128 KiB at most.
const VALUE_BYTES: usize = 100_000;

#[test]
fn a_full_store_of_eyrie_is_told_and_cured() -> Verdict {
    Ok(full_and_cured(&Program::under_test()?)?)
}

#[test]
fn a_full_store_of_upstream_is_told_and_cured() -> Verdict {
    Ok(full_and_cured(&Program::upstream()?)?)
}

#[test]
fn members_of_eyrie_that_are_away_are_told() -> Verdict {
    Ok(members_away(&Program::under_test()?)?)
}

#[test]
fn members_of_upstream_that_are_away_are_told() -> Verdict {
    Ok(members_away(&Program::upstream()?)?)
}

#[test]
fn a_wrong_command_line_is_no_diagnosis() -> Verdict {
    Ok(wrong_command_lines()?)
}

fn wrong_command_lines() -> Result<()> {
    for words in [&["--outptu", "json"][..], &["--user", "nameless"], &["--cacert", "/there/is/none"]] {
        let out = doctor(words)?;
        ensure!(out.status.code() == Some(64), "{words:?}: {out:?}");
        ensure!(out.stdout.is_empty() && !out.stderr.is_empty(), "{words:?}: {out:?}");
    }
    let help = doctor(&["--help"])?;
    ensure!(help.status.code() == Some(0) && String::from_utf8_lossy(&help.stdout).contains("Exit code"), "{help:?}");
    Ok(())
}

fn full_and_cured(program: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Setup::new(program, dir.path())?.flags(&["--quota-backend-bytes", QUOTA_BYTES]).start()?;
    let healthy = diagnosis(&store.endpoint(), &[])?;
    ensure!(!healthy.has("alarm") && !healthy.has("quota") && healthy.code < 2, "{healthy:?}");

    let value = "v".repeat(VALUE_BYTES);
    let full = (0..400).any(|_| store.etcdctl(&["put", "key", &value]).is_ok_and(|out| !out.status.success()));
    ensure!(full, "the quota was never reached");
    let sick = diagnosis(&store.endpoint(), &[])?;
    ensure!(sick.has("alarm") && sick.code == 2, "{sick:?}");
    let text = doctor(&["--endpoints", &store.endpoint()])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for word in ["CRITICAL", "NOSPACE", "eyrie ctl compaction REVISION", "eyrie ctl defrag", "eyrie ctl alarm disarm"] {
        ensure!(text.contains(word), "no {word} in\n{text}");
    }

    // What it says to type.
    let revision = revision(&store)?.to_string();
    store.etcdctl_ok(&["compaction", &revision, "--physical"])?;
    store.etcdctl_ok(&["defrag"])?;
    store.etcdctl_ok(&["alarm", "disarm"])?;
    store.etcdctl_ok(&["put", "key", "small"])?;
    let mut cured = None;
    let is_cured = wait_until(NOTICE_LIMIT, || {
        // Eyrie may keep its first one's leftovers until something is written.
        let _ = store.etcdctl(&["defrag"]);
        cured = diagnosis(&store.endpoint(), &[]).ok();
        cured.as_ref().is_some_and(|cured| !cured.has("alarm") && !cured.has("quota") && cured.code < 2)
    });
    ensure!(is_cured, "{cured:?}");
    Ok(())
}

fn members_away(program: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::start(program, dir.path(), 3, &[])?;
    cluster.leader()?;
    let endpoint = |at: usize, cluster: &Cluster| cluster.members[at].endpoint();
    let all: Vec<String> = (0..3).map(|at| endpoint(at, &cluster)).collect();

    // One endpoint is enough to find the others, and without --cluster it says that there are others.
    let alone = diagnosis(&all[0], &[])?;
    ensure!(alone.has("not-looked-at") && alone.endpoints == 1, "{alone:?}");
    let healthy = diagnosis(&all[0], &["--cluster"])?;
    ensure!(healthy.endpoints == 3 && healthy.code == 1, "{healthy:?}");
    ensure!(healthy.has("one-machine") && healthy.has("one-disk"), "{healthy:?}");
    ensure!(!healthy.has("no-answer") && !healthy.has("no-leader") && !healthy.has("no-metrics"), "{healthy:?}");

    // The one that is asked first is away: the others still tell.
    cluster.members[0].kill9()?;
    cluster.leader()?;
    let one_away = diagnosis(&all.join(","), &["--cluster"])?;
    ensure!(one_away.code == 2 && one_away.endpoints == 3, "{one_away:?}");
    let away = one_away.about("no-answer");
    ensure!(away.len() == 1 && away[0].contains(&all[0]), "{one_away:?}");

    cluster.members[1].kill9()?;
    let mut last = None;
    let told = wait_until(NOTICE_LIMIT, || {
        last = diagnosis(&all.join(","), &[]).ok();
        last.as_ref().is_some_and(|last| last.has("no-leader"))
    });
    ensure!(told, "{last:?}");
    let lost = last.context("a diagnosis")?;
    ensure!(lost.code == 2 && lost.about("no-answer") == [all[0].as_str(), all[1].as_str()], "{lost:?}");
    Ok(())
}

fn revision(store: &Store) -> Result<i64> {
    let text = store.etcdctl_ok(&["endpoint", "status", "-w", "json"])?;
    let all: Value = serde_json::from_str(&text)?;
    all[0]["Status"]["header"]["revision"].as_i64().context("a revision")
}

/// What `--output json` said.
#[derive(Debug)]
struct Diagnosis {
    code: i32,
    endpoints: usize,
    findings: Vec<Value>,
}

impl Diagnosis {
    fn has(&self, kind: &str) -> bool {
        !self.about(kind).is_empty()
    }

    fn about(&self, kind: &str) -> Vec<&str> {
        self.findings.iter().filter(|one| one["kind"] == kind).filter_map(|one| one["about"].as_str()).collect()
    }
}

fn diagnosis(endpoints: &str, more: &[&str]) -> Result<Diagnosis> {
    let words = [&["--endpoints", endpoints, "--output", "json"], more].concat();
    let out = doctor(&words)?;
    let said: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    let findings = said["findings"].as_array().context("findings")?.clone();
    // Every finding is whole, and the exit code is that of the worst.
    let mut worst = 0;
    for one in &findings {
        for part in ["severity", "kind", "about", "what", "then"] {
            ensure!(one[part].as_str().is_some_and(|text| !text.is_empty()), "{part} of {one}");
        }
        worst = worst.max(match one["severity"].as_str() {
            Some("critical") => 2,
            Some("warning") => 1,
            _ => 0,
        });
    }
    let code = out.status.code().context("an exit code")?;
    ensure!(code == worst, "exit code {code} for {said}");
    Ok(Diagnosis { code, endpoints: said["endpoints"].as_array().context("endpoints")?.len(), findings })
}

fn doctor(words: &[&str]) -> Result<Output> {
    let program = Program::under_test()?;
    ensure!(!program.is_upstream(), "upstream etcd has no doctor: leave EYRIE_BIN away");
    let mut command = Command::new(&program.serve[0]);
    command.arg("doctor").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bounded(&mut command, DOCTOR_LIMIT)
}
