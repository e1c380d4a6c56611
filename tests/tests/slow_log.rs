//! A log whose disk is slow: heartbeats go on, nobody is elected without need, and a leader whose disk hangs gives way.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::place::wait_until;
use eyrie_tests::verdict::Verdict;
use rustix::process::{Pid, Signal, kill_process};

/// Each sync of the log takes this long: half an election more than an election.
const SLOW: Duration = Duration::from_millis(1_500);
const PACE: [&str; 4] = ["--heartbeat-interval", "100", "--election-timeout", "1000"];

#[test]
fn a_leader_with_a_slow_disk_goes_on_leading() -> Verdict {
    Ok(slow(SLOW, true)?)
}

#[test]
fn a_leader_whose_disk_hangs_gives_way() -> Verdict {
    Ok(slow(Duration::from_secs(6), false)?)
}

/// Every `fdatasync` of a running member takes so long, until this is dropped.
struct Slowed(Child);

impl Slowed {
    fn new(pid: u32, by: Duration) -> Result<Slowed> {
        let inject = format!("inject=fdatasync:delay_exit={}", by.as_micros());
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject, "-p", &pid.to_string()]);
        let child = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("start strace")?;
        // It is attached when every thread of the member says that it is traced.
        let traced = || {
            let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            threads.all(|thread| {
                let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            })
        };
        ensure!(wait_until(Duration::from_secs(10), traced), "strace does not attach");
        Ok(Slowed(child))
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

fn slow(by: Duration, leads_on: bool) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &PACE)?;
    three.etcdctl_ok(0, &["put", "before", "value"])?;
    let leader = three.leader()?;
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    // A follower with a slow disk costs the others nothing.
    let slowed = Slowed::new(three.members[third].pid(), by)?;
    let begun = Instant::now();
    for number in 0..5 {
        three.etcdctl_ok(other, &["put", &format!("beside/{number}"), "value"])?;
    }
    let beside = begun.elapsed();
    drop(slowed);
    ensure!(beside < by, "five writes beside a slow follower took {beside:?}");

    let before = three.status(other)?["raftTerm"].as_u64();
    let slowed = Slowed::new(three.members[leader].pid(), by)?;
    let begun = Instant::now();
    if leads_on {
        let mut writes = 0;
        while begun.elapsed() < Duration::from_secs(9) {
            three.etcdctl_ok(other, &["put", "through the slow one", &writes.to_string()])?;
            writes += 1;
        }
        ensure!(three.status(other)?["raftTerm"].as_u64() == before, "there was an election");
        ensure!(three.leader()? == leader && writes >= 3, "{writes} writes");
    } else {
        let own = three.status(leader)?["header"]["member_id"].clone();
        let gave_way = wait_until(Duration::from_secs(15), || {
            let _ = three.etcdctl(other, &["put", "goes", "on", "--command-timeout=1s"]);
            three.status(other).is_ok_and(|status| status["leader"] != own && status["leader"].as_u64() > Some(0))
        });
        ensure!(gave_way, "it still leads after {:?}", begun.elapsed());
        println!("another one leads after {:?}", begun.elapsed());
        let begun = Instant::now();
        for number in 0..5 {
            three.etcdctl_ok(other, &["put", &format!("after/{number}"), "value"])?;
        }
        ensure!(begun.elapsed() < by, "five writes without it took {:?}", begun.elapsed());
        ensure!(three.members[leader].log_tail(usize::MAX).contains("takes very long to write"), "it says nothing");
    }
    drop(slowed);
    three.agree(&[0, 1, 2])?;
    Ok(())
}
