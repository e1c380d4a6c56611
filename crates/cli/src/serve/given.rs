//! What the operator gave: flags, else variables, or a file alone. Every value is checked against its kind here.

use std::collections::BTreeMap;
use std::path::Path;

use super::flags::{self, Flag, Kind, Meaning};
use super::values;

/// The values that were given, by canonical name of the flag.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    values: BTreeMap<&'static str, String>,
    /// What to tell in the log once it is there.
    pub(crate) notes: Vec<Note>,
}

/// Something to tell that does not stop the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// A flag without effect was given.
    NoEffect(&'static str, &'static str),
    /// An `ETCD_` variable that is no flag's.
    UnknownVariable(String),
    /// A file was given, so these were ignored.
    FileOnly(Vec<String>),
}

/// Why the start stops here, and how the program ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Show this and the usage; exit 2.
    Usage(String),
    /// `failed to verify flags`; exit 1.
    Verify(String),
    /// A variable repeats a flag; exit 1.
    Conflict(String),
    /// Show the help; exit 0.
    Help,
    /// Show the version; exit 0.
    Version,
}

impl Given {
    /// What was given for the flag of this canonical name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn set(&mut self, flag: &'static Flag, value: String) {
        let meaning = flags::find(flag.canonical()).map_or(&flag.meaning, |flag| &flag.meaning);
        if let Meaning::NoEffect(why) = meaning {
            let note = Note::NoEffect(flag.name, why);
            if !self.notes.contains(&note) && value != flag.default {
                self.notes.push(note);
            }
        }
        self.values.insert(flag.canonical(), value);
    }

    fn is_set(&self, flag: &Flag) -> bool {
        self.values.contains_key(flag.canonical())
    }
}

/// Reads arguments, variables and, if one is named, the file.
///
/// # Errors
/// [`Stop`]: the start ends here.
pub(crate) fn read(
    args: &[String],
    variables: &[(String, String)],
    open: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Given, Stop> {
    let mut given = arguments(args)?;
    if given.get("version") == Some("true") {
        return Err(Stop::Version);
    }
    let from_variable = variables.iter().find(|(name, value)| name == "ETCD_CONFIG_FILE" && !value.is_empty());
    let file = given.get("config-file").map(str::to_owned).or_else(|| from_variable.map(|(_, value)| value.clone()));
    let Some(path) = file.filter(|path| !path.is_empty()) else {
        environment(&mut given, variables)?;
        return Ok(given);
    };
    let text = open(Path::new(&path)).map_err(|error| Stop::Verify(format!("open {path}: {error}")))?;
    let mut ignored: Vec<String> =
        given.values.keys().filter(|name| **name != "config-file").map(|name| format!("--{name}")).collect();
    ignored.extend(
        variables.iter().filter(|(name, _)| name != "ETCD_CONFIG_FILE" && is_flags(name)).map(|(name, _)| name.clone()),
    );
    let mut given = super::file::read(&path, &text).map_err(Stop::Verify)?;
    if !ignored.is_empty() {
        given.notes.push(Note::FileOnly(ignored));
    }
    Ok(given)
}

/// Reads arguments in the syntax of Go's `flag` package.
fn arguments(args: &[String]) -> Result<Given, Stop> {
    let mut given = Given::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = match arg.strip_prefix('-') {
            // The first word that is no flag ends the flags, and etcd takes no words.
            None | Some("") => return Err(Stop::Verify(format!("'{arg}' is not a valid flag"))),
            Some("-") => match args.next() {
                Some(word) => return Err(Stop::Verify(format!("'{word}' is not a valid flag"))),
                None => break,
            },
            Some(name) => name.strip_prefix('-').unwrap_or(name),
        };
        if name.starts_with('-') || name.starts_with('=') {
            return Err(Stop::Usage(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, None),
        };
        if name == "help" || name == "h" {
            return Err(Stop::Help);
        }
        let Some(flag) = flags::find(name) else {
            let hint = flags::nearest(name).map(|near| format!("\nDid you mean --{near}?")).unwrap_or_default();
            return Err(Stop::Usage(format!("flag provided but not defined: -{name}{hint}")));
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_string(),
            (None, _) => args.next().cloned().ok_or_else(|| Stop::Usage(format!("flag needs an argument: -{name}")))?,
        };
        values::check(flag.kind, &value).map_err(|why| {
            Stop::Usage(match flag.kind {
                Kind::Bool => format!("invalid boolean value {value:?} for -{name}: {why}"),
                Kind::OneOf(_) if verified_later(name) => return Stop::Verify(later_words(name, &value)),
                _ => format!("invalid value {value:?} for flag -{name}: {why}{}", choices(flag.kind)),
            })
        })?;
        given.set(flag, value);
    }
    Ok(given)
}

fn environment(given: &mut Given, variables: &[(String, String)]) -> Result<(), Stop> {
    let mut found = Vec::new();
    for (name, value) in variables.iter().filter(|(name, _)| name.starts_with("ETCD_")) {
        match flags::all().find(|flag| flag.variable() == *name) {
            None => given.notes.push(Note::UnknownVariable(name.clone())),
            Some(flag) if given.is_set(flag) => return Err(Stop::Conflict(name.clone())),
            Some(_) if value.is_empty() => {}
            Some(flag) => found.push((flag, name, value)),
        }
    }
    for (flag, name, value) in found {
        values::check(flag.kind, value).map_err(|why| {
            Stop::Verify(match flag.kind {
                Kind::OneOf(_) if verified_later(flag.name) => later_words(flag.name, value),
                _ => format!("invalid value {value:?} for {name}: {why}{}", choices(flag.kind)),
            })
        })?;
        given.set(flag, value.clone());
    }
    Ok(())
}

/// Takes one value of a configuration file.
pub(super) fn from_file(given: &mut Given, flag: &'static Flag, key: &str, value: String) -> Result<(), String> {
    values::check(flag.kind, &value).map_err(|why| match flag.kind {
        Kind::OneOf(_) if verified_later(flag.name) => later_words(flag.name, &value),
        _ => format!("invalid value {value:?} for key {key}: {why}{}", choices(flag.kind)),
    })?;
    given.set(flag, value);
    Ok(())
}

/// Flags whose wrong value etcd finds only when it verifies, with other words.
fn verified_later(name: &str) -> bool {
    matches!(name, "auto-compaction-mode" | "logger" | "log-level" | "log-format")
}

fn later_words(name: &str, value: &str) -> String {
    match name {
        "logger" => format!("unknown logger option {value:?}"),
        "log-level" => format!("unrecognized level: {value:?}"),
        "log-format" => format!("unknown log format: {value:?}"),
        _ => format!("unknown {name} {value:?}"),
    }
}

fn choices(kind: Kind) -> String {
    match kind {
        Kind::OneOf(names) => {
            let names: Vec<_> = names.iter().filter(|name| !name.is_empty()).copied().collect();
            format!(" (one of {})", names.join(", "))
        }
        _ => String::new(),
    }
}

fn is_flags(variable: &str) -> bool {
    flags::all().any(|flag| flag.variable() == variable)
}
