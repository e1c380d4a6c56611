//! The configuration file: YAML or JSON, its keys are names of flags, TLS in two sub-maps.

use serde_yaml_ng::Value;

use super::flags::{self, Kind};
use super::given::{Given, from_file};

/// The sub-maps, and the flag behind each of their keys.
const SUB_MAPS: [(&str, &[(&str, &str)]); 2] = [
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("crl-file", "client-crl-file"),
            ("allowed-cn", "client-cert-allowed-cn"),
            ("allowed-cns", "client-cert-allowed-cn"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("allowed-hostnames", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-cns", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("allowed-hostnames", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "experimental-peer-skip-client-san-verification"),
        ],
    ),
];

/// Reads the text of the file at `path`.
///
/// # Errors
/// The key or line that is wrong, and the nearest key that exists.
pub(super) fn read(path: &str, text: &str) -> Result<Given, String> {
    let root: Value = serde_yaml_ng::from_str(text).map_err(|error| format!("{path}: {error}"))?;
    let map = match root {
        Value::Mapping(map) => map,
        Value::Null => return Ok(Given::default()),
        _ => return Err(format!("{path}: the file must be a map of flag names to values")),
    };
    let mut given = Given::default();
    for (key, value) in map {
        let Value::String(key) = key else { return Err(format!("{path}: a key must be the name of a flag")) };
        if let Some((_, inner)) = SUB_MAPS.iter().find(|(name, _)| *name == key) {
            sub_map(&mut given, path, &key, inner, value)?;
            continue;
        }
        let Some(flag) = flags::find(&key) else {
            let names = flags::all().map(|flag| flag.name).chain(SUB_MAPS.iter().map(|(name, _)| *name));
            return Err(unknown(path, &key, flags::nearest_of(&key, names)));
        };
        set(&mut given, path, flag.name, &key, value)?;
    }
    Ok(given)
}

fn sub_map(
    given: &mut Given,
    path: &str,
    name: &str,
    keys: &[(&'static str, &'static str)],
    value: Value,
) -> Result<(), String> {
    let map = match value {
        Value::Mapping(map) => map,
        Value::Null => return Ok(()),
        _ => return Err(format!("{path}: {name} must be a map")),
    };
    for (key, value) in map {
        let key = key.as_str().unwrap_or_default().to_string();
        let Some((_, flag)) = keys.iter().find(|(name, _)| *name == key) else {
            let near = flags::nearest_of(&key, keys.iter().map(|(name, _)| *name));
            return Err(unknown(path, &format!("{name}.{key}"), near));
        };
        set(given, path, flag, &format!("{name}.{key}"), value)?;
    }
    Ok(())
}

fn set(given: &mut Given, path: &str, flag: &str, key: &str, value: Value) -> Result<(), String> {
    let Some(flag) = flags::find(flag) else { return Err(unknown(path, key, None)) };
    let Some(text) = scalar(&value, flag.kind).map_err(|why| format!("{path}: key {key}: {why}"))? else {
        return Ok(());
    };
    from_file(given, flag, key, text).map_err(|why| format!("{path}: {why}"))
}

/// The value as it would stand on the command line; `None` for an empty one.
fn scalar(value: &Value, kind: Kind) -> Result<Option<String>, String> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(flag) => flag.to_string(),
        // In a file a bare number is a duration in nanoseconds, as Go stores it.
        Value::Number(number) if kind == Kind::Duration && number.as_u64() != Some(0) => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() && kind != Kind::Text => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Sequence(items) => {
            let items = items.iter().map(|item| scalar(item, kind)).collect::<Result<Option<Vec<_>>, _>>()?;
            items.unwrap_or_default().join(",")
        }
        _ => return Err("a map has no meaning here".into()),
    }))
}

fn unknown(path: &str, key: &str, near: Option<&str>) -> String {
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("{path}: unknown key {key}{hint}")
}
