//! `eyrie backup`: a whole Milvus, continuously, in a bucket.

mod drill;
mod expire;
mod list;
mod restore;
mod settings;
mod show;
pub(crate) mod take;
mod verify;
pub(crate) mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use crate::progress::Output;

/// All is well.
const DONE: i32 = 0;
/// It failed; what was recorded before is safe.
const FAILED: i32 = 1;
/// Nothing was done.
const REFUSED: i32 = 2;

/// Keep a whole Milvus, metadata and objects, recoverable in a bucket
///
/// The source may be Eyrie or any etcd 3.5; nothing is changed there.
#[derive(Parser)]
#[command(
    name = "eyrie backup",
    disable_version_flag = true,
    after_help = "\
At three in the morning:
  What can I get back?           eyrie backup list --config eyrie.yaml
  What is inside?                eyrie backup show --config eyrie.yaml
  Save all of it now:            eyrie backup take --config eyrie.yaml
  Is it still whole?             eyrie backup verify --config eyrie.yaml --read-data
  It is not. Mend what you can:  eyrie backup verify --config eyrie.yaml --repair
  What would retention remove?   eyrie backup expire --config eyrie.yaml --dry-run
  Bring it back:                 eyrie backup restore --config eyrie.yaml --at latest --data-dir NEW --dry-run
  Without a configuration:       eyrie backup take --etcd http://127.0.0.1:2379 --archive s3://backups/milvus \\
                                   --bucket s3://milvus-bucket --recipient age1...

Exit code: 0 all is well, 1 it failed (what was recorded is safe; run again), 2 nothing was done.
Of verify: 0 all is well, 1 something is damaged, 2 nothing, or not all, could be looked at."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Archive a full, all history since the last run, and every object it needs; then end
    Take(take::Take),
    /// Archive every change as it happens, until Ctrl-C
    Tail(take::Tail),
    /// What can be recovered, and what can't and why
    List(list::List),
    /// In words what is inside
    Show(show::Show),
    /// Is the archive still what it says? Every record and file, and what a damaged one means
    Verify(verify::Verify),
    /// Remove what the retention policy gives up
    Expire(expire::Expire),
    /// Bring one moment back: metadata as data directories or a snapshot, objects into a bucket
    Restore(Box<restore::Restore>),
    /// Try a restore in scratch space: a store is started on it and compared; how much would be lost, how long it takes
    Drill(Box<drill::Drill>),
    /// Make a key pair: the backup needs the public key only
    Keygen(Keygen),
}

#[derive(clap::Args)]
struct Keygen {
    /// The file for the private key; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command; returns the exit code.
pub(crate) fn run(args: Vec<OsString>) -> i32 {
    let args = std::iter::once(OsString::from("eyrie backup")).chain(args);
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&format!("can't start: {error}")),
    };
    runtime.block_on(async {
        match arguments.command {
            Command::Take(take) => take.run().await,
            Command::Tail(tail) => tail.run().await,
            Command::List(list) => list.run().await,
            Command::Show(show) => show.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Expire(expire) => expire.run().await,
            Command::Restore(restore) => restore.run().await,
            Command::Drill(drill) => drill.run().await,
            Command::Keygen(keygen) => keygen.run(),
        }
    })
}

impl Keygen {
    fn run(&self) -> i32 {
        let created = watch::clock_text(eyrie_backup::history::TimeMs::now().0);
        match eyrie_backup::seal::keygen(&self.file, &created) {
            Ok(recipient) => {
                crate::screen::out(&format!(
                    "{recipient}\n\nThe private key is in {}. Whoever has it can read every backup; without it nobody can.\n\
                     Keep copies of it, away from the machine that takes the backups. Give the line above to the backup:\n  \
                     recipients: [{recipient}]      in eyrie.yaml, or --recipient {recipient}\n",
                    self.file.display()
                ));
                DONE
            }
            Err(error) => refused(&error.to_string()),
        }
    }
}

/// Says why nothing was done.
fn refused(why: &str) -> i32 {
    eprintln!("Error: {why}");
    REFUSED
}

/// Says why it failed.
fn failed(why: &dyn std::fmt::Display) -> i32 {
    eprintln!("Error: {why}");
    FAILED
}
