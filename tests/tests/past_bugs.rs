//! Faults that etcd has had in the field, each made to happen here.
//!
//! | etcd issue | what went wrong | here |
//! |---|---|---|
//! | 13766, and the inconsistency of 3.5.0 to 3.5.2 | after a crash under load members held different data | `cluster.rs`: `a_leader_killed_under_load_loses_nothing_and_writes_go_on`; `nothing_lost.rs` |
//! | 14370 | a single member acknowledged before its log was synced | `nothing_lost.rs`, `crash_points.rs` |
//! | 14571 | with users switched on, a member that was restarted refused what the others took | `members_agree_on_users_after_a_restart` |
//! | 14685 | a crash in a defragmentation | `killed_in_a_defragmentation_nothing_is_lost` |
//! | 15220 | a progress notification ahead of events | `progress_is_never_ahead_of_events` |
//! | 15271 | a watch that came back went back in time on a member behind | `a_watch_on_a_member_behind_does_not_go_back` |
//! | 17247 | an event was told twice | `nothing_lost.rs`: the watcher that resumes |
//! | 17529 | a stream that was not read lost events | `a_stream_that_is_not_read_loses_nothing` |
//! | 17780 | the revision went back after a crash in a compaction | `killed_in_a_compaction_the_revision_stays` |
//! | 18055, 20271 | two snapshots in short order; a snapshot taken over during a defragmentation | `two_snapshots_and_a_defragmentation_at_once` |
//! | 18089, 19179 | the delete at the compacted revision was not told | `the_delete_at_the_compacted_revision_is_told` |
//! | 18667 | a transaction that reads compacted history changed some members | `a_transaction_that_reads_compacted_history_changes_nobody` |
//! | 20221 | a watch on a future revision told old events | `a_watch_on_the_future_tells_nothing_old` |
//! | 20418 | a leader that had been paused answered from the past | `a_leader_that_was_paused_answers_nothing_old` |
//! | members of the past in 3.6 | a removed member came back by restart, restore or a forced new cluster | `a_removed_member_never_comes_back` |
//! | torn first write of the tables (LazyFS, 3.4.25) | the member did not start | `crash_points.rs` |

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyrie_api::mvccpb::event::EventType;
use eyrie_api::pb::kv_client::KvClient;
use eyrie_api::pb::request_op::Request;
use eyrie_api::pb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use eyrie_tests::binaries::Program;
use eyrie_tests::cluster::Cluster;
use eyrie_tests::load::{Dice, Wire};
use eyrie_tests::place::wait_until;
use eyrie_tests::store::{Setup, Store};
use eyrie_tests::verdict::Verdict;
use eyrie_tests::watching::{Watching, on_prefix};
use rustix::process::Signal;
use tonic::transport::Endpoint;

/// An election soon, so that tests are short.
const QUICK: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];
/// Long enough for something to come that must not.
const QUIET: Duration = Duration::from_millis(500);
/// How long a cluster may take to go on without one member.
const GO_ON: Duration = Duration::from_secs(20);

#[test]
fn progress_is_never_ahead_of_events() -> Verdict {
    Ok(alone(|store| runtime(progress(store)))?)
}

#[test]
fn a_watch_on_the_future_tells_nothing_old() -> Verdict {
    Ok(alone(|store| runtime(future(store)))?)
}

#[test]
fn a_stream_that_is_not_read_loses_nothing() -> Verdict {
    Ok(alone(|store| runtime(starved(store)))?)
}

#[test]
fn the_delete_at_the_compacted_revision_is_told() -> Verdict {
    Ok(alone(|store| runtime(compacted_delete(store)))?)
}

#[test]
fn killed_in_a_compaction_the_revision_stays() -> Verdict {
    Ok(alone(|store| runtime(compacted_to_the_end(store)))?)
}

#[test]
fn killed_in_a_defragmentation_nothing_is_lost() -> Verdict {
    Ok(alone(killed_defragmentation)?)
}

