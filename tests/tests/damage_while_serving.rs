//! Damage that comes while a member serves: noticed by the check, never served, and somebody is told.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::load::Wire;
use eyrie_tests::place::wait_until;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;

/// More than a member keeps in memory of its tables, so that the damage is read from the disk.
const VALUES: usize = 400;
const VALUE_BYTES: usize = 100_000;
/// The check runs every second; a busy machine gets more.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn raises_the_corrupt_alarm_and_refuses_writes() -> Verdict {
    Ok(damage()?)
}

fn damage() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup::new(&Program::under_test()?, dir.path())?.flags(&["--experimental-corrupt-check-time=1s"]);
    let mut store = setup.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::new(&setup.endpoint())?;
        for number in 0..VALUES {
            wire.put(format!("key/{number}").as_bytes(), &value(number), 0).await?;
        }
        anyhow::Ok(())
    })?;
    let tables = setup.data.join("tables.redb");
    let damaged = VALUES / 2;
    let flipped = wait_until(NOTICE_LIMIT, || flip_inside(&tables, &value(damaged)).unwrap_or(false));
    ensure!(flipped, "the value of key/{damaged} did not come into {}", tables.display());

    let alarmed = || store.etcdctl_ok(&["alarm", "list"]).is_ok_and(|alarms| alarms.contains("CORRUPT"));
    ensure!(wait_until(NOTICE_LIMIT, alarmed), "no alarm:\n{}", store.log_tail(10));
    let refused = store.etcdctl(&["put", "another", "value"])?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(words.contains("etcdserver: corrupt cluster"), "a write was not refused: {words}");
    ensure!(store.etcdctl_ok(&["get", "key/0", "--print-value-only"])?.starts_with("0 0 0"), "key/0 is not damaged");
    let served = store.etcdctl(&["get", &format!("key/{damaged}"), "--print-value-only"])?;
    ensure!(!served.status.success(), "the damaged value was served");
    ensure!(store.is_running(), "the member ended:\n{}", store.log_tail(10));
    let log = store.log_tail(40);
    ensure!(log.contains("tables.redb") && log.contains("snapshot restore"), "the log does not help:\n{log}");
    Ok(())
}

/// A value that stands nowhere else.
fn value(number: usize) -> Vec<u8> {
    format!("{number} ").into_bytes().into_iter().cycle().take(VALUE_BYTES).collect()
}

/// Flips a bit inside of every copy of `value` that a file holds. Returns whether there was one.
fn flip_inside(file: &Path, value: &[u8]) -> Result<bool> {
    let mut bytes = Vec::new();
    File::open(file)?.read_to_end(&mut bytes).context("read the tables")?;
    let sample = &value[..512];
    let mut found = false;
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(sample.len()).position(|window| window == sample) {
        at += next;
        OpenOptions::new().write(true).open(file)?.write_all_at(&[bytes[at + 100] ^ 1], (at + 100) as u64)?;
        found = true;
        at += value.len();
        if at >= bytes.len() {
            break;
        }
    }
    Ok(found)
}
