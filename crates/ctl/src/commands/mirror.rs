//! `make-mirror`: copies a prefix to another cluster, then follows it.
//!
//! Leases and revisions are not copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use eyrie_api::client::{Address, CallError, Client, Config, Repeat, Tls, TlsFiles};
use eyrie_api::etcdserverpb::kv_client::KvClient;
use eyrie_api::etcdserverpb::request_op::Request;
use eyrie_api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use eyrie_api::mvccpb::event::EventType;

use super::kv::REPLY_BYTES_MAX;
use super::range::prefix_range;
use super::recipe::{Follow, txn};
use crate::cli::context::{Context, Link, user};
use crate::exit::{self, Done, Failure};
use crate::screen::line;
use crate::zaplog::Logger;

/// Keys read at a time.
const PAGE: i64 = 1000;
/// Pause between two reports of the count.
const REPORT: Duration = Duration::from_secs(30);

/// `make-mirror DESTINATION`
pub(crate) async fn run(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("make-mirror takes one destination argument"));
    }
    let names = Names::new(&context)?;
    let config = destination(&mut context)?;
    let link = context.connect().await?;
    let to = Client::new(config).await.map_err(|error| Failure::new(exit::BAD_CONNECTION, error.text()))?;
    let total = Arc::new(AtomicI64::new(0));
    let reported = total.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(REPORT).await;
            line(reported.load(Ordering::Relaxed).to_string());
        }
    });
    let revision = copy(&link, &to, &names, &total).await?;
    follow(&link, &to, &names, &total, revision + 1).await
}

/// How keys are renamed on the way.
struct Names {
    prefix: Vec<u8>,
    to: Vec<u8>,
}

impl Names {
    fn new(context: &Context) -> Result<Names, Failure> {
        let (prefix, to) = (context.parsed.bytes("prefix"), context.parsed.bytes("dest-prefix"));
        match (context.parsed.bool("no-dest-prefix"), to.is_empty()) {
            (true, false) => {
                Err(Failure::args("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one"))
            }
            (false, true) => Ok(Names { to: prefix.clone(), prefix }),
            _ => Ok(Names { prefix, to }),
        }
    }

    /// The key's name at the destination.
    fn renamed(&self, key: &[u8]) -> Bytes {
        match key.strip_prefix(self.prefix.as_slice()) {
            Some(rest) => [self.to.as_slice(), rest].concat().into(),
            None => Bytes::copy_from_slice(key),
        }
    }
}

fn destination(context: &mut Context) -> Result<Config, Failure> {
    let parsed = &context.parsed;
    let tls = Tls::read(&TlsFiles {
        cacert: parsed.text("dest-cacert"),
        cert: parsed.text("dest-cert"),
        key: parsed.text("dest-key"),
        insecure_transport: parsed.bool("dest-insecure-transport"),
        insecure_skip_verify: false,
    })
    .map_err(Failure::args)?;
    Ok(Config {
        endpoints: vec![Address::new(parsed.arg(0))],
        dial_timeout: parsed.duration("dial-timeout"),
        keepalive_time: parsed.duration("keepalive-time"),
        keepalive_timeout: parsed.duration("keepalive-timeout"),
        tls,
        user: user(&parsed.text("dest-user"), &parsed.text("dest-password"), "Destination Password: ")?,
        report: Logger::ClientDefault.report(),
    })
}

/// Copies all keys as of one revision, which it returns.
async fn copy(link: &Link, to: &Client, names: &Names, total: &AtomicI64) -> Result<i64, CallError> {
    let (mut key, range_end) = prefix_range(&names.prefix);
    let mut revision = 0;
    loop {
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit: PAGE,
            revision,
            serializable: revision != 0,
            ..RangeRequest::default()
        };
        let page = link
            .client
            .call(None, Repeat::Read, request, |channel, request| async move {
                KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).range(request).await
            })
            .await?;
        if revision == 0 {
            revision = page.header.as_ref().map(|header| header.revision).unwrap_or_default();
        }
        for kv in &page.kvs {
            let put = PutRequest { key: names.renamed(&kv.key), value: kv.value.clone(), ..PutRequest::default() };
            to.call(
                None,
                Repeat::Write,
                put,
                |channel, request| async move { KvClient::new(channel).put(request).await },
            )
            .await?;
            total.fetch_add(1, Ordering::Relaxed);
        }
        match page.kvs.last() {
            Some(last) if page.more => key = [last.key.as_ref(), b"\0"].concat().into(),
            _ => return Ok(revision),
        }
    }
}

/// Applies every later change; a revision of the source is one transaction at the destination.
async fn follow(link: &Link, to: &Client, names: &Names, total: &AtomicI64, start_revision: i64) -> Done {
    let (key, range_end) = prefix_range(&names.prefix);
    let create = WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
    let mut watch = Follow::begin(&link.client, create).await?;
    while let Some(response) = watch.next().await? {
        for operations in by_revision(names, response) {
            total.fetch_add(operations.len() as i64, Ordering::Relaxed);
            txn(to, TxnRequest { success: operations, ..TxnRequest::default() }).await?;
        }
    }
    Err(Failure::error("etcdserver: mvcc: required revision has been compacted"))
}

fn by_revision(names: &Names, response: WatchResponse) -> Vec<Vec<RequestOp>> {
    let mut groups: Vec<(i64, Vec<RequestOp>)> = Vec::new();
    for event in response.events {
        let is_put = event.r#type() == EventType::Put;
        let kv = event.kv.unwrap_or_default();
        let key = names.renamed(&kv.key);
        let request = if is_put {
            Request::RequestPut(PutRequest { key, value: kv.value, ..PutRequest::default() })
        } else {
            Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })
        };
        let operation = RequestOp { request: Some(request) };
        match groups.last_mut() {
            Some((revision, operations)) if *revision == kv.mod_revision => operations.push(operation),
            _ => groups.push((kv.mod_revision, vec![operation])),
        }
    }
    groups.into_iter().map(|(_, operations)| operations).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leading_prefix_is_renamed() {
        let names = Names { prefix: b"a/".to_vec(), to: b"b/".to_vec() };
        assert_eq!(names.renamed(b"a/x/a/"), "b/x/a/");
        let names = Names { prefix: b"a/".to_vec(), to: Vec::new() };
        assert_eq!(names.renamed(b"a/x"), "x");
    }
}
