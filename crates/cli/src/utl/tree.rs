//! The commands, their flags, and how one is found among the words that were typed.

use super::failure::Failure;
use super::parse::Parsed;

/// A flag's kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Text,
    Number,
}

/// A flag as it is declared.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) usage: &'static str,
    pub(super) required: bool,
    /// Accepted, but not shown.
    pub(super) hidden: bool,
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, usage: &'static str) -> Flag {
    Flag { name, short: None, kind, default, usage, required: false, hidden: false }
}

const fn required(name: &'static str, usage: &'static str) -> Flag {
    Flag { required: true, ..flag(name, Kind::Text, "", usage) }
}

/// The work of a command.
type Run = fn(&Parsed) -> Result<(), Failure>;

/// A command. Without `run` it only holds others.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What stands behind the name in its usage line.
    pub(super) usage: &'static str,
    pub(super) short: &'static str,
    pub(super) flags: &'static [Flag],
    pub(super) commands: &'static [Command],
    pub(super) run: Option<Run>,
    pub(super) hidden: bool,
    pub(super) deprecated: Option<&'static str>,
}

const GROUP: Command =
    Command { name: "", usage: "", short: "", flags: &[], commands: &[], run: None, hidden: false, deprecated: None };

/// The flag that every command has.
pub(super) static WRITE_OUT: Flag = Flag {
    short: Some('w'),
    ..flag("write-out", Kind::Text, "simple", "set the output format (fields, json, protobuf, simple, table)")
};

static RESTORE_FLAGS: [Flag; 11] = [
    flag(
        "all-members",
        Kind::Bool,
        "",
        "Restore all members that --initial-cluster names at once, each into a directory of its name in --data-dir",
    ),
    flag("bump-revision", Kind::Number, "0", "How much to increase the latest revision after restore"),
    required("data-dir", "Path to the output data directory"),
    flag(
        "initial-advertise-peer-urls",
        Kind::Text,
        "http://localhost:2380",
        "List of this member's peer URLs to advertise to the rest of the cluster",
    ),
    flag(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "Initial cluster configuration for restore bootstrap",
    ),
    flag(
        "initial-cluster-token",
        Kind::Text,
        "etcd-cluster",
        "Initial cluster token for the etcd cluster during restore bootstrap",
    ),
    Flag { hidden: true, ..flag("initial-memory-map-size", Kind::Number, "0", "Has no meaning here") },
    flag(
        "mark-compacted",
        Kind::Bool,
        "",
        "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)",
    ),
    flag("name", Kind::Text, "default", "Human-readable name for this member"),
    flag(
        "skip-hash-check",
        Kind::Bool,
        "",
        "Ignore snapshot integrity hash value (required if copied from data directory)",
    ),
    flag("wal-dir", Kind::Text, "", "Path to the WAL directory (use --data-dir if none given)"),
];

static BACKUP_FLAGS: [Flag; 5] = [
    required("backup-dir", "Path to the backup dir"),
    flag("backup-wal-dir", Kind::Text, "", "Path to the backup wal dir"),
    required("data-dir", "Path to the etcd data dir"),
    flag("wal-dir", Kind::Text, "", "Path to the etcd wal dir"),
    flag("with-v3", Kind::Bool, "true", "Backup v3 backend data"),
];

static MIGRATE_FLAGS: [Flag; 5] = [
    required("data-dir", "Path to the new data directory"),
    required("from", "Data directory of a stopped etcd 3.5; it is left untouched"),
    flag("from-wal-dir", Kind::Text, "", "WAL directory of the stopped etcd (use --from if none given)"),
    flag("name", Kind::Text, "", "Human-readable name for this member (the old one if none given)"),
    flag("wal-dir", Kind::Text, "", "Path to the new WAL directory (use --data-dir if none given)"),
];

static SNAPSHOT_COMMANDS: [Command; 3] = [
    Command {
        name: "restore",
        usage: " <filename> --data-dir {output dir} [options]",
        short: "Restores an etcd member snapshot to an etcd directory",
        flags: &RESTORE_FLAGS,
        run: Some(super::restore::run),
        ..GROUP
    },
    Command {
        name: "save",
        usage: " <filename>",
        short: "Stores an etcd node backend snapshot to a given file",
        hidden: true,
        deprecated: Some("Use `etcdctl snapshot save` to download snapshot"),
        run: Some(super::save),
        ..GROUP
    },
    Command {
        name: "status",
        usage: " <filename>",
        short: "Gets backend snapshot status of a given file",
        run: Some(super::snapshot::status),
        ..GROUP
    },
];

