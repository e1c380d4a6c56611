//! `watch`: events as they happen, over as many connections as that takes.
//!
//! One stream carries all watches. When it breaks, each watch goes on at the revision after the last one it saw.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use eyrie_api::client::{CallError, Client};
use eyrie_api::etcdserverpb::watch_client::WatchClient;
use eyrie_api::etcdserverpb::watch_request::RequestUnion;
use eyrie_api::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

use super::kv::REPLY_BYTES_MAX;
use super::range::prefix_range;
use super::txn_input;
use super::watch_args::{Environment, split};
use crate::cli::context::{Context, Link};
use crate::cli::flag::{self, Flag, HELP, Parsed};
use crate::cli::tree;
use crate::exit::{self, Done, Failure};
use crate::go::quote::quote;
use crate::screen::{error_line, line};

/// Requests that may wait for a stream.
const REQUESTS_MAX: usize = 16;
/// Pause before a broken stream is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// One watch: what was asked, where it stands, what to run.
struct Watch {
    create: WatchCreateRequest,
    exec: Vec<Vec<u8>>,
}

/// `watch`
pub(crate) async fn run(mut context: Context) -> Done {
    let environment = Environment::read()?;
    if context.parsed.bool("interactive") {
        return interactive(context, environment).await;
    }
    let words = split(&context.parsed, &environment)?;
    let link = context.connect().await?;
    let create = create_request(&words.keys, &context.parsed).map_err(Failure::args)?;
    let (_keep, requests) = mpsc::channel(1);
    serve(&link, requests, vec![Watch { create, exec: words.exec }]).await?;
    Err(Failure::new(exit::INTERRUPTED, "watch is canceled by the server"))
}

/// What a line of the interactive mode asks for.
enum Ask {
    Watch(Box<Watch>),
    Progress,
}

async fn interactive(mut context: Context, environment: Environment) -> Done {
    let link = context.connect().await?;
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let mut lines = stdin_lines();
    let reading = async {
        while let Some(text) = lines.recv().await {
            if let Some(ask) = understand(&text, &environment)? {
                // The server half ends only with an error, which is returned below.
                let _ = sender.send(ask).await;
            }
        }
        Err(Failure::new(exit::INVALID_INPUT, "error reading watch request line: EOF"))
    };
    tokio::select! {
        ended = reading => ended,
        ended = serve(&link, requests, Vec::new()) => ended,
    }
}

/// Lines of standard input, read by a thread of their own.
fn stdin_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(REQUESTS_MAX);
    std::thread::spawn(move || {
        let mut text = String::new();
        while std::io::stdin().read_line(&mut text).is_ok_and(|_| text.ends_with('\n')) {
            let whole = std::mem::take(&mut text);
            if sender.blocking_send(whole.trim_end_matches('\n').to_owned()).is_err() {
                return;
            }
        }
    });
    lines
}

/// Reads one interactive line; complains on standard error about what is no request.
fn understand(text: &str, environment: &Environment) -> Result<Option<Ask>, Failure> {
    let words = txn_input::words(text)?;
    match words.first().map(Vec::as_slice) {
        None => error_line(format!("Invalid command: {text} (watch and progress supported)")),
        Some(b"progress") => return Ok(Some(Ask::Progress)),
        Some(b"watch") if words.len() < 2 && environment.key.is_empty() => {
            error_line(format!("Invalid command {text} (command type or key is not provided)"));
        }
        Some(b"watch") => {
            let command = tree::by_name("watch").map(|command| command.flags).unwrap_or_default();
            let flags: Vec<&'static Flag> = command.iter().chain([&HELP]).collect();
            let parsed = flag::parse(&flags, &words[1..]).map_err(Failure::args)?;
            let split = split(&parsed, environment)?;
            match create_request(&split.keys, &parsed) {
                Ok(create) => return Ok(Some(Ask::Watch(Box::new(Watch { create, exec: split.exec })))),
                Err(why) => error_line(format!("Invalid command {text} ({why})")),
            }
        }
        Some(_) => error_line(format!("Invalid command {text} (only support watch)")),
    }
    Ok(None)
}

fn create_request(keys: &[Vec<u8>], parsed: &Parsed) -> Result<WatchCreateRequest, String> {
    let prefix = parsed.bool("prefix");
    if keys.len() == 2 && prefix {
        return Err("`range_end` and `--prefix` are mutually exclusive".into());
    }
    let (key, range_end) = match keys {
        [key, end] => (key.clone().into(), end.clone().into()),
        [key, ..] if prefix => prefix_range(key),
        [key, ..] => (key.clone().into(), Default::default()),
        [] => return Err("bad number of arguments".into()),
    };
    Ok(WatchCreateRequest {
        key,
        range_end,
        start_revision: parsed.int("rev"),
        progress_notify: parsed.bool("progress-notify"),
        prev_kv: parsed.bool("prev-kv"),
        ..WatchCreateRequest::default()
    })
}

