//! The state against a model that anyone can check by eye: one whole map of pairs for each revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eyrie_state::*;
use proptest::collection::vec;
use proptest::prelude::*;

type Pairs = BTreeMap<Bytes, KeyValue>;

/// All that was ever true: `history[r]` are the pairs at revision r.
#[derive(Clone)]
struct Model {
    history: Vec<Pairs>,
    leases: BTreeSet<LeaseId>,
    compacted: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self { history: vec![Pairs::new(), Pairs::new()], leases: BTreeSet::new(), compacted: -1 }
    }
}

/// What one command did to the pairs.
struct Attempt<'m> {
    model: &'m Model,
    pairs: Pairs,
    changes: Vec<(bool, Bytes)>,
}

impl Model {
    fn revision(&self) -> i64 {
        self.history.len() as i64 - 1
    }

    fn apply(&mut self, command: &Command) -> Result<Answer, Refusal> {
        let mut attempt = Attempt { model: self, pairs: self.history.last().unwrap().clone(), changes: Vec::new() };
        let answer = match command {
            Command::Put(put) => attempt.check_put(put).map(|()| Answer::Put { prev: attempt.put(put) }),
            Command::DeleteRange(delete) => {
                let (deleted, prev) = attempt.delete(delete);
                Ok(Answer::DeleteRange { deleted, prev })
            }
            Command::Txn(txn) => attempt.txn(txn).map(Answer::Txn),
            Command::LeaseRevoke { id } if !self.leases.contains(id) => Err(Refusal::LeaseNotFound),
            Command::LeaseRevoke { id } => {
                let keys: Vec<_> =
                    attempt.pairs.values().filter(|kv| kv.lease == *id).map(|kv| kv.key.clone()).collect();
                for key in keys {
                    attempt.delete(&DeleteRange { keys: KeyRange::One(key), prev_kv: false });
                }
                Ok(Answer::LeaseRevoke)
            }
            Command::LeaseGrant { id, .. } if self.leases.contains(id) => Err(Refusal::LeaseExists),
            Command::LeaseGrant { id, ttl_secs } => Ok(Answer::LeaseGrant { id: *id, ttl_secs: *ttl_secs }),
            Command::Compact { revision } if revision.0 <= self.compacted => Err(Refusal::Compacted),
            Command::Compact { revision } if revision.0 > self.revision() => Err(Refusal::FutureRevision),
            Command::Compact { .. } => Ok(Answer::Compact),
            _ => unreachable!("the model does not speak of members and alarms"),
        };
        if answer.is_ok() {
            if !attempt.changes.is_empty() {
                let pairs = attempt.pairs;
                self.history.push(pairs);
            }
            match command {
                Command::LeaseGrant { id, .. } => drop(self.leases.insert(*id)),
                Command::LeaseRevoke { id } => drop(self.leases.remove(id)),
                Command::Compact { revision } => self.compacted = revision.0,
                _ => {}
            }
        }
        answer
    }

    fn get(&self, range: &Range) -> Result<RangeAnswer, Refusal> {
        let revision = range.revision.map_or(0, |revision| revision.0);
        match revision {
            ..=0 => Ok(read(self.history.last().unwrap(), range)),
            revision if revision > self.revision() => Err(Refusal::FutureRevision),
            revision if revision < self.compacted => Err(Refusal::Compacted),
            revision => Ok(read(&self.history[revision as usize], range)),
        }
    }
}

