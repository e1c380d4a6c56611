//! The binary from outside: names it is called by, exit codes, signals, what it says.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const EYRIE: &str = env!("CARGO_BIN_EXE_eyrie");
const SIGTERM: i32 = 15;

fn run(program: &str, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = clean(Command::new(program).args(args)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Without what the shell of whoever runs the tests may have set.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A member on free ports, killed with the test.
struct Member(Child);

impl Member {
    fn start(dir: &Path, port: u16, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let url = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(EYRIE);
        clean(&mut command).arg("serve").arg("--data-dir").arg(dir.join("data"));
        command.args([format!("-listen-client-urls={url}"), format!("-advertise-client-urls={url}")]).args(more);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    fn end(mut self) -> (std::process::ExitStatus, String) {
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap(), log)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_ready(port: u16) {
    let end = Instant::now() + Duration::from_secs(30);
    let endpoint = format!("--endpoints=127.0.0.1:{port}");
    while run(EYRIE, &["ctl", &endpoint, "endpoint", "health"]).0 != 0 {
        assert!(Instant::now() < end, "the member did not become ready");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_is_what_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        let path = dir.path().join(name);
        std::os::unix::fs::symlink(EYRIE, &path).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (code, version, _) = run(&link("etcd"), &["--version"]);
    assert_eq!((code, version.lines().next()), (0, Some("etcd Version: 3.5.21")));
    assert_eq!(version.lines().count(), 5);
    assert!(version.contains("\nEyrie Version: "));
    let (code, version, _) = run(&link("etcdctl"), &["version"]);
    assert!(code == 0 && version.starts_with("etcdctl version: 3.5.21\n"), "{version}");
    let (code, version, _) = run(&link("etcdutl"), &["version"]);
    assert!(code == 0 && version.starts_with("etcdutl version: 3.5.21\n"), "{version}");
    let (code, help, _) = run(EYRIE, &[]);
    assert!(code == 0 && help.contains("eyrie up"));
    let (code, _, error) = run(EYRIE, &["serv"]);
    assert!(code == 2 && error.starts_with("There is no command `serv`. Did you mean `"), "{error}");
}

#[test]
fn a_wrong_call_ends_as_etcd_ends() {
    let (code, out, error) = run(EYRIE, &["serve", "--foo=1"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(error.starts_with("flag provided but not defined: -foo\nUsage:\n"), "{error}");
    let (code, _, error) = run(EYRIE, &["serve", "extra"]);
    let line: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!(
        (code, &line["msg"], &line["error"]),
        (1, &"failed to verify flags".into(), &"'extra' is not a valid flag".into())
    );
    let (code, help, _) = run(EYRIE, &["serve", "--help"]);
    assert!(code == 0 && help.contains("--auto-compaction-retention"));
    let (code, _, error) = run(EYRIE, &["serve", "--peer-cert-file=/nowhere"]);
    assert!(code == 1 && error.contains("KeyFile and CertFile must both be present"), "{error}");
}

#[test]
fn a_signal_ends_it_gracefully_and_the_data_stays() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let endpoint = format!("--endpoints=127.0.0.1:{port}");
    let socket = dir.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = || {
        let mut buffer = [0; 64];
        let read = notified.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    let variables =
        [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("ETCD_SERVICE_SECRET", "hunter2"), ("ETCD_ENABLE_V2", "true")];
    let member = Member::start(dir.path(), port, &[], &variables);
    assert_eq!(heard(), "READY=1");
    assert_eq!(run(EYRIE, &["ctl", &endpoint, "put", "foo", "bar"]).1, "OK\n");
    member.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    let (status, log) = member.end();
    assert_eq!(status.signal(), Some(SIGTERM), "{log}");
    for text in [
        "ready to serve client requests",
        "published local member to cluster through raft",
        "became leader",
        "received signal; shutting down",
        "\"environment-variable\":\"ETCD_SERVICE_SECRET\"",
        "\"flag\":\"--enable-v2\"",
    ] {
        assert!(log.contains(text), "{text} is not in\n{log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["ts"].is_string() && line["level"].is_string() && line["caller"].is_string(), "{line}");
    }
    let member = Member::start(dir.path(), port, &["--log-format", "console"], &[]);
    wait_ready(port);
    assert_eq!(run(EYRIE, &["ctl", &endpoint, "get", "foo"]).1, "foo\nbar\n");
    member.signal("INT");
    assert_eq!(member.end().0.signal(), Some(2));
}

#[test]
fn up_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let up = |more: &[&str]| {
        let mut command = Command::new(EYRIE);
        clean(&mut command).current_dir(dir.path()).args(["up", "--port", &port.to_string()]).args(more);
        Member(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let mut first = up(&[]);
    wait_ready(port);
    let (code, _, error) = run(EYRIE, &["up", "--port", &port.to_string()]);
    assert!(code == 1 && error.contains(&format!("Port {port} on 127.0.0.1 is already taken")), "{error}");
    assert!(error.contains("up --port "), "{error}");
    first.signal("INT");
    let mut said = String::new();
    first.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(
        said.contains("store, new and empty.") && said.contains("Stopped. The data stays in eyrie-data."),
        "{said}"
    );
    // What it tells to type works.
    let mut second = up(&[]);
    wait_ready(port);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| line.starts_with(&format!("{EYRIE} ctl "))).collect();
    for (line, answer) in lines.iter().zip(["OK\n", "greeting\nhello\n"]) {
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        assert_eq!(run(EYRIE, &words).1, answer, "{line}");
    }
    second.signal("TERM");
    let mut said = String::new();
    second.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("continued with the data that was there"), "{said}");
}

#[test]
fn a_reader_that_went_away_is_no_crash() {
    for args in [&["--help"][..], &["serve", "--help"], &["utl", "version"], &["utl", "snapshot", "--help"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let output = Command::new(EYRIE).args(args).stdout(write).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
            (Some(141), ""),
            "{args:?}"
        );
    }
}
