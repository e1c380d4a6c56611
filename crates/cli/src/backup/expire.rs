//! `expire`: what retention gives up, and why.

use eyrie_archive::retention::{Fate, Item, Thing};
use eyrie_backup::catalog::{self, OpenOptions, Writer};
use eyrie_backup::expire::{self, ExpireError, Outcome, Prepared};
use serde_json::json;

use super::settings::Settings;
use super::watch::{self, size_text};
use super::{DONE, FAILED, Output, failed, refused};
use crate::screen::out;

#[derive(clap::Args)]
pub(super) struct Expire {
    #[command(flatten)]
    settings: Settings,
    /// Show what would go and why, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Show also what stays and why
    #[arg(long)]
    all: bool,
    /// Write although another writer seems to be at work; that one then stops
    #[arg(long)]
    take_over: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Expire {
    pub(super) async fn run(self) -> i32 {
        let (config, bucket) = match self.settings.archive() {
            Ok(opened) => opened,
            Err(why) => return refused(&why),
        };
        if let Err(error) = config.retention.check() {
            return refused(&error.to_string());
        }
        let pin = Some(config.pin(&bucket));
        let options = OpenOptions { take_over: self.take_over, accept_damage: false, pin };
        if self.dry_run {
            let reading = match catalog::read(&bucket, options.pinned()).await {
                Ok(reading) => reading,
                Err(error) => return refused(&error.to_string()),
            };
            return match expire::prepare(&bucket, &reading.catalog, &config.retention).await {
                Ok(prepared) => self.plan(&prepared),
                Err(error) => refused(&error.to_string()),
            };
        }
        let mut writer = match Writer::join(&bucket, &options).await {
            Ok(writer) => writer,
            Err(error) => return refused(&error.to_string()),
        };
        let outcome = expire::expire(&mut writer, &config.retention, &watch::tell(self.output)).await;
        writer.keep_pin(false);
        match outcome {
            Ok(outcome) => self.done(&outcome),
            Err(error @ ExpireError::Policy(_)) => refused(&error.to_string()),
            Err(error) => failed(&error),
        }
    }

    fn plan(&self, prepared: &Prepared) -> i32 {
        match self.output {
            Output::Json => {
                let mut answer = serde_json::to_value(prepared).unwrap_or_default();
                answer["event"] = "plan".into();
                out(&format!("{answer}\n"));
            }
            Output::Text => {
                out(&format!("{}Nothing was changed: this is what would be done.\n", self.words(prepared)));
            }
        }
        DONE
    }

    fn done(&self, outcome: &Outcome) -> i32 {
        match self.output {
            Output::Json => {
                let mut answer = json!({"event": "expired"});
                answer["outcome"] = serde_json::to_value(outcome).unwrap_or_default();
                out(&format!("{answer}\n"));
            }
            Output::Text => {
                let mut page = self.words(&outcome.prepared);
                page += &format!("{} files deleted.\n", outcome.deleted);
                for left in &outcome.left {
                    page += &format!("  not deleted, tried again next time: {}: {}\n", left.stored.path, left.why);
                }
                if let Some(why) = &outcome.unfinished {
                    page += &format!("Not finished: {why}\nWhat is left is deleted by the next run.\n");
                }
                out(&page);
            }
        }
        if outcome.unfinished.is_some() { FAILED } else { DONE }
    }

    fn words(&self, prepared: &Prepared) -> String {
        let plan = &prepared.plan;
        let mut page = format!("Policy: {}\n", plan.policy);
        for item in plan.items.iter().filter(|item| self.all || item.fate.goes()) {
            page += &format!("  {}\n", line(item));
        }
        let goes = plan.items.iter().filter(|item| item.fate.goes()).count();
        page += &format!("{goes} of {} go, {}", plan.items.len(), size_text(plan.bytes()));
        let objects = &prepared.objects;
        page +=
            &format!("; {} objects go, {}: no revision that stays needs them", objects.count, size_text(objects.bytes));
        page += &format!("; {} stay\n", prepared.objects_needed + prepared.objects_later);
        if let Some(why) = &prepared.objects_unknown {
            page += &format!("No object is removed: {why}\n");
        }
        if prepared.orphans > 0 {
            page += &format!("{} files that runs left which were killed: no record names them\n", prepared.orphans);
        }
        for seq in &prepared.unswept {
            page += &format!("the expiry of record {seq} was not finished: its files go\n");
        }
        page
    }
}

fn line(item: &Item) -> String {
    let thing = match &item.thing {
        Thing::Full { revision, taken_at_ms, timeline, .. } => {
            format!("full at revision {revision} of timeline {timeline}, taken {taken_at_ms}")
        }
        Thing::Tail { timeline, first, last, .. } => format!("tail {first} to {last} of timeline {timeline}"),
        Thing::Superseded { by, files } => format!("{files} files that record {by} stands in for"),
        Thing::Records { before } => format!("records before {before}"),
    };
    match &item.fate {
        Fate::Kept(why) => format!("stays  {thing}: {why}"),
        Fate::Removed(why) => format!("goes   {thing} ({}): {why}", size_text(item.bytes)),
    }
}
