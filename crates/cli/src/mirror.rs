//! `eyrie mirror`: one bucket or folder made equal to another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use eyrie_backup::bucket::{Bucket, BucketConfig, BucketUrl, Pace};
use eyrie_backup::mirror::{self, Failure, Options, Plan, Report, Round};
use indicatif::HumanBytes;
use serde_json::json;

use crate::progress::{Output, Progress, json};
use crate::screen::out;

/// Steps of a plan that are printed in full; `--output json` has all.
const STEPS_SHOWN: usize = 1_000;
/// Everything is done.
const DONE: i32 = 0;
/// Something could not be copied or removed; the rest is done.
const INCOMPLETE: i32 = 1;
/// Nothing was done.
const REFUSED: i32 = 2;

/// Make one bucket or folder equal to another
///
/// Copies what DST lacks or has in another version, compares each copy, and touches nothing else. Run it again at
/// any time: what is there already is not moved again, so a run that was killed is simply repeated.
#[derive(Parser)]
#[command(
    name = "eyrie mirror",
    disable_version_flag = true,
    after_help = "\
Addresses:
  /folder or file:///folder      s3://bucket/prefix (AWS, MinIO, Ceph ...)
  gs://bucket/prefix             az://container/prefix

S3 keys come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from a file given with
--source-config or --target-config (YAML: endpoint, region, access-key: !file PATH, secret-key: !env NAME, ca-file ...).

At three in the morning:
  What would happen?             eyrie mirror --dry-run SRC DST
  Copy, keep all that is in DST: eyrie mirror SRC DST
  Keep following SRC:            eyrie mirror --watch SRC DST
  Is the copy really the same?   eyrie mirror --dry-run --checksum SRC DST     (reads every byte)
  DST must have nothing else:    eyrie mirror --remove --dry-run SRC DST       (look first, then without --dry-run)
  To and from MinIO:             eyrie mirror /data s3://backup/milvus --target-endpoint http://minio:9000

