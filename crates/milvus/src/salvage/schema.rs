//! The schema of a collection whose metadata is gone: what logs tell, what is guessed, what a person says.
//!
//! Certain is what stands in the logs themselves: the number and type of each field, the size of its vectors, and which field
//! is the key, where statistics are there. Nothing else is in the bucket. What is guessed is marked in the file that a person
//! corrects, and compared with the logs again before anything is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::binlog::Physical;
use crate::limits::TEXT_LEN_MAX;
use crate::logical::meta::{CollectionSchema, FieldSchema, KeyValue};

/// The number that Milvus gives to the first field; those below are hidden ones.
pub const FIELD_FIRST: i64 = 100;
/// The hidden field of row ids.
pub const ROW_ID_FIELD: i64 = 0;
/// The hidden field of times.
pub const TIME_FIELD: i64 = 1;
/// What Milvus calls the field of all that has no field of its own.
const DYNAMIC_NAME: &str = "$meta";
/// Longest name of a field or a partition.
const NAME_LEN_MAX: usize = 255;

/// Types by Milvus's numbers and names.
const TYPES: [(i32, &str); 17] = [
    (1, "Bool"),
    (2, "Int8"),
    (3, "Int16"),
    (4, "Int32"),
    (5, "Int64"),
    (10, "Float"),
    (11, "Double"),
    (20, "String"),
    (21, "VarChar"),
    (22, "Array"),
    (23, "JSON"),
    (100, "BinaryVector"),
    (101, "FloatVector"),
    (102, "Float16Vector"),
    (103, "BFloat16Vector"),
    (104, "SparseFloatVector"),
    (105, "Int8Vector"),
];
const INT64: i32 = 5;
const VARCHAR: i32 = 21;
const ARRAY: i32 = 22;
const JSON: i32 = 23;
const SPARSE: i32 = 104;

/// Milvus's name of a type.
pub fn type_name(data_type: i32) -> String {
    let known = TYPES.iter().find(|(number, _)| *number == data_type);
    known.map_or_else(|| format!("type {data_type}"), |(_, name)| (*name).to_owned())
}

fn type_number(name: &str) -> Option<i32> {
    TYPES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| *number)
}

/// What logs tell of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenField {
    /// Milvus's number of its type.
    pub data_type: i32,
    /// How its values are stored.
    pub physical: Option<Physical>,
}

impl SeenField {
    /// The dimension of a vector.
    pub fn dim(&self) -> Option<u64> {
        let Some(Physical::Fixed(width)) = self.physical else { return None };
        let width = width as u64;
        match self.data_type {
            100 => Some(width * 8),
            101 => Some(width / 4),
            102 | 103 => Some(width / 2),
            105 => Some(width),
            _ => None,
        }
    }
}

/// What logs tell of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its id in the bucket.
    pub collection: i64,
    /// Its fields by their numbers, hidden ones left out.
    pub fields: BTreeMap<i64, SeenField>,
    /// The field that has statistics.
    pub key: Option<i64>,
    /// Whether keys are the row ids that Milvus gave, if that was looked at.
    pub keys_are_row_ids: Option<bool>,
    /// Its partitions.
    pub partitions: BTreeSet<i64>,
    /// Bytes of the longest key, if keys are texts.
    pub key_len_max: Option<usize>,
}

impl Seen {
    /// The field that must be the key for all that logs tell: the one with statistics, else the only one that can be.
    pub fn likely_key(&self) -> Option<i64> {
        let could = |field: &SeenField| matches!(field.data_type, INT64 | VARCHAR);
        self.key.or_else(|| self.fields.iter().find(|(_, field)| could(field)).map(|(id, _)| *id))
    }
}

