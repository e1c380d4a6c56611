//! `cargo xtask bench rpo`: how far a backup's tail is behind upstream etcd, and what it costs the store.
//!
//! Behind: puts at a fixed rate, each with the time at which it was due; a put is safe when the tail says that the piece with
//! its revision is recorded. Cost: puts at full speed, alone, beside a tail, and beside `etcdctl watch --prefix ''` into nothing,
//! which is the floor for whoever hears every change; in alternating rounds. Throughput is that of one machine on which the
//! load, the store and the listener share the cores, so the CPU time of store and listener is told beside it: what of it the
//! store pays is paid wherever the listener runs. The same again at half of the speed that the store has alone: a store that is
//! not at its limit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cases::puts;
use super::load::Pace;
use super::report::median;
use super::sides::{Member, Side, cpu_of};
use crate::peers::Peers;
use crate::shell;

const USAGE: &str = "\
cargo xtask bench rpo [options]
  --rounds N      alternating rounds (3)
  --seconds N     how long each part runs (20)
  --rate N        puts a second while the lag is measured (1000)
  --dir DIR       where the data dir lies (<target>/bench/rpo)
  --archive DIR   where the archive lies (/dev/shm: a bucket is not on the store's disk)
Upstream's binaries come from <target>/peers/etcd or ETCD_PEERS_DIR. EYRIE_BIN names another binary.";

/// How long the tail may take to begin, or to record the last piece.
const PATIENCE: Duration = Duration::from_secs(60);
/// What upstream answers to a put when too many wait to be applied.
const TOO_MANY: &str = "etcdserver: too many requests";
/// News that wait to be read: more than a run has pieces.
const NEWS_MAX: usize = 1 << 16;

struct Options {
    rounds: usize,
    time: Duration,
    rate: u64,
    dir: PathBuf,
    archive: PathBuf,
}

/// Who listens while puts come at full speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Watch,
    Tail,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Nobody, Self::Watch, Self::Tail];

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Watch => "beside `etcdctl watch`",
            Self::Tail => "beside a tail",
        }
    }
}

/// What puts came to.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Puts a second.
    rate: f64,
    /// The time that the slowest of a hundred takes, in milliseconds.
    p99: f64,
    /// Puts that the store refused because too many wait, of a hundred.
    refused: f64,
    /// CPU time of the store for a put, in microseconds.
    store: f64,
    /// That of the listener.
    listener: f64,
}

/// `cargo xtask bench rpo`.
///
/// # Errors
/// When a part cannot be run. Not when a target is missed.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let upstream = Side::upstream(&Peers::find()?);
    let eyrie = super::eyrie_binary()?;
    let (mut medians, mut p99s) = (Vec::new(), Vec::new());
    let (mut costs, mut paced): ([Vec<Cost>; 3], [Vec<Cost>; 3]) = Default::default();
    for round in 1..=options.rounds {
        let mut lags = behind(&options, &upstream, &eyrie)?;
        lags.sort_by(f64::total_cmp);
        medians.push(lags[lags.len() / 2]);
        p99s.push(lags[lags.len() * 99 / 100]);
        eprintln!(
            "round {round} of {}: behind {:.2} s median, {:.2} s p99",
            options.rounds,
            medians[round - 1],
            p99s[round - 1]
        );
        // who comes first changes
        for at in (0..Beside::ALL.len()).map(|at| (at + round) % Beside::ALL.len()) {
            let cost = measured(&options, &upstream, &eyrie, Beside::ALL[at], Pace::Closed)?;
            eprintln!("  {}: {}", Beside::ALL[at].name(), cost.text());
            costs[at].push(cost);
        }
        let half = (costs[0][round - 1].rate / 2.0) as u64;
        for at in (0..Beside::ALL.len()).map(|at| (at + round) % Beside::ALL.len()) {
            let cost = measured(&options, &upstream, &eyrie, Beside::ALL[at], Pace::Open(half.max(1)))?;
            eprintln!("  half speed, {}: {}", Beside::ALL[at].name(), cost.text());
            paced[at].push(cost);
        }
    }
    println!("medians of {} rounds of {} s:", options.rounds, options.time.as_secs());
    println!("  behind at {} puts/s: {:.2} s median, {:.2} s p99", options.rate, median(&medians), median(&p99s));
    compare("upstream at full speed", &costs);
    compare("upstream at half speed", &paced);
    Ok(())
}

