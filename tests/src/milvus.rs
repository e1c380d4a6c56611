//! A real Milvus 2.3.5 (standalone) on a store, in the store's network namespace.
//!
//! Its session lease is shortened to 5 s, so that a restart of Milvus does not wait half a minute for the sessions of the dead
//! process; it is killed, not asked to end, since this version does not end when asked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::binaries::source_dir;
use crate::peers;
use crate::place::{Place, wait_until};
use crate::store::bounded;

/// Ports within the namespace, where nobody else is.
const PROXY_PORT: u16 = 19530;
const METRICS_PORT: u16 = 19539;
/// How long Milvus may take until it says that it is healthy.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long one session of the Python script may take.
const SESSION_LIMIT: Duration = Duration::from_secs(240);

/// A running Milvus; killed when dropped.
pub struct Milvus {
    dir: PathBuf,
    place: Place,
    child: Child,
}

impl Milvus {
    /// Starts Milvus with its files in `dir`, on the store at `endpoint`, and waits until it is healthy.
    pub fn start(dir: &Path, place: &Place, endpoint: &str) -> Result<Milvus> {
        let peer = peers::milvus()?;
        let configs = dir.join("configs");
        std::fs::create_dir_all(&configs)?;
        std::fs::write(configs.join("milvus.yaml"), config(dir, endpoint))?;
        let glog = glog_config(&peer)?;
        std::fs::copy(glog, configs.join("glog.conf"))?;
        let log = File::options().create(true).append(true).open(dir.join("log"))?;
        let bin = peer.join("dist/bin");
        let mut c = place.command(bin.join("milvus"));
        c.args(["run", "standalone"]).current_dir(dir).env("LD_LIBRARY_PATH", &bin).env("DEPLOY_MODE", "STANDALONE");
        c.env("METRICS_PORT", METRICS_PORT.to_string()).env("MILVUSCONF", &configs);
        let child = c.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start milvus")?;
        let mut milvus = Milvus { dir: dir.to_path_buf(), place: place.clone(), child };
        milvus.wait_healthy()?;
        Ok(milvus)
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Runs one session of `milvus_session.py`; its last line, the digest of the collection.
    pub fn session(&self, what: &str, collection: &str) -> Result<String> {
        let mut c = self.place.command(peers::milvus()?.join("bin/python"));
        c.args(["-W", "ignore"]).arg(source_dir().join("python/milvus_session.py"));
        c.args([&format!("127.0.0.1:{PROXY_PORT}"), what, collection]);
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = bounded(&mut c, SESSION_LIMIT)?;
        let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(
            out.status.success(),
            "`{what} {collection}` failed: {}\n{said}\n{}\nmilvus log:\n{}",
            out.status,
            tail(&wrong, 15),
            self.log_tail()
        );
        let digest = said.lines().last().unwrap_or_default().to_owned();
        ensure!(digest.contains("\"wrong\": 0"), "rows with other content than was inserted: {digest}");
        Ok(digest)
    }

    fn wait_healthy(&mut self) -> Result<()> {
        let url = format!("http://127.0.0.1:{METRICS_PORT}/healthz");
        let place = self.place.clone();
        let ready = wait_until(START_LIMIT, || {
            !self.is_running() || place.get(&url).is_some_and(|body| body.starts_with("OK"))
        });
        if !ready || !self.is_running() {
            bail!("milvus does not get healthy; its log:\n{}", self.log_tail());
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.dir.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        tail(&log, 12).lines().map(|line| line.chars().take(400).collect::<String>() + "\n").collect()
    }
}

impl Drop for Milvus {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

/// All that differs from the server's built-in configuration.
fn config(dir: &Path, endpoint: &str) -> String {
    let dir = dir.display();
    format!(
        "etcd:
  endpoints: {endpoint}
  rootPath: by-dev
  use: {{ embed: false }}
localStorage: {{ path: {dir}/objects }}
rocksmq: {{ path: {dir}/rocksmq }}
mq: {{ type: rocksmq }}
proxy: {{ port: {PROXY_PORT}, internalPort: 19529 }}
rootCoord: {{ port: 19531 }}
queryCoord: {{ port: 19532 }}
queryNode: {{ port: 19533 }}
dataCoord: {{ port: 19534 }}
dataNode: {{ port: 19535 }}
indexNode: {{ port: 19536 }}
log: {{ level: info, stdout: true }}
common:
  storageType: local
  session: {{ ttl: 5, retryTimes: 30 }}
"
    )
}

fn glog_config(peer: &Path) -> Result<PathBuf> {
    let mut lib = std::fs::read_dir(peer.join("lib"))?;
    let python = lib.next().context("an empty environment")??.path();
    Ok(python.join("site-packages/milvus/data/glog.conf"))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
