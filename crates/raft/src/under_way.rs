//! Writes that somebody else does: what was ordered, and what may be said when it is done.
//!
//! Work is handed over in order ([`Group::handed_over`](crate::Group::handed_over)); the writer reports up to which number all is on
//! disk. Work that has nothing to write waits only for what was ordered before it.

use std::collections::VecDeque;

use crate::Message;

/// See the module. Numbers only grow.
#[derive(Debug, Default)]
pub struct UnderWay {
    ordered: VecDeque<Ordered>,
    bytes: u64,
}

#[derive(Debug)]
struct Ordered {
    number: u64,
    /// `None`: nothing is written for it.
    bytes: Option<u64>,
    later: Vec<Message>,
}

/// Writes that are done: the number up to which, and what may be said now, in order.
#[derive(Debug, Default)]
pub struct Finished {
    /// For [`Group::persisted_up_to`](crate::Group::persisted_up_to), after `messages` are said.
    pub up_to: Option<u64>,
    /// What relied on them.
    pub messages: Vec<Message>,
}

impl UnderWay {
    /// Work `number` was handed over. `bytes` is what is written for it, if anything; `later` is said when that is done.
    pub fn order(&mut self, number: u64, bytes: Option<u64>, later: Vec<Message>) {
        self.bytes += bytes.unwrap_or(0);
        self.ordered.push_back(Ordered { number, bytes, later });
    }

    /// All that was ordered up to `written` is on disk; `None` when nothing new is.
    pub fn finished(&mut self, written: Option<u64>) -> Finished {
        let mut finished = Finished::default();
        while let Some(next) = self.ordered.front() {
            let done = written.is_some_and(|up_to| next.number <= up_to);
            if next.bytes.is_some() && !done {
                break;
            }
            let Some(next) = self.ordered.pop_front() else { break };
            self.bytes -= next.bytes.unwrap_or(0);
            finished.up_to = Some(next.number);
            finished.messages.extend(next.later);
        }
        finished
    }

    /// Bytes of the writes that are not known to be done.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nothing is under way, written or not.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writes_nothing_waits_only_for_what_is_before_it() {
        let mut under_way = UnderWay::default();
        let up_to = |finished: Finished| finished.up_to;
        under_way.order(1, None, vec![]);
        under_way.order(2, Some(10), vec![]);
        under_way.order(3, None, vec![]);
        under_way.order(4, Some(20), vec![]);
        assert_eq!(up_to(under_way.finished(None)), Some(1));
        assert_eq!(up_to(under_way.finished(None)), None);
        assert_eq!(under_way.bytes(), 30);
        assert_eq!(up_to(under_way.finished(Some(2))), Some(3), "the third waited for the second");
        assert_eq!((under_way.bytes(), under_way.is_empty()), (20, false));
        assert_eq!(up_to(under_way.finished(Some(4))), Some(4));
        assert!(under_way.is_empty() && under_way.bytes() == 0);
    }
}