#[test]
fn members_agree_on_users_after_a_restart() -> Verdict {
    Ok(together(users)?)
}

#[test]
fn a_watch_on_a_member_behind_does_not_go_back() -> Verdict {
    Ok(together(|three, _| runtime(behind(three)))?)
}

#[test]
fn a_transaction_that_reads_compacted_history_changes_nobody() -> Verdict {
    Ok(together(|three, _| runtime(compacted_read(three)))?)
}

#[test]
fn a_leader_that_was_paused_answers_nothing_old() -> Verdict {
    Ok(together(|three, _| runtime(paused(three)))?)
}

#[test]
fn two_snapshots_and_a_defragmentation_at_once() -> Verdict {
    Ok(together(|three, _| runtime(two_snapshots(three)))?)
}

#[test]
fn a_removed_member_never_comes_back() -> Verdict {
    Ok(together(removed)?)
}

/// With a member of its own.
fn alone(test: impl FnOnce(&mut Store) -> Result<()>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut store = Setup::new(&Program::under_test()?, dir.path())?.start()?;
    let done = test(&mut store);
    done.with_context(|| store.log_tail(10))
}

/// With three members of their own.
fn together(test: impl FnOnce(&mut Cluster, &Path) -> Result<()>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut three = Cluster::start(&Program::under_test()?, dir.path(), 3, &QUICK)?;
    let done = test(&mut three, dir.path());
    done.with_context(|| three.members.iter().map(|member| member.log_tail(5)).collect::<Vec<_>>().join("\n"))
}

fn runtime<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(test)
}

/// What a notification says is over, is over: no event of a revision up to it comes after it.
async fn progress(store: &Store) -> Result<()> {
    let mut stream = Watching::begin(&store.endpoint(), vec![on_prefix("k/", 0)]).await?;
    let wire = Wire::new(&store.endpoint())?;
    let writer = tokio::spawn(async move {
        let mut last = 0;
        for n in 0..3_000_u32 {
            last = wire.put(format!("k/{}", n % 7).as_bytes(), b"value", 0).await?;
        }
        anyhow::Ok(last)
    });
    let (mut over, mut told, mut newest) = (0, 0, 0);
    while !writer.is_finished() {
        stream.ask_progress().await?;
        loop {
            let answer = stream.answer().await?;
            if let Some(first) = answer.events.first() {
                let first = first.kv.as_ref().context("a key")?.mod_revision;
                ensure!(first > over, "an event of revision {first} after it was said that {over} is over");
                newest = answer.events.last().and_then(|event| event.kv.as_ref()).context("a key")?.mod_revision;
            } else if !answer.created {
                over = answer.header.context("a header")?.revision;
                ensure!(over >= newest, "{over} is over, but an event of {newest} was told");
                told += 1;
                break;
            }
        }
    }
    let last = writer.await??;
    ensure!(told > 20, "only {told} notifications while {last} revisions were written");
    Ok(())
}

/// Nothing comes before its beginning, through notifications, a restart and a second watch beside it.
async fn future(store: &mut Store) -> Result<()> {
    let wire = Wire::new(&store.endpoint())?;
    let now = wire.put(b"k/old", b"old", 0).await?;
    let start = now + 10;
    for life in 0..2 {
        let late = || eyrie_api::pb::WatchCreateRequest { watch_id: 1, ..on_prefix("k/", start) };
        let all = eyrie_api::pb::WatchCreateRequest { watch_id: 2, ..on_prefix("k/", now) };
        let mut stream = Watching::begin(&store.endpoint(), vec![late(), all]).await?;
        for _ in 0..4 {
            wire.put(b"k/before", b"before", 0).await?;
        }
        stream.ask_progress().await?;
        while let Some(answer) = stream.answer_within(QUIET).await? {
            let old = answer.watch_id == 1 && !answer.events.is_empty();
            ensure!(!old, "life {life}: the watch on the future told {answer:?}");
        }
        store.restart()?;
        wait_for(&wire).await?;
    }
    let mut stream = Watching::begin(&store.endpoint(), vec![on_prefix("k/", start)]).await?;
    let mut written = Vec::new();
    while written.last().is_none_or(|last| *last < start + 2) {
        written.push(wire.put(b"k/new", b"new", 0).await?);
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| *last < start + 2) {
        heard.extend(revisions(&stream.answer().await?.events));
    }
    ensure!(heard == [start, start + 1, start + 2], "asked from {start} on, told {heard:?}");
    Ok(())
}

