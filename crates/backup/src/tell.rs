//! What a run tells whoever watches it: values, not words on a screen.

use std::sync::Arc;

use eyrie_state::Revision;

use crate::history::TimeMs;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something that a person should read.
    Said(String),
    /// Something that a person should read and do something about.
    Warned(String),
    /// A full is being read from the source.
    FullReading {
        /// Bytes so far.
        bytes: u64,
        /// Bytes expected.
        of: u64,
    },
    /// A full is being stored.
    FullStoring {
        /// Bytes so far.
        bytes: u64,
        /// Bytes of all.
        of: u64,
    },
    /// A full is in the archive.
    FullTaken {
        /// Its revision.
        revision: Revision,
        /// Its live keys.
        keys: u64,
        /// Its bytes as stored.
        stored_len: u64,
        /// Members whose digest is the same.
        members: usize,
    },
    /// A piece of tail is in the archive.
    TailCut {
        /// Its first revision.
        first: Revision,
        /// Its last revision.
        last: Revision,
        /// Its events.
        events: u64,
        /// How old its first change was when it was safe, in milliseconds.
        lag_ms: u64,
        /// Its bytes as stored.
        stored_len: u64,
    },
    /// The archive holds everything up to this revision, the source's newest.
    UpToDate {
        /// The revision.
        revision: Revision,
        /// When the source said so.
        at: TimeMs,
    },
    /// The mirror went on.
    Objects(crate::objects::Count),
    /// A verification goes on.
    Verifying {
        /// Files so far.
        files: u64,
        /// Files of all.
        of_files: u64,
        /// Bytes so far.
        bytes: u64,
        /// Bytes of all.
        of_bytes: u64,
    },
    /// An expiry deletes.
    Deleting {
        /// Files so far.
        files: u64,
        /// Files of all.
        of_files: u64,
    },
    /// A run begins: the archive holds everything up to this revision.
    Begun {
        /// The revision.
        revision: Revision,
    },
    /// A deletion, an expiry or a full failed, or history has a gap: what monitoring should count.
    Failed {
        /// What: a word for machines.
        what: &'static str,
        /// The same in words.
        words: String,
    },
    /// The source has a revision that is not in the archive yet.
    Heard {
        /// The revision.
        revision: Revision,
    },
    /// Everything up to this revision is recoverable, objects included.
    Recoverable {
        /// The revision.
        revision: Revision,
    },
}

/// Who is told. Called often, from the run's own task: it must not wait.
#[derive(Clone)]
pub struct Tell(Arc<dyn Fn(News) + Send + Sync>);

impl Tell {
    /// Tells this function.
    pub fn new(hear: impl Fn(News) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells nobody.
    pub fn nobody() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn news(&self, news: News) {
        (self.0)(news);
    }
    pub(crate) fn fail(&self, what: &'static str, words: impl Into<String>) {
        self.news(News::Failed { what, words: words.into() });
    }
    pub(crate) fn say(&self, words: impl Into<String>) {
        self.news(News::Said(words.into()));
    }
    pub(crate) fn warn(&self, words: impl Into<String>) {
        self.news(News::Warned(words.into()));
    }
}

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}
