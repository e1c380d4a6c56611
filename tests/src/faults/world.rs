//! A cluster in namespaces of its own, clients that write everything down, and the hands that hurt it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use eyrie_api::pb::{self, cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};

use super::Kind;
use crate::binaries::Program;
use crate::history::record::Recorder;
use crate::load::Dice;
use crate::machine::Machine;
use crate::net::Net;
use crate::small_disk::SmallDisk;
use crate::store::{Setup, Store};

/// An election soon, so that runs are short.
const FLAGS: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// Upstream cuts its log, down to 5,000 entries, only when it takes a snapshot of its own; Eyrie always does.
const UPSTREAM_FLAGS: [&str; 2] = ["--snapshot-count", "500"];
/// No question of the test itself waits longer.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How long a cluster may take until it does again what it should.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// How long a member may be refused a change of the members: five seconds of health are asked for.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// Room on a disk that is going to be full.
const DISK_MIB: u64 = 192;
/// More entries than a leader keeps for members that lag.
const BEYOND_THE_LOG: usize = 6_800;

/// One member and the machine under it.
pub struct Member {
    /// Its process.
    pub store: Store,
    /// The machine that an Eyrie runs on.
    pub machine: Machine,
    /// Its disk, where that can be full.
    pub disk: Option<SmallDisk>,
}

/// See the module.
pub struct World {
    /// The network: members first, then a place for a newcomer, then the clients.
    pub net: Net,
    /// The members, by their places.
    pub members: Vec<Member>,
    /// The clients.
    pub recorder: Recorder,
    /// Chance.
    pub dice: Dice,
    /// What the machines under members can do.
    pub has_machines: bool,
    program: Program,
    dir: PathBuf,
    client_place: usize,
}

impl World {
    /// Founds a cluster as `kind` wants it and begins the load.
    pub(super) fn start(kind: &Kind, program: &Program, dir: &Path, seed: u64) -> Result<World> {
        let count = kind.members;
        let net = Net::new(count + 2, seed)?;
        let has_machines = !program.is_upstream();
        let mut setups = Vec::new();
        let mut rest = Vec::new();
        for at in 0..count {
            let place = dir.join(format!("m{at}"));
            std::fs::create_dir(&place)?;
            let machine = Machine::new(&place)?;
            machine.hold_back(kind.holds_back)?;
            let disk = kind.small_disks.then(|| SmallDisk::mount(&place.join("disk"), DISK_MIB)).transpose()?;
            let mut setup = setup(program, &net, at, &place, &format!("m{at}"))?;
            if let Some(disk) = &disk {
                setup.data = disk.path().join("data");
            }
            if has_machines {
                setup.wrapper = machine.wrapper()?;
            }
            setups.push(setup);
            rest.push((machine, disk));
        }
        let all = setups.iter().map(|setup| format!("{}={}", setup.name, setup.peer_url)).collect::<Vec<_>>().join(",");
        let mut members = Vec::new();
        for (mut setup, (machine, disk)) in setups.into_iter().zip(rest) {
            setup.initial_cluster = all.clone();
            members.push(Member { store: setup.spawn()?, machine, disk });
        }
        for member in &mut members {
            member.store.wait_ready()?;
        }
        let client_place = count + 1;
        let runtime = net.place(client_place).runtime()?;
        let endpoints = members.iter().map(|member| member.store.endpoint()).collect();
        // Upstream 3.5.1 tells progress ahead of events (its bug 15220), which would be found in every run.
        let recorder = Recorder::start(endpoints, runtime, seed, has_machines);
        let (dir, program) = (dir.to_path_buf(), program.clone());
        Ok(World { net, members, recorder, dice: Dice::new(seed), has_machines, program, dir, client_place })
    }

    /// Lets time pass.
    pub fn hold(&self, millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }

    /// Any of these, by chance.
    pub fn any(&mut self, of: &[usize]) -> usize {
        of[self.dice.below(of.len() as u64) as usize]
    }

