//! Linearizable reads that wait for raft to name their index: one question for all that gathered.
//!
//! ```text
//! readers ─▶ wait ─▶ question ─▶ leader, a round of heartbeats ─▶ index ─▶ all for whom it was asked
//!             └─ while one is under way, and a moment longer after an answer to many
//! ```
//! A question costs the members the same for one reader and for a thousand. So whoever comes while one is under way waits
//! for the next, and after an answer to many the next waits until as many are there again, but no longer than answering those
//! takes. A reader that is alone is asked for at once.
//!
//! The law: an answer is only ever used for readers that were there before its question was asked.

use std::time::Duration;

use crate::Group;

/// A question without an answer is asked anew after so long.
const RETRY: Duration = Duration::from_millis(200);
/// How long the next question waits for each reader that was just answered: less than it takes to answer one, so that a
/// member with time to ask is not kept from it.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(4);
/// The longest pause: a reader must not feel it.
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// A shorter pause is none: threads sleep no shorter.
const PAUSE_MIN: Duration = Duration::from_micros(50);

/// The question under way, and when the next may follow. Times count from any fixed moment.
#[derive(Debug)]
pub struct Questions<R> {
    /// Those whose question was lost.
    anew: Vec<R>,
    asked: Option<Asked<R>>,
    /// How many the last answer was for, and when it came.
    answered: (usize, Duration),
    next: u64,
}

#[derive(Debug)]
struct Asked<R> {
    context: u64,
    at: Duration,
    readers: Vec<R>,
}

/// When the next question is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// One is under way.
    NotYet,
    /// Now, if so many wait.
    For(usize),
    /// Now, if so many wait; after that time, if anybody does.
    ForOrAfter(usize, Duration),
    /// Now: readers wait whose question was lost.
    Now,
}

impl Due {
    /// So many readers that wait are enough for a question; `None` while none can be asked.
    pub fn enough(self) -> Option<usize> {
        match self {
            Due::NotYet => None,
            Due::Now => Some(0),
            Due::For(readers) | Due::ForOrAfter(readers, _) => Some(readers),
        }
    }
}

impl<R> Default for Questions<R> {
    fn default() -> Self {
        Self { anew: vec![], asked: None, answered: (0, Duration::ZERO), next: 0 }
    }
}

impl<R> Questions<R> {
    /// When the next question is to be asked, as of now.
    pub fn due(&self, now: Duration) -> Due {
        if self.asked.is_some() {
            return Due::NotYet;
        }
        if !self.anew.is_empty() {
            return Due::Now;
        }
        let (readers, at) = self.answered;
        let pause = (PAUSE_FOR_EACH * u32::try_from(readers).unwrap_or(u32::MAX)).min(PAUSE_MAX);
        let rest = (at + pause).saturating_sub(now);
        if pause < PAUSE_MIN || rest.is_zero() { Due::For(1) } else { Due::ForOrAfter(readers, rest) }
    }

    /// Takes back a question that was not answered for long: raft drops it when no leader is known, or when the leader is too
    /// new to know. Returns how many readers it was for.
    pub fn give_up(&mut self, now: Duration) -> usize {
        match self.asked.take_if(|asked| now.saturating_sub(asked.at) >= RETRY) {
            Some(asked) => {
                let count = asked.readers.len();
                self.anew.extend(asked.readers);
                count
            }
            None => 0,
        }
    }

    /// Asks for these and for those whose question was lost, as far as they still wait. Only when it is [`Due`].
    pub fn ask(&mut self, group: &mut Group, readers: Vec<R>, still_waits: impl Fn(&R) -> bool, now: Duration) {
        debug_assert!(self.asked.is_none(), "a question is under way: readers that came after it would get its answer");
        let mut all = std::mem::take(&mut self.anew);
        all.extend(readers);
        all.retain(still_waits);
        if all.is_empty() {
            return;
        }
        self.next += 1;
        group.read_index(self.next);
        self.asked = Some(Asked { context: self.next, at: now, readers: all });
    }

    /// Raft has named the index for this question: returns whom it was asked for. Answers to older questions are nobody's.
    pub fn answered(&mut self, context: u64, now: Duration) -> Vec<R> {
        let Some(asked) = self.asked.take_if(|asked| asked.context == context) else { return vec![] };
        self.answered = (asked.readers.len(), now);
        asked.readers
    }

    /// The leader changed: who asked the old one asks the new one.
    pub fn ask_anew(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.anew.extend(asked.readers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HardState, LogStart, Membership, Pace};

    const MICRO: Duration = Duration::from_micros(1);

    /// A member that leads alone: it answers each question at once.
    fn alone() -> Group {
        let membership = Membership { voters: vec![1], learners: vec![] };
        let start = LogStart { index: 0, term: 0, membership: membership.clone() };
        let pace = Pace { election_ticks: 10, heartbeat_ticks: 1, seed: 1 };
        let mut group = Group::open(1, pace, &start, HardState::default(), &[], 0, &membership).unwrap();
        group.campaign().unwrap();
        named(&mut group);
        group
    }

    fn named(group: &mut Group) -> Vec<u64> {
        let mut contexts = vec![];
        while group.has_work() {
            let work = group.work();
            contexts.extend(work.reads.iter().map(|(context, _)| *context));
            group.persisted(work);
        }
        contexts
    }

    #[test]
    fn one_question_at_a_time_for_all_who_came_before_it() {
        let (mut group, mut questions) = (alone(), Questions::default());
        let mut now = Duration::from_secs(1);
        assert_eq!(questions.due(now), Due::For(1), "a reader that is alone does not wait");
        questions.ask(&mut group, vec!['a', 'b', 'c'], |reader| *reader != 'b', now);
        assert_eq!(questions.due(now), Due::NotYet);
        let first = named(&mut group);
        assert_eq!(questions.answered(first[0] + 1, now), vec![], "the answer to another question");
        assert_eq!(questions.answered(first[0], now), ['a', 'c']);
        assert_eq!(questions.answered(first[0], now), vec![], "twice");
        assert_eq!(questions.due(now), Due::For(1), "few were answered");

        questions.ask(&mut group, vec!['d'], |_| true, now);
        let lost = named(&mut group);
        now += RETRY - MICRO;
        assert_eq!((questions.give_up(now), questions.due(now)), (0, Due::NotYet));
        assert_eq!((questions.give_up(now + MICRO), questions.due(now)), (1, Due::Now));
        questions.ask(&mut group, vec!['e'], |_| true, now);
        assert_eq!(questions.answered(lost[0], now), vec![], "whoever came after it must not get it");
        questions.ask_anew();
        assert_eq!(questions.due(now), Due::Now);
        named(&mut group);
        questions.ask(&mut group, vec![], |_| true, now);
        let third = named(&mut group);
        assert_eq!(questions.answered(third[0], now), ['d', 'e']);
    }

    #[test]
    fn after_an_answer_to_many_the_next_question_waits_for_as_many_or_a_moment() {
        let (mut group, mut questions) = (alone(), Questions::default());
        let now = Duration::from_secs(1);
        for (readers, pause) in [(100, 400 * MICRO), (5_000, PAUSE_MAX)] {
            questions.ask(&mut group, vec![(); readers], |()| true, now);
            let context = named(&mut group)[0];
            assert_eq!(questions.answered(context, now).len(), readers);
            assert_eq!(questions.due(now), Due::ForOrAfter(readers, pause));
            assert_eq!(questions.due(now + pause - MICRO), Due::ForOrAfter(readers, MICRO));
            assert_eq!(questions.due(now + pause), Due::For(1));
        }
    }
}
