//! The round: all work that the group has, and a log that writes meanwhile.

use super::*;

/// The log thread's desk.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) under_way: UnderWay,
    /// Ordered, not begun.
    orders: Vec<(u64, Vec<Entry>, Option<HardState>)>,
    /// Appended, not synced: up to this number.
    writing: Option<u64>,
    /// On disk up to this number; not told to raft yet.
    written: Option<u64>,
}

impl Writes {
    /// Appends all that was ordered. Returns whether anything is to be synced now.
    pub(super) fn begin(&mut self, disk: &mut Disk) -> bool {
        if self.writing.is_some() || self.orders.is_empty() {
            return false;
        }
        for (number, entries, hard_state) in self.orders.drain(..) {
            disk.append(&entries, hard_state);
            self.writing = Some(number);
        }
        true
    }

    pub(super) fn end(&mut self, disk: &mut Disk) {
        disk.sync();
        self.written = self.writing.take().or(self.written);
    }

    /// Does all at once, as when the log is taken back.
    pub(super) fn end_all(&mut self, disk: &mut Disk) {
        self.end(disk);
        if self.begin(disk) {
            self.end(disk);
        }
    }
}

impl Running {
    /// Does all work that the group has, and what follows from writes that are done.
    pub(super) fn settle(&mut self, disk: &mut Disk, context: &mut Context<'_>) -> Result<()> {
        loop {
            self.note_written(context)?;
            while self.group.has_work() {
                let mut work = self.group.work();
                self.say(std::mem::take(&mut work.messages), context)?;
                let committed = std::mem::take(&mut work.committed);
                self.hand_on(committed, context)?;
                for (question, index) in std::mem::take(&mut work.reads) {
                    self.name_index(question, index, context.now);
                }
                self.order(work, disk, context)?;
                self.note_written(context)?;
            }
            self.note_applied(context)?;
            self.announce(context)?;
            self.ask_for_reads(context.now);
            self.answer_reads(context)?;
            if !self.group.has_work() {
                break;
            }
        }
        // What raft wanted is on the disk by now; this was not wanted.
        if let Some((_, _, from)) = self.arrived.take() {
            context.effects.push(Effect::Send { to: from, packet: Packet::SnapshotTaken { arrived: false } });
        }
        if !self.inbox.is_empty() {
            self.wake(context);
        }
        Ok(())
    }

    /// Has the disk write, or writes itself: alone, and when the log begins anew.
    pub(super) fn order(&mut self, mut work: Work, disk: &mut Disk, context: &mut Context<'_>) -> Result<()> {
        if self.group.membership().voters == [self.own] {
            self.take_back(disk, context)?;
            self.write_here(&mut work, disk, context)?;
            return self.persisted(work, context);
        }
        let handed = self.group.handed_over(&mut work);
        self.say(handed.now, context)?;
        if work.snapshot.is_some() {
            self.take_back(disk, context)?;
            self.write_here(&mut work, disk, context)?;
            self.group.persisted_up_to(handed.number);
            return self.say(handed.later, context);
        }
        let (entries, hard_state) = (std::mem::take(&mut work.entries), work.hard_state.take());
        let writes = !entries.is_empty() || hard_state.is_some();
        let bytes: usize = entries.iter().map(|entry| 32 + entry.data.len()).sum();
        self.writes.under_way.order(handed.number, writes.then_some(16 + bytes as u64), handed.later);
        if writes {
            self.writes.orders.push((handed.number, entries, hard_state));
            if context.flaw == Some(Flaw::PromisesBeforeSync) {
                self.writes.written = Some(handed.number);
            }
            self.write(disk, context);
        }
        Ok(())
    }

    pub(super) fn take_back(&mut self, disk: &mut Disk, context: &mut Context<'_>) -> Result<()> {
        self.writes.end_all(disk);
        self.note_written(context)
    }

