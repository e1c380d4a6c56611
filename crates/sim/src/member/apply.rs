//! What is committed is applied, and told to whoever waits for it.

use super::*;

impl Running {
    pub(super) fn apply_one(&mut self, entry: Entry, context: &mut Context<'_>) -> Result<()> {
        let (index, term) = (entry.index, entry.term);
        let (position, at_term) = (LogIndex(index), Term(term));
        let outcome = if entry.data.is_empty() {
            self.state.apply_nothing(position, at_term)?;
            None
        } else if entry.kind == EntryKind::Normal {
            let mut proposal = Proposal::decode(entry.data)?;
            if context.flaw == Some(Flaw::HoldsOtherwise) && self.own == FLAWED {
                otherwise(&mut proposal.command, index);
            }
            if context.flaw == Some(Flaw::LosesWrites) && index.is_multiple_of(FLAWED_EVERY) {
                // What it would have said, had it been done.
                let answer = State::open(self.state.tables().clone())?.apply(position, at_term, proposal)?;
                self.state.apply_nothing(position, at_term)?;
                Some(Applied { events: vec![], ..answer })
            } else {
                Some(self.state.apply(position, at_term, proposal)?)
            }
        } else {
            let (change, command) = MembershipChange::decode(&entry.data)?;
            let proposal = Proposal::decode(command)?;
            let removed = match proposal.command {
                Command::MemberRemove { id } => Some(id.0),
                _ => None,
            };
            let applied = self.state.apply(position, at_term, proposal)?;
            self.changes.push((index, applied.outcome.is_ok().then_some(change)));
            if applied.outcome.is_ok() && removed == Some(self.own_id()) {
                context.effects.push(Effect::Removed);
            }
            Some(applied)
        };
        self.applied = index;
        while let Some(first) = self.pending.first_entry().filter(|first| *first.key() <= index) {
            let (place, (of_term, request)) = (*first.key(), *first.get());
            first.remove();
            let ours = place == index && of_term == term;
            let reply = outcome.clone().filter(|_| ours).map_or(Reply::Unknown, Reply::Applied);
            context.effects.push(Effect::Answer(request, reply));
        }
        if let Some(applied) = outcome
            && !applied.events.is_empty()
            && !self.is_forgotten(index, context)
        {
            context.effects.push(Effect::Changed(applied.revision.0, applied.events));
        }
        if !self.changes.is_empty() {
            self.wake(context);
        }
        self.compare_digest(index, context)
    }

    /// Whether a store broken on purpose tells no watcher of an entry.
    pub(super) fn is_forgotten(&self, index: u64, context: &Context<'_>) -> bool {
        self.own == FLAWED
            && match context.flaw {
                Some(Flaw::ForgetsEvents) => index.is_multiple_of(FLAWED_EVERY),
                // Only what it holds is to be wrong.
                Some(Flaw::HoldsOtherwise) => true,
                _ => false,
            }
    }

    pub(super) fn compare_digest(&self, index: u64, context: &mut Context<'_>) -> Result<()> {
        if index.is_multiple_of(DIGEST_EVERY) {
            let hash = self.state.hash_kv(None)?.run()?;
            context.oracle.holds(self.own_id(), index, hash.revision.0, hash.hash)?;
        }
        Ok(())
    }

    pub(super) fn install(
        &mut self,
        mark: &SnapshotMark,
        tables: MemTables,
        disk: &mut Disk,
        context: &mut Context<'_>,
    ) -> Result<()> {
        disk.commit_tables(&tables);
        disk.discard_arrived();
        self.state = State::open(tables).context("open the tables of a snapshot")?;
        let applied = self.state.applied().0.0;
        ensure!(applied == mark.index, "a snapshot of {} holds {applied}", mark.index);
        self.applied = applied;
        let rest = self.pending.split_off(&(applied + 1));
        for (_, (_, request)) in std::mem::replace(&mut self.pending, rest) {
            context.effects.push(Effect::Answer(request, Reply::Unknown));
        }
        context.effects.push(Effect::Listens(self.state.revision().0 + 1));
        context.effects.push(Effect::Note(format!("{} took over the tables of {applied}", self.own_id())));
        self.wake(context);
        let hash = self.state.hash_kv(None)?.run()?;
        if applied.is_multiple_of(DIGEST_EVERY) {
            context.oracle.holds(self.own_id(), applied, hash.revision.0, hash.hash)?;
        }
        Ok(())
    }
}

/// The member that is broken on purpose, where one is.
const FLAWED: u64 = 2;
/// One entry of so many goes wrong there.
const FLAWED_EVERY: u64 = 7;

/// Another value than everybody else's.
fn otherwise(command: &mut Command, index: u64) {
    if let Command::Put(put) = command
        && index.is_multiple_of(FLAWED_EVERY)
    {
        put.value = text(9_000_000 + index as Value);
    }
}
