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

#[test]
fn what_a_compaction_dropped_is_counted() -> Verdict {
    Ok(compacted()?)
}

fn compacted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::under_test()?, dir.path())?;
    let store = setup.start()?;
    let metric = |name: &str| value(&setup.endpoint(), &format!("etcd_debugging_mvcc_{name}"));
    for number in 0..5 {
        store.etcdctl_ok(&["put", "key", &number.to_string()])?;
    }
    let names = ["db_compaction_keys_total", "db_compaction_last", "db_compaction_total_duration_milliseconds_count"];
    for name in names {
        ensure!(metric(name)? == 0.0, "{name}: there was none yet");
    }
    store.etcdctl_ok(&["compact", "5", "--physical"])?;
    let dropped = metric("db_compaction_keys_total")?;
    ensure!(dropped == 3.0, "of the revisions 2 to 5 only the last is needed, and {dropped} were dropped");
    ensure!(metric("db_compaction_last")? > 1.0e9, "the time of the compaction");
    ensure!(metric("db_compaction_total_duration_milliseconds_count")? == 1.0, "one compaction");
    for name in ["db_compaction_pause_duration_milliseconds", "index_compaction_pause_duration_milliseconds"] {
        ensure!(metric(&format!("{name}_count"))? >= 1.0, "{name}: at least one step");
    }
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
