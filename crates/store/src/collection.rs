//! One collection: a lock around its state, and what callers may ask of it.
//!
//! Reads see *applied* state. Whoever answers from it first waits until the revisions the answer
//! rests on are visible ([`Collection::poll_visible`]).

use crate::blob::{Version, key_bytes, new_blob};
use crate::config::CollectionConfig;
use crate::errors::{Compacted, ReadError, StoreError};
use crate::limits::{
    ENTRY_OVERHEAD_BYTES, FACETS_MAX, KEY_BYTES_MAX, KEY_OVERHEAD_BYTES, PAGE_RECORDS_MAX,
    TAGS_MAX, TRIM_ENTRIES_MAX, VALUE_BYTES_MAX,
};
use crate::reading::{Reading, Standing};
use crate::records::Slot;
use crate::shared::{Pending, PendingChange, Shared, Wakes, lock};
use crate::state::{Advance, Identity, Put, State};
use crate::watch::{Interest, WatchItem, Watcher};
use bytes::Bytes;
use kv::{Durability, LeaseId, Revision};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// The revision that made this version.
    pub mod_revision: Revision,
    /// 1 for the creation, one more with every put.
    pub version: i64,
    /// The lease it hangs on.
    pub lease: LeaseId,
}

impl Record {
    pub(crate) fn of(version: &Version) -> Self {
        Record {
            value: version.value(),
            create_revision: Revision(version.create),
            mod_revision: Revision(version.modified),
            version: version.version(),
            lease: LeaseId(version.lease),
        }
    }
}

/// One version of a key, lent by the store while it is looked at.
#[derive(Debug)]
pub struct Seen<'a> {
    key: &'a Arc<[u8]>,
    version: &'a Version,
}

impl Seen<'_> {
    /// The key, without the collection's prefix.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.version.value_slice()
    }

    /// The revision that made this version.
    #[must_use]
    pub fn mod_revision(&self) -> Revision {
        Revision(self.version.modified)
    }

    /// Key and version to keep: the bytes are shared with the store.
    #[must_use]
    pub fn keep(&self) -> (Bytes, Record) {
        (key_bytes(self.key), Record::of(self.version))
    }
}

/// What must be true of a key before it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// It does not exist.
    Absent,
    /// It is at this revision; 0 for absent.
    ModRevision(Revision),
    /// Nothing.
    Any,
}

/// What is to be done to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Give it this value. The store copies the bytes, once, so that no larger buffer stays pinned.
    Put {
        /// The value.
        value: Bytes,
        /// The lease to hang it on; none takes it off the one it had.
        lease: LeaseId,
        /// What [`Interest::Tag`] finds it by.
        tags: &'a [u64],
    },
    /// Remove it.
    Delete,
}

/// A change was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// At this revision: wait until it is visible before telling anyone.
    pub revision: Revision,
    /// The version before.
    pub prev: Option<Record>,
}

/// A change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The precondition does not hold, or there was nothing to delete. Before the answer, wait
    /// until `seen` is visible: `current` may be a write that does not count yet.
    #[error("the key is not as expected")]
    Lost {
        /// What there is instead.
        current: Option<Record>,
        /// The revision this rests on.
        seen: Revision,
    },
    /// The store says no.
    #[error(transparent)]
    Refused(#[from] StoreError),
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More {
    /// The key to start the next page with; none at the end.
    pub next: Option<Bytes>,
}

/// What a collection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionStats {
    /// Keys that exist.
    pub keys: usize,
    /// Bytes of keys, values and their overheads.
    pub live_bytes: u64,
    /// Kept revisions.
    pub history_entries: u64,
    /// Their bytes with overheads.
    pub history_bytes: u64,
    /// Open watchers.
    pub watchers: usize,
}

/// One kind's objects: own lock, own budget, own history window, own durability.
#[derive(Debug)]
pub struct Collection {
    pub(crate) identity: Identity,
    pub(crate) shared: Arc<Shared>,
    state: Mutex<State>,
    /// Something waits for a watermark.
    unannounced: AtomicBool,
}

impl Collection {
    pub(crate) fn new(
        id: u32,
        prefix: Bytes,
        config: CollectionConfig,
        (list_floor, watch_floor): (i64, i64),
        shared: Arc<Shared>,
    ) -> Self {
        let usage = shared.usage.clone();
        let state = State::new(config, list_floor, watch_floor, usage);
        Collection {
            identity: Identity { id, prefix },
            shared,
            state: Mutex::new(state),
            unannounced: AtomicBool::new(false),
        }
    }

