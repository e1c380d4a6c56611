//! The cases: what is done to one side in one round, and which figures come of it.
//!
//! | case | what |
//! |---|---|
//! | `put`, `range`, `memory`, `start`, `snapshot` | one journey over one data dir with a million keys |
//! | `latency` | puts at half of what upstream can do, the same rate for both |
//! | `watch` | a thousand watchers on one prefix, writers at full speed |
//! | `cluster` | three members: puts through the leader, reads through a follower |
//! | `housekeeping` | puts at a low fixed rate, during defragmentation, snapshot and compaction |

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::histogram::Histogram;
use super::load::{self, Outcome, Pace, Plan, Sample, Watchers};
use super::report::Results;
use super::sides::{Member, Side};
use super::wire;

/// All cases, in the order they run.
pub(crate) const ALL: [&str; 9] =
    ["put", "range", "memory", "start", "snapshot", "latency", "watch", "cluster", "housekeeping"];

/// Connections and calls under way on each, for what runs at full speed.
const CONNECTIONS: usize = 16;
const IN_FLIGHT: u32 = 64;
/// An open pace must be able to have as many calls waiting as a long stall collects.
const IN_FLIGHT_OPEN: u32 = 4096;
const VALUE_BYTES: usize = 256;
const WATCH_VALUE_BYTES: usize = 32;
/// Housekeeping that is over sooner is repeated, so that a p99 has calls to be made of.
const HOUSEKEEPING_MIN: Duration = Duration::from_secs(3);
/// Calm before and between housekeeping.
const CALM: Duration = Duration::from_secs(2);

/// How much of everything.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Distinct keys of the journey.
    pub(crate) keys: u64,
    /// How long ranges run.
    pub(crate) range_time: Duration,
    /// How long after its load a server's memory is read.
    pub(crate) memory_calm: Duration,
    /// How long the `latency` case runs.
    pub(crate) latency_time: Duration,
    /// Puts that the watchers see.
    pub(crate) watched_puts: u64,
    /// Connections with 100 watches each.
    pub(crate) watch_connections: usize,
    /// Revisions that are compacted.
    pub(crate) revisions: u64,
    /// Puts a second during housekeeping.
    pub(crate) housekeeping_rate: u64,
    /// How long housekeeping's idle phase runs.
    pub(crate) idle_time: Duration,
}

/// What the figures on the page are made with.
pub(crate) const FULL: Scale = Scale {
    keys: 1_000_000,
    range_time: Duration::from_secs(5),
    memory_calm: Duration::from_secs(5),
    latency_time: Duration::from_secs(15),
    watched_puts: 10_000,
    watch_connections: 10,
    revisions: 500_000,
    housekeeping_rate: 1_000,
    idle_time: Duration::from_secs(10),
};

/// Enough to see that everything works.
pub(crate) const QUICK: Scale = Scale {
    keys: 50_000,
    range_time: Duration::from_secs(2),
    memory_calm: Duration::from_secs(1),
    latency_time: Duration::from_secs(5),
    watched_puts: 300,
    watch_connections: 10,
    revisions: 50_000,
    housekeeping_rate: 1_000,
    idle_time: Duration::from_secs(5),
};

/// What a round needs.
pub(crate) struct Bench<'a> {
    /// How much.
    pub(crate) scale: Scale,
    /// The cases to run.
    pub(crate) cases: &'a [String],
    /// Scratch on the disk that both sides use.
    pub(crate) dir: PathBuf,
    /// Puts a second in the `latency` case; measured once.
    pub(crate) latency_rate: u64,
    /// The same for three members.
    pub(crate) cluster_rate: u64,
}

