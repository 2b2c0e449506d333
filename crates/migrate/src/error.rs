//! Why a move fails, and what to do.

use bbolt::BboltError;
use etcd_server::backend::BackendError;
use std::io;
use std::path::{Path, PathBuf};
use wal::WalError;

/// Why a move fails.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Disk(#[from] WalError),
    /// The file is not as it should be.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: BboltError,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The store cannot be read as a whole.
    #[error("cannot copy the store: {0}")]
    Backend(#[from] BackendError),
    /// There is no store to copy.
    #[error("{0} is no data directory of a store: it has no file FORMAT")]
    NoStore(PathBuf),
    /// It would be overwritten.
    #[error("{0} exists: name a file that does not")]
    Exists(PathBuf),
    /// Nobody answers there, or not as an etcd does.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The source refused.
    #[error("cannot {action} {url}: {text}")]
    Source {
        /// What was asked.
        action: &'static str,
        /// Of whom.
        url: String,
        /// What it said.
        text: String,
    },
    /// The watch of the source ended too early.
    #[error("the watch of the source ended: {0}; remove the data directory and import again")]
    WatchEnded(String),
    /// The source gave up history that was still to be read.
    #[error(
        "the source compacted revision {compacted} when only {revision} had been read: remove the data directory and import again, with a longer compaction interval if it comes again"
    )]
    Overtaken {
        /// Read so far.
        revision: i64,
        /// Where its history begins now.
        compacted: i64,
    },
    /// The snapshot is newer than where to stop.
    #[error("the source is at revision {revision} already, after {asked}: name a later one")]
    Passed {
        /// Where to stop.
        asked: i64,
        /// Where it is.
        revision: i64,
    },
    /// The copy is not what it was copied from.
    #[error(
        "at revision {revision} the checksum of the copy is {ours}, that of the source {theirs}: do not use the copy"
    )]
    Different {
        /// Where they were compared.
        revision: i64,
        /// The copy's.
        ours: u32,
        /// The source's.
        theirs: u32,
    },
    /// The revision cannot go so far.
    #[error("the revision can be moved ahead by 1 to {max}, not by {asked}")]
    Bump {
        /// What was asked for.
        asked: i64,
        /// The limit.
        max: i64,
    },
}

impl MoveError {
    /// For `map_err`: names the action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MoveError {
        move |source| MoveError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err`: names the file.
    pub(crate) fn file(path: &Path) -> impl Fn(BboltError) -> MoveError {
        let path = path.to_owned();
        move |error| MoveError::File {
            path: path.clone(),
            error,
        }
    }
}
