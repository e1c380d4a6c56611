//! `cargo xtask bench`: Eyrie beside upstream etcd, in one run, by the same load generator, with the same arguments.
//!
//! Rounds alternate (upstream, eyrie, upstream, …) so that a slow hour of the machine hits both; figures are medians,
//! what counts is their ratio. It is never a test: nothing fails because a machine was busy.

mod cases;
mod h2lite;
mod histogram;
mod load;
mod logical;
mod mirror;
mod report;
mod rpo;
mod sides;
mod wire;
mod words;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::peers::Peers;
use crate::shell;
use cases::{Bench, FULL, QUICK};
use report::Results;
use sides::Side;

const USAGE: &str = "\
cargo xtask bench [options]
  --rounds N      alternating rounds (5)
  --only CASES    some of: put, range, memory, start, snapshot, latency, watch, cluster, housekeeping (comma between)
  --rate N        puts a second in the case latency (half of what upstream does at full speed)
  --quick         small amounts, to see that everything works
  --dir DIR       where the data dirs lie, the same disk for both (<target>/bench)
  --markdown --date YYYY-MM-DD
                  write the results into docs/benchmarks.md
  mirror --help   instead: a folder to an S3 server, beside rclone
  logical --help  instead: logical backups of a real Milvus, beside a plain parallel copy
  rpo --help      instead: how far a backup's tail is behind, and what it costs
Upstream's binaries come from <target>/peers/etcd or ETCD_PEERS_DIR. EYRIE_BIN names another binary to stand in
Eyrie's place; without it, `cargo build --release -p eyrie` makes it.";

/// The page, and where in it the results stand.
const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- results: written by `cargo xtask bench --markdown` -->";
const END: &str = "<!-- end of results -->";

struct Options {
    rounds: usize,
    cases: Vec<String>,
    quick: bool,
    rate: Option<u64>,
    dir: PathBuf,
    markdown: bool,
    date: Option<String>,
}

/// `cargo xtask bench`.
///
/// # Errors
/// When a side cannot be run, or loses what it acknowledged. Not when a target is missed.
pub(crate) fn main(args: &[String]) -> Result<()> {
    if let Some(("mirror", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return mirror::main(rest);
    }
    if let Some(("rpo", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return rpo::main(rest);
    }
    if let Some(("logical", rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return logical::main(rest);
    }
    let Some(options) = parse(args)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let peers = Peers::find()?;
    let upstream = Side::upstream(&peers);
    let eyrie = Side::eyrie(&peers, eyrie_binary()?);
    let mut bench = Bench {
        scale: if options.quick { QUICK } else { FULL },
        cases: &options.cases,
        dir: options.dir.clone(),
        latency_rate: 0,
        cluster_rate: 0,
    };
    if options.cases.iter().any(|case| case == "cluster") {
        bench.cluster_rate = bench.half_speed_of_three(&upstream)?;
    }
    if options.cases.iter().any(|case| case == "latency") {
        bench.latency_rate = match options.rate {
            Some(rate) => rate,
            None => bench.half_speed(&upstream)?,
        };
    }
    let mut results = Results::default();
    for round in 1..=options.rounds {
        for side in [&upstream, &eyrie] {
            eprintln!("round {round} of {}: {}", options.rounds, side.name);
            bench.round(side, &mut results)?;
        }
    }
    let text = conclusion(&options, &upstream, &eyrie, &results)?;
    println!("\n{text}");
    if options.markdown {
        write_page(&text)?;
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options {
        rounds: 5,
        cases: cases::ALL.map(str::to_string).to_vec(),
        quick: false,
        rate: None,
        dir: shell::target_dir().join("bench"),
        markdown: false,
        date: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("bench: {arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse().context("bench: --rounds takes a number")?,
            "--only" => options.cases = value()?.split(',').map(str::to_string).collect(),
            "--rate" => options.rate = Some(value()?.parse().context("bench: --rate takes a number")?),
            "--quick" => options.quick = true,
            "--dir" => options.dir = PathBuf::from(value()?),
            "--markdown" => options.markdown = true,
            "--date" => options.date = Some(value()?.clone()),
            "--help" | "-h" => return Ok(None),
            other => bail!("bench: unknown argument {other}\n\n{USAGE}"),
        }
    }
    if let Some(unknown) = options.cases.iter().find(|case| !cases::ALL.contains(&case.as_str())) {
        bail!("bench: there is no case {unknown}; there are: {}", cases::ALL.join(", "));
    }
    if options.rounds == 0 || options.rate == Some(0) {
        bail!("bench: --rounds and --rate must be at least 1");
    }
    if options.markdown && options.date.is_none() {
        bail!("bench: --markdown needs --date YYYY-MM-DD, which the page tells");
    }
    Ok(Some(options))
}

fn eyrie_binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("EYRIE_BIN") {
        return Ok(PathBuf::from(binary));
    }
    shell::run("cargo", &["build", "--release", "--locked", "-p", "eyrie"], &[])?;
    Ok(shell::target_dir().join("release/eyrie"))
}

/// What was measured, on what, with which outcome.
fn conclusion(options: &Options, upstream: &Side, eyrie: &Side, results: &Results) -> Result<String> {
    let (targets, missed) = results.missed();
    let mut text = String::new();
    if let Some(date) = &options.date {
        writeln!(text, "Measured {date}.")?;
    }
    writeln!(text, "{}.", machine()?)?;
    writeln!(
        text,
        "Upstream: {}. Eyrie: {}. Medians of {} alternating rounds, with the lowest and highest.{}",
        upstream.version()?,
        eyrie.version()?,
        options.rounds,
        if options.quick { " A quick run: small amounts, not for comparison." } else { "" },
    )?;
    writeln!(text, "{} of {targets} targets met, {missed} missed.\n", targets - missed)?;
    text.push_str(&results.table());
    Ok(text)
}

/// The machine in one sentence.
fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let models: Vec<&str> = cpus.lines().filter(|line| line.starts_with("model name")).collect();
    let model = models.first().and_then(|line| line.split_once(": ")).map_or("an unknown CPU", |(_, model)| model);
    let memory = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(format!(
        "Machine: {} cores of {model}, {} GiB, Linux {}; client and server share the cores",
        models.len(),
        kib >> 20,
        kernel.trim()
    ))
}

fn write_page(text: &str) -> Result<()> {
    let path = shell::root().join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
    let (head, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN}"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    std::fs::write(&path, format!("{head}{BEGIN}\n\n{text}\n{END}{tail}")).with_context(|| format!("write {PAGE}"))?;
    println!("written to {PAGE}");
    Ok(())
}
