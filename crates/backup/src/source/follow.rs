//! Every revision after a known one: whole, once, in order, over as many connections as it takes.
//!
//! ```text
//! is the known revision still readable?  ->  watch from it  ->  is it the one we know?  ->  hand out what follows
//!            ^                                                                                   |
//!            └───────────── connection lost, silent, or served by a member without leader ◀──────┘
//!                     busy ─▶ in strides (`strides`) until it is calm ─▶ watch again
//! ```
//! The watch starts at the last known revision, not after it: what comes first must be what we have, byte for byte.
//! So a store that was restored, or replaced, or went back, is noticed, and never continued by mistake.
//!
//! Compaction: a store may serve a revision that it has just compacted without its deletions (etcd before 3.5.16). Events
//! of the past therefore count only when, *after* they came, the revision before them can still be read.
//!
//! Cost: etcd sends each change by itself. Who wakes for each of them takes as much from a busy machine as the store does to
//! send it, so the follower has a thread of its own that sleeps between breaths while changes come fast; and where a store is
//! busy for some time, it is not listened to but read in strides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eyrie_api::client::{CallError, Repeat};
use eyrie_api::pb::kv_client::KvClient;
use eyrie_api::pb::watch_client::WatchClient;
use eyrie_api::pb::watch_request::RequestUnion;
use eyrie_api::pb::{
    RangeRequest, RangeResponse, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use eyrie_state::{ClusterId, Revision};
use futures::FutureExt;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::assemble::{Assembler, Missing};
use super::strides::Strides;
use super::traffic::Traffic;
use super::{Source, SourceError, soon};
use crate::history::{Event, Revised, TimeMs};
use crate::limits::{
    ANSWERS_AT_ONCE, ASK_LIMIT, BREATH, HEARD_QUEUE, MESSAGE_LEN_MAX, PROGRESS_EVERY, RECONNECT_PAUSE_FIRST,
    RECONNECT_PAUSE_MAX, WATCH_ASKS_WAITING, WATCH_DIAL_LIMIT, WATCH_SILENCE_MAX,
};

/// Progress answers that may come before the known revision is seen again; old servers let them overtake events.
const PROGRESS_BEFORE_ANCHOR_MAX: u32 = 3;

/// The known end of history: what a follower continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The cluster.
    pub cluster: ClusterId,
    /// The last known revision.
    pub revision: Revision,
    /// [`digest`] of that revision; `None` when its changes are not known.
    pub digest: Option<[u8; 32]>,
}

/// SHA-256 over what a revision changed; the same whether it was read from a snapshot or from a watch.
pub fn digest(revised: &Revised) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut bytes = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    bytes(&revised.revision.0.to_le_bytes());
    for event in &revised.events {
        bytes(event.key());
        match event {
            Event::Delete { .. } => bytes(b"deleted"),
            Event::Put { value, create_revision, version, lease, .. } => {
                bytes(value);
                [create_revision.0, *version, lease.0].iter().for_each(|number| bytes(&number.to_le_bytes()));
            }
        }
    }
    hash.finalize().into()
}

/// What a follower hears.
#[derive(Debug)]
pub enum Heard {
    /// New revisions, without a gap after the ones before.
    Revisions(Vec<Revised>),
    /// There is nothing newer than `revision` at this moment.
    UpToDate {
        /// The store's revision, which is the last one heard.
        revision: Revision,
        /// When the store said so.
        at: TimeMs,
    },
    /// The connection is lost; it is being tried again.
    Trouble(String),
}

