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
use crate::medium::{Medium, SystemFiles};
use crate::writer::Writer;
use kv::{LogRecord, Revision};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment is closed when it has grown to this.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Room is made so much at a time.
const ALLOCATE_BYTES: u64 = 4 << 20;

/// A data directory being filled. Dropped before [`Seed::finish`], it stays one that nobody opens.
#[derive(Debug)]
pub struct Seed {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    _lock: Box<dyn Debug + Send>,
    writer: Writer,
    bytes: u64,
}

impl Seed {
    /// Takes a directory that does not exist or is empty.
    pub fn create(dir: &Path) -> Result<Seed, WalError> {
        let medium: Arc<dyn Medium> = Arc::new(SystemFiles);
        let created = medium.create_dir(dir);
        created.map_err(WalError::io("create", dir))?;
        let entries = medium.list(dir).map_err(WalError::io("read", dir))?;
        if !entries.is_empty() {
            return Err(WalError::NotEmpty {
                path: dir.to_owned(),
            });
        }
        let lock = lock(&*medium, dir)?;
        write_format(&*medium, dir, FORMAT_IMPORTING)?;
        // A new directory has no reserve to begin in.
        let (writer, _) = Writer::create(medium.clone(), dir, 1, 0, ALLOCATE_BYTES)?;
        Ok(Seed {
            medium,
            dir: dir.to_owned(),
            _lock: lock,
            writer,
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
        self.writer.finish()?;
        finish_format(&*self.medium, &self.dir)
    }
}
