//! Deadlines of leases.
//!
//! The lessor's clock stands still while this process does: a pause of the whole member (a stopped process, a frozen
//! machine, a stalled disk) never counts against a lease, because its owner could not have renewed it then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use eyrie_state::{Answer, LeaseId, Refusal};
use parking_lot::Mutex;

use crate::node::Told;

/// A tick later than this many intervals shows a pause.
const OVERDUE_TICKS: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Duration,
    ttl: Duration,
}

#[derive(Debug)]
struct Inner {
    /// How often [`Lessor::expired`] is called.
    tick: Duration,
    /// The lessor's time at the last tick, and when that was.
    at_tick: Duration,
    last_tick: Instant,
    leases: BTreeMap<LeaseId, Deadline>,
    by_deadline: BTreeSet<(Duration, LeaseId)>,
}

/// All leases of this member with their deadlines.
#[derive(Debug)]
pub(crate) struct Lessor(Mutex<Inner>);

impl Lessor {
    /// Takes up the leases that exist at start, each with its remaining time and `grace` on top: who holds one needs
    /// time to find the store again.
    pub(crate) fn new(
        leases: impl IntoIterator<Item = (LeaseId, Duration, Duration)>,
        grace: Duration,
        tick: Duration,
    ) -> Self {
        let mut inner = Inner {
            tick,
            at_tick: Duration::ZERO,
            last_tick: Instant::now(),
            leases: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
        };
        for (id, ttl, remaining) in leases {
            inner.set(id, ttl, remaining + grace);
        }
        Self(Mutex::new(inner))
    }

    /// This member leads from now on: every lease that exists has its time left, as far as that was written down, and
    /// `grace` on top.
    pub(crate) fn promote(&self, leases: impl IntoIterator<Item = (LeaseId, Duration, Duration)>, grace: Duration) {
        let mut inner = self.0.lock();
        for (id, ttl, left) in leases {
            inner.set(id, ttl, left + grace);
        }
    }

    /// All leases are others now: those of a snapshot.
    pub(crate) fn replace(&self, leases: impl IntoIterator<Item = (LeaseId, Duration, Duration)>, grace: Duration) {
        let mut inner = self.0.lock();
        inner.leases.clear();
        inner.by_deadline.clear();
        for (id, ttl, left) in leases {
            inner.set(id, ttl, left + grace);
        }
    }

    /// Follows what the log decided: a grant begins a lease, a revocation ends it.
    pub(crate) fn heard(&self, outcome: &Result<Answer, Refusal>, told: Told) {
        match (outcome, told) {
            (Ok(Answer::LeaseGrant { id, ttl_secs }), _) => {
                let ttl = seconds(*ttl_secs);
                self.0.lock().set(*id, ttl, ttl);
            }
            (Ok(Answer::LeaseRevoke) | Err(Refusal::LeaseNotFound), Told::Revoke(id)) => self.0.lock().remove(id),
            _ => {}
        }
    }

    /// Gives a lease its full time again. `None` when there is no such lease or its time is already up.
    pub(crate) fn renew(&self, id: LeaseId) -> Option<Duration> {
        let mut inner = self.0.lock();
        let now = inner.now();
        let Deadline { at, ttl } = *inner.leases.get(&id)?;
        if at <= now {
            return None;
        }
        inner.set(id, ttl, ttl);
        Some(ttl)
    }

    /// Time left (zero when up) and full time of a lease.
    pub(crate) fn remaining(&self, id: LeaseId) -> Option<(Duration, Duration)> {
        let inner = self.0.lock();
        let now = inner.now();
        inner.leases.get(&id).map(|deadline| (deadline.at.saturating_sub(now), deadline.ttl))
    }

    /// All leases, the next to expire first.
    pub(crate) fn by_expiry(&self) -> Vec<LeaseId> {
        self.0.lock().by_deadline.iter().map(|(_, id)| *id).collect()
    }

    /// Time has gone on by a tick: returns leases whose time is up.
    pub(crate) fn expired(&self, most: usize) -> Vec<LeaseId> {
        let mut inner = self.0.lock();
        let now = inner.now();
        inner.at_tick = now;
        inner.last_tick = Instant::now();
        inner.by_deadline.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, id)| *id).collect()
    }

    /// Leases with more than `long` left, with their remaining whole seconds.
    pub(crate) fn long_remaining(&self, long: Duration) -> Vec<(LeaseId, i64)> {
        let inner = self.0.lock();
        let now = inner.now();
        let long = inner.by_deadline.range((now + long, LeaseId(i64::MIN))..);
        long.map(|(at, id)| (*id, i64::try_from((*at - now).as_secs()).unwrap_or(i64::MAX))).collect()
    }
}

impl Inner {
    /// The lessor's time. A tick that is long overdue shows that this process did not run: then only one tick's time
    /// has passed.
    fn now(&self) -> Duration {
        let since = self.last_tick.elapsed();
        self.at_tick + if since > self.tick * OVERDUE_TICKS { self.tick } else { since }
    }

    fn set(&mut self, id: LeaseId, ttl: Duration, left: Duration) {
        self.remove(id);
        let at = self.now() + left;
        self.leases.insert(id, Deadline { at, ttl });
        self.by_deadline.insert((at, id));
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(old) = self.leases.remove(&id) {
            self.by_deadline.remove(&(old.at, id));
        }
    }
}

fn seconds(secs: i64) -> Duration {
    Duration::from_secs(u64::try_from(secs).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(500);

    #[test]
    fn a_lease_ends_at_its_time_and_not_before() {
        let lessor = Lessor::new([(LeaseId(1), seconds(60), Duration::ZERO)], Duration::ZERO, TICK);
        let granted = Ok(Answer::LeaseGrant { id: LeaseId(2), ttl_secs: 60 });
        lessor.heard(&granted, Told::Other);
        assert_eq!(lessor.expired(10), [LeaseId(1)]);
        assert_eq!(lessor.renew(LeaseId(1)), None, "a lease whose time is up is not renewed");
        assert_eq!(lessor.renew(LeaseId(2)), Some(seconds(60)));
        lessor.heard(&Ok(Answer::LeaseRevoke), Told::Revoke(LeaseId(1)));
        assert!(lessor.expired(10).is_empty());
        assert_eq!(lessor.by_expiry(), [LeaseId(2)]);
    }

    #[test]
    fn a_new_leader_gives_everybody_time_to_find_it() {
        let lessor = Lessor::new([(LeaseId(1), seconds(60), Duration::ZERO)], Duration::ZERO, TICK);
        assert_eq!(lessor.expired(10), [LeaseId(1)]);
        lessor.promote([(LeaseId(1), seconds(60), seconds(60))], seconds(1));
        assert!(lessor.expired(10).is_empty());
        let (left, ttl) = lessor.remaining(LeaseId(1)).expect("it lives");
        assert!(left > seconds(60) && left <= seconds(61), "{left:?}");
        assert_eq!(ttl, seconds(60));
        lessor.replace([], seconds(1));
        assert_eq!(lessor.by_expiry(), []);
    }

    #[test]
    fn a_pause_of_the_process_does_not_count() {
        let lessor = Lessor::new(
            [(LeaseId(1), seconds(2), Duration::from_millis(30))],
            Duration::ZERO,
            Duration::from_millis(5),
        );
        // The tick is 5 ms, and the process sleeps 60 ms: as if it had been stopped.
        std::thread::sleep(Duration::from_millis(60));
        assert!(lessor.expired(10).is_empty());
        let (left, _) = lessor.remaining(LeaseId(1)).expect("it lives");
        assert!(left > Duration::from_millis(5), "{left:?}");
    }
}