    pub(super) fn write_here(&mut self, work: &mut Work, disk: &mut Disk, context: &mut Context<'_>) -> Result<()> {
        if let Some(mark) = work.snapshot.take() {
            self.begin_anew(&mark, work.hard_state.take(), disk, context)?;
        }
        disk.append(&work.entries, work.hard_state.take());
        disk.sync();
        Ok(())
    }

    /// Says and learns what follows from writes that are done.
    pub(super) fn note_written(&mut self, context: &mut Context<'_>) -> Result<()> {
        let written = self.writes.written.take();
        let finished = self.writes.under_way.finished(written);
        if let Some(number) = finished.up_to {
            self.say(finished.messages, context)?;
            self.group.persisted_up_to(number);
        }
        Ok(())
    }

    pub(super) fn persisted(&mut self, work: Work, context: &mut Context<'_>) -> Result<()> {
        let persisted = self.group.persisted(work);
        self.say(persisted.messages, context)?;
        self.hand_on(persisted.committed, context)
    }

    pub(super) fn say(&mut self, messages: Vec<Message>, context: &mut Context<'_>) -> Result<()> {
        for message in messages {
            let to = message.to();
            let packet = if message.is_snapshot() {
                let tables = self.state.tables().clone();
                let (index, term) = tables.applied();
                let members: Vec<_> = self.state.members().cloned().collect();
                let mark = SnapshotMark { index: index.0, term: term.0, membership: membership_of(&members) };
                context.effects.push(Effect::Note(format!("a snapshot of {index} for {to}")));
                Packet::Snapshot { message: message.with_snapshot(&mark).encode()?, tables }
            } else {
                Packet::Raft(message.encode()?)
            };
            context.effects.push(Effect::Send { to, packet });
        }
        Ok(())
    }

    pub(super) fn hand_on(&mut self, committed: Vec<Entry>, context: &mut Context<'_>) -> Result<()> {
        let own = self.own_id();
        committed.iter().try_for_each(|entry| context.oracle.committed(own, entry))?;
        if !committed.is_empty() {
            self.to_apply.push_back(ToApply::Entries(committed.into()));
            self.apply_when_due(context);
        }
        Ok(())
    }

    /// The log begins anew where the tables that arrived end.
    pub(super) fn begin_anew(
        &mut self,
        mark: &SnapshotMark,
        hard_state: Option<HardState>,
        disk: &mut Disk,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (arrived, tables, from) = self.arrived.take().context("raft took a snapshot that never arrived")?;
        ensure!(arrived.index == mark.index, "raft took the snapshot of {}, {} arrived", mark.index, arrived.index);
        let start = LogStart { index: mark.index, term: mark.term, membership: mark.membership.clone() };
        let hard_state = hard_state.unwrap_or_else(|| self.group.hard_state());
        disk.arrived(arrived, tables.clone());
        disk.restart_after(start, HardState { commit: hard_state.commit.max(mark.index), ..hard_state });
        self.anew_at = mark.index;
        self.to_apply.push_back(ToApply::Install(mark.clone(), tables));
        self.apply_when_due(context);
        context.effects.push(Effect::Send { to: from, packet: Packet::SnapshotTaken { arrived: true } });
        Ok(())
    }

    pub(super) fn note_applied(&mut self, context: &mut Context<'_>) -> Result<()> {
        for (index, change) in std::mem::take(&mut self.changes) {
            if index > self.anew_at {
                self.group.apply_change(change)?;
            }
        }
        self.group.applied(self.applied);
        let own = self.own_id();
        context.oracle.stands(own, self.group.standing())
    }

    pub(super) fn announce(&mut self, context: &mut Context<'_>) -> Result<()> {
        let standing = self.group.standing();
        if (standing.leader, standing.term) != self.leader {
            self.leader = (standing.leader, standing.term);
            let leader = standing.leader;
            self.reads.questions.ask_anew();
            self.give_up_on(|to| to != leader, context.effects);
            let (own, term) = (self.own_id(), standing.term);
            context.effects.push(Effect::Note(format!("{own} follows {leader} in term {term}")));
            self.route_parked(context);
        }
        Ok(())
    }
}
