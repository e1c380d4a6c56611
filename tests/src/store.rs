//! One running server: Eyrie or upstream etcd, started alike, killed in every way, started again on the same folder.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::binaries::Program;
use crate::certificates::Pair;
use crate::place::{Place, wait_until};
use crate::ports;

/// How long a server may take until it answers `/health`.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How to start a server. The same value starts it again after a kill.
#[derive(Clone)]
pub struct Setup {
    /// Which implementation.
    pub program: Program,
    /// Its data dir.
    pub data: PathBuf,
    /// Its log, appended by each start.
    pub log: PathBuf,
    /// Host or namespace.
    pub place: Place,
    /// The address that it listens on.
    pub host: String,
    /// Client port there.
    pub client_port: u16,
    /// Peer port there.
    pub peer_port: u16,
    /// The member's name.
    pub name: String,
    /// The peer URL that it tells others.
    pub peer_url: String,
    /// All members at the first start, as the flag has them.
    pub initial_cluster: String,
    /// More flags.
    pub flags: Vec<String>,
    /// A program, with its arguments, that runs the server (strace and its like).
    pub wrapper: Vec<OsString>,
}

impl Setup {
    /// A server with its data and log in `dir`, on free ports of this host.
    pub fn new(program: &Program, dir: &Path) -> Result<Setup> {
        Ok(Setup {
            program: program.clone(),
            data: dir.join("data"),
            log: dir.join("server.log"),
            place: Place::Host,
            host: "127.0.0.1".into(),
            client_port: ports::free()?,
            peer_port: ports::free()?,
            name: "default".into(),
            // The default one, since ids are computed from it: all servers of all tests have the same ids, as two servers
            // started by the same script would.
            peer_url: "http://localhost:2380".into(),
            initial_cluster: "default=http://localhost:2380".into(),
            flags: Vec::new(),
            wrapper: Vec::new(),
        })
    }

    /// Adds flags.
    pub fn flags(mut self, flags: &[&str]) -> Setup {
        self.flags.extend(flags.iter().map(|f| f.to_string()));
        self
    }

    /// A second door for clients, over TLS, and its URL.
    pub fn secure_door(self, server: &Pair, ca: &Path, more: &[&str]) -> Result<(Setup, String)> {
        let secure = format!("https://127.0.0.1:{}", ports::free()?);
        let urls = format!("http://127.0.0.1:{},{secure}", self.client_port);
        let ca = ca.to_str().context("a path in UTF-8")?;
        let doors = ["--listen-client-urls", &urls, "--advertise-client-urls", &secure, "--bcrypt-cost=4"];
        let certificates = ["--cert-file", server.cert(), "--key-file", server.key(), "--trusted-ca-file", ca];
        Ok((self.flags(&doors).flags(&certificates).flags(more), secure))
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.host, self.client_port)
    }

    /// The command that starts the server.
    pub fn command(&self) -> Command {
        let words = self.wrapper.iter().chain(&self.program.serve).collect::<Vec<_>>();
        let mut c = self.place.command(words[0]);
        c.args(&words[1..]);
        let client = format!("http://{}", self.endpoint());
        c.arg("--data-dir").arg(&self.data);
        c.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        c.args(["--listen-peer-urls", &format!("http://{}:{}", self.host, self.peer_port)]);
        c.args(["--name", &self.name, "--initial-advertise-peer-urls", &self.peer_url]);
        c.args(["--initial-cluster", &self.initial_cluster]);
        c.args(&self.flags);
        c
    }

    /// Starts the server and returns at once.
    pub fn spawn(&self) -> Result<Store> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut c = self.command();
        c.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = c.spawn().with_context(|| format!("start {c:?}"))?;
        Ok(Store { setup: self.clone(), child })
    }

    /// Starts the server and waits until it is healthy.
    pub fn start(&self) -> Result<Store> {
        let mut store = self.spawn()?;
        store.wait_ready()?;
        Ok(store)
    }

    /// Runs the server until it ends by itself, as it must on a data dir that it refuses. The output is what it logged.
    pub fn run_to_end(&self, limit: Duration) -> Result<(ExitStatus, String)> {
        let _ = std::fs::remove_file(&self.log);
        let mut store = self.spawn()?;
        let status = store.wait_end(limit)?;
        Ok((status, store.log_tail(usize::MAX)))
    }
}

/// A running server; it is killed when dropped.
pub struct Store {
    /// How it was started.
    pub setup: Setup,
    child: Child,
}

impl Store {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        self.setup.endpoint()
    }

    /// Waits until `/health` says true.
    pub fn wait_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/health", self.endpoint());
        let place = self.setup.place.clone();
        let mut ended = None;
        let ready = wait_until(START_LIMIT, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || place.get(&url).is_some_and(|body| body.contains("true"))
        });
        match ended {
            Some(status) => bail!("{} ended while starting: {status}\n{}", self.setup.program.name, self.log_tail(20)),
            None if ready => Ok(()),
            None => bail!("{} is not healthy after {START_LIMIT:?}\n{}", self.setup.program.name, self.log_tail(20)),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once and reaps it.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        if !self.setup.wrapper.is_empty() {
            // The wrapper is dead, and the server dies with it; its port tells when.
            let port = ("127.0.0.1", self.setup.client_port);
            wait_until(STOP_LIMIT, || TcpListener::bind(port).is_ok());
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_end(STOP_LIMIT)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).context("pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut ended = None;
        wait_until(limit, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        ended.with_context(|| format!("{} still runs after {limit:?}\n{}", self.setup.program.name, self.log_tail(20)))
    }

    /// Kills it, if it runs, and starts it again on the same folder.
    pub fn restart(&mut self) -> Result<()> {
        let _ = self.kill9();
        *self = self.setup.start()?;
        Ok(())
    }

    /// Runs the program's own `etcdctl` against it.
    pub fn ctl(&self, args: &[&str]) -> Result<Output> {
        ctl(&self.setup.program, &self.setup, args)
    }

    /// Runs upstream's `etcdctl` against it.
    pub fn etcdctl(&self, args: &[&str]) -> Result<Output> {
        ctl(&Program::upstream()?, &self.setup, args)
    }

    /// Like [`Store::etcdctl`], for a call that must succeed: its stdout.
    pub fn etcdctl_ok(&self, args: &[&str]) -> Result<String> {
        let out = self.etcdctl(args)?;
        if !out.status.success() {
            bail!(
                "etcdctl {args:?}: {}\n{}\nserver log:\n{}",
                out.status,
                String::from_utf8_lossy(&out.stderr),
                self.log_tail(20)
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let mut text = Vec::new();
        let _ = File::open(&self.setup.log).and_then(|mut f| f.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.kill9();
        if std::thread::panicking() {
            eprintln!("--- log of {} ({}):\n{}", self.setup.program.name, self.setup.log.display(), self.log_tail(30));
        }
    }
}

/// Runs a command to its end, or kills it at the limit.
pub fn bounded(command: &mut Command, limit: Duration) -> Result<Output> {
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let end = Instant::now() + limit;
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Output { status, stdout: out.join().unwrap_or_default(), stderr: err.join().unwrap_or_default() })
}

fn ctl(program: &Program, setup: &Setup, args: &[&str]) -> Result<Output> {
    let mut c = setup.place.command(&program.ctl[0]);
    c.args(&program.ctl[1..]).arg("--endpoints").arg(setup.endpoint()).args(args);
    c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    bounded(&mut c, Duration::from_secs(60))
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut all);
        }
        all
    })
}
