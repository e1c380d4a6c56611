//! What happens to packets between members.

use std::collections::BTreeSet;

use eyrie_tests::load::Dice;

/// A moment, in microseconds since the beginning.
pub(crate) type Time = u64;

/// The weather, and who can't be heard by whom.
#[derive(Debug, Default)]
pub(crate) struct Net {
    /// Of 100 packets so many are lost.
    pub(crate) lost_percent: u64,
    /// Of 100 packets so many come twice.
    pub(crate) twice_percent: u64,
    /// The longest delay beyond the shortest; packets overtake each other within it.
    pub(crate) jitter: Time,
    /// From, to.
    cut: BTreeSet<(u64, u64)>,
}

/// The shortest way.
const LEAST: Time = 60;

impl Net {
    /// When copies of a packet arrive: none, one or two.
    pub(crate) fn fates(&self, from: u64, to: u64, dice: &mut Dice) -> Vec<Time> {
        let mut fates = Vec::new();
        if self.cut.contains(&(from, to)) {
            return fates;
        }
        for _ in 0..1 + u64::from(dice.below(100) < self.twice_percent) {
            if dice.below(100) >= self.lost_percent {
                fates.push(LEAST + dice.below(self.jitter + 1));
            }
        }
        fates
    }

    /// What `from` says is not heard by `to`.
    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Everybody hears everybody, at once.
    pub(crate) fn heal(&mut self) {
        *self = Net { jitter: 200, ..Net::default() };
    }
}
