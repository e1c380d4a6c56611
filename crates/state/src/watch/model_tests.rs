//! Random watchers and events against the plainest model: a list that is scanned.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::answer::{Event, KeyValue};
use crate::command::KeyRange;
use crate::ids::Revision;

fn event(key: Bytes, delete: bool, revision: i64) -> Event {
    Event { delete, kv: KeyValue { key, mod_revision: revision, ..Default::default() }, prev: None }
}

/// Few letters and short keys, so that ranges overlap, nest and meet at their ends.
fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 1..4).prop_map(Bytes::from)
}

fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::One),
        6 => (key(), key()).prop_map(|(a, b)| KeyRange::Span(a, b)),
        1 => key().prop_map(KeyRange::From),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Join(KeyRange, bool, bool, bool),
    Leave(prop::sample::Index),
    Events(Vec<(Bytes, bool)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (keys(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(k, p, d, v)| Step::Join(k, p, d, v)),
        2 => any::<prop::sample::Index>().prop_map(Step::Leave),
        4 => prop::collection::vec((key(), any::<bool>()), 1..6).prop_map(Step::Events),
    ]
}

fn in_range(keys: &KeyRange, key: &[u8]) -> bool {
    match keys {
        KeyRange::One(one) => one == key,
        KeyRange::Span(start, end) => &start[..] <= key && key < &end[..],
        KeyRange::From(start) => &start[..] <= key,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_gets_exactly_what_a_linear_scan_gives(steps in prop::collection::vec(step(), 1..120)) {
        let mut registry = Registry::default();
        let mut watchers: Vec<(KeyRange, Filters, GroupId)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Join(keys, no_put, no_delete, prev_kv) => {
                    let filters = Filters { no_put, no_delete };
                    match Interest::new(keys.clone(), filters, prev_kv) {
                        Ok(interest) => {
                            let (group, _) = registry.join(&interest);
                            prop_assert_eq!(registry.interest(group), &interest);
                            watchers.push((keys, filters, group));
                        }
                        Err(EmptyRange) => {
                            let empty = matches!(&keys, KeyRange::Span(a, b) if a >= b);
                            prop_assert!(empty);
                        }
                    }
                }
                Step::Leave(which) if !watchers.is_empty() => {
                    let (_, _, group) = watchers.swap_remove(which.index(watchers.len()));
                    let last = registry.leave(group);
                    prop_assert_eq!(last, !watchers.iter().any(|(_, _, other)| *other == group));
                }
                Step::Leave(_) => {}
                Step::Events(changes) => {
                    let events: Vec<_> = changes.into_iter().map(|(k, d)| event(k, d, number as i64)).collect();
                    let found = registry.matches(&events);
                    prop_assert!(found.windows(2).all(|pair| pair[0].group < pair[1].group));
                    for (keys, filters, group) in &watchers {
                        let want: Vec<u32> = (0..events.len() as u32)
                            .filter(|place| {
                                let event = &events[*place as usize];
                                in_range(keys, &event.kv.key) && filters.pass(event.delete)
                            })
                            .collect();
                        let got = found.iter().find(|m| m.group == *group).map_or(&[][..], |m| &m.events[..]);
                        prop_assert_eq!(got, &want[..]);
                    }
                }
            }
            prop_assert_eq!(registry.members(), watchers.len());
        }
    }

    #[test]
    fn a_trail_never_hides_a_gap(pushes in prop::collection::vec((1i64..4, any::<bool>()), 1..60), reads in prop::collection::vec((0i64..120, 0i64..120), 1..40)) {
        let mut trail = Trail::new(Revision(0));
        let mut all = Vec::new();
        let mut revision = 0;
        for (gap, forget) in pushes {
            revision += gap;
            trail.push(Revision(revision), revision);
            all.push(revision);
            if forget {
                trail.forget(Revision(revision - 3));
            }
        }
        for (next, forget) in reads {
            match trail.pull(Revision(next)) {
                Pull::Synced(seen) => {
                    let seen: Vec<i64> = seen.map(|(_, r)| *r).collect();
                    let want: Vec<i64> = all.iter().copied().filter(|r| *r >= next).collect();
                    prop_assert_eq!(seen, want);
                }
                Pull::Unsynced(from) => {
                    prop_assert!(next < from.0);
                    prop_assert_eq!(from, trail.complete_from());
                }
            }
            trail.forget(Revision(forget - 60));
        }
        trail.clear();
        prop_assert!(trail.is_empty());
        prop_assert!(trail.complete_from() > Revision(revision));
    }
}

#[test]
fn the_tree_stays_shallow_whatever_the_order_of_joining() {
    let mut registry = Registry::default();
    let span = |n: u32| KeyRange::Span(Bytes::from(format!("k{n:06}")), Bytes::from(format!("k{:06}", n + 1)));
    for n in 0..20_000 {
        registry.join(&Interest::new(span(n), Filters::default(), false).unwrap());
    }
    // A list of this length would overflow the stack of the recursive lookup, and take minutes here.
    for n in 0..20_000 {
        let found = registry.matches(&[event(Bytes::from(format!("k{n:06}x")), false, 1)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].group, GroupId(n));
    }
}
