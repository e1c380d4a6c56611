//! The file with a schema: YAML or JSON as `salvage schema` writes it, or what an old backup has.

use eyrie_milvus::logical::meta::{BackupInfo, CollectionBackup, CollectionSchema};
use eyrie_milvus::salvage::schema::{Partition, Schema, of_backup};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Failure, Kind, Result};

/// Reads a schema for the collection with this id: a corrected page of `salvage schema`, or the output of `milvus-backup get`
/// for an old backup, the part of it that is the collection, or the part of that which is the schema.
///
/// # Errors
/// It is none of these.
pub fn read_schema(text: &str, collection: i64) -> Result<Schema> {
    let wrong = |why: String| {
        let next = "begin with what `salvage schema --collection ID` writes, or with what `get -n NAME` shows of an old backup";
        Failure::new(Kind::Request, format!("the schema can't be read: {why}"), next)
    };
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if value.get("collection_backups").is_some() {
        let info: BackupInfo = part(value).map_err(wrong)?;
        let of = |one: &CollectionBackup| one.collection_id == collection;
        let found = info.collection_backups.into_iter().find(of);
        return of_collection(found.ok_or_else(|| wrong(format!("the backup has no collection {collection}")))?)
            .ok_or_else(|| wrong("the backup has no schema of the collection".into()));
    }
    if value.get("schema").is_some() {
        let one: CollectionBackup = part(value).map_err(wrong)?;
        return of_collection(one).ok_or_else(|| wrong("there is no schema in it".into()));
    }
    let fields = value.get("fields").and_then(Value::as_array);
    if fields.is_some_and(|fields| fields.iter().any(|field| field.get("fieldID").is_some())) {
        let schema: CollectionSchema = part(value).map_err(wrong)?;
        return Ok(of_backup(&schema, Vec::new()));
    }
    // Once more from the text: errors then name the line.
    serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))
}

fn part<T: DeserializeOwned>(value: Value) -> std::result::Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn of_collection(one: CollectionBackup) -> Option<Schema> {
    let partitions = one.partition_backups.iter();
    let partitions = partitions.map(|part| Partition { id: part.partition_id, name: part.partition_name.clone() });
    let mut schema = of_backup(&one.schema?, partitions.collect());
    schema.collection = Some(one.collection_id);
    schema.shards = one.shards_num.max(1);
    Some(schema)
}
