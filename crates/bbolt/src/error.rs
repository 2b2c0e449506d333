//! Why a file cannot be read or written.

use std::io;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BboltError {
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// Neither meta page makes sense.
    #[error("this is not a bbolt database: {0}")]
    NotBbolt(String),
    /// It is shorter than it says.
    #[error(
        "the file is cut short: it has {actual_bytes} bytes, its pages need {needed_bytes}; take the copy again"
    )]
    CutShort {
        /// Bytes there are.
        actual_bytes: u64,
        /// Bytes there should be.
        needed_bytes: u64,
    },
    /// A byte is not as bbolt writes it.
    #[error("damaged at byte {offset} (page {page}): {what}; take the copy again")]
    Damaged {
        /// The page.
        page: u64,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// It is a database, but not etcd's.
    #[error("this is not a database of etcd: {0}")]
    NotEtcd(String),
    /// The checksum at the end of a snapshot is another one.
    #[error(
        "the SHA-256 at the end is {expected}, the bytes before it have {found}: take the snapshot again"
    )]
    Sha256 {
        /// What the file says.
        expected: String,
        /// What its bytes have.
        found: String,
    },
    /// There is no checksum at the end.
    #[error(
        "there is no SHA-256 at the end: a file that was copied, not saved as a snapshot; to take it as it is, skip the check"
    )]
    NoSha256,
    /// The caller gave keys or buckets out of order, or too large.
    #[error("cannot write: {0}")]
    Unwritable(String),
}

impl BboltError {
    /// For `map_err`: names the action.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> BboltError {
        move |source| BboltError::Io { action, source }
    }
}
