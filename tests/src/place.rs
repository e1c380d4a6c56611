//! Where a process runs: beside us on the host, or in a network namespace that has nothing but its loopback.
//!
//! Milvus listens on all interfaces whatever it is told, so it lives in a [`Place::Apart`]; so do the programs that talk to it.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A network to run in. Cheap to clone; the namespace ends with the last clone.
#[derive(Clone, Default)]
pub enum Place {
    /// The host's own network.
    #[default]
    Host,
    /// A namespace of its own, held open by a sleeping process.
    Apart(Arc<Namespace>),
}

/// The process that holds a network namespace open.
pub struct Namespace {
    holder: Child,
    by_root: bool,
}

impl Place {
    /// Makes a new network with only `lo`, up.
    pub fn apart() -> Result<Place> {
        let by_root = rustix::process::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        unshare.arg(if by_root { "-n" } else { "-rn" });
        // The marker on stdout says that the loopback is up; the holder then sleeps until it is killed.
        unshare.args(["sh", "-c", "ip link set lo up && echo up && exec sleep 86400"]);
        unshare.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder =
            unshare.spawn().context("start `unshare` (Debian packages util-linux and iproute2 are needed)")?;
        let mut said = String::new();
        let out = holder.stdout.take().context("stdout of unshare")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said)?;
        if said.trim() != "up" {
            let _ = holder.kill();
            let _ = holder.wait();
            bail!("could not make a network namespace: run as root, or allow unprivileged user namespaces");
        }
        Ok(Place::Apart(Arc::new(Namespace { holder, by_root })))
    }

    /// A command that runs in this place. Its pid is the pid of the program itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Place::Host => Command::new(program),
            Place::Apart(ns) => {
                let mut c = Command::new("nsenter");
                if !ns.by_root {
                    c.args(["-U", "--preserve-credentials"]);
                }
                c.arg("-n").arg("-t").arg(ns.holder.id().to_string()).arg("--").arg(program);
                c
            }
        }
    }

    /// Moves the calling thread into this place, for good: its sockets are made there. Other threads stay where they are.
    ///
    /// # Errors
    /// Without the right to do so: run as root.
    pub fn enter(&self) -> Result<()> {
        let Place::Apart(ns) = self else { return Ok(()) };
        let file = std::fs::File::open(format!("/proc/{}/ns/net", ns.holder.id()))?;
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).context("enter a network namespace: run as root")
    }

    /// A runtime whose tasks have their sockets in this place.
    pub fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        let place = self.clone();
        let enter = move || place.enter().expect("this process has entered that place before");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // Fails here, where it can be told, and not on the runtime's threads.
        let trial = self.clone();
        std::thread::spawn(move || trial.enter()).join().map_err(|_| anyhow::anyhow!("enter a place"))??;
        Ok(builder.worker_threads(2).enable_all().on_thread_start(enter).build()?)
    }

    /// The body of a GET, when the answer is 2xx.
    pub fn get(&self, url: &str) -> Option<String> {
        let out = self.command("curl").args(["-sf", "-m", "5", url]).stdin(Stdio::null()).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Waits until `ready` says yes; `false` when the time is over.
pub fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
