//! Damage on one member of a cluster: it says so, takes no part with what is damaged, and is rebuilt from the others.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::load::Wire;
use eyrie_tests::place::wait_until;
use eyrie_tests::store::Setup;
use eyrie_tests::verdict::Verdict;

const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// How long a rebuilding may take here, where hardly any data is.
const REBUILT_LIMIT: Duration = Duration::from_secs(40);
/// A voter counts as well after this long, and without it nobody is replaced.
const WELL_AFTER: Duration = Duration::from_secs(6);

#[test]
fn a_member_with_a_damaged_log_is_rebuilt_from_the_others() -> Verdict {
    Ok(damaged_log()?)
}

#[test]
fn a_member_whose_tables_are_damaged_while_it_serves_is_rebuilt() -> Verdict {
    Ok(damaged_tables()?)
}

#[test]
fn a_member_that_holds_something_else_is_found_named_and_rebuilt() -> Verdict {
    Ok(another_history()?)
}

#[test]
fn nobody_is_rebuilt_where_that_could_take_back_promises() -> Verdict {
    Ok(not_rebuilt()?)
}

/// Flips a bit inside of every copy of `wanted` in a file. Returns whether there was one.
fn flip(file: &Path, wanted: &[u8]) -> Result<bool> {
    let bytes = fs::read(file)?;
    let (mut at, mut found) = (0, false);
    while let Some(next) = bytes[at..].windows(wanted.len()).position(|window| window == wanted) {
        let place = at + next + wanted.len() / 2;
        fs::OpenOptions::new().write(true).open(file)?.write_all_at(&[bytes[place] ^ 4], place as u64)?;
        (at, found) = (at + next + wanted.len(), true);
    }
    Ok(found)
}

/// Flips a bit in the log of a member that does not run.
fn flip_in_log(data: &Path, wanted: &[u8]) -> Result<()> {
    let mut logs: Vec<PathBuf> =
        fs::read_dir(data.join("wal"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    logs.retain(|path| path.extension().is_some_and(|ending| ending == "wal"));
    for log in &logs {
        if flip(log, wanted)? {
            return Ok(());
        }
    }
    None.context("what was written is in no log")
}

fn set_aside(data: &Path) -> Result<Vec<PathBuf>> {
    let all = fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|path| path.to_string_lossy().contains("/damaged-")).collect())
}

/// Waits until three voters are there again, with nothing alarming.
fn whole_again(three: &Cluster, through: usize, without: u64) -> Result<()> {
    let without = format!("{without:x}, ");
    let mut seen = String::new();
    let whole = wait_until(REBUILT_LIMIT, || {
        seen = three.etcdctl_ok(through, &["member", "list"]).unwrap_or_default();
        let voters = seen.lines().filter(|line| line.contains(", started, ") && line.ends_with("false")).count();
        let alarms = three.etcdctl_ok(through, &["alarm", "list"]).unwrap_or("unknown".into());
        seen += &alarms;
        voters == 3 && !seen.contains(&without) && alarms.trim().is_empty()
    });
    let logs: Vec<String> = three.members.iter().map(|member| member.log_tail(12)).collect();
    ensure!(whole, "no three voters:\n{seen}\n{}", logs.join("\n----\n"));
    Ok(())
}

fn damaged_log() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    for number in 0..20 {
        three.etcdctl_ok(0, &["put", &format!("key/{number}"), &format!("value of key number {number}")])?;
    }
    let hurt = (three.leader()? + 1) % 3;
    let stays = (hurt + 1) % 3;
    let id = three.id(hurt)?;
    std::thread::sleep(WELL_AFTER);
    three.members[hurt].kill9()?;
    flip_in_log(&three.members[hurt].setup.data, b"value of key number 3")?;
    three.members[hurt] = three.members[hurt].setup.spawn()?;
    whole_again(&three, stays, id)?;
    three.etcdctl_ok(hurt, &["put", "by", "the rebuilt"])?;
    three.agree(&[0, 1, 2])?;
    ensure!(three.id(hurt)? != id, "it goes on under the id that had promised");
    let log = three.members[hurt].log_tail(usize::MAX);
    ensure!(log.contains("this member's data is damaged") && log.contains(".wal is damaged at offset"), "{log}");
    let told: String = three.members.iter().map(|member| member.log_tail(usize::MAX)).collect();
    ensure!(told.contains("alarm CORRUPT is raised"), "nobody was alarmed");
    ensure!(set_aside(&three.members[hurt].setup.data)?.len() == 1, "the damaged data is gone");
    // It is a voter like any other: with another one away it is one of two.
    let other = 3 - hurt - stays;
    three.members[other].kill9()?;
    three.leader()?;
    three.etcdctl_ok(stays, &["put", "two of", "three"])?;
    three.members[other].restart()?;
    three.members[hurt].restart()?;
    three.agree(&[0, 1, 2])?;
    Ok(())
}