impl Attempt<'_> {
    fn next(&self) -> i64 {
        self.model.revision() + 1
    }

    fn revision(&self) -> Revision {
        Revision(self.model.revision() + i64::from(!self.changes.is_empty()))
    }

    fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        let before = self.model.history.last().unwrap();
        if (put.ignore_value || put.ignore_lease) && !before.contains_key(&put.key) {
            return Err(Refusal::KeyNotFound);
        }
        let leased = put.lease.0 == 0 || self.model.leases.contains(&put.lease);
        if leased { Ok(()) } else { Err(Refusal::LeaseNotFound) }
    }

    fn put(&mut self, put: &Put) -> Option<KeyValue> {
        let old = self.pairs.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(self.next(), |old| old.create_revision),
            mod_revision: self.next(),
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value: if put.ignore_value { old.as_ref().unwrap().value.clone() } else { put.value.clone() },
            lease: if put.ignore_lease { old.as_ref().unwrap().lease } else { put.lease },
        };
        self.pairs.insert(put.key.clone(), kv);
        self.changes.push((false, put.key.clone()));
        old.filter(|_| put.prev_kv)
    }

    fn delete(&mut self, delete: &DeleteRange) -> (i64, Vec<KeyValue>) {
        let doomed: Vec<_> = self.pairs.values().filter(|kv| inside(&delete.keys, &kv.key)).cloned().collect();
        for kv in &doomed {
            self.pairs.remove(&kv.key);
            self.changes.push((true, kv.key.clone()));
        }
        (doomed.len() as i64, if delete.prev_kv { doomed } else { vec![] })
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnAnswer, Refusal> {
        let chosen = self.chosen(txn);
        for op in &chosen {
            if let Op::Put(put) = op {
                self.check_put(put)?;
            }
        }
        for op in &chosen {
            if let Op::Range(range) = op {
                self.model.get(range)?;
            }
        }
        Ok(self.run(txn))
    }

    fn chosen<'t>(&self, txn: &'t Txn) -> Vec<&'t Op> {
        let flat = |op: &'t Op| match op {
            Op::Txn(txn) => self.chosen(txn),
            op => vec![op],
        };
        self.branch(txn).1.iter().flat_map(flat).collect()
    }

    fn branch<'t>(&self, txn: &'t Txn) -> (bool, &'t [Op]) {
        let holds = txn.compare.iter().all(|compare| holds(self.model.history.last().unwrap(), compare));
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    fn run(&mut self, txn: &Txn) -> TxnAnswer {
        let (succeeded, ops) = self.branch(txn);
        let mut answers = Vec::new();
        for op in ops {
            answers.push(match op {
                Op::Range(range) => {
                    let answer = match range.revision {
                        Some(revision) if revision.0 > 0 => self.model.get(range).unwrap(),
                        _ => read(&self.pairs, range),
                    };
                    OpAnswer::Range { revision: self.revision(), answer }
                }
                Op::Put(put) => {
                    let prev = self.put(put);
                    OpAnswer::Put { revision: self.revision(), prev }
                }
                Op::DeleteRange(delete) => {
                    let (deleted, prev) = self.delete(delete);
                    OpAnswer::DeleteRange { revision: self.revision(), deleted, prev }
                }
                Op::Txn(txn) => OpAnswer::Txn(self.run(txn)),
            });
        }
        TxnAnswer { succeeded, answers }
    }
}

fn inside(keys: &KeyRange, key: &Bytes) -> bool {
    match keys {
        KeyRange::One(one) => one == key,
        KeyRange::Span(from, to) => from <= key && key < to,
        KeyRange::From(from) => from <= key,
    }
}

fn holds(pairs: &Pairs, compare: &Compare) -> bool {
    let relation = |kv: &KeyValue| match &compare.target {
        CompareTarget::Version(n) => kv.version.cmp(n),
        CompareTarget::Create(n) => kv.create_revision.cmp(n),
        CompareTarget::Mod(n) => kv.mod_revision.cmp(n),
        CompareTarget::Lease(n) => kv.lease.0.cmp(n),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Unknown => 0.cmp(&0),
    };
    let holds = |kv: &KeyValue| match compare.result {
        CompareResult::Equal => relation(kv).is_eq(),
        CompareResult::NotEqual => relation(kv).is_ne(),
        CompareResult::Greater => relation(kv).is_gt(),
        CompareResult::Less => relation(kv).is_lt(),
        CompareResult::Unknown => true,
    };
    let found: Vec<_> = pairs.values().filter(|kv| inside(&compare.keys, &kv.key)).collect();
    match (found.is_empty(), &compare.target) {
        (true, CompareTarget::Value(_)) => false,
        (true, _) => holds(&KeyValue::default()),
        (false, _) => found.into_iter().all(holds),
    }
}

/// Only key order and limits here; sorts and filters have their conversation.
fn read(pairs: &Pairs, range: &Range) -> RangeAnswer {
    let mut kvs: Vec<_> = pairs.values().filter(|kv| inside(&range.keys, &kv.key)).cloned().collect();
    let count = kvs.len() as i64;
    if range.order == SortOrder::Descend {
        kvs.reverse();
    }
    if range.count_only {
        kvs.clear();
    }
    let more = range.limit > 0 && kvs.len() > range.limit;
    if more {
        kvs.truncate(range.limit);
    }
    RangeAnswer { kvs, more, count }
}

