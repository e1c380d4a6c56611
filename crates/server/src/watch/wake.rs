//! How the apply thread wakes many streams for the price of one.
//!
//! Streams live on several runtimes, each on a thread of its own. To wake a task from another thread costs a system
//! call; to wake it from its own thread costs almost nothing. So each runtime gets one dispatcher task, the publisher
//! hands it whole lists and wakes only it, and the dispatcher wakes the streams at home.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use eyrie_state::Revision;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One watcher that sleeps until its group has something new.
#[derive(Debug)]
pub(super) struct Sleeper {
    pub(super) signal: Arc<Signal>,
    pub(super) nap: Nap,
}

/// Names one sleep of one watcher of a stream, so that a late call never wakes the next sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nap {
    pub(super) watcher: u64,
    pub(super) number: u32,
}

/// The end of a sleep: the watcher's group has something of this revision, and nothing between that and what the
/// watcher had seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) nap: Nap,
    pub(super) revision: Revision,
}

/// Where a stream hears which of its watchers have something to pull.
#[derive(Debug)]
pub(super) struct Signal {
    inner: Mutex<Heard>,
    pub(super) shard: Arc<Shard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// At most one per watcher of the stream.
    ready: Vec<Call>,
    waker: Option<Waker>,
}

impl Signal {
    pub(super) fn new(shard: Arc<Shard>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), shard })
    }

    /// Moves what was heard to `ready`; when that is nothing, the task of `cx` is woken by the next call.
    pub(super) fn take(&self, ready: &mut Vec<Call>, cx: &Context<'_>) {
        let mut inner = self.inner.lock();
        if inner.ready.is_empty() {
            match &mut inner.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        } else {
            ready.append(&mut inner.ready);
        }
    }

    /// Wakes the stream for another reason than a watcher.
    pub(super) fn wake(&self) {
        let waker = self.inner.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn call(&self, call: Call) {
        let mut inner = self.inner.lock();
        inner.ready.push(call);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The streams of one runtime.
#[derive(Debug)]
pub(super) struct Shard {
    runtime: tokio::runtime::Id,
    /// Lists that the dispatcher has not seen; their sleepers are in no group's list any more.
    called: Mutex<Vec<(Revision, Vec<Sleeper>)>>,
    notify: Notify,
    gone: AtomicBool,
}

impl Shard {
    /// The shard of the current runtime, from `known` or new (with its dispatcher).
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(super) fn current(known: &mut Vec<Arc<Shard>>) -> Arc<Shard> {
        let runtime = tokio::runtime::Handle::current().id();
        known.retain(|shard| !shard.gone.load(Ordering::Relaxed));
        if let Some(shard) = known.iter().find(|shard| shard.runtime == runtime) {
            return Arc::clone(shard);
        }
        let shard =
            Arc::new(Shard { runtime, called: Mutex::default(), notify: Notify::new(), gone: AtomicBool::new(false) });
        known.push(Arc::clone(&shard));
        tokio::spawn(dispatch(Gone(Arc::clone(&shard))));
        shard
    }

    /// Hands over the sleepers of a group that has something of this revision. Says whether [`Shard::ring`] is due.
    pub(super) fn hand(&self, revision: Revision, sleepers: Vec<Sleeper>) -> bool {
        let mut called = self.called.lock();
        called.push((revision, sleepers));
        called.len() == 1
    }

    pub(super) fn ring(&self) {
        self.notify.notify_one();
    }

    /// Ends the dispatcher.
    pub(super) fn close(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }
}

/// Marks the shard when its runtime ends, so that a later runtime gets one of its own.
struct Gone(Arc<Shard>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

async fn dispatch(shard: Gone) {
    let shard = &shard.0;
    loop {
        shard.notify.notified().await;
        let called = std::mem::take(&mut *shard.called.lock());
        for (revision, sleepers) in called {
            for Sleeper { signal, nap } in sleepers {
                signal.call(Call { nap, revision });
            }
        }
        if shard.gone.load(Ordering::Relaxed) {
            return;
        }
    }
}
