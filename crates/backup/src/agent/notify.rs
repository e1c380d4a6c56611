//! Who is told: a webhook that gets JSON, or a program that gets the same on its standard input.
//!
//! Telling never holds up a backup: notices wait in a short queue, and what does not fit is counted and dropped.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;

use super::config::Target;
use super::status::Status;
use crate::limits::{NOTICE_ATTEMPTS, NOTICE_LIMIT, NOTICES_WAITING};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// A word for machines.
    pub event: &'static str,
    /// Whether somebody must do something.
    pub severity: Severity,
    /// In words.
    pub text: String,
    /// The archive's address.
    pub archive: String,
    /// The agent's machine.
    pub host: String,
    /// When: milliseconds since 1970.
    pub at_ms: u64,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It is well again, or was done.
    Info,
    /// It is tried again.
    Warning,
    /// Somebody must do something.
    Critical,
}

/// Where notices are handed in.
#[derive(Debug, Clone)]
pub(super) struct Notices {
    queue: mpsc::Sender<Notice>,
    status: Arc<Status>,
}

impl Notices {
    /// Begins to tell these. The task ends when nobody can hand in any more and all are told.
    pub(super) fn begin(targets: Vec<Target>, status: Arc<Status>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::channel(NOTICES_WAITING);
        let counted = status.clone();
        let task = tokio::spawn(async move {
            while let Some(notice) = waiting.recv().await {
                for target in &targets {
                    if let Err(why) = tell(target, &notice).await {
                        eprintln!("warning: a notice could not be delivered: {why}");
                        counted.notice_failed();
                    }
                }
            }
        });
        (Self { queue, status }, task)
    }

    /// Tells it as soon as may be.
    pub(super) fn tell(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            self.status.notice_failed();
        }
    }
}

async fn tell(target: &Target, notice: &Notice) -> Result<(), String> {
    let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
    let mut last = String::new();
    for attempt in 1..=NOTICE_ATTEMPTS {
        let outcome = match &target.webhook {
            None if target.webhook_from.is_none() => command(&target.command, &body, notice).await,
            _ => post(target, body.clone()).await,
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
        tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
    }
    Err(last)
}

async fn post(target: &Target, body: Vec<u8>) -> Result<(), String> {
    let secret;
    let (address, shown) = match (&target.webhook, &target.webhook_from) {
        (Some(address), _) => (address.as_str(), address.as_str()),
        (None, Some(source)) => {
            secret = source.resolve()?;
            (secret.reveal(), "the webhook")
        }
        (None, None) => return Err("no address is named".into()),
    };
    // an error of the client would quote the address, which may be a secret
    let failed = |error: reqwest::Error| format!("{shown}: {}", error.without_url());
    // the first one stays; whoever else installs the same loses nothing
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(NOTICE_LIMIT).build().map_err(failed)?;
    let request = client.post(address).header("content-type", "application/json").body(body);
    let answer = request.send().await.map_err(failed)?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("{shown} answered {}", answer.status())) }
}

/// Runs the program on a thread of its own, and ends it when it takes too long.
async fn command(command: &[String], body: &[u8], notice: &Notice) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("no program is named")?;
    let (program, arguments, body, event) = (program.clone(), arguments.to_vec(), body.to_vec(), notice.event);
    let run = move || {
        let failed = |error: std::io::Error| format!("{program}: {error}");
        let mut command = std::process::Command::new(&program);
        command.args(arguments).env("EYRIE_EVENT", event).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // shorter than what a pipe holds; a program that does not read it is none the worse
            let _ = input.write_all(&body);
        }
        let began = Instant::now();
        loop {
            match child.try_wait().map_err(failed)? {
                Some(ended) if ended.success() => return Ok(()),
                Some(ended) => return Err(format!("{program} ended with {ended}")),
                None if began.elapsed() > NOTICE_LIMIT => {
                    let _ = child.kill().and_then(|()| child.wait());
                    return Err(format!("{program} did not end within {} s, and was killed", NOTICE_LIMIT.as_secs()));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    };
    tokio::task::spawn_blocking(run).await.map_err(|error| error.to_string())?
}
