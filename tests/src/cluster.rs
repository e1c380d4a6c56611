//! Several members of one cluster on this host, started, killed and replaced one by one.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::binaries::Program;
use crate::place::wait_until;
use crate::store::{Setup, Store, bounded};

/// How long a cluster may take to come to one mind.
const AGREE_LIMIT: Duration = Duration::from_secs(30);

/// A running cluster. Its members are killed when dropped.
pub struct Cluster {
    /// The members; one that was killed keeps its place.
    pub members: Vec<Store>,
    program: Program,
}

impl Cluster {
    /// Founds a cluster of `count` members with their data in `dir`, and waits until all serve.
    pub fn start(program: &Program, dir: &Path, count: usize, flags: &[&str]) -> Result<Cluster> {
        Cluster::of(program, &Cluster::setups(program, dir, count, flags)?)
    }

    /// Starts these members of one cluster, and waits until all serve.
    pub fn of(program: &Program, setups: &[Setup]) -> Result<Cluster> {
        let members = setups.iter().map(Setup::spawn).collect::<Result<Vec<_>>>()?;
        let mut cluster = Cluster { members, program: program.clone() };
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The same members with `https` between them; their certificates are up to the caller's flags.
    pub fn over_tls(setups: Vec<Setup>) -> Vec<Setup> {
        let secure = |mut setup: Setup| {
            setup.peer_url = setup.peer_url.replace("http://", "https://");
            setup.initial_cluster = setup.initial_cluster.replace("http://", "https://");
            let listen = setup.peer_url.clone();
            setup.flags(&["--listen-peer-urls", &listen])
        };
        setups.into_iter().map(secure).collect()
    }

    /// How `count` members of one cluster are started.
    pub fn setups(program: &Program, dir: &Path, count: usize, flags: &[&str]) -> Result<Vec<Setup>> {
        let mut setups = Vec::new();
        for number in 0..count {
            let place = dir.join(format!("m{number}"));
            std::fs::create_dir_all(&place)?;
            let mut setup = Setup::new(program, &place)?.flags(flags);
            setup.name = format!("m{number}");
            setup.peer_url = format!("http://127.0.0.1:{}", setup.peer_port);
            setups.push(setup);
        }
        let all = setups.iter().map(|setup| format!("{}={}", setup.name, setup.peer_url)).collect::<Vec<_>>().join(",");
        for setup in &mut setups {
            setup.initial_cluster = all.clone();
        }
        Ok(setups)
    }

    /// Waits until every member that runs is healthy.
    pub fn wait_ready(&mut self) -> Result<()> {
        for member in &mut self.members {
            if member.is_running() {
                member.wait_ready()?;
            }
        }
        Ok(())
    }

    /// A new member for `member add`, not started.
    pub fn newcomer(&self, dir: &Path, name: &str, flags: &[&str]) -> Result<Setup> {
        let place = dir.join(name);
        std::fs::create_dir_all(&place)?;
        let mut setup = Setup::new(&self.program, &place)?.flags(flags).flags(&["--initial-cluster-state", "existing"]);
        setup.name = name.into();
        setup.peer_url = format!("http://127.0.0.1:{}", setup.peer_port);
        Ok(setup)
    }

    /// Runs upstream's `etcdctl` against one member.
    pub fn etcdctl(&self, member: usize, args: &[&str]) -> Result<Output> {
        self.members[member].etcdctl(args)
    }

    /// As [`Cluster::etcdctl`], for a call that must succeed: its stdout.
    pub fn etcdctl_ok(&self, member: usize, args: &[&str]) -> Result<String> {
        self.members[member].etcdctl_ok(args)
    }

    /// Runs upstream's `etcdctl` with all these members as endpoints: its stdout.
    pub fn etcdctl_all(&self, members: &[usize], args: &[&str]) -> Result<String> {
        let endpoints = members.iter().map(|at| self.members[*at].endpoint()).collect::<Vec<_>>().join(",");
        let ctl = Program::upstream()?.ctl;
        let mut command = Command::new(&ctl[0]);
        command.args(&ctl[1..]).args(["--endpoints", &endpoints]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = bounded(&mut command, Duration::from_secs(60))?;
        ensure!(out.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// `Status` of one member.
    pub fn status(&self, member: usize) -> Result<Value> {
        let text = self.etcdctl_ok(member, &["endpoint", "status", "-w", "json"])?;
        let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(all[0]["Status"].clone())
    }

    /// The id of one member.
    pub fn id(&self, member: usize) -> Result<u64> {
        self.status(member)?["header"]["member_id"].as_u64().context("a member id")
    }

    /// The place of the member that leads, as seen by those that run.
    pub fn leader(&mut self) -> Result<usize> {
        let mut found = None;
        let running: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].is_running()).collect();
        wait_until(AGREE_LIMIT, || {
            found = running.iter().copied().find(|at| {
                self.status(*at).is_ok_and(|status| {
                    let own = status["header"]["member_id"].as_u64();
                    own.is_some() && own == status["leader"].as_u64()
                })
            });
            found.is_some()
        });
        found.context("no member leads")
    }

    /// Waits until these members have applied the same and hold the same: their common hash.
    pub fn agree(&self, members: &[usize]) -> Result<u64> {
        let end = Instant::now() + AGREE_LIMIT;
        loop {
            let text = self.etcdctl_all(members, &["endpoint", "hashkv", "-w", "json"])?;
            let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            let hashes: Vec<_> = all.as_array().context("a list")?.iter().collect();
            let of = |one: &Value| (one["HashKV"]["hash"].as_u64(), one["HashKV"]["header"]["revision"].as_i64());
            ensure!(hashes.len() == members.len(), "{text}");
            let first = of(hashes[0]);
            if first.0.is_some() && hashes.iter().all(|one| of(one) == first) {
                return Ok(first.0.unwrap_or_default());
            }
            if Instant::now() > end {
                bail!("the members do not come to hold the same: {text}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
