//! The vocabulary of a revisioned key-value store, as plain data.
//!
//! Knows keys, revisions, transactions, log records and what they mean to each other. Deliberately knows
//! no storage, no wire format, no clock.

mod log;
mod range;
mod txn;

pub use log::{Change, LogRecord};
pub use range::{End, KeyRange};
pub use txn::{
    Compare, CompareOp, DeleteOp, Op, OpReply, Operand, PutOp, RangeOp, RangeReply, SortOrder,
    SortTarget, TXN_DEPTH_MAX, Txn, TxnError, TxnReply,
};

use bytes::Bytes;
use std::fmt;

/// The name of a value: any bytes.
pub type Key = Bytes;

/// A point in the store's history. Every effective transaction takes exactly one; they never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a lease; zero is "no lease".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// A key without a lease.
    pub const NONE: LeaseId = LeaseId(0);

    /// Whether this names a lease at all.
    #[must_use]
    pub fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A key with one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key.
    pub key: Key,
    /// The value of this version; empty when only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key (since it was last deleted).
    pub create_revision: Revision,
    /// The revision that made this version.
    pub mod_revision: Revision,
    /// 1 for the creation, one more with every put.
    pub version: i64,
    /// The lease the key hangs on.
    pub lease: LeaseId,
}

/// How far a write must have come before anyone may see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Never logged: gone after a crash, kept over a clean shutdown.
    Memory,
    /// Handed to the operating system: survives the end of the process, not of the machine.
    Buffered,
    /// On the medium: survives the machine.
    #[default]
    Fsync,
}

impl Durability {
    /// Whether writes of this class go to the log.
    #[must_use]
    pub fn is_logged(self) -> bool {
        self != Durability::Memory
    }
}

/// One change of one key, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was created or got a new value.
    Put {
        /// The new version.
        kv: KeyValue,
        /// The version it replaced; absent for a creation.
        prev: Option<KeyValue>,
    },
    /// The key was deleted.
    Delete {
        /// The whole key.
        key: Key,
        /// The revision of the deletion.
        revision: Revision,
        /// The last version.
        prev: Option<KeyValue>,
    },
}

impl Event {
    /// The revision that made this event.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put { kv, .. } => kv.mod_revision,
            Event::Delete { revision, .. } => *revision,
        }
    }
}
