//! The shapes of all messages, read once from the descriptors: what a JSON field is called and what it holds.
//!
//! Knows no message by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// What one field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    String,
    Bytes,
    /// Index into [`Schema::enums`].
    Enum(usize),
    /// Index into [`Schema::messages`].
    Message(usize),
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// As in the definition: what answers use.
    pub(super) name: String,
    /// In camel case: accepted too.
    pub(super) json_name: String,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    /// Printed even when zero: one of several alternatives.
    pub(super) alternative: bool,
}

/// One message: its fields in the order of the definition, which is the order of answers.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) fields: Vec<Field>,
}

/// One enum.
#[derive(Debug)]
pub(super) struct Names {
    /// With its package.
    pub(super) full_name: String,
    pub(super) values: Vec<(String, i32)>,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    /// Index of the request's shape.
    pub(super) input: usize,
    /// Index of the answer's shape.
    pub(super) output: usize,
    pub(super) client_streaming: bool,
    pub(super) server_streaming: bool,
}

/// Everything that the descriptors say.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) messages: Vec<Shape>,
    pub(super) enums: Vec<Names>,
    methods: HashMap<String, Method>,
}

impl Schema {
    /// The call with this gRPC path, like `/etcdserverpb.KV/Range`.
    pub(super) fn method(&self, path: &str) -> Option<Method> {
        self.methods.get(path).copied()
    }
}

/// The schema of the etcd API. It was compiled in, so a fault in it is a fault of the build, found by the tests.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let files =
        FileDescriptorSet::decode(eyrie_api::DESCRIPTORS).expect("the descriptors were encoded by our own build");
    build(&files)
});

fn build(files: &FileDescriptorSet) -> Schema {
    let mut schema = Schema::default();
    let mut message_ids = HashMap::new();
    let mut enum_ids = HashMap::new();
    let mut bodies: Vec<&DescriptorProto> = Vec::new();
    for file in &files.file {
        let prefix = format!(".{}", file.package());
        for item in &file.enum_type {
            add_enum(&mut schema, &mut enum_ids, &prefix, item);
        }
        for item in &file.message_type {
            add_message(&mut schema, &mut message_ids, &mut enum_ids, &mut bodies, &prefix, item);
        }
    }
    for body in bodies {
        let fields = body.field.iter().map(|field| {
            let kind = match field.r#type() {
                Type::Bool => Kind::Bool,
                Type::Int32 => Kind::Int32,
                Type::Int64 => Kind::Int64,
                Type::Uint32 => Kind::Uint32,
                Type::Uint64 => Kind::Uint64,
                Type::String => Kind::String,
                Type::Bytes => Kind::Bytes,
                Type::Enum => Kind::Enum(enum_ids[field.type_name()]),
                Type::Message => Kind::Message(message_ids[field.type_name()]),
                other => unreachable!("the etcd API has no field of kind {other:?}"),
            };
            Field {
                name: field.name().to_string(),
                json_name: camel(field.name()),
                number: field.number() as u32,
                kind,
                repeated: field.label() == Label::Repeated,
                alternative: field.oneof_index.is_some(),
            }
        });
        schema.messages.push(Shape { fields: fields.collect() });
    }
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let entry = Method {
                    input: message_ids[method.input_type()],
                    output: message_ids[method.output_type()],
                    client_streaming: method.client_streaming(),
                    server_streaming: method.server_streaming(),
                };
                schema.methods.insert(path, entry);
            }
        }
    }
    schema
}

fn add_message<'a>(
    schema: &mut Schema,
    message_ids: &mut HashMap<String, usize>,
    enum_ids: &mut HashMap<String, usize>,
    bodies: &mut Vec<&'a DescriptorProto>,
    prefix: &str,
    item: &'a DescriptorProto,
) {
    let name = format!("{prefix}.{}", item.name());
    message_ids.insert(name.clone(), bodies.len());
    bodies.push(item);
    for inner in &item.enum_type {
        add_enum(schema, enum_ids, &name, inner);
    }
    for inner in &item.nested_type {
        add_message(schema, message_ids, enum_ids, bodies, &name, inner);
    }
}

fn add_enum(schema: &mut Schema, enum_ids: &mut HashMap<String, usize>, prefix: &str, item: &EnumDescriptorProto) {
    let full_name = format!("{prefix}.{}", item.name());
    enum_ids.insert(full_name.clone(), schema.enums.len());
    let values = item.value.iter().map(|value| (value.name().to_string(), value.number())).collect();
    schema.enums.push(Names { full_name: full_name.trim_start_matches('.').to_string(), values });
}

/// The JSON name that protobuf gives a field: an underscore is dropped and the letter after it raised.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut raise = false;
    for c in name.chars() {
        match c {
            '_' => raise = true,
            c if raise => {
                out.extend(c.to_uppercase());
                raise = false;
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_the_calls() {
        let method = SCHEMA.method("/etcdserverpb.Watch/Watch").unwrap();
        assert!(method.client_streaming && method.server_streaming);
        let range = SCHEMA.method("/etcdserverpb.KV/Range").unwrap();
        let fields = &SCHEMA.messages[range.input].fields;
        assert_eq!(
            (fields[1].name.as_str(), fields[1].json_name.as_str(), fields[1].kind),
            ("range_end", "rangeEnd", Kind::Bytes)
        );
        assert!(SCHEMA.method("/etcdserverpb.KV/Nothing").is_none());
    }

    #[test]
    fn ids_keep_their_capitals() {
        assert_eq!(
            (camel("ID").as_str(), camel("peerURLs").as_str(), camel("watch_id").as_str()),
            ("ID", "peerURLs", "watchId")
        );
    }
}
