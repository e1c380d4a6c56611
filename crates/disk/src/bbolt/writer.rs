//! Writes a whole bbolt file front to back, once, with its size known before the first byte.
//!
//! ```text
//! meta 0 | meta 1 | bucket trees, in name order: leaves, then their branches | zero pages | root leaf
//! ```
//! The meta pages come first and must name the root and the number of pages, yet a big bucket is not held in memory
//! to be measured. So its [`Extent`] bounds the pages it can need; what it does not need stays zero, and bbolt sees
//! those as free pages, since nothing reaches them and the freelist is not stored. Leaves of 256 KiB keep that slack
//! near one percent. The root, whose size is known, is put into the last pages.

use std::io::{self, Write};

use bytes::Bytes;

use super::format::{
    BUCKET_HEADER_LEN, ELEMENT_BUCKET, ELEMENT_LEN, FIRST_DATA_PAGE, FLAG_BRANCH, FLAG_LEAF, FLAG_META, Meta,
    NO_FREELIST, PAGE_HEADER_LEN, PageHeader,
};

const PAGE_SIZE: u64 = 4096;
/// A tree page is closed when its elements reach this many bytes.
const PAGE_FILL: u64 = 256 * 1024;
/// And when it has this many elements: the count is a 16 bit number.
const PAGE_ELEMENTS_MAX: u64 = 32 * 1024;
/// bbolt stores a bucket inside its parent's leaf up to a quarter of a page.
const INLINE_LEN_MAX: usize = PAGE_SIZE as usize / 4;
/// What bbolt accepts as a key and as a value.
const KEY_LEN_MAX: usize = 32_768;
const VALUE_LEN_MAX: usize = (1 << 31) - 2;
/// Any number does; real files have grown to theirs by transactions.
const TXID: u64 = 2;

/// How much a bucket holds. May be more than it really holds, never less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Number of pairs.
    pub records: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
    /// Length of the longest key.
    pub key_len_max: usize,
}

/// What to do about one bucket.
#[derive(Debug, Clone)]
pub enum BucketPlan {
    /// Its pairs, ascending.
    Small(Vec<(Bytes, Bytes)>),
    /// They come later, through the callback of [`Image::write`].
    Streamed(Extent),
}

/// Why a file was not written. What was written until then is worthless.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault<E> {
    /// The target refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bucket's pairs are not what was announced.
    #[error("bucket {bucket}: {what}")]
    Input {
        /// Which.
        bucket: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Whoever delivers the pairs failed.
    #[error("{0}")]
    Source(E),
}

/// The layout of a file that is to be written.
#[derive(Debug, Clone)]
pub struct Image {
    buckets: Vec<(String, BucketPlan)>,
    root_pages: u64,
    high_water: u64,
}

/// Takes the pairs of a streamed bucket: key, value.
pub type Sink<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), WriteFault<E>> + 'a;

impl Image {
    /// Lays out a file with these buckets.
    ///
    /// # Panics
    /// When bucket names do not ascend: they are the program's own.
    pub fn plan(buckets: Vec<(String, BucketPlan)>) -> Self {
        assert!(buckets.windows(2).all(|w| w[0].0 < w[1].0), "bucket names ascend");
        let mut pages = FIRST_DATA_PAGE;
        let mut root_len = PAGE_HEADER_LEN;
        for (name, plan) in &buckets {
            root_len += ELEMENT_LEN + name.len() + BUCKET_HEADER_LEN;
            match plan {
                BucketPlan::Small(pairs) => match inline_len(pairs) {
                    Some(len) => root_len += len,
                    None => pages += tree_pages_max(extent_of(pairs)),
                },
                BucketPlan::Streamed(extent) => pages += tree_pages_max(*extent),
            }
        }
        let root_pages = (root_len as u64).div_ceil(PAGE_SIZE);
        Self { buckets, root_pages, high_water: pages + root_pages }
    }

    /// Bytes that [`Image::write`] will write, to the last one.
    pub fn len(&self) -> u64 {
        self.high_water * PAGE_SIZE
    }