/// The schema as a person writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The collection's id in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<i64>,
    /// What people wrote about it.
    #[serde(default)]
    pub description: String,
    /// How many shards the new collection gets.
    #[serde(default = "one")]
    pub shards: i32,
    /// How many partitions a collection with a partition key has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_partitions: Option<i64>,
    /// Its partitions, by their ids in the bucket.
    #[serde(default)]
    pub partitions: Vec<Partition>,
    /// Its fields.
    pub fields: Vec<Field>,
}

fn one() -> i32 {
    1
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Its id in the bucket.
    pub id: i64,
    /// What it is to be called.
    pub name: String,
}

/// A field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its number, which stands in the paths of its logs.
    pub id: i64,
    /// What it is to be called.
    pub name: String,
    /// Milvus's name of its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What people wrote about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is the key.
    #[serde(default, skip_serializing_if = "is_false")]
    pub primary_key: bool,
    /// Whether Milvus gives the key.
    #[serde(default, skip_serializing_if = "is_false")]
    pub auto_id: bool,
    /// Whether it decides the partition.
    #[serde(default, skip_serializing_if = "is_false")]
    pub partition_key: bool,
    /// Whether it holds all that has no field of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dynamic: bool,
    /// Dimension of a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<u64>,
    /// Longest text, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// Most elements of an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_capacity: Option<u64>,
    /// The type of an array's elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element_type: Option<String>,
}

fn is_false(truth: &bool) -> bool {
    !*truth
}

impl Schema {
    /// What can be guessed.
    pub fn guess(seen: &Seen) -> Schema {
        let key = seen.likely_key();
        let last = seen.fields.keys().next_back().copied();
        let fields = seen.fields.iter().map(|(id, field)| {
            let dynamic = field.data_type == JSON && Some(*id) == last;
            let text = matches!(field.data_type, 20 | VARCHAR);
            Field {
                id: *id,
                name: if dynamic { DYNAMIC_NAME.into() } else { format!("field_{id}") },
                kind: type_name(field.data_type),
                primary_key: Some(*id) == key,
                auto_id: Some(*id) == key && seen.keys_are_row_ids == Some(true),
                dynamic,
                dim: field.dim(),
                max_length: text.then_some(TEXT_LEN_MAX),
                max_capacity: (field.data_type == ARRAY).then_some(4096),
                ..Field::default()
            }
        });
        let only = seen.partitions.len() == 1;
        let partitions = seen.partitions.iter().map(|id| {
            // Milvus takes ids for a collection and its first partitions one after the other.
            let name = if only || *id == seen.collection + 1 { "_default".into() } else { format!("partition_{id}") };
            Partition { id: *id, name }
        });
        let (fields, partitions) = (fields.collect(), partitions.collect());
        Schema { collection: Some(seen.collection), shards: 1, fields, partitions, ..Schema::default() }
    }

    /// The guess as a page of YAML that says of each line how certain it is.
    pub fn page(seen: &Seen) -> String {
        let guess = Schema::guess(seen);
        let mut page = format!(
            "# Collection {} as far as its logs tell. Lines marked GUESS are not in the bucket: correct them,\n\
             # then: milvus-backup salvage restore --collection {0} --schema THIS_FILE --to NAME --dry-run\n\
             collection: {0}\ndescription: \"\"           # GUESS\nshards: 1                 # GUESS: any number will do\n\
             partitions:               # the ids are certain, the names are a GUESS\n",
            seen.collection
        );
        for Partition { id, name } in &guess.partitions {
            let _ = writeln!(page, "  - {{ id: {id}, name: {name} }}");
        }
        page += "# For a collection with a partition key, mark its field with `partition_key: true`, say how many partitions it\n\
                 # has (num_partitions: 64), and name them _default_0, _default_1 and so on, in the order of their ids.\nfields:\n";
        for field in &guess.fields {
            field_lines(&mut page, seen, field);
        }
        page
    }

