//! `verify`: is the archive still what it says?

use std::path::PathBuf;

use eyrie_backup::bucket::Bucket;
use eyrie_backup::catalog::{ArchiveError, OpenOptions, Writer};
use eyrie_backup::config::Config;
use eyrie_backup::objects::rebuild;
use eyrie_backup::objects::repair::{self, Repaired};
use eyrie_backup::seal::Recipients;
use eyrie_backup::take::MilvusBucket;
use eyrie_backup::tell::Tell;
use eyrie_backup::verify::{self, Options, Report, Thoroughness};
use serde_json::json;

use super::settings::{Settings, identities};
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
    /// Mend what can be had again: the index of objects, and objects that Milvus's bucket still has
    #[arg(long, conflicts_with = "no_record")]
    repair: bool,
    /// A file with a private key: to mend the index of a sealed archive
    #[arg(long, value_name = "FILE", requires = "repair")]
    identity: Vec<PathBuf>,
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
        let (config, bucket) = match self.settings.archive() {
            Ok(opened) => opened,
            Err(why) => return refused(&why),
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
        let tell = watch::tell(self.output);
        let looked = match self.repair {
            true => self.mended(&config, &bucket, &options, &tell).await,
            false => verify::verify(&bucket, &options, &tell).await.map(|report| (report, None)).map_err(Trouble::from),
        };
        let (report, repaired) = match looked {
            Ok(looked) => looked,
            Err(Trouble::Nothing(why)) => return refused(&why),
            Err(Trouble::Damaged(why)) => return failed(&why),
        };
        let recorded = self.record(&config, &bucket, &report).await;
        match self.output {
            Output::Json => out(&format!("{}\n", machine(&report, &recorded, repaired.as_ref()))),
            Output::Text => {
                out(&repaired.as_ref().map(words_of).unwrap_or_default());
                out(&text(&bucket, &report, &recorded));
            }
        }
        match (report.is_damaged(), report.is_well()) {
            (true, _) => FAILED,
            (false, true) => DONE,
            (false, false) => REFUSED,
        }
    }

    /// Mends the index, looks, mends the objects that are damaged, and looks again if there was one.
    async fn mended(
        &self,
        config: &Config,
        bucket: &Bucket,
        options: &Options,
        tell: &Tell,
    ) -> Result<(Report, Option<Repaired>), Trouble> {
        let keys = identities(&self.identity).map_err(Trouble::Nothing)?;
        let seal_to = Recipients::parse(config.recipients.iter().map(String::as_str)).map_err(nothing)?;
        let milvus = config.milvus.as_ref().map(MilvusBucket::open).transpose().map_err(nothing)?;
        let from = milvus.as_ref().map(|milvus| &milvus.bucket);
        let opening = OpenOptions { pin: Some(config.pin(bucket)), ..OpenOptions::default() };
        let mut writer = Writer::join(bucket, &opening).await?;
        rebuild::whole(&mut writer, from, &keys, tell).await.map_err(|error| Trouble::Damaged(error.to_string()))?;
        let report = verify::verify(bucket, options, tell).await?;
        let damaged = report.damaged_objects();
        let (Some(milvus), false) = (&milvus, damaged.is_empty()) else {
            writer.keep_pin(false);
            return Ok((report, None));
        };
        if writer.catalog().sealed_to() != seal_to.texts() {
            return Err(Trouble::Nothing(
                "the archive is sealed to other recipients than the configuration names, so no object was copied. \
                 Next: name the same `recipients` as the backup has"
                    .into(),
            ));
        }
        let repaired = repair::objects(&mut writer, &milvus.bucket, milvus.parallel, &seal_to, &damaged).await;
        let repaired = repaired.map_err(|error| Trouble::Damaged(error.to_string()))?;
        writer.keep_pin(false);
        let options = Options { pin: Some(writer.catalog().head()), ..options.clone() };
        Ok((verify::verify(bucket, &options, tell).await?, Some(repaired)))
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
        let mut writer = Writer::join(bucket, &options).await.map_err(|error| match error {
            // nothing is wrong, and nothing is to be taken over for this
            ArchiveError::Busy { by, .. } => {
                format!("{by} is at work on the archive. Next: have the agent verify, or type this again when that one has ended")
            }
            error => error.to_string(),
        })?;
        verify::record(&mut writer, report).await.map_err(|error| error.to_string())?;
        writer.keep_pin(false);
        Ok(())
    }
}

/// Why there is no report.
enum Trouble {
    /// Nothing could be looked at, or nothing was to be done.
    Nothing(String),
    /// It can't be used.
    Damaged(String),
}

impl From<ArchiveError> for Trouble {
    fn from(error: ArchiveError) -> Self {
        match error {
            // What can't be reached can't be judged.
            ArchiveError::Bucket(_) | ArchiveError::Busy { .. } => Self::Nothing(error.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

fn nothing(error: impl std::fmt::Display) -> Trouble {
    Trouble::Nothing(error.to_string())
}

fn words_of(repaired: &Repaired) -> String {
    let mut words = format!("{} damaged objects were copied anew\n", repaired.copied);
    for gone in repaired.gone.iter().take(SHOWN) {
        words += &format!("  can't be had again, Milvus's bucket has it no more: {gone}\n");
    }
    for why in repaired.failed.iter().take(SHOWN) {
        words += &format!("  not copied: {why}\n");
    }
    words
}

fn machine(report: &Report, recorded: &Result<(), String>, repaired: Option<&Repaired>) -> serde_json::Value {
    let mut answer = serde_json::to_value(report).unwrap_or_default();
    answer["event"] = "verified".into();
    answer["ok"] = report.is_well().into();
    answer["recorded"] = recorded.is_ok().into();
    if let Err(why) = recorded {
        answer["not_recorded"] = json!(why);
    }
    if let Some(Repaired { copied, gone, failed }) = repaired {
        answer["repaired"] = json!({"copied": copied, "gone": gone, "failed": failed});
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
