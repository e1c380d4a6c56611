//! Service `Maintenance`: status, alarms, snapshots, hashes, defragmentation.

use std::io::Write;
use std::pin::Pin;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use eyrie_api::pb;
use eyrie_disk::snapshot::{Export, Source, hash_all};
use eyrie_disk::step_aside;
use eyrie_state::{Alarm, AlarmKind, Answer, Command, MemberId, Revision, Tables};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::chores::{Breath, chore};
use crate::convert;
use crate::errors::ServeError;
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::log_info;
use crate::store::Store;
use crate::version::{CLUSTER_VERSION, VERSION};

/// Messages of a snapshot stream that may wait for a slow client.
const SNAPSHOT_MESSAGES_WAITING_MAX: usize = 16;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct MaintenanceService {
    pub(crate) store: Store,
}

type Snapshots = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    type SnapshotStream = Snapshots;

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        let request = request.into_inner();
        let invalid = |what: &str| ServeError::other(Code::InvalidArgument, format!("etcdserver: {what}"));
        let kind = match pb::AlarmType::try_from(request.alarm) {
            Ok(pb::AlarmType::None) => None,
            Ok(pb::AlarmType::Nospace) => Some(AlarmKind::NoSpace),
            Ok(pb::AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
            Err(_) => return Err(invalid("unknown alarm type").into()),
        };
        // Upstream dies of an action that it does not know.
        let action = AlarmAction::try_from(request.action).map_err(|_| invalid("unknown alarm action"))?;
        let member = MemberId(request.member_id);
        let (revision, alarms) = match (action, kind) {
            (AlarmAction::Get, kind) => self.store.read(|state| {
                let wanted = |alarm: &Alarm| kind.is_none_or(|kind| alarm.kind == kind);
                (state.revision(), state.alarms().filter(wanted).collect())
            }),
            (AlarmAction::Activate, Some(kind)) => self.change(Command::AlarmActivate { member, kind }).await?,
            (AlarmAction::Deactivate, Some(kind)) => self.change(Command::AlarmDeactivate { member, kind }).await?,
            (AlarmAction::Activate | AlarmAction::Deactivate, None) => (self.store.revision(), Vec::new()),
        };
        let header = Some(self.store.header(revision));
        Ok(Response::new(pb::AlarmResponse { header, alarms: alarms.iter().map(convert::alarm).collect() }))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let standing = self.store.standing();
        let sizes = self.store.sizes()?;
        let mut errors = Vec::new();
        if standing.leader == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        let alarms: Vec<Alarm> = self.store.read(|state| state.alarms().collect());
        errors.extend(alarms.iter().map(|alarm| {
            let kind = match alarm.kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            format!("memberID:{} alarm:{kind} ", alarm.member)
        }));
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.store.header(self.store.revision())),
            version: VERSION.to_owned(),
            db_size: to_signed(sizes.file_bytes),
            db_size_in_use: to_signed(sizes.in_use_bytes),
            leader: standing.leader,
            raft_index: standing.commit,
            raft_term: standing.term,
            raft_applied_index: self.store.applied(),
            errors,
            is_learner: self.store.is_learner(),
            ..Default::default()
        }))
    }

    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        let store = self.store.clone();
        let before = store.sizes()?;
        let outcome = chore("defragment", move || store.defragment()).await?;
        outcome.map_err(ServeError::from)?;
        let after = self.store.sizes()?;
        log_info!("finished defragmenting", "bytes-before" = &before.file_bytes, "bytes-after" = &after.file_bytes);
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let (revision, view) = self.store.read(|state| (state.revision(), state.tables().records()));
        let hash = chore("hash", move || hash_all(&view)).await?;
        let hash = hash.map_err(ServeError::from)?;
        Ok(Response::new(pb::HashResponse { header: Some(self.store.header(revision)), hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let wanted = request.into_inner().revision;
        let wanted = (wanted > 0).then_some(Revision(wanted));
        let (revision, plan) = self.store.read(|state| (state.revision(), state.hash_kv(wanted)));
        let plan = plan.map_err(ServeError::from)?;
        let answer = chore("hash", move || plan.run()).await?;
        let answer = answer.map_err(ServeError::from)?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.store.header(revision)),
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            hash_revision: answer.hash_revision.0,
        }))
    }

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let view = self.store.read(|state| state.tables().records());
        let metrics = self.store.metrics().clone();
        let breath = Breath::new(self.store.shared_arc().clone());
        let (to_client, messages) = mpsc::channel(SNAPSHOT_MESSAGES_WAITING_MAX);
        std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(move || {
                let begun = Instant::now();
                if send_snapshot(view, &to_client, breath) {
                    metrics.disk.backend_snapshot.observe(begun.elapsed().as_secs_f64());
                }
            })
            .map_err(|error| Status::resource_exhausted(format!("etcdserver: can't start a snapshot: {error}")))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let target = MemberId(request.into_inner().target_id);
        if !self.store.standing().is_leader {
            return Err(ServeError::other(Code::FailedPrecondition, "etcdserver: not leader").into());
        }
        let votes = self.store.read(|state| state.member(target).is_some_and(|member| !member.learner));
        if !votes {
            return Err(ServeError::other(Code::FailedPrecondition, "etcdserver: bad leader transferee").into());
        }
        self.store.move_leader(target).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        let request = request.into_inner();
        let invalid = |text: &str| ServeError::other(Code::InvalidArgument, format!("etcdserver: {text}"));
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
                let target = minor(&request.version).ok_or_else(|| invalid("wrong downgrade target version format"))?;
                let current = minor(CLUSTER_VERSION).unwrap_or((3, 5));
                let one_below = current.1.checked_sub(1).map(|below| (current.0, below));
                if Some(target) != one_below {
                    return Err(invalid("invalid downgrade target version").into());
                }
                if request.action == i32::from(DowngradeAction::Enable) {
                    return Err(Status::unimplemented(
                        "etcdserver: a store of Eyrie is not downgraded in place: restore a snapshot with the older etcd",
                    ));
                }
                let header = Some(self.store.header(self.store.revision()));
                Ok(Response::new(pb::DowngradeResponse { header, version: CLUSTER_VERSION.to_owned() }))
            }
            Ok(DowngradeAction::Cancel) => {
                Err(ServeError::other(Code::FailedPrecondition, "etcdserver: no inflight downgrade job").into())
            }
            Err(_) => Err(Status::unknown("etcdserver: unknown method")),
        }
    }
}