/// Many watches on a stream that nobody reads while much is written; then all of them have told everything, in order.
async fn starved(store: &Store) -> Result<()> {
    const WATCHES: usize = 20;
    const WRITES: usize = 1_500;
    let mut stream = Watching::begin(&store.endpoint(), vec![on_prefix("k/", 0); WATCHES]).await?;
    for _ in 0..WATCHES {
        ensure!(stream.answer().await?.created, "first of all, a watch is created");
    }
    let wire = Wire::new(&store.endpoint())?;
    let mut written = Vec::new();
    for n in 0..WRITES {
        written.push(wire.put(format!("k/{}", n % 10).as_bytes(), &[7; 1_000], 0).await?);
    }
    let mut heard = vec![Vec::new(); WATCHES];
    while heard.iter().any(|one| one.len() < WRITES) {
        let answer = stream.answer().await?;
        let place = usize::try_from(answer.watch_id)?;
        heard.get_mut(place).context("a watch that nobody began")?.extend(revisions(&answer.events));
    }
    for (place, one) in heard.iter().enumerate() {
        ensure!(*one == written, "watch {place} was told {} events, not the {WRITES} in their order", one.len());
    }
    Ok(())
}

/// What a client may still ask for, it gets whole: the compacted revision is the first that can be watched.
async fn compacted_delete(store: &mut Store) -> Result<()> {
    let wire = Wire::new(&store.endpoint())?;
    wire.put(b"k/a", b"1", 0).await?;
    wire.put(b"k/b", b"1", 0).await?;
    let (deleted, _) = wire.delete(b"k/a").await?;
    let after = wire.put(b"k/b", b"2", 0).await?;
    wire.compact(deleted).await?;
    for life in 0..3 {
        let mut stream = Watching::begin(&store.endpoint(), vec![on_prefix("k/", deleted)]).await?;
        let mut events = Vec::new();
        while events.len() < 2 {
            events.extend(stream.answer().await?.events);
        }
        let told: Vec<_> =
            events.iter().map(|event| (event.r#type(), revisions(std::slice::from_ref(event)))).collect();
        let expected = [(EventType::Delete, vec![deleted]), (EventType::Put, vec![after])];
        ensure!(told == expected, "life {life}: from the compacted revision {deleted} on, told {told:?}");
        match life {
            0 => store.restart()?,
            // The tombstone must outlive a defragmentation, too.
            _ => drop(store.etcdctl_ok(&["defrag"])?),
        }
        wait_for(&wire).await?;
    }
    Ok(())
}

/// The newest revisions are deletes, and all up to them is compacted: nothing in the tables names them any more.
async fn compacted_to_the_end(store: &mut Store) -> Result<()> {
    let mut dice = Dice::from_env();
    let wire = Wire::new(&store.endpoint())?;
    let mut told = 0;
    for round in 0..5 {
        let found = wire.put(b"k", b"value", 0).await?;
        ensure!(found > told, "round {round}: revision {found} was given again, {told} was acknowledged");
        for n in 0..200_u32 {
            wire.put(format!("gone/{n}").as_bytes(), b"value", 0).await?;
        }
        for n in 0..200_u32 {
            wire.delete(format!("gone/{n}").as_bytes()).await?;
        }
        (told, _) = wire.delete(b"k").await?;
        let compact = tokio::spawn({
            let wire = wire.clone();
            async move { wire.compact(told).await }
        });
        tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
        store.restart()?;
        let _ = compact.await?;
        wait_for(&wire).await?;
        let now = wire.revision().await?;
        ensure!(now == told, "round {round}: the revision was {told} before the crash and is {now}");
    }
    Ok(())
}

fn killed_defragmentation(store: &mut Store) -> Result<()> {
    let mut dice = Dice::from_env();
    runtime(async {
        let wire = Wire::new(&store.endpoint())?;
        for n in 0..3_000_u32 {
            wire.put(format!("k/{}", n % 1_000).as_bytes(), &[7; 500], 0).await?;
        }
        Ok(())
    })?;
    let hash = |store: &Store| store.etcdctl_ok(&["endpoint", "hashkv"]);
    let before = hash(store)?;
    for round in 0..5 {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| store.etcdctl(&["defrag"]));
            std::thread::sleep(Duration::from_millis(dice.below(80)));
            store.signal(Signal::KILL)?;
            let _ = asked.join();
            anyhow::Ok(())
        })?;
        store.restart()?;
        let after = hash(store)?;
        ensure!(after == before, "round {round}: the hash was {before} and is {after}");
    }
    store.etcdctl_ok(&["defrag"])?;
    ensure!(hash(store)? == before, "after a defragmentation that was not killed");
    Ok(())
}

