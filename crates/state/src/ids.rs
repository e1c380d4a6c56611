//! The numbers that name things, each its own type, so that none can stand in for another.

/// Declares a number that names something and is never mixed with another number.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// The store's version number. An empty store is at 1; every request that changes something adds one.
    Revision(i64)
);
id!(
    /// Names a lease. 0 in a put means "no lease"; negative numbers are legal.
    LeaseId(i64)
);
id!(
    /// Names a member of the cluster.
    MemberId(u64)
);
id!(
    /// Counts the changes of users and roles. A store with no change has 1; one that never had users may have 0.
    AuthRevision(u64)
);
id!(
    /// Names the cluster.
    ClusterId(u64)
);
id!(
    /// A position in the replicated log; the first entry is 1.
    LogIndex(u64)
);
id!(
    /// A term of leadership.
    Term(u64)
);

/// Where one change stands in history: the revision, and its place inside that revision (a transaction makes several).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The revision.
    pub main: i64,
    /// The change's number inside the revision, from 0.
    pub sub: u32,
}

impl Position {
    /// The first possible position of a revision.
    pub const fn start_of(revision: Revision) -> Self {
        Self { main: revision.0, sub: 0 }
    }
    /// The revision this position belongs to.
    pub const fn revision(self) -> Revision {
        Revision(self.main)
    }
}
