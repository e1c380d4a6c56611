//! The load generator: one thread, one epoll, many connections with many calls under way on each.
//!
//! ```text
//! closed pace: a call that ends starts the next one                          → how much can the server do?
//! open pace:   call i is due at i / rate, whether or not earlier ones ended  → what does a client feel at that rate?
//! ```
//!
//! In the open pace a latency counts from the moment a call was *due*: a server that stalls is charged for every call
//! it kept waiting (no coordinated omission). It must never know what a message means.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::h2lite::{Connection, Happening};
use super::histogram::Histogram;

/// How much is read from a socket at once.
const READ_BYTES: usize = 256 * 1024;
/// A run in which nothing has moved for so long has failed (upstream's defragmentation stops it for many seconds).
const STALL_MAX: Duration = Duration::from_secs(120);
/// The longest sleep, so that a stop from outside is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// When calls start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// When an earlier one ends.
    Closed,
    /// So many a second.
    Open(u64),
}

/// What to do to the server.
pub(crate) struct Plan<'a> {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The method.
    pub(crate) path: &'static str,
    /// How many connections.
    pub(crate) connections: usize,
    /// The most calls under way on each.
    pub(crate) in_flight: u32,
    /// When calls start.
    pub(crate) pace: Pace,
    /// Ends after so many calls, ...
    pub(crate) calls_max: u64,
    /// ... or after so long, ...
    pub(crate) time_max: Duration,
    /// ... or when somebody sets this.
    pub(crate) stop: Option<&'a AtomicBool>,
    /// Writes the message of call `i`.
    pub(crate) message: &'a mut dyn FnMut(u64, &mut Vec<u8>),
}

/// One call of an open pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When it was due.
    pub(crate) due: Instant,
    /// How long after that it ended.
    pub(crate) latency_nanos: u64,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Calls that ended well.
    pub(crate) done: u64,
    /// Calls that did not.
    pub(crate) failed: u64,
    /// What the first of those was told.
    pub(crate) first_failure: Option<String>,
    /// From the first call's start to the last one's end.
    pub(crate) elapsed: Duration,
    /// Of the calls that ended well.
    pub(crate) latencies: Histogram,
    /// Every call, for an open pace only.
    pub(crate) samples: Vec<Sample>,
    /// CPU time that this thread spent.
    pub(crate) client_cpu: Duration,
}

impl Outcome {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }

    /// Refuses a run in which a call failed: its figures would compare nothing.
    ///
    /// # Errors
    /// With what the server said to the first of them.
    pub(crate) fn all_well(self) -> Result<Self> {
        if let Some(first) = &self.first_failure {
            bail!("{} of {} calls failed; the first: {first}", self.failed, self.failed + self.done);
        }
        Ok(self)
    }
}

/// Runs a plan to its end, alone or beside watchers.
///
/// # Errors
/// When a connection breaks or nothing moves for long. A call that fails is counted, not an error.
pub(crate) fn run(plan: &mut Plan<'_>, watchers: Option<&mut Watchers>) -> Result<Outcome> {
    let mut links = Links::connect(plan.address, plan.path, plan.connections)?;
    links.settle()?;
    let watched = match watchers {
        Some(watchers) => {
            links.adopt(watchers)?;
            watchers.watches_expected()
        }
        None => 0,
    };
    let mut run = Run {
        first_watcher: plan.connections,
        events_per_call: watched,
        begin: Instant::now(),
        issued: 0,
        next_link: 0,
        scratch: Vec::new(),
        outcome: Outcome::default(),
        events: 0,
        plan,
    };
    let cpu = thread_cpu()?;
    run.drive(&mut links)?;
    run.outcome.client_cpu = thread_cpu()?.saturating_sub(cpu);
    Ok(run.outcome)
}

/// One run under way.
struct Run<'a, 'p> {
    plan: &'a mut Plan<'p>,
    /// Links from here on are watchers.
    first_watcher: usize,
    events_per_call: u64,
    begin: Instant,
    issued: u64,
    next_link: usize,
    scratch: Vec<u8>,
    outcome: Outcome,
    events: u64,
}

