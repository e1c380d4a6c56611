//! How answers get from the node's threads to the edges: in bunches.
//!
//! Waking a task of another thread's runtime costs a system call each time. So the apply thread, and the raft thread for
//! those who read, leave all answers for one edge in that edge's tray and wakes it once; a task there hands them out, and those wake-ups are local.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

thread_local! {
    static EDGE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// One answer on its way.
type Answer<T> = (oneshot::Sender<T>, T);

/// A tray for each edge.
pub(crate) struct Trays<T>(Vec<Tray<T>>);

struct Tray<T> {
    answers: Mutex<Vec<Answer<T>>>,
    filled: Notify,
}

/// Somebody who waits, and the edge it waits on.
pub(crate) struct Waiter<T> {
    sender: oneshot::Sender<T>,
    edge: usize,
}

impl<T> Waiter<T> {
    /// A waiter on this thread's edge.
    pub(crate) fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, edge: EDGE.get() }, receiver)
    }

    /// Nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Answers at once, whatever that costs.
    pub(crate) fn answer(self, answer: T) {
        // Who went away does not want its answer.
        let _ = self.sender.send(answer);
    }
}

impl<T> Trays<T> {
    /// Trays for so many edges.
    pub(crate) fn new(edges: usize) -> Self {
        Self((0..edges).map(|_| Tray { answers: Mutex::default(), filled: Notify::new() }).collect())
    }

    /// Answers many at once. Waiters on no edge are answered directly.
    pub(crate) fn answer(&self, due: impl IntoIterator<Item = (Waiter<T>, T)>) {
        let mut by_edge: Vec<Vec<Answer<T>>> = self.0.iter().map(|_| Vec::new()).collect();
        for (waiter, answer) in due {
            match by_edge.get_mut(waiter.edge) {
                Some(tray) => tray.push((waiter.sender, answer)),
                None => waiter.answer(answer),
            }
        }
        for (tray, mut answers) in self.0.iter().zip(by_edge) {
            if answers.is_empty() {
                continue;
            }
            let was_empty = {
                let mut waiting = tray.answers.lock();
                let was_empty = waiting.is_empty();
                if was_empty {
                    *waiting = answers;
                } else {
                    waiting.append(&mut answers);
                }
                was_empty
            };
            if was_empty {
                tray.filled.notify_one();
            }
        }
    }

    /// Hands out what comes into the tray of edge `number`, for ever. Runs on that edge.
    pub(crate) async fn hand_out(self: Arc<Self>, number: usize) {
        EDGE.set(number);
        let Some(tray) = self.0.get(number) else { return };
        loop {
            let answers = std::mem::take(&mut *tray.answers.lock());
            if answers.is_empty() {
                tray.filled.notified().await;
            }
            for (sender, answer) in answers {
                let _ = sender.send(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_waiter_gets_its_own_answer_on_an_edge_and_elsewhere() {
        let trays = Arc::new(Trays::new(1));
        let (elsewhere, answered_elsewhere) = Waiter::new();
        let handing_out = tokio::spawn(trays.clone().hand_out(0));
        tokio::task::yield_now().await;
        let (here, mut answered): (Vec<_>, Vec<_>) = (0..100).map(|_| Waiter::new()).unzip();
        let due = here.into_iter().zip(0..).chain([(elsewhere, 1000)]);
        let answering = trays.clone();
        let due: Vec<_> = due.collect();
        std::thread::spawn(move || answering.answer(due)).join().expect("it ends");
        assert_eq!(answered_elsewhere.await, Ok(1000));
        for (expected, answered) in answered.iter_mut().enumerate() {
            assert_eq!(answered.await, Ok(expected as i32));
        }
        handing_out.abort();
    }
}