/// Two states: one is compacted step by step and reopened, one never drops or restarts.
struct Pair {
    worn: State<MemTables>,
    fresh: State<MemTables>,
    /// What a crash would leave of the worn one's tables.
    durable: MemTables,
    /// The log, with what was answered.
    log: Vec<(Command, Applied)>,
}

impl Pair {
    fn new() -> Self {
        let open = || State::open(MemTables::default()).unwrap();
        Self { worn: open(), fresh: open(), durable: MemTables::default(), log: Vec::new() }
    }

    fn apply(&mut self, command: &Command) -> Applied {
        let index = LogIndex(self.worn.applied().0.0 + 1);
        let worn = self.worn.apply(index, Term(1), command.clone()).unwrap();
        let fresh = self.fresh.apply(index, Term(1), command.clone()).unwrap();
        assert_eq!(worn, fresh, "two states that heard the same say the same");
        self.log.push((command.clone(), worn.clone()));
        worn
    }

    /// Falls back to older tables, and applies again what the log has beyond them.
    fn crash(&mut self) {
        self.worn = State::open(self.durable.clone()).unwrap();
        let applied = self.worn.applied().0.0;
        for (index, (command, answer)) in (1..).zip(&self.log).skip(applied as usize) {
            let again = self.worn.apply(LogIndex(index), Term(1), command.clone()).unwrap();
            assert_eq!(&again, answer, "a command does the same when it is applied again after a crash");
        }
    }

    fn reopen(&mut self) {
        let tables = self.worn.tables().clone();
        self.worn = State::open(tables).unwrap();
    }

    fn compare(&self, model: &Model) {
        for state in [&self.worn, &self.fresh] {
            assert_eq!(state.revision().0, model.revision());
            assert_eq!(state.compacted().map_or(-1, |line| line.0), model.compacted);
            assert_eq!(state.key_count(), model.history.last().unwrap().len());
            for revision in 1..=model.revision() {
                let range = Range { revision: Some(Revision(revision)), ..all() };
                let got = state.plan_range(&range).map(|plan| plan.run().unwrap());
                assert_eq!(got, model.get(&range), "at revision {revision}");
            }
            assert_eq!(state.leases().map(|lease| lease.id).collect::<Vec<_>>(), Vec::from_iter(model.leases.clone()));
            for lease in state.leases() {
                let pairs = model.history.last().unwrap().values();
                let keys: Vec<_> = pairs.filter(|kv| kv.lease == lease.id).map(|kv| &kv.key[..]).collect();
                assert_eq!(lease.keys().collect::<Vec<_>>(), keys);
            }
        }
        let line = model.compacted.max(1);
        for revision in line..=model.revision() {
            let hash = |state: &State<MemTables>| state.hash_kv(Some(Revision(revision))).unwrap().run().unwrap();
            assert_eq!(hash(&self.worn), hash(&self.fresh), "the digest does not depend on how far compaction is");
        }
    }
}

fn all() -> Range {
    Range::of(KeyRange::From("\0".into()))
}

/// What happens to a store.
#[derive(Debug, Clone)]
enum Happening {
    Command(Command),
    Get(Range),
    Step(usize),
    Reopen,
    Flush,
    Crash,
}

