//! Writes a database in one pass: buckets and keys in ascending order, pages as they fill up, the meta pages last.
//!
//! Of each level of a tree only the page being filled is in memory. Pages are filled to the brim: bbolt splits them
//! when it writes to them.

use crate::error::BboltError;
use crate::layout::{
    BRANCH, ELEMENT_BYTES, FREELIST, IS_BUCKET, LEAF, Meta, PAGE_HEADER_BYTES, PageHeader,
};
use crate::limits::{KEY_BYTES_MAX, PAGE_BYTES, VALUE_BYTES_MAX};
use std::io::{BufWriter, Seek, SeekFrom, Write};

/// Takes buckets and their entries, in ascending order.
pub trait Sink {
    /// What follows belongs to this bucket, which comes after all before.
    fn bucket(&mut self, name: &[u8]) -> Result<(), BboltError>;

    /// An entry of the present bucket, with a key after all before.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BboltError>;
}

const FREELIST_PAGE: u64 = 2;

/// A database being written.
#[derive(Debug)]
pub struct Writer<W: Write> {
    pages: Pages<W>,
    /// The buckets that are complete: name and root page.
    root: Tree,
    open: Option<(Vec<u8>, Tree)>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a database at the start of `out`.
    pub fn new(out: W) -> Result<Self, BboltError> {
        let mut pages = Pages {
            out: BufWriter::with_capacity(256 * PAGE_BYTES, out),
            next: 0,
        };
        // Room for the meta pages, which are known last.
        pages.write(&[0; 2 * PAGE_BYTES])?;
        let mut freelist = Vec::with_capacity(PAGE_BYTES);
        let header = PageHeader {
            number: FREELIST_PAGE,
            flags: FREELIST,
            count: 0,
            overflow: 0,
        };
        header.encode(&mut freelist);
        freelist.resize(PAGE_BYTES, 0);
        pages.write(&freelist)?;
        Ok(Writer {
            pages,
            root: Tree::default(),
            open: None,
        })
    }

    fn close_bucket(&mut self) -> Result<(), BboltError> {
        let Some((name, tree)) = self.open.take() else {
            return Ok(());
        };
        let root = tree.finish(&mut self.pages)?;
        let sequence = 0_u64;
        let value = [root.to_le_bytes(), sequence.to_le_bytes()].concat();
        self.root.put(&mut self.pages, IS_BUCKET, &name, &value)
    }

    /// Completes the database; answers the file and how many bytes it has. Nothing is synced.
    pub fn finish(mut self) -> Result<(W, u64), BboltError> {
        self.close_bucket()?;
        let root = std::mem::take(&mut self.root).finish(&mut self.pages)?;
        let high_water = self.pages.next;
        let mut out = self.pages.out;
        out.seek(SeekFrom::Start(0))
            .map_err(BboltError::io("go back to the meta pages"))?;
        for number in [0, 1] {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root,
                freelist: FREELIST_PAGE,
                high_water,
                transaction: number,
            };
            out.write_all(&meta.encode(number))
                .map_err(BboltError::io("write a meta page"))?;
        }
        let out = out
            .into_inner()
            .map_err(|error| BboltError::io("write a page")(error.into_error()))?;
        Ok((out, high_water * PAGE_BYTES as u64))
    }
}