/// Serves watches until the last of those given at the start is cancelled; new ones may be asked for meanwhile.
async fn serve(link: &Link, mut requests: mpsc::Receiver<Ask>, mut watches: Vec<Watch>) -> Done {
    let ends_when_idle = !watches.is_empty();
    loop {
        // A server answers a stream only after its first request.
        while watches.is_empty() {
            match requests.recv().await {
                Some(Ask::Watch(watch)) => watches.push(*watch),
                Some(Ask::Progress) => {}
                None => return Ok(()),
            }
        }
        let (sender, stream) = open(&link.client, &watches).await?;
        let waiting = std::mem::take(&mut watches).into();
        let mut live = Live { sender, stream, created: HashMap::new(), waiting };
        loop {
            tokio::select! {
                Some(ask) = requests.recv() => match ask {
                    Ask::Watch(watch) => live.ask(*watch).await,
                    Ask::Progress => live.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await,
                },
                message = live.stream.message() => match message {
                    Ok(Some(response)) => {
                        live.handle(link, response).await?;
                        if ends_when_idle && live.is_idle() {
                            return Ok(());
                        }
                    }
                    Ok(None) => break,
                    Err(status) if is_final(&status) => {
                        error_line(format!("watch was canceled ({})", CallError::from(status).text()));
                        return if ends_when_idle { Ok(()) } else { Err(Failure::silent(exit::INTERRUPTED)) };
                    }
                    Err(_) => break,
                },
            }
        }
        watches = live.into_watches();
        link.client.forget().await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether another connection would not help.
fn is_final(status: &tonic::Status) -> bool {
    !matches!(status.code(), Code::Unavailable | Code::Internal | Code::Unknown | Code::Cancelled)
}

type Opened = (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>);

/// Opens a stream, on whichever endpoint has one, and asks for the watches.
async fn open(client: &Arc<Client>, watches: &[Watch]) -> Result<Opened, Failure> {
    loop {
        let channel = client.channel(None).await?;
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX + watches.len());
        for watch in watches {
            let request_union = Some(RequestUnion::CreateRequest(watch.create.clone()));
            // The queue is empty and has room for all: this cannot fail.
            let _ = sender.try_send(WatchRequest { request_union });
        }
        let request = client.request_with_leader(ReceiverStream::new(receiver));
        match WatchClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).watch(request).await {
            Ok(response) => return Ok((sender, response.into_inner())),
            Err(status) if is_final(&status) => return Err(CallError::from(status).into()),
            Err(_) => {
                client.forget().await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// An open stream and the watches on it.
struct Live {
    sender: mpsc::Sender<WatchRequest>,
    stream: Streaming<WatchResponse>,
    created: HashMap<i64, Watch>,
    /// Asked for, in order; the server answers in that order.
    waiting: VecDeque<Watch>,
}

impl Live {
    async fn ask(&mut self, watch: Watch) {
        self.send(RequestUnion::CreateRequest(watch.create.clone())).await;
        self.waiting.push_back(watch);
    }

    async fn send(&self, request: RequestUnion) {
        // A closed stream shows when it is read next.
        let _ = self.sender.send(WatchRequest { request_union: Some(request) }).await;
    }

    fn is_idle(&self) -> bool {
        self.created.is_empty() && self.waiting.is_empty()
    }

    fn into_watches(self) -> Vec<Watch> {
        let mut created: Vec<(i64, Watch)> = self.created.into_iter().collect();
        created.sort_by_key(|(id, _)| *id);
        created.into_iter().map(|(_, watch)| watch).chain(self.waiting).collect()
    }

    /// Shows one response and moves its watch on.
    async fn handle(&mut self, link: &Link, response: WatchResponse) -> Done {
        if response.created {
            let watch = self.waiting.pop_front();
            if !response.canceled {
                self.created.extend(watch.map(|watch| (response.watch_id, watch)));
                return Ok(());
            }
        }
        if response.canceled {
            let watch = self.created.remove(&response.watch_id);
            error_line(format!("watch was canceled ({})", cancel_text(&response)));
            link.printer.watch(&response)?;
            drop(watch);
            return Ok(());
        }
        let is_progress = response.events.is_empty() && response.compact_revision == 0;
        // A progress answer with id -1 speaks to every watch.
        let times = if response.watch_id == -1 { self.created.len() } else { 1 };
        for _ in 0..times {
            if is_progress {
                let revision = response.header.as_ref().map(|header| header.revision).unwrap_or_default();
                line(format!("progress notify: {revision}"));
            }
            link.printer.watch(&response)?;
        }
        if let Some(watch) = self.created.get_mut(&response.watch_id) {
            let seen = response.header.as_ref().map(|header| header.revision).unwrap_or_default();
            let last = response.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
            watch.create.start_revision = last.unwrap_or(seen) + 1;
            if !watch.exec.is_empty() {
                execute_all(&watch.exec, &response).await?;
            }
        }
        Ok(())
    }
}

fn cancel_text(response: &WatchResponse) -> String {
    match (response.compact_revision, response.cancel_reason.as_str()) {
        (0, "") => "etcdserver: mvcc: required revision is a future revision".into(),
        (0, reason) => reason.into(),
        _ => "etcdserver: mvcc: required revision has been compacted".into(),
    }
}

/// Runs the command once per event, one after the other.
async fn execute_all(exec: &[Vec<u8>], response: &WatchResponse) -> Done {
    let revision = response.header.as_ref().map(|header| header.revision).unwrap_or_default();
    for event in &response.events {
        let kv = event.kv.clone().unwrap_or_default();
        let words: Vec<OsString> = exec.iter().cloned().map(OsString::from_vec).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("ETCD_WATCH_REVISION", revision.to_string())
            .env("ETCD_WATCH_EVENT_TYPE", quote(event.r#type().as_str_name().as_bytes()))
            .env("ETCD_WATCH_KEY", quote(&kv.key))
            .env("ETCD_WATCH_VALUE", quote(&kv.value))
            .stdin(std::process::Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.status()).await;
        let trouble = match ended {
            Ok(Ok(status)) if status.success() => continue,
            Ok(Ok(status)) => exit_text(status),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let shown: Vec<String> = exec.iter().map(|word| quote(word)).collect();
        error_line(format!("command [{}] error ({trouble})", shown.join(" ")));
        return Err(Failure::silent(exit::ERROR));
    }
    Ok(())
}

/// How a child ended, as Go words it.
pub(crate) fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => status.to_string(),
    }
}
