//! The apply thread: turns committed entries into changes of the state, one after the other, and tells everybody who
//! must know: watchers, leases, proposers. Between batches it takes compaction one step further.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eyrie_raft::{Entry, EntryKind, MembershipChange};
use eyrie_state::{Answer, Applied, Command, LogIndex, MemberId, Proposal, Term};

use super::inbox::Outcome;
use super::{Fatal, Shared, ToApply, install};
use crate::limits::{COMMANDS_PER_LOCK_MAX, GIVE_BACK_INTERVAL, REMOVED_GRACE};
use crate::metrics::Mvcc;
use crate::{log_info, log_warn};

/// What the apply thread owns.
pub(crate) struct ApplyThread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) committed: Receiver<ToApply>,
    /// How the tables are kept, for those that take their place.
    pub(crate) table_options: eyrie_disk::tables::Options,
    pub(crate) election_timeout: Duration,
    pub(crate) warning_apply_duration: Duration,
    pub(crate) compaction_keys_per_step: usize,
    pub(crate) compaction_pause: Duration,
    pub(crate) give_back_memory: fn(),
}

/// What one entry asks for, read before the lock is taken.
enum Work {
    Nothing,
    Command(Box<Proposal>),
    /// A change of the members: what raft makes of it, if the command is not refused.
    Membership(MembershipChange, Box<Proposal>),
}

/// What one entry did.
struct Done {
    index: u64,
    term: u64,
    /// `None` for an entry without a command.
    applied: Option<(Applied, Told)>,
}

