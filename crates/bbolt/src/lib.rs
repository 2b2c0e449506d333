//! The bbolt file format, and what etcd keeps in such a file.
//!
//! Bytes to words and back: reads a file through [`ReadAt`] page by page, writes one in a single pass to anything
//! that can seek. Knows no store, no sockets, no data directory.
//!
//! ```text
//!   page 0, 1   meta     magic, version, page size, root bucket, high water, transaction, FNV-64a checksum
//!   page 2 …    branch   (first key, child page) …        keys ascending
//!               leaf     (flags, key, value) …            a value may run over into following pages
//!               freelist page numbers; ours is empty
//!
//!   root bucket ─► leaf: name ─► {root page, sequence} or, root page 0, the bucket's only page inline
//!                     │
//!                     └─► key │ meta │ lease │ auth … : what etcd keeps, see `etcd`
//! ```
//!
//! What is read was written by others, perhaps by nobody: every number is checked before it is used, a tree is at most
//! [`limits::DEPTH_MAX`] deep and no page is visited twice.

mod error;
pub mod etcd;
mod layout;
pub mod limits;
mod read;
mod source;
mod trailer;
mod write;

pub use error::BboltError;
pub use read::{Database, Entries, Entry};
pub use source::ReadAt;
pub use trailer::{Integrity, Trailed, check_trailer};
pub use write::{Sink, Writer};

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C over pieces, as etcd computes its checksums.
#[derive(Debug)]
pub struct Checksum(Digest);

impl Default for Checksum {
    fn default() -> Self {
        Checksum(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Checksum {
    /// Takes another piece in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces so far.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}