Exit code: 0 all is done, 1 something could not be copied (named on the screen; run again), 2 nothing was done."
)]
struct Arguments {
    /// Where to copy from
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to copy to; a folder is made if it is missing
    #[arg(value_name = "DST")]
    target: String,
    /// Go on: look for changes again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Pause between two looks with --watch, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Remove what only DST has, after all copies succeeded; the list is printed first
    #[arg(long)]
    remove: bool,
    /// With --remove: also when SRC is empty, so that DST becomes empty
    #[arg(long, requires = "remove")]
    remove_all_if_source_is_empty: bool,
    /// Print what would be done, and why, and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Compare contents, not lengths and times: reads every byte on both sides
    #[arg(long)]
    checksum: bool,
    /// Copies at once [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: Option<u16>,
    /// Most bytes a second, such as 500K, 20M or 1G
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    limit_rate: Option<u64>,
    /// Settings of SRC's store (YAML)
    #[arg(long, value_name = "FILE")]
    source_config: Option<PathBuf>,
    /// Settings of DST's store (YAML)
    #[arg(long, value_name = "FILE")]
    target_config: Option<PathBuf>,
    /// Address of SRC's store, if it is not the cloud's own
    #[arg(long, value_name = "URL")]
    source_endpoint: Option<String>,
    /// Address of DST's store, if it is not the cloud's own
    #[arg(long, value_name = "URL")]
    target_endpoint: Option<String>,
    /// How to speak
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs it; returns the exit code.
pub(crate) fn run(program: &str, args: Vec<OsString>) -> i32 {
    let args = std::iter::once(OsString::from(format!("{program} mirror"))).chain(args);
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let opened = open(&arguments).and_then(|both| Ok((both, runtime()?)));
    match opened {
        Ok(((source, target), runtime)) => {
            let code = runtime.block_on(work(&arguments, &source, &target));
            // Reads that nobody waits for must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => refused(arguments.output, &error),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("can't start: {error}"))
}

fn refused(output: Output, error: &str) -> i32 {
    match output {
        Output::Json => json(&json!({ "event": "refused", "error": error })),
        Output::Text => eprintln!("{error}\nNothing was changed."),
    }
    REFUSED
}

fn open(arguments: &Arguments) -> Result<(Bucket, Bucket), String> {
    let source = config(&arguments.source, arguments.source_config.as_deref(), arguments.source_endpoint.as_ref())?;
    let target = config(&arguments.target, arguments.target_config.as_deref(), arguments.target_endpoint.as_ref())?;
    if source.endpoint == target.endpoint && source.url.overlaps(&target.url) {
        return Err(format!(
            "{} and {} lie in each other: a mirror would copy itself.\n  Next: name two places of which none is part of \
             the other.",
            source.url, target.url
        ));
    }
    let open = |config: &BucketConfig| Bucket::open(config).map_err(|error| error.to_string());
    Ok((open(&source)?, open(&target)?))
}

/// The bucket at an address, with the settings in a file.
pub(crate) fn config(url: &str, file: Option<&Path>, endpoint: Option<&String>) -> Result<BucketConfig, String> {
    let url = BucketUrl::parse(url)?;
    let mut config = match file {
        None => BucketConfig::new(url),
        Some(path) => {
            let wrong = |error: String| format!("the settings in {} can't be used: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            let mut fields: serde_yaml_ng::Mapping =
                serde_yaml_ng::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            fields.insert("url".into(), url.to_string().into());
            serde_yaml_ng::from_value(fields.into()).map_err(|error| wrong(error.to_string()))?
        }
    };
    if let Some(endpoint) = endpoint {
        config.endpoint = Some(endpoint.clone());
    }
    Ok(config)
}

async fn work(arguments: &Arguments, source: &Bucket, target: &Bucket) -> i32 {
    let options = Options {
        remove: arguments.remove,
        remove_if_source_is_empty: arguments.remove_all_if_source_is_empty,
        dry_run: arguments.dry_run,
        checksum: arguments.checksum,
        parallel: arguments.parallel.map(usize::from),
        pace: arguments.limit_rate.map(Pace::new),
    };
    let screen = Screen {
        progress: Progress::new("mirror", arguments.output),
        output: arguments.output,
        options: options.clone(),
    };
    if arguments.watch && !arguments.dry_run {
        return follow(arguments, source, target, &options, &screen).await;
    }
    let done = tokio::select! {
        done = mirror::mirror(source, target, &options, &screen) => done,
        _ = tokio::signal::ctrl_c() => {
            screen.progress.finish();
            eprintln!("Stopped. What was copied is whole and stays; run again to go on.");
            return INCOMPLETE;
        }
    };
    screen.progress.finish();
    match done {
        Ok((plan, report)) => screen.end(&plan, &report),
        Err(error) => refused(arguments.output, &error.to_string()),
    }
}

async fn follow(arguments: &Arguments, source: &Bucket, target: &Bucket, options: &Options, screen: &Screen) -> i32 {
    let every = Duration::from_secs(arguments.every);
    let stop = async {
        let _ = stop_signal().await;
    };
    screen.progress.say(&format!("Watching {source}, every {} s. Ctrl-C stops.", arguments.every));
    let tell = |round: Round| screen.round(&round);
    let ended = mirror::watch(source, target, options, every, screen, &tell, stop).await;
    screen.progress.finish();
    match ended {
        Ok(()) => {
            screen.progress.say("Stopped. What was copied is whole and stays.");
            DONE
        }
        Err(error) => refused(arguments.output, &error.to_string()),
    }
}

/// Ctrl-C, or the wish of whoever supervises this process.
async fn stop_signal() -> std::io::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = term.recv() => Ok(()),
    }
}

/// Shows a run.
struct Screen {
    progress: Progress,
    output: Output,
    options: Options,
}

impl mirror::Progress for Screen {
    fn listing(&self, source: u64, target: u64) {
        self.progress.step(&format!("listing: {source} objects in SRC, {target} in DST"));
    }

    fn planned(&self, plan: &Plan) {
        self.progress.total(plan.copies.len() as u64, plan.copy_bytes());
        for gap in &plan.gaps {
            self.progress.say(&format!("left alone in {}: {} ({})", gap.side, printable(&gap.name), gap.why));
        }
        if self.options.dry_run || plan.removals.is_empty() {
            return;
        }
        self.progress.say(&removals(plan));
        self.progress.event(&json!({ "event": "removals", "removals": plan.removals }));
    }

    fn moved(&self, bytes: u64) {
        self.progress.bytes(bytes);
    }

    fn copied(&self, _key: &str, _len: u64) {
        self.progress.objects(1);
    }

    fn failed(&self, failure: &Failure) {
        self.progress.say(&failure.error);
        self.progress.event(&json!({ "event": "failure", "failure": failure }));
    }
}

impl Screen {
    fn round(&self, round: &Round) {
        match round {
            Round::Done(done) => {
                let (_, report) = &**done;
                self.progress.event(&json!({ "event": "round", "report": report }));
                if report.copied + report.removed + report.failed > 0 {
                    self.progress.say(&summary(report));
                }
            }
            Round::Failed { error, pause } => {
                let text = error.to_string();
                self.progress.event(&json!({ "event": "round-failed", "error": text, "pause_secs": pause.as_secs() }));
                self.progress.say(&format!("{text}\n  The next try comes in {} s.", pause.as_secs()));
            }
        }
    }

    /// The last words, and the exit code.
    fn end(&self, plan: &Plan, report: &Report) -> i32 {
        match (self.output, self.options.dry_run) {
            (Output::Json, true) => json(&json!({ "event": "plan", "plan": plan })),
            (Output::Json, false) => json(&json!({ "event": "done", "report": report })),
            (Output::Text, true) => out(&dry(plan)),
            (Output::Text, false) => out(&format!("{}\n", summary(report))),
        }
        if report.is_complete() { DONE } else { INCOMPLETE }
    }
}

/// A name that is nobody's key may hold anything, and a terminal obeys what it is told.
fn printable(name: &str) -> String {
    let shown = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    name.chars().map(shown).collect()
}

fn removals(plan: &Plan) -> String {
    let mut text =
        format!("to be removed from DST: {} objects, {}", plan.removals.len(), HumanBytes(plan.removal_bytes()));
    for removal in plan.removals.iter().take(STEPS_SHOWN) {
        text.push_str(&format!("\n  remove {} ({}): SRC does not have it", removal.key, HumanBytes(removal.len)));
    }
    if plan.removals.len() > STEPS_SHOWN {
        text.push_str(&format!("\n  ... and {} more; --output json lists all", plan.removals.len() - STEPS_SHOWN));
    }
    text
}

fn dry(plan: &Plan) -> String {
    let mut text = String::new();
    for step in plan.copies.iter().take(STEPS_SHOWN) {
        text.push_str(&format!("copy {} ({}): {}\n", step.key, HumanBytes(step.len), step.why));
    }
    if plan.copies.len() > STEPS_SHOWN {
        text.push_str(&format!("... and {} more; --output json lists all\n", plan.copies.len() - STEPS_SHOWN));
    }
    if !plan.removals.is_empty() {
        text.push_str(&removals(plan));
        text.push('\n');
    }
    let (copies, bytes) = (plan.copies.len(), HumanBytes(plan.copy_bytes()));
    text.push_str(&format!(
        "Would copy {copies} objects ({bytes}) and remove {}; {} are the same",
        plan.removals.len(),
        plan.same
    ));
    if plan.extra > 0 {
        text.push_str(&format!("; {} only in DST stay", plan.extra));
    }
    text.push_str(". Nothing was changed.\n");
    text
}

fn summary(report: &Report) -> String {
    let mut text = format!("Copied {} objects ({})", report.copied, HumanBytes(report.copied_bytes));
    if report.moved_bytes < report.copied_bytes {
        text.push_str(&format!(", {} of it through this machine", HumanBytes(report.moved_bytes)));
    }
    text.push_str(&format!("; {} were the same; removed {}", report.same, report.removed));
    for (count, words) in [
        (report.extra, "only in DST, kept"),
        (report.vanished, "vanished from SRC meanwhile"),
        (report.failed, "FAILED"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {words}"));
        }
    }
    text.push('.');
    if let Some(why) = &report.stopped {
        text.push_str(&format!("\n{why}."));
    }
    if !report.is_complete() {
        text.push_str("\nNot everything of SRC is in DST. Correct what is named above, then run again.");
    }
    text
}

/// A number of bytes with an optional K, M or G (powers of 1024).
fn bytes(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.trim_end_matches(['B', 'b', 'i']).char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
        Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("a rate looks like 500K, 20M or 1G".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read() {
        for (text, value) in [("1", 1), ("500K", 500 << 10), ("20M", 20 << 20), ("1GiB", 1 << 30), ("3MB", 3 << 20)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5M", "99999999999999999999"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn places_within_each_other_are_refused() {
        let parse = |args: &[&str]| Arguments::try_parse_from([&["eyrie mirror"][..], args].concat()).unwrap();
        let error = open(&parse(&["s3://b/x", "s3://b/x/y"])).unwrap_err();
        assert!(error.contains("lie in each other"), "{error}");
        assert!(open(&parse(&["/tmp", "/tmp/below"])).is_err());
        assert!(open(&parse(&["/tmp/one-of-two", "/tmp/two-of-two"])).is_ok());
    }

    #[test]
    fn settings_come_from_a_file_and_the_address_from_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "endpoint: http://minio:9000\nparallel: 4\n").unwrap();
        let config = config("s3://b/p", Some(file.path()), None).unwrap();
        assert_eq!((config.url.to_string(), config.parallel), ("s3://b/p".into(), 4));
        assert_eq!(config.endpoint.as_deref(), Some("http://minio:9000"));
    }
}
