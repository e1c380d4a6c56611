//! The whole tables, to a member that the log can't bring up to date.
//!
//! The sender reads one picture of its tables while writes go on, and gives way to them. When the connection breaks it asks
//! how much has arrived (`arrivals.rs`) and goes on from there with the same picture.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use eyrie_api::peer::peer_client::PeerClient;
use eyrie_api::peer::{SnapshotPiece, SnapshotPlaceRequest};
use eyrie_disk::step_aside;
use eyrie_disk::tables::View;
use eyrie_disk::transfer::{Outgoing, TransferFault};
use eyrie_raft::{Membership, Message, SnapshotMark};
use eyrie_state::{Bucket, Member, Tables, parse_member_json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Link, dial};
use crate::chores::Breath;
use crate::limits::{PEER_DIAL_TIMEOUT, SNAPSHOT_PIECES_WAITING_MAX, SNAPSHOT_RESUME_MAX, SNAPSHOT_RESUME_PAUSE};
use crate::node::{Item, Shared};
use crate::{log_info, log_warn};

/// Numbers the snapshots that this process sends.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Sends what the offer in `message` needs, and tells raft how it ended.
pub(super) async fn send(shared: Arc<Shared>, link: Arc<Link>, message: Message) {
    let peer = format!("{:x}", link.member);
    let sent = send_all(&shared, &link, message).await;
    match &sent {
        Ok(index) => log_info!("sent a snapshot of the store", "remote-peer-id" = &peer, "index" = index),
        Err(error) => {
            log_warn!("failed to send a snapshot; it is tried again", "remote-peer-id" = &peer, "error" = error);
        }
    }
    shared.inbox.put_from_peer(vec![Item::SnapshotSent { to: link.member, arrived: sent.is_ok() }]);
}

/// One snapshot on its way.
struct Sending {
    shared: Arc<Shared>,
    link: Arc<Link>,
    /// The offer, with what the picture stands for.
    raft: Bytes,
    number: u64,
}

/// How one connection ended before all had arrived.
enum Broken {
    /// A new one may bring the rest.
    Line(String),
    /// Nothing of it is wanted.
    ForGood(String),
}

async fn send_all(shared: &Arc<Shared>, link: &Arc<Link>, message: Message) -> Result<u64, String> {
    let view = shared.state.read().tables().records();
    let mark = mark(&view)?;
    let raft = message.with_snapshot(&mark).encode().map_err(|error| error.to_string())?.into();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let sending = Sending { shared: shared.clone(), link: link.clone(), raft, number };
    let mut outgoing = Outgoing::new(view);
    let (mut first, mut moved) = (0, Instant::now());
    loop {
        let (back, ended) = sending.stretch(outgoing, first).await;
        let why = match ended {
            Ok(()) => return Ok(mark.index),
            Err(Broken::ForGood(why)) => return Err(why),
            Err(Broken::Line(why)) => why,
        };
        outgoing = back.ok_or_else(|| why.clone())?;
        let Some(next) = sending.place(&why, first).await? else { return Ok(mark.index) };
        let (peer, index) = (format!("{:x}", link.member), mark.index);
        log_info!(
            "goes on with a snapshot whose connection broke",
            "remote-peer-id" = &peer,
            "index" = &index,
            "pieces" = &next,
            "error" = &why
        );
        if next > first {
            (first, moved) = (next, Instant::now());
        } else if moved.elapsed() > SNAPSHOT_RESUME_MAX {
            return Err(why);
        }
    }
}

