//! The store: collections by prefix, leases, watermarks, and the small steps of housekeeping.

use crate::collection::Collection;
use crate::config::{CollectionConfig, StoreConfig};
use crate::errors::{Compacted, ReadError, StoreError};
use crate::lease::{Granted, TimeToLive};
use crate::limits::COLLECTIONS_MAX;
use crate::shared::{Shared, Wakes, lock};
use crate::state::State;
use bytes::Bytes;
use kv::{Change, Durability, KeyRange, LeaseId, LogRecord, Revision};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

/// Leases ended by one step.
const LEASES_PER_STEP: usize = 16;

/// All collections, one revision counter.
#[derive(Debug)]
pub struct Store {
    pub(crate) config: StoreConfig,
    pub(crate) shared: Arc<Shared>,
    collections: RwLock<Directory>,
    compacted: AtomicI64,
    /// How many collections there are.
    made: AtomicUsize,
    /// Who waits for another one.
    expecting: Mutex<Vec<Waker>>,
}

#[derive(Debug, Default)]
struct Directory {
    by_prefix: BTreeMap<Bytes, Arc<Collection>>,
    by_id: Vec<Arc<Collection>>,
    /// Where the history of a collection that is made later begins: something of it may have been
    /// seen and lost before a restart.
    floor: i64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Leases that ended.
    pub leases: usize,
    /// History entries given up.
    pub entries: usize,
}

/// The prefix of the collection a key belongs to; empty for the default collection.
///
/// `/registry/pods/default/web` → `/registry/pods/`;
/// `/registry/apps.example.com/widgets/a/b` → `/registry/apps.example.com/widgets/`.
#[must_use]
pub fn collection_prefix(key: &[u8]) -> &[u8] {
    const ROOT: &[u8] = b"/registry/";
    let slash_after = |from: usize| {
        let rest = key.get(from..)?;
        rest.iter()
            .position(|byte| *byte == b'/')
            .map(|at| from + at)
    };
    let found = (|| {
        if !key.starts_with(ROOT) {
            return None;
        }
        let first = slash_after(ROOT.len()).filter(|end| *end > ROOT.len())?;
        let has_dot = key.get(ROOT.len()..first)?.contains(&b'.');
        let end = if has_dot {
            slash_after(first + 1).filter(|end| *end > first + 1)?
        } else {
            first
        };
        key.get(..=end)
    })();
    found.unwrap_or_default()
}

