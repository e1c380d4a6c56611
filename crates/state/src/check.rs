//! Shape: what a request must look like before it may enter the log. For the border; needs no state.

use std::collections::BTreeMap;

use crate::answer::Refusal;
use crate::command::{Compare, DeleteRange, KeyRange, Op, Put, Range, Txn};
use crate::limits::{LEASE_TTL_SECS_MAX, TXN_DEPTH_MAX};
use crate::spans::Spans;

/// A put names a key, and does not give what it asks to keep.
///
/// # Errors
/// The refusal.
pub fn put(put: &Put) -> Result<(), Refusal> {
    if put.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if put.ignore_lease && put.lease.0 != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// A read names a key.
///
/// # Errors
/// The refusal.
pub fn range(range: &Range) -> Result<(), Refusal> {
    keys(&range.keys)
}

/// A delete names a key.
///
/// # Errors
/// The refusal.
pub fn delete(delete: &DeleteRange) -> Result<(), Refusal> {
    keys(&delete.keys)
}

/// A lease does not ask for too long a life.
///
/// # Errors
/// The refusal.
pub fn lease_ttl(ttl_secs: i64) -> Result<(), Refusal> {
    if ttl_secs > LEASE_TTL_SECS_MAX { Err(Refusal::LeaseTtlTooLarge) } else { Ok(()) }
}

/// A transaction is not too long (nested ones share their parent's allowance of `ops_max`), every operation in it is
/// well-formed, and no branch changes a key twice.
///
/// # Errors
/// The refusal, in the order in which upstream finds it.
pub fn txn(txn: &Txn, ops_max: usize) -> Result<(), Refusal> {
    shape(txn, ops_max, TXN_DEPTH_MAX)?;
    changes(&txn.success)?;
    changes(&txn.failure)?;
    Ok(())
}

fn shape(txn: &Txn, ops_max: usize, depth_left: usize) -> Result<(), Refusal> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > ops_max || depth_left == 0 {
        return Err(Refusal::TooManyOps);
    }
    txn.compare.iter().try_for_each(|Compare { keys: compared, .. }| keys(compared))?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        Op::Range(op) => range(op),
        Op::Put(op) => put(op),
        Op::DeleteRange(op) => delete(op),
        Op::Txn(nested) => shape(nested, ops_max - ops, depth_left - 1),
    })
}

fn keys(keys: &KeyRange) -> Result<(), Refusal> {
    let (KeyRange::One(first) | KeyRange::Span(first, _) | KeyRange::From(first)) = keys;
    if first.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

/// What one branch changes.
#[derive(Default)]
struct Changes<'a> {
    /// The keys it puts, and whether the put keeps something of the pair before it.
    puts: BTreeMap<&'a [u8], bool>,
    /// Deletes that no put may touch.
    deletes: Spans,
    /// Deletes without an end: a put may follow them, as upstream has it, unless it keeps something.
    endless: Spans,
}

/// Gathers what a list of operations changes.
///
/// The two branches of a nested transaction may put the same key, since only one runs; anything else that changes a
/// key twice is refused. Deletes of nested transactions count from their place on, as upstream has it. Upstream does
/// not see an overlap with a delete that has no end (clear all, then put), so clients may rely on it; only where it
/// would crash on that, the transaction is refused here.
fn changes(ops: &[Op]) -> Result<Changes<'_>, Refusal> {
    let mut all = Changes::default();
    for op in ops {
        if let Op::DeleteRange(delete) = op {
            all.delete(&delete.keys);
        }
    }
    for op in ops {
        let Op::Txn(nested) = op else { continue };
        let success = changes(&nested.success)?;
        let failure = changes(&nested.failure)?;
        for (key, keeps) in success.puts.iter().chain(&failure.puts) {
            all.may_put(key, *keeps)?;
        }
        for branch in [success, failure] {
            for (key, keeps) in branch.puts {
                *all.puts.entry(key).or_default() |= keeps;
            }
            all.deletes.extend(branch.deletes);
            all.endless.extend(branch.endless);
        }
    }
    for op in ops {
        let Op::Put(put) = op else { continue };
        let keeps = put.ignore_value || put.ignore_lease;
        all.may_put(&put.key, keeps)?;
        all.puts.insert(&put.key, keeps);
    }
    Ok(all)
}

