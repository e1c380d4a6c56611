//! `get`, `put`, `del`, `compaction`.

use eyrie_api::client::Repeat;
use eyrie_api::etcdserverpb::CompactionRequest;
use eyrie_api::etcdserverpb::kv_client::KvClient;

use super::range;
use crate::cli::context::Context;
use crate::exit::{Done, Failure};
use crate::go::number;
use crate::screen::line;

/// Answers may be as large as the server makes them.
pub(crate) const REPLY_BYTES_MAX: usize = usize::MAX;

/// `get KEY [END]`
pub(crate) async fn get(mut context: Context) -> Done {
    let request = range::get(&context.parsed)?;
    let mut link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Read, request, |channel, request| async move {
            KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).range(request).await
        })
        .await?;
    if context.parsed.bool("count-only") && link.printer.format() != "fields" {
        return Err(Failure::args("--count-only is only for `--write-out=fields`"));
    }
    if context.parsed.bool("print-value-only") {
        if link.printer.format() != "simple" {
            return Err(Failure::args("print-value-only is only for `--write-out=simple`"));
        }
        link.printer.set_value_only();
    }
    link.printer.get(&reply)
}

/// `put KEY [VALUE]`
pub(crate) async fn put(mut context: Context) -> Done {
    let request = range::put(&context.parsed, std::io::stdin().lock())?;
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, request, |channel, request| async move {
            KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).put(request).await
        })
        .await?;
    link.printer.put(&reply)
}

/// `del KEY [END]`
pub(crate) async fn del(mut context: Context) -> Done {
    let request = range::del(&context.parsed)?;
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, request, |channel, request| async move {
            KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).delete_range(request).await
        })
        .await?;
    link.printer.del(&reply)
}

/// `compaction REVISION`
pub(crate) async fn compaction(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("compaction command needs 1 argument"));
    }
    let revision = number::parse_int(&context.parsed.arg(0), 10).map_err(Failure::error)?;
    let request = CompactionRequest { revision, physical: context.parsed.bool("physical") };
    let link = context.connect().await?;
    link.client
        .call(link.deadline(), Repeat::Write, request, |channel, request| async move {
            KvClient::new(channel).compact(request).await
        })
        .await?;
    line(format!("compacted revision {revision}"));
    Ok(())
}
