//! The half that watches: it outlives whatever happens to the worker, and names and keeps the input that did it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eyrie_disk::tables::EXIT_DAMAGED;

use crate::targets::Target;
use crate::worker;

/// CPU time that one input may take.
const CPU_MAX: Duration = Duration::from_secs(1);
/// Time that one input may take without using the CPU: a deadlock, not a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Runs one target in a process of its own; what it found, if anything.
///
/// # Errors
/// When the worker cannot be run, or refuses its own corpus.
pub fn watch(target: &Target, seed: u64, seconds: u64) -> Result<Option<String>> {
    let progress = tempfile::NamedTempFile::new().context("make the progress file")?;
    std::fs::write(progress.path(), u64::MAX.to_le_bytes()).context("write the progress file")?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let what = loop {
        let seconds = until.saturating_duration_since(Instant::now()).as_secs().max(1);
        let ended = outcome(&mut worker(target, seed, seconds, progress.path())?, progress.path())?;
        match ended {
            Ended::By(status) if status.success() => return Ok(None),
            // The engine of the tables may end the process, if it says why; the next input is another process's.
            Ended::By(status) if status.code() == Some(EXIT_DAMAGED) && Instant::now() < until => {}
            Ended::By(status) if status.code() == Some(EXIT_DAMAGED) => return Ok(None),
            Ended::By(status) => break format!("the worker ended with {status}"),
            Ended::Stalled(why) => break why,
        }
    };
    let iteration = iteration(progress.path())?;
    if iteration == u64::MAX {
        anyhow::bail!("{}: {what} before the first broken input", target.name);
    }
    let input = worker::input(target, &(target.corpus)(), seed, iteration);
    let path = keep(target, seed, iteration, &input)?;
    Ok(Some(format!(
        "{what} on input {iteration} of seed {seed}, {} bytes.\n  Saved as {}\n  Next: cargo xtask fuzz {} --replay {}",
        input.len(),
        path.display(),
        target.name,
        path.display()
    )))
}

/// A process that feeds one input after another.
fn worker(target: &Target, seed: u64, seconds: u64, progress: &Path) -> Result<Child> {
    let myself = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(myself);
    command.args([target.name, "--seconds", &seconds.to_string(), "--seed", &seed.to_string(), "--worker"]);
    command.arg(progress).spawn().context("start the worker")
}

enum Ended {
    By(ExitStatus),
    Stalled(String),
}

/// Waits for the worker's end, or ends it when one input takes too long.
fn outcome(child: &mut Child, progress: &Path) -> Result<Ended> {
    let mut last = (iteration(progress)?, cpu(child), Instant::now());
    loop {
        if let Some(status) = child.try_wait().context("wait for the worker")? {
            return Ok(Ended::By(status));
        }
        std::thread::sleep(POLL);
        let now = iteration(progress)?;
        if now != last.0 {
            last = (now, cpu(child), Instant::now());
            continue;
        }
        let (busy, waited) = (cpu(child).saturating_sub(last.1), last.2.elapsed());
        // The corpus itself is made and checked before input 0.
        if now != u64::MAX && (busy > CPU_MAX || waited > WAIT_MAX) {
            child.kill().context("end the worker")?;
            child.wait().context("wait for the worker")?;
            let (busy, waited) = (busy.as_secs_f64(), waited.as_secs_f64());
            return Ok(Ended::Stalled(format!("no answer after {busy:.1} s of CPU, {waited:.1} s in all")));
        }
    }
}

fn iteration(progress: &Path) -> Result<u64> {
    let bytes = std::fs::read(progress).context("read the progress file")?;
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| anyhow::anyhow!("the progress file is not a number"))?))
}

/// CPU time of all threads of the worker; zero when it has just ended. Linux counts in hundredths of a second.
fn cpu(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn keep(target: &Target, seed: u64, iteration: u64, input: &[u8]) -> Result<PathBuf> {
    let dir = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("fuzz-findings")));
    let dir = dir.unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join(format!("{}-{seed}-{iteration}", target.name));
    std::fs::write(&path, input).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