impl Changes<'_> {
    fn delete(&mut self, keys: &KeyRange) {
        match keys {
            KeyRange::One(key) => self.deletes.insert_key(key),
            KeyRange::Span(from, to) if from < to => self.deletes.insert(from.clone(), Some(to.clone())),
            KeyRange::Span(..) => {}
            KeyRange::From(from) => self.endless.insert(from.clone(), None),
        }
    }

    fn may_put(&self, key: &[u8], keeps: bool) -> Result<(), Refusal> {
        let twice = self.puts.contains_key(key) || self.deletes.holds(key) || (keeps && self.endless.holds(key));
        if twice { Err(Refusal::DuplicateKey) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::command::CompareResult;
    use crate::command::CompareTarget;

    fn key(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }
    fn p(text: &str) -> Op {
        Op::Put(Put { key: key(text), ..Put::default() })
    }
    fn d(from: &str, to: &str) -> Op {
        let keys = match to {
            "" => KeyRange::One(key(from)),
            "\0" => KeyRange::From(key(from)),
            to => KeyRange::Span(key(from), key(to)),
        };
        Op::DeleteRange(DeleteRange { keys, prev_kv: false })
    }
    fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn { compare: vec![], success, failure })
    }
    fn of(success: Vec<Op>) -> Result<(), Refusal> {
        txn(&Txn { compare: vec![], success, failure: vec![] }, 128)
    }

    const DUPLICATE: Result<(), Refusal> = Err(Refusal::DuplicateKey);

    #[test]
    fn no_branch_changes_a_key_twice() {
        assert_eq!(of(vec![p("a"), p("a")]), DUPLICATE);
        assert_eq!(of(vec![p("b"), d("a", "c")]), DUPLICATE);
        assert_eq!(of(vec![d("a", "c"), p("b")]), DUPLICATE);
        assert_eq!(of(vec![d("a", "c"), p("c")]), Ok(()));
        assert_eq!(of(vec![d("b", "\0"), p("a")]), Ok(()));
        assert_eq!(of(vec![d("a", "c"), d("b", "d"), d("b", "")]), Ok(()));
        assert_eq!(of(vec![d("x", "y"), d("a", "c"), d("b", "e"), d("g", "h"), p("d")]), DUPLICATE);
        assert_eq!(of(vec![d("x", "y"), d("a", "c"), d("b", "e"), d("g", "h"), p("e"), p("f")]), Ok(()));
    }

    #[test]
    fn a_put_may_follow_a_delete_without_end_unless_it_keeps_something() {
        let keep = |text| Op::Put(Put { key: key(text), ignore_value: true, ..Put::default() });
        assert_eq!(of(vec![d("b", "\0"), p("c")]), Ok(()));
        assert_eq!(of(vec![d("b", "\0"), keep("c")]), DUPLICATE);
        assert_eq!(of(vec![d("b", "\0"), nested(vec![keep("c")], vec![p("c")])]), DUPLICATE);
        assert_eq!(of(vec![nested(vec![d("b", "\0")], vec![]), keep("c")]), DUPLICATE);
        assert_eq!(of(vec![d("b", "\0"), keep("a")]), Ok(()));
        assert_eq!(of(vec![d("c", "a"), p("c"), p("b")]), Ok(()));
    }

    #[test]
    fn the_branches_of_a_nested_transaction_exclude_each_other() {
        assert_eq!(of(vec![nested(vec![p("a")], vec![p("a")])]), Ok(()));
        assert_eq!(of(vec![nested(vec![p("a")], vec![p("b")]), p("b")]), DUPLICATE);
        assert_eq!(of(vec![nested(vec![p("a")], vec![]), nested(vec![], vec![p("a")])]), DUPLICATE);
        assert_eq!(of(vec![nested(vec![d("a", "")], vec![]), nested(vec![], vec![p("a")])]), DUPLICATE);
        assert_eq!(of(vec![nested(vec![d("a", "")], vec![]), p("a")]), DUPLICATE);
        // Upstream looks only backwards here; the put comes first, so nothing is lost.
        assert_eq!(of(vec![nested(vec![p("a")], vec![]), nested(vec![d("a", "")], vec![])]), Ok(()));
    }

    #[test]
    fn a_nested_transaction_has_what_its_parent_leaves() {
        let many = |n: usize| (0..n).map(|i| p(&i.to_string())).collect::<Vec<_>>();
        assert_eq!(of(many(128)), Ok(()));
        assert_eq!(of(many(129)), Err(Refusal::TooManyOps));
        assert_eq!(of(vec![nested(many(127), vec![])]), Ok(()));
        assert_eq!(of(vec![nested(many(128), vec![])]), Err(Refusal::TooManyOps));
    }

    #[test]
    fn depth_is_bounded_whatever_the_allowance() {
        let deep = (0..TXN_DEPTH_MAX).fold(p("a"), |op, _| nested(vec![op], vec![]));
        let Op::Txn(deep) = deep else { unreachable!() };
        assert_eq!(txn(&deep, usize::MAX), Ok(()));
        let deeper = Txn { success: vec![Op::Txn(deep)], ..Txn::default() };
        assert_eq!(txn(&deeper, usize::MAX), Err(Refusal::TooManyOps));
    }

    #[test]
    fn keys_are_never_empty() {
        let empty = Compare {
            keys: KeyRange::One(Bytes::new()),
            result: CompareResult::Equal,
            target: CompareTarget::Version(0),
        };
        assert_eq!(txn(&Txn { compare: vec![empty], ..Txn::default() }, 128), Err(Refusal::EmptyKey));
        assert_eq!(of(vec![p("")]), Err(Refusal::EmptyKey));
        assert_eq!(of(vec![d("", "\0")]), Err(Refusal::EmptyKey));
        let put_both = Put { key: key("a"), value: key("v"), ignore_value: true, ..Put::default() };
        assert_eq!(put(&put_both), Err(Refusal::ValueProvided));
    }
}
