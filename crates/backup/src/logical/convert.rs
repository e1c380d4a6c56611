//! Schemas and users between Milvus's messages and the meta files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eyrie_api::milvus as pb;
use eyrie_milvus::logical::meta::{self, DefaultValue, KeyValue};

use super::failure::{Failure, Kind, Result};

/// Pairs as the meta files have them.
pub(super) fn pairs(pairs: Vec<pb::KeyValuePair>) -> Vec<KeyValue> {
    pairs.into_iter().map(|pb::KeyValuePair { key, value }| KeyValue { key, value }).collect()
}

/// Pairs as Milvus has them.
pub(super) fn pairs_back(pairs: &[KeyValue]) -> Vec<pb::KeyValuePair> {
    pairs.iter().map(|pair| pb::KeyValuePair { key: pair.key.clone(), value: pair.value.clone() }).collect()
}

/// A schema for the meta files.
pub(super) fn schema(schema: pb::CollectionSchema) -> meta::CollectionSchema {
    meta::CollectionSchema {
        name: schema.name,
        description: schema.description,
        auto_id: schema.auto_id,
        fields: schema.fields.into_iter().map(field).collect(),
        enable_dynamic_field: schema.enable_dynamic_field,
        properties: pairs(schema.properties),
        functions: schema.functions.into_iter().map(function).collect(),
        struct_array_fields: schema.struct_array_fields.into_iter().map(struct_array).collect(),
    }
}

fn field(field: pb::FieldSchema) -> meta::FieldSchema {
    let default_value_base64 =
        if field.default_value.is_empty() { String::new() } else { STANDARD.encode(&field.default_value) };
    meta::FieldSchema {
        field_id: field.field_id,
        name: field.name,
        is_primary_key: field.is_primary_key,
        description: field.description,
        data_type: field.data_type,
        type_params: pairs(field.type_params),
        index_params: pairs(field.index_params),
        auto_id: field.auto_id,
        state: field.state,
        element_type: field.element_type,
        is_dynamic: field.is_dynamic,
        is_partition_key: field.is_partition_key,
        nullable: field.nullable,
        is_function_output: field.is_function_output,
        default_value_base64,
        ..meta::FieldSchema::default()
    }
}

fn function(function: pb::FunctionSchema) -> meta::FunctionSchema {
    meta::FunctionSchema {
        name: function.name,
        id: function.id,
        description: function.description,
        kind: function.r#type,
        input_field_names: function.input_field_names,
        input_field_ids: function.input_field_ids,
        output_field_names: function.output_field_names,
        output_field_ids: function.output_field_ids,
        params: pairs(function.params),
    }
}

fn struct_array(array: pb::StructArrayFieldSchema) -> meta::StructArrayField {
    meta::StructArrayField {
        field_id: array.field_id,
        name: array.name,
        description: array.description,
        fields: array.fields.into_iter().map(field).collect(),
        type_params: pairs(array.type_params),
        nullable: array.nullable,
    }
}

/// A schema for Milvus, under another name.
///
/// # Errors
/// A default value can't be read.
pub(super) fn schema_back(schema: &meta::CollectionSchema, name: &str) -> Result<pb::CollectionSchema> {
    // Milvus adds the hidden field by itself; what is being dropped is not wanted back.
    let fields = schema.fields.iter().filter(|field| !field.is_dynamic && field.state == 0);
    let arrays = schema.struct_array_fields.iter().map(|array| {
        Ok(pb::StructArrayFieldSchema {
            field_id: array.field_id,
            name: array.name.clone(),
            description: array.description.clone(),
            fields: array.fields.iter().map(field_back).collect::<Result<_>>()?,
            type_params: pairs_back(&array.type_params),
            nullable: array.nullable,
        })
    });
    Ok(pb::CollectionSchema {
        name: name.to_owned(),
        description: schema.description.clone(),
        auto_id: schema.auto_id,
        fields: fields.map(field_back).collect::<Result<_>>()?,
        enable_dynamic_field: schema.enable_dynamic_field || schema.fields.iter().any(|field| field.is_dynamic),
        properties: pairs_back(&schema.properties),
        functions: schema.functions.iter().map(function_back).collect(),
        struct_array_fields: arrays.collect::<Result<_>>()?,
        ..pb::CollectionSchema::default()
    })
}

fn field_back(field: &meta::FieldSchema) -> Result<pb::FieldSchema> {
    let unreadable = |why: String| {
        Failure::new(Kind::Damaged, why, "give the field's default by hand and restore with --skip_create_collection")
    };
    let default_value = match field.default_value().map_err(|bad| unreadable(bad.to_string()))? {
        None => Vec::new(),
        Some(DefaultValue::Encoded(bytes)) => bytes,
        Some(DefaultValue::Base64(text)) => STANDARD
            .decode(text)
            .map_err(|_| unreadable(format!("the default value of field {} is no base64", field.name)))?,
    };
    Ok(pb::FieldSchema {
        field_id: field.field_id,
        name: field.name.clone(),
        is_primary_key: field.is_primary_key,
        description: field.description.clone(),
        data_type: field.data_type,
        type_params: pairs_back(&field.type_params),
        index_params: pairs_back(&field.index_params),
        auto_id: field.auto_id,
        state: field.state,
        element_type: field.element_type,
        default_value,
        is_dynamic: field.is_dynamic,
        is_partition_key: field.is_partition_key,
        is_clustering_key: false,
        nullable: field.nullable,
        is_function_output: field.is_function_output,
    })
}

