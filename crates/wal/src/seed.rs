//! Fills a new data directory with records that come from somewhere else, without a store.
//!
//! Knows segments and the file `FORMAT`. Knows nothing about where the records come from.
//!
//! ```text
//!   FORMAT "importing" ─► segments, records in the order of revisions ─► compaction ─► clean end ─► FORMAT
//! ```
//!
//! Until the last step nobody opens the directory: half of a copy is no store.

use crate::codec::Item;
use crate::error::WalError;
use crate::files::{FORMAT_IMPORTING, finish_format, lock, write_format};
use crate::writer::Writer;
use kv::{LogRecord, Revision};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A segment is closed when it has grown to this.
const SEGMENT_BYTES: u64 = 64 << 20;

/// A data directory being filled. Dropped before [`Seed::finish`], it stays one that nobody opens.
#[derive(Debug)]
pub struct Seed {
    dir: PathBuf,
    _lock: File,
    writer: Writer,
    bytes: u64,
}

impl Seed {
    /// Takes a directory that does not exist or is empty.
    pub fn create(dir: &Path) -> Result<Seed, WalError> {
        std::fs::create_dir_all(dir).map_err(WalError::io("create", dir))?;
        let mut entries = std::fs::read_dir(dir).map_err(WalError::io("read", dir))?;
        if entries.next().is_some() {
            return Err(WalError::NotEmpty {
                path: dir.to_owned(),
            });
        }
        let lock = lock(dir)?;
        write_format(dir, FORMAT_IMPORTING)?;
        Ok(Seed {
            dir: dir.to_owned(),
            _lock: lock,
            writer: Writer::create(dir, 1, 0)?,
            bytes: 0,
        })
    }

    /// Appends records; those of one key in the order of their revisions. Nothing is synced yet.
    pub fn append(&mut self, records: &[LogRecord]) -> Result<(), WalError> {
        if records.is_empty() {
            return Ok(());
        }
        let before = self.writer.len;
        self.writer.append(records, &[])?;
        self.bytes += self.writer.len - before;
        if self.writer.len >= SEGMENT_BYTES {
            self.writer.rotate()?;
        }
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the log cleanly at `revision`, after which the store goes on, and makes the directory one that opens.
    pub fn finish(mut self, revision: Revision) -> Result<(), WalError> {
        self.writer.append(&[], &[Item::Clean(revision)])?;
        self.writer.sync()?;
        finish_format(&self.dir)
    }
}
