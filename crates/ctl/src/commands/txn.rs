//! `txn`: reads comparisons and operations from standard input, sends them as one transaction.

use std::io::BufRead;

use eyrie_api::client::Repeat;
use eyrie_api::etcdserverpb::TxnRequest;
use eyrie_api::etcdserverpb::kv_client::KvClient;

use super::kv::REPLY_BYTES_MAX;
use super::txn_input::{comparison, operation};
use crate::cli::context::Context;
use crate::exit::{self, Done, Failure};
use crate::screen::line;

/// `txn`
pub(crate) async fn run(mut context: Context) -> Done {
    if !context.parsed.args.is_empty() {
        return Err(Failure::args("txn command does not accept argument"));
    }
    let link = context.connect().await?;
    let interactive = context.parsed.bool("interactive");
    let prompt = |text: &str| {
        if interactive {
            line(text);
        }
    };
    prompt("compares:");
    let compare = section(comparison)?;
    prompt("success requests (get, put, del):");
    let success = section(operation)?;
    prompt("failure requests (get, put, del):");
    let failure = section(operation)?;
    // A transaction that only reads could be sent again; upstream sends none twice, and so do we.
    let reply = link
        .client
        .call(None, Repeat::Write, TxnRequest { compare, success, failure }, |channel, request| async move {
            KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).txn(request).await
        })
        .await?;
    link.printer.txn(&reply)
}

/// Reads lines up to an empty one.
fn section<T>(one: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let mut read = Vec::new();
    loop {
        let mut text = Vec::new();
        std::io::stdin()
            .lock()
            .read_until(b'\n', &mut text)
            .map_err(|error| Failure::new(exit::INVALID_INPUT, error.to_string()))?;
        if text.last() != Some(&b'\n') {
            return Err(Failure::new(exit::INVALID_INPUT, "EOF"));
        }
        let text = String::from_utf8_lossy(&text);
        match text.trim() {
            "" => return Ok(read),
            text => read.push(one(text)?),
        }
    }
}