/// A member that was restarted asks the same of users as the others; what it applies is the same.
fn users(three: &mut Cluster, _dir: &Path) -> Result<()> {
    let root = ["--user", "root:secret"];
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "writer"],
        &["role", "grant-permission", "writer", "readwrite", "k/", "--prefix"],
        &["user", "add", "worker:secret"],
        &["user", "grant-role", "worker", "writer"],
        &["auth", "enable"],
    ] {
        three.etcdctl_ok(0, args)?;
    }
    for restarted in 0..3 {
        three.members[restarted].kill9()?;
        three.members[restarted] = three.members[restarted].setup.spawn()?;
        let with = |args: &[&'static str]| [args, &["--user", "worker:secret"]].concat();
        let served = wait_until(GO_ON, || {
            three.etcdctl(restarted, &with(&["put", "k/a", "value"])).is_ok_and(|out| out.status.success())
        });
        ensure!(served, "member {restarted} refuses the user after its restart");
        for at in 0..3 {
            three.etcdctl_ok(at, &with(&["put", "k/b", "value"]))?;
            let refused = three.etcdctl(at, &with(&["put", "other", "value"]))?;
            ensure!(String::from_utf8_lossy(&refused.stderr).contains("permission denied"), "{refused:?}");
        }
    }
    let mut hashes = BTreeSet::new();
    let same = wait_until(GO_ON, || {
        hashes.clear();
        for at in 0..3 {
            let said = three.etcdctl(at, &[&["endpoint", "hashkv"][..], &root].concat());
            let said = said.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
            hashes.insert(said.split_once(", ").map(|(_, hash)| hash.to_owned()));
        }
        hashes.len() == 1 && !hashes.contains(&None)
    });
    ensure!(same, "the members hold different data: {hashes:?}");
    Ok(())
}

/// A member that has slept through writes begins a watch only where it was asked to.
async fn behind(three: &mut Cluster) -> Result<()> {
    let leader = three.leader()?;
    let (slow, other) = ((leader + 1) % 3, (leader + 2) % 3);
    for round in 0..3 {
        let wire = Wire::new(&three.members[other].endpoint())?;
        wire.put(b"k/first", b"value", 0).await?;
        three.members[slow].signal(Signal::STOP)?;
        let mut newest = 0;
        for n in 0..100_u32 {
            newest = wire.put(format!("k/{n}").as_bytes(), b"value", 0).await?;
        }
        three.members[slow].signal(Signal::CONT)?;
        let mut stream = Watching::begin(&three.members[slow].endpoint(), vec![on_prefix("k/", newest + 1)]).await?;
        let next = wire.put(b"k/next", b"value", 0).await?;
        let mut told = Vec::new();
        while told.is_empty() {
            told = revisions(&stream.answer().await?.events);
        }
        ensure!(told == [next], "round {round}: asked from {} on, told {told:?}", newest + 1);
    }
    three.agree(&[0, 1, 2])?;
    Ok(())
}

