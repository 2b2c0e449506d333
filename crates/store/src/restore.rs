//! Building the state again, from the items of a snapshot and the records of the log after it.
//!
//! Of each collection a snapshot tells the base, then its window, then its history. The log is replayed over it:
//! records the window covers already are left out, later ones go on with the history. Replaying is idempotent: a
//! record older than what is there changes nothing.

use crate::blob::{Version, new_blob};
use crate::collection::Collection;
use crate::limits::COLLECTIONS_MAX;
use crate::store::Store;
use kv::{Change, Durability, LeaseId, LogRecord, Revision};
use std::collections::HashMap;
use std::sync::Arc;

/// A store being built again from a snapshot and a log.
#[derive(Debug)]
pub struct Restoring<'a> {
    store: &'a Store,
    newest: i64,
    /// The weakest durability each collection's records were written with. None of one the log does not know.
    weakest: HashMap<u32, Durability>,
    /// Up to where the snapshot tells each collection that has its window.
    windows: HashMap<u32, i64>,
}

impl Store {
    /// Starts building the state again. Only for a store nobody has written to.
    #[must_use]
    pub fn restore(&self) -> Restoring<'_> {
        Restoring {
            store: self,
            newest: 0,
            weakest: HashMap::new(),
            windows: HashMap::new(),
        }
    }
}

/// Where a record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Snapshot,
    Log,
}

impl Restoring<'_> {
    /// One item of a snapshot.
    pub fn item(&mut self, record: LogRecord) {
        self.apply(record, Source::Snapshot);
    }

    /// The snapshot is complete, and was so when the store was at `end`.
    pub fn snapshot_end(&mut self, end: Revision) {
        self.newest = self.newest.max(end.0);
    }

    /// One record of the log, in its order.
    pub fn record(&mut self, record: LogRecord) {
        self.apply(record, Source::Log);
    }

    fn apply(&mut self, record: LogRecord, source: Source) {
        let LogRecord {
            revision,
            durability,
            change,
        } = record;
        self.newest = self.newest.max(revision.0);
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
                let Some(with_history) = self.placed(&collection, revision.0, source) else {
                    return;
                };
                let blob = new_blob(&value, &tags);
                let (created, tag_count) = (create_revision.0, tags.len());
                let new = Version::put(blob, tag_count, created, revision.0, version, lease.0);
                collection.replay(&key, new, sub, with_history);
            }
            Change::Delete {
                collection,
                key,
                sub,
            } => {
                let collection = self.collection(&collection, durability);
                let Some(with_history) = self.placed(&collection, revision.0, source) else {
                    return;
                };
                collection.replay(&key, Version::deleted(revision.0), sub, with_history);
            }
            Change::Window {
                collection,
                list_floor,
                watch_floor,
            } => {
                let collection = self.collection(&collection, durability);
                self.windows.insert(collection.identity.id, revision.0);
                let mut state = collection.lock();
                state.set_window(list_floor.0, watch_floor.0);
            }
            Change::Forget { collection } => {
                let collection = self.collection(&collection, durability);
                collection.forget_all(revision.0);
                self.windows.remove(&collection.identity.id);
                self.weakest.remove(&collection.identity.id);
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

    /// Whether a record of this place leaves history; none when the snapshot has told it already.
    fn placed(&self, collection: &Collection, revision: i64, source: Source) -> Option<bool> {
        let window = self.windows.get(&collection.identity.id);
        match (source, window) {
            (Source::Snapshot, window) => Some(window.is_some()),
            (Source::Log, Some(through)) if revision <= *through => None,
            (Source::Log, _) => Some(true),
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
        // After a clean end every collection there was is known; at 1 no revision has been given out yet.
        if base > 1 && !clean {
            self.store.set_floor(base);
        }
        for collection in self.store.collections() {
            let id = collection.identity.id;
            let keeps_history = match self.weakest.get(&id) {
                Some(Durability::Fsync) => true,
                Some(Durability::Buffered) => clean,
                Some(Durability::Memory) => clean && self.windows.contains_key(&id),
                None => false,
            };
            collection.finish_restore(if keeps_history { 0 } else { base });
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
        // A record out of order, or from before all that is known (of a collection that is logged since later), has
        // no place in history.
        let last = state
            .history
            .end()
            .checked_sub(1)
            .and_then(|last| state.history.get(last));
        let with_history = with_history
            && revision > state.watch_floor
            && last.is_none_or(|last| (last.revision, last.sub()) < (revision, sub));
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
