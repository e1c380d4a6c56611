//! `drill`: a restore that is tried before it is needed.

use std::path::PathBuf;
use std::time::Duration;

use eyrie_backup::bucket::{Bucket, BucketUrl};
use eyrie_backup::config::Config;
use eyrie_backup::drill::{self, DrillReport, DrillRequest};
use eyrie_backup::restore::{ObjectRoot, ObjectsTo};
use eyrie_backup::seal::Identities;
use eyrie_backup::take::MilvusBucket;
use serde_json::json;

use super::restore::{Screen, pinned};
use super::settings::{Moment, Settings};
use super::{DONE, FAILED, Output, REFUSED};
use crate::progress;
use crate::screen::out;

#[derive(clap::Args)]
#[command(after_help = "\
The command is run by `sh -c` with these variables:
  EYRIE_ENDPOINT, ETCDCTL_ENDPOINTS   the restored store
  EYRIE_REVISION                      the revision that was restored
  EYRIE_BUCKET                        the bucket of --objects-to

  eyrie backup drill --config eyrie.yaml --command 'etcdctl get --prefix by-dev/meta/root-coord | grep -q birds'

Exit code: 0 the backup can be restored, 1 something is wrong with it (the answer says what), 2 nothing was tried.")]
pub(super) struct Drill {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    moment: Moment,
    /// Your own check of the restored store; it must end with 0
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// How long that may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    command_limit: u64,
    /// Read every byte of every object; without it each is asked for, and a hundred are read
    #[arg(long)]
    read_data: bool,
    /// Restore the objects, too: into this empty bucket or folder, which stays afterwards
    #[arg(long, value_name = "ADDRESS")]
    objects_to: Option<String>,
    /// Settings of that bucket's store (YAML)
    #[arg(long, value_name = "FILE", requires = "objects_to")]
    objects_to_config: Option<PathBuf>,
    /// Folder for the store: room for the metadata three times
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Do not write the result into the archive's catalogue
    #[arg(long)]
    no_record: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Drill {
    pub(super) async fn run(self) -> i32 {
        let (bucket, keys, request) = match self.open() {
            Ok(opened) => opened,
            Err(why) => return self.refused(&why),
        };
        let screen = Screen::new("drill", self.output);
        let held = drill::drill(&bucket, &keys, &request, &screen).await;
        screen.0.finish();
        let report = match held {
            Ok(report) => report,
            Err(error) => return self.refused(&error.to_string()),
        };
        let recorded = match self.no_record {
            true => Ok(()),
            false => drill::record(&bucket, &report).await.map_err(|error| error.to_string()),
        };
        self.answer(&report, recorded.err());
        if report.ok { DONE } else { FAILED }
    }

    fn open(&self) -> Result<(Bucket, Identities, DrillRequest), String> {
        let (config, bucket) = self.settings.archive()?;
        let keys = self.moment.keys()?;
        let program = std::env::current_exe().map_err(|error| format!("this program can't find itself: {error}"))?;
        let scratch = self.scratch.clone().or(config.source.spool.clone()).unwrap_or_else(std::env::temp_dir);
        let request = DrillRequest {
            at: self.moment.at,
            timeline: self.moment.timeline(),
            read_data: self.read_data,
            objects_to: self.objects_to(&config)?,
            command: self.command.clone(),
            command_limit: Duration::from_secs(self.command_limit),
            pin: pinned(&config, &bucket),
            ..DrillRequest::new(program, scratch)
        };
        Ok((bucket, keys, request))
    }

    fn objects_to(&self, config: &Config) -> Result<Option<ObjectsTo>, String> {
        let Some(address) = &self.objects_to else { return Ok(None) };
        let bucket = crate::mirror::config(address, self.objects_to_config.as_deref(), None)?;
        let was = config.milvus.as_ref().map(MilvusBucket::open).transpose().map_err(|error| error.to_string())?;
        let at = match &bucket.url {
            BucketUrl::File(path) => Some(ObjectRoot::folder(&path.display().to_string())),
            _ => None,
        };
        let bucket = Bucket::open(&bucket).map_err(|error| error.to_string())?;
        Ok(Some(ObjectsTo { bucket, at, from: was.map(|was| was.objects_at), into_existing: false }))
    }

    fn answer(&self, report: &DrillReport, not_recorded: Option<String>) {
        match self.output {
            Output::Json => {
                progress::json(&json!({"event": "drilled", "report": report, "not_recorded": not_recorded}));
            }
            Output::Text => {
                out(&report.to_string());
                if let Some(why) = not_recorded {
                    eprintln!("The result stands nowhere but here: {why}");
                }
            }
        }
    }

    fn refused(&self, why: &str) -> i32 {
        match self.output {
            Output::Json => progress::json(&json!({"event": "refused", "error": why})),
            Output::Text => eprintln!("Error: {why}"),
        }
        REFUSED
    }
}
