//! Watch events become whole revisions: fragments joined, nothing twice, nothing left out.

use eyrie_api::mvccpb::event::EventType;
use eyrie_api::mvccpb::{self};
use eyrie_state::{LeaseId, Revision};

use crate::history::{Event, Revised, TimeMs};

/// Collects events until a revision is whole. `last` is the last revision that was handed out.
#[derive(Debug)]
pub(super) struct Assembler {
    last: Revision,
    open: Option<Revised>,
}

/// The watch left out a revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The one that should have come.
    pub(super) expected: Revision,
    /// The one that came.
    pub(super) got: Revision,
}

impl Assembler {
    /// Hands out what comes after `last`.
    pub(super) fn new(last: Revision) -> Self {
        Self { last, open: None }
    }

    /// The last revision that was handed out.
    pub(super) fn last(&self) -> Revision {
        self.last
    }

    /// Takes one answer's events. A revision is whole when a later one follows, or the answer is no fragment.
    /// Revisions up to the last one are passed over, but the last one itself is returned as `again`.
    ///
    /// # Errors
    /// A revision is missing. Those before it are lost to the caller, who must take a new full anyway.
    pub(super) fn push(
        &mut self,
        events: Vec<mvccpb::Event>,
        fragment: bool,
        heard_at: TimeMs,
    ) -> Result<Whole, Missing> {
        let mut whole = Whole::default();
        for event in events {
            let Some(kv) = event.kv else { continue };
            let revision = Revision(kv.mod_revision);
            let event = if event.r#type == EventType::Delete as i32 {
                Event::Delete { key: kv.key }
            } else {
                Event::Put {
                    key: kv.key,
                    value: kv.value,
                    create_revision: Revision(kv.create_revision),
                    version: kv.version,
                    lease: LeaseId(kv.lease),
                }
            };
            match &mut self.open {
                Some(open) if open.revision == revision => open.events.push(event),
                _ => {
                    self.close(&mut whole)?;
                    self.open = Some(Revised { revision, heard_at, events: vec![event] });
                }
            }
        }
        if !fragment {
            self.close(&mut whole)?;
        }
        Ok(whole)
    }

    fn close(&mut self, whole: &mut Whole) -> Result<(), Missing> {
        let Some(revised) = self.open.take() else { return Ok(()) };
        if revised.revision == self.last {
            whole.again = Some(revised);
        } else if revised.revision > self.last {
            let expected = Revision(self.last.0 + 1);
            if revised.revision != expected {
                return Err(Missing { expected, got: revised.revision });
            }
            self.last = expected;
            whole.revisions.push(revised);
        }
        Ok(())
    }
}

/// What became whole with one answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// The revision that was already handed out, heard once more.
    pub(super) again: Option<Revised>,
    /// New revisions, without a gap.
    pub(super) revisions: Vec<Revised>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: i64, key: &'static str) -> mvccpb::Event {
        let kv = mvccpb::KeyValue { key: key.into(), mod_revision: revision, create_revision: 1, ..Default::default() };
        mvccpb::Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None }
    }

    fn heard(assembler: &mut Assembler, events: Vec<mvccpb::Event>, fragment: bool) -> Vec<(i64, usize)> {
        let whole = assembler.push(events, fragment, TimeMs(1)).unwrap();
        whole.revisions.iter().map(|revised| (revised.revision.0, revised.events.len())).collect()
    }

    #[test]
    fn a_revision_in_fragments_is_handed_out_once_it_is_whole() {
        let mut assembler = Assembler::new(Revision(4));
        assert_eq!(heard(&mut assembler, vec![put(5, "a"), put(6, "a")], true), [(5, 1)]);
        assert_eq!(heard(&mut assembler, vec![put(6, "b")], true), []);
        assert_eq!(heard(&mut assembler, vec![put(6, "c"), put(7, "a")], false), [(6, 3), (7, 1)]);
    }

    #[test]
    fn old_revisions_are_passed_over_and_the_last_one_is_heard_again() {
        let mut assembler = Assembler::new(Revision(4));
        let whole = assembler.push(vec![put(3, "a"), put(4, "a"), put(5, "a")], false, TimeMs(1)).unwrap();
        assert_eq!(whole.again.map(|revised| revised.revision), Some(Revision(4)));
        assert_eq!(whole.revisions.len(), 1);
    }

    #[test]
    fn a_revision_that_is_left_out_is_named() {
        let mut assembler = Assembler::new(Revision(4));
        let missing = assembler.push(vec![put(5, "a"), put(7, "a")], false, TimeMs(1)).unwrap_err();
        assert_eq!(missing, Missing { expected: Revision(6), got: Revision(7) });
    }
}
