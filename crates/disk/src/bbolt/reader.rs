//! Opens a bbolt file and checks all of its structure before a single record is handed out.
//!
//! ```text
//! meta 0 | meta 1 | pages …      the valid meta with the higher transaction id names the root page
//! root leaf: bucket name -> header (root page id, sequence) [+ inline page]
//! ```
//! Every page is read once by the check; no page may be used twice, so cycles cannot exist. Any bytes whatever give
//! a database or a [`BoltFault`], never a panic, and no allocation exceeds the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::cursor::Cursor;
use super::format::{
    FIRST_DATA_PAGE, FLAG_FREELIST, FLAG_META, META_LEN, Meta, NO_FREELIST, PAGE_HEADER_LEN, PageHeader, u64_at,
};
use super::page::{BucketRoot, TreePage};

/// Deeper trees do not exist: 64 levels of 2 children hold more pages than a page id can name.
const DEPTH_MAX: usize = 64;
const READ_AHEAD_LEN_MAX: u64 = 256 * 1024;
/// Page sizes that bbolt looks for when the first meta page is damaged.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 10..=24;

/// Where pages come from.
pub trait PageSource {
    /// Bytes in all.
    ///
    /// # Errors
    /// When the system cannot tell.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// When the bytes do not exist or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl PageSource for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl PageSource for &[u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes =
            from.checked_add(buffer.len()).and_then(|to| self.get(from..to)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum BoltFault {
    /// Not a bbolt file at all, or both meta pages are gone.
    #[error("invalid database")]
    NotADatabase,
    /// Of a version of bbolt that does not exist yet.
    #[error("version mismatch")]
    Version,
    /// Both meta pages fail their checksum.
    #[error("checksum error")]
    MetaChecksum,
    /// The file is shorter than its meta page says.
    #[error("file size too small: {pages} pages of {page_size} bytes are expected, the file has {size} bytes")]
    Truncated {
        /// Pages it should have.
        pages: u64,
        /// Bytes of one.
        page_size: u32,
        /// Bytes there are.
        size: u64,
    },
    /// A page contradicts the format.
    #[error("page {page}: {what}")]
    Page {
        /// Its id.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The system could not read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A bbolt file whose structure was found sound.
#[derive(Debug)]
pub struct Database<S> {
    source: S,
    meta: Meta,
    root: TreePageRoot,
}

/// The root of the bucket of buckets.
#[derive(Debug)]
struct TreePageRoot(u64);

impl<S: PageSource> Database<S> {
    /// Opens the first `size` bytes of `source` (all of it when `None`) and checks them.
    ///
    /// # Errors
    /// [`BoltFault`] when the bytes are not a sound database.
    pub fn open(source: S, size: Option<u64>) -> Result<Self, BoltFault> {
        let size = size.unwrap_or(source.size()?).min(source.size()?);
        let meta = newest_meta(&source, size)?;
        let room = size / u64::from(meta.page_size);
        if meta.high_water > room {
            return Err(BoltFault::Truncated { pages: meta.high_water, page_size: meta.page_size, size });
        }
        let database = Self { source, root: TreePageRoot(meta.root), meta };
        Check { pages: Pages::new(&database), used: PageSet::new(meta.high_water) }.run()?;
        Ok(database)
    }

    /// The size that bbolt itself reports: all pages below the high-water mark.
    pub fn size(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_size)
    }

    /// Names of the top level buckets, in order.
    ///
    /// # Errors
    /// [`BoltFault`] when the file changed or fails under us.
    pub fn buckets(&self) -> Result<Vec<Bytes>, BoltFault> {
        let mut names = Vec::new();
        let mut cursor = Cursor::new(self, BucketRoot::Page(self.root.0))?;
        while let Some((name, _, is_bucket)) = cursor.next_element()? {
            if is_bucket {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// A walk over one top level bucket; `None` when there is no such bucket.
    ///
    /// # Errors
    /// [`BoltFault`] when the file changed or fails under us.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Cursor<'_, S>>, BoltFault> {
        let mut root = Cursor::new(self, BucketRoot::Page(self.root.0))?;
        match root.find_bucket(name)? {
            Some(bucket) => Ok(Some(Cursor::new(self, bucket)?)),
            None => Ok(None),
        }
    }

    /// The value under a key of a top level bucket: for small buckets (it walks).
    ///
    /// # Errors
    /// [`BoltFault`] when the file changed or fails under us.
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, BoltFault> {
        let Some(mut cursor) = self.bucket(bucket)? else { return Ok(None) };
        while let Some((k, v)) = cursor.next_pair()? {
            if k == key {
                return Ok(Some(v));
            }
        }
        Ok(None)
    }

    pub(crate) fn inline_page(&self, bytes: Bytes) -> Result<TreePage, BoltFault> {
        let page = TreePage::parse(bytes).map_err(|what| BoltFault::Page { page: 0, what })?;
        if page.is_leaf() { Ok(page) } else { Err(BoltFault::Page { page: 0, what: "inline page is not a leaf" }) }
    }
}

/// Pages as one walk takes them: what lies behind a page is read with it once pages are wanted in the order they lie in.
#[derive(Debug)]
pub(crate) struct Pages<'a, S> {
    database: &'a Database<S>,
    /// The first page of `bytes`.
    first: u64,
    bytes: Bytes,
    /// Bytes that the next reading takes.
    ahead: u64,
}

impl<'a, S: PageSource> Pages<'a, S> {
    pub(crate) fn new(database: &'a Database<S>) -> Self {
        Self { database, first: 0, bytes: Bytes::new(), ahead: 0 }
    }

    pub(crate) fn database(&self) -> &'a Database<S> {
        self.database
    }

    /// A tree page with its overflow.
    pub(crate) fn tree(&mut self, id: u64) -> Result<TreePage, BoltFault> {
        let (_, bytes) = self.raw(id)?;
        TreePage::parse(bytes).map_err(|what| BoltFault::Page { page: id, what })
    }

    /// A page of any kind with its overflow.
    pub(crate) fn raw(&mut self, id: u64) -> Result<(PageHeader, Bytes), BoltFault> {
        let fault = |what| BoltFault::Page { page: id, what };
        let Meta { page_size, high_water, .. } = self.database.meta;
        let page_size = u64::from(page_size);
        if !(FIRST_DATA_PAGE..high_water).contains(&id) {
            return Err(fault("page id out of bounds"));
        }
        let header = PageHeader::decode(&self.take(id, page_size)?).ok_or(fault("page shorter than its header"))?;
        if header.id != id {
            return Err(fault("page carries another page's id"));
        }
        let pages = u64::from(header.overflow) + 1;
        if pages > high_water - id {
            return Err(fault("overflow runs over the file end"));
        }
        Ok((header, self.take(id, pages * page_size)?))
    }

    /// `len` bytes from page `id`, which the file has.
    fn take(&mut self, id: u64, len: u64) -> io::Result<Bytes> {
        let page_size = u64::from(self.database.meta.page_size);
        if let Some(at) = id.checked_sub(self.first).map(|pages| pages * page_size)
            && at + len <= self.bytes.len() as u64
        {
            return Ok(self.bytes.slice(at as usize..(at + len) as usize));
        }
        let follows = id >= self.first && (id - self.first) * page_size <= self.bytes.len() as u64 + page_size;
        self.ahead = if follows { (self.ahead * 2).clamp(page_size, READ_AHEAD_LEN_MAX) } else { page_size };
        let rest = (self.database.meta.high_water - id) * page_size;
        let mut bytes = vec![0; self.ahead.max(len).min(rest) as usize];
        self.database.source.read_at(id * page_size, &mut bytes)?;
        (self.first, self.bytes) = (id, Bytes::from(bytes));
        Ok(self.bytes.slice(..len as usize))
    }
}

/// The valid meta page with the higher transaction id, as bbolt chooses.
fn newest_meta<S: PageSource>(source: &S, size: u64) -> Result<Meta, BoltFault> {
    let first = meta_at(source, size, 0, 0)?;
    let second = match &first {
        Ok(meta) => meta_at(source, size, u64::from(meta.page_size), 1)?,
        Err(_) => second_meta(source, size)?,
    };
    match (first, second) {
        (Ok(a), Ok(b)) => Ok(if b.txid > a.txid { b } else { a }),
        (Ok(meta), Err(_)) | (Err(_), Ok(meta)) => Ok(meta),
        (Err(fault), Err(_)) => Err(fault),
    }
}

/// Looks for the second meta page when the first cannot say where it is.
fn second_meta<S: PageSource>(source: &S, size: u64) -> Result<Result<Meta, BoltFault>, BoltFault> {
    for shift in PAGE_SIZES {
        if let Ok(meta) = meta_at(source, size, 1 << shift, 1)?
            && meta.page_size == 1 << shift
        {
            return Ok(Ok(meta));
        }
    }
    Ok(Err(BoltFault::NotADatabase))
}

/// The outer result is the system's, the inner one the page's.
fn meta_at<S: PageSource>(source: &S, size: u64, offset: u64, id: u64) -> Result<Result<Meta, BoltFault>, BoltFault> {
    let mut bytes = [0; PAGE_HEADER_LEN + META_LEN];
    if offset + bytes.len() as u64 > size {
        return Ok(Err(BoltFault::NotADatabase));
    }
    source.read_at(offset, &mut bytes)?;
    let header = PageHeader::decode(&bytes);
    let meta = match Meta::decode(&bytes[PAGE_HEADER_LEN..]) {
        Ok(meta) => meta,
        Err(super::format::MetaFault::Magic) => return Ok(Err(BoltFault::NotADatabase)),
        Err(super::format::MetaFault::Version) => return Ok(Err(BoltFault::Version)),
        Err(super::format::MetaFault::Checksum) => return Ok(Err(BoltFault::MetaChecksum)),
    };
    let sound_size = meta.page_size.is_power_of_two() && PAGE_SIZES.contains(&meta.page_size.trailing_zeros());
    let sound_header = header.is_some_and(|h| h.id == id && h.flags & FLAG_META != 0);
    if !sound_size || !sound_header || meta.high_water > u64::MAX >> 24 {
        return Ok(Err(BoltFault::NotADatabase));
    }
    Ok(Ok(meta))
}

/// Which pages something already points to.
struct PageSet(Vec<u64>);

impl PageSet {
    fn new(pages: u64) -> Self {
        Self(vec![0; (pages / 64 + 1) as usize])
    }

    /// `false` when the page was there already.
    fn insert(&mut self, page: u64) -> bool {
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }
}

/// One pass over everything that the root reaches.
struct Check<'a, S> {
    pages: Pages<'a, S>,
    used: PageSet,
}

/// Keys of a subtree lie in `[low, high)`.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
}

const UNBOUNDED: Bounds<'static> = Bounds { low: None, high: None };

impl<S: PageSource> Check<'_, S> {
    fn run(mut self) -> Result<(), BoltFault> {
        self.freelist()?;
        self.subtree(self.pages.database().root.0, UNBOUNDED, 0)
    }

