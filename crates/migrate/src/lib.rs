//! Moving in and out of etcd: a data directory from etcd's database, and etcd's database from a data directory.
//!
//! Knows etcd's files, the store's log records and the order in which a copy becomes whole. Knows no screen: who
//! calls it hears a [`Progress`] and draws it.
//!
//! ```text
//!   in:   snapshot or member/snap/db ─► every kept version, as a log record ─► segments ─► compaction ─► clean end
//!         running etcd: snapshot, then a watch of everything after it ──┘
//!   out:  a stopped data directory ─► store ─► all buckets ─► FILE.part ─► SHA-256 ─► FILE
//! ```
//!
//! Revisions, versions and counters are carried over exactly: a client that knows a revision of one side may go on
//! with it on the other.

mod error;
mod from_file;
mod from_source;
mod limits;
mod records;
mod source;
mod to_file;

pub use error::MoveError;
pub use from_file::{Bump, HashCheck, Imported, import_file};
pub use from_source::{Compared, Until, import_source};
pub use source::SourceOptions;
pub use to_file::{Exported, export_directory, export_source};

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The file's checksum is being computed.
    Checking {
        /// Bytes so far.
        done_bytes: u64,
        /// Of so many.
        total_bytes: u64,
    },
    /// Versions are being copied, in the order of their revisions.
    Copying {
        /// Versions so far.
        versions: u64,
        /// The last one's revision.
        revision: i64,
        /// The newest there is.
        end: i64,
    },
    /// A snapshot is coming over the wire.
    Downloading {
        /// Bytes so far.
        done_bytes: u64,
        /// Of about so many.
        total_bytes: u64,
    },
    /// Changes are carried over as they are made.
    Following {
        /// Versions so far.
        versions: u64,
        /// Everything up to this revision is there.
        revision: i64,
        /// Where it ends, if that is known.
        target: Option<i64>,
    },
    /// The copy is compared with its source.
    Comparing,
}
