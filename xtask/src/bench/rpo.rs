//! `cargo xtask bench rpo`: how far a backup's tail is behind upstream etcd, and what it costs the store.
//!
//! Behind: puts at a fixed rate, each with the time at which it was due; a put is safe when the tail says that the piece with
//! its revision is recorded. Cost: puts at full speed, with and without a tail, in alternating rounds.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cases::puts;
use super::load::Pace;
use super::sides::{Member, Side};
use crate::peers::Peers;
use crate::shell;

const USAGE: &str = "\
cargo xtask bench rpo [options]
  --rounds N      alternating rounds (3)
  --seconds N     how long each part runs (20)
  --rate N        puts a second while the lag is measured (1000)
  --dir DIR       where data dir and archive lie (<target>/bench/rpo)
Upstream's binaries come from <target>/peers/etcd or ETCD_PEERS_DIR. EYRIE_BIN names another binary.";

/// How long the tail may take to begin, or to record the last piece.
const PATIENCE: Duration = Duration::from_secs(60);
/// News that wait to be read: more than a run has pieces.
const NEWS_MAX: usize = 1 << 16;

struct Options {
    rounds: usize,
    time: Duration,
    rate: u64,
    dir: PathBuf,
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
    let (mut medians, mut p99s, mut alone, mut beside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let mut lags = behind(&options, &upstream, &eyrie)?;
        lags.sort_by(f64::total_cmp);
        medians.push(lags[lags.len() / 2]);
        p99s.push(lags[lags.len() * 99 / 100]);
        // which of the two comes first alternates
        for tailed in if round % 2 == 0 { [true, false] } else { [false, true] } {
            let rate = full_speed(&options, &upstream, tailed.then_some(eyrie.as_path()))?;
            if tailed { beside.push(rate) } else { alone.push(rate) }
        }
        eprintln!(
            "round {round} of {}: behind {:.2} s median, {:.2} s p99; {:.0} puts/s alone, {:.0} with a tail",
            options.rounds,
            medians[round - 1],
            p99s[round - 1],
            alone[round - 1],
            beside[round - 1]
        );
    }
    println!("medians of {} rounds of {} s:", options.rounds, options.time.as_secs());
    println!("  behind at {} puts/s: {:.2} s median, {:.2} s p99", options.rate, middle(&medians), middle(&p99s));
    let (alone, beside) = (middle(&alone), middle(&beside));
    println!(
        "  upstream at full speed: {alone:.0} puts/s alone, {beside:.0} with a tail: {:+.1} %",
        (beside / alone - 1.0) * 100.0
    );
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let dir = shell::target_dir().join("bench/rpo");
    let mut options = Options { rounds: 3, time: Duration::from_secs(20), rate: 1000, dir };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("bench rpo: {arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse().context("--rounds takes a number")?,
            "--seconds" => options.time = Duration::from_secs(value()?.parse().context("--seconds takes a number")?),
            "--rate" => options.rate = value()?.parse().context("--rate takes a number")?,
            "--dir" => options.dir = PathBuf::from(value()?),
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
    let (dir, member) = fresh(options, upstream)?;
    let tail = Tail::start(eyrie, &member, &dir)?;
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

/// Puts a second at full speed.
fn full_speed(options: &Options, upstream: &Side, tailed: Option<&Path>) -> Result<f64> {
    let (dir, member) = fresh(options, upstream)?;
    let tail = tailed.map(|eyrie| Tail::start(eyrie, &member, &dir)).transpose()?;
    if let Some(tail) = &tail {
        tail.begun()?;
    }
    let outcome = puts(&member, Pace::Closed, u64::MAX, options.time, u64::MAX)?.all_well()?;
    if let Some(tail) = tail {
        tail.stop()?;
    }
    member.stop()?;
    Ok(outcome.rate())
}

fn fresh(options: &Options, upstream: &Side) -> Result<(PathBuf, Member)> {
    let _ = fs::remove_dir_all(&options.dir);
    fs::create_dir_all(&options.dir)?;
    let member = upstream.start(&options.dir.join("data"))?;
    Ok((options.dir.clone(), member))
}

/// A running `eyrie backup tail`, and what it says.
struct Tail {
    child: Child,
    news: Receiver<(serde_json::Value, Instant)>,
    log: PathBuf,
}

impl Tail {
    fn start(eyrie: &Path, member: &Member, dir: &Path) -> Result<Self> {
        let log = dir.join("tail.log");
        let mut command = Command::new(eyrie);
        command.args(["backup", "tail", "--output", "json", "--etcd", &format!("http://{}", member.address)]);
        command.args(["--archive", &format!("file://{}", dir.join("archive").display())]);
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

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
