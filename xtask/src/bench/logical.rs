//! `cargo xtask bench logical`: a backup of a real Milvus beside a plain parallel copy of the same objects, and an incremental
//! one after one row in a hundred is new.
//!
//! Rounds alternate; both copy from the same folder to the same disk, and both are durable when they end: the plain copy is
//! followed by `sync`, since a backup syncs what it writes.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::median;
use super::sides::{Member, Side};
use crate::peers::Peers;
use crate::shell;

const USAGE: &str = "\
cargo xtask bench logical [options]
  --rounds N      alternating rounds (5)
  --rows N        rows of 128 floats and a number (2000000)
  --parallel N    copies at once, for both (16)
  --dir DIR       where Milvus's objects and the copies lie (<target>/bench/logical)
Milvus and upstream's etcd come from <target>/peers. EYRIE_BIN names another binary.";

/// How long Milvus may take to begin.
const START_MAX: Duration = Duration::from_secs(180);
/// Rest before each part that is measured.
const PAUSE: Duration = Duration::from_secs(1);
/// Fills a collection: address, first key, rows. Flushed and indexed by nothing, as a backup wants it.
const FILL: &str = "\
import sys
import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility
address, first, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
host, port = address.split(':')
connections.connect('default', host=host, port=port, timeout=60)
fields = [FieldSchema('id', DataType.INT64, is_primary=True), FieldSchema('vector', DataType.FLOAT_VECTOR, dim=128)]
collection = Collection('bench', CollectionSchema(fields), shards_num=1)
for start in range(first, first + rows, 10000):
    keys = range(start, min(start + 10000, first + rows))
    collection.insert([list(keys), np.random.default_rng(start).random((len(keys), 128), dtype=np.float32)])
collection.flush(timeout=600)
";

struct Options {
    rounds: usize,
    rows: u64,
    parallel: usize,
    dir: PathBuf,
}

/// `cargo xtask bench logical`.
///
/// # Errors
/// When a side cannot be run. Not when a target is missed.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let eyrie = super::eyrie_binary()?;
    let _ = fs::remove_dir_all(&options.dir);
    fs::create_dir_all(&options.dir)?;
    let etcd = Side::upstream(&Peers::find()?).start(&options.dir.join("etcd"))?;
    let milvus = Milvus::start(&options, &etcd)?;
    milvus.fill(0, options.rows)?;
    let bench = Bench { options: &options, eyrie, milvus };
    let (mut plain, mut whole, mut skipped, mut more) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for round in 1..=options.rounds {
        // which of them comes first alternates
        for mine in if round % 2 == 0 { [true, false] } else { [false, true] } {
            match mine {
                false => plain.push(bench.copy()?),
                true => skipped.push(bench.create("skipped", &["--strategy", "skip_flush"])?.0),
            }
        }
        let (time, value) = bench.create("whole", &[])?;
        whole.push(time);
        bytes = value["bytes_copied"].as_u64().unwrap_or(bytes);
        eprintln!(
            "round {round} of {}: plain {:.2} s, create {:.2} s, with its flush {:.2} s",
            options.rounds,
            plain[round - 1],
            skipped[round - 1],
            whole[round - 1]
        );
    }
    bench.take("base", &[])?;
    for round in 1..=options.rounds {
        let new = options.rows / 100;
        bench.milvus.fill(options.rows + (round as u64 - 1) * new, new)?;
        let (time, value) = bench.take(&format!("more_{round}"), &["--incremental"])?;
        more.push(time);
        eprintln!(
            "incremental {round}: {time:.2} s, {} objects copied, {} held",
            value["objects_copied"], value["objects_held"]
        );
    }
    let (plain, whole, skipped, more) = (median(&plain), median(&whole), median(&skipped), median(&more));
    println!(
        "{} rows, {} MB in logs, {} copies at once, medians of {} rounds:",
        options.rows,
        bytes / 1_000_000,
        options.parallel,
        options.rounds
    );
    println!("  plain copy and sync      {plain:7.2} s");
    println!(
        "  create --strategy skip_flush {skipped:3.2} s   {:.2} times the plain copy (target 1.30)",
        skipped / plain
    );
    println!("  create                   {whole:7.2} s   {:.2} times", whole / plain);
    println!(
        "  create --incremental     {more:7.2} s   {:.1} % of create, after 1 % new rows (target 10 %)",
        more / whole * 100.0
    );
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let dir = shell::target_dir().join("bench/logical");
    let mut options = Options { rounds: 5, rows: 2_000_000, parallel: 16, dir };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("bench logical: {arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse().context("--rounds takes a number")?,
            "--rows" => options.rows = value()?.parse().context("--rows takes a number")?,
            "--parallel" => options.parallel = value()?.parse().context("--parallel takes a number")?,
            "--dir" => options.dir = PathBuf::from(value()?),
            "--help" | "-h" => return Ok(None),
            other => bail!("bench logical: unknown argument {other}\n\n{USAGE}"),
        }
    }
    if options.rounds == 0 || options.rows < 100 || options.parallel == 0 {
        bail!("bench logical: at least 1 round, 100 rows and 1 copy at once");
    }
    Ok(Some(options))
}

