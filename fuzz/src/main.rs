//! Broken input for every decoder, for a bounded time, on a stable compiler.
//!
//! ```text
//! watcher ──starts──→ worker: input i = mutate(corpus, seed, i) → target → i + 1 → …
//!    └── looks at the worker's counter; a panic, an abort, a stall or a growth of memory is a finding
//! ```
//! The worker is a process of its own, so that nothing it does (a stack overflow too) can hide. Input `i` follows from
//! the seed and `i` alone: the watcher makes it again and saves it.

mod allocation;
mod mutate;
mod targets;
mod watcher;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use targets::Target;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

const USAGE: &str = "\
fuzz TARGET|all --seconds N [--seed S]   feeds broken input to one decoder, or to each in turn
fuzz TARGET --replay FILE                feeds one saved input
fuzz --list                              the targets";

/// Runs are alike unless somebody asks for another seed.
const SEED: u64 = 20_111_111;

struct Options {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    replay: Option<String>,
    worker: Option<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    if args.is_empty() || args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    if args.iter().any(|arg| arg == "--list") {
        targets::ALL.iter().for_each(|target| println!("{:16} {}", target.name, target.what));
        return Ok(());
    }
    let options = parse(args)?;
    if let Some(progress) = &options.worker {
        return worker::run(options.targets[0], options.seed, options.seconds, progress.as_ref());
    }
    if let Some(file) = &options.replay {
        return worker::replay(options.targets[0], file.as_ref());
    }
    let mut findings = Vec::new();
    for target in &options.targets {
        if let Some(finding) = watcher::watch(target, options.seed, options.seconds)? {
            eprintln!("FINDING in {}: {finding}", target.name);
            findings.push(target.name);
        }
    }
    if !findings.is_empty() {
        bail!("{} of {} targets have findings: {}", findings.len(), options.targets.len(), findings.join(", "));
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { targets: Vec::new(), seconds: 5, seed: SEED, replay: None, worker: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("fuzz: {arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--seconds" => options.seconds = value()?.parse().context("fuzz: --seconds takes a number")?,
            "--seed" => options.seed = value()?.parse().context("fuzz: --seed takes a number")?,
            "--replay" => options.replay = Some(value()?.clone()),
            // Between watcher and worker.
            "--worker" => options.worker = Some(value()?.clone()),
            "all" => options.targets.extend(targets::ALL),
            name => match targets::find(name) {
                Some(target) => options.targets.push(target),
                None => bail!("fuzz: there is no target {name}; `fuzz --list` names them"),
            },
        }
    }
    if options.targets.is_empty() {
        bail!("fuzz: name a target\n\n{USAGE}");
    }
    Ok(options)
}
