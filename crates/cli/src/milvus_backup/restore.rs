//! `restore`.

use eyrie_backup::logical::restore::{self, Action, Item, Options, Restored};
use eyrie_backup::logical::{Doors, Failure, Kind};
use eyrie_milvus::logical::Renames;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::create::filter;
use super::tell::Shown;
use super::{Context, DONE, FAILED, list};
use crate::progress::{Output, json};
use crate::screen::out;

#[derive(clap::Args)]
pub(super) struct Restore {
    /// The backup
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// Collections, with commas, by the names that they get: name, database.name, database.*
    #[arg(long, value_name = "LIST")]
    filter: Option<String>,
    /// What is appended to the name of each collection
    #[arg(short, long, value_name = "SUFFIX", default_value = "")]
    suffix: String,
    /// New names, with commas: old:new, database.old:database.new, database.*:database.*
    #[arg(short, long, value_name = "LIST", default_value = "")]
    rename: String,
    /// Make the indexes again, and load what was loaded
    #[arg(long = "rebuild_index", alias = "restore_index")]
    rebuild_index: bool,
    /// Let Milvus choose the kind of each index
    #[arg(long = "use_auto_index")]
    use_auto_index: bool,
    /// Schemas and settings, no rows
    #[arg(long = "meta_only")]
    meta_only: bool,
    /// Drop a collection that has the name, with all its rows
    #[arg(long = "drop_exist_collection")]
    drop_exist_collection: bool,
    /// Drop the indexes of a collection that is there
    #[arg(long = "drop_exist_index")]
    drop_exist_index: bool,
    /// Add the rows to collections that are there
    #[arg(long = "skip_create_collection")]
    skip_create_collection: bool,
    /// Users, roles and grants too
    #[arg(long)]
    rbac: bool,
    /// Has no effect: the way that Milvus takes is chosen by its version
    #[arg(long = "use_v2_restore", hide = true)]
    use_v2_restore: bool,
    /// As --filter, by the names in the backup without -s and -r (0.5)
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    collections: Vec<String>,
    /// All of these databases (0.5)
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    databases: Vec<String>,
    /// {"database": ["collection"]} (0.5)
    #[arg(short = 'a', long = "database_collections", value_name = "JSON")]
    database_collections: Option<String>,
    /// Leave everything unloaded
    #[arg(long = "no_load")]
    no_load: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Restore {
    pub(super) async fn run(&self, context: &Context) -> Result<i32, Failure> {
        let name = list::name(&self.name)?;
        let wrong = |why: String| Failure::new(Kind::Request, why, "correct the command line");
        let renames = Renames::parse(&self.rename, &self.suffix).map_err(wrong)?;
        let old = filter(None, &self.collections, &self.databases, self.database_collections.as_deref())?;
        let new = filter(self.filter.as_deref(), &[], &[], None)?;
        if !old.is_empty() && !new.is_empty() {
            return Err(wrong("--filter and -c, -d or -a say the same thing; only one can be given".into()));
        }
        let options = Options {
            source_filter: old,
            filter: new,
            renames,
            rebuild_index: self.rebuild_index,
            use_auto_index: self.use_auto_index,
            meta_only: self.meta_only,
            drop_exist_collection: self.drop_exist_collection,
            drop_exist_index: self.drop_exist_index,
            skip_create_collection: self.skip_create_collection,
            rbac: self.rbac,
            no_load: self.no_load,
            keep_journal: false,
        };
        let doors = Doors::open(&context.settings).await?;
        if self.dry_run {
            let items = restore::plan(&doors, &name, &options).await?;
            planned(context.output, &items);
            return Ok(DONE);
        }
        let shown = Shown::new("restore", context.output);
        let restored = restore::restore(&doors, &context.settings, &name, &options, &shown.tell()).await;
        shown.finish();
        let restored = restored?;
        finished(context.output, &restored, self.rebuild_index);
        Ok(if restored.failed.is_empty() { DONE } else { FAILED })
    }
}

fn planned(output: Output, items: &[Item]) {
    let rows = |item: &Item| item.collection.rows();
    match output {
        Output::Json => {
            let items: Vec<_> = items
                .iter()
                .map(|item| {
                    json!({
                        "source": item.source.to_string(), "target": item.target.to_string(),
                        "action": format!("{:?}", item.action), "rows": rows(item), "bytes": item.collection.size,
                        "segments": item.collection.segments().count(),
                    })
                })
                .collect();
            json(&json!({ "event": "plan", "collections": items }));
        }
        Output::Text => {
            let mut page = String::new();
            for item in items {
                let action = match item.action {
                    Action::Create => "create",
                    Action::DropAndCreate => "DROP what is there and create",
                    Action::Fill => "add rows to",
                    Action::GoOn => "go on with",
                    Action::Keep => "leave as it is (done by an earlier run)",
                };
                page += &format!(
                    "would {action} {} from {}: {} rows in logs, {} segments, {}\n",
                    item.target,
                    item.source,
                    rows(item),
                    item.collection.segments().count(),
                    HumanBytes(u64::try_from(item.collection.size).unwrap_or_default())
                );
            }
            out(&page);
        }
    }
}

/// What was done and what failed, in JSON.
pub(super) fn ends(restored: &Restored) -> (Vec<Value>, Vec<Value>) {
    let done = restored.done.iter().map(|(name, rows)| json!({ "name": name.to_string(), "rows": rows }));
    let failed = restored.failed.iter().map(|(name, why)| json!({ "name": name.to_string(), "why": why.line() }));
    (done.collect(), failed.collect())
}

fn finished(output: Output, restored: &Restored, indexed: bool) {
    match output {
        Output::Json => {
            let (done, failed) = ends(restored);
            json(&json!({ "event": "restored", "done": done, "failed": failed }));
        }
        Output::Text => {
            let mut page = String::new();
            for (name, rows) in &restored.done {
                page += &format!("{name} is restored: {rows} rows, counted by Milvus\n");
            }
            for (name, why) in &restored.failed {
                page += &format!("{name} is NOT restored: {}\n", why.line());
            }
            if !indexed && !restored.done.is_empty() {
                page +=
                    "Indexes were not made (--rebuild_index makes them); without one a collection can't be loaded.\n";
            }
            out(&page);
        }
    }
}
