//! Transactions: decide every compare on the state before, check what the chosen branches need, then run them.
//!
//! ```text
//! decide (nested compares too) ─► check puts, then range revisions ─► run in order, reading own writes
//! ```
//! Nothing is refused after the first write.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::slice;

use crate::answer::{OpAnswer, Refusal, TxnAnswer};
use crate::command::{Compare, CompareResult, CompareTarget, Op, Put, Range, Txn};
use crate::halt::ReadError;
use crate::ids::Revision;
use crate::index::Live;
use crate::range::{self, RangePlan};
use crate::state::State;
use crate::tables::{Records, TableFault, Tables};
use crate::write::Write;

impl Txn {
    /// Only ranges, in both branches. A nested transaction counts as a write, whatever it holds, as upstream has it.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, Op::Range(_)))
    }

    /// A put stands somewhere in it.
    pub(crate) fn puts(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Txn(txn) => txn.puts(),
            Op::Range(_) | Op::DeleteRange(_) => false,
        })
    }

    fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.success } else { &self.failure }
    }
}

/// A read-only transaction whose compares are decided; its reads are yet to be fetched, outside of any lock.
#[derive(Debug, Clone)]
pub struct TxnPlan<R> {
    succeeded: bool,
    revision: Revision,
    ranges: Vec<RangePlan<R>>,
}

impl<T: Tables> State<T> {
    /// Decides a read-only transaction. Reads records under the lock only for compares of values and leases.
    ///
    /// # Errors
    /// A range's revision is compacted or in the future, or a record is damaged.
    ///
    /// # Panics
    /// The transaction is not [`Txn::is_read_only`].
    pub fn plan_txn(&self, txn: &Txn) -> Result<TxnPlan<T::Records>, ReadError> {
        assert!(txn.is_read_only(), "a transaction that writes goes through the log");
        let mut path = Vec::new();
        decide(self, txn, &OnceCell::new(), &mut path)?;
        let ranges = txn.branch(path[0]).iter().map(|op| match op {
            Op::Range(range) => {
                range_is_possible(self, range)?;
                self.plan_range(range)
            }
            _ => unreachable!("read-only"),
        });
        Ok(TxnPlan { succeeded: path[0], revision: self.revision, ranges: ranges.collect::<Result<_, _>>()? })
    }

    /// Decides and answers a read-only transaction at once, all under the caller's lock.
    ///
    /// # Errors
    /// As for [`State::plan_txn`].
    ///
    /// # Panics
    /// As for [`State::plan_txn`].
    pub fn read_txn(&self, txn: &Txn) -> Result<TxnAnswer, ReadError> {
        Ok(self.plan_txn(txn)?.run()?)
    }
}

impl<R: Records> TxnPlan<R> {
    /// The store's revision when the plan was made: what the answer's header says.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Fetches what the chosen branch reads.
    ///
    /// # Errors
    /// [`TableFault`] when a record is damaged or missing.
    pub fn run(self) -> Result<TxnAnswer, TableFault> {
        let revision = self.revision;
        let answers = self.ranges.into_iter().map(|plan| Ok(OpAnswer::Range { revision, answer: plan.run()? }));
        Ok(TxnAnswer { succeeded: self.succeeded, answers: answers.collect::<Result<_, TableFault>>()? })
    }
}

/// Carries out a transaction that was committed.
pub(crate) fn carry_out<T: Tables>(
    write: &mut Write<'_, T>,
    txn: &Txn,
) -> Result<Result<TxnAnswer, Refusal>, TableFault> {
    let mut path = Vec::new();
    decide(write.state, txn, &OnceCell::new(), &mut path)?;
    if let Err(refusal) = check(write.state, txn, &path) {
        return Ok(Err(refusal));
    }
    run(write, txn, &mut path.iter()).map(Ok)
}

/// What a put needs before it can be made, on the state before the command.
pub(crate) fn put_is_possible<T: Tables>(state: &State<T>, put: &Put) -> Result<(), Refusal> {
    if put.ignore_value || put.ignore_lease {
        let live = state.index.get(&put.key).and_then(|history| history.live());
        live.ok_or(Refusal::KeyNotFound)?;
    }
    if put.lease.0 != 0 && state.lease(put.lease).is_none() {
        return Err(Refusal::LeaseNotFound);
    }
    Ok(())
}

/// Inside a transaction a negative revision is compacted, not "now" as it is outside; 0 is "now" in both.
fn range_is_possible<T: Tables>(state: &State<T>, range: &Range) -> Result<(), Refusal> {
    let line = state.compacted().unwrap_or(Revision(-1));
    match range.revision {
        Some(revision) if revision.0 < 0 && revision < line => Err(Refusal::Compacted),
        revision => state.readable(revision).map(drop),
    }
}

