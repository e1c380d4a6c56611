//! The agent: a tail that is never given up, with jobs beside it by schedule.
//!
//! ```text
//! tail (the archive's one writer) ◀── desk ── jobs: full, reconcile, verify, expire, drill, logical  (one at a time)
//!      └── news ─▶ status ─▶ /metrics, /healthz, /status        └── notices ─▶ webhook, command
//! ```
//! A tail that breaks is begun again after a pause, for as long as it takes; only what a person must settle ends the agent:
//! settings that can't be right, and another writer that has taken over.

mod config;
mod jobs;
mod notify;
mod pages;
mod schedule;
mod status;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::config::{AgentSection, Target};
pub use self::jobs::Job;
use self::jobs::{Diary, Told};
use self::notify::Notices;
pub use self::notify::{Notice, Severity};
use self::pages::Pages;
pub use self::schedule::{When, Zone};
pub use self::status::{State, Status};
use crate::bucket::{Bucket, Kind as BucketKind};
use crate::catalog::{ArchiveError, OpenOptions};
use crate::chance;
use crate::config::Config;
use crate::history::TimeMs;
use crate::limits::{SCHEDULE_TICK, STANDBY_EVERY, TAIL_RETRY_FIRST, TAIL_RETRY_MAX};
use crate::tail::orders::{self, Desk};
use crate::tail::run::Until;
use crate::take::{Backup, BackupError};
use crate::tell::{News, Tell};

/// How the agent begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begin {
    /// Where another agent is at work, wait until it is gone.
    pub standby: bool,
    /// Take the archive over from a writer that seems to be at work.
    pub take_over: bool,
    /// Go on behind damage in the catalogue.
    pub accept_damage: bool,
}

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// Another writer has taken over, or something else that a person must settle.
    #[error("{0}")]
    Ended(Box<BackupError>),
}

