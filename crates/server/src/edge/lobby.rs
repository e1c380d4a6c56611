//! Where connections wait until they have said something: the handshake, and the first byte after it.
//!
//! Who says nothing costs a file descriptor and a small task, for a bounded time and in bounded number. When the lobby is
//! full, whoever has been silent longest is shown out to make room; nobody is before a moment has passed, so that a rush of
//! honest clients is served in turn instead of being chased away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One edge's lobby.
#[derive(Debug)]
pub(crate) struct Lobby {
    places: usize,
    patience: Duration,
    inside: Mutex<Inside>,
}

/// Who waits, in order of arrival.
#[derive(Debug, Default)]
struct Inside {
    arrivals: u64,
    waiting: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

/// A place in the lobby, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    lobby: &'a Lobby,
    number: u64,
    out: Arc<Notify>,
}

impl Lobby {
    pub(crate) fn new(places: usize, patience: Duration) -> Self {
        Self { places: places.max(1), patience, inside: Mutex::default() }
    }

    /// A place, if need be that of somebody who has been silent for long.
    pub(crate) async fn enter(&self) -> Place<'_> {
        loop {
            let until = match self.try_enter() {
                Ok(place) => return place,
                Err(until) => until,
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// A place, or when to ask again.
    fn try_enter(&self) -> Result<Place<'_>, Instant> {
        let now = Instant::now();
        let mut inside = self.inside.lock();
        if inside.waiting.len() >= self.places
            && let Some((&number, (came, out))) = inside.waiting.first_key_value()
        {
            let patient_until = *came + self.patience;
            if now < patient_until {
                return Err(patient_until);
            }
            out.notify_one();
            inside.waiting.remove(&number);
        }
        let (number, out) = (inside.arrivals, Arc::new(Notify::new()));
        inside.arrivals += 1;
        inside.waiting.insert(number, (now, out.clone()));
        Ok(Place { lobby: self, number, out })
    }
}

impl Place<'_> {
    /// Returns when somebody else needs the place.
    pub(crate) async fn shown_out(&self) {
        self.out.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lobby.inside.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_silent_is_shown_out_but_not_at_once() {
        let patience = Duration::from_millis(50);
        let lobby = Lobby::new(2, patience);
        let (first, second) = (lobby.enter().await, lobby.enter().await);
        let begun = Instant::now();
        let third = lobby.enter().await;
        assert!(begun.elapsed() >= patience / 2, "nobody is shown out at once");
        first.shown_out().await;
        drop(second);
        let begun = Instant::now();
        let _fourth = lobby.enter().await;
        assert!(begun.elapsed() < patience / 2, "a place that was left is free");
        drop(third);
        drop(first);
        assert_eq!(lobby.inside.lock().waiting.len(), 1);
    }
}