impl MaintenanceService {
    async fn change(&self, command: Command) -> Result<(Revision, Vec<Alarm>), ServeError> {
        let (revision, answer) = self.store.propose_now(command).await?;
        Ok((revision, if let Answer::Alarm(alarms) = answer { alarms } else { Vec::new() }))
    }
}

/// Major and minor of a version such as `3.4.0` or `3.4`.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    if parts.next().is_some_and(|patch| patch.parse::<u64>().is_err()) || parts.next().is_some() {
        return None;
    }
    Some((major, minor))
}

/// Returns whether the client has all of it.
fn send_snapshot(
    view: impl Source,
    to_client: &mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
    breath: Breath,
) -> bool {
    step_aside();
    let result = Export::plan(view).map_err(|fault| fault.to_string()).and_then(|export| {
        let out = Chunks { to_client, buffer: BytesMut::new(), remaining: export.len(), breath };
        export.write_to(out).map_err(|fault| fault.to_string())?.finish().map_err(|error| error.to_string())
    });
    if let Err(why) = &result {
        // Without its hash the snapshot is not one; the client sees an error instead of an end.
        let _ = to_client.blocking_send(Err(Status::data_loss(format!("etcdserver: snapshot failed: {why}"))));
    }
    result.is_ok()
}

/// Cuts a snapshot into messages. The hash at its end travels in a message of its own, as upstream sends it.
struct Chunks<'a> {
    to_client: &'a mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
    buffer: BytesMut,
    /// Bytes that are not sent yet, the hash included.
    remaining: u64,
    breath: Breath,
}

const HASH_LEN: u64 = 32;

impl Chunks<'_> {
    fn send(&mut self, blob: Bytes) -> std::io::Result<()> {
        self.remaining -= blob.len() as u64;
        // Upstream counts the database only: 0 remains when the hash follows.
        let remaining_bytes = self.remaining.saturating_sub(HASH_LEN);
        let message = pb::SnapshotResponse { remaining_bytes, blob, ..Default::default() };
        self.to_client.blocking_send(Ok(message)).map_err(|_| std::io::Error::other("the client went away"))?;
        self.breath.worked(SNAPSHOT_CHUNK_BYTES);
        Ok(())
    }

    /// What the next message may hold: never bytes of both database and hash.
    fn next_len(&self) -> usize {
        let database = self.remaining.saturating_sub(HASH_LEN);
        let most = if database > 0 { database } else { self.remaining };
        usize::try_from(most).unwrap_or(usize::MAX).min(SNAPSHOT_CHUNK_BYTES)
    }

    fn finish(mut self) -> std::io::Result<()> {
        while !self.buffer.is_empty() {
            let len = self.next_len().min(self.buffer.len());
            let blob = self.buffer.split_to(len).freeze();
            self.send(blob)?;
        }
        Ok(())
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= self.next_len().max(1) && !self.buffer.is_empty() {
            let len = self.next_len();
            let blob = self.buffer.split_to(len).freeze();
            self.send(blob)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn to_signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
