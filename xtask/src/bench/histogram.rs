//! Latencies, kept in buckets whose width grows with the value: never more than 1.6 % off, at a fixed cost.

use std::time::Duration;

/// Buckets per doubling.
const STEPS: usize = 64;
/// Doublings covered: up to 2^40 ns, about 18 minutes.
const DOUBLINGS: usize = 40;

/// Counts of latencies.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * DOUBLINGS], total: 0, max_nanos: 0 }
    }
}

impl Histogram {
    /// Adds one latency.
    pub(crate) fn add(&mut self, nanos: u64) {
        let last = self.counts.len() - 1;
        self.counts[bucket(nanos).min(last)] += 1;
        self.total += 1;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// The latency that `share` (0 to 1) of all calls did not exceed; zero when there were none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper(bucket).min(self.max_nanos));
            }
        }
        Duration::ZERO
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }
}

/// Values below [`STEPS`] have a bucket each; from there each doubling has [`STEPS`] of them.
fn bucket(nanos: u64) -> usize {
    let steps = STEPS as u64;
    if nanos < steps {
        return nanos as usize;
    }
    let doubling = nanos.ilog2() - steps.ilog2();
    let step = (nanos >> doubling) - steps;
    (doubling as usize + 1) * STEPS + step as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let doubling = (bucket / STEPS - 1) as u32;
    let step = (bucket % STEPS + STEPS) as u64;
    ((step + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_at_most_a_64th_wide_and_holds_its_value() {
        for nanos in (0..200).chain([1_000, 4_095, 4_096, 123_456_789, 60_000_000_000]) {
            let top = upper(bucket(nanos));
            assert!(top >= nanos && top - nanos <= nanos / 64 + 1, "{nanos} is in the bucket up to {top}");
        }
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|micros| histogram.add(micros * 1000));
        let p99 = histogram.quantile(0.99).as_nanos() as f64;
        assert!((p99 / 990_000.0 - 1.0).abs() < 0.02, "{p99}");
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
