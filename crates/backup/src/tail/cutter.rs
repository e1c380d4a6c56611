//! Where the tail is cut: by size and by time, never inside a revision. Pure; the clock comes in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::history::Revised;

/// Collects revisions until a piece is due.
#[derive(Debug)]
pub struct Cutter {
    len_max: usize,
    age_max: Duration,
    waiting: VecDeque<(Instant, usize, Revised)>,
    weight: usize,
}

/// Weight of a revision beside its keys and values, so that many small ones are bounded too.
const REVISION_WEIGHT: usize = 64;

impl Cutter {
    /// Pieces of about `len_max` bytes, or `age_max` after their first revision was heard.
    pub fn new(len_max: usize, age_max: Duration) -> Self {
        Self { len_max, age_max, waiting: VecDeque::new(), weight: 0 }
    }

    /// Takes a revision.
    pub fn push(&mut self, revised: Revised, now: Instant) {
        let weight = revised.weight() + REVISION_WEIGHT;
        self.weight += weight;
        self.waiting.push_back((now, weight, revised));
    }

    /// Bytes that wait.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether a piece is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.weight >= self.len_max || self.waiting.front().is_some_and(|(since, ..)| now - *since >= self.age_max)
    }

    /// The next piece: revisions from the front up to the wanted size, at least one. Empty when nothing waits.
    pub fn cut(&mut self) -> Vec<Revised> {
        let (mut piece, mut len) = (Vec::new(), 0);
        while len < self.len_max
            && let Some((_, weight, revised)) = self.waiting.pop_front()
        {
            len += weight;
            self.weight -= weight;
            piece.push(revised);
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use eyrie_state::Revision;

    use super::*;
    use crate::history::{Event, TimeMs};

    fn revised(revision: i64, len: usize) -> Revised {
        let events = vec![Event::Delete { key: vec![b'k'; len].into() }];
        Revised { revision: Revision(revision), heard_at: TimeMs(0), events }
    }

    fn numbers(piece: Vec<Revised>) -> Vec<i64> {
        piece.iter().map(|revised| revised.revision.0).collect()
    }

    #[test]
    fn a_piece_is_due_by_age_or_by_size() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut cutter = Cutter::new(1000, second);
        assert!(!cutter.is_due(start + second));
        cutter.push(revised(1, 100), start);
        assert!(!cutter.is_due(start + second / 2));
        assert!(cutter.is_due(start + second));
        cutter.push(revised(2, 900), start);
        assert!(cutter.is_due(start));
    }

    #[test]
    fn all_revisions_leave_once_in_order_and_a_large_one_alone() {
        let now = Instant::now();
        let mut cutter = Cutter::new(1000, Duration::from_secs(1));
        for (revision, len) in [(1, 500), (2, 500), (3, 5000), (4, 10)] {
            cutter.push(revised(revision, len), now);
        }
        assert_eq!(numbers(cutter.cut()), [1, 2]);
        assert_eq!(numbers(cutter.cut()), [3]);
        assert_eq!(numbers(cutter.cut()), [4]);
        assert_eq!(numbers(cutter.cut()), [0; 0]);
        assert_eq!(cutter.weight(), 0);
    }
}
