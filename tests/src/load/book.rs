//! What was promised, what was tried, what was heard. Pure: no clock, no network.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// A change of one key: the new value, or `None` for a delete.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// One event as a watcher hears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision that made it.
    pub revision: i64,
    /// The key and its new value.
    pub change: Change,
}

/// What a request does to keys: all of it in one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect(pub Vec<Change>);

/// What a request does to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// It was granted with this TTL.
    Granted(i64),
    /// Whether it still lives is not known: the answer to its revocation never came.
    Unsure,
    /// Its revocation was acknowledged.
    Revoked,
}

/// The memory of a test.
#[derive(Default)]
pub struct Book {
    promises: BTreeMap<i64, Effect>,
    attempts: Vec<Effect>,
    leases: BTreeMap<i64, (LeaseEnd, Vec<Vec<u8>>)>,
    heard: Vec<Event>,
    settled: usize,
}

impl Book {
    /// An acknowledged write.
    pub fn promise(&mut self, revision: i64, effect: Effect) -> Result<()> {
        let before = self.promises.insert(revision, effect);
        ensure!(before.is_none(), "revision {revision} was given to two writes: the other one was {before:?}");
        Ok(())
    }

    /// A write whose answer never came: it may be there once, or not at all.
    pub fn attempt(&mut self, effect: Effect) {
        self.attempts.push(effect);
    }

    /// What is known of a lease.
    pub fn lease(&mut self, id: i64, end: LeaseEnd) {
        self.leases.entry(id).or_insert((end, Vec::new())).0 = end;
    }

    /// An acknowledged put attached this key.
    pub fn attached(&mut self, id: i64, key: Vec<u8>) {
        self.leases.entry(id).or_insert((LeaseEnd::Unsure, Vec::new())).1.push(key);
    }

    /// Leases that must be alive: id, keys, TTL. The newest ones, so that a check stays short.
    pub fn leases(&self) -> Vec<(i64, Vec<Vec<u8>>, i64)> {
        let living = self.leases.iter().rev().filter_map(|(id, (end, keys))| match end {
            LeaseEnd::Granted(ttl) => Some((*id, keys.clone(), *ttl)),
            LeaseEnd::Unsure | LeaseEnd::Revoked => None,
        });
        living.take(20).collect()
    }

    /// The newest revision that was acknowledged.
    pub fn newest_told(&self) -> i64 {
        self.promises.last_key_value().map_or(1, |(r, _)| *r)
    }

    /// The newest revision that the watcher heard.
    pub fn newest_heard(&self) -> i64 {
        self.heard.last().map_or(1, |e| e.revision)
    }

    /// The next events of the watcher, in order.
    pub fn hear(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            let newest = self.newest_heard();
            ensure!(event.revision >= newest, "the watcher heard revision {} after {newest}", event.revision);
            self.heard.push(event);
        }
        Ok(())
    }

    /// Everything heard.
    pub fn heard(&self) -> &[Event] {
        &self.heard
    }

    /// Checks what was heard since the last time, up to revision `now`, against promises and attempts.
    pub fn settle(&mut self, now: i64) -> Result<()> {
        let mut by_revision: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        let first = self.settled;
        for event in &self.heard[first..] {
            by_revision.entry(event.revision).or_default().push(event.change.clone());
        }
        let from = if first == 0 { 1 } else { self.heard[first - 1].revision };
        for (revision, promise) in self.promises.range(from + 1..=now.max(from + 1)) {
            let heard = by_revision
                .get(revision)
                .with_context(|| format!("an acknowledged write is lost: revision {revision}, {promise:?}"))?;
            ensure!(
                same_set(heard, &promise.0),
                "revision {revision} was acknowledged as {promise:?}, but a watcher heard {heard:?}"
            );
        }
        for (revision, heard) in by_revision.iter().filter(|(r, _)| !self.promises.contains_key(r)) {
            let tried = self.attempts.iter().position(|a| same_set(heard, &a.0));
            let tried = tried.with_context(|| format!("nobody wrote revision {revision}: {heard:?}"))?;
            self.attempts.swap_remove(tried);
        }
        self.settled = self.heard.len();
        Ok(())
    }

    /// The keys that the history leaves.
    pub fn keys(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut keys = BTreeMap::new();
        for Event { change: (key, value), .. } in &self.heard {
            match value {
                Some(value) => keys.insert(key.clone(), value.clone()),
                None => keys.remove(key),
            };
        }
        keys
    }
}

/// Whether both hold the same changes. A watcher may hear one request's changes in any order that the request allows; a key changes
/// at most once in each request of these tests.
fn same_set(a: &[Change], b: &[Change]) -> bool {
    let sorted = |changes: &[Change]| {
        let mut changes = changes.to_vec();
        changes.sort();
        changes
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        (key.into(), Some(value.into()))
    }

    fn event(revision: i64, change: Change) -> Event {
        Event { revision, change }
    }

    #[test]
    fn a_lost_write_is_noticed() {
        let mut book = Book::default();
        book.promise(2, Effect(vec![put("a", "1")])).unwrap();
        book.promise(3, Effect(vec![put("b", "1")])).unwrap();
        book.hear(vec![event(3, put("b", "1"))]).unwrap();
        assert!(book.settle(3).unwrap_err().to_string().contains("lost"));
    }

    #[test]
    fn a_write_without_answer_may_be_there_once() {
        let mut book = Book::default();
        book.attempt(Effect(vec![put("a", "1")]));
        book.hear(vec![event(2, put("a", "1"))]).unwrap();
        book.settle(2).unwrap();
        book.hear(vec![event(3, put("a", "1"))]).unwrap();
        assert!(book.settle(3).unwrap_err().to_string().contains("nobody wrote"));
    }

    #[test]
    fn an_empty_book_is_settled() {
        Book::default().settle(1).unwrap();
    }

    #[test]
    fn a_watcher_never_goes_back() {
        let mut book = Book::default();
        book.hear(vec![event(5, put("a", "1"))]).unwrap();
        assert!(book.hear(vec![event(4, put("a", "1"))]).is_err());
    }

    #[test]
    fn another_value_than_the_acknowledged_one_is_noticed() {
        let mut book = Book::default();
        book.promise(2, Effect(vec![put("a", "1")])).unwrap();
        book.hear(vec![event(2, put("a", "2"))]).unwrap();
        assert!(book.settle(2).is_err());
    }
}