static COMMANDS: [Command; 7] = [
    Command {
        name: "backup",
        short: "[legacy] offline backup of etcd directory",
        flags: &BACKUP_FLAGS,
        run: Some(super::backup),
        ..GROUP
    },
    Command {
        name: "defrag",
        short: "Defragments the storage of the etcd",
        flags: &[required("data-dir", "Required. Defragments a data directory not in use by etcd.")],
        run: Some(super::defrag::run),
        ..GROUP
    },
    Command {
        name: "hashkv",
        usage: " <filename>",
        short: "Prints the KV history hash of a given file",
        flags: &[flag("rev", Kind::Number, "0", "maximum revision to hash (default: latest revision)")],
        run: Some(super::hashkv::run),
        ..GROUP
    },
    Command { name: "help", short: "Help about any command", usage: " [command]", run: Some(super::help), ..GROUP },
    Command {
        name: "migrate",
        short: "Adopts the data directory of a stopped etcd 3.5",
        flags: &MIGRATE_FLAGS,
        run: Some(super::migrate::run),
        ..GROUP
    },
    Command { name: "snapshot", short: "Manages etcd node snapshots", commands: &SNAPSHOT_COMMANDS, ..GROUP },
    Command { name: "version", short: "Prints the version of etcdutl", run: Some(super::version), ..GROUP },
];

static ROOT: Command = Command { commands: &COMMANDS, ..GROUP };

/// The commands from the root to the one that was meant.
#[derive(Debug, Clone)]
pub(super) struct Path(Vec<&'static Command>);

impl Path {
    pub(super) fn command(&self) -> &'static Command {
        self.0.last().unwrap_or(&&ROOT)
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The names behind the program's.
    pub(super) fn names(&self) -> String {
        self.0[1..].iter().map(|command| format!(" {}", command.name)).collect()
    }
}

/// Finds the command; the other words, in order, are its flags and arguments.
pub(super) fn find(program: &str, words: &[String]) -> Result<(Path, Vec<String>), Failure> {
    let mut path = Path(vec![&ROOT]);
    let mut rest = words.to_vec();
    while let Some(at) = first_argument(&rest) {
        let Some(command) = among(path.command(), &rest[at]) else { break };
        rest.remove(at);
        if command.name == "help" {
            return help_path(program, &rest);
        }
        path.0.push(command);
    }
    if path.is_root()
        && let Some(at) = first_argument(&rest)
    {
        return Err(unknown(program, &rest[at]));
    }
    Ok((path, rest))
}

/// `help snapshot restore` is `snapshot restore --help`.
fn help_path(program: &str, words: &[String]) -> Result<(Path, Vec<String>), Failure> {
    let mut path = Path(vec![&ROOT]);
    for word in words.iter().filter(|word| !word.starts_with('-')) {
        match among(path.command(), word) {
            Some(command) => path.0.push(command),
            None if path.is_root() => {
                // cobra shows the page before it has made its help flag
                let page = super::help::page(program, &path);
                let page = page.split_inclusive('\n').filter(|line| !line.starts_with("  -h,")).collect::<String>();
                eprint!("Unknown help topic [`{word}`]\n{page}");
                return Ok((Path(vec![&ROOT, &COMMANDS[3]]), Vec::new()));
            }
            None => break,
        }
    }
    Ok((path, vec!["--help".to_owned()]))
}

/// By its name, or by the only name that begins so.
fn among(parent: &'static Command, word: &str) -> Option<&'static Command> {
    if let Some(exact) = parent.commands.iter().find(|command| command.name == word) {
        return Some(exact);
    }
    let mut begin = parent.commands.iter().filter(|command| command.name.starts_with(word) && !word.is_empty());
    match (begin.next(), begin.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The first word that is neither a flag nor a flag's value.
fn first_argument(words: &[String]) -> Option<usize> {
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        let takes_next = match word.as_str() {
            "--" => return None,
            "--help" | "-h" => false,
            long if long.starts_with("--") => !long.contains('=') && !is_bool(&long[2..]),
            short if short.starts_with('-') && short.len() > 1 => short.len() == 2,
            _ => return Some(at),
        };
        at += if takes_next { 2 } else { 1 };
    }
    None
}

fn is_bool(name: &str) -> bool {
    RESTORE_FLAGS.iter().chain(&BACKUP_FLAGS).any(|flag| flag.name == name && flag.kind == Kind::Bool)
}

fn unknown(program: &str, word: &str) -> Failure {
    let near: Vec<&str> = COMMANDS
        .iter()
        .map(|command| command.name)
        .filter(|name| strsim::levenshtein(name, &word.to_lowercase()) <= 2 || name.starts_with(&word.to_lowercase()))
        .collect();
    let mut text = format!("unknown command \"{word}\" for \"{program}\"");
    if !near.is_empty() {
        text +=
            &format!("\n\nDid you mean this?\n{}", near.iter().map(|name| format!("\t{name}\n")).collect::<String>());
    }
    Failure::unknown(text, program)
}
