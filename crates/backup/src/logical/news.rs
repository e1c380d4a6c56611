//! What a run tells whoever watches it.

use std::sync::Arc;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// What is being done.
    Step(String),
    /// Something that a person should read.
    Said(String),
    /// Something that a person should read and do something about.
    Warned(String),
    /// So much more is to be done than was known before.
    More {
        /// Objects, or segments.
        objects: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So much more is done.
    Done {
        /// Objects, or segments.
        objects: u64,
        /// Bytes.
        bytes: u64,
    },
}

/// Who is told. It must not wait.
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

    pub(super) fn news(&self, news: News) {
        (self.0)(news);
    }

    pub(super) fn step(&self, words: impl Into<String>) {
        self.news(News::Step(words.into()));
    }

    pub(super) fn say(&self, words: impl Into<String>) {
        self.news(News::Said(words.into()));
    }

    pub(super) fn warn(&self, words: impl Into<String>) {
        self.news(News::Warned(words.into()));
    }

    pub(super) fn more(&self, objects: u64, bytes: u64) {
        self.news(News::More { objects, bytes });
    }

    pub(super) fn done(&self, objects: u64, bytes: u64) {
        self.news(News::Done { objects, bytes });
    }
}

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}
