//! The store of a drill, and the user's command: processes that end with the drill, also when it is killed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::CommandReport;
use crate::limits::{DRILL_OUTPUT_LEN_MAX, DRILL_START_LIMIT, DRILL_STOP_LIMIT};
use crate::source::{Source, SourceConfig};

/// What the store says of itself; nobody comes.
pub(super) const PEER_URL: &str = "http://localhost:2380";

/// Pause between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A quota that no metadata of Milvus meets.
const QUOTA: &str = "17179869184";

/// File beside the store with its process id, for the drill after one that was killed.
const PID_FILE: &str = "store.pid";

/// A running store; killed when dropped.
pub(super) struct Store {
    child: Child,
    log: PathBuf,
    pub(super) source: Source,
    pub(super) endpoint: String,
}

impl Store {
    /// Starts `program serve` on a data directory, on ports of this machine's loopback.
    pub(super) async fn open(program: &Path, data: &Path, scratch: &Path) -> Result<Self, String> {
        let started = Self::start(program, data, scratch);
        let (child, log, endpoint) =
            started.map_err(|error| format!("{} can't be started: {error}", program.display()))?;
        let config = SourceConfig { endpoints: vec![endpoint.clone()], ..SourceConfig::default() };
        let mut child = Some(child);
        match Source::connect(&config).await {
            Ok(source) => Ok(Self { child: child.take().ok_or("the store is gone")?, log, source, endpoint }),
            Err(error) => {
                child.iter_mut().for_each(|child| drop(child.kill().and_then(|()| child.wait())));
                Err(error.to_string())
            }
        }
    }

    fn start(program: &Path, data: &Path, scratch: &Path) -> std::io::Result<(Child, PathBuf, String)> {
        let [client, peer] = free_ports()?.map(|port| format!("http://127.0.0.1:{port}"));
        let log = scratch.join("store.log");
        let file = File::create(&log)?;
        let child = Command::new(program)
            .arg("serve")
            .args(["--name", "drill", "--quota-backend-bytes", QUOTA, "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", PEER_URL])
            .args(["--initial-cluster", &format!("drill={PEER_URL}")])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()?;
        std::fs::write(scratch.join(PID_FILE), child.id().to_string())?;
        Ok((child, log, client))
    }

    /// Waits until it answers a read as every client asks it.
    pub(super) async fn wait_until_it_serves(&mut self) -> Result<(), String> {
        let since = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the store ended while it started ({status}):\n{}", tail_of(&self.log)));
            }
            if self.source.read_any().await.is_ok() {
                return Ok(());
            }
            if since.elapsed() > DRILL_START_LIMIT {
                return Err(format!(
                    "the store does not serve after {} s:\n{}",
                    DRILL_START_LIMIT.as_secs(),
                    tail_of(&self.log)
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks it to end, and ends it.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = pid(&self.child) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < DRILL_STOP_LIMIT {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the user's command against the store, or kills it and all that it has started at the limit.
pub(super) async fn run(
    command: &str,
    store: &Store,
    told: &[(&str, String)],
    scratch: &Path,
    limit: Duration,
) -> std::io::Result<CommandReport> {
    let log = scratch.join("command.log");
    let file = File::create(&log)?;
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("EYRIE_ENDPOINT", &store.endpoint).env("ETCDCTL_ENDPOINTS", &store.endpoint);
    shell.env("ETCDCTL_API", "3").envs(told.iter().map(|(name, value)| (name, value)));
    let since = Instant::now();
    let child = shell.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0).spawn()?;
    let mut group = Group(child);
    let code = loop {
        if let Some(status) = group.0.try_wait()? {
            break status.code();
        }
        if since.elapsed() > limit {
            break None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    drop(group);
    let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(CommandReport { code, took_ms, output: tail_of(&log) })
}

/// A process with all that it has started; killed when dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = pid(&self.0) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Ends the stores of drills that were killed, and removes their folders.
pub(super) fn clear_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) =
            name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|rest| rest.split('-').next())
        else {
            continue;
        };
        if owner.parse::<u32>().is_err() || Path::new("/proc").join(owner).exists() {
            continue;
        }
        let path = entry.path();
        let pid = std::fs::read_to_string(path.join(PID_FILE)).ok().and_then(|text| text.trim().parse::<i32>().ok());
        // numbers of processes return: only one that still serves this very folder is ours
        let ours = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let place = path.as_os_str().as_encoded_bytes();
            line.windows(place.len()).any(|part| part == place)
        };
        if let Some(pid) = pid.filter(ours).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = std::fs::remove_dir_all(&path);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Both are held until both are known, so that they differ.
fn free_ports() -> std::io::Result<[u16; 2]> {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0");
    let both = [bind()?, bind()?];
    Ok([both[0].local_addr()?.port(), both[1].local_addr()?.port()])
}

fn tail_of(log: &Path) -> String {
    let mut text = Vec::new();
    let _ = File::open(log).and_then(|mut file| {
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(DRILL_OUTPUT_LEN_MAX as u64)))?;
        file.read_to_end(&mut text)
    });
    String::from_utf8_lossy(&text).into_owned()
}
