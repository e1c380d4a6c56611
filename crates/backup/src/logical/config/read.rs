//! Gathering: file, environment and `--set`, each value under its v2 name and with where it came from.

use std::collections::BTreeMap;

use serde_yaml_ng::Value;

use super::ConfigError;
use super::keys::{KEYS, Key, MEANT, OUTDATED, V1_ALSO, V1_SPECIAL};
use super::settings::Settings;

/// What there is to read.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The file's name, for messages, and its text.
    pub file: Option<(String, String)>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// `--set KEY=VALUE`, as typed.
    pub set: Vec<String>,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// The settings.
    pub settings: Settings,
    /// What a person should hear.
    pub warnings: Vec<String>,
    /// Whether the file is of the first generation.
    pub first_generation: bool,
    /// Every value that is not a default: v2 name and value.
    pub given: BTreeMap<&'static str, String>,
}

/// A value and where it came from.
pub(super) type Values = BTreeMap<&'static str, (String, String)>;

/// Reads everything and checks it.
///
/// # Errors
/// The file is no YAML, or a value can't be right.
pub fn read(given: &Given) -> Result<Read, ConfigError> {
    let mut gather = Gather { values: Values::new(), warnings: Vec::new(), first: true };
    if let Some((name, text)) = &given.file {
        gather.file(name, text)?;
    }
    gather.environment(&given.env);
    for set in &given.set {
        gather.set(set)?;
    }
    let not_default = gather.values.iter().map(|(name, (value, _))| (*name, value.clone())).collect();
    for key in KEYS {
        if let (Some(default), false) = (key.default, gather.values.contains_key(key.name)) {
            gather.values.insert(key.name, (default.to_owned(), "the default".to_owned()));
        }
    }
    let settings = Settings::of(&gather.values)?;
    Ok(Read { settings, warnings: gather.warnings, first_generation: gather.first, given: not_default })
}

struct Gather {
    values: Values,
    warnings: Vec<String>,
    first: bool,
}