/// Why the history cannot be continued. A new full is needed, and for some of these a new timeline.
#[derive(Debug, thiserror::Error)]
pub enum Break {
    /// The store has forgotten what comes next.
    #[error("history after revision {last} was compacted before it was read")]
    Compacted {
        /// The last revision that was heard.
        last: Revision,
    },
    /// The watch left out a revision.
    #[error("the watch went from revision {last} to {got}")]
    Missing {
        /// The last revision that was heard.
        last: Revision,
        /// The one that came next.
        got: Revision,
    },
    /// The store's revision is lower than what was already heard: it was restored from something older.
    #[error(
        "the store's history ends before revision {last}, which was already archived: it was restored from a backup"
    )]
    WentBack {
        /// The last revision that was heard.
        last: Revision,
    },
    /// Revision `last` now says something else: the store was restored and has been written to since.
    #[error(
        "revision {last} of the store is not the one that was archived: the store was restored and went another way"
    )]
    Diverged {
        /// The last revision that was heard.
        last: Revision,
    },
    /// The endpoints belong to another cluster.
    #[error("the endpoints now belong to cluster {now:x}, the archive is of {was:x}")]
    OtherCluster {
        /// The archive's.
        was: u64,
        /// The one that answers.
        now: u64,
    },
    /// Trying again does not help.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Break {
    /// What comes next is not the continuation of what was archived, but another history.
    pub fn is_other_history(&self) -> bool {
        matches!(self, Self::WentBack { .. } | Self::Diverged { .. } | Self::OtherCluster { .. })
    }
}

/// A running follower. It ends with a [`Break`], or when this is dropped.
#[derive(Debug)]
pub struct Follow {
    heard: mpsc::Receiver<Result<Heard, Break>>,
    strode: Arc<AtomicU64>,
    /// The thread ends with it.
    _alive: oneshot::Sender<()>,
}

impl Source {
    /// Follows the store from `anchor` on. A slow listener slows the follower, and that the server, which forgets nothing
    /// but what is compacted. While it is busy, it is read in strides, if that is wished.
    pub fn follow(&self, anchor: Anchor, strides: Option<Strides>) -> Follow {
        let (tell, heard) = mpsc::channel(HEARD_QUEUE);
        let strode = Arc::new(AtomicU64::new(0));
        let (alive, gone) = oneshot::channel();
        let follower = Follower {
            source: self.apart(),
            cluster: anchor.cluster,
            digest: anchor.digest,
            handed: anchor.revision,
            assembler: Assembler::new(anchor.revision),
            turn: 0,
            tell,
            strides,
            strode: Arc::clone(&strode),
            traffic: Traffic::default(),
            no_strides_until: None,
        };
        // where there is no thread to be had, the listener hears that nobody follows
        let _ = std::thread::Builder::new().name("follow".into()).spawn(move || follower.work(gone));
        Follow { heard, strode, _alive: alive }
    }
}

impl Follow {
    /// The next thing heard. Safe to drop half way.
    ///
    /// # Errors
    /// [`Break`], after which nothing more comes.
    pub async fn next(&mut self) -> Result<Heard, Break> {
        self.heard.recv().await.unwrap_or_else(|| {
            let cause = "it was stopped".to_owned();
            Err(Break::Source(SourceError::Refused { what: "follow the store", cause }))
        })
    }

    /// Strides so far.
    pub fn strides(&self) -> u64 {
        self.strode.load(Ordering::Relaxed)
    }
}

/// How a connection, or the whole follower, ends.
pub(super) enum End {
    /// Try again.
    Lost(CallError),
    /// For good.
    Break(Break),
    /// Nobody listens any more.
    Unheard,
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        End::Lost(error)
    }
}

impl From<Break> for End {
    fn from(reason: Break) -> Self {
        End::Break(reason)
    }
}

/// What the store says of a revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readable {
    Yes {
        /// The store's own revision.
        store: Revision,
    },
    Compacted,
    Future,
}

pub(super) struct Follower {
    source: Source,
    cluster: ClusterId,
    /// The last revision that was handed out …
    pub(super) handed: Revision,
    /// … and its digest, where it is known.
    digest: Option<[u8; 32]>,
    /// May be ahead of that by what is still to be checked.
    assembler: Assembler,
    /// Which endpoint is watched; the next one after each failure.
    turn: usize,
    tell: mpsc::Sender<Result<Heard, Break>>,
    pub(super) strides: Option<Strides>,
    pub(super) strode: Arc<AtomicU64>,
    pub(super) traffic: Traffic,
    pub(super) no_strides_until: Option<Instant>,
}

