//! `lock`: holds a named lock, for the time of a command or until a signal.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use eyrie_api::client::Session;

use super::recipe::{Place, leave, read, take_place, wait_turn};
use super::watch::exit_text;
use crate::cli::context::{Context, Link};
use crate::exit::{self, Done, Failure};
use crate::signal::interrupted;

/// `lock NAME [COMMAND …]`
pub(crate) async fn run(mut context: Context) -> Done {
    if context.parsed.args.is_empty() {
        return Err(Failure::args("lock takes a lock name argument and an optional command to execute"));
    }
    let link = context.connect().await?;
    let mut session = Session::begin(&link.client, context.parsed.int("ttl")).await?;
    let stop = interrupted();
    tokio::pin!(stop);
    let place = take_place(&link.client, &context.parsed.args[0], b"", session.lease).await?;
    tokio::select! {
        turn = wait_turn(&link.client, &place) => turn?,
        () = &mut stop => {
            leave(&link.client, &place, link.deadline()).await?;
            return Err(Failure::error("context canceled"));
        }
    }
    let held = read(&link.client, &place.key).await?;
    let revision = held.header.as_ref().map(|header| header.revision).unwrap_or_default();
    if held.kvs.is_empty() {
        return Err(Failure::error("mutex: session is expired"));
    }
    if context.parsed.args.len() > 1 {
        return execute(&link, &place, revision, context.parsed.args[1..].to_vec()).await;
    }
    link.printer.get(&held)?;
    tokio::select! {
        () = stop => Ok(leave(&link.client, &place, link.deadline()).await?),
        () = session.ended() => Err(Failure::error("session expired")),
    }
}

/// Runs the command under the lock, then lets the lock go; the command's exit status is passed on.
async fn execute(link: &Link, place: &Place, revision: i64, words: Vec<Vec<u8>>) -> Done {
    let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
    let shown = words[0].to_string_lossy().into_owned();
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("ETCD_LOCK_KEY", OsString::from_vec(place.key.to_vec()))
        .env("ETCD_LOCK_REV", revision.to_string())
        .stdin(std::process::Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    let left = leave(&link.client, place, link.deadline()).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(left?),
        Ok(Ok(status)) => Err(Failure::new(status.code().unwrap_or(exit::ERROR), exit_text(status))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound && !shown.contains('/') => {
            Err(Failure::error(format!("exec: \"{shown}\": executable file not found in $PATH")))
        }
        Ok(Err(error)) => Err(Failure::error(format!("fork/exec {shown}: {}", crate::go::os_error(&error)))),
        Err(error) => Err(Failure::error(error.to_string())),
    }
}