    /// All places, in an order of chance.
    pub fn shuffled(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.members.len()).collect();
        for at in (1..all.len()).rev() {
            let other = self.dice.below(at as u64 + 1) as usize;
            all.swap(at, other);
        }
        all
    }

    /// All places but one.
    pub fn others(&self, than: usize) -> Vec<usize> {
        (0..self.members.len()).filter(|at| *at != than).collect()
    }

    /// Where the clients are in the network.
    pub fn clients(&self) -> usize {
        self.client_place
    }

    /// A follower, by chance.
    pub fn follower(&mut self) -> Result<usize> {
        let leader = self.leader()?;
        let others = self.others(leader);
        Ok(self.any(&others))
    }

    /// Kills a member at once.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        self.members[at].store.kill9()
    }

    /// Asks a member to end, and waits until it has.
    pub fn stop(&mut self, at: usize) -> Result<()> {
        let status = self.members[at].store.stop()?;
        ensure!(status.success() || status.code().is_none(), "a member that was asked to end says {status}");
        Ok(())
    }

    /// Starts a member again on what it has.
    pub fn start_again(&mut self, at: usize) -> Result<()> {
        let setup = self.members[at].store.setup.clone();
        self.members[at].store = setup.spawn()?;
        Ok(())
    }

    /// Sends a signal to a member.
    pub fn signal(&self, at: usize, signal: Signal) -> Result<()> {
        self.members[at].store.signal(signal)
    }

    /// Pauses some members for a while.
    pub fn pause(&self, members: &[usize], millis: u64) -> Result<()> {
        members.iter().try_for_each(|at| self.signal(*at, Signal::STOP))?;
        self.hold(millis);
        members.iter().try_for_each(|at| self.signal(*at, Signal::CONT))
    }

    /// The place of the member that leads: the one of the highest term that says so.
    pub fn leader(&mut self) -> Result<usize> {
        let end = Instant::now() + SETTLE_LIMIT;
        loop {
            let running: Vec<usize> =
                (0..self.members.len()).filter(|at| self.members[*at].store.is_running()).collect();
            let mut leads: Option<(u64, usize)> = None;
            for at in running {
                if let Ok(status) = self.status(at)
                    && status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
                {
                    leads = leads.max(Some((status.raft_term, at)));
                }
            }
            if let Some((_, at)) = leads {
                return Ok(at);
            }
            ensure!(Instant::now() < end, "no member leads after {SETTLE_LIMIT:?}");
            self.hold(50);
        }
    }

    /// What a member says of itself.
    pub fn status(&self, at: usize) -> Result<pb::StatusResponse> {
        let channel = self.channel(at)?;
        self.ask(ASK_LIMIT, async move {
            Ok(MaintenanceClient::new(channel).status(pb::StatusRequest {}).await?.into_inner())
        })
    }

    /// The id of a member.
    pub fn id(&self, at: usize) -> Result<u64> {
        Ok(self.status(at)?.header.context("a header")?.member_id)
    }

    /// Has leadership handed over.
    pub fn move_leader(&self, from: usize, to: usize) -> Result<()> {
        let (channel, target_id) = (self.channel(from)?, self.id(to)?);
        self.ask(SETTLE_LIMIT, async move {
            MaintenanceClient::new(channel).move_leader(pb::MoveLeaderRequest { target_id }).await?;
            Ok(())
        })
    }

    /// Forgets history that lies so many revisions back.
    pub fn compact(&self, at: usize, back: i64) -> Result<()> {
        self.recorder.compacting();
        let (channel, revision) = (self.channel(at)?, (self.recorder.newest() - back).max(1));
        self.ask(SETTLE_LIMIT, async move {
            let compacted = KvClient::new(channel).compact(pb::CompactionRequest { revision, physical: true }).await;
            match compacted {
                // Somebody was faster, or the fate of the call is not known: both are fine here.
                Ok(_) => Ok(()),
                Err(status) if status.message().contains("compacted") => Ok(()),
                Err(status) => Err(status.into()),
            }
        })
    }

    /// Rewrites a member's tables.
    pub fn defragment(&self, at: usize) -> Result<()> {
        let channel = self.channel(at)?;
        self.ask(SETTLE_LIMIT, async move {
            MaintenanceClient::new(channel).defragment(pb::DefragmentRequest {}).await?;
            Ok(())
        })
    }

    /// Reads a whole snapshot from a member: its bytes.
    pub fn snapshot(&self, at: usize) -> Result<u64> {
        let channel = self.channel(at)?;
        self.ask(SETTLE_LIMIT, async move {
            let mut pieces = MaintenanceClient::new(channel).snapshot(pb::SnapshotRequest {}).await?.into_inner();
            let mut bytes = 0;
            while let Some(piece) = pieces.message().await? {
                bytes += piece.blob.len() as u64;
            }
            Ok(bytes)
        })
    }

    /// Fills the log with entries that change nothing, until a member that heard none of them needs a snapshot.
    pub fn outrun_the_log(&self, at: usize) -> Result<()> {
        let channel = self.channel(at)?;
        self.ask(SETTLE_LIMIT, async move {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let channel = channel.clone();
                tasks.spawn(async move {
                    for _ in 0..BEYOND_THE_LOG / 100 {
                        KvClient::new(channel.clone()).txn(nothing()).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            Ok(())
        })
    }

    /// Has a member taken out of the cluster.
    pub fn remove(&self, at: usize, id: u64) -> Result<()> {
        self.change(at, move |channel| async move {
            ClusterClient::new(channel).member_remove(pb::MemberRemoveRequest { id }).await?;
            Ok(())
        })
    }

    /// Has a member let in that will be at `place` under a new name, and starts it there with nothing.
    pub fn join(&mut self, through: usize, place: usize, name: &str) -> Result<()> {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir)?;
        let mut setup =
            setup(&self.program, &self.net, place, &dir, name)?.flags(&["--initial-cluster-state", "existing"]);
        let url = setup.peer_url.clone();
        self.change(through, move |channel| {
            let peer_ur_ls = vec![url.clone()];
            async move {
                let add = pb::MemberAddRequest { peer_ur_ls, is_learner: false };
                ClusterClient::new(channel).member_add(add).await?;
                Ok(())
            }
        })?;
        let machine = Machine::new(&dir)?;
        if self.has_machines {
            setup.wrapper = machine.wrapper()?;
        }
        let known =
            self.members.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, member)| &member.store.setup);
        let named = known.chain([&setup]).map(|setup| format!("{}={}", setup.name, setup.peer_url));
        setup.initial_cluster = named.collect::<Vec<_>>().join(",");
        let member = Member { store: setup.spawn()?, machine, disk: None };
        if place < self.members.len() {
            self.members[place] = member
        } else {
            self.members.push(member)
        }
        Ok(())
    }

    /// A change of the members, asked for until it is not refused for the moment.
    fn change<F: Future<Output = Result<()>> + Send + 'static>(
        &self,
        at: usize,
        change: impl Fn(Channel) -> F,
    ) -> Result<()> {
        let end = Instant::now() + CHANGE_LIMIT;
        loop {
            match self.ask(CHANGE_LIMIT, change(self.channel(at)?)) {
                Ok(()) => return Ok(()),
                // An answer that was lost may hide that it was done.
                Err(error) if format!("{error:#}").contains("already exist") => return Ok(()),
                Err(error) if format!("{error:#}").contains("member not found") => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => self.hold(200),
            }
        }
    }

    /// Makes all whole again and waits until every member takes part: it answers what needs a quorum.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.net.heal();
        for member in &mut self.members {
            ensure!(
                member.store.is_running(),
                "{} ended by itself:\n{}",
                member.store.setup.name,
                member.store.log_tail(20)
            );
            member.store.wait_ready()?;
        }
        for at in 0..self.members.len() {
            let end = Instant::now() + SETTLE_LIMIT;
            let mut last = anyhow!("not asked");
            loop {
                ensure!(
                    Instant::now() < end,
                    "{} takes no part after {SETTLE_LIMIT:?}: {last:#}",
                    self.members[at].store.setup.name
                );
                let channel = self.channel(at)?;
                match self.ask(ASK_LIMIT, async move { Ok(KvClient::new(channel).txn(nothing()).await?) }) {
                    Ok(_) => break,
                    Err(error) => last = error,
                }
                self.hold(50);
            }
        }
        Ok(())
    }

    /// Waits until more calls have been answered: the cluster serves.
    pub fn goes_on(&self, calls: u64) -> Result<Duration> {
        let (begun, before) = (Instant::now(), self.recorder.answered());
        while self.recorder.answered() < before + calls {
            if begun.elapsed() > SETTLE_LIMIT {
                bail!("fewer than {calls} calls were answered in {SETTLE_LIMIT:?}");
            }
            self.hold(10);
        }
        Ok(begun.elapsed())
    }

    /// A connection from the clients' place to a member.
    pub fn channel(&self, at: usize) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.members[at].store.endpoint()))?;
        let _inside = self.recorder.runtime().enter();
        Ok(endpoint.connect_timeout(ASK_LIMIT).connect_lazy())
    }

    /// Runs a question in the clients' place.
    pub fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let runtime = self.recorder.runtime();
        let asked = runtime.spawn(async move { tokio::time::timeout(limit, question).await });
        runtime.block_on(asked)?.context("no answer in time")?
    }

    /// The last words of every member.
    pub(super) fn logs(&self) -> String {
        let tail = |member: &Member| format!("--- {}\n{}\n", member.store.setup.name, member.store.log_tail(12));
        self.members.iter().map(tail).collect()
    }
}

fn setup(program: &Program, net: &Net, at: usize, dir: &Path, name: &str) -> Result<Setup> {
    let mut setup = Setup::new(program, dir)?.flags(&FLAGS);
    if program.is_upstream() {
        setup = setup.flags(&UPSTREAM_FLAGS);
    }
    setup.place = net.place(at).clone();
    setup.host = net.address(at);
    (setup.client_port, setup.peer_port) = (2379, 2380);
    setup.name = name.into();
    setup.peer_url = format!("http://{}:{}", setup.host, setup.peer_port);
    Ok(setup)
}

/// A transaction that goes through the log and changes nothing: its guard never holds.
fn nothing() -> pb::TxnRequest {
    let guard = pb::Compare {
        result: pb::compare::CompareResult::Less as i32,
        target: pb::compare::CompareTarget::Version as i32,
        key: b"h/none".to_vec().into(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    let put = pb::PutRequest { key: b"h/none".to_vec().into(), ..Default::default() };
    let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
    pb::TxnRequest { compare: vec![guard], success: vec![put], failure: vec![] }
}
