//! Building the state again, and the pages a snapshot is made of.
//!
//! A snapshot is *fuzzy*: pages of the present, read while writes go on. Items are ordinary log
//! records; what changed meanwhile is in the log, which is replayed over them. Replaying is
//! idempotent: a record older than what is there changes nothing.

use crate::blob::{Version, new_blob};
use crate::collection::Collection;
use crate::limits::COLLECTIONS_MAX;
use crate::store::Store;
use bytes::Bytes;
use kv::{Change, Durability, LeaseId, LogRecord, Revision};
use std::collections::HashMap;
use std::sync::Arc;

/// Which collections a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotScope {
    /// Those that are logged, the leases and the settings: what the log is truncated for.
    Logged,
    /// Those that are not: what a clean shutdown keeps.
    Memory,
}

/// A snapshot in the making.
#[derive(Debug)]
pub struct SnapshotCursor {
    scope: SnapshotScope,
    leases_done: bool,
    collections: Vec<Arc<Collection>>,
    from: Arc<[u8]>,
}

/// A store being built again from a snapshot and a log.
#[derive(Debug)]
pub struct Restoring<'a> {
    store: &'a Store,
    /// Records up to here are already in the snapshot in part: they leave no history.
    snapshot_end: i64,
    newest: i64,
    /// The weakest durability each collection's records were written with.
    weakest: HashMap<u32, Durability>,
}

impl Store {
    /// Starts a snapshot.
    #[must_use]
    pub fn snapshot(&self, scope: SnapshotScope) -> SnapshotCursor {
        let mut collections = self.collections();
        collections.reverse();
        let leases_done = scope == SnapshotScope::Memory;
        SnapshotCursor {
            scope,
            leases_done,
            collections,
            from: Arc::from(&[][..]),
        }
    }

    /// Appends the next page of a snapshot. False when it is complete.
    pub fn snapshot_page(&self, cursor: &mut SnapshotCursor, out: &mut Vec<LogRecord>) -> bool {
        if !cursor.leases_done {
            cursor.leases_done = true;
            out.extend(
                self.shared
                    .leases
                    .all()
                    .into_iter()
                    .map(|(id, ttl_seconds, deadline)| LogRecord {
                        revision: Revision(0),
                        durability: Durability::Fsync,
                        change: Change::Lease {
                            id,
                            ttl_seconds,
                            deadline_micros: deadline,
                        },
                    }),
            );
            let settings = self.shared.settings.all().into_iter();
            out.extend(settings.map(|(name, value)| LogRecord {
                revision: Revision(0),
                durability: Durability::Fsync,
                change: Change::Setting {
                    name,
                    value: Some(value),
                },
            }));
            return true;
        }
        let Some(collection) = cursor.collections.last() else {
            return false;
        };
        let state = collection.lock();
        let durability = state.config.durability;
        let is_wanted = durability.is_logged() == (cursor.scope == SnapshotScope::Logged);
        let mut page: Vec<(Arc<[u8]>, Version, u32)> = Vec::new();
        let next = if is_wanted {
            state.page(&cursor.from, None, i64::MAX, |key, version| {
                page.push((key.clone(), version.clone(), state.latest_sub(key)));
                true
            })
        } else {
            None
        };
        drop(state);
        let prefix = collection.prefix();
        out.extend(
            page.iter()
                .map(|(key, version, sub)| item(prefix, durability, key, version, *sub)),
        );
        match next {
            Some(next) => cursor.from = next,
            None => {
                cursor.from = Arc::from(&[][..]);
                cursor.collections.pop();
            }
        }
        true
    }

    /// Starts building the state again. Only for a store nobody has written to.
    #[must_use]
    pub fn restore(&self) -> Restoring<'_> {
        Restoring {
            store: self,
            snapshot_end: 0,
            newest: 0,
            weakest: HashMap::new(),
        }
    }
}

