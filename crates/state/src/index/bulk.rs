//! Builds the whole index at start: gather in history order, sort once by key, build the tree from sorted input.
//!
//! Records are gathered in one long buffer, each with its name behind it, so that sorted order costs one cache miss a
//! record. They are sorted by the eight bytes that follow what all names have in common, so that most comparisons
//! never touch the buffer:
//! ```text
//! main (8) │ sub (4) │ length of the name, top bit: tombstone (4) │ name
//! ```

use crate::ids::{LeaseId, Position};

use super::{History, KeyIndex, LeaseSlot, Mark};

const HEAD_LEN: usize = 16;
const TOMBSTONE: u32 = 1 << 31;

/// Gathers records, then becomes the index.
#[derive(Default)]
pub(crate) struct Bulk {
    buffer: Vec<u8>,
    /// What records say beyond their position, where it is not what a first put says. Ascending by place in the buffer.
    extras: Vec<(usize, Extra)>,
    last: Option<Last>,
    count: usize,
}

/// What is known after the last record.
struct Last {
    /// Where it begins.
    at: usize,
    /// The length of what all names so far have in common.
    common: usize,
    /// All names so far came in order.
    sorted: bool,
}

/// What a record says of its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extra {
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

impl Bulk {
    /// Takes one record; they come in the order of their positions.
    pub(crate) fn add(&mut self, name: &[u8], mark: Mark, extra: Extra) {
        let at = self.buffer.len();
        let (common, sorted) = match &self.last {
            None => (name.len(), true),
            Some(last) => {
                let (_, before) = self.read(last.at);
                (common_len(&before[..last.common], name), last.sorted && before <= name)
            }
        };
        self.last = Some(Last { at, common, sorted });
        self.count += 1;
        if extra != Extra::of_first_put(mark) {
            self.extras.push((at, extra));
        }
        let Position { main, sub } = mark.position();
        let len = u32::try_from(name.len()).ok().filter(|len| len & TOMBSTONE == 0).expect("a key is below 2 GiB");
        self.buffer.extend_from_slice(&main.to_le_bytes());
        self.buffer.extend_from_slice(&sub.to_le_bytes());
        self.buffer.extend_from_slice(&(len | if mark.tombstone { TOMBSTONE } else { 0 }).to_le_bytes());
        self.buffer.extend_from_slice(name);
    }

    /// The newest position that was added.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last.as_ref().map(|last| self.read(last.at).0.position())
    }

    /// Builds the index. `attach` is asked for each live key with a lease, in key order.
    pub(crate) fn build(self, mut attach: impl FnMut(LeaseId, &[u8]) -> LeaseSlot) -> KeyIndex {
        let order = self.order();
        let mut live = 0;
        let mut marks: Vec<Mark> = Vec::new();
        let mut keys = Vec::with_capacity(order.len());
        for (place, &(head, at)) in order.iter().enumerate() {
            let (mark, name) = self.read(at);
            marks.push(mark);
            let next = order.get(place + 1).filter(|(next, _)| *next == head);
            if next.is_some_and(|&(_, next)| self.read(next).1 == name) {
                continue;
            }
            let Extra { create, version, lease } = self.extra(at, mark);
            live += usize::from(!mark.tombstone);
            let leased = !mark.tombstone && lease != LeaseId(0);
            let slot = if leased { attach(lease, name) } else { None };
            keys.push((Box::from(name), History::rebuilt(&marks, create, version, slot)));
            marks.clear();
        }
        drop(order);
        drop(self);
        KeyIndex { keys: keys.into_iter().collect(), live }
    }

    /// Where records begin, by name, then by position; each with the bytes it was sorted by.
    fn order(&self) -> Vec<(u64, usize)> {
        let mut order = Vec::with_capacity(self.count);
        let Some(Last { common, sorted, .. }) = self.last else { return order };
        let mut at = 0;
        while at < self.buffer.len() {
            let (_, name) = self.read(at);
            let tail = &name[common..];
            let mut head = [0; 8];
            let len = tail.len().min(8);
            head[..len].copy_from_slice(&tail[..len]);
            order.push((u64::from_be_bytes(head), at));
            at += HEAD_LEN + name.len();
        }
        if !sorted {
            order.sort_unstable_by(|a, b| {
                let names = || self.read(a.1).1.cmp(self.read(b.1).1);
                a.0.cmp(&b.0).then_with(names).then(a.1.cmp(&b.1))
            });
        }
        order
    }

    #[inline]
    fn read(&self, at: usize) -> (Mark, &[u8]) {
        let (head, rest) = self.buffer[at..].split_first_chunk::<HEAD_LEN>().expect("a record begins here");
        let main = i64::from_le_bytes(head[..8].try_into().expect("8 bytes"));
        let sub = u32::from_le_bytes(head[8..12].try_into().expect("4 bytes"));
        let len = u32::from_le_bytes(head[12..].try_into().expect("4 bytes"));
        let at = Position { main, sub };
        let mark = if len & TOMBSTONE == 0 { Mark::live(at) } else { Mark::tombstone(at) };
        (mark, &rest[..(len & !TOMBSTONE) as usize])
    }

    fn extra(&self, at: usize, mark: Mark) -> Extra {
        match self.extras.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(found) => self.extras[found].1,
            Err(_) => Extra::of_first_put(mark),
        }
    }
}

impl Extra {
    fn of_first_put(mark: Mark) -> Self {
        Self { create: mark.main, version: 1, lease: LeaseId(0) }
    }
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_arrival_does_not_matter_to_keys_but_does_to_marks() {
        let mut bulk = Bulk::default();
        let names: [&[u8]; 7] = [b"app", b"ap", b"apple-pie-1", b"app", b"apple-pie-0", b"ap\0", b"app"];
        for (main, name) in (2..).zip(names) {
            let at = Position { main, sub: 0 };
            let mark = if main == 5 { Mark::tombstone(at) } else { Mark::live(at) };
            bulk.add(name, mark, Extra::of_first_put(mark));
        }
        let index = bulk.build(|_, _| None);
        let keys: Vec<_> = index.all().map(|(key, history)| (key, history.live().map(|l| l.at.main))).collect();
        let want: [(&[u8], _); 5] = [
            (b"ap", Some(3)),
            (b"ap\0", Some(7)),
            (b"app", Some(8)),
            (b"apple-pie-0", Some(6)),
            (b"apple-pie-1", Some(4)),
        ];
        assert_eq!(keys, want);
        assert_eq!(index.live_count(), 5);
        assert_eq!(index.get(b"app").unwrap().at(5), None);
        assert_eq!(index.get(b"app").unwrap().at(4).map(|p| p.main), Some(2));
    }
}
