//! What a log must keep so that the state can be built again. Knows no byte format.

use crate::{Durability, Key, LeaseId, Revision};
use bytes::Bytes;

/// One effect, complete in itself: replaying it needs no decision, and replaying it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The revision of the change; for leases and compactions the newest revision when it was made.
    pub revision: Revision,
    /// How far the log must carry it before it counts.
    pub durability: Durability,
    /// What happened.
    pub change: Change,
}

/// The effects a log knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key got a new version.
    Put {
        /// The prefix of the collection.
        collection: Bytes,
        /// The key without that prefix.
        key: Key,
        /// The value.
        value: Bytes,
        /// When the key was created.
        create_revision: Revision,
        /// Its version counter.
        version: i64,
        /// Its lease.
        lease: LeaseId,
        /// The tags watchers find it by.
        tags: Vec<u64>,
        /// Its place among the changes of the same revision.
        sub: u32,
    },
    /// A key was deleted.
    Delete {
        /// The prefix of the collection.
        collection: Bytes,
        /// The key without that prefix.
        key: Key,
        /// Its place among the changes of the same revision.
        sub: u32,
    },
    /// In a snapshot, after what the keys of a collection were at first: from here on its changes follow in their
    /// order, up to the record's revision, and later ones are in the log.
    Window {
        /// The prefix of the collection.
        collection: Bytes,
        /// The oldest revision that can be listed at.
        list_floor: Revision,
        /// The oldest revision after which all changes are there.
        watch_floor: Revision,
    },
    /// A collection is not logged, or begins to be: what the log holds of it up to here is not to come back, and what
    /// happened to it is not known.
    Forget {
        /// The prefix of the collection.
        collection: Bytes,
    },
    /// A lease was granted, or its deadline moved.
    Lease {
        /// The lease.
        id: LeaseId,
        /// The time to live it was granted.
        ttl_seconds: i64,
        /// When it ends, in microseconds since the Unix epoch.
        deadline_micros: i64,
    },
    /// A lease ended.
    Revoke {
        /// The lease.
        id: LeaseId,
    },
    /// A setting of the server was changed, or taken away.
    Setting {
        /// Its name.
        name: Bytes,
        /// What it is now.
        value: Option<Bytes>,
    },
    /// History before `revision` was given up.
    Compact {
        /// The oldest revision that may still be read.
        revision: Revision,
    },
}
