//! Each check is seen to fail: a store made of a map writes a right history, then one thing in it is made wrong.

#![cfg(test)]

use std::collections::BTreeMap;

use super::*;
use crate::load::Dice;

const KEYS: u64 = 5;
const STEPS: u64 = 600;
const CLIENTS: usize = 6;

/// A store that does one thing after the other, and clients that overlap in time.
fn right(seed: u64) -> History {
    let mut dice = Dice::new(seed);
    let mut log = Log::default();
    let mut ops = Vec::new();
    let mut last_seen: Vec<BTreeMap<u16, Pair>> = vec![BTreeMap::new(); CLIENTS];
    let mut free_from = [0_u64; CLIENTS];
    for step in 1..=STEPS {
        // It happens at this moment; it was asked for some time before and is answered some time later.
        let now = step * 100;
        let Some(client) = (0..CLIENTS).filter(|client| free_from[*client] < now).max_by_key(|_| dice.below(1000))
        else {
            continue;
        };
        let asked = now - dice.below(now - free_from[client]).min(400);
        let answered = now + 1 + dice.below(400);
        free_from[client] = answered;
        let (key, value) = (dice.below(KEYS) as u16, step);
        let unknown = dice.below(20) == 0;
        let happens = !unknown || dice.below(2) == 0;
        let call = match dice.below(10) {
            0..3 => Call::Write(vec![(key, Some(value))]),
            3 => Call::Write(vec![(key, None)]),
            4 => Call::Write((0..3).map(|n| (n, Some(value * 10_000 + u64::from(n)))).collect()),
            5..7 => {
                let seen = last_seen[client].get(&key);
                let (modified, saw) = seen.map_or((0, None), |pair| (pair.modified, Some(pair.value)));
                Call::Swap { key, modified, saw, to: Some(value) }
            }
            7 => Call::ReadAll,
            _ => Call::Read(key),
        };
        let mut op = Op { client, call, serializable: false, asked, answered, outcome: Outcome::Unknown };
        let mut answer = Answer::default();
        if happens {
            answer = carry_out(&op, &mut log);
        }
        last_seen[client].extend(answer.pairs.iter().map(|pair| (pair.key, *pair)));
        op.outcome = if unknown { Outcome::Unknown } else { Outcome::Done(answer) };
        ops.push(op);
    }
    let ends = ["a", "b", "c"].map(|member| End {
        member: member.into(),
        revision: log.newest(),
        pairs: log.all_at(log.newest()),
        digest: (7, -1),
    });
    let streams = vec![listen(&log, None, &mut dice), listen(&log, None, &mut dice), listen(&log, Some(1), &mut dice)];
    History { ops, streams, ends: ends.into() }
}

fn carry_out(op: &Op, log: &mut Log) -> Answer {
    let fits = match op.call {
        Call::Swap { key, modified, .. } => log.at(key, log.newest()).map_or(0, |pair| pair.modified) == modified,
        _ => true,
    };
    let revision = log.newest() + 1;
    let events: Vec<Event> = op
        .effect()
        .into_iter()
        .filter_map(|(key, value)| {
            let before = log.at(key, revision - 1);
            let now = value.map(|value| Pair {
                key,
                value,
                created: before.map_or(revision, |pair| pair.created),
                modified: revision,
                version: before.map_or(1, |pair| pair.version + 1),
            });
            (before.is_some() || now.is_some()).then_some(Event { key, now })
        })
        .collect();
    let wrote = fits && !events.is_empty();
    if wrote {
        log.push(events).unwrap();
    }
    let pairs = match op.call {
        Call::Read(key) => log.at(key, log.newest()).into_iter().collect(),
        Call::Swap { key, .. } if !wrote => log.at(key, log.newest()).into_iter().collect(),
        Call::ReadAll => log.all_at(log.newest()),
        _ => vec![],
    };
    Answer { revision: log.newest(), wrote, pairs }
}

/// A watcher that hears the log in answers of a few revisions, with notifications of progress between them.
fn listen(log: &Log, key: Option<u16>, dice: &mut Dice) -> Stream {
    let mut responses = Vec::new();
    let mut waiting = Vec::new();
    for revision in 2..=log.newest() {
        for event in log.events(revision).iter().filter(|event| key.is_none_or(|key| key == event.key)) {
            let before = log.at(event.key, revision - 1);
            waiting.push(Heard { revision, event: *event, before, is_create: event.now.is_some() && before.is_none() });
        }
        let events = std::mem::take(&mut waiting);
        match dice.below(5) {
            0 => responses.push(Response { at: STEPS * 200, revision, events }),
            1 if events.is_empty() => responses.push(Response { at: STEPS * 200, revision, events }),
            _ => waiting = events,
        }
    }
    responses.push(Response { at: STEPS * 200, revision: log.newest(), events: waiting });
    let name = format!("watcher of {key:?}");
    Stream { name, key, from: 2, wants_before: true, compacting: false, compacted: None, responses }
}