impl Run<'_, '_> {
    fn drive(&mut self, links: &mut Links) -> Result<()> {
        let mut last_move = self.begin;
        for index in 0..self.first_watcher {
            self.fill(&mut links.all[index]);
            links.flush(index)?;
        }
        loop {
            let sleep = self.start_due(links)?;
            if self.is_over() {
                break;
            }
            let ready = links.wait(sleep)?;
            let mut moved = false;
            for event in ready {
                let index = event.data.u64() as usize;
                let (done, events) = (self.outcome.done + self.outcome.failed, self.events);
                self.take(links, index)?;
                moved |= self.outcome.done + self.outcome.failed != done || self.events != events;
                self.fill(&mut links.all[index]);
                links.flush(index)?;
            }
            if moved {
                last_move = Instant::now();
                self.outcome.elapsed = last_move - self.begin;
            } else if last_move.elapsed() > STALL_MAX {
                bail!(
                    "nothing has moved for {} s: {} calls of {} have ended, {} events came",
                    STALL_MAX.as_secs(),
                    self.finished(),
                    self.issued,
                    self.events
                );
            }
        }
        Ok(())
    }

    fn finished(&self) -> u64 {
        self.outcome.done + self.outcome.failed
    }

    fn may_issue(&self) -> bool {
        self.issued < self.plan.calls_max
            && !self.plan.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
            && self.begin.elapsed() < self.plan.time_max
    }

    fn is_over(&self) -> bool {
        self.finished() == self.issued && self.events >= self.issued * self.events_per_call && !self.may_issue()
    }

    /// Closed pace: starts calls on this link until as many are under way as allowed.
    fn fill(&mut self, link: &mut Link) {
        if !matches!(self.plan.pace, Pace::Closed) || link.watcher {
            return;
        }
        while link.http.in_flight() < self.plan.in_flight && self.may_issue() {
            let now = self.begin.elapsed().as_nanos() as u64;
            if !self.start(link, now) {
                return;
            }
        }
    }

    /// Open pace: starts all calls that are due; returns how long until the next one is.
    fn start_due(&mut self, links: &mut Links) -> Result<Duration> {
        let Pace::Open(per_second) = self.plan.pace else { return Ok(SLEEP_MAX) };
        let mut touched = [false; 256];
        let mut refused = 0;
        while self.may_issue() && refused < self.first_watcher {
            let due = self.issued * 1_000_000_000 / per_second;
            let now = self.begin.elapsed().as_nanos() as u64;
            if due > now {
                break;
            }
            let index = self.next_link;
            self.next_link = (index + 1) % self.first_watcher;
            let link = &mut links.all[index];
            if link.http.in_flight() < self.plan.in_flight && self.start(link, due) {
                touched[index % 256] = true;
                refused = 0;
            } else {
                refused += 1;
            }
        }
        for index in (0..self.first_watcher).filter(|index| touched[index % 256]) {
            links.flush(index)?;
        }
        if refused > 0 {
            return Ok(SLEEP_MAX);
        }
        let due = Duration::from_nanos(self.issued * 1_000_000_000 / per_second);
        Ok(due.saturating_sub(self.begin.elapsed()).min(SLEEP_MAX))
    }

    fn start(&mut self, link: &mut Link, tag: u64) -> bool {
        self.scratch.clear();
        if !link.http.may_start(512) {
            return false;
        }
        (self.plan.message)(self.issued, &mut self.scratch);
        link.http.start(tag, &self.scratch, true);
        self.issued += 1;
        true
    }

