//! A limit on bytes per second, shared by all clones.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Lets bytes pass at a steady rate, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Pace {
    bytes_per_sec: u64,
    /// When the bytes that were let through so far are paid for.
    paid_at: Arc<Mutex<Instant>>,
}

impl Pace {
    /// At most so many bytes in a second; 0 counts as 1.
    pub fn new(bytes_per_sec: u64) -> Self {
        Self { bytes_per_sec: bytes_per_sec.max(1), paid_at: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Waits until `bytes` may pass.
    pub async fn pass(&self, bytes: usize) {
        let until = {
            let mut paid_at = self.paid_at.lock().await;
            let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_sec as f64);
            *paid_at = (*paid_at).max(Instant::now()) + cost;
            *paid_at
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_callers_share_one_rate() {
        let pace = Pace::new(1_000);
        let began = Instant::now();
        let callers = (0..10).map(|_| {
            let pace = pace.clone();
            async move { pace.pass(500).await }
        });
        futures::future::join_all(callers).await;
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
