//! Whether every answer is what the log says at the answer's revision, and revisions follow real time.
//!
//! Put all operations in the order of their revisions, reads after the write of the same revision. If every answer is right at
//! its place, and no operation stands before one that was answered before it was asked, this order is one that a single store
//! could have gone through: the history is strictly serializable, and the proof is linear in its length.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use super::log::{Log, Pair};
use super::op::{Call, Moment, Op, Outcome};

/// Where each operation took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// For each operation the revision that it made, if it made one.
    pub(super) made: Vec<Option<i64>>,
    unknown_that_happened: usize,
}

impl Placed {
    /// Takes every answer at its word.
    pub(super) fn from_answers(ops: &[Op]) -> Placed {
        let made = ops.iter().map(|op| op.answer().filter(|answer| answer.wrote).map(|answer| answer.revision));
        Placed { made: made.collect(), unknown_that_happened: 0 }
    }

    /// The same, and finds in the log what took place without an answer, as far as it can.
    pub(super) fn by_answers(ops: &[Op], log: &Log) -> Placed {
        let mut placed = Placed::from_answers(ops);
        let makers = placed.made.iter().enumerate().filter_map(|(op, made)| Some(((*made)?, op)));
        let mut makers: BTreeMap<i64, usize> = makers.collect();
        // What can't be found is left out: whatever relies on it can't be explained then.
        let _ = place_the_unknown(ops, log, &mut makers, &mut placed.made);
        placed
    }

    /// How many operations without an answer took place.
    pub(super) fn unknown_that_happened(&self) -> usize {
        self.unknown_that_happened
    }
}

/// Checks all operations.
///
/// # Errors
/// The first answer that cannot be, in words.
pub(super) fn check(ops: &[Op], log: &Log) -> Result<Placed> {
    let mut made = vec![None; ops.len()];
    let mut makers: BTreeMap<i64, usize> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate() {
        let Outcome::Done(answer) = &op.outcome else { continue };
        check_content(op, log)?;
        if answer.wrote {
            if let Some(other) = makers.insert(answer.revision, at) {
                bail!("revision {} was given to two: {} and {}", answer.revision, ops[other].told(), op.told());
            }
            made[at] = Some(answer.revision);
        }
    }
    let answered = makers.len();
    place_the_unknown(ops, log, &mut makers, &mut made)?;
    follows_real_time(ops, &made, &makers)?;
    Ok(Placed { made, unknown_that_happened: makers.len() - answered })
}

/// What one answer says, against the log.
fn check_content(op: &Op, log: &Log) -> Result<()> {
    let Some(answer) = op.answer() else { return Ok(()) };
    let revision = answer.revision;
    ensure!(
        revision <= log.newest(),
        "an acknowledged write is lost: revision {revision} is beyond the newest, {}: {}",
        log.newest(),
        op.told()
    );
    if answer.wrote {
        let mut wanted = op.effect();
        wanted.sort_unstable();
        let happened = log.effect(revision);
        ensure!(
            happened == wanted,
            "an acknowledged write is lost: revision {revision} is {happened:?}, not {}",
            op.told()
        );
        if let Call::Swap { key, modified, .. } = op.call {
            let before = log.at(key, revision - 1).map_or(0, |pair| pair.modified);
            ensure!(before == modified, "a swap went through over revision {before}: {}", op.told());
        }
        return Ok(());
    }
    let wanted: Vec<Pair> = match &op.call {
        Call::Write(changes) => {
            let there = changes.iter().find(|(key, value)| value.is_some() || log.at(*key, revision).is_some());
            ensure!(there.is_none(), "a write says that it changed nothing, but {there:?} was there: {}", op.told());
            return Ok(());
        }
        Call::Swap { key, modified, .. } => {
            let there = log.at(*key, revision).map_or(0, |pair| pair.modified);
            ensure!(there != *modified, "a swap was refused though its compare holds: {}", op.told());
            log.at(*key, revision).into_iter().collect()
        }
        Call::Read(key) => log.at(*key, revision).into_iter().collect(),
        Call::ReadAll => log.all_at(revision),
        Call::ReadAllAt(at) => log.all_at(*at),
    };
    ensure!(answer.pairs == wanted, "a read is not what revision {revision} holds, {wanted:?}: {}", op.told());
    Ok(())
}

