//! The jobs beside the tail: each is one function, run one at a time, and what is due is remembered over restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use eyrie_archive::Kind;
use eyrie_archive::record::Drilled;
use serde::{Deserialize, Serialize};

use super::config::AgentSection;
use super::schedule::When;
use super::status::Status;
use crate::bucket::Bucket;
use crate::catalog;
use crate::config::Config;
use crate::drill::{self, DrillReport, DrillRequest};
use crate::expire::Outcome;
use crate::history::TimeMs;
use crate::limits::{JOB_RETRY_FIRST, JOB_RETRY_MAX};
use crate::logical;
use crate::logical::regular::{self, Ran};
use crate::objects;
use crate::seal::Identities;
use crate::tail::orders::Desk;
use crate::take::Backup;
use crate::verify::{self, Options, Report, Thoroughness};

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// A full.
    Full,
    /// Everything is there; what is not, and the source still has, is copied anew.
    Reconcile,
    /// A sample is read.
    Verify,
    /// Every byte is read.
    VerifyData,
    /// Retention.
    Expire,
    /// A restore is tried.
    Drill,
    /// A logical backup is taken, and old ones are deleted.
    Logical,
}

impl Job {
    /// All jobs, in the order in which they run when several are due.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::Reconcile, Self::Verify, Self::VerifyData, Self::Expire, Self::Drill, Self::Logical];

    /// As configuration, metrics and state call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Reconcile => "reconcile",
            Self::Verify => "verify",
            Self::VerifyData => "verify-data",
            Self::Expire => "expire",
            Self::Drill => "drill",
            Self::Logical => "logical",
        }
    }

    fn when(self, section: &AgentSection) -> &When {
        match self {
            Self::Full => &section.full,
            Self::Reconcile => &section.reconcile,
            Self::Verify => &section.verify,
            Self::VerifyData => &section.verify_data,
            Self::Expire => &section.expire,
            Self::Drill => &section.drill,
            Self::Logical => &section.logical,
        }
    }
}

/// When each job last ran, and what failed since.
#[derive(Debug)]
pub(super) struct Diary {
    path: PathBuf,
    written: Written,
    failed: BTreeMap<Job, (u32, u64)>,
}

/// The part that outlives the program, as JSON in the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Written {
    /// By job: when it last ran, milliseconds since 1970.
    ran_at_ms: BTreeMap<String, u64>,
}

impl Diary {
    /// Reads the diary. A job that is not in it counts as run now: an agent that is new to an archive begins quietly.
    pub(super) fn open(path: PathBuf, now: TimeMs) -> Self {
        let read = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok());
        let mut written = read.unwrap_or_default();
        for job in Job::ALL {
            written.ran_at_ms.entry(job.word().into()).or_insert(now.0);
        }
        let diary = Self { path, written, failed: BTreeMap::new() };
        diary.write();
        diary
    }

    pub(super) fn ran_at(&self, job: Job) -> TimeMs {
        TimeMs(self.written.ran_at_ms.get(job.word()).copied().unwrap_or_default())
    }

    /// The job that should run now, if one should.
    pub(super) fn due(&self, section: &AgentSection, now: TimeMs) -> Option<Job> {
        let now_ms = i64::try_from(now.0).unwrap_or(i64::MAX);
        Job::ALL.into_iter().find(|job| {
            let last = i64::try_from(self.ran_at(*job).0).unwrap_or(i64::MAX);
            let waits = self.failed.get(job).is_some_and(|(times, at)| now.0.saturating_sub(*at) < pause(*times));
            job.when(section).is_due(last, now_ms, section.time_zone) && !waits
        })
    }

    /// A job that began at `began` has succeeded: it is not due again before its next time after that.
    pub(super) fn succeeded(&mut self, job: Job, began: TimeMs) {
        self.failed.remove(&job);
        self.written.ran_at_ms.insert(job.word().into(), began.0);
        self.write();
    }

    /// It failed, and stays due after a pause.
    pub(super) fn failed(&mut self, job: Job, now: TimeMs) {
        let times = self.failed.get(&job).map_or(0, |(times, _)| *times);
        self.failed.insert(job, (times + 1, now.0));
    }

    /// That it can't be written costs no more than a job that runs once too often.
    fn write(&self) {
        let bytes = serde_json::to_vec(&self.written).unwrap_or_default();
        let temporary = self.path.with_extension("new");
        let outcome = (|| {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&temporary, bytes)?;
            std::fs::rename(&temporary, &self.path)
        })();
        if let Err(error) = outcome {
            eprintln!("warning: the agent's diary {} can't be written: {error}", self.path.display());
        }
    }
}

