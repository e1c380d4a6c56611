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

/// Ports within the namespace, where nobody else is, begin here; the proxy has the usual 19530.
const PORTS: u16 = 19500;
/// So far away are the ports of a second one.
const PORTS_STEP: u16 = 100;
/// How long Milvus may take until it says that it is healthy.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long one session of the Python script may take.
const SESSION_LIMIT: Duration = Duration::from_secs(240);

/// Port of the S3 server, in the same namespace.
const S3_PORT: u16 = 19900;

/// Where Milvus keeps its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the folder `objects` beside its other files.
    Folder,
    /// In the bucket `a-bucket`, below `files`, of an S3 server on port 19900; and who calls Milvus has to log in.
    S3,
    /// In the bucket `milvus`, below `files`, of an S3 server that runs already, on this port.
    At(u16),
    /// The same in another bucket.
    In(u16, &'static str),
}

/// A running Milvus; killed when dropped.
pub struct Milvus {
    dir: PathBuf,
    place: Place,
    child: Child,
    /// The first of its ports.
    ports: u16,
    _s3: Option<S3>,
}

/// A running S3 server; killed when dropped.
struct S3(Child);

impl Milvus {
    /// Starts Milvus with its files in `dir`, on the store at `endpoint`, and waits until it is healthy.
    pub fn start(dir: &Path, place: &Place, endpoint: &str) -> Result<Milvus> {
        Milvus::start_on(dir, place, endpoint, Storage::Folder)
    }

    /// The same, with its objects wherever they are wanted; an S3 server is started with it.
    pub fn start_on(dir: &Path, place: &Place, endpoint: &str, storage: Storage) -> Result<Milvus> {
        Milvus::start_at(dir, place, endpoint, storage, PORTS)
    }

    /// A second Milvus beside another one, with another root in the same store: its proxy has the port 19630.
    pub fn start_beside(dir: &Path, place: &Place, endpoint: &str) -> Result<Milvus> {
        Milvus::start_at(dir, place, endpoint, Storage::Folder, PORTS + PORTS_STEP)
    }

    fn start_at(dir: &Path, place: &Place, endpoint: &str, storage: Storage, ports: u16) -> Result<Milvus> {
        let peer = peers::milvus()?;
        let configs = dir.join("configs");
        std::fs::create_dir_all(&configs)?;
        std::fs::write(configs.join("milvus.yaml"), config(dir, endpoint, storage, ports))?;
        let glog = glog_config(&peer)?;
        std::fs::copy(glog, configs.join("glog.conf"))?;
        let log = File::options().create(true).append(true).open(dir.join("log"))?;
        let s3 = match storage {
            Storage::Folder => None,
            Storage::S3 => Some(S3::start(dir, place)?),
            Storage::At(_) | Storage::In(..) => None,
        };
        let bin = peer.join("dist/bin");
        let mut c = place.command(bin.join("milvus"));
        c.args(["run", "standalone"]).current_dir(dir).env("LD_LIBRARY_PATH", &bin).env("DEPLOY_MODE", "STANDALONE");
        c.env("METRICS_PORT", (ports + 39).to_string()).env("MILVUSCONF", &configs);
        let child = c.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start milvus")?;
        let mut milvus = Milvus { dir: dir.to_path_buf(), place: place.clone(), child, ports, _s3: s3 };
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
        let digest = self.python("milvus_session.py", &[what, collection])?;
        ensure!(digest.contains("\"wrong\": 0"), "rows with other content than was inserted: {digest}");
        Ok(digest)
    }

    /// Runs a script of `tests/python` with the address of this Milvus and these arguments; the last line that it prints.
    pub fn python(&self, script: &str, args: &[&str]) -> Result<String> {
        let mut c = self.place.command(peers::milvus()?.join("bin/python"));
        c.args(["-W", "ignore"]).arg(source_dir().join("python").join(script));
        c.arg(format!("127.0.0.1:{}", self.ports + 30)).args(args);
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let out = bounded(&mut c, SESSION_LIMIT)?;
        let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(
            out.status.success(),
            "`{script} {args:?}` failed: {}\n{said}\n{}\nmilvus log:\n{}",
            out.status,
            tail(&wrong, 15),
            self.log_tail()
        );
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }

    fn wait_healthy(&mut self) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/healthz", self.ports + 39);
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

impl S3 {
    fn start(dir: &Path, place: &Place) -> Result<S3> {
        let log = File::create(dir.join("s3.log"))?;
        let mut c = place.command(peers::moto()?.join("bin/python"));
        c.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &S3_PORT.to_string()]);
        let mut s3 = S3(c.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start moto")?);
        let url = format!("http://127.0.0.1:{S3_PORT}/");
        let ready = wait_until(START_LIMIT, || !matches!(s3.0.try_wait(), Ok(None)) || place.get(&url).is_some());
        ensure!(ready && matches!(s3.0.try_wait(), Ok(None)), "the S3 server does not start");
        Ok(s3)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that differs from the server's built-in configuration.
fn config(dir: &Path, endpoint: &str, storage: Storage, ports: u16) -> String {
    let dir = dir.display();
    let login = storage == Storage::S3;
    let running = |bucket: &str, port: u16| {
        let place = format!("address: 127.0.0.1, port: {port}, bucketName: {bucket}, rootPath: files");
        ("remote", format!("minio: {{ {place}, accessKeyID: test, secretAccessKey: test }}\n"))
    };
    let (kind, minio) = match storage {
        Storage::Folder => ("local", String::new()),
        Storage::S3 => (
            "remote",
            format!(
                "minio: {{ address: 127.0.0.1, port: {S3_PORT}, bucketName: a-bucket, rootPath: files, accessKeyID: minioadmin, \
                 secretAccessKey: minioadmin }}\n"
            ),
        ),
        Storage::At(port) => running("milvus", port),
        Storage::In(port, bucket) => running(bucket, port),
    };
    let root = if ports == PORTS { "by-dev" } else { "by-other" };
    let port = |of: u16| ports + of;
    let [internal, proxy, root_coord, query_coord, query_node] = [29, 30, 31, 32, 33].map(port);
    let [data_coord, data_node, index_node] = [34, 35, 36].map(port);
    format!(
        "etcd:
  endpoints: {endpoint}
  rootPath: {root}
  use: {{ embed: false }}
localStorage: {{ path: {dir}/objects }}
rocksmq: {{ path: {dir}/rocksmq }}
mq: {{ type: rocksmq }}
proxy: {{ port: {proxy}, internalPort: {internal} }}
rootCoord: {{ port: {root_coord} }}
queryCoord: {{ port: {query_coord} }}
queryNode: {{ port: {query_node} }}
dataCoord: {{ port: {data_coord} }}
dataNode: {{ port: {data_node} }}
indexNode: {{ port: {index_node} }}
log: {{ level: info, stdout: true }}
common:
  storageType: {kind}
  session: {{ ttl: 5, retryTimes: 30 }}
  security: {{ authorizationEnabled: {login} }}
{minio}"
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