fn compare(what: &str, costs: &[Vec<Cost>; 3]) {
    let alone = medians_of(&costs[0]);
    println!("  {what}, {}: {}", Beside::Nobody.name(), alone.text());
    for (beside, costs) in Beside::ALL.into_iter().zip(costs).skip(1) {
        let cost = medians_of(costs);
        println!(
            "  {what}, {}: {}; throughput {:+.1} %, the store's CPU {:+.1} %",
            beside.name(),
            cost.text(),
            (cost.rate / alone.rate - 1.0) * 100.0,
            (cost.store / alone.store - 1.0) * 100.0
        );
    }
}

impl Cost {
    fn text(&self) -> String {
        format!(
            "{:.0} puts/s, {:.1} % refused, p99 {:.1} ms, {:.1} µs of CPU in the store for each, {:.1} in the listener",
            self.rate, self.refused, self.p99, self.store, self.listener
        )
    }
}

fn medians_of(costs: &[Cost]) -> Cost {
    let of = |part: fn(&Cost) -> f64| median(&costs.iter().map(part).collect::<Vec<_>>());
    Cost {
        rate: of(|cost| cost.rate),
        p99: of(|cost| cost.p99),
        refused: of(|cost| cost.refused),
        store: of(|cost| cost.store),
        listener: of(|cost| cost.listener),
    }
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let dir = shell::target_dir().join("bench/rpo");
    let archive = PathBuf::from("/dev/shm").join(format!("eyrie-bench-rpo-{}", std::process::id()));
    let mut options = Options { rounds: 3, time: Duration::from_secs(20), rate: 1000, dir, archive };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("bench rpo: {arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse().context("--rounds takes a number")?,
            "--seconds" => options.time = Duration::from_secs(value()?.parse().context("--seconds takes a number")?),
            "--rate" => options.rate = value()?.parse().context("--rate takes a number")?,
            "--dir" => options.dir = PathBuf::from(value()?),
            "--archive" => options.archive = PathBuf::from(value()?),
            "--help" | "-h" => return Ok(None),
            other => bail!("bench rpo: unknown argument {other}\n\n{USAGE}"),
        }
    }
    if options.rounds == 0 || options.time.is_zero() || options.rate == 0 {
        bail!("bench rpo: at least 1 round, 1 second and 1 put a second");
    }
    Ok(Some(options))
}

/// For each put, how long after it was due it was safe in the archive, in seconds.
fn behind(options: &Options, upstream: &Side, eyrie: &Path) -> Result<Vec<f64>> {
    let member = fresh(options, upstream)?;
    let tail = Tail::start(eyrie, &member, options)?;
    let first = tail.begun()?;
    let outcome = puts(&member, Pace::Open(options.rate), u64::MAX, options.time, u64::MAX)?.all_well()?;
    let mut due: Vec<Instant> = outcome.samples.iter().map(|sample| sample.due).collect();
    due.sort();
    let newest = first + due.len() as i64;
    let mut safe: Vec<(i64, Instant)> = Vec::new();
    while safe.last().is_none_or(|(revision, _)| *revision < newest) {
        safe.push(tail.next_piece()?);
    }
    tail.stop()?;
    member.stop()?;
    let mut pieces = safe.iter().peekable();
    let lag = |(number, due): (usize, &Instant)| {
        let revision = first + 1 + number as i64;
        while pieces.peek().is_some_and(|(last, _)| *last < revision) {
            pieces.next();
        }
        let (_, at) = pieces.peek().context("every put is in a piece")?;
        Ok(at.saturating_duration_since(*due).as_secs_f64())
    };
    due.iter().enumerate().map(lag).collect()
}

