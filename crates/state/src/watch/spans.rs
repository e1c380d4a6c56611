//! An index of key spans: which of them hold a given key, without looking at all.
//!
//! A treap sorted by (start, end) whose nodes remember the largest end below them, so that a lookup skips every
//! subtree that ends before the key. Priorities come from a counter through a mixing function: the same calls build
//! the same tree, and no order of calls the outside can choose unbalances it for long.

use bytes::Bytes;

use super::interest::Span;

/// Spans, each with a value of its own.
#[derive(Debug)]
pub(super) struct Spans<V> {
    nodes: Vec<Node<V>>,
    free: Vec<Link>,
    root: Link,
    inserted: u64,
}

type Link = u32;
const NONE: Link = Link::MAX;

#[derive(Debug)]
struct Node<V> {
    span: Span,
    value: V,
    priority: u64,
    left: Link,
    right: Link,
    /// The largest end in this subtree; `None` for "no end".
    end_max: Option<Bytes>,
}

impl<V> Default for Spans<V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NONE, inserted: 0 }
    }
}

impl<V: Default> Spans<V> {
    /// The value of a span; a new one when the span is new.
    pub(super) fn entry(&mut self, span: &Span) -> &mut V {
        let at = match self.find(span) {
            Some(at) => at,
            None => self.insert(span.clone()),
        };
        &mut self.nodes[at as usize].value
    }

    /// The value of a span that is here.
    pub(super) fn get_mut(&mut self, span: &Span) -> Option<&mut V> {
        self.find(span).map(|at| &mut self.nodes[at as usize].value)
    }

    /// Forgets a span.
    pub(super) fn remove(&mut self, span: &Span) {
        let Some(gone) = self.find(span) else { return };
        let (below, rest) = self.split(self.root, span, false);
        let (_, above) = self.split(rest, span, true);
        self.root = self.merge(below, above);
        let node = &mut self.nodes[gone as usize];
        node.value = V::default();
        node.span = Span { start: Bytes::new(), end: None };
        node.end_max = None;
        (node.left, node.right) = (NONE, NONE);
        self.free.push(gone);
    }

    /// Visits the value of every span that holds `key`, in the order of spans.
    pub(super) fn holding(&self, key: &[u8], visit: &mut impl FnMut(&V)) {
        self.holding_below(self.root, key, visit);
    }

    fn holding_below(&self, at: Link, key: &[u8], visit: &mut impl FnMut(&V)) {
        let Some(node) = self.nodes.get(at as usize) else { return };
        if node.end_max.as_ref().is_some_and(|end| &end[..] <= key) {
            return;
        }
        self.holding_below(node.left, key, visit);
        if &node.span.start[..] > key {
            return;
        }
        if node.span.ends_after(key) {
            visit(&node.value);
        }
        self.holding_below(node.right, key, visit);
    }

    fn find(&self, span: &Span) -> Option<Link> {
        let mut at = self.root;
        while let Some(node) = self.nodes.get(at as usize) {
            at = match span.cmp(&node.span) {
                std::cmp::Ordering::Equal => return Some(at),
                std::cmp::Ordering::Less => node.left,
                std::cmp::Ordering::Greater => node.right,
            };
        }
        None
    }

    fn insert(&mut self, span: Span) -> Link {
        self.inserted += 1;
        let node = Node {
            end_max: span.end.clone(),
            span,
            value: V::default(),
            priority: mix(self.inserted),
            left: NONE,
            right: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.nodes.push(node);
                return self.hang(self.nodes.len() as Link - 1);
            }
        };
        self.nodes[at as usize] = node;
        self.hang(at)
    }

    fn hang(&mut self, at: Link) -> Link {
        let span = self.nodes[at as usize].span.clone();
        let (below, above) = self.split(self.root, &span, false);
        let below = self.merge(below, at);
        self.root = self.merge(below, above);
        at
    }

    /// Splits a subtree into the spans before `span` and the rest; `span` itself goes left when `with` is set.
    fn split(&mut self, at: Link, span: &Span, with: bool) -> (Link, Link) {
        if at == NONE {
            return (NONE, NONE);
        }
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        if node.span < *span || (with && node.span == *span) {
            let (a, b) = self.split(right, span, with);
            self.nodes[at as usize].right = a;
            self.refresh(at);
            (at, b)
        } else {
            let (a, b) = self.split(left, span, with);
            self.nodes[at as usize].left = b;
            self.refresh(at);
            (a, at)
        }
    }

    fn merge(&mut self, a: Link, b: Link) -> Link {
        if a == NONE || b == NONE {
            return if a == NONE { b } else { a };
        }
        if self.nodes[a as usize].priority > self.nodes[b as usize].priority {
            let right = self.nodes[a as usize].right;
            self.nodes[a as usize].right = self.merge(right, b);
            self.refresh(a);
            a
        } else {
            let left = self.nodes[b as usize].left;
            self.nodes[b as usize].left = self.merge(a, left);
            self.refresh(b);
            b
        }
    }

    fn refresh(&mut self, at: Link) {
        let node = &self.nodes[at as usize];
        let mut end = node.span.end.as_ref();
        for child in [node.left, node.right] {
            let Some(below) = self.nodes.get(child as usize) else { continue };
            end = match (end, &below.end_max) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
        }
        let end = end.cloned();
        self.nodes[at as usize].end_max = end;
    }
}

/// SplitMix64's finisher.
const fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
