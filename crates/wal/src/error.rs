//! What can go wrong with a data directory, and what to do about it.

use crate::medium::is_no_room;
use std::io;
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
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
    /// Another process has it.
    #[error("the data directory {path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Written by something else.
    #[error(
        "the data directory {path} has format {found:?}, this program reads {expected:?}: use the version that wrote it"
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What the directory says.
        found: String,
        /// What this program reads.
        expected: String,
    },
    /// An import was begun there and not finished.
    #[error(
        "the data directory {path} holds an import that was not finished: remove it and import again"
    )]
    HalfImported {
        /// The directory.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("the directory {path} is not empty: name one that is empty or does not exist")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Bytes that had been synced are not as they were written. Nothing was changed.
    #[error(
        "{path} is damaged at byte {offset}: {what}; nothing was changed: restore the directory from a backup or another member"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A file that must be there is not. Nothing was changed.
    #[error("{path} is missing; nothing was changed: restore the directory from a backup")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The log stopped earlier.
    #[error("the log has stopped: {0}")]
    Stopped(String),
}

impl WalError {
    /// Whether it says that there is no room, and nothing worse.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, WalError::Io { source, .. } if is_no_room(source))
    }

    /// For `map_err`: names the action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
        let path = path.to_owned();
        move |source| WalError::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> WalError {
        WalError::Damaged {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}
