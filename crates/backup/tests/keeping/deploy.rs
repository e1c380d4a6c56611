//! The files below `deploy/backup` and the page about the agent say what the program does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use eyrie_backup::agent::Status;
use eyrie_backup::config::Config;
use eyrie_backup::history::TimeMs;
use serde::Deserialize;
use serde_yaml_ng::Value;

fn place(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(place(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn documents(file: &str) -> Vec<Value> {
    let text = text(file);
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents.map(|one| Value::deserialize(one).unwrap_or_else(|error| panic!("{file}: {error}"))).collect()
}

/// The metrics that the agent shows from its first moment on, with their labels: `name` and `name{label="value"}`.
fn shown() -> BTreeSet<String> {
    let page = Status::default().metrics(TimeMs(0));
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<&str> = lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
    let names = series.iter().filter_map(|series| series.split('{').next());
    names.chain(series.iter().copied()).map(str::to_owned).collect()
}

/// The metrics that a text speaks of, and what it asks of their labels.
fn spoken_of(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("eyrie_backup_") {
        let tail = &rest[at..];
        let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
        let labels = tail[end..].strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
        found.push((tail[..end].to_owned(), labels.to_owned()));
        rest = &tail[end..];
    }
    found
}

#[test]
fn every_metric_of_an_alert_is_shown() {
    let shown = shown();
    let alerts = documents("deploy/backup/prometheus-alerts.yaml").remove(0);
    let rules = alerts["groups"][0]["rules"].as_sequence().unwrap();
    assert!(rules.len() >= 10);
    for rule in rules {
        let expr = rule["expr"].as_str().unwrap();
        assert!(rule["labels"]["severity"].is_string() && rule["annotations"]["summary"].is_string(), "{expr}");
        let metrics = spoken_of(expr);
        assert!(!metrics.is_empty(), "{expr}");
        for (name, labels) in metrics {
            assert!(shown.contains(&name), "{name} of an alert is not shown");
            let has = |series: &String| series.starts_with(&format!("{name}{{")) && series.contains(&labels);
            assert!(labels.is_empty() || shown.iter().any(has), "{name}{{{labels}}} of an alert is not shown");
        }
    }
}

#[test]
fn the_page_tells_every_metric_and_no_other() {
    let shown: BTreeSet<String> = shown().into_iter().filter(|series| !series.contains('{')).collect();
    let page = text("docs/agent.md");
    let told: BTreeSet<String> = spoken_of(&page).into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, shown);
}

#[test]
fn the_configurations_are_read() {
    for file in ["deploy/backup/kubernetes-agent.yaml", "deploy/backup/kubernetes-cronjob.yaml"] {
        let documents = documents(file);
        let map = documents.iter().find(|one| one["kind"] == "ConfigMap").unwrap();
        let config = Config::parse(map["data"]["eyrie.yaml"].as_str().unwrap()).unwrap();
        assert!(config.milvus.is_some() && config.state.is_some(), "{file}");
        let volumes = text(file);
        assert!(volumes.contains("mountPath: /var/lib/eyrie"), "{file}: the state must outlive a pod");
    }
    let page = text("docs/agent.md");
    let section = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let whole = format!("source: {{endpoints: [a]}}\narchive: {{url: \"memory:\"}}\n{section}");
    let config = Config::parse(&whole).unwrap();
    let shown = eyrie_backup::agent::AgentSection { notify: config.agent.notify.clone(), ..Default::default() };
    assert_eq!(config.agent, shown, "the page shows the defaults");
    assert!(!documents("deploy/backup/compose.yaml")[0]["services"]["eyrie-agent"].is_null());
}

#[test]
fn systemd_accepts_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("eyrie-agent.service");
    // the program is not installed here
    std::fs::write(&unit, text("deploy/backup/eyrie-agent.service").replace("/usr/bin/eyrie", "/bin/true")).unwrap();
    let out = std::process::Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let out = out.expect("systemd-analyze is needed (Debian: apt-get install systemd)");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && !said.contains("eyrie-agent"), "{said}");
}
