//! Whether for each key an order of operations exists that explains every value: the search of Wing and Gong, with the memory
//! of Lowe. It trusts no revision, only what was asked, what was answered, and when.
//!
//! ```text
//! calls and returns in the order of time:   ( a     ( b    a )    ( c    b )   c )
//! try to put some open operation next; go on; at a return whose operation is not yet in place, step back
//! ```
//! The order of the answers' revisions is tried first; if it explains values and times, it is a proof like any other.
//!
//! Linearizability is local: a history is linearizable when it is for each key. An operation without an answer that took place
//! (the log has it) must do so before anybody knew of it; one that did not take place is left out. The log is checked apart.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, bail};

use super::op::{Call, Key, Moment, Op, Outcome, Value};
use super::replay::Placed;

/// Steps of the search for one key. A right history needs few times its length; beyond this it is undecided, which fails.
const STEPS_MAX: usize = 20_000_000;

/// What one operation means for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It holds this now.
    Write(Option<Value>),
    /// It held the first, and holds the second now.
    Swap(Option<Value>, Option<Value>),
    /// It did not hold this.
    NotSwapped(Option<Value>),
    /// It held this.
    Read(Option<Value>),
}

impl Step {
    /// What the key holds afterwards, if the step is possible.
    fn after(self, now: Option<Value>) -> Option<Option<Value>> {
        match self {
            Step::Write(value) => Some(value),
            Step::Swap(from, to) => (now == from).then_some(to),
            Step::NotSwapped(from) => (now != from).then_some(now),
            Step::Read(value) => (now == value).then_some(now),
        }
    }
}

struct Timed {
    step: Step,
    asked: Moment,
    over: Moment,
    op: usize,
    /// Where the answers' revisions would have it. Only a hint: whatever order it leads to is judged by values and times.
    hint: (i64, bool, Moment),
}

/// Checks every key.
///
/// # Errors
/// The key that no order explains, with the operation where the search gets stuck.
pub(super) fn check(ops: &[Op], placed: &Placed, seen: &[Moment]) -> Result<()> {
    let keys = all_keys(ops);
    let mut by_key: BTreeMap<Key, Vec<Timed>> = BTreeMap::new();
    for (op, request) in ops.iter().enumerate().filter(|(_, op)| !op.serializable) {
        let over = match &request.outcome {
            Outcome::Done(_) => request.answered,
            Outcome::Unknown => {
                match placed.made[op].and_then(|revision| seen.get(usize::try_from(revision - 2).ok()?)) {
                    // Whoever knew of it first knew it after it was asked for, or the replay has failed.
                    Some(known) => *known,
                    None => continue,
                }
            }
            Outcome::Refused(_) => continue,
        };
        let made = placed.made[op];
        let revision = made.or(request.answer().map(|answer| answer.revision)).unwrap_or(0);
        let hint = (revision, made.is_none(), request.asked);
        for (key, step) in steps(request, &keys) {
            by_key.entry(key).or_default().push(Timed { step, asked: request.asked, over, op, hint });
        }
    }
    for (key, timed) in by_key {
        if hint_explains(&timed) {
            continue;
        }
        if let Err(stuck) = explain(&timed) {
            match stuck.map(|at| ops[timed[at].op].told()) {
                Some(told) => bail!("key {key}: no order of the operations explains {told}"),
                None => bail!("key {key}: undecided after {STEPS_MAX} steps"),
            }
        }
    }
    Ok(())
}

fn all_keys(ops: &[Op]) -> Vec<Key> {
    let mut keys: Vec<Key> = ops.iter().flat_map(Op::effect).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What a request means for the keys that it touches.
fn steps(op: &Op, keys: &[Key]) -> Vec<(Key, Step)> {
    let answer = op.answer();
    let wrote = answer.is_none_or(|answer| answer.wrote);
    let held = |key: Key| {
        let pairs = answer.map_or(&[][..], |answer| &answer.pairs);
        pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value)
    };
    match &op.call {
        Call::Write(changes) if wrote => changes.iter().map(|(key, value)| (*key, Step::Write(*value))).collect(),
        // Deletes that found nothing.
        Call::Write(changes) => changes.iter().map(|(key, _)| (*key, Step::Read(None))).collect(),
        Call::Swap { key, saw, to, .. } if wrote => vec![(*key, Step::Swap(*saw, *to))],
        Call::Swap { key, saw, .. } => vec![(*key, Step::NotSwapped(*saw))],
        Call::Read(_) | Call::ReadAll if answer.is_none() => vec![],
        Call::Read(key) => vec![(*key, Step::Read(held(*key)))],
        Call::ReadAll => keys.iter().map(|key| (*key, Step::Read(held(*key)))).collect(),
        Call::ReadAllAt(_) => vec![],
    }
}

/// A place in the doubly linked list of calls and returns.
#[derive(Clone, Copy)]
struct Node {
    op: usize,
    /// Where its return stands; `None` in a return.
    returns_at: Option<usize>,
    before: usize,
    after: usize,
}

/// The list of calls and returns in the order of time. Entry 0 is the head; its own number ends the list.
struct Line(Vec<Node>);