impl<W: Write + Seek> Sink for Writer<W> {
    fn bucket(&mut self, name: &[u8]) -> Result<(), BboltError> {
        self.close_bucket()?;
        self.open = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BboltError> {
        match &mut self.open {
            Some((_, tree)) => tree.put(&mut self.pages, 0, key, value),
            None => Err(BboltError::Unwritable("there is no bucket yet".into())),
        }
    }
}

/// Where pages go.
#[derive(Debug)]
struct Pages<W: Write> {
    out: BufWriter<W>,
    /// The number of the next page.
    next: u64,
}

impl<W: Write> Pages<W> {
    /// Writes whole pages; answers the number of the first.
    fn write(&mut self, bytes: &[u8]) -> Result<u64, BboltError> {
        self.out
            .write_all(bytes)
            .map_err(BboltError::io("write a page"))?;
        let number = self.next;
        self.next += (bytes.len() / PAGE_BYTES) as u64;
        Ok(number)
    }
}

/// A tree being written from the left to the right.
#[derive(Debug, Default)]
struct Tree {
    leaf: Filling,
    /// The branch pages being filled, the lowest level first.
    branches: Vec<Filling>,
    last: Option<Vec<u8>>,
}

impl Tree {
    fn put<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), BboltError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(BboltError::Unwritable(format!(
                "a key of {} bytes with a value of {} bytes: at most {KEY_BYTES_MAX} and {VALUE_BYTES_MAX} fit, and no key is empty",
                key.len(),
                value.len()
            )));
        }
        if self.last.as_deref().is_some_and(|last| last >= key) {
            return Err(BboltError::Unwritable(format!(
                "the key {key:?} does not come after the one before"
            )));
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if !self.leaf.has_room(key.len() + value.len()) {
            let full = self.leaf.flush(pages, LEAF)?;
            self.branch(pages, 0, full)?;
        }
        self.leaf.push(
            Element::Leaf {
                flags,
                value_len: value.len() as u32,
            },
            key,
            value,
        );
        Ok(())
    }

    /// Puts a page below into the branch page of `level`.
    fn branch<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        mut level: usize,
        mut child: Flushed,
    ) -> Result<(), BboltError> {
        loop {
            if level == self.branches.len() {
                self.branches.push(Filling::default());
            }
            let Some(branch) = self.branches.get_mut(level) else {
                return Ok(());
            };
            // A branch with one child would not make the tree narrower.
            let is_full = !branch.has_room(child.key.len()) && branch.elements.len() >= 2;
            let full = if is_full {
                Some(branch.flush(pages, BRANCH)?)
            } else {
                None
            };
            branch.push(Element::Branch { page: child.page }, &child.key, &[]);
            match full {
                Some(full) => child = full,
                None => return Ok(()),
            }
            level += 1;
        }
    }

    /// Writes what is left; answers the page of the root.
    fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> Result<u64, BboltError> {
        let mut done = self.leaf.flush(pages, LEAF)?;
        let mut level = 0;
        while level < self.branches.len() {
            self.branch(pages, level, done)?;
            let Some(branch) = self.branches.get_mut(level) else {
                return Err(BboltError::Unwritable("a level of the tree is gone".into()));
            };
            done = branch.flush(pages, BRANCH)?;
            level += 1;
        }
        Ok(done.page)
    }
}

/// A page that was written, and the first key in it.
#[derive(Debug)]
struct Flushed {
    key: Vec<u8>,
    page: u64,
}

#[derive(Debug)]
enum Element {
    Leaf { flags: u32, value_len: u32 },
    Branch { page: u64 },
}

/// A page being filled.
#[derive(Debug, Default)]
struct Filling {
    /// Elements with the length of their keys.
    elements: Vec<(Element, u32)>,
    /// Keys and values, one after the other.
    data: Vec<u8>,
}

impl Filling {
    fn has_room(&self, more_bytes: usize) -> bool {
        let elements = (self.elements.len() + 1) * ELEMENT_BYTES;
        let used = PAGE_HEADER_BYTES + elements + self.data.len() + more_bytes;
        self.elements.is_empty() || used <= PAGE_BYTES
    }

    fn push(&mut self, element: Element, key: &[u8], value: &[u8]) {
        self.elements.push((element, key.len() as u32));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    /// Writes the page, running over into as many as it takes, and begins anew.
    fn flush<W: Write>(&mut self, pages: &mut Pages<W>, flags: u16) -> Result<Flushed, BboltError> {
        let heads = PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES;
        let run = (heads + self.data.len()).div_ceil(PAGE_BYTES);
        let mut page = Vec::with_capacity(run * PAGE_BYTES);
        let header = PageHeader {
            number: pages.next,
            flags,
            count: self.elements.len() as u16,
            overflow: (run - 1) as u32,
        };
        header.encode(&mut page);
        let mut data = heads;
        for (element, key_len) in &self.elements {
            let position = ((data - page.len()) as u32).to_le_bytes();
            data += *key_len as usize;
            match element {
                Element::Leaf { flags, value_len } => {
                    page.extend_from_slice(&flags.to_le_bytes());
                    page.extend_from_slice(&position);
                    page.extend_from_slice(&key_len.to_le_bytes());
                    page.extend_from_slice(&value_len.to_le_bytes());
                    data += *value_len as usize;
                }
                Element::Branch { page: child } => {
                    page.extend_from_slice(&position);
                    page.extend_from_slice(&key_len.to_le_bytes());
                    page.extend_from_slice(&child.to_le_bytes());
                }
            }
        }
        page.extend_from_slice(&self.data);
        page.resize(run * PAGE_BYTES, 0);
        let first_len = self.elements.first().map_or(0, |(_, len)| *len as usize);
        let key = self.data.get(..first_len).unwrap_or_default().to_vec();
        self.elements.clear();
        self.data.clear();
        // One large value must not keep its memory for ever.
        self.data.shrink_to(PAGE_BYTES);
        Ok(Flushed {
            key,
            page: pages.write(&page)?,
        })
    }
}
