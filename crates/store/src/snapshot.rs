//! The pages a snapshot of the store is made of.
//!
//! ```text
//!   of each collection      base: what its keys were before the first change still kept
//!                           window: how far back it can be read, and up to where it is told here
//!                           history: the changes since, in their order
//! ```
//!
//! Pages are read in short holds of the lock while writes go on. A collection is held fast as it was when its turn
//! came: its history stays until it is read, and what changed meanwhile is in the log. Knows no file format.

use crate::blob::Version;
use crate::collection::Collection;
use crate::limits::PAGE_RECORDS_MAX;
use crate::records::{NO_ENTRY, Slot};
use crate::state::State;
use crate::store::Store;
use bytes::Bytes;
use kv::{Change, Durability, LeaseId, LogRecord, Revision};
use std::borrow::Cow;
use std::sync::Arc;

/// Which collections a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotScope {
    /// Those that are logged, the leases and the settings: what the log is truncated for.
    Logged,
    /// The same without their history, as if it were given up: where there is no room for it.
    LoggedPresent,
    /// Those that are not: what a clean shutdown keeps.
    Memory,
}

/// A snapshot in the making.
#[derive(Debug)]
pub struct SnapshotCursor {
    scope: SnapshotScope,
    common_done: bool,
    /// Those to come, the next one last.
    collections: Vec<Arc<Collection>>,
    reading: Option<Reading>,
}

/// A collection being read.
#[derive(Debug)]
struct Reading {
    collection: Arc<Collection>,
    durability: Durability,
    pin: i64,
    /// Where to go on in the base; none when it is done.
    from: Option<Arc<[u8]>>,
    /// The first entry of the history told, the next one, and where it ends.
    first: u64,
    next: u64,
    end: u64,
    window: LogRecord,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.collection.lock().unpin(self.pin);
    }
}

impl Store {
    /// Starts a snapshot.
    #[must_use]
    pub fn snapshot(&self, scope: SnapshotScope) -> SnapshotCursor {
        let mut collections = self.collections();
        collections.reverse();
        SnapshotCursor {
            scope,
            common_done: scope == SnapshotScope::Memory,
            collections,
            reading: None,
        }
    }

    /// Appends the next page of a snapshot. False when it is complete.
    pub fn snapshot_page(&self, cursor: &mut SnapshotCursor, out: &mut Vec<LogRecord>) -> bool {
        if !cursor.common_done {
            cursor.common_done = true;
            self.common(out);
            return true;
        }
        if let Some(reading) = &mut cursor.reading {
            if !reading.page(out) {
                cursor.reading = None;
            }
            return true;
        }
        let Some(collection) = cursor.collections.pop() else {
            return false;
        };
        cursor.reading = Reading::begin(collection, cursor.scope, out);
        true
    }

    /// What belongs to no collection.
    fn common(&self, out: &mut Vec<LogRecord>) {
        let record = |change| LogRecord {
            revision: Revision(0),
            durability: Durability::Fsync,
            change,
        };
        let leases = self.shared.leases.all().into_iter();
        out.extend(leases.map(|(id, ttl_seconds, deadline_micros)| {
            record(Change::Lease {
                id,
                ttl_seconds,
                deadline_micros,
            })
        }));
        let settings = self.shared.settings.all().into_iter();
        out.extend(settings.map(|(name, value)| {
            record(Change::Setting {
                name,
                value: Some(value),
            })
        }));
        out.push(record(Change::Compact {
            revision: self.compacted(),
        }));
    }
}

impl Reading {
    /// Holds a collection fast. One that is not logged is told to the log as such, and not read.
    fn begin(
        collection: Arc<Collection>,
        scope: SnapshotScope,
        out: &mut Vec<LogRecord>,
    ) -> Option<Self> {
        let mut state = collection.lock();
        let durability = state.config.durability;
        // Under the lock: whatever this collection was given so far is in it.
        let through = collection.shared.revision();
        let record = |change| LogRecord {
            revision: Revision(through),
            durability,
            change,
        };
        let prefix = collection.prefix().clone();
        let is_of_log = scope != SnapshotScope::Memory;
        if durability.is_logged() != is_of_log {
            out.extend(is_of_log.then(|| record(Change::Forget { collection: prefix })));
            return None;
        }
        let kept = match scope {
            SnapshotScope::LoggedPresent => Kept {
                first: state.history.end(),
                list_floor: through,
                watch_floor: through,
            },
            SnapshotScope::Logged | SnapshotScope::Memory => state.kept(),
        };
        let oldest = state.history.get(kept.first).map(|entry| entry.revision);
        let pin = oldest.map_or(through, |oldest| oldest - 1);
        state.pin(pin);
        let end = state.history.end();
        drop(state);
        Some(Reading {
            collection,
            durability,
            pin,
            from: Some(Arc::from(&[][..])),
            first: kept.first,
            next: kept.first,
            end,
            window: record(Change::Window {
                collection: prefix,
                list_floor: Revision(kept.list_floor),
                watch_floor: Revision(kept.watch_floor),
            }),
        })
    }