    /// A stored freelist must name pages that exist, each once, and none that is in use.
    fn freelist(&mut self) -> Result<(), BoltFault> {
        let meta = self.pages.database().meta;
        let id = meta.freelist;
        if id == NO_FREELIST {
            return Ok(());
        }
        let fault = |what| BoltFault::Page { page: id, what };
        let (header, bytes) = self.pages.raw(id)?;
        if header.flags != FLAG_FREELIST {
            return Err(fault("page is not a freelist"));
        }
        self.claim(id, header.overflow)?;
        let (count, from) = match header.count {
            0xFFFF => (u64_at(&bytes, PAGE_HEADER_LEN).ok_or(fault("freelist without count"))?, PAGE_HEADER_LEN + 8),
            n => (u64::from(n), PAGE_HEADER_LEN),
        };
        if count > (bytes.len() - from) as u64 / 8 {
            return Err(fault("freelist runs over the page end"));
        }
        for n in 0..count as usize {
            let free = u64_at(&bytes, from + n * 8).unwrap_or(0);
            if !(FIRST_DATA_PAGE..meta.high_water).contains(&free) {
                return Err(fault("freelist names a page that does not exist"));
            }
            if !self.used.insert(free) {
                return Err(fault("freelist names a page twice"));
            }
        }
        Ok(())
    }

