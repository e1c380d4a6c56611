//! Clients: each asks one thing at a time, of the member it likes, and notes what became of it.

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;
use eyrie_state::{
    Answer as Told, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, KeyValue, Op as Operation,
    OpAnswer, Put, Range, Revision, Txn,
};
use eyrie_tests::history::names::{PREFIX, PREFIX_END, key_of, name, text, value_of};
use eyrie_tests::history::{Answer, Call, Key, Op, Outcome, Pair, Value};
use eyrie_tests::load::Dice;

use crate::member::{Ask, Reply, RequestId, bytes_of};
use crate::net::Time;

/// Keys that all clients share: few, so that they meet.
const KEYS: u64 = 8;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    /// The member that it asks.
    pub(crate) at: u64,
    /// What it saw last of each key.
    seen: BTreeMap<Key, Pair>,
    /// What it waits for.
    waiting: Option<(RequestId, Call, bool, Time)>,
}

impl Client {
    pub(crate) fn new(number: usize, at: u64) -> Self {
        Self { number, at, seen: BTreeMap::new(), waiting: None }
    }

    /// Its next question.
    pub(crate) fn ask(&mut self, request: RequestId, now: Time, next: &mut Value, dice: &mut Dice) -> Ask {
        let (call, serializable) = self.choose(next, dice);
        let ask = match &call {
            Call::Write(changes) if changes.len() > 1 => propose(Command::Txn(Txn {
                success: changes.iter().map(|(key, value)| change(*key, *value)).collect(),
                ..Txn::default()
            })),
            Call::Write(changes) => match change(changes[0].0, changes[0].1) {
                Operation::Put(put) => propose(Command::Put(put)),
                Operation::DeleteRange(delete) => propose(Command::DeleteRange(delete)),
                Operation::Range(_) | Operation::Txn(_) => unreachable!("a change is a put or a delete"),
            },
            Call::Swap { key, modified, to, .. } => propose(Command::Txn(Txn {
                compare: vec![Compare {
                    keys: KeyRange::One(name(*key)),
                    result: CompareResult::Equal,
                    target: CompareTarget::Mod(*modified),
                }],
                success: vec![change(*key, *to)],
                failure: vec![Operation::Range(Range::one(name(*key)))],
            })),
            Call::Read(key) => Ask::Read { range: Range::one(name(*key)), serializable },
            Call::ReadAll => Ask::Read { range: all(None), serializable },
            Call::ReadAllAt(at) => Ask::Read { range: all(Some(*at)), serializable },
        };
        self.waiting = Some((request, call, serializable, now));
        ask
    }

    fn choose(&self, next: &mut Value, dice: &mut Dice) -> (Call, bool) {
        let key = dice.below(KEYS) as Key;
        let mut value = || {
            *next += 1;
            Some(*next)
        };
        let call = match dice.below(20) {
            0..6 => Call::Write(vec![(key, value())]),
            6 => Call::Write(vec![(key, None)]),
            7 => Call::Write((0..3).map(|n| ((key + n) % KEYS as Key, value())).collect()),
            8..12 => {
                let seen = self.seen.get(&key);
                let (modified, saw) = seen.map_or((0, None), |pair| (pair.modified, Some(pair.value)));
                let to = if modified == 0 || dice.below(5) > 0 { value() } else { None };
                Call::Swap { key, modified, saw, to }
            }
            12..16 => Call::Read(key),
            16..18 => Call::ReadAll,
            18 => return (Call::ReadAll, true),
            _ => {
                let newest = self.seen.values().map(|pair| pair.modified).max().unwrap_or(1);
                return (Call::ReadAllAt(newest), true);
            }
        };
        (call, false)
    }

    /// Whether it waits for anything.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether it still waits for this.
    pub(crate) fn waits_for(&self, request: RequestId) -> bool {
        self.waiting.as_ref().is_some_and(|(waiting, ..)| *waiting == request)
    }

    /// What became of its question; `None` when it is not the one that it waits for.
    pub(crate) fn hear(&mut self, request: RequestId, reply: Reply, now: Time) -> Result<Option<Op>> {
        let Some((_, call, serializable, asked)) = self.waiting.take_if(|(waiting, ..)| *waiting == request) else {
            return Ok(None);
        };
        let outcome = match reply {
            Reply::Unknown => Outcome::Unknown,
            Reply::Refused(why) => Outcome::Refused(why),
            Reply::Read(revision, answer) => {
                let pairs = answer.kvs.iter().map(pair).collect::<Result<_>>()?;
                Outcome::Done(Answer { revision, wrote: false, pairs })
            }
            Reply::Applied(applied) => match applied.outcome {
                Err(refusal) => Outcome::Refused(refusal.to_string()),
                Ok(told) => Outcome::Done(answer(applied.revision, &told)?),
            },
        };
        if let Outcome::Done(answer) = &outcome {
            self.seen.extend(answer.pairs.iter().map(|pair| (pair.key, *pair)));
        }
        // The checks count in nanoseconds.
        let (asked, answered) = (asked * 1000, now * 1000);
        Ok(Some(Op { client: self.number, call, serializable, asked, answered, outcome }))
    }
}

fn propose(command: Command) -> Ask {
    Ask::Propose { command: bytes_of(&command), change: None }
}

fn change(key: Key, value: Option<Value>) -> Operation {
    match value {
        Some(value) => Operation::Put(Put { key: name(key), value: text(value), ..Put::default() }),
        None => Operation::DeleteRange(DeleteRange { keys: KeyRange::One(name(key)), prev_kv: false }),
    }
}

/// A read of all keys.
pub(crate) fn all(at: Option<i64>) -> Range {
    let keys = KeyRange::Span(Bytes::from_static(PREFIX), Bytes::from_static(PREFIX_END));
    Range { revision: at.map(Revision), ..Range::of(keys) }
}

fn answer(revision: Revision, told: &Told) -> Result<Answer> {
    let mut answer = Answer { revision: revision.0, wrote: true, pairs: vec![] };
    match told {
        Told::DeleteRange { deleted, .. } => answer.wrote = *deleted > 0,
        Told::Txn(txn) => {
            answer.wrote = txn.succeeded;
            for one in &txn.answers {
                if let OpAnswer::Range { answer: found, .. } = one {
                    answer.pairs = found.kvs.iter().map(pair).collect::<Result<_>>()?;
                }
            }
        }
        _ => {}
    }
    Ok(answer)
}

/// A pair as the checks have it.
pub(crate) fn pair(kv: &KeyValue) -> Result<Pair> {
    Ok(Pair {
        key: key_of(&kv.key)?,
        value: value_of(&kv.value)?,
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
    })
}
