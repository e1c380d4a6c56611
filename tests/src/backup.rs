//! `eyrie backup` and `milvus-backup` as a person runs them. What the first must remember itself lies in the test's own
//! folder: a person's pins name archives of the same address, and an archive that a test made is gone when the next one
//! begins.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binaries::Program;
use crate::place::Place;
use crate::store::bounded;

/// How long news of a tail are waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program, where it runs, and what it finds in its environment.
#[derive(Clone)]
pub struct Backup {
    place: Place,
    state: PathBuf,
    environment: Vec<(String, String)>,
}

impl Backup {
    /// Runs in this place, and remembers in `dir`.
    pub fn new(dir: &Path, place: &Place) -> Backup {
        Backup { place: place.clone(), state: dir.join("state"), environment: Vec::new() }
    }

    /// More of the environment: the settings of an S3 server.
    pub fn environment(&mut self, more: Vec<(String, String)>) {
        self.environment.extend(more);
    }

    /// `eyrie backup` with these arguments.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        self.program("backup", args)
    }

    /// `eyrie agent` with these arguments.
    pub fn agent(&self, args: &[&str]) -> Result<Command> {
        self.program("agent", args)
    }

    fn program(&self, what: &str, args: &[&str]) -> Result<Command> {
        let mut command = self.place.command(&Program::under_test()?.serve[0]);
        command.arg(what).args(args).stdin(Stdio::null());
        command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", &self.state);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Runs it, however it ends.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args)?.output()?)
    }

    /// Runs it, and returns what it says on standard output; it has to end well.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let out = self.output(args)?;
        let said = String::from_utf8(out.stdout)?;
        ensure!(out.status.success(), "{args:?}: {}\n{said}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
        Ok(said)
    }

    /// Starts it, for a command that follows its source and tells news in JSON.
    pub fn tail(&self, args: &[&str]) -> Result<Tail> {
        let mut child = self.command(args)?.args(["--output", "json"]).stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Tail { child, said, recoverable: Value::Null })
    }
}

/// A running `backup tail` and what it says.
pub struct Tail {
    child: Child,
    said: BufReader<ChildStdout>,
    /// The newest news of that kind: what was said before is not said again.
    recoverable: Value,
}

impl Tail {
    /// Waits for news of this kind.
    pub fn wait(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        if event == "recoverable" && wanted(&self.recoverable) {
            return Ok(());
        }
        let since = Instant::now();
        let mut line = String::new();
        while since.elapsed() < PATIENCE {
            line.clear();
            if self.said.read_line(&mut line)? == 0 {
                bail!("the tail ended before it said {event}");
            }
            let news: Value = serde_json::from_str(&line)?;
            if news["event"] == "recoverable" {
                self.recoverable = news.clone();
            }
            if news["event"] == event && wanted(&news) {
                return Ok(());
            }
        }
        bail!("the tail did not say {event}")
    }

    /// Asks it to end, as a service manager does.
    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_raw(self.child.id() as i32).context("pid")?, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the tail ended with {status}");
        Ok(())
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The value of a series of a page of the agent's metrics.
pub fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Runs `milvus-backup` in `dir` with this configuration; exit code, what it answered and what it said.
pub fn milvus_backup(
    place: &Place,
    dir: &Path,
    config: &Path,
    args: &[&str],
    patience: Duration,
) -> Result<(i32, String, String)> {
    let mut command = place.command(&Program::under_test()?.serve[0]);
    command.arg("milvus-backup").args(args).arg("--config").arg(config);
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = bounded(&mut command, patience)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr)))
}