impl Bench<'_> {
    fn wants(&self, case: &str) -> bool {
        self.cases.iter().any(|wanted| wanted == case)
    }

    /// One round of all wanted cases on one side.
    ///
    /// # Errors
    /// When the side breaks or loses something: then there is nothing to compare.
    pub(crate) fn round(&self, side: &Side, results: &mut Results) -> Result<()> {
        type Case<'a> = fn(&Bench<'a>, &Side, &mut Results) -> Result<()>;
        let parts: [(&str, &[&str], Case<'_>); 5] = [
            ("the journey with many keys", &["put", "range", "memory", "start", "snapshot"], Bench::journey),
            ("latency", &["latency"], Bench::latency),
            ("watch", &["watch"], Bench::watch),
            ("three members", &["cluster"], Bench::cluster),
            ("housekeeping", &["housekeeping"], Bench::housekeeping),
        ];
        for (name, cases, run) in parts {
            if cases.iter().any(|case| self.wants(case)) {
                let begin = Instant::now();
                run(self, side, results).with_context(|| format!("{}: {name}", side.name))?;
                eprintln!("    {}  {name} took {:.0} s", side.name, begin.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// Half of the puts a second that this side does at full speed.
    ///
    /// # Errors
    /// As for [`Bench::round`].
    pub(crate) fn half_speed(&self, side: &Side) -> Result<u64> {
        let dir = self.fresh("calibrate")?;
        let member = side.start(&dir)?;
        let outcome = puts(&member, Pace::Closed, u64::MAX, Duration::from_secs(5), u64::MAX)?.all_well()?;
        member.stop()?;
        self.remove(&dir)?;
        Ok(((outcome.rate() / 2.0) as u64 / 100 * 100).max(100))
    }

    /// As [`Bench::half_speed`], for three members.
    ///
    /// # Errors
    /// As for [`Bench::round`].
    pub(crate) fn half_speed_of_three(&self, side: &Side) -> Result<u64> {
        let dir = self.fresh("calibrate")?;
        let members = side.start_three(&dir)?;
        let outcome = puts(&members[0], Pace::Closed, u64::MAX, Duration::from_secs(5), u64::MAX)?.all_well()?;
        members.into_iter().try_for_each(Member::stop)?;
        self.remove(&dir)?;
        Ok(((outcome.rate() / 2.0) as u64 / 100 * 100).max(100))
    }

    fn cluster(&self, side: &Side, results: &mut Results) -> Result<()> {
        let dir = self.fresh("cluster")?;
        let members = side.start_three(&dir)?;
        let all_cpu = || members.iter().map(Member::cpu).sum::<Result<Duration>>();
        let (leader, follower) = (&members[0], &members[1]);
        let before = all_cpu()?;
        let outcome = puts(leader, Pace::Closed, self.scale.keys / 4, Duration::MAX, u64::MAX)?.all_well()?;
        let cpu = all_cpu()? - before;
        full_speed(side, "cluster.put", &outcome, cpu, results);
        let before = all_cpu()?;
        let outcome = self.gets(follower, false)?;
        let cpu = all_cpu()? - before;
        full_speed(side, "cluster.range", &outcome, cpu, results);
        for member in &members {
            member.check("k/", self.scale.keys / 4, self.scale.keys / 4, 0)?;
        }
        members.into_iter().try_for_each(Member::stop)?;
        self.remove(&dir)?;

        let dir = self.fresh("cluster-latency")?;
        let members = side.start_three(&dir)?;
        let pace = Pace::Open(self.cluster_rate);
        let outcome = puts(&members[0], pace, u64::MAX, self.scale.latency_time, u64::MAX)?;
        members[0].check("k/", outcome.done, outcome.done, outcome.failed)?;
        members.into_iter().try_for_each(Member::stop)?;
        self.remove(&dir)?;
        refused(side, "cluster.latency", &outcome, results);
        results.add(side, "cluster.latency.offered", self.cluster_rate as f64);
        results.add(side, "cluster.latency.rate", outcome.rate());
        results.add(side, "cluster.latency.p50", millis(outcome.latencies.quantile(0.5)));
        results.add(side, "cluster.latency.p99", millis(outcome.latencies.quantile(0.99)));
        results.add(side, "cluster.latency.max", millis(outcome.latencies.max()));
        Ok(())
    }

    fn journey(&self, side: &Side, results: &mut Results) -> Result<()> {
        let dir = self.fresh("journey")?;
        let member = side.start(&dir)?;
        self.fill(side, &member, results)?;
        if self.wants("range") {
            self.range(side, &member, false, results)?;
            self.range(side, &member, true, results)?;
        }
        let snapshot = self.dir.join("journey.snapshot");
        if self.wants("snapshot") {
            let _ = std::fs::remove_file(&snapshot);
            let begin = Instant::now();
            member.ctl(&["snapshot", "save", text(&snapshot)?])?;
            results.add(side, "snapshot.save", begin.elapsed().as_secs_f64());
        }
        member.stop()?;
        if self.wants("start") || self.wants("memory") {
            let member = side.start(&dir)?;
            if self.wants("start") {
                results.add(side, "start.time", member.started_after.as_secs_f64());
            }
            std::thread::sleep(self.scale.memory_calm);
            if self.wants("memory") {
                results.add(side, "memory.restarted", mib(member.memory()?));
            }
            member.check("k/", self.scale.keys, self.scale.keys, 0)?;
            member.stop()?;
        }
        self.remove(&dir)?;
        if self.wants("snapshot") {
            let dir = self.fresh("restored")?;
            let took = side.restore(&snapshot, &dir)?;
            results.add(side, "snapshot.restore", took.as_secs_f64());
            let member = side.start(&dir)?;
            member.check("k/", self.scale.keys, self.scale.keys, 0)?;
            member.stop()?;
            self.remove(&dir)?;
            std::fs::remove_file(&snapshot).context("remove the snapshot")?;
        }
        Ok(())
    }

    fn fill(&self, side: &Side, member: &Member, results: &mut Results) -> Result<()> {
        let cpu = member.cpu()?;
        let outcome = puts(member, Pace::Closed, self.scale.keys, Duration::MAX, u64::MAX)?.all_well()?;
        let cpu = member.cpu()? - cpu;
        member.check("k/", self.scale.keys, self.scale.keys, 0)?;
        if self.wants("put") {
            full_speed(side, "put", &outcome, cpu, results);
        }
        if self.wants("memory") {
            std::thread::sleep(self.scale.memory_calm);
            results.add(side, "memory.loaded", mib(member.memory()?));
        }
        Ok(())
    }

    fn range(&self, side: &Side, member: &Member, serializable: bool, results: &mut Results) -> Result<()> {
        let key = key(1);
        let cpu = member.cpu()?;
        let outcome = self.gets(member, serializable)?;
        let cpu = member.cpu()? - cpu;
        full_speed(
            side,
            if serializable { "range.serializable" } else { "range.linearizable" },
            &outcome,
            cpu,
            results,
        );
        let mut message = Vec::new();
        wire::range(&mut message, &key, serializable);
        let answer = load::ask(member.address, wire::RANGE, &message, Duration::from_secs(10))?;
        let pairs = wire::ranged(&answer).context("the answer to a range is not one")?;
        match pairs[..] {
            [pair] if pair.len() > key.len() + VALUE_BYTES && pair[2..].starts_with(&key) => Ok(()),
            _ => Err(anyhow!("a range of one stored key answered {} pairs, or another pair", pairs.len())),
        }
    }

    /// Ranges of one stored key.
    fn gets(&self, member: &Member, serializable: bool) -> Result<Outcome> {
        let key = key(1);
        load::run(
            &mut Plan {
                address: member.address,
                path: wire::RANGE,
                connections: CONNECTIONS,
                in_flight: IN_FLIGHT,
                pace: Pace::Closed,
                calls_max: u64::MAX,
                time_max: self.scale.range_time,
                stop: None,
                message: &mut |_, message| wire::range(message, &key, serializable),
            },
            None,
        )?
        .all_well()
    }

    fn latency(&self, side: &Side, results: &mut Results) -> Result<()> {
        let dir = self.fresh("latency")?;
        let member = side.start(&dir)?;
        let cpu = member.cpu()?;
        let pace = Pace::Open(self.latency_rate);
        let outcome = puts(&member, pace, u64::MAX, self.scale.latency_time, u64::MAX)?;
        let cpu = member.cpu()? - cpu;
        member.check("k/", outcome.done, outcome.done, outcome.failed)?;
        member.stop()?;
        self.remove(&dir)?;
        refused(side, "latency", &outcome, results);
        results.add(side, "latency.offered", self.latency_rate as f64);
        results.add(side, "latency.rate", outcome.rate());
        results.add(side, "latency.p50", millis(outcome.latencies.quantile(0.5)));
        results.add(side, "latency.p99", millis(outcome.latencies.quantile(0.99)));
        results.add(side, "latency.max", millis(outcome.latencies.max()));
        results.add(side, "latency.cpu", cpu.as_secs_f64() * 100_000.0 / outcome.done as f64);
        Ok(())
    }

    fn watch(&self, side: &Side, results: &mut Results) -> Result<()> {
        let dir = self.fresh("watch")?;
        let member = side.start(&dir)?;
        let mut create = Vec::new();
        wire::watch_create(&mut create, b"k/");
        let mut watchers = Watchers::open(member.address, self.scale.watch_connections, 100, &create)?;
        let value = noise(WATCH_VALUE_BYTES);
        let cpu = member.cpu()?;
        let outcome = load::run(
            &mut Plan {
                address: member.address,
                path: wire::PUT,
                connections: CONNECTIONS,
                in_flight: IN_FLIGHT,
                pace: Pace::Closed,
                calls_max: self.scale.watched_puts,
                time_max: Duration::MAX,
                stop: None,
                message: &mut |call, message| wire::put(message, &key(call), &value[..WATCH_VALUE_BYTES]),
            },
            Some(&mut watchers),
        )?
        .all_well()?;
        let cpu = member.cpu()? - cpu;
        member.check("k/", self.scale.watched_puts, self.scale.watched_puts, 0)?;
        member.stop()?;
        self.remove(&dir)?;
        let events = (self.scale.watched_puts * self.scale.watch_connections as u64 * 100) as f64;
        results.add(side, "watch.rate", events / outcome.elapsed.as_secs_f64());
        results.add(side, "watch.cpu", cpu.as_secs_f64() * 1e6 / events);
        results.add(side, "watch.client", outcome.client_cpu.as_secs_f64() * 1e6 / events);
        Ok(())
    }

    fn housekeeping(&self, side: &Side, results: &mut Results) -> Result<()> {
        let dir = self.fresh("housekeeping")?;
        let member = side.start(&dir)?;
        // Every key is written eleven times: a compaction drops ten of them.
        let keys = self.scale.revisions / 10;
        let loaded = puts(&member, Pace::Closed, self.scale.revisions + keys, Duration::MAX, keys)?.all_well()?;
        member.check("k/", keys, loaded.done, 0)?;
        std::thread::sleep(CALM);

        let stop = AtomicBool::new(false);
        let snapshot = self.clients_dir().join(format!("eyrie-bench-{}.snapshot", std::process::id()));
        let remote = member.remote();
        let (outcome, works) = std::thread::scope(|scope| {
            let works = scope.spawn(|| {
                let works = works(self.scale.idle_time, loaded.done + 1, text(&snapshot), &remote);
                stop.store(true, Ordering::Relaxed);
                works
            });
            let value = noise(VALUE_BYTES);
            let outcome = load::run(
                &mut Plan {
                    address: member.address,
                    path: wire::PUT,
                    connections: CONNECTIONS,
                    in_flight: IN_FLIGHT_OPEN,
                    pace: Pace::Open(self.scale.housekeeping_rate),
                    calls_max: u64::MAX,
                    time_max: Duration::MAX,
                    stop: Some(&stop),
                    message: &mut |call, message| wire::put(message, &key(call % keys), at(&value, call)),
                },
                None,
            );
            stop.store(true, Ordering::Relaxed);
            (outcome, works.join())
        });
        let outcome = outcome?;
        let works = works.map_err(|_| anyhow!("the thread that runs etcdctl panicked"))??;
        refused(side, "housekeeping", &outcome, results);
        let idle = window(&outcome.samples, &works[0]);
        for work in &works {
            let p99 = window(&outcome.samples, work);
            results.add(side, &format!("housekeeping.{}.p99", work.name), p99);
            if work.name != "idle" {
                results.add(side, &format!("housekeeping.{}.ratio", work.name), p99 / idle);
                results.add(side, &format!("housekeeping.{}.time", work.name), work.once.as_secs_f64());
            }
        }
        member.check("k/", keys, loaded.done + outcome.done, outcome.failed)?;
        member.stop()?;
        let _ = std::fs::remove_file(&snapshot);
        self.remove(&dir)
    }

    /// Where a client keeps its files: in memory where that can be had, since a client on another host would not keep
    /// the member's disk busy. The sync of a saved snapshot holds up the log of a member on the same disk.
    fn clients_dir(&self) -> &Path {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { memory } else { &self.dir }
    }

    /// A data dir that does not exist yet.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("create {}", self.dir.display()))?;
        let dir = self.dir.join(name);
        if dir.exists() {
            self.remove(&dir)?;
        }
        Ok(dir)
    }

    fn remove(&self, dir: &Path) -> Result<()> {
        std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
    }
}

/// One phase of the housekeeping case.
struct Work {
    name: &'static str,
    begin: Instant,
    end: Instant,
    /// How long one of it took.
    once: Duration,
}

/// Runs the phases one after another, each by upstream's etcdctl.
fn works(
    idle: Duration,
    revision: u64,
    snapshot: Result<&str>,
    ctl: &dyn Fn(&[&str]) -> Result<String>,
) -> Result<Vec<Work>> {
    let snapshot = snapshot?;
    std::thread::sleep(CALM);
    let begin = Instant::now();
    std::thread::sleep(idle);
    let mut works = vec![Work { name: "idle", begin, end: Instant::now(), once: idle }];
    let repeated: [(&str, &[&str]); 2] = [("snapshot", &["snapshot", "save", snapshot]), ("defragment", &["defrag"])];
    for (name, args) in repeated {
        let begin = Instant::now();
        let mut times = 0;
        while times == 0 || begin.elapsed() < HOUSEKEEPING_MIN {
            ctl(args)?;
            times += 1;
        }
        let end = Instant::now();
        works.push(Work { name, begin, end, once: (end - begin) / times });
        std::thread::sleep(CALM);
    }
    let begin = Instant::now();
    ctl(&["compaction", "--physical", &revision.to_string()])?;
    let end = Instant::now();
    works.push(Work { name: "compact", begin, end, once: end - begin });
    std::thread::sleep(CALM);
    Ok(works)
}

/// The p99 in milliseconds of the calls that were due while this went on.
fn window(samples: &[Sample], work: &Work) -> f64 {
    let mut histogram = Histogram::default();
    for sample in samples.iter().filter(|sample| sample.due >= work.begin && sample.due < work.end) {
        histogram.add(sample.latency_nanos);
    }
    millis(histogram.quantile(0.99))
}

/// Puts of 256 bytes on keys `k/…`: all distinct, or over so many keys.
/// Puts, so many keys in turn.
///
/// # Errors
/// As [`load::run`].
pub(crate) fn puts(member: &Member, pace: Pace, calls_max: u64, time_max: Duration, keys: u64) -> Result<Outcome> {
    let value = noise(VALUE_BYTES);
    load::run(
        &mut Plan {
            address: member.address,
            path: wire::PUT,
            connections: CONNECTIONS,
            in_flight: if matches!(pace, Pace::Closed) { IN_FLIGHT } else { IN_FLIGHT_OPEN },
            pace,
            calls_max,
            time_max,
            stop: None,
            message: &mut |call, message| wire::put(message, &key(call % keys), at(&value, call)),
        },
        None,
    )
}

/// A server may refuse calls at an open pace; that is reported, not hidden.
fn refused(side: &Side, case: &str, outcome: &Outcome, results: &mut Results) {
    results.add(side, &format!("{case}.failed"), outcome.failed as f64);
    if let Some(first) = &outcome.first_failure {
        eprintln!("    {}: {} puts failed; the first: {first}", side.name, outcome.failed);
    }
}

fn full_speed(side: &Side, case: &str, outcome: &Outcome, cpu: Duration, results: &mut Results) {
    let calls = outcome.done as f64;
    results.add(side, &format!("{case}.rate"), outcome.rate());
    results.add(side, &format!("{case}.cpu"), cpu.as_secs_f64() * 100_000.0 / calls);
    results.add(side, &format!("{case}.p50"), millis(outcome.latencies.quantile(0.5)));
    results.add(side, &format!("{case}.p99"), millis(outcome.latencies.quantile(0.99)));
    results.add(side, &format!("{case}.client"), outcome.client_cpu.as_secs_f64() * 1e6 / calls);
}

/// The key of call `i`: all are distinct, and their order is not the order of calls.
fn key(call: u64) -> [u8; 18] {
    let mut key = *b"k/0000000000000000";
    // A multiplication by an odd number is a permutation of the 64-bit numbers.
    let mut number = call.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for digit in key[2..].iter_mut() {
        *digit = b"0123456789abcdef"[(number >> 60) as usize];
        number <<= 4;
    }
    key
}

/// Bytes that do not compress, long enough that values of this length can be cut from many places.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..NOISE_PLACES + len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

const NOISE_PLACES: usize = 1 << 16;

/// The value of call `i`.
fn at(noise: &[u8], call: u64) -> &[u8] {
    let place = call as usize % NOISE_PLACES;
    &noise[place..place + VALUE_BYTES]
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not text", path.display()))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_unordered() {
        let mut keys: Vec<_> = (0..10_000).map(key).collect();
        assert!(!keys.is_sorted());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10_000);
    }
}