    /// Appends a page. False when this was the last one.
    fn page(&mut self, out: &mut Vec<LogRecord>) -> bool {
        let prefix = self.collection.prefix();
        let state = self.collection.lock();
        if let Some(start) = self.from.take() {
            self.from = state.page_before(&start, self.first, |slot, version, sub| {
                out.push(put(prefix, self.durability, &slot.key, version, sub));
            });
            if self.from.is_none() {
                out.push(self.window.clone());
            }
            return true;
        }
        let end = self
            .end
            .min(self.next.saturating_add(PAGE_RECORDS_MAX as u64));
        for number in self.next..end {
            let Some(entry) = state.history.get(number) else {
                continue;
            };
            let key = state.records.key(entry.slot);
            let after = state.version_after(number, entry);
            out.push(match after.filter(|after| after.exists()) {
                Some(after) => put(prefix, self.durability, key, &after, entry.sub()),
                None => LogRecord {
                    revision: Revision(entry.revision),
                    durability: self.durability,
                    change: Change::Delete {
                        collection: prefix.clone(),
                        key: Bytes::copy_from_slice(key),
                        sub: entry.sub(),
                    },
                },
            });
        }
        self.next = end;
        self.next < self.end
    }
}

fn put(
    prefix: &Bytes,
    durability: Durability,
    key: &[u8],
    version: &Version,
    sub: u32,
) -> LogRecord {
    LogRecord {
        revision: Revision(version.modified),
        durability,
        change: Change::Put {
            collection: prefix.clone(),
            key: Bytes::copy_from_slice(key),
            value: version.value(),
            create_revision: Revision(version.create),
            version: version.version(),
            lease: LeaseId(version.lease),
            tags: version.tags().collect(),
            sub,
        },
    }
}

/// The history that is not given up yet.
struct Kept {
    first: u64,
    list_floor: i64,
    watch_floor: i64,
}

impl State {
    /// What is left of the history when everything that may be trimmed is.
    fn kept(&self) -> Kept {
        let first = self
            .trim_to()
            .clamp(self.history.start(), self.history.end());
        let given_up = first.checked_sub(1).and_then(|last| self.history.get(last));
        let given_up = given_up.map_or(0, |entry| entry.revision);
        Kept {
            first,
            list_floor: self.list_floor.max(given_up),
            watch_floor: self.watch_floor.max(given_up),
        }
    }

    /// Visits what keys were before the entry numbered `first`, from the key `start` on, for a page of keys.
    /// Answers where to go on.
    fn page_before(
        &self,
        start: &[u8],
        first: u64,
        mut visit: impl FnMut(&Slot, &Version, u32),
    ) -> Option<Arc<[u8]>> {
        let mut place = self.names.seek(&self.records, start);
        let mut seen = 0;
        while let Some((number, next)) = self.names.next(place) {
            let slot = self.records.get(number)?;
            if seen >= PAGE_RECORDS_MAX {
                return Some(slot.key.clone());
            }
            let (version, entry) = self.version_before(slot, first);
            if version.exists() {
                visit(slot, &version, self.sub_of(number, entry, version.modified));
            }
            seen += 1;
            place = next;
        }
        None
    }

    /// What a slot held before the entry numbered `first`, with the number of the entry that made it, if that is
    /// still there.
    fn version_before<'a>(&'a self, slot: &'a Slot, first: u64) -> (Cow<'a, Version>, Option<u64>) {
        let mut last = None;
        let mut at = Some(slot.newest).filter(|newest| *newest != NO_ENTRY);
        while let Some(number) = at.filter(|number| *number >= first)
            && self.history.get(number).is_some()
        {
            last = Some(number);
            at = self.history.older(number);
        }
        let past = last.and_then(|number| self.past(number));
        (past.unwrap_or(Cow::Borrowed(&slot.latest)), at)
    }
}
