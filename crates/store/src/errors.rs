//! Why the store says no. Wire codes are given at the door, not here.

use kv::{LeaseId, Revision, TxnError};

/// History before `oldest` is gone: list again, then watch from the list's revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {requested} has been compacted, the oldest is {oldest}")]
pub struct Compacted {
    /// What was asked for.
    pub requested: Revision,
    /// The oldest revision that can be served.
    pub oldest: Revision,
}

/// Why a read at a revision is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too old.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// Not reached yet.
    #[error("revision {requested} is in the future, the newest is {current}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
}

/// Why a change is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The transaction means nothing.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// A read in the transaction is impossible.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The key is longer than [`crate::limits::KEY_BYTES_MAX`].
    #[error("a key of {bytes} bytes is longer than {max}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The value is longer than [`crate::limits::VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes is longer than {max}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The value has more than [`crate::limits::TAGS_MAX`] tags.
    #[error("{tags} tags are more than {max}")]
    TooManyTags {
        /// How many.
        tags: usize,
        /// The limit.
        max: usize,
    },
    /// The collection's budget is spent. Deletes still work.
    #[error(
        "collection {collection:?} holds {used_bytes} of {max_bytes} bytes; delete objects or raise its budget"
    )]
    BudgetSpent {
        /// Its prefix.
        collection: String,
        /// What it holds, with overheads.
        used_bytes: u64,
        /// What it may hold.
        max_bytes: u64,
    },
    /// The collection serves as many watchers as it may.
    #[error("the collection already serves {max} watchers")]
    TooManyWatchers {
        /// The limit.
        max: usize,
    },
    /// No such lease.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// The lease is already there.
    #[error("lease {0} already exists")]
    LeaseExists(LeaseId),
    /// The lease would live too long.
    #[error("a lease of {seconds} seconds is longer than {max}")]
    LeaseTooLong {
        /// What was asked for.
        seconds: i64,
        /// The limit.
        max: i64,
    },
    /// The table of settings is full, or a name in it too long.
    #[error("the settings may have {max_bytes} bytes in all")]
    SettingsFull {
        /// The limit.
        max_bytes: usize,
    },
    /// As many leases as may be.
    #[error("there are already {max} leases")]
    TooManyLeases {
        /// The limit.
        max: usize,
    },
    /// The log cannot keep up: try again in a moment.
    #[error("the log is behind: try again")]
    LogBehind,
    /// The medium of the log is full. Deletes still work.
    #[error("the disk of the log is full: give it room, or delete and compact")]
    DiskFull,
    /// The log has failed: nothing more is accepted that it would have to keep.
    #[error("the log has stopped: {0}")]
    LogStopped(String),
}
