//! Clusters of real members: what one acknowledges all have, whoever dies; who was away catches up; who is lost is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::load::{self, Dice, Ledger, Wire};
use eyrie_tests::place::wait_until;
use eyrie_tests::verdict::Verdict;

/// An election soon, so that tests are short.
const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// Requests that a writer makes before it looks whether the test is over.
const SCRIPT: u64 = 20;
/// Leaders killed in the short and in the long form.
const KILLS: [u64; 2] = [2, 100];

#[test]
fn what_one_member_takes_all_serve() -> Verdict {
    Ok(through_each_member()?)
}

#[test]
fn a_leader_killed_under_load_loses_nothing_and_writes_go_on() -> Verdict {
    Ok(kill_leaders()?)
}

#[test]
fn who_was_away_catches_up_by_the_log_and_by_a_snapshot() -> Verdict {
    Ok(catch_up()?)
}

#[test]
fn a_lost_member_is_replaced_and_a_learner_comes_to_vote() -> Verdict {
    Ok(replace_and_promote()?)
}

#[test]
fn a_removed_member_says_so_and_stays_out() -> Verdict {
    Ok(remove()?)
}

#[test]
fn one_restored_directory_for_all_is_refused_and_one_each_is_a_cluster() -> Verdict {
    Ok(restore_each()?)
}

fn long() -> bool {
    std::env::var_os("EYRIE_LONG").is_some()
}

fn through_each_member() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    for at in 0..3 {
        three.etcdctl_ok(at, &["put", &format!("by/{at}"), "value"])?;
    }
    for at in 0..3 {
        let all = three.etcdctl_ok(at, &["get", "by/", "--prefix", "--keys-only"])?;
        ensure!(all.split_whitespace().eq(["by/0", "by/1", "by/2"]), "member {at} has {all}");
        let lease = three.etcdctl_ok(at, &["lease", "grant", "100"])?;
        let lease = lease.split_whitespace().nth(1).context("a lease id")?.to_owned();
        let other = (at + 1) % 3;
        let kept = three.etcdctl_ok(other, &["lease", "keep-alive", "--once", &lease])?;
        ensure!(kept.contains("keepalived with TTL(100)"), "{kept}");
        let left = three.etcdctl_ok((at + 2) % 3, &["lease", "timetolive", &lease])?;
        ensure!(left.contains("granted with TTL(100s)"), "{left}");
    }
    let members = three.etcdctl_ok(1, &["member", "list"])?;
    ensure!(members.lines().filter(|line| line.contains("started")).count() == 3, "{members}");
    let table = three.etcdctl_ok(2, &["endpoint", "status", "--cluster"])?;
    ensure!(table.lines().count() == 3 && table.matches(", true,").count() == 1, "{table}");
    let leader = three.leader()?;
    let (next, id) = ((leader + 1) % 3, three.id((leader + 1) % 3)?);
    let refused = three.etcdctl(next, &["move-leader", &format!("{id:x}")])?;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("no leader endpoint given"), "{refused:?}");
    three.etcdctl_ok(leader, &["move-leader", &format!("{id:x}")])?;
    ensure!(three.leader()? == next, "leadership did not move");
    three.etcdctl_ok(leader, &["put", "after", "the move"])?;
    three.agree(&[0, 1, 2])?;
    Ok(())
}

/// Writers at every member and one watcher, all begun anew when their member goes away.
struct Load {
    stop: Arc<AtomicBool>,
    ledger: Ledger,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
    runtime: tokio::runtime::Runtime,
}

impl Load {
    fn start(cluster: &Cluster) -> Result<Load> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (stop, ledger) = (Arc::new(AtomicBool::new(false)), Ledger::default());
        let mut tasks = Vec::new();
        let endpoints: Vec<String> = cluster.members.iter().map(|member| member.endpoint()).collect();
        for (at, endpoint) in endpoints.iter().enumerate() {
            for writer in 0..2_u64 {
                let (stop, ledger, endpoint) = (stop.clone(), ledger.clone(), endpoint.clone());
                tasks.push(runtime.spawn(async move {
                    let wire = Wire::new(&endpoint)?;
                    for life in 1.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = (at as u64 * 2 + writer) * 100_000 + life;
                        // Short scripts, never broken off: what was asked is in the book.
                        if load::scripted(&wire, &ledger, id, SCRIPT).await? < SCRIPT {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                    Ok(())
                }));
            }
        }
        let (until, heard) = (stop.clone(), ledger.clone());
        tasks.push(runtime.spawn(async move {
            for turn in 0.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let wire = Wire::new(&endpoints[turn % endpoints.len()])?;
                let ended = async {
                    while !until.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! { result = load::watch_on(wire, heard.clone()) => result?, () = ended => {} }
            }
            Ok(())
        }));
        Ok(Load { stop, ledger, tasks, runtime })
    }

    /// How many writes were acknowledged so far, by the newest revision.
    fn told(&self) -> i64 {
        self.ledger.lock().newest_told()
    }

