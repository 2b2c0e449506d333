//! Reads a database: the root, its buckets, their entries in order. One page at a time is in memory.

use crate::error::BboltError;
use crate::layout::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, IS_BUCKET, LEAF, META_BYTES, Meta, PAGE_HEADER_BYTES,
    PageHeader, u32_at, u64_at,
};
use crate::limits::{BUCKETS_MAX, DEPTH_MAX, PAGE_BYTES_MAX, PAGE_BYTES_MIN, RUN_BYTES_MAX};
use crate::source::ReadAt;
use bytes::Bytes;

/// An open database.
#[derive(Debug)]
pub struct Database<R> {
    source: R,
    meta: Meta,
}

/// A key and what is kept under it. Both share the page's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value; of a bucket, where its pages are.
    pub value: Bytes,
    /// Whether it is a bucket.
    pub is_bucket: bool,
}

/// The pages of a bucket begin here.
#[derive(Clone, Debug)]
enum Root {
    Page(u64),
    Inline(Page),
}

impl<R: ReadAt> Database<R> {
    /// Checks the meta pages and takes the newer valid one.
    pub fn open(source: R) -> Result<Self, BboltError> {
        let len = source
            .bytes_len()
            .map_err(BboltError::io("ask for the length"))?;
        let meta = newest_meta(&source, len)?;
        let needed_bytes = meta.high_water.saturating_mul(u64::from(meta.page_bytes));
        if needed_bytes > len {
            return Err(BboltError::CutShort {
                actual_bytes: len,
                needed_bytes,
            });
        }
        Ok(Database { source, meta })
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        u64::from(self.meta.page_bytes)
    }

    /// Bytes in use, free pages included.
    #[must_use]
    pub fn bytes_len(&self) -> u64 {
        self.meta.high_water.saturating_mul(self.page_bytes())
    }

    /// Names of the buckets, in order.
    pub fn buckets(&self) -> Result<Vec<Bytes>, BboltError> {
        let mut names = Vec::new();
        for entry in self.root_entries() {
            let entry = entry?;
            if entry.is_bucket && names.len() < BUCKETS_MAX {
                names.push(entry.key);
            }
        }
        Ok(names)
    }

    /// The entries of a bucket in the order of their keys; none when there is no such bucket.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Entries<'_, R>>, BboltError> {
        for entry in self.root_entries().take(BUCKETS_MAX) {
            let entry = entry?;
            if entry.is_bucket && entry.key == name {
                let root = bucket_root(&entry.value).ok_or_else(|| {
                    let page = self.meta.root;
                    self.damaged(page, 0, format!("the bucket {name:?} has no place"))
                })?;
                return Ok(Some(Entries::new(self, root)));
            }
        }
        Ok(None)
    }

    /// The last entry of a bucket: one page of each level is read.
    pub fn last(&self, name: &[u8]) -> Result<Option<Entry>, BboltError> {
        match self.bucket(name)? {
            Some(entries) => entries.last_entry(),
            None => Ok(None),
        }
    }

    fn root_entries(&self) -> Entries<'_, R> {
        Entries::new(self, Root::Page(self.meta.root))
    }

    fn damaged(&self, page: u64, within: usize, what: impl Into<String>) -> BboltError {
        BboltError::Damaged {
            page,
            offset: page
                .saturating_mul(self.page_bytes())
                .saturating_add(within as u64),
            what: what.into(),
        }
    }

    /// A branch or leaf page with what runs over.
    fn page(&self, number: u64) -> Result<Page, BboltError> {
        let wrong = |what: String| self.damaged(number, 0, what);
        if number < 2 || number >= self.meta.high_water {
            return Err(wrong(format!(
                "a tree leads to page {number}, in use are 2 to {}",
                self.meta.high_water.saturating_sub(1)
            )));
        }
        let offset = number * self.page_bytes();
        let mut head = [0; PAGE_HEADER_BYTES];
        self.read(&mut head, offset)?;
        let header = PageHeader::parse(&head).ok_or_else(|| wrong("it has no header".into()))?;
        if header.number != number {
            return Err(wrong(format!("it says it is page {}", header.number)));
        }
        let run = u64::from(header.overflow) + 1;
        if run > self.meta.high_water - number || run * self.page_bytes() > RUN_BYTES_MAX {
            return Err(wrong(format!("it claims {run} pages")));
        }
        let len = usize::try_from(run * self.page_bytes())
            .map_err(|_| wrong("it is too large for this machine".into()))?;
        let mut bytes = vec![0; len];
        self.read(&mut bytes, offset)?;
        Page::new(number, &header, bytes.into()).ok_or_else(|| {
            wrong(format!(
                "it is neither branch nor leaf (flags {:#x}, {} elements)",
                header.flags, header.count
            ))
        })
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), BboltError> {
        let read = self.source.read_exact_at(buffer, offset);
        read.map_err(BboltError::io("read a page"))
    }
}

