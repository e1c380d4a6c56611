//! What the meta files hold: the messages of milvus-backup as its JSON has them.
//!
//! Names are those of its protobufs, whose styles are mixed. Numbers are 64 bits wide and beyond what a float holds. A zero
//! is left out, except where a field is marked as always there. Unknown fields are skipped: each release adds some.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `state_code` of a backup that succeeded; the others are 0 initial, 1 executing, 3 failed, 4 timed out.
pub const STATE_SUCCESS: i32 = 2;
/// `state_code` of a backup that is none to whoever reads it.
pub const STATE_FAILED: i32 = 3;
/// `format` of a backup that Milvus itself exported (3.0); an empty one is copied logs.
pub const FORMAT_SNAPSHOT: &str = "snapshot";
/// `format` of a backup whose tree and logs this program has sealed; no other reads them.
pub const FORMAT_SEALED: &str = "eyrie-sealed";
/// The partition id of deletes that hold for all partitions.
pub const ALL_PARTITIONS: i64 = -1;

fn none<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares a message: every field may be missing; those marked `always` are written even when zero.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $( $(#[$fdoc:meta])* $($json:literal)? $field:ident : $type:ty $(, $always:ident)? ; )* }) => {
        message!(@build [$(#[$doc])* $name] [] $( { [$(#[$fdoc])*] [$($json)?] $field [$type] [$($always)?] } )*);
    };
    (@build [$(#[$doc:meta])* $name:ident] [$($done:tt)*]) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($done)* }
    };
    (@build $head:tt [$($done:tt)*] { [$($fdoc:tt)*] [] $field:ident [$type:ty] [] } $($rest:tt)*) => {
        message!(@build $head [$($done)* $($fdoc)* #[serde(skip_serializing_if = "none")] pub $field: $type,] $($rest)*);
    };
    (@build $head:tt [$($done:tt)*] { [$($fdoc:tt)*] [$json:literal] $field:ident [$type:ty] [] } $($rest:tt)*) => {
        message!(@build $head [$($done)* $($fdoc)* #[serde(rename = $json, skip_serializing_if = "none")] pub $field: $type,] $($rest)*);
    };
    (@build $head:tt [$($done:tt)*] { [$($fdoc:tt)*] [] $field:ident [$type:ty] [always] } $($rest:tt)*) => {
        message!(@build $head [$($done)* $($fdoc)* pub $field: $type,] $($rest)*);
    };
}

message! {
    /// A whole backup.
    BackupInfo {
        /// Its id.
        id: String;
        /// [`STATE_SUCCESS`], or why not.
        state_code: i32, always;
        /// Of old writers: why it failed.
        "errorMessage" error_message: String;
        /// Of old writers: seconds since 1970.
        start_time: i64;
        /// Of old writers: seconds since 1970.
        end_time: i64;
        /// Of old writers: per cent.
        progress: i32;
        /// Its name, which is its folder's.
        name: String;
        /// A hybrid time of Milvus: milliseconds << 18 and a counter.
        backup_timestamp: u64;
        /// Its collections.
        collection_backups: Vec<CollectionBackup>;
        /// Bytes of all logs.
        size: i64, always;
        /// As the server calls itself.
        milvus_version: String;
        /// Users, roles and grants, if they were asked for.
        rbac_meta: Option<RbacMeta>;
        /// Where the replication channel stood (2.5).
        rpc_channel_info: Option<serde_json::Value>;
        /// Its databases.
        database_backups: Vec<DatabaseBackup>;
        /// The flush of all channels (2.6.11).
        flush_all_msgs_base64: BTreeMap<String, String>;
        /// The control channel (2.6.11).
        control_channel_name: String;
        /// Physical channels (2.6.11).
        physical_channel_names: Vec<String>;
        /// Empty for copied logs, else [`FORMAT_SNAPSHOT`] or [`FORMAT_SEALED`].
        format: String;
    }
}

message! {
    /// A database.
    DatabaseBackup {
        /// Its name.
        db_name: String;
        /// Its id.
        db_id: i64;
        /// Its properties.
        properties: Vec<KeyValue>;
        /// The key of an encryption zone.
        ezk: String;
    }
}

message! {
    /// A key and its value.
    KeyValue {
        /// The key.
        key: String;
        /// The value.
        value: String;
    }
}

message! {
    /// A collection.
    CollectionBackup {
        /// Its id within old backups.
        id: String;
        /// Of old writers.
        state_code: i32;
        /// Of old writers.
        "errorMessage" error_message: String;
        /// Of old writers.
        start_time: i64;
        /// Of old writers.
        end_time: i64;
        /// Of old writers.
        progress: i32;
        /// Milvus's id.
        collection_id: i64;
        /// Its database; empty means `default`.
        db_name: String;
        /// Its name.
        collection_name: String;
        /// Its schema.
        schema: Option<CollectionSchema>;
        /// How many shards.
        shards_num: i32;
        /// 0 strong, 1 session, 2 bounded, 3 eventually, 4 customized.
        consistency_level: i32;
        /// Its partitions.
        partition_backups: Vec<PartitionBackup>;
        /// Everything before this hybrid time is inside.
        backup_timestamp: u64;
        /// Bytes of its logs.
        size: i64, always;
        /// Whether it has an index.
        has_index: bool, always;
        /// Its indexes.
        index_infos: Vec<IndexInfo>;
        /// `NotLoad`, `Loading` or `Loaded`.
        load_state: String;
        /// Seconds since 1970 when its segments were sealed.
        backup_physical_timestamp: u64;
        /// Where each channel stood: base64 of a position.
        channel_checkpoints: BTreeMap<String, String>;
        /// Deletes that hold for all partitions.
        l0_segments: Vec<SegmentBackup>;
        /// Its properties.
        properties: Vec<KeyValue>;
        /// Its database's id.
        db_id: i64;
        /// When it was created, hybrid.
        created_timestamp: u64;
        /// Virtual channels.
        virtual_channel_names: Vec<String>;
        /// Physical channels.
        physical_channel_names: Vec<String>;
        /// Its aliases.
        aliases: Vec<String>;
        /// Where Milvus exported it to (3.0).
        snapshot_backup: Option<serde_json::Value>;
    }
}

message! {
    /// The schema of a collection.
    CollectionSchema {
        /// The collection's name.
        name: String;
        /// What people wrote about it.
        description: String;
        /// Whether keys are given by Milvus.
        "autoID" auto_id: bool;
        /// Its fields, without the hidden ones.
        fields: Vec<FieldSchema>;
        /// Whether rows may have more fields than these.
        enable_dynamic_field: bool;
        /// Its properties.
        properties: Vec<KeyValue>;
        /// What computes fields from others (2.5).
        functions: Vec<FunctionSchema>;
        /// Arrays of structures (2.6).
        struct_array_fields: Vec<StructArrayField>;
    }
}

message! {
    /// A field.
    FieldSchema {
        /// Its id, which stands in the paths of its logs.
        "fieldID" field_id: i64;
        /// Its name.
        name: String;
        /// Whether it is the key.
        is_primary_key: bool;
        /// What people wrote about it.
        description: String;
        /// Milvus's number of the type.
        data_type: i32;
        /// `dim`, `max_length` and so on.
        type_params: Vec<KeyValue>;
        /// Of old Milvus.
        index_params: Vec<KeyValue>;
        /// Whether Milvus gives the key.
        "autoID" auto_id: bool;
        /// 0 created, 1 creating, 2 dropping, 3 dropped.
        state: i32;
        /// Of arrays: the type of elements.
        element_type: i32;
        /// Of old writers, and not readable by themselves; see [`FieldSchema::default_bytes`].
        default_value: Option<serde_json::Value>;
        /// Whether it holds what has no field of its own.
        is_dynamic: bool;
        /// Whether it decides the partition.
        is_partition_key: bool;
        /// Whether it may be null.
        nullable: bool;
        /// Of 0.5: an encoded value as text.
        default_value_proto: String;
        /// Whether a function fills it.
        is_function_output: bool;
        /// An encoded value in base64; preferred.
        default_value_base64: String;
    }
}

message! {
    /// What computes a field.
    FunctionSchema {
        /// Its name.
        name: String;
        /// Its id.
        id: i64;
        /// What people wrote about it.
        description: String;
        /// 1 BM25, 2 text embedding.
        "type" kind: i32;
        /// Fields it reads.
        input_field_names: Vec<String>;
        /// Their ids.
        input_field_ids: Vec<i64>;
        /// Fields it fills.
        output_field_names: Vec<String>;
        /// Their ids.
        output_field_ids: Vec<i64>;
        /// Its parameters.
        params: Vec<KeyValue>;
    }
}

message! {
    /// An array of structures.
    StructArrayField {
        /// Its id.
        "fieldID" field_id: i64;
        /// Its name.
        name: String;
        /// What people wrote about it.
        description: String;
        /// What one structure has.
        fields: Vec<FieldSchema>;
        /// Its parameters.
        type_params: Vec<KeyValue>;
        /// Whether it may be null.
        nullable: bool;
    }
}

message! {
    /// An index.
    IndexInfo {
        /// The field it is of.
        field_name: String;
        /// Its name.
        index_name: String;
        /// Its kind.
        index_type: String;
        /// Its parameters.
        params: BTreeMap<String, String>;
        /// Milvus's id. This one and all below only with `--backup_index_extra`.
        index_id: i64;
        /// The field's id.
        field_id: i64;
        /// When it was created, hybrid.
        create_time: u64;
        /// Parameters of the type.
        type_params: Vec<KeyValue>;
        /// Parameters of the index.
        index_params: Vec<KeyValue>;
        /// As the user gave them.
        user_index_params: Vec<KeyValue>;
        /// Whether Milvus chose.
        is_auto_index: bool;
        /// Oldest version of the index engine.
        min_index_version: i32;
        /// Newest version of the index engine.
        max_index_version: i32;
    }
}

message! {
    /// A partition.
    PartitionBackup {
        /// Milvus's id.
        partition_id: i64;
        /// Its name.
        partition_name: String;
        /// Its collection.
        collection_id: i64;
        /// Its segments.
        segment_backups: Vec<SegmentBackup>;
        /// Bytes of its logs.
        size: i64, always;
        /// As that of the collection.
        load_state: String;
    }
}

message! {
    /// A segment.
    SegmentBackup {
        /// Milvus's id.
        segment_id: i64;
        /// Its collection.
        collection_id: i64;
        /// Its partition, or [`ALL_PARTITIONS`].
        partition_id: i64;
        /// Its rows, deleted ones included.
        num_of_rows: i64;
        /// Logs of its fields.
        binlogs: Vec<FieldLogs>;
        /// Of old writers: never copied by newer ones.
        statslogs: Vec<FieldLogs>;
        /// Logs of deletes.
        deltalogs: Vec<FieldLogs>;
        /// Bytes of its logs.
        size: i64, always;
        /// The folder above its own; 0 in the oldest layout, else mostly its own id.
        group_id: i64;
        /// Of old writers.
        backuped: bool;
        /// Whether it holds deletes only.
        is_l0: bool;
        /// Its channel.
        v_channel: String;
        /// 0 and 1: a log per field; 2: a log per group of columns.
        storage_version: i64;
    }
}

message! {
    /// The logs of one field.
    FieldLogs {
        /// The field, or the group of columns; 0 for deletes.
        "fieldID" field_id: i64;
        /// Its logs.
        binlogs: Vec<Log>;
    }
}

message! {
    /// One log.
    Log {
        /// Its rows, where known.
        entries_num: i64;
        /// Earliest row, where known.
        timestamp_from: u64;
        /// Latest row, where known.
        timestamp_to: u64;
        /// Where Milvus kept it.
        log_path: String;
        /// Its bytes.
        log_size: i64, always;
        /// The last part of its path.
        log_id: i64;
    }
}

message! {
    /// Users, roles and grants.
    RbacMeta {
        /// Users, with hashes of their passwords.
        users: Vec<UserInfo>;
        /// Roles.
        roles: Vec<Named>;
        /// What roles may do.
        grants: Vec<Grant>;
        /// Groups of privileges (2.5).
        privilege_groups: Vec<PrivilegeGroup>;
    }
}

message! {
    /// Something with a name alone.
    Named {
        /// The name.
        name: String;
    }
}

message! {
    /// A user.
    UserInfo {
        /// The name.
        user: String;
        /// A hash.
        password: String;
        /// Its roles.
        roles: Vec<Named>;
    }
}

message! {
    /// What a role may do.
    Grant {
        /// The role.
        role: Option<Named>;
        /// The kind of object.
        object: Option<Named>;
        /// The object.
        object_name: String;
        /// Who granted what.
        grantor: Option<Grantor>;
        /// The database.
        db_name: String;
    }
}

message! {
    /// Who granted what.
    Grantor {
        /// Who.
        user: Option<Named>;
        /// What.
        privilege: Option<Named>;
    }
}

message! {
    /// A group of privileges.
    PrivilegeGroup {
        /// Its name.
        group_name: String;
        /// What it contains.
        privileges: Vec<Named>;
    }
}

impl CollectionBackup {
    /// The database, by its real name.
    pub fn database(&self) -> &str {
        if self.db_name.is_empty() { "default" } else { &self.db_name }
    }

    /// All segments: those of partitions, and deletes that hold for all.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentBackup> {
        self.partition_backups.iter().flat_map(|partition| &partition.segment_backups).chain(&self.l0_segments)
    }

    /// Rows in its logs, deleted ones included.
    pub fn rows(&self) -> i64 {
        self.segments().filter(|segment| !segment.is_l0).map(|segment| segment.num_of_rows).sum()
    }
}

impl SegmentBackup {
    /// The bytes of all its logs.
    pub fn logs_len(&self) -> i64 {
        self.binlogs.iter().chain(&self.deltalogs).flat_map(|logs| &logs.binlogs).map(|log| log.log_size).sum()
    }
}

/// What can be wrong with a stored default value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the default value of field {field} can't be read")]
pub struct BadDefault {
    /// The field.
    pub field: String,
}

/// How a default value is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// An encoded value, in base64.
    Base64(String),
    /// An encoded value.
    Encoded(Vec<u8>),
}

impl FieldSchema {
    /// The default value in one of the three forms that writers used; none if the field has none.
    ///
    /// # Errors
    /// There is one, in a form that nobody can read back.
    pub fn default_value(&self) -> Result<Option<DefaultValue>, BadDefault> {
        let bad = || BadDefault { field: self.name.clone() };
        if !self.default_value_base64.is_empty() {
            return Ok(Some(DefaultValue::Base64(self.default_value_base64.clone())));
        }
        if !self.default_value_proto.is_empty() {
            // Bytes that were no text were lost when this was written.
            if self.default_value_proto.contains('\u{fffd}') {
                return Err(bad());
            }
            return Ok(Some(DefaultValue::Encoded(self.default_value_proto.clone().into_bytes())));
        }
        let Some(value) = &self.default_value else { return Ok(None) };
        oneof(value).map(|bytes| Some(DefaultValue::Encoded(bytes))).ok_or_else(bad)
    }
}

/// `{"Data":{"LongData":5}}`, as Go prints a choice, encoded as Milvus wants it.
fn oneof(value: &serde_json::Value) -> Option<Vec<u8>> {
    use prost::encoding as e;
    let (name, value) = value.get("Data")?.as_object()?.iter().next()?;
    let mut out = Vec::new();
    match name.as_str() {
        "BoolData" => e::bool::encode(1, &value.as_bool()?, &mut out),
        "IntData" => e::int32::encode(2, &i32::try_from(value.as_i64()?).ok()?, &mut out),
        "LongData" => e::int64::encode(3, &value.as_i64()?, &mut out),
        "FloatData" => e::float::encode(4, &(value.as_f64()? as f32), &mut out),
        "DoubleData" => e::double::encode(5, &value.as_f64()?, &mut out),
        "StringData" => e::string::encode(6, &value.as_str()?.to_owned(), &mut out),
        _ => return None,
    }
    Some(out)
}
