//! Builds the whole index at start: gather in history order, sort once by key, build the tree from sorted input.
//!
//! Names go into one long buffer and are sorted by the eight bytes that follow what all names have in common, so that
//! most comparisons never touch the buffer.

use crate::ids::{LeaseId, Position};

use super::{History, KeyIndex, LeaseSlot, Mark};

/// Gathers records, then becomes the index.
#[derive(Default)]
pub(crate) struct Bulk {
    names: Vec<u8>,
    found: Vec<Found>,
    /// What records say beyond their position, where it is not what a first put says. Ascending by number.
    extras: Vec<(usize, Extra)>,
    common: Option<usize>,
    sorted: bool,
}

/// One record; its number is its place in the order of positions.
struct Found {
    name_at: usize,
    name_len: u32,
    mark: Mark,
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
        match (self.common, self.found.last()) {
            (Some(common), Some(last)) => {
                let last = self.name(last);
                (self.common, self.sorted) = (Some(common_len(&last[..common], name)), self.sorted && last <= name);
            }
            _ => (self.common, self.sorted) = (Some(name.len()), true),
        }
        if extra != Extra::of_first_put(mark) {
            self.extras.push((self.found.len(), extra));
        }
        let name_at = self.names.len();
        self.names.extend_from_slice(name);
        let name_len = u32::try_from(name.len()).expect("a record fits into memory");
        self.found.push(Found { name_at, name_len, mark });
    }

    /// The newest position that was added.
    pub(crate) fn last(&self) -> Option<Position> {
        self.found.last().map(|found| found.mark.position())
    }

    /// Builds the index. `attach` is asked for each live key with a lease, in key order.
    pub(crate) fn build(self, mut attach: impl FnMut(LeaseId, &[u8]) -> LeaseSlot) -> KeyIndex {
        let order = self.order();
        let mut live = 0;
        let mut marks: Vec<Mark> = Vec::new();
        let mut keys = Vec::with_capacity(order.len());
        for (place, &(head, number)) in order.iter().enumerate() {
            let found = &self.found[number];
            let name = self.name(found);
            marks.push(found.mark);
            let next = order.get(place + 1).filter(|(next, _)| *next == head);
            if next.is_some_and(|&(_, next)| self.name(&self.found[next]) == name) {
                continue;
            }
            let Extra { create, version, lease } = self.extra(number, found.mark);
            let is_live = !found.mark.tombstone;
            live += usize::from(is_live);
            let slot = if is_live && lease != LeaseId(0) { attach(lease, name) } else { None };
            keys.push((Box::from(name), History::rebuilt(&marks, create, version, slot)));
            marks.clear();
        }
        drop(order);
        drop(self);
        KeyIndex { keys: keys.into_iter().collect(), live }
    }

    /// Numbers of `found`, by name, then by position.
    fn order(&self) -> Vec<(u64, usize)> {
        let common = self.common.unwrap_or(0);
        let head = |found: &Found| {
            let tail = &self.name(found)[common..];
            let mut head = [0; 8];
            let len = tail.len().min(8);
            head[..len].copy_from_slice(&tail[..len]);
            u64::from_be_bytes(head)
        };
        let mut order: Vec<_> = self.found.iter().enumerate().map(|(number, found)| (head(found), number)).collect();
        if !self.sorted {
            order.sort_unstable_by(|a, b| {
                let names = || self.name(&self.found[a.1]).cmp(self.name(&self.found[b.1]));
                a.0.cmp(&b.0).then_with(names).then(a.1.cmp(&b.1))
            });
        }
        order
    }

    fn name(&self, found: &Found) -> &[u8] {
        &self.names[found.name_at..][..found.name_len as usize]
    }

    fn extra(&self, number: usize, mark: Mark) -> Extra {
        match self.extras.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => self.extras[at].1,
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
