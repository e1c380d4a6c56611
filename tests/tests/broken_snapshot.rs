//! A new member is brought up to date over a line that breaks again and again: what has arrived is not sent twice, and what
//! arrives at last is what the leader has. Meanwhile the leader serves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::load::Wire;
use eyrie_tests::place::wait_until;
use eyrie_tests::ports;
use eyrie_tests::verdict::Verdict;

const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// What the new member lacks.
const MIB: u64 = 64;
/// What one connection carries before it breaks: more than is under way at a time, less than half of all.
const BREAKS_AFTER: u64 = 20 << 20;
/// How long the new member may take.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_snapshot_goes_on_where_its_connection_broke() -> Verdict {
    Ok(goes_on()?)
}

fn goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::start(&Program::under_test()?, dir.path(), 1, &QUICK)?;
    let endpoint = cluster.members[0].endpoint();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let wire = Wire::new(&endpoint)?;
        for n in 0..MIB * 4 {
            wire.put(format!("lost/{n:06}").as_bytes(), &noise(n, 256 << 10), 0).await?;
        }
        anyhow::Ok(())
    })?;
    let mut fresh = cluster.newcomer(dir.path(), "fresh", &QUICK)?;
    let line = Line::to(fresh.peer_port, BREAKS_AFTER)?;
    fresh.peer_url = format!("http://127.0.0.1:{}", line.port);
    cluster.etcdctl_ok(0, &["member", "add", "fresh", "--learner", "--peer-urls", &fresh.peer_url])?;
    fresh.initial_cluster = format!("{},fresh={}", cluster.members[0].setup.initial_cluster, fresh.peer_url);

    // Somebody writes all the time.
    let over = Arc::new(AtomicBool::new(false));
    let (told, at) = (over.clone(), endpoint.clone());
    let writer = runtime.spawn(async move {
        let (wire, mut took) = (Wire::new(&at)?, Vec::new());
        while !told.load(Ordering::Relaxed) {
            let begun = Instant::now();
            wire.put(b"meanwhile", took.len().to_string().as_bytes(), 0).await?;
            took.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.sort();
        anyhow::Ok(took)
    });
    let begun = Instant::now();
    cluster.members.push(fresh.spawn()?);
    let log = |at: usize| cluster.members[at].log_tail(usize::MAX);
    let installed = wait_until(WHOLE_LIMIT, || log(1).contains("took over the store as the leader sent it"));
    let whole_after = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let took = runtime.block_on(writer)??;
    ensure!(installed, "{}\n{}", log(0), log(1));
    // A voter may be asked for its hash.
    let id = newcomer_id(&cluster)?;
    let promoted = wait_until(WHOLE_LIMIT, || {
        cluster.etcdctl(0, &["member", "promote", &id]).is_ok_and(|out| out.status.success())
    });
    ensure!(promoted, "it is not as far as the leader: {}", cluster.members[1].log_tail(20));
    cluster.members[1].wait_ready()?;
    cluster.agree(&[0, 1])?;

    let (broke, carried) = (line.broke.load(Ordering::Relaxed), line.carried.load(Ordering::Relaxed) >> 20);
    let went_on =
        cluster.members[1].log_tail(usize::MAX).matches("goes on with a snapshot of the store").count() as u64;
    let p99 = took[took.len() * 99 / 100];
    println!(
        "{MIB} MiB over a line that broke {broke} times: {carried} MiB carried, whole after {whole_after:?}; meanwhile {} \
         writes, p50 {:?}, p99 {p99:?}",
        took.len(),
        took[took.len() / 2]
    );
    ensure!(broke >= 3, "the line broke only {broke} times");
    ensure!(went_on >= 3, "it went on {went_on} times only: {}", cluster.members[1].log_tail(20));
    // Each break loses what was under way. Begun anew each time, it would never have ended: no connection carries all.
    ensure!(carried < MIB * 2, "{carried} MiB were carried");
    ensure!(took.len() > 20, "the leader served only {} writes meanwhile", took.len());
    Ok(())
}

fn newcomer_id(cluster: &Cluster) -> Result<String> {
    let list = cluster.etcdctl_ok(0, &["member", "list"])?;
    let line = list.lines().find(|line| line.contains(", fresh, ")).with_context(|| list.clone())?;
    Ok(line.split(',').next().unwrap_or_default().to_owned())
}

/// Bytes that nothing can make smaller.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A line to a port of this host that breaks whenever a connection has carried so much. Every second time only the near end
/// hears of it, and the far one waits for what never comes.
struct Line {
    port: u16,
    broke: Arc<AtomicU64>,
    carried: Arc<AtomicU64>,
}

impl Line {
    fn to(port: u16, breaks_after: u64) -> Result<Line> {
        let own = ports::free()?;
        let listener = TcpListener::bind(("127.0.0.1", own))?;
        let line = Line { port: own, broke: Arc::default(), carried: Arc::default() };
        let (broke, carried) = (line.broke.clone(), line.carried.clone());
        // Far ends that hear nothing stay open here.
        let forgotten = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (broke, carried, forgotten) = (broke.clone(), carried.clone(), forgotten.clone());
                let _ = connect(near, far, move |near, far, bytes, so_far| {
                    carried.fetch_add(bytes, Ordering::Relaxed);
                    if so_far < breaks_after {
                        return false;
                    }
                    let _ = near.shutdown(Shutdown::Both);
                    if broke.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
                        let _ = far.shutdown(Shutdown::Both);
                    } else if let Ok(far) = far.try_clone() {
                        forgotten.lock().expect("no panic while it is held").push(far);
                    }
                    true
                });
            }
        });
        Ok(line)
    }
}

/// Carries both ways until an end closes, or `breaks` says so of what the near end has sent.
fn connect(
    near: TcpStream,
    far: TcpStream,
    breaks: impl Fn(&TcpStream, &TcpStream, u64, u64) -> bool + Send + 'static,
) -> Result<()> {
    let (mut answers, mut back) = (far.try_clone()?, near.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (near, far);
    std::thread::Builder::new()
        .spawn(move || {
            let (mut buffer, mut so_far) = (vec![0; 64 << 10], 0);
            while let Ok(some @ 1..) = from.read(&mut buffer) {
                so_far += some as u64;
                if to.write_all(&buffer[..some]).is_err() {
                    break;
                }
                if breaks(&from, &to, some as u64, so_far) {
                    return;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        })
        .map(drop)
        .context("a thread")
}
