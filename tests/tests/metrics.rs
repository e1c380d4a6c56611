//! What the metrics page says of a member's disk is what its disk has done.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::place::wait_until;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;

/// Commits are made some times a second; a busy machine gets more.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn commits_defragmentations_and_snapshots_are_counted() -> Verdict {
    Ok(counted()?)
}

fn counted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::under_test()?, dir.path())?;
    let store = setup.start()?;
    let count = |family: &str| value(&setup.endpoint(), &format!("etcd_disk_{family}_duration_seconds_count"));
    let before = count("backend_commit")?;
    store.etcdctl_ok(&["put", "key", "value"])?;
    let counted = || count("backend_commit").is_ok_and(|now| now > before);
    ensure!(wait_until(NOTICE_LIMIT, counted), "a put made no commit that counts; before it there were {before}");
    ensure!(value(&setup.endpoint(), "etcd_disk_backend_commit_duration_seconds_sum")? > 0.0, "commits took no time");

    ensure!((count("backend_defrag")?, count("backend_snapshot")?) == (0.0, 0.0), "there was none yet");
    store.etcdctl_ok(&["defrag"])?;
    let file = dir.path().join("saved");
    store.etcdctl_ok(&["snapshot", "save", file.to_str().context("a path that is not text")?])?;
    ensure!(count("backend_defrag")? == 1.0, "one defragmentation");
    ensure!(wait_until(NOTICE_LIMIT, || count("backend_snapshot").is_ok_and(|count| count == 1.0)), "one snapshot");
    ensure!(value(&setup.endpoint(), "etcd_disk_defrag_inflight")? == 0.0, "no defragmentation is under way");
    Ok(())
}

/// One value of the metrics page.
fn value(endpoint: &str, name: &str) -> Result<f64> {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(NOTICE_LIMIT))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in\n{page}"))?.trim().parse()?)
}
