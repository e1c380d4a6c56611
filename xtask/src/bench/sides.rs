//! The two stores that are compared: how each is started, stopped, asked and measured. Both get the same arguments.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{load, wire};
use crate::peers::Peers;

/// A server that does not answer for so long after its start has failed.
const START_MAX: Duration = Duration::from_secs(120);
/// A server that does not end for so long after it was asked to has failed.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How often a starting server is asked whether it is there.
const START_POLL: Duration = Duration::from_millis(2);

/// One of the two stores.
#[derive(Clone)]
pub(crate) struct Side {
    /// What the tables call it.
    pub(crate) name: &'static str,
    server: PathBuf,
    utl: PathBuf,
    /// Upstream's etcdctl, for both.
    ctl: PathBuf,
}

impl Side {
    /// Upstream etcd.
    pub(crate) fn upstream(peers: &Peers) -> Self {
        Self { name: "upstream", server: peers.etcd.clone(), utl: peers.etcdutl.clone(), ctl: peers.etcdctl.clone() }
    }

    /// Eyrie, or what `EYRIE_BIN` names in its place. A binary with an `etcdutl` beside it is upstream's own.
    pub(crate) fn eyrie(peers: &Peers, binary: PathBuf) -> Self {
        let beside = binary.with_file_name("etcdutl");
        let utl = if beside.exists() { beside } else { binary.clone() };
        Self { name: "eyrie", server: binary, utl, ctl: peers.etcdctl.clone() }
    }

    /// The first line of `--version`.
    ///
    /// # Errors
    /// When the binary does not run.
    pub(crate) fn version(&self) -> Result<String> {
        let output = Command::new(&self.server).arg0("etcd").arg("--version").output();
        let output = output.with_context(|| format!("start {}", self.server.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_string).with_context(|| format!("{} --version says nothing", self.name))
    }

    /// Starts a member on this data dir and waits until a linearizable read succeeds.
    ///
    /// # Errors
    /// When it ends or does not answer in two minutes; with the end of its log.
    pub(crate) fn start(&self, data_dir: &Path) -> Result<Member> {
        let peer_url = format!("http://{}", free_address()?);
        let begin = Instant::now();
        let mut member = self.spawn("bench", data_dir, &peer_url, &format!("bench={peer_url}"))?;
        member.await_answer(begin)?;
        Ok(member)
    }

    /// Starts three members of one cluster in this directory, and waits until each serves. The first leads.
    ///
    /// # Errors
    /// As for [`Side::start`].
    pub(crate) fn start_three(&self, dir: &Path) -> Result<Vec<Member>> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let names = ["a", "b", "c"];
        let urls = (0..3).map(|_| Ok(format!("http://{}", free_address()?))).collect::<Result<Vec<_>>>()?;
        let all: Vec<String> = names.iter().zip(&urls).map(|(name, url)| format!("{name}={url}")).collect();
        let mut members = Vec::new();
        for (name, url) in names.iter().zip(&urls) {
            members.push(self.spawn(name, &dir.join(name), url, &all.join(","))?);
        }
        let begin = Instant::now();
        members.iter_mut().try_for_each(|member| member.await_answer(begin))?;
        let leads = |member: &Member| -> Result<bool> {
            let status = member.ctl(&["endpoint", "status", "-w", "fields"])?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            Ok(field("\"MemberID\"").is_some() && field("\"MemberID\"") == field("\"Leader\""))
        };
        let place = members.iter().map(leads).collect::<Result<Vec<_>>>()?.iter().position(|leads| *leads);
        members.swap(0, place.context("no member of the cluster leads")?);
        Ok(members)
    }