    fn subtree(&mut self, id: u64, bounds: Bounds<'_>, depth: usize) -> Result<(), BoltFault> {
        let fault = |what| BoltFault::Page { page: id, what };
        if depth > DEPTH_MAX {
            return Err(fault("tree too deep"));
        }
        let (header, bytes) = self.pages.raw(id)?;
        self.claim(id, header.overflow)?;
        let page = TreePage::parse(bytes).map_err(fault)?;
        within(&page, bounds).map_err(fault)?;
        if page.is_leaf() {
            return self.nested(&page, depth);
        }
        for index in 0..page.count() {
            let next = if index + 1 < page.count() { Some(page.key(index + 1)) } else { bounds.high };
            self.subtree(page.child(index), Bounds { low: Some(page.key(index)), high: next }, depth + 1)?;
        }
        Ok(())
    }

    /// Buckets inside a leaf.
    fn nested(&mut self, leaf: &TreePage, depth: usize) -> Result<(), BoltFault> {
        for index in (0..leaf.count()).filter(|i| leaf.is_bucket(*i)) {
            match leaf.bucket(index) {
                BucketRoot::Page(root) => self.subtree(root, UNBOUNDED, depth + 1)?,
                BucketRoot::Inline(bytes) => {
                    if depth > DEPTH_MAX {
                        return Err(BoltFault::Page { page: 0, what: "buckets nested too deep" });
                    }
                    let page = self.pages.database().inline_page(bytes)?;
                    self.nested(&page, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn claim(&mut self, id: u64, overflow: u32) -> Result<(), BoltFault> {
        for page in id..=id + u64::from(overflow) {
            if !self.used.insert(page) {
                return Err(BoltFault::Page { page, what: "page is used twice" });
            }
        }
        Ok(())
    }
}

fn within(page: &TreePage, bounds: Bounds<'_>) -> Result<(), &'static str> {
    if page.count() == 0 {
        return Ok(());
    }
    if bounds.low.is_some_and(|low| page.key(0) < low) {
        return Err("first key is below the key that its parent gives");
    }
    if bounds.high.is_some_and(|high| page.key(page.count() - 1) >= high) {
        return Err("last key is not below the next key of its parent");
    }
    Ok(())
}