fn key() -> impl Strategy<Value = Bytes> {
    "[a-d][a-b]?".prop_map(Bytes::from)
}
fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::One),
        1 => (key(), key()).prop_map(|(a, b)| KeyRange::Span(a, b)),
        1 => key().prop_map(KeyRange::From),
    ]
}
fn lease() -> impl Strategy<Value = LeaseId> {
    (1..4i64).prop_map(LeaseId)
}
fn put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![2 => Just(LeaseId(0)), 1 => lease()];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (key(), "[x-z]?", lease, flags).prop_map(|(key, value, lease, (prev_kv, ignore_value, ignore_lease))| Put {
        key,
        value: if ignore_value { Bytes::new() } else { value.into() },
        lease: if ignore_lease { LeaseId(0) } else { lease },
        prev_kv,
        ignore_value,
        ignore_lease,
    })
}
fn delete() -> impl Strategy<Value = DeleteRange> {
    (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}
fn range() -> impl Strategy<Value = Range> {
    let revision = prop_oneof![2 => Just(None), 1 => (0..40i64).prop_map(|n| Some(Revision(n)))];
    let order = prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    (keys(), revision, 0..4usize, order, prop::bool::weighted(0.1)).prop_map(
        |(keys, revision, limit, order, count_only)| Range { keys, revision, limit, order, count_only, ..all() },
    )
}
fn compare() -> impl Strategy<Value = Compare> {
    let result = prop::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
        CompareResult::Unknown,
    ]);
    let target = prop_oneof![
        (0..3i64).prop_map(CompareTarget::Version),
        (0..20i64).prop_map(CompareTarget::Create),
        (0..20i64).prop_map(CompareTarget::Mod),
        "[x-z]?".prop_map(|value| CompareTarget::Value(value.into())),
        (0..3i64).prop_map(CompareTarget::Lease),
    ];
    (keys(), result, target).prop_map(|(keys, result, target)| Compare { keys, result, target })
}
fn txn() -> impl Strategy<Value = Txn> {
    let flat = prop_oneof![
        2 => put().prop_map(Op::Put),
        1 => delete().prop_map(Op::DeleteRange),
        1 => range().prop_map(Op::Range),
    ];
    let op = flat.prop_recursive(2, 8, 3, |op| {
        let txn = (vec(compare(), 0..2), vec(op.clone(), 0..3), vec(op, 0..3));
        txn.prop_map(|(compare, success, failure)| Op::Txn(Txn { compare, success, failure }))
    });
    let txn = (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure });
    txn.prop_filter("the border refuses it", |txn| check::txn(txn, 128).is_ok())
}
fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => put().prop_map(|put| Happening::Command(Command::Put(put))),
        4 => delete().prop_map(|delete| Happening::Command(Command::DeleteRange(delete))),
        6 => txn().prop_map(|txn| Happening::Command(Command::Txn(txn))),
        3 => lease().prop_map(|id| Happening::Command(Command::LeaseGrant { id, ttl_secs: 60 })),
        1 => lease().prop_map(|id| Happening::Command(Command::LeaseRevoke { id })),
        2 => (0..40i64).prop_map(|n| Happening::Command(Command::Compact { revision: Revision(n) })),
        5 => range().prop_map(Happening::Get),
        4 => (1..4usize).prop_map(Happening::Step),
        1 => Just(Happening::Reopen),
        2 => Just(Happening::Flush),
        1 => Just(Happening::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_state_does_what_the_model_does(happenings in vec(happening(), 1..60)) {
        let mut model = Model::default();
        let mut pair = Pair::new();
        for happening in happenings {
            match happening {
                Happening::Command(command) => {
                    let before = model.history.last().unwrap().clone();
                    let want = model.apply(&command);
                    let applied = pair.apply(&command);
                    prop_assert_eq!(&applied.outcome, &want, "{:?}", command);
                    prop_assert_eq!(applied.revision.0, model.revision());
                    check_events(&applied, &before, model.history.last().unwrap());
                }
                Happening::Get(range) => {
                    for state in [&pair.worn, &pair.fresh] {
                        let got = state.plan_range(&range).map(|plan| plan.run().unwrap());
                        prop_assert_eq!(got, model.get(&range), "{:?}", range);
                    }
                }
                Happening::Step(keys_max) => {
                    let before = pair.worn.compaction_pending();
                    let progress = pair.worn.compaction_step(keys_max).unwrap();
                    prop_assert!(before || progress == Progress::default());
                }
                Happening::Reopen => pair.reopen(),
                Happening::Flush => pair.durable = pair.worn.tables().clone(),
                Happening::Crash => pair.crash(),
            }
        }
        pair.compare(&model);
        pair.reopen();
        pair.compare(&model);
        // The end of compaction: what is left is what upstream would have left, seen from the outside.
        while pair.worn.compaction_step(2).unwrap().more {}
        pair.compare(&model);
        prop_assert_eq!(pair.worn.compaction_finished().is_some(), model.compacted >= 0);
        pair.reopen();
        pair.compare(&model);
        let left = pair.worn.records();
        let mut seen = 0;
        left.scan(Position::default(), Position { main: model.compacted, sub: 0 }, &mut |_, tombstone, _| {
            assert!(!tombstone, "a tombstone below the line is of no use");
            seen += 1;
            true
        }).unwrap();
        let line = &model.history[model.compacted.max(0) as usize];
        prop_assert_eq!(seen, line.values().filter(|kv| kv.mod_revision < model.compacted).count());
    }
}

