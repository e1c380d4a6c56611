//! One watch stream, of which every answer is seen: for tests that look at more than events.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use eyrie_api::pb::watch_client::WatchClient;
use eyrie_api::pb::watch_request::RequestUnion;
use eyrie_api::pb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// How long a stream may be silent where something must come.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// An open stream.
pub struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watching {
    /// Opens a stream to the server at `host:port` on a connection of its own, and begins these watches on it.
    pub async fn begin(endpoint: &str, watches: Vec<WatchCreateRequest>) -> Result<Watching> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))?.connect().await?;
        let (requests, sent) = mpsc::channel(watches.len() + 16);
        for watch in watches {
            requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(watch)) }).await?;
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let answers = client.watch(ReceiverStream::new(sent)).await?.into_inner();
        Ok(Watching { requests, answers })
    }

    /// Asks how far the stream is.
    pub async fn ask_progress(&self) -> Result<()> {
        let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
        Ok(self.requests.send(WatchRequest { request_union: Some(ask) }).await?)
    }

    /// The next answer, of whatever kind; nothing is an error.
    pub async fn answer(&mut self) -> Result<WatchResponse> {
        match self.answer_within(SILENCE_MAX).await? {
            Some(answer) => Ok(answer),
            None => bail!("the stream is silent for {SILENCE_MAX:?}"),
        }
    }

    /// The next answer, if one comes in time.
    pub async fn answer_within(&mut self, limit: Duration) -> Result<Option<WatchResponse>> {
        match tokio::time::timeout(limit, self.answers.message()).await {
            Err(_) => Ok(None),
            Ok(answer) => {
                let answer = answer?.context("the server ended the stream")?;
                ensure!(!answer.canceled, "a watch was canceled: {answer:?}");
                Ok(Some(answer))
            }
        }
    }
}

/// A watch on every key that begins with this.
pub fn on_prefix(prefix: &str, start_revision: i64) -> WatchCreateRequest {
    let mut range_end = prefix.as_bytes().to_vec();
    if let Some(last) = range_end.last_mut() {
        *last += 1;
    }
    WatchCreateRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: range_end.into(),
        start_revision,
        ..Default::default()
    }
}
