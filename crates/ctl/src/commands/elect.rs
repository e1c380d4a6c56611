//! `elect`: stands for an election, or watches who leads.

use bytes::Bytes;

use eyrie_api::client::{CallError, Repeat, Session};
use eyrie_api::etcdserverpb::kv_client::KvClient;
use eyrie_api::etcdserverpb::{PutRequest, WatchCreateRequest};
use eyrie_api::mvccpb::event::EventType;

use super::range::prefix_end;
use super::recipe::{Follow, as_range, leave, oldest, read, take_place, wait_turn};
use crate::cli::context::{Context, Link};
use crate::exit::{Done, Failure};
use crate::signal::interrupted;

/// Life time of a candidate that vanished.
const TTL_SECS: i64 = 60;

/// `elect NAME [PROPOSAL]`
pub(crate) async fn run(mut context: Context) -> Done {
    let listen = context.parsed.bool("listen");
    match (context.parsed.args.len(), listen) {
        (1, false) => return Err(Failure::args("no proposal argument but -l not set")),
        (2, true) => return Err(Failure::args("proposal given but -l is set")),
        (1, true) | (2, false) => {}
        _ => {
            return Err(Failure::args("elect takes one election name argument and an optional proposal argument"));
        }
    }
    let link = context.connect().await?;
    let session = Session::begin(&link.client, TTL_SECS).await?;
    let name = context.parsed.args[0].clone();
    match context.parsed.args.get(1) {
        None => tokio::select! {
            ended = observe(&link, &name) => ended,
            () = interrupted() => Ok(()),
        },
        Some(proposal) => campaign(&link, session, &name, proposal).await,
    }
}

async fn campaign(link: &Link, mut session: Session, name: &[u8], proposal: &[u8]) -> Done {
    let stop = interrupted();
    tokio::pin!(stop);
    let place = take_place(&link.client, name, proposal, session.lease).await?;
    tokio::select! {
        turn = wait_turn(&link.client, &place) => turn?,
        () = &mut stop => {
            leave(&link.client, &place, None).await?;
            return Err(Failure::error("context canceled"));
        }
    }
    let mut won = read(&link.client, &place.key).await?;
    if won.kvs.first().is_some_and(|kv| kv.value != proposal) {
        proclaim(link, &place.key, proposal, session.lease).await?;
        won = read(&link.client, &place.key).await?;
    }
    link.printer.get(&won)?;
    tokio::select! {
        () = stop => Ok(leave(&link.client, &place, None).await?),
        () = session.ended() => Err(Failure::error("elect: session expired")),
    }
}

/// Says something else in an election that this session leads already.
async fn proclaim(link: &Link, key: &Bytes, proposal: &[u8], lease: i64) -> Result<(), CallError> {
    let request =
        PutRequest { key: key.clone(), value: Bytes::copy_from_slice(proposal), lease, ..PutRequest::default() };
    link.client
        .call(None, Repeat::Write, request, |channel, request| async move { KvClient::new(channel).put(request).await })
        .await
        .map(drop)
}

/// Shows every leader and every proclamation of it.
async fn observe(link: &Link, name: &[u8]) -> Done {
    let prefix = Bytes::from([name, b"/"].concat());
    loop {
        let found = oldest(&link.client, &prefix).await?;
        let revision = found.header.as_ref().map(|header| header.revision).unwrap_or_default();
        let (header, leader) = match found.kvs.into_iter().next() {
            Some(leader) => (found.header, leader),
            None => match first_candidate(link, &prefix, revision).await? {
                Some(found) => found,
                None => return Err(Failure::error("elect: observer lost")),
            },
        };
        let key = leader.key.clone();
        let start_revision = header.as_ref().map(|header| header.revision).unwrap_or_default() + 1;
        link.printer.get(&as_range(header, leader))?;
        let create = WatchCreateRequest { key, start_revision, ..WatchCreateRequest::default() };
        let mut watch = Follow::begin(&link.client, create).await?;
        'leads: loop {
            let Some(response) = watch.next().await? else {
                return Err(Failure::error("elect: observer lost"));
            };
            for event in response.events {
                if event.r#type() == EventType::Delete {
                    break 'leads;
                }
                link.printer.get(&as_range(response.header, event.kv.unwrap_or_default()))?;
            }
        }
    }
}

type Candidate = (Option<eyrie_api::etcdserverpb::ResponseHeader>, eyrie_api::mvccpb::KeyValue);

/// Waits for anybody to stand.
async fn first_candidate(link: &Link, prefix: &Bytes, revision: i64) -> Result<Option<Candidate>, CallError> {
    let create = WatchCreateRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        start_revision: revision,
        ..WatchCreateRequest::default()
    };
    let mut watch = Follow::begin(&link.client, create).await?;
    while let Some(response) = watch.next().await? {
        let put = response.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let Some(kv) = put.and_then(|event| event.kv) {
            let header = response.header.map(|mut header| {
                header.revision = kv.mod_revision;
                header
            });
            return Ok(Some((header, kv)));
        }
    }
    Ok(None)
}
