//! One page of a tree, checked when it is made: afterwards every element can be read without a further test.

use bytes::Bytes;

use super::format::{
    BUCKET_HEADER_LEN, ELEMENT_BUCKET, ELEMENT_LEN, FLAG_BRANCH, FLAG_LEAF, PAGE_HEADER_LEN, PageHeader, u32_at, u64_at,
};

/// A branch or leaf page (with its overflow), or the inline page of a small bucket.
///
/// All elements lie inside `bytes`, one behind the other as every writer lays them, and the keys of one page ascend strictly.
#[derive(Debug, Clone)]
pub(crate) struct TreePage {
    bytes: Bytes,
    count: usize,
    leaf: bool,
}

impl TreePage {
    /// Checks `bytes` as a tree page.
    pub(crate) fn parse(bytes: Bytes) -> Result<Self, &'static str> {
        let header = PageHeader::decode(&bytes).ok_or("page shorter than its header")?;
        let leaf = match header.flags {
            FLAG_BRANCH => false,
            FLAG_LEAF => true,
            _ => return Err("page is neither branch nor leaf"),
        };
        let page = Self { bytes, count: usize::from(header.count), leaf };
        let body = &page.bytes;
        if !leaf && page.count == 0 {
            return Err("branch page without children");
        }
        if PAGE_HEADER_LEN + page.count * ELEMENT_LEN > body.len() {
            return Err("element table runs over the page end");
        }
        let mut free_from = PAGE_HEADER_LEN + page.count * ELEMENT_LEN;
        let mut previous: Option<&[u8]> = None;
        for index in 0..page.count {
            let (at, key_len, value_len) = page.bounds(index);
            let end = at.checked_add(key_len).and_then(|n| n.checked_add(value_len));
            let Some(end) = end.filter(|end| *end <= body.len()) else {
                return Err("element runs over the page end");
            };
            // Otherwise a small file could hold more than it has bytes.
            if at < free_from {
                return Err("element overlaps the element table or the element before");
            }
            free_from = end;
            let key = &body[at..at + key_len];
            if previous.is_some_and(|before| before >= key) {
                return Err("keys out of order");
            }
            if leaf && page.is_bucket(index) && value_len < BUCKET_HEADER_LEN {
                return Err("bucket header too short");
            }
            previous = Some(key);
        }
        Ok(page)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.leaf
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let (at, key_len, _) = self.bounds(index);
        &self.bytes[at..at + key_len]
    }

    /// The key and the value of a leaf element, sharing the page's memory.
    pub(crate) fn pair(&self, index: usize) -> (Bytes, Bytes) {
        let (at, key_len, value_len) = self.bounds(index);
        (self.bytes.slice(at..at + key_len), self.bytes.slice(at + key_len..at + key_len + value_len))
    }

    /// As [`TreePage::pair`], borrowed.
    pub(crate) fn pair_ref(&self, index: usize) -> (&[u8], &[u8]) {
        let (at, key_len, value_len) = self.bounds(index);
        self.bytes[at..at + key_len + value_len].split_at(key_len)
    }

    /// The child page of a branch element.
    pub(crate) fn child(&self, index: usize) -> u64 {
        u64_at(&self.bytes, PAGE_HEADER_LEN + index * ELEMENT_LEN + 8).unwrap_or(0)
    }

    /// Is this leaf element a bucket?
    pub(crate) fn is_bucket(&self, index: usize) -> bool {
        self.leaf && self.word(index, 0) & ELEMENT_BUCKET != 0
    }

    /// The bucket behind this leaf element: its root page, or its inline page.
    pub(crate) fn bucket(&self, index: usize) -> BucketRoot {
        let (_, value) = self.pair(index);
        match u64_at(&value, 0) {
            Some(0) | None => BucketRoot::Inline(value.slice(BUCKET_HEADER_LEN.min(value.len())..)),
            Some(page) => BucketRoot::Page(page),
        }
    }

    fn word(&self, index: usize, word: usize) -> u32 {
        u32_at(&self.bytes, PAGE_HEADER_LEN + index * ELEMENT_LEN + word * 4).unwrap_or(0)
    }

    /// Where the key begins, its length, and the length of the value behind it.
    fn bounds(&self, index: usize) -> (usize, usize, usize) {
        let element = PAGE_HEADER_LEN + index * ELEMENT_LEN;
        if self.leaf {
            let (pos, key, value) = (self.word(index, 1), self.word(index, 2), self.word(index, 3));
            (element + pos as usize, key as usize, value as usize)
        } else {
            (element + self.word(index, 0) as usize, self.word(index, 1) as usize, 0)
        }
    }
}

/// Where a bucket's tree begins.
#[derive(Debug, Clone)]
pub(crate) enum BucketRoot {
    /// In a page of its own.
    Page(u64),
    /// In these bytes, part of the parent's leaf.
    Inline(Bytes),
}