    /// What is wrong with it: in itself, and for what the logs tell. Empty: nothing.
    pub fn problems(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.collection.is_some_and(|id| id != seen.collection) {
            wrong.push(format!("it is of another collection: {}", self.collection.unwrap_or_default()));
        }
        if !(1..=64).contains(&self.shards) {
            wrong.push(format!("shards is {}; it must be 1 to 64", self.shards));
        }
        self.fields_problems(seen, &mut wrong);
        self.keys_problems(seen, &mut wrong);
        self.partitions_problems(seen, &mut wrong);
        wrong
    }

    fn fields_problems(&self, seen: &Seen, wrong: &mut Vec<String>) {
        let mut names = BTreeSet::new();
        for (place, field) in self.fields.iter().enumerate() {
            let Field { id, name, .. } = field;
            let expected = FIELD_FIRST + place as i64;
            if *id != expected {
                wrong.push(format!(
                    "field {name} has id {id} where {expected} is next: Milvus numbers the fields of a new collection from \
                     {FIELD_FIRST} on without gaps, and finds logs by these numbers"
                ));
            }
            if !names.insert(name) {
                wrong.push(format!("two fields are called {name}"));
            }
            if !(is_name(name) || field.dynamic && name == DYNAMIC_NAME) {
                wrong.push(format!(
                    "`{name}` can't be the name of a field: letters, digits and _ alone, no digit first"
                ));
            }
            match (type_number(&field.kind), seen.fields.get(id)) {
                (None, _) => wrong.push(format!("field {name}: `{}` is no type of Milvus's", field.kind)),
                (_, None) => wrong.push(format!("field {name}: the bucket has no logs of a field {id}")),
                (Some(number), Some(logs)) if number != logs.data_type => {
                    let (said, found) = (&field.kind, type_name(logs.data_type));
                    wrong.push(format!("field {name} is {said} in the schema, and {found} in the logs of field {id}"));
                }
                (Some(number), Some(logs)) => field.problems(number, logs, wrong),
            }
        }
        for (id, logs) in &seen.fields {
            if !self.fields.iter().any(|field| field.id == *id) {
                wrong.push(format!(
                    "the bucket has logs of field {id} ({}), the schema has not",
                    type_name(logs.data_type)
                ));
            }
        }
    }

    fn keys_problems(&self, seen: &Seen, wrong: &mut Vec<String>) {
        let keys: Vec<&Field> = self.fields.iter().filter(|field| field.primary_key).collect();
        match keys[..] {
            [key] => {
                if !matches!(type_number(&key.kind), Some(INT64 | VARCHAR)) {
                    wrong.push(format!("the primary key {} is {}; it must be Int64 or VarChar", key.name, key.kind));
                }
                if let Some(found) = seen.key.filter(|found| *found != key.id) {
                    wrong.push(format!("the primary key is field {found}, which has statistics, and not {}", key.name));
                }
                if let (Some(longest), Some(most)) = (seen.key_len_max, key.max_length)
                    && longest as u64 > most
                {
                    wrong.push(format!("max_length of {} is {most}, and there is a key of {longest} bytes", key.name));
                }
            }
            _ => wrong.push(format!("{} fields are marked as primary_key; there must be one", keys.len())),
        }
        for field in &self.fields {
            if field.auto_id && !field.primary_key {
                wrong.push(format!("field {} has auto_id; only the primary key can", field.name));
            }
            if field.partition_key && !matches!(type_number(&field.kind), Some(INT64 | VARCHAR)) {
                wrong.push(format!("the partition key {} is {}; it must be Int64 or VarChar", field.name, field.kind));
            }
        }
        if self.fields.iter().filter(|field| field.partition_key).count() > 1 {
            wrong.push("more than one field is marked as partition_key".into());
        }
        if !self.fields.iter().any(|field| type_number(&field.kind).is_some_and(|number| number >= 100)) {
            wrong.push("there is no vector".into());
        }
    }