    /// Reads what a link has and counts what ended.
    fn take(&mut self, links: &mut Links, index: usize) -> Result<()> {
        let link = &mut links.all[index];
        let open = matches!(self.plan.pace, Pace::Open(_));
        let (begin, outcome, events) = (self.begin, &mut self.outcome, &mut self.events);
        let watcher = link.watcher;
        link.read(&mut links.buffer, |now, happening| match happening {
            Happening::Done { tag } => {
                let nanos = ((now - begin).as_nanos() as u64).saturating_sub(tag);
                outcome.done += 1;
                outcome.latencies.add(nanos);
                if open {
                    let due = begin + Duration::from_nanos(tag);
                    outcome.samples.push(Sample { due, latency_nanos: nanos });
                }
            }
            Happening::Failed(why) => {
                outcome.failed += 1;
                outcome.first_failure.get_or_insert(why);
            }
            Happening::Message(body) if watcher => match super::wire::watched(body) {
                Some(watched) if !watched.canceled => *events += watched.events,
                _ => {
                    outcome.failed += 1;
                    outcome.first_failure.get_or_insert(format!("a watch was cancelled: {}", body.escape_ascii()));
                }
            },
            Happening::Message(_) => {}
        })
    }
}

/// Connections that watch while a plan runs.
pub(crate) struct Watchers {
    links: Vec<Link>,
    watches: u64,
}

impl Watchers {
    /// Opens connections with one stream each and so many watches on each stream; returns when all are created.
    ///
    /// # Errors
    /// When the server refuses one or takes longer than 30 seconds.
    pub(crate) fn open(address: SocketAddr, connections: usize, watches_each: usize, create: &[u8]) -> Result<Self> {
        let mut links = Links::connect(address, super::wire::WATCH, connections)?;
        links.settle()?;
        for index in 0..connections {
            let link = &mut links.all[index];
            link.watcher = true;
            let stream = link.http.start(0, create, false);
            for _ in 1..watches_each {
                link.http.send(stream, create, false);
            }
            links.flush(index)?;
        }
        let wanted = (connections * watches_each) as u64;
        let mut created = 0;
        let begin = Instant::now();
        while created < wanted {
            if begin.elapsed() > Duration::from_secs(30) {
                bail!("only {created} of {wanted} watches were created in 30 s");
            }
            for event in links.wait(SLEEP_MAX)? {
                let index = event.data.u64() as usize;
                let mut failure = None;
                links.all[index].read(&mut links.buffer, |_, happening| match happening {
                    Happening::Message(body) => match super::wire::watched(body) {
                        Some(watched) if watched.created => created += 1,
                        _ => failure = Some(format!("not an answer to a create: {}", body.escape_ascii())),
                    },
                    Happening::Failed(why) => failure = Some(why),
                    Happening::Done { .. } => failure = Some("the stream ended".to_string()),
                })?;
                if let Some(failure) = failure {
                    bail!("create a watch: {failure}");
                }
                links.flush(index)?;
            }
        }
        Ok(Self { links: links.all, watches: wanted })
    }

    fn watches_expected(&self) -> u64 {
        self.watches
    }
}

/// Sockets under one epoll.
struct Links {
    poll: OwnedFd,
    all: Vec<Link>,
    buffer: Vec<u8>,
    ready: Vec<epoll::Event>,
}

/// One connection with its socket.
struct Link {
    socket: TcpStream,
    http: Connection,
    watcher: bool,
    /// The socket was full: wait until it is not.
    clogged: bool,
}

