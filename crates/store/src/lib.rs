//! The store: collections of revisioned keys, transactions, leases, history and watch cursors.
//!
//! Knows no sockets, no files, no clock and no tasks: time is passed in, the log is drained by a
//! shell, and whoever waits leaves a [`std::task::Waker`].
//!
//! ```text
//!   one COLLECTION = one lock
//!   records   key hash ─► slot {key, latest version, newest log entry}      point access
//!   names     slots in key order, touched by create and forget only         lists
//!   history   ring of entries {revision, slot, version it replaced, ◂older newer▸}
//!   watchers  idle ones sit in an index (all | prefix | key | tag); an event takes out those it hits
//!
//!   write ─► lock ─► check ─► next global revision ─► append ─► unlock
//!            applied ──────► written / durable (by class) ──────► visible ─► watchers, waiters
//! ```
//!
//! An entry keeps the version it *replaced*, so the latest version lives in the record alone and a
//! trimmed entry takes with it exactly what nobody can ask for any more. Worked example, one key:
//! `put a @5, put b @7, delete @9` leaves the record at "deleted @9" and the ring
//! `5:{undo absent} 7:{undo a} 9:{undo b}`. A read at 8 walks back from the record: deleted @9 is too
//! new, its entry's undo `b @7` fits. Trimming up to 8 drops entries 5 and 7; a read at 8 still
//! finds `b` in entry 9. When entry 9 goes, the deleted record is forgotten with it.

mod blob;
mod check;
mod collection;
mod config;
mod errors;
mod history;
mod lease;
pub mod limits;
mod names;
mod past;
mod range_watch;
mod reading;
mod records;
mod restore;
mod settings;
mod shared;
mod snapshot;
mod state;
mod store;
mod txn;
mod versions;
mod watch;

pub use collection::{
    Change, Collection, CollectionStats, More, OpenError, Precondition, Record, Seen, WriteError,
    Written,
};
pub use config::{CollectionConfig, StoreConfig};
pub use errors::{Compacted, ReadError, StoreError};
pub use lease::{Granted, TimeToLive};
pub use range_watch::RangeWatcher;
pub use reading::{Facets, Reading, Standing};
pub use restore::Restoring;
pub use snapshot::{SnapshotCursor, SnapshotScope};
pub use store::{Stepped, Store, collection_prefix};
pub use txn::Touched;
pub use versions::{KeptVersion, Versions};
pub use watch::{Interest, WatchItem, Watcher};
