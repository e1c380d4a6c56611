//! What comes in, and where it goes: proposals into the log or to the leader, reads to whoever knows the index.

use super::*;

impl Running {
    pub(super) fn take_up(&mut self, input: Input, context: &mut Context<'_>) -> Result<()> {
        let effects = &mut *context.effects;
        match input {
            Input::Asked(request, Ask::Read { range, serializable: false })
                if context.flaw != Some(Flaw::StaleReads) =>
            {
                self.reads.gathered.push((request, range));
            }
            Input::Asked(request, Ask::Read { range, .. }) => effects.push(self.read(request, &range)?),
            Input::Asked(request, Ask::Propose { command, change }) => {
                self.parked.push(Elsewhere { request, command, change });
            }
            Input::Heard(_, Packet::Raft(bytes)) => self.group.step(Message::decode(&bytes)?)?,
            Input::Heard(from, Packet::Snapshot { message, tables }) => {
                let message = Message::decode(&message)?;
                let Some(mark) = message.snapshot() else { return Ok(()) };
                self.arrived = Some((mark, tables, from));
                self.group.step(message)?;
            }
            Input::Heard(from, Packet::SnapshotTaken { arrived }) => self.group.snapshot_sent(from, arrived),
            Input::Heard(_, Packet::Forward { .. }) if self.is_busy() && self.group.can_propose() => {
                self.held.push(input)
            }
            Input::Heard(from, Packet::Forward { number, command, change }) => {
                let term = self.group.standing().term;
                let placed = match change {
                    None => self.group.propose(vec![command]),
                    Some(change) => self.group.propose_change(change, &command),
                };
                let place = placed.ok().map(|index| (index, term));
                effects.push(Effect::Send { to: from, packet: Packet::Placed { number, place } });
            }
            Input::Heard(_, Packet::Placed { number, place }) => match (self.sent.remove(&number), place) {
                (Some((_, elsewhere)), Some((index, term))) => {
                    self.await_entry(index, term, elsewhere.request, effects)
                }
                // No log has it: it is tried again.
                (Some((_, elsewhere)), None) => self.parked.push(elsewhere),
                (None, _) => {}
            },
            Input::Lost(member) => {
                self.group.unreachable(member);
                self.give_up_on(|to| to == member, effects);
            }
            Input::Transfer(member) => self.group.transfer_leader(member),
        }
        Ok(())
    }

    /// Waits for an entry. What stood there before was an older leader's.
    pub(super) fn await_entry(&mut self, index: u64, term: u64, request: RequestId, effects: &mut Vec<Effect>) {
        // It may be applied already: then its answer is gone.
        if index <= self.applied {
            return effects.push(Effect::Answer(request, Reply::Unknown));
        }
        for (_, (_, replaced)) in self.pending.split_off(&index) {
            effects.push(Effect::Answer(replaced, Reply::Unknown));
        }
        self.pending.insert(index, (term, request));
    }

    pub(super) fn give_up_on(&mut self, lost: impl Fn(u64) -> bool, effects: &mut Vec<Effect>) {
        for (_, (_, elsewhere)) in self.sent.extract_if(.., |_, (to, _)| lost(*to)) {
            effects.push(Effect::Answer(elsewhere.request, Reply::Unknown));
        }
    }

    /// Proposals go into the own log, to the leader, or wait until there is one.
    pub(super) fn route_parked(&mut self, context: &mut Context<'_>) {
        let standing = self.group.standing();
        for elsewhere in std::mem::take(&mut self.parked) {
            if self.group.can_propose() && self.is_busy() {
                self.parked.push(elsewhere);
            } else if self.group.can_propose() {
                let Elsewhere { request, command, change } = elsewhere.clone();
                let placed = match change {
                    None => self.group.propose(vec![command]),
                    Some(change) => self.group.propose_change(change, &command),
                };
                match placed {
                    Ok(index) => self.await_entry(index, standing.term, request, context.effects),
                    Err(_) => self.parked.push(elsewhere),
                }
            } else if standing.leader == 0 || standing.is_leader {
                self.parked.push(elsewhere);
            } else {
                self.sent_next += 1;
                let (number, command, change) = (self.sent_next, elsewhere.command.clone(), elsewhere.change);
                self.sent.insert(number, (standing.leader, elsewhere));
                let packet = Packet::Forward { number, command, change };
                context.effects.push(Effect::Send { to: standing.leader, packet });
            }
        }
    }

    pub(super) fn ask_for_reads(&mut self, now: Time) {
        let now = Duration::from_micros(now);
        self.reads.questions.give_up(now);
        if self.reads.questions.due(now).enough().is_some_and(|enough| self.reads.gathered.len() >= enough) {
            let readers = std::mem::take(&mut self.reads.gathered);
            self.reads.questions.ask(&mut self.group, readers, |_| true, now);
        }
    }

    pub(super) fn name_index(&mut self, question: u64, index: u64, now: Time) {
        let readers = self.reads.questions.answered(question, Duration::from_micros(now));
        self.reads.wait_for.extend(readers.into_iter().map(|(request, range)| (index, request, range)));
    }

    pub(super) fn answer_reads(&mut self, context: &mut Context<'_>) -> Result<()> {
        let applied = self.applied;
        let due: Vec<_> = self.reads.wait_for.extract_if(.., |(index, ..)| *index <= applied).collect();
        for (_, request, range) in due {
            context.effects.push(self.read(request, &range)?);
        }
        Ok(())
    }

    pub(super) fn read(&self, request: RequestId, range: &Range) -> Result<Effect> {
        let reply = match self.state.plan_range(range) {
            Ok(plan) => Reply::Read(plan.revision().0, plan.run()?),
            Err(refusal) => Reply::Refused(refusal.to_string()),
        };
        Ok(Effect::Answer(request, reply))
    }
}