impl Links {
    fn connect(address: SocketAddr, path: &str, connections: usize) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("create an epoll")?;
        let mut links =
            Self { poll, all: Vec::new(), buffer: vec![0; READ_BYTES], ready: Vec::with_capacity(connections + 64) };
        for _ in 0..connections {
            let socket = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let http = Connection::new(path, &address.to_string());
            links.add(Link { socket, http, watcher: false, clogged: false })?;
        }
        for index in 0..connections {
            links.flush(index)?;
        }
        Ok(links)
    }

    fn add(&mut self, link: Link) -> Result<()> {
        let data = epoll::EventData::new_u64(self.all.len() as u64);
        epoll::add(&self.poll, &link.socket, data, epoll::EventFlags::IN)?;
        self.all.push(link);
        Ok(())
    }

    fn adopt(&mut self, watchers: &mut Watchers) -> Result<()> {
        for link in watchers.links.drain(..) {
            self.add(link)?;
        }
        Ok(())
    }

    /// Waits for the servers' settings on all links.
    fn settle(&mut self) -> Result<()> {
        let begin = Instant::now();
        while self.all.iter().any(|link| !link.http.is_settled()) {
            if begin.elapsed() > Duration::from_secs(10) {
                bail!("the server accepted a connection but said nothing on it for 10 s");
            }
            for event in self.wait(SLEEP_MAX)? {
                let index = event.data.u64() as usize;
                self.all[index].read(&mut self.buffer, |_, _| {})?;
                self.flush(index)?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, at_most: Duration) -> Result<Vec<epoll::Event>> {
        let timeout = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: i64::from(at_most.subsec_nanos()) };
        self.ready.clear();
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(self.ready.clone()),
            Err(error) => Err(error).context("wait for the server"),
        }
    }

    /// Writes what waits on a link, as far as the socket takes it.
    fn flush(&mut self, index: usize) -> Result<()> {
        let link = &mut self.all[index];
        let out = link.http.out();
        let mut sent = 0;
        let mut clogged = false;
        while sent < out.len() {
            match link.socket.write(&out[sent..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    clogged = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write to the server"),
            }
        }
        out.drain(..sent);
        if clogged != link.clogged {
            link.clogged = clogged;
            let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            let flags = if clogged { both } else { epoll::EventFlags::IN };
            epoll::modify(&self.poll, &link.socket, epoll::EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }
}

impl Link {
    /// Reads until the socket is empty.
    fn read(&mut self, buffer: &mut [u8], mut on: impl FnMut(Instant, Happening<'_>)) -> Result<()> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => bail!("the server closed the connection with {} calls under way", self.http.in_flight()),
                Ok(len) => {
                    let now = Instant::now();
                    self.http.accept(&buffer[..len], &mut |happening| on(now, happening))?;
                    if len < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from the server"),
            }
        }
    }
}

/// One call on a connection of its own; returns the message of the answer.
///
/// # Errors
/// When the server cannot be reached, refuses, or takes longer than `patience`.
pub(crate) fn ask(address: SocketAddr, path: &str, message: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_nodelay(true)?;
    let mut http = Connection::new(path, &address.to_string());
    let mut buffer = vec![0; 64 * 1024];
    let mut asked = false;
    let mut answer = None;
    let mut outcome = None;
    while outcome.is_none() {
        if !asked && http.may_start(message.len()) {
            http.start(0, message, true);
            asked = true;
        }
        socket.write_all(http.out())?;
        http.out().clear();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("no answer from {address} within {} s", patience.as_secs_f32());
        }
        socket.set_read_timeout(Some(left))?;
        let len = socket.read(&mut buffer)?;
        if len == 0 {
            bail!("{address} closed the connection");
        }
        http.accept(&buffer[..len], &mut |happening| match happening {
            Happening::Message(body) => answer = Some(body.to_vec()),
            Happening::Done { .. } => outcome = Some(Ok(())),
            Happening::Failed(why) => outcome = Some(Err(anyhow::anyhow!(why))),
        })?;
    }
    outcome.unwrap_or(Ok(()))?;
    answer.context("a call ended well without a message")
}

/// CPU time this thread has used.
fn thread_cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("read /proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).context("schedstat: no number")?;
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_server_that_hangs_up_is_an_error_not_a_hang() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let asked = ask(address, "/x", b"", Duration::from_secs(5));
        server.join().unwrap();
        assert!(asked.is_err());
    }

    #[test]
    fn a_silent_server_is_given_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let begin = Instant::now();
        assert!(ask(listener.local_addr().unwrap(), "/x", b"", Duration::from_millis(100)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