impl ApplyThread {
    /// Runs until the raft thread ends.
    ///
    /// # Errors
    /// [`Fatal`] when an entry can't be read or the tables can't be trusted: the member must stop.
    pub(crate) fn run(self) -> Result<(), Fatal> {
        let mut next_step = self.compaction_pending().then(Instant::now);
        let mut compacting_since = Instant::now();
        let mut next_give_back = Instant::now();
        loop {
            let patience = next_step.map_or(GIVE_BACK_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
            match self.committed.recv_timeout(patience) {
                Ok(ToApply::Install { whole, mark }) => {
                    install::install(&self.shared, &whole, &mark, self.table_options.clone(), self.election_timeout)?;
                    next_step = self.compaction_pending().then(Instant::now);
                }
                Ok(ToApply::Entries(entries)) => {
                    let compacted = self.apply(entries)?;
                    if compacted && next_step.is_none() {
                        compacting_since = Instant::now();
                        next_step = Some(compacting_since);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Not at every pause of a compaction: it takes as long as a step of it.
                    let now = Instant::now();
                    if now >= next_give_back {
                        (self.give_back_memory)();
                        next_give_back = now + GIVE_BACK_INTERVAL;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if next_step.is_some_and(|at| at <= Instant::now()) {
                next_step = self.compact_a_little(compacting_since)?.then(|| Instant::now() + self.compaction_pause);
            }
        }
    }

    /// Applies a batch. Returns whether it held a compaction.
    fn apply(&self, entries: Vec<Entry>) -> Result<bool, Fatal> {
        let mut compacted = false;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut work = Vec::with_capacity(COMMANDS_PER_LOCK_MAX);
            for entry in entries.by_ref().take(COMMANDS_PER_LOCK_MAX) {
                work.push((entry.index, entry.term, read(entry)?));
            }
            compacted |= self.apply_some(work)?;
        }
        Ok(compacted)
    }

    fn apply_some(&self, work: Vec<(u64, u64, Work)>) -> Result<bool, Fatal> {
        let begun = Instant::now();
        let count = work.len();
        let mut compacted = false;
        let mut done = Vec::with_capacity(count);
        let mut changes = Vec::new();
        {
            let mut state = self.shared.state.write();
            for (index, term, work) in work {
                let applied = match work {
                    Work::Nothing => {
                        state.apply_nothing(LogIndex(index), Term(term)).map_err(Fatal::halt)?;
                        None
                    }
                    Work::Command(proposal) => {
                        let told = Told::from(&proposal.command);
                        let applied = state.apply(LogIndex(index), Term(term), *proposal).map_err(Fatal::halt)?;
                        compacted |= matches!(applied.outcome, Ok(Answer::Compact));
                        Some((applied, told))
                    }
                    Work::Membership(change, command) => {
                        let told = Told::from(&command.command);
                        let applied = state.apply(LogIndex(index), Term(term), *command).map_err(Fatal::halt)?;
                        changes.push((index, applied.outcome.is_ok().then_some(change)));
                        Some((applied, told))
                    }
                };
                done.push(Done { index, term, applied });
            }
        }
        let took = begun.elapsed();
        if took > self.warning_apply_duration * u32::try_from(count).unwrap_or(u32::MAX) {
            self.shared.metrics.server.slow_apply.inc();
            let (took, count) = (format!("{took:?}"), count);
            log_warn!("apply request took too long", "took" = &took, "commands" = &count);
        }
        // Before it shows that they are applied: raft follows them first.
        let members_changed = !changes.is_empty();
        if members_changed {
            self.shared.changes.lock().extend(changes);
        }
        self.tell(done);
        if members_changed {
            self.shared.inbox.wake();
        }
        Ok(compacted)
    }

    /// Tells watchers and leases first, proposers last: who hears of a write finds its traces everywhere.
    fn tell(&self, done: Vec<Done>) {
        let Some((last, term)) = done.last().map(|last| (last.index, last.term)) else { return };
        let mut outcomes: Vec<(u64, u64, Outcome)> = Vec::with_capacity(done.len());
        for Done { index, term, applied } in done {
            let Some((applied, told)) = applied else { continue };
            let Applied { revision, outcome, events } = applied;
            told.count(&self.shared.metrics.mvcc);
            if outcome.is_ok() {
                self.follow_members(told);
            }
            self.shared.lessor.heard(&outcome, told);
            if let Ok(answer) = &outcome {
                self.shared.guard.heard(answer, &self.shared.state);
            }
            if !events.is_empty() {
                self.shared.hub.publish(revision, events);
            }
            outcomes.push((index, term, Ok((revision, outcome))));
        }
        self.shared.progress.applied_up_to(last, term);
        self.shared.pending.answer(&self.shared.trays, outcomes);
        self.shared.applied_moved.notify_waiters();
    }

    /// The links lead to whoever belongs to the cluster now; a member that left ends.
    fn follow_members(&self, told: Told) {
        let Told::Members { removed } = told else { return };
        self.shared.follow_members();
        if removed == Some(self.shared.identity.member) {
            log_warn!("the member has been permanently removed from the cluster");
            let shared = self.shared.clone();
            // Others may still need to hear from here that it is so.
            let later = move || {
                std::thread::sleep(REMOVED_GRACE);
                shared.ending.end(crate::peer::removed_words());
            };
            if std::thread::Builder::new().name("removed".into()).spawn(later).is_err() {
                self.shared.ending.end(crate::peer::removed_words());
            }
        }
    }

    fn compaction_pending(&self) -> bool {
        self.shared.state.read().compaction_pending()
    }

    /// One step of a compaction that began then. Returns whether more remains.
    fn compact_a_little(&self, since: Instant) -> Result<bool, Fatal> {
        let metrics = &self.shared.metrics.mvcc;
        let begun = Instant::now();
        let mut state = self.shared.state.write();
        let step = state.compaction_step(self.compaction_keys_per_step).map_err(Fatal::halt)?;
        let (more, compacted) = (state.compaction_pending(), state.compacted());
        drop(state);
        let held = millis(begun.elapsed());
        metrics.index_compaction_pause.observe(held);
        metrics.compaction_pause.observe(held);
        metrics.compaction_keys.inc_by(step.dropped as u64);
        if !more {
            metrics.compaction_total.observe(millis(since.elapsed()));
            metrics.compaction_last.set(unix_seconds());
            if let Some(revision) = compacted {
                log_info!("finished scheduled compaction", "compact-revision" = &revision.0);
            }
            self.shared.compaction_done.notify_waiters();
        }
        Ok(more)
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The time of the host, for people who look at a graph.
fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

fn read(entry: Entry) -> Result<Work, Fatal> {
    let index = entry.index;
    let command = |data| Proposal::decode(data).map(Box::new).map_err(|error| Fatal::entry(index, &error));
    if entry.data.is_empty() {
        return Ok(Work::Nothing);
    }
    if entry.kind == EntryKind::Normal {
        return command(entry.data).map(Work::Command);
    }
    let (change, data) = MembershipChange::decode(&entry.data).map_err(|error| Fatal::entry(index, &error))?;
    Ok(Work::Membership(change, command(data)?))
}

/// What of a command others want to know after it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A put.
    Put,
    /// A delete.
    Delete,
    /// A transaction.
    Txn,
    /// A lease ended.
    Revoke(eyrie_state::LeaseId),
    /// Who belongs to the cluster, or where members are.
    Members {
        /// Who left.
        removed: Option<MemberId>,
    },
    /// Anything else.
    Other,
}

impl From<&Command> for Told {
    fn from(command: &Command) -> Self {
        match command {
            Command::Put(_) => Told::Put,
            Command::DeleteRange(_) => Told::Delete,
            Command::Txn(_) => Told::Txn,
            Command::LeaseRevoke { id } => Told::Revoke(*id),
            Command::MemberRemove { id } => Told::Members { removed: Some(*id) },
            Command::MemberAdd(_) | Command::MemberUpdate { .. } | Command::MemberPromote { .. } => {
                Told::Members { removed: None }
            }
            _ => Told::Other,
        }
    }
}

impl Told {
    fn count(self, counts: &Mvcc) {
        match self {
            Told::Put => counts.puts.inc(),
            Told::Delete => counts.deletes.inc(),
            Told::Txn => counts.txns.inc(),
            Told::Revoke(_) | Told::Members { .. } | Told::Other => {}
        }
    }
}