fn damaged_tables() -> Result<()> {
    // More than a member keeps in memory of its tables, so that the damage is read from the disk.
    const VALUES: usize = 400;
    let value =
        |number: usize| format!("{number} ").into_bytes().into_iter().cycle().take(100_000).collect::<Vec<u8>>();
    let dir = tempfile::tempdir()?;
    let flags = [&QUICK[..], &["--experimental-corrupt-check-time=1s"]].concat();
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::new(&three.members[0].endpoint())?;
        for number in 0..VALUES {
            wire.put(format!("key/{number}").as_bytes(), &value(number), 0).await?;
        }
        anyhow::Ok(())
    })?;
    std::thread::sleep(WELL_AFTER);
    let hurt = three.leader()?;
    let stays = (hurt + 1) % 3;
    let id = three.id(hurt)?;
    let tables = three.members[hurt].setup.data.join("tables.redb");
    let wanted = &value(VALUES / 2)[..512];
    let flipped = wait_until(REBUILT_LIMIT, || flip(&tables, wanted).unwrap_or(false));
    ensure!(flipped, "the value did not come into {}", tables.display());
    let said = wait_until(REBUILT_LIMIT, || {
        three.members[hurt].log_tail(usize::MAX).contains("the damaged data was set aside")
    });
    ensure!(said, "{}", three.members[hurt].log_tail(20));
    whole_again(&three, stays, id)?;
    three.etcdctl_ok(stays, &["put", "after", "all"])?;
    three.agree(&[0, 1, 2])?;
    ensure!(three.members[hurt].is_running(), "the process ended");
    let count = three.etcdctl_ok(hurt, &["get", "key/", "--prefix", "--count-only", "-w", "fields"])?;
    ensure!(count.contains(&format!("\"Count\" : {VALUES}")), "{count}");
    Ok(())
}

/// Two members restored from one snapshot, the third from another one with the same revisions.
fn another_history() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Program::under_test()?;
    let mut files = Vec::new();
    for value in ["right", "wrong"] {
        let place = dir.path().join(value);
        fs::create_dir_all(&place)?;
        let mut one = Setup::new(&ours, &place)?.start()?;
        one.etcdctl_ok(&["put", "key", value])?;
        let file = place.join("snapshot.db");
        one.etcdctl_ok(&["snapshot", "save", file.to_str().context("utf8")?])?;
        one.stop()?;
        files.push(file);
    }
    let flags = [&QUICK[..], &["--experimental-corrupt-check-time=2s"]].concat();
    let setups = Cluster::setups(&ours, dir.path(), 3, &flags)?;
    let odd = 1;
    for (at, setup) in setups.iter().enumerate() {
        let mut restore = Command::new(&ours.utl[0]);
        restore.args(&ours.utl[1..]).args(["snapshot", "restore"]).arg(&files[usize::from(at == odd)]);
        restore.args(["--name", &setup.name, "--initial-cluster", &setup.initial_cluster]);
        restore.args(["--initial-advertise-peer-urls", &setup.peer_url]).arg("--data-dir").arg(&setup.data);
        let out = restore.output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let three = Cluster::of(&ours, &setups)?;
    let id = three.id(odd)?;
    let found = wait_until(REBUILT_LIMIT, || {
        three.members.iter().any(|member| member.log_tail(usize::MAX).contains("members do not hold the same"))
    });
    ensure!(found, "nobody noticed: {}", three.members[0].log_tail(20));
    whole_again(&three, 0, id)?;
    three.agree(&[0, 1, 2])?;
    for at in 0..3 {
        let value = three.etcdctl_ok(at, &["get", "key", "--consistency=s", "--print-value-only"])?;
        ensure!(value.trim() == "right", "member {at} says {value}");
    }
    ensure!(set_aside(&setups[odd].data)?.len() == 1, "the odd one was not the one that was set aside");
    Ok(())
}

fn not_rebuilt() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Alone.
    let place = dir.path().join("alone");
    fs::create_dir_all(&place)?;
    let mut alone = Setup::new(&Program::under_test()?, &place)?.start()?;
    for number in 0..20 {
        alone.etcdctl_ok(&["put", &format!("key/{number}"), &format!("value of key number {number}")])?;
    }
    alone.kill9()?;
    flip_in_log(&alone.setup.data, b"value of key number 3")?;
    let (status, log) = alone.setup.run_to_end(Duration::from_secs(20))?;
    ensure!(!status.success() && log.contains("is damaged at offset"), "{log}");
    ensure!(set_aside(&alone.setup.data)?.is_empty());
    // One of three, with another one away: the last one can't agree to anything by itself.
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    for number in 0..20 {
        three.etcdctl_ok(0, &["put", &format!("key/{number}"), &format!("value of key number {number}")])?;
    }
    let (hurt, away) = (1, 2);
    three.members[away].kill9()?;
    three.members[hurt].kill9()?;
    flip_in_log(&three.members[hurt].setup.data, b"value of key number 3")?;
    let (status, log) = three.members[hurt].setup.run_to_end(Duration::from_secs(60))?;
    ensure!(!status.success() && log.contains("It was not rebuilt from the other members"), "{log}");
    ensure!(set_aside(&three.members[hurt].setup.data)?.is_empty());
    Ok(())
}
