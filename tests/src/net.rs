//! A network of our own: every member lives in a network namespace with one interface, and this process is the wire between
//! them. What the wire does to each packet from one place to another is a rule that can change at any moment: drop, delay,
//! repeat, let overtake.
//!
//! ```text
//! namespace 0 ─ tun ─┐                      ┌─ tun ─ namespace 2
//! namespace 1 ─ tun ─┴─▶ rule (from, to) ─▶─┘
//!                           └▶ later: the clock thread sends what was delayed
//! ```
//! Nothing outside of the namespaces changes, so many tests can do this at once. Needs root and `/dev/net/tun`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::load::Dice;
use crate::place::Place;

/// Bytes of one packet: large ones, so that the wire costs little.
const PACKET_BYTES_MAX: usize = 16_000;
/// How often a thread looks whether the network is gone.
const LOOK: Duration = Duration::from_millis(100);
/// The interface's name in every namespace.
const INTERFACE: &str = "wire";

/// What the wire does to packets from one place to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Of 100 packets this many are lost.
    pub lost_percent: u64,
    /// The shortest and the longest delay. Packets with different delays overtake each other.
    pub delay: (Duration, Duration),
    /// Of 100 packets this many come twice.
    pub twice_percent: u64,
}

impl Rule {
    /// Nothing comes through, and nobody is told.
    pub const CUT: Rule = Rule { lost_percent: 100, delay: (Duration::ZERO, Duration::ZERO), twice_percent: 0 };
}

/// A network with some places; it ends when dropped.
pub struct Net {
    places: Vec<Place>,
    wire: Arc<Wire>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

struct Wire {
    ends: Vec<File>,
    /// At `from * places + to`.
    rules: Mutex<Vec<Rule>>,
    dice: Mutex<Dice>,
    later: Mutex<BinaryHeap<Reverse<Later>>>,
    sooner: Condvar,
    over: AtomicBool,
    carried: AtomicU64,
}

/// A packet that is on its way: when it comes, a number that keeps order among equals, where, and its bytes.
type Later = (Instant, u64, usize, Vec<u8>);

impl Net {
    /// A network of `count` places, all connected.
    ///
    /// # Errors
    /// When this host allows none.
    pub fn new(count: usize, seed: u64) -> Result<Net> {
        let mut places = Vec::new();
        let mut ends = Vec::new();
        for at in 0..count {
            let place = Place::apart()?;
            let end = tun(&place).context("make a network interface: run as root, with /dev/net/tun there")?;
            let up = format!(
                "ip address add {}/24 dev {INTERFACE} && ip link set {INTERFACE} mtu {PACKET_BYTES_MAX} up",
                Net::address_of(at)
            );
            let out = place.command("sh").args(["-c", &up]).output()?;
            ensure!(out.status.success(), "{up}: {}", String::from_utf8_lossy(&out.stderr));
            places.push(place);
            ends.push(end);
        }
        let wire = Arc::new(Wire {
            ends,
            rules: Mutex::new(vec![Rule::default(); count * count]),
            dice: Mutex::new(Dice::new(seed)),
            later: Mutex::default(),
            sooner: Condvar::new(),
            over: AtomicBool::new(false),
            carried: AtomicU64::new(0),
        });
        let mut threads = Vec::new();
        for from in 0..count {
            let wire = wire.clone();
            threads
                .push(std::thread::Builder::new().name(format!("wire-{from}")).spawn(move || wire.carry_from(from))?);
        }
        let clock = wire.clone();
        threads.push(std::thread::Builder::new().name("wire-clock".into()).spawn(move || clock.deliver_later())?);
        Ok(Net { places, wire, threads })
    }

    /// One place.
    pub fn place(&self, at: usize) -> &Place {
        &self.places[at]
    }

    /// The address of a place.
    pub fn address(&self, at: usize) -> String {
        Net::address_of(at)
    }

    fn address_of(at: usize) -> String {
        format!("10.77.0.{}", at + 1)
    }

    /// What happens from now on to packets from one place to another.
    pub fn rule(&self, from: usize, to: usize, rule: Rule) {
        let count = self.places.len();
        self.wire.rules.lock().expect("no panic while it is held")[from * count + to] = rule;
    }