fn newest_meta<R: ReadAt>(source: &R, len: u64) -> Result<Meta, BboltError> {
    let at = |offset: u64| {
        let mut page = [0; PAGE_HEADER_BYTES + META_BYTES];
        if offset.saturating_add(page.len() as u64) > len {
            return Ok(Err("it is too short"));
        }
        source
            .read_exact_at(&mut page, offset)
            .map_err(BboltError::io("read a meta page"))?;
        Ok(Meta::parse(&page))
    };
    let first = at(0)?;
    let mut second = None;
    let mut page_bytes = match first {
        Ok(meta) => u64::from(meta.page_bytes),
        Err(_) => PAGE_BYTES_MIN,
    };
    // Without the first nobody says where the second is: it begins with its own page size.
    while second.is_none() && page_bytes <= PAGE_BYTES_MAX {
        second = at(page_bytes)?
            .ok()
            .filter(|meta| u64::from(meta.page_bytes) == page_bytes);
        if first.is_ok() {
            break;
        }
        page_bytes *= 2;
    }
    match (first, second) {
        (Ok(first), Some(second)) if second.transaction > first.transaction => Ok(second),
        (Ok(first), _) => Ok(first),
        (Err(_), Some(second)) => Ok(second),
        (Err(why), None) => Err(BboltError::NotBbolt(why.to_owned())),
    }
}

/// Where a bucket's value says that its pages are.
fn bucket_root(value: &Bytes) -> Option<Root> {
    match u64_at(value, 0)? {
        0 => {
            let page = value
                .get(BUCKET_BYTES..)
                .map(|page| value.slice_ref(page))?;
            let header = PageHeader::parse(&page)?;
            let page = Page::new(0, &header, page)?;
            page.is_leaf.then_some(Root::Inline(page))
        }
        page => Some(Root::Page(page)),
    }
}

/// A branch or leaf page; its elements are checked as they are read.
#[derive(Clone, Debug)]
struct Page {
    number: u64,
    is_leaf: bool,
    count: usize,
    bytes: Bytes,
}

impl Page {
    fn new(number: u64, header: &PageHeader, bytes: Bytes) -> Option<Page> {
        let is_leaf = header.flags & LEAF != 0;
        let is_branch = header.flags & BRANCH != 0;
        let count = usize::from(header.count);
        let fits = PAGE_HEADER_BYTES + count * ELEMENT_BYTES <= bytes.len();
        (is_leaf != is_branch && fits).then_some(Page {
            number,
            is_leaf,
            count,
            bytes,
        })
    }

    /// Where element `index` is; none past the last.
    fn element(&self, index: usize) -> usize {
        PAGE_HEADER_BYTES + index * ELEMENT_BYTES
    }

    fn part(&self, element: usize, position: u32, skip: u32, len: u32) -> Option<Bytes> {
        let start = element
            .checked_add(position as usize)?
            .checked_add(skip as usize)?;
        let end = start.checked_add(len as usize)?;
        let part = self.bytes.get(start..end)?;
        Some(self.bytes.slice_ref(part))
    }