    fn partitions_problems(&self, seen: &Seen, wrong: &mut Vec<String>) {
        let mut names = BTreeSet::new();
        for Partition { id, name } in &self.partitions {
            if !is_name(name) {
                wrong.push(format!("`{name}` can't be the name of a partition"));
            }
            if !names.insert(name) {
                wrong.push(format!("two partitions are called {name}"));
            }
            if !seen.partitions.contains(id) {
                wrong.push(format!("the bucket has no partition {id}"));
            }
        }
        for id in &seen.partitions {
            let named = self.partitions.iter().filter(|partition| partition.id == *id).count();
            if named != 1 {
                wrong.push(format!(
                    "partition {id} of the bucket is named {named} times under partitions; once is right"
                ));
            }
        }
        let by_key = self.fields.iter().any(|field| field.partition_key);
        match (by_key, self.num_partitions) {
            (true, Some(count)) if count >= 1 => {
                let known: BTreeSet<String> = (0..count).map(|n| format!("_default_{n}")).collect();
                let foreign = names.iter().find(|name| !known.contains(name.as_str()));
                wrong.extend(foreign.map(|name| {
                    format!(
                        "with a partition key and {count} partitions they are _default_0 to _default_{}, not {name}",
                        count - 1
                    )
                }));
            }
            (true, _) => {
                wrong.push("with a partition key, num_partitions must say how many partitions there are".into())
            }
            (false, Some(_)) => wrong.push("num_partitions is said, and no field is marked as partition_key".into()),
            (false, None) => {}
        }
    }

    /// The key's number; [`Schema::problems`] says whether there is one.
    pub fn key(&self) -> Option<i64> {
        self.fields.iter().find(|field| field.primary_key).map(|field| field.id)
    }

    /// What a partition is to be called.
    pub fn partition(&self, id: i64) -> Option<&str> {
        self.partitions.iter().find(|partition| partition.id == id).map(|partition| partition.name.as_str())
    }

    /// As Milvus is told it.
    pub fn for_milvus(&self, name: &str) -> CollectionSchema {
        let pair = |key: &str, value: Option<u64>| value.map(|v| KeyValue { key: key.into(), value: v.to_string() });
        let fields = self.fields.iter().filter(|field| !field.dynamic).map(|field| FieldSchema {
            field_id: field.id,
            name: field.name.clone(),
            description: field.description.clone(),
            is_primary_key: field.primary_key,
            auto_id: field.auto_id,
            is_partition_key: field.partition_key,
            data_type: type_number(&field.kind).unwrap_or_default(),
            element_type: field.element_type.as_deref().and_then(type_number).unwrap_or_default(),
            type_params: [
                pair("dim", field.dim),
                pair("max_length", field.max_length),
                pair("max_capacity", field.max_capacity),
            ]
            .into_iter()
            .flatten()
            .collect(),
            ..FieldSchema::default()
        });
        CollectionSchema {
            name: name.to_owned(),
            description: self.description.clone(),
            auto_id: self.fields.iter().any(|field| field.auto_id),
            fields: fields.collect(),
            enable_dynamic_field: self.fields.iter().any(|field| field.dynamic),
            ..CollectionSchema::default()
        }
    }
}

impl Field {
    /// What is wrong with its parameters, where its type is right.
    fn problems(&self, number: i32, logs: &SeenField, wrong: &mut Vec<String>) {
        let name = &self.name;
        let vector = number >= 100 && number != SPARSE;
        match (self.dim, logs.dim()) {
            (None, _) if vector => wrong.push(format!("field {name} is a vector and lacks its dim")),
            (Some(said), Some(found)) if said != found => {
                wrong.push(format!("field {name} has dim {said} in the schema, and {found} in the logs"));
            }
            (Some(_), _) if !vector => wrong.push(format!("field {name} has a dim, and is no vector with one")),
            _ => {}
        }
        let texts = number == VARCHAR || self.element_type.as_deref().and_then(type_number) == Some(VARCHAR);
        if texts && !self.max_length.is_some_and(|len| (1..=TEXT_LEN_MAX).contains(&len)) {
            wrong.push(format!("field {name} needs a max_length of 1 to {TEXT_LEN_MAX}"));
        }
        if number == ARRAY {
            let element = self.element_type.as_deref().and_then(type_number);
            if !element.is_some_and(|element| element <= VARCHAR && element != 20) {
                wrong
                    .push(format!("field {name} is an array: element_type must say of what, such as Int64 or VarChar"));
            }
            if self.max_capacity.is_none() {
                wrong.push(format!("field {name} is an array and lacks its max_capacity"));
            }
        }
        if self.dynamic && number != JSON {
            wrong.push(format!("field {name} is marked as dynamic, and is not JSON"));
        }
    }
}

