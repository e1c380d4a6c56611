//! `cargo xtask bench mirror`: a folder to an S3 server, by Eyrie and by `rclone sync`, with the same parallelism.
//!
//! Rounds alternate, each into a prefix of its own. After the first copy one object in a hundred is new, and it is run
//! again: that is what a backup does every day.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::median;
use crate::shell;

const USAGE: &str = "\
cargo xtask bench mirror [options]
  --rounds N      alternating rounds (3)
  --objects N     objects of 100 kB in the folder (10000)
  --parallel N    copies at once, for both (16)
  --dir DIR       where the folder lies (<target>/bench/mirror)
rclone must be installed (Debian: apt-get install rclone); the S3 server is moto of <target>/peers. EYRIE_BIN names another
binary; without it, `cargo build --release -p eyrie` makes it.";

const OBJECT_BYTES: usize = 100_000;
/// How long the server may take to listen.
const START_MAX: Duration = Duration::from_secs(120);

struct Options {
    rounds: usize,
    objects: usize,
    parallel: usize,
    dir: PathBuf,
}

/// `cargo xtask bench mirror`.
///
/// # Errors
/// When a side cannot be run. Not when a target is missed.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let eyrie = super::eyrie_binary()?;
    shell::output("rclone", &["version"]).context("rclone is needed (Debian: apt-get install rclone)")?;
    let folder = options.dir.join("folder");
    let _ = fs::remove_dir_all(&folder);
    fill(&folder, 0, options.objects)?;
    let mut first = [Vec::new(), Vec::new()];
    let mut second = [Vec::new(), Vec::new()];
    let mut objects = options.objects;
    let mut moved = Vec::new();
    for round in 1..=options.rounds {
        // A server for each round, and a bucket for each side: it keeps all in memory.
        let server = Server::start(&options.dir)?;
        let prefixes = ["rclone", "eyrie"];
        // seconds, and the bytes that Eyrie says it moved
        let run = |side: usize| -> Result<(f64, Option<u64>)> {
            let began = Instant::now();
            let moved = match side {
                0 => rclone(&server, &folder, prefixes[0], options.parallel).map(|()| None)?,
                _ => Some(mirror(&server, &eyrie, &folder, prefixes[1], options.parallel)?),
            };
            Ok((began.elapsed().as_secs_f64(), moved))
        };
        // who comes first has the emptier server
        let order = if round % 2 == 1 { [0, 1] } else { [1, 0] };
        for side in order {
            first[side].push(run(side)?.0);
        }
        fill(&folder, objects, objects + options.objects / 100)?;
        objects += options.objects / 100;
        for side in order {
            let (seconds, bytes) = run(side)?;
            second[side].push(seconds);
            let all = (objects * OBJECT_BYTES) as f64;
            moved.extend(bytes.map(|bytes| bytes as f64 / all * 100.0));
        }
        eprintln!(
            "round {round} of {}: rclone {:.1} s, eyrie {:.1} s",
            options.rounds,
            last(&first[0]),
            last(&first[1])
        );
    }
    let _ = fs::remove_dir_all(&folder);
    println!(
        "{} objects of 100 kB, {} copies at once, medians of {} rounds:",
        options.objects, options.parallel, options.rounds
    );
    row("first run", &first);
    row("1 % new", &second);
    let share = median(&second[1]) / median(&first[1]) * 100.0;
    println!(
        "a run with 1 % new objects takes {share:.1} % of the first and moves {:.2} % of the bytes",
        median(&moved)
    );
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let dir = shell::target_dir().join("bench/mirror");
    let mut options = Options { rounds: 3, objects: 10_000, parallel: 16, dir };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("bench mirror: {arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse().context("--rounds takes a number")?,
            "--objects" => options.objects = value()?.parse().context("--objects takes a number")?,
            "--parallel" => options.parallel = value()?.parse().context("--parallel takes a number")?,
            "--dir" => options.dir = PathBuf::from(value()?),
            "--help" | "-h" => return Ok(None),
            other => bail!("bench mirror: unknown argument {other}\n\n{USAGE}"),
        }
    }
    if options.rounds == 0 || options.objects < 100 || options.parallel == 0 {
        bail!("bench mirror: at least 1 round, 100 objects and 1 copy at once");
    }
    Ok(Some(options))
}

/// Objects with the numbers `from..to`, in folders of a thousand; all contents differ.
fn fill(folder: &Path, from: usize, to: usize) -> Result<()> {
    let mut body = vec![0_u8; OBJECT_BYTES];
    for number in from..to {
        let dir = folder.join(format!("insert_log/{}", number / 1_000));
        fs::create_dir_all(&dir)?;
        let mut x = number as u64 + 1;
        for word in body.chunks_mut(8) {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&x.to_le_bytes()[..word.len()]);
        }
        fs::write(dir.join(number.to_string()), &body)?;
    }
    Ok(())
}

fn rclone(server: &Server, folder: &Path, prefix: &str, parallel: usize) -> Result<()> {
    let parallel = parallel.to_string();
    let mut command = Command::new("rclone");
    command.args(["sync", "--transfers", &parallel, "--checkers", &parallel, "--config", "/dev/null"]);
    command.arg(folder).arg(format!("bench:bench/{prefix}"));
    for (name, value) in [("TYPE", "s3"), ("PROVIDER", "Other"), ("ENV_AUTH", "true"), ("ENDPOINT", &server.endpoint)] {
        command.env(format!("RCLONE_CONFIG_BENCH_{name}"), value);
    }
    finish(command, server).map(drop)
}

fn mirror(server: &Server, eyrie: &Path, folder: &Path, prefix: &str, parallel: usize) -> Result<u64> {
    let mut command = Command::new(eyrie);
    command.args(["mirror", "--output", "json", "--parallel", &parallel.to_string()]);
    command.args(["--target-endpoint", &server.endpoint]).arg(folder).arg(format!("s3://bench/{prefix}"));
    let said = finish(command, server)?;
    let done: serde_json::Value = serde_json::from_str(said.lines().last().context("eyrie mirror said nothing")?)?;
    done["report"]["moved_bytes"].as_u64().with_context(|| format!("no moved_bytes in {said}"))
}

fn finish(mut command: Command, server: &Server) -> Result<String> {
    command.env("AWS_ACCESS_KEY_ID", "bench").env("AWS_SECRET_ACCESS_KEY", "bench").env("AWS_REGION", "us-east-1");
    // rclone's client refuses a bundle of its own making
    command.env_remove("AWS_CA_BUNDLE");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{}\nthe server's log is {}", output.status, said.trim_end(), server.log.display());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A moto S3 server with one bucket; ended with this value.
struct Server {
    child: Child,
    endpoint: String,
    log: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Result<Self> {
        let python = shell::target_dir().join("peers/moto/bin/python");
        if !python.is_file() {
            bail!("no S3 server at {}.\n  Next: `cargo xtask peers` fetches it.", python.display());
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = dir.join("server.log");
        let file = fs::File::create(&log)?;
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        let server = Self { child, endpoint: format!("http://127.0.0.1:{port}"), log };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > START_MAX {
                bail!("the S3 server does not listen; its log is {}", server.log.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let url = format!("{}/bench", server.endpoint);
        shell::output("curl", &["-sS", "--fail", "--noproxy", "*", "-X", "PUT", &url])?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn row(name: &str, sides: &[Vec<f64>; 2]) {
    let (rclone, eyrie) = (median(&sides[0]), median(&sides[1]));
    println!("{name:10} rclone {rclone:7.2} s   eyrie {eyrie:7.2} s   rclone/eyrie {:.2}", rclone / eyrie);
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or(f64::NAN)
}
