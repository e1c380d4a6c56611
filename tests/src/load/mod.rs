//! Load that remembers every promise of the server, and the check that all were kept.
//!
//! ```text
//! writers ──promise (acknowledged)──▶ book ◀──events── watcher, resumed after every crash
//!         ──attempt (no answer)─────▶  │
//!                                      ▼
//!            check: each revision is one promise or one attempt; each promise has its revision;
//!                   the watcher heard the same history as one who asks for all of it at the end
//! ```

mod book;
mod dice;
mod wire;
mod writers;

pub use book::{Book, Change, Effect, Event, LeaseEnd};
pub use dice::Dice;
pub use wire::Wire;
pub use writers::{Ledger, keep_writing, scripted, watch_on};

use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// After a crash: lets the watcher catch up and checks everything that was ever promised.
///
/// # Errors
/// The first broken promise, in words.
pub async fn check(wire: &Wire, ledger: &Ledger) -> Result<()> {
    let now = wire.revision().await?;
    let told = ledger.lock().newest_told();
    ensure!(now >= told, "the revision went back: {now}, but {told} was acknowledged");
    let heard = ledger.lock().newest_heard();
    ensure!(now >= heard, "the revision went back: {now}, but a watcher heard {heard}");
    let news = wire.history(heard + 1, now).await.context("resume the watch")?;
    let leases = {
        let mut book = ledger.lock();
        book.hear(news)?;
        book.settle(now)?;
        book.leases()
    };
    for (id, keys, ttl) in leases {
        let (granted, left, attached) = wire.lease(id).await?;
        ensure!(granted == ttl && left > 0, "lease {id} granted with {ttl} s is now granted {granted}, left {left}");
        for key in keys {
            ensure!(attached.contains(&key), "lease {id} lost its key {}", String::from_utf8_lossy(&key));
        }
    }
    Ok(())
}

/// At the end: the history from revision `from` on, asked for at once, is what the resumed watcher heard piece by piece, and gives
/// the keys that are there.
///
/// # Errors
/// The first difference, in words.
pub async fn check_history(wire: &Wire, ledger: &Ledger, from: i64) -> Result<()> {
    let now = wire.revision().await?;
    let whole = wire.history(from, now).await?;
    let (heard, keys) = {
        let book = ledger.lock();
        (book.heard().iter().filter(|e| e.revision >= from).cloned().collect::<Vec<_>>(), book.keys())
    };
    ensure!(whole.len() == heard.len(), "the watcher heard {} events, the history has {}", heard.len(), whole.len());
    for (once, again) in heard.iter().zip(&whole) {
        ensure!(once == again, "the watcher heard {once:?}, the history has {again:?}");
    }
    let there = wire.all().await?;
    ensure!(there == keys, "the keys are not what the history makes of them");
    Ok(())
}

/// No call of a test waits longer for an answer.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);
