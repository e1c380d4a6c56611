//! `move`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eyrie_backup::logical::config::{ConfigError, Given, Read, Settings, read};
use eyrie_backup::logical::create::{self, Strategy};
use eyrie_backup::logical::moving::{self, Compared, Moved, Options, Plan};
use eyrie_backup::logical::store::State;
use eyrie_backup::logical::{Failure, Kind, restore};
use eyrie_milvus::logical::Renames;
use serde_json::json;

use super::create::filter;
use super::restore::ends;
use super::tell::Shown;
use super::{Context, DONE, FAILED, list};
use crate::progress::{Output, json};
use crate::screen::out;

/// Variables of the environment that are meant for the target begin so; the others are the source's.
const OF_TARGET: &str = "TO_";

#[derive(clap::Args)]
pub(super) struct Move {
    /// The target's configuration, of either generation; --config is the source's. Variables for it begin with TO_
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,
    /// Another value for one key of the target's configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    to_set: Vec<String>,
    /// Name of the backup in between [default: it follows from what is moved where]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Collections of the source, with commas: name, database.name, database.*
    #[arg(short, long, visible_alias = "colls", value_name = "LIST")]
    collections: Option<String>,
    /// What is appended to the name of each collection
    #[arg(short, long, value_name = "SUFFIX", default_value = "")]
    suffix: String,
    /// New names, with commas: old:new, database.old:database.new, database.*:database.*
    #[arg(short, long, value_name = "LIST", default_value = "")]
    rename: String,
    /// Move what is in the source's bucket, and flush nothing
    #[arg(long)]
    skip_flush: bool,
    /// Leave indexes out, and everything unloaded
    #[arg(long)]
    no_index: bool,
    /// Make the indexes, but leave everything unloaded
    #[arg(long)]
    no_load: bool,
    /// Drop a collection of the target that has the name, with all its rows
    #[arg(long)]
    drop_exist_collection: bool,
    /// Users, roles and grants too
    #[arg(long)]
    rbac: bool,
    /// Keep the backup in between
    #[arg(long)]
    keep: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Move {
    pub(super) async fn run(&self, context: &Context) -> Result<i32, Failure> {
        let wrong = |why: String| Failure::new(Kind::Request, why, "correct the command line");
        if self.to_config.is_none() && self.to_set.is_empty() {
            return Err(wrong("the target is not named; give --to-config FILE or --to-set KEY=VALUE".into()));
        }
        let read = self.target().map_err(|error| {
            let said = error.to_string();
            let (what, next) = said.split_once("\n  Next: ").unwrap_or((&said, "correct it"));
            Failure::new(Kind::Request, format!("the target's configuration: {what}"), next.trim_end_matches('.'))
        })?;
        for warning in &read.warnings {
            eprintln!("Warning: the target's configuration: {warning}");
        }
        let (from, mut to) = (&context.settings, read.settings);
        // Limits and keys are given once, for the whole command.
        to.bytes_per_sec = to.bytes_per_sec.or(from.bytes_per_sec);
        to.requests_per_sec = to.requests_per_sec.or(from.requests_per_sec);
        if to.identity.is_none() {
            to.identity.clone_from(&from.identity);
        }
        let options = self.options(from)?;
        moving::check(from, &to, &options)?;
        if self.dry_run {
            planned(context.output, &moving::plan(from, &to, &options).await?);
            return Ok(DONE);
        }
        let shown = Shown::new("move", context.output);
        let moved = self.moved(from, &to, &options, &shown).await;
        shown.finish();
        let moved = moved?;
        finished(context.output, &moved);
        Ok(if moved.is_whole() { DONE } else { FAILED })
    }

    async fn moved(&self, from: &Settings, to: &Settings, options: &Options, shown: &Shown) -> Result<Moved, Failure> {
        moving::run(from, to, options, &shown.tell()).await
    }

    fn options(&self, from: &Settings) -> Result<Options, Failure> {
        let wrong = |why: String| Failure::new(Kind::Request, why, "correct the command line");
        Ok(Options {
            name: self.name.as_deref().map(list::name).transpose()?,
            create: create::Options {
                filter: filter(self.collections.as_deref(), &[], &[], None)?,
                strategy: if self.skip_flush { Strategy::SkipFlush } else { Strategy::Flush },
                rbac: self.rbac,
                recipients: from.recipients()?,
                ..create::Options::default()
            },
            restore: restore::Options {
                renames: Renames::parse(&self.rename, &self.suffix).map_err(wrong)?,
                rebuild_index: !self.no_index,
                no_load: self.no_load,
                drop_exist_collection: self.drop_exist_collection,
                rbac: self.rbac,
                ..restore::Options::default()
            },
            keep: self.keep,
        })
    }

    /// The target's configuration, with variables of its own: one that both read would make them one Milvus.
    fn target(&self) -> Result<Read, ConfigError> {
        let file = match &self.to_config {
            None => None,
            Some(path) => {
                let place = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError { place: place.clone(), why: error.to_string() })?;
                Some((place, text))
            }
        };
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .filter_map(|(k, v)| Some((k.strip_prefix(OF_TARGET)?.to_owned(), v)))
            .collect();
        read(&Given { file, env, set: self.to_set.clone() })
    }
}

