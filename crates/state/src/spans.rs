//! A set of keys as disjoint spans.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// Spans by their first key, never touching each other; the end is exclusive, `None` for no end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spans(BTreeMap<Bytes, Option<Bytes>>);

impl Spans {
    /// Adds the keys from `from` up to `to`, which must not lie before it.
    pub(crate) fn insert(&mut self, mut from: Bytes, mut to: Option<Bytes>) {
        // Spans that only touch are one span too: no key lies between them.
        let reaches = |end: &Option<Bytes>, key: &Bytes| end.as_ref().is_none_or(|end| end >= key);
        // Swallows the span that begins before and reaches here, then all that begin inside.
        if let Some((first, end)) = self.0.range(..=from.clone()).next_back()
            && reaches(end, &from)
        {
            from = first.clone();
        }
        while let Some((first, end)) = self.0.range(from.clone()..).next() {
            if !reaches(&to, first) {
                break;
            }
            to = match (to, end) {
                (Some(a), Some(b)) => Some(a.max(b.clone())),
                _ => None,
            };
            let first = first.clone();
            self.0.remove(&first);
        }
        self.0.insert(from, to);
    }

    /// Adds one key.
    pub(crate) fn insert_key(&mut self, key: &Bytes) {
        self.insert(key.clone(), Some(after(key)));
    }

    /// Adds all that another set holds.
    pub(crate) fn extend(&mut self, other: Spans) {
        other.0.into_iter().for_each(|(from, to)| self.insert(from, to));
    }

    /// The key lies inside.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        self.around(key).is_some()
    }

    /// Every key from `from` up to `to` lies inside.
    pub(crate) fn hold(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        self.around(from).is_some_and(|end| match (to, end) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(to), Some(end)) => to <= &end[..],
        })
    }

    /// The end of the span that holds this key.
    fn around(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.map(|(_, end)| end).filter(|end| end.as_ref().is_none_or(|end| key < &end[..]))
    }
}

/// The smallest key after this one.
fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain set of keys of one letter; the last letter has no key after it but longer ones.
        #[test]
        fn as_a_set_of_keys(spans in prop::collection::vec((b'a'..b'h', prop::option::of(b'a'..=b'h')), 0..12)) {
            let (mut set, mut keys) = (Spans::default(), [false; 8]);
            for (from, to) in spans {
                if to.is_some_and(|to| to <= from) {
                    continue;
                }
                set.insert(Bytes::from(vec![from]), to.map(|to| Bytes::from(vec![to])));
                let end = to.map_or(keys.len(), |to| usize::from(to - b'a'));
                keys[usize::from(from - b'a')..end].fill(true);
            }
            for (at, held) in (b'a'..).zip(keys) {
                prop_assert_eq!(set.holds(&[at]), held);
            }
            for from in 0..keys.len() {
                for to in from + 1..keys.len() {
                    let held = keys[from..to].iter().all(|held| *held);
                    let name = |at: usize| [b'a' + u8::try_from(at).unwrap()];
                    prop_assert_eq!(set.hold(&name(from), Some(&name(to))), held);
                }
            }
            let (starts, ends) = (set.0.keys().skip(1), set.0.values());
            prop_assert!(starts.zip(ends).all(|(start, end)| end.as_ref().is_some_and(|end| end < start)), "{:?}", set);
        }
    }
}
