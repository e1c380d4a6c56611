//! `lease grant`, `revoke`, `timetolive`, `list`, `keep-alive`.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use eyrie_api::client::{CallError, Client, Repeat};
use eyrie_api::etcdserverpb::lease_client::LeaseClient;
use eyrie_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};

use super::kv::REPLY_BYTES_MAX;
use crate::cli::context::{Context, Link};
use crate::exit::{self, Done, Failure};
use crate::go::number;
use crate::screen::line;

/// `lease grant TTL`
pub(crate) async fn grant(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("lease grant command needs TTL argument"));
    }
    let ttl = number::parse_int(&context.parsed.arg(0), 10).map_err(|why| Failure::args(format!("bad TTL ({why})")))?;
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, LeaseGrantRequest { ttl, id: 0 }, |channel, request| async move {
            LeaseClient::new(channel).lease_grant(request).await
        })
        .await
        .map_err(|error| Failure {
            note: error.note(),
            ..Failure::error(format!("failed to grant lease ({})", error.text()))
        })?;
    link.printer.grant(&reply)
}

/// `lease revoke ID`
pub(crate) async fn revoke(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("lease revoke command needs 1 argument"));
    }
    let id = lease_id(&context)?;
    let link = context.connect().await?;
    let reply = link
        .client
        .call(link.deadline(), Repeat::Write, LeaseRevokeRequest { id }, |channel, request| async move {
            LeaseClient::new(channel).lease_revoke(request).await
        })
        .await
        .map_err(|error| Failure {
            note: error.note(),
            ..Failure::error(format!("failed to revoke lease ({})", error.text()))
        })?;
    link.printer.revoke(id, &reply)
}

/// `lease timetolive ID`
pub(crate) async fn time_to_live(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("lease timetolive command needs lease ID as argument"));
    }
    let keys = context.parsed.bool("keys");
    let link = context.connect().await?;
    let request = LeaseTimeToLiveRequest { id: lease_id(&context)?, keys };
    let reply = link
        .client
        .call(None, Repeat::Read, request, |channel, request| async move {
            LeaseClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).lease_time_to_live(request).await
        })
        .await
        .map_err(|error| Failure::new(exit::BAD_CONNECTION, error.text()))?;
    link.printer.time_to_live(&reply, keys)
}

/// `lease list`
pub(crate) async fn list(mut context: Context) -> Done {
    let link = context.connect().await?;
    let reply = link
        .client
        .call(None, Repeat::Read, LeaseLeasesRequest {}, |channel, request| async move {
            LeaseClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).lease_leases(request).await
        })
        .await
        .map_err(|error| Failure::new(exit::BAD_CONNECTION, error.text()))?;
    link.printer.leases(&reply)
}

/// `lease keep-alive ID`
pub(crate) async fn keep_alive(mut context: Context) -> Done {
    if context.parsed.args.len() != 1 {
        return Err(Failure::args("lease keep-alive command needs lease ID as argument"));
    }
    let id = lease_id(&context)?;
    let link = context.connect().await?;
    if context.parsed.bool("once") {
        return match renew_once(&link.client, id).await? {
            Some(reply) => link.printer.keep_alive(&reply),
            None => Err(Failure::new(exit::BAD_CONNECTION, "etcdserver: requested lease not found")),
        };
    }
    keep_on(&link, id).await?;
    line(format!("lease {id:016x} expired or revoked."));
    Ok(())
}

/// Renews a lease once; `None` when there is no such lease.
async fn renew_once(client: &Client, id: i64) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
    loop {
        let channel = client.channel(None).await?;
        match open(client, channel, id).await {
            Ok((_sender, mut replies)) => {
                if let Ok(Some(reply)) = replies.message().await {
                    return Ok((reply.ttl > 0).then_some(reply));
                }
            }
            Err(error) if is_final(&error) => {
                return Err(Failure::new(exit::BAD_CONNECTION, CallError::from(error).text()));
            }
            Err(_) => {}
        }
        pause(client).await;
    }
}

/// Renews a lease every third of its time until it is gone; shows each renewal.
async fn keep_on(link: &Link, id: i64) -> Done {
    loop {
        let channel = link.client.channel(None).await?;
        match open(&link.client, channel, id).await {
            Ok((sender, mut replies)) => {
                while let Ok(Some(reply)) = replies.message().await {
                    if reply.ttl <= 0 {
                        return Ok(());
                    }
                    link.printer.keep_alive(&reply)?;
                    tokio::time::sleep(Duration::from_secs(reply.ttl as u64) / 3).await;
                    if sender.send(LeaseKeepAliveRequest { id }).await.is_err() {
                        break;
                    }
                }
            }
            Err(error) if is_final(&error) => return Ok(()),
            Err(_) => {}
        }
        pause(&link.client).await;
    }
}

type Renewals = (mpsc::Sender<LeaseKeepAliveRequest>, tonic::Streaming<LeaseKeepAliveResponse>);

/// Opens a stream and sends the first renewal.
async fn open(client: &Client, channel: Channel, id: i64) -> Result<Renewals, tonic::Status> {
    let (sender, receiver) = mpsc::channel(1);
    // The queue holds one and is empty: this cannot fail.
    let _ = sender.try_send(LeaseKeepAliveRequest { id });
    let request = client.request(ReceiverStream::new(receiver));
    let replies = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
    Ok((sender, replies))
}

/// Whether trying again is of no use.
fn is_final(error: &tonic::Status) -> bool {
    !matches!(error.code(), tonic::Code::Unavailable | tonic::Code::Internal | tonic::Code::Unknown)
}

/// Chooses another endpoint after a short pause.
async fn pause(client: &Client) {
    client.forget().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn lease_id(context: &Context) -> Result<i64, Failure> {
    number::parse_int(&context.parsed.arg(0), 16)
        .map_err(|why| Failure::args(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}