fn planned(output: Output, plan: &Plan) {
    let state = plan.state.as_ref().map(State::word);
    match output {
        Output::Json => {
            let all: Vec<_> = plan
                .collections
                .iter()
                .map(|(old, new, rows)| json!({ "source": old.to_string(), "target": new.to_string(), "rows": rows }))
                .collect();
            json(&json!({ "event": "plan", "name": plan.name.as_str(), "backup": state, "collections": all }));
        }
        Output::Text => {
            let mut page = match state {
                None => format!("would take the backup {} in the target's place, and move:\n", plan.name),
                Some(state) => {
                    format!("the backup {} of an earlier run is {state}; would go on, and move:\n", plan.name)
                }
            };
            for (old, new, rows) in &plan.collections {
                let rows = rows.map_or(String::new(), |rows| format!("  {rows} rows in the bucket now"));
                page += &format!("  {old} to {new}{rows}\n");
            }
            out(&page);
        }
    }
}

fn finished(output: Output, moved: &Moved) {
    let restored = &moved.restored;
    match output {
        Output::Json => {
            let compared = |one: &Compared| {
                json!({
                    "source": one.source.to_string(), "target": one.target.to_string(),
                    "source_rows": one.source_rows.map(|(_, after)| after),
                    "source_rows_before": one.source_rows.map(|(before, _)| before),
                    "target_rows": one.target_rows, "differs": one.differs(),
                })
            };
            let (done, failed) = ends(restored);
            json(&json!({
                "event": "moved", "name": moved.name.as_str(), "done": done, "failed": failed, "missing": moved.missing,
                "compared": moved.compared.iter().map(compared).collect::<Vec<_>>(), "backup_kept": moved.kept,
                "bytes_copied": moved.created.as_ref().map(|created| created.copied.1),
            }));
        }
        Output::Text => {
            let mut page = String::new();
            for (name, rows) in &restored.done {
                let compared = moved.compared.iter().find(|one| one.target == *name);
                page += &format!("{name} is there: {rows} rows{}\n", compared.map(verdict).unwrap_or_default());
            }
            for (name, why) in &restored.failed {
                page += &format!("{name} is NOT there: {}\n", why.line());
            }
            for one in &moved.missing {
                page += &format!("NOT MOVED: {one}\n");
            }
            if moved.kept && !moved.is_whole() {
                page += "The source is as it was. The same command goes on with what is missing.\n";
            } else if moved.kept {
                page += &format!("The backup {} stays in the target's place.\n", moved.name);
            }
            out(&page);
        }
    }
}

/// What the comparison of both sides says.
fn verdict(one: &Compared) -> String {
    match (one.source_rows, one.target_rows) {
        (Some((before, after)), Some(found)) if before == after && found == after => {
            format!("; a query finds {found} on both sides")
        }
        (Some((before, after)), Some(found)) if before == after => {
            format!("; but a query finds {found}, and {after} in the source: do NOT use it")
        }
        (Some((before, after)), Some(found)) => {
            format!("; a query finds {found}; the source was written to meanwhile: {before} before, {after} after")
        }
        _ => "; not loaded on both sides, so compared by their logs".into(),
    }
}