/// Decides compares, outermost first, and notes for each transaction on the way which branch runs.
fn decide<T: Tables>(
    state: &State<T>,
    txn: &Txn,
    records: &OnceCell<T::Records>,
    path: &mut Vec<bool>,
) -> Result<(), TableFault> {
    let mut holds = true;
    for compare in &txn.compare {
        holds = holds && compare_holds(state, compare, records)?;
    }
    path.push(holds);
    for op in txn.branch(holds) {
        if let Op::Txn(nested) = op {
            decide(state, nested, records, path)?;
        }
    }
    Ok(())
}

fn compare_holds<T: Tables>(
    state: &State<T>,
    compare: &Compare,
    records: &OnceCell<T::Records>,
) -> Result<bool, TableFault> {
    let mut any = false;
    for live in state.index.range(&compare.keys).filter_map(|(_, history)| history.live()) {
        any = true;
        let ordering = match &compare.target {
            CompareTarget::Value(value) => pair(state, live, records)?.value.cmp(value),
            CompareTarget::Lease(lease) => pair(state, live, records)?.lease.0.cmp(lease),
            target => compare_numbers(target, live.version, live.create, live.at.main),
        };
        if !compare.result.holds(ordering) {
            return Ok(false);
        }
    }
    if any {
        return Ok(true);
    }
    // Nothing there: no value to compare, and all numbers are 0.
    Ok(match &compare.target {
        CompareTarget::Value(_) => false,
        CompareTarget::Lease(lease) => compare.result.holds(0.cmp(lease)),
        target => compare.result.holds(compare_numbers(target, 0, 0, 0)),
    })
}

fn compare_numbers(target: &CompareTarget, version: i64, create: i64, modified: i64) -> Ordering {
    match target {
        CompareTarget::Version(n) => version.cmp(n),
        CompareTarget::Create(n) => create.cmp(n),
        CompareTarget::Mod(n) => modified.cmp(n),
        CompareTarget::Value(_) | CompareTarget::Lease(_) | CompareTarget::Unknown => Ordering::Equal,
    }
}

fn pair<T: Tables>(
    state: &State<T>,
    live: Live,
    records: &OnceCell<T::Records>,
) -> Result<crate::answer::KeyValue, TableFault> {
    range::fetch(records.get_or_init(|| state.records()), live.at, false)
}

impl CompareResult {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            CompareResult::Equal => ordering.is_eq(),
            CompareResult::NotEqual => ordering.is_ne(),
            CompareResult::Greater => ordering.is_gt(),
            CompareResult::Less => ordering.is_lt(),
            CompareResult::Unknown => true,
        }
    }
}

/// Checks what will run: all puts first, then all ranges, as upstream does.
fn check<T: Tables>(state: &State<T>, txn: &Txn, path: &[bool]) -> Result<(), Refusal> {
    visit(txn, &mut path.iter(), &mut |op| match op {
        Op::Put(put) => put_is_possible(state, put),
        _ => Ok(()),
    })?;
    visit(txn, &mut path.iter(), &mut |op| match op {
        Op::Range(range) => range_is_possible(state, range),
        _ => Ok(()),
    })
}

fn visit(
    txn: &Txn,
    path: &mut slice::Iter<'_, bool>,
    check: &mut dyn FnMut(&Op) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    txn.branch(step(path)).iter().try_for_each(|op| match op {
        Op::Txn(nested) => visit(nested, path, check),
        op => check(op),
    })
}

fn run<T: Tables>(
    write: &mut Write<'_, T>,
    txn: &Txn,
    path: &mut slice::Iter<'_, bool>,
) -> Result<TxnAnswer, TableFault> {
    let succeeded = step(path);
    let ops = txn.branch(succeeded);
    let mut answers = Vec::with_capacity(ops.len());
    for op in ops {
        answers.push(match op {
            Op::Range(range) => {
                let answer = write.range(range)?;
                OpAnswer::Range { revision: write.revision(), answer }
            }
            Op::Put(put) => {
                let prev = write.put(put)?;
                OpAnswer::Put { revision: write.revision(), prev }
            }
            Op::DeleteRange(delete) => {
                let (deleted, prev) = write.delete_range(delete)?;
                OpAnswer::DeleteRange { revision: write.revision(), deleted, prev }
            }
            Op::Txn(nested) => OpAnswer::Txn(run(write, nested, path)?),
        });
    }
    Ok(TxnAnswer { succeeded, answers })
}

fn step(path: &mut slice::Iter<'_, bool>) -> bool {
    *path.next().expect("every transaction that runs was decided")
}