/// All of a transaction or nothing, on every member, whether its tables are compacted yet or not.
async fn compacted_read(three: &mut Cluster) -> Result<()> {
    let wire = Wire::new(&three.members[0].endpoint())?;
    let first = wire.put(b"k", b"1", 0).await?;
    let last = wire.put(b"k", b"2", 0).await?;
    wire.compact(last).await?;
    for at in 0..3 {
        let channel = Endpoint::from_shared(format!("http://{}", three.members[at].endpoint()))?.connect().await?;
        let mut kv = KvClient::new(channel);
        let put = PutRequest { key: "k".into(), value: "torn".into(), ..Default::default() };
        let old = RangeRequest { key: "k".into(), revision: first, ..Default::default() };
        let ops = [Request::RequestPut(put), Request::RequestRange(old)].map(|op| RequestOp { request: Some(op) });
        let refused = kv.txn(TxnRequest { success: ops.into(), ..Default::default() }).await;
        let said = refused.err().context("a transaction that can't be answered was taken")?;
        ensure!(said.message() == "etcdserver: mvcc: required revision has been compacted", "{said:?}");
        let (value, now) = (wire.read(b"k").await?, wire.revision().await?);
        ensure!(value.as_deref() == Some(b"2") && now == last, "it changed {value:?} at {now}, before it was {last}");
        ensure!(three.members[at].is_running(), "member {at} ended");
    }
    three.agree(&[0, 1, 2])?;
    Ok(())
}