impl Sending {
    /// Sends the pieces from number `first` on over one connection. Gives back what may be sent again.
    async fn stretch(&self, mut outgoing: Outgoing, first: u64) -> (Option<Outgoing>, Result<(), Broken>) {
        let channel = match self.dial().await {
            Ok(channel) => channel,
            // A first one that can't be had is raft's to try again, with a newer picture.
            Err(why) if first == 0 => return (None, Err(Broken::ForGood(why))),
            Err(why) => return (Some(outgoing), Err(Broken::Line(why))),
        };
        let (give, take) = mpsc::channel(SNAPSHOT_PIECES_WAITING_MAX);
        let hello = Some(self.shared.peers.hello(self.link.member));
        let head = SnapshotPiece { hello, raft: self.raft.clone(), number: self.number, first, piece: Bytes::new() };
        if give.try_send(head).is_err() {
            return (None, Err(Broken::ForGood("the first message can't be sent".into())));
        }
        let mut breath = Breath::new(self.shared.clone());
        let reading = move || {
            // Clients' writes and heartbeats go first: at full speed only while nothing else is to do.
            step_aside();
            // When this ends early the end is missing, and the other side waits for the rest.
            let sent = outgoing.send(first, |bytes| {
                let len = bytes.len();
                let sent = give.blocking_send(SnapshotPiece { piece: bytes, ..Default::default() }).is_ok();
                breath.worked(len);
                sent
            });
            (outgoing, sent)
        };
        let reader = match std::thread::Builder::new().name("snapshot-send".into()).spawn(reading) {
            Ok(reader) => reader,
            Err(error) => return (None, Err(Broken::ForGood(format!("can't start a thread: {error}")))),
        };
        let answer = PeerClient::new(channel).snapshot(ReceiverStream::new(take)).await;
        let read = tokio::task::spawn_blocking(move || reader.join()).await;
        let Ok(Ok((outgoing, read))) = read else {
            return (None, Err(Broken::ForGood("reading the tables ended on a bug of this program".into())));
        };
        let ended = match (answer, read) {
            (Ok(_), _) => Ok(()),
            (Err(_), Err(fault @ (TransferFault::Tables(_) | TransferFault::Unsound(_)))) => {
                Err(Broken::ForGood(fault.to_string()))
            }
            (Err(status), _) if is_broken(&status) => Err(Broken::Line(dial::chain(&status))),
            (Err(status), _) => Err(Broken::ForGood(status.message().to_owned())),
        };
        (Some(outgoing), ended)
    }

    /// Waits until the other side says how much it has: the number of the first piece it lacks, or `None` for nothing.
    ///
    /// # Errors
    /// It can't be asked for too long, or has nothing of it any more.
    async fn place(&self, why: &str, before: u64) -> Result<Option<u64>, String> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(SNAPSHOT_RESUME_PAUSE).await;
            let term_is_over = !self.shared.progress.standing().is_leader;
            if begun.elapsed() > SNAPSHOT_RESUME_MAX || self.link.is_closed() || term_is_over {
                return Err(why.to_owned());
            }
            let asked = match self.dial().await {
                Ok(channel) => self.ask(channel).await,
                Err(_) => continue,
            };
            match asked {
                Ok(answer) if answer.whole => return Ok(None),
                // Nothing new arrived over a whole connection, or what arrived is gone.
                Ok(answer) if answer.pieces == 0 || answer.pieces < before => return Err(why.to_owned()),
                Ok(answer) => return Ok(Some(answer.pieces)),
                Err(status) if is_broken(&status) || status.code() == Code::ResourceExhausted => {}
                Err(status) => return Err(format!("{why}; then: {}", status.message())),
            }
        }
    }

    async fn ask(&self, channel: Channel) -> Result<eyrie_api::peer::SnapshotPlaceResponse, Status> {
        let hello = Some(self.shared.peers.hello(self.link.member));
        let mut client = PeerClient::new(channel);
        let asked = client.snapshot_place(SnapshotPlaceRequest { hello, number: self.number });
        let answer = tokio::time::timeout(PEER_DIAL_TIMEOUT, asked).await;
        answer.unwrap_or_else(|_| Err(Status::unavailable("no answer in time"))).map(tonic::Response::into_inner)
    }

    async fn dial(&self) -> Result<Channel, String> {
        let connector = dial::connector(self.shared.peers.tls(), self.link.clone());
        dial::endpoint().connect_with_connector(connector).await.map_err(|error| dial::chain(&error))
    }
}

/// Whether a call ended by what is between the members, not by what the other one thinks of it.
fn is_broken(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
    )
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
    Membership::of(members.iter().map(|member| (member.id.0, member.learner)))
}
