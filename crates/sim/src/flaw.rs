//! Stores that are broken on purpose, so that each check is seen to find what it is there for.

/// What is wrong with every member, or with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Reads are answered from what a member happens to have applied.
    StaleReads,
    /// Some writes are answered as done, and are nowhere.
    LosesWrites,
    /// Votes and acknowledgements go out before what they rely on is on disk.
    PromisesBeforeSync,
    /// One member does not tell its watchers of some changes.
    ForgetsEvents,
    /// One member holds other values than it was told.
    HoldsOtherwise,
}

impl Flaw {
    const ALL: [Flaw; 5] =
        [Flaw::StaleReads, Flaw::LosesWrites, Flaw::PromisesBeforeSync, Flaw::ForgetsEvents, Flaw::HoldsOtherwise];

    /// The flaw of this name.
    pub(crate) fn named(name: &str) -> Option<Flaw> {
        Flaw::ALL.into_iter().find(|flaw| format!("{flaw:?}") == name)
    }
}