fn function_back(function: &meta::FunctionSchema) -> pb::FunctionSchema {
    pb::FunctionSchema {
        name: function.name.clone(),
        id: function.id,
        description: function.description.clone(),
        r#type: function.kind,
        input_field_names: function.input_field_names.clone(),
        input_field_ids: function.input_field_ids.clone(),
        output_field_names: function.output_field_names.clone(),
        output_field_ids: function.output_field_ids.clone(),
        params: pairs_back(&function.params),
    }
}

/// What differs between two schemas as far as rows depend on it: the first difference, in words.
pub(super) fn difference(backup: &meta::CollectionSchema, found: &meta::CollectionSchema) -> Option<String> {
    if backup.enable_dynamic_field != found.enable_dynamic_field {
        return Some("one takes dynamic fields, the other does not".into());
    }
    for field in backup.fields.iter().filter(|field| !field.is_dynamic) {
        let Some(other) = found.fields.iter().find(|other| other.name == field.name) else {
            return Some(format!("the field {} is missing", field.name));
        };
        let law = |field: &meta::FieldSchema| {
            let params: std::collections::BTreeMap<_, _> =
                field.type_params.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect();
            (field.field_id, field.data_type, field.element_type, field.is_primary_key, field.is_partition_key, params)
        };
        if law(field) != law(other) {
            return Some(format!("the field {} has another id, type or size", field.name));
        }
    }
    let extra =
        found.fields.iter().find(|other| !other.is_dynamic && !backup.fields.iter().any(|f| f.name == other.name));
    extra.map(|field| format!("the field {} is in Milvus and not in the backup", field.name))
}

/// Users and roles for the meta files.
pub(super) fn rbac(rbac: pb::RbacMeta) -> meta::RbacMeta {
    let named = |role: pb::RoleEntity| meta::Named { name: role.name };
    meta::RbacMeta {
        users: rbac
            .users
            .into_iter()
            .map(|user| meta::UserInfo {
                user: user.user,
                password: user.password,
                roles: user.roles.into_iter().map(named).collect(),
            })
            .collect(),
        roles: rbac.roles.into_iter().map(named).collect(),
        grants: rbac.grants.into_iter().map(grant).collect(),
        privilege_groups: rbac
            .privilege_groups
            .into_iter()
            .map(|group| meta::PrivilegeGroup {
                group_name: group.group_name,
                privileges: group.privileges.into_iter().map(|p| meta::Named { name: p.name }).collect(),
            })
            .collect(),
    }
}

/// A grant for the meta files.
pub(super) fn grant(grant: pb::GrantEntity) -> meta::Grant {
    let grantor = grant.grantor.map(|grantor| meta::Grantor {
        user: grantor.user.map(|user| meta::Named { name: user.name }),
        privilege: grantor.privilege.map(|privilege| meta::Named { name: privilege.name }),
    });
    meta::Grant {
        role: grant.role.map(|role| meta::Named { name: role.name }),
        object: grant.object.map(|object| meta::Named { name: object.name }),
        object_name: grant.object_name,
        grantor,
        db_name: grant.db_name,
    }
}

/// Users and roles for Milvus.
pub(super) fn rbac_back(rbac: &meta::RbacMeta) -> pb::RbacMeta {
    let role = |named: &meta::Named| pb::RoleEntity { name: named.name.clone() };
    pb::RbacMeta {
        users: rbac
            .users
            .iter()
            .map(|user| pb::UserInfo {
                user: user.user.clone(),
                password: user.password.clone(),
                roles: user.roles.iter().map(role).collect(),
            })
            .collect(),
        roles: rbac.roles.iter().map(role).collect(),
        grants: rbac.grants.iter().map(grant_back).collect(),
        privilege_groups: rbac
            .privilege_groups
            .iter()
            .map(|group| pb::PrivilegeGroupInfo {
                group_name: group.group_name.clone(),
                privileges: group.privileges.iter().map(|p| pb::PrivilegeEntity { name: p.name.clone() }).collect(),
            })
            .collect(),
    }
}

/// A grant for Milvus.
pub(super) fn grant_back(grant: &meta::Grant) -> pb::GrantEntity {
    let grantor = grant.grantor.as_ref().map(|grantor| pb::GrantorEntity {
        user: grantor.user.as_ref().map(|user| pb::UserEntity { name: user.name.clone() }),
        privilege: grantor.privilege.as_ref().map(|privilege| pb::PrivilegeEntity { name: privilege.name.clone() }),
    });
    pb::GrantEntity {
        role: grant.role.as_ref().map(|role| pb::RoleEntity { name: role.name.clone() }),
        object: grant.object.as_ref().map(|object| pb::ObjectEntity { name: object.name.clone() }),
        object_name: grant.object_name.clone(),
        grantor,
        db_name: grant.db_name.clone(),
    }
}