    /// The prefix that all its keys are stored without.
    #[must_use]
    pub fn prefix(&self) -> &Bytes {
        &self.identity.prefix
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How it is configured.
    #[must_use]
    pub fn config(&self) -> CollectionConfig {
        self.lock().config
    }

    /// How many keys exist.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().live
    }

    /// Whether no key exists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds.
    #[must_use]
    pub fn stats(&self) -> CollectionStats {
        let state = self.lock();
        CollectionStats {
            keys: state.live,
            live_bytes: state.live_bytes,
            history_entries: state.history.end() - state.history.start(),
            history_bytes: state.history.bytes(),
            watchers: state.watchers.len(),
        }
    }

    /// The latest version of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Record> {
        let version = {
            let state = self.lock();
            state.find_live(key)?.1.latest.clone()
        };
        Some(Record::of(&version))
    }

    /// The same, lent: `look` sees revision and value of the latest version, outside the lock and without a copy.
    pub fn inspect<T>(&self, key: &[u8], look: impl FnOnce(Revision, &[u8]) -> T) -> Option<T> {
        let version = {
            let state = self.lock();
            state.find_live(key)?.1.latest.clone()
        };
        Some(look(Revision(version.modified), version.value_slice()))
    }

    /// The revision the store is at, with every write of this collection up to it applied: fix it,
    /// wait until it is visible, then list at it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let _state = self.lock();
        Revision(self.shared.revision())
    }

    /// How often something of this collection has changed: who sees the same number twice knows that nothing did in
    /// between, nor came and went. Of this process only.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().history.end()
    }

    /// Says how values are read. Looks at all there are: to be called before others write.
    pub fn read_with(&self, reading: Reading) {
        self.lock().read_with(reading);
    }

    /// The same as [`Self::revision`], with how much there is at that revision.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let state = self.lock();
        Standing {
            revision: Revision(self.shared.revision()),
            keys: state.live,
            weight: state.weight,
        }
    }

    /// Changes one key, if the precondition holds.
    pub fn write(
        &self,
        key: &[u8],
        precondition: Precondition,
        change: Change<'_>,
    ) -> Result<Written, WriteError> {
        let mut wakes = Wakes::default();
        let result = match change {
            Change::Put { value, lease, tags } => {
                self.put(key, precondition, &value, lease.0, tags, &mut wakes)
            }
            Change::Delete => self.delete(key, precondition, &mut wakes),
        };
        wakes.wake();
        result.map(|(revision, prev)| Written {
            revision: Revision(revision),
            prev: prev.exists().then(|| Record::of(&prev)),
        })
    }

    /// Replaces the value of a key that is at this revision; lease and tags, if it had any, are taken off. What
    /// [`Self::write`] does, for callers who have no use for the version before.
    pub fn replace(&self, key: &[u8], at: Revision, value: &[u8]) -> Result<Revision, WriteError> {
        let mut wakes = Wakes::default();
        let result = self.put(
            key,
            Precondition::ModRevision(at),
            value,
            0,
            &[],
            &mut wakes,
        );
        wakes.wake();
        result.map(|(revision, _)| Revision(revision))
    }

    fn put(
        &self,
        key: &[u8],
        precondition: Precondition,
        value: &[u8],
        lease: i64,
        tags: &[u64],
        wakes: &mut Wakes,
    ) -> Result<(i64, Version), WriteError> {
        check_sizes(key, value, tags)?;
        // Copied before the lock is taken.
        let blob = new_blob(value, tags);
        let mut state = self.lock();
        let number = state.records.find(key);
        let known = number.and_then(|number| state.records.get(number));
        self.require(precondition, known.filter(|slot| slot.latest.exists()))?;
        let old = known.map(|slot| slot.latest.clone()).unwrap_or_default();
        let key: Arc<[u8]> = match known {
            Some(slot) => slot.key.clone(),
            None => Arc::from(key),
        };
        let growth = growth(&old, key.len(), blob.len() as u64);
        self.check_budget(&state, growth)?;
        let attached = lease != 0 && self.shared.leases.attach(lease, self.identity.id, &key)?;
        let logged = state.config.durability.is_logged();
        let mut ticket = match self.shared.ticket(logged, true) {
            Ok(ticket) => ticket,
            Err(refused) => {
                if attached {
                    self.shared.leases.detach(lease, self.identity.id, &key);
                }
                return Err(refused.into());
            }
        };
        let revision = ticket.revision();
        let put = Put {
            number,
            key: &key,
            blob,
            tag_count: tags.len(),
            lease,
        };
        state.put(&self.identity, &mut ticket, put);
        ticket.finish(wakes);
        if old.lease != 0 && old.lease != lease {
            self.shared.leases.detach(old.lease, self.identity.id, &key);
        }
        self.announce_now(&mut state, wakes);
        Ok((revision, old))
    }

    fn delete(
        &self,
        key: &[u8],
        precondition: Precondition,
        wakes: &mut Wakes,
    ) -> Result<(i64, Version), WriteError> {
        let mut state = self.lock();
        let found = state.find_live(key);
        self.require(precondition, found.map(|(_, slot)| slot))?;
        let Some((number, slot)) = found else {
            return Err(self.lost(None));
        };
        let (key, old) = (slot.key.clone(), slot.latest.clone());
        let logged = state.config.durability.is_logged();
        let mut ticket = self.shared.ticket(logged, false)?;
        let revision = ticket.revision();
        state.delete(&self.identity, &mut ticket, number);
        ticket.finish(wakes);
        if old.lease != 0 {
            self.shared.leases.detach(old.lease, self.identity.id, &key);
        }
        self.announce_now(&mut state, wakes);
        Ok((revision, old))
    }

    fn require(&self, precondition: Precondition, found: Option<&Slot>) -> Result<(), WriteError> {
        let modified = found.map_or(0, |slot| slot.latest.modified);
        let holds = match precondition {
            Precondition::Any => true,
            Precondition::Absent => modified == 0,
            Precondition::ModRevision(expected) => expected.0 == modified,
        };
        if holds { Ok(()) } else { Err(self.lost(found)) }
    }

    fn lost(&self, found: Option<&Slot>) -> WriteError {
        WriteError::Lost {
            current: found.map(|slot| Record::of(&slot.latest)),
            seen: Revision(self.shared.revision()),
        }
    }

    /// Refuses what would grow the collection beyond its budget.
    pub(crate) fn check_budget(&self, state: &State, growth: Growth) -> Result<(), StoreError> {
        let config = &state.config;
        let kept = if config.keep_until_compacted {
            state.history.bytes()
        } else {
            0
        };
        let grows = if config.keep_until_compacted {
            growth.total > 0
        } else {
            growth.live > 0
        };
        let more = if config.keep_until_compacted {
            growth.total
        } else {
            growth.live
        };
        let used_bytes = state.live_bytes + kept;
        if grows && used_bytes.saturating_add_signed(more) > config.bytes_max {
            return Err(StoreError::BudgetSpent {
                collection: String::from_utf8_lossy(&self.identity.prefix).into_owned(),
                used_bytes,
                max_bytes: config.bytes_max,
            });
        }
        Ok(())
    }

    /// After a write, under its lock: tells the watchers now if the class allows it.
    pub(crate) fn announce_now(&self, state: &mut State, wakes: &mut Wakes) {
        while self.announce_some(state, wakes) {}
    }

    /// The flag goes up before the watermark is read: a watermark that moves meanwhile either is
    /// seen here, or its mover sees the flag.
    fn announce_some(&self, state: &mut State, wakes: &mut Wakes) -> bool {
        self.unannounced.store(true, Ordering::SeqCst);
        let more = state.announce(&self.shared, wakes);
        if state.announced == state.history.end() {
            self.unannounced.store(false, Ordering::SeqCst);
        }
        more
    }

    /// A watermark moved: tells the watchers what it made visible, in bounded holds of the lock.
    pub(crate) fn announce_all(&self) {
        let mut more = self.unannounced.load(Ordering::SeqCst);
        while more {
            let mut wakes = Wakes::default();
            more = self.announce_some(&mut self.lock(), &mut wakes);
            wakes.wake();
        }
    }

    /// Appends up to `limit` keys of `[start, end)` with their versions as of `at`, in key order.
    /// Pages are read in short holds of the lock: writers go on meanwhile.
    pub fn list(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        at: Revision,
        limit: usize,
        out: &mut Vec<(Bytes, Record)>,
    ) -> Result<More, ReadError> {
        let wanted = out.len().saturating_add(limit);
        let mut from: Arc<[u8]> = Arc::from(start);
        let mut page: Vec<(Arc<[u8]>, Version)> = Vec::new();
        loop {
            let mut is_full = false;
            let next = {
                let state = self.lock();
                self.check_readable(&state, at)?;
                state.page(&from, end, at.0, |key, version| {
                    is_full = out.len() + page.len() >= wanted;
                    if !is_full {
                        page.push((key.clone(), version.clone()));
                    }
                    !is_full
                })
            };
            let rows = page.drain(..);
            out.extend(rows.map(|(key, version)| (key_bytes(&key), Record::of(&version))));
            match next {
                None => return Ok(More { next: None }),
                // Only a key that exists at `at` says so: there is never an empty last page.
                Some(next) if is_full => {
                    return Ok(More {
                        next: Some(key_bytes(&next)),
                    });
                }
                Some(next) => from = next,
            }
        }
    }

    /// Shows some keys of `[start, end)` with their versions as of `at`, in key order, until `look` says no: what it said no
    /// to comes first the next time. The lock is held once, for at most `records_max` records and never more than
    /// [`PAGE_RECORDS_MAX`], and not while `look` looks. Nothing shown and more to come happens, where keys were deleted.
    pub fn visit(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        at: Revision,
        records_max: usize,
        mut look: impl FnMut(&Seen<'_>) -> bool,
    ) -> Result<More, ReadError> {
        let records_max = records_max.clamp(1, PAGE_RECORDS_MAX);
        let mut page: Vec<(Arc<[u8]>, Version)> = Vec::with_capacity(records_max);
        let next = {
            let state = self.lock();
            self.check_readable(&state, at)?;
            state.page(start, end, at.0, |key, version| {
                let has_room = page.len() < records_max;
                if has_room {
                    page.push((key.clone(), version.clone()));
                }
                has_room
            })
        };
        for (key, version) in &page {
            if !look(&Seen { key, version }) {
                let next = Some(key_bytes(key));
                return Ok(More { next });
            }
        }
        Ok(More {
            next: next.as_ref().map(key_bytes),
        })
    }

    /// The same as [`Self::count`], unless more than `changes_max` changes since would have to be looked at.
    pub fn count_if_near(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        at: Revision,
        changes_max: u64,
    ) -> Result<Option<usize>, ReadError> {
        let state = self.lock();
        self.check_readable(&state, at)?;
        let is_near = state.entries_after(at.0) <= changes_max;
        Ok(is_near.then(|| state.count_at(start, end, at.0)))
    }

    /// How many keys of `[start, end)` existed at `at`.
    pub fn count(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        at: Revision,
    ) -> Result<usize, ReadError> {
        let state = self.lock();
        self.check_readable(&state, at)?;
        Ok(state.count_at(start, end, at.0))
    }

    pub(crate) fn check_readable(&self, state: &State, at: Revision) -> Result<(), ReadError> {
        if at.0 < state.list_floor {
            let oldest = Revision(state.list_floor);
            return Err(Compacted {
                requested: at,
                oldest,
            }
            .into());
        }
        let current = Revision(self.shared.revision());
        if at > current {
            return Err(ReadError::Future {
                requested: at,
                current,
            });
        }
        Ok(())
    }

    /// Opens a watch on the events with a revision greater than `from`. Facets are an index and no more: where values are
    /// not read, or more than [`FACETS_MAX`] are asked for, events without them come, too.
    pub fn watch(
        self: &Arc<Self>,
        from: Revision,
        interest: Interest,
    ) -> Result<Watcher, OpenError> {
        let mut state = self.lock();
        if from.0 < state.watch_floor {
            let oldest = Revision(state.watch_floor);
            return Err(Compacted {
                requested: from,
                oldest,
            }
            .into());
        }
        let interest = match interest {
            Interest::Facet(_) | Interest::AnyFacet(_) if !state.knows_facets() => Interest::All,
            // Nobody is found by nothing, and by so much everybody may be.
            Interest::AnyFacet(facets) if facets.len() > FACETS_MAX || facets.is_empty() => {
                Interest::All
            }
            interest => interest,
        };
        let cursor = state.history.first_after(from.0).min(state.announced);
        let seat = state.watchers.open(interest, cursor, from.0)?;
        drop(state);
        Ok(Watcher::new(self.clone(), seat))
    }

    pub(crate) fn poll_watcher(
        &self,
        seat: u32,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<WatchItem>,
    ) -> Poll<Result<Revision, Compacted>> {
        loop {
            let advance = {
                let mut state = self.lock();
                state.advance(&self.shared, seat, Some(cx.waker()), max.max(1), out)
            };
            match advance {
                Advance::Idle => return Poll::Pending,
                Advance::Through(revision) => return Poll::Ready(Ok(Revision(revision))),
                Advance::Compacted(compacted) => return Poll::Ready(Err(compacted)),
                Advance::Again => {}
            }
        }
    }

    pub(crate) fn watcher_progress(&self, seat: u32) -> Revision {
        let state = self.lock();
        let visible = state.visible(&self.shared);
        let behind = state.watchers.get(seat).filter(|seat| !seat.idle);
        let entry = behind.and_then(|seat| state.history.get(seat.cursor));
        Revision(entry.map_or(visible, |entry| visible.min(entry.revision - 1)))
    }

    pub(crate) fn leave_out_prev(&self, seat: u32) {
        if let Some(seat) = self.lock().watchers.get_mut(seat) {
            seat.is_brief = true;
        }
    }

    pub(crate) fn close_watcher(&self, seat: u32) {
        self.lock().watchers.close(seat);
    }

    /// Everything of this collection up to here is visible.
    #[must_use]
    pub fn visible(&self) -> Revision {
        Revision(self.lock().visible(&self.shared))
    }

    /// Ready once `revision` is visible. After the log has failed this may never come: answers
    /// have deadlines, and [`crate::Store::failure`] says why.
    pub fn poll_visible(&self, revision: Revision, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.wait_visible(&self.shared, revision.0, cx.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Trims in one short hold of the lock. Answers how many entries went.
    pub(crate) fn step(&self, now_micros: i64, budget: usize) -> usize {
        let mut state = self.lock();
        state.mark_time(now_micros);
        state.trim(budget.min(TRIM_ENTRIES_MAX))
    }

    /// Puts on record that what happened to this collection so far is not on record.
    pub(crate) fn log_forget(&self, wakes: &mut Wakes) {
        let collection = self.identity.prefix.clone();
        let forget = kv::Change::Forget { collection };
        self.shared.log_other(Durability::Fsync, forget, wakes);
    }

    /// Changes the configuration. A collection that is logged from now on puts all it has on record.
    pub(crate) fn configure(&self, config: CollectionConfig) {
        let mut state = self.lock();
        let was_logged = state.config.durability.is_logged();
        state.config = config;
        if was_logged == config.durability.is_logged() {
            return;
        }
        let mut wakes = Wakes::default();
        self.log_forget(&mut wakes);
        if was_logged {
            // What waited for the log no longer does.
            self.announce_now(&mut state, &mut wakes);
            drop(state);
            wakes.wake();
            return;
        }
        let mut from: Option<Arc<[u8]>> = Some(Arc::from(&[][..]));
        while let Some(start) = from {
            from = state.page(&start, None, i64::MAX, |key, version| {
                self.shared.log_again(Pending {
                    revision: version.modified,
                    durability: config.durability,
                    change: PendingChange::Key {
                        collection: self.identity.prefix.clone(),
                        key: key.clone(),
                        version: version.clone(),
                        sub: 0,
                    },
                });
                true
            });
        }
        drop(state);
        wakes.wake();
    }
}

/// Why a watch could not be opened. The client can act on each of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// History is gone: list again, then watch from the list's revision.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// The store says no.
    #[error(transparent)]
    Refused(#[from] StoreError),
}

/// What a put adds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    /// To the live bytes.
    pub(crate) live: i64,
    /// To live bytes and history together.
    pub(crate) total: i64,
}

pub(crate) fn growth(old: &Version, key_len: usize, new_len: u64) -> Growth {
    let new_len = new_len.cast_signed();
    let old_len = old.blob_len().cast_signed();
    let fixed = if old.exists() {
        0
    } else {
        (KEY_OVERHEAD_BYTES + key_len as u64).cast_signed()
    };
    Growth {
        live: fixed + new_len - old_len,
        total: fixed + new_len + ENTRY_OVERHEAD_BYTES.cast_signed(),
    }
}

pub(crate) fn check_sizes(key: &[u8], value: &[u8], tags: &[u64]) -> Result<(), StoreError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(StoreError::KeyTooLong {
            bytes: key.len(),
            max: KEY_BYTES_MAX,
        });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::ValueTooLong {
            bytes: value.len(),
            max: VALUE_BYTES_MAX,
        });
    }
    if tags.len() > TAGS_MAX {
        return Err(StoreError::TooManyTags {
            tags: tags.len(),
            max: TAGS_MAX,
        });
    }
    Ok(())
}
