//! What one watcher wants to see.

use bytes::Bytes;

use crate::command::KeyRange;

/// The kinds of events a watcher does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Filters {
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
}

impl Filters {
    /// Whether an event of this kind passes.
    pub const fn pass(self, delete: bool) -> bool {
        if delete { !self.no_delete } else { !self.no_put }
    }
}

/// The range holds no key, so nothing could ever be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("watcher range is empty")]
pub struct EmptyRange;

/// What a watcher wants: keys, kinds of events, and whether with the pair before the change.
///
/// Law: the range holds at least one key; [`Interest::new`] is the only door.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interest {
    pub(super) keys: Keys,
    filters: Filters,
    prev_kv: bool,
}

/// A [`KeyRange`] in the form the registry sorts by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keys {
    One(Bytes),
    Span(Span),
}

/// Adjacent keys from `start` (inclusive) to `end` (exclusive; `None` for no end).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: Bytes,
    pub(super) end: Option<Bytes>,
}

impl Span {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        &self.start[..] <= key && self.ends_after(key)
    }

    pub(super) fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

impl Interest {
    /// Checks and keeps a wish.
    ///
    /// # Errors
    /// [`EmptyRange`] when the range holds no key.
    pub fn new(keys: KeyRange, filters: Filters, prev_kv: bool) -> Result<Self, EmptyRange> {
        let keys = match keys {
            KeyRange::One(key) => Keys::One(key),
            KeyRange::From(start) => Keys::Span(Span { start, end: None }),
            KeyRange::Span(start, end) if start < end => Keys::Span(Span { start, end: Some(end) }),
            KeyRange::Span(..) => return Err(EmptyRange),
        };
        Ok(Self { keys, filters, prev_kv })
    }

    /// Whether a change of this key, of this kind, is to be seen.
    pub fn wants(&self, key: &[u8], delete: bool) -> bool {
        self.filters.pass(delete)
            && match &self.keys {
                Keys::One(one) => one == key,
                Keys::Span(span) => span.contains(key),
            }
    }

    /// The kinds of events left out.
    pub const fn filters(&self) -> Filters {
        self.filters
    }

    /// Whether events come with the pair before the change.
    pub const fn prev_kv(&self) -> bool {
        self.prev_kv
    }
}