    fn spawn(&self, name: &str, data_dir: &Path, peer_url: &str, cluster: &str) -> Result<Member> {
        let address = free_address()?;
        let client_url = format!("http://{address}");
        let log_path = data_dir.with_extension("log");
        let log = std::fs::File::create(&log_path).with_context(|| format!("create {}", log_path.display()))?;
        let mut command = Command::new(&self.server);
        // By this name Eyrie *is* etcd, so both sides take the same words.
        command.arg0("etcd").arg(format!("--name={name}")).arg(format!("--data-dir={}", data_dir.display()));
        command.arg(format!("--listen-client-urls={client_url}"));
        command.arg(format!("--advertise-client-urls={client_url}"));
        command.arg(format!("--listen-peer-urls={peer_url}"));
        command.arg(format!("--initial-advertise-peer-urls={peer_url}"));
        command.arg(format!("--initial-cluster={cluster}"));
        command.args(["--quota-backend-bytes=8589934592", "--log-level=warn"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        end_with_us(&mut command);
        let child = command.spawn().with_context(|| format!("start {}", self.server.display()))?;
        Ok(Member { child, address, started_after: Duration::ZERO, side: self.clone(), log_path })
    }

    /// Restores a snapshot into a new data dir with this side's own etcdutl.
    ///
    /// # Errors
    /// When it refuses; with what it said.
    pub(crate) fn restore(&self, snapshot: &Path, data_dir: &Path) -> Result<Duration> {
        let begin = Instant::now();
        let output = Command::new(&self.utl)
            .arg0("etcdutl")
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .arg("--data-dir")
            .arg(data_dir)
            .output()
            .with_context(|| format!("start {}", self.utl.display()))?;
        succeed(&format!("{}: restore", self.name), &output)?;
        Ok(begin.elapsed())
    }
}

/// A running member.
pub(crate) struct Member {
    child: Child,
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
    /// From the start of the process to the first answer.
    pub(crate) started_after: Duration,
    side: Side,
    log_path: PathBuf,
}

impl Member {
    fn await_answer(&mut self, begin: Instant) -> Result<()> {
        let mut message = Vec::new();
        wire::range(&mut message, b"bench-start", false);
        loop {
            let asked = load::ask(self.address, wire::RANGE, &message, Duration::from_secs(10));
            if asked.is_ok() {
                self.started_after = begin.elapsed();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while starting ({status}); the end of its log:\n{}", self.side.name, self.log_end());
            }
            if begin.elapsed() > START_MAX {
                bail!(
                    "{} did not answer within {} s ({:#}); the end of its log:\n{}",
                    self.side.name,
                    START_MAX.as_secs(),
                    asked.err().context("no answer")?,
                    self.log_end()
                );
            }
            std::thread::sleep(START_POLL);
        }
    }

    /// Stops it as an operator does (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it does not end within a minute, or ends with an error.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM).context("stop the member")?;
        let begin = Instant::now();
        loop {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            if begin.elapsed() > STOP_MAX {
                bail!("{} did not end within {} s of SIGTERM", self.side.name, STOP_MAX.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// CPU time it has used, in user and system mode.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id()).with_context(|| format!("has {} ended?", self.side.name))
    }

    /// Anonymous resident memory, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("status: no RssAnon")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("RssAnon: not a number")?;
        Ok(kib * 1024)
    }

    /// Runs upstream's etcdctl against it.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub(crate) fn ctl(&self, args: &[&str]) -> Result<String> {
        ctl(&self.side, self.address, args)
    }

    /// A way to run etcdctl from another thread.
    pub(crate) fn remote(&self) -> impl Fn(&[&str]) -> Result<String> + Send + 'static {
        let (side, address) = (self.side.clone(), self.address);
        move |args| ctl(&side, address, args)
    }

    /// Checks by a real client that the store holds what was acknowledged: so many keys, at so many changes. Of calls
    /// that failed (`unsure`) each may have been done or not.
    ///
    /// # Errors
    /// When the number of keys or the revision cannot be: the run's figures are then worth nothing.
    pub(crate) fn check(&self, prefix: &str, keys: u64, changes: u64, unsure: u64) -> Result<()> {
        let answer = self.ctl(&["get", prefix, "--prefix", "--count-only", "-w", "fields"])?;
        let field = |name: &str| -> Result<u64> {
            let line =
                answer.lines().find_map(|line| line.strip_prefix(name)).context("etcdctl get: a field is missing")?;
            line.trim_start_matches(" : ").parse().context("etcdctl get: not a number")
        };
        let (count, revision) = (field("\"Count\"")?, field("\"Revision\"")?);
        // An empty store is at revision 1.
        let at = changes + 1;
        if !(keys..=keys + unsure).contains(&count) || !(at..=at + unsure).contains(&revision) {
            bail!(
                "{} holds {count} keys at revision {revision} where {keys} keys at revision {at} were acknowledged and \
                 {unsure} calls failed",
                self.side.name
            );
        }
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.child.id() as i32).context("a process without an id")
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("read {path} (has {} ended?)", self.side.name))
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log_path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Member {
    /// A run that failed leaves no server behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Makes the child end when this program does, however that happens: no server outlives a benchmark that was killed.
#[allow(unsafe_code)]
fn end_with_us(command: &mut Command) {
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only one system call is made; nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(ask) };
}

/// CPU time that a process has used, in user and system mode.
///
/// # Errors
/// When the process is gone.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let after_name = stat.rsplit_once(')').context("stat: no name")?.1;
    let field = |place: usize| -> Result<u64> {
        let text = after_name.split_whitespace().nth(place).context("stat: too short")?;
        text.parse().context("stat: not a number")
    };
    let ticks = field(11)? + field(12)?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

impl Side {
    /// Upstream's etcdctl, pointed at a member.
    pub(crate) fn ctl_command(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.ctl);
        command.arg(format!("--endpoints=http://{address}"));
        command
    }
}

fn ctl(side: &Side, address: SocketAddr, args: &[&str]) -> Result<String> {
    let output = side
        .ctl_command(address)
        .args(["--command-timeout=300s", "--dial-timeout=10s"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", side.ctl.display()))?;
    succeed(&format!("{}: etcdctl {}", side.name, args.join(" ")), &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn succeed(what: &str, output: &std::process::Output) -> Result<()> {
    if !output.status.success() {
        bail!(
            "{what} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?)
}