fn field_lines(page: &mut String, seen: &Seen, field: &Field) {
    let _ = writeln!(page, "  - id: {}", field.id);
    let _ = match field.dynamic {
        true => writeln!(
            page,
            "    name: {}           # GUESS: the last field is JSON; give a name and drop `dynamic` if it was yours\n    dynamic: true",
            field.name
        ),
        false => writeln!(page, "    name: {}       # GUESS", field.name),
    };
    let _ = writeln!(page, "    type: {}           # certain", field.kind);
    if field.primary_key {
        let how = match (seen.key, seen.key_len_max) {
            (Some(_), Some(longest)) => format!("certain: it has statistics; its longest value has {longest} bytes"),
            (Some(_), None) => "certain: it has statistics".into(),
            (None, _) => "GUESS: there are no statistics; it is the first that can be one".into(),
        };
        let _ = writeln!(page, "    primary_key: true     # {how}");
        if field.auto_id {
            *page += "    auto_id: true         # GUESS: its values are the row ids that Milvus gave\n";
        }
    }
    if let Some(dim) = field.dim {
        let _ = writeln!(page, "    dim: {dim}               # certain");
    }
    if let Some(len) = field.max_length {
        let _ = writeln!(page, "    max_length: {len}     # GUESS: the most that there is");
    }
    if let Some(most) = field.max_capacity {
        let _ = writeln!(page, "    max_capacity: {most}   # GUESS: the most that there is");
        *page += "    element_type: FILL_IN # not in the bucket: Bool, Int8 … Int64, Float, Double or VarChar (with max_length)\n";
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && name.len() <= NAME_LEN_MAX
}

/// The schema out of a backup's meta, as `get` of milvus-backup shows it, with the ids of its partitions.
pub fn of_backup(schema: &CollectionSchema, partitions: Vec<Partition>) -> Schema {
    let number = |field: &FieldSchema, key: &str| {
        field.type_params.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.parse().ok())
    };
    let fields = schema.fields.iter().map(|field| Field {
        id: field.field_id,
        name: field.name.clone(),
        kind: type_name(field.data_type),
        description: field.description.clone(),
        primary_key: field.is_primary_key,
        auto_id: field.auto_id,
        partition_key: field.is_partition_key,
        dynamic: field.is_dynamic,
        dim: number(field, "dim"),
        max_length: number(field, "max_length"),
        max_capacity: number(field, "max_capacity"),
        element_type: (field.element_type != 0).then(|| type_name(field.element_type)),
    });
    let mut fields: Vec<Field> = fields.collect();
    // Milvus 2.3 does not show the hidden field of what has none of its own; it is the last.
    if schema.enable_dynamic_field && !fields.iter().any(|field| field.dynamic) {
        let id = fields.iter().map(|field| field.id).max().unwrap_or(FIELD_FIRST - 1) + 1;
        fields.push(Field { id, name: DYNAMIC_NAME.into(), kind: type_name(JSON), dynamic: true, ..Field::default() });
    }
    let by_key = fields.iter().any(|field| field.partition_key);
    let num_partitions = by_key.then_some(partitions.len() as i64);
    Schema { collection: None, description: schema.description.clone(), shards: 1, num_partitions, partitions, fields }
}