/// Finds an operation that fits and makes it wrong.
fn hurt(history: &mut History, fits: impl Fn(&Op) -> bool, hurt: impl Fn(&mut Op)) {
    let middle = history.ops.len() / 2;
    let op =
        history.ops[middle..].iter_mut().find(|op| op.answer().is_some() && fits(op)).expect("an operation that fits");
    hurt(op);
}

fn answer(op: &mut Op) -> &mut Answer {
    match &mut op.outcome {
        Outcome::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// Takes from every stream what `keep` does not want.
fn filter_all(history: &mut History, keep: impl Fn(&Heard) -> bool) {
    for response in history.streams.iter_mut().flat_map(|stream| &mut stream.responses) {
        response.events.retain(&keep);
    }
}

#[track_caller]
fn refused(seed: u64, why: &str, spoil: impl FnOnce(&mut History)) {
    let mut history = right(seed);
    history.check().unwrap_or_else(|error| panic!("before it is spoilt: {error:#}"));
    spoil(&mut history);
    let said = format!("{:#}", history.check().expect_err("a broken promise must be noticed"));
    assert!(said.contains(why), "noticed as: {said}");
}

#[test]
fn right_histories_are_found_right() {
    for seed in 1..40 {
        let checked = right(seed).check().unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        assert!(checked.revisions > 100 && checked.unknown.1 > 0 && checked.answered > 200, "{checked:?}");
    }
}

#[test]
fn a_stale_read_is_noticed_by_both_checks() {
    let is_read = |op: &Op| matches!(op.call, Call::Read(_));
    // With the old revision in its header: time tells.
    refused(1, "stale", |history| {
        let log = Log::of(&history.streams).unwrap();
        hurt(history, is_read, |op| {
            let Call::Read(key) = op.call else { unreachable!() };
            let old = answer(op).revision - 40;
            *answer(op) = Answer { revision: old, wrote: false, pairs: log.at(key, old).into_iter().collect() };
        });
    });
    // With a revision that is a lie: the value tells, to the check that trusts no revision.
    let mut history = right(1);
    let log = Log::of(&history.streams).unwrap();
    hurt(&mut history, is_read, |op| {
        let Call::Read(key) = op.call else { unreachable!() };
        let old = answer(op).revision - 60;
        answer(op).pairs = log.at(key, old).into_iter().collect();
    });
    let placed = replay::Placed::from_answers(&history.ops);
    assert!(linear::check(&history.ops, &placed, &[]).unwrap_err().to_string().contains("no order"));
}

#[test]
fn a_lost_write_is_noticed() {
    refused(2, "lost", |history| {
        // The newest one: nothing is missing between revisions.
        let newest = history.ops.iter().filter_map(Op::answer).map(|answer| answer.revision).max().unwrap();
        assert_eq!(newest, history.ends[0].revision, "this seed ends with an answered write");
        filter_all(history, |heard| heard.revision < newest);
        history
            .streams
            .iter_mut()
            .flat_map(|stream| &mut stream.responses)
            .for_each(|r| r.revision = r.revision.min(newest - 1));
    });
}

#[test]
fn a_write_that_was_refused_is_noticed_when_it_is_there() {
    refused(3, "nobody asked for", |history| {
        hurt(
            history,
            |op| matches!(op.call, Call::Write(_)) && op.answer().is_some_and(|a| a.wrote),
            |op| {
                op.outcome = Outcome::Refused("no space".into());
            },
        );
    });
}

#[test]
fn two_writes_with_one_revision_are_noticed() {
    refused(4, "was given to two", |history| {
        let first = history.ops.iter().position(|op| op.answer().is_some_and(|a| a.wrote)).unwrap();
        let again = history.ops[first].clone();
        history.ops.push(again);
    });
}

#[test]
fn a_swap_over_something_newer_is_noticed() {
    refused(5, "a swap went through", |history| {
        let swapped = |op: &Op| matches!(op.call, Call::Swap { .. }) && op.answer().is_some_and(|a| a.wrote);
        hurt(history, swapped, |op| {
            if let Call::Swap { modified, .. } = &mut op.call {
                *modified += 1;
            }
        });
    });
}

#[test]
fn a_refused_swap_that_should_have_gone_through_is_noticed() {
    refused(6, "though its compare holds", |history| {
        let log = Log::of(&history.streams).unwrap();
        hurt(
            history,
            |op| matches!(op.call, Call::Swap { .. }) && op.answer().is_some_and(|a| !a.wrote),
            |op| {
                let now = answer(op).revision;
                if let Call::Swap { key, modified, .. } = &mut op.call {
                    *modified = log.at(*key, now).map_or(0, |pair| pair.modified);
                }
            },
        );
    });
}

#[test]
fn a_write_before_one_that_was_over_is_noticed() {
    refused(7, "is not after", |history| {
        // One that no read has seen, or the read would be an answer from the future.
        let revisions: Vec<i64> = history.ops.iter().filter_map(Op::answer).map(|answer| answer.revision).collect();
        let alone = |a: &Answer| a.wrote && revisions.iter().filter(|revision| **revision == a.revision).count() == 1;
        let late = history.ops.iter_mut().filter(|op| op.answer().is_some_and(alone)).nth(20).unwrap();
        (late.asked, late.answered) = (STEPS * 100, STEPS * 100 + 1);
    });
}

#[test]
fn an_answer_before_its_write_was_asked_for_is_noticed() {
    refused(8, "from the future", |history| {
        let read = history.ops.iter().position(|op| matches!(op.call, Call::ReadAll) && op.answer().is_some()).unwrap();
        let now = history.ends[0].revision;
        let log = Log::of(&history.streams).unwrap();
        history.ops[read].outcome = Outcome::Done(Answer { revision: now, wrote: false, pairs: log.all_at(now) });
        (history.ops[read].asked, history.ops[read].answered) = (0, 1);
    });
}

#[test]
fn what_nobody_wrote_is_noticed() {
    refused(9, "is not what revision", |history| {
        hurt(
            history,
            |op| op.answer().is_some_and(|a| !a.pairs.is_empty()),
            |op| answer(op).pairs[0].value = 999_999_999,
        );
    });
}

#[test]
fn a_missing_event_is_noticed() {
    refused(10, "not complete", |history| {
        let keyed = history.streams.iter_mut().find(|stream| stream.key.is_some()).unwrap();
        keyed.responses.iter_mut().find(|r| !r.events.is_empty()).unwrap().events.remove(0);
    });
    refused(10, "no watcher of all keys heard", |history| filter_all(history, |heard| heard.revision != 50));
}

#[test]
fn a_duplicated_event_is_noticed() {
    refused(11, "not ordered, not unique or not atomic", |history| {
        let responses = &mut history.streams[0].responses;
        let again = responses.iter().find(|r| !r.events.is_empty()).unwrap().clone();
        responses.insert(5, again);
    });
    refused(11, "comes twice in revision", |history| {
        let response = history.streams[0].responses.iter_mut().find(|r| !r.events.is_empty()).unwrap();
        response.events.insert(0, response.events[0]);
    });
}

#[test]
fn events_in_the_wrong_order_are_noticed() {
    refused(12, "not ordered", |history| {
        let two = |r: &&mut Response| r.events.first().map(|e| e.revision) < r.events.last().map(|e| e.revision);
        history.streams[1].responses.iter_mut().find(two).unwrap().events.reverse();
    });
}

#[test]
fn a_revision_told_in_two_parts_is_noticed() {
    refused(13, "not atomic", |history| {
        let responses = &mut history.streams[0].responses;
        let parted = |r: &Response| {
            r.events.len() > 1 && r.events[r.events.len() - 2].revision == r.events[r.events.len() - 1].revision
        };
        let at = responses.iter().position(parted).expect("an answer that ends with a revision of two changes");
        let mut rest = responses[at].clone();
        rest.events = vec![responses[at].events.pop().unwrap()];
        responses.insert(at + 1, rest);
    });
}

#[test]
fn a_wrong_previous_pair_and_a_wrong_creation_are_noticed() {
    refused(14, "the pair before is told as", |history| {
        let mut heard = history.streams[0].responses.iter_mut().flat_map(|r| &mut r.events);
        heard.find(|heard| heard.before.is_some()).unwrap().before = None;
    });
    refused(14, "is-create is wrong", |history| {
        let mut heard = history.streams[0].responses.iter_mut().flat_map(|r| &mut r.events);
        let put = heard.find(|heard| heard.event.now.is_some()).unwrap();
        put.is_create = !put.is_create;
    });
}

#[test]
fn progress_ahead_of_events_is_noticed() {
    refused(15, "after progress to", |history| {
        let newest = history.ends[0].revision;
        history.streams[0].responses.insert(1, Response { at: 0, revision: newest, events: vec![] });
    });
}

#[test]
fn a_resumed_watch_that_begins_too_early_or_skips_is_noticed() {
    refused(16, "was asked for", |history| history.streams[2].from = history.ends[0].revision);
    refused(16, "not complete", |history| {
        let keyed = &mut history.streams[2];
        let (first, last) = (keyed.responses[0].clone(), keyed.responses.len());
        keyed.responses = keyed.responses.split_off(last / 2);
        keyed.responses.insert(0, Response { events: vec![], revision: 1, ..first });
    });
}

#[test]
fn watchers_that_hear_different_things_are_noticed() {
    refused(17, "for one watcher", |history| {
        let mut heard = history.streams[1].responses.iter_mut().flat_map(|r| &mut r.events);
        heard.find_map(|heard| heard.event.now.as_mut()).unwrap().value += 1;
    });
}

#[test]
fn members_that_end_apart_are_noticed() {
    refused(18, "has the digest", |history| history.ends[2].digest.0 += 1);
    refused(18, "the history leaves", |history| history.ends[1].pairs.truncate(2));
    refused(18, "is at revision", |history| history.ends[1].revision -= 1);
}