/// One open watch.
struct Open {
    answers: Streaming<WatchResponse>,
    ask: mpsc::Sender<WatchRequest>,
    /// The known revision was heard again and is the same.
    anchored: bool,
    progress_before_anchor: u32,
}

/// New revisions that came together and are not handed out yet.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) revisions: Vec<Revised>,
    /// Some of them were read from the store's past.
    pub(super) from_history: bool,
}

impl Open {
    /// All that has come, and how the watch ended if it did.
    fn gather(&mut self, first: Result<Option<WatchResponse>, Status>) -> (Vec<WatchResponse>, Option<End>) {
        let (mut answers, mut next) = (Vec::new(), Some(first));
        while let Some(answer) = next {
            match answer {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => {
                    return (answers, Some(CallError::Broken("the server ended the watch".into()).into()));
                }
                Err(status) => return (answers, Some(CallError::from(status).into())),
            }
            let more = answers.len() < ANSWERS_AT_ONCE;
            next = if more { self.answers.message().now_or_never() } else { None };
        }
        (answers, None)
    }
}

impl Follower {
    /// The thread: until history breaks off, or nobody listens any more.
    fn work(mut self, gone: oneshot::Receiver<()>) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let ended = tokio::select! {
                ended = self.run() => ended,
                _ = gone => return,
            };
            if let Err(End::Break(reason)) = ended {
                let _ = self.tell.send(Err(reason)).await;
            }
        });
    }

    async fn run(&mut self) -> Result<(), End> {
        let mut pause = RECONNECT_PAUSE_FIRST;
        loop {
            let before = self.handed;
            let error = match self.one_connection().await {
                Err(End::Lost(error)) => error,
                other => return other,
            };
            if self.handed > before {
                pause = RECONNECT_PAUSE_FIRST;
            }
            let sorted = self.source.failed("follow the store", &error);
            if error.is_old_login() {
                // a token that was forgotten or is too old; a login that is refused comes back as Denied
                if let Err(error) = self.source.client.log_in().await {
                    let sorted = self.source.failed("log in to etcd", &error);
                    if !sorted.is_passing() {
                        return Err(Break::Source(sorted).into());
                    }
                }
            } else if matches!(sorted, SourceError::Denied { .. } | SourceError::Config(_)) {
                return Err(Break::Source(sorted).into());
            }
            self.say(Heard::Trouble(error.text())).await?;
            self.source.client.forget().await;
            self.turn += 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    /// Follows over one connection until it ends; never returns `Ok`.
    async fn one_connection(&mut self) -> Result<(), End> {
        loop {
            self.listen().await?;
            self.stride().await?;
        }
    }

    /// Watches until the store had better be read in strides.
    async fn listen(&mut self) -> Result<(), End> {
        self.check_known().await?;
        self.assembler = Assembler::new(self.handed);
        let mut open = self.open().await?;
        let (mut quiet_since, mut rested_at) = (Instant::now(), Instant::now());
        loop {
            let Ok(answer) = timeout(PROGRESS_EVERY, open.answers.message()).await else {
                if quiet_since.elapsed() > WATCH_SILENCE_MAX {
                    return Err(CallError::Broken("the watch fell silent".into()).into());
                }
                let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                let _ = open.ask.try_send(WatchRequest { request_union: Some(progress) });
                continue;
            };
            let (answers, ended) = open.gather(answer);
            let all = answers.len() < ANSWERS_AT_ONCE;
            self.take(&mut open, answers).await?;
            if let Some(end) = ended {
                return Err(end);
            }
            if open.anchored && self.wants_strides().await? {
                return Ok(());
            }
            quiet_since = Instant::now();
            if all && rested_at.elapsed() < BREATH * 2 {
                // the whole thread: what comes meanwhile waits in the socket and wakes nobody
                std::thread::sleep(BREATH);
            }
            rested_at = Instant::now();
        }
    }

    /// Takes what came together: checks it, and hands it out at once.
    async fn take(&mut self, open: &mut Open, answers: Vec<WatchResponse>) -> Result<(), End> {
        let at = TimeMs::now();
        let mut batch = Batch::default();
        for answer in answers {
            let store = Revision(answer.header.as_ref().map_or(0, |header| header.revision));
            if answer.canceled {
                self.hand_out(&mut batch).await?;
                return Err(self.cancelled(answer));
            }
            if !answer.events.is_empty() {
                self.assemble(open, answer, store, at, &mut batch).await?;
            } else if !answer.created {
                self.hand_out(&mut batch).await?;
                self.progress(open, store, at).await?;
            }
        }
        self.hand_out(&mut batch).await
    }

    fn cancelled(&self, answer: WatchResponse) -> End {
        if answer.compact_revision > 0 {
            return Break::Compacted { last: self.handed }.into();
        }
        if answer.cancel_reason.contains("permission denied") {
            let cause = answer.cancel_reason;
            return Break::Source(SourceError::Denied { what: "watch all keys", cause }).into();
        }
        CallError::Broken(format!("the watch was cancelled: {}", answer.cancel_reason)).into()
    }

    async fn assemble(
        &mut self,
        open: &mut Open,
        answer: WatchResponse,
        store: Revision,
        at: TimeMs,
        batch: &mut Batch,
    ) -> Result<(), End> {
        let last = self.assembler.last();
        // live answers hold one revision, the store's; all others were read from history
        batch.from_history |=
            !open.anchored || answer.events.iter().any(|e| e.kv.as_ref().is_some_and(|kv| kv.mod_revision < store.0));
        let whole = match self.assembler.push(answer.events, answer.fragment, at) {
            Ok(whole) => whole,
            Err(Missing { got, .. }) => {
                self.hand_out(batch).await?;
                return Err(Break::Missing { last, got }.into());
            }
        };
        if !open.anchored && (whole.again.is_some() || !whole.revisions.is_empty()) {
            self.check_anchor(last, whole.again.as_ref()).await?;
            open.anchored = true;
        }
        batch.revisions.extend(whole.revisions);
        Ok(())
    }

    /// From here on they count. Until then a lost connection means that they are heard again.
    pub(super) async fn hand_out(&mut self, batch: &mut Batch) -> Result<(), End> {
        let Batch { revisions, from_history } = std::mem::take(batch);
        let Some(newest) = revisions.last() else { return Ok(()) };
        let last = self.handed;
        if from_history && self.readable(last).await? == Readable::Compacted {
            return Err(Break::Compacted { last }.into());
        }
        (self.handed, self.digest) = (newest.revision, Some(digest(newest)));
        if let Some(strides) = &self.strides {
            let weight = revisions.iter().map(|revised| revised.weight() as u64).sum();
            self.traffic.count(revisions.len() as u64, weight, self.handed, strides.busy_rate, Instant::now());
        }
        self.say(Heard::Revisions(revisions)).await
    }

    /// A progress answer. It is never taken as a proof that events up to it have come: before 3.5.8 it may overtake them.
    async fn progress(&mut self, open: &mut Open, store: Revision, at: TimeMs) -> Result<(), End> {
        let last = self.handed;
        if !open.anchored {
            open.progress_before_anchor += 1;
            if open.progress_before_anchor >= PROGRESS_BEFORE_ANCHOR_MAX {
                self.check_anchor(last, None).await?;
                open.anchored = true;
            }
        }
        if open.anchored && store == last {
            self.say(Heard::UpToDate { revision: last, at }).await?;
        }
        Ok(())
    }

    /// Before a watch is opened: is this still the cluster, and does it know the last revision?
    async fn check_known(&self) -> Result<(), End> {
        let last = self.handed;
        match self.readable(last).await? {
            Readable::Yes { .. } => Ok(()),
            Readable::Compacted => {
                self.check_cluster().await?;
                Err(Break::Compacted { last }.into())
            }
            Readable::Future => Err(Break::WentBack { last }.into()),
        }
    }

    /// The known revision as the store tells it now, or not at all: is it the one that was archived?
    async fn check_anchor(&self, last: Revision, again: Option<&Revised>) -> Result<(), End> {
        let Some(known) = self.digest else { return Ok(()) };
        if again.is_some_and(|again| digest(again) == known) {
            return Ok(());
        }
        // compacted up to exactly here: deletions of this revision may be gone, so nothing can be said
        if self.readable(Revision(last.0 - 1)).await? == Readable::Compacted {
            return Ok(());
        }
        Err(Break::Diverged { last }.into())
    }

    /// Asks, through a quorum, whether a revision can be read.
    pub(super) async fn readable(&self, revision: Revision) -> Result<Readable, End> {
        match self.ask(revision.0.max(1)).await {
            Ok(answer) => {
                self.is_ours(&answer)?;
                Ok(Readable::Yes { store: Revision(answer.header.map_or(0, |header| header.revision)) })
            }
            Err(error) if error.message().contains("revision has been compacted") => Ok(Readable::Compacted),
            Err(error) if error.message().contains("is a future revision") => Ok(Readable::Future),
            Err(error) => Err(error.into()),
        }
    }

    /// A refusal does not say who refuses. A store that was restored elsewhere counts its past as compacted, too.
    async fn check_cluster(&self) -> Result<(), End> {
        let answer = self.ask(0).await?;
        self.is_ours(&answer)
    }

    /// The cheapest read there is: one key that hardly exists.
    async fn ask(&self, revision: i64) -> Result<RangeResponse, CallError> {
        let request = RangeRequest { key: vec![0].into(), revision, ..RangeRequest::default() };
        self.source
            .client
            .call(soon(), Repeat::Read, request, |channel, request| async move {
                KvClient::new(channel).range(request).await
            })
            .await
    }

    fn is_ours(&self, answer: &RangeResponse) -> Result<(), End> {
        let now = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        if now == self.cluster.0 { Ok(()) } else { Err(Break::OtherCluster { was: self.cluster.0, now }.into()) }
    }

    async fn open(&self) -> Result<Open, End> {
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: self.handed.0,
            progress_notify: true,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let (answers, ask) = self.open_watches(vec![create]).await?;
        Ok(Open { answers, ask, anchored: self.digest.is_none(), progress_before_anchor: 0 })
    }

    /// Opens a stream to the endpoint whose turn it is and says these requests first: a server answers nothing before.
    pub(super) async fn open_watches(
        &self,
        requests: Vec<WatchRequest>,
    ) -> Result<(Streaming<WatchResponse>, mpsc::Sender<WatchRequest>), End> {
        let endpoints = self.source.client.endpoints();
        let client = self.source.client.to_endpoint(endpoints[self.turn % endpoints.len()].clone());
        let channel = client.channel(Some(Instant::now() + WATCH_DIAL_LIMIT)).await?;
        let (ask, asked) = mpsc::channel(WATCH_ASKS_WAITING);
        for request in requests {
            ask.try_send(request).expect("the queue is longer than what is said first");
        }
        let mut watch = WatchClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
        let opening = watch.watch(client.request_with_leader(ReceiverStream::new(asked)));
        let opened = timeout(ASK_LIMIT, opening).await.map_err(|_| CallError::Deadline(None))?;
        Ok((opened.map_err(CallError::from)?.into_inner(), ask))
    }

    async fn say(&self, heard: Heard) -> Result<(), End> {
        self.tell.send(Ok(heard)).await.map_err(|_| End::Unheard)
    }
}
