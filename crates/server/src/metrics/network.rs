//! `etcd_network_*` between members.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, exponential_buckets,
};

const CONSTANT: &str = "names and bounds are constants that the tests build";

/// What is counted for each other member.
pub struct Network {
    /// Round trips to each member.
    round_trip: HistogramVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    clock_ahead: GaugeVec,
    /// Who was connected at the last look, and the last round trip counted.
    seen: Mutex<Vec<(u64, bool, Duration)>>,
}

impl Network {
    pub(super) fn new(registry: &Registry) -> Self {
        let bounds = exponential_buckets(0.0001, 2.0, 16).expect(CONSTANT);
        let round_trip =
            HistogramOpts::new("etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers");
        let gauges = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["Local", "Remote"]);
        let network = Self {
            round_trip: HistogramVec::new(round_trip.buckets(bounds), &["To"]).expect(CONSTANT),
            active: gauges("etcd_network_active_peers", "The current number of active peer connections.")
                .expect(CONSTANT),
            disconnected: IntCounterVec::new(
                Opts::new("etcd_network_disconnected_peers_total", "The total number of disconnected peers."),
                &["Local", "Remote"],
            )
            .expect(CONSTANT),
            clock_ahead: GaugeVec::new(
                Opts::new("eyrie_peer_clock_ahead_seconds", "How far another member's clock is ahead of this one's."),
                &["To"],
            )
            .expect(CONSTANT),
            seen: Mutex::default(),
        };
        let all: [Box<dyn prometheus::core::Collector>; 4] = [
            Box::new(network.round_trip.clone()),
            Box::new(network.active.clone()),
            Box::new(network.disconnected.clone()),
            Box::new(network.clock_ahead.clone()),
        ];
        for family in all {
            registry.register(family).expect(CONSTANT);
        }
        network
    }

    /// Takes a look at the other members: each with its last round trip if it is connected, and its clock.
    pub(crate) fn see(&self, own: u64, members: impl Iterator<Item = (u64, Option<Duration>, i64)>) {
        let local = format!("{own:x}");
        let mut seen = self.seen.lock();
        let mut now = Vec::new();
        for (member, round_trip, clock_ahead_nanos) in members {
            let remote = format!("{member:x}");
            let (was_up, last) = seen
                .iter()
                .find(|(id, ..)| *id == member)
                .map_or((false, Duration::ZERO), |(_, up, last)| (*up, *last));
            self.active.with_label_values(&[&local, &remote]).set(i64::from(round_trip.is_some()));
            if was_up && round_trip.is_none() {
                self.disconnected.with_label_values(&[&local, &remote]).inc();
            }
            if let Some(time) = round_trip.filter(|time| !time.is_zero()) {
                if time != last {
                    self.round_trip.with_label_values(&[&remote]).observe(time.as_secs_f64());
                }
                self.clock_ahead.with_label_values(&[&remote]).set(clock_ahead_nanos as f64 / 1e9);
            }
            now.push((member, round_trip.is_some(), round_trip.unwrap_or_default()));
        }
        *seen = now;
    }
}
