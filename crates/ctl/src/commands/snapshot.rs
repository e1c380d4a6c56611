//! `snapshot save` (from a server) and the deprecated `snapshot status` and `restore` (files: another program's work).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

use eyrie_api::client::{CallError, Client, Deadline};
use eyrie_api::etcdserverpb::SnapshotRequest;
use eyrie_api::etcdserverpb::maintenance_client::MaintenanceClient;

use super::kv::REPLY_BYTES_MAX;
use crate::cli::context::Context;
use crate::exit::{self, Done, Failure};
use crate::go::{os_error, size};
use crate::screen::{error_line, line};
use crate::zaplog::{self, Logger};

/// Length of the checksum at the end of a snapshot.
const HASH_LEN: usize = 32;
/// A database is whole pages; the checksum is what goes beyond them.
const PAGE_PART: u64 = 512;

/// `snapshot save FILE`: all or nothing, readable by the owner only.
pub(crate) async fn save(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("snapshot save expects one argument"));
    }
    let config = context.config(Logger::Production)?;
    let path = PathBuf::from(OsString::from_vec(context.parsed.args[0].clone()));
    if config.endpoints.len() != 1 {
        let typed: Vec<&str> = config.endpoints.iter().map(|endpoint| endpoint.typed()).collect();
        let text = format!("snapshot must be requested to one selected node, not multiple [{}]", typed.join(" "));
        return Err(Failure::new(exit::INTERRUPTED, text));
    }
    let link = context.connect_with(config).await?;
    let deadline = context.parsed.changed("command-timeout").then(|| link.deadline()).flatten();
    fetch(&link.client, deadline, &path).await.map_err(|text| Failure::new(exit::INTERRUPTED, text))?;
    line(format!("Snapshot saved at {}", path.display()));
    Ok(())
}

/// Streams a snapshot into `path` by way of `path.part`.
async fn fetch(client: &Client, deadline: Deadline, path: &Path) -> Result<(), String> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let shown = part.display().to_string();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(|error| format!("could not open {shown} (open {shown}: {})", os_error(&error)))?;
    zaplog::command("info", "snapshot/v3_snapshot.go:68", "created temporary db file", &[("path", &shown)]);
    let work = receive(client, deadline, file);
    let began = Instant::now();
    let received = match deadline {
        None => work.await,
        Some(at) => tokio::time::timeout_at(at, work).await.unwrap_or_else(|_| Err("context deadline exceeded".into())),
    };
    let endpoint = client.endpoints()[0].typed();
    let stored = received.and_then(|len| {
        zaplog::command(
            "info",
            "snapshot/v3_snapshot.go:91",
            "fetched snapshot",
            &[("endpoint", endpoint), ("size", &size::bytes(len)), ("took", &size::ago(began.elapsed()))],
        );
        settle(&part, path)
    });
    if stored.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    stored?;
    zaplog::command("info", "snapshot/v3_snapshot.go:100", "saved", &[("path", &path.display().to_string())]);
    Ok(())
}

/// Writes the stream to `file` and syncs it; returns its length. The checksum at its end must be right.
async fn receive(client: &Client, deadline: Deadline, mut file: File) -> Result<u64, String> {
    let channel = client.channel(deadline).await.map_err(|error| {
        zaplog::client(
            "error",
            "v3/retry_interceptor.go:135",
            "streamer failed to create ClientStream",
            &[("error", &error.wire_text())],
        );
        error.text()
    })?;
    let mut maintenance = MaintenanceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    let refused = |status| {
        let error = CallError::from(status);
        zaplog::client(
            "warn",
            "v3/maintenance.go:221",
            "failed to receive from snapshot stream; closing",
            &[("error", &error.wire_text())],
        );
        error.text()
    };
    let opened = maintenance.snapshot(client.request(SnapshotRequest {})).await;
    zaplog::client("info", "v3/maintenance.go:211", "opened snapshot stream; downloading", &[]);
    zaplog::command(
        "info",
        "snapshot/v3_snapshot.go:76",
        "fetching snapshot",
        &[("endpoint", client.endpoints()[0].typed())],
    );
    let mut stream = opened.map_err(refused)?.into_inner();
    let (mut hasher, mut tail, mut len) = (Sha256::new(), Vec::new(), 0u64);
    while let Some(chunk) = stream.message().await.map_err(refused)? {
        file.write_all(&chunk.blob).map_err(|error| format!("could not write the snapshot ({error})"))?;
        len += chunk.blob.len() as u64;
        // The last bytes are held back: they are the checksum of the others.
        tail.extend_from_slice(&chunk.blob);
        let known = tail.len().saturating_sub(HASH_LEN);
        hasher.update(&tail[..known]);
        tail.drain(..known);
    }
    zaplog::client("info", "v3/maintenance.go:219", "completed snapshot read; closing", &[]);
    if len % PAGE_PART != HASH_LEN as u64 {
        return Err(format!("sha256 checksum not found [bytes: {len}]"));
    }
    if hasher.finalize().as_slice() != tail {
        return Err("the snapshot's checksum does not match its content: nothing was saved; run the command again, \
                    and look at the member's disk if it happens twice"
            .into());
    }
    file.sync_all().map_err(|error| format!("could not sync the snapshot ({error})"))?;
    Ok(len)
}

/// Gives the finished file its name, durably.
fn settle(part: &Path, path: &Path) -> Result<(), String> {
    std::fs::rename(part, path)
        .map_err(|error| format!("could not rename {} to {} ({error})", part.display(), path.display()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| format!("could not sync the directory {} ({error})", parent.display()))
}

/// `snapshot status FILE`: handed to `etcdutl`.
pub(crate) async fn status(context: Context) -> Done {
    error_line("Deprecated: Use `etcdutl snapshot status` instead.\n");
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("snapshot status requires exactly one argument"));
    }
    context.printer()?;
    let mut words = vec!["snapshot".into(), "status".into()];
    words.extend(["-w".into(), context.parsed.text("write-out").into()]);
    hand_over(&context, words)
}

/// `snapshot restore FILE`: handed to `etcdutl`.
pub(crate) async fn restore(context: Context) -> Done {
    error_line("Deprecated: Use `etcdutl snapshot restore` instead.\n");
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("snapshot restore requires exactly one argument"));
    }
    let mut words: Vec<OsString> = vec!["snapshot".into(), "restore".into()];
    for flag in context.found.command().flags {
        if context.parsed.changed(flag.name) {
            let mut word = format!("--{}=", flag.name).into_bytes();
            word.extend(context.parsed.bytes(flag.name));
            words.push(OsString::from_vec(word));
        }
    }
    hand_over(&context, words)
}

fn hand_over(context: &Context, mut words: Vec<OsString>) -> Done {
    words.push("--".into());
    words.push(OsString::from_vec(context.parsed.args[0].clone()));
    match (context.local)(words) {
        0 => Ok(()),
        code => Err(Failure::silent(code)),
    }
}