struct Bench<'o> {
    options: &'o Options,
    eyrie: PathBuf,
    milvus: Milvus,
}

impl Bench<'_> {
    /// The same objects by `cp`, so many at once; seconds.
    fn copy(&self) -> Result<f64> {
        let target = self.options.dir.join("plain");
        fs::create_dir_all(&target)?;
        // the folders first: two `cp --parents` that make the same one disturb each other
        let script = format!(
            "cd '{objects}' && logs=$(ls -d insert_log delta_log 2>/dev/null); \
             find $logs -type d | (cd '{target}' && xargs mkdir -p) && \
             find $logs -type f | xargs -P {parallel} -I @ cp @ '{target}'/@ && sync -f '{target}'",
            objects = self.milvus.objects.display(),
            parallel = self.options.parallel,
            target = target.display(),
        );
        self.settle()?;
        let began = Instant::now();
        shell::output("sh", &["-c", &script])?;
        let took = began.elapsed().as_secs_f64();
        fs::remove_dir_all(&target)?;
        Ok(took)
    }

    /// What was deleted or written before is none of the next part's business.
    fn settle(&self) -> Result<()> {
        let dir = self.options.dir.display().to_string();
        shell::output("sync", &["-f", &dir])?;
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// A backup that is deleted again.
    fn create(&self, name: &str, args: &[&str]) -> Result<(f64, serde_json::Value)> {
        let taken = self.take(name, args)?;
        self.tool(&["delete", "-n", name])?;
        Ok(taken)
    }

    /// A backup; seconds, and what it said.
    fn take(&self, name: &str, args: &[&str]) -> Result<(f64, serde_json::Value)> {
        self.settle()?;
        let began = Instant::now();
        let said = self.tool(&[&["create", "-n", name, "-w", "json"], args].concat())?;
        let took = began.elapsed().as_secs_f64();
        let last = said.lines().last().context("no answer")?;
        Ok((took, serde_json::from_str(last).with_context(|| last.to_owned())?))
    }

    fn tool(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.eyrie);
        command.arg("milvus-backup").args(args).current_dir(&self.options.dir);
        for set in [
            format!("milvus.grpc.port={}", self.milvus.port),
            "milvus.storage.provider=local".into(),
            format!("milvus.storage.rootPath={}", self.milvus.objects.display()),
            format!("backup.storage.rootPath={}", self.options.dir.join("backups").display()),
            format!("transfer.concurrency={}", self.options.parallel),
            "backup.pauseGC=false".into(),
        ] {
            command.args(["--set", &set]);
        }
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A Milvus on free ports; killed with this value, since this version does not end when asked.
struct Milvus {
    child: Child,
    python: PathBuf,
    objects: PathBuf,
    port: u16,
    log: PathBuf,
}

impl Milvus {
    fn start(options: &Options, etcd: &Member) -> Result<Milvus> {
        let peer = shell::target_dir().join("peers/milvus");
        let (python, bin) = (peer.join("bin/python"), peer.join("dist/bin"));
        if !bin.join("milvus").is_file() {
            bail!("no Milvus at {}.\n  Next: `cargo xtask peers` fetches it.", peer.display());
        }
        let dir = &options.dir;
        let (configs, objects, log) = (dir.join("configs"), dir.join("objects"), dir.join("milvus.log"));
        fs::create_dir_all(&configs)?;
        let ports: Vec<u16> = free_ports(9)?;
        fs::write(configs.join("milvus.yaml"), config(dir, &etcd.address.to_string(), &objects, &ports))?;
        fs::copy(glog_config(&peer)?, configs.join("glog.conf"))?;
        let file = fs::File::create(&log)?;
        let mut command = Command::new(bin.join("milvus"));
        command.args(["run", "standalone"]).current_dir(dir).env("LD_LIBRARY_PATH", &bin).env("MILVUSCONF", &configs);
        command.env("DEPLOY_MODE", "STANDALONE").env("METRICS_PORT", ports[8].to_string());
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        let mut milvus = Milvus { child, python, objects, port: ports[0], log };
        let (url, began) = (format!("http://127.0.0.1:{}/healthz", ports[8]), Instant::now());
        while !shell::output("curl", &["-sS", "--fail", "--noproxy", "*", &url])
            .is_ok_and(|said| said.starts_with("OK"))
        {
            if began.elapsed() > START_MAX || milvus.child.try_wait()?.is_some() {
                bail!("Milvus does not get healthy; its log is {}", milvus.log.display());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(milvus)
    }

    fn fill(&self, first: u64, rows: u64) -> Result<()> {
        let mut command = Command::new(&self.python);
        command.args(["-W", "ignore", "-c", FILL, &format!("127.0.0.1:{}", self.port)]);
        let output = command.arg(first.to_string()).arg(rows.to_string()).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("the rows can't be written: {}\nMilvus's log is {}", said.trim_end(), self.log.display());
        }
        Ok(())
    }
}

impl Drop for Milvus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The logging settings that come with the Milvus of the Python package: without them the server crashes at its start.
fn glog_config(peer: &Path) -> Result<PathBuf> {
    for version in fs::read_dir(peer.join("lib"))? {
        let file = version?.path().join("site-packages/milvus/data/glog.conf");
        if file.is_file() {
            return Ok(file);
        }
    }
    bail!("no glog.conf in {}", peer.display())
}

/// Ports that were free a moment ago, all different.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// All that differs from the server's built-in configuration.
fn config(dir: &Path, etcd: &str, objects: &Path, ports: &[u16]) -> String {
    let (dir, objects) = (dir.display(), objects.display());
    let [proxy, internal, root, query, query_node, data, data_node, index, _] = ports else { return String::new() };
    format!(
        "etcd: {{ endpoints: '{etcd}', rootPath: bench, use: {{ embed: false }} }}\n\
         localStorage: {{ path: {objects} }}\n\
         rocksmq: {{ path: {dir}/rocksmq }}\n\
         mq: {{ type: rocksmq }}\n\
         proxy: {{ port: {proxy}, internalPort: {internal} }}\n\
         rootCoord: {{ port: {root} }}\n\
         queryCoord: {{ port: {query} }}\n\
         queryNode: {{ port: {query_node} }}\n\
         dataCoord: {{ port: {data} }}\n\
         dataNode: {{ port: {data_node} }}\n\
         indexNode: {{ port: {index} }}\n\
         log: {{ level: warn, stdout: true }}\n\
         common: {{ storageType: local }}\n"
    )
}