impl Store {
    /// An empty store at revision 1.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        Store {
            config,
            shared: Arc::new(Shared::new(config.log, config.seed)),
            collections: RwLock::default(),
            compacted: AtomicI64::new(0),
            made: AtomicUsize::new(0),
            expecting: Mutex::default(),
        }
    }

    /// The collection of a prefix, made or reconfigured to `config`. Keys of transactions are
    /// routed by [`collection_prefix`]; a collection with another prefix is reached only by handle.
    pub fn collection(&self, prefix: &str, config: CollectionConfig) -> Arc<Collection> {
        let (collection, is_new) = self.open(prefix.as_bytes(), config, usize::MAX);
        if !is_new {
            collection.configure(config);
        }
        collection
    }

    /// The collection a key of a transaction belongs to.
    pub(crate) fn route(&self, key: &[u8]) -> Arc<Collection> {
        self.open(
            collection_prefix(key),
            self.config.collections,
            COLLECTIONS_MAX,
        )
        .0
    }

    /// The collection with exactly this prefix, if there is one.
    #[must_use]
    pub fn existing(&self, prefix: &[u8]) -> Option<Arc<Collection>> {
        self.read_directory().by_prefix.get(prefix).cloned()
    }

    /// All collections, in the order of their prefixes.
    #[must_use]
    pub fn collections(&self) -> Vec<Arc<Collection>> {
        self.read_directory().by_prefix.values().cloned().collect()
    }

    fn read_directory(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.collections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(
        &self,
        prefix: &[u8],
        config: CollectionConfig,
        max: usize,
    ) -> (Arc<Collection>, bool) {
        if let Some(collection) = self.read_directory().by_prefix.get(prefix) {
            return (collection.clone(), false);
        }
        let mut directory = self
            .collections
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let prefix = if directory.by_id.len() < max {
            prefix
        } else {
            &[]
        };
        if let Some(collection) = directory.by_prefix.get(prefix) {
            return (collection.clone(), false);
        }
        let prefix = Bytes::copy_from_slice(prefix);
        let id = directory.by_id.len() as u32;
        let floor = match config.durability {
            // Each that ever was is in the log, or is told there as one whose contents are not.
            Durability::Fsync => 0,
            Durability::Buffered | Durability::Memory => directory.floor,
        };
        let compacted = self.compacted.load(Ordering::Acquire);
        let floors = (floor.max(compacted), floor.max(compacted - 1));
        let shared = self.shared.clone();
        let collection = Arc::new(Collection::new(id, prefix.clone(), config, floors, shared));
        directory.by_id.push(collection.clone());
        directory.by_prefix.insert(prefix, collection.clone());
        self.made.store(directory.by_id.len(), Ordering::SeqCst);
        drop(directory);
        if !config.durability.is_logged() {
            let mut wakes = Wakes::default();
            collection.log_forget(&mut wakes);
            wakes.wake();
        }
        std::mem::take(&mut *lock(&self.expecting))
            .into_iter()
            .for_each(Waker::wake);
        (collection, true)
    }

    /// For recovery: what is not fully logged and not known yet may have been lost up to here.
    pub(crate) fn set_floor(&self, floor: i64) {
        let mut directory = self
            .collections
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        directory.floor = directory.floor.max(floor);
    }

    /// The collections a range may have keys in, in the order of their locks.
    pub(crate) fn touched(&self, range: &KeyRange) -> Vec<Arc<Collection>> {
        let directory = self.read_directory();
        if range.end == kv::End::One {
            let prefix = collection_prefix(&range.start);
            let found = directory
                .by_prefix
                .get(prefix)
                .or_else(|| directory.by_prefix.get(&b""[..]));
            return found.cloned().into_iter().collect();
        }
        let mut found: Vec<_> = directory
            .by_prefix
            .values()
            .filter(|collection| range.touches_prefix(collection.prefix()))
            .filter(|collection| is_routed(collection.prefix()))
            .cloned()
            .collect();
        found.sort_by_key(|collection| collection.identity.id);
        found
    }

    /// How many collections there are.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Leaves a waker for when there are more than `seen` collections.
    pub(crate) fn expect_more(&self, seen: usize, waker: &Waker) {
        let mut expecting = lock(&self.expecting);
        if !expecting.iter().any(|other| other.will_wake(waker)) {
            expecting.push(waker.clone());
        }
        drop(expecting);
        if self.made() > seen {
            waker.wake_by_ref();
        }
    }

    /// The collections made since there were `seen`, and how many there are now.
    pub(crate) fn made_since(&self, seen: usize) -> (Vec<Arc<Collection>>, usize) {
        let directory = self.read_directory();
        let new = directory.by_id.iter().skip(seen);
        let routed = new.filter(|collection| is_routed(collection.prefix()));
        (routed.cloned().collect(), directory.by_id.len())
    }

    fn by_id(&self, id: u32) -> Option<Arc<Collection>> {
        self.read_directory().by_id.get(id as usize).cloned()
    }

    /// The newest revision.
    #[must_use]
    pub fn applied(&self) -> Revision {
        Revision(self.shared.revision())
    }

    /// Bytes of all keys and values, history and overheads included. One atomic read.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.usage.get()
    }

    /// Everything logged up to here is on the medium.
    #[must_use]
    pub fn durable(&self) -> Revision {
        Revision(self.shared.durable())
    }

    /// The log shell: everything logged up to here has reached the operating system.
    pub fn set_written(&self, revision: Revision) {
        self.shared.set_written(revision.0);
        self.announce();
    }

    /// The log shell: everything logged up to here, and everything drained so far, is on the medium.
    pub fn set_durable(&self, revision: Revision) {
        let mut wakes = Wakes::default();
        self.shared.set_durable(revision.0, &mut wakes);
        wakes.wake();
        self.announce();
    }

    /// How much was queued for the log so far: what takes no revision of its own (a lease) is on the
    /// medium once [`Store::poll_logged`] says so of this position.
    #[must_use]
    pub fn log_position(&self) -> u64 {
        self.shared.queued()
    }

    /// Ready once everything queued up to `position` is on the medium.
    pub fn poll_logged(&self, position: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.wait_kept(position, cx.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn announce(&self) {
        for collection in self.collections() {
            collection.announce_all();
        }
    }

    /// The log shell: revisions up to here are on record as taken, and may be.
    pub fn reserve(&self, revision: Revision) {
        self.shared.reserve(revision.0);
    }

    /// The log shell: the log cannot be written any more. What it would have to keep is refused
    /// from now on, and what it has not kept never becomes visible.
    pub fn fail_log(&self, reason: impl Into<String>) {
        self.shared.fail(reason.into());
    }

    /// The log shell: whether its medium is full. What grows is refused while it is; deletes, ends of leases,
    /// compactions and settings go on.
    pub fn set_full(&self, is_full: bool) {
        self.shared.set_full(is_full);
    }

    /// Whether the log's medium is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// Why the log stopped, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure().map(str::to_owned)
    }

    /// Moves what the log must keep to `out`, in revision order.
    pub fn drain_log(&self, out: &mut Vec<LogRecord>) {
        self.shared.drain_log(out);
    }

    /// Who is woken when the log queue is no longer empty.
    pub fn set_log_waker(&self, waker: Waker) {
        self.shared.set_log_waker(waker);
    }

    /// The oldest revision that may be read everywhere, as far as compaction is concerned.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    /// Gives up history before `revision`. The answer is immediate, the entries go in small steps.
    pub fn compact(&self, revision: Revision) -> Result<(), ReadError> {
        let current = self.applied();
        if revision > current {
            return Err(ReadError::Future {
                requested: revision,
                current,
            });
        }
        let before = self.compacted.fetch_max(revision.0, Ordering::AcqRel);
        if before >= revision.0 {
            return Err(Compacted {
                requested: revision,
                oldest: Revision(before),
            }
            .into());
        }
        for collection in self.collections() {
            collection.lock().compact(revision.0);
        }
        let mut wakes = Wakes::default();
        self.shared.log_other(
            Durability::Buffered,
            Change::Compact { revision },
            &mut wakes,
        );
        wakes.wake();
        Ok(())
    }

    pub(crate) fn restore_compacted(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
        for collection in self.collections() {
            collection.lock().compact(revision);
        }
    }

    /// Housekeeping: ends leases that are due and trims history, about `budget` entries a
    /// collection. Call it a few times a second, more often while it still finds work.
    pub fn step(&self, now_micros: i64, budget: usize) -> Stepped {
        let mut stepped = Stepped::default();
        for id in self.shared.leases.due(now_micros, LEASES_PER_STEP) {
            if self.end_lease(id, Some(now_micros)).is_ok() {
                stepped.leases += 1;
            }
        }
        for collection in self.collections() {
            stepped.entries += collection.step(now_micros, budget);
        }
        stepped
    }

    /// Grants a lease; with no id, the store names it.
    pub fn lease_grant(
        &self,
        now_micros: i64,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> Result<Granted, StoreError> {
        if let Some(reason) = self.failure() {
            return Err(StoreError::LogStopped(reason));
        }
        self.shared.check_room(true)?;
        let mut wakes = Wakes::default();
        let granted =
            self.shared
                .leases
                .grant(now_micros, id, ttl_seconds, |id, ttl, deadline_micros| {
                    let change = Change::Lease {
                        id,
                        ttl_seconds: ttl,
                        deadline_micros,
                    };
                    self.shared.log_other(Durability::Fsync, change, &mut wakes);
                });
        wakes.wake();
        granted
    }

    /// Moves a lease's deadline to its whole time to live from now.
    pub fn lease_keep_alive(&self, now_micros: i64, id: LeaseId) -> Result<Granted, StoreError> {
        let mut wakes = Wakes::default();
        let kept = self
            .shared
            .leases
            .keep_alive(now_micros, id, |ttl_seconds, deadline_micros| {
                let change = Change::Lease {
                    id,
                    ttl_seconds,
                    deadline_micros,
                };
                self.shared
                    .log_other(Durability::Buffered, change, &mut wakes);
            });
        wakes.wake();
        kept
    }

    /// What is left of a lease, and with `with_keys`, what hangs on it (whole keys).
    #[must_use]
    pub fn lease_time_to_live(
        &self,
        now_micros: i64,
        id: LeaseId,
        with_keys: bool,
    ) -> Option<(TimeToLive, Vec<Bytes>)> {
        let left = self.shared.leases.time_to_live(now_micros, id, with_keys)?;
        let mut keys: Vec<Bytes> = left
            .keys
            .iter()
            .filter_map(|(id, key)| Some(whole_key(self.by_id(*id)?.prefix(), key)))
            .collect();
        keys.sort();
        Some((left, keys))
    }

    /// All leases.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseId> {
        self.shared.leases.ids()
    }

    /// Ends a lease and deletes what hangs on it, at one revision. Answers that revision, or the
    /// newest one when nothing hung on it.
    pub fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        self.end_lease(id, None)
    }

    fn end_lease(&self, id: LeaseId, due: Option<i64>) -> Result<Revision, StoreError> {
        let keys = self
            .shared
            .leases
            .begin_end(id, due)
            .ok_or(StoreError::LeaseNotFound(id))?;
        let mut by_collection: BTreeMap<u32, Vec<Arc<[u8]>>> = BTreeMap::new();
        for (collection, key) in keys {
            by_collection.entry(collection).or_default().push(key);
        }
        let mut wakes = Wakes::default();
        let result = self.delete_of_lease(id, by_collection, &mut wakes);
        match &result {
            Ok(_) => self.shared.leases.remove(id, || {
                self.shared
                    .log_other(Durability::Fsync, Change::Revoke { id }, &mut wakes);
            }),
            Err(_) => self.shared.leases.cancel_end(id),
        }
        wakes.wake();
        result
    }

    fn delete_of_lease(
        &self,
        id: LeaseId,
        by_collection: BTreeMap<u32, Vec<Arc<[u8]>>>,
        wakes: &mut Wakes,
    ) -> Result<Revision, StoreError> {
        let handles: Vec<_> = by_collection
            .into_iter()
            .filter_map(|(number, keys)| Some((self.by_id(number)?, keys)))
            .collect();
        let mut locked: Vec<(&Collection, MutexGuard<'_, State>, Vec<u32>)> = Vec::new();
        for (collection, keys) in &handles {
            let state = collection.lock();
            let hangs = |key: &Arc<[u8]>| {
                let (number, slot) = state.find_live(key)?;
                (slot.latest.lease == id.0).then_some(number)
            };
            let slots: Vec<u32> = keys.iter().filter_map(hangs).collect();
            locked.push((collection, state, slots));
        }
        if locked.iter().all(|(_, _, slots)| slots.is_empty()) {
            return Ok(self.applied());
        }
        let is_logged = |state: &State| state.config.durability.is_logged();
        let logged = locked.iter().any(|(_, state, _)| is_logged(state));
        let mut ticket = self.shared.ticket(logged, false)?;
        let revision = ticket.revision();
        // In the order of the whole keys: the order a watch of them all shows.
        let mut order: Vec<(Bytes, usize, u32)> = Vec::new();
        for (index, (collection, state, slots)) in locked.iter().enumerate() {
            let whole = |slot: &u32| whole_key(collection.prefix(), state.records.key(*slot));
            order.extend(slots.iter().map(|slot| (whole(slot), index, *slot)));
        }
        order.sort();
        for (_, index, slot) in order {
            if let Some((collection, state, _)) = locked.get_mut(index) {
                state.delete(&collection.identity, &mut ticket, slot);
            }
        }
        ticket.finish(wakes);
        for (collection, state, _) in &mut locked {
            collection.announce_now(state, wakes);
        }
        Ok(Revision(revision))
    }
}

/// Whether transactions can reach the collection of this prefix.
fn is_routed(prefix: &[u8]) -> bool {
    prefix.is_empty() || collection_prefix(prefix) == prefix
}

pub(crate) fn whole_key(prefix: &[u8], key: &[u8]) -> Bytes {
    let mut whole = Vec::with_capacity(prefix.len() + key.len());
    whole.extend_from_slice(prefix);
    whole.extend_from_slice(key);
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_routed_by_resource() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"/registry/pods/default/web", b"/registry/pods/"),
            (b"/registry/pods/", b"/registry/pods/"),
            (
                b"/registry/services/specs/default/web",
                b"/registry/services/",
            ),
            (
                b"/registry/example.com/widgets/a/b",
                b"/registry/example.com/widgets/",
            ),
            (b"/registry/example.com/widgets", b""),
            (b"/registry/health", b""),
            (b"/registry//x", b""),
            (b"compact_rev_key", b""),
            (b"/other/pods/a", b""),
        ];
        for (key, prefix) in cases {
            assert_eq!(
                collection_prefix(key),
                prefix,
                "{}",
                String::from_utf8_lossy(key)
            );
        }
    }
}
