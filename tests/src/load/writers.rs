//! Writers that note each request before they know its fate.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use tonic::Status;

use super::book::{Book, Change, Effect, LeaseEnd};
use super::{Dice, Wire};

/// How many keys one writer writes again and again.
const KEYS_PER_WRITER: u64 = 40;

/// A book that many tasks write in.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    /// The book.
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("no panic while writing in the book")
    }

    /// Notes what became of a write: an answer, or none.
    fn note(&self, answer: Result<i64, Status>, effect: Effect) -> Result<bool> {
        match answer {
            Ok(revision) => self.lock().promise(revision, effect)?,
            Err(_) => {
                self.lock().attempt(effect);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Waits for the server, then writes until it stops answering. `id` makes keys, values and lease ids its own, so it must be new for
/// each call.
pub async fn keep_writing(wire: Wire, ledger: Ledger, mut dice: Dice, id: u64) -> Result<()> {
    for _ in 0..400 {
        if wire.revision().await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut step = 0;
    while one(&wire, &ledger, &mut dice, id, step).await? {
        step += 1;
    }
    Ok(())
}

/// Writes the same `steps` requests for the same seed, one after the other; stops early when the server stops answering.
pub async fn scripted(wire: &Wire, ledger: &Ledger, seed: u64, steps: u64) -> Result<u64> {
    let mut dice = Dice::new(seed);
    for step in 0..steps {
        if !one(wire, ledger, &mut dice, seed, step).await? {
            return Ok(step);
        }
    }
    Ok(steps)
}

/// Hears all changes from the newest heard on, until the server goes away.
pub async fn watch_on(wire: Wire, ledger: Ledger) -> Result<()> {
    let from = ledger.lock().newest_heard() + 1;
    let mut watch = None;
    for _ in 0..400 {
        watch = wire.watch(from).await.ok();
        if watch.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Some(mut watch) = watch else { return Ok(()) };
    // A broken stream is the crash that the test made; a broken order is found by the book.
    while let Ok(events) = watch.next().await {
        ledger.lock().hear(events)?;
    }
    Ok(())
}

/// One request; `false` when no answer came.
async fn one(wire: &Wire, ledger: &Ledger, dice: &mut Dice, id: u64, step: u64) -> Result<bool> {
    let key = |n: u64| format!("k/{id:06}/{n:03}").into_bytes();
    let size = [10, 100, 256, 2_000, 20_000][[0, 1, 2, 2, 2, 2, 3, 4][dice.below(8) as usize]];
    let value = |part: u64| {
        let mut value = format!("{id}-{step}-{part}-").into_bytes();
        value.resize(size.max(value.len()), b'.');
        value
    };
    let n = dice.below(KEYS_PER_WRITER);
    match dice.below(16) {
        0..10 => {
            let change = (key(n), Some(value(0)));
            let answer = wire.put(&change.0, &value(0), 0).await;
            ledger.note(answer, Effect(vec![change]))
        }
        10..12 => {
            let changes: Vec<Change> = (0..3).map(|i| (key((n + i) % KEYS_PER_WRITER), Some(value(i)))).collect();
            let answer = wire.txn(&changes).await;
            ledger.note(answer, Effect(changes))
        }
        12..14 => {
            let effect = Effect(vec![(key(n), None)]);
            match wire.delete(&key(n)).await {
                Ok((_, 0)) => Ok(true),
                answer => ledger.note(answer.map(|(revision, _)| revision), effect),
            }
        }
        _ => leased(wire, ledger, id, step, dice.below(2) == 0).await,
    }
}

/// A lease with one key, kept or revoked.
async fn leased(wire: &Wire, ledger: &Ledger, id: u64, step: u64, keep: bool) -> Result<bool> {
    let (lease, ttl) = ((id as i64) << 32 | (step as i64 + 1), 900);
    let key = format!("l/{id:06}/{step:06}").into_bytes();
    if wire.grant(lease, ttl).await.is_err() {
        return Ok(false);
    }
    ledger.lock().lease(lease, LeaseEnd::Granted(ttl));
    let put = Effect(vec![(key.clone(), Some(b"leased".to_vec()))]);
    if !ledger.note(wire.put(&key, b"leased", lease).await, put)? {
        return Ok(false);
    }
    ledger.lock().attached(lease, key.clone());
    if keep {
        return Ok(true);
    }
    ledger.lock().lease(lease, LeaseEnd::Unsure);
    let answered = ledger.note(wire.revoke(lease).await, Effect(vec![(key, None)]))?;
    if answered {
        ledger.lock().lease(lease, LeaseEnd::Revoked);
    }
    Ok(answered)
}
