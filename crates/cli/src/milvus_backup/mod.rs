//! `eyrie milvus-backup`, and the binary called `milvus-backup`: what that tool does, with its flags of 0.5 and 0.6.

mod config;
mod create;
pub(crate) mod list;
mod moving;
mod restore;
mod salvage;
mod server;
mod tell;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use eyrie_backup::logical::config::{ConfigError, Given, Read, Settings, read};
use eyrie_backup::logical::store::Store;
use eyrie_backup::logical::{Failure, check, verify};
use serde_json::json;

use crate::progress::Output;
use crate::screen::out;

/// All is done.
const DONE: i32 = 0;
/// It failed, or something was left out.
const FAILED: i32 = 1;
/// Where the configuration is looked for when none is named.
const USUAL: [&str; 2] = ["backup.yaml", "configs/backup.yaml"];

/// Back up and restore collections of Milvus by its own API, as milvus-backup does and in its format
#[derive(Parser)]
#[command(
    disable_version_flag = true,
    after_help = "\
At three in the morning:
  Does everything answer?        milvus-backup check
  What is there?                 milvus-backup list
  Is a backup sound?             milvus-backup verify -n NAME
  Bring it back beside the old:  milvus-backup restore -n NAME -s _restored --rebuild_index
  What would that do?            the same with --dry-run
  It was killed:                 type the same again; it goes on

The configuration is backup.yaml of milvus-backup, of either generation (docs/milvus-backup.md).
Exit code: 0 all is done, 1 it failed or something was left out (named on the screen), 2 the command line was wrong."
)]
struct Arguments {
    /// The configuration [default: backup.yaml or configs/backup.yaml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another value for one key of the configuration; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The private key of sealed backups
    #[arg(long, global = true, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Most MiB a second into and out of the backups' place
    #[arg(long, global = true, value_name = "MIB")]
    rate_limit: Option<u64>,
    /// Most calls a second to the object stores
    #[arg(long, global = true, value_name = "N")]
    requests_per_second: Option<u64>,
    /// How to answer
    #[arg(short = 'w', long = "write-out", global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// See whether Milvus, its storage and the backups' place answer; writes and deletes one small object
    Check(Check),
    /// Show the configuration, or turn one of the first generation into the second
    Config(config::Config),
    /// Take a backup
    Create(create::Create),
    /// Name all backups
    List,
    /// Show one backup as JSON
    Get(One),
    /// Compare every object of a backup with what was written
    Verify(Verify),
    /// Delete one backup
    Delete(Delete),
    /// Move collections to another Milvus: backed up here, restored there, counted on both sides; the source stays as it is
    Move(moving::Move),
    /// Restore a backup
    Restore(restore::Restore),
    /// Get rows out of Milvus's bucket when its metadata is gone
    Salvage(salvage::Salvage),
    /// Serve all of this over REST
    Server(server::Server),
}

#[derive(clap::Args)]
struct Check {
    /// As `config show`
    #[arg(value_name = "config", hide = true)]
    what: Option<String>,
}

#[derive(clap::Args)]
struct One {
    /// Its name
    #[arg(short, long, value_name = "NAME")]
    name: String,
}

#[derive(clap::Args)]
struct Verify {
    #[command(flatten)]
    one: One,
    /// Compare lengths only; without it, every byte that has a checksum is read
    #[arg(long)]
    quick: bool,
    /// Read also what the store copied by itself, and remember its checksums from now on
    #[arg(long, conflicts_with = "quick")]
    record: bool,
}

#[derive(clap::Args)]
struct Delete {
    #[command(flatten)]
    one: One,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// What every command needs.
struct Context {
    settings: Settings,
    output: Output,
}

/// Runs the command; returns the exit code.
pub(crate) fn run(program: &str, args: Vec<OsString>) -> i32 {
    let args = std::iter::once(OsString::from(program)).chain(args);
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let read = match configuration(&arguments) {
        Ok(read) => read,
        Err(error) => return said(arguments.output, &error.to_string(), "config"),
    };
    for warning in &read.warnings {
        eprintln!("Warning: {warning}");
    }
    if let Command::Config(config) = &arguments.command {
        return config.run(&read);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return said(arguments.output, &format!("can't start: {error}"), "start"),
    };
    let context = Context { settings: read.settings, output: arguments.output };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Check(check) => context.check(&check).await,
            Command::Create(create) => create.run(&context).await,
            Command::List => list::list(&context).await,
            Command::Get(one) => list::get(&context, &one.name).await,
            Command::Verify(verify) => context.verify(&verify).await,
            Command::Delete(delete) => list::delete(&context, &delete).await,
            Command::Restore(restore) => restore.run(&context).await,
            Command::Salvage(salvage) => salvage.run(&context).await,
            Command::Move(moving) => moving.run(&context).await,
            Command::Server(server) => server.run(&context).await,
            Command::Config(_) => Ok(DONE),
        }
    });
    runtime.shutdown_background();
    code.unwrap_or_else(|failure| said(context.output, &failure.to_string(), &format!("{:?}", failure.kind)))
}