    /// Never: there are always the meta pages.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the file. `feed` is asked for the pairs of each streamed bucket and hands them on in ascending order.
    ///
    /// # Errors
    /// [`WriteFault`] when `out` or `feed` fails, when keys do not ascend, or when there are more than announced.
    pub fn write<W, E, F>(&self, out: W, mut feed: F) -> Result<W, WriteFault<E>>
    where
        W: Write,
        F: FnMut(&str, &mut Sink<'_, E>) -> Result<(), WriteFault<E>>,
    {
        let mut pages = Pages { out, next: 0 };
        let root_page = self.high_water - self.root_pages;
        self.write_metas(&mut pages, root_page)?;
        let mut root = PageBuilder::default();
        for (name, plan) in &self.buckets {
            let header = match plan {
                BucketPlan::Small(pairs) if inline_len(pairs).is_some() => inline_bucket(pairs),
                BucketPlan::Small(pairs) => {
                    let mut tree = Tree::new(name, &mut pages);
                    for (key, value) in pairs {
                        tree.push(key, value)?;
                    }
                    bucket_header(tree.finish()?).to_vec()
                }
                BucketPlan::Streamed(extent) => {
                    let limit = pages.next + tree_pages_max(*extent);
                    let mut tree = Tree::new(name, &mut pages);
                    feed(name, &mut |key, value| tree.push(key, value))?;
                    let tree_root = tree.finish()?;
                    if pages.next > limit {
                        let what = "holds more than was announced";
                        return Err(WriteFault::Input { bucket: name.clone(), what });
                    }
                    bucket_header(tree_root).to_vec()
                }
            };
            root.push_leaf(ELEMENT_BUCKET, name.as_bytes(), &header);
        }
        pages.skip_to(root_page)?;
        pages.write(FLAG_LEAF, &mut root)?;
        assert_eq!(pages.next, self.high_water, "the root's size was planned");
        Ok(pages.out)
    }

    fn write_metas<W: Write>(&self, pages: &mut Pages<W>, root: u64) -> io::Result<()> {
        for id in 0..FIRST_DATA_PAGE {
            let header = PageHeader { id, flags: FLAG_META, count: 0, overflow: 0 };
            let meta = Meta {
                page_size: PAGE_SIZE as u32,
                root,
                sequence: 0,
                freelist: NO_FREELIST,
                high_water: self.high_water,
                txid: TXID + id,
            };
            let mut bytes = [header.encode().as_slice(), &meta.encode()].concat();
            bytes.resize(PAGE_SIZE as usize, 0);
            pages.out.write_all(&bytes)?;
            pages.next += 1;
        }
        Ok(())
    }
}

/// The most pages that a tree over this extent takes: leaves, and every level of branches.
fn tree_pages_max(extent: Extent) -> u64 {
    let (mut elements, mut bytes) = (extent.records, extent.records * ELEMENT_LEN as u64 + extent.bytes);
    let mut pages = 0;
    loop {
        let nodes = nodes_max(elements, bytes);
        pages += match nodes {
            1 => (PAGE_HEADER_LEN as u64 + bytes).div_ceil(PAGE_SIZE),
            // each node rounds up to whole pages
            n => (bytes + n * PAGE_HEADER_LEN as u64) / PAGE_SIZE + n,
        };
        if nodes == 1 {
            return pages;
        }
        (elements, bytes) = (nodes, nodes * (ELEMENT_LEN + extent.key_len_max) as u64);
    }
}

/// All nodes but the last are closed because one of the two limits was reached.
fn nodes_max(elements: u64, bytes: u64) -> u64 {
    (bytes / PAGE_FILL + elements / PAGE_ELEMENTS_MAX + 1).min(elements).max(1)
}

fn extent_of(pairs: &[(Bytes, Bytes)]) -> Extent {
    pairs.iter().fold(Extent::default(), |sum, (key, value)| Extent {
        records: sum.records + 1,
        bytes: sum.bytes + (key.len() + value.len()) as u64,
        key_len_max: sum.key_len_max.max(key.len()),
    })
}

fn inline_len(pairs: &[(Bytes, Bytes)]) -> Option<usize> {
    let len = pairs.iter().map(|(k, v)| ELEMENT_LEN + k.len() + v.len()).sum::<usize>() + PAGE_HEADER_LEN;
    (len <= INLINE_LEN_MAX).then_some(len)
}

fn bucket_header(root: u64) -> [u8; BUCKET_HEADER_LEN] {
    let mut out = [0; BUCKET_HEADER_LEN];
    out[..8].copy_from_slice(&root.to_le_bytes());
    out
}

fn inline_bucket(pairs: &[(Bytes, Bytes)]) -> Vec<u8> {
    let mut page = PageBuilder::default();
    for (key, value) in pairs {
        page.push_leaf(0, key, value);
    }
    let mut out = bucket_header(0).to_vec();
    page.emit(PageHeader { id: 0, flags: FLAG_LEAF, count: 0, overflow: 0 }, &mut out).expect("memory takes all");
    out
}

/// Lays pages down, one behind the other.
struct Pages<W> {
    out: W,
    next: u64,
}

impl<W: Write> Pages<W> {
    /// Writes the built page with as much overflow as it needs, and returns its id.
    fn write(&mut self, flags: u16, page: &mut PageBuilder) -> io::Result<u64> {
        let id = self.next;
        let len = page.len() as u64;
        let pages = len.div_ceil(PAGE_SIZE);
        page.emit(PageHeader { id, flags, count: 0, overflow: (pages - 1) as u32 }, &mut self.out)?;
        let padding = [0; PAGE_SIZE as usize];
        self.out.write_all(&padding[..(pages * PAGE_SIZE - len) as usize])?;
        self.next += pages;
        Ok(id)
    }