/// A leader that slept through an election knows nothing of what came since; it must find that out before it answers.
async fn paused(three: &mut Cluster) -> Result<()> {
    for round in 0..3 {
        let old = three.leader()?;
        let wires: Vec<Wire> = three.members.iter().map(|m| Wire::new(&m.endpoint())).collect::<Result<_>>()?;
        let before = format!("{round} before");
        wires[old].put(b"k", before.as_bytes(), 0).await?;
        three.members[old].signal(Signal::STOP)?;
        let after = format!("{round} after");
        let end = tokio::time::Instant::now() + GO_ON;
        while wires[(old + 1) % 3].put(b"k", after.as_bytes(), 0).await.is_err() {
            ensure!(tokio::time::Instant::now() < end, "round {round}: no write without the paused leader");
        }
        // Asked while it sleeps, and right after it wakes.
        let asleep = tokio::spawn({
            let wire = wires[old].clone();
            async move { wire.read(b"k").await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        three.members[old].signal(Signal::CONT)?;
        let mut answers = vec![asleep.await?];
        for _ in 0..20 {
            answers.push(wires[old].read(b"k").await);
        }
        let good: Vec<_> = answers.into_iter().flatten().collect();
        ensure!(!good.is_empty(), "round {round}: the member does not answer any more");
        let stale = good.iter().flatten().find(|value| **value != after.as_bytes());
        ensure!(
            stale.is_none(),
            "round {round}: read {:?} after {after:?} was acknowledged",
            stale.map(|v| v.escape_ascii().to_string())
        );
    }
    three.agree(&[0, 1, 2])?;
    Ok(())
}

/// A member takes over a whole store twice in short order, defragmenting meanwhile.
async fn two_snapshots(three: &mut Cluster) -> Result<()> {
    let away = (three.leader()? + 1) % 3;
    let stays = (away + 1) % 3;
    for round in 0..2_u8 {
        three.members[away].kill9()?;
        // More than the leader keeps in memory: 80 MiB.
        let wire = Wire::new(&three.members[stays].endpoint())?;
        for n in 0..80_u8 {
            let (key, value) = (format!("large/{n}"), vec![round ^ n; 1 << 20]);
            // The disk is busy enough for an election; the same put may be given again.
            let mut put = wire.put(key.as_bytes(), &value, 0).await;
            for _ in 0..10 {
                if put.is_err() {
                    put = wire.put(key.as_bytes(), &value, 0).await;
                }
            }
            put?;
        }
        three.members[away] = three.members[away].setup.spawn()?;
        for _ in 0..4 {
            let _ = three.etcdctl(away, &["defrag", "--command-timeout", "5s"])?;
        }
        three.agree(&[0, 1, 2])?;
        ensure!(three.members[away].is_running(), "the member ended");
    }
    let log = three.members[away].log_tail(usize::MAX);
    let taken_over = log.matches("took over the store as the leader sent it").count();
    ensure!(taken_over >= 2, "it was brought up to date by {taken_over} snapshots only");
    Ok(())
}

/// Who was removed is unknown for ever: after restarts, in a snapshot that is restored, and in a forced new cluster.
fn removed(three: &mut Cluster, dir: &Path) -> Result<()> {
    let gone = (three.leader()? + 1) % 3;
    let (stays, other) = ((gone + 1) % 3, (gone + 2) % 3);
    let id = format!("{:x}", three.id(gone)?);
    let remove = || three.etcdctl(stays, &["member", "remove", &id]).is_ok_and(|out| out.status.success());
    ensure!(wait_until(GO_ON, remove), "member remove {id}");
    three.members[gone].wait_end(GO_ON)?;
    let knows = |store: &Store, when: &str| {
        let list = store.etcdctl_ok(&["member", "list"])?;
        ensure!(!list.contains(&id) && !list.contains(&format!("m{gone}")), "{when}: {list}");
        anyhow::Ok(list.lines().count())
    };
    for at in [stays, other] {
        three.members[at].kill9()?;
        three.members[at] = three.members[at].setup.spawn()?;
    }
    three.wait_ready()?;
    ensure!(knows(&three.members[stays], "after restarts of all")? == 2, "two are left");
    let (status, log) = three.members[gone].setup.run_to_end(GO_ON)?;
    ensure!(!status.success() && log.contains("permanently removed"), "the removed one may not start again:\n{log}");

    let file = dir.join("saved.db");
    let file = file.to_str().context("a path that is not text")?;
    three.etcdctl_ok(stays, &["snapshot", "save", file])?;
    let restored = Setup::new(&Program::under_test()?, &dir.join("m0"))?;
    let restored = Setup { data: dir.join("restored"), log: dir.join("restored.log"), ..restored };
    let mut command = std::process::Command::new(&restored.program.utl[0]);
    command.args(&restored.program.utl[1..]).args(["snapshot", "restore", file, "--name", &restored.name]);
    command.args(["--initial-cluster", &restored.initial_cluster]);
    command.args(["--initial-advertise-peer-urls", &restored.peer_url]).arg("--data-dir").arg(&restored.data);
    let out = command.output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    ensure!(knows(&restored.start()?, "restored")? == 1, "only the new one");

    for at in [stays, other] {
        three.members[at].kill9()?;
    }
    let forced = three.members[stays].setup.clone().flags(&["--force-new-cluster"]);
    ensure!(knows(&forced.start()?, "a forced new cluster")? == 1, "only the one that was forced");
    three.members[stays].restart()?;
    ensure!(knows(&three.members[stays], "the forced one, restarted")? == 1, "still only that one");
    Ok(())
}

/// Waits until the server answers again.
async fn wait_for(wire: &Wire) -> Result<()> {
    for _ in 0..400 {
        if wire.revision().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("the server does not answer after its restart")
}

fn revisions(events: &[eyrie_api::mvccpb::Event]) -> Vec<i64> {
    events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).collect()
}