/// Says why it failed.
fn said(output: Output, why: &str, kind: &str) -> i32 {
    match output {
        Output::Json => crate::progress::json(&json!({ "event": "failed", "kind": kind, "error": why })),
        Output::Text => eprintln!("Error: {why}"),
    }
    FAILED
}

fn configuration(arguments: &Arguments) -> Result<Read, ConfigError> {
    let usual = USUAL.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_path_buf);
    let file = match arguments.config.clone().or(usual) {
        None => None,
        Some(path) => {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError { place: place.clone(), why: error.to_string() })?;
            Some((place, text))
        }
    };
    let env: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let mut set = arguments.set.clone();
    let identity = arguments.identity.as_ref().map(|path| path.display().to_string());
    let limit = |limit: Option<u64>| limit.map(|limit| limit.to_string());
    let own = [
        ("eyrie.identity", identity),
        ("eyrie.rateLimitMiB", limit(arguments.rate_limit)),
        ("eyrie.requestsPerSecond", limit(arguments.requests_per_second)),
    ];
    set.extend(own.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))));
    read(&Given { file, env, set })
}

impl Context {
    async fn check(&self, check: &Check) -> Result<i32, Failure> {
        if check.what.as_deref() == Some("config") {
            eprintln!("Warning: `check config` is now `config show`");
        }
        let seen = check::check(&self.settings).await?;
        match self.output {
            Output::Json => crate::progress::json(&json!({
                "event": "checked", "milvus": seen.milvus, "storage": seen.storage,
                "storage_is_empty": seen.storage_is_empty, "backup": seen.backup, "server_side_copy": seen.server_side, "left_by_restores": seen.left,
            })),
            Output::Text => {
                let empty = match seen.storage_is_empty {
                    true => "  (nothing is in it: is it the right bucket and rootPath?)",
                    false => "",
                };
                let copies = if seen.server_side { "by the store itself" } else { "through this program" };
                out(&format!(
                    "Milvus    {}\nStorage   {}{empty}\nBackups   {}  (written, copied, read and deleted)\nCopies    {copies}\n",
                    seen.milvus, seen.storage, seen.backup
                ));
                for folder in &seen.left {
                    out(&format!(
                        "Left      {folder} in Milvus's storage: copies of a restore that is at work or was ended; the same restore \
                         takes them away, and once none is at work anybody may\n"
                    ));
                }
            }
        }
        Ok(DONE)
    }

    async fn verify(&self, verify: &Verify) -> Result<i32, Failure> {
        let name = list::name(&verify.one.name)?;
        let store = Store::open(&self.settings)?;
        let shown = tell::Shown::new("verify", self.output);
        let found = match verify.record {
            true => verify::record(&store, &name, &shown.tell()).await,
            false => verify::verify(&store, &name, !verify.quick, &shown.tell()).await,
        };
        shown.finish();
        let found = found?;
        match self.output {
            Output::Json => crate::progress::json(&json!({
                "event": "verified", "name": name.as_str(), "objects": found.objects, "bytes": found.bytes,
                "hashed": found.hashed, "recorded": found.recorded, "faults": found.faults, "lengths_only": found.lengths_only,
                "unopened": found.unopened,
            })),
            Output::Text => {
                let mut page = String::new();
                for fault in &found.faults {
                    page += &format!("WRONG: {fault}\n");
                }
                let how = match (found.lengths_only, found.hashed) {
                    (true, _) => "by their lengths: another program wrote it and left no checksums".to_owned(),
                    (false, hashed) => format!("{hashed} of them by their content"),
                };
                let how = match found.recorded {
                    0 => how,
                    recorded => format!("{how}; {recorded} checksums are remembered from now on"),
                };
                let verdict = if found.faults.is_empty() { "sound" } else { "NOT sound" };
                let how = match found.unopened {
                    true => format!("{how}; it is sealed, and without --identity nothing was opened"),
                    false => how,
                };
                page += &format!("{name} is {verdict}: {} objects were compared, {how}.\n", found.objects);
                out(&page);
            }
        }
        Ok(if found.faults.is_empty() { DONE } else { FAILED })
    }
}
