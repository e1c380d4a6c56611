//! `create`.

use eyrie_backup::logical::create::{self, Created, Options, Strategy};
use eyrie_backup::logical::{Doors, Failure, Kind, Milvus};
use eyrie_backup::seal::Recipients;
use eyrie_milvus::logical::{CollectionName, Filter};
use indicatif::HumanBytes;
use serde_json::json;

use super::tell::Shown;
use super::{Context, DONE, FAILED, list};
use crate::progress::{Output, json};
use crate::screen::out;

/// The ways of milvus-backup to get rows into the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Strategies {
    /// Flush each collection before it is copied
    Auto,
    /// The same
    BulkFlush,
    /// The same
    SerialFlush,
    /// Back up what is in the bucket, and flush nothing
    SkipFlush,
    /// Schemas and settings, no rows
    MetaOnly,
}

/// The formats of milvus-backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The one below
    Auto,
    /// Copies of the logs
    Binlog,
    /// Exported by Milvus 3.0 itself; not here
    Snapshot,
}

#[derive(clap::Args)]
pub(super) struct Create {
    /// Its name [default: backup_ and the time]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Collections, with commas: name, database.name, database.*
    #[arg(long, value_name = "LIST")]
    filter: Option<String>,
    /// How rows get into the bucket before
    #[arg(long, value_enum, default_value = "auto")]
    strategy: Strategies,
    /// How the backup is stored
    #[arg(long, value_enum, default_value = "auto")]
    format: Format,
    /// Say more of each index
    #[arg(long = "backup_index_extra")]
    backup_index_extra: bool,
    /// Users, roles and grants too
    #[arg(long)]
    rbac: bool,
    /// As --filter (0.5)
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    colls: Vec<String>,
    /// All of these databases (0.5)
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    databases: Vec<String>,
    /// {"database": ["collection"]} (0.5)
    #[arg(short = 'a', long = "database_collections", value_name = "JSON")]
    database_collections: Option<String>,
    /// As --strategy skip_flush (0.5)
    #[arg(short, long)]
    force: bool,
    /// As --strategy meta_only (0.5)
    #[arg(long = "meta_only")]
    meta_only: bool,
    /// Leave logs that the newest backup has where they are, and only name them: quick and small, but only this program
    /// restores it, and the other backup can't be deleted before it
    #[arg(long)]
    incremental: bool,
    /// Seal the backup with age to this public key (age1..., or file:PATH); may be repeated. Only this program and the private
    /// key restore it
    #[arg(long, value_name = "KEY")]
    recipient: Vec<String>,
    /// Say what would be in the backup, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Create {
    pub(super) async fn run(&self, context: &Context) -> Result<i32, Failure> {
        if self.format == Format::Snapshot {
            let what = "this program backs up by copying logs; only Milvus 3.0 itself exports snapshots";
            return Err(Failure::new(Kind::Unsupported, what, "leave --format out"));
        }
        let options = Options {
            name: self.name.as_deref().map(list::name).transpose()?,
            filter: filter(self.filter.as_deref(), &self.colls, &self.databases, self.database_collections.as_deref())?,
            strategy: match self.strategy {
                _ if self.meta_only => Strategy::MetaOnly,
                _ if self.force => Strategy::SkipFlush,
                Strategies::MetaOnly => Strategy::MetaOnly,
                Strategies::SkipFlush => Strategy::SkipFlush,
                Strategies::Auto | Strategies::BulkFlush | Strategies::SerialFlush => Strategy::Flush,
            },
            rbac: self.rbac,
            index_extra: self.backup_index_extra,
            incremental: self.incremental,
            recipients: match self.recipient.is_empty() {
                true => context.settings.recipients()?,
                false => Recipients::parse(self.recipient.iter().map(String::as_str))?,
            },
        };
        if self.dry_run {
            return planned(context, &options).await;
        }
        let doors = Doors::open(&context.settings).await?;
        let shown = Shown::new("create", context.output);
        let created = create::create(&doors, &context.settings, &options, &shown.tell()).await;
        shown.finish();
        let created = created?;
        finished(context.output, &created);
        Ok(if created.failed.is_empty() { DONE } else { FAILED })
    }
}

/// What the flags of both generations mean together.
pub(super) fn filter(
    filter: Option<&str>,
    collections: &[String],
    databases: &[String],
    json: Option<&str>,
) -> Result<Filter, Failure> {
    let wrong = |why: String| Failure::new(Kind::Request, why, "correct the command line");
    let given = [filter.is_some(), !collections.is_empty() || !databases.is_empty(), json.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(wrong("--filter, -c/-d and -a say the same thing in three ways; only one can be given".into()));
    }
    if let Some(json) = json {
        return Filter::parse_json(json).map_err(wrong);
    }
    let mut meant = Filter::parse(filter.unwrap_or_default()).map_err(wrong)?;
    for name in collections.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        let (database, name) = name.split_once('.').unwrap_or(("", name));
        meant.add(&CollectionName::new(database, name));
    }
    databases.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).for_each(|name| meant.add_database(name));
    Ok(meant)
}

async fn planned(context: &Context, options: &Options) -> Result<i32, Failure> {
    let milvus = Milvus::connect(&context.settings.milvus).await?;
    let plan = create::plan(&milvus, options).await?;
    match context.output {
        Output::Json => {
            let collections: Vec<_> =
                plan.collections.iter().map(|(name, rows)| json!({ "name": name.to_string(), "rows": rows })).collect();
            json(&json!({ "event": "plan", "name": plan.name.as_str(), "collections": collections }));
        }
        Output::Text => {
            let mut page = format!("{} would have {} collections:\n", plan.name, plan.collections.len());
            for (name, rows) in &plan.collections {
                page += &match rows {
                    Some(rows) => format!("  {name}  {rows} rows in the bucket now\n"),
                    None => format!("  {name}\n"),
                };
            }
            out(&page);
        }
    }
    Ok(DONE)
}

fn finished(output: Output, created: &Created) {
    let info = &created.info;
    let rows: i64 = info.collection_backups.iter().map(|collection| collection.rows()).sum();
    let (objects, bytes) = created.copied;
    match output {
        Output::Json => json(&json!({
            "event": "created", "name": created.name.as_str(), "id": info.id, "size": info.size,
            "collections": info.collection_backups.len(), "rows": rows, "objects_copied": objects,
            "bytes_copied": bytes, "objects_kept": created.kept, "objects_held": created.held, "failed": created.failed,
        })),
        Output::Text => {
            let mut page = format!(
                "{} is taken: {} collections, {rows} rows in logs, {}; {objects} objects copied",
                created.name,
                info.collection_backups.len(),
                HumanBytes(u64::try_from(info.size).unwrap_or_default()),
            );
            if created.kept > 0 {
                page += &format!(", {} were there already", created.kept);
            }
            if created.held > 0 {
                page += &format!(", {} lie in an earlier backup", created.held);
            }
            page.push('\n');
            for failed in &created.failed {
                page += &format!("WITHOUT {}.{}: {}\n", failed.database, failed.name, failed.why);
            }
            page += &format!(
                "Bring it back beside the old with: restore -n {} -s _restored --rebuild_index\n",
                created.name
            );
            out(&page);
        }
    }
}
