//! `eyrie agent`: all of the backup as a daemon.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use eyrie_backup::agent::{self, AgentError, Begin};
use eyrie_backup::config::Config;

use crate::backup::Output;
use crate::backup::take::stop;
use crate::backup::watch;
use crate::notify;

/// Stopped as asked.
const DONE: i32 = 0;
/// Ended by something that a person must settle; what is recorded is safe.
const ENDED: i32 = 1;
/// Nothing was done.
const REFUSED: i32 = 2;

/// Keep a whole Milvus recoverable, all the time
///
/// Follows the source, mirrors objects, and takes fulls, verifies, repairs and expires by schedule. Metrics, health and
/// status are served at `agent.listen`: /metrics, /healthz, /readyz, /status.
#[derive(Parser)]
#[command(
    name = "eyrie agent",
    disable_version_flag = true,
    after_help = "\
One agent writes to an archive at a time; a second one is refused, or waits with --standby.
Exit code: 0 stopped by SIGTERM or Ctrl-C, 1 ended by something that a person must settle, 2 nothing was done.
docs/agent.md tells the settings, the metrics and the notices."
)]
struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where another agent is at work, wait until it is gone
    #[arg(long)]
    standby: bool,
    /// Write although another writer seems to be at work; that one then stops
    #[arg(long, conflicts_with = "standby")]
    take_over: bool,
    /// Go on behind damage in the catalogue
    #[arg(long)]
    accept_damage: bool,
    /// How to tell what happens
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Runs the command; returns the exit code.
pub(crate) fn run(args: Vec<OsString>) -> i32 {
    let args = std::iter::once(OsString::from("eyrie agent")).chain(args);
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let refused = |why: &str| {
        eprintln!("Error: {why}");
        REFUSED
    };
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(error) => return refused(&error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&format!("can't start: {error}")),
    };
    runtime.block_on(async {
        let stop = match stop() {
            Ok(stop) => stop,
            Err(error) => return refused(&format!("can't listen for signals: {error}")),
        };
        let stopping = async move {
            stop.await;
            notify::stopping();
        };
        let Arguments { standby, take_over, accept_damage, output, .. } = arguments;
        let begin = Begin { standby, take_over, accept_damage };
        match agent::run(config, begin, notify::ready, watch::tell(output), stopping).await {
            Ok(()) => DONE,
            Err(AgentError::Refused(why)) => refused(&why),
            Err(error @ AgentError::Ended(_)) => {
                eprintln!("Error: {error}");
                ENDED
            }
        }
    })
}
