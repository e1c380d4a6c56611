//! Who watches what: groups of equal interests, and the groups that one revision's events concern.

use std::collections::BTreeMap;

use bytes::Bytes;
use smallvec::SmallVec;

use super::interest::{Interest, Keys};
use super::spans::Spans;
use crate::answer::Event;

/// Names a group of watchers with equal interests. A number is used again after its group is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// The events of one revision that one group wants, by their places in the revision, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Whose.
    pub group: GroupId,
    /// Which; never empty.
    pub events: SmallVec<[u32; 4]>,
}

/// All groups. Equal calls in equal order give equal answers.
#[derive(Debug, Default)]
pub struct Registry {
    by_interest: BTreeMap<Interest, GroupId>,
    groups: Vec<Option<Group>>,
    free: Vec<GroupId>,
    exact: BTreeMap<Bytes, Groups>,
    spans: Spans<Groups>,
    members: usize,
}

/// Most keys and spans are watched in one way only.
type Groups = SmallVec<[GroupId; 2]>;

#[derive(Debug)]
struct Group {
    interest: Interest,
    members: usize,
}

impl Registry {
    /// Adds one watcher; says its group and whether the group is new.
    pub fn join(&mut self, interest: &Interest) -> (GroupId, bool) {
        self.members += 1;
        if let Some(&id) = self.by_interest.get(interest) {
            self.group_mut(id).members += 1;
            return (id, false);
        }
        let group = Some(Group { interest: interest.clone(), members: 1 });
        let id = match self.free.pop() {
            Some(id) => {
                self.groups[id.0 as usize] = group;
                id
            }
            None => {
                self.groups.push(group);
                GroupId(self.groups.len() as u32 - 1)
            }
        };
        self.by_interest.insert(interest.clone(), id);
        match &interest.keys {
            Keys::One(key) => self.exact.entry(key.clone()).or_default().push(id),
            Keys::Span(span) => self.spans.entry(span).push(id),
        }
        (id, true)
    }

    /// Takes one watcher away; says whether that was the group's last.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn leave(&mut self, id: GroupId) -> bool {
        self.members -= 1;
        let group = self.group_mut(id);
        group.members -= 1;
        if group.members > 0 {
            return false;
        }
        let interest = self.groups[id.0 as usize].take().expect("a group that was just counted").interest;
        self.by_interest.remove(&interest);
        self.free.push(id);
        match &interest.keys {
            Keys::One(key) => {
                let here = self.exact.get_mut(key).expect("an exact group is indexed by its key");
                here.retain(|other| *other != id);
                if here.is_empty() {
                    self.exact.remove(key);
                }
            }
            Keys::Span(span) => {
                let here = self.spans.get_mut(span).expect("a span group is indexed by its span");
                here.retain(|other| *other != id);
                if here.is_empty() {
                    self.spans.remove(span);
                }
            }
        }
        true
    }

    /// Nobody watches.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// How many watch.
    pub fn members(&self) -> usize {
        self.members
    }

    /// How many watch in this group.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn members_of(&self, id: GroupId) -> usize {
        self.groups[id.0 as usize].as_ref().expect("a group that exists").members
    }

    /// What a group wants.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn interest(&self, id: GroupId) -> &Interest {
        &self.groups[id.0 as usize].as_ref().expect("a group that exists").interest
    }

    /// The groups that want some of these events, ordered by group.
    pub fn matches(&self, events: &[Event]) -> SmallVec<[Match; 4]> {
        if let [event] = events {
            let mut out = SmallVec::new();
            self.groups_of(&event.kv.key, event.delete, &mut |group| {
                out.push(Match { group, events: SmallVec::from_elem(0, 1) });
            });
            out.sort_unstable_by_key(|found: &Match| found.group);
            return out;
        }
        let mut pairs: Vec<(GroupId, u32)> = Vec::new();
        for (place, event) in events.iter().enumerate() {
            self.groups_of(&event.kv.key, event.delete, &mut |group| pairs.push((group, place as u32)));
        }
        pairs.sort_unstable();
        pairs
            .chunk_by(|a, b| a.0 == b.0)
            .map(|run| Match { group: run[0].0, events: run.iter().map(|(_, place)| *place).collect() })
            .collect()
    }

    /// The groups that want a change of this key, of this kind, in no particular order but always the same.
    pub fn groups_of(&self, key: &[u8], delete: bool, found: &mut impl FnMut(GroupId)) {
        let mut filtered = |groups: &Groups| {
            for &id in groups {
                if self.interest(id).filters().pass(delete) {
                    found(id);
                }
            }
        };
        if let Some(groups) = self.exact.get(key) {
            filtered(groups);
        }
        self.spans.holding(key, &mut filtered);
    }

    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        self.groups[id.0 as usize].as_mut().expect("a group that exists")
    }
}
