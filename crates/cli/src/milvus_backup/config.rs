//! `config show` and `config migrate`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Subcommand;
use eyrie_backup::logical::config::Read;
use serde_yaml_ng::{Mapping, Value};

use super::{DONE, FAILED};
use crate::screen::out;

#[derive(clap::Args)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every value that is given, with secrets hidden; what is not shown has its default
    Show,
    /// Write the configuration anew in the second generation
    Migrate {
        /// Where to [default: the screen]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
        /// Fail if any key is not understood
        #[arg(long)]
        strict: bool,
    },
}

impl Config {
    pub(super) fn run(&self, read: &Read) -> i32 {
        match &self.what {
            What::Show => {
                out(&yaml(&read.given, true));
                DONE
            }
            What::Migrate { strict: true, .. } if !read.warnings.is_empty() => {
                eprintln!("Error: {} keys are not what they should be; nothing was written.", read.warnings.len());
                FAILED
            }
            What::Migrate { output: None, .. } => {
                out(&yaml(&read.given, false));
                DONE
            }
            What::Migrate { output: Some(path), force, .. } => {
                if path.exists() && !force {
                    eprintln!("Error: {} is there already; --force replaces it.", path.display());
                    return FAILED;
                }
                match std::fs::write(path, yaml(&read.given, false)) {
                    Ok(()) => {
                        eprintln!("{} is written; {} values.", path.display(), read.given.len());
                        DONE
                    }
                    Err(error) => {
                        eprintln!("Error: {}: {error}", path.display());
                        FAILED
                    }
                }
            }
        }
    }
}

/// The values as nested YAML of the second generation.
fn yaml(given: &BTreeMap<&'static str, String>, hide: bool) -> String {
    let mut root = Mapping::new();
    root.insert("configVersion".into(), "v2".into());
    for (key, value) in given {
        let last = key.rsplit('.').next().unwrap_or_default();
        let secret = ["password", "secretAccessKey", "sessionToken", "accountKey", "apiKey"].contains(&last);
        let value: Value = match (secret && hide, value.as_str()) {
            (true, _) => "***".into(),
            (false, "true") => true.into(),
            (false, "false") => false.into(),
            (false, text) if last == "endpoints" => Value::Sequence(text.split(',').map(Value::from).collect()),
            (false, text) => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        };
        let parts: Vec<&str> = key.split('.').collect();
        insert(&mut root, &parts, value);
    }
    serde_yaml_ng::to_string(&root).unwrap_or_default()
}

fn insert(map: &mut Mapping, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            map.insert((*last).into(), value);
        }
        [first, rest @ ..] => {
            let below = map.entry((*first).into()).or_insert_with(|| Value::Mapping(Mapping::new()));
            if let Value::Mapping(below) = below {
                insert(below, rest, value);
            }
        }
    }
}
