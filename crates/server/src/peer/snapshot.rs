//! The whole tables, to a member that the log can't bring up to date, and from one.
//!
//! The sender reads one picture of its tables while writes go on. What arrives is built beside the receiver's tables and
//! takes their place only when it is whole; broken off, it begins again from the start.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use eyrie_api::peer::peer_client::PeerClient;
use eyrie_api::peer::{Hello, SnapshotPiece};
use eyrie_disk::step_aside;
use eyrie_disk::tables::View;
use eyrie_disk::transfer::{self, Incoming, TransferFault};
use eyrie_raft::{Membership, Message, SnapshotMark};
use eyrie_state::{Bucket, LogIndex, Member, Tables, Term, parse_member_json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Link, dial};
use crate::chores::Breath;
use crate::limits::SNAPSHOT_PIECES_WAITING_MAX;
use crate::node::{Item, Shared};
use crate::{log_info, log_warn};

/// Sends what the offer in `message` needs, and tells raft how it ended.
pub(super) async fn send(shared: Arc<Shared>, link: Arc<Link>, message: Message) {
    let peer = format!("{:x}", link.member);
    let sent = send_now(&shared, &link, message).await;
    match &sent {
        Ok(index) => log_info!("sent a snapshot of the store", "remote-peer-id" = &peer, "index" = index),
        Err(error) => {
            log_warn!("failed to send a snapshot; it is tried again", "remote-peer-id" = &peer, "error" = error);
        }
    }
    shared.inbox.put_from_peer(vec![Item::SnapshotSent { to: link.member, arrived: sent.is_ok() }]);
}

async fn send_now(shared: &Arc<Shared>, link: &Arc<Link>, message: Message) -> Result<u64, String> {
    let view = shared.state.read().tables().records();
    let mark = mark(&view)?;
    let message = message.with_snapshot(&mark).encode().map_err(|error| error.to_string())?;
    let first =
        SnapshotPiece { hello: Some(shared.peers.hello(link.member)), raft: message.into(), piece: Bytes::new() };
    let (give, take) = mpsc::channel(SNAPSHOT_PIECES_WAITING_MAX);
    give.send(first).await.map_err(|error| error.to_string())?;
    let mut breath = Breath::new(shared.clone());
    let reading = move || {
        // Clients' writes and heartbeats go first: at full speed only while nothing else is to do.
        step_aside();
        let piece = |piece| SnapshotPiece { piece, ..Default::default() };
        // When this ends early the end is missing, and the other side refuses what it has.
        transfer::send(&view, |bytes| {
            let len = bytes.len();
            let sent = give.blocking_send(piece(bytes)).is_ok();
            breath.worked(len);
            sent
        })
    };
    let reader = std::thread::Builder::new().name("snapshot-send".into()).spawn(reading);
    let reader = reader.map_err(|error| format!("can't start a thread: {error}"))?;
    let channel = dial::endpoint().connect_with_connector(dial::connector(shared.peers.tls(), link.clone())).await;
    let channel = channel.map_err(|error| dial::chain(&error))?;
    let answer = PeerClient::new(channel).snapshot(ReceiverStream::new(take)).await;
    let read = tokio::task::spawn_blocking(move || reader.join()).await;
    match (answer, read) {
        (Ok(_), _) => Ok(mark.index),
        (Err(_), Ok(Ok(Err(fault @ TransferFault::Tables(_))))) => Err(fault.to_string()),
        (Err(status), _) => Err(status.message().to_owned()),
    }
}

/// What a picture of the tables stands for. Who belongs to the cluster is what its rows say.
fn mark(view: &View) -> Result<SnapshotMark, String> {
    let (index, term) = view.applied();
    let mut members: Vec<Member> = Vec::new();
    let mut wrong = None;
    view.bucket(Bucket::Members, &mut |_, row| match parse_member_json(row) {
        Ok(member) => members.push(member),
        Err(what) => wrong = Some(what),
    })
    .map_err(|fault| fault.to_string())?;
    match wrong {
        Some(what) => Err(what),
        None => Ok(SnapshotMark { index: index.0, term: term.0, membership: membership(&members) }),
    }
}

/// Who votes and who listens among these.
pub(crate) fn membership(members: &[Member]) -> Membership {
    let mut membership = Membership::default();
    for member in members {
        let list = if member.learner { &mut membership.learners } else { &mut membership.voters };
        list.push(member.id.0);
    }
    membership.voters.sort_unstable();
    membership.learners.sort_unstable();
    membership
}

/// Takes in what another member sends, on a thread of its own: the disk must not hold up what members say.
pub(super) fn receive(
    shared: &Arc<Shared>,
    hello: &Hello,
    message: Message,
    pieces: mpsc::Receiver<Bytes>,
) -> std::io::Result<tokio::sync::oneshot::Receiver<Result<(), String>>> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let (shared, from) = (shared.clone(), hello.from);
    let body = move || {
        shared.metrics.server.snapshot_apply_in_progress.inc();
        let taken = take_in(&shared, from, message, pieces);
        shared.metrics.server.snapshot_apply_in_progress.dec();
        let _ = done.send(taken);
    };
    std::thread::Builder::new().name("snapshot-take".into()).spawn(body)?;
    Ok(outcome)
}

fn take_in(shared: &Shared, from: u64, message: Message, mut pieces: mpsc::Receiver<Bytes>) -> Result<(), String> {
    let mark = message.snapshot().ok_or("it offers no snapshot")?;
    let peer = format!("{from:x}");
    log_info!("receiving a snapshot of the store", "remote-peer-id" = &peer, "index" = &mark.index);
    let whole = write(&shared.data_dir, &mark, &mut pieces).map_err(|fault| fault.to_string())?;
    let (done, outcome) = tokio::sync::oneshot::channel();
    shared.inbox.put_from_peer(vec![Item::SnapshotArrived { message, whole, done }]);
    match outcome.blocking_recv() {
        Ok(true) => Ok(()),
        Ok(false) => Err("it was not needed any more".into()),
        Err(_) => Err("the member is stopping".into()),
    }
}

fn write(
    dir: &Path,
    mark: &SnapshotMark,
    pieces: &mut mpsc::Receiver<Bytes>,
) -> Result<std::path::PathBuf, TransferFault> {
    let mut incoming = Incoming::begin(dir)?;
    while let Some(piece) = pieces.blocking_recv() {
        incoming.take(&piece)?;
    }
    incoming.finish((LogIndex(mark.index), Term(mark.term)))
}
