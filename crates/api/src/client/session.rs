//! A session: a lease that is kept alive as long as the program runs.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::etcdserverpb::lease_client::LeaseClient;
use crate::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};

use super::{CallError, Client, Repeat};

/// A live lease.
pub struct Session {
    /// The lease.
    pub lease: i64,
    ended: watch::Receiver<bool>,
}

impl Session {
    /// Grants a lease and begins to keep it alive.
    ///
    /// # Errors
    /// The lease was refused.
    pub async fn begin(client: &std::sync::Arc<Client>, ttl_secs: i64) -> Result<Session, CallError> {
        let request = LeaseGrantRequest { ttl: ttl_secs, id: 0 };
        let granted = client
            .call(None, Repeat::Write, request, |channel, request| async move {
                LeaseClient::new(channel).lease_grant(request).await
            })
            .await?;
        let (announce, ended) = watch::channel(false);
        let (client, lease) = (client.clone(), granted.id);
        tokio::spawn(async move {
            keep_alive(&client, lease, granted.ttl).await;
            let _ = announce.send(true);
        });
        Ok(Session { lease, ended })
    }

    /// Returns once the lease is gone.
    pub async fn ended(&mut self) {
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// Keeps a lease alive until it is gone, over as many connections as that takes.
async fn keep_alive(client: &Client, lease: i64, ttl_secs: i64) {
    let mut alive_until = tokio::time::Instant::now() + secs(ttl_secs);
    while tokio::time::Instant::now() < alive_until {
        if let Ok(channel) = client.channel(Some(alive_until)).await {
            let gone = keep_alive_once(client, channel, lease, &mut alive_until).await;
            if gone {
                return;
            }
        }
        client.forget().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Renews over one stream; true when the server says that the lease is gone.
async fn keep_alive_once(
    client: &Client,
    channel: tonic::transport::Channel,
    lease: i64,
    alive_until: &mut tokio::time::Instant,
) -> bool {
    let (sender, receiver) = mpsc::channel(1);
    let request = client.request(ReceiverStream::new(receiver));
    if sender.send(LeaseKeepAliveRequest { id: lease }).await.is_err() {
        return false;
    }
    let Ok(replies) = LeaseClient::new(channel).lease_keep_alive(request).await else { return false };
    let mut replies = replies.into_inner();
    while let Ok(Some(reply)) = replies.message().await {
        if reply.ttl <= 0 {
            return true;
        }
        *alive_until = tokio::time::Instant::now() + secs(reply.ttl);
        tokio::time::sleep(secs(reply.ttl) / 3).await;
        if sender.send(LeaseKeepAliveRequest { id: lease }).await.is_err() {
            return false;
        }
    }
    false
}

fn secs(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}
