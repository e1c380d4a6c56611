//! `check perf` and `check datascale`: writes a known load, measures, deletes it again.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use eyrie_api::client::{Client, Repeat};
use eyrie_api::etcdserverpb::kv_client::KvClient;
use eyrie_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};

use super::maintenance::ask_defrag;
use super::range::prefix_range;
use crate::cli::context::{Context, Link};
use crate::exit::{self, Done, Failure};
use crate::go::quote::quote;
use crate::screen::line;
use crate::zaplog::Logger;

/// How long `check perf` writes.
const PERF_SECS: u64 = 60;
/// Limit of the work after the load.
const CLEANUP: Duration = Duration::from_secs(30);

/// One size of load.
struct Load {
    /// Writes a second (`perf`), or writes in all (`datascale`).
    limit: u64,
    clients: usize,
}

/// What happened to one write.
struct Outcome {
    took: Duration,
    error: Option<String>,
}

/// `check perf`
pub(crate) async fn perf(mut context: Context) -> Done {
    let load = load(&context, [(150, 50), (1000, 200), (8000, 500), (15_000, 1000)])?;
    let prefix = context.parsed.bytes("prefix");
    let link = context.connect().await?;
    refuse_keys(&link, &prefix).await?;
    let clients = clients(&mut context, &link, load.clients).await?;
    let ends = Instant::now() + Duration::from_secs(PERF_SECS);
    let (sender, puts) = mpsc::channel(load.clients);
    let (first, pause) = (Instant::now(), Duration::from_secs_f64(1.0 / load.limit as f64));
    let feed = {
        let prefix = prefix.clone();
        tokio::spawn(async move {
            for n in 0u32.. {
                let due = first + pause * n;
                if due >= ends {
                    return;
                }
                tokio::time::sleep_until(due).await;
                if sender.send(random_put(&prefix, 256, 1024)).await.is_err() {
                    return;
                }
            }
        })
    };
    let bar = tokio::spawn(async move {
        for second in 1..=PERF_SECS {
            tokio::time::sleep_until(first + Duration::from_secs(second)).await;
            progress(second, PERF_SECS);
        }
    });
    let outcomes = write(clients, puts).await;
    let took = first.elapsed();
    let _ = tokio::join!(feed, bar);
    clean_up(&context, &link, &prefix).await?;
    judge(&outcomes, took, load.limit)
}