/// Finds for each revision that nobody was told of a request without an answer. A value names its request; a delete is given
/// to the request that began first, which leaves most to the others.
fn place_the_unknown(ops: &[Op], log: &Log, makers: &mut BTreeMap<i64, usize>, made: &mut [Option<i64>]) -> Result<()> {
    let mut unknown: BTreeMap<Vec<_>, BTreeSet<(Moment, usize)>> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| op.outcome == Outcome::Unknown && !op.only_reads()) {
        let mut effect = op.effect();
        effect.sort_unstable();
        unknown.entry(effect).or_default().insert((op.asked, at));
    }
    for revision in (2..=log.newest()).filter(|revision| !makers.contains_key(revision)).collect::<Vec<_>>() {
        let effect = log.effect(revision);
        let candidates = unknown.entry(effect.clone()).or_default();
        let fits = |(_, at): &&(Moment, usize)| match ops[*at].call {
            Call::Swap { key, modified, .. } => log.at(key, revision - 1).map_or(0, |pair| pair.modified) == modified,
            _ => true,
        };
        let candidate = candidates.iter().find(fits).copied();
        let Some((asked, at)) = candidate else {
            let refused = ops.iter().find(|op| {
                let mut would = op.effect();
                would.sort_unstable();
                would == effect
            });
            match refused {
                Some(op) => bail!("revision {revision} did {effect:?}, which nobody asked for, or only {}", op.told()),
                None => bail!("nobody asked for what revision {revision} did: {effect:?}"),
            }
        };
        unknown.entry(effect).or_default().remove(&(asked, at));
        makers.insert(revision, at);
        made[at] = Some(revision);
    }
    Ok(())
}

/// No operation stands before one that was over when it began, and none has seen what was not yet asked for.
fn follows_real_time(ops: &[Op], made: &[Option<i64>], makers: &BTreeMap<i64, usize>) -> Result<()> {
    let mut by_asked: Vec<usize> = (0..ops.len()).collect();
    by_asked.sort_unstable_by_key(|at| ops[*at].asked);
    let mut by_answered: Vec<usize> = by_asked.iter().copied().filter(|at| ops[*at].answer().is_some()).collect();
    by_answered.sort_unstable_by_key(|at| ops[*at].answered);
    let mut over = by_answered.into_iter().peekable();
    // The newest revision that an answered operation has seen, and which operation.
    let mut newest: (i64, Option<usize>) = (0, None);
    for at in by_asked {
        let op = &ops[at];
        while let Some(earlier) = over.next_if(|earlier| ops[*earlier].answered < op.asked) {
            let seen = ops[earlier].answer().map_or(0, |answer| answer.revision);
            if seen > newest.0 {
                newest = (seen, Some(earlier));
            }
        }
        let before = || newest.1.map_or(String::new(), |earlier| ops[earlier].told());
        if let Some(revision) = made[at] {
            ensure!(
                revision > newest.0,
                "revision {revision} is not after {}, which was known before it was asked for: {}, after {}",
                newest.0,
                op.told(),
                before()
            );
        }
        let Some(answer) = op.answer() else { continue };
        if !op.serializable && !matches!(op.call, Call::ReadAllAt(_)) {
            ensure!(
                answer.revision >= newest.0,
                "a stale answer, older than revision {}: {}, after {}",
                newest.0,
                op.told(),
                before()
            );
        }
        if let Some(maker) = makers.get(&answer.revision) {
            ensure!(
                ops[*maker].asked < op.answered,
                "an answer from the future: {}, but {} came later",
                op.told(),
                ops[*maker].told()
            );
        }
    }
    Ok(())
}