/// Runs the agent until `stop` ends. `ready` is called when the source is followed for the first time.
///
/// # Errors
/// See [`AgentError`]. What is recorded is safe.
pub async fn run(
    mut config: Config,
    begin: Begin,
    ready: impl Fn() + Send + Sync + 'static,
    tell: Tell,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AgentError> {
    config.check().map_err(AgentError::Refused)?;
    let archive = Bucket::open(&config.archive).map_err(|error| AgentError::Refused(error.to_string()))?;
    // the agent's own schedule has the say
    config.tail.full_every_hours = 0;
    let listener = TcpListener::bind(config.agent.listen).await.map_err(|error| {
        let listen = config.agent.listen;
        AgentError::Refused(format!(
            "can't listen on {listen}: {error}. Nothing was done. Next: name another address by `agent.listen`"
        ))
    })?;
    let status = Arc::new(Status::default());
    let stopped = Stopped::when(stop);
    let pages = Pages { status: status.clone(), healthy_lag: Duration::from_secs(config.agent.healthy_lag_secs) };
    let shown = tokio::spawn(pages::show(listener, pages, stopped.clone().wait()));
    let (notices, told) = Notices::begin(config.agent.notify.clone(), status.clone());
    let herald = Herald { notices, archive: archive.to_string(), status: status.clone() };
    let outcome = Agent { config, begin, archive, tell: heard(&tell, &herald, ready), herald, stopped }.serve().await;
    shown.abort();
    // what is waiting is still told, within reason
    let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
    outcome
}

struct Agent {
    config: Config,
    begin: Begin,
    archive: Bucket,
    tell: Tell,
    herald: Herald,
    stopped: Stopped,
}

/// News go to whoever watches, into the status, and as notices to those who must know.
fn heard(tell: &Tell, herald: &Herald, ready: impl Fn() + Send + Sync + 'static) -> Tell {
    let (tell, herald, once) = (tell.clone(), herald.clone(), std::sync::Once::new());
    Tell::new(move |news| {
        herald.status.hear(&news, TimeMs::now());
        match &news {
            News::Begun { .. } => once.call_once(&ready),
            News::Failed { what: "history", words } => herald.tell("history-broke", Severity::Critical, words.clone()),
            _ => {}
        }
        tell.news(news);
    })
}

impl Agent {
    async fn serve(self) -> Result<(), AgentError> {
        let mut pause = TAIL_RETRY_FIRST;
        let mut failing = false;
        let now = TimeMs::now();
        let mut diary = Diary::open(jobs::diary_path(&self.config, &self.archive), now);
        for job in Job::ALL {
            if diary.ran_at(job) < now {
                self.herald.status.remembered(job, diary.ran_at(job));
            }
        }
        loop {
            let began = std::time::Instant::now();
            let error = match self.follow(&mut diary).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if self.stopped.is() {
                return Ok(());
            }
            let words = error.to_string();
            self.herald.status.broke(words.clone());
            if let BackupError::Archive(ArchiveError::Busy { .. }) = error
                && self.begin.standby
            {
                self.rest(STANDBY_EVERY).await;
                continue;
            }
            if let BackupError::Archive(ArchiveError::Busy { .. } | ArchiveError::Foreign { .. }) = error {
                return Err(AgentError::Refused(words));
            }
            if is_for_a_person(&error) {
                self.herald.tell("agent-ended", Severity::Critical, words);
                return Err(AgentError::Ended(Box::new(error)));
            }
            if began.elapsed() > TAIL_RETRY_MAX {
                (pause, failing) = (TAIL_RETRY_FIRST, false);
            }
            if !std::mem::replace(&mut failing, true) {
                self.herald.tell("tail-broke", Severity::Warning, words.clone());
            }
            self.tell.warn(format!("the tail broke and is begun again in {} s: {words}", pause.as_secs()));
            self.rest(pause).await;
            pause = (pause * 2).min(TAIL_RETRY_MAX);
        }
    }

    /// One tail, and the jobs beside it.
    async fn follow(&self, diary: &mut Diary) -> Result<(), BackupError> {
        let backup = Backup::open(self.config.clone(), self.tell.clone()).await?;
        let backup = Backup { archive: self.archive.clone(), ..backup };
        let pin = Some(self.config.pin(&self.archive));
        let Begin { take_over, accept_damage, .. } = self.begin;
        let options = OpenOptions { take_over, accept_damage, pin };
        let (desk, mut orders) = orders::desk();
        let ended = self.stopped.clone().wait();
        let tail = backup.run_with(Until::Stopped, &options, Some(&mut orders), ended);
        tokio::select! {
            ended = tail => ended.map(drop),
            never = self.jobs(&backup, &desk, diary) => match never {},
        }
    }

    async fn jobs(&self, backup: &Backup, desk: &Desk, diary: &mut Diary) -> std::convert::Infallible {
        let status = &self.herald.status;
        loop {
            tokio::time::sleep(SCHEDULE_TICK).await;
            let began = TimeMs::now();
            let Some(job) = diary.due(&self.config.agent, began).filter(|_| status.now().running) else { continue };
            let outcome = jobs::run(job, backup, desk, status).await;
            match &outcome {
                Ok(told) => {
                    diary.succeeded(job, began);
                    self.tell_of(job, told);
                }
                Err(why) => {
                    diary.failed(job, TimeMs::now());
                    self.tell.warn(format!("{} failed and is tried again: {why}", job.word()));
                    self.herald.tell("job-failed", Severity::Warning, format!("{}: {why}", job.word()));
                }
            }
            if status.ended(job, outcome.map(drop), TimeMs::now()) {
                self.herald.tell("job-recovered", Severity::Info, format!("{} succeeds again", job.word()));
            }
        }
    }

    fn tell_of(&self, job: Job, told: &Told) {
        match told {
            Told::Nothing => {}
            Told::Verified(report) => {
                self.herald.status.verified(report);
                if report.is_damaged() {
                    let first = report.catalog.first().map(|one| one.what.clone());
                    let first =
                        first.or_else(|| report.damaged.first().map(|one| format!("{}: {}", one.path, one.what)));
                    let words = format!(
                        "{} found {} damaged files and {} faults of the catalogue, the first: {}. Next: eyrie backup verify",
                        job.word(),
                        report.damaged_files,
                        report.catalog.len(),
                        first.unwrap_or_else(|| report.notes.join("; "))
                    );
                    self.tell.warn(words.clone());
                    self.herald.tell("archive-damaged", Severity::Critical, words);
                }
            }
            Told::Drilled(drilled) => {
                self.herald.status.drilled(drilled);
                let (rpo, rto) = (drilled.rpo_ms as f64 / 1000.0, drilled.rto_ms as f64 / 1000.0);
                if drilled.ok {
                    let words =
                        format!("a restore of revision {} was tried: RPO {rpo:.1} s, RTO {rto:.1} s", drilled.revision);
                    self.tell.say(words);
                } else {
                    let words =
                        format!("a restore of revision {} was tried and failed: {}", drilled.revision, drilled.detail);
                    self.tell.warn(words.clone());
                    self.herald.tell("drill-failed", Severity::Critical, words);
                }
            }
            Told::Logical(ran) => {
                let deleted: Vec<&str> = ran.deleted.iter().map(|name| name.as_str()).collect();
                let deleted =
                    if deleted.is_empty() { String::new() } else { format!("; deleted {}", deleted.join(", ")) };
                self.tell.say(format!("logical backup {} is taken{deleted}", ran.name));
                if let Some(why) = &ran.kept_for {
                    let words = format!("old logical backups could not be deleted: {why}");
                    self.tell.warn(words.clone());
                    self.herald.tell("logical-retention-failed", Severity::Warning, words);
                }
                if !ran.failed.is_empty() {
                    let words = format!("logical backup {} lacks {}", ran.name, ran.failed.join("; "));
                    self.tell.warn(words.clone());
                    self.herald.tell("logical-incomplete", Severity::Warning, words);
                }
            }
            Told::Expired(outcome) => {
                self.herald.status.expired(outcome);
                if outcome.deleted > 0 {
                    self.tell.say(format!("retention deleted {} files", outcome.deleted));
                }
                if let Some(left) = outcome.left.first() {
                    let words = format!(
                        "{} files are locked, the first: {}: {}",
                        outcome.left.len(),
                        left.stored.path,
                        left.why
                    );
                    self.tell.warn(words);
                }
            }
        }
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stopped.clone().wait() => {}
        }
    }
}