fn pause(times: u32) -> u64 {
    let doubled = JOB_RETRY_FIRST.saturating_mul(1 << times.saturating_sub(1).min(16));
    u64::try_from(doubled.min(JOB_RETRY_MAX).as_millis()).unwrap_or(u64::MAX)
}

/// What a job has to tell beside that it succeeded.
#[derive(Debug)]
pub(super) enum Told {
    Nothing,
    Verified(Box<Report>),
    Expired(Box<Outcome>),
    Drilled(Box<Drilled>),
    Logical(Box<Ran>),
}

/// Runs a job beside a running tail.
///
/// # Errors
/// Why it failed, in words.
pub(super) async fn run(job: Job, backup: &Backup, desk: &Desk, status: &Status) -> Result<Told, String> {
    let seed = TimeMs::now().0;
    let percent = f64::from(backup.config.agent.sample_percent);
    match job {
        Job::Full => full(desk, status).await,
        Job::Reconcile => verify(backup, desk, Thoroughness::Structure).await,
        Job::Verify => verify(backup, desk, Thoroughness::Sample { percent, seed }).await,
        Job::VerifyData => verify(backup, desk, Thoroughness::Data).await,
        Job::Expire => expire(backup, desk).await,
        Job::Drill => drill(backup, desk).await,
        Job::Logical => logical(backup).await,
    }
}

/// Has a full taken, and waits until it is in the archive.
async fn full(desk: &Desk, status: &Status) -> Result<Told, String> {
    let (before, failed) = (status.fulls(), status.full_failures());
    desk.full().await;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let state = status.now();
        if status.fulls() > before {
            return Ok(Told::Nothing);
        }
        if status.full_failures() > failed {
            return Err(state.trouble.unwrap_or_else(|| "the full failed; it is tried again".into()));
        }
        if !state.running {
            return Err(state.trouble.unwrap_or_else(|| "the tail has ended".into()));
        }
    }
}

async fn verify(backup: &Backup, desk: &Desk, thoroughness: Thoroughness) -> Result<Told, String> {
    let pin = backup.config.pin(&backup.archive).read().ok().flatten();
    let options = Options { thoroughness, pin, ..Options::default() };
    let report = verify::verify(&backup.archive, &options, &backup.tell).await.map_err(|error| error.to_string())?;
    desk.record(report.verdicts.iter().cloned().map(Kind::Verified).collect()).await?;
    if report.is_index_damaged() {
        desk.mend_index().await;
    }
    let damaged = report.damaged_objects();
    if !damaged.is_empty() {
        desk.repair(damaged).await;
    }
    if !report.is_damaged() && !report.unseen.is_empty() {
        return Err(format!("{} files could not be looked at, the first: {}", report.unseen.len(), report.unseen[0]));
    }
    Ok(Told::Verified(Box::new(report)))
}

async fn expire(backup: &Backup, desk: &Desk) -> Result<Told, String> {
    let reading = catalog::read(&backup.archive, None).await.map_err(|error| error.to_string())?;
    let as_of = reading.catalog.head().seq;
    let index = objects::read_index(&backup.archive, &reading.catalog).await.map_err(|error| error.to_string())?;
    let outcome = desk.expire(backup.config.retention.clone(), index, as_of).await?;
    match &outcome.unfinished {
        Some(why) => Err(why.clone()),
        None => Ok(Told::Expired(Box::new(outcome))),
    }
}