    fn skip_to(&mut self, page: u64) -> io::Result<()> {
        for _ in self.next..page {
            self.out.write_all(&[0; PAGE_SIZE as usize])?;
        }
        self.next = page;
        Ok(())
    }
}

/// A page that grows element by element.
#[derive(Default)]
struct PageBuilder {
    /// Element heads; their positions are counted from the first data byte until the page is emitted.
    elements: Vec<Element>,
    data: Vec<u8>,
    first_key_len: usize,
}

struct Element {
    /// Flags of a leaf element; `None` for a branch.
    flags: Option<u32>,
    at: u32,
    key_len: u32,
    /// Value length, or the child page.
    tail: u64,
}

impl PageBuilder {
    fn push_leaf(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        self.push(Some(flags), key, value.len() as u64);
        self.data.extend_from_slice(value);
    }

    fn push_branch(&mut self, key: &[u8], child: u64) {
        self.push(None, key, child);
    }

    fn push(&mut self, flags: Option<u32>, key: &[u8], tail: u64) {
        if self.elements.is_empty() {
            self.first_key_len = key.len();
        }
        self.elements.push(Element { flags, at: self.data.len() as u32, key_len: key.len() as u32, tail });
        self.data.extend_from_slice(key);
    }

    fn len(&self) -> usize {
        PAGE_HEADER_LEN + self.elements.len() * ELEMENT_LEN + self.data.len()
    }

    fn is_full(&self) -> bool {
        let bytes = self.elements.len() * ELEMENT_LEN + self.data.len();
        bytes as u64 >= PAGE_FILL || self.elements.len() as u64 >= PAGE_ELEMENTS_MAX
    }

    fn first_key(&self) -> &[u8] {
        &self.data[..self.first_key_len]
    }

    /// Writes header, elements and data, and empties the builder.
    fn emit<W: Write>(&mut self, header: PageHeader, out: &mut W) -> io::Result<()> {
        let count = self.elements.len();
        let mut head = Vec::with_capacity(PAGE_HEADER_LEN + count * ELEMENT_LEN);
        head.extend_from_slice(&PageHeader { count: count as u16, ..header }.encode());
        for (index, element) in self.elements.iter().enumerate() {
            // positions count from the element's own head
            let pos = ((count - index) * ELEMENT_LEN) as u32 + element.at;
            match element.flags {
                Some(flags) => {
                    for word in [flags, pos, element.key_len, element.tail as u32] {
                        head.extend_from_slice(&word.to_le_bytes());
                    }
                }
                None => {
                    head.extend_from_slice(&pos.to_le_bytes());
                    head.extend_from_slice(&element.key_len.to_le_bytes());
                    head.extend_from_slice(&element.tail.to_le_bytes());
                }
            }
        }
        out.write_all(&head)?;
        out.write_all(&self.data)?;
        self.elements.clear();
        self.data.clear();
        Ok(())
    }
}

/// One bucket's tree, written leaf by leaf.
struct Tree<'a, W> {
    name: &'a str,
    pages: &'a mut Pages<W>,
    leaf: PageBuilder,
    /// First key and page id of each node of the level below.
    nodes: Vec<(Vec<u8>, u64)>,
    last_key: Vec<u8>,
}

impl<'a, W: Write> Tree<'a, W> {
    fn new(name: &'a str, pages: &'a mut Pages<W>) -> Self {
        Self { name, pages, leaf: PageBuilder::default(), nodes: Vec::new(), last_key: Vec::new() }
    }

    fn push<E>(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteFault<E>> {
        let refuse = |what| Err(WriteFault::Input { bucket: self.name.to_owned(), what });
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            return refuse("key is empty or too long");
        }
        if value.len() > VALUE_LEN_MAX {
            return refuse("value is too long");
        }
        if key <= self.last_key.as_slice() {
            return refuse("keys do not ascend");
        }
        self.leaf.push_leaf(0, key, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if self.leaf.is_full() {
            self.close_leaf()?;
        }
        Ok(())
    }

    fn close_leaf(&mut self) -> io::Result<()> {
        let first = self.leaf.first_key().to_vec();
        let id = self.pages.write(FLAG_LEAF, &mut self.leaf)?;
        self.nodes.push((first, id));
        Ok(())
    }

    /// Writes what is left and the branches; returns the root page.
    fn finish(mut self) -> io::Result<u64> {
        if self.nodes.is_empty() || !self.leaf.elements.is_empty() {
            self.close_leaf()?;
        }
        while self.nodes.len() > 1 {
            let mut above = Vec::new();
            let mut branch = PageBuilder::default();
            let below = std::mem::take(&mut self.nodes);
            let last = below.len() - 1;
            for (index, (key, child)) in below.into_iter().enumerate() {
                branch.push_branch(&key, child);
                if branch.is_full() || index == last {
                    let first = branch.first_key().to_vec();
                    above.push((first, self.pages.write(FLAG_BRANCH, &mut branch)?));
                }
            }
            self.nodes = above;
        }
        Ok(self.nodes[0].1)
    }
}