/// Whether waiting does not help: the settings, another writer, a damaged catalogue.
fn is_for_a_person(error: &BackupError) -> bool {
    match error {
        BackupError::Config(_) | BackupError::Layout(_) | BackupError::Seal(_) => true,
        BackupError::Source(error) => !error.is_passing(),
        BackupError::Archive(ArchiveError::Bucket(error)) | BackupError::Bucket(error) => {
            error.kind == BucketKind::Config
        }
        BackupError::Archive(_) => true,
        _ => false,
    }
}

/// Tells those who must know.
#[derive(Debug, Clone)]
struct Herald {
    notices: Notices,
    archive: String,
    status: Arc<Status>,
}

impl Herald {
    fn tell(&self, event: &'static str, severity: Severity, text: String) {
        let (archive, host, at_ms) = (self.archive.clone(), chance::host().to_owned(), TimeMs::now().0);
        self.notices.tell(Notice { event, severity, text, archive, host, at_ms });
    }
}

/// That the agent is to end; many may wait for it.
#[derive(Debug, Clone)]
struct Stopped(watch::Receiver<bool>);

impl Stopped {
    fn when(stop: impl Future<Output = ()> + Send + 'static) -> Self {
        let (says, hears) = watch::channel(false);
        tokio::spawn(async move {
            stop.await;
            let _ = says.send(true);
            // those who wait later hear it too
            std::future::pending::<()>().await;
        });
        Self(hears)
    }

    fn is(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(mut self) {
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}