/// Restores into scratch space and has it recorded. On a thread of its own: it computes for long, and the tail must go on.
async fn drill(backup: &Backup, desk: &Desk) -> Result<Told, String> {
    let section = &backup.config.agent;
    let identities = Identities::load(section.drill_identity.as_ref()).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| format!("this program can't be found: {error}"))?;
    let scratch = section.drill_scratch.clone().or_else(|| backup.config.source.spool.clone());
    let request = DrillRequest {
        command: section.drill_command.clone(),
        pin: backup.config.pin(&backup.archive).read().ok().flatten(),
        ..DrillRequest::new(program, scratch.unwrap_or_else(std::env::temp_dir))
    };
    let (config, (told, ended)) = (backup.config.archive.clone(), tokio::sync::oneshot::channel());
    std::thread::Builder::new()
        .name("drill".into())
        .spawn(move || {
            // a bucket of its own: connections belong to the runtime that made them
            let run = || -> Result<DrillReport, String> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                let archive = Bucket::open(&config).map_err(|error| error.to_string())?;
                let held = runtime.block_on(drill::drill(&archive, &identities, &request, &()));
                held.map_err(|error| error.to_string())
            };
            let _ = told.send(run());
        })
        .map_err(|error| format!("no thread for the drill: {error}"))?;
    let report = ended.await.map_err(|_| "the drill ended early".to_owned())??;
    let Some(drilled) = report.record() else { return Err(report.wrong.join("; ")) };
    desk.record(vec![Kind::Drilled(drilled.clone())]).await?;
    Ok(Told::Drilled(Box::new(drilled)))
}

/// Takes a logical backup. On a thread of its own, as a drill: what it hashes must not hold up the tail.
async fn logical(backup: &Backup) -> Result<Told, String> {
    let section = backup.config.logical.clone().ok_or("there is no section `logical` in eyrie.yaml")?;
    let (heard, (told, ended)) = (backup.tell.clone(), tokio::sync::oneshot::channel());
    let tell = logical::Tell::new(move |news| match news {
        logical::News::Warned(words) => heard.warn(words),
        logical::News::Said(words) => heard.say(words),
        _ => {}
    });
    std::thread::Builder::new()
        .name("logical".into())
        .spawn(move || {
            let run = || -> Result<Ran, String> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                runtime.block_on(regular::run(&section, &tell)).map_err(|error| error.to_string())
            };
            let _ = told.send(run());
        })
        .map_err(|error| format!("no thread for the logical backup: {error}"))?;
    let ran = ended.await.map_err(|_| "the logical backup ended early".to_owned())??;
    Ok(Told::Logical(Box::new(ran)))
}

/// The diary's place.
pub(super) fn diary_path(config: &Config, archive: &Bucket) -> PathBuf {
    let state = crate::pin::state_folder(config.state.as_deref());
    let hash = eyrie_archive::Sha256::of(archive.to_string().as_bytes()).to_string();
    state.join("agent").join(format!("{}.json", &hash[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_job_runs_once_and_a_failed_one_again_after_a_pause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent/diary.json");
        let section = AgentSection { full: When::parse("0 * * * *").unwrap(), ..only("never") };
        let hour = 3_600_000;
        let begin = TimeMs(1_795_305_600_000);
        let diary = Diary::open(path.clone(), begin);
        assert_eq!(diary.due(&section, begin), None, "nothing is due at once");
        // the agent was away for five hours
        let back = TimeMs(begin.0 + 5 * hour + 1);
        let mut diary = Diary::open(path.clone(), back);
        assert_eq!(diary.due(&section, back), Some(Job::Full));
        diary.failed(Job::Full, back);
        assert_eq!(diary.due(&section, TimeMs(back.0 + 59_000)), None);
        assert_eq!(diary.due(&section, TimeMs(back.0 + 60_000)), Some(Job::Full));
        diary.succeeded(Job::Full, back);
        assert_eq!(Diary::open(path, back).due(&section, TimeMs(back.0 + 60_000)), None, "caught up once");
    }

    fn only(text: &str) -> AgentSection {
        let when = || When::parse(text).unwrap();
        AgentSection {
            full: when(),
            reconcile: when(),
            verify: when(),
            verify_data: when(),
            expire: when(),
            drill: when(),
            logical: when(),
            ..AgentSection::default()
        }
    }
}
