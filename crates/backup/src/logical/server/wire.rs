//! Requests and answers as milvus-backup spells them.

use std::collections::BTreeMap;

use eyrie_milvus::logical::meta::BackupInfo;
use eyrie_milvus::logical::{BackupName, CollectionName, Filter, Rename, Renames};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::super::create::{self, Strategy};
use super::super::failure::{Failure, Kind, Result};
use super::super::restore;

/// Of a restore: what upstream offers and this program does not.
const NOT_HERE: [&str; 6] =
    ["restorePlan", "truncateBinlogByTs", "skipParams", "maxShardNum", "ezkMapping", "db_collections_after_rename"];

/// A request to take a backup.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Create {
    #[serde(rename = "requestId")]
    pub(super) request_id: String,
    backup_name: String,
    collection_names: Vec<String>,
    #[serde(rename = "async")]
    pub(super) in_background: bool,
    db_collections: Value,
    force: bool,
    meta_only: bool,
    rbac: bool,
    filter: BTreeMap<String, Collections>,
    strategy: String,
    with_index_extra: bool,
    format: String,
}

/// Of one database; none means all.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Collections {
    colls: Vec<String>,
}

/// A request to restore one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Restore {
    #[serde(rename = "requestId")]
    pub(super) request_id: String,
    backup_name: String,
    collection_names: Vec<String>,
    collection_suffix: String,
    collection_renames: BTreeMap<String, String>,
    #[serde(rename = "async")]
    pub(super) in_background: bool,
    db_collections: Value,
    #[serde(rename = "metaOnly")]
    meta_only: bool,
    #[serde(rename = "restoreIndex")]
    restore_index: bool,
    #[serde(rename = "useAutoIndex")]
    use_auto_index: bool,
    #[serde(rename = "dropExistCollection")]
    drop_exist_collection: bool,
    #[serde(rename = "dropExistIndex")]
    drop_exist_index: bool,
    #[serde(rename = "skipCreateCollection")]
    skip_create_collection: bool,
    rbac: bool,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// Reads a request.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| wrong(format!("the request is not what it should be: {error}")))
}

/// A name that was asked for.
pub(super) fn name(text: &str) -> Result<BackupName> {
    BackupName::parse(text).map_err(wrong)
}

fn wrong(why: String) -> Failure {
    Failure::new(Kind::Request, why, "correct the request; /api/v1/docs/openapi.json describes it")
}

impl Create {
    pub(super) fn options(&self) -> Result<create::Options> {
        let strategy = match self.strategy.as_str() {
            _ if self.meta_only => Strategy::MetaOnly,
            _ if self.force => Strategy::SkipFlush,
            "" | "auto" | "bulk_flush" | "serial_flush" => Strategy::Flush,
            "skip_flush" => Strategy::SkipFlush,
            "meta_only" => Strategy::MetaOnly,
            other => return Err(wrong(format!("`{other}` is no strategy"))),
        };
        if !matches!(self.format.as_str(), "" | "auto" | "binlog") {
            let what = format!("the format `{}` is not made here", self.format);
            return Err(Failure::new(Kind::Unsupported, what, "leave `format` out"));
        }
        let mut filter = filter(&self.collection_names, &self.db_collections)?;
        for (database, wanted) in &self.filter {
            let database = CollectionName::new(database, "").database;
            match wanted.colls.iter().any(|name| name == "*") || wanted.colls.is_empty() {
                true => filter.add_database(&database),
                false => wanted.colls.iter().for_each(|name| filter.add(&CollectionName::new(&database, name))),
            }
        }
        let name = if self.backup_name.is_empty() { None } else { Some(name(&self.backup_name)?) };
        let (rbac, index_extra) = (self.rbac, self.with_index_extra);
        Ok(create::Options { name, filter, strategy, rbac, index_extra, ..create::Options::default() })
    }
}

impl Restore {
    pub(super) fn options(&self) -> Result<(BackupName, restore::Options)> {
        let given = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_i64() != Some(0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Bool(true) => true,
        };
        if let Some(name) = NOT_HERE.into_iter().find(|name| self.other.get(*name).is_some_and(given)) {
            let what = format!("`{name}` is not done here; nothing was changed");
            return Err(Failure::new(Kind::Unsupported, what, "leave it out, or use milvus-backup for it"));
        }
        let mut renames = Renames::parse("", &self.collection_suffix).map_err(wrong)?;
        for (old, new) in &self.collection_renames {
            renames.rules.extend(Renames::parse(&format!("{old}:{new}"), "").map_err(wrong)?.rules);
        }
        debug_assert!(renames.rules.iter().all(|rule| matches!(rule, Rename::Collection(..) | Rename::Database(..))));
        let options = restore::Options {
            source_filter: filter(&self.collection_names, &self.db_collections)?,
            renames,
            rebuild_index: self.restore_index,
            use_auto_index: self.use_auto_index,
            meta_only: self.meta_only,
            drop_exist_collection: self.drop_exist_collection,
            drop_exist_index: self.drop_exist_index,
            skip_create_collection: self.skip_create_collection,
            rbac: self.rbac,
            ..restore::Options::default()
        };
        Ok((name(&self.backup_name)?, options))
    }
}

/// Collections by name, or by database: a JSON text in the text, as upstream has it, or the thing itself.
fn filter(names: &[String], databases: &Value) -> Result<Filter> {
    let mut filter = match databases {
        Value::Null => Filter::default(),
        Value::String(text) if text.is_empty() => Filter::default(),
        Value::String(text) => Filter::parse_json(text).map_err(wrong)?,
        other => Filter::parse_json(&other.to_string()).map_err(wrong)?,
    };
    for name in names {
        let (database, name) = name.split_once('.').unwrap_or(("", name));
        filter.add(&CollectionName::new(database, name));
    }
    Ok(filter)
}

/// A backup as upstream shows it: without single segments.
pub(super) fn brief(info: &BackupInfo) -> Value {
    let mut info = info.clone();
    for collection in &mut info.collection_backups {
        collection.l0_segments.clear();
        collection.partition_backups.iter_mut().for_each(|partition| partition.segment_backups.clear());
    }
    let mut value = serde_json::to_value(&info).unwrap_or_default();
    (value["progress"], value["state_code"]) = (100.into(), 2.into());
    value
}

/// One collection of a restore.
pub(super) fn collection_task(name: &CollectionName, state: i32, why: &str, rows: Option<u64>) -> Value {
    json!({
        "state_code": state, "errorMessage": why, "target_db_name": name.database,
        "target_collection_name": name.name, "restored_rows": rows, "progress": if state == 2 { 100 } else { 0 },
    })
}