impl Line {
    fn of(timed: &[Timed]) -> Line {
        // A call at the moment of a return comes first: the two then overlap, which only allows more.
        let mut moments: Vec<(Moment, bool, usize)> = Vec::with_capacity(timed.len() * 2);
        for (at, one) in timed.iter().enumerate() {
            moments.push((one.asked, false, at));
            moments.push((one.over.max(one.asked), true, at));
        }
        moments.sort_unstable();
        let mut line = vec![Node { op: usize::MAX, returns_at: None, before: 0, after: 0 }];
        let mut calls = vec![0; timed.len()];
        for (_, returns, op) in moments {
            let at = line.len();
            line.push(Node { op, returns_at: None, before: at - 1, after: 0 });
            line[at - 1].after = at;
            if returns {
                line[calls[op]].returns_at = Some(at);
            } else {
                calls[op] = at;
            }
        }
        Line(line)
    }

    fn unlink(&mut self, at: usize) {
        let Node { before, after, .. } = self.0[at];
        self.0[before].after = after;
        if after != 0 {
            self.0[after].before = before;
        }
    }

    fn relink(&mut self, at: usize) {
        let Node { before, after, .. } = self.0[at];
        self.0[before].after = at;
        if after != 0 {
            self.0[after].before = at;
        }
    }

    /// Takes an operation out: its call and its return.
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        if let Some(returns_at) = self.0[call].returns_at {
            self.unlink(returns_at);
        }
    }

    /// Puts it back; in the reverse order of lifting.
    fn unlift(&mut self, call: usize) {
        if let Some(returns_at) = self.0[call].returns_at {
            self.relink(returns_at);
        }
        self.relink(call);
    }
}

/// Whether the order of the hints is one that explains all: then no search is needed.
fn hint_explains(timed: &[Timed]) -> bool {
    let mut order: Vec<&Timed> = timed.iter().collect();
    order.sort_by_key(|one| one.hint);
    let (mut now, mut latest_asked) = (None, 0);
    order.into_iter().all(|one| {
        // Nothing may stand after something that was asked for when it was over.
        let in_time = one.over >= latest_asked;
        latest_asked = latest_asked.max(one.asked);
        let after = one.step.after(now);
        now = after.unwrap_or(now);
        in_time && after.is_some()
    })
}

/// Searches an order. The error is the operation whose return no order reaches in time; `None` when the search was given up.
fn explain(timed: &[Timed]) -> Result<(), Option<usize>> {
    let mut line = Line::of(timed);
    let mut now: Option<Value> = None;
    let mut done = vec![0_u64; timed.len().div_ceil(64)];
    let mut known: HashSet<(Vec<u64>, Option<Value>)> = HashSet::new();
    let mut path: Vec<(usize, Option<Value>)> = Vec::new();
    let mut at = line.0[0].after;
    let mut farthest: (usize, Option<usize>) = (0, None);
    for _ in 0..STEPS_MAX {
        if line.0[0].after == 0 {
            return Ok(());
        }
        let node = line.0[at];
        if node.returns_at.is_some() {
            let next = timed[node.op].step.after(now);
            if let Some(next) = next {
                let (word, bit) = (node.op / 64, 1 << (node.op % 64));
                done[word] |= bit;
                if known.insert((done.clone(), next)) {
                    path.push((at, now));
                    now = next;
                    line.lift(at);
                    at = line.0[0].after;
                    continue;
                }
                done[word] &= !bit;
            }
            at = node.after;
            continue;
        }
        // A return that nothing before it can be put in place for: step back.
        if path.len() >= farthest.0 {
            farthest = (path.len(), Some(node.op));
        }
        let Some((call, before)) = path.pop() else { return Err(farthest.1) };
        now = before;
        let op = line.0[call].op;
        done[op / 64] &= !(1 << (op % 64));
        line.unlift(call);
        at = line.0[call].after;
    }
    Err(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(steps: &[(Step, Moment, Moment)]) -> Vec<Timed> {
        let one = |(op, (step, asked, over)): (usize, &(Step, Moment, Moment))| Timed {
            step: *step,
            asked: *asked,
            over: *over,
            op,
            hint: (0, false, 0),
        };
        steps.iter().enumerate().map(one).collect()
    }

    #[test]
    fn what_overlaps_may_be_in_any_order() {
        use Step::{Read, Swap, Write};
        let fine = [(Write(Some(1)), 0, 10), (Write(Some(2)), 1, 9), (Read(Some(1)), 2, 8), (Read(Some(2)), 9, 12)];
        assert_eq!(explain(&timed(&fine)), Ok(()));
        let swaps =
            [(Write(Some(1)), 0, 1), (Swap(Some(1), Some(2)), 2, 9), (Swap(Some(2), None), 3, 8), (Read(None), 10, 11)];
        assert_eq!(explain(&timed(&swaps)), Ok(()));
    }

    #[test]
    fn a_stale_read_and_a_read_that_goes_back_have_no_order() {
        use Step::{Read, Write};
        let stale = [(Write(Some(1)), 0, 1), (Write(Some(2)), 2, 3), (Read(Some(1)), 4, 5)];
        assert_eq!(explain(&timed(&stale)), Err(Some(2)));
        let back = [(Write(Some(1)), 0, 20), (Read(Some(1)), 1, 2), (Read(None), 3, 4)];
        assert!(explain(&timed(&back)).is_err());
    }

    #[test]
    fn two_swaps_of_one_value_cannot_both_go_through() {
        use Step::{NotSwapped, Swap, Write};
        let both = [(Write(Some(1)), 0, 1), (Swap(Some(1), Some(2)), 2, 9), (Swap(Some(1), Some(3)), 2, 9)];
        assert!(explain(&timed(&both)).is_err());
        let one = [(Write(Some(1)), 0, 1), (Swap(Some(1), Some(2)), 2, 9), (NotSwapped(Some(1)), 2, 9)];
        assert_eq!(explain(&timed(&one)), Ok(()));
    }
}
