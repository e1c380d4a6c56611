//! The digest beside upstream's own: the same conversation with a real etcd, then HashKV of both.
//!
//! Needs the binaries, so it runs only when asked:
//! `EYRIE_PEER_ETCD=<folder with etcd and etcdctl> cargo test -p eyrie-state --test upstream -- --ignored`

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test that starts a foreign process")]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use eyrie_state::*;

/// A running upstream etcd; it ends with the test.
struct Upstream {
    bin: PathBuf,
    dir: PathBuf,
    client: u16,
    server: Child,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

impl Upstream {
    fn start() -> Self {
        let bin = std::env::var_os("EYRIE_PEER_ETCD").expect("EYRIE_PEER_ETCD names the folder of etcd and etcdctl");
        let bin = PathBuf::from(bin);
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (client, peer) = (port(), port());
        let dir = std::env::temp_dir().join(format!("eyrie-upstream-{client}"));
        let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let server = Process::new(bin.join("etcd"))
            .arg("--data-dir")
            .arg(&dir)
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let upstream = Self { bin, dir, client, server };
        for _ in 0..100 {
            if upstream.try_ctl(&["endpoint", "health"], "").is_some() {
                return upstream;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("etcd does not answer");
    }

    fn ctl(&self, args: &[&str], input: &str) -> String {
        self.try_ctl(args, input).unwrap_or_else(|| panic!("etcdctl {args:?} failed"))
    }

    fn try_ctl(&self, args: &[&str], input: &str) -> Option<String> {
        let mut child = Process::new(self.bin.join("etcdctl"))
            .args(["--endpoints", &format!("127.0.0.1:{}", self.client)])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn hash(&self, revision: i64) -> (u32, i64) {
        let json = self.ctl(&["endpoint", "hashkv", "-w", "json", "--rev", &revision.to_string()], "");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let hash = &json[0]["HashKV"];
        (hash["hash"].as_u64().unwrap() as u32, hash["compact_revision"].as_i64().unwrap())
    }
}

/// Both stores, told the same.
struct Both {
    upstream: Upstream,
    state: State<MemTables>,
}

impl Both {
    fn apply(&mut self, command: Command) {
        let index = LogIndex(self.state.applied().0.0 + 1);
        self.state.apply(index, Term(2), command).unwrap().outcome.unwrap();
    }

    fn put(&mut self, key: &str, value: &str, lease: LeaseId) {
        self.upstream.ctl(&["put", key, value, "--lease", &format!("{:x}", lease.0)], "");
        self.apply(Command::Put(Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease,
            ..Put::default()
        }));
    }

    fn delete(&mut self, from: &str, to: &str) {
        self.upstream.ctl(&["del", from, to], "");
        let keys = KeyRange::Span(from.to_owned().into(), to.to_owned().into());
        self.apply(Command::DeleteRange(DeleteRange { keys, prev_kv: false }));
    }

    fn txn(&mut self, put: &str, value: &str, deletes: &str) {
        self.upstream.ctl(&["txn"], &format!("\nput {put} {value}\ndel {deletes}\n\n\n"));
        let put = Put { key: put.to_owned().into(), value: value.to_owned().into(), ..Put::default() };
        let delete = DeleteRange { keys: KeyRange::One(deletes.to_owned().into()), prev_kv: false };
        let success = vec![Op::Put(put), Op::DeleteRange(delete)];
        self.apply(Command::Txn(Txn { success, ..Txn::default() }));
    }

    fn grant(&mut self) -> LeaseId {
        let answer = self.upstream.ctl(&["lease", "grant", "600"], "");
        let id = answer.split_whitespace().nth(1).expect("lease ID granted …");
        let id = LeaseId(i64::from_str_radix(id, 16).unwrap());
        self.apply(Command::LeaseGrant { id, ttl_secs: 600 });
        id
    }

    fn compact(&mut self, revision: i64) {
        self.upstream.ctl(&["compact", "--physical", &revision.to_string()], "");
        self.apply(Command::Compact { revision: Revision(revision) });
    }

    /// Every revision that 3.5.1 will hash: it refuses the compacted one itself, which later releases do not.
    fn compare(&self) {
        let line = self.state.compacted().map_or(1, |line| line.0);
        for revision in line + 1..=self.state.revision().0 {
            let ours = self.state.hash_kv(Some(Revision(revision))).unwrap().run().unwrap();
            let theirs = self.upstream.hash(revision);
            assert_eq!((ours.hash, ours.compact_revision), theirs, "at {revision}, compacted at {line}");
        }
    }
}

#[test]
#[ignore = "needs upstream's binaries; see the header"]
fn the_digest_equals_upstreams() {
    let mut both = Both { upstream: Upstream::start(), state: State::open(MemTables::default()).unwrap() };
    let mut seed = 7u32;
    let mut roll = |sides: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % sides
    };
    let leases = [LeaseId(0), both.grant(), both.grant()];
    for round in 0..4 {
        for n in 0..25 {
            let key = format!("key{}", roll(6));
            match roll(6) {
                0 => both.delete(&key, "key9"),
                1 => both.txn(&key, &n.to_string(), "gone"),
                2 => both.txn("gone", &n.to_string(), &key),
                _ => both.put(&key, &format!("value {n}"), leases[roll(3) as usize]),
            }
        }
        both.compare();
        // Somewhere in the middle, often at a tombstone; in the last round everything is deleted before it.
        if round == 3 {
            both.delete("a", "z");
            both.compare();
        }
        let now = both.state.revision().0;
        both.compact(now - 3);
        both.compare();
        while both.state.compaction_step(2).unwrap().more {}
        both.compare();
    }
}