fn item(
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

impl Restoring<'_> {
    /// One item of a snapshot. `of_log` unless it is of what was never logged.
    pub fn item(&mut self, record: LogRecord, of_log: bool) {
        if of_log {
            self.snapshot_end = self.snapshot_end.max(record.revision.0);
        }
        self.apply(record, false);
    }

    /// The snapshot is complete, and was so when the store was at `end`.
    pub fn snapshot_end(&mut self, end: Revision) {
        self.snapshot_end = self.snapshot_end.max(end.0);
        self.newest = self.newest.max(end.0);
    }

    /// One record of the log, in its order.
    pub fn record(&mut self, record: LogRecord) {
        self.apply(record, true);
    }

    fn apply(&mut self, record: LogRecord, is_log: bool) {
        let LogRecord {
            revision,
            durability,
            change,
        } = record;
        self.newest = self.newest.max(revision.0);
        let with_history = is_log && revision.0 > self.snapshot_end;
        match change {
            Change::Put {
                collection,
                key,
                value,
                create_revision,
                version,
                lease,
                tags,
                sub,
            } => {
                let collection = self.collection(&collection, durability);
                let tag_count = tags.len();
                let blob = new_blob(&value, &tags);
                let created = create_revision.0;
                let new = Version::put(blob, tag_count, created, revision.0, version, lease.0);
                collection.replay(&key, new, sub, with_history);
            }
            Change::Delete {
                collection,
                key,
                sub,
            } => {
                let collection = self.collection(&collection, durability);
                collection.replay(&key, Version::deleted(revision.0), sub, with_history);
            }
            Change::Forget { collection } => {
                let collection = self.collection(&collection, durability);
                collection.forget_all(revision.0);
            }
            Change::Lease {
                id,
                ttl_seconds,
                deadline_micros,
            } => {
                self.store
                    .shared
                    .leases
                    .restore(id, ttl_seconds, deadline_micros);
            }
            Change::Setting { name, value } => self.store.shared.settings.restore(name, value),
            Change::Revoke { id } => self.store.shared.leases.remove(id, || {}),
            Change::Compact { revision } => self.store.restore_compacted(revision.0),
        }
    }

    fn collection(&mut self, prefix: &[u8], durability: Durability) -> Arc<Collection> {
        let config = self.store.config.collections;
        let (collection, _) = self.store.open(prefix, config, COLLECTIONS_MAX * 2);
        let weakest = self
            .weakest
            .entry(collection.identity.id)
            .or_insert(durability);
        if durability == Durability::Memory || *weakest == Durability::Fsync {
            *weakest = durability;
        }
        collection
    }

    /// The newest revision seen so far.
    #[must_use]
    pub fn newest(&self) -> Revision {
        Revision(self.newest)
    }

    /// Everything is there. The store goes on after `base`, which no revision ever given out
    /// exceeds. Unless the end was `clean`, collections that were not written with `Fsync` may have
    /// lost writes that were seen: nobody may go on watching them from before `base`.
    pub fn finish(self, base: Revision, clean: bool) {
        let base = base.0.max(self.newest).max(1);
        self.store.shared.start_at(base);
        self.store.set_floors(base, self.snapshot_end);
        for collection in self.store.collections() {
            let keeps_history = match self.weakest.get(&collection.identity.id) {
                Some(Durability::Fsync) => true,
                Some(Durability::Buffered) => clean,
                Some(Durability::Memory) | None => false,
            };
            let floor = if keeps_history {
                self.snapshot_end
            } else {
                base
            };
            collection.finish_restore(floor);
        }
    }
}

impl Collection {
    fn replay(&self, key: &[u8], new: Version, sub: u32, with_history: bool) {
        let mut state = self.lock();
        let revision = new.modified;
        let number = state.records.find(key);
        let known = number.and_then(|number| state.records.get(number));
        if known.is_some_and(|slot| slot.latest.modified >= revision) {
            return;
        }
        if !new.exists() && known.is_none_or(|slot| !slot.latest.exists()) {
            return;
        }
        // A record out of order (a collection that is logged since later) has no place in history.
        let last = state
            .history
            .end()
            .checked_sub(1)
            .and_then(|last| state.history.get(last));
        let with_history =
            with_history && last.is_none_or(|last| (last.revision, last.sub()) < (revision, sub));
        let (number, is_fresh) = match number {
            Some(number) => (number, false),
            None => (state.insert(Arc::from(key)), true),
        };
        let is_gone = !new.exists();
        let Some((old, before)) = state.replace(number, new, is_fresh) else {
            return;
        };
        if with_history {
            state.record(number, revision, sub, old, before);
        } else if is_gone {
            state.forget(number);
        } else {
            state.set_base_sub(number, sub);
            state.raise_floor(revision);
        }
    }

    fn forget_all(&self, revision: i64) {
        let mut state = self.lock();
        state.forget_all(revision);
    }

    fn finish_restore(&self, floor: i64) {
        let mut state = self.lock();
        state.raise_floor(floor);
        state.announced = state.history.end();
        state.tell_usage();
        let mut leased = Vec::new();
        let mut from: Option<Arc<[u8]>> = Some(Arc::from(&[][..]));
        while let Some(start) = from {
            from = state.page(&start, None, i64::MAX, |key, version| {
                if version.lease != 0 {
                    leased.push((version.lease, key.clone()));
                }
                true
            });
        }
        for (lease, key) in leased {
            if self
                .shared
                .leases
                .attach(lease, self.identity.id, &key)
                .is_err()
            {
                // A key whose lease is gone has outlived it: let it be due at once.
                self.shared.leases.restore(LeaseId(lease), 1, 0);
                let _ = self.shared.leases.attach(lease, self.identity.id, &key);
            }
        }
    }
}
