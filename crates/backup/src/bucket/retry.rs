//! Another attempt, as long as the budget lasts.
//!
//! The pause doubles from attempt to attempt; half of it is chance, so that many callers do not come back at once.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::error::Fault;
use crate::limits;

/// How often and how long a call is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Attempts, the first included.
    pub attempts: u32,
    /// Seconds that all attempts of one call may take together.
    pub total_secs: u64,
    /// Milliseconds before the second attempt.
    pub pause_first_millis: u64,
    /// Milliseconds between two attempts, at most.
    pub pause_max_millis: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: limits::RETRY_ATTEMPTS,
            total_secs: limits::RETRY_TOTAL.as_secs(),
            pause_first_millis: limits::RETRY_PAUSE_FIRST.as_millis() as u64,
            pause_max_millis: limits::RETRY_PAUSE_MAX.as_millis() as u64,
        }
    }
}

impl RetryConfig {
    /// One attempt, and no more.
    pub const NONE: Self = Self { attempts: 1, total_secs: 60, pause_first_millis: 1, pause_max_millis: 1 };

    /// The pause after the failed attempt `done` (1 for the first); `chance` is a random number.
    fn pause(&self, done: u32, chance: u64) -> Duration {
        let doubled = self.pause_first_millis.saturating_mul(1_u64 << done.saturating_sub(1).min(20));
        let longest = doubled.min(self.pause_max_millis).max(1);
        Duration::from_millis(longest / 2 + chance % (longest / 2 + 1))
    }
}

/// What is left of the attempts of one call.
pub(crate) struct Budget {
    config: RetryConfig,
    began: Instant,
    failed: u32,
}

impl Budget {
    pub(crate) fn new(config: RetryConfig) -> Self {
        Self { config, began: Instant::now(), failed: 0 }
    }

    /// After progress, the budget is whole again.
    pub(crate) fn refill(&mut self) {
        self.began = Instant::now();
        self.failed = 0;
    }

    /// Waits for the next attempt, or gives the failure back: with the count of attempts, when the budget is spent.
    pub(crate) async fn again(&mut self, fault: Fault) -> Result<(), Fault> {
        if !fault.passing {
            return Err(fault);
        }
        self.failed += 1;
        let pause = self.config.pause(self.failed, RandomState::new().hash_one(self.failed));
        let spent = self.began.elapsed();
        if self.failed >= self.config.attempts || spent + pause > Duration::from_secs(self.config.total_secs) {
            let cause = match self.failed {
                1 => fault.cause,
                n => format!("{} (tried {n} times in {:.1} s)", fault.cause, spent.as_secs_f64()),
            };
            return Err(Fault { cause, passing: false, ..fault });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// One attempt within `limit`; silence is a passing failure.
pub(crate) async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, attempt).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::passing(format!("no answer within {} s", limit.as_secs_f64()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let config = RetryConfig { pause_first_millis: 100, pause_max_millis: 1_000, ..RetryConfig::default() };
        for (done, low, high) in
            [(1, 50, 100), (2, 100, 200), (3, 200, 400), (4, 400, 800), (5, 500, 1_000), (60, 500, 1_000)]
        {
            for chance in [0, 7, u64::MAX] {
                let millis = config.pause(done, chance).as_millis();
                assert!((low..=high).contains(&millis), "{done}: {millis}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_ends_by_count_and_by_time() {
        let mut by_count = Budget::new(RetryConfig { attempts: 3, ..RetryConfig::default() });
        assert!(by_count.again(Fault::passing("503")).await.is_ok());
        assert!(by_count.again(Fault::passing("503")).await.is_ok());
        let end = by_count.again(Fault::passing("503")).await.unwrap_err();
        assert!(end.cause.contains("tried 3 times"), "{}", end.cause);

        let mut by_time = Budget::new(RetryConfig { attempts: 1_000, total_secs: 30, ..RetryConfig::default() });
        let began = Instant::now();
        while by_time.again(Fault::passing("503")).await.is_ok() {}
        assert!((20..=30).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_lasting_failure_is_not_tried_again() {
        let mut budget = Budget::new(RetryConfig::default());
        assert!(budget.again(Fault::lasting(super::super::Kind::Denied, "no")).await.is_err());
    }
}