    fn leaf(&self, index: usize) -> Option<Entry> {
        let at = self.element(index);
        let word = |place| u32_at(&self.bytes, at + place);
        let (flags, position, key_len, value_len) = (word(0)?, word(4)?, word(8)?, word(12)?);
        Some(Entry {
            key: self.part(at, position, 0, key_len)?,
            value: self.part(at, position, key_len, value_len)?,
            is_bucket: flags & IS_BUCKET != 0,
        })
    }

    fn child(&self, index: usize) -> Option<u64> {
        u64_at(&self.bytes, self.element(index) + 8)
    }
}

/// The entries of a bucket, in order. Ends after the first error.
#[derive(Debug)]
pub struct Entries<'a, R> {
    database: &'a Database<R>,
    root: Option<Root>,
    /// From the root down: pages, and the element that is next.
    path: Vec<(Page, usize)>,
    /// Pages that may still be visited: more than the file has means a circle.
    pages_left: u64,
    last: Option<Bytes>,
    failed: bool,
}

impl<'a, R: ReadAt> Entries<'a, R> {
    fn new(database: &'a Database<R>, root: Root) -> Self {
        Entries {
            database,
            root: Some(root),
            path: Vec::new(),
            pages_left: database.meta.high_water,
            last: None,
            failed: false,
        }
    }

    fn enter(&mut self, number: u64) -> Result<Page, BboltError> {
        let wrong = |what: &str| Err(self.database.damaged(number, 0, what));
        if self.path.len() >= DEPTH_MAX {
            return wrong("the tree is too deep");
        }
        self.pages_left = match self.pages_left.checked_sub(1) {
            Some(left) => left,
            None => return wrong("a tree visits more pages than there are: it goes in circles"),
        };
        self.database.page(number)
    }

    fn begin(&mut self) -> Result<(), BboltError> {
        let page = match self.root.take() {
            Some(Root::Page(number)) => self.enter(number)?,
            Some(Root::Inline(page)) => page,
            None => return Ok(()),
        };
        self.path.push((page, 0));
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Entry>, BboltError> {
        self.begin()?;
        loop {
            let Some((page, next)) = self.path.last_mut() else {
                return Ok(None);
            };
            if *next >= page.count {
                self.path.pop();
                continue;
            }
            let index = *next;
            *next += 1;
            let (number, within) = (page.number, page.element(index));
            let database = self.database;
            let wrong = |what: &str| database.damaged(number, within, what);
            if page.is_leaf {
                let entry = page
                    .leaf(index)
                    .ok_or_else(|| wrong("an element lies outside of its page"))?;
                if self.last.as_ref().is_some_and(|last| *last >= entry.key) {
                    return Err(wrong("keys are not in order"));
                }
                self.last = Some(entry.key.clone());
                return Ok(Some(entry));
            }
            let child = page
                .child(index)
                .ok_or_else(|| wrong("an element lies outside of its page"))?;
            let child = self.enter(child)?;
            self.path.push((child, 0));
        }
    }

    fn last_entry(mut self) -> Result<Option<Entry>, BboltError> {
        self.begin()?;
        loop {
            let Some((page, _)) = self.path.last() else {
                return Ok(None);
            };
            let Some(index) = page.count.checked_sub(1) else {
                return Ok(None);
            };
            let wrong = || {
                self.database.damaged(
                    page.number,
                    page.element(index),
                    "an element lies outside of its page",
                )
            };
            if page.is_leaf {
                return page.leaf(index).map(Some).ok_or_else(wrong);
            }
            let child = page.child(index).ok_or_else(wrong)?;
            let child = self.enter(child)?;
            self.path.push((child, 0));
        }
    }
}

impl<R: ReadAt> Iterator for Entries<'_, R> {
    type Item = Result<Entry, BboltError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}
