//! How busy a store is, and how long it keeps its past: what decides whether it is read in strides. Pure; the clock comes in.

use std::collections::VecDeque;
use std::time::Duration;

use eyrie_state::Revision;
use tokio::time::Instant;

use crate::limits::{COMPACTION_CYCLE, STRIDE_HISTORY_MIN};

/// The window in which changes are counted.
const WINDOW: Duration = Duration::from_millis(500);
/// Between two marks.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// Counts what is heard.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    since: Option<Instant>,
    revisions: u64,
    weight: u64,
    /// Windows in a row that were busy.
    busy: u32,
    /// Bytes of keys and values of a revision, in the last window that had one.
    weight_mean: u64,
    /// When which revision was the newest: one a minute, oldest first.
    marks: VecDeque<(Instant, Revision)>,
}

impl Traffic {
    /// So many revisions with so many bytes came, up to `newest`. At `rate` a second or more a window is busy.
    pub(super) fn count(&mut self, revisions: u64, weight: u64, newest: Revision, rate: u64, now: Instant) {
        if self.marks.back().is_none_or(|(at, _)| now - *at >= MARK_EVERY) {
            self.marks.push_back((now, newest));
            while self.marks.get(1).is_some_and(|(at, _)| now - *at >= COMPACTION_CYCLE) {
                self.marks.pop_front();
            }
        }
        let since = *self.since.get_or_insert(now);
        self.revisions += revisions;
        self.weight += weight;
        let passed = now - since;
        if passed < WINDOW {
            return;
        }
        let busy = u128::from(self.revisions) * 1000 >= u128::from(rate) * passed.as_millis();
        self.busy = if busy { self.busy + 1 } else { 0 };
        self.weight_mean = self.weight / self.revisions.max(1);
        (self.since, self.revisions, self.weight) = (Some(now), 0, 0);
    }

    /// Whether the last `windows` were all busy.
    pub(super) fn is_busy(&self, windows: u32) -> bool {
        self.busy >= windows
    }

    /// Begins to count anew.
    pub(super) fn forget(&mut self) {
        (self.since, self.revisions, self.weight, self.busy) = (None, 0, 0, 0);
    }

    /// Bytes of keys and values of a revision, lately.
    pub(super) fn weight_mean(&self) -> u64 {
        self.weight_mean
    }

    /// A revision that proves, if it can still be read, that the store compacts only what is long past: every store that
    /// compacts by itself has done so since, and it is far behind `last`.
    pub(super) fn long_past(&self, last: Revision, now: Instant) -> Option<Revision> {
        let (at, revision) = *self.marks.front()?;
        (now - at >= COMPACTION_CYCLE && last.0 - revision.0 >= STRIDE_HISTORY_MIN).then_some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_busy_after_some_busy_windows_in_a_row_and_calm_after_one_that_is_not() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        let mut heard = |at_ms: u64, revisions: u64| {
            traffic.count(revisions, revisions * 100, Revision(1), 2000, start + Duration::from_millis(at_ms));
            (traffic.is_busy(2), traffic.weight_mean())
        };
        assert_eq!(heard(0, 5000), (false, 0));
        assert_eq!(heard(500, 0), (false, 100));
        assert_eq!(heard(900, 900), (false, 100));
        assert_eq!(heard(1000, 100), (true, 100));
        assert_eq!(heard(1500, 999), (false, 100));
        assert_eq!(heard(2000, 1001), (false, 100));
        assert_eq!(heard(2500, 1001), (true, 100));
    }

    #[test]
    fn what_proves_a_long_memory_is_older_than_a_cycle_of_compaction_and_far_behind() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        let minute = |minutes: u64| start + Duration::from_secs(60 * minutes);
        for at in 0..60u64 {
            let newest = Revision((at as i64) * STRIDE_HISTORY_MIN);
            traffic.count(1, 1, newest, 2000, minute(at));
            let proof = traffic.long_past(newest, minute(at));
            let cycle = COMPACTION_CYCLE.as_secs() / 60;
            let expected = at.checked_sub(cycle).map(|then| Revision((then as i64) * STRIDE_HISTORY_MIN));
            assert_eq!(proof, expected, "minute {at}");
            assert_eq!(traffic.long_past(expected.unwrap_or_default(), minute(at)), None);
        }
        assert!(traffic.marks.len() < 10);
    }
}