    /// The same in both directions, between each of some and each of others.
    pub fn between(&self, some: &[usize], others: &[usize], rule: Rule) {
        for one in some {
            for other in others.iter().filter(|other| *other != one) {
                self.rule(*one, *other, rule);
                self.rule(*other, *one, rule);
            }
        }
    }

    /// All packets come through at once again.
    pub fn heal(&self) {
        self.wire.rules.lock().expect("no panic while it is held").fill(Rule::default());
    }

    /// Packets carried so far.
    pub fn carried(&self) -> u64 {
        self.wire.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.wire.over.store(true, Ordering::Relaxed);
        self.wire.sooner.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Wire {
    fn carry_from(&self, from: usize) {
        let mut packet = vec![0; PACKET_BYTES_MAX + 64];
        let mut end = &self.ends[from];
        while !self.over.load(Ordering::Relaxed) {
            let mut waiting = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
            if !matches!(poll(&mut waiting, patience), Ok(1..)) {
                continue;
            }
            let Ok(size) = end.read(&mut packet) else { continue };
            if let Some(to) = self.destination(&packet[..size]) {
                self.carry(from, to, &packet[..size]);
            }
        }
    }

    /// To which place an IPv4 packet goes.
    fn destination(&self, packet: &[u8]) -> Option<usize> {
        let four = packet.first()? >> 4 == 4 && packet.len() >= 20 && packet[16..19] == [10, 77, 0];
        let at = usize::from(packet.get(19)?.checked_sub(1)?);
        (four && at < self.ends.len()).then_some(at)
    }

    fn carry(&self, from: usize, to: usize, packet: &[u8]) {
        let rule = self.rules.lock().expect("no panic while it is held")[from * self.ends.len() + to];
        if rule == Rule::default() {
            return self.deliver(to, packet);
        }
        let mut dice = self.dice.lock().expect("no panic while it is held");
        let copies = 1 + u64::from(dice.below(100) < rule.twice_percent);
        for _ in 0..copies {
            if dice.below(100) < rule.lost_percent {
                continue;
            }
            let (least, most) = rule.delay;
            let spread = u64::try_from((most.saturating_sub(least)).as_micros()).unwrap_or(0);
            let delay = least + Duration::from_micros(dice.below(spread + 1));
            if delay.is_zero() {
                self.deliver(to, packet);
                continue;
            }
            let number = self.carried.fetch_add(1, Ordering::Relaxed);
            let mut later = self.later.lock().expect("no panic while it is held");
            later.push(Reverse((Instant::now() + delay, number, to, packet.to_vec())));
            drop(later);
            self.sooner.notify_one();
        }
    }

    /// A full interface loses the packet, as any would.
    fn deliver(&self, to: usize, packet: &[u8]) {
        self.carried.fetch_add(1, Ordering::Relaxed);
        let _ = (&self.ends[to]).write(packet);
    }

    fn deliver_later(&self) {
        let mut later = self.later.lock().expect("no panic while it is held");
        while !self.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            let due = later.peek().map(|Reverse((at, ..))| *at);
            match due {
                Some(at) if at <= now => {
                    let Some(Reverse((_, _, to, packet))) = later.pop() else { continue };
                    drop(later);
                    self.deliver(to, &packet);
                    later = self.later.lock().expect("no panic while it is held");
                }
                _ => {
                    let patience = due.map_or(LOOK, |at| (at - now).min(LOOK));
                    later = self.sooner.wait_timeout(later, patience).expect("no panic while it is held").0;
                }
            }
        }
    }
}

/// Makes the interface in a namespace: what is written to the file arrives there, what is sent there is read from it.
fn tun(place: &Place) -> Result<File> {
    let place = place.clone();
    // A thread that has gone to another namespace stays there: it makes one interface and ends.
    let made = std::thread::spawn(move || {
        place.enter()?;
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        attach(&file)?;
        anyhow::Ok(file)
    });
    made.join().map_err(|_| anyhow::anyhow!("the thread that makes an interface panicked"))?
}

fn attach(file: &File) -> Result<()> {
    use nix::libc;
    // SAFETY: all zeros is a valid `ifreq`: it holds numbers, bytes and null pointers only.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
        *to = from as libc::c_char;
    }
    // Packets as they are, without a head of the driver's own.
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the file is open, and TUNSETIFF reads and writes one `ifreq`, which lives until the call returns.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    nix::errno::Errno::result(result)?;
    Ok(())
}