impl Gather {
    fn file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let wrong = |why: String| ConfigError { place: name.to_owned(), why };
        let yaml: Value = serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut flat = Vec::new();
        flatten(&yaml, String::new(), &mut flat).map_err(wrong)?;
        let version = flat.iter().find(|(key, _)| key.eq_ignore_ascii_case("configVersion"));
        self.first = match version.map(|(_, value)| value.as_str()) {
            None | Some("" | "v1" | "1") => true,
            Some("v2" | "2") => false,
            Some(other) => return Err(wrong(format!("`configVersion: {other}` is unknown; there are v1 and v2"))),
        };
        for (key, value) in flat {
            self.take(&key, value, &format!("`{key}` in {name}"))?;
        }
        Ok(())
    }

    /// One value under the name that it has in this generation.
    fn take(&mut self, typed: &str, value: String, place: &str) -> Result<(), ConfigError> {
        let is = |name: &str| name.eq_ignore_ascii_case(typed);
        let of_generation = |key: &&Key| if self.first { !key.v1.is_empty() && is(key.v1) } else { is(key.name) };
        if let Some(key) = KEYS.iter().find(of_generation) {
            self.put(key.name, value, place);
        } else if let Some((_, name)) = V1_ALSO.iter().find(|(v1, _)| self.first && is(v1)) {
            self.put(name, value, place);
        } else if is("minio.useIAM") || is("minio.backupUseIAM") {
            if value.eq_ignore_ascii_case("true") {
                let backup = is("minio.backupUseIAM");
                self.put(
                    if backup { "backup.storage.auth.type" } else { "milvus.storage.auth.type" },
                    "iam".into(),
                    place,
                );
            }
        } else if V1_SPECIAL.iter().any(|known| is(known)) {
            // Nothing depends on it: a copy is done by the store where it can, whatever this says.
        } else if is("milvus.authorization") {
            let (user, password) = value
                .split_once(':')
                .ok_or_else(|| ConfigError { place: place.to_owned(), why: "it should be user:password".into() })?;
            self.put("milvus.user", user.to_owned(), place);
            self.put("milvus.password", password.to_owned(), place);
            self.warn(format!(
                "{place}: no release knows this key; it is taken as `milvus.user` and `milvus.password`"
            ));
        } else if let Some((_, v1, v2)) = MEANT.iter().find(|(typed, ..)| is(typed)) {
            self.put(v2, value, place);
            let right = if self.first { v1 } else { v2 };
            self.warn(format!("{place}: no release knows this key; it is taken as `{right}`"));
        } else if OUTDATED.iter().any(|known| is(known)) {
            self.warn(format!("{place}: it has no effect any more"));
        } else if let Some(key) = KEYS.iter().find(|key| is(key.name) || (!key.v1.is_empty() && is(key.v1))) {
            let (right, mine) = if self.first { (key.v1, "v1") } else { (key.name, "v2") };
            let right = if right.is_empty() { "nothing".to_owned() } else { format!("`{right}`") };
            self.put(key.name, value, place);
            self.warn(format!(
                "{place}: this file is of generation {mine}, where it is called {right}; it is taken as meant"
            ));
        } else {
            let last = typed.rsplit('.').next().unwrap_or_default();
            let name = |key: &'static Key| if self.first { key.v1 } else { key.name };
            let near = KEYS.iter().map(name).find(|name| {
                name.rsplit('.').next().is_some_and(|other| !name.is_empty() && other.eq_ignore_ascii_case(last))
            });
            let near = near.map(|near| format!("; is `{near}` meant?")).unwrap_or_default();
            self.warn(format!("{place}: nobody knows this key, it is ignored{near}"));
        }
        Ok(())
    }

    fn environment(&mut self, env: &BTreeMap<String, String>) {
        for key in KEYS {
            let variable = if self.first { key.v1_env } else { key.v2_env };
            let Some(value) = env.get(variable).filter(|value| !variable.is_empty() && !value.is_empty()) else {
                continue;
            };
            // Kubernetes sets NAME_PORT=tcp://… for a service called `milvus` or `minio`.
            if value.starts_with("tcp://") {
                self.warn(format!(
                    "the variable {variable} is {value}: Kubernetes sets it for a service; it is ignored"
                ));
                continue;
            }
            self.put(key.name, value.clone(), &format!("the variable {variable}"));
        }
    }

    fn set(&mut self, typed: &str) -> Result<(), ConfigError> {
        let place = format!("--set {}", typed.split('=').next().unwrap_or_default());
        let wrong = |why: &str| ConfigError { place: place.clone(), why: why.into() };
        let (key, value) = typed.split_once('=').ok_or_else(|| wrong("it should be KEY=VALUE"))?;
        let is = |name: &str| !name.is_empty() && name.eq_ignore_ascii_case(key.trim());
        let found = KEYS.iter().find(|k| [k.name, k.v1, k.v1_env, k.v2_env].into_iter().any(is)).map(|key| key.name);
        let also = V1_ALSO.iter().find(|(name, _)| is(name)).map(|(_, name)| *name);
        let name = found.or(also).ok_or_else(|| wrong("nobody knows this key"))?;
        self.put(name, value.to_owned(), &place);
        Ok(())
    }

    fn put(&mut self, name: &'static str, value: String, place: &str) {
        let value = match (name, value.as_str()) {
            ("milvus.grpc.tlsMode", "0") => "disabled".to_owned(),
            ("milvus.grpc.tlsMode", "1") => "server".to_owned(),
            ("milvus.grpc.tlsMode", "2") => "mutual".to_owned(),
            _ => value,
        };
        if value.is_empty() && !name.ends_with("rootPath") {
            // Set to nothing is as unset, as it always was.
            self.values.remove(name);
            return;
        }
        self.values.insert(name, (value, place.to_owned()));
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

/// Every scalar with its dotted key; lists are joined by commas.
fn flatten(value: &Value, key: String, out: &mut Vec<(String, String)>) -> Result<(), String> {
    match value {
        Value::Mapping(map) => {
            for (name, value) in map {
                let name = name.as_str().ok_or_else(|| format!("a key below `{key}` is no text"))?;
                let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                flatten(value, key, out)?;
            }
            Ok(())
        }
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            let items = items.ok_or_else(|| format!("`{key}` is a list of something else than words"))?;
            out.push((key, items.join(",")));
            Ok(())
        }
        Value::Null if key.is_empty() => Ok(()),
        Value::Tagged(_) => Err(format!("`{key}` has a tag, which means nothing here")),
        other => match scalar(other) {
            Some(text) if !key.is_empty() => {
                out.push((key, text));
                Ok(())
            }
            _ => Err("this is not a list of keys and values".into()),
        },
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        _ => None,
    }
}