    /// Waits until writes go on; how long that took.
    fn goes_on(&self, limit: Duration) -> Result<Duration> {
        let (before, begun) = (self.told(), Instant::now());
        ensure!(wait_until(limit, || self.told() > before), "no write is acknowledged for {limit:?}");
        Ok(begun.elapsed())
    }

    /// Ends the load and checks through each member that every promise was kept.
    fn check(self, cluster: &Cluster) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let Load { ledger, tasks, runtime, .. } = self;
        for task in tasks {
            runtime.block_on(task)??;
        }
        // What had no answer may still be on its way to the log.
        std::thread::sleep(Duration::from_millis(500));
        for member in &cluster.members {
            let wire = runtime.block_on(async { Wire::new(&member.endpoint()) })?;
            let checked = runtime.block_on(load::check(&wire, &ledger));
            checked.with_context(|| format!("through {}:\n{}", member.setup.name, member.log_tail(10)))?;
        }
        let wire = runtime.block_on(async { Wire::new(&cluster.members[0].endpoint()) })?;
        runtime.block_on(load::check_history(&wire, &ledger, 1))?;
        let events = ledger.lock().heard().len();
        Ok(events)
    }
}

fn kill_leaders() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dice = Dice::from_env();
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    let load = Load::start(&three)?;
    load.goes_on(Duration::from_secs(10))?;
    let mut waits = Vec::new();
    for _ in 0..KILLS[usize::from(long())] {
        std::thread::sleep(Duration::from_millis(300 + dice.below(500)));
        let leader = three.leader()?;
        three.members[leader].kill9()?;
        waits.push(load.goes_on(Duration::from_secs(10))?);
        std::thread::sleep(Duration::from_millis(dice.below(500)));
        three.members[leader].restart()?;
    }
    three.wait_ready()?;
    let events = load.check(&three)?;
    three.agree(&[0, 1, 2])?;
    waits.sort();
    println!("{events} events; writes went on after {waits:?}");
    ensure!(events > 200, "hardly anything was written: {events} events");
    Ok(())
}

fn catch_up() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    let away = (three.leader()? + 1) % 3;
    let stays = (away + 1) % 3;
    three.members[away].kill9()?;
    for n in 0..20 {
        three.etcdctl_ok(stays, &["put", "by log", &n.to_string()])?;
    }
    three.members[away].restart()?;
    three.agree(&[0, 1, 2])?;
    ensure!(
        !three.members[away].log_tail(usize::MAX).contains("took over the store"),
        "a few entries need no snapshot"
    );
    three.members[away].kill9()?;
    // More than the leader keeps in memory: 80 MiB.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::new(&three.members[stays].endpoint())?;
        for n in 0..80_u8 {
            wire.put(format!("large/{n}").as_bytes(), &vec![n; 1 << 20], 0).await?;
        }
        anyhow::Ok(())
    })?;
    three.members[away].restart()?;
    three.agree(&[0, 1, 2])?;
    let log = three.members[away].log_tail(usize::MAX);
    ensure!(log.contains("took over the store as the leader sent it"), "{}", three.members[away].log_tail(20));
    // What it got is durable, and it goes on by the log.
    three.etcdctl_ok(stays, &["put", "after", "the snapshot"])?;
    three.members[away].restart()?;
    three.agree(&[0, 1, 2])?;
    Ok(())
}

fn replace_and_promote() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    cluster.etcdctl_ok(0, &["put", "before", "1"])?;
    let lost = (cluster.leader()? + 1) % 3;
    let stays = (lost + 1) % 3;
    let id = format!("{:x}", cluster.id(lost)?);
    cluster.members[lost].kill9()?;
    // With its data gone it must not begin afresh under its old name.
    let setup = cluster.members[lost].setup.clone();
    std::fs::remove_dir_all(&setup.data)?;
    let (status, log) = setup.run_to_end(Duration::from_secs(20))?;
    ensure!(!status.success() && log.contains("has already been bootstrapped"), "{log}");
    cluster.etcdctl_ok(stays, &["member", "remove", &id])?;

    let mut new = cluster.newcomer(dir.path(), "fresh", &QUICK)?;
    wait_until(Duration::from_secs(10), || {
        let added = cluster.etcdctl(stays, &["member", "add", "fresh", "--learner", "--peer-urls", &new.peer_url]);
        added.is_ok_and(|out| out.status.success())
    });
    let rest: Vec<_> = (0..3).filter(|at| *at != lost).map(|at| &cluster.members[at].setup).collect();
    new.initial_cluster =
        rest.iter().chain([&&new]).map(|s| format!("{}={}", s.name, s.peer_url)).collect::<Vec<_>>().join(",");
    cluster.members[lost] = new.spawn()?;
    let list = || cluster.etcdctl_ok(stays, &["member", "list"]);
    let mut members = String::new();
    let started = wait_until(Duration::from_secs(20), || {
        members = list().unwrap_or_default();
        members.contains("started, fresh")
    });
    ensure!(started, "{members}\n{}", cluster.members[lost].log_tail(20));
    ensure!(members.lines().any(|line| line.contains("fresh") && line.ends_with("true")), "it only learns: {members}");
    let refused = cluster.etcdctl(lost, &["put", "by", "a learner"])?;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("rpc not supported for learner"), "{refused:?}");
    let new_id = format!("{:x}", cluster.id(lost)?);
    let mut promoted = None;
    wait_until(Duration::from_secs(10), || {
        promoted = cluster.etcdctl(stays, &["member", "promote", &new_id]).ok();
        promoted.as_ref().is_some_and(|out| out.status.success())
    });
    let promoted = promoted.context("no answer")?;
    ensure!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    cluster.wait_ready()?;
    cluster.etcdctl_ok(lost, &["put", "by", "a voter"])?;
    cluster.agree(&[0, 1, 2])?;
    // It counts: with another one away, the new one and the last one are a quorum.
    let other = (0..3).find(|at| *at != lost && *at != stays).context("a third")?;
    cluster.members[other].kill9()?;
    cluster.leader()?;
    cluster.etcdctl_ok(stays, &["put", "two of", "three"])?;
    Ok(())
}