/// Events turn the pairs before into the pairs after.
fn check_events(applied: &Applied, before: &Pairs, after: &Pairs) {
    let mut pairs = before.clone();
    for event in &applied.events {
        assert_eq!(event.kv.mod_revision, applied.revision.0);
        let prev = pairs.get(&event.kv.key).map(|kv| kv.mod_revision);
        assert_eq!(event.prev.map(|at| at.main), prev, "an event knows where its pair was before");
        if event.delete {
            pairs.remove(&event.kv.key).expect("only what is there is deleted");
            assert_eq!((event.kv.create_revision, event.kv.version, event.kv.value.len()), (0, 0, 0));
        } else {
            pairs.insert(event.kv.key.clone(), event.kv.clone());
        }
    }
    assert_eq!(&pairs, after);
}

#[test]
fn tables_in_memory_keep_the_promises_of_tables() {
    eyrie_state::tables::suite(MemTables::default);
}

#[test]
fn a_wrong_log_entry_stops_the_member() {
    let mut state = State::open(MemTables::default()).unwrap();
    state.apply_nothing(LogIndex(1), Term(1)).unwrap();
    assert!(matches!(state.apply_nothing(LogIndex(1), Term(1)), Err(Halt::OutOfOrder { .. })));
    assert!(matches!(state.apply_nothing(LogIndex(3), Term(1)), Err(Halt::OutOfOrder { .. })));
    state.apply_nothing(LogIndex(2), Term(2)).unwrap();
    assert_eq!(state.applied(), (LogIndex(2), Term(2)));
}

#[test]
fn a_plan_outlives_what_happens_after_it() {
    let mut pair = Pair::new();
    for value in ["1", "2", "3"] {
        pair.apply(&Command::Put(Put { key: "a".into(), value: value.into(), ..Put::default() }));
    }
    let plan = pair.worn.plan_range(&Range { revision: Some(Revision(3)), ..all() }).unwrap();
    let hash = pair.worn.hash_kv(None).unwrap();
    let want = pair.worn.hash_kv(None).unwrap().run().unwrap();
    pair.apply(&Command::Compact { revision: Revision(4) });
    while pair.worn.compaction_step(1).unwrap().more {}
    pair.apply(&Command::DeleteRange(DeleteRange { keys: all().keys, prev_kv: false }));
    assert_eq!(&plan.run().unwrap().kvs[0].value[..], b"2");
    assert_eq!(hash.run().unwrap(), want);
}

#[test]
fn rows_that_no_release_wrote_are_refused_at_start() {
    let row = |bucket, key: &'static [u8], value: &'static [u8]| {
        let mut tables = MemTables::default();
        let op = TableOp::Put { bucket, key: Bytes::from_static(key), value: Bytes::from_static(value) };
        tables.stage(Change { applied: None, ops: vec![op] }).unwrap();
        State::open(tables).map(drop).unwrap_err().to_string()
    };
    assert!(row(Bucket::Lease, b"\0\0\0\0\0\0\0\x01", b"\x08\x02\x10\x3c").contains("bucket lease"));
    assert!(row(Bucket::Meta, b"scheduledCompactRev", b"short").contains("not a revision"));
    assert!(row(Bucket::Alarm, b"\x10\x09", b"").contains("no release has such an alarm"));
    assert!(row(Bucket::Members, b"a", b"{").contains("bucket members, row a"));
    assert!(row(Bucket::Members, b"b", br#"{"id":10,"peerURLs":[]}"#).contains("member a"));
    let mut tables = MemTables::default();
    let op = TableOp::PutRecord { at: Position { main: 2, sub: 0 }, tombstone: false, record: "\x7f".into() };
    tables.stage(Change { applied: None, ops: vec![op] }).unwrap();
    assert!(matches!(State::open(tables), Err(Halt::Tables(TableFault::Damaged { .. }))));
}
