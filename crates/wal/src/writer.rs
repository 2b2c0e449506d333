//! Appends frames to the current segment and knows how much of it is on the medium.

use crate::codec::{Item, encode, encode_record};
use crate::error::WalError;
use crate::files::{FILE_HEADER_BYTES, Kind, header, segment_path, sync_dir};
use crate::frame::{FRAME_BYTES_TARGET, begin, finish};
use kv::LogRecord;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Number of the current segment.
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    /// Bytes in the current segment.
    pub(crate) len: u64,
    /// How many of them are on the medium.
    synced: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Starts a segment. Its header and its name are durable before it is used.
    pub(crate) fn create(dir: &Path, segment: u64, sequence: u64) -> Result<Self, WalError> {
        let path = segment_path(dir, segment);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = file.map_err(WalError::io("create", &path))?;
        let bytes = header(Kind::Segment, segment, sequence);
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        written.map_err(WalError::io("write", &path))?;
        sync_dir(dir)?;
        let len = FILE_HEADER_BYTES as u64;
        let buffer = Vec::new();
        let dir = dir.to_owned();
        Ok(Writer {
            dir,
            path,
            file,
            segment,
            sequence,
            len,
            synced: len,
            buffer,
        })
    }

    /// Writes records and items; they are with the operating system when this returns.
    pub(crate) fn append(&mut self, records: &[LogRecord], items: &[Item]) -> Result<(), WalError> {
        self.buffer.clear();
        let mut start = begin(&mut self.buffer);
        for record in records {
            if self.buffer.len() - start >= FRAME_BYTES_TARGET {
                start = self.next_frame(start);
            }
            encode_record(record, &mut self.buffer);
        }
        for item in items {
            encode(item, &mut self.buffer);
        }
        finish(&mut self.buffer, start, self.sequence, self.synced);
        self.sequence += 1;
        let written = self.file.write_all(&self.buffer);
        written.map_err(WalError::io("write", &self.path))?;
        self.len += self.buffer.len() as u64;
        // One burst must not keep its memory for ever.
        self.buffer.shrink_to(4 * FRAME_BYTES_TARGET);
        Ok(())
    }

    fn next_frame(&mut self, start: usize) -> usize {
        finish(&mut self.buffer, start, self.sequence, self.synced);
        self.sequence += 1;
        begin(&mut self.buffer)
    }

    /// Everything written so far is on the medium when this returns.
    pub(crate) fn sync(&mut self) -> Result<(), WalError> {
        if self.synced < self.len {
            self.file
                .sync_data()
                .map_err(WalError::io("sync", &self.path))?;
            self.synced = self.len;
        }
        Ok(())
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.len
    }

    /// Closes the segment and starts the next.
    pub(crate) fn rotate(&mut self) -> Result<(), WalError> {
        self.sync()?;
        *self = Writer::create(&self.dir, self.segment + 1, self.sequence)?;
        Ok(())
    }
}