/// Puts, and what they cost.
fn measured(options: &Options, upstream: &Side, eyrie: &Path, beside: Beside, pace: Pace) -> Result<Cost> {
    let member = fresh(options, upstream)?;
    let (mut tail, mut watch) = (None, None);
    match beside {
        Beside::Nobody => {}
        Beside::Watch => watch = Some(Watch::start(upstream, &member)?),
        Beside::Tail => {
            let started = Tail::start(eyrie, &member, options)?;
            started.begun()?;
            tail = Some(started);
        }
    }
    let pid = tail.as_ref().map(|tail: &Tail| tail.child.id()).or(watch.as_ref().map(|watch: &Watch| watch.0.id()));
    let listened = || pid.map_or(Ok(Duration::ZERO), cpu_of);
    let (store_before, listener_before) = (member.cpu()?, listened()?);
    let outcome = puts(&member, pace, u64::MAX, options.time, u64::MAX)?;
    // a store that cannot keep up with a rate says so, and that is a figure
    let too_many = outcome.first_failure.as_ref().is_some_and(|why| why.contains(TOO_MANY));
    let outcome = if too_many { outcome } else { outcome.all_well()? };
    let (store, listener) = (member.cpu()? - store_before, listened()? - listener_before);
    drop(watch);
    if let Some(tail) = tail {
        tail.stop()?;
    }
    member.stop()?;
    let _ = fs::remove_dir_all(&options.archive);
    let a_put = |spent: Duration| spent.as_secs_f64() * 1e6 / outcome.done.max(1) as f64;
    let p99 = outcome.latencies.quantile(0.99).as_secs_f64() * 1e3;
    let refused = outcome.failed as f64 * 100.0 / (outcome.failed + outcome.done).max(1) as f64;
    Ok(Cost { rate: outcome.rate(), p99, refused, store: a_put(store), listener: a_put(listener) })
}

fn fresh(options: &Options, upstream: &Side) -> Result<Member> {
    let _ = fs::remove_dir_all(&options.dir);
    let _ = fs::remove_dir_all(&options.archive);
    fs::create_dir_all(&options.dir)?;
    upstream.start(&options.dir.join("data"))
}

/// Upstream's `etcdctl watch` of everything, into nothing.
struct Watch(Child);

impl Watch {
    fn start(upstream: &Side, member: &Member) -> Result<Self> {
        let mut command = upstream.ctl_command(member.address);
        command.args(["watch", "--prefix", ""]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("start etcdctl watch")?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(Self(child))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `eyrie backup tail`, and what it says.
struct Tail {
    child: Child,
    news: Receiver<(serde_json::Value, Instant)>,
    log: PathBuf,
}

impl Tail {
    fn start(eyrie: &Path, member: &Member, options: &Options) -> Result<Self> {
        let dir = &options.dir;
        let log = dir.join("tail.log");
        let mut command = Command::new(eyrie);
        command.args(["backup", "tail", "--output", "json", "--etcd", &format!("http://{}", member.address)]);
        command.args(["--archive", &format!("file://{}", options.archive.display())]);
        command.env("XDG_STATE_HOME", dir.join("state")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(fs::File::create(&log)?).spawn()?;
        let said = child.stdout.take().context("its output")?;
        let (hear, news) = sync_channel(NEWS_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else { continue };
                if hear.send((value, Instant::now())).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, news, log })
    }

    /// Waits until it follows; the revision where it does.
    fn begun(&self) -> Result<i64> {
        let mut revision = 0;
        loop {
            let (news, _) = self.next()?;
            match news["event"].as_str() {
                Some("full_taken") => revision = news["revision"].as_i64().context("a revision")?,
                Some("up_to_date") if revision > 0 => return Ok(revision),
                _ => {}
            }
        }
    }

    fn next_piece(&self) -> Result<(i64, Instant)> {
        loop {
            let (news, at) = self.next()?;
            if news["event"] == "tail_cut" {
                return Ok((news["last"].as_i64().context("a revision")?, at));
            }
        }
    }

    fn next(&self) -> Result<(serde_json::Value, Instant)> {
        self.news
            .recv_timeout(PATIENCE)
            .with_context(|| format!("the tail says nothing; its log is {}", self.log.display()))
    }

    fn stop(mut self) -> Result<()> {
        shell::output("kill", &["-TERM", &self.child.id().to_string()])?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the tail ended with {status}; its log is {}", self.log.display()) }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
