//! A walk over one bucket, in key order, that holds one page per level.

use bytes::Bytes;

use super::page::{BucketRoot, TreePage};
use super::reader::{BoltFault, Database, PageSource, Pages};

/// Levels below a root that a sound file can have; the check at opening found no more.
const LEVELS_MAX: usize = 65;

/// A key and its value, in their page.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// See [`Database::bucket`].
#[derive(Debug)]
pub struct Cursor<'a, S> {
    pages: Pages<'a, S>,
    /// Pages from the root down, each with the element to visit next.
    path: Vec<(TreePage, usize)>,
}

impl<'a, S: PageSource> Cursor<'a, S> {
    pub(crate) fn new(database: &'a Database<S>, root: BucketRoot) -> Result<Self, BoltFault> {
        let mut pages = Pages::new(database);
        let page = match root {
            BucketRoot::Page(id) => pages.tree(id)?,
            BucketRoot::Inline(bytes) => database.inline_page(bytes)?,
        };
        Ok(Self { pages, path: vec![(page, 0)] })
    }

    /// The next key and value. Buckets inside this bucket are passed over.
    ///
    /// # Errors
    /// [`BoltFault`] when the file changed or fails under us.
    pub fn next_pair(&mut self) -> Result<Option<(Bytes, Bytes)>, BoltFault> {
        while let Some((key, value, is_bucket)) = self.next_element()? {
            if !is_bucket {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    /// As [`Cursor::next_pair`], without keeping the page alive.
    ///
    /// # Errors
    /// As for [`Cursor::next_pair`].
    pub(crate) fn next_pair_ref(&mut self) -> Result<Option<Pair<'_>>, BoltFault> {
        loop {
            match self.advance()? {
                None => return Ok(None),
                Some((page, index)) if page.is_bucket(index) => {}
                Some(_) => break,
            }
        }
        Ok(self.path.last().map(|(page, next)| page.pair_ref(next - 1)))
    }

    pub(crate) fn next_element(&mut self) -> Result<Option<(Bytes, Bytes, bool)>, BoltFault> {
        Ok(self.advance()?.map(|(page, index)| {
            let (key, value) = page.pair(index);
            (key, value, page.is_bucket(index))
        }))
    }

    pub(crate) fn find_bucket(&mut self, name: &[u8]) -> Result<Option<BucketRoot>, BoltFault> {
        while let Some((page, index)) = self.advance()? {
            if page.key(index) == name && page.is_bucket(index) {
                return Ok(Some(page.bucket(index)));
            }
        }
        Ok(None)
    }

    /// Moves to the next leaf element.
    fn advance(&mut self) -> Result<Option<(&TreePage, usize)>, BoltFault> {
        loop {
            let levels = self.path.len();
            let Some((page, next)) = self.path.last_mut() else { return Ok(None) };
            if *next == page.count() {
                self.path.pop();
                continue;
            }
            let index = *next;
            *next += 1;
            if page.is_leaf() {
                break;
            }
            let child = page.child(index);
            if levels >= LEVELS_MAX {
                return Err(BoltFault::Page { page: child, what: "tree too deep" });
            }
            let child = self.pages.tree(child)?;
            self.path.push((child, 0));
        }
        Ok(self.path.last().map(|(page, next)| (page, next - 1)))
    }
}