/// Says what passed and what failed.
fn judge(outcomes: &[Outcome], took: Duration, limit: u64) -> Done {
    let mut good = errors(outcomes);
    let times: Vec<f64> = outcomes.iter().filter(|one| one.error.is_none()).map(|one| one.took.as_secs_f64()).collect();
    let rate = times.len() as f64 / took.as_secs_f64();
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    let deviation = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / times.len().max(1) as f64).sqrt();
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let mut say = |passed: bool, pass: String, fail: String| {
        line(if passed { pass } else { fail });
        good &= passed;
    };
    let shown = rate as i64 + 1;
    say(
        rate / limit as f64 > 0.9,
        format!("PASS: Throughput is {shown} writes/s"),
        format!("FAIL: Throughput too low: {shown} writes/s"),
    );
    say(
        slowest <= 0.5,
        format!("PASS: Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    );
    say(deviation <= 0.1, format!("PASS: Stddev is {deviation:.6}s"), format!("Stddev too high: {deviation:.6}s"));
    line(if good { "PASS" } else { "FAIL" });
    if good { Ok(()) } else { Err(Failure::silent(exit::ERROR)) }
}

/// Shows the errors of the load; true when there are none.
fn errors(outcomes: &[Outcome]) -> bool {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for error in outcomes.iter().filter_map(|one| one.error.as_deref()) {
        *kinds.entry(error).or_default() += 1;
    }
    if kinds.is_empty() {
        return true;
    }
    line("FAIL: too many errors");
    for (error, count) in kinds {
        line(format!("FAIL: ERROR({error}) -> {count}"));
    }
    false
}

/// `check datascale`
pub(crate) async fn datascale(mut context: Context) -> Done {
    let load = load(&context, [(10_000, 50), (100_000, 200), (1_000_000, 500), (3_000_000, 1000)])?;
    let prefix = context.parsed.bytes("prefix");
    let link = context.connect().await?;
    refuse_keys(&link, &prefix).await?;
    let clients = clients(&mut context, &link, load.clients).await?;
    let endpoint = link.client.endpoints()[0].clone();
    let unread = |when: &str| {
        line(format!("FAIL: Could not read process_resident_memory_bytes {when} the put operations."));
        Failure::silent(exit::ERROR)
    };
    let before = resident_bytes(endpoint.dialled()).ok_or_else(|| unread("before"))?;
    line(format!(
        "Start data scale check for work load [{} key-value pairs, 1024 bytes per key-value, {} concurrent clients].",
        load.limit, load.clients
    ));
    let (sender, puts) = mpsc::channel(load.clients);
    let feed = {
        let (prefix, limit) = (prefix.clone(), load.limit);
        tokio::spawn(async move {
            for n in 1..=limit {
                if sender.send(random_put(&prefix, 512, 512)).await.is_err() {
                    return;
                }
                if n % (limit / 100) == 0 {
                    progress(n, limit);
                }
            }
        })
    };
    let outcomes = write(clients, puts).await;
    let _ = feed.await;
    let after = resident_bytes(endpoint.dialled()).ok_or_else(|| unread("after"))?;
    clean_up(&context, &link, &prefix).await?;
    if !errors(&outcomes) {
        return Err(Failure::silent(exit::ERROR));
    }
    line(format!("PASS: Approximate system memory used : {:.2} MB.", (after - before) / 1_048_576.0));
    Ok(())
}

fn load(context: &Context, sizes: [(u64, usize); 4]) -> Result<Load, Failure> {
    let name = context.parsed.text("load");
    let (limit, clients) = match name.as_str() {
        "s" | "small" => sizes[0],
        "m" | "medium" => sizes[1],
        "l" | "large" => sizes[2],
        "xl" | "xLarge" => sizes[3],
        _ => return Err(Failure::new(exit::BAD_FEATURE, format!("unknown load option {name}"))),
    };
    Ok(Load { limit, clients })
}

/// Never writes among keys that are somebody's.
async fn refuse_keys(link: &Link, prefix: &[u8]) -> Done {
    let (key, range_end) = prefix_range(prefix);
    let request = RangeRequest { key, range_end, limit: 1, ..RangeRequest::default() };
    let reply = link
        .client
        .call(link.deadline(), Repeat::Read, request, |channel, request| async move {
            KvClient::new(channel).range(request).await
        })
        .await?;
    if reply.kvs.is_empty() {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(prefix);
    let text = format!("prefix {} has keys. Delete with 'etcdctl del --prefix {shown}' first", quote(prefix));
    Err(Failure::new(exit::INVALID_INPUT, text))
}

/// As many clients, each with a connection of its own.
async fn clients(context: &mut Context, link: &Link, count: usize) -> Result<Vec<Arc<Client>>, Failure> {
    let config = context.config(Logger::ClientDefault)?;
    let mut clients = vec![link.client.clone()];
    while clients.len() < count {
        clients.push(Arc::new(Client::new(config.clone()).await?));
    }
    Ok(clients)
}

/// Writes until the queue ends; every client takes what comes next.
async fn write(clients: Vec<Arc<Client>>, puts: mpsc::Receiver<PutRequest>) -> Vec<Outcome> {
    let puts = Arc::new(Mutex::new(puts));
    let mut writers = tokio::task::JoinSet::new();
    for client in clients {
        let puts = puts.clone();
        writers.spawn(async move {
            let mut outcomes = Vec::new();
            loop {
                let Some(put) = puts.lock().await.recv().await else { return outcomes };
                let began = Instant::now();
                let reply = client
                    .call(None, Repeat::Write, put, |channel, request| async move {
                        KvClient::new(channel).put(request).await
                    })
                    .await;
                outcomes.push(Outcome { took: began.elapsed(), error: reply.err().map(|error| error.text()) });
            }
        });
    }
    writers.join_all().await.into_iter().flatten().collect()
}

/// A key with a random name below the prefix.
fn random_put(prefix: &[u8], key_len: usize, value_len: usize) -> PutRequest {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let mut key = prefix.to_vec();
    key.extend_from_slice(&random.to_le_bytes());
    key.resize(prefix.len() + key_len, 0);
    PutRequest { key: key.into(), value: Bytes::from(vec![0; value_len]), ..PutRequest::default() }
}

/// Deletes the load, and on request compacts and defragments.
async fn clean_up(context: &Context, link: &Link, prefix: &[u8]) -> Done {
    let deadline = || Some(Instant::now() + CLEANUP);
    let (key, range_end) = prefix_range(prefix);
    let request = DeleteRangeRequest { key, range_end, prev_kv: false };
    let deleted = link
        .client
        .call(deadline(), Repeat::Write, request, |channel, request| async move {
            KvClient::new(channel).delete_range(request).await
        })
        .await?;
    let revision = deleted.header.map(|header| header.revision).unwrap_or_default();
    if context.parsed.bool("auto-compact") {
        line(format!("Compacting with revision {revision}"));
        let request = CompactionRequest { revision, physical: true };
        link.client
            .call(deadline(), Repeat::Write, request, |channel, request| async move {
                KvClient::new(channel).compact(request).await
            })
            .await?;
        line(format!("Compacted with revision {revision}"));
    }
    if context.parsed.bool("auto-defrag") {
        for endpoint in link.client.endpoints() {
            let shown = quote(endpoint.typed().as_bytes());
            line(format!("Defragmenting {shown}"));
            ask_defrag(&link.client.to_endpoint(endpoint.clone()), deadline()).await?;
            line(format!("Defragmented {shown}"));
        }
    }
    Ok(())
}

/// The server's resident memory, from its metrics page.
fn resident_bytes(authority: &str) -> Option<f64> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    };
    match fetch() {
        Ok(page) => page
            .lines()
            .find_map(|text| text.strip_prefix("process_resident_memory_bytes")?.trim().parse().ok())
            .or_else(|| {
                line("could not find: process_resident_memory_bytes");
                None
            }),
        Err(error) => {
            line(format!("fetch error: {error}"));
            None
        }
    }
}

/// A progress bar for whoever watches; nothing in a pipe.
fn progress(done: u64, all: u64) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let width = 40;
    let filled = (done * width / all.max(1)) as usize;
    let bar = format!("{}{}", "m".repeat(filled), " ".repeat(width as usize - filled));
    let end = if done == all { "\n" } else { "" };
    let _ = write!(stderr, "\r{done} / {all} B{bar}! {}%{end}", done * 100 / all.max(1));
    let _ = stderr.flush();
}
