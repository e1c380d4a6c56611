//! What one revision changed: the unit that a tail carries and never splits.

use bytes::Bytes;
use eyrie_state::{LeaseId, Revision};

/// Milliseconds since 1970 by the clock of the machine that takes the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimeMs(pub u64);

impl TimeMs {
    /// The machine's clock. Only the shell asks it.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// In UTC, to the second.
impl std::fmt::Display for TimeMs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match i64::try_from(self.0).ok().and_then(chrono::DateTime::from_timestamp_millis) {
            Some(at) => at.format("%Y-%m-%d %H:%M:%S UTC").fmt(f),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

/// All changes of one revision, in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised {
    /// The revision.
    pub revision: Revision,
    /// When the backup heard of it. Never earlier than the change itself.
    pub heard_at: TimeMs,
    /// Its changes; at least one.
    pub events: Vec<Event>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key got a value.
    Put {
        /// The key.
        key: Bytes,
        /// Its value; may be empty.
        value: Bytes,
        /// Revision of the put that created the key.
        create_revision: Revision,
        /// Puts since creation, this one included.
        version: i64,
        /// The lease it hangs on; 0 for none.
        lease: LeaseId,
    },
    /// A key is gone.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Event::Put { key, .. } | Event::Delete { key } => key,
        }
    }

    /// The value, unless it was a deletion.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Event::Put { value, .. } => Some(value),
            Event::Delete { .. } => None,
        }
    }
}

impl Revised {
    /// Bytes of keys and values.
    pub fn weight(&self) -> usize {
        self.events.iter().map(|event| event.key().len() + event.value().map_or(0, Bytes::len)).sum()
    }
}
