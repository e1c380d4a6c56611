//! `verify`: is the archive still what it says?

use eyrie_backup::bucket::Bucket;
use eyrie_backup::catalog::{ArchiveError, OpenOptions, Writer};
use eyrie_backup::config::Config;
use eyrie_backup::verify::{self, Options, Report, Thoroughness};
use serde_json::json;

use super::settings::Settings;
use super::watch::{self, size_text};
use super::{DONE, FAILED, Output, REFUSED, failed, refused};
use crate::screen::out;

/// Findings that are shown one by one.
const SHOWN: usize = 50;

#[derive(clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    settings: Settings,
    /// Read every byte of it
    #[arg(long, conflicts_with = "sample")]
    read_data: bool,
    /// Read all metadata, and so many of a hundred objects
    #[arg(long, value_name = "N%", value_parser = percent)]
    sample: Option<f64>,
    /// Which objects a sample draws; another number draws others, by default the time does
    #[arg(long, value_name = "N", requires = "sample")]
    seed: Option<u64>,
    /// Write nothing down
    #[arg(long)]
    no_record: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_end_matches('%').parse().map_err(|_| "write for example 5%".to_owned())?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("it must be between 0% and 100%".into()) }
}

impl Verify {
    pub(super) async fn run(self) -> i32 {
        let config = match self.settings.config() {
            Ok(config) => config,
            Err(why) => return refused(&why),
        };
        let bucket = match Bucket::open(&config.archive) {
            Ok(bucket) => bucket,
            Err(error) => return refused(&error.to_string()),
        };
        let seed = || self.seed.unwrap_or_else(|| eyrie_backup::history::TimeMs::now().0);
        let thoroughness = match (self.read_data, self.sample) {
            (true, _) => Thoroughness::Data,
            (false, Some(percent)) => Thoroughness::Sample { percent, seed: seed() },
            (false, None) => Thoroughness::Structure,
        };
        let pin = config.pin(&bucket);
        let pinned = pin.read().unwrap_or_else(|error| {
            eprintln!("warning: {error}");
            None
        });
        let options = Options { thoroughness, pin: pinned, ..Options::default() };
        let report = match verify::verify(&bucket, &options, &watch::tell(self.output)).await {
            Ok(report) => report,
            // What can't be reached can't be judged.
            Err(ArchiveError::Bucket(error)) => return refused(&error.to_string()),
            Err(error) => return failed(&error),
        };
        let recorded = self.record(&config, &bucket, &report).await;
        match self.output {
            Output::Json => out(&format!("{}\n", machine(&report, &recorded))),
            Output::Text => out(&text(&bucket, &report, &recorded)),
        }
        match (report.is_damaged(), report.is_well()) {
            (true, _) => FAILED,
            (false, true) => DONE,
            (false, false) => REFUSED,
        }
    }

    /// Writes down what was found, if nobody else is writing. Why not, if not.
    async fn record(&self, config: &Config, bucket: &Bucket, report: &Report) -> Result<(), String> {
        if self.no_record {
            return Err("nothing was to be recorded".into());
        }
        if report.verdicts.is_empty() {
            return Err("there is nothing to record".into());
        }
        let options = OpenOptions { pin: Some(config.pin(bucket)), ..OpenOptions::default() };
        let mut writer = Writer::join(bucket, &options).await.map_err(|error| error.to_string())?;
        verify::record(&mut writer, report).await.map_err(|error| error.to_string())?;
        writer.keep_pin(false);
        Ok(())
    }
}

fn machine(report: &Report, recorded: &Result<(), String>) -> serde_json::Value {
    let mut answer = serde_json::to_value(report).unwrap_or_default();
    answer["event"] = "verified".into();
    answer["ok"] = report.is_well().into();
    answer["recorded"] = recorded.is_ok().into();
    if let Err(why) = recorded {
        answer["not_recorded"] = json!(why);
    }
    answer
}

fn text(bucket: &Bucket, report: &Report, recorded: &Result<(), String>) -> String {
    let mut page = format!(
        "Archive {} in {bucket}: {} chains, {} objects, {} files looked at, {} read, in {:.1} s\n",
        report.archive,
        report.chains,
        report.objects,
        report.files,
        size_text(report.bytes),
        report.took_ms as f64 / 1000.0
    );
    for one in &report.catalog {
        page += &format!("  DAMAGE: {}\n          {}\n", one.what, one.means);
    }
    for one in report.damaged.iter().take(SHOWN) {
        page += &format!("  DAMAGE: {}: {}\n          {}\n", one.path, one.what, one.means());
    }
    let more = report.damaged_files.saturating_sub(report.damaged.len().min(SHOWN) as u64);
    if more > 0 {
        page += &format!("  … and {more} files more (--output json names them)\n");
    }
    for one in &report.notes {
        page += &format!("  DAMAGE: {one}\n");
    }
    for one in report.unseen.iter().take(SHOWN) {
        page += &format!("  not looked at: {one}\n");
    }
    page += match (report.is_damaged(), report.is_well()) {
        (true, _) => "The archive is damaged. Next: eyrie backup list   shows what can be recovered all the same\n",
        (false, true) => "All is well.\n",
        (false, false) => "What was looked at is well, but not all could be. Next: run it again\n",
    };
    if let Err(why) = recorded {
        page += &format!("Not written down in the catalogue: {why}\n");
    }
    page
}
