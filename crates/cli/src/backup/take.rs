//! `take` and `tail`: from the source into the archive.

use std::future::Future;

use eyrie_backup::catalog::OpenOptions;
use eyrie_backup::tail::run::{Done, Until};
use eyrie_backup::take::{Backup, BackupError};
use tokio::signal::unix::{SignalKind, signal};

use super::settings::Settings;
use super::watch::{self, size_text};
use super::{DONE, FAILED, Output, failed, refused};

/// What both commands have.
#[derive(clap::Args)]
struct Writing {
    #[command(flatten)]
    settings: Settings,
    /// Write although another writer seems to be at work; that one then stops
    #[arg(long)]
    take_over: bool,
    /// Go on behind damage in the catalogue
    #[arg(long)]
    accept_damage: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(clap::Args)]
pub(super) struct Take {
    #[command(flatten)]
    writing: Writing,
}

#[derive(clap::Args)]
pub(super) struct Tail {
    #[command(flatten)]
    writing: Writing,
}

impl Take {
    pub(super) async fn run(self) -> i32 {
        self.writing.run(Until::CaughtUp).await
    }
}

impl Tail {
    pub(super) async fn run(self) -> i32 {
        self.writing.run(Until::Stopped).await
    }
}

impl Writing {
    async fn run(self, until: Until) -> i32 {
        let config = match self.settings.with_source() {
            Ok(config) => config,
            Err(why) => return refused(&why),
        };
        let stop = match stop() {
            Ok(stop) => stop,
            Err(error) => return refused(&format!("can't listen for signals: {error}")),
        };
        let kept = config.milvus.is_some();
        let backup = match Backup::open(config, watch::tell(self.output)).await {
            Ok(backup) => backup,
            Err(error) => return refused(&error.to_string()),
        };
        let pin = Some(backup.config.pin(&backup.archive));
        let options = OpenOptions { take_over: self.take_over, accept_damage: self.accept_damage, pin };
        match backup.run(until, &options, stop).await {
            Ok(done) => self.answer(&done, until, kept),
            Err(error @ (BackupError::Config(_) | BackupError::Layout(_))) => refused(&error.to_string()),
            Err(error) => failed(&error),
        }
    }

    fn answer(&self, done: &Done, until: Until, kept: bool) -> i32 {
        let whole = !kept || done.mirrored_to == Some(done.revision);
        match self.output {
            Output::Json => {
                let mut answer = serde_json::to_value(done).unwrap_or_default();
                answer["event"] = "done".into();
                crate::screen::tell(&answer.to_string());
            }
            Output::Text => {
                let objects = if kept {
                    format!(", {} objects copied ({})", done.objects, size_text(done.bytes))
                } else {
                    ", no objects (no Milvus bucket is configured)".into()
                };
                eprintln!(
                    "\nThe archive holds everything up to revision {}: {} fulls and {} pieces of tail in this run{objects}.",
                    done.revision,
                    done.fulls.len(),
                    done.pieces
                );
                if done.holes > 0 {
                    eprintln!(
                        "{} holes: some revisions need objects that are gone. Next: eyrie backup list",
                        done.holes
                    );
                }
                if !whole {
                    let to = done.mirrored_to.map_or("nothing".into(), |to| format!("revision {to}"));
                    eprintln!("With all objects: up to {to}; the next run copies the rest.");
                }
            }
        }
        // A tail that was stopped has done what it was asked for; a take that did not reach its goal has not.
        if until == Until::CaughtUp && !done.fulls.is_empty() && done.holes == 0 || until == Until::Stopped {
            DONE
        } else {
            FAILED
        }
    }
}

/// Ends with the first SIGTERM or SIGINT.
pub(crate) fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        // a second one ends the process at once
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            std::process::exit(FAILED);
        });
    })
}