fn remove() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    let gone = (cluster.leader()? + 1) % 3;
    let id = format!("{:x}", cluster.id(gone)?);
    std::thread::sleep(Duration::from_secs(5));
    cluster.etcdctl_ok((gone + 1) % 3, &["member", "remove", &id])?;
    cluster.members[gone].wait_end(Duration::from_secs(20))?;
    let said = "the member has been permanently removed from the cluster";
    ensure!(cluster.members[gone].log_tail(20).contains(said), "{}", cluster.members[gone].log_tail(20));
    let (status, log) = cluster.members[gone].setup.run_to_end(Duration::from_secs(20))?;
    ensure!(!status.success() && log.contains(said), "{log}");
    cluster.etcdctl_ok((gone + 1) % 3, &["put", "two", "left"])?;
    Ok(())
}

fn restore_each() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = Program::under_test()?;
    let mut one = eyrie_tests::store::Setup::new(&ours, dir.path())?.start()?;
    one.etcdctl_ok(&["put", "kept", "value"])?;
    let file = dir.path().join("snapshot.db");
    let file = file.to_str().context("utf8")?;
    one.etcdctl_ok(&["snapshot", "save", file])?;
    one.stop()?;
    let setups = Cluster::setups(&ours, dir.path(), 3, &QUICK)?;
    let restore = |setup: &eyrie_tests::store::Setup| -> Result<()> {
        let mut command = std::process::Command::new(&ours.utl[0]);
        command.args(&ours.utl[1..]).args(["snapshot", "restore", file, "--name", &setup.name]);
        command.args(["--initial-cluster", &setup.initial_cluster, "--initial-advertise-peer-urls", &setup.peer_url]);
        let out = command.arg("--data-dir").arg(&setup.data).output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    };
    restore(&setups[0])?;
    let copied = std::process::Command::new("cp").arg("-r").arg(&setups[0].data).arg(&setups[1].data).status()?;
    ensure!(copied.success());
    let (status, log) = setups[1].run_to_end(Duration::from_secs(20))?;
    let command = format!("eyrie utl snapshot restore SNAPSHOT --name {} --initial-cluster", setups[1].name);
    ensure!(!status.success() && log.contains(&command), "{log}");
    std::fs::remove_dir_all(&setups[1].data)?;
    restore(&setups[1])?;
    restore(&setups[2])?;
    let mut members = setups.iter().map(|setup| setup.spawn()).collect::<Result<Vec<_>>>()?;
    for member in &mut members {
        member.wait_ready()?;
        ensure!(member.etcdctl_ok(&["get", "kept", "--print-value-only"])?.trim() == "value");
    }
    drop(members);
    // All at once, by one command; a second one finds the places taken and changes nothing.
    let together = dir.path().join("together");
    let all = || -> Result<std::process::Output> {
        let mut command = std::process::Command::new(&ours.utl[0]);
        command.args(&ours.utl[1..]).args(["snapshot", "restore", file, "--all-members"]);
        command.args(["--initial-cluster", &setups[0].initial_cluster, "--initial-cluster-token", "anew"]);
        Ok(command.arg("--data-dir").arg(&together).output()?)
    };
    let out = all()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = all()?;
    ensure!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("not empty"), "{out:?}");
    let anew: Vec<_> = setups
        .iter()
        .map(|setup| {
            let data = together.join(&setup.name);
            eyrie_tests::store::Setup { data, ..setup.clone().flags(&["--initial-cluster-token", "anew"]) }
        })
        .collect();
    let cluster = Cluster::of(&ours, &anew)?;
    for at in 0..3 {
        ensure!(cluster.etcdctl_ok(at, &["get", "kept", "--print-value-only"])?.trim() == "value");
    }
    cluster.agree(&[0, 1, 2])?;
    Ok(())
}
